"""A PyTorch module of the caller's own process: run unchanged, and copied to measure its floor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from parity.errors import UsageError
from parity.network.table import Row, Weight
from parity.runtimes.floors import TensorHook
from parity.runtimes.outputs import bind_inputs, flatten_outputs
from parity.runtimes.torch.replicas import copy_to_precision
from parity.runtimes.torch.run import capture_rows
from parity.runtimes.torch.weights import find_weights, to_numpy

Array = NDArray[Any]


class InProcessModel:
    """Runs copies of a module in inference mode on the CPU; the caller's own is not changed."""

    def __init__(self, module: object) -> None:
        if not isinstance(module, nn.Module):
            raise UsageError(f"torch: expected a torch.nn.Module, found {type(module).__name__}")
        self.module = module
        wrong = [name for name, value in _floating(module).items() if value.dtype != torch.float32]
        if wrong:
            raise UsageError(f"torch: {wrong[0]} is not float32: the floor is that of float32")

    def read_values(self) -> dict[str, Array]:
        """Return copies of the floating parameters and buffers by name."""
        return {
            name: np.array(value.detach().cpu().numpy())
            for name, value in _floating(self.module).items()
        }

    def find_weights(self, row: Row) -> Iterable[Weight]:
        """Return the weights that the layer of a row has."""
        return find_weights(self.module, row)

    def build_replica(self, dtype: str) -> tuple[nn.Module, Callable[[Mapping[str, Array]], None]]:
        """Return a copy of `dtype` with the same weights, and a function that sets its weights."""
        # A module's own cast would drop the imaginary parts of complex weights.
        model = copy_to_precision(self.module, dtype, "cpu").eval().requires_grad_(False)

        def set_weights(values: Mapping[str, Array]) -> None:
            with torch.no_grad():
                for name, tensor in _floating(model).items():
                    tensor.copy_(torch.from_numpy(values[name]))

        return model, set_weights

    def compute_outputs(
        self, inputs: Mapping[str, Array], *, model: nn.Module | None = None
    ) -> dict[str, Array]:
        """Run once and return the outputs by name; raises `UsageError` for one that is no tensor.

        `inputs` are by the names of `forward`'s arguments, or in their order.
        """
        model = self.build_replica("float32")[0] if model is None else model
        tensors = {n: torch.from_numpy(np.array(array)) for n, array in inputs.items()}
        positional, named = bind_inputs(model.forward, tensors)
        with torch.inference_mode():
            outputs = dict(flatten_outputs(model(*positional, **named)))
        for name, value in outputs.items():
            if not isinstance(value, torch.Tensor):
                raise UsageError(f"torch: the {name} is a {type(value).__name__}, not a tensor")
        return {name: to_numpy(value) for name, value in outputs.items()}

    def forward(
        self, x: Array, rows: Sequence[Row], hook: TensorHook, *, model: nn.Module | None = None
    ) -> None:
        """Run once on `x` (N, C, H, W), and call `hook` with each row's tensor."""
        model = self.build_replica("float32")[0] if model is None else model
        data = torch.from_numpy(np.ascontiguousarray(x))
        with torch.inference_mode(), capture_rows(model, rows, hook):
            model(data)


def _floating(module: nn.Module) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = module.state_dict()
    return {name: value for name, value in state.items() if value.is_floating_point()}
