"""What every kind of layer is tried on, and what PyTorch computes there, in float64.

A case has the shapes of inputs and, by role, of weights, settings, and PyTorch's function of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import functional

Shape = tuple[int, ...]
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class OperatorCase:
    """`torch` is given the inputs, then the weights by role."""

    inputs: tuple[Shape, ...]
    torch: Callable[..., torch.Tensor]
    weights: Mapping[str, Shape] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


ODD, ONE, SQUARE = (2, 4, 9, 7), (1, 4, 7, 8), (2, 4, 8, 8)
SYMMETRIC = [[1, 1], [2, 2]]
SAME = [[0, 1], [1, 2]]
"""TensorFlow's SAME is asymmetric; PyTorch then needs a padding of its own."""


def _padded(x: torch.Tensor, padding: Any, value: float = 0.0) -> torch.Tensor:
    (top, bottom), (left, right) = padding
    return functional.pad(x, (left, right, top, bottom), value=value)


def _conv(
    shape: Shape, kernel: Shape, *, bias: bool = True, padding: Any = ((0, 0), (0, 0)),
    **settings: Any,
) -> OperatorCase:  # fmt: skip
    def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
        options = {**settings, "groups": settings.get("groups", 1)}
        x = _padded(x, padding)
        return functional.conv2d(x, weights["kernel"], weights.get("bias"), **options)

    held = {"kernel": kernel, **({"bias": kernel[:1]} if bias else {})}
    return OperatorCase((shape,), run, held, {**settings, "padding": padding})


def _transposed(
    shape: Shape, kernel: Shape, *, bias: bool = True, padding: Shape = (0, 0),
    output_padding: Shape = (0, 0), groups: int = 1, **settings: Any,
) -> OperatorCase:  # fmt: skip
    def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
        return functional.conv_transpose2d(
            x, weights["kernel"], weights.get("bias"), padding=padding,
            output_padding=output_padding, groups=groups, **settings,
        )  # fmt: skip

    held = {"kernel": kernel, **({"bias": (kernel[1] * groups,)} if bias else {})}
    crop = [[p, p - more] for p, more in zip(padding, output_padding, strict=True)]
    return OperatorCase((shape,), run, held, {**settings, "padding": crop, "groups": groups})


def _max_pool(shape: Shape, *, padding: Any = ((0, 0), (0, 0)), **settings: Any) -> OperatorCase:
    def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
        options = {
            "dilation": settings.get("dilation", 1),
            "ceil_mode": settings.get("ceil", False),
        }
        if all(before == after for before, after in padding):
            options["padding"] = [before for before, _ in padding]
        else:
            x = _padded(x, padding, -torch.inf)
        return functional.max_pool2d(x, settings["kernel"], settings["stride"], **options)

    return OperatorCase((shape,), run, settings={**settings, "padding": padding})


def _avg_pool(shape: Shape, *, padding: Any = ((0, 0), (0, 0)), **settings: Any) -> OperatorCase:
    def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
        return functional.avg_pool2d(
            x,
            settings["kernel"],
            settings["stride"],
            [before for before, _ in padding],
            settings.get("ceil", False),
            settings.get("count_padding", True),
        )

    return OperatorCase((shape,), run, settings={**settings, "padding": padding})


def _zero_padded_max_pool(shape: Shape, padding: Any, **settings: Any) -> OperatorCase:
    def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
        return functional.max_pool2d(_padded(x, padding), settings["kernel"], settings["stride"])

    return OperatorCase((shape,), run, settings={**settings, "padding": padding, "pad_value": "0"})


def _same_avg_pool(shape: Shape, padding: Any, **settings: Any) -> OperatorCase:
    """Keras's: an asymmetric padding that is not counted."""

    def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
        window = {"kernel_size": settings["kernel"], "stride": settings["stride"]}
        total = functional.avg_pool2d(_padded(x, padding), **window)
        return total / functional.avg_pool2d(_padded(torch.ones_like(x), padding), **window)

    return OperatorCase(
        (shape,), run, settings={**settings, "padding": padding, "count_padding": False}
    )


def _global(function: Callable[..., torch.Tensor]) -> list[OperatorCase]:
    def case(shape: Shape, size: Shape) -> OperatorCase:
        def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
            made = function(x, size)
            return made.flatten(1) if size == (1, 1) else made

        return OperatorCase((shape,), run, settings={"size": size})

    return [case(ODD, (1, 1)), case(ONE, (1, 1)), case(ODD, (4, 3)), case(ONE, (7, 1))]


def _norm(shape: Shape, run: Callable[..., torch.Tensor], roles: str, **settings: Any) -> Any:
    size = (shape[1] if len(shape) == 4 else shape[-1],)
    return OperatorCase((shape,), run, dict.fromkeys(roles.split(), size), settings)


def _batch_norm(shape: Shape, roles: str, epsilon: float) -> OperatorCase:
    def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
        return functional.batch_norm(
            x, weights["mean"], weights["variance"], weights.get("gamma"), weights.get("beta"),
            eps=epsilon,
        )  # fmt: skip

    return _norm(shape, run, roles, epsilon=epsilon)


def _layer_norm(shape: Shape, roles: str, epsilon: float) -> OperatorCase:
    def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
        return functional.layer_norm(
            x, x.shape[-1:], weights.get("gamma"), weights.get("beta"), epsilon
        )

    return _norm(shape, run, roles, epsilon=epsilon)


def _group_norm(shape: Shape, roles: str, groups: int, epsilon: float) -> OperatorCase:
    def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
        return functional.group_norm(x, groups, weights.get("gamma"), weights.get("beta"), epsilon)

    return _norm(shape, run, roles, groups=groups, epsilon=epsilon)


def _dense(shape: Shape, kernel: Shape, *, bias: bool = True) -> OperatorCase:
    def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
        x = x.flatten(1) if x.ndim == 4 else x
        return functional.linear(x, weights["kernel"], weights.get("bias"))

    held = {"kernel": kernel, **({"bias": kernel[:1]} if bias else {})}
    return OperatorCase((shape,), run, held)


def _pointwise(function: Callable[..., torch.Tensor], **settings: Any) -> list[OperatorCase]:
    def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
        return function(x)

    return [OperatorCase((shape,), run, settings=settings) for shape in (ODD, (1, 5), (2, 3, 5))]


def _softmax(x: torch.Tensor) -> torch.Tensor:
    return functional.softmax(x, 1 if x.ndim == 4 else -1)


def _joined(function: Callable[..., torch.Tensor], *shapes: Shape) -> OperatorCase:
    def run(*parts: Any) -> torch.Tensor:
        return function(parts[:-1])

    return OperatorCase(shapes, run)


def _moved(shape: Shape, function: Callable[..., torch.Tensor], **settings: Any) -> OperatorCase:
    def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
        return function(x)

    return OperatorCase((shape,), run, settings=settings)


def _interpolated(shape: Shape, **settings: Any) -> OperatorCase:
    options: dict[str, Any] = {"mode": settings.get("mode", "nearest")}
    if "align_corners" in settings:
        options["align_corners"] = settings["align_corners"]
    if "size" in settings:
        options["size"] = settings["size"]
    else:
        options["scale_factor"] = settings["scale"]

    def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
        return functional.interpolate(x, **options)

    return OperatorCase((shape,), run, settings=settings)


def _channels_last_reshape(x: torch.Tensor, target: Shape) -> torch.Tensor:
    """What Keras's Reshape does to a tensor that is held channels first."""
    x = x.permute(0, 2, 3, 1) if x.ndim == 4 else x
    made = x.reshape(len(x), *target)
    return made.permute(0, 3, 1, 2) if made.ndim == 4 else made


CASES: dict[str, list[OperatorCase]] = {
    "conv": [
        _conv(ODD, (6, 4, 3, 3)),
        _conv(ODD, (6, 4, 3, 2), bias=False, stride=(2, 3), padding=SYMMETRIC),
        _conv(SQUARE, (6, 4, 3, 4), stride=(2, 2), padding=SAME),
        _conv(ODD, (6, 4, 3, 2), dilation=(2, 3), padding=SYMMETRIC),
        _conv(ONE, (6, 2, 3, 3), groups=2, stride=(1, 2), dilation=(1, 2)),
        _conv(ONE, (8, 1, 1, 1), groups=4, bias=False),
        _conv((1, 3, 1, 1), (2, 3, 1, 1)),
    ],
    "depthwise_conv": [
        _conv(ODD, (4, 1, 3, 2), groups=4, padding=SAME),
        _conv(ONE, (8, 1, 3, 3), groups=4, stride=(2, 1), bias=False),
        _conv(ODD, (12, 1, 2, 3), groups=4, dilation=(2, 1)),
    ],
    "conv_transpose": [
        _transposed(ODD, (4, 6, 3, 3)),
        _transposed(ODD, (4, 6, 3, 2), bias=False, stride=(2, 3), padding=(1, 0)),
        _transposed(ONE, (4, 3, 3, 2), groups=2, stride=(2, 2), output_padding=(1, 1)),
        _transposed(ONE, (4, 5, 2, 2), stride=(3, 3), output_padding=(2, 1)),
        _transposed(ODD, (4, 6, 4, 3), stride=(2, 1), dilation=(1, 2), padding=(1, 2)),
        _transposed((1, 4, 1, 1), (4, 2, 3, 3), stride=(2, 2), padding=(1, 1)),
    ],
    "dense": [
        _dense((3, 5), (4, 5)),
        _dense((1, 5), (4, 5), bias=False),
        _dense((2, 3, 5), (4, 5)),
        _dense((2, 2, 3, 5), (4, 30)),
    ],
    "batch_norm": [
        _batch_norm(ODD, "gamma beta mean variance", 1e-3),
        _batch_norm((1, 4, 1, 1), "mean variance", 1e-5),
        _batch_norm((3, 5), "beta mean variance", 1e-5),
    ],
    "layer_norm": [
        _layer_norm((3, 5), "gamma beta", 1e-5),
        _layer_norm((2, 3, 5), "gamma", 1e-3),
        _layer_norm((1, 3, 5), "", 1e-6),
    ],
    "group_norm": [
        _group_norm(ODD, "gamma beta", 2, 1e-5),
        _group_norm(ONE, "gamma beta", 4, 1e-3),
        _group_norm((3, 6), "", 3, 1e-5),
        _group_norm((2, 6, 3, 5), "beta", 1, 1e-5),
    ],
    "relu": _pointwise(functional.relu),
    "relu6": _pointwise(functional.relu6),
    "elu": _pointwise(functional.elu) + _pointwise(lambda x: functional.elu(x, 0.3), alpha=0.3),
    "silu": _pointwise(functional.silu),
    "sigmoid": _pointwise(torch.sigmoid),
    "tanh": _pointwise(torch.tanh),
    "softplus": _pointwise(functional.softplus),
    "gelu": _pointwise(functional.gelu)
    + _pointwise(lambda x: functional.gelu(x, approximate="tanh"), approximate=True),
    "hard_sigmoid": _pointwise(functional.hardsigmoid),
    "hard_swish": _pointwise(functional.hardswish),
    "softmax": _pointwise(_softmax),
    "leaky_relu": _pointwise(lambda x: functional.leaky_relu(x, 0.2), slope=0.2),
    "max_pool": [
        _max_pool(ODD, kernel=(3, 2), stride=(2, 1)),
        _max_pool(ODD, kernel=(3, 3), stride=(2, 2), padding=[[1, 1], [1, 1]]),
        _max_pool(SQUARE, kernel=(3, 3), stride=(2, 2), padding=[[0, 1], [0, 1]]),
        _max_pool(SQUARE, kernel=(3, 2), stride=(2, 3), ceil=True),
        _max_pool(ONE, kernel=(3, 3), stride=(2, 2), padding=[[1, 1], [1, 1]], ceil=True),
        # Its last window would begin in the padding.
        _max_pool(ODD, kernel=(2, 2), stride=(3, 2), padding=[[1, 1], [1, 1]], ceil=True),
        _max_pool((2, 4, 11, 12), kernel=(2, 3), stride=(2, 2), dilation=(3, 2), ceil=True),
        _zero_padded_max_pool(ODD, [[1, 1], [1, 1]], kernel=(3, 3), stride=(2, 2)),
    ],
    "avg_pool": [
        _avg_pool(ODD, kernel=(3, 2), stride=(2, 1)),
        _avg_pool(ODD, kernel=(3, 3), stride=(2, 2), padding=[[1, 1], [1, 1]]),
        _avg_pool(
            ODD, kernel=(3, 3), stride=(2, 2), padding=[[1, 1], [1, 1]], count_padding=False
        ),
        *(
            _avg_pool(
                shape, kernel=(3, 2), stride=(2, 3), padding=[[1, 1], [1, 1]], ceil=True,
                count_padding=counted,
            )
            for shape in (ODD, ONE, SQUARE)
            for counted in (True, False)
        ),
        _same_avg_pool(SQUARE, [[0, 1], [0, 1]], kernel=(3, 3), stride=(2, 2)),
    ],
    "global_max_pool": _global(functional.adaptive_max_pool2d),
    "global_avg_pool": _global(functional.adaptive_avg_pool2d),
    "add": [
        _joined(lambda parts: parts[0] + parts[1], ODD, ODD),
        _joined(lambda parts: parts[0] + parts[1] + parts[2], (1, 5), (1, 5), (1, 5)),
    ],
    "multiply": [
        _joined(lambda parts: parts[0] * parts[1], ODD, ODD),
        _joined(lambda parts: parts[0] * parts[1], ODD, (2, 4, 1, 1)),
    ],
    "concat": [
        _joined(lambda parts: torch.cat(parts, 1), ODD, (2, 3, 9, 7), ODD),
        _joined(lambda parts: torch.cat(parts, 1), (1, 5), (1, 2)),
    ],
    "identity": [_moved(ODD, lambda x: x)],
    "dropout": [_moved(ODD, lambda x: functional.dropout(x, 0.5, training=False))],
    "flatten": [_moved(shape, lambda x: x.flatten(1)) for shape in (ODD, (2, 3, 5), (1, 5))],
    "reshape": [
        _moved((2, 30), lambda x: x.reshape(2, 5, 3, 2), target=(5, 3, 2)),
        _moved(ODD, lambda x: x.reshape(2, 7, -1), target=(7, -1)),
        _moved((1, 2, 3, 5), lambda x: x.reshape(1, 30), target=(30,)),
        _moved(
            (2, 30), lambda x: _channels_last_reshape(x, (3, 2, 5)),
            target=(5, 3, 2), channels_last=True,
        ),
        _moved(
            (2, 5, 3, 2), lambda x: _channels_last_reshape(x, (30,)),
            target=(30,), channels_last=True,
        ),
        _moved(
            (2, 5, 3, 2), lambda x: _channels_last_reshape(x, (6, 1, 5)),
            target=(5, 6, 1), channels_last=True,
        ),
    ],
    "pad": [
        _moved(ODD, lambda x: _padded(x, SAME), padding=SAME),
        _moved(ONE, lambda x: _padded(x, SYMMETRIC, 1.5), padding=SYMMETRIC, value=1.5),
        _moved(ODD, lambda x: _padded(x, [[-1, 2], [0, -3]]), padding=[[-1, 2], [0, -3]]),
    ],
    "upsample": [
        _interpolated(ODD, scale=(2.0, 3.0)),
        _interpolated(ONE, scale=(1.5, 2.4)),
        _interpolated(ODD, size=(13, 5)),
        _interpolated(ODD, size=(4, 20), mode="nearest"),
        *(
            _interpolated(shape, mode="bilinear", align_corners=aligned, **size)
            for shape in (ODD, ONE, (1, 2, 1, 3))
            for aligned in (True, False)
            for size in (
                {"scale": (2.0, 2.0)}, {"scale": (1.5, 2.4)}, {"size": (13, 5)}, {"size": (1, 4)},
            )
        ),
    ],
}  # fmt: skip
