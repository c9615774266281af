"""The operations that export a model to ONNX."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from exporters.errors import ExportError
from parity import temporary
from parity.errors import ModelExportError
from parity.network.table import INPUT, LOGITS
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
        fixed_batch: bool = False,
        precision: str = "float32",
        external_data: bool = False,
    ) -> dict[str, Any]:
        """Write the model as a verified ONNX file.

        `structure` is the file of the traced graph, which is written first if it is missing; one
        of a fixed batch is traced anew.
        """
        onnx_graph = load_exporter()
        started = time.perf_counter()
        with convert_export_errors(self.name):
            if not fixed_batch and not Path(structure).exists():
                traced = self.trace(opset=opset, input_shape=input_shape, names=names)
                traced.save(Path(structure))
            tracing = time.perf_counter() - started
            options: dict[str, Any] = {"fixed_batch": True}
            if fixed_batch:
                options |= {"inputs": [INPUT], "outputs": [LOGITS], "taps": names}
                options |= {} if opset is None else {"opset": opset}
            else:
                options = {"structure": onnx_graph.Structure.load(Path(structure))}
            export = self.export_onnx(
                Path(path),
                input_shape=input_shape,
                tap_outputs=outputs,
                metadata=metadata,
                precision=precision,
                external_data=external_data,
                **options,
            )
        answer = describe_export(export)
        answer["seconds"] = {"trace": tracing, **export.seconds}
        answer["outputs"] = [LOGITS, *outputs]
        return answer


def describe_export(export: Any) -> dict[str, Any]:
    """Return an exporter's `Export` as plain data: the file's tensors, and every check.

    A check's "floors" is how many times the floor its error is, of at most `LIMIT`.
    """
    from exporters.graph.output_checks import LIMIT
    from exporters.graph.samples import describe_inputs

    structure = export.structure
    graph = structure.model.graph
    inputs, outputs = (
        [
            {"name": spec.name, "dtype": str(spec.dtype), "shape": list(spec.sizes)}
            for spec in describe_inputs(values)
        ]
        for values in (
            graph.input[: len(structure.inputs)],
            graph.output[: len(structure.outputs)],
        )
    )
    return {
        "opset": export.opset,
        "seconds": export.seconds,
        "outputs": list(structure.outputs),
        "tensors": {"inputs": list(inputs), "outputs": list(outputs)},
        "limit": LIMIT,
        "checks": [_describe_check(check, LIMIT) for check in export.checks],
        "other_checks": [_describe_check(check, LIMIT) for check in export.other_checks],
        "notes": list(export.notes),
        "external_data": export.external_data,
        "weights_sha256": "",
    }


def _describe_check(check: Any, limit: float) -> dict[str, Any]:
    ratios = [
        error / bound
        for error, bound in (
            (check.max_abs, check.bound_max_abs),
            (check.rel_l2, check.bound_rel_l2),
        )
        if bound
    ]
    floors = limit * max(ratios, default=0.0)
    return {**asdict(check), "floors": floors}


def write_graph(structure: Any, values: Mapping[str, Any], path: Path) -> None:
    """Write a traced graph with these weights; not verified, since a comparison follows."""
    onnx_graph = load_exporter()
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


def load_exporter() -> Any:
    """Return the module that writes graphs; its temporary folders then state their owner."""
    from exporters import graph as onnx_graph
    from exporters.graph import serialization

    serialization.folder_prefix = temporary.owned_prefix
    return onnx_graph
