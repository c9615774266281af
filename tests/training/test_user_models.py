"""Training of anybody's models: paired by alignment, trained natively, verified step by step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import parity
from parity.errors import InputError, UsageError, WeightError
from parity.processes.children import Children
from parity.training.graph_models import GraphModelRequest, load_graph_models
from tests.commands.test_train import draw_folder
from tests.training.kills import list_differences

pytestmark = pytest.mark.usefixtures("shared_children")

FOLDER = Path(__file__).parent
TORCH, KERAS = f"{FOLDER}/user_torch.py:torch_", f"{FOLDER}/user_keras.py:keras_"

OPTIONS = {"epochs": 1, "batch": 64, "learning_rate": 1e-3, "threads": 1, "workers": 0}


def train(tmp_path, *models, **options):
    return parity.train(list(models), out=tmp_path / "run", **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The CNN twins, one epoch of the digits, three steps compared; decay on kernels alone."""
    folder = tmp_path_factory.mktemp("user")
    return train(
        folder,
        f"{TORCH}cnn",
        f"{KERAS}cnn",
        verify=True,
        every=10,
        optimizer="adamw",
        weight_decay=0.01,
    )


@pytest.mark.framework
def test_two_models_of_one_network_take_the_same_steps(finished):
    """Functional ReLUs, a shortcut, batch- and layer-norm, a dense layer on a flattened map."""
    assert finished.agrees
    assert [step.number for step in finished.verified_steps] == [1, 11, 21]
    assert all(len(step.comparisons) == 2 for step in finished.verified_steps)
    names = {e.tensor for e in finished.verified_steps[0].semantics.errors if e.kind == "gradient"}
    assert {"stem.conv.weight", "hidden.weight", "norm.bias"} <= names


@pytest.mark.framework
def test_grouped_convolutions_are_verified_in_float64(tmp_path):
    result = train(tmp_path, f"{TORCH}grouped", f"{KERAS}grouped", verify=True, every=20)
    assert result.agrees
    names = {e.tensor for e in result.verified_steps[0].semantics.errors if e.kind == "gradient"}
    assert "2.weight" in names


@pytest.mark.framework
def test_the_loss_is_taken_before_a_softmax_of_keras(tmp_path):
    """As Keras itself takes it, with a warning: both trainings are the same."""
    models = (f"{TORCH}cnn", f"{KERAS}cnn,head=softmax")
    result = train(tmp_path, *models, verify=True, every=30)
    assert result.agrees


@pytest.mark.framework
def test_running_sums_of_a_bias_are_rounding(tmp_path):
    """Behind a global mean all positions have one gradient, and sums of equal terms round alike."""
    models = (f"{TORCH}grouped,bias=true", f"{KERAS}grouped,bias=true")
    result = train(tmp_path, *models, verify=True, every=20, batch=512)
    assert result.agrees


@pytest.mark.framework
def test_running_sums_of_a_batch_norm_are_rounding(tmp_path):
    """XLA sums 131,072 almost equal gradients one by one, and the batch-norm takes their mean."""
    models = (f"{TORCH}normed", f"{KERAS}normed")
    result = train(tmp_path, *models, verify=True, every=20, batch=128, image_size=32)
    assert result.agrees


@pytest.mark.framework
def test_both_checkpoints_have_the_names_of_pytorch(finished):
    loaded = {
        each.framework: safetensors.numpy.load_file(each.last) for each in finished.frameworks
    }
    assert loaded["keras"].keys() == loaded["torch"].keys()
    initial = safetensors.numpy.load_file(finished.folder / "initial.safetensors")
    for name, value in loaded["torch"].items():
        other = loaded["keras"][name]
        assert value.shape == other.shape
        if not name.endswith(("running_mean", "running_var")):
            # The steps of Adam move every weight by some 1e-2; the two agree far better.
            moved = np.abs(value - initial[name]).max()
            assert np.abs(value - other).max() < 0.1 * moved, name


@pytest.mark.framework
def test_the_start_is_the_weights_of_another_reference(tmp_path):
    models = (f"{TORCH}cnn", f"{KERAS}cnn")
    result = train(tmp_path, *models, init=f"{TORCH}even,value=0.03", learning_rate=1e-9)
    started = safetensors.numpy.load_file(result.folder / "initial.safetensors")
    assert {"stem.conv.weight", "head.bias"} <= started.keys()
    trained = {n: v for n, v in started.items() if not n.endswith(("running_mean", "running_var"))}
    assert all(np.array_equal(value, np.full_like(value, 0.03)) for value in trained.values())
    for each in result.frameworks:
        last = safetensors.numpy.load_file(each.last)
        assert all(np.allclose(last[name], 0.03, atol=1e-6) for name in trained)


@pytest.mark.framework
@pytest.mark.parametrize("model", [f"{TORCH}cnn", f"{KERAS}cnn"])
def test_either_model_is_evaluated_with_either_checkpoint(model, finished):
    by_name = {each.framework: each for each in finished.frameworks}
    own = "torch" if model.startswith(TORCH) else "keras"
    other = "keras" if own == "torch" else "torch"
    found = parity.evaluate(
        model, data="digits", weights=by_name[other].last, subjects=own, workers=0
    )
    loss = found.splits[0].scores[own].loss
    assert loss == pytest.approx(by_name[other].epochs[-1].validation_loss, rel=1e-4)


@pytest.mark.framework
@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_refused_in_one_line(finished, tmp_path):
    other = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"conv.weight": np.zeros((2, 2), np.float32)}, other)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no checkpoint")
    for path, message in ((other, "the model has no weight conv.weight"), (broken, "broken")):
        with pytest.raises(WeightError, match=message) as error:
            parity.evaluate(f"{KERAS}cnn", data="digits", weights=path, subjects="keras", workers=0)
        assert "\n" not in str(error.value)


@pytest.mark.framework
@pytest.mark.slow
def test_a_run_of_other_models_is_not_resumed(finished, tmp_path):
    options = {**OPTIONS, "optimizer": "adamw", "weight_decay": 0.01, "out": finished.folder}
    with pytest.raises(UsageError) as error:
        parity.train([f"{TORCH}cnn", f"{KERAS}cnn,momentum=0.8"], resume=True, **options)
    text = str(error.value)
    assert "model.references" in text
    assert "\n" not in text
    configuration = json.loads((finished.folder / "configuration.json").read_text())
    assert set(configuration["model"]["files"]) == {"user_torch.py", "user_keras.py"}
    again = parity.train([f"{TORCH}cnn", f"{KERAS}cnn"], resume=True, **{**options, "epochs": 2})
    assert [epoch.epoch for epoch in again.frameworks[0].epochs] == [1, 2]


@pytest.mark.framework
@pytest.mark.slow
def test_packed_projections_are_trained_as_three_kernels(tmp_path):
    result = train(tmp_path, f"{TORCH}attention", f"{KERAS}attention", verify=True, every=100)
    assert result.agrees
    names = {e.tensor for e in result.verified_steps[0].semantics.errors if e.kind == "gradient"}
    assert "attention.in_proj_weight" in names


@pytest.mark.framework
@pytest.mark.slow
def test_a_subclassed_model_is_built_by_the_images(tmp_path):
    result = train(
        tmp_path,
        f"{TORCH}cnn",
        f"{FOLDER}/user_keras.py:KerasCnn",
        image_size=8,
        verify=True,
        every=100,
    )
    assert result.agrees


@pytest.mark.framework
@pytest.mark.slow
@pytest.mark.parametrize(
    ("models", "kind", "tensor", "cause"),
    [
        (("cnn", "cnn,momentum=0.8"), "statistics", "body.0.norm.running_mean",
         "batch-norm-momentum"),
        (("cnn", "cnn,dropout=0.3"), "dropout", "1", "dropout"),
        (("cnn", "cnn,frozen=hidden"), "gradient", "hidden.bias", "frozen-weight"),
        (("cnn,frozen=True", "cnn"), "gradient", "", "frozen-weight"),
        (("cnn", "cnn,stop=True"), "gradient", "body.0.norm.bias", "detached"),
        (("cnn", "cnn,shortcut=False"), "gradient", "stem.norm.bias", "detached"),
        (("cnn,detach=True", "cnn"), "gradient", "", "detached"),
    ],
)  # fmt: skip
def test_a_fault_of_one_model_is_located_and_named(models, kind, tensor, cause, tmp_path):
    result = train(tmp_path, TORCH + models[0], KERAS + models[1], verify=True, every=100)
    assert not result.agrees
    assert not result.is_undetermined
    step = result.verified_steps[0]
    first = step.semantics.first_difference()
    if tensor:
        assert (first.kind, first.tensor) == (kind, tensor)
    else:
        assert step.semantics.missing[0].startswith(("gradient/hidden.bias", "gradient/body.0."))
    assert [each.name for each in step.causes] == [cause]


@pytest.mark.framework
def test_a_pool_that_pads_is_seen_and_what_cannot_be_seen_is_listed(tmp_path):
    """ReLU6 has kinks, and no side of them can be told."""
    request = GraphModelRequest((f"{TORCH}padded", f"{KERAS}padded"), 10, "digits", 1)
    with Children() as children:
        model = load_graph_models(request, children, tmp_path, lambda name, text: None)
    points = {point.name: point for point in model.layouts["keras"].choices}
    assert list(points) == ["1", "2"]
    assert points["2"].kind == "max_pool"
    assert points["2"].crop == (1, 1, 1, 1)
    assert model.hidden_kinks == ("4",)
    assert model.image_size == (8, 8)
    assert [row.name for row in model.table.rows if row.weights] == ["0", "3", "7"]


@pytest.mark.framework
@pytest.mark.slow
def test_a_run_starts_from_a_scheme_and_from_the_checkpoint_of_another(tmp_path):
    models = (f"{TORCH}padded", f"{KERAS}padded")
    first = parity.train(models, out=tmp_path / "first", init="he-normal", **OPTIONS)
    initial = safetensors.numpy.load_file(tmp_path / "first" / "initial.safetensors")
    # Behind 72 products: a deviation of the square root of 2/72.
    assert initial["3.weight"].std() == pytest.approx((2 / 72) ** 0.5, rel=0.15)
    assert not initial["3.bias"].any()
    last = first.frameworks[0].last
    parity.train(
        models, out=tmp_path / "second", init=str(last), band=1, formats=(".pth", ".keras"),
        **OPTIONS,
    )  # fmt: skip
    initial = safetensors.numpy.load_file(tmp_path / "second" / "initial.safetensors")
    expected = safetensors.numpy.load_file(last)
    assert all(np.array_equal(initial[name], expected[name]) for name in expected)
    assert (tmp_path / "second" / "torch" / "best.pth").is_file()
    assert (tmp_path / "second" / "keras" / "last.keras").is_file()


@pytest.mark.framework
@pytest.mark.slow
def test_a_run_with_dropout_goes_on_as_if_it_had_never_ended(tmp_path):
    models = (f"{TORCH}cnn", f"{KERAS}cnn,dropout=0.3")
    parity.train(models, out=tmp_path / "whole", **{**OPTIONS, "epochs": 2})
    parity.train(models, out=tmp_path / "parts", **OPTIONS)
    parity.train(models, out=tmp_path / "parts", resume=True, **{**OPTIONS, "epochs": 2})
    assert list_differences(tmp_path / "parts", tmp_path / "whole") == []


@pytest.mark.framework
def test_the_seed_is_that_of_the_weights_too(tmp_path):
    first = {}
    for seed in (0, 1):
        train(tmp_path / str(seed), f"{TORCH}padded", image_size=8, seed=seed)
        path = tmp_path / str(seed) / "run" / "initial.safetensors"
        first[seed] = safetensors.numpy.load_file(path)["3.weight"]
    assert not np.array_equal(first[0], first[1])


@pytest.mark.framework
@pytest.mark.parametrize("model", [f"{TORCH}cnn", f"{KERAS}cnn"])
def test_one_model_alone_trains_in_its_framework(model, tmp_path):
    result = train(tmp_path, model, image_size=8)
    (each,) = result.frameworks
    assert each.framework == ("torch" if model.startswith(TORCH) else "keras")
    names = set(safetensors.numpy.load_file(each.last))
    assert ({"stem.conv.weight"} if each.framework == "torch" else {"stem_conv/kernel"}) <= names


@pytest.mark.framework
@pytest.mark.parametrize(
    ("models", "error", "message"),
    [
        ((f"{KERAS}cnn,num_classes=7",), UsageError,
         "output has 7 values, digits has 10 classes; build the model with 10"),
        ((f"{TORCH}cnn", f"{TORCH}attention"), UsageError, "are both models of PyTorch"),
        ((f"{TORCH}cnn,size=12",), InputError,
         r"user_torch.py:torch_cnn,size=12: does not run on images of 1x8x8 and \d+ more: "
         "RuntimeError: mat1 and .*; --image-size and --channels change them"),
        ((f"{TORCH}cnn,size=8", f"{KERAS}attention"), WeightError, "has no partner in"),
    ],
)  # fmt: skip
def test_models_that_cannot_be_trained_are_refused_in_one_line(models, error, message, tmp_path):
    with pytest.raises(error, match=message) as found:
        train(tmp_path, *models)
    assert found.value.exit_code == 2
    assert "\n" not in str(found.value)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Coloured images of no one size, of two classes."""
    return draw_folder(tmp_path_factory.mktemp("photographs") / "data", size=(12, 14))


@pytest.mark.framework
@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (f"{TORCH}grouped", {}, "nothing states the size of the images; give --image-size"),
        (f"{TORCH}cnn,size=28", {"image_size": 32},
         "torch_cnn,.*: does not run on images of 3x32x32 and 1 more: RuntimeError: mat1 and mat"),
        (f"{KERAS}cnn", {"image_size": 32}, "its input has height 8, the images have 32"),
    ],
)  # fmt: skip
def test_images_that_a_model_does_not_take_are_refused_with_the_option(
    model, options, message, photographs, tmp_path
):
    with pytest.raises((InputError, UsageError), match=message) as found:
        train(tmp_path, f"{model},num_classes=2", data=photographs,
              **options)  # fmt: skip
    assert found.value.exit_code == 2
    assert "--image-size" in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.framework
def test_a_model_that_runs_on_one_size_is_trained_on_it(photographs, tmp_path):
    """Images of no one size, in colour; the model takes 28x28 in grey and does not state it."""
    result = train(tmp_path, f"{TORCH}cnn,size=28,num_classes=2", data=photographs, batch=4)
    assert len(result.frameworks) == 1
    configuration = json.loads((result.folder / "configuration.json").read_text())
    assert configuration["preprocessing"]["image_size"] == [28, 28]
    assert configuration["preprocessing"]["channels"] == 1
    assert any("runs on 1x28x28" in note for note in result.notes)


@pytest.mark.parametrize(
    ("models", "options", "message"),
    [
        ([], {}, "nothing to train: give a model"),
        ([f"{TORCH}cnn"], {"verify": True}, "--verify: compares the steps of both frameworks"),
        (["a.py:b", "c.py:d"], {}, "a.py"),
        ([f"{TORCH}cnn"] * 3, {}, "expected one model of each framework, found 3"),
        ([f"{TORCH}cnn"], {"epochs": 0}, "--epochs: must be a whole number above 0"),
        ([f"{TORCH}cnn"], {"init": "xavier"}, "--init 'xavier': expected default"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_framework_starts(
    models, options, message, tmp_path
):
    with pytest.raises(UsageError, match=message):
        train(tmp_path, *models, **options)
