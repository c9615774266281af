"""The state of a comparison of graphs, as plain data."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from parity.comparison.graphs.inputs import InputArrays
from parity.comparison.graphs.points import GraphTable
from parity.comparison.graphs.request import GraphRequest, GraphSubject
from parity.comparison.placement import Placement
from parity.network.alignment import Alignment
from parity.network.graph import Graph
from parity.numerics.npz import load_npz

Array = NDArray[Any]


@dataclass(frozen=True)
class SubjectModel:
    """A model that its child has loaded and read."""

    subject: GraphSubject
    graph: Graph
    inputs: InputArrays
    input_file: Path
    brings_weights: bool
    versions: Mapping[str, str]
    seconds: float
    notes: tuple[str, ...] = ()
    record: Any = None
    """What its child knows of the recorded run, as JSON data: see `restore_graph`."""


@dataclass(frozen=True)
class PreparedModels:
    """Models that were read, paired and given their weights, before they are run."""

    subjects: tuple[GraphSubject, ...]
    """Those that were asked for, in order."""
    base: str
    """The name of the reference's model."""
    models: Mapping[str, SubjectModel]
    alignments: Mapping[str, Alignment]
    """By model, from the reference to it."""
    weights: Mapping[str, Path]
    """By model, an `.npz` file of its weights."""
    weight_source: str
    notes: tuple[str, ...] = ()


KEPT_WEIGHT_BYTES = 2**30
"""The bytes of weights that are kept once they are read, beside those of the last two files."""


class WeightFiles:
    """Reads the `.npz` files of weights; those that were read last are kept."""

    def __init__(self) -> None:
        self._kept: dict[Path, dict[str, Array]] = {}
        self._checksums: dict[Path, str] = {}
        self._lock = threading.Lock()

    def hash(self, path: Path) -> str:
        """Return the SHA-256 of a file, which is computed once: several threads state it."""
        with self._lock:
            if path not in self._checksums:
                with path.open("rb") as file:
                    self._checksums[path] = hashlib.file_digest(file, "sha256").hexdigest()
            return self._checksums[path]

    def load(self, path: Path) -> dict[str, Array]:
        """Return the weights of a file by name, which must not be changed."""
        with self._lock:
            values = self._kept.pop(path, None)
            if values is None:
                values = load_npz(path)
            self._kept[path] = values
            while len(self._kept) > 2 and self._count_bytes() > KEPT_WEIGHT_BYTES:
                self._kept.pop(next(iter(self._kept)))
            return values

    def _count_bytes(self) -> int:
        return sum(array.nbytes for values in self._kept.values() for array in values.values())


@dataclass(frozen=True)
class GraphState:
    """The models, aligned and with their weights; the runs come later."""

    request: GraphRequest
    folder: Path
    reference: SubjectModel
    models: Mapping[str, SubjectModel]
    """By subject, those that are compared; the reference may be one of them."""
    alignments: Mapping[str, Alignment]
    """By subject, from the reference to it; none for the reference itself."""
    table: GraphTable
    weights: Mapping[str, Path]
    """By subject, an `.npz` file of its weights as they are compared, in its own names and axes."""
    weight_source: str
    placement: Placement = field(default_factory=lambda: Placement({}))
    failures: Mapping[str, str] = field(default_factory=dict)
    """By subject, why it could not be loaded, read or aligned."""
    weight_files: WeightFiles = field(default_factory=WeightFiles, compare=False)
    subjects: tuple[GraphSubject, ...] = ()
    """All that were asked for, in order."""
    notes: tuple[str, ...] = ()

    @property
    def weights_sha256(self) -> str:
        """The SHA-256 of the reference's weights; empty if they could not be read."""
        path = self.weights.get(self.reference.subject.name)
        return "" if path is None else self.weight_files.hash(path)

    @property
    def model_name(self) -> str:
        """The compared models, as the user named them."""
        return " | ".join(self.request.references)

    def load_weights(self, subject: str) -> dict[str, Array]:
        """Return a subject's weights by name, in its own axes; they must not be changed."""
        return self.weight_files.load(self.weights[subject])
