"""The commits between two of a repository, and worktrees with the user's files of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from parity.commands.git import list_error_lines, start_git
from parity.errors import UsageError
from parity.processes.references import FILE, SCRIPT, parse_reference, split_name
from parity.text import one_line, quote


class CommitWorktrees:
    """Worktrees of commits of the repository that has the files of some references.

    Each commit is checked out in a worktree of its own below `folder`; the user's checkout is never
    changed. `close` removes the worktrees.
    """

    def __init__(self, references: Sequence[str], folder: Path) -> None:
        """Raise `UsageError` if a reference is no file, or the files are in two repositories."""
        self._folder = folder
        self._worktrees: list[Path] = []
        self._references = tuple(references)
        roots = {_find_root(_find_file(reference)): reference for reference in references}
        if len(roots) > 1:
            one, other = list(roots.values())[:2]
            raise UsageError(f"--commits: {quote(one)} and {quote(other)} are in two repositories")
        (self.root,) = roots

    def close(self) -> None:
        """Remove the worktrees."""
        for path in self._worktrees:
            start_git(self.root, "worktree", "remove", "--force", str(path))

    def list_range(self, commit_range: str) -> list[str]:
        """Return the hashes from A to B, both included, oldest first.

        `commit_range` is "A..B". Follows first parents only (`git rev-list --first-parent`). Raises
        `UsageError` for another form, an unknown commit, and an A that is no ancestor of B.
        """
        start, dots, stop = commit_range.partition("..")
        if not (start and dots and stop) or stop.startswith("."):
            raise UsageError(
                f"--commits: expected GOOD..BAD, such as v1.0..HEAD, found {quote(commit_range)}"
            )
        ends = [self._find_commit(name) for name in (start, stop)]
        if ends[0] == ends[1]:
            raise UsageError(f"--commits: {start} and {stop} are the same commit")
        if start_git(self.root, "merge-base", "--is-ancestor", *ends).returncode:
            raise UsageError(f"--commits: {start} is no ancestor of {stop}")
        listed = _read_git_output(
            self.root, "rev-list", "--reverse", "--first-parent", f"{ends[0]}..{ends[1]}"
        )
        return [ends[0], *listed.split()]

    def describe(self, commit: str) -> str:
        """Return a short hash with the date and the subject of a commit."""
        text = _read_git_output(self.root, "log", "-1", "--format=%h (%cs, %s)", commit)
        return one_line(text.strip(), longest=120)

    def check_out(self, commit: str) -> tuple[str, ...]:
        """Return the references with their files as they were in a commit. Raises `UsageError`."""
        path = self._folder / commit[:12]
        if not path.exists():
            # No hook of the repository is run.
            options = ("-c", f"core.hooksPath={os.devnull}")
            words = ("worktree", "add", "--quiet", "--detach", str(path), commit)
            _read_git_output(self.root, *words, options=options)
            self._worktrees.append(path)
        return tuple(self._relocate_reference(each, path) for each in self._references)

    def _relocate_reference(self, reference: str, worktree: Path) -> str:
        """Return a reference to the worktree's copy of its file."""
        name, unnamed = split_name(reference)
        parsed = parse_reference(unnamed)
        moved = worktree / Path(parsed.target).resolve().relative_to(self.root)
        if not moved.exists():
            raise UsageError(f"{parsed.target}: not in this commit")
        prefix = f"{name}=" if name else ""
        return f"{prefix}{moved}{unnamed.removeprefix(parsed.target)}"

    def _find_commit(self, name: str) -> str:
        done = start_git(
            self.root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
        )
        if done.returncode:
            raise UsageError(f"--commits: {self.root} has no commit {quote(name)}")
        return done.stdout.decode(errors="replace").strip()


def _find_file(reference: str) -> Path:
    """Return the file of a reference. Raises `UsageError` if the reference is not a file."""
    parsed = parse_reference(split_name(reference)[1])
    if parsed.form not in (SCRIPT, FILE):
        raise UsageError(
            f"--commits: {quote(reference)} is no file of a repository; "
            "name it path/to/net.py:build"
        )
    return Path(parsed.target).resolve()


def _find_root(path: Path) -> Path:
    done = start_git(path.parent, "rev-parse", "--show-toplevel")
    if done.returncode:
        line = list_error_lines(done)[0]
        raise UsageError(f"--commits: {path}: not in a git repository: {line}")
    return Path(os.fsdecode(done.stdout).rstrip("\n")).resolve()


def _read_git_output(folder: Path, *words: str, options: Sequence[str] = ()) -> str:
    """Return what git prints. Raises `UsageError` if it fails."""
    done = start_git(folder, *words, options=options)
    if done.returncode:
        raise UsageError(f"{folder}: git {words[0]}: {list_error_lines(done)[-1]}")
    return done.stdout.decode(errors="replace")
