"""The Keras model beside the variant: ResNeXt itself."""

from parity.network.models.resnet.keras import build

__all__ = ["build"]
