"""What a framework must provide so that its child process can be asked for captures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from parity.network.spec import ModelSpec
from parity.network.table import LayerTable, Row, Weight
from parity.runtimes.floors import Sink

Array = NDArray[Any]


class Framework:
    """How one framework builds, reads, writes and runs a model; `ModelRuntime` does the rest."""

    name: str
    model: Any
    table: LayerTable
    spec: ModelSpec | None = None
    where: str = ""
    """The device that the final output of the last pass was on, as the framework names it."""

    def versions(self) -> dict[str, str]:
        """Version of each package that has a say in the numbers."""
        raise NotImplementedError

    def pin(self, precision: str, device: str, *, xla: bool = False) -> dict[str, Any]:
        """Set every flag that decides the arithmetic, and read each of them back."""
        raise NotImplementedError

    def placed(self, precision: str, device: str) -> Any:
        """A copy of the model, weights and all, in a precision and on a device."""
        raise NotImplementedError

    def release(self) -> None:
        """Give back the device memory that nothing holds any more."""

    def is_out_of_memory(self, error: Exception) -> bool:
        """Whether the framework's error says that a device's memory was too little."""
        raise NotImplementedError

    def devices(self) -> list[str]:
        """What this framework can compute on here."""
        raise NotImplementedError

    def require(self, *, device: str) -> dict[str, Any]:
        """The card and its libraries; raises `MissingRuntimeError` with what `device` lacks."""
        raise NotImplementedError

    def build(self, spec: ModelSpec) -> Any:
        """The registered twin, its weights not yet meaningful."""
        raise NotImplementedError

    def call_reference(self, reference: str) -> Any:
        """Somebody's own model, ready for inference."""
        raise NotImplementedError

    def read_weights(self) -> dict[str, Array]:
        """The model's weights by canonical name and layout, float32 copies."""
        raise NotImplementedError

    def weights_of(self, row: Row) -> Iterable[Weight]:
        """The weights that this model's layer has, under the names of PyTorch's state dict."""
        raise NotImplementedError

    def write_weights(self, values: Mapping[str, Array]) -> None:
        """Copy canonical weights into the model, and read every bit of them back."""
        raise NotImplementedError

    def forward(
        self,
        x: Array,
        rows: Sequence[Row],
        sink: Sink,
        *,
        model: Any = None,
        device: str = "cpu",
        xla: bool = False,
    ) -> float:
        """Run once on `x` (N, C, H, W); hand each row's tensor to `sink`; seconds of the pass.

        `model`, the float32 one by default, is on `device`, and computes in its own dtype. `where`
        is set to what the final output was on. With `xla` the pass is compiled first. The tensors
        are canonical: NCHW, trailing axes of length 1 as the row's shape has them.
        """
        raise NotImplementedError

    def replica(self, dtype: str) -> tuple[Any, Callable[[Mapping[str, Array]], None]]:
        """A second model of `dtype` on the CPU and the function that sets its weights."""
        raise NotImplementedError

    def copied(self, dtype: str) -> Any:
        """A second model of `dtype` on the CPU that holds this one's weights."""
        model, set_weights = self.replica(dtype)
        set_weights(self.read_weights())
        return model

    def statistics(self, model: Any, x: Array) -> Iterable[tuple[Row, Array, Array]]:
        """Mean and biased variance of each batch-norm's input, normalised as in training."""
        raise NotImplementedError

    def parameters(self) -> int:
        """How many numbers are trained."""
        raise NotImplementedError

    def layers(self, input_shape: Sequence[int]) -> list[dict[str, Any]]:
        """Every layer in execution order, as `network.structure` reads it; shapes are NCHW."""
        raise NotImplementedError

    def checkpoint(self, path: Path, table: LayerTable) -> tuple[dict[str, Array], Sequence[str]]:
        """A checkpoint file of this framework by canonical name, and notes for the user."""
        raise NotImplementedError

    def save_checkpoint(self, values: Mapping[str, Array], path: Path) -> None:
        """Write `values`, which the model holds, as a checkpoint file of this framework."""
        raise NotImplementedError

    def trace(self, *, opset: int | None, input_shape: Sequence[int], names: dict[str, str]) -> Any:
        """The exporter's `Structure` of the model, its layers' tensors named by `names`."""
        raise NotImplementedError

    def placeholders(self) -> Mapping[str, Array]:
        """All that the model holds, under the names and in the layouts of the traced structure."""
        raise NotImplementedError

    def export_to(self, path: Path, *, input_shape: Sequence[int], **options: Any) -> Any:
        """The exporter's `Exported`: the model as a finished and verified ONNX file."""
        raise NotImplementedError
