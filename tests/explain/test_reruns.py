"""A cause of a run is named if changing that one thing brings it to the floor, and else not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from parity.comparison.placement import Placement
from parity.comparison.request import Request
from parity.comparison.runner import Runner
from parity.comparison.state import ReferenceRun, State, SubjectCapture
from parity.errors import ChildError, DeviceMemoryError, ProviderFallbackError
from parity.explain import causes, session
from parity.explain.reruns import FailingRun
from parity.network.inputs import Input
from parity.network.table import LayerTable, Row
from parity.numerics.capture import CaptureWriter
from parity.numerics.floor import Floor
from parity.numerics.verdict import PointResult, Status, SubjectResult

ROW = Row("logits", "logits", "dense", "head", "head", (4,))
RIGHT = np.linspace(1.0, 2.0, 8).reshape(2, 4)
FAILED = "onnx: ONNXRuntimeError: Got invalid dimensions for input: Got: 2 Expected: 1"
FELL_BACK = "onnx: CUDAExecutionProvider did not load, the session fell back to CPU"


def run(**changes):
    facts = {"subject": "onnx-torch", "precision": "float32", "judge_as": "float32", "batch": 2}
    return FailingRun(**{**facts, **changes})


def names(**changes):
    return {rerun.cause for rerun in causes.propose_reruns(run(**changes))}


def test_what_is_tried_on_a_run():
    assert names() == {"ort-optimiser"}
    assert names(shape_differs=True) == {"ort-optimiser", "batch-frozen"}
    assert names(error=ChildError(FAILED)) == {"batch-frozen"}
    assert names(error=ProviderFallbackError(FELL_BACK)) == {"provider-fallback"}
    # What does not fit into a GPU does fit image by image, and has no frozen batch.
    assert names(error=DeviceMemoryError("the gpu has too little memory")) == set()
    assert names(subject="keras") == set()
    assert names(subject="keras", precision="tf32") == {"tf32"}
    assert names(subject="torch", precision="float16") == {"low-precision"}


def counts(**changes):
    made = causes.propose_reruns(run(error=ChildError(FAILED), **changes))
    return [rerun.options["chunk_size"] for rerun in made]


def test_a_declared_batch_is_tried_first():
    assert counts(batch=2, declared_batch=8) == [8, 1, 3]
    assert counts(batch=2) == [1, 3]
    assert counts(batch=1) == [2, 3]


class Children:
    """A graph whose input takes one image."""

    def __getitem__(self, name):
        return self

    def call(self, operation, *, handle):
        assert operation == "read_batch_size"
        return {"declared": 1}


@dataclass(frozen=True)
class FakeRunner(Runner):
    """Gives what a run with the right thing changed gives, and of any other what was wrong."""

    wanted: dict = field(default_factory=dict)
    repaired: Any = None
    asked: list = field(default_factory=list)

    def run_subject(self, subject, rows, label, *, feed=None, **changes):
        self.asked.append(changes)
        if changes != self.wanted:
            raise ChildError(FAILED)
        return SubjectCapture(written(self.folder / "again", self.repaired), {})


def written(path, values):
    with CaptureWriter(path, {}) as writer:
        writer.add("logits", values)
    return path


def prepared(tmp_path, wanted, repaired, *, subjects=("onnx-torch",), failure=None, **options):
    """What is known of a comparison of one layer, and what can be asked."""
    request = Request(model="resnet18", subjects=subjects, **options)
    placement = Placement(dict.fromkeys(subjects, "cpu"))
    reference = ReferenceRun(
        written(tmp_path / "reference", RIGHT), {"logits": Floor(1e-7, 2e-7, 5, 2.0)}
    )
    image = np.zeros((2, 3, 8, 8), np.float32)
    state = State(
        request=request,
        placement=placement,
        folder=tmp_path,
        input=Input("array", image, "0" * 64, ""),
        table=LayerTable((ROW,)),
        reference=reference,
        failures={} if failure is None else {subjects[-1]: failure},
    )
    runner = FakeRunner(
        request, Children(), tmp_path, tmp_path / "input.npy", placement.devices,
        lambda *_: {}, wanted=wanted, repaired=repaired,
    )  # fmt: skip
    return state, runner


def explain(prepared_state, before):
    state, runner = prepared_state
    return session.explain_runs(state, state.comparison, runner, before)


def stages(subject="onnx-torch", *, x_floor=1e5):
    result = SubjectResult(Status.DIVERGED, 0.1, 0.1, x_floor, x_floor)
    return [PointResult("logits", "logits", "logits", (2, 4), None, {subject: result})]


CASES = {
    "ort-optimiser": ({"optimise": False}, {}, stages()),
    "batch-frozen": ({"chunk_size": 1}, {"failure": ChildError(FAILED)}, []),
    "provider-fallback": ({"device": "cpu"}, {"failure": ProviderFallbackError(FELL_BACK)}, []),
    "tf32": (
        {"precision": "float32"},
        {"subjects": ("torch",), "precision": "tf32", "judge_as": "float32"},
        stages("torch"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_is_mended_by_one_change_is_explained(tmp_path, name):
    wanted, options, before = CASES[name]
    made = prepared(tmp_path, wanted, RIGHT.astype(np.float32), **options)
    (cause,) = explain(made, before)
    assert cause.cause == name
    assert cause.layer == "logits"
    assert cause.evidence["x_floor_after"] <= 4.0
    assert cause.message.startswith(f"{name}: ")
    assert "Remedy: " in cause.message


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_the_change_does_not_mend_is_not_explained(tmp_path, name):
    wanted, options, before = CASES[name]
    assert explain(prepared(tmp_path, wanted, RIGHT * 1.01, **options), before) == ()


def test_the_words_of_a_session_are_the_evidence(tmp_path):
    wanted, options, before = CASES["provider-fallback"]
    made = prepared(tmp_path, wanted, RIGHT.astype(np.float32), **options)
    (cause,) = explain(made, before)
    assert FELL_BACK in cause.message
    assert "get_providers" in cause.message


def test_a_graph_whose_own_model_is_wrong_is_left_to_the_layers(tmp_path):
    wanted, _, (stage,) = CASES["ort-optimiser"]
    both = ("torch", "onnx-torch")
    made = prepared(tmp_path, wanted, RIGHT.astype(np.float32), subjects=both)
    (other,) = stages("torch")
    stage = PointResult(
        "logits", "logits", "logits", (2, 4), None, {**stage.subjects, **other.subjects}
    )
    assert explain(made, [stage]) == ()
    assert made[1].asked == []
