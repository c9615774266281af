"""A bias that one side has and the other lacks: a constant offset in each channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from parity.explain.proof.candidate import Candidate, StructuralCause
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Array, Layer, replace_weights, transform_output
from parity.network import kinds
from parity.network.structure import Difference
from parity.processes.subjects import side_of

NAME = "bias"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    if "bias" not in {role.name for role in kinds.get(failing.reference_layer.kind).roles}:
        return
    off = f"{failing.label}: {_bias_remedy(failing.framework, False)}"
    elsewhere = (
        f"{failing.label}: look for a constant that is added to its output or input (by "
        "preprocessing, for example)"
    )
    if "bias" in failing.reference_layer.weights:
        is_stated = failing.framework != "onnx" and failing.subject_hyper.get("bias") is False
        yield Candidate(
            NAME,
            _zero_bias,
            "The bias is missing",
            f"{failing.label}: {_bias_remedy(failing.framework, True)} and copy the bias",
            1.0 if is_stated else _rate(failing),
        )
        # Only where the subject has the right bias; otherwise the bias itself is wrong.
        if np.array_equal(
            failing.subject_weights.get("bias", ()), failing.reference_layer.weights["bias"]
        ):
            text = "A constant is added in each channel, in addition to its bias"
            yield from _propose_constant(failing, text, elsewhere)
        return
    if "bias" in failing.subject_weights:
        text = "A bias is added that the reference does not have"
        yield Candidate(NAME, replace_weights(bias=failing.subject_weights["bias"]), text, off, 0.9)
    if failing.framework != "onnx" and failing.subject_hyper.get("bias") is False:
        # The bias is off, so the constant has another source.
        text = "A constant is added in each channel, though the layer itself has no bias"
        yield from _propose_constant(failing, text, elsewhere)
    else:
        text = "A bias is added that the reference does not have, a constant in each channel"
        yield from _propose_constant(failing, text, off)


def _rate(failing: FailingLayer) -> float:
    """Return the score of a constant in each channel, by the pattern of the error."""
    return 0.9 if failing.pattern.constant_offset else 0.3


def _propose_constant(failing: FailingLayer, text: str, remedy: str) -> Iterator[Candidate]:
    """Yield the candidate of a constant in each channel, fitted to the subject's output."""
    if failing.actual.shape == failing.expected.shape:
        yield Candidate(
            NAME,
            transform_output(lambda output: output + _fit_offset(output, failing.actual)),
            text,
            remedy,
            _rate(failing),
            fitted_values=failing.expected.shape[_channel_axis(failing.expected)],
            describes_values=True,
        )


def find_structural_causes(differences: Sequence[Difference]) -> Iterator[StructuralCause]:
    """Yield layers with a bias that the reference lacks; a bias of 0 changes no output."""
    by_subject: dict[str, list[Difference]] = {}
    for item in differences:
        if item.field == "bias" and item.found is True and item.expected is False:
            by_subject.setdefault(item.subject, []).append(item)
    for subject, items in by_subject.items():
        yield StructuralCause(
            NAME,
            subject,
            tuple(item.row for item in items),
            "It has a bias that the reference does not have; a bias of 0 changes no output until "
            "it is trained",
            _bias_remedy(side_of(subject), False),
            {"layers": float(len(items))},
        )


def _bias_remedy(framework: str, has_bias: bool) -> str:
    name = {"keras": "use_bias", "torch": "bias"}.get(framework)
    return (
        f"set {name}={has_bias}"
        if name
        else f"{'add' if has_bias else 'remove'} the node's bias input"
    )


def _channel_axis(tensor: Array) -> int:
    """Return the axis of the channels: axis 1; the last one of a sequence (N, T, C)."""
    return min(1, tensor.ndim - 1) if tensor.ndim != 3 else 2


def _zero_bias(layer: Layer) -> Layer:
    return layer.with_weights(bias=np.zeros_like(layer.weights["bias"]))


def _fit_offset(output: Array, actual: Array) -> Array:
    """Return the mean difference in each channel, (1, C, 1, 1) for an image."""
    if output.shape != actual.shape:
        raise ValueError("the shapes differ")
    axes = tuple(axis for axis in range(output.ndim) if axis != _channel_axis(output))
    return np.asarray((actual - output).mean(axis=axes, keepdims=True))
