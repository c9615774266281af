"""`python -m tests.studies.reduced`: how many layers `parity reduce` leaves of a composed fault.

Each fault is put into the source of a network; its original is the reference. With `--onnx` the
network with the fault is an ONNX file. A part is counted as true if it has the operation at fault
in it, or the one behind. Exits with 1 if fewer than 90% of the differing faults are left with at
most three layers.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parity.commands.reduce import reduce_models
from parity.comparison.graphs.request import GraphRequest
from parity.errors import ParityError
from parity.processes.children import Children
from tests.studies.composed import counting
from tests.studies.composed.faults import Fault, plan_faults
from tests.studies.composed.networks import Network

FEW = 3
ENOUGH = 0.9


@dataclass(frozen=True)
class Count:
    """What became of one fault; `layers` is 0 where no file was written, and `text` says why.

    `operations` are those of the model that has more.
    """

    kind: str
    differs: bool
    layers: int
    operations: int
    is_true: bool
    bytes: int
    text: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="the number of faults")
    parser.add_argument("--networks", type=int, default=36)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--onnx", action="store_true", help="the faulty network is an ONNX file")
    options = parser.parse_args()
    started = time.perf_counter()
    counts = run(options.count, options.networks, options.seed, onnx=options.onnx)
    print(format_table(counts))
    print(f"\n{time.perf_counter() - started:.0f} s")
    differing = [each for each in counts if each.differs]
    few = sum(0 < each.layers <= FEW for each in differing)
    return int(few < ENOUGH * len(differing))


def run(count: int, networks: int, seed: int, *, onnx: bool = False) -> list[Count]:
    """Reduce faults, and print those that are not left with a few layers."""
    built = counting.build_networks(networks, seed)
    originals = {(each.family, each.seed): each for each in built}
    found = []
    with Children() as children:
        for fault in plan_faults(built, count, seed):
            network = fault.network
            result = count_fault(children, originals[network.family, network.seed], fault, onnx)
            found.append(result)
            if result.differs and not (0 < result.layers <= FEW and result.is_true):
                print(
                    f"{network.family} {network.seed}:{fault.index} {fault.kind}: "
                    f"{result.layers} layers, true {result.is_true}: {result.text}",
                    file=sys.stderr,
                    flush=True,
                )
    return found


def count_fault(children: Children, original: Network, fault: Fault, onnx: bool = False) -> Count:
    """Reduce one fault, and judge the part by what it has in it."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        right, wrong = folder / "right.py", folder / "wrong.py"
        right.write_text(original.render(), encoding="utf-8")
        wrong.write_text(fault.network.render(), encoding="utf-8")
        other = f"{wrong}:net"
        if onnx:
            other = str(_export(wrong, folder / "wrong.onnx"))
        request = GraphRequest((f"right={right}:net", f"wrong={other}"), export=False, device="cpu")
        out = folder / "bug.py"
        try:
            reduced = reduce_models(request, out, children=children)
        except ParityError as error:
            return Count(fault.kind, True, 0, 0, False, 0, str(error))
        if reduced.path is None:
            return Count(fault.kind, not reduced.report.ok, 0, 0, False, 0, reduced.reason)
        sides = list((reduced.operations or {}).values())
        labels = [each for side in sides for each in side]
        operations = max(map(len, sides))
        size = sum(each.stat().st_size for each in folder.glob("bug.*"))
        is_true = any(_is_place(each, fault) for each in labels)
        return Count(fault.kind, True, reduced.layers, operations, is_true, size, "; ".join(labels))


def format_table(counts: Sequence[Count]) -> str:
    """Return the counts by kind as a table."""
    lines = [
        "| fault | faults | no difference | 1 layer | 2 | 3 | more | no file | without the fault |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in [*sorted({each.kind for each in counts}), "all"]:
        group = [each for each in counts if name in ("all", each.kind)]
        differing = [each for each in group if each.differs]
        sizes = [each.layers for each in differing]
        cells = [
            len(group),
            len(group) - len(differing),
            *(sizes.count(n) for n in range(1, FEW + 1)),
            sum(n > FEW for n in sizes),
            sizes.count(0),
            sum(each.layers > 0 and not each.is_true for each in differing),
        ]
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    written = [each.bytes for each in counts if each.layers]
    if written:
        few = sum(0 < each.operations <= FEW for each in counts)
        lines += [
            "",
            f"{few} with at most {FEW} operations; files of {min(written)} to {max(written)} bytes",
        ]
    return "\n".join(lines)


def _is_place(label: str, fault: Fault) -> bool:
    """Return whether an operation is the one at fault: its layer, its line, or the line behind."""
    if fault.layer and fault.layer in re.split(r"[^A-Za-z0-9_]", label):
        return True
    line = re.search(r"(?:right|wrong)\.py:(\d+)\)", label)
    wanted = fault.network.line_of(fault.index)
    return line is not None and int(line[1]) in (wanted, wanted + 1)


def _export(source: Path, target: Path) -> Path:
    from exporters import torch_onnx

    scope: dict[str, object] = {}
    exec(compile(source.read_text(encoding="utf-8"), str(source), "exec"), scope)
    model, example = scope["net"]()  # type: ignore[operator]
    torch_onnx.export(model.eval(), (example,), target)
    return target


if __name__ == "__main__":
    sys.exit(main())
