"""The interface that each framework implements, so that its child can load, run and export."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from parity.network.spec import ModelSpec
from parity.network.table import LayerTable, Row, Weight
from parity.network.trained_layout import TrainedLayout
from parity.processes.references import ModelReference
from parity.runtimes.floors import TensorHook
from parity.runtimes.loaded import LoadedModel

Array = NDArray[Any]


class ForwardResult(NamedTuple):
    """The time of a forward pass, and where its final output is."""

    seconds: float
    device: str
    """The device of the output, as the framework names it."""


class Framework:
    """How one framework builds, reads, writes, runs and exports a model.

    The operations that are the same for all frameworks are in `load`, `weights`, `run` and
    `export`.
    """

    name: str
    model: Any
    example: Any | None = None
    """The example inputs that came with the model: a tuple, list or dict, or one array."""
    loaded_example: Any | None = None
    """The same as the user's code gave it, of any structure."""
    table: LayerTable
    spec: ModelSpec | None = None
    layout: TrainedLayout | None = None
    """What `use_layout` said of a model that is no registered one; None of any other."""

    # Versions and devices ------------------------------------------------------------------------

    def versions(self) -> dict[str, str]:
        """Return the version of each package that affects the numbers."""
        raise NotImplementedError

    def pin_flags(self, precision: str, device: str, *, xla: bool = False) -> dict[str, Any]:
        """Set every flag that affects the arithmetic, read each one back, and return them.

        Raises `PrecisionError` for a flag that did not take effect.
        """
        raise NotImplementedError

    def list_devices(self) -> list[str]:
        """Return the names of the devices that this framework can compute on here."""
        raise NotImplementedError

    def require_device(self, *, device: str) -> dict[str, Any]:
        """Return the GPU and its libraries; raises `RequirementError` for what is missing."""
        raise NotImplementedError

    def release_memory(self) -> None:
        """Free the device memory that no tensor uses."""

    def is_out_of_memory(self, error: Exception) -> bool:
        """Return whether a framework's error means that a device has too little memory."""
        raise NotImplementedError

    # Models and their weights --------------------------------------------------------------------

    def build(self, spec: ModelSpec) -> Any:
        """Build the registered twin; its weights have no defined values."""
        raise NotImplementedError

    def build_from_callable(self, callable_path: str) -> Any:
        """Call the user's `module:callable` and return its model, in inference mode.

        Raises `UsageError` if that is no model of this framework.
        """
        raise NotImplementedError

    def load_model_reference(
        self,
        reference: ModelReference,
        *,
        trust: Sequence[str],
        custom_objects: str | None,
        seed: int = 0,
    ) -> LoadedModel:
        """Load what a user named, in inference mode on the CPU; `seed` is that of its own weights.

        `trust` are the files that may be loaded although they hold programs, `custom_objects` a
        Python file with what a Keras file needs. Raises `UsageError`, `WrongFrameworkError` for a
        model of another framework, and `WeightError` for a checkpoint that does not fit.
        """
        raise NotImplementedError

    def load_model_checkpoint(self, path: str) -> Sequence[str]:
        """Load a checkpoint into the model, which is not a registered one; return notes.

        Raises `WeightError` unless it has exactly the model's weights, in its own names.
        """
        raise NotImplementedError

    def save_model_checkpoint(self, path: Path) -> None:
        """Write the weights of the model, which is not a registered one, in the form of the suffix.

        Raises `WeightError` if the framework has no such form for this model.
        """
        raise NotImplementedError

    def build_replica(self, dtype: str) -> tuple[Any, Callable[[Mapping[str, Array]], None]]:
        """Build a second model of `dtype` on the CPU; also return a function that sets its weights.

        That function may keep the arrays that it is given.
        """
        raise NotImplementedError

    def copy_model(self, dtype: str) -> Any:
        """Return a second model of `dtype` on the CPU, with this one's weights."""
        model, set_weights = self.build_replica(dtype)
        set_weights(self.read_weights())
        return model

    def copy_to_device(self, precision: str, device: str) -> Any:
        """Return a copy of the model, weights included, in a precision and on a device."""
        raise NotImplementedError

    def find_weights(self, row: Row) -> Iterable[Weight]:
        """Return the weights that the layer of a row has, by PyTorch's state-dict names."""
        raise NotImplementedError

    def read_weights(self) -> dict[str, Array]:
        """Return float32 copies of the table's weights by canonical name, in canonical layouts."""
        raise NotImplementedError

    def write_weights(self, values: Mapping[str, Array]) -> None:
        """Copy canonical weights into the model and compare every bit with what it then has."""
        raise NotImplementedError

    def count_parameters(self) -> int:
        """Return the number of trainable scalars."""
        raise NotImplementedError

    def describe_layers(self, input_shape: Sequence[int]) -> list[dict[str, Any]]:
        """Describe every layer in execution order, as `network.structure` reads it.

        `input_shape` is (C, H, W), and so are the layers' shapes.
        """
        raise NotImplementedError

    def parse_checkpoint(
        self, path: Path, table: LayerTable
    ) -> tuple[dict[str, Array], Sequence[str]]:
        """Return the weights of a checkpoint of this framework by canonical name, and notes."""
        raise NotImplementedError

    def save_checkpoint(self, values: Mapping[str, Array], path: Path) -> None:
        """Write `values`, which are the model's weights, as a checkpoint of this framework."""
        raise NotImplementedError

    # Forward passes ------------------------------------------------------------------------------

    def forward(
        self,
        x: Array,
        rows: Sequence[Row],
        hook: TensorHook,
        *,
        model: Any = None,
        device: str = "cpu",
        xla: bool = False,
    ) -> ForwardResult:
        """Run once on `x` (N, C, H, W), and call `hook` with each row's tensor.

        `model`, the float32 one by default, is on `device`, and computes in its own dtype. With
        `xla` the pass is compiled first. The tensors are canonical: NCHW, trailing axes of length 1
        as the row's shape has them.
        """
        raise NotImplementedError

    def measure_batch_norm_inputs(self, model: Any, x: Array) -> Iterable[tuple[Row, Array, Array]]:
        """Return each batch-norm's row and its input's mean and biased variance.

        The pass on `x` (N, C, H, W) normalises by the batch, as in training.
        """
        raise NotImplementedError

    # ONNX ----------------------------------------------------------------------------------------

    def trace(self, *, opset: int | None, input_shape: Sequence[int], names: dict[str, str]) -> Any:
        """Return the exporter's `Structure` of the model; `names` is {tensor name: layer}."""
        raise NotImplementedError

    def read_structure_weights(self) -> Mapping[str, Array]:
        """Return all of the model's weights by the names and in the layouts of `trace`."""
        raise NotImplementedError

    def export_onnx(self, path: Path, *, input_shape: Sequence[int], **options: Any) -> Any:
        """Write a verified ONNX file and return the exporter's `Export`."""
        raise NotImplementedError
