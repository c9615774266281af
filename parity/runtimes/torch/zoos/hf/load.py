"""Models in local transformers folders: safetensors alone, no remote code, no download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from parity.errors import UsageError, WeightError
from parity.network import checkpoint_fit
from parity.processes.model_files import TRANSFORMERS_CONFIG
from parity.processes.references import WEIGHTS, ModelReference
from parity.runtimes.loaded import LoadedModel
from parity.runtimes.torch.torchvision_shim import import_torchvision
from parity.text import quote

_FIXED = (
    "trust_remote_code", "local_files_only", "use_safetensors", "code_revision", "revision",
    "subfolder", "cache_dir", "force_download", "token",
)  # fmt: skip
"""Options of `from_pretrained` that decide what is read and run."""


def load(reference: ModelReference) -> LoadedModel:
    """Load `hf:FOLDER` in float32, as the class that its configuration names.

    Options are those of `from_pretrained`: fields of the configuration, `attn_implementation`.
    """
    folder = Path(reference.target).expanduser()
    options: dict[str, Any] = {"dtype": torch.float32, **reference.options}
    for name in (*_FIXED, WEIGHTS):
        if name in options:
            raise UsageError(f"{quote(reference.text)}: the option {quote(name)} is not taken")
    architecture = _read_architecture(reference, folder)
    notes = import_torchvision()
    import transformers

    model_class: Any = getattr(transformers, architecture or "AutoModel", None)
    if model_class is None:
        raise UsageError(
            f"{quote(reference.text)}: transformers {transformers.__version__} has no "
            f"{quote(architecture)}, which the folder's configuration names"
        )
    transformers.utils.logging.disable_progress_bar()
    model, found = model_class.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
        **options,
    )
    missing = sorted(found["missing_keys"])
    if missing:
        raise WeightError(f"{folder}: lacks {checkpoint_fit.join_first(missing)}")
    return LoadedModel(model.eval(), reference.text, brings_weights=True, notes=notes)


def _read_architecture(reference: ModelReference, folder: Path) -> str | None:
    """Return the class that the configuration names; raises `UsageError` for remote code."""
    try:
        config = json.loads((folder / TRANSFORMERS_CONFIG).read_text(encoding="utf-8"))
        names = list(config.get("architectures") or [])
        remote = config.get("auto_map")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UsageError(
            f"{quote(reference.text)}: {TRANSFORMERS_CONFIG} cannot be read: {error}"
        ) from error
    if remote:
        raise UsageError(
            f"{quote(reference.text)}: the model is code in the folder (auto_map), which is never "
            "run; import it yourself: file.py:NAME"
        )
    if not any(folder.glob("*.safetensors")):
        raise UsageError(
            f"{quote(reference.text)}: the folder has no .safetensors; pickled weights are not "
            "loaded: save_pretrained(..., safe_serialization=True)"
        )
    return names[0] if names else None
