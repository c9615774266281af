"""`parity.bisect`: follow a difference to a release or a commit, to a layer and to its cause."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity import temporary
from parity.commands import cases as case_files
from parity.commands.bisect_axes import Axis, CommitRange, Versions
from parity.commands.bisect_judges import BAD, GOOD, SKIPPED, FigureJudge, Judge, VerdictJudge
from parity.commands.commit_worktrees import CommitWorktrees
from parity.commands.notebooks import show_in_notebooks
from parity.commands.values import (
    ImageSize,
    Progress,
    find_interpreters,
    names_any_models,
    no_progress,
    parse_image_size,
    parse_subjects,
    sort_models,
)
from parity.comparison.graphs.request import GraphRequest
from parity.comparison.request import Request
from parity.comparison.results import Outcome
from parity.defaults import LIMIT
from parity.errors import ChildError, ParityError, UsageError
from parity.explain.messages import UNKNOWN
from parity.report.model import Report
from parity.text import describe_remaining, quote

SCHEMA = "parity.bisect/1"


_SENTENCE_END = re.compile(r"\.\s+(?=[A-Z])")


@dataclass(frozen=True)
class Trial:
    """One version or commit that was tried: its outcome, the reason, and its report if it ran."""

    name: str
    outcome: str
    reason: str
    seconds: float
    report: Report | None = None


@dataclass(frozen=True)
class BisectResult:
    """Where a difference began.

    `good` is the last that is good and `bad` the first that is bad; `between` are those between
    the two that could not be tried, so that each of them may be the first. `layer` and `cause` are
    those of the difference in `bad`, and `sentence` says it all.
    """

    what: str
    """The package, or "commit"."""
    good: str
    bad: str
    between: tuple[str, ...]
    trials: tuple[Trial, ...]
    layer: str
    subject: str
    cause: str
    sentence: str

    @property
    def found(self) -> bool:
        """Whether exactly one version or commit can be the first."""
        return not self.between

    @property
    def exit_code(self) -> int:
        """The exit code of `parity bisect`: 0 if it is found, else 3."""
        return 0 if self.found else 3

    @property
    def report(self) -> Report:
        """The report of the first that is bad."""
        return next(
            each.report for each in self.trials if each.name == self.bad and each.report is not None
        )

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain data, `parity.bisect/1`, without the reports."""
        return {
            "schema": SCHEMA,
            "what": self.what,
            "good": self.good,
            "bad": self.bad,
            "between": list(self.between),
            "layer": self.layer,
            "subject": self.subject,
            "cause": self.cause,
            "sentence": self.sentence,
            "trials": [
                {
                    "name": each.name,
                    "outcome": each.outcome,
                    "reason": each.reason,
                    "seconds": each.seconds,
                }
                for each in self.trials
            ],
        }


@show_in_notebooks
def bisect(
    *models: str,
    package: str | None = None,
    good: str | None = None,
    bad: str | None = None,
    versions: Sequence[str] = (),
    find_links: Sequence[str | Path] = (),
    commits: str | None = None,
    case: str | None = None,
    file: str | Path = "parity.toml",
    figure: str | None = None,
    folder: str | Path | None = None,
    weights: str | Path | None = None,
    input: str | Path | None = None,
    inputs: Mapping[str, str | Path] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int | None = None,
    seed: int = 0,
    image_size: ImageSize | None = None,
    export: bool = True,
    trust: Sequence[str | Path] = (),
    custom_objects: str | Path | None = None,
    limit: float = LIMIT,
    device: str = "auto",
    python: Mapping[str, str | Path] | None = None,
    timeout: float = 900.0,
    progress: Progress | None = None,
) -> BisectResult:
    """Follow a difference between two versions or commits to the first one that has it, and why.

    The two ends are compared, then the middle of what is left: at most the logarithm to base 2 of
    the number of steps between the ends. One model, whose package or file changes, is compared with
    itself at the good end. Several models, or a model with a package that runs graphs, are compared
    with one another in each version.

    What changes:
        package: A package, whose releases are installed one by one, each into an environment above
            the current one. One that cannot be installed or run is skipped. Those that were yanked
            are left out, and pre-releases unless `good` or `bad` is one.
        good, bad: The versions of the two ends; `bad` may be the older one.
        versions: The releases to choose from, instead of those that pip's index lists.
        find_links: Folders or pages of wheels for pip.
        commits: "GOOD..BAD" instead of a package: commits of the repository that holds the models'
            files, each in a worktree of its own.
        folder: Where environments are made and kept; None: a temporary folder.

    What is compared:
        models: References, as `parity.compare` takes them.
        case: The name of a case in `file`, a parity.toml, instead of `models`; bad is then a figure
            of any subject that is more than twice the one of the good end.
        figure: A subject, such as "torch": bad is its error, in floors, at more than twice the one
            of the good end, at any stage. None: bad is a divergence.

    The other parameters are those of `parity.compare`: weights, input, inputs, shapes, batch, seed,
    image_size, export, trust, custom_objects, limit, device, python, timeout, progress.

    Raises `UsageError` for parameters that contradict one another, an unknown version or commit,
    and ends that do not differ as they should; `InterpreterError` if an end cannot be installed;
    `ChildError` for one whose comparison has no verdict; and what `parity.compare` raises, with
    the end's name.

    Example:
        >>> import parity
        >>> found = parity.bisect("net.py:build", package="timm", good="1.0.9", bad="1.0.20")
        >>> found.bad, found.layer
        ('1.0.12', 'stage3.conv2')
    """
    _require_one_axis(package, good, bad, commits, versions, find_links)
    if case is not None:
        if models:
            raise UsageError(f"--case {case}: the models are the case's; give no reference")
        request = _find_case(Path(file), case)
    else:
        request = _build_request(
            models,
            weights=None if weights is None else str(weights),
            inputs=dict(inputs or {}),
            shapes={name: tuple(shape) for name, shape in (shapes or {}).items()},
            export=export,
            trust=tuple(map(str, trust)),
            custom_objects=None if custom_objects is None else str(custom_objects),
            input=input,
            batch=batch,
            seed=seed,
            image_size=parse_image_size(image_size),
            limit=limit,
            device=device,
            python=find_interpreters(python),
            timeout=timeout,
        )
    progress = progress or no_progress
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(temporary.working_folder()) if folder is None else Path(folder)
        axis: Axis
        if package is not None:
            assert good is not None
            assert bad is not None
            axis = Versions(package, good, bad, request, place, versions, find_links, progress)
        else:
            assert commits is not None
            references = _list_files(request)
            repository = stack.enter_context(contextlib.closing(CommitWorktrees(references, place)))
            axis = CommitRange(repository, commits, request, progress)
        judge = FigureJudge(figure) if case is not None or figure else VerdictJudge()
        return _bisect(axis, judge, progress)


def search(count: int, judge: Callable[[int], str]) -> tuple[int, int, tuple[int, ...]]:
    """Return the last good index, the first bad one, and those skipped between them.

    Index 0 is good and index ``count - 1`` bad; `judge` is asked for others, at most
    ``ceil(log2(count - 1))`` times if it skips none.
    """
    low, high = 0, count - 1
    skipped: set[int] = set()
    while left := [each for each in range(low + 1, high) if each not in skipped]:
        middle = min(left, key=lambda index: abs(2 * index - low - high))
        outcome = judge(middle)
        if outcome == GOOD:
            low = middle
        elif outcome == BAD:
            high = middle
        else:
            skipped.add(middle)
    return low, high, tuple(sorted(each for each in skipped if low < each < high))


# The search --------------------------------------------------------------------------------------


def _bisect(axis: Axis, judge: Judge, progress: Progress) -> BisectResult:
    trials: list[Trial] = []

    def attempt(index: int) -> str:
        """Try what is between the ends; an error skips it."""
        start = time.perf_counter()
        name, report = axis.names[index], None
        try:
            report = axis.compare(index)
            outcome, reason = judge.judge(report)
        except ParityError as error:
            outcome, reason = SKIPPED, str(error)
        trials.append(Trial(name, outcome, reason, time.perf_counter() - start, report))
        # Both ends, and then halves; what is skipped is tried beyond that.
        tries = 2 + math.ceil(math.log2(len(axis.names) - 1))
        left = describe_remaining(len(trials), tries, sum(each.seconds for each in trials))
        progress(axis.what, f"{name}: {outcome}{left}")
        return outcome

    last = len(axis.names) - 1
    for index, expected in ((0, GOOD), (last, BAD)):
        progress(axis.what, f"{axis.names[index]}, expected to be {expected}")
        start = time.perf_counter()
        with _name_end(axis.describe(index)):
            report = axis.compare(index)
        outcome, reason = judge.judge(report)
        _require_end(axis.describe(index), expected, outcome, reason)
        seconds = time.perf_counter() - start
        trials.append(Trial(axis.names[index], outcome, reason, seconds, report))
    low, high, skipped = search(len(axis.names), attempt)
    return _build_result(axis, judge, trials, low, high, skipped)


@contextlib.contextmanager
def _name_end(place: str) -> Iterator[None]:
    """Name the end in an error of its comparison."""
    try:
        yield
    except ParityError as error:
        error.args = (f"{place}: {error}", *error.args[1:])
        raise


def _require_end(place: str, expected: str, outcome: str, reason: str) -> None:
    """Raise `ChildError` for an end that was not judged, `UsageError` for one that is not as said.

    So the exit codes are those of a comparison: 3 for what could not be run, 2 for bad input.
    """
    if outcome == SKIPPED:
        raise ChildError(f"{place} could not be compared: {reason}")
    if outcome == expected:
        return
    remedy = "; give a good one, or --figure for a figure" if expected == GOOD else ""
    raise UsageError(f"{place} is not {expected}: {reason}{remedy}")


def _build_result(
    axis: Axis,
    judge: Judge,
    trials: Sequence[Trial],
    low: int,
    high: int,
    skipped: Sequence[int],
) -> BisectResult:
    report = next(
        each.report for each in trials if each.name == axis.names[high] and each.report is not None
    )
    subject, layer = judge.locate(report)
    cause = _describe_cause(report, subject, layer)
    first = axis.describe(high)
    if skipped:
        others = ", ".join(map(axis.describe, skipped))
        first = f"{others} or {first}"
        first += " (the others could not be tried)"
    where = f"{subject} at {layer}" if layer else subject
    sentence = f"{first} is the first bad, {axis.describe(low)} the last good: {where}: {cause}"
    return BisectResult(
        what=axis.what,
        good=axis.names[low],
        bad=axis.names[high],
        between=tuple(axis.names[each] for each in skipped),
        trials=tuple(trials),
        layer=layer,
        subject=subject,
        cause=cause,
        sentence=sentence,
    )


def _describe_cause(report: Report, subject: str, layer: str) -> str:
    """Return the proved cause in a layer, else what the levels say, else the error."""
    causes = [each for each in report.causes if each.subject == subject]
    causes = [each for each in causes if each.layer == layer] or causes
    proved = [each for each in causes if each.cause != UNKNOWN]
    if proved:
        return _SENTENCE_END.split(proved[0].message)[0].rstrip(".")
    for name, level in report.levels.items():
        for message in level.messages if level.outcome is Outcome.FAIL else ():
            if re.search(rf"(?<![\w.]){re.escape(layer)}(?![\w])", message):
                return f"{name}: {message}"
    if causes:
        return _SENTENCE_END.split(causes[0].message)[0].rstrip(".")
    return "no cause is proved"


# The parameters ----------------------------------------------------------------------------------


def _require_one_axis(
    package: str | None,
    good: str | None,
    bad: str | None,
    commits: str | None,
    versions: Sequence[str],
    find_links: Sequence[str | Path],
) -> None:
    """Raise `UsageError` unless the versions of a package or commits are given, and not both."""
    if (package is None) == (commits is None):
        raise UsageError("expected either --package with --good and --bad, or --commits GOOD..BAD")
    if package is not None and (good is None or bad is None):
        raise UsageError(f"--package {package}: expected --good VERSION and --bad VERSION")
    if commits is not None and (good or bad or versions or find_links):
        raise UsageError("--commits: --good, --bad, --versions and --find-links are a package's")


def _find_case(path: Path, name: str) -> Request | GraphRequest:
    """Return the request of a case. Raises `UsageError`."""
    case_file = case_files.load(path)
    for each in case_file.cases:
        if each.name == name:
            return each.request
    known = ", ".join(each.name for each in case_file.cases)
    raise UsageError(f"{path}: unknown case {quote(name)}; known: {known}")


def _build_request(models: Sequence[str], **settings: Any) -> Request | GraphRequest:
    if not models:
        raise UsageError("nothing to compare: give one or more models, or --case")
    if names_any_models(models):
        return GraphRequest(references=tuple(models), **settings)
    for name in ("inputs", "shapes", "trust", "custom_objects", "export"):
        settings.pop(name)
    return Request(**sort_models(models), subjects=parse_subjects(None), **settings)


def _list_files(request: Request | GraphRequest) -> tuple[str, ...]:
    """Return the references of a request, which are looked up in a repository."""
    if not isinstance(request, GraphRequest):
        raise UsageError(
            f"--commits: {request.model or 'the models'}: expected files of a repository, such as "
            "net.py:build"
        )
    return request.references
