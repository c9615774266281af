"""The operations that write a repaired model: where its source is, its weights, its settings."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from parity.errors import UsageError
from parity.numerics.npz import load_npz, save_npz
from parity.runtimes import user_code
from parity.runtimes.constructors import Place

MAX_RUN_SECONDS = 20.0
"""After this time an alternative's run ends: a change of a loop may never end it."""


@contextlib.contextmanager
def limit_time(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` in what runs for longer, where this thread can have an alarm."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"it runs for more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


class RepairOperations:
    """What `parity fix` asks of a child that has one model of a framework."""

    def replace_sources(self, *, files: Mapping[str, str]) -> None:
        """Run the text of the files that are values in place of the files that are keys."""
        texts = {}
        for file, other in files.items():
            with open(other, encoding="utf-8", newline="") as stream:
                texts[file] = stream.read()
        user_code.replace_sources(texts)

    def run_replaced_sources(
        self,
        *,
        reference: Mapping[str, Any],
        alternatives: Sequence[Mapping[str, str]],
        inputs: str,
        weights: str,
        trust: Sequence[str] = (),
        custom_objects: str | None = None,
    ) -> dict[str, Any]:
        """Run a model with each of `alternatives` in place of its source files, one after another.

        An alternative is, by source file, a file with its text; `inputs` and `weights` are `.npz`
        files. Return "runs", one an alternative: the "outputs", by name the `.npz` file beside the
        first text, or the "error". A weight that an alternative lacks is left out.
        """
        return {
            "runs": [
                self._run_replaced(reference, each, inputs, weights, trust, custom_objects)
                for each in alternatives
            ]
        }

    def _run_replaced(
        self,
        reference: Mapping[str, Any],
        texts: Mapping[str, str],
        inputs: str,
        weights: str,
        trust: Sequence[str],
        custom_objects: str | None,
    ) -> dict[str, Any]:
        runtime: Any = self
        out = f"{next(iter(texts.values()))}.outputs.npz"
        user_code.forget_user_modules()
        getattr(runtime, "clear_framework_state", lambda: None)()
        try:
            with limit_time(MAX_RUN_SECONDS):
                self.replace_sources(files=texts)
                runtime.load_reference(
                    reference=reference, trust=trust, custom_objects=custom_objects
                )
                given = load_npz(inputs)
                graph = runtime.record(given)
                known = runtime.read_parameters()
                runtime.write_parameters(
                    {
                        name: value
                        for name, value in load_npz(weights).items()
                        if name in known and known[name].shape == value.shape
                    }
                )
                found: dict[str, Any] = {}
                tensors = {port.tensor: port.name for port in graph.outputs}

                def keep(tensor: str, array: Any) -> None:
                    found[tensors[tensor]] = array

                runtime.run_tensors(given, set(tensors), keep)
                save_npz(out, found)
        except Exception as error:  # noqa: BLE001 - most alternatives are wrong
            return {"error": f"{type(error).__name__}: {error}".partition("\n")[0]}
        return {"outputs": out}

    def trace_constructors(self) -> None:
        """From now on, keep where each layer is constructed."""
        raise NotImplementedError

    def find_constructors(self, *, paths: Sequence[str]) -> dict[str, Any]:
        """Return, by layer path, the place of the call that constructs the layer.

        See `constructors.Place.describe`. A layer whose call is not known is left out.
        """
        found = {}
        for path in paths:
            made, place = self.find_constructor(path)
            if place is not None:
                found[path] = place.describe(made)
        return {"places": found}

    def find_constructor(self, path: str) -> tuple[Any, Place | None]:
        """Return a layer by its path, and where it is constructed; None for both if unknown."""
        raise NotImplementedError

    def write_weights_file(self, *, path: str, weights: str) -> None:
        """Set the weights of an `.npz` file of `save_parameters`, and write all to `path`.

        The suffix of `path` is the format. Raises `UsageError` for one that the framework lacks.
        """
        raise NotImplementedError

    def write_changed_model(
        self, *, path: str, changes: Mapping[str, Mapping[str, Any]], weights: str | None
    ) -> None:
        """Write the model with other settings of its layers, by layer path; and other weights."""
        raise UsageError(f"{Path(path).suffix}: the settings of this format cannot be changed")
