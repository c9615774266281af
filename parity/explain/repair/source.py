"""Edits of the user's Python source: one call's arguments, its name, or the call taken away."""

from __future__ import annotations

import ast
import difflib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parity.explain.repair.literals import read_literal
from parity.explain.repair.syntax import (
    OPERATORS,
    Edit,
    apply_edits,
    format_literal,
    functional,
    is_module,
    name_of,
    parse,
    segment,
    span,
)
from parity.network import kinds


@dataclass(frozen=True)
class CallPlace:
    """A call that constructs a layer: see `runtimes.constructors.Place.describe`."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    made: str
    """The name of the class."""
    parameters: tuple[str, ...]
    """The names of the class's positional parameters."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CallPlace:
        return cls(
            data["file"],
            data["line"],
            data["column"],
            data["end_line"],
            data["end_column"],
            data["class"],
            tuple(data["parameters"]),
        )


def change_constructor(
    text: str, place: CallPlace, arguments: Mapping[str, Any], made: str = ""
) -> str | None:
    """Return the source with other arguments of the constructor at `place`, and another class.

    None where no call of the class is there, or its arguments are unpacked from a collection.
    """
    tree = parse(text)
    call = None if tree is None else _find_call(tree, place)
    if call is None or name_of(call.func) != place.made:
        return None
    edits = _change_arguments(text, call, place.parameters, arguments)
    if edits is None:
        return None
    if made:
        edits.append(_rename(text, call.func, made))
    return apply_edits(text, edits)


def find_computed(text: str, place: CallPlace, arguments: Mapping[str, Any]) -> dict[str, ast.expr]:
    """Return the arguments that the constructor at `place` gives, by name, and not as literals."""
    tree = parse(text)
    call = None if tree is None else _find_call(tree, place)
    if call is None or any(isinstance(each, ast.Starred) for each in call.args):
        return {}
    given = {each.arg: each.value for each in call.keywords if each.arg}
    given.update(dict(zip(place.parameters, call.args, strict=False)))
    return {
        name: given[name]
        for name in arguments
        if name in given and read_literal(given[name]) is None
    }


def replace_function(text: str, line: int, names: Sequence[str], new: str) -> Iterator[str]:
    """Yield the source with each of the calls on a line that have one of `names`, by another name.

    A method of a tensor that has no such name becomes a call of `torch.nn.functional`, if the file
    imports `torch`.
    """
    for call in _calls_on(text, line, names):
        func = call.func
        if isinstance(func, ast.Attribute) and not is_module(text, func.value):
            if _is_method(new):
                yield apply_edits(text, [_rename(text, func, new)])
                continue
            module = functional(text)
            if module is not None and not call.args:
                value = segment(text, func.value)
                place = span(text, call)
                yield apply_edits(text, [(*place, f"{module}.{new}({value})")])
            continue
        yield apply_edits(text, [_rename(text, func, new)])


def remove_call(text: str, line: int, names: Sequence[str]) -> Iterator[str]:
    """Yield the source in which each such call on a line is replaced by what it is called on."""
    for call in _calls_on(text, line, names):
        func = call.func
        inner: ast.expr | None = call.args[0] if call.args else None
        if isinstance(func, ast.Attribute) and not is_module(text, func.value):
            inner = func.value
        if inner is not None:
            yield apply_edits(text, [(*span(text, call), segment(text, inner))])


def remove_arithmetic(text: str, line: int) -> Iterator[str]:
    """Yield the source with each product, quotient, sum or difference of an expression and a number
    on a line replaced by the expression."""
    tree = parse(text)
    for node in ast.walk(tree) if tree is not None else ():
        if not isinstance(node, ast.BinOp) or not node.lineno <= line <= (node.end_lineno or 0):
            continue
        if not isinstance(node.op, ast.Mult | ast.Div | ast.Add | ast.Sub):
            continue
        is_commutative = isinstance(node.op, ast.Mult | ast.Add)
        if _is_number(node.right):
            kept = node.left
        elif _is_number(node.left) and is_commutative:
            kept = node.right
        else:
            continue
        inner = segment(text, kept)
        is_plain = isinstance(kept, ast.Call | ast.Name | ast.Attribute | ast.Subscript)
        yield apply_edits(text, [(*span(text, node), inner if is_plain else f"({inner})")])


def change_operator(text: str, line: int, old: str, new: str) -> Iterator[str]:
    """Yield the source with each operator `old` on a line, `-` or `-=`, replaced by `new`."""
    tree = parse(text)
    inner = {
        child
        for node in ast.walk(tree or ast.Module([], []))
        if isinstance(node, ast.BinOp | ast.UnaryOp)
        for child in ast.iter_child_nodes(node)
    }
    for node in ast.walk(tree) if tree is not None else ():
        if not isinstance(node, ast.BinOp | ast.AugAssign):
            continue
        if not node.lineno <= line <= (node.end_lineno or 0):
            continue
        if not old or not isinstance(node.op, OPERATORS[old]):
            continue
        first, second = (
            (node.left, node.right) if isinstance(node, ast.BinOp) else (node.target, node.value)
        )
        start, end = span(text, first)[1], span(text, second)[0]
        between = text[start:end]
        if between.count(old) != 1:
            continue
        edits: list[Edit] = [(start, end, between.replace(old, new))]
        # What the operators bind stays as it is.
        around = [each for each in (first, second) if isinstance(each, ast.BinOp)]
        if isinstance(node, ast.BinOp) and node in inner:
            around.append(node)
        for each in around:
            opened, closed = span(text, each)
            edits += [(opened, opened, "("), (closed, closed, ")")]
        yield apply_edits(text, edits)


def exchange_items(text: str, line: int, names: Sequence[str]) -> Iterator[str]:
    """Yield the source in which the two tensors that such a call on a line joins are exchanged."""
    for call in _calls_on(text, line, names):
        items = call.args[0] if call.args else None
        if isinstance(items, ast.List | ast.Tuple) and len(items.elts) == 2:
            first, second = items.elts
            yield apply_edits(
                text,
                [
                    (*span(text, first), segment(text, second)),
                    (*span(text, second), segment(text, first)),
                ],
            )


def rename_call(text: str, line: int, name: str, new: str) -> Iterator[str]:
    """Yield the source with each call of `name` on a line by another name, with its arguments."""
    for call in _calls_on(text, line, (name,)):
        yield apply_edits(text, [_rename(text, call.func, new)])


def wrap_call(
    text: str,
    line: int,
    names: Sequence[str],
    function: str,
    arguments: Mapping[str, Any] | None = None,
) -> Iterator[str]:
    """Yield the source in which each such call on a line is given to `function` of PyTorch."""
    module = functional(text)
    more = "".join(f", {k}={format_literal(v)}" for k, v in (arguments or {}).items())
    for call in _calls_on(text, line, names) if module is not None else ():
        inner = segment(text, call)
        yield apply_edits(text, [(*span(text, call), f"{module}.{function}({inner}{more})")])


def change_function_argument(
    text: str, line: int, names: Sequence[str], arguments: Mapping[str, Any], position: int = 1
) -> Iterator[str]:
    """Yield the source with other keyword arguments of each such call on a line.

    A single argument that is given by position there, at `position`, is replaced.
    """
    for call in _calls_on(text, line, names):
        parameters = [""] * position + list(arguments)
        if isinstance(call.func, ast.Attribute) and not is_module(text, call.func.value):
            parameters = parameters[1:]
        edits = _change_arguments(text, call, parameters, arguments)
        if edits is not None:
            yield apply_edits(text, edits)


def remove_keywords(text: str, line: int, names: Sequence[str]) -> Iterator[str]:
    """Yield the source without these keyword arguments of each call on a line that has any.

    Inner calls come first, as they run.
    """
    tree = parse(text)
    calls = [
        node
        for node in ast.walk(tree or ast.Module([], []))
        if isinstance(node, ast.Call)
        and node.lineno <= line <= (node.end_lineno or 0)
        and any(keyword.arg in names for keyword in node.keywords)
    ]
    for call in sorted(calls, key=lambda each: (each.end_lineno or 0, each.end_col_offset or 0)):
        changed = text
        # One after the other, the last one first: a cut takes the comma before it.
        for keyword in sorted(call.keywords, key=lambda each: -span(text, each)[0]):
            if keyword.arg in names:
                changed = apply_edits(changed, [_cut_argument(changed, call, keyword)])
                call.keywords.remove(keyword)
        if parse(changed) is not None:
            yield changed


def _cut_argument(text: str, call: ast.Call, keyword: ast.keyword) -> Edit:
    """Return the edit that removes a keyword argument with the comma before or behind it."""
    start, end = span(text, keyword)
    before = [span(text, each)[1] for each in (*call.args, *(k.value for k in call.keywords))]
    before = [each for each in before if each <= start]
    if before:
        # A parenthesis behind the argument before is its own.
        return text.rindex(",", max(before), start), end, ""
    if len(call.keywords) == 1:
        return start, end, ""
    comma = text.find(",", end, span(text, call)[1])
    if comma < 0:
        return start, end, ""
    while text[comma + 1 : comma + 2].isspace():
        comma += 1
    return start, comma + 1, ""


def describe_edit(before: str, after: str, name: str) -> str:
    """Return the first line that an edit changes, and what it becomes: `net.py:12: x -> y`."""
    old, new = before.splitlines(), after.splitlines()
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for tag, start, end, first, last in matcher.get_opcodes():
        if tag != "equal":
            gone = " ".join(each.strip() for each in old[start:end])
            made = " ".join(each.strip() for each in new[first:last])
            return f"{name}:{start + 1}: `{gone}` becomes `{made}`"
    return f"{name}: nothing"


def format_patch(before: str, after: str, name: str) -> str:
    """Return a patch for `git apply`; `name` is the file's path from where it is applied."""
    lines: list[str] = []
    for line in difflib.unified_diff(
        list(io.StringIO(before, newline="")),
        list(io.StringIO(after, newline="")),
        f"a/{name}",
        f"b/{name}",
    ):
        lines.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(lines)


# Finding ------------------------------------------------------------------------------------------


def _is_number(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        node = node.operand
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def _is_method(name: str) -> bool:
    """Return whether PyTorch's tensors have an activation or a sum of this name as a method."""
    return any(
        kind.torch_method or kind.joins_branches
        for kind in kinds.registry().values()
        if name in kind.torch_functions
    )


def _find_call(tree: ast.Module, place: CallPlace) -> ast.Call | None:
    wanted = (place.line, place.column, place.end_line, place.end_column)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found = (node.lineno, node.col_offset, node.end_lineno, node.end_col_offset)
            if found == wanted:
                return node
    return None


def _calls_on(text: str, line: int, names: Sequence[str]) -> list[ast.Call]:
    """Return the calls of these names on a line, inner ones first, as they run."""
    tree = parse(text)
    if tree is None:
        return []
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and node.lineno <= line <= (node.end_lineno or node.lineno)
        and name_of(node.func) in names
    ]
    exact = [call for call in calls if line in (call.lineno, call.end_lineno)]
    return sorted(exact or calls, key=lambda call: (call.end_lineno or 0, call.end_col_offset or 0))


# Editing ------------------------------------------------------------------------------------------


def _change_arguments(
    text: str, call: ast.Call, parameters: Sequence[str], arguments: Mapping[str, Any]
) -> list[Edit] | None:
    if any(isinstance(each, ast.Starred) for each in call.args):
        return None
    if any(each.arg is None for each in call.keywords):
        return None
    edits: list[Edit] = []
    added = []
    keywords = {each.arg: each.value for each in call.keywords}
    for name, value in arguments.items():
        place = parameters.index(name) if name in parameters else len(call.args)
        old = keywords.get(name) or (call.args[place] if place < len(call.args) else None)
        if old is None:
            added.append(f"{name}={format_literal(value)}")
        else:
            edits.append((*span(text, old), format_literal(value)))
    if added:
        every = [*call.args, *(each.value for each in call.keywords)]
        end = max((span(text, each)[1] for each in every), default=span(text, call)[1] - 1)
        edits.append((end, end, (", " if every else "") + ", ".join(added)))
    return edits


def _rename(text: str, func: ast.expr, new: str) -> Edit:
    start, end = span(text, func)
    return (end - len(name_of(func)), end, new) if isinstance(func, ast.Attribute) else (
        start, end, new
    )  # fmt: skip
