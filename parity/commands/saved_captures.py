"""A folder of saved captures: one file for each subject, and one for the float64 reference.

The reference's manifest holds, under ``comparison``, everything else that judging needs: the
comparison points, the floors, the levels above numerics and the facts of input and weights. A
subject's manifest holds, under ``facts``, what it ran on. So every file names its own model,
weights and input, and no further file is needed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from parity import files, temporary
from parity.comparison import identity
from parity.comparison.levels import InstrumentationGaps
from parity.errors import CaptureError, OutputError
from parity.numerics import floor
from parity.numerics.capture import CaptureReader, update_manifest
from parity.numerics.floor import Floor
from parity.numerics.points import ComparisonPoint
from parity.processes.subjects import subject_kinds
from parity.report.model import InputFacts, Level, Outcome, SubjectFacts, WeightFacts
from parity.text import abbreviate, one_line, printable, quote

if TYPE_CHECKING:
    from parity.report.model import Report

SUFFIX = ".safetensors"
REFERENCE = "reference"


@dataclass(frozen=True)
class SavedComparison:
    """The comparison that a reference's capture was saved in, as its manifest describes it."""

    reference: str
    depth: str
    input: InputFacts
    weights: WeightFacts
    points: tuple[ComparisonPoint, ...]
    outputs: tuple[str, ...]
    """The rows of the model's outputs."""
    floors: Mapping[str, Floor]
    levels: Mapping[str, Level]
    """The structure, weights and semantics: the numerics are judged again from the captures."""
    environment: Mapping[str, Any]


def move_captures(
    folder: Path,
    captures: Mapping[str, Path],
    report: Report,
    *,
    points: Sequence[ComparisonPoint],
    outputs: Iterable[str],
    floors: Mapping[str, Floor],
    instrumentation_gaps: InstrumentationGaps,
) -> dict[str, Path]:
    """Move a comparison's captures, by subject and ``reference``, into `folder`; return the files.

    `outputs` are the rows of the model's outputs, which are among the points. What they ran on is
    taken from `report`; its verdict is not saved. Captures of an
    earlier comparison in the folder are removed. Raises OutputError if the captures cannot be
    written, or would replace a foreign file.
    """
    targets = {name: folder / f"{name}{SUFFIX}" for name in captures}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        require_replaceable(folder, captures)
        for file in folder.glob(f"*{SUFFIX}"):
            if file.name.removesuffix(SUFFIX) not in captures and _is_saved_capture(file):
                file.unlink()
        for name, path in captures.items():
            if name == REFERENCE:
                saved = _comparison_to_json(report, points, outputs, floors)
                update_manifest(path, {"comparison": saved})
            else:
                fields = {
                    "facts": asdict(report.subjects[name]),
                    "depth": report.depth,
                    "instrumentation_gap": instrumentation_gaps.get(name),
                }
                update_manifest(path, fields)
            with files.atomic_write(targets[name]) as part:
                # A rename within a file system, a copy between two.
                shutil.move(path, part)
    except OSError as error:
        raise OutputError(f"{folder}: captures cannot be written: {error.strerror}") from error
    return targets


@contextlib.contextmanager
def create_capture_folder(parent: Path | None) -> Iterator[Path]:
    """Yield a temporary folder for captures, which is removed at the end.

    It is in `parent`, the folder where captures are saved, which is created if it is missing; with
    None, in the system's folder for temporary files. Raises OutputError.
    """
    if parent is not None:
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{parent}: cannot be a folder: {error.strerror}") from error
    # Captures of a large model are gigabytes; in the folder where they are saved, they are renamed
    # and not copied.
    with temporary.working_folder(parent) as folder:
        yield folder


def require_replaceable(folder: Path, names: Iterable[str]) -> None:
    """Raise OutputError if captures of these subjects would replace a file of another kind."""
    for name in (REFERENCE, *names):
        path = folder / f"{name}{SUFFIX}"
        if (path.exists() or path.is_symlink()) and not _is_saved_capture(path):
            raise OutputError(
                f"{path}: would be replaced, but is not a capture of {name} that parity saved; "
                "move it or name another folder"
            )


def _is_saved_capture(path: Path) -> bool:
    """Return whether a file is a capture that parity saved under its subject's name."""
    name = path.name.removesuffix(SUFFIX)
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with CaptureReader(path) as reader:
            return read_subject(reader) == name
    except CaptureError:
        return False


def _comparison_to_json(
    report: Report,
    points: Sequence[ComparisonPoint],
    outputs: Iterable[str],
    floors: Mapping[str, Floor],
) -> dict[str, Any]:
    return {
        "reference": report.reference,
        "depth": report.depth,
        "input": asdict(report.input),
        "weights": asdict(report.weights),
        "environment": dict(report.environment),
        "points": [
            {"name": point.name, "stage": point.stage, "row": point.row} for point in points
        ],
        "outputs": sorted(outputs),
        "floors": floor.to_json(floors),
        "levels": {
            name: {"outcome": level.outcome.value, "messages": list(level.messages)}
            for name, level in report.levels.items()
            if name != "numerics"
        },
    }


@contextlib.contextmanager
def open_captures(path: Path) -> Iterator[dict[str, CaptureReader]]:
    """Open a capture file, or all captures of a folder; yield them by subject, reference first.

    Raises CaptureError for a file that is no capture, and for a folder without captures.
    """
    with contextlib.ExitStack() as stack:
        readers: dict[str, CaptureReader] = {}
        for file in _list_files(path):
            reader = stack.enter_context(CaptureReader(file))
            name = read_subject(reader)
            if name in readers:
                raise CaptureError(f"{file}: holds '{name}', like {readers[name].path.name}")
            readers[name] = reader
        order = {name: index for index, name in enumerate((REFERENCE, *subject_kinds()))}
        yield dict(sorted(readers.items(), key=lambda item: order.get(item[0], len(order))))


def _list_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    captures = sorted(file for file in path.glob(f"*{SUFFIX}") if not file.name.startswith("."))
    if not captures:
        raise CaptureError(f"{path}: holds no captures; `parity capture --out {path}` saves them")
    return captures


def read_subject(reader: CaptureReader) -> str:
    """Return the name of a capture's subject. Raises CaptureError."""
    return _require_string(reader, "subject")


def read_subject_facts(reader: CaptureReader) -> SubjectFacts:
    """Return the versions, device and precision that a subject ran with. Raises CaptureError."""
    with _convert_manifest_errors(reader):
        facts = SubjectFacts(**_require_field(reader, "facts"))
        _require_types(facts, SubjectFacts, "facts")
        return facts


def read_instrumentation_gap(reader: CaptureReader) -> Mapping[str, float] | None:
    """Return the instrumentation gap of a subject, None if it has none. Raises CaptureError."""
    gap = reader.manifest.get("instrumentation_gap")
    if gap is None:
        return None
    with _convert_manifest_errors(reader):
        _require_types(gap, Mapping[str, float], "instrumentation_gap")
        return {name: float(gap[name]) for name in ("max_abs", "rel_l2")}


def read_comparison(reader: CaptureReader) -> SavedComparison:
    """Return the comparison that a reference's capture was saved in. Raises CaptureError."""
    data = _require_field(reader, "comparison")
    with _convert_manifest_errors(reader):
        comparison = SavedComparison(
            reference=data["reference"],
            depth=data["depth"],
            input=InputFacts(**{**data["input"], "shape": tuple(data["input"]["shape"])}),
            weights=WeightFacts(**data["weights"]),
            points=tuple(_point_from_json(point, reader) for point in data["points"]),
            # Earlier captures state none: a registered model has one, at its end.
            outputs=tuple(data.get("outputs") or [point["row"] for point in data["points"][-1:]]),
            floors=floor.from_json(data["floors"]),
            levels={
                name: Level(Outcome(level["outcome"]), tuple(level["messages"]))
                for name, level in data["levels"].items()
            },
            environment=data["environment"],
        )
        _require_types(comparison, SavedComparison, "comparison")
        return comparison


def _point_from_json(data: Mapping[str, str], reader: CaptureReader) -> ComparisonPoint:
    shape = reader.shape(data["row"])[1:]
    return ComparisonPoint(data["name"], data["stage"], data["row"], shape)


def _require_field(reader: CaptureReader, key: str) -> Any:
    """Return a field of a capture's manifest. Raises CaptureError if there is none."""
    if key not in reader.manifest:
        raise CaptureError(
            f"{reader.path}: its manifest has no '{key}'; save it with `parity capture` or "
            "`parity compare --save-captures`"
        )
    return reader.manifest[key]


def _require_string(reader: CaptureReader, key: str) -> str:
    """Return a field that is a string. Raises CaptureError for any other."""
    value = _require_field(reader, key)
    if not isinstance(value, str):
        raise CaptureError(
            f"{reader.path}: its manifest is malformed: {key}: expected a string, found "
            f"{quote(value)}"
        )
    return value


def _require_types(value: object, hint: Any, label: str) -> None:
    """Raise TypeError unless plain data in a data class has the types of its annotations."""
    if not _has_type(value, hint):
        raise TypeError(f"{label} has the wrong type: {quote(value)}")
    if dataclasses.is_dataclass(hint):
        for name, part in get_type_hints(hint).items():
            _require_types(getattr(value, name), part, name)
    elif get_origin(hint) is tuple:
        for item in cast("tuple[object, ...]", value):
            _require_types(item, get_args(hint)[0], label)
    elif isinstance(value, Mapping) and get_args(hint):
        for key, item in value.items():
            _require_types(item, get_args(hint)[1], f"{label}.{printable(str(key))}")


def _has_type(value: object, hint: Any) -> bool:
    """Return whether a value is of a type, of a union, or of a generic type's origin."""
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_has_type(value, each) for each in get_args(hint))
    if origin is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    found = origin or hint
    return not isinstance(found, type) or isinstance(value, found)


@contextlib.contextmanager
def _convert_manifest_errors(reader: CaptureReader) -> Iterator[None]:
    """While open, raise CaptureError in place of the errors that a malformed manifest causes."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = one_line(str(error), longest=160)
        raise CaptureError(f"{reader.path}: its manifest is malformed: {reason}") from error


def require_same_identity(readers: Sequence[CaptureReader]) -> None:
    """Raise CaptureError unless all captures are of the same model, weights and input."""
    first = readers[0]
    for reader in readers[1:]:
        for key, label in identity.LABELS.items():
            one, other = _require_string(first, key), _require_string(reader, key)
            if one != other:
                raise CaptureError(
                    f"{first.path} and {reader.path}: different {label}: "
                    f"{abbreviate(one)} and {abbreviate(other)}; capture both from the same {label}"
                )
