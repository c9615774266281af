"""`python -m tests.studies.training_mutants`: faults of training steps, and their causes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from tests.studies.training_mutants.bench import Bench
from tests.studies.training_mutants.counting import (
    Clean,
    Outcome,
    list_clean_tasks,
    run_clean,
    run_mutants,
)
from tests.studies.training_mutants.faults import list_faults


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", default="mlp,cnn,resnet18", help="of the mutants")
    parser.add_argument("--faults", default="", help="only those whose name has this text")
    parser.add_argument("--seed", type=int, default=0, help="of the mutants' weights and order")
    parser.add_argument("--seeds", type=int, default=12, help="correct trainings of each kind")
    parser.add_argument("--no-resnet", action="store_true", help="leave out resnet18")
    parser.add_argument("--precision", default="float32", help="of the correct trainings")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    bench, started = Bench(), time.monotonic()
    faults = [fault for fault in list_faults() if arguments.faults in fault.name]
    outcomes = []
    for outcome in run_mutants(
        bench, faults, models=frozenset(arguments.models.split(",")), seed=arguments.seed
    ):
        outcomes.append(outcome)
        if not outcome.named or not outcome.located:
            print(f"{outcome.label}: step {outcome.step}, {outcome.kind} {outcome.tensor}, causes "
                  f"{outcome.causes}, expected {outcome.fault.cause} {outcome.problem}",
                  flush=True)  # fmt: skip
    print_table(outcomes)
    clean = []
    tasks = list_clean_tasks(
        arguments.seeds, resnet=not arguments.no_resnet, precision=arguments.precision
    )
    for each in run_clean(bench, tasks):
        clean.append(each)
        if each.alarm:
            print(each.alarm, flush=True)
    print_clean(clean)
    print(f"{time.monotonic() - started:.0f} s")


def print_table(outcomes: Sequence[Outcome]) -> None:
    """Print a line for each fault, and the sums."""
    by_name: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_name.setdefault(outcome.fault.name, []).append(outcome)
    print("| fault | mutants | detected | located | named | wrongly named |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, group in (*by_name.items(), ("all", outcomes)):
        counts = [
            sum(getattr(outcome, what) for outcome in group)
            for what in ("detected", "located", "named", "wrongly_named")
        ]
        print(f"| {name} | {len(group)} | {' | '.join(map(str, counts))} |", flush=True)
    causes = {outcome.fault.cause for outcome in outcomes}
    print(f"\n{len(by_name)} kinds of faults, {len(causes)} causes")


def print_clean(clean: Sequence[Clean]) -> None:
    alarms = sum(bool(each.alarm) for each in clean)
    steps = sum(each.steps for each in clean)
    choices = sum(each.choices for each in clean)
    print(f"\n{len(clean)} correct trainings, {steps} steps: {alarms} alarms; {choices} steps with "
          "a unit at a kink or tie", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
