"""PyTorch's checkpoint files, read without running any code that they contain."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from parity import files
from parity.errors import WeightError
from parity.network import checkpoint_fit, weights
from parity.network.table import LayerTable
from parity.runtimes.torch.weights import Array, to_numpy
from parity.text import one_line, printable

_PLAIN_DTYPES = frozenset(
    {
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool),
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    }
)

_SIGNATURES = (b"PK\x03\x04", b"\x80")
"""The first bytes of a ZIP archive, and of a pickle of protocol 2 or newer (`torch.save` before
PyTorch 1.6)."""


def read(path: Path, table: LayerTable | None = None) -> tuple[dict[str, Array], Sequence[str]]:
    """Return the arrays of a `.pth` or `.pt` state dict by name, and notes for the user.

    With a `table` names, shapes and dtypes are checked before any values are read. Raises
    `WeightError` where `read_tensors` does, and for a checkpoint that does not fit.
    """
    tensors, notes = read_tensors(path)
    if table is not None:
        checkpoint_fit.require_fit(describe_types(tensors), table, source=str(path))
    return {name: to_numpy(tensor) for name, tensor in tensors.items()}, notes


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], Sequence[str]]:
    """Return the tensors of a state dict by name, and notes for the user.

    Those of a ZIP archive are mapped: their values are read when they are used. Raises
    `WeightError` for a file that is no checkpoint, is damaged, or has anything but dense tensors of
    plain numbers.
    """
    try:
        is_archive = _require_checkpoint(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except WeightError:
        raise
    except pickle.UnpicklingError as error:
        raise WeightError(
            f"{path}: refused: it holds more than tensors, and could run code; "
            "save model.state_dict() and nothing else"
        ) from error
    except Exception as error:
        # A damaged file makes the unpickler raise errors of any kind.
        reason = one_line(str(error), longest=160) or type(error).__name__
        raise WeightError(f"{path}: cannot be read as a PyTorch checkpoint: {reason}") from error
    state, notes = weights.unwrap_state_dict(content, source=str(path))
    for name, value in state.items():
        require_dense(value, f"{path}: {printable(name)}")
    return state, notes


def describe_types(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the dtype's name and the shape of each tensor."""
    return {name: (_dtype_name(each), tuple(each.shape)) for name, each in tensors.items()}


def require_dense(value: object, label: str) -> None:
    """Raise `WeightError` unless a value is a dense tensor of plain numbers, with values.

    One rule for every file format: floating numbers of 16, 32 and 64 bits, integers and truth
    values. Others have no one meaning as a weight.
    """
    if not isinstance(value, torch.Tensor):
        raise WeightError(f"{label}: expected a tensor, found a {type(value).__name__}")
    found = None
    if value.is_meta:
        found = "one on the meta device, which has no values"
    elif value.is_nested:
        found = "a nested one"
    elif value.is_quantized:
        found = "a quantised one; dequantise it"
    elif value.layout != torch.strided:
        found = f"one of the layout {str(value.layout).removeprefix('torch.')}; use to_dense()"
    elif value.dtype not in _PLAIN_DTYPES:
        found = f"one of {_dtype_name(value)}; save it in float32"
    if found is not None:
        raise WeightError(f"{label}: expected a dense tensor of plain numbers, found {found}")


def _dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _require_checkpoint(path: Path) -> bool:
    """Return whether a checkpoint is a ZIP archive; it may also be a pickle.

    Raises OSError, and `WeightError` for a file that does not begin as `torch.save` begins one, or
    whose members are compressed: `torch.save` compresses none, and few bytes can claim much memory.
    """
    with files.open_regular(path) as file:
        head = file.read(32)
        if head.startswith(_SIGNATURES):
            if not head.startswith(_SIGNATURES[0]):
                return False
            with zipfile.ZipFile(file) as archive:
                if all(each.compress_type == zipfile.ZIP_STORED for each in archive.infolist()):
                    return True
            raise WeightError(
                f"{path}: its members are compressed, as torch.save writes none; save it again"
            )
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
