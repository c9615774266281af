"""Whether what a checkpoint holds fits a layer table, and where the reason is certain, why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parity.errors import WeightError
from parity.network import architectures
from parity.text import printable

if TYPE_CHECKING:
    from parity.network.table import LayerTable

Found = Mapping[str, tuple[str, tuple[int, ...]]]
"""What a checkpoint holds, before any number is read: the dtype's name and the shape of each."""

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""


def counters(table: LayerTable) -> tuple[str, ...]:
    """The names of torchvision's counters of batches, one a batch-norm layer; int64 scalars."""
    means = (weight.name for _, weight in table.weights() if weight.role == "mean")
    return tuple(f"{name.rpartition('.')[0]}.num_batches_tracked" for name in means)


def require_fit(found: Found, table: LayerTable, *, source: str) -> None:
    """Raise `WeightError`, saying what differs, unless names, shapes and dtypes are the table's."""
    expected: Found = {weight.name: ("float32", weight.shape) for _, weight in table.weights()}
    optional: Found = dict.fromkeys(counters(table), ("int64", ()))
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
    told = [f"{len(items)} {what}: {listed(items)}" for what, items in complaints.items() if items]
    if told:
        reason = _reason(found, table)
        raise WeightError(f"{source}: {'. '.join(told)}" + (f". {reason}" if reason else ""))


def listed(items: list[str], *, first: int = 3) -> str:
    """The first few items, and how many more there are."""
    rest = len(items) - first
    return "; ".join(items[:first]) + (f" and {rest} more" if rest > 0 else "")


def _reason(found: Found, table: LayerTable) -> str:
    """Why a checkpoint does not fit, and the remedy; empty unless it is certain."""
    for prefix in PREFIXES:
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
    """The classes and input channels of a checkpoint, and which of them the table has otherwise."""

    classes: int
    channels: int
    changes: list[str]

    def __str__(self) -> str:
        return " and ".join(f"{name}={getattr(self, name)}" for name in self.changes)


def _sizes(found: Found, table: LayerTable) -> _Sizes | None:
    """How many classes and channels the checkpoint's names and shapes take; None if none fit.

    Channels are the second axis of the first convolution, classes the first axis of whatever the
    last layer holds, if that is dense.
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
    ignored = set(counters(table))
    if expected != {name: shape for name, (_, shape) in found.items() if name not in ignored}:
        return None
    sizes = {"classes": (classes, head.shape[0]), "channels": (channels, stem.shape[1])}
    return _Sizes(classes, channels, [name for name, (new, old) in sizes.items() if new != old])


def _architectures(found: Found) -> Iterator[str]:
    """The registered architectures whose tables have these names and shapes."""
    for name in architectures.names():
        sizes = _sizes(found, architectures.get(name).table())
        if sizes is not None:
            yield f"{name} with {sizes}" if sizes.changes else name
