"""The settings that every comparison has, of twins and of any models, validated."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from parity.defaults import LIMIT
from parity.errors import UsageError
from parity.network.table import Depth
from parity.processes import registry
from parity.processes.subjects import DEVICES

SELECTABLE_PRECISIONS = ("float32", "tf32", "float16", "bfloat16")
"""The precisions that a request can name, a subset of `parity.numerics.floor.PRECISION_FACTORS`."""

RANDOM, OWN = "random", "own"
"""The values of `weights` that name no file and no model."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The input, the criteria and the places of a comparison.

    `isolate` also measures isolated errors: every part is given the reference's input. `semantics`
    also runs every subject in float64. `explain` searches for the causes of differences. `repeat`
    is the number of runs of each subject, which must agree bit for bit. `seeds` is the number of
    further random inputs, and `stress` adds stress inputs. `limit` is in units of the floor,
    `timeout` in seconds for one request to a child. Captures are saved in `save_captures`; without
    `judge` they are only saved. `preprocess` is None for what an ONNX file states, or else
    ImageNet's; `labels` is a file of class names. `device` applies to the subjects whose name has
    none, `precision` to all subjects; `judge_as` is the precision whose
    floor they are judged by, their own by default. `python` gives runtimes and environments an
    interpreter.
    """

    classes: int | None = None
    image_size: tuple[int, int] | None = None
    channels: int | None = None
    input: Any = None
    batch: int | None = None
    preprocess: str | None = None
    seed: int = 0
    subjects: tuple[str, ...] = ()
    reference: str | None = None
    depth: Depth = "stage"
    limit: float = LIMIT
    isolate: bool = False
    semantics: bool = False
    explain: bool = True
    repeat: int = 1
    seeds: int = 0
    stress: bool = False
    opset: int | None = None
    timeout: float = 900.0
    save_captures: Path | None = None
    judge: bool = True
    labels: Path | None = None
    device: str = "auto"
    precision: str = "float32"
    judge_as: str | None = None
    python: Mapping[str, str] = field(default_factory=dict)
    keras_backend: str = "tensorflow"

    def _check_choices(self, *further: tuple[str | None, Sequence[str], str]) -> None:
        """Raise `UsageError` for a value that is none of its option's.

        `further` are values with those that are known and the name of the option.
        """
        for value, known, option in (
            (self.depth, get_args(Depth), "--depth"),
            (self.device, ("auto", *DEVICES), "--device"),
            (self.precision, SELECTABLE_PRECISIONS, "--precision"),
            (self.judge_as, SELECTABLE_PRECISIONS, "--judge-as"),
            (self.keras_backend, registry.backend_names("keras"), "--keras-backend"),
            *further,
        ):
            if value is not None and value not in known:
                raise UsageError(f"{option}: expected one of {', '.join(known)}, found '{value}'")

    def _check_values(self) -> None:
        """Raise `UsageError` for a number outside its range, and an unknown preprocessing."""
        if self.preprocess is not None:
            # Not at the top: it brings NumPy, which is imported once the children are started.
            from parity.network.inputs import preprocessing

            preprocessing.find(self.preprocess)
        if self.repeat < 1 or self.seeds < 0:
            raise UsageError("--repeat must be at least 1, and --seeds at least 0")
        if not self.limit > 0:
            raise UsageError(f"--limit must be above 0, found {self.limit}")
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"--batch must be at least 1, found {self.batch}")
        if not 0 < self.timeout < threading.TIMEOUT_MAX:
            raise UsageError(f"--timeout must be a number of seconds, found {self.timeout}")
