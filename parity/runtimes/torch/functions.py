"""PyTorch's functions by name: their arguments, and what a record makes of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

# The names of the arguments of functions that are written in C++, in their order. A star takes the
# rest. Methods have the same names, their tensor in the place of `input`.
_ARGUMENTS = """
conv1d input weight bias stride padding dilation groups
conv2d input weight bias stride padding dilation groups
conv3d input weight bias stride padding dilation groups
conv_transpose1d input weight bias stride padding output_padding groups dilation
conv_transpose2d input weight bias stride padding output_padding groups dilation
conv_transpose3d input weight bias stride padding output_padding groups dilation
linear input weight bias
addmm bias input weight
embedding weight input padding_idx
batch_norm input weight bias running_mean running_var training momentum eps
avg_pool1d input kernel_size stride padding ceil_mode count_include_pad
avg_pool2d input kernel_size stride padding ceil_mode count_include_pad divisor_override
avg_pool3d input kernel_size stride padding ceil_mode count_include_pad divisor_override
max_pool1d input kernel_size stride padding dilation ceil_mode
max_pool2d input kernel_size stride padding dilation ceil_mode
max_pool3d input kernel_size stride padding dilation ceil_mode
adaptive_avg_pool1d input output_size
adaptive_max_pool1d input output_size return_indices
adaptive_max_pool2d input output_size return_indices
adaptive_max_pool3d input output_size return_indices
layer_norm input normalized_shape weight bias eps
rms_norm input normalized_shape weight eps
group_norm input num_groups weight bias eps
gelu input *
softplus input beta threshold
prelu input weight
softmax input dim dtype
log_softmax input dim dtype
mean input *dim
sum input *dim
amax input dim keepdim
amin input dim keepdim
max input dim keepdim
min input dim keepdim
norm input p dim keepdim
var input dim unbiased keepdim
argmax input dim keepdim
cumsum input dim
add input other alpha
sub input other alpha
mul input other
div input other
floor_divide input other
remainder input other
pow input other
maximum input other
minimum input other
eq input other
ne input other
lt input other
le input other
gt input other
ge input other
logical_and input other
logical_or input other
matmul input other
bmm input other
mm input other
where condition input other
clamp input min max
clip input min max
clamp_min input min
clamp_max input max
cat tensors dim
concat tensors dim
concatenate tensors dim
stack tensors dim
reshape input *shape
view input *shape
flatten input start_dim end_dim
transpose input dim0 dim1
swapaxes input dim0 dim1
permute input *dims
movedim input source destination
moveaxis input source destination
t input
squeeze input *dim
unsqueeze input dim
expand input *size
broadcast_to input size
repeat input *repeats
tile input *repeats
narrow input dim start length
select input dim index
index_select input dim index
getitem input index
split input split_size_or_sections dim
split_with_sizes input split_size_or_sections dim
chunk input chunks dim
tensor_split input indices_or_sections dim
unbind input dim
roll input shifts dims
flip input *dims
pixel_shuffle input factor
pixel_unshuffle input factor
einsum equation *operands
scaled_dot_product_attention query key value attn_mask dropout_p is_causal scale enable_gqa
lstm input hx params has_biases num_layers dropout train bidirectional batch_first
gru input hx params has_biases num_layers dropout train bidirectional batch_first
rnn_tanh input hx params has_biases num_layers dropout train bidirectional batch_first
rnn_relu input hx params has_biases num_layers dropout train bidirectional batch_first
lstm_cell input hx w_ih w_hh b_ih b_hh
gru_cell input hx w_ih w_hh b_ih b_hh
rnn_tanh_cell input hx w_ih w_hh b_ih b_hh
rnn_relu_cell input hx w_ih w_hh b_ih b_hh
dropout input p train inplace
pad input pad mode value
to input *
type input dtype
unflatten input dim sizes
view_as input other
reshape_as input other
expand_as input other
masked_fill input mask value
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BY_NAME = {line.split()[0]: line.split()[1:] for line in _ARGUMENTS.strip().splitlines()}

_CASTS = _words(
    """
    to type type_as float double half bfloat16 long int short bool char byte
    """
)
_TRANSPARENT = _words(
    """
    contiguous clone detach cpu cuda requires_grad data alias lift_fresh as_subclass
    positive real resolve_conj resolve_neg pin_memory
    """
) | {"property data", "property real"}
_FIRST_ALONE = _words(
    """
    type_as expand_as view_as reshape_as
    """
)
_FACTORIES = _words(
    """
    zeros_like ones_like empty_like full_like rand_like randn_like randint_like
    new_zeros new_ones new_empty new_full new_tensor result_type
    """
)
_MAKERS = _words(
    """
    from_numpy tensor as_tensor asarray
    """
)
_VALUES = _words(
    """
    item is_nonzero equal allclose __bool__ __int__ __float__ __index__ __contains__
    bool int float index contains
    """
)
_ESCAPES = _words(
    """
    numpy tolist array __array__ __dlpack__ dlpack data_ptr
    """
)

_LAYERS = {
    **dict.fromkeys(
        _words(
            """
            linear bilinear layer_norm rms_norm group_norm instance_norm lstm gru rnn_tanh rnn_relu
            lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
            conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
            """
        ),
        1,
    ),
    "multi_head_attention_forward": 3,
}
"""By layer with weights, the number of tensors that it reads beside them; they come first."""


def is_cast(name: str) -> bool:
    """Return whether a function changes the dtype or the device alone."""
    return name in _CASTS


def is_transparent(name: str) -> bool:
    """Return whether a function's output is its input, under the same id."""
    return name in _TRANSPARENT


def reads_first_alone(name: str) -> bool:
    """Return whether a function reads the values of its first tensor alone."""
    return name in _FIRST_ALONE or name in _CASTS


def is_constant_factory(name: str) -> bool:
    """Return whether a function makes new values in the shape of its tensor."""
    return name in _FACTORIES


def count_layer_inputs(name: str) -> int:
    """Return how many of its first tensors a layer with weights reads beside them; else 0."""
    return _LAYERS.get(name, 0)


def projects(name: str) -> bool:
    """Return whether a function is a product with a kernel: a linear layer or a convolution."""
    return name in ("linear", "bilinear") or name.startswith("conv")


def makes_tensors(name: str) -> bool:
    """Return whether a function makes a tensor of values from outside of PyTorch."""
    return name in _MAKERS


def is_dropout(name: str) -> bool:
    """Return whether a function is a dropout: it is recorded where it changes nothing, too."""
    return name.rstrip("123d").endswith("dropout")


def reads_value(name: str) -> bool:
    """Return whether a function gives Python the value of a tensor, as `if` and `int` need it."""
    return name in _VALUES


def leaves_torch(name: str) -> bool:
    """Return whether a function gives a tensor's values to NumPy or to a list."""
    return name in _ESCAPES


def bind_arguments(
    func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call by name; `input`, `1`, `2`, … where none are known."""
    names: Sequence[str] | None = _BY_NAME.get(name)
    if inspect.isfunction(func) or names is None:
        # A Python function may take its arguments in another order than the one in C++.
        stated = _signature(func)
        names = stated if stated and not stated[0].startswith("*") else names
    names = names or ()
    found: dict[str, Any] = {}
    for index, value in enumerate(args):
        label = names[index] if index < len(names) else str(index) if index else "input"
        if label.startswith("*"):
            found[label[1:] or "rest"] = _join(args[index:])
            break
        found[label] = value
    aliases = {"self": "input", "axis": "dim", "keepdims": "keepdim"}
    return found | {aliases.get(key, key): value for key, value in kwargs.items()}


def _join(rest: Sequence[Any]) -> Any:
    """Return `(2, 3)` for both `f(2, 3)` and `f((2, 3))`; further arguments behind a list are not
    a part of it."""
    first = rest[0]
    if isinstance(first, tuple | list):
        return tuple(first)
    return tuple(rest)


@functools.cache
def _signature(func: Any) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):
        return ()
    names = [
        f"*{p.name}" if p.kind is p.VAR_POSITIONAL else p.name
        for p in parameters
        if p.kind is not p.KEYWORD_ONLY and p.kind is not p.VAR_KEYWORD
    ]
    return tuple("input" if name == "self" else name for name in names)


def permutation_of(
    name: str, source: torch.Tensor, output: torch.Tensor, order: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Return the order of a weight's axes after a function that may permute them, or None."""
    if is_cast(name) or is_transparent(name):
        return order
    if name in _TRANSPOSES and source.ndim == output.ndim == 2:
        return (order[1], order[0])
    return None


_TRANSPOSES = _words(
    """
    t transpose swapaxes permute
    """
) | {
    "property T", "property mT", "property H", "property mH",
}  # fmt: skip
