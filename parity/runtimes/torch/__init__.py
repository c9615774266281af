"""The child's side of PyTorch."""
