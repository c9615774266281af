"""A new `parity.toml` for one comparison, with a comment on each key: `parity check --init`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from parity import files
from parity.commands import cases
from parity.commands.values import names_any_models
from parity.errors import UsageError

_TEXT = """\
# The comparisons that `parity check` runs; a project's CI needs that one command.
# `parity check --update` locks the figures: later runs fail when one more than doubles.

[defaults]
# Keys for every case that does not set them itself.
input = "random"          # or a photograph, a folder of them, an array F.npy
# semantics = true        # also every model in float64, which shows the smallest differences
# seeds = 3               # also three more random inputs
# stress = true           # also zeros, ones, large values, an impulse
# device = "cpu"          # "auto", "cpu" or "gpu"

[[case]]
name = {name}
{models}
# depth = "layer"         # comparison points: "stage", "block" or "layer"
# limit = 4.0             # the largest error that passes, in rounding floors
# lock_factor = 2.0       # a figure may be this many times its locked one
{sizes}
# [reports]               # a folder gets one file for each case
# junit = "reports/parity.xml"
# html = "reports"

# [environments]          # other interpreters, for subjects such as torch@old
# old = "/path/to/python"
"""

_OWN_WEIGHTS = """\
# weights = "torch"       # those of one model for all, or "F.pth"; by default each its own
"""

_SIZES = """\
# classes = 10            # other sizes than the published ones
# image_size = 64
# weights = "F.pth"       # by default seeded random weights
"""


def write_case_file(path: Path, references: Sequence[str]) -> None:
    """Write a case file that compares an architecture, or models by their references.

    Raises `UsageError` if the file exists, `ParityError` for a model that cannot be compared.
    """
    if path.exists():
        raise UsageError(f"{path}: exists already; name another file, or add a [[case]] to it")
    files.require_writable(path)
    text = make_case_file(references)
    # The file that a user gets is one that `parity check` reads.
    cases.parse(path, text)
    files.write_text(path, text)


def make_case_file(references: Sequence[str]) -> str:
    """Return the text of a case file for an architecture, or for models by their references."""
    stem = re.sub(r"\.py(?=:)", "", references[0])
    name = re.sub(r"[^\w.+@-]+", "-", stem).strip("-.") or "model"
    if len(references) == 1 and not names_any_models(references):
        models, sizes = f"model = {_quote(references[0])}", _SIZES
    else:
        models, sizes = f"models = [{', '.join(map(_quote, references))}]", _OWN_WEIGHTS
    return _TEXT.format(name=_quote(name), models=models, sizes=sizes)


def _quote(text: str) -> str:
    """Return a text as a string of TOML, which has the escapes of JSON."""
    return json.dumps(text, ensure_ascii=False)
