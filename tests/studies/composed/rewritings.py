"""One operation of a network written otherwise, without a change of what the network computes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tests.studies.composed.networks import Network, Op, call

Rewriting = Callable[[Op], list[Op]]


@dataclass(frozen=True)
class Rewritten:
    """A network with one operation, at `index`, that is written otherwise."""

    kind: str
    network: Network
    index: int


def _coded(text: str) -> Rewriting:
    """Return the rewriting to an expression of `{x}`, the input, and `{self}`, the layer."""

    def rewrite(op: Op) -> list[Op]:
        values = {**op.settings, "x": op.inputs[0], "own": f"self.{op.name}", "call": call(op)}
        values["y"] = op.inputs[-1]
        return [replace(op, code=text.format(**values))]

    return rewrite


def _pad_apart(op: Op) -> list[Op]:
    pad = op.settings.get("padding")
    if not pad:
        return []
    padded = f"functional.pad({op.inputs[0]}, ({pad}, {pad}, {pad}, {pad}))"
    return [replace(op.with_settings(padding=0), code=f"self.{op.name}({padded})")]


def _as_linear(op: Op) -> list[Op]:
    if op.settings["kernel"] != 1 or op.settings.get("groups", 1) != 1:
        return []
    own, x = f"self.{op.name}", op.inputs[0]
    code = f"functional.linear({x}.permute(0, 2, 3, 1), {own}.weight.flatten(1), {own}.bias)"
    return [replace(op, code=f"{code}.permute(0, 3, 1, 2)")]


def _as_convolution(op: Op) -> list[Op]:
    own, x = f"self.{op.name}", op.inputs[0]
    weight = f"{own}.weight[:, :, None]"
    code = f"functional.conv1d({x}.reshape(-1, {op.settings['ins']}, 1), {weight}, {own}.bias)"
    return [replace(op, code=f"{code}.reshape(*{x}.shape[:-1], {op.settings['outs']})")]


_SPREAD = "[:, None, None]"

REWRITINGS: tuple[tuple[str, str, Rewriting], ...] = (
    ("relu", "torch.relu", _coded("torch.relu({x})")),
    ("relu", "clamp", _coded("{x}.clamp(min=0)")),
    ("relu", "threshold", _coded("functional.threshold({x}, 0.0, 0.0)")),
    ("relu", "maximum with 0", _coded("torch.maximum({x}, torch.zeros_like({x}))")),
    ("relu6", "hardtanh", _coded("functional.hardtanh({x}, 0.0, 6.0)")),
    ("relu6", "clamp", _coded("torch.clamp({x}, 0, 6)")),
    ("silu", "product", _coded("{x} * torch.sigmoid({x})")),
    ("hardswish", "written out", _coded("{x} * functional.relu6({x} + 3.0) / 6.0")),
    ("hardswish", "by hard sigmoid", _coded("{x} * functional.hardsigmoid({x})")),
    ("gelu", "by erf", _coded("0.5 * {x} * (1.0 + torch.erf({x} / math.sqrt(2.0)))")),
    ("leaky_relu", "where", _coded("torch.where({x} > 0, {x}, {negative_slope} * {x})")),
    ("leaky_relu", "maximum", _coded("torch.maximum({x}, {negative_slope} * {x})")),
    ("sigmoid", "method", _coded("{x}.sigmoid()")),
    ("sigmoid", "by exp", _coded("1.0 / (1.0 + torch.exp(-{x}))")),
    ("tanh", "torch.tanh", _coded("torch.tanh({x})")),
    ("mish", "written out", _coded("{x} * torch.tanh(functional.softplus({x}))")),
    ("elu", "module", _coded("nn.ELU()({x})")),
    ("max_pool", "stated stride", _coded("functional.max_pool2d({x}, ({kernel}, {kernel}), "
                                         "stride=({kernel}, {kernel}))")),
    ("max_pool", "ceil_mode", _coded("functional.max_pool2d({x}, {kernel}, ceil_mode=True)")),
    ("avg_pool", "without padding counted", _coded("functional.avg_pool2d({x}, {kernel}, "
                                                   "count_include_pad=False)")),
    ("mean", "one axis after the other", _coded("{x}.flatten(2).mean(2) if {x}.ndim == 4 else "
                                                "{x}.mean(1)")),
    ("mean", "kept axes", _coded("{x}.mean({axes}, keepdim=True).flatten(1)")),
    ("mean", "sum and count", _coded("{x}.sum({axes}) / math.prod({x}.shape[a] for a in {axes})")),
    ("mean_keep", "adaptive pool", _coded("functional.adaptive_avg_pool2d({x}, 1)")),
    ("conv", "padding apart", _pad_apart),
    ("conv", "1x1 as a dense layer", _as_linear),
    ("conv", "added zero", _coded("{own}({x} + 0.0)")),
    ("conv", "function", _coded("{own}._conv_forward({x}, {own}.weight, {own}.bias)")),
    ("linear", "matrix product", _coded("{x} @ {own}.weight.T + {own}.bias")),
    ("linear", "torch.matmul", _coded("torch.matmul({x}, {own}.weight.mT) + {own}.bias")),
    ("linear", "1x1 convolution", _as_convolution),
    ("batch_norm", "function", _coded("functional.batch_norm({x}, {own}.running_mean, "
                                      "{own}.running_var, {own}.weight, {own}.bias, eps={eps})")),
    ("batch_norm", "written out", _coded(
        "({x} - {own}.running_mean" + _SPREAD + ") / torch.sqrt({own}.running_var" + _SPREAD
        + " + {eps}) * {own}.weight" + _SPREAD + " + {own}.bias" + _SPREAD)),
    ("batch_norm", "one scale", _coded(
        "{x} * ({own}.weight / torch.sqrt({own}.running_var + {eps}))" + _SPREAD
        + " + ({own}.bias - {own}.running_mean * {own}.weight / torch.sqrt({own}.running_var + "
        "{eps}))" + _SPREAD)),
    ("batch_norm", "momentum", lambda op: [op.with_settings(momentum=0.3)]),
    ("layer_norm", "function", _coded("functional.layer_norm({x}, ({width},), {own}.weight, "
                                      "{own}.bias, {eps})")),
    ("layer_norm", "written out", _coded(
        "({x} - {x}.mean(-1, keepdim=True)) / torch.sqrt({x}.var(-1, keepdim=True, correction=0) "
        "+ {eps}) * {own}.weight + {own}.bias")),
    ("group_norm", "function", _coded("functional.group_norm({x}, {groups}, {own}.weight, "
                                      "{own}.bias, {eps})")),
    ("add", "torch.add", _coded("torch.add({x}, {y})")),
    ("add", "exchanged", lambda op: [replace(op, inputs=op.inputs[::-1])]),
    ("multiply", "exchanged", lambda op: [replace(op, inputs=op.inputs[::-1])]),
    ("concat", "negative axis", _coded("torch.concat([{x}, {y}], dim=-3)")),
    ("upsample", "module", _coded("nn.Upsample(scale_factor=2, mode='{mode}')({x})")),
    ("layer_scale", "exchanged", _coded("torch.mul({own}, {x})")),
    ("embedding", "function", _coded("functional.embedding({x}, {own}.weight)")),
    ("attention", "with weights", _coded("{own}({x}, {x}, {x}, need_weights=True)[0]")),
    ("last", "negative index", _coded("{x}[:, {x}.shape[1] - 1]")),
    ("any", "times one", _coded("1.0 * ({call})")),
    ("any", "contiguous", _coded("({call}).contiguous()")),
    ("any", "dropout", _coded("functional.dropout({call}, 0.5, training=False)")),
    ("any", "identity", _coded("nn.Identity()({call})")),
)  # fmt: skip
"""(kind of the operation, name, rewriting)"""


def _swap_pool(network: Network, index: int) -> Network | None:
    """Return the network with a ReLU and the maximum pool behind it exchanged."""
    if index + 1 >= len(network.ops):
        return None
    first, second = network.ops[index], network.ops[index + 1]
    if first.kind not in ("relu", "relu6") or second.kind != "max_pool":
        return None
    if not first.out == first.inputs[0] == second.inputs[0] == second.out:
        return None
    ops = (*network.ops[:index], second, first, *network.ops[index + 2 :])
    return replace(network, ops=ops)


def plan_rewritings(networks: list[Network], count: int, seed: int) -> Iterator[Rewritten]:
    """Yield `count` networks: each rewriting in turn, at a random place of a random network."""
    rng = random.Random(seed)
    number = 0
    while count:
        kind, name, rewrite = REWRITINGS[number % len(REWRITINGS)]
        number += 1
        for network in rng.sample(networks, len(networks)):
            places = [i for i, op in enumerate(network.ops) if kind in ("any", op.kind)]
            places = [i for i in places if network.ops[i].kind != "alias"]
            rng.shuffle(places)
            index = next((i for i in places if rewrite(network.ops[i])), None)
            if index is not None:
                changed = network.replace_op(index, *rewrite(network.ops[index]))
                count -= 1
                yield Rewritten(f"{kind}: {name}", changed, index)
                break
        if number % len(REWRITINGS) == 0 and count:
            swapped = [(n, i) for n in networks for i in range(len(n.ops)) if _swap_pool(n, i)]
            if swapped:
                network, index = rng.choice(swapped)
                other = _swap_pool(network, index)
                assert other is not None
                count -= 1
                yield Rewritten("pool before ReLU", other, index)
