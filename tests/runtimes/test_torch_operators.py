"""Each operator against onnx's reference evaluator, ONNX Runtime or its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

torch = pytest.importorskip("torch")


from parity.runtimes.torch import onnx_evaluator
from tests.runtimes.operator_cases import (
    BY_RUNTIME,
    CASES,
    IMAGE,
    Array,
    Case,
    X,
    assert_same,
    case,
    drawn,
    single,
)

pytestmark = pytest.mark.framework


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("of", CASES, ids=str)
def test_agrees_with_the_reference_evaluator(of: Case, dtype: str) -> None:
    model, feeds = single(of, dtype)
    fallen: list[str] = []
    actual = onnx_evaluator.evaluate(
        model, feeds, dtype=dtype, on_fallback=lambda op, _: fallen.append(op)
    )
    assert not fallen
    with np.errstate(all="ignore"):
        expected = ReferenceEvaluator(model).run(None, feeds)
    for array, reference in zip(actual.values(), expected, strict=True):
        assert_same(array, reference, dtype)


@pytest.mark.parametrize("of", BY_RUNTIME, ids=str)
def test_agrees_with_onnx_runtime(of: Case) -> None:
    runtime = pytest.importorskip("onnxruntime")
    model, feeds = single(of, "float32")
    model.ir_version = 9
    expected = runtime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    ).run(None, feeds)
    for dtype in ("float32", "float64"):
        actual = onnx_evaluator.evaluate(model, feeds, dtype=dtype)["out0"]
        assert_same(actual.astype(np.float32), expected[0], "float32")


@pytest.mark.parametrize("align", [True, False])
def test_cubic_resize_in_float64(align: bool) -> None:
    # The reference evaluator loses float64 here: PyTorch's own bicubic is the witness.
    x, scales = drawn(1, 2, 4, 6), np.array([1, 1, 0.5, 1.5])
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(x), scale_factor=(0.5, 1.5), mode="bicubic", align_corners=align
    )
    mode = "align_corners" if align else "half_pixel"
    of = case("Resize", x, None, scales, mode="cubic", coordinate_transformation_mode=mode)
    assert_same(only(of), expected.numpy(), "float64")


def test_lp_normalisation_of_zeros_is_zeros() -> None:
    assert_same(only(case("LpNormalization", np.zeros((2, 3)))), np.zeros((2, 3)), "float64")


def only(of: Case, dtype: str = "float64") -> Array:
    model, feeds = single(of, dtype)
    return next(iter(onnx_evaluator.evaluate(model, feeds, dtype=dtype).values()))


def test_activations_whose_definition_has_no_float32_constant() -> None:
    assert_same(only(case("Erf", X)), np.vectorize(math.erf)(X), "float64")
    erf = np.vectorize(math.erf)(X / math.sqrt(2))
    assert_same(only(case("Gelu", X, opset=20)), 0.5 * X * (1 + erf), "float64")
    inner = math.sqrt(2 / math.pi) * (X + 0.044715 * X**3)
    tanh = only(case("Gelu", X, opset=20, approximate="tanh"))
    assert_same(tanh, 0.5 * X * (1 + np.tanh(inner)), "float64")
    swish = only(case("HardSwish", 4 * X))
    assert_same(swish, 4 * X * np.clip(4 * X / 6 + 0.5, 0, 1), "float64")


@pytest.mark.parametrize("explicit", [True, False])
def test_a_float_attribute_is_what_it_was_before_float32(explicit: bool) -> None:
    def given(**attributes: float) -> dict[str, float]:
        return attributes if explicit else {}

    x = 4 * X
    leaky = only(case("LeakyRelu", x, **given(alpha=0.01)))
    assert_same(leaky, np.where(x < 0, 0.01 * x, x), "float64")
    hard = only(case("HardSigmoid", x, **given(alpha=0.2)))
    assert_same(hard, np.clip(0.2 * x + 0.5, 0, 1), "float64")
    alpha, gamma = 1.6732632423543772, 1.0507009873554805
    selu = only(case("Selu", x, **given(alpha=alpha, gamma=gamma)))
    assert_same(selu, gamma * np.where(x < 0, alpha * np.expm1(x), x), "float64")
    tiny = np.full((1, 1, 2), 1e-3)
    ones, zeros = np.ones(1), np.zeros(1)
    norm = only(
        case("BatchNormalization", tiny, ones, zeros, zeros, zeros, opset=15,
             **given(epsilon=1e-5))
    )  # fmt: skip
    assert_same(norm, tiny / np.sqrt(1e-5), "float64")


@pytest.mark.parametrize("epsilon", [1e-5, 1.001e-5, 1e-3, 2.0**-17])
def test_a_slightly_different_epsilon_is_kept_apart(epsilon: float) -> None:
    ones, zeros = np.ones(1), np.zeros(1)
    of = case("BatchNormalization", np.ones((1, 1, 1)), ones, zeros, zeros, zeros, opset=15,
              epsilon=epsilon)  # fmt: skip
    np.testing.assert_allclose(only(of), 1 / np.sqrt(epsilon), rtol=1e-15)


def test_an_attribute_of_one_sixth() -> None:
    actual = only(case("HardSigmoid", 4 * X, alpha=1 / 6))
    assert_same(actual, np.clip(4 * X / 6 + 0.5, 0, 1), "float64")


@pytest.mark.parametrize(("opset", "per"), [(18, "group"), (21, "channel")])
def test_group_norm(opset: int, per: str) -> None:
    scale, bias = (drawn(2 if per == "group" else 4, seed=s) for s in (1, 2))
    parts = IMAGE.reshape(2, 2, -1)
    unit = parts - parts.mean(-1, keepdims=True)
    unit /= np.sqrt(parts.var(-1, keepdims=True) + 1e-5)
    wide = [np.repeat(v, 4 // v.size)[:, None, None] for v in (scale, bias)]
    actual = only(case("GroupNormalization", IMAGE, scale, bias, opset=opset, num_groups=2))
    assert_same(actual, unit.reshape(IMAGE.shape) * wide[0] + wide[1], "float64")


def test_rms_norm() -> None:
    scale = drawn(4)
    root = np.sqrt((X**2).mean(-1, keepdims=True) + 0.01)
    actual = only(case("RMSNormalization", X, scale, opset=23, epsilon=0.01))
    assert_same(actual, X / root * scale, "float64")


def test_average_pool_does_not_count_what_ceil_mode_adds() -> None:
    x = np.ones((1, 1, 5, 5))
    counted = case("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1,
                   count_include_pad=1)  # fmt: skip
    assert_same(only(counted), np.ones((1, 1, 3, 3)), "float64")
