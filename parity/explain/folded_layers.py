"""Layers that one subject has as one operation, where the reference has two.

An exporter makes one convolution of a convolution and the norm behind it. Where no weights show
that, the convolution is paired with the whole, whose output is the norm's: nothing is wrong there,
and what reads it reads the right tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from parity.comparison.graphs.state import GraphState
from parity.explain.causes import rewired, wrong_tensor
from parity.explain.proof.candidate import Candidate
from parity.explain.proof.search import Explanation
from parity.network import kinds

Folded = frozenset[tuple[str, str, str]]
"""Subjects and rows whose output is that of another row, in which the next operation is folded."""


def find_folded(state: GraphState, proved: Iterable[tuple[str, str, Explanation | None]]) -> Folded:
    """Return the (subject, row, next row) that proofs show to be one operation in the subject.

    `proved` are the subject, the row and the explanation of findings. The next row's operation is
    a norm that only this row is read by, and that the subject has no partner of.
    """
    found = set()
    for subject, row, explanation in proved:
        proof = None if explanation is None else explanation.proof
        if proof is None or len(proof.candidates) != 1:
            continue
        (candidate,) = proof.candidates
        is_of_rows = candidate.cause == wrong_tensor.NAME and len(candidate.rows) == 2
        if is_of_rows and _is_folded(state, subject, row, candidate.rows[1]):
            found.add((subject, row, candidate.rows[1]))
    return frozenset(found)


def _is_folded(state: GraphState, subject: str, row: str, behind: str) -> bool:
    graph = state.reference.graph
    first, second = (graph.by_id[state.table.by_name(name).node] for name in (row, behind))
    if second.id not in state.alignments[subject].unpaired_reference:
        return False
    if not kinds.properties(second.kind).affine or list(second.inputs) != list(first.outputs[:1]):
        return False
    return len(graph.consumers.get(first.outputs[0], ())) == 1


def leave_out_folded(
    explanation: Explanation | None, subject: str, folded: Folded
) -> tuple[Explanation | None, bool]:
    """Return an explanation without the candidates that only say what is folded.

    The second is whether nothing else is wrong.
    """
    if explanation is None or explanation.proof is None:
        return explanation, False
    candidates = explanation.proof.candidates
    rest = tuple(each for each in candidates if not _says_folded(each, subject, folded))
    if len(rest) == len(candidates):
        return explanation, False
    return replace(explanation, proof=replace(explanation.proof, candidates=rest)), not rest


def _says_folded(candidate: Candidate, subject: str, folded: Folded) -> bool:
    is_of_rows = candidate.cause in (wrong_tensor.NAME, rewired.NAME)
    return is_of_rows and (subject, *candidate.rows) in folded


def describe_folded(folded: Folded, used: Sequence[str]) -> tuple[str, ...]:
    """Return a note for each subject of `used` on what is one operation there."""
    notes = []
    for subject in used:
        rows = sorted(f"{row} and {behind}" for name, row, behind in folded if name == subject)
        if rows:
            notes.append(f"{subject} has one operation, which is right, for {', for '.join(rows)}")
    return tuple(notes)
