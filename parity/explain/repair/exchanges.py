"""Edits of one line that need no proof of a value: parts exchanged, another item, name or flag.

Each is one change of the source that a compiler accepts; whether it is right is for a run to say.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Sequence
from typing import TypeGuard

from parity.explain.repair.flow import enclosing_function, list_statements, written_names
from parity.explain.repair.literals import is_on, list_expressions
from parity.explain.repair.syntax import (
    SYMBOLS,
    Edit,
    apply_edits,
    imported_names,
    name_of,
    parse,
    segment,
    span,
)

MAX_PAIRS = 28
"""How many pairs of expressions of one line are exchanged."""
MAX_NAMES = 10
"""How many names of a function are tried in another's place."""


def exchange_targets(text: str, line: int) -> Iterator[str]:
    """Yield the source with two targets of an assignment exchanged: `s, t = …`, `t, s = …`."""
    for root in _list_roots(text, line):
        if not isinstance(root, ast.Assign):
            continue
        for target in root.targets:
            if isinstance(target, ast.Tuple | ast.List):
                yield from _exchange_all(text, target.elts)


def exchange_parts(text: str, line: int) -> Iterator[str]:
    """Yield the source with two operands, arguments or items of a line exchanged.

    Those of one operation, call or tuple come first, then any two that do not contain each other.
    """
    groups: list[list[ast.expr]] = []
    operands: list[ast.expr] = []
    same: list[set[int]] = []
    for node in _list_nodes(text, line):
        if isinstance(node, ast.Call):
            groups.append([each for each in node.args if not isinstance(each, ast.Starred)])
        elif isinstance(node, ast.BinOp):
            operands += [node.left, node.right]
            if isinstance(node.op, ast.Add | ast.Mult):
                same.append({id(node.left), id(node.right)})
            else:
                groups.append([node.left, node.right])
            continue
        elif isinstance(node, ast.Tuple | ast.List) and isinstance(node.ctx, ast.Load):
            groups.append(node.elts)
        else:
            continue
        operands += groups[-1]
    count = 0
    for first, second in itertools.chain(
        *(itertools.combinations(each, 2) for each in groups),
        itertools.combinations(operands, 2),
    ):
        # Sums and products are the same in both orders.
        if count < MAX_PAIRS and {id(first), id(second)} not in same:
            for changed in _exchange(text, first, second):
                count += 1
                yield changed


def exchange_subscripts(text: str, line: int) -> Iterator[str]:
    """Yield the source with two indices of each subscript of one name on a line exchanged."""
    found: dict[str, list[ast.Tuple]] = {}
    for node in _list_nodes(text, line):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
            found.setdefault(segment(text, node.value), []).append(node.slice)
    for slices in found.values():
        length = min(len(each.elts) for each in slices)
        for one, other in itertools.combinations(range(length), 2):
            edits: list[Edit] = []
            for each in slices:
                first, second = each.elts[one], each.elts[other]
                edits += _exchange_edits(text, first, second)
            if edits:
                yield apply_edits(text, edits)


def exchange_names(text: str, line: int) -> Iterator[str]:
    """Yield the source with two names of a line's values exchanged wherever the line reads them."""
    names: dict[str, list[ast.Name]] = {}
    functions = {id(each.func) for each in _list_nodes(text, line) if isinstance(each, ast.Call)}
    imported = imported_names(text)
    for node in _list_nodes(text, line):
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
            continue
        if id(node) not in functions and node.id not in imported:
            names.setdefault(node.id, []).append(node)
    for one, other in itertools.combinations(names, 2):
        edits = [(*span(text, each), other) for each in names[one]]
        edits += [(*span(text, each), one) for each in names[other]]
        yield apply_edits(text, edits)


def exchange_statements(text: str, line: int) -> Iterator[str]:
    """Yield the source with a one-line statement exchanged with the one before, or behind, it."""
    tree = parse(text)
    owner = None if tree is None else enclosing_function(tree, line)
    if owner is None:
        return
    statements = list_statements(owner)
    lines = text.splitlines(keepends=True)
    for first, second in itertools.pairwise(statements):
        is_near = line in (first.lineno, second.lineno)
        is_plain = all(
            isinstance(each, ast.Assign | ast.AugAssign | ast.Expr)
            and each.lineno == each.end_lineno
            for each in (first, second)
        )
        is_next = second.lineno == first.lineno + 1 and first.col_offset == second.col_offset
        if is_near and is_plain and is_next:
            changed = list(lines)
            one, other = first.lineno - 1, second.lineno - 1
            changed[one], changed[other] = changed[other], changed[one]
            yield "".join(changed)


def exchange_calls(text: str, line: int) -> Iterator[str]:
    """Yield the source with two nested calls exchanged: `f(g(x))` as `g(f(x))`.

    A layer that is made where it is called, as `Norm()(x)`, is such a function.
    """
    for node in _list_nodes(text, line):
        if (
            not isinstance(node, ast.Call)
            or not node.args
            or not isinstance(node.args[0], ast.Call)
        ):
            continue
        inner = node.args[0]
        if inner.args:
            yield apply_edits(
                text,
                [
                    (*span(text, node.func), segment(text, inner.func)),
                    (*span(text, inner.func), segment(text, node.func)),
                ],
            )


def change_items(text: str, line: int) -> Iterator[str]:
    """Yield the source with another whole number: an index, an axis, a bound, a width.

    Its neighbours and its opposite come first; then 0 and 1.
    """
    for node in _list_nodes(text, line):
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = getattr(node.operand, "value", None)
            if isinstance(value, int) and not isinstance(value, bool):
                yield from _write_values(text, node, -value)
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            yield from _write_values(text, node, node.value)


def _write_values(text: str, node: ast.expr, old: int) -> Iterator[str]:
    for new in dict.fromkeys((old + 1, old - 1, -old, 0, 1)):
        if new != old:
            yield apply_edits(text, [(*span(text, node), str(new))])


def change_slices(text: str, line: int) -> Iterator[str]:
    """Yield the source with a slice as its complement, `:n` and `n:`; and without its step."""
    for node in _list_nodes(text, line):
        if not isinstance(node, ast.Slice):
            continue
        lower = "" if node.lower is None else segment(text, node.lower)
        upper = "" if node.upper is None else segment(text, node.upper)
        place = span(text, node)
        if lower != upper and node.step is None:
            yield apply_edits(text, [(*place, f"{upper}:{lower}")])
        if node.step is not None and node.lower is None and node.upper is None:
            yield apply_edits(text, [(*place, ":")])


def change_flags(text: str, line: int) -> Iterator[str]:
    """Yield the source with the opposite of each truth value that is an argument."""
    for node in _list_nodes(text, line):
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield apply_edits(text, [(*span(text, node), str(not node.value))])


def change_names(text: str, line: int) -> Iterator[str]:
    """Yield the source with one name that a line reads as another that its function has before."""
    tree = parse(text)
    owner = None if tree is None else enclosing_function(tree, line)
    if owner is None:
        return
    known: dict[str, None] = {each.arg: None for each in owner.args.args if each.arg != "self"}
    for statement in list_statements(owner):
        if statement.lineno < line:
            known.update(dict.fromkeys(sorted(written_names(statement))))
    others = list(known)[-MAX_NAMES:]
    for node in _list_nodes(text, line):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in known:
            for other in others:
                if other != node.id:
                    yield apply_edits(text, [(*span(text, node), other)])


def change_arithmetic(text: str, line: int) -> Iterator[str]:
    """Yield the source with the opposite of each operator: `+` and `-`, `*` and `/`."""
    for node in _list_nodes(text, line):
        if _is_negated(node):
            operand = segment(text, node.operand)
            yield apply_edits(text, [(*span(text, node), operand)])
        if isinstance(node, ast.BinOp):
            first, second = node.left, node.right
        elif isinstance(node, ast.AugAssign):
            first, second = node.target, node.value
        else:
            continue
        new = _OPPOSITES.get(type(node.op))
        start, end = span(text, first)[1], span(text, second)[0]
        between = text[start:end]
        old = SYMBOLS.get(type(node.op), "")
        if new is None or between.count(old) != 1:
            continue
        edits: list[Edit] = [(start, end, between.replace(old, new))]
        if new in "-/" and isinstance(second, ast.BinOp) and "(" not in between:
            opened, closed = span(text, second)
            edits += [(opened, opened, "("), (closed, closed, ")")]
        yield apply_edits(text, edits)


_OPPOSITES: dict[type[ast.operator], str] = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*",
}  # fmt: skip


def change_operations(text: str, line: int, names: Sequence[str]) -> Iterator[str]:
    """Yield the source with each function that a line calls as another one with its arguments.

    `names` come first, in the file's framework, then those that are often meant instead. A call
    that has more arguments than the other takes is tried without its positional ones too.
    """
    for node in _list_nodes(text, line):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        old = name_of(node.func)
        family = next((each for each in _FAMILIES if old in each), ())
        place = span(text, node.func)
        for new in dict.fromkeys((*names, *family)):
            if new == old:
                continue
            edit = (place[1] - len(old), place[1], new)
            yield apply_edits(text, [edit])
            if len(node.args) > 1:
                first, last = span(text, node.args[0])[1], span(text, node.args[-1])[1]
                yield apply_edits(text, [edit, (first, last, "")])


_FUNCTIONS = """
max mean min sum amax amin prod
maximum minimum add multiply subtract
tanh sigmoid relu gelu silu softplus elu relu6
softmax log_softmax sigmoid
sin cos
exp expm1 log log1p
sqrt rsqrt square
floor ceil round
flip roll
std var
argmax argmin
tril triu
"""

_FAMILIES = tuple(tuple(line.split()) for line in _FUNCTIONS.strip().splitlines())
"""Functions of both frameworks that take the same arguments, and are taken for one another."""


def _is_negated(node: ast.AST) -> TypeGuard[ast.UnaryOp]:
    """Return whether a node is the negative of what is no number."""
    return (
        isinstance(node, ast.UnaryOp)
        and isinstance(node.op, ast.USub)
        and not isinstance(node.operand, ast.Constant)
    )


# Parts of a line ---------------------------------------------------------------------------------


def _list_roots(text: str, line: int) -> list[ast.AST]:
    tree = parse(text)
    return [] if tree is None else list_expressions(tree, line)


def _list_nodes(text: str, line: int) -> list[ast.AST]:
    """Return the nodes that are written on a line, in part at least, outer ones first."""
    return [
        node
        for root in _list_roots(text, line)
        for node in ast.walk(root)
        if is_on(node, line) or isinstance(node, ast.Slice)
    ]


def _exchange_all(text: str, items: Sequence[ast.expr]) -> Iterator[str]:
    for first, second in itertools.combinations(items, 2):
        yield from _exchange(text, first, second)


def _exchange(text: str, first: ast.expr, second: ast.expr) -> Iterator[str]:
    edits = _exchange_edits(text, first, second)
    if edits:
        yield apply_edits(text, edits)


def _exchange_edits(text: str, first: ast.expr, second: ast.expr) -> list[Edit]:
    """Return the edits that exchange two expressions; none if they overlap or are the same."""
    one, other = span(text, first), span(text, second)
    if one[0] < other[1] and other[0] < one[1]:
        return []
    left, right = segment(text, first), segment(text, second)
    if left == right:
        return []
    return [(*one, _fit(text, second, one)), (*other, _fit(text, first, other))]


def _fit(text: str, node: ast.expr, place: tuple[int, int]) -> str:
    """Return an expression as it is written at a place, where no operator may split it."""
    inner = segment(text, node)
    is_compound = isinstance(node, ast.BinOp | ast.IfExp | ast.Compare | ast.BoolOp)
    is_enclosed = text[place[0] - 1 : place[0]] == "(" and text[place[1] : place[1] + 1] == ")"
    return f"({inner})" if is_compound and not is_enclosed else inner
