"""Many layers that differ in one way are one line, and what merely follows is none."""

from __future__ import annotations

from parity.comparison.structure_summary import summarise_differences
from parity.network.structure import Difference


def epsilon(row, found=1e-3):
    text = f"{row}: epsilon is 1e-05 in torch, {found} in keras"
    return Difference(row, "keras", "epsilon", 1e-5, found, text)


def extra(name):
    text = f"torch has a layer that is not in the table: '{name}' (Conv2d)"
    return Difference("", "torch", "layer", None, name, text)


def test_one_difference_is_told_as_it_is():
    assert summarise_differences([epsilon("stem.bn")]) == (epsilon("stem.bn").message,)
    assert summarise_differences([extra("a")]) == (extra("a").message,)


def test_the_same_difference_at_many_layers_is_one_line():
    rows = [f"stage1.block{index}.bn1" for index in range(5)]
    (line,) = summarise_differences([epsilon(row) for row in rows])
    assert line.startswith("5 layers, stage1.block0.bn1 to stage1.block4.bn1: epsilon is 1e-05")


def test_different_values_are_different_lines():
    assert len(summarise_differences([epsilon("a.bn"), epsilon("b.bn", 2e-3)])) == 2


def test_surplus_layers_are_one_line():
    (line,) = summarise_differences([extra(f"layer{index}") for index in range(6)])
    assert line.startswith("torch has 6 layers that are not in the table: 'layer0', 'layer1'")
    assert line.endswith("'layer5'")


def test_the_size_of_a_model_is_told_last_whatever_it_follows_from():
    text = "torch has 12 parameters, expected 10"
    count = Difference("", "torch", "parameters", 10, 12, text, consequence=True)
    assert summarise_differences([count, extra("a")]) == (extra("a").message, text)


def test_a_consequence_is_not_told():
    follows = Difference("a", "keras", "shape", (1,), (2,), "a: the shape", True)
    assert summarise_differences([follows]) == ()
