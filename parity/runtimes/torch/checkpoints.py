"""PyTorch's checkpoint files, read without running any code that they contain."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parity import files
from parity.errors import WeightError
from parity.network import checkpoint_fit, weights
from parity.network.table import LayerTable
from parity.runtimes.torch.weights import Array, to_numpy

_SIGNATURES = (b"PK\x03\x04", b"\x80")
"""The first bytes of a ZIP archive, and of a pickle of protocol 2 or newer (`torch.save` before
PyTorch 1.6)."""


def read(path: Path) -> tuple[dict[str, Array], Sequence[str]]:
    """Return the tensors of a `.pth` or `.pt` state dict by name, and notes for the user.

    Raises `WeightError` for a file that is no checkpoint, is damaged, or has anything but tensors.
    """
    try:
        _require_checkpoint(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except WeightError:
        raise
    except pickle.UnpicklingError as error:
        raise WeightError(
            f"{path}: refused: it holds more than tensors, and could run code; "
            "save model.state_dict() and nothing else"
        ) from error
    except Exception as error:
        # A damaged file makes the unpickler raise errors of any kind.
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise WeightError(f"{path}: cannot be read as a PyTorch checkpoint: {reason}") from error
    state, notes = weights.unwrap_state_dict(content, source=str(path))
    return {
        name: _tensor_to_numpy(value, f"{path}: {name}") for name, value in state.items()
    }, notes


def _require_checkpoint(path: Path) -> None:
    """Raise `WeightError` for a file that does not begin as `torch.save` begins one."""
    with files.open_regular(path) as file:
        head = file.read(32)
    if not head.startswith(_SIGNATURES):
        found = f"a file that begins with {head!r}" if head else "an empty file"
        raise WeightError(
            f"{path}: no PyTorch checkpoint: expected a ZIP archive or a pickle, found {found}; "
            "save model.state_dict() with torch.save"
        )


def save(
    values: Mapping[str, Array], path: Path, *, table: LayerTable, order: Iterable[str]
) -> None:
    """Write canonical weights, and the table's batch counters as 0, as a state dict in `order`."""
    counters = {
        name: torch.zeros((), dtype=torch.int64) for name in checkpoint_fit.batch_counters(table)
    }
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in values.items()}
    state = {**counters, **tensors}
    torch.save({name: state[name] for name in order}, path)


def _tensor_to_numpy(value: Any, label: str) -> Array:
    if not isinstance(value, torch.Tensor):
        raise WeightError(f"{label}: expected a tensor, found a {type(value).__name__}")
    return to_numpy(value)
