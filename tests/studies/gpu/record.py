"""The record of a run on a GPU, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = "parity.gpu/1"


@dataclass(frozen=True)
class Entry:
    """One item; `status` is passed, failed or not run."""

    name: str
    status: str
    reason: str | None
    seconds: float
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A whole run."""

    date: str
    model: str
    size: int
    gpu: Mapping[str, Any] | None
    why: str | None
    """Why there is no GPU."""
    environment: Mapping[str, Any]
    runtimes: Mapping[str, Mapping[str, Any]]
    """By child, the GPU and the libraries as its runtime reports them."""
    entries: Sequence[Entry]
    seconds: float

    def count(self, status: str) -> int:
        """Return how many items have a status."""
        return sum(entry.status == status for entry in self.entries)

    @property
    def exit_code(self) -> int:
        """1 if an item failed, 3 if none was run, else 0."""
        if self.count("failed"):
            return 1
        return 0 if self.count("passed") else 3


def write(record: Record, folder: Path) -> tuple[Path, Path]:
    """Write `record.json` and `record.md` into a folder, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"schema": SCHEMA, **asdict(record)}
    paths = folder / "record.json", folder / "record.md"
    for path, text in zip(
        paths, (json.dumps(data, indent=1) + "\n", markdown(record)), strict=True
    ):
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    return paths


def markdown(record: Record) -> str:
    """Return the record as Markdown: the GPU, errors by stage and precision, every item."""
    gpu = record.gpu
    title = f"{gpu['name']}, driver {gpu['driver']}, CUDA {gpu['cuda']}" if gpu else record.why
    lines = [
        f"# {record.model} at {record.size}×{record.size} on the GPU, {record.date}",
        "",
        f"- GPU: {title}",
        *(f"- {name}: {_facts(facts)}" for name, facts in record.runtimes.items()),
        f"- {record.count('passed')} passed, {record.count('failed')} failed, "
        f"{record.count('not run')} not run, in {record.seconds:.0f} s",
        "",
    ]
    stage_entries = [entry for entry in record.entries if entry.figures.get("stages")]
    if stage_entries:
        stages = list(stage_entries[0].figures["stages"])
        lines += ["Largest error of each stage, and how many floors of its precision that is:", ""]
        lines += ["| | " + " | ".join(stages) + " | forward, s | compare, s |"]
        lines += ["|---" * (len(stages) + 3) + "|"]
        lines += [_row(entry, stages) for entry in stage_entries]
        lines += [""]
    lines += ["| item | status | seconds | |", "|---|---|---|---|"]
    lines += [
        f"| {entry.name} | {entry.status} | {entry.seconds:.1f} | {_cell(entry.reason or '')} |"
        for entry in record.entries
    ]
    return "\n".join(lines) + "\n"


def _row(entry: Entry, stages: Sequence[str]) -> str:
    figures = entry.figures["stages"]
    cells = [f"{figures[s]['max_abs']:.1e} ({figures[s]['x_floor']:.2f}×)" for s in stages]
    seconds = [entry.figures.get(key) or 0.0 for key in ("run_seconds", "compare_seconds")]
    return f"| {entry.name} | {' | '.join([*cells, *(f'{s:.3f}' for s in seconds)])} |"


def _facts(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items()) or "no facts"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
