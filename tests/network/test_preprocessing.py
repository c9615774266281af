"""Preprocessing of photographs: the formulas, the names, and Keras's own functions."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
from PIL import Image

from parity.comparison.graphs.request import GraphRequest
from parity.comparison.request import Request
from parity.comparison.stated_models import choose_preprocessing
from parity.errors import UsageError
from parity.network import inputs
from parity.network.inputs import preprocessing
from parity.network.onnx_metadata import StatedModel
from parity.training.data import decoding
from parity.training.data.batches import Preprocessing

SHAPE = (3, 32, 32)
PIXELS = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)


def test_the_default_is_that_of_imagenet():
    default, named = inputs.load(None, SHAPE), inputs.load(None, SHAPE, preprocess="imagenet")
    assert default.sha256 == named.sha256
    assert default.source == named.source == "grace_hopper.jpg"


def test_the_formulas():
    pixels = inputs.load(None, SHAPE, preprocess="none")
    assert pixels.source == "grace_hopper.jpg (none)"
    assert pixels.array.min() >= 0
    assert pixels.array.max() > 100
    assert (pixels.array == np.rint(pixels.array)).all()
    scaled = inputs.load(None, SHAPE, preprocess="scale").array
    np.testing.assert_array_equal(scaled, pixels.array / np.float32(255))
    caffe = inputs.load(None, SHAPE, preprocess="keras:ResNet50").array
    blue = pixels.array[:, 2] - np.float32(103.939)
    np.testing.assert_array_equal(caffe[:, 0], blue)


def test_grey_has_the_mean_of_the_figures():
    grey = preprocessing.IMAGENET.apply(np.full((1, 2, 2, 1), 255, np.uint8))
    mean, deviation = np.mean((0.485, 0.456, 0.406)), np.mean((0.229, 0.224, 0.225))
    np.testing.assert_allclose(grey, (1 - mean) / deviation, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("imagnet", "did you mean 'imagenet'?"),
        ("keras:resnt", "did you mean 'keras:resnet'?"),
        ("torch:x", "known: imagenet, scale, none, keras:"),
    ],
)
def test_an_unknown_name_is_refused_before_anything_runs(name, told):
    for make in (
        lambda: Request(model="resnet18", preprocess=name),
        lambda: GraphRequest(references=("net.py:build",), preprocess=name),
    ):
        with pytest.raises(UsageError) as raised:
            make()
        assert told in str(raised.value)


@pytest.mark.parametrize("name", ["imagenet", "scale", "none", "keras:ResNet50", "keras:Xception"])
def test_a_preprocessing_survives_json(name):
    found = preprocessing.find(name)
    assert preprocessing.Preprocessing.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert preprocessing.find(found) is found


def test_a_preprocessing_is_described():
    assert preprocessing.IMAGENET.describe() == (
        "a centre crop of 0.875 of the resized picture, RGB, "
        "(x/255 - 0.485/0.456/0.406)/(0.229/0.224/0.225)"
    )
    assert preprocessing.find("none").describe().endswith("RGB, x")
    assert preprocessing.find("keras:Xception").describe().endswith("RGB, x/127.5 - 1")
    whole = preprocessing.Preprocessing(255.0, reverse=True, crop=None)
    assert whole.describe() == "the whole picture, BGR, x/255"


def test_the_whole_picture_is_that_of_training(tmp_path):
    """A model that was trained here is given what its training gave it."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)
    path = tmp_path / "p.png"
    Image.fromarray(pixels).save(path)
    whole = preprocessing.Preprocessing(255.0, crop=None)
    found = inputs.load(path, (3, 24, 16), preprocess=whole)
    assert found.source == "p.png (as the model states)"
    trained = Preprocessing((24, 16), 3)
    expected = trained.scale(decoding.read_image(path, (24, 16), 3).astype(np.float32))
    np.testing.assert_allclose(found.array[0].transpose(1, 2, 0), expected, atol=1e-7)


def test_what_a_model_states_is_chosen_unless_another_is_asked_for():
    first, second = preprocessing.find("scale"), preprocessing.find("none")
    stated = {"a": StatedModel(first), "b": StatedModel(first), "c": StatedModel(second)}
    chosen, notes = choose_preprocessing(None, stated)
    assert chosen == first
    assert notes[0].startswith("the photograph is prepared as the metadata of a and b states: ")
    assert notes[1].startswith("c states another preprocessing than the photograph was given")
    chosen, notes = choose_preprocessing("none", stated)
    assert chosen == "none"
    assert [note.split()[0] for note in notes] == ["a", "b"]
    assert choose_preprocessing(None, {"a": StatedModel()}) == ("imagenet", [])
    # An array is used as it is, whatever a model states.
    assert inputs.load("random", SHAPE, preprocess=first).array.shape == (1, *SHAPE)


@pytest.mark.parametrize("source", ["random", np.zeros((1, *SHAPE), np.float32)])
def test_only_a_photograph_is_preprocessed(source):
    with pytest.raises(UsageError, match="--preprocess scale: belongs to a photograph"):
        inputs.load(source, SHAPE, preprocess="scale")
    assert inputs.load(source, SHAPE).array.shape == (1, *SHAPE)


@pytest.mark.framework
@pytest.mark.parametrize("module", sorted(preprocessing._OF_KERAS))
def test_the_figures_are_those_of_keras_applications(module):
    function = importlib.import_module(f"keras.applications.{module}").preprocess_input
    expected = function(PIXELS.astype(np.float32), data_format="channels_last")
    found = preprocessing.find(f"keras:{module}").apply(PIXELS)
    np.testing.assert_allclose(found, np.asarray(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.framework
def test_every_model_of_keras_applications_has_its_module():
    import keras

    for name in dir(keras.applications):
        model = getattr(keras.applications, name)
        if callable(model):
            module = preprocessing._find_module(name)
            assert module is not None, name
            owner = importlib.import_module(f"keras.applications.{module}")
            # Keras exports the two MobileNetV3 beside their module, not in it.
            assert getattr(owner, name, model) is model, name
            assert hasattr(owner, name) or module == "mobilenet_v3", name
