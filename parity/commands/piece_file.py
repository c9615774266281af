"""The file of `parity reduce`: a part of two models that shows their difference by itself."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.pieces import Piece, PieceSide
from parity.errors import OutputError
from parity.network.rearrangement import Rearrangement
from parity.text import one_line

Array = NDArray[Any]

MARK = "# Written by parity reduce"
"""The first line of each file that `parity reduce` has made."""

LARGEST_TEXT = 48 * 2**10
"""Bytes of compressed arrays that are a part of the file; more are in a file beside it."""

LARGEST_ARRAYS = 256 * 2**20
"""Bytes of compressed arrays beside the file."""

_MAIN = '''

def cast(array, dtype):
    """Return floating numbers in a precision, and all others as they are."""
    return np.array(array.astype(dtype) if array.dtype.kind == "f" else array)


def move(arrays, rng):
    """Return the arrays with every floating number moved by about one unit in the last place."""
    return {
        name: array * (1 + rng.uniform(-1, 1, array.shape) * 2.0**-23).astype(array.dtype)
        if array.dtype.kind == "f"
        else array
        for name, array in arrays.items()
    }


def measure(output, exact):
    """Return the largest absolute error; infinite for another shape or a number that is none."""
    if output.shape != exact.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        error = np.abs(output.astype(np.float64) - exact)
    error[(output == exact) | (np.isnan(output) & np.isnan(exact))] = 0
    return float("inf") if np.isnan(error).any() else float(error.max(initial=0))


def compare(arrays):
    """Return the outputs, and how far each is from the exact one, the reference's in EXACT.

    The floor is how far rounding alone moves the reference: its own error, and that of four runs
    whose inputs and weights are moved by one unit in the last place.
    """
    exact = run_reference(arrays, REFERENCE_WEIGHTS, EXACT).astype(np.float64)
    reference = run_reference(arrays, REFERENCE_WEIGHTS, "float32")
    subject = run_subject(arrays, SUBJECT_WEIGHTS, "float32")
    floors = [measure(reference, exact), 2.0**-24 * float(np.abs(exact).max(initial=0))]
    rng = np.random.default_rng(0)
    for _ in range(4):
        moved = run_reference(move(arrays, rng), move(REFERENCE_WEIGHTS, rng), "float32")
        floors.append(measure(moved, exact))
    return {
        "exact": exact,
        "reference": reference,
        "subject": subject,
        "reference error": floors[0],
        "subject error": measure(subject, exact),
        "floor": max(floors),
    }


def main():
    found = compare(INPUT)
    floor, error = found["floor"], found["subject error"]
    differs = not error <= LIMIT * floor
    print(f"{REFERENCE}: max abs error {found['reference error']:.3e}")
    print(f"{SUBJECT}: max abs error {error:.3e}")
    print(f"floor: {floor:.3e}")
    times = f"{error / floor:.3g}" if floor else "inf"
    print(f"verdict: {'they differ' if differs else 'no difference'}: {times} times the floor, "
          f"limit {LIMIT:g}")
    return int(differs)


if __name__ == "__main__":
    sys.exit(main())
'''


def render_file(
    piece: Piece,
    arrays: Mapping[str, Array],
    head: Sequence[str],
    *,
    limit: float,
    file: Path,
) -> tuple[str, bytes | None]:
    """Return the file's text, and the bytes of the `.npz` file beside it, if there is one.

    `arrays` are those of `piece`, or parts of them. `head` are lines about the comparison. Raises
    `OutputError` for arrays above `LARGEST_ARRAYS`.
    """
    stored: dict[str, Array] = {}
    inputs = {key: _store(stored, f"input/{key}", value) for key, value in arrays.items()}
    sides = (("REFERENCE", piece.reference), ("SUBJECT", piece.subject))
    weights = {
        label: {
            name: _store(stored, f"{label.lower()}/{name}", value)
            for name, value in side.weights.items()
        }
        for label, side in sides
    }
    packed = _pack(stored)
    if len(packed) > LARGEST_ARRAYS:
        raise OutputError(
            f"{file}: the arrays of the piece have {len(packed) >> 20} MiB; expected at most "
            f"{LARGEST_ARRAYS >> 20} MiB; give a smaller input"
        )
    is_inside = len(packed) <= LARGEST_TEXT
    lines = [MARK, *(f"# {one_line(line, longest=600)}".rstrip() for line in head), ""]
    lines += ["import base64", "import io"] if is_inside else ["import pathlib"]
    lines += [
        "import os",
        "import sys",
        "",
        "# The difference was found on the CPU.",
        'os.environ["CUDA_VISIBLE_DEVICES"] = "-1"',
        'os.environ["KERAS_BACKEND"] = "tensorflow"',
        'os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")',
        "",
        "import numpy as np",
        "",
        f"REFERENCE = {piece.reference.subject!r}",
        f"SUBJECT = {piece.subject.subject!r}",
        f"LIMIT = {limit!r}",
        f"EXACT = {'float32' if 'onnx' in piece.reference.code.imports else 'float64'!r}",
    ]
    if is_inside:
        text = textwrap.fill(base64.b64encode(packed).decode(), 96)
        lines += [f'DATA = """\n{text}\n"""', "ARRAYS = dict(np.load("
                  "io.BytesIO(base64.b64decode(DATA)), allow_pickle=False))"]  # fmt: skip
    else:
        lines += ['FILE = pathlib.Path(__file__).with_suffix(".npz")',
                  "ARRAYS = dict(np.load(FILE, allow_pickle=False))"]  # fmt: skip
    lines += _format_table("INPUT", inputs)
    for label, names in weights.items():
        lines += _format_table(f"{label}_WEIGHTS", names)
    for label, side in sides:
        lines += ["", "", *_format_side(f"run_{label.lower()}", side)]
    return "\n".join(lines) + _MAIN, None if is_inside else packed


def _store(stored: dict[str, Array], key: str, value: Array) -> str:
    """Keep an array, unless one of the same bits is kept; return its key."""
    value = value.astype(np.float32) if value.dtype == np.float64 else value
    for known, other in stored.items():
        same = other.shape == value.shape and other.dtype == value.dtype
        if same and other.tobytes() == value.tobytes():
            return known
    stored[key] = value
    return key


def _pack(arrays: Mapping[str, Array]) -> bytes:
    """Return the bytes of a compressed `.npz` file."""
    file = io.BytesIO()
    # A name that is a parameter of NumPy's function would be taken for it.
    np.savez_compressed(file, allow_pickle=False, **dict(arrays))
    return file.getvalue()


def _format_table(name: str, keys: Mapping[str, str]) -> list[str]:
    if not keys:
        return [f"{name} = {{}}"]
    entries = [f"    {own!r}: ARRAYS[{key!r}]," for own, key in keys.items()]
    return [f"{name} = {{", *entries, "}"]


def _format_side(function: str, side: PieceSide) -> list[str]:
    lines = [f"def {function}(arrays, weights, dtype):",
             f'    """Return the output of {side.subject!r} here."""'.replace("\\", "/"),
             "    inputs = {"]  # fmt: skip
    for tensor, (key, rearrangements, shape, dtype) in side.inputs.items():
        text = f"arrays[{key!r}]{format_inverse(rearrangements, shape)}"
        if not dtype.startswith(("float", "bfloat")):
            text += f".astype({dtype!r})"
        lines.append(f"        {tensor!r}: {text},")
    lines += ["    }", *(f"    {line}".rstrip() for line in side.code.lines)]
    return [*lines, f"    return result{format_rearrangements(side.output)}"]


def format_rearrangements(rearrangements: Sequence[Rearrangement]) -> str:
    """Return the calls that give a tensor the axes of the comparison."""
    text = ""
    for rearrangement in rearrangements:
        text += f".reshape({rearrangement.split})" if rearrangement.split else ""
        text += f".transpose({rearrangement.order})" if rearrangement.order else ""
        text += f".reshape({rearrangement.merged})" if rearrangement.merged else ""
    return text


def format_inverse(rearrangements: Sequence[Rearrangement], shape: tuple[int, ...]) -> str:
    """Return the calls that undo rearrangements, for a tensor that has `shape` in its model.

    A leading batch axis may have any length.
    """
    shapes = [shape]
    for rearrangement in rearrangements:
        shapes.append(rearrangement.infer_shape(shapes[-1]))
    text = ""
    for rearrangement, before in zip(reversed(rearrangements), reversed(shapes[:-1]), strict=True):
        split = _resolve(rearrangement.split, before) if rearrangement.split else before
        if rearrangement.order:
            permuted = tuple(split[axis] for axis in rearrangement.order)
            if rearrangement.merged:
                text += f".reshape({_free_batch(permuted, rearrangement.order.index(0), before)})"
            back = tuple(
                sorted(range(len(rearrangement.order)), key=rearrangement.order.__getitem__)
            )
            text += f".transpose({back})"
        if rearrangement.split or (rearrangement.merged and not rearrangement.order):
            text += f".reshape({_free_batch(before, 0, before)})"
    return text


def _free_batch(sizes: tuple[int, ...], axis: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sizes with -1 for the batch, if `axis` is it."""
    if not sizes or not shape or sizes[axis] != shape[0]:
        return sizes
    return (*sizes[:axis], -1, *sizes[axis + 1 :])


def _resolve(sizes: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return Rearrangement(split=sizes).infer_shape(shape)
