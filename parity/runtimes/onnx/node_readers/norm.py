"""Readers of normalisations."""

from __future__ import annotations

from parity.network.graph import OPAQUE
from parity.runtimes.onnx.node_readers.reading import NodeView, Reading, present_roles, reads


@reads("BatchNormalization", "InstanceNormalization")
def _read_channel_norm(view: NodeView) -> Reading:
    kind = "batch_norm" if view.operation == "BatchNormalization" else "instance_norm"
    if view.get("training_mode", 0):
        return Reading(OPAQUE, roles=present_roles(view))
    return Reading(kind, {"epsilon": view.number("epsilon", 1e-5)}, present_roles(view))


@reads("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def _read_layer_norm(view: NodeView) -> Reading:
    rank = len(view.shape(0))
    first = int(view.get("axis", -1)) % rank if rank else -1
    hyper = {"epsilon": view.number("epsilon", 1e-5), "axes": list(range(first, rank))}
    kind = "layer_norm" if view.operation == "LayerNormalization" else "rms_norm"
    return Reading(kind, hyper, present_roles(view))


@reads("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def _read_skip_norm(view: NodeView) -> Reading:
    """A sum and a normalisation; the sum is another output, if something reads it."""
    rank = len(view.shape(0))
    hyper = {"epsilon": view.number("epsilon", 1e-12), "axes": [rank - 1], "skip": True}
    kind = "layer_norm" if view.operation == "SkipLayerNormalization" else "rms_norm"
    return Reading(kind, hyper, present_roles(view))


@reads("GroupNormalization")
def _read_group_norm(view: NodeView) -> Reading:
    hyper = {"epsilon": view.number("epsilon", 1e-5), "groups": int(view.get("num_groups"))}
    return Reading("group_norm", hyper, present_roles(view))
