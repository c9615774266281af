"""The steps of every export: trace, inject, write, verify, and move the file to its place."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from exporters.errors import ExportError, first_few
from exporters.graph.framework_runs import ModelFunction, Reference
from exporters.graph.half_products import repair_half_products
from exporters.graph.injection import inject
from exporters.graph.mixed_precision import ROUNDOFF, MixedModel, convert_to_mixed
from exporters.graph.model import Array, add_metadata
from exporters.graph.output_checks import Check, Verification
from exporters.graph.ranges import measure_ranges
from exporters.graph.serialization import DATA_SUFFIX, atomic_path, write_directly
from exporters.graph.session_process import start_shared_process
from exporters.graph.structure import Structure
from exporters.graph.verification import verify

MakeReference = Callable[[float], Reference]
"""Returns the framework's side of a verification; the argument is the unit roundoff of a lower
precision that the file computes in, or 0."""

PRECISIONS = ("float32", "float16")

ScrambleWeights = Callable[[], tuple[Mapping[str, Array], ModelFunction]]
"""Returns the weights with other values (`scramble`), and the framework's model as a function with
those."""


@dataclass(frozen=True)
class Export:
    """A verified file, and the seconds of each step.

    `seconds` has "trace" (unless a structure was passed), "inject", "write" and "verify"; the file
    is written while the framework runs, so that "write" is a part of "verify".
    `structure` can be saved and used for the same architecture with other weights. `checks` are
    those on usual inputs, `other_checks` those of other sizes, more rows, extreme inputs and ties:
    of a large input the last two are the batch of N = 2.
    `notes` says what they leave open: a constant output, sizes that the model itself refuses.
    With `external_data` the weights are in a file beside it, whose name ends in `.data`.
    """

    path: Path
    opset: int
    seconds: dict[str, float]
    checks: tuple[Check, ...]
    structure: Structure
    notes: tuple[str, ...] = ()
    other_checks: tuple[Check, ...] = ()
    external_data: bool = False


def export_graph(
    *,
    path: Path,
    structure: Structure | Callable[[], Structure],
    weights: Callable[[], Mapping[str, Array]],
    tap_outputs: Sequence[str],
    metadata: Mapping[str, str],
    sample: Sequence[Array] | None,
    reference: MakeReference,
    scramble_weights: ScrambleWeights | None = None,
    precision: str = "float32",
    external_data: bool = False,
) -> Export:
    """Export to `path`; the file gets that name after it is verified. Raises ExportError.

    `reference` is called once the model is traced. With the precision "float16" the graph is
    verified in float32 first, then converted, with float32 islands, and verified again. The weights
    go to a file beside it with `external_data`, and above 2 GB.
    """
    if precision not in PRECISIONS:
        raise ExportError(f"precision: expected {' or '.join(PRECISIONS)}, found {precision!r}")
    seconds: dict[str, float] = {}
    with atomic_path(path) as part:  # first, so that an unwritable path costs no tracing
        start_shared_process()  # ONNX Runtime is imported there while the model is traced
        if callable(structure):
            with _timer(seconds, "trace"):
                structure = structure()
        with _timer(seconds, "inject"):
            model = inject(structure, weights(), outputs=tap_outputs)
            repair_half_products(model)
        add_metadata(model.skeleton, {"onnx": onnx.__version__, **metadata})

        def write() -> None:
            with _timer(seconds, "write"):
                write_directly(model, part, external=external_data)

        with _timer(seconds, "verify"):
            expected = reference(0.0)
            verification = verify(model, part, expected, sample, write=write)
            notes = verification.notes
            if verification.constant and scramble_weights is not None:
                notes += _verify_scrambled_weights(
                    verification, structure, expected, scramble_weights, tap_outputs, sample
                )
        if precision == "float16":
            with _timer(seconds, "float16"):
                narrow = convert_to_mixed(model, measure_ranges(model, verification.feeds))
                repair_half_products(narrow.model)
                _remove_external_data(part)
                write_directly(narrow.model, part, external=external_data)
                verification = _verify_narrow(narrow, part, reference(ROUNDOFF), sample)
                notes += verification.notes
                notes += tuple(
                    f"{name} stays in float32: {why}" for name, why in narrow.islands.items()
                )
        has_data = part.with_name(part.name + DATA_SUFFIX).exists()
    return Export(
        path=path,
        opset=structure.opset,
        seconds=seconds,
        checks=verification.checks,
        structure=structure,
        notes=tuple(dict.fromkeys(notes)),
        other_checks=verification.other_checks,
        external_data=has_data,
    )


def _verify_narrow(
    narrow: MixedModel, path: Path, reference: Reference, sample: Sequence[Array] | None
) -> Verification:
    """Verify the converted graph. Raises ExportError, which says in which precision."""
    try:
        return verify(narrow.model, path, reference, sample)
    except ExportError as error:
        raise ExportError(
            f"in float16 {error}; in float32 the same graph is right: export without"
            " precision='float16'"
        ) from error


def _remove_external_data(path: Path) -> None:
    path.with_name(path.name + DATA_SUFFIX).unlink(missing_ok=True)


def check_path(path: object) -> Path:
    """Return the path of the file to write.

    Raises ExportError for what is no path, and for a name that says another format. A name without
    a suffix says none; `.5` of `net-1.5` is no suffix.
    """
    if not isinstance(path, str | os.PathLike):
        raise ExportError(
            f"path: expected the path of the file to write, found {type(path).__name__}"
        )
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix[1:2].isalpha() and suffix != ".onnx":
        raise ExportError(
            f"{path}: expected a name that ends in .onnx, which is what is written, found"
            f" '{suffix}'; give {path.with_suffix('.onnx')}"
        )
    return path


def _verify_scrambled_weights(
    verification: Verification,
    structure: Structure,
    reference: Reference,
    scramble_weights: ScrambleWeights,
    tap_outputs: Sequence[str],
    sample: Sequence[Array] | None,
) -> tuple[str, ...]:
    """Verify the same graph with other weights, since an output never changed with these.

    The weights that a model starts with are often zeros in its last layers. Raises ExportError.
    """
    weights, function = scramble_weights()
    model = inject(structure, weights, outputs=tap_outputs)
    repair_half_products(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "other.onnx"
        write_directly(model, path)
        try:
            again = verify(model, path, replace(reference, function=function, wide=None), sample)
        except ExportError as error:
            raise ExportError(
                f"{first_few(verification.constant)} never changed with the input, and with other"
                f" weights {error}"
            ) from error
    still = [name for name in verification.constant if name in again.constant]
    moved = [name for name in verification.constant if name not in again.constant]
    notes = []
    if moved:
        notes.append(f"{first_few(moved)} was verified with other weights too")
    if still:
        notes.append(f"{first_few(still)} never changed with other weights either: not proved")
    return tuple(notes)


def scramble(array: Array, *, index: int) -> Array:
    """Return other values of a weight's magnitude, seeded; zeros become about a tenth.

    A weight without negative values keeps none: it may be a variance.
    """
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        return array
    rng = np.random.default_rng([7, index])
    wide = array.astype(np.float64)
    scale = float(np.abs(wide).mean()) if array.size else 0.0
    noise = rng.standard_normal(array.shape) * (0.25 * scale or 0.1)
    other = wide * (1.0 + 0.25 * rng.uniform(-1.0, 1.0, array.shape)) + noise
    if scale and (wide >= 0).all():
        other = np.abs(other)
    return np.asarray(other).astype(array.dtype)


@contextmanager
def _timer(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - start
