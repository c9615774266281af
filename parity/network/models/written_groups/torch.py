"""The PyTorch model beside the variants: ResNeXt itself."""

from parity.network.models.resnet.torch import build

__all__ = ["build"]
