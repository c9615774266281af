"""The files of a repaired model: a checkpoint, a model file, or a patch of the user's source."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from parity import files
from parity.commands.repair_candidate import Candidate, read_text, with_weights
from parity.errors import OutputError
from parity.explain.repair.source import format_patch
from parity.processes.references import ModelReference


@dataclass(frozen=True)
class RepairFiles:
    """The new files of one model, in the folder `out`; the given ones are never changed."""

    reference: ModelReference
    """The given model."""
    out: Path

    @property
    def stem(self) -> str:
        return re.sub(r"[^A-Za-z0-9_.-]", "_", self.reference.stem)

    def write(self, candidate: Candidate) -> tuple[tuple[Path, ...], str]:
        """Write the files of an accepted candidate; none of them may exist."""
        planned = self.name_files(candidate)
        for target, _ in planned:
            refuse_existing(target)
        self.out.mkdir(parents=True, exist_ok=True)
        for target, content in planned:
            with files.atomic_write(target) as part:
                if isinstance(content, Path):
                    shutil.copyfile(content, part)
                else:
                    part.write_bytes(content.encode())
        reference = self.reference.text
        if candidate.model is not None:
            reference = str(self.name_model(candidate.model.suffix))
        if candidate.checkpoint is not None:
            reference = with_weights(reference, self._name_checkpoint(candidate.checkpoint))
        return tuple(target for target, _ in planned), reference

    def name_files(self, candidate: Candidate) -> list[tuple[Path, Path | str]]:
        """Return the files that a candidate is written to, each with a file to copy or its text."""
        planned: list[tuple[Path, Path | str]] = []
        if candidate.model is not None:
            planned.append((self.name_model(candidate.model.suffix), candidate.model))
        if candidate.checkpoint is not None:
            target = self._name_checkpoint(candidate.checkpoint)
            planned.append((target, candidate.checkpoint))
        patches = _name_patches(candidate.texts)
        for file, text in candidate.texts.items():
            name = os.path.relpath(file, _find_root(Path(file)))
            patch = format_patch(read_text(Path(file)), text, name.replace(os.sep, "/"))
            planned.append((self.out / patches[file], patch))
        return planned

    def name_model(self, suffix: str) -> Path:
        return self.out / f"{self.stem}.repaired{suffix}"

    def _name_checkpoint(self, path: Path) -> Path:
        ending = "".join(path.suffixes[-2:])
        return self.name_model(ending if ending == ".weights.h5" else path.suffix)


def _name_patches(sources: Iterable[str]) -> dict[str, str]:
    """Return, by source file, a patch's name that no other has: `blocks.patch`, `blocks.2.patch`.

    A name that differs from another one in upper and lower case alone is taken too.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for file in sources:
        name, number = f"{Path(file).stem}.patch", 1
        while name.casefold() in taken:
            number += 1
            name = f"{Path(file).stem}.{number}.patch"
        taken.add(name.casefold())
        names[file] = name
    return names


def refuse_existing(path: Path) -> None:
    """Raise `OutputError` for a file that would be replaced."""
    if path.exists():
        raise OutputError(f"{path}: exists already; give another --out")


def _find_root(file: Path) -> Path:
    """Return the folder from which a file's patch is applied: its repository's, else its own."""
    for folder in file.parents:
        if (folder / ".git").exists():
            return folder
    cwd = Path.cwd()
    return cwd if file.is_relative_to(cwd) else file.parent
