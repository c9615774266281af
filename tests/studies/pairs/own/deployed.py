"""`python -m tests.studies.pairs.own.deployed`: networks against the ONNX files made from them.

Each PyTorch network is exported by parity's exporter and by torch.onnx, simplified by onnxslim,
optimised by ONNX Runtime, and quantised. A file must be in parity with its network and with itself;
a quantised one with itself alone. Exits with 1 if a verdict is wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import exporters
from parity.commands.compare_graphs import compare_graphs
from parity.comparison.graphs.request import GraphRequest
from parity.errors import ParityError
from parity.explain.quantised_layers import QUANTISED
from parity.processes.children import Children
from tests.studies.pairs.own.networks import FOLDER
from tests.studies.pairs.own.seeded_networks import seeded

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "u_net": {"x": (1, 3, 32, 32)},
    "residual": {"x": (1, 3, 32, 32)},
    "separable": {"x": (1, 3, 32, 32)},
    "squeeze_excite": {"x": (1, 3, 32, 32)},
    "flattened": {"input": (1, 3, 32, 32)},
    "upsampled": {"x": (1, 3, 32, 32)},
    "conv1d": {"x": (1, 4, 40)},
    "token_model": {"tokens": (1, 9)},
    "lstm_tagger": {"tokens": (1, 12)},
    "gru_after": {"x": (1, 10, 6)},
    "bidirectional": {"x": (1, 10, 6)},
    "two_inputs": {"image": (1, 3, 32, 32), "features": (1, 5)},
    "two_outputs": {"x": (1, 3, 32, 32)},
}


def make_inputs(name: str) -> tuple[torch.Tensor, ...]:
    """Return example inputs of a network, integers below 50 for tokens."""
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randint(50, shape, generator=generator)
        if port == "tokens"
        else torch.randn(shape, generator=generator)
        for port, shape in SHAPES[name].items()
    )


def _export(name: str, path: Path) -> None:
    built = seeded(name)
    model = (built[0] if isinstance(built, tuple) else built).eval()
    exporters.export(model, path, example=make_inputs(name))


def _export_by_torch(name: str, path: Path) -> None:
    built = seeded(name)
    model = (built[0] if isinstance(built, tuple) else built).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            make_inputs(name),
            str(path),
            dynamo=True,
            verbose=False,
            input_names=list(SHAPES[name]),
        )


def _simplify(name: str, path: Path) -> None:
    import onnx
    import onnxslim  # type: ignore[import-not-found]

    source = path.with_name("torch.onnx")
    _export_by_torch(name, source)
    onnx.save(onnxslim.slim(str(source)), str(path))


def _optimise(name: str, path: Path) -> None:
    import onnxruntime

    source = path.with_name("torch.onnx")
    _export_by_torch(name, source)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def _quantise(name: str, path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    source = path.with_name("exported.onnx")
    _export(name, source)
    quantize_dynamic(str(source), str(path))


FORMS: dict[str, Callable[[str, Path], None]] = {
    "parity": _export,
    "torch.onnx": _export_by_torch,
    "onnxslim": _simplify,
    "ONNX Runtime": _optimise,
    "quantised": _quantise,
}


def has_integers(path: Path) -> bool:
    """Return whether a file computes with integers; the quantiser leaves a GRU as it is."""
    import onnx

    operators = {node.op_type for node in onnx.load(str(path)).graph.node}
    return any("integer" in name or "quantize" in name for name in map(str.lower, operators))


def judge(name: str, form: str, path: Path, children: Children) -> list[tuple[str, str, bool]]:
    """Return the verdicts against the network and of the file alone, and whether they are right."""
    shapes = SHAPES[name]
    network = f"{FOLDER / 'seeded_networks.py'}:seeded,{name}"
    found = []
    for references, wanted in (
        ((network, str(path)), "divergence" if has_integers(path) else "parity"),
        ((str(path),), "parity"),
    ):
        request = GraphRequest(references, export=False, semantics=False, shapes=shapes)
        try:
            report: Any = compare_graphs(request, children=children)
        except ParityError as error:
            found.append((f"failed: {error}", "", False))
            continue
        verdict = str(report.verdict)
        is_right = verdict == wanted
        if verdict == "divergence":
            # Of a quantised file nothing else may be named.
            causes = {cause.cause for cause in report.causes}
            verdict += f" ({', '.join(sorted(causes))})"
            is_right = is_right and causes == {QUANTISED}
        found.append((verdict, str(report), is_right))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.studies.pairs.own.deployed", description=__doc__
    )
    parser.add_argument("--only", help="names of networks, separated by commas")
    parser.add_argument("--forms", help="ways of making the file, separated by commas")
    options = parser.parse_args()
    names = list(SHAPES) if options.only is None else options.only.split(",")
    forms = list(FORMS) if options.forms is None else options.forms.split(",")
    print("| network | file | against the network | against itself | s |\n|---|---|---|---|---|")
    is_right = True
    with Children() as children, tempfile.TemporaryDirectory() as folder:
        for name in names:
            for form in forms:
                started = time.perf_counter()
                path = Path(folder) / f"{name}-{form.replace(' ', '').replace('.', '')}.onnx"
                try:
                    FORMS[form](name, path)
                except Exception as error:  # noqa: BLE001
                    # The tool that makes the file has failed; it is no verdict.
                    print(f"| {name} | {form} | not made: {str(error)[:80]!r} | | |", flush=True)
                    continue
                found = judge(name, form, path, children)
                cells = [text if right else f"**{text}**" for text, _, right in found]
                seconds = time.perf_counter() - started
                print(f"| {name} | {form} | {' | '.join(cells)} | {seconds:.1f} |", flush=True)
                for _, text, right in found:
                    if not right:
                        print(text, file=sys.stderr, flush=True)
                is_right = is_right and all(right for *_, right in found)
    return int(not is_right)


if __name__ == "__main__":
    sys.exit(main())
