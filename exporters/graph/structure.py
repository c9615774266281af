"""The structure of a network: its traced graph, in which every weight is an input."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, ValueInfoProto

from exporters.errors import ExportError
from exporters.graph.edits import all_nodes, input_names, set_repeated_field
from exporters.graph.model import add_metadata, opset_of
from exporters.graph.serialization import atomic_path
from exporters.graph.simplification import infer_shapes

_PROPERTY = "exporters.structure"

_FORMAT = 1


@dataclass(frozen=True)
class Structure:
    """A traced graph in which every weight is an input with the weight's own name.

    `model` is a valid ONNX model of a few hundred kilobytes: its inputs are the network's inputs
    and then the weights, its outputs the network's outputs and then the taps.
    """

    model: ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    taps: tuple[str, ...]
    unused: tuple[str, ...]  # weights of the model that this graph does not read

    @property
    def opset(self) -> int:
        """The version of ONNX's operators."""
        return opset_of(self.model)

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes by name, in the framework's own layout."""
        return {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in self.weight_values()
        }

    def weight_values(self) -> Sequence[ValueInfoProto]:
        """Return the graph inputs that are weights."""
        return list(self.model.graph.input)[len(self.inputs) :]

    def save(self, path: Path | str) -> None:
        """Write to `path`, atomically and with the same bytes each time. Raises ExportError."""
        copy = ModelProto()
        copy.CopyFrom(self.model)
        names = ("inputs", "outputs", "taps", "unused")
        description = {name: list(getattr(self, name)) for name in names} | {"format": _FORMAT}
        add_metadata(copy, {_PROPERTY: json.dumps(description, sort_keys=True)})
        with atomic_path(Path(path)) as part:
            part.write_bytes(copy.SerializeToString(deterministic=True))

    @staticmethod
    def load(path: Path | str) -> Structure:
        """Read the file that `save` wrote. Raises ExportError for any other file."""
        try:
            model = onnx.load_from_string(Path(path).read_bytes())
            stored = {item.key: item.value for item in model.metadata_props}
            description = json.loads(stored[_PROPERTY])
            if description.pop("format") != _FORMAT:
                raise ExportError(f"{path}: a structure of another version; trace the model again")
            lists = {name: tuple(names) for name, names in description.items()}
            structure = Structure(model=model, **lists)
        except OSError as error:
            raise ExportError(f"{path}: cannot be read ({error.strerror})") from error
        except ExportError:
            raise
        except Exception as error:  # protobuf's DecodeError is no subclass of ValueError
            raise ExportError(f"{path}: not a saved structure; trace the model again") from error
        others = [item for item in model.metadata_props if item.key != _PROPERTY]
        set_repeated_field(model.metadata_props, others)
        return structure


def build_structure(
    model: ModelProto,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    taps: Sequence[str],
    weights: Sequence[str],
    producer: str,
    axes: Mapping[str, Mapping[int, str]] | None = None,
) -> Structure:
    """Finish a simplified graph whose outputs are `outputs` and then `taps`.

    Those of the model's `weights` that the graph reads follow its `inputs`. `axes` names the sizes
    that vary, by input; without it axis 0 of every input, and of every output whose size varies,
    is named "batch".
    """
    graph = model.graph
    read = {name for node in graph.node for name in input_names(node)}
    read |= {value.name for value in graph.output}
    by_name = {value.name: value for value in graph.input}
    used = [name for name in weights if name in read]
    set_repeated_field(graph.input, [by_name[name] for name in (*inputs, *used)])
    sizes: dict[str, str] = {}
    for value in graph.input[: len(inputs)]:
        if axes is not None:
            sizes |= _name_axes(value, axes.get(value.name, {}))
            continue
        _name_batch(value)
        for axis, dim in enumerate(value.type.tensor_type.shape.dim[1:], start=1):
            if not dim.HasField("dim_value"):
                dim.dim_param = f"{value.name}_{axis}"
    for value in graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.dim_param = sizes.get(dim.dim_param, dim.dim_param)
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
        node.ClearField("doc_string")
        del node.metadata_props[:]
    del graph.metadata_props[:]
    for value in (*graph.input, *graph.output):
        del value.metadata_props[:]
    # The graph no longer uses the other domains that a converter imported.
    domains = {node.domain for node in all_nodes(graph)} | {"", "ai.onnx"}
    imports = [item for item in model.opset_import if item.domain in domains]
    set_repeated_field(model.opset_import, imports)
    del model.functions[:]
    model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import))
    model.producer_name, model.producer_version = producer.split(" ", 1)
    del model.metadata_props[:]
    model.ClearField("doc_string")
    model = infer_shapes(model)
    for value in model.graph.output:
        if axes is None or any("batch" in named.values() for named in axes.values()):
            _name_batch(value)
    unused = tuple(name for name in weights if name not in read)
    return Structure(model, tuple(inputs), tuple(outputs), tuple(taps), unused)


def _name_axes(value: onnx.ValueInfoProto, names: Mapping[int, str]) -> dict[str, str]:
    """Name an input's sizes that vary; return the new names by the tracer's."""
    sizes = {}
    for axis, dim in enumerate(value.type.tensor_type.shape.dim):
        if axis in names:
            sizes[dim.dim_param] = names[axis]
            dim.Clear()
            dim.dim_param = names[axis]
        elif not dim.HasField("dim_value"):
            dim.dim_param = f"{value.name}_{axis}"
    return sizes


def _name_batch(value: onnx.ValueInfoProto) -> None:
    dims = value.type.tensor_type.shape.dim
    if len(dims) and not dims[0].HasField("dim_value"):
        dims[0].dim_param = "batch"
