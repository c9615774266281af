"""The report as a JSON file, ``parity.report/1``; ``schema/report-v1.json`` describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from parity import files
from parity.errors import UsageError
from parity.report.codec import from_json, to_json
from parity.report.model import Report

SUFFIX = ".json"
SEVERAL = "parity.check/1"
"""The schema of a file of several cases."""


def render(report: Report) -> str:
    """Return the report as indented JSON with a final newline."""
    return json.dumps(to_json(report), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def combine(reports: Mapping[str, Report]) -> str:
    """Return all cases as one object, ``parity.check/1``."""
    cases = {name: to_json(report) for name, report in reports.items()}
    return json.dumps({"schema": SEVERAL, "cases": cases}, indent=2, allow_nan=False) + "\n"


def read(path: str | Path) -> Report:
    """Read a report that ``render`` wrote. Raises UsageError for any other file."""
    try:
        data = json.loads(files.read_text(path), parse_constant=_refuse)
        # A single escaped surrogate can be parsed, but neither printed nor written.
        json.dumps(data, ensure_ascii=False).encode()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: is not JSON: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{path}: is not a report: it is nested too deeply") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: is not a report: expected a JSON object")
    try:
        return from_json(data)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _refuse(constant: str) -> NoReturn:
    # Python reads NaN and Infinity, which JSON does not have.
    raise ValueError(f"{constant} is not a JSON value")
