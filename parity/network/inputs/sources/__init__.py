"""The sources of inputs, one file each, found here without a list.

A file holds `NAME`, which the report shows; `accepts(source)`, whether it can load this source; and
`load(source, shape, *, batch, seed)`, which returns an `Input` or raises `InputError`. With
`TAKES_PREPROCESSING` its `load` also takes `preprocess`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from pathlib import Path
from typing import Any, Protocol, cast

from parity.network.inputs._input import Array, Input, Shape
from parity.network.inputs.sources import photograph


class Source(Protocol):
    """A module of this folder."""

    NAME: str

    def accepts(self, source: Any) -> bool:
        """Return whether this file can load `source`."""

    def load(
        self, source: Any, shape: Shape, *, batch: int | None, seed: int, **settings: Any
    ) -> Input:
        """Return the input, (N, C, H, W), for a model that takes `shape`, (C, H, W)."""


def find(source: str | Path | Array | None) -> Source:
    """Return the source that can load `source`; the photograph for a file of unknown type.

    Pillow recognises pictures by their content, whatever their suffix, and names what is wrong.
    """
    matches = (module for module in modules() if module.accepts(source))
    return next(matches, cast("Source", photograph))


@functools.cache
def modules() -> tuple[Source, ...]:
    """Return every module of this folder, sorted by file name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(cast("Source", importlib.import_module(f"{__name__}.{name}")) for name in names)
