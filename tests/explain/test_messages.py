"""What is not explained is told once for a model and the graph that computes the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parity.explain.diagnosis import explain_layer
from parity.explain.findings import Finding, IsolatedFailure
from parity.explain.messages import describe_findings, describe_proof, lower_first_word
from parity.explain.proof.candidate import Candidate
from parity.explain.proof.layer import evaluate
from parity.explain.proof.search import Attempt, Explanation
from tests.explain.samples import conv, failing_layer


def finding(subject, actual):
    made = failing_layer(conv(), actual, subject=subject)
    wrong = IsolatedFailure(subject, made.row, made.floor, 1e6)
    return Finding(wrong, made, Explanation(1e6, None))


@pytest.fixture
def odd():
    rng = np.random.default_rng(3)
    right = evaluate(conv())
    return right + rng.standard_normal(right.shape)


def test_a_graph_that_computes_what_its_model_does_shares_the_entry(odd):
    rounded = odd * (1.0 + 2.0**-25)
    (cause,) = describe_findings([finding("keras", odd), finding("onnx-keras", rounded)])
    assert cause.subject == "keras"
    assert cause.message.startswith(
        "not explained: the conv of Keras, and of onnx-keras, differs ("
    )


def test_a_graph_that_is_wrong_in_another_way_has_its_own(odd):
    causes = describe_findings([finding("keras", odd), finding("onnx-keras", odd + 1e-3)])
    assert [cause.subject for cause in causes] == ["keras", "onnx-keras"]
    causes = describe_findings([finding("keras", odd), finding("onnx-torch", odd)])
    assert [cause.subject for cause in causes] == ["keras", "onnx-torch"]


def test_weights_that_are_no_numbers_are_named():
    layer = conv()
    kernel = layer.weights["kernel"].copy()
    kernel[1, 0, 2, 1] = np.nan
    broken = evaluate(replace(layer, weights={**layer.weights, "kernel": kernel}))
    made = failing_layer(layer, broken, subject="keras")
    loaded = replace(made, subject_weights={"kernel": kernel})
    found = explain_layer(made, add_weights=lambda: loaded)
    wrong = IsolatedFailure("keras", made.row, made.floor, np.inf)
    (cause,) = describe_findings([Finding(wrong, made, found)])
    assert "another shape" not in cause.message
    assert cause.message.startswith("not explained: the conv of Keras differs; ")
    assert cause.message.endswith(
        f"; 1 of {kernel.size} values of its kernel are NaN or Inf, first nan at (1, 0, 2, 1)"
    )
    without = describe_findings([Finding(wrong, made, explain_layer(made))])[0].message
    assert "kernel" not in without


def test_a_layer_of_which_nothing_could_be_tried_has_its_own(odd):
    graph = replace(finding("onnx-keras", odd), layer=None)
    assert len(describe_findings([finding("keras", odd), graph])) == 2


@pytest.mark.parametrize("is_measured", [True, False])
def test_only_a_measured_proof_says_what_the_error_falls_to(is_measured):
    candidate = Candidate(
        "other-setting", lambda layer: layer, "Axis is 1, not 2", "set axis to 2",
        proof_method="All that it reads is the reference's", is_measured=is_measured,
    )  # fmt: skip
    made = failing_layer(conv(), evaluate(conv()))
    failure = IsolatedFailure("keras", made.row, made.floor, 8e5)
    explanation = Explanation(8e5, Attempt((candidate,), 0.0))
    cause = describe_proof(failure, explanation, (), ())
    assert ("falls" in cause.message) == is_measured
    assert ("x_floor_after" in cause.evidence) == is_measured
    assert cause.evidence["x_floor_before"] == 8e5


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It also computes `flip`", "it also computes `flip`"),
        ("The padding is 1, not 0", "the padding is 1, not 0"),
        ("A sum", "a sum"),
        ("GELU is computed by tanh", "GELU is computed by tanh"),
        ("`Concat` joins", "`Concat` joins"),
        ("Keras pads", "Keras pads"),
    ],
)
def test_a_second_cause_goes_on_in_the_sentence(text, found):
    assert lower_first_word(text) == found
