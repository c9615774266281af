"""One layer that is wrong by itself, and the differences that may be why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.explain.proof.fingerprint import Fingerprint
from parity.explain.proof.layer import Array, Layer
from parity.network.table import Row
from parity.numerics.floor import Floor


@dataclass(frozen=True)
class Case:
    """What is known of a subject's layer that differs though it was given the right input.

    `layer` is the reference's, `expected` its output and `actual` the subject's on the same input;
    `settings` what the subject says of its layer and `held` the weights that it has there, both
    empty where they are not known. `weights` and `tensors` are of the reference's other rows.
    """

    row: Row
    subject: str
    framework: str
    """Where the layer is to be mended: `keras`, `torch` or `onnx`."""
    layer: Layer
    expected: Array
    actual: Array
    floor: Floor
    fingerprint: Fingerprint
    limit: float = 4.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    held: Mapping[str, Array] = field(default_factory=dict)
    label: str = ""
    """The layer in the words of the subject's framework: Conv2D `conv1_conv`."""
    names: Mapping[str, str] = field(default_factory=dict)
    """By role, what the subject calls the weights that it holds."""
    exact: Array | None = None
    """What a graph itself says of this layer, evaluated in float64, if it was asked."""
    given: bool = False
    """Whether that graph is a file from elsewhere, which may be no export of this model at all."""
    recovers: bool = False
    """Whether all that was compared behind this layer is right, unfed: the error goes no further.
    """
    behind: tuple[str, ...] = ()
    """Those of `tensors` that come after this row."""
    calls: tuple[str, ...] = ()
    """The rows that are other calls of this row's layer object."""
    in_place: tuple[str, ...] = ()
    """Those behind this row whose layers, by their own word, overwrite what they read."""
    flattened: tuple[int, ...] | None = None
    """The image (C, H, W) that a dense layer's input is flattened from, if it is."""
    weights: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    tensors: Mapping[str, Array] = field(default_factory=dict)
    readable: Mapping[str, Array] = field(default_factory=dict)
    """The reference's tensors around this row that have the shape of one of its inputs."""

    def name_of(self, tensor: Array) -> str | None:
        """The row whose tensor of the reference this is, among those that are near."""
        given = np.asarray(tensor, np.float32)
        for name, value in (*self.readable.items(), *self.tensors.items()):
            if value.shape == given.shape and np.array_equal(np.asarray(value, np.float32), given):
                return name
        return None


def fitted(fit: Callable[[], float]) -> str:
    """The number that `fit` finds, for a text; it raises `ValueError` where there is none."""
    try:
        return f"{fit():.4g}"
    except ValueError:
        return "another one"


@dataclass(frozen=True)
class Shape:
    """What the structure alone proves: a cause, the layers that have it, figures of them."""

    cause: str
    subject: str
    layers: tuple[str, ...]
    text: str
    remedy: str
    evidence: Mapping[str, float] = field(default_factory=dict)
    bypass: tuple[str, ...] = ()
    """Layers that no row has: where they give their input back, nothing of the cause is left."""


@dataclass(frozen=True)
class Candidate:
    """One difference that may be why: how it is applied to the reference layer, and the remedy.

    `text` says what the subject has, beginning with a capital and without a full stop; `score`
    orders the trials, 1 for what the fingerprint or the subject's own settings speak for. `free`
    counts the numbers that were fitted to the subject's output: a proof needs far more values.
    `shown` says what the proof is, as the beginning of a sentence.
    """

    cause: str
    change: Callable[[Layer], Layer]
    text: str
    remedy: str
    score: float = 0.0
    free: int = 0
    vague: str = ""
    """`text` without the numbers that hold only where this is the one difference."""
    shown: str = "Applied to the reference layer alone"
    whole: bool = False
    """Whether it puts a tensor in the output's place, after which no other difference matters: it
    is tried alone, never with another."""
