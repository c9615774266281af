"""Steps of a run as source: which of them a tensor needs, and which values can be stated."""

from __future__ import annotations

import math

import numpy as np
import pytest

from parity.errors import GraphError
from parity.runtimes.pieces import Step, UnwritableError, render_value, select_steps

STEPS = [
    Step(("0.0",), ("1.0",), label="a"),
    Step(("1.0",), ("2.0", "2.1"), label="b"),
    Step(("2.1", "0.1"), ("3.0",), label="c"),
    Step(("3.0",), ("4.0",), label="d", reason="it is a secret"),
    Step(("4.0", "1.0"), ("5.0",), label="e"),
]


def labels(steps):
    return "".join(step.label for step in steps)


def test_the_steps_behind_a_boundary_are_chosen_in_their_order():
    chosen, reads = select_steps(STEPS, output="3.0", boundary={"0.0", "0.1"})
    assert (labels(chosen), reads) == ("abc", ["0.0", "0.1"])
    chosen, reads = select_steps(STEPS, output="3.0", boundary={"1.0", "0.1", "3.0"})
    assert (labels(chosen), reads) == ("bc", ["1.0", "0.1"])
    chosen, reads = select_steps(STEPS, output="5.0", boundary={"4.0", "1.0"})
    assert (labels(chosen), reads) == ("e", ["4.0", "1.0"])


def test_a_tensor_that_nothing_makes_and_a_step_without_source_are_refused():
    with pytest.raises(GraphError, match="no layer of its own"):
        select_steps(STEPS, output="9.0", boundary=())
    with pytest.raises(GraphError, match="d: it is a secret"):
        select_steps(STEPS, output="5.0", boundary={"3.0", "1.0"})


@pytest.mark.parametrize(
    "value",
    [None, True, -3, 1e-5, 0.1, "a\"b'\n", (1,), (1, 2), [], [(1, None), "x"], {"a": (2.5,)},
     slice(None, None, 2), Ellipsis, {1: {"b": [False]}}],
)  # fmt: skip
def test_the_source_of_a_value_is_the_value(value):
    assert eval(render_value(value, lambda each: None)) == value


def test_numbers_that_have_no_literal_and_numpys_own():
    assert math.isinf(eval(render_value(float("-inf"), lambda each: None)))
    assert math.isnan(eval(render_value(float("nan"), lambda each: None)))
    assert render_value(np.float32(0.5), lambda each: None) == "0.5"


def test_a_value_that_source_cannot_state_is_refused():
    with pytest.raises(UnwritableError, match="object"):
        render_value([object()], lambda each: None)
