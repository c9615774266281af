"""Names of axes, rearrangements between tensors, cuts with their stages and blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parity.network.alignment import align, find_cuts, infer_axes
from parity.network.alignment.axes import Axes
from parity.network.alignment.rearrangements import choose_rearrangement
from parity.network.graph import Graph, Node, Port, Tensor
from parity.network.rearrangement import Rearrangement
from tests.network.alignment import architectures
from tests.network.alignment.networks import KERAS, TORCH, Rendering, change_style, render


def test_axes_spread_to_every_tensor() -> None:
    for style, image in ((TORCH, "N C H W"), (KERAS, "N H W C")):
        rendering = render(architectures.transformer(2), change_style(style, shuffle=False))
        axes = infer_axes(rendering.graph)
        assert axes[rendering.graph.inputs[0].tensor] == image
        tokens = [name for name, value in rendering.values.items() if value.startswith("tokens")]
        assert [axes[name] for name in tokens][-1] in ("N (H W) C", "N T C")
        assert axes[rendering.graph.outputs[0].tensor] == "N C"
        floats = [name for name in axes if len(rendering.graph.tensors[name].shape) == 4]
        assert {axes[name] for name in floats} == {image}


def test_a_flattened_map_keeps_its_axes() -> None:
    for style, joined in ((TORCH, "N (C H W)"), (KERAS, "N (H W C)")):
        rendering = render(architectures.plain(), style)
        flat = next(name for name, v in rendering.values.items() if v.startswith("flatten"))
        assert infer_axes(rendering.graph)[flat] == joined


@pytest.mark.parametrize(
    ("equation", "axes"),
    [
        ("bhqk,bhkd->bhqd", "N A T C"),
        ("bhqk,bkhd->bqhd", "N T A C"),
        ("bqhk,bhkd->bdhq", "N C A T"),
        ("hbqk,bkhd->bqhd", None),
        ("bqk,bkd->bqd", None),
        ("bhqk,bkhd->bqh", None),
        ("...qk,...kd->...qd", None),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_heads_of_a_sum_of_products(equation: str, axes: str | None, is_first: bool) -> None:
    terms, result = equation.split("->")
    names = ("w", "v") if is_first else ("v", "w")
    operands = terms.split(",") if is_first else terms.split(",")[::-1]
    node = Node(
        "2", "einsum", "einsum", names, ("y",),
        hyper={"equation": f"{','.join(operands)} -> {result}"},
    )  # fmt: skip
    softmax = Node("1", "softmax", "softmax", ("s",), ("w",), hyper={"axis": -1})
    shapes = {"s": (2, 3, 4, 5), "w": (2, 3, 4, 5), "v": (2, 3, 5, 6), "y": (2, 3, 4, 6)}
    shapes["y"] = shapes["y"][: 4 if "." in result else len(result)]
    tensors = {name: Tensor(name, shape, "float32") for name, shape in shapes.items()}
    graph = Graph("torch", (softmax, node), tensors, (Port("s", "s"), Port("v", "v")), ())
    assert infer_axes(graph).get("y") == axes
    no_softmax = replace(graph, nodes=(replace(softmax, kind="relu"), node))
    assert "y" not in infer_axes(no_softmax)


def _axes(text: str, shape: tuple[int, ...]) -> Axes:
    return tuple(((name, size),) for name, size in zip(text.split(), shape, strict=True))


REARRANGEMENTS = [
    ((2, 3, 4, 5), "N C H W", (2, 4, 5, 3), "N H W C", Rearrangement(order=(0, 3, 1, 2))),
    ((2, 7, 3), "N T C", (2, 3, 7), "N C T", Rearrangement(order=(0, 2, 1))),
    ((2, 3, 1, 1), "", (2, 3), "", Rearrangement(merged=(-1, 3, 1, 1))),
    ((2, 3), "", (2, 1, 1, 3), "", Rearrangement(merged=(-1, 3))),
    ((2, 3, 1, 1), "", (2, 1, 1, 3), "", Rearrangement(order=(0, 3, 1, 2))),
    ((2, 3, 4, 5), "", (2, 4, 5, 3), "", Rearrangement(order=(0, 3, 1, 2))),
    ((2, 9), "", (2, 9), "", Rearrangement()),
    ((7, 2, 3), "T N C", (2, 7, 3), "N T C", Rearrangement(order=(1, 0, 2))),
    ((7, 1, 3), "N T C", (1, 7, 3), "N T C", Rearrangement(order=(1, 0, 2))),
]


@pytest.mark.parametrize(("shape", "axes", "other", "other_axes", "rearrangement"), REARRANGEMENTS)
def test_rearrangements(
    shape: tuple[int, ...],
    axes: str,
    other: tuple[int, ...],
    other_axes: str,
    rearrangement: Rearrangement,
) -> None:
    names = [_axes(t, s) if t else None for t, s in ((axes, shape), (other_axes, other))]
    choice = choose_rearrangement(shape, names[0], other, names[1])
    assert choice is not None
    assert (choice.rearrangement, choice.open) == (rearrangement, False)
    array = np.arange(float(np.prod(other))).reshape(other)
    assert choice.rearrangement.apply(array).shape == shape
    assert np.array_equal(
        choice.rearrangement.invert(choice.rearrangement.apply(array), other), array
    )


def test_axes_that_have_names_are_not_exchanged_to_fit() -> None:
    one, two = (1, 3, 4, 5), (1, 3, 5, 4)
    choice = choose_rearrangement(one, _axes("N C H W", one), two, _axes("N C H W", two))
    assert choice is not None
    assert choice.rearrangement.is_identity


def test_a_flattened_map_is_viewed_through_its_map() -> None:
    first = (("N", 2),), (("C", 3), ("H", 4), ("W", 5))
    second = (("N", 2),), (("H", 4), ("W", 5), ("C", 3))
    choice = choose_rearrangement((2, 60), first, (2, 60), second)
    assert choice is not None
    image = np.arange(120.0).reshape(2, 3, 4, 5)
    other = image.transpose(0, 2, 3, 1).reshape(2, 60)
    assert np.array_equal(choice.rearrangement.apply(other), image.reshape(2, 60))


def test_open_and_impossible_rearrangements() -> None:
    choice = choose_rearrangement((2, 4, 4, 4), None, (2, 4, 4, 4), None)
    assert choice is not None
    assert choice.open
    assert choose_rearrangement((2, 3), None, (2, 4), None) is None


def _cut_values(rendering: Rendering) -> list[str]:
    return [rendering.values[name] for name in find_cuts(rendering.graph).tensors]


def test_cuts_are_where_all_data_flows() -> None:
    net = architectures.resnet((2, 1))
    for style in (TORCH, change_style(KERAS, fuse=False, pad=False)):
        cuts = _cut_values(render(net, style))
        assert [name for name in cuts if name.startswith("add")] == [
            op.id for op in net.ops if op.kind == "add"
        ]
        # Nothing inside a residual branch is a cut.
        inside = {op.inputs[0] for op in net.ops if op.kind == "add"}
        assert not inside & set(cuts)
        assert cuts[-1] == net.outputs[0]


def test_a_skip_over_the_whole_network_leaves_few_cuts() -> None:
    net = architectures.unet(2)
    cuts = _cut_values(render(net))
    up = [op.id for op in net.ops if op.kind == "transposed"]
    assert not set(up) & set(cuts)


def test_stages_by_size() -> None:
    net = architectures.resnet((2, 2, 1))
    rendering = render(net)
    cuts = find_cuts(rendering.graph)
    stages = list(cuts.stage_ends)
    assert stages == ["stage1", "stage2", "stage3", "stage4", "head"]
    assert set(cuts.places) == {node.id for node in rendering.graph.nodes}
    ends = [rendering.values[cuts.stage_ends[name]] for name in ("stage2", "stage3", "stage4")]
    adds = [op.id for op in net.ops if op.kind == "add"]
    after = {op.inputs[0]: op.id for op in net.ops if op.kind == "act"}
    assert ends == [after[adds[at]] for at in (1, 3, 4)]


def test_stages_by_path() -> None:
    rendering = render(architectures.resnet((2, 1)))
    graph = rendering.graph
    paths = {}
    stage, block = "conv1", ""
    for node in graph.nodes:
        name = rendering.ops[node.id][0]
        paths[node.id] = f"{stage}{block}.{name}" if block else name
        if node.kind == "max_pool":
            stage, block = "layer1", ".0"
        if name.startswith("act") and graph.producers[node.inputs[0]].kind == "add":
            stage, block = ("layer1", ".1") if block == ".0" and stage == "layer1" else (
                "layer2", ".0"
            )  # fmt: skip
    nodes = tuple(replace(node, path=paths[node.id]) for node in graph.nodes[:-2])
    head = tuple(replace(node, path="fc") for node in graph.nodes[-2:])
    cuts = find_cuts(Graph("torch", nodes + head, graph.tensors, graph.inputs, graph.outputs))
    assert list(cuts.stage_ends) == ["stem", "layer1", "layer2", "head"]
    assert list(cuts.block_ends) == [
        ("stem", "stem"), ("layer1", "0"), ("layer1", "1"), ("layer2", "0"), ("head", "head"),
    ]  # fmt: skip


def test_cuts_of_both_graphs_are_pairs() -> None:
    net = architectures.mobilenet()
    left, right = render(net), render(net, change_style(KERAS, fuse=False))
    partners = {t.reference: t.other for _, t in align(left.graph, right.graph).tensors}
    other = set(find_cuts(right.graph).tensors)
    assert {partners[name] for name in find_cuts(left.graph).tensors} <= other
