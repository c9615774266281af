"""How a proved cause is undone in the subject's own files: weights, nodes, settings, source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.comparison.graphs.points import GraphRow
from parity.comparison.graphs.state import GraphState
from parity.comparison.graphs.structure import locate, main_node
from parity.comparison.graphs.weights import transfer_weights
from parity.explain.repair.arguments import to_arguments, to_attributes
from parity.explain.repair.chains import Chains, is_activation
from parity.explain.repair.changes import LayerRepair
from parity.explain.repair.layer_texts import plan_layer_texts
from parity.explain.repair.neighbours import find_named
from parity.explain.repair.source_files import (
    SourceFiles,
    find_siblings,
    spatial_sizes,
)
from parity.explain.repair.statement_texts import plan_statement_texts
from parity.network import kinds
from parity.network.graph import Node

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
    line: str = ""
    """`net.py:12: the line as it is`, where the source is known."""

    @property
    def writes_file(self) -> bool:
        """Whether a checkpoint or a model file is written, and no source is changed."""
        return bool(self.weights or self.edits or self.settings) and not self.texts

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be written."""
        return not (self.weights or self.edits or self.settings or self.texts)


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
    chain = Chains.of(state, subject, row, node)
    framework = graph.framework
    if suffix == ".onnx":
        edits = tuple(_plan_edits(repair, node, chain, state.reference.graph.by_id[row.node]))
        return ModelRepair(repair, place, weights, edits)
    wanted = state.reference.graph.by_id[row.node]
    sizes = state.reference.graph.tensors[wanted.inputs[0]].shape if wanted.inputs else ()
    spatial = spatial_sizes(state, subject, row, sizes)
    if suffix:
        settings = _plan_settings(repair, node, spatial) if framework == "keras" else {}
        return ModelRepair(repair, place, weights, settings=settings)
    siblings = find_siblings(state, subject, node, files)
    layer_texts = plan_layer_texts(repair, node, chain, files, framework, spatial, siblings)
    statement_texts = plan_statement_texts(repair, node, graph, files)
    # Another number is likelier than none.
    by_number = repair.factor is not None or repair.offset is not None
    ordered = (statement_texts, layer_texts) if by_number else (layer_texts, statement_texts)
    texts = dict.fromkeys(each for part in ordered for each in part)
    unchanged = {(file, text) for file, text in files.texts.items()}
    return ModelRepair(
        repair,
        place,
        weights,
        texts=tuple(each for each in texts if each not in unchanged),
        adds_weights="bias" in repair.roles and node.find_parameter("bias") is None,
        line=_quote_named(repair, files) or files.quote_line(node),
    )


def _quote_named(repair: LayerRepair, files: SourceFiles) -> str:
    """Return the line of the first operation of the subject that a cause names; else nothing."""
    named = find_named(f"{repair.text} {repair.remedy}", files.texts)
    return files.quote(*named[0]) if named else ""


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


# ONNX ---------------------------------------------------------------------------------------------


def _plan_edits(
    repair: LayerRepair, node: Node, chain: Chains, wanted: Node
) -> Iterator[dict[str, Any]]:
    if repair.kind and kinds.get(repair.kind).joins_branches:
        yield {"tensor": node.outputs[0], "action": "rename", "kind": repair.kind}
    elif repair.kind and not (is_activation(wanted) and not is_activation(node)):
        attributes = (
            to_attributes(repair.kind, _select_onnx_settings(repair.kind, repair.hyper)) or {}
        )
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
        attributes = to_attributes(kind, _select_onnx_settings(kind, chain.missing.hyper)) or {}
        edit = {"tensor": chain.before.outputs[0], "action": "insert", "kind": kind}
        yield {**edit, "attributes": attributes}
    elif chain.added and repair.changes_data:
        first, last = chain.added[0], chain.added[-1]
        edit = {"tensor": node.outputs[0], "action": "connect", "old": first.outputs[0]}
        yield {**edit, "new": last.inputs[0]}


def _select_onnx_settings(kind: str, hyper: Mapping[str, Any]) -> dict[str, Any]:
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
        if kind.keras_functions and is_activation(node):
            return {node.path: {"activation": kind.keras_functions[0]}}
        if kind.keras and "pool" in repair.kind:
            return {node.path: {"class": kind.keras[0]}}
        return {}
    arguments = to_arguments(
        "keras", node.kind, repair.hyper, {**node.hyper, **repair.hyper}, sizes
    )
    return {node.path: arguments} if arguments else {}
