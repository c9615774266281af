"""An exporter, or an optimiser behind it, that wrote another layer down (onnxscript#2680).

The runtime is right: the graph itself, evaluated in float64, differs from the framework's model.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.proof.case import Candidate, Case
from parity.explain.proof.layer import instead

NAME = "exported-graph"


def candidates(case: Case) -> Iterator[Candidate]:
    exact = case.exact
    if exact is None:
        return
    remedy = (
        "export again without the exporter's optimiser (optimize=False), or with a newer "
        "exporter, and compare"
    )
    if case.given:
        remedy = f"if the file is this model's, {remedy}"
    # The last resort: whatever says what the graph does differently goes first.
    yield Candidate(
        NAME,
        instead(exact),
        f"The {'file' if case.given else 'graph'} itself computes something else here than the "
        "model, and ONNX Runtime computes what it says",
        f"{case.label}: {remedy}",
        -2.0,
        shown="Against the graph's own nodes, evaluated in float64",
        whole=True,
    )
