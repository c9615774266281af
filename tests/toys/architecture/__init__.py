"""A toy family: a convolution, batch-norm, ReLU, the mean, a dense layer."""
