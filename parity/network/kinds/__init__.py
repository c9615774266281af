"""Every kind of layer, one file a family, each found here without a list.

A file of this folder holds `KINDS`, a tuple of `parity.network.kind.Kind`. Nothing else has to know
of a new one. The files are imported when a kind is first asked for.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from parity.network.kind import Kind

if TYPE_CHECKING:
    from parity.network.kind import AnyArray, Array


def registry() -> Mapping[str, Kind]:
    """Return every kind by name; raises `ValueError` if two have one name."""
    return _registry(tuple(__path__))


@functools.cache
def _registry(folders: tuple[str, ...]) -> Mapping[str, Kind]:
    found: dict[str, Kind] = {}
    for file in sorted(module.name for module in pkgutil.iter_modules(folders)):
        for kind in importlib.import_module(f"{__name__}.{file}").KINDS:
            if kind.name in found:
                raise ValueError(f"parity/network/kinds/{file}.py: there is a {kind.name} already")
            found[kind.name] = kind
    return found


def find(name: str) -> Kind | None:
    """Return the kind called `name`, or None."""
    return registry().get(name)


def get(name: str) -> Kind:
    """Return the kind called `name`; raises `ValueError` if there is none."""
    kind = find(name)
    if kind is None:
        raise ValueError(f"there is no kind {name!r}")
    return kind


def joins(name: str) -> bool:
    """Return whether branches end in layers of this kind; no kind at all is none that they do."""
    kind = find(name)
    return kind is not None and kind.joins


def roles() -> frozenset[str]:
    """Return the names of all weights that some kind has."""
    return frozenset(role.name for kind in registry().values() for role in kind.roles)


def reshaping() -> frozenset[str]:
    """Return the names of all settings that can change the shape of an output."""
    return frozenset(s.name for kind in registry().values() for s in kind.hyper if s.reshapes)


def of_class(framework: str, name: str) -> tuple[Kind, ...]:
    """Return the kinds that a class of `keras` or `torch` can be, those with conditions first."""
    found = [kind for kind in registry().values() if name in getattr(kind, framework)]
    return tuple(sorted(found, key=lambda kind: kind.when is None))


def of_function(framework: str, name: str) -> Kind | None:
    """Return the kind that a function of `keras` or `torch` computes, or None."""
    functions = f"{framework}_functions"
    kinds = registry().values()
    return next((kind for kind in kinds if name in getattr(kind, functions)), None)


def class_name(cls: type, public: object) -> str:
    """Return how a class is named in a kind: bare if it is one of the module `public`."""
    is_public = getattr(public, cls.__name__, None) is cls
    return str(cls.__name__) if is_public else f"{cls.__module__}.{cls.__qualname__}"


def evaluate(
    name: str,
    inputs: Sequence[Array],
    weights: Mapping[str, AnyArray],
    settings: Mapping[str, Any],
) -> Array:
    """Return the output of a layer of the kind `name`, in float64.

    `inputs` are (N, C, H, W), (N, C) or (N, T, C), weights in PyTorch's axis orders. An
    `activation` among the settings is applied behind. Raises `ValueError`, `KeyError` or
    `IndexError` where the parts do not fit together.
    """
    kind = get(name)
    output = kind.compute(inputs, _in_float64(weights), kind.complete(settings))
    activation = settings.get("activation", "linear")
    return output if activation == "linear" else evaluate(activation, (output,), {}, {})


def _in_float64(weights: Mapping[str, AnyArray]) -> dict[str, Array]:
    # Weights come in float32, in which NumPy would then compute.
    return {role: value.astype("float64", copy=False) for role, value in weights.items()}
