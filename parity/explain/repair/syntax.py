"""Python source as a syntax tree: the characters of a node, names, and edits of the text."""

from __future__ import annotations

import ast
import functools
import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

Edit = tuple[int, int, str]
"""Characters from the first, included, to the second, excluded, and the text in their place."""


OPERATORS: Mapping[str, type[ast.operator]] = {
    "+": ast.Add, "-": ast.Sub, "*": ast.Mult, "/": ast.Div,
}  # fmt: skip
"""Python's arithmetic, as it is written."""

SYMBOLS: Mapping[type[ast.operator], str] = {each: symbol for symbol, each in OPERATORS.items()}
"""How each of them is written."""


def parse(text: str) -> ast.Module | None:
    """Return the tree of a source; None for one that is not Python."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return None


def name_of(func: ast.expr) -> str:
    """Return the last name of `module.function`; empty for what is no name."""
    if isinstance(func, ast.Attribute):
        return func.attr
    return func.id if isinstance(func, ast.Name) else ""


def is_module(text: str, value: ast.expr) -> bool:
    """Return whether an expression is a module that the file imports: `functional`, `torch.nn`."""
    while isinstance(value, ast.Attribute):
        value = value.value
    return isinstance(value, ast.Name) and value.id in imported_names(text)


@functools.lru_cache(maxsize=4)
def imported_names(text: str) -> Mapping[str, str]:
    """Return what each imported name stands for, by the name."""
    found: dict[str, str] = {}
    tree = parse(text)
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


def functional(text: str) -> str | None:
    """Return how the file can write `torch.nn.functional`; None where it imports no PyTorch."""
    imported = imported_names(text)
    by_value = {value: name for name, value in imported.items()}
    for whole, tail in (("torch.nn.functional", ""), ("torch.nn", ".functional"),
                        ("torch", ".nn.functional")):  # fmt: skip
        if whole in by_value:
            return f"{by_value[whole]}{tail}"
    return None


def span(text: str, node: ast.expr | ast.keyword) -> tuple[int, int]:
    """Return the characters of a node; the columns of `ast` are bytes of UTF-8."""
    lines, starts = _split(text)

    def place(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode(errors="ignore"))

    assert node.end_lineno is not None and node.end_col_offset is not None  # noqa: PT018
    return place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)


@functools.lru_cache(maxsize=4)
def _split(text: str) -> tuple[list[str], list[int]]:
    """Return the lines of a source and the character at which each starts."""
    lines = list(io.StringIO(text, newline=""))
    return lines, [0, *itertools.accumulate(map(len, lines))]


def segment(text: str, node: ast.expr) -> str:
    """Return the characters of a node as they are written."""
    start, end = span(text, node)
    return text[start:end]


def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """Return the source with edits that do not overlap."""
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def format_literal(value: Any) -> str:
    """Return a value as a file writes it."""
    return f'"{value}"' if isinstance(value, str) else repr(value)
