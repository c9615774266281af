"""A batch-norm that uses its moving statistics in training: they do not change."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from parity.explain.training.candidate import Candidate, Evidence
from parity.network.table import parse_torch_point
from parity.processes.training_requests import StepVariation


def propose(evidence: Evidence) -> Iterator[Candidate]:
    if "statistics" not in evidence.kinds:
        return
    unchanged, untrained = [], []
    for row in evidence.failing.table.rows:
        if row.kind != "batch_norm" or not row.in_both_models:
            continue
        path = parse_torch_point(row.torch).module
        names = [weight.name for weight in row.statistics]
        if all(_is_unchanged(evidence, name) for name in names):
            unchanged.append(path)
            trained = [w.name for w in row.weights if w not in row.statistics]
            if trained and not any(f"gradient/{n}" in evidence.actual.values for n in trained):
                untrained.append(path)
    if not unchanged:
        return
    count = f"{unchanged[0]}" + (f" and {len(unchanged) - 1} more" if len(unchanged) > 1 else "")
    frozen = len(untrained) == len(unchanged)
    yield Candidate(
        "batch-norm-frozen" if frozen else "batch-norm-inference",
        f"{count}: the moving statistics are used in training"
        + (", and γ and β are not trained" if frozen else ""),
        "train the batch-norm: trainable=True in Keras, train() in PyTorch",
        expect=partial(
            evidence.failing.rerun,
            variation=StepVariation(
                inference_batch_norms=tuple(unchanged), frozen_batch_norms=tuple(untrained)
            ),
        ),
    )


def _is_unchanged(evidence: Evidence, name: str) -> bool:
    key = f"weight/{name}"
    before = np.asarray(evidence.failing.before[key], np.float64)
    return key in evidence.actual.values and bool((evidence.actual.values[key] == before).all())
