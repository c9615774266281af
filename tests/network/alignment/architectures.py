"""Abstract networks of the families that the alignment must pair, and random ones."""

from __future__ import annotations

import random

from tests.network.alignment.networks import Net


def resnet(blocks: tuple[int, ...] = (2, 2, 2, 2), *, groups: int = 1, width: int = 16) -> Net:
    net = Net()
    x = net.cba(net.input(3, 64, 64), width, 7, 2)
    x = net.op("pool", x, stride=2, kernel=3)
    for stage, count in enumerate(blocks):
        inner = width * 2**stage
        for block in range(count):
            stride = 2 if block == 0 and stage > 0 else 1
            y = net.cba(x, inner, 1)
            y = net.cba(y, inner, 3, stride, groups=groups)
            y = net.cba(y, inner * 4, 1, act="")
            if block == 0:
                x = net.cba(x, inner * 4, 1, stride, act="")
            x = net.act(net.op("add", y, x))
    return net.finish(net.dense(net.op("gap", x), 10))


def plain(depth: int = 8) -> Net:
    net = Net()
    x = net.input(3, 32, 32)
    for layer in range(depth):
        x = net.act(net.conv(x, 16 * 2 ** (layer // 3)))
        if layer % 3 == 2:
            x = net.op("pool", x, stride=2, kernel=2)
    x = net.act(net.dense(net.op("flatten", x), 64))
    x = net.act(net.dense(x, 64))
    return net.finish(net.dense(x, 10))


def inception(blocks: int = 4) -> Net:
    net = Net()
    x = net.cba(net.input(3, 64, 64), 32, 3, 2)
    for block in range(blocks):
        a = net.cba(x, 16, 1)
        b = net.cba(net.cba(net.cba(x, 12, 1), 12, (1, 7)), 16, (7, 1))
        c = net.cba(x, 12, 1)
        for kernel in ((7, 1), (1, 7), (7, 1)):
            c = net.cba(c, 12, kernel)
        c = net.cba(c, 16, (1, 7))
        d = net.cba(net.op("pool", x, stride=1, kernel=3, mode="avg"), 16, 1)
        x = net.op("concat", a, b, c, d)
        if block % 2:
            e = net.cba(x, 24, 3, 2)
            f = net.cba(net.cba(net.cba(x, 16, 1), 24, 3), 24, 3, 2)
            g = net.op("pool", x, stride=2, kernel=3)
            x = net.op("concat", e, f, g)
    return net.finish(net.dense(net.op("gap", x), 10))


def unet(depth: int = 3) -> Net:
    net = Net()
    x = net.input(1, 32, 32)
    skips = []
    for level in range(depth):
        x = net.cba(net.cba(x, 8 * 2**level), 8 * 2**level)
        skips.append(x)
        x = net.op("pool", x, stride=2, kernel=2)
    x = net.cba(net.cba(x, 8 * 2**depth), 8 * 2**depth)
    for level in reversed(range(depth)):
        x = net.op("transposed", x, out=8 * 2**level)
        x = net.op("concat", skips[level], x)
        x = net.cba(net.cba(x, 8 * 2**level), 8 * 2**level)
    return net.finish(net.conv(x, 2, 1))


def densenet(blocks: tuple[int, ...] = (4, 5)) -> Net:
    net = Net()
    x = net.cba(net.input(3, 32, 32), 16, 3)
    for at, count in enumerate(blocks):
        features = [x]
        for _ in range(count):
            whole = net.op("concat", *features) if len(features) > 1 else features[0]
            y = net.conv(net.act(net.op("bn", whole)), 32, 1, bias=False)
            y = net.conv(net.act(net.op("bn", y)), 8, 3, bias=False)
            features.append(y)
        x = net.act(net.op("bn", net.op("concat", *features)))
        if at + 1 < len(blocks):
            x = net.op("pool", net.conv(x, 24, 1, bias=False), stride=2, kernel=2, mode="avg")
    return net.finish(net.dense(net.op("gap", x), 10))


def mobilenet(blocks: int = 6, *, excite: bool = True) -> Net:
    net = Net()
    x = net.cba(net.input(3, 64, 64), 16, 3, 2, act="hard_swish")
    width = 16
    for block in range(blocks):
        stride = 2 if block % 3 == 1 else 1
        out = width + 8 if stride == 2 else width
        y = net.cba(x, width * 4, 1, act="hard_swish")
        y = net.op("bn", net.op("depthwise", y, kernel=(3, 3), stride=stride, bias=False))
        y = net.act(y, "hard_swish")
        if excite:
            s = net.act(net.conv(net.op("gap_map", y), width, 1))
            s = net.act(net.conv(s, width * 4, 1), "hard_sigmoid")
            y = net.op("multiply", y, s)
        y = net.cba(y, out, 1, act="")
        x = net.op("add", x, y) if stride == 1 and out == width else y
        width = out
    return net.finish(net.dense(net.op("gap", x), 10))


def transformer(blocks: int = 4, *, scale: bool = False) -> Net:
    net = Net()
    x = net.op("tokens", net.conv(net.input(3, 32, 32), 32, 4, 4))
    for _ in range(blocks):
        y = net.op("ln", x)
        q, k, v = (net.dense(y, 32) for _ in range(3))
        y = net.dense(net.op("sdpa", q, k, v), 32)
        x = net.op("add", x, net.op("scale", y) if scale else y)
        y = net.dense(net.act(net.dense(net.op("ln", x), 128), "gelu"), 32)
        x = net.op("add", x, net.op("scale", y) if scale else y)
    return net.finish(net.dense(net.op("mean_tokens", net.op("ln", x)), 10))


def two_inputs() -> Net:
    net = Net()
    image, tokens = net.input(3, 32, 32), net.input(12, dtype="int32")
    x = net.op("gap", net.cba(net.cba(image, 16, 3, 2), 32, 3, 2))
    y = net.op("mean_tokens", net.op("embedding", tokens, vocabulary=100, out=16))
    x = net.op("concat", net.act(net.dense(x, 32)), net.act(net.dense(y, 32), "tanh"))
    return net.finish(net.dense(x, 10), net.act(net.dense(x, 1), "sigmoid"))


FAMILIES = {
    "resnet": resnet,
    "resnext": lambda: resnet((2, 3, 3), groups=4),
    "plain": plain,
    "inception": inception,
    "unet": unet,
    "densenet": densenet,
    "mobilenet": mobilenet,
    "transformer": transformer,
    "transformer with layer scale": lambda: transformer(3, scale=True),
    "two inputs": two_inputs,
}


def random_network(seed: int) -> Net:
    """Return a network of random blocks: chains, residual ones, branches, attention of channels."""
    choose = random.Random(seed)
    net = Net()
    width = choose.choice((8, 16))
    x = net.cba(net.input(3, 64, 64), width, 3, 2)
    for _ in range(choose.randint(2, 7)):
        act = choose.choice(("relu", "silu", "relu6"))
        block = choose.choice(("chain", "residual", "branches", "excite", "pool", "widen"))
        if block == "chain":
            for _ in range(choose.randint(1, 3)):
                x = net.cba(x, width, choose.choice((1, 3, 3)), act=act)
        elif block == "residual":
            for _ in range(choose.randint(1, 3)):
                y = net.cba(net.cba(x, width * 2, 1, act=act), width, 3, act="")
                x = net.act(net.op("add", x, y), act)
        elif block == "branches":
            ends = []
            for _ in range(choose.randint(2, 4)):
                y = x
                for _ in range(choose.randint(1, 3)):
                    kernel = choose.choice((1, 3, (1, 5), (5, 1)))
                    y = net.cba(y, choose.choice((8, 12)), kernel, act=act)
                ends.append(y)
            x = net.cba(net.op("concat", *ends), width, 1, act=act)
        elif block == "excite":
            s = net.act(net.conv(net.op("gap_map", x), 4, 1))
            x = net.op("multiply", x, net.act(net.conv(s, width, 1), "sigmoid"))
        elif block == "pool":
            x = net.op("pool", x, stride=2, kernel=3, mode=choose.choice(("max", "avg")))
        else:
            width *= 2
            x = net.cba(x, width, 3, 2, act=act)
    return net.finish(net.dense(net.op("gap", x), 10))
