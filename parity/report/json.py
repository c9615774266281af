"""The report as a JSON file, version 1 of DESIGN.md; ``schema/report-v1.json`` describes it."""

from __future__ import annotations

import json
from pathlib import Path

from parity.errors import UsageError
from parity.files import replacing
from parity.report.model import Report, from_json, to_json


def write(report: Report, path: str | Path) -> None:
    """Write the report, whole or not at all. Raises OutputError."""
    text = json.dumps(to_json(report), indent=2, allow_nan=False, ensure_ascii=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read(path: str | Path) -> Report:
    """Read a report that ``write`` wrote. Raises UsageError when it is none."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: is no report: expected a JSON object")
    return from_json(data)
