"""A PyTorch module of the caller's own process: run as it is, and copied to measure its floor."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from parity.errors import UsageError
from parity.network.table import Row, Weight
from parity.runtimes.floors import Sink
from parity.runtimes.torch.runtime import DTYPES, canonical, hooked, weights_of

Array = NDArray[Any]


class Live:
    """Runs copies, in inference mode on the CPU: the caller's module is not touched."""

    def __init__(self, module: object) -> None:
        if not isinstance(module, nn.Module):
            raise UsageError(f"torch: expected a torch.nn.Module, found {type(module).__name__}")
        self.module = module
        wrong = [name for name, value in _floating(module).items() if value.dtype != torch.float32]
        if wrong:
            raise UsageError(f"torch: {wrong[0]} is not float32: the floor is that of float32")

    def values(self) -> dict[str, Array]:
        """Every parameter and buffer that is a floating-point number, by its name."""
        return {
            name: np.array(value.detach().cpu().numpy())
            for name, value in _floating(self.module).items()
        }

    def weights_of(self, row: Row) -> Iterable[Weight]:
        """The weights of a row that this model has."""
        return weights_of(self.module, row)

    def replica(self, dtype: str) -> tuple[nn.Module, Callable[[Mapping[str, Array]], None]]:
        """A copy of `dtype` that holds the same weights, and what gives it others."""
        model = copy.deepcopy(self.module).to("cpu", DTYPES[dtype]).eval().requires_grad_(False)

        def assign(values: Mapping[str, Array]) -> None:
            with torch.no_grad():
                for name, held in _floating(model).items():
                    held.copy_(torch.from_numpy(values[name]))

        return model, assign

    def forward(
        self, x: Array, rows: Sequence[Row], sink: Sink, *, model: nn.Module | None = None
    ) -> float:
        """Run once on `x` (N, C, H, W) and hand each row's tensor to `sink`.

        A row that names no module is the output of the whole.
        """
        model = self.replica("float32")[0] if model is None else model
        data = torch.from_numpy(np.ascontiguousarray(x))
        if [row.torch for row in rows] == [""]:
            with torch.inference_mode():
                output = model(data)
            sink(rows[0], canonical(output, rows[0]))
            return 0.0
        with torch.inference_mode(), hooked(model, rows, sink):
            model(data)
        return 0.0


def _floating(module: nn.Module) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = module.state_dict()
    return {name: value for name, value in state.items() if value.is_floating_point()}
