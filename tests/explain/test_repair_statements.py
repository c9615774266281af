"""Edits of statements: the literal, the operand and the list that a line's values come from."""

from __future__ import annotations

import ast

import numpy as np
import pytest

from parity.explain.repair import changes, literals, source, statements

EPSILON = """
import keras
from keras import ops

EPS = 1e-3
CFG = dict(eps=1e-3, axis=1)


class Norm(keras.layers.Layer):
    def __init__(self, eps=1e-3):
        self.eps = eps

    def call(self, x):
        x = ops.softmax(x, axis=1)
        return x / ops.sqrt(ops.mean(x * x) + self.eps)


def scale(x, factor, eps=EPS):
    return x * factor + CFG["eps"]


def build(x):
    return scale(Norm()(x), 0.25)
"""


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def changed_lines(text: str, changed: str) -> list[str]:
    pairs = zip(text.splitlines(), changed.splitlines(), strict=True)
    return [new.strip() for old, new in pairs if old != new]


@pytest.mark.parametrize(
    ("line", "old", "new", "expected"),
    [
        # An attribute, and the default of the argument that it is made of.
        ("return x / ops.sqrt", 1e-3, 1e-6, ["def __init__(self, eps=1e-06):"]),
        # A call's own argument.
        ("x = ops.softmax", 1, 2, ["x = ops.softmax(x, axis=2)"]),
        # What the call of the function gives, an item of a dictionary.
        ("return x * factor", 0.25, 0.5, ["return scale(Norm()(x), 0.5)"]),
        ("return x * factor", 1e-3, 1e-5, ["CFG = dict(eps=1e-05, axis=1)"]),
        # float32 has rounded what the graph states.
        ("return x / ops.sqrt", 0.0010000000474974513, 1e-6, ["def __init__(self, eps=1e-06):"]),
        ("return x / ops.sqrt", 0.002, 1e-6, []),
        ("x = ops.softmax", True, False, []),
    ],
)
def test_a_value_is_changed_where_it_is_written(line, old, new, expected):
    found = literals.change_values(EPSILON, line_of(EPSILON, line), old, new)
    assert [changed_lines(EPSILON, each) for each in found] == [[each] for each in expected]


@pytest.mark.parametrize(
    ("line", "old", "new", "expected"),
    [
        ("y = f(x, 6)", (6, 6), (5, 5), "y = f(x, 5)"),
        ("y = f(x, (6, 6))", (6, 6), (5, 4), "y = f(x, (5, 4))"),
        ("y = f(x, -1)", -1, 1, "y = f(x, 1)"),
        ('y = f(x, mode="same")', "same", "valid", 'y = f(x, mode="valid")'),
        ("y = f(x, 2)", 2, 3.0, "y = f(x, 3)"),
        ("y = f(x, 2)", 2, 0.5, "y = f(x, 0.5)"),
    ],
)
def test_a_value_is_written_as_the_old_one_was(line, old, new, expected):
    assert list(literals.change_values(f"{line}\n", 1, old, new)) == [f"{expected}\n"]


@pytest.mark.parametrize(
    ("before", "after", "factor", "offset"),
    [
        ((1.0, -2.0), (0.5, -1.0), 0.5, None),
        ((1.0, -2.0), (1.5, -1.5), None, 0.5),
        ((1.0, -2.0), (1.0, -2.0), None, None),
        ((1.0, -2.0), (-2.0, 1.0), None, None),
    ],
)
def test_what_a_candidate_does_to_values(before, after, factor, offset):
    first, second = np.array(before), np.array(after)
    assert changes.find_factor(first, second) == (factor and pytest.approx(factor))
    assert changes.find_offset(first, second) == (offset and pytest.approx(offset))


def test_parts_of_one_assignment_are_followed_apart():
    text = (
        "class A:\n    def __init__(self, w=3.0):\n        self.f, self.w = g(2.0), w\n"
        "    def call(self, x):\n        return self.w * x\n"
    )
    assert [each.value for each in literals.find_literals(text, 5)] == [3.0]


def test_what_is_nearest_comes_first():
    text = "SCALE = 2.0\nx = 2.0 * y\nz = SCALE * (2.0 + x)\n"
    lines = [changed_lines(text, each) for each in literals.change_values(text, 3, 2.0, 4.0)]
    assert lines == [["z = SCALE * (4.0 + x)"], ["SCALE = 4.0"], ["x = 4.0 * y"]]


def test_a_fitted_factor_and_offset_are_taken_out_of_the_numbers_of_a_line():
    text = "W = 20.0\nx = sin(W * y) / 3 + 1\n"
    found = [changed_lines(text, each) for each in literals.divide_values(text, 2, 0.66666669)]
    assert found == [
        ["x = sin(W * y) / 2 + 1"],
        ["x = sin(W * y) / 3 + 1.5"],
        ["W = 30.0"],
    ]
    found = [
        changed_lines(text, each) for each in literals.subtract_from_values(text, 2, 2.0000001)
    ]
    assert found[1:] == [["x = sin(W * y) / 3 + -1"], ["W = 18.0"]]


LOOP = """
RATES = [2**i for i in range(3)]


def block(x, d, i):
    return Conv(8, dilation_rate=d)(x)


def build(x):
    for i, d in enumerate(RATES):
        x = block(x, d, i)
    return x
"""


def argument(text: str, name: str) -> ast.expr:
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return next(k.value for call in calls for k in call.keywords if k.arg == name)


@pytest.mark.parametrize(
    ("looped", "values", "expected"),
    [
        ("enumerate(RATES)", [1, 2, 8], ["RATES = [1, 2, 8]"]),
        ("enumerate([1, 2] * 2)", [1, 2, 8], ["for i, d in enumerate([1, 2, 8]):"]),
        ("enumerate((1, 2))", [1, 3, 1, 3], ["for i, d in enumerate((1, 3)):"]),
        ("enumerate((1, 2))", [1, 3, 1, 4], []),
        ("zip(range(9), RATES)", [1, 2, 8], ["RATES = [1, 2, 8]"]),
        ("read_rates()", [1, 2, 8], []),
    ],
)
def test_a_loop_gives_other_values(looped, values, expected):
    text = LOOP.replace("enumerate(RATES)", looped)
    found = literals.change_looped_list(text, argument(text, "dilation_rate"), values)
    assert [changed_lines(text, each) for each in found] == [[each] for each in expected]


@pytest.mark.parametrize(
    ("line", "operator", "names", "place", "expected"),
    [
        ("x = x + f(y)", "+", (), 1, "x = x + 0.5 * f(y)"),
        ("x = x + f(y)", "+", (), 0, "x = 0.5 * x + f(y)"),
        ("x = ops.exp(y) * z", "", ("exp",), 0, "x = ops.exp(0.5 * y) * z"),
        ("x = (a - b).exp()", "", ("exp",), 0, "x = (0.5 * (a - b)).exp()"),
        ("x = a ** 2", "", (), 0, "x = (0.5 * a) ** 2"),
        ("x += f(y)", "+", (), 0, "x += 0.5 * f(y)"),
        ("return f(x)", "", (), 0, "return f(0.5 * x)"),
    ],
)
def test_an_operand_gets_a_factor(line, operator, names, place, expected):
    text = f"from keras import ops\ndef g(x, y, z, a, b):\n    {line}\n"
    wrap = statements.write_arithmetic("*", "0.5")
    first = next(statements.wrap_operand(text, 3, wrap, names, operator, place))
    assert first.splitlines()[2].strip() == expected
    ast.parse(first)


def test_every_operand_of_a_line_is_tried_once_and_no_list_or_module_is():
    text = "import torch\nx = torch.cat([a, b], dim=1) + c\n"
    wrap = statements.write_arithmetic("/", "2")
    found = [each.splitlines()[1] for each in statements.wrap_operand(text, 2, wrap)]
    assert found == [
        "x = torch.cat([a, b], dim=1) / 2 + c",
        "x = torch.cat([a, b], dim=1) + c / 2",
        "x = (torch.cat([a, b], dim=1) + c) / 2",
    ]


@pytest.mark.parametrize(
    ("imports", "framework", "is_activation", "expected"),
    [
        ("from keras import ops", "keras", False, "ops.sqrt(x)"),
        ("import keras", "keras", True, "keras.ops.sqrt(x)"),
        ("import torch", "torch", False, "torch.sqrt(x)"),
        ("import torch.nn.functional as F", "torch", True, "F.sqrt(x)"),
        ("from torch import nn", "torch", True, "nn.functional.sqrt(x)"),
        ("import numpy", "torch", False, None),
    ],
)
def test_a_function_is_written_as_the_file_imports_it(imports, framework, is_activation, expected):
    written = statements.write_call(imports, framework, "sqrt", is_activation=is_activation)
    assert (None if written is None else written("x")) == expected


def test_a_list_of_the_function_gets_another_order():
    text = (
        "def f(x):\n    for g in [sin, cos]:\n        x.append(g(2))\n    return cat(x, (1, 2))\n"
    )
    found = [changed_lines(text, each) for each in statements.reorder_items(text, 4)]
    assert found == [["for g in [cos, sin]:"]]


def test_two_loops_are_exchanged_where_neither_needs_the_other():
    text = "y = cat([f(i, j) for i in a for j in b])\n"
    (changed,) = statements.reorder_items(text, 1)
    assert changed == "y = cat([f(i, j) for j in b for i in a])\n"
    assert list(statements.reorder_items("y = cat([f(i, j) for i in a for j in i])\n", 1)) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x = torch.sin(net(x))", ["torch.sin(x)", "net(x)"]),
        ("x = x + 0.5 * y", ["x + y", "x", "(0.5 * y)"]),
        ("x = (lambda t: t * t)(net(x))", ["net(x)", "(lambda t: t)(net(x))"]),
        ("x = self.one(x)", ["x"]),
        ("x = 3", []),
    ],
)
def test_an_operation_of_a_line_is_left_out(line, expected):
    text = f"import torch\n{line}\n"
    found = [
        each.splitlines()[1].removeprefix("x = ") for each in statements.unwrap_operand(text, 2)
    ]
    assert list(dict.fromkeys(found))[: len(expected)] == expected
    assert bool(found) == bool(expected)


def test_an_edit_is_told_with_its_line():
    text = "a = 1\nb = 2\n"
    assert source.describe_edit(text, "a = 1\nb = 3\n", "net.py") == (
        "net.py:2: `b = 2` becomes `b = 3`"
    )
