"""`parity export` of models that references name: every kind, every option, every bad input."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import parity as api
from tests.end_to_end import harness
from tests.end_to_end.conftest import SMALL

pytestmark = pytest.mark.framework

SCRIPTS = {
    "tnet.py": """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.fc = nn.Linear(width, 5)

    def forward(self, image):
        return self.fc(torch.relu(self.conv(image)).mean((2, 3)))

def build(width=4):
    return Net(width), torch.randn(2, 3, 8, 8)

class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, ids):
        return {"zeta": self.head(self.embedding(ids)).mean(1), "alpha": self.embedding(ids)}

class Nested(nn.Module):
    def forward(self, pair, scale=None):
        left, right = pair["left"], pair["right"]
        return left + (right if scale is None else right * scale)

def nested():
    return Nested(), ({"left": torch.randn(2, 3), "right": torch.randn(2, 3)},)

class Large(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 64)

    def forward(self, x):
        return torch.log((self.fc(x) * 1e6).abs() + 1.0)

def large():
    torch.manual_seed(0)
    return Large(), torch.randn(2, 64)

class Random(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)

def random():
    return Random(), torch.randn(2, 3)
""",
    "knet.py": """
import keras
import numpy as np
from keras import layers

def build():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    y = layers.Conv2D(4, 3, padding="same")(image)
    y = layers.GlobalAveragePooling2D()(y)
    return keras.Model(image, layers.Dense(5, name="head")(y))

def sequence():
    x = keras.Input((None, 6), name="steps")
    return keras.Model(x, layers.Dense(4, name="out")(layers.LSTM(4, return_sequences=True)(x)))

class Sub(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4)
        self.embedding = layers.Embedding(9, 4)

    def call(self, x, ids=None, training=False):
        return {"zeta": self.dense(x), "alpha": self.embedding(ids) + 1.0}

def sub():
    return Sub(), {"x": np.ones((2, 6), "float32"), "ids": np.array([[1, 2, 3], [4, 5, 8]])}

class Plain(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4)

    def call(self, x):
        return self.dense(x)
""",
}

_FILES = """
import os, sys
os.chdir({folder!r}); sys.path.insert(0, {folder!r})
import keras, torch, numpy as np
import knet, tnet
model = knet.build()
model.save("m.keras"); model.save("m.h5"); model.export("saved", verbose=False)
model.save_weights("m.weights.h5")
net, example = tnet.build()
program = torch.export.export(
    net.eval(), (example,), dynamic_shapes={{"image": {{0: torch.export.Dim("b")}}}}
)
torch.export.save(program, "m.pt2")
torch.jit.trace(net, example).save("m.pt")
torch.manual_seed(5)
torch.save(tnet.Net().state_dict(), "m.pth")
np.save("image.npy", example.numpy())
np.save("ids.npy", np.arange(14).reshape(2, 7))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, text in SCRIPTS.items():
        (folder / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", _FILES.format(folder=str(folder))],
        cwd=harness.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def export(parity, folder, tmp_path):
    """Run `parity export --onnx out.onnx`; "@" before a word is the folder of the models."""

    def run(*arguments, env=None):
        words = [str(a).replace("@", f"{folder}/") for a in arguments]
        return parity("export", "--onnx", tmp_path / "out.onnx", *words, env=env)

    return run


def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def shapes(path):
    running = session(path)
    return {value.name: value.shape for value in (*running.get_inputs(), *running.get_outputs())}


# Kinds of references -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("@tnet.py:build,width=3",), {"image": ["batch", 3, 8, 8], "output": ["batch", 5]}),
        (
            ("@tnet.py:nested",),
            {"left": ["batch", 3], "right": ["batch", 3], "output": ["batch", 3]},
        ),
        (("@knet.py:build",), {"image": ["batch", 8, 8, 3], "head": ["batch", 5]}),
        (
            ("@knet.py:sub",),
            {
                "x": ["batch", 6],
                "ids": ["batch", 3],
                "zeta": ["batch", 4],
                "alpha": ["batch", 3, 4],
            },
        ),
        (("@m.keras",), {"image": ["batch", 8, 8, 3], "head": ["batch", 5]}),
        (("@m.h5",), {"image": ["batch", 8, 8, 3], "head": ["batch", 5]}),
        (("@m.pt2", "--trust", "@m.pt2"), {"image": ["batch", 3, 8, 8], "output": ["batch", 5]}),
    ],
    ids=["script", "nested-example", "keras-script", "subclassed", "keras", "h5", "pt2"],
)
def test_a_reference_is_exported(export, tmp_path, arguments, expected):
    done = export(*arguments)
    assert done.code == 0, done.err
    assert shapes(tmp_path / "out.onnx") == expected
    assert "at N = 1, 2, 3; the largest difference is" in done.out


@pytest.mark.parametrize(
    "words",
    [
        ("--onnx", "own.py", "own.py:net"),
        ("--onnx", "own.keras", "own.keras"),
        ("--onnx", "own.pth", "own.py:net", "--weights", "own.pth"),
        ("--onnx", "own.pth", "resnet18", "--from", "torch", "--weights", "own.pth"),
        ("--onnx", "out.onnx", "own.py:net", "--record", "own.py"),
        ("--onnx", "x.npy", "own.py:net", "--input", "x.npy"),
        ("--onnx", "out.onnx", "own.py:net", "--record", "x.npy", "--input", "a=x.npy"),
    ],
)
def test_no_file_that_is_read_is_replaced(parity, tmp_path, monkeypatch, words):
    for name in ("own.py", "own.keras", "own.pth", "x.npy"):
        (tmp_path / name).write_text("precious")
    paths = [str(tmp_path / word) if word.startswith("own.") else word for word in words]
    paths = [word.replace("x.npy", str(tmp_path / "x.npy")) for word in paths]
    paths = [str(tmp_path / word) if word == "out.onnx" else word for word in paths]
    done = parity("export", *paths)
    assert done.code == 2, done.err
    assert "would replace a file that is read" in done.error
    assert {path.read_text() for path in tmp_path.iterdir() if path.is_file()} == {"precious"}


def test_a_module_is_exported(export, folder, tmp_path):
    done = export("tnet:build", env={"PYTHONPATH": str(folder)})
    assert done.code == 0, done.err
    assert shapes(tmp_path / "out.onnx") == {"image": ["batch", 3, 8, 8], "output": ["batch", 5]}


ZOO = [
    ("keras:MobileNet,weights=None,alpha=0.25,input_shape=(32,32,3),classes=7", "keras", ()),
    ("torchvision:shufflenet_v2_x0_5,num_classes=7", "torchvision", ("--image-size", "64")),
    ("timm:lcnet_035,num_classes=7", "timm", ("--image-size", "64")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("reference", "package", "options"), ZOO, ids=[z[1] for z in ZOO])
def test_a_model_of_a_zoo_is_exported(export, tmp_path, reference, package, options):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    done = export(reference, *options, env=_packages())
    assert done.code == 0, done.err
    given, result = shapes(tmp_path / "out.onnx").values()
    assert (given[0], result) == ("batch", ["batch", 7])


def _packages():
    """The environment in which packages beside this one's own are found, as they are here."""
    return {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}


_BERT = """
from tests.studies.exports.torch_zoo import import_torchvision
import_torchvision()
from transformers import BertConfig, BertForSequenceClassification
config = BertConfig(
    vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
    intermediate_size=64, max_position_embeddings=64,
)
BertForSequenceClassification(config).save_pretrained({folder!r})
"""


@pytest.mark.slow
def test_a_folder_of_transformers_is_exported(export, tmp_path):
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    done = subprocess.run(
        [sys.executable, "-c", _BERT.format(folder=str(tmp_path / "bert"))],
        cwd=harness.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    np.save(tmp_path / "ids.npy", np.arange(12).reshape(2, 6))
    done = export(
        f"hf:{tmp_path}/bert", "--input", f"input_ids={tmp_path}/ids.npy",
        "--dynamic", "input_ids=1:length", env=_packages(),
    )  # fmt: skip
    assert done.code == 0, done.err
    assert shapes(tmp_path / "out.onnx")["input_ids"] == ["batch", "length"]


def test_a_checkpoint_is_loaded(export, folder, tmp_path):
    import torch

    done = export("@tnet.py:build", "--weights", "@m.pth")
    assert done.code == 0, done.err
    expected = torch.load(folder / "m.pth")["fc.bias"].numpy()
    found = {
        t.name: onnx.numpy_helper.to_array(t)
        for t in onnx.load(tmp_path / "out.onnx").graph.initializer
    }
    np.testing.assert_array_equal(found["fc.bias"], expected)


# Options -----------------------------------------------------------------------------------------


def test_a_shape_and_named_sizes(export, tmp_path):
    done = export("@tnet.py:Tokens", "--shape", "ids=2x7", "--dynamic", "ids=1:length")
    assert done.code == 0, done.err
    assert shapes(tmp_path / "out.onnx") == {
        "ids": ["batch", "length"],
        "zeta": ["batch", 3],
        "alpha": ["batch", "length", 8],
    }


def test_an_input_an_opset_and_sizes_without_names(export, tmp_path):
    done = export(
        "@tnet.py:Net", "--input", "@image.npy", "--opset", "20", "--dynamic", "image=2,3"
    )
    assert done.code == 0, done.err
    assert "opset 20" in done.out
    assert shapes(tmp_path / "out.onnx")["image"] == ["batch", 3, "image_2", "image_3"]


def test_a_fixed_batch(export, tmp_path):
    done = export("@tnet.py:build", "--fixed-batch")
    assert done.code == 0, done.err
    assert shapes(tmp_path / "out.onnx")["image"] == [2, 3, 8, 8]


def test_a_fixed_batch_and_length_of_a_keras_model(export, tmp_path):
    done = export("@knet.py:sequence", "--fixed-batch", "--shape", "steps=4x7x6")
    assert done.code == 0, done.err
    assert shapes(tmp_path / "out.onnx") == {"steps": [4, 7, 6], "out": [4, 7, 4]}


def test_a_length_of_a_keras_model_varies_by_itself(export, tmp_path):
    done = export("@knet.py:sequence")
    assert done.code == 0, done.err
    assert shapes(tmp_path / "out.onnx")["steps"] == ["batch", "steps_1", 6]


def test_a_subclassed_keras_model_takes_a_shape(export, tmp_path):
    done = export("@knet.py:Plain", "--shape", "x=2x6")
    assert done.code == 0, done.err
    assert list(shapes(tmp_path / "out.onnx").values()) == [["batch", 6], ["batch", 4]]


def test_float16_with_islands_external_data_and_a_record(export, tmp_path):
    record = tmp_path / "record.json"
    done = export("@tnet.py:large", "--precision", "float16", "--external-data", "--record", record)
    assert done.code == 0, done.err
    assert "stays in float32" in done.err
    model = onnx.load(tmp_path / "out.onnx", load_external_data=False)
    assert any(tensor.external_data for tensor in model.graph.initializer)
    assert (tmp_path / "out.onnx.data").stat().st_size >= 64 * 64 * 2
    held = onnx.load(tmp_path / "out.onnx")
    weights = {t.name: t.data_type for t in held.graph.initializer}
    assert weights["fc.weight"] == onnx.TensorProto.FLOAT16
    x = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    (result,) = session(tmp_path / "out.onnx").run(None, {"x": x})
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    written = json.loads(record.read_text())
    assert (written["precision"], written["framework"]) == ("float16", "torch")
    assert written["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 64]}]
    assert {check["inputs"] for check in written["checks"]} >= {"normal", "extreme", "ties"}
    assert {c["batch"] for c in written["checks"] if c["inputs"] == "normal"} == {1, 2, 3}
    assert written["worst"]["floors"] == max(c["floors"] for c in written["checks"])
    assert 0 < written["worst"]["floors"] <= 8
    assert len(written["sha256"]) == 64
    assert any("float32" in note for note in written["notes"])


@pytest.mark.parametrize("side", ["keras", "torch"])
def test_every_option_of_a_registered_model(parity, tmp_path, side):
    record = tmp_path / "record.json"
    done = parity(
        "export", "--onnx", tmp_path / "out.onnx", "resnet18", *SMALL, "--from", side,
        "--precision", "float16", "--fixed-batch", "--external-data", "--record", record,
    )  # fmt: skip
    assert done.code == 0, done.err
    batch = 1 if side == "keras" else 2
    assert shapes(tmp_path / "out.onnx") == {"input": [batch, 3, 64, 64], "logits": [batch, 10]}
    assert json.loads(record.read_text())["precision"] == "float16"


def test_options_in_the_name_of_a_registered_model(parity, tmp_path):
    done = parity(
        "export", "--onnx", tmp_path / "out.onnx", "resnet18,classes=10,image_size=64",
        "--from", "torch",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert shapes(tmp_path / "out.onnx") == {"input": ["batch", 3, 64, 64], "logits": ["batch", 10]}


def test_python_takes_the_same_options(folder, tmp_path):
    done = api.export(
        f"{folder}/tnet.py:Tokens", tmp_path / "t.onnx",
        inputs={"ids": np.arange(14).reshape(2, 7)}, dynamic={"ids": {1: ""}},
        record=tmp_path / "t.json",
    )  # fmt: skip
    assert done.outputs == ("zeta", "alpha")
    assert done.side == "torch"
    assert json.loads((tmp_path / "t.json").read_text()) == json.loads(json.dumps(done.to_record()))


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("resnet18",), "--from must be keras or torch"),
        (("resnet18", "--from", "torch", "--shape", "input=1x3x8x8"), "registered model"),
        (("resnet18", "--from", "torch", "--dynamic", "input=2"), "registered model"),
        (("resnet18", "--from", "torch", "--input", "input=@image.npy"), "registered model"),
        (("resnot18",), "unknown model 'resnot18'"),
        (("@nowhere.py:build",), "no such file"),
        (("@nowhere.keras",), "no such file"),
        (("@m.keras", "--from", "torch"), "is a model of Keras, not of PyTorch"),
        (("@saved",), "a SavedModel is not exported"),
        (("@m.pt",), "is not exported"),
        (("@m.pth",), "holds weights and no model"),
        (("@tnet.py:build", "--stage-outputs"), "--stage-outputs"),
        (("@tnet.py:build", "--classes", "7"), "--classes"),
        (("@tnet.py:build", "--dynamic", "image"), "--dynamic: expected NAME=AXIS"),
        (("@tnet.py:build", "--dynamic", "image=two"), "--dynamic: expected NAME=AXIS"),
        (("@tnet.py:build", "--dynamic", "image=2:"), "--dynamic: expected NAME=AXIS"),
        (("@tnet.py:build", "--shape", "image=3"), "image"),
        (("@tnet.py:build", "--shape", "image=axb"), "--shape: expected NAME=1x3x224x224"),
        (("@tnet.py:build", "--precision", "float8"), "float8"),
        (("@tnet.py:build", "--record", "no/such/folder.json"), "there is no folder"),
        (("@tnet.py:build", "--weights", "@nowhere.pth"), "nowhere.pth"),
    ],
)
def test_a_bad_command_is_one_line(export, tmp_path, arguments, expected):
    done = export(*arguments)
    assert done.code == 2
    assert expected in done.error
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("@tnet.py:Net",), "nothing states the shape of the input 'image'"),
        (("@tnet.py:build", "--dynamic", "picture=2"), "no input is called picture"),
        (("@tnet.py:build", "--dynamic", "image=7"), "has 4 axes, no axis 7"),
        (("@tnet.py:Net", "--shape", "image=2x8x8x3"), "--shape image=2x8x8x3"),
        (("@tnet.py:Net", "--shape", "picture=2x3x8x8"), "no model has an input called 'picture'"),
        (
            ("@tnet.py:Net", "--input", "@ids.npy"),
            "torch.export cannot trace the module: Input type",
        ),
        (("@tnet.py:build", "--opset", "9"), "opset 9"),
        (("@tnet.py:random",), "draws random numbers"),
        (("@knet.py:build", "--dynamic", "image=1"), "takes no other size"),
        (("@knet.py:build", "--dynamic", "image=1:height"), "have no names"),
        (("@knet.py:build", "--shape", "image=1x8x8"), "has 4 axes"),
    ],
)
def test_a_refused_export_leaves_the_target_and_the_record_as_they_were(
    export, tmp_path, arguments, expected
):
    target, record = tmp_path / "out.onnx", tmp_path / "record.json"
    target.write_text("precious")
    record.write_text("precious")
    done = export(*arguments, "--record", record)
    assert done.code == 2
    assert expected in done.error
    assert target.read_text() == record.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["out.onnx", "record.json"]


def test_the_record_is_not_the_file(export, tmp_path):
    done = export("@tnet.py:build", "--record", tmp_path / "out.onnx")
    assert done.code == 2
    assert "is the ONNX file itself" in done.error
