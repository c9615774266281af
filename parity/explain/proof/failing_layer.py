"""The evidence on one failing layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from parity.defaults import LIMIT
from parity.explain.proof.error_pattern import ErrorPattern, classify_error
from parity.explain.proof.layer import Array, Layer
from parity.explain.proof.region_statements import RegionProof
from parity.network.table import Row
from parity.numerics.floor import Floor


@dataclass(frozen=True)
class MisreadTensor:
    """A tensor that a subject makes of other values of earlier tensors than the reference does.

    Either only moves values: slices, splits, transpositions, concatenations.
    """

    values: Array
    """The values that the subject reads, taken from the reference's earlier tensors."""
    description: str
    """Such as `8 to 15 of axis 3 of block1.query, where the reference has 0 to 7`."""
    remedy: str


@dataclass(frozen=True)
class FailingLayer:
    """A subject's layer that differs although it was given the reference's input.

    `expected` is the output of the reference's layer, and `actual` the subject's on the same input.
    Activations are (N, C, H, W), (N, T, C) or (N, C), weights in canonical layouts.
    """

    row: Row
    subject: str
    framework: str
    """The framework whose code the remedy changes: `keras`, `torch` or `onnx`."""
    reference_layer: Layer
    expected: Array
    actual: Array
    floor: Floor
    limit: float = LIMIT
    is_opaque: bool = False
    """Whether `reference_layer` is no operator, but gives `expected` as it is."""
    subject_hyper: Mapping[str, Any] = field(default_factory=dict)
    """The hyperparameters that the subject states; empty where they are not known."""
    own_axes: tuple[int, ...] = ()
    """The subject's axis of each axis of a tensor with its channels first; empty where they are the
    same."""
    pads_before: bool = False
    """Whether the padding of the subject's operation is that of an operation before it."""
    subject_layer: Layer | None = None
    """The subject's operation on the subject's inputs, where it alone gives `actual`; else None."""
    unpaired_input_layers: Mapping[int, Layer] = field(default_factory=dict)
    """The subject's operations that compute an input and have no partner, by the input's place."""
    missing_input_layers: Mapping[int, Layer] = field(default_factory=dict)
    """The reference's operations that compute an input and have no partner, by its place."""
    subject_weights: Mapping[str, Array] = field(default_factory=dict)
    """The subject's own weights of this layer, by role; empty where they are not known."""
    computed_weights: Mapping[str, Array] = field(default_factory=dict)
    """What the subject's operation read as its weights, by role, where either model computes them
    of others, such as a kernel that is masked; these are not among `subject_weights`."""
    label: str = ""
    """The layer's name in the subject's framework: Conv2D `conv1_conv`."""
    weight_names: Mapping[str, str] = field(default_factory=dict)
    """The subject's names of its weights, by role."""
    weight_sources: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """The weights of the reference that the subject's equal, and those that these should be, by
    role, where these are two: a layer is tied to another one, for example."""
    shared_calls: Mapping[str, str] = field(default_factory=dict)
    """Other rows for which the subject calls this row's layer, and the reference another one; with
    the place of that call."""
    shared_weights: Mapping[str, str] = field(default_factory=dict)
    """Other rows that the subject computes with this row's weights and not with its layer, and the
    reference with others; with their places in the subject's code."""
    place: str = ""
    """The place of this call in the subject's code; empty where it is not known."""
    graph_output: Array | None = None
    """The output of the subject's ONNX graph at this layer, evaluated in float64, if known."""
    graph_from_file: bool = False
    """Whether that graph is a file of the user's, which may be no export of this model."""
    recovers_downstream: bool = False
    """Whether all later comparison points of the run without isolation are within the limit."""
    other_calls: tuple[str, ...] = ()
    """The rows that are other calls of this row's layer object."""
    in_place_rows: tuple[str, ...] = ()
    """The later rows whose layers state that they overwrite their input."""
    image_shape: tuple[int, ...] | None = None
    """The shape (C, H, W) of the image that a dense layer's input is flattened from, if any."""
    reference_weights: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    """The reference's weights by row, then by role."""
    nearby_outputs: Mapping[str, Array] = field(default_factory=dict)
    """The reference's outputs of nearby rows that have the shape of `actual`."""
    constant_source_weights: tuple[str, ...] = ()
    """The names of the subject's weights that a constant of its operation is computed from."""
    misread_inputs: Mapping[int, MisreadTensor] = field(default_factory=dict)
    """The inputs that the subject makes of other values than the reference, by their place."""
    misread_output: MisreadTensor | None = None
    """The output, if the layer only moves values and takes others than the reference."""
    possible_inputs: Mapping[str, Array] = field(default_factory=dict)
    """The reference's outputs of nearby rows that have the shape of one of the layer's inputs."""
    input_reshapes: tuple[str, ...] = ()
    """The subject's operations that give its inputs their shapes, with their lines."""
    earlier_tensors: tuple[Array, ...] = ()
    """The reference's tensors a few operations before, of as many values as it reads or gives."""
    region: RegionProof | None = None
    """What the operations before it differ in, if runs of the reference have proved it."""

    @cached_property
    def pattern(self) -> ErrorPattern:
        """The pattern of `actual` against `expected`."""
        groups = int(self.reference_layer.hyper.get("groups") or 1)
        return classify_error(self.actual, self.expected, floor=self.floor.max_abs, groups=groups)

    def find_row_of(self, tensor: Array) -> str | None:
        """Return the nearby row whose output equals `tensor` in float32, or None."""
        rounded = np.asarray(tensor, np.float32)
        for name, value in (*self.possible_inputs.items(), *self.nearby_outputs.items()):
            if value.shape == rounded.shape and np.array_equal(
                np.asarray(value, np.float32), rounded
            ):
                return name
        return None
