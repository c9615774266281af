"""Loads a local transformers folder: safetensors alone, no remote code, nothing downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from parity.errors import UsageError

import transformers  # isort: skip


def load(folder: str, options: Mapping[str, Any]) -> nn.Module:
    """Return the model of a folder, of the class that its config.json names."""
    path = Path(folder).expanduser()
    try:
        config = transformers.AutoConfig.from_pretrained(
            path, local_files_only=True, trust_remote_code=False
        )
        names = config.architectures or []
        kind = getattr(transformers, names[0], None) if names else None
        kind = kind or transformers.AutoModel
        model: nn.Module = kind.from_pretrained(
            path, local_files_only=True, use_safetensors=True, **options
        )
    except (OSError, TypeError, ValueError, KeyError) as error:
        lines = str(error).strip().splitlines()
        raise UsageError(f"hf:{folder}: {lines[0] if lines else type(error).__name__}") from error
    return model
