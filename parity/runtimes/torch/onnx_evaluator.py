"""ONNX graphs evaluated in float64 with PyTorch, without float32 rounding.

ONNX Runtime has no float64 convolution and onnx's reference evaluator is far too slow for a
ResNeXt, so the graph is read into PyTorch, one function an operator. An operator without a
function is evaluated alone by onnx.reference, and that is reported to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, inliner
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from parity.errors import UsageError
from parity.runtimes.onnx.model_file import OnnxModel, read_attributes, read_names

# Imported for the operators that they register.
from parity.runtimes.torch import (  # noqa: F401
    onnx_fused_operators,
    onnx_index_operators,
    onnx_quantised_operators,
    onnx_recurrent_operators,
    onnx_shape_operators,
    onnx_window_operators,
)
from parity.runtimes.torch.onnx_control_flow import CONTROL_FLOW
from parity.runtimes.torch.onnx_operators import FLOATS, Call, Unsupported, find_operator
from parity.runtimes.torch.onnx_shape_operators import from_proto, share_array, to_tensor

Array = NDArray[Any]
Sink = Callable[[str, Array], None]

DTYPES = {"float32": torch.float32, "float64": torch.float64}
_FAILURES = (
    ArithmeticError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip


def evaluate(
    model: ModelProto | OnnxModel,
    inputs: Mapping[str, Array],
    *,
    dtype: str = "float64",
    sink: Sink | None = None,
    wanted: Collection[str] = (),
    replace: Callable[[str], Array | None] | None = None,
    on_fallback: Callable[[str, str], None] | None = None,
) -> dict[str, Array]:
    """Run a graph on the CPU and return its outputs by name.

    Every floating tensor (inputs, weights, constants) is cast to `dtype`: a Cast to float32 or
    float16 inside the graph and LayerNormalization's `stash_type` are ignored, since they would add
    rounding. Integers and booleans keep their types, and so a quantised part quantises as the file
    says. A float attribute (epsilon, alpha), which is a float32 in the file, is replaced by the
    decimal of six digits that rounds to it, if there is one; constants and weights are not.

    Nodes run in the order of the graph, and a tensor is freed after its last use. Each tensor of
    `wanted` is passed to `sink` when it is computed (without a sink, it is in the result, with the
    outputs). Where `replace(name)` returns an array for an input or a node's output, all consumers
    read that one ("teacher forcing"); the sink and the result still have the computed tensor. The
    arrays are read-only. `on_fallback(operator, node)` is called for every node that onnx.reference
    evaluates.

    Raises UsageError for inputs that do not fit the graph, a wanted tensor that the graph lacks, a
    replacement of another shape, and a node that cannot be evaluated.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype '{dtype}': expected one of {', '.join(DTYPES)}")
    if isinstance(model, ModelProto):
        if model.functions:
            model = inliner.inline_local_functions(model)
        graph, weights = model.graph, _Weights(model.graph, {}, DTYPES[dtype])
        opsets = {item.domain or "ai.onnx": item.version for item in model.opset_import}
    else:
        graph, opsets = model.graph, model.opsets
        weights = _Weights(graph, model.tensors, DTYPES[dtype])
    outputs = {value.name for value in graph.output}
    settings = _Settings(DTYPES[dtype], opsets, on_fallback)
    evaluation = _Evaluation(graph, settings, weights, {*outputs, *wanted})
    unknown = sorted(set(wanted) - evaluation.names)
    if unknown:
        raise UsageError(
            f"the graph makes no tensor '{unknown[0]}' ({len(unknown)} of {len(wanted)} missing)"
        )
    result: dict[str, Array] = {}
    feeds = _check_inputs(graph, weights.names, inputs)
    with torch.inference_mode():
        for name, tensor in evaluation.tensors(feeds, replace):
            if name not in outputs and name not in wanted:
                continue
            array = _read_only_array(tensor)
            if name in wanted and sink is not None:
                sink(name, array)
            if name in outputs or sink is None:
                result[name] = array
    return result


@dataclass(frozen=True)
class _Settings:
    """What is the same for a graph and for the graphs inside it."""

    dtype: torch.dtype
    opsets: Mapping[str, int]
    on_fallback: Callable[[str, str], None] | None


class _Weights:
    """The initializers of a graph, cast when they are read."""

    def __init__(self, graph: GraphProto, tensors: Mapping[str, Array], dtype: torch.dtype) -> None:
        self.protos = {proto.name: proto for proto in graph.initializer}
        self.tensors = tensors
        self.dtype = dtype
        self.names = self.protos.keys() | tensors.keys()

    def read(self, name: str) -> Tensor:
        try:
            if name in self.tensors:
                return share_array(self.tensors[name], self.dtype)
            return from_proto(self.protos[name], self.dtype)
        except Unsupported as error:
            raise UsageError(f"initializer '{name}': {error} are not evaluated") from error


class _Uses:
    """Which tensors each node of a graph reads, and the last node that reads each."""

    def __init__(self, graph: GraphProto) -> None:
        self.names = {value.name for value in graph.input}
        self.last: dict[str, int] = {}
        self.reads = [read_names(node) for node in graph.node]
        for index, node in enumerate(graph.node):
            self.names.update(name for name in node.output if name)
            self.last.update(dict.fromkeys(self.reads[index], index))


class _Evaluation:
    """One evaluation of a graph: the tensors in use, and the last node that reads each."""

    def __init__(
        self,
        graph: GraphProto,
        settings: _Settings,
        weights: _Weights,
        reported: set[str],
        outer: Callable[[str], Tensor | None] = lambda name: None,
        uses: _Uses | None = None,
    ) -> None:
        self.graph = graph
        self.settings = settings
        self.dtype = settings.dtype
        # Weights are cast when first read and dropped after the last time.
        self.weights = weights
        self.outer = outer
        self.values: dict[str, Tensor] = {}
        self.uses = _Uses(graph) if uses is None else uses
        self.names = self.uses.names
        # An output that nothing reads (the indices of a MaxPool, say) need not be computed.
        self.used = reported | self.uses.last.keys()
        self.inner: dict[int, tuple[GraphProto, _Uses]] = {}

    def tensors(
        self,
        inputs: Mapping[str, Array | Tensor],
        replace: Callable[[str], Array | None] | None = None,
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the inputs, every node's outputs when computed, and weights that are outputs."""
        for name, value in inputs.items():
            tensor = value if isinstance(value, Tensor) else to_tensor(value, self.dtype)
            self.values[name] = tensor
            yield name, tensor
            self._replace_value(name, tensor, replace)
        for index, node in enumerate(self.graph.node):
            outputs = self._run_node(node)
            for name, tensor in zip(node.output, outputs, strict=False):
                if not name:
                    continue
                self.values[name] = tensor
                yield name, tensor
                self._replace_value(name, tensor, replace)
            for name in {*self.uses.reads[index], *node.output}:
                if self.uses.last.get(name, index) <= index:
                    self.values.pop(name, None)
        for value in self.graph.output:
            if value.name not in self.names:
                yield value.name, self.load_tensor(value.name)

    def run(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the outputs of an inner graph, in order."""
        outputs = {value.name: None for value in self.graph.output}
        found = {name: tensor for name, tensor in self.tensors(inputs) if name in outputs}
        return [found[value.name] for value in self.graph.output]

    def _replace_value(
        self, name: str, tensor: Tensor, replace: Callable[[str], Array | None] | None
    ) -> None:
        replacement = replace(name) if replace is not None else None
        if replacement is not None:
            self.values[name] = self._replace(name, tensor, replacement)

    def _run_node(self, node: NodeProto) -> tuple[Tensor, ...]:
        """Return a node's outputs, by a function of `OPERATORS` or by onnx.reference."""
        arguments = [self._load_argument(name, node) for name in node.input]
        domain = node.domain or "ai.onnx"
        opset = self.settings.opsets.get(domain, 1)
        function = find_operator(domain, node.op_type)
        reason = "no translation of this operator to PyTorch"
        try:
            if node.op_type in CONTROL_FLOW and domain == "ai.onnx":
                return CONTROL_FLOW[node.op_type](node, arguments, self._run_inner)
            if function is not None:
                used = [i for i, name in enumerate(node.output, 1) if name in self.used]
                counts = len(node.output), max(used, default=0)
                call = Call(read_attributes(node), opset, *counts, self.dtype)
                result = function(call, *arguments)
                return result if isinstance(result, tuple) else (result,)
        except Unsupported as error:
            reason = f"no translation of this form of it to PyTorch ({error})"
        except _FAILURES as error:
            shapes = ", ".join("-" if a is None else str(list(a.shape)) for a in arguments)
            raise UsageError(f"{_node_label(node)} on {shapes}: {_first_line(error)}") from error
        outputs = self._run_onnx_reference(node, opset, arguments, reason)
        if self.settings.on_fallback is not None:
            self.settings.on_fallback(node.op_type, node.name)
        return outputs

    def _run_inner(self, graph: GraphProto, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Run a graph that a node of this one holds; it can read this graph's tensors."""
        outputs = {value.name for value in graph.output}
        weights = _Weights(graph, {}, self.dtype)
        if id(graph) not in self.inner:
            # The graph is kept, so that no other one gets its id.
            self.inner[id(graph)] = graph, _Uses(graph)
        uses = self.inner[id(graph)][1]
        inner = _Evaluation(graph, self.settings, weights, outputs, self._find_tensor, uses)
        return inner.run(inputs)

    def _run_onnx_reference(
        self, node: NodeProto, opset: int, arguments: list[Tensor | None], reason: str
    ) -> tuple[Tensor, ...]:
        """Run one node with onnx.reference, on arrays of the evaluation's dtype.

        `reason` says why PyTorch does not, for the error.
        """
        if node.domain == "com.microsoft.nchwc":
            raise UsageError(
                f"{_node_label(node)}: ONNX Runtime wrote this file for one machine's blocked "
                "layout; save it with the optimisation level ORT_ENABLE_EXTENDED instead"
            )
        if any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute):
            # Casts and constants inside a branch would be float32 again.
            raise UsageError(f"{_node_label(node)}: operators with a subgraph are not evaluated")
        feeds = {
            name: tensor.numpy()
            for name, tensor in zip(node.input, arguments, strict=True)
            if tensor is not None
        }
        inputs = [helper.make_empty_tensor_value_info(name) for name in feeds]
        names = [name for name in node.output if name]
        outputs = [helper.make_empty_tensor_value_info(name) for name in names]
        graph = helper.make_graph([node], "node", inputs, outputs)
        imports = [helper.make_opsetid(node.domain, opset)]
        try:
            evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=imports))
            arrays = dict(zip(names, evaluator.run(None, feeds), strict=True))
            # An omitted optional output keeps its place.
            results = [to_tensor(arrays[n], self.dtype) if n else None for n in node.output]
        except (*_FAILURES, Unsupported) as error:
            raise UsageError(
                f"{_node_label(node)}: {reason}, and onnx.reference fails on it: "
                f"{_first_line(error)}"
            ) from error
        return tuple(torch.empty(0) if tensor is None else tensor for tensor in results)

    def _load_argument(self, name: str, node: NodeProto) -> Tensor | None:
        if not name:
            return None
        tensor = self._find_tensor(name)
        if tensor is None:
            raise UsageError(f"{_node_label(node)}: reads '{name}', which nothing before it makes")
        return tensor

    def _find_tensor(self, name: str) -> Tensor | None:
        """Return a tensor of this graph, or of the graphs around it."""
        if name not in self.values:
            if name not in self.weights.names:
                return self.outer(name)
            self.values[name] = self.weights.read(name)
        return self.values[name]

    def load_tensor(self, name: str) -> Tensor:
        """Return a tensor that exists; raises UsageError."""
        tensor = self._find_tensor(name)
        if tensor is None:
            raise UsageError(f"nothing makes the output '{name}'")
        return tensor

    def _replace(self, name: str, computed: Tensor, array: Array) -> Tensor:
        """Return a replacement as a tensor; raises UsageError for another shape."""
        if array.shape != tuple(computed.shape):
            raise UsageError(
                f"replacement of '{name}': expected shape {tuple(computed.shape)}, "
                f"found {array.shape}"
            )
        return to_tensor(array, self.dtype).to(computed.dtype)


def _check_inputs(
    graph: GraphProto, weights: Collection[str], inputs: Mapping[str, Array]
) -> Mapping[str, Array]:
    """Return the inputs; raises UsageError unless names, shapes and types fit the graph."""
    declared = {value.name: value.type.tensor_type for value in graph.input}
    missing = [name for name in declared if name not in inputs and name not in weights]
    extra = [name for name in inputs if name not in declared]
    if missing or extra:
        raise UsageError(
            f"inputs of the graph: expected {sorted(set(declared) - set(weights))}, "
            f"found {sorted(inputs)}"
        )
    for name, array in inputs.items():
        expected_type = declared[name]
        sizes = [d.dim_value if d.HasField("dim_value") else None for d in expected_type.shape.dim]
        fits = len(sizes) == array.ndim and all(
            size is None or size == length for size, length in zip(sizes, array.shape, strict=True)
        )
        if expected_type.HasField("shape") and not fits:
            expected = tuple(size or "?" for size in sizes)
            raise UsageError(f"input '{name}': expected shape {expected}, found {array.shape}")
        element = expected_type.elem_type
        if element and (element in FLOATS) != (array.dtype.kind in "fV"):
            expected = TensorProto.DataType.Name(element)
            raise UsageError(f"input '{name}': expected {expected}, found {array.dtype}")
    return inputs


def _read_only_array(tensor: Tensor) -> Array:
    array = np.asarray(tensor.numpy(), order="C")
    # The tensor may still be read by other nodes.
    array.setflags(write=False)
    return array


def _node_label(node: NodeProto) -> str:
    name = node.name or f"(making '{node.output[0] if node.output else ''}')"
    return f"{node.domain + '.' if node.domain else ''}{node.op_type} {name}"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
