"""The Keras exporter's public face: trace a model, read its weights, export it to a file."""

from exporters.keras.export import export, weights
from exporters.keras.trace import trace

__all__ = ["export", "trace", "weights"]
