"""What an export returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporters.verify import Check


@dataclass(frozen=True)
class Exported:
    """A finished, verified file, and what each step cost.

    `seconds` has "trace" (absent when a structure was given), "inject", "write" and "verify".
    """

    path: Path
    opset: int
    seconds: dict[str, float]
    checks: tuple[Check, ...]
