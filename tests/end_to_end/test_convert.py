"""`parity convert`: every format into every other, bit for bit, or not at all."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import parity as api
from parity.errors import ParityError
from parity.network import architectures, weights
from tests.end_to_end.conftest import SMALL
from tests.network.models.test_resnet import STATE_DICTS, digest

pytestmark = pytest.mark.framework

OPTIONS = {"classes": 10, "image_size": (64, 64)}


@pytest.fixture(scope="module")
def chain(tmp_path_factory, checkpoint):
    """The same weights in every format, each made from the one before."""
    folder = tmp_path_factory.mktemp("chain")
    names = ("a.pth", "b.weights.h5", "c.keras", "d.pth", "e.safetensors")
    done, source = [], checkpoint
    for name in names:
        done.append(api.convert("resnet18", source, folder / name, **OPTIONS))
        source = folder / name
    return folder, done


def values(path):
    return weights.load(path, architectures.get("resnet18", **OPTIONS).table())


def test_a_chain_through_every_format_is_bit_exact(chain, checkpoint):
    folder, done = chain
    assert len({step.sha256 for step in done}) == 1
    before, after = values(checkpoint), values(folder / "e.safetensors")
    for name, array in before.items():
        assert after[name].tobytes() == array.tobytes(), name
    assert any(name.endswith("running_var") for name in before)


def test_a_chain_leaves_nothing_but_its_files(chain):
    folder, _ = chain
    assert sorted(path.name for path in folder.iterdir()) == [
        "a.pth", "b.weights.h5", "c.keras", "d.pth", "e.safetensors",
    ]  # fmt: skip


def test_pytorch_loads_the_file_strictly(chain):
    """With exactly torchvision's keys, batch counters included, in torchvision's order."""
    from parity.network.models.resnet.torch import build

    held = torch.load(chain[0] / "d.pth", weights_only=True)
    model = build(architectures.get("resnet18", **OPTIONS))
    assert list(held) == list(model.state_dict())
    missing, unexpected = model.load_state_dict(held, strict=True)
    assert not missing
    assert not unexpected
    assert held["bn1.num_batches_tracked"].dtype == torch.int64


def test_a_torchvision_state_dict_loads_with_nothing_left_over(tmp_path):
    """Every key and shape as torchvision publishes them for resnext50_32x4d."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for _, weight in architectures.get("resnext50_32x4d").table().weights():
        state[weight.name] = torch.rand(weight.shape, generator=generator)
        if weight.role == "variance":
            module = weight.name.removesuffix("running_var")
            state[f"{module}num_batches_tracked"] = torch.tensor(7)
    assert (
        digest((key, tuple(value.shape)) for key, value in state.items())
        == STATE_DICTS["resnext50_32x4d"]
    )
    torch.save(state, tmp_path / "published.pth")
    done = api.convert("resnext50_32x4d", tmp_path / "published.pth", tmp_path / "r.safetensors")
    assert done.parameters == 25_028_904
    held = weights.load(tmp_path / "r.safetensors", architectures.get("resnext50_32x4d").table())
    for name, array in held.items():
        assert np.array_equal(array, state[name].numpy()), name


@pytest.mark.parametrize("wrapped", ["state_dict", "module"])
def test_what_training_scripts_wrap_around(chain, tmp_path, wrapped):
    state = torch.load(chain[0] / "a.pth", weights_only=True)
    path = tmp_path / "wrapped.pth"
    if wrapped == "module":
        state = {f"module.{name}": value for name, value in state.items()}
        torch.save(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3}, path)
    done = api.convert("resnet18", path, tmp_path / "out.safetensors", **OPTIONS)
    assert wrapped in done.notes[0]
    assert done.sha256 == chain[1][0].sha256


class _Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(parity, tmp_path, how):
    source, ran, target = tmp_path / "evil.pth", tmp_path / "ran", tmp_path / "out.safetensors"
    held = {"fc.weight": torch.zeros(1), "payload": _Payload(ran)}
    if how == "torch":
        torch.save(held, source)
    else:
        source.write_bytes(pickle.dumps(held))
    done = parity("convert", "resnet18", "--weights", source, target, *SMALL)
    assert done.code == 2
    assert "could run code" in done.error
    assert not ran.exists()
    assert not target.exists()


def test_an_external_link_is_refused(tmp_path, chain):
    """A checkpoint must not bring in another file of the machine."""
    source = tmp_path / "linked.weights.h5"
    source.write_bytes((chain[0] / "b.weights.h5").read_bytes())
    with h5py.File(source, "a") as file:
        key = next(key for key in file["layers"] if len(file["layers"][key]["vars"]))
        del file["layers"][key]["vars"]["0"]
        file["layers"][key]["vars"]["0"] = h5py.ExternalLink("/etc/secret.h5", "/data")
    with pytest.raises(ParityError, match="is a link"):
        read(source)


NAMES = ["a.pth", "b.weights.h5", "c.keras", "e.safetensors"]


def read(path):
    """The file as its child reads it, without the seconds that starting a child takes."""
    from parity.runtimes.keras import checkpoints as keras_checkpoints
    from parity.runtimes.torch import checkpoints as torch_checkpoints

    table = architectures.get("resnet18", **OPTIONS).table()
    if path.suffix == ".safetensors":
        return weights.load(path, table)
    if path.suffix == ".pth":
        return torch_checkpoints.read(path)[0]
    return keras_checkpoints.read(path, table)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_cut_short_leaves_the_target_as_it_was(parity, chain, tmp_path, name):
    whole = (chain[0] / name).read_bytes()
    source, target = tmp_path / name, tmp_path / "out.pth"
    source.write_bytes(whole[: len(whole) // 2])
    target.write_text("precious")
    done = parity("convert", "resnet18", "--weights", source, target, *SMALL)
    assert done.code == 2
    assert name in done.error
    assert target.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {name, "out.pth", "scratch"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("end", [0, 5, 1000, -100, -1])
def test_files_that_end_anywhere(chain, tmp_path, name, end):
    source = tmp_path / name
    source.write_bytes((chain[0] / name).read_bytes()[:end])
    with pytest.raises(ParityError, match=re.escape(name)) as caught:
        read(source)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_web_page_by_the_name_of_a_checkpoint(tmp_path, name):
    source = tmp_path / name
    source.write_text("<html>404</html>")
    with pytest.raises(ParityError, match=re.escape(name)):
        read(source)


def test_damage_inside_a_keras_archive(chain, tmp_path):
    """The zip's own checksum notices a bit that has turned."""
    content = bytearray((chain[0] / "c.keras").read_bytes())
    content[len(content) // 2] ^= 0x10
    source = tmp_path / "c.keras"
    source.write_bytes(content)
    with pytest.raises(ParityError, match=r"c\.keras"):
        read(source)


def test_an_archive_without_weights(tmp_path):
    with zipfile.ZipFile(tmp_path / "c.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ParityError, match="is no Keras model"):
        read(tmp_path / "c.keras")


@pytest.mark.parametrize("name", ["a.pth", "b.weights.h5", "e.safetensors"])
def test_another_class_count(parity, chain, tmp_path, name):
    target = tmp_path / "out.safetensors"
    done = parity("convert", "resnet18", "--weights", chain[0] / name, target, "--image-size", "64")
    assert done.code == 2
    assert "fc.weight expected (1000, 512), found (10, 512)" in done.error
    assert "pass --classes 10" in done.error
    assert not target.exists()


@pytest.mark.parametrize("name", ["a.pth", "e.safetensors"])
def test_another_architecture(chain, tmp_path, name):
    with pytest.raises(ParityError) as caught:
        api.convert("resnet34", chain[0] / name, tmp_path / "out.safetensors", **OPTIONS)
    assert "layer1.2.conv1.weight" in str(caught.value)
    assert "missing" in str(caught.value)


def test_nan_is_refused(chain, tmp_path):
    state = torch.load(chain[0] / "a.pth", weights_only=True)
    state["layer1.0.conv1.weight"][3, 2, 1, 0] = torch.nan
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(
        ParityError, match=r"layer1\.0\.conv1\.weight has 1 among .* \(3, 2, 1, 0\)"
    ):
        api.convert("resnet18", tmp_path / "nan.pth", tmp_path / "out.keras", **OPTIONS)
    assert not (tmp_path / "out.keras").exists()


def test_half_precision_is_refused_with_the_remedy(chain, tmp_path):
    state = torch.load(chain[0] / "a.pth", weights_only=True)
    half = {n: v.half() if v.is_floating_point() else v for n, v in state.items()}
    torch.save(half, tmp_path / "half.pth")
    with pytest.raises(ParityError, match="Save the checkpoint in float32"):
        api.convert("resnet18", tmp_path / "half.pth", tmp_path / "out.keras", **OPTIONS)


@pytest.mark.parametrize("suffix", [".pth", ".keras", ".weights.h5", ".safetensors"])
def test_an_output_that_cannot_be_written(parity, checkpoint, tmp_path, suffix):
    for target in (tmp_path / "no" / f"x{suffix}", tmp_path / f"folder{suffix}"):
        if target.parent == tmp_path:
            target.mkdir()
        done = parity("convert", "resnet18", "--weights", checkpoint, target, *SMALL)
        assert done.code == 2
        assert target.name in done.error
        assert done.seconds < 5


def test_onto_itself(chain, tmp_path):
    """Reading and writing the same file is a plain rewrite."""
    path = tmp_path / "same.pth"
    path.write_bytes((chain[0] / "a.pth").read_bytes())
    done = api.convert("resnet18", path, path, **OPTIONS)
    assert done.sha256 == chain[1][0].sha256
