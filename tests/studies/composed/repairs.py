"""`python -m tests.studies.composed.repairs`: how many composed faults `parity fix` repairs.

Each fault is put into the source of a network; its original is the reference. A repair is counted
as true if the patched source then computes the original's outputs on inputs of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from parity.commands.fix import fix_models
from parity.comparison.graphs.request import GraphRequest
from parity.errors import ParityError
from tests.studies.composed import counting
from tests.studies.composed.faults import Fault, plan_faults
from tests.studies.composed.networks import Network


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=30, help="the number of faults")
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    built = counting.build_networks(options.networks, options.seed)
    originals = {(each.family, each.seed): each for each in built}
    counts: dict[str, list[int]] = {}
    false = 0
    for fault in plan_faults(built, options.count, options.seed):
        original = originals[fault.network.family, fault.network.seed]
        state, text = repair(original, fault)
        cells = counts.setdefault(fault.kind, [0, 0, 0])
        cells[0] += 1
        cells[1] += state == "repaired"
        cells[2] += state == "no difference"
        false += state == "false"
        if state not in ("repaired", "no difference"):
            print(f"{original.family} {original.seed}:{fault.index} {fault.kind}: {state}: {text}",
                  file=sys.stderr, flush=True)  # fmt: skip
    print("| fault | faults | no difference | repaired and accepted |\n|---|---:|---:|---:|")
    for name, cells in sorted(counts.items()):
        print(f"| {name} | {cells[0]} | {cells[2]} | {cells[1]} |")
    total = [sum(cells[i] for cells in counts.values()) for i in range(3)]
    print(f"| all | {total[0]} | {total[2]} | {total[1]} |\n\naccepted and not true: {false}")
    return int(false > 0)


def repair(original: Network, fault: Fault) -> tuple[str, str]:
    """Return what became of one fault: repaired, no difference, not repaired, false; and why."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        right, wrong = folder / "right.py", folder / "wrong.py"
        right.write_text(original.render(), encoding="utf-8")
        wrong.write_text(fault.network.render(), encoding="utf-8")
        request = GraphRequest((f"right={right}:net", f"wrong={wrong}:net"), export=False)
        try:
            result = fix_models(request, folder / "out", every=True)
        except ParityError as error:
            return "failed", str(error)
        if not result.accepted:
            return "not repaired", "; ".join((result.remaining, *result.by_hand))
        if not result.files:
            return "no difference", ""
        weights = [path for path in result.files if path.suffix != ".patch"]
        for path in result.files:
            if path.suffix == ".patch":
                command = ["git", "apply", str(path)]
                subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return ("repaired" if _agree(right, wrong, weights) else "false"), ""


def _agree(right: Path, wrong: Path, weights: list[Path]) -> bool:
    """Return whether two files' networks give the same in float64 on inputs of their own."""
    models = []
    for path in (right, wrong):
        scope: dict[str, object] = {}
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), scope)
        model, example = scope["net"]()  # type: ignore[operator]
        models.append(model)
    for path in weights:
        models[1].load_state_dict(torch.load(path, weights_only=True))
    if example.is_floating_point():
        example = torch.randn(example.shape, generator=torch.Generator().manual_seed(77)).double()
    with torch.no_grad():
        first, second = (model.eval().double()(example) for model in models)
    return bool(torch.allclose(first, second, rtol=1e-9, atol=1e-10))


if __name__ == "__main__":
    sys.exit(main())
