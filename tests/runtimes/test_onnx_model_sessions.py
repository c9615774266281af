"""Any ONNX model run by ONNX Runtime and, in float64, by PyTorch: tensors, hooks, weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from parity.errors import GraphError, InputError, PrecisionError, WeightError
from parity.runtimes.onnx.model_file import parse_model
from parity.runtimes.onnx.model_sessions import ModelSessions, SessionModel
from parity.runtimes.onnx.runtime import Runtime as OnnxRuntime
from parity.runtimes.torch.onnx_graphs import OnnxReading, Program
from parity.runtimes.torch.runtime import Runtime as TorchRuntime
from tests.runtimes.onnx_models import WEIGHTS, Array, drawn, model, network, node

pytestmark = pytest.mark.framework

Runner = ModelSessions | OnnxReading
IMAGE = {"image": drawn(2, 3, 8, 8)}
INNER = ["conv", "bn", "clipped", "gated", "pooled", "logits"]


def by_runtime(proto: onnx.ModelProto) -> ModelSessions:
    sessions = ModelSessions()
    sessions.subject = SessionModel(parse_model(proto, "model"))
    return sessions


def by_pytorch(proto: onnx.ModelProto) -> OnnxReading:
    reading = OnnxReading.__new__(OnnxReading)
    reading.program = Program(parse_model(proto, "model"))
    return reading


RUNNERS = pytest.mark.parametrize("make", [by_runtime, by_pytorch])


def capture(runner: Runner, inputs: Mapping[str, Array], names: list[str], **options: Any
            ) -> dict[str, Array]:  # fmt: skip
    found: dict[str, Array] = {}
    runner.run_tensors(inputs, names, lambda name, array: found.update({name: array.copy()}),
                       **options)  # fmt: skip
    return found


@RUNNERS
def test_the_inputs_are_those_that_the_file_declares(make: Any) -> None:
    (spec,) = make(network()).describe_inputs()
    assert (spec.name, spec.shape, spec.dtype, spec.origin) == (
        "image", (None, 3, 8, 8), "float32", "declared",
    )  # fmt: skip


@RUNNERS
def test_the_tensors_come_in_execution_order_and_with_their_values(make: Any) -> None:
    found = capture(make(network()), IMAGE, INNER[::-1])
    assert list(found) == INNER
    np.testing.assert_array_equal(found["clipped"], np.clip(found["bn"], 0, 6))
    np.testing.assert_allclose(
        found["pooled"], found["gated"].mean((2, 3), keepdims=True), rtol=1e-5
    )
    dense = found["pooled"].reshape(2, 6) @ WEIGHTS["dense"] + WEIGHTS["offset"]
    np.testing.assert_allclose(found["logits"], dense, rtol=1e-4, atol=1e-6)


@RUNNERS
def test_what_the_hook_returns_is_read_downstream_and_nowhere_else(make: Any) -> None:
    replacement = drawn(2, 6, 4, 4, seed=7)
    found: dict[str, Array] = {}

    def hook(name: str, array: Array) -> Array | None:
        found[name] = array.copy()
        return replacement if name == "bn" else None

    runner = make(network())
    runner.run_tensors(IMAGE, INNER, hook)
    plain = capture(runner, IMAGE, INNER)
    np.testing.assert_allclose(found["bn"], plain["bn"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["clipped"], np.clip(replacement, 0, 6))
    gated = found["clipped"] / (1 + np.exp(-found["clipped"]))
    np.testing.assert_allclose(found["pooled"][..., 0, 0], gated.mean((2, 3)), rtol=1e-5)


@RUNNERS
def test_every_part_reads_the_replacement_before_it(make: Any) -> None:
    """The replacements depend on what the hook was given, so that none is known beforehand."""
    found: dict[str, Array] = {}

    def hook(name: str, array: Array) -> Array | None:
        found[name] = array.copy()
        return array + 1

    make(network()).run_tensors(IMAGE, INNER, hook)
    np.testing.assert_allclose(found["clipped"], np.clip(found["bn"] + 1, 0, 6), rtol=1e-6)
    moved = found["clipped"] + 1
    np.testing.assert_allclose(found["gated"], moved / (1 + np.exp(-moved)), rtol=1e-5)
    mean = (found["gated"] + 1).mean((2, 3), keepdims=True)
    np.testing.assert_allclose(found["pooled"], mean, rtol=1e-5)


@RUNNERS
def test_an_input_can_be_replaced(make: Any) -> None:
    found: dict[str, Array] = {}

    def hook(name: str, array: Array) -> Array | None:
        found[name] = array.copy()
        return np.zeros_like(array) if name == "image" else None

    make(network()).run_tensors(IMAGE, ["image", "conv"], hook)
    np.testing.assert_array_equal(found["image"], IMAGE["image"])
    assert not found["conv"].any()


def branching() -> onnx.ModelProto:
    """An If whose branches read an outer tensor."""

    def branch(operator: str) -> onnx.GraphProto:
        inner = onnx.helper.make_node(operator, ["a"], [f"inner{operator}"])
        value = onnx.helper.make_tensor_value_info(f"inner{operator}", TensorProto.FLOAT, None)
        return onnx.helper.make_graph([inner], operator, [], [value])

    nodes = [
        node("Neg", "x", "a"),
        node("If", "flag", "b", then_branch=branch("Exp"), else_branch=branch("Abs")),
        node("Mul", "b a", "y"),
    ]
    inputs: dict[str, tuple[Any, ...]] = {"x": (3,), "flag": ()}
    return model(nodes, inputs, ["y"], {}, dtypes={"flag": TensorProto.BOOL})


@RUNNERS
@pytest.mark.parametrize("flag", [True, False])
def test_a_branch_reads_the_replacement_of_a_tensor_around_it(make: Any, flag: bool) -> None:
    found: dict[str, Array] = {}

    def hook(name: str, array: Array) -> Array | None:
        found[name] = array.copy()
        return 2 * array if name == "a" else None

    x = drawn(3)
    make(branching()).run_tensors({"x": x, "flag": np.array(flag)}, ["a", "b", "y"], hook)
    expected = np.exp(-2 * x) if flag else np.abs(2 * x)
    np.testing.assert_allclose(found["b"], expected, rtol=1e-5)
    np.testing.assert_allclose(found["y"], expected * -2 * x, rtol=1e-5)


@RUNNERS
def test_a_scalar_stays_a_scalar(make: Any) -> None:
    nodes = [node("ReduceSum", "x", "s", keepdims=0), node("Neg", "s", "y")]
    runner = make(model(nodes, {"x": (3,)}, ["y"], {}))
    shapes: dict[str, tuple[int, ...]] = {}

    def hook(name: str, array: Array) -> Array:
        shapes[name] = array.shape
        return array

    runner.run_tensors({"x": drawn(3)}, ["s", "y"], hook)
    assert shapes == {"s": (), "y": ()}


@RUNNERS
def test_a_tensor_that_the_model_lacks_is_named(make: Any) -> None:
    with pytest.raises(GraphError, match=r"model: .*'nothing'"):
        capture(make(network()), IMAGE, ["bn", "nothing"])


@RUNNERS
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"picture": drawn(2, 3, 8, 8)}, "expected the inputs image; found picture"),
        ({"image": drawn(2, 3, 8, 9)}, r"'image': expected the shape \(\?, 3, 8, 8\), found"),
        ({"image": np.zeros((2, 3, 8, 8), np.int64)}, "'image': expected float32, found int64"),
    ],
)
def test_inputs_that_do_not_fit_are_named(make: Any, inputs: Any, message: str) -> None:
    runner = make(network())
    with pytest.raises(InputError, match=message):
        runner.record(inputs)
    with pytest.raises(InputError, match=message):
        capture(runner, inputs, ["bn"])


@RUNNERS
def test_integers_beyond_the_declared_type_are_refused(make: Any) -> None:
    proto = model([node("Neg", "x", "y")], {"x": (1,)}, ["y"], {}, dtypes={"x": TensorProto.INT32})
    runner = make(proto)
    assert capture(runner, {"x": np.array([7])}, ["y"])["y"] == -7
    with pytest.raises(InputError, match="outside the range of int32"):
        capture(runner, {"x": np.array([2**40])}, ["y"])


@RUNNERS
def test_a_model_that_fails_is_one_line(make: Any) -> None:
    proto = model(
        [node("Reshape", "x target", "y")], {"x": ("N",)}, ["y"], {"target": np.array([4])}
    )
    with pytest.raises(GraphError, match="model: ") as raised:
        make(proto).record({"x": drawn(3)})
    assert "\n" not in str(raised.value)


@RUNNERS
def test_the_weights_are_the_floating_initializers(make: Any) -> None:
    runner = make(network())
    values = runner.read_parameters()
    # The bounds of the clip are no weights.
    assert sorted(values) == ["beta", "dense", "gamma", "kernel", "mean", "offset", "variance"]
    values["kernel"][:] = 0
    np.testing.assert_array_equal(runner.read_parameters()["kernel"], WEIGHTS["kernel"])


@RUNNERS
def test_written_weights_are_computed_with_and_a_copy_has_its_own(make: Any) -> None:
    runner = make(network())
    copy = runner.copy_to_precision("float32")
    runner.write_parameters({"offset": np.full(4, 5, np.float32)}, model=copy)
    plain = capture(runner, IMAGE, ["logits"])["logits"]
    moved = capture(runner, IMAGE, ["logits"], model=copy)["logits"]
    np.testing.assert_allclose(moved - plain, np.tile(5 - WEIGHTS["offset"], (2, 1)), rtol=1e-5)
    runner.write_parameters({"offset": np.zeros(4, np.float32)})
    np.testing.assert_array_equal(runner.read_parameters(model=copy)["offset"], 5)


@RUNNERS
def test_weights_that_do_not_fit_are_named(make: Any) -> None:
    runner = make(network())
    with pytest.raises(WeightError, match="has no floating weight 'low'"):
        runner.write_parameters({"low": np.float32(0)})
    with pytest.raises(WeightError, match=r"gamma: expected the shape \(6,\), found \(5,\)"):
        runner.write_parameters({"gamma": np.zeros(5), "beta": np.zeros(6)})
    # Nothing was written.
    np.testing.assert_array_equal(runner.read_parameters()["beta"], WEIGHTS["beta"])


def test_float64_is_computed_by_pytorch_alone() -> None:
    with pytest.raises(PrecisionError, match="float64"):
        by_runtime(network()).copy_to_precision("float64")
    reading = by_pytorch(network())
    copy = reading.copy_to_precision("float64")
    found = capture(reading, IMAGE, INNER, model=copy)
    assert {array.dtype for array in found.values()} == {np.dtype(np.float64)}
    exact = found["pooled"].reshape(2, 6) @ WEIGHTS["dense"].astype(float) + WEIGHTS["offset"]
    np.testing.assert_allclose(found["logits"], exact, rtol=1e-13)
    with pytest.raises(PrecisionError, match="not in float16"):
        reading.copy_to_precision("float16")
    with pytest.raises(PrecisionError, match="CPU"):
        reading.copy_to_precision("float64", "gpu")


def test_a_lower_precision_of_onnx_runtime_rounds() -> None:
    runner = by_runtime(network())
    exact = capture(runner, IMAGE, INNER)
    rounded = capture(runner, IMAGE, INNER, model=runner.copy_to_precision("float16"))
    error = np.abs(rounded["logits"] - exact["logits"]).max()
    assert 1e-6 < error < 1e-1
    with pytest.raises(PrecisionError, match="tf32"):
        runner.copy_to_precision("tf32")


def test_the_final_outputs_are_the_deployed_ones_and_the_gap_is_told() -> None:
    runner = by_runtime(network())
    run = runner.run_tensors(IMAGE, ["clipped", "logits"], lambda name, array: None)
    assert run.details["instrumentation_gap"]["rel_l2"] < 1e-5
    assert run.details["proof"]["providers"] == ["CPUExecutionProvider"]
    assert (run.device, run.seconds > 0) == ("cpu", True)


@RUNNERS
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_file_of_lower_precision_is_read_and_run(make: Any, dtype: str) -> None:
    narrow = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}[dtype]
    element = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[dtype]
    nodes = [
        node("Cast", "x", "h", to=element),
        node("MatMul", "h w", "p"),
        node("Cast", "p", "y", to=TensorProto.FLOAT),
    ]
    weight = drawn(4, 3).astype(narrow)
    runner = make(model(nodes, {"x": (2, 4)}, ["y"], {"w": weight}))
    x = {"x": drawn(2, 4)}
    if dtype == "bfloat16" and make is by_runtime:
        # ONNX Runtime's CPU provider has no bfloat16 product: the error says so in a line.
        with pytest.raises(GraphError, match="ONNX Runtime"):
            runner.record(x)
        return
    graph = runner.record(x)
    assert graph.tensors["p"].dtype == dtype
    assert graph.nodes[1].parameters[0].dtype == dtype
    (found,) = capture(runner, x, ["p"]).values()
    np.testing.assert_allclose(found, x["x"] @ weight.astype(np.float32), rtol=0.05, atol=0.05)


def test_bfloat16_tensors_are_given_as_float32() -> None:
    nodes = [node("Cast", "x", "h", to=TensorProto.BFLOAT16), node("Cast", "h", "y", to=1)]
    runner = by_runtime(model(nodes, {"x": (4,)}, ["y"], {}))
    runner.subject.model.graph.value_info.append(
        onnx.helper.make_tensor_value_info("h", TensorProto.BFLOAT16, [4])
    )
    x = {"x": drawn(4)}
    expected = x["x"].astype(ml_dtypes.bfloat16).astype(np.float32)
    found: dict[str, Array] = {}

    def hook(name: str, array: Array) -> Array | None:
        found[name] = array.copy()
        return array + 1 if name == "h" else None

    runner.run_tensors(x, ["h", "y"], hook)
    np.testing.assert_array_equal(found["h"], expected)
    np.testing.assert_array_equal(
        found["y"], (expected + 1).astype(ml_dtypes.bfloat16).astype(np.float32)
    )


@pytest.mark.parametrize("runtime", [OnnxRuntime, TorchRuntime])
def test_a_child_loads_a_file_by_its_reference(runtime: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(network(), path)
    child = runtime()
    child.load_reference(reference={"form": "file", "target": str(path)})
    np.savez(tmp_path / "inputs.npz", **IMAGE)
    assert child.read_inputs()["inputs"][0]["name"] == "image"
    answer = child.read_graph(inputs=str(tmp_path / "inputs.npz"), out=str(tmp_path / "graph.json"))
    assert answer["nodes"] == 7
