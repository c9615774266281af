"""Readers of normalisations."""

from __future__ import annotations

from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.reading import (
    NodeReading,
    NodeView,
    list_present_roles,
    register_reader,
)


@register_reader("BatchNormalization", "InstanceNormalization")
def _read_channel_norm(view: NodeView) -> NodeReading:
    kind = "batch_norm" if view.operation == "BatchNormalization" else "instance_norm"
    if view.get("training_mode", 0):
        return NodeReading(OPAQUE, roles=list_present_roles(view))
    return NodeReading(kind, {"epsilon": view.number("epsilon", 1e-5)}, list_present_roles(view))


@register_reader("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def _read_layer_norm(view: NodeView) -> NodeReading:
    rank = len(view.shape(0))
    first = int(view.get("axis", -1)) % rank if rank else -1
    hyperparameters = {"epsilon": view.number("epsilon", 1e-5), "axes": list(range(first, rank))}
    kind = "layer_norm" if view.operation == "LayerNormalization" else "rms_norm"
    return NodeReading(kind, hyperparameters, list_present_roles(view))


@register_reader("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def _read_skip_norm(view: NodeView) -> NodeReading:
    """A sum and a normalisation; the sum is another output, if something reads it."""
    rank = len(view.shape(0))
    hyperparameters = {"epsilon": view.number("epsilon", 1e-12), "axes": [rank - 1], "skip": True}
    kind = "layer_norm" if view.operation == "SkipLayerNormalization" else "rms_norm"
    return NodeReading(kind, hyperparameters, list_present_roles(view))


@register_reader("GroupNormalization")
def _read_group_norm(view: NodeView) -> NodeReading:
    hyperparameters = {
        "epsilon": view.number("epsilon", 1e-5),
        "groups": int(view.get("num_groups")),
    }
    return NodeReading("group_norm", hyperparameters, list_present_roles(view))
