"""Registered PyTorch twins as files: as they are, and without names and in another order."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import fx, nn

from parity.network import architectures
from parity.runtimes.torch.load import build_initialized_twin

Example = tuple[nn.Module, torch.Tensor]


def twin(name: str, size: int = 64) -> Example:
    """Return the twin with seeded weights and statistics, and an example input."""
    spec = architectures.get(name, image_size=(size, size))
    model = build_initialized_twin(spec, seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0.0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    channels = spec.input_shape[0]
    return model, torch.randn(1, channels, size, size, generator=generator)


def scrubbed(name: str, size: int = 64) -> Example:
    """Return the same model with modules `m0`, `m1`, …, defined in a random order.

    Its operations run in a random order too, as far as their inputs allow.
    """
    model, example = twin(name, size)
    traced = fx.symbolic_trace(model)
    names = name_modules(traced)
    root = nn.Module()
    for path, label in names.items():
        root.add_module(label, model.get_submodule(path))
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in _shuffle(list(traced.graph.nodes)):
        copy = graph.node_copy(node, copies.__getitem__)
        if node.op == "call_module":
            copy.target = names[str(node.target)]
        copies[node] = copy
    graph.lint()
    return fx.GraphModule(root, graph).eval(), example


def name_modules(traced: fx.GraphModule) -> dict[str, str]:
    """Return the new name of each module that is called, by its path, in the new order."""
    paths = [str(node.target) for node in traced.graph.nodes if node.op == "call_module"]
    paths = list(dict.fromkeys(paths))
    random.Random(0).shuffle(paths)
    return {path: f"m{number}" for number, path in enumerate(paths)}


def map_names(name: str) -> dict[str, str]:
    """Return the truth: the scrubbed model's module of each path of the twin."""
    return name_modules(fx.symbolic_trace(twin(name)[0]))


def _shuffle(nodes: list[Any]) -> list[Any]:
    """Return the nodes in a random order in which each comes behind its inputs; the output last."""
    generator = random.Random(1)
    done, order = set[Any](), list[Any]()
    while len(order) < len(nodes) - 1:
        ready = [
            node
            for node in nodes[:-1]
            if node not in done and all(each in done for each in node.all_input_nodes)
        ]
        chosen = generator.choice(ready)
        done.add(chosen)
        order.append(chosen)
    return [*order, nodes[-1]]
