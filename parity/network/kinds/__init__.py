"""The kinds of layers, one file a family, found here without a list.

A file of this folder holds `KINDS`, a tuple of `parity.network.kind.Kind`. A new kind needs no
other change. The files are imported at the first call.
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


def _no_operator(*_: Any) -> Any:
    raise ValueError("there is no operator for an unknown kind")


_UNKNOWN = Kind("", _no_operator)


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


def properties(name: str) -> Kind:
    """Return the kind called `name`; one without any property if there is none."""
    return find(name) or _UNKNOWN


def joins_branches(name: str) -> bool:
    """Return whether layers of this kind have several inputs; False for an unknown kind."""
    return properties(name).joins_branches


def role_names() -> frozenset[str]:
    """Return the names of the weights of all kinds."""
    return frozenset(role.name for kind in registry().values() for role in kind.roles)


def reshaping_hyperparameters() -> frozenset[str]:
    """Return the names of the hyperparameters that can change the shape of an output."""
    return frozenset(
        s.name for kind in registry().values() for s in kind.hyperparameters if s.reshapes
    )


def find_by_class(framework: str, name: str) -> tuple[Kind, ...]:
    """Return the kinds of a class of `keras` or `torch`, those with a condition first."""
    return _find_by_class(framework, name, tuple(__path__))


@functools.cache
def _find_by_class(framework: str, name: str, folders: tuple[str, ...]) -> tuple[Kind, ...]:
    found = [kind for kind in _registry(folders).values() if name in getattr(kind, framework)]
    return tuple(sorted(found, key=lambda kind: kind.condition is None))


def find_by_function(framework: str, name: str) -> Kind | None:
    """Return the kind of a function of `keras` or `torch`, or None."""
    functions = f"{framework}_functions"
    kinds = registry().values()
    return next((kind for kind in kinds if name in getattr(kind, functions)), None)


def find_by_operator(name: str) -> Kind | None:
    """Return the kind of an operator of ONNX, or None."""
    return next((kind for kind in registry().values() if name in kind.onnx), None)


def class_name(cls: type, public: object) -> str:
    """Return the name of a class as kinds state it: without its module if `public` exports it."""
    is_public = getattr(public, cls.__name__, None) is cls
    return str(cls.__name__) if is_public else f"{cls.__module__}.{cls.__qualname__}"


def evaluate(
    name: str,
    inputs: Sequence[Array],
    weights: Mapping[str, AnyArray],
    hyper: Mapping[str, Any],
) -> Array:
    """Return the output of a layer of the kind `name`, in float64.

    `inputs` are (N, C, H, W), (N, C) or (N, T, C), weights in PyTorch's axis orders. An
    `activation` among the hyperparameters `hyper` is applied to the output. Raises `ValueError`,
    `KeyError` or `IndexError` where the parts do not fit together.
    """
    kind = get(name)
    output = kind.compute(inputs, _in_float64(weights), kind.complete(hyper))
    activation = hyper.get("activation", "linear")
    return output if activation == "linear" else evaluate(activation, (output,), {}, {})


def _in_float64(weights: Mapping[str, AnyArray]) -> dict[str, Array]:
    # Weights are stored in float32, in which NumPy would then compute.
    return {role: value.astype("float64", copy=False) for role, value in weights.items()}
