"""The shapes that `parity table --shapes` prints, and networks whose sums cannot be made."""

from __future__ import annotations

import csv
import io
import json
import tomllib
from dataclasses import replace

import pytest

from parity.commands.cli import main as cli
from parity.errors import ArchitectureError, TableError
from parity.network import architectures, shapes, spec
from parity.network.models.resnet import spec as resnet
from parity.network.table import LayerTable

TEXTBOOK = "resnet18@d2l"
AT_224 = ["64×56×56", "64×56×56", "128×28×28", "256×14×14", "512×7×7", "512×1×1", "512", "10"]
AT_96 = ["64×24×24", "64×24×24", "128×12×12", "256×6×6", "512×3×3", "512×1×1", "512", "10"]


def printed(capsys, *arguments):
    assert cli.main(["table", *arguments, "--shapes"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("size", "expected"), [("224", AT_224), ("96", AT_96)])
def test_the_textbook_gives_the_shapes_that_it_prints(capsys, size, expected):
    lines = printed(capsys, TEXTBOOK, "--image-size", size).split("\n\n")[0].splitlines()
    assert lines[1].split() == ["input", f"1×{size}×{size}"]
    assert [line.split()[-1] for line in lines[2:]] == expected


def test_both_sides_of_every_addition_are_shown(capsys):
    lines = printed(capsys, TEXTBOOK).split("\n\n")[1].splitlines()[1:]
    assert len(lines) == 8
    first = " ".join(lines[0].split())
    assert first == (
        "stage1.block0.add stem.pool 64×56×56 stage1.block0.bn2 64×56×56 the block's input"
    )
    third = " ".join(lines[2].split())
    assert third == (
        "stage2.block0.add stage2.block0.downsample.conv 128×28×28 "
        "stage2.block0.bn2 128×28×28 computed from stage1.block1.relu 64×56×56"
    )


def test_why_an_addition_without_a_convolution_does_not_fail(capsys):
    answer = printed(capsys, TEXTBOOK).splitlines()[-1]
    assert answer.startswith("5 of 8 shortcuts have no layer")
    assert "is an error when it is built; nothing is broadcast" in answer


@pytest.mark.parametrize("name", [*architectures.names(), *architectures.variants()])
def test_every_addition_of_the_registry_has_two_sides_of_one_shape(name):
    found = shapes.summarise(architectures.get(name))
    rows = {row.name: row for row in architectures.get(name).table().rows}
    assert len(found.additions) == sum(row.kind == "add" for row in rows.values()) > 0
    for item in found.additions:
        assert item.sum.shape == item.first.shape == item.second.shape
        # A shortcut begins at the input of its block: at a row before the block's first one.
        before = list(rows)[: list(rows).index(item.sum.name)]
        block = rows[item.sum.name].block
        assert item.fork.name in before
        assert rows[item.fork.name].block != block
        # Only where a block keeps the shape has its shortcut no layer.
        assert item.is_identity == (item.fork.shape == item.sum.shape)


def test_every_format_holds_the_same(capsys):
    as_json = json.loads(printed(capsys, "resnet50", "--format", "json"))
    assert tomllib.loads(printed(capsys, "resnet50", "--format", "toml")) == as_json
    lines = list(csv.DictReader(io.StringIO(printed(capsys, "resnet50", "--format", "csv"))))
    stages = [line for line in lines if line["what"] == "stage"]
    assert stages[0] == {**stages[0], "name": "input", "shape": "3x224x224"}
    assert [stage["shape"] for stage in stages[1:]] == [
        "x".join(map(str, stage["shape"])) for stage in as_json["stages"]
    ]
    sums = [line for line in lines if line["what"] == "addition"]
    assert [line["first"] for line in sums] == [
        item["inputs"][0]["name"] for item in as_json["additions"]
    ]
    assert len(sums) == 16


def test_a_block_whose_sides_differ_is_refused_by_the_spec(capsys, monkeypatch):
    """A registered family cannot ask for one: its rule for projections is broken here."""
    monkeypatch.setattr(resnet, "_projects", lambda inputs, outputs, stride: False)
    with pytest.raises(ArchitectureError) as caught:
        architectures.get("resnet18").table()
    assert str(caught.value).startswith(
        "stage2.block0.add: the shortcut 64×56×56 and the branch 128×28×28 cannot be added"
    )
    assert cli.main(["table", "resnet18"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_side_that_would_be_broadcast_is_refused_too():
    """NumPy and every framework would add these."""
    with pytest.raises(ArchitectureError, match="the shortcut 64×1×1 and the branch 64×7×7"):
        spec.require_one_shape("here", shortcut=(64, 1, 1), branch=(64, 7, 7))
    with pytest.raises(ArchitectureError, match="the shortcut 1×7×7 and the branch 64×7×7"):
        spec.require_one_shape("here", shortcut=(1, 7, 7), branch=(64, 7, 7))
    spec.require_one_shape("here", shortcut=[64, 7, 7], branch=(64, 7, 7))


def changed(name, **values):
    table = architectures.get("resnet18").table()
    rows = tuple(replace(row, **values) if row.name == name else row for row in table.rows)
    return LayerTable(rows)


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        (
            "stage2.block0.downsample.bn",
            {"shape": (128, 1, 1)},
            "what is to be added differ: stage2.block0.downsample.bn, 128×1×1 and stage2",
        ),
        (
            "stage1.block0.add",
            {"inputs": ("stem.pol", "stage1.block0.bn2")},
            "no row before it is called 'stem.pol'; did you mean 'stem.pool'?",
        ),
        (
            "stage1.block0.add",
            {"inputs": ("stem.pool", "stage1.block1.bn2")},
            "no row before it is called 'stage1.block1.bn2'",
        ),
        ("stage1.block0.add", {"inputs": ("a b",)}, "inputs must be names of rows, found 'a b'"),
    ],
)
def test_a_table_that_contradicts_its_own_inputs_is_refused(name, values, told):
    with pytest.raises(TableError, match=r"row \d+ \('") as caught:
        changed(name, **values).validate()
    assert told in str(caught.value)


def test_a_table_by_hand_may_say_what_a_sum_reads(tmp_path):
    """And is refused with both shapes named, before any framework is asked."""
    path = tmp_path / "own.csv"
    path.write_text(
        "name,stage,kind,keras,torch,shape,inputs\n"
        "a,body,conv,a,a,8x4x4,\n"
        "b,body,conv,b,b,8x1x1,\n"
        "sum,body,add,sum,relu@input,8x4x4,a b\n"
    )
    with pytest.raises(
        TableError, match="the shapes of what is to be added differ: a, 8×4×4 and b"
    ):
        LayerTable.load(path)
    path.write_text(path.read_text().replace("8x1x1", "8x4x4"))
    assert LayerTable.load(path).by_name("sum").inputs == ("a", "b")
