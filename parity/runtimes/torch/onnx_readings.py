"""The PyTorch child's operations on an ONNX file, which it computes in place of a module.

ONNX itself is imported when such a file is loaded: an environment for PyTorch may lack it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from parity.network.graph import Graph
from parity.runtimes.graph_framework import GraphHook, GraphRun, InputSpec
from parity.runtimes.graph_operations import GraphOperations

if TYPE_CHECKING:
    from parity.runtimes.torch.onnx_graphs import OnnxReading

Array = NDArray[Any]


class OnnxFileDispatch(GraphOperations):
    """Operations of the PyTorch child: those of an ONNX file where it has loaded one.

    To be placed before the framework's own class among the bases: where the child's model is a
    PyTorch module, the next class answers.
    """

    reading: OnnxReading | None = None

    def load_reference(
        self,
        *,
        reference: Mapping[str, Any],
        trust: Sequence[str] = (),
        custom_objects: str | None = None,
        nested_example: bool = False,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Load the model that a user named; PyTorch computes the operations of an ONNX file."""
        target = Path(reference["target"])
        if reference.get("form", "file") != "file" or target.suffix != ".onnx":
            self.reading = None
            return super().load_reference(  # type: ignore[misc, no-any-return]
                reference=reference,
                trust=trust,
                custom_objects=custom_objects,
                nested_example=nested_example,
                seed=seed,
            )
        from parity.runtimes.torch.onnx_graphs import OnnxReading

        started = time.perf_counter()
        self.note_new_weights()
        self.reading = OnnxReading(target)
        return {"seconds": time.perf_counter() - started, "brings_weights": True}

    def describe_inputs(self) -> list[InputSpec]:
        if self.reading is None:
            return super().describe_inputs()
        return self.reading.describe_inputs()

    def example_inputs(self) -> dict[str, Array] | None:
        if self.reading is None:
            return super().example_inputs()
        return self.reading.example_inputs()

    def record(self, inputs: Mapping[str, Array]) -> Graph:
        if self.reading is None:
            return super().record(inputs)
        return self.reading.record(inputs)

    def run_tensors(
        self,
        inputs: Mapping[str, Array],
        tensors: Collection[str],
        hook: GraphHook,
        *,
        model: Any = None,
        device: str = "cpu",
    ) -> GraphRun:
        if self.reading is None:
            return super().run_tensors(inputs, tensors, hook, model=model, device=device)
        return self.reading.run_tensors(inputs, tensors, hook, model=model, device=device)

    def copy_to_precision(self, precision: str, device: str = "cpu") -> Any:
        if self.reading is None:
            return super().copy_to_precision(precision, device)
        return self.reading.copy_to_precision(precision, device)

    def read_parameters(self, *, model: Any = None) -> dict[str, Array]:
        if self.reading is None:
            return super().read_parameters(model=model)
        return self.reading.read_parameters(model=model)

    def write_parameters(self, values: Mapping[str, Array], *, model: Any = None) -> None:
        if self.reading is None:
            super().write_parameters(values, model=model)
        else:
            self.reading.write_parameters(values, model=model)
