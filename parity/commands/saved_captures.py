"""A folder of captures: one file a subject and the float64 reference, which knows the rest.

The reference's manifest also holds, under ``comparison``, what judging needs beside the tensors:
the points, the floors, the levels above numerics and the facts of input and weights. A subject's
holds, under ``facts``, what it ran on. So each file says by itself what it belongs to, and no file
beside it can get lost.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity import files
from parity.comparison.levels import Gaps
from parity.errors import CaptureError, OutputError, UsageError
from parity.numerics import floor
from parity.numerics.capture import CaptureReader, update_manifest
from parity.numerics.floor import Floor
from parity.numerics.points import ComparisonPoint
from parity.processes.subjects import parse_subject, subject_kinds
from parity.report.model import InputFacts, Level, Outcome, SubjectFacts, WeightFacts
from parity.text import abbreviate

if TYPE_CHECKING:
    from parity.report.model import Report

SUFFIX = ".safetensors"
REFERENCE = "reference"

BELONGING = {"model": "model", "weights_sha256": "weights", "input_sha256": "input"}
"""What captures that are compared must share, and what it is called."""


@dataclass(frozen=True)
class SavedComparison:
    """What a reference's capture knows of the comparison that it was made in."""

    reference: str
    depth: str
    input: InputFacts
    weights: WeightFacts
    points: tuple[ComparisonPoint, ...]
    floors: Mapping[str, Floor]
    levels: Mapping[str, Level]
    environment: Mapping[str, Any]


def keep(
    folder: Path,
    captures: Mapping[str, Path],
    report: Report,
    *,
    points: Sequence[ComparisonPoint],
    floors: Mapping[str, Floor],
    gaps: Gaps,
) -> dict[str, Path]:
    """Move a comparison's captures, by subject and ``reference``, into `folder`; return the files.

    `report` says what they ran on; its judgement is not kept. `gaps` is, by subject, how far a
    plain graph's final output is from the instrumented graph's. Captures of an earlier comparison
    make way: a folder holds one. Raises OutputError, also where `require_ours` does.
    """
    targets = {name: folder / f"{name}{SUFFIX}" for name in captures}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        require_ours(folder, captures)
        for old in folder.glob(f"*{SUFFIX}"):
            if old.name.removesuffix(SUFFIX) not in captures and _is_ours(old):
                old.unlink()
        for name, path in captures.items():
            if name == REFERENCE:
                update_manifest(path, {"comparison": _comparison(report, points, floors)})
            else:
                held = {
                    "facts": asdict(report.subjects[name]),
                    "depth": report.depth,
                    "instrumentation_gap": gaps.get(name),
                }
                update_manifest(path, held)
            with files.replacing(targets[name]) as hidden:
                # A rename within a file system, a copy between two.
                shutil.move(path, hidden)
    except OSError as error:
        raise OutputError(f"{folder}: captures cannot be written: {error.strerror}") from error
    return targets


def require_ours(folder: Path, names: Iterable[str]) -> None:
    """Raise OutputError if captures of these subjects would replace what is no such capture."""
    for name in (REFERENCE, *names):
        path = folder / f"{name}{SUFFIX}"
        if (path.exists() or path.is_symlink()) and not _is_ours(path):
            raise OutputError(
                f"{path}: is no capture of {name} that parity saved, and would be replaced; move "
                "it away, or name another folder"
            )


def _is_ours(path: Path) -> bool:
    """Whether this is a capture that an earlier comparison has left under its subject's name."""
    name = path.name.removesuffix(SUFFIX)
    if path.is_symlink() or not path.is_file():
        return False
    try:
        if name != REFERENCE:
            parse_subject(name)
        with CaptureReader(path) as reader:
            return subject_of(reader) == name
    except (UsageError, CaptureError):
        return False


def _comparison(
    report: Report, points: Sequence[ComparisonPoint], floors: Mapping[str, Floor]
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
        "floors": floor.to_json(floors),
        "levels": {
            name: {"outcome": level.outcome.value, "messages": list(level.messages)}
            for name, level in report.levels.items()
            if name != "numerics"
        },
    }


@contextlib.contextmanager
def opened(path: Path) -> Iterator[dict[str, CaptureReader]]:
    """The captures of a folder, or the one that a file is, by subject, in the usual order.

    Raises CaptureError for anything that is no capture, and for a folder without any.
    """
    files = _files(path)
    with contextlib.ExitStack() as stack:
        readers: dict[str, CaptureReader] = {}
        for file in files:
            reader = stack.enter_context(CaptureReader(file))
            name = subject_of(reader)
            if name in readers:
                raise CaptureError(f"{file}: holds '{name}', as {readers[name].path.name} does")
            readers[name] = reader
        order = {name: index for index, name in enumerate((REFERENCE, *subject_kinds()))}
        yield dict(sorted(readers.items(), key=lambda item: order.get(item[0], len(order))))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.glob(f"*{SUFFIX}") if not file.name.startswith("."))
    if not found:
        raise CaptureError(f"{path}: holds no capture; `parity capture --out` writes them")
    return found


def subject_of(reader: CaptureReader) -> str:
    """The subject that a capture is of. Raises CaptureError."""
    return str(_told(reader, reader.manifest, "subject"))


def facts_of(reader: CaptureReader) -> SubjectFacts:
    """What a subject's capture ran on. Raises CaptureError."""
    with _malformed(reader):
        return SubjectFacts(**_told(reader, reader.manifest, "facts"))


def comparison_of(reader: CaptureReader) -> SavedComparison:
    """What a reference's capture knows. Raises CaptureError."""
    told = _told(reader, reader.manifest, "comparison")
    with _malformed(reader):
        given = told["input"]
        return SavedComparison(
            reference=told["reference"],
            depth=told["depth"],
            input=InputFacts(**{**given, "shape": tuple(given["shape"])}),
            weights=WeightFacts(**told["weights"]),
            points=tuple(_point(point, reader) for point in told["points"]),
            floors=floor.from_json(told["floors"]),
            levels={
                name: Level(Outcome(level["outcome"]), tuple(level["messages"]))
                for name, level in told["levels"].items()
            },
            environment=told["environment"],
        )


def _point(found: Mapping[str, str], reader: CaptureReader) -> ComparisonPoint:
    shape = reader.shape(found["row"])[1:]
    return ComparisonPoint(found["name"], found["stage"], found["row"], shape)


def _told(reader: CaptureReader, manifest: Mapping[str, Any], key: str) -> Any:
    if key not in manifest:
        raise CaptureError(
            f"{reader.path}: its manifest has no '{key}'; write it with `parity capture` or "
            "`parity compare --save-captures`"
        )
    return manifest[key]


@contextlib.contextmanager
def _malformed(reader: CaptureReader) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CaptureError(f"{reader.path}: its manifest is malformed: {error}") from error


def require_belonging(readers: Sequence[CaptureReader]) -> None:
    """Raise CaptureError, naming both, unless all captures are of one model, weights and input."""
    first = readers[0]
    for reader in readers[1:]:
        for key, word in BELONGING.items():
            one, other = (_told(each, each.manifest, key) for each in (first, reader))
            if one != other:
                raise CaptureError(
                    f"{first.path} and {reader.path} do not belong together: "
                    f"{word} {abbreviate(one)} and {abbreviate(other)}"
                )
