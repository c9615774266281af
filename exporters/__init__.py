"""Exporters: a framework's model in, a verified ONNX file out.

`export` takes a model of either framework; `keras_onnx` and `torch_onnx` are the two exporters,
which are imported by name. Importing this package alone loads no framework. Of `parity` they know
the arithmetic of the rounding floor and nothing else.
"""

from exporters.dispatch import export

__all__ = ["export"]
