"""What a reader of nodes is given, what it returns, and the registry of readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.runtimes.onnx.model_file import restore_decimal

Array = NDArray[Any]


@dataclass(frozen=True)
class Static:
    """An input that does not depend on the model's inputs: a weight, a constant, a shape."""

    name: str
    value: Array


@dataclass(frozen=True)
class NodeView:
    """What a node computes, and on what: its inputs are tensors' ids, values, or absent."""

    operation: str
    domain: str
    attributes: Mapping[str, Any]
    opset: int
    inputs: tuple[str | Static | None, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of an attribute, or `default`."""
        return self.attributes.get(name, default)

    def number(self, name: str, default: float) -> float:
        """Return a float attribute as it was before it was rounded to float32."""
        return restore_decimal(self.attributes.get(name, default), default)

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of an input, empty where it is absent."""
        if index >= len(self.inputs):
            return ()
        value = self.inputs[index]
        if isinstance(value, Static):
            return value.value.shape
        return () if value is None else self.shapes.get(value, ())

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of the first output."""
        return self.shapes.get(self.outputs[0], ())

    def static(self, index: int) -> Array | None:
        """Return the values of an input that is static, or None."""
        value = self.inputs[index] if index < len(self.inputs) else None
        return value.value if isinstance(value, Static) else None

    def integers(self, index: int, name: str) -> list[int] | None:
        """Return integers that are an input in newer operators, and an attribute in older ones."""
        value = self.static(index)
        if value is not None:
            return [int(each) for each in value.reshape(-1)]
        stated = self.get(name)
        return None if stated is None else [int(each) for each in np.atleast_1d(stated)]

    def has(self, index: int) -> bool:
        """Return whether an optional input is present."""
        return index < len(self.inputs) and self.inputs[index] is not None


@dataclass(frozen=True)
class NodeReading:
    """What a node computes.

    `roles` are those of its weights, by the position of the input; `axes` the order of a weight's
    axes, by role. `setting_inputs` are the positions of the inputs that the hyperparameters state
    already.
    """

    kind: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    roles: Mapping[int, str] = field(default_factory=dict)
    axes: Mapping[str, str] = field(default_factory=dict)
    setting_inputs: frozenset[int] = frozenset()


Reader = Callable[[NodeView], NodeReading]

READERS: dict[str, Reader] = {}

ROLES: Mapping[str, Mapping[int, str]] = {
    "Conv": {1: "kernel", 2: "bias"},
    "ConvTranspose": {1: "kernel", 2: "bias"},
    "FusedConv": {1: "kernel", 2: "bias"},
    "ConvInteger": {1: "kernel"},
    "QLinearConv": {3: "kernel", 8: "bias"},
    "Gemm": {1: "kernel", 2: "bias"},
    "FusedGemm": {1: "kernel", 2: "bias"},
    "MatMul": {1: "kernel"},
    "FusedMatMul": {1: "kernel"},
    "TransposeMatMul": {1: "kernel"},
    "MatMulInteger": {1: "kernel"},
    "MatMulIntegerToFloat": {1: "kernel", 6: "bias"},
    "DynamicQuantizeMatMul": {1: "kernel", 4: "bias"},
    "QLinearMatMul": {3: "kernel"},
    "QGemm": {3: "kernel", 6: "bias"},
    "BatchNormalization": {1: "gamma", 2: "beta", 3: "mean", 4: "variance"},
    "LayerNormalization": {1: "gamma", 2: "beta"},
    "SimplifiedLayerNormalization": {1: "gamma"},
    "RMSNormalization": {1: "gamma"},
    "InstanceNormalization": {1: "gamma", 2: "beta"},
    "GroupNormalization": {1: "gamma", 2: "beta"},
    "GroupNorm": {1: "gamma", 2: "beta"},
    "SkipLayerNormalization": {2: "gamma", 3: "beta", 4: "bias"},
    "SkipSimplifiedLayerNormalization": {2: "gamma", 3: "bias"},
    "PRelu": {1: "alpha"},
    "BiasGelu": {1: "bias"},
    "FastGelu": {1: "bias"},
    "LSTM": {1: "kernel", 2: "recurrent_kernel", 3: "bias"},
    "GRU": {1: "kernel", 2: "recurrent_kernel", 3: "bias"},
    "RNN": {1: "kernel", 2: "recurrent_kernel", 3: "bias"},
    "Attention": {1: "packed_kernel", 2: "packed_bias"},
}
"""By operator, the roles of its inputs by position."""

SETTINGS: Mapping[str, tuple[int, ...]] = {
    "Clip": (1, 2),
    "DequantizeLinear": (1, 2),
    "Dropout": (1, 2),
    "DynamicQuantizeMatMul": (2, 3),
    "MatMulIntegerToFloat": (2, 3, 4, 5),
    "MatMulNBits": (2, 3, 4),
    "OneHot": (1, 2),
    "Pad": (1, 2, 3),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "QLinearAdd": (1, 2, 4, 5, 6, 7),
    "QLinearAveragePool": (1, 2, 3, 4),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearGlobalAveragePool": (1, 2, 3, 4),
    "QLinearLeakyRelu": (1, 2, 3, 4),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QLinearMul": (1, 2, 4, 5, 6, 7),
    "QLinearSigmoid": (1, 2, 3, 4),
    "QLinearSoftmax": (1, 2, 3, 4),
    "QuantizeLinear": (1, 2),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
}
"""By operator, the inputs by position that are arguments and never weights: scales, bounds."""


def register_reader(*names: str) -> Callable[[Reader], Reader]:
    """Register the reader of these operators."""

    def register(reader: Reader) -> Reader:
        READERS.update(dict.fromkeys(names, reader))
        return reader

    return register


def list_present_roles(view: NodeView) -> dict[int, str]:
    """Return the roles of the inputs that a node has, by position."""
    return {i: role for i, role in ROLES.get(view.operation, {}).items() if view.has(i)}


_FUSED = {
    "": "linear", "Relu": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid",
    "HardSigmoid": "hard_sigmoid", "LeakyRelu": "leaky_relu",
}  # fmt: skip


def read_fused_activation(view: NodeView) -> str:
    """Return the kind of the activation that a fused node applies."""
    name = view.get("activation", "")
    if name == "Clip":
        low, high = (restore_decimal(each) for each in view.get("activation_params", [0, 0]))
        return "relu6" if (low, high) == (0, 6) else f"clip {low:g} {high:g}"
    return _FUSED.get(name, name)
