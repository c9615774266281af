"""What a bisection searches: the releases of a package or a range of commits, each compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from parity.commands.commit_worktrees import CommitWorktrees
from parity.commands.compare import compare_request
from parity.commands.compare_graphs import compare_graphs
from parity.commands.values import Progress
from parity.comparison.graphs.request import GraphRequest, expect_runtime
from parity.comparison.request import Request
from parity.processes import registry, releases
from parity.processes.environments import create_layer
from parity.processes.references import parse_reference, split_name
from parity.report.model import Report

_OLD, _NEW = "good", "new"
"""The subjects of a comparison of one model in two environments, or at two commits."""


class Axis(Protocol):
    """The versions or commits between the ends, and the comparison in each."""

    what: str

    @property
    def names(self) -> Sequence[str]:
        """The versions or commits, the good end first and the bad one last."""

    def compare(self, index: int) -> Report:
        """Return the report at an index. Raises `ParityError`."""

    def describe(self, index: int) -> str:
        """Return the version or commit in a sentence."""


class Versions:
    """The releases of a package, each in an environment of its own."""

    def __init__(
        self,
        package: str,
        good: str,
        bad: str,
        request: Request | GraphRequest,
        folder: Path,
        versions: Sequence[str],
        find_links: Sequence[str | Path],
        progress: Progress,
    ) -> None:
        self.what = releases.parse_package(package)
        for end in (good, bad):
            releases.parse_version(end)
        known = (
            releases.sort_versions([*versions, good, bad])
            if versions
            else releases.list_releases_with_ends(self.what, (good, bad), find_links=find_links)
        )
        self.names = releases.select_releases(self.what, known, good, bad)
        self._request, self._folder, self._progress = request, folder, progress
        self._find_links = find_links
        graph_packages = {
            releases.parse_package(each)
            for name in registry.graph_runtimes()
            for each in registry.get(name).package_names
        }
        self._is_one_model = _is_one_model(request) and self.what not in graph_packages

    def compare(self, index: int) -> Report:
        request = self._request
        python = self._install(index)
        if not self._is_one_model:
            return _compare(replace(request, python={**request.python, **python}), self._progress)
        assert isinstance(request, GraphRequest)
        _, reference = split_name(request.references[0])
        runtime = expect_runtime(parse_reference(reference))
        before = self._install(0)
        changed = replace(
            request,
            references=(f"{_OLD}={reference}", f"{_NEW}={reference}"),
            environments={_OLD: _OLD, _NEW: _NEW},
            python={**request.python, **before, _OLD: before[runtime], _NEW: python[runtime]},
            export=False,
        )
        return _compare(changed, self._progress)

    def describe(self, index: int) -> str:
        return f"{self.what} {self.names[index]}"

    def _install(self, index: int) -> dict[str, str]:
        """Return {runtime: Python} of environments with a release; raises `InterpreterError`."""
        version = self.names[index]
        layers: dict[str | None, str] = {}
        python = {}
        for runtime in registry.frameworks():
            base = self._request.python.get(runtime)
            if base not in layers:
                number = f"-{len(layers) + 1}" if layers else ""
                self._progress(self.what, f"installing {version}")
                layers[base] = create_layer(
                    self._folder / f"{self.what}-{version}{number}",
                    f"{self.what}=={version}",
                    base=base,
                    find_links=self._find_links,
                )
            python[runtime] = layers[base]
        return python


class CommitRange:
    """The commits between two, each in a worktree of its own."""

    what = "commit"

    def __init__(
        self,
        repository: CommitWorktrees,
        commits: str,
        request: GraphRequest | Request,
        progress: Progress,
    ) -> None:
        assert isinstance(request, GraphRequest)
        self._repository, self._request, self._progress = repository, request, progress
        self.names = repository.list_range(commits)
        self._is_one_model = _is_one_model(request)

    def compare(self, index: int) -> Report:
        references = self._repository.check_out(self.names[index])
        if not self._is_one_model:
            return _compare(replace(self._request, references=references), self._progress)
        before = self._repository.check_out(self.names[0])
        old, new = (split_name(text)[1] for text in (before[0], references[0]))
        changed = replace(
            self._request, references=(f"{_OLD}={old}", f"{_NEW}={new}"), export=False
        )
        return _compare(changed, self._progress)

    def describe(self, index: int) -> str:
        return f"commit {self._repository.describe(self.names[index])}"


def _is_one_model(request: Request | GraphRequest) -> bool:
    """Return whether a request has one model, which is no registered architecture."""
    return isinstance(request, GraphRequest) and len(request.name_models()) == 1


def _compare(request: Request | GraphRequest, progress: Progress) -> Report:
    if isinstance(request, GraphRequest):
        return compare_graphs(request, progress=progress)
    return compare_request(request, progress=progress)
