"""What a subject states is tried first where an earlier layer of it has that cause."""

from __future__ import annotations

import numpy as np
import pytest

from parity.explain import causes, diagnosis
from parity.explain.proof.layer import Layer, evaluate
from tests.explain.samples import conv, failing_layer

STATED = {"bias": False, "stride": (2, 2)}


def _without_bias(layer: Layer) -> Layer:
    return layer.with_weights(bias=np.zeros_like(layer.weights["bias"]))


def _explain(actual: Layer, names: set[str], **stated: object) -> str | None:
    failing = failing_layer(conv(bias=True), evaluate(actual), subject_hyper=stated)
    found = diagnosis.explain_by_statement(failing, names)
    if found is None or found.proof is None:
        return None
    # The whole search names the same.
    searched = diagnosis.explain_layer(failing).proof
    assert searched is not None
    assert {c.text for c in searched.candidates} == {c.text for c in found.proof.candidates}
    return "+".join(sorted(candidate.cause for candidate in found.proof.candidates))


def test_one_statement_and_two_together() -> None:
    assert _explain(_without_bias(conv(bias=True)), {"bias"}, bias=False) == "bias"
    both = _without_bias(conv(bias=True).with_hyper(stride=(2, 2)))
    assert _explain(both, {"bias", "stride"}, **STATED) == "bias+stride"


@pytest.mark.parametrize(
    ("names", "stated"),
    [({"stride"}, STATED), ({"bias"}, {"stride": (2, 2)}), ({"bias"}, {})],
    ids=["another cause", "another statement", "no statement"],
)
def test_what_is_not_stated_or_not_known_is_left_to_the_search(names, stated) -> None:
    assert _explain(_without_bias(conv(bias=True)), names, **stated) is None


def test_a_second_difference_is_left_to_the_search() -> None:
    broken = _without_bias(conv(bias=True))
    kernel = broken.weights["kernel"].copy()
    kernel[0] *= 1.01
    assert _explain(broken.with_weights(kernel=kernel), {"bias"}, bias=False) is None


def test_the_candidates_of_a_cause_are_those_of_its_file() -> None:
    failing = failing_layer(
        conv(bias=True), evaluate(_without_bias(conv(bias=True))), subject_hyper=STATED
    )
    found = {each.cause for each in causes.propose_candidates(failing, {"dilation"})}
    assert found == {"stride", "dilation"}
    every = {each.cause for each in causes.propose_candidates(failing)}
    assert {"bias", "stride", "dilation"} < every
