"""Exporters: a framework's model in, a checked ONNX file out; they know nothing of `parity`."""
