"""The cuts of a graph, tensors through which all data flows, and the stages and blocks between."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parity.network.alignment import families
from parity.network.alignment.axes import BATCH, CHANNELS, Axes, trace_axes
from parity.network.graph import Graph, Node

STEM, HEAD = "stem", "head"


@dataclass(frozen=True)
class Cuts:
    """The cuts of a graph in execution order, and the place of each node."""

    tensors: tuple[str, ...]
    """Ids of tensors: everything behind one depends on the inputs through it alone."""
    places: Mapping[str, tuple[str, str]]
    """Stage and block of each node, by id."""
    stage_ends: Mapping[str, str]
    """The last cut of each stage, by the stage's name, in execution order."""
    block_ends: Mapping[tuple[str, str], str]
    """The last cut of each block, by stage and block."""


def find_cuts(graph: Graph) -> Cuts:
    """Return the cuts of a graph, and its stages and blocks.

    A stage is a part of one top-level module where the nodes' paths are nested, or else a run of
    cuts of one size of map. A block is a module of a stage, or else a region with branches.
    """
    tensors = _find_cut_tensors(graph)
    regions = _split_regions(graph, tensors)
    by_path = _name_by_path(graph, regions)
    names = by_path if by_path is not None else _name_by_size(graph, regions, tensors)
    places = {node.id: name for region, name in zip(regions, names, strict=True) for node in region}
    stage_ends: dict[str, str] = {}
    block_ends: dict[tuple[str, str], str] = {}
    for tensor, name in zip(tensors, names, strict=False):
        stage_ends[name[0]] = tensor
        block_ends[name] = tensor
    return Cuts(tuple(tensors), places, stage_ends, block_ends)


def _find_cut_tensors(graph: Graph) -> list[str]:
    """Return the tensors that are the only live one when their node has run.

    Tensors that depend on no weight (masks, positions) may live beside them, as the inputs do.
    """
    last_use: dict[str, int] = {}
    wanted = {port.tensor for port in graph.outputs}
    useful: set[str] = set()
    for node in reversed(graph.nodes):
        if not wanted.isdisjoint(node.outputs):
            useful.add(node.id)
            wanted.update(node.inputs)
    weighted: set[str] = set()
    for at, node in enumerate(graph.nodes):
        if node.id not in useful:
            continue
        for tensor in node.inputs:
            last_use[tensor] = at
        if node.parameters or not weighted.isdisjoint(node.inputs):
            weighted.update(node.outputs)
    outputs = {port.tensor for port in graph.outputs}
    found: list[str] = []
    live: set[str] = set()
    for at, node in enumerate(graph.nodes):
        if node.id not in useful:
            continue
        live -= {tensor for tensor in node.inputs if last_use[tensor] == at}
        made = [t for t in node.outputs if last_use.get(t, -1) > at]
        live |= {tensor for tensor in made if tensor in weighted}
        ends = [tensor for tensor in node.outputs if tensor in outputs]
        if live == set(made[:1]) and made and made[0] in weighted:
            found.append(made[0])
        elif not live and ends:
            found.append(ends[0])
    return found


def _split_regions(graph: Graph, tensors: Sequence[str]) -> list[list[Node]]:
    """Return the nodes between the cuts; those behind the last one are in one more region."""
    regions: list[list[Node]] = [[]]
    ends = set(tensors)
    for node in graph.nodes:
        regions[-1].append(node)
        if not ends.isdisjoint(node.outputs):
            regions.append([])
    if not regions[-1] and len(regions) > 1:
        regions.pop()
    return regions


Names = list[tuple[str, str]]


def _name_by_path(graph: Graph, regions: Sequence[Sequence[Node]]) -> Names | None:
    """Return stage and block of each region by the modules' paths, None if these are flat."""
    paths = {node.id: _split_path(node.path) for node in graph.nodes if node.parameters}
    depth = _shared_depth(list(paths.values()))
    nested = [path for path in paths.values() if len(path) > depth + 2]
    if len(nested) * 2 < len(paths) or len({path[depth] for path in nested}) < 1:
        return None
    found: list[tuple[str, str] | None] = []
    for region in regions:
        own = [paths[node.id] for node in region if node.id in paths]
        deep = [path for path in own if len(path) > depth + 1]
        if deep:
            path = deep[0]
            found.append((path[depth], path[depth + 1] if len(path) > depth + 2 else path[depth]))
        elif own:
            found.append(None)
        else:
            # An activation or a pool belongs to what is in front of it.
            found.append(found[-1] if found else None)
    inner = [at for at, name in enumerate(found) if name is not None]
    if not inner:
        return None
    names: Names = []
    for at, name in enumerate(found):
        if name is not None:
            names.append(name)
        elif at < inner[0]:
            names.append((STEM, STEM))
        elif at > inner[-1]:
            names.append((HEAD, HEAD))
        else:
            names.append(names[-1])
    return names


def _split_path(path: str) -> list[str]:
    return [word for word in re.split(r"[./]", path) if word]


def _shared_depth(paths: Sequence[Sequence[str]]) -> int:
    """Return how many leading words all nested paths share: wrappers around the whole model."""
    depth = 0
    while True:
        words = {tuple(path[: depth + 1]) for path in paths if len(path) > depth + 1}
        flat = [path for path in paths if len(path) <= depth + 1]
        if len(words) != 1 or flat:
            return depth
        depth += 1


def _name_by_size(graph: Graph, regions: Sequence[Sequence[Node]], tensors: Sequence[str]) -> Names:
    """Return stage and block of each region by the size of the map behind it, and by branches."""
    axes = trace_axes(graph)
    names: Names = []
    size: int | None = None
    stage, block, is_headed = 0, 0, False
    for at, region in enumerate(regions):
        tensor = tensors[at] if at < len(tensors) else None
        now = size if tensor is None else _map_size(graph.tensors[tensor].shape, axes.get(tensor))
        if size is None or now != size:
            if now == 1 and size is not None and size > 1:
                is_headed = True
            stage, block = stage + 1, 0
            size = now
        computing = [node for node in region if not families.is_pass_through(node)]
        starts = len(computing) > 1 or any(
            families.find_family(node.kind) == families.LINEAR for node in computing
        )
        if starts or not block:
            block += 1
        names.append((HEAD if is_headed else f"stage{stage}", f"block{block}"))
    return names


def _map_size(shape: Sequence[int], axes: Axes | None) -> int:
    """Return the number of places of a map or a sequence: 1 of a vector."""
    if axes is not None:
        return math.prod(
            size for each in axes for name, size in each if name not in (BATCH, CHANNELS)
        )
    if len(shape) <= 2:
        return 1
    rest = list(shape[1:])
    # Without names: a map has two equal lengths, and the other one is that of the channels.
    if len(rest) == 3 and rest[0] == rest[1]:
        return rest[0] * rest[1]
    return math.prod(rest[1:]) if len(rest) == 3 else rest[0]
