"""The PyTorch exporter's public face: trace a module, read its weights, export it to a file."""

from exporters.torch.export import export
from exporters.torch.module import weights
from exporters.torch.trace import trace

__all__ = ["export", "trace", "weights"]
