"""The families of kinds that a pairing treats as one, and the kinds that compute nothing."""

from __future__ import annotations

import functools

from parity.network import kinds
from parity.network.graph import Node

LINEAR = "linear"
ACTIVATION = "activation"
PRODUCT = "product"
ATTENTION = "attention"
INPUT = "input"
OUTPUT = "output"


def is_pass_through(node: Node) -> bool:
    """Return whether a node computes nothing or only moves values: a pairing looks through it."""
    kind = kinds.properties(node.kind)
    return kind.passive or kind.moves_values


def is_ordered(kind: str) -> bool:
    """Return whether the order of the inputs of this kind matters."""
    return kinds.properties(kind).ordered


def find_landmark(kind: str) -> str:
    """Return the name by which layers beside this kind are told apart, or an empty text."""
    return kinds.properties(kind).landmark


def is_step(one: str, other: str) -> bool:
    """Return whether one of two kinds is one step of the other, and they share weights alone."""
    return kinds.properties(one).step != kinds.properties(other).step


@functools.cache
def find_family(kind: str) -> str:
    """Return the family of a kind: kinds of one family can be partners."""
    found = kinds.find(kind)
    if found is None:
        return kind
    return found.family or (ACTIVATION if found.activation else kind)
