"""`parity.history`: the figures of a lock file over time, from git or from several files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parity import files
from parity.commands import history_plot, lock
from parity.commands.git import list_error_lines, start_git
from parity.comparison import identity
from parity.errors import UsageError
from parity.text import abbreviate, quote

SCHEMA = "parity.history/1"

FACTOR = 2.0
"""How many times its previous value a figure may be before it is a regression."""


@dataclass(frozen=True, slots=True)
class LockVersion:
    """One version of a lock file: `name` is a commit's hash, a file, or "working tree".

    `date` is the commit's, in ISO 8601, and `subject` the first line of its message.
    """

    name: str
    cases: Mapping[str, Any]
    date: str = ""
    subject: str = ""

    @property
    def label(self) -> str:
        """Return the heading of its column: a short hash, or the name."""
        is_hash = len(self.name) == 40 and self.name.isalnum()
        return self.name[:9] if is_hash else self.name


@dataclass(frozen=True, slots=True)
class Regression:
    """A figure of one version that is more than `FACTOR` times that of the version before.

    `version` and `previous` are indices; `packages` are the versions that changed between them.
    """

    version: int
    previous: int
    before: float
    after: float
    stage: str
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """The figures of one case and subject: by version, the largest `x_floor` of its stages.

    None where the version has no such case or subject. `breaks` are the versions from which on
    something else was compared, with what it was: figures before are of another input or model.
    """

    case: str
    subject: str
    figures: tuple[float | None, ...]
    stages: tuple[str | None, ...]
    """The stage with the largest figure, by version."""
    regressions: tuple[Regression, ...] = ()
    breaks: Mapping[int, str] | None = None

    @property
    def change(self) -> float | None:
        """The last figure divided by the one before; None if there are not two."""
        known = [
            (version, figure) for version, figure in enumerate(self.figures) if figure is not None
        ]
        if len(known) < 2 or any(known[-2][0] < at <= known[-1][0] for at in self.breaks or {}):
            return None
        before, after = known[-2][1], known[-1][1]
        return after / before if before else (1.0 if after == before else math.inf)


@dataclass(frozen=True, slots=True)
class History:
    """The versions of a lock file, the oldest first, and their figures.

    `notes` are versions that could not be read.
    """

    versions: tuple[LockVersion, ...]
    series: tuple[Series, ...]
    notes: tuple[str, ...] = ()

    @property
    def regressions(self) -> tuple[tuple[Series, Regression], ...]:
        """Every regression with its series, the oldest first."""
        found = [(series, each) for series in self.series for each in series.regressions]
        return tuple(sorted(found, key=lambda pair: pair[1].version))

    def to_json(self) -> dict[str, Any]:
        """Return the history as plain data, `parity.history/1`."""
        return {
            "schema": SCHEMA,
            "versions": [
                {"name": each.name, "date": each.date, "subject": each.subject}
                for each in self.versions
            ],
            "series": [
                {
                    **asdict(each),
                    "breaks": {str(at): what for at, what in (each.breaks or {}).items()},
                    "change": each.change if each.change != math.inf else None,
                }
                for each in self.series
            ],
            "notes": list(self.notes),
        }


def history(
    *lock_files: str | Path,
    git: bool = False,
    cases: Sequence[str] = (),
    svg: str | Path | None = None,
) -> History:
    """Return the figures of a lock file over time, the oldest version first.

    A figure is a subject's `x_floor`; a regression is one that is more than twice the figure of the
    version before, at any stage. Figures of another model, weights, input or depth are not
    compared.

    Parameters:
        lock_files: One file, whose versions are read from git, or several in order of their age.
        git: Read the versions from git, which is the default for one file.
        cases: The cases to show; empty: all.
        svg: A file for a plot of the figures.

    Raises `UsageError` for no file, for one that is not in git, has no version or is no lock, for
    several files with `git`, and for a case that no version has; `OutputError` for a plot that
    cannot be written.

    Example:
        >>> import parity
        >>> found = parity.history("parity.lock.json", svg="history.svg")
        >>> [(series.case, series.figures[-1], series.change) for series in found.series]
        [('resnet18', 1.02, 1.0)]
    """
    if not lock_files:
        raise UsageError("expected a lock file; `parity check --update` writes parity.lock.json")
    if svg is not None:
        files.require_writable(svg)
        files.require_other_files([svg], map(str, lock_files))
        files.require_suffix(svg, ".svg")
    notes: list[str] = []
    if git or len(lock_files) == 1:
        if len(lock_files) > 1:
            raise UsageError(f"--git: expected one file, found {len(lock_files)}")
        versions = _read_git_versions(Path(lock_files[0]), notes)
    else:
        versions = [LockVersion(str(path), lock.load(Path(path))) for path in lock_files]
    found = History(tuple(versions), tuple(_collect_series(versions, cases)), tuple(notes))
    if svg is not None:
        history_plot.write_plot(svg, found)
    return found


def describe_regression(found: History, series: Series, regression: Regression) -> str:
    """Return one sentence: what is how many times what it was, in which version."""
    version = found.versions[regression.version]
    ratio = f" ({regression.after / regression.before:.3g}×)" if regression.before else ""
    place = " ".join(filter(None, (version.label, version.date[:10], version.subject)))
    packages = f" ({', '.join(regression.packages)})" if regression.packages else ""
    return (
        f"{series.case}: {series.subject} at {regression.stage}: x floor {regression.before:.3g} "
        f"→ {regression.after:.3g}{ratio} in {place}{packages}"
    )


def _collect_series(versions: Sequence[LockVersion], only: Sequence[str]) -> Iterator[Series]:
    """Yield the series of each case and subject, in the order of the newest versions."""
    known = dict.fromkeys(name for each in reversed(versions) for name in each.cases)
    for name in only:
        if name not in known:
            raise UsageError(f"unknown case {quote(name)}; known: {', '.join(known)}")
    for case in only or known:
        tables = [_read_figures(each, case) for each in versions]
        subjects = dict.fromkeys(name for table in reversed(tables) for name in table)
        for subject in subjects:
            yield _build_series(versions, case, subject, [each.get(subject) for each in tables])


def _build_series(
    versions: Sequence[LockVersion],
    case: str,
    subject: str,
    tables: Sequence[Mapping[str, float] | None],
) -> Series:
    """Return a series from a subject's `x_floor` by stage, for each version."""
    worst = [max(table, key=table.__getitem__) if table else None for table in tables]
    regressions: list[Regression] = []
    breaks: dict[int, str] = {}
    previous: int | None = None
    for index, table in enumerate(tables):
        if not table:
            continue
        if previous is not None:
            before = versions[previous].cases[case]
            after = versions[index].cases[case]
            other = _describe_other_identity(before, after)
            if other:
                breaks[index] = other
            else:
                regressions += _find_regressions(
                    (previous, tables[previous] or {}),
                    (index, table),
                    tuple(_describe_packages(before, after)),
                )
        previous = index
    return Series(
        case=case,
        subject=subject,
        figures=tuple(
            table[stage] if table and stage is not None else None
            for table, stage in zip(tables, worst, strict=True)
        ),
        stages=tuple(worst),
        regressions=tuple(regressions),
        breaks=breaks,
    )


def _find_regressions(
    previous: tuple[int, Mapping[str, float]],
    current: tuple[int, Mapping[str, float]],
    packages: tuple[str, ...],
) -> Iterator[Regression]:
    """Yield the stage whose figure grew most, if it is more than `FACTOR` times what it was."""
    (before_index, before), (index, after) = previous, current
    grown = []
    for stage, figure in after.items():
        old = before.get(stage)
        # What was exact may become as large as rounding.
        if old is not None and not figure <= FACTOR * (old or 1.0):
            grown.append((figure / old if old else math.inf, stage))
    if grown:
        _, stage = max(grown)
        yield Regression(index, before_index, before[stage], after[stage], stage, packages)


def _read_figures(version: LockVersion, case: str) -> dict[str, dict[str, float]]:
    """Return {subject: {stage: `x_floor`}} of a case; empty if the version has no such case."""
    found: dict[str, dict[str, float]] = {}
    if case not in version.cases:
        return found
    try:
        for stage, subjects in version.cases[case]["stages"].items():
            for subject, figures in subjects.items():
                figure = float(figures["x_floor"])
                if not math.isfinite(figure):
                    raise ValueError(f"{subject} at {stage}: {figure}")
                found.setdefault(subject, {})[stage] = figure
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"{version.label}: case {quote(case)}: malformed: {error!r}") from error
    return found


def _describe_other_identity(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return what else was compared, such as "input"; empty if it was the same."""
    keys = (*identity.LABELS, "depth")
    changed = [key for key in keys if before.get(key) != after.get(key)]
    return ", ".join(
        f"{identity.LABELS.get(key, key)} {abbreviate(after.get(key))}" for key in changed
    )


def _describe_packages(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield the packages whose versions differ, such as "torch 2.13.0 was 2.12.1"."""
    described: dict[str, None] = {}
    for runtime, packages in after.get("versions", {}).items():
        for package, version in packages.items():
            old = before.get("versions", {}).get(runtime, {}).get(package)
            if old not in (version, None):
                described[f"{package} {version} was {old}"] = None
    yield from described


# git --------------------------------------------------------------------------------------------


def _read_git_versions(path: Path, notes: list[str]) -> list[LockVersion]:
    """Return the versions of a file in git, the oldest first, and the file itself if it differs.

    A version that is no lock, such as one with conflict markers, is left out with a note. Raises
    `UsageError`.
    """
    folder = path.parent
    if not folder.is_dir():
        raise UsageError(f"{path}: no such file")
    log = ("log", "--follow", "--no-ext-diff", "--diff-filter=d", "--name-only", "-z")
    text = _read_git_output(path, *log, "--format=%x1e%H%x1f%cI%x1f%s%x1f", "--", path.name).decode(
        errors="replace"
    )
    # With -z the name is ended by NUL and follows a line break.
    records = [record.split("\x1f") for record in text.split("\x1e") if record.strip("\0\n")]
    versions: list[LockVersion] = []
    for commit, date, subject, rest in reversed(records):
        name = rest.strip("\0\n").partition("\0")[0]
        content = _read_git_output(path, "cat-file", "blob", f"{commit}:{name}")
        try:
            cases = lock.parse(content.decode(), f"{commit[:9]}:{name}")
            version = LockVersion(commit, cases, date, subject)
            for case in cases:
                _read_figures(version, case)
        except (UsageError, UnicodeDecodeError) as error:
            notes.append(f"left out: {error}")
            continue
        versions.append(version)
    if path.exists():
        cases = lock.load(path)
        if not versions or versions[-1].cases != cases:
            versions.append(LockVersion("working tree", cases))
    elif not records:
        raise UsageError(f"{path}: no such file, and git has no version of it")
    if not records:
        raise UsageError(
            f"{path}: git has no version of it; commit it, or give several files in order"
        )
    if not versions:
        raise UsageError(f"{path}: none of its {len(records)} versions in git is a lock file")
    return versions


def _read_git_output(path: Path, *words: str) -> bytes:
    """Return what git prints in a file's folder. Raises `UsageError`."""
    try:
        done = start_git(path.parent, *words)
    except UsageError as error:
        raise UsageError(f"{error}; give several files") from error
    if done.returncode:
        line = list_error_lines(done)[0]
        if "not a git repository" in line:
            if not path.exists():
                raise UsageError(f"{path}: no such file")
            raise UsageError(f"{path}: not in a git repository; give several files in order")
        if "does not have any commits" in line:
            raise UsageError(f"{path}: git has no version of it, since nothing is committed yet")
        raise UsageError(f"{path}: git: {line}")
    return done.stdout
