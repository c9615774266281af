"""`parity fix` as a user runs it: each form of repair, what is refused, and that it is true."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from exporters import torch_onnx
from parity.commands import fix as fixing
from parity.comparison.graphs.preparation import Preparation
from parity.comparison.graphs.request import GraphRequest
from parity.comparison.results import Outcome
from parity.errors import ChildError, OutputError, UsageError

pytestmark = pytest.mark.framework

NET = """
import torch
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, (3, 3), stride=2, padding=1)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = functional.relu(self.norm1(self.conv1(x)))
        x = functional.leaky_relu(self.conv2(x), 0.1)
        return self.head(functional.max_pool2d(x, 2).mean((2, 3)))


def net():
    torch.manual_seed(3)
    model = Net()
    model.norm1.running_mean.normal_(0.0, 0.2)
    model.norm1.running_var.uniform_(0.5, 1.5)
    return model, torch.zeros(1, 3, 12, 12)
"""

KERAS_NET = """
import keras
from keras import layers


def net():
    keras.utils.set_random_seed(5)
    image = keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 3, padding="same", name="conv1")(image)
    x = layers.BatchNormalization(name="norm1")(x)
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(2, name="pool")(x)
    return keras.Model(image, layers.Dense(4, name="head")(layers.Flatten()(x)))
"""


@pytest.fixture
def right(tmp_path):
    path = tmp_path / "right_net.py"
    path.write_text(NET)
    return path


def load(path: Path) -> torch.nn.Module:
    scope: dict = {}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    return scope["net"]()[0].eval()


def broken(right: Path, *changes: tuple[str, str]) -> Path:
    text = right.read_text()
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = right.with_name("wrong_net.py")
    path.write_text(text)
    return path


def fix(parity, right, wrong, out, *options):
    return parity("fix", right, wrong, "--out", out, "--shape", "x=1x3x12x12", *options)


@pytest.mark.slow
def test_a_patch_of_the_source_of_a_pytorch_model(parity, right, tmp_path):
    wrong = broken(
        right,
        ("nn.BatchNorm2d(6)", "nn.BatchNorm2d(6, eps=1e-2)"),
        ("(x), 0.1)", "(x), 0.3)"),
        ("functional.relu(self.norm1", "functional.silu(self.norm1"),
    )
    before = wrong.read_bytes()
    done = fix(parity, f"{right}:net", f"{wrong}:net", tmp_path / "out", "--all")
    assert done.code == 0, done.out + done.err
    assert wrong.read_bytes() == before
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["wrong_net.patch"]
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    folder = tmp_path / "applied"
    folder.mkdir()
    shutil.copy(wrong, folder)
    # The patch names the file from the folder that the command ran in, or from the file's own.
    subprocess.run(
        ["git", "apply", str(tmp_path / "out" / "wrong_net.patch")],
        cwd=folder, check=True,
    )  # fmt: skip
    repaired = load(folder / "wrong_net.py")
    x = torch.randn(2, 3, 12, 12)
    assert torch.equal(repaired(x), load(right)(x))


@pytest.mark.slow
def test_a_checkpoint_of_a_pytorch_model(parity, right, tmp_path):
    model = load(right)
    state = model.state_dict()
    wrong = dict(state)
    wrong["conv2.weight"] = state["conv2.weight"].transpose(2, 3).contiguous()
    wrong["norm1.running_mean"] = torch.zeros(6)
    wrong["norm1.running_var"] = torch.ones(6)
    torch.save(wrong, tmp_path / "wrong.pth")
    out = tmp_path / "out"
    done = fix(parity, f"{right}:net", f"{right}:net,weights={tmp_path / 'wrong.pth'}", out)
    assert done.code == 0, done.out + done.err
    assert "statistics-not-loaded" in done.out
    assert "kernel-layout" in done.out
    (path,) = out.iterdir()
    repaired = torch.load(path, weights_only=True)
    assert all(torch.equal(repaired[name], state[name]) for name in state)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self.conv2(x), 0.1)", "1.5 * self.conv2(x), 0.1)"),
        ("stride=2, padding=1)", "stride=2, padding=1, bias=False)"),
    ],
)
def test_an_added_factor_and_a_missing_bias_in_the_source(parity, right, tmp_path, old, new):
    wrong = broken(right, (old, new))
    done = fix(parity, f"{right}:net", f"{wrong}:net", tmp_path / "out", "--all")
    assert done.code == 0, done.out + done.err
    assert "wrong_net.patch" in [each.name for each in (tmp_path / "out").iterdir()]


def exported(right: Path, path: Path, change) -> Path:
    model = load(right)
    torch_onnx.export(model, [(3, 12, 12)], path)
    proto = onnx.load(path)
    change(proto.graph)
    onnx.save(proto, path)
    return path


def node_of(graph, operator, number=0):
    return [node for node in graph.node if node.op_type == operator][number]


def set_attribute(node, name, value):
    kept = [each for each in node.attribute if each.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])


def change_pads(graph):
    set_attribute(node_of(graph, "Conv", 1), "pads", [0, 0, 2, 2])


def change_alpha(graph):
    set_attribute(node_of(graph, "LeakyRelu"), "alpha", 0.3)


def change_operator(graph):
    node_of(graph, "LeakyRelu").op_type = "Elu"


def change_initializer(graph):
    name = node_of(graph, "Conv", 1).input[1]
    (kernel,) = [each for each in graph.initializer if each.name == name]
    value = numpy_helper.to_array(kernel).swapaxes(2, 3)
    kernel.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (change_pads, "padding"),
        (change_alpha, "leaky-relu-slope"),
        (change_operator, "activation-other"),
        (change_initializer, "kernel-layout"),
    ],
)
def test_an_onnx_file(parity, right, tmp_path, change, cause):
    wrong = exported(right, tmp_path / "wrong.onnx", change)
    out = tmp_path / "out"
    done = fix(parity, f"{right}:net", wrong, out)
    assert done.code == 0, done.out + done.err
    assert cause in done.out
    again = parity("compare", f"{right}:net", out / "wrong.repaired.onnx", "--no-export")
    assert again.code == 0, again.out + again.err


@pytest.mark.slow
def test_a_keras_file_and_the_source_of_a_keras_model(parity, tmp_path):
    path = tmp_path / "right_keras.py"
    path.write_text(KERAS_NET)
    wrong = tmp_path / "wrong_keras.py"
    wrong.write_text(KERAS_NET.replace('activation="relu"', 'activation="tanh"'))
    out = tmp_path / "out"
    done = parity("fix", f"{path}:net", f"{wrong}:net", "--out", out)
    assert done.code == 0, done.out + done.err
    assert (
        '+    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv2")(x)'
        in (out / "wrong_keras.patch").read_text()
    )
    script = f"""
import runpy
runpy.run_path({str(wrong)!r})["net"]().save({str(tmp_path / "wrong.keras")!r})
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    done = parity("fix", f"{path}:net", tmp_path / "wrong.keras", "--out", out)
    assert done.code == 0, done.out + done.err
    again = parity("compare", f"{path}:net", out / "wrong.repaired.keras", "--no-export")
    assert again.code == 0, again.out + again.err


@pytest.mark.slow
def test_what_no_cause_covers_is_not_repaired(parity, right, tmp_path):
    wrong = broken(right, ("return self.head(", "return self.head(torch.sin(x).mean((2, 3)) + "))
    done = fix(parity, f"{right}:net", f"{wrong}:net", tmp_path / "out", "--all")
    assert done.code == 1, done.out + done.err
    assert "nothing was written" in done.out
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_without_all_two_rounds_are_too_many(parity, right, tmp_path):
    """A stride that is wrong hides what follows: one comparison cannot prove both."""
    wrong = broken(
        right,
        ("stride=2, padding=1)", "stride=1, padding=1)"),
        ("(x), 0.1)", "(x), 0.3)"),
    )
    done = fix(parity, f"{right}:net", f"{wrong}:net", tmp_path / "out")
    assert done.code == 1, done.out + done.err
    assert not (tmp_path / "out").exists()
    done = fix(parity, f"{right}:net", f"{wrong}:net", tmp_path / "out", "--all")
    assert done.code == 0, done.out + done.err


@pytest.mark.slow
def test_bad_input_and_files_that_exist(parity, right, tmp_path):
    done = fix(parity, f"{right}:net", tmp_path / "none.onnx", tmp_path / "out")
    assert done.code == 2
    assert done.error
    (tmp_path / "file").write_text("")
    done = fix(parity, f"{right}:net", f"{right}:net", tmp_path / "file")
    assert done.code == 2
    assert "is a file" in done.error


BLOCKS = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.activation = nn.LeakyReLU(0.1)

    def forward(self, x):
        return x + self.activation(self.conv(x))


def net():
    torch.manual_seed(3)
    return nn.Sequential(Block(), Block()), torch.zeros(1, 3, 12, 12)
"""


def test_one_line_that_builds_two_layers(parity, tmp_path):
    """The repair of the first mends the second: nothing is left to be done by hand."""
    right = tmp_path / "right_net.py"
    right.write_text(BLOCKS)
    wrong = broken(right, ("LeakyReLU(0.1)", "LeakyReLU(0.01)"))
    done = parity("fix", f"{right}:net", f"{wrong}:net", "--out", tmp_path / "out")
    assert done.code == 0, done.out + done.err
    assert "LeakyReLU(0.1)" in (tmp_path / "out" / "wrong_net.patch").read_text()
    assert "by hand" not in done.out


# What is accepted ---------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["random", "right"])
def test_a_file_is_not_judged_with_copied_weights(parity, right, tmp_path, weights):
    """The file would be accepted with weights that it does not hold."""
    wrong = exported(right, tmp_path / "wrong.onnx", change_alpha)
    out = tmp_path / "out"
    options = ("--weights", weights)
    done = fix(parity, f"right={right}:net", f"wrong={wrong}", out, *options)
    assert done.code == 2, done.out + done.err
    assert f"--weights {weights}: {wrong} is repaired with the weights that it holds" in done.error
    assert not out.exists()


def repairer(tmp_path, right, wrong=None, **options):
    reference = f"{right}:net"
    request = GraphRequest((f"right={reference}", f"wrong={wrong or reference}"), **options)
    made = fixing._Repairer(request, tmp_path / "out", tmp_path, True, fixing.no_progress)
    made.name = "wrong"
    return made


def test_a_checkpoint_is_not_written_with_copied_weights(right, tmp_path):
    made = repairer(tmp_path, right, weights="random")
    graph = SimpleNamespace(framework="torch")
    model = SimpleNamespace(graph=graph, subject=SimpleNamespace(child="torch"))
    values = tmp_path / "values.npz"
    np.savez(values, a=np.zeros(1, np.float32))
    state = SimpleNamespace(models={"wrong": model}, weights={"wrong": values})
    asked = []
    child = SimpleNamespace(call=lambda name, **_: asked.append(name))
    runner = SimpleNamespace(children={"torch": child})
    made._round = fixing._Round(f"{right}:net")
    planned = SimpleNamespace(weights={"a": np.ones(1, np.float32)}, settings={}, edits=())
    with pytest.raises(UsageError, match="--weights random"):
        made._write_file(state, runner, fixing.Candidate(f"{right}:net"), planned, ())
    assert not asked


@pytest.mark.parametrize("failing", [None, 0, 1, 2])
def test_a_repair_is_judged_on_the_users_input_and_on_two_others(
    right, tmp_path, monkeypatch, failing
):
    made = repairer(tmp_path, right)
    judged = []

    @contextmanager
    def compare(self, candidate, request, *, unseen=0):
        judged.append(unseen)
        ok = unseen != failing
        outcome = Outcome.PASS if ok else Outcome.FAIL
        level = SimpleNamespace(outcome=outcome, messages=("they differ",))
        yield (
            None,
            None,
            None,
            SimpleNamespace(
                ok=ok,
                levels={"semantics": level},
                subjects={},
                causes=(),
                first_divergence=None,
                stages=(),
            ),
        )

    monkeypatch.setattr(fixing._Repairer, "_compare", compare)
    repaired = made._accept(fixing.Candidate(f"{right}:net", changes=("a change",)))
    assert repaired.accepted == (failing is None)
    assert judged == list(range(3 if failing is None else failing + 1))


# What a repair relies on --------------------------------------------------------------------------


def test_a_comparison_within_a_round_leaves_the_round_as_it_was(right, tmp_path, monkeypatch):
    """The repairs after it are merged with those before it."""
    monkeypatch.setattr(fixing, "Children", lambda **_: nullcontext())
    run = SimpleNamespace(run=lambda: None)
    requests = []
    monkeypatch.setattr(
        fixing, "RepairPreparation", lambda request, *_, **__: requests.append(request) or run
    )
    monkeypatch.setattr(fixing, "GraphRunner", lambda *_: None)
    monkeypatch.setattr(fixing, "judge_models", lambda *_: (None, None))
    monkeypatch.setattr(fixing, "assemble_graph_report", lambda *_: None)
    made = repairer(tmp_path, right)
    first = fixing.Candidate(f"{right}:net", {"a.py": "one"})
    second = fixing.Candidate(f"{right}:net,weights=other.pth", {"a.py": "two"})
    with made._compare(first, made.request):
        made._round.weights["kernel"] = np.ones(1)
        before = made._round
        with made._compare(second, made.request):
            assert made._round.texts == {"a.py": "two"}
            assert not made._round.weights
        assert made._round is before
        with pytest.raises(ZeroDivisionError), made._compare(second, made.request):
            raise ZeroDivisionError
        assert made._round is before
    # The first model is the reference, of whatever format the two are.
    assert {each.reference for each in requests} == {"right"}


@pytest.mark.slow
def test_a_right_model_in_onnx(parity, right, tmp_path):
    reference = exported(right, tmp_path / "right.onnx", lambda graph: None)
    wrong = broken(right, ("(x), 0.1)", "(x), 0.3)"))
    done = fix(parity, reference, f"{wrong}:net", tmp_path / "out", "--all")
    assert done.code == 0, done.out + done.err
    assert "(x), 0.1)" in (tmp_path / "out" / "wrong_net.patch").read_text()


@pytest.mark.slow
def test_two_settings_of_a_keras_file_in_one_round(parity, tmp_path):
    right = tmp_path / "right_keras.py"
    right.write_text(KERAS_NET)
    wrong = tmp_path / "wrong_keras.py"
    text = KERAS_NET.replace('activation="relu"', 'activation="tanh"')
    wrong.write_text(text.replace('(name="norm1")', '(name="norm1", epsilon=0.5)'))
    script = f"""
import runpy
runpy.run_path({str(wrong)!r})["net"]().save({str(tmp_path / "wrong.keras")!r})
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    done = parity("fix", f"{right}:net", tmp_path / "wrong.keras", "--out", tmp_path / "out")
    assert done.code == 0, done.out + done.err
    assert "accepted" in done.out


# Files --------------------------------------------------------------------------------------------


def test_two_sources_of_one_name_have_two_patches(right, tmp_path):
    texts = {}
    for folder in ("a", "b"):
        file = tmp_path / folder / "blocks.py"
        file.parent.mkdir()
        file.write_text(f"{folder} = 1\n")
        texts[str(file)] = f"{folder} = 2\n"
    made = repairer(tmp_path, right)
    paths, _ = made._files.write(fixing.Candidate(f"{right}:net", texts))
    assert [path.name for path in paths] == ["blocks.patch", "blocks.2.patch"]
    assert "+a = 2" in paths[0].read_text()
    assert "+b = 2" in paths[1].read_text()


def test_a_source_that_is_not_utf_8_is_left_to_the_user(right, tmp_path):
    source = tmp_path / "latin.py"
    source.write_bytes("# -*- coding: latin-1 -*-\n# caf\xe9\nnet = 1\n".encode("latin-1"))
    made = repairer(tmp_path, right)
    made._round = fixing._Round(f"{source}:net")
    assert made._read_texts({}, {}) == {}
    made._round = fixing._Round(f"{right}:net")
    assert made._read_texts({}, {}) == {str(right): NET}


@pytest.mark.slow
def test_a_repair_of_a_source_that_is_not_utf_8_is_made_by_hand(parity, tmp_path):
    right = tmp_path / "right_net.py"
    right.write_text(BLOCKS)
    wrong = tmp_path / "wrong_net.py"
    text = "# -*- coding: latin-1 -*-\n# caf\xe9\n" + BLOCKS.replace("ReLU(0.1)", "ReLU(0.01)")
    wrong.write_bytes(text.encode("latin-1"))
    done = parity("fix", f"{right}:net", f"{wrong}:net", "--out", tmp_path / "out")
    assert done.code == 1, done.out + done.err
    assert "to change by hand: " in done.out
    assert "nothing was written" in done.out


def test_an_output_that_exists_is_refused_before_any_comparison(right, tmp_path, monkeypatch):
    wrong = exported(right, tmp_path / "wrong.onnx", change_alpha)
    made = repairer(tmp_path, right, wrong)
    made.out.mkdir()
    (made.out / "wrong.repaired.onnx").write_text("")
    monkeypatch.setattr(fixing._Repairer, "_compare", None)
    with pytest.raises(OutputError, match="exists already"):
        made.run()


def test_a_patch_that_exists_is_refused_before_the_next_round(right, tmp_path, monkeypatch):
    made = repairer(tmp_path, right)
    changed = fixing.Candidate(f"{right}:net", {str(right): "other\n"}, changes=("a change",))
    rounds = []
    monkeypatch.setattr(
        fixing._Repairer, "_improve", lambda self, found: (rounds.append(found) or changed, "")
    )
    made.out.mkdir()
    (made.out / "right_net.patch").write_text("")
    with pytest.raises(OutputError, match="exists already"):
        made.run()
    assert len(rounds) == 1


def test_a_right_model_that_cannot_be_loaded_is_named_with_its_error(right, tmp_path):
    made = repairer(tmp_path, right)
    request = replace(made.request, reference="right")
    preparation = Preparation(request, None, tmp_path, fixing.no_progress)
    preparation.failures["right"] = "PyTorch is not installed"
    with pytest.raises(ChildError, match=r"^right: PyTorch is not installed$"):
        preparation._choose_reference([])
