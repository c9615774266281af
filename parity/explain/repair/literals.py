"""The literals that a line's values come from, followed through names, arguments, attributes."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from parity.explain.repair.syntax import apply_edits, format_literal, name_of, parse, span

MAX_STEPS = 4
"""How many names, arguments and attributes are followed one after the other."""

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True)
class Literal:
    """A number, a text, or a tuple of numbers in the source, and how far it is from a line."""

    node: ast.expr
    value: Any
    steps: int
    """The names, arguments and attributes between the line and the literal."""
    divides: bool = False
    """Whether it is what an expression is divided by, or what is subtracted from it."""


def change_values(text: str, line: int, old: Any, new: Any) -> Iterator[str]:
    """Yield the source with each literal `old` that a line's values come from written as `new`.

    The nearest one comes first. A number stands for a sequence of equal numbers.
    """
    inner: set[ast.AST] = set()
    for literal in find_literals(text, line):
        if literal.node not in inner and is_same(literal.value, old):
            # A number of a tuple is no value of its own.
            inner.update(ast.iter_child_nodes(literal.node))
            value = _write_like(literal.value, new)
            yield apply_edits(text, [(*span(text, literal.node), format_literal(value))])


def divide_values(text: str, line: int, factor: float) -> Iterator[str]:
    """Yield the source with each number that a line's values come from divided by `factor`.

    One that divides is multiplied by it. The nearest one comes first.
    """
    for literal in find_literals(text, line):
        if _is_plain_number(literal.value) and literal.value:
            divides = literal.divides
            value = literal.value * factor if divides else literal.value / factor
            new = _write_like(literal.value, round_short(value))
            yield apply_edits(text, [(*span(text, literal.node), format_literal(new))])


def subtract_from_values(text: str, line: int, offset: float) -> Iterator[str]:
    """Yield the source with each number that a line's values come from less `offset`."""
    for literal in find_literals(text, line):
        if _is_plain_number(literal.value):
            value = literal.value + offset if literal.divides else literal.value - offset
            new = _write_like(literal.value, round_short(value))
            yield apply_edits(text, [(*span(text, literal.node), format_literal(new))])


def _is_plain_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def round_short(value: float) -> float:
    """Return the number of fewest digits within a rounding of float32 of a fitted one."""
    for digits in range(1, 17):
        short = float(f"{value:.{digits}g}")
        if math.isclose(short, value, rel_tol=1e-6):
            return short
    return value


def find_literals(text: str, line: int) -> list[Literal]:
    """Return the literals that the values of a line's statements come from, the nearest first."""
    tree = parse(text)
    if tree is None:
        return []
    tracer = _Tracer(tree)
    found: dict[tuple[int, int], Literal] = {}
    for root in list_expressions(tree, line):
        for each in tracer.trace(root, 0):
            place = each.node.lineno, each.node.col_offset
            if place not in found or each.steps < found[place].steps:
                found[place] = each
    return sorted(found.values(), key=lambda each: each.steps)


def list_expressions(tree: ast.Module, line: int) -> list[ast.AST]:
    """Return what is evaluated on a line: simple statements, and the heads of compound ones."""
    found: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.AsyncFor):
            heads: list[ast.AST] = [node.iter]
        elif isinstance(node, ast.If | ast.While):
            heads = [node.test]
        elif isinstance(node, ast.With | ast.AsyncWith):
            heads = [each.context_expr for each in node.items]
        elif isinstance(node, ast.stmt) and not hasattr(node, "body"):
            heads = [node]
        else:
            continue
        found += [each for each in heads if is_on(each, line)]
    return found


def is_on(node: ast.AST, line: int) -> bool:
    """Return whether a node is written on a line, in part at least."""
    first = getattr(node, "lineno", None)
    return first is not None and first <= line <= (getattr(node, "end_lineno", None) or first)


def read_literal(node: ast.AST) -> Any:
    """Return the number, text or tuple of numbers that a node is; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = read_literal(node.operand)
        return -value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if isinstance(node, ast.Tuple | ast.List) and node.elts:
        values = [read_literal(each) for each in node.elts]
        return tuple(values) if all(isinstance(each, int | float) for each in values) else None
    return None


def is_same(value: Any, wanted: Any) -> bool:
    """Return whether a literal has a value, to within the rounding of float32."""
    if isinstance(value, bool) or isinstance(wanted, bool) or isinstance(value, str):
        return type(value) is type(wanted) and bool(value == wanted)
    if isinstance(wanted, list | tuple):
        values = [value] * len(wanted) if not isinstance(value, tuple) else value
        return (
            bool(wanted)
            and len(values) == len(wanted)
            and all(is_same(one, other) for one, other in zip(values, wanted, strict=True))
        )
    if isinstance(value, int | float) and isinstance(wanted, int | float):
        return math.isclose(value, wanted, rel_tol=1e-6)
    return False


def _write_like(value: Any, new: Any) -> Any:
    """Return a new value in the form in which the old one is written."""
    if isinstance(new, list | tuple):
        plain = [_write_like(0, each) for each in new]
        is_one = not isinstance(value, tuple) and all(each == plain[0] for each in plain)
        return plain[0] if is_one else tuple(plain)
    if isinstance(new, float) and new.is_integer() and isinstance(value, int):
        return int(new)
    return new


class _Tracer:
    """Follows the values of expressions in one file."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.parents = {
            child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)
        }

    @cached_property
    def calls(self) -> list[ast.Call]:
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]

    def trace(
        self, node: ast.AST, steps: int, seen: frozenset[ast.AST] = frozenset()
    ) -> Iterator[Literal]:
        """Yield the literals of an expression, and those of what it names."""
        if node in seen:
            return
        value = read_literal(node)
        if value is not None and isinstance(node, ast.expr):
            yield Literal(node, value, steps, self._divides(node))
            if not isinstance(node, ast.Tuple | ast.List):
                return
        for source in self.find_sources(node) if steps < MAX_STEPS else ():
            yield from self.trace(source, steps + 1, seen | {node})
        for child in ast.iter_child_nodes(node):
            yield from self.trace(child, steps, seen)

    def _divides(self, node: ast.AST) -> bool:
        parent = self.parents.get(node)
        is_inverse = isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Div | ast.Sub)
        return is_inverse and getattr(parent, "right", None) is node

    def find_sources(self, node: ast.AST) -> list[ast.AST]:
        """Return the expressions that give a name, an attribute of `self` or an item its value."""
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            return self._find_values(node.id, node)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = self._enclosing(node, (ast.ClassDef,))
            return [] if owner is None else _find_attributes(owner, node.value.id, node.attr)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            return self._find_items(node.value, node.slice.value, MAX_STEPS)
        return []

    def _find_items(self, owner: ast.AST, key: Any, steps: int) -> list[ast.AST]:
        """Return what a dictionary that is written in the file has for a key."""
        if isinstance(owner, ast.Dict):
            pairs = zip(owner.keys, owner.values, strict=True)
            return [v for k, v in pairs if isinstance(k, ast.Constant) and k.value == key]
        if isinstance(owner, ast.Call) and name_of(owner.func) == "dict":
            return [each.value for each in owner.keywords if each.arg == key]
        sources = self.find_sources(owner) if steps else []
        return [item for each in sources for item in self._find_items(each, key, steps - 1)]

    def _enclosing(self, node: ast.AST, types: tuple[type[ast.AST], ...]) -> ast.AST | None:
        found = self.parents.get(node)
        while found is not None and not isinstance(found, types):
            found = self.parents.get(found)
        return found

    def _find_values(self, name: str, node: ast.AST) -> list[ast.AST]:
        scope = self.parents.get(node)
        while scope is not None:
            found: list[ast.AST] = []
            if isinstance(scope, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
                loops = [each for each in scope.generators if name in _names(each.target)]
                found = [each.iter for each in loops]
            elif isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                found = [*_find_assigned(scope, name), *self._find_arguments(scope, name)]
            elif isinstance(scope, ast.Module):
                found = _find_assigned(scope, name)
            if found:
                return found
            scope = self.parents.get(scope)
        return []

    def _find_arguments(self, function: Function, name: str) -> list[ast.AST]:
        """Return the default of a parameter, and what the calls in the file give for it."""
        arguments = function.args
        positional = [*arguments.posonlyargs, *arguments.args]
        names = [each.arg for each in positional]
        found: list[ast.AST] = []
        if name in names:
            at = names.index(name) - (len(names) - len(arguments.defaults))
            found += [arguments.defaults[at]] if at >= 0 else []
        elif name in [each.arg for each in arguments.kwonlyargs]:
            at = [each.arg for each in arguments.kwonlyargs].index(name)
            default = arguments.kw_defaults[at]
            found += [] if default is None else [default]
        else:
            return []
        if isinstance(function, ast.Lambda):
            return found
        owner = self.parents.get(function)
        called = function.name
        skipped = 0
        if isinstance(owner, ast.ClassDef):
            skipped = 1
            called = owner.name if called == "__init__" else called
        place = names.index(name) - skipped if name in names else -1
        for call in self.calls:
            if name_of(call.func) != called:
                continue
            found += [each.value for each in call.keywords if each.arg == name]
            if 0 <= place < len(call.args):
                found.append(call.args[place])
        return found


def _find_assigned(scope: ast.AST, name: str) -> list[ast.AST]:
    """Return what a function or a module assigns to a name, itself and not what is inside it."""
    found: list[ast.AST] = []
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        for target, value in _list_assignments(node):
            if name in _names(target):
                found.append(value)
        waiting += ast.iter_child_nodes(node)
    return found


def _find_attributes(owner: ast.AST, own: str, name: str) -> list[ast.AST]:
    """Return what a class assigns to an attribute, in its methods or for all its objects."""
    found: list[ast.AST] = []
    for node in ast.walk(owner):
        for target, value in _list_assignments(node):
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
                found += [value] if (target.value.id, target.attr) == (own, name) else []
    for node in ast.iter_child_nodes(owner):
        found += [value for target, value in _list_assignments(node) if name in _names(target)]
    return found


def _list_assignments(node: ast.AST) -> list[tuple[ast.AST, ast.expr]]:
    """Return the targets of a statement with what each is given: `a, b = 1, 2` has two."""
    if isinstance(node, ast.Assign):
        pairs: list[tuple[ast.AST, ast.expr]] = []
        for target in node.targets:
            parts = target.elts if isinstance(target, ast.Tuple | ast.List) else []
            values = node.value.elts if isinstance(node.value, ast.Tuple | ast.List) else []
            if parts and len(parts) == len(values):
                pairs += zip(parts, values, strict=True)
            else:
                pairs.append((target, node.value))
        return pairs
    if isinstance(node, ast.For):
        return [(node.target, node.iter)]
    if isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and node.value is not None:
        return [(node.target, node.value)]
    return []


def _names(target: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}


# Lists that a loop takes its values from ----------------------------------------------------------


def change_looped_list(text: str, value: ast.expr, values: Sequence[Any]) -> Iterator[str]:
    """Yield the source in which a loop gives the name `value` these values, one after the other.

    `value` is a node of the text's own tree, as `find_node` returns it.
    """
    tree = parse(text)
    if tree is None or not isinstance(value, ast.Name):
        return
    tracer = _Tracer(tree)
    own = find_node(tree, value)
    for items in [] if own is None else _list_looped(tracer, own, MAX_STEPS):
        for each in [items, *tracer.find_sources(items)]:
            # What is computed from another name is left to that name.
            if isinstance(each, ast.Name | ast.Attribute) or not isinstance(each, ast.expr):
                continue
            length = len(each.elts) if isinstance(each, ast.Tuple | ast.List) else len(values)
            if not length or len(values) % length:
                continue
            period = list(values[:length])
            if list(values) == period * (len(values) // length):
                written = ", ".join(map(format_literal, period))
                marks = "()" if isinstance(each, ast.Tuple) else "[]"
                comma = "," if marks == "()" and length == 1 else ""
                new = f"{marks[0]}{written}{comma}{marks[1]}"
                yield apply_edits(text, [(*span(text, each), new)])


def _list_looped(tracer: _Tracer, name: ast.expr, steps: int) -> Iterator[ast.expr]:
    """Yield the lists of which loops give a name an item, also as the argument of a function."""
    if not isinstance(name, ast.Name) or not steps:
        return
    for source in tracer.find_sources(name):
        items = _find_looped(tracer, source, name.id)
        if items is not None:
            yield items
        elif isinstance(source, ast.Name):
            yield from _list_looped(tracer, source, steps - 1)


def _find_looped(tracer: _Tracer, iterated: ast.AST, name: str) -> ast.expr | None:
    """Return the list of which a loop gives `name` an item; None where it gives something else."""
    loop = tracer.parents.get(iterated)
    target = getattr(loop, "target", None)
    if getattr(loop, "iter", None) is not iterated or not isinstance(iterated, ast.expr):
        return None
    if isinstance(target, ast.Name):
        return iterated
    places = [each.id if isinstance(each, ast.Name) else "" for each in getattr(target, "elts", ())]
    if name not in places or not isinstance(iterated, ast.Call):
        return None
    place, called = places.index(name), name_of(iterated.func)
    if called == "enumerate" and place == 1 and iterated.args:
        return iterated.args[0]
    if called == "zip" and place < len(iterated.args):
        return iterated.args[place]
    return None


def find_node(tree: ast.Module, like: ast.expr) -> ast.expr | None:
    """Return the node of a tree that is written at the place of one of another tree."""
    wanted = like.lineno, like.col_offset, like.end_lineno, like.end_col_offset
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and type(node) is type(like):
            found = node.lineno, node.col_offset, node.end_lineno, node.end_col_offset
            if found == wanted:
                return node
    return None
