"""Abstract networks, and their graphs as a PyTorch, a Keras or an ONNX reader would write them.

The truth follows from construction: every node of a graph knows the abstract operations that it
computes, every tensor the abstract value, every parameter the abstract weight.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from parity.network.graph import Graph, Node, Parameter, Port, Tensor


@dataclass
class Op:
    id: str
    kind: str
    inputs: list[str]
    hyper: dict[str, Any] = field(default_factory=dict)


@dataclass
class Net:
    """Abstract operations in the order in which they were written."""

    ops: list[Op] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    count: int = 0

    def op(self, kind: str, *inputs: str, **hyper: Any) -> str:
        self.count += 1
        name = f"{kind}{self.count}"
        self.ops.append(Op(name, kind, list(inputs), hyper))
        return name

    def copy(self) -> Net:
        ops = [Op(o.id, o.kind, list(o.inputs), dict(o.hyper)) for o in self.ops]
        return Net(ops, list(self.outputs), self.count)

    def input(self, *shape: int, dtype: str = "float32") -> str:
        return self.op("input", shape=shape, dtype=dtype)

    def conv(self, x: str, out: int, k: Any = 3, stride: int = 1, **more: Any) -> str:
        kernel = (k, k) if isinstance(k, int) else tuple(k)
        return self.op("conv", x, out=out, kernel=kernel, stride=stride, **more)

    def cba(
        self, x: str, out: int, k: Any = 3, stride: int = 1, act: str = "relu", **m: Any
    ) -> str:
        x = self.op("bn", self.conv(x, out, k, stride, bias=False, **m))
        return self.op("act", x, name=act) if act else x

    def act(self, x: str, name: str = "relu") -> str:
        return self.op("act", x, name=name)

    def dense(self, x: str, out: int, **more: Any) -> str:
        return self.op("dense", x, out=out, **more)

    def finish(self, *outputs: str) -> Net:
        self.outputs = list(outputs)
        return self

    # What the ops compute.

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes without batch: (C, H, W), (C,) or (T, C)."""
        found: dict[str, tuple[int, ...]] = {}
        for op in self.ops:
            found[op.id] = _shape(op, [found[each] for each in op.inputs])
        return found


def _shape(op: Op, inputs: list[tuple[int, ...]]) -> tuple[int, ...]:
    hyper = op.hyper
    first = inputs[0] if inputs else ()
    match op.kind:
        case "input":
            return tuple(hyper["shape"])
        case "conv":
            return (hyper["out"], *(-(-n // hyper["stride"]) for n in first[1:]))
        case "depthwise":
            return (first[0], *(-(-n // hyper["stride"]) for n in first[1:]))
        case "pool":
            return (first[0], *(max(-(-n // hyper["stride"]), 1) for n in first[1:]))
        case "gap":
            return (first[0],)
        case "gap_map":
            return (first[0], *(1 for _ in first[1:]))
        case "flatten":
            return (int(np.prod(first)),)
        case "tokens":
            return (first[1] * first[2], first[0])
        case "dense":
            return (*first[:-1], hyper["out"])
        case "concat":
            return (sum(each[0] for each in inputs), *first[1:])
        case "up":
            return (first[0], first[1] * 2, first[2] * 2)
        case "transposed":
            return (hyper["out"], first[1] * 2, first[2] * 2)
        case "embedding":
            return (*first, hyper["out"])
        case "mean_tokens":
            return (first[-1],)
        case "multiply":
            return max(inputs, key=lambda each: int(np.prod(each)))
        case _:
            return first


@dataclass(frozen=True)
class Style:
    """How a graph is written."""

    framework: str = "torch"
    last: bool = False
    """Channels last, kernels in Keras's axis orders."""
    fuse: bool = False
    """Activations are hyperparameters of the convolution in front of them."""
    pad: bool = False
    """Paddings are nodes of their own."""
    fold: bool = False
    """Batch-norms are folded into the convolution in front of them."""
    split_bias: bool = False
    """A dense layer's bias is an addition of its own."""
    scores: bool = False
    """Attention is two matrix products and a softmax."""
    pairwise: bool = False
    """Concatenations of more than two tensors are made in pairs."""
    shuffle: bool = False
    """The execution order is another one of those that the graph allows."""
    axes: bool = True
    """Whether operations state the axes of their outputs."""
    moments: bool = False
    """Whether weights have moments: those of the abstract weight."""


TORCH = Style()
KERAS = Style("keras", last=True, fuse=True, pad=True, shuffle=True, pairwise=True)
ONNX = Style("onnx", fold=True, split_bias=True, scores=True)


@dataclass
class Rendering:
    """A graph with its truth."""

    graph: Graph
    ops: dict[str, list[str]]
    """The abstract operations of each node."""
    values: dict[str, str]
    """The abstract value of each tensor."""
    weights: dict[str, str]
    """The abstract weight of each parameter."""
    arrays: dict[str, Callable[[], Any]] = field(default_factory=dict)
    """Each tensor's values, in its own axes."""
    parameters: dict[str, Callable[[], Any]] = field(default_factory=dict)
    """Each parameter's values, in its own axes."""


def values_of(name: str, shape: tuple[int, ...], salt: int = 0) -> Any:
    """Return an array that depends on a name alone."""
    generator = np.random.default_rng(zlib.crc32(f"{name}{salt}".encode()))
    return generator.standard_normal(shape).astype(np.float32)


def render(net: Net, style: Style = TORCH, *, seed: int = 0, salt: int = 0) -> Rendering:
    """Return a network's graph in a style; names are scrubbed."""
    return _Renderer(net, style, seed, salt).render()


class _Renderer:
    def __init__(self, net: Net, style: Style, seed: int, salt: int) -> None:
        self.net, self.style, self.salt = net, style, salt
        self.random = random.Random(seed)
        self.shapes = net.shapes()
        self.nodes: list[Node] = []
        self.tensors: dict[str, Tensor] = {}
        self.out = Rendering(None, {}, {}, {})  # type: ignore[arg-type]
        self.made: dict[str, str] = {}
        self.count = 0
        readers: dict[str, list[Op]] = {}
        for op in net.ops:
            for each in op.inputs:
                readers.setdefault(each, []).append(op)
        self.readers = readers
        self.by_id = {op.id: op for op in net.ops}

    def render(self) -> Rendering:
        ops = self._shuffled() if self.style.shuffle else self.net.ops
        inputs = []
        done: set[str] = set()
        for op in sorted(ops, key=lambda op: op.kind != "input"):
            if op.kind == "input":
                self.made[op.id] = self._tensor(op.id, state=self._state(op.id))
                inputs.append(Port(f"in{len(inputs)}", self.made[op.id]))
        for op in ops:
            if op.kind != "input" and op.id not in done:
                done |= self._write(op)
        outputs = tuple(
            Port(f"out{at}", self.made[name]) for at, name in enumerate(self.net.outputs)
        )
        graph = Graph(self.style.framework, tuple(self.nodes), self.tensors, tuple(inputs), outputs)
        graph.validate()
        self.out.graph = graph
        return self.out

    def _shuffled(self) -> list[Op]:
        """Return another topological order."""
        waiting = list(self.net.ops)
        done: set[str] = set()
        order = []
        while waiting:
            ready = [op for op in waiting if set(op.inputs) <= done]
            op = self.random.choice(ready)
            waiting.remove(op)
            done.add(op.id)
            order.append(op)
        return order

    # Tensors and nodes.

    def _layout(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], str]:
        if len(shape) == 3:
            c, h, w = shape
            return ((2, h, w, c), "N H W C") if self.style.last else ((2, c, h, w), "N C H W")
        return (2, *shape), {1: "N C", 2: "N T C"}.get(len(shape), "")

    def _tensor(
        self, value: str, shape: tuple[int, ...] | None = None, state: bool = False,
        exact: bool = False, dtype: str = "",
    ) -> str:  # fmt: skip
        self.count += 1
        name = f"t{self.count}"
        canonical = self.shapes[value.split("@")[0]] if shape is None else shape
        full, axes = ((2, *canonical), "") if exact else self._layout(canonical)
        op = self.by_id.get(value)
        dtype = dtype or (op.hyper.get("dtype", "float32") if op is not None else "float32")
        self.tensors[name] = Tensor(name, full, dtype, axes if state and self.style.axes else "")
        self.out.values[name] = value
        last = self.style.last

        def read() -> Any:
            array = values_of(value, (2, *canonical), self.salt)
            return array.transpose(0, 2, 3, 1) if last and array.ndim == 4 and not exact else array

        flat = self.by_id.get(value.split("@")[0])
        if flat is not None and flat.kind == "flatten":

            def read() -> Any:
                array = values_of(flat.id, (2, *self.shapes[flat.inputs[0]]), self.salt)
                return (array.transpose(0, 2, 3, 1) if last else array).reshape(2, -1)

        self.out.arrays[name] = read
        return name

    def _state(self, value: str) -> bool:
        return False

    def _node(
        self, kind: str, ops: list[str], inputs: list[str], output: str,
        parameters: tuple[Parameter, ...] = (), **hyper: Any,
    ) -> str:  # fmt: skip
        name = f"n{len(self.nodes)}"
        self.nodes.append(Node(name, kind, kind, tuple(inputs), (output,), parameters, hyper))
        self.out.ops[name] = ops
        return output

    def _parameter(
        self, weight: str, role: str, shape: tuple[int, ...], axes: str = "", changed: bool = False
    ) -> Parameter:
        name = f"w{len(self.out.weights)}"
        self.out.weights[name] = weight
        flat = self.by_id[self.by_id[weight.split("/")[0]].inputs[0]]

        def read() -> Any:
            if not axes:
                return values_of(weight, shape)
            if axes == "... I O":
                return values_of(weight, (*shape[:1:-1], *shape[:2])).transpose(2, 3, 1, 0)
            if axes == "H W C M":
                return values_of(weight, (shape[2], 1, *shape[:2])).transpose(2, 3, 0, 1)
            if axes == "... O I":
                return values_of(weight, (*shape[:1:-1], *shape[:2])).transpose(2, 3, 1, 0)
            array = values_of(weight, shape[::-1])
            if flat.kind == "flatten" and self.style.last:
                parts = self.shapes[flat.inputs[0]]
                array = array.reshape(-1, *parts).transpose(0, 2, 3, 1).reshape(shape[::-1])
            return array.T

        self.out.parameters[name] = read
        moments = None
        if self.style.moments:
            size = int(np.prod(shape))
            values = values_of(weight + ("'" if changed else ""), (size,)).astype(np.float64)
            values = values[self.random.sample(range(size), size)]
            moments = (
                float(values.sum()), float((values**2).sum()), float(values.min()),
                float(values.max()),
            )  # fmt: skip
        return Parameter(name, role, shape, "float32", axes, moments=moments)

    def _only_reader(self, name: str, kind: str) -> Op | None:
        readers = self.readers.get(name, [])
        if len(readers) == 1 and readers[0].kind == kind and name not in self.net.outputs:
            return readers[0]
        return None

    # Operations.

    def _write(self, op: Op) -> set[str]:
        handler = getattr(self, f"_write_{op.kind}", None)
        if handler is not None:
            done: set[str] = handler(op)
            return done
        self.made[op.id] = self._plain(op)
        return {op.id}

    def _plain(self, op: Op) -> str:
        kind = {
            "act": op.hyper.get("name", ""), "gap": "global_avg_pool", "up": "upsample",
            "pool": op.hyper.get("mode", "max") + "_pool", "gap_map": "global_avg_pool",
            "sdpa": "scaled_dot_product_attention", "mean_tokens": "reduce_mean",
        }.get(op.kind, op.kind)  # fmt: skip
        hyper = dict(op.hyper)
        hyper.pop("name", None)
        if op.kind == "mean_tokens":
            hyper["axes"] = [1]
        output = self._tensor(op.id, state=op.kind == "pool")
        return self._node(kind, [op.id], [self.made[each] for each in op.inputs], output, **hyper)

    def _write_conv(self, op: Op) -> set[str]:
        return self._linear(op)

    _write_depthwise = _write_transposed = _write_dense = _write_conv

    def _linear(self, op: Op) -> set[str]:
        style, done = self.style, {op.id}
        depth = self.shapes[op.inputs[0]][0 if op.kind != "dense" else -1]
        x = self.made[op.inputs[0]]
        hyper: dict[str, Any] = {}
        out = op.hyper.get("out", depth)
        changed = False
        last, bias = op.id, op.hyper.get("bias", True)
        ops = [op.id]
        bn = self._only_reader(last, "bn") if style.fold else None
        if bn is not None:
            last, changed, bias = bn.id, True, True
            ops.append(last)
            done.add(last)
        act = self._only_reader(last, "act") if style.fuse and self.random.random() < 0.7 else None
        if act is not None and op.kind != "transposed":
            last = act.id
            hyper["activation"] = act.hyper["name"]
            ops.append(last)
            done.add(last)
        if op.kind in ("conv", "depthwise"):
            k = op.hyper["kernel"]
            hyper |= {"kernel": list(k), "stride": [op.hyper["stride"]] * 2, "dilation": [1, 1]}
            total = [[(n - 1) // 2, n // 2] for n in k]
            if style.pad and max(k) > 1 and self.random.random() < 0.5:
                c, h, w = self.shapes[op.inputs[0]]
                padded = (c, h + sum(total[0]), w + sum(total[1]))
                x = self._node(
                    "pad", [], [x], self._tensor(f"{op.inputs[0]}@pad{op.id}", padded),
                    padding=total,
                )  # fmt: skip
                total = [[0, 0], [0, 0]]
            hyper["padding"] = total
        if op.kind == "conv":
            groups = op.hyper.get("groups", 1)
            hyper["groups"] = groups
            shape, axes = (out, depth // groups, *k), ""
            if style.last:
                shape, axes = (*k, depth // groups, out), "... I O"
            kind = "conv"
        elif op.kind == "depthwise":
            hyper |= {"groups": depth, "in": depth}
            shape, axes = ((*k, depth, 1), "H W C M") if style.last else ((depth, 1, *k), "")
            kind = "depthwise_conv"
        elif op.kind == "transposed":
            shape, axes = (
                ((2, 2, out, depth), "... O I") if style.last else ((depth, out, 2, 2), "")
            )
            kind = "conv_transpose"
        else:
            shape, axes = (
                ((depth, out), "I O") if style.last or style.split_bias else ((out, depth), "")
            )
            kind = "dense"
        weights = [self._parameter(f"{op.id}/kernel", "kernel", shape, axes, changed)]
        split = style.split_bias and kind == "dense" and bias
        vector = self._parameter(f"{op.id}/bias", "bias", (out,), "", changed) if bias else None
        if vector is not None and not split:
            weights.append(vector)
        value = f"{op.id}@raw" if split else last
        output = self._tensor(value, self.shapes[last] if split else None, state=True)
        hyper |= {"out": out}
        result = self._node(kind, ops, [x], output, tuple(weights), **hyper)
        if split and vector is not None:
            result = self._node("bias_add", [op.id], [result], self._tensor(last), (vector,))
        self.made[last] = result
        for each in ops:
            self.made.setdefault(each, result)
        return done

    def _norm(self, op: Op, kind: str, roles: tuple[str, ...]) -> set[str]:
        size = self.shapes[op.inputs[0]][0 if kind == "batch_norm" else -1]
        weights = tuple(self._parameter(f"{op.id}/{role}", role, (size,)) for role in roles)
        output = self._tensor(op.id, state=True)
        self.made[op.id] = self._node(kind, [op.id], [self.made[op.inputs[0]]], output, weights)
        return {op.id}

    def _write_bn(self, op: Op) -> set[str]:
        return self._norm(op, "batch_norm", ("gamma", "beta", "mean", "variance"))

    def _write_ln(self, op: Op) -> set[str]:
        return self._norm(op, "layer_norm", ("gamma", "beta"))

    def _write_scale(self, op: Op) -> set[str]:
        return self._norm(op, "layer_scale", ("gamma",))

    def _write_embedding(self, op: Op) -> set[str]:
        shape = (op.hyper["vocabulary"], op.hyper["out"])
        weight = self._parameter(f"{op.id}/embeddings", "embeddings", shape)
        output = self._tensor(op.id, dtype="float32")
        self.made[op.id] = self._node(
            "embedding", [op.id], [self.made[op.inputs[0]]], output, (weight,)
        )
        return {op.id}

    def _write_flatten(self, op: Op) -> set[str]:
        source = self.made[op.inputs[0]]
        full = self.tensors[source].shape
        output = self._tensor(f"{op.id}@{self.style.last}", (int(np.prod(full[1:])),), exact=True)
        self.made[op.id] = self._node("flatten", [], [source], output)
        return {op.id}

    def _write_tokens(self, op: Op) -> set[str]:
        source = self.made[op.inputs[0]]
        t, c = self.shapes[op.id]
        if self.style.last:
            self.made[op.id] = self._node("reshape", [], [source], self._tensor(op.id))
        else:
            flat = self._tensor(f"{op.id}@flat", (c, t), exact=True)
            self._node("flatten", [], [source], flat)
            self.made[op.id] = self._node(
                "transpose", [], [flat], self._tensor(op.id), perm=[0, 2, 1]
            )
        return {op.id}

    def _write_concat(self, op: Op) -> set[str]:
        names = list(op.inputs)
        axis = len(self.shapes[op.id]) if self.style.last else 1
        if not self.style.pairwise or len(names) < 3:
            self.made[op.id] = self._node(
                "concat", [op.id], [self.made[each] for each in names], self._tensor(op.id),
                axis=axis,
            )  # fmt: skip
            return {op.id}
        whole = self.made[names[0]]
        depth = self.shapes[names[0]][0]
        for at, name in enumerate(names[1:], 1):
            depth += self.shapes[name][0]
            is_last = at == len(names) - 1
            shape = (depth, *self.shapes[op.id][1:])
            output = self._tensor(op.id if is_last else f"{op.id}@{at}", shape)
            whole = self._node(
                "concat", [op.id] if is_last else [], [whole, self.made[name]], output, axis=axis
            )
        self.made[op.id] = whole
        return {op.id}

    def _write_sdpa(self, op: Op) -> set[str]:
        if not self.style.scores:
            self.made[op.id] = self._plain(op)
            return {op.id}
        q, k, v = (self.made[each] for each in op.inputs)
        tokens = self.shapes[op.inputs[0]][0]
        turned = self._node("transpose", [], [k], self._tensor(f"{op.id}@turned"), perm=[0, 2, 1])
        scores, chance = (
            self._tensor(f"{op.id}@{each}", (tokens, tokens), exact=True) for each in "sp"
        )
        self._node("matmul", [op.id], [q, turned], scores)
        self._node("softmax", [op.id], [scores], chance)
        self.made[op.id] = self._node("matmul", [op.id], [chance, v], self._tensor(op.id))
        return {op.id}


def change_style(style: Style, **changes: Any) -> Style:
    return replace(style, **changes)
