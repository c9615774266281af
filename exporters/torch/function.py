"""A PyTorch module as a function of arrays, which an exported file is compared with."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from exporters.graph.model import Array
from exporters.graph.pipeline import scramble
from exporters.graph.verification import ModelFunction, Reference, perturb
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
) -> Reference:
    """Return the module as the reference of a verification."""
    precisions: list[float] = []
    return Reference(
        function=to_function(module, arguments, precisions=precisions),
        wide=_to_wide_function(module, arguments),
        roundoff=lambda: max(precisions, default=0.0),
        example=example,
        sizes=sizes,
    )


def to_function(
    module: torch.nn.Module,
    arguments: Arguments,
    *,
    other: Mapping[str, torch.Tensor] | None = None,
    precisions: list[float] | None = None,
) -> ModelFunction:
    """Return the module as a function of arrays, in eval mode on the CPU.

    The module stays as it is: buffers that a call changes are copies. Random numbers differ from
    call to call, and those of the caller stay as they were. `other` replaces tensors by name.
    The unit roundoff of each precision below float32 that the first call uses is added to
    `precisions`.
    """
    calls = 0

    def run(inputs: Sequence[Array], *, seed: int | None = None) -> list[Array]:
        nonlocal calls
        state = {**_state(module), **(other or {})}
        if seed is not None:
            lowest = max(precisions or [], default=0.0)
            state = {
                name: to_tensor(perturb(to_array(tensor), seed=seed, index=index, roundoff=lowest))
                for index, (name, tensor) in enumerate(state.items())
            }
        calls += 1
        call = functools.partial(_call, module, arguments, seed=calls)
        tensors = None
        if precisions is not None and calls == 1:
            # What cannot run while its operators are watched (torch.cond) is run again, alone.
            with contextlib.suppress(Exception), _Precisions(precisions):
                tensors = call(state, [to_tensor(array) for array in inputs])
            state = state if tensors is not None else _state(module)
        if tensors is None:
            tensors = call(state, [to_tensor(array) for array in inputs])
        return [to_array(tensor) for tensor in tensors]

    return run


def other_weights(
    module: torch.nn.Module, arguments: Arguments
) -> Callable[[], tuple[Mapping[str, Array], ModelFunction]]:
    """Return a function that gives other weights, and the module with those."""

    def draw() -> tuple[Mapping[str, Array], ModelFunction]:
        arrays = {
            name: scramble(array, index=index)
            for index, (name, array) in enumerate(weights(module).items())
        }
        other = {name: to_tensor(array) for name, array in arrays.items()}
        return arrays, to_function(module, arguments, other=other)

    return draw


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
    args, kwargs = arguments.call(tensors)
    with torch.no_grad(), eval_mode(module), preserve_state(module), other_randomness(seed):
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
def other_randomness(seed: int) -> Iterator[None]:
    """While open, draw other random numbers; afterwards the caller's generators are as before."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


class _Precisions(TorchDispatchMode):
    """Records the unit roundoffs of the precisions below float32 that operators return."""

    def __init__(self, found: list[float]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.dtype in _ROUNDOFFS:
                self.found.append(_ROUNDOFFS[leaf.dtype])
        return result
