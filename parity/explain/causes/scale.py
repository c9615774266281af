"""One factor and one offset: a residual factor, a temperature of the logits, x / 255, layer scale.

The output, or the input, is that of the reference times a number, or plus one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from parity.explain.proof.candidate import Candidate, format_fit
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import (
    Array,
    Layer,
    LayerChange,
    evaluate,
    transform_input,
    transform_output,
)
from parity.network import kinds

NAME = "scale"
OFFSET = "offset"
CHANNELS = "layer-scale"
PREPROCESSING = "input-scale"

_USUAL = (
    ("divided by 255", lambda x: x / 255.0),
    ("multiplied by 255", lambda x: x * 255.0),
    ("moved from [0, 255] to [-1, 1]", lambda x: x / 127.5 - 1.0),
    ("moved from [-1, 1] to [0, 255]", lambda x: (x + 1.0) * 127.5),
    ("moved from [0, 1] to [-1, 1]", lambda x: 2.0 * x - 1.0),
    ("moved from [-1, 1] to [0, 1]", lambda x: (x + 1.0) / 2.0),
)  # fmt: skip


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    wanted, actual = failing.reference_layer, failing.actual
    yield from _propose_stated(failing)
    # Weights that are all scaled give the same output: before they are known, nothing is proved.
    is_linear = kinds.get(wanted.kind).family == "linear" or wanted.kind == "conv_transpose"
    knows_weights = bool(failing.subject_weights) or not wanted.weights
    if actual.shape == failing.expected.shape and knows_weights:
        yield from _propose_outputs(failing, wanted)
    if is_linear and "bias" in wanted.weights and knows_weights:
        text = format_fit(lambda: _fit_input_factor(wanted, actual))
        yield Candidate(
            PREPROCESSING,
            lambda layer: _scale_input(layer, actual),
            f"Its input is multiplied by {text}",
            f"{failing.label}: remove the factor {text} before it",
            _score(wanted, 0.3),
            fitted_values=1,
            text_without_fit="Its input is multiplied by a number",
        )
    if is_linear:
        for how, change in _USUAL:
            yield Candidate(
                PREPROCESSING,
                transform_input(change),
                f"Its input is {how}",
                f"{failing.label}: give both models the same input",
                0.25,
            )


def _propose_stated(failing: FailingLayer) -> Iterator[Candidate]:
    """Yield the arithmetic with a number that the subject states behind the reference's layer."""
    stated, wanted = failing.stated_layer, failing.reference_layer
    if stated is None or stated.kind == wanted.kind:
        return
    kind = kinds.get(stated.kind)
    if not kind.number_verb:
        return
    if len(stated.inputs) != 2 or stated.inputs[1].size != 1:
        return
    number = float(stated.inputs[1].reshape(-1)[0])
    yield Candidate(
        NAME if kind.factor else OFFSET,
        transform_output(
            lambda output: kinds.evaluate(kind.name, (output, np.asarray(number)), {}, {})
        ),
        f"Its output is {kind.number_verb} {number:g}",
        f"{failing.label}: remove the number {number:g}",
        1.0,
    )


def _propose_outputs(failing: FailingLayer, wanted: Layer) -> Iterator[Candidate]:
    actual = failing.actual
    factor = format_fit(lambda: _fit(evaluate(wanted), actual, offset=False)[0])
    yield Candidate(
        NAME,
        _refit(actual, offset=False),
        f"Its output is multiplied by {factor}",
        f"{failing.label}: remove the factor {factor}",
        _score(wanted, 0.35),
        fitted_values=1,
        text_without_fit="Its output is multiplied by a number",
    )
    number = format_fit(lambda: float((actual - evaluate(wanted)).mean()))
    yield Candidate(
        OFFSET,
        transform_output(lambda output: output + (actual - output).mean()),
        f"{number} is added to its output",
        f"{failing.label}: remove the constant {number}",
        _score(wanted, 0.35),
        fitted_values=1,
        text_without_fit="A number is added to its output",
    )
    yield Candidate(
        f"{NAME}+{OFFSET}",
        _refit(actual, offset=True),
        "Its output is multiplied by one number, and another is added",
        f"{failing.label}: remove the factor and the constant",
        _score(wanted, 0.1),
        fitted_values=2,
    )
    if "gamma" not in {role.name for role in kinds.get(wanted.kind).roles} and actual.ndim > 1:
        for axis in dict.fromkeys((1, actual.ndim - 1)):
            yield Candidate(
                CHANNELS,
                transform_output(partial(_per_channel, actual=actual, axis=axis)),
                "Each channel of its output is multiplied by a number",
                f"{failing.label}: apply the layer scale on both sides, or on none",
                _score(wanted, 0.05),
                fitted_values=actual.shape[axis],
            )


def _score(layer: Layer, score: float) -> float:
    """Return the score of a fit; behind `other-weights` where the layer has weights."""
    return score - 2.0 if layer.weights else score


def _refit(actual: Array, *, offset: bool) -> LayerChange:
    def change(output: Array) -> Array:
        factor, constant = _fit(output, actual, offset=offset)
        return factor * output + constant

    return transform_output(change)


def _fit(output: Array, actual: Array, *, offset: bool) -> tuple[float, float]:
    """Return the factor and the constant of the least squares; raises `ValueError` for none."""
    if output.shape != actual.shape or not np.isfinite(output).all():
        raise ValueError("the shapes differ, or a value is not finite")
    if not offset:
        power = float((output * output).sum())
        if not power:
            raise ValueError("every value is 0")
        return float((output * actual).sum()) / power, 0.0
    centred = output - output.mean()
    power = float((centred * centred).sum())
    if not power:
        raise ValueError("every value is equal")
    factor = float((centred * actual).sum()) / power
    return factor, float(actual.mean()) - factor * float(output.mean())


def _per_channel(output: Array, actual: Array, axis: int) -> Array:
    if output.shape != actual.shape:
        raise ValueError("the shapes differ")
    axes: Sequence[int] = tuple(each for each in range(output.ndim) if each != axis)
    power = (output * output).sum(axis=tuple(axes), keepdims=True)
    found = (output * actual).sum(axis=tuple(axes), keepdims=True)
    return np.asarray(output * (found / np.where(power, power, 1.0)))


def _fit_input_factor(layer: Layer, actual: Array) -> float:
    """Return a in W·(a·x) + b, which is linear in a."""
    zero = Layer(layer.kind, (0.0 * layer.data, *layer.inputs[1:]), layer.hyper, layer.weights)
    constant = evaluate(zero)
    return _fit(evaluate(layer) - constant, actual - constant, offset=False)[0]


def _scale_input(layer: Layer, actual: Array) -> Layer:
    factor = _fit_input_factor(layer, actual)
    return layer.with_input_transform(lambda data: factor * data)
