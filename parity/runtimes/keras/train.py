"""Training of Keras models: Keras's own compiled train step, one batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from parity.errors import TrainingError, UsageError
from parity.network import kinds
from parity.network.table import LayerTable
from parity.processes.training_requests import BatchResult, StepRequest, TrainerRequest
from parity.runtimes.keras import device as keras_device
from parity.runtimes.keras import layers as keras_layers
from parity.runtimes.keras import load
from parity.runtimes.keras.run import to_tensor
from parity.runtimes.train import require_state

Array = NDArray[Any]

_WEIGHT = "weight/"
_SLOT = "slot/"
_COUNTER = "counter/step"
_RATE = "rate"

_SLOTS = {
    "SGD": {"momentum": "momentums"},
    "Adam": {"first_moment": "_momentums", "second_moment": "_velocities"},
    "AdamW": {"first_moment": "_momentums", "second_moment": "_velocities"},
    "RMSprop": {"mean_square": "_velocities", "momentum": "_momentums"},
}
"""The attributes of each optimizer that list a variable for every trainable one."""


def require_backend() -> None:
    """Raise `UsageError` unless Keras computes with TensorFlow."""
    name = keras.backend.backend()
    if name != "tensorflow":
        raise UsageError(f"keras: parity trains with the tensorflow backend, not with {name}")


def limit_threads(count: int) -> int:
    """Set TensorFlow's threads, within an operation and between them; return what it then has."""
    require_backend()
    threading = keras_device.backend().config.threading
    try:
        threading.set_intra_op_parallelism_threads(count)
        threading.set_inter_op_parallelism_threads(count)
    except RuntimeError as error:
        raise TrainingError(f"keras: the threads are fixed already: {error}") from error
    return int(threading.get_intra_op_parallelism_threads())


class KerasTrainer:
    """A compiled model: `parity.runtimes.train.Trainer`."""

    def __init__(self, model: keras.Model, table: LayerTable, request: TrainerRequest) -> None:
        require_backend()
        self._model = model
        self._classes = model.output_shape[-1]
        self._smoothed = request.label_smoothing > 0
        self._names = dict(_canonical_names(model, table))
        self._optimizer = self._create_optimizer(request)
        loss: Any
        if self._smoothed:
            loss = keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=request.label_smoothing
            )
        else:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        accuracy = "categorical_accuracy" if self._smoothed else "sparse_categorical_accuracy"
        model.compile(optimizer=self._optimizer, loss=loss, metrics=[accuracy], jit_compile=False)
        self._accuracy = accuracy
        self._functions: dict[int, tuple[Any, Any]] = {}
        self._slot_lists = _SLOTS[request.optimizer]
        self._optimizer.build(model.trainable_variables)
        self._check_slots()
        keras.utils.set_random_seed(request.seed)

    def _create_optimizer(self, request: TrainerRequest) -> Any:
        optimizer = getattr(keras.optimizers, request.optimizer)(
            **request.arguments,
            clipvalue=request.clip_value,
            global_clipnorm=request.clip_norm,
        )
        undecayed = set(request.undecayed)
        if undecayed:
            optimizer.exclude_from_weight_decay(
                var_list=[
                    variable
                    for variable in self._model.trainable_variables
                    if self._name(variable) in undecayed
                ]
            )
        return optimizer

    def _check_slots(self) -> None:
        """Raise `TrainingError` if the optimizer has variables that the state would not hold."""
        slots = sum(1 for _ in self._slots())
        others = len(self._optimizer.variables) - slots
        if others != 2:
            raise TrainingError(
                f"keras {keras.__version__}: the optimizer has {others} variables beside its "
                "slots, expected the learning rate and the number of steps"
            )

    def step(self, images: Array, labels: Array, request: StepRequest) -> BatchResult:
        if request.epsilon is not None:
            raise UsageError("keras: ε cannot change from step to step")
        self._set_learning_rate(request.learning_rate)
        self._select_functions(len(labels))
        logs = self._model.train_on_batch(to_tensor(images), self._target(labels), return_dict=True)
        return self._result(logs, len(labels))

    def evaluate(self, images: Array, labels: Array) -> BatchResult:
        self._select_functions(len(labels))
        logs = self._model.test_on_batch(to_tensor(images), self._target(labels), return_dict=True)
        return self._result(logs, len(labels))

    def _select_functions(self, count: int) -> None:
        """Use the compiled functions of batches of this size.

        TensorFlow would compile once more, for any size, when it meets a second one. A resumed run,
        which meets the last, smaller batch first, would compute with another graph.
        """
        if count not in self._functions:
            self._model.make_train_function(force=True)
            self._model.make_test_function(force=True)
            self._functions[count] = self._model.train_function, self._model.test_function
        self._model.train_function, self._model.test_function = self._functions[count]

    def _target(self, labels: Array) -> Any:
        return np.eye(self._classes, dtype=np.float32)[labels] if self._smoothed else labels

    def _result(self, logs: dict[str, Any], count: int) -> BatchResult:
        return BatchResult(float(logs["loss"]), round(float(logs[self._accuracy]) * count), count)

    def _set_learning_rate(self, rate: float) -> None:
        variable = self._optimizer._learning_rate
        before = variable.numpy()
        now = before.dtype.type(rate)
        if before == now:
            return
        variable.assign(now)
        # Keras keeps the learning rate inside SGD's momentum; its definition here is outside.
        if isinstance(self._optimizer, keras.optimizers.SGD) and self._optimizer.momentum:
            for slot in self._optimizer.momentums:
                slot.assign(slot.numpy() * (now / before))

    def _name(self, variable: Any) -> str:
        """Return the canonical name of a variable, or its path where no row lists it."""
        return self._names[id(variable)][0] if id(variable) in self._names else variable.path

    def _slots(self) -> Iterator[tuple[str, Any, Any]]:
        """Yield each slot's name, its variable, and the variable that it belongs to."""
        for slot, attribute in self._slot_lists.items():
            variables = getattr(self._optimizer, attribute, None) or []
            if variables:
                for owner, variable in zip(self._model.trainable_variables, variables, strict=True):
                    yield f"{_SLOT}{slot}/{self._name(owner)}", variable, owner

    def _state(self) -> Iterator[tuple[str, Any, Any]]:
        """Yield each tensor's name, its variable, and the variable that has its layout."""
        for variable in self._model.variables:
            yield f"{_WEIGHT}{self._name(variable)}", variable, variable
        yield from self._slots()

    def read_state(self) -> dict[str, Array]:
        values: dict[str, Array] = {}
        for name, variable, owner in self._state():
            value = np.asarray(variable)
            role = self._names[id(owner)][1] if id(owner) in self._names else None
            value = role.from_keras(value) if role is not None else value
            values[name] = np.array(value, _stored_dtype(value.dtype))
        values[_COUNTER] = np.array(self._optimizer.iterations.numpy(), np.int64)
        values[_RATE] = self._optimizer._learning_rate.numpy()
        return values

    def write_state(self, values: dict[str, Array]) -> None:
        expected = {name: value.shape for name, value in self.read_state().items()}
        require_state("keras", expected, values)
        for name, variable, owner in self._state():
            value = values[name]
            if id(owner) in self._names:
                value = self._names[id(owner)][1].to_keras(value, shape=tuple(variable.shape))
            variable.assign(np.ascontiguousarray(value).astype(variable.dtype))
        self._optimizer.iterations.assign(int(values[_COUNTER]))
        self._optimizer._learning_rate.assign(values[_RATE])


class ObservedKerasTrainer(KerasTrainer):
    """A trainer of a float64 model: `parity.runtimes.train.ObservedTrainer`."""

    def __init__(self, model: keras.Model, table: LayerTable, request: TrainerRequest) -> None:
        with load.default_dtype("float64"):
            super().__init__(model, table, request)
            self._gradients = {
                id(variable): keras.Variable(keras.ops.zeros(variable.shape), trainable=False)
                for variable in model.trainable_variables
            }
        self._observe()

    def _observe(self) -> None:
        """Make the optimizer keep the gradients that the compiled step gives it."""
        apply = self._optimizer.apply

        def keep_and_apply(gradients: Any, variables: Any = None) -> None:
            gradients, variables = list(gradients), list(variables)
            for gradient, variable in zip(gradients, variables, strict=True):
                self._gradients[id(variable)].assign(gradient)
            apply(gradients, variables)

        self._optimizer.apply = keep_and_apply

    def step(self, images: Array, labels: Array, request: StepRequest) -> BatchResult:
        # What is traced within the step asks for the default dtype, too.
        with load.default_dtype("float64"):
            return super().step(images, labels, request)

    def _is_scaled(self) -> bool:
        """Whether the slots have the learning rate inside, which the definition has outside."""
        return isinstance(self._optimizer, keras.optimizers.SGD)

    def read_gradients(self) -> dict[str, Array]:
        return {
            f"gradient/{self._name(variable)}": self._to_canonical(
                variable, self._gradients[id(variable)]
            )
            for variable in self._model.trainable_variables
        }

    def _to_canonical(self, owner: Any, variable: Any) -> Array:
        value = np.asarray(variable)
        role = self._names[id(owner)][1] if id(owner) in self._names else None
        return np.array(value if role is None else role.from_keras(value))

    def describe_statistics(self) -> dict[str, Any]:
        # Its moving variances are biased; the number of values is told by the other side.
        return {}

    def read_definition(self) -> dict[str, Array]:
        rate = float(self._optimizer._learning_rate.numpy())
        values = {}
        for name, value in self.read_state().items():
            if name.startswith(_SLOT):
                values[name] = value / -rate if self._is_scaled() else value
            elif name.startswith(_WEIGHT) and value.dtype.kind == "f":
                values[name] = value
        return values

    def write_definition(self, values: dict[str, Array], *, number: int) -> None:
        state = self.read_state()
        rate = float(state[_RATE])
        for name in state:
            if name.startswith(_SLOT):
                value = values.get(name, np.zeros_like(state[name]))
                state[name] = value * -rate if self._is_scaled() else value
            elif name in values:
                state[name] = np.array(values[name], np.float64)
        state[_COUNTER] = np.array(number - 1, np.int64)
        self.write_state(state)


def _stored_dtype(dtype: np.dtype[Any]) -> type:
    """Return the dtype in a state file: seed generators have unsigned numbers, which it has not."""
    if dtype.kind in "iu":
        return np.int64
    return np.float64 if dtype == np.float64 else np.float32


def _canonical_names(
    model: keras.Model, table: LayerTable
) -> Iterator[tuple[int, tuple[str, Any]]]:
    """Yield the identity of each variable that a row lists, its canonical name and its role."""
    for row in table.rows:
        if not (row.weights and row.keras):
            continue
        layer = keras_layers.find_layer(model, row.keras)
        by_name = {variable.name: variable for variable in layer.variables}
        for weight in row.weights:
            if weight.keras in by_name:
                role = kinds.get(row.kind).role(weight.role)
                yield id(by_name[weight.keras]), (weight.name, role)
