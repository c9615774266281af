"""A model as it is repaired so far: the reference that names it, and the texts of its source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from parity.explain.repair.source import describe_edit
from parity.processes.references import WEIGHTS, parse_reference


@dataclass(frozen=True)
class Candidate:
    """The subject as it is repaired so far; `reference` names it for a comparison."""

    reference: str
    texts: Mapping[str, str] = field(default_factory=dict)
    """By source file, the text in its place."""
    checkpoint: Path | None = None
    model: Path | None = None
    changes: tuple[str, ...] = ()
    edit: str = ""
    """The last edit of a source file, in words."""


def with_text(candidate: Candidate, file: str, text: str, changes: tuple[str, ...]) -> Candidate:
    """Return a candidate with another text of a source file; the last change says what it is."""
    before = candidate.texts.get(file) or read_text(Path(file))
    edit = describe_edit(before, text, Path(file).name)
    changes = (*changes[:-1], f"{changes[-1]} ({edit})")
    texts = {**candidate.texts, file: text}
    return replace(candidate, texts=texts, changes=changes, edit=edit)


def with_weights(reference: str, path: Path) -> str:
    """Return a reference whose option `weights` is this file."""
    parsed = parse_reference(reference)
    text = reference
    if WEIGHTS in parsed.options:
        text = re.sub(rf",\s*{WEIGHTS}=[^,]*", "", reference)
    return f"{text},{WEIGHTS}={path}"


def read_text(path: Path) -> str:
    with path.open(encoding="utf-8", newline="") as stream:
        return stream.read()


def is_edited_line(texts: Mapping[str, str], line: str) -> bool:
    """Return whether a line, `net.py:12: its text`, is in none of the user's files of that name.

    `texts` is by source file the text in its place: a line that only it has is the search's own.
    """
    name, _, rest = line.partition(":")
    text = rest.partition(":")[2].strip()
    files = [Path(file) for file in texts if Path(file).name == name]
    own = {each.strip() for file in files for each in read_text(file).splitlines()}
    return bool(files) and text not in own


def merge_texts(base: str, changed: str, other: str) -> str | None:
    """Return `other`, which was made of `base` too, with the change from `base` to `changed`.

    None where both changed the same lines.
    """
    if base == other:
        return changed
    first, second, third = (text.splitlines(keepends=True) for text in (base, changed, other))
    if not len(first) == len(second) == len(third):
        return None
    merged = []
    for old, new, line in zip(first, second, third, strict=True):
        if old != new and old != line and new != line:
            return None
        merged.append(new if old != new else line)
    return "".join(merged)
