"""What every kind of layer is tried on, and what PyTorch computes there, in float64.

A case has the shapes of inputs and, by role, of weights, settings, and PyTorch's function of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
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
    prepare: Callable[[int, np.ndarray[Any, Any]], np.ndarray[Any, Any]] = lambda index, data: data
    """Makes of drawn numbers, by the input's index, what the operator can be given."""


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
    size = (shape[-1] if run.__qualname__.startswith("_layer") else shape[1],)
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
    options: dict[str, Any] = {"mode": settings.get("mode", "nearest").replace("_", "-")}
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


def _positive(index: int, data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.abs(data) + 0.25


def _integers(index: int, data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Integers from 0 to 4."""
    return np.abs(np.round(data)) % 5.0


def _indices(index: int, data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Leave the first input, and turn the second into integers from 0 to 4."""
    return _integers(index, data) if index else data


def _of(
    function: Callable[..., torch.Tensor], *shapes: Shape, prepare: Any = None,
    weights: Mapping[str, Shape] | None = None, **settings: Any,
) -> OperatorCase:  # fmt: skip
    """Return the case of a function of the inputs, and of the weights by role if there are any."""

    def run(*parts: Any) -> torch.Tensor:
        return function(*(parts if weights else parts[:-1])).double()

    options = {} if prepare is None else {"prepare": prepare}
    return OperatorCase(shapes, run, weights or {}, settings, **options)


def _rank(shape: Shape, kernel: Shape, **settings: Any) -> OperatorCase:
    """A convolution over one or three spatial axes."""
    function = {3: functional.conv1d, 5: functional.conv3d}[len(shape)]

    def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
        options = {**settings, "padding": [before for before, _ in settings["padding"]]}
        return function(x, weights["kernel"], weights["bias"], **options)

    return OperatorCase((shape,), run, {"kernel": kernel, "bias": kernel[:1]}, settings)


def _rank_transposed(shape: Shape, kernel: Shape, stride: Shape, padding: Shape) -> OperatorCase:
    function = {3: functional.conv_transpose1d, 5: functional.conv_transpose3d}[len(shape)]

    def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
        return function(x, weights["kernel"], weights["bias"], stride=stride, padding=padding)

    crop = [[p, p] for p in padding]
    weights = {"kernel": kernel, "bias": kernel[1:2]}
    return OperatorCase((shape,), run, weights, {"stride": stride, "padding": crop})


def _affine_norm(
    function: Callable[..., torch.Tensor], shape: Shape, size: Shape, roles: str, **settings: Any
) -> OperatorCase:
    """`function` is given the input, gamma, beta and epsilon."""

    def run(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
        return function(x, weights.get("gamma"), weights.get("beta"), settings["epsilon"])

    return OperatorCase((shape,), run, dict.fromkeys(roles.split(), size), settings)


WAVE, VOLUME = (2, 4, 11), (2, 4, 5, 6, 4)
CHANNEL_SCALES = torch.tensor([0.25, 0.5, 0.125, 1.0], dtype=torch.float64)


def _recurrent(
    function: Callable[..., Any], gates: int, *, layers: int = 1, bidirectional: bool = False,
    time_major: bool = False, bias: bool = True, start: int = 0, **settings: Any,
) -> OperatorCase:  # fmt: skip
    """A stack over (N, T, C) = (2, 5, 3) of 4 units; `start` is the number of first states."""
    units, width, directions = 4, 3, 2 if bidirectional else 1
    weights: dict[str, Shape] = {}
    for layer in range(layers):
        for reverse in ("", "_reverse")[:directions]:
            suffix = (f"_l{layer}" if layer else "") + reverse
            weights[f"kernel{suffix}"] = (gates * units, width)
            weights[f"recurrent_kernel{suffix}"] = (gates * units, units)
            if bias:
                weights[f"bias{suffix}"] = weights[f"recurrent_bias{suffix}"] = (gates * units,)
        width = units * directions

    def run(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        batch = x.shape[1 if time_major else 0]
        first = rest[:-1] or (torch.zeros(layers * directions, batch, units).double(),) * max(
            1, 2 if gates == 4 else 1
        )
        state = first if gates == 4 else first[0]
        flat = list(rest[-1].values())
        return function(
            x, state, flat, bias, layers, 0.0, False, bidirectional, not time_major
        )[0]  # fmt: skip

    shape = (5, 2, 3) if time_major else (2, 5, 3)
    states = ((layers * directions, 2, units),) * start
    found = {"units": units, "layers": layers, "bidirectional": bidirectional}
    return OperatorCase(
        (shape, *states), run, weights, {**found, "time_major": time_major, **settings}
    )


def _turn_blocks(x: torch.Tensor, *, back: bool = False) -> torch.Tensor:
    """Return block-major channels as channel-major ones, of blocks of 2; `back` the reverse."""
    batch, depth, *size = x.shape
    split = (depth // 4, 4) if back else (4, depth // 4)
    return x.reshape(batch, *split, *size).transpose(1, 2).reshape(x.shape)


def _ordered_recurrent(
    function: Callable[..., Any], gates: str, *, bidirectional: bool = False, **settings: Any
) -> OperatorCase:
    """A layer of 4 units whose gates are in another order, with both biases in one weight."""
    wanted = "ifgo" if len(gates) == 4 else "rzn"
    suffixes = ("", "_reverse") if bidirectional else ("",)
    rows = 4 * len(gates)
    shapes = {"kernel": (rows, 3), "recurrent_kernel": (rows, 4), "bias": (2, rows)}
    weights = {f"{name}{suffix}": size for suffix in suffixes for name, size in shapes.items()}

    def turn(weight: torch.Tensor) -> torch.Tensor:
        parts = weight.split(4, 0)
        return torch.cat([parts[gates.index(gate)] for gate in wanted])

    def run(x: torch.Tensor, given: Tensors) -> torch.Tensor:
        flat = []
        for suffix in suffixes:
            flat += [turn(given[f"{name}{suffix}"]) for name in ("kernel", "recurrent_kernel")]
            flat += [turn(bias) for bias in given[f"bias{suffix}"]]
        zeros = torch.zeros(len(suffixes), 2, 4).double()
        state = (zeros, zeros) if len(gates) == 4 else zeros
        x = x.flip(1) if settings.get("reverse") else x
        output = function(x, state, flat, True, 1, 0.0, False, bidirectional, True)[0]
        if not settings.get("last"):
            return output
        return torch.cat([output[:, -1, :4], *([output[:, 0, 4:]] if bidirectional else [])], 1)

    found = {**settings, "gates": gates, "bidirectional": bidirectional, "units": 4}
    return OperatorCase(((2, 5, 3),), run, weights, found)


def _gru_with_early_reset(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
    """Keras's `reset_after=False`, by hand."""
    state, states = torch.zeros(2, 4).double(), []
    for time in range(x.shape[1]):
        inner = (x[:, time] @ weights["kernel"].T + weights["bias"]).split(4, 1)
        state = _reset_early(inner, state, weights["recurrent_kernel"].split(4, 0))
        states.append(state)
    return torch.stack(states, 1)


def _reset_early(
    inner: Sequence[torch.Tensor], state: torch.Tensor, parts: Sequence[torch.Tensor]
) -> torch.Tensor:
    r = torch.sigmoid(inner[0] + state @ parts[0].T)
    z = torch.sigmoid(inner[1] + state @ parts[1].T)
    n = torch.tanh(inner[2] + (r * state) @ parts[2].T)
    return (1 - z) * n + z * state


def _gated(x: torch.Tensor, weights: Tensors) -> torch.Tensor:
    """An LSTM or a GRU whose gates are a hard sigmoid and whose cell is a ReLU, by hand."""
    state = cell = torch.zeros(2, 4).double()
    states = []
    gate = torch.nn.functional.hardsigmoid
    for time in range(x.shape[1]):
        inner = (x[:, time] @ weights["kernel"].T).split(4, 1)
        outer = (state @ weights["recurrent_kernel"].T).split(4, 1)
        if len(inner) == 4:
            i, f, g, o = (a + b for a, b in zip(inner, outer, strict=True))
            cell = gate(f) * cell + gate(i) * torch.relu(g)
            state = gate(o) * torch.relu(cell)
        else:
            r, z = gate(inner[0] + outer[0]), gate(inner[1] + outer[1])
            state = (1 - z) * torch.relu(inner[2] + r * outer[2]) + z * state
        states.append(state)
    return torch.stack(states, 1)


def _gated_case(gates: int) -> OperatorCase:
    return OperatorCase(
        ((2, 5, 3),),
        _gated,
        {"kernel": (4 * gates, 3), "recurrent_kernel": (4 * gates, 4)},
        {"recurrent_activation": "hard_sigmoid", "cell_activation": "relu"},
    )


def _cell(
    function: Callable[..., Any], gates: int, *, states: int = 0, bias: bool = True, **settings: Any
) -> OperatorCase:
    """One step of 4 units over (N, C) = (2, 3), from `states` states that are given."""
    rows = 4 * gates
    weights: dict[str, Shape] = {"kernel": (rows, 3), "recurrent_kernel": (rows, 4)}
    if bias:
        weights |= {"bias": (rows,), "recurrent_bias": (rows,)}

    def run(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        zeros = torch.zeros(2, 4).double()
        state, cell = (*rest[:-1], zeros, zeros)[:2]
        found = function(x, (state, cell) if gates == 4 else state, *rest[-1].values())
        return found[0] if gates == 4 else found

    shapes = ((2, 3), *((2, 4),) * states)
    return OperatorCase(shapes, run, weights, {"units": 4, **settings})


def _first_step(case: OperatorCase) -> OperatorCase:
    """The first step of a layer's case, which is that of its cell from states of zeros."""
    settings = {key: case.settings[key] for key in case.settings if key not in _LAYER_SETTINGS}

    def run(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        return case.torch(x[:, None], *rest)[:, 0]

    (shape,) = case.inputs
    return OperatorCase(((shape[0], shape[2]),), run, case.weights, settings)


_LAYER_SETTINGS = ("bidirectional", "layers", "time_major")


def _mask(index: int, data: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Make of the fourth input 1 on its diagonal and 0 elsewhere."""
    return np.eye(*data.shape) if index == 3 else data


def _attended(
    inputs: tuple[Shape, ...], *, packed: bool, bias: bool, widths: Shape = (6, 6), **settings: Any
) -> OperatorCase:
    """Multi-head attention of width 6; `widths` are those of keys and values."""
    weights: dict[str, Shape] = {}
    if packed:
        weights["packed_kernel"] = (18, 6)
    else:
        names = ("query", "key", "value")
        weights |= {f"{n}_kernel": (6, w) for n, w in zip(names, (6, *widths), strict=True)}
    if bias and packed:
        weights["packed_bias"] = (18,)
    elif bias:
        weights |= dict.fromkeys(("query_bias", "key_bias", "value_bias"), (6,))
    weights["output_kernel"] = (6, 6)
    if bias:
        weights["output_bias"] = (6,)
    major = settings.get("time_major", False)

    def run(*parts: Any) -> torch.Tensor:
        *tensors, held = parts
        query, key, value = tensors[:3] if len(tensors) > 2 else tensors * 3
        if not major:
            query, key, value = (each.swapaxes(0, 1) for each in (query, key, value))
        biases = [held[n] for n in ("query_bias", "key_bias", "value_bias") if n in held]
        joined = torch.cat(biases) if biases else held.get("packed_bias")
        mask = tensors[3] if len(tensors) > 3 else None
        if mask is not None and settings.get("boolean_mask"):
            mask = mask != 0
        if settings.get("causal"):
            full = torch.full((query.shape[0], key.shape[0]), -torch.inf).double()
            mask = torch.triu(full, diagonal=1)
        output = functional.multi_head_attention_forward(
            query, key, value, 6, settings["heads"], held.get("packed_kernel"), joined,
            None, None, False, 0.0, held["output_kernel"], held.get("output_bias"),
            training=False, need_weights=False, attn_mask=mask,
            use_separate_proj_weight=not packed, q_proj_weight=held.get("query_kernel"),
            k_proj_weight=held.get("key_kernel"), v_proj_weight=held.get("value_kernel"),
        )[0]  # fmt: skip
        return output if major else output.swapaxes(0, 1)

    return OperatorCase(
        inputs, run, weights, settings,
        **({"prepare": _mask} if settings.get("boolean_mask") else {}),
    )  # fmt: skip


def _attention(*inputs: Shape, **settings: Any) -> OperatorCase:
    options = {"is_causal": settings.get("causal", False), "scale": settings.get("scale")}

    def run(query: Any, key: Any, value: Any, *rest: Any) -> torch.Tensor:
        mask = rest[0] if len(rest) > 1 else None
        if mask is not None and settings.get("boolean_mask"):
            mask = mask != 0
        return functional.scaled_dot_product_attention(
            query, key, value, mask, enable_gqa=settings.get("grouped", False), **options
        )

    prepare = {"prepare": _mask} if settings.get("boolean_mask") else {}
    return OperatorCase(inputs, run, settings=settings, **prepare)


QUERY = (2, 4, 5, 3)

_UNARY: dict[str, Any] = {
    "abs": torch.abs, "neg": torch.neg, "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt, "square": torch.square, "reciprocal": torch.reciprocal,
    "erf": torch.erf, "sin": torch.sin, "cos": torch.cos, "floor": torch.floor,
    "ceil": torch.ceil, "round": torch.round, "sign": torch.sign,
}  # fmt: skip

_BINARY: dict[str, Any] = {
    "sub": torch.sub, "div": torch.div, "floor_div": torch.floor_divide, "mod": torch.remainder,
    "pow": torch.pow, "maximum": torch.maximum, "minimum": torch.minimum,
}  # fmt: skip

_COMPARED: dict[str, Any] = {
    "equal": torch.eq, "not_equal": torch.ne, "less": torch.lt, "less_equal": torch.le,
    "greater": torch.gt, "greater_equal": torch.ge, "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
}  # fmt: skip

CASES: dict[str, list[OperatorCase]] = {
    **{
        name: [_of(function, shape, prepare=_positive) for shape in (ODD, (1, 5))]
        for name, function in _UNARY.items()
    },
    **{
        name: [_of(function, ODD, other, prepare=_positive) for other in (ODD, (4, 1, 1))]
        for name, function in _BINARY.items()
    },
    **{
        name: [_of(function, ODD, other, prepare=_integers) for other in (ODD, (4, 1, 1))]
        for name, function in _COMPARED.items()
    },
    "logical_not": [_of(torch.logical_not, ODD, prepare=_integers)],
    "where": [
        _of(
            lambda c, a, b: torch.where(c != 0, a, b),
            ODD,
            ODD,
            (4, 1, 1),
            prepare=lambda i, data: data if i else _integers(i, data),
        ),
    ],
    "clip": [
        _of(lambda x: x.clamp(-1.0, 2.0), ODD, low=-1.0, high=2.0),
        _of(lambda x: x.clamp(min=0.5), (1, 5), low=0.5),
        _of(lambda x: x.clamp(max=0.5), (1, 5), high=0.5),
    ],
    "layer_scale": [
        _of(lambda x, w: x * w["gamma"], (2, 3, 5), weights={"gamma": (5,)}),
        _of(lambda x, w: x * w["gamma"], ODD, weights={"gamma": (4, 1, 1)}),
    ],
    "bias_add": [
        _of(lambda x, w: x + w["bias"], (2, 3, 5), weights={"bias": (1, 3, 5)}),
        _of(lambda x, w: x + w["bias"], (2, 5), weights={"bias": (5,)}),
    ],
    "reduce_mean": [
        _of(lambda x: x.mean((1, 3)), ODD, axes=(1, 3), keepdims=False),
        _of(lambda x: x.mean(-1, keepdim=True), (2, 5), axes=(1,), keepdims=True),
        _of(lambda x: x.mean(), ODD),
    ],
    "reduce_sum": [_of(lambda x: x.sum((2, 3)), ODD, axes=(2, 3), keepdims=False)],
    "reduce_max": [_of(lambda x: x.amax(1, True), ODD, axes=(1,), keepdims=True)],
    "reduce_min": [_of(lambda x: x.amin(1, True), ODD, axes=(1,), keepdims=True)],
    "reduce_l2": [_of(lambda x: x.norm(dim=1, keepdim=True), ODD, axes=(1,), keepdims=True)],
    "variance": [
        _of(
            lambda x: x.var(1, unbiased=True, keepdim=True),
            ODD,
            axes=(1,),
            keepdims=True,
            correction=1,
        ),
        _of(lambda x: x.var((2, 3), unbiased=False), ODD, axes=(2, 3)),
    ],
    "argmax": [
        _of(lambda x: x.argmax(1), ODD, axis=1, keepdims=False),
        _of(lambda x: x.argmax(-1, True), ODD, keepdims=True),
    ],
    "cumsum": [_of(lambda x: x.cumsum(1), ODD, axis=1)],
    "embedding": [
        _of(
            lambda x, w: functional.embedding(x.long(), w["embeddings"]),
            shape,
            prepare=_integers,
            weights={"embeddings": (5, 3)},
            **{"in": 5, "out": 3},
        )
        for shape in ((2, 7), (3,))
    ],
    "matmul": [_of(torch.matmul, (2, 3, 4), (2, 4, 5)), _of(torch.matmul, QUERY, (3, 2))],
    "einsum": [
        _of(
            lambda a, b: torch.einsum("bhqc,bhkc->bhqk", a, b),
            QUERY,
            QUERY,
            equation="bhqc,bhkc->bhqk",
        ),
    ],
    "stack": [
        _of(lambda a, b: torch.stack((a, b), 1), (2, 5), (2, 5), axis=1),
        _of(lambda a, b: torch.stack((a, b)), ODD, ODD),
    ],
    "transpose": [
        _of(lambda x: x.permute(0, 2, 3, 1), ODD, perm=(0, 2, 3, 1)),
        _of(lambda x: x.transpose(0, 1), (2, 5), perm=(1, 0)),
    ],
    "squeeze": [_of(lambda x: x.squeeze((2, 3)), (2, 5, 1, 1), axes=(2, 3))],
    "unsqueeze": [_of(lambda x: x[:, None, :, None], (2, 5), axes=(1, 3))],
    "expand": [_of(lambda x: x.expand(3, 5, 4), (1, 5, 1), full_shape=(3, 5, 4))],
    "slice": [
        _of(
            lambda x: x[:, 1, 2:7:2],
            ODD,
            axes=(1, 2),
            starts=(1, 2),
            ends=(2, 7),
            steps=(1, 2),
            squeeze=(1,),
        ),
    ],
    "split": [
        _of(lambda x: x.split((1, 3), 1)[1], ODD, axis=1, sizes=(1, 3), index=1),
        _of(lambda x: x.split((1, 3), 1)[0], ODD, axis=1, sizes=(1, 3)),
        _of(lambda x: x.unbind(2)[0], (2, 5, 2), axis=2, sizes=(1, 1), squeeze=True),
    ],
    "gather": [
        _of(lambda x, i: x.index_select(1, i.long()), (2, 5), (7,), prepare=_indices, axis=1),
    ],
    "cast": [_of(lambda x: x, ODD, dtype="float64")],
    "roll": [_of(lambda x: x.roll((1, -2), (1, 3)), ODD, shifts=(1, -2), axes=(1, 3))],
    "flip": [_of(lambda x: x.flip((1, 3)), ODD, axes=(1, 3))],
    "tile": [_of(lambda x: x.repeat(1, 2, 1, 3), ODD, repeats=(1, 2, 1, 3))],
    "depth_to_space": [
        _of(lambda x: functional.pixel_shuffle(x, 2), ODD, block=2),
        _of(
            lambda x: functional.pixel_shuffle(_turn_blocks(x), 2),
            (2, 8, 3, 5),
            block=2,
            block_major=True,
        ),
    ],
    "space_to_depth": [
        _of(lambda x: functional.pixel_unshuffle(x, 2), (2, 3, 4, 6), block=2),
        _of(
            lambda x: _turn_blocks(functional.pixel_unshuffle(x, 2), back=True),
            (2, 3, 4, 6),
            block=2,
            block_major=True,
        ),
    ],
    "scaled_dot_product_attention": [
        _attention(QUERY, (2, 4, 6, 3), (2, 4, 6, 7)),
        _attention(QUERY, QUERY, QUERY, causal=True),
        _of(
            lambda q, k, v: functional.scaled_dot_product_attention(
                q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True
            ).transpose(1, 2),
            QUERY,
            QUERY,
            QUERY,
            time_before_heads=True,
            causal=True,
        ),
        _attention(QUERY, QUERY, QUERY, (5, 5), boolean_mask=True),
        _attention(QUERY, (2, 2, 5, 3), (2, 2, 5, 3), (5, 5), scale=0.3, grouped=True),
    ],
    "multi_head_attention": [
        _attended(((2, 5, 6),), packed=True, bias=True, heads=2),
        _attended(((2, 5, 6), (2, 4, 6), (2, 4, 6)), packed=True, bias=False, heads=3),
        _attended(
            ((2, 5, 6), (2, 5, 6), (2, 5, 6), (5, 5)),
            packed=True,
            bias=True,
            heads=2,
            boolean_mask=True,
        ),
        _attended(((5, 2, 6),), packed=True, bias=True, heads=2, causal=True, time_major=True),
        _attended(
            ((2, 5, 6), (2, 4, 3), (2, 4, 7), (5, 4)),
            packed=False,
            bias=True,
            heads=2,
            widths=(3, 7),
        ),
    ],
    "lstm": [
        _recurrent(torch.lstm, 4),
        _recurrent(torch.lstm, 4, layers=8, bidirectional=True, time_major=True),
        _recurrent(torch.lstm, 4, bias=False, start=2),
        _ordered_recurrent(torch.lstm, "iofg", last=True, bidirectional=True),
        _ordered_recurrent(torch.lstm, "ifgo", reverse=True),
        _gated_case(4),
    ],
    "gru": [
        _recurrent(torch.gru, 3),
        _recurrent(torch.gru, 3, layers=8, bidirectional=True, reset_after=True),
        _recurrent(torch.gru, 3, start=1, bias=False),
        _ordered_recurrent(torch.gru, "zrn", last=True, reverse=True),
        _ordered_recurrent(torch.gru, "zrn", bidirectional=True),
        OperatorCase(
            ((2, 5, 3),),
            _gru_with_early_reset,
            {"kernel": (12, 3), "recurrent_kernel": (12, 4), "bias": (12,)},
            {"reset_after": False},
        ),
        _gated_case(3),
    ],
    "rnn": [
        _of(
            lambda x, w: torch.rnn_relu(
                x.flip(1),
                torch.zeros(1, 2, 4).double(),
                list(w.values()),
                True,
                1,
                0.0,
                False,
                False,
                True,
            )[0][:, -1],
            (2, 5, 3),
            weights={
                "kernel": (4, 3),
                "recurrent_kernel": (4, 4),
                "bias": (4,),
                "recurrent_bias": (4,),
            },
            relu=True,
            reverse=True,
            last=True,
        ),
        _recurrent(torch.rnn_tanh, 1, layers=8, bidirectional=True),
        _recurrent(torch.rnn_relu, 1, relu=True, time_major=True),
    ],
    "lstm_cell": [
        _cell(torch.lstm_cell, 4, states=2),
        _cell(torch.lstm_cell, 4, bias=False, states=1),
        _first_step(_ordered_recurrent(torch.lstm, "iofg")),
        _first_step(_gated_case(4)),
    ],
    "gru_cell": [
        _cell(torch.gru_cell, 3, states=1),
        _cell(torch.gru_cell, 3, bias=False, reset_after=True),
        _first_step(_ordered_recurrent(torch.gru, "zrn")),
        _first_step(_gated_case(3)),
        OperatorCase(
            ((2, 3), (2, 4)),
            lambda x, h, w: _reset_early(
                (x @ w["kernel"].T + w["bias"]).split(4, 1), h, w["recurrent_kernel"].split(4, 0)
            ),
            {"kernel": (12, 3), "recurrent_kernel": (12, 4), "bias": (12,)},
            {"reset_after": False},
        ),
    ],
    "rnn_cell": [
        _cell(torch.rnn_tanh_cell, 1, states=1),
        _cell(torch.rnn_relu_cell, 1, states=1, relu=True),
        _cell(torch.rnn_tanh_cell, 1, bias=False),
    ],
    "instance_norm": [
        _affine_norm(
            lambda x, g, b, e: functional.instance_norm(x, weight=g, bias=b, eps=e),
            shape,
            (4,),
            roles,
            epsilon=1e-3,
        )
        for shape, roles in ((ODD, "gamma beta"), (WAVE, ""))
    ],
    "rms_norm": [
        _affine_norm(
            lambda x, g, b, e: functional.rms_norm(x, x.shape[-1:], g, e),
            (2, 3, 5),
            (5,),
            "gamma",
            epsilon=1e-3,
        ),
        _affine_norm(
            lambda x, g, b, e: functional.rms_norm(x, x.shape[-2:], g, e),
            ODD,
            (9, 7),
            "gamma",
            epsilon=1e-3,
            axes=(2, 3),
        ),
    ],
    "l2_normalize": [
        _of(lambda x: functional.normalize(x, dim=1), ODD, axes=(1,), epsilon=1e-12),
        _of(lambda x: functional.normalize(x, dim=1, eps=9.0), (2, 5), axes=(1,), epsilon=9.0),
    ],
    "log_softmax": [
        _of(lambda x: functional.log_softmax(x, 1), ODD, axis=1),
        _of(lambda x: functional.log_softmax(x, -1), (2, 5)),
    ],
    "prelu": [
        _of(lambda x, w: functional.prelu(x, w["alpha"]), shape, weights={"alpha": (size,)})
        for shape, size in ((ODD, 4), (ODD, 1), ((2, 5), 5), (WAVE, 4))
    ],
    "mish": _pointwise(functional.mish),
    "selu": _pointwise(functional.selu),
    "celu": _pointwise(functional.celu) + _pointwise(lambda x: functional.celu(x, 0.3), alpha=0.3),
    "softsign": _pointwise(functional.softsign),
    "log_sigmoid": _pointwise(functional.logsigmoid),
    "glu": [
        _of(lambda x: functional.glu(x, 1), ODD, axis=1),
        _of(functional.glu, (2, 6)),
    ],
    "conv": [
        _conv(ODD, (6, 4, 3, 3)),
        _conv(ODD, (6, 4, 3, 2), bias=False, stride=(2, 3), padding=SYMMETRIC),
        _conv(SQUARE, (6, 4, 3, 4), stride=(2, 2), padding=SAME),
        _conv(ODD, (6, 4, 3, 2), dilation=(2, 3), padding=SYMMETRIC),
        _conv(ONE, (6, 2, 3, 3), groups=2, stride=(1, 2), dilation=(1, 2)),
        _conv(ONE, (8, 1, 1, 1), groups=4, bias=False),
        _conv((1, 3, 1, 1), (2, 3, 1, 1)),
        _rank(WAVE, (6, 2, 3), stride=(2,), padding=[[1, 1]], dilation=(2,), groups=2),
        _rank(VOLUME, (6, 4, 3, 2, 1), stride=(1, 2, 1), padding=[[1, 1], [0, 0], [2, 2]]),
    ],
    "depthwise_conv": [
        _conv(ODD, (4, 1, 3, 2), groups=4, padding=SAME),
        _conv(ONE, (8, 1, 3, 3), groups=4, stride=(2, 1), bias=False),
        _conv(ODD, (12, 1, 2, 3), groups=4, dilation=(2, 1)),
        _rank(WAVE, (8, 1, 3), padding=[[2, 2]], groups=4),
    ],
    "conv_transpose": [
        _transposed(ODD, (4, 6, 3, 3)),
        _transposed(ODD, (4, 6, 3, 2), bias=False, stride=(2, 3), padding=(1, 0)),
        _transposed(ONE, (4, 3, 3, 2), groups=2, stride=(2, 2), output_padding=(1, 1)),
        _transposed(ONE, (4, 5, 2, 2), stride=(3, 3), output_padding=(2, 1)),
        _transposed(ODD, (4, 6, 4, 3), stride=(2, 1), dilation=(1, 2), padding=(1, 2)),
        _transposed((1, 4, 1, 1), (4, 2, 3, 3), stride=(2, 2), padding=(1, 1)),
        _rank_transposed(WAVE, (4, 6, 3), (2,), (1,)),
        _rank_transposed(VOLUME, (4, 3, 2, 3, 1), (2, 1, 3), (1, 0, 0)),
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
        _batch_norm(WAVE, "gamma beta mean variance", 1e-5),
        _batch_norm(VOLUME, "gamma beta mean variance", 1e-5),
    ],
    "layer_norm": [
        _layer_norm((3, 5), "gamma beta", 1e-5),
        _layer_norm((2, 3, 5), "gamma", 1e-3),
        _layer_norm((1, 3, 5), "", 1e-6),
        _affine_norm(
            lambda x, g, b, e: functional.layer_norm(x, x.shape[-2:], g, b, e),
            ODD,
            (9, 7),
            "gamma beta",
            epsilon=1e-3,
            axes=(2, 3),
        ),
    ],
    "group_norm": [
        _group_norm(ODD, "gamma beta", 2, 1e-5),
        _group_norm(ONE, "gamma beta", 4, 1e-3),
        _group_norm((3, 6), "", 3, 1e-5),
        _group_norm((2, 6, 3, 5), "beta", 1, 1e-5),
        _group_norm(WAVE, "gamma beta", 2, 1e-5),
    ],
    "relu": _pointwise(functional.relu),
    "bounded_relu": [
        _of(lambda x: x.clamp(0.0, 2.5), ODD, max_value=2.5),
        _of(
            lambda x: torch.where(x > 0.5, x.clamp(max=2.5), 0.1 * (x - 0.5)),
            ODD,
            max_value=2.5,
            negative_slope=0.1,
            threshold=0.5,
        ),
    ],
    "relu6": _pointwise(functional.relu6),
    "elu": _pointwise(functional.elu) + _pointwise(lambda x: functional.elu(x, 0.3), alpha=0.3),
    "silu": _pointwise(functional.silu),
    "sigmoid": _pointwise(torch.sigmoid),
    "tanh": _pointwise(torch.tanh),
    "softplus": _pointwise(functional.softplus)
    # PyTorch is linear where beta·x is above the threshold, 20, and 1e-9 off there.
    + _pointwise(lambda x: functional.softplus(x, 2.0, 60.0), beta=2.0),
    "gelu": _pointwise(functional.gelu)
    + _pointwise(lambda x: functional.gelu(x, approximate="tanh"), approximate=True),
    "hard_sigmoid": _pointwise(functional.hardsigmoid)
    + _pointwise(lambda x: (0.2 * x + 0.4).clamp(0, 1), slope=0.2, offset=0.4),
    "hard_swish": _pointwise(functional.hardswish),
    "softmax": _pointwise(_softmax) + _pointwise(lambda x: x.softmax(0), axis=0),
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
        _avg_pool(ODD, kernel=(3, 3), stride=(2, 2), padding=[[1, 1], [1, 1]], count_padding=False),
        *(
            _avg_pool(
                shape,
                kernel=(3, 2),
                stride=(2, 3),
                padding=[[1, 1], [1, 1]],
                ceil=True,
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
        _of(lambda a, b: torch.cat((a, b), 2), ODD, (2, 4, 1, 7), axis=2),
    ],
    "identity": [_moved(ODD, lambda x: x)],
    "dropout": [_moved(ODD, lambda x: functional.dropout(x, 0.5, training=False))],
    "flatten": [_moved(shape, lambda x: x.flatten(1)) for shape in (ODD, (2, 3, 5), (1, 5))],
    "reshape": [
        _moved((2, 30), lambda x: x.reshape(2, 5, 3, 2), target=(5, 3, 2)),
        _moved(ODD, lambda x: x.reshape(2, 7, -1), target=(7, -1)),
        _moved((1, 2, 3, 5), lambda x: x.reshape(1, 30), target=(30,)),
        _of(lambda x: x.reshape(4, 3, 5), (2, 6, 5), full_shape=(4, 3, 5)),
        _moved(
            (2, 30),
            lambda x: _channels_last_reshape(x, (3, 2, 5)),
            target=(5, 3, 2),
            channels_last=True,
        ),
        _moved(
            (2, 5, 3, 2),
            lambda x: _channels_last_reshape(x, (30,)),
            target=(30,),
            channels_last=True,
        ),
        _moved(
            (2, 5, 3, 2),
            lambda x: _channels_last_reshape(x, (6, 1, 5)),
            target=(5, 6, 1),
            channels_last=True,
        ),
    ],
    "pad": [
        _moved(ODD, lambda x: _padded(x, SAME), padding=SAME),
        _moved(ONE, lambda x: _padded(x, SYMMETRIC, 1.5), padding=SYMMETRIC, value=1.5),
        _moved(ODD, lambda x: _padded(x, [[-1, 2], [0, -3]]), padding=[[-1, 2], [0, -3]]),
        *(
            _moved(
                ODD,
                lambda x, mode=mode: functional.pad(x, (2, 1, 0, 3), mode=mode),
                padding=[[0, 3], [2, 1]],
                mode=mode,
            )
            for mode in ("reflect", "replicate", "circular")
        ),
        _moved(
            (2, 3, 5),
            lambda x: functional.pad(x, (0, 0, 1, 2), value=2.0),
            padding=[[1, 2], [0, 0]],
            value=2.0,
        ),
        _moved(WAVE, lambda x: functional.pad(x, (1, -2)), padding=[[1, -2]]),
    ],
    "quantize": [
        OperatorCase(
            (ODD,),
            lambda x, weights, low=low, high=high, zero=zero: (torch.round(x / 0.25) + zero).clamp(
                low, high
            ),
            settings={"scale": 0.25, "zero_point": zero, "dtype": dtype},
        )
        for dtype, low, high, zero in (
            ("uint8", 0, 255, 3),
            ("int8", -128, 127, -5),
            ("uint16", 0, 65535, 9),
            ("int16", -32768, 32767, 0),
        )
    ]
    + [
        OperatorCase(
            (WAVE,),
            lambda x, weights: torch.round(x / CHANNEL_SCALES[:, None]).clamp(-128, 127),
            settings={"scale": CHANNEL_SCALES.tolist(), "dtype": "int8", "axis": 1},
        )
    ],
    "dequantize": [
        OperatorCase(
            (ODD,),
            lambda x, weights: (x - 3.0) * 0.25,
            settings={"scale": 0.25, "zero_point": 3},
        ),
        OperatorCase(
            (WAVE,),
            lambda x, weights: x * CHANNEL_SCALES[:, None],
            settings={"scale": CHANNEL_SCALES.tolist(), "axis": 1},
        ),
    ],
    "upsample": [
        _interpolated(ODD, scale=(2.0, 3.0)),
        _interpolated(ONE, scale=(1.5, 2.4)),
        _interpolated(ODD, size=(13, 5)),
        _interpolated(ODD, size=(4, 20), mode="nearest"),
        _interpolated(ODD, size=(4, 20), mode="nearest_exact"),
        _interpolated(ODD, scale=(1.5, 2.0), mode="nearest_exact"),
        _interpolated(WAVE, scale=(2.0,), mode="linear"),
        _interpolated(VOLUME, size=(7, 3, 8), mode="trilinear", align_corners=True),
        _interpolated(ODD, scale=(2.0, 3.0), mode="bicubic"),
        _interpolated(ONE, size=(5, 17), mode="bicubic", align_corners=True),
        *(
            _interpolated(shape, mode="bilinear", align_corners=aligned, **size)
            for shape in (ODD, ONE, (1, 2, 1, 3))
            for aligned in (True, False)
            for size in (
                {"scale": (2.0, 2.0)},
                {"scale": (1.5, 2.4)},
                {"size": (13, 5)},
                {"size": (1, 4)},
            )
        ),
    ],
}
