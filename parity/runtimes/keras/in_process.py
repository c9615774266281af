"""A Keras model of the caller's own process: run unchanged, and cloned to measure its floor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from parity.errors import UsageError
from parity.network.table import Row, Weight
from parity.runtimes.floors import TensorHook
from parity.runtimes.keras import layers as keras_layers
from parity.runtimes.keras.run import index_rows_by_call, to_canonical, to_tensor
from parity.runtimes.keras.weights import find_weights
from parity.runtimes.outputs import bind_inputs, flatten_outputs

Array = NDArray[Any]


class InProcessModel:
    """Runs the caller's model in inference mode; only clones of it are changed."""

    def __init__(self, model: object) -> None:
        if not isinstance(model, keras.Model):
            raise UsageError(f"keras: expected a keras.Model, found {type(model).__name__}")
        self.model = model
        wrong = [v.path for v in model.variables if _is_float(v) and _dtype(v) != "float32"]
        if wrong:
            raise UsageError(f"keras: {wrong[0]} is not float32: the floor is that of float32")

    def read_values(self) -> dict[str, Array]:
        """Return copies of the floating variables by their index among the model's variables."""
        return {
            str(index): np.array(variable)
            for index, variable in enumerate(self.model.variables)
            if _is_float(variable)
        }

    def find_weights(self, row: Row) -> Iterable[Weight]:
        """Return the weights that the layer of a row has."""
        return find_weights(self.model, row)

    def build_replica(
        self, dtype: str
    ) -> tuple[keras.Model, Callable[[Mapping[str, Array]], None]]:
        """Return a clone of `dtype` with the same weights, and a function that sets its weights."""

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

        def set_weights(values: Mapping[str, Array]) -> None:
            for index, value in values.items():
                model.variables[int(index)].assign(value)

        return model, set_weights

    def compute_outputs(
        self, inputs: Mapping[str, Array], *, model: keras.Model | None = None
    ) -> dict[str, Array]:
        """Run once and return the outputs by name, images as (N, C, H, W).

        `inputs` are by the names of the model's inputs or of `call`'s arguments, or in their order.
        """
        model = self.model if model is None else model
        tensors = {n: _to_input(array) for n, array in inputs.items()}
        names = [each.name for each in getattr(model, "inputs", None) or ()]
        if names and len(names) == len(tensors):
            # A model of symbolic tensors takes one structure.
            by_name = set(names) == set(tensors)
            values = [tensors[n] for n in names] if by_name else list(tensors.values())
            structure = values[0] if len(values) == 1 else values
            if isinstance(getattr(model, "_inputs_struct", None), dict):
                structure = dict(zip(model._inputs_struct, values, strict=True))
            result = model(structure, training=False)
        else:
            positional, named = bind_inputs(model.call, tensors)
            result = model(*positional, **named)
        return {name: to_canonical(value) for name, value in flatten_outputs(result)}

    def forward(
        self, x: Array, rows: Sequence[Row], hook: TensorHook, *, model: keras.Model | None = None
    ) -> None:
        """Run once on `x` (N, C, H, W), and call `hook` with each row's tensor."""
        model = self.model if model is None else model
        data = to_tensor(x)
        row_of_call = index_rows_by_call(rows)

        def record(call: str, tensor: Any) -> Any:
            if call in row_of_call:
                hook(row_of_call[call], to_canonical(tensor))
            return tensor

        for call in row_of_call:
            keras_layers.find_tensor(model, call)
        keras_layers.run_layers(model, data, record)


def _to_input(array: Array) -> Any:
    # The axes of images are turned; ids have no channels.
    return to_tensor(array) if array.dtype.kind == "f" else keras.ops.convert_to_tensor(array)


def _is_float(variable: Any) -> bool:
    return "float" in _dtype(variable)


def _dtype(variable: Any) -> str:
    return str(keras.backend.standardize_dtype(variable.dtype))
