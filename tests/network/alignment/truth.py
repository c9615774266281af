"""What an alignment got right and wrong, by the construction of the two graphs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from parity.network.alignment import Alignment, Confidence, NodePair
from tests.network.alignment.networks import Rendering


@dataclass
class Score:
    right: int = 0
    wrong: int = 0
    wrong_sure: list[NodePair] = field(default_factory=list)
    sure: int = 0
    possible: int = 0
    weighted: int = 0
    weighted_possible: int = 0
    wrong_pairs: list[NodePair] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


def check(alignment: Alignment, left: Rendering, right: Rendering) -> Score:
    """Count the pairs whose nodes share an abstract operation, tensor and weight."""
    score = Score()
    paired_ops: set[str] = set()
    for pair in alignment.pairs:
        one = {op for node in pair.reference for op in left.ops[node]}
        two = {op for node in pair.other for op in right.ops[node]}
        is_right = bool(one & two) or (not one and not two)
        is_right &= (
            all(left.values[each.reference] == right.values[each.other] for each in pair.tensors)
            or pair.kind != pair.other_kind
            or bool(one ^ two)
        )
        is_right &= all(
            left.weights[each.reference] == right.weights[each.other] for each in pair.weights
        )
        if is_right:
            score.right += 1
            paired_ops |= one & two
        else:
            score.wrong += 1
            score.wrong_pairs.append(pair)
            if pair.confidence is Confidence.SURE:
                score.wrong_sure.append(pair)
        score.sure += pair.confidence is Confidence.SURE
    ops = [{op for each in side.ops.values() for op in each} for side in (left, right)]
    common = ops[0] & ops[1]
    score.possible = len(common)
    score.missed = sorted(common - paired_ops)
    heavy = {
        op for op in common
        if any(op == weight.split("/")[0] for weight in left.weights.values())
    }  # fmt: skip
    score.weighted_possible = len(heavy)
    score.weighted = len(heavy & paired_ops)
    return score


def check_rearrangements(alignment: Alignment, left: Rendering, right: Rendering) -> int:
    """Count the tensors; raises `AssertionError` for one that is not equal once rearranged."""
    for _, pair in alignment.tensors:
        expected = left.arrays[pair.reference]()
        assert np.array_equal(pair.rearrangement.apply(right.arrays[pair.other]()), expected), pair
        back = pair.rearrangement.invert(expected, right.arrays[pair.other]().shape)
        assert np.array_equal(back, right.arrays[pair.other]()), pair
    return len(list(alignment.tensors))


def check_weights(alignment: Alignment, left: Rendering, right: Rendering) -> int:
    """Count the weights that are equal through their transforms."""
    for pair in alignment.weights:
        one, two = left.parameters[pair.reference](), right.parameters[pair.other]()
        assert np.array_equal(pair.transform.apply(one, two.shape), two), pair
        assert np.array_equal(pair.transform.invert(two, one.shape), one), pair
    return len(alignment.weights)
