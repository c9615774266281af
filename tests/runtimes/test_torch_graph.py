"""The evaluator of whole graphs: order, sinks, replacements, fallbacks and errors."""

from __future__ import annotations

import gc
import itertools

import numpy as np
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

torch = pytest.importorskip("torch")

from parity.errors import UsageError
from parity.runtimes.torch import onnx_evaluator
from tests.runtimes.operator_cases import (
    IMAGE,
    Array,
    Case,
    assert_same,
    case,
    drawn,
    model_of,
    positive,
    single,
)

pytestmark = pytest.mark.framework


def network(seed: int = 0, pads: tuple[int, ...] = (0, 0, 1, 1)) -> ModelProto:
    """Conv (asymmetric pads) - batch norm - relu - cast - pool - flatten - gemm, in float32."""
    weights = {
        "kernel": drawn(4, 3, 3, 3, seed=seed),
        **{name: drawn(4, seed=seed + i) for i, name in enumerate(("gamma", "beta", "mean"))},
        "variance": positive(4),
        "dense": drawn(4, 5, seed=seed),
    }
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["conv"], "conv", pads=pads, strides=[2, 2]),
        helper.make_node(
            "BatchNormalization", ["conv", "gamma", "beta", "mean", "variance"], ["bn"], "bn"
        ),
        helper.make_node("Relu", ["bn"], ["relu"], "relu"),
        helper.make_node("Cast", ["relu"], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["cast"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "dense"], ["logits"], "gemm"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


PHOTO = drawn(2, 3, 8, 8).astype(np.float32)


def by_hand(model: ModelProto, x: Array) -> Array:
    """The network in float64 NumPy, each window summed on its own."""
    w = {p.name: numpy_helper.to_array(p).astype(np.float64) for p in model.graph.initializer}
    begin = next(a.ints for a in model.graph.node[0].attribute if a.name == "pads")
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *zip(begin[:2], begin[2:], strict=True)])
    size = [(n - 3) // 2 + 1 for n in x.shape[2:]]
    conv = np.stack(
        [
            np.einsum("ncij,ocij->no", x[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3], w["kernel"])
            for i in range(size[0])
            for j in range(size[1])
        ],
        axis=-1,
    )
    scale = w["gamma"] / np.sqrt(w["variance"] + 1e-5)
    unit = (conv - w["mean"][:, None]) * scale[:, None] + w["beta"][:, None]
    return np.maximum(unit, 0).mean(-1) @ w["dense"]


def test_a_network_in_float64_is_free_of_float32_rounding() -> None:
    model = network()
    logits = onnx_evaluator.evaluate(model, {"input": PHOTO})["logits"]
    # The Cast to float32 in the middle would leave an error of 1e-8.
    np.testing.assert_allclose(logits, by_hand(model, PHOTO), rtol=1e-13, atol=1e-13)
    single_precision = onnx_evaluator.evaluate(model, {"input": PHOTO}, dtype="float32")["logits"]
    assert single_precision.dtype == np.float32
    assert 0 < np.abs(single_precision - logits).max() < 1e-4


def test_a_wrong_pad_is_seen() -> None:
    right = onnx_evaluator.evaluate(network(), {"input": PHOTO})["logits"]
    for pads in ((1, 1, 0, 0), (0, 0, 0, 0), (1, 0, 0, 1)):
        wrong = onnx_evaluator.evaluate(network(pads=pads), {"input": PHOTO})["logits"]
        assert np.abs(wrong - right).max() > 1e-3


def test_a_tensor_goes_to_the_sink_as_soon_as_it_is_made() -> None:
    order: list[str] = []
    shapes = {}

    def sink(name: str, array: Array) -> None:
        order.append(name)
        shapes[name] = array.shape
        assert array.flags.c_contiguous
        assert not array.flags.writeable

    wanted = ["logits", "relu", "input", "conv"]
    result = onnx_evaluator.evaluate(network(), {"input": PHOTO}, sink=sink, wanted=wanted)
    assert order == ["input", "conv", "relu", "logits"]
    assert shapes["conv"] == (2, 4, 4, 4)[:2] + shapes["relu"][2:]
    assert list(result) == ["logits"]


def test_wanted_tensors_are_returned_where_there_is_no_sink() -> None:
    assert set(onnx_evaluator.evaluate(network(), {"input": PHOTO}, wanted=["relu"])) == {
        "relu",
        "logits",
    }


def test_a_replacement_is_read_by_the_consumers_and_the_own_value_is_reported() -> None:
    model, seen = network(), {}
    plain = onnx_evaluator.evaluate(model, {"input": PHOTO}, wanted=["bn", "relu"])
    forced = -plain["bn"].astype(np.float32)
    onnx_evaluator.evaluate(
        model,
        {"input": PHOTO},
        sink=seen.__setitem__,
        wanted=["bn", "relu"],
        replace={"bn": forced}.get,
    )
    np.testing.assert_array_equal(seen["bn"], plain["bn"])
    np.testing.assert_array_equal(seen["relu"], np.maximum(forced, 0).astype(np.float64))
    with pytest.raises(UsageError, match=r"replacement of 'bn': expected shape \(2, 4"):
        onnx_evaluator.evaluate(model, {"input": PHOTO}, replace={"bn": np.zeros(3)}.get)


@pytest.mark.slow
def test_tensors_are_freed_after_their_last_use() -> None:
    def alive() -> int:
        # isinstance would wake the lazy modules among the objects.
        tensors = (o for o in gc.get_objects() if type(o) is torch.Tensor)
        return sum(tensor.shape == (64, 33, 7) for tensor in tensors)

    feeds = {"x": drawn(64, 33, 7)}
    names = ["x", *[f"y{i}" for i in range(20)]]
    nodes = [helper.make_node("Neg", [a], [b]) for a, b in itertools.pairwise(names)]
    most = 0

    def sink(name: str, array: Array) -> None:
        nonlocal most
        most = max(most, alive())

    onnx_evaluator.evaluate(model_of(nodes, feeds, ["y19"], 18), feeds, sink=sink, wanted=names)
    assert 1 <= most <= 3


def test_an_operator_without_a_translation_is_evaluated_by_the_reference_and_named() -> None:
    x, fallen = drawn(3, 3), []
    model, feeds = single(case("Det", x), "float64")
    result = onnx_evaluator.evaluate(model, feeds, on_fallback=lambda *a: fallen.append(a))
    np.testing.assert_allclose(result["out0"], np.linalg.det(x), rtol=1e-13)
    assert fallen == [("Det", "node")]


def test_an_output_that_nobody_reads_needs_no_fallback() -> None:
    fallen: list[str] = []
    for read, used in ((["y"], []), (["y", "indices"], ["MaxPool"])):
        node = helper.make_node("MaxPool", ["x"], ["y", "indices"], kernel_shape=[2, 2])
        model = model_of([node], {"x": IMAGE}, read, 18)
        result = onnx_evaluator.evaluate(
            model, {"x": IMAGE}, on_fallback=lambda op, _: fallen.append(op)
        )
        assert fallen == used
        expected = ReferenceEvaluator(model).run(None, {"x": IMAGE})
        np.testing.assert_array_equal(result["y"], expected[0])
    split = helper.make_node("Split", ["x"], ["a", "b", "c"], axis=1)
    model = model_of([split], {"x": drawn(2, 6)}, ["a"], 13)
    assert onnx_evaluator.evaluate(model, {"x": drawn(2, 6)})["a"].shape == (2, 2)


@pytest.mark.parametrize(
    "of",
    [
        case("LpPool", IMAGE, kernel_shape=[2, 2]),
        case("AveragePool", IMAGE, opset=19, kernel_shape=[2, 2], dilations=[2, 2]),
        case("MaxPool", IMAGE, outputs=2, kernel_shape=[2, 2], strides=[2, 2]),
        case("Resize", drawn(1, 1, 8, 8), None, np.array([1, 1, 0.5, 0.5]), antialias=1,
             mode="linear"),
        case("Det", drawn(2, 3, 3)),
    ],
    ids=str,
)  # fmt: skip
def test_a_fallback_computes_in_the_evaluation_dtype(of: Case) -> None:
    model, feeds = single(of, "float64")
    fallen: list[str] = []
    actual = onnx_evaluator.evaluate(model, feeds, on_fallback=lambda op, _: fallen.append(op))
    assert fallen == [of.op]
    expected = ReferenceEvaluator(model).run(None, feeds)
    for array, reference in zip(actual.values(), expected, strict=True):
        assert_same(array, reference, "float64")


def test_an_operator_that_nobody_knows_is_an_error_that_names_it() -> None:
    feeds = {"x": drawn(2)}
    node = helper.make_node("Wobble", ["x"], ["y"], "wobble_7", domain="com.example")
    model = model_of([node], feeds, ["y"], 18)
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(UsageError, match=r"com\.example\.Wobble wobble_7: no translation"):
        onnx_evaluator.evaluate(model, feeds)


def constant_graph(value: float, name: str) -> GraphProto:
    return helper.make_graph(
        [helper.make_node("Constant", [], [name], value_float=value)],
        name, [], [helper.make_empty_tensor_value_info(name)],
    )  # fmt: skip


@pytest.mark.parametrize("flag", [True, False])
def test_the_branch_of_an_if_is_chosen_by_its_condition(flag: bool) -> None:
    feeds = {"x": np.array(flag)}
    node = helper.make_node(
        "If", ["x"], ["y"], then_branch=constant_graph(0.5, "a"),
        else_branch=constant_graph(0.25, "b"),
    )  # fmt: skip
    found = onnx_evaluator.evaluate(model_of([node], feeds, ["y"], 18), feeds)["y"]
    assert found == (0.5 if flag else 0.25)
    assert found.dtype == np.float64


def loop_body() -> GraphProto:
    """Add the outer `step` to the state, and give out the state's square."""
    nodes = [
        helper.make_node("Add", ["state", "step"], ["next"]),
        helper.make_node("Mul", ["next", "next"], ["square"]),
        helper.make_node("Identity", ["go"], ["again"]),
    ]
    inputs = [
        helper.make_tensor_value_info("index", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("state", TensorProto.DOUBLE, [2]),
    ]
    outputs = [
        helper.make_tensor_value_info("again", TensorProto.BOOL, []),
        helper.make_tensor_value_info("next", TensorProto.DOUBLE, [2]),
        helper.make_tensor_value_info("square", TensorProto.DOUBLE, [2]),
    ]
    return helper.make_graph(nodes, "body", inputs, outputs)


def test_a_loop_carries_its_state_and_reads_the_graph_around_it() -> None:
    feeds = {"state0": drawn(2), "step": drawn(2, seed=1)}
    nodes = [
        helper.make_node("Constant", [], ["count"], value_int=3),
        helper.make_node("Constant", [], ["start"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("Loop", ["count", "start", "state0"], ["last", "squares"],
                         body=loop_body()),
    ]  # fmt: skip
    model = model_of(nodes, feeds, ["last", "squares"], 18)
    actual = onnx_evaluator.evaluate(model, feeds)
    expected = ReferenceEvaluator(model).run(None, feeds)
    np.testing.assert_allclose(actual["last"], expected[0], rtol=1e-15)
    np.testing.assert_allclose(actual["squares"], expected[1], rtol=1e-15)


@pytest.mark.parametrize("backwards", [0, 1])
def test_a_scan_runs_along_an_axis_in_either_direction(backwards: int) -> None:
    feeds = {"total": drawn(2), "x": drawn(5, 2)}
    body = helper.make_graph(
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Identity", ["sum"], ["kept"]),
        ],
        "body",
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [2]) for name in ("a", "b")],
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [2]) for name in ("sum", "kept")],
    )
    node = helper.make_node(
        "Scan", ["total", "x"], ["last", "sums"], body=body, num_scan_inputs=1,
        scan_input_directions=[backwards], scan_output_directions=[backwards],
    )  # fmt: skip
    actual = onnx_evaluator.evaluate(model_of([node], feeds, ["last", "sums"], 18), feeds)
    order = feeds["x"][::-1] if backwards else feeds["x"]
    sums = feeds["total"] + np.cumsum(order, axis=0)
    np.testing.assert_allclose(actual["last"], sums[-1], rtol=1e-14)
    np.testing.assert_allclose(actual["sums"], sums[::-1] if backwards else sums, rtol=1e-14)


def test_local_functions_are_inlined() -> None:
    feeds = {"x": drawn(3)}
    model = model_of([helper.make_node("Twice", ["x"], ["y"], domain="own")], feeds, ["y"], 18)
    model.opset_import.append(helper.make_opsetid("own", 1))
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    model.functions.append(
        helper.make_function("own", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 18)])
    )
    np.testing.assert_array_equal(onnx_evaluator.evaluate(model, feeds)["y"], 2 * feeds["x"])


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_weights_of_every_float_width_take_part(kind: int) -> None:
    feeds = {"x": np.array([1.5, 2.0])}
    model = model_of([helper.make_node("Mul", ["x", "w"], ["y"])], feeds, ["y"], 18)
    model.graph.initializer.append(helper.make_tensor("w", kind, [2], [0.5, -3.0]))
    np.testing.assert_array_equal(onnx_evaluator.evaluate(model, feeds)["y"], [0.75, -6.0])


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "expected.*'input'.*found"),
        ({"input": PHOTO, "other": PHOTO}, "found.*'other'"),
        ({"input": PHOTO[:, :2]}, r"input 'input': expected shape .*3, 8, 8"),
        ({"input": PHOTO[0]}, "expected shape"),
        ({"input": PHOTO.astype(np.int64)}, "expected FLOAT, found int64"),
    ],
)
def test_inputs_that_do_not_fit(feeds: dict[str, Array], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        onnx_evaluator.evaluate(network(), feeds)


@pytest.mark.parametrize("name", ["nowhere", "kernel"])
def test_a_wanted_tensor_that_no_node_makes(name: str) -> None:
    with pytest.raises(UsageError, match=f"makes no tensor '{name}'"):
        onnx_evaluator.evaluate(network(), {"input": PHOTO}, wanted=[name])


def test_an_unknown_dtype() -> None:
    with pytest.raises(UsageError, match="expected one of float32, float64"):
        onnx_evaluator.evaluate(network(), {"input": PHOTO}, dtype="float16")


def test_a_failing_node_is_named_with_its_shapes() -> None:
    feeds = {"a": drawn(2, 3), "b": drawn(2, 3)}
    model = model_of([helper.make_node("MatMul", ["a", "b"], ["c"], "product")], feeds, ["c"], 18)
    with pytest.raises(UsageError, match=r"MatMul product on \[2, 3\], \[2, 3\]: RuntimeError"):
        onnx_evaluator.evaluate(model, feeds)


def test_a_graph_that_is_not_sorted() -> None:
    feeds = {"x": drawn(2)}
    nodes = [helper.make_node("Neg", ["y"], ["z"], "late"), helper.make_node("Neg", ["x"], ["y"])]
    with pytest.raises(UsageError, match="Neg late: reads 'y', which nothing before it makes"):
        onnx_evaluator.evaluate(model_of(nodes, feeds, ["z"], 18), feeds)


def test_an_exported_twin_is_its_module_in_float64() -> None:
    from exporters import graph as onnx_graph
    from exporters import torch_onnx
    from parity.network import architectures
    from parity.network.models.resnet import torch as twin

    torch.manual_seed(0)
    module = twin.build(architectures.get("resnet18", classes=10, image_size=(64, 64))).eval()
    structure = torch_onnx.trace(module, [(3, 64, 64)], inputs=["input"], outputs=["logits"])
    weights = {name: array.copy() for name, array in torch_onnx.weights(module).items()}
    graph = onnx_graph.inject(structure, weights).proto()
    x, fallen = drawn(2, 3, 64, 64).astype(np.float32), []
    actual = onnx_evaluator.evaluate(graph, {"input": x}, on_fallback=lambda *a: fallen.append(a))
    with torch.inference_mode():
        expected = module.double()(torch.from_numpy(x).double()).numpy()
    assert not fallen
    np.testing.assert_allclose(actual["logits"], expected, rtol=1e-12, atol=1e-14)
