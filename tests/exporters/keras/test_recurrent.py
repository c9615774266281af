"""Recurrent layers are ONNX's operators, masked ones too, and compute what Keras does."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.framework

pytest.importorskip("exporters.keras_onnx")

import keras
from keras import layers, ops

from exporters.errors import ExportError

SERIES = np.random.default_rng(0).standard_normal((3, 6, 5)).astype(np.float32)
# Masked at the end, at the start, in the middle, and everywhere.
IDS = np.array(
    [[3, 1, 2, 0, 0, 0], [0, 0, 4, 1, 1, 2], [1, 0, 2, 0, 0, 3], [0] * 6, [5, 1, 2, 3, 4, 1]],
    np.int32,
)


def shaken(model: keras.Model) -> keras.Model:
    """Give biases values too, which are zeros at first."""
    rng = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(np.asarray(weight) + rng.uniform(-0.3, 0.3, weight.shape))
    return model


LAYERS = {
    "LSTM": (lambda **k: layers.LSTM(4, **k), "LSTM"),
    "LSTM, other activations": (
        lambda **k: layers.LSTM(4, activation="relu", recurrent_activation="hard_sigmoid", **k),
        "LSTM",
    ),
    "LSTM without bias": (lambda **k: layers.LSTM(4, use_bias=False, **k), "LSTM"),
    "GRU, reset after": (lambda **k: layers.GRU(4, **k), "GRU"),
    "GRU, reset before": (lambda **k: layers.GRU(4, reset_after=False, **k), "GRU"),
    "GRU without bias": (lambda **k: layers.GRU(4, use_bias=False, **k), "GRU"),
    "SimpleRNN": (lambda **k: layers.SimpleRNN(4, **k), "GRU"),
    "SimpleRNN, relu": (lambda **k: layers.SimpleRNN(4, activation="relu", **k), "RNN"),
}


def cases(*quick):
    """Every layer in every way; those but the `quick` ones are for the slow run."""
    ways = list(dict.fromkeys(way for _, way in quick))
    return [
        pytest.param(
            *LAYERS[name], *way, id=f"{name}-{way}",
            marks=[] if (name, way) in quick else [pytest.mark.slow],
        )
        for name in LAYERS
        for way in ways
    ]  # fmt: skip


ONCE = cases(
    ("LSTM", (False, False)),
    ("LSTM", (True, True)),
    ("GRU, reset after", (True, False)),
    ("GRU, reset before", (True, True)),
    ("SimpleRNN", (True, False)),
)
MASKED = cases(
    ("LSTM", (True,)),
    ("GRU, reset after", (False,)),
    ("GRU, reset before", (True,)),
    ("SimpleRNN", (False,)),
)


@pytest.mark.parametrize(("make", "operator", "sequences", "backwards"), ONCE)
def test_a_layer_is_one_operator(exported, make, operator, sequences, backwards):
    layer = make(return_sequences=sequences, go_backwards=backwards, return_state=True)
    x = keras.Input((6, 5), name="x")
    model = shaken(keras.Model(x, layer(x)))
    file = exported(model)
    assert file.operators.count(operator) == 1
    assert "Loop" not in file.operators
    for found, expected in zip(file(x=SERIES).values(), model(SERIES), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(("make", "operator", "sequences"), MASKED)
def test_masked_steps_are_skipped_wherever_they_are(exported, make, operator, sequences):
    x = keras.Input((6,), dtype="int32", name="x")
    y = layers.Embedding(6, 5, mask_zero=True)(x)
    model = shaken(keras.Model(x, make(return_sequences=sequences, return_state=True)(y)))
    file = exported(model)
    assert file.operators.count(operator) == 1
    assert "Loop" not in file.operators
    for found, expected in zip(file(x=IDS).values(), model(IDS), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(
    "merge", ["concat", *(pytest.param(m, marks=pytest.mark.slow) for m in ("sum", None))]
)
def test_bidirectional_layers_are_two_operators(exported, merge):
    x = keras.Input((6,), dtype="int32", name="x")
    y = layers.Embedding(6, 5, mask_zero=True)(x)
    both = layers.Bidirectional(layers.GRU(4, return_sequences=True), merge_mode=merge)
    model = shaken(keras.Model(x, both(y)))
    file = exported(model)
    assert file.operators.count("GRU") == 2
    expected = keras.tree.flatten(model(IDS))
    for found, wanted in zip(file(x=IDS).values(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-6)


def test_a_decoder_takes_and_returns_its_states(exported):
    step, h, c = keras.Input((1, 5), name="step"), keras.Input((4,)), keras.Input((4,))
    layer = layers.LSTM(4, return_state=True, name="decoder")
    model = shaken(keras.Model([step, h, c], layer(step, initial_state=[h, c])))
    file = exported(model, inputs=["step", "h", "c"], outputs=["y", "h_out", "c_out"])
    assert file.session.get_outputs()[1].shape == ["batch", 4]
    rng = np.random.default_rng(2)
    states = [rng.standard_normal((3, 4)).astype(np.float32) for _ in range(2)]
    found = file(step=SERIES[:, :1], h=states[0], c=states[1])
    expected = model([SERIES[:, :1], *states])
    for actual, wanted in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=2e-6)


def test_an_activation_that_onnx_lacks_is_a_loop(exported):
    x = keras.Input((6, 5), name="x")
    model = shaken(keras.Model(x, layers.LSTM(4, activation="gelu")(x)))
    file = exported(model)
    assert "Loop" in file.operators
    (found,) = file(x=SERIES).values()
    np.testing.assert_allclose(found, model(SERIES), rtol=1e-4, atol=2e-6)


def test_any_length_of_time_distributed_layers(exported):
    model = keras.Sequential(
        [keras.Input((None, 5), name="x"), layers.TimeDistributed(layers.Dense(3))]
    )
    (found,) = exported(model)(x=SERIES).values()
    np.testing.assert_allclose(found, model(SERIES), rtol=1e-5, atol=1e-6)


def test_a_state_that_is_kept_between_calls_is_refused(exported):
    x = keras.Input(batch_shape=(3, 6, 5))
    model = keras.Model(x, layers.LSTM(4, stateful=True)(x))
    with pytest.raises(ExportError, match=r"writes to its variable \S*rnn_state.*stateful=False"):
        exported(model)


def test_layers_are_as_before_after_an_export(exported):
    before = layers.LSTM.inner_loop, layers.TimeDistributed.call, keras.Operation.__call__
    exported(keras.Sequential([keras.Input((6, 5)), layers.LSTM(2)]))
    assert (layers.LSTM.inner_loop, layers.TimeDistributed.call, keras.Operation.__call__) == before


class OwnCell(layers.Layer):
    """A cell without a `build`: its own layer gets weights in the first call."""

    state_size = 4

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4)

    def call(self, x, states):
        state = ops.tanh(self.dense(ops.concatenate([x, states[0]], -1)))
        return state, [state]


def test_a_cell_that_was_never_called_gets_weights_first(exported):
    x = keras.Input((5, 3), name="x")
    model = keras.Model(x, layers.RNN(OwnCell())(x))
    file = exported(model)
    array = np.random.default_rng(0).standard_normal((3, 5, 3)).astype(np.float32)
    (found,) = file(x=array).values()
    np.testing.assert_allclose(found, model(array), rtol=1e-4, atol=1e-5)
