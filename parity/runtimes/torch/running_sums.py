"""Steps whose sums over a batch and its positions are running sums in float32.

The gradient of a bias is the sum of what flows back into its layer; batch-norm sums the values and
the gradients of a channel, and subtracts their means. Behind a mean over a map, what flows back is
one number for all positions of a sample: every addition then rounds to the same side, and the error
of a running sum grows with the number of its terms, not with the root of it. Frameworks that sum in
blocks hardly show this; those that sum one by one do. Both are rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from parity.runtimes.torch.weights import to_numpy

Array = NDArray[Any]

_SAME = 1e-3
"""The relative distance within which a sum of output gradients is a parameter's gradient."""


class RunningSumBatchNorms(TorchFunctionMode):
    """While entered, batch-norms in training mode add up their sums term by term, in float32.

    Ioffe & Szegedy, "Batch normalization", 2015, has the formulas of both passes.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func is not functional.batch_norm:
            return func(*args, **options)
        given = dict(zip(_BATCH_NORM_ARGUMENTS, args, strict=False)) | options
        if not given.get("training", False) or given["input"].dtype != torch.float32:
            return func(*args, **options)
        arguments: dict[str, Any] = {name: given.get(name) for name in _BATCH_NORM_ARGUMENTS}
        return _normalize(**arguments)


_BATCH_NORM_ARGUMENTS = (
    "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"
)  # fmt: skip
"""Those of `torch.nn.functional.batch_norm`, in its order."""


def _normalize(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float | None,
    eps: float | None,
) -> Tensor:
    """Return the normalized (N, C, …), and move the statistics as `batch_norm` does."""
    normalized: Tensor
    normalized, mean, variance = _RunningSumNormalization.apply(
        input, weight, bias, 1e-5 if eps is None else eps
    )
    keep = 0.1 if momentum is None else momentum
    count = input.numel() // input.shape[1]
    with torch.no_grad():
        if running_mean is not None and running_var is not None:
            running_mean.mul_(1 - keep).add_(mean, alpha=keep)
            running_var.mul_(1 - keep).add_(variance, alpha=keep * count / max(count - 1, 1))
    return normalized


class _RunningSumNormalization(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Any, bias: Any, eps: float) -> Any:
        count, shape = x.numel() // x.shape[1], (1, -1, *(1,) * (x.dim() - 2))
        mean = _run_sum(x) / count
        centered = x - mean.view(shape)
        variance = _run_sum(centered * centered) / count
        deviation = torch.sqrt(variance + eps).view(shape)
        normalized = centered / deviation
        ctx.save_for_backward(normalized, deviation, weight)
        ctx.has_bias = bias is not None
        ctx.mark_non_differentiable(mean, variance)
        result = normalized if weight is None else normalized * weight.view(shape)
        return result if bias is None else result + bias.view(shape), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        gradient = gradients[0]
        normalized, deviation, weight = ctx.saved_tensors
        count, shape = gradient.numel() // gradient.shape[1], deviation.shape
        total, moment = _run_sum(gradient), _run_sum(gradient * normalized)
        mean, projection = (total / count).view(shape), (moment / count).view(shape)
        back = (gradient - mean - normalized * projection) / deviation
        if weight is not None:
            back = back * weight.view(shape)
        return back, None if weight is None else moment, total if ctx.has_bias else None, None


def _run_sum(x: Tensor) -> Tensor:
    """Return the running sums (C,) of (N, C, …) over all other axes."""
    return torch.from_numpy(_add_rows(_to_rows(x.detach(), 1)))


class BiasSums:
    """Running sums of the gradients of the outputs of a model's layers, while `enabled`."""

    def __init__(self, model: nn.Module) -> None:
        self.enabled = False
        self._sums: dict[str, list[tuple[Array, Array]]] = {}
        for path, module in model.named_modules():
            names = {
                f"{path}.{name}" if path else name: len(parameter)
                for name, parameter in module.named_parameters(recurse=False)
                if parameter.dim() == 1
            }
            if names:
                module.register_forward_hook(self._watch(names))

    def enable(self, enabled: bool) -> None:
        """Sum in the next passes, or no longer; discard the sums that were not measured."""
        self.enabled = enabled
        self._sums = {}

    def _watch(self, lengths: Mapping[str, int]) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if self.enabled and isinstance(output, Tensor) and output.requires_grad:
                # A hook of the tensor sees the gradient before any later change in place.
                output.register_hook(lambda gradient: self._sum(lengths, gradient))

        return hook

    def _sum(self, lengths: Mapping[str, int], gradient: Tensor) -> None:
        axes = {1, gradient.dim() - 1} if gradient.dim() > 1 else {0}
        for axis in axes:
            wanted = [name for name, length in lengths.items() if gradient.shape[axis] == length]
            if wanted:
                sums = _sum_rows(gradient.detach(), axis)
                for name in wanted:
                    self._sums.setdefault(name, []).append(sums)

    def measure_errors(
        self, gradients: Mapping[str, Tensor], micro_batches: int = 1
    ) -> dict[str, float]:
        """Return the relative L2 error of each bias's running sum, by its name; discard the sums.

        `gradients` are those of the parameters, added over so many backward passes. A parameter
        whose gradient is none of the sums (a scale, or a layer that was called twice) is left out.
        """
        found = {}
        for name, sums in self._sums.items():
            if name not in gradients or len(sums) % micro_batches:
                continue
            gradient = to_numpy(gradients[name]).astype(np.float64)
            norm = float(np.linalg.norm(gradient))
            each = len(sums) // micro_batches
            for place in range(each):
                exact, running = np.sum(sums[place::each], axis=0)
                if norm and np.linalg.norm(exact - gradient) <= _SAME * norm:
                    found[name] = float(np.linalg.norm(running - exact)) / norm
        self._sums = {}
        return found


def _sum_rows(gradient: Tensor, axis: int) -> tuple[Array, Array]:
    """Return the sums over all axes but one, in float64, and one by one in float32."""
    rows = _to_rows(gradient, axis)
    return rows.sum(0, dtype=np.float64), _add_rows(rows).astype(np.float64)


def _to_rows(x: Tensor, axis: int) -> Array:
    """Return (terms, length of the axis) in float32."""
    return to_numpy(x.to(torch.float32).movedim(axis, -1).reshape(-1, x.shape[axis]))


def _add_rows(rows: Array) -> Array:
    """Return the sum of the rows of (terms, n), added term by term in float32."""
    # NumPy adds whole rows one after the other, but the numbers of a single column in blocks.
    if rows.shape[1] > 1 and rows.flags.c_contiguous:
        return np.asarray(np.add.reduce(rows, axis=0))
    return np.asarray(np.add.accumulate(rows, axis=0)[-1])
