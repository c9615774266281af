"""The Keras model beside the variant: ResNeXt itself."""

from parity.models.resnet.keras import build

__all__ = ["build"]
