"""The reports of several comparisons: a folder with a file for each, or one file for all."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from parity import files
from parity.errors import OutputError, UsageError
from parity.files import write_text
from parity.report import formats
from parity.report.formats import markdown
from parity.report.model import Report
from parity.text import find_unfiltered

STEP_SUMMARY = 900_000
"""Characters: GitHub refuses a step's summary of more than 1 MiB."""

Reports = Mapping[str, Report]
"""By case."""


def require_writable(paths: Mapping[str, Path], names: Sequence[str]) -> None:
    """Raise an error before the comparisons if a report of these cases cannot be written.

    Raises UsageError for an unknown format, and for one file of several cases where the format has
    no such file; OutputError for a place that cannot be written.
    """
    for form, path in paths.items():
        formats.require_known(form)
        if is_folder(path):
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"{path}: cannot be a folder: {error.strerror}") from error
        else:
            if len(names) > 1 and not formats.holds_several(form):
                raise UsageError(
                    f"{path}: {form} holds one case, found {len(names)}; give a folder"
                )
            files.require_writable(path)


def require_suffixes(paths: Mapping[str, Path]) -> None:
    """Raise `OutputError` for the name of a file that says another format than its report's."""
    for form, path in paths.items():
        if not is_folder(path):
            files.require_suffix(path, formats.find_suffix(form))


def is_folder(path: Path) -> bool:
    """Whether a report's path is a folder: it exists as one, or its name has no suffix."""
    return path.is_dir() or not path.suffix


def write(reports: Reports, paths: Mapping[str, Path]) -> list[str]:
    """Write every requested format, one file for each case in a folder.

    Returns a sentence for each that could not be written: the verdicts stand without them.
    """
    problems = []
    for form, path in paths.items():
        try:
            if is_folder(path):
                suffix = formats.load_format(form).SUFFIX
                for name, report in reports.items():
                    formats.write_report(report, path / f"{name}{suffix}", form)
            else:
                write_text(path, formats.combine(reports, form))
        except OutputError as error:
            problems.append(str(error))
    return problems


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
                print(annotation, file=find_unfiltered(sys.stderr))
    step = os.environ.get("GITHUB_STEP_SUMMARY")
    if step:
        try:
            with open(step, "a", encoding="utf-8") as page:
                page.write(markdown.combine(reports, STEP_SUMMARY))
        except OSError as error:
            raise OutputError(f"{step}: cannot be written: {error.strerror}") from error
