"""The same runtime as parity's own, to its parent."""

from parity.runtimes.onnx.about import ABOUT as ABOUT
