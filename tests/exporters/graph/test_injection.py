"""Weights put into a structure: names, values, folding and refusals."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from exporters.errors import ExportError
from exporters.graph import add_outputs, inject


def expected(weights, x):
    shift = weights["beta"] - weights["mean"] / np.sqrt(weights["variance"])
    return x @ weights["kernel"].T + shift


def test_injected_model_computes_and_is_folded(structure, weights):
    model = inject(structure, weights).proto()
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Transpose", "MatMul", "Add", "Relu"]
    x = np.ones((2, 3), np.float32)
    (y,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(y, np.maximum(expected(weights, x), 0), rtol=1e-6)


def test_a_matrix_keeps_its_name_its_bits_and_its_orientation(structure, weights):
    tensors = inject(structure, weights).tensors
    np.testing.assert_array_equal(tensors["kernel"], weights["kernel"])


def test_a_rearranged_weight_keeps_its_name_and_bits(structure, weights):
    product = next(n for n in structure.model.graph.node if n.op_type == "MatMul")
    product.op_type, product.input[:] = "Gemm", [*product.input]
    tensors = inject(structure, weights).tensors
    np.testing.assert_array_equal(tensors["kernel"], weights["kernel"].T)


def test_what_is_computed_from_weights_is_named_after_the_first(structure, weights):
    assert inject(structure, weights).tensors.keys() == {"kernel", "beta/folded"}


def test_folding_rounds_once(structure, weights):
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    exact = wide["beta"] - wide["mean"] / np.sqrt(wide["variance"])
    np.testing.assert_array_equal(
        inject(structure, weights).tensors["beta/folded"], exact.astype(np.float32)
    )


def test_taps_are_outputs_only_when_asked_for(structure, weights):
    plain = inject(structure, weights).proto()
    tapped = inject(structure, weights, outputs=["before"]).proto()
    assert [value.name for value in plain.graph.output] == ["y"]
    assert [value.name for value in tapped.graph.output] == ["y", "before"]
    later = add_outputs(plain, ["before"])
    onnx.checker.check_model(later, full_check=True)
    assert [value.name for value in later.graph.output] == ["y", "before"]
    assert [value.name for value in plain.graph.output] == ["y"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": None}, "1 weights are missing: kernel"),
        ({"other": np.zeros(1, np.float32)}, "not in the graph: other"),
        ({"beta": np.zeros(3, np.float32)}, r"beta: expected \(2,\) float32, found \(3,\) float32"),
        ({"beta": np.zeros(2)}, "found .* float64"),
    ],
)
def test_wrong_weights_are_named(structure, weights, change, message):
    changed = {k: v for k, v in {**weights, **change}.items() if v is not None}
    with pytest.raises(ExportError, match=message):
        inject(structure, changed)


def test_weights_that_the_graph_does_not_read_are_accepted(structure, weights):
    inject(structure, {**weights, "counter": np.zeros((), np.int64)})


def test_unknown_outputs_are_named(structure, weights):
    with pytest.raises(ExportError, match="no tap is called nowhere"):
        inject(structure, weights, outputs=["nowhere"])
    with pytest.raises(ExportError, match="no tensor nowhere"):
        add_outputs(inject(structure, weights).proto(), ["nowhere"])
