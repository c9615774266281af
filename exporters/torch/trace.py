"""A PyTorch module traced to the structure of its ONNX graph.

The weights become inputs of the graph before it is optimised or serialised, so that none is
read, copied or folded. `graph.injection.inject` adds them afterwards, by their state-dict keys.
"""

from __future__ import annotations

import inspect
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from onnx import GraphProto, ModelProto
from torch.overrides import TorchFunctionMode

from exporters.errors import ExportError
from exporters.graph import checks, edits, sequences, simplification
from exporters.graph.model import convert_opset
from exporters.graph.structure import Structure, build_structure
from exporters.silence import silence_logging
from exporters.torch import diagnosis
from exporters.torch.arguments import Arguments, Axes, flatten_outputs, read_arguments
from exporters.torch.function import record_roundoffs
from exporters.torch.inplace import functionalize
from exporters.torch.module import eval_mode, find_state_tensors, preserve_state
from exporters.torch.randomness import check_randomness
from exporters.torch.taps import return_tapped_tensors
from exporters.torch.translations import registry_for

Example = Sequence["torch.Tensor | tuple[int, ...]"]

_WEIGHT = "weight of the module: "
"""Before a weight's name while the graph is edited, since tensors inside it may have that name."""


@dataclass(frozen=True)
class _Program:
    """An exported program whose outputs are the module's tensors, by name, and then the taps."""

    exported: torch.export.ExportedProgram
    outputs: tuple[str, ...]
    taps: tuple[str, ...]


def trace(
    module: torch.nn.Module,
    example: Example | object,
    *,
    opset: int = 18,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    taps: Mapping[str, str] | None = None,
    kwargs: Mapping[str, object] | None = None,
    dynamic: Axes | None = None,
    fixed_batch: bool = False,
) -> Structure:
    """Trace `module` in eval mode without reading its weights.

    `example`: for each argument of forward, a tensor (axis 0 is the batch) or the shape of a
    float one without the batch axis; tuples, lists and dicts of those, None, and Python numbers,
    which are fixed. `kwargs`: arguments by name. `dynamic`: by input, the axes whose size varies,
    as {axis: name}; an input that is not named has its batch on axis 0, and none with
    `fixed_batch`. `inputs`, `outputs`: names for the graph's inputs and outputs (default: the
    arguments' names, and the keys of what forward returns, or output, output_0, …).
    `taps`: {tensor name: "module.path#k@input"}:
    `#k` the module's k-th call in a forward pass (default 0), `@input` what went into it.
    Raises ExportError.
    """
    arguments = read_arguments(module, example, kwargs, dynamic=dynamic, fixed_batch=fixed_batch)
    return trace_arguments(
        module, arguments, opset=opset, inputs=inputs, outputs=outputs, taps=taps
    )


def trace_arguments(
    module: torch.nn.Module,
    arguments: Arguments,
    *,
    opset: int,
    inputs: Sequence[str],
    outputs: Sequence[str],
    taps: Mapping[str, str] | None,
    roundoffs: list[float] | None = None,
) -> Structure:
    """Trace `module` on arguments that are read already; see `trace`.

    The unit roundoffs of the precisions below float32 that it computes in are added to `roundoffs`.
    """
    checks.check_opset(opset)
    inputs, outputs = _checked_names("inputs", inputs), _checked_names("outputs", outputs)
    if inputs and len(inputs) != len(arguments.names):
        raise ExportError(
            f"{len(arguments.names)} inputs ({', '.join(arguments.names)}),"
            f" {len(inputs)} names given"
        )
    with silence_logging(), eval_mode(module), preserve_state(module):
        program = _export(module, arguments, taps or {})
        check_randomness(program.exported)
        record_roundoffs(program.exported, [] if roundoffs is None else roundoffs)
        model, weights = _convert(program.exported)
    if outputs and len(outputs) != len(program.outputs):
        raise ExportError(
            f"the module has {len(program.outputs)} outputs ({', '.join(program.outputs)}),"
            f" {len(outputs)} names given"
        )
    weights = tuple(dict.fromkeys((*weights, *find_state_tensors(module))))
    inputs = inputs or _free_names(arguments.names, {*weights, *outputs, *program.taps}, "input")
    outputs = outputs or _free_names(program.outputs, {*weights, *inputs, *program.taps}, "output")
    checks.check_names(weights=weights, inputs=inputs, outputs=outputs, taps=program.taps)
    axes = dict(zip(inputs, arguments.axes, strict=True))
    return _finish(
        model,
        inputs=inputs,
        outputs=outputs,
        taps=program.taps,
        weights=weights,
        opset=opset,
        axes=axes,
    )


def _checked_names(option: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return names as a tuple. Raises ExportError for one string, which is a sequence too."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ExportError(f"{option}: expected a list of names, found {names!r}")
    return tuple(names)


def _free_names(names: Sequence[str], taken: set[str], kind: str) -> tuple[str, ...]:
    """Return names that no weight has: an argument may be called as a buffer is."""
    found: list[str] = []
    for name in names:
        candidates = itertools.chain([name, f"{name}_{kind}"], (f"{name}_{i}" for i in range(99)))
        found.append(next(c for c in candidates if c not in taken and c not in found))
    return tuple(found)


def _export(module: torch.nn.Module, arguments: Arguments, taps: Mapping[str, str]) -> _Program:
    """Return the exported program."""
    try:
        return _export_once(module, arguments, taps, strict=False)
    except ExportError:
        raise
    except Exception as error:  # whatever the module or torch.export raises
        message = diagnosis.explain_trace(error, module)
        if not taps:
            try:
                # Some of Python, len(x) among it, is traced from its byte code alone.
                return _export_once(module, arguments, taps, strict=True)
            except Exception:  # noqa: BLE001 - the first error names the module and its line
                pass
        raise ExportError(f"torch.export cannot trace the module: {message}") from error


def _export_once(
    module: torch.nn.Module, arguments: Arguments, taps: Mapping[str, str], *, strict: bool
) -> _Program:
    args, kwargs = arguments.with_tensors(arguments.values())
    names: list[str] = []
    # torch.export prints the graph so far when it fails.
    with ExitStack() as stack:
        stack.enter_context(return_tapped_tensors(module, taps))
        stack.enter_context(_flat_outputs(module, names, tapped=bool(taps)))
        stack.enter_context(redirect_stderr(io.StringIO()))
        if not strict:
            stack.enter_context(_constant_buffers(module))
        stack.enter_context(_undecided_masks())
        stack.enter_context(_recurrent_shapes())
        # The order of the products of an einsum is planned on sizes that are numbers, which fixes
        # the batch.
        stack.enter_context(torch.backends.opt_einsum.flags(enabled=False))  # type: ignore[no-untyped-call]
        program = torch.export.export(
            module, args, kwargs, dynamic_shapes=_dynamic_shapes(module, arguments), strict=strict
        )
    if strict or not names:
        with preserve_state(module), torch.no_grad():
            # What a hook records is lost where the byte code is traced, and an exported program's
            # module has no hooks.
            buffers = {name: tensor.clone() for name, tensor in module.named_buffers()}
            results = torch.func.functional_call(module, buffers, args, kwargs)
            names = flatten_outputs(results)[0]
    return _Program(program, tuple(names), tuple(taps))


@contextmanager
def _undecided_masks() -> Iterator[None]:
    """While open, nn.Transformer takes a mask as one, without comparing it with a causal one.

    It compares only to choose a faster kernel, and that needs the mask's values.
    """
    module: Any = torch.nn.modules.transformer
    original = module._detect_is_causal_mask
    module._detect_is_causal_mask = lambda mask, is_causal=None, size=None: bool(is_causal)
    try:
        yield
    finally:
        module._detect_is_causal_mask = original


@contextmanager
def _recurrent_shapes() -> Iterator[None]:
    """While open, a recurrent layer that is traced has the shapes of its results computed alone.

    PyTorch computes every step to find them, which fixes the number of steps.
    """
    aten, key = torch.ops.aten, torch._C.DispatchKey.CompositeImplicitAutograd
    shapes = {aten.lstm.input: _lstm_shapes} | dict.fromkeys(
        (aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input), _rnn_shapes
    )
    before = {operator: operator.py_kernels.get(key) for operator in shapes}
    for operator, function in shapes.items():
        operator.py_kernels[key] = function
        operator._dispatch_cache.clear()
    try:
        yield
    finally:
        for operator, function in before.items():
            del operator.py_kernels[key]
            if function is not None:
                operator.py_kernels[key] = function
            operator._dispatch_cache.clear()


def _lstm_shapes(x: Any, states: Any, params: Any, *options: Any, **named: Any) -> Any:
    hidden, cell = states
    return (
        _rnn_output(x, hidden, *options, **named),
        hidden.new_empty(hidden.shape),
        (cell.new_empty(cell.shape)),
    )


def _rnn_shapes(x: Any, hidden: Any, params: Any, *options: Any, **named: Any) -> Any:
    return _rnn_output(x, hidden, *options, **named), hidden.new_empty(hidden.shape)


def _rnn_output(
    x: Any,
    hidden: Any,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Any:
    return x.new_empty((*x.shape[:-1], (2 if bidirectional else 1) * hidden.shape[-1]))


@contextmanager
def _flat_outputs(module: torch.nn.Module, names: list[str], *, tapped: bool) -> Iterator[None]:
    """While open, a forward pass returns a flat tuple of tensors, whose names are recorded."""

    def flatten(_: object, __: object, result: Any) -> object:
        own, taps = result if tapped else (result, ())
        found, tensors = flatten_outputs(own)
        names[:] = found
        # A copy of each: a graph's output may be an input, a weight, or another output. It is an
        # Identity in the graph.
        return (*tensors, *taps)

    handle = module.register_forward_hook(flatten)
    try:
        yield
    finally:
        handle.remove()


class _BufferValues(TorchFunctionMode):
    """Gives the numbers of a module's own tensors to int(), float(), bool() and item()."""

    def __init__(self) -> None:
        super().__init__()
        self.real: dict[int, torch.Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _READS and args and id(args[0]) in self.real:
            return func(self.real[id(args[0])], *args[1:], **(kwargs or {}))
        return func(*args, **(kwargs or {}))


_READS = frozenset(
    {
        torch.Tensor.item,
        torch.Tensor.tolist,
        torch.Tensor.__int__,
        torch.Tensor.__float__,
        torch.Tensor.__bool__,
        torch.Tensor.__index__,
    }
)


@contextmanager
def _constant_buffers(module: torch.nn.Module) -> Iterator[None]:
    """While open, a number that the module reads from its own buffer is that number."""
    real = dict(module.named_buffers())
    if not real:
        yield
        return
    mode = _BufferValues()

    def find(owner: torch.nn.Module, _: object) -> None:
        # torch.export has put tensors without values in the buffers' places.
        mode.real = {id(t): real[name] for name, t in owner.named_buffers() if name in real}

    handle = module.register_forward_pre_hook(find)
    try:
        with mode:
            yield
    finally:
        handle.remove()


def _dynamic_shapes(module: torch.nn.Module, arguments: Arguments) -> Any:
    """Return torch.export's description of the sizes that vary, in the structure of forward's."""
    dims: dict[str, Any] = {}
    specs: list[Any] = [None] * len(arguments.leaves)
    for position, axes in zip(arguments.tensors, arguments.axes, strict=True):
        specs[position] = {
            axis: dims.setdefault(
                name,
                torch.export.Dim(name) if name == "batch" else torch.export.Dim.DYNAMIC,
            )
            for axis, name in axes.items()
        }
    args, kwargs = torch.utils._pytree.tree_unflatten(specs, arguments.structure)
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    return dict(bound.arguments)


def _convert(
    program: torch.export.ExportedProgram,
) -> tuple[ModelProto, tuple[str, ...]]:
    """Return the ONNX graph, whose weights are inputs, and the weights' names."""
    # Imported here: with a cached structure they are not needed, and they take a second.
    import onnx.inliner
    import onnx_ir
    from torch.onnx._internal.exporter import _core

    functional = functionalize(program)
    registry, lacking = registry_for(program)
    if not functional:
        lacking.append("an operator that works in place")
    # Where every operator has a translation as it stands, nothing is left to decompose, and tracing
    # the whole program a second time (most of the time of an export) is saved.
    if lacking:
        program = decompose(program, registry, lacking)
    _reshape_views(program)
    decomposed = program
    program.run_decompositions = lambda *_, **__: decomposed  # type: ignore[method-assign]
    try:
        model = _core.exported_program_to_ir(program, registry=registry)
    except Exception as error:  # torch.onnx raises its own classes and many others
        reason = diagnosis.explain_conversion(error, program)
        raise ExportError(f"torch.onnx could not convert the module: {reason}") from error
    weights = tuple(name for name in program.state_dict if name in model.graph.initializers)
    for name in weights:
        value = model.graph.initializers.pop(name)
        value.const_value = None
        value.name = _WEIGHT + name
        model.graph.inputs.append(value)
    _separate_names(model)
    proto = onnx_ir.serde.serialize_model(model)
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    return proto, weights


def decompose(
    program: torch.export.ExportedProgram, registry: Any, lacking: Sequence[str]
) -> torch.export.ExportedProgram:
    """Return the program in operators that have a translation, by torch.onnx's own way.

    `lacking` names those that have none. Raises ExportError.
    """
    from torch.onnx._internal.exporter import _fx_passes

    try:
        return _fx_passes.decompose_with_registry(program, registry)
    except Exception as error:  # torch.export raises many classes
        reason = diagnosis.explain_conversion(error, program)
        raise ExportError(f"torch.export could not decompose the module: {reason}") from error


def _reshape_views(program: torch.export.ExportedProgram) -> None:
    """Write views as reshapes, in place: ONNX knows no strides, which some views do not fit."""
    for part in program.graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.nodes:
                if node.target in (
                    torch.ops.aten.view.default,
                    torch.ops.aten._unsafe_view.default,
                ):
                    node.target = torch.ops.aten.reshape.default


def _separate_names(model: Any) -> None:
    """Give tensors that share a name others: a constant may be called as an operator's result."""
    used = {value.name for value in model.graph.inputs}
    for name, value in list(model.graph.initializers.items()):
        if name in used:
            del model.graph.initializers[name]
            value.name = f"{name}/constant"
            model.graph.initializers[value.name] = value
        used.add(value.name)
    for node in model.graph:
        for value in node.outputs:
            if value.name in used:
                value.name = f"{value.name}/{node.op_type}"
            if value.name:
                used.add(value.name)


def _finish(
    model: ModelProto,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    taps: Sequence[str],
    weights: Sequence[str],
    opset: int,
    axes: Mapping[str, Mapping[int, str]],
) -> Structure:
    """Name the graph's tensors, simplify it and convert it to the opset."""
    graph = model.graph
    checks.check_operators(graph, framework="PyTorch")
    internal = {_WEIGHT + name: name for name in weights}
    feeds = [value.name for value in graph.input if value.name not in internal]
    if len(feeds) != len(inputs):
        raise ExportError(f"the graph takes {len(feeds)} of the module's {len(inputs)} inputs")
    if len(graph.output) != len(outputs) + len(taps):
        raise ExportError(
            f"the graph has {len(graph.output)} outputs, the module {len(outputs) + len(taps)}"
        )
    inner_taps = [tap for tap in taps if tap not in outputs]
    output_names = [*outputs, *(tap if tap in inner_taps else None for tap in taps)]
    input_names = dict(zip(feeds, inputs, strict=True)) | internal
    edits.rename_inputs_and_outputs(graph, inputs=input_names, outputs=output_names)
    model = simplification.simplify_with_shapes(model)
    if sequences.lower_sequences(model):
        model = simplification.simplify_with_shapes(model)
    model = convert_opset(model, opset)
    _name_constants(model.graph)
    return build_structure(
        model,
        inputs=inputs,
        outputs=outputs,
        taps=inner_taps,
        weights=weights,
        producer=f"exporters.torch_onnx {torch.__version__}",
        axes=axes,
    )


def _name_constants(graph: GraphProto) -> None:
    """Rename, in place, what torch.onnx numbered ("val_6"): results by operator, others by use."""
    taken = {name for node in graph.node for name in node.output}
    taken |= {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    names = {}
    for node in graph.node:
        for name in node.output:
            numbered = re.fullmatch(r"val_(\d+)(/.*)?", name)
            if numbered:
                new = f"{node.op_type}_{numbered[1]}{numbered[2] or ''}"
                names[name] = new if new not in taken else f"{new}/result"
    readers: dict[str, str] = {}
    for node in graph.node:
        result = names.get(node.output[0], node.output[0])
        for index, name in enumerate(node.input):
            readers.setdefault(name, f"{result}/{node.op_type}_{index}")
    names |= {
        tensor.name: readers[tensor.name]
        for tensor in graph.initializer
        if re.fullmatch(r"val_\d+(/.*)?", tensor.name) and tensor.name in readers
    }
    edits.rename_tensors(graph, names)
