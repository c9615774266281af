"""Descriptions of a Keras model's layers: kind, shape, hyperparameters, in execution order."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from parity.errors import TableError, UsageError
from parity.network import kinds, windows
from parity.network.kind import Reader
from parity.network.table import LayerTable, Row
from parity.runtimes.keras import grouped_convolutions
from parity.runtimes.keras.grouped_convolutions import Group


def find_layer(model: keras.Model, call: str) -> Any:
    """Return the layer of a call, `NAME` or `NAME#NUMBER`; raises `TableError`."""
    name = call.partition("#")[0]
    try:
        return model.get_layer(name)
    except ValueError:
        raise TableError(f"the Keras model has no layer '{name}'") from None


def find_tensor(model: keras.Model, call: str) -> Any:
    """Return the symbolic output of a call, `NAME` or `NAME#NUMBER`; raises `TableError`."""
    layer = find_layer(model, call)
    number = int(call.partition("#")[2] or 0)
    inside = nodes_of(model)
    nodes = [node for node in layer._inbound_nodes if node in inside]
    if number >= len(nodes):
        raise TableError(f"'{call}': the Keras layer is called {len(nodes)} times")
    outputs = nodes[number].output_tensors
    if len(outputs) != 1:
        raise TableError(f"'{call}': the Keras layer has {len(outputs)} outputs, not one")
    return outputs[0]


def nodes_of(model: keras.Model) -> list[Any]:
    """Return every layer's every call in execution order; raises `TableError` if subclassed."""
    functional = model._functional if isinstance(model, keras.Sequential) else model
    if not hasattr(functional, "_nodes_by_depth"):
        raise TableError(
            f"the Keras model is a subclassed {type(model).__name__}; "
            "its layers can be read only if it is functional or sequential"
        )
    by_depth = functional._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def run_layers(model: keras.Model, data: Any, record: Callable[[str, Any], Any]) -> Any:
    """Run `model` in inference mode, layer by layer, as its own call does; return its output.

    `record` is called with each layer's call, `NAME` or `NAME#NUMBER`, and its output; the next
    layers read the tensor that it returns.
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
            return record(layer.name if number == 0 else f"{layer.name}#{number}", output)

        return call

    inputs = functional._standardize_inputs(data)
    return functional._run_through_graph(inputs, operation_fn=operation)


def kind_of(layer: Any) -> str:
    """Return the kind of a layer; an empty text if it is none."""
    if isinstance(layer, keras.layers.Activation):
        return _function_kind(layer.activation)
    for cls in type(layer).__mro__:
        matches = kinds.find_by_class("keras", kinds.class_name(cls, keras.layers))
        if matches:
            # Without the kinds' conditions: Keras has a class of its own for each kind.
            return matches[-1].name
    return ""


def _function_kind(function: Callable[..., Any]) -> str:
    """Return the kind that an activation function computes; its own name where there is none."""
    kind = kinds.find_by_function("keras", function.__name__)
    return kind.name if kind is not None else function.__name__


Shapes = Mapping[int, tuple[int | None, ...]]
"""The shape of each symbolic tensor of a model by its id; batch first, channels last."""


def infer_shapes(model: keras.Model, input_shape: Sequence[int] | None) -> Shapes:
    """Return the shapes for an image of `input_shape`, (C, H, W); a model may leave H, W open.

    Raises `UsageError` for a size that the model cannot be run on.
    """
    nodes = [node for node in nodes_of(model) if not node.is_input]
    open_axes = any(axis is None for axis in model.inputs[0].shape[1:])
    if input_shape is None or not open_axes:
        outputs = [node.output_tensors for node in nodes] + [model.inputs]
        return {id(tensor): tuple(tensor.shape) for tensors in outputs for tensor in tensors}
    channels, *size = input_shape
    shapes: dict[int, tuple[int | None, ...]] = {id(model.inputs[0]): (None, *size, channels)}
    calls = iter(nodes)

    def operation(layer: Any) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            output = layer.compute_output_spec(*args, **kwargs)
            # In the order in which Keras lists the outputs of a layer, also of a list or a dict.
            tensors = keras.tree.flatten(output)
            for tensor, inferred in zip(next(calls).output_tensors, tensors, strict=True):
                shapes[id(tensor)] = tuple(inferred.shape)
            return output

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


def describe_layers(
    model: keras.Model, table: LayerTable, input_shape: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Describe every call of every layer but the inputs, in execution order, shapes (C, H, W).

    `beside` is true where another layer, but no sum, reads the same tensor: at the start of a
    block's branches.
    """
    rows = {row.keras.removesuffix("#0"): row for row in table.rows if row.keras}
    nodes = [node for node in nodes_of(model) if not node.is_input]
    groups = {node.operation: grouped_convolutions.find_group(node.operation) for node in nodes}
    readers = Counter(tensor for node in nodes for tensor in _branch_inputs(node))
    in_groups = {member for group in groups.values() if group for member in group.members}
    shapes = infer_shapes(model, input_shape)
    return [
        _describe_node(node, nodes, rows, groups[node.operation], readers, shapes)
        for node in nodes
        if node.operation not in in_groups
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
        "shape": to_channels_first(shapes[id(outputs[0])]) if len(outputs) == 1 else [],
        "hyper": read_hyperparameters(layer, node, shapes),
        "parameters": sum(math.prod(v.shape) for v in layer.trainable_variables) * (call == 0),
        "shares_input": any(readers[tensor] > 1 for tensor in _branch_inputs(node)),
    }


def _branch_inputs(node: Any) -> set[int]:
    """Return the ids of the tensors at which a call can start a branch; a sum ends branches."""
    if kinds.joins_branches(kind_of(node.operation)):
        return set()
    return {id(tensor) for tensor in node.input_tensors}


def _describe_group(node: Any, group: Group, row: Row | None, shapes: Shapes) -> dict[str, Any]:
    """Describe a group of convolutions as the one layer that it is in the table."""
    count, first = len(group.convolutions), group.convolutions[0]
    shape = to_channels_first(shapes[id(node.output_tensors[0])])
    values = read_hyperparameters(first, group.node, shapes)
    values.update(
        {"groups": 1 if group.reads_all_channels else count, "in": group.channels, "out": shape[0]}
    )
    values["padding"] = [
        [low + before, high + after]
        for (low, high), (before, after) in zip(values["padding"], group.padding, strict=True)
    ]
    reads = "all of the input" if group.reads_all_channels else "a slice"
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
        "shares_input": False,
    }


def to_channels_first(shape: Any) -> list[int]:
    """Return (N, H, W, C) as [C, H, W], other ranks without batch axis; an unknown axis is 0."""
    rest = [int(axis or 0) for axis in shape[1:]]
    return [rest[-1], *rest[:-1]] if len(rest) == 3 else rest


def read_hyperparameters(layer: Any, node: Any, shapes: Shapes) -> dict[str, Any]:
    """Return the settings that decide what a layer computes, as its kind names them."""
    kind = kinds.find(kind_of(layer))
    return kind.read("keras", layer, READERS, node, shapes) if kind is not None else {}


def _channels_in(layer: Any, node: Any, shapes: Shapes) -> int:
    return int(node.input_tensors[0].shape[-1])


def _channels_out(layer: Any, node: Any, shapes: Shapes) -> int:
    return int(node.output_tensors[0].shape[-1])


def _activation(layer: Any, node: Any, shapes: Shapes) -> str:
    return _function_kind(layer.activation)


def _window_padding(layer: Any, node: Any, shapes: Shapes) -> list[list[int]]:
    kernel, dilation = _window(layer)
    return effective_padding(layer, node, kernel, dilation, shapes)


def _window(layer: Any) -> tuple[Sequence[int], Sequence[int]]:
    """Return the size and the dilation of a convolution's or a pool's window."""
    if hasattr(layer, "pool_size"):
        return layer.pool_size, (1, 1)
    return layer.kernel_size, layer.dilation_rate


def _output_crop(layer: Any, node: Any, shapes: Shapes) -> list[list[int]] | None:
    """Return the crop of the whole output; None where the image's size is left open."""
    before, after = shapes[id(node.input_tensors[0])], shapes[id(node.output_tensors[0])]
    crops: list[list[int]] = []
    for size, output, kernel, stride, dilation in zip(
        before[1:3], after[1:3], layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        if size is None or output is None:
            return None
        same = layer.padding == "same"
        crop = windows.transposed_crop(
            size, output, kernel=kernel, stride=stride, dilation=dilation, same=same
        )
        crops.append(list(crop))
    return crops


def _count_padding(layer: Any, node: Any, shapes: Shapes) -> bool | None:
    """Return whether an average counts its padding: a padding layer's, but not "same"."""
    padded = any(map(any, _window_padding(layer, node, shapes)))
    return layer.padding != "same" if padded else None


def _max_pool_border(layer: Any, node: Any, shapes: Shapes) -> str | None:
    return _pad_value(node) if any(map(any, _window_padding(layer, node, shapes))) else None


def _gelu_form(layer: Any, node: Any, shapes: Shapes) -> bool | None:
    # Of another function with that name nothing is known.
    return False if layer.activation is keras.activations.gelu else None


def _target_shape(layer: Any, node: Any, shapes: Shapes) -> list[int] | None:
    """Return a reshaped tensor's shape, channels first."""
    shape = shapes[id(node.output_tensors[0])]
    return None if None in shape[1:] else to_channels_first(shape)


READERS: Mapping[str, Reader] = {
    "in": _channels_in,
    "out": _channels_out,
    "activation": _activation,
    "padding": _window_padding,
    "conv_transpose.padding": _output_crop,
    "pad.padding": lambda layer, node, shapes: layer.padding,
    "depthwise_conv.groups": _channels_in,
    "count_padding": _count_padding,
    "pad_value": _max_pool_border,
    "approximate": _gelu_form,
    "target": _target_shape,
    "channels_last": lambda layer, node, shapes: True,
}
"""Functions that read the settings that are no plain attribute, from the layer and its call."""


def effective_padding(
    layer: Any, node: Any, kernel: Any, dilation: Any, shapes: Shapes
) -> list[list[int]]:
    """Return the zeros around the input of this call: [[top, bottom], [left, right]].

    A `ZeroPadding2D` before the layer counts as the layer's own. SAME is resolved at the input's
    size.
    """
    padding = _padding_before(node)
    if layer.padding == "same":
        sizes = shapes[id(node.input_tensors[0])][1:3]
        for axis, (size, k, d, s) in enumerate(
            zip(sizes, kernel, dilation, layer.strides, strict=True)
        ):
            if size is None:
                continue
            before, after = windows.same_padding(size, kernel=k, stride=s, dilation=d)
            padding[axis] = [padding[axis][0] + before, padding[axis][1] + after]
    return padding


def _pad_value(node: Any) -> str:
    """Return the value of a max-pool's border; after a ReLU zeros give the same maxima as −∞."""
    producer = node.input_tensors[0]._keras_history
    if not isinstance(producer.operation, keras.layers.ZeroPadding2D):
        return "-inf"
    padded = producer.operation._inbound_nodes[producer.node_index].input_tensors[0]
    return "-inf" if kind_of(padded._keras_history.operation) == "relu" else "0"


def _padding_before(node: Any) -> list[list[int]]:
    """Return the padding of the ZeroPadding2D before a call; zeros if there is none."""
    producer = node.input_tensors[0]._keras_history.operation
    if isinstance(producer, keras.layers.ZeroPadding2D):
        return [list(pair) for pair in producer.padding]
    return [[0, 0], [0, 0]]
