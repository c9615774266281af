"""The child's side of NumPy."""
