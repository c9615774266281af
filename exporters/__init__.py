"""Exporters: a model of one framework in, a checked ONNX file out; they know nothing of `parity`."""
