"""A Keras model as a function of arrays, which an exported file is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from exporters.graph.model import Array
from exporters.graph.verification import ModelFunction, perturb
from exporters.keras.calls import (
    call_arguments,
    eager_functions,
    inference_keywords,
    move_channels,
)
from exporters.silence import silence_logging


def to_function(model: keras.Model, channels_first: bool) -> ModelFunction:
    """Return the model as a function of arrays in the graph's layout, on the CPU."""
    variables = {"trainable": model.trainable_variables, "other": model.non_trainable_variables}

    def run(inputs: Sequence[Array], *, seed: int | None = None) -> list[Array]:
        # Eagerly for speed: XLA would compile each grouped convolution anew for each batch size.
        with silence_logging(), eager_functions(), tf.device("/CPU:0"):
            tensors = [tf.constant(array) for array in inputs]
            if channels_first:
                tensors = [move_channels(tensor, first=False) for tensor in tensors]
            arguments = call_arguments(model, tensors)
            if seed is None:
                results = model(*arguments, **inference_keywords(model))
            else:
                trainable, other = (
                    [
                        tf.constant(perturb(np.asarray(v.value.numpy()), seed=seed, index=i))
                        for i, v in enumerate(group)
                    ]
                    for group in variables.values()
                )
                results, _ = model.stateless_call(
                    trainable, other, *arguments, **inference_keywords(model)
                )
            flat = keras.tree.flatten(results)
            if channels_first:
                flat = [move_channels(tensor, first=True) for tensor in flat]
            return [np.asarray(tensor) for tensor in flat]

    return run
