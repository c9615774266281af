"""Why two training steps differ: causes that are proved on the reference's step."""

from __future__ import annotations

from parity.explain.training.explanation import explain_step

__all__ = ["explain_step"]
