"""One model is wrong: what is not at fault is paired rightly, and no wrong pair is called sure."""

import random

import pytest

from parity.network.alignment import Confidence, align
from tests.network.alignment import architectures
from tests.network.alignment.architectures import FAMILIES, random_network
from tests.network.alignment.faults import plant_fault, remove_op
from tests.network.alignment.networks import KERAS, ONNX, TORCH, Net, change_style, render
from tests.network.alignment.truth import check

STYLES = (
    KERAS,
    change_style(KERAS, fuse=False, pad=False),
    ONNX,
    change_style(TORCH, shuffle=True),
)


@pytest.mark.parametrize("moments", [False, True], ids=["other weights", "same weights"])
@pytest.mark.parametrize("start", range(0, 200, 50))
def test_seeded_faults(start: int, moments: bool) -> None:
    possible = right = wrong = 0
    families = list(FAMILIES.values())
    for seed in range(start, start + 50):
        choose = random.Random(seed)
        net = families[seed % len(families)]() if seed % 2 else random_network(seed)
        broken, what = plant_fault(net, seed)
        style = change_style(choose.choice(STYLES), moments=moments)
        pair = (net, broken) if choose.random() < 0.5 else (broken, net)
        left = render(pair[0], change_style(TORCH, moments=moments))
        other = render(pair[1], style, seed=seed)
        score = check(align(left.graph, other.graph), left, other)
        assert not score.wrong_sure, (seed, what)
        possible += score.possible
        right += score.possible - len(score.missed)
        wrong += score.wrong
    assert right >= 0.98 * possible
    assert wrong <= 0.01 * possible


def test_another_activation_is_a_pair_of_two_kinds() -> None:
    net = architectures.resnet((1, 1))
    broken = net.copy()
    act = [op for op in broken.ops if op.kind == "act"][4]
    act.hyper["name"] = "elu"
    left, right = render(net), render(broken, change_style(KERAS, fuse=False))
    alignment = align(left.graph, right.graph)
    changed = [pair for pair in alignment.pairs if pair.kind != pair.other_kind]
    assert [(pair.kind, pair.other_kind) for pair in changed] == [("relu", "elu")]
    assert [left.ops[node] for pair in changed for node in pair.reference] == [[act.id]]
    assert "elu at the place of relu" in changed[0].reason
    assert not alignment.unpaired_reference


def test_another_kernel_is_a_pair_of_two_shapes() -> None:
    net = architectures.plain()
    broken = net.copy()
    conv = [op for op in broken.ops if op.kind == "conv"][4]
    conv.hyper["kernel"] = (5, 5)
    left, right = render(net), render(broken, KERAS)
    alignment = align(left.graph, right.graph)
    assert not check(alignment, left, right).missed
    pair = next(p for p in alignment.pairs if conv.id in left.ops[p.reference[0]])
    assert pair.confidence is Confidence.PROBABLE
    assert pair.reason == "another shape at the same place"


def test_which_of_equal_blocks_is_missing_is_not_guessed() -> None:
    net = architectures.resnet((2, 6, 2))
    adds = [op for op in net.ops if op.kind == "add"]
    broken = net.copy()
    remove_op(broken, adds[4].id, keep=1)
    relu = next(op for op in broken.ops if op.inputs == [adds[4].inputs[1]] and op.kind == "act")
    remove_op(broken, relu.id)
    for left, right in (
        (render(net), render(broken, KERAS)),
        (render(broken), render(net, KERAS)),
    ):
        alignment = align(left.graph, right.graph)
        score = check(alignment, left, right)
        assert not score.wrong_sure
        verdicts = {p.confidence for p in alignment.pairs if p.kind == "conv"}
        assert Confidence.AMBIGUOUS in verdicts
        # Outside of the run all is certain.
        first = next(p for p in alignment.pairs if p.kind == "conv")
        assert first.confidence is Confidence.SURE
        assert alignment.ambiguous


def test_equal_branches_are_ambiguous() -> None:
    net = Net()
    x = net.input(8, 8, 8)
    one, two = (net.act(net.conv(x, 8)) for _ in range(2))
    net.finish(net.dense(net.op("gap", net.op("add", one, two)), 3))
    left, right = render(net), render(net, KERAS)
    alignment = align(left.graph, right.graph)
    convs = [pair for pair in alignment.pairs if pair.kind == "conv"]
    assert [pair.confidence for pair in convs] == [Confidence.AMBIGUOUS] * 2
    assert [len(group) for group in alignment.ambiguous] == [2]
    # Weights tell them apart.
    style = change_style(KERAS, moments=True)
    left, right = render(net, change_style(TORCH, moments=True)), render(net, style, seed=5)
    alignment = align(left.graph, right.graph)
    convs = [pair for pair in alignment.pairs if pair.kind == "conv"]
    assert {pair.reason for pair in convs} == {"equal weights"}
    assert not alignment.ambiguous
    assert not check(alignment, left, right).wrong_pairs


def test_a_missing_batch_norm_is_not_called_folded() -> None:
    net = architectures.resnet((1, 1))
    broken = net.copy()
    norm = [op for op in broken.ops if op.kind == "bn"][3]
    remove_op(broken, norm.id)
    left, right = render(net), render(broken, change_style(KERAS, fuse=False))
    alignment = align(left.graph, right.graph)
    assert [left.ops[node] for node in alignment.unpaired_reference] == [[norm.id]]
    assert not any(pair.folded for pair in alignment.pairs)
    assert len(alignment.missing_parameters) == 4
