"""A small set of mutants in every test run; `python -m tests.studies.mutants` makes all."""

from __future__ import annotations

import time

import numpy as np
import pytest

from parity.network.table import LayerTable, Row
from parity.numerics.capture import CaptureReader
from tests.studies.mutants.__main__ import MODELS
from tests.studies.mutants.bench import Bench, ShapeMismatch, faults_for
from tests.studies.mutants.counting import find_shortfalls, format_result, format_table
from tests.studies.mutants.result import Result

SMALL = (
    "2 ", "3 ", "5 ", "8 gamma and", "8 mean", "9 training", "11 ", "12 depthwise layout", "14 ",
    "18 bias added", "19 activation doubled", "19 ReLU doubled", "20 ", "21 ", "27 ", "28 ",
    "32 weights through float16", "33 ", "36 one weight", "44 ", "6 cases: one NaN",
    "6 cases: wrong", "no cause covers", "two places", "too small", "hidden",
)  # fmt: skip


def result(*causes, **changes):
    facts = {
        "model": "zoo", "subject": "keras", "fault": "5 epsilon 1e-3", "rows": ("a",),
        "detected": True, "located": True,
        "answers": tuple(("a", cause) for cause in causes or ("batch-norm-epsilon",)),
        "expected": (("a", ("batch-norm-epsilon",)),), "seconds": 1.0,
    }  # fmt: skip
    return Result(**{**facts, **changes})


def result_without_cause(*causes):
    expected = (("a", ("not-explained",)),)
    return result(*causes, fault="no cause", expected=expected, nameable=False)


def test_what_counts_as_named():
    assert result().named
    assert result().unexplained is None
    assert not result().misnamed
    unexplained = result("not-explained")
    assert not unexplained.named
    assert not unexplained.misnamed
    wrong = result("bias")
    assert not wrong.named
    assert wrong.misnamed
    assert not result(answers=()).named


def test_what_no_cause_covers_does_not_count_as_named():
    assert result_without_cause("not-explained").named is None
    assert result_without_cause("not-explained").unexplained
    assert not result_without_cause("bias").unexplained
    assert result_without_cause("bias").misnamed


def test_of_two_places_both_must_be_named():
    both = {"rows": ("a", "b"), "expected": (("a", ("bias",)), ("b", ("softmax",)))}
    right = (("a", "bias"), ("b", "softmax"))
    assert result(**both, answers=right).named
    assert not result(**both, answers=right[:1]).named
    exchange = result(**both, answers=(("a", "softmax"), ("b", "bias")))
    assert not exchange.named
    assert exchange.misnamed
    assert not result(**both, answers=(*right, ("c", "bias"))).named


def test_the_table_counts():
    table_text = format_table(
        [result(), result("bias"), result(fault="18 bias", detected=False),
         result(fault="37 frozen", located=None), result_without_cause("not-explained")],
        [("zoo", "keras", True), ("zoo", "keras", False)],
    )  # fmt: skip
    assert "| 5 epsilon 1e-3 | 2 | 2 | 2 | 1 |  | 1 |" in table_text
    assert "| 37 frozen | 1 | 1 |  | 1 |  | 0 |" in table_text
    assert "| no cause | 1 | 1 | 1 |  | 1 | 0 |" in table_text
    assert "| **all** | 5 | 4 | 4 of 4 | 3 of 4 | 1 of 1 | 1 |" in table_text
    assert "located 4 of 4 (100.0%), named 3 of 4 (75.0%)" in table_text
    assert "2 runs of unmutated models, 1 false alarms." in table_text


def test_what_nothing_can_see_is_counted_apart():
    undetectable = result(detected=False, by="", undetectable="its channel is dead")
    table_text = format_table([result(), undetectable], [])
    assert "| **all** | 1 | 1 | 1 | 1 |  | 0 |" in table_text
    assert "| **declared undetectable** | 1 | 0 |" in table_text
    assert "Undetectable: 1 of '5 epsilon 1e-3', 0 flagged: its channel is dead." in table_text
    assert find_shortfalls([undetectable], []) == []
    false_flag = result(undetectable="its channel is dead")
    assert find_shortfalls([false_flag], [])[0].startswith("declared undetectable, and flagged")


def test_a_crash_is_not_detected():
    crash = result(detected=False, located=False, answers=(), by="a crash: IndexError()")
    assert "NOT DETECTED" in format_result(crash)
    assert find_shortfalls([crash], [])[0].startswith("detected: 0.0%")


def test_falling_short_is_told():
    assert find_shortfalls([result()], [("zoo", "keras", True)]) == []
    undetected = result(detected=False, by="")
    assert find_shortfalls([result()] * 99 + [undetected], [])[0].startswith("detected: 99.0%")
    assert find_shortfalls([result(located=False)], [])[0].startswith("located: 0.0%")
    assert find_shortfalls([result(located=None)], []) == []
    assert len(find_shortfalls([result("bias")], [])) == 2
    assert find_shortfalls([], [("zoo", "keras", False)]) != []


@pytest.mark.framework
@pytest.mark.parametrize("optimiser", [False, True])
def test_a_graph_is_changed_run_and_restored(tmp_path, optimiser):
    """A change of the optimiser is in sessions that optimise, and in no others."""
    import onnx
    from onnx import helper

    from tests.studies.mutants.runtimes.onnx.runtime import Runtime

    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 2])
            for n in ("input", "logits")]  # fmt: skip
    node = helper.make_node("Identity", ["input"], ["logits"])
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "g.onnx")
    np.save(tmp_path / "x.npy", np.array([[-1.0, 2.0]], np.float32))
    table = LayerTable((Row("head", "head", "dense", "head", "head", (2,)),))
    runtime = Runtime()
    runtime.load_file(handle="g", table=table.to_json(), path=str(tmp_path / "g.onnx"))

    def logits(*, optimise=True):
        out = tmp_path / "out.safetensors"
        runtime.run(handle="g", x=str(tmp_path / "x.npy"), rows=["head"], out=str(out),
                    manifest={"subject": "onnx"}, optimise=optimise)  # fmt: skip
        with CaptureReader(out) as reader:
            return reader.read("head").tolist()

    change = {"layer": "logits", "change": "relu-after", "optimiser": optimiser}
    runtime.mutate(handle="g", changes=[change])
    assert logits() == [[0.0, 2.0]]
    assert logits(optimise=False) == ([[-1.0, 2.0]] if optimiser else [[0.0, 2.0]])
    runtime.restore()
    assert logits() == [[-1.0, 2.0]]


@pytest.fixture(scope="module")
def zoo():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARITY_RUNTIMES", "parity.runtimes")
        bench = Bench("zoo", subjects=("keras", "torch"), batch=2, **MODELS["zoo"])
        yield bench
        bench.close()


@pytest.mark.framework
@pytest.mark.parametrize("subject", ["keras", "torch"])
def test_a_small_set_is_detected_located_and_named(zoo, subject):
    results = []
    for fault in faults_for(subject):
        if not fault.name.startswith(SMALL):
            continue
        places = list(zoo.places(fault, subject, 0))
        for mutation in places:
            try:
                results.append(zoo.measure(fault, subject, mutation, time.perf_counter))
                break
            except ShapeMismatch:
                continue
        else:
            assert not places, f"{fault.name}: refused everywhere"
    detectable = [r for r in results if r.detectable]
    assert len(detectable) >= 10
    assert {r.isolate for r in detectable} == {True, False}
    assert [r for r in detectable if not r.detected] == []
    assert [r for r in detectable if r.located is False] == []
    wrong = [r for r in detectable if r.named is False or r.unexplained is False or r.misnamed]
    assert wrong == []
    undetectable = [r for r in results if not r.detectable]
    assert undetectable
    assert [r for r in undetectable if r.detected] == []
    assert all(zoo.passes_unmutated(subject, seed) for seed in range(3))
