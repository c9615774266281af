"""Sums of a training step that are computed one by one."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from parity.runtimes.torch.running_sums import BiasSums, RunningSumBatchNorms, _add_rows

pytestmark = pytest.mark.framework


def add_one_by_one(values):
    total = np.float32(0)
    for value in np.asarray(values, np.float32).ravel():
        total = np.float32(total + value)
    return total


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm2d(3, momentum=0.3, eps=1e-3), (4, 3, 5, 2)),
        (nn.BatchNorm1d(3, affine=False), (8, 3)),
        (nn.BatchNorm3d(3, track_running_stats=False), (2, 3, 2, 3, 2)),
    ],
)
def test_a_batch_norm_is_the_same_but_for_rounding(norm, shape):
    torch.manual_seed(0)
    results = []
    for mode in (None, RunningSumBatchNorms()):
        module = copy.deepcopy(norm).train()
        torch.manual_seed(1)
        x = torch.randn(shape, requires_grad=True)
        if mode is None:
            y = module(x)
        else:
            with mode:
                y = module(x)
        (y * torch.randn(shape)).sum().backward()
        parameters = [p.grad for p in module.parameters()]
        results.append([y.detach(), x.grad, *parameters, *module.buffers()])
    assert len(results[0]) == len(results[1])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one.double(), other.double(), rtol=1e-4, atol=1e-5)


def test_the_gradients_of_a_batch_norm_are_running_sums():
    module = nn.BatchNorm2d(2).train()
    gradient = torch.full((8, 2, 16, 16), 0.1)
    with RunningSumBatchNorms():
        module(torch.randn(8, 2, 16, 16)).backward(gradient)
    one_by_one = add_one_by_one(gradient[:, 0])
    assert module.bias.grad is not None
    assert float(module.bias.grad[0]) == one_by_one
    assert one_by_one != np.float32(gradient[:, 0].double().sum())


def test_batch_norms_in_inference_are_left_alone():
    module = nn.BatchNorm2d(2).eval()
    x = torch.randn(2, 2, 3, 3)
    with RunningSumBatchNorms():
        assert torch.equal(module(x), module(x))
    assert torch.equal(module(x), nn.BatchNorm2d(2).eval()(x))


def test_the_running_sum_of_a_bias_errs_where_all_terms_are_equal():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4096, 2)
    )
    sums = BiasSums(model)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, 0.1)
    nn.init.constant_(model[0].bias, 10.0)
    sums.enabled = True
    model(torch.rand(64, 1, 32, 32)).sum().backward()
    errors = sums.measure_errors({n: p.grad for n, p in model.named_parameters()})
    assert errors.keys() == {"0.bias", "3.bias"}
    terms = torch.full((64 * 32 * 32,), 0.2)
    exact = float(terms.double().sum())
    wanted = abs(add_one_by_one(terms) - exact) / exact
    assert errors["0.bias"] == pytest.approx(wanted, rel=1e-3)
    assert errors["0.bias"] > 1e-5 > errors["3.bias"]


def test_nothing_is_measured_of_a_layer_that_is_called_twice():
    layer = nn.Linear(3, 3)
    sums = BiasSums(layer)
    sums.enabled = True
    (layer(torch.ones(5, 3)) + 2 * layer(torch.ones(5, 3))).sum().backward()
    assert sums.measure_errors({n: p.grad for n, p in layer.named_parameters()}) == {}


@pytest.mark.parametrize("shape", [(2000, 1), (2000, 2), (300, 64)])
def test_rows_are_added_term_by_term(shape):
    rows = np.random.default_rng(0).uniform(0.1, 0.11, shape).astype(np.float32)
    expected = [float(add_one_by_one(column)) for column in rows.T]
    assert _add_rows(rows).tolist() == expected
    in_blocks = np.ascontiguousarray(rows.T).sum(-1)
    assert in_blocks.tolist() != expected
