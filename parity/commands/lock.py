"""`parity.lock.json`: the locked errors of a project's cases, which later runs must not exceed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parity import files
from parity.comparison import identity
from parity.errors import UsageError
from parity.files import write_text
from parity.numerics.verdict import PointResult
from parity.report.model import Report
from parity.text import abbreviate

SCHEMA = "parity.lock/1"

SMALL_SIZE = 256
"""Elements below which a stage's error varies by chance: few values can be right by luck."""


def lock_path(case_file: Path) -> Path:
    """Return the path of `parity.lock.json` beside `parity.toml`."""
    return case_file.with_suffix(".lock.json")


def load(path: Path) -> dict[str, Any]:
    """Return the locked cases by name. Raises `UsageError`."""
    try:
        text = files.read_text(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    return parse(text, str(path))


def parse(text: str, path: str) -> dict[str, Any]:
    """Return the cases by name of a lock file's text. Raises `UsageError`, which names `path`."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON: {str(error).partition(chr(10))[0]}") from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise UsageError(f"{path}: expected schema {SCHEMA}, found {schema}")
    cases = data.get("cases")
    if not isinstance(cases, dict) or not all(isinstance(each, dict) for each in cases.values()):
        raise UsageError(f"{path}: malformed: 'cases' must hold an object for each case")
    return cases


def save(path: Path, cases: Mapping[str, Any]) -> None:
    """Write the locked cases; equal figures give equal bytes. Raises `OutputError`."""
    text = json.dumps({"schema": SCHEMA, "cases": dict(cases)}, indent=1, allow_nan=False)
    write_text(path, text + "\n")


def lock_entry(report: Report, folder: Path) -> dict[str, Any]:
    """Return a case's entry in the lock: model, weights, input, depth, versions and errors.

    `folder` is that of the case file, which the models' files are relative to.
    """
    return {
        **_identity(report, folder),
        "depth": report.depth,
        "versions": _sort_versions(report.environment.get("versions", {})),
        "stages": {
            stage.name: {
                name: {
                    "x_floor": _round_figure(result.x_floor),
                    "max_abs": _round_figure(result.max_abs),
                }
                for name, result in stage.subjects.items()
            }
            for stage in report.stages
        },
    }


def find_regressions(
    report: Report, entry: Mapping[str, Any], factor: float, path: Path
) -> list[str]:
    """Return one sentence for each figure that is more than `factor` times its locked value.

    `entry` is the case's entry in the lock at `path`. Raises `UsageError` if
    the entry is for another model, weights, input, depth or set of stages and subjects, so that the
    figures cannot be compared.
    """
    source, folder = path.name, path.parent
    current = {**_identity(report, folder), "depth": report.depth}
    entry = {**entry, "model": _relative_to(folder, str(entry.get("model")))}
    for key, value in current.items():
        if entry.get(key) != value:
            raise UsageError(
                f"{source}: another {identity.LABELS.get(key, key)}: "
                f"locked {abbreviate(entry.get(key))}, found {abbreviate(value)}; "
                "`--update` locks it again"
            )
    try:
        return list(_compare_figures(report, entry, factor, source))
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{source}: malformed: {error!r}") from error


def _compare_figures(
    report: Report, entry: Mapping[str, Any], factor: float, source: str
) -> Iterator[str]:
    versions = _describe_version_changes(report, entry)
    for stage in report.stages:
        for name, result in stage.subjects.items():
            figures = entry["stages"].get(stage.name, {}).get(name)
            if figures is None:
                raise UsageError(
                    f"{source}: no figures for {name} at {stage.name}; `--update` adds them"
                )
            for figure, floor in (("x_floor", 1.0), ("max_abs", _max_abs_floor(stage))):
                before, after = float(figures[figure]), float(getattr(result, figure))
                least = floor if before == 0.0 or math.prod(stage.shape) < SMALL_SIZE else 0.0
                bound = factor * max(before, least)
                # Written so that a NaN does not pass.
                if not after <= bound:
                    yield (
                        f"{name} at {stage.name}: {figure} {after:.3g} is more than {factor:g} "
                        f"times the locked {before:.3g}{versions}"
                    )


def _max_abs_floor(stage: PointResult) -> float:
    """Return the rounding floor of ``max_abs`` at this stage."""
    return stage.floor.max_abs if stage.floor is not None else 0.0


def _describe_version_changes(report: Report, entry: Mapping[str, Any]) -> str:
    """Return the versions that differ from the locked ones, which are the most frequent reason."""
    before, after = entry.get("versions", {}), report.environment.get("versions", {})
    changes = [
        f"{package} {current.get(package)} was {old}"
        for runtime, packages in before.items()
        for current in [after.get(runtime, {})]
        for package, old in packages.items()
        if current.get(package) not in (old, None)
    ]
    return f" ({', '.join(dict.fromkeys(changes))})" if changes else ""


def _identity(report: Report, folder: Path) -> dict[str, str]:
    return identity.build_identity(
        model=_relative_to(folder, report.model),
        weights_sha256=report.weights.sha256,
        input_sha256=report.input.sha256,
    )


def _relative_to(folder: Path, model: str) -> str:
    """Return a model's name whose files are relative to a folder, wherever the command ran."""
    return model.replace(f"{folder}/", "")


def _sort_versions(versions: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Sort the versions by name, since the children respond in any order."""
    return {name: dict(sorted(packages.items())) for name, packages in sorted(versions.items())}


def _round_figure(value: float) -> float:
    """Round to four digits, since more would change with every build of a library."""
    return float(f"{value:.4g}")
