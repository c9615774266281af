"""Keras 3 models (TensorFlow backend) to ONNX, through tf2onnx; importing it loads TensorFlow."""

from __future__ import annotations

import os

from exporters.silence import silence_stderr

# Both are read when TensorFlow and Keras are imported, and only then.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

with silence_stderr():
    # TensorFlow's C++ part writes there before it has read any log level.
    import keras  # noqa: F401
    import tensorflow  # noqa: F401
