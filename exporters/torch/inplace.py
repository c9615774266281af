"""Operators that work in place, written as those that return a new tensor, in an exported program.

torch.export's own way is to trace the whole program a second time, which takes most of the time of
an export. Here `relu_(x)` becomes `relu(x)`, and what reads x afterwards reads the result, where no
other tensor shares x's memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

# They return their input itself in inference, though their schema does not say so.
_MAY_RETURN_INPUT = frozenset(
    {
        torch.ops.aten.dropout.default,
        torch.ops.aten.feature_dropout.default,
        torch.ops.aten.alpha_dropout.default,
        torch.ops.aten.feature_alpha_dropout.default,
        torch.ops.aten._conj.default,
    }
)


def functionalize(program: torch.export.ExportedProgram) -> bool:
    """Replace the operators that work in place, in place; return False if one has to stay.

    Nothing is changed then.
    """
    nodes = list(program.graph.nodes)
    position = {node: index for index, node in enumerate(nodes)}
    found = [node for node in nodes if is_in_place(node)]
    replacements = []
    for node in found:
        target = _functional(node)
        if target is None or not _owns_its_memory(node, position):
            return False
        replacements.append(target)
    for node, target in zip(found, replacements, strict=True):
        changed = node.args[0]
        node.target = target
        for user in list(changed.users):  # type: ignore[union-attr]
            if user is not node and position[user] > position[node]:
                user.replace_input_with(changed, node)  # type: ignore[arg-type]
    if found:
        # An output is named by its node in the signature.
        _rename_outputs(program)
        program.graph_module.recompile()
    return True


def is_in_place(node: torch.fx.Node) -> bool:
    """Return whether a node changes one of its arguments."""
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and bool(getattr(schema, "is_mutable", False))


def _functional(node: torch.fx.Node) -> Any:
    """Return the operator that computes the same and changes nothing, or None."""
    target: Any = node.target
    name = target._schema.name.partition("::")[2]
    if target.namespace != "aten" or not name.endswith("_") or name.startswith("__"):
        return None
    packet = getattr(torch.ops.aten, name[:-1], None)
    overload = getattr(packet, target._overloadname, None) if packet is not None else None
    if overload is None or not node.args or not isinstance(node.args[0], torch.fx.Node):
        return None
    if len(overload._schema.arguments) != len(target._schema.arguments):
        return None
    own = node.args[0].meta.get("val")
    if not isinstance(own, torch.Tensor):
        return None
    for argument in _tensor_arguments(node):
        # In place the result has the changed tensor's type; a new tensor may have a wider one.
        if argument.dtype != own.dtype:
            return None
    if not own.dtype.is_floating_point and name not in ("relu_", "add_", "mul_", "sub_"):
        return None
    result = node.meta.get("val")
    return overload if isinstance(result, torch.Tensor) and result.dtype == own.dtype else None


def _tensor_arguments(node: torch.fx.Node) -> list[torch.Tensor]:
    values = [argument.meta.get("val") for argument in node.all_input_nodes]
    return [value for value in values if isinstance(value, torch.Tensor)]


def _owns_its_memory(node: torch.fx.Node, position: dict[torch.fx.Node, int]) -> bool:
    """Return whether no tensor but the changed one itself shows the change later."""
    changed: Any = node.args[0]
    if changed.op != "call_function":
        return False  # an input, or a weight, of the program
    if _may_alias(changed):
        return False  # a view: what it is a view of changes too
    # A view that is taken after the change will be one of the result.
    earlier = [u for u in changed.users if position[u] < position[node] and _may_alias(u)]
    return not any(_used_after(view, position[node], position) for view in earlier)


def _used_after(view: torch.fx.Node, index: int, position: dict[torch.fx.Node, int]) -> bool:
    """Return whether a view, or a view of it, is read after a position."""
    pending = [view]
    while pending:
        for user in pending.pop().users:
            if position[user] > index:
                return True
            if _may_alias(user):
                pending.append(user)
    return False


def _may_alias(node: torch.fx.Node) -> bool:
    """Return whether a node's result may share memory with an argument."""
    if node.op != "call_function":
        return False
    target: Any = node.target
    if target in _MAY_RETURN_INPUT:
        return True
    schema = getattr(target, "_schema", None)
    if schema is None:
        return True  # an operator of another kind, such as getitem of a list of views
    if schema.is_mutable:
        return False  # becomes a new tensor
    return any(returned.alias_info is not None for returned in schema.returns)


def _rename_outputs(program: torch.export.ExportedProgram) -> None:
    """Write the names of the output node's arguments into the signature."""
    output = next(node for node in program.graph.nodes if node.op == "output")
    arguments: Sequence[Any] = output.args[0]  # type: ignore[assignment]
    for spec, argument in zip(program.graph_signature.output_specs, arguments, strict=True):
        if isinstance(argument, torch.fx.Node) and hasattr(spec.arg, "name"):
            spec.arg.name = argument.name
