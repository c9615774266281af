"""Exports of Keras models, run in ONNX Runtime beside the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest


class Exported:
    """A file, and what it computes."""

    def __init__(self, path: Any, done: Any) -> None:
        from exporters.graph.session import open_session

        self.path, self.done = path, done
        self.session = open_session(path)
        self.proto = onnx.load(path)
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]
        self.operators = [node.op_type for node in self.proto.graph.node]

    def __call__(self, **feeds: Any) -> dict[str, np.ndarray]:
        return dict(zip(self.outputs, self.session.run(None, feeds), strict=True))


@pytest.fixture
def exported(tmp_path):  # type: ignore[no-untyped-def]
    """Return a function that exports a model, with the options of `keras_onnx.export`."""
    keras_onnx = pytest.importorskip("exporters.keras_onnx")

    def export(model: Any, **options: Any) -> Exported:
        path = tmp_path / "model.onnx"
        return Exported(path, keras_onnx.export(model, path, **options))

    return export
