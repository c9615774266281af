"""With the Keras model as the reference, own models are compared and explained all the same."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import parity as api
from parity.errors import TableError, UsageError
from parity.network.table import LayerTable

pytestmark = [pytest.mark.framework, pytest.mark.slow]

TABLE = Path("tests/twins/small.csv")
OWN = (
    *("keras=tests.twins.keras_small:build", "torch=tests.twins.torch_small:build"),
    *("--table", TABLE, "--image-size", "32", "--input", "random"),
)


def small(name="build", keras="build", **options):
    given = {
        "table": TABLE,
        "subjects": ("keras", "torch"),
        "reference": "keras",
        **options,
    }
    models = f"keras=tests.twins.keras_small:{keras}", f"torch=tests.twins.torch_small:{name}"
    return api.compare(*models, image_size=(32, 32), input="random", **given)


@pytest.fixture
def edited(tmp_path):
    """The small table with the row of the grouped convolution replaced."""

    def edit(row):
        lines = TABLE.read_text().splitlines()
        kept = [row if line.startswith("body.conv,") else line for line in lines]
        assert kept != lines
        path = tmp_path / "table.csv"
        path.write_text("\n".join(kept))
        return path

    return edit


def test_a_weight_has_one_name_whichever_model_is_asked():
    from parity.runtimes.keras import weights as keras
    from parity.runtimes.torch import weights as torch
    from tests.twins import keras_small, torch_small

    models = keras_small.build(), torch_small.build()
    for row in LayerTable.load(TABLE).rows:
        assert [*keras.find_weights(models[0], row)] == [*torch.find_weights(models[1], row)]


@pytest.mark.parametrize(
    "more",
    [
        {},
        pytest.param({"depth": "layer", "serial": True, "semantics": True}, marks=pytest.mark.slow),
    ],
)
def test_healthy_models_pass(more):
    everything = ("keras", "torch", "onnx-keras", "onnx-torch")
    report = small(subjects=everything, **more)
    assert report.verdict == "parity", report
    assert report.reference == "keras"
    assert report.levels["weights"].outcome == "pass"
    assert report.weights.parameters == 429
    # The digest is of the weights alone, not of who was asked for them.
    assert report.weights.sha256 == small(reference="torch").weights.sha256


@pytest.mark.parametrize(
    ("name", "layer", "cause", "told"),
    [
        ("other_epsilon", "entry.norm", "batch-norm-epsilon", "BatchNorm2d `norm`: set eps=1e-05"),
        ("one_weight", "body.conv", "changed-weights", "Conv2d `body`: restore the values"),
    ],
)
def test_a_fault_of_the_pytorch_model_is_explained(name, layer, cause, told):
    report = small(name)
    assert report.verdict == "divergence"
    first = report.first_divergence
    assert (first.subject, first.layer) == ("torch", layer)
    (found,) = report.causes
    assert (found.layer, found.subject, found.cause) == (layer, "torch", cause)
    assert told in found.message
    assert all(stage.subjects["keras"].status.passes for stage in report.stages)


def test_a_weight_that_pytorch_lacks_is_named():
    told = "body.conv/bias: the PyTorch model has no 'body.bias'; it has body.weight"
    with pytest.raises(TableError, match=told):
        small("without_bias")


@pytest.mark.parametrize("reference", ["keras", pytest.param("torch", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("body.conv,body,conv,body,", "torch has a layer that is not in the table: 'body'"),
        ("body.conv,body,conv,,body", "keras has a layer that is not in the table: 'body'"),
        ("body.conv,body,conv,body,inner@input", "body.conv: torch does not state kernel"),
    ],
)
def test_a_row_that_is_no_layer_of_one_model(edited, row, told, reference):
    """Its weights cannot be asked of that model, which does not end the comparison."""
    report = small(table=edited(row), reference=reference, serial=True)
    assert report.verdict == "divergence"
    assert any(told in message for message in report.levels["structure"].messages)
    assert report.levels["numerics"].outcome == "pass"


@pytest.mark.parametrize("reference", ["keras", pytest.param("torch", marks=pytest.mark.slow)])
def test_a_keras_model_that_takes_any_size(reference):
    """Its shapes and its padding are those at the size that is compared."""
    report = small(keras="any_size", reference=reference)
    assert report.verdict == "parity", report
    assert [stage.shape for stage in report.stages][1] == (1, 8, 32, 32)


def test_a_size_that_such_a_model_cannot_take():
    import keras

    from parity.runtimes.keras import layers as keras_layers

    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 5)(image))
    (layer,) = keras_layers.describe_layers(model, LayerTable(()), (3, 6, 7))
    assert layer["shape"] == [4, 2, 3]
    with pytest.raises(UsageError, match=r"cannot be given \(3, 4, 4\)"):
        keras_layers.describe_layers(model, LayerTable(()), (3, 4, 4))


def test_weights_of_a_file_and_of_a_seed(tmp_path, checkpoint):
    """A registered model beside one's own, by a table without shapes and weights."""
    table = tmp_path / "table.csv"
    with table.open("w", newline="") as file:
        columns = csv.writer(file)
        for row in csv.reader(_resnet18().to_csv().splitlines()):
            columns.writerow(row[:5])
    for weights in (checkpoint, None):
        report = api.compare(
            "resnet18",
            "keras=tests.twins.broken:other_epsilon",
            table=table,
            weights=weights,
            classes=10,
            image_size=(64, 64),
            subjects=("keras", "torch"),
            reference="keras",
        )
        first = report.first_divergence
        assert (first.subject, first.layer) == ("torch", "stage1.block1.bn1")
        assert [cause.cause for cause in report.causes] == ["batch-norm-epsilon"]


def _resnet18():
    from parity.network import architectures

    return architectures.get("resnet18", classes=10, image_size=(64, 64)).table()


def test_captures_are_judged_later(parity, tmp_path):
    """Also beside those of a run that had the other reference."""
    subjects = ("--subjects", "keras,torch")
    for reference in ("keras", "torch"):
        done = parity(
            *("capture", *OWN, *subjects, "--reference", reference, "--depth", "layer"),
            *("--out", tmp_path / reference),
        )
        assert done.code == 0, done.err
    for other in ("keras", "torch"):
        judged = parity("diff", tmp_path / "keras", tmp_path / other, "--json", "-")
        assert judged.code == 0, judged.err
        assert judged.report["verdict"] == "parity"
        assert judged.report["reference"] == "keras"
