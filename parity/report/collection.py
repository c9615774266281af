"""The reports of several comparisons: a folder with a file for each, or one file for all."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from parity import files
from parity.errors import OutputError, UsageError
from parity.files import write_text
from parity.report import codec, formats, wording
from parity.report.formats import markdown
from parity.report.model import Report, Verdict

SCHEMA = "parity.check/1"

STEP_SUMMARY = 900_000
"""Characters: GitHub refuses a step's summary of more than 1 MiB."""

Reports = Mapping[str, Report]
"""By case."""


def require_writable(paths: Mapping[str, Path], names: list[str]) -> None:
    """Raise an error before the comparisons if a report cannot be written."""
    for form, path in paths.items():
        if is_folder(path):
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"{path}: cannot be a folder: {error.strerror}") from error
        else:
            if form == "html" and len(names) > 1:
                raise UsageError(
                    f"{path}: an HTML page holds one case, found {len(names)}; give a folder"
                )
            files.require_writable(path)


def is_folder(path: Path) -> bool:
    """Whether a report's path is a folder: it exists as one, or its name has no suffix."""
    return path.is_dir() or not path.suffix


def write(reports: Reports, paths: Mapping[str, Path]) -> None:
    """Write every requested format, one file for each case in a folder. Raises `OutputError`."""
    for form, path in paths.items():
        if is_folder(path):
            suffix = formats.load_format(form).SUFFIX
            for name, report in reports.items():
                formats.write_report(report, path / f"{name}{suffix}", form)
        else:
            write_text(path, render(reports, form))


def render(reports: Reports, form: str) -> str:
    """Return one file of all cases."""
    if form == "json":
        cases = {name: codec.to_json(report) for name, report in reports.items()}
        return json.dumps({"schema": SCHEMA, "cases": cases}, indent=2, allow_nan=False) + "\n"
    if form == "junit":
        return _junit(reports)
    if form == "markdown":
        return render_summary(reports, markdown.MAX_LENGTH)
    (report,) = reports.values()
    return formats.load_format(form).render(report)


def _junit(reports: Reports) -> str:
    root = ElementTree.Element("testsuites", {"name": "parity check"})
    totals = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    seconds = 0.0
    for name, report in reports.items():
        suites = ElementTree.fromstring(formats.load_format("junit").render(report))
        for key in totals:
            totals[key] += int(suites.get(key, "0"))
        seconds += float(suites.get("time", "0"))
        for suite in suites:
            suite.set("name", f"{name}: {suite.get('name')}")
            for case in suite.iter("testcase"):
                case.set("classname", f"{name}.{case.get('classname')}")
            root.append(suite)
    root.attrib.update({key: str(value) for key, value in totals.items()})
    root.set("time", f"{seconds:.3f}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def render_summary(reports: Reports, longest: int) -> str:
    """Return Markdown: one line for each case, then the cases' reports, failing cases first."""
    count = sum(report.verdict is Verdict.PARITY for report in reports.values())
    lines = [f"## parity check: {count} of {len(reports)} cases agree", ""]
    lines += ["| case | verdict | worst | where |", "| --- | --- | ---: | --- |"]
    for name, report in reports.items():
        ratio, where = format_worst(report)
        lines.append(f"| {name} | {report.verdict.value} | {ratio} | {where} |")
    blocks = ["\n".join(lines) + "\n"]
    room = longest - len(blocks[0]) - 200
    sorted_reports = sorted(reports.items(), key=lambda item: item[1].verdict is Verdict.PARITY)
    omitted = 0
    for name, report in sorted_reports:
        block = f"---\n\n**{name}**\n\n{markdown.render(report)}"
        if len(block) > room:
            omitted += 1
            continue
        room -= len(block)
        blocks.append(block)
    if omitted:
        blocks.append(f"{omitted} more reports do not fit here; see the other formats.\n")
    return "\n".join(blocks)


def format_worst(report: Report) -> tuple[str, str]:
    """Return the largest ratio of all subjects and points, and its subject and point."""
    worst = wording.find_worst(report)
    if worst is None:
        return "–", "nothing was compared"
    ratio, name, stage = worst
    return wording.format_ratio(ratio), f"{name}, {stage}"


def publish_to_github(reports: Reports, places: Mapping[str, tuple[Path, int]]) -> None:
    """In a GitHub workflow, print an annotation for each error and write the step's summary.

    `places` holds the file and line of each case.
    """
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for name, report in reports.items():
            file, line = places[name]
            for annotation in markdown.render_github_annotations(
                report, case=name, file=str(file), line=line
            ):
                print(annotation, file=sys.stderr)
    step = os.environ.get("GITHUB_STEP_SUMMARY")
    if step:
        try:
            with open(step, "a", encoding="utf-8") as page:
                page.write(render_summary(reports, STEP_SUMMARY))
        except OSError as error:
            raise OutputError(f"{step}: cannot be written: {error.strerror}") from error
