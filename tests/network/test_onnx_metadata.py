"""The metadata of ONNX files: written, read without ONNX, and refused where it is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from parity.errors import InputError
from parity.network import onnx_metadata
from parity.network.inputs import preprocessing
from parity.network.inputs.preprocessing import Preprocessing
from parity.network.onnx_metadata import build_properties, read_properties, read_stated_model

onnx = pytest.importorskip("onnx")


def save(path: Path, properties: dict[str, str], *, weights: int = 70_000) -> Path:
    """Write a file with weights that are larger than any entry, and further fields."""
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    values = onnx.numpy_helper.from_array(np.arange(weights, dtype=np.float32), "w")
    tensors = [onnx.helper.make_tensor_value_info(n, 1, [weights]) for n in ("x", "y")]
    graph = onnx.helper.make_graph([node], "g", tensors[:1], tensors[1:], [values])
    model = onnx.helper.make_model(graph, producer_name="someone", model_version=300)
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, path)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    caffe = preprocessing.find("keras:ResNet50")
    names = ("cat", "\u732b\u54aa", "a\nb")
    properties = build_properties(
        preprocessing=caffe, size=(224, 256), classes=names, axes={"x": "NCHW"}
    )
    path = save(tmp_path / "m.onnx", {"author": "me", **properties, "empty": ""})
    stated = read_stated_model(path)
    assert stated.preprocessing == caffe
    assert stated.classes == names
    found = read_properties(path)
    assert found == {"author": "me", **properties, "empty": ""}
    assert json.loads(found[onnx_metadata.AXES]) == {"x": "NCHW"}
    assert json.loads(found[onnx_metadata.PREPROCESSING]) == {
        "size": [224, 256],
        "crop": 0.875,
        "divisor": 1.0,
        "mean": [103.939, 116.779, 123.68],
        "deviation": [1.0, 1.0, 1.0],
        "channels": "BGR",
    }
    # That is what every other program reads.
    props = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert props == found


def test_a_file_without_metadata_states_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx", {"author": "me"})
    assert read_stated_model(path) == onnx_metadata.StatedModel()
    assert build_properties() == {onnx_metadata.VERSION: onnx_metadata.__version__}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\xff" * 40, b"\x72\x05ab", b"\x72"])
def test_a_file_that_is_no_model_states_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert read_properties(path) == {}
    assert read_properties(tmp_path / "absent.onnx") == {}
    assert read_properties(tmp_path) == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (onnx_metadata.PREPROCESSING, "{"),
        (onnx_metadata.PREPROCESSING, "{}"),
        (onnx_metadata.PREPROCESSING, "[]"),
        (onnx_metadata.CLASSES, "7"),
        (onnx_metadata.CLASSES, "[" * 100_000),
        (
            onnx_metadata.PREPROCESSING,
            '{"crop": null, "channels": "RGB", "divisor": 1, '
            '"deviation": [1, 1, 1], "mean": [1' + "0" * 400 + ", 0, 0]}",
        ),
        (onnx_metadata.CLASSES, '{"0": "cat"}'),
    ],
)
def test_damaged_metadata_is_one_line(tmp_path: Path, key: str, value: str) -> None:
    path = save(tmp_path / "m.onnx", {key: value})
    with pytest.raises(InputError, match=r"its metadata parity\.preprocessing or parity\.classes"):
        read_stated_model(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"channels": "GBR"},
        {"divisor": 0},
        {"divisor": 1e-300},
        {"mean": [float("nan"), 0, 0]},
        {"mean": [float("inf"), 0, 0]},
        {"deviation": [1, 1]},
        {"deviation": [1, 0, 1]},
        {"mean": [0.5]},
        {"crop": 1.5},
    ],
)
def test_a_preprocessing_that_cannot_be_is_refused(changed: dict[str, object]) -> None:
    data = {**preprocessing.IMAGENET.to_json(), **changed}
    with pytest.raises((ValueError, TypeError)):
        Preprocessing.from_json(data)
