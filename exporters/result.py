"""What every export does after tracing: inject, write, verify, and only then put the file there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from exporters.onnx_graph import (
    Array,
    Structure,
    add_metadata,
    inject,
    staged,
    write_directly,
)
from exporters.verify import Check, Reference, samples, verify


@dataclass(frozen=True)
class Exported:
    """A finished, verified file, and what each step cost.

    `seconds` has "trace" (absent when a structure was given), "inject", "write" and "verify".
    `structure` can be saved and used for the same architecture with other weights.
    """

    path: Path
    opset: int
    seconds: dict[str, float]
    checks: tuple[Check, ...]
    structure: Structure


def finish(
    *,
    path: Path,
    structure: Structure | Callable[[], Structure],
    weights: Callable[[], Mapping[str, Array]],
    reference: Reference,
    tap_outputs: Sequence[str],
    metadata: Mapping[str, str],
    sample: Sequence[Array] | None,
) -> Exported:
    """Export to `path`; it appears there only once it is verified. Raises ExportError."""
    seconds: dict[str, float] = {}
    with staged(path) as part:  # first, so that an unwritable path costs no tracing
        if callable(structure):
            with _timed(seconds, "trace"):
                structure = structure()
        with _timed(seconds, "inject"):
            model = inject(structure, weights(), outputs=tap_outputs)
        add_metadata(model.skeleton, {"onnx": version("onnx"), **metadata})
        with _timed(seconds, "write"):
            write_directly(model, part)
        with _timed(seconds, "verify"):
            inputs = sample if sample is not None else samples(model.skeleton.graph.input)
            checks = verify(model, part, reference, inputs)
    return Exported(path, structure.opset, seconds, tuple(checks), structure)


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - start
