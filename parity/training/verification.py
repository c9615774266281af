"""The verification of a run: single steps in both frameworks, each from the reference's state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from parity.network.table import LayerTable
from parity.numerics.floor import REPLICATES
from parity.processes.futures import set_error_if_pending, set_result_if_pending
from parity.processes.training_requests import ObservedStepRequest, StepRequest, StepVariation
from parity.training.data.batches import BatchReader
from parity.training.optimizers import Optimizer, list_decayed, trainer_request
from parity.training.steps import (
    FLOORS,
    OtherChoices,
    StepCause,
    StepComparison,
    StepRecord,
    StepTerms,
    Values,
    compare_step,
    count_sum_terms,
    measure_least_floor,
    replace_gradients,
)

Array = NDArray[Any]

REFERENCE = "torch"
"""The framework whose state every step starts from; the maps of the optimizers are made for it."""

SUBJECT = "keras"

JUDGED_PRECISIONS = ("float32", "bfloat16")
"""The precisions in which a run's steps are judged. In float16 a unit on the other side of a kink
is too rare for five runs to show it, and none is proved: single correct steps raised an alarm."""


class Call(Protocol):
    """Calls an operation of a side's child, and returns its answer."""

    def __call__(self, side: str, operation: str, /, **arguments: Any) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class BatchSource:
    """Where a step's images are read: step `place` of `epoch`, from 0 and from 1 on."""

    reader: BatchReader
    epoch: int
    place: int


@dataclass(frozen=True)
class StepInput:
    """What a step is taken with: its number, rate and batch, and the state before it, a file.

    The others are what a subject may have confused: the learning rates of the step before and the
    step after, the factor by which a plateau reduces the rate, and where the batch comes from.
    `micro_batch_sizes` are the numbers of images of the micro-batches; () is one.
    """

    number: int
    rate: float
    images: Array
    labels: Array
    state: Path
    rate_before: float | None = None
    rate_after: float | None = None
    plateau_factor: float | None = None
    source: BatchSource | None = None
    micro_batch_sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class FailingStep:
    """A step that differs in float64, and the means to prove why.

    `rerun` takes the reference's step once more in another way.
    """

    terms: StepTerms
    framework: str
    input: StepInput
    before: Values
    expected: StepRecord
    actual: StepRecord
    comparison: StepComparison
    roles: Mapping[str, str]
    """The role of each weight: kernel, bias, gamma, beta, mean, variance."""
    table: LayerTable
    rerun: Callable[..., StepRecord]


Explain = Callable[[FailingStep], Sequence[StepCause]]


@dataclass(frozen=True)
class VerifiedStep:
    """One step, compared in float64, in float32 and, if the run is in mixed precision, in that.

    `causes` are those of a difference in float64.
    """

    number: int
    semantics: StepComparison
    numerics: StepComparison | None
    causes: tuple[StepCause, ...] = ()
    mixed: StepComparison | None = None

    @property
    def comparisons(self) -> tuple[StepComparison, ...]:
        found = (self.semantics, self.numerics, self.mixed)
        return tuple(comparison for comparison in found if comparison is not None)

    @property
    def agrees(self) -> bool:
        """Whether every part of the step agrees in every precision that was compared."""
        return all(comparison.agrees for comparison in self.comparisons)

    @property
    def is_undetermined(self) -> bool:
        """Whether the step agrees but for float32 gradients, and a hidden kink could explain these.

        It is then neither the same nor another.
        """
        numerics = self.numerics
        return (
            self.semantics.agrees
            and numerics is not None
            and not numerics.agrees
            and bool(numerics.kinks)
            and (self.mixed is None or self.mixed.agrees)
        )

    @property
    def failing(self) -> StepComparison | None:
        """The comparison that differs, float64 first."""
        return next((each for each in self.comparisons if not each.agrees), None)


class StepVerifier:
    """Compares single steps of a subject with those of the reference.

    `call` reaches the children, which hold the model; with a `pool` both sides compute at once.
    Without `numerics` the steps are compared in float64 alone. `device` is the subject's. With a
    `precision` other than float32 they are compared in that mixed precision, too.
    `hidden_kinks` are layers whose derivative jumps and whose choices no side can tell. With
    `keeps_state` the reference's record has its state after the step.
    """

    def __init__(
        self,
        table: LayerTable,
        optimizer: Optimizer,
        call: Call,
        folder: Path,
        *,
        loss: str = "cross-entropy",
        label_smoothing: float = 0.0,
        seed: int = 0,
        accumulate: int = 1,
        subject: str = SUBJECT,
        framework: str | None = None,
        pool: ThreadPoolExecutor | None = None,
        numerics: bool = True,
        replicates: int = REPLICATES,
        device: str = "cpu",
        precision: str = "float32",
        explain: Explain | None = None,
        hidden_kinks: Sequence[str] = (),
        keeps_state: bool = False,
    ) -> None:
        self._table = table
        self._optimizer = optimizer
        self._call = call
        self._folder = folder
        self._loss = loss
        self._label_smoothing = label_smoothing
        self._seed = seed
        self._accumulate = accumulate
        self._subject = subject
        self._framework = framework or subject
        self._pool = pool
        self._numerics = numerics
        self._replicates = replicates
        self._device = device
        self._precision = precision
        self._explain = explain
        self._hidden_kinks = tuple(hidden_kinks)
        self._keeps_state = keeps_state
        self.reference_record: StepRecord
        """The reference's last step in float64."""
        self._order = tuple(weight.name for _, weight in table.weights())
        self._layers = {weight.name: row.name for row, weight in table.weights()}
        self._roles = {weight.name: weight.role for _, weight in table.weights()}

    def verify(self, given: StepInput) -> VerifiedStep:
        """Compare one step."""
        np.save(self._folder / "images.npy", given.images)
        np.save(self._folder / "labels.npy", given.labels)
        observed = self._observe_all(given)
        before = safetensors.numpy.load_file(given.state)
        expected, actual = observed.expected.result(), observed.actual.result()
        self.reference_record = expected
        terms = self._build_terms(given, expected)
        semantics = compare_step(
            terms, self._framework, before=before, expected=expected, actual=actual
        )
        numerics = self._compare_narrow(terms, before, semantics, observed)
        mixed = self._compare_mixed(terms, before, observed)
        causes: Sequence[StepCause] = ()
        if not semantics.agrees and self._explain is not None:
            failing = FailingStep(
                terms, self._framework, given, before, expected, actual, semantics, self._roles,
                self._table, lambda **how: self._rerun(given, **how),
            )  # fmt: skip
            causes = self._explain(failing)
        return VerifiedStep(given.number, semantics, numerics, tuple(causes), mixed)

    def _compare_narrow(
        self, terms: StepTerms, before: Values, semantics: StepComparison, observed: _Observed
    ) -> StepComparison | None:
        """Compare the subject's float32 step; None without `numerics`."""
        narrow, floors = observed.narrow.result(), PendingFloors(observed.floors)
        if narrow is None:
            return None
        numerics = compare_step(
            terms, self._framework, before=before, expected=observed.expected.result(),
            actual=narrow, floors=floors,
        )  # fmt: skip
        proof = observed.proof.result()
        if proof is not None and any(
            e.kind == "gradient" and not e.passes for e in numerics.errors
        ):
            numerics = _try_choices(terms, numerics, narrow, floors, proof)
        if semantics.agrees and {e.kind for e in numerics.errors if not e.passes} == {"gradient"}:
            numerics = dataclasses.replace(numerics, kinks=self._hidden_kinks)
        return numerics

    def _compare_mixed(
        self, terms: StepTerms, before: Values, observed: _Observed
    ) -> StepComparison | None:
        """Compare the subject's step in mixed precision; None for a run in float32."""
        mixed, floors = observed.mixed.result(), PendingFloors(observed.mixed_floors)
        if mixed is None:
            return None
        return compare_step(
            terms, self._framework, before=before, expected=observed.expected.result(),
            actual=mixed, floors=floors, precision=self._precision,
        )  # fmt: skip

    def _observe_all(self, given: StepInput) -> _Observed:
        """Take the step on both sides, in each precision, and measure the floors.

        The subject's float32 step comes first, since the reference needs its choices.
        """
        observed = _Observed()

        def subject() -> None:
            narrow = None
            if self._numerics:
                request = self._request(given, self._subject, dtype="float32")
                narrow = self._observe(self._subject, request)
                self._call(self._subject, "save_choices", path=str(self._choices), dtype="float32")
            set_result_if_pending(observed.narrow, narrow)
            wide = self._request(given, self._subject)
            set_result_if_pending(observed.actual, self._observe(self._subject, wide))
            mixed = None
            if self._is_mixed:
                request = self._request(
                    given, self._subject, dtype="float32", precision=self._precision
                )
                mixed = self._observe(self._subject, request)
            set_result_if_pending(observed.mixed, mixed)

        def reference() -> None:
            request = self._request(given, REFERENCE)
            set_result_if_pending(observed.expected, self._observe(REFERENCE, request))
            if not self._numerics:
                set_result_if_pending(observed.floors, {})
                set_result_if_pending(observed.proof, None)
                set_result_if_pending(observed.mixed_floors, {})
                return
            observed.narrow.result()
            set_result_if_pending(observed.proof, self._prove_choices(given))
            set_result_if_pending(observed.floors, self._measure_floors(request, "float32"))
            set_result_if_pending(
                observed.mixed_floors,
                self._measure_floors(request, self._precision) if self._is_mixed else {},
            )

        tasks = [observed.guard(subject), observed.guard(reference)]
        if self._pool is None:
            for task in tasks:
                task()
        else:
            for task in tasks:
                self._pool.submit(task)
        return observed

    @property
    def _is_mixed(self) -> bool:
        return self._numerics and self._precision != "float32"

    def _measure_floors(self, request: ObservedStepRequest, precision: str) -> Mapping[str, float]:
        found: Mapping[str, float] = self._call(
            REFERENCE, "measure_step_floors", replicates=self._replicates, seed=self._seed,
            precision=precision, **request.to_json(),
        )["floors"]  # fmt: skip
        return found

    def _prove_choices(self, given: StepInput) -> ChoiceProof | None:
        """Take the reference's float64 step with the subject's choices; None if it has the same."""
        request = self._request(given, REFERENCE, choices_path=str(self._choices))
        request = dataclasses.replace(request, out_path=str(self._folder / "forced.safetensors"))
        answer = self._call(REFERENCE, "prove_choices", **request.to_json())
        if not answer["choices"]:
            return None
        return ChoiceProof(self._read_record(request, answer), answer["choices"])

    @property
    def _choices(self) -> Path:
        return self._folder / "choices.safetensors"

    def _observe(self, side: str, request: ObservedStepRequest) -> StepRecord:
        answer = self._call(side, "observe_step", **request.to_json())
        return self._read_record(request, answer)

    def _read_record(self, request: ObservedStepRequest, answer: Mapping[str, Any]) -> StepRecord:
        values = safetensors.numpy.load_file(request.out_path)
        return StepRecord(
            values, answer.get("correct", 0), answer["statistics"], frozenset(answer["weights"])
        )

    def _request(
        self, given: StepInput, side: str, *, dtype: str = "float64", suffix: str = "",
        precision: str = "float32",
        label_smoothing: float | None = None, micro_batch_sizes: tuple[int, ...] | None = None,
        **fields: Any,
    ) -> ObservedStepRequest:  # fmt: skip
        framework = self._framework if side == self._subject else side
        trainer = trainer_request(
            self._optimizer,
            framework,
            self._table,
            loss=self._loss,
            label_smoothing=self._label_smoothing if label_smoothing is None else label_smoothing,
            seed=self._seed,
            accumulate=self._accumulate,
            precision=precision,
        )
        step = StepRequest(
            str(self._folder / f"images{suffix}.npy"),
            str(self._folder / f"labels{suffix}.npy"),
            given.rate,
            self._optimizer.step_epsilon(framework, given.number),
        )
        name = dtype if precision == "float32" else precision
        out = self._folder / f"{side}-{name}{suffix}.safetensors"
        device = self._device if side == self._subject else "cpu"
        if micro_batch_sizes is None:
            micro_batch_sizes = given.micro_batch_sizes
        return ObservedStepRequest(
            trainer, step, str(given.state), given.number, str(out), dtype, device=device,
            micro_batch_sizes=micro_batch_sizes,
            keeps_state=side != REFERENCE or side == self._subject or self._keeps_state, **fields,
        )  # fmt: skip

    def _build_terms(self, given: StepInput, expected: StepRecord) -> StepTerms:
        return StepTerms(
            given.number,
            self._optimizer,
            given.rate,
            given.images,
            given.labels,
            list_decayed(self._optimizer, self._table),
            self._loss,
            self._label_smoothing,
            self._order,
            self._layers,
            count_sum_terms(self._table, len(given.labels), expected.statistics),
            given.micro_batch_sizes,
        )

    def _rerun(
        self,
        given: StepInput,
        *,
        variation: StepVariation | None = None,
        label_smoothing: float | None = None,
        images: Array | None = None,
        labels: Array | None = None,
        micro_batch_sizes: tuple[int, ...] | None = None,
    ) -> StepRecord:
        """Take the reference's float64 step in another way."""
        np.save(self._folder / "images-other.npy", given.images if images is None else images)
        np.save(self._folder / "labels-other.npy", given.labels if labels is None else labels)
        request = self._request(
            given, REFERENCE, suffix="-other", label_smoothing=label_smoothing,
            micro_batch_sizes=micro_batch_sizes, variation=variation or StepVariation(),
        )  # fmt: skip
        return self._observe(REFERENCE, request)


@dataclass(frozen=True)
class ChoiceProof:
    """The reference's float64 step with the subject's choices, where these are others.

    `choices` are the answer's of `prove_choices`, by row.
    """

    record: StepRecord
    choices: Mapping[str, Mapping[str, float]]


class PendingFloors(Mapping[str, float]):
    """Floors that are being measured; whoever reads one waits for them."""

    def __init__(self, measured: Future[Mapping[str, float]]) -> None:
        self._measured = measured

    def __getitem__(self, name: str) -> float:
        return self._measured.result()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._measured.result())

    def __len__(self) -> int:
        return len(self._measured.result())


@dataclass(frozen=True)
class _Observed:
    """What both sides compute of a step, each as soon as it is there.

    The subject's steps in float64, float32 and mixed precision, the reference's in float64, its
    floors, and its step with the subject's choices.
    """

    actual: Future[StepRecord] = field(default_factory=Future)
    narrow: Future[StepRecord | None] = field(default_factory=Future)
    expected: Future[StepRecord] = field(default_factory=Future)
    floors: Future[Mapping[str, float]] = field(default_factory=Future)
    proof: Future[ChoiceProof | None] = field(default_factory=Future)
    mixed: Future[StepRecord | None] = field(default_factory=Future)
    mixed_floors: Future[Mapping[str, float]] = field(default_factory=Future)

    def guard(self, task: Callable[[], None]) -> Callable[[], None]:
        """Return a task that gives its exception to everything that is still waited for."""

        def run() -> None:
            try:
                task()
            except BaseException as error:  # noqa: BLE001 - the waiting thread raises it
                for each in dataclasses.fields(self):
                    future = getattr(self, each.name)
                    set_error_if_pending(future, error)

        return run


def _try_choices(
    terms: StepTerms,
    numerics: StepComparison,
    narrow: StepRecord,
    floors: Mapping[str, float],
    proof: ChoiceProof,
) -> StepComparison:
    """Judge the gradients by the reference's step with the subject's choices.

    The choices count as rounding where each is as close to the kink as rounding moves it, and
    the losses agree.
    """
    if not all(e.passes for e in numerics.errors if e.kind == "samples"):
        return numerics
    # One framework's sums may be rounded far better than the other's: never less than the floor
    # by which the gradients are judged.
    least = measure_least_floor(terms)
    ratio = max(
        each["distance"] / max(each["error"], least * each["scale"], 1e-300)
        for each in proof.choices.values()
    )
    count = sum(int(each["count"]) for each in proof.choices.values())
    choices = OtherChoices(tuple(proof.choices), count, ratio)
    if not ratio <= FLOORS:
        return numerics
    forced = replace_gradients(
        terms, numerics, expected=proof.record, actual=narrow, floors=floors, choices=choices
    )
    return forced if all(e.passes for e in forced.errors if e.kind == "gradient") else numerics
