"""The layer tables of the study's small models."""

from __future__ import annotations

import math

from parity.network import kinds
from parity.network.table import LayerTable, Row, Weight, canonical_name, keras_shape

CLASSES = 10

Shape = tuple[int, ...]


def _row(name: str, kind: str, keras: str, torch: str, shape: Shape, **weights: Shape) -> Row:
    bare = Row(name, name.partition(".")[0], kind, keras, torch, shape)
    listed = tuple(
        Weight(role, canonical_name(bare, role), kinds.get(kind).role(role).keras, size)
        for role, size in weights.items()
    )
    return Row(name, bare.stage, kind, keras, torch, shape, listed)


def _norm(name: str, channels: int, size: int) -> Row:
    one = (channels,)
    return _row(
        name, "batch_norm", name, name, (channels, size, size), gamma=one, beta=one, mean=one,
        variance=one,
    )  # fmt: skip


def _dense(name: str, inputs: int, outputs: int) -> Row:
    return _row(name, "dense", name, name, (outputs,), kernel=(outputs, inputs), bias=(outputs,))


MLP = LayerTable(
    (
        _row("flat", "flatten", "flat", "flat", (64,)),
        _dense("fc1", 64, 24),
        _row("relu1", "relu", "relu1", "relu1", (24,)),
        _dense("fc2", 24, 24),
        _row("relu2", "relu", "relu2", "relu2", (24,)),
        _dense("fc3", 24, 24),
        _row("relu3", "relu", "relu3", "relu3", (24,)),
        _dense("head", 24, CLASSES),
    )
)

CNN = LayerTable(
    (
        _row("pad1", "pad", "pad1", "", (1, 18, 18)),
        _row("conv1", "conv", "conv1", "conv1", (8, 16, 16), kernel=(8, 1, 3, 3)),
        _norm("bn1", 8, 16),
        _row("relu1", "relu", "relu1", "relu1", (8, 16, 16)),
        _row("pool1", "max_pool", "pool1", "pool1", (8, 8, 8)),
        _row("pad2", "pad", "pad2", "", (8, 10, 10)),
        _row("conv2", "conv", "conv2", "conv2", (16, 8, 8), kernel=(16, 8, 3, 3), bias=(16,)),
        _norm("bn2", 16, 8),
        _row("relu2", "relu", "relu2", "relu2", (16, 8, 8)),
        _row("mean", "global_avg_pool", "mean", "mean", (16,)),
        _dense("head", 16, CLASSES),
    )
)

TABLES = {"mlp": MLP, "cnn": CNN}

SIZES = {"mlp": 8, "cnn": 16}


def fan_in(weight: Weight) -> int:
    return math.prod(weight.shape[1:])


__all__ = ["CLASSES", "SIZES", "TABLES", "fan_in", "keras_shape"]
