"""Where this `parity` was installed from, and the commands that install its extras from there.

No command names `parity` alone: a package index may hold another project of that name. The origin
is read from the installation's own record, `direct_url.json` (PEP 610).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import parity
from parity.errors import InterpreterError

if TYPE_CHECKING:
    from importlib.metadata import Distribution

DISTRIBUTION = "parity"
IMPORT_NAMES = ("parity", "exporters")
"""The names that this distribution installs for `import`."""

_EXTRA = re.compile(r"""extra\s*==\s*['"](?P<name>[\w.-]+)['"]""")
_OWN = re.compile(r"parity\s*\[(?P<extras>[^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an installation came from: a folder, a URL, or, with neither, nobody knows."""

    folder: str = ""
    """The folder of its source."""
    editable: bool = False
    """Whether Python imports it from that folder."""
    url: str = ""
    """A URL as pip accepts it after `parity @`: an archive, or a repository with its commit."""
    fragment: str = ""
    """The part of a URL after `#`, such as `subdirectory=python`."""

    def arguments(self, extra: str | None) -> list[str] | None:
        """Return pip's arguments that install `parity` with an extra; None if unknown."""
        extras = f"[{extra}]" if extra else ""
        if self.folder:
            return [*(["-e"] if self.editable else []), f"{self.folder}{extras}"]
        if self.url:
            fragment = f"#{self.fragment}" if self.fragment else ""
            return [f"{DISTRIBUTION}{extras} @ {self.url}{fragment}"]
        return None


@functools.cache
def find_origin() -> Origin:
    """Return the origin of the `parity` that runs."""
    folder = Path(parity.__file__).resolve().parent.parent
    if _is_source_folder(folder):
        return Origin(folder=str(folder), editable=True)
    # Imported here, as below, because `parity --help` loads this module.

    import json

    distribution = find_distribution()
    text = None if distribution is None else distribution.read_text("direct_url.json")
    return Origin() if text is None else read_direct_url(json.loads(text))


def find_distribution() -> Distribution | None:
    """Return the record of the `parity` that runs; None if it has none."""
    # Imported here because it takes as long as everything else before a command's children start.
    import importlib.metadata

    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None
    # Another project's distribution of the same name is no record of this one.
    own = Path(parity.__file__).resolve()
    files = [Path(str(distribution.locate_file(file))) for file in distribution.files or ()]
    return distribution if any(file.resolve() == own for file in files) else None


def read_direct_url(record: dict[str, Any]) -> Origin:
    """Return the origin that a `direct_url.json` states."""
    url, fragment = record["url"], ""
    if "dir_info" in record:
        from urllib.parse import unquote, urlsplit
        from urllib.request import url2pathname

        path = url2pathname(unquote(urlsplit(url).path))
        return Origin(folder=path, editable=bool(record["dir_info"].get("editable")))
    if record.get("subdirectory"):
        fragment = f"subdirectory={record['subdirectory']}"
    if "vcs_info" in record:
        repository = record["vcs_info"]
        url = f"{repository['vcs']}+{url}@{repository['commit_id']}"
    return Origin(url=url, fragment=fragment)


def install_command(
    extra: str | None, packages: Sequence[str] = (), *, python: str | None = None
) -> str:
    """Return the shell command that installs an extra of this `parity`, for an error message.

    If the origin is unknown, it installs what the extra requires, by the versions that the
    installation's record states, and without a record the `packages`. `python` is another
    interpreter, which has no `parity` yet: there the packages alone would not help.
    """
    pip = "pip install" if python is None else f"{python} -m pip install"
    arguments = find_origin().arguments(extra)
    if arguments is None and python is not None:
        return f"{pip}, with the file or URL that this parity was installed from"
    if arguments is None:
        arguments = (read_requirements(extra) if extra else []) or list(packages)
    return " ".join([pip, *map(_quote, arguments)]) if arguments else "install it"


def pip_arguments(extra: str) -> list[str]:
    """Return pip's arguments that install this `parity` in another environment.

    Raises `InterpreterError` if nobody knows where it came from.
    """
    arguments = find_origin().arguments(extra)
    if arguments is None:
        raise InterpreterError(
            "this parity has no record of where it was installed from, and a package index may "
            "hold another project of that name; install it from a folder, a file or a repository"
        )
    return arguments


def read_requirements(extra: str) -> list[str]:
    """Return what an extra requires, such as `tensorflow<2.22,>=2.18`, as the record states it."""
    distribution = find_distribution()
    stated = [] if distribution is None else distribution.requires or []
    return list(dict.fromkeys(_expand(extra, stated)))


def _expand(extra: str, stated: Iterable[str]) -> Iterator[str]:
    """Yield the requirements of an extra, those of the extras that it names included."""
    for line in stated:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        match = _EXTRA.search(marker)
        if match is None or match["name"] != extra:
            continue
        own = _OWN.fullmatch(requirement)
        if own is None:
            yield requirement
            continue
        for name in own["extras"].split(","):
            yield from _expand(name.strip(), stated)


def find_clashes() -> list[str]:
    """Return one line, with a remedy, for each other owner of the names that `parity` installs."""
    import importlib.metadata
    import importlib.util

    base = Path(parity.__file__).resolve().parent.parent
    owners = importlib.metadata.packages_distributions()
    lines = []
    for name in IMPORT_NAMES:
        others = sorted({owner for owner in owners.get(name, ()) if owner != DISTRIBUTION})
        if others:
            lines.append(
                f"{name}: installed by {' and '.join(others)} too, and one overwrites the files of "
                f"the other; use an environment without {' and '.join(others)}"
            )
        spec = importlib.util.find_spec(name)
        for path in (spec and spec.submodule_search_locations) or ():
            folder = Path(path).resolve()
            if folder.parent != base:
                lines.append(
                    f"{name}: imported from {folder}, not from {base}; "
                    f"rename that folder, or take it off PYTHONPATH"
                )
    return lines


def _is_source_folder(folder: Path) -> bool:
    """Return whether this is a checkout of `parity`."""
    import tomllib

    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(project.get("project", {}).get("name") == DISTRIBUTION)


def _quote(argument: str) -> str:
    """Return an argument in double quotes, which every shell reads, if it needs them."""
    if re.fullmatch(r"[\w./:\\=-]+", argument):
        return argument
    return '"' + re.sub(r'(["$`])', r"\\\1", argument) + '"'
