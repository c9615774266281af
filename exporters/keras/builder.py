"""New nodes in tf2onnx's graph, in the place of one."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper


class Builder:
    """Adds the nodes that take the place of one node, and makes the last its output."""

    def __init__(self, context: Any, node: Any) -> None:
        self.context = context
        self.name = node.name
        self.inputs = list(node.input)
        self.dtypes = list(node.output_dtypes)
        self.shapes = list(node.output_shapes)
        self.outputs = list(node.output)
        self.dtype = context.get_dtype(node.input[0])
        context.remove_node(node.name)
        self._count = 0

    @property
    def array_type(self) -> Any:
        """NumPy's type of the first input."""
        return helper.tensor_dtype_to_np_dtype(self.dtype)

    def _next_name(self, operator: str) -> str:
        self._count += 1
        return f"{self.name}/{operator}_{self._count}"

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add a constant, of the first input's type by default."""
        array = np.asarray(value, dtype or self.array_type)
        return str(self.context.make_const(self._next_name("const"), array).output[0])

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        node = self.context.make_node(
            operator, list(inputs), attr=attributes, name=self._next_name(operator)
        )
        return str(node.output[0])

    def finish(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> None:
        """Add the last node, whose output is that of the node that was replaced."""
        self.context.make_node(
            operator, list(inputs), attr=attributes, name=self.name, outputs=self.outputs[:1],
            shapes=self.shapes[:1], dtypes=self.dtypes[:1], domain=domain,
        )  # fmt: skip
