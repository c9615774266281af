"""A normalisation behind an operation that one model alone has is still paired."""

from __future__ import annotations

from parity.comparison.graphs.norm_pairs import pair_norms
from parity.network.alignment import Alignment, NodePair, TensorPair
from parity.network.alignment.result import Confidence
from parity.network.graph import Graph, Node, Parameter, Port, Tensor
from parity.network.rearrangement import Rearrangement


def graph(*, factor: bool, norms: int = 1) -> Graph:
    nodes = [Node("conv", "conv", "conv2d", ("in",), ("conv.0",))]
    last = "conv.0"
    if factor:
        nodes.append(Node("mul", "multiply", "mul", (last,), ("mul.0",)))
        last = "mul.0"
    for number in range(norms):
        name = f"norm{number}"
        parameters = tuple(
            Parameter(f"{name}.{role}", role, (4,), "float32")
            for role in ("gamma", "beta", "mean", "variance")
        )
        nodes.append(Node(name, "batch_norm", "batch_norm", (last,), (f"{name}.0",), parameters))
        last = f"{name}.0"
    tensors = {
        each: Tensor(each, (1, 4, 2, 2), "float32")
        for each in ("in", *(tensor for node in nodes for tensor in node.outputs))
    }
    return Graph("torch", tuple(nodes), tensors, (Port("x", "in"),), (Port("y", last),))


def alignment(first: Graph, second: Graph) -> Alignment:
    pair = NodePair(
        ("conv",), ("conv",), (TensorPair("conv.0", "conv.0", Rearrangement()),), (),
        Confidence.SURE, "", "conv", "conv",
    )  # fmt: skip
    left, right = (tuple(n.id for n in each.nodes if n.id != "conv") for each in (first, second))
    return Alignment((pair,), left, right)


def test_the_norm_behind_a_factor_is_paired_with_its_weights():
    first, second = graph(factor=False), graph(factor=True)
    found = pair_norms(first, second, alignment(first, second))
    assert [(p.reference, p.other) for p in found.pairs] == [
        (("conv",), ("conv",)), (("norm0",), ("norm0",))
    ]  # fmt: skip
    assert found.unpaired_reference == ()
    assert found.unpaired_other == ("mul",)
    assert len(found.pairs[1].weights) == 4
    assert pair_norms(first, second, found) is found


def test_of_two_norms_none_is_taken():
    first, second = graph(factor=False, norms=2), graph(factor=True)
    known = alignment(first, second)
    assert pair_norms(first, second, known) is known
