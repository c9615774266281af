"""The registry of kinds: what each states, and a new one by dropping a file in."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from parity.errors import TableError
from parity.network import kinds, structure
from parity.network.table import LayerTable

FAMILIES = sorted(kinds.registry().values(), key=lambda kind: kind.name)
NAMES = [kind.name for kind in FAMILIES]


@pytest.mark.parametrize("kind", FAMILIES, ids=NAMES)
def test_a_kind_can_be_named_and_read(kind):
    assert kind.name.isidentifier()
    named = (kind.keras, kind.keras_functions, kind.torch, kind.torch_functions, kind.onnx)
    assert any(named)
    names = [role.name for role in kind.roles]
    assert len(names) == len(set(names))
    settings = [setting.name for setting in kind.hyperparameters]
    assert len(settings) == len(set(settings))
    assert not (kind.elementwise and not kind.joins_branches)
    for name in names:
        assert kind.role(name).name == name
    for name in settings:
        setting = kind.hyperparameter(name)
        assert all(setting.attribute(framework) for framework in ("keras", "torch", "onnx"))


@pytest.mark.parametrize("kind", [k for k in FAMILIES if k.activation], ids=lambda k: k.name)
def test_an_activation_needs_no_settings(kind):
    assert not kind.roles
    assert all(setting.default is not None for setting in kind.hyperparameters)


def test_what_is_not_there_is_refused():
    assert kinds.find("no_such_kind") is None
    assert not kinds.joins_branches("no_such_kind")
    with pytest.raises(ValueError, match="no kind 'no_such_kind'"):
        kinds.get("no_such_kind")
    with pytest.raises(ValueError, match="a conv has no 'gamma'"):
        kinds.get("conv").role("gamma")
    with pytest.raises(ValueError, match="a conv has no hyperparameter 'epsilon'"):
        kinds.get("conv").hyperparameter("epsilon")


def in_fresh_interpreter(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


FAMILY_FILES = "[m for m in sys.modules if m.startswith('parity.network.kinds.')]"


def test_the_help_loads_no_kind():
    program = (
        "import sys, contextlib, io\n"
        "from parity.commands.cli.main import main\n"
        "sys.argv = ['parity', '--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main()\n"
        f"print(*{FAMILY_FILES})"
    )
    assert in_fresh_interpreter(program) == []


def test_kinds_load_numpy_alone():
    program = (
        "import sys\nfrom parity.network import kinds\n"
        f"assert not {FAMILY_FILES}\n"
        "kinds.registry()\n"
        f"assert {FAMILY_FILES}\n"
        "import numpy\n"
        "own = {m.partition('.')[0] for m in sys.modules if not m.startswith('_')}\n"
        "print(*sorted(own - set(sys.stdlib_module_names)))"
    )
    found = {name for name in in_fresh_interpreter(program) if "finder" not in name}
    assert {"numpy", "parity"} <= found
    assert not found & {"torch", "keras", "tensorflow", "onnx", "onnxruntime", "h5py"}


ROOT = Path(kinds.__file__).resolve().parents[3]


def lists_of_kinds(source):
    """The literals of a module that name three kinds or more."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Dict):
            elements = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            elements = node.elts
        else:
            continue
        words = {item.value for item in elements if isinstance(item, ast.Constant)}
        if len(words & set(NAMES)) > 2:
            found.append(ast.unparse(node))
    return found


def test_kinds_are_listed_nowhere_else():
    for path in (ROOT / "parity").rglob("*.py"):
        assert lists_of_kinds(path.read_text()) == [], path


def test_a_list_of_kinds_is_seen():
    assert lists_of_kinds("KINDS = ('conv', 'dense', 'relu')")
    assert lists_of_kinds("KINDS = {'conv': 1, 'dense': 2, 'relu': 3}")
    assert not lists_of_kinds("KINDS = ('conv', 'dense')")


# A kind that is dropped in ----------------------------------------------------------------------

TOY = '''
"""A scale and a shift for each channel, which is no kind of the project."""

from parity.network.arrays import along_channels
from parity.network.kind import Hyperparameter, Kind, Role


def _compute(inputs, weights, hyper):
    scaled = inputs[0] * along_channels(weights["scale"][0], inputs[0]) ** hyper["power"]
    return scaled + along_channels(weights["shift"], scaled)


KINDS = (
    Kind(
        "channel_affine",
        _compute,
        roles=(
            Role("scale", "gain", "scale", "1 C", keras_axes="C"),
            Role("shift", "shift", "shift"),
        ),
        hyperparameters=(
            Hyperparameter("power", 1.0, keras="power", torch="exponent", convert=float),
        ),
        keras=("my.layers.ChannelAffine",),
    ),
)
'''
CSV = """\
name,stage,kind,keras,torch,shape,weights,inputs
stem,stem,conv,stem_conv,stem,4x3x3,kernel stem.weight 4x2x1x1 1x1x2x4,
body,body,channel_affine,affine,affine,4x3x3,scale affine.scale 1x4 4; shift affine.shift 4 4,
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A file beside the families of the project."""
    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "parity.network.kinds.toy", raising=False)
    yield tmp_path / "toy.py"
    sys.modules.pop("parity.network.kinds.toy", None)


@pytest.mark.usefixtures("toy")
def test_a_kind_is_added_by_its_file():
    table = LayerTable.from_csv(CSV, "twins.csv")
    row = table.by_name("body")
    scale, shift = row.weights
    assert (scale.keras, shift.keras) == ("gain", "shift")
    assert LayerTable.from_csv(table.to_csv()) == table
    assert table.text_rows()[1]["keras_weights"] == "gain 4, shift 4"
    assert table.parameters == 4 * 2 + 4 + 4

    def described(subject, power):
        return {
            "parameters": table.parameters,
            "layers": [
                {
                    "row": row.name,
                    "name": getattr(row, subject),
                    "kind": row.kind,
                    "class": "",
                    "shape": list(row.shape),
                    "hyper": {"power": power} if row.kind == "channel_affine" else {},
                    "parameters": row.parameters,
                }
                for row in table.rows
            ],
        }

    same = {subject: described(subject, 1.0) for subject in ("keras", "torch")}
    assert structure.find_differences(table, same) == []
    (found,) = structure.find_differences(table, {**same, "keras": described("keras", 2.0)})
    assert (found.row, found.field, found.found) == ("body", "power", 2.0)

    data, factor, offset = np.ones((2, 4, 3, 3)), np.full((1, 4), 3.0), np.arange(4.0)
    made = kinds.evaluate(row.kind, [data], {"scale": factor, "shift": offset}, {"power": 2.0})
    assert np.array_equal(made, 9.0 * data + offset.reshape(1, 4, 1, 1))
    role = kinds.get(row.kind).role("scale")
    assert role.from_keras(np.arange(4.0)).shape == (1, 4)
    assert role.to_keras(factor).shape == (4,)


@pytest.mark.usefixtures("toy")
def test_a_layer_of_a_new_kind_is_read_by_its_names():
    kind = kinds.get("channel_affine")
    ChannelAffine = type("ChannelAffine", (), {"__module__": "my.layers"})  # noqa: N806
    layer = ChannelAffine()
    name = kinds.class_name(ChannelAffine, inspect)
    assert kinds.find_by_class("keras", name) == (kind,)
    assert kinds.find_by_class("torch", name) == ()
    assert kind.read("keras", layer, {}) == {"power": 1.0}
    layer.power = 3
    assert kind.read("keras", layer, {}) == {"power": 3.0}
    assert kind.read("keras", layer, {"power": lambda layer: None}) == {}
    readers = {"power": lambda layer: None, "channel_affine.power": lambda layer: 5}
    assert kind.read("keras", layer, readers) == {"power": 5.0}


def test_without_its_file_the_kind_is_unknown():
    with pytest.raises(TableError, match="unknown kind 'channel_affine'"):
        LayerTable.from_csv(CSV, "twins.csv")


def test_two_kinds_of_one_name_are_refused(toy):
    toy.write_text(TOY.replace('"channel_affine"', '"conv"'))
    with pytest.raises(ValueError, match=r"toy\.py: there is a conv already"):
        kinds.registry()
