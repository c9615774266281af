"""A pytest suite: live models with a fixture, references with a marker."""

from pathlib import Path

import keras_nets
import nets
import numpy as np
import pytest

HERE = Path(__file__).parent
NET = f"{HERE}/nets.py:build"


def test_live_models_with_equal_weights(assert_parity):
    keras_model, torch_model = keras_nets.build(), nets.build()
    for layer, module in zip(
        [each for each in keras_model.layers if each.weights],
        [torch_model.stem, torch_model.body, torch_model.head],
        strict=True,
    ):
        kernel, bias = (parameter.detach().numpy() for parameter in module.parameters())
        axes = (2, 3, 1, 0) if kernel.ndim == 4 else (1, 0)
        layer.set_weights([kernel.transpose(axes), bias])
    batch = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    assert_parity(keras=keras_model, torch=torch_model, input=batch)


@pytest.mark.parity(NET, f"{NET},seed=1", weights="build", shapes=nets.SHAPE, export=False)
def test_two_references(parity_report):
    assert parity_report
