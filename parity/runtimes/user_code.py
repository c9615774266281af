"""Models that a user's own Python code defines: imported, called, and their errors as one line."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from parity.errors import UsageError
from parity.processes.references import MODULE, WEIGHTS, ModelReference
from parity.text import quote, suggest


@dataclass
class LoadedModel:
    """A model that a reference named, in inference mode.

    `example` are the inputs that its callable returned beside it. `brings_weights` says whether its
    weights are to be kept: those of a file, of a callable, or of the option `weights`.
    `input_shape` is the shape of the one input where the zoo or the architecture states it, with
    None for an axis of any length.
    """

    model: Any
    brings_weights: bool
    example: Any = None
    input_shape: tuple[int | None, ...] | None = None
    notes: tuple[str, ...] = ()


def find_attribute(reference: ModelReference) -> Any:
    """Import the module or script and return what the reference names in it.

    A module is searched from the working folder first; a script's own folder is on the path, so
    that it can import its neighbours. Raises `UsageError` with the error of the user's code, its
    file and line.
    """
    with report_user_errors(reference):
        module = _import(reference)
    found: Any = module
    for part in reference.attribute.split("."):
        if not hasattr(found, part):
            names = [name for name in vars(found) if not name.startswith("_")]
            raise UsageError(
                f"{quote(reference.text)}: {reference.target} has no '{part}'{suggest(part, names)}"
            )
        found = getattr(found, part)
    return found


def _import(reference: ModelReference) -> ModuleType:
    if reference.form == MODULE:
        _add_to_path(Path.cwd())
        return importlib.import_module(reference.target)
    path = Path(reference.target).absolute()
    _add_to_path(path.parent)
    # The name of a package in use, torch.py, must not be hidden by the script's.
    name = f"parity_script_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{quote(reference.text)}: {path.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    # Classes that are saved or inspected look their module up by its name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _add_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def call(reference: ModelReference, found: Any) -> Any:
    """Call a class or function with the reference's options, but for `weights`.

    Raises `UsageError` for arguments that it requires or does not take.
    """
    options = {name: value for name, value in reference.options.items() if name != WEIGHTS}
    try:
        inspect.signature(found).bind(*reference.arguments, **options)
    except TypeError as error:
        raise UsageError(
            f"{quote(reference.text)}: {error}; arguments follow a comma: "
            f"{reference.target}:{reference.attribute},name=value"
        ) from None
    except ValueError:
        # A callable without a signature that Python can read is called as it is.
        pass
    with report_user_errors(reference):
        return found(*reference.arguments, **options)


@contextmanager
def report_user_errors(reference: ModelReference) -> Iterator[None]:
    """Raise whatever the user's code raises as a `UsageError` with its type, file and line."""
    try:
        yield
    except UsageError:
        raise
    except SystemExit as error:
        raise UsageError(
            f"{quote(reference.text)}: the code called sys.exit({error.code!r})"
        ) from error
    except SyntaxError as error:
        place = f"{Path(error.filename or '?').name}:{error.lineno}"
        raise UsageError(f"{quote(reference.text)}: {place}: {error.msg}") from error
    except ModuleNotFoundError as error:
        if reference.form == MODULE and error.name == reference.target.split(".")[0]:
            raise UsageError(
                f"{quote(reference.text)}: no module '{error.name}' in {Path.cwd()} or installed"
            ) from error
        raise UsageError(f"{quote(reference.text)}: {_place(error)}{error}") from error
    except Exception as error:
        kind = type(error).__name__
        raise UsageError(f"{quote(reference.text)}: {_place(error)}{kind}: {error}") from error


def _place(error: BaseException) -> str:
    """Return `file.py:12: `, the last line of the user's own code in a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if "site-packages" not in frame.filename
        and not frame.filename.startswith("<")
        and Path(__file__).parents[1] not in Path(frame.filename).parents
        and f"{sys.prefix}/" not in frame.filename
        and "/lib/python3" not in frame.filename
    ]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}: " if own else ""


def split_example(result: Any) -> tuple[Any, Any]:
    """Return the model, and the example inputs if the callable returned a pair."""
    if isinstance(result, tuple) and len(result) == 2:
        return result
    return result, None
