"""Axes of tensors: operators on images state them, activations and transpositions pass them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from parity.network import kinds
from parity.network.graph import Node, Tensor

_IMAGE = {3: "N C W", 4: "N C H W", 5: "N C D H W"}

_IMAGE_OPERATORS = {
    "Conv", "FusedConv", "ConvInteger", "QLinearConv", "ConvTranspose", "MaxPool", "AveragePool",
    "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "InstanceNormalization",
    "GroupNormalization", "DepthToSpace", "SpaceToDepth", "Upsample",
}  # fmt: skip


def name_axes(nodes: Sequence[Node], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with the axes that the operations state, and those that follow from them
    through activations, which keep axes, and transpositions."""
    named = dict(tensors)

    def set_axes(name: str, order: str) -> bool:
        tensor = named.get(name)
        if tensor is None or tensor.axes or not order or len(order.split()) != len(tensor.shape):
            return False
        named[name] = replace(tensor, axes=order)
        return True

    for node in nodes:
        rank = len(named[node.outputs[0]].shape) if node.outputs else 0
        if node.operation.rpartition(".")[2] in _IMAGE_OPERATORS and rank in _IMAGE:
            for name in (*node.outputs[:1], *node.inputs[:1]):
                set_axes(name, _IMAGE[rank])
        elif "time_major" in node.hyper and node.inputs:
            first = "T N C" if node.hyper["time_major"] else "N T C"
            set_axes(node.inputs[0], first)
            if rank == 4:
                set_axes(node.outputs[0], "T D N C" if node.hyper["time_major"] else "N T D C")
    changed = True
    while changed:
        changed = False
        for node in nodes:
            for source, target, forward in _axis_maps(node, named):
                order = named[source].axes
                if order and set_axes(target, forward(order)):
                    changed = True
    return named


def _axis_maps(
    node: Node, tensors: Mapping[str, Tensor]
) -> list[tuple[str, str, Callable[[str], str]]]:
    """Return (source, target, function of the source's axes) for what a node keeps or permutes."""
    if not node.outputs or not node.inputs:
        return []
    output = node.outputs[0]
    if node.kind == "transpose":
        perm = node.hyper["perm"]
        back = sorted(range(len(perm)), key=perm.__getitem__)
        return [
            (node.inputs[0], output, lambda order: _permute(order, perm)),
            (output, node.inputs[0], lambda order: _permute(order, back)),
        ]
    kept = kinds.find(node.kind)
    same = [name for name in node.inputs if len(tensors[name].shape) == len(tensors[output].shape)]
    if kept is not None and kept.activation:
        pairs = [(name, output) for name in same] + [(output, name) for name in same]
        return [(source, target, lambda order: order) for source, target in pairs]
    return []


def _permute(order: str, perm: Sequence[int]) -> str:
    names = order.split()
    return " ".join(names[axis] for axis in perm) if len(names) == len(perm) else ""
