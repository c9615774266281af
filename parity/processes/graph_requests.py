"""The requests for runs of models that were read into graphs, as typed data and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from parity.network.rearrangement import Rearrangement

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic[Any]]


@dataclass(frozen=True)
class TensorPoint:
    """A comparison point in one subject: the id of a tensor in its graph, and its rearrangements.

    These give the tensor the axes of the comparison, applied in their order.
    """

    name: str
    tensor: str
    rearrangements: tuple[Rearrangement, ...] = ()

    def apply(self, array: Array) -> Array:
        """Return the subject's tensor with the axes of the comparison.

        Raises `ValueError` if a rearrangement does not fit it.
        """
        for rearrangement in self.rearrangements:
            array = rearrangement.apply(array)
        return array

    def invert(self, array: Array, shape: tuple[int, ...]) -> Array:
        """Return a tensor with the axes of the comparison as the subject has it, in `shape`."""
        shapes = [shape]
        for rearrangement in self.rearrangements:
            shapes.append(rearrangement.infer_shape(shapes[-1]))
        for rearrangement, before in zip(
            reversed(self.rearrangements), reversed(shapes[:-1]), strict=True
        ):
            array = rearrangement.invert(array, before)
        return array.reshape(shape)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        rearrangements = [rearrangement.to_json() for rearrangement in self.rearrangements]
        return {"name": self.name, "tensor": self.tensor, "views": rearrangements}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the point that `to_json` serialised."""
        return cls(data["name"], data["tensor"], tuple(map(Rearrangement.from_json, data["views"])))


@dataclass(frozen=True)
class GraphRunRequest:
    """One run of a subject, whose tensors are captured at the given points.

    `inputs` is an `.npz` file, one array for each input of the model, by name. `out` is the capture
    to write, with `manifest`. `feed` is a capture of the reference: after each point's tensor is
    captured, it is replaced by the reference's, so that every part between two points shows only
    its own error; but for those named in `unfed`, which keep the subject's own. `precision` is one
    of `parity.numerics.floor.PRECISION_FACTORS`. `constants` is an `.npz` file of the reference's
    constants, "values": see `parity.runtimes.constants`.
    """

    inputs: str
    points: tuple[TensorPoint, ...]
    out: str
    manifest: Mapping[str, Any] = field(default_factory=dict)
    feed: str | None = None
    unfed: tuple[str, ...] = ()
    device: str = "cpu"
    precision: str = "float32"
    constants: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {
            "inputs": self.inputs,
            "points": [point.to_json() for point in self.points],
            "out": self.out,
            "manifest": dict(self.manifest),
            "feed": self.feed,
            "unfed": list(self.unfed),
            "device": self.device,
            "precision": self.precision,
            "constants": self.constants,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the request of `to_json`'s data; raises TypeError for an unknown field."""
        points = tuple(map(TensorPoint.from_json, data["points"]))
        return cls(**{**data, "points": points, "unfed": tuple(data.get("unfed", ()))})


@dataclass(frozen=True)
class FloorRequest:
    """The measurement of the float32 rounding floors of a model at the given points.

    `reference` is the float64 capture of the same points and inputs. `terms` and `isolated_terms`
    hold, by point, the number of terms of the longest sum (`Floor.for_sum_length`). `whole` asks
    for the floors of whole runs, `isolate` for those of parts that are given the reference's input.
    `measured` are the points whose floors are wanted, `weights` the names of those to perturb; None
    stands for all.
    """

    inputs: str
    points: tuple[TensorPoint, ...]
    reference: str
    replicates: int
    seed: int
    terms: Mapping[str, float] = field(default_factory=dict)
    isolated_terms: Mapping[str, float] = field(default_factory=dict)
    isolate: bool = False
    whole: bool = True
    measured: tuple[str, ...] | None = None
    weights: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {
            "inputs": self.inputs,
            "points": [point.to_json() for point in self.points],
            "reference": self.reference,
            "replicates": self.replicates,
            "seed": self.seed,
            "terms": dict(self.terms),
            "isolated_terms": dict(self.isolated_terms),
            "isolate": self.isolate,
            "whole": self.whole,
            "measured": None if self.measured is None else list(self.measured),
            "weights": None if self.weights is None else list(self.weights),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the request of `to_json`'s data; raises TypeError for an unknown field."""
        points = tuple(map(TensorPoint.from_json, data["points"]))
        return cls(**{**data, "points": points})


@dataclass(frozen=True)
class ExportRequest:
    """The export of a loaded model to the ONNX file `path`.

    `inputs` is an `.npz` file of inputs by name, for a model that states no shapes; without it the
    model's own are used, or the example that came with it. `shapes` are those that the user gave,
    the batch first. `dynamic` names the sizes that vary, by input and axis. The other fields are
    those of the exporters.
    """

    path: str
    inputs: str | None = None
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    dynamic: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    fixed_batch: bool = False
    opset: int | None = None
    precision: str = "float32"
    external_data: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {
            "path": self.path,
            "inputs": self.inputs,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            # As pairs, since the keys of JSON are strings.
            "dynamic": {name: list(axes.items()) for name, axes in self.dynamic.items()},
            "fixed_batch": self.fixed_batch,
            "opset": self.opset,
            "precision": self.precision,
            "external_data": self.external_data,
            "metadata": dict(self.metadata),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the request of `to_json`'s data; raises TypeError for an unknown field."""
        dynamic = {
            name: {int(axis): size for axis, size in axes} for name, axes in data["dynamic"].items()
        }
        return cls(**{**data, "dynamic": dynamic})

    def exporter_options(self) -> dict[str, Any]:
        """Return the options that both exporters have."""
        options: dict[str, Any] = {} if self.opset is None else {"opset": self.opset}
        return {
            **options,
            "fixed_batch": self.fixed_batch,
            "precision": self.precision,
            "external_data": self.external_data,
            "metadata": dict(self.metadata),
        }


@dataclass(frozen=True)
class PieceCode:
    """A part of a model as the body of `run(inputs, weights, dtype)`, in a framework's own code.

    `lines` read `inputs[ID]`, an array in the framework's axes, for the tensors in `reads`, and
    `weights[NAME]`; they assign the array `result`. `labels` describe its operations, `imports` are
    the modules that it imports. `layers` is the number of layers and lines of the model's own code
    that the operations belong to.
    """

    lines: tuple[str, ...]
    reads: tuple[str, ...]
    labels: tuple[str, ...]
    imports: tuple[str, ...]
    layers: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {
            "lines": list(self.lines),
            "reads": list(self.reads),
            "labels": list(self.labels),
            "imports": list(self.imports),
            "layers": self.layers,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the code that `to_json` serialised."""
        lines, reads, labels, imports = (
            tuple(data[name]) for name in ("lines", "reads", "labels", "imports")
        )
        return cls(lines, reads, labels, imports, data["layers"])
