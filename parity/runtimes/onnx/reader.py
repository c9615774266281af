"""ONNX models read into `parity.network.graph.Graph`, from one run that observed every tensor.

Ids of tensors are ONNX's own names; the id of a node is the name of its first output. `Identity`
nodes are left out: their readers read what they copy.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from parity.network import kinds
from parity.network.graph import OPAQUE, Graph, Node, Parameter, Port, Tensor
from parity.network.moments import Moments, moments_of
from parity.runtimes.onnx import axis_names, merging, node_readers, patterns
from parity.runtimes.onnx.model_file import OnnxModel, read_attributes, read_names, subgraphs
from parity.runtimes.onnx.node_readers import NodeReading, NodeView, Static
from parity.runtimes.onnx.node_readers.reading import ROLES, SETTINGS

Array = NDArray[Any]

_RANDOM = {
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
}  # fmt: skip
_SHAPES = ("Shape", "Size")
# A weight that these produce from one initializer is that initializer in another layout.
_LAYOUT = {
    "Cast", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze",
    "Transpose", "Unsqueeze",
}  # fmt: skip
_MOST_CONSTANTS = 64
"""Longer constants are described by their shape and checksum."""


@dataclass(frozen=True)
class Observation:
    """What one run had: the shape and the dtype of every tensor, the values of static ones."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    values: Mapping[str, Array]


@dataclass(frozen=True)
class Plan:
    """What can be said of a model before it is run."""

    aliases: Mapping[str, str]
    """By the output of an `Identity` node, the tensor that it copies."""
    static: frozenset[str]
    """The tensors that do not depend on the values of the inputs: weights, constants, what is
    computed from them, and the shapes of tensors."""
    observed: tuple[str, ...]
    """All tensors that nodes make, in execution order."""

    def resolve(self, name: str) -> str:
        """Return the tensor that `name` is, behind `Identity` nodes."""
        return self.aliases.get(name, name)


def plan_model(model: OnnxModel) -> Plan:
    """Find the static tensors and the aliases of a model."""
    static, aliases, observed = set(model.tensors), dict[str, str](), list[str]()
    for node in model.graph.node:
        observed += [name for name in node.output if name]
        if node.op_type == "Identity" and not node.domain:
            aliases[node.output[0]] = aliases.get(node.input[0], node.input[0])
        known = all(name in static for name in read_names(node))
        if node.op_type in _SHAPES or (known and node.op_type not in _RANDOM):
            static.update(name for name in node.output if name)
    return Plan(aliases, frozenset(static), tuple(observed))


def build_graph(model: OnnxModel, plan: Plan, observation: Observation) -> Graph:
    """Return the graph of a model as it ran."""
    return _Reader(model, plan, observation).build()


@dataclass
class _Reader:
    model: OnnxModel
    plan: Plan
    observation: Observation
    producers: dict[str, NodeProto] = field(default_factory=dict)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    operand_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """By node, the shape in which it reads its weight, which may be an initializer reshaped."""
    _traced: dict[str, tuple[list[str], list[tuple[int, ...]] | None]] = field(default_factory=dict)

    def build(self) -> Graph:
        graph = self.model.graph
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.single_biases = _find_single_biases(self.model)
        ports = [Port(v.name, v.name, declared_shape(v)) for v in self.model.inputs]
        outputs = [Port(v.name, self.plan.resolve(v.name), declared_shape(v)) for v in graph.output]
        nodes = self._constant_outputs(outputs)
        nodes += [
            self._read_node(node)
            for node in graph.node
            if node.output[0] not in self.plan.aliases
            and not all(name in self.plan.static for name in node.output if name)
        ]
        ends = {port.tensor for port in outputs}
        nodes = merging.join_dynamic_quantisation(nodes, ends)
        nodes = merging.join_biases(nodes, ends, self.observation.shapes, self.operand_shapes)
        nodes = patterns.join_patterns(nodes, ends)
        read = {parameter.name for node in nodes for parameter in node.parameters}
        known = [port.tensor for port in ports] + [t for node in nodes for t in node.outputs]
        tensors = {name: self._describe(name) for name in known}
        tensors = axis_names.name_axes(nodes, tensors)
        return Graph(
            framework="onnx",
            nodes=tuple(nodes),
            tensors=tensors,
            inputs=tuple(ports),
            outputs=tuple(outputs),
            unused_parameters=tuple(
                self._parameter(name, "") for name in weight_names(self.model) if name not in read
            ),
            notes=tuple(self._notes(nodes)),
        )

    def _describe(self, name: str) -> Tensor:
        shapes, dtypes = self.observation.shapes, self.observation.dtypes
        return Tensor(name, shapes.get(name, ()), dtypes.get(name, ""))

    def _constant_outputs(self, outputs: list[Port]) -> list[Node]:
        """Return a node for each output of the model that no input reaches."""
        names = dict.fromkeys(p.tensor for p in outputs if p.tensor in self.plan.static)
        return [Node(name, OPAQUE, "Constant", (), (name,)) for name in names]

    def _read_node(self, node: NodeProto) -> Node:
        view = NodeView(
            operation=node.op_type,
            domain=node.domain,
            attributes=read_attributes(node),
            opset=self.model.opsets.get(node.domain or "ai.onnx", 1),
            inputs=tuple(self._argument(name) for name in node.input),
            outputs=tuple(node.output),
            shapes=self.observation.shapes,
        )
        reading = node_readers.read_node(view)
        if node.output[0] in self.single_biases:
            reading = NodeReading("bias_add", roles={self.single_biases[node.output[0]]: "bias"})
        if kinds.find(reading.kind) is None:
            reading = NodeReading(
                OPAQUE, dict(reading.hyperparameters), dict(reading.roles), reading.axes
            )
        data, parameters, constants = [], list[Parameter](), dict[str, Any]()
        constant_ids: dict[str, str] = {}
        for index, (name, argument) in enumerate(zip(node.input, view.inputs, strict=True)):
            if argument is None:
                continue
            if isinstance(argument, str):
                data.append(argument)
                continue
            role = reading.roles.get(index, "")
            # A table that is added, one row for each position, may be a weight in one model and be
            # computed in another.
            is_table = reading.kind == "bias_add" and argument.value.ndim > 1
            if (
                (role == "" or is_table)
                and index not in reading.setting_inputs
                and argument.value.size > 1
            ):
                constant_ids[str(index)] = self.plan.resolve(name)
            found = self._find_parameters(name, role, reading.axes.get(role, ""), node, index)
            if found:
                parameters += found
                self.operand_shapes[node.output[0]] = argument.value.shape
                if role == "":
                    # As every framework's reader marks a weight for which the kind has no role.
                    first = found[0]
                    marked = {"parameter": first.name, "shape": list(argument.value.shape)}
                    constants[str(index)] = marked
            elif role == "" and index not in reading.setting_inputs:
                constants[str(index)] = _describe_constant(argument.value)
        inner = [name for name in read_names(node) if name not in node.input]
        data += [self.plan.resolve(name) for name in inner if name not in self.plan.static]
        for name in inner:
            if name in self.plan.static:
                parameters += self._find_parameters(name, "", "", node, -1)
        for graph in subgraphs(node):
            constants["graph"] = [each.op_type for each in graph.node]
        outputs = [name for name in node.output if name and name in self.observation.shapes]
        return Node(
            id=outputs[0] if outputs else node.output[0],
            kind=reading.kind,
            operation=f"{node.domain}.{node.op_type}" if node.domain else node.op_type,
            inputs=tuple(data),
            outputs=tuple(outputs),
            parameters=tuple(parameters),
            hyper=reading.hyperparameters,
            path=module_path(node),
            source=source_line(node),
            constants=constants,
            constant_ids=constant_ids,
        )

    def _argument(self, name: str) -> str | Static | None:
        """Return the tensor's id, or its values if it is static; None where it is absent."""
        if not name:
            return None
        if name not in self.plan.static:
            return self.plan.resolve(name)
        value = self.model.tensors.get(name)
        if value is None:
            value = self.observation.values.get(self.plan.resolve(name))
        if value is None:
            value = self.observation.values.get(name)
        return Static(name, np.zeros(0) if value is None else value)

    def _find_parameters(
        self, name: str, role: str, order: str, node: NodeProto, index: int
    ) -> list[Parameter]:
        """Return the weights that a static input holds, none if it is a constant."""
        sources, moved = self._trace(name)
        weights = [each for each in sources if is_weight(self.model.tensors[each], role)]
        if not weights or index in SETTINGS.get(node.op_type, ()):
            return []
        if len(weights) > 1:
            return [self._parameter(each, "") for each in weights]
        if moved is None:
            order = ""
        elif moved:
            canonical = _canonical_axes(role, node, self._rank(name))
            order = _move_axes(order or canonical, moved)
            order = "" if order == canonical else order
        parameter = self._parameter(weights[0], role, order)
        return [replace(parameter, moments=self._moments(weights[0], name))]

    def _rank(self, name: str) -> int:
        value = self.model.tensors.get(name, self.observation.values.get(name))
        return 0 if value is None else value.ndim

    def _trace(self, name: str) -> tuple[list[str], list[tuple[int, ...]] | None]:
        """Return the initializers that a static tensor is computed from, and the permutations that
        are applied to a single one; None where it is changed in another way."""
        # Without the memory, a chain of joins would be followed once for each of its paths.
        if name not in self._traced:
            self._traced[name] = self._follow(name)
        return self._traced[name]

    def _follow(self, name: str) -> tuple[list[str], list[tuple[int, ...]] | None]:
        moved: list[tuple[int, ...]] | None = []
        while name not in self.model.tensors:
            node = self.producers.get(name)
            # What is static may read the shape of data; the weights before it are not in that.
            if node is None or name not in self.plan.static:
                return [], None
            if node.op_type not in _LAYOUT or not node.input:
                found = [each for read in read_names(node) for each in self._trace(read)[0]]
                return list(dict.fromkeys(found)), None
            if node.op_type == "Transpose":
                rank = self._rank(name)
                perm = read_attributes(node).get("perm", tuple(reversed(range(rank))))
                moved = None if moved is None else [*moved, tuple(perm)]
            elif node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
                moved = None
            name = node.input[0]
        return [name], moved

    def _parameter(self, name: str, role: str, order: str = "") -> Parameter:
        value = self.model.tensors[name]
        if name not in self.parameters:
            trainable = role not in ("mean", "variance")
            self.parameters[name] = Parameter(
                name, role, value.shape, str(value.dtype), order, trainable, moments_of(value)
            )
        return replace(self.parameters[name], role=role, axes=order)

    def _moments(self, name: str, tensor: str) -> Moments | None:
        """Return the moments of a weight; of an integer one, those of what it is dequantised to."""
        value = self.model.tensors[name]
        if value.dtype.kind in "iu" and tensor in self.observation.values:
            return moments_of(self.observation.values[tensor])
        return self.parameters[name].moments

    def _notes(self, nodes: list[Node]) -> list[str]:
        opaque = sorted({node.operation for node in nodes if node.kind == OPAQUE})
        if not opaque:
            return []
        return [f"not read inside, compared at their outputs: {', '.join(opaque)}"]


def weight_names(model: OnnxModel) -> list[str]:
    """Return the initializers that are floating weights, in the file's order.

    Scales, bounds and the like, which are arguments of operators, are not among them.
    """
    settings: set[str] = set()
    uses: set[str] = set()
    for node in model.graph.node:
        positions = SETTINGS.get(node.op_type, ())
        for index, name in enumerate(node.input):
            (settings if index in positions else uses).add(name)
    roles = _role_inputs(model)
    return [
        name
        for name, value in model.tensors.items()
        if is_floating(value)
        and is_weight(value, "role" if name in roles else "")
        and (name not in settings or name in uses)
    ]


def _role_inputs(model: OnnxModel) -> set[str]:
    """Return the tensors that fill a role of a kind: such a weight may have a single value."""
    biases = _find_single_biases(model)
    return {
        node.input[index]
        for node in model.graph.node
        for index in (*ROLES.get(node.op_type, {}), *_place_of(node, biases))
        if index < len(node.input)
    }


def _place_of(node: NodeProto, biases: Mapping[str, int]) -> tuple[int, ...]:
    return (biases[node.output[0]],) if node.output and node.output[0] in biases else ()


def _find_single_biases(model: OnnxModel) -> dict[str, int]:
    """Return the place of the bias, by its sum, of products with one output channel.

    A number that is added is a constant elsewhere.
    """
    producers = {name: node for node in model.graph.node for name in node.output if name}
    found = {}
    for node in model.graph.node:
        if node.op_type != "Add" or len(node.input) != 2:
            continue
        for place, other in ((1, 0), (0, 1)):
            bias = model.tensors.get(node.input[place])
            product = producers.get(node.input[other])
            if bias is None or bias.size != 1 or bias.ndim == 0 or product is None:
                continue
            kernel = model.tensors.get(product.input[1]) if len(product.input) == 2 else None
            if product.op_type in ("MatMul", "Conv") and kernel is not None:
                channel = -1 if product.op_type == "MatMul" else 0
                if kernel.ndim > 1 and kernel.shape[channel] == 1:
                    found[node.output[0]] = place
                    break
    return found


def is_floating(value: Array) -> bool:
    """Return whether an array is of a floating type, bfloat16 and its like included."""
    return value.dtype.kind == "f" or value.dtype.name in ("bfloat16",)


def is_weight(value: Array, role: str) -> bool:
    """Return whether an initializer is a weight: floating or quantised, more than one number.

    With a role a single number is a weight too. Integers are weights only in a role.
    """
    if not is_floating(value):
        return bool(role) and value.dtype.name in ("int8", "uint8", "int4", "uint4", "int32")
    return value.size > 1 or (bool(role) and value.size == 1)


def declared_shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Return the shape that a file states for an input or output, None where an axis is free."""
    if not value.type.tensor_type.HasField("shape"):
        return ()
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else None
        for dim in value.type.tensor_type.shape.dim
    )


def module_path(node: NodeProto) -> str:
    """Return the module's path, which torch.onnx writes into the node's properties, or the name."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            scopes = re.findall(r"'([^']*)'", entry.value)
            # The last scope is the operation itself.
            named = [scope for scope in scopes[:-1] if scope]
            return named[-1] if named else ""
    return str(node.name)


def source_line(node: NodeProto) -> str:
    """Return the user's file and line, if the node's properties have PyTorch's stack trace."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.stack_trace":
            frames = re.findall(r'File "([^"]+)", line (\d+)', entry.value)
            own = [frame for frame in frames if "/torch/" not in frame[0].replace("\\", "/")]
            return f"{own[-1][0]}:{own[-1][1]}" if own else ""
    return ""


def _canonical_axes(role: str, node: NodeProto, rank: int) -> str:
    """Return the order of the axes of an operator's weight, as ONNX states it."""
    if role == "kernel" and rank > 2:
        spatial = {3: "W", 4: "H W", 5: "D H W"}.get(rank, "")
        return f"I O {spatial}" if node.op_type == "ConvTranspose" else f"O I {spatial}"
    return "O I" if role == "kernel" and rank == 2 else ""


def _move_axes(order: str, moved: list[tuple[int, ...]]) -> str:
    """Return the axes of an initializer, of whose permutations the axes are `order`."""
    for permutation in moved:
        names = order.split()
        if len(names) != len(permutation):
            return ""
        before = [""] * len(names)
        for after, axis in enumerate(permutation):
            before[axis] = names[after]
        order = " ".join(before)
    return order


def _describe_constant(value: Array) -> Any:
    """Return a constant as plain data; a long one by its shape and the checksum of its bytes."""
    if value.size <= _MOST_CONSTANTS:
        return value.tolist() if value.dtype.kind in "fiub" else [str(each) for each in value.flat]
    checksum = zlib.crc32(np.ascontiguousarray(value).tobytes())
    return {"shape": list(value.shape), "dtype": str(value.dtype), "crc32": checksum}
