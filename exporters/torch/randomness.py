"""The check that the outputs of an exported program do not depend on random numbers."""

from __future__ import annotations

from typing import Any

import torch

from exporters.errors import ExportError, first_few
from exporters.torch.diagnosis import place_of_node


def check_randomness(program: torch.export.ExportedProgram) -> None:
    """Raise ExportError naming the operators that draw random numbers that an output depends on."""
    live = _live_nodes(program.graph)
    random = [node for node in program.graph.nodes if node in live and _draws(node)]
    if random:
        named = [f"{node.target} (in {place_of_node(node)})" for node in random]
        raise ExportError(
            f"the module draws random numbers in inference: {first_few(named, 3)}; no file can be"
            " compared with it: make it deterministic in eval mode, or give the noise as an input"
        )


def _live_nodes(graph: torch.fx.Graph) -> set[torch.fx.Node]:
    """Return the nodes that an output depends on, also through changes in place."""
    pending = [node for node in graph.nodes if node.op == "output"]
    live: set[torch.fx.Node] = set()
    while pending:
        node = pending.pop()
        if node not in live:
            live.add(node)
            pending.extend(node.all_input_nodes)
            # What works in place on a tensor is read through the tensor.
            pending.extend(user for user in node.users if _changes(user, node))
    return live


def _changes(user: torch.fx.Node, node: torch.fx.Node) -> bool:
    """Return whether `user` writes to the tensor of `node` in place."""
    schema = getattr(user.target, "_schema", None)
    return bool(getattr(schema, "is_mutable", False)) and bool(user.args) and user.args[0] is node


def _draws(node: torch.fx.Node) -> bool:
    """Return whether a node draws random numbers; dropout at rate 0 or in inference does not."""
    target: Any = node.target
    if node.op != "call_function" or not hasattr(target, "_schema"):
        return False
    if torch.Tag.nondeterministic_seeded not in getattr(target, "tags", ()):
        return target.__name__.startswith(_UNTAGGED)
    arguments = {a.name: a.default_value for a in target._schema.arguments if a.has_default_value()}
    names = [argument.name for argument in target._schema.arguments]
    arguments |= dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    for name in ("train", "training"):
        if name in arguments and not arguments[name]:
            return False
    for name in ("dropout_p", "p", "dropout"):
        if name in arguments and arguments[name] == 0:
            return False
    return True


_UNTAGGED = ("normal_functional.",)
