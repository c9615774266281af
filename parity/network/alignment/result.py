"""The result of an alignment: pairs of nodes, of tensors and of weights, with their confidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from parity.network.alignment.transform import WeightTransform
from parity.network.rearrangement import Rearrangement


class Confidence(StrEnum):
    """How certain a pair is."""

    SURE = "sure"
    """The weights are equal, or the values agree, or no other pairing fits the structure."""
    PROBABLE = "probable"
    """The best pairing by structure, in a place where the two graphs differ."""
    AMBIGUOUS = "ambiguous"
    """Another pairing fits as well."""


@dataclass(frozen=True, slots=True)
class TensorPair:
    """Two tensors, by id, that have the same values if the models are equal.

    `rearrangement` turns the other's tensor into the reference's axes. `open` says that others fit
    the shapes as well, because axes have equal lengths and nothing names them.
    """

    reference: str
    other: str
    rearrangement: Rearrangement
    open: bool = False


@dataclass(frozen=True, slots=True)
class WeightPair:
    """Two weights, by parameter name; `transform` turns the reference's array into the other's."""

    reference: str
    other: str
    transform: WeightTransform


@dataclass(frozen=True, slots=True)
class NodePair:
    """The nodes of both graphs, by id, that compute the same: one each, or fused against split.

    `tensors` are the outputs of the nodes that both graphs have; `kind` is the kind of the
    reference's main node, and `other_kind` that of the other's. `folded` says that one side's
    weights contain what the other side has as separate layers, so that they are not one to one.
    """

    reference: tuple[str, ...]
    other: tuple[str, ...]
    tensors: tuple[TensorPair, ...]
    weights: tuple[WeightPair, ...]
    confidence: Confidence
    reason: str
    kind: str
    other_kind: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Alignment:
    """Which nodes, tensors and weights of two graphs are the same."""

    pairs: tuple[NodePair, ...]
    """In the reference's execution order."""
    unpaired_reference: tuple[str, ...] = ()
    """Ids of the reference's nodes without partner; pure shape operations are not listed."""
    unpaired_other: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Names of input ports, the other's by the reference's."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    input_rearrangements: Mapping[str, Rearrangement] = field(default_factory=dict)
    """By the reference's port: what turns the other's tensor into the reference's axes."""
    output_rearrangements: Mapping[str, Rearrangement] = field(default_factory=dict)
    ambiguous: tuple[tuple[str, ...], ...] = ()
    """Groups of the reference's node ids whose partners could be exchanged."""
    missing_parameters: tuple[str, ...] = ()
    """Names of the reference's parameters without partner, those of folded layers not listed."""
    surplus_parameters: tuple[str, ...] = ()
    """Names of the other's parameters without partner, those of folded layers not listed."""
    folded_parameters: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    """Names of both models' parameters that are in pairs but have no partner one to one."""
    assembly: object = field(default=None, repr=False, compare=False)
    """How the pairs were made, for `check_values`; absent in an alignment read from a file."""

    @property
    def weights(self) -> tuple[WeightPair, ...]:
        """The pairs of weights, each once."""
        every = (each for pair in self.pairs for each in pair.weights)
        return tuple(dict.fromkeys(every))

    @property
    def tensors(self) -> Iterator[tuple[NodePair, TensorPair]]:
        """Every pair of tensors, with the pair of nodes that makes it."""
        return ((pair, tensor) for pair in self.pairs for tensor in pair.tensors)

    def find(self, reference: str) -> NodePair | None:
        """Return the pair of one of the reference's nodes, or None."""
        return next((pair for pair in self.pairs if reference in pair.reference), None)
