"""A few composed networks through the comparison: no alarm without a fault, and faults named."""

from __future__ import annotations

import random

import pytest

from tests.studies.composed import counting, faults, rewritings
from tests.studies.composed.faults import Fault
from tests.studies.composed.networks import FAMILIES, build

pytestmark = pytest.mark.framework


def test_a_network_is_the_same_for_the_same_seed():
    assert build("residual", 3).render() == build("residual", 3).render()
    assert build("residual", 3).render() != build("residual", 4).render()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_source_of_a_network_runs_and_its_lines_are_where_they_are_said_to_be(family):
    network = build(family, 0)
    text = network.render()
    scope: dict = {}
    exec(compile(text, "net.py", "exec"), scope)
    model, example = scope["net"]()
    assert model(example).shape[0] == network.shape[0]
    for index, op in enumerate(network.ops):
        line = text.splitlines()[network.line_of(index) - 1]
        assert line.strip().startswith(f"{op.out} = "), (line, op)


def test_rewritings_raise_no_alarm_and_faults_are_named():
    networks = [build("residual", 1), build("transformer", 0)]
    originals = {(each.family, each.seed): each for each in networks}
    rng = random.Random(1)
    with counting.open_bench() as bench:
        for kind, name in (("silu", "product"), ("batch_norm", "written out"),
                           ("layer_norm", "written out"), ("gelu", "by erf")):  # fmt: skip
            rewrite = next(r for k, n, r in rewritings.REWRITINGS if (k, n) == (kind, name))
            for network in networks:
                places = [i for i, op in enumerate(network.ops) if op.kind == kind]
                if not places:
                    continue
                other = network.replace_op(places[0], *rewrite(network.ops[places[0]]))
                report = bench.compare(originals[network.family, network.seed], other)
                assert report.ok, (kind, name, str(report))
                break
        for wanted in (
            "factor",
            "epsilon",
            "heads",
            "cosine added",
            "no cause covers: waves added",
        ):
            change, causes = next((c, n) for k, c, n in faults.CHANGES if k == wanted)
            for network in networks[::-1]:
                places = [i for i, op in enumerate(network.ops) if change(op, rng) is not None]
                if not places:
                    continue
                changed = change(network.ops[places[0]], rng)
                assert changed is not None
                fault = Fault(
                    wanted, network.replace_op(places[0], changed), places[0], causes, changed.name
                )
                result = counting.count_fault(bench, network, fault)
                assert (result.detected, result.located) == (True, True), result
                assert result.answer == ("named" if causes else "not explained"), result
                break
