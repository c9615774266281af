"""Flags are set and read back in every runtime; a flag that does not take is an error."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
import torch

from parity.errors import DeviceMemoryError, PrecisionError, RequirementError, UsageError
from parity.runtimes.keras import device as keras_device
from parity.runtimes.keras.runtime import Runtime as KerasRuntime
from parity.runtimes.onnx import device as onnx_device
from parity.runtimes.onnx.runtime import Runtime as OnnxRuntime
from parity.runtimes.torch import device as torch_device
from parity.runtimes.torch.runtime import Runtime as TorchRuntime

pytestmark = pytest.mark.framework


@pytest.fixture(autouse=True)
def restored():
    """Flags are the process's: leave them as a float32 run wants them."""
    yield
    torch_device.pin_flags("float32", "cpu")
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("variable", ["true", ""])
def test_a_gpu_that_tensorflow_uses_already(monkeypatch, variable):
    """TensorFlow refuses to change how memory grows once a model is built (seen on an H200)."""

    def refuse(gpu, grows):
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", variable)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu"])
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)
    monkeypatch.setattr(tf.config.experimental, "get_memory_growth", lambda gpu: None)
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", refuse)
    if variable:
        assert keras_device.pin_flags("float32", "gpu")["memory_growth"] is True
        return
    with pytest.raises(RuntimeError, match="cannot be modified"):
        keras_device.pin_flags("float32", "gpu")


def test_torch_turns_tf32_off_and_on_everywhere():
    off = torch_device.pin_flags("float32", "gpu")
    assert off["torch.backends.cuda.matmul.allow_tf32"] is False
    assert off["torch.backends.cudnn.allow_tf32"] is False
    assert off["torch.backends.cudnn.conv.fp32_precision"] == "ieee"
    assert off["torch.backends.cudnn.deterministic"] is True
    assert off["torch.backends.cudnn.benchmark"] is False
    assert off["deterministic_algorithms"] is True
    on = torch_device.pin_flags("tf32", "gpu")
    assert on["torch.backends.cuda.matmul.allow_tf32"] is True
    assert on["torch.backends.cudnn.allow_tf32"] is True
    for name in ("cuda.matmul", "cudnn.conv", "cudnn.rnn"):
        assert on[f"torch.backends.{name}.fp32_precision"] == "tf32"
    # oneDNN computes on the CPU, where the reference is.
    assert on["torch.backends.mkldnn.conv.fp32_precision"] == "ieee"


def test_no_flag_undoes_another():
    """In PyTorch 2.13 `torch.backends.mkldnn.fp32_precision` sets cuDNN's and cuBLAS's too."""
    for precision, wanted in (("tf32", "tf32"), ("float32", "ieee")):
        found = torch_device.pin_flags(precision, "gpu")
        assert found["torch.backends.fp32_precision"] == wanted
        assert found["torch.backends.cuda.matmul.fp32_precision"] == wanted


def test_torch_is_pinned_whatever_the_user_has_mixed():
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    torch.backends.cudnn.rnn.fp32_precision = "ieee"
    with pytest.raises(RuntimeError):
        _ = torch.backends.cudnn.allow_tf32
    assert torch_device.pin_flags("float32", "cpu")["torch.backends.cudnn.allow_tf32"] is False


def test_a_torch_flag_that_does_not_take(monkeypatch):
    real = torch_device._set_flag

    def deaf(name, value):
        # As in releases whose newer switch does not reach cuDNN.
        if name.startswith("torch.backends.cuda.matmul"):
            real(name, value)

    torch_device.pin_flags("float32", "gpu")
    monkeypatch.setattr(torch_device, "_set_flag", deaf)
    with pytest.raises(PrecisionError, match=r"cudnn.allow_tf32 was set to True and is False"):
        torch_device.pin_flags("tf32", "gpu")


def test_torch_says_that_it_is_a_cpu_build():
    with pytest.raises(RequirementError, match="is a CPU build; pip install a CUDA build"):
        torch_device.find_device("gpu")


def test_a_cuda_build_that_does_not_start(monkeypatch):
    def broken():
        raise RuntimeError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", broken)
    with pytest.raises(RequirementError, match=r"CUDA 13.0 does not start: libcudart.so.13"):
        torch_device.find_device("gpu")


def test_onnxruntime_says_that_it_is_a_cpu_build():
    with pytest.raises(RequirementError, match="is a CPU build; pip uninstall onnxruntime"):
        onnx_device.require_device("gpu")


def test_a_session_that_fell_back_is_found_out():
    """Asked for CUDA, this build warns, runs on the CPU and says so only in get_providers()."""
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        session = onnx_device.create_probe_session("gpu", "float32")
    with pytest.raises(RequirementError, match="CUDAExecutionProvider did not load") as raised:
        onnx_device.require_provider(session, "gpu", "float32")
    # What was missing is named: a CPU build has no such library at all.
    assert "libonnxruntime_providers_cuda.so: cannot open" in str(raised.value)
    assert (
        onnx_device.require_provider(
            onnx_device.create_probe_session("cpu", "float32"), "cpu", "float32"
        )
        == {}
    )


class Session:
    """A session on a GPU, whose provider holds what it is given."""

    def __init__(self, options=None, parts=()):
        asked = onnx_device.providers("gpu", "float32")[0][1]
        self.options, self.parts = {**asked, **(options or {})}, parts

    def get_providers(self):
        return [onnx_device.CUDA, onnx_device.CPU]

    def get_provider_options(self):
        return {onnx_device.CUDA: self.options}

    def get_provider_graph_assignment_info(self):
        return self.parts


class Part:
    def __init__(self, provider, *operators):
        self.ep_name = provider
        self.nodes = [type("Node", (), {"op_type": name})() for name in operators]

    def get_nodes(self):
        return self.nodes


def test_onnxruntime_is_given_tf32_and_an_algorithm():
    assert onnx_device.require_provider(Session(), "gpu", "float32") == {
        "cuda.use_tf32": "0", "cuda.cudnn_conv_algo_search": "DEFAULT",
    }  # fmt: skip
    assert onnx_device.providers("gpu", "tf32")[0][1]["use_tf32"] == "1"
    with pytest.raises(PrecisionError, match="use_tf32 was set to 0 and is 1"):
        onnx_device.require_provider(Session({"use_tf32": "1"}), "gpu", "float32")


def test_nodes_on_the_cpu_are_counted_and_the_work_among_them_is_refused():
    parts = [Part(onnx_device.CUDA, "Conv", "Relu"), Part(onnx_device.CPU, "Shape", "Gather")]
    placed = onnx_device.node_placement(Session(parts=parts))
    assert placed == {
        "nodes": {onnx_device.CUDA: 2, onnx_device.CPU: 2}, "cpu_operators": ["Gather", "Shape"],
    }  # fmt: skip
    onnx_device.require_no_compute_fallback(placed)
    with pytest.raises(RequirementError, match="Conv, Gemm nodes were placed on CPUExecution"):
        onnx_device.require_no_compute_fallback({"cpu_operators": ["Conv", "Gemm", "Shape"]})


def test_the_placement_of_a_real_session():
    """This build records placements too: the names that are read are those that there are."""
    options = onnx_device.session_options("gpu")
    model = onnx_device.relu_model()
    session = onnxruntime.InferenceSession(model, options, providers=[onnx_device.CPU])
    assert onnx_device.node_placement(session) == {
        "nodes": {onnx_device.CPU: 1}, "cpu_operators": ["Relu"],
    }  # fmt: skip


def test_onnxruntime_without_kernels_for_a_precision():
    options = onnx_device.session_options("cpu")
    with pytest.raises(UsageError, match="no bfloat16 kernels for this graph on the cpu"):
        onnx_device.create_session(
            onnx_device.relu_model("BFLOAT16", "Relu"), options, "cpu", "bfloat16"
        )


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: transformer_memcpy"
            ".cc:253 IsNodeCompatibleWithProvider(const onnxruntime::Node&) const !node_provider_"
            "type.empty() was false. Provider type for BatchNormalization node with name 'n' is not"
            " set.",
            UsageError,
        ),
        ("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 700", onnx_device.Fail),
    ],
)
def test_a_node_that_no_provider_takes(monkeypatch, message, error):
    """What ONNX Runtime 1.31 says on an NVIDIA H200 of batch normalization in bfloat16."""

    def fail(*arguments, **options):
        raise onnx_device.Fail(message)

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    with pytest.raises(error, match=r"BatchNormalization|700") as caught:
        onnx_device.create_session(b"", onnxruntime.SessionOptions(), "gpu", "bfloat16")
    assert "transformer_memcpy" not in str(caught.value)


def _small(runtime):
    """A runtime with a model, whose device holds two items of it."""
    from parity.network import architectures

    runtime.load(spec=architectures.get("resnet18", classes=3, image_size=(32, 32)).to_json())
    forward = runtime.forward
    torch_error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    keras_error = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    def limited(x, rows, hook, **options):
        if len(x) > 2:
            raise torch_error if runtime.name == "torch" else keras_error
        return forward(x, rows, hook, **options)

    runtime.forward = limited
    return runtime


@pytest.mark.parametrize("made", [TorchRuntime, KerasRuntime])
def test_out_of_memory_names_the_batch_that_fits(made, tmp_path):
    runtime = _small(made())
    np.save(tmp_path / "x.npy", np.zeros((8, 3, 32, 32), np.float32))
    asked = {"x": str(tmp_path / "x.npy"), "rows": ["logits"], "manifest": {"subject": made.name}}
    with pytest.raises(DeviceMemoryError, match="for a batch of 8; a batch of 2 fits: --batch 2"):
        runtime.run(out=str(tmp_path / "out.safetensors"), **asked)
    assert not (tmp_path / "out.safetensors").exists()


def test_what_jax_says_when_memory_is_out():
    text = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes."
    assert KerasRuntime().is_out_of_memory(RuntimeError(text))
    assert not KerasRuntime().is_out_of_memory(RuntimeError("invalid argument"))


@pytest.mark.parametrize(
    "text",
    [
        "[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer",
        "CUDA failure 2: out of memory",
    ],
)
def test_what_onnxruntime_says_when_memory_is_out(text):
    assert OnnxRuntime().is_out_of_memory(RuntimeError(text))
    assert not OnnxRuntime().is_out_of_memory(RuntimeError("invalid input name"))
