"""The check that a checkpoint has the names, shapes and dtypes of a layer table's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parity.errors import WeightError
from parity.network import architectures
from parity.text import printable

if TYPE_CHECKING:
    from parity.network.table import LayerTable

TensorTypes = Mapping[str, tuple[str, tuple[int, ...]]]
"""The dtype's name and the shape of each tensor of a checkpoint, by name."""

WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""The prefixes that DataParallel and torch.compile add to every name."""


def batch_counters(table: LayerTable) -> tuple[str, ...]:
    """Return the names of torchvision's batch counters, one a batch-norm layer; int64 scalars."""
    means = (weight.name for _, weight in table.weights() if weight.role == "mean")
    return tuple(f"{name.rpartition('.')[0]}.num_batches_tracked" for name in means)


def require_fit(found: TensorTypes, table: LayerTable, *, source: str) -> None:
    """Raise `WeightError`, with the differences, unless names, shapes and dtypes are
    the table's.
    """
    expected: TensorTypes = {
        weight.name: ("float32", weight.shape) for _, weight in table.weights()
    }
    optional: TensorTypes = dict.fromkeys(batch_counters(table), ("int64", ()))
    known = {**expected, **optional}
    both = [name for name in known if name in found]
    complaints = {
        "missing": [
            f"{name} {shape}" for name, (_, shape) in expected.items() if name not in found
        ],
        "unused": [
            f"{printable(name)} {shape}" for name, (_, shape) in found.items() if name not in known
        ],
        "mis-shaped": [
            f"{name} expected {known[name][1]}, found {found[name][1]}"
            for name in both
            if known[name][1] != found[name][1]
        ],
        "of another dtype": [
            f"{name} expected {known[name][0]}, found {found[name][0]}"
            for name in both
            if known[name][0] != found[name][0]
        ],
    }
    problems = [
        f"{len(items)} {what}: {join_first(items)}" for what, items in complaints.items() if items
    ]
    if problems:
        reason = _reason(found, table)
        raise WeightError(f"{source}: {'. '.join(problems)}" + (f". {reason}" if reason else ""))


def join_first(items: list[str], *, first: int = 3) -> str:
    """Return the first few items as text, and the number of the others."""
    rest = len(items) - first
    return "; ".join(items[:first]) + (f" and {rest} more" if rest > 0 else "")


def _reason(found: TensorTypes, table: LayerTable) -> str:
    """Return why a checkpoint does not fit, and the remedy; empty unless it is certain."""
    for prefix in WRAPPER_PREFIXES:
        if found and all(name.startswith(prefix) for name in found):
            return f"Every name begins with {prefix!r}: save the state dict of the model inside"
    sizes = _sizes(found, table)
    if sizes is None:
        fitting = " or ".join(_architectures(found))
        return f"The checkpoint is of another architecture: {fitting}" if fitting else ""
    if sizes.changes == ["classes"]:
        return f"The checkpoint has {sizes.classes} classes: pass --classes {sizes.classes}"
    if sizes.changes:
        return f"The checkpoint is of this architecture with {sizes}"
    return "Save the checkpoint in float32"


@dataclass(frozen=True)
class _Sizes:
    """The classes and input channels of a checkpoint; `changes` names those that the
    table lacks.
    """

    classes: int
    channels: int
    changes: list[str]

    def __str__(self) -> str:
        return " and ".join(f"{name}={getattr(self, name)}" for name in self.changes)


def _sizes(found: TensorTypes, table: LayerTable) -> _Sizes | None:
    """Return the classes and channels at which the table has the checkpoint's shapes, or None.

    Channels are the second axis of the first convolution's kernel, classes the first axis of the
    last layer's, if that is dense.
    """
    kernels = [(row, weight) for row, weight in table.weights() if weight.role == "kernel"]
    if not kernels or kernels[0][0].kind != "conv" or kernels[-1][0].kind != "dense":
        return None
    (_, stem), (head_row, head) = kernels[0], kernels[-1]
    shapes = [found[weight.name][1] if weight.name in found else () for weight in (stem, head)]
    if not shapes[1] or len(shapes[0]) < 2:
        return None
    channels, classes = shapes[0][1], shapes[1][0]
    expected = {weight.name: weight.shape for _, weight in table.weights()}
    expected[stem.name] = (stem.shape[0], channels, *stem.shape[2:])
    for weight in head_row.weights:
        expected[weight.name] = (classes, *weight.shape[1:])
    ignored = set(batch_counters(table))
    if expected != {name: shape for name, (_, shape) in found.items() if name not in ignored}:
        return None
    sizes = {"classes": (classes, head.shape[0]), "channels": (channels, stem.shape[1])}
    return _Sizes(classes, channels, [name for name, (new, old) in sizes.items() if new != old])


def _architectures(found: TensorTypes) -> Iterator[str]:
    """Yield the registered architectures whose tables have these names and shapes."""
    for name in architectures.names():
        sizes = _sizes(found, architectures.get(name).table())
        if sizes is not None:
            yield f"{name} with {sizes}" if sizes.changes else name
