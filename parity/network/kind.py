"""What a kind of layer is: its weights, settings and names in each framework, and its operator.

The kinds themselves are in `parity.network.kinds`, one file a family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parity.network import axes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    AnyArray = NDArray[np.generic[Any]]

Operator = Callable[
    [Sequence["Array"], Mapping[str, "Array"], Mapping[str, Any]],
    "Array",
]
"""Inputs (N, C, H, W), (N, C) or (N, T, C), weights by role in PyTorch's axis orders, and settings
by name, complete with defaults; all in float64. Raises `ValueError` where they do not fit."""

Reader = Callable[..., Any]
"""Reads one setting of a framework's layer; None where the layer does not state it."""


def plain(value: Any) -> Any:
    """Return a setting as JSON has it: tuples as lists."""
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def pair(value: Any) -> list[int]:
    """Return a setting of two spatial axes, which one number can stand for."""
    values = value if isinstance(value, tuple | list) else (value, value)
    return [int(item) for item in values]


@dataclass(frozen=True)
class Role:
    """One weight of a kind, its names, and the order of its axes (see `parity.network.axes`).

    The canonical order is PyTorch's; the others are equal to it unless they are given.
    """

    name: str
    keras: str
    """The name of Keras's variable."""
    torch: str
    """The name in the module's state dict."""
    axes: str = "C"
    keras_axes: str = ""
    onnx_axes: str = ""
    outputs: int = 0
    """The canonical axis of the layer's output channels."""
    statistic: bool = False
    """Whether it is measured on batches instead of trained."""

    # A tensor whose rank is not the role's comes back as it is: it is of a layer of another kind,
    # which the checks of kinds and of shapes name.

    def to_keras(self, value: AnyArray, *, shape: Sequence[int] = ()) -> AnyArray:
        """Reorder a canonical weight to Keras's axes; `shape` is the Keras variable's, if known."""
        if not axes.fits(self.axes, value.shape):
            return value
        return axes.reorder(value, self.axes, self.keras_axes or self.axes, shape=shape)

    def from_keras(self, value: AnyArray) -> AnyArray:
        """Reorder a Keras weight to the canonical axes."""
        source = self.keras_axes or self.axes
        return axes.reorder(value, source, self.axes) if axes.fits(source, value.shape) else value

    def from_onnx(self, value: AnyArray) -> AnyArray:
        """Reorder the weight of an ONNX node to the canonical axes."""
        source = self.onnx_axes or self.axes
        return axes.reorder(value, source, self.axes) if axes.fits(source, value.shape) else value

    def keras_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape in Keras of a weight of this canonical shape."""
        if not axes.fits(self.axes, shape):
            return tuple(shape)
        return axes.reorder_shape(shape, self.axes, self.keras_axes or self.axes)


BIAS = Role("bias", "bias", "bias")


@dataclass(frozen=True)
class Hyper:
    """One setting that decides what a layer computes, and its attribute in each framework.

    A framework that has no such attribute has the default; None is no default.
    """

    name: str
    default: Any = None
    keras: str = ""
    torch: str = ""
    onnx: str = ""
    form: Callable[[Any], Any] = plain
    """Brings what a framework holds into the form that is common to all."""
    reshapes: bool = False
    """Whether it can change the shape of the output."""
    optional: bool = False
    """Whether a model that does not state it passes: what PyTorch writes as a function call, of
    which nothing can be read, and frameworks that have no such setting."""

    def attribute(self, framework: str) -> str:
        """Return what `keras`, `torch` or `onnx` calls this setting; the own name where unknown."""
        names = {"keras": self.keras, "torch": self.torch, "onnx": self.onnx}
        return names[framework] or self.name


@dataclass(frozen=True)
class Kind:
    """One kind of layer. `compute` is its operator in float64 with NumPy."""

    name: str
    compute: Operator
    roles: tuple[Role, ...] = ()
    """In the order in which Keras numbers a layer's variables and ONNX a node's inputs."""
    hyper: tuple[Hyper, ...] = ()
    keras: tuple[str, ...] = ()
    """Classes of `keras.layers`; others with their module, `package.module.Class`."""
    keras_functions: tuple[str, ...] = ()
    """Functions that Keras's Activation layer, or a layer's `activation`, can name."""
    torch: tuple[str, ...] = ()
    """Classes of `torch.nn`; others with their module."""
    torch_functions: tuple[str, ...] = ()
    """Functions of `torch.nn.functional`, or else of `torch`."""
    onnx: tuple[str, ...] = ()
    """Operators of the domain `ai.onnx`."""
    when: Callable[[Mapping[str, Any]], bool] | None = None
    """Of several kinds that share a name, which is it? Given the settings, says whether this."""
    activation: bool = False
    """Whether it can follow any layer: one input, no weights, every setting with a default."""
    joins: bool = False
    """Whether it has several inputs: branches end in it."""
    elementwise: str = ""
    """Of a join whose inputs have one shape, what is done to them: they are `added`."""
    passive: bool = False
    """Whether it changes no value in inference: one framework may need it, another not."""
    pools_image: bool = False
    """Whether it leaves one value a channel, (N, C); PyTorch keeps two axes of length 1."""
    words: str = ""
    """What a sentence calls such a layer, where that is not the name."""
    averages: bool = False
    """Whether it sums up each channel's whole image, and divides by the number of values."""

    def role(self, name: str) -> Role:
        """Return the role called `name`; raises `ValueError` if the kind has no such weight."""
        for role in self.roles:
            if role.name == name:
                return role
        raise ValueError(f"a {self.name} has no {name!r}")

    def setting(self, name: str) -> Hyper:
        """Return the setting called `name`; raises `ValueError` if the kind has no such setting."""
        for setting in self.hyper:
            if setting.name == name:
                return setting
        raise ValueError(f"a {self.name} has no setting {name!r}")

    def complete(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings with the defaults of those that are absent."""
        defaults = {s.name: s.default for s in self.hyper if s.default is not None}
        return {**defaults, **settings}

    def read(
        self, framework: str, layer: object, readers: Mapping[str, Reader], *context: Any
    ) -> dict[str, Any]:
        """Return the settings that a framework's layer states, by name.

        One that is no plain attribute is read by `readers["kind.setting"]` or `readers["setting"]`,
        called with the layer and `context`.
        """
        found = {}
        for setting in self.hyper:
            name = setting.name
            reader = readers.get(f"{self.name}.{name}") or readers.get(name)
            if reader is not None:
                value = reader(layer, *context)
            else:
                attribute = {"keras": setting.keras, "torch": setting.torch}[framework]
                value = getattr(layer, attribute, None) if attribute else None
                value = setting.default if value is None else value
            if value is not None:
                found[name] = setting.form(value)
        return found
