"""A comparison from beginning to end: start the children, run the subjects, judge, explain."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.commands import saved_captures
from parity.commands.values import (
    ImageSize,
    Progress,
    find_interpreters,
    optional_path,
    parse_image_size,
    parse_subjects,
    silent,
)
from parity.comparison.attribution import attribute_differences
from parity.comparison.isolation import (
    isolate_failing_layers,
    locate_divergences,
    measure_isolated_errors,
)
from parity.comparison.judging import judge_captures
from parity.comparison.levels import judge_structure
from parity.comparison.passes import compare_remaining_passes
from parity.comparison.placement import Placement, confirm_placement, plan_placement
from parity.comparison.preparation import Preparation
from parity.comparison.profile import profile_worst_error
from parity.comparison.repeats import compare_other_inputs, measure_repeatability
from parity.comparison.request import Request, Side
from parity.comparison.runner import Runner
from parity.comparison.semantics import judge_semantics
from parity.comparison.state import Comparison, State
from parity.errors import OutputError
from parity.explain import session
from parity.explain.cause import Cause
from parity.network.table import Depth
from parity.numerics import verdict
from parity.numerics.verdict import FirstDivergence, StageResult, find_failing_subjects
from parity.processes import cache
from parity.processes.children import Children
from parity.report.assembly import SEMANTICS_SKIPPED, Findings, assemble_report
from parity.report.model import Report

if TYPE_CHECKING:
    from numpy.typing import NDArray


def compare(
    model: str | None = None,
    *,
    keras: str | None = None,
    torch: str | None = None,
    table: str | Path | None = None,
    onnx_keras: str | Path | None = None,
    onnx_torch: str | Path | None = None,
    classes: int | None = None,
    image_size: ImageSize | None = None,
    channels: int | None = None,
    weights: str | Path | None = None,
    input: str | Path | NDArray[Any] | None = None,
    batch: int | None = None,
    seed: int = 0,
    subjects: str | Sequence[str] | None = None,
    reference: Side | None = None,
    depth: Depth = "stage",
    limit: float = 4.0,
    isolate: bool = False,
    semantics: bool = False,
    explain: bool = True,
    repeat: int = 1,
    seeds: int = 0,
    stress: bool = False,
    opset: int | None = None,
    timeout: float = 900.0,
    cache: bool = True,
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
    """Say whether a model is the same in Keras, PyTorch and ONNX, and if not, where and why.

    Every subject is compared with a float64 reference, in units of the rounding floor: how much
    rounding alone moves this model on this input. The report is true where they all agree:
    `assert parity.compare("resnet18")`.

    The model:
        model: A registered architecture; `parity models` lists them.
        keras, torch: `module:callable` that builds a model of your own; `table` pairs their layers.
        table: The layer table of your own models, a .csv, .toml or .json file.
        onnx_keras, onnx_torch: ONNX files to run in place of a fresh export.
        classes, channels: Other sizes than the architecture's own.
        image_size: In pixels: 224, "96x128" or (height, width).
        weights: A checkpoint; "random" (seeded and calibrated, the default for `model`); or "own"
            (each model keeps its own, the default for models of your own).

    What is run:
        input: A photograph, a folder of them, an .npy or .npz file, a float32 array, "random"
            (unit noise), or None, a photograph. An array is (N, C, H, W) for every framework.
        batch: How many items to run at once; 1, or as many as the input has.
        seed: Seed of random weights, inputs and crops.
        subjects: What is compared, "keras,torch" or a sequence; None: the models and the graphs
            exported from them, "keras,torch,onnx-keras,onnx-torch". A subject may name a backend,
            a device and an environment: "keras[jax]@gpu", "torch@old".
        reference: The framework that computes in float64, "torch" or "keras".
        device: "auto", "cpu" or "gpu", for the subjects that name none.
        precision: "float32", "tf32", "float16" or "bfloat16".
        keras_backend: "tensorflow", "jax" or "torch", for the subjects that name none.
        xla: Compile Keras models with XLA.
        opset: The ONNX opset of the exports, 17 or newer.
        python: The interpreter of a runtime ("keras", "torch", "onnx") or of an environment of your
            naming: {"keras": "envs/keras"}.
        serial: Run one subject at a time, for a small GPU.
        timeout: Seconds that one step of a runtime may take.
        cache: Use exports and calibrated weights that earlier runs left.

    How it is judged:
        depth: Where to compare: after every "stage", "block" or "layer".
        limit: How many floors are still rounding.
        judge_as: The precision whose floor is the measure, if not the one computed in.
        isolate: Also give every part the reference's input, so that it shows its own error only.
        semantics: Also run every model and graph in float64.
        explain: Name and prove the causes of what differs.
        repeat: Run so often, and report what changes between runs.
        seeds: Compare on so many more seeded random inputs.
        stress: Compare on zeros, an impulse, large values and more, too.
        save_captures: A folder in which to keep every subject's tensors, for `parity.diff`.
        progress: Is called with a runtime and what it is doing now.

    Returns the `Report`. A runtime that is missing or fails does not raise: its subject has a
    `failure` in the report, whose verdict is then `unknown` if nothing else differs.

    Raises a `ParityError` of bad input: `UsageError` for parameters that contradict each other,
    `SpecError` for an unknown model or impossible sizes, `TableError`, `WeightError`, `InputError`
    and `InterpreterError` for the files that they are named after, `OutputError` for a folder that
    cannot be written.

    Example:
        >>> import parity
        >>> report = parity.compare("resnet18", image_size=64, subjects="keras,torch")
        >>> report.ok, report.verdict.value
        (True, 'parity')
        >>> report.stages[0].subjects["keras"].x_floor <= report.limit
        True
    """
    request = Request(
        model=model,
        keras=keras,
        torch=torch,
        table=optional_path(table),
        onnx_keras=optional_path(onnx_keras),
        onnx_torch=optional_path(onnx_torch),
        classes=classes,
        image_size=parse_image_size(image_size),
        channels=channels,
        weights=weights,
        input=input,
        batch=batch,
        seed=seed,
        subjects=parse_subjects(subjects),
        reference=reference,
        depth=depth,
        limit=limit,
        isolate=isolate,
        semantics=semantics,
        explain=explain,
        repeat=repeat,
        seeds=seeds,
        stress=stress,
        opset=opset,
        timeout=timeout,
        cache=cache,
        save_captures=optional_path(save_captures),
        device=device,
        precision=precision,
        judge_as=judge_as,
        python=find_interpreters(python),
        keras_backend=keras_backend,
        xla=xla,
        serial=serial,
    )
    return run(request, progress=progress or silent)


def run(
    request: Request,
    *,
    children: Children | None = None,
    placement: Placement | None = None,
    progress: Progress = silent,
) -> Report:
    """Do what `request` asks for; `children` may be importing their frameworks already.

    They must then have been started as `placement` says.
    """
    report, _ = run_and_save(request, children=children, placement=placement, progress=progress)
    return report


def run_and_save(
    request: Request,
    *,
    children: Children | None = None,
    placement: Placement | None = None,
    progress: Progress = silent,
) -> tuple[Report, dict[str, Path]]:
    """Do what `run` does; also return the captures that were kept, by subject and `reference`."""
    started = time.perf_counter()
    if request.cache:
        cache.require_ours()
    if request.save_captures is not None:
        saved_captures.require_ours(request.save_captures, request.subjects)
    files: dict[str, Path] = {}
    with contextlib.ExitStack() as stack:
        if children is None:
            placement = plan_placement(request)
            children = stack.enter_context(
                Children(python=request.python, timeout=request.timeout, gpu=placement.gpu)
            )
            children.start(request.runtimes)
        placement = confirm_placement(placement or plan_placement(request), request, children)
        folder = stack.enter_context(_working_folder(request.save_captures))
        preparation = Preparation(request, children, folder, progress, placement)
        state, runner = preparation.run(), preparation.runner
        findings = Findings()
        if request.judge:
            state, findings = find(state, runner)
        structure = judge_structure(state, runner)
        report = assemble_report(state, findings, structure, time.perf_counter() - started)
        if request.save_captures is not None:
            files = _keep(state, request.save_captures, report)
    if request.cache:
        cache.prune()
    return report, files


@contextlib.contextmanager
def _working_folder(beside: Path | None) -> Iterator[Path]:
    """A folder that is gone afterwards; in `beside`, which captures are to be moved to."""
    if beside is not None:
        try:
            beside.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{beside}: cannot be a folder: {error.strerror}") from error
    # Captures of a large model are gigabytes: where they stay, they need not be copied.
    with tempfile.TemporaryDirectory(prefix=".parity-", dir=beside) as name:
        yield Path(name)


def find(state: State, runner: Runner) -> tuple[State, Findings]:
    """Judge the captures; where something differs, find the layer, where it enters, and why.

    Also the state of what is on disk afterwards: of a folder of photographs, one pass.
    """
    comparison = state.comparison
    if comparison is None:
        return state, Findings()
    request = state.request
    stages = judge_captures(
        comparison.reference.capture,
        comparison.reference.floors,
        comparison.captures,
        comparison.points,
        comparison.criteria,
    )
    passes = compare_remaining_passes(state, comparison, runner, stages)
    # Of a folder, one pass is looked into; what all of them show is put together at the end.
    state, stages = passes.state, passes.detail_stages
    comparison = state.comparison or comparison
    found = _look_further(state, comparison, runner, stages)
    trials, spread = compare_other_inputs(
        comparison, runner, _image_shape(state), seeds=request.seeds, stress=request.stress
    )
    semantics = SEMANTICS_SKIPPED
    if request.semantics:
        failures = {
            n: error for n in request.subjects if (error := state.find_failure(n)) is not None
        }
        semantics = judge_semantics(comparison, runner, state.float64, failures)
    again = (
        measure_repeatability(comparison, runner, request.repeat) if request.repeat > 1 else None
    )
    return state, replace(
        found,
        stages=_with_isolated(passes.stages, found.stages),
        semantics=semantics,
        decision=passes.decision,
        repeat=again,
        trials=trials,
        spread=spread,
        notes=passes.notes,
    )


def _look_further(
    state: State, comparison: Comparison, runner: Runner, stages: list[StageResult]
) -> Findings:
    """Isolate, locate, attribute and explain what `stages` show."""
    request, captures = state.request, comparison.captures
    differs = verdict.find_first_divergence(stages) is not None
    causes: tuple[Cause, ...] = ()
    if request.explain and (differs or state.failures):
        causes = session.explain_runs(state, comparison, runner, stages)
    # A compiled model's parts cannot be fed, and what is explained needs no look at its layers.
    explained = {cause.subject for cause in causes}
    explain = request.explain and not request.xla
    explain = explain and not (differs and find_failing_subjects(stages) <= explained)
    if captures and (request.isolate or (explain and differs)):
        stages, captures = measure_isolated_errors(comparison, runner, stages)
    layers = isolate_failing_layers(comparison, runner, stages) if differs else None
    divergences: tuple[FirstDivergence, ...] = ()
    attribution: tuple[str, ...] = ()
    by_numbers: session.NumericProofs = frozenset()
    structural = session.StructuralFindings()
    if request.explain:
        structural = session.explain_structure(state, comparison, runner, layers)
    if differs:
        divergences = locate_divergences(comparison, runner, stages, layers)
        attribution = attribute_differences(comparison, runner, stages)
        if explain and layers is not None:
            known = {(n, layer.row) for n, layer in layers.failures() if n in explained}
            numeric, by_numbers = session.explain_layers(
                state, comparison, runner, layers, stages, structural.explained | known
            )
            causes += numeric
            causes += session.explain_float64(state, comparison, runner, layers)
    elif explain and captures:
        causes += session.explain_float64(state, comparison, runner)
    return Findings(
        stages=tuple(stages),
        divergences=divergences,
        attribution=attribution,
        causes=causes + structural.describe(by_numbers),
        profile=profile_worst_error(
            stages, comparison.reference.capture, captures, comparison.criteria.precisions
        ),
    )


def _image_shape(state: State) -> tuple[int, int, int]:
    channels, height, width = state.input.array.shape[1:]
    return channels, height, width


def _with_isolated(
    whole: Sequence[StageResult], inspected: Sequence[StageResult]
) -> tuple[StageResult, ...]:
    """All passes' figures, with the isolated ones of the pass that was looked into."""
    return tuple(
        replace(stage, isolated=looked.isolated, isolated_floor=looked.isolated_floor)
        for stage, looked in zip(whole, inspected, strict=True)
    )


def _keep(state: State, folder: Path, report: Report) -> dict[str, Path]:
    """Move the captures to where the user wants them; return their files."""
    comparison = state.comparison
    if comparison is None:
        return {}
    return saved_captures.keep(
        folder,
        {**comparison.captures, saved_captures.REFERENCE: comparison.reference.capture},
        report,
        points=comparison.points,
        floors=comparison.reference.floors,
        gaps={name: run.instrumentation_gap for name, run in state.subjects.items()},
    )
