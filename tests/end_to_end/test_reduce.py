"""`parity reduce` as a user runs it: the file shows the difference by itself, or there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import parity as public
from parity.commands import reduce as reducing
from parity.commands.piece_file import MARK
from parity.comparison.graphs.request import GraphRequest
from parity.errors import OutputError
from tests.end_to_end.test_fix import (
    KERAS_NET,
    NET,
    broken,
    change_alpha,
    change_initializer,
    exported,
)

pytestmark = pytest.mark.framework


@pytest.fixture
def right(tmp_path):
    path = tmp_path / "right_net.py"
    path.write_text(NET.replace("torch.zeros(1,", "torch.randn(2,"))
    return path


def run(path: Path) -> tuple[int, str]:
    """Run a file as its reader does: in another folder, without the models and without parity."""
    ended = subprocess.run(
        [sys.executable, "-P", str(path)], cwd=path.parent, capture_output=True, text=True
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_a_function_of_pytorch_with_another_argument(parity, right, tmp_path):
    wrong = broken(right, ("(x), 0.1)", "(x), 0.3)"))
    out = tmp_path / "bug.py"
    done = parity("reduce", f"right={right}:net", f"wrong={wrong}:net", "--out", out)
    assert done.code == 1, done.out + done.err
    text = out.read_text()
    assert text.startswith(MARK)
    assert "leaky-relu-slope" in text
    assert "functional.leaky_relu(" in text
    assert "import parity" not in text
    assert "conv2d" not in text
    right.unlink(), wrong.unlink()
    code, printed = run(out)
    assert code == 1, printed
    assert "wrong: max abs error" in printed
    assert "they differ" in printed
    assert "why: leaky-relu-slope: The slope for negative values is 0.3" in " ".join(
        done.out.split()
    )
    assert "set negative_slope=0.1" in done.out
    assert "× the floor" in done.out
    assert parse_error(printed, "right") <= 4 * parse_error(printed, "floor")
    # The difference taken out of the file, it says that there is none.
    assert text.count("negative_slope=0.3") == 1
    out.write_text(text.replace("negative_slope=0.3", "negative_slope=0.1"))
    code, printed = run(out)
    assert (code, "no difference" in printed) == (0, True), printed


def parse_error(printed: str, name: str) -> float:
    (line,) = [each for each in printed.splitlines() if each.startswith(f"{name}:")]
    return float(line.split()[-1])


@pytest.mark.parametrize(("change", "inside"), [(change_alpha, "LeakyRelu"),
                                                (change_initializer, "Conv")])  # fmt: skip
def test_an_onnx_file_against_its_network(parity, right, tmp_path, change, inside):
    wrong = exported(right, tmp_path / "wrong.onnx", change)
    out = tmp_path / "bug.py"
    done = parity("reduce", f"right={right}:net", wrong, "--out", out)
    assert done.code == 1, done.out + done.err
    text = out.read_text()
    assert f"helper.make_node('{inside}'" in text
    wrong.unlink()
    assert run(out)[0] == 1


@pytest.mark.slow
def test_an_onnx_file_that_is_right_against_another_one(parity, right, tmp_path):
    good = exported(right, tmp_path / "good.onnx", lambda graph: None)
    wrong = exported(right, tmp_path / "wrong.onnx", change_alpha)
    out = tmp_path / "bug.py"
    done = parity("reduce", good, wrong, "--out", out)
    assert done.code == 1, done.out + done.err
    code, printed = run(out)
    assert (code, "they differ" in printed) == (1, True), printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "inside"),
    [
        ('activation="relu"', 'activation="tanh"', "keras.activations.get('tanh')"),
        # A function that no file can name is written as the operations that it is.
        ('activation="relu"', "activation=lambda x: keras.activations.tanh(x)", "Tanh("),
        ('name="norm1"', 'name="norm1", epsilon=0.1', "keras.layers.BatchNormalization"),
        ('6, 3, padding="same", name="conv1"', '6, 3, padding="same", dilation_rate=2, '
         'name="conv1"', "keras.layers.Conv2D"),
    ],
)  # fmt: skip
def test_a_layer_of_keras(parity, tmp_path, old, new, inside):
    right, wrong = tmp_path / "right_keras.py", tmp_path / "wrong_keras.py"
    right.write_text(KERAS_NET)
    assert KERAS_NET.count(old) == 1
    wrong.write_text(KERAS_NET.replace(old, new))
    out = tmp_path / "bug.py"
    done = parity("reduce", f"right={right}:net", f"wrong={wrong}:net", "--out", out)
    assert done.code == 1, done.out + done.err
    assert inside in out.read_text()
    code, printed = run(out)
    assert code == 1, printed
    assert parse_error(printed, "right") <= 4 * parse_error(printed, "floor")


KERAS_OWN = """
import keras
import tensorflow as tf
from keras import layers


class Scale(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return tf.nn.relu(x * self.scale * 1.0) + keras.ops.sum(x, axis=-1, keepdims=True)


def net():
    keras.utils.set_random_seed(5)
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", name="conv1")(image)
    x = Scale(name="scale")(x)
    x = keras.ops.mean(x, axis=(1, 2))
    return keras.Model(image, layers.Dense(4, name="head")(x))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [("* 1.0)", "* 1.1)"), ("tf.nn.relu", "tf.nn.silu"), ("keras.ops.mean(", "keras.ops.max(")],
)
def test_a_layer_of_the_users_own_is_written_as_what_it_does(parity, tmp_path, old, new):
    right, wrong = tmp_path / "right_own.py", tmp_path / "wrong_own.py"
    right.write_text(KERAS_OWN)
    wrong.write_text(KERAS_OWN.replace(old, new))
    out = tmp_path / "bug.py"
    done = parity("reduce", f"right={right}:net", f"wrong={wrong}:net", "--out", out)
    assert done.code == 1, done.out + done.err
    right.unlink(), wrong.unlink()
    assert run(out)[0] == 1


TORCH_OF_KERAS = """
import torch
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(6, eps=1e-3)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(216, 4)

    def forward(self, x):
        x = functional.silu(self.conv2(self.norm1(self.conv1(x))))
        return self.head(functional.max_pool2d(x, 2).permute(0, 2, 3, 1).flatten(1))


def net():
    return Net(), torch.zeros(1, 3, 12, 12)
"""


@pytest.mark.slow
def test_a_network_in_two_frameworks(parity, tmp_path):
    right, wrong = tmp_path / "right_keras.py", tmp_path / "wrong_torch.py"
    right.write_text(KERAS_NET)
    wrong.write_text(TORCH_OF_KERAS)
    out = tmp_path / "bug.py"
    words = ("reduce", f"right={right}:net", f"wrong={wrong}:net", "--out", out)
    done = parity(*words, "--weights", "random")
    assert done.code == 1, done.out + done.err
    text = out.read_text()
    assert "functional.silu" in text
    assert "keras.activations.get('relu')" in text
    assert run(out)[0] == 1


def test_models_in_parity_give_one_line_and_no_file(parity, right, tmp_path):
    out = tmp_path / "bug.py"
    done = parity("reduce", f"{right}:net", f"{right}:net", "--out", out)
    assert done.code == 0, done.out + done.err
    assert done.out.strip() == "no difference: the models are in parity"
    assert not out.exists()


def request(right, wrong):
    return GraphRequest((f"right={right}:net", f"wrong={wrong}:net"), export=False, device="cpu")


def test_a_file_that_does_not_show_the_difference_is_not_written(right, tmp_path, monkeypatch):
    wrong = broken(right, ("(x), 0.1)", "(x), 0.3)"))
    out = tmp_path / "bug.py"
    render = reducing.render_file

    def spoil(piece, arrays, head, **options):
        text, packed = render(piece, arrays, head, **options)
        return (text.replace("negative_slope=0.3", "negative_slope=0.1") if head else text), packed

    monkeypatch.setattr(reducing, "render_file", spoil)
    reduced = reducing.reduce_models(request(right, wrong), out)
    assert reduced.path is None
    assert "does not show the difference" in reduced.reason
    assert not out.exists()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        # Another difference than the models have, and none.
        ("slope=0.3", "slope=0.7", "other values than inside the model"),
        ("slope=0.3", "slope=0.1", "shows no difference"),
        ("def run_subject(", "def run_subject(raise_here, ", "did not run"),
    ],
)
def test_a_part_that_does_not_do_what_the_model_does_is_refused(
    right, tmp_path, monkeypatch, old, new, reason
):
    wrong = broken(right, ("(x), 0.1)", "(x), 0.3)"))
    render = reducing.render_file

    def spoil(piece, arrays, head, **options):
        text, packed = render(piece, arrays, head, **options)
        return text.replace(old, new), packed

    monkeypatch.setattr(reducing, "render_file", spoil)
    monkeypatch.setattr(reducing, "MAX_RUNS", 1)
    reduced = reducing.reduce_models(request(right, wrong), tmp_path / "bug.py")
    assert reduced.path is None
    assert reason in reduced.reason
    assert not (tmp_path / "bug.py").exists()


@pytest.mark.slow
def test_large_arrays_are_beside_the_file_and_go_with_it(right, tmp_path, monkeypatch):
    wrong = broken(right, ("(x), 0.1)", "(x), 0.3)"))
    out = tmp_path / "bug.py"
    with monkeypatch.context() as patch:
        patch.setattr("parity.commands.piece_file.LARGEST_TEXT", 16)
        assert public.reduce(f"right={right}:net", f"wrong={wrong}:net", out).path == out
    beside = tmp_path / "bug.npz"
    assert beside.exists()
    assert run(out)[0] == 1
    # The next run replaces both: the arrays are now in the file.
    reduced = public.reduce(f"right={right}:net", f"wrong={wrong}:net", out)
    assert (reduced.path, reduced.layers) == (out, 1)
    assert reduced.error > 4 * reduced.floor > 0
    assert not beside.exists()


@pytest.mark.parametrize("name", ["bug.py", "bug.npz"])
def test_a_file_of_others_is_refused_before_anything_runs(parity, right, tmp_path, name):
    (tmp_path / name).write_text("mine = 1\n")
    done = parity("reduce", f"{right}:net", f"{right}:net", "--out", tmp_path / "bug.py")
    assert done.code == 2
    assert "parity did not make it" in done.error
    assert (tmp_path / name).read_text() == "mine = 1\n"


def test_bad_names_and_the_models_own_files_are_refused(right, tmp_path):
    with pytest.raises(OutputError, match="expected the name of a Python file"):
        public.reduce(f"{right}:net", f"{right}:net", tmp_path / "bug.txt")
    with pytest.raises(OutputError, match=r"parity did not make it|would replace"):
        public.reduce(f"{right}:net", f"{right}:net", right)


@pytest.mark.slow
def test_weights_that_differ_alone(parity, right, tmp_path):
    """The kernel of one layer has other values: both sets of weights are in the file."""
    import torch

    scope: dict = {}
    exec(compile(right.read_text(), str(right), "exec"), scope)
    state = scope["net"]()[0].state_dict()
    state["conv2.weight"] = state["conv2.weight"].flip(3)
    torch.save(state, tmp_path / "wrong.pth")
    out = tmp_path / "bug.py"
    other = f"wrong={right}:net,weights={tmp_path / 'wrong.pth'}"
    done = parity("reduce", f"right={right}:net", other, "--out", out)
    assert done.code == 1, done.out + done.err
    assert "subject/conv2.weight" in out.read_text()
    assert "subject/conv2.bias" not in out.read_text()
    assert run(out)[0] == 1


def test_a_graph_with_inner_graphs_is_not_written(parity, tmp_path):
    def make(path: Path, factor: float) -> Path:
        helper = onnx.helper
        value = onnx.numpy_helper.from_array(np.float32(factor), "factor")
        one = helper.make_graph(
            [helper.make_node("Mul", ["x", "factor"], ["scaled"])],
            "then", [], [helper.make_tensor_value_info("scaled", 1, None)], [value],
        )  # fmt: skip
        other = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["same"])],
            "else", [], [helper.make_tensor_value_info("same", 1, None)],
        )  # fmt: skip
        nodes = [
            helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["sum"], ["any"], to=9),
            helper.make_node("If", ["any"], ["y"], then_branch=one, else_branch=other),
        ]
        info = helper.make_tensor_value_info
        graph = helper.make_graph(nodes, "g", [info("x", 1, [2, 3])], [info("y", 1, [2, 3])])
        opsets = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
        return path

    right, wrong = make(tmp_path / "right.onnx", 2.0), make(tmp_path / "wrong.onnx", 3.0)
    done = parity("reduce", right, wrong, "--out", tmp_path / "bug.py")
    assert done.code == 3, done.out + done.err
    assert "inner graphs" in done.out
    assert not (tmp_path / "bug.py").exists()
