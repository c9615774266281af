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
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parity import files
from parity.errors import UsageError
from parity.network import architectures
from parity.network.spec import ModelSpec
from parity.processes import model_files, zoos
from parity.text import closest, did_you_mean, quote, suggest

REGISTERED = "registered"
MODULE = "module"
SCRIPT = "script"
FILE = "file"
ZOO = "zoo"

WEIGHTS = "weights"
"""The option that names a checkpoint."""

_SIZES = ("classes", "image_size", "channels")
"""The options of a registered architecture, beside its weights."""

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
    def onnx_file(self) -> Path | None:
        """The file, where it is an ONNX file."""
        is_onnx = self.form == FILE and self.target.lower().endswith(".onnx")
        return Path(self.target) if is_onnx else None

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

    Raises `UsageError` for one that names nothing, with the closest names, and `ArchitectureError`
    for impossible sizes of a registered architecture.
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

    Raises `UsageError` for other options, and `ArchitectureError` for impossible sizes.
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


def name_subjects(
    references: Sequence[tuple[str | None, ModelReference]], runtimes: Sequence[str]
) -> tuple[str, ...]:
    """Return the subjects' names; `references` are (NAME or None, reference), one per runtime.

    By default the only subject of a runtime has the runtime's name, and others that of their file,
    callable or model, with `-2` and so on where it is taken. No name is that of another's export,
    `onnx-NAME`. Raises `UsageError` for a NAME that is given twice.
    """
    given = [name for name, _ in references if name is not None]
    for each in given:
        if given.count(each) > 1:
            raise UsageError(f"two subjects are called '{each}'; give each a NAME= of its own")
    taken = set(given)
    names: list[str] = []
    for (name, reference), runtime in zip(references, runtimes, strict=True):
        chosen = name
        if chosen is None:
            only = list(runtimes).count(runtime) == 1
            chosen = _free_name(runtime if only else _subject_name(reference, runtime), taken)
            taken.add(chosen)
        names.append(chosen)
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
    if not _exists(str(path)) or not path.is_dir():
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
    if not is_script and (not _DOTTED.fullmatch(target) or Path(target).is_file()):
        raise UsageError(
            f"{quote(text)}: {_describe_bad_target(target)}; expected module:NAME, file.py:NAME "
            f"or one of {' '.join(f'{zoo}:' for zoo in zoos.all_zoos())}"
        )
    if is_script:
        model_files.require_file(target)
    if not _DOTTED.fullmatch(attribute):
        found = f"found {quote(attribute)}" if attribute else "found none"
        if is_script and not attribute:
            found += did_you_mean((), otherwise=f"define one of {_list_definitions(target)}")
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
    if model_files.is_path_like(target) or _exists(target):
        return f"{quote(target)} is not a Python file"
    return f"{quote(target)} is no module and no zoo"


def _list_definitions(path: str) -> str:
    """Return the names of the classes and functions of a script, for a message."""
    try:
        body = ast.parse(files.read_bytes(path)).body
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        body = []
    kinds = (ast.FunctionDef, ast.ClassDef)
    names = [node.name for node in body if isinstance(node, kinds) and node.name[0] != "_"]
    return ", ".join(names[:8]) or "its classes or functions"


def _unknown(text: str) -> UsageError:
    names = [*_registered_names(), *zoos.all_zoos()]
    prefixed = [name for name in architectures.all_names() if name.startswith(text.lower())]
    similar = [*prefixed, *closest(text.lower(), names, count=3)]
    # A zoo by itself is no reference.
    shown = [f"{name}:NAME" if name in zoos.all_zoos() else name for name in similar]
    hint = did_you_mean(
        list(dict.fromkeys(shown))[:3],
        otherwise="give a name that `parity models` lists, module:NAME, file.py:NAME, a file or "
        + " ".join(f"{zoo}:" for zoo in zoos.all_zoos()),
    )
    return UsageError(f"unknown model {quote(text)}{hint}")


def _registered_names() -> list[str]:
    return architectures.all_names()


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def _as_tuple(value: Any) -> tuple[Any, ...]:
    if value is None:
        return (0,)
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


# Options ------------------------------------------------------------------------------------------


def _split_options(text: str) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Split a reference into what it names, its positional arguments and its options."""
    body, *pieces = text.split(",")
    arguments: list[Any] = []
    options: dict[str, Any] = {}
    while pieces:
        name, value = _split_option(text, pieces)
        if name is None and options:
            raise UsageError(
                f"{quote(text)}: the positional option {quote(value)} follows one with a name"
            )
        if name is None:
            arguments.append(value)
        elif name in options:
            raise UsageError(f"{quote(text)}: the option {quote(name)} is given twice")
        else:
            options[name] = value
    return body, tuple(arguments), options


def _split_option(text: str, pieces: list[str]) -> tuple[str | None, Any]:
    """Take one option off the pieces between commas: its name, None for a positional one, value."""
    first = pieces[0].strip()
    name, equals, start = first.partition("=")
    if not first or (equals and not start.strip()):
        raise UsageError(f"{quote(text)}: an option without a value; write NAME=VALUE or VALUE")
    if first[0] in "'\"([{" or not equals:
        name, start = "", first
    elif not name.strip().isidentifier():
        raise UsageError(f"{quote(text)}: {quote(name)} cannot be the name of an option")
    start = start.strip()
    taken, value = _take_value(start, pieces)
    del pieces[:taken]
    return name.strip() or None, value


def _take_value(start: str, pieces: Sequence[str]) -> tuple[int, Any]:
    """Return the number of pieces that a value spans, and the value.

    Only a literal that starts with a quote or a bracket can have commas in it.
    """
    if start[0] in "'\"([{":
        for count in range(1, len(pieces) + 1):
            try:
                value = ast.literal_eval(",".join([start, *pieces[1:count]]).strip())
            except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
                continue
            return count, value
    return 1, _parse_value(start)


def _parse_value(text: str) -> Any:
    """Return a Python literal's value; text that is no literal is a string."""
    try:
        value = ast.literal_eval(text)
        # An overflowing literal such as 1e999 has no literal of its own.
        is_literal = ast.literal_eval(repr(value)) == value
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return text
    return value if is_literal else text


def _format_value(value: Any) -> str:
    """Return the text that `_parse_value` parses to `value`."""
    if isinstance(value, str) and _BARE.fullmatch(value) and _parse_value(value) == value:
        return value
    return repr(value)
