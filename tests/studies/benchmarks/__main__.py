"""Every promise about speed and memory, measured in one run, as one Markdown table.

    python -m tests.studies.benchmarks [--model resnext50_32x4d] [--runs 3] [--quick]

The variants take turns, so that a machine that slows down slows all of them; each figure is the
median of its runs.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.studies.benchmarks import bare, compare, explain, exporters, memory


@dataclass(frozen=True)
class Line:
    """One promise: what was measured, what it is measured against, and how far it may go."""

    what: str
    value: float
    unit: str
    against: str
    ratio: float | None
    limit: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        compared = self.value if self.ratio is None else self.ratio
        return compared >= self.limit if self.at_least else compared <= self.limit

    def cells(self) -> list[str]:
        sign = "≥" if self.at_least else "≤"
        if self.ratio is None:
            ratio, limit = "", f"{sign} {self.limit:g} {self.unit}"
        else:
            ratio, limit = f"{self.ratio:.2f}×", f"{sign} {self.limit:g}×"
        digits = 0 if self.unit == "MB" else 2
        figure = f"{self.value:.{digits}f} {self.unit}"
        return [self.what, figure, self.against, ratio, limit, "yes" if self.holds else "**no**"]


def measure_comparisons(name: str, runs: int, say: Callable[[str], None]) -> Iterator[Line]:
    """`parity compare` against the bare frameworks."""
    names = ("bare", "cold", "warm", "isolate", "semantics")
    times: dict[str, list[float]] = {label: [] for label in names}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file = bare.prepare(name, folder)
        # Not measured: the first to import a framework reads it from the disk for all the others.
        say("warming up")
        bare.time_runtimes(name, file)
        for number in range(runs):
            say(f"compare, run {number + 1} of {runs}")
            cache = folder / f"cache{number}"
            times["bare"].append(sum(bare.time_runtimes(name, file).values()))
            times["cold"].append(compare.time_command(cache, "compare", name))
            times["warm"].append(compare.time_command(cache, "compare", name))
            for extra in ("isolate", "semantics"):
                times[extra].append(compare.time_command(cache, "compare", name, f"--{extra}"))
        median = {label: statistics.median(seconds) for label, seconds in times.items()}
        against = f"three frameworks, bare: {median['bare']:.2f} s"
        for label, words, limit in (
            ("cold", "nothing cached, both exports included", 1.6),
            ("warm", "a second time", 0.9),
        ):
            yield Line(
                f"`parity compare {name}`, {words}",
                median[label],
                "s",
                against,
                median[label] / median["bare"],
                limit,
            )
        for extra, limit in (("isolate", 1.5), ("semantics", 1.3)):
            yield Line(
                f"`parity compare {name} --{extra}`, a second time",
                median[extra],
                "s",
                f"the same without: {median['warm']:.2f} s",
                median[extra] / median["warm"],
                limit,
            )
        say("every layer, and PyTorch's own verification")
        ours = compare.time_command(folder / "cache0", "compare", name, "--depth", "layer")
        theirs = compare.time_verification(name)
        yield Line(
            "`--depth layer`, four subjects",
            ours,
            "s",
            f"`verify_onnx_program(compare_intermediates=True)`, two: {theirs:.1f} s",
            theirs / ours,
            10.0,
            at_least=True,
        )
        say("memory")
        options = ("--batch", "16", "--depth", "layer")
        peak = memory.measure_peak(folder / "cache0", "compare", name, *options)
        what = "peak memory of the parent, batch 16, `--depth layer`"
        yield Line(what, peak / 1e6, "MB", "", None, 500.0)


def measure_exports(name: str, runs: int, say: Callable[[str], None]) -> Iterator[Line]:
    """The exporters against the frameworks' own ways; `exporters.py` measures."""
    words = {
        "keras-export": "Keras to ONNX, verified",
        "keras-cached": "Keras to ONNX, structure cached, verified",
        "torch-export": "PyTorch to ONNX, verified",
        "torch-cached": "PyTorch to ONNX, structure cached, verified",
    }
    against = {
        "keras": "`tf2onnx.convert.from_keras`",
        "torch": "`torch.onnx.export(dynamo=True)` and `save`",
    }
    times: dict[str, list[float]] = {variant: [] for variant in exporters.VARIANTS}
    with tempfile.TemporaryDirectory() as scratch:
        for side in against:
            exporters.run(f"{side}-structure", name, Path(scratch))
        for number in range(runs):
            for variant in exporters.VARIANTS:
                say(f"{variant}, run {number + 1} of {runs}")
                figures = exporters.run(variant, name, Path(scratch))
                times[variant].append(figures["seconds"])
    median = {variant: statistics.median(seconds) for variant, seconds in times.items()}
    for variant, what in words.items():
        side = variant.partition("-")[0]
        base = median[f"{side}-baseline"]
        yield Line(
            what,
            median[variant],
            "s",
            f"{against[side]}: {base:.2f} s",
            median[variant] / base,
            exporters.TARGETS[variant],
        )


def measure_explanation(runs: int, say: Callable[[str], None]) -> Line:
    """What naming and proving the cause of one fault adds; the model is always ResNeXt-50."""
    with tempfile.TemporaryDirectory() as cache:
        times = explain.measure(Path(cache), runs, say)
    median = {label: statistics.median(seconds) for label, seconds in times.items()}
    return Line(
        "`--explain` on ResNeXt-50 with one fault",
        median["explain"] - median["no-explain"],
        "s more",
        f"`--no-explain`: {median['no-explain']:.2f} s",
        None,
        explain.LIMIT,
    )


def measure_help() -> Line:
    """`parity --help`, the best of five: nothing of it may depend on a framework."""
    with tempfile.TemporaryDirectory() as cache:
        seconds = min(compare.time_command(Path(cache), "--help") for _ in range(5))
    return Line("`parity --help`", seconds, "s", "", None, 0.3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnext50_32x4d")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one run of a small model, no promise")
    arguments = parser.parse_args()
    name, runs = ("resnet18", 1) if arguments.quick else (arguments.model, arguments.runs)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    groups: list[Callable[[], Iterable[Line]]] = [
        lambda: measure_comparisons(name, runs, say),
        lambda: measure_exports(name, runs, say),
        lambda: [measure_help()],
    ]
    if not arguments.quick:
        groups.append(lambda: [measure_explanation(runs, say)])
    print(f"{name}, 224×224, {os.cpu_count()} cores ({platform.machine()}), median of {runs}:\n")
    print("| what | measured | against | ratio | promised | holds |")
    print("|---|---|---|---|---|---|", flush=True)
    held = [print_lines(group, say) for group in groups]
    return 0 if all(held) else 1


def print_lines(measure: Callable[[], Iterable[Line]], say: Callable[[str], None]) -> bool:
    """Print the rows of a measurement as they come; return whether all are there and hold.

    What fails is told, and costs the rows that were to come from it, not those of the others.
    """
    held = True
    try:
        for line in measure():
            print(f"| {' | '.join(line.cells())} |", flush=True)
            held = held and line.holds
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the others are measured
        say(f"not measured: {error}")
        return False
    return held


if __name__ == "__main__":
    sys.exit(main())
