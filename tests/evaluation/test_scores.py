"""The figures of an evaluation against scikit-learn's; margins; labels that change."""

from __future__ import annotations

import numpy as np
import pytest

from parity.evaluation import scores
from parity.numerics.probabilities import are_probabilities

metrics = pytest.importorskip("sklearn.metrics")


@pytest.fixture(scope="module")
def drawn():
    random = np.random.default_rng(0)
    logits = (3 * random.standard_normal((200, 12))).astype(np.float32)
    return logits, random.integers(0, 12, 200)


def softmax(logits):
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("convert", [np.asarray, softmax], ids=["logits", "probabilities"])
def test_the_figures_are_those_of_scikit_learn(drawn, convert):
    logits, labels = drawn
    found = scores.measure_scores(convert(logits), labels.tolist())
    every = range(12)
    assert found.loss == pytest.approx(
        metrics.log_loss(labels, softmax(logits).astype(np.float64), labels=every), rel=1e-5
    )
    assert found.top1 == metrics.accuracy_score(labels, logits.argmax(axis=1))
    assert found.top5 == metrics.top_k_accuracy_score(labels, logits, k=5, labels=every)
    expected = metrics.confusion_matrix(labels, logits.argmax(axis=1), labels=every)
    np.testing.assert_array_equal(np.array(found.confusion), expected)


def test_a_softmax_changes_no_margin(drawn):
    logits, _ = drawn
    expected = np.sort(logits.astype(np.float64), axis=1)
    margins = scores.margins(logits)
    np.testing.assert_allclose(margins, expected[:, -1] - expected[:, -2], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(scores.margins(softmax(logits)), margins, rtol=1e-4, atol=1e-5)


def test_logits_that_are_positive_are_no_probabilities(drawn):
    logits, _ = drawn
    assert not are_probabilities(logits)
    assert not are_probabilities(np.abs(logits))
    assert are_probabilities(softmax(logits))


def test_a_probability_of_zero_has_a_finite_loss():
    outputs = np.array([[1.0, 0.0], [0.5, 0.5]], np.float32)
    assert 50 < scores.measure_scores(outputs, [1, 0]).loss < 60


def test_changed_labels_are_found_in_any_subject(drawn):
    logits, _ = drawn
    other = logits.copy()
    assert scores.find_changed_labels({"a": logits, "b": other}) == []
    other[7] = -other[7]
    other[199] = np.roll(other[199], 1)
    assert scores.find_changed_labels({"a": logits, "b": other, "c": logits}) == [7, 199]


def test_the_first_image_that_is_not_finite_is_found(drawn):
    logits = drawn[0].copy()
    assert scores.find_non_finite(logits) is None
    logits[5, 3], logits[9, 0] = np.nan, np.inf
    assert scores.find_non_finite(logits) == 5


def test_the_largest_error_is_that_of_the_sampled_images(drawn):
    logits = drawn[0]
    moved = logits.copy()
    moved[3, 4] += 0.25
    moved[8, 1] += 9
    reference = {index: logits[index].astype(np.float64) for index in (2, 3)}
    assert scores.largest_error(moved, reference) == pytest.approx(0.25)
    probable = {index: softmax(logits)[index].astype(np.float64) for index in (2, 3)}
    assert scores.largest_error(softmax(logits), probable) < 1e-5
    assert scores.largest_error(softmax(moved), probable) > 0.1
