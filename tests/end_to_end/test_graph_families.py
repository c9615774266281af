"""The registered families without a layer table, through the command line."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.framework

SMALL = ("--image-size", "32", "--classes", "10")


def test_a_vision_transformer_and_its_exports_are_in_parity(parity):
    done = parity("compare", "vit_tiny_patch16_224", *SMALL, "--json", "-")
    assert done.code == 0, done.out
    report = done.report
    assert set(report["subjects"]) == {"keras", "torch", "onnx-keras", "onnx-torch"}
    assert report["levels"]["structure"] == report["levels"]["weights"] == "pass"
    assert "random, seed 0" in report["weights"]["source"]


@pytest.mark.parametrize(
    "name", ["gru_tagger", pytest.param("lstm_tagger", marks=pytest.mark.slow)]
)
def test_a_tagger_is_in_parity(parity, name):
    done = parity("compare", name, "--isolate", "--json", "-")
    assert done.code == 0, done.out
    assert len(done.report["subjects"]) == 4
    assert done.report["input"]["shape"] == [1, 16]


def test_a_checkpoint_with_the_names_of_timm(parity, tmp_path):
    """Its weights reach Keras through the pairs of layers, and come back bit for bit."""
    import torch

    from parity.network import architectures
    from parity.network.models.vit import torch as twin

    spec = architectures.get("vit_tiny_patch16_224", image_size=(32, 32), classes=10)
    torch.manual_seed(3)
    path, out = tmp_path / "vit.pth", tmp_path / "vit.weights.h5"
    torch.save(twin.build(spec).state_dict(), path)
    done = parity(
        "compare", "vit_tiny_patch16_224", *SMALL, "--weights", path, "--no-export", "--json", "-"
    )
    assert done.code == 0, done.out
    model = "vit_tiny_patch16_224,image_size=32,classes=10"
    assert parity("convert", model, "--weights", path, out).code == 2
    assert out.exists() is False


def test_a_case_of_any_models(parity, tmp_path):
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "def build(seed=0, width=3):\n    torch.manual_seed(seed)\n"
        "    return nn.Linear(4, width), torch.randn(8, 4)\n"
    )
    (tmp_path / "parity.toml").write_text(
        '[[case]]\nname = "own"\nmodels = ["net.py:build", "b=net.py:build"]\nexport = false\n\n'
        '[[case]]\nmodel = "gru_tagger"\nexport = false\n'
    )
    file = tmp_path / "parity.toml"
    done = parity("check", file, "--update")
    assert done.code == 0, done.err
    locked = json.loads((tmp_path / "parity.lock.json").read_text())["cases"]
    assert set(locked) == {"own", "gru_tagger"}
    assert parity("check", file, "--case", "own").code == 0
    file.write_text(file.read_text().replace('"b=net.py:build"', '"b=net.py:build,seed=1"'))
    assert parity("check", file, "--case", "own").code != 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("compare", "vit_tiny_patch16_224", "--image-size", "100"), "a multiple of the patch, 16"),
        (("compare", "lstm_tagger", "--channels", "1"), "reads tokens"),
        (("compare", "vit_tiny_patch16"), "did you mean 'vit_tiny_patch16_224'"),
        (("export", "--onnx", "o.onnx", "--from", "torch", "gru_tagger"), "has no layer table"),
    ],
)
def test_what_is_refused(parity, arguments, error):
    done = parity(*arguments)
    assert done.code == 2
    assert error in done.error
