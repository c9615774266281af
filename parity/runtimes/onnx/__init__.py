"""The child's side of ONNX Runtime."""
