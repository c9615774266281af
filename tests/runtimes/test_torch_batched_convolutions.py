"""Float64 convolutions of a whole batch at once are PyTorch's own, but for roundings."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.framework


CASES = [
    ((4, 3, 8, 8), (5, 3, 3, 3), {"padding": 1}),
    ((4, 3, 9, 7), (5, 3, 3, 2), {"padding": (1, 0), "stride": (2, 1)}),
    ((2, 6, 4, 4), (7, 6, 1, 1), {"stride": 2}),
    ((2, 6, 5, 5), (7, 6, 5, 5), {}),
    ((3, 2, 12, 12), (4, 2, 7, 7), {"stride": 3, "padding": 3}),
]


def compute(image, kernel, bias, options, *, batched):
    from contextlib import nullcontext

    from torch.nn import functional

    from parity.runtimes.torch.batched_convolutions import BatchedConvolutions

    for each in (image, kernel, bias):
        each.grad = None
    with BatchedConvolutions() if batched else nullcontext():
        output = functional.conv2d(image, kernel, bias, **options)
    (output * output.detach().cos()).sum().backward()
    return output.detach(), image.grad, kernel.grad, bias.grad, output.grad_fn.name()


def draw(*shapes):
    import torch

    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(each, generator=generator, dtype=torch.float64) for each in shapes]
    return [each.requires_grad_() for each in drawn]


@pytest.mark.parametrize(("image", "kernel", "options"), CASES)
def test_values_and_gradients_are_those_of_pytorch(image, kernel, options):
    import torch

    tensors = draw(image, kernel, kernel[:1])
    *expected, _ = compute(*tensors, options, batched=False)
    *actual, name = compute(*tensors, options, batched=True)
    assert "Convolution" not in name  # The sum with the bias is the last operation.
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("image", "kernel", "options"),
    [
        ((1, 2, 12, 12), (4, 2, 3, 3), {}),
        ((2, 4, 4, 4), (4, 2, 3, 3), {"groups": 2}),
        ((2, 2, 6, 6), (4, 2, 3, 3), {"dilation": 2}),
        ((2, 2, 4, 4), (4, 2, 3, 3), {"padding": "same"}),
    ],
    ids=["many positions", "groups", "dilation", "named padding"],
)
def test_others_are_left_to_pytorch(image, kernel, options):
    import torch

    tensors = draw(image, kernel, kernel[:1])
    *expected, own = compute(*tensors, options, batched=False)
    *actual, name = compute(*tensors, options, batched=True)
    assert name == own
    assert all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))


def test_float32_is_left_to_pytorch():
    import torch

    tensors = [each.detach().float().requires_grad_() for each in draw((2, 3, 4, 4), (4, 3, 3, 3))]
    bias = torch.zeros(4, requires_grad=True)
    *_, own = compute(*tensors, bias, {}, batched=False)
    assert compute(*tensors, bias, {}, batched=True)[-1] == own


def test_a_frozen_kernel_or_an_input_without_gradient_gets_none():
    from torch.nn import functional

    from parity.runtimes.torch.batched_convolutions import BatchedConvolutions

    image, kernel = draw((2, 3, 4, 4), (4, 3, 3, 3))
    for frozen, other in ((image, kernel), (kernel, image)):
        image.grad = kernel.grad = None
        frozen.requires_grad_(False)
        with BatchedConvolutions():
            functional.conv2d(image, kernel).sum().backward()
        frozen.requires_grad_(True)
        assert frozen.grad is None
        assert other.grad is not None
