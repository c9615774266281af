"""A few composed faults through `parity reduce`: at most three layers, with the fault in them."""

from __future__ import annotations

import random

import pytest

from parity.processes.children import Children
from tests.studies.composed import faults
from tests.studies.composed.faults import Fault
from tests.studies.composed.networks import build
from tests.studies.reduced.__main__ import FEW, Count, count_fault, format_table


def test_the_table_counts_layers_and_what_was_not_written():
    counts = [
        Count("a", True, 1, 2, True, 10, ""),
        Count("a", True, 5, 5, True, 20, ""),
        Count("b", True, 0, 0, False, 0, "it did not run"),
        Count("b", False, 0, 0, False, 0, "no difference"),
        Count("b", True, 2, 4, False, 30, ""),
    ]
    lines = format_table(counts).splitlines()
    assert lines[2:5] == [
        "| a | 2 | 0 | 1 | 0 | 0 | 1 | 0 | 0 |",
        "| b | 3 | 1 | 0 | 1 | 0 | 0 | 1 | 1 |",
        "| all | 5 | 1 | 1 | 1 | 0 | 1 | 1 | 1 |",
    ]
    assert lines[-1] == "1 with at most 3 operations; files of 10 to 30 bytes"


@pytest.mark.framework
@pytest.mark.slow
def test_a_few_faults_are_left_with_few_layers():
    networks = [build("residual", 1), build("transformer", 0)]
    with Children() as children:
        for wanted, onnx in (("epsilon", False), ("heads", False), ("another activation", True)):
            change, causes = next((c, n) for k, c, n in faults.CHANGES if k == wanted)
            for network in networks[::-1]:
                rng = random.Random(1)
                places = [i for i, op in enumerate(network.ops) if change(op, rng) is not None]
                if places:
                    break
            changed = change(network.ops[places[0]], rng)
            assert changed is not None
            broken = network.replace_op(places[0], changed)
            fault = Fault(wanted, broken, places[0], causes, changed.name)
            result = count_fault(children, network, fault, onnx)
            assert result.differs, result
            assert 0 < result.layers <= FEW, result
            assert result.is_true, result
