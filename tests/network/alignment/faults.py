"""One seeded fault in an abstract network, as a wrong port of it has."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.network.alignment.networks import Net, Op

Fault = Callable[[Net, random.Random], str | None]


def plant_fault(net: Net, seed: int) -> tuple[Net, str]:
    """Return a copy with one fault, and the fault's description."""
    choose = random.Random(seed)
    while True:
        broken = net.copy()
        what = choose.choice(FAULTS)(broken, choose)
        if what is not None:
            _prune(broken)
            return broken, what


def remove_op(net: Net, name: str, *, keep: int = 0) -> None:
    """Take an operation out; what read it reads one of its inputs."""
    op = next(each for each in net.ops if each.id == name)
    source = op.inputs[keep]
    net.ops.remove(op)
    for each in net.ops:
        each.inputs = [source if i == name else i for i in each.inputs]
    net.outputs = [source if i == name else i for i in net.outputs]
    _prune(net)


def _prune(net: Net) -> None:
    wanted = set(net.outputs)
    for op in reversed(list(net.ops)):
        if op.id in wanted:
            wanted |= set(op.inputs)
        elif op.kind != "input":
            net.ops.remove(op)


def _pick(net: Net, choose: random.Random, *kinds: str) -> Op | None:
    found = [op for op in net.ops if op.kind in kinds]
    return choose.choice(found) if found else None


def _remove_layer(net: Net, choose: random.Random) -> str | None:
    shapes = net.shapes()
    found = [
        op
        for op in net.ops
        if op.kind in ("conv", "dense", "ln") and shapes[op.id] == shapes[op.inputs[0]]
    ]
    if not found:
        return None
    op = choose.choice(found)
    remove_op(net, op.id)
    return f"without {op.id}"


def _remove_kind(kind: str) -> Fault:
    def plant(net: Net, choose: random.Random) -> str | None:
        op = _pick(net, choose, kind)
        if op is None:
            return None
        remove_op(net, op.id)
        return f"without {op.id}"

    return plant


def _change_activation(net: Net, choose: random.Random) -> str | None:
    op = _pick(net, choose, "act")
    if op is None:
        return None
    op.hyper["name"] = "elu"
    return f"another activation: {op.id}"


def _change_kernel(net: Net, choose: random.Random) -> str | None:
    op = _pick(net, choose, "conv", "depthwise")
    if op is None:
        return None
    op.hyper["kernel"] = (5, 5)
    return f"another kernel: {op.id}"


def _insert_layer(net: Net, choose: random.Random) -> str | None:
    shapes = net.shapes()
    found = [op for op in net.ops if op.kind in ("bn", "act") and len(shapes[op.id]) == 3]
    if not found:
        return None
    op = choose.choice(found)
    net.count += 1
    new = Op(f"new{net.count}", "conv", [op.id], {"out": shapes[op.id][0], "kernel": (3, 3)})
    new.hyper["stride"] = 1
    for each in net.ops:
        each.inputs = [new.id if i == op.id else i for i in each.inputs]
    net.outputs = [new.id if i == op.id else i for i in net.outputs]
    net.ops.insert(net.ops.index(op) + 1, new)
    return f"one more layer behind {op.id}"


def _swap_branches(net: Net, choose: random.Random) -> str | None:
    op = _pick(net, choose, "concat")
    if op is None:
        return None
    one, two = choose.sample(range(len(op.inputs)), 2)
    if _describe(net, op.inputs[one]) == _describe(net, op.inputs[two]):
        # Equal branches in another order are the same network.
        return None
    op.inputs[one], op.inputs[two] = op.inputs[two], op.inputs[one]
    return f"branches {one} and {two} of {op.id} exchanged"


def _describe(net: Net, name: str, depth: int = 12) -> object:
    """What an operation computes, without names."""
    op = next(each for each in net.ops if each.id == name)
    inputs = [_describe(net, each, depth - 1) for each in op.inputs] if depth else []
    return op.kind, sorted(op.hyper.items()), inputs


def _change_pool(net: Net, choose: random.Random) -> str | None:
    op = _pick(net, choose, "pool")
    if op is None:
        return None
    op.hyper["mode"] = "avg" if op.hyper.get("mode", "max") == "max" else "max"
    return f"another pool: {op.id}"


def _change_width(net: Net, choose: random.Random) -> str | None:
    op = _pick(net, choose, "conv")
    if op is None or any(each.hyper.get("groups", 1) > 1 for each in net.ops):
        return None
    op.hyper["out"] += 4
    shapes = net.shapes()
    for each in net.ops:
        inputs = [shapes[i] for i in each.inputs]
        if each.kind == "add" and len(set(inputs)) > 1:
            return None
        if each.kind == "multiply" and len({shape[0] for shape in inputs}) > 1:
            return None
    return f"another width: {op.id}"


def _remove_skip(net: Net, choose: random.Random) -> str | None:
    op = _pick(net, choose, "add")
    if op is None:
        return None
    remove_op(net, op.id, keep=choose.randrange(2))
    return f"without one branch of {op.id}"


FAULTS: tuple[Fault, ...] = (
    _remove_layer,
    _remove_kind("act"),
    _remove_kind("bn"),
    _change_activation,
    _change_kernel,
    _insert_layer,
    _swap_branches,
    _change_pool,
    _change_width,
    _remove_skip,
)
