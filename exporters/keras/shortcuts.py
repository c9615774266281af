"""What tf2onnx does again and again although nothing has changed, left out for the time of a call.

The result is the same. Of the time of a conversion it is about a third.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock


@contextmanager
def skip_repeated_work() -> Iterator[None]:
    """While open, tf2onnx searches, sorts and indexes less; see the functions below."""
    from tf2onnx import tfonnx
    from tf2onnx.graph import Graph
    from tf2onnx.graph_matcher import GraphMatcher

    resolve_functions = tfonnx.resolve_functions
    reset_nodes, match_op = Graph.reset_nodes, GraphMatcher.match_op

    def resolve(graph: Any) -> Any:
        """Return a graph's functions: where it has none, its nodes need not be read for them."""
        return resolve_functions(graph) if graph._functions else []

    def reset(self: Any, operations: Sequence[Any]) -> None:
        """Index a graph's nodes, unless they are as they were when that was done last.

        It is done after each of some forty rewriters, of which most change nothing.
        """
        state = _state_of(self, operations)
        if self._nodes != operations or state != getattr(self, _STATE, None):
            reset_nodes(self, operations)
            setattr(self, _STATE, state)
        self._nodes = operations

    def match(self: Any, operation: Any) -> Any:
        """Match a pattern at an operation; where its type is another, nothing is made for it."""
        pattern = self._pattern
        if pattern.op_type is not None and not self._is_op_type_same(operation, pattern):
            return None
        return match_op(self, operation)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(tfonnx, "resolve_functions", resolve))
        stack.enter_context(mock.patch.object(Graph, "reset_nodes", reset))
        stack.enter_context(mock.patch.object(GraphMatcher, "match_op", match))
        yield


_STATE = "_exporters_state"
"""The attribute of a tf2onnx graph with what it was indexed by."""


def _state_of(graph: Any, operations: Sequence[Any]) -> list[Any]:
    """Return what the index of a graph's nodes is made of."""
    parents, parent = [], graph.parent_graph
    while parent is not None:
        parents.append(parent)
        parent = parent.parent_graph
    state: list[Any] = [parents, list(graph.inputs), list(graph.outputs)]
    state += [(op, op.name, tuple(op.input), tuple(op.output)) for op in operations]
    return state
