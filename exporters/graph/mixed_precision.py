"""Conversion of a float32 graph to float16, with float32 islands where float16's range ends.

Inputs and outputs stay float32. A node stays in float32 where a tensor that it reads or writes is
larger than float16 takes, where a constant of it would overflow or vanish, and where it has an
inner graph. Everything else is float16; casts stand at the borders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from exporters.errors import ExportError, first_line
from exporters.graph.edits import (
    input_names,
    rename_reads,
    set_repeated_field,
    subgraphs,
)
from exporters.graph.model import WeightedModel, add_outputs
from exporters.graph.precision import FLOAT32_INPUTS

LARGEST = 65504.0 / 4
"""The largest magnitude, on the inputs of a verification, that is left to float16: others may be
four times as large."""

_SMALLEST = 2.0**-24
"""Float16's smallest number above zero."""

ROUNDOFF = 2.0**-11


@dataclass(frozen=True)
class MixedModel:
    """A graph in float16, and the nodes that stayed in float32, with the reason of each."""

    model: WeightedModel
    islands: Mapping[str, str]


def float_tensors(model: WeightedModel) -> list[str]:
    """Return the names of the float32 tensors that nodes of the graph itself compute."""
    types = _types(model.proto())
    return [
        name
        for node in model.skeleton.graph.node
        for name in node.output
        if types.get(name) == TensorProto.FLOAT
    ]


def with_all_outputs(model: WeightedModel) -> WeightedModel:
    """Return the graph with every float32 tensor as an output, after its own."""
    inferred = _infer(model.proto())
    names = [n for n in float_tensors(model) if n not in {v.name for v in inferred.graph.output}]
    return WeightedModel(add_outputs(inferred, names), {})


def convert_to_mixed(model: WeightedModel, largest: Mapping[str, float]) -> MixedModel:
    """Return the graph in float16 with float32 islands; the given one stays as it is.

    `largest`: the largest magnitude of each tensor, by name (`with_all_outputs` gives the tensors);
    one that is not named may have any. Raises ExportError above 2 GB.
    """
    proto = _infer(model.proto())
    conversion = _Conversion(proto, largest)
    conversion.run()
    return MixedModel(WeightedModel(proto, {}), conversion.islands)


def _infer(proto: ModelProto) -> ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(proto)
    except Exception as error:  # InferenceError and others, which share no base class
        raise ExportError(
            f"float16: the graph's types are not known: {first_line(error)}"
        ) from error


def _types(proto: ModelProto) -> dict[str, int]:
    graph = proto.graph
    values = (*graph.input, *graph.value_info, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


@dataclass
class _Conversion:
    """One conversion, in place. A float32 tensor has one or two versions, each under a name."""

    proto: ModelProto
    largest: Mapping[str, float]
    islands: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        graph = self.proto.graph
        types = _types(self.proto)
        self.floats = {name for name, kind in types.items() if kind == TensorProto.FLOAT}
        self.ends = {value.name for value in (*graph.input, *graph.output)}
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        reasons = [self._reason(node) for node in graph.node]
        self.wide_reads: set[str] = {v.name for v in graph.output} & self.floats
        self.narrow_reads: set[str] = set()
        for node, reason in zip(graph.node, reasons, strict=True):
            for name in input_names(node) & self.floats:
                always = self._reads_float32(node)
                if reason or name in always:
                    self.wide_reads.add(name)
                if not reason and (name not in always or self._reads_elsewhere(node, name)):
                    self.narrow_reads.add(name)
        nodes: list[NodeProto] = []
        for value in graph.input:
            if value.name in self.floats:
                nodes += self._other_version(value.name, is_wide=True)
        for node, reason in zip(graph.node, reasons, strict=True):
            if reason:
                self.islands[node.name or node.output[0]] = reason
            outputs = [name for name in node.output if name in self.floats]
            self._rewrite(node, is_wide=bool(reason))
            nodes.append(node)
            for name in outputs:
                nodes += self._other_version(name, is_wide=bool(reason))
        self._convert_weights()
        set_repeated_field(graph.node, nodes)
        del graph.value_info[:]

    # Versions of a tensor ------------------------------------------------------------------------

    def _wide_name(self, name: str) -> str:
        return name if name in self.ends or self._only_wide(name) else f"{name}/wide"

    def _narrow_name(self, name: str) -> str:
        return f"{name}/narrow" if name in self.ends else name

    def _only_wide(self, name: str) -> bool:
        return name in self.weights and name not in self.narrow_reads

    def _other_version(self, name: str, *, is_wide: bool) -> list[NodeProto]:
        """Return the cast of a computed tensor to the other type, where something reads that."""
        if name not in (self.narrow_reads if is_wide else self.wide_reads):
            return []
        names = self._wide_name(name), self._narrow_name(name)
        source, target = names if is_wide else reversed(names)
        to = TensorProto.FLOAT16 if is_wide else TensorProto.FLOAT
        return [helper.make_node("Cast", [source], [target], f"{target}/cast", to=to)]

    # Nodes ---------------------------------------------------------------------------------------

    def _reason(self, node: NodeProto) -> str:
        """Return why a node stays in float32, or nothing."""
        if any(True for _ in subgraphs(node)):
            return "it has an inner graph"
        if node.op_type == "Constant" and not any(a.name == "value" for a in node.attribute):
            return "it is a constant of Python numbers"
        for name in (*node.input, *node.output):
            if name not in self.floats:
                continue
            if name in self.weights:
                reason = _describe_range(numpy_helper.to_array(self.weights[name]))
                if reason and name not in self._reads_float32(node):
                    return f"{name} {reason}"
            elif not self.largest.get(name, 0.0) <= LARGEST:
                return f"{name} is as large as {self.largest[name]:.3g}"
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                reason = _describe_range(numpy_helper.to_array(attribute.t))
                if reason:
                    return f"its constant {reason}"
        return ""

    def _reads_float32(self, node: NodeProto) -> set[str]:
        """Return the inputs that an operator reads in float32 for any type of its data."""
        return {
            node.input[index]
            for index in FLOAT32_INPUTS.get(node.op_type, ())
            if index < len(node.input)
        }

    def _reads_elsewhere(self, node: NodeProto, name: str) -> bool:
        always = FLOAT32_INPUTS.get(node.op_type, ())
        return any(n == name and index not in always for index, n in enumerate(node.input))

    def _rewrite(self, node: NodeProto, *, is_wide: bool) -> None:
        """Let a node read and write the versions of its tensors, in place."""
        always = FLOAT32_INPUTS.get(node.op_type, ())
        if is_wide:
            names = {name: self._wide_name(name) for name in input_names(node) & self.floats}
            rename_reads(node, names)
        else:
            for index, name in enumerate(node.input):
                if name in self.floats:
                    wide = index in always
                    node.input[index] = self._wide_name(name) if wide else self._narrow_name(name)
            _convert_attributes(node)
        for index, name in enumerate(node.output):
            if name in self.floats:
                node.output[index] = self._wide_name(name) if is_wide else self._narrow_name(name)

    def _convert_weights(self) -> None:
        tensors = []
        for name, tensor in self.weights.items():
            if tensor.data_type != TensorProto.FLOAT:
                tensors.append(tensor)
                continue
            if name in self.wide_reads:
                copy = TensorProto.FromString(tensor.SerializeToString())
                copy.name = self._wide_name(name)
                tensors.append(copy)
            if name in self.narrow_reads:
                values = numpy_helper.to_array(tensor).astype(np.float16)
                tensors.append(numpy_helper.from_array(values, self._narrow_name(name)))
        set_repeated_field(self.proto.graph.initializer, tensors)


def _describe_range(values: np.ndarray) -> str:
    """Return what float16 cannot keep of a constant, or nothing.

    Single weights that vanish beside larger ones are rounding; a constant whose numbers all vanish,
    such as an epsilon, changes what is computed.
    """
    magnitudes = np.abs(values[np.isfinite(values)])
    if not magnitudes.size:
        return ""
    if magnitudes.max() > LARGEST:
        return f"is as large as {magnitudes.max():.3g}"
    if 0.0 < magnitudes.max() < _SMALLEST * 2.0**10:
        # Below 2^-14 float16 has fewer than ten bits.
        return f"is as small as {magnitudes.max():.3g}"
    return ""


def _convert_attributes(node: NodeProto) -> None:
    """Convert the constants in a node's attributes, and the type that it makes."""
    for attribute in node.attribute:
        if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(attribute.t).astype(np.float16)
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
        elif (node.op_type, attribute.name) in _TYPES and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16


_TYPES = frozenset({("Cast", "to"), ("EyeLike", "dtype"), ("SequenceEmpty", "dtype")})
