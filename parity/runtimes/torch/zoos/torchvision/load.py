"""Builds torchvision's classifiers; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from parity.errors import UsageError
from parity.runtimes.torch.torchvision_shim import import_torchvision
from parity.text import quote, suggest

torchvision, NOTE = import_torchvision()


INPUT_SHAPE = (None, 3, None, None)
"""Images of any size; the axes are N, C, H, W."""


def load(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Return the model of this name with random weights; raises `UsageError`."""
    known = torchvision.models.list_models()
    if name not in known:
        raise UsageError(f"torchvision has no model {quote(name)}{suggest(name, known)}")
    try:
        arguments = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
        model: nn.Module = torchvision.models.get_model(
            name, weights=None, **{**arguments, **options}
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"torchvision:{name}: {error}") from error
    return model
