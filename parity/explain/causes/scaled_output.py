"""An output that is the right one times one number: a factor too many, or one that is missing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import Candidate, format_fit
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Layer, evaluate

NAME = "output-scaled"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    layer = failing.reference_layer
    if failing.actual.shape != failing.expected.shape:
        return
    if layer.weights and not failing.subject_weights:
        # Weights that are all scaled explain it better, and are not known yet.
        return

    def scale(output: Array) -> Array:
        return output * _fit_factor(output, failing.actual)

    def change(changed: Layer) -> Layer:
        return changed.with_output_transform(scale)

    text = format_fit(lambda: _fit_factor(evaluate(layer), failing.actual))
    yield Candidate(
        NAME,
        change,
        f"The output is multiplied by {text}",
        f"{failing.label}: remove the factor",
        # Last: every other candidate describes the factor more precisely.
        -2.0,
        fitted_values=1,
        # Beside another cause, a factor would explain too much.
        replaces_output=True,
    )


def _fit_factor(output: Array, actual: Array) -> float:
    power = float(np.vdot(output, output))
    if not power > 0.0:
        raise ValueError("no value differs from 0")
    return float(np.vdot(output, actual)) / power
