"""The identity of a run: figures can be compared only where these agree."""

from __future__ import annotations

LABELS = {"model": "model", "weights_sha256": "weights", "input_sha256": "input"}
"""What a message calls each field of `build_identity`."""


def build_identity(*, model: str, weights_sha256: str, input_sha256: str) -> dict[str, str]:
    """Return the fields that saved captures and locked figures are recognised by."""
    return {"model": model, "weights_sha256": weights_sha256, "input_sha256": input_sha256}
