"""Editing a graph so that parts of it are given tensors from outside."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import ModelProto, TensorProto

SUFFIX = "/fed"
"""What the name of a tensor from outside ends with."""


def add_feeds(model: ModelProto, names: Sequence[str]) -> tuple[ModelProto, tuple[str, ...]]:
    """A copy in which whoever read one of the tensors `names` reads an input `NAME/fed` instead.

    Also the names that some node reads: nothing behind the others depends on them. The tensors
    themselves are still made, so that they can be captured.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    wanted = set(names)
    read = set()
    for node in copy.graph.node:
        for index, name in enumerate(node.input):
            if name in wanted:
                node.input[index] = name + SUFFIX
                read.add(name)
    known = {value.name: value for value in (*copy.graph.value_info, *copy.graph.output)}
    for name in names:
        if name in read:
            kind = known[name].type.tensor_type.elem_type if name in known else 0
            feed = onnx.helper.make_tensor_value_info(
                name + SUFFIX, kind or TensorProto.FLOAT, None
            )
            copy.graph.input.append(feed)
    return copy, tuple(name for name in names if name in read)
