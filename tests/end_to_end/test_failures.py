"""What goes wrong is told in one line, with the right exit code, and leaves nothing behind."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from parity.processes import origin
from tests.end_to_end import harness
from tests.end_to_end.conftest import SMALL

pytestmark = pytest.mark.framework

TORCH = ("--subjects", "torch")


@pytest.fixture
def parity(parity_process):
    """A process that leaves no process and no file: what a failure may leave is seen only there."""
    return parity_process


def _png_of(width, height):
    """A small file that claims to be a huge image."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"x"))


@pytest.fixture
def inputs(tmp_path):
    """Inputs that are wrong, each in its own way."""
    np.save(tmp_path / "shape.npy", np.zeros((1, 64, 64, 3), np.float32))
    np.save(tmp_path / "dtype.npy", np.array(["a", "b"]))
    np.save(tmp_path / "nan.npy", np.full((1, 3, 64, 64), np.nan, np.float32))
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object))
    np.savez(tmp_path / "several.npz", a=np.zeros(1), b=np.zeros(1))
    (tmp_path / "text.jpg").write_text("I am no image")
    (tmp_path / "bomb.png").write_bytes(_png_of(60000, 60000))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "shape.npy").read_bytes()[:-9])
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("shape.npy", "(1, 64, 64, 3)"),
        ("dtype.npy", "dtype"),
        ("nan.npy", "NaN"),
        ("pickled.npy", ""),
        ("several.npz", ""),
        ("text.jpg", "no image"),
        ("bomb.png", ""),
        ("cut.npy", ""),
        ("empty", ""),
        ("nowhere.jpg", ""),
    ],
)
def test_a_bad_input(parity, inputs, name, told):
    done = parity("compare", "resnet18", *SMALL, *TORCH, "--input", inputs / name)
    assert done.code == 2, done.err
    assert name in done.error
    assert told in done.error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--classes", "1000"), "pass --classes 10"),
        (("--classes", "10", "--channels", "1"), "channels"),
    ],
)
def test_a_checkpoint_that_does_not_fit(parity, checkpoint, arguments, told):
    done = parity(
        "compare", "resnet18", "--image-size", "64", *TORCH, *arguments, "--weights", checkpoint
    )
    assert done.code == 2
    assert told in done.error
    assert "expected" in done.error


def test_a_checkpoint_of_another_architecture_is_recognised(parity, checkpoint):
    done = parity("compare", "resnet50", *SMALL, *TORCH, "--weights", checkpoint)
    assert done.code == 2
    assert "another architecture: resnet18" in done.error


def test_nan_in_a_checkpoint(parity, checkpoint, tmp_path):
    from parity.network import architectures, weights

    table = architectures.get("resnet18", classes=10, image_size=(64, 64)).table()
    values = weights.load(checkpoint, table)
    values["fc.bias"][3] = np.nan
    weights.save(tmp_path / "nan.safetensors", values)
    done = parity("compare", "resnet18", *SMALL, "--weights", tmp_path / "nan.safetensors")
    assert done.code == 2
    assert "NaN or Inf: fc.bias has 1 among 10, first nan at (3,)" in done.error


def test_a_truncated_checkpoint(parity, checkpoint, tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(checkpoint.read_bytes()[:100_000])
    done = parity("compare", "resnet18", *SMALL, "--weights", cut)
    assert done.code == 2
    assert "truncated" in done.error


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("not_a_model", "expected a keras.Model, found str"),
        ("raises", "raised ValueError: no such file of mine"),
        ("no_such_name", "has no 'no_such_name'"),
        ("nan_weight", "the keras model: NaN or Inf: body.weight has 1 among 144, first nan at"),
    ],
)
@pytest.mark.slow
def test_models_of_ones_own_that_cannot_be_used(parity, model, told):
    done = parity(
        "compare", f"keras=tests.twins.keras_small:{model}",
        "torch=tests.twins.torch_small:build", "--table", "tests/twins/small.csv",
        "--image-size", "32", "--input", "random", "--subjects", "keras,torch",
    )  # fmt: skip
    assert done.code == 2
    assert told in done.error


@pytest.mark.slow
def test_a_model_of_another_size_than_the_table(parity):
    done = parity(
        "compare", "resnet18", *SMALL, "keras=tests.twins.broken:fewer_classes",
        "--subjects", "keras,torch",
    )  # fmt: skip
    assert done.code == 2
    assert "logits/kernel: Keras's 'predictions' has the shape (512, 9)" in done.error


@pytest.mark.parametrize("where", ["no/report.json", "."])
def test_a_report_that_cannot_be_written_is_told_before_any_work(parity, tmp_path, where):
    done = parity("compare", "resnet18", *SMALL, "--json", tmp_path / where)
    assert done.code == 2
    assert done.seconds < 5


def test_a_damaged_cache_is_noted_and_made_anew(parity, tmp_path):
    """A graph that is cut short, and one weight of which one bit is another."""
    requests = harness.counted(tmp_path / "counted")
    env = {**requests.env, "PARITY_CACHE": str(tmp_path / "cache")}
    arguments = ("compare", "resnet18", *SMALL, "--subjects", "torch,onnx-torch", "--json", "-")
    first = parity(*arguments, env=env)
    assert first.code == 0, first.err
    requests.take()
    (graph,), (weights,) = ((tmp_path / "cache" / kind).iterdir() for kind in ("graphs", "weights"))
    sound = {path: path.read_bytes() for path in (graph, weights)}
    graph.write_bytes(sound[graph][:1000])
    edited = bytearray(sound[weights])
    edited[len(edited) // 2] ^= 1
    weights.write_bytes(edited)
    second = parity(*arguments, env=env)
    assert second.code == 0, second.err
    usual = [note["message"] for note in first.report["notes"]]
    told = [each["message"] for each in second.report["notes"] if each["message"] not in usual]
    assert sorted(note.partition(" is ")[0] for note in told) == [
        f"cache entry {path.relative_to(tmp_path / 'cache')}" for path in (graph, weights)
    ]
    asked = requests.take()
    assert [asked.count(f"torch {each}") for each in ("export_structure", "calibrate")] == [1, 1]
    assert {path: path.read_bytes() for path in sound} == sound
    assert second.report["weights"] == first.report["weights"]


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_does_no_harm(parity, tmp_path):
    (tmp_path / "file").write_text("")
    done = parity(
        "compare", "resnet18", *SMALL, "--subjects", "torch,onnx-torch", "--input", "random",
        env={"PARITY_CACHE": str(tmp_path / "file")},
    )  # fmt: skip
    assert done.code == 0, done.err


def test_debug_shows_the_traceback(parity, inputs):
    done = parity("--debug", "compare", "resnet18", *SMALL, *TORCH, "--input", inputs / "text.jpg")
    assert done.code == 2
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1].startswith("error: ")


BLOCKER = """
import importlib.abc, os, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in os.environ["BLOCKED"].split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.mark.parametrize(
    ("module", "side", "others"),
    [
        ("keras", "keras", ("torch", "onnx-torch")),
        ("torch", "torch", ()),
        ("onnxruntime", "onnx", ("torch",)),
    ],
)
@pytest.mark.slow
def test_a_framework_that_is_not_installed(parity, tmp_path, module, side, others):
    """Its subjects are unknown, and the others are still compared where they can be."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    done = parity(
        "compare", "resnet18", *SMALL, "--json", "-", "--subjects",
        "keras,torch,onnx-torch" if module == "keras" else "torch,onnx-torch",
        env={"PYTHONPATH": str(tmp_path), "BLOCKED": module},
    )  # fmt: skip
    assert done.code == 3, done.err
    assert not done.err
    report = done.report
    assert report["verdict"] == "unknown"
    failures = {
        name: facts["failure"] for name, facts in report["subjects"].items() if facts["failure"]
    }
    assert set(failures) == set(report["subjects"]) - set(others)
    for failure in failures.values():
        assert f"No module named '{module}'" in failure
        assert origin.install_command(side) in failure
    for stage in report["stages"]:
        for name in others:
            assert stage["subjects"][name]["status"] == "at-floor"
