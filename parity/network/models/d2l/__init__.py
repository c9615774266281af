"""The textbook's ResNet-18: convolutions with biases, projections without batch-norm."""
