"""Causes that the structure alone proves: by their names, with the layers that have them."""

from __future__ import annotations

import pytest

from parity.explain import causes, session
from parity.network import structure
from parity.network.rows import Row, Weight
from parity.network.structure import Difference
from parity.network.table import LayerTable


def groups(row, *, expected=32, found=1, subject="keras"):
    text = f"{row}: groups is {expected} in torch, {found} in {subject}"
    return Difference(row, subject, "groups", expected, found, text)


def named(found):
    return {shape.cause: shape for shape in causes.find_structural_causes(found)}


def test_groups_that_read_the_whole_input():
    (shape,) = causes.find_structural_causes(
        [groups("stage1.block0.conv2"), groups("stage1.block1.conv2")]
    )
    assert shape.cause == "groups-read-whole-input"
    assert shape.layers == ("stage1.block0.conv2", "stage1.block1.conv2")
    assert "not a grouped convolution" in shape.text
    assert shape.evidence == {"layers": 2.0, "groups": 32.0}


def test_another_number_of_groups_is_not_that():
    assert named([groups("a.conv", found=16), groups("b.conv", expected=1, found=32)]) == {}


def bias(row, *, expected=False, found=True):
    return Difference(row, "keras", "bias", expected, found, f"{row}: bias")


def test_a_bias_too_many_is_told_where_it_is_0_too():
    (shape,) = causes.find_structural_causes([bias("stem.conv"), bias("head.conv")])
    assert (shape.cause, shape.layers) == ("bias", ("stem.conv", "head.conv"))
    assert shape.remedy == "set use_bias=False"
    # One that is missing shows in the numbers, or is 0 and no difference.
    assert named([bias("stem.conv", expected=True, found=False)]) == {}


def shaped(*rows):
    (shape,) = causes.find_structural_causes(list(map(bias, rows)))
    labels = {row: f"Conv2D `{row}`: " for row in rows}
    return session.StructuralFindings((session.StructuralFinding(shape, {}, labels),))


@pytest.mark.parametrize(
    ("proved", "left"),
    [("", "abc"), ("a", "bc"), ("b", "ac"), ("ab", "c"), ("abc", "")],
)
def test_what_the_numbers_prove_is_not_told_by_the_structure_too(proved, left):
    known = frozenset(("keras", row, "bias") for row in proved)
    known |= {("torch", "c", "bias"), ("keras", "c", "same-padding")}
    told = shaped(*"abc").describe(known)
    if not left:
        assert told == ()
        return
    (cause,) = told
    assert (cause.layer, cause.evidence) == (left[0], {"layers": float(len(left))})
    assert f"Remedy: Conv2D `{left[0]}`: set use_bias=False" in cause.message
    assert ("layers, to" in cause.message) is (len(left) > 1)


ROWS = (
    Row("stem", "stem", "conv", "stem", "stem", (4, 8, 8), (
        Weight("kernel", "stem.weight", "kernel", (4, 3, 1, 1)),)),
    Row("stage1.block0.downsample.conv", "stage1", "conv", "down", "down", (8, 4, 4), (
        Weight("kernel", "down.weight", "kernel", (8, 4, 1, 1)),)),
)  # fmt: skip


def described(name, row, *, inputs, outputs, stride, size, shares_input=False):
    hyper = {"kernel": [1, 1], "stride": [stride] * 2, "in": inputs, "out": outputs}
    return {
        "row": row, "name": name, "kind": "conv", "class": "Conv2d",
        "shape": [outputs, size, size], "hyper": hyper, "parameters": inputs * outputs,
        "shares_input": shares_input,
    }  # fmt: skip


STEM = described("stem", "stem", inputs=3, outputs=4, stride=1, size=8)
DOWN = described("down", ROWS[1].name, inputs=4, outputs=8, stride=2, size=4)


def checked(*layers):
    """The differences of a PyTorch model of these layers from the twin that has them all."""
    whole = {"layers": [STEM, DOWN], "parameters": 44}
    made = {"layers": list(layers), "parameters": sum(layer["parameters"] for layer in layers)}
    return structure.find_differences(
        LayerTable(ROWS), {"keras": whole, "torch": made}, reference="keras"
    )


def test_a_projection_in_every_block():
    surplus = described(
        "layer1.1.downsample.0", None, inputs=8, outputs=8, stride=1, size=4, shares_input=True
    )
    (shape,) = causes.find_structural_causes(checked(STEM, DOWN, surplus))
    assert shape.cause == "projection-in-every-block"
    assert shape.subject == "torch"
    assert shape.layers == ("layer1.1.downsample.0",)
    assert shape.evidence == {"layers": 1.0, "parameters": 64.0}


@pytest.mark.parametrize(("outputs", "shares_input"), [(16, True), (8, False)])
def test_a_surplus_convolution_that_widens_or_stands_on_the_main_path_is_none(
    outputs, shares_input
):
    other = described(
        "head", None, inputs=8, outputs=outputs, stride=1, size=4, shares_input=shares_input
    )
    assert named(checked(STEM, DOWN, other)) == {}


def test_a_projection_that_is_missing():
    (shape,) = causes.find_structural_causes(checked(STEM))
    assert shape.cause == "projection-missing"
    assert shape.layers[0].startswith("stage1")


def test_a_model_that_is_as_the_table_says_has_none():
    assert checked(STEM, DOWN) == []
    assert named(checked(STEM, DOWN)) == {}


def test_calls_that_the_table_does_not_know_of():
    twice = [
        {**described(name, None, inputs=8, outputs=8, stride=1, size=4), "kind": "relu"}
        for name in ("relu#1", "relu#2")
    ]
    (shape,) = causes.find_structural_causes(checked(STEM, DOWN, *twice))
    assert shape.cause == "called-twice"
    assert shape.layers == ("relu#1", "relu#2")
    assert shape.evidence == {"calls": 3.0, "layers": 2.0}
    assert "`relu` is one layer object that is called 3 times" in shape.text
