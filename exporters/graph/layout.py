"""Conversion of a channels-last graph to channels-first, without a Transpose in its body.

tf2onnx adds a Transpose before and after every convolution and pooling. Here a Transpose from NCHW
to NHWC is not computed: its result is a *view* of the NCHW source, and operators that can work on
the source do so. Before the next convolution, which needs NCHW, the two permutations cancel. Only a
consumer that needs NHWC (a Reshape, say) reads a Transpose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from exporters.graph import batch_norm
from exporters.graph.edits import (
    input_names,
    prune,
    read_attribute,
    rename_reads,
    rename_tensors,
    set_repeated_field,
)
from exporters.graph.folding import split_constant_nodes


def _split_names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_UNARY = _split_names(
    "Abs Cast Ceil Celu Clip Cos Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity IsInf IsNaN"
    " LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign"
    " Sqrt Swish Tanh ThresholdedRelu"
)
_BROADCASTING = _split_names(
    "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow PRelu"
    " Sub Sum Where Xor"
)
_REDUCING = _split_names(
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd"
    " ReduceSum ReduceSumSquare"
)
_ONE_AXIS = frozenset({"Softmax", "LogSoftmax", "Hardmax"})


@dataclass(frozen=True)
class View:
    """A tensor that is `source` with axis i taken from axis `perm[i]`."""

    source: str
    perm: tuple[int, ...]

    @property
    def inverse(self) -> tuple[int, ...]:
        return tuple(int(axis) for axis in np.argsort(self.perm))


def channels_last(rank: int) -> tuple[int, ...]:
    """Return the permutation from (N, C, …) to (N, …, C)."""
    return (0, *range(2, rank), 1)


@dataclass
class _LayoutPass:
    """The state of one pass over the nodes, in topological order."""

    shapes: dict[str, tuple[int | str, ...]]
    initializers: dict[str, TensorProto]
    constants: set[str]  # initializers, weights, and what is computed from them alone
    consumers: dict[str, list[NodeProto]]  # a graph output has one more consumer, itself
    nodes: list[NodeProto] = field(default_factory=list)
    producer: dict[str, NodeProto] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    transposes: dict[tuple[str, tuple[int, ...]], str] = field(default_factory=dict)
    view_nodes: set[str] = field(default_factory=set)

    def append(self, node: NodeProto) -> None:
        """Add a node to the new graph."""
        self.nodes.append(node)
        self.producer.update(dict.fromkeys(node.output, node))

    def view_of(self, names: Sequence[str]) -> View | None:
        """Return the one permutation that all views among `names` share, if they do."""
        views = [self.views[name] for name in names if name in self.views]
        return views[0] if len({view.perm for view in views}) == 1 else None

    def materialise(self, name: str) -> None:
        """Add the Transpose that computes a view under its own name, once."""
        if name not in self.view_nodes:
            view = self.views[name]
            self.view_nodes.add(name)
            self.transpose(view.source, view.perm, name)

    def transpose(self, source: str, perm: tuple[int, ...], result: str) -> str:
        """Add a Transpose and return the name of its result."""
        self.append(
            helper.make_node("Transpose", [source], [result], name=f"{result}/transpose", perm=perm)
        )
        return result

    def add_constant(self, name: str, values: object) -> str:
        """Add an int64 initializer and return its name."""
        tensor = numpy_helper.from_array(np.asarray(values, np.int64), name)
        self.initializers[name] = tensor
        self.constants.add(name)
        return name

    def read_integers(self, name: str) -> list[int] | None:
        """Return the values of an integer initializer, None for any other tensor."""
        if name not in self.initializers:
            return None
        return [int(n) for n in numpy_helper.to_array(self.initializers[name]).ravel()]

    def emit(self, node: NodeProto, view: View, *, perm: tuple[int, ...] | None = None) -> None:
        """Add a node that was rewritten to work on the source; its outputs become views."""
        perm = view.perm if perm is None else perm
        for index, name in enumerate(node.output):
            moved = f"{name}/moved"
            node.output[index] = moved
            if perm == tuple(range(len(perm))):
                self.aliases[name] = moved
            else:
                self.views[name] = View(moved, perm)
        self.append(node)

    def in_source_layout(self, name: str, view: View) -> str | None:
        """Return the tensor that broadcasts against `view.source` as `name` does against a view."""
        if name in self.views:
            return self.views[name].source
        shape = self.shapes.get(name)
        if shape is None or len(shape) > len(view.perm):
            return None
        if all(size == 1 for size in shape) and len(shape) <= 1:
            return name
        perm = view.inverse
        if name not in self.constants:
            return self.transposes.get((name, perm)) if len(shape) == len(perm) else None
        key = (name, perm)
        if key not in self.transposes:
            self.transposes[key] = self._rearrange(name, shape, perm)
        return self.transposes[key]

    def _rearrange(self, name: str, shape: tuple[int | str, ...], perm: tuple[int, ...]) -> str:
        """Add nodes that move the axes of a constant; both are folded before deployment."""
        missing = len(perm) - len(shape)
        full, moved = name, f"{name}/moved{len(self.transposes)}"
        if missing:
            axes = self.add_constant(f"{moved}/axes", list(range(missing)))
            full = f"{moved}/full"
            self.append(helper.make_node("Unsqueeze", [name, axes], [full], name=full))
        self.constants.update((full, moved))
        return self.transpose(full, perm, moved)


def to_channels_first(graph: GraphProto, shapes: dict[str, tuple[int | str, ...]]) -> None:
    """Rewrite `graph` in place; `shapes` are of its tensors, before. Values don't change.

    Every node must be of ONNX's own domain. An output of the graph keeps its name and its layout.
    """
    state = _start(graph, shapes)
    for node in list(graph.node):
        rename_reads(node, state.aliases)
        handler = _HANDLERS.get(node.op_type)
        if handler is not None and handler(node, state):
            continue
        for name in sorted(input_names(node)):
            if name in state.views:
                state.materialise(name)
        state.append(node)
    _finish(graph, state)


def _start(graph: GraphProto, shapes: dict[str, tuple[int | str, ...]]) -> _LayoutPass:
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    constants = set(initializers)
    # A weight is an input without a batch axis: only its shape is fixed in every dimension.
    for value in graph.input:
        if all(isinstance(size, int) for size in shapes.get(value.name, ("?",))):
            constants.add(value.name)
    constants.update(
        name for node in split_constant_nodes(graph.node, constants)[0] for name in node.output
    )
    consumers: dict[str, list[NodeProto]] = {}
    for value in graph.output:
        consumers[value.name] = [NodeProto(op_type="_Output")]
    for node in graph.node:
        for name in input_names(node):
            consumers.setdefault(name, []).append(node)
    return _LayoutPass(shapes, initializers, constants, consumers)


def _finish(graph: GraphProto, state: _LayoutPass) -> None:
    """Replace the graph's nodes; moved tensors get their own names where those are free."""
    for value in graph.output:
        if value.name in state.views:
            state.materialise(value.name)
        elif value.name in state.aliases:
            source = state.aliases[value.name]
            state.append(helper.make_node("Identity", [source], [value.name]))
    set_repeated_field(graph.node, state.nodes)
    set_repeated_field(graph.initializer, list(state.initializers.values()))
    prune(graph)
    taken = {name for node in graph.node for name in node.output}
    taken |= {value.name for value in graph.input}
    free = {
        name: name.removesuffix("/moved")
        for name in taken
        if name.endswith("/moved") and name.removesuffix("/moved") not in taken
    }
    rename_tensors(graph, free)


def _transpose(node: NodeProto, state: _LayoutPass) -> bool:
    perm = tuple(read_attribute(node, "perm", ()))
    source, result = node.input[0], node.output[0]
    if not perm:
        return False
    view = state.views.get(source)
    if view is not None:
        combined = tuple(view.perm[axis] for axis in perm)
        if combined == tuple(range(len(perm))):
            state.aliases[result] = view.source
            return True
        node.input[0] = view.source
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("perm", combined))
        source, perm = view.source, combined
    elif source not in state.constants and perm == channels_last(len(perm)) and len(perm) > 2:
        state.views[result] = View(source, perm)
        return True
    if (source, perm) in state.transposes:
        state.aliases[result] = state.transposes[source, perm]
        return True
    state.transposes[source, perm] = result
    state.append(node)
    return True


def _unary(node: NodeProto, state: _LayoutPass) -> bool:
    view = state.views.get(node.input[0])
    if view is None or any(name in state.views for name in node.input[1:]):
        return False
    node.input[0] = view.source
    state.emit(node, view)
    return True


def _broadcasting(node: NodeProto, state: _LayoutPass) -> bool:
    view = state.view_of(node.input)
    if node.op_type == "Mul" and _batch_norm(node, view, state):
        return True
    if view is None:
        return False
    sources = [state.in_source_layout(name, view) for name in node.input]
    if any(source is None for source in sources):
        return False
    set_repeated_field(node.input, sources)
    state.emit(node, view)
    return True


def _batch_norm(node: NodeProto, view: View | None, state: _LayoutPass) -> bool:
    """Write the multiplication and addition of a batch-norm as one BatchNormalization.

    Without a view only where the weights say that axis 1 has the channels.
    """
    scale = next((name for name in node.input if _is_scale(name, state)), None)
    following = state.consumers.get(node.output[0], [])
    if scale is None or len(following) != 1:
        return False
    found = batch_norm.match(
        scale,
        node.output[0],
        following[0],
        producer=state.producer,
        initializers=state.initializers,
    )
    data = [name for name in node.input if name != scale]
    if found is None or len(data) != 1:
        return False
    weights = [_channel_weight(name, view, state) for name in found.weights]
    if any(weight is None for weight in weights):
        return False
    merged = helper.make_node(
        "BatchNormalization",
        [view.source if view else data[0], *weights],
        [following[0].output[0]],
        name=node.name,
        epsilon=found.epsilon,
    )
    following[0].op_type = "_Skipped"
    if view is None:
        state.append(merged)
        return True
    state.views[node.output[0]] = view  # nothing else reads it
    state.emit(merged, view)
    return True


def _is_scale(name: str, state: _LayoutPass) -> bool:
    producer = state.producer.get(name)
    return name in state.constants and producer is not None and producer.op_type == "Mul"


def _channel_weight(name: str, view: View | None, state: _LayoutPass) -> str | None:
    """Return the weight, one number a channel, that a batch-norm reads, or None if it is not that.

    Keras gives it the rank of the data where its `axis` was given.
    """
    shape = state.shapes.get(name, ())
    if len(shape) == 1:
        return name if view is not None else None
    reshape = state.producer.get(name)
    if reshape is None or reshape.op_type != "Reshape":
        return None
    weight = reshape.input[0]
    wide = [axis for axis, size in enumerate(shape) if size != 1]
    channels = view.perm.index(1) if view is not None else 1
    if len(state.shapes.get(weight, ())) != 1 or wide not in ([channels], []):
        return None
    return weight if not wide or shape[channels] == state.shapes[weight][0] else None


def _skip(node: NodeProto, state: _LayoutPass) -> bool:
    return True


def _read_axes(node: NodeProto, state: _LayoutPass) -> list[int] | None:
    """Return the axes of a reduction, from its attribute or its second input."""
    if len(node.input) > 1 and node.input[1]:
        return state.read_integers(node.input[1])
    axes = read_attribute(node, "axes")
    return None if axes is None else [int(axis) for axis in axes]


def _set_axes(node: NodeProto, axes: Sequence[int], state: _LayoutPass) -> None:
    if len(node.input) > 1 and node.input[1]:
        node.input[1] = state.add_constant(f"{node.output[0]}/axes", axes)
    else:
        others = [item for item in node.attribute if item.name != "axes"]
        set_repeated_field(node.attribute, [*others, helper.make_attribute("axes", list(axes))])


def _move_axis(node: NodeProto, view: View, *, default: int) -> None:
    """Change the attribute `axis` from an axis of the view to the same one of the source."""
    axis = int(read_attribute(node, "axis", default))
    others = [item for item in node.attribute if item.name != "axis"]
    moved = helper.make_attribute("axis", view.perm[axis % len(view.perm)])
    set_repeated_field(node.attribute, [*others, moved])


def _remaining_perm(view: View, axes: Sequence[int]) -> tuple[int, ...]:
    """Return the permutation without some axes of the view."""
    left = [view.perm[axis] for axis in range(len(view.perm)) if axis not in axes]
    return tuple(sorted(left).index(axis) for axis in left)


def _reducing(node: NodeProto, state: _LayoutPass) -> bool:
    view = state.views.get(node.input[0])
    if view is None or (axes := _read_axes(node, state)) is None:
        return False
    axes = [axis % len(view.perm) for axis in axes]
    keep = node.op_type != "Squeeze" and read_attribute(node, "keepdims", 1) == 1
    node.input[0] = view.source
    _set_axes(node, [view.perm[axis] for axis in axes], state)
    state.emit(node, view, perm=view.perm if keep else _remaining_perm(view, axes))
    return True


def _one_axis(node: NodeProto, state: _LayoutPass) -> bool:
    view = state.view_of(node.input)
    if view is None:
        return False
    sources = [state.in_source_layout(name, view) for name in node.input]
    if any(source is None for source in sources):
        return False
    _move_axis(node, view, default=-1)
    set_repeated_field(node.input, sources)
    state.emit(node, view)
    return True


def _concat(node: NodeProto, state: _LayoutPass) -> bool:
    view = state.view_of(node.input)
    if view is None or any(len(state.shapes.get(n, ())) != len(view.perm) for n in node.input):
        return False
    return _one_axis(node, state)


def _pad(node: NodeProto, state: _LayoutPass) -> bool:
    view = state.views.get(node.input[0])
    pads = state.read_integers(node.input[1]) if len(node.input) > 1 else None
    if view is None or pads is None or (len(node.input) > 3 and node.input[3]):
        return False
    rank = len(view.perm)
    moved = [0] * (2 * rank)
    for axis, source in enumerate(view.perm):
        moved[source], moved[source + rank] = pads[axis], pads[axis + rank]
    node.input[0] = view.source
    node.input[1] = state.add_constant(f"{node.output[0]}/pads", moved)
    state.emit(node, view)
    return True


def _slice(node: NodeProto, state: _LayoutPass) -> bool:
    view = state.views.get(node.input[0])
    if view is None or len(node.input) < 4 or (axes := state.read_integers(node.input[3])) is None:
        return False
    node.input[0] = view.source
    moved = [view.perm[axis % len(view.perm)] for axis in axes]
    node.input[3] = state.add_constant(f"{node.output[0]}/axes", moved)
    state.emit(node, view)
    return True


def _gather(node: NodeProto, state: _LayoutPass) -> bool:
    view = state.views.get(node.input[0])
    # With a list of indices the result has the same axes.
    if view is None or len(state.shapes.get(node.input[1], ())) != 1:
        return False
    if node.input[1] in state.views:
        return False
    _move_axis(node, view, default=0)
    node.input[0] = view.source
    state.emit(node, view)
    return True


def _split_axis(node: NodeProto, state: _LayoutPass) -> bool:
    view = state.views.get(node.input[0])
    if view is None:
        return False
    _move_axis(node, view, default=0)
    node.input[0] = view.source
    state.emit(node, view)
    return True


_HANDLERS: dict[str, Callable[[NodeProto, _LayoutPass], bool]] = {
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_BROADCASTING, _broadcasting),
    **dict.fromkeys(_REDUCING, _reducing),
    **dict.fromkeys(_ONE_AXIS, _one_axis),
    "Transpose": _transpose,
    "Squeeze": _reducing,
    "Concat": _concat,
    "Pad": _pad,
    "Slice": _slice,
    "Split": _split_axis,
    "Gather": _gather,
    "_Skipped": _skip,
}
