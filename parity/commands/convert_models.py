"""`parity.convert` of any models: the weights of one model, as a checkpoint of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity import files, temporary
from parity.commands.conversion import Conversion, convert_registered
from parity.commands.values import Progress
from parity.comparison.checkpoints import detect_format
from parity.comparison.graphs.conversion import (
    ConvertedWeights,
    convert_weights,
    describe_confidence,
)
from parity.comparison.graphs.outputs import find_output_difference
from parity.comparison.graphs.preparation import Preparation
from parity.comparison.graphs.request import GraphRequest
from parity.comparison.graphs.state import GraphState, SubjectModel
from parity.comparison.settings import OWN
from parity.errors import ChildError, UnpairedWeightError, UsageError, WeightError
from parity.network import weights
from parity.numerics.npz import load_npz, save_npz
from parity.processes import registry
from parity.processes.child import Child
from parity.processes.children import Children
from parity.processes.references import (
    FILE,
    REGISTERED,
    WEIGHTS,
    ModelReference,
    format_reference,
    parse_reference,
    registered_spec,
    split_name,
)
from parity.text import quote

Array = NDArray[Any]


@dataclass(frozen=True)
class ConversionRequest:
    """What is converted: `models` names the source and, where it is another model, the target.

    `source` is a checkpoint of the source model, which else brings its weights. `target` is the
    checkpoint to write.
    """

    models: GraphRequest
    source: Path | None
    target: Path


def plan_conversion(
    model: str, into: str | None, source: Path | None, target: Path, **fields: Any
) -> ConversionRequest:
    """Return the request to write the weights of `model` as a checkpoint of the model `into`.

    Without `into` the checkpoint is one of `model` itself. `fields` are those of `GraphRequest`.
    Raises `UsageError` for a suffix that is not of the target's framework, `OutputError` for a file
    that cannot be written.
    """
    detect_format(target)
    files.require_writable(target)
    files.require_other_files([target], [model, into or "", str(source or "")])
    references = [_add_weights(model, source), *(() if into is None else (into,))]
    request = GraphRequest(references=tuple(references), weights=OWN, export=False, **fields)
    named = request.name_models()
    first = named[0][2]
    if first.form == REGISTERED and WEIGHTS not in first.options:
        raise UsageError(f"{first.text}: a registered model has no weights: give --weights FILE")
    name, runtime, reference = named[-1]
    # The weights of a registered model are written in every format.
    if reference.form != REGISTERED:
        _require_suffix(target, name, runtime, remedy="" if into else _INTO)
    return ConversionRequest(replace(request, reference=named[0][0]), source, target)


_INTO = ", or the model that is to have the weights with --into"


def _require_suffix(target: Path, name: str, runtime: str, *, remedy: str) -> None:
    label = registry.label(runtime)
    suffixes = registry.model_checkpoint_suffixes(runtime)
    if not suffixes:
        named = "; name" + remedy.removeprefix(", or") if remedy else ""
        raise UsageError(f"{target}: {name} is a model of {label}, which has no checkpoints{named}")
    if not target.name.endswith(suffixes):
        raise UsageError(
            f"{target}: {name} is a model of {label}: give {' or '.join(suffixes)}{remedy}"
        )


def _add_weights(model: str, source: Path | None) -> str:
    """Return the text of a reference with the option `weights`; raises `UsageError`."""
    if source is None:
        return model
    if not source.is_file():
        raise WeightError(f"{source}: no such file")
    name, text = split_name(model)
    reference = parse_reference(text)
    if reference.form == FILE:
        raise UsageError(f"--weights: {quote(text)} is a model file, which holds its own weights")
    options = {**reference.options, WEIGHTS: str(source)}
    changed = format_reference(replace(reference, options=options))
    return changed if name is None else f"{name}={changed}"


def convert_models(request: ConversionRequest, progress: Progress) -> Conversion:
    """Write the weights of one model as a checkpoint of another, which gives every bit back.

    Raises `UnpairedWeightError` for weights without a partner, with their names, `WeightError` for
    one that is not finite or is read back with other bits, and what `parity.compare` raises. No
    file is written then.
    """
    models = request.models
    with (
        files.atomic_write(request.target) as part,
        Children(python=models.python, timeout=models.timeout) as children,
        temporary.working_folder() as folder,
    ):
        state = Preparation(models, children, folder, progress).run()
        target, values, notes = _convert(state)
        reference, child = _reference(target), children[target.subject.child]
        writer = _CheckpointWriter(child, folder)
        difference = ""
        if target is not state.reference:
            progress(target.subject.name, "comparing the outputs")
            writer.load(values)
            difference = find_output_difference(
                state.reference,
                target,
                state.alignments[target.subject.name],
                children,
                folder,
            )
        progress(target.subject.name, f"writing {request.target.name}")
        if reference.form == REGISTERED:
            canonical = folder / "canonical.safetensors"
            weights.save(canonical, values)
            convert_registered(registered_spec(reference), canonical, part, children, progress)
        else:
            writer.write(values, part, request.target)
    trained = {p.name: p.size for p in target.graph.parameters if p.trainable}
    return Conversion(
        model=_reference(state.reference).text,
        source=request.source,
        target=request.target,
        tensors=len(values),
        parameters=sum(trained.get(name, 0) for name in values),
        sha256=weights.digest(values),
        notes=notes,
        into=reference.text,
        difference=difference,
    )


def _convert(state: GraphState) -> tuple[SubjectModel, dict[str, Array], tuple[str, ...]]:
    """Return the model whose checkpoint is written, all of its weights, and notes."""
    for name, failure in state.failures.items():
        raise ChildError(f"{name}: {failure}")
    source = state.reference
    if not source.brings_weights:
        raise UsageError(f"{source.subject.name} has no weights of its own: give --weights FILE")
    values = load_npz(state.weights[source.subject.name])
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise WeightError(f"{source.subject.name}: {name} has NaN or infinity")
    if not state.alignments:
        return source, values, state.notes
    # An ONNX file is read by another model, which is the reference: the file itself is aligned too.
    name = state.request.name_models()[-1][0]
    target, alignment = state.models[name], state.alignments[name]
    own = load_npz(state.weights[name])
    converted = convert_weights(alignment, source.graph, target.graph, values, own)
    _require_complete(converted, source.subject.name, name)
    unsure = describe_confidence(alignment)
    notes = (*state.notes, *converted.notes, *((unsure,) if unsure else ()))
    return target, {name: converted.values[name] for name in own}, notes


def _require_complete(converted: ConvertedWeights, source: str, target: str) -> None:
    """Raise `UnpairedWeightError`, with the names, unless every weight has a partner."""
    problems = [
        f"{len(lines)} weights of {owner} have no partner in {other}: {_join(lines)}"
        for lines, owner, other in (
            (converted.surplus, source, target),
            (converted.missing, target, source),
        )
        if lines
    ]
    if problems:
        raise UnpairedWeightError("; ".join(problems))


def _join(lines: tuple[str, ...]) -> str:
    rest = len(lines) - _SHOWN
    return "; ".join(lines[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


_SHOWN = 6
"""Weights that a message names."""


def _reference(model: SubjectModel) -> ModelReference:
    reference = model.subject.reference
    assert reference is not None, "nothing is exported"
    return reference


@dataclass(frozen=True)
class _CheckpointWriter:
    """Writes a checkpoint of the model of a child, and reads it back."""

    child: Child
    folder: Path

    def write(self, values: Mapping[str, Array], part: Path, target: Path) -> None:
        """Write all of the model's weights, and compare every bit that is read back."""
        self.load(values)
        self.child.call("write_model_checkpoint", path=str(part))
        # A weight that the file lacks is seen then, since the model no longer has it.
        self.load({name: np.full_like(value, np.nan) for name, value in values.items()})
        self.child.call("load_checkpoint", path=str(part))
        path = self.folder / "verification.npz"
        self.child.call("save_parameters", path=str(path))
        found = load_npz(path)
        for name, value in values.items():
            if found[name].tobytes() != value.tobytes():
                raise WeightError(f"{target}: {name} is read back with other bits")

    def load(self, values: Mapping[str, Array]) -> None:
        """Set all of the model's weights."""
        path = self.folder / "converted.npz"
        save_npz(path, values)
        self.child.call("load_parameters", path=str(path))
