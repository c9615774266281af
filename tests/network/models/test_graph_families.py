"""The registered families without a layer table: their sizes, their names, and their twins."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from parity.errors import ArchitectureError
from parity.network import architectures

PARAMETERS = {
    # As timm publishes them: 5.72 M and 22.05 M.
    "vit_tiny_patch16_224": 5_717_416,
    "vit_small_patch16_224": 22_050_664,
    # 2000·64 for the embedding, 3 (or 4) gates of two layers with two biases, 17 labels.
    "gru_tagger": 128_000 + 3 * 128 * (64 + 128 + 2) + 3 * 128 * (256 + 2) + 128 * 17 + 17,
    "lstm_tagger": 128_000 + 4 * 128 * (64 + 128 + 2) + 4 * 128 * (256 + 2) + 128 * 17 + 17,
}

BLOCK = (
    "norm1.weight norm1.bias attn.qkv.weight attn.qkv.bias attn.proj.weight attn.proj.bias "
    "norm2.weight norm2.bias mlp.fc1.weight mlp.fc1.bias mlp.fc2.weight mlp.fc2.bias"
)
"""The names of a block in timm's state dict."""


def _twin(name: str, framework: str) -> Any:
    spec = architectures.get(name)
    return importlib.import_module(f"parity.network.models.{spec.family}.{framework}").build(spec)


def test_all_are_listed() -> None:
    assert set(architectures.graph_names()) == set(PARAMETERS)
    assert not set(architectures.graph_names()) & set(architectures.names())
    assert set(architectures.graph_names()) < set(architectures.all_names())


@pytest.mark.parametrize("name", PARAMETERS)
def test_sizes(name: str) -> None:
    spec = architectures.get(name)
    assert spec.parameters == spec.size.total == PARAMETERS[name]
    assert architectures.from_json(spec.to_json()) == spec
    with pytest.raises(ArchitectureError, match="has no layer table: `parity align`"):
        spec.table()


def test_impossible_sizes() -> None:
    with pytest.raises(ArchitectureError, match="a multiple of the patch, 16 pixels, found 100"):
        architectures.get("vit_tiny_patch16_224", image_size=(224, 100))
    with pytest.raises(ArchitectureError, match="reads tokens, so it has no image size"):
        architectures.get("gru_tagger", image_size=(32, 32))
    smaller = architectures.get("vit_tiny_patch16_224", image_size=(32, 64), classes=10)
    assert smaller.tokens == 9  # type: ignore[attr-defined]


@pytest.mark.framework
@pytest.mark.parametrize("name", PARAMETERS)
def test_the_torch_twin(name: str) -> None:
    model = _twin(name, "torch")
    assert sum(each.numel() for each in model.parameters()) == PARAMETERS[name]


@pytest.mark.framework
def test_the_names_are_those_of_timm() -> None:
    """The state dict of timm 1.0's vit_tiny_patch16_224, in its order."""
    names = ["cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"]
    for number in range(12):
        names += [f"blocks.{number}.{name}" for name in BLOCK.split()]
    names += ["norm.weight", "norm.bias", "head.weight", "head.bias"]
    assert list(_twin("vit_tiny_patch16_224", "torch").state_dict()) == names


@pytest.mark.framework
@pytest.mark.parametrize("name", PARAMETERS)
def test_the_keras_twin(name: str) -> None:
    """An LSTM of Keras has one bias a gate where PyTorch has two, whose sum it is."""
    model = _twin(name, "keras")
    surplus = 2 * 4 * 128 if name == "lstm_tagger" else 0
    assert model.count_params() == PARAMETERS[name] - surplus
    paths = {layer.name for layer in model.layers}
    wanted = {"vit": {"blocks.11.attn.qkv", "norm", "head"}, "tagger": {"rnn.0", "rnn.1", "fc"}}
    assert wanted[architectures.get(name).family] <= paths


@pytest.mark.framework
def test_the_keras_twin_is_saved_and_loaded(tmp_path) -> None:
    import keras

    spec = architectures.get("vit_tiny_patch16_224", image_size=(32, 32), classes=3)
    model = importlib.import_module("parity.network.models.vit.keras").build(spec)
    model.save(tmp_path / "vit.keras")
    again = keras.saving.load_model(tmp_path / "vit.keras")
    image = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
    assert np.array_equal(model(image), again(image))
