"""A cache of the session's own, and the comparisons that many tests look at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end import harness
from tests.end_to_end.harness import Done
from tests.shared_children import COLD

SMALL = ("--image-size", "64", "--classes", "10")


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's own cache is neither read nor filled."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("PARITY_CACHE")
    os.environ["PARITY_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["PARITY_CACHE"]
    else:
        os.environ["PARITY_CACHE"] = before


@pytest.fixture(scope="module", autouse=True)
def _children(_cache: Path, shared_children: None) -> None:
    """The commands that run in this process share their children."""


@pytest.fixture
def parity_process(tmp_path: Path) -> Callable[..., Done]:
    """Run `parity` as a process with children of its own; see `harness.parity`."""
    return lambda *arguments, env=None: harness.parity(tmp_path / "scratch", *arguments, env=env)


@pytest.fixture
def parity(tmp_path: Path) -> Callable[..., Done]:
    """Run `parity` with these arguments: in this process, or with `env` as one of its own."""

    def run(*arguments: object, env: dict[str, str] | None = None) -> Done:
        if COLD or env is not None:
            return harness.parity(tmp_path / "scratch", *arguments, env=env)
        return harness.parity_here(tmp_path / "scratch", *arguments)

    return run


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of resnet18 with 10 classes, canonical, with statistics that are not 0 and 1."""
    import numpy as np

    from parity.network import architectures, weights

    table = architectures.get("resnet18", classes=10, image_size=(64, 64))
    values = weights.init(table, seed=3)
    generator = np.random.default_rng(3)
    for name, array in values.items():
        if name.endswith(("running_mean", "running_var")):
            values[name] = (np.abs(generator.standard_normal(array.shape)) + 0.5).astype("float32")
    path = tmp_path_factory.mktemp("checkpoint") / "resnet18.safetensors"
    weights.save(path, values)
    return path
