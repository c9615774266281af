"""Float16 products behind a transposition load in ONNX Runtime, and compute the same."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from exporters.errors import ExportError
from exporters.graph.half_products import repair_half_products
from exporters.graph.model import WeightedModel
from exporters.graph.serialization import write_directly
from exporters.graph.session_process import SessionProcess

MATRIX = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float16)


def product(permutation, *, side, elem_type=TensorProto.FLOAT16):
    """MatMul of a transposed input and a matrix, on the right (side 0) or on the left."""
    rank = len(permutation)
    names = ["moved", "matrix"] if side == 0 else ["matrix", "moved"]
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["x"], ["moved"], "turn", perm=permutation),
            helper.make_node("MatMul", names, ["y"], "product"),
        ],
        "graph",
        [helper.make_tensor_value_info("x", elem_type, ["batch", *[4] * (rank - 1)])],
        [helper.make_tensor_value_info("y", elem_type, [None] * rank)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    proto = onnx.shape_inference.infer_shapes(onnx.ModelProto.FromString(proto.SerializeToString()))
    for value in proto.graph.value_info:
        assert value.name == "moved"
    dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    return WeightedModel(proto, {"matrix": MATRIX.astype(dtype)})


ROTATIONS = [(1, 0, 2), (1, 2, 0), (1, 2, 0, 3), (1, 2, 3, 0)]


def test_it_is_still_needed(tmp_path):
    """The day on which this fails, the module under test can go."""
    path = tmp_path / "crash.onnx"
    write_directly(product((1, 0, 2), side=0), path)
    process = SessionProcess()
    with pytest.raises(ExportError, match="crashed while loading"):
        process.load(path)
    process.stop()


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("permutation", ROTATIONS)
def test_the_product_loads_and_is_the_same(tmp_path, permutation, side):
    model = product(permutation, side=side)
    repair_half_products(model)
    onnx.checker.check_model(model.proto(), full_check=True)
    path = tmp_path / "repaired.onnx"
    write_directly(model, path)
    process = SessionProcess()
    try:
        process.load(path)
        x = np.random.default_rng(0).standard_normal([4] * len(permutation)).astype(np.float16)
        (actual,) = process.run({"x": x}, "running")
    finally:
        process.stop()
    moved = x.transpose(permutation).astype(np.float32)
    wide = MATRIX.astype(np.float32)
    expected = moved @ wide if side == 0 else wide @ moved
    np.testing.assert_allclose(actual.astype(np.float32), expected, rtol=0, atol=2e-2)


def test_a_matrix_on_the_right_stays_in_float16():
    model = product((1, 0, 2), side=0)
    repair_half_products(model)
    assert [node.op_type for node in model.skeleton.graph.node] == ["MatMul", "Transpose"]


@pytest.mark.parametrize("permutation", [(0, 2, 1), (2, 0, 1), (2, 1, 0), (0, 2, 1, 3)])
def test_other_transpositions_are_left_as_they_are(permutation):
    model = product(permutation, side=0)
    before = model.skeleton.SerializeToString(deterministic=True)
    repair_half_products(model)
    assert model.skeleton.SerializeToString(deterministic=True) == before


def test_float32_is_left_as_it_is():
    model = product((1, 0, 2), side=0, elem_type=TensorProto.FLOAT)
    before = model.skeleton.SerializeToString(deterministic=True)
    repair_half_products(model)
    assert model.skeleton.SerializeToString(deterministic=True) == before


def test_two_products_in_a_row(tmp_path):
    """The first one's result is transposed afterwards, and is read by another product."""
    model = product((1, 0, 2), side=0)
    graph = model.skeleton.graph
    graph.node.append(helper.make_node("MatMul", ["y", "matrix"], ["z"], "second"))
    graph.value_info.append(graph.output[0])
    graph.output[0].name = "z"
    repair_half_products(model)
    path = tmp_path / "two.onnx"
    write_directly(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((3, 4, 4)).astype(np.float16)
    (actual,) = session.run(None, {"x": x})
    wide = MATRIX.astype(np.float32)
    expected = x.transpose(1, 0, 2).astype(np.float32) @ wide @ wide
    np.testing.assert_allclose(actual.astype(np.float32), expected, rtol=0, atol=1e-1)


def test_all_permutations_that_crash_are_known():
    """Every rotation and no other permutation of three axes is taken for one that crashes."""
    changed = []
    for permutation in itertools.permutations(range(3)):
        model = product(permutation, side=0)
        repair_half_products(model)
        if [node.name for node in model.skeleton.graph.node] != ["turn", "product"]:
            changed.append(permutation)
    assert changed == [(1, 0, 2), (1, 2, 0)]
