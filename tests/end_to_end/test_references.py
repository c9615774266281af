"""Models named by references: what is wrong with one is said in one line; weights are copied."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from parity.commands import compare_graphs
from parity.processes import children
from parity.processes.child import Child
from tests.end_to_end import harness
from tests.shared_children import COLD

pytestmark = pytest.mark.framework

SCRIPTS = {
    "net.py": """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, 5)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))

def build(seed=0):
    torch.manual_seed(seed)
    return Net(), torch.randn(2, 3, 8, 8)

def broken():
    model, example = build()
    with torch.no_grad():
        model.conv.weight[0, 0, 0, 0] = float("nan")
    return model, example

class Log(Net):
    def forward(self, x):
        return super().forward(x).log()

def logarithm(seed=0):
    torch.manual_seed(seed)
    return Log(), torch.randn(2, 3, 8, 8)

def epsilon(seed=0):
    model, example = build(seed)
    model.bn.eps = 0.5
    return model, example

def masked():
    model, example = build()
    model.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    return model, example
""",
    "branches.py": """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, order):
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, padding=1)
        self.two = nn.Conv2d(3, 8, 3, padding=1)
        self.order = order

    def forward(self, x):
        one, two = (torch.relu(getattr(self, name)(x)) for name in self.order)
        return one + 2 * two

def build(order, seed=0):
    torch.manual_seed(seed)
    return Net(order.split("-")), torch.randn(2, 3, 8, 8)
""",
    "pairs.csv": "reference,other\none,one\n",
    "misspelt.csv": "reference,other\noen,one\n",
    "keras_net.py": """
import keras

class Sub(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv = keras.layers.Conv2D(4, 3, padding="same")
        self.norm = keras.layers.BatchNormalization(epsilon=1e-5)
        self.dense = keras.layers.Dense(5)

    def call(self, x):
        return self.dense(keras.ops.mean(keras.ops.relu(self.norm(self.conv(x))), (1, 2)))

def build(seed=0):
    keras.utils.set_random_seed(seed)
    x = keras.Input((8, 8, 3), name="image")
    y = keras.layers.Conv2D(4, 3, padding="same")(x)
    y = keras.layers.ReLU()(keras.layers.BatchNormalization(epsilon=1e-5)(y))
    y = keras.layers.GlobalAveragePooling2D()(y)
    return keras.Model(x, keras.layers.Dense(5)(y))
""",
    "both.py": """
import keras
import torch
from keras_net import build as in_keras
from net import build as in_torch
""",
    "bad.py": """
import os
import sys
import time
import torch
from torch import nn
from net import Net

print("printed by the module")
os.system("echo printed by a shell")

def leaves():
    sys.exit(3)

def needs(width):
    return Net(width)

def hangs():
    time.sleep(1000)

def number():
    return 5

class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        raise RuntimeError("no such luck")

def broken():
    return Broken(), torch.zeros(2, 3, 8, 8)

class Sorted(nn.Module):
    def forward(self, x):
        return torch.cumsum(x.flatten(1).sort()[0], 1)

def unlike():
    return Sorted(), torch.zeros(2, 3, 8, 8)
""",
    "dies.py": """
import os
import keras

class Dies(keras.layers.Layer):
    eager = 0

    def __init__(self, runs):
        super().__init__()
        self.runs = runs

    def call(self, x):
        if not isinstance(x, keras.KerasTensor):
            Dies.eager += 1
            if Dies.eager > self.runs:
                os._exit(9)
        return x + 0.0

def build(runs):
    x = keras.Input((8, 8, 3), name="image")
    y = Dies(runs)(keras.layers.ReLU()(keras.layers.Conv2D(4, 3, padding="same")(x)))
    return keras.Model(x, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(y)))
""",
    "exits.py": """
import os
from torch import nn

class Exits(nn.Module):
    def forward(self, x):
        os._exit(9)
""",
    "fails.py": "import torch\nx = undefined_name\n",
    "missing.py": "import torch\nimport not_there_at_all\n",
    "syntax.py": "import torch\ndef f(:\n",
    "nul.py": "import torch\0\n",
    "tokens.py": """
from torch import nn

class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.fc = nn.Linear(4, 3)

    def forward(self, tokens, mask):
        return self.fc((self.embedding(tokens) * mask[..., None]).mean(1))
""",
}

_CHECKPOINTS = """
import sys
sys.path.insert(0, {folder!r})
import torch, net, keras_net
from safetensors.torch import save_file
model, _ = net.build(7)
torch.save(model.state_dict(), {folder!r} + "/net.pth")
torch.save(model.state_dict(), {folder!r} + "/net.pt")
save_file(model.state_dict(), {folder!r} + "/net.safetensors")
with torch.no_grad():
    model.conv.weight[0, 0, 0, 0] = float("nan")
torch.save(model.state_dict(), {folder!r} + "/nan.pth")
keras_net.build(9).save_weights({folder!r} + "/keras_net.weights.h5")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scripts, files that are none, arrays that do not fit, and checkpoints of seeds 7 and 9."""
    folder = tmp_path_factory.mktemp("models")
    for name, text in SCRIPTS.items():
        (folder / name).write_text(text)
    (folder / "latin.py").write_bytes(b'x = "\xe9"\n')
    for name in ("text.onnx", "text.keras", "text.pt2", "text.npy"):
        (folder / name).write_text("I am no model and no array")
    np.save(folder / "five.npy", np.zeros((2, 5, 8, 8), np.float32))
    np.save(folder / "nan.npy", np.full((2, 3, 8, 8), np.nan, np.float32))
    np.save(folder / "int.npy", np.zeros((2, 3, 8, 8), np.int64))
    done = subprocess.run(
        [sys.executable, "-c", _CHECKPOINTS.format(folder=str(folder))],
        cwd=harness.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def _comparing(parity, folder):
    def run(*arguments, env=None):
        full = [_in_folder(folder, str(argument)) for argument in arguments]
        return parity("compare", *full, env=env)

    return run


@pytest.fixture
def compare(parity, folder):
    """Run `parity compare`; an argument with a file of `folder` gets its path."""
    return _comparing(parity, folder)


@pytest.fixture
def compare_unshared(parity, folder, monkeypatch):
    """The same with new children: when a child dies depends on what it has run before."""
    monkeypatch.setattr(children, "Child", Child)
    return _comparing(parity, folder)


def _in_folder(folder: Path, text: str) -> str:
    """Put the folder before the name of one of its files."""
    head, equals, tail = text.partition("=")
    if equals and "." not in head:
        return f"{head}={_in_folder(folder, tail)}"
    file = text.partition(":")[0].partition(",")[0]
    is_here = (folder / file).is_file() or file.startswith("nowhere.")
    return f"{folder}/{text}" if is_here else text


# Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        (("resnet5",), ("unknown model 'resnet5'", "did you mean 'resnet50'")),
        (("net.py:build", "resnet5"), ("unknown model 'resnet5'", "did you mean 'resnet50'")),
        (("torchvison:resnet18",), ("no module 'torchvison'", "mean 'torchvision:resnet18'")),
        (("not_a_module:build",), ("no module 'not_a_module'",)),
        (("net.py:Nut",), ("has no 'Nut'", "did you mean 'Net'")),
        (("nowhere.py:build",), ("nowhere.py: no such file",)),
        (("nowhere.onnx",), ("nowhere.onnx: no such file",)),
        (("net.py",), ("net.py: name the model in it", "net.py:NAME")),
        (("text.onnx",), ("text.onnx: cannot be read as an ONNX file",)),
        (("text.keras",), ("text.keras: not a Keras model",)),
        (("text.pt2",), ("text.pt2: not a PyTorch file",)),
        (("net.pth",), ("holds weights and no model", "weights=")),
        (("fails.py:f",), ("NameError: name 'undefined_name' is not defined", "fails.py, line 2")),
        (("missing.py:f",), ("No module named 'not_there_at_all'", "missing.py, line 2")),
        (("syntax.py:f",), ("SyntaxError", "syntax.py, line 2")),
        (("nul.py:f",), ("null bytes", "nul.py")),
        (("latin.py:f",), ("SyntaxError", "xe9", "latin.py")),
        (("bad.py:leaves",), ("SystemExit: 3", "bad.py, line 13")),
        (("bad.py:needs",), ("needs needs width", "bad.py:needs,width=VALUE")),
        (("bad.py:number",), ("expected keras.Layer or torch.Module", "found int")),
        (("net.py:Net,depth=3",), ("depth",)),
        (("net.py:build,seed=1,seed=2",), ("'seed' is given twice",)),
        (("a=net.py:build", "a=net.py:build"), ("two subjects are called 'a'",)),
        (("net.py:build", "bad.py:unlike"),
         ("no layer of build has a partner in unlike", "build is a torch model of 5 operations")),
        (("hf:nowhere",), ("no folder 'nowhere'", "nothing is downloaded")),
    ],
)  # fmt: skip
def test_a_bad_reference_is_one_line(compare, references, expected):
    done = compare(*references)
    assert done.code == 2, done.err
    for text in expected:
        assert text in done.error
    # What is installed needs no advice to install it.
    assert "pip install" not in done.error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--input", "x=five.npy"), "five.npy: the input 'x' takes 2x3x8x8, found 2x5x8x8"),
        (("--input", "x=nan.npy"), "nan.npy: the input 'x' has NaN or infinity"),
        (("--input", "x=int.npy"), "int.npy: the input 'x' takes float32, found int64"),
        (("--input", "x=text.npy"), "text.npy: expected one array, an .npy file"),
        (("--input", "x=nowhere.npy"), "nowhere.npy: no such file or directory"),
        (("--input", "y=five.npy"), "no model has an input called 'y'; there are: x"),
        (("--shape", "x=1x3"), "torch: does not run on 'x' of 1x3: net.py:13: RuntimeError"),
        (("--shape", "x=3"), "torch: does not run on 'x' of 3: "),
        (("--shape", "x=0x3"), "--shape: expected NAME=1x3x224x224, found 'x=0x3'"),
        (("--subjects", "nope"), "no subject is called 'nope'; there are: torch"),
        (("--reference", "nope"), "--reference: no subject is called 'nope'"),
    ],
)
def test_inputs_that_do_not_fit(compare, arguments, expected):
    done = compare("net.py:build", "--no-export", *arguments)
    assert done.code == 2, done.err
    assert expected in done.error


def test_the_names_of_a_script_are_told_without_its_modules(compare):
    done = compare("net.py:xyzzy")
    assert done.code == 2
    assert done.error.endswith(
        "net.py has no 'xyzzy'; it has Log, Net, broken, build, epsilon, logarithm, masked"
    )


def test_inputs_of_a_model_that_states_none(compare):
    done = compare("tokens.py:Tokens")
    assert done.code == 2
    assert "nothing states the shape of the input 'tokens': give --shape tokens=" in done.error
    done = compare("tokens.py:Tokens", "--shape", "tokens=1x4", "--shape", "mask=1x9")
    assert done.code == 2
    assert "torch: does not run on 'tokens' of 1x4, 'mask' of 1x9" in done.error
    # Tokens are integers, which is found by trial.
    done = compare(
        "tokens.py:Tokens", "--shape", "tokens=1x4", "--shape", "mask=1x4", "--json", "-"
    )
    assert done.code == 0, done.err


_HIDE_TIMM = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = (
    lambda name, package=None: None if name == "timm" else find_spec(name, package)
)
"""


def test_a_zoo_that_is_not_installed(compare, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(_HIDE_TIMM)
    done = compare("timm:resnet18", env={"PYTHONPATH": str(tmp_path)})
    assert done.code == 2, done.err
    assert "timm is not installed" in done.error
    assert "pip install" in done.error


@pytest.mark.parametrize(
    ("reference", "options", "failure"),
    [
        ("bad.py:broken", (), "bad.py:30: RuntimeError: no such luck"),
        # They die while they are read, while values prove their pairs, and when they are compared.
        *(
            (f"dies.py:build,runs={runs}", ("--no-export",), f"died during '{operation}'")
            for runs, operation in enumerate(["read_graph", "load_parameters", "run_graph"], 1)
        ),
        ("exits.py:Exits", (), "died during 'guess_inputs'"),
        ("bad.py:hangs", ("--timeout", "15"), "no answer to 'load_reference' within 15 s"),
    ],
)
def test_a_model_that_cannot_be_run_leaves_the_others_their_results(
    compare_unshared, reference, options, failure
):
    done = compare_unshared("net.py:build", f"other={reference}", *options, "--json", "-")
    assert done.code == 3, done.err
    report = done.report
    assert report["verdict"] == "unknown"
    failures = {name: facts["failure"] for name, facts in report["subjects"].items()}
    told = failures.pop("other")
    assert failure in told
    assert "All log messages before" not in told
    assert failures
    assert set(failures.values()) == {None}
    for stage in report["stages"]:
        assert {each["status"] for each in stage["subjects"].values()} == {"at-floor"}


@pytest.mark.parametrize(
    ("option", "runs", "note"),
    [(("--repeat", "20"), 12, "the runs stopped: "), (("--seeds", "9"), 12, "could not be run: ")],
)
def test_a_model_that_dies_after_the_verdict(compare_unshared, option, runs, note):
    """What is found until then is reported."""
    reference = f"other=dies.py:build,runs={runs}"
    done = compare_unshared(
        "net.py:build", reference, "--no-export", "--no-explain", *option, "--json", "-"
    )
    assert done.code != 2, done.err
    assert [stage["subjects"]["other"]["status"] for stage in done.report["stages"]]
    assert any(note in each["message"] for each in done.report["notes"]), done.report["notes"]


def test_the_only_model_that_cannot_be_run(compare):
    done = compare("bad.py:broken")
    assert done.code == 3
    assert "torch: bad.py:30: RuntimeError: no such luck" in done.error


def test_the_model_with_the_weights_that_cannot_be_run(compare):
    done = compare("net.py:build", "other=bad.py:broken", "--weights", "other")
    assert done.code == 3
    assert "--weights: other: bad.py:30: RuntimeError: no such luck" in done.error


def test_values_that_are_nan_in_the_reference_too_are_told(compare):
    """Weights and inputs are finite; the logarithm of what is negative is not."""
    done = compare("net.py:logarithm", "--json", "-")
    assert done.code == 0, done.err
    *_, last = done.report["stages"]
    left_out = {each["left_out"] for each in last["subjects"].values()}
    assert len(left_out) == 1
    assert 0 < left_out.pop() < 10
    (note,) = (n["message"] for n in done.report["notes"] if "NaN" in n["message"])
    assert "of 10 values" in note
    assert note.endswith("and in the reference alike: they were not compared")


def test_what_a_module_prints_is_in_no_output(compare):
    done = compare("bad.py:Net,4", "--shape", "x=1x3x8x8", "--json", "-")
    assert done.code == 0, done.err
    assert "printed by" not in done.out + done.err
    assert done.report["verdict"] == "parity"


def test_a_model_of_the_other_framework_is_loaded_there(compare):
    """The file imports both, so that the first child may be the wrong one."""
    done = compare("both.py:in_torch", "both.py:in_keras", "--weights", "in_torch", "--no-export",
                   "--json", "-")  # fmt: skip
    assert done.code == 0, done.err
    runtimes = [facts["runtime"].split()[0] for facts in done.report["subjects"].values()]
    assert runtimes == ["torch", "keras"]


# Weights -----------------------------------------------------------------------------------------


def _weights(done) -> dict[str, str]:
    assert done.code == 0, done.err
    report = done.report
    assert report["levels"]["weights"] == "pass"
    return report["weights"]


@pytest.mark.parametrize(
    ("weights", "same_as", "source"),
    [
        ("net.pth", "net.py:build,7", "net.pth, loaded into torch, copied by the alignment into"),
        ("net.pt", "net.py:build,7", "net.pt, loaded into torch, copied by the alignment into"),
        ("net.safetensors", "net.py:build,7", "net.safetensors, loaded into torch, copied by"),
        ("net.py:build,7", "net.py:build,7", "copied by the alignment into all"),
        ("torch", "net.py:build", "those of torch, copied by the alignment into all"),
    ],
)
def test_weights_are_copied_into_every_model(compare, weights, same_as, source):
    """Also into those that bring their own."""
    options = ("--no-export", "--json", "-")
    copied = _weights(compare("net.py:build", "keras_net.py:build", "--weights", weights, *options))
    assert source in copied["source"]
    alone = _weights(compare(same_as, *options))
    assert alone["source"] == "each model's own"
    assert copied["sha256"] == alone["sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["keras_net.weights.h5", "keras_net.py:build,9"])
def test_weights_are_copied_into_the_reference_too(compare, weights):
    options = ("--weights", weights, "--no-export", "--json", "-")
    copied = _weights(compare("net.py:build", "keras_net.py:build", *options))
    again = _weights(compare("net.py:build,3", "keras_net.py:build,4", *options))
    assert copied["sha256"] == again["sha256"]


def test_requests_that_are_begun_early_change_no_result(compare, monkeypatch):
    """Nor does the structure of models that differ, which is judged while others work."""
    options = ("--weights", "random", "--depth", "layer", "--json", "-")
    models = ("keras_net.py:build,7", "net.py:epsilon")
    early = compare(*models, *options)
    judged = []
    judge = compare_graphs._judge_structure
    monkeypatch.setattr(Child, "begin", lambda child, operation, **arguments: None)
    monkeypatch.setattr(compare_graphs._EarlyStructure, "finish", lambda early: None)
    monkeypatch.setattr(
        compare_graphs, "_judge_structure", lambda *a, **o: judged.append(1) or judge(*a, **o)
    )
    late = compare(*models, *options)
    assert judged or COLD
    assert early.report["levels"]["structure"] == "fail"
    assert _without_files(early.report) == _without_files(late.report)


def _without_files(value):
    """Return a report without its times and the names of temporary files."""
    if isinstance(value, dict):
        left_out = ("seconds", "created", "file")
        return {key: _without_files(each) for key, each in value.items() if key not in left_out}
    return [_without_files(each) for each in value] if isinstance(value, list) else value


def test_pairs_that_the_user_gives_are_kept(compare, parity, folder):
    """The values pair `one` with `two`; the user says otherwise."""
    models = ("branches.py:build,order=one-two", "branches.py:build,order=two-one,seed=1")
    options = (*models, "--weights", "build", "--no-export")
    assert compare(*options).code == 0
    assert compare(*options, "--table", "pairs.csv").code == 1
    done = compare(*options, "--table", "misspelt.csv")
    assert done.code == 2
    assert "row 1: build has no operation 'oen'; did you mean 'one'?" in done.err
    out, table = folder / "aligned.csv", ("--table", folder / "pairs.csv")
    done = parity("align", *(_in_folder(folder, each) for each in models), *table, "--out", out)
    assert done.code == 0, done.err
    lines = [line.split(",") for line in out.read_text().splitlines()]
    assert [line[1].split()[0] for line in lines if line[-1] == "given"] == ["one"]
    # What `align` writes can be given back.
    done = parity("align", *(_in_folder(folder, each) for each in models), "--table", out)
    assert "given" in done.out


def test_a_mask_of_infinity_is_a_weight(compare):
    assert compare("net.py:masked", "--no-export").code == 0


def test_without_weights_each_model_keeps_its_own(compare):
    done = compare("net.py:build", "keras_net.py:build", "--no-export", "--json", "-")
    assert done.code == 1
    assert done.report["weights"]["source"] == "each model's own"
    assert done.report["levels"]["weights"] == "fail"


@pytest.mark.slow
def test_random_weights_are_the_seeds(compare):
    arguments = ("net.py:build", "keras_net.py:build", "--weights", "random", "--no-export",
                 "--json", "-")  # fmt: skip
    first, again, other = (
        _weights(compare(*arguments, "--seed", seed)) for seed in ("1", "1", "2")
    )
    assert first["source"] == "random, seed 1"
    assert first["sha256"] == again["sha256"] != other["sha256"]


def test_a_subclassed_keras_model_takes_another_models_input(compare):
    """It states no shape, and its layers are built by the first call: channels last."""
    done = compare("net.py:build", "keras_net.py:Sub", "--weights", "torch", "--no-export",
                   "--json", "-")  # fmt: skip
    assert _weights(done)["source"] == "those of torch, copied by the alignment into all"


@pytest.mark.parametrize(
    ("models", "weights", "expected"),
    [
        (("net.py:build",), "nowhere.pth", "nowhere.pth: no such file"),
        (("net.py:build",), "keras_net.weights.h5",
         "a checkpoint of Keras, and no model here is one of Keras"),
        (("net.py:Net,6", "--shape", "x=1x3x8x8"), "net.pth",
         "net.pth: conv.weight: expected (6, 3, 3, 3), found (4, 3, 3, 3)"),
        (("tokens.py:Tokens", "--shape", "tokens=1x4", "--shape", "mask=1x4"), "net.pth",
         "net.pth: lacks embedding.weight"),
        (("net.py:build",), "nan.pth", "torch: its weights have NaN: conv.weight"),
        (("net.py:broken",), "own", "torch: its weights have NaN: conv.weight"),
        (("net.py:build",), "keras:MobileNetV2", "this model has no weights of its own"),
        (("net.py:build",), "resnet5", "--weights: unknown model 'resnet5'"),
        (("net.py:build",), "torhc", "no model here is called 'torhc'; did you mean 'torch'?"),
        (("net.py:build",), "bad.py:unlike", "no layer of torch has a partner in weights"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit(compare, models, weights, expected):
    done = compare(*models, "--weights", weights, "--no-export")
    assert done.code == 2, done.err
    assert expected in done.error


def test_the_users_files_are_left_as_they_are(compare, folder):
    def digest():
        files = sorted(path for path in folder.iterdir() if path.is_file())
        return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]

    before = digest()
    assert compare("net.py:build", "--weights", "net.pth").code == 0
    assert digest() == before


ALIKE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 4, batch_first=True)
        self.causal = causal

    def forward(self, x):
        size, mask = x.shape[1], None
        if self.causal:
            mask = nn.Transformer.generate_square_subsequent_mask(size, dtype=x.dtype)
        return self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]


def net(causal=False):
    torch.manual_seed(5)
    return Net(causal), torch.zeros(2, 6, 8)
"""


def test_an_example_of_zeros_hides_nothing(parity, tmp_path):
    """At an input that is alike everywhere a causal mask changes no number."""
    file = tmp_path / "net.py"
    file.write_text(ALIKE)
    done = parity("compare", f"a={file}:net", f"b={file}:net,causal=True", "--no-export")
    assert done.code == 1, done.err
    assert "it is causal" in done.out
    assert "its example has one number everywhere" in done.out + done.err


GROUPS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16, eps=1e-5)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.one(x)))
        return self.head(x.mean((2, 3)))


def net():
    torch.manual_seed(1)
    return Net(), torch.randn(2, 3, 24, 24)
"""

KERAS_GROUPS = """
import keras
from keras import layers


def net():
    data = keras.Input((24, 24, 3))
    x = layers.Conv2D(16, 3, padding="same")(data)
    x = layers.GroupNormalization(4, epsilon=1e-5)(x)
    x = layers.Activation("relu")(x)
    return keras.Model(data, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))
"""


def test_stress_inputs_of_a_group_norm_raise_no_alarm(parity, tmp_path):
    """ONNX Runtime sums thousands of equal values one by one: that is rounding too."""
    (tmp_path / "one.py").write_text(GROUPS)
    (tmp_path / "other.py").write_text(KERAS_GROUPS)
    names = (f"one={tmp_path}/one.py:net", f"other={tmp_path}/other.py:net")
    done = parity("compare", *names, "--weights", "one", "--stress")
    assert done.code == 0, done.out
    assert "6 more inputs agree" in done.out
