"""ONNX recurrent operators in PyTorch: LSTM, GRU and RNN, as the specification writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from parity.runtimes.torch.onnx_operators import RUNTIME_DOMAIN, Call, Unsupported, operator
from parity.runtimes.torch.onnx_quantised_operators import quantise_dynamically

Activation = Callable[[Tensor], Tensor]

# The defaults of alpha and beta, by operator: ONNX's specification of LSTM.
_PARAMETRIC: dict[str, tuple[tuple[float, ...], Callable[..., Tensor]]] = {
    "Affine": ((1.0, 0.0), lambda x, a, b: a * x + b),
    "LeakyRelu": ((0.01,), lambda x, a: torch.where(x >= 0, x, a * x)),
    "ThresholdedRelu": ((1.0,), lambda x, a: torch.where(x >= a, x, torch.zeros_like(x))),
    "ScaledTanh": ((1.0, 1.0), lambda x, a, b: a * torch.tanh(b * x)),
    "HardSigmoid": ((0.2, 0.5), lambda x, a, b: (a * x + b).clamp(0, 1)),
    "Elu": ((1.0,), lambda x, a: torch.where(x >= 0, x, a * torch.expm1(x))),
}
_PLAIN: dict[str, Activation] = {
    "Relu": torch.relu,
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
    "Softsign": functional.softsign,
    "Softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
}


@dataclass(frozen=True)
class _Direction:
    """One direction of a recurrent operator: its weights, its first state, its activations."""

    inputs: Tensor
    """(T, N, I), in the order in which this direction reads them."""
    kernel: Tensor
    recurrent: Tensor
    bias: Tensor
    recurrent_bias: Tensor
    state: Tensor
    valid: Tensor
    """(T, N, 1): whether the sequence is that long."""
    activations: list[Activation]
    clip: float | None

    def bound(self, x: Tensor) -> Tensor:
        """Return the input of an activation within the operator's `clip`."""
        return x if self.clip is None else x.clamp(-self.clip, self.clip)


class _Recurrence:
    """The inputs of a recurrent operator, read alike for LSTM, GRU and RNN."""

    def __init__(
        self, call: Call, gates: int, defaults: list[str], x: Tensor, kernel: Tensor,
        recurrent: Tensor, bias: Tensor | None, lengths: Tensor | None, state: Tensor | None,
    ) -> None:  # fmt: skip
        self.batch_first = bool(call.get("layout", 0))
        self.hidden = recurrent.shape[-1]
        self.directions = kernel.shape[0]
        self.x = x.transpose(0, 1) if self.batch_first else x
        self.kernel, self.recurrent = kernel, recurrent
        count, batch = self.x.shape[:2]
        self.bias = x.new_zeros(self.directions, 2 * gates * self.hidden) if bias is None else bias
        self.state = self.read_state(state)
        steps = torch.arange(count).reshape(-1, 1, 1)
        self.lengths = torch.full((batch,), count) if lengths is None else lengths.to(torch.int64)
        self.valid = steps < self.lengths.reshape(1, -1, 1)
        self.activations = _read_activations(call, defaults, self.directions)
        clip = call.get("clip")
        self.clip = None if clip is None else call.float_attribute("clip", 0.0)
        direction = call.get("direction", "forward")
        self.backwards = {"forward": [False], "reverse": [True]}.get(direction, [False, True])

    def read_state(self, state: Tensor | None) -> Tensor:
        """Return a first state as (D, N, H); zeros where there is none."""
        if state is None:
            return self.x.new_zeros(self.directions, self.x.shape[1], self.hidden)
        return state.transpose(0, 1) if self.batch_first else state

    def each(self) -> Iterator[_Direction]:
        """Yield the directions."""
        half = self.bias.shape[1] // 2
        for index, back in enumerate(self.backwards):
            yield _Direction(
                self.order(self.x) if back else self.x,
                self.kernel[index],
                self.recurrent[index],
                self.bias[index, :half],
                self.bias[index, half:],
                self.state[index],
                self.valid,
                self.activations[index],
                self.clip,
            )

    def order(self, x: Tensor) -> Tensor:
        """Reverse each sequence (T, N, …) within its own length."""
        steps = torch.arange(x.shape[0]).reshape(-1, 1)
        source = torch.where(steps < self.lengths, self.lengths - 1 - steps, steps)
        index = source.reshape(*source.shape, *[1] * (x.ndim - 2)).expand(x.shape)
        return x.gather(0, index)

    def join(self, outputs: list[Tensor], *states: list[Tensor]) -> tuple[Tensor, ...]:
        """Return Y and the last states, in the operator's layout."""
        every = [
            self.order(output) if back else output
            for output, back in zip(outputs, self.backwards, strict=True)
        ]
        joined = torch.stack(every, dim=1)
        last = [torch.stack(state) for state in states]
        if self.batch_first:
            return joined.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in last)
        return joined, *last


def _read_activations(call: Call, defaults: list[str], directions: int) -> list[list[Activation]]:
    names = call.get("activations") or defaults * directions
    names = [name.decode() if isinstance(name, bytes) else name for name in names]
    # Each activation takes from the lists as many numbers as it has parameters.
    alphas, betas = list(call.get("activation_alpha", [])), list(call.get("activation_beta", []))
    found: list[Activation] = []
    for name in names:
        if name in _PLAIN:
            found.append(_PLAIN[name])
            continue
        if name not in _PARAMETRIC:
            raise Unsupported(f"the activation {name}")
        values, function = _PARAMETRIC[name]
        given = [
            source.pop(0) if source else default
            for source, default in zip((alphas, betas), values, strict=False)
        ]
        found.append(lambda x, function=function, given=given: function(x, *given))  # type: ignore[misc]
    size = len(defaults)
    return [found[start : start + size] for start in range(0, len(found), size)]


@operator("LSTM")
def lstm(
    call: Call, x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor | None = None,
    lengths: Tensor | None = None, state: Tensor | None = None, cell: Tensor | None = None,
    peepholes: Tensor | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gates in the order input, output, forget, cell."""
    return _lstm(call, x, kernel, recurrent, bias, lengths, state, cell, peepholes)


def _lstm(
    call: Call, x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor | None,
    lengths: Tensor | None, state: Tensor | None, cell: Tensor | None, peepholes: Tensor | None,
    operand: Activation = lambda x: x, state_operand: Activation = lambda x: x,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Compute an LSTM; `operand` and `state_operand` are applied to the inputs (T, N, I) and to a
    state (N, H) before they are multiplied with a weight."""
    whole = _Recurrence(
        call, 4, ["Sigmoid", "Tanh", "Tanh"], x, kernel, recurrent, bias, lengths, state
    )
    cells = whole.read_state(cell)
    outputs, hidden, last_cells = [], [], []
    for index, each in enumerate(whole.each()):
        peephole = x.new_zeros(3 * whole.hidden) if peepholes is None else peepholes[index]
        h, c, rows = each.state, cells[index], []
        to_i, to_o, to_f = peephole.chunk(3)
        gate, candidate, output = each.activations
        sums = operand(each.inputs) @ each.kernel.T + each.bias + each.recurrent_bias
        for step in range(len(sums)):
            i, o, f, g = (sums[step] + state_operand(h) @ each.recurrent.T).chunk(4, dim=-1)
            i = gate(each.bound(i + to_i * c))
            f = 1 - i if call.get("input_forget", 0) else gate(each.bound(f + to_f * c))
            new_c = f * c + i * candidate(each.bound(g))
            new_h = gate(each.bound(o + to_o * new_c)) * output(new_c)
            valid = each.valid[step]
            h, c = torch.where(valid, new_h, h), torch.where(valid, new_c, c)
            rows.append(torch.where(valid, new_h, torch.zeros_like(new_h)))
        outputs.append(torch.stack(rows))
        hidden.append(h)
        last_cells.append(c)
    return whole.join(outputs, hidden, last_cells)


@operator("DynamicQuantizeLSTM", domain=RUNTIME_DOMAIN)
def lstm_quantised(
    call: Call, x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor | None,
    lengths: Tensor | None, state: Tensor | None, cell: Tensor | None, peepholes: Tensor | None,
    kernel_scale: Tensor, kernel_zero: Tensor, recurrent_scale: Tensor, recurrent_zero: Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    """ONNX Runtime's: inputs are quantised as DynamicQuantizeLinear does it, states row by row.

    The weights are (D, I, 4H) there; scales are one a direction, or one a column.
    """

    def expand(weight: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        shape = (weight.shape[0], 1, -1)
        whole = weight.to(scale.dtype) - zero.to(scale.dtype).reshape(shape)
        return (whole * scale.reshape(shape)).mT

    def round_trip(tensor: Tensor) -> Tensor:
        values, scale, zero = quantise_dynamically(call, tensor)
        return (values.to(scale.dtype) - zero.to(scale.dtype)) * scale

    kernel = expand(kernel, kernel_scale, kernel_zero)
    recurrent = expand(recurrent, recurrent_scale, recurrent_zero)
    return _lstm(
        call, x, kernel, recurrent, bias, lengths, state, cell, peepholes, round_trip,
        lambda rows: torch.stack([round_trip(row) for row in rows]),
    )  # fmt: skip


@operator("GRU")
def gru(
    call: Call, x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor | None = None,
    lengths: Tensor | None = None, state: Tensor | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Gates in the order update, reset, hidden."""
    whole = _Recurrence(call, 3, ["Sigmoid", "Tanh"], x, kernel, recurrent, bias, lengths, state)
    size, after = whole.hidden, bool(call.get("linear_before_reset", 0))
    outputs, hidden = [], []
    for each in whole.each():
        h, rows = each.state, []
        gate, candidate = each.activations
        sums = each.inputs @ each.kernel.T + each.bias
        to_gates, to_hidden = each.recurrent[: 2 * size], each.recurrent[2 * size :]
        gate_bias, hidden_bias = each.recurrent_bias[: 2 * size], each.recurrent_bias[2 * size :]
        for step in range(len(sums)):
            gates = sums[step][:, : 2 * size] + h @ to_gates.T + gate_bias
            z, r = gate(each.bound(gates)).chunk(2, dim=-1)
            if after:
                inner = r * (h @ to_hidden.T + hidden_bias)
            else:
                inner = (r * h) @ to_hidden.T + hidden_bias
            new = candidate(each.bound(sums[step][:, 2 * size :] + inner))
            new_h = (1 - z) * new + z * h
            valid = each.valid[step]
            h = torch.where(valid, new_h, h)
            rows.append(torch.where(valid, new_h, torch.zeros_like(new_h)))
        outputs.append(torch.stack(rows))
        hidden.append(h)
    return whole.join(outputs, hidden)


@operator("RNN")
def simple_rnn(
    call: Call, x: Tensor, kernel: Tensor, recurrent: Tensor, bias: Tensor | None = None,
    lengths: Tensor | None = None, state: Tensor | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    whole = _Recurrence(call, 1, ["Tanh"], x, kernel, recurrent, bias, lengths, state)
    outputs, hidden = [], []
    for each in whole.each():
        h, rows = each.state, []
        sums = each.inputs @ each.kernel.T + each.bias + each.recurrent_bias
        for step in range(len(sums)):
            new_h = each.activations[0](each.bound(sums[step] + h @ each.recurrent.T))
            valid = each.valid[step]
            h = torch.where(valid, new_h, h)
            rows.append(torch.where(valid, new_h, torch.zeros_like(new_h)))
        outputs.append(torch.stack(rows))
        hidden.append(h)
    return whole.join(outputs, hidden)
