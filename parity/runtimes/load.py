"""The operations that load a model and describe it."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from parity import files
from parity.errors import UsageError
from parity.network import weights
from parity.network.architectures import from_json
from parity.network.table import LayerTable, Row
from parity.processes import registry
from parity.processes.references import REGISTERED, WEIGHTS, ModelReference, registered_spec
from parity.runtimes.devices import inspect_device
from parity.runtimes.framework import Framework
from parity.runtimes.loaded import LoadedModel
from parity.runtimes.zoo_models import list_zoo_models
from parity.text import printable, quote
from parity.version import __version__


class LoadOperations(Framework):
    """Loads the one model of a child."""

    load_again: Callable[[], LoadedModel]
    """Loads the model of the last reference once more."""

    def hello(self) -> dict[str, Any]:
        """Return the versions; see `hello_answer`."""
        return hello_answer(self.versions())

    def inspect_device(self, *, device: str) -> dict[str, Any]:
        """Return the devices and the flags of a float32 run; see `devices.inspect_device`."""
        return inspect_device(self, device)

    def load(
        self, *, spec: dict[str, Any] | None = None, callable_path: str | None = None
    ) -> dict[str, Any]:
        """Build the registered twin of `spec`, or call the user's `module:callable`."""
        started = time.perf_counter()
        self.note_new_weights()
        self.spec = None if spec is None else from_json(spec)
        self.layout = None
        if callable_path is not None:
            self.model = self.build_from_callable(callable_path)
        else:
            assert self.spec is not None
            self.model = self.build(self.spec)
            self.table = self.spec.table()
        return {"seconds": time.perf_counter() - started}

    def load_reference(
        self,
        *,
        reference: dict[str, Any],
        trust: Sequence[str] = (),
        custom_objects: str | None = None,
        nested_example: bool = False,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Load the model that a user named; see `Framework.load_model_reference`.

        With `nested_example` the example that came with it may have any structure.
        "brings_weights" is False where the weights are still to be set; "class" is the type of the
        model, "notes" are lines for the report.
        """
        started = time.perf_counter()
        parsed = ModelReference.from_json(reference)
        self.note_new_weights()
        loaded = self.load_model_reference(
            parsed, trust=trust, custom_objects=custom_objects, seed=seed
        )
        self.load_again = partial(
            self.load_model_reference, parsed, trust=trust, custom_objects=custom_objects
        )
        self.spec, self.layout = None, None
        self.model = loaded.model
        self.loaded_example = loaded.example
        try:
            self.keep_example(loaded)
        except UsageError:
            if not nested_example:
                raise
        if parsed.form == REGISTERED:
            self.spec = registered_spec(parsed)
            if self.spec.has_table:
                self.table = self.spec.table()
        return {
            "runtime": self.name,
            "brings_weights": loaded.brings_weights or self._load_registered_weights(parsed),
            "has_example": loaded.example is not None,
            "seconds": time.perf_counter() - started,
            "class": type(loaded.model).__name__,
            "notes": list(loaded.notes),
        }

    def list_zoo(self, *, zoo: str) -> dict[str, Any]:
        """Return the "names" of a zoo's models; see `zoo_models.list_zoo_models`."""
        return {"names": list_zoo_models(zoo)}

    def keep_example(self, loaded: LoadedModel) -> None:
        """Keep the example inputs of a model that has just been loaded."""
        self.example = loaded.example

    def _load_registered_weights(self, reference: ModelReference) -> bool:
        """Load the option `weights` of a registered model, if it has one: whether it has."""
        path = reference.options.get(WEIGHTS)
        if reference.form != REGISTERED or path is None:
            return False
        if not str(path).endswith((".safetensors", *registry.get(self.name).checkpoint_suffixes)):
            raise UsageError(
                f"{quote(reference.text)}: {registry.label(self.name)} does not read this "
                f"checkpoint; give --weights {printable(str(path))}, or a .safetensors"
            )
        self.load_checkpoint(path=str(path))
        return True

    def load_checkpoint(self, *, path: str) -> dict[str, Any]:
        """Load a checkpoint that has exactly the model's weights; raises `WeightError`.

        "notes" in the answer are lines for the report.
        """
        self.note_new_weights()
        if self.spec is None or not self.spec.has_table:
            return {"notes": list(self.load_model_checkpoint(path))}
        return {"notes": list(self._load_canonical(path))}

    def write_model_checkpoint(self, *, path: str) -> None:
        """Write the weights of a model that is not a registered one; raises `WeightError`."""
        with files.atomic_write(path) as temporary:
            self.save_model_checkpoint(temporary)

    def note_new_weights(self) -> None:
        """Forget what was computed from the weights that the model had before."""

    def _load_canonical(self, path: str) -> Sequence[str]:
        """Load the weights of a registered model; return notes."""
        notes: Sequence[str] = ()
        if path.endswith(".safetensors"):
            values = weights.load(Path(path), self.table)
        else:
            values, notes = self.parse_checkpoint(Path(path), self.table)
            weights.check(values, self.table, source=path)
        self.write_weights(values)
        return notes

    def use_table(self, *, table: dict[str, Any]) -> None:
        """Find layers by `table` from now on."""
        self.table = LayerTable.from_json(table)

    def describe(self, *, input_shape: list[int]) -> dict[str, Any]:
        """Return the model's layers and its number of parameters; `input_shape` is (C, H, W)."""
        layers = self.describe_layers(input_shape)
        return {"layers": layers, "parameters": self.count_parameters()}

    def find_rows(self, names: Sequence[str]) -> list[Row]:
        """Return the table's rows of these names, in the names' order."""
        return [self.table.by_name(name) for name in names]


def hello_answer(versions: Mapping[str, str]) -> dict[str, Any]:
    """Return the versions of `parity`, of Python and of the runtime's packages."""
    return {
        "parity": __version__,
        "python": platform.python_version(),
        "versions": dict(versions),
    }
