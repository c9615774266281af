"""Editing a graph so that nodes read tensors that are fed from outside."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import ModelProto, TensorProto

SUFFIX = "/fed"
"""The end of a fed tensor's name."""


def add_feeds(model: ModelProto, names: Sequence[str]) -> tuple[ModelProto, tuple[str, ...]]:
    """Return a copy in which the readers of each tensor in `names` read an input `NAME/fed`.

    Also return the names that some node reads; the others need no feed. The tensors themselves are
    still computed, so that they can be captured.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    replaced = set(names)
    read = set()
    for node in copy.graph.node:
        for index, name in enumerate(node.input):
            if name in replaced:
                node.input[index] = name + SUFFIX
                read.add(name)
    known = {value.name: value for value in (*copy.graph.value_info, *copy.graph.output)}
    for name in names:
        if name in read:
            dtype = known[name].type.tensor_type.elem_type if name in known else 0
            feed = onnx.helper.make_tensor_value_info(
                name + SUFFIX, dtype or TensorProto.FLOAT, None
            )
            copy.graph.input.append(feed)
    return copy, tuple(name for name in names if name in read)
