"""Any ONNX model in ONNX Runtime: read into a graph, run as deployed, and run in parts."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from exporters import graph as onnx_graph
from parity.errors import GraphError, ParityError, PrecisionError
from parity.network.graph import Graph
from parity.numerics.distance import measure_error
from parity.runtimes.graph_framework import GraphHook, GraphRun, InputSpec
from parity.runtimes.graph_operations import GraphOperations
from parity.runtimes.onnx import device as onnx_device
from parity.runtimes.onnx import model_inputs, reader, sessions
from parity.runtimes.onnx.model_file import OnnxModel, load_model, read_names
from parity.runtimes.onnx.sessions import SessionSettings

Array = NDArray[Any]

_NARROWED = "/as-float32"
_WIDENED = "/from-float32"

_DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16", "tensor(bool)": "bool",
}  # fmt: skip


@dataclass
class SessionModel:
    """A model, and how its sessions are created."""

    model: OnnxModel
    settings: SessionSettings = field(default_factory=SessionSettings)

    def copy(self, settings: SessionSettings) -> SessionModel:
        """Return a second model, which has the same weights until they are written."""
        return SessionModel(replace(self.model, tensors=dict(self.model.tensors)), settings)


class ModelSessions(GraphOperations):
    """How ONNX Runtime describes, records and runs any ONNX model."""

    name = "onnx"

    subject: SessionModel

    def load_reference(
        self,
        *,
        reference: Mapping[str, Any],
        trust: Sequence[str] = (),
        custom_objects: str | None = None,
    ) -> dict[str, Any]:
        """Load any ONNX file, external data included; see `model_file.load_model`."""
        started = time.perf_counter()
        self.subject = SessionModel(load_model(Path(reference["target"])))
        return {"seconds": time.perf_counter() - started, "brings_weights": True}

    def describe_inputs(self) -> list[InputSpec]:
        return model_inputs.describe_inputs(self.subject.model)

    def example_inputs(self) -> dict[str, Array] | None:
        return None

    def record(self, inputs: Mapping[str, Array]) -> Graph:
        model = self.subject.model
        plan = reader.plan_model(model)
        feeds = model_inputs.fit_inputs(model, inputs)
        names = list(dict.fromkeys(plan.observed))
        unfused = replace(self.subject.settings, device="cpu", precision="float32", optimise=False)
        with _report_errors(model.source):
            session = _open_session(_with_outputs(model, names), unfused)[0]
            ends = [*dict.fromkeys((*names, *(value.name for value in model.graph.output)))]
            found = dict(zip(ends, session.run_with_ort_values(ends, _ort_values(feeds)),
                             strict=True))  # fmt: skip
            tensors = {name: value for name, value in found.items() if value.is_tensor()}
            shapes = {name: tuple(value.shape()) for name, value in tensors.items()}
            types = {name: _dtype(value.data_type()) for name, value in tensors.items()}
            values = {
                name: value.numpy()
                for name, value in tensors.items()
                if name in plan.static and types[name] != "bfloat16"
            }
        for name, array in (*feeds.items(), *model.tensors.items()):
            shapes[name], types[name] = array.shape, str(array.dtype)
        return reader.build_graph(model, plan, reader.Observation(shapes, types, values))

    def run_tensors(
        self,
        inputs: Mapping[str, Array],
        tensors: Collection[str],
        hook: GraphHook,
        *,
        model: Any = None,
        device: str = "cpu",
    ) -> GraphRun:
        """See `GraphFramework`. The final outputs are those of the graph as it is deployed; extra
        outputs keep the optimiser from fusing across them, and so the inner tensors are those of a
        second session. `instrumentation_gap` is the distance of its final outputs.

        From the first tensor that the hook replaces on, each part between replaced tensors is a
        session of its own.
        """
        subject: SessionModel = self.subject if model is None else model
        if device == "gpu":
            onnx_device.require_device(device)
        with _report_errors(subject.model.source):
            return _Run(subject, inputs, tensors).run(hook)

    def copy_to_precision(self, precision: str, device: str = "cpu") -> SessionModel:
        if precision == "float64":
            raise PrecisionError(
                "onnx: ONNX Runtime has no float64 convolutions; the float64 reading of an ONNX "
                "file is run by PyTorch"
            )
        if precision == "tf32" and device == "cpu":
            raise PrecisionError("onnx: tf32 is a precision of GPUs; expected float32 on the CPU")
        return self.subject.copy(replace(self.subject.settings, precision=precision, device=device))

    def open_whole_session(self, settings: SessionSettings) -> Any:
        """Return a session of the loaded file as it is deployed."""
        with _report_errors(self.subject.model.source):
            return _open_session(_with_outputs(self.subject.model, ()), settings)[0]

    def read_parameters(self, *, model: Any = None) -> dict[str, Array]:
        subject: SessionModel = self.subject if model is None else model
        return model_inputs.read_weights(subject.model)

    def write_parameters(self, values: Mapping[str, Array], *, model: Any = None) -> None:
        subject: SessionModel = self.subject if model is None else model
        model_inputs.write_weights(subject.model, values)


class _Run:
    """One run of a model, whose wanted tensors are computed when they are asked for."""

    def __init__(
        self, subject: SessionModel, inputs: Mapping[str, Array], tensors: Collection[str]
    ) -> None:
        self.subject, self.model, self.settings = subject, subject.model, subject.settings
        self.feeds = model_inputs.fit_inputs(self.model, inputs)
        self.outputs = [value.name for value in self.model.graph.output]
        self.producers = {
            name: node for node in self.model.graph.node for name in node.output if name
        }
        made = [*self.feeds, *self.model.tensors, *self.producers]
        unknown = sorted(set(tensors) - set(made))
        if unknown:
            raise GraphError(
                f"{self.model.source}: nothing makes the tensor {unknown[0]!r} "
                f"({len(unknown)} of {len(tensors)} missing)"
            )
        wanted = set(tensors)
        self.wanted = [name for name in made if name in wanted]
        self.replaced: dict[str, Array] = {}
        self.values: dict[str, Array] = {}
        self.details: dict[str, Any] = {}
        self.seconds = 0.0

    def run(self, hook: GraphHook) -> GraphRun:
        """Give the wanted tensors to the hook, in execution order."""
        for name in self.wanted:
            replacement = hook(name, self._compute(name))
            if replacement is not None:
                self.replaced[name] = np.asarray(replacement, order="C")
        device = "cuda" if self.settings.device == "gpu" else "cpu"
        return GraphRun(self.seconds, device, self.details)

    def _compute(self, name: str) -> Array:
        if name in self.feeds:
            return self.feeds[name]
        if name in self.model.tensors:
            return self.model.tensors[name]
        if self.replaced:
            nodes, cuts = _find_part(self.model, self.producers, name, self.replaced)
            if any(cut in self.replaced for cut in cuts):
                return self._run_part(name, nodes, cuts)
        if name not in self.values:
            self._run_whole()
        return self.values[name]

    def _run_whole(self) -> None:
        """Run the graph as it is deployed, and with the wanted tensors as outputs."""
        inner = [name for name in self.wanted if name in self.producers]
        inner = [name for name in inner if name not in self.outputs]
        self._run_plain()
        if inner:
            types = self._types(inner)
            model = _with_outputs(self.model, inner, types)
            session, _ = _open_session(model, self.settings)
            names = [_readable(name, types) for name in inner]
            found = session.run([*names, *self.outputs], self.feeds)
            self.values.update(zip(inner, found, strict=False))
            self._measure_gap(found[len(inner) :])

    def _run_plain(self) -> None:
        started = time.perf_counter()
        outputs = self._types(self.outputs)
        session, flags = _open_session(_with_outputs(self.model, [], outputs), self.settings)
        self.details |= {"session_seconds": time.perf_counter() - started, "flags": flags}
        started = time.perf_counter()
        found = session.run([_readable(name, outputs) for name in self.outputs], self.feeds)
        self.seconds = time.perf_counter() - started
        proof: dict[str, Any] = {"providers": session.get_providers()}
        if self.settings.device == "gpu":
            placement = onnx_device.node_placement(session)
            onnx_device.require_no_compute_fallback(placement)
            proof |= placement
        self.details["proof"] = proof
        self.values.update(zip(self.outputs, found, strict=True))

    def _measure_gap(self, instrumented: Sequence[Array]) -> None:
        """Note the largest distance between the final outputs of both sessions."""
        errors = [
            measure_error(actual=_wide(actual), expected=_wide(self.values[name]))
            for name, actual in zip(self.outputs, instrumented, strict=True)
            if isinstance(actual, np.ndarray) and actual.size
        ]
        if errors:
            worst = max(errors, key=lambda error: error.rel_l2)
            self.details["instrumentation_gap"] = {
                "max_abs": worst.max_abs,
                "rel_l2": worst.rel_l2,
            }

    def _run_part(self, name: str, nodes: Sequence[NodeProto], cuts: Sequence[str]) -> Array:
        """Run the nodes that compute a tensor from the replaced ones and the inputs."""
        feeds = {cut: self.replaced.get(cut, self.feeds.get(cut)) for cut in cuts}
        arrays = {cut: array for cut, array in feeds.items() if array is not None}
        types = self._types([*arrays, name])
        part, inputs = _extract(self.model, nodes, arrays, name, types)
        session, _ = _open_session(part, replace(self.settings, exact_operands=True))
        (found,) = session.run([_readable(name, types)], inputs)
        return np.asarray(found)

    def _types(self, names: Sequence[str]) -> dict[str, str]:
        """Return the dtypes of tensors, which only sessions know of operators that are not ONNX's.

        Needed where NumPy lacks the type, and where the model is cast to another precision.
        """
        low = self.settings.precision in ("float16", "bfloat16")
        if not low and not _has_bfloat16(self.model):
            return {}
        if not hasattr(self, "known_types"):
            plain = replace(self.settings, device="cpu", precision="float32", optimise=False)
            every = [*dict.fromkeys([*self.wanted, *self.outputs])]
            made = [each for each in every if each in self.producers]
            session, _ = _open_session(_with_outputs(self.model, made), plain)
            self.known_types = {
                each.name: _dtype(each.type)
                for each in (*session.get_outputs(), *session.get_inputs())
            }
        return {name: self.known_types[name] for name in names if name in self.known_types}


def _find_part(
    model: OnnxModel,
    producers: Mapping[str, NodeProto],
    target: str,
    cuts: Collection[str],
) -> tuple[list[NodeProto], list[str]]:
    """Return the nodes that compute a tensor from `cuts` and the inputs, and those that they read.

    The target itself is computed even if it is one of the cuts.
    """
    inputs = {value.name for value in model.inputs}
    needed, used = {target}, dict[str, None]()
    pending, kept = [target], set[int]()
    while pending:
        name = pending.pop()
        node = producers.get(name)
        if node is None or id(node) in kept:
            continue
        kept.add(id(node))
        for read in read_names(node):
            if read in cuts or read in inputs:
                used[read] = None
            elif read not in needed:
                needed.add(read)
                pending.append(read)
    every = {id(node): node for node in model.graph.node}
    return [node for key, node in every.items() if key in kept], list(used)


def _extract(
    model: OnnxModel,
    nodes: Sequence[NodeProto],
    arrays: Mapping[str, Array],
    target: str,
    types: Mapping[str, str],
) -> tuple[onnx_graph.WeightedModel, dict[str, Array]]:
    """Return a model of some nodes that reads `arrays`, and its inputs by name."""
    part = ModelProto()
    part.CopyFrom(_shell(model))
    feeds: dict[str, Array] = {}
    renamed: dict[str, str] = {}
    for name, array in arrays.items():
        renamed[name] = f"{name}/fed"
        source = renamed[name]
        if types.get(name) == "bfloat16":
            source += _WIDENED
            part.graph.node.append(
                helper.make_node("Cast", [source], [renamed[name]], to=TensorProto.BFLOAT16)
            )
        feeds[source] = array
        element = helper.np_dtype_to_tensor_dtype(array.dtype)
        part.graph.input.append(helper.make_tensor_value_info(source, element, None))
    for node in nodes:
        copy = part.graph.node.add()
        copy.CopyFrom(node)
        _rename_reads(copy, renamed)
    names = {name for node in nodes for name in read_names(node)}
    tensors = {name: array for name, array in model.tensors.items() if name in names}
    weighted = replace(model, skeleton=part, tensors=tensors)
    return _with_outputs(weighted, [target], types), feeds


def _rename_reads(node: NodeProto, renamed: Mapping[str, str]) -> None:
    """Let a node, and the graphs that it holds, read other tensors."""
    for index, name in enumerate(node.input):
        node.input[index] = renamed.get(name, name)
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            inside = {value.name for value in graph.input}
            inside |= {name for each in graph.node for name in each.output}
            outer = {old: new for old, new in renamed.items() if old not in inside}
            for each in graph.node:
                _rename_reads(each, outer)
            for value in graph.output:
                value.name = outer.get(value.name, value.name)


def _shell(model: OnnxModel) -> ModelProto:
    """Return the model's versions, with an empty graph."""
    shell = ModelProto(ir_version=model.skeleton.ir_version)
    shell.opset_import.extend(model.skeleton.opset_import)
    shell.graph.name = model.graph.name or "graph"
    return shell


def _with_outputs(
    model: OnnxModel, names: Sequence[str], types: Mapping[str, str] | None = None
) -> onnx_graph.WeightedModel:
    """Return the model with more outputs; those of a type that NumPy lacks are cast to float32.

    `types` are the dtypes that are known.
    """
    skeleton = ModelProto()
    skeleton.CopyFrom(model.skeleton)
    graph = skeleton.graph
    present = {value.name for value in graph.output}
    for name in (*present, *names):
        if (types or {}).get(name) == "bfloat16":
            graph.node.append(
                helper.make_node("Cast", [name], [name + _NARROWED], to=TensorProto.FLOAT)
            )
            graph.output.append(
                helper.make_tensor_value_info(name + _NARROWED, TensorProto.FLOAT, None)
            )
        elif name not in present:
            graph.output.append(_value_info(name, (types or {}).get(name, "")))
    return _weighted(skeleton, model.tensors)


def _value_info(name: str, dtype: str) -> onnx.ValueInfoProto:
    if not dtype:
        # ONNX Runtime infers the type.
        return onnx.ValueInfoProto(name=name)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, element, None)


def _weighted(skeleton: ModelProto, tensors: Mapping[str, Array]) -> onnx_graph.WeightedModel:
    """Return a deployable model; scalars, and types that NumPy lacks, are in its message."""
    plain: dict[str, Array] = {}
    for name, array in tensors.items():
        if array.ndim and array.dtype.kind in "fiub" and array.dtype.isbuiltin == 1:
            plain[name] = array
        else:
            skeleton.graph.initializer.append(numpy_helper.from_array(array, name))
    return onnx_graph.WeightedModel(skeleton, plain)


def _open_session(model: onnx_graph.WeightedModel, settings: SessionSettings) -> tuple[Any, Any]:
    return sessions.create_session(model, settings)


def _readable(name: str, types: Mapping[str, str]) -> str:
    return name + _NARROWED if types.get(name) == "bfloat16" else name


def _has_bfloat16(model: OnnxModel) -> bool:
    values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    return any(array.dtype.name == "bfloat16" for array in model.tensors.values()) or any(
        value.type.tensor_type.elem_type == TensorProto.BFLOAT16 for value in values
    )


def _ort_values(feeds: Mapping[str, Array]) -> dict[str, Any]:
    import onnxruntime as ort

    return {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}


def _dtype(name: str) -> str:
    return _DTYPES.get(name, name.removeprefix("tensor(").removesuffix(")"))


def _wide(array: Array) -> Array:
    return np.asarray(array, np.float64)


@contextmanager
def _report_errors(source: str) -> Iterator[None]:
    """Turn ONNX Runtime's errors into a `GraphError` of one line, which names the file."""
    try:
        yield
    except ParityError:
        raise
    except Exception as error:  # its errors have no class in common
        reason = " ".join(str(error).split())[:400]
        raise GraphError(f"{source}: ONNX Runtime: {reason}") from error
