"""`parity fix` of the source of models: joined branches and attention, however they are written."""

from __future__ import annotations

import subprocess
from pathlib import Path

import onnx
import pytest

from exporters import torch_onnx
from parity.commands.fix import fix_models
from parity.comparison.graphs.request import GraphRequest

pytestmark = pytest.mark.framework

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(6, 8)
        self.other = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.tanh(self.one(x))
        y = self.other(x)
        x = x + y
        return self.head(x)


def net():
    torch.manual_seed(5)
    return Net(), torch.zeros(2, 6)
"""

KERAS_NET = """
import keras
from keras import layers


def net():
    keras.utils.set_random_seed(5)
    x = data = keras.Input((6,))
    x = layers.Dense(8, activation="tanh", name="one")(x)
    y = layers.Dense(8, name="other")(x)
    x = layers.Add()([x, y])
    return keras.Model(data, layers.Dense(3, name="head")(x))
"""


def repair(tmp_path: Path, right: str, wrong: str) -> str:
    """Return the source after the repair's patch was applied."""
    (tmp_path / "right.py").write_text(right)
    (tmp_path / "wrong.py").write_text(wrong)
    names = (f"right={tmp_path}/right.py:net", f"wrong={tmp_path}/wrong.py:net")
    result = fix_models(GraphRequest(names, export=False), tmp_path / "out", every=True)
    assert result.accepted, result.remaining
    (patch,) = result.files
    subprocess.run(["git", "apply", str(patch)], cwd=tmp_path, check=True)
    return (tmp_path / "wrong.py").read_text()


@pytest.mark.parametrize(
    ("written", "repaired"),
    [
        ("x = x - y", "x = x + y"),
        pytest.param("x = torch.maximum(x, y)", "x = torch.add(x, y)", marks=pytest.mark.slow),
        pytest.param("x = x.mul(y)", "x = x.add(y)", marks=pytest.mark.slow),
        pytest.param("y = y - x; x = y", "y = y + x; x = y", marks=pytest.mark.slow),
        pytest.param("x *= y", "x += y", marks=pytest.mark.slow),
    ],
)
def test_another_operation_in_the_source_of_a_pytorch_model(tmp_path, written, repaired):
    wrong = NET.replace("x = x + y", written)
    assert repair(tmp_path, NET, wrong) == NET.replace("x = x + y", repaired)


@pytest.mark.parametrize(
    ("written", "repaired"),
    [
        pytest.param("layers.Subtract()([x, y])", "layers.Add()([x, y])", marks=pytest.mark.slow),
        pytest.param("x * y", "x + y", marks=pytest.mark.slow),
        pytest.param("keras.ops.maximum(x, y)", "keras.ops.add(x, y)", marks=pytest.mark.slow),
    ],
)
def test_another_operation_in_the_source_of_a_keras_model(tmp_path, written, repaired):
    wrong = KERAS_NET.replace("layers.Add()([x, y])", written)
    expected = KERAS_NET.replace("layers.Add()([x, y])", repaired)
    assert repair(tmp_path, KERAS_NET, wrong) == expected


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param("x = x + 0.5 * y", "x = x + y", marks=pytest.mark.slow),
        pytest.param("x = x + y.softmax(1)", "x = x + y.softmax(0)", marks=pytest.mark.slow),
        pytest.param("x = x + torch.exp(y)", "x = x + torch.sin(y)", marks=pytest.mark.slow),
        pytest.param("x = x + y.abs()", "x = x + y", marks=pytest.mark.slow),
    ],
)
def test_an_expression_in_the_source_of_a_pytorch_model(tmp_path, right, wrong):
    texts = [NET.replace("x = x + y", each) for each in (right, wrong)]
    assert repair(tmp_path, *texts).replace("torch.abs(y)", "y.abs()") == texts[0]


CONSTANTS = KERAS_NET.replace("def net", "FACTOR = 0.25\n\n\ndef net")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("x = x + 0.25 * y", "x = x + 0.5 * y"),
        ("x = x + y * FACTOR", "x = x + y * FACTOR"),
        ("x = layers.Add()([x, y])", "x = layers.Average()([x, y])"),
        ("x = x + keras.ops.softmax(y, axis=1)", "x = x + keras.ops.softmax(y, axis=0)"),
        ("x = layers.Concatenate()([x, y])", "x = layers.Concatenate()([y, x])"),
    ],
)
def test_an_expression_in_the_source_of_a_keras_model(tmp_path, right, wrong):
    texts = [CONSTANTS.replace("x = layers.Add()([x, y])", each) for each in (right, wrong)]
    if right == wrong:
        texts[1] = texts[1].replace("FACTOR = 0.25", "FACTOR = 0.5")
    assert repair(tmp_path, *texts) == texts[0]


SHARED = NET.replace(
    "class Net", "def act(x):\n    return torch.clamp(x, -0.4, 0.4)\n\n\nclass Net"
).replace("torch.tanh(self.one(x))", "act(self.one(x))")


def test_a_line_that_two_layers_share_is_never_changed_for_one_of_them(tmp_path):
    (tmp_path / "right.py").write_text(
        SHARED.replace("self.other(x)", "torch.clamp(self.other(x), -0.4, 0.2)")
    )
    (tmp_path / "wrong.py").write_text(SHARED.replace("self.other(x)", "act(self.other(x))"))
    names = (f"right={tmp_path}/right.py:net", f"wrong={tmp_path}/wrong.py:net")
    result = fix_models(GraphRequest(names, export=False), tmp_path / "out", every=True)
    assert not result.accepted
    assert (result.files, result.changes) == ((), ())
    assert any("wrong.py:7: return torch.clamp(x, -0.4, 0.4)" in each for each in result.by_hand)


@pytest.mark.slow
def test_another_operation_in_an_onnx_file(tmp_path):
    (tmp_path / "right.py").write_text(NET)
    scope: dict[str, object] = {}
    exec(compile(NET, "net.py", "exec"), scope)
    model, _ = scope["net"]()  # type: ignore[operator]
    path = tmp_path / "wrong.onnx"
    torch_onnx.export(model.eval(), [(6,)], path, inputs=["x"])
    proto = onnx.load(path)
    joins = [
        node
        for node in proto.graph.node
        if node.op_type == "Add"
        and not {each.name for each in proto.graph.initializer} & {*node.input}
    ]
    joins[0].op_type = "Sub"
    onnx.save(proto, path)
    names = (f"right={tmp_path}/right.py:net", f"wrong={path}")
    result = fix_models(GraphRequest(names, export=False), tmp_path / "out", every=True)
    assert result.accepted, result.remaining
    (repaired,) = result.files
    assert [node.op_type for node in onnx.load(repaired).graph.node].count("Sub") == 0


ATTENTION_NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 4, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        x = self.attention(x, x, x, need_weights=False)[0]
        return self.head(x)


def net():
    torch.manual_seed(5)
    return Net(), torch.randn(2, 6, 8)
"""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param(
            "need_weights=False", "attn_mask=mask, need_weights=False", marks=pytest.mark.slow
        ),
        pytest.param("Attention(8, 4,", "Attention(8, 2,", marks=pytest.mark.slow),
    ],
)
def test_a_mask_and_the_heads_of_an_attention(tmp_path, right, wrong):
    broken = ATTENTION_NET.replace(right, wrong)
    assert broken != ATTENTION_NET
    assert repair(tmp_path, ATTENTION_NET, broken) == ATTENTION_NET


CONCAT_NET = """
import torch
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1 = nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Linear(14, 4)

    def forward(self, x):
        x = functional.relu(self.stem(x))
        y = self.conv1(x)
        y = functional.silu(y)
        x = torch.cat([x, y], 1)
        return self.head(x.mean((2, 3)))


def net():
    torch.manual_seed(3)
    return Net(), torch.randn(2, 3, 10, 10)
"""


@pytest.mark.slow
def test_an_activation_that_one_input_of_a_join_lacks(tmp_path):
    wrong = CONCAT_NET.replace("        y = functional.silu(y)\n", "")
    assert wrong != CONCAT_NET
    assert "y = functional.silu(self.conv1(x))" in repair(tmp_path, CONCAT_NET, wrong)


def test_a_change_with_which_the_model_fails_is_left_to_the_user(tmp_path):
    """As one in a helper function, which constructs other layers that cannot have the setting."""
    right = NET.replace("torch.tanh(", "self.act(").replace(
        "        self.head", "        self.act = nn.LeakyReLU(0.3)\n        self.head"
    )
    wrong = right.replace("LeakyReLU(0.3)", "LeakyReLU(0.2)").replace(
        "        self.head", "        assert self.act.negative_slope == 0.2\n        self.head", 1
    )
    (tmp_path / "right.py").write_text(right)
    (tmp_path / "wrong.py").write_text(wrong)
    names = (f"right={tmp_path}/right.py:net", f"wrong={tmp_path}/wrong.py:net")
    result = fix_models(GraphRequest(names, export=False), tmp_path / "out")
    assert not result.accepted
    assert not result.files
    (told,) = result.by_hand
    assert "leaky-relu-slope" in told
    assert "LeakyReLU(0.3)`: the model then fails: " in told
    assert "AssertionError" in told
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
