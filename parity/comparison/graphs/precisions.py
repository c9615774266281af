"""The rows whose floor is that of a lower precision, in which a model computes by itself."""

from __future__ import annotations

from collections.abc import Mapping

from parity.comparison.graphs.points import GraphTable
from parity.comparison.graphs.state import SubjectModel
from parity.comparison.results import BY_ITSELF, COMPUTES_IN
from parity.numerics.floor import PRECISION_FACTORS
from parity.processes import registry


def find_row_precisions(
    table: GraphTable, reference: SubjectModel, model: SubjectModel, *, requested: str
) -> dict[str, str]:
    """Return, by row, the precision that a model computes in where it is below `requested`.

    The reference's replicates round as its own casts do: the floor of a row that it computes in the
    same low precision is one of that precision already.
    """
    found = {}
    own, base = model.subject.name, reference.subject.name
    # A file is evaluated in one precision throughout, whatever it casts to.
    is_file = reference.graph.framework not in registry.model_runtimes()
    measured_precisions = {} if is_file else reference.graph.lowest_precisions
    for row in table.rows:
        if own not in row.tensors:
            continue
        precision = model.graph.lowest_precisions.get(row.tensors[own].tensor, requested)
        measured = measured_precisions.get(row.tensors[base].tensor, "float32")
        if _is_below(precision, requested) and _is_below(precision, measured):
            found[row.name] = precision
    return found


def describe_row_precisions(name: str, rows: Mapping[str, str]) -> str:
    """Return a sentence for the report: where a subject computes in a lower precision."""
    precisions = " and ".join(sorted(set(rows.values())))
    return (
        f"{name}{COMPUTES_IN}{precisions}{BY_ITSELF}{len(rows)} layers from {next(iter(rows))} "
        f"on are judged by the floor of {precisions}; --judge-as float32 judges them by that of "
        "float32"
    )


def _is_below(precision: str, other: str) -> bool:
    return PRECISION_FACTORS[precision] > PRECISION_FACTORS[other]
