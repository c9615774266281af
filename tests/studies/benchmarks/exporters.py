"""Time the exporters against the frameworks' own, side by side, on the same ResNeXt-50.

    python tests/studies/benchmarks/exporters.py [--runs 3] [--model resnext50_32x4d] [--only torch]

Every measurement is a process of its own; the variants take turns, so that a machine that slows
down slows all of them. Imports, ONNX Runtime's in the process that verifies among them, and
building the model are not counted. What is counted includes verification for ours and saving the
file for all; "cached" starts from a structure on the disk.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# The folder of this script comes first otherwise, where `exporters` is this script.
sys.path[0] = str(ROOT)

TARGETS = {"keras-export": 0.25, "keras-cached": 0.15, "torch-export": 0.8, "torch-cached": 0.15}
VARIANTS = tuple(
    f"{framework}-{kind}"
    for framework in ("keras", "torch")
    for kind in ("baseline", "export", "cached")
)


def keras_variant(kind: str, name: str, folder: Path) -> tuple[Callable[[], object], float]:
    start = time.perf_counter()
    from exporters import keras_onnx

    if kind != "cached":
        import tf2onnx.tfonnx
    if kind in ("export", "cached"):
        _import_onnxruntime()
    imports = time.perf_counter() - start
    import importlib

    import tensorflow as tf

    from parity.network import architectures

    spec = architectures.get(name)
    model = importlib.import_module(f"parity.network.models.{spec.family}.keras").build(spec)
    out = folder / f"{kind}.onnx"
    options = {"inputs": ["input"], "outputs": ["logits"], "channels_first": True}
    if kind == "baseline":
        signature = [tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32, "input")]
        return lambda: tf2onnx.convert.from_keras(
            model, signature, opset=17, output_path=str(out)
        ), imports
    if kind == "structure":
        return lambda: keras_onnx.trace(model, **options).save(folder / "keras.structure"), imports
    return _make_export(
        keras_onnx, [model, out], kind, options, folder / "keras.structure"
    ), imports


def torch_variant(kind: str, name: str, folder: Path) -> tuple[Callable[[], object], float]:
    start = time.perf_counter()
    from exporters import torch_onnx
    from exporters.torch import translations

    if kind != "cached":
        translations.torchlib()
    if kind in ("export", "cached"):
        _import_onnxruntime()
    imports = time.perf_counter() - start
    import importlib

    import torch

    from parity.network import architectures

    spec = architectures.get(name)
    module = (
        importlib.import_module(f"parity.network.models.{spec.family}.torch").build(spec).eval()
    )
    out = folder / f"{kind}.onnx"
    shape = spec.input_shape
    if kind == "baseline":
        example = torch.randn(2, *shape)
        dynamic = ({0: torch.export.Dim("batch")},)

        def plain() -> None:
            program = torch.onnx.export(
                module, (example,), dynamo=True, dynamic_shapes=dynamic, verbose=False
            )
            program.save(str(out))

        return plain, imports
    options = {"inputs": ["input"], "outputs": ["logits"]}
    if kind == "structure":
        return (
            lambda: torch_onnx.trace(module, [shape], **options).save(folder / "torch.structure"),
            imports,
        )
    arguments = [module, [shape], out]
    return _make_export(torch_onnx, arguments, kind, options, folder / "torch.structure"), imports


def _import_onnxruntime() -> None:
    """Wait until the process that runs the files has imported ONNX Runtime."""
    from exporters.graph.session_process import get_shared_process

    get_shared_process().release()


def _make_export(exporter, arguments, kind, options, structure) -> Callable[[], object]:  # type: ignore[no-untyped-def]
    from exporters.graph import Structure

    if kind == "export":
        return lambda: exporter.export(*arguments, **options)
    options = {name: value for name, value in options.items() if name == "channels_first"}
    return lambda: exporter.export(*arguments, structure=Structure.load(structure), **options)


def measure(variant: str, name: str, folder: Path) -> None:
    """Run one variant in this process and print its numbers as JSON."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    framework, kind = variant.split("-")
    make = keras_variant if framework == "keras" else torch_variant
    work, imports = make(kind, name, folder)
    start, cpu_start = time.perf_counter(), time.process_time()
    result = work()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    steps = getattr(result, "seconds", {})
    figures = {"seconds": seconds, "cpu": cpu, "imports": imports, "steps": steps}
    print("\n" + json.dumps(figures))


def run(variant: str, name: str, folder: Path) -> dict:  # type: ignore[type-arg]
    command = [sys.executable, __file__, "--measure", variant, "--model", name]
    # OpenMP's threads spin while they wait, which costs tenfold when another process has the core.
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.run(
        [*command, "--folder", str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if process.returncode:
        raise SystemExit(f"{variant} failed:\n{process.stderr[-3000:]}")
    return json.loads(process.stdout.strip().splitlines()[-1])


def report(results: dict[str, list[dict]]) -> None:  # type: ignore[type-arg]
    """Print medians and their ratios to the framework's own exporter.

    CPU time is that of all threads: on a machine that others use too, its ratio holds better.
    """
    print(
        f"{'variant':<16}{'median s':>9}{'min':>7}{'max':>7}{'ratio':>7}"
        f"{'CPU s':>8}{'ratio':>7}{'target':>8}  steps"
    )
    medians, cpu_medians = (
        {v: statistics.median(r[key] for r in rows) for v, rows in results.items()}
        for key in ("seconds", "cpu")
    )
    for variant, rows in results.items():
        seconds = [row["seconds"] for row in rows]
        baseline = variant.split("-")[0] + "-baseline"
        steps = {s: statistics.median(r["steps"][s] for r in rows) for s in rows[0]["steps"]}
        imports = statistics.median(row["imports"] for row in rows)
        cpu_ratio = cpu_medians[variant] / cpu_medians[baseline]
        step_times = " ".join(f"{step} {value:.2f}" for step, value in steps.items())
        target = f"{TARGETS[variant]:.2f}" if variant in TARGETS else ""
        print(
            f"{variant:<16}{medians[variant]:>9.2f}{min(seconds):>7.2f}{max(seconds):>7.2f}"
            f"{medians[variant] / medians[baseline]:>7.2f}"
            f"{cpu_medians[variant]:>8.2f}{cpu_ratio:>7.2f}{target:>8}"
            f"  {step_times} (imports {imports:.1f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="resnext50_32x4d")
    parser.add_argument("--only", choices=("keras", "torch"), help="one framework")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.model, arguments.folder)
        return
    variants = [v for v in VARIANTS if v.startswith(arguments.only or "")]
    with tempfile.TemporaryDirectory() as folder:
        for framework in sorted({variant.split("-")[0] for variant in variants}):
            run(f"{framework}-structure", arguments.model, Path(folder))
        results: dict[str, list[dict]] = {variant: [] for variant in variants}  # type: ignore[type-arg]
        for _ in range(arguments.runs):
            for variant in variants:
                results[variant].append(run(variant, arguments.model, Path(folder)))
    report(results)


if __name__ == "__main__":
    main()
