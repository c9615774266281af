"""Forward passes of PyTorch modules, whose tensors are captured by hooks."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from parity.errors import InputError, TableError
from parity.network import layouts
from parity.network.table import Row, parse_torch_point
from parity.runtimes.floors import TensorHook
from parity.runtimes.framework import ForwardResult
from parity.runtimes.torch import device as torch_device
from parity.runtimes.torch.weights import Array, find_submodule, to_numpy


def forward(model: nn.Module, x: Array, rows: Sequence[Row], hook: TensorHook) -> ForwardResult:
    """Run once on `x` (N, C, H, W), and call `hook` with the tensors of `rows`."""
    device, dtype = device_and_dtype(model)
    with torch.inference_mode(), capture_rows(model, rows, hook):
        tensor = torch.from_numpy(np.ascontiguousarray(x)).to(device, dtype)
        torch_device.synchronize(device)
        started = time.perf_counter()
        output = model(tensor)
        torch_device.synchronize(device)
        seconds = time.perf_counter() - started
    final = output.device if isinstance(output, torch.Tensor) else device
    return ForwardResult(seconds, str(final))


def compute_outputs(model: nn.Module, images: Array) -> Array:
    """Return the outputs of a model, in inference mode, on images (N, C, H, W)."""
    device, dtype = device_and_dtype(model)
    with torch.inference_mode():
        output = model(torch.from_numpy(images).to(device, dtype))
    if not isinstance(output, torch.Tensor):
        raise InputError(
            f"torch: the model returns a {type(output).__name__}, expected one tensor of scores"
        )
    return to_numpy(output)


def measure_batch_norm_inputs(
    model: nn.Module, rows: Sequence[Row], x: Array
) -> list[tuple[Row, Array, Array]]:
    """Return the mean and biased variance of the input of each batch-norm among `rows`.

    The batch-norm layers of `model` stay in training mode: each reads inputs that are normalised by
    the batch.
    """
    found: list[tuple[Row, Array, Array]] = []

    def measure(module: nn.Module, inputs: tuple[torch.Tensor, ...], row: Row) -> None:
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
        found.append((row, mean.numpy(), variance.numpy()))

    handles = []
    by_path = {parse_torch_point(r.torch).module: r for r in rows if r.kind == "batch_norm"}
    for path, row in by_path.items():
        layer = model.get_submodule(path).train()
        handles.append(
            layer.register_forward_pre_hook(
                lambda module, inputs, row=row: measure(module, inputs, row)
            )
        )
    with torch.inference_mode():
        model(torch.from_numpy(x))
    for handle in handles:
        handle.remove()
    return found


def device_and_dtype(model: nn.Module) -> tuple[torch.device, torch.dtype | None]:
    """Return the device and dtype of a model's floating numbers; no dtype if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), None


@contextmanager
def bypass_modules(model: nn.Module, paths: Sequence[str]) -> Iterator[None]:
    """While open, the modules at `paths` return their input."""
    handles = [
        find_submodule(model, path).register_forward_hook(lambda module, args, output: args[0])
        for path in paths
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def capture_rows(model: nn.Module, rows: Sequence[Row], hook: TensorHook) -> Iterator[None]:
    """While open, every forward pass calls `hook` with the tensors of `rows`, as they are computed.

    An array that `hook` returns replaces the tensor. A tensor is read inside the module's own hook:
    a later operation in place cannot change what is captured.
    Raises `TableError` for a missing module, and for a call that the model did not make.
    """
    recorder = _Recorder(rows, hook)
    handles = []
    for path in recorder.paths:
        module = find_submodule(model, path)
        handles.append(
            module.register_forward_pre_hook(
                lambda m, args, path=path: recorder.record_input(path, args)
            )
        )
        handles.append(
            module.register_forward_hook(
                lambda m, args, output, path=path: recorder.record_output(path, output)
            )
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    recorder.require_all()


class _Recorder:
    """Counts the calls of modules, calls a hook with the tensors of rows, and replaces the tensors
    by the arrays that it returns."""

    def __init__(self, rows: Sequence[Row], hook: TensorHook) -> None:
        self.rows = rows
        self.hook = hook
        self.paths: Mapping[str, dict[tuple[int, bool], list[Row]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for row in rows:
            point = parse_torch_point(row.torch)
            self.paths[point.module][point.call, point.is_input].append(row)
        self.calls: dict[str, int] = defaultdict(int)
        self.recorded: set[str] = set()

    def record_input(self, path: str, args: tuple[Any, ...]) -> Any:
        """Record a module's first argument; return the arguments that replace its own, if any."""
        replacement = self._record(path, True, args[0] if args else None)
        return None if replacement is None else (replacement, *args[1:])

    def record_output(self, path: str, output: Any) -> torch.Tensor | None:
        """Record a module's output; return the tensor that replaces it, if any."""
        replacement = self._record(path, False, output)
        self.calls[path] += 1
        return replacement

    def _record(self, path: str, is_input: bool, tensor: Any) -> torch.Tensor | None:
        replacement = None
        for row in self.paths[path].get((self.calls[path], is_input), ()):
            self.recorded.add(row.name)
            array = self.hook(row, to_row_array(tensor, row))
            if array is not None:
                replacement = torch.from_numpy(np.ascontiguousarray(array)).to(tensor)
                # A row leaves out trailing axes of length 1. Whatever else the module's shape is,
                # the layers that follow read the reference's.
                missing = tensor.ndim - replacement.ndim
                replacement = replacement.reshape(replacement.shape + (1,) * missing)
        return replacement

    def require_all(self) -> None:
        """Raise `TableError` for a row whose tensor was never computed."""
        for row in self.rows:
            if row.name not in self.recorded:
                raise TableError(f"{row.name}: the PyTorch model never called '{row.torch}'")


def to_row_array(tensor: Any, row: Row) -> Array:
    """Return a layer's tensor without the trailing axes of length 1 that its row leaves out.

    Raises `TableError` for anything but one tensor.
    """
    if not isinstance(tensor, torch.Tensor):
        raise TableError(
            f"{row.name}: '{row.torch}' gives a {type(tensor).__name__}, not one tensor"
        )
    array = to_numpy(tensor)
    return layouts.drop_axes(array, len(row.shape) + 1) if row.shape else array
