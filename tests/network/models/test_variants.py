"""The networks that people publish with differences: each is told, and each is explained."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import dataclass
from importlib.resources import files

import jsonschema
import pytest

import parity as api
from parity.network import architectures
from parity.network.spec import Size
from parity.report.codec import to_json
from parity.report.model import Outcome
from tests.network.models import small_variants
from tests.network.models.small_variants import ALL, BOUND, DENSE, LAMBDA, PROJECTED, TEXTBOOK
from tests.report.test_terminal import rendered

pytestmark = pytest.mark.usefixtures("shared_children")

SCHEMA = json.loads(files("parity.report").joinpath("schema/report-v1.json").read_text())


@dataclass(frozen=True)
class Expected:
    """What the report must say: its causes as (layer, subject, cause), and by cause the words."""

    causes: tuple[tuple[str, str, str], ...]
    words: tuple[str, ...]
    structure: tuple[str, ...]
    """How each line of the structure begins, or what it holds."""


BIAS = "stem.conv: bias is False in torch, True in keras"
EPSILON = "layers, stem.bn to {norm}: epsilon is 1e-05 in torch, 1.001e-05 in keras"
PADDING = (
    "stage2.block0.conv2, stage3.block0.conv2, stage4.block0.conv2: padding is "
    "((1, 1), (1, 1)) in torch, ((0, 1), (0, 1)) in keras"
)
SOFTMAX = "logits: activation is 'linear' in torch, 'softmax' in keras"
COUNT = "parameters, expected "
HONEST = (
    ("logits", "keras", "softmax"),
    ("stem.bn", "keras", "batch-norm-epsilon"),
    ("stem.conv", "keras", "bias"),
)

EXPECTED = {
    LAMBDA: Expected(
        (
            ("stage1.block0.conv2", "keras", "groups-read-one-slice"),
            ("stage2.block0.conv2", "keras", "same-padding+groups-read-one-slice"),
            *HONEST,
        ),
        (
            "Every one of the {groups} groups reads the last slice of the input channels",
            "`conv2_block1_2_concat`: bind the loop variable in the lambda",
            "use ZeroPadding2D(1) and padding='valid'",
            "Dense `predictions`: return logits",
            "BatchNormalization `conv1_bn`: set epsilon=1e-05",
        ),
        (BIAS, EPSILON, PADDING, SOFTMAX, COUNT),
    ),
    BOUND: Expected(
        (("stage2.block0.conv2", "keras", "same-padding"), *HONEST),
        (
            "`conv3_block1_2_concat`: use ZeroPadding2D(1) and padding='valid'",
            "Dense `predictions`: return logits",
            "BatchNormalization `conv1_bn`: set epsilon=1e-05",
        ),
        (BIAS, EPSILON, PADDING, SOFTMAX, COUNT),
    ),
    DENSE: Expected(
        (("stage1.block0.conv2", "keras", "groups-read-whole-input"),),
        ("its weights cannot be copied: stage1.block0.conv2/kernel",),
        (
            "stem.conv: padding is ((3, 3), (3, 3)) in torch, ((2, 3), (2, 3)) in keras",
            EPSILON,
            "4 layers, stem.pool to stage4.block0.conv2: padding is ((1, 1), (1, 1)) in torch",
            "stage4.block{last}.conv2: groups is {groups} in torch, 1 in keras; the layer "
            "with groups=1 reads the whole input and is not a grouped convolution",
            SOFTMAX,
            COUNT,
        ),
    ),
    PROJECTED: Expected(
        (("layer1.1.downsample.0", "torch", "projection-in-every-block"),),
        (
            "1x1 convolutions are in no row of the table, and keep the shape of their input",
            "Remedy: use a projection only where a block changes the shape",
        ),
        (
            "layers that are not in the table: 'layer1.1.downsample.0', 'layer1.1.downsample.1'",
            COUNT,
        ),
    ),
    TEXTBOOK: Expected((), (), ()),
}


def test_variants_are_found_and_are_no_architectures():
    assert set(ALL) == set(architectures.variants()) == set(EXPECTED)
    assert not set(architectures.variants()) & set(architectures.names())
    assert all(
        architectures.from_json(architectures.get(name).to_json()) == architectures.get(name)
        for name in architectures.variants()
    )


@pytest.mark.parametrize("name", architectures.variants())
def test_their_tables_are_sound(name):
    architectures.get(name).table().validate()


@pytest.mark.parametrize(
    ("name", "total"), [(LAMBDA, 25_097_192), (BOUND, 25_097_192), (DENSE, 68_951_464)]
)
def test_they_are_as_large_as_they_were_published(name, total):
    """Keras counts the running statistics, too."""
    assert architectures.get(name).size.total == total


@pytest.mark.framework
@pytest.mark.parametrize("is_small", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_their_size_is_that_of_the_model_itself(name, is_small):
    """Both models of a true twin; else the one that is no reference."""
    found = small_variants.small(name) if is_small else architectures.get(name)
    sides = {"keras": _keras_size, "torch": _torch_size}
    if name != TEXTBOOK:
        del sides[found.default_reference]
    for measured in sides.values():
        assert measured(found) == found.size


def _keras_size(found):
    import keras

    module = importlib.import_module(f"parity.network.models.{found.family}.keras")
    # Shapes only: the variables are never filled.
    with keras.StatelessScope(initialize_variables=False):
        model = module.build(found)
        trained = sum(math.prod(variable.shape) for variable in model.trainable_variables)
        return Size(trained, model.count_params() - trained)


def _torch_size(found):
    import torch

    module = importlib.import_module(f"parity.network.models.{found.family}.torch")
    with torch.device("meta"):
        model = module.build(found)
    counters = "num_batches_tracked"
    return Size(
        sum(parameter.numel() for parameter in model.parameters()),
        sum(held.numel() for name, held in model.named_buffers() if not name.endswith(counters)),
    )


@pytest.fixture(scope="module")
def compared():
    """Compare a variant, or its small version, once for all tests of this file."""
    done = {}

    def compare(name, is_small):
        key = f"{name}-small" if is_small else name
        if key not in done:
            options = {} if is_small else {"classes": 10, "image_size": (64, 64)}
            done[key] = api.compare(key, subjects=("keras", "torch"), **options)
        return done[key]

    with pytest.MonkeyPatch.context() as patch:
        known = small_variants.registry()
        patch.setattr(architectures, "_registry", lambda: known)
        yield compare


QUICK = (DENSE, TEXTBOOK)
"""What takes some ten seconds at its published size."""

CASES = [
    *(pytest.param(name, True, id=f"{name}-small") for name in ALL if name not in QUICK),
    *(
        pytest.param(name, False, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name in ALL
    ),
]


def filled(text, report):
    """The text with the sizes of the model that was compared."""
    found = architectures.get(report.model)
    norms = [row.name for row in found.table().rows if row.kind == "batch_norm"]
    facts = {"last": found.depths[3] - 1, "groups": found.groups, "norm": norms[-1]}
    for key, value in facts.items():
        text = text.replace(f"{{{key}}}", str(value))
    return text


@pytest.mark.framework
@pytest.mark.parametrize(("name", "is_small"), CASES)
def test_the_explanation_comes_out_in_the_text(compared, name, is_small):
    report, expected = compared(name, is_small), EXPECTED[name]
    text = rendered(report, width=100_000)
    assert ("parity:" if name == TEXTBOOK else "divergence:") in text
    for layer, subject, cause in expected.causes:
        assert f"{layer}, {subject}: {cause}" in text
    for words in expected.words + expected.structure:
        # The remedy of the first cause has a line of its own.
        assert filled(words, report).casefold() in text.casefold()
    lines = [line.strip() for line in text.splitlines()]
    assert sum(line.startswith("structure:") for line in lines) == len(expected.structure)
    assert "not explained" not in text
    # The smallest set of differences, and none of it twice.
    table = range(
        next(i for i, line in enumerate(lines) if line.startswith("weights random")),
        max(i for i, line in enumerate(lines) if line.startswith(("Each subject:", "Isolated:"))),
    )
    told = [
        line
        for i, line in enumerate(lines)
        if line and i not in table and not line.startswith(("predicts:", "class n"))
    ]
    # Each remedy has a line.
    assert len(told) == len(set(told)) < 25 + text.count("remedy: ")


@pytest.mark.framework
@pytest.mark.parametrize(("name", "is_small"), CASES)
def test_the_explanation_comes_out_in_the_json(compared, name, is_small):
    report, expected = compared(name, is_small), EXPECTED[name]
    data = json.loads(json.dumps(to_json(report)))
    jsonschema.validate(data, SCHEMA)
    assert data["verdict"] == ("parity" if name == TEXTBOOK else "divergence")
    found = [(each["layer"], each["subject"], each["cause"]) for each in data["causes"]]
    assert found == list(expected.causes)
    for cause in data["causes"]:
        evidence = cause["evidence"]
        # Structure's own proof is a count of layers, and of their parameters.
        if "layers" not in evidence:
            assert evidence["x_floor_before"] > 8.0 >= evidence["x_floor_after"]
        assert "Remedy: " in cause["message"]
    level = data["levels"]["structure"]
    assert level == ("fail" if expected.structure else "pass")
    messages = report.levels["structure"].messages
    assert len(messages) == len(expected.structure)
    for words, message in zip(expected.structure, messages, strict=True):
        assert filled(words, report) in message


@pytest.mark.framework
def test_weights_that_fit_no_grouped_convolution_are_no_pass(compared):
    report = compared(DENSE, False)
    assert report.levels["weights"].outcome is Outcome.FAIL
    assert "its weights cannot be copied" in report.subjects["keras"].failure
    # What could be compared was: PyTorch beside its own float64.
    assert all(stage.subjects["torch"].status.passes for stage in report.stages)


@pytest.mark.framework
def test_only_the_sums_differ_where_every_block_projects(compared):
    report = compared(PROJECTED, True)
    assert report.reference == "keras"
    assert {found.layer.rpartition(".")[2] for found in report.divergences} == {"add"}


@pytest.mark.framework
@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_all_four_subjects_give_the_same_explanation(name, monkeypatch):
    """A graph has its model's causes; one that cannot be made is said to be so."""
    known = small_variants.registry()
    monkeypatch.setattr(architectures, "_registry", lambda: known)
    report = api.compare(f"{name}-small")
    assert set(report.subjects) == {"keras", "torch", "onnx-keras", "onnx-torch"}
    assert [(c.layer, c.subject, c.cause) for c in report.causes] == list(EXPECTED[name].causes)
    assert report.verdict.exit_code == (0 if name == TEXTBOOK else 1)
    failed = {name for name, facts in report.subjects.items() if facts.failure}
    assert failed == ({"keras", "onnx-keras"} if name == DENSE else set())


# The weights of one framework's model -------------------------------------------------------------


@pytest.mark.parametrize("name", [DENSE, BOUND, LAMBDA])
def test_a_variant_has_a_table_of_all_that_its_keras_model_has(name):
    spec = architectures.get(name)
    assert spec.table_for(("keras",)).parameters == spec.size.parameters
    assert spec.table().parameters != spec.size.parameters
    # Two frameworks can only have what both models have.
    assert spec.table_for(("keras", "torch")).parameters == spec.table().parameters


def test_any_other_model_has_one_table_for_all_frameworks():
    spec = architectures.get("resnet18")
    for sides in (("keras",), ("torch",), ("keras", "torch")):
        assert spec.table_for(sides).parameters == spec.parameters
