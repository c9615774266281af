"""Layers of the subject's own on a shortcut are named only where they make the difference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parity.explain.proof import extra_layers
from parity.explain.proof.layer import Layer, evaluate
from parity.network.table import Row
from tests.explain.samples import batch_norm, conv, draw, failing_layer

PROJECTION = ("block1.project.conv", "block1.project.bn")


def addition():
    shortcut, branch = (draw(2, 8, 6, 6, seed=seed).astype(float) for seed in (1, 2))
    return Layer("add", (shortcut, branch))


def projection(*, seed=0, stride=1, shares_input=True):
    layers = (conv(kernel=1, stride=stride, seed=seed), batch_norm())
    return extra_layers.ExtraLayers(
        PROJECTION, tuple(replace(layer, inputs=()) for layer in layers), shares_input
    )


def projected(layer, made, *, side=0):
    """The sum in float32, one of its sides sent through the extra layers."""
    tensor = layer.inputs[side]
    for step in made.layers:
        tensor = evaluate(replace(step, inputs=(tensor,))).astype(np.float32).astype(float)
    return tensor + layer.inputs[1 - side]


@pytest.mark.parametrize("side", [0, 1])
def test_a_projection_too_many_is_proved(side):
    layer, made = addition(), projection()
    explanation, floor = extra_layers.explain_sum(
        failing_layer(layer, projected(layer, made, side=side)), made
    )
    (candidate,) = explanation.proof.candidates
    assert explanation.x_floor_before > 1e5
    assert explanation.proof.x_floor_after <= 4.0
    assert candidate.cause == "extra-layers"
    assert candidate.text.startswith("A convolution and a batch-norm are applied on the shortcut")
    assert "remove `block1.project.conv` and `block1.project.bn`: a block" in candidate.remedy
    # What the layers round comes to the sum, and not much more: the proof is one.
    assert floor.rel_l2 < 1e-5


def test_layers_on_the_main_path_are_called_no_projection():
    layer, made = addition(), projection(shares_input=False)
    explanation, _ = extra_layers.explain_sum(
        failing_layer(layer, projected(layer, made, side=1)), made
    )
    (candidate,) = explanation.proof.candidates
    assert candidate.text.startswith("A convolution and a batch-norm are applied before the sum")
    assert candidate.remedy == "remove `block1.project.conv` and `block1.project.bn`"


def test_other_weights_prove_nothing():
    layer = addition()
    assert (
        extra_layers.explain_sum(
            failing_layer(layer, projected(layer, projection())), projection(seed=5)
        )
        is None
    )


def test_an_extra_layer_beside_another_fault_proves_nothing():
    layer, made = addition(), projection()
    twisted = projected(layer, made)
    twisted[0, 0, 0, 0] += 1e-3
    assert extra_layers.explain_sum(failing_layer(layer, twisted), made) is None


def test_layers_that_do_not_fit_the_shortcut_prove_nothing():
    layer = addition()
    assert (
        extra_layers.explain_sum(failing_layer(layer, layer.inputs[0]), projection(stride=2))
        is None
    )


def described(*layers):
    return [{"row": row, "kind": kind, "name": name} for row, kind, name in layers]


def test_a_sums_extra_layers_stand_between_it_and_the_sum_before():
    layers = described(
        (None, "conv", "early"),
        ("block0.add", "add", "a"),
        (None, "conv", "p"),
        ("block1.conv", "conv", "c"),
        (None, "batch_norm", "q"),
        (None, "mystery", "no kind of the table's"),
        ("block1.add", "add", "b"),
        (None, "conv", "late"),
    )
    row = Row("block1.add", "body", "add", "b", "b")
    assert [layer["name"] for layer in extra_layers.find_extra_layers(row, layers)] == ["p", "q"]
    first = replace(row, name="block0.add")
    assert [layer["name"] for layer in extra_layers.find_extra_layers(first, layers)] == ["early"]
    assert extra_layers.find_extra_layers(replace(row, name="elsewhere"), layers) == []
