"""Building PyTorch modules: registered twins, and the user's own by a callable."""

from __future__ import annotations

import importlib

import torch
from torch import nn

from parity.errors import UsageError
from parity.network import callables
from parity.network.spec import ModelSpec


def build_twin(spec: ModelSpec) -> nn.Module:
    """Build the registered twin on the meta device, in eval mode: it has no values yet."""
    module = importlib.import_module(f"parity.network.models.{spec.family}.torch")
    # On the meta device no weight is drawn that would be overwritten at once.
    with torch.device("meta"):
        model: nn.Module = module.build(spec)
    return model.eval()


def build_initialized_twin(spec: ModelSpec, *, seed: int) -> nn.Module:
    """Build the registered twin with the weights that PyTorch's own initialisers draw."""
    module = importlib.import_module(f"parity.network.models.{spec.family}.torch")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: nn.Module = module.build(spec)
    return model


def build_from_callable(callable_path: str) -> nn.Module:
    """Call the user's `module:callable`, and put its module in eval mode.

    Raises `UsageError` if that is no `torch.nn.Module`.
    """
    model = callables.call(callable_path)
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"'{callable_path}': expected a torch.nn.Module, found {type(model).__name__}"
        )
    return model.eval()
