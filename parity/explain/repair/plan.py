"""How a proved cause is undone in the subject's own files: weights, nodes, settings, source."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from parity.comparison.graphs.points import GraphRow
from parity.comparison.graphs.state import GraphState
from parity.comparison.graphs.structure import locate, main_node, with_padding
from parity.comparison.graphs.weights import transfer_weights
from parity.explain.repair import literals, statements
from parity.explain.repair import source as sources
from parity.explain.repair.arguments import to_arguments, to_attributes
from parity.explain.repair.changes import LayerRepair, MissingOperation
from parity.explain.repair.source import CallPlace
from parity.explain.repair.syntax import format_literal
from parity.network import kinds
from parity.network.alignment import families
from parity.network.graph import Graph, Node

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ModelRepair:
    """One repair in the subject's own names.

    `weights` are new values by name; `edits` change an ONNX file (`runtimes.onnx.repair`);
    `settings` change layers of a Keras file by their paths; `texts` are alternatives for a source
    file: (file, new text). `place` is where the user would make the change by hand.
    """

    repair: LayerRepair
    place: str
    weights: Mapping[str, Array] = field(default_factory=dict)
    edits: tuple[Mapping[str, Any], ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    texts: tuple[tuple[str, str], ...] = ()
    adds_weights: bool = False
    """Whether the changed source has a weight that the present one lacks."""
    is_shared: bool = False
    """Whether the line or the call that is changed makes other operations of the model too."""
    line: str = ""
    """`net.py:12: the line as it is`, where the source is known."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be written."""
        return not (self.weights or self.edits or self.settings or self.texts)


@dataclass(frozen=True)
class SourceFiles:
    """The user's source: the calls that construct layers, by layer path, and the files' texts."""

    places: Mapping[str, CallPlace]
    texts: Mapping[str, str]

    def find_line(self, node: Node) -> tuple[str, int] | None:
        """Return the file and the line where a node's operation is written, or None."""
        name, _, line = node.source.rpartition(":")
        found = [file for file in self.texts if Path(file).name == name]
        return (found[0], int(line)) if len(found) == 1 and line.isdigit() else None

    def find_layer_class(self, node: Node, argument: str = "") -> CallPlace | None:
        """Return the call that constructs the framework's own layer of a node.

        None where a class of the user's computes it, unless its own `__init__` has the argument.
        """
        place = self.places.get(node.path)
        if place is None or place.file not in self.texts:
            return None
        own = re.compile(rf"^\s*class {re.escape(place.made)}\b", re.MULTILINE)
        if any(own.search(text) for text in self.texts.values()):
            return place if argument and argument in place.parameters else None
        return place

    def quote_line(self, node: Node) -> str:
        """Return the file, the number and the text of the line of a node; empty if not known."""
        line = self.find_line(node)
        lines = [] if line is None else self.texts[line[0]].splitlines()
        if line is None or not 0 < line[1] <= len(lines):
            return ""
        return f"{Path(line[0]).name}:{line[1]}: {lines[line[1] - 1].strip()}"


def plan_repair(
    state: GraphState, subject: str, repair: LayerRepair, files: SourceFiles, suffix: str
) -> ModelRepair:
    """Return what a repair changes in the subject; `suffix` is that of its model file, if any."""
    row = state.table.by_name(repair.row)
    graph = state.models[subject].graph
    node = main_node(graph, row.nodes.get(subject, ()))
    place = "" if node is None else locate(node)
    weights = _plan_weights(state, subject, row, repair)
    planned = ModelRepair(repair, place, weights)
    if node is None or (weights and not repair.hyper and not repair.kind):
        return planned
    chain = _Chains.of(state, subject, row, node)
    framework = graph.framework
    if suffix == ".onnx":
        edits = tuple(_plan_edits(repair, node, chain, state.reference.graph.by_id[row.node]))
        return ModelRepair(repair, place, weights, edits)
    wanted = state.reference.graph.by_id[row.node]
    sizes = state.reference.graph.tensors[wanted.inputs[0]].shape if wanted.inputs else ()
    spatial = _spatial_sizes(state, subject, row, sizes)
    if suffix:
        settings = _plan_settings(repair, node, spatial) if framework == "keras" else {}
        return ModelRepair(repair, place, weights, settings=settings)
    siblings = _find_siblings(state, subject, node, files)
    texts = dict.fromkeys(
        (
            *_plan_texts(repair, node, chain, files, framework, spatial, siblings),
            *_plan_statements(repair, node, graph, files),
        )
    )
    unchanged = {(file, text) for file, text in files.texts.items()}
    return ModelRepair(
        repair,
        place,
        weights,
        texts=tuple(each for each in texts if each not in unchanged),
        adds_weights="bias" in repair.roles and node.find_parameter("bias") is None,
        is_shared=len(siblings) > 1 or _shares_line(graph, node),
        line=files.quote_line(node),
    )


@dataclass(frozen=True)
class _Sibling:
    """One of the operations that one call in the source constructs, and what it should have."""

    node: Node
    wanted: Mapping[str, Any]
    sizes: tuple[int, ...]


def _find_siblings(
    state: GraphState, subject: str, node: Node, files: SourceFiles
) -> list[_Sibling]:
    """Return the paired operations whose layers the call of a node's layer constructs."""
    place, graph = files.places.get(node.path), state.models[subject].graph
    found: dict[str, _Sibling] = {}
    for row in state.table.rows if place is not None else ():
        own = main_node(graph, row.nodes.get(subject, ()))
        if own is None or own.kind != node.kind or files.places.get(own.path) != place:
            continue
        reference = state.reference.graph
        wanted = with_padding(reference, reference.by_id[row.node]).hyper
        found.setdefault(own.path, _Sibling(own, wanted, _spatial_sizes(state, subject, row, ())))
    order = {each.id: at for at, each in enumerate(graph.nodes)}
    return sorted(found.values(), key=lambda each: order[each.node.id])


def _shares_line(graph: Graph, node: Node) -> bool:
    """Return whether other operations of a node's kind are written on its line, as in a loop."""
    same = [each for each in graph.nodes if each.source == node.source and each.kind == node.kind]
    return len(same) > 1


# Weights ------------------------------------------------------------------------------------------


def _plan_weights(
    state: GraphState, subject: str, row: GraphRow, repair: LayerRepair
) -> dict[str, Array]:
    """Return the weights of a row that differ from the reference's, as the subject has them.

    Those of the roles that the proof changes; all of the row, where values are at other places.
    """
    if not (repair.roles or repair.moves_weights):
        return {}
    node = state.reference.graph.by_id[row.node]
    names = {
        each.name for each in node.parameters if repair.moves_weights or each.role in repair.roles
    }
    alignment = state.alignments[subject]
    own = state.load_weights(subject)
    base = state.load_weights(state.reference.subject.name)
    wanted = {pair.other for pair in alignment.weights if pair.reference in names}
    moved = transfer_weights(alignment, base, own)
    return {
        name: moved[name]
        for name in wanted & moved.keys()
        if not np.array_equal(moved[name], own[name], equal_nan=True)
    }


# Activations between layers -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Chains:
    """The single activation that one model has before a layer and the other has not."""

    missing: Node | None = None
    """The reference's, which the subject lacks."""
    surplus: Node | None = None
    before: Node | None = None
    """The subject's operation that the missing activation would read."""
    others: tuple[Node, ...] = ()
    """Those of the layer's other inputs, one of which it may be instead."""
    is_other: bool = False
    """Whether the partner is an operation of another kind."""
    added: tuple[Node, ...] = ()
    """The subject's operations without a partner that lead to the layer, the nearest first."""

    @classmethod
    def of(cls, state: GraphState, subject: str, row: GraphRow, node: Node) -> _Chains:
        alignment = state.alignments[subject]
        reference, graph = state.reference.graph, state.models[subject].graph
        missing = surplus = before = None
        place = 0
        for at, tensor in enumerate(reference.by_id[row.node].inputs):
            found = _walk(reference, tensor, set(alignment.unpaired_reference))[0]
            if missing is None and found is not None:
                missing, place = found, at
        ends = []
        for tensor in node.inputs:
            found, end = _walk(graph, tensor, set(alignment.unpaired_other))
            surplus = surplus or found
            ends.append(end)
        # The inputs of both have one order, where they are not a sum's.
        others = [each for each in (*ends[place:], *ends[:place]) if each is not None]
        before = others.pop(0) if others else None
        if missing is None:
            # The activation itself is the row, and the subject's partner is what it would read.
            own = reference.by_id[row.node]
            if _is_activation(own) and not _is_activation(node):
                missing, before, others = own, node, []
        # What moves values alone may be a part of the layer's own pair.
        paired = {each for pair in alignment.pairs for each in pair.other}
        added = _find_added(graph, node, paired - set(row.nodes.get(subject, ())))
        is_other = reference.by_id[row.node].kind != node.kind
        return cls(missing, surplus, before, tuple(others), is_other, added)


def _find_added(graph: Graph, node: Node, paired: set[str]) -> tuple[Node, ...]:
    """Return the operations of one input and no weight that one reads from, unpaired ones first."""
    found: dict[str, Node] = {}
    waiting = list(node.inputs)
    while waiting and len(found) < _MAX_ADDED:
        producer = graph.producers.get(waiting.pop(0))
        if producer is None or producer.id in found:
            continue
        if len(producer.inputs) == 1 and not producer.parameters:
            found[producer.id] = producer
            waiting += producer.inputs
    # One that is part of a pair, as a factor behind a convolution, may be added too.
    return tuple(sorted(found.values(), key=lambda each: each.id in paired))


_MAX_ADDED = 4


def _walk(graph: Graph, tensor: str, unpaired: set[str]) -> tuple[Node | None, Node | None]:
    """Return an unpaired activation that makes a tensor, and the operation before or in its place.

    Operations that move no value are passed.
    """
    producer = graph.producers.get(tensor)
    while producer is not None and families.is_pass_through(producer) and producer.inputs:
        producer = graph.producers.get(producer.inputs[0])
    if producer is not None and producer.id in unpaired and _is_activation(producer):
        return producer, graph.producers.get(producer.inputs[0])
    return None, producer


def _is_activation(node: Node) -> bool:
    kind = kinds.find(node.kind)
    return kind is not None and (kind.activation or kind.family == "activation")


# ONNX ---------------------------------------------------------------------------------------------


def _plan_edits(
    repair: LayerRepair, node: Node, chain: _Chains, wanted: Node
) -> Iterator[dict[str, Any]]:
    if repair.kind and kinds.get(repair.kind).joins_branches:
        yield {"tensor": node.outputs[0], "action": "rename", "kind": repair.kind}
    elif repair.kind and not (_is_activation(wanted) and not _is_activation(node)):
        attributes = to_attributes(repair.kind, _differing(repair.kind, repair.hyper)) or {}
        edit = {"tensor": node.outputs[0], "action": "replace", "kind": repair.kind}
        yield {**edit, "attributes": attributes, "input": node.inputs[0]}
    elif repair.hyper and not repair.kind:
        set_to = to_attributes(node.kind, repair.hyper)
        if set_to is not None:
            edit = {"tensor": node.outputs[0], "action": "set", "kind": node.kind}
            yield {**edit, "attributes": set_to}
    elif chain.surplus is not None:
        yield {"tensor": chain.surplus.outputs[0], "action": "remove"}
    elif chain.missing is not None and chain.before is not None:
        kind = chain.missing.kind
        attributes = to_attributes(kind, _differing(kind, chain.missing.hyper)) or {}
        edit = {"tensor": chain.before.outputs[0], "action": "insert", "kind": kind}
        yield {**edit, "attributes": attributes}
    elif chain.added and repair.changes_data:
        first, last = chain.added[0], chain.added[-1]
        edit = {"tensor": node.outputs[0], "action": "connect", "old": first.outputs[0]}
        yield {**edit, "new": last.inputs[0]}


def _differing(kind: str, hyper: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters that a kind states in ONNX."""
    known = {s.name: s for s in kinds.get(kind).hyperparameters if s.onnx}
    return {name: value for name, value in hyper.items() if name in known and value is not None}


# Keras files --------------------------------------------------------------------------------------


def _plan_settings(
    repair: LayerRepair, node: Node, sizes: Sequence[int]
) -> dict[str, dict[str, Any]]:
    if not node.path:
        return {}
    if repair.kind:
        kind = kinds.get(repair.kind)
        if kind.keras_functions and _is_activation(node):
            return {node.path: {"activation": kind.keras_functions[0]}}
        if kind.keras and "pool" in repair.kind:
            return {node.path: {"class": kind.keras[0]}}
        return {}
    arguments = to_arguments(
        "keras", node.kind, repair.hyper, {**node.hyper, **repair.hyper}, sizes
    )
    return {node.path: arguments} if arguments else {}


# Source -------------------------------------------------------------------------------------------


def _plan_texts(
    repair: LayerRepair,
    node: Node,
    chain: _Chains,
    files: SourceFiles,
    framework: str,
    sizes: Sequence[int],
    siblings: Sequence[_Sibling],
) -> Iterator[tuple[str, str]]:
    """Yield each file that could be changed, and its new text."""
    if repair.kind:
        kind, hyper = repair.kind, repair.hyper
        yield from _change_operation(node, kind, hyper, files, framework)
    elif repair.hyper:
        yield from _change_settings(repair, node, files, framework, sizes, siblings)
    if not repair.kind and not repair.hyper:
        if chain.surplus is not None:
            yield from _remove_activation(chain.surplus, files, framework)
        elif chain.missing is not None and chain.before is not None:
            for each in (chain.before, *chain.others):
                yield from _add_activation(chain.missing, each, files, framework)
    elif _is_activation(node) is False and chain.missing is not None and chain.before is not None:
        yield from _add_activation(chain.missing, chain.before, files, framework)
    if "bias" in repair.roles and node.find_parameter("bias") is None:
        argument = "use_bias" if framework == "keras" else "bias"
        yield from _change_arguments(node, files, {argument: True})
    if "padding" in repair.hyper and repair.moves_weights and framework == "torch":
        # The zeros are other values there: by reflection, for example.
        yield from _change_arguments(node, files, {"padding_mode": "zeros"})
    if repair.changes_data:
        # The operation that was added may itself be the partner of the layer.
        own = (node,) if chain.is_other else ()
        yield from _remove_added(node, (*chain.added, *own), files)


def _change_arguments(
    node: Node, files: SourceFiles, arguments: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield the text with other arguments where the layer of a node is constructed."""
    place = files.places.get(node.path)
    if place is not None and place.file in files.texts:
        text = sources.change_constructor(files.texts[place.file], place, arguments)
        if text is not None:
            yield place.file, text


def _remove_added(
    node: Node, added: Sequence[Node], files: SourceFiles
) -> Iterator[tuple[str, str]]:
    """Yield the texts without an operation that the reference lacks, or with two inputs exchanged.

    Each is judged by a comparison before it is taken.
    """
    for each in (*added, node):
        line = files.find_line(each)
        if line is None:
            continue
        text = files.texts[line[0]]
        for changed in (
            *sources.remove_arithmetic(text, line[1]),
            *(sources.remove_call(text, line[1], (each.operation,)) if each in added else ()),
        ):
            yield line[0], changed
    line = files.find_line(node)
    if line is not None and families.is_ordered(node.kind):
        for changed in sources.exchange_items(files.texts[line[0]], line[1], (node.operation,)):
            yield line[0], changed


def _change_settings(
    repair: LayerRepair,
    node: Node,
    files: SourceFiles,
    framework: str,
    sizes: Sequence[int],
    siblings: Sequence[_Sibling],
) -> Iterator[tuple[str, str]]:
    hyper = {**node.hyper, **repair.hyper}
    yield from _leave_out_arguments(repair, node, files)
    arguments = to_arguments(framework, node.kind, repair.hyper, hyper, sizes)
    if arguments is None:
        return
    place = files.find_layer_class(node, next(iter(arguments), ""))
    if place is not None:
        computed = sources.find_computed(files.texts[place.file], place, arguments)
        for name, value in computed.items():
            # What the argument is computed from, ahead of one value for all that the call makes.
            yield from _change_computed(name, value, repair, node, files, framework, siblings)
        text = sources.change_constructor(files.texts[place.file], place, arguments)
        if text is not None:
            line = files.find_line(node)
            if "padding" in repair.hyper and line is not None and line[0] == place.file:
                # The padding is an operation of its own: it is taken away, where there is one.
                for each in sources.remove_call(text, line[1], ("pad",)):
                    yield place.file, each
            yield place.file, text
            return
    line = files.find_line(node)
    if line is not None:
        names = kinds.get(node.kind).torch_functions or kinds.get(node.kind).keras_functions
        for text in sources.change_function_argument(
            files.texts[line[0]], line[1], (*names, node.operation), arguments
        ):
            yield line[0], text


def _change_computed(
    name: str,
    value: ast.expr,
    repair: LayerRepair,
    node: Node,
    files: SourceFiles,
    framework: str,
    siblings: Sequence[_Sibling],
) -> Iterator[tuple[str, str]]:
    """Yield the texts in which an argument that is no literal gets other values.

    The loop that gives the layers of one call theirs gets the reference's, in order.
    """
    place = files.places[node.path]
    text = files.texts[place.file]
    wanted = []
    for each in siblings:
        right = {key: each.wanted.get(key) for key in repair.hyper}
        if None in right.values():
            continue
        found = to_arguments(framework, node.kind, right, {**each.node.hyper, **right}, each.sizes)
        wanted.append((found or {}).get(name))
    if len(wanted) == len(siblings) and None not in wanted:
        for changed in literals.change_looped_list(text, value, wanted):
            yield place.file, changed


def _leave_out_arguments(
    repair: LayerRepair, node: Node, files: SourceFiles
) -> Iterator[tuple[str, str]]:
    """Yield the texts whose call states no other value than the default that is wanted."""
    line = files.find_line(node)
    if line is None:
        return
    for name, value in repair.hyper.items():
        setting = next((s for s in kinds.get(node.kind).hyperparameters if s.name == name), None)
        if setting is not None and setting.call_arguments and value == setting.default:
            for text in sources.remove_keywords(
                files.texts[line[0]], line[1], setting.call_arguments
            ):
                yield line[0], text


def _change_operation(
    node: Node, wanted: str, hyper: Mapping[str, Any], files: SourceFiles, framework: str
) -> Iterator[tuple[str, str]]:
    """Yield the texts in which an operation is one of another kind."""
    target, found = kinds.get(wanted), kinds.find(node.kind)
    place = files.find_layer_class(node)
    if place is not None and found is not None:
        text = files.texts[place.file]
        classes, own = getattr(target, framework), getattr(found, framework)
        # `nn.Conv2d` has no activation; `Conv2D(activation=…)` has.
        if classes and place.made in own:
            parts = _class_arguments(framework, wanted, hyper)
            changed = sources.change_constructor(
                text, place, parts, _same_rank(place.made, classes[0])
            )
            if changed is not None:
                yield place.file, changed
                return
        if framework == "keras" and target.keras_functions:
            arguments = {"activation": target.keras_functions[0]}
            changed = sources.change_constructor(text, place, arguments)
            if changed is not None:
                yield place.file, changed
                return
    line = files.find_line(node)
    if line is not None and target.torch_reduction and node.operation in _reductions():
        for text in sources.rename_call(
            files.texts[line[0]], line[1], node.operation, target.torch_reduction
        ):
            yield line[0], text
        return
    if line is not None and target.python_operator and found is not None:
        for text in sources.change_operator(
            files.texts[line[0]], line[1], found.python_operator, target.python_operator
        ):
            yield line[0], text
    functions = f"{framework}_functions"
    names = getattr(target, functions) or target.torch_functions
    if line is None or not names:
        return
    own = () if found is None else (*found.torch_functions, *found.keras_functions)
    for name in names[:1] if "pool" not in wanted else names:
        if "pool" in wanted and name[-2:] != node.operation[-2:]:
            continue
        for text in sources.rename_function(
            files.texts[line[0]], line[1], (*own, node.operation), name
        ):
            yield line[0], text


def _reductions() -> set[str]:
    """Return the methods of PyTorch's tensors that reduce the axes that they are given."""
    return {each.torch_reduction for each in kinds.registry().values()} - {""}


def _class_arguments(framework: str, kind: str, hyper: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that an activation's class needs beside its defaults."""
    if "pool" in kind:
        return {}
    stated = {
        s.name: hyper[s.name]
        for s in kinds.get(kind).hyperparameters
        if getattr(s, framework) and s.name in hyper and hyper[s.name] != s.default
    }
    return to_arguments(framework, kind, stated, stated) or {}


def _same_rank(made: str, wanted: str) -> str:
    """Return the class of the rank that the present one has: MaxPool1d for MaxPool2d."""
    if made[-2:].lower() in ("1d", "2d", "3d") and wanted[-2:].lower() in ("1d", "2d", "3d"):
        return wanted[:-2] + made[-2:]
    return wanted


def _remove_activation(node: Node, files: SourceFiles, framework: str) -> Iterator[tuple[str, str]]:
    found = kinds.get(node.kind)
    place = files.places.get(node.path)
    if place is not None and place.file in files.texts:
        text = files.texts[place.file]
        changed = None
        if place.made in getattr(found, framework):
            made = "Identity"
            if framework == "keras" and place.made != "Activation":
                changed = sources.change_constructor(text, place, {}, "Identity")
            else:
                changed = sources.change_constructor(text, place, {}, made)
        elif framework == "keras":
            changed = sources.change_constructor(text, place, {"activation": "linear"})
        if changed is not None:
            yield place.file, changed
            return
    line = files.find_line(node)
    if line is not None:
        names = (*found.torch_functions, *found.keras_functions, node.operation)
        for text in sources.remove_call(files.texts[line[0]], line[1], names):
            yield line[0], text


def _add_activation(
    missing: Node, before: Node, files: SourceFiles, framework: str
) -> Iterator[tuple[str, str]]:
    kind = kinds.get(missing.kind)
    if framework == "keras":
        place = files.places.get(before.path)
        if place is not None and kind.keras_functions and place.file in files.texts:
            arguments = {"activation": kind.keras_functions[0]}
            text = sources.change_constructor(files.texts[place.file], place, arguments)
            if text is not None:
                yield place.file, text
        return
    line = files.find_line(before)
    if line is not None and kind.torch_functions:
        own = before.path.rpartition(".")[2]
        found = kinds.find(before.kind)
        names = (own,) if own else (*(found.torch_functions if found else ()), before.operation)
        for text in sources.wrap_call(
            files.texts[line[0]], line[1], names, kind.torch_functions[0]
        ):
            yield line[0], text


# Statements ---------------------------------------------------------------------------------------


def _plan_statements(
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
    if not repair.kind:
        for name, new in repair.hyper.items():
            yield from _change_written(name, new, node, graph, files)
    for missing in repair.missing:
        for file, line in lines:
            for text in _insert_operation(missing, node, graph, files.texts[file], line):
                yield file, text
    if repair.changes_data:
        yield from _change_joining_class(before, files)
        if families.is_ordered(node.kind):
            for file, line in lines[:1]:
                for text in statements.reorder_items(files.texts[file], line):
                    yield file, text


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


def _spatial_sizes(
    state: GraphState, subject: str, row: GraphRow, fallback: Sequence[int]
) -> tuple[int, ...]:
    """Return the spatial sizes of the input of the subject's operation."""
    graph = state.models[subject].graph
    node = main_node(graph, row.nodes.get(subject, ()))
    if node is None or not node.inputs:
        return tuple(fallback[2:])
    tensor = graph.tensors[node.inputs[0]]
    axes = tensor.axes.split()
    if axes and axes[1] == "C":
        return tensor.shape[2:]
    return tensor.shape[1:-1] if graph.framework == "keras" else tensor.shape[2:]
