"""PyTorch networks of `torch_networks.py` with the same weights in every process: `seeded,NAME`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

import torch_networks


def seeded(name: str) -> Any:
    """Return the network called `name`, its batch norms with statistics that are not 0 and 1."""
    torch.manual_seed(0)
    built = getattr(torch_networks, name)()
    model = built[0] if isinstance(built, tuple) else built
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return built
