"""Builds timm's models; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from parity.errors import UsageError
from parity.runtimes.torch.torchvision_shim import import_torchvision
from parity.text import quote, suggest

import_torchvision()

import timm  # noqa: E402 (it imports torchvision, which may need the shim)

INPUT_SHAPE = (None, 3, None, None)
"""Images of any size; the axes are N, C, H, W."""


def load(name: str, options: Mapping[str, Any]) -> nn.Module:
    """Return the model of this name with random weights; raises `UsageError`."""
    known = timm.list_models()
    if name.partition(".")[0] not in known:
        raise UsageError(f"timm has no model {quote(name)}{suggest(name, known)}")
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"timm:{name}: {error}") from error
    return model
