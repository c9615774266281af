"""A few Keras models of the study in every run of the tests."""

from __future__ import annotations

import dataclasses

import pytest

pytestmark = pytest.mark.framework

pytest.importorskip("exporters.keras_onnx")

from tests.studies.exports.__main__ import OURS, PASS, REFUSED, WRONG, run_case
from tests.studies.exports.case import Case
from tests.studies.exports.keras_models import CASES

BY_NAME = {case.name: case for case in CASES}

# One of each kind in every run; the others in the slow one, and all in the study itself.
RIGHT = (
    "normalization", "conv3d_groups", "conv2d_transpose_s3_k2_same_oNone", "average_pool_same_s2",
    "dynamic_unet", "lstm_masked_bidirectional", "transformer_masked", "compare_large_ints",
    "batch_gram", "nested_outputs", "fixed_batch", "mixed_float16", "subclassed_dict_sample",
)  # fmt: skip

RIGHT_TOO = (
    "group_norm", "conv2d_same_s2_k3", "depthwise_stride", "resizing_antialias",
    "time_distributed_length", "gru_reset_before", "simplernn_decoder_step", "conv_lstm1d",
    "cross_attention", "positional_encoding_length", "isnan_nan_to_num", "dict_named_outputs",
    "raw_variable", "string_lookup",
)  # fmt: skip


@pytest.mark.parametrize(
    "name", [*RIGHT, *(pytest.param(name, marks=pytest.mark.slow) for name in RIGHT_TOO)]
)
def test_a_model_of_the_study_is_exported_right(name):
    found = run_case(BY_NAME[name], [OURS])["results"][OURS]
    assert found["verdict"] == PASS, found["detail"]


@pytest.mark.parametrize("name", ["stateful_lstm", "hashing", "erf"])
def test_a_model_that_has_no_right_file_is_refused(name):
    found = run_case(BY_NAME[name], [OURS])["results"][OURS]
    assert found["verdict"] == REFUSED
    assert found["detail"].startswith("ExportError: ")


def test_a_wrong_file_counts_as_wrong(monkeypatch):
    model = BY_NAME["dense_3d"].build()
    run = model.run
    assert len(model.tolerance) == 1
    monkeypatch.setattr(model, "run", lambda inputs: [a * 1.00001 for a in run(inputs)])
    wrong = Case("dense_3d", "layers", lambda: model)
    assert run_case(wrong, [OURS])["results"][OURS]["verdict"] == WRONG


def test_every_kind_of_the_study_has_models_and_their_names_differ():
    assert len(BY_NAME) == len(CASES) >= 150
    kinds = {case.kind for case in CASES}
    assert {"convolutions", "recurrent", "attention", "subclassed", "applications"} <= kinds
    assert sum(case.kind == "applications" for case in CASES) >= 38


def test_outputs_with_keys_must_be_called_by_them(tmp_path):
    model = BY_NAME["dict_both"].build()
    model.entry = dataclasses.replace(model.entry, options={"outputs": ["alpha", "zeta"]})
    model.export(tmp_path / "a.onnx")
    assert "outputs are called" in model.check_names(tmp_path / "a.onnx")
