"""PyTorch modules to ONNX, through torch.export and torch.onnx's current exporter.

The weights become inputs of the graph before anything is optimised or serialised, so none is read,
copied or folded; they are put in afterwards (`onnx_graph.inject`), under their state-dict keys.
"""

from __future__ import annotations

import functools
import inspect
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from pathlib import Path

import torch
from onnx import ModelProto
from torch.utils import _pytree as pytree

from exporters import simplify
from exporters.errors import ExportError, first_line
from exporters.onnx_graph import Array, Structure, opset_of
from exporters.quiet import quiet
from exporters.result import Exported, finish
from exporters.taps import Tap, by_layer, check_recorded
from exporters.torch_onnx_ops import registry_for
from exporters.verify import Reference, nudged

# torch.onnx writes the operators of this version; ONNX's own converter goes on from there.
_TORCHLIB_OPSET = 18

Example = Sequence["torch.Tensor | tuple[int, ...]"]


def trace(
    module: torch.nn.Module,
    example: Example,
    *,
    opset: int = 18,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    taps: Mapping[str, str] | None = None,
) -> Structure:
    """Trace `module` in eval mode without reading its weights.

    `example`: for each argument of forward, a tensor (axis 0 is the batch) or the shape of a
    float32 one without the batch axis. `inputs`, `outputs`: names for the graph's inputs and
    outputs (default: input, output, or input_0, …). `taps`: {tensor name: "module.path#k@input"}:
    `#k` the module's k-th call in a forward pass (default 0), `@input` what went into it.
    Raises ExportError.
    """
    simplify.check_opset(opset)
    arguments = _arguments(module, example)
    inputs = tuple(inputs) or _names("input", len(arguments))
    if len(inputs) != len(arguments):
        raise ExportError(f"{len(arguments)} inputs, {len(inputs)} names given")
    with quiet(), _eval_mode(module):
        program, tapped = _export(module, arguments, taps or {})
        model, owned = _convert(program)
    count = len(model.graph.output) - len(tapped)
    outputs = tuple(outputs) or _names("output", count)
    if len(outputs) != count:
        raise ExportError(f"the module has {count} outputs, {len(outputs)} names given")
    owned = tuple(dict.fromkeys((*owned, *_held(module))))
    simplify.check_names(weights=owned, inputs=inputs, outputs=outputs, taps=tapped)
    return _finish(model, inputs=inputs, outputs=outputs, taps=tapped, owned=owned, opset=opset)


def weights(module: torch.nn.Module) -> dict[str, Array]:
    """All that a module holds, as NumPy arrays, which share memory with one that is on the CPU."""
    return {name: _array(tensor) for name, tensor in _held(module).items()}


def _held(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and lasting buffers, in the state dict's order.

    A module's hooks may name or join what its state dict holds; the graph knows nothing of them.
    """
    held: dict[str, torch.Tensor] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        passing = part._non_persistent_buffers_set
        named = [*part._parameters.items(), *part._buffers.items()]
        held |= {
            f"{path}.{name}" if path else name: tensor
            for name, tensor in named
            if tensor is not None and name not in passing
        }
    return held


def export(
    module: torch.nn.Module,
    example: Example,
    path: Path | str,
    *,
    opset: int = 18,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    taps: Mapping[str, str] | None = None,
    tap_outputs: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    structure: Structure | None = None,
    sample: Sequence[Array] | None = None,
) -> Exported:
    """Export and verify; on any failure ExportError, and no file.

    `tap_outputs` names taps that become outputs of the file. `structure` is what `trace` gave for
    this architecture, with the same options, whatever the weights were. `sample`: inputs to verify
    on, batch of 3 or more (default: seeded random).
    """

    def traced() -> Structure:
        return trace(module, example, opset=opset, inputs=inputs, outputs=outputs, taps=taps)

    return finish(
        path=Path(path),
        structure=structure or traced,
        weights=functools.partial(weights, module),
        reference=_reference(module),
        tap_outputs=tap_outputs,
        metadata={**(metadata or {}), "framework": f"torch {torch.__version__}"},
        sample=sample,
    )


def _names(stem: str, count: int) -> tuple[str, ...]:
    return (stem,) if count == 1 else tuple(f"{stem}_{index}" for index in range(count))


def _array(tensor: torch.Tensor) -> Array:
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        # NumPy has no bfloat16; ONNX's helper package brings one.
        import ml_dtypes

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    array: Array = tensor.numpy()
    return array


def _tensor(array: Array) -> torch.Tensor:
    """A copy, so that a module that works in place changes nothing."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view("int16").copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def _arguments(module: torch.nn.Module, example: Example) -> tuple[torch.Tensor, ...]:
    """Tensors of at least two rows on the module's device: one row would be taken as fixed."""
    first = next(iter(module.state_dict().values()), torch.empty(0))
    tensors = []
    for given in example:
        if isinstance(given, torch.Tensor):
            tensor = given if len(given) > 1 else torch.cat([given, given])
        else:
            tensor = torch.zeros((2, *given))
        tensors.append(tensor.to(first.device))
    return tuple(tensors)


@contextmanager
def _eval_mode(module: torch.nn.Module) -> Iterator[None]:
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, training in modes:
            child.training = training


def _export(
    module: torch.nn.Module, arguments: tuple[torch.Tensor, ...], taps: Mapping[str, str]
) -> tuple[torch.export.ExportedProgram, tuple[str, ...]]:
    """The module as an exported program whose outputs are its own and then the taps."""
    batch = torch.export.Dim("batch")
    bound = dict(inspect.signature(module.forward).bind(*arguments).arguments)
    # torch.export prints the graph so far when it fails.
    with _recorded(module, taps), redirect_stderr(io.StringIO()):
        try:
            program = torch.export.export(
                module,
                arguments,
                dynamic_shapes=pytree.tree_map(lambda _: {0: batch}, bound),
                strict=False,
            )
        except ExportError:
            raise
        except Exception as error:  # whatever the module or torch.export raises
            message = f"torch.export cannot trace the module: {first_line(error)}"
            raise ExportError(message) from error
    return program, tuple(taps)


@contextmanager
def _recorded(module: torch.nn.Module, taps: Mapping[str, str]) -> Iterator[None]:
    """Make a forward pass return (its outputs, the tapped tensors in order)."""
    recorded: dict[str, torch.Tensor] = {}
    with ExitStack() as stack:
        for path, places in by_layer(taps).items():
            try:
                child = module.get_submodule(path)
            except AttributeError as error:
                raise ExportError(f"{places[0].name}: no module {path!r} ({error})") from error
            for handle in _hooks(child, path, places, recorded):
                stack.callback(handle.remove)

        def add_taps(_: object, __: object, result: object) -> object:
            check_recorded(taps, recorded)
            tapped = tuple(recorded[name] for name in taps)
            recorded.clear()
            return result, tapped

        if taps:
            stack.callback(module.register_forward_hook(add_taps).remove)
        yield


def _hooks(
    child: torch.nn.Module, path: str, places: Sequence[Tap], recorded: dict[str, torch.Tensor]
) -> Iterator[torch.utils.hooks.RemovableHandle]:
    calls = {True: 0, False: 0}

    def record(values: object, *, of_input: bool) -> None:
        for tap in places:
            if tap.of_input == of_input and tap.call == calls[of_input]:
                tensors = [v for v in pytree.tree_leaves(values) if isinstance(v, torch.Tensor)]
                if not tensors:
                    raise ExportError(f"{tap.name}: {path} has no tensor there")
                # A copy: a later operator may work in place. It is an Identity in the graph.
                recorded[tap.name] = tensors[0].clone()
        calls[of_input] += 1

    def before(_: object, args: object, kwargs: object) -> None:
        record((args, kwargs), of_input=True)

    def after(_: object, __: object, result: object) -> None:
        record(result, of_input=False)

    yield child.register_forward_pre_hook(before, with_kwargs=True)
    yield child.register_forward_hook(after)


def _convert(program: torch.export.ExportedProgram) -> tuple[ModelProto, tuple[str, ...]]:
    """The graph with its weights as inputs, and their names."""
    # Imported here: with a cached structure they are not needed, and they take a second.
    import onnx.inliner
    import onnx_ir
    from torch.onnx._internal.exporter import _core

    registry, direct = registry_for(program)
    if direct:
        # Every operator has a translation as it stands, so nothing is left to decompose, and
        # tracing the whole program a second time (most of the time of an export) is saved.
        program.run_decompositions = lambda *_, **__: program  # type: ignore[method-assign]
    try:
        model = _core.exported_program_to_ir(program, registry=registry)
    except Exception as error:  # torch.onnx raises its own classes and many others
        raise ExportError(f"torch.onnx could not convert the module: {_cause(error)}") from error
    owned = tuple(name for name in program.state_dict if name in model.graph.initializers)
    for name in owned:
        value = model.graph.initializers.pop(name)
        value.const_value = None
        model.graph.inputs.append(value)
    proto = onnx_ir.serde.serialize_model(model)
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    return proto, owned


def _cause(error: BaseException) -> str:
    """The line that names the operator: torch.onnx puts advice in front of it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {first_line(error)}"


def _finish(
    model: ModelProto,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    taps: Sequence[str],
    owned: Sequence[str],
    opset: int,
) -> Structure:
    graph = model.graph
    simplify.check_operators(graph, framework="PyTorch")
    feeds = [value.name for value in graph.input if value.name not in owned]
    if len(feeds) != len(inputs):
        raise ExportError(f"the graph takes {len(feeds)} of the module's {len(inputs)} inputs")
    kept = [tap for tap in taps if tap not in outputs]
    names = [*outputs, *(tap if tap in kept else None for tap in taps)]
    fed = dict(zip(feeds, inputs, strict=True)) | {name: name for name in owned}
    simplify.name_tensors(graph, inputs=fed, outputs=names)
    source = opset_of(model)
    simplify.simplify(graph, opset=source)
    model = simplify.infer_shapes(model)
    simplify.fold_shapes(model)
    simplify.simplify(model.graph, opset=source)
    model = simplify.convert_opset(model, opset)
    return simplify.structure(
        model,
        inputs=inputs,
        outputs=outputs,
        taps=kept,
        owned=owned,
        producer=f"exporters.torch_onnx {torch.__version__}",
    )


def _reference(module: torch.nn.Module) -> Reference:
    """The module as a function of arrays, in eval mode on the CPU."""

    def run(inputs: Sequence[Array], *, nudge: int | None = None) -> list[Array]:
        arguments = tuple(_tensor(array) for array in inputs)
        state = {name: tensor.detach().cpu() for name, tensor in _tensors(module).items()}
        if nudge is not None:
            state = {
                name: _tensor(nudged(_array(tensor), seed=nudge, index=index))
                for index, (name, tensor) in enumerate(state.items())
            }
        with torch.no_grad(), _eval_mode(module):
            results = torch.func.functional_call(module, state, arguments)
        leaves = [leaf for leaf in pytree.tree_leaves(results) if isinstance(leaf, torch.Tensor)]
        return [_array(leaf) for leaf in leaves]

    return run


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
