"""One factor and one offset: a residual factor, a temperature of the logits, x / 255, layer scale.

The output, or the input, is that of the reference times a constant, or plus a constant.
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

_COMMON_INPUT_RANGES = (
    ("divided by 255", lambda x: x / 255.0),
    ("multiplied by 255", lambda x: x * 255.0),
    ("moved from [0, 255] to [-1, 1]", lambda x: x / 127.5 - 1.0),
    ("moved from [-1, 1] to [0, 255]", lambda x: (x + 1.0) * 127.5),
    ("moved from [0, 1] to [-1, 1]", lambda x: 2.0 * x - 1.0),
    ("moved from [-1, 1] to [0, 1]", lambda x: (x + 1.0) / 2.0),
)  # fmt: skip


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    wanted, actual = failing.reference_layer, failing.actual
    yield from _propose_constant_arithmetic(failing)
    # Weights that are all scaled give the same output: before they are known, nothing is proved.
    is_linear = kinds.get(wanted.kind).family == "linear" or wanted.kind == "conv_transpose"
    own = {**failing.subject_weights, **failing.computed_weights}
    knows_weights = bool(own) or not wanted.weights
    if actual.shape == failing.expected.shape and knows_weights:
        yield from _propose_outputs(failing, wanted)
    if is_linear and "bias" in wanted.weights and knows_weights:
        text = format_fit(lambda: _fit_input_factor(wanted, actual))
        yield Candidate(
            PREPROCESSING,
            lambda layer: _scale_input(layer, actual),
            f"Its input is multiplied by {text}",
            f"{failing.label}: remove the factor {text} before it",
            _penalize_score(wanted, 0.3),
            fitted_values=1,
            describes_values=True,
            text_without_fit="Its input is multiplied by a number",
        )
    if is_linear:
        for how, change in _COMMON_INPUT_RANGES:
            yield Candidate(
                PREPROCESSING,
                transform_input(change),
                f"Its input is {how}",
                f"{failing.label}: give both models the same input",
                0.25,
            )


def _propose_constant_arithmetic(failing: FailingLayer) -> Iterator[Candidate]:
    """Yield the arithmetic with a constant that the subject's graph has after the layer."""
    stated, wanted = failing.subject_layer, failing.reference_layer
    if stated is None or stated.kind == wanted.kind:
        return
    kind = kinds.get(stated.kind)
    if not kind.number_verb:
        return
    number = stated.find_number(1)
    if len(stated.inputs) != 2 or number is None:
        return
    yield Candidate(
        NAME if kind.factor else OFFSET,
        transform_output(
            lambda output: kinds.evaluate(kind.name, (output, stated.inputs[1]), {}, stated.hyper)
        ),
        f"Its output is {kind.number_verb} {number:g}",
        f"{failing.label}: remove the number {number:g}",
        1.0,
    )


def _propose_outputs(failing: FailingLayer, wanted: Layer) -> Iterator[Candidate]:
    """Yield fits of the output: one factor, one constant, both, and a factor for each channel."""
    actual = failing.actual
    factor = format_fit(lambda: _fit(evaluate(wanted), actual, offset=False)[0])
    yield Candidate(
        NAME,
        _refit(actual, offset=False),
        f"Its output is multiplied by {factor}",
        f"{failing.label}: remove the factor {factor}",
        _penalize_score(wanted, 0.35),
        fitted_values=1,
        describes_values=True,
        text_without_fit="Its output is multiplied by a number",
    )
    number = format_fit(lambda: float((actual - evaluate(wanted)).mean()))
    yield Candidate(
        OFFSET,
        transform_output(lambda output: output + (actual - output).mean()),
        f"{number} is added to its output",
        f"{failing.label}: remove the constant {number}",
        _penalize_score(wanted, 0.35),
        fitted_values=1,
        describes_values=True,
        text_without_fit="A number is added to its output",
    )
    yield Candidate(
        f"{NAME}+{OFFSET}",
        _refit(actual, offset=True),
        "Its output is multiplied by one number, and another is added",
        f"{failing.label}: remove the factor and the constant",
        _penalize_score(wanted, 0.1),
        fitted_values=2,
        describes_values=True,
    )
    if "gamma" not in {role.name for role in kinds.get(wanted.kind).roles} and actual.ndim > 1:
        for axis in dict.fromkeys((1, actual.ndim - 1)):
            yield Candidate(
                CHANNELS,
                transform_output(partial(_scale_channels, actual=actual, axis=axis)),
                "Each channel of its output is multiplied by a number",
                f"{failing.label}: apply the layer scale on both sides, or on none",
                _penalize_score(wanted, 0.05),
                fitted_values=actual.shape[axis],
                describes_values=True,
            )


def _penalize_score(layer: Layer, score: float) -> float:
    """Return the score of a fit, lowered by 2 for a layer with weights.

    Candidates are tried from the highest score down: `other-weights`, at -1, is tried before these.
    """
    return score - 2.0 if layer.weights else score


def _refit(actual: Array, *, offset: bool) -> LayerChange:
    """Return the change of a layer that fits its output to `actual` by least squares."""

    def change(output: Array) -> Array:
        factor, constant = _fit(output, actual, offset=offset)
        return factor * output + constant

    return transform_output(change)


def _fit(output: Array, actual: Array, *, offset: bool) -> tuple[float, float]:
    """Return the factor and the constant that fit `output` to `actual` by least squares.

    Raises `ValueError` for different shapes, a value that is not finite, or an output from which
    no factor follows.
    """
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


def _scale_channels(output: Array, actual: Array, axis: int) -> Array:
    """Return the output, each channel on `axis` times its least-squares factor to `actual`.

    Raises `ValueError` for different shapes.
    """
    if output.shape != actual.shape:
        raise ValueError("the shapes differ")
    axes: Sequence[int] = tuple(each for each in range(output.ndim) if each != axis)
    power = (output * output).sum(axis=tuple(axes), keepdims=True)
    found = (output * actual).sum(axis=tuple(axes), keepdims=True)
    return np.asarray(output * (found / np.where(power, power, 1.0)))


def _fit_input_factor(layer: Layer, actual: Array) -> float:
    """Return the a for which W·(a·x) + b, which is linear in a, is nearest to `actual`."""
    zero = Layer(layer.kind, (0.0 * layer.data, *layer.inputs[1:]), layer.hyper, layer.weights)
    constant = evaluate(zero)
    return _fit(evaluate(layer) - constant, actual - constant, offset=False)[0]


def _scale_input(layer: Layer, actual: Array) -> Layer:
    """Return the layer with its input multiplied by the factor that fits its output."""
    factor = _fit_input_factor(layer, actual)
    return layer.with_input_transform(lambda data: factor * data)
