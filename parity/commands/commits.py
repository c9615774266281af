"""The commits between two of a repository, and the user's files as they were in each."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from parity.errors import UsageError
from parity.processes.references import FILE, SCRIPT, parse_reference, split_name
from parity.text import one_line, quote


class Commits:
    """The history of the repository that holds the files of some references.

    A commit is checked out in a worktree of its own below `folder`; the user's checkout is never
    touched. Closing removes the worktrees.
    """

    def __init__(self, references: Sequence[str], folder: Path) -> None:
        """Raise `UsageError` for a reference that is no file of one common repository."""
        self._folder = folder
        self._worktrees: list[Path] = []
        self._references = tuple(references)
        roots = {_find_root(_find_file(text)): text for text in references}
        if len(roots) > 1:
            one, other = list(roots.values())[:2]
            raise UsageError(f"--commits: {quote(one)} and {quote(other)} are in two repositories")
        (self.root,) = roots

    def __enter__(self) -> Commits:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for path in self._worktrees:
            _call_git(self.root, "worktree", "remove", "--force", str(path))

    def list_between(self, text: str) -> list[str]:
        """Return the commits of `A..B`, both included, as hashes: those that B's branch got.

        Of a merge the first parent is followed. Raises `UsageError`.
        """
        start, dots, stop = text.partition("..")
        if not (start and dots and stop) or stop.startswith("."):
            raise UsageError(
                f"--commits: expected GOOD..BAD, such as v1.0..HEAD, found {quote(text)}"
            )
        ends = [self._find_commit(name) for name in (start, stop)]
        if ends[0] == ends[1]:
            raise UsageError(f"--commits: {start} and {stop} are the same commit")
        if _call_git(self.root, "merge-base", "--is-ancestor", *ends).returncode:
            raise UsageError(f"--commits: {start} is no ancestor of {stop}")
        listed = _run_git(
            self.root, "rev-list", "--reverse", "--first-parent", f"{ends[0]}..{ends[1]}"
        )
        return [ends[0], *listed.split()]

    def describe(self, commit: str) -> str:
        """Return a short hash with the date and the subject of a commit."""
        text = _run_git(self.root, "log", "-1", "--format=%h (%cs, %s)", commit)
        return one_line(text.strip(), longest=120)

    def check_out(self, commit: str) -> tuple[str, ...]:
        """Return the references with their files as they were in a commit. Raises `UsageError`."""
        path = self._folder / commit[:12]
        if not path.exists():
            # No hook of the repository is run.
            options = ("-c", f"core.hooksPath={os.devnull}")
            words = ("worktree", "add", "--quiet", "--detach", str(path), commit)
            _run_git(self.root, *words, options=options)
            self._worktrees.append(path)
        return tuple(self._move(text, path) for text in self._references)

    def _move(self, text: str, worktree: Path) -> str:
        """Return a reference whose file is that of the worktree."""
        name, reference = split_name(text)
        parsed = parse_reference(reference)
        moved = worktree / Path(parsed.target).resolve().relative_to(self.root)
        if not moved.exists():
            raise UsageError(f"{parsed.target}: not in this commit")
        prefix = f"{name}=" if name else ""
        return f"{prefix}{moved}{reference.removeprefix(parsed.target)}"

    def _find_commit(self, name: str) -> str:
        done = _call_git(
            self.root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
        )
        if done.returncode:
            raise UsageError(f"--commits: {self.root} has no commit {quote(name)}")
        return done.stdout.strip()


def _find_file(text: str) -> Path:
    """Return the file of a reference. Raises `UsageError` for one that is no file."""
    reference = parse_reference(split_name(text)[1])
    if reference.form not in (SCRIPT, FILE):
        raise UsageError(
            f"--commits: {quote(text)} is no file of a repository; name it path/to/net.py:build"
        )
    return Path(reference.target).resolve()


def _find_root(path: Path) -> Path:
    done = _call_git(path.parent, "rev-parse", "--show-toplevel")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise UsageError(f"--commits: {path}: not in a git repository: {lines[0]}")
    return Path(done.stdout.rstrip("\n")).resolve()


def _call_git(
    folder: Path, *words: str, options: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run git in a folder. Raises `UsageError` if it cannot be run."""
    command = ["git", "-C", str(folder), *options, *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise UsageError(f"git cannot be run: {error.strerror}") from error


def _run_git(folder: Path, *words: str, options: Sequence[str] = ()) -> str:
    """Return what git prints. Raises `UsageError` if it fails."""
    done = _call_git(folder, *words, options=options)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise UsageError(f"{folder}: git {words[0]}: {lines[-1]}")
    return done.stdout
