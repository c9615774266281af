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
    """The cause with its proof, and at its end the remedy."""
    remedy: str = ""
    """What to change in the model, also alone; "" if nothing is known to help."""

    @property
    def statement(self) -> str:
        """The message without the remedy."""
        return self.message.removesuffix(f". Remedy: {self.remedy}")
