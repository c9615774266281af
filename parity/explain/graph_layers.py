"""The explanation of operations that fail in isolation, in a comparison of graphs."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.isolation import IsolatedRows
from parity.comparison.graphs.points import GraphRow
from parity.comparison.graphs.reference_tensors import ReferenceTensors
from parity.comparison.graphs.runner import GraphRunner
from parity.comparison.graphs.state import GraphState
from parity.errors import ParityError
from parity.explain import diagnosis, messages
from parity.explain.attention_rows import ATTENTION, read_attention
from parity.explain.captures import round_to_float32
from parity.explain.cause import Cause
from parity.explain.causes import rewired, wrong_tensor
from parity.explain.crops import crop_output
from parity.explain.findings import IsolatedFailure
from parity.explain.folded_layers import describe_folded, find_folded, leave_out_folded
from parity.explain.graph_evidence import (
    MAX_VALUES,
    GraphEvidence,
    as_transform,
    may_read_turned,
)
from parity.explain.graph_inputs import (
    fit,
    list_tensors_around,
    list_tensors_before,
)
from parity.explain.inner_operations import (
    list_inner_tensors,
    list_row_nodes,
    name_operation,
    pair_inner_operations,
)
from parity.explain.misread_search import restore_axes
from parity.explain.proof import search
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import Layer, Transform
from parity.explain.proof.region_statements import DifferenceType, RegionProof
from parity.explain.proof.search import Explanation
from parity.explain.quantised_layers import describe_quantised, is_quantised
from parity.explain.region_runs import RegionRuns
from parity.explain.region_search import RegionRow, explain_regions
from parity.explain.subject_tensors import read_subject_tensors
from parity.network.graph import Graph, Node
from parity.network.rows import Row
from parity.numerics.capture import CaptureReader
from parity.numerics.distance import measure_error
from parity.numerics.floor import Floor
from parity.numerics.verdict import PointResult, judge_error

Array = NDArray[Any]

MAX_EXPLAINED = 40
"""The number of failing layers whose cause is searched for; the report says how many are left out.
"""

MAX_VALUES_READ = 1 << 24
"""The values of the outputs of failing layers up to which all that is around them is read at once.
"""

MAX_STATED = 400
"""The number of failing layers of which that is tried which a subject states and which has been
proved of another layer; it takes a small part of a search's time."""


FAILED = "the search failed, which is a fault of parity"
"""Why a row is not explained, where the search had an error of its own."""


Failure = tuple[str, PointResult]
"""A subject and a row at which it fails in isolation."""

Evidence = tuple[FailingLayer | None, Explanation | None]
"""A failing operation and its explanation."""

_UNKNOWN: Evidence = (None, None)


@dataclass(frozen=True)
class GraphFinding:
    """The result of explaining one failing row of one subject."""

    subject: str
    row: GraphRow
    x_floor: float
    layer: FailingLayer | None
    explanation: Explanation | None
    fitted: Evidence = _UNKNOWN
    """What describes the values alone, as a factor, where the operations explain them."""


@dataclass(frozen=True)
class Explained:
    """The causes in words, notes for the report, and the findings that the causes describe."""

    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[GraphFinding, ...] = ()
    is_complete: bool = True
    """Whether nothing failed; the notes say what did."""


@dataclass
class GraphExplainer:
    """Explains failing rows by the evidence on them."""

    evidence: GraphEvidence
    read_tensors: Callable[[Sequence[Failure]], Mapping[str, Mapping[str, Array]]]
    """Makes what is around some failures known; returns the subjects' tensors, by subject."""
    notes: list[str] = field(default_factory=list)
    _proved: dict[str, set[str]] = field(default_factory=dict)
    """The causes that earlier rows of a subject have: what it states of these is tried first."""
    cropped: set[tuple[str, str]] = field(default_factory=set)
    """The subjects and rows that give more than the reference's values, which are all that is read
    of them."""
    _searched: int = 0
    _known: int = 0
    """The failures around which the tensors are known, as the number of the first that is not."""

    def explain(
        self, failures: Sequence[Failure], captures: Mapping[str, Path]
    ) -> list[GraphFinding]:
        """Explain each (subject, isolated result); `captures` are the isolated ones by subject.

        A row that differs as an earlier one does, by what the subject states, needs no search. Once
        `MAX_EXPLAINED` rows were searched, only such rows have findings. A row whose explanation
        fails is not explained, and `notes` says why; so do they where the tensors around further
        rows cannot be read, with which the search ends.
        """
        findings: list[GraphFinding] = []
        with contextlib.ExitStack() as stack:
            readers = {
                name: stack.enter_context(CaptureReader(path)) for name, path in captures.items()
            }
            for number, (subject, result) in enumerate(failures[:MAX_STATED]):
                is_searched = self._searched < MAX_EXPLAINED
                if not is_searched and not self._proved.get(subject):
                    continue
                row = self.evidence.state.table.by_name(result.row)
                found: list[Evidence] = []
                if result.floor is not None and row.name in readers[subject]:
                    actual = readers[subject].read(row.name)
                    floor = result.floor
                    cropped = crop_output(self.evidence, subject, row, actual)
                    has_other_shape = actual.shape != tuple(row.shape)
                    actual = actual if cropped is None else cropped
                    if has_other_shape and self._agrees(subject, row, floor, actual):
                        self.cropped.add((subject, row.name))
                    found = self._explain_by_statement(subject, row, floor, actual)
                    if not found and is_searched:
                        try:
                            self._read_tensors(failures, number)
                        except ParityError as error:
                            reason = str(error).partition("\n")[0]
                            self.notes.append(f"the search for causes ended: {reason}")
                            break
                        found = self._search_row(subject, row, floor, actual, failures)
                if found or is_searched:
                    own = result.subjects[subject]
                    x_floor = max(own.x_floor, own.x_floor_max)
                    findings += [
                        GraphFinding(subject, row, x_floor, *each) for each in found or [_UNKNOWN]
                    ]
        return findings

    def _agrees(self, subject: str, row: GraphRow, floor: Floor, actual: Array) -> bool:
        """Return whether a subject's output of a row is the reference's but for rounding."""
        failing = self.evidence.build_statement(subject, row, floor, actual)
        return failing is not None and not _differs(failing)

    def _read_tensors(self, failures: Sequence[Failure], number: int) -> None:
        """Make known what is around a failure and those behind it that may be searched too.

        Those are more than can be searched, if small, since of some no search may be needed.
        """
        if number >= self._known:
            self._known = number + MAX_EXPLAINED - self._searched
            shapes = (self.evidence.state.table.by_name(r.row).shape for _, r in failures[number:])
            small = sum(s <= MAX_VALUES_READ for s in itertools.accumulate(map(math.prod, shapes)))
            self._known = max(self._known, number + small)
            self.evidence.subject_tensors = self.read_tensors(failures[number : self._known])

    def _explain_by_statement(
        self, subject: str, row: GraphRow, floor: Floor, actual: Array
    ) -> list[Evidence]:
        """Return the proof by what the subject states, if that explains an earlier row of it."""
        proved = self._proved.get(subject)
        if not proved:
            return []
        with contextlib.suppress(Exception):
            # The search says what fails.
            layer = self.evidence.build_statement(subject, row, floor, actual)
            found = None if layer is None else diagnosis.explain_by_statement(layer, proved)
            return [] if found is None else [(layer, found)]
        return []

    def _search_row(
        self,
        subject: str,
        row: GraphRow,
        floor: Floor,
        actual: Array,
        failures: Sequence[Failure],
    ) -> list[Evidence]:
        self._searched += 1
        elements = search.PAIR_ELEMENTS / min(len(failures), MAX_EXPLAINED)
        with self._keep_failure(subject, row):
            layer = self.evidence.build_statement(subject, row, floor, actual)
            return self._explain_row(layer, subject, row, actual, elements)
        return []

    @contextlib.contextmanager
    def _keep_failure(self, subject: str, row: GraphRow) -> Iterator[None]:
        """Make a note of what fails; the other rows are explained."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the others are explained
            self.notes.append(f"{row.name} of {subject} was not explained: {_find_reason(error)}")

    def _explain_row(
        self,
        layer: FailingLayer | None,
        subject: str,
        row: GraphRow,
        actual: Array,
        elements: float,
    ) -> list[Evidence]:
        """Return the evidence on a row and its explanation; several of the operations within it."""
        explanation: Explanation | None = None
        if layer is not None:
            layer = self.evidence.add_evidence(layer, row)
            explanation = self._search(layer, subject, row, elements)
            if layer.is_opaque and explanation is not None and explanation.proof is None:
                layer = explanation = None
        if explanation is None or explanation.proof is None:
            # A row's tensor is the reference's where an operation reads it.
            known = dict(self.evidence.subject_tensors.get(subject, {}))
            point = row.tensors[subject]
            if actual.size == math.prod(self.evidence.shape_of(subject, point.tensor)):
                known[point.tensor] = self.evidence.move_channels_first(subject, row, actual)
            inner = self._explain_inner(subject, row, known, elements)
            if layer is not None and not inner:
                inner = self._explain_attention(layer, row, known, elements)
            if inner:
                return inner
        if layer is not None:
            # What only the search needs is not kept for all rows.
            layer = replace(layer, earlier_tensors=())
        if explanation is not None and explanation.proof is not None:
            causes = {each.cause for each in explanation.proof.candidates}
            self._proved.setdefault(subject, set()).update(causes)
        return [(layer, explanation)]

    def _explain_inner(
        self, subject: str, row: GraphRow, known: Mapping[str, Array], elements: float
    ) -> list[Evidence]:
        """Return the operations of a row that differ, if both models write out the same ones.

        None unless the cause of each is proved. `known` are the subject's tensors by id.
        """
        found: list[Evidence] = []
        for each in pair_inner_operations(
            self.evidence.state, subject, row, self.evidence.reference_tensors, known
        ):
            failing = self.evidence.build_inner(subject, each, known)
            if failing is None:
                return []
            if not _differs(failing):
                continue
            explanation = self._search(failing, subject, each.row, elements)
            if explanation is None or explanation.proof is None:
                return []
            found.append((failing, name_operation(explanation, failing.label)))
        return found

    def _explain_attention(
        self, layer: FailingLayer, row: GraphRow, known: Mapping[str, Array], elements: float
    ) -> list[Evidence]:
        """Return the cause of attention that either model writes out, if it is proved."""
        state, subject = self.evidence.state, layer.subject
        nodes = list_row_nodes(state, subject, row)
        points = row.tensors[state.reference.subject.name], row.tensors[subject]
        base, own = (
            _read_attention(graph, each, tensors, as_transform(point.apply))
            for graph, each, tensors, point in zip(
                (state.reference.graph, state.models[subject].graph),
                nodes,
                (self.evidence.reference_tensors, known),
                points,
                strict=True,
            )
        )
        base = None if base is None else fit(base, layer.expected)
        if base is None:
            base = layer.reference_layer
        else:
            base = replace(base, inputs=tuple(map(round_to_float32, base.inputs)))
        own = own or layer.subject_layer
        if own is None or {base.kind, own.kind} != {ATTENTION}:
            return []
        # What is known of the inputs of the last product alone says nothing of these.
        failing = replace(
            layer,
            reference_layer=base,
            subject_layer=own,
            is_opaque=False,
            misread_inputs={},
            unpaired_input_layers={},
            missing_input_layers={},
        )
        explanation = self._search(failing, subject, row, elements)
        if explanation is None or explanation.proof is None:
            return []
        return [(failing, explanation)]

    def _search(
        self, layer: FailingLayer, subject: str, row: GraphRow, elements: float
    ) -> Explanation | None:
        def add_weights() -> FailingLayer:
            values, names = self.evidence.read_subject_weights(subject, row)
            sources = self.evidence.find_weight_sources(row, values)
            return replace(
                layer, subject_weights=values, weight_names=names, weight_sources=sources
            )

        return diagnosis.explain_layer(layer, elements=elements, add_weights=add_weights)


def _find_reason(error: Exception) -> str:
    """Return why a search ended, for a reader who does not know its code."""
    if isinstance(error, ParityError):
        return str(error).partition("\n")[0]
    return FAILED


def _read_attention(
    graph: Graph, nodes: Sequence[Node], tensors: Mapping[str, Array], apply: Transform
) -> Layer | None:
    """Return the attention that operations write out, as one layer.

    `tensors` are channels first; `apply` changes the axes of what the last operation gives.
    """
    if len(nodes) < 2:
        return None
    values = {
        tensor: np.asarray(restore_axes(graph, tensor, tensors[tensor]), np.float64)
        for tensor in list_inner_tensors(nodes)
        if tensor in tensors and tensor in graph.tensors
    }
    found = read_attention(graph, nodes, values)
    if found is None:
        return None
    layer, axes = found
    turn = as_transform(partial(np.transpose, axes=axes))
    return replace(layer, output_transforms=(turn, apply))


def _differs(failing: FailingLayer) -> bool:
    """Return whether the subject's output is further from the reference's than rounding."""
    error = measure_error(actual=failing.actual, expected=failing.expected)
    return judge_error(error, failing.floor, limit=failing.limit).status.is_failure


def explain_rows(
    state: GraphState,
    runner: GraphRunner,
    tensors: ReferenceTensors,
    failures: Sequence[Failure],
    layers: IsolatedRows,
) -> Explained:
    """Return the causes of the rows that fail in isolation; never raises."""
    notes: list[str] = []
    quantised = [each for each in failures if is_quantised(state, *each)]
    found = describe_quantised(state, quantised)
    failures = [each for each in failures if each not in quantised]
    if not failures:
        return Explained(found)
    try:
        read_tensors = partial(_read_tensors, state, runner, tensors, layers)
        explainer = GraphExplainer(GraphEvidence(state, tensors), read_tensors)
        findings = explainer.explain(failures, layers.captures)
        left = len(failures) - len({(each.subject, each.row.name) for each in findings})
        findings = _explain_regions(explainer, runner, failures, layers, findings)
        if left:
            notes.append(f"{left} more failing layers were not explained")
        notes += explainer.notes
        findings, folded = _leave_out_folded(state, findings)
        notes += folded
    except Exception as error:  # noqa: BLE001 - the verdict never depends on what explains it
        note = f"the differences were not explained: {_find_reason(error)}"
        return Explained(found, (note,), is_complete=False)
    # By their rows, within one rank.
    causes = sorted(describe(findings), key=partial(_rank, state))
    return Explained(
        (*found, *causes), tuple(notes), tuple(findings), is_complete=not explainer.notes
    )


def _leave_out_folded(
    state: GraphState, findings: Sequence[GraphFinding]
) -> tuple[list[GraphFinding], tuple[str, ...]]:
    """Return findings without what only says that two layers are one operation; and notes."""
    folded = find_folded(
        state, ((each.subject, each.row.name, each.explanation) for each in findings)
    )
    found = []
    for each in findings:
        explanation, is_right = leave_out_folded(each.explanation, each.subject, folded)
        if not is_right:
            found.append(replace(each, explanation=explanation))
    if not found:
        # That is all that is known.
        return list(findings), ()
    return found, describe_folded(folded, list(dict.fromkeys(each.subject for each in findings)))


def _rank(state: GraphState, cause: Cause) -> tuple[bool, bool, bool]:
    """Return the place of a cause among the others: what is proved comes first.

    A tensor of another layer comes last: no table was given, and a pair was not found. That another
    layer's tensor is read is no more certain than that an earlier layer has no cause, behind which
    it may be a way of writing. Of two that are as certain, that of the user's own source is first.
    """
    is_export = bool(state.models[cause.subject].subject.exported_from)
    is_open = cause.cause in (messages.UNKNOWN, rewired.NAME)
    return cause.cause == wrong_tensor.NAME, is_open, is_export


def _explain_regions(
    explainer: GraphExplainer,
    runner: GraphRunner,
    failures: Sequence[Failure],
    layers: IsolatedRows,
    findings: Sequence[GraphFinding],
) -> list[GraphFinding]:
    """Return findings with the operations that differ, where no cause was proved or only fitted.

    Rows that differ in nothing that is read of them are left out. What fails there is a note.
    """
    evidence, found = explainer.evidence, list(findings)
    same = set(explainer.cropped)
    results = {(name, result.row): result for name, result in failures}
    for subject in dict.fromkeys(each.subject for each in findings):
        own = [at for at, each in enumerate(findings) if each.subject == subject]
        rows = [findings[at].row.name for at in own]
        places = {findings[at].row.name: at for at in own
                  if rows.count(findings[at].row.name) == 1 and _is_open(findings[at])}  # fmt: skip
        wanted = []
        for row, at in places.items():
            floor = results[subject, row].floor
            if floor is not None:
                floor = floor.for_precision(evidence.find_precision(subject, row))
                wanted.append(RegionRow(findings[at].row, floor, evidence.state.request.limit))
        if not wanted:
            continue
        try:
            runs = RegionRuns(evidence.state, runner, layers, subject)
            proofs = explain_regions(evidence.state, runs, wanted)
            with CaptureReader(layers.captures[subject]) as reader:
                for row, proof in proofs.items():
                    floor, actual = results[subject, row].floor, reader.read(row)
                    at = places[row]
                    if not proof.statements:
                        same.add((subject, row))
                        continue
                    is_order = all(each.form is DifferenceType.ORDER for each in proof.statements)
                    if floor is not None and (is_order or not _reads_another(found[at])):
                        found[at] = _add_region(evidence, found[at], floor, actual, proof)
        except Exception as error:  # noqa: BLE001 - the verdict never depends on what explains it
            reason = _find_reason(error)
            explainer.notes.append(f"the operations of {subject} were not compared: {reason}")
    return leave_out_same(found, same)


def leave_out_same(
    findings: Sequence[GraphFinding], same: Container[tuple[str, str]]
) -> list[GraphFinding]:
    """Return findings without the subjects' rows that are the `same` as far as they are read.

    A subject of which nothing would be left keeps its own: that is all that is known.
    """
    names = [(each.subject, each.row.name) for each in findings]
    left = {subject for subject, row in names if (subject, row) not in same}
    return [each for each, name in zip(findings, names, strict=True)
            if name not in same or each.subject not in left]  # fmt: skip


def _add_region(
    evidence: GraphEvidence, finding: GraphFinding, floor: Floor, actual: Array, proof: RegionProof
) -> GraphFinding:
    """Return a finding with the operations that differ as its explanation, if they explain it."""
    failing = evidence.build_statement(finding.subject, finding.row, floor, actual)
    if failing is None:
        return finding
    output = evidence.turn_output(finding.row, proof.output)
    failing = replace(failing, region=replace(proof, output=output))
    explanation = diagnosis.explain_by_region(failing)
    if explanation is None:
        return finding
    fitted = finding.layer, finding.explanation
    return replace(finding, layer=failing, explanation=explanation, fitted=fitted)


def _is_open(finding: GraphFinding) -> bool:
    """Return whether no cause is proved, or one that only describes the values."""
    proof = None if finding.explanation is None else finding.explanation.proof
    return (
        proof is None
        or any(each.describes_values for each in proof.candidates)
        or _reads_another(finding)
    )


def _reads_another(finding: GraphFinding) -> bool:
    """Return whether it is proved that another layer's tensor is read: of another order, maybe.

    Where the tensor that the reference reads has no name, nothing more is known than values.
    """
    proof = None if finding.explanation is None else finding.explanation.proof
    causes = () if proof is None else proof.candidates
    return [(each.cause, each.describes_values) for each in causes] == [(rewired.NAME, False)]


def _read_tensors(
    state: GraphState,
    runner: GraphRunner,
    tensors: ReferenceTensors,
    layers: IsolatedRows,
    failures: Sequence[Failure],
) -> dict[str, Mapping[str, Array]]:
    """Make the reference's tensors around failures known; return the subjects' tensors there."""
    rows = [state.table.by_name(result.row) for _, result in failures]
    graph, nodes = state.reference.graph, [row.node for row in rows]
    before = [
        each
        for node in nodes
        if may_read_turned(graph.by_id[node])
        for each in list_tensors_before(graph, graph.by_id[node])
        if math.prod(graph.tensors[each].shape) <= MAX_VALUES
    ]
    inner = [
        tensor
        for name, row in zip((name for name, _ in failures), rows, strict=True)
        for tensor in list_inner_tensors(list_row_nodes(state, name, row)[0])
    ]
    subjects = list(dict.fromkeys(name for name, _ in failures))
    own: dict[str, Mapping[str, Array]] = {}
    with runner.children.threads(len(subjects) + 1) as pool:
        required = pool.submit(
            tensors.require, (*list_tensors_around(graph, nodes), *before, *inner)
        )
        reading = {
            subject: pool.submit(
                read_subject_tensors, state, runner, subject,
                [row for row, (name, _) in zip(rows, failures, strict=True) if name == subject],
                layers,
            )
            for subject in subjects
        }  # fmt: skip
        for subject, future in reading.items():
            with contextlib.suppress(ParityError):
                # Without them fewer causes are tried.
                own[subject] = future.result()
        required.result()
    return own


def describe(findings: Sequence[GraphFinding]) -> tuple[Cause, ...]:
    """Return one entry for all layers of one subject with one cause, in words."""
    groups: dict[tuple[str, ...], list[GraphFinding]] = {}
    for finding in findings:
        proof = finding.explanation.proof if finding.explanation else None
        key = (
            (finding.subject, finding.row.name)
            if proof is None
            else (finding.subject, *messages.candidate_texts(proof))
        )
        groups.setdefault(key, []).append(finding)
    return tuple(map(_describe_group, groups.values()))


def _describe_group(group: Sequence[GraphFinding]) -> Cause:
    first = group[0]
    failure = IsolatedFailure(
        first.subject,
        Row(first.row.name, first.row.stage, first.row.kind, "", ""),
        Floor(2.0**-24, 0.0, 1, 0.0) if first.layer is None else first.layer.floor,
        first.x_floor,
    )
    explanation = first.explanation
    if explanation is None or explanation.proof is None:
        return messages.describe_unexplained_layer(
            failure, first.layer, explanation, where=f"`{first.subject}`"
        )
    rows = [item.row.name for item in group[1:]]
    return messages.describe_proof(failure, explanation, rows, graphs=())
