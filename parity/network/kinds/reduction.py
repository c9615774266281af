"""Reductions over axes: sums, means, extremes, variance, and the place of the largest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.kind import Hyperparameter, Kind, Operator

Array = NDArray[np.float64]


def _reduce(function: Callable[..., Any]) -> Operator:
    """Return the operator that reduces `axes`; all axes where none are given."""

    def compute(
        inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
    ) -> Array:
        axes = tuple(hyper["axes"]) or None
        return np.asarray(function(inputs[0], axis=axes, keepdims=hyper["keepdims"]))

    return compute


def _variance(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """The variance, whose divisor is the number of values less `correction`."""
    axes = tuple(hyper["axes"]) or None
    return np.asarray(
        np.var(inputs[0], axis=axes, keepdims=hyper["keepdims"], ddof=hyper["correction"])
    )


def _argmax(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """The index of the first largest value along `axis`."""
    found = np.argmax(inputs[0], axis=hyper["axis"], keepdims=hyper["keepdims"])
    return np.asarray(found, np.float64)


def _cumsum(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    return np.cumsum(inputs[0], axis=hyper["axis"])


def _norm(data: Array, **options: Any) -> Any:
    return np.sqrt(np.sum(data**2, **options))


_AXES = Hyperparameter("axes", (), reshapes=True, optional=True)
"""The axes that are reduced, counted from 0 in the framework's own order; none stand for all."""
_AXIS = Hyperparameter("axis", -1, reshapes=True, optional=True)
_KEEP = Hyperparameter("keepdims", False, reshapes=True, optional=True, onnx="keepdims")


def _reduction(
    name: str,
    function: Callable[..., Any],
    torch: str,
    onnx: str,
    *,
    family: str = "",
    landmark: str = "",
    maximum: str = "",
) -> Kind:
    return Kind(
        name,
        _reduce(function),
        family=family,
        landmark=landmark,
        maximum=maximum,
        hyperparameters=(_AXES, _KEEP),
        torch_functions=tuple(torch.split()),
        onnx=(onnx,),
        # The first argument of a norm is its order.
        torch_reduction="" if function is _norm else torch,
    )


KINDS = (
    _reduction(
        "reduce_mean",
        np.mean,
        "mean",
        "ReduceMean",
        family="average",
        landmark="whole",
        maximum="reduce_max",
    ),
    _reduction("reduce_sum", np.sum, "sum", "ReduceSum"),
    _reduction("reduce_max", np.max, "amax", "ReduceMax", landmark="whole max"),
    _reduction("reduce_min", np.min, "amin", "ReduceMin"),
    _reduction("reduce_l2", _norm, "norm", "ReduceL2"),
    Kind(
        "variance",
        _variance,
        hyperparameters=(
            _AXES,
            Hyperparameter("keepdims", False, reshapes=True, optional=True),
            Hyperparameter("correction", 0, optional=True),
        ),
        torch_functions=("var",),
    ),
    Kind(
        "argmax",
        _argmax,
        hyperparameters=(_AXIS, _KEEP),
        torch_functions=("argmax",),
        onnx=("ArgMax",),
    ),
    Kind(
        "cumsum",
        _cumsum,
        hyperparameters=(Hyperparameter("axis", -1, optional=True),),
        torch_functions=("cumsum",),
        onnx=("CumSum",),
    ),
)
