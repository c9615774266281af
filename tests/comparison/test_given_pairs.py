"""A file of pairs: what it may say, and the row of what it may not."""

from pathlib import Path

import pytest

from parity.comparison.graphs.given_pairs import is_pairs_file, read_given_pairs
from parity.errors import TableError
from parity.network.graph import Graph, Node, Port, Tensor


def graph(*paths: str) -> Graph:
    nodes = tuple(
        Node(str(at), "conv", "conv2d", (), (f"t{at}",), path=path, source=f"net.py:{at + 1}")
        for at, path in enumerate(paths)
    )
    tensors = {f"t{at}": Tensor(f"t{at}", (1,), "float32") for at in range(len(paths))}
    return Graph("torch", nodes, tensors, (), (Port("y", "t0"),))


def write(folder: Path, text: str) -> Path:
    path = folder / "pairs.csv"
    path.write_text(text)
    return path


def find(folder: Path, text: str, left: Graph, right: Graph) -> list[tuple[object, object]]:
    table = read_given_pairs(write(folder, text)).name_other(["B"])
    column = table.find_column("B")
    assert column is not None
    return [(p.reference, p.other) for p in table.find_pairs(column, left, right, ("A", "B"))]


def test_rows_are_found_by_path_and_by_source_line(tmp_path: Path) -> None:
    text = "kind,reference,other,reason\nconv,a.b (net.py:1),x,sure\nconv,c,y (net.py:2),\n"
    found = find(tmp_path, text, graph("a.b", "c"), graph("x", "y"))
    assert found == [(("0",), ("0",)), (("1",), ("1",))]


def test_several_of_one_path_are_taken_in_their_order(tmp_path: Path) -> None:
    left, right = graph("relu", "relu"), graph("p", "q")
    text = "reference,other\nrelu,q\nrelu,p\n"
    assert find(tmp_path, text, left, right) == [(("0",), ("1",)), (("1",), ("0",))]
    with pytest.raises(TableError, match=r"row 3: 'relu' is given 3 times, A has it 2 times"):
        find(tmp_path, f"{text}relu,p\n", left, right)


def test_operations_of_one_pair_and_no_partner(tmp_path: Path) -> None:
    text = "reference,other\na + b,x\n,y\nc,\n,\n"
    found = find(tmp_path, text, graph("a", "b", "c"), graph("x", "y"))
    assert found == [(("0", "1"), ("0",)), ((), ("1",)), (("2",), ())]


def test_a_column_may_have_the_name_of_a_model(tmp_path: Path) -> None:
    table = read_given_pairs(write(tmp_path, "reference,B,C\na,x,y\n")).name_other(["B", "C"])
    assert (table.find_column("B"), table.find_column("C"), table.find_column("D")) == (
        "B", "C", None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("other,kind\nx,conv\n", "header: the column 'reference' is missing"),
        ("reference,kind\nx,conv\n", "header: the column 'other' is missing"),
        ("reference,other,other\na,x,x\n", "header: a column is given twice"),
        ("reference,other\na\n", "row 1: expected 2 cells, found 1"),
        ("reference,other\nab,x\n", "row 1: A has no operation 'ab'"),
        ("reference,other\na,xx\n", "row 1: B has no operation 'xx'"),
        ("reference,D\na,x\n", "header: no model is called 'D'"),
        ('reference,other\n"a,x\n', "no CSV"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TableError, match=message) as error:
        find(tmp_path, text, graph("a"), graph("x"))
    assert str(error.value).startswith(str(tmp_path / "pairs.csv"))
    assert "\n" not in str(error.value)


def test_other_is_ambiguous_beside_several_models(tmp_path: Path) -> None:
    table = read_given_pairs(write(tmp_path, "reference,other\na,x\n"))
    with pytest.raises(TableError, match="'other' may be any of B, C; name the column"):
        table.name_other(["B", "C"])


def test_a_layer_table_is_no_file_of_pairs(tmp_path: Path) -> None:
    assert is_pairs_file(write(tmp_path, "reference,other\n"))
    assert not is_pairs_file(write(tmp_path, "name,stage,kind,keras,torch\n"))
    assert not is_pairs_file(tmp_path / "absent.csv")
    assert not is_pairs_file(tmp_path)
