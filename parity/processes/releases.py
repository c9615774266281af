"""The releases of a package, as pip's index lists them, and those between two versions."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from parity.errors import InterpreterError, UsageError
from parity.text import one_line, quote

_PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")

_SHOWN = 12
"""Releases that a message lists."""


def parse_package(text: str) -> str:
    """Return the name of a package in its normal form. Raises `UsageError` for what is none.

    `ONNXRuntime` and `onnxruntime` are the same package, as are `a.b`, `a_b` and `a-b`.
    """
    if _PACKAGE.fullmatch(text) is None:
        raise UsageError(f"--package: expected the name of a package, found {quote(text)}")
    return str(canonicalize_name(text))


def parse_version(text: str) -> Version:
    """Return a version. Raises `UsageError`."""
    try:
        return Version(text.strip())
    except InvalidVersion:
        raise UsageError(f"expected a version such as 1.30 or 2.9.1, found {quote(text)}") from None


def list_releases(
    package: str, *, find_links: Sequence[str | Path] = (), pre: bool = False
) -> list[str]:
    """Return the releases of a package that this interpreter can have, the oldest first.

    They are those of `pip index versions`: none that was yanked or has no distribution for this
    interpreter, and pre-releases only with `pre`. Raises `InterpreterError` with pip's message.
    """
    options = [*_link_options(find_links), *(["--pre"] if pre else [])]
    command = [sys.executable, "-m", "pip", "index", "versions", "--disable-pip-version-check"]
    done = subprocess.run([*command, *options, "--", package], capture_output=True, text=True)
    match = re.search(r"^Available versions: (.+)$", done.stdout, re.MULTILINE)
    if done.returncode or match is None:
        lines = done.stderr.strip().splitlines() or ["no message"]
        errors = [line for line in lines if "ERROR" in line]
        message = one_line((errors or lines)[-1], longest=300)
        raise InterpreterError(
            f"{package}: its releases cannot be listed: {message}; --versions gives them"
        )
    return sort_versions(match[1].split(","))


def list_releases_with_ends(
    package: str, ends: Sequence[str], *, find_links: Sequence[str | Path] = ()
) -> list[str]:
    """Return the releases of a package as `list_releases` does, and the `ends` that can be had.

    Pre-releases are among them if an end is one. An end that was yanked is not listed by the index,
    but pip installs it where it is asked for by its number.
    """
    wanted = {end: parse_version(end) for end in ends}
    pre = any(version.is_prerelease for version in wanted.values())
    known = list_releases(package, find_links=find_links, pre=pre)
    versions = set(map(parse_version, known))
    missing = [end for end, version in wanted.items() if version not in versions]
    found = [end for end in missing if _is_installable(package, end, find_links)]
    return sort_versions([*known, *found])


def _is_installable(package: str, version: str, find_links: Sequence[str | Path]) -> bool:
    """Return whether pip finds a distribution of exactly this release for this interpreter."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    options = ["--no-deps", "--disable-pip-version-check", *_link_options(find_links)]
    done = subprocess.run([*command, *options, "--", f"{package}=={version}"], capture_output=True)
    return done.returncode == 0


def _link_options(find_links: Sequence[str | Path]) -> list[str]:
    return [word for each in find_links for word in ("--find-links", str(each))]


def sort_versions(texts: Iterable[str]) -> list[str]:
    """Return the different versions, the oldest first. Raises `UsageError` for one that is none."""
    versions = {parse_version(text): text.strip() for text in texts if text.strip()}
    return [versions[version] for version in sorted(versions)]


def select_releases(package: str, releases: Sequence[str], good: str, bad: str) -> list[str]:
    """Return the releases from `good` to `bad`, both included; `good` may be the newer one.

    Raises `UsageError` for an end that is no release, and for two equal ends.
    """
    versions = list(map(parse_version, releases))
    ends = []
    for option, text in (("--good", good), ("--bad", bad)):
        version = parse_version(text)
        if version not in versions:
            shown = ", ".join(releases[-_SHOWN:])
            more = "…, " if len(releases) > _SHOWN else ""
            raise UsageError(
                f"{option} {text}: {package} has no such release for this Python; there are "
                f"{more}{shown}"
            )
        ends.append(versions.index(version))
    start, stop = ends
    if start == stop:
        raise UsageError(f"--good and --bad are the same release of {package}: {good}")
    if start < stop:
        return list(releases[start : stop + 1])
    return list(reversed(releases[stop : start + 1]))
