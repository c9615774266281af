"""A hyperparameter that the subject states otherwise and no other cause covers: `align_corners`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import change_hyper
from parity.network import kinds

NAME = "setting"

_COVERED = frozenset(
    {"stride", "dilation", "padding", "epsilon", "ceil", "negative_slope", "alpha",
        "slope", "approximate",
     "bias", "quantized", "causal"}
)  # fmt: skip
"""Hyperparameters with a cause of their own."""

_WITHOUT_EFFECT = frozenset({"in", "out", "units", "activation", "size"})
"""What the shapes of weights and outputs state, and activations, which are operations."""


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    kind = kinds.get(failing.reference_layer.kind)
    expected = kind.complete(failing.reference_layer.hyper)
    for setting in kind.hyperparameters:
        name = setting.name
        if name in _COVERED | _WITHOUT_EFFECT or name not in failing.subject_hyper:
            continue
        value, wanted = failing.subject_hyper[name], expected.get(name)
        if np.array_equal(np.asarray(value, object), np.asarray(wanted, object)):
            continue
        if wanted is None and name not in kind.complete(failing.subject_hyper):
            continue
        attribute = setting.attribute(failing.framework)
        # With another setting the places may be rounded, where the reference's are exact: the
        # floor, which was measured there, knows nothing of that.
        rounded = {kind.float32_setting: True} if kind.float32_setting else None
        for more, score in (({}, 1.0), (rounded, 0.95)):
            if more is not None:
                yield Candidate(
                    NAME,
                    change_hyper(**{name: value}, **more),
                    f"{name} is {value}, not {wanted}",
                    f"{failing.label}: set {attribute}={wanted}",
                    score,
                    place=name,
                )
