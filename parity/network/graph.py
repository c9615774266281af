"""A model as a graph of operations: what every runtime reads its models into.

A graph is plain data. It says what is computed (`Node.kind`, hyperparameters, parameters), on what
(the tensors' shapes and dtypes in one run), and where it comes from (module or layer path, file and
line). Two graphs are paired by `parity.network.alignment`, whatever the frameworks are.

Ids are addresses in a run. A runtime that reads the same model again, on the same input, in any
floating precision, gives the same ids; so a tensor that a graph names can be captured or replaced
in a later run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Self

from parity.errors import GraphError

SCHEMA = "parity.graph/1"

OPAQUE = "opaque"
"""The kind of an operation that cannot be read inside; it is compared at its outputs."""

PARAMETER = "parameter"
"""The `operation` of an opaque node without inputs: a weight, or what is computed from weights
alone, that a layer reads as its input."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value that flows between operations, with the shape that it had in the run.

    `shape` has all axes, the batch included, in the framework's own order. `axes` names them, in
    the notation of `parity.network.axes`, where the operation that makes the tensor states them:
    `N C H W`, `N H W C`, `N T C`; empty where nothing states them.
    """

    id: str
    shape: tuple[int, ...]
    dtype: str
    axes: str = ""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A weight that an operation reads. The shape is the framework's own.

    `name` is the full name in the framework: the key of the state dict, the variable's path, the
    initializer. `role` is one of those of the node's kind, empty where it is not known. `axes` is
    the order of the axes in the framework, `H W I O`; empty where it is the canonical one, or not
    known. `moments` are the sum, the sum of squares, the smallest and the largest value, in
    float64: they do not depend on the order of the values, so equal weights have equal moments in
    every layout, up to the rounding of the sums.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    dtype: str
    axes: str = ""
    trainable: bool = True
    moments: tuple[float, float, float, float] | None = None

    @property
    def size(self) -> int:
        """The number of values."""
        count = 1
        for length in self.shape:
            count *= length
        return count


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of a run.

    `kind` is the name of a kind in `parity.network.kinds`; for an operation that has none there it
    is `OPAQUE`. `operation` is the framework's own name for it: `conv2d`, `FusedBatchNormV3`,
    `Conv`. `inputs` and `outputs` are ids of tensors, without weights and constants. `hyper` holds
    the hyperparameters of the kind by name, in the units that all frameworks share. `path` is the
    module's or the layer's path, `source` the user's file and line, `net.py:12`. `constants` are
    small arrays that the operation reads and that are neither data nor weights, by their position
    among its operands; of a long one there is `shape` and `dtype`, and of a weight for which the
    kind has no role, as a class token in a concatenation, `parameter`, its name, and `shape`.
    `constant_ids` are the ids by which a run gives those of more than one value, and operands that
    are computed from weights alone.
    """

    id: str
    kind: str
    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: tuple[Parameter, ...] = ()
    hyper: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    source: str = ""
    constants: Mapping[str, Any] = field(default_factory=dict)
    constant_ids: Mapping[str, str] = field(default_factory=dict)

    def find_parameter(self, role: str) -> Parameter | None:
        """Return the first parameter of a role, or None."""
        return next((each for each in self.parameters if each.role == role), None)


@dataclass(frozen=True, slots=True)
class Port:
    """A named input or output of the model, and its tensor in the run.

    `declared` is the shape that the model states, None for each axis that may have any length;
    empty where the model states nothing.
    """

    name: str
    tensor: str
    declared: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class Graph:
    """The operations of one run of a model, in execution order."""

    framework: str
    """`keras`, `torch` or `onnx`."""
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    unused_parameters: tuple[Parameter, ...] = ()
    """The weights that the model has and that no operation of this run read."""
    notes: tuple[str, ...] = ()
    """What could not be read, for the report."""

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that makes each tensor, by the tensor's id."""
        return {tensor: node for node in self.nodes for tensor in node.outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each tensor, by the tensor's id, in execution order."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for tensor in dict.fromkeys(node.inputs):
                found.setdefault(tensor, []).append(node)
        return {tensor: tuple(nodes) for tensor, nodes in found.items()}

    @cached_property
    def by_id(self) -> Mapping[str, Node]:
        """The nodes by id."""
        return {node.id: node for node in self.nodes}

    @cached_property
    def lowest_precisions(self) -> Mapping[str, str]:
        """By tensor, the lowest floating precision of what it is computed from, itself included.

        One of `float64`, `float32`, `float16`, `bfloat16`; a model that computes in a lower
        precision has a floor of that precision (`parity.numerics.floor.PRECISION_FACTORS`).
        """
        lowest: dict[str, str] = {port.tensor: "" for port in self.inputs}
        for name in lowest:
            lowest[name] = _lower_precision("", self.tensors[name].dtype)
        for node in self.nodes:
            read = [lowest[name] for name in node.inputs]
            read += [parameter.dtype for parameter in node.parameters]
            for name in node.outputs:
                found = self.tensors[name].dtype
                for each in read:
                    found = _lower_precision(found, each)
                lowest[name] = found
        return {name: found or "float32" for name, found in lowest.items()}

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The weights, each once, in the order in which they are read first; unused ones last."""
        every = [each for node in self.nodes for each in node.parameters]
        return tuple({each.name: each for each in (*every, *self.unused_parameters)}.values())

    def validate(self, source: str = "graph") -> None:
        """Raise `GraphError`, with `source` and the node, if the graph is inconsistent.

        A tensor is produced once, before it is read, by a node or as an input of the model.
        """
        known = {port.tensor for port in self.inputs}
        ids: set[str] = set()
        for node in self.nodes:
            if node.id in ids:
                raise GraphError(f"{source}: two nodes have the id {node.id!r}")
            ids.add(node.id)
            for tensor in node.inputs:
                if tensor not in known:
                    raise GraphError(
                        f"{source}: {node.id} reads {tensor!r}, which nothing before it produces"
                    )
            for tensor in node.outputs:
                if tensor in known:
                    raise GraphError(f"{source}: {node.id} produces {tensor!r} a second time")
                known.add(tensor)
        for tensor in known:
            if tensor not in self.tensors:
                raise GraphError(f"{source}: the tensor {tensor!r} is not described")
        for port in self.outputs:
            if port.tensor not in known:
                raise GraphError(f"{source}: nothing makes the output {port.name!r}")

    def to_json(self) -> dict[str, Any]:
        """Return the graph as plain data."""
        return {
            "schema": SCHEMA,
            "framework": self.framework,
            "nodes": [asdict(node) for node in self.nodes],
            "tensors": [asdict(tensor) for tensor in self.tensors.values()],
            "inputs": [asdict(port) for port in self.inputs],
            "outputs": [asdict(port) for port in self.outputs],
            "unused_parameters": [asdict(each) for each in self.unused_parameters],
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], source: str = "graph") -> Self:
        """Return the graph that `to_json` serialised; raises `GraphError`, with `source`."""
        if data.get("schema") != SCHEMA:
            raise GraphError(f"{source}: expected the schema {SCHEMA}")
        try:
            tensors = [
                Tensor(**{**entry, "shape": tuple(entry["shape"])}) for entry in data["tensors"]
            ]
            graph = cls(
                framework=data["framework"],
                nodes=tuple(map(_node_from_json, data["nodes"])),
                tensors={tensor.id: tensor for tensor in tensors},
                inputs=_ports_from_json(data["inputs"]),
                outputs=_ports_from_json(data["outputs"]),
                unused_parameters=_parameters_from_json(data["unused_parameters"]),
                notes=tuple(data["notes"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise GraphError(f"{source}: not a graph: {error}") from error
        graph.validate(source)
        return graph


_PRECISIONS = ("", "float64", "float32", "float16", "bfloat16")
"""Floating precisions, the lower the later; a tensor of integers has none."""


def _lower_precision(first: str, second: str) -> str:
    """Return the lower of two precisions; empty for two that are not floating."""
    known = [each if each in _PRECISIONS else "" for each in (first, second)]
    return max(known, key=_PRECISIONS.index)


def _node_from_json(entry: Mapping[str, Any]) -> Node:
    fields = {
        **entry,
        "inputs": tuple(entry["inputs"]),
        "outputs": tuple(entry["outputs"]),
        "parameters": _parameters_from_json(entry["parameters"]),
    }
    return Node(**fields)


def _parameters_from_json(entries: Iterable[Mapping[str, Any]]) -> tuple[Parameter, ...]:
    return tuple(
        Parameter(
            **{
                **entry,
                "shape": tuple(entry["shape"]),
                "moments": None if entry["moments"] is None else tuple(entry["moments"]),
            }
        )
        for entry in entries
    )


def _ports_from_json(entries: Iterable[Mapping[str, Any]]) -> tuple[Port, ...]:
    return tuple(Port(**{**entry, "declared": tuple(entry["declared"])}) for entry in entries)
