"""What one run of a layer cannot tell: a dropout that drops nothing is a factor like any other."""

from __future__ import annotations

import pytest

from parity.explain.findings import IsolatedFailure
from parity.explain.layer_explainer import LayerExplainer
from parity.explain.proof.layer import evaluate
from tests.explain.samples import dense, failing_layer, pointwise


class Evidence:
    """One failing layer, as the captures would give it."""

    def __init__(self, failing):
        self.failing = failing

    def build_failing_layer(self, failure):
        return self.failing


class Explainer(LayerExplainer):
    """An explainer that has no runs to compare: whether the output changes is given."""

    changes = False
    asked = 0

    def _is_nondeterministic(self, failure):
        type(self).asked += 1
        return self.changes


@pytest.mark.parametrize("changes", [False, True])
def test_a_factor_that_changes_between_runs_is_no_factor(changes, monkeypatch):
    layer = pointwise("tanh")
    failing = failing_layer(layer, evaluate(layer) / 0.75)
    monkeypatch.setattr(Explainer, "changes", changes)
    explainer = Explainer(Evidence(failing), runner=None, graphs=None, compared=("torch",))
    failure = IsolatedFailure("torch", failing.row, failing.floor, 1e5)
    monkeypatch.setattr(Explainer, "_with_subject_weights", lambda self, layer: layer, raising=True)
    (finding,) = explainer.explain([failure])
    assert finding.nondeterministic is changes
    assert (finding.explanation.proof is None) is changes
    if not changes:
        assert finding.explanation.proof.candidates[0].cause == "scale"


def test_no_second_run_for_what_is_not_fitted(monkeypatch):
    layer = dense()
    actual = evaluate(layer.with_weights(bias=0 * layer.weights["bias"]))
    failing = failing_layer(layer, actual)
    monkeypatch.setattr(Explainer, "asked", 0)
    monkeypatch.setattr(Explainer, "_with_subject_weights", lambda self, layer: layer, raising=True)
    explainer = Explainer(Evidence(failing), runner=None, graphs=None, compared=("torch",))
    failure = IsolatedFailure("torch", failing.row, failing.floor, 1e5)
    (finding,) = explainer.explain([failure])
    assert finding.explanation.proof is not None
    assert Explainer.asked == 0
