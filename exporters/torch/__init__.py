"""PyTorch modules to ONNX, through torch.export and torch.onnx's current exporter."""
