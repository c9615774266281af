"""Facts about ONNX Runtime that the parent process reads without importing it."""

from __future__ import annotations

from parity.processes.registry import CudaBuild, Package, RuntimeInfo

ABOUT = RuntimeInfo(
    label="ONNX Runtime",
    startup_seconds=0.5,
    packages=(
        Package(
            "onnxruntime",
            (
                "onnxruntime",
                "onnxruntime-gpu",
                "onnxruntime-directml",
                "onnxruntime-openvino",
                "onnxruntime-training",
            ),
            exclusive=True,
        ),
        Package("onnx"),
    ),
    main_package="onnxruntime",
    extra="onnx",
    gpu_extra="onnx-gpu",
    cuda_build=CudaBuild(
        package="onnxruntime",
        file="capi/build_and_package_info.py",
        pattern=r"^cuda_version *= *'([\d.]+)'",
        library="capi/*onnxruntime_providers_cuda*",
        remedy="pip uninstall onnxruntime; {install}",
    ),
    runs_graphs=True,
    tf32_remedy="set the CUDA provider's use_tf32 to 0",
)
