"""Messages of failures in PyTorch: the module, the operator, the source line, PyTorch's reason."""

from __future__ import annotations

import linecache
import re
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch

from exporters.errors import first_line

_LIBRARIES = (
    str(Path(torch.__file__).parent),
    str(Path(__file__).parents[1]),
)

_DATA_DEPENDENT = (
    "the module decides by a tensor's values, which a graph cannot: use torch.where or torch.cond,"
    " or make the value a Python number when the module is built"
)
_FIXED_BATCH = (
    "the module fixes a size that should vary: compute with x.shape[0] instead of a number, or"
    " export with fixed_batch=True or dynamic={input: {axis: name}}"
)


def explain_trace(error: BaseException, module: torch.nn.Module) -> str:
    """Return why torch.export failed, where in the module, and what to do."""
    reason = _reason(error)
    return _join(reason, _place_of_error(error, module), _advice(f"{type(error).__name__} {error}"))


def explain_conversion(error: BaseException, program: torch.export.ExportedProgram) -> str:
    """Return why torch.onnx failed: the operator, where the module calls it, and what to do."""
    deepest = error
    while deepest.__cause__ is not None:
        deepest = deepest.__cause__
    node = _named_node(error, program)
    reason = _reason(deepest)
    if node is None:
        return _join(f"{type(deepest).__name__}: {reason}", "", "")
    missing = "No ONNX function found" in str(deepest) or "DispatchError" in type(deepest).__name__
    advice = "write it with operators that ONNX has" if missing else ""
    return _join(f"{node.target}: {reason}", place_of_node(node), advice)


def place_of_node(node: torch.fx.Node) -> str:
    """Return the module's path and the source line that a node comes from."""
    stack = node.meta.get("nn_module_stack") or {}
    entries = list(stack.values())
    path = re.sub(r"@\d+$", "", str(entries[-1][0])) if entries else ""
    path = path.removeprefix("L['self'].").removeprefix("L__self___")
    trace = str(node.meta.get("stack_trace") or "")
    frames = re.findall(r'File "([^"]+)", line (\d+), in (\S+)(?:\n\s+([^\n]+))?', trace)
    own = [f for f in frames if not f[0].startswith(_LIBRARIES)] or frames
    source = f"{Path(own[-1][0]).name}:{own[-1][1]}" if own else ""
    code = f" ({own[-1][3].strip()})" if own and own[-1][3] else ""
    kind = entries[-1][1] if entries else ""
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    where = path or name.rpartition(".")[2]
    return ", ".join(part for part in (where, source + code) if part)


def _reason(error: BaseException) -> str:
    """Return the line of an error that says what is wrong, without PyTorch's advice."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    first = lines[0].split(" For more information")[0]
    if first.startswith("Constraints violated") and len(lines) > 1:
        first = f"{first.rstrip('!')}: {lines[1].split(' If you')[0]}"
    return first


def _advice(text: str) -> str:
    if "data-dependent" in text or "DataDependent" in text:
        return _DATA_DEPENDENT
    if "Constraints violated" in text or "specialized" in text:
        return _FIXED_BATCH
    return ""


def _join(reason: str, place: str, advice: str) -> str:
    text = f"{reason} (in {place})" if place else reason
    return f"{text}; {advice}" if advice else text


def _place_of_error(error: BaseException, module: torch.nn.Module) -> str:
    """Return the module's path and the source line where an exception was raised."""
    names = {id(child): name for name, child in module.named_modules()}
    path, kind, source = "", type(module).__name__, ""
    for frame, line in _frames(error.__traceback__):
        owner: Any = frame.f_locals.get("self")
        if isinstance(owner, torch.nn.Module) and id(owner) in names:
            path, kind = names[id(owner)], type(owner).__name__
        filename = frame.f_code.co_filename
        if not filename.startswith(_LIBRARIES) and not filename.startswith("<"):
            code = linecache.getline(filename, line).strip()
            source = f"{Path(filename).name}:{line}" + (f" ({code})" if code else "")
    inside = any(
        isinstance(frame.f_locals.get("self"), torch.nn.Module)
        for frame, _ in _frames(error.__traceback__)
    )
    if not inside:
        return ""
    return ", ".join(part for part in (path or kind, source) if part)


def _frames(traceback: TracebackType | None) -> list[tuple[FrameType, int]]:
    frames = []
    while traceback is not None:
        frames.append((traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return frames


def _named_node(
    error: BaseException, program: torch.export.ExportedProgram
) -> torch.fx.Node | None:
    """Return the node that an error, or one of its causes, names."""
    by_name = {
        node.name: node
        for part in program.graph_module.modules()
        if isinstance(part, torch.fx.GraphModule)
        for node in part.graph.nodes
    }
    current: BaseException | None = error
    while current is not None:
        for name in re.findall(r"%(\w+)", first_line(current)):
            if name in by_name:
                return by_name[name]
        current = current.__cause__
    return None
