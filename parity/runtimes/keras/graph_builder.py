"""The graph of a recorded run of a Keras model."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network import axes as axis_orders
from parity.network import kinds
from parity.network.graph import OPAQUE, PARAMETER, Graph, Node, Parameter, Port, Tensor
from parity.network.kind import COMPLEX
from parity.network.moments import Moments, moments_of
from parity.runtimes.keras.events import Event, Operand, WeightSource, name_operand
from parity.runtimes.keras.node_readers import read_event
from parity.runtimes.keras.node_readers.reading import SPATIAL, NodeReading
from parity.runtimes.keras.recorder import Recorder
from parity.runtimes.keras.variables import dtype_of, raw_variable

Array = NDArray[Any]


def _moments(variable: Any) -> Moments | None:
    value = np.asarray(raw_variable(variable))
    if dtype_of(variable) == "bfloat16":
        value = value.astype(np.float32)
    return moments_of(value) if value.dtype.kind in "fiu" else None


def _compute_moments(variables: Mapping[str, Any]) -> dict[str, Moments | None]:
    """Return the moments of each variable, those of large ones side by side."""
    large = [v for v in variables.values() if math.prod(v.shape) > _LARGE]
    # NumPy computes them without Python's lock.
    with ThreadPoolExecutor() as pool:
        found = {id(v): m for v, m in zip(large, pool.map(_moments, large), strict=True)}
    return {name: found[id(v)] if id(v) in found else _moments(v) for name, v in variables.items()}


_LARGE = 1 << 18


def build_graph(recorder: Recorder, inputs: Sequence[Port], outputs: Sequence[Port],
                tensors: Mapping[str, Tensor]) -> Graph:  # fmt: skip
    """Return the graph of the recorder's events; `tensors` describes the model's inputs."""
    builder = _Builder(recorder, tensors)
    results = {port.tensor for port in outputs}
    for event in recorder.events:
        builder.add(event, results)
    return builder.finish(inputs, outputs)


class _Builder:
    def __init__(self, recorder: Recorder, tensors: Mapping[str, Tensor]) -> None:
        self.recorder = recorder
        self.tensors = dict(tensors)
        self.nodes: list[Node] = []
        self.makers: dict[str, int] = {}
        """The place in `nodes` of the maker of each tensor."""
        self.notes: list[str] = []
        self.parameters: dict[tuple[str, str, str], Parameter] = {}
        self.moments = _compute_moments(recorder.variables)
        self.readers = Counter(
            operand.id for event in recorder.events for operand in event.operands if operand.id
        )

    def add(self, event: Event, results: set[str]) -> None:
        """Add an event as a node, or to the node whose bias it adds."""
        reading = self._read(event)
        data = [operand.id for operand in event.operands if operand.id]
        self._describe_outputs(event, reading, data)
        if reading.kind == "bias_add" and self._join_bias(event, reading, data[0], results):
            return
        if reading.kind == "squeeze" and self._join_separable(event, reading, data[0], results):
            return
        node = Node(
            id=str(event.number),
            kind=reading.kind,
            operation=event.name,
            inputs=tuple(data),
            outputs=tuple(output.id for output in event.outputs),
            parameters=tuple(self._read_weights(event, reading)),
            hyper=_hyper(event, reading),
            path=event.path,
            source=event.source,
            constants=_constants(event, reading),
            constant_ids=_constant_ids(event, reading),
        )
        self.makers[event.outputs[0].id] = len(self.nodes)
        self.nodes.append(node)

    def _read(self, event: Event) -> NodeReading:
        """Return what an event is; one whose arguments are not as expected is opaque."""
        try:
            return read_event(event)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            self.notes.append(f"{event.path}: {event.name} ({event.source}) was not read: {reason}")
            return NodeReading(OPAQUE)

    def _describe_outputs(self, event: Event, reading: NodeReading, data: Sequence[str]) -> None:
        if data and reading.input_axes:
            first = self.tensors[data[0]]
            if not first.axes and _count(reading.input_axes) == len(first.shape):
                self.tensors[first.id] = replace(first, axes=reading.input_axes)
        known = [self.tensors[each].axes for each in data if each in self.tensors]
        for output in event.outputs:
            axes = reading.axes
            if reading.keeps_axes:
                fitting = [a for a in known if a and _count(a) == len(output.shape)]
                axes = fitting[0] if fitting else ""
            elif not axes and known:
                axes = _follow_axes(reading, known[0], self.tensors[data[0]].shape)
            if _count(axes) != len(output.shape):
                axes = ""
            self.tensors[output.id] = Tensor(output.id, output.shape, output.dtype, axes)

    def _join_bias(self, event: Event, reading: NodeReading, data: str, results: set[str]) -> bool:
        """Make a sum the bias of the layer before it, if it is that; return whether it is."""
        place = self.makers.get(data)
        maker = None if place is None else self.nodes[place]
        if (
            place is None
            or maker is None
            or maker.hyper.get("bias") is not False
            or maker.path != event.path
            or self.readers[data] != 1
            or data in results
        ):
            return False
        bias = self._read_weights(event, reading)
        if len(bias) != 1 or bias[0].size != maker.hyper["out"]:
            return False
        output = event.outputs[0]
        if math.prod(output.shape) != math.prod(self.tensors[data].shape):
            return False
        made = self.tensors.pop(data)
        self.tensors[output.id] = replace(self.tensors[output.id], axes=made.axes)
        self.nodes[place] = replace(
            maker,
            outputs=(output.id,),
            parameters=(*maker.parameters, *bias),
            hyper={**maker.hyper, "bias": True},
        )
        self.makers[output.id] = place
        return True

    def _join_separable(
        self, event: Event, reading: NodeReading, data: str, results: set[str]
    ) -> bool:
        """Make the two convolutions of a separable one over a sequence read and make sequences.

        TensorFlow computes them as those of images of one row, between two changes of the rank.
        Return whether the squeeze ends such a convolution.
        """
        end = self.makers.get(data)
        if end is None or end < 2 or data in results or self.readers[data] != 1:
            return False
        start, depthwise, pointwise = self.nodes[end - 2 : end + 1]
        is_separable = (
            [start.kind, depthwise.kind] == ["unsqueeze", "depthwise_conv"]
            and pointwise.hyper.get("groups") == 1
            and {start.path, depthwise.path, pointwise.path} == {event.path}
            and depthwise.inputs == start.outputs
            and pointwise.inputs == depthwise.outputs
            and start.hyper["axes"] == reading.hyperparameters["axes"]
            and all(self.readers[each] == 1 for each in (*start.outputs, *depthwise.outputs))
        )
        if not is_separable or len(depthwise.hyper["kernel"]) != 2:
            return False
        # The spatial axis of length 1 is the first or the second of two.
        kept = 0 if reading.hyperparameters["axes"] == [len(self.tensors[data].shape) - 2] else 1
        output = event.outputs[0]
        for each in (output.id, *start.inputs):
            self.tensors[each] = replace(self.tensors[each], axes="N T C")
        self.tensors[depthwise.outputs[0]] = replace(
            self.tensors[depthwise.outputs[0]], axes="N 1 T C" if kept else "N T 1 C"
        )
        self.nodes[end - 2 :] = [
            replace(depthwise, inputs=start.inputs, hyper=_keep_axis(depthwise.hyper, kept)),
            replace(pointwise, outputs=(output.id,), hyper=_keep_axis(pointwise.hyper, kept)),
        ]
        self.makers[depthwise.outputs[0]] = end - 2
        self.makers[output.id] = end - 1
        return True

    # Weights -------------------------------------------------------------------------------------

    def _read_weights(self, event: Event, reading: NodeReading) -> list[Parameter]:
        """Return the weights that an event reads, each once; those with a role first."""
        found: dict[str, Parameter] = {}
        places = [*reading.roles, *range(len(event.operands))]
        for place in dict.fromkeys(places):
            operand = event.operands[place]
            if operand.weight is None:
                continue
            role = reading.roles.get(place, "")
            names = operand.weight.names
            # Of several weights of which one is computed, that of its shape has the role.
            main = next((n for n in names if self._shape_of(n) == operand.shape), names[0])
            for name in names:
                own = reading.roles_by_name.get(name, role if name == main else "")
                if name not in found:
                    found[name] = self._describe_weight(name, own, operand, reading)
        if reading.kind == "embedding" and found:
            reading.hyperparameters["in"] = next(iter(found.values())).shape[0]
        return list(found.values())

    def _shape_of(self, name: str) -> tuple[int, ...]:
        return tuple(int(n) for n in self.recorder.variables[name].shape)

    def _describe_weight(
        self, name: str, role: str, operand: Operand, reading: NodeReading
    ) -> Parameter:
        shape = self._shape_of(name)
        order = reading.weight_axes.get(role, "")
        weight = operand.weight
        if name in reading.roles_by_name:
            weight = WeightSource((name,), tuple(range(len(shape))), True)
        assert weight is not None
        if not weight.is_exact and shape == operand.shape:
            # What is computed of it value by value has its axes.
            weight = replace(weight, is_exact=True)
        axes = _weight_axes(weight, shape, order, reading.kind, role)
        key = (name, role, axes)
        if key not in self.parameters:
            self.parameters[key] = self.describe_variable(name, role, axes)
        return self.parameters[key]

    def describe_variable(self, name: str, role: str = "", axes: str = "") -> Parameter:
        """Return a weight with its moments."""
        variable = self.recorder.variables[name]
        return Parameter(
            name=name,
            role=role,
            shape=tuple(int(n) for n in variable.shape),
            dtype=dtype_of(variable),
            axes=axes,
            trainable=bool(variable.trainable),
            moments=self.moments[name],
        )

    def finish(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> Graph:
        """Return the graph."""
        nodes = tuple(self.nodes)
        used = {parameter.name for node in nodes for parameter in node.parameters}
        unused = [
            self.describe_variable(name)
            for name, variable in self.recorder.variables.items()
            if name not in used and "float" in dtype_of(variable)
        ]
        opaque = Counter(node.operation for node in nodes if node.kind == OPAQUE)
        del opaque[PARAMETER]
        if opaque:
            listed = ", ".join(f"{name} ({count})" for name, count in sorted(opaque.items()))
            self.notes.append(f"operations that are compared at their outputs alone: {listed}")
        named = {tensor for node in nodes for tensor in (*node.inputs, *node.outputs)}
        named |= {port.tensor for port in (*inputs, *outputs)}
        return Graph(
            framework="keras",
            nodes=nodes,
            tensors={name: each for name, each in self.tensors.items() if name in named},
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            unused_parameters=tuple(unused),
            notes=tuple(self.notes),
        )


def _keep_axis(hyper: Mapping[str, Any], axis: int) -> dict[str, Any]:
    """Return the settings of a window over two spatial axes for one of them alone."""
    return {
        name: [value[axis]] if isinstance(value, list) and len(value) == 2 else value
        for name, value in hyper.items()
    }


# Axes --------------------------------------------------------------------------------------------


def split_axes(axes: str) -> list[str]:
    """Return the names of the axes, one that joins several in parentheses."""
    return re.findall(r"\([^)]*\)|\S+", axes)


def _count(axes: str) -> int:
    return len(split_axes(axes))


def _follow_axes(reading: NodeReading, axes: str, shape: Sequence[int]) -> str:
    """Return the axes behind an operation that moves, removes or joins them; empty if unknown."""
    names = split_axes(axes)
    if len(names) != len(shape):
        return ""
    if reading.kind == "transpose":
        return " ".join(names[axis] for axis in reading.hyperparameters["perm"])
    if reading.kind == "flatten" and not any("(" in name for name in names):
        inside = names[1:]
        return f"{names[0]} {inside[0] if len(inside) == 1 else '(' + ' '.join(inside) + ')'}"
    removed: Sequence[int] = ()
    if reading.kind in ("squeeze", "slice"):
        removed = reading.hyperparameters["axes" if reading.kind == "squeeze" else "squeeze"]
    elif reading.kind.startswith("reduce_") and reading.hyperparameters["axes"]:
        removed = () if reading.hyperparameters["keepdims"] else reading.hyperparameters["axes"]
    else:
        return ""
    return " ".join(name for axis, name in enumerate(names) if axis not in removed)


def _weight_axes(
    weight: WeightSource, shape: Sequence[int], order: str, kind: str, role: str
) -> str:
    """Return the order of a variable's own axes; empty where it is the canonical one.

    `order` is that of the tensor that the operation reads: the variable, reshaped or transposed
    perhaps.
    """
    if not role or kind == OPAQUE or not weight.is_exact:
        return ""
    known = kinds.get(kind)
    canonical = next((each.axes for each in known.roles if each.name == role), "")
    if role == "alpha" and len(shape) > 1:
        return " ".join([*("1" for _ in shape[1:]), "C"]) if set(shape[:-1]) == {1} else ""
    if role == "bias" and len(shape) > 1 and not order:
        return " ".join(f"C{number}" for number in range(1, len(shape) + 1))
    if not order or order == canonical:
        return ""
    names = split_axes(order)
    if axis_orders.SPATIAL in names:
        place = names.index(axis_orders.SPATIAL)
        letters = SPATIAL.get(len(shape) - len(names) + 1, "").split()
        names = [*names[:place], *letters, *names[place + 1 :]]
    if len(names) != len(shape):
        return ""
    if weight.order is not None and len(weight.order) == len(names):
        own = [""] * len(names)
        for axis, source in enumerate(weight.order):
            own[source] = names[axis]
        names = own
    found = " ".join(names)
    return "" if found == canonical else found


def _hyper(event: Event, reading: NodeReading) -> Mapping[str, Any]:
    """Return the hyperparameters of an event, with which operands of arithmetic are complex."""
    if reading.kind == OPAQUE:
        return {}
    is_complex = any(
        each.value is not None and np.iscomplexobj(each.value) for each in event.operands
    )
    if is_complex and kinds.properties(reading.kind).number_verb:
        # TensorFlow takes operands of one type alone.
        return {**reading.hyperparameters, COMPLEX: [True] * len(event.operands)}
    return reading.hyperparameters


def _constants(event: Event, reading: NodeReading) -> dict[str, Any]:
    """Return the small constants that an operation reads, by position, but for its settings."""
    found = {}
    for place, operand in enumerate(event.operands):
        if operand.id or place in reading.setting_inputs:
            continue
        if operand.weight is not None:
            is_plain = not (reading.roles or reading.roles_by_name)
            if is_plain and reading.kind != OPAQUE:
                # Where a kind has no role for it, its position says what it is.
                shape = list(operand.shape)
                found[str(place)] = {"parameter": operand.weight.names[0], "shape": shape}
        else:
            value = operand.value
            if value is not None and value.dtype.kind in "fiub":
                found[str(place)] = value.tolist()
            elif value is not None and np.iscomplexobj(value) and value.size == 1:
                number = complex(value.reshape(-1)[0])
                found[str(place)] = {COMPLEX: [number.real, number.imag]}
            else:
                found[str(place)] = {"shape": list(operand.shape), "dtype": operand.dtype}
    return found


def _constant_ids(event: Event, reading: NodeReading) -> dict[str, str]:
    """Return the ids of the constants of several values, and of what is computed from weights.

    By the place among the operands, or the role. Of a function that is one operation, those that
    are computed alone are given.
    """
    is_function = any(isinstance(each, Operand) for each in event.arguments.values())
    return {
        reading.roles.get(place, str(place)): name_operand(event.number, place)
        for place, operand in enumerate(event.operands)
        if not operand.id
        and place not in reading.setting_inputs
        # A complex number has a shape of two parts.
        and (np.prod(operand.shape, dtype=int) if operand.value is None else operand.value.size)
        != 1
        and not (operand.weight is not None and operand.weight.is_exact)
        and not (is_function and operand.weight is None)
    }
