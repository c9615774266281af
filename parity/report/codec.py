"""The report as JSON data, ``parity.report/1``, and back.

``parity.report.schema`` defines the data. It loads pydantic, so it is imported only when a report
is read or written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from parity.errors import OutputError, UsageError
from parity.report.model import Report
from parity.text import printable, quote

if TYPE_CHECKING:
    from pydantic import ValidationError


def to_json(report: Report) -> dict[str, Any]:
    """Return the report as JSON data of schema ``parity.report/1``.

    JSON has no infinity: a figure that does not exist, or is not finite, is ``null``. Raises
    OutputError, naming the field, for a report that the schema does not allow.
    """
    from pydantic import ValidationError

    from parity.report import schema

    try:
        form = schema.Report.model_validate(report)
        return form.model_dump(mode="json", by_alias=True)
    except ValidationError as error:
        raise OutputError(
            f"the report cannot be written as JSON: {_describe_first_error(error)}"
        ) from error
    except ValueError as error:
        # Facts have any type: JSON cannot hold some, and nesting can be too deep.
        raise OutputError(f"the report cannot be written as JSON: {error}") from error


def from_json(data: Mapping[str, Any]) -> Report:
    """Return the report that ``to_json`` serialised.

    No value is converted: a number in quotes is not a number. Raises UsageError, naming the
    field, for another schema, a missing field and a value that the schema does not allow.
    """
    from pydantic import ValidationError

    from parity.report import schema

    if data.get("schema") != schema.NAME:
        found = quote(data.get("schema"))
        raise UsageError(f"report: expected schema {schema.NAME}, found {found}")
    try:
        report: Report = schema.Report.model_validate(data).build()
    except ValidationError as error:
        raise UsageError(f"report: {_describe_first_error(error)}") from error
    except RecursionError as error:
        raise UsageError("report: malformed: it is nested too deeply") from error
    return report


_EXPECTED = {
    "dict_type": "expected an object",
    "mapping_type": "expected an object",
    "model_type": "expected an object",
    "model_attributes_type": "expected an object",
    "tuple_type": "expected an array",
    "too_long": "expected at most {max_length} items",
    "greater_than_equal": "expected at least {ge:g}",
    "less_than_equal": "expected at most {le:g}",
}
"""By pydantic's error type, the message in terms of JSON instead of Python."""


def _describe_first_error(error: ValidationError) -> str:
    """Return the path and the error of the first invalid field, on one line."""
    first, *rest = error.errors(include_url=False)
    path = ""
    for key in first["loc"]:
        path += f"[{key}]" if isinstance(key, int) else f".{printable(key)}"
    path = path.removeprefix(".")
    more = f" (and {len(rest)} more)" if rest else ""
    if first["type"] == "missing":
        return f"the field '{path}' is missing{more}"
    expected = first["msg"].replace("Input should be", "expected")
    if first["type"] in _EXPECTED:
        expected = _EXPECTED[first["type"]].format(**first.get("ctx", {}))
    return f"malformed: {path}: {expected}, found {quote(first['input'])}{more}"
