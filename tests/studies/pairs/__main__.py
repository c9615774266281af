"""`python -m tests.studies.pairs`: public models in Keras and PyTorch, paired without a table.

Prints a Markdown table: of the layers with weights that have a partner, how many were paired, and
how many pairs are wrong. The truth is `truths.py`, written by hand. Exits with 1 for a wrong pair.
`--models` selects by the Keras model's name, `--compare` also prints the verdict of the comparison.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from parity.commands.compare_graphs import compare_graphs
from parity.commands.values import no_progress
from parity.comparison.graphs.preparation import Preparation
from parity.comparison.graphs.request import GraphRequest
from parity.comparison.graphs.state import GraphState
from parity.errors import ChildError, ParityError
from parity.processes.children import Children
from tests.studies.pairs.truths import PAIRS, PublicPair, pair_layers


@dataclass(frozen=True)
class PairCount:
    """The weights of one public pair: with a partner by the truth, paired, wrong, wrong but sure.

    `layers` are those with weights that have a partner, `complete` those that are paired, and with
    nothing else.
    """

    name: str
    weights: int
    right: int
    wrong: tuple[str, ...]
    wrong_and_sure: int
    layers: int
    complete: int
    seconds: float


def make_request(pair: PublicPair) -> GraphRequest:
    """Return the request for one public pair, at its own image size."""
    size = pair.size
    keras = f"{pair.keras},input_shape=({size},{size},3)"
    return GraphRequest(references=(keras, pair.torch), export=False)


def count_pair(pair: PublicPair) -> tuple[PairCount, GraphState]:
    """Read and align one public pair; raises `ParityError`."""
    started = time.perf_counter()
    request = make_request(pair)
    with Children() as children, tempfile.TemporaryDirectory() as folder:
        state = Preparation(request, children, Path(folder), no_progress).run()
    seconds = time.perf_counter() - started
    for name, failure in state.failures.items():
        raise ChildError(f"{name}: {failure}")
    return count_weights(pair, state, seconds), state


def count_weights(pair: PublicPair, state: GraphState, seconds: float) -> PairCount:
    """Count the alignment of a state against the truth."""
    (alignment,) = state.alignments.values()
    (other,) = (model for name, model in state.models.items() if name in state.alignments)
    layers = dict.fromkeys(layer_of_variable(p.name) for p in state.reference.graph.parameters)
    modules = dict.fromkeys(p.name.rpartition(".")[0] for p in other.graph.parameters)
    truth = pair_layers(pair, list(layers), list(modules))
    right, wrong, sure = set[str](), [], 0
    wrong_layers = set[str]()
    for nodes in alignment.pairs:
        for weights in nodes.weights:
            layer = layer_of_variable(weights.reference)
            module = weights.other.rpartition(".")[0]
            if module in truth.get(layer, ()):
                right.add(weights.reference)
            else:
                wrong.append(f"{weights.reference} → {weights.other}")
                wrong_layers.add(layer)
                sure += nodes.confidence.value == "sure"
    expected = [
        p.name for p in state.reference.graph.parameters if layer_of_variable(p.name) in truth
    ]
    # A bias that one side does not have leaves its layer paired.
    complete = {layer_of_variable(name) for name in right} - wrong_layers
    return PairCount(
        f"{pair.keras} {pair.torch}",
        len(expected),
        len(right),
        tuple(wrong),
        sure,
        len(truth),
        len(complete),
        seconds,
    )


def layer_of_variable(path: str) -> str:
    """Return the layer's name in a Keras variable's path, `resnet50/conv1_conv/kernel`."""
    parts = path.split("/")
    return parts[-2] if len(parts) > 1 else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.studies.pairs", description=__doc__)
    parser.add_argument("--models", help="names of keras.applications, separated by commas")
    parser.add_argument("--compare", action="store_true", help="also compare each pair")
    options = parser.parse_args()
    chosen = [
        pair
        for pair in PAIRS
        if options.models is None or pair.keras.partition(":")[2] in options.models.split(",")
    ]
    verdicts: dict[str, str] = {}
    counts = []
    print("| pair | layers with a partner | paired | wrong pairs of weights | wrong but sure | s |")
    print("|---|---|---|---|---|---|")
    failed = False
    for pair in chosen:
        try:
            count, _ = count_pair(pair)
        except ParityError as error:
            print(f"| {pair.keras} {pair.torch} | failed: {error} | | | | |", flush=True)
            failed = True
            continue
        counts.append(count)
        print(
            f"| {count.name} | {count.layers} | {count.complete} | {len(count.wrong)} of "
            f"{count.weights} | {count.wrong_and_sure} | {count.seconds:.1f} |",
            flush=True,
        )
        for line in count.wrong[:5]:
            print(f"wrong: {line}", file=sys.stderr)
        if options.compare:
            verdicts[count.name] = _compare(pair)
    print_total(counts, verdicts)
    return int(failed or any(count.wrong for count in counts))


def print_total(counts: list[PairCount], verdicts: Mapping[str, str]) -> None:
    """Print the sums of the table, and the verdicts."""
    layers, complete = sum(c.layers for c in counts), sum(c.complete for c in counts)
    wrong, sure = sum(len(c.wrong) for c in counts), sum(c.wrong_and_sure for c in counts)
    weights = sum(c.weights for c in counts)
    print(f"| all {len(counts)} | {layers} | {complete} | {wrong} of {weights} | {sure} | |")
    for name, text in verdicts.items():
        print(f"\n{name}: {text}")


def _compare(pair: PublicPair) -> str:
    request = make_request(pair)
    try:
        return str(compare_graphs(request))
    except ParityError as error:
        return f"failed: {error}"


if __name__ == "__main__":
    sys.exit(main())
