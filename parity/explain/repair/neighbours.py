"""The few changes of one line, and of those around it, that a run decides between.

A cause names the operations that differ; what to write is not always a value. These are the edits
that one slip of the hand undoes: exchanged names, another index, another function, a missing term.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from parity.comparison.graphs.points import GraphRow
from parity.comparison.graphs.state import GraphState
from parity.explain.repair import exchanges, insertions, literals, reshapes, transplants
from parity.explain.repair.changes import LayerRepair
from parity.explain.repair.flow import trace_lines
from parity.explain.repair.source_files import SourceFiles
from parity.explain.repair.syntax import parse
from parity.explain.repair.transplants import ReferenceCode
from parity.network.graph import Graph, Node

MAX_NEIGHBOURS = 400
"""How many changes of the source are listed for one cause."""
MAX_PER_LINE = 120
NEAREST = 3
"""On how many lines the reference's expressions are tried before anything else."""

_PLACE = re.compile(r"([^\s():]+\.py):(\d+)")


def list_neighbours(
    state: GraphState,
    subject: str,
    repair: LayerRepair,
    files: SourceFiles,
    reference_texts: Mapping[str, str],
) -> Iterator[tuple[str, str]]:
    """Yield each file that could be changed and its new text, at most `MAX_NEIGHBOURS`.

    `reference_texts` are the files of the reference by path; what its lines write is tried first.
    """
    row = state.table.by_name(repair.row)
    graph = state.models[subject].graph
    places = find_places(repair, row, subject, graph, files)
    reference = _read_reference(state, row, repair, reference_texts)
    seen: set[str] = set(files.texts.values())
    count = 0
    # What is likely comes first, on the lines of the cause and then around them.
    passes = [
        *((_list_likely, place, reference) for place in places[:NEAREST]),
        *((_list_likely, place, None) for place in places[NEAREST:]),
        *((_list_further, place, reference) for place in places),
        *((_list_likely, place, reference) for place in places[NEAREST:]),
    ]
    for lister, (file, line), code in passes:
        text = files.texts[file]
        changes = lister(text, line, graph.framework, code)
        for changed in itertools.islice(changes, MAX_PER_LINE):
            if changed in seen or parse(changed) is None:
                continue
            seen.add(changed)
            count += 1
            if count > MAX_NEIGHBOURS:
                return
            yield file, changed


def find_places(
    repair: LayerRepair, row: GraphRow, subject: str, graph: Graph, files: SourceFiles
) -> list[tuple[str, int]]:
    """Return the files and lines that a cause is about, the operations that it names first."""
    named = find_named(f"{repair.text} {repair.remedy}", files.texts)
    nodes = [graph.by_id[each] for each in row.nodes.get(subject, ()) if each in graph.by_id]
    before = [graph.producers[t] for node in nodes for t in node.inputs if t in graph.producers]
    found = [*named, *(files.find_line(node) for node in (*nodes, *before))]
    made = [files.places[node.path] for node in nodes if node.path in files.places]
    by_file: dict[str, list[int]] = {}
    for place in found:
        if place is not None:
            by_file.setdefault(place[0], []).append(place[1])
    for call in made:
        if call.file in files.texts:
            by_file.setdefault(call.file, []).append(call.line)
    return [
        (file, line)
        for file, lines in by_file.items()
        for line in trace_lines(files.texts[file], lines)
    ]


def find_named(text: str, sources: Iterable[str]) -> list[tuple[str, int]]:
    """Return the files, of `sources`, and the lines that a text names."""
    known = {Path(file).name: file for file in sources}
    return [(known[name], int(line)) for name, line in _PLACE.findall(text) if name in known]


def list_changes(
    text: str, line: int, framework: str, reference: ReferenceCode | None = None
) -> Iterator[str]:
    """Yield the source with one line changed, the likeliest first; some are no Python."""
    yield from _list_likely(text, line, framework, reference)
    yield from _list_further(text, line, framework, reference)


def _list_likely(
    text: str, line: int, framework: str, reference: ReferenceCode | None
) -> Iterator[str]:
    """Yield the changes of which a line has few."""
    yield from exchanges.exchange_targets(text, line)
    yield from exchanges.change_flags(text, line)
    yield from transplants.repeat_for_tile(text, line)
    yield from insertions.insert_mask(text, line, framework)
    yield from insertions.pad_explicitly(text, line)
    if reference is not None:
        yield from transplants.transplant_values(text, line, framework, reference)
    yield from exchanges.change_arithmetic(text, line)
    yield from reshapes.reorder_split(text, line)
    yield from exchanges.exchange_subscripts(text, line)
    yield from exchanges.exchange_calls(text, line)
    yield from exchanges.change_slices(text, line)


def _list_further(
    text: str, line: int, framework: str, reference: ReferenceCode | None
) -> Iterator[str]:
    functions: Sequence[str] = ()
    yield from exchanges.exchange_parts(text, line)
    if reference is not None:
        functions = reference.list_functions(framework)
        yield from insertions.insert_arithmetic(text, line, reference.list_arithmetic())
        yield from transplants.transplant_calls(text, line, framework, reference)
        yield from insertions.insert_function(text, line, framework, functions)
    yield from exchanges.change_items(text, line)
    yield from exchanges.exchange_names(text, line)
    yield from exchanges.change_operations(text, line, functions)
    yield from exchanges.exchange_statements(text, line)
    if reference is not None:
        yield from _write_numbers(text, line, reference)
    yield from exchanges.change_names(text, line)


def _write_numbers(text: str, line: int, reference: ReferenceCode) -> Iterator[str]:
    """Yield the source with each number of a line as each one that the reference's lines have."""
    numbers = [
        each.value
        for written in reference.lines
        for each in literals.find_literals(reference.text, written)
        if each.steps == 0 and isinstance(each.value, int | float)
    ]
    own = [e.value for e in literals.find_literals(text, line) if isinstance(e.value, float)]
    for old in dict.fromkeys(own):
        for new in dict.fromkeys(numbers):
            if new != old:
                yield from literals.change_values(text, line, old, new)


def _read_reference(
    state: GraphState, row: GraphRow, repair: LayerRepair, texts: Mapping[str, str]
) -> ReferenceCode | None:
    """Return the lines of the reference that a cause names, and those of its row."""
    graph = state.reference.graph
    node = graph.by_id[row.node]
    own = [node, *(graph.producers[t] for t in node.inputs if t in graph.producers)]
    for file, text in texts.items():
        named = [line for name, line in find_named(f"{repair.text} {repair.remedy}", texts)
                 if name == file]  # fmt: skip
        lines = [*named, *(line for each in own if (line := _line_of(each, file)))]
        if lines:
            return ReferenceCode.read(graph.framework, text, list(dict.fromkeys(lines)))
    return None


def _line_of(node: Node, file: str) -> int:
    name, _, line = node.source.rpartition(":")
    return int(line) if name == Path(file).name and line.isdigit() else 0
