"""Models of torchvision, with random weights or those of a file; nothing is downloaded."""

from __future__ import annotations

import inspect
from typing import Any

from parity.processes.references import WEIGHTS, ModelReference
from parity.runtimes.loaded import LoadedModel
from parity.runtimes.torch.references import load_checkpoint
from parity.runtimes.torch.torchvision_shim import import_torchvision
from parity.runtimes.zoo_models import require_known_model


def list_names() -> list[str]:
    """Return the names of all models."""
    import_torchvision()
    from torchvision import models

    return list(models.list_models())


def load(reference: ModelReference) -> LoadedModel:
    """Build `torchvision:NAME`; `weights` is a file, other options are the builder's arguments."""
    notes = import_torchvision()
    from torchvision import models

    require_known_model(reference, models.list_models())
    options: dict[str, Any] = dict(reference.options)
    checkpoint = options.pop(WEIGHTS, None)
    builder = models.get_model_builder(reference.target)
    if "weights_backbone" in inspect.signature(builder).parameters:
        # By default the backbone's weights would be downloaded.
        options.setdefault("weights_backbone", None)
    model = builder(weights=None, **options).eval()
    if checkpoint is not None:
        notes += load_checkpoint(model, checkpoint)
    return LoadedModel(
        model,
        reference.text,
        brings_weights=checkpoint is not None,
        input_shape=(None, 3, None, None),
        notes=notes,
    )
