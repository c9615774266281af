"""The operations that export a model to ONNX."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from exporters.errors import ExportError
from parity.errors import ModelExportError
from parity.network.table import LOGITS
from parity.runtimes.framework import Framework


class ExportOperations(Framework):
    """Exports the loaded model; `names` is {tensor name: layer}, `input_shape` (C, H, W)."""

    def export_structure(
        self, *, path: str, opset: int | None, input_shape: list[int], names: dict[str, str]
    ) -> dict[str, Any]:
        """Write the traced graph to `path`; its weights are inputs, without values."""
        started = time.perf_counter()
        with convert_export_errors(self.name):
            self.trace(opset=opset, input_shape=input_shape, names=names).save(Path(path))
        return {"seconds": time.perf_counter() - started}

    def export_model(
        self, *, path: str, opset: int | None, input_shape: list[int], names: dict[str, str]
    ) -> dict[str, Any]:
        """Write a user's model with its own weights; not verified, since a comparison follows."""
        started = time.perf_counter()
        with convert_export_errors(self.name):
            structure = self.trace(opset=opset, input_shape=input_shape, names=names)
            write_graph(structure, self.read_structure_weights(), Path(path))
        return {"seconds": time.perf_counter() - started}

    def export_and_verify(
        self,
        *,
        path: str,
        structure: str,
        opset: int | None,
        input_shape: list[int],
        names: dict[str, str],
        outputs: list[str],
        metadata: dict[str, str],
    ) -> dict[str, Any]:
        """Write the model as a verified ONNX file.

        `structure` is the file of the traced graph, which is written first if it is missing.
        """
        from exporters import graph as onnx_graph

        started = time.perf_counter()
        with convert_export_errors(self.name):
            if not Path(structure).exists():
                traced = self.trace(opset=opset, input_shape=input_shape, names=names)
                traced.save(Path(structure))
            tracing = time.perf_counter() - started
            export = self.export_onnx(
                Path(path),
                structure=onnx_graph.Structure.load(Path(structure)),
                input_shape=input_shape,
                tap_outputs=outputs,
                metadata=metadata,
            )
        return {
            "opset": export.opset,
            "seconds": {**export.seconds, "trace": tracing},
            "outputs": [LOGITS, *outputs],
            "checks": [asdict(check) for check in export.checks],
        }


def write_graph(structure: Any, values: Mapping[str, Any], path: Path) -> None:
    """Write a traced graph with these weights; not verified, since a comparison follows."""
    from exporters import graph as onnx_graph

    onnx_graph.write(onnx_graph.inject(structure, widen_bfloat16(values)), path)


def widen_bfloat16(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return weights as a graph holds them: bfloat16 as float32."""
    return {
        name: array.astype("float32") if array.dtype.name == "bfloat16" else array
        for name, array in values.items()
    }


@contextmanager
def convert_export_errors(runtime: str) -> Iterator[None]:
    """Raise the body's `ExportError` as an `ModelExportError` that names the runtime."""
    try:
        yield
    except ExportError as error:
        raise ModelExportError(f"{runtime}: {error}") from error
