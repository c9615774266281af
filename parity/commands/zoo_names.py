"""The names of a zoo's models, which its own package lists in a child."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from parity import files
from parity.errors import OutputError
from parity.processes import probe, zoos
from parity.processes.children import Children
from parity.processes.interpreters import resolve_interpreters, select_interpreter


def list_zoo_names(zoo: str, folder: Path) -> list[str]:
    """Return the names of a zoo's models, sorted.

    They are kept in `folder`, since importing a framework takes seconds, until a version changes.
    Raises `UsageError` for a zoo that is not installed, and `InterpreterError`.
    """
    info = zoos.all_zoos()[zoo]
    python = resolve_interpreters([])
    found = probe.probe_interpreter(info.runtime, select_interpreter(info.runtime, python))
    facts = json.dumps([zoo, dict(found.versions), dict(found.zoos)], sort_keys=True)
    digest = hashlib.sha256(facts.encode()).hexdigest()[:16]
    path = folder / f"names-{zoo}-{digest}.json"
    try:
        names = json.loads(files.read_text(path))
        if isinstance(names, list):
            return [str(name) for name in names]
    except (OSError, ValueError):
        pass
    with Children(python=python) as children:
        names = sorted(children[info.runtime].call("list_zoo", zoo=zoo)["names"])
    # If it cannot be kept, the next sweep asks again.
    with contextlib.suppress(OutputError):
        files.write_text(path, json.dumps(names) + "\n")
    return names
