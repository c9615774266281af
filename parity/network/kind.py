"""A kind of layer as data: weights, hyperparameters, names in each framework, operator.

The kinds themselves are in `parity.network.kinds`, one file a family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

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
"""Inputs (N, C, H, W), (N, C) or (N, T, C), weights by role in PyTorch's axis orders, and
hyperparameters by name, complete with defaults; all in float64. Raises `ValueError` where they do
not fit together."""

Reader = Callable[..., Any]
"""Reads one hyperparameter of a framework's layer; None where the layer does not state it."""


def tuples_to_lists(value: Any) -> Any:
    """Return a value with all tuples in it turned into lists, as JSON has them."""
    return [tuples_to_lists(item) for item in value] if isinstance(value, tuple | list) else value


def to_pair(value: Any) -> list[int]:
    """Return the values for height and width; one number stands for both."""
    values = value if isinstance(value, tuple | list) else (value, value)
    return [int(item) for item in values]


def to_sizes(value: Any) -> list[int]:
    """Return the values for each spatial axis; one number stands for both axes of an image."""
    return to_pair(value) if isinstance(value, int) else [int(item) for item in value]


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
    """Whether it is a running statistic, measured on batches instead of trained."""

    # A tensor of another rank is returned unchanged: it belongs to a layer of another kind, which
    # the comparison of kinds and shapes reports.

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

    def canonical_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the canonical shape of a weight of this shape in Keras; see `from_keras`."""
        source = self.keras_axes or self.axes
        if not axes.fits(source, shape):
            return tuple(shape)
        return axes.reorder_shape(shape, source, self.axes)

    def keras_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape in Keras of a weight of this canonical shape."""
        if not axes.fits(self.axes, shape):
            return tuple(shape)
        return axes.reorder_shape(shape, self.axes, self.keras_axes or self.axes)


COMPLEX = "complex"
"""Of arithmetic with a complex operand, in a graph's hyperparameters: for each operand whether it
is complex. Complex tensors have an axis more, of the real and the imaginary part."""

BIAS = Role("bias", "bias", "bias")


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter of a kind, and its attribute in each framework.

    A framework without such an attribute has the default; None stands for no default.
    """

    name: str
    default: Any = None
    keras: str = ""
    torch: str = ""
    onnx: str = ""
    convert: Callable[[Any], Any] = tuples_to_lists
    """Converts a framework's value to the form that all frameworks share."""
    reshapes: bool = False
    """Whether it can change the shape of the output."""
    optional: bool = False
    """Whether a model may leave it unstated: PyTorch's function calls, whose arguments cannot be
    read, and frameworks without such a hyperparameter."""
    call_arguments: tuple[str, ...] = ()
    """Arguments of the layer's call that state another value than the default."""

    def attribute(self, framework: str) -> str:
        """Return its attribute in `keras`, `torch` or `onnx`; its own name where there is none.

        Functions of PyTorch call axes `dim`, those of Keras `axis`.
        """
        names = {"keras": self.keras, "torch": self.torch, "onnx": self.onnx}
        axis = {"keras": "axis", "torch": "dim"} if self.name in ("axis", "axes") else {}
        return names[framework] or axis.get(framework, self.name)


@dataclass(frozen=True)
class Kind:
    """One kind of layer. `compute` is its operator in float64 with NumPy."""

    name: str
    compute: Operator
    roles: tuple[Role, ...] = ()
    """In the order in which Keras numbers a layer's variables and ONNX a node's inputs."""
    hyperparameters: tuple[Hyperparameter, ...] = ()
    keras: tuple[str, ...] = ()
    """Classes of `keras.layers`; others with their module, `package.module.Class`."""
    keras_functions: tuple[str, ...] = ()
    """Functions that Keras's Activation layer, or a layer's `activation`, can name."""
    torch: tuple[str, ...] = ()
    """Classes of `torch.nn`; others with their module."""
    torch_functions: tuple[str, ...] = ()
    """Functions of `torch.nn.functional`, or else of `torch`, or else methods of its tensors."""
    onnx: tuple[str, ...] = ()
    """Operators of the domain `ai.onnx`."""
    condition: Callable[[Mapping[str, Any]], bool] | None = None
    """Whether a layer with these hyperparameters is of this kind, where kinds share a class name.
    """
    activation: bool = False
    """Whether it can follow any layer: one input, no weights, a default for every hyperparameter.
    """
    joins_branches: bool = False
    """Whether it has several inputs, in which branches end."""
    elementwise: str = ""
    """The verb for messages, `added`, if its inputs must have one shape; else empty."""
    passive: bool = False
    """Whether it changes no value in inference, so that one model may have it and another not."""
    pools_image: bool = False
    """Whether it pools the whole image to (N, C); PyTorch keeps two axes of length 1."""
    phrase: str = ""
    """Its name in a sentence, where that is not `name`."""
    family: str = ""
    """The family within which an alignment may pair it with another kind: `linear`, `average`,
    `product`, `attention`; empty for none. Every `activation` is of one family."""
    ordered: bool = False
    """Whether the order of its inputs matters."""
    landmark: str = ""
    """The name by which layers beside it are told apart, where both models write it alike."""
    moves_values: bool = False
    """Whether it moves values and computes none, so that an alignment looks through it."""
    maximum: str = ""
    """The kind that takes the maximum of the values whose mean this one takes."""
    torch_reduction: str = ""
    """The method of PyTorch's tensors that computes it over the axes that it is given."""
    has_kink: bool = False
    """Whether its derivative jumps, so that rounding may choose another one."""
    averages: bool = False
    """Whether it returns the mean of each channel's whole image."""
    keeps_order: bool = False
    """Whether its output has the same values in the same order, in another shape."""
    float32_setting: str = ""
    """The setting, of no model, with which the operator computes the places that it reads in
    float32, as runs in float32 do; empty where it computes none."""
    mixes_axes: bool = False
    """Whether its output has other axes than its inputs."""
    windowed: bool = False
    """Whether it reads windows of an image, so that padding before it is a part of it."""
    own_axes: bool = False
    """Whether its operator reads tensors with the axes that the model has, heads among them, and
    not channels first."""
    channels_second: bool = False
    """Whether its operator has the channels of (N, C, T) on axis 1."""
    affine: bool = False
    """Whether it multiplies each channel by a number, or adds one, in inference."""
    recurrent: bool = False
    """Whether it runs over time, with the weights of all its layers and directions, or is one step
    of such a layer."""
    step: bool = False
    """Whether it is one step of such a layer: it has the layer's weights, and gives other values.
    """
    gates: str = ""
    """The order of the gates in its weights, a letter each; empty for none."""
    applies_to_attention_scores: bool = False
    """Whether attention that is written as several operations may apply it to the scores."""
    returns_input: bool = False
    """Whether it returns its input in inference, of another type at most."""
    rearranges: bool = False
    """Whether each value of its output is one of its inputs', at another place."""
    reorders: bool = False
    """Whether it puts the values of its input at other places, and computes none."""
    number_verb: str = ""
    """The verb for messages, `multiplied by`, if its second input may be one number; else empty."""
    adds: bool = False
    """Whether it adds its inputs, a number or a weight."""
    factor: bool = False
    """Whether a number among its inputs is a factor, and not an offset."""
    selects: bool = False
    """Whether it gives each value of its second or third input, as the first one says."""
    python_operator: str = ""
    """Python's operator that computes it of two tensors, `+`; empty where there is none."""
    torch_method: bool = False
    """Whether PyTorch's tensors have an activation as a method."""
    statistics_over: Literal["", "axes", "groups", "channels"] = ""
    """What one mean or deviation, with which it normalises in inference, is taken of: the values of
    its `axes`, of a group of channels, of each channel; empty where it takes none."""
    gate: tuple[str, ...] = ()
    """The chain of kinds f of which it is x·f(x), as which models also write it."""
    written_as: tuple[frozenset[str], ...] = ()
    """The chain of kinds as which models also write it: each step has one input, which the step
    before alone makes; a step's kind is one of the set."""

    def role(self, name: str) -> Role:
        """Return the role called `name`; raises `ValueError` if the kind has no such weight."""
        for role in self.roles:
            if role.name == name:
                return role
        raise ValueError(f"a {self.name} has no {name!r}")

    def hyperparameter(self, name: str) -> Hyperparameter:
        """Return the hyperparameter called `name`; raises `ValueError` if there is none."""
        for each in self.hyperparameters:
            if each.name == name:
                return each
        raise ValueError(f"a {self.name} has no hyperparameter {name!r}")

    def complete(self, hyper: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values `hyper` with the defaults of those that are absent."""
        defaults = {s.name: s.default for s in self.hyperparameters if s.default is not None}
        return {**defaults, **hyper}

    def read(
        self, framework: str, layer: object, readers: Mapping[str, Reader], *context: Any
    ) -> dict[str, Any]:
        """Return the hyperparameters that a framework's layer states, by name.

        One that is not a plain attribute is read by `readers["kind.name"]` or `readers["name"]`,
        called with the layer and `context`.
        """
        found = {}
        for setting in self.hyperparameters:
            name = setting.name
            reader = readers.get(f"{self.name}.{name}") or readers.get(name)
            if reader is not None:
                value = reader(layer, *context)
            else:
                attribute = {"keras": setting.keras, "torch": setting.torch}[framework]
                value = getattr(layer, attribute, None) if attribute else None
                value = setting.default if value is None else value
            if value is not None:
                found[name] = setting.convert(value)
        return found
