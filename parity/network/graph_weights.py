"""Seeded random weights for a model that was read into a graph."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network import axes, kinds
from parity.network.graph import Graph, Node, Parameter

Array = NDArray[Any]


def draw_weights(graph: Graph, values: Mapping[str, Array], *, seed: int) -> dict[str, Array]:
    """Return random weights for the parameters of `graph` by name, in the framework's own axes.

    Kernels are He-normal (He et al., 2015): N(0, 2/n), n the terms of one output's sum. The scales
    of norms are U(0.5, 1.5), their offsets and all biases N(0, 0.1²), running means are 0 and
    variances 1. Any other weight keeps its value in `values`, unless all its values are equal: then
    N(0, 0.1²) is added, since a constant would hide an exchange. Each array is drawn from its own
    generator, seeded by its name, so that the order of the layers has no effect.
    """
    wanted: dict[str, tuple[Node, Parameter]] = {}
    for node in graph.nodes:
        for parameter in node.parameters:
            if parameter.name in values:
                wanted.setdefault(parameter.name, (node, parameter))
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        drawn = pool.map(lambda n: _draw(*wanted[n], values[n], seed), wanted)
        return dict(zip(wanted, drawn, strict=True))


def _draw(node: Node, parameter: Parameter, value: Array, seed: int) -> Array:
    rng = np.random.default_rng([seed, zlib.crc32(parameter.name.encode())])
    shape, dtype = value.shape, value.dtype
    if parameter.role in ("mean", "variance"):
        return np.full(shape, float(parameter.role == "variance"), dtype)
    if parameter.role in ("gamma", "scale"):
        return rng.uniform(0.5, 1.5, shape).astype(dtype)
    if parameter.role in ("beta", "bias"):
        return (0.1 * rng.standard_normal(shape)).astype(dtype)
    if value.ndim >= 2 and parameter.role:
        deviation = np.sqrt(2.0 / max(count_sum_terms(node, parameter), 1.0))
        kernel: Array = (deviation * rng.standard_normal(shape)).astype(dtype)
        return kernel
    if value.size and np.all(value == value.flat[0]):
        return (value + 0.1 * rng.standard_normal(shape)).astype(dtype)
    return value


def count_sum_terms(node: Node, parameter: Parameter) -> float:
    """Return the number of products in each sum that an output of this kernel is.

    Where the layout of the kernel is not known it is the size over the longest axis, or more.
    """
    if parameter.size == 0:
        return 1.0
    kind = kinds.find(node.kind)
    role = None
    if kind is not None:
        role = next((each for each in kind.roles if each.name == parameter.role), None)
    if role is None or not axes.fits(parameter.axes or role.axes, parameter.shape):
        return parameter.size / max(min(parameter.shape), 1)
    order = parameter.axes or role.axes
    canonical = axes.reorder_shape(parameter.shape, order, role.axes)
    return parameter.size / max(canonical[role.outputs], 1)


def to_canonical_weight(kind: str, parameter: Parameter, value: Array) -> Array:
    """Return a weight in the canonical axes of its role in `parity.network.kinds`.

    It is returned as it is where its axes or its role are not known.
    """
    found = kinds.find(kind)
    role = None
    if found is not None:
        role = next((each for each in found.roles if each.name == parameter.role), None)
    if role is None or not parameter.axes or not axes.fits(parameter.axes, value.shape):
        return value
    source, target = parameter.axes, role.axes
    if axes.SPATIAL in target and axes.SPATIAL not in source:
        known = target.split()
        spatial = [name for name in source.split() if name not in known]
        target = target.replace(axes.SPATIAL, " ".join(spatial))
    if {"C", "M"} <= set(source.split()) and "O" in target.split():
        # A depthwise kernel that is read as a grouped convolution: one input channel a group.
        spatial = [name for name in source.split() if name not in ("C", "M", "1", "I")]
        target = f"(C M) 1 {' '.join(spatial)}"
    try:
        return axes.reorder(value, source, target)
    except ValueError:
        return value
