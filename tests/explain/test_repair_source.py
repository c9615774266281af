"""Edits of source: the constructor or the call that is meant, and nothing else."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from parity.explain.repair import source
from parity.explain.repair.arguments import to_arguments, to_attributes
from parity.explain.repair.source import CallPlace


def place_of(text: str, call: str, made: str, parameters: tuple[str, ...]) -> CallPlace:
    at = text.index(call)
    line = text.count("\n", 0, at) + 1
    column = len(text[text.rfind("\n", 0, at) + 1 : at].encode())
    end = at + len(call)
    end_line = text.count("\n", 0, end) + 1
    end_column = len(text[text.rfind("\n", 0, end) + 1 : end].encode())
    return CallPlace("net.py", line, column, end_line, end_column, made, parameters)


CONV = ("in_channels", "out_channels", "kernel_size", "stride", "padding")


@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        ("nn.Conv2d(3, 8, 3)", {"padding": 1}, "nn.Conv2d(3, 8, 3, padding=1)"),
        ("nn.Conv2d(3, 8, 3, 1, 0)", {"padding": 1}, "nn.Conv2d(3, 8, 3, 1, 1)"),
        ("nn.Conv2d(3, 8, padding=0)", {"padding": (1, 2)}, "nn.Conv2d(3, 8, padding=(1, 2))"),
        ("nn.Conv2d(\n    3, 8, 3,\n)", {"padding": 1}, "nn.Conv2d(\n    3, 8, 3, padding=1,\n)"),
        (
            "nn.Conv2d(3, 8, 3, stride=2)",
            {"padding": 1, "stride": 1},
            "nn.Conv2d(3, 8, 3, stride=1, padding=1)",
        ),
    ],
)
def test_an_argument_is_changed_where_it_stands_or_added(call, arguments, expected):
    text = f"é = 'ü'; self.conv = {call}\nother = nn.Conv2d(3, 8, 3)\n"
    changed = source.change_constructor(text, place_of(text, call, "Conv2d", CONV), arguments)
    assert changed == text.replace(call, expected, 1)


def test_arguments_that_are_unpacked_are_left():
    text = "conv = nn.Conv2d(*sizes)\n"
    place = place_of(text, "nn.Conv2d(*sizes)", "Conv2d", CONV)
    assert source.change_constructor(text, place, {"padding": 1}) is None


def test_a_call_of_another_class_is_left():
    text = "conv = make(3)\n"
    assert source.change_constructor(text, place_of(text, "make(3)", "Conv2d", CONV), {}) is None


IMPORTS = "import torch\nfrom torch.nn import functional\n"


@pytest.mark.parametrize(
    ("line", "names", "new", "expected"),
    [
        ("y = functional.gelu(x)", ["gelu"], "relu", ["y = functional.relu(x)"]),
        ("y = f(x).tanh()", ["tanh"], "relu", ["y = f(x).relu()"]),
        ("y = f(x).tanh()", ["tanh"], "gelu", ["y = functional.gelu(f(x))"]),
        ("y = f(x.tanh()).tanh()", ["tanh"], "relu",
         ["y = f(x.relu()).tanh()", "y = f(x.tanh()).relu()"]),
    ],
)  # fmt: skip
def test_a_function_gets_another_name_each_place_in_turn(line, names, new, expected):
    text = f"{IMPORTS}{line}\n"
    assert list(source.replace_function(text, 3, names, new)) == [
        f"{IMPORTS}{each}\n" for each in expected
    ]


def test_a_call_is_removed_and_added():
    text = f"{IMPORTS}y = functional.relu(self.conv(x))\n"
    assert list(source.remove_call(text, 3, ["relu"])) == [f"{IMPORTS}y = self.conv(x)\n"]
    text = f"{IMPORTS}y = self.conv(x)\n"
    assert list(source.wrap_call(text, 3, ["conv"], "relu")) == [
        f"{IMPORTS}y = functional.relu(self.conv(x))\n"
    ]
    found = source.wrap_call(text, 3, ["conv"], "leaky_relu", {"negative_slope": 0.2})
    assert list(found) == [
        f"{IMPORTS}y = functional.leaky_relu(self.conv(x), negative_slope=0.2)\n"
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("y = f(x, mask=m)", "y = f(x)"),
        ("y = f(x, mask=g(1, 2), causal=True)[0]", "y = f(x)[0]"),
        ("y = f(x, causal=True, other=1)", "y = f(x, other=1)"),
        ("y = f(mask=m, other=1)", "y = f(other=1)"),
        ("y = f(mask=m)", "y = f()"),
        ("y = Layer(4)(x, causal=True)", "y = Layer(4)(x)"),
        ("y = f(x, other=1)", None),
        ("y = f(\n    x,\n    mask=m,\n)", "y = f(\n    x,\n)"),
        ("y = f(q, (v), mask=m)", "y = f(q, (v))"),
        ("y = f(mask=m, causal=True) + z", "y = f() + z"),
        ("y = f(mask=m, causal=True), z", "y = f(), z"),
    ],
)
def test_keywords_of_a_call_are_left_out(line, expected):
    text = f"{IMPORTS}{line}\n"
    wanted = [] if expected is None else [f"{IMPORTS}{expected}\n"]
    assert list(source.remove_keywords(text, 3, ["mask", "causal"])) == wanted


def test_each_call_with_such_a_keyword_is_one_alternative():
    text = "y = f(g(x, mask=m), mask=k)\n"
    assert list(source.remove_keywords(text, 1, ["mask"])) == [
        "y = f(g(x), mask=k)\n", "y = f(g(x, mask=m))\n"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "old", "new", "expected"),
    [
        ("x = a * b * c", "*", "+", ["x = (a * b) + c", "x = (a + b) * c"]),
        ("x = a - b + c", "+", "*", ["x = (a - b) * c"]),
        ("x = -(a - b)", "-", "+", ["x = -((a + b))"]),
        ("x -= a", "-", "+", ["x += a"]),
    ],
)
def test_another_operator_binds_what_the_old_one_did(line, old, new, expected):
    assert list(source.change_operator(f"{line}\n", 1, old, new)) == [f"{e}\n" for e in expected]


def test_an_argument_of_a_function_is_changed():
    text = f"{IMPORTS}y = functional.leaky_relu(x, 0.1)\n"
    assert list(
        source.change_function_argument(text, 3, ["leaky_relu"], {"negative_slope": 0.2})
    ) == [f"{IMPORTS}y = functional.leaky_relu(x, 0.2)\n"]


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_git_applies_a_patch(tmp_path, ending):
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    before = "a = 1\r\nb = 2" + ending if ending == "\r\n" else "a = 1\nb = 2" + ending
    after = before.replace("2", "3")
    (tmp_path / "net.py").write_bytes(before.encode())
    (tmp_path / "net.patch").write_bytes(source.format_patch(before, after, "net.py").encode())
    subprocess.run(["git", "apply", "net.patch"], cwd=tmp_path, check=True)
    assert (tmp_path / "net.py").read_bytes().decode() == after


@pytest.mark.parametrize(
    ("framework", "padding", "expected"),
    [
        ("torch", [[1, 1], [1, 1]], {"padding": 1}),
        ("torch", [[0, 1], [0, 1]], None),
        ("keras", [[1, 1], [1, 1]], {"padding": "same"}),
        ("keras", [[0, 0], [0, 0]], {"padding": "valid"}),
        ("keras", [[2, 2], [1, 1]], None),
    ],
)
def test_a_padding_is_an_argument_or_none(framework, padding, expected):
    hyper = {"kernel": [3, 3], "stride": [1, 1], "dilation": [1, 1], "padding": padding}
    assert to_arguments(framework, "conv", {"padding": padding}, hyper, (8, 8)) == expected


def test_attributes_of_a_node():
    assert to_attributes("conv", {"padding": [[0, 1], [2, 3]], "stride": [2, 2]}) == {
        "pads": [0, 2, 1, 3],
        "strides": [2, 2],
    }
    assert to_attributes("conv", {"in": 3}) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x = 2.0 * (self.conv(x))", ["x = self.conv(x)"]),
        ("x = self.conv(x) + 0.1", ["x = self.conv(x)"]),
        ("x = x + 0.0 * y", ["x = x + y"]),
        ("x = (x + y) / -2", ["x = (x + y)"]),
        ("x = 2 - x", []),
        ("x = x * scale", []),
        ("x = (x * 2) ** 3 + 1", ["x = ((x * 2) ** 3)", "x = (x) ** 3 + 1"]),
    ],
)
def test_arithmetic_with_a_number_is_taken_away(line, expected):
    text = f"import torch\n{line}\ny = 3.0 * x\n"
    found = [each.splitlines() for each in source.remove_arithmetic(text, 2)]
    assert all(lines[::2] == ["import torch", "y = 3.0 * x"] for lines in found)
    values = {"x": 3.0, "y": 5.0, "self": None}
    for (_, changed, _), wanted in zip(found, expected, strict=True):
        assert changed.replace("(", "").replace(")", "") == wanted.replace("(", "").replace(")", "")
        if "self" not in changed:
            assert eval(changed.removeprefix("x = "), values) == eval(
                wanted.removeprefix("x = "), values
            )


def test_an_operator_the_items_of_a_join_and_a_reduction_are_changed():
    text = "x = torch.cat([y, f(x)], dim=1) - z\nx = x.amax((2, 3))\n"
    (changed,) = source.change_operator(text, 1, "-", "+")
    assert changed == text.replace(" - z", " + z")
    assert list(source.change_operator(text, 1, "*", "+")) == []
    assert list(source.change_operator(text, 1, "", "+")) == []
    (changed,) = source.exchange_items(text, 1, ("cat",))
    assert changed == text.replace("[y, f(x)]", "[f(x), y]")
    (changed,) = source.rename_call(text, 2, "amax", "mean")
    assert changed == text.replace("amax", "mean")
