"""`assert_parity` on live models: what it lets pass, what it does not, and what it says."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from parity.errors import InputError, UsageError
from parity.network.table import LayerTable
from parity.testing import assert_parity, comparison

pytestmark = pytest.mark.usefixtures("shared_children")

TABLE = "tests/twins/small.csv"
X = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)

framework = pytest.mark.framework


@pytest.fixture(scope="module")
def torch_model():
    from tests.twins import torch_small

    return torch_small.build()


@pytest.fixture(scope="module")
def keras_model():
    from tests.twins import keras_small

    return keras_small.build()


@pytest.fixture(scope="module")
def torch_onnx(torch_model, tmp_path_factory):
    from exporters import torch_onnx

    path = tmp_path_factory.mktemp("onnx") / "torch.onnx"
    taps = {"entry": "relu", "body": "join@input"}
    torch_onnx.export(torch_model.eval(), [(3, 32, 32)], path, taps=taps, outputs=["logits"])
    return path


@pytest.fixture(scope="module")
def keras_onnx(keras_model, tmp_path_factory):
    """With the input in Keras's own layout, (N, H, W, C)."""
    from exporters import keras_onnx

    path = tmp_path_factory.mktemp("onnx") / "keras.onnx"
    keras_onnx.export(keras_model, path, outputs=["logits"])
    return path


def broken(name):
    from tests.twins import keras_small

    return getattr(keras_small, name)()


def told(**given):
    with pytest.raises(AssertionError) as caught:
        assert_parity(**{"input": X, **given})
    return str(caught.value)


@framework
@pytest.mark.parametrize("depth", ["stage", "layer"])
def test_twins_agree(torch_model, keras_model, torch_onnx, depth):
    assert_parity(
        torch=torch_model, keras=keras_model, onnx=torch_onnx, input=X, table=TABLE, depth=depth
    )


@framework
@pytest.mark.parametrize("side", ["torch", "keras"])
def test_a_table_written_by_hand_has_the_kernels_of_the_model(torch_model, keras_model, side):
    models = comparison.wrap_models(torch=torch_model, keras=keras_model, onnx=None)
    table = LayerTable.load(TABLE)
    small = comparison.InProcessComparison(
        {side: models[side]}, {"input": X}, table, Path(), 4.0, 0
    )
    terms = torch_model.entry.weight[0].numel()
    assert terms > max(p[0].numel() for p in torch_model.head.parameters())
    # The table has no shapes, so that the mean's values are not counted.
    assert small.sum_lengths()["head"] == terms


@framework
def test_without_a_table_the_outputs_are_compared(torch_model, keras_model, torch_onnx):
    assert_parity(torch=torch_model, keras=keras_model, onnx=torch_onnx, input=X)
    message = told(torch=torch_model, keras=broken("one_weight"), onnx=torch_onnx)
    assert "keras differs from torch in float64 by more than 4× the rounding floor" in message
    assert "keras, first at output, shape (2, 5):" in message
    assert "torch and onnx agree." in message
    assert "give table=" in message


@framework
def test_graphs_in_both_layouts(torch_model, keras_model, torch_onnx, keras_onnx):
    """The Keras model is the reference where there is no PyTorch module."""
    assert_parity(keras=keras_model, onnx=keras_onnx, input=X)
    assert_parity(keras=keras_model, onnx=torch_onnx, input=X, table=LayerTable.load(TABLE))
    message = told(keras=broken("one_weight"), onnx=keras_onnx)
    assert "onnx differs from keras in float64" in message
    assert "keras agrees." in message


@framework
def test_the_message_says_what_a_reader_needs(torch_model):
    message = told(torch=torch_model, keras=broken("one_weight"), table=TABLE)
    assert "keras, first at body.conv, shape (2, 8, 32, 32):" in message
    # One of eight output channels is wrong, at most: 2 x 32 x 32 of 16384.
    count = int(message.split("Mismatched elements: ")[1].split(" /")[0])
    assert 1000 < count <= 2048
    assert f"Mismatched elements: {count} / 16384 ({100 * count / 16384:.1f}%)" in message
    index = message.split("at index (")[1].split(")")[0].split(", ")
    assert index[1] == "5"
    assert "the floor of" in message
    assert "4× is rounding" in message
    assert "parity compare keras=MODULE:CALLABLE torch=MODULE:CALLABLE --table FILE" in message


@framework
@pytest.mark.parametrize(
    ("name", "layer", "words"),
    [
        ("reversed_classes", "head", "Mismatched elements"),
        ("height_and_width_swapped", "entry.conv", "Mismatched elements"),
        ("one_nan", "body.relu", "2 of 16384 values are NaN or Inf"),
        ("all_nan", "head", "NaN or Inf"),
        ("wrong_vector", "pool", "Mismatched elements"),
    ],
)
def test_what_other_checkers_let_pass(torch_model, name, layer, words):
    message = told(torch=torch_model, keras=broken(name), table=TABLE)
    assert f"first at {layer}, shape" in message
    assert words in message


@framework
def test_the_limit(torch_model, keras_model):
    assert "more than 0.1× the rounding floor" in told(
        torch=torch_model, keras=keras_model, limit=0.1
    )


@framework
def test_another_number_of_classes(torch_model):
    from tests.twins import broken as twins

    message = told(torch=torch_model, keras=twins.fewer_classes(), input=np.zeros((1, 3, 64, 64)))
    assert "shape [1, 9], expected [1, 5]" in message


@framework
def test_models_are_not_changed(keras_model):
    from tests.twins import torch_small

    module = torch_small.build().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    weights = keras_model.get_weights()
    assert_parity(torch=module, keras=keras_model, input=X)
    assert_parity(torch=module, keras=keras_model, input=X, table=TABLE)
    assert module.training
    assert all((value == before[name]).all() for name, value in module.state_dict().items())
    for one, other in zip(weights, keras_model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@framework
def test_a_nested_and_a_subclassed_model():
    import keras

    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="relu")])
    image = keras.Input((4,))
    nested = keras.Model(image, keras.layers.Dense(2)(inner(image)))

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    import torch

    first, second = inner.layers[-1], nested.layers[-1]
    twin = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    with torch.no_grad():
        for layer, held in ((twin[0], first), (twin[2], second)):
            layer.weight.copy_(torch.from_numpy(np.array(held.kernel).T.copy()))
            layer.bias.copy_(torch.from_numpy(np.array(held.bias)))
    x = X.reshape(-1, 4)[:50]
    assert_parity(torch=twin, keras=nested, input=x)
    own = Own()
    own(x)
    assert "keras differs" in told(torch=twin, keras=own, input=x)


@framework
def test_misuse(torch_model, keras_model, torch_onnx, tmp_path):
    with pytest.raises(UsageError, match="at least two"):
        assert_parity(torch=torch_model, input=X)
    with pytest.raises(UsageError, match="a Keras model or a PyTorch module"):
        assert_parity(onnx=torch_onnx, input=X)
    with pytest.raises(UsageError, match=r"expected a keras.Model, found Small"):
        assert_parity(torch=torch_model, keras=torch_model, input=X)
    with pytest.raises(UsageError, match=r"expected a torch.nn.Module, found Functional"):
        assert_parity(torch=keras_model, keras=keras_model, input=X)
    with pytest.raises(InputError, match="finite"):
        assert_parity(torch=torch_model, keras=keras_model, input=X * np.nan)
    (tmp_path / "x.onnx").write_bytes(b"no graph")
    with pytest.raises(UsageError, match="cannot be read as an ONNX file"):
        assert_parity(torch=torch_model, onnx=tmp_path / "x.onnx", input=X)
    double = copy.deepcopy(torch_model).double()
    with pytest.raises(UsageError, match="is not float32"):
        assert_parity(torch=double, keras=keras_model, input=X)


def test_importing_it_imports_no_framework():
    code = (
        "import sys, parity.testing; "
        "print([m for m in ('torch', 'keras', 'tensorflow', 'onnxruntime') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
