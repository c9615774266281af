"""The child's side of Keras."""
