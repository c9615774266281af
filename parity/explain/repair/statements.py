"""Edits of the statements of a line: what an operand is given to, and the order of a list."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator, Sequence

from parity.explain.repair.literals import is_on, list_expressions
from parity.explain.repair.syntax import (
    OPERATORS,
    Edit,
    apply_edits,
    imported_names,
    is_module,
    name_of,
    parse,
    segment,
    span,
)

MAX_PERMUTED = 3
"""The length of the longest list whose orders are all tried."""

_ATOMS = (ast.Call, ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.Tuple, ast.List)
"""Expressions that bind more closely than any operator."""


def wrap_operand(
    text: str,
    line: int,
    wrap: Callable[[str], str],
    names: Sequence[str] = (),
    operator: str = "",
    place: int = 0,
) -> Iterator[str]:
    """Yield the source in which one operand on a line is given to `wrap`, as text.

    The operands of the calls of `names` and of `operator` come first, that at `place` ahead of the
    others; then those of every other operation and call on the line. `wrap` gets an expression
    that no operator beside it can split.
    """
    tree = parse(text)
    if tree is None:
        return
    calls: list[list[ast.expr]] = []
    sums: list[list[ast.expr]] = []
    others: list[list[ast.expr]] = []
    whole: list[list[ast.expr]] = []
    nodes = [node for root in list_expressions(tree, line) for node in ast.walk(root)]
    for node in nodes:
        if not is_on(node, line):
            continue
        if isinstance(node, ast.Call):
            operands = _list_operands(text, node)
            (calls if name_of(node.func) in names else others).append(operands)
        elif isinstance(node, ast.BinOp):
            is_own = operator != "" and isinstance(node.op, OPERATORS.get(operator, ast.Pow))
            (sums if is_own else others).append([node.left, node.right])
        elif isinstance(node, ast.AugAssign):
            is_own = operator != "" and isinstance(node.op, OPERATORS.get(operator, ast.Pow))
            (sums if is_own else others).append([node.value])
        elif isinstance(node, ast.Return | ast.Assign) and node.value is not None:
            whole.append([node.value])
    ordered: list[ast.expr] = []
    for operands in (*calls, *sums):
        first = operands[place : place + 1]
        ordered += [*first, *(each for each in operands if each not in first)]
    for operands in (*others, *whole):
        ordered += operands
    seen: set[tuple[int, int]] = set()
    for each in ordered:
        where = span(text, each)
        if where not in seen and _is_value(text, each):
            seen.add(where)
            inner = segment(text, each)
            wrapped = wrap(inner if isinstance(each, _ATOMS) else f"({inner})")
            if _binds(text, tree, each, wrapped):
                wrapped = f"({wrapped})"
            yield apply_edits(text, [(*where, wrapped)])


def _list_operands(text: str, call: ast.Call) -> list[ast.expr]:
    """Return what a call computes with: its arguments, and the object whose method it is."""
    operands = [each for each in call.args if not isinstance(each, ast.Starred)]
    if isinstance(call.func, ast.Attribute) and not is_module(text, call.func.value):
        # `self.layer(x)` is no method of a tensor.
        owner = call.func.value
        if not (isinstance(owner, ast.Name) and owner.id == "self"):
            operands.insert(0, owner)
    return operands


def _is_value(text: str, node: ast.expr) -> bool:
    """Return whether an expression may be a tensor: not a text, a list, a number, a module."""
    if isinstance(node, ast.Constant | ast.List | ast.Tuple | ast.Lambda | ast.Dict):
        return False
    return not is_module(text, node) if isinstance(node, ast.Name | ast.Attribute) else True


def _binds(text: str, tree: ast.Module, node: ast.expr, new: str) -> bool:
    """Return whether what is around a node would bind a part of the new text in its place."""
    inner = ast.parse(new, mode="eval").body
    start, end = span(text, node)
    in_parentheses = text[start - 1 : start] == "(" and text[end : end + 1] == ")"
    if isinstance(inner, _ATOMS) or in_parentheses:
        return False
    parent = next((p for p in ast.walk(tree) if node in ast.iter_child_nodes(p)), None)
    if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Add | ast.Sub):
        is_product = isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Mult | ast.Div)
        return not is_product
    return isinstance(parent, ast.BinOp | ast.UnaryOp | ast.Attribute | ast.Subscript)


def unwrap_operand(text: str, line: int) -> Iterator[str]:
    """Yield the source in which an operation on a line is left out: one of its operands stays.

    The calls of functions that are written there come first, then the smallest operations.
    """
    tree = parse(text)
    if tree is None:
        return
    found: list[tuple[bool, int, tuple[int, int], ast.expr]] = []
    for node in (each for root in list_expressions(tree, line) for each in ast.walk(root)):
        if not is_on(node, line):
            continue
        is_written = False
        if isinstance(node, ast.Call):
            operands, is_written = _list_operands(text, node), isinstance(node.func, ast.Lambda)
        elif isinstance(node, ast.BinOp):
            operands = [node.left, node.right]
        else:
            continue
        first, last = span(text, node)
        values = [each for each in operands if _is_value(text, each)]
        found += [(not is_written, last - first, (first, last), each) for each in values]
    for *_, where, operand in sorted(found, key=lambda each: each[:2]):
        inner = segment(text, operand)
        yield apply_edits(text, [(*where, inner if isinstance(operand, _ATOMS) else f"({inner})")])


def write_arithmetic(operator: str, number: str) -> Callable[[str], str]:
    """Return how an operand is written with a number: `0.5 * x`, `x + 1`, `x / 2`."""
    if operator == "*":
        return lambda operand: f"{number} {operator} {operand}"
    return lambda operand: f"{operand} {operator} {number}"


def write_call(
    text: str, framework: str, function: str, *, is_activation: bool
) -> Callable[[str], str] | None:
    """Return how a file gives an operand to a function of its framework; None if it cannot."""
    whole = "keras.ops" if framework == "keras" else "torch"
    if framework == "torch" and is_activation:
        whole = "torch.nn.functional"
    by_value = {value: name for name, value in imported_names(text).items()}
    tail = ""
    while whole not in by_value:
        whole, dot, last = whole.rpartition(".")
        if not dot:
            return None
        tail = f".{last}{tail}"
    called = f"{by_value[whole]}{tail}.{function}"
    # An operand that no operator beside it can split may be in parentheses.
    return lambda operand: (
        f"{called}{operand}" if operand.startswith("(") else f"{called}({operand})"
    )


def reorder_items(text: str, line: int) -> Iterator[str]:
    """Yield the source with the items of one list near a line in another order.

    The lists are those of the line, then those of its function; and two loops of one comprehension
    are exchanged.
    """
    tree = parse(text)
    if tree is None:
        return
    scope = _enclosing_function(tree, line)
    roots = [*list_expressions(tree, line), *([scope] if scope is not None else [])]
    seen: set[tuple[int, int]] = set()
    for node in (each for root in roots for each in ast.walk(root)):
        if isinstance(node, ast.List | ast.Tuple) and isinstance(node.ctx, ast.Load):
            items = list(node.elts)
        elif isinstance(node, ast.ListComp | ast.GeneratorExp) and len(node.generators) == 2:
            items = []
        else:
            continue
        where = span(text, node)
        if where in seen:
            continue
        seen.add(where)
        if isinstance(node, ast.ListComp | ast.GeneratorExp):
            edits = _exchange_loops(text, node)
            if edits:
                yield apply_edits(text, edits)
        elif 2 <= len(items) <= MAX_PERMUTED and not all(
            isinstance(each, ast.Constant) for each in items
        ):
            written = [segment(text, each) for each in items]
            for order in itertools.permutations(range(len(items))):
                changed = [written[at] for at in order]
                if changed != written:
                    pairs = zip(items, changed, strict=True)
                    yield apply_edits(text, [(*span(text, each), new) for each, new in pairs])


def _exchange_loops(text: str, node: ast.ListComp | ast.GeneratorExp) -> list[Edit]:
    """Return the edits that exchange two loops, of which neither reads the other's name."""
    first, second = node.generators
    own = {each.id for each in ast.walk(first.target) if isinstance(each, ast.Name)}
    read = {each.id for each in ast.walk(second.iter) if isinstance(each, ast.Name)}
    if own & read or first.ifs or second.ifs:
        return []
    places = [(span(text, each.target)[0], span(text, each.iter)[1]) for each in (first, second)]
    parts = [text[start:end] for start, end in places]
    return [(*places[0], parts[1]), (*places[1], parts[0])]


def _enclosing_function(tree: ast.Module, line: int) -> ast.AST | None:
    """Return the innermost function around a line."""
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_on(node, line)
    ]
    return max(found, key=lambda each: each.lineno, default=None)
