"""The tables of the exports' study, as the documentation has them.

    python -m tests.studies.exports.tables RESULTS.json TABLE

`RESULTS.json` is what `python -m tests.studies.exports --out` wrote. A row with "earlier" was not
repeated since the exporter last changed, and has a star.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.studies.exports.__main__ import EXPORTERS, OURS, PASS, REFUSED, WRONG, list_fallbacks

_TITLES = {OURS: "parity"}


def summarise(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return the lines of the table of totals: one row a framework and exporter."""
    lines = [
        "| framework | exporter | models | right | refused | wrong |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for framework, rows in results.items():
        for name in EXPORTERS[framework]:
            count = Counter(
                row["results"][name]["verdict"] for row in rows if name in row["results"]
            )
            cells = (framework, _title(name), count.total(), *map(count.__getitem__, _VERDICTS))
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


_VERDICTS = (PASS, REFUSED, WRONG)


def list_models(framework: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of the table of one framework's models."""
    names = EXPORTERS[framework]
    titles = ["kind", "model", *map(_title, names), "why"]
    lines = ["| " + " | ".join(titles) + " |", "|---|---|" + "---|" * (len(names) + 1)]
    for row in rows:
        own = row["results"].get(OURS, {})
        reason = "" if own.get("verdict") == PASS else own.get("detail", "")
        star = "*" if row.get("earlier") else ""
        cells = [row["kind"], f"`{row['case']}`{star}"]
        cells += [_cell(row["results"].get(name)) for name in names]
        cells.append(_shorten(reason))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def group_fallbacks(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of a table of the models that are exported by torch.onnx's own way, by why.

    With each model's seconds over those of torch.onnx.
    """
    groups: dict[str, list[str]] = {}
    for case, ratio, why in list_fallbacks(rows, "torch.onnx"):
        groups.setdefault(why.replace("aten.", ""), []).append(f"`{case}` {ratio:.2f}")
    lines = [
        "| has no translation of its own | models, seconds over those of `torch.onnx` |",
        "|---|---|",
    ]
    lines += [f"| {why} | {', '.join(models)} |" for why, models in sorted(groups.items())]
    return lines


def _title(name: str) -> str:
    return _TITLES.get(name, name)


def _cell(found: Mapping[str, Any] | None) -> str:
    return f"{found['verdict']}, {found['seconds']:.1f} s" if found else ""


def _shorten(reason: str, longest: int = 110) -> str:
    text = " ".join(reason.removeprefix("ExportError: ").replace("|", "/").split())
    text = text.replace("<", "‹").replace(">", "›")
    return text if len(text) <= longest else text[:longest].rsplit(" ", 1)[0] + " …"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text())
    lines = ["# Exports: every model of the study", ""]
    lines += [
        "Made by `python -m tests.studies.exports` and `python -m tests.studies.exports.tables`;"
        " the totals and",
        "what they mean are in [truth.md](truth.md). Seconds are of a busy machine, and exporters"
        " may have run at",
        "different times: they are no comparison of speed. A star: measured before the exporters'"
        " last change.",
        "",
        *summarise(results),
        "",
    ]
    for framework, rows in results.items():
        lines += [f"## {framework}", "", *list_models(framework, rows), ""]
        if framework == "torch":
            lines += ["### By torch.onnx's own decompositions", "", *group_fallbacks(rows), ""]
    arguments.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
