"""Commands that are killed at random moments: nothing runs on, nothing is half-written."""

from __future__ import annotations

import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from parity import temporary
from parity.network import architectures, weights
from tests.end_to_end import harness

SMALL = ("--classes", "10", "--image-size", "32")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
VICTIMS = ("parent", "child", "group")
OLD = b"the file as it was before"
TOGETHER = 3
"""Commands at work at once: most of the time one waits for imports."""

# Each writes into the folder `out`; {folder} holds `weights.safetensors`.
COMMANDS = {
    "compare": (
        "compare",
        "resnet18",
        *SMALL,
        "--subjects",
        "torch",
        "--json",
        "{out}/result.json",
    ),
    "capture": ("capture", "resnet18", *SMALL, "--subjects", "torch", "--out", "{out}"),
    "convert": (
        *("convert", "resnet18", *SMALL, "--weights", "{folder}/weights.safetensors"),
        "{out}/result.pth",
    ),
    "convert to keras": (
        *("convert", "resnet18", *SMALL, "--weights", "{folder}/weights.safetensors"),
        "{out}/result.weights.h5",
    ),
    "export": ("export", "resnet18", *SMALL, "--from", "torch", "--onnx", "{out}/result.onnx"),
    "train": (
        *("train", "resnet18", "--image-size", "32", "--learning-rate", "0.01", "--epochs", "1"),
        *("--framework", "torch", "--batch", "256", "--threads", "1", "--out", "{out}/run"),
    ),
}


@dataclass(frozen=True)
class Kill:
    """One command, whom a signal reaches, and when."""

    command: str
    victim: str
    number: signal.Signals
    after: float

    def __str__(self) -> str:
        return f"{self.command}, {self.number.name} to the {self.victim} after {self.after:.2f} s"


def main(count: int, seed: int) -> int:
    """Kill `count` commands, print a Markdown table, and return 1 if anything was left."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name)
        spec = architectures.get("resnet18", classes=10, image_size=(32, 32))
        weights.save(folder / "weights.safetensors", weights.init(spec, seed=0))
        seconds = {command: _measure(command, folder) for command in COMMANDS}
        kills = [_draw(seconds, chance) for _ in range(count)]
        with ThreadPoolExecutor(TOGETHER) as pool:
            faults = list(pool.map(lambda item: _run(item[1], folder, item[0]), enumerate(kills)))
    for kill, found in zip(kills, faults, strict=True):
        if found:
            print(f"{kill}: {'; '.join(found)}", file=sys.stderr)
    print("| command | kills | clean |\n|---|---:|---:|")
    totals = Counter(kill.command for kill in kills)
    clean = Counter(k.command for k, found in zip(kills, faults, strict=True) if not found)
    for command, total in totals.items():
        print(f"| {command} | {total} | {clean[command]} |")
    print(f"| all | {sum(totals.values())} | {sum(clean.values())} |")
    return 0 if sum(clean.values()) == count else 1


def _draw(seconds: dict[str, float], chance: random.Random) -> Kill:
    command = chance.choice(list(COMMANDS))
    # Some in the first 0.3 s, while Python itself starts.
    latest = 0.3 if chance.random() < 0.15 else seconds[command]
    return Kill(command, chance.choice(VICTIMS), chance.choice(SIGNALS), chance.uniform(0, latest))


def _start(command: str, folder: Path, place: Path) -> harness.Running:
    out = place / "out"
    out.mkdir(parents=True, exist_ok=True)
    words = [word.format(out=out, folder=folder) for word in COMMANDS[command]]
    return harness.start(place / "tmp", *words, env={"PARITY_CACHE": str(folder / "cache")})


def _measure(command: str, folder: Path) -> float:
    """Return the seconds of a run that nobody kills; it also fills the cache."""
    done = _start(command, folder, folder / "first").finish()
    if done.code:
        raise RuntimeError(f"{command}: {done.err}")
    shutil.rmtree(folder / "first")
    return done.seconds * TOGETHER


def _run(kill: Kill, folder: Path, index: int) -> list[str]:
    """Return what was wrong after one kill and after the run that follows."""
    place = folder / f"kill-{index}"
    out = place / "out"
    out.mkdir(parents=True)
    target = next((Path(w).name for w in COMMANDS[kill.command] if "/result." in w), None)
    if target is not None:
        (out / target).write_bytes(OLD)
    running = _start(kill.command, folder, place)
    time.sleep(kill.after)
    _send(kill, running)
    done = running.finish()
    faults = []
    if done.running:
        faults.append(f"{len(done.running)} processes were left")
    is_traceback = "Traceback" in done.err or "Exception ignored" in done.err
    # Before the first line of the command's own program, Python itself is what was interrupted.
    if is_traceback and ('"<string>"' in done.err or "/parity/" in done.err):
        faults.append(f"a traceback: {done.err.splitlines()[-1]}")
    # Where there was no child yet, the parent had the signal. What it leaves the next run removes.
    was_killed = done.code == -signal.SIGKILL
    if target is not None and done.code != 0 and (out / target).read_bytes() != OLD:
        # A kill after the last rename finds the new file, whole.
        faults += _find_damage(out / target)
    strange = [p.name for p in _files(out) if _is_leftover(p) and not was_killed]
    if strange:
        faults.append(f"left {strange[:3]}")
    if done.left and not was_killed:
        faults.append(f"left {done.left[:3]}")
    faults += _check_next_run(folder, place)
    shutil.rmtree(place, ignore_errors=True)
    return faults


def _send(kill: Kill, running: harness.Running) -> None:
    if running.process.poll() is not None:
        return
    if kill.victim == "child":
        children = sorted(running.children().values())
        if children:
            import contextlib
            import os

            with contextlib.suppress(ProcessLookupError):
                os.kill(children[0], kill.number)
            # A child ignores Ctrl-C, and the parent may finish.
            return
    running.signal(kill.number, group=kill.victim == "group")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() or path.is_dir()]


def _is_leftover(path: Path) -> bool:
    # A training run that is resumed removes what its writer left; it lies in the run's own folder.
    return temporary.is_temporary(path.name) or path.name.startswith(".")


def _find_damage(path: Path) -> list[str]:
    """Return what is wrong with a new file that replaced the old one before the kill came."""
    if path.stat().st_size == 0:
        return [f"{path.name} is empty"]
    if path.suffix == ".json":
        import json

        try:
            json.loads(path.read_text())
        except ValueError:
            return [f"{path.name} is half-written"]
    return []


def _check_next_run(folder: Path, place: Path) -> list[str]:
    """Run a command that writes to the same folders; it must succeed and clean up."""
    command = (
        *("convert", "resnet18", *SMALL, "--weights", str(folder / "weights.safetensors")),
        str(place / "out" / "next.safetensors"),
    )
    env = {"PARITY_CACHE": str(folder / "cache")}
    done = harness.start(place / "tmp", *command, env=env).finish()
    faults = []
    if done.code:
        faults.append(f"the next run ended with {done.code}: {done.err.strip()[:200]}")
    left = [path.name for path in (place / "tmp").iterdir()]
    left += [path.name for path in (place / "out").iterdir() if temporary.is_temporary(path.name)]
    if left:
        faults.append(f"the next run left {left[:3]}")
    return faults
