"""The user's own code: imported, called, and its errors told in one line with their place."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import site
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import parity
from parity import files
from parity.errors import ParityError, UsageError, WrongFrameworkError
from parity.processes import registry, zoos
from parity.processes.references import SCRIPT, WEIGHTS, ModelReference
from parity.text import closest, did_you_mean, one_line, printable, quote, suggest

_LONGEST_ERROR = 400


@dataclass(frozen=True)
class UserModel:
    """What the user's code gave: a model, and example inputs or None.

    `checkpoint` is the file of the option `weights`, which is still to be loaded.
    """

    model: Any
    example: Any | None = None
    checkpoint: str | None = None


def load_user_model(
    reference: ModelReference, runtime: str, set_seed: Callable[[], None]
) -> UserModel:
    """Import a module or script, and call what the reference names unless that is a model.

    `set_seed` is called before both, so that random weights are the same in every process.
    Raises `UsageError` for every error of the user's code, `WrongFrameworkError` for a model of
    another runtime than `runtime`.
    """
    set_seed()
    found = _find(reference)
    checkpoint = None
    if _framework_of(found) is None:
        if not callable(found):
            raise UsageError(
                f"{quote(reference.text)}: expected a model, a class or a callable, "
                f"found an object of type {type(found).__name__}"
            )
        options, checkpoint = _split_checkpoint(reference, found)
        set_seed()
        found = _call(reference, found, options)
    elif reference.arguments or set(reference.options) - {WEIGHTS}:
        raise UsageError(f"{quote(reference.text)}: is a model already, and takes no options")
    else:
        checkpoint = _checkpoint_of(reference)
    model, example = _split_example(found)
    _require_framework(reference, model, runtime)
    return UserModel(model, example, checkpoint)


_REPLACED: dict[str, str] = {}
"""By the resolved path of a Python file, the text that is run in its place."""


def replace_sources(files: Mapping[str, str]) -> None:
    """From now on run other text in place of these files, which are left as they are.

    Modules that have been imported keep theirs.
    """
    _REPLACED.update({str(Path(file).resolve()): text for file, text in files.items()})
    if not hasattr(SourceFileLoader.get_code, "_parity"):
        read = SourceFileLoader.get_code

        def get_code(loader: SourceFileLoader, name: str) -> Any:
            path = str(Path(loader.get_filename(name)).resolve())
            return (
                compile(_REPLACED[path], path, "exec") if path in _REPLACED else read(loader, name)
            )

        get_code._parity = True  # type: ignore[attr-defined]
        SourceFileLoader.get_code = get_code  # type: ignore[assignment, method-assign]


def forget_user_modules() -> None:
    """Forget the imported modules of the user's own files: they are run again when they are used.

    Those of Python, of installed packages and of parity stay.
    """
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is not None and name != "__main__" and not _is_foreign(file):
            del sys.modules[name]


def load_custom_objects(path: str) -> ModuleType:
    """Import a script for the classes and functions in it; raises `UsageError`."""
    with _running(f"--custom-objects {path}", path):
        return _import_script(Path(path))


def _find(reference: ModelReference) -> Any:
    """Import the module or script and return what it calls by the reference's name."""
    with _running(reference.text, reference.target):
        if reference.form == SCRIPT:
            module = _import_script(Path(reference.target))
        else:
            module = _import_module(reference)
    found: Any = module
    for part in reference.attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            own = getattr(found, "__dict__", {})
            names = [
                name
                for name in dir(found)
                if not name.startswith("_") and not isinstance(own.get(name), ModuleType)
            ]
            hint = suggest(part, names, otherwise=f"it has {', '.join(names[:8])}" if names else "")
            raise UsageError(
                f"{quote(reference.text)}: {reference.target} has no {quote(part)}{hint}"
            ) from None
    return found


def _import_script(path: Path) -> ModuleType:
    """Run a script as a module, once a process, with its folder first on the path."""
    path = path.resolve()
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == str(path):
            return module
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    # The name under which its neighbours would import it, unless that is another module.
    name = path.stem if path.stem not in sys.modules else f"{path.stem} (script)"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # Compiled here: the loader would leave its cache beside the user's file.
    code = compile(_REPLACED.get(str(path)) or files.read_bytes(path), str(path), "exec")
    sys.modules[name] = module
    try:
        exec(code, vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(reference: ModelReference) -> ModuleType:
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = reference.target
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        similar = [f"{zoo}:{reference.attribute}" for zoo in closest(name, zoos.all_zoos())]
        raise UsageError(
            f"{quote(reference.text)}: no module {quote(error.name)} in {printable(folder)} "
            f"or among the installed packages{did_you_mean(similar)}"
        ) from error


# Calls --------------------------------------------------------------------------------------------


def _checkpoint_of(reference: ModelReference) -> str | None:
    """Return the file of the option `weights`, or None; raises `UsageError` if there is none."""
    weights = reference.options.get(WEIGHTS)
    if weights is None or (isinstance(weights, str) and Path(weights).is_file()):
        return weights
    raise UsageError(f"{quote(reference.text)}: weights: no such file {quote(weights)}")


def _split_checkpoint(reference: ModelReference, called: Any) -> tuple[dict[str, Any], str | None]:
    """Return the options that a callable is given, and the checkpoint to load afterwards.

    The option `weights` is the callable's own if it must have it, or if it takes one and the value
    is no file.
    """
    options = dict(reference.options)
    if WEIGHTS not in options:
        return options, None
    parameter = _parameters(called).get(WEIGHTS)
    is_file = isinstance(options[WEIGHTS], str) and Path(options[WEIGHTS]).is_file()
    if parameter is not None and (parameter.default is parameter.empty or not is_file):
        return options, None
    checkpoint = _checkpoint_of(reference)
    del options[WEIGHTS]
    return options, checkpoint


def _call(reference: ModelReference, called: Any, options: Mapping[str, Any]) -> Any:
    _require_arguments(reference, called, options)
    with _running(reference.text, reference.target):
        return called(*reference.arguments, **options)


def _require_arguments(reference: ModelReference, called: Any, options: Mapping[str, Any]) -> None:
    """Raise `UsageError` for missing, unknown and superfluous arguments."""
    parameters = _parameters(called)
    if not parameters and not _has_signature(called):
        return
    try:
        inspect.signature(called).bind(*reference.arguments, **options)
        return
    except TypeError as error:
        problem = str(error)
    kinds = {parameter.kind for parameter in parameters.values()}
    named = [
        name
        for name, each in parameters.items()
        if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    ]
    unknown = [name for name in options if name not in named]
    if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
        hint = suggest(unknown[0], named, otherwise=f"it takes {', '.join(named) or 'none'}")
        raise UsageError(
            f"{quote(reference.text)}: {reference.attribute} has no argument "
            f"{quote(unknown[0])}{hint}"
        )
    given = set(options) | set(list(named)[: len(reference.arguments)])
    missing = [
        name
        for name, each in parameters.items()
        if each.default is each.empty
        and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        and name not in given
    ]
    if missing:
        syntax = ",".join(f"{name}=VALUE" for name in missing)
        raise UsageError(
            f"{quote(reference.text)}: {reference.attribute} needs {', '.join(missing)}; "
            f"write {reference.text},{syntax}"
        )
    raise UsageError(f"{quote(reference.text)}: {reference.attribute}: {problem}")


def _parameters(called: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(called).parameters if _has_signature(called) else {}


def _has_signature(called: Any) -> bool:
    """Return whether Python knows the arguments of a callable; those in C may not state them."""
    try:
        inspect.signature(called)
    except (TypeError, ValueError):
        return False
    return True


# Results ------------------------------------------------------------------------------------------


def _split_example(result: Any) -> tuple[Any, Any | None]:
    """Return the model and the example inputs of a result: a model, or (model, inputs)."""
    if (
        isinstance(result, (tuple, list))
        and len(result) == 2
        and _framework_of(result[0]) is not None
    ):
        return result[0], result[1]
    return result, None


def _require_framework(reference: ModelReference, model: Any, runtime: str) -> None:
    framework = _framework_of(model)
    if framework is None:
        wanted = " or ".join(info.model_class for info in _model_runtimes().values())
        raise UsageError(
            f"{quote(reference.text)}: expected {wanted}, alone or with example inputs, "
            f"found {type(model).__name__}"
        )
    if framework != runtime:
        raise WrongFrameworkError(
            f"{quote(reference.text)}: is a model of {registry.label(framework)}, "
            f"not of {registry.label(runtime)}",
            framework,
        )


def _model_runtimes() -> dict[str, registry.RuntimeInfo]:
    return {name: info for name, info in registry.all_runtimes().items() if info.model_class}


def _framework_of(value: Any) -> str | None:
    """Return the runtime whose models a value belongs to, without importing any; None if none."""
    # With PyTorch as its backend a Keras layer is a PyTorch module too: the nearest class decides.
    for each in type(value).__mro__:
        for name, info in _model_runtimes().items():
            package, _, class_name = info.model_class.rpartition(".")
            if each.__name__ == class_name and each.__module__.partition(".")[0] == package:
                return name
    return None


# Errors -------------------------------------------------------------------------------------------


@contextmanager
def _running(text: str, target: str) -> Iterator[None]:
    """While open, the user's code runs; whatever it raises, `SystemExit` too, is a `UsageError`.

    It reads an empty standard input, since the child's holds requests, and sees no arguments. The
    working folder is restored.
    """
    folder, arguments, standard_input = os.getcwd(), sys.argv, sys.stdin
    try:
        with open(os.devnull, encoding="utf-8") as empty:
            sys.argv, sys.stdin = [target], empty
            yield
    except ParityError:
        raise
    except BaseException as error:
        raise UsageError(f"{quote(text)}: {describe_error(error, target)}") from error
    finally:
        sys.argv, sys.stdin = arguments, standard_input
        os.chdir(folder)


def describe_error(error: BaseException, target: str = "") -> str:
    """Return an error's type, message, and the file and line of the user's code, on one line."""
    message = one_line(str(error), longest=_LONGEST_ERROR)
    if isinstance(error, SyntaxError):
        message = one_line(error.msg or "", longest=_LONGEST_ERROR)
    place = _find_place(error) or target
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    if isinstance(error, ModuleNotFoundError) and error.name and not _is_installed(error.name):
        text += f"; {error.name.partition('.')[0]} is not installed in {sys.prefix}"
    return f"{text} ({place})" if place else text


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def _find_place(error: BaseException) -> str:
    """Return `file, line N` of the last frame in the user's code; "" if there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return _place(error.filename, error.lineno)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_foreign(frame.filename)]
    return _place(own[-1].filename, own[-1].lineno) if own else ""


def _place(file: str, line: int | None) -> str:
    name = os.path.relpath(file) if Path(file).is_relative_to(os.getcwd()) else file
    return f"{printable(name)}, line {line}" if line else printable(name)


def _is_foreign(file: str) -> bool:
    """Return whether a frame's file is Python's, an installed package's or parity's own."""
    if re.fullmatch(r"<.*>", file):
        return True
    folders = [
        *site.getsitepackages(),
        sysconfig.get_path("stdlib"),
        str(Path(str(parity.__file__)).parent),
    ]
    return "site-packages" in Path(file).parts or any(
        Path(file).is_relative_to(folder) for folder in folders
    )
