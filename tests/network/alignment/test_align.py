"""Two graphs of one network, written differently, are paired completely and rightly."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from parity.errors import AlignmentError
from parity.network.alignment import Alignment, Confidence, align
from parity.network.graph import OPAQUE, Graph, Node, Parameter, Port, Tensor
from tests.network.alignment import architectures
from tests.network.alignment.architectures import FAMILIES, random_network
from tests.network.alignment.faults import remove_op
from tests.network.alignment.networks import (
    KERAS,
    ONNX,
    TORCH,
    Net,
    Rendering,
    Style,
    change_style,
    render,
)
from tests.network.alignment.truth import check, check_rearrangements, check_weights

STYLES = {
    "keras": KERAS,
    "keras, split": change_style(KERAS, fuse=False, pad=False, pairwise=False),
    "onnx": ONNX,
    "shuffled": change_style(TORCH, shuffle=True),
}


def _align(left: Rendering, right: Rendering) -> Alignment:
    return align(left.graph, right.graph)


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
@pytest.mark.parametrize("family", FAMILIES)
def test_family(family: str, style: Style) -> None:
    net = FAMILIES[family]()
    left, right = render(net), render(net, style, seed=3)
    alignment = _align(left, right)
    score = check(alignment, left, right)
    assert not score.wrong_pairs
    assert not score.missed
    assert not alignment.unpaired_reference
    assert not alignment.unpaired_other
    assert score.sure == score.right
    assert check_rearrangements(alignment, left, right)
    assert check_weights(alignment, left, right)
    assert alignment.missing_parameters == alignment.surplus_parameters == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_other_way_round(family: str) -> None:
    net = FAMILIES[family]()
    left, right = render(net, KERAS, seed=1), render(net, TORCH)
    alignment = _align(left, right)
    assert not check(alignment, left, right).missed
    check_rearrangements(alignment, left, right)
    check_weights(alignment, left, right)


@pytest.mark.parametrize("start", range(0, 80, 20))
def test_random_networks(start: int) -> None:
    for seed in range(start, start + 20):
        net = random_network(seed)
        style = list(STYLES.values())[seed % len(STYLES)]
        left, right = render(net), render(net, style, seed=seed)
        alignment = _align(left, right)
        score = check(alignment, left, right)
        assert not score.wrong_sure, seed
        assert not score.missed, seed
        check_rearrangements(alignment, left, right)


@pytest.mark.parametrize("family", ["resnet", "inception", "unet", "plain"])
def test_axes_that_nothing_states_follow_from_the_shapes(family: str) -> None:
    net = FAMILIES[family]()
    left, right = (render(net, change_style(style, axes=False)) for style in (TORCH, KERAS))
    alignment = _align(left, right)
    check_rearrangements(alignment, left, right)
    check_weights(alignment, left, right)


def test_pairs_are_in_the_order_of_the_reference() -> None:
    net = architectures.inception()
    left, right = render(net), render(net, KERAS, seed=2)
    order = {node.id: at for at, node in enumerate(left.graph.nodes)}
    ends = [order[pair.reference[-1]] for pair in _align(left, right).pairs]
    assert ends == sorted(ends)


def test_ports_are_paired_through_the_layers() -> None:
    net = architectures.two_inputs()
    left, right = render(net), render(net, KERAS)
    # The names say nothing, and the order is another one.
    inputs = [Port(f"i_{right.values[p.tensor]}", p.tensor) for p in right.graph.inputs]
    outputs = [Port(f"o_{right.values[p.tensor]}", p.tensor) for p in right.graph.outputs]
    inputs.sort(key=lambda port: port.name, reverse=True)
    graph = Graph(
        "keras", right.graph.nodes, right.graph.tensors, tuple(inputs), tuple(outputs[::-1])
    )
    alignment = align(left.graph, graph)
    assert alignment.inputs == {"in0": "i_input1", "in1": "i_input2"}
    expected = [f"o_{name}" for name in net.outputs]
    assert list(alignment.outputs.values()) == expected
    assert alignment.input_rearrangements["in0"].order == (0, 3, 1, 2)
    assert alignment.input_rearrangements["in1"].is_identity


def test_a_fused_activation_is_paired_with_both_nodes() -> None:
    net = Net()
    x = net.act(net.conv(net.input(3, 8, 8), 4))
    net.finish(net.dense(net.op("gap", x), 2))
    left = render(net)
    right = next(
        each
        for each in (render(net, change_style(TORCH, fuse=True), seed=s) for s in range(20))
        if len(each.graph.nodes) == 3
    )
    pair = _align(left, right).pairs[0]
    assert (pair.reference, pair.other) == (("n0", "n1"), ("n0",))
    assert [left.values[each.reference] for each in pair.tensors] == ["act3"]


def test_a_folded_batch_norm_is_said() -> None:
    net = architectures.resnet((1, 1))
    left, right = render(net), render(net, ONNX)
    alignment = _align(left, right)
    folded = [pair for pair in alignment.pairs if pair.folded]
    assert len(folded) == sum(node.kind == "batch_norm" for node in left.graph.nodes)
    assert all(not pair.weights and len(pair.reference) == 2 for pair in folded)
    assert [len(names) for names in alignment.folded_parameters] == [5 * 9, 2 * 9]


def test_equal_weights_are_the_first_anchor() -> None:
    """Four equal layers of which one is missing: the weights say which."""
    style = change_style(TORCH, moments=True)
    net = Net()
    x = net.input(8, 8, 8)
    for _ in range(4):
        x = net.act(net.conv(x, 8))
    net.finish(net.dense(net.op("gap", x), 2))
    short = net.copy()
    for name in ("conv4", "act5"):
        remove_op(short, name)
    left, right = render(net, style), render(short, style)
    alignment = _align(left, right)
    weighted = [pair for pair in alignment.pairs if pair.kind == "conv"]
    assert [pair.reason for pair in weighted] == ["equal weights"] * 3
    assert not check(alignment, left, right).wrong_pairs
    assert {left.ops[node][0] for node in alignment.unpaired_reference} == {"conv4", "act5"}
    # Without the weights, nothing says which: every pair of the run is open.
    left, right = render(net), render(short)
    alignment = _align(left, right)
    weighted = [pair for pair in alignment.pairs if pair.kind == "conv"]
    assert {pair.confidence for pair in weighted} == {Confidence.AMBIGUOUS}
    assert max(map(len, alignment.ambiguous)) >= 3


@pytest.mark.parametrize("is_first", [True, False])
def test_a_norm_of_equal_weights_behind_an_added_operation(is_first: bool) -> None:
    """The norm belongs to its convolution in one net alone: they are no one unit in the other."""
    net = Net()
    x = net.cba(net.cba(net.input(3, 16, 16), 8), 8)
    net.finish(net.dense(net.op("gap", x), 2))
    longer = net.copy()
    longer.count = 50
    added = longer.act("conv2", "tanh")
    longer.ops.insert(2, longer.ops.pop())
    norm = next(op for op in longer.ops if op.id == "bn3")
    norm.inputs = [added]
    nets = (longer, net) if is_first else (net, longer)
    left, right = (render(each, change_style(TORCH, moments=True)) for each in nets)
    alignment = _align(left, right)
    assert not check(alignment, left, right).wrong_pairs
    rest = [left.ops[node][0] for node in alignment.unpaired_reference]
    rest += [right.ops[node][0] for node in alignment.unpaired_other]
    assert rest == [added]


def test_nothing_in_common() -> None:
    def graph(kind: str, dtype: str) -> Graph:
        tensors = {name: Tensor(name, (1, 4), dtype) for name in "ab"}
        node = Node("n", kind, kind, ("a",), ("b",))
        return Graph("torch", (node,), tensors, (Port("x", "a"),), (Port("y", "b"),))

    with pytest.raises(AlignmentError, match=r"no layer of A has a partner in B: A is a torch"):
        align(graph("identity", "float32"), graph("relu", "float32"))


@pytest.mark.parametrize(
    ("net", "limit"),
    [
        (lambda: architectures.resnet((3, 4, 23, 3), width=64), 1.0),
        (lambda: architectures.mobilenet(80), 3.0),
        (lambda: architectures.transformer(80), 3.0),
        (lambda: architectures.inception(26), 3.0),
    ],
    ids=["resnet101", "mobilenet", "transformer", "inception"],
)
def test_speed(net: Callable[[], Net], limit: float) -> None:
    built = net()
    left, right = render(built), render(built, change_style(KERAS, shuffle=False))
    seconds = []
    for _ in range(3):
        started = time.process_time()
        _align(left, right)
        seconds.append(time.process_time() - started)
    assert min(seconds) < limit, (len(left.graph.nodes), seconds)


def _blocks_of_groups(*, whole: bool) -> Net:
    """Bottlenecks with grouped convolutions, or with a convolution of the whole input a group."""
    net = Net()
    x = net.cba(net.input(3, 16, 16), 64)
    for block in range(1, 4):
        y = net.cba(x, 32, 1)
        # What both nets have gets the same names.
        net.count = 100 * block + 50 * whole
        if whole:
            y = net.op("concat", *(net.conv(y, 4, bias=False) for _ in range(8)))
        else:
            y = net.conv(y, 32, groups=8, bias=False)
        net.count = 100 * block + 90
        y = net.act(net.op("bn", y))
        x = net.act(net.op("add", net.cba(y, 64, 1, act=""), x))
    return net.finish(net.dense(net.op("gap", x), 10))


@pytest.mark.parametrize("whole_first", [True, False])
@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_a_kernel_of_other_channels_is_no_partner_though_its_lengths_are(
    style: Style, whole_first: bool
) -> None:
    """8 convolutions from 32 channels to 4 have kernels like a grouped one's, from 4 to 32."""
    left = render(_blocks_of_groups(whole=whole_first))
    right = render(_blocks_of_groups(whole=not whole_first), style, seed=2)
    alignment = _align(left, right)
    score = check(alignment, left, right)
    assert [pair for pair in score.wrong_pairs if pair.weights] == []
    # A norm that is folded into a convolution without a partner has none either.
    folded = ["bn191", "bn291", "bn391"] if style.fold and whole_first else []
    assert score.missed == folded


def _activated(*steps: tuple[str, tuple[str, ...], str]) -> Graph:
    """A graph of elementwise operations: (kind, inputs, output)."""
    names = dict.fromkeys(name for _, inputs, output in steps for name in (*inputs, output))
    tensors = {name: Tensor(name, (2, 4, 6, 6), "float32", "N C H W") for name in names}
    nodes = tuple(
        Node(f"n{at}", kind, kind, inputs, (output,))
        for at, (kind, inputs, output) in enumerate(steps)
    )
    return Graph("torch", nodes, tensors, (Port("x", "x"),), (Port("y", "y"),))


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("silu", [("sigmoid", ("a",), "s"), ("multiply", ("a", "s"), "b")]),
        ("silu", [("sigmoid", ("a",), "s"), ("multiply", ("s", "a"), "b")]),
        ("hard_swish", [("hard_sigmoid", ("a",), "s"), ("multiply", ("a", "s"), "b")]),
        (
            "mish",
            [("softplus", ("a",), "p"), ("tanh", ("p",), "s"), ("multiply", ("a", "s"), "b")],
        ),
    ],
)
def test_a_product_with_its_own_gate_is_the_activation(kind, written) -> None:
    """Its output is the activation's, and no compared tensor is that of the gate alone."""
    around = [("tanh", ("x",), "a")], [("abs", ("b",), "y")]
    left = _activated(*around[0], (kind, ("a",), "b"), *around[1])
    right = _activated(*around[0], *written, *around[1])
    pairs = {pair.reference: pair for pair in align(left, right).pairs}
    assert pairs[("n1",)].other == tuple(f"n{at}" for at in range(1, 1 + len(written)))
    assert [(each.reference, each.other) for each in pairs[("n1",)].tensors] == [("b", "b")]


def test_a_gate_of_another_tensor_is_no_activation() -> None:
    steps = [("tanh", ("x",), "a"), ("sigmoid", ("x",), "s"), ("multiply", ("a", "s"), "y")]
    graph = _activated(*steps)
    assert len(align(graph, graph).pairs) == 3


def _moments(array: np.ndarray) -> tuple[float, float, float, float]:
    array = array.astype(np.float64)
    return (float(array.sum()), float((array**2).sum()), float(array.min()), float(array.max()))


def _convolution(kernel: np.ndarray, norm: dict[str, float] | None = None) -> Graph:
    """Return one convolution without a bias, and a batch-norm of equal channels behind it."""

    def parameter(name: str, role: str, value: np.ndarray) -> Parameter:
        return Parameter(name, role, value.shape, "float32", moments=_moments(value))

    nodes = [Node("n0", "conv", "conv", ("in",), ("y0",), (parameter("kernel", "kernel", kernel),),
                  {"kernel": [1, 1], "stride": [1, 1]})]  # fmt: skip
    if norm is not None:
        weights = tuple(
            parameter(name, name, np.full(len(kernel), value, np.float32))
            for name, value in norm.items()
        )
        nodes.append(Node("n1", "batch_norm", "bn", ("y0",), ("y1",), weights, {"epsilon": 1e-5}))
    shape = (1, len(kernel), 4, 4)
    names = ["in", "y0", "y1"][: len(nodes) + 1]
    tensors = {name: Tensor(name, shape, "float32", "N C H W") for name in names}
    ends = (Port("x", "in"),), (Port("y", names[-1]),)
    return Graph("onnx", tuple(nodes), tensors, *ends)


@pytest.mark.parametrize(
    ("norm", "scale", "folded"),
    [
        ({}, (1 + 1e-5) ** -0.5, True),
        ({"gamma": 0.5, "variance": 4.0}, 0.5 * (4 + 1e-5) ** -0.5, True),
        ({"gamma": -1.0}, -((1 + 1e-5) ** -0.5), True),
        # The norm is missing, has a shift that nothing holds, or has another factor.
        ({}, 1.0, False),
        ({"beta": 0.1}, (1 + 1e-5) ** -0.5, False),
        ({"mean": 0.1}, (1 + 1e-5) ** -0.5, False),
        ({}, (1 + 1e-3) ** -0.5, False),
    ],
)
def test_a_norm_without_a_shift_is_folded_and_leaves_no_bias(norm, scale, folded):
    kernel = np.random.default_rng(0).standard_normal((8, 8, 1, 1)).astype(np.float32)
    values = {"gamma": 1.0, "beta": 0.0, "mean": 0.0, "variance": 1.0, **norm}
    left, right = _convolution(kernel, values), _convolution(kernel * np.float32(scale))
    for one, other in ((left, right), (right, left)):
        alignment = align(one, other)
        assert [pair.folded for pair in alignment.pairs if pair.kind == "conv"] == [folded]


def _decoder(*, is_fused: bool) -> Graph:
    """A decoder of learned queries: attention to themselves, a sum, attention to the input.

    One fused node and a sum with the weight; or a product for each part and a sum of two tensors.
    """
    shapes = {"query": (1, 3, 8), "x": (1, 5, 8)}
    nodes: list[Node] = [
        Node("p", OPAQUE, "parameter", (), ("q",), (Parameter("query", "", (1, 3, 8), "float32"),))
    ]

    def dense(name: str, source: str, output: str) -> None:
        weights = (Parameter(f"{name}.kernel", "kernel", (8, 8), "float32", "O I"),
                   Parameter(f"{name}.bias", "bias", (8,), "float32"))  # fmt: skip
        hyper = {"in": 8, "out": 8, "bias": True}
        nodes.append(Node(name, "dense", "dense", (source,), (output,), weights, hyper))

    def attend(name: str, query: str, memory: str, output: str) -> None:
        if is_fused:
            weights = tuple(
                Parameter(f"{name}.{role}", role, shape, "float32")
                for role, shape in (
                    ("packed_kernel", (24, 8)), ("packed_bias", (24,)),
                    ("output_kernel", (8, 8)), ("output_bias", (8,)),
                )
            )  # fmt: skip
            inputs = (query, memory, memory)
            nodes.append(
                Node(name, "multi_head_attention", "mha", inputs, (output,), weights, {"heads": 2})
            )
            return
        for role, source in (("query", query), ("key", memory), ("value", memory)):
            dense(f"{name}.{role}", source, f"{name}.{role}.y")
        nodes.append(
            Node(f"{name}.a", "scaled_dot_product_attention", "attention",
                 tuple(f"{name}.{role}.y" for role in ("query", "key", "value")), (f"{name}.s",))
        )  # fmt: skip
        dense(f"{name}.output", f"{name}.s", output)

    attend("own", "q", "q", "a")
    table = (Parameter("query", "bias", (1, 3, 8), "float32"),)
    nodes.append(
        Node("sum", "bias_add", "add", ("a",), ("b",), table)
        if is_fused
        else Node("sum", "add", "add", ("q", "a"), ("b",))
    )
    attend("cross", "b", "x", "c")
    dense("head", "c", "y")
    names = {name for node in nodes for name in (*node.inputs, *node.outputs)}
    tensors = {name: Tensor(name, shapes.get(name, (1, 3, 8)), "float32") for name in names}
    return Graph("torch", tuple(nodes), tensors, (Port("x", "x"),), (Port("y", "y"),))


@pytest.mark.parametrize("is_fused", [(True, False), (False, True), (True, True), (False, False)])
def test_layers_that_read_weights_alone_are_paired(is_fused) -> None:
    left, right = (_decoder(is_fused=each) for each in is_fused)
    alignment = align(left, right)
    assert alignment.unpaired_reference == alignment.unpaired_other == ()
    assert alignment.missing_parameters == alignment.surplus_parameters == ()
    found = {
        node.partition(".")[0]: {each.partition(".")[0] for each in pair.other}
        for pair in alignment.pairs
        for node in pair.reference
    }
    assert found == {name: {name} for name in ("own", "sum", "cross", "head")}
    weights = {(each.reference, each.other) for pair in alignment.pairs for each in pair.weights}
    assert ("query", "query") in weights


def _normed(kind: str, hyper: dict[str, object]) -> Graph:
    """A convolution, a norm of its channels, an activation."""

    def parameter(name: str, role: str, *shape: int) -> Parameter:
        return Parameter(name, role, shape, "float32")

    nodes = (
        Node("conv", "conv", "conv", ("x",), ("a",), (parameter("kernel", "kernel", 8, 8, 1, 1),)),
        Node("norm", kind, kind, ("a",), ("b",),
             (parameter("gamma", "gamma", 8), parameter("beta", "beta", 8)), hyper),
        Node("relu", "relu", "relu", ("b",), ("y",)),
    )  # fmt: skip
    tensors = {name: Tensor(name, (1, 8, 4, 4), "float32", "N C H W") for name in "xaby"}
    return Graph("torch", nodes, tensors, (Port("x", "x"),), (Port("y", "y"),))


@pytest.mark.parametrize("other", ["group_norm", "layer_norm", "rms_norm"])
def test_norms_over_other_axes_are_partners(other: str) -> None:
    left = _normed("instance_norm", {"epsilon": 1e-5})
    pairs = align(left, _normed(other, {"epsilon": 1e-5, "groups": 8, "axes": [1]})).pairs
    assert [pair.other for pair in pairs] == [("conv",), ("norm",), ("relu",)]
    assert [(each.reference, each.other) for each in pairs[1].weights] == [
        ("gamma", "gamma"), ("beta", "beta"),
    ]  # fmt: skip
