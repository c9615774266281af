"""Models in local transformers folders: safetensors alone, no remote code, no download."""

from __future__ import annotations

import json
from collections.abc import Mapping
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

_REFUSED_OPTIONS = (
    "trust_remote_code", "local_files_only", "use_safetensors", "code_revision", "revision",
    "subfolder", "cache_dir", "force_download", "token",
)  # fmt: skip
"""Options of `from_pretrained` that decide which files are read and which code is run."""


def load(reference: ModelReference) -> LoadedModel:
    """Load `hf:FOLDER` in float32, as the class that its configuration names.

    Other options go to `from_pretrained`, for example configuration fields or
    `attn_implementation`.
    """
    folder = Path(reference.target).expanduser()
    options: dict[str, Any] = {"dtype": torch.float32, **reference.options}
    for name in (*_REFUSED_OPTIONS, WEIGHTS):
        if name in options:
            raise UsageError(f"{quote(reference.text)}: the option {quote(name)} is not supported")
    config = _read_config(reference, folder)
    class_name = _read_class_name(reference, config)
    _require_loadable(reference, folder, config)
    notes = import_torchvision()
    import transformers

    model_class: Any = getattr(transformers, class_name or "AutoModel", None)
    if model_class is None:
        raise UsageError(
            f"{quote(reference.text)}: transformers {transformers.__version__} has no "
            f"{quote(class_name)}, which the folder's configuration names"
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


def _read_config(reference: ModelReference, folder: Path) -> dict[str, Any]:
    """Return the folder's configuration. Raises `UsageError` for one that cannot be read."""
    try:
        config = json.loads((folder / TRANSFORMERS_CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"expected an object, found {type(config).__name__}")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{quote(reference.text)}: {TRANSFORMERS_CONFIG} cannot be read: {error}"
        ) from error
    return config


def _read_class_name(reference: ModelReference, config: Mapping[str, Any]) -> str | None:
    """Return the first class that the configuration names, None if it names none."""
    names = config.get("architectures") or []
    if not isinstance(names, list) or not isinstance(next(iter(names), ""), str):
        raise UsageError(
            f"{quote(reference.text)}: {TRANSFORMERS_CONFIG} cannot be read: architectures: "
            f"expected a list of strings, found {quote(str(names))}"
        )
    return names[0] if names else None


def _require_loadable(reference: ModelReference, folder: Path, config: Mapping[str, Any]) -> None:
    """Raise `UsageError` if the model needs code in the folder, or has no safetensors."""
    if config.get("auto_map"):
        raise UsageError(
            f"{quote(reference.text)}: the model is code in the folder (auto_map), which is never "
            "run; import it yourself: file.py:NAME"
        )
    if not any(folder.glob("*.safetensors")):
        raise UsageError(
            f"{quote(reference.text)}: the folder has no .safetensors; pickled weights are not "
            "loaded: save_pretrained(..., safe_serialization=True)"
        )
