"""The two halves of `compare` as commands: capture now, judge later or elsewhere."""

# No `from __future__ import annotations`: Typer reads the annotations at run time.
import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from parity import arguments as given
from parity import console
from parity.console import guarded, output, progress
from parity.report.options import reported, require_writable

OneModel = Annotated[
    Path, typer.Argument(metavar="A", help="A folder of captures, or one capture file.")
]
Another = Annotated[
    Path, typer.Argument(metavar="B", help="Another, or the same to judge it again.")
]


def capture(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write.")],
    model: given.AnyModel = None,
    weights: given.Weights = None,
    input: given.Input = None,
    batch: given.Batch = None,
    seed: given.Seed = 0,
    subjects: given.Subjects = given.ALL,
    reference: given.Reference = None,
    depth: given.Cuts = given.Depth.stage,
    onnx_keras: given.KerasGraph = None,
    onnx_torch: given.TorchGraph = None,
    keras: given.KerasReference = None,
    torch: given.TorchReference = None,
    table: given.Table = None,
    opset: given.Opset = None,
    device: given.Where = given.Device.auto,
    precision: given.Arithmetic = given.Precision.float32,
    keras_backend: given.KerasBackend = given.Backend.tensorflow,
    xla: given.Xla = False,
    serial: given.Serial = False,
    python: given.Interpreters = None,
    timeout: given.Timeout = 900.0,
    classes: given.Classes = None,
    image_size: given.Size = None,
    channels: given.Channels = None,
    cache: given.Cached = True,
) -> None:
    """Save what every subject computes, to be judged by `parity diff`, here or elsewhere.

    The folder gets a file a subject, and the float64 reference with the floor.
    """
    with guarded():
        from parity.children import Children
        from parity.environments import interpreters
        from parity.placement import plan
        from parity.request import Request

        request = Request(
            model=model,
            keras=keras,
            torch=torch,
            table=table,
            classes=classes,
            image_size=given.size(image_size),
            channels=channels,
            weights=weights,
            input=input,
            batch=batch,
            seed=seed,
            subjects=given.listed(subjects),
            reference=None if reference is None else reference.value,
            depth=depth.value,
            onnx_keras=onnx_keras,
            onnx_torch=onnx_torch,
            opset=opset,
            device=device.value,
            precision=precision.value,
            keras_backend=keras_backend.value,
            xla=xla,
            serial=serial,
            python=interpreters(python or []),
            timeout=timeout,
            cache=cache,
            save_captures=out,
            judged=False,
        )
        placed = plan(request)
        with (
            Children(python=request.python, timeout=request.timeout, gpu=placed.gpu) as children,
            progress() as tell,
        ):
            children.start(request.runtimes)
            from parity import run

            report = run.run(request, children=children, placement=placed, progress=tell)
        failed = {name: facts.failure for name, facts in report.subjects.items() if facts.failure}
        for name, failure in failed.items():
            console.note(f"{name} could not be run: {failure}")
        files = sorted(path for path in out.glob("*.safetensors") if path.name[0] != ".")
        for path in files:
            output().print(f"{path}: {path.stat().st_size / 1e6:,.1f} MB")
        raise typer.Exit(3 if failed or not files else 0)


@reported
def diff(
    a: OneModel,
    b: Another,
    limit: given.Limit = 4.0,
    judge_as: given.JudgeAs = None,
    *,
    reports: dict[str, Path],
) -> None:
    """Judge saved captures, of one place or of two, without running anything.

    They must be of one model, one set of weights and one input; versions, devices and machines may
    differ. The reference and the floors are A's where it has them, else B's.
    """
    with guarded():
        from parity import diffing
        from parity.errors import UsageError

        if not limit > 0:
            raise UsageError(f"--limit must be above 0, found {limit}")
        require_writable(reports)
        precision = None if judge_as is None else judge_as.value
        report = diffing.diff(a, b, limit=limit, judge_as=precision)
        report = dataclasses.replace(report, command=("parity", *sys.argv[1:]))
        console.show(report, reports)
        raise typer.Exit(report.verdict.exit_code)
