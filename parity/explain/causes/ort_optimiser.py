"""ONNX Runtime's graph optimiser: the result depends on the optimisation level (onnxruntime#12498).

A fusion that is wrong for some nodes makes a session wrong whose graph is right.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.rerun import Rerun, Run

NAME = "ort-optimiser"


def reruns(run: Run) -> Iterator[Rerun]:
    if not run.runs_graph or run.failure is not None:
        return
    yield Rerun(
        NAME,
        {"optimise": False},
        "ONNX Runtime's graph optimiser changes what the graph computes",
        "with all optimisations off",
        "set SessionOptions.graph_optimization_level to ORT_DISABLE_ALL, or find the pass and "
        "give its name to InferenceSession(disabled_optimizers=[…])",
    )
