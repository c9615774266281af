"""Models of timm, with random weights or those of a file; nothing is downloaded."""

from __future__ import annotations

from typing import Any

from parity.errors import UsageError
from parity.processes.references import WEIGHTS, ModelReference
from parity.runtimes.loaded import LoadedModel
from parity.runtimes.torch.references import load_checkpoint
from parity.runtimes.torch.torchvision_shim import import_torchvision
from parity.runtimes.zoo_models import require_known_model
from parity.text import quote

_REFUSED_OPTIONS = ("pretrained", "checkpoint_path", "pretrained_cfg")
"""Options of timm that fetch or unpickle weights."""


def list_names() -> list[str]:
    """Return the names of all models."""
    import_torchvision()
    import timm

    return list(timm.list_models())


def load(reference: ModelReference) -> LoadedModel:
    """Build `timm:NAME`; `weights` is a file, other options are `create_model`'s arguments."""
    notes = import_torchvision()
    import timm

    options: dict[str, Any] = dict(reference.options)
    checkpoint = options.pop(WEIGHTS, None)
    for name in _REFUSED_OPTIONS:
        if name in options:
            raise UsageError(
                f"{quote(reference.text)}: nothing is downloaded; give weights=FILE, not {name}"
            )
    if not timm.is_model(reference.target):
        require_known_model(reference, timm.list_models())
    model = timm.create_model(reference.target, pretrained=False, **options).eval()
    if checkpoint is not None:
        notes += load_checkpoint(model, checkpoint)
    return LoadedModel(
        model,
        reference.text,
        brings_weights=checkpoint is not None,
        input_shape=(None, 3, None, None),
        notes=notes,
    )
