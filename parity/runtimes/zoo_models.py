"""Models of the zoos: the zoo's packages are checked, then its own module loads the model."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from typing import TYPE_CHECKING

from parity.errors import ParityError, UsageError
from parity.processes import zoos
from parity.runtimes.user_code import describe_error
from parity.text import closest, did_you_mean, quote

if TYPE_CHECKING:
    from parity.processes.references import ModelReference
    from parity.runtimes.loaded import LoadedModel


def load_zoo_model(reference: ModelReference) -> LoadedModel:
    """Load a zoo's model by `load(reference)` of the zoo's module.

    Raises `UsageError` for a zoo that is not installed, an unknown name, and whatever the zoo
    raises.
    """
    zoo = zoos.all_zoos()[reference.zoo]
    _require_installed(zoo, reference.text)
    try:
        loaded: LoadedModel = importlib.import_module(zoo.module).load(reference)
    except ParityError:
        raise
    except ImportError as error:
        raise UsageError(
            f"{quote(reference.text)}: {reference.zoo} cannot be imported: "
            f"{describe_error(error)}; {zoo.install_command}"
        ) from error
    except Exception as error:
        raise UsageError(f"{quote(reference.text)}: {describe_error(error)}") from error
    return loaded


def list_zoo_models(zoo: str) -> list[str]:
    """Return the names that the zoo's module lists by `list_names()`.

    Raises `UsageError` for a zoo that is not installed, or whose models have no names.
    """
    info = zoos.all_zoos()[zoo]
    _require_installed(info, f"{zoo}:")
    module = importlib.import_module(info.module)
    if not hasattr(module, "list_names"):
        raise UsageError(f"{zoo}: its models have no names")
    return [str(name) for name in module.list_names()]


def _require_installed(zoo: zoos.ZooInfo, text: str) -> None:
    for package in zoo.packages:
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"{quote(text)}: {package} is not installed; {zoo.install_command}")


def require_known_model(reference: ModelReference, known: Iterable[str]) -> None:
    """Raise `UsageError`, with the closest names, unless the zoo has the reference's model."""
    names = {name.lower(): name for name in known}
    if reference.target in names.values():
        return
    word = reference.target.lower()
    prefixed = [name for key, name in names.items() if key.startswith(word)]
    similar = [names[word]] if word in names else prefixed
    if not similar:
        similar = [names[key] for key in closest(word, names, count=3)]
    hint = did_you_mean([f"{reference.zoo}:{name}" for name in similar[:3]])
    raise UsageError(
        f"{quote(reference.text)}: {reference.zoo} has no {quote(reference.target)}{hint}"
    )
