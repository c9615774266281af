"""The names of a zoo's models, which its own package lists in a child."""

from __future__ import annotations

import json

from parity import temporary
from parity.processes import probe, zoos
from parity.processes.cache import Cache
from parity.processes.children import Children
from parity.processes.interpreters import resolve_interpreters, select_interpreter


def list_zoo_names(zoo: str) -> list[str]:
    """Return the names of a zoo's models, sorted.

    They are in the cache, since importing a framework takes seconds, until a version changes.
    Raises `UsageError` for a zoo that is not installed, and `InterpreterError`.
    """
    info = zoos.all_zoos()[zoo]
    python = resolve_interpreters([])
    found = probe.probe_interpreter(info.runtime, select_interpreter(info.runtime, python))
    facts = {"zoo": zoo, "versions": dict(found.versions), "zoos": dict(found.zoos)}
    cache = Cache()
    cached = cache.find("names", facts)
    if cached is not None:
        return [str(name) for name in json.loads(cached.read_bytes())]
    with Children(python=python) as children:
        names = sorted(map(str, children[info.runtime].call("list_zoo", zoo=zoo)["names"]))
    with temporary.working_folder() as folder:
        # If it cannot be kept, the next sweep asks again.
        path = folder / "names.json"
        path.write_text(json.dumps(names), encoding="utf-8")
        cache.publish("names", facts, path)
    return names
