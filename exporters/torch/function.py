"""A PyTorch module as a function of arrays, which an exported file is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils import _pytree as pytree

from exporters.graph.model import Array
from exporters.graph.verification import ModelFunction, perturb
from exporters.torch.module import eval_mode, to_array, to_tensor


def to_function(module: torch.nn.Module) -> ModelFunction:
    """Return the module as a function of arrays, in eval mode on the CPU."""

    def run(inputs: Sequence[Array], *, seed: int | None = None) -> list[Array]:
        arguments = tuple(to_tensor(array) for array in inputs)
        state = {name: tensor.detach().cpu() for name, tensor in _tensors(module).items()}
        if seed is not None:
            state = {
                name: to_tensor(perturb(to_array(tensor), seed=seed, index=index))
                for index, (name, tensor) in enumerate(state.items())
            }
        with torch.no_grad(), eval_mode(module):
            results = torch.func.functional_call(module, state, arguments)
        leaves = [leaf for leaf in pytree.tree_leaves(results) if isinstance(leaf, torch.Tensor)]
        return [to_array(leaf) for leaf in leaves]

    return run


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
