"""`parity.align`: pair the layers of two models, and say how sure each pair is."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from parity import temporary
from parity.commands.notebooks import show_in_notebooks
from parity.commands.values import (
    ImageSize,
    Progress,
    find_interpreters,
    no_progress,
    optional_path,
    parse_image_size,
)
from parity.comparison.graphs.preparation import Preparation
from parity.comparison.graphs.request import GraphRequest
from parity.comparison.graphs.state import GraphState
from parity.comparison.graphs.structure import locate
from parity.network.alignment import Alignment, NodePair
from parity.network.graph import Graph
from parity.processes.children import Children

COLUMNS = ("kind", "reference", "other", "shape", "weights", "confidence", "reason")


_MANY = 5
"""As many equal shapes in a row are one."""


@dataclass(frozen=True)
class AlignedRow:
    """One pair of operations, or one operation without a partner, as text."""

    kind: str
    reference: str
    other: str
    shape: str
    weights: str
    confidence: str
    reason: str

    def cells(self) -> list[str]:
        """Return the values of `COLUMNS`."""
        return [getattr(self, name) for name in COLUMNS]


@dataclass(frozen=True)
class AlignedModels:
    """The alignment of two models, for printing and for a file."""

    reference: str
    other: str
    rows: tuple[AlignedRow, ...]
    notes: tuple[str, ...]
    graphs: tuple[Graph, Graph] = field(repr=False, compare=False)
    """What was read: the reference's graph and the other's."""
    alignment: Alignment = field(repr=False, compare=False)

    @property
    def complete(self) -> bool:
        """Whether every layer has a partner, and every pair is sure."""
        return all(row.confidence == "sure" for row in self.rows)

    def describe_pairs(self) -> str:
        """Return how many pairs there are, and how many operations have none or none for sure."""
        alone = sum(row.confidence == "none" for row in self.rows)
        unsure = sum(row.confidence not in ("sure", "none") for row in self.rows)
        parts = [f"{len(self.rows) - alone} pairs"]
        parts += [f"{unsure} not sure"] if unsure else []
        noun = "operation" if alone == 1 else "operations"
        parts += [f"{alone} {noun} without a partner"] if alone else []
        return ", ".join(parts)

    def to_csv(self) -> str:
        """Return the rows as CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row.cells() for row in self.rows)
        return text.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Return the rows as plain data."""
        rows = [dict(zip(COLUMNS, row.cells(), strict=True)) for row in self.rows]
        return {"reference": self.reference, "other": self.other, "rows": rows}


@show_in_notebooks
def align(
    reference: str,
    other: str,
    *,
    input: str | Path | NDArray[Any] | None = None,
    inputs: Mapping[str, str | Path | NDArray[Any]] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    image_size: ImageSize | None = None,
    seed: int = 0,
    trust: Sequence[str | Path] = (),
    custom_objects: str | Path | None = None,
    table: str | Path | None = None,
    python: Mapping[str, str | Path] | None = None,
    timeout: float = 900.0,
    progress: Progress | None = None,
) -> AlignedModels:
    """Pair the layers of two models, without names, and say how sure each pair is.

    The parameters are those of `parity.compare`. Each model keeps its weights: they are exchanged
    only for the check of the pairs by values. `table` is a file as `AlignedModels.to_csv` gives it:
    its pairs are kept, and the rest is derived. Raises a `ParityError` as `compare` does.

    Example:
        >>> pairs = parity.align("keras:ResNet50", "torchvision:resnet50")
        >>> pairs.complete
        True
    """
    request = GraphRequest(
        references=(reference, other),
        input=input,
        inputs=dict(inputs or {}),
        shapes={name: tuple(shape) for name, shape in (shapes or {}).items()},
        image_size=parse_image_size(image_size),
        seed=seed,
        trust=tuple(map(str, trust)),
        custom_objects=None if custom_objects is None else str(custom_objects),
        table=optional_path(table),
        python=find_interpreters(python),
        timeout=timeout,
        export=False,
    )
    return align_models(request, progress=progress or no_progress)


def align_models(request: GraphRequest, *, progress: Progress = no_progress) -> AlignedModels:
    """Read two models, pair their layers, and check the pairs by values.

    The first of the request's references is the reference. The weights of the reference are copied
    for the check, and the models' own are restored. Raises a `ParityError` as `compare` does.
    """
    with (
        Children(python=request.python, timeout=request.timeout) as children,
        temporary.working_folder() as folder,
    ):
        state = Preparation(request, children, folder, progress).run()
        return describe_alignment(state)


def describe_alignment(state: GraphState) -> AlignedModels:
    """Return the alignment of the reference with the first other model."""
    name, alignment = next(iter(state.alignments.items()))
    reference, other = state.reference.graph, state.models[name].graph
    rows = [_describe_pair(pair, reference, other) for pair in alignment.pairs]
    for ids, graph, is_reference in (
        (alignment.unpaired_reference, reference, True),
        (alignment.unpaired_other, other, False),
    ):
        for each in ids:
            node = graph.by_id[each]
            text = locate(node)
            shape = _shape(graph, each)
            weights = _weights(node.parameters)
            first, second = (text, "") if is_reference else ("", text)
            rows.append(AlignedRow(node.kind, first, second, shape, weights, "none", "no partner"))
    return AlignedModels(
        state.reference.subject.name, name, tuple(rows), state.notes, (reference, other), alignment
    )


def _describe_pair(pair: NodePair, reference: Graph, other: Graph) -> AlignedRow:
    parameters = [p for each in pair.reference for p in reference.by_id[each].parameters]
    return AlignedRow(
        pair.kind,
        " + ".join(locate(reference.by_id[each]) for each in pair.reference),
        " + ".join(locate(other.by_id[each]) for each in pair.other),
        _shape(reference, pair.reference[-1]),
        _weights(parameters),
        pair.confidence.value,
        pair.reason,
    )


def _shape(graph: Graph, node: str) -> str:
    outputs = graph.by_id[node].outputs
    return "×".join(map(str, graph.tensors[outputs[0]].shape)) if outputs else ""


def _weights(parameters: Any) -> str:
    return ", ".join(
        f"{each.role or each.name} {'×'.join(map(str, each.shape))}" for each in parameters
    )


def read_graph(request: GraphRequest, *, progress: Progress = no_progress) -> Graph:
    """Read the one model of a request into a graph; raises a `ParityError` as `compare` does."""
    with (
        Children(python=request.python, timeout=request.timeout) as children,
        temporary.working_folder() as folder,
    ):
        _, reference, models = Preparation(request, children, folder, progress).read_models()
        return models[reference.name].graph


def describe_graph(graph: Graph) -> list[dict[str, str]]:
    """Return the operations of one model as text: kind, path, source line, shape, parameters."""
    trained = {each.name for each in graph.parameters if each.trainable}
    rows = []
    for node in graph.nodes:
        own = [each.size for each in node.parameters if each.name in trained]
        frozen = [each.size for each in node.parameters if each.name not in trained]
        rows.append(
            {
                "kind": node.kind if node.kind != "opaque" else f"({node.operation})",
                "path": node.path,
                "source": node.source,
                "inputs": " ".join(_origins(graph, node.inputs)),
                "shape": _shape(graph, node.id),
                "trainable": f"{sum(own):,}" if own else "",
                "other": f"{sum(frozen):,}" if frozen else "",
            }
        )
    return rows


def _origins(graph: Graph, tensors: tuple[str, ...]) -> list[str]:
    """Return the shape of each input of a join, so that both branches of an addition are seen.

    Many equal ones in a row, as those of 32 groups, are one with their number.
    """
    if len(tensors) < 2:
        return []
    shapes = ("×".join(map(str, graph.tensors[tensor].shape)) for tensor in tensors)
    found: list[str] = []
    for shape, equal in itertools.groupby(shapes):
        count = len(list(equal))
        found += [shape] * count if count < _MANY else [f"{shape} ({count} times)"]
    return found
