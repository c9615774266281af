"""ONNX Runtime's graph optimiser: the result depends on the optimisation level (onnxruntime#12498).

A fusion that is wrong for some nodes gives wrong outputs for a correct graph.
"""

from __future__ import annotations

from collections.abc import Iterator

from parity.explain.reruns import FailingRun, Rerun

NAME = "ort-optimiser"


def propose_reruns(run: FailingRun) -> Iterator[Rerun]:
    if not run.runs_graph or run.error is not None:
        return
    yield Rerun(
        NAME,
        {"optimise": False},
        "ONNX Runtime's graph optimiser changes what the graph computes",
        "with all optimisations off",
        "set SessionOptions.graph_optimization_level to ORT_DISABLE_ALL, or find the pass and "
        "pass its name to InferenceSession(disabled_optimizers=[…])",
    )
