"""Small ONNX models for tests, built node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]


def drawn(*shape: int, seed: int = 0) -> Array:
    rng = np.random.default_rng((seed, *shape))
    return rng.standard_normal(shape).astype(np.float32)


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """A node whose inputs and outputs are names apart by spaces, `-` for an absent one."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(operator, names, outputs.split(), outputs.split()[0] + "_node",
                            **attributes)  # fmt: skip


def model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, tuple[Any, ...]],
    outputs: Sequence[str],
    weights: Mapping[str, Array],
    *,
    dtypes: Mapping[str, int] | None = None,
    opset: int = 18,
) -> ModelProto:
    """A model; the axes of `inputs` may be names, which stand for any length."""
    types = dtypes or {}
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [
            helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), shape)
            for name, shape in inputs.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


WEIGHTS = {
    "kernel": 0.3 * drawn(6, 3, 3, 3),
    "gamma": drawn(6, seed=1),
    "beta": drawn(6, seed=2),
    "mean": drawn(6, seed=3),
    "variance": np.abs(drawn(6, seed=4)) + 0.5,
    "dense": drawn(6, 4),
    "offset": drawn(4),
    "low": np.float32(0.0),
    "high": np.float32(6.0),
}


def network() -> ModelProto:
    """Convolution, batch-norm, ReLU6, a branch, pool, flatten, product and bias."""
    nodes = [
        node("Conv", "image kernel", "conv", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("BatchNormalization", "conv gamma beta mean variance", "bn", epsilon=1e-3),
        node("Identity", "bn", "same"),
        node("Clip", "same low high", "clipped"),
        node("Sigmoid", "clipped", "gate"),
        node("Mul", "clipped gate", "gated"),
        node("GlobalAveragePool", "gated", "pooled"),
        node("Shape", "pooled", "shape"),
        node("Constant", "", "first", value_ints=[0]),
        node("Gather", "shape first", "batch"),
        node("Constant", "", "rest", value_ints=[-1]),
        node("Concat", "batch rest", "target", axis=0),
        node("Reshape", "pooled target", "flat"),
        node("MatMul", "flat dense", "product"),
        node("Add", "product offset", "logits"),
    ]
    return model(nodes, {"image": ("N", 3, 8, 8)}, ["logits"], WEIGHTS)
