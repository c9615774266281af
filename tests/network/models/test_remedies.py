"""A published network becomes a true twin by doing what the report says, one after another."""

from __future__ import annotations

import re

import pytest

import parity as api
from parity.comparison.semantics import SLACK as SEMANTICS_SLACK
from parity.network import architectures
from parity.report.codec import to_json

BUILDER = "tests.twins.remedied:build"

REMEDIES = {
    "same-padding": r"`conv3_block1_2_concat`: use ZeroPadding2D\(1\) and padding='valid'",
    "batch-norm-epsilon": r"BatchNormalization `conv1_bn`: set epsilon=1e-05",
    "softmax": r"Dense `predictions`: return logits",
    "bias": r"Conv2D `conv1_conv`: set use_bias=False",
}
"""What the report tells the user to do, by the cause that it names."""

STRUCTURE = {
    "same-padding": "padding is ((1, 1), (1, 1)) in torch, ((0, 1), (0, 1)) in keras",
    "batch-norm-epsilon": "epsilon is 1e-05 in torch, 1.001e-05 in keras",
    "softmax": "activation is 'linear' in torch, 'softmax' in keras",
    "bias": "bias is False in torch, True in keras",
}
"""How structure tells each; a bias that is zero computes nothing, and is proved by that alone."""


@pytest.fixture
def compared(monkeypatch):
    """Compare the small variant with some remedies applied."""
    from tests.twins import remedied

    known = dict(architectures._registry())
    monkeypatch.setattr(
        architectures, "_registry", lambda: {**known, remedied.NAME: remedied.SMALL}
    )

    def compare(*applied, **options):
        monkeypatch.setenv(remedied.VARIABLE, ",".join(applied))
        options = {"subjects": ("keras", "torch"), **options}
        return api.compare(remedied.NAME, f"keras={BUILDER}", **options)

    return compare


def explained(report):
    """The causes that are named, and the differences that structure tells, as one set."""
    told = report.levels["structure"].messages
    by_structure = {cause for cause, line in STRUCTURE.items() if any(line in t for t in told)}
    counts = [line for line in told if "parameters, expected" in line]
    assert len(by_structure) == len(told) - len(counts), told
    # Of all of them only the bias has weights.
    assert bool(counts) == ("bias" in by_structure)
    assert {cause.cause for cause in report.causes} == by_structure
    return by_structure


@pytest.mark.framework
@pytest.mark.slow
def test_each_explanation_comes_out_and_goes_when_its_remedy_is_applied(compared):
    applied, report = [], compared()
    expected = set(STRUCTURE)
    while expected:
        assert report.verdict == "divergence"
        assert explained(report) == expected
        for cause in report.causes:
            assert re.search(REMEDIES[cause.cause], cause.message), cause.message
            if cause.cause != "bias":
                # What only float64 shows is judged with twice the slack.
                assert cause.evidence["x_floor_after"] <= report.limit * SEMANTICS_SLACK
        # The report's own order: what it names first is mended first.
        remedy = report.causes[0].cause
        assert to_json(report)["causes"][0]["cause"] == remedy
        applied.append(remedy)
        expected.remove(remedy)
        report = compared(*applied)
    assert applied[-1] == "bias"
    assert explained(report) == set()
    assert report.verdict == "parity"
    assert all(
        result.status.passes for stage in report.stages for result in stage.subjects.values()
    )


@pytest.mark.framework
@pytest.mark.slow
def test_the_true_twin_is_one_in_every_subject_and_in_float64(compared):
    everything = ("keras", "torch", "onnx-keras", "onnx-torch")
    report = compared(*STRUCTURE, subjects=everything, semantics=True)
    assert report.verdict == "parity", report.levels
    assert set(report.subjects) == set(everything)
    assert report.levels["semantics"].outcome == "pass"
