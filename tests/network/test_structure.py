"""The check of structure: each mistake gives its own difference, and only that one stands alone."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest

from parity.errors import TableError
from parity.network import architectures, structure
from parity.network.structure import Difference
from parity.network.table import LayerTable, Row

Description = dict[str, Any]


def describe(table: LayerTable, subject: str) -> Description:
    """What a faithful model of the table says of itself, with made-up hyperparameters."""
    layers = []
    for row in table.rows:
        name = row.keras if subject == "keras" else row.torch
        if not name:
            continue
        kernel = next((weight for weight in row.weights if weight.role == "kernel"), None)
        hyper: dict[str, Any] = {}
        if row.kind == "conv" and kernel is not None:
            hyper = {
                "kernel": list(kernel.shape[2:]),
                "stride": [1, 1],
                "padding": [[1, 1], [1, 1]],
                "in": 64,
                "out": kernel.shape[0],
                "bias": False,
                "activation": "linear",
            }
        elif row.kind == "dense":
            hyper = {"in": 512, "out": row.shape[0], "bias": True}
        elif row.kind == "batch_norm":
            hyper = {"epsilon": 1e-5}
        layers.append(
            {
                "row": row.name,
                "name": name,
                "kind": row.kind,
                "class": row.kind.title(),
                "shape": list(row.shape),
                "hyper": hyper,
                "parameters": row.parameters,
            }
        )
    return {"layers": layers, "parameters": table.parameters}


TABLE = architectures.get("resnet18", classes=10, image_size=(64, 64)).table()
SOUND = {subject: describe(TABLE, subject) for subject in ("keras", "torch")}


@pytest.fixture
def models() -> dict[str, Description]:
    return copy.deepcopy(SOUND)


def layer(model: Description, row: str) -> dict[str, Any]:
    return next(entry for entry in model["layers"] if entry["row"] == row)


def drop(model: Description, name: str) -> None:
    """Take out a row, or every row of a block or stage."""
    gone = [entry for entry in model["layers"] if f"{entry['row']}.".startswith(f"{name}.")]
    model["layers"] = [entry for entry in model["layers"] if entry not in gone]
    model["parameters"] -= sum(entry["parameters"] for entry in gone)


def causes(table: LayerTable, models: dict[str, Description]) -> list[Difference]:
    """The differences that are nobody's consequence."""
    found = structure.find_differences(table, models)
    assert all("\n" not in item.message for item in found)
    return [item for item in found if not item.consequence]


def only(table: LayerTable, models: dict[str, Description]) -> Difference:
    (found,) = causes(table, models)
    return found


@pytest.mark.parametrize("name", architectures.names())
def test_faithful_models_do_not_differ(name: str) -> None:
    table = architectures.get(name).table()
    assert (
        structure.find_differences(table, {s: describe(table, s) for s in ("keras", "torch")}) == []
    )


def test_one_model_can_be_checked_alone(models: dict[str, Description]) -> None:
    del models["torch"]
    assert structure.find_differences(TABLE, models) == []


def test_passive_layers_are_no_difference(models: dict[str, Description]) -> None:
    for kind in ("input", "identity", "dropout", "flatten"):
        models["torch"]["layers"].append(
            {**layer(models["torch"], "pool"), "row": None, "name": kind, "kind": kind}
        )
    assert structure.find_differences(TABLE, models) == []


@pytest.mark.parametrize("subject", ["keras", "torch"])
def test_missing_layer_is_one_difference(models: dict[str, Description], subject: str) -> None:
    row = "stage2.block0.conv2"
    drop(models[subject], row)
    found = only(TABLE, models)
    assert (found.row, found.subject, found.field, found.found) == (row, subject, "layer", None)
    name = {"keras": "conv3_block1_2_conv", "torch": "layer2.0.conv2"}[subject]
    assert found.expected == name
    assert found.message == f"{row}: {subject} has no conv {name!r}"
    assert {item.row for item in structure.find_differences(TABLE, models)} == {row, ""}


def test_missing_block_is_one_difference(models: dict[str, Description]) -> None:
    drop(models["torch"], "stage2.block1")
    found = only(TABLE, models)
    assert (found.row, found.expected, found.found) == ("stage2.block1", 7, 0)
    assert found.message == "stage2.block1: torch has none of its 7 layers"


def test_missing_stage_is_one_difference(models: dict[str, Description]) -> None:
    drop(models["keras"], "stage3")
    assert only(TABLE, models).row == "stage3"


def test_another_model_is_one_difference(models: dict[str, Description]) -> None:
    for entry in models["torch"]["layers"]:
        entry["row"] = None
    found = only(TABLE, models)
    assert found.row == ""
    assert "is it this model?" in found.message


def test_renamed_layer_is_one_difference(models: dict[str, Description]) -> None:
    entry = layer(models["keras"], "stage2.block0.conv2")
    entry["row"], entry["name"] = None, "conv3_block1_2_convolution"
    found = only(TABLE, models)
    assert found.row == "stage2.block0.conv2"
    assert "'conv3_block1_2_convolution' is of its kind and shape" in found.message
    assert structure.find_differences(TABLE, models) == [found]


def test_extra_layer(models: dict[str, Description]) -> None:
    extra = {**layer(models["torch"], "stem.conv"), "row": None, "name": "extra", "class": "Conv2d"}
    models["torch"]["layers"].append(extra)
    found = only(TABLE, models)
    assert (found.subject, found.field, found.expected, found.found) == (
        "torch", "layer", None, "extra",
    )  # fmt: skip
    assert found.message == "torch has a layer that is not in the table: 'extra' (Conv2d)"


def test_mistyped_layer_hides_its_details(models: dict[str, Description]) -> None:
    entry = layer(models["keras"], "stem.pool")
    entry |= {"kind": "avg_pool", "class": "AveragePooling2D", "hyper": {"stride": [3, 3]}}
    found = only(TABLE, models)
    assert (found.field, found.expected, found.found) == ("kind", "max_pool", "avg_pool")
    assert "expected a max_pool, found a avg_pool (AveragePooling2D" in found.message


@pytest.mark.parametrize(
    ("row", "field", "value"),
    [
        ("stage2.block0.conv1", "stride", [2, 2]),
        ("stage2.block0.conv1", "padding", [[0, 1], [0, 1]]),
        ("stage2.block0.conv1", "bias", True),
        ("stage2.block0.conv1", "activation", "relu"),
        ("stage2.block0.bn1", "epsilon", 1.001e-5),
    ],
)
def test_hyperparameters(models: dict[str, Description], row: str, field: str, value: Any) -> None:
    layer(models["keras"], row)["hyper"][field] = value
    found = only(TABLE, models)
    expected = layer(models["torch"], row)["hyper"][field]
    assert (found.row, found.subject, found.field) == (row, "keras", field)
    assert (found.expected, found.found) == (expected, value)
    assert f"{row}: {field} is " in found.message


@pytest.mark.parametrize("subject", ["keras", "torch"])
def test_an_optional_field_is_compared_only_where_both_state_it(subject: str) -> None:
    """A function that a PyTorch model calls says nothing of itself."""
    table = LayerTable((Row("up", "up", "upsample", "up", "up"),))
    models = {name: describe(table, name) for name in ("keras", "torch")}
    layer(models[subject], "up")["hyper"] = {"scale": [2.0, 2.0], "mode": "nearest"}
    assert structure.find_differences(table, models) == []
    other = "torch" if subject == "keras" else "keras"
    layer(models[other], "up")["hyper"] = {"scale": [2, 2]}
    assert structure.find_differences(table, models) == []
    layer(models[other], "up")["hyper"] = {"scale": [2, 2], "mode": "bilinear"}
    found = only(table, models)
    assert (found.row, found.field) == ("up", "mode")


def test_float32_rounding_and_tuples_are_no_difference(models: dict[str, Description]) -> None:
    layer(models["keras"], "stem.bn")["hyper"]["epsilon"] = 9.99999974e-06
    layer(models["keras"], "stem.conv")["hyper"]["padding"] = ((1, 1), (1, 1))
    assert structure.find_differences(TABLE, models) == []


@pytest.mark.parametrize("subject", ["keras", "torch"])
def test_a_field_that_one_side_does_not_state(models: dict[str, Description], subject: str) -> None:
    del layer(models[subject], "stem.conv")["hyper"]["bias"]
    assert f"not stated in {subject}" in only(TABLE, models).message
    layer(models[subject], "stem.conv")["hyper"].clear()
    found = only(TABLE, models)
    assert found.field == "hyper"
    assert f"{subject} does not state kernel, stride, padding" in found.message


@pytest.mark.parametrize("subject", ["keras", "torch"])
def test_stride_explains_every_shape_after_it(models: dict[str, Description], subject: str) -> None:
    """The wrong model is the one whose shape is not the table's, be it the reference or not."""
    start = "stage2.block0.conv1"
    layer(models[subject], start)["hyper"]["stride"] = [7, 7]
    names = [entry["row"] for entry in models[subject]["layers"]]
    for name in names[names.index(start) :]:
        if len(shape := layer(models[subject], name)["shape"]) == 3:
            shape[1:] = [1, 3]
    everything = structure.find_differences(TABLE, models)
    assert len(everything) > 20
    found = only(TABLE, models)
    assert (found.row, found.subject, found.field) == (start, subject, "stride")
    assert (found.expected, found.found) == ([1, 1], [7, 7])


def test_width_explains_what_follows(models: dict[str, Description]) -> None:
    conv, norm, after = (
        layer(models["keras"], f"stage1.block0.{name}") for name in ("conv1", "bn1", "conv2")
    )
    conv["hyper"]["out"] = conv["shape"][0] = norm["shape"][0] = after["hyper"]["in"] = 32
    for entry in (conv, norm, after):
        entry["parameters"] //= 2
        models["keras"]["parameters"] -= entry["parameters"]
    found = only(TABLE, models)
    assert (found.row, found.field) == ("stage1.block0.conv1", "out")
    fields = {(item.row, item.field) for item in structure.find_differences(TABLE, models)}
    assert ("stage1.block0.conv2", "in") in fields
    assert ("stage1.block0.bn1", "parameters") in fields
    assert ("", "parameters") in fields


def test_missing_padding_layer_explains_the_padding(models: dict[str, Description]) -> None:
    drop(models["keras"], "stem.conv_pad")
    layer(models["keras"], "stem.conv")["hyper"]["padding"] = [[0, 0], [0, 0]]
    layer(models["keras"], "stem.conv")["shape"][1:] = [29, 29]
    found = only(TABLE, models)
    assert (found.row, found.subject, found.field) == ("stem.conv_pad", "keras", "layer")
    layer(models["keras"], "stage1.block0.conv1")["hyper"]["padding"] = [[0, 0], [0, 0]]
    assert len(causes(TABLE, models)) == 2


def test_a_padding_layer_of_another_size_is_told_by_whom_it_pads(
    models: dict[str, Description],
) -> None:
    """SAME in the convolution, and a layer before it that pads by nothing: one difference."""
    pad = layer(models["keras"], "stage2.block0.conv1_pad")
    pad["shape"] = [size - 2 * (axis > 0) for axis, size in enumerate(pad["shape"])]
    # Nothing else moved: what is padded in all is the same.
    assert structure.find_differences(TABLE, models) == []
    layer(models["keras"], "stage2.block0.conv1")["hyper"]["padding"] = [[0, 1], [0, 1]]
    (found,) = structure.find_differences(TABLE, models)
    assert (found.row, found.field) == ("stage2.block0.conv1", "padding")


def test_a_padding_layer_that_nobody_speaks_for_is_told(models: dict[str, Description]) -> None:
    for subject in models:
        del layer(models[subject], "stage2.block0.conv1")["hyper"]["padding"]
    layer(models["keras"], "stage2.block0.conv1_pad")["shape"][1] += 1
    found = only(TABLE, models)
    assert (found.row, found.field) == ("stage2.block0.conv1_pad", "shape")


def test_a_shape_alone_is_a_cause_once(models: dict[str, Description]) -> None:
    for name in ("stage3.block0.conv1", "stage3.block0.bn1"):
        layer(models["torch"], name)["shape"][1] += 1
    found = only(TABLE, models)
    assert (found.row, found.subject, found.field) == ("stage3.block0.conv1", "torch", "shape")
    assert found.expected == TABLE.by_name(found.row).shape


def test_the_same_wrong_shape_in_both_is_found(models: dict[str, Description]) -> None:
    for model in models.values():
        layer(model, "stem.conv")["shape"][1] += 1
    assert {item.subject for item in causes(TABLE, models)} == {"keras", "torch"}


def test_parameters_of_a_layer(models: dict[str, Description]) -> None:
    layer(models["keras"], "stem.conv")["parameters"] += 64
    models["keras"]["parameters"] += 64
    found = only(TABLE, models)
    assert (found.row, found.field, found.found - found.expected) == ("stem.conv", "parameters", 64)


def test_parameters_outside_of_any_layer(models: dict[str, Description]) -> None:
    models["torch"]["parameters"] += 1000
    found = only(TABLE, models)
    assert (found.row, found.field) == ("", "parameters")
    assert found.message == "torch has 11,182,642 parameters, expected 11,181,642"


def test_two_layers_of_one_row(models: dict[str, Description]) -> None:
    models["keras"]["layers"].append({**layer(models["keras"], "stem.bn"), "name": "again"})
    assert "2 layers of keras are this row: 'conv1_bn', 'again'" in only(TABLE, models).message


def test_table_without_shapes_compares_the_models() -> None:
    """Somebody's own table holds names only."""
    rows = tuple(Row(r.name, r.stage, r.kind, r.keras, r.torch) for r in TABLE.rows)
    bare = LayerTable(rows)
    models = copy.deepcopy(SOUND)
    assert structure.find_differences(bare, models) == []
    layer(models["keras"], "pool")["shape"] = [7]
    layer(models["keras"], "stem.conv")["parameters"] += 1
    models["keras"]["parameters"] += 1
    found = {(item.row, item.subject, item.field) for item in causes(bare, models)}
    assert found == {("pool", "keras", "shape"), ("stem.conv", "keras", "parameters")}


def test_differences_are_in_the_tables_order(models: dict[str, Description]) -> None:
    drop(models["torch"], "stage4.block1")
    layer(models["keras"], "stem.bn")["hyper"]["epsilon"] = 1e-3
    layer(models["keras"], "logits")["hyper"]["bias"] = False
    rows = [item.row for item in structure.find_differences(TABLE, models)]
    assert rows == ["stem.bn", "stage4.block1", "logits", ""]


def test_nothing_to_compare_is_no_pass() -> None:
    with pytest.raises(TableError):
        structure.find_differences(TABLE, {})
    with pytest.raises(TableError):
        structure.find_differences(LayerTable(()), SOUND)
    with pytest.raises(TableError, match="onnx"):
        structure.find_differences(TABLE, {"onnx": SOUND["torch"]})


def test_models_without_layers_are_no_pass(models: dict[str, Description]) -> None:
    for model in models.values():
        model["layers"].clear()
    assert len(causes(TABLE, models)) == 2


def test_the_largest_table_takes_no_time() -> None:
    table = architectures.get("resnet152").table()
    models = {subject: describe(table, subject) for subject in ("keras", "torch")}
    models["keras"]["layers"].clear()
    # The processor's time: whoever else is at work does not count.
    start = time.process_time()
    structure.find_differences(table, models)
    assert time.process_time() - start < 0.5
