import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.errors import TableError
from parity.network import architectures, axes, kinds
from parity.network.table import (
    LayerTable,
    Row,
    TorchPoint,
    Weight,
    keras_shape,
    parse_torch_point,
)
from parity.numerics.points import ComparisonPoint

MINIMAL = """\
name,stage,kind,keras,torch
stem.conv,stem,conv,conv_1,features.0
stem.pad,stem,pad,pad_1,
body.block0.add,body,add,add_1,relu#1@input
body.block0.relu,body,relu,relu_1,relu#1
head,head,dense,logits,classifier
"""

FORMATS = {
    "csv": (LayerTable.to_csv, LayerTable.from_csv),
    "toml": (LayerTable.to_toml, LayerTable.from_toml),
    "json": (LayerTable.to_json, LayerTable.from_json),
}


@pytest.mark.parametrize("name", architectures.names())
def test_tables_of_the_registry_are_valid_and_survive_every_format(name):
    table = architectures.get(name).table()
    table.validate()
    for write, read in FORMATS.values():
        assert read(write(table)) == table
    assert LayerTable.from_json(json.loads(json.dumps(table.to_json()))) == table


def names():
    return st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,8}", fullmatch=True)


def keras_names():
    letters = st.characters(codec="utf-8", categories=("L", "N", "P", "S"))
    return st.text(letters, min_size=1, max_size=8)


@st.composite
def tables(draw):
    """Valid tables: unique names, stages in runs, the first row of each stage in both models."""
    rows = []
    for index in range(draw(st.integers(1, 4))):
        stage = f"{draw(names())}-{index}s"
        for number in range(draw(st.integers(1, 4))):
            mark = f"{index}.{number}"
            kind = draw(st.sampled_from(sorted(kinds.registry())))
            keras = f"{draw(keras_names())}{mark}"
            torch = f"{draw(names())}.{mark}" + draw(st.sampled_from(["", "#3", "@input"]))
            missing = draw(st.sampled_from([None, "keras", "torch"])) if number else None
            row = Row(
                f"{stage}.{draw(names())}.{mark}", stage, kind,
                "" if missing == "keras" else keras, "" if missing == "torch" else torch,
                tuple(draw(st.lists(st.integers(1, 999), max_size=3))),
                tuple(draw(weights(kind, mark))),
            )  # fmt: skip
            rows.append(row)
    return LayerTable(tuple(rows))


@st.composite
def weights(draw, kind, mark):
    roles = {role.name: role for role in kinds.get(kind).roles}
    for name in draw(st.sets(st.sampled_from(sorted(roles)))) if roles else ():
        rank = draw(st.sampled_from(axes.ranks(roles[name].axes)))
        shape = draw(st.lists(st.integers(1, 99), min_size=rank, max_size=rank))
        if kind == "depthwise_conv" and name == "kernel":
            shape[1] = 1
        keras = roles[name].keras
        yield Weight(name, f"{draw(names())}.{mark}.{name}", keras, tuple(shape))


@pytest.mark.parametrize("suffix", FORMATS)
@settings(deadline=None, max_examples=50)
@given(table=tables())
def test_any_valid_table_survives(suffix, table):
    write, read = FORMATS[suffix]
    table.validate()
    assert read(write(table)) == table


def test_five_columns_are_enough():
    table = LayerTable.from_csv(MINIMAL)
    assert table.stages == ("stem", "body", "head")
    assert table.by_name("stem.pad") == Row("stem.pad", "stem", "pad", "pad_1", "")
    assert table.by_name("head").shape == ()
    assert list(table.weights()) == []


def test_toml_by_hand_may_leave_a_missing_side_out():
    text = """
    [[rows]]
    name = "stem.pad"
    stage = "stem"
    kind = "pad"
    keras = "pad_1"

    [[rows]]
    name = "stem.conv"
    stage = "stem"
    kind = "conv"
    keras = "conv_1"
    torch = "features.0"
    shape = "8x30x30"
    weights = "kernel features.0.weight 8x3x3x3; bias features.0.bias 8"
    """
    conv = LayerTable.from_toml(text).by_name("stem.conv")
    assert conv.shape == (8, 30, 30)
    assert conv.weights == (
        Weight("kernel", "features.0.weight", "kernel", (8, 3, 3, 3)),
        Weight("bias", "features.0.bias", "bias", (8,)),
    )


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_is_read_by_its_suffix(suffix, tmp_path):
    table = architectures.get("resnet18", image_size=(64, 64)).table()
    text = FORMATS[suffix][0](table)
    path = tmp_path / f"table.{suffix.upper()}"
    # A byte-order mark, as spreadsheets write it.
    path.write_text(
        "\ufeff" + (text if isinstance(text, str) else json.dumps(text)), encoding="utf-8"
    )
    assert LayerTable.load(path) == table


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("name,stage", "nam,stage", "header: unknown key 'nam'; did you mean 'name'?"),
        (",torch\n", "\n", "header: key 'torch' is missing"),
        (",keras,", ",name,", "header: key 'name' is given twice"),
        (",dense,", ",densee,", "row 5 ('head'): unknown kind 'densee'; did you mean 'dense'?"),
        (",conv_1,", ",", "row 1 ('stem.conv'): expected 5 cells, found 4"),
        ("stem.pad,", "stem.conv,", "row 2 ('stem.conv'): name is that of 'stem.conv' too"),
        ("relu_1", "add_1", "row 4 ('body.block0.relu'): Keras layer is that of"),
        ("relu#1\n", "relu#1@input\n", "PyTorch tensor is that of 'body.block0.add' too"),
        ("relu#1\n", "relu#x\n", "row 4 ('body.block0.relu'): 'relu#x' is not a module path"),
        ("head,head", "head,stem", "row 5 ('head'): stage 'stem' has ended already"),
        ("head,head", ",head", "row 5 (''): name '' must be"),
        ("head,head", "head,he ad", "stage 'he ad' must be"),
        ("pad_1,", ",", "row 2 ('stem.pad'): neither model has this layer"),
        ("logits,classifier", "logits,", "stage 'head' has no row in both models"),
        ("stem.pad,", "body,", "its tensor would be called 'body'"),
        ("body.block0.add,", "input,", "'input', as the model's input is"),
        ("stem.conv,stem", '"stem.conv,stem', "no CSV"),
    ],
)
def test_a_wrong_csv_is_refused_by_file_row_and_closest_key(before, after, expected, tmp_path):
    path = tmp_path / "twins.csv"
    path.write_text(MINIMAL.replace(before, after, 1))
    with pytest.raises(TableError) as caught:
        LayerTable.load(path)
    message = str(caught.value)
    assert expected in message
    assert message.startswith(str(path))
    assert "\n" not in message


ROW = {"name": "a", "stage": "a", "kind": "conv", "keras": "k", "torch": "t"}
KERNEL = {"role": "kernel", "name": "t.weight", "shape": [4, 3, 3, 3]}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("stem", "row 1: expected a table of name"),
        (ROW | {"kears": "k"}, "row 1 ('a'): unknown key 'kears'; did you mean 'keras'?"),
        (ROW | {"keras": 3}, "keras must be text, found 3"),
        (ROW | {"keras": "k\n"}, "not a name of a Keras layer"),
        (ROW | {"keras": "\ud800"}, "not a name of a Keras layer"),
        (ROW | {"torch": "a b"}, "not a module path"),
        (ROW | {"shape": [4, -1]}, "whole numbers above 0"),
        (ROW | {"shape": [True]}, "list of whole numbers"),
        (ROW | {"shape": 3}, "list of whole numbers"),
        (ROW | {"shape": "4x"}, "such as 64x112x112, found '4x'"),
        (ROW | {"shape": "9" * 5000}, "such as 64x112x112"),
        (ROW | {"weights": "kernel t.weight"}, "expected 'role name shape'"),
        (ROW | {"weights": {}}, "weights must be a list"),
        (ROW | {"weights": ["kernel"]}, "a weight is a table of"),
        (ROW | {"weights": [KERNEL | {"role": "kernal"}]}, "did you mean 'kernel'?"),
        (ROW | {"weights": [KERNEL | {"role": ["kernel"]}]}, "unknown role"),
        (ROW | {"weights": [KERNEL | {"name": None}]}, "must be text"),
        (ROW | {"weights": [KERNEL | {"shap": []}]}, "did you mean 'shape'?"),
        (ROW | {"weights": [KERNEL, KERNEL]}, "'kernel' is given twice"),
        (ROW | {"weights": [KERNEL | {"role": "gamma"}]}, "a conv has no 'gamma'"),
        (ROW | {"kind": "relu", "weights": [KERNEL]}, "it has no weights"),
        (ROW | {"kind": "dense", "weights": [KERNEL]}, "has 4 axes"),
        (ROW | {"weights": [KERNEL | {"role": "bias"}]}, "has 4 axes, expected 1"),
        (ROW | {"kind": "depthwise_conv", "weights": [KERNEL]}, "must be (C·M, 1, ...)"),
        (ROW | {"weights": [KERNEL | {"keras_shape": [3, 3, 4, 3]}]}, "is (3, 3, 3, 4) in Keras"),
    ],
)
def test_a_wrong_entry_is_refused(row, expected):
    with pytest.raises(TableError) as caught:
        LayerTable.from_json({"rows": [row]}, "twins.json")
    message = str(caught.value)
    assert expected in message
    assert message.startswith("twins.json: row 1")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("suffix", "content", "expected"),
    [
        ("toml", b"[[rows]\n", "no TOML"),
        ("toml", b"rows = " + b"[" * 20_000, "no TOML"),
        ("toml", b"rows = 3", "must be a list"),
        ("toml", b"", "key 'rows' is missing"),
        ("toml", b"row = []", "unknown key 'row'; did you mean 'rows'?"),
        ("toml", b"rows = []", "there are no rows"),
        ("toml", b"rows = [1979-05-27]", "row 1: expected a table"),
        ("json", b"[" * 100_000, "no JSON"),
        ("json", b'{"rows": [', "no JSON"),
        ("json", b"[]", "with the key 'rows'"),
        (
            "json",
            b'{"rows": [], "schema": "parity.table/2"}',
            "schema 'parity.table/2'",
        ),
        ("csv", b"", "empty; expected the columns name,stage"),
        ("csv", b"name,stage,kind,keras,torch\n", "there are no rows"),
        ("csv", b"\xff\xfe\x00", "no UTF-8 text: byte 0"),
        ("csv", b'name,stage,kind,keras,torch\n"' + b"x" * 200_000, "no CSV"),
        ("yaml", b"rows:", "a layer table is a .csv, .toml or .json file"),
    ],
)
def test_a_file_that_is_no_table_is_refused(suffix, content, expected, tmp_path):
    path = tmp_path / f"twins.{suffix}"
    path.write_bytes(content)
    with pytest.raises(TableError) as caught:
        LayerTable.load(path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(TableError, match="No such file"):
        LayerTable.load(tmp_path / "nothing.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TableError, match="cannot be read"):
        LayerTable.load(tmp_path / "folder.csv")
    long = tmp_path / "long.csv"
    long.write_bytes(b"x" * (16 * 2**20 + 1))
    with pytest.raises(TableError, match="more than 16 MiB"):
        LayerTable.load(long)


@pytest.mark.parametrize("read", [LayerTable.from_csv, LayerTable.from_toml])
@settings(deadline=None)
@given(data=st.data())
def test_a_damaged_table_is_read_or_refused_in_one_line(read, data):
    text = MINIMAL if read == LayerTable.from_csv else LayerTable.from_csv(MINIMAL).to_toml()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 5, len(text))))
    damaged = text[:start] + data.draw(st.text(max_size=5)) + text[end:]
    message = ""
    try:
        read(damaged).validate()
    except TableError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1


def test_points_end_stages_blocks_and_layers_that_both_models_have():
    table = LayerTable.from_csv(MINIMAL)
    # The padding ends the stem's rows, but PyTorch has none.
    ends = {"stem": "stem.conv", "body": "body.block0.relu", "head": "head"}
    assert {name: row.name for name, row in table.last_rows("stage").items()} == ends
    assert table.points("stage") == tuple(
        ComparisonPoint(name, name, row, table.by_name(row).shape) for name, row in ends.items()
    )
    assert [point.name for point in table.points("block")] == ["stem", "body.block0", "head"]
    assert [point.name for point in table.points("layer")] == [
        row.name for row in table.rows if row.name != "stem.pad"
    ]


def test_tensors_are_named_by_the_stage_they_end():
    table = LayerTable.from_csv(MINIMAL)
    assert [table.tensor_name(row) for row in table.rows] == [
        "stem", "stem.pad", "body.block0.add", "body", "logits",
    ]  # fmt: skip


def test_a_row_that_is_not_there_is_named_with_the_closest():
    table = LayerTable.from_csv(MINIMAL)
    with pytest.raises(TableError, match=r"'stem\.conf'; did you mean 'stem\.conv'"):
        table.by_name("stem.conf")


def test_torch_references_are_parsed():
    assert parse_torch_point("layer1.0.relu#2@input") == TorchPoint("layer1.0.relu", 2, True)
    assert parse_torch_point("fc") == TorchPoint("fc", 0, False)
    for wrong in (
        "",
        "relu#",
        "relu@output",
        "relu#1#2",
        "#1",
        "@input",
        "relu@input#1",
        "r\u200bx",
    ):
        with pytest.raises(TableError, match="not a module path"):
            parse_torch_point(wrong)


def test_the_first_call_is_the_same_written_or_not():
    rows = (Row("a", "a", "relu", "k1", "relu"), Row("b", "b", "relu", "k2", "relu#0"))
    with pytest.raises(TableError, match="PyTorch tensor is that of 'a' too"):
        LayerTable(rows).validate()


def test_a_wrong_name_of_a_keras_variable_is_refused():
    table = architectures.get("resnet18").table()
    norm = table.by_name("stem.bn")
    swapped = replace(norm, weights=(replace(norm.weights[2], keras="moving_variance"),))
    rows = tuple(swapped if row == norm else row for row in table.rows)
    with pytest.raises(TableError, match="Keras calls a mean 'moving_mean'"):
        LayerTable(rows).validate()


def test_plain_rows_have_both_layouts():
    table = architectures.get("resnext50_32x4d").table()
    plain = {row["name"]: row for row in table.text_rows()}
    conv = plain["stage1.block0.conv2"]
    assert conv["keras_weights"] == "kernel 3×3×4×128"
    assert conv["torch_weights"] == "weight 128×4×3×3"
    assert conv["shape"] == "128×56×56"
    assert plain["stem.bn"]["keras_weights"].endswith("moving_mean 64, moving_variance 64")
    assert list(conv) == [
        "name", "stage", "kind", "keras", "torch", "keras_weights", "torch_weights", "shape",
    ]  # fmt: skip
    fc = table.by_name("logits").weights[0]
    assert keras_shape(fc, "dense") == (2048, 1000)


def test_sums_are_those_of_a_part_or_are_carried_on_but_for_means():
    def kernel(*shape):
        return (Weight("kernel", "c.weight", "kernel", shape),)

    table = LayerTable((
        Row("conv", "body", "conv", "c", "c", (8, 4, 5), kernel(8, 3, 3, 3)),
        Row("relu", "body", "relu", "r", "r", (8, 4, 5)),
        Row("narrow", "body", "conv", "n", "n", (8, 4, 5), kernel(8, 8, 1, 1)),
        Row("add", "body", "add", "a", "a", (8, 4, 5), inputs=("relu", "narrow")),
        Row("up", "up", "conv_transpose", "u", "u", (4, 8, 10), kernel(8, 4, 2, 2)),
        Row("quarters", "pool", "global_avg_pool", "q", "q", (4, 2, 2)),
        Row("pool", "pool", "global_avg_pool", "p", "p", (8,), inputs=("add",)),
        Row("head", "head", "dense", "d", "d", (10,), kernel(10, 8)),
    ))  # fmt: skip
    assert table.longest_sum_terms({"relu", "add", "head"}) == {"relu": 27, "add": 8, "head": 32}
    assert table.longest_sum_terms({row.name for row in table.rows}) == {
        "conv": 27, "relu": 1, "narrow": 8, "add": 1, "up": 32, "quarters": 20, "pool": 20,
        "head": 8,
    }  # fmt: skip
    # The quarters are means of 20 values, which leave a 20th of what came before.
    assert table.equivalent_sum_terms() == {
        "input": 1, "conv": 27, "relu": 27, "narrow": 27, "add": 27, "up": 32, "quarters": 20,
        "pool": 20, "head": 20,
    }  # fmt: skip
    # Where nobody says what is added, it may be any of the rows before.
    quiet = LayerTable((*table.rows[:5], Row("join", "pool", "add", "j", "j", (4, 2, 2))))
    assert quiet.rows[-1].inputs == ()
    assert quiet.equivalent_sum_terms()["join"] == 32
