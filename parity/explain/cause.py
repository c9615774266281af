"""A cause, as the report shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a layer differs, and the errors in floors that prove it."""

    layer: str
    subject: str
    cause: str
    evidence: Mapping[str, float]
    message: str
