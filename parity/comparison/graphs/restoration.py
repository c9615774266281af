"""Models that an earlier run prepared, loaded in their children again: nothing of them is read."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from typing import Any

from parity.comparison.graphs.state import GraphState, PreparedModels, SubjectModel
from parity.processes.children import Children


@dataclass(frozen=True)
class _Loaded:
    versions: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class Restoration:
    """Loads prepared models side by side, so that each runs as soon as its framework is there."""

    prepared: PreparedModels
    children: Children
    progress: Callable[[str, str], None]
    _loading: dict[str, Future[_Loaded]] = field(default_factory=dict)
    """By child."""

    def begin(self, pool: Executor) -> None:
        """Load every model in a thread of `pool`, exports in their files first."""
        models = sorted(
            self.prepared.models.values(), key=lambda each: not each.subject.exported_from
        )
        self.children.start(model.subject.child for model in models)
        for model in models:
            self._loading[model.subject.child] = pool.submit(self._load, model)

    def wait(self, child: str) -> None:
        """Return once the model of a child is loaded; raises the `ParityError` of its failure."""
        if child in self._loading:
            self._loading[child].result()

    def save_export_weights(self, names: Collection[str]) -> None:
        """Let the children of the exports among `names` save the weights that their files hold."""
        for name, model in self.prepared.models.items():
            if model.subject.exported_from and name in names:
                child = self.children[model.subject.child]
                child.call("save_parameters", path=str(self.prepared.weights[name]))

    def complete(self, state: GraphState) -> GraphState:
        """Return the state with what the children said of themselves, in this run."""
        models = {name: self._complete(model) for name, model in state.models.items()}
        return replace(state, models=models, reference=self._complete(state.reference))

    def _complete(self, model: SubjectModel) -> SubjectModel:
        loaded = self._loading[model.subject.child].result()
        return replace(model, versions=loaded.versions, seconds=loaded.seconds)

    def _load(self, model: SubjectModel) -> _Loaded:
        subject = model.subject
        assert subject.reference is not None
        child = self.children[subject.child]
        self.progress(subject.name, f"starting {subject.runtime_label}")
        hello = child.hello()
        self.progress(subject.name, "building the model")
        answer: dict[str, Any] = child.call(
            "load_reference",
            reference=subject.reference.to_json(),
            trust=[],
            custom_objects=None,
        )
        if not subject.exported_from:
            child.call("load_parameters", path=str(self.prepared.weights[subject.name]))
        child.call("restore_graph", inputs=str(model.input_file), record=model.record)
        return _Loaded({**hello["versions"], "python": hello["python"]}, answer["seconds"])
