"""Keras models of every form of reference are loaded, or refused in one line."""

from __future__ import annotations

import importlib.util
import sys

import h5py
import keras
import numpy as np
import pytest

from parity.errors import UsageError, WeightError, WrongFrameworkError
from parity.processes.references import parse_reference
from parity.runtimes.keras.references import load_reference
from parity.runtimes.keras.runtime import Runtime
from tests.runtimes.user_files import ERRORS, user_folder

pytestmark = pytest.mark.framework

NET = """
import keras
import numpy as np


def build(width, name="net"):
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(width)], name=name)


class Net(keras.Model):
    def __init__(self, width=2):
        super().__init__()
        self.dense = keras.layers.Dense(width)

    def call(self, x):
        return self.dense(x)


def with_example():
    return Net(), np.ones((1, 3), "float32")


def torch_module():
    import torch

    return torch.nn.Linear(3, 2)


def layer():
    return keras.layers.Dense(2)


model = build(4)
"""

CUSTOM = """
import keras


class Shift(keras.layers.Layer):
    def call(self, x):
        return x + 1


def halve(x):
    return x / 2


def double(x):
    return x * 2
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test has a folder with the user's files, and forgets what it imported."""
    with user_folder(tmp_path, monkeypatch, net=NET, custom=CUSTOM) as own:
        yield own


def load(text, trust=(), custom_objects=None):
    return load_reference(parse_reference(text), trust=trust, custom_objects=custom_objects)


def dense(width=2):
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(width)])


# The user's code


@pytest.mark.parametrize("text", ["net.py:build,5", "net:build,width=5,name=other", "net.py:model"])
def test_code(text):
    loaded = load(text)
    assert loaded.model(np.ones((1, 3))).shape == (1, 4 if text.endswith("model") else 5)
    assert loaded.brings_weights
    assert loaded.example is None


def test_a_subclassed_model_with_its_example():
    loaded = load("net.py:with_example")
    assert loaded.example.shape == (1, 3)
    assert loaded.model(loaded.example).shape == (1, 2)


def test_a_layer_is_a_model():
    assert isinstance(load("net.py:layer").model, keras.Layer)


def test_random_weights_are_the_same_each_time():
    first, second = load("net.py:build,5").model, load("net.py:build,5").model
    np.testing.assert_array_equal(first.get_weights()[0], second.get_weights()[0])


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_an_error_of_the_user_s_code(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        load(text)
    assert "\n" not in str(caught.value)
    assert "pip install" not in str(caught.value)


def test_a_model_of_the_other_framework():
    with pytest.raises(WrongFrameworkError, match="is a model of PyTorch, not of Keras") as caught:
        load("net.py:torch_module")
    assert caught.value.framework == "torch"


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras", ".h5"])
def test_weights_of_a_file(folder, suffix):
    model = dense()
    model.set_weights([np.full((3, 2), 7.0), np.zeros(2)])
    path = folder / f"w{suffix}"
    (model.save_weights if suffix == ".weights.h5" else model.save)(path)
    loaded = load(f"net.py:build,2,weights=w{suffix}")
    np.testing.assert_array_equal(loaded.model.get_weights()[0], np.full((3, 2), 7.0))
    with pytest.raises(WeightError, match=f"w{suffix}: does not fit the model: "):
        load(f"net.py:build,5,weights=w{suffix}")


def test_weights_that_are_left_over_or_missing(folder):
    deep = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(2)])
    deep.save_weights(folder / "deep.weights.h5")
    with pytest.raises(WeightError, match="does not fit the model"):
        load("net.py:build,2,weights=deep.weights.h5")
    # The optimizer's state is no weight of the model.
    trained = dense()
    trained.compile("adam", "mse")
    trained.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    trained.save_weights(folder / "trained.weights.h5")
    loaded = load("net.py:build,2,weights=trained.weights.h5")
    np.testing.assert_array_equal(loaded.model.get_weights()[0], trained.get_weights()[0])
    empty = keras.Sequential([keras.Input((3,)), keras.layers.ReLU()])
    empty.save_weights(folder / "empty.weights.h5")
    with pytest.raises(WeightError, match="does not fit the model"):
        load("net.py:build,2,weights=empty.weights.h5")


def test_weights_of_a_subclassed_model_need_its_example(folder):
    (folder / "net.py").write_text(NET)
    model = load("net.py:with_example").model
    model(np.ones((1, 3)))
    model.save_weights(folder / "w.weights.h5")
    loaded = load("net.py:with_example,weights=w.weights.h5")
    np.testing.assert_array_equal(loaded.model.get_weights()[0], model.get_weights()[0])
    with pytest.raises(WeightError, match=r"return \(model, example inputs\)"):
        load("net.py:Net,weights=w.weights.h5")
    (folder / "w.pth").touch()
    with pytest.raises(WeightError, match=r"expected \.weights\.h5, \.keras or \.h5"):
        load("net.py:build,2,weights=w.pth")


# Files


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_plain_file(folder, suffix):
    model = dense()
    model.save(folder / f"a{suffix}")
    loaded = load(f"a{suffix}")
    assert loaded.brings_weights
    np.testing.assert_array_equal(loaded.model.get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_lambda_is_refused_or_replaced(folder, suffix):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Lambda(lambda x: x * 2, name="double"),
            keras.layers.Dense(2),
        ]
    )
    model.save(folder / f"a{suffix}")
    before = (folder / f"a{suffix}").read_bytes()
    with pytest.raises(
        UsageError,
        match=r"the layer 'double' is a Lambda, whose bytecode is never run; give --custom-objects "
        rf"FILE.py that defines a function 'double', or FILE.py:NAME,weights=a\{suffix}",
    ):
        load(f"a{suffix}")
    loaded = load(f"a{suffix}", custom_objects="custom.py")
    x = np.ones((1, 3), "float32")
    np.testing.assert_array_equal(np.asarray(loaded.model(x)), np.asarray(model(x)))
    assert (folder / f"a{suffix}").read_bytes() == before


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_custom_classes_and_functions_are_refused_or_given(folder, suffix):
    sys.path.insert(0, str(folder))
    import custom

    x = keras.Input((3,))
    y = keras.layers.Dense(2, activation=custom.halve, name="halved")(custom.Shift(name="moved")(x))
    model = keras.Model(x, y)
    model.save(folder / f"a{suffix}")
    with pytest.raises(
        UsageError,
        match=r"the layer 'moved' needs 'Shift', which is no part of Keras; give --custom",
    ):
        load(f"a{suffix}")
    loaded = load(f"a{suffix}", custom_objects="custom.py")
    values = np.ones((1, 3), "float32")
    np.testing.assert_array_equal(np.asarray(loaded.model(values)), np.asarray(model(values)))
    (folder / "other.py").write_text("class Shift: ...\n".replace("Shift", "Other"))
    with pytest.raises(UsageError, match=r"expected that .* defines 'Shift'"):
        load(f"a{suffix}", custom_objects="other.py")
    with pytest.raises(UsageError, match=r"--custom-objects syntax.py.*SyntaxError"):
        load(f"a{suffix}", custom_objects="syntax.py")


def test_a_module_that_a_file_names_is_not_imported(folder):
    dense().save(folder / "a.keras")
    import json
    import zipfile

    (folder / "evil.py").write_text("raise SystemExit('imported')")
    with zipfile.ZipFile(folder / "a.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["layers"][1] |= {"module": "evil", "class_name": "Dense"}
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(folder / "a.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    sys.path.insert(0, str(folder))
    with pytest.raises(UsageError, match="needs 'Dense', which is no part of Keras"):
        load("a.keras")
    assert "evil" not in sys.modules


def test_weights_are_no_model(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file["kernel"] = np.zeros(3)
    with pytest.raises(UsageError, match=r"holds weights and no model; give FILE.py:NAME,weights"):
        load("a.h5")


def test_a_saved_model_only_with_trust(folder):
    model = dense()
    model.export(folder / "saved", verbose=False)
    with pytest.raises(UsageError, match=r"a SavedModel is a program.*add --trust saved"):
        load("saved")
    loaded = load("saved", trust=["saved/"])
    x = np.ones((1, 3), "float32")
    (output,) = loaded.model(x).values()
    np.testing.assert_allclose(np.asarray(output), np.asarray(model(x)), rtol=1e-6)


def test_a_damaged_saved_model(folder):
    (folder / "saved").mkdir()
    (folder / "saved/saved_model.pb").write_bytes(b"none")
    with pytest.raises(UsageError, match="cannot be loaded as a SavedModel") as caught:
        load("saved", trust=["saved"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_damaged_file(folder, suffix):
    path = folder / f"a{suffix}"
    dense().save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UsageError, match=f"a{suffix}") as caught:
        load(f"a{suffix}")
    assert "\n" not in str(caught.value)


# Registered architectures and the zoo


def test_a_registered_twin():
    loaded = load("resnet18,classes=5,image_size=32")
    assert not loaded.brings_weights
    assert loaded.model(np.zeros((1, 32, 32, 3))).shape == (1, 5)


def test_keras_applications(folder):
    loaded = load("keras:MobileNetV2,classes=4,input_shape=(32,32,3)")
    assert loaded.model(np.zeros((1, 32, 32, 3))).shape == (1, 4)
    assert not loaded.brings_weights
    loaded.model.save_weights(folder / "w.weights.h5")
    text = "keras:MobileNetV2,classes=4,input_shape=(32,32,3),weights=w.weights.h5"
    assert load(text).brings_weights
    with pytest.raises(UsageError, match="no 'resnet50'; did you mean 'keras:ResNet50'"):
        load("keras:resnet50")
    with pytest.raises(UsageError, match="unexpected keyword argument 'clases'"):
        load("keras:MobileNetV2,clases=4")


def test_a_zoo_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'keras is not installed; pip install -e "\S+\[keras\]"'):
        load("keras:ResNet50")


def test_the_operation():
    runtime = Runtime()
    answer = runtime.load_reference(reference=parse_reference("net.py:with_example").to_json())
    assert answer.pop("seconds") > 0
    assert answer == {
        "runtime": "keras", "brings_weights": True, "has_example": True, "class": "Net",
        "notes": [],
    }  # fmt: skip
    assert [array.shape for array in runtime.example.values()] == [(1, 3)]
