"""How subjects are written, and which child each of them needs."""

from __future__ import annotations

import pytest

from parity.comparison.request import Request
from parity.errors import UsageError
from parity.processes.subjects import Subject, child_name, parse_child_name, parse_subject


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch", Subject("torch", "torch")),
        ("torch@gpu", Subject("torch@gpu", "torch", device="gpu")),
        ("torch@old", Subject("torch@old", "torch", environment="old")),
        ("torch@old@cpu", Subject("torch@old@cpu", "torch", None, "cpu", "old")),
        ("keras[jax]@gpu", Subject("keras[jax]@gpu", "keras", "jax", "gpu")),
        ("onnx-keras@gpu", Subject("onnx-keras@gpu", "onnx-keras", device="gpu")),
    ],
)
def test_a_subject_is_read(text, expected):
    assert parse_subject(text) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kears", "did you mean 'keras'?"),
        ("kears@gpu", "did you mean 'keras'?"),
        ("jax", "known: keras, torch, onnx-keras, onnx-torch"),
        ("torch[jax]", "only keras has a [backend]"),
        ("keras[mxnet]", "backends are tensorflow, jax, torch"),
        ("keras[]", "backends are tensorflow, jax, torch"),
        ("torch@cpu@gpu", "expected at most one device and one environment"),
        ("torch@old@new", "expected at most one device and one environment"),
        ("torch@", "unknown subject 'torch@'"),
        ("", "unknown subject ''"),
    ],
)
def test_a_subject_that_is_none(text, told):
    with pytest.raises(UsageError) as raised:
        parse_subject(text)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("runtime", "backend", "environment", "name"),
    [
        ("keras", None, None, "keras"),
        ("keras", "tensorflow", None, "keras"),
        ("keras", "jax", None, "keras[jax]"),
        ("keras", "jax", "old", "keras[jax]@old"),
        ("onnx", None, "old", "onnx@old"),
    ],
)
def test_a_child_is_named_and_read_back(runtime, backend, environment, name):
    assert child_name(runtime, backend=backend, environment=environment) == name
    found = parse_child_name(name)
    assert (found.runtime, found.environment) == (runtime, environment)
    assert found.backend == (None if backend == "tensorflow" else backend)


ENVIRONMENTS = {"old": "/old", "new": "/new"}


@pytest.mark.parametrize(
    ("subjects", "options", "children", "homes"),
    [
        (("keras", "torch"), {}, ("keras", "torch"), ("keras", "torch")),
        # The plain child is home where a subject needs it anyway.
        (("torch@old", "torch"), {}, ("torch@old", "torch"), (None, "torch")),
        (("torch@old", "torch@new"), {}, ("torch@old", "torch@new"), (None, "torch@old")),
        # Keras exports, and computes in float64, on TensorFlow alone.
        (
            ("keras[jax]", "onnx-keras"), {}, ("keras[jax]", "keras", "onnx"), ("keras", None),
        ),
        (("keras[jax]",), {}, ("keras", "keras[jax]"), ("keras", None)),
        (
            ("keras", "onnx-keras"), {"keras_backend": "jax"},
            ("keras", "keras[jax]", "onnx"), ("keras", None),
        ),
        (("torch@cpu", "torch@gpu"), {}, ("torch",), (None, "torch")),
    ],
)  # fmt: skip
def test_which_children_a_comparison_needs(subjects, options, children, homes):
    request = Request(model="resnet18", subjects=subjects, python=ENVIRONMENTS, **options)
    assert set(request.runtimes) == set(children)
    for side, home in zip(("keras", "torch"), homes, strict=True):
        if home is not None:
            assert request.home_child(side) == home


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"subjects": ("torch@old",)}, "there is no environment 'old'; name it with --python old"),
        ({"device": "tpu"}, "--device: expected one of auto, cpu, gpu"),
        ({"precision": "int8"}, "--precision: expected one of float32, tf32, float16, bfloat16"),
        ({"judge_as": "float64"}, "--judge-as: expected one of"),
        ({"keras_backend": "mxnet"}, "--keras-backend: expected one of tensorflow, jax, torch"),
        ({"subjects": ("torch",), "xla": True}, "--xla compiles Keras models, and no subject"),
        ({"isolate": True, "xla": True}, "--isolate cannot feed"),
        ({"subjects": ("torch", "torch")}, "given twice"),
        ({"reference": "onnx"}, "--reference: expected one of torch, keras, found 'onnx'"),
    ],
)
def test_a_request_that_cannot_be(options, told):
    with pytest.raises(UsageError) as raised:
        Request(model="resnet18", **options)
    assert told in str(raised.value)
