"""An exporter, or its optimiser, that wrote another layer into the graph (onnxscript#2680).

The runtime is right: the graph, evaluated in float64, differs from the framework's model.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.candidate import Candidate
from parity.explain.proof.failing_layer import FailingLayer
from parity.explain.proof.layer import replace_output

NAME = "exported-graph"


def propose_candidates(failing: FailingLayer) -> Iterator[Candidate]:
    output = failing.graph_output
    if output is None:
        return
    remedy = (
        "export again without the exporter's optimiser (optimize=False), or with a newer "
        "exporter, and compare"
    )
    if failing.graph_from_file:
        remedy = f"if the file is this model's, {remedy}"
    # The last resort: every other candidate says more precisely what differs.
    yield Candidate(
        NAME,
        replace_output(output),
        f"The {'file' if failing.graph_from_file else 'graph'} itself computes another layer than "
        "the model, and ONNX Runtime evaluates it correctly",
        f"{failing.label}: {remedy}",
        -2.0,
        proof_method="Against the graph's own nodes, evaluated in float64",
        replaces_output=True,
    )
