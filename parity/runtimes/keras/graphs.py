"""Keras models as graphs: described, recorded, copied, run at the tensors of their graph."""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from parity.errors import GraphError, InputError, UsageError, WeightError
from parity.network.arrays import join_complex, split_complex
from parity.network.graph import Graph, Port, Tensor
from parity.numerics.npz import load_npz
from parity.processes.graph_requests import ExportRequest
from parity.runtimes.graph_framework import GraphHook, GraphRun, InputSpec
from parity.runtimes.graph_operations import GraphOperations
from parity.runtimes.keras import device as keras_device
from parity.runtimes.keras import doors, source_lines
from parity.runtimes.keras.graph_builder import build_graph
from parity.runtimes.keras.recorder import Recorder
from parity.runtimes.keras.replicas import Replica, is_floating
from parity.runtimes.keras.variables import name_variables, raw_variable
from parity.runtimes.loaded import LoadedModel

Array = NDArray[Any]

# Before any model of the user's is built.
source_lines.keep_lines()


class KerasGraphs(GraphOperations):
    """`GraphFramework` for the one Keras model of a child."""

    model: Any
    example: Mapping[str, Array] | None = None
    """The example inputs that came with the model, by name."""
    loaded_example: Any | None = None
    """The same as the user's code gave it, of any structure."""

    recorded_inputs: Mapping[str, Array]
    """The inputs of the last record."""

    _reads_functions: bool = True
    """Whether the operations of the model's `tf.function`s are a part of its graph."""

    def keep_example(self, loaded: LoadedModel) -> None:
        self.example = None
        if loaded.example is not None:
            self.use_example(loaded.example)

    def describe_inputs(self) -> list[InputSpec]:
        return describe_inputs(self.model, self.example)

    def example_inputs(self) -> dict[str, Array] | None:
        return None if self.example is None else dict(self.example)

    def use_example(self, example: Any) -> None:
        """Keep the example inputs that came with the model: a tensor, several, or by name.

        Raises `UsageError` for anything else.
        """
        self.example = name_example(self.model, example)

    def guess_inputs(
        self, *, shapes: list[list[int]], dtypes: Sequence[str] = (), enough: int = 64
    ) -> dict[str, Any]:
        """Return the one candidate for a subclassed model: these shapes, images channels last.

        Its layers are built by their first call, so that no second one can be tried. `dtypes` are
        those of the shapes, where they are another model's; else float32.
        """
        names = _input_names(self.model)
        if len(shapes) < len(names):
            raise InputError(
                f"the model takes {', '.join(names)}: expected {len(names)} shapes, "
                f"found {len(shapes)}"
            )
        types = [*dtypes, *("float32" for _ in shapes[len(dtypes) :])]
        candidate = [
            {"name": name, "shape": _to_channels_last(shape), "dtype": dtype}
            for name, shape, dtype in zip(names, shapes, types, strict=False)
        ]
        return {"candidates": [candidate]}

    def record(self, inputs: Mapping[str, Array]) -> Graph:
        self.recorded_inputs = dict(inputs)
        # Where there is a GPU, TensorFlow would compute there.
        with keras_device.device_scope("cpu"):
            graph, self._reads_functions = record(self.model, inputs, self.describe_inputs())
        return graph

    def describe_record(self) -> Any:
        return self._reads_functions

    def restore_record(self, inputs: Mapping[str, Array], record: Any) -> None:
        self.recorded_inputs = dict(inputs)
        self._reads_functions = record

    def run_tensors(
        self,
        inputs: Mapping[str, Array],
        tensors: Collection[str],
        hook: GraphHook,
        *,
        model: Replica | None = None,
        device: str = "cpu",
    ) -> GraphRun:
        with keras_device.device_scope(device):
            return run_tensors(self.model, inputs, tensors, hook, model, self.describe_inputs(),
                               reads_functions=self._reads_functions)  # fmt: skip

    def copy_to_precision(self, precision: str, device: str = "cpu") -> Replica:
        keras_device.require_device(device)
        if precision == "float64":
            keras_device.require_float64()
        keras_device.pin_flags(precision, device)
        dtype = "float32" if precision == "tf32" else precision
        return Replica(self.model, dtype, device)

    def trace_export(self, inputs: str, opset: int | None) -> Any:
        from exporters import keras_onnx

        options: dict[str, Any] = {} if opset is None else {"opset": opset}
        if not _is_functional(self.model):
            arrays = load_npz(inputs)
            if not self.model.built:
                # A subclass has its weights after its first call.
                self.record(arrays)
            # It states no types: of integers, these are those of the inputs.
            args, kwargs = _bind_call(self.model, order_inputs(arrays, self.describe_inputs()))
            options["sample"] = kwargs or (args[0] if len(args) == 1 else tuple(args))
            if args and kwargs:
                names = [each.name for each in _parameters(self.model)]
                options["sample"] = {**dict(zip(names, args, strict=False)), **kwargs}
        return keras_onnx.trace(self.model, **options)

    def read_export_weights(self) -> Mapping[str, Any]:
        from exporters import keras_onnx

        return keras_onnx.weights(self.model)

    def export_file(self, request: ExportRequest) -> Any:
        from exporters import keras_onnx

        for name, axes in request.dynamic.items():
            if any(size and size != "batch" for size in axes.values()):
                raise UsageError(
                    f"--dynamic {name}: the sizes of a Keras model have no names; give the axes "
                    f"alone, as in --dynamic {name}=1,2"
                )
        example = self.loaded_example
        if request.inputs is not None:
            arrays = load_npz(request.inputs)
            example = arrays if len(arrays) > 1 else next(iter(arrays.values()))
        return keras_onnx.export(
            self.model,
            Path(request.path),
            example=example,
            shapes=dict(request.shapes),
            dynamic={name: list(axes) for name, axes in request.dynamic.items()},
            **request.exporter_options(),
        )

    def read_parameters(self, *, model: Replica | None = None) -> dict[str, Array]:
        return {
            name: np.array(raw_variable(variable))
            for name, variable in self._variables(model).items()
            if is_floating(variable)
        }

    def write_parameters(
        self, values: Mapping[str, Array], *, model: Replica | None = None
    ) -> None:
        write_parameters(self._variables(model), values)

    def _variables(self, model: Replica | None) -> Mapping[str, Any]:
        return name_variables(self.model) if model is None else model.variables


# Inputs ------------------------------------------------------------------------------------------


def describe_inputs(model: Any, example: Mapping[str, Array] | None = None) -> list[InputSpec]:
    """Return the inputs that a model states, or that its example shows."""
    if _is_functional(model):
        found = [
            InputSpec(name, tuple(tensor.shape), str(tensor.dtype), "declared")
            for name, tensor in name_inputs(model)
        ]
        if example is not None and set(example) == {spec.name for spec in found}:
            return [_add_example(spec, example[spec.name]) for spec in found]
        return found
    if example is not None:
        return [
            InputSpec(name, tuple(array.shape), str(array.dtype), "example")
            for name, array in example.items()
        ]
    return [InputSpec(name, None, "", "unknown") for name in _input_names(model)]


def _add_example(spec: InputSpec, array: Array) -> InputSpec:
    """Return what a model declares, with an example's lengths where it leaves several axes open."""
    shape = spec.shape or ()
    if sum(length is None for length in shape[1:]) and len(shape) == array.ndim:
        return InputSpec(spec.name, tuple(array.shape), spec.dtype, "example")
    return spec


def _is_functional(model: Any) -> bool:
    """Return whether a model was built of symbolic tensors, so that it states its inputs."""
    return bool(hasattr(_functional(model), "_inputs_struct"))


def _functional(model: Any) -> Any:
    if isinstance(model, keras.Sequential):
        return model._functional
    return model


def name_inputs(model: Any) -> list[tuple[str, Any]]:
    """Return the names and symbolic tensors of a functional model's inputs, in its own order."""
    functional = _functional(model)
    struct = functional._inputs_struct
    if isinstance(struct, dict):
        return [(str(key), struct[key]) for key in struct]
    names: list[tuple[str, Any]] = []
    for tensor in keras.tree.flatten(struct):
        operation = getattr(getattr(tensor, "_keras_history", None), "operation", None)
        name = operation.name if operation is not None else tensor.name
        names.append((str(name), tensor))
    return names


def _parameters(model: Any) -> list[inspect.Parameter]:
    """Return the parameters of a model's `call`, but for those that Keras fills in.

    A mask without a default is the user's own.
    """
    signature = inspect.signature(model.call)
    return [
        p
        for p in signature.parameters.values()
        if p.name != "training" and (p.name != "mask" or p.default is p.empty)
    ]


def _required_names(model: Any) -> list[str]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [p.name for p in _parameters(model) if p.default is p.empty and p.kind not in kinds]


def _input_names(model: Any) -> list[str]:
    """Return the names of the inputs that a subclassed model needs.

    A model that was called before, with a list or a dictionary as its one argument, has as many.
    """
    names = _required_names(model)
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    if len(names) != 1 or len(shapes) != 1:
        return names
    (shape,) = shapes.values()
    if isinstance(shape, Mapping):
        return [str(key) for key in shape]
    if (
        isinstance(shape, tuple | list)
        and shape
        and all(isinstance(s, tuple | list) for s in shape)
    ):
        return _name_in_order(names, len(shape))
    return names


def _name_in_order(names: Sequence[str], count: int) -> list[str]:
    """Return as many names as there are values, of which the last ones may have none."""
    return [*names, *(f"input_{index}" for index in range(len(names), count))]


def _to_channels_last(shape: Sequence[int]) -> list[int]:
    """Return the shape (N, H, W, C) of a batch of images (N, C, H, W); any other as it is."""
    is_image = len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3)
    return [shape[0], *shape[2:], shape[1]] if is_image else list(shape)


def name_example(model: Any, example: Any) -> dict[str, Array]:
    """Return example inputs by the names of the model's inputs; raises `UsageError`."""
    if isinstance(example, Mapping):
        named = dict(example)
    else:
        values = example if isinstance(example, tuple | list) else (example,)
        if _is_functional(model):
            names = [name for name, _ in name_inputs(model)]
        else:
            names = [p.name for p in _parameters(model)]
        named = dict(zip(_name_in_order(names, len(values)), values, strict=False))
    found = {}
    for name, value in named.items():
        try:
            found[str(name)] = np.asarray(keras.ops.convert_to_numpy(value))
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"the example input {name!r} is a {type(value).__name__}: "
                "expected a tensor or an array"
            ) from error
    return found


def _check_inputs(inputs: Mapping[str, Array], specs: Sequence[InputSpec]) -> None:
    """Raise `InputError` for a name, a rank or a length that the model does not take."""
    expected = ", ".join(spec.name for spec in specs) or "none"
    for name in inputs:
        if name not in {spec.name for spec in specs}:
            raise InputError(f"the model has no input {name!r}; it takes {expected}")
    for spec in specs:
        if spec.name not in inputs:
            raise InputError(f"the model's input {spec.name!r} is missing; it takes {expected}")
        shape = inputs[spec.name].shape
        if spec.origin != "declared" or spec.shape is None:
            continue
        fits = len(shape) == len(spec.shape) and all(
            wanted in (None, length) for wanted, length in zip(spec.shape, shape, strict=False)
        )
        if not fits:
            raise InputError(
                f"the model's input {spec.name!r} has the shape {spec.shape}, found {shape}"
            )


def bind_inputs(
    model: Any, recorder: Recorder, inputs: Mapping[str, Array]
) -> tuple[list[Any], dict[str, Any], list[tuple[str, str, Any]]]:
    """Return the arguments of the model's call, and the name, the id and the tensor of each input.

    Integers and truth values keep their dtype.
    """
    tf = importlib.import_module("tensorflow")
    bound: dict[str, Any] = {}
    described: list[tuple[str, str, Any]] = []
    for index, (name, array) in enumerate(inputs.items()):
        tensor = tf.constant(np.ascontiguousarray(array).reshape(array.shape))
        identifier, bound[name] = recorder.add_input(index, tensor)
        described.append((name, identifier, tensor))
    if _is_functional(model):
        struct = _functional(model)._inputs_struct
        names = [name for name, _ in name_inputs(model)]
        if isinstance(struct, dict):
            return [bound], {}, described
        values = [bound[name] for name in names]
        if len(values) == 1 and not isinstance(struct, list | tuple):
            return values, {}, described
        return [values[0] if len(values) == 1 else values], {}, described
    return (*_bind_call(model, bound), described)


def _bind_call(model: Any, bound: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a subclass's `call`: by its names, or all in its first argument."""
    parameters = _parameters(model)
    names = [p.name for p in parameters]
    if set(bound) <= set(names):
        first = parameters[0].name if parameters else ""
        rest = {name: tensor for name, tensor in bound.items() if name != first}
        return ([bound[first]] if first in bound else []), rest
    if len(bound) > 1 and len(_required_names(model)) == 1:
        # Values without names have the argument's own, and numbers.
        is_list = list(bound) == _name_in_order(names[:1], len(bound))
        return [list(bound.values()) if is_list else dict(bound)], {}
    return list(bound.values()), {}


# Recording ---------------------------------------------------------------------------------------


def record(
    model: Any, inputs: Mapping[str, Array], specs: Sequence[InputSpec]
) -> tuple[Graph, bool]:
    """Run a model once, in inference mode; return the graph of what it computed, and whether the
    operations of its `tf.function`s are in it.

    They are if they give the same bits when they run one by one; otherwise each function is opaque.
    """
    doors.require_doors()
    ordered = order_inputs(inputs, specs)
    _build(model, ordered)
    recorder, graph, output = _record(model, ordered, specs, reads_functions=True)
    if recorder.has_functions and not _is_same(output, _run_plainly(model, ordered)):
        recorder, graph, _ = _record(model, ordered, specs, reads_functions=False)
        return graph, False
    return graph, True


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two outputs of a model have the same bits."""
    first, second = (list(_iterate_leaves(output, "")) for output in (one, other))
    return len(first) == len(second) and all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for (_, a), (_, b) in zip(first, second, strict=True)
    )


def _record(
    model: Any, inputs: Mapping[str, Array], specs: Sequence[InputSpec], *, reads_functions: bool
) -> tuple[Recorder, Graph, Any]:
    recorder = Recorder(model, observe=True, reads_functions=reads_functions)
    args, kwargs, described = bind_inputs(model, recorder, inputs)
    with _explain_errors():
        output = recorder.run(model, args, kwargs)
    declared = {spec.name: spec.shape for spec in specs if spec.origin == "declared"}
    ports = [Port(name, found, declared.get(name) or ()) for name, found, _ in described]
    tensors = {
        found: Tensor(found, tuple(tensor.shape), tensor.dtype.name)
        for _, found, tensor in described
    }
    results, notes = [], []
    for name, tensor in name_outputs(model, output):
        found = recorder.find_id(tensor)
        if found:
            results.append(Port(name, found))
        else:
            notes.append(f"the output {name!r} depends on no input")
    graph = build_graph(recorder, ports, results, tensors)
    return recorder, replace(graph, notes=(*graph.notes, *notes)), output


def order_inputs(inputs: Mapping[str, Array], specs: Sequence[InputSpec]) -> dict[str, Array]:
    """Return the inputs in the model's order; raises `InputError` where they do not fit it."""
    if not any(spec.origin == "unknown" for spec in specs):
        _check_inputs(inputs, specs)
        return {spec.name: inputs[spec.name] for spec in specs}
    names = [spec.name for spec in specs]
    return {name: inputs[name] for name in sorted(inputs, key=_rank_names(names, list(inputs)))}


def _rank_names(known: Sequence[str], given: Sequence[str]) -> Any:
    places = {name: place for place, name in enumerate([*known, *given][::-1])}
    return lambda name: -places[name]


def build_model(model: Any, inputs: Mapping[str, Array], specs: Sequence[InputSpec]) -> None:
    """Run a model on inputs if it has layers without variables yet."""
    _build(model, order_inputs(inputs, specs))


def _build(model: Any, inputs: Mapping[str, Array]) -> None:
    """Run a model that has layers without variables yet, so that they have them.

    Its `tf.function`s run as Python: one that creates a layer's variables while it is compiled
    keeps their first values for good.
    """
    if all(layer.built for layer in model._flatten_layers()):
        return
    recorder = Recorder(model)
    args, kwargs, _ = bind_inputs(model, recorder, inputs)
    with _explain_errors():
        recorder.run(model, args, kwargs)


def _run_plainly(model: Any, inputs: Mapping[str, Array]) -> Any:
    """Run a model as its user does, and return its output."""
    args, kwargs, _ = bind_inputs(model, Recorder(model), inputs)
    with _explain_errors():
        return model(*args, **kwargs, training=False)


def name_outputs(model: Any, output: Any) -> list[tuple[str, Any]]:
    """Return the tensors of a model's output by name: keys, Keras's names, or their places."""
    leaves = list(_iterate_leaves(output, ""))
    names = list(getattr(_functional(model), "output_names", ()) or ())
    is_keyed = any(isinstance(part, str) and not part.isdigit() for path, _ in leaves for part in
                   path.split("."))  # fmt: skip
    if not (is_keyed and leaves[0][0]) and len(names) == len(leaves):
        return list(zip(_make_unique(names), (tensor for _, tensor in leaves), strict=True))
    if len(leaves) == 1 and not leaves[0][0]:
        return [("output", leaves[0][1])]
    return [(f"output_{path}" if path.isdigit() else path, tensor) for path, tensor in leaves]


def _make_unique(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        number, unique = 1, name
        while unique in found:
            number += 1
            unique = f"{name}:{number}"
        found.append(unique)
    return found


def _iterate_leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        members: Any = value.items()
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        members = zip(value._fields, value, strict=True)
    elif isinstance(value, tuple | list):
        members = enumerate(value)
    elif hasattr(value, "__dataclass_fields__"):
        members = ((name, getattr(value, name)) for name in value.__dataclass_fields__)
    else:
        if keras.ops.is_tensor(value):
            yield path, value
        return
    for key, member in members:
        yield from _iterate_leaves(member, f"{path}.{key}" if path else str(key))


@contextmanager
def _explain_errors() -> Iterator[None]:
    """Raise `GraphError` in the place of an error of the model, with its line."""
    try:
        yield
    except GraphError:
        raise
    except Exception as error:
        if keras_device.is_out_of_memory(error):
            raise
        where = source_lines.locate_error(error) or "the model"
        reason = " ".join(str(error).split())[:300]
        raise GraphError(
            f"{where}: {type(error).__name__}: {reason}; do the inputs' shapes and dtypes fit the "
            "model?"
        ) from error


# Running -----------------------------------------------------------------------------------------


def run_tensors(
    model: Any,
    inputs: Mapping[str, Array],
    tensors: Collection[str],
    hook: GraphHook,
    replica: Replica | None,
    specs: Sequence[InputSpec],
    *,
    reads_functions: bool = True,
) -> GraphRun:
    """Run once, with the weights of `replica` if there is one; give tensors to `hook`."""
    ordered = order_inputs(inputs, specs)
    if replica is None:
        return _run(model, ordered, tensors, hook, reads_functions=reads_functions)
    with replica.applied():
        return _run(
            model, ordered, tensors, hook, widen=replica.dtype == "float64", runs_copy=True,
            reads_functions=reads_functions,
        )  # fmt: skip


def _run(
    model: Any, inputs: Mapping[str, Array], tensors: Collection[str], hook: GraphHook,
    **options: bool,
) -> GraphRun:  # fmt: skip
    tf = importlib.import_module("tensorflow")
    missing = set(tensors)

    def receive(identifier: str, tensor: Any) -> Any:
        if identifier not in missing:
            return None
        missing.discard(identifier)
        array = tensor.numpy() if tensor.dtype != tf.bfloat16 else np.asarray(tensor, np.float32)
        if options.get("widen") and "<" in identifier and array.dtype == np.float32:
            array = np.asarray(array, np.float64)
        other = hook(identifier, split_complex(np.asarray(array)))
        if other is None:
            return None
        if tensor.dtype.is_complex:
            other = join_complex(other)
        if tuple(other.shape) != tuple(tensor.shape):
            raise GraphError(f"{identifier}: it has the shape {tensor.shape}, given {other.shape}")
        return tf.constant(other, tensor.dtype)

    operands = any("<" in identifier for identifier in tensors)
    recorder = Recorder(model, hook=receive, gives_operands=operands, **options)
    with _explain_errors():
        args, kwargs, _ = bind_inputs(model, recorder, inputs)
        started = time.perf_counter()
        output = recorder.run(model, args, kwargs)
        seconds = time.perf_counter() - started
    missing = {identifier for identifier in missing if "<" not in identifier}
    if missing:
        raise GraphError(
            f"this run did not compute {', '.join(sorted(missing)[:5])}: on this input or in this "
            "precision the model took another path"
        )
    results = [tensor for _, tensor in name_outputs(model, output)]
    return GraphRun(seconds, keras_device.device_of(results[-1]) if results else "")


# Weights -----------------------------------------------------------------------------------------


def write_parameters(variables: Mapping[str, Any], values: Mapping[str, Array]) -> None:
    """Set weights by name, and compare every bit with what the variable then has."""
    for name, value in values.items():
        variable = variables.get(name)
        if variable is None:
            raise WeightError(f"{name}: the model has no such weight")
        raw = raw_variable(variable)
        if tuple(raw.shape) != value.shape:
            raise WeightError(f"{name}: expected {tuple(raw.shape)}, found {value.shape}")
        wanted = np.asarray(value, raw.dtype.as_numpy_dtype, order="C")
        raw.assign(wanted)
        actual = np.ascontiguousarray(np.asarray(raw)).reshape(-1)
        # As whole words, since NumPy compares single bytes at a fourth of the speed.
        word = f"u{min(wanted.itemsize, 8)}"
        if not np.array_equal(actual.view(word), wanted.reshape(-1).view(word)):
            raise WeightError(f"{name}: Keras holds other bits than it was given")
