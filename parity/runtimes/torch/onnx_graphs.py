"""The float64 reading of an ONNX file: read, recorded and run by PyTorch instead of ONNX Runtime.

It is the reference where no framework's model is compared, and what the floors are measured on.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, shape_inference

from parity.errors import GraphError, PrecisionError, UsageError
from parity.network.graph import Graph
from parity.runtimes.graph_framework import GraphHook, GraphRun, InputSpec
from parity.runtimes.graph_operations import GraphOperations
from parity.runtimes.onnx import model_inputs, reader
from parity.runtimes.onnx.model_file import OnnxModel, load_model
from parity.runtimes.torch import onnx_evaluator

Array = NDArray[Any]


@dataclass(frozen=True)
class Program:
    """A model and the floating dtype that all of it is computed in."""

    model: OnnxModel
    dtype: str = "float32"


class OnnxReading(GraphOperations):
    """How PyTorch describes, records and runs an ONNX file."""

    name = "torch"

    def __init__(self, path: str | Path) -> None:
        self.program = Program(load_model(path))

    def describe_inputs(self) -> list[InputSpec]:
        return model_inputs.describe_inputs(self.program.model)

    def example_inputs(self) -> dict[str, Array] | None:
        return None

    def record(self, inputs: Mapping[str, Array]) -> Graph:
        model = self.program.model
        plan = reader.plan_model(model)
        feeds = model_inputs.fit_inputs(model, inputs)
        types = infer_dtypes(model)
        shapes: dict[str, tuple[int, ...]] = {}
        dtypes: dict[str, str] = {}
        values: dict[str, Array] = {}

        def observe(name: str, array: Array) -> None:
            shapes[name] = array.shape
            dtypes[name] = types.get(name, str(array.dtype))
            if name in plan.static:
                values[name] = array

        names = [*feeds, *plan.observed]
        fallbacks = self._evaluate(self.program, feeds, names, observe, None)
        for name, array in model.tensors.items():
            shapes[name], dtypes[name] = array.shape, str(array.dtype)
        for name, array in feeds.items():
            dtypes[name] = types.get(name, str(array.dtype))
        graph = reader.build_graph(model, plan, reader.Observation(shapes, dtypes, values))
        if fallbacks:
            note = f"evaluated by onnx's reference implementation: {', '.join(sorted(fallbacks))}"
            graph = replace(graph, notes=(*graph.notes, note))
        return graph

    def run_tensors(
        self,
        inputs: Mapping[str, Array],
        tensors: Collection[str],
        hook: GraphHook,
        *,
        model: Any = None,
        device: str = "cpu",
    ) -> GraphRun:
        program: Program = self.program if model is None else model
        _require_cpu(device)
        # In the precision of the program: the file's own would round a float64 input.
        feeds = {
            name: inputs[name].astype(program.dtype) if array.dtype.kind == "f" else array
            for name, array in model_inputs.fit_inputs(program.model, inputs).items()
        }
        replacements: dict[str, Array] = {}

        def sink(name: str, array: Array) -> None:
            answer = hook(name, array)
            if answer is not None:
                replacements[name] = answer

        started = time.perf_counter()
        constants = [name for name in program.model.tensors if name in tensors]
        for name in constants:
            hook(name, program.model.tensors[name])
        made = [name for name in tensors if name not in constants]
        fallbacks = self._evaluate(program, feeds, made, sink, replacements)
        details = {"fallbacks": sorted(fallbacks)} if fallbacks else {}
        return GraphRun(time.perf_counter() - started, "cpu", details)

    def copy_to_precision(self, precision: str, device: str = "cpu") -> Program:
        _require_cpu(device)
        if precision not in onnx_evaluator.DTYPES:
            raise PrecisionError(
                f"an ONNX file read by PyTorch computes in {' or '.join(onnx_evaluator.DTYPES)}, "
                f"not in {precision}"
            )
        dtype = np.dtype(precision)
        tensors = {
            name: array.astype(dtype) if reader.is_floating(array) else array
            for name, array in self.program.model.tensors.items()
        }
        return Program(replace(self.program.model, tensors=tensors), precision)

    def read_parameters(self, *, model: Any = None) -> dict[str, Array]:
        program: Program = self.program if model is None else model
        return model_inputs.read_weights(program.model)

    def write_parameters(self, values: Mapping[str, Array], *, model: Any = None) -> None:
        program: Program = self.program if model is None else model
        model_inputs.write_weights(program.model, values)

    def _evaluate(
        self,
        program: Program,
        feeds: Mapping[str, Array],
        wanted: Collection[str],
        sink: onnx_evaluator.Sink,
        replacements: Mapping[str, Array] | None,
    ) -> set[str]:
        """Run once; return the operators that onnx.reference evaluated."""
        fallbacks: set[str] = set()
        try:
            onnx_evaluator.evaluate(
                program.model,
                feeds,
                dtype=program.dtype,
                sink=sink,
                wanted=wanted,
                replace=None if replacements is None else replacements.get,
                on_fallback=lambda operator, node: fallbacks.add(operator),
            )
        except UsageError as error:
            raise GraphError(f"{program.model.source}: {error}") from error
        return fallbacks


def infer_dtypes(model: OnnxModel) -> dict[str, str]:
    """Return the dtypes that ONNX's inference finds; the evaluation has one floating dtype."""
    skeleton = type(model.skeleton)()
    skeleton.CopyFrom(model.skeleton)
    for name, array in model.tensors.items():
        element = helper.np_dtype_to_tensor_dtype(array.dtype)
        skeleton.graph.input.append(helper.make_tensor_value_info(name, element, array.shape))
    try:
        skeleton = shape_inference.infer_shapes(skeleton)
    except Exception:  # noqa: BLE001 (its errors have no class in common; the types are a detail)
        return {}
    known = (*skeleton.graph.input, *skeleton.graph.value_info, *skeleton.graph.output)
    return {
        value.name: _dtype_name(value.type.tensor_type.elem_type)
        for value in known
        if value.type.tensor_type.elem_type not in (0, TensorProto.STRING)
    }


def _dtype_name(element: int) -> str:
    if element == TensorProto.BFLOAT16:
        return "bfloat16"
    return str(helper.tensor_dtype_to_np_dtype(element))


def _require_cpu(device: str) -> None:
    if device != "cpu":
        raise PrecisionError("an ONNX file is read by PyTorch on the CPU alone")
