"""Operators of TensorFlow that tf2onnx writes wrongly, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Handler = Callable[[Any, Any], None]
"""It replaces a node (second) in tf2onnx's graph (first)."""


def handlers(resources: Mapping[str, Any]) -> dict[str, Handler]:
    """Return what converts each type of operator. `resources`: tables by their placeholder."""
    return {}
