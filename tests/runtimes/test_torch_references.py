"""PyTorch modules of every form of reference are loaded, or refused in one line."""

from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from parity.errors import UsageError, WeightError, WrongFrameworkError
from parity.processes.child import Child
from parity.processes.references import parse_reference
from parity.runtimes.torch import torchvision_shim
from parity.runtimes.torch.references import load_reference
from parity.runtimes.torch.runtime import Runtime
from tests.runtimes.user_files import ERRORS, user_folder

pytestmark = pytest.mark.framework

NET = """
import torch
from torch import nn

print("imported")
COUNT = []
COUNT.append(1)


class Net(nn.Module):
    def __init__(self, width, *, bias=True):
        super().__init__()
        self.fc = nn.Linear(3, width, bias=bias)

    def forward(self, x):
        return self.fc(x)


class Factory:
    @staticmethod
    def build():
        return Net(2)


def with_example():
    return Net(2).train(), (torch.ones(1, 3),)


def from_file(weights):
    model = Net(2)
    model.source = weights
    return model


def keras_model():
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


model = Net(4)
"""


def needs(package):
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None, reason=f"{package} is not installed"
    )


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Each test has a folder with the user's files, and forgets what it imported."""
    with user_folder(tmp_path, monkeypatch, net=NET) as own:
        yield own


def load(text, trust=()):
    return load_reference(parse_reference(text), trust=trust, custom_objects=None)


def linear(width=2):
    return nn.Sequential(nn.Linear(3, width))


# The user's code


@pytest.mark.parametrize(
    ("text", "width"),
    [("net.py:Net,5", 5), ("net:Net,width=5,bias=False", 5), ("net.py:Factory.build", 2),
     ("net.py:model", 4), ("net.py:with_example", 2)],
)  # fmt: skip
def test_code(text, width):
    loaded = load(text)
    assert loaded.model.fc.out_features == width
    assert not loaded.model.training
    assert loaded.brings_weights
    assert (loaded.example is not None) == (text == "net.py:with_example")


def test_random_weights_are_the_same_each_time():
    torch.testing.assert_close(
        load("net.py:Net,5").model.fc.weight, load("net:Net,5").model.fc.weight
    )


def test_a_file_is_run_once():
    load("net.py:Net,5")
    load("net.py:Net,5")
    assert sys.modules["net"].COUNT == [1]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_an_error_of_the_user_s_code(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        load(text)
    assert "\n" not in str(caught.value)
    assert "pip install" not in str(caught.value)


def test_a_model_takes_no_options():
    with pytest.raises(UsageError, match="is a model already, and takes no options"):
        load("net.py:model,3")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_a_file(folder, suffix):
    state = {"fc.weight": torch.full((2, 3), 7.0), "fc.bias": torch.zeros(2)}
    (torch.save if suffix == ".pth" else save_file)(state, folder / f"w{suffix}")
    loaded = load(f"net.py:Net,2,weights=w{suffix}")
    assert torch.equal(loaded.model.fc.weight, state["fc.weight"])
    # A callable that must have weights gets them itself.
    assert load(f"net.py:from_file,weights=w{suffix}").model.source == f"w{suffix}"
    with pytest.raises(WeightError, match=r"fc.weight: expected \(5, 3\), found \(2, 3\)"):
        load(f"net.py:Net,5,weights=w{suffix}")
    with pytest.raises(WeightError, match=r"has weights that the model lacks: fc.bias"):
        load(f"net.py:Net,2,bias=False,weights=w{suffix}")
    del state["fc.bias"]
    (torch.save if suffix == ".pth" else save_file)(state, folder / f"w{suffix}")
    with pytest.raises(WeightError, match=r"lacks fc.bias"):
        load(f"net.py:Net,2,weights=w{suffix}")


# Files


def test_torchscript_only_with_trust(folder):
    torch.jit.trace(linear(), torch.ones(1, 3)).save(folder / "a.pt")
    with pytest.raises(UsageError, match=r"a TorchScript is a program.*add --trust a.pt"):
        load("a.pt")
    with pytest.raises(UsageError, match="--trust"):
        load("a.pt", trust=["b.pt"])
    loaded = load("a.pt", trust=[str(folder / "a.pt")])
    assert loaded.model(torch.ones(1, 3)).shape == (1, 2)
    assert loaded.brings_weights


def test_an_exported_program_only_with_trust(folder):
    x = torch.ones(1, 3)
    torch.export.save(torch.export.export(linear().eval(), (x,)), folder / "a.pt2")
    with pytest.raises(UsageError, match=r"a torch.export program is a program.*--trust a.pt2"):
        load("a.pt2")
    loaded = load("a.pt2", trust=["./a.pt2"])
    assert loaded.model(x).shape == (1, 2)
    assert torch.equal(loaded.example[0], x)


def test_weights_are_no_model(folder):
    torch.save(linear().state_dict(), folder / "a.pt")
    with pytest.raises(UsageError, match=r"holds weights and no model; give file.py:NAME,weights"):
        load("a.pt", trust=["a.pt"])


def test_a_damaged_program(folder):
    torch.jit.trace(linear(), torch.ones(1, 3)).save(folder / "a.pt")
    content = bytearray((folder / "a.pt").read_bytes())
    place = content.index(b"torchscript") if b"torchscript" in content else 200
    content[place : place + 64] = bytes(64)
    (folder / "a.pt").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load("a.pt", trust=["a.pt"])
    assert "\n" not in str(caught.value)


# Registered architectures and zoos


def test_a_registered_twin_has_values_and_no_weights_of_its_own(folder):
    loaded = load("resnet18,classes=5,image_size=32")
    assert not loaded.brings_weights
    assert loaded.model(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
    assert all(np.isfinite(value.numpy()).all() for value in loaded.model.state_dict().values())


def test_a_registered_twin_with_weights(folder):
    state = load("resnet18,classes=5,image_size=32").model.state_dict()
    torch.save({name: tensor + 1 for name, tensor in state.items()}, folder / "w.pth")
    runtime = Runtime()
    text = "resnet18,classes=5,image_size=32,weights=w.pth"
    answer = runtime.load_reference(reference=parse_reference(text).to_json())
    assert answer["brings_weights"]
    assert torch.equal(runtime.model.fc.bias, state["fc.bias"] + 1)
    (folder / "w.h5").touch()
    text = "resnet18,weights=w.h5"
    with pytest.raises(UsageError, match=r"does not read this checkpoint; give --weights w\.h5"):
        runtime.load_reference(reference=parse_reference(text).to_json())


@needs("torchvision")
def test_torchvision(folder):
    loaded = load("torchvision:resnet18,num_classes=4")
    assert loaded.model(torch.zeros(1, 3, 64, 64)).shape == (1, 4)
    assert not loaded.brings_weights
    torch.save(loaded.model.state_dict(), folder / "w.pth")
    assert load("torchvision:resnet18,num_classes=4,weights=w.pth").brings_weights
    with pytest.raises(UsageError, match=r"has no 'resnet19'; did you mean 'torchvision:resnet18'"):
        load("torchvision:resnet19")
    with pytest.raises(UsageError, match="unexpected keyword argument 'clases'"):
        load("torchvision:resnet18,clases=4")


@needs("torchvision")
def test_a_user_s_file_can_import_torchvision_too(folder):
    (folder / "tv.py").write_text("from torchvision.models import resnet18\n")
    assert load("tv.py:resnet18,num_classes=3").model.fc.out_features == 3


@needs("torchvision")
def test_the_shim_is_used_only_where_the_import_fails(monkeypatch):
    assert torchvision_shim.is_missing_operator(
        RuntimeError("operator torchvision::nms does not exist")
    )
    assert not torchvision_shim.is_missing_operator(RuntimeError("out of memory"))
    assert not torchvision_shim.is_missing_operator(ImportError("operator torchvision::nms"))
    notes = torchvision_shim.import_torchvision()

    def fail():
        raise AssertionError("the shim is used although torchvision is imported")

    monkeypatch.setattr(torchvision_shim, "define_operators", fail)
    assert torchvision_shim.import_torchvision() == notes


@needs("timm")
def test_timm():
    loaded = load("timm:resnet10t,num_classes=4")
    assert loaded.model(torch.zeros(1, 3, 64, 64)).shape == (1, 4)
    with pytest.raises(
        UsageError, match="nothing is downloaded; give weights=FILE, not pretrained"
    ):
        load("timm:resnet10t,pretrained=True")
    with pytest.raises(UsageError, match="timm has no 'resnet10x'"):
        load("timm:resnet10x")


@needs("transformers")
def test_transformers_folder(folder):
    torchvision_shim.import_torchvision()
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        vocab_size=20, num_labels=3,
    )  # fmt: skip
    saved = BertForSequenceClassification(config).eval()
    saved.save_pretrained(folder / "bert")
    loaded = load("hf:bert")
    tokens = torch.tensor([[1, 2, 3]])
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    torch.testing.assert_close(loaded.model(tokens).logits, saved(tokens).logits)
    assert loaded.brings_weights
    with pytest.raises(UsageError, match="the option 'trust_remote_code' is not supported"):
        load("hf:bert,trust_remote_code=True")

    data = json.loads((folder / "bert/config.json").read_text())
    (folder / "bert/config.json").write_text(
        json.dumps({**data, "num_labels": 3, "architectures": ["NoSuchModel"]})
    )
    with pytest.raises(UsageError, match="has no 'NoSuchModel', which the folder's configuration"):
        load("hf:bert")
    (folder / "bert/config.json").write_text(
        json.dumps({**data, "architectures": ["BertForMaskedLM"]})
    )
    with pytest.raises(WeightError, match="bert: lacks "):
        load("hf:bert")
    (folder / "bert/config.json").write_text(json.dumps({**data, "auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(UsageError, match=r"is code in the folder \(auto_map\), which is never run"):
        load("hf:bert")
    (folder / "bert/config.json").write_text(json.dumps({**data, "architectures": "BertModel"}))
    with pytest.raises(UsageError, match="architectures: expected a list of strings"):
        load("hf:bert")
    (folder / "bert/config.json").write_text(json.dumps(data))
    (folder / "bert/model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"has no \.safetensors; pickled weights are not loaded"):
        load("hf:bert")
    (folder / "bert/config.json").write_text("[]")
    with pytest.raises(UsageError, match=r"config\.json cannot be read"):
        load("hf:bert")


def test_a_zoo_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError,
        match=r'torchvision is not installed; pip install -e "\S+\[zoo\]" or pip install',
    ):
        load("torchvision:resnet18")


# In a child


def test_the_operation_of_a_child(folder):
    """What the user's code prints is no answer; another framework's model names its framework."""
    child = Child("torch")
    try:
        call = lambda text: child.call("load_reference", reference=parse_reference(text).to_json())  # noqa: E731
        answer = call("net.py:with_example")
        assert answer.pop("seconds") > 0
        assert answer == {
            "runtime": "torch", "brings_weights": True, "has_example": True, "class": "Net",
            "notes": [],
        }  # fmt: skip
        assert not call("resnet18")["brings_weights"]
        with pytest.raises(UsageError, match=r"SystemExit: 3 \(quits.py, line 3\)"):
            call("quits.py:f")
        with pytest.raises(
            WrongFrameworkError, match="is a model of Keras, not of PyTorch"
        ) as caught:
            call("net.py:keras_model")
        assert caught.value.framework == "keras"
    finally:
        child.close()


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "float32"])
def test_weights_of_another_precision_are_named(tmp_path, dtype):
    """The comparison runs them in float32: without a note nobody would know."""
    from parity.processes.references import parse_reference
    from parity.runtimes.torch import references as torch_references

    text = f"import torch\ndef build():\n    return torch.nn.Linear(2, 3).to(torch.{dtype})\n"
    (tmp_path / "net.py").write_text(text)
    reference = parse_reference(f"{tmp_path}/net.py:build")
    loaded = torch_references.load_reference(reference, trust=(), custom_objects=None)
    expected = () if dtype == "float32" else (f"2 of its weights are {dtype};",)
    assert tuple(note[: len(expected[0])] for note in loaded.notes) == expected
