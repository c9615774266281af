"""The same runtime as parity's own, to its parent."""

from parity.runtimes.torch.about import ABOUT as ABOUT
