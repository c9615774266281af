"""`parity.capture`: run the subjects and save their captures, without judging them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.commands import saved_runs
from parity.commands.compare import run_comparison
from parity.commands.compare_graphs import run_graph_comparison
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
    sort_models,
)
from parity.comparison.graphs.request import GraphRequest, refuse_table_options
from parity.comparison.placement import Placement
from parity.comparison.request import Request
from parity.files import require_suffix, require_writable
from parity.network.table import Depth
from parity.processes.children import Children

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Captures:
    """A folder of captures. `files` are by subject; the float64 reference's is `reference`."""

    folder: Path
    files: Mapping[str, Path]
    failures: Mapping[str, str]
    """The error message of each subject that could not be run."""
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every subject was run and saved."""
        return bool(self.files) and not self.failures


@show_in_notebooks
def capture(
    *models: str,
    out: str | Path,
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
    opset: int | None = None,
    timeout: float = 900.0,
    cache: bool = True,
    device: str = "auto",
    precision: str = "float32",
    python: Mapping[str, str | Path] | None = None,
    keras_backend: str = "tensorflow",
    xla: bool = False,
    serial: bool = False,
    polygraphy: str | Path | None = None,
    progress: Progress | None = None,
) -> Captures:
    """Run models and save their tensors in the folder `out`, without judging them.

    `parity.diff` judges saved captures later, also together with captures of another machine.

    The folder gets `SUBJECT.safetensors` for every subject, and `reference.safetensors` with the
    float64 reference, its rounding floors and the levels structure and weights. A file holds an
    array for each comparison point in PyTorch's axis order, (N, C, H, W), (N, T, C) or (N, C), for
    every framework. Captures of an earlier comparison in `out` are replaced. `polygraphy` is a file
    that gets the model outputs of every subject as Polygraphy saves them
    (`polygraphy run --save-outputs`).

    The other parameters are those of `parity.compare`.

    Raises `OutputError` if `out` cannot be written or if a file of such a name is not parity's, and
    the errors of `parity.compare`. A subject that cannot be run is in `failures`.

    Example:
        >>> import parity
        >>> captures = parity.capture("resnet18", out="here", subjects="keras,torch")
        >>> captures.files["keras"]
        PosixPath('here/keras.safetensors')
        >>> parity.diff("here", "here").ok
        True
    """
    if polygraphy is not None:
        require_writable(polygraphy)
        require_suffix(polygraphy, ".json")
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
        "opset": opset,
        "timeout": timeout,
        "save_captures": Path(out),
        "judge": False,
        "device": device,
        "precision": precision,
        "python": find_interpreters(python),
        "keras_backend": keras_backend,
    }
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
            **settings,
        )
        captures = capture_models(graph_request, progress=progress or no_progress)
        save_outputs(captures, polygraphy)
        return captures
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
    captures = capture_request(request, progress=progress or no_progress)
    save_outputs(captures, polygraphy)
    return captures


def save_outputs(captures: Captures, path: str | Path | None) -> None:
    """Write the model outputs of every subject to `path`, if it is one.

    The form is that of `polygraphy run --save-outputs`; the runners have the names of the
    subjects. Raises `OutputError`.
    """
    if path is not None and captures.files:
        saved_runs.write_outputs(path, captures.files)


def capture_request(
    request: Request,
    *,
    children: Children | None = None,
    placement: Placement | None = None,
    progress: Progress = no_progress,
) -> Captures:
    """Run a request that is not judged; see `compare_request` for `children` and `placement`."""
    assert request.save_captures is not None
    assert not request.judge
    report, files = run_comparison(
        request, children=children, placement=placement, progress=progress
    )
    failures = {name: facts.failure for name, facts in report.subjects.items() if facts.failure}
    return Captures(request.save_captures, files, failures, report.notes)


def capture_models(request: GraphRequest, *, progress: Progress = no_progress) -> Captures:
    """Run any models that references name, without judging them."""
    assert request.save_captures is not None
    assert not request.judge
    report, files = run_graph_comparison(request, progress=progress)
    failures = {name: facts.failure for name, facts in report.subjects.items() if facts.failure}
    return Captures(request.save_captures, files, failures, report.notes)
