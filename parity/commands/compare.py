"""`parity.compare`: start the children, run the subjects, judge the captures, explain, report."""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.commands import saved_captures
from parity.commands.graph_command import format_graph_command
from parity.commands.notebooks import show_in_notebooks
from parity.commands.values import (
    ImageSize,
    Progress,
    find_interpreters,
    names_any_models,
    no_progress,
    optional_path,
    parse_image_size,
    parse_subjects,
    require_references,
    sort_models,
)
from parity.comparison.graphs.request import GraphRequest, refuse_table_options
from parity.comparison.levels import judge_structure
from parity.comparison.placement import Placement, confirm_placement, plan_placement
from parity.comparison.preparation import Preparation
from parity.comparison.request import Request
from parity.comparison.state import State
from parity.defaults import LIMIT
from parity.network.table import Depth
from parity.processes import cache
from parity.processes.children import Children
from parity.report.model import Report

if TYPE_CHECKING:
    from numpy.typing import NDArray


@show_in_notebooks
def compare(
    *models: str,
    table: str | Path | None = None,
    classes: int | None = None,
    image_size: ImageSize | None = None,
    channels: int | None = None,
    weights: str | Path | None = None,
    input: str | Path | NDArray[Any] | None = None,
    inputs: Mapping[str, str | Path | NDArray[Any]] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int | None = None,
    preprocess: str | None = None,
    seed: int = 0,
    subjects: str | Sequence[str] | None = None,
    reference: str | None = None,
    export: bool = True,
    trust: Sequence[str | Path] = (),
    custom_objects: str | Path | None = None,
    depth: Depth = "stage",
    limit: float = LIMIT,
    isolate: bool = False,
    semantics: bool = False,
    explain: bool = True,
    repeat: int = 1,
    seeds: int = 0,
    stress: bool = False,
    opset: int | None = None,
    timeout: float = 900.0,
    cache: bool = True,
    labels: str | Path | None = None,
    save_captures: str | Path | None = None,
    device: str = "auto",
    precision: str = "float32",
    judge_as: str | None = None,
    python: Mapping[str, str | Path] | None = None,
    keras_backend: str = "tensorflow",
    xla: bool = False,
    serial: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Compare models in Keras, PyTorch and ONNX Runtime; report where and why they differ.

    Every subject is compared with a float64 reference, in units of the rounding floor: how much
    rounding alone moves this model on this input. The report is true if all subjects agree:
    `assert parity.compare("resnet18")`.

    The models:
        models: One registered architecture (`parity models` lists them), or references to any
            models, which are read and paired: "net.py:build", "package.module:build",
            "model.keras", "model.onnx", "keras:ResNet50", "torchvision:resnet50"; with a name,
            "old=net.py:build". After an architecture, "keras=mynet:build" or "torch=mynet:build"
            replaces one of its twins, "onnx-keras=F.onnx" or "onnx-torch=F.onnx" an export. The
            options of registered architectures alone are `classes`, `channels`, `keras_backend`,
            `xla` and `serial`; given with references, they raise `UsageError`.
        table: Pairs of layers that are kept, a .csv file as `AlignedModels.to_csv` gives it, while
            the rest is derived. Or a layer table, a .csv, .toml or .json file with all rows of
            "keras=mynet:build" and "torch=mynet:build".
        classes, channels: Sizes that override the architecture's.
        image_size: In pixels: 224, "96x128" or (height, width).
        weights: A checkpoint, or a reference to a model, whose weights all models get; "random"
            (seeded and calibrated, the default for a registered architecture); or "own" (each
            model keeps its own, the default for models that bring some).

    The run:
        input: A photograph, a folder of them, an .npy or .npz file, a float32 array, "random"
            (unit noise), or None, a photograph. An array is (N, C, H, W) for every framework.
        inputs: Arrays or .npy files by the input's name, for models with several inputs.
        shapes: Shapes by the input's name, where no model states one.
        batch: How many items to run at once; 1, or as many as the input has.
        preprocess: What is done to a photograph after its centre crop, which is 224/256 of the
            resized picture: "imagenet", (x / 255 - mean) / deviation; "scale", x / 255; "none",
            0 to 255; or that of a model of keras.applications, "keras:ResNet50". None: what an
            ONNX file's metadata states, or else ImageNet's.
        seed: Seed of random weights, inputs and crops.
        subjects: The subjects to compare, "keras,torch" or a sequence. None: the models and the
            graphs exported from them, "keras,torch,onnx-keras,onnx-torch". A subject may name a
            backend, a device and an environment: "keras[jax]@gpu", "torch@old".
        reference: The float64 reference: "torch", "keras", or the name of a subject.
        export: Also compare the graphs that are exported from the models.
        trust: Model files that hold programs and may be run.
        custom_objects: A Python file with the classes that a .keras file needs.
        device: "auto", "cpu" or "gpu", for the subjects that name no device.
        precision: "float32", "tf32", "float16" or "bfloat16".
        keras_backend: "tensorflow", "jax" or "torch", for the subjects that name no backend.
        xla: Compile Keras models with XLA.
        opset: The ONNX opset of the exports, 17 or newer.
        python: The interpreters of runtimes ("keras", "torch", "onnx") or of environments that
            subjects name: {"keras": "envs/keras"}.
        serial: Run one subject at a time, for a small GPU.
        timeout: Seconds that one step of a runtime may take.
        cache: Use what earlier runs made of registered models and those of zoos: graphs, weights,
            exports, floors, and the causes where all tensors are the same.

    The judgement:
        depth: The comparison points: the ends of every "stage", "block" or "layer".
        limit: The largest error that passes, in floors.
        judge_as: The precision whose floor is used; None: the precision of the run.
        isolate: Also run every part on the reference's input, which shows its own error alone.
        semantics: Also run every model and graph in float64.
        explain: Find and prove the causes of differences.
        repeat: The number of runs; values that change between runs are reported.
        seeds: The number of additional seeded random inputs to compare on.
        stress: Also compare on extreme inputs: zeros, an impulse, large values and more.
        labels: A file of class names by index, one a line or JSON, for the predictions. None: those
            that an ONNX file or a training run's checkpoint states, or, for 1000 classes and
            weights that are not random, ImageNet's, where torchvision or timm is installed.
        save_captures: A folder in which every subject's tensors are saved, for `parity.diff`.
        progress: A function that is called with a runtime and what it is doing now.

    Returns the `Report`. A runtime that is missing or fails does not raise: its subject has a
    `failure` in the report, whose verdict is then `unknown` if nothing else differs.

    Raises a `ParityError` for bad input: `UsageError` for parameters that contradict one another,
    `ArchitectureError` for an unknown model or impossible sizes, `TableError`, `WeightError`,
    `InputError` and `InterpreterError` for a bad table, checkpoint, input or interpreter,
    `OutputError` for a folder that cannot be written.

    Example:
        >>> import parity
        >>> report = parity.compare("resnet18", image_size=64, subjects="keras,torch")
        >>> report.ok, report.verdict.value
        (True, 'parity')
        >>> report.stages[0].subjects["keras"].x_floor <= report.limit
        True
    """
    settings: dict[str, Any] = {
        "classes": classes,
        "image_size": parse_image_size(image_size),
        "channels": channels,
        "input": input,
        "batch": batch,
        "preprocess": preprocess,
        "seed": seed,
        "reference": reference,
        "depth": depth,
        "limit": limit,
        "isolate": isolate,
        "semantics": semantics,
        "explain": explain,
        "repeat": repeat,
        "seeds": seeds,
        "stress": stress,
        "opset": opset,
        "timeout": timeout,
        "labels": optional_path(labels),
        "save_captures": optional_path(save_captures),
        "device": device,
        "precision": precision,
        "judge_as": judge_as,
        "python": find_interpreters(python),
        "keras_backend": keras_backend,
    }
    models = require_references(models)
    if names_any_models(models, table=table):
        refuse_table_options(xla=xla, serial=serial)
        graph_request = GraphRequest(
            references=models,
            weights=None if weights is None else str(weights),
            inputs=dict(inputs or {}),
            shapes={name: tuple(shape) for name, shape in (shapes or {}).items()},
            subjects=() if subjects is None else parse_subjects(subjects),
            export=export,
            trust=tuple(map(str, trust)),
            custom_objects=None if custom_objects is None else str(custom_objects),
            table=optional_path(table),
            cache=cache,
            **settings,
        )
        # Not at the top, as `findings`: a comparison starts its children as soon as it can.
        from parity.commands.compare_graphs import compare_graphs

        report = compare_graphs(graph_request, progress=progress or no_progress)
        return replace(report, command=format_graph_command(graph_request))
    request = Request(
        **sort_models(models),
        table=optional_path(table),
        weights=weights,
        subjects=parse_subjects(subjects),
        cache=cache,
        xla=xla,
        serial=serial,
        **settings,
    )
    return compare_request(request, progress=progress or no_progress)


def compare_request(
    request: Request,
    *,
    children: Children | None = None,
    placement: Placement | None = None,
    progress: Progress = no_progress,
) -> Report:
    """Run a comparison and return its report.

    `children` may have been started before, with the GPU setting of `placement`; without them, the
    comparison starts and closes its own.
    """
    report, _ = run_comparison(request, children=children, placement=placement, progress=progress)
    return report


def run_comparison(
    request: Request,
    *,
    children: Children | None = None,
    placement: Placement | None = None,
    progress: Progress = no_progress,
) -> tuple[Report, dict[str, Path]]:
    """Run a comparison; return its report and its saved captures, by subject and ``reference``.

    The parameters are those of `compare_request`.
    """
    start = time.perf_counter()
    if request.cache:
        cache.require_own_folder()
    if request.labels is not None:
        from parity.commands.class_names import read_class_names

        read_class_names(request.labels)
    if request.save_captures is not None:
        saved_captures.require_replaceable(request.save_captures, request.subjects)
    files: dict[str, Path] = {}
    with contextlib.ExitStack() as stack:
        if children is None:
            placement = plan_placement(request)
            children = stack.enter_context(
                Children(python=request.python, timeout=request.timeout, gpu=placement.uses_gpu)
            )
            children.start(request.runtimes)
        placement = confirm_placement(placement or plan_placement(request), request, children)
        folder = stack.enter_context(saved_captures.create_capture_folder(request.save_captures))
        preparation = Preparation(request, children, folder, progress, placement)
        if request.judge:
            # What judges is imported while the children compute.
            name = "parity.commands.findings"
            threading.Thread(target=importlib.import_module, args=(name,), daemon=True).start()
        state, runner = preparation.run(), preparation.runner
        from parity.report.assembly import Findings, assemble_report

        findings = Findings()
        if request.judge:
            from parity.commands.findings import judge_and_explain

            state, findings = judge_and_explain(state, runner)
        structure = judge_structure(state, runner)
        report = assemble_report(state, findings, structure, time.perf_counter() - start)
        if request.save_captures is not None:
            files = _move_captures(state, request.save_captures, report)
    if request.cache:
        cache.prune()
    return report, files


def _move_captures(state: State, folder: Path, report: Report) -> dict[str, Path]:
    """Move the captures into the user's folder; return their files."""
    comparison = state.comparison
    if comparison is None:
        return {}
    return saved_captures.move_captures(
        folder,
        {**comparison.captures, saved_captures.REFERENCE: comparison.reference.capture},
        report,
        points=comparison.points,
        outputs=[comparison.points[-1].row],
        floors=comparison.reference.floors,
        instrumentation_gaps={
            name: run.instrumentation_gap for name, run in state.subjects.items()
        },
    )
