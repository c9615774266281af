"""The operators of deployed files against onnx's reference in float64 and ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

torch = pytest.importorskip("torch")

from parity.errors import UsageError
from parity.runtimes.torch import onnx_evaluator
from parity.runtimes.torch.onnx_operators import OPERATORS, RUNTIME_OPERATORS
from tests.runtimes import operator_cases
from tests.runtimes.deployed_operator_cases import BY_REFERENCE, BY_RUNTIME, MS, fused
from tests.runtimes.operator_cases import Case, X, assert_same, drawn, single

pytestmark = pytest.mark.framework


@pytest.mark.parametrize("of", BY_REFERENCE, ids=str)
def test_agrees_with_the_reference_evaluator(of: Case) -> None:
    model, feeds = single(of, "float64")
    fallen: list[str] = []
    actual = onnx_evaluator.evaluate(model, feeds, on_fallback=lambda op, _: fallen.append(op))
    assert not fallen
    expected = ReferenceEvaluator(model).run(None, feeds)
    for array, reference in zip(actual.values(), expected, strict=True):
        assert_same(array, reference, "float64")


# ONNX Runtime's kernels of these approximate, so that a step of the integer is not excluded.
ONE_STEP = {"QLinearSigmoid", "QLinearAdd", "QLinearMul", "QLinearLeakyRelu", "QLinearAveragePool",
            "QLinearGlobalAveragePool", "QLinearConcat", "QLinearConv", "QGemm"}  # fmt: skip


@pytest.mark.parametrize("of", BY_RUNTIME, ids=str)
def test_agrees_with_onnx_runtime(of: Case) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model, feeds = single(of, "float32")
    model.ir_version = 10
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    expected = session.run(None, feeds)
    fallen: list[str] = []
    for dtype in ("float32", "float64"):
        actual = onnx_evaluator.evaluate(
            model, feeds, dtype=dtype, on_fallback=lambda op, _: fallen.append(op)
        )
        for array, reference in zip(actual.values(), expected, strict=True):
            if reference.dtype.kind in "iu" and of.op in ONE_STEP:
                assert array.dtype == reference.dtype
                steps = array.astype(np.int64) - reference.astype(np.int64)
                assert np.abs(steps).max() <= 1
                assert np.mean(steps != 0) <= 0.1
            elif array.dtype.kind == "f":
                assert_same(array.astype(np.float32), reference, "float32")
            else:
                assert_same(array, reference, "float32")
    assert not fallen


def test_every_operator_has_a_case() -> None:
    every = [*BY_REFERENCE, *BY_RUNTIME, *operator_cases.CASES, *operator_cases.BY_RUNTIME]
    plain = {of.op for of in every if not of.domain} | operator_cases.BY_FORMULA
    assert set(OPERATORS) == plain
    own = {of.op for of in every if of.domain == MS}
    # The same functions as those of ONNX's domain, tested there; GroupNorm has no CPU kernel.
    assert set(RUNTIME_OPERATORS) - own == {
        "SimplifiedLayerNormalization", "LayerNormalization", "GroupNorm", "QLinearSoftmax",
    }  # fmt: skip


def test_group_norm_of_onnx_runtime_follows_its_definition() -> None:
    x, gamma, beta = drawn(2, 5, 4, 6), drawn(6), drawn(6, seed=1)
    parts = np.moveaxis(x, -1, 1).reshape(2, 3, -1)
    unit = (parts - parts.mean(-1, keepdims=True)) / np.sqrt(parts.var(-1, keepdims=True) + 0.01)
    expected = np.moveaxis(unit.reshape(2, 6, 5, 4), 1, -1) * gamma + beta
    model, feeds = single(fused("GroupNorm", x, gamma, beta, groups=3, epsilon=0.01), "float64")
    (actual,) = onnx_evaluator.evaluate(model, feeds).values()
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_a_quantised_softmax_follows_its_definition() -> None:
    levels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4) * 9
    scale, zero = np.array(0.25), np.array(100, np.uint8)
    of = fused("QLinearSoftmax", levels, scale, zero, np.array(1 / 256), np.array(0, np.uint8),
               axis=-1, opset=18)  # fmt: skip
    of.attributes["opset"] = 13
    model, feeds = single(of, "float64")
    (actual,) = onnx_evaluator.evaluate(model, feeds).values()
    raised = np.exp((levels.astype(float) - 100) * 0.25)
    expected = np.round(raised / raised.sum(-1, keepdims=True) * 256).clip(0, 255)
    np.testing.assert_array_equal(actual, expected.astype(np.uint8))


def test_an_operator_without_a_translation_is_named() -> None:
    model, feeds = single(fused("NoSuchOperator", X), "float64")
    with pytest.raises(UsageError, match=r"com\.microsoft\.NoSuchOperator node: no translation"):
        onnx_evaluator.evaluate(model, feeds)


def test_a_form_without_a_translation_is_named_with_its_reason() -> None:
    model, feeds = single(fused("FusedConv", drawn(1, 1, 3, 3), drawn(1, 1, 2, 2),
                                activation="Gelu"), "float64")  # fmt: skip
    with pytest.raises(UsageError, match="the activation Gelu"):
        onnx_evaluator.evaluate(model, feeds)
