"""The changes around a line that a run decides between, and the lines that are around one."""

from __future__ import annotations

import ast

import pytest

from parity.explain.repair.flow import trace_lines
from parity.explain.repair.neighbours import MAX_PER_LINE, find_named, list_changes
from parity.explain.repair.syntax import parse
from parity.explain.repair.transplants import ReferenceCode

HEAD = {
    "keras": "import keras\nfrom keras import layers, ops\n\n\n",
    "torch": "import torch\nfrom torch.nn import functional as F\n\n\n",
}


def write(framework: str, line: str, *more: str) -> str:
    body = "\n    ".join((line, *more))
    return f"{HEAD[framework]}def f(self, x, h, gamma, table, feats, n, i):\n    {body}\n"


def read_reference(framework: str, line: str) -> ReferenceCode:
    other = "torch" if framework == "keras" else "keras"
    return ReferenceCode.read(other, write(other, line), [6])


@pytest.mark.parametrize(
    ("framework", "wrong", "right", "reference"),
    [
        ("keras", "t, s = ops.split(h, 2)", "s, t = ops.split(h, 2)", ""),
        ("keras", "y = self.f(x) * (1.0 - h) + x * h", "y = x * (1.0 - h) + self.f(x) * h", ""),
        ("keras", "y = [x, feats[0]]", "y = [x, feats[1]]", ""),
        ("keras", "y = g(h, table[:, 0, i], table[:, 1, i])",
         "y = g(h, table[:, i, 0], table[:, i, 1])", ""),
        ("keras", "y = ops.pad(x, ((0, 0), (0, 1)))", "y = ops.pad(x, ((0, 0), (1, 0)))", ""),
        ("keras", "y = self.act(self.norm(x), 1)", "y = self.norm(self.act(x), 1)", ""),
        ("keras", "y = g(h, h - x) * h", "y = g(x, x - h) * x", ""),
        ("keras", "y = x[:, :n]", "y = x[:, n:]", ""),
        ("keras", "y = gru(x, reset_after=False)", "y = gru(x, reset_after=True)", ""),
        ("keras", "y = ops.concatenate([x, x])", "y = ops.concatenate([x, h])", ""),
        ("keras", "y = ops.max(x, axis=1)", "y = ops.mean(x, axis=1)", ""),
        ("keras", "y = x * gamma - h", "y = x * gamma + h", ""),
        # As the reference writes it, with the names of this framework.
        ("keras", "s = ops.tanh(h)", "s = 2.0 * ops.tanh(h / 2.0)",
         "h = 2.0 * torch.tanh(h / 2.0)"),
        ("keras", "x = ops.roll(x, n // 2, axis=1)", "x = ops.flip(x, axis=1)",
         "x = torch.flip(x, dims=[1])"),
        ("keras", "y = gamma[:, None] * x", "y = (1 + gamma[:, None]) * x",
         "y = (1 + gamma[:, :, None]) * x"),
        ("keras", "y = x + h", "y = ops.exp(x) + h", "return torch.exp(x)"),
        ("keras", "y = h + ops.roll(x, n)", "y = h + ops.flip(x, axis=1)",
         "return torch.flip(x, dims=[1]).sum()"),
        ("torch", "y = x.mean(dim=1)", "y = torch.amax(x, dim=1)", "y = ops.max(x, axis=1)"),
        # The axes of the reference have another order.
        ("keras", "k = ops.tile(h, (1, 1, n, 1))", "k = ops.repeat(h, n, axis=2)", ""),
        ("keras", "k = ops.repeat(h, n, axis=2)", "k = ops.tile(h, (1, 1, n, 1))", ""),
        ("keras", 'y = layers.Conv2D(8, n, padding="same")(x)',
         'y = layers.Conv2D(8, n, padding="valid")(layers.ZeroPadding2D(n // 2)(x))', ""),
        ("keras", "y = self.attention(x, x)", "y = self.attention(x, x, use_causal_mask=True)", ""),
        ("torch", "y = F.scaled_dot_product_attention(x, x, x)",
         "y = F.scaled_dot_product_attention(x, x, x, is_causal=True)", ""),
        ("keras", "y = ops.softmax(x)",
         'y = ops.softmax(ops.where(ops.tril(ops.ones((x.shape[-2], x.shape[-1]), dtype="bool")),'
         " x, -1e9))", ""),
    ],
)  # fmt: skip
def test_the_right_line_is_among_the_changes(framework, wrong, right, reference):
    code = read_reference(framework, reference) if reference else None
    found = list(list_changes(write(framework, wrong), 6, framework, code))
    wanted = ast.dump(ast.parse(write(framework, right)))
    trees = [parse(each) for each in found[:MAX_PER_LINE]]
    assert wanted in [ast.dump(tree) for tree in trees if tree is not None]


def test_a_reshape_is_changed_with_the_transpose_behind_it():
    wrong = ("y = ops.reshape(x, (-1, n, n, i, i, 8))", "y = ops.transpose(y, (0, 1, 3, 2, 4, 5))")
    right = ("y = ops.reshape(x, (-1, n, n, 8, i, i))", "y = ops.transpose(y, (0, 1, 4, 2, 5, 3))")
    found = list(list_changes(write("keras", *wrong), 6, "keras"))
    assert write("keras", *right) in found[:MAX_PER_LINE]


def test_a_mask_that_nothing_reads_is_used():
    lines = ("w = h / 2", "causal = table", "w = ops.softmax(w)")
    found = list(list_changes(write("keras", *lines), 8, "keras"))
    right = (*lines[:2], "w = ops.softmax(ops.where(causal, w, -1e9))")
    assert write("keras", *right) in found[:MAX_PER_LINE]


def test_two_statements_are_exchanged():
    found = list(list_changes(write("torch", "x = F.relu(x)", "x = h + x"), 7, "torch"))
    assert write("torch", "x = h + x", "x = F.relu(x)") in found


def test_no_change_is_of_another_line():
    text = write("keras", "y = x * gamma", "z = y + 1", "return z")
    for changed in list_changes(text, 6, "keras"):
        assert changed.splitlines()[7:] == text.splitlines()[7:]


FLOW = """
def scale(x, by):
    y = x * by
    return y


def build(x, n):
    a = x + 1
    b = n * 2
    h = scale(a, 3)
    s = h + b
    return s / 2
"""


def test_a_line_is_traced_to_what_it_reads_and_calls():
    # Itself, what it is made of, the latest first, what reads it; then what is called, and calls.
    assert trace_lines(FLOW, [11]) == [11, 10, 9, 8, 12]
    assert trace_lines(FLOW, [10])[:3] == [10, 8, 11]
    assert set(trace_lines(FLOW, [10])) >= {3, 4}
    assert 10 in trace_lines(FLOW, [3])


def test_the_lines_that_a_cause_names():
    text = "`tile` (net.py:43) gives other values than `repeat` (right.py:44)"
    assert find_named(text, {"/somewhere/net.py": ""}) == [("/somewhere/net.py", 43)]
