"""The arguments of a module's forward: examples of any structure, and names and axes of tensors."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from exporters.errors import ExportError
from exporters.graph.samples import BATCH

Axes = Mapping[str, "Mapping[int, str] | Sequence[int]"]
"""By input, the axes whose size varies: {axis: name of the size}, or the axes alone."""

_ADVICE = (
    "pass a list with one item for each argument of forward: a tensor (axis 0 is the batch), or the"
    " shape of a float input without the batch, as in [(3, 224, 224)]"
)


@dataclass(frozen=True)
class Arguments:
    """The arguments of one call of forward.

    `leaves` are all leaves of (args, kwargs), of which `tensors` gives the positions that are
    tensors; `names` and `axes` describe those, in that order.
    """

    leaves: tuple[Any, ...]
    structure: pytree.TreeSpec
    tensors: tuple[int, ...]
    names: tuple[str, ...]
    axes: tuple[dict[int, str], ...]

    def with_tensors(
        self, tensors: Sequence[torch.Tensor]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return args and kwargs with other tensors."""
        leaves = list(self.leaves)
        for position, tensor in zip(self.tensors, tensors, strict=True):
            leaves[position] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self.structure)
        return tuple(args), dict(kwargs)

    def values(self) -> list[torch.Tensor]:
        """Return the tensors of the example."""
        return [self.leaves[position] for position in self.tensors]


def read_arguments(
    module: torch.nn.Module,
    example: object,
    kwargs: Mapping[str, object] | None = None,
    *,
    dynamic: Axes | None = None,
    fixed_batch: bool = False,
) -> Arguments:
    """Return the arguments that an example describes, on the module's device.

    Raises ExportError where it is no example of forward's arguments.
    """
    if not isinstance(module, torch.nn.Module):
        raise ExportError(
            f"expected a torch.nn.Module, found {type(module).__name__}; wrap a function in a"
            " module whose forward calls it"
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise ExportError(
            "a TorchScript module cannot be exported, since torch.export cannot trace it; export"
            " the module that it was made from, or a .pt2 of it"
        )
    device, dtype = _device_and_dtype(module)
    args, named = _positional_and_named(example, kwargs or {})
    args = [_to_tensors(item, f"item {i}", device, dtype) for i, item in enumerate(args)]
    named = {name: _to_tensors(item, name, device, dtype) for name, item in named.items()}
    signature = inspect.signature(module.forward)
    try:
        bound = signature.bind(*args, **named)
    except TypeError as error:
        raise ExportError(
            f"the example does not fit {type(module).__name__}.forward{signature}: {error};"
            f" {_ADVICE}"
        ) from error
    # torch.export orders keyword arguments as forward does.
    order = {name: index for index, name in enumerate(signature.parameters)}
    named = dict(sorted(named.items(), key=lambda item: order.get(item[0], len(order))))
    paths, structure = pytree.tree_flatten_with_path((tuple(args), named))
    tensors = [i for i, (_, leaf) in enumerate(paths) if isinstance(leaf, torch.Tensor)]
    if not tensors:
        raise ExportError(
            f"the example has no tensor, so that the file would have no input; {_ADVICE}"
        )
    positional = _positional_names(signature, len(args))
    names = _make_unique([_name_argument(paths[i][0], positional) for i in tensors])
    leaves = [leaf for _, leaf in paths]
    axes = _read_axes(dynamic, names, [leaves[i] for i in tensors], fixed_batch)
    del bound
    for position, varying in zip(tensors, axes, strict=True):
        leaves[position] = _with_two_samples(leaves[position], varying)
    return Arguments(tuple(leaves), structure, tuple(tensors), tuple(names), tuple(axes))


def _positional_and_named(
    example: object, kwargs: Mapping[str, object]
) -> tuple[list[object], dict[str, object]]:
    if isinstance(example, torch.Tensor | np.ndarray):
        return [example], dict(kwargs)
    if isinstance(example, Mapping):
        return [], {**example, **kwargs}
    if example is None and kwargs:
        return [], dict(kwargs)
    if isinstance(example, Sequence) and not isinstance(example, str | bytes):
        if example and _is_shape(tuple(example)):
            raise ExportError(
                f"example: {tuple(example)} is one shape; write [{tuple(example)}] for a module of"
                " one input"
            )
        return list(example), dict(kwargs)
    raise ExportError(f"example: found {_describe_item(example)}; {_ADVICE}")


def _describe_item(item: object) -> str:
    text = repr(item)
    return f"{type(item).__name__} {text}" if len(text) < 60 else type(item).__name__


def _is_shape(item: object) -> bool:
    return isinstance(item, tuple) and all(
        isinstance(size, int) and not isinstance(size, bool) for size in item
    )


def _device_and_dtype(module: torch.nn.Module) -> tuple[torch.device, torch.dtype]:
    tensors = [*module.parameters(), *module.buffers()]
    floating = [tensor.dtype for tensor in tensors if tensor.dtype.is_floating_point]
    device = tensors[0].device if tensors else torch.device("cpu")
    return device, floating[0] if floating else torch.float32


def _to_tensors(item: Any, where: str, device: torch.device, dtype: torch.dtype) -> Any:
    """Turn shapes and arrays within a structure to tensors on the module's device."""
    if isinstance(item, torch.Tensor):
        return item.detach().to(device)
    if isinstance(item, np.ndarray):
        try:
            return torch.from_numpy(np.ascontiguousarray(item)).to(device)
        except TypeError as error:
            raise ExportError(f"{where}: {error}") from error
    if _is_shape(item):
        if any(size < 0 for size in item):
            raise ExportError(f"{where}: the shape {item} has a negative size")
        return torch.zeros((2, *item), dtype=dtype, device=device)
    if isinstance(item, Mapping):
        inner = {k: _to_tensors(v, f"{where}[{k!r}]", device, dtype) for k, v in item.items()}
        return (
            inner
            if type(item) is not dict and not hasattr(item, "copy")
            else _restore_type(item, inner)
        )
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*(_to_tensors(v, where, device, dtype) for v in item))
    if isinstance(item, list | tuple):
        inner_items = [_to_tensors(v, f"{where}[{i}]", device, dtype) for i, v in enumerate(item)]
        return type(item)(inner_items)
    if item is None or isinstance(item, bool | int | float | str | torch.dtype | torch.device):
        return item
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return item
    raise ExportError(f"{where} of the example: found {_describe_item(item)}; {_ADVICE}")


def _restore_type(item: Mapping[Any, Any], inner: dict[Any, Any]) -> Any:
    if type(item) is dict:
        return inner
    try:
        return type(item)(inner)  # type: ignore[call-arg]
    except TypeError:
        return inner


def _positional_names(signature: inspect.Signature, count: int) -> list[str]:
    """Return a name for each positional argument; those of *args are numbered."""
    names: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = count - len(names)
            names += (
                [f"{parameter.name}_{i}" for i in range(rest)] if rest > 1 else [parameter.name]
            )
            break
        names.append(parameter.name)
    return names


def _name_argument(path: Sequence[Any], positional: Sequence[str]) -> str:
    """Return an argument's name, or the keys inside it: `x`, `mask`, `state_0`."""
    keys = [_read_key(part) for part in path[1:]]
    first = positional[keys[0]] if isinstance(keys[0], int) else str(keys[0])
    inner = keys[1:]
    if inner and isinstance(inner[0], str):
        return "_".join(map(str, inner))
    return "_".join(map(str, [first, *inner]))


def _read_key(part: Any) -> Any:
    for attribute in ("idx", "key", "name"):
        if hasattr(part, attribute):
            return getattr(part, attribute)
    return str(part)


def _make_unique(names: Sequence[str]) -> list[str]:
    used: set[str] = set()
    result = []
    for name in names:
        candidate, number = name, 1
        while candidate in used:
            candidate, number = f"{name}_{number}", number + 1
        used.add(candidate)
        result.append(candidate)
    return result


def _read_axes(
    dynamic: Axes | None,
    names: Sequence[str],
    tensors: Sequence[torch.Tensor],
    fixed_batch: bool,
) -> list[dict[int, str]]:
    """Return the varying axes of each tensor: axis 0 is the batch where nothing else is said."""
    dynamic = dynamic or {}
    if not isinstance(dynamic, Mapping):
        raise ExportError(
            f"dynamic: found {_describe_item(dynamic)}; pass {{input: {{axis: name of its size}}}}"
        )
    unknown = sorted(str(name) for name in dynamic if name not in names)
    if unknown:
        raise ExportError(
            f"dynamic: no input is called {', '.join(unknown)}; there are {', '.join(names)}"
        )
    result = []
    for name, tensor in zip(names, tensors, strict=True):
        given = dynamic.get(name)
        if given is None:
            axes = {} if fixed_batch or not tensor.ndim else {0: BATCH}
        elif isinstance(given, Mapping):
            axes = {int(axis): str(size) for axis, size in given.items()}
        else:
            axes = {int(axis): BATCH if axis == 0 else f"{name}_{axis}" for axis in given}
        for axis in axes:
            if not -tensor.ndim <= axis < tensor.ndim:
                raise ExportError(f"dynamic: {name!r} has {tensor.ndim} axes, no axis {axis}")
        result.append({axis % tensor.ndim: size for axis, size in axes.items()})
    return result


def _with_two_samples(tensor: torch.Tensor, axes: Mapping[int, str]) -> torch.Tensor:
    """Repeat a batch of one: torch.export takes a size of one as fixed."""
    for axis in axes:
        if tensor.shape[axis] == 1:
            tensor = torch.cat([tensor, tensor], axis)
        elif tensor.shape[axis] == 0:
            raise ExportError("the example has an empty batch: give it one sample at least")
    return tensor


def flatten_outputs(result: Any) -> tuple[list[str], list[torch.Tensor]]:
    """Return the tensors of a module's result, and names: keys and fields, or numbers.

    One tensor alone is "output", of a tuple "output_0", …; what is no tensor is left out.
    """
    found: list[tuple[tuple[Any, ...], torch.Tensor]] = []
    _collect_tensors(result, (), found)
    names = []
    for path, _ in found:
        if not path:
            names.append("output")
        elif isinstance(path[0], str):
            names.append("_".join(map(str, path)))
        else:
            names.append("_".join(map(str, ("output", *path))))
    if names == ["output_0"]:
        names = ["output"]
    return _make_unique(names), [tensor for _, tensor in found]


def _collect_tensors(
    item: Any, path: tuple[Any, ...], found: list[tuple[tuple[Any, ...], torch.Tensor]]
) -> None:
    if isinstance(item, torch.Tensor):
        found.append((path, item))
    elif isinstance(item, Mapping):
        for key, value in item.items():
            _collect_tensors(value, (*path, str(key)), found)
    elif isinstance(item, tuple) and hasattr(item, "_fields"):
        for name, value in zip(item._fields, item, strict=True):
            _collect_tensors(value, (*path, name), found)
    elif dataclasses.is_dataclass(item) and not isinstance(item, type):
        for part in dataclasses.fields(item):
            _collect_tensors(getattr(item, part.name), (*path, part.name), found)
    elif isinstance(item, list | tuple):
        for index, value in enumerate(item):
            _collect_tensors(value, (*path, index), found)
    elif item is not None and not isinstance(item, bool | int | float | str):
        leaves = pytree.tree_leaves(item)
        if leaves == [item]:
            raise ExportError(
                f"the module returns {_describe_item(item)}: only tensors, and tuples, lists, dicts"
                " and dataclasses of tensors can be outputs"
            )
        for index, value in enumerate(leaves):
            _collect_tensors(value, (*path, index), found)
