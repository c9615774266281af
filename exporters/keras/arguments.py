"""The arguments and results of a Keras model's call: their structure, names, order and types."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from exporters.errors import ExportError, first_few
from exporters.graph.model import Array
from exporters.keras import structures
from exporters.keras.reasons import describe_error


@dataclass(frozen=True)
class Argument:
    """One input of the graph. `shape`: None where a size varies; `guessed`: its type is not known.

    A model that is not functional remembers the shapes of its first call, but not the types.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    guessed: bool = False


@dataclass(frozen=True)
class Arguments:
    """The inputs of a model's call in the graph's order, and how they are passed.

    `positional` and `keywords` are structures with the input's index at each leaf.
    """

    leaves: tuple[Argument, ...]
    positional: tuple[Any, ...]
    keywords: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the inputs, in the graph's order."""
        return tuple(leaf.name for leaf in self.leaves)

    def pack(self, tensors: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the positional and keyword arguments of a call with these tensors."""

        def fill(structure: Any) -> Any:
            return structures.map_leaves(lambda index: tensors[index], structure)

        return [fill(item) for item in self.positional], {
            name: fill(item) for name, item in self.keywords.items()
        }

    def call(self, model: keras.Model, tensors: Sequence[Any]) -> Any:
        """Call the model in inference mode."""
        positional, keywords = self.pack(tensors)
        return model(*positional, **keywords, **inference_keywords(model))

    def arrays_of(self, sample: Any) -> list[Array]:
        """Return the arrays of a sample in the graph's order.

        A sample is one array per input (for one input also the array itself), a dictionary by the
        inputs' names, or has the structure of the call's arguments. Raises ExportError.
        """
        whole: Any
        if isinstance(sample, Mapping) and sample.keys() == set(self.names):
            sample = [sample[name] for name in self.names]
        elif isinstance(sample, Mapping) or (
            structures.is_container(sample) and any(map(structures.is_container, _items(sample)))
        ):
            first = self.positional[0] if self.positional else None
            for whole in (self.positional, first, self.keywords or None):
                if whole is not None and structures.same_structure(whole, sample):
                    sample = _in_order(whole, sample)
                    break
            else:
                raise ExportError(
                    f"sample: expected one array for each of {', '.join(self.names)},"
                    f" found {_describe(sample)}"
                )
        arrays = [_to_array(leaf) for leaf in structures.flatten(sample)]
        if len(arrays) != len(self.leaves):
            raise ExportError(
                f"sample: expected {len(self.leaves)} arrays ({', '.join(self.names)}),"
                f" found {len(arrays)}"
            )
        return arrays


def read_arguments(model: keras.Model, signature: Any = None, sample: Any = None) -> Arguments:
    """Return a model's inputs. Raises ExportError.

    `signature`: a structure of `tf.TensorSpec`, `keras.KerasTensor` or `keras.InputSpec`, with None
    for sizes that vary: a tuple holds the positional arguments (of a model that is not functional),
    anything else is the only argument. Without one, a functional model's own inputs are taken, else
    the shapes that the model was first called with, and the types of `sample`, where it is given.
    """
    if signature is not None:
        return _from_signature(model, signature)
    functional = getattr(model, "_functional", None) or model
    structure = getattr(functional, "_inputs_struct", None)
    if structure is not None:
        return _from_leaves(model, (structure,), {}, _read_tensor, functional=True)
    return _from_first_call(model, sample)


def build(model: keras.Model, example: Any) -> None:
    """Call a model that has no weights yet on an example. Raises ExportError."""
    if model.built:
        return
    try:
        if isinstance(example, tuple):
            model(*example)
        elif isinstance(example, Mapping) and example.keys() <= set(_parameters(model)):
            model(**example)
        else:
            model(example)
    except Exception as error:  # whatever a layer's own call raises
        raise ExportError(
            f"{model.name} does not run on its example: {describe_error(error)}"
        ) from error


def build_layers(model: keras.Model, arguments: Arguments) -> None:
    """Call a model once, on zeros, if a layer in it has no weights yet.

    Keras takes a recurrent layer's cell for built where its own layers are not. A layer that no
    call reaches stays as it is, and a call that fails shows when the model is traced.
    """
    if all(layer.built for layer in model._flatten_layers()):
        return
    for size in _SIZES:
        tensors = [
            tf.zeros(
                [(size if axis else 2) if known is None else known for axis, known in shape], dtype
            )
            for shape, dtype in ((enumerate(leaf.shape), leaf.dtype) for leaf in arguments.leaves)
        ]
        with contextlib.suppress(Exception):  # whatever a layer's own call raises
            arguments.call(model, tensors)
            return


_SIZES = (8, 32, 128)
"""Sizes to try, of axes that vary beside the batch."""


def resize(
    model: keras.Model,
    arguments: Arguments,
    shapes: Mapping[str, Sequence[int]],
    dynamic: Mapping[str, Sequence[int]],
    *,
    fixed_batch: bool,
) -> Any:
    """Return the signature of a call with other sizes; see `read_arguments`.

    `shapes`: by input, every size, the batch first. `dynamic`: by input, the axes that vary. With
    `fixed_batch` the batch is that of the shape, else of the model, else 1. Raises ExportError.
    """
    for option, given in (("shapes", shapes), ("dynamic", dynamic)):
        unknown = sorted(set(given) - set(arguments.names))
        if unknown:
            raise ExportError(
                f"{option}: no input is called {unknown[0]!r}; there are"
                f" {', '.join(arguments.names)}"
            )
    if arguments.keywords:
        raise ExportError("shapes, dynamic, fixed_batch: give signature= for this model")
    specs = [
        _resize_leaf(
            leaf, shapes.get(leaf.name), dynamic.get(leaf.name, ()), fixed_batch=fixed_batch
        )
        for leaf in arguments.leaves
    ]
    positional, _ = arguments.pack(specs)
    return positional[0] if _is_functional(model) else tuple(positional)


def _resize_leaf(
    leaf: Argument, shape: Sequence[int] | None, dynamic: Sequence[int], *, fixed_batch: bool
) -> keras.InputSpec:
    rank = len(leaf.shape)
    if shape is not None and len(shape) != rank:
        raise ExportError(
            f"shapes: {leaf.name!r} has {rank} axes {list(leaf.shape)}, found {list(shape)}"
        )
    for axis in dynamic:
        if not -rank <= axis < rank:
            raise ExportError(f"dynamic: {leaf.name!r} has {rank} axes, no axis {axis}")
    sizes: list[int | None] = list(leaf.shape if shape is None else shape)
    if rank:
        sizes[0] = (sizes[0] or 1) if fixed_batch else (leaf.shape[0] and sizes[0])
    for axis in dynamic:
        sizes[axis] = None
    return keras.InputSpec(shape=tuple(sizes), dtype=leaf.dtype, name=leaf.name)


def inference_keywords(model: keras.Model) -> dict[str, bool]:
    """Return the keyword for inference, for a model whose call takes it."""
    has_training = "training" in inspect.signature(model.call).parameters
    return {"training": False} if has_training else {}


def arrange(
    names: Sequence[str], given: Sequence[str] | None, kind: str, model: keras.Model
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the names to give to a model's inputs or outputs, and the order they are taken in.

    Where `given` are the model's own `names`, each keeps its tensor and they come in the order
    given; other names are given in the model's order. Raises ExportError for a wrong count.
    """
    order = tuple(range(len(names)))
    given = check_names(given, kind)
    if not given:
        return tuple(names), order
    if len(given) != len(names):
        raise ExportError(
            f"{model.name} has {len(names)} {kind} ({first_few(list(names))}),"
            f" {len(given)} names given"
        )
    if set(given) == set(names):
        return given, tuple(names.index(name) for name in given)
    known = set(given) & set(names)
    if known and any(names[i] != name for i, name in enumerate(given) if name in known):
        raise ExportError(
            f"{kind}: {sorted(known)[0]!r} is another {kind[:-1]}'s name in {model.name}, whose"
            f" {kind} are {first_few(list(names))}; give all of them, or other names"
        )
    return given, order


def check_names(given: object, kind: str) -> tuple[str, ...]:
    """Return names that a caller gave, as a tuple. Raises ExportError for anything else."""
    if given is None:
        return ()
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        names = tuple(given)
        if all(isinstance(name, str) and name for name in names):
            return names
    raise ExportError(f"{kind}: expected a list of names, found {given!r}"[:200])


def result_names(model: keras.Model, results: Any) -> tuple[str, ...]:
    """Return a name for each tensor of a model's result: its keys, or the model's own names."""
    leaves = [keys for keys, _ in structures.named_leaves(results)]
    if any(not key.isdigit() for keys in leaves for key in keys):
        names = [structures.join(keys) for keys in leaves]
        prefix = "output_"
        return unique_names([prefix + name if name[0].isdigit() else name for name in names])
    names = list(getattr(model, "output_names", None) or [])
    if len(names) != len(leaves):
        one = len(leaves) == 1
        names = ["output"] if one else [f"output_{structures.join(keys)}" for keys in leaves]
    return unique_names(names)


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Add _1, _2, … to names that occur again, in order."""
    taken = set(names)
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        count = seen.get(name, 0)
        new = name
        while count and (new := f"{name}_{count}") in taken:
            count += 1
        seen[name] = count + 1
        taken.add(new)
        distinct.append(new)
    return tuple(distinct)


def _from_leaves(
    model: keras.Model,
    positional: tuple[Any, ...],
    keywords: Mapping[str, Any],
    read: Callable[[tuple[str, ...], Any], Argument],
    *,
    is_leaf: Callable[[Any], bool] | None = None,
    functional: bool = False,
) -> Arguments:
    """Index the leaves of the arguments, and name them."""
    leaves: list[Argument] = []

    def index(structure: Any, prefix: tuple[str, ...]) -> Any:
        keys = iter([(*prefix, *keys) for keys, _ in structures.named_leaves(structure, is_leaf)])

        def add(leaf: Any) -> int:
            leaves.append(read(next(keys), leaf))
            return len(leaves) - 1

        return structures.map_leaves(add, structure, is_leaf)

    # A dictionary that is the only argument names its tensors alone.
    alone = not keywords and len(positional) == 1 and isinstance(positional[0], Mapping)
    parameters = [] if functional or alone else _parameters(model)
    prefixes = [tuple(parameters[i : i + 1]) for i in range(len(positional))]
    indexed = tuple(index(item, p) for item, p in zip(positional, prefixes, strict=True))
    named = {name: index(item, (name,)) for name, item in keywords.items()}
    if not leaves:
        raise ExportError(f"{model.name} has no inputs")
    return Arguments(_name_leaves(leaves, positional, keywords), indexed, named)


def _name_leaves(
    leaves: Sequence[Argument], positional: Sequence[Any], keywords: Mapping[str, Any]
) -> tuple[Argument, ...]:
    """Name what has no name: `input`, or `input_0`, …; and make the names differ."""
    default = "input" if len(leaves) == 1 else "input_{}"
    alone = len(leaves) == 1 and not keywords and not structures.is_container(positional[0])
    names = [
        default.format(i) if not leaf.name or (alone and leaf.guessed) else leaf.name
        for i, leaf in enumerate(leaves)
    ]
    return tuple(
        replace(leaf, name=name) for leaf, name in zip(leaves, unique_names(names), strict=True)
    )


def _read_tensor(keys: tuple[str, ...], tensor: Any) -> Argument:
    """Read a KerasTensor of a functional model; a dictionary's key is its name."""
    keyed = [key for key in keys if not key.isdigit()]
    # Keras numbers unnamed inputs globally, so one model built twice has different names.
    own = "" if tensor.name.startswith("keras_tensor") else tensor.name
    name = structures.join(keys) if keyed else own
    return Argument(name, tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype))


def _is_functional(model: keras.Model) -> bool:
    return hasattr(getattr(model, "_functional", None) or model, "_inputs_struct")


def _from_signature(model: keras.Model, signature: Any) -> Arguments:
    def read(keys: tuple[str, ...], spec: Any) -> Argument:
        shape = getattr(spec, "shape", None)
        if isinstance(shape, tf.TensorShape) and shape.rank is None:
            shape = None
        if shape is None or tf.is_tensor(spec) or isinstance(spec, np.ndarray):
            raise ExportError(
                f"signature: expected tensor specs with a shape, found {_describe(spec)};"
                ' use keras.InputSpec(shape=(None, 8), dtype="float32"); arrays go to sample='
            )
        dtype = getattr(spec, "dtype", None) or "float32"
        dtype = dtype.name if isinstance(dtype, tf.DType) else str(dtype)
        own = getattr(spec, "name", None) or ""
        name = own if own and not own.startswith("keras_tensor") else structures.join(keys)
        return Argument(name, tuple(shape), dtype)

    functional = _is_functional(model)
    positional = signature if isinstance(signature, tuple) and not functional else (signature,)
    _check_count(model, len(positional))
    return _from_leaves(model, tuple(positional), {}, read, functional=functional)


def _from_first_call(model: keras.Model, sample: Any) -> Arguments:
    """Take the shapes of the model's first call, and the types of a sample."""
    shapes = getattr(model, "_build_shapes_dict", None)
    if not model.built:
        raise ExportError(f"{model.name} has no weights yet: call it once on a batch")
    if not shapes:
        if sample is not None:
            return _from_sample(model, sample)
        raise ExportError(
            f"Keras does not know the shape of the inputs of {model.name}: give signature=, or an"
            " example of the arguments as sample="
        )
    parameters = _parameters(model)
    if sample is not None and _count_arguments(sample, parameters) > len(shapes):
        return _from_sample(model, sample)
    missing = _required(model)[len(shapes) :]
    if missing:
        # Keras remembers the first argument's shape alone.
        if sample is None:
            raise ExportError(
                f"{model.name} takes {', '.join(_required(model))}, and Keras does not remember the"
                f" shape of {first_few(missing)}: give signature=, or an example of the arguments"
                " as sample="
            )
        return _from_sample(model, sample)
    keywords = {
        name: shape
        for index, (key, shape) in enumerate(shapes.items())
        for name in [_parameter_of(key, index, parameters)]
    }
    positional: list[Any] = []
    while len(positional) < len(parameters) and parameters[len(positional)] in keywords:
        positional.append(keywords.pop(parameters[len(positional)]))

    def read(keys: tuple[str, ...], shape: Any) -> Argument:
        dtype = keras.backend.standardize_dtype(model.input_dtype or model.compute_dtype)
        return Argument(structures.join(keys), (None, *shape[1:]), dtype, guessed=True)

    arguments = _from_leaves(model, tuple(positional), keywords, read, is_leaf=_is_shape)
    if sample is None:
        return arguments
    arrays = arguments.arrays_of(sample)
    typed = [
        replace(leaf, dtype=array.dtype.name, guessed=False)
        for leaf, array in zip(arguments.leaves, arrays, strict=True)
    ]
    return replace(arguments, leaves=tuple(typed))


def _count_arguments(sample: Any, parameters: Sequence[str]) -> int:
    """Return how many of a call's arguments a sample has, 0 where it has another structure."""
    by_name = isinstance(sample, Mapping) and sample.keys() <= set(parameters)
    in_order = isinstance(sample, (list, tuple)) and len(sample) <= len(parameters)
    return len(sample) if by_name or in_order else 0


def _from_sample(model: keras.Model, sample: Any) -> Arguments:
    """Take the structure, shapes and types of a sample: arguments in order, or by name."""
    parameters = _parameters(model)
    positional: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = {}
    if not structures.is_container(sample) and len(_required(model)) <= 1:
        positional = (sample,)
    elif isinstance(sample, Mapping) and sample.keys() <= set(parameters):
        keywords = sample
    elif isinstance(sample, (list, tuple)) and len(sample) <= len(parameters):
        positional = tuple(sample)
    else:
        raise ExportError(
            f"sample: expected the arguments of {model.name}, {', '.join(parameters)},"
            f" found {_describe(sample)}"
        )

    def read(keys: tuple[str, ...], leaf: Any) -> Argument:
        array = _to_array(leaf)
        return Argument(structures.join(keys), (None, *array.shape[1:]), array.dtype.name)

    return _from_leaves(model, positional, keywords, read)


def _required(model: keras.Model) -> list[str]:
    """Return the parameters of the model's call that have no default."""
    found = inspect.signature(model.call).parameters
    empty = inspect.Parameter.empty
    return [n for n in _parameters(model) if n in found and found[n].default is empty]


def _parameters(model: keras.Model) -> list[str]:
    """Return the names of the parameters of the model's call that can be given by position.

    Keras fills in `training`, and a mask that has a default.
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(model.call).parameters.values()
    names = [
        p.name
        for p in found
        if p.kind in kinds and p.name != "training" and (p.name != "mask" or p.default is p.empty)
    ]
    return names or ["input"]


def _parameter_of(key: str, index: int, parameters: Sequence[str]) -> str:
    name = key.removesuffix("_shape")
    if name in parameters or index >= len(parameters):
        return name
    return parameters[index]  # the name is that of an own `build`


def _check_count(model: keras.Model, count: int) -> None:
    if count > len(_parameters(model)):
        raise ExportError(
            f"signature: {model.name} takes {len(_parameters(model))} arguments"
            f" ({', '.join(_parameters(model))}), {count} given"
        )


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(item is None or isinstance(item, int) for item in value)


def _items(value: Any) -> Iterable[Any]:
    return (item for _, item in structures.children(value))


def _in_order(indices: Any, values: Any) -> list[Any]:
    """Return the leaves of `values` by the index that a structure like it has at each."""
    found = dict(_pairs(indices, values))
    return [found[index] for index in sorted(found)]


def _pairs(indices: Any, values: Any) -> Iterable[tuple[int, Any]]:
    if structures.is_container(indices):
        keyed = dict(structures.children(values))
        for key, item in structures.children(indices):
            yield from _pairs(item, keyed[key])
    elif indices is not None:
        yield indices, values


def _to_array(value: Any) -> Array:
    if isinstance(value, (str, bytes)):
        raise ExportError(f"sample: {value!r} is no array"[:200])
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever a tensor's own conversion raises
        raise ExportError(f"sample: {_describe(value)} is no array") from error
    known = array.dtype.kind in "biufSU" or array.dtype.name == "bfloat16"
    if not known and not (array.ndim and all(isinstance(v, (str, bytes)) for v in array.flat)):
        raise ExportError(f"sample: {_describe(value)} is no array of numbers")
    return array


def _describe(value: Any) -> str:
    if structures.is_container(value):
        kinds = ", ".join(type(item).__name__ for item in _items(value))
        return f"a {type(value).__name__} of {kinds or 'nothing'}"
    return f"{type(value).__name__}"
