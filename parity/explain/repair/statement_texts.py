"""The texts in which a value, an operand or an order is another on the line of an operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from parity.explain.repair import literals, statements
from parity.explain.repair import source as sources
from parity.explain.repair.changes import LayerRepair, MissingOperation
from parity.explain.repair.source_files import SourceFiles
from parity.explain.repair.syntax import format_literal
from parity.network import kinds
from parity.network.alignment import families
from parity.network.graph import Graph, Node


def plan_statement_texts(
    repair: LayerRepair, node: Node, graph: Graph, files: SourceFiles
) -> Iterator[tuple[str, str]]:
    """Yield the texts in which a value, an operand or an order of a node's line is another one.

    What the cause suggests is tried at the line, wherever it is written: in a layer's call, in a
    function's, or in an expression.
    """
    before = [graph.producers[each] for each in node.inputs if each in graph.producers]
    found = dict.fromkeys(files.find_line(each) for each in (node, *before))
    lines = [each for each in found if each is not None]
    for file, line in lines[:1]:
        for number in repair.numbers:
            for text in literals.change_values(files.texts[file], line, number.old, number.new):
                yield file, text
        if repair.factor is not None:
            for text in literals.divide_values(files.texts[file], line, repair.factor):
                yield file, text
        if repair.offset is not None:
            for text in literals.subtract_from_values(files.texts[file], line, repair.offset):
                yield file, text
        if repair.kind:
            yield from _change_named_kind(repair.kind, node, file, files.texts[file], line)
    if not repair.kind:
        for name, new in repair.hyper.items():
            yield from _change_written(name, new, node, graph, files)
    for missing in repair.missing:
        for file, line in lines:
            for text in _insert_operation(missing, node, graph, files.texts[file], line):
                yield file, text
    if repair.has_text_only:
        for file, line in lines:
            for text in statements.unwrap_operand(files.texts[file], line):
                yield file, text
    if repair.changes_data:
        yield from _change_joining_class(before, files)
        if families.is_ordered(node.kind):
            for file, line in lines[:1]:
                for text in statements.reorder_items(files.texts[file], line):
                    yield file, text


def _change_named_kind(
    wanted: str, node: Node, file: str, text: str, line: int
) -> Iterator[tuple[str, str]]:
    """Yield the texts in which the name of an operation, as `"relu"`, is another one."""
    found, target = kinds.find(node.kind), kinds.get(wanted)
    if found is None:
        return
    names = [*target.keras_functions, *target.torch_functions]
    for old in dict.fromkeys((*found.keras_functions, *found.torch_functions)):
        for new in dict.fromkeys(names[:1]):
            for changed in literals.change_values(text, line, old, new):
                yield file, changed


def _change_written(
    name: str, new: Any, node: Node, graph: Graph, files: SourceFiles
) -> Iterator[tuple[str, str]]:
    """Yield the texts in which the value of a setting is another where it is written."""
    kind = kinds.find(node.kind)
    old = None if kind is None else kind.complete(node.hyper).get(name)
    places = [files.find_line(node)]
    constructor = files.places.get(node.path)
    if constructor is not None and constructor.file in files.texts:
        places.append((constructor.file, constructor.line))
    for place in places if old is not None else ():
        if place is None:
            continue
        rank = len(graph.tensors[node.inputs[0]].shape) if node.inputs else 0
        for before, after in _spell(name, old, new, rank):
            for text in literals.change_values(files.texts[place[0]], place[1], before, after):
                yield place[0], text


def _spell(name: str, old: Any, new: Any, rank: int) -> Iterator[tuple[Any, Any]]:
    """Yield how code may write a value and the one in its place: axes count from both ends."""
    yield old, new
    if name == "axis" and isinstance(old, int) and isinstance(new, int) and rank:
        old, new = old % rank, new % rank
        yield old, new
        yield old - rank, new - rank
        # The reference may have its axes in another order.
        for other in range(rank):
            if other not in (old, new):
                yield old, other
                yield old - rank, other - rank


def _insert_operation(
    missing: MissingOperation, node: Node, graph: Graph, text: str, line: int
) -> Iterator[str]:
    """Yield the source with an operation of the reference on one operand of a line."""
    kind, own = kinds.get(missing.kind), kinds.find(node.kind)
    wrap: Callable[[str], str] | None = None
    if missing.number is None:
        own_functions = kind.keras_functions if graph.framework == "keras" else ()
        name = next(iter((*own_functions, *kind.torch_functions)), "")
        is_activation = kind.activation or kind.family == "activation"
        wrap = statements.write_call(text, graph.framework, name, is_activation=is_activation)
    elif kind.python_operator:
        wrap = statements.write_arithmetic(kind.python_operator, format_literal(missing.number))
    if wrap is None:
        return
    names = [node.operation, node.path.rpartition("/")[2].rpartition(".")[2]]
    if own is not None:
        names += [*own.torch_functions, *own.keras_functions, *own.keras]
    operator = "" if own is None else own.python_operator
    yield from statements.wrap_operand(text, line, wrap, names, operator, missing.place)


def _change_joining_class(before: Sequence[Node], files: SourceFiles) -> Iterator[tuple[str, str]]:
    """Yield the texts in which a Keras layer that joins branches is another such layer."""
    joins = [each for each in kinds.registry().values() if each.joins_branches and not each.ordered]
    classes = [name for each in joins for name in each.keras]
    for each in before:
        place = files.find_layer_class(each)
        if place is None or place.made not in (*classes, "Average"):
            continue
        for name in classes:
            text = sources.change_constructor(files.texts[place.file], place, {}, name)
            if text is not None and name != place.made:
                yield place.file, text
