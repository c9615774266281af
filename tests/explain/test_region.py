"""Operations that differ before a row: which they are, in words, and their proof by runs.

The graphs are built by hand, and NumPy runs them.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from parity.explain import region_search
from parity.explain.diagnosis import explain_by_region
from parity.explain.proof import movements, region, region_statements, region_walk
from parity.explain.proof.region_statements import (
    DifferenceText,
    DifferenceType,
    join_input_orders,
)
from parity.explain.proof.region_walk import Substitution
from parity.explain.region_runs import change_numbers, change_values
from parity.explain.region_search import RegionRow, explain_regions, find_turn
from parity.network import kinds
from parity.network.graph import OPAQUE, Graph, Node, Parameter, Port, Tensor
from parity.network.rearrangement import Rearrangement
from parity.numerics.floor import Floor
from parity.processes.graph_requests import TensorPoint
from tests.explain.samples import draw, failing_layer, pointwise

FLOOR = Floor(1e-7, 1e-6, 1, 1.0)
GIVEN = draw(2, 6, 6, seed=3)
OTHER = draw(2, 6, 6, seed=4)
GAIN = draw(6, seed=9)


def node(name, kind, *inputs, constants=None, weights=(), **hyper):
    """Return an operation that gives the tensor of its name, on the line of its name."""
    parameters = tuple(
        Parameter(each, role, (6,), "float32") for role, each in dict(weights).items()
    )
    return Node(name, kind, kind, inputs, (name,), parameters, hyper, "", f"{name}.py:1",
                constants or {})  # fmt: skip


def evaluate(each, values, weights):
    inputs = [values[tensor] for tensor in each.inputs]
    for place, number in sorted(each.constants.items()):
        if not isinstance(number, dict):
            inputs.insert(int(place), np.asarray(number, np.float64))
    own = {parameter.role: weights[parameter.name] for parameter in each.parameters}
    if each.kind == OPAQUE:
        return np.flip(inputs[0], 2)
    return kinds.evaluate(each.kind, inputs, own, each.hyper)


class Runs:
    """Runs two graphs by hand on two inputs; `x` and `z` are rows that both sides are given."""

    subject = "other"
    rows = ("x", "z", "out")

    def __init__(self, graphs, weights):
        self.graphs, self.weights, self.runs = graphs, weights, 0
        self.given = [{"x": GIVEN, "z": OTHER}]
        self.given.append({name: change_values(name, v) for name, v in self.given[0].items()})

    def count_fed(self):
        return sum(value.size for value in self.given[0].values())

    def find_fed(self, name):
        return frozenset({"x", "z", "out"})

    def read_fed(self, name, number, *, without):
        return dict(self.given[number])

    def read(self, name, tensors, edits=None):
        self.runs += 1
        found = []
        for number, given in enumerate(self.given):
            values = dict(given)
            if edits:
                values |= {t: pair[number] for t, pair in edits.items() if t in given}
            for each in self.graphs[name].nodes:
                tensor = each.outputs[0]
                values[tensor] = evaluate(each, values, self.weights[name])
                if edits and tensor in edits:
                    values[tensor] = edits[tensor][number]
            found.append(values)
        return tuple(found)


def build(nodes):
    tensors = {name: Tensor(name, GIVEN.shape, "float32") for name in ("x", "z")}
    weights = {p.name: draw(6, seed=9) for each in nodes for p in each.parameters}
    values = {"x": GIVEN, "z": OTHER}
    for each in nodes:
        values[each.id] = evaluate(each, values, weights)
        tensors[each.id] = Tensor(each.id, values[each.id].shape, "float32")
    ports = (Port("x", "x"), Port("z", "z"))
    return Graph("torch", tuple(nodes), tensors, ports, (Port("out", "out"),))


def explain(reference, subject, *, weights=None):
    """Return the proof for the row `out` of two graphs, and the runs."""
    graphs = {"base": build(reference), "other": build(subject)}
    values = {
        name: {p.name: draw(6, seed=9) for each in graph.nodes for p in each.parameters}
        for name, graph in graphs.items()
    }
    values["other"] |= weights or {}
    row = SimpleNamespace(
        name="out",
        tensors={name: TensorPoint("out", "out") for name in graphs},
    )
    rows = {name: SimpleNamespace(tensors={side: TensorPoint(name, name) for side in graphs})
            for name in ("x", "z")}  # fmt: skip
    rows["out"] = row
    state = SimpleNamespace(
        reference=SimpleNamespace(subject=SimpleNamespace(name="base"), graph=graphs["base"]),
        models={"other": SimpleNamespace(graph=graphs["other"])},
        table=SimpleNamespace(by_name=rows.__getitem__),
        alignments={"other": SimpleNamespace(pairs=(), weights=())},
        load_weights=values.__getitem__,
    )
    runs = Runs(graphs, values)
    found = explain_regions(state, runs, [RegionRow(row, FLOOR, 4.0)])
    return found.get("out"), runs


def stated(reference, subject):
    proof, _ = explain(reference, subject)
    assert proof is not None
    (statement,) = proof.statements
    return statement.form, statement.text


NORM = node("norm", "layer_norm", "x", epsilon=1e-5, axes=[2])
EXP = node("exp", "exp", "x")


@pytest.mark.parametrize(
    ("reference", "subject", "form", "text"),
    [
        (
            [NORM, node("out", "exp", "norm")],
            [node("out", "exp", "x")],
            DifferenceType.LEFT_OUT,
            "`layer_norm` (norm.py:1) is left out before `exp` (out.py:1)",
        ),
        (
            [node("sum", "reduce_sum", "x", axes=[2], keepdims=True),
             node("div", "div", "x", "sum"), node("out", "exp", "div")],
            [node("out", "exp", "x")],
            DifferenceType.LEFT_OUT,
            "`reduce_sum` (sum.py:1) and `div` (div.py:1) are left out before `exp` (out.py:1)",
        ),
        (
            [EXP, node("out", "add", "exp", "z")],
            [EXP, node("abs", "abs", "z"), node("out", "add", "exp", "abs")],
            DifferenceType.ADDED,
            "It also computes `abs` (abs.py:1)",
        ),
        (
            [node("round", "round", "x"), node("out", "multiply", "round", constants={"1": 3.0})],
            [node("floor", "floor", "x"), node("out", "multiply", "floor", constants={"1": 3.0})],
            DifferenceType.OTHER,
            "It computes `floor` (floor.py:1), not `round` (round.py:1)",
        ),
        (
            [node("soft", "softmax", "x", axis=2), node("out", "exp", "soft")],
            [node("soft", "softmax", "x", axis=1), node("out", "exp", "soft")],
            DifferenceType.SETTING,
            "Axis is 1, not 2, in `softmax` (soft.py:1)",
        ),
        (
            [node("mul", "multiply", "x", constants={"1": 28.0}), node("out", "sin", "mul")],
            [node("mul", "multiply", "x", constants={"1": 27.0}), node("out", "sin", "mul")],
            DifferenceType.SETTING,
            "The number is 27, not 28, in `multiply` with 27 (mul.py:1)",
        ),
        (
            [EXP, node("sin", "sin", "x"), node("out", "add", "exp", "sin")],
            [EXP, node("sin", "sin", "exp"), node("out", "add", "exp", "sin")],
            DifferenceType.TENSOR,
            "`sin` (sin.py:1) reads `exp` (exp.py:1), not the input `x` of the reference (the "
            "input `x` here)",
        ),
        (
            [node("lift", "unsqueeze", "x", axes=[1]), node("down", "unsqueeze", "z", axes=[2]),
             node("out", "add", "lift", "down")],
            [node("lift", "unsqueeze", "x", axes=[2]), node("down", "unsqueeze", "z", axes=[2]),
             node("out", "add", "lift", "down")],
            DifferenceType.SETTING,
            "Axes is [2], not [1], in `unsqueeze` (lift.py:1)",
        ),
        (
            [node("a", "sin", "x"), node("out", "exp", "a")],
            [node("take", "opaque", "x"), node("out", "exp", "take")],
            DifferenceType.OTHER,
            "`opaque` (take.py:1) gives other values than `sin` (a.py:1) of the same inputs",
        ),
        (
            [node("a", "sin", "x"), node("b", "abs", "a"), node("out", "exp", "b")],
            [node("c", "cos", "x"), node("d", "sigmoid", "c"), node("out", "exp", "d")],
            DifferenceType.OTHER,
            "It computes `cos` (c.py:1) and `sigmoid` (d.py:1) where the reference computes `sin` "
            "(a.py:1) and `abs` (b.py:1)",
        ),
    ],
)  # fmt: skip
def test_what_differs_is_stated(reference, subject, form, text):
    assert stated(reference, subject) == (form, text)


def test_two_differences_are_two_sentences():
    reference = [node("a", "sin", "x"), node("b", "exp", "z"), node("out", "sub", "a", "b")]
    subject = [node("a", "cos", "x"), node("b", "abs", "z"), node("out", "sub", "a", "b")]
    proof, _ = explain(reference, subject)
    assert [each.text for each in proof.statements] == [
        "It computes `cos` (a.py:1), not `sin` (a.py:1)",
        "It computes `abs` (b.py:1), not `exp` (b.py:1)",
    ]


def test_what_has_no_effect_is_not_said():
    """Both terms differ; one of them is multiplied by next to nothing."""
    ends = (
        node("tiny", "multiply", "b", constants={"1": 1e-12}),
        node("out", "sub", "a", "tiny"),
    )
    reference = [node("a", "sin", "x"), node("b", "exp", "z"), *ends]
    subject = [node("a", "cos", "x"), node("b", "abs", "z"), *ends]
    proof, _ = explain(reference, subject)
    assert [each.text for each in proof.statements] == [
        "It computes `cos` (a.py:1), not `sin` (a.py:1)"
    ]


def test_what_a_run_does_not_prove_is_not_said():
    """The operations behind the difference are alike, but the subject's have other weights."""
    reference = [node("a", "sin", "x"), node("out", "layer_scale", "a", weights={"gamma": "g"})]
    subject = [node("a", "cos", "x"), node("out", "layer_scale", "a", weights={"gamma": "g"})]
    assert explain(reference, subject)[0] is not None
    assert explain(reference, subject, weights={"g": draw(6, seed=1)})[0] is None


def test_what_agrees_on_one_input_alone_is_not_said(monkeypatch):
    reference = [node("a", "sin", "x"), node("out", "exp", "a")]
    subject = [node("a", "cos", "x"), node("out", "exp", "a")]
    assert explain(reference, subject)[0] is not None
    honest = Runs.read

    def read(self, name, tensors, edits=None):
        first, second = honest(self, name, tensors, edits)
        if edits:
            second = {**second, "out": second["out"] + 1e-3}
        return first, second

    monkeypatch.setattr(Runs, "read", read)
    assert explain(reference, subject)[0] is None


@pytest.fixture
def transferred(monkeypatch):
    """The subject's weights are to be those of the same names in the reference."""
    monkeypatch.setattr(region_search, "transfer_weights", lambda _, values, own: values)


@pytest.mark.parametrize("kind", ["layer_scale", "bias_add"])
def test_weights_that_differ_are_no_difference_of_operations(transferred, kind):
    role = {"layer_scale": "gamma", "bias_add": "bias"}[kind]
    reference = [node("out", "layer_scale", "x", weights={"gamma": "g"})]
    subject = [node("out", kind, "x", weights={role: "g"})]
    proof, _ = explain(reference, subject)
    assert proof is not None
    assert explain(reference, subject, weights={"g": draw(6, seed=1)})[0] is None


def test_what_is_computed_otherwise_of_the_same_weights_is_stated(transferred):
    """No graph shows how: the operand does not depend on the inputs."""
    each = node("out", "layer_scale", "x", weights={"gamma": "g"})
    proof, _ = explain([each], [each])
    (statement,) = proof.statements
    assert statement.text == (
        "`layer scale` (out.py:1) computes its operand from `g` otherwise than `layer scale` "
        "(out.py:1)"
    )


def test_a_difference_is_found_before_what_is_written_in_two_ways():
    reference = [node("mul", "multiply", "x", constants={"1": 3.0}), node("out", "silu", "mul")]
    subject = [
        node("mul", "multiply", "x", constants={"1": 2.0}),
        node("gate", "sigmoid", "mul"),
        node("out", "multiply", "mul", "gate"),
    ]
    form, text = stated(reference, subject)
    assert (form, text) == (
        DifferenceType.SETTING,
        "The number is 2, not 3, in `multiply` with 2 (mul.py:1)",
    )


@pytest.mark.parametrize(
    ("reference", "subject", "text"),
    [
        ({"kind": "layer_scale", "weights": {"gamma": "g"}},
         {"kind": "multiply", "constants": {"1": (2.0 * GAIN).tolist()}},
         "The constant is 2 times the reference's, in `multiply` (a.py:1)"),
        ({"kind": "bias_add", "weights": {"bias": "g"}},
         {"kind": "sub", "constants": {"1": GAIN.tolist()}},
         "The constant is subtracted, not added, in `sub` (a.py:1)"),
        ({"kind": "layer_scale", "weights": {"gamma": "g"}},
         {"kind": "div", "constants": {"1": GAIN.tolist()}},
         "The constant is a divisor, not a factor, in `div` (a.py:1)"),
        ({"kind": "bias_add", "weights": {"bias": "g"}},
         {"kind": "sub", "constants": {"1": (-GAIN[[1, 0, 2, 3, 5, 4]]).tolist()}},
         "The constant has another order: 1, 0, 2, 3, 5, 4 of the axis of length 6, not 0, 1, 2, "
         "3, 4, 5, in `sub` (a.py:1)"),
        # Where one side is the inverse, it is told of what is written, not of what it amounts to.
        ({"kind": "multiply", "constants": {"1": 0.5}},
         {"kind": "div", "constants": {"1": 4.0}},
         "The constant is 4, where the inverse of the reference's is 2, in `div` with 4 (a.py:1)"),
        ({"kind": "add", "constants": {"1": 3.0}},
         {"kind": "sub", "constants": {"1": 1.0}},
         "The constant is 1, where the negative of the reference's is -3, in `sub` with 1 "
         "(a.py:1)"),
        ({"kind": "layer_scale", "weights": {"gamma": "g"}},
         {"kind": "div", "constants": {"1": (2.0 / GAIN).tolist()}},
         "The constant is 2 times the inverse of the reference's, in `div` (a.py:1)"),
        ({"kind": "bias_add", "weights": {"bias": "g"}},
         {"kind": "sub", "constants": {"1": (-3.0 * GAIN).tolist()}},
         "The constant is 3 times the negative of the reference's, in `sub` (a.py:1)"),
        ({"kind": "layer_scale", "weights": {"gamma": "g"}},
         {"kind": "div", "constants": {"1": GAIN[[1, 0, 2, 3, 5, 4]].tolist()}},
         "The constant has other values than the inverse of the reference's: 100% of 6, up to "
         "2.85 apart, in `div` (a.py:1)"),
    ],
)  # fmt: skip
def test_arithmetic_with_a_constant_is_compared_however_it_is_written(reference, subject, text):
    """A difference is a sum with the negative: what differs is said of the constants."""
    sides = [[node("a", each.pop("kind"), "x", **each), node("out", "exp", "a")]
             for each in (dict(reference), dict(subject))]  # fmt: skip
    assert stated(*sides) == (DifferenceType.SETTING, text)


def test_arithmetic_with_the_same_constant_is_passed_by():
    reference = [EXP, node("a", "layer_scale", "exp", weights={"gamma": "g"}),
                 node("out", "exp", "a")]  # fmt: skip
    inverse = {"1": (1.0 / GAIN).tolist()}
    subject = [node("e", "sin", "x"), node("a", "div", "e", constants=inverse),
               node("out", "exp", "a")]  # fmt: skip
    assert stated(reference, subject) == (
        DifferenceType.OTHER, "It computes `sin` (e.py:1), not `exp` (exp.py:1)"
    )  # fmt: skip


def test_a_sign_is_found_where_the_sides_share_no_other_tensor(monkeypatch):
    """x² - z² is (x + z)(x - z): the subject is run with the opposite of one of its operations."""
    reference = [node("p", "square", "x"), node("q", "square", "z"), node("out", "sub", "p", "q")]
    subject = [node("a", "add", "x", "z"), node("b", "add", "x", "z"),
               node("out", "multiply", "a", "b")]  # fmt: skip
    assert stated(reference, subject) == (
        DifferenceType.OTHER,
        "It computes `add` (a.py:1), where the reference's output needs `sub`",
    )
    monkeypatch.setattr(region_search, "MAX_OPPOSITES", 0)
    assert explain(reference, subject)[0] is None


def test_no_opposite_is_said_that_does_not_give_the_reference_output():
    reference = [node("p", "square", "x"), node("q", "abs", "z"), node("out", "sub", "p", "q")]
    subject = [node("a", "add", "x", "z"), node("b", "add", "x", "z"),
               node("out", "multiply", "a", "b")]  # fmt: skip
    assert explain(reference, subject)[0] is None


def test_scores_are_not_the_same_since_a_mask_is_large():
    """What hides scores by a large negative number says nothing of the rounding of the rest."""
    scores = draw(2, 6, 6, seed=11).astype(float)
    mask = np.where(TRIL != 0, 0.0, -1e9)
    assert not region.agree(scores + mask, 0.5 * scores + mask)
    assert region.agree(scores + mask, scores * (1 + 1e-6) + mask)
    assert region.agree(1e6 * scores, 1e6 * scores + 1.0)


TRIL = np.tri(6)


def hide(name, tensor, visible, *, flipped=False, number=-1e9):
    """Return what shows a tensor where `visible`, in either order of the two values."""
    table = (1.0 - visible if flipped else visible).tolist()
    places = {"0": table, "1" if flipped else "2": number}
    return node(name, "where", tensor, constants=places)


@pytest.mark.parametrize(
    ("visible", "text"),
    [
        (TRIL[::-1], "is the reference's upside down"),
        (1.0 - TRIL, "is the reference's inverted: it hides what that shows"),
        (TRIL.T, "is the reference's transposed"),
        (np.tri(6, k=1), "hides 10 of 36 pairs of query and key, where the reference hides later"),
    ],
)
def test_another_mask_before_a_softmax(visible, text):
    """It is written with the two values exchanged, and another number."""
    reference = [hide("mask", "x", TRIL), node("soft", "softmax", "mask", axis=2),
                 node("out", "exp", "soft")]  # fmt: skip
    subject = [hide("m", "x", visible, flipped=True, number=-1e4),
               node("soft", "softmax", "m", axis=2), node("out", "exp", "soft")]  # fmt: skip
    form, found = stated(reference, subject)
    assert form is DifferenceType.SETTING
    assert found.startswith(f"The mask {text}")
    assert ", in `where`" in found


def test_a_mask_that_is_written_otherwise_is_no_difference():
    """What differs stands before it."""
    reference = [EXP, hide("mask", "exp", TRIL), node("soft", "softmax", "mask", axis=2),
                 node("out", "exp", "soft")]  # fmt: skip
    subject = [node("e", "sin", "x"), hide("m", "e", TRIL, flipped=True, number=-1e4),
               node("soft", "softmax", "m", axis=2), node("out", "exp", "soft")]  # fmt: skip
    assert stated(reference, subject) == (
        DifferenceType.OTHER, "It computes `sin` (e.py:1), not `exp` (exp.py:1)"
    )  # fmt: skip


def test_a_row_that_hides_the_same_by_another_number_is_no_difference():
    reference = [hide("out", "x", TRIL, number=-np.inf), node("s", "softmax", "out", axis=2)]
    subject = [hide("out", "x", TRIL, flipped=True), node("s", "softmax", "out", axis=2)]
    proof, _ = explain(reference, subject)
    assert proof is not None
    assert proof.statements == ()
    # What reads the numbers themselves is not right with others.
    for each in (reference, subject):
        each[1] = node("s", "exp", "out")
    proof, _ = explain(reference, subject)
    assert proof is None or proof.statements


def test_the_last_of_two_equal_operations_is_left_out():
    first = [EXP, node("b", "sin", "exp")]
    reference = [*first, node("c", "sin", "b"), node("out", "abs", "c")]
    form, text = stated(reference, [*first, node("out", "abs", "b")])
    assert (form, text) == (
        DifferenceType.LEFT_OUT,
        "`sin` (c.py:1) is left out before `abs` (out.py:1)",
    )


def test_tensors_that_are_equal_on_one_input_alone_are_two(monkeypatch):
    monkeypatch.setattr("tests.explain.test_region.OTHER", GIVEN)
    reference = [node("a", "sin", "x"), node("out", "exp", "a")]
    form, text = stated(reference, [node("a", "sin", "z"), node("out", "exp", "a")])
    assert form is DifferenceType.TENSOR
    assert "reads the input `z`, not the input `x`" in text


def test_values_in_another_order_are_not_another_tensor():
    turned = node("turn", "transpose", "x", perm=[0, 2, 1])
    reference = [turned, node("out", "add", "turn", "z")]
    proof, _ = explain(reference, [node("out", "add", "x", "z")])
    assert proof is None or DifferenceType.TENSOR not in {each.form for each in proof.statements}


def test_a_large_difference_is_not_stated(monkeypatch):
    reference = [node("a", "sin", "x"), node("b", "abs", "a"), node("out", "exp", "b")]
    subject = [node("c", "cos", "x"), node("d", "sigmoid", "c"), node("out", "exp", "d")]
    monkeypatch.setattr(region_statements, "MAX_NAMED", 1)
    assert explain(reference, subject)[0] is None


@pytest.mark.parametrize(
    ("limit", "runs"), [("MAX_VALUES", 0), ("MAX_FED", 0), ("MAX_ROUNDS", 2), ("MAX_ROWS", 0)]
)
def test_the_work_is_bounded(monkeypatch, limit, runs):
    reference = [node("a", "sin", "x"), node("out", "exp", "a")]
    subject = [node("a", "cos", "x"), node("out", "exp", "a")]
    monkeypatch.setattr(region_search, limit, 0)
    proof, done = explain(reference, subject)
    assert proof is None
    assert done.runs == runs


def test_a_recurrent_layer_without_its_first_state():
    size = 3
    weights = {
        "kernel": draw(4 * size, 6, seed=1),
        "recurrent_kernel": draw(4 * size, size, seed=2),
    }
    walk = region_walk.RegionWalk(*_read_states(weights), lambda *_: [], {})
    (edits, *_) = walk.list_hypotheses()
    (edit,) = edits
    assert (edit.reference, edit.subject) == ("state", "")
    assert all((each == 0).all() for each in walk.arrange(edit))
    statement = region_statements.describe_difference(walk, edit)
    assert statement.form is DifferenceType.STATE
    assert "begins with zeros, not with its initial state, `tanh` (state.py:1)" in statement.text


@pytest.mark.parametrize("changed", [0.0, 0.1])
def test_a_setting_of_a_recurrent_layer_of_which_a_part_is_read(changed):
    """The subject gives the last step alone; the evaluated operation shows that all else agrees."""
    size = 4
    weights = {
        "kernel": draw(3 * size, 6, seed=1),
        "recurrent_kernel": draw(3 * size, size, seed=2),
    }
    sides, settings = [], ({"reset_after": True}, {"reset_after": False})
    for hyper in settings:
        gru = node("gru", "gru", "x", weights={each: each for each in weights}, **hyper)
        given = {"x": GIVEN}, {"x": GIVEN / 2}
        values = []
        for each in given:
            whole = kinds.evaluate("gru", (each["x"],), weights, hyper)
            part = {"gru": whole, "out": whole[:, -1]} if hyper["reset_after"] else {
                "gru": whole[:, -1] + changed, "out": whole[:, -1] + changed}  # fmt: skip
            values.append({**each, **part})
        tensors = {name: Tensor(name, value.shape, "float32") for name, value in values[0].items()}
        last = node("out", "slice" if hyper["reset_after"] else "identity", "gru",
                    axes=[1], starts=[5], ends=[6], steps=[1], squeeze=[1])  # fmt: skip
        graph = Graph("torch", (gru, last), tensors, (Port("x", "x"),), ())
        sides.append(region.Region(graph, "out", frozenset({"x"}), tuple(values)))

    def evaluate_changed(each, changes):
        return [
            kinds.evaluate("gru", (values["x"],), weights, {**each.hyper, **changes})
            for values in sides[0].values
        ]

    difference = region_walk.SettingDifference("reset_after", "False", "True")
    walk = region_walk.RegionWalk(
        *sides,
        region.Matches(*sides, {"x": "x"}),
        lambda *pair: [difference] if pair[0].kind == "gru" else [],
        {},
        evaluate=evaluate_changed,
    )
    statement = region_statements.describe_difference(walk, region_walk.Substitution("out", "gru"))
    if changed:
        assert statement is None or statement.form is not DifferenceType.SETTING
    else:
        assert statement.form is DifferenceType.SETTING
        assert statement.text == "Reset_after is False, not True, in `GRU` (gru.py:1)"


def _read_states(weights):
    """Return the regions of an LSTM with a first state and without, and what is the same."""
    sides = []
    for with_state in (True, False):
        nodes = [node("state", "tanh", "z")] * with_state
        nodes.append(node("out", "lstm", *(["x", "state"] if with_state else ["x"])))
        output, state = draw(2, 6, 6, seed=20 + with_state), np.tanh(OTHER)[:1, :2, :3]
        own = {"x": GIVEN, "z": OTHER, "state": state, "out": output}
        values = tuple({name: k * value for name, value in own.items()} for k in (1.0, 0.5))
        tensors = {name: Tensor(name, value.shape, "float32") for name, value in values[0].items()}
        graph = Graph("torch", tuple(nodes), tensors, (Port("x", "x"), Port("z", "z")), ())
        sides.append(region.Region(graph, "out", frozenset({"x", "z"}), values))
    return *sides, region.Matches(*sides, {"x": "x", "z": "z"})


def test_a_proof_becomes_an_explanation_and_what_is_not_near_does_not():
    layer = pointwise("exp")
    failing = failing_layer(layer, np.exp(layer.inputs[0]) + 1.0)
    statement = region_statements.DifferenceText(
        DifferenceType.ADDED, "It also computes `add` with 1", "leave it out"
    )
    proof = region_statements.RegionProof((statement,), failing.actual, "With it")
    found = explain_by_region(replace(failing, region=proof))
    (candidate,) = found.proof.candidates
    assert candidate.cause == "operation-added"
    assert found.x_floor_before > 4.0 >= found.proof.x_floor_after
    wrong = replace(proof, output=failing.actual + 1e-2)
    assert explain_by_region(replace(failing, region=wrong)) is None
    assert explain_by_region(failing) is None


def test_the_second_input_has_other_numbers_of_the_same_signs():
    values = draw(4, 5)
    other = change_values("row", values)
    assert (np.sign(other) == np.sign(values)).all()
    assert (other != values).all()
    places = np.arange(6.0)
    np.testing.assert_array_equal(change_values("row", places), places)
    mask = np.array([0.5, -np.inf, 2.0])
    assert change_values("row", mask)[1] == -np.inf


def test_both_sides_have_the_same_second_input_in_any_axes():
    values = draw(4, 5, 3).astype(np.float32)
    turned = change_numbers(values.transpose(2, 0, 1))
    np.testing.assert_array_equal(turned, change_numbers(values).transpose(2, 0, 1))
    ids = np.arange(5)
    assert change_numbers(ids) is ids


def test_branches_that_meet_are_walked_once():
    """Every step doubles the paths back to the input."""

    def build_steps(first):
        nodes = [node("a0", first, "x")]
        for at in range(25):
            nodes.append(node(f"s{at}", "sin", f"a{at}"))
            nodes.append(node(f"a{at + 1}", "add", f"a{at}", f"s{at}"))
        return [*nodes, node("out", "exp", "a25")]

    assert stated(build_steps("sin"), build_steps("cos"))[0] is DifferenceType.OTHER


def test_a_sum_of_a_tensor_and_what_is_made_of_it():
    """Its inputs are not exchanged where that pairs no more of them."""
    reference = [node("a", "sin", "x"), node("b", "sin", "a"), node("s", "add", "a", "b")]
    subject = [node("a", "cos", "x"), node("b", "sin", "a"), node("s", "add", "a", "b")]
    form, text = stated([*reference, node("out", "exp", "s")], [*subject, node("out", "exp", "s")])
    assert form is DifferenceType.OTHER
    assert text.startswith("It computes `cos` (a.py:1), not `sin` (a.py:1)")


def test_an_operation_in_another_place_is_neither_left_out_nor_added():
    first = node("a", "sin", "x")
    behind = [first, node("out", "exp", "a"), node("later", "cos", "out")]
    before = [first, node("b", "cos", "a"), node("out", "exp", "b")]
    apart = [first, node("out", "exp", "a"), node("b", "tanh", "out"), node("later", "cos", "b")]
    assert explain(apart, before)[0] is None
    assert explain(before, apart)[0] is None
    assert stated(behind[:2], before)[0] is DifferenceType.ADDED
    assert stated(before, behind[:2])[0] is DifferenceType.LEFT_OUT


def test_two_neighbouring_operations_in_the_other_order():
    first = node("a", "sin", "x")
    behind = [first, node("out", "exp", "a"), node("later", "cos", "out")]
    before = [first, node("b", "cos", "a"), node("out", "exp", "b")]
    assert stated(behind, before) == (
        DifferenceType.ORDER,
        "`cos` (b.py:1) comes before `exp` (out.py:1), the reference has `exp` (out.py:1) before "
        "`cos` (later.py:1)",
    )
    form, text = stated(before, behind)
    assert form is DifferenceType.ORDER
    assert text.startswith("`exp` (out.py:1) comes before `cos` (later.py:1)")
    # Both are within the row.
    reference = [node("a", "exp", "x"), node("b", "cos", "a"), node("out", "sin", "b")]
    subject = [node("c", "cos", "x"), node("d", "exp", "c"), node("out", "sin", "d")]
    form, text = stated(reference, subject)
    assert form is DifferenceType.ORDER
    assert text == ("It computes `cos` (c.py:1), then `exp` (d.py:1), in this order, the reference "
                    "`exp` (a.py:1), then `cos` (b.py:1)")  # fmt: skip


@pytest.mark.parametrize("equal", [True, False])
def test_an_operation_in_the_other_order_with_weights_of_its_own(equal):
    """No weights are copied between two that are in another order: the run shows whose they are."""
    norm = {"weights": {"gamma": "g"}, "epsilon": 1e-5, "axes": [2]}
    behind = [node("a", "sin", "x"), node("out", "exp", "a"),
              node("c", "layer_norm", "out", **norm)]  # fmt: skip
    before = [node("a", "sin", "x"), node("b", "layer_norm", "a", **norm),
              node("out", "exp", "b")]  # fmt: skip
    own = {} if equal else {"g": draw(6, seed=31)}
    proof, _ = explain(behind, before, weights=own)
    (statement,) = proof.statements
    assert statement.form is DifferenceType.ORDER
    assert ("has weights of its own" in statement.text) is not equal


def test_operations_are_not_in_the_other_order_if_the_exchange_does_not_give_the_output():
    """The one in front reads something that only looks like what the reference's one reads."""
    behind = [node("a", "sin", "x"), node("out", "exp", "a"), node("later", "cos", "out")]
    before = [node("a", "sin", "x"), node("b", "cos", "a"), node("c", "multiply", "b", "z"),
              node("out", "exp", "c")]  # fmt: skip
    proof, _ = explain(behind, before)
    assert proof is None or proof.statements[0].form is not DifferenceType.ORDER


def shape(name, tensor, *sizes):
    return node(name, "reshape", tensor, full_shape=sizes)


def turn(name, tensor, *perm):
    return node(name, "transpose", tensor, perm=perm)


CHAIN = [shape("a", "x", 2, 2, 3, 6), turn("b", "a", 0, 2, 1, 3), shape("c", "b", 2, 6, 6)]
EXP_C = node("out", "exp", "c")


@pytest.mark.parametrize(
    ("reference", "subject", "text"),
    [
        (
            [*CHAIN, EXP_C],
            [shape("a", "x", 2, 3, 2, 6), turn("b", "a", 0, 2, 1, 3), shape("c", "b", 2, 6, 6),
             EXP_C],
            "it takes 0, 2, 4, 1, … , not 0, 3, 1, 4, … , along axis 1 of the input `x`",
        ),
        (
            [*CHAIN, EXP_C],
            [shape("a", "x", 2, 3, 2, 6), turn("b", "a", 0, 2, 3, 1), shape("c", "b", 2, 6, 6),
             EXP_C],
            "it reads axis 1 of the input `x` of the reference as 3 × 2 (axes 2, 1 of the result), "
            "not as 2 × 3 (axes 1, 1 of the result)",
        ),
        (
            [node("t", "tile", "x", repeats=[1, 1, 2]), node("out", "exp", "t")],
            [shape("a", "x", 2, 6, 6, 1), node("t", "tile", "a", repeats=[1, 1, 1, 2]),
             shape("c", "t", 2, 6, 12), EXP_C],
            "it takes each 2 times, not all 2 times in turn, along axis 2 of the input `x`",
        ),
        (
            [node("f", "flip", "x", axes=[1]), node("out", "exp", "f")],
            [node("r", "roll", "x", shifts=[2], axes=[1]), node("out", "exp", "r")],
            "it takes 4, 5, 0, 1, … , not the reverse, along axis 1 of the input `x`",
        ),
        (
            [node("j", "concat", "x", "z", axis=2), node("out", "exp", "j")],
            [node("j", "concat", "z", "x", axis=2), node("out", "exp", "j")],
            "`concat` (j.py:1) joins its inputs in another order than `concat` (j.py:1): the input "
            "`z`, the input `x`, where the reference has the input `x`, the input `z`",
        ),
    ],
)  # fmt: skip
def test_values_that_are_moved_otherwise_are_one_difference(reference, subject, text):
    """In whatever operations it is written, and proved by numbers in the place of values."""
    form, found = stated(reference, subject)
    assert form is DifferenceType.PLACES
    assert text.replace("… ,", "…,") in found


JOINED = [node("a", "sin", "x"), node("b", "sin", "z"), node("c", "sin", "a"),
          node("d", "sin", "b")]  # fmt: skip


def join(*names, source=""):
    made = [replace(each, source=source or each.source) for each in JOINED]
    return [*made, node("j", "concat", *names, axis=2), node("out", "exp", "j")]


def test_several_exchanged_inputs_are_one_order():
    """Not that each of them reads another tensor, whose names may be the same."""
    form, text = stated(join(*"abcd"), join(*"dbac"))
    assert form is DifferenceType.PLACES
    named = "`sin` (d.py:1), `sin` (b.py:1), `sin` (a.py:1), `sin` (c.py:1), where the reference"
    assert named in text
    _, text = stated(join(*"abcd"), join(*"dbac", source="net.py:3"))
    assert "its inputs 0, 2 and 3 are 3, 0 and 2 of the reference, counted from 0" in text
    # One that is joined twice and one that is not joined are no other order.
    proof, _ = explain(join(*"abcd"), join(*"bbac"))
    assert "another order" not in " ".join(each.text for each in proof.statements)


@pytest.mark.parametrize(
    ("own", "order"),
    [
        ("dbac", "its inputs 0, 2 and 3 are 3, 0 and 2 of the reference, counted from 0"),
        ("bbac", None),
        ("adbc", "its inputs 1, 2 and 3 are 3, 1 and 2 of the reference, counted from 0"),
    ],
)
def test_statements_on_single_inputs_that_are_exchanged_become_one(own, order):
    graphs = [build(join(*names, source="net.py:3")) for names in ("abcd", own)]
    regions = [SimpleNamespace(nodes=graph.nodes, graph=graph) for graph in graphs]
    matches = SimpleNamespace(to_reference={name: (name,) for name in "abcd"})
    walk = SimpleNamespace(reference=regions[0], subject=regions[1], matches=matches)
    edits = [Substitution(*pair) for pair in zip("abcd", own, strict=True) if len(set(pair)) > 1]
    sentences = {each: DifferenceText(DifferenceType.TENSOR, "it reads a, not a", "read a")
                 for each in edits}  # fmt: skip
    extra = DifferenceText(DifferenceType.ADDED, "It also computes `flip`", "leave it out")
    found = join_input_orders(walk, {**sentences, Substitution("out", "f"): extra})
    assert found[-1] == extra
    assert len(found) == 2
    assert (order or "it reads a, not a") in found[0].text
    assert (found[0].form is DifferenceType.PLACES) is (order is not None)


def test_pieces_of_a_tensor_that_is_read_elsewhere_too():
    """The reference turns pairs of halves by `x` itself, the subject pairs of neighbours."""

    def part(name, *, start, end, step=1):
        return node(name, "slice", "x", axes=[2], starts=[start], ends=[end], steps=[step],
                    squeeze=[])  # fmt: skip

    reference = [
        part("a", start=0, end=3), part("b", start=3, end=6), node("n", "neg", "b"),
        node("j", "concat", "n", "a", axis=2), node("t", "tanh", "j"),
        node("s", "add", "x", "t"), node("out", "exp", "s"),
    ]  # fmt: skip
    subject = [
        part("a", start=0, end=6, step=2), part("b", start=1, end=6, step=2),
        node("ta", "tanh", "a"), node("n", "neg", "b"), node("tb", "tanh", "n"),
        node("one", "add", "a", "tb"), node("two", "add", "b", "ta"),
        node("j", "concat", "one", "two", axis=2), node("out", "exp", "j"),
    ]  # fmt: skip
    form, text = stated(reference, subject)
    assert form is DifferenceType.PLACES
    assert text == (
        "`slice` (a.py:1) and `slice` (b.py:1) give the values in another order than `slice` "
        "(a.py:1) and `slice` (b.py:1): it takes 0, 2, 4, not 0, 1, 2, along axis 2 of the input "
        "`x` of the reference; it takes 1, 3, 5, not 3, 4, 5, along axis 2 of the input `x` of the "
        "reference"
    )
    # Nothing is proved if the subject does more.
    other = [*subject[:-2], node("j", "concat", "one", "ta", axis=2), subject[-1]]
    assert explain(reference, other)[0] is None


def test_values_that_are_moved_alike_are_no_difference():
    other = [turn("b", "x", 0, 2, 1), shape("d", "b", 2, 6, 2, 3), turn("e", "d", 0, 3, 2, 1),
             shape("c", "e", 2, 6, 6)]  # fmt: skip
    assert explain([*CHAIN, EXP_C], [*other, EXP_C])[0] is None
    proof, _ = explain([*CHAIN, EXP_C], [*other, node("out", "sin", "c")])
    assert proof is not None
    assert {each.form for each in proof.statements} == {DifferenceType.OTHER}


def test_parts_that_are_joined_in_another_order():
    """Of constants too, which no numbers take the place of."""
    first, second = draw(2, 5, 3, seed=5), draw(2, 5, 3, seed=6)
    wanted = [first, second]
    own = [each[:, [0, 1, 3, 2, 4]] for each in wanted]
    assert movements.find_exchanged_parts(wanted, own) == (1, (2, 3), (3, 2))
    assert movements.find_exchanged_parts(wanted, [own[0], wanted[1]]) is None
    assert movements.find_exchanged_parts(wanted, [each + 1 for each in own]) is None


def test_what_does_more_than_move_values_is_no_other_order():
    """A relu gives the numbers 1, 2, 3 back, but not those of the second run."""
    coded = movements.Places(np.arange(1, 5), (("x", (4,)),))
    second = movements.draw_second(4)
    first = np.array([2.0, 1.0, 4.0, 3.0])
    assert movements.read_places(first, second[[2, 1, 4, 3]], coded) is not None
    assert movements.read_places(first, np.maximum(second[[2, 1, 4, 3]], 0), coded) is None
    assert movements.read_places(first + 0.5, second[[2, 1, 4, 3]], coded) is None


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ([Rearrangement((-1, 6, 2, 3), (0, 1, 3, 2), (-1, 6, 6))], True),
        ([Rearrangement((-1, 6, 2, 3), (0, 1, 3, 2), (-1, 36))], False),
        ([Rearrangement((-1, 6, 2, 5), (0, 1, 3, 2), (-1, 6, 10))], False),
        ([Rearrangement(order=(0, 2, 1))], False),
        ([Rearrangement((-1, 6, 2, 3), (0, 1, 3, 2), (-1, 6, 6))] * 2, False),
        ([], False),
    ],
    ids=["within", "another shape", "another size", "axes", "twice", "none"],
)
def test_an_order_of_features_that_the_comparison_has_made_equal(changes, found):
    """What the subject gives may be the reference's with it, or without: runs show which."""
    turn = find_turn(TensorPoint("out", "out", tuple(changes)), (2, 6, 6))
    assert (turn is not None) is found
    if turn is not None:
        wanted = GIVEN.reshape(2, 6, 2, 3).swapaxes(2, 3).reshape(2, 6, 6)
        np.testing.assert_array_equal(turn(GIVEN), wanted)


def test_several_operations_of_which_one_is_on_both_sides():
    reference = [node("a", "exp", "x"), node("b", "tanh", "a"), node("out", "sin", "b")]
    subject = [node("b", "tanh", "x"), node("c", "cos", "b"), node("out", "sin", "c")]
    form, text = stated(reference, subject)
    assert form is DifferenceType.OTHER
    assert "`tanh` (b.py:1) and `cos` (c.py:1) where the reference computes `exp`" in text
    # A number may be what differs, and is not in these words.
    scaled = [node("a", "exp", "x"), node("b", "multiply", "a", constants={"1": 3.0}),
              node("out", "sin", "b")]  # fmt: skip
    other = [node("b", "multiply", "x", constants={"1": 3.0}), node("c", "cos", "b"),
             node("out", "sin", "c")]  # fmt: skip
    assert explain(scaled, other)[0] is None


def test_several_operations_at_the_row_itself_are_not_named_without_a_run():
    """They may be another way of writing the one, behind what no graph shows."""
    reference = [node("out", "silu", "x")]
    subject = [node("a", "sigmoid", "x"), node("out", "multiply", "x", "a")]
    assert explain(reference, subject)[0] is None
