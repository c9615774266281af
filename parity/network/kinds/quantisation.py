"""Quantisation: floating tensors to integers and back, as ONNX writes it into a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.network.arrays import along_axis
from parity.network.kind import Hyperparameter, Kind

Array = NDArray[np.float64]

_RANGES = {
    "uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767),
}  # fmt: skip


def _steps(data: Array, hyper: Mapping[str, Any]) -> tuple[Array, Array]:
    """Return the scale and the zero point, along `axis` where there is one for each channel."""
    found = [np.asarray(hyper[name], np.float64) for name in ("scale", "zero_point")]
    scale, zero = (
        along_axis(each, data, int(hyper["axis"])) if each.size > 1 else each.reshape(())
        for each in found
    )
    return scale, zero


def _quantise(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    """Return x / scale rounded half to even, plus the zero point, within the range of `dtype`."""
    if hyper["dtype"] not in _RANGES:
        raise ValueError(f"there is no operator for the type {hyper['dtype']!r}")
    scale, zero = _steps(inputs[0], hyper)
    low, high = _RANGES[hyper["dtype"]]
    return np.asarray(np.clip(np.round(inputs[0] / scale) + zero, low, high))


def _dequantise(
    inputs: Sequence[Array], weights: Mapping[str, Array], hyper: Mapping[str, Any]
) -> Array:
    scale, zero = _steps(inputs[0], hyper)
    return np.asarray((inputs[0] - zero) * scale)


_SETTINGS = (
    Hyperparameter("scale"),
    Hyperparameter("zero_point", 0),
    Hyperparameter("axis", 1, optional=True),
)

KINDS = (
    Kind(
        "quantize",
        _quantise,
        hyperparameters=(*_SETTINGS, Hyperparameter("dtype", "uint8")),
        onnx=("QuantizeLinear",),
    ),
    Kind("dequantize", _dequantise, hyperparameters=_SETTINGS, onnx=("DequantizeLinear",)),
)
