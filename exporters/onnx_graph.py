"""ONNX graphs apart from their weights: the structure of a network, and putting weights into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Structure:
    """A traced graph in which every weight is an input that has the weight's own name.

    `model` is a valid ONNX model of a few hundred kilobytes: its inputs are the network's inputs
    and then the weights, its outputs the network's outputs and then the taps.
    """

    model: onnx.ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    taps: tuple[str, ...]
    unused: tuple[str, ...]  # weights that the model owns and this graph does not read

    @property
    def opset(self) -> int: ...

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name, in the framework's own layout."""

    def save(self, path: Path) -> None: ...

    @staticmethod
    def load(path: Path) -> Structure: ...


def inject(
    structure: Structure, weights: Mapping[str, Array], *, outputs: Sequence[str] = ()
) -> onnx.ModelProto:
    """Return the deployable graph: weights in, constant arithmetic done, nothing left over.

    `outputs` names taps that become outputs after the network's own.
    Raises ExportError naming weights that are missing, unexpected or of another shape or dtype.
    """


def add_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return a copy whose tensors `names` are outputs too, after the model's own."""


def add_metadata(model: onnx.ModelProto, properties: Mapping[str, str]) -> None:
    """Set metadata properties in place; a key that exists is replaced."""


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write atomically; above 2 GB the weights go to `<name>.data` beside it. Raises ExportError."""
