"""The lines that a line's values come from and go to: in its function, in what it calls, at calls.

A proof names the operation at which two models part; the statement to change may be before it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from parity.explain.repair.literals import is_on, list_expressions
from parity.explain.repair.syntax import name_of, parse

MAX_BEFORE = 6
"""How many statements of the function are followed back from a line."""
MAX_AFTER = 3
"""How many statements that read what a line gives are followed."""
MAX_LINES = 16

_Functions = ast.FunctionDef | ast.AsyncFunctionDef


def trace_lines(text: str, lines: Iterable[int]) -> list[int]:
    """Return lines with those that they are related to, the nearest first.

    First the lines themselves; then the statements of their functions whose values they read, and
    those that read theirs; then the bodies of the functions of the file that they call, and the
    calls of the functions that they are in.
    """
    tree = parse(text)
    given = list(dict.fromkeys(lines))
    if tree is None:
        return given
    related: list[int] = []
    for line in given:
        related += _trace_function(tree, line)
    called: list[int] = []
    for line in given:
        called += [*_list_called(tree, line), *_list_calls(tree, line)]
    return list(dict.fromkeys((*given, *related, *called)))[: max(MAX_LINES, len(given))]


def enclosing_function(tree: ast.Module, line: int) -> _Functions | None:
    """Return the innermost function around a line."""
    found = [n for n in ast.walk(tree) if isinstance(n, _Functions) and is_on(n, line)]
    return max(found, key=lambda each: each.lineno, default=None)


def list_statements(owner: ast.AST) -> list[ast.stmt]:
    """Return the simple statements of a function, in order, without those of inner functions."""
    found: list[ast.stmt] = []
    for node in ast.iter_child_nodes(owner):
        if isinstance(node, _Functions | ast.ClassDef):
            continue
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            found.append(node)
        else:
            found += list_statements(node)
    return found


def read_names(node: ast.AST) -> set[str]:
    """Return the names that an expression or a statement reads."""
    return {
        each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)
    }


def written_names(node: ast.AST) -> set[str]:
    """Return the names that a statement assigns."""
    return {
        each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }


def _trace_function(tree: ast.Module, line: int) -> list[int]:
    owner = enclosing_function(tree, line)
    if owner is None:
        return []
    statements = list_statements(owner)
    own = [each for each in statements if is_on(each, line)]
    wanted = set[str]().union(*map(read_names, own)) if own else set[str]()
    before: list[int] = []
    for each in reversed([each for each in statements if each.lineno < line]):
        if written_names(each) & wanted and len(before) < MAX_BEFORE:
            wanted |= read_names(each)
            before.append(each.lineno)
    given = set[str]().union(*map(written_names, own)) if own else set[str]()
    after: list[int] = []
    for each in (each for each in statements if each.lineno > line):
        if read_names(each) & given and len(after) < MAX_AFTER:
            given |= written_names(each)
            after.append(each.lineno)
    return [*before, *after]


def _list_called(tree: ast.Module, line: int) -> list[int]:
    """Return the lines of the functions of the file that a line calls."""
    names = {
        name_of(each.func)
        for root in list_expressions(tree, line)
        for each in ast.walk(root)
        if isinstance(each, ast.Call) and is_on(each, line)
    }
    found = [n for n in ast.walk(tree) if isinstance(n, _Functions) and n.name in names]
    return [each.lineno for owner in found for each in list_statements(owner)]


def _list_calls(tree: ast.Module, line: int) -> list[int]:
    """Return the lines that call the function around a line, or construct its class."""
    owner = enclosing_function(tree, line)
    if owner is None:
        return []
    classes = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and is_on(n, line)]
    name = classes[-1].name if classes else owner.name
    return [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Call) and name_of(n.func) == name]
