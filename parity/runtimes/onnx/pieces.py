"""A part of an ONNX graph as source: its nodes, made with `onnx.helper`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from parity.processes.graph_requests import PieceCode
from parity.runtimes.onnx import model_inputs
from parity.runtimes.onnx.model_file import OnnxModel, read_names, subgraphs
from parity.runtimes.onnx.model_sessions import ModelSessions
from parity.runtimes.pieces import (
    PieceOperations,
    Step,
    UnwritableError,
    render_value,
)

Array = NDArray[Any]


class OnnxPieces(PieceOperations, ModelSessions):
    """`PieceOperations` for the one file of a child."""

    def trace_steps(self, inputs: Mapping[str, Array]) -> tuple[Sequence[Step], Collection[str]]:
        model = self.subject.model
        # A pattern of several nodes is one layer, and so are the shapes that it computes.
        made = {tensor for node in self.record(inputs).nodes for tensor in node.outputs}
        steps = [_make_step(model, node, made) for node in model.graph.node]
        return steps, model_inputs.fit_inputs(model, inputs)

    def to_array(self, value: Any) -> Array:
        return np.asarray(value)

    def wrap_piece(self, steps: Sequence[Step], reads: Sequence[str], output: str) -> PieceCode:
        model = self.subject.model
        opsets = ", ".join(
            f'helper.make_opsetid("{"" if name == "ai.onnx" else name}", {version})'
            for name, version in model.opsets.items()
        )
        weights = [name for step in steps for name in step.values]
        lines = [
            "import onnxruntime",
            "from onnx import TensorProto, helper, numpy_helper",
            "",
            "arrays = {n: cast(v, dtype) for n, v in inputs.items()}",
            "nodes = [",
        ]
        for step in steps:
            lines += [f"    {line}" for line in step.lines]
        lines += [
            "]",
            "graph = helper.make_graph(",
            "    nodes,",
            '    "piece",',
            "    [",
            "        helper.make_tensor_value_info(",
            "            n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape",
            "        )",
            "        for n, v in arrays.items()",
            "    ],",
            f"    [helper.make_empty_tensor_value_info({output!r})],",
            "    [",
            "        numpy_helper.from_array(np.ascontiguousarray(weights[n]).reshape("
            "weights[n].shape), n)",
            f"        for n in {list(dict.fromkeys(weights))!r}",
            "    ],",
            ")",
            "model = helper.make_model(",
            f"    graph, opset_imports=[{opsets}], ir_version={model.skeleton.ir_version}",
            ")",
            "options = onnxruntime.SessionOptions()",
            "options.log_severity_level = 3",
            "session = onnxruntime.InferenceSession(",
            '    model.SerializeToString(), options, providers=["CPUExecutionProvider"]',
            ")",
            f"result = session.run([{output!r}], arrays)[0]",
        ]
        return PieceCode(
            tuple(lines),
            tuple(reads),
            tuple(step.label for step in steps),
            ("onnx", "onnxruntime"),
            max(sum(not step.place for step in steps), min(len(steps), 1)),
        )


def _make_step(model: OnnxModel, node: NodeProto, made: Collection[str]) -> Step:
    """Return the step of a node; `made` are the tensors that the operations of the graph give."""
    names = read_names(node)
    inputs = tuple(name for name in names if name not in model.tensors)
    outputs = tuple(name for name in node.output if name)
    label = f"{node.op_type} `{node.name or outputs[0]}`"
    values = {name: model.tensors[name] for name in names if name in model.tensors}
    if list(subgraphs(node)):
        return Step(inputs, outputs, label=label, reason="a node with inner graphs is not written")
    try:
        parts = [repr(node.op_type), repr(list(node.input)), repr(list(node.output))]
        parts += [f"name={node.name!r}"] if node.name else []
        parts += [f"domain={node.domain!r}"] if node.domain else []
        settings = {
            each.name: render_value(helper.get_attribute_value(each), _render_own)
            for each in node.attribute
        }
    except UnwritableError as error:
        return Step(inputs, outputs, label=label, reason=str(error))
    if settings:
        # An attribute of any name, a Python keyword too, is a key.
        pairs = ", ".join(f"{name!r}: {value}" for name, value in settings.items())
        parts.append(f"**{{{pairs}}}")
    line = f"helper.make_node({', '.join(parts)}),"
    place = "" if any(each in made for each in outputs) else "inside"
    return Step(inputs, outputs, (line,), values, label, place=place)


def _render_own(value: Any) -> str | None:
    if isinstance(value, bytes):
        try:
            return repr(value.decode())
        except UnicodeDecodeError:
            raise UnwritableError("a text that is not UTF-8 cannot be stated in source") from None
    if isinstance(value, TensorProto):
        array = np.asarray(numpy_helper.to_array(value))
        if array.size > _MOST_VALUES:
            raise UnwritableError(f"an attribute of {array.size} values is too long for source")
        return f"numpy_helper.from_array(np.array({array.tolist()!r}, {str(array.dtype)!r}))"
    return None


_MOST_VALUES = 256
"""A tensor among the attributes has at most as many values."""
