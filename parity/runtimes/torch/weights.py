"""The weights of PyTorch modules: found by a table's row, read, and written bit for bit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from parity.errors import TableError, WeightError
from parity.network import checkpoint_fit, kinds
from parity.network.table import Row, Weight, canonical_name, parse_torch_point

Array = NDArray[Any]

DTYPES = {"float32": torch.float32, "float64": torch.float64}

_COUNTER = "num_batches_tracked"


def find_submodule(model: nn.Module, path: str) -> nn.Module:
    """Return the module at a dotted path; raises `TableError`."""
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise TableError(f"the PyTorch model has no module '{path}'") from error


def find_weights(model: nn.Module, row: Row) -> Iterator[Weight]:
    """Yield the weights of a row's module; a sum without a module of its own has none."""
    if not row.torch or parse_torch_point(row.torch).is_input:
        return
    module = find_submodule(model, parse_torch_point(row.torch).module)
    tensors: dict[str, Any] = dict(module.named_parameters(recurse=False))
    tensors.update(module.named_buffers(recurse=False))
    for role in kinds.get(row.kind).roles:
        tensor = tensors.get(role.torch)
        if tensor is not None:
            yield Weight(role.name, canonical_name(row, role.name), role.keras, tuple(tensor.shape))


def read_weights(model: nn.Module, weights: Iterable[tuple[Row, Weight]]) -> dict[str, Array]:
    """Return float32 copies of weights by name; raises `TableError` for one that is missing."""
    state = model.state_dict()
    return {
        weight.name: to_numpy(_find_tensor(state, row, weight)).astype(np.float32)
        for row, weight in weights
    }


def write_weights(
    model: nn.Module,
    values: Mapping[str, Array],
    *,
    names: Collection[str],
    unlisted: Mapping[str, Array],
    dtype: torch.dtype = torch.float32,
    copy: bool = True,
) -> None:
    """Replace the weights `names` by their `values`, and the rest of the state by `unlisted`.

    Without `copy` the model may keep the arrays of `values`.
    """
    listed = {name: value for name, value in values.items() if name in names}
    tensors = {name: _to_tensor(value, dtype, copy=True) for name, value in unlisted.items()}
    tensors |= {name: _to_tensor(value, dtype, copy=copy) for name, value in listed.items()}
    _replace_state(model, tensors)


def _to_tensor(value: Array, dtype: torch.dtype, *, copy: bool) -> torch.Tensor:
    """Return an array as a tensor, which has the array's own memory only without `copy`."""
    # A tensor may be written to.
    own = value if value.flags.writeable else np.array(value)
    return torch.from_numpy(own).to(dtype, copy=copy)


def _replace_state(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Replace every parameter and buffer of `model`, and compare every bit.

    Batch counters, which no inference reads, become 0. Raises `WeightError` for other bits.
    """
    state = model.state_dict()
    for name in state:
        if name.endswith(_COUNTER):
            tensors.setdefault(name, torch.zeros((), dtype=torch.int64))
    model.load_state_dict(tensors, strict=True, assign=True)
    model.requires_grad_(False)
    state = model.state_dict()
    for name, tensor in tensors.items():
        bits = {4: torch.int32, 8: torch.int64}[tensor.element_size()]
        if not torch.equal(state[name].view(bits), tensor.view(bits)):
            raise WeightError(f"{name}: PyTorch holds other bits than it was given")


def unlisted_state(model: nn.Module, listed: Collection[str]) -> dict[str, Array]:
    """Return the state that no table row lists: a user's own model may have some."""
    return {
        name: to_numpy(tensor)
        for name, tensor in model.state_dict().items()
        if name not in listed and not name.endswith(_COUNTER) and not tensor.is_meta
    }


def to_numpy(tensor: torch.Tensor) -> Array:
    """Return a tensor's values on the CPU, bfloat16 as float32."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array: Array = tensor.cpu().contiguous().numpy()
    return array


def _find_tensor(state: Mapping[str, torch.Tensor], row: Row, weight: Weight) -> torch.Tensor:
    if weight.name not in state:
        path = parse_torch_point(row.torch).module
        siblings = [name for name in state if name.startswith(f"{path}.")]
        raise TableError(
            f"{row.name}/{weight.role}: the PyTorch model has no '{weight.name}'; "
            f"it has {checkpoint_fit.join_first(siblings) or f'no weights in {path!r}'}"
        )
    return state[weight.name]
