"""Every parser, given mutated bytes by Hypothesis: a `ParityError` or a result, nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from parity.errors import ParityError
from tests.studies.hostile import inputs
from tests.studies.hostile.case import mutate, mutate_text

_ENDED = "the process ended with"

EXAMPLES = 150
"""Inputs of one parser before the next one has its turn."""


@dataclass(frozen=True)
class Target:
    """A parser of a file of this name, and the good contents that are mutated."""

    name: str
    file: str
    parse: Callable[[Path], Any]
    bases: tuple[bytes, ...]
    is_text: bool = False
    in_child: bool = False
    """Whether parity reads the file in a child, so that a crash of native code is an error of the
    file: `parity.processes.child.refuse_crashing_file`."""


def list_targets() -> list[Target]:
    """Return the parsers that need no framework of the files that a user names."""
    from parity.commands import cases, class_names, lock
    from parity.network import onnx_metadata, weights
    from parity.network.inputs.picture import decode
    from parity.network.inputs.sources import array
    from parity.network.table import LayerTable
    from parity.numerics import run_results
    from parity.numerics.npz import load_npz
    from parity.processes import interpreters, references
    from parity.processes.protocol import OperationRequest, OperationResponse, ProtocolError
    from parity.report.formats import json as json_format
    from parity.training.data import idx
    from tests.training.data.test_sources import idx_bytes

    np = inputs.np
    shape = (3, 4, 4)
    good = np.zeros((1, *shape), np.float32)
    table = inputs.TABLE
    toml = "\n".join(LayerTable.from_csv(table).to_toml().split("\n"))

    def parse_protocol(path: Path) -> None:
        line = path.read_bytes().decode(errors="replace")
        for parse in (OperationRequest.from_line, OperationResponse.from_line):
            with contextlib.suppress(ProtocolError):
                parse(line)

    def parse_idx(path: Path) -> None:
        (path.parent / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(4, np.uint8)))
        idx.read_split(path.parent, "train") if hasattr(idx, "read_split") else idx._read(
            path, axes=3
        )

    def load_array(path: Path) -> None:
        array.load(str(path), shape, batch=None, seed=0)

    def parse_reference(path: Path) -> None:
        references.parse_reference(path.read_bytes().decode(errors="replace"))

    pictures = tuple(map(inputs._picture, ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")))
    locked = b'{"schema": "parity.lock/1", "cases": {}}'
    images = idx_bytes(np.zeros((4, 8, 8), np.uint8))
    texts = tuple(text.encode() for text in inputs.REFERENCES)
    classes = b'{"classes": ["a", "b"]}'
    return [
        Target("picture", "x.jpg", lambda path: decode(path, "RGB", upright=True), pictures),
        Target("npy", "x.npy", load_array, (inputs._npy(good),)),
        Target("npz", "x.npz", load_array, (inputs._npz(**{"a.npy": inputs._npy(good)}),)),
        Target("arrays", "x.npz", load_npz, (inputs._npz(**{"a.npy": inputs._npy(good)}),)),
        Target("table csv", "t.csv", LayerTable.load, (table.encode(),), True),
        Target("table toml", "t.toml", LayerTable.load, (toml.encode(),), True),
        Target("case file", "parity.toml", cases.load, (inputs.CASES.encode(),), True),
        Target(
            "environments",
            "parity.toml",
            lambda path: interpreters.read_configured_paths(path.parent),
            (inputs.CASES.encode(),),
            True,
        ),
        Target("lock", "x.lock.json", lock.load, (locked,), True),
        Target("report", "x.json", json_format.read, (_make_report(),), True),
        Target(
            "safetensors",
            "x.safetensors",
            weights.read_types,
            (
                inputs._safetensors(
                    {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)
                ),
            ),
        ),
        Target("reference", "x.txt", parse_reference, texts, True),
        Target("idx", "train-images-idx3-ubyte", parse_idx, (images,)),
        Target(
            "protocol",
            "x.txt",
            parse_protocol,
            (b'{"id": 1, "op": "load", "args": {}}', b'{"id": 1, "result": {}}'),
            True,
        ),
        Target("capture", "x.safetensors", _read_capture, (_make_capture(),)),
        Target("saved runs", "x.json", run_results.read_run_results, (_make_run_results(),), True),
        Target("class names", "x.json", class_names.read_class_names, (classes,), True),
        Target("metadata", "x.onnx", onnx_metadata.read_stated_model, (_make_metadata(),)),
    ]


def list_framework_targets(samples: dict[str, bytes]) -> list[Target]:
    """Return the parsers of files that only a framework writes."""
    from parity.processes import model_files

    def identify(path: Path) -> None:
        model_files.identify(str(path))

    names = {
        ".pt": "net.model.pt",
        ".pt2": "net.model.pt2",
        ".keras": "net.model.keras",
        ".onnx": "net.model.onnx",
        ".h5": "small.h5",
    }
    targets = [
        Target(f"identify {suffix}", f"x{suffix}", identify, (samples[name],))
        for suffix, name in names.items()
    ]
    return [*targets, *_framework_targets(samples)]


def _framework_targets(samples: dict[str, bytes]) -> list[Target]:
    from parity.network import architectures
    from parity.runtimes.keras import checkpoints as keras_checkpoints
    from parity.runtimes.keras import model_configs
    from parity.runtimes.onnx import model_file
    from parity.runtimes.torch import checkpoints as torch_checkpoints

    table = architectures.get("resnet18").table()

    def prepare(path: Path) -> None:
        with model_configs.prepare(path, None):
            pass

    targets = [
        Target(
            "torch checkpoint",
            "x.pth",
            torch_checkpoints.read,
            (samples["zip.good"], samples["legacy.good"]),
        ),
        Target(
            "keras checkpoint",
            "x.weights.h5",
            lambda path: keras_checkpoints.read(path, table),
            (samples["small.h5"],),
        ),
        Target(
            "keras shapes", "x.weights.h5", keras_checkpoints.read_shapes, (samples["small.h5"],)
        ),
        Target("keras archive", "x.keras", prepare, (samples["net.model.keras"],)),
        Target("onnx", "x.onnx", model_file.load_model, (samples["net.model.onnx"],)),
    ]
    return [replace(target, in_child=True) for target in targets]


def _make_run_results() -> bytes:
    from parity.numerics import run_results

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.json"
        run_results.write_run_results(path, {"torch": {"logits": inputs.np.zeros((2, 3))}})
        return path.read_bytes()


def _make_metadata() -> bytes:
    import onnx

    from parity.network import onnx_metadata
    from parity.network.inputs import preprocessing

    stated = preprocessing.IMAGENET.to_json()
    model = onnx.ModelProto(ir_version=8)
    for key, value in (
        (onnx_metadata.PREPROCESSING, json.dumps(stated)), (onnx_metadata.CLASSES, '["a", "b"]')
    ):  # fmt: skip
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


def _make_capture() -> bytes:
    from tests import captures

    with tempfile.TemporaryDirectory() as name:
        folder = captures.write(Path(name) / "one")
        return (folder / "reference.safetensors").read_bytes()


def _read_capture(path: Path) -> None:
    from parity.numerics.capture import CaptureReader

    with CaptureReader(path) as reader:
        for name in reader.names:
            reader.read(name)


def _make_report() -> bytes:
    from parity.commands.diff import diff
    from parity.report.formats import json as json_format
    from tests import captures

    with tempfile.TemporaryDirectory() as name:
        folder = captures.write(Path(name) / "one")
        return json_format.render(diff(folder, folder)).encode()


def fuzz(target: Target, folder: Path, number: int, examples: int) -> int:
    """Give a parser mutated contents; return how many. Raises what the parser should not."""
    count = 0
    path = folder / target.file

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(target.bases), st.randoms(use_true_random=False), st.integers(0, 2**32))
    def run(base: bytes, _: random.Random, state: int) -> None:
        nonlocal count
        chance = random.Random(state)
        if target.is_text and chance.random() < 0.7:
            text = mutate_text(base.decode(), chance)
            content = text.encode("utf-8", "surrogatepass")
        else:
            content = mutate(base, chance)
        path.write_bytes(content)
        count += 1
        with contextlib.suppress(ParityError):
            target.parse(path)

    run()
    return count


def main(seconds: float, first_seed: int, samples: Path | None) -> int:
    """Fuzz every parser in turn for some time, each turn in a fork; print a Markdown table."""
    from tests.studies.hostile.campaign import make_samples

    counts: dict[str, int] = {}
    crashes: list[str] = []
    native = 0
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name)
        made = make_samples(samples or folder / "samples")
        targets = [*list_targets(), *list_framework_targets(made)]
        started, turn = time.monotonic(), 0
        while time.monotonic() - started < seconds:
            target = targets[turn % len(targets)]
            count, error = _run_turn(target, folder, first_seed * 10**6 + turn)
            counts[target.name] = counts.get(target.name, 0) + count
            if error and target.in_child and error.startswith(_ENDED):
                native += 1
                print(f"{target.name}, turn {turn}: {error}, as a child would",
                      file=sys.stderr, flush=True)  # fmt: skip
            elif error:
                crashes.append(f"{target.name}, turn {turn}: {error}")
                print(crashes[-1], file=sys.stderr, flush=True)
            turn += 1
    print("| parser | inputs |\n|---|---:|")
    for parser, count in counts.items():
        print(f"| {parser} | {count:,} |")
    print(f"\n{sum(counts.values()):,} inputs in {seconds:.0f} s, {len(crashes)} crashes; "
          f"{native} of a library in a file that a child reads")  # fmt: skip
    return 1 if crashes else 0


def _run_turn(target: Target, folder: Path, number: int) -> tuple[int, str]:
    """Return (inputs, error or ""); a crash of the process itself is an error too."""
    place = folder / "turn"
    place.mkdir(exist_ok=True)
    log = folder / "log"
    log.write_text("")
    pid = os.fork()
    if pid == 0:
        try:
            # What libraries print while they fail is not of interest.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            os.dup2(null, 1)
            sys.stdout = sys.stderr = io.StringIO()
            count = fuzz(target, place, number, EXAMPLES)
            log.write_text(f"{count}\n")
        except BaseException:  # noqa: BLE001 (the parent prints it)
            log.write_text("0\n" + traceback.format_exc()[-3000:])
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        return 0, f"{_ENDED} {code}"
    count, _, error = log.read_text().partition("\n")
    return int(count or 0), error
