"""A PyTorch module traced to the structure of its ONNX graph.

The weights become inputs of the graph before anything is optimised or serialised, so none is
read, copied or folded; they are put in afterwards (`graph.injection.inject`), under their
state-dict keys.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr

import torch
from onnx import ModelProto
from torch.utils import _pytree as pytree

from exporters.errors import ExportError, first_line
from exporters.graph import checks, edits, simplification
from exporters.graph.model import convert_opset, opset_of
from exporters.graph.structure import Structure, build_structure
from exporters.silence import silence_logging
from exporters.torch.module import eval_mode, owned_tensors
from exporters.torch.taps import record_calls
from exporters.torch.translations import registry_for

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
    checks.check_opset(opset)
    arguments = _arguments(module, example)
    inputs = tuple(inputs) or numbered_names("input", len(arguments))
    if len(inputs) != len(arguments):
        raise ExportError(f"{len(arguments)} inputs, {len(inputs)} names given")
    with silence_logging(), eval_mode(module):
        program, tapped = _export(module, arguments, taps or {})
        model, owned = _convert(program)
    count = len(model.graph.output) - len(tapped)
    outputs = tuple(outputs) or numbered_names("output", count)
    if len(outputs) != count:
        raise ExportError(f"the module has {count} outputs, {len(outputs)} names given")
    owned = tuple(dict.fromkeys((*owned, *owned_tensors(module))))
    checks.check_names(weights=owned, inputs=inputs, outputs=outputs, taps=tapped)
    return _finish(model, inputs=inputs, outputs=outputs, taps=tapped, owned=owned, opset=opset)


def numbered_names(stem: str, count: int) -> tuple[str, ...]:
    return (stem,) if count == 1 else tuple(f"{stem}_{index}" for index in range(count))


def _arguments(module: torch.nn.Module, example: Example) -> tuple[torch.Tensor, ...]:
    """Make tensors of two rows or more on the module's device: one would be taken as fixed."""
    first = next(iter(module.state_dict().values()), torch.empty(0))
    tensors = []
    for given in example:
        if isinstance(given, torch.Tensor):
            tensor = given if len(given) > 1 else torch.cat([given, given])
        else:
            tensor = torch.zeros((2, *given))
        tensors.append(tensor.to(first.device))
    return tuple(tensors)


def _export(
    module: torch.nn.Module, arguments: tuple[torch.Tensor, ...], taps: Mapping[str, str]
) -> tuple[torch.export.ExportedProgram, tuple[str, ...]]:
    """Return the exported program, whose outputs are the module's own and then the taps."""
    batch = torch.export.Dim("batch")
    bound = dict(inspect.signature(module.forward).bind(*arguments).arguments)
    # torch.export prints the graph so far when it fails.
    with record_calls(module, taps), redirect_stderr(io.StringIO()):
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


def _convert(program: torch.export.ExportedProgram) -> tuple[ModelProto, tuple[str, ...]]:
    """Return the graph with its weights as inputs, and their names."""
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
    """Return the line that names the operator: torch.onnx puts advice in front of it."""
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
    checks.check_operators(graph, framework="PyTorch")
    feeds = [value.name for value in graph.input if value.name not in owned]
    if len(feeds) != len(inputs):
        raise ExportError(f"the graph takes {len(feeds)} of the module's {len(inputs)} inputs")
    kept = [tap for tap in taps if tap not in outputs]
    names = [*outputs, *(tap if tap in kept else None for tap in taps)]
    fed = dict(zip(feeds, inputs, strict=True)) | {name: name for name in owned}
    edits.name_tensors(graph, inputs=fed, outputs=names)
    source = opset_of(model)
    simplification.simplify(graph, opset=source)
    model = simplification.infer_shapes(model)
    simplification.fold_shapes(model)
    simplification.simplify(model.graph, opset=source)
    model = convert_opset(model, opset)
    return build_structure(
        model,
        inputs=inputs,
        outputs=outputs,
        taps=kept,
        owned=owned,
        producer=f"exporters.torch_onnx {torch.__version__}",
    )
