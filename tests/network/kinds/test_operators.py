"""Every kind's operator against PyTorch in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from parity.network import kinds
from tests.network.kinds.operator_cases import CASES

pytestmark = pytest.mark.framework

TOLERANCE = 1e-13
"""Of the largest value: two float64 sums of at most a few hundred terms."""


def drawn(shape, seed):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def arrays(case):
    """The case's inputs, and its weights by role; no variance is below 0."""
    inputs = [
        case.prepare(seed, 3.0 * drawn(shape, seed)) for seed, shape in enumerate(case.inputs)
    ]
    weights = {
        role: drawn(shape, 100 + seed) for seed, (role, shape) in enumerate(case.weights.items())
    }
    if "variance" in weights:
        weights["variance"] = np.abs(weights["variance"])
    return inputs, weights


@pytest.mark.parametrize("kind", sorted(kinds.registry()))
def test_the_operator_is_pytorchs(kind):
    for case in CASES[kind]:
        inputs, weights = arrays(case)
        actual = kinds.evaluate(kind, inputs, weights, case.settings)
        tensors = {role: torch.from_numpy(array) for role, array in weights.items()}
        expected = case.torch(*map(torch.from_numpy, inputs), tensors).numpy()
        assert actual.dtype == np.float64
        assert actual.shape == expected.shape, case.settings
        error = np.abs(actual - expected).max()
        assert error <= TOLERANCE * np.abs(expected).max(), case.settings


@pytest.mark.parametrize("kind", sorted(kinds.registry()))
def test_every_weight_and_setting_is_in_a_case(kind):
    """What no case has would be wrong without a test that says so."""
    found = kinds.get(kind)
    tried = {role for case in CASES[kind] for role in case.weights}
    assert tried == {role.name for role in found.roles}
    given = {name for case in CASES[kind] for name in case.settings}
    # Those that describe a layer's weights, and what is applied behind it.
    described = {"kernel", "bias", "in", "out", "activation"}
    assert {setting.name for setting in found.hyperparameters} - given <= described


def test_no_case_is_of_no_kind():
    assert set(CASES) == set(kinds.registry())


@pytest.mark.parametrize("kind", sorted(k.name for k in kinds.registry().values() if k.roles))
def test_weights_in_float32_are_computed_with_in_float64(kind):
    case = CASES[kind][0]
    inputs, weights = arrays(case)
    narrow = {role: array.astype(np.float32) for role, array in weights.items()}
    wide = {role: array.astype(np.float64) for role, array in narrow.items()}
    one, other = (kinds.evaluate(kind, inputs, held, case.settings) for held in (narrow, wide))
    assert one.dtype == np.float64
    assert np.array_equal(one, other)


def test_no_operator_changes_its_inputs():
    for kind, cases in CASES.items():
        for case in cases:
            inputs, weights = arrays(case)
            before = [array.copy() for array in (*inputs, *weights.values())]
            kinds.evaluate(kind, inputs, weights, case.settings)
            for old, new in zip(before, (*inputs, *weights.values()), strict=True):
                assert np.array_equal(old, new), kind


@pytest.mark.parametrize(
    "activation", sorted(kind.name for kind in kinds.registry().values() if kind.activation)
)
def test_an_activation_is_applied_behind_any_layer(activation):
    case = CASES["dense"][0]
    inputs, weights = arrays(case)
    plain = kinds.evaluate("dense", inputs, weights, {})
    fused = kinds.evaluate("dense", inputs, weights, {"activation": activation})
    assert np.array_equal(fused, kinds.evaluate(activation, [plain], {}, {}))


@pytest.mark.parametrize(
    ("kind", "inputs", "weights", "settings"),
    [
        ("conv", [(1, 3, 5, 5)], {"kernel": (2, 4, 3, 3)}, {}),
        ("conv", [(1, 4, 5, 5)], {"kernel": (3, 2, 3, 3)}, {"groups": 2}),
        ("conv", [(1, 4, 5, 5)], {"kernel": (2, 4, 7, 7)}, {}),
        ("conv", [(1, 4, 5, 5)], {"kernel": (2, 4, 3, 3)}, {"padding": [[-1, 1], [0, 0]]}),
        ("conv", [(1, 4)], {"kernel": (2, 4, 3, 3)}, {}),
        ("conv", [(1, 4, 5, 5)], {"kernel": (2, 4, 3, 3), "bias": (3,)}, {}),
        ("conv_transpose", [(1, 3, 5, 5)], {"kernel": (4, 2, 3, 3)}, {}),
        ("conv_transpose", [(1, 3)], {"kernel": (3, 2, 3, 3)}, {}),
        ("conv_transpose", [(1, 3, 5, 5)], {"kernel": (3, 2, 3, 3)}, {"groups": 2}),
        (
            "conv_transpose", [(1, 3, 2, 2)], {"kernel": (3, 2, 1, 1)},
            {"padding": [[1, 1], [1, 1]]},
        ),
        ("dense", [(1, 3)], {"kernel": (2, 4)}, {}),
        ("batch_norm", [(1, 3, 2, 2)], {"mean": (4,), "variance": (4,)}, {"epsilon": 1e-5}),
        ("layer_norm", [(1, 3, 2, 2)], {}, {"epsilon": 1e-5}),
        ("group_norm", [(1, 3, 2, 2)], {}, {"epsilon": 1e-5, "groups": 2}),
        ("group_norm", [(1, 3, 2)], {}, {"epsilon": 1e-5, "groups": 2}),
        ("instance_norm", [(1, 4)], {}, {"epsilon": 1e-5}),
        ("pad", [(1, 4, 5, 5)], {}, {"padding": [[1, 1]], "mode": "no_such_mode"}),
        ("embedding", [(1, 4)], {"embeddings": (0, 2)}, {}),
        ("upsample", [(1, 3)], {}, {"scale": (2, 2)}),
        ("upsample", [(1, 3, 2, 2)], {}, {"scale": (2, 2), "mode": "lanczos"}),
        ("reshape", [(1, 3)], {}, {"target": (2,)}),
        ("add", [(1, 3), (1, 2)], {}, {}),
        ("no_such_kind", [(1, 3)], {}, {}),
        ("relu", [(1, 3)], {}, {"activation": "no_such_function"}),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_refused(kind, inputs, weights, settings):
    given = [drawn(shape, 0) for shape in inputs]
    held = {role: np.abs(drawn(shape, 1)) for role, shape in weights.items()}
    with pytest.raises(ValueError, match=r".+"):
        kinds.evaluate(kind, given, held, settings)
