"""Checks that a model can be exported: opset, names, operators, and ONNX's own checker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import onnx
from onnx import GraphProto, NodeProto

from exporters.errors import ExportError, first_few, first_line
from exporters.graph.edits import all_nodes
from exporters.graph.folding import RANDOM_OPS
from exporters.graph.model import WeightedModel

OLDEST_OPSET = 17

ML = "ai.onnx.ml"
"""The domain of look-up tables, which ONNX Runtime knows too."""


def check_opset(opset: int) -> None:
    """Raise ExportError unless these exporters write `opset`."""
    newest = onnx.defs.onnx_opset_version()
    if not isinstance(opset, int) or isinstance(opset, bool):
        raise ExportError(f"opset: expected a number, found {opset!r}")
    if not OLDEST_OPSET <= opset <= newest:
        raise ExportError(f"opset {opset}: this version writes {OLDEST_OPSET} to {newest}")


def check_names(
    *, weights: Sequence[str], inputs: Sequence[str], outputs: Sequence[str], taps: Iterable[str]
) -> None:
    """Raise ExportError if two tensors would have one name."""
    count = Counter((*weights, *inputs, *outputs))
    count.update(tap for tap in taps if tap not in outputs)
    twice = sorted(name for name, times in count.items() if times > 1)
    if twice:
        raise ExportError(f"two tensors would be called {twice[0]!r}: give one another name")


def foreign_nodes(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes that ONNX has no operator for."""
    return [
        node
        for node in all_nodes(graph)
        if node.domain not in ("", "ai.onnx", ML) or not onnx.defs.has(node.op_type, node.domain)
    ]


def newer_nodes(graph: GraphProto, opset: int) -> list[tuple[NodeProto, int]]:
    """Return the nodes whose operator is of a newer opset than `opset`, and the first that has it.

    `graph` has no foreign nodes.
    """
    found = []
    for node in all_nodes(graph):
        if node.domain != ML and not onnx.defs.has(node.op_type, opset, node.domain):
            found.append((node, _first_opset(node, opset)))
    return found


def _first_opset(node: NodeProto, above: int) -> int:
    newest = onnx.defs.onnx_opset_version()
    versions = range(above + 1, newest + 1)
    return next((v for v in versions if onnx.defs.has(node.op_type, v, node.domain)), newest)


def check_operators(graph: GraphProto, *, framework: str) -> None:
    """Raise ExportError naming the first nodes that ONNX has no operator for."""
    foreign = [f"{node.op_type} ({node.name or node.output[0]})" for node in foreign_nodes(graph)]
    if foreign:
        raise ExportError(
            f"{framework} operators that could not be converted: {first_few(foreign)}"
        )


def check_randomness(model: WeightedModel) -> None:
    """Raise ExportError naming the nodes that draw random numbers.

    Two correct runs differ then, so nothing can be verified.
    """
    constants = {t.name: t for t in model.skeleton.graph.initializer}
    random = [
        f"{node.op_type} ({node.name or node.output[0]})"
        for node in all_nodes(model.skeleton.graph)
        if node.op_type in RANDOM_OPS or _is_training_dropout(node, constants)
    ]
    if random:
        raise ExportError(
            f"the model draws random numbers in inference: {first_few(random)};"
            " no file can be compared with it: make it deterministic, or give the noise as an input"
        )


def _is_training_dropout(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    if node.op_type != "Dropout" or len(node.input) < 3 or not node.input[2]:
        return False
    mode = constants.get(node.input[2])
    return mode is None or bool(onnx.numpy_helper.to_array(mode).any())


def check_model(model: WeightedModel) -> None:
    """Run onnx.checker and strict shape inference. Raises ExportError.

    The large tensors are typed inputs here: their values do not matter for either, and parsing
    them again would take most of the time. ONNX Runtime reads them from the file.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model.skeleton)
    for name, array in model.tensors.items():
        dtype = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        copy.graph.input.append(onnx.helper.make_tensor_value_info(name, dtype, array.shape))
    try:
        onnx.checker.check_model(copy, full_check=True)
    except Exception as error:  # ValidationError, InferenceError, DecodeError share no base class
        raise ExportError(f"not a valid ONNX model: {first_line(error)}") from error
