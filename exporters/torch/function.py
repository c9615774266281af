"""A PyTorch module as a function of arrays, which an exported file is compared with."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils import _pytree as pytree

from exporters.graph.framework_runs import ModelFunction, Reference, perturb
from exporters.graph.model import Array
from exporters.graph.pipeline import scramble
from exporters.silence import silence_logging
from exporters.torch.arguments import Arguments, flatten_outputs
from exporters.torch.module import eval_mode, preserve_state, to_array, to_tensor, weights

_ROUNDOFFS = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}


def to_reference(
    module: torch.nn.Module,
    arguments: Arguments,
    *,
    example: Sequence[Array] | None,
    sizes: Mapping[str, Sequence[int]],
    roundoffs: Sequence[float],
) -> Reference:
    """Return the module as the reference of a verification."""
    state = (*module.parameters(), *module.buffers())
    own = [_ROUNDOFFS.get(tensor.dtype, 0.0) for tensor in state]
    roundoffs = [*roundoffs, *own]
    return Reference(
        function=to_function(module, arguments, roundoffs=roundoffs),
        wide=_to_wide_function(module, arguments),
        roundoff=lambda: max(roundoffs, default=0.0),
        example=example,
        sizes=sizes,
    )


def to_function(
    module: torch.nn.Module,
    arguments: Arguments,
    *,
    other: Mapping[str, torch.Tensor] | None = None,
    roundoffs: Sequence[float] = (),
) -> ModelFunction:
    """Return the module as a function of arrays, in eval mode on the CPU.

    The module stays as it is: buffers that a call changes are copies. Random numbers differ from
    call to call, and those of the caller stay as they were. `other` replaces tensors by name.
    `roundoffs`: those of the precisions below float32 that the module computes in.
    """
    calls = 0

    def run(inputs: Sequence[Array], *, seed: int | None = None) -> list[Array]:
        nonlocal calls
        state = {**_state(module), **(other or {})}
        if seed is not None:
            lowest = max(roundoffs, default=0.0)
            state = {
                name: to_tensor(perturb(to_array(tensor), seed=seed, index=index, roundoff=lowest))
                for index, (name, tensor) in enumerate(state.items())
            }
        calls += 1
        tensors = _call(
            module, arguments, state, [to_tensor(array) for array in inputs], seed=calls
        )
        return [to_array(tensor) for tensor in tensors]

    return run


def scramble_weights(
    module: torch.nn.Module, arguments: Arguments
) -> tuple[Mapping[str, Array], ModelFunction]:
    """Return the weights with other values, by name, and the module as a function with those."""
    arrays = {
        name: scramble(array, index=index)
        for index, (name, array) in enumerate(weights(module).items())
    }
    other = {name: to_tensor(array) for name, array in arrays.items()}
    return arrays, to_function(module, arguments, other=other)


def _to_wide_function(
    module: torch.nn.Module, arguments: Arguments
) -> Callable[[Sequence[Array]], list[Array]]:
    def run(inputs: Sequence[Array]) -> list[Array]:
        state = {name: _widen(tensor) for name, tensor in _state(module).items()}
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            tensors = _call(
                module, arguments, state, [_widen(to_tensor(a)) for a in inputs], seed=0
            )
        finally:
            torch.set_default_dtype(default)
        return [to_array(tensor) for tensor in tensors]

    return run


def _widen(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _call(
    module: torch.nn.Module,
    arguments: Arguments,
    state: Mapping[str, torch.Tensor],
    tensors: Sequence[torch.Tensor],
    *,
    seed: int,
) -> list[torch.Tensor]:
    args, kwargs = arguments.with_tensors(tensors)
    with torch.no_grad(), eval_mode(module), preserve_state(module), seeded_randomness(seed):
        with silence_logging():
            results = torch.func.functional_call(module, dict(state), args, kwargs)
        return flatten_outputs(results)[1]


def _state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters, and copies of the buffers, since a call may change those in place."""
    return {
        **{name: tensor.detach().cpu() for name, tensor in module.named_parameters()},
        **{name: tensor.detach().cpu().clone() for name, tensor in module.named_buffers()},
    }


@contextmanager
def seeded_randomness(seed: int) -> Iterator[None]:
    """While open, draw the random numbers of a seed; the caller's generators are left as before."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        # Of the CPU alone: that of each device formats the stack, which takes milliseconds.
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def record_roundoffs(program: torch.export.ExportedProgram, found: list[float]) -> None:
    """Add the unit roundoffs of the precisions below float32 that a program computes in."""
    for node in program.graph.nodes:
        for leaf in pytree.tree_leaves(node.meta.get("val")):
            if isinstance(leaf, torch.Tensor) and leaf.dtype in _ROUNDOFFS:
                found.append(_ROUNDOFFS[leaf.dtype])
