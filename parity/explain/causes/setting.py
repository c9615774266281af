"""A hyperparameter that the subject states otherwise and no other cause covers: `align_corners`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from parity.comparison.graphs.layout import restore_axes_of
from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import change_hyper
from parity.network import kinds
from parity.network.kind import Hyperparameter

NAME = "setting"

_COVERED = frozenset(
    {"stride", "dilation", "padding", "epsilon", "ceil", "negative_slope", "alpha",
        "slope", "approximate",
     "bias", "quantized", "causal", "count_padding"}
)  # fmt: skip
"""Hyperparameters with a cause of their own."""

_WITHOUT_EFFECT = frozenset({"in", "out", "units", "activation", "size"})
"""What the shapes of weights and outputs state, and activations, which are operations."""


MOST_AXES = 14
"""The choices of axes that are tried where the subject states none."""


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    kind = kinds.get(failing.reference_layer.kind)
    expected = kind.complete(failing.reference_layer.hyper)
    for setting in kind.hyperparameters:
        name = setting.name
        if name in _COVERED | _WITHOUT_EFFECT:
            continue
        wanted = expected.get(name)
        if name not in failing.subject_hyper:
            # It may be written as several operations, which have no setting of this name.
            for value in itertools.islice(_list_other_axes(failing, name, wanted), MOST_AXES):
                yield _propose(failing, setting, value, wanted, 0.5)
            continue
        value = failing.subject_hyper[name]
        if np.array_equal(np.asarray(value, object), np.asarray(wanted, object)):
            continue
        if wanted is None and name not in kind.complete(failing.subject_hyper):
            continue
        # With another setting the places may be rounded, where the reference's are exact: the
        # floor, which was measured there, knows nothing of that.
        rounded = {kind.float32_setting: True} if kind.float32_setting else None
        for more, score in (({}, 1.0), (rounded, 0.95)):
            if more is not None:
                yield _propose(failing, setting, value, wanted, score, more)


def _propose(
    failing: FailingLayer,
    setting: Hyperparameter,
    value: Any,
    wanted: Any,
    score: float,
    more: Mapping[str, Any] | None = None,
) -> Candidate:
    name, axes = setting.name, failing.own_axes
    own, expected = (restore_axes_of(name, each, axes) for each in (value, wanted))
    return Candidate(
        NAME,
        change_hyper(**{name: value}, **(more or {})),
        f"{name} is {own}, not {expected}",
        f"{failing.label}: set {setting.attribute(failing.framework)}={expected}",
        score,
        place=name if name in failing.subject_hyper else "",
    )


def _list_other_axes(failing: FailingLayer, name: str, wanted: Any) -> Iterator[Any]:
    """Yield other axes than the reference's, as many of them first."""
    rank = failing.reference_layer.data.ndim
    if name == "axis" and isinstance(wanted, int):
        yield from (axis for axis in range(rank) if axis != wanted % rank)
    elif name == "axes" and isinstance(wanted, list | tuple) and len(wanted) < rank:
        own = tuple(sorted(int(axis) % rank for axis in wanted))
        counts = sorted(range(1, rank), key=lambda count: abs(count - len(own)))
        for count in counts:
            every = itertools.combinations(range(rank), count)
            yield from (list(each) for each in every if each != own)
