"""Captures for later: run the subjects and save what they compute, without judging it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.commands.compare import run_and_save
from parity.commands.values import (
    ImageSize,
    Progress,
    find_interpreters,
    optional_path,
    parse_image_size,
    parse_subjects,
    silent,
)
from parity.comparison.placement import Placement
from parity.comparison.request import Request, Side
from parity.network.table import Depth
from parity.processes.children import Children

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Captures:
    """A folder of captures. `files` are by subject, the float64 reference's is `reference`."""

    folder: Path
    files: Mapping[str, Path]
    failures: Mapping[str, str]
    """Why a subject could not be run, by subject."""

    @property
    def ok(self) -> bool:
        """Whether every subject was run and saved."""
        return bool(self.files) and not self.failures


def capture(
    model: str | None = None,
    *,
    out: str | Path,
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
    opset: int | None = None,
    timeout: float = 900.0,
    cache: bool = True,
    device: str = "auto",
    precision: str = "float32",
    python: Mapping[str, str | Path] | None = None,
    keras_backend: str = "tensorflow",
    xla: bool = False,
    serial: bool = False,
    progress: Progress | None = None,
) -> Captures:
    """Run a model's subjects and save what they compute in the folder `out`, without judging it.

    `parity.diff` judges it later, here or elsewhere, together with captures of other machines.

    The folder gets `SUBJECT.safetensors` for every subject, and `reference.safetensors` with the
    float64 reference, its rounding floors and the levels structure and weights. A file holds
    an array for each comparison point in PyTorch's axis order, (N, C, H, W), (N, T, C) or (N, C),
    whichever framework computed it. Captures that an earlier comparison left in `out` make way.

    The other parameters are those of `parity.compare`.

    Raises `OutputError` if `out` cannot be written, or holds a foreign file of such a name, and
    what `parity.compare` raises. A subject that cannot be run is in `failures`.

    Example:
        >>> import parity
        >>> captures = parity.capture("resnet18", out="here", subjects="keras,torch")
        >>> captures.files["keras"]
        PosixPath('here/keras.safetensors')
        >>> parity.diff("here", "here").ok
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
        opset=opset,
        timeout=timeout,
        cache=cache,
        save_captures=Path(out),
        judge=False,
        device=device,
        precision=precision,
        python=find_interpreters(python),
        keras_backend=keras_backend,
        xla=xla,
        serial=serial,
    )
    return save(request, progress=progress or silent)


def save(
    request: Request,
    *,
    children: Children | None = None,
    placement: Placement | None = None,
    progress: Progress = silent,
) -> Captures:
    """Run a request that is not judged; `children` and `placement` are those of `compare.run`."""
    assert request.save_captures is not None
    assert not request.judge
    report, files = run_and_save(request, children=children, placement=placement, progress=progress)
    failures = {name: facts.failure for name, facts in report.subjects.items() if facts.failure}
    return Captures(request.save_captures, files, failures)
