"""`parity.lock.json`: the figures that a project has reached, which later runs must not lose."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parity.errors import UsageError
from parity.files import write_text
from parity.numerics.verdict import StageResult
from parity.report.model import Report
from parity.text import abbreviate

SCHEMA = "parity.lock/1"

FEW = 256
"""Numbers below which a stage's error is partly luck: two numbers can be right by chance."""

_IDENTITY = {"model": "model", "weights_sha256": "weights", "input_sha256": "input"}


def path_of(plan: Path) -> Path:
    """`parity.lock.json` beside `parity.toml`."""
    return plan.with_suffix(".lock.json")


def load(path: Path) -> dict[str, Any]:
    """The locked cases by name. Raises `UsageError`."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: no JSON: {str(error).partition(chr(10))[0]}") from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise UsageError(f"{path}: expected schema {SCHEMA}, found {schema}")
    cases = data.get("cases")
    if not isinstance(cases, dict) or not all(isinstance(each, dict) for each in cases.values()):
        raise UsageError(f"{path}: malformed: 'cases' must hold a table a case")
    return cases


def save(path: Path, cases: Mapping[str, Any]) -> None:
    """Write the locked cases, the same bytes for the same figures. Raises `OutputError`."""
    text = json.dumps({"schema": SCHEMA, "cases": dict(cases)}, indent=1, allow_nan=False)
    write_text(path, text + "\n")


def figures(report: Report) -> dict[str, Any]:
    """What is locked of a case that agrees: what it is, on what it ran, how far off it was."""
    return {
        **_identity(report),
        "depth": report.depth,
        "versions": _sorted(report.environment.get("versions", {})),
        "stages": {
            stage.name: {
                name: {"x_floor": _short(result.x_floor), "max_abs": _short(result.max_abs)}
                for name, result in stage.subjects.items()
            }
            for stage in report.stages
        },
    }


def worse(report: Report, locked: Mapping[str, Any], factor: float, source: str) -> list[str]:
    """Sentences on the figures that are more than `factor` times their locked ones.

    Raises `UsageError` where the lock is of another model, other weights, another input or
    another set of stages and subjects: its figures say nothing about this run.
    """
    now = {**_identity(report), "depth": report.depth}
    for key, value in now.items():
        if locked.get(key) != value:
            raise UsageError(
                f"{source} is of another {_IDENTITY.get(key, key)}: "
                f"locked {abbreviate(locked.get(key))}, found {abbreviate(value)}; "
                "`--update` locks it anew"
            )
    try:
        return list(_compare(report, locked, factor, source))
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{source}: malformed: {error!r}") from error


def _compare(
    report: Report, locked: Mapping[str, Any], factor: float, source: str
) -> Iterator[str]:
    changed = _changed(report, locked)
    for stage in report.stages:
        for name, result in stage.subjects.items():
            held = locked["stages"].get(stage.name, {}).get(name)
            if held is None:
                raise UsageError(
                    f"{source} has no figures of {name} at {stage.name}; `--update` adds them"
                )
            for figure, unit in (("x_floor", 1.0), ("max_abs", _unit(stage))):
                before, after = float(held[figure]), float(getattr(result, figure))
                least = unit if before == 0.0 or math.prod(stage.shape) < FEW else 0.0
                allowed = factor * max(before, least)
                # Written so that NaN, had it come this far, would not pass.
                if not after <= allowed:
                    yield (
                        f"{name} at {stage.name}: {figure} {after:.3g} is more than {factor:g} "
                        f"times the locked {before:.3g}{changed}"
                    )


def _unit(stage: StageResult) -> float:
    """What rounding alone makes of ``max_abs`` here."""
    return stage.floor.max_abs if stage.floor is not None else 0.0


def _changed(report: Report, locked: Mapping[str, Any]) -> str:
    """Versions that are not those of the lock: most often the reason."""
    before, after = locked.get("versions", {}), report.environment.get("versions", {})
    told = [
        f"{package} {held.get(package)} was {old}"
        for runtime, packages in before.items()
        for held in [after.get(runtime, {})]
        for package, old in packages.items()
        if held.get(package) not in (old, None)
    ]
    return f" ({', '.join(dict.fromkeys(told))})" if told else ""


def _identity(report: Report) -> dict[str, str]:
    return {
        "model": report.model,
        "weights_sha256": report.weights.sha256,
        "input_sha256": report.input.sha256,
    }


def _sorted(versions: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """In an order that does not tell which child answered first."""
    return {name: dict(sorted(held.items())) for name, held in sorted(versions.items())}


def _short(value: float) -> float:
    """Four digits: more would change with every build of a library, and say nothing."""
    return float(f"{value:.4g}")
