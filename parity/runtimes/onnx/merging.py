"""Nodes of a file that are one operation: a product with its bias, a dynamic quantisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from parity.network import kinds
from parity.network.graph import Node


def join_biases(
    nodes: Sequence[Node],
    outputs: set[str],
    shapes: Mapping[str, tuple[int, ...]],
    operands: Mapping[str, tuple[int, ...]],
) -> list[Node]:
    """Return the nodes, those of a product and of the sum with its bias as one.

    Nothing else may read the product. `operands` are, by sum, the shapes of the biases as they are
    added.
    """
    readers: dict[str, int] = {}
    for node in nodes:
        for tensor in node.inputs:
            readers[tensor] = readers.get(tensor, 0) + 1
    by_output = {node.outputs[0]: node for node in nodes if len(node.outputs) == 1}
    joined: dict[str, Node] = {}
    dropped: set[str] = set()
    for node in nodes:
        if node.kind != "bias_add" or len(node.inputs) != 1:
            continue
        product = by_output.get(node.inputs[0])
        bias = node.parameters[0] if node.parameters else None
        if (
            product is None
            or bias is None
            or not _takes_bias(product.kind)
            or product.find_parameter("bias") is not None
            or readers[node.inputs[0]] > 1
            or node.inputs[0] in outputs
            or not _is_bias(operands.get(node.id, ()), product, shapes.get(node.outputs[0], ()))
        ):
            continue
        joined[node.id] = replace(
            product,
            id=node.id,
            outputs=node.outputs,
            parameters=(*product.parameters, replace(bias, role="bias")),
            hyper={**product.hyper, "bias": True},
        )
        dropped.add(product.id)
    return [joined.get(node.id, node) for node in nodes if node.id not in dropped]


def join_dynamic_quantisation(nodes: Sequence[Node], outputs: set[str]) -> list[Node]:
    """Return the nodes, those of a dynamically quantised product as one that reads floats.

    ONNX Runtime's quantiser writes it as DynamicQuantizeLinear, MatMulInteger or ConvInteger, Cast,
    and a Mul by both scales. Tensors in between that something else reads stay.
    """
    producers = {tensor: node for node in nodes for tensor in node.outputs}
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for tensor in node.inputs:
            readers.setdefault(tensor, []).append(node)

    def only_reader(node: Node, operation: str) -> Node | None:
        (tensor, *others) = node.outputs
        found = readers.get(tensor, [])
        fits = not others and tensor not in outputs and len(found) == 1
        return found[0] if fits and found[0].operation == operation else None

    joined: dict[str, Node] = {}
    dropped: set[str] = set()
    for node in nodes:
        if node.operation not in ("MatMulInteger", "ConvInteger") or not node.inputs:
            continue
        source = producers.get(node.inputs[0])
        cast = only_reader(node, "Cast")
        scaled = only_reader(cast, "Mul") if cast is not None else None
        if source is None or source.operation != "DynamicQuantizeLinear" or scaled is None:
            continue
        assert cast is not None
        joined[scaled.id] = replace(
            node, id=scaled.id, inputs=source.inputs[:1], outputs=scaled.outputs
        )
        dropped |= {node.id, cast.id}
    kept = [joined.get(node.id, node) for node in nodes if node.id not in dropped]
    # What only the dropped nodes read is dropped too: the scales, and their products.
    while True:
        read = {tensor for node in kept for tensor in node.inputs} | outputs
        live = [
            node
            for node in kept
            if node.operation not in ("DynamicQuantizeLinear", "Mul")
            or any(tensor in read for tensor in node.outputs)
        ]
        if len(live) == len(kept):
            return kept
        kept = live


def _takes_bias(name: str) -> bool:
    """Return whether layers of a kind can have a bias, as a hyperparameter says."""
    kind = kinds.find(name)
    return kind is not None and any(setting.name == "bias" for setting in kind.hyperparameters)


def _is_bias(bias: tuple[int, ...], product: Node, shape: tuple[int, ...]) -> bool:
    """Return whether a weight of this shape has one number for each channel of a product's output,
    of which `shape` is the shape."""
    channel = len(shape) - 1 if product.kind == "dense" else 1
    if product.hyper.get("activation", "linear") != "linear":
        return False
    lengths = (1,) * (len(shape) - len(bias)) + bias
    return len(lengths) == len(shape) and all(
        length == (shape[axis] if axis == channel else 1) for axis, length in enumerate(lengths)
    )
