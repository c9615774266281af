"""`python -m tests.environments`: check comparisons across virtual environments.

Creates one with Keras only, one with PyTorch only and one with neither, and compares the first two
from the third. Takes some minutes and needs a package index. `--keep DIR` creates them in a folder,
and uses those that an earlier run has left there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SMALL = ("--image-size", "64", "--classes", "10", "--device", "cpu")


class Failure(AssertionError):
    """A check failed."""


def main(arguments: list[str] | None = None) -> int:
    """Run every check; return 0 if none fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.environments", description=__doc__)
    parser.add_argument("--keep", type=Path, help="a folder for the environments")
    keep = parser.parse_args(arguments).keep
    with tempfile.TemporaryDirectory(prefix="parity-environments-") as name:
        folder = Path(name) if keep is None else keep.absolute()
        check_environments(folder)
    return 0


def check_environments(folder: Path) -> None:
    """Create the missing environments, and run every check; raises `Failure`."""
    driver = create_environments(folder)
    python = {"keras": folder / "keras", "torch": folder / "torch"}
    check("the driver has no framework", lambda: _check_no_framework(driver))
    check("Keras and PyTorch in environments of their own", lambda: _check_parity(driver, python))
    check(
        "one runtime in two environments",
        lambda: _check_two_of_one(driver, python["torch"]),
    )
    check("parity.toml names the environments", lambda: _check_config(driver, python, folder))
    check("an interpreter without parity", lambda: _check_without_parity(driver, folder))
    check("an interpreter with another parity", lambda: _check_other_version(driver, folder))
    check("env list", lambda: _check_list(driver, folder))


def create_environments(folder: Path) -> Path:
    """Create the environments; return the Python of the one that has parity alone."""
    folder.mkdir(parents=True, exist_ok=True)
    driver = folder / "driver" / "bin" / "python"
    if not driver.exists():
        venv.create(folder / "driver", with_pip=True)
        _run(str(driver), "-m", "pip", "install", "--quiet", "-e", str(ROOT))
    missing = [name for name in ("keras", "torch") if not (folder / name).exists()]
    if missing:
        done = _run(
            str(driver),
            "-m",
            "parity.commands.cli.main",
            "env",
            "create",
            *missing,
            "--folder",
            str(folder),
        )
        print(done.stdout)
    return driver


def check(title: str, run) -> None:
    """Run one check, and print its title and its seconds."""
    started = time.perf_counter()
    try:
        run()
    except Failure as failure:
        print(f"FAILED  {title}: {failure}")
        raise
    print(f"ok      {title} ({time.perf_counter() - started:.1f} s)", flush=True)


def _check_no_framework(driver: Path) -> None:
    code = (
        "import importlib.util as u; print([n for n in "
        "('keras', 'tensorflow', 'torch', 'onnxruntime', 'onnx') if u.find_spec(n)])"
    )
    require(_run(str(driver), "-c", code).stdout.strip() == "[]", "it has one")


def _check_parity(driver: Path, python: dict[str, Path]) -> None:
    report = _compare(driver, "keras,torch", python)
    require(report["verdict"] == "parity", report["verdict"])
    versions = report["environment"]["versions"]
    require("keras" in versions["keras"] and "torch" in versions["torch"], versions)


def _check_two_of_one(driver: Path, torch: Path) -> None:
    report = _compare(driver, "torch@old,torch@new", {"old": torch, "new": torch})
    require(report["verdict"] == "parity", report["verdict"])
    require(list(report["subjects"]) == ["torch@old", "torch@new"], report["subjects"])
    require({"torch@old", "torch@new"} <= set(report["environment"]["versions"]), "versions")


def _check_config(driver: Path, python: dict[str, Path], folder: Path) -> None:
    lines = [f'{name} = "{path.name}"' for name, path in python.items()]
    (folder / "parity.toml").write_text("[environments]\n" + "\n".join(lines) + "\n")
    report = _compare(driver, "keras,torch", {}, cwd=folder)
    require(report["verdict"] == "parity", report["verdict"])
    (folder / "parity.toml").unlink()


def _check_without_parity(driver: Path, folder: Path) -> None:
    place = folder / "bare"
    if not place.exists():
        venv.create(place, with_pip=False)
    done = _start_failing(driver, "torch", {"torch": place})
    require(done.returncode == 3, f"exit {done.returncode}")
    require("has no parity; install it there" in done.stderr, done.stderr)
    require(len(done.stderr.splitlines()) == 1, done.stderr)


def _check_other_version(driver: Path, folder: Path) -> None:
    place = folder / "other"
    if not place.exists():
        venv.create(place, with_pip=False)
        (site,) = place.glob("lib/python*/site-packages")
        package = site / "parity"
        (package / "processes").mkdir(parents=True)
        (package / "__init__.py").write_text("__version__ = '0.0.1'\n")
        (package / "processes" / "worker.py").write_text(
            "import json, sys\n"
            "for line in sys.stdin:\n"
            "    answer = {'parity': '0.0.1', 'python': '3', 'versions': {}}\n"
            "    print(json.dumps({'id': json.loads(line)['id'], 'result': answer}), flush=True)\n"
        )
        (package / "processes" / "probe.py").write_text('print(\'{"parity": "0.0.1"}\')\n')
    done = _start_failing(driver, "torch", {"torch": place})
    require(done.returncode == 3, f"exit {done.returncode}")
    require("has parity 0.0.1, this is" in done.stderr, done.stderr)
    require(len(done.stderr.splitlines()) == 1, done.stderr)


def _check_list(driver: Path, folder: Path) -> None:
    output = _run(
        str(driver),
        "-m",
        "parity.commands.cli.main",
        "env",
        "list",
        "--json",
        "--folder",
        str(folder),
    ).stdout
    found = {each["name"]: each["versions"] for each in json.loads(output)}
    require(set(found) == {"keras", "torch"}, found)
    require("tensorflow" in found["keras"] and "torch" in found["torch"], found)


def _compare(driver: Path, subjects: str, python: dict[str, Path], cwd: Path | None = None):
    done = _start(driver, subjects, python, cwd)
    require(done.returncode == 0, done.stderr or done.stdout[-2000:])
    return json.loads(done.stdout)


def _start_failing(driver: Path, subjects: str, python: dict[str, Path]):
    return _start(driver, subjects, python, None)


def _start(driver: Path, subjects: str, python: dict[str, Path], cwd: Path | None):
    options = [text for name, path in python.items() for text in ("--python", f"{name}={path}")]
    with tempfile.TemporaryDirectory(prefix="parity-cache-") as cache:
        return subprocess.run(
            [
                str(driver), "-m", "parity.commands.cli.main", "compare", "resnet18", *SMALL,
                "--subjects", subjects, "--json", "-", *options,
            ],
            capture_output=True,
            text=True,
            cwd=cwd or tempfile.gettempdir(),
            env=_clean(PARITY_CACHE=cache),
        )  # fmt: skip


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, env=_clean(), cwd=ROOT.parent)
    require(done.returncode == 0, done.stderr[-2000:])
    return done


def _clean(**more: str) -> dict[str, str]:
    """Return our environment variables without PYTHONPATH, which would add our packages."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**variables, **more}


def require(condition: bool, message: object) -> None:
    """Raise `Failure` with a message unless a condition is true."""
    if not condition:
        raise Failure(str(message))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure:
        sys.exit(1)
