"""What to build: `ModelSpec`, and the registry of architectures under `network.models`."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import parity.network.models
from parity.errors import SpecError
from parity.text import closest, did_you_mean, quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from parity.network.table import LayerTable


@dataclass(frozen=True)
class Size:
    """How many numbers a model has: those that are trained, and batch-norm's running statistics."""

    parameters: int
    statistics: int

    @property
    def total(self) -> int:
        """What Keras's `count_params` counts."""
        return self.parameters + self.statistics


@dataclass(frozen=True)
class ModelSpec:
    """One architecture at one size; each family of `parity.network.models` adds its own fields.

    `image_size` is (height, width) in pixels. Raises `SpecError` for a size that cannot be built.
    """

    name: str
    classes: int = 1000
    image_size: tuple[int, int] = (224, 224)
    channels: int = 3

    family: ClassVar[str]
    """The folder under `network.models` that holds the family's `spec`, `keras` and `torch`."""

    reference: ClassVar[str] = "torch"
    """The side that is the reference if nobody says otherwise: the one that is as it should be."""

    own_graphs: ClassVar[bool] = False
    """Whether graphs are exported with their weights, since variables are not one a table's row."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise SpecError(f"a model needs a name, found {self.name!r}")
        require_positive(self.name, "classes", self.classes)
        require_positive(self.name, "channels", self.channels)
        size = self.image_size
        if not isinstance(size, tuple) or len(size) != 2:
            raise SpecError(f"{self.name}: image size must be (height, width), found {size!r}")
        require_positive(self.name, "image height", size[0])
        require_positive(self.name, "image width", size[1])

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.channels, *self.image_size)

    @property
    def parameters(self) -> int:
        """How many numbers of the table are trained: running statistics are not counted."""
        return self.table().parameters

    @property
    def size(self) -> Size:
        """How large the model itself is: a variant has numbers that no row of its table has."""
        table = self.table()
        return Size(table.parameters, table.statistics)

    def table(self) -> LayerTable:
        """The layer table, in execution order, with the shapes at this size."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` turns back into an equal spec."""
        return {"family": self.family, **dataclasses.asdict(self)}


def require_positive(model: str, field: str, value: object) -> None:
    """Raise `SpecError` unless `value` is a whole number above 0 (True is none)."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SpecError(f"{model}: {field} must be a whole number above 0, found {value!r}")


def require_one_shape(where: str, *, shortcut: Sequence[int], branch: Sequence[int]) -> None:
    """Raise `SpecError` unless what an addition takes has one shape; `where` names the addition.

    Shapes are (C, H, W). Every framework would stretch an axis of size 1 to fit, without a word.
    """
    if tuple(shortcut) != tuple(branch):
        told = {"shortcut": shortcut, "branch": branch}
        texts = [f"the {side} {'×'.join(map(str, shape))}" for side, shape in told.items()]
        raise SpecError(
            f"{where}: {' and '.join(texts)} cannot be added, and are not broadcast; a block that "
            "strides or widens needs a projection on its shortcut, of the branch's stride and width"
        )


def window_size(size: int, *, kernel: int, stride: int, padding: int) -> int:
    """How many windows fit along an axis of `size`, padded on both sides: ⌊(n + 2p − k) / s⌋ + 1.

    Raises `SpecError` when none fits. The formula is that of Dumoulin & Visin, "A guide to
    convolution arithmetic for deep learning" (2016), relationship 6.
    """
    windows = (size + 2 * padding - kernel) // stride + 1
    if windows < 1:
        raise SpecError(
            f"a window of {kernel} does not fit into {size} + 2×{padding}: the image is too small"
        )
    return windows


def names() -> list[str]:
    """The names of all architectures, sorted."""
    return sorted(name for name in _registry() if "@" not in name)


def variants() -> list[str]:
    """The variants of architectures, `MODEL@VARIANT`, sorted: as they were published."""
    return sorted(name for name in _registry() if "@" in name)


def get(
    name: str,
    *,
    classes: int | None = None,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
) -> ModelSpec:
    """The architecture called `name`, at its published size where nothing else is asked for.

    Raises `SpecError` for an unknown name, with the closest ones, and for impossible sizes.
    """
    found = _registry().get(name)
    if found is None:
        hint = did_you_mean(_closest(name.lower()), otherwise="`parity models` lists them")
        raise SpecError(f"unknown model {quote(name)}{hint}")
    return dataclasses.replace(
        found,
        classes=found.classes if classes is None else classes,
        image_size=found.image_size if image_size is None else image_size,
        channels=found.channels if channels is None else channels,
    )


def from_json(data: Mapping[str, Any]) -> ModelSpec:
    """The spec that `ModelSpec.to_json` wrote down; raises `SpecError` if it is none."""
    fields = dict(data)
    family = fields.pop("family", None)
    classes = {type(spec).family: type(spec) for spec in _registry().values()}
    if family not in classes:
        raise SpecError(f"unknown model family {family!r}; known: {', '.join(sorted(classes))}")
    known = {field.name for field in dataclasses.fields(classes[family])}
    if fields.keys() != known:
        odd = ", ".join(sorted(fields.keys() ^ known))
        raise SpecError(f"the spec of a {family} has missing or unknown fields: {odd}")
    # JSON has no tuples, and no field of a spec is a list.
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }
    return classes[family](**values)


def _closest(name: str) -> list[str]:
    """At most three names: those that `name` begins, resnext50 for resnext50_32x4d, then others."""
    known_names = [*names(), *variants()] if "@" in name else names()
    begun = [known for known in known_names if name and known.startswith(name)]
    similar = closest(name, known_names, count=3)
    return list(dict.fromkeys(begun + similar))[:3]


@functools.cache
def _registry() -> dict[str, ModelSpec]:
    """Every architecture by name: the `ARCHITECTURES` of each family's `spec` module."""
    registry: dict[str, ModelSpec] = {}
    for family in pkgutil.iter_modules(parity.network.models.__path__):
        module = importlib.import_module(f"{parity.network.models.__name__}.{family.name}.spec")
        for spec in module.ARCHITECTURES:
            if spec.name in registry:
                raise SpecError(f"two architectures are called {spec.name!r}")
            registry[spec.name] = spec
    return registry
