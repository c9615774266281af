"""The registered architectures: every `ARCHITECTURES` of a family under `network.models`."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

import parity.network.models
from parity.errors import ArchitectureError
from parity.network.spec import ModelSpec
from parity.text import closest, did_you_mean, quote


def names() -> list[str]:
    """Return the names of the architectures with a layer table, sorted."""
    return sorted(n for n, spec in _registry().items() if "@" not in n and spec.has_table)


def graph_names() -> list[str]:
    """Return the names of the architectures whose twins are read and paired, sorted."""
    return sorted(name for name, spec in _registry().items() if not spec.has_table)


def all_names() -> list[str]:
    """Return the names of all architectures and variants: those with a table first."""
    return [*names(), *graph_names(), *variants()]


def variants() -> list[str]:
    """Return the names of all published variants of architectures, `MODEL@VARIANT`, sorted."""
    return sorted(name for name in _registry() if "@" in name)


def get(
    name: str,
    *,
    classes: int | None = None,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
) -> ModelSpec:
    """Return the architecture called `name`; sizes that are not passed are the published ones.

    Raises `ArchitectureError` for an unknown name, with the closest ones, and for impossible sizes.
    """
    found = _registry().get(name)
    if found is None:
        hint = did_you_mean(_closest(name.lower()), otherwise="`parity models` lists them")
        raise ArchitectureError(f"unknown model {quote(name)}{hint}")
    return dataclasses.replace(
        found,
        classes=found.classes if classes is None else classes,
        image_size=found.image_size if image_size is None else image_size,
        channels=found.channels if channels is None else channels,
    )


def from_json(data: Mapping[str, Any]) -> ModelSpec:
    """Return the spec that `ModelSpec.to_json` returned as data; raises `ArchitectureError` if it
    is invalid.
    """
    fields = dict(data)
    family = fields.pop("family", None)
    classes = {type(spec).family: type(spec) for spec in _registry().values()}
    if family not in classes:
        raise ArchitectureError(
            f"unknown model family {family!r}; known: {', '.join(sorted(classes))}"
        )
    known = {field.name for field in dataclasses.fields(classes[family])}
    if fields.keys() != known:
        differing = ", ".join(sorted(fields.keys() ^ known))
        raise ArchitectureError(
            f"the spec of a {family} has missing or unknown fields: {differing}"
        )
    # JSON has no tuples, and no field of a spec is a list.
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }
    return classes[family](**values)


def _closest(name: str) -> list[str]:
    """Return at most three names: those that start with `name`, then those with
    similar spelling.
    """
    known_names = all_names() if "@" in name else [*names(), *graph_names()]
    prefixed = [known for known in known_names if name and known.startswith(name)]
    similar = closest(name, known_names, count=3)
    return list(dict.fromkeys(prefixed + similar))[:3]


@functools.cache
def _registry() -> dict[str, ModelSpec]:
    """Return every architecture by name: the `ARCHITECTURES` of each family's `spec` module."""
    registry: dict[str, ModelSpec] = {}
    for family in pkgutil.iter_modules(parity.network.models.__path__):
        module = importlib.import_module(f"{parity.network.models.__name__}.{family.name}.spec")
        for spec in module.ARCHITECTURES:
            if spec.name in registry:
                raise ArchitectureError(f"two architectures are called {spec.name!r}")
            registry[spec.name] = spec
    return registry
