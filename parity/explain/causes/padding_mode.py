"""Padding by reflection, repetition or around the edge, not by zeros: only the border differs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Layer, LayerChange
from parity.network import kinds

NAME = "padding-mode"

_MODES = (
    ("reflect", "by reflection without the edge"),
    ("edge", "by repeating the edge"),
    ("wrap", "around the edge"),
    ("symmetric", "by reflection with the edge"),
)
"""NumPy's modes, in words."""


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    layer = failing.reference_layer
    padding = layer.hyper.get("padding")
    if padding is None or not any(map(any, padding)):
        return
    if not kinds.get(layer.kind).windowed or layer.kind == "conv_transpose":
        return
    for mode, text in _MODES:
        yield Candidate(
            NAME,
            _pad_by(mode),
            f"It is padded {text}, not with zeros",
            f"{failing.label}: {_remedy(failing.framework, mode)}",
            0.7 if failing.pattern.border_only else 0.15,
        )


def _pad_by(mode: str) -> LayerChange:
    def change(layer: Layer) -> Layer:
        padding = [(int(before), int(after)) for before, after in layer.hyper["padding"]]
        if min(map(min, padding)) < 0 or len(padding) != layer.data.ndim - 2:
            raise ValueError("this padding has no such mode")
        widths = [(0, 0), (0, 0), *padding]
        none = tuple((0, 0) for _ in padding)
        return layer.with_input_transform(
            lambda data: np.asarray(np.pad(data, widths, mode=mode))  # type: ignore[call-overload]
        ).with_hyper(padding=none)

    return change


def _remedy(framework: str, mode: str) -> str:
    if framework == "torch":
        return "set padding_mode='zeros'"
    if framework == "onnx":
        return f"pad with mode constant, where it is {mode}"
    return "pad with zeros, as padding='same' and ZeroPadding2D do"
