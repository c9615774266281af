"""What a Keras model says of its layers: kind, shape, hyperparameters, in execution order."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from parity.errors import TableError, UsageError
from parity.network.table import JOINS, LayerTable, Row
from parity.runtimes.keras import grouped_convolutions
from parity.runtimes.keras.grouped_convolutions import Group

KINDS: dict[type, str] = {
    keras.layers.Conv2D: "conv",
    keras.layers.DepthwiseConv2D: "depthwise_conv",
    keras.layers.Conv2DTranspose: "conv_transpose",
    keras.layers.Dense: "dense",
    keras.layers.BatchNormalization: "batch_norm",
    keras.layers.LayerNormalization: "layer_norm",
    keras.layers.GroupNormalization: "group_norm",
    keras.layers.ReLU: "relu",
    keras.layers.LeakyReLU: "leaky_relu",
    keras.layers.ELU: "elu",
    keras.layers.Softmax: "softmax",
    keras.layers.MaxPooling2D: "max_pool",
    keras.layers.AveragePooling2D: "avg_pool",
    keras.layers.GlobalAveragePooling2D: "global_avg_pool",
    keras.layers.GlobalMaxPooling2D: "global_max_pool",
    keras.layers.Add: "add",
    keras.layers.Multiply: "multiply",
    keras.layers.Concatenate: "concat",
    keras.layers.ZeroPadding2D: "pad",
    keras.layers.Flatten: "flatten",
    keras.layers.Reshape: "reshape",
    keras.layers.Dropout: "dropout",
    keras.layers.Identity: "identity",
    keras.layers.UpSampling2D: "upsample",
}
ACTIVATIONS = {"swish": "silu"}


def find(model: keras.Model, reference: str) -> Any:
    """The layer called `NAME` or `NAME#CALL`; raises `TableError`."""
    name = reference.partition("#")[0]
    try:
        return model.get_layer(name)
    except ValueError:
        raise TableError(f"the Keras model has no layer '{name}'") from None


def tensor(model: keras.Model, reference: str) -> Any:
    """The symbolic output of a layer's call, `NAME` or `NAME#CALL`; raises `TableError`."""
    layer = find(model, reference)
    call = int(reference.partition("#")[2] or 0)
    inside = nodes_of(model)
    nodes = [node for node in layer._inbound_nodes if node in inside]
    if call >= len(nodes):
        raise TableError(f"'{reference}': the Keras layer is called {len(nodes)} times")
    outputs = nodes[call].output_tensors
    if len(outputs) != 1:
        raise TableError(f"'{reference}': the Keras layer has {len(outputs)} outputs, not one")
    return outputs[0]


def nodes_of(model: keras.Model) -> list[Any]:
    """Every call of every layer, in execution order; raises `TableError` for a subclassed model."""
    functional = model._functional if isinstance(model, keras.Sequential) else model
    if not hasattr(functional, "_nodes_by_depth"):
        raise TableError(
            f"the Keras model is a subclassed {type(model).__name__}; "
            "its layers can be read only if it is functional or sequential"
        )
    by_depth = functional._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def walk(model: keras.Model, data: Any, seen: Callable[[str, Any], Any]) -> Any:
    """Run `model` in inference mode, layer by layer, as its own call does.

    Each layer's output is handed to `seen` with its reference, `NAME` or `NAME#CALL`, and what
    comes back is what the next layers are given.
    """
    functional = model._functional if isinstance(model, keras.Sequential) else model
    nodes_of(functional)
    calls: dict[str, int] = defaultdict(int)

    def operation(layer: Any) -> Callable[..., Any]:
        takes_training = "training" in getattr(layer, "_call_context_args", ()) or getattr(
            layer, "_call_has_training_arg", False
        )

        def call(*args: Any, **kwargs: Any) -> Any:
            if takes_training:
                kwargs["training"] = False
            output = layer(*args, **kwargs)
            number = calls[layer.name]
            calls[layer.name] += 1
            return seen(layer.name if number == 0 else f"{layer.name}#{number}", output)

        return call

    inputs = functional._standardize_inputs(data)
    return functional._run_through_graph(inputs, operation_fn=operation)


def kind_of(layer: Any) -> str:
    """The layer table's kind of a layer."""
    if isinstance(layer, keras.layers.Activation):
        name = layer.activation.__name__
        return ACTIVATIONS.get(name, name)
    for cls in type(layer).__mro__:
        if cls in KINDS:
            return KINDS[cls]
    return ""


Shapes = Mapping[int, tuple[int | None, ...]]
"""The shape of each symbolic tensor of a model, batch first and channels last, by its identity."""


def shapes_at(model: keras.Model, input_shape: Sequence[int] | None) -> Shapes:
    """The shapes for an image of `input_shape`, (C, H, W), which a model may leave open."""
    nodes = [node for node in nodes_of(model) if not node.is_input]
    open_axes = any(axis is None for axis in model.inputs[0].shape[1:])
    if input_shape is None or not open_axes:
        found = [node.output_tensors for node in nodes] + [model.inputs]
        return {id(tensor): tuple(tensor.shape) for tensors in found for tensor in tensors}
    channels, *size = input_shape
    shapes: dict[int, tuple[int | None, ...]] = {id(model.inputs[0]): (None, *size, channels)}
    called = iter(nodes)

    def operation(layer: Any) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            made = layer.compute_output_spec(*args, **kwargs)
            # As Keras itself lists what a layer gives, be it a list or a dict.
            tensors = keras.tree.flatten(made)
            for tensor, known in zip(next(called).output_tensors, tensors, strict=True):
                shapes[id(tensor)] = tuple(known.shape)
            return made

        return call

    functional = model._functional if isinstance(model, keras.Sequential) else model
    image = keras.KerasTensor(shapes[id(model.inputs[0])], dtype=model.inputs[0].dtype)
    try:
        functional._run_through_graph([image], operation_fn=operation)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"the Keras model cannot be given {tuple(input_shape)}, (C, H, W): {reason}"
        ) from error
    return shapes


def describe(
    model: keras.Model, table: LayerTable, input_shape: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Every call of every layer but the inputs, in execution order, shapes (C, H, W).

    `beside` is whether another layer reads the same tensor, where that is no sum: where a block's
    branches begin.
    """
    rows = {row.keras.removesuffix("#0"): row for row in table.rows if row.keras}
    nodes = [node for node in nodes_of(model) if not node.is_input]
    groups = {node.operation: grouped_convolutions.written_out(node.operation) for node in nodes}
    readers = Counter(tensor for node in nodes for tensor in _read(node))
    inside = {member for group in groups.values() if group for member in group.members}
    shapes = shapes_at(model, input_shape)
    return [
        _describe_node(node, nodes, rows, groups[node.operation], readers, shapes)
        for node in nodes
        if node.operation not in inside
    ]


def _describe_node(
    node: Any,
    nodes: list[Any],
    rows: dict[str, Row],
    group: Group | None,
    readers: Mapping[int, int],
    shapes: Shapes,
) -> dict[str, Any]:
    layer = node.operation
    calls = [other for other in layer._inbound_nodes if other in nodes]
    call = calls.index(node)
    name = layer.name if call == 0 else f"{layer.name}#{call}"
    row = rows.get(name)
    outputs = node.output_tensors
    if group is not None:
        return _describe_group(node, group, row, shapes)
    return {
        "row": row.name if row is not None else None,
        "name": name,
        "kind": kind_of(layer) or (row.kind if row is not None else ""),
        "class": type(layer).__name__,
        "shape": channels_first(shapes[id(outputs[0])]) if len(outputs) == 1 else [],
        "hyper": hyper(layer, node, shapes),
        "parameters": sum(math.prod(v.shape) for v in layer.trainable_variables) * (call == 0),
        "beside": any(readers[tensor] > 1 for tensor in _read(node)),
    }


def _read(node: Any) -> set[int]:
    """The tensors that a layer begins a branch with, by identity: a sum ends branches."""
    if kind_of(node.operation) in JOINS:
        return set()
    return {id(tensor) for tensor in node.input_tensors}


def _describe_group(node: Any, group: Group, row: Row | None, shapes: Shapes) -> dict[str, Any]:
    """A grouped convolution that is written out, as the one layer that it stands for."""
    count, first = len(group.convolutions), group.convolutions[0]
    shape = channels_first(shapes[id(node.output_tensors[0])])
    values = hyper(first, group.node, shapes)
    values.update({"groups": 1 if group.whole else count, "in": group.channels, "out": shape[0]})
    values["padding"] = [
        [low + before, high + behind]
        for (low, high), (before, behind) in zip(values["padding"], group.padding, strict=True)
    ]
    reads = "all of the input" if group.whole else "a slice"
    return {
        "row": row.name if row is not None else None,
        "name": node.operation.name,
        "kind": "conv",
        "class": f"{count} Conv2D that each read {reads}, and Concatenate",
        "shape": shape,
        "hyper": values,
        "parameters": sum(
            math.prod(v.shape) for conv in group.convolutions for v in conv.trainable_variables
        ),
        "beside": False,
    }


def channels_first(shape: Any) -> list[int]:
    """(N, H, W, C) as [C, H, W]; other ranks without their batch axis; an unknown axis is 0."""
    rest = [int(axis or 0) for axis in shape[1:]]
    return [rest[-1], *rest[:-1]] if len(rest) == 3 else rest


def hyper(layer: Any, node: Any, shapes: Shapes) -> dict[str, Any]:
    """The settings that decide what a layer computes, in the words of `network.structure`."""
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
        inputs = int(node.input_tensors[0].shape[-1])
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        return {
            "kernel": list(layer.kernel_size),
            "stride": list(layer.strides),
            "padding": effective_padding(
                layer, node, layer.kernel_size, layer.dilation_rate, shapes
            ),
            "dilation": list(layer.dilation_rate),
            "groups": inputs if depthwise else layer.groups,
            "bias": layer.use_bias,
            "in": inputs,
            "out": int(node.output_tensors[0].shape[-1]),
            "activation": layer.activation.__name__,
        }
    if isinstance(layer, keras.layers.Dense):
        return {
            "bias": layer.use_bias,
            "in": int(node.input_tensors[0].shape[-1]),
            "out": layer.units,
            "activation": layer.activation.__name__,
        }
    if isinstance(
        layer,
        (
            keras.layers.BatchNormalization,
            keras.layers.LayerNormalization,
            keras.layers.GroupNormalization,
        ),
    ):
        return {"epsilon": layer.epsilon}
    if isinstance(layer, (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)):
        values: dict[str, Any] = {
            "kernel": list(layer.pool_size),
            "stride": list(layer.strides),
            "padding": effective_padding(layer, node, layer.pool_size, (1, 1), shapes),
            "ceil": False,
        }
        padded = any(map(any, values["padding"]))
        if padded and isinstance(layer, keras.layers.AveragePooling2D):
            # A padding layer's zeros are counted; those of padding="same" are not.
            values["count_padding"] = layer.padding != "same"
        elif padded:
            values["pad_value"] = _pad_value(node)
        return values
    if isinstance(layer, keras.layers.LeakyReLU):
        return {"slope": float(layer.negative_slope)}
    if isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.gelu:
        return {"approximate": False}
    return {}


def effective_padding(
    layer: Any, node: Any, kernel: Any, dilation: Any, shapes: Shapes
) -> list[list[int]]:
    """The zeros around the input that this call sees: [[top, bottom], [left, right]].

    A `ZeroPadding2D` before the layer counts as the layer's own. SAME is resolved at the input's
    size: TensorFlow pads max((⌈n/s⌉ − 1)·s + d·(k − 1) + 1 − n, 0), the smaller half first.
    """
    padding = _padding_before(node)
    if layer.padding == "same":
        sizes = shapes[id(node.input_tensors[0])][1:3]
        for axis, (size, k, d, s) in enumerate(
            zip(sizes, kernel, dilation, layer.strides, strict=True)
        ):
            if size is None:
                continue
            total = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
            padding[axis] = [padding[axis][0] + total // 2, padding[axis][1] + total - total // 2]
    return padding


def _pad_value(node: Any) -> str:
    """What a max-pool's border holds: zeros after a ReLU give the same maxima as −∞."""
    producer = node.input_tensors[0]._keras_history
    if not isinstance(producer.operation, keras.layers.ZeroPadding2D):
        return "-inf"
    padded = producer.operation._inbound_nodes[producer.node_index].input_tensors[0]
    return "-inf" if kind_of(padded._keras_history.operation) == "relu" else "0"


def _padding_before(node: Any) -> list[list[int]]:
    producer = node.input_tensors[0]._keras_history.operation
    if isinstance(producer, keras.layers.ZeroPadding2D):
        return [list(pair) for pair in producer.padding]
    return [[0, 0], [0, 0]]
