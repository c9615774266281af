"""ONNX graphs: structure and weights apart, simplified, written, and verified by running them.

What other packages use of a graph is here; ONNX Runtime is loaded by `verification` alone.
"""

from exporters.graph.injection import inject
from exporters.graph.model import WeightedModel, add_metadata, add_outputs, opset_of
from exporters.graph.serialization import atomic_path, split_off_large_tensors, to_bytes, write
from exporters.graph.structure import Structure

__all__ = [
    "Structure",
    "WeightedModel",
    "add_metadata",
    "add_outputs",
    "atomic_path",
    "inject",
    "opset_of",
    "split_off_large_tensors",
    "to_bytes",
    "write",
]
