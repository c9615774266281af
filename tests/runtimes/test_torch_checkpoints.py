"""PyTorch checkpoint files that are none, or hold more than tensors."""

from __future__ import annotations

import pickle
import zipfile

import pytest
import torch

from parity.errors import WeightError
from parity.runtimes.torch import checkpoints

pytestmark = pytest.mark.framework

CONTENTS = {
    "text": b"hello, this is a text file\n",
    "json": b'{"a": 1}',
    "yaml": b"a: 1\n",
    "page": b"<!DOCTYPE html>\n<html>",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "words": b"Keras\n",
    "picture": b"\x89PNG\r\n\x1a\n0123",
    "empty": b"",
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_that_is_no_checkpoint_is_called_that(tmp_path, name):
    path = tmp_path / "model.pth"
    path.write_bytes(CONTENTS[name])
    with pytest.raises(WeightError) as raised:
        checkpoints.read(path)
    message = str(raised.value)
    found = f"begins with {CONTENTS[name][:32]!r}" if CONTENTS[name] else "an empty file"
    assert message.startswith(f"{path}: no PyTorch checkpoint: ")
    assert found in message
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"\x80\x02e.", b"\x80abc", b"PK\x03\x04abc"])
def test_a_damaged_checkpoint_cannot_be_read(tmp_path, content):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(WeightError, match="cannot be read as a PyTorch checkpoint: "):
        checkpoints.read(path)


def test_a_checkpoint_with_a_function_is_refused(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps({"weight": print}, protocol=2))
    with pytest.raises(WeightError, match="refused: it holds more than tensors"):
        checkpoints.read(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_of_either_format_is_read(tmp_path, zipped):
    path = tmp_path / "model.pth"
    torch.save({"weight": torch.ones(2)}, path, _use_new_zipfile_serialization=zipped)
    tensors, _ = checkpoints.read(path)
    assert tensors["weight"].tolist() == [1.0, 1.0]


def _quantised():
    return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


def _nested():
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


UNUSUAL = {
    "sparse_coo": lambda: torch.eye(3).to_sparse(),
    "sparse_csr": lambda: torch.eye(3).to_sparse_csr(),
    "complex64": lambda: torch.ones(2, dtype=torch.complex64),
    "complex32": lambda: torch.ones(2, dtype=torch.complex32),
    "float8_e4m3fn": lambda: torch.ones(2).to(torch.float8_e4m3fn),
    "meta": lambda: torch.ones(2, device="meta"),
    "quantised": _quantised,
    "nested": _nested,
    "uint16": lambda: torch.ones(2).to(torch.uint16),
}


@pytest.mark.parametrize("name", UNUSUAL)
@pytest.mark.filterwarnings("ignore")
def test_a_tensor_of_no_plain_numbers_is_refused_in_one_line(tmp_path, name):
    path = tmp_path / "model.pth"
    torch.save({"weight": UNUSUAL[name]()}, path)
    with pytest.raises(WeightError) as raised:
        checkpoints.read(path)
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 500
    # Of some the unpickler knows more than parity: it refuses them itself.
    assert name in message or "refused" in message or "cannot be read" in message


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_one_rule_for_the_dtypes_of_all_formats(tmp_path, dtype, suffix):
    """Bit for bit there is float32 alone; what is converted is named."""
    from safetensors.torch import save_file

    from parity.network import architectures, weights
    from parity.runtimes.torch import references

    spec = architectures.get("resnet18", classes=10, image_size=(64, 64))
    values = {name: torch.from_numpy(array) for name, array in weights.init(spec, seed=0).items()}
    values["fc.bias"] = values["fc.bias"].to(getattr(torch, dtype))
    path = tmp_path / f"model.{suffix}"
    (torch.save if suffix == "pth" else save_file)(values, path)
    load = checkpoints.read if suffix == "pth" else weights.load
    with pytest.raises(WeightError, match=rf"fc\.bias expected float32, found {dtype}"):
        load(path, spec.table())
    own = torch.nn.Module()
    for name, value in values.items():
        own.register_buffer(name.replace(".", "_"), value.float())
    state = {name.replace(".", "_"): value for name, value in values.items()}
    (torch.save if suffix == "pth" else save_file)(state, path)
    notes = references.load_checkpoint(own, str(path))
    how = "narrowed" if dtype == "float64" else "widened"
    assert notes == (f"{path}: 1 weights were {how} from {dtype} to float32",)


def test_a_storage_that_is_expanded_is_not_materialised(tmp_path):
    """Four bytes in the file, 8 GiB in memory: the shape is wrong, which is seen first."""
    import resource

    from parity.network import architectures

    path = tmp_path / "model.pth"
    torch.save({"fc.bias": torch.ones(1).expand(2**31)}, path)
    table = architectures.get("resnet18").table()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightError, match=r"fc\.bias expected \(1000,\), found \(2147483648,\)"):
        checkpoints.read(path, table)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 100_000, "kilobytes"


def test_a_compressed_archive_is_refused(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"weight": torch.zeros(1000)}, path)
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    with pytest.raises(WeightError, match="its members are compressed"):
        checkpoints.read(tmp_path / "bomb.pth")
