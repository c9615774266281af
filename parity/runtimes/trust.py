"""Model files that hold programs are loaded only where the user trusts them by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parity.errors import UsageError
from parity.processes.model_files import ModelFile
from parity.text import printable


def require_trust(path: str, kind: ModelFile, trust: Sequence[str]) -> None:
    """Raise `UsageError` if the file is a program and not among those of `--trust`."""
    trusted = {Path(each).resolve() for each in trust}
    if kind.is_program and Path(path).resolve() not in trusted:
        name = printable(path)
        raise UsageError(
            f"{name}: a {kind.format} is a program, which runs when it is loaded; "
            f"if you know where it is from, add --trust {name}"
        )
