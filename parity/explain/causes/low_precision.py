"""Arithmetic in TF32, float16 or bfloat16: a fixed relative size from the first product on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from parity.explain.case import Candidate, Case
from parity.explain.layer import Change, Layer
from parity.explain.rerun import Rerun, Run
from parity.explain.rounding import to_bits

TF32, HALF = "tf32", "low-precision"


def candidates(case: Case) -> Iterator[Candidate]:
    kernel = "kernel" in case.layer.weights
    small = 1e-5 < case.fingerprint.relative < 0.05
    if kernel:
        yield Candidate(
            TF32,
            _operands(11),
            "The products are computed in TF32, whose operands have 11 significant bits",
            f"{case.label}: {_tf32_off(case.framework)}",
            0.55 if small else 0.05,
        )
    for name, bits in (("bfloat16", 8), ("float16", 11)):
        yield Candidate(
            HALF,
            _throughout(bits),
            f"The layer runs in {name}: operands and result have {bits} significant bits",
            f"{case.label}: run it in float32",
            0.5 if small else 0.05,
        )


def reruns(run: Run) -> Iterator[Rerun]:
    """The whole run in the precision that it is judged by: same device, weights and input."""
    if run.failure is None and run.judge_as != run.precision:
        yield Rerun(
            TF32 if run.precision == "tf32" else HALF,
            {"precision": run.judge_as},
            f"{run.subject} computes in {run.precision}, judged by the floor of {run.judge_as}",
            f"in {run.judge_as}",
            f"ask for --precision {run.judge_as}, or judge by the floor of {run.precision}",
        )


def _operands(bits: int) -> Change:
    def change(layer: Layer) -> Layer:
        kernels = {role: v for role, v in layer.weights.items() if role == "kernel"}
        rounded = {role: to_bits(value, bits) for role, value in kernels.items()}
        return layer.weigh(**rounded).given(partial(to_bits, bits=bits))

    return change


def _throughout(bits: int) -> Change:
    operands = _operands(bits)
    return lambda layer: operands(layer).then(partial(to_bits, bits=bits))


def _tf32_off(framework: str) -> str:
    return {
        "keras": "tf.config.experimental.enable_tensor_float_32_execution(False)",
        "torch": "torch.backends.cudnn.conv.fp32_precision = 'ieee', and the same for matmul",
        "onnx": "set the CUDA provider's use_tf32 to 0",
    }[framework]
