"""The axes of every tensor of a graph, from the operations that state them.

An axis is what was joined to it: `(H W)` behind a flattened map. The names spread forwards and
backwards through operations that keep axes, and through transpositions and reshapes.
"""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Sequence

from parity.network import kinds
from parity.network.alignment import families
from parity.network.graph import OPAQUE, Graph, Node

Atom = tuple[str, int]
"""One axis as it was before it was joined with others: its name and length."""

Axes = tuple[tuple[Atom, ...], ...]
"""The atoms of each axis; none for an inserted axis of length 1."""

BATCH, CHANNELS, TOKENS = "N", "C", "T"

_ROUNDS = 4
"""How often the names spread through the whole graph, both ways."""


def infer_axes(graph: Graph) -> dict[str, str]:
    """Return the axes of each tensor by id, `N C H W` or `N (H W) C`; unknown ones are left out.

    The result is kept as long as the graph, and must not be changed.
    """
    key = id(graph)
    if key not in _INFERRED:
        _INFERRED[key] = {name: format_axes(axes) for name, axes in trace_axes(graph).items()}
        weakref.finalize(graph, _INFERRED.pop, key)
    return _INFERRED[key]


_INFERRED: dict[int, dict[str, str]] = {}
"""By the identity of a graph, which holds dictionaries and so has no hash."""


def format_axes(axes: Axes) -> str:
    """Return axes in the notation of `parity.network.axes`."""
    words = []
    for atoms in axes:
        names = " ".join(name for name, _ in atoms)
        words.append(f"({names})" if len(atoms) > 1 else names or "1")
    return " ".join(words)


def trace_axes(graph: Graph) -> dict[str, Axes]:
    """Return the axes of each tensor by id, with lengths; tensors of unknown axes are left out."""
    known: dict[str, Axes] = {}
    for tensor in graph.tensors.values():
        parsed = _parse(tensor.axes, tensor.shape)
        if parsed is not None:
            known[tensor.id] = parsed
    for node in graph.nodes:
        _state_by_width(graph, node, known)
        _state_heads(graph, node, known)
    for _ in range(_ROUNDS):
        count = len(known)
        for node in graph.nodes:
            _spread_forwards(graph, node, known)
        for node in reversed(graph.nodes):
            _spread_backwards(graph, node, known)
        if len(known) == count:
            break
    return known


_CHANCES = ("softmax", "dropout")


def _state_heads(graph: Graph, node: Node, known: dict[str, Axes]) -> None:
    """State the axes of an attention with heads, (N, A, T, C) or (N, T, A, C)."""
    if not node.outputs or node.outputs[0] in known:
        return
    above = [graph.producers.get(tensor) for tensor in node.inputs]
    chances = [at for at, each in enumerate(above) if each is not None and each.kind in _CHANCES]
    names: str | None = None
    if node.kind == "scaled_dot_product_attention":
        names = "NTAC" if node.hyper.get("time_before_heads") else "NATC"
    elif node.kind == "matmul" and chances[:1] == [0]:
        names = "NATC"
    elif node.kind == "einsum" and len(chances) == 1:
        names = _name_attended(str(node.hyper.get("equation", "")), chances[0])
    shape = graph.tensors[node.outputs[0]].shape
    if names is not None and len(shape) == len(names) == 4:
        known[node.outputs[0]] = tuple(((n, s),) for n, s in zip(names, shape, strict=True))


def _name_attended(equation: str, chances: int) -> str | None:
    """Return the axes of a sum of products of values with the weights of a softmax; None if it is
    another one.

    `chances` is the operand with the weights: (N, A, T, S), of the values (N, A, S, C), both with
    the batch first and the others in any order.
    """
    terms, _, result = equation.replace(" ", "").partition("->")
    operands = terms.split(",")
    if len(operands) != 2 or not "".join((*operands, result)).isalpha():
        return None
    weights, values = operands[chances], operands[1 - chances]
    both = [each for each in result if each in weights and each in values]
    leading = {each[:1] for each in (*operands, result)}
    if len(both) != 2 or len(set(result)) != len(result) or len(leading) != 1:
        return None
    roles = {both[0]: BATCH, both[1]: "A"}
    for each in result:
        if each not in roles:
            roles[each] = TOKENS if each in weights else CHANNELS
    return "".join(roles[each] for each in result)


_ORDERS = {
    4: (("N", "C", "H", "W"), ("N", "H", "W", "C")),
    5: (("N", "C", "D", "H", "W"), ("N", "D", "H", "W", "C")),
}


def _state_by_width(graph: Graph, node: Node, known: dict[str, Axes]) -> None:
    """Take the axes of a convolution that states none from the number of its output channels."""
    width = node.hyper.get("out")
    if not kinds.properties(node.kind).windowed or not width:
        return
    if not node.outputs or node.outputs[0] in known:
        return
    shape = graph.tensors[node.outputs[0]].shape
    orders = _ORDERS.get(len(shape))
    if orders is None:
        return
    fitting = [names for names in orders if shape[names.index(CHANNELS)] == width]
    if fitting:
        # A cube of values shows nothing; then the framework's usual order is taken.
        names = fitting[-1 if graph.framework == "keras" else 0]
        known[node.outputs[0]] = tuple(((n, s),) for n, s in zip(names, shape, strict=True))


def _parse(text: str, shape: Sequence[int]) -> Axes | None:
    """Return stated axes with their lengths; None if nothing is stated or it does not fit."""
    words = re.findall(r"\([^)]*\)|\S+", text)
    if not words or len(words) != len(shape) or any(word.startswith("(") for word in words):
        return None
    return tuple(
        () if word == "1" else ((word, length),) for word, length in zip(words, shape, strict=True)
    )


def _spread_forwards(graph: Graph, node: Node, known: dict[str, Axes]) -> None:
    for output in node.outputs:
        if output in known:
            continue
        shape = graph.tensors[output].shape
        for source in node.inputs:
            if source in known:
                found = _through(node, known[source], graph.tensors[source].shape, shape)
                if found is not None:
                    known[output] = found
                    break


def _spread_backwards(graph: Graph, node: Node, known: dict[str, Axes]) -> None:
    for output in node.outputs:
        if output not in known:
            continue
        for source in node.inputs:
            if source in known:
                continue
            shape = graph.tensors[source].shape
            found = _back(node, known[output], graph.tensors[output].shape, shape)
            if found is not None:
                known[source] = found


def _through(node: Node, axes: Axes, before: Sequence[int], shape: Sequence[int]) -> Axes | None:
    """Return the axes of a node's output of `shape`, from those of one of its inputs."""
    if node.kind == "transpose":
        order = _order(node, len(axes))
        return None if order is None else tuple(axes[at] for at in order)
    if node.kind == OPAQUE or kinds.properties(node.kind).mixes_axes:
        return None
    if families.is_pass_through(node) and tuple(before) != tuple(shape):
        moved = _regroup(axes, before, shape)
        if moved is not None or _regroups(node):
            return moved
    if len(shape) == len(axes):
        return _resize(axes, shape)
    if len(shape) < len(axes):
        return _reduce(node, axes, shape)
    return None


def _back(node: Node, axes: Axes, after: Sequence[int], shape: Sequence[int]) -> Axes | None:
    """Return the axes of a node's input of `shape`, from those of its output."""
    if node.kind == "transpose":
        order = _order(node, len(axes))
        return None if order is None else tuple(axes[order.index(at)] for at in range(len(order)))
    if node.kind == OPAQUE or kinds.properties(node.kind).mixes_axes:
        return None
    if families.is_pass_through(node) and tuple(after) != tuple(shape):
        moved = _regroup(axes, after, shape)
        if moved is not None or _regroups(node):
            return moved
    return _resize(axes, shape) if len(shape) == len(axes) else None


def _regroups(node: Node) -> bool:
    """Return whether a node may join or split any axes: it does not state which."""
    return kinds.properties(node.kind).keeps_order and "axes" not in node.hyper


def _order(node: Node, rank: int) -> tuple[int, ...] | None:
    order = node.hyper.get("perm")
    if order is None or len(order) != rank:
        return None
    places = tuple(int(each) % rank for each in order)
    return places if sorted(places) == list(range(rank)) else None


def _resize(axes: Axes, shape: Sequence[int]) -> Axes:
    """Return the same axes with other lengths, for example behind a stride."""
    found = []
    for atoms, length in zip(axes, shape, strict=True):
        if math.prod(size for _, size in atoms) == length:
            found.append(atoms)
        elif len(atoms) == 1:
            found.append(((atoms[0][0], length),))
        else:
            # More values than the joined map had: tokens.
            found.append(((TOKENS, length),))
    return tuple(found)


def _reduce(node: Node, axes: Axes, shape: Sequence[int]) -> Axes | None:
    """Return the axes that a reduction keeps."""
    removed = node.hyper.get("axes", node.hyper.get("squeeze"))
    if isinstance(removed, list | tuple) and len(removed) == len(axes) - len(shape):
        gone = {int(each) % len(axes) for each in removed}
        return _resize(tuple(a for at, a in enumerate(axes) if at not in gone), shape)
    kept = [atoms for atoms in axes if [name for name, _ in atoms] in ([BATCH], [CHANNELS])]
    return _resize(tuple(kept), shape) if len(kept) == len(shape) == 2 else None


def _regroup(axes: Axes, before: Sequence[int], shape: Sequence[int]) -> Axes | None:
    """Return the axes behind a reshape that joins whole axes, or splits joined ones again."""
    atoms = [atom for each in axes for atom in each if atom[1] != 1]
    if math.prod(before) != math.prod(shape):
        return None
    # The batch may have length 1, and still leads.
    leading = axes[0] if axes and [name for name, _ in axes[0]] == [BATCH] else ()
    found: list[tuple[Atom, ...]] = []
    rest = list(atoms)
    if leading and leading[0][1] == 1:
        if not shape or shape[0] != 1:
            return None
        found.append(leading)
        shape = shape[1:]
    for length in shape:
        taken: list[Atom] = []
        size = 1
        while size < length and rest:
            taken.append(rest.pop(0))
            size *= taken[-1][1]
        if size != length:
            return None
        found.append(tuple(taken))
    return tuple(found) if not rest else None
