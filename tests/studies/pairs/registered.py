"""`python -m tests.studies.pairs.registered`: every registered model, paired without its table.

Each PyTorch twin against itself without names and in another order, which is the truth by
construction; and each Keras twin against its PyTorch twin, of which the truth is the layer table of
the registered architecture. Prints a Markdown table; exits with 1 for a wrong pair or verdict.
`--only` selects by name.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from parity.comparison.graphs.request import GraphRequest
from parity.comparison.graphs.state import GraphState
from parity.errors import ParityError
from parity.network import architectures
from parity.processes.children import Children
from parity.report.model import Report
from tests.studies.pairs.__main__ import layer_of_variable
from tests.studies.pairs.own.networks import align_scrubbed, compare_with_equal_weights

FOLDER = Path(__file__).parent

DIFFERENT = frozenset(
    {
        "resnext50_32x4d@keras-bound-groups",
        "resnext50_32x4d@keras-dense-groups",
        "resnext50_32x4d@keras-lambda-groups",
    }
)
"""Variants whose Keras side is another function than their PyTorch side, as they were published."""


@dataclass(frozen=True)
class RegisteredCount:
    """One pair of models: the weighted layers that have a partner, and how they were paired."""

    layers: int
    paired: int
    wrong: tuple[str, ...]
    operations: int
    """All operations of the reference that are compared."""
    unpaired: int
    """Those without a partner."""


class NotMade(Exception):
    """A model cannot be written without its names."""


def count_pairs(state: GraphState, truth: Mapping[str, str], separator: str) -> RegisteredCount:
    """Count the pairs of a state; `truth` has the other's module by the reference's layer."""
    ((name, alignment),) = state.alignments.items()
    right, wrong = set[str](), []
    for weights in alignment.weights:
        layer = _layer(weights.reference, separator)
        other = weights.other.rpartition(".")[0]
        if truth.get(layer) == other:
            right.add(layer)
        else:
            wrong.append(f"{weights.reference} → {weights.other}")
    weighted = {_layer(each.name, separator) for each in state.reference.graph.parameters}
    scrubbed = align_scrubbed(state.reference.graph, state.models[name].graph)
    first = [(pair.reference, pair.other) for pair in alignment.pairs]
    if [(pair.reference, pair.other) for pair in scrubbed.pairs] != first:
        wrong.append("other pairs without names")
    return RegisteredCount(
        len(weighted & truth.keys()),
        len(right),
        tuple(wrong),
        len(state.reference.graph.nodes),
        len(alignment.unpaired_reference),
    )


def _layer(name: str, separator: str) -> str:
    return layer_of_variable(name) if separator == "/" else name.rpartition(".")[0]


def compare_scrubbed(name: str, children: Children) -> tuple[GraphState, Report, RegisteredCount]:
    """Compare a PyTorch twin with itself, without names and in another order."""
    from tests.studies.pairs import registered_torch

    try:
        truth = registered_torch.map_names(name)
    except Exception as error:
        # torch.fx cannot rewrite a model that iterates over what it computes.
        raise NotMade(str(error)) from error
    file = FOLDER / "registered_torch.py"
    request = GraphRequest((f"{file}:twin,{name}", f"{file}:scrubbed,{name}"), export=False)
    state, report = compare_with_equal_weights(request, children)
    return state, report, count_pairs(state, truth, ".")


def compare_twins(name: str, children: Children) -> tuple[GraphState, Report, RegisteredCount]:
    """Compare a Keras twin with its PyTorch twin."""
    request = GraphRequest(
        (
            f"{FOLDER / 'registered_keras.py'}:twin,{name}",
            f"{FOLDER / 'registered_torch.py'}:twin,{name}",
        ),
        export=False,
    )
    state, report = compare_with_equal_weights(request, children)
    table = architectures.get(name).table()
    truth = {
        row.keras: row.torch.partition("#")[0]
        for row in table.rows
        if row.keras and row.torch and row.weights
    }
    return state, report, count_pairs(state, truth, "/")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.studies.pairs.registered", description=__doc__
    )
    parser.add_argument("--only", help="names of models, separated by commas")
    options = parser.parse_args()
    names = [*architectures.names(), *architectures.variants()]
    if options.only is not None:
        names = options.only.split(",")
    columns = ("model", "against", "layers with a partner", "paired", "wrong",
               "operations without a partner", "verdict", "s")  # fmt: skip
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    is_right = True
    for name in dict.fromkeys(names):
        for against, compare in (
            ("itself without names", compare_scrubbed),
            ("its Keras twin", compare_twins),
        ):
            started = time.perf_counter()
            try:
                # Large models do not stay in memory, and a child that was killed is no later one's.
                with Children() as children:
                    _, report, count = compare(name, children)
            except NotMade as error:
                print(f"| {name} | {against} | not made: {error!r:.80} | | | | | |", flush=True)
                continue
            except ParityError as error:
                print(f"| {name} | {against} | failed: {error} | | | | | |", flush=True)
                is_right = False
                continue
            wanted = name not in DIFFERENT or compare is compare_scrubbed
            fits = report.ok is wanted and not count.wrong and count.paired == count.layers
            is_right = is_right and fits
            seconds = time.perf_counter() - started
            print(
                f"| {name} | {against} | {count.layers} | {count.paired} | {len(count.wrong)} "
                f"| {count.unpaired} of {count.operations} | {report.verdict} "
                f"| {seconds:.1f} |",
                flush=True,
            )
            for line in count.wrong[:5]:
                print(f"{name}: wrong: {line}", file=sys.stderr, flush=True)
            if not fits:
                print(f"{name}: {report}", file=sys.stderr, flush=True)
    return int(not is_right)


if __name__ == "__main__":
    sys.exit(main())
