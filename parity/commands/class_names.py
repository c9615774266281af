"""The class names of a compared model: the user's own, those it states, or ImageNet's."""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from parity import files
from parity.comparison.results import Prediction
from parity.errors import ParityError, UsageError
from parity.network.inputs import preprocessing
from parity.network.inputs.preprocessing import Preprocessing
from parity.network.onnx_metadata import StatedModel
from parity.text import one_line
from parity.training.data.batches import Preprocessing as Trained
from parity.training.description import read_description

IMAGENET = 1000
"""The classes of ImageNet's usual selection, ILSVRC 2012."""

MAX_BYTES = 8 * 2**20
"""Bytes of a file of class names."""


@dataclass(frozen=True)
class ClassNames:
    """Names by index, and where they are from."""

    names: tuple[str, ...]
    source: str


def find_class_names(
    count: int,
    *,
    given: Path | None,
    stated: Mapping[str, StatedModel],
    checkpoints: Iterable[Path],
    has_trained_weights: bool,
) -> ClassNames | None:
    """Return the names of a model's `count` classes; None if nobody states them.

    In this order: the file that the user gave, an ONNX file's metadata, the checkpoint of a
    training run, and for 1000 classes ImageNet's. Random weights have no classes of ImageNet.
    Raises `UsageError` for a file that cannot be read, or has another number of names.
    """
    if given is not None:
        names = read_class_names(given)
        if len(names) != count:
            raise UsageError(
                f"--labels {given}: has {len(names)} class names, the model has {count} outputs"
            )
        return ClassNames(names, given.name)
    for name, model in stated.items():
        if len(model.classes) == count:
            return ClassNames(model.classes, f"the metadata of {name}")
    for path in checkpoints:
        description = read_description(path) if path.is_file() else None
        if description is not None and len(description.classes) == count:
            return ClassNames(description.classes, path.name)
    if count == IMAGENET and has_trained_weights:
        return read_imagenet_names()
    return None


@dataclass(frozen=True)
class NamedPredictions:
    """The predictions by subject, the source of their names ("" without), and notes."""

    predictions: Mapping[str, Prediction] = field(default_factory=dict)
    class_names: str = ""
    notes: tuple[str, ...] = ()


def name_predictions(
    predictions: Mapping[str, Prediction], count: int, **known: Any
) -> NamedPredictions:
    """Return predictions among `count` classes with the names that are known.

    `known` are the arguments of `find_class_names`; its error is a note, since the comparison that
    it follows stands.
    """
    if not predictions:
        return NamedPredictions()
    try:
        names = find_class_names(count, **known)
    except ParityError as error:
        return NamedPredictions(predictions, notes=(f"no class names: {error}",))
    if names is None:
        return NamedPredictions(predictions)
    named = {
        subject: replace(each, name=names.names[each.index])
        for subject, each in predictions.items()
    }
    return NamedPredictions(named, names.source)


def state_model(
    preprocess: str | None,
    labels: Path | None,
    *,
    zoo_model: str | None,
    checkpoint: Path | None,
) -> StatedModel:
    """Return what an exported file states of its model: what was given, or else what is known.

    That is what the `checkpoint` of a training run says, or the preprocessing of `zoo_model`, such
    as `keras:ResNet50`. Raises `UsageError` for an unknown preprocessing and a file of names that
    cannot be read.
    """
    description = None
    if checkpoint is not None and checkpoint.is_file():
        description = read_description(checkpoint)
    names = () if description is None else description.classes
    if labels is not None:
        names = read_class_names(labels)
    if preprocess is not None:
        return StatedModel(preprocessing.find(preprocess), names)
    if description is not None:
        return StatedModel(_state_training(description.preprocessing), names)
    known = None if zoo_model is None else preprocessing.find_zoo_model(zoo_model)
    return StatedModel(known, names)


def _state_training(trained: Trained) -> Preprocessing:
    """Return the preprocessing of a training run: the whole picture, scaled by 1/255 first."""
    mean, deviation = (
        each if len(each) == 3 else 3 * (each or (neutral,))
        for each, neutral in ((trained.mean, 0.0), (trained.deviation, 1.0))
    )
    return Preprocessing(
        255.0, (mean[0], mean[1], mean[2]), (deviation[0], deviation[1], deviation[2]), crop=None
    )


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the names in a file: one a line, a JSON list, or a training run's classes.json.

    Raises `UsageError` for a file that cannot be read.
    """
    try:
        text = files.read_bytes(path, longest=MAX_BYTES).decode("utf-8-sig")
        if path.suffix.lower() != ".json":
            return tuple(line.strip() for line in text.splitlines() if line.strip())
        data = json.loads(text)
        names = data["classes"] if isinstance(data, dict) else data
        if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
            raise TypeError("expected a list of names, or such a list under 'classes'")
        return tuple(names)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = one_line(str(error) or type(error).__name__, longest=120)
        raise UsageError(f"--labels {path}: cannot be read: {reason}") from error


def read_imagenet_names() -> ClassNames | None:
    """Return ImageNet's names from the files of torchvision or timm; None where neither is.

    The packages are not imported: that would load PyTorch.
    """
    return _read_torchvision() or _read_timm()


def _read_torchvision() -> ClassNames | None:
    folder = _find_package("torchvision")
    path = None if folder is None else folder / "models" / "_meta.py"
    if path is None or not path.is_file():
        return None
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = [t.id for t in getattr(node, "targets", ()) if isinstance(t, ast.Name)]
        if isinstance(node, ast.Assign) and targets == ["_IMAGENET_CATEGORIES"]:
            names = tuple(map(str, ast.literal_eval(node.value)))
            return _check_imagenet(names, "ImageNet's, from torchvision")
    return None


def _read_timm() -> ClassNames | None:
    """Return the first lemma of each of the 1000 synsets, in timm's order."""
    folder = _find_package("timm")
    info = None if folder is None else folder / "data" / "_info"
    if info is None or not (info / "imagenet_synsets.txt").is_file():
        return None
    lemmas = dict(
        line.split("\t", 1)
        for line in (info / "imagenet_synset_to_lemma.txt").read_text("utf-8").splitlines()
        if "\t" in line
    )
    synsets = (info / "imagenet_synsets.txt").read_text("utf-8").split()
    names = tuple(lemmas.get(synset, synset).split(",")[0] for synset in synsets)
    return _check_imagenet(names, "ImageNet's, from timm")


def _check_imagenet(names: tuple[str, ...], source: str) -> ClassNames | None:
    return ClassNames(names, source) if len(names) == IMAGENET else None


def _find_package(name: str) -> Path | None:
    """Return the folder of an installed package, which is not imported."""
    found = importlib.util.find_spec(name)
    return None if found is None or found.origin is None else Path(found.origin).parent
