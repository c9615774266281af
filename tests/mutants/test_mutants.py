"""A small set of mutants in every run of the tests; `python -m tests.mutants` makes all of them."""

from __future__ import annotations

import time

import pytest

from tests.mutants.__main__ import MODELS, short, table
from tests.mutants.bench import Bench, Refused, Result, faults_for

SMALL = (
    "2 ", "3 ", "5 ", "8 gamma and", "9 training", "11 ", "12 ", "14 ", "18 bias added", "20 ",
    "21 ", "27 ", "28 ", "32 weights through float16", "33 ", "36 one weight", "44 ",
    "no cause covers",
)  # fmt: skip


def result(**changes):
    facts = {
        "model": "zoo", "subject": "keras", "fault": "5 epsilon 1e-3", "rows": ("a",),
        "detected": True, "located": True, "causes": ("batch-norm-epsilon",),
        "expected": ("batch-norm-epsilon",), "seconds": 1.0,
    }  # fmt: skip
    return Result(**{**facts, **changes})


def test_what_counts_as_named():
    assert result().named
    assert not result().misnamed
    unexplained = result(causes=("not-explained",))
    assert not unexplained.named
    assert not unexplained.misnamed
    wrong = result(causes=("bias",))
    assert not wrong.named
    assert wrong.misnamed
    assert result(causes=("not-explained",), expected=("not-explained",)).named
    assert result(causes=("bias",), expected=("not-explained",)).misnamed


def test_the_table_counts():
    printed = table(
        [result(), result(causes=("bias",)), result(fault="18 bias", detected=False)],
        [("zoo", "keras", True), ("zoo", "keras", False)],
    )
    assert "| 5 epsilon 1e-3 | 2 | 2 | 2 | 1 | 1 |" in printed
    assert "| **all** | 3 | 2 | 3 | 2 | 1 |" in printed
    assert "2 runs of unmutated models, 1 false alarms." in printed


def test_what_nothing_can_see_is_counted_apart():
    hidden = result(detected=False, by="", hidden="its channel is dead")
    printed = table([result(), hidden], [])
    assert "| **all** | 1 | 1 | 1 | 1 | 0 |" in printed
    assert "Undetectable: zoo keras 5 epsilon 1e-3 @ a: undetectable: its channel" in printed


def test_falling_short_is_told():
    assert short([result()], [("zoo", "keras", True)]) == []
    unseen = result(detected=False, by="")
    assert short([result()] * 99 + [unseen], [])[0].startswith("detected: 99.0%")
    assert short([result(located=False)], [])[0].startswith("located: 0.0%")
    assert len(short([result(causes=("bias",))], [])) == 2
    assert short([], [("zoo", "keras", False)]) != []


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
            except Refused:
                continue
        else:
            assert not places, f"{fault.name}: refused everywhere"
    assert len(results) >= 10
    assert [r for r in results if not r.detected] == []
    assert [r for r in results if not r.located] == []
    assert [r for r in results if not r.named] == []
    assert all(zoo.clean(subject, seed) for seed in range(3))
