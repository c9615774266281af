"""Model references: how a user names a model, parsed without importing or running anything.

    resnet50                        a registered architecture
    mynet:build                     a name in a module, from the working folder first
    nets/mynet.py:ResNeXt50         a name in a script
    model.keras, model.onnx, …      a file, or a SavedModel folder
    torchvision:resnet50            a model of a zoo

Options follow after commas, `mynet.py:Net,3,num_classes=10`: positional ones first. A value is a
Python literal; anything else is a string. `NAME=` before a reference names its subject.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parity.errors import UsageError
from parity.network import architectures
from parity.network.spec import ModelSpec
from parity.processes import model_files, zoos
from parity.text import did_you_mean, quote, suggest

REGISTERED = "registered"
MODULE = "module"
SCRIPT = "script"
FILE = "file"
ZOO = "zoo"

WEIGHTS = "weights"
"""The option that names a checkpoint."""

_SIZES = ("classes", "image_size", "channels")
"""The options of a registered architecture, beside its weights."""

_FRAMEWORKS = {"torch": "torch", "torchvision": "torch", "timm": "torch", "transformers": "torch",
               "keras": "keras", "tensorflow": "keras"}  # fmt: skip
"""The runtime of a model by the package that its code imports."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_BARE = re.compile(r"[^\s,='\"()\[\]{}]+")
_LONGEST = 4096
"""Characters of a reference, the longest path of Linux; parsing time grows with their square."""


@dataclass(frozen=True)
class ModelReference:
    """A model as a user named it.

    `text` is as typed, without `NAME=`. `form` is one of this module's constants. `target` is the
    registered name, the module, the path of the script or file, or the name or folder in the zoo.
    `attribute` is the dotted name in a module or script. `arguments` and `options` are passed to
    what it names. `runtime` is None where the form does not tell it: a registered architecture has
    several, and a module or script must be loaded.
    """

    text: str
    form: str
    target: str
    attribute: str = ""
    zoo: str = ""
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    runtime: str | None = None

    @property
    def is_code(self) -> bool:
        """Whether it names something in the user's own Python code."""
        return self.form in (MODULE, SCRIPT)

    @property
    def stem(self) -> str:
        """The name of the file, callable or model: the subject's default name."""
        if self.is_code:
            return self.attribute.rpartition(".")[2]
        if self.form == FILE or (self.form == ZOO and zoos.all_zoos()[self.zoo].holds_folders):
            return Path(self.target).resolve().stem
        return self.target

    def to_json(self) -> dict[str, Any]:
        """Return the reference as JSON data, for the request to a child."""
        return {
            "text": self.text,
            "form": self.form,
            "target": self.target,
            "attribute": self.attribute,
            "zoo": self.zoo,
            # As text, since JSON has no tuples.
            "arguments": [_format_value(value) for value in self.arguments],
            "options": {name: _format_value(value) for name, value in self.options.items()},
            "runtime": self.runtime,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelReference:
        """Return the reference that `to_json` returned as data."""
        fields = dict(data)
        fields["arguments"] = tuple(_parse_value(text) for text in data["arguments"])
        fields["options"] = {name: _parse_value(text) for name, text in data["options"].items()}
        return cls(**fields)


def parse_reference(text: str) -> ModelReference:
    """Parse a reference without `NAME=`.

    Raises `UsageError` for one that names nothing, with the closest names, and `SpecError` for
    impossible sizes of a registered architecture.
    """
    if not text.strip():
        raise UsageError("an empty model reference")
    if len(text) > _LONGEST or "\0" in text:
        raise UsageError(f"{quote(text)}: not a model reference")
    # A path may have commas and colons in it.
    if _exists(text) and model_files.is_path_like(text):
        return _parse_file(text, text, (), {})
    body, arguments, options = _split_options(text)
    prefix, colon, rest = body.partition(":")
    if colon and prefix in zoos.all_zoos():
        return _parse_zoo(text, prefix, rest, arguments, options)
    if colon and not _exists(body):
        return _parse_code(text, body, arguments, options)
    if body in _registered_names():
        reference = ModelReference(text, REGISTERED, body, arguments=arguments, options=options)
        registered_spec(reference)
        return reference
    if model_files.is_path_like(body) or _exists(body):
        return _parse_file(text, body, arguments, options)
    raise _unknown(body)


def format_reference(reference: ModelReference) -> str:
    """Return the text of a reference, from its parts; `parse_reference` parses it to these."""
    target = reference.target
    if reference.is_code:
        target = f"{target}:{reference.attribute}"
    elif reference.form == ZOO:
        target = f"{reference.zoo}:{target}"
    arguments = [_format_value(value) for value in reference.arguments]
    options = [f"{name}={_format_value(value)}" for name, value in reference.options.items()]
    return ",".join([target, *arguments, *options])


def split_name(text: str) -> tuple[str | None, str]:
    """Split `NAME=REF` into the subject's name, or None, and the reference.

    An `=` behind a colon, comma or slash belongs to the reference. Raises `UsageError` for a name
    of other characters than letters, digits, `-` and `_`.
    """
    name, equals, reference = text.partition("=")
    if not equals or re.search(r"[:,/\\]", name) or _exists(text):
        return None, text
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{quote(text)}: expected NAME=REF with a name of letters, digits, - and _, "
            f"found {quote(name)}"
        )
    if not reference:
        raise UsageError(f"{quote(text)}: expected a model reference after '{name}='")
    return name, reference


def registered_spec(reference: ModelReference) -> ModelSpec:
    """Return the architecture of a registered reference, at the sizes of its options.

    Raises `UsageError` for other options, and `SpecError` for impossible sizes.
    """
    if reference.arguments:
        raise UsageError(f"{quote(reference.text)}: an option of a registered model is NAME=VALUE")
    sizes = {name: value for name, value in reference.options.items() if name != WEIGHTS}
    for name in sizes:
        if name not in _SIZES:
            known = (*_SIZES, WEIGHTS)
            hint = suggest(name, known, otherwise=f"known: {', '.join(known)}")
            raise UsageError(f"{quote(reference.text)}: unknown option {quote(name)}{hint}")
    size = sizes.get("image_size")
    if isinstance(size, int):
        sizes["image_size"] = (size, size)
    numbers = [number for value in sizes.values() for number in _as_tuple(value)]
    if not all(type(number) is int for number in numbers) or len(_as_tuple(size)) not in (1, 2):
        raise UsageError(
            f"{quote(reference.text)}: expected whole numbers, and image_size=N or (H, W)"
        )
    return architectures.get(reference.target, **sizes)


def guess_script_runtime(reference: ModelReference) -> str | None:
    """Return the runtime of a module or script by what its file imports, without running it.

    None where that does not tell: it imports both frameworks or neither, or cannot be found.
    """
    if not reference.is_code:
        return reference.runtime
    path = Path(reference.target)
    if reference.form == MODULE:
        try:
            spec = importlib.util.find_spec(reference.target)
        except (ImportError, ValueError):
            spec = None
        local = Path(*reference.target.split("."))
        candidates = [local.with_suffix(".py"), local / "__init__.py"]
        candidates += [Path(spec.origin)] if spec is not None and spec.origin else []
        path = next((each for each in candidates if each.is_file()), path)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError):
        return None
    return _runtime_of_name(tree, reference.attribute.partition(".")[0])


def _runtime_of_name(tree: ast.Module, name: str) -> str | None:
    """Return the framework that a module's definition of `name` uses, else the only one that the
    module imports."""
    owners: dict[str, str] = {}
    for node in ast.walk(tree):
        modules: list[tuple[str, str]] = []
        if isinstance(node, ast.Import):
            modules = [(a.asname or a.name.partition(".")[0], a.name) for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [(a.asname or a.name, node.module) for a in node.names]
        for alias, module in modules:
            framework = _FRAMEWORKS.get(module.partition(".")[0])
            if framework is not None:
                owners[alias] = framework
    for node in tree.body:
        if getattr(node, "name", None) == name:
            used = {
                owners[each.id]
                for each in ast.walk(node)
                if isinstance(each, ast.Name) and each.id in owners
            }
            if len(used) == 1:
                return used.pop()
    return next(iter(owners.values())) if len(set(owners.values())) == 1 else None


def name_subjects(
    references: Sequence[tuple[str | None, ModelReference]], runtimes: Sequence[str]
) -> tuple[str, ...]:
    """Return the subjects' names; `references` are (NAME or None, reference), one per runtime.

    By default the only subject of a runtime has the runtime's name, and others that of their file,
    callable or model, with `-2` and so on where it is taken. No name is that of another's export,
    `onnx-NAME`. Raises `UsageError` for a NAME that is given twice.
    """
    given = [name for name, _ in references if name is not None]
    for name in given:
        if given.count(name) > 1:
            raise UsageError(f"two subjects are called '{name}'; give each a NAME= of its own")
    taken = set(given)
    names: list[str] = []
    for (given_name, reference), runtime in zip(references, runtimes, strict=True):
        name = given_name or ""
        if given_name is None:
            only = list(runtimes).count(runtime) == 1
            name = _free_name(runtime if only else _subject_name(reference, runtime), taken)
            taken.add(name)
        names.append(name)
    return tuple(names)


def _subject_name(reference: ModelReference, runtime: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", reference.stem).strip("-") or runtime


def _free_name(name: str, taken: set[str]) -> str:
    """Return `name`, or the first of `name-2`, `name-3`, … that clashes with no taken one."""
    exports = {f"onnx-{each}" for each in taken}
    found, number = name, 1
    while found in taken | exports or f"onnx-{found}" in taken:
        number += 1
        found = f"{name}-{number}"
    return found


def _parse_file(
    text: str, path: str, arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> ModelReference:
    kind = model_files.identify(path)
    if arguments or options:
        raise UsageError(f"{quote(text)}: a model file takes no options; it holds its own weights")
    return ModelReference(text, FILE, path, runtime=kind.runtime)


def _parse_zoo(
    text: str, zoo: str, name: str, arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> ModelReference:
    info = zoos.all_zoos()[zoo]
    if not name:
        what = "FOLDER" if info.holds_folders else "NAME"
        raise UsageError(f"{quote(text)}: expected {zoo}:{what}, found no {what.lower()}")
    if arguments:
        raise UsageError(f"{quote(text)}: an option of a zoo's model is NAME=VALUE")
    if info.holds_folders:
        _require_folder(text, name)
    _require_weights(text, options)
    return ModelReference(text, ZOO, name, zoo=zoo, options=options, runtime=info.runtime)


def _require_folder(text: str, folder: str) -> None:
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UsageError(f"{quote(text)}: no folder {quote(folder)}; nothing is downloaded")
    if not (path / model_files.TRANSFORMERS_CONFIG).is_file():
        raise UsageError(f"{quote(text)}: the folder has no {model_files.TRANSFORMERS_CONFIG}")


def _require_weights(text: str, options: Mapping[str, Any]) -> None:
    """Raise `UsageError` if the option `weights` is set and names no file."""
    weights = options.get(WEIGHTS)
    if weights is None:
        return
    if not isinstance(weights, str):
        raise UsageError(f"{quote(text)}: expected weights=FILE, found {quote(weights)}")
    if not _exists(weights):
        raise UsageError(
            f"{quote(text)}: weights: no such file {quote(weights)}; nothing is downloaded"
        )


def _parse_code(
    text: str, body: str, arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> ModelReference:
    """Parse `module:name` or `file.py:name`."""
    target, _, attribute = body.rpartition(":")
    is_script = target.endswith(".py")
    if not is_script and not _DOTTED.fullmatch(target):
        raise UsageError(
            f"{quote(text)}: {_describe_bad_target(target)}; expected module:NAME, file.py:NAME "
            f"or one of {' '.join(f'{zoo}:' for zoo in zoos.all_zoos())}"
        )
    if is_script:
        model_files.require_file(target)
    if not _DOTTED.fullmatch(attribute):
        hint = did_you_mean((), otherwise=f"define one of {_list_definitions(target)}")
        found = (
            f"found {quote(attribute)}" if attribute else f"found none{hint if is_script else ''}"
        )
        raise UsageError(f"{quote(text)}: expected the name of a model after the colon, {found}")
    return ModelReference(
        text,
        SCRIPT if is_script else MODULE,
        target,
        attribute,
        arguments=arguments,
        options=options,
    )


def _describe_bad_target(target: str) -> str:
    """Say what is wrong with the text before the colon."""
    if model_files.is_path_like(target):
        return f"{quote(target)} is not a Python file"
    return f"{quote(target)} is no module and no zoo"


def _unknown(body: str) -> UsageError:
    """Return the error for a text that is no reference, with the closest names."""
    names = [*_registered_names(), *(f"{zoo}:" for zoo in zoos.all_zoos())]
    hint = suggest(body, names, otherwise="`parity models` lists the registered ones")
    return UsageError(
        f"{quote(body)} is no registered architecture, no file and no file.py:NAME{hint}"
    )


@functools.cache
def _registered_names() -> frozenset[str]:
    return frozenset((*architectures.names(), *architectures.variants()))


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        # A text that is too long, or has a NUL, is no path.
        return False


def _list_definitions(path: str) -> str:
    """Return the public classes and functions of a script, without running it."""
    try:
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError):
        return "its models"
    kinds = ast.ClassDef | ast.FunctionDef
    names = [node.name for node in tree.body if isinstance(node, kinds) and node.name[0] != "_"]
    return ", ".join(names[:8]) or "its models"


# Options -----------------------------------------------------------------------------------------


def _split_options(text: str) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Split `target,3,name=value` into the target, positional and named options.

    Commas in quotes and brackets belong to a value. Raises `UsageError` for an option that is given
    twice, and for a positional one behind a named one.
    """
    target, *parts = _split_at_commas(text)
    arguments: list[Any] = []
    options: dict[str, Any] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if equals and name.strip().isidentifier():
            name = name.strip()
            if name in options:
                raise UsageError(f"{quote(text)}: the option {quote(name)} is given twice")
            options[name] = _parse_value(value)
        elif options:
            raise UsageError(
                f"{quote(text)}: {quote(part)} stands behind a NAME=VALUE; positional ones first"
            )
        else:
            arguments.append(_parse_value(part))
    return target, tuple(arguments), options


def _split_at_commas(text: str) -> list[str]:
    parts, depth, mark = [""], 0, ""
    for character in text:
        if mark:
            mark = "" if character == mark else mark
        elif character in "'\"" and parts[1:]:
            mark = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth = max(depth - 1, 0)
        if character == "," and not mark and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _parse_value(text: str) -> Any:
    """Return a Python literal; any other text is itself."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text


def _format_value(value: Any) -> str:
    """Return the text that `_parse_value` parses to this value."""
    if isinstance(value, str) and _BARE.fullmatch(value) and _parse_value(value) == value:
        return value
    return repr(value)


def _as_tuple(value: Any) -> tuple[Any, ...]:
    """Return None as nothing, a sequence as it is, anything else alone."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, tuple | list) else (value,)
