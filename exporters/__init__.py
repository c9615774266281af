"""Exporters: a framework's model in, a verified ONNX file out.

`keras_onnx` and `torch_onnx` are their public faces; importing this package alone loads no
framework. Of `parity` they know the arithmetic of the rounding floor and nothing else.
"""
