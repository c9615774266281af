"""A PyTorch module traced to the structure of its ONNX graph.

The weights become inputs of the graph before it is optimised or serialised, so that none is
read, copied or folded. `graph.injection.inject` adds them afterwards, by their state-dict keys.
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
from exporters.graph.model import convert_opset
from exporters.graph.structure import Structure, build_structure
from exporters.silence import silence_logging
from exporters.torch.module import eval_mode, find_state_tensors
from exporters.torch.taps import return_tapped_tensors
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
        model, weights = _convert(program)
    count = len(model.graph.output) - len(tapped)
    outputs = tuple(outputs) or numbered_names("output", count)
    if len(outputs) != count:
        raise ExportError(f"the module has {count} outputs, {len(outputs)} names given")
    weights = tuple(dict.fromkeys((*weights, *find_state_tensors(module))))
    checks.check_names(weights=weights, inputs=inputs, outputs=outputs, taps=tapped)
    return _finish(model, inputs=inputs, outputs=outputs, taps=tapped, weights=weights, opset=opset)


def numbered_names(stem: str, count: int) -> tuple[str, ...]:
    """Return `stem`, or `stem_0`, `stem_1`, … for several names."""
    return (stem,) if count == 1 else tuple(f"{stem}_{index}" for index in range(count))


def _arguments(module: torch.nn.Module, example: Example) -> tuple[torch.Tensor, ...]:
    """Return tensors of two or more samples on the module's device.

    torch.export takes a batch of one as a fixed size.
    """
    first = next(iter(module.state_dict().values()), torch.empty(0))
    tensors = []
    for item in example:
        if isinstance(item, torch.Tensor):
            tensor = item if len(item) > 1 else torch.cat([item, item])
        else:
            tensor = torch.zeros((2, *item))
        tensors.append(tensor.to(first.device))
    return tuple(tensors)


def _export(
    module: torch.nn.Module, arguments: tuple[torch.Tensor, ...], taps: Mapping[str, str]
) -> tuple[torch.export.ExportedProgram, tuple[str, ...]]:
    """Return the exported program, whose outputs are the module's own and then the taps."""
    batch = torch.export.Dim("batch")
    bound = dict(inspect.signature(module.forward).bind(*arguments).arguments)
    # torch.export prints the graph so far when it fails.
    with return_tapped_tensors(module, taps), redirect_stderr(io.StringIO()):
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
    """Return the ONNX graph, whose weights are inputs, and the weights' names."""
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
    weights = tuple(name for name in program.state_dict if name in model.graph.initializers)
    for name in weights:
        value = model.graph.initializers.pop(name)
        value.const_value = None
        model.graph.inputs.append(value)
    proto = onnx_ir.serde.serialize_model(model)
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    return proto, weights


def _cause(error: BaseException) -> str:
    """Return the line of an error that names the operator, without torch.onnx's advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {first_line(error)}"


def _finish(
    model: ModelProto,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    taps: Sequence[str],
    weights: Sequence[str],
    opset: int,
) -> Structure:
    """Name the graph's tensors, simplify it and convert it to the opset."""
    graph = model.graph
    checks.check_operators(graph, framework="PyTorch")
    feeds = [value.name for value in graph.input if value.name not in weights]
    if len(feeds) != len(inputs):
        raise ExportError(f"the graph takes {len(feeds)} of the module's {len(inputs)} inputs")
    inner_taps = [tap for tap in taps if tap not in outputs]
    output_names = [*outputs, *(tap if tap in inner_taps else None for tap in taps)]
    input_names = dict(zip(feeds, inputs, strict=True)) | {name: name for name in weights}
    edits.rename_inputs_and_outputs(graph, inputs=input_names, outputs=output_names)
    model = simplification.simplify_with_shapes(model)
    model = convert_opset(model, opset)
    return build_structure(
        model,
        inputs=inputs,
        outputs=outputs,
        taps=inner_taps,
        weights=weights,
        producer=f"exporters.torch_onnx {torch.__version__}",
    )
