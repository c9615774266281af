"""A cause of a run is named if changing that one thing brings it to the floor, and else not."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest

from parity.comparison.captures import Reference
from parity.errors import ChildError, DeviceMemory, ProviderFallback
from parity.explain import causes, session
from parity.explain.rerun import Run
from parity.network.table import Cut, Row
from parity.numerics.capture import CaptureWriter
from parity.numerics.floor import Floor
from parity.numerics.verdict import StageResult, Status, SubjectResult

ROW = Row("logits", "logits", "dense", "head", "head", (4,))
RIGHT = np.linspace(1.0, 2.0, 8).reshape(2, 4)
FAILED = "onnx: ONNXRuntimeError: Got invalid dimensions for input: Got: 2 Expected: 1"
FELL_BACK = "onnx: CUDAExecutionProvider did not load, the session fell back to CPU"


def run(**changes):
    facts = {"subject": "onnx-torch", "precision": "float32", "judge_as": "float32", "batch": 2}
    return Run(**{**facts, **changes})


def names(**changes):
    return {rerun.cause for rerun in causes.reruns(run(**changes))}


def test_what_is_tried_on_a_run():
    assert names() == {"ort-optimiser"}
    assert names(reshaped=True) == {"ort-optimiser", "batch-frozen"}
    assert names(failure=ChildError(FAILED)) == {"batch-frozen"}
    assert names(failure=ProviderFallback(FELL_BACK)) == {"provider-fallback"}
    # What does not fit into a card does fit image by image, and has no frozen batch.
    assert names(failure=DeviceMemory("the gpu has too little memory")) == set()
    assert names(subject="keras") == set()
    assert names(subject="keras", precision="tf32") == {"tf32"}
    assert names(subject="torch", precision="float16") == {"low-precision"}


def counts(**changes):
    made = causes.reruns(run(failure=ChildError(FAILED), **changes))
    return [rerun.changed["at_once"] for rerun in made]


def test_a_declared_batch_is_tried_first():
    assert counts(batch=2, declared=8) == [8, 1, 3]
    assert counts(batch=2) == [1, 3]
    assert counts(batch=1) == [2, 3]


class Captures:
    """Gives what a run with the right thing changed gives, and of any other what was wrong."""

    def __init__(self, folder, wanted, mended):
        self.folder, self.wanted, self.mended, self.asked = folder, wanted, mended, []

    def subject(self, subject, rows, label, **changed):
        self.asked.append(changed)
        if changed != self.wanted:
            raise ChildError(FAILED)
        return SimpleNamespace(path=written(self.folder / "again", self.mended))


class Children:
    """A graph whose input takes one image."""

    def __getitem__(self, name):
        return self

    def call(self, operation, *, handle):
        assert operation == "batch"
        return {"declared": 1}


def written(path, values):
    with CaptureWriter(path, {}) as writer:
        writer.add("logits", values)
    return path


def done(value):
    future = Future()
    future.set_result(value)
    return future


def flow(tmp_path, wanted, mended, *, subject="onnx-torch", failure=None, **request):
    reference = Reference(
        written(tmp_path / "reference", RIGHT), {"logits": Floor(1e-7, 2e-7, 5, 2.0)}
    )
    table = SimpleNamespace(cuts=lambda depth: [Cut("logits", "logits", ROW)])
    facts = {"precision": "float32", "judge_as": None, "depth": "stage", "limit": 4.0}
    return SimpleNamespace(
        request=SimpleNamespace(
            subjects=(subject,), child=lambda name: "onnx", **{**facts, **request}
        ),
        failures={} if failure is None else {subject: failure},
        reference=done(reference),
        table=done(table),
        input=done(SimpleNamespace(array=np.zeros((2, 3, 8, 8)))),
        children=Children(),
        captures=Captures(tmp_path, wanted, mended),
        precisions={},
    )


def stages(subject="onnx-torch", *, x_floor=1e5):
    result = SubjectResult(Status.DIVERGED, 0.1, 0.1, x_floor, x_floor)
    return [StageResult("logits", "logits", "logits", (2, 4), None, {subject: result})]


CASES = {
    "ort-optimiser": ({"optimise": False}, {}, stages()),
    "batch-frozen": ({"at_once": 1}, {"failure": ChildError(FAILED)}, []),
    "provider-fallback": ({"device": "cpu"}, {"failure": ProviderFallback(FELL_BACK)}, []),
    "tf32": (
        {"precision": "float32"},
        {"subject": "torch", "precision": "tf32", "judge_as": "float32"},
        stages("torch"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_is_mended_by_one_change_is_explained(tmp_path, name):
    wanted, options, before = CASES[name]
    made = flow(tmp_path, wanted, RIGHT.astype(np.float32), **options)
    (cause,) = session.runs(made, before)
    assert cause.cause == name
    assert cause.layer == "logits"
    assert cause.evidence["x_floor_after"] <= 4.0
    assert cause.message.startswith(f"{name}: ")
    assert "Remedy: " in cause.message


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_the_change_does_not_mend_is_not_explained(tmp_path, name):
    wanted, options, before = CASES[name]
    assert session.runs(flow(tmp_path, wanted, RIGHT * 1.01, **options), before) == ()


def test_the_words_of_a_session_are_the_evidence(tmp_path):
    wanted, options, before = CASES["provider-fallback"]
    made = flow(tmp_path, wanted, RIGHT.astype(np.float32), **options)
    (cause,) = session.runs(made, before)
    assert FELL_BACK in cause.message
    assert "get_providers" in cause.message


def test_a_graph_whose_own_model_is_wrong_is_left_to_the_layers(tmp_path):
    wanted, _, (stage,) = CASES["ort-optimiser"]
    made = flow(tmp_path, wanted, RIGHT.astype(np.float32))
    (other,) = stages("torch")
    both = StageResult(
        "logits", "logits", "logits", (2, 4), None, {**stage.subjects, **other.subjects}
    )
    made.request.subjects = ("torch", "onnx-torch")
    assert session.runs(made, [both]) == ()
    assert made.captures.asked == []
