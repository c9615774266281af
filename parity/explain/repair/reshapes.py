"""Edits of a reshape and of the transpose behind it: the parts of an axis, in another order."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator

from parity.explain.repair.flow import enclosing_function, list_statements
from parity.explain.repair.syntax import apply_edits, name_of, parse, segment, span

MAX_SPLIT = 3
"""The parts, at the end of a shape, whose orders are all tried."""


def reorder_split(text: str, line: int) -> Iterator[str]:
    """Yield the source in which the last parts of a reshape are in another order.

    The transpose that follows in the function still gives each part its place, so that one axis
    alone is read in another order: channels as (c, r, r) for (r, r, c).
    """
    tree = parse(text)
    owner = None if tree is None else enclosing_function(tree, line)
    if owner is None:
        return
    calls = [
        node
        for statement in list_statements(owner)
        for node in ast.walk(statement)
        if isinstance(node, ast.Call)
    ]
    for reshape, transpose in itertools.product(calls, calls):
        if name_of(reshape.func) not in ("reshape", "view", "Reshape"):
            continue
        if name_of(transpose.func) not in ("transpose", "permute", "Permute"):
            continue
        shape, order = _find_tuple(reshape), _find_tuple(transpose)
        places = [getattr(each, "value", None) for each in order]
        if transpose.lineno < reshape.lineno or sorted(map(str, places)) != sorted(
            map(str, range(len(shape)))
        ):
            continue
        for moved in itertools.permutations(range(len(shape) - MAX_SPLIT, len(shape))):
            new = [*range(len(shape) - MAX_SPLIT), *moved]
            if new == sorted(new):
                continue
            edits = [
                (*span(text, shape[at]), segment(text, shape[old])) for at, old in enumerate(new)
            ]
            edits += [
                (*span(text, each), str(new.index(int(getattr(each, "value", 0)))))
                for each in order
            ]
            yield apply_edits(text, edits)


def _find_tuple(call: ast.Call) -> list[ast.expr]:
    """Return the items of the one tuple of a call's arguments, or the arguments themselves."""
    for each in call.args:
        if isinstance(each, ast.Tuple | ast.List):
            return list(each.elts)
    return [each for each in call.args if isinstance(each, ast.Constant)]
