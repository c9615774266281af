"""A convolution that pads with its own border, where the reference pads with zeros."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Layer

NAME = "padding-mode"

_MODES: tuple[tuple[str, str, Any], ...] = (
    ("reflect", "by reflection", "reflect"),
    ("replicate", "with its border's values", "edge"),
    ("circular", "with the values of the opposite border", "wrap"),
)
"""PyTorch's name of a mode, words for it, and NumPy's name."""


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    layer = failing.reference_layer
    padding = layer.hyper.get("padding", ())
    if layer.kind not in ("conv", "depthwise_conv") or not any(map(any, padding)):
        return
    if failing.actual.shape != failing.expected.shape:
        return
    for mode, words, name in _MODES:
        yield Candidate(
            NAME,
            _pad_in_mode(name),
            f"It pads {words}, not with zeros",
            f"{failing.label}: {_remedy(failing.framework, mode)}",
            0.7 if failing.pattern.border_only else 0.15,
        )


def _pad_in_mode(mode: Any) -> Callable[[Layer], Layer]:
    def change(layer: Layer) -> Layer:
        amounts = [(int(before), int(after)) for before, after in layer.hyper["padding"]]
        widths = [(0, 0)] * (layer.inputs[0].ndim - len(amounts)) + amounts
        data = np.pad(layer.data, widths, mode=mode)
        changed = replace(layer, inputs=(data, *layer.inputs[1:]), input_transforms=())
        return changed.with_hyper(padding=tuple((0, 0) for _ in amounts))

    return change


def _remedy(framework: str, mode: str) -> str:
    if framework == "torch":
        return "set padding_mode='zeros'"
    if framework == "onnx":
        return f"pad with mode constant, where it is {'edge' if mode == 'replicate' else mode}"
    return "pad with zeros, as padding='same' and ZeroPadding2D do"
