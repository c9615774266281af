"""Reasons of a refusal: the layer, the source line, and what the framework itself says."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from exporters.keras.tracing_graph import Tracing

_LIBRARIES = tuple(
    {str(Path(sysconfig.get_paths()[key])) for key in ("purelib", "platlib", "stdlib")}
)
_OWN = str(Path(__file__).resolve().parents[1])

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_HEADING = re.compile(r"^(Exception encountered when calling|in user code:|Arguments received)")


def describe_error(error: BaseException) -> str:
    """Return the framework's own reason in one line, without headings, styles and arguments."""
    text = _STYLE.sub("", str(error))
    text = re.split(r"\n\s*Arguments received by", text)[0]
    lines = [line.strip() for line in text.splitlines()]
    lines = [
        line
        for line in lines
        if line and not _HEADING.match(line) and not line.startswith(("File ", "^^^", "~~~"))
    ]
    if not lines:
        return type(error).__name__
    reason = lines[0]
    if len(lines) > 1 and (reason.endswith(":") or len(reason) < 20):
        reason += " " + lines[1]
    return reason.removesuffix(".")[:400]


def source_line(error: BaseException) -> str:
    """Return "file.py:12" of the innermost frame of the caller's own code, or ""."""
    frames = traceback.extract_tb(error.__traceback__)
    return _innermost([(frame.filename, frame.lineno or 0) for frame in frames])


def where(tracing: Tracing, operation: Any) -> str:
    """Return the layer and source line of an operation of the graph, or ""."""
    layer = tracing.layers.get(operation.name, "")
    try:
        frames: Iterable[Any] = operation.traceback
        line = _innermost([(frame.filename, frame.lineno or 0) for frame in frames])
    except (AttributeError, TypeError):
        line = ""
    return ", ".join(filter(None, [f"layer {layer}" if layer else "", line]))


def _innermost(frames: Sequence[tuple[str, int]]) -> str:
    for filename, line in reversed(frames):
        path = str(Path(filename))
        if not path.startswith((*_LIBRARIES, _OWN, "<")) and "site-packages" not in path:
            return f"{Path(path).name}:{line}"
    return ""
