"""An exporter, or an optimiser behind it, that wrote another layer down (onnxscript#2680).

The runtime is right: the graph itself, evaluated in float64, differs from the framework's model.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.case import Candidate, Case
from parity.explain.layer import then

NAME = "exported-graph"


def candidates(case: Case) -> Iterator[Candidate]:
    exact = case.exact
    if exact is None:
        return
    # The last resort: whatever says what the graph does differently goes first.
    yield Candidate(
        NAME,
        then(lambda output: exact),
        "The graph itself computes something else here than the model: evaluated in float64 it "
        "gives what ONNX Runtime gives",
        f"{case.label}: export again without the exporter's optimiser (optimize=False), or with a "
        "newer exporter, and compare",
        -2.0,
        whole=True,
    )
