"""The steps of every export: trace, inject, write, verify, and move the file to its place."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from exporters.graph.injection import inject
from exporters.graph.model import Array, add_metadata
from exporters.graph.serialization import atomic_path, write_directly
from exporters.graph.structure import Structure
from exporters.graph.verification import Check, ModelFunction, draw_samples, verify


@dataclass(frozen=True)
class Export:
    """A verified file, and the seconds of each step.

    `seconds` has "trace" (unless a structure was passed), "inject", "write" and "verify".
    `structure` can be saved and used for the same architecture with other weights.
    """

    path: Path
    opset: int
    seconds: dict[str, float]
    checks: tuple[Check, ...]
    structure: Structure


def export_graph(
    *,
    path: Path,
    structure: Structure | Callable[[], Structure],
    weights: Callable[[], Mapping[str, Array]],
    function: ModelFunction,
    tap_outputs: Sequence[str],
    metadata: Mapping[str, str],
    sample: Sequence[Array] | None,
) -> Export:
    """Export to `path`; the file gets that name after it is verified. Raises ExportError."""
    seconds: dict[str, float] = {}
    with atomic_path(path) as part:  # first, so that an unwritable path costs no tracing
        if callable(structure):
            with _timer(seconds, "trace"):
                structure = structure()
        with _timer(seconds, "inject"):
            model = inject(structure, weights(), outputs=tap_outputs)
        add_metadata(model.skeleton, {"onnx": version("onnx"), **metadata})
        with _timer(seconds, "write"):
            write_directly(model, part)
        with _timer(seconds, "verify"):
            inputs = sample if sample is not None else draw_samples(model.skeleton.graph.input)
            checks = verify(model, part, function, inputs)
    return Export(path, structure.opset, seconds, tuple(checks), structure)


@contextmanager
def _timer(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - start
