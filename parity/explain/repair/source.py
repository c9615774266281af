"""Edits of the user's Python source: one call's arguments, its name, or the call taken away."""

from __future__ import annotations

import ast
import difflib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    tree = _parse(text)
    call = None if tree is None else _find_call(tree, place)
    if call is None or _name_of(call.func) != place.made:
        return None
    edits = _change_arguments(text, call, place.parameters, arguments)
    if edits is None:
        return None
    if made:
        edits.append(_rename(text, call.func, made))
    return _apply(text, edits)


def rename_function(text: str, line: int, names: Sequence[str], new: str) -> Iterator[str]:
    """Yield the source with each of the calls on a line that have one of `names`, by another name.

    A method of a tensor that has no such name becomes a call of `torch.nn.functional`, if the file
    imports `torch`.
    """
    for call in _calls_on(text, line, names):
        func = call.func
        if isinstance(func, ast.Attribute) and not _is_module(text, func.value):
            if _is_method(new):
                yield _apply(text, [_rename(text, func, new)])
                continue
            module = _functional(text)
            if module is not None and not call.args:
                value = _segment(text, func.value)
                span = _span(text, call)
                yield _apply(text, [(*span, f"{module}.{new}({value})")])
            continue
        yield _apply(text, [_rename(text, func, new)])


def remove_call(text: str, line: int, names: Sequence[str]) -> Iterator[str]:
    """Yield the source in which each such call on a line is replaced by what it is called on."""
    for call in _calls_on(text, line, names):
        func = call.func
        inner: ast.expr | None = call.args[0] if call.args else None
        if isinstance(func, ast.Attribute) and not _is_module(text, func.value):
            inner = func.value
        if inner is not None:
            yield _apply(text, [(*_span(text, call), _segment(text, inner))])


def remove_arithmetic(text: str, line: int) -> Iterator[str]:
    """Yield the source with each product, quotient, sum or difference of an expression and a number
    on a line replaced by the expression."""
    tree = _parse(text)
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
        inner = _segment(text, kept)
        is_plain = isinstance(kept, ast.Call | ast.Name | ast.Attribute | ast.Subscript)
        yield _apply(text, [(*_span(text, node), inner if is_plain else f"({inner})")])


def change_operator(text: str, line: int, old: str, new: str) -> Iterator[str]:
    """Yield the source with each operator `old` on a line, `-` or `-=`, replaced by `new`."""
    tree = _parse(text)
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
        if not old or not isinstance(node.op, _OPERATORS[old]):
            continue
        first, second = (
            (node.left, node.right) if isinstance(node, ast.BinOp) else (node.target, node.value)
        )
        start, end = _span(text, first)[1], _span(text, second)[0]
        between = text[start:end]
        if between.count(old) != 1:
            continue
        edits: list[Edit] = [(start, end, between.replace(old, new))]
        # What the operators bind stays as it is.
        around = [each for each in (first, second) if isinstance(each, ast.BinOp)]
        if isinstance(node, ast.BinOp) and node in inner:
            around.append(node)
        for each in around:
            opened, closed = _span(text, each)
            edits += [(opened, opened, "("), (closed, closed, ")")]
        yield _apply(text, edits)


_OPERATORS: Mapping[str, type[ast.operator]] = {
    "+": ast.Add, "-": ast.Sub, "*": ast.Mult, "/": ast.Div,
}  # fmt: skip


def exchange_items(text: str, line: int, names: Sequence[str]) -> Iterator[str]:
    """Yield the source in which the two tensors that such a call on a line joins are exchanged."""
    for call in _calls_on(text, line, names):
        items = call.args[0] if call.args else None
        if isinstance(items, ast.List | ast.Tuple) and len(items.elts) == 2:
            first, second = items.elts
            yield _apply(
                text,
                [
                    (*_span(text, first), _segment(text, second)),
                    (*_span(text, second), _segment(text, first)),
                ],
            )


def rename_call(text: str, line: int, name: str, new: str) -> Iterator[str]:
    """Yield the source with each call of `name` on a line by another name, with its arguments."""
    for call in _calls_on(text, line, (name,)):
        yield _apply(text, [_rename(text, call.func, new)])


def wrap_call(text: str, line: int, names: Sequence[str], function: str) -> Iterator[str]:
    """Yield the source in which each such call on a line is given to `function` of PyTorch."""
    module = _functional(text)
    for call in _calls_on(text, line, names) if module is not None else ():
        yield _apply(text, [(*_span(text, call), f"{module}.{function}({_segment(text, call)})")])


def change_function_argument(
    text: str, line: int, names: Sequence[str], arguments: Mapping[str, Any], position: int = 1
) -> Iterator[str]:
    """Yield the source with other keyword arguments of each such call on a line.

    A single argument that is given by position there, at `position`, is replaced.
    """
    for call in _calls_on(text, line, names):
        parameters = [""] * position + list(arguments)
        if isinstance(call.func, ast.Attribute) and not _is_module(text, call.func.value):
            parameters = parameters[1:]
        edits = _change_arguments(text, call, parameters, arguments)
        if edits is not None:
            yield _apply(text, edits)


def remove_keywords(text: str, line: int, names: Sequence[str]) -> Iterator[str]:
    """Yield the source without these keyword arguments of each call on a line that has any.

    Inner calls come first, as they run.
    """
    tree = _parse(text)
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
        for keyword in sorted(call.keywords, key=lambda each: -_span(text, each)[0]):
            if keyword.arg in names:
                changed = _apply(changed, [_cut_argument(changed, call, keyword)])
                call.keywords.remove(keyword)
        if _parse(changed) is not None:
            yield changed


def _cut_argument(text: str, call: ast.Call, keyword: ast.keyword) -> Edit:
    """Return the edit that removes a keyword argument with the comma before or behind it."""
    start, end = _span(text, keyword)
    before = [_span(text, each)[1] for each in (*call.args, *(k.value for k in call.keywords))]
    before = [each for each in before if each <= start]
    if before:
        # A parenthesis behind the argument before is its own.
        return text.rindex(",", max(before), start), end, ""
    if len(call.keywords) == 1:
        return start, end, ""
    comma = text.find(",", end, _span(text, call)[1])
    if comma < 0:
        return start, end, ""
    while text[comma + 1 : comma + 2].isspace():
        comma += 1
    return start, comma + 1, ""


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


def _parse(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return None


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
    tree = _parse(text)
    if tree is None:
        return []
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and node.lineno <= line <= (node.end_lineno or node.lineno)
        and _name_of(node.func) in names
    ]
    exact = [call for call in calls if line in (call.lineno, call.end_lineno)]
    return sorted(exact or calls, key=lambda call: (call.end_lineno or 0, call.end_col_offset or 0))


def _name_of(func: ast.expr) -> str:
    if isinstance(func, ast.Attribute):
        return func.attr
    return func.id if isinstance(func, ast.Name) else ""


def _is_module(text: str, value: ast.expr) -> bool:
    """Return whether an expression is a module that the file imports: `functional`, `torch.nn`."""
    while isinstance(value, ast.Attribute):
        value = value.value
    return isinstance(value, ast.Name) and value.id in _imported(text)


def _imported(text: str) -> dict[str, str]:
    """Return what each imported name stands for, by the name."""
    found = {}
    tree = _parse(text)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Import):
            for each in node.names:
                found[each.asname or each.name.partition(".")[0]] = (
                    each.name if each.asname else each.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for each in node.names:
                found[each.asname or each.name] = f"{node.module}.{each.name}"
    return found


def _functional(text: str) -> str | None:
    """Return how the file can write `torch.nn.functional`; None where it imports no PyTorch."""
    imported = _imported(text)
    by_value = {value: name for name, value in imported.items()}
    for whole, tail in (("torch.nn.functional", ""), ("torch.nn", ".functional"),
                        ("torch", ".nn.functional")):  # fmt: skip
        if whole in by_value:
            return f"{by_value[whole]}{tail}"
    return None


# Editing ------------------------------------------------------------------------------------------

Edit = tuple[int, int, str]
"""Characters from the first, included, to the second, excluded, and the text in their place."""


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
            added.append(f"{name}={_literal(value)}")
        else:
            edits.append((*_span(text, old), _literal(value)))
    if added:
        every = [*call.args, *(each.value for each in call.keywords)]
        end = max((_span(text, each)[1] for each in every), default=_span(text, call)[1] - 1)
        edits.append((end, end, (", " if every else "") + ", ".join(added)))
    return edits


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _rename(text: str, func: ast.expr, new: str) -> Edit:
    start, end = _span(text, func)
    return (end - len(_name_of(func)), end, new) if isinstance(func, ast.Attribute) else (
        start, end, new
    )  # fmt: skip


def _span(text: str, node: ast.expr | ast.keyword) -> tuple[int, int]:
    """Return the characters of a node; the columns of `ast` are bytes of UTF-8."""
    lines = list(io.StringIO(text, newline=""))
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def place(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode(errors="ignore"))

    assert node.end_lineno is not None and node.end_col_offset is not None  # noqa: PT018
    return place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)


def _segment(text: str, node: ast.expr) -> str:
    start, end = _span(text, node)
    return text[start:end]


def _apply(text: str, edits: Sequence[Edit]) -> str:
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text
