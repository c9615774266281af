"""The interface that each framework implements, so that any of its models is read and run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from parity.network.graph import Graph
from parity.processes.graph_requests import ExportRequest

Array = NDArray[Any]

GraphHook = Callable[[str, Array], Array | None]
"""Receives the id and the values of a tensor as soon as it is computed, in the framework's own
axes. If it returns an array, of the same shape, the operations that follow read that one instead.
"""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input that a model takes.

    `shape` has None where an axis may have any length, and is None where the model states no shape.
    `dtype` is NumPy's name, empty where the model states none. `origin` says where this comes from:
    `declared` (the model states it), `example` (the callable returned it), `unknown`.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str
    origin: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        shape = None if self.shape is None else list(self.shape)
        return {"name": self.name, "shape": shape, "dtype": self.dtype, "origin": self.origin}


@dataclass(frozen=True, slots=True)
class GraphRun:
    """One run: its duration in seconds, and the device of the last output.

    `details` is what else the answer of the run says, by field: flags, proofs of the device,
    operators that were computed in another way.
    """

    seconds: float
    device: str
    details: Mapping[str, Any] = field(default_factory=dict)


class GraphFramework:
    """How one framework describes, records, copies and runs any model of its own.

    A model is whatever the framework runs; `model=None` stands for the one that the child has
    loaded. Arrays of inputs are by name: the names of `describe_inputs`.
    """

    def describe_inputs(self) -> list[InputSpec]:
        """Return the inputs in the order in which the model takes them."""
        raise NotImplementedError

    def example_inputs(self) -> dict[str, Array] | None:
        """Return the example inputs that came with the model, by name, or None."""
        raise NotImplementedError

    def guess_inputs(self, *, shapes: list[list[int]], enough: int = 64) -> dict[str, Any]:
        """Return the dtypes and axis orders of `shapes` under which a model that states none runs.

        "candidates" in the answer holds one entry an input for each. Raises `InputError` if there
        is none, or the framework's models state their inputs.
        """
        raise NotImplementedError

    def try_image_shapes(self, *, shapes: list[list[int]], enough: int) -> dict[str, Any]:
        """Return those of `shapes`, each (C, H, W), on which a model of one input runs.

        "shapes" in the answer has at most `enough` of them, in their order; "error" is why one
        did not run. A framework that cannot try them returns the first ones.
        """
        return {"shapes": shapes[:enough], "error": ""}

    def record(self, inputs: Mapping[str, Array]) -> Graph:
        """Run the model once, in inference mode, and return the graph of what it computed.

        Raises `InputError` where the inputs do not fit the model, and `GraphError` where the model
        raises; the message has the model's own error, file and line.
        """
        raise NotImplementedError

    def describe_record(self) -> Any:
        """Return what the last `record` left for the runs that follow, as JSON data."""
        return None

    def restore_record(self, inputs: Mapping[str, Array], record: Any) -> None:
        """Be as after a `record` on `inputs` that left what `describe_record` returned."""

    def run_tensors(
        self,
        inputs: Mapping[str, Array],
        tensors: Collection[str],
        hook: GraphHook,
        *,
        model: Any = None,
        device: str = "cpu",
    ) -> GraphRun:
        """Run once and give each of `tensors` (ids of the graph) to `hook` when it is computed.

        Raises `GraphError` for a tensor that this run did not compute: the model took another path.
        """
        raise NotImplementedError

    def copy_to_precision(self, precision: str, device: str = "cpu") -> Any:
        """Return a second model with the same weights that computes in `precision` on `device`.

        The first model is left as it is. Raises `PrecisionError` if it cannot compute in it.
        """
        raise NotImplementedError

    def trace_export(self, inputs: str, opset: int | None) -> Any:
        """Return the exporter's `Structure` of the model, which has none of its weights.

        `inputs` is an `.npz` file, for a module that states no shapes. Raises `ExportError`.
        """
        raise NotImplementedError

    def read_export_weights(self) -> Mapping[str, Any]:
        """Return the weights of a `Structure`, by the names that it has for them."""
        raise NotImplementedError

    def export_file(self, request: ExportRequest) -> Any:
        """Write the model as a verified ONNX file and return the exporter's `Export`.

        Raises the exporters' `ExportError`, and `UsageError` for an option that the framework's
        exporter lacks.
        """
        raise NotImplementedError

    def read_parameters(self, *, model: Any = None) -> dict[str, Array]:
        """Return copies of the floating weights and statistics by name, in the framework's own
        axes and dtype."""
        raise NotImplementedError

    def write_parameters(self, values: Mapping[str, Array], *, model: Any = None) -> None:
        """Set these weights, in the framework's own axes, and compare every bit with what the model
        then has.

        Others are left as they are. Values are cast to the dtype of the weight. Raises
        `WeightError` for a name that the model lacks, or another shape.
        """
        raise NotImplementedError
