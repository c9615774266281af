"""ONNX Runtime on graphs with faults: nodes that are changed or put in."""

from __future__ import annotations

from dataclasses import replace

import onnx

from parity.runtimes.onnx import runtime as plain


class Runtime(plain.Runtime):
    """Graphs that can be changed after their export, or by the session that runs them."""

    def __init__(self):
        super().__init__()
        self.healthy = {}

    def mutate(self, *, handle, changes):
        self.healthy.setdefault(handle, self.graphs[handle])
        self.graphs[handle] = Mutant(self.healthy[handle], changes)
        if any(change["change"] == "no-provider" for change in changes):
            # As a build that has the provider, whose libraries then do not load.
            plain.onnx_device.require_device = lambda device: None

    def restore(self):
        self.graphs.update(self.healthy)
        self.healthy = {}
        plain.onnx_device.require_device = CHECK

    def graph_for(self, handle, settings):
        graph = super().graph_for(handle, settings)
        return graph.for_session(settings) if isinstance(graph, Mutant) else graph


class Mutant:
    """A graph of the runtime, changed whenever it is built.

    A change of the `optimiser` is no part of the graph: only sessions that optimise have it.
    """

    def __init__(self, graph, changes, *, optimise=False):
        self.graph, self.table, self.all_changes = graph, graph.table, changes
        self.changes = [c for c in changes if optimise or not c.get("optimiser")]

    def for_session(self, settings):
        return Mutant(self.graph, self.all_changes, optimise=settings.optimise)

    def model(self, outputs=()):
        model = self.graph.model(outputs)
        proto = onnx.ModelProto()
        proto.CopyFrom(model.skeleton)
        for change in self.changes:
            CHANGES[change["change"]](proto, change)
        return replace(model, skeleton=proto)


def _node(proto, tensor):
    return next(node for node in proto.graph.node if tensor in node.output)


def set_attribute(proto, change):
    node = _node(proto, change["layer"])
    for name, value in change["attributes"].items():
        others = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*others, onnx.helper.make_attribute(name, value)])


def apply_after(operator, **attributes):
    def apply(proto, change):
        tensor = change["layer"]
        node = _node(proto, tensor)
        index = list(proto.graph.node).index(node)
        node.output[list(node.output).index(tensor)] = f"{tensor}/before"
        node_after = onnx.helper.make_node(operator, [f"{tensor}/before"], [tensor], **attributes)
        proto.graph.node.insert(index + 1, node_after)

    return apply


def freeze(proto, change):
    """The input's batch is declared as one number, as a trace without dynamic shapes leaves it."""
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = change["value"]


CHECK = plain.onnx_device.require_device
CHANGES = {
    "frozen": freeze,
    "no-provider": lambda proto, change: None,
    "sine-after": apply_after("Sin"),
    "attributes": set_attribute,
    "relu-after": apply_after("Relu"),
    "sigmoid-after": apply_after("Sigmoid"),
    "softmax-after": apply_after("Softmax", axis=1),
}
