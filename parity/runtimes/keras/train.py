"""Training of Keras models: Keras's own compiled train step, one batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import keras
import numpy as np
from numpy.typing import NDArray

from parity.errors import TrainingError, UsageError
from parity.network import layouts
from parity.network.table import LayerTable
from parity.network.trained_layout import TrainedLayout, WeightMap
from parity.processes.training_requests import (
    BatchResult,
    StepRequest,
    StepVariation,
    TrainerRequest,
)
from parity.runtimes.keras import device as keras_device
from parity.runtimes.keras import layers as keras_layers
from parity.runtimes.keras import load
from parity.runtimes.keras.choices import CallChoices
from parity.runtimes.keras.loss_scale import StepLossScale
from parity.runtimes.keras.replicas import MixedPolicies, is_floating
from parity.runtimes.keras.run import to_tensor
from parity.runtimes.keras.variables import name_variables, raw_variable
from parity.runtimes.observed_steps import CHOOSING_KINDS, ChoiceDistances
from parity.runtimes.train import require_state

Array = NDArray[Any]

_WEIGHT = "weight/"
_SLOT = "slot/"
_COUNTER = "counter/step"
_RATE = "rate"
_SCALE = "loss_scale/scale"
_GROWTH = "loss_scale/steps"
_ACCUMULATED = "accumulated/"
"""The sum of the gradients so far, of a step whose last micro-batch is to come."""

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
    threading = keras_device.import_backend().config.threading
    try:
        threading.set_intra_op_parallelism_threads(count)
        threading.set_inter_op_parallelism_threads(count)
    except RuntimeError as error:
        raise TrainingError(f"keras: the threads are fixed already: {error}") from error
    return int(threading.get_intra_op_parallelism_threads())


class KerasTrainer:
    """A compiled model: `parity.runtimes.train.Trainer`."""

    def __init__(
        self,
        model: keras.Model,
        weight_map: WeightMap,
        request: TrainerRequest,
        *,
        classes: int | None = None,
    ) -> None:
        """`weight_map` is by the names of `variables.name_variables`.

        Variables that it lacks keep their own names. `classes` are those of a model that states no
        output shape.
        """
        require_backend()
        self._model = model
        self._device = request.device
        self._policies = (
            MixedPolicies(model, request.precision) if request.precision != "float32" else None
        )
        self._classes = model.output_shape[-1] if classes is None else classes
        self._one_hot = request.label_smoothing > 0 or request.loss != "cross-entropy"
        self._map = weight_map
        self._variables = name_variables(model)
        self._own_names = {id(variable): name for name, variable in self._variables.items()}
        self._optimizer = self._create_optimizer(request)
        self._scaler = StepLossScale(self._optimizer) if request.precision == "float16" else None
        loss = _create_loss(request)
        accuracy = "categorical_accuracy" if self._one_hot else "sparse_categorical_accuracy"
        optimizer = self._scaler or self._optimizer
        model.compile(optimizer=optimizer, loss=loss, metrics=[accuracy], jit_compile=False)
        self._accuracy = accuracy
        self._functions: dict[tuple[int, int], tuple[Any, Any]] = {}
        self._accumulate = request.accumulate
        self._is_accumulating = False
        self._slot_lists = _SLOTS[request.optimizer]
        with keras_device.device_scope(self._device):
            optimizer.build(model.trainable_variables)
        self._check_slots()

    def _create_optimizer(self, request: TrainerRequest) -> Any:
        optimizer = getattr(keras.optimizers, request.optimizer)(
            **request.arguments,
            clipvalue=request.clip_value,
            global_clipnorm=request.clip_norm,
            gradient_accumulation_steps=request.accumulate if request.accumulate > 1 else None,
        )
        no_weight_decay = self._find_variables(frozenset(request.no_weight_decay))
        if no_weight_decay:
            optimizer.exclude_from_weight_decay(
                var_list=[v for v in self._model.trainable_variables if id(v) in no_weight_decay]
            )
        if request.l2:
            self._add_l2(optimizer, request.l2, no_weight_decay)
        return optimizer

    def _find_variables(self, names: frozenset[str]) -> set[int]:
        """Return the identities of the trained variables that hold these canonical weights.

        Raises `UsageError` for one that holds others too: it cannot decay in part.
        """
        found = set()
        for variable in self._model.trainable_variables:
            own = self._own_names[id(variable)]
            held = set(self._map.names_of(own) or (own,))
            if held & names and not held <= names:
                raise UsageError(
                    f"keras: {own} holds {', '.join(sorted(held))}, of which some decay and some "
                    "do not; --decay-all decays all"
                )
            if held <= names:
                found.add(id(variable))
        return found

    def _add_l2(self, optimizer: Any, factor: float, no_weight_decay: set[int]) -> None:
        """Add `factor` times the weight to its gradient, after clipping.

        Keras decouples the weight decay of every optimizer, and a regulariser of its layers would
        come before clipping and change the loss.
        """
        clip = optimizer._clip_gradients

        def clip_and_decay(gradients: Any) -> list[Any]:
            variables = self._model.trainable_variables
            return [
                gradient
                if gradient is None or id(variable) in no_weight_decay
                else gradient + variable.value * factor
                for gradient, variable in zip(clip(gradients), variables, strict=True)
            ]

        optimizer._clip_gradients = clip_and_decay

    def _check_slots(self) -> None:
        """Raise `TrainingError` if the optimizer has variables that the state would not hold."""
        slots = sum(len(variables) for _, variables in self._slots())
        others = len(self._optimizer.variables) - slots - len(self._accumulators())
        if others != 2:
            raise TrainingError(
                f"keras {keras.__version__}: the optimizer has {others} variables beside its "
                "slots, expected the learning rate and the number of steps"
            )

    def step(self, images: Array, labels: Array, request: StepRequest) -> BatchResult:
        if request.perturbation_seed is not None:
            raise UsageError("keras: the reference's step alone has noise")
        if request.optimizer_epsilon is not None:
            raise UsageError("keras: ε cannot change from step to step")
        self._set_learning_rate(request.learning_rate)
        self._count_micro_batches(request)
        self._select_functions(len(labels), request.micro_batches)
        before = None if self._scaler is None else self._count_steps()
        with self._computing():
            logs = self._model.train_on_batch(
                to_tensor(images), self._target(labels), return_dict=True
            )
        self._is_accumulating = not request.is_last
        skipped = request.is_last and before == self._count_steps()
        return self._result(logs, len(labels), skipped=skipped)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """While open, Keras computes on the trainer's device, and in its precision."""
        policies = nullcontext() if self._policies is None else self._policies.applied()
        with keras_device.device_scope(self._device), policies:
            yield

    def _count_micro_batches(self, request: StepRequest) -> None:
        """Give Keras's optimizer the number of this step's micro-batches, and of those so far.

        It steps whenever its counter of micro-batches is a multiple of that number, which the last
        step of an epoch may have another of.
        """
        if self._accumulate == 1:
            return
        steps, number = self._count_steps(), request.micro_batches
        self._optimizer.gradient_accumulation_steps = number if number > 1 else None
        self._optimizer._iterations.assign(steps * number + request.micro_batch)

    def _count_steps(self) -> int:
        """Return the number of steps that the optimizer has taken."""
        return int(np.asarray(self._optimizer.iterations))

    def _accumulators(self) -> list[Any]:
        """Return the variables that gradients are summed in, one for every trainable one."""
        return list(self._optimizer._accumulated_gradients) if self._accumulate > 1 else []

    def evaluate(self, images: Array, labels: Array) -> BatchResult:
        self._select_functions(len(labels))
        with self._computing():
            logs = self._model.test_on_batch(
                to_tensor(images), self._target(labels), return_dict=True
            )
        return self._result(logs, len(labels))

    def read_weight_devices(self) -> dict[str, str]:
        return {
            name: str(raw_variable(variable).device) for name, variable in self._variables.items()
        }

    def _select_functions(self, count: int, micro_batches: int = 1) -> None:
        """Use the compiled functions of batches of this size, of steps of so many micro-batches.

        TensorFlow would compile once more, for any size, when it meets a second one. A resumed run,
        which meets the last, smaller batch first, would compute with another graph.
        """
        key = count, micro_batches
        if key not in self._functions:
            self._model.make_train_function(force=True)
            self._model.make_test_function(force=True)
            self._functions[key] = self._model.train_function, self._model.test_function
        self._model.train_function, self._model.test_function = self._functions[key]

    def _target(self, labels: Array) -> Any:
        return np.eye(self._classes, dtype=np.float32)[labels] if self._one_hot else labels

    def _result(self, logs: dict[str, Any], count: int, *, skipped: bool = False) -> BatchResult:
        correct = round(float(logs[self._accuracy]) * count)
        return BatchResult(float(logs["loss"]), correct, count, skipped)

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

    def _slots(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each slot's kind, and its variables by the name of the one that each belongs to."""
        names = [self._own_names[id(owner)] for owner in self._model.trainable_variables]
        for slot, attribute in self._slot_lists.items():
            variables = getattr(self._optimizer, attribute, None) or []
            if variables:
                yield slot, dict(zip(names, variables, strict=True))

    def _state(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the prefix of each kind of state, and its variables by the model's names."""
        yield _WEIGHT, self._variables
        for slot, variables in self._slots():
            yield f"{_SLOT}{slot}/", variables
        if self._is_accumulating:
            names = [self._own_names[id(owner)] for owner in self._model.trainable_variables]
            yield _ACCUMULATED, dict(zip(names, self._accumulators(), strict=True))

    def _to_canonical(self, variables: Mapping[str, Any]) -> dict[str, Array]:
        """Return the values of variables, by the model's names, as canonical weights."""
        values = {name: np.asarray(raw_variable(each)) for name, each in variables.items()}
        mapped = {name: value for name, value in values.items() if name in self._map.segments}
        own = {name: value for name, value in values.items() if name not in mapped}
        return {**self._map.to_canonical(mapped), **own}

    def read_state(self) -> dict[str, Array]:
        values: dict[str, Array] = {}
        for prefix, variables in self._state():
            for name, value in self._to_canonical(variables).items():
                # What Keras returns is a copy already.
                values[prefix + name] = np.asarray(value, _stored_dtype(value.dtype), order="C")
        values[_COUNTER] = np.array(self._count_steps(), np.int64)
        values[_RATE] = self._optimizer._learning_rate.numpy()
        if self._scaler is not None:
            values[_SCALE] = self._scaler.dynamic_scale.numpy()
            values[_GROWTH] = np.array(self._scaler.step_counter.numpy(), np.int64)
        return values

    def _describe_state(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of what `read_state` returns."""
        shapes: dict[str, tuple[int, ...]] = {}
        for prefix, variables in self._state():
            for name, variable in variables.items():
                held = self._map.names_of(name)
                own = {each: self._map.shapes[each] for each in held}
                for each, shape in (own or {name: tuple(variable.shape)}).items():
                    shapes[prefix + each] = shape
        shapes |= dict.fromkeys((_COUNTER, _RATE), ())
        if self._scaler is not None:
            shapes |= dict.fromkeys((_SCALE, _GROWTH), ())
        return shapes

    def write_state(self, values: dict[str, Array]) -> None:
        self._clear_accumulators()
        self._is_accumulating = any(name.startswith(_ACCUMULATED) for name in values) and bool(
            self._accumulators()
        )
        require_state("keras", self._describe_state(), values)
        for prefix, variables in self._state():
            self._assign(variables, _select(values, prefix))
        # The next micro-batch says how many its step has.
        self._optimizer.gradient_accumulation_steps = None
        self._optimizer._iterations.assign(int(values[_COUNTER]))
        self._optimizer._learning_rate.assign(values[_RATE])
        if self._scaler is not None:
            self._scaler.dynamic_scale.assign(values[_SCALE])
            self._scaler.step_counter.assign(int(values[_GROWTH]))

    def _assign(self, variables: Mapping[str, Any], values: Mapping[str, Array]) -> None:
        """Set variables by the canonical values that they hold."""
        for name, variable in variables.items():
            mapped = name in self._map.segments
            value = self._map.to_variable(name, values) if mapped else values[name]
            raw = raw_variable(variable)
            raw.assign(np.asarray(value, raw.dtype.as_numpy_dtype, order="C"))

    def _clear_accumulators(self) -> None:
        self._is_accumulating = False
        for accumulator in self._accumulators():
            accumulator.assign(keras.ops.zeros_like(accumulator))

    def read_canonical_state(self) -> dict[str, Array]:
        """Return `weight/NAME` and `slot/KIND/NAME` in the definition of the optimizer."""
        rate = float(self._optimizer._learning_rate.numpy())
        values = {}
        for name, value in self.read_state().items():
            if name.startswith(_SLOT):
                values[name] = value / -rate if self._is_scaled() else value
            elif name.startswith(_WEIGHT) and value.dtype.kind == "f":
                values[name] = value
        return values

    def _is_scaled(self) -> bool:
        """Whether the slots have the learning rate inside, which the definition has outside."""
        return isinstance(self._optimizer, keras.optimizers.SGD)


class ObservedKerasTrainer(KerasTrainer):
    """A trainer of a model in any dtype: `parity.runtimes.observed_steps.ObservedTrainer`."""

    def __init__(
        self,
        model: keras.Model,
        weight_map: WeightMap,
        request: TrainerRequest,
        dtype: str,
        *,
        table: LayerTable | None = None,
        layout: TrainedLayout | None = None,
    ) -> None:
        """`table` has the layers of a registered model, `layout` the points of any other."""
        self._dtype = dtype
        with load.default_dtype(dtype), keras_device.device_scope(request.device):
            super().__init__(
                model, weight_map, request, classes=None if layout is None else layout.classes
            )
            self._gradients = {
                id(variable): keras.Variable(
                    keras.ops.zeros(variable.shape), dtype=dtype, trainable=False
                )
                for variable in model.trainable_variables
            }
        self._is_from_logits = request.loss == "cross-entropy"
        # By row, and by the size of the batch; `None` are the logits.
        self._tensors: dict[tuple[str | None, int], Any] = {}
        self._count = 0
        self._applied: tuple[int, ...] = ()
        self._choosing = {} if table is None else dict(_find_choosing_layers(model, table))
        self._calls = None if layout is None else CallChoices(model, layout)
        self._observe()

    def _observe(self) -> None:
        """Make the compiled step keep its gradients, logits and choices."""
        apply = self._optimizer.apply

        def keep_and_apply(grads: Any, trainable_variables: Any = None) -> None:
            gradients, variables = list(grads), list(trainable_variables)
            # Python runs this while the step is traced, once for each size of the batch.
            self._applied = tuple(
                id(v) for g, v in zip(gradients, variables, strict=True) if g is not None
            )
            apply(gradients, variables)

        self._optimizer.apply = keep_and_apply
        clip = self._optimizer._clip_gradients

        def keep_and_clip(gradients: Any) -> Any:
            # With several micro-batches these are their mean, in a branch that the last one takes.
            for owner, gradient in zip(self._applied, gradients, strict=True):
                self._gradients[owner].assign(gradient)
            return clip(gradients)

        self._optimizer._clip_gradients = keep_and_clip
        compute_loss = self._model.compute_loss

        def keep_and_compute_loss(x: Any, y: Any, y_pred: Any, *args: Any, **options: Any) -> Any:
            # Behind a softmax Keras's cross-entropy from logits takes what the softmax was given.
            logits = getattr(y_pred, "_keras_logits", y_pred) if self._is_from_logits else y_pred
            self._keep(None, logits)
            return compute_loss(x, y, y_pred, *args, **options)

        self._model.compute_loss = keep_and_compute_loss
        for name, choosing in self._choosing.items():
            layer = choosing.layer
            layer.call = self._keep_choice(name, choosing.kind, layer.call)

    def _keep_choice(self, name: str, kind: str, call: Any) -> Any:
        def keep_and_call(inputs: Any, *args: Any, **options: Any) -> Any:
            output = call(inputs, *args, **options)
            self._keep(name, output > 0 if kind == "relu" else inputs)
            return output

        return keep_and_call

    def _keep(self, name: str | None, tensor: Any) -> None:
        variable = self._tensors.get((name, self._count))
        # Evaluation and symbolic calls keep nothing.
        if variable is not None and tuple(tensor.shape) == tuple(variable.shape):
            variable.assign(keras_device.import_backend().cast(tensor, variable.dtype))

    def _create_tensors(self, count: int) -> None:
        """Make the variables that a batch of `count` images is kept in, before it is compiled."""
        if (None, count) in self._tensors:
            return
        tf = keras_device.import_backend()
        outputs: dict[str | None, tuple[Any, str]] = {None: ((None, self._classes), self._dtype)}
        for name, choosing in self._choosing.items():
            layer = choosing.layer
            is_kink = choosing.kind == "relu"
            shape = layer.output.shape if is_kink else layer.input.shape
            outputs[name] = shape, "bool" if is_kink else self._dtype
        for key, (shape, dtype) in outputs.items():
            if None not in shape[1:]:
                zeros = tf.zeros((count, *shape[1:]), dtype)
                self._tensors[key, count] = tf.Variable(zeros, trainable=False)

    def step(self, images: Array, labels: Array, request: StepRequest) -> BatchResult:
        self._count = len(labels)
        # What is traced within the step asks for the default dtype, too.
        with load.default_dtype(self._dtype), keras_device.device_scope(self._device):
            self._create_tensors(self._count)
            with nullcontext() if self._calls is None else self._calls.open(self._count):
                return super().step(images, labels, request)

    def pass_forward(self, images: Array) -> None:
        raise NotImplementedError("the reference alone is given choices")

    def vary(self, variation: StepVariation, choices: dict[str, Array] | None = None) -> None:
        if variation != StepVariation() or choices is not None:
            raise UsageError("keras: the reference's step alone can be varied")

    def read_gradients(self) -> dict[str, Array]:
        gradients = {
            self._own_names[id(variable)]: self._gradients[id(variable)]
            for variable in self._model.trainable_variables
            if id(variable) in self._applied
        }
        found = self._to_canonical(gradients)
        return {f"gradient/{name}": np.ascontiguousarray(v) for name, v in found.items()}

    def use_running_sums(self, enabled: bool) -> None:
        """Do nothing: floors are measured with PyTorch's step."""

    def read_bias_sum_errors(self) -> dict[str, float]:
        return {}

    def read_statistics(self) -> dict[str, Array]:
        trained = {
            self._own_names[id(v)] for v in self._model.trainable_variables
        }  # fmt: skip
        names = {
            f"{_WEIGHT}{held}" for name in trained for held in self._map.names_of(name) or (name,)
        }
        return {
            name: value
            for name, value in self.read_canonical_state().items()
            if name.startswith(_WEIGHT) and name not in names
        }

    def list_weights(self) -> list[str]:
        return [
            f"{_WEIGHT}{held}"
            for name, variable in self._variables.items()
            if is_floating(variable)
            for held in self._map.names_of(name) or (name,)
        ]

    def read_biased_variances(self) -> dict[str, Array]:
        # Its moving variances are made of biased ones.
        return {}

    def read_logits(self) -> Array:
        return np.asarray(self._tensors[None, self._count])

    def read_choices(self) -> dict[str, Array]:
        found = {}
        for name, choosing in self._choosing.items():
            value = self._tensors.get((name, self._count))
            if value is None:
                continue
            if choosing.kind == "relu":
                found[name] = np.ascontiguousarray(layouts.to_nchw(np.asarray(value)))
            else:
                found[name] = choosing.find_maxima(value)
        return found if self._calls is None else self._calls.read(self._count)

    def read_omitted_dropouts(self) -> Array:
        return (
            np.zeros((0, 2))
            if self._calls is None
            else self._calls.read_omitted_dropouts(self._count)
        )

    def read_choice_input(self, row: str) -> Array:
        raise NotImplementedError("the reference alone is given choices")

    def read_choice_distances(self) -> dict[str, ChoiceDistances]:
        raise NotImplementedError("the reference alone is given choices")

    def describe_variance_updates(self) -> dict[str, Any]:
        # PyTorch's trainer counts the values.
        return {}

    def write_canonical_state(self, values: dict[str, Array], *, number: int) -> None:
        factor = -float(self._optimizer._learning_rate.numpy()) if self._is_scaled() else 1.0
        self._clear_accumulators()
        for prefix, variables in self._state():
            own = _select(values, prefix)
            if prefix.startswith(_SLOT):
                # A slot that the definition has not yet is zero.
                own = {
                    name: np.asarray(own.get(name, np.zeros(shape)), self._dtype) * factor
                    for name, shape in _select(self._describe_state(), prefix).items()
                }
            known = {n: v for n, v in variables.items() if self._holds(n, own)}
            self._assign(known, own)
        self._optimizer.gradient_accumulation_steps = None
        self._optimizer._iterations.assign(number - 1)

    def _holds(self, variable: str, values: Mapping[str, Array]) -> bool:
        """Whether what a variable holds is among canonical values."""
        return all(name in values for name in self._map.names_of(variable) or (variable,))


@dataclass(frozen=True)
class _ChoosingLayer:
    """A layer whose derivative jumps; `crop` is what a layer before it pads: top, bottom, …"""

    kind: str
    layer: Any
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)

    def find_maxima(self, inputs: Any) -> Array:
        """Return the place of each maximum (N, C, h, w) in the flat planes without padding.

        Padding that is the maximum is as large as the values beside it, or they are cut by a ReLU.
        """
        tf, pool = keras_device.import_backend(), self.layer
        places = tf.nn.max_pool_with_argmax(
            inputs, pool.pool_size, pool.strides, pool.padding.upper()
        )[1].numpy()
        _, height, width, channels = inputs.shape
        y, x = np.divmod(places // channels, width)
        top, bottom, left, right = self.crop
        y = np.clip(y - top, 0, height - top - bottom - 1)
        x = np.clip(x - left, 0, width - left - right - 1)
        return np.ascontiguousarray(layouts.to_nchw(y * (width - left - right) + x))


def _find_choosing_layers(
    model: keras.Model, table: LayerTable
) -> Iterator[tuple[str, _ChoosingLayer]]:
    """Yield each row whose derivative jumps, and its layer; layers that are called once."""
    for before, row in zip((None, *table.rows), table.rows, strict=False):
        if row.kind not in CHOOSING_KINDS or not row.in_both_models or "#" in row.keras:
            continue
        layer = keras_layers.find_layer(model, row.keras)
        if row.kind == "relu" and isinstance(layer, keras.layers.ReLU | keras.layers.Activation):
            yield row.name, _ChoosingLayer(row.kind, layer)
        elif isinstance(layer, keras.layers.MaxPooling2D):
            crop = (0, 0, 0, 0)
            if before is not None and before.kind == "pad" and not before.torch:
                padding = keras_layers.find_layer(model, before.keras).padding
                crop = (*padding[0], *padding[1])
            yield row.name, _ChoosingLayer(row.kind, layer, crop)


def _create_loss(request: TrainerRequest) -> Any:
    """Return the loss of `parity.numerics.losses`."""
    losses = keras.losses
    if request.loss == "mean-squared-error":
        return losses.MeanSquaredError()
    from_logits, smoothing = request.loss == "cross-entropy", request.label_smoothing
    if from_logits and not smoothing:
        return losses.SparseCategoricalCrossentropy(from_logits=True)
    # With class indices Keras does not divide probabilities by their sum.
    return losses.CategoricalCrossentropy(from_logits=from_logits, label_smoothing=smoothing)


_Value = TypeVar("_Value")


def _select(values: Mapping[str, _Value], prefix: str) -> dict[str, _Value]:
    """Return the values whose names begin with a prefix, without it."""
    return {n.removeprefix(prefix): value for n, value in values.items() if n.startswith(prefix)}


def _stored_dtype(dtype: np.dtype[Any]) -> type:
    """Return the dtype in a state file: seed generators have unsigned numbers, which it has not."""
    if dtype.kind in "iu":
        return np.int64
    return np.float64 if dtype == np.float64 else np.float32
