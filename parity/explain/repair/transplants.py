"""The reference's expressions, as the file of the subject writes them in its own framework."""

from __future__ import annotations

import ast
import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from parity.explain.repair.flow import enclosing_function, list_statements, read_names
from parity.explain.repair.literals import is_on, list_expressions
from parity.explain.repair.syntax import (
    SYMBOLS,
    apply_edits,
    imported_names,
    is_module,
    name_of,
    parse,
    segment,
    span,
)
from parity.network import kinds

MAX_RANK = 4
"""The axes that an operation of the reference may have here, in another order of them."""
MAX_MAPPINGS = 24
"""How many ways of giving the reference's names those of the subject are tried."""


@dataclass(frozen=True)
class ReferenceCode:
    """The reference's source, and the lines of it that a cause names."""

    framework: str
    text: str
    lines: tuple[int, ...]
    statements: tuple[ast.stmt, ...] = field(default=(), compare=False)

    @classmethod
    def read(cls, framework: str, text: str, lines: Sequence[int]) -> ReferenceCode:
        tree = parse(text)
        found: list[ast.stmt] = []
        for line in lines:
            owner = None if tree is None else enclosing_function(tree, line)
            statements = [] if owner is None else list_statements(owner)
            found += [each for each in statements if is_on(each, line) and each not in found]
        return cls(framework, text, tuple(lines), tuple(found))

    def list_functions(self, framework: str) -> list[str]:
        """Return the functions that the lines call, by their names in a framework."""
        found: dict[str, None] = {}
        for statement in self.statements:
            for node in ast.walk(statement):
                if isinstance(node, ast.Call):
                    found[_translate(name_of(node.func), self.framework, framework)] = None
        return [each for each in found if each]

    def list_arithmetic(self) -> list[tuple[str, str, bool]]:
        """Return the operations with a number: operator, number, whether that is on the left."""
        found: dict[tuple[str, str, bool], None] = {}
        for statement in self.statements:
            for node in ast.walk(statement):
                if not isinstance(node, ast.BinOp):
                    continue
                operator = SYMBOLS.get(type(node.op), "")
                for number, is_left in ((node.left, True), (node.right, False)):
                    if operator and _is_number(number):
                        found[operator, ast.unparse(number), is_left] = None
        return list(found)


def transplant_values(
    text: str, line: int, framework: str, reference: ReferenceCode
) -> Iterator[str]:
    """Yield the source with the value of a line's statement as the reference's statement has it.

    Names that the function here lacks stand for those that the line reads, in every order; axes
    of the reference are tried in every place.
    """
    tree = parse(text)
    owner = None if tree is None else enclosing_function(tree, line)
    if tree is None or owner is None:
        return
    known = {each.id for each in ast.walk(owner) if isinstance(each, ast.Name)}
    known |= {each.arg for each in owner.args.args}
    for root in list_expressions(tree, line):
        value = getattr(root, "value", None)
        if not isinstance(root, ast.Assign | ast.AugAssign | ast.Return) or value is None:
            continue
        own = sorted(read_names(value) - set(imported_names(text)))
        for statement in reference.statements:
            wanted = getattr(statement, "value", None)
            if not isinstance(wanted, ast.expr) or type(statement) is not type(root):
                continue
            for written in _write_here(wanted, text, framework, reference, known, own):
                yield apply_edits(text, [(*span(text, value), written)])


def transplant_calls(
    text: str, line: int, framework: str, reference: ReferenceCode
) -> Iterator[str]:
    """Yield the source with each call of a line as a call that the reference's lines have.

    What the call here computes on stays what it is.
    """
    tree = parse(text)
    if tree is None:
        return
    calls = [
        node
        for root in list_expressions(tree, line)
        for node in ast.walk(root)
        if isinstance(node, ast.Call) and is_on(node, line) and node.args
    ]
    wanted = [
        node
        for statement in reference.statements
        for node in ast.walk(statement)
        if isinstance(node, ast.Call)
    ]
    for call in calls:
        if not isinstance(call.func, ast.Attribute) or not is_module(text, call.func.value):
            continue
        operand = segment(text, call.args[0])
        for each in wanted:
            for written in _write_call(each, operand, text, framework, reference):
                yield apply_edits(text, [(*span(text, call), written)])


def repeat_for_tile(text: str, line: int) -> Iterator[str]:
    """Yield the source with a repetition of whole axes as one of items, and the reverse.

    `tile(x, (1, 1, n, 1))` is `repeat(x, n, axis=2)`, with the items in another order.
    """
    tree = parse(text)
    for node in (
        each
        for root in (list_expressions(tree, line) if tree is not None else ())
        for each in ast.walk(root)
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute)
    ):
        name, owner = name_of(node.func), segment(text, node.func)
        place = span(text, node)
        head = owner[: -len(name)]
        if name in ("tile", "repeat") and len(node.args) >= 2:
            counts = node.args[1].elts if isinstance(node.args[1], ast.Tuple | ast.List) else []
            moved = [(at, each) for at, each in enumerate(counts) if not _is_one(each)]
            if len(moved) == 1:
                at, count = moved[0]
                data, number = segment(text, node.args[0]), segment(text, count)
                new = "repeat" if name == "tile" else "repeat_interleave"
                axis = "axis" if new == "repeat" else "dim"
                yield apply_edits(text, [(*place, f"{head}{new}({data}, {number}, {axis}={at})")])
        axis_given = next((k.value for k in node.keywords if k.arg in ("axis", "dim")), None)
        if name in ("repeat", "repeat_interleave") and isinstance(axis_given, ast.Constant):
            place_given = axis_given.value
            if not isinstance(place_given, int) or place_given < 0:
                continue
            at = place_given
            is_method = not is_module(text, getattr(node.func, "value", node))
            data = "" if is_method else segment(text, node.args[0])
            number = segment(text, node.args[0 if is_method else 1])
            for rank in range(at + 1, 6):
                counts_text = ", ".join(number if each == at else "1" for each in range(rank))
                arguments = f"({counts_text}{',' if rank == 1 else ''})"
                if is_method:
                    yield apply_edits(text, [(*place, f"{head}repeat{arguments}")])
                else:
                    yield apply_edits(text, [(*place, f"{head}tile({data}, {arguments})")])


# Writing the reference's expressions -------------------------------------------------------------


def _write_here(
    wanted: ast.expr, text: str, framework: str, reference: ReferenceCode,
    known: set[str], own: Sequence[str],
) -> Iterator[str]:  # fmt: skip
    """Yield an expression of the reference in the names of a function here."""
    translated = _Translator(text, framework, reference).translate(wanted)
    if translated is None:
        return
    modules = set(imported_names(text))
    leaves = [each for each in dict.fromkeys(_list_leaves(translated)) if each not in modules]
    unknown = [each for each in leaves if each not in known]
    if len(unknown) > 3 or len(own) > 5:
        return
    mappings = itertools.islice(itertools.permutations(own, len(unknown)), MAX_MAPPINGS)
    for mapping in mappings:
        renamed = _rename_leaves(translated, dict(zip(unknown, mapping, strict=True)))
        yield from _vary_axes(renamed)


def _write_call(
    call: ast.Call, operand: str, text: str, framework: str, reference: ReferenceCode
) -> Iterator[str]:
    """Yield a call of the reference, computed on an operand here."""
    translated = _Translator(text, framework, reference).translate(call)
    if not isinstance(translated, ast.Call) or not translated.args:
        return
    changed = copy.deepcopy(translated)
    changed.args[0] = ast.parse(f"({operand})", mode="eval").body
    yield from _vary_axes(changed)


def _vary_axes(node: ast.expr) -> Iterator[str]:
    """Yield an expression with its one axis at every place; as it is first."""
    yield ast.unparse(node)
    axes = [
        each
        for call in ast.walk(node)
        if isinstance(call, ast.Call)
        for each in call.keywords
        if each.arg in ("axis", "dim") and isinstance(each.value, ast.Constant | ast.UnaryOp)
    ]
    if len(axes) != 1:
        return
    before = ast.unparse(axes[0].value)
    for axis in (*range(MAX_RANK), -1):
        if str(axis) != before:
            axes[0].value = ast.parse(str(axis), mode="eval").body
            yield ast.unparse(node)
    axes[0].value = ast.parse(before, mode="eval").body


def _list_leaves(node: ast.expr) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            yield each.id


def _rename_leaves(node: ast.expr, names: dict[str, str]) -> ast.expr:
    changed = copy.deepcopy(node)
    for each in ast.walk(changed):
        if isinstance(each, ast.Name) and each.id in names:
            each.id = names[each.id]
    return changed


class _Translator(ast.NodeTransformer):
    """Writes calls of one framework's functions and methods as calls of another's functions."""

    def __init__(self, text: str, framework: str, reference: ReferenceCode) -> None:
        self.reference = reference
        self.framework = framework
        self.module = find_module(text, framework)
        self.failed = self.module is None

    def translate(self, node: ast.expr) -> ast.expr | None:
        """Return the expression; None where it has what is no function of a framework."""
        changed = self.visit(copy.deepcopy(node))
        return None if self.failed else ast.fix_missing_locations(changed)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        own = name_of(node.func)
        new = _translate(own, self.reference.framework, self.framework)
        is_known = isinstance(node.func, ast.Attribute) and bool(new)
        if not is_known or own in _SHAPES:
            self.failed = True
            return node
        assert isinstance(node.func, ast.Attribute)
        args = list(node.args)
        if not is_module(self.reference.text, node.func.value):
            args.insert(0, node.func.value)
        names = _KEYWORDS if self.framework == "keras" else _BACKWARDS
        keywords = []
        for each in node.keywords:
            value = each.value
            if isinstance(value, ast.List | ast.Tuple) and len(value.elts) == 1:
                value = value.elts[0]
            keywords.append(ast.keyword(names.get(each.arg or "", each.arg), value))
        module = ast.parse(self.module or "", mode="eval").body
        return ast.Call(ast.Attribute(module, new, ast.Load()), args, keywords)


def find_module(text: str, framework: str) -> str | None:
    """Return how a file writes the module of its framework's functions: `ops`, `torch`."""
    by_value = {value: name for name, value in imported_names(text).items()}
    whole = "keras.ops" if framework == "keras" else "torch"
    if whole in by_value:
        return by_value[whole]
    return f"{by_value['keras']}.ops" if framework == "keras" and "keras" in by_value else None


def _translate(name: str, source: str, target: str) -> str:
    """Return a function's name in another framework; its own where both have it."""
    if source == target:
        return name
    if target == "keras":
        return _to_keras().get(name, name)
    return {new: old for old, new in _to_keras().items()}.get(name, name)


@cache
def _to_keras() -> dict[str, str]:
    found = dict(_NAMES)
    for kind in kinds.registry().values():
        for name in kind.torch_functions:
            if kind.keras_functions:
                found.setdefault(name, kind.keras_functions[0])
    return found


_NAMES = {
    "cat": "concatenate", "chunk": "split", "permute": "transpose", "amax": "max", "amin": "min",
    "repeat_interleave": "repeat", "repeat": "tile", "clamp": "clip", "unsqueeze": "expand_dims",
    "pow": "power", "bmm": "matmul", "logsumexp": "logsumexp", "view": "reshape",
}  # fmt: skip
_KEYWORDS = {"dim": "axis", "dims": "axis", "keepdim": "keepdims"}
_BACKWARDS = {"axis": "dim", "keepdims": "keepdim"}
_SHAPES = {"size", "to", "float", "contiguous", "detach", "expand"}


def _is_number(node: ast.AST) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def _is_one(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value == 1
