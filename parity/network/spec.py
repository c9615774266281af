"""The description of an architecture to build, `ModelSpec`, and checks that families share."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from parity.errors import ArchitectureError
from parity.text import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from parity.network.table import LayerTable


@dataclass(frozen=True)
class Size:
    """The number of a model's trained parameters, and of batch-norm's running statistics."""

    parameters: int
    statistics: int

    @property
    def total(self) -> int:
        """Both together, as Keras's `count_params` counts them."""
        return self.parameters + self.statistics


@dataclass(frozen=True)
class InputForm:
    """The shape and the dtype of a model's one input; None for an axis of any length."""

    shape: tuple[int | None, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class ModelSpec:
    """One architecture at one size; each family of `parity.network.models` adds its own fields.

    `image_size` is (height, width) in pixels. Raises `ArchitectureError` for a size that cannot be
    built.
    """

    name: str
    classes: int = 1000
    image_size: tuple[int, int] = (224, 224)
    channels: int = 3

    family: ClassVar[str]
    """The folder under `network.models` that holds the family's `spec`, `keras` and `torch`."""

    has_table: ClassVar[bool] = True
    """Whether the family writes a layer table; without one its twins are read and paired."""

    default_reference: ClassVar[str] = "torch"
    """The side that is the reference unless the user names one."""

    exports_weights: ClassVar[bool] = False
    """Whether graphs are exported with their weights: a variant's variables are not those of rows.
    """

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ArchitectureError(f"a model needs a name, found {self.name!r}")
        require_positive(self.name, "classes", self.classes)
        require_positive(self.name, "channels", self.channels)
        size = self.image_size
        if not isinstance(size, tuple) or len(size) != 2:
            raise ArchitectureError(
                f"{self.name}: image size must be (height, width), found {size!r}"
            )
        require_positive(self.name, "image height", size[0])
        require_positive(self.name, "image width", size[1])

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.channels, *self.image_size)

    @property
    def input_form(self) -> InputForm:
        """The input as PyTorch's twin takes it."""
        return InputForm((None, *self.input_shape))

    @property
    def parameters(self) -> int:
        """The number of trained parameters in the table; running statistics are not counted."""
        return self.table().parameters

    @property
    def size(self) -> Size:
        """The size of the model itself; a variant has parameters that no row of its table has."""
        table = self.table()
        return Size(table.parameters, table.statistics)

    def table(self) -> LayerTable:
        """The layer table, in execution order, with the shapes at this size."""
        raise NotImplementedError

    def table_for(self, sides: Sequence[str]) -> LayerTable:
        """The layer table of the models of these frameworks alone.

        A variant whose model in one framework has other weights than the published one has them
        in the table of that framework.
        """
        return self.table()

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` turns back into an equal spec."""
        return {"family": self.family, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class GraphSpec(ModelSpec):
    """An architecture without a layer table: its twins are read into graphs, which are paired.

    A family states its `size`.
    """

    has_table: ClassVar[bool] = False

    @property
    def parameters(self) -> int:
        return self.size.parameters

    @property
    def size(self) -> Size:
        raise NotImplementedError

    def table(self) -> LayerTable:
        """Raise `ArchitectureError`: the layers are known once the models have been read."""
        raise ArchitectureError(
            f"{self.name} has no layer table: `parity align` prints the pairs of its layers"
        )


LARGEST = 2**20
"""The largest size of a model; beyond it no array can be allocated, and no model has it."""


def require_positive(model: str, field: str, value: object) -> None:
    """Raise `ArchitectureError` unless `value` is an integer from 1 to `LARGEST`; booleans are
    none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ArchitectureError(
            f"{model}: {field} must be a whole number above 0, found {quote(value)}"
        )
    if value > LARGEST:
        # No decimal digits of it: a number of thousands of them cannot be printed.
        raise ArchitectureError(
            f"{model}: {field} must be at most {LARGEST:,}, found a larger number"
        )


def require_one_shape(where: str, *, shortcut: Sequence[int], branch: Sequence[int]) -> None:
    """Raise `ArchitectureError` unless both inputs of an addition have one shape; `where` names the
    addition.

    Shapes are (C, H, W). Every framework would silently broadcast an axis of size 1.
    """
    if tuple(shortcut) != tuple(branch):
        inputs = {"shortcut": shortcut, "branch": branch}
        texts = [f"the {side} {'×'.join(map(str, shape))}" for side, shape in inputs.items()]
        raise ArchitectureError(
            f"{where}: {' and '.join(texts)} cannot be added, and are not broadcast; a block that "
            "strides or widens needs a projection on its shortcut, of the branch's stride and width"
        )


def window_size(size: int, *, kernel: int, stride: int, padding: int) -> int:
    """Return the number of windows along an axis padded on both sides: ⌊(n + 2p − k) / s⌋ + 1.

    Raises `ArchitectureError` when none fits. The formula is that of Dumoulin & Visin, "A guide to
    convolution arithmetic for deep learning" (2016), relationship 6.
    """
    windows = (size + 2 * padding - kernel) // stride + 1
    if windows < 1:
        raise ArchitectureError(
            f"a window of {kernel} does not fit into {size} + 2×{padding}: the image is too small"
        )
    return windows
