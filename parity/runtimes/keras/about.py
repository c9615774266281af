"""Facts about Keras that the parent process reads without importing it."""

from __future__ import annotations

from parity.processes.registry import Backend, CudaBuild, Package, RuntimeInfo

ABOUT = RuntimeInfo(
    label="Keras",
    startup_seconds=6.0,
    packages=(
        Package("keras"),
        Package("tensorflow", ("tensorflow", "tensorflow-cpu", "tf-nightly")),
        Package("tf2onnx"),
        Package("onnx"),
    ),
    main_package="keras",
    extra="keras",
    gpu_extra="keras-gpu",
    cuda_build=CudaBuild(
        # TensorFlow's plain Linux wheel is built for CUDA; its extra brings the libraries.
        package="tensorflow",
        file="python/platform/build_info.py",
        pattern=r"'cuda_version', *'([\d.]+)'",
        remedy="{install} in an environment of its own",
    ),
    holds_models=True,
    model_class="keras.Layer",
    reference_rank=1,
    exports_onnx=True,
    checkpoint_suffixes=(".weights.h5", ".keras"),
    written_suffixes=(".h5",),
    backends=(
        # TensorFlow and JAX never shrink their memory pools; PyTorch can.
        Backend("tensorflow", keeps_gpu_memory=True),
        Backend("jax", keeps_gpu_memory=True),
        Backend("torch"),
    ),
    backend_variable="KERAS_BACKEND",
    cpu_precisions=("float16", "bfloat16"),
    compiles_xla=True,
    tf32_remedy="tf.config.experimental.enable_tensor_float_32_execution(False)",
    variables={"TF_CPP_MIN_LOG_LEVEL": "3"},
    configuration_files=("~/.keras/keras.json", "$KERAS_HOME/keras.json"),
    cpu_variables={"JAX_PLATFORMS": "cpu"},
    gpu_variables={
        # Several frameworks share the GPU: none may take all of its memory.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_DETERMINISTIC_OPS": "1",
        "XLA_FLAGS": "--xla_gpu_deterministic_ops=true",
    },
)
