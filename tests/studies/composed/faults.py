"""One fault of a random kind at a random place of a network, and the causes that may name it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tests.studies.composed.networks import ACTIVATIONS, Network, Op

READS = "reads-another-tensor"
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Fault:
    """A network with a fault; `index` is the operation at fault, `causes` those that may name it.

    None of them for a fault that no cause covers.
    """

    kind: str
    network: Network
    index: int
    causes: frozenset[str]
    layer: str
    """The attribute of the operation at fault, empty for one without weights."""


Change = tuple[str, Callable[[Op, random.Random], Op | None], frozenset[str]]

_SHAPE_SAFE = ("relu", "relu6", "silu", "gelu", "elu", "hardswish", "tanh", "mish", "softplus",
               "selu", "softsign")  # fmt: skip


def _other_activation(op: Op, rng: random.Random) -> Op | None:
    if op.kind not in ACTIVATIONS:
        return None
    kind = rng.choice([each for each in _SHAPE_SAFE if each != op.kind])
    return Op(kind, op.out, op.inputs)


def _no_activation(op: Op, rng: random.Random) -> Op | None:
    return replace(op, code=op.inputs[0]) if op.kind in ACTIVATIONS else None


def _slope(op: Op, rng: random.Random) -> Op | None:
    return op.with_settings(negative_slope=0.03) if op.kind == "leaky_relu" else None


def _gelu_form(op: Op, rng: random.Random) -> Op | None:
    return op.with_settings(approximate="tanh") if op.kind == "gelu" else None


def _epsilon(op: Op, rng: random.Random) -> Op | None:
    return op.with_settings(eps=rng.choice((1e-3, 1e-2))) if "eps" in op.settings else None


def _groups(op: Op, rng: random.Random) -> Op | None:
    if op.kind != "group_norm":
        return None
    return op.with_settings(groups=2 if op.settings["groups"] != 2 else 4)


def _padding_mode(op: Op, rng: random.Random) -> Op | None:
    if op.kind != "conv" or not op.settings.get("padding"):
        return None
    return op.with_settings(padding_mode=rng.choice(("reflect", "replicate", "circular")))


def _padding_at_one_end(op: Op, rng: random.Random) -> Op | None:
    pad = op.settings.get("padding") if op.kind == "conv" else 0
    if not pad:
        return None
    code = f"self.{op.name}(functional.pad({op.inputs[0]}, (0, {2 * pad}, 0, {2 * pad})))"
    return replace(op.with_settings(padding=0), code=code)


def _no_bias(op: Op, rng: random.Random) -> Op | None:
    return op.with_settings(bias=False) if op.kind in ("conv", "linear") else None


def _pool(op: Op, rng: random.Random) -> Op | None:
    other = {"max_pool": "avg_pool", "avg_pool": "max_pool"}.get(op.kind)
    return None if other is None else replace(op, kind=other)


def _maximum(op: Op, rng: random.Random) -> Op | None:
    if op.kind != "mean":
        return None
    return replace(op, code=f"{op.inputs[0]}.amax({op.settings['axes']})")


def _difference(op: Op, rng: random.Random) -> Op | None:
    if op.kind != "add":
        return None
    return replace(op, code=f"{op.inputs[0]} - {op.inputs[1]}")


def _branch_missing(op: Op, rng: random.Random) -> Op | None:
    return replace(op, code=f"{op.inputs[0]} + 0.0 * {op.inputs[1]}") if op.kind == "add" else None


def _branches_swapped(op: Op, rng: random.Random) -> Op | None:
    return replace(op, inputs=op.inputs[::-1]) if op.kind == "concat" else None


def _factor(op: Op, rng: random.Random) -> Op | None:
    from tests.studies.composed.networks import call

    if op.kind not in ("conv", "linear", "add", "attention"):
        return None
    return replace(op, code=f"{rng.choice((0.5, 1.05, 2.0))} * ({call(op)})")


def _offset(op: Op, rng: random.Random) -> Op | None:
    from tests.studies.composed.networks import call

    return replace(op, code=f"{call(op)} + 0.1") if op.kind in ("conv", "linear") else None


def _resize(op: Op, rng: random.Random) -> Op | None:
    if op.kind != "upsample":
        return None
    if op.settings["mode"] == "bilinear" and rng.random() < 0.5:
        return op.with_settings(align_corners=True)
    return op.with_settings(mode="nearest" if op.settings["mode"] == "bilinear" else "bilinear")


def _causal(op: Op, rng: random.Random) -> Op | None:
    if op.kind != "attention":
        return None
    x = op.inputs[0]
    mask = f"nn.Transformer.generate_square_subsequent_mask({x}.shape[1], dtype={x}.dtype)"
    return replace(
        op, code=f"self.{op.name}({x}, {x}, {x}, attn_mask={mask}, need_weights=False)[0]"
    )


def _heads(op: Op, rng: random.Random) -> Op | None:
    return op.with_settings(heads=2) if op.kind == "attention" else None


def _reversed_time(op: Op, rng: random.Random) -> Op | None:
    if op.kind not in ("lstm", "gru"):
        return None
    return replace(op, code=f"self.{op.name}({op.inputs[0]}.flip(1))[0]")


def _row_offset(op: Op, rng: random.Random) -> Op | None:
    if op.kind != "embedding":
        return None
    return replace(op, code=f"self.{op.name}(({op.inputs[0]} + 1) % {op.settings['count']})")


def _moved(op: Op, rng: random.Random) -> Op | None:
    if op.kind != "conv":
        return None
    moved = rng.choice((".flip(3)", ".flip(2)", ".transpose(2, 3)"))
    return replace(op, code=f"self.{op.name}({op.inputs[0]}{moved})")


def _scale_left_out(op: Op, rng: random.Random) -> Op | None:
    return replace(op, code=op.inputs[0]) if op.kind == "layer_scale" else None


def _sine(op: Op, rng: random.Random) -> Op | None:
    from tests.studies.composed.networks import call

    if op.kind not in ("conv", "linear"):
        return None
    return replace(op, code=f"torch.sin({call(op)})")


def _cosine(op: Op, rng: random.Random) -> Op | None:
    return _add_wave(op, "torch.cos(17.0 * t)")


def _waves(op: Op, rng: random.Random) -> Op | None:
    """Add what is of too many operations for a cause to state them."""
    return _add_wave(op, "torch.cos(17.0 * t) * torch.sin(13.0 * t) * torch.exp(-t * t)")


def _add_wave(op: Op, wave: str) -> Op | None:
    from tests.studies.composed.networks import call

    if op.kind not in ("conv", "linear"):
        return None
    return replace(op, code=f"(lambda t: t + 0.01 * {wave})({call(op)})")


_ACTIVATION = frozenset({"activation-other", "activation-missing", "activation-extra",
                         "leaky-relu-slope", "operation-left-out", READS})  # fmt: skip
_SCALED = frozenset(
    {
        "operation-added",
        "operation-extra",
        "scale",
        "offset",
        "constant",
        "input-scale",
        "bias",
        "layer-scale",
    }
)

CHANGES: tuple[Change, ...] = (
    ("another activation", _other_activation, _ACTIVATION),
    ("activation missing", _no_activation, _ACTIVATION),
    ("slope", _slope, frozenset({"leaky-relu-slope"})),
    ("form of GELU", _gelu_form, frozenset({"gelu-form"})),
    ("epsilon", _epsilon, frozenset({"batch-norm-epsilon", "layer-norm-epsilon",
                                     "group-norm-epsilon"})),
    ("groups of a norm", _groups, frozenset({"setting", "norm-type"})),
    ("padding mode", _padding_mode, frozenset({"padding-mode"})),
    ("padding at one end", _padding_at_one_end, frozenset({"padding", "same-padding"})),
    ("no bias", _no_bias, frozenset({"bias"})),
    ("another pool", _pool, frozenset({"pool-type"})),
    ("maximum for mean", _maximum, frozenset({"pool-type", "operation-other"})),
    ("difference for sum", _difference, frozenset({"merge-other"})),
    ("branch missing", _branch_missing, frozenset({"branch-missing", "scale"})),
    ("branches swapped", _branches_swapped, frozenset({"output-permuted", "channel-order",
                                                       "group-order", "concat-order",
                                                       "values-in-another-order",
                                                       "other-tensor"})),
    ("factor", _factor, _SCALED),
    ("offset", _offset, _SCALED),
    ("resize", _resize, frozenset({"setting"})),
    ("causal", _causal, frozenset({"attention-mask"})),
    ("heads", _heads, frozenset({"attention-heads", "setting"})),
    ("time reversed", _reversed_time, frozenset({"time-reversed", "recurrent-direction",
                                                 "input-moved"})),
    ("rows of an embedding", _row_offset, frozenset({"embedding-offset"})),
    ("input moved", _moved, frozenset({"input-moved", "kernel-layout", "operation-added",
                                                     "kernel-flipped", "output-permuted"})),
    ("layer scale left out", _scale_left_out, frozenset({READS, "layer-left-out", "layer-scale",
                                                                "operation-left-out"})),
    ("sine added", _sine, frozenset({"operation-added", "operation-extra", "activation-extra"})),
    ("cosine added", _cosine, frozenset({"operation-added"})),
    ("no cause covers: waves added", _waves, NONE),
)  # fmt: skip


def plan_faults(networks: list[Network], count: int, seed: int) -> Iterator[Fault]:
    """Yield `count` faults: a random kind at a random place of a random network."""
    rng = random.Random(seed)
    while count:
        network = rng.choice(networks)
        kind, change, causes = rng.choice(CHANGES)
        places = [i for i, op in enumerate(network.ops) if change(op, random.Random(0)) is not None]
        if not places:
            continue
        index = rng.choice(places)
        changed = change(network.ops[index], rng)
        assert changed is not None
        count -= 1
        yield Fault(kind, network.replace_op(index, changed), index, causes, changed.name)
