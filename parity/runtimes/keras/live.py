"""A Keras model of the caller's own process: run as it is, and cloned to measure its floor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from parity.errors import UsageError
from parity.network import layouts
from parity.network.table import Row, Weight
from parity.runtimes.base import Array
from parity.runtimes.floors import Sink
from parity.runtimes.keras import layers as keras_layers
from parity.runtimes.keras.runtime import canonical, weights_of


class Live:
    """Runs the caller's model in inference mode; what is changed is a clone."""

    def __init__(self, model: object) -> None:
        if not isinstance(model, keras.Model):
            raise UsageError(f"keras: expected a keras.Model, found {type(model).__name__}")
        self.model = model
        wrong = [v.path for v in model.variables if _is_float(v) and _dtype(v) != "float32"]
        if wrong:
            raise UsageError(f"keras: {wrong[0]} is not float32: the floor is that of float32")

    def values(self) -> dict[str, Array]:
        """Every floating-point variable by its place among the model's variables."""
        return {
            str(index): np.array(variable)
            for index, variable in enumerate(self.model.variables)
            if _is_float(variable)
        }

    def weights_of(self, row: Row) -> Iterable[Weight]:
        """The weights of a row that this model has."""
        return weights_of(self.model, row)

    def replica(self, dtype: str) -> tuple[keras.Model, Callable[[Mapping[str, Array]], None]]:
        """A clone of `dtype` that holds the same weights, and what gives it others."""

        def clone(layer: Any) -> Any:
            return type(layer).from_config({**layer.get_config(), "dtype": dtype})

        try:
            keras_layers.nodes_of(self.model)
            model = keras.models.clone_model(self.model, clone_function=clone, recursive=True)
            model.set_weights(self.model.get_weights())
        except Exception as error:
            raise UsageError(
                f"keras: the model cannot be cloned in {dtype}, which the reference needs: "
                f"{' '.join(str(error).split())}; give torch=, which is then the reference"
            ) from error

        def assign(values: Mapping[str, Array]) -> None:
            for index, value in values.items():
                model.variables[int(index)].assign(value)

        return model, assign

    def forward(
        self, x: Array, rows: Sequence[Row], sink: Sink, *, model: keras.Model | None = None
    ) -> float:
        """Run once on `x` (N, C, H, W) and hand each row's tensor to `sink`.

        A row that names no layer is the model's output, which any model has.
        """
        model = self.model if model is None else model
        data = keras.ops.convert_to_tensor(np.ascontiguousarray(layouts.to_nhwc(x)))
        wanted = {row.keras.removesuffix("#0"): row for row in rows}

        def seen(reference: str, tensor: Any) -> Any:
            if reference in wanted:
                sink(wanted[reference], canonical(tensor))
            return tensor

        if list(wanted) == [""]:
            output = model(data, training=False)
            if isinstance(output, (list, tuple, dict)):
                raise UsageError(
                    f"keras: the model gives a {type(output).__name__}, not one tensor"
                )
            seen("", output)
        else:
            for reference in wanted:
                keras_layers.tensor(model, reference)
            keras_layers.walk(model, data, seen)
        return 0.0


def _is_float(variable: Any) -> bool:
    return "float" in _dtype(variable)


def _dtype(variable: Any) -> str:
    return str(keras.backend.standardize_dtype(variable.dtype))
