"""Own networks in Keras and PyTorch: paired without names, in parity, and one fault each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from parity.comparison.graphs.request import GraphRequest
from parity.processes.children import Children
from tests.studies.pairs.own.faults import plan_faults, run_fault
from tests.studies.pairs.own.networks import (
    OWN_PAIRS,
    align_scrubbed,
    compare_with_equal_weights,
    count_pairs,
)

pytestmark = pytest.mark.framework


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    with Children() as started:
        yield started


SMALL = frozenset(
    {
        "u_net",
        "lstm_tagger",
        "gru_before",
        "bidirectional",
        "conv1d",
        "token_model",
        "attention_layer",
        "two_inputs",
        "dict_outputs",
        "subclassed",
        "separable",
        "flattened",
        "residual",
    }
)
"""One network for each mechanism; the others have the same ones, and are in the whole study."""


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param(pair, marks=() if pair.name in SMALL else pytest.mark.slow, id=pair.name)
        for pair in OWN_PAIRS
    ],
)
def test_layers_are_paired_and_the_models_agree(pair, children):
    request = GraphRequest((pair.keras, pair.other), export=False, semantics=True)
    state, report = compare_with_equal_weights(request, children)
    count = count_pairs(pair, state)
    assert count.wrong == ()
    assert count.paired == count.layers
    assert report.ok, str(report)
    (name,) = state.alignments
    scrubbed = align_scrubbed(state.reference.graph, state.models[name].graph)
    nodes = [(p.reference, p.other) for p in state.alignments[name].pairs]
    assert [(p.reference, p.other) for p in scrubbed.pairs] == nodes


@pytest.mark.parametrize(
    ("name", "fault", "causes"),
    [
        ("conv1d", "dilation", {"dilation"}),
        ("residual", "no ReLU", {"activation-missing"}),
        ("two_inputs", "branches swapped", {"values-in-another-order"}),
        # The multiplication has no partner in the other model: the outputs are compared all the
        # same.
        ("lstm_tagger", "scale of the head", {"scale"}),
    ],
)
def test_a_fault_is_located_and_never_wrongly_named(name, fault, causes, children):
    planned = plan_faults(None, [name])
    chosen = next(each for each in planned if each[2].fault == fault)
    result = run_fault(*chosen, children)
    assert not result.failure
    assert result.detected
    assert result.located
    assert result.others == 0
    assert result.wrong_pairs == 0
    assert {text.partition(": ")[2] for text in result.causes} == causes
