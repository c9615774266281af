"""Facts about PyTorch that the parent process reads without importing it."""

from __future__ import annotations

from parity.processes.registry import CudaBuild, Package, RuntimeInfo

ABOUT = RuntimeInfo(
    label="PyTorch",
    startup_seconds=2.0,
    packages=(Package("torch"), Package("onnx"), Package("onnxscript"), Package("onnx-ir")),
    main_package="torch",
    extra="torch",
    # PyTorch's ordinary Linux packages are built for CUDA, under the same name as the CPU build.
    gpu_extra="torch",
    cuda_build=CudaBuild(
        package="torch",
        file="version.py",
        pattern=r"^cuda[^=]*= *'([\d.]+)'",
        remedy="pip install a CUDA build of torch (pytorch.org, Get Started)",
    ),
    holds_models=True,
    model_class="torch.Module",
    reference_rank=0,
    exports_onnx=True,
    checkpoint_suffixes=(".pth", ".pt"),
    uses_safetensors=True,
    writes_in_place=True,
    bypasses_layers=True,
    evaluates_graphs_float64=True,
    cpu_precisions=("float16", "bfloat16"),
    tf32_remedy="torch.backends.cudnn.conv.fp32_precision = 'ieee', and the same for matmul",
    # Deterministic algorithms; cuBLAS reads its setting once, when it starts.
    gpu_variables={"CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
)
