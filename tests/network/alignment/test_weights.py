"""How weights of one model become those of another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from parity.errors import AlignmentError, WeightError
from parity.network.alignment import Slice, WeightPair, WeightTransform, align, transfer_weights
from parity.network.alignment.transform import Blocks
from parity.network.graph import Graph, Node, Parameter, Port, Tensor
from tests.network.alignment import architectures
from tests.network.alignment.networks import KERAS, render


def test_transfer_is_complete_and_exact() -> None:
    net = architectures.plain()
    left, right = render(net), render(net, KERAS, seed=1)
    alignment = align(left.graph, right.graph)
    shapes = {each.name: each.shape for each in right.graph.parameters}
    found = transfer_weights(alignment.weights, lambda n: left.parameters[n](), shapes)
    assert set(found) == set(shapes)
    for name, array in found.items():
        assert np.array_equal(array, right.parameters[name]())


TRANSFORMS = [
    WeightTransform(),
    WeightTransform(order=(1, 0)),
    WeightTransform(split=(6, 2, 2), order=(1, 2, 0), merged=(4, 6)),
    WeightTransform(take=(Slice(0, 2, 4),), order=(1, 0)),
    WeightTransform(place=(Slice(0, 0, 6),)),
    WeightTransform(split=(3, 2, 4), order=(2, 0, 1), merged=(4, 6), blocks=Blocks(0, (1, 0, 2))),
    WeightTransform(term=0),
]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_round_trips(transform: WeightTransform) -> None:
    array = np.arange(24.0).reshape(6, 4)
    moved = transform.apply(array)
    if not transform.place:
        back = transform.invert(moved, array.shape)
        assert np.array_equal(back, array[transform.take[0].index()] if transform.take else array)
    assert WeightTransform.from_json(transform.to_json()) == transform
    assert transform.is_identity == (transform == WeightTransform())


def test_a_weight_that_does_not_fit() -> None:
    with pytest.raises(
        WeightError, match=r"a weight of \(3, 2\) does not fit its partner of \(3, 3"
    ):
        WeightTransform(order=(1, 0)).apply(np.zeros((2, 3)), (3, 3))
    with pytest.raises(WeightError, match="does not fit its partner"):
        WeightTransform(split=(4, 4)).apply(np.zeros((2, 3)))


def test_a_packed_weight_needs_all_its_parts() -> None:
    pairs = [WeightPair("q", "qkv", WeightTransform(place=(Slice(0, 0, 2),)))]
    with pytest.raises(WeightError, match="qkv: expected 18 values from the reference, found"):
        transfer_weights(pairs, lambda name: np.ones((2, 3)), {"qkv": (6, 3)})


def _parameter(name: str, role: str, shape: tuple[int, ...], axes: str = "") -> Parameter:
    return Parameter(name, role, shape, "float32", axes)


def _graph(framework: str, nodes: list[Node], shapes: dict[str, tuple[int, ...]]) -> Graph:
    tensors = {name: Tensor(name, shape, "float32") for name, shape in shapes.items()}
    graph = Graph(
        framework, tuple(nodes), tensors, (Port("x", "x"),), (Port("y", nodes[-1].outputs[0]),)
    )
    graph.validate()
    return graph


def _attention(packed: bool) -> Graph:
    """One attention layer, its three products packed or apart, kernels (O, I) or (I, heads, O)."""
    shapes = {"x": (1, 5, 8), "a": (1, 2, 5, 4), "m": (1, 5, 8), "y": (1, 5, 8)}
    if packed:
        hyper = {"in": 8, "out": 24}
        weights = (_parameter("w", "kernel", (24, 8)), _parameter("b", "bias", (24,)))
        shapes |= {"p": (1, 5, 24), "r": (1, 5, 3, 2, 4), "t": (3, 1, 2, 5, 4)}
        shapes |= dict.fromkeys(("q", "k", "v"), (1, 2, 5, 4))
        nodes = [
            Node("p", "dense", "linear", ("x",), ("p",), weights, hyper),
            Node("r", "reshape", "reshape", ("p",), ("r",)),
            Node("t", "transpose", "permute", ("r",), ("t",), hyper={"perm": [2, 0, 3, 1, 4]}),
            Node("u", "split", "unbind", ("t",), ("q", "k", "v"), hyper={"axis": 0}),
        ]
        output = (_parameter("wo", "kernel", (8, 8)),)
    else:
        nodes = []
        shapes |= dict.fromkeys(("q", "k", "v"), (1, 5, 2, 4))
        # In another order than the attention takes them.
        for name in ("v", "q", "k"):
            weights = (
                _parameter(f"{name}w", "kernel", (8, 2, 4), "I O1 O2"),
                _parameter(f"{name}b", "bias", (2, 4), "C1 C2"),
            )
            nodes.append(Node(name, "dense", "e", ("x",), (name,), weights, {"in": 8, "out": 8}))
        output = (_parameter("wo", "kernel", (2, 4, 8), "I1 I2 O"),)
    nodes += [
        Node("a", "scaled_dot_product_attention", "sdpa", ("q", "k", "v"), ("a",)),
        Node("m", "reshape", "reshape", ("a",), ("m",)),
        Node("y", "dense", "linear", ("m",), ("y",), output, {"in": 8, "out": 8}),
    ]
    return _graph("torch" if packed else "keras", nodes, shapes)


def test_packed_and_split_attention() -> None:
    packed, split = _attention(True), _attention(False)
    alignment = align(packed, split)
    assert not alignment.unpaired_reference
    assert not alignment.unpaired_other
    assert alignment.missing_parameters == alignment.surplus_parameters == ()
    assert alignment.pairs[0].reference == ("p",)
    assert sorted(alignment.pairs[0].other) == ["k", "q", "v"]
    kernel, bias = np.arange(24 * 8.0).reshape(24, 8), np.arange(24.0)
    arrays = {"w": kernel, "b": bias, "wo": np.arange(64.0).reshape(8, 8)}
    shapes = {each.name: each.shape for each in split.parameters}
    found = transfer_weights(alignment.weights, arrays.__getitem__, shapes)
    for at, name in enumerate("qkv"):
        part = kernel[8 * at : 8 * at + 8]
        assert np.array_equal(found[f"{name}w"], part.T.reshape(8, 2, 4))
        assert np.array_equal(found[f"{name}b"], bias[8 * at : 8 * at + 8].reshape(2, 4))
    assert np.array_equal(found["wo"], arrays["wo"].T.reshape(2, 4, 8))
    # The other way round, the packed weight is put together.
    back = align(split, packed)
    shapes = {each.name: each.shape for each in packed.parameters}
    again = transfer_weights(back.weights, found.__getitem__, shapes)
    assert all(np.array_equal(again[name], array) for name, array in arrays.items())


def test_packed_attention_whose_bias_is_a_sum() -> None:
    packed, split = _attention(True), _attention(False)
    product = packed.nodes[0]
    nodes = [
        replace(product, outputs=("s",), parameters=product.parameters[:1]),
        Node("s", "bias_add", "Add", ("s",), ("p",), product.parameters[1:]),
        *packed.nodes[1:],
    ]
    shapes = {name: tensor.shape for name, tensor in packed.tensors.items()}
    apart = _graph("onnx", nodes, {**shapes, "s": shapes["p"]})
    alignment = align(apart, split)
    assert alignment.pairs[0].reference == ("p", "s")
    assert alignment.missing_parameters == alignment.surplus_parameters == ()
    assert not alignment.unpaired_reference


def test_packed_on_both_sides_is_one_pair_of_weights() -> None:
    graph = _attention(True)
    alignment = align(graph, graph)
    assert all(pair.transform.is_identity for pair in alignment.weights)
    assert len(alignment.weights) == 3


def _recurrent(framework: str, kind: str = "gru") -> Graph:
    """A GRU with 4 inputs and 3 units, or one step of it, as each framework packs it."""
    hyper: dict[str, object] = {"units": 3, "layers": 1}
    if framework == "torch":
        weights = (
            _parameter("k", "kernel", (9, 4)),
            _parameter("r", "recurrent_kernel", (9, 3)),
            _parameter("b", "bias", (9,)),
            _parameter("c", "recurrent_bias", (9,)),
        )
    elif framework == "keras":
        hyper["gates"] = "zrn"
        weights = (
            _parameter("k", "kernel", (4, 9), "I O"),
            _parameter("r", "recurrent_kernel", (3, 9), "I O"),
            _parameter("b", "bias", (2, 9), "C1 C2"),
        )
    else:
        weights = (
            _parameter("k", "kernel", (1, 9, 4), "D O I"),
            _parameter("r", "recurrent_kernel", (1, 9, 3), "D O I"),
            _parameter("b", "bias", (1, 18), "D C"),
        )
    node = Node("n", kind, kind, ("x",), ("y",), weights, hyper)
    return _graph(framework, [node], {"x": (1, 5, 4), "y": (1, 5, 3)})


def test_gates_and_biases_of_recurrent_layers() -> None:
    torch = {
        "k": np.arange(36.0).reshape(9, 4),
        "r": np.arange(27.0).reshape(9, 3),
        "b": np.arange(9.0),
        "c": 10 + np.arange(9.0),
    }
    for kind, framework in (("gru", "keras"), ("gru", "onnx"), ("gru_cell", "keras")):
        reference = _recurrent("torch", kind)
        other = _recurrent(framework, kind)
        shapes = {each.name: each.shape for each in other.parameters}
        alignment = align(reference, other)
        found = transfer_weights(alignment.weights, torch.__getitem__, shapes)
        order = [3, 4, 5, 0, 1, 2, 6, 7, 8]
        kernel, bias = torch["k"][order], np.stack([torch["b"][order], torch["c"][order]])
        if framework == "keras":
            assert np.array_equal(found["k"], kernel.T)
            assert np.array_equal(found["b"], bias)
        else:
            assert np.array_equal(found["k"], kernel[None])
            assert np.array_equal(found["b"], bias.reshape(1, 18))
        back = align(other, reference)
        shapes = {each.name: each.shape for each in reference.parameters}
        again = transfer_weights(back.weights, found.__getitem__, shapes)
        assert all(np.array_equal(again[name], array) for name, array in torch.items())


def test_a_cell_is_no_partner_of_one_of_its_products() -> None:
    """Both hold the kernel and the bias of the input; what they give is not the same."""
    weights = [("k", "kernel", (3, 4)), ("r", "recurrent_kernel", (3, 3))]
    weights += [("b", "bias", (3,)), ("c", "recurrent_bias", (3,))]
    whole = [
        replace(_parameter(*each), moments=(float(at), 1.0 + at, -1.0, 1.0))
        for at, each in enumerate(weights)
    ]
    node = Node("n", "rnn_cell", "rnn_cell", ("x",), ("y",), tuple(whole), {"units": 3})
    first = _graph("torch", [node], {"x": (1, 4), "y": (1, 3)})
    parts = [
        Node("d", "dense", "Gemm", ("x",), ("d",), (whole[0], whole[2]), {"in": 4, "out": 3}),
        Node("t", "tanh", "Tanh", ("d",), ("y",)),
    ]
    second = _graph("onnx", parts, {"x": (1, 4), "d": (1, 3), "y": (1, 3)})
    with pytest.raises(AlignmentError, match="no layer of A has a partner in B"):
        align(first, second)


def test_a_layer_of_whole_sequences_shares_the_weights_of_a_cell_in_a_loop() -> None:
    cell = _recurrent("torch", "gru_cell").nodes[0]
    steps = [
        replace(cell, id="n", outputs=("h",)),
        replace(cell, id="m", inputs=("x", "h"), outputs=("y",)),
    ]
    first = _graph("torch", steps, {"x": (1, 4), "h": (1, 3), "y": (1, 3)})
    alignment = align(first, _recurrent("keras"))
    assert {(each.reference, each.other) for each in alignment.weights} == {
        ("k", "k"), ("r", "r"), ("b", "b"), ("c", "b"),
    }  # fmt: skip
    # Here both have three values; one is a step, the other every step or the last.
    second = _recurrent("keras")
    second = replace(second, tensors={**second.tensors, "y": Tensor("y", (1, 3), "float32")})
    assert [len(pair.tensors) for pair in align(first, second).pairs if pair.weights] == [0]


def test_one_bias_is_the_sum_of_two() -> None:
    def graph(framework: str, two: bool) -> Graph:
        axes = "" if two else "I O"
        shape = (12, 4) if two else (4, 12)
        weights = [_parameter("k", "kernel", shape, axes), _parameter("b", "bias", (12,))]
        if two:
            weights.append(_parameter("c", "recurrent_bias", (12,)))
        node = Node("n", "lstm", "lstm", ("x",), ("y",), tuple(weights), {"units": 3})
        return _graph(framework, [node], {"x": (1, 5, 4), "y": (1, 5, 3)})

    alignment = align(graph("torch", True), graph("keras", False))
    arrays = {"k": np.zeros((12, 4)), "b": np.arange(12.0), "c": np.full(12, 0.5)}
    shapes = {"k": (4, 12), "b": (12,)}
    found = transfer_weights(alignment.weights, arrays.__getitem__, shapes)
    assert np.array_equal(found["b"], np.arange(12.0) + 0.5)
    assert np.array_equal(arrays["b"], np.arange(12.0))
    terms = {pair.reference: pair.transform for pair in alignment.weights}
    assert np.array_equal(terms["b"].invert(found["b"], (12,)), found["b"])
    assert np.array_equal(terms["c"].invert(found["b"], (12,)), np.zeros(12))
    assert alignment.missing_parameters == ()


def test_a_dense_layer_behind_a_flattened_sequence() -> None:
    def graph(framework: str, shape: tuple[int, ...], axes: str, order: str) -> Graph:
        kernel = (5, 24) if not order else (24, 5)
        node = Node("d", "dense", "d", ("f",), ("y",), (_parameter("k", "kernel", kernel, order),))
        nodes = [Node("f", "flatten", "f", ("x",), ("f",)), node]
        found = _graph(framework, nodes, {"x": shape, "f": (1, 24), "y": (1, 5)})
        return replace(found, tensors={**found.tensors, "x": Tensor("x", shape, "float32", axes)})

    first = graph("torch", (1, 4, 6), "N C T", "")
    second = graph("keras", (1, 6, 4), "N T C", "I O")
    alignment = align(first, second)
    kernel, data = np.arange(120.0).reshape(5, 24), np.arange(24.0).reshape(1, 4, 6)
    found = transfer_weights(alignment.weights, {"k": kernel}.__getitem__, {"k": (24, 5)})
    flat = data.transpose(0, 2, 1).reshape(1, 24)
    assert np.array_equal(flat @ found["k"], data.reshape(1, 24) @ kernel.T)


def test_a_dense_layer_over_tokens_is_a_convolution_that_mixes_them() -> None:
    """As gMLP's spatial projection is written in either framework; its kernel is square."""
    conv = Node(
        "c", "conv", "conv1d", ("x",), ("y",), (_parameter("k", "kernel", (4, 4, 1)),), {"out": 4}
    )
    first = _graph("torch", [conv], {"x": (1, 4, 6), "y": (1, 4, 6)})
    weights = (_parameter("k", "kernel", (4, 4), "I O"),)
    turn = {"perm": [0, 2, 1]}
    nodes = [
        Node("t", "transpose", "t", ("x",), ("t",), hyper=turn),
        Node("d", "dense", "d", ("t",), ("d",), weights, {"in": 4, "out": 4}),
        Node("u", "transpose", "t", ("d",), ("y",), hyper=turn),
    ]
    shapes = {"x": (1, 4, 6), "t": (1, 6, 4), "d": (1, 6, 4), "y": (1, 4, 6)}
    second = _graph("keras", nodes, shapes)
    tokens = Tensor("x", (1, 4, 6), "float32", "N T C")
    second = replace(second, tensors={**second.tensors, "x": tokens})
    alignment = align(first, second)
    kernel = np.arange(16.0).reshape(4, 4, 1)
    found = transfer_weights(alignment.weights, {"k": kernel}.__getitem__, {"k": (4, 4)})
    assert np.array_equal(found["k"], kernel[..., 0].T)


def _products(framework: str, scores: str) -> Graph:
    """Products of square kernels without softmax, as retention has them; `scores` says how."""
    kernel = {"torch": "", "keras": "I O"}[framework]
    hyper = {"in": 4, "out": 4}

    def dense(name: str, source: str) -> Node:
        weights = (_parameter(f"{name}w", "kernel", (4, 4), kernel),)
        return Node(name, "dense", "dense", (source,), (name,), weights, hyper)

    query, key, value = (dense(name, "x") for name in "qkv")
    if scores == "matmul":
        turned = Node("t", "transpose", "t", ("k",), ("t",), hyper={"perm": [0, 2, 1]})
        made = [turned, Node("s", "matmul", "matmul", ("q", "t"), ("s",))]
    else:
        # Keras names the key first.
        made = [Node("s", "einsum", "e", ("k", "q"), ("s",), hyper={"equation": "abc,adc->adb"})]
    scale = (_parameter("g", "gamma", (5,)),) if scores == "matmul" else ()
    nodes = [
        *(query, key, value), *made,
        Node("m", "layer_scale" if scale else "multiply", "m", ("s",), ("m",), scale),
        Node("p", "matmul", "matmul", ("m", "v"), ("p",)),
        dense("o", "p"),
    ]  # fmt: skip
    shapes = dict.fromkeys(("x", "q", "k", "v", "p", "o"), (1, 5, 4))
    return _graph(framework, nodes, {**shapes, "t": (1, 4, 5), "s": (1, 5, 5), "m": (1, 5, 5)})


@pytest.mark.parametrize("names", ["qkv", "kqv", "vkq"])
def test_query_key_and_value_of_one_shape_are_told_apart_by_their_products(names: str) -> None:
    first, second = _products("torch", "matmul"), _products("keras", "einsum")
    nodes = [second.by_id[name] for name in names]
    nodes += [node for node in second.nodes if node not in nodes]
    alignment = align(first, replace(second, nodes=tuple(nodes)))
    found = {pair.reference: pair.other for pair in alignment.weights}
    assert {name: found[name] for name in ("qw", "kw", "vw", "ow")} == {
        name: name for name in ("qw", "kw", "vw", "ow")
    }
