"""The campaign: each input is given to a command, and how the command ended is judged."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.studies.hostile import inputs
from tests.studies.hostile.case import HostileCase
from tests.studies.hostile.workers import Zygotes

SECONDS = 20.0
"""Of processor time, that of the workers included: what else the machine does must not count."""
HANGS = 120.0
"""Seconds after which a command that has not ended is killed, which is a failure."""
LINES = 3
BYTES = 1500 * 2**20
"""Resident memory above that of the process before the command."""

SHARES = {
    "picture": 0.16, "array": 0.12, "safetensors": 0.06, "torch checkpoint": 0.10,
    "keras checkpoint": 0.09, "capture": 0.12, "case file": 0.08, "table": 0.05, "reference": 0.06,
    "option": 0.04, "special file": 0.06, "environment": 0.02, "module": 0.02, "model file": 0.01,
    "training data": 0.01,
}  # fmt: skip
SMALL_SHARES = ("picture", "array", "safetensors", "capture", "case file", "table", "option")
"""The kinds that need no framework."""

SCRIPT = "import sys; from parity.__main__ import main; sys.exit(main())"

# Escape sequences are control characters; so is everything below a space but the line break.
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
_WORKFLOW = re.compile(r"(?m)^\s*::|##\[")


@dataclass(frozen=True)
class Ending:
    """How a command ended: exit code (negative: a signal), output, seconds, bytes, leftovers."""

    code: int
    out: str
    err: str
    seconds: float
    peak: int
    left: tuple[str, ...]

    def find_faults(self, case: HostileCase) -> list[str]:
        """Return what is wrong with it."""
        faults = []
        if self.code not in case.expected:
            faults.append(f"exit code {self.code}, expected {sorted(case.expected)}")
        if "Traceback" in self.err or "internal error" in self.err:
            faults.append("a traceback, or an internal error")
        if self.code not in (0, 1) and len(self.err.splitlines()) > LINES:
            faults.append(f"{len(self.err.splitlines())} lines")
        if self.code not in (0, 1) and not (self.err + self.out).strip():
            faults.append("no message")
        shown = self.out + self.err
        if "FORCE_COLOR" in case.variables:
            shown = _COLOUR.sub("", shown)
        if _CONTROL.search(shown):
            faults.append("a control character")
        if _WORKFLOW.search(self.out) or (
            _WORKFLOW.search(self.err) and "GITHUB_ACTIONS" not in case.variables
        ):
            faults.append("a command for a CI system")
        if len(self.err) > 8000:
            faults.append(f"{len(self.err)} characters")
        if self.seconds > SECONDS:
            faults.append(f"{self.seconds:.0f} s")
        if self.peak > BYTES:
            faults.append(f"{self.peak >> 20} MiB")
        if self.left:
            faults.append(f"left {', '.join(self.left)[:200]}")
        return faults


def draw_cases(
    count: int, seed: int, samples: dict[str, bytes], kinds: tuple[str, ...]
) -> list[HostileCase]:
    """Return about `count` cases of these kinds, in the proportions of `SHARES`."""

    def chance(kind: str) -> random.Random:
        return random.Random(f"{seed} {kind}")

    sources = {
        "picture": inputs.pictures(chance("picture")),
        "array": inputs.arrays(chance("array")),
        "safetensors": inputs.safetensors(chance("safetensors")),
        "torch checkpoint": inputs.torch_checkpoints(chance("torch checkpoint"), samples),
        "keras checkpoint": inputs.keras_checkpoints(chance("keras checkpoint"), samples),
        "capture": inputs.saved_captures(chance("capture")),
        "case file": inputs.case_files(chance("case file")),
        "table": inputs.tables(chance("table")),
        "reference": inputs.references(chance("reference")),
        "option": inputs.options(chance("option")),
        "special file": inputs.special_files(chance("special file")),
        "environment": inputs.environments(chance("environment")),
        "module": inputs.modules(chance("module")),
        "model file": inputs.model_files(chance("model file"), samples),
        "training data": inputs.training_data(chance("training data")),
    }
    total = sum(SHARES[kind] for kind in kinds)
    cases = []
    for kind in kinds:
        number = max(1, round(count * SHARES[kind] / total))
        cases += itertools.islice(sources[kind], number)
    random.Random(seed).shuffle(cases)
    return cases


def make_samples(folder: Path) -> dict[str, bytes]:
    """Return the files that `tests.studies.hostile.samples` writes, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for framework, sample in (("torch", "circle.evil.onnx"), ("keras", "lambda.evil.keras")):
        if (folder / sample).exists():
            continue
        command = [sys.executable, "-m", "tests.studies.hostile.samples", framework, str(folder)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class Bench:
    """Runs cases in scratch folders; `zygotes` stand in for the workers' interpreters."""

    def __init__(self, folder: Path, zygotes: Zygotes | None):
        self._folder = folder
        self._zygotes = zygotes
        self._numbers = itertools.count()
        # Imported before any fork: what the commands import anyway.
        from parity.commands import check, compare, convert, diff  # noqa: F401
        from parity.commands.cli import application
        from parity.network.inputs import sources
        from parity.report import schema  # noqa: F401

        application.build_app()
        sources.modules()

    def run(self, case: HostileCase, *, by_command_line: bool = False) -> Ending:
        """Run a case; in a fork of this process, or as a user does."""
        root = self._folder / f"case-{next(self._numbers)}"
        folder, scratch = root / "work", root / "tmp"
        folder.mkdir(parents=True)
        scratch.mkdir()
        case.write(folder)
        before = _list(folder)
        variables = {
            **os.environ,
            "TMPDIR": str(scratch),
            "PARITY_CACHE": str(root / "cache"),
            "PARITY_TEST_PEAKS": str(root / "peaks"),
            "COLUMNS": "100",
            **case.variables,
        }
        with (root / "out").open("wb") as out, (root / "err").open("wb") as err:
            if by_command_line:
                code, peak, seconds = _run_command(
                    case, folder, variables, out.fileno(), err.fileno()
                )
            else:
                code, peak, seconds = self._run_fork(
                    case, folder, variables, out.fileno(), err.fileno()
                )
        lines = (root / "peaks").read_text().splitlines() if (root / "peaks").exists() else []
        workers = [(int(line.split()[0]) * 1024, float(line.split()[1])) for line in lines]
        left = [*(_list(folder) - before), *_list(scratch)]
        ending = Ending(
            code,
            (root / "out").read_bytes().decode(errors="replace"),
            (root / "err").read_bytes().decode(errors="replace"),
            seconds + sum(used for _, used in workers),
            max([peak, *(size for size, _ in workers)]) - _BASE,
            tuple(name for name in left if not _may_stay(case, name)),
        )
        shutil.rmtree(root, ignore_errors=True)
        return ending

    def _run_fork(
        self, case: HostileCase, folder: Path, variables: dict[str, str], out: int, err: int
    ) -> tuple[int, int, float]:
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                os.setsid()
                null = os.open(os.devnull, os.O_RDONLY)
                for target, source in enumerate((null, out, err)):
                    os.dup2(source, target)
                os.closerange(3, 256)
                os.environ.clear()
                os.environ.update(variables)
                os.chdir(folder)
                _limit(case)
                tempfile.tempdir = None
                code = self._run_main(case.arguments)
            finally:
                os._exit(code)
        return _wait(pid)

    def _run_main(self, arguments: tuple[str, ...]) -> int:
        if self._zygotes is not None:
            self._zygotes.install()
        encoding = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")[0]
        sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        sys.argv = ["parity", *arguments]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            # Some settings of the environment are read, and refused, by the import.
            from parity.commands.cli.main import main

            return main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001 (what a user would see as a traceback)
            import traceback

            traceback.print_exc()
            return 70


_BASE = 400 * 2**20
"""Resident bytes of a process that has imported a framework."""


def _limit(case: HostileCase) -> None:
    for number, soft in case.limits.items():
        resource.setrlimit(number, (soft, resource.getrlimit(number)[1]))


def _encode(word: str) -> bytes:
    """Return an argument as a shell would pass it; a half of a surrogate pair as its own bytes."""
    try:
        return word.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return word.encode("utf-8", "surrogatepass")


def _run_command(
    case: HostileCase, folder: Path, variables: dict[str, str], out: int, err: int
) -> tuple[int, int, float]:
    words = [_encode(word) for word in case.arguments]
    if any(b"\0" in word for word in words) or sum(map(len, words)) > 100_000:
        # The system itself refuses such an argument; a shorter one is passed.
        words = [word.replace(b"\0", b"?")[:90_000] for word in words]
    path = f"{Path(__file__).resolve().parents[3]}"
    variables = {**variables, "PYTHONPATH": path}
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", SCRIPT, *words],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        cwd=folder,
        env=variables,
        # This process has no other thread.
        preexec_fn=lambda: _limit(case),  # noqa: PLW1509
        start_new_session=True,
    )
    return _wait(process.pid)


def _wait(pid: int) -> tuple[int, int, float]:
    """Return exit code, peak resident bytes and processor time; what hangs is killed."""
    deadline = time.monotonic() + HANGS
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            seconds = usage.ru_utime + usage.ru_stime
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024, seconds
        if time.monotonic() > deadline:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
        time.sleep(0.002)


def _list(folder: Path) -> set[str]:
    """Return the names under a folder, relative to it."""
    return {
        os.path.relpath(os.path.join(root, name), folder)
        for root, folders, files in os.walk(folder)
        for name in (*folders, *files)
    }


def _may_stay(case: HostileCase, name: str) -> bool:
    """Return whether a file is what the command was asked to write."""
    if case.variables.get("PARITY_CACHE") in (".", "\x1b[2J") or "TMPDIR" in case.variables:
        return True
    # A run that succeeds writes its output; Python's own caches are the interpreter's.
    return name in ("out.safetensors", "report.json") or "__pycache__" in name


def run(
    cases: list[HostileCase], folder: Path, zygotes: Zygotes | None, command_line: int, seed: int
) -> Iterator[tuple[HostileCase, Ending, bool]]:
    """Yield each case with its ending, and whether it was run by the real command line."""
    chance = random.Random(seed)
    chosen = set(chance.sample(range(len(cases)), min(command_line, len(cases))))
    bench = Bench(folder, zygotes)
    for number, case in enumerate(cases):
        by_command_line = number in chosen
        yield case, bench.run(case, by_command_line=by_command_line), by_command_line


def summarise(results: list[tuple[HostileCase, list[str], bool, Ending]]) -> str:
    """Return a Markdown table of the cases by kind."""
    kinds = Counter(case.kind for case, *_ in results)
    good = Counter(case.kind for case, faults, *_ in results if not faults)
    real = Counter(case.kind for case, _, by_command_line, _ in results if by_command_line)
    slowest: dict[str, float] = {}
    largest: dict[str, int] = {}
    for case, _, _, ending in results:
        slowest[case.kind] = max(slowest.get(case.kind, 0), ending.seconds)
        largest[case.kind] = max(largest.get(case.kind, 0), ending.peak)
    lines = [
        "| kind | inputs | by the command line | handled | slowest | most memory |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for kind, count in kinds.items():
        memory = max(0, largest[kind]) / 1e6
        lines.append(
            f"| {kind} | {count:,} | {real[kind]} | {good[kind]:,} | {slowest[kind]:.1f} s "
            f"| {memory:.0f} MB |"
        )
    total, handled = sum(kinds.values()), sum(good.values())
    lines.append(
        f"| all | {total:,} | {sum(real.values())} | {handled:,} ({handled / total:.1%}) "
        f"| {max(slowest.values()):.1f} s | {max(0, *largest.values()) / 1e6:.0f} MB |"
    )
    return "\n".join(lines)


def to_line(case: HostileCase, faults: list[str], ending: Ending, by_command_line: bool) -> str:
    """Return a failure as a line of JSON."""
    data = {
        "kind": case.kind,
        "name": case.name,
        "arguments": [word[:200] for word in case.arguments],
        "variables": dict(case.variables),
        "faults": faults,
        "command_line": by_command_line,
        "code": ending.code,
        "err": ending.err[-1500:],
        "out": ending.out[-300:],
    }
    return json.dumps(data)
