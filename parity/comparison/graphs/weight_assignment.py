"""Which weights each model of a comparison of graphs has, and the check of the pairs by them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.comparison.graphs.calibration import find_norms
from parity.comparison.graphs.request import FLOAT64, GraphRequest
from parity.comparison.graphs.state import SubjectModel
from parity.comparison.graphs.values import open_values
from parity.comparison.graphs.weights import align_models, transfer_weights
from parity.comparison.results import KEPT, NOT_CHECKED
from parity.comparison.settings import OWN, RANDOM
from parity.errors import SUBJECT_ERRORS, ParityError, UsageError, WeightError
from parity.network import alignment as aligning
from parity.network.alignment import Alignment, ValueReader
from parity.network.checkpoint_fit import join_first
from parity.network.graph_weights import draw_weights
from parity.numerics.npz import load_npz, save_npz
from parity.processes import model_files, registry
from parity.processes.child import Child, refuse_crashing_file
from parity.processes.children import Children
from parity.processes.graph_requests import GraphRunRequest, TensorPoint
from parity.processes.references import ModelReference, parse_reference

Array = NDArray[Any]


@dataclass
class WeightAssignment:
    """Gives the models their weights, in their children, and keeps a file of each model's.

    `notes` gets a line for each model with weights that were not copied.
    """

    request: GraphRequest
    children: Children
    folder: Path
    progress: Callable[[str, str], None]
    notes: list[str]
    files: dict[str, Path] = field(default_factory=dict)
    """By subject, an `.npz` file of its weights, in its own names and axes."""
    failures: dict[str, str] = field(default_factory=dict)
    """By subject, why its runtime failed while it was given its weights; it is left out."""
    _values: dict[str, tuple[set[str], ValueReader]] = field(default_factory=dict)
    """By subject, tensors of a run with the weights that the model has now."""
    _opened: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def assign(
        self,
        base: SubjectModel,
        models: Mapping[str, SubjectModel],
        alignments: dict[str, Alignment],
        load_model: Callable[[ModelReference], SubjectModel],
        begin: Callable[[SubjectModel, bool], None] = lambda model, is_final: None,
    ) -> str:
        """Give every model its weights; return which they are, for the report.

        `alignments`, from `base` to the other models, are replaced by those that are checked by
        values. `load_model` loads and reads what `--weights` names. `begin` is called for every
        model once its child has nothing to do that another one waits for, with whether it has its
        weights by then. A model that brings weights keeps them unless `--weights` says otherwise.
        Raises `WeightError` for a checkpoint that fits no model, and for NaN in the weights that
        are copied or in those of `base`.
        """
        source, targets, text = self._choose_source(base, models, load_model)
        for model in {id(each): each for each in (source, *models.values())}.values():
            self.begin_saving(model)
        for model in models.values():
            if model is not source:
                begin(model, False)
        values = self.read(source)
        _refuse_nan(source, values)
        if source is base and (self.request.weights == RANDOM or not base.brings_weights):
            values = self._initialize_randomly(base, values)
        if source is base:
            self._begin_base_run(base, alignments, targets)
        if source in models.values():
            begin(source, True)
        for name in targets:
            model = models[name]
            with self._keep_failure(name, base):
                if source is base:
                    alignments[name] = self._copy(source, model, alignments[name], values)
                else:
                    self.progress(name, f"pairing the layers with {source.subject.name}")
                    alignment = align_models(source, model)
                    self._copy(source, model, alignment, values)
        others = [
            (name, model)
            for name, model in models.items()
            if model is not base and not (source is base and name in targets)
            if name not in self.failures
        ]
        if source is not base:
            values = self.read(base)
            _refuse_nan(base, values)
        for name, model in others:
            with self._keep_failure(name, base):
                alignments[name] = self._prove_on_copy(base, model, alignments[name], values)
        return text

    @contextlib.contextmanager
    def _keep_failure(self, name: str, base: SubjectModel) -> Iterator[None]:
        """Keep the error of a runtime that fails; the others go on, but not without the base."""
        try:
            yield
        except SUBJECT_ERRORS as error:
            if name == base.subject.name:
                raise
            self.failures[name] = str(error)

    def close(self) -> None:
        """Close the captures whose tensors were compared."""
        self._values.clear()
        self._opened.close()

    # The source ----------------------------------------------------------------------------------

    def _choose_source(
        self,
        base: SubjectModel,
        models: Mapping[str, SubjectModel],
        load_model: Callable[[ModelReference], SubjectModel],
    ) -> tuple[SubjectModel, tuple[str, ...], str]:
        """Return the model whose weights are copied, the models that get them, and a sentence."""
        given = self.request.weights
        if given == RANDOM:
            others = _others(models, base)
            return base, others, f"random, seed {self.request.seed}"
        if given not in (None, OWN):
            return self._find_given(str(given), base, models, load_model)
        bringing = [model for model in (base, *models.values()) if model.brings_weights]
        if not bringing:
            return base, _others(models, base), f"random, seed {self.request.seed}"
        source = bringing[0]
        targets = tuple(name for name, model in models.items() if not model.brings_weights)
        if not targets:
            return source, targets, "each model's own"
        right = _name_both_readings(source)
        text = f"those of {right}, copied by the alignment into {_join_unique(targets)}"
        keeping = {_name_both_readings(model) for model in bringing} - {right}
        own = f"; {_join_unique(sorted(keeping))}: own" if keeping else ""
        return source, targets, text + own

    def _find_given(
        self,
        given: str,
        base: SubjectModel,
        models: Mapping[str, SubjectModel],
        load_model: Callable[[ModelReference], SubjectModel],
    ) -> tuple[SubjectModel, tuple[str, ...], str]:
        """Return the model that has the weights of a checkpoint or reference, and the others."""
        if model_files.is_checkpoint(given):
            source = self._load_checkpoint(given, base, models)
            others = _others(models, source)
            text = f"{given}, loaded into {_name_both_readings(source)}"
            if others:
                text += f", copied by the alignment into {_join_unique(others)}"
            return source, others, text
        for name, model in models.items():
            reference = model.subject.reference
            texts = (name, "" if reference is None else reference.text)
            if given in texts and model.brings_weights:
                others = _others(models, model)
                return model, others, f"those of {name}, copied by the alignment into all"
        source = load_model(parse_reference(given))
        return source, tuple(models), f"those of {given}, copied by the alignment into all"

    def _load_checkpoint(
        self, path: str, base: SubjectModel, models: Mapping[str, SubjectModel]
    ) -> SubjectModel:
        """Load a checkpoint into the first model whose weights it has, and return that model."""
        suffixes = registry.checkpoint_suffixes()
        runtime = next((r for s, r in suffixes.items() if path.lower().endswith(s)), None)
        runtimes = registry.model_runtimes() if runtime is None else (runtime,)
        candidates = [
            name
            for name in dict.fromkeys((base.subject.name, *models))
            if models[name].subject.runtime in runtimes and not _is_onnx_file(models[name])
        ]
        if not candidates:
            label = " or ".join(map(registry.label, runtimes))
            raise UsageError(
                f"--weights {path}: a checkpoint of {label}, and no model here is one of {label}; "
                f"name the model that it belongs to: --weights file.py:NAME,weights={path}"
            )
        errors = []
        for name in candidates:
            self.progress(name, "loading the checkpoint")
            try:
                with refuse_crashing_file(path):
                    answer = self._child(models[name]).call("load_checkpoint", path=path)
            except WeightError as error:
                errors.append(str(error))
                continue
            self.notes += [f"{name}: {note}" for note in answer["notes"]]
            return models[name]
        fits = "" if len(candidates) == 1 else f"; it fits none of {_join_unique(candidates)}"
        raise WeightError(f"{errors[0]}{fits}")

    def _initialize_randomly(
        self, base: SubjectModel, values: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Give a model seeded weights, and its batch norms the statistics of the input."""
        drawn = draw_weights(base.graph, values, seed=self.request.seed)
        drawn = {**values, **drawn}
        self._set_weights(base, drawn)
        statistics = self._measure_batch_norm_statistics(base, drawn)
        if statistics:
            # The other weights, which are many times as large, are in the model already.
            self._load(base, statistics, self.folder / "calibrated.npz")
            drawn = {**drawn, **statistics}
            save_npz(self.files[base.subject.name], drawn)
        return drawn

    def _measure_batch_norm_statistics(
        self, base: SubjectModel, values: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Return the statistics of batch norms, measured on the input, by name.

        With a mean of 0 and a variance of 1 activations shrink or grow from layer to layer, which
        hides errors.
        """
        norms = find_norms(base.graph)
        if not norms:
            return {}
        self.progress(base.subject.name, "calibrating batch norms")
        path = self.folder / "statistics.npz"
        self._child(base).call(
            "calibrate_norms", inputs=str(base.input_file), norms=norms, out=str(path)
        )
        statistics = load_npz(path)
        return {n: value.astype(values[n].dtype) for n, value in statistics.items()}

    # Copies --------------------------------------------------------------------------------------

    def read(self, model: SubjectModel) -> dict[str, Array]:
        """Return the weights that a model now has; keep their file."""
        return load_npz(self.save(model))

    def save(self, model: SubjectModel) -> Path:
        """Let the model's child save the weights that it now has; keep and return their file."""
        path = self._file_of(model)
        self._child(model).call("save_parameters", path=str(path))
        self.files[model.subject.name] = path
        return path

    def begin_saving(self, model: SubjectModel) -> None:
        """Let the model's child save its weights, for the next `save` or `read`."""
        self._child(model).begin("save_parameters", path=str(self._file_of(model)))

    def _file_of(self, model: SubjectModel) -> Path:
        return self.folder / f"weights.{model.subject.name}.npz"

    def _set_weights(self, model: SubjectModel, values: Mapping[str, Array]) -> None:
        """Give a model its weights; keep their file."""
        path = self._file_of(model)
        self._load(model, values, path)
        self.files[model.subject.name] = path

    def _load(self, model: SubjectModel, values: Mapping[str, Array], path: Path) -> None:
        """Set the weights in the model's child, which reads them from a file."""
        save_npz(path, values)
        self._values.pop(model.subject.name, None)
        self._child(model).call("load_parameters", path=str(path))

    def _copy(
        self,
        source: SubjectModel,
        model: SubjectModel,
        alignment: Alignment,
        values: Mapping[str, Array],
    ) -> Alignment:
        """Copy weights into a model; return the alignment that the copied values confirm."""
        own = self.read(model)
        copied = transfer_weights(alignment, values, own)
        self._set_weights(model, {**own, **copied})
        checked, agreeing = self._check_values(source, model, alignment)
        if checked.weights != alignment.weights:
            copied = transfer_weights(checked, values, own)
            self._set_weights(model, {**own, **copied})
            agreeing = self._check_values(source, model, checked)[1]
        exchanged = self._try_exchanges(source, model, checked, agreeing, values, own)
        if exchanged.weights != checked.weights:
            copied = transfer_weights(exchanged, values, own)
        left = [name for name in own if name not in copied]
        if left:
            shown = _join_unique(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
            self.notes.append(
                f"{model.subject.name}: {len(left)} of {len(own)}{KEPT}{source.subject.name} and "
                f"keep their values: {shown}"
            )
        return exchanged

    def _try_exchanges(
        self,
        source: SubjectModel,
        model: SubjectModel,
        alignment: Alignment,
        agreeing: frozenset[str],
        values: Mapping[str, Array],
        own: Mapping[str, Array],
    ) -> Alignment:
        """Return the alignment with the exchanges after which more tensors agree, and none is lost.

        The model holds the weights of the alignment that is returned.
        """
        by_names = aligning.propose_by_names(alignment)
        candidates = itertools.chain(
            () if by_names is None else (by_names,), aligning.list_exchanges(alignment, agreeing)
        )
        tried, kept = 0, True
        while tried < _MOST_EXCHANGES and (candidate := next(candidates, None)) is not None:
            self._set_weights(model, {**own, **transfer_weights(candidate, values, own)})
            checked, found = self._check_values(source, model, candidate)
            tried, kept = tried + 1, checked.weights == candidate.weights and agreeing < found
            if kept:
                alignment, agreeing = checked, found
                candidates = itertools.chain(aligning.list_exchanges(alignment, agreeing))
        if not kept:
            self._set_weights(model, {**own, **transfer_weights(alignment, values, own)})
        return alignment

    def _prove_on_copy(
        self,
        base: SubjectModel,
        model: SubjectModel,
        alignment: Alignment,
        values: Mapping[str, Array],
    ) -> Alignment:
        """Check the pairs by values while the model holds the reference's weights; undo that."""
        own = self.read(model)
        copied = transfer_weights(alignment, values, own)
        if all(np.array_equal(copied[name], own[name]) for name in copied):
            return self.check_values(base, model, alignment)
        path = self.folder / f"scratch.{model.subject.name}.npz"
        try:
            self._load(model, {**own, **copied}, path)
            return self.check_values(base, model, alignment)
        finally:
            self._load(model, own, path)

    def check_values(
        self, base: SubjectModel, model: SubjectModel, alignment: Alignment
    ) -> Alignment:
        """Return the alignment, checked by the tensors of a run with equal weights."""
        return self._check_values(base, model, alignment)[0]

    def _check_values(
        self, base: SubjectModel, model: SubjectModel, alignment: Alignment
    ) -> tuple[Alignment, frozenset[str]]:
        """Return the checked alignment, and the reference's tensors that agree."""
        self.progress(model.subject.name, "checking the pairs by their values")
        try:
            reference = self._read_values(base, _list_base_tensors(base, alignment))
            with self._run_and_open_values(model, _list_other_tensors(model, alignment)) as read:
                other = ValueReader(read)
                checked = aligning.check_values(alignment, reference, other)
                return checked, aligning.find_agreeing(checked, reference, other)
        except ParityError as error:
            self.notes.append(f"{model.subject.name}{NOT_CHECKED}{error}")
            # Nothing differs that an exchange could make equal.
            return alignment, frozenset(t.reference for _, t in alignment.tensors)

    def _read_values(self, model: SubjectModel, tensors: set[str]) -> ValueReader:
        """Return the tensors of a run that serves every check against this model."""
        known, reader = self._values.get(model.subject.name, (set[str](), None))
        if reader is None or not tensors <= known:
            opened = self._opened.enter_context(self._run_and_open_values(model, tensors))
            reader = ValueReader(opened)
            self._values[model.subject.name] = tensors, reader
        return reader

    def _run_and_open_values(self, model: SubjectModel, tensors: set[str]) -> Any:
        request = self._request_values(model, tensors)
        self._child(model).call("run_graph", **request.to_json())
        return open_values(Path(request.out))

    def _request_values(self, model: SubjectModel, tensors: set[str]) -> GraphRunRequest:
        return GraphRunRequest(
            inputs=str(model.input_file),
            points=tuple(TensorPoint(tensor, tensor) for tensor in sorted(tensors)),
            out=str(self.folder / f"values.{model.subject.name}.safetensors"),
        )

    def _begin_base_run(
        self, base: SubjectModel, alignments: Mapping[str, Alignment], targets: Sequence[str]
    ) -> None:
        """Let the child of `base` run, for the check of the model that is checked first."""
        first = next(iter((*targets, *alignments)), None)
        if first is not None:
            tensors = _list_base_tensors(base, alignments[first])
            request = self._request_values(base, tensors)
            self._child(base).begin("run_graph", **request.to_json())

    def begin_save_and_run(self, model: SubjectModel, alignment: Alignment) -> None:
        """Let the model's child save its weights and run, for `save` and then `check_values`."""
        self.begin_saving(model)
        request = self._request_values(model, _list_other_tensors(model, alignment))
        self._child(model).begin("run_graph", **request.to_json())

    def _child(self, model: SubjectModel) -> Child:
        return self.children[model.subject.child]


_MOST_EXCHANGES = 8
"""Each is a run of the model. Three products of an attention have three exchanges."""


def _list_tensors(model: SubjectModel) -> set[str]:
    return {tensor for node in model.graph.nodes for tensor in node.outputs}


def _list_base_tensors(base: SubjectModel, alignment: Alignment) -> set[str]:
    """Return the reference's tensors that the check of an alignment from it reads."""
    return _list_tensors(base) | {t.reference for pair in alignment.pairs for t in pair.tensors}


def _list_other_tensors(model: SubjectModel, alignment: Alignment) -> set[str]:
    """Return the tensors of the other model that the check of an alignment to it reads."""
    return _list_tensors(model) | {t.other for pair in alignment.pairs for t in pair.tensors}


def _others(models: Mapping[str, SubjectModel], source: SubjectModel) -> tuple[str, ...]:
    return tuple(name for name, model in models.items() if model is not source)


def _refuse_nan(model: SubjectModel, values: Mapping[str, Array]) -> None:
    """Raise `WeightError` for NaN, behind which all models compute the same NaN.

    Infinity is left: masks are made of it.
    """
    names = [n for n, each in values.items() if each.dtype.kind == "f" and np.isnan(each).any()]
    if names:
        raise WeightError(
            f"{_name_both_readings(model)}: its weights have NaN: {join_first(names)}"
        )


def _is_onnx_file(model: SubjectModel) -> bool:
    """Return whether a framework's child has read an ONNX file."""
    reference = model.subject.reference
    return reference is not None and reference.runtime in registry.graph_runtimes()


def _name_both_readings(model: SubjectModel) -> str:
    """Return the subject's name, for both readings of an ONNX file."""
    return model.subject.name.removesuffix(FLOAT64)


def _join_unique(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(name.removesuffix(FLOAT64) for name in names))
