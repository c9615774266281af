"""Seeded unit noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.network.inputs._input import Input, Shape, check_input_size, make_input

NAME = "random"


def accepts(source: Any) -> bool:
    """Return whether `source` is the word "random"."""
    return isinstance(source, str) and source == NAME


def load(source: Any, shape: Shape, *, batch: int | None, seed: int) -> Input:
    """Return standard normal noise, (batch or 1, C, H, W)."""
    full = (batch or 1, *shape)
    check_input_size(full)
    noise = np.random.default_rng(seed).standard_normal(full, np.float32)
    return make_input(NAME, noise, f"unit noise, seed {seed}")
