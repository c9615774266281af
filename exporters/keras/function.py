"""A Keras model as a function of arrays, which an exported file is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from exporters.graph.model import Array
from exporters.graph.verification import ModelFunction, perturb
from exporters.keras import structures
from exporters.keras.arguments import Arguments, arrange, result_names
from exporters.keras.calls import eager_functions, move_channels
from exporters.silence import silence_logging


def to_function(
    model: keras.Model,
    arguments: Arguments,
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    channels_first: bool = False,
) -> ModelFunction:
    """Return the model as a function of arrays in the graph's layout and order, on the CPU.

    `inputs` and `outputs` are the names in the graph, which give the order (`arrange`).
    """
    _, input_order = arrange(arguments.names, inputs, "inputs", model)

    def run(arrays: Sequence[Array], *, seed: int | None = None) -> list[Array]:
        # Eagerly for speed: XLA would compile each grouped convolution anew for each batch size.
        with silence_logging(), eager_functions(), tf.device("/CPU:0"):
            by_index = dict(zip(input_order, arrays, strict=True))
            tensors = [tf.constant(by_index[index]) for index in range(len(by_index))]
            if channels_first:
                tensors = [move_channels(tensor, first=False) for tensor in tensors]
            if seed is None:
                results = arguments.call(model, tensors)
            else:
                mapping = [
                    (v, tf.constant(perturb(np.asarray(v.value.numpy()), seed=seed, index=i)))
                    for i, v in enumerate(model.variables)
                ]
                with keras.StatelessScope(mapping):
                    results = arguments.call(model, tensors)
            _, order = arrange(result_names(model, results), outputs, "outputs", model)
            flat = [tf.convert_to_tensor(leaf) for leaf in structures.flatten(results)]
            if channels_first:
                flat = [move_channels(tensor, first=True) for tensor in flat]
            return [np.asarray(flat[index]) for index in order]

    return run
