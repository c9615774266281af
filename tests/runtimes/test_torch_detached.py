"""Gradients that pass where a module detaches, and do not pass one operand of one sum."""

from __future__ import annotations

import pytest
import torch

from parity.runtimes.torch.detached import AttachedParts, DetachedOperand

pytestmark = pytest.mark.framework


def without_gradients(x):
    with torch.no_grad():
        return 2 * x


@pytest.mark.parametrize(
    "part",
    [
        lambda x: 2 * x.detach(),
        lambda x: 2 * torch.detach(x),
        lambda x: 2 * x.data,
        lambda x: (2 * x).detach_(),
        without_gradients,
    ],
    ids=["detach", "function", "data", "in place", "no_grad"],
)
def test_what_is_detached_keeps_its_gradient(part):
    x = torch.tensor(3.0, requires_grad=True)
    (x + part(x)).backward()
    assert x.grad == 1
    x.grad = None
    with AttachedParts():
        total = x + part(x)
    total.backward()
    assert x.grad == 3
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("number", "operand", "expected"), [(0, 0, 7), (0, 1, 8), (1, 0, 5)])
def test_one_operand_of_one_sum_passes_no_gradient(number, operand, expected):
    """x · 3, then + x · 2, then + x · 5, a scalar between them: a gradient of 10."""
    x = torch.tensor(1.0, requires_grad=True)
    with DetachedOperand(number, operand):
        total = 3 * x + 2 * x
        total = total + 1.0
        total += 5 * x
    total.backward()
    assert x.grad == expected
