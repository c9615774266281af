"""Edits that insert what a line lacks: a number, a function, a causal mask, a padding."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from parity.explain.repair.flow import enclosing_function, list_statements, read_names
from parity.explain.repair.literals import is_on, list_expressions
from parity.explain.repair.statements import wrap_operand, write_call
from parity.explain.repair.syntax import apply_edits, name_of, parse, segment, span
from parity.explain.repair.transplants import find_module
from parity.network import kinds
from parity.network.kind import Kind

MAX_WRAPPED = 24
"""How many operands of a line are given to something in one way each."""


def insert_arithmetic(
    text: str, line: int, operations: Sequence[tuple[str, str, bool]]
) -> Iterator[str]:
    """Yield the source with an operation with a number on each operand of a line.

    `operations` are (operator, number, whether the number is left of it).
    """
    for operator, number, is_left in operations:
        template = "{number} {operator} {operand}" if is_left else "{operand} {operator} {number}"

        def wrap(operand: str, written: str = template, by: str = operator, n: str = number) -> str:
            return written.format(number=n, operator=by, operand=operand)

        for place, changed in enumerate(wrap_operand(text, line, wrap)):
            if place < MAX_WRAPPED:
                yield changed


def insert_function(
    text: str, line: int, framework: str, functions: Sequence[str]
) -> Iterator[str]:
    """Yield the source with each operand of a line given to a function of one argument."""
    unary = {
        name
        for kind in kinds.registry().values()
        for name in (*kind.torch_functions, *kind.keras_functions)
        if _is_pointwise(kind)
    }
    for name in functions:
        activation = name in unary
        if not activation:
            continue
        wrap = write_call(text, framework, name, is_activation=False)
        for place, changed in enumerate(wrap_operand(text, line, wrap) if wrap else ()):
            if place < MAX_WRAPPED:
                yield changed


def _is_pointwise(kind: Kind) -> bool:
    """Return whether a kind computes each value of one input by itself, without settings."""
    moves = kind.moves_values or kind.passive or kind.reorders or kind.mixes_axes
    reads_more = kind.roles or kind.joins_branches or kind.number_verb or kind.hyperparameters
    return kind.activation or kind.family == "activation" or not (moves or reads_more)


def insert_mask(text: str, line: int, framework: str) -> Iterator[str]:
    """Yield the source with a causal mask: the keyword of a layer or a function, or on scores.

    A name of the function that nothing reads may be the mask.
    """
    tree = parse(text)
    if tree is None:
        return
    nodes = [node for root in list_expressions(tree, line) for node in ast.walk(root)]
    calls = [node for node in nodes if isinstance(node, ast.Call) and is_on(node, line)]
    keyword = "use_causal_mask" if framework == "keras" else "is_causal"
    for call in calls:
        if name_of(call.func) in ("scaled_dot_product_attention",) or _is_own_layer(call):
            end = span(text, call)[1] - 1
            comma = ", " if call.args or call.keywords else ""
            name = "is_causal" if "dot_product" in name_of(call.func) else keyword
            yield apply_edits(text, [(end, end, f"{comma}{name}=True")])
    masks = _list_unread(tree, line)
    for call in calls:
        if name_of(call.func) not in ("softmax", "Softmax") or not call.args:
            continue
        scores = call.args[0]
        yield from _mask(text, scores, framework, masks)
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp | ast.Call):
            yield from _mask(text, node.value, framework, masks)


def _mask(text: str, scores: ast.expr, framework: str, masks: Sequence[str]) -> Iterator[str]:
    """Yield the source with scores that a mask hides where a key is later than its query."""
    module = find_module(text, framework)
    if module is None:
        return
    inner, place = segment(text, scores), span(text, scores)
    plain = inner if isinstance(scores, ast.Name) else ""
    for mask in masks:
        yield apply_edits(text, [(*place, f"{module}.where({mask}, {inner}, -1e9)")])
        yield apply_edits(text, [(*place, f"{module}.where({mask}, -1e9, {inner})")])
    if plain and framework == "keras":
        shape = f"({plain}.shape[-2], {plain}.shape[-1])"
        mask = f'{module}.tril({module}.ones({shape}, dtype="bool"))'
        yield apply_edits(text, [(*place, f"{module}.where({mask}, {inner}, -1e9)")])
    elif plain:
        mask = f"{module}.ones({plain}.shape[-2:], dtype={module}.bool).tril()"
        masked = f'{module}.where({mask}, {inner}, {module}.tensor(float("-inf")))'
        yield apply_edits(text, [(*place, masked)])


def _is_own_layer(call: ast.Call) -> bool:
    """Return whether a call is of a layer on two tensors, as attention's is."""
    return (len(call.args) >= 2 and not isinstance(call.func, ast.Name)) or (
        isinstance(call.func, ast.Call) and len(call.args) >= 2
    )


def _list_unread(tree: ast.Module, line: int) -> list[str]:
    """Return the names that the function around a line assigns and never reads."""
    owner = enclosing_function(tree, line)
    if owner is None:
        return []
    read = set[str]().union(*(read_names(each) for each in list_statements(owner)))
    found = []
    for each in list_statements(owner):
        if isinstance(each, ast.Assign):
            found += [t.id for t in each.targets if isinstance(t, ast.Name) and t.id not in read]
    return found


def pad_explicitly(text: str, line: int) -> Iterator[str]:
    """Yield the source with a layer's SAME padding as a layer of zeros before it.

    The layer is made and called in one expression; half of its kernel is padded on each side.
    """
    tree = parse(text)
    if tree is None:
        return
    for root in list_expressions(tree, line):
        for node in ast.walk(root):
            made = node.func if isinstance(node, ast.Call) else None
            if not isinstance(node, ast.Call) or not isinstance(made, ast.Call) or not node.args:
                continue
            padding = next((k for k in made.keywords if k.arg == "padding"), None)
            rank = name_of(made.func)[-2:]
            is_same = padding is not None and getattr(padding.value, "value", "") == "same"
            if padding is None or not is_same or rank not in ("1D", "2D", "3D"):
                continue
            widths = [
                each
                for each in (
                    *made.args,
                    *(k.value for k in made.keywords if k.arg == "kernel_size"),
                )
                if isinstance(each, ast.Name | ast.Attribute)
                or (isinstance(each, ast.Constant) and type(each.value) is int)
            ]
            head = segment(text, made.func)[: -len(name_of(made.func))]
            for each in reversed(widths):
                size = segment(text, each)
                half = str(int(size) // 2) if size.isdigit() else f"{size} // 2"
                inner = segment(text, node.args[0])
                yield apply_edits(
                    text,
                    [
                        (*span(text, padding.value), '"valid"'),
                        (*span(text, node.args[0]), f"{head}ZeroPadding{rank}({half})({inner})"),
                    ],
                )
