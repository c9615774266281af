"""Checks of a model with ONNX, and a session of ONNX Runtime on the CPU."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import onnxruntime

from exporters.errors import ExportError, first_line
from exporters.graph.model import WeightedModel


def check_model(model: WeightedModel) -> None:
    """Run onnx.checker and strict shape inference. Raises ExportError.

    The large tensors are typed inputs here: their values do not matter for either, and parsing
    them again would take most of the time. ONNX Runtime reads them from the file.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model.skeleton)
    for name, array in model.tensors.items():
        dtype = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        copy.graph.input.append(onnx.helper.make_tensor_value_info(name, dtype, array.shape))
    try:
        onnx.checker.check_model(copy, full_check=True)
    except Exception as error:  # ValidationError, InferenceError, DecodeError share no base class
        raise ExportError(f"not a valid ONNX model: {first_line(error)}") from error


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Return a session with ONNX Runtime's default optimisations. Raises ExportError."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal: what fails is raised
    # Waiting threads that spin would take the cores from the framework, whose turn it is.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exception types share no base class
        # Without the path of a temporary file and the place in ONNX Runtime's own source.
        reason = re.sub(r"^.* failed:(/\S+:\d+ .*?\) )?", "", first_line(error))
        raise ExportError(f"ONNX Runtime does not load it: {reason}") from error
