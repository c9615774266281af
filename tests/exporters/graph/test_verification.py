"""Verification on files that are right, and on files that are wrong on purpose."""

from __future__ import annotations

import numpy as np
import pytest

from exporters.errors import ExportError
from exporters.graph import inject, memory, verification, write
from exporters.graph.framework_runs import perturb
from exporters.graph.session_process import SessionProcess
from exporters.graph.verification import draw_samples, verify

pytestmark = pytest.mark.framework


def to_function(weights, *, change=None):
    """The structure of conftest, in NumPy float32."""
    calls = []

    def run(inputs, *, seed=None):
        calls.append((len(inputs[0]), seed))
        w = dict(weights)
        if seed is not None:
            w = {k: perturb(v, seed=seed, index=i) for i, (k, v) in enumerate(w.items())}
        shift = w["beta"] - w["mean"] / np.sqrt(w["variance"])
        y = np.maximum(inputs[0] @ w["kernel"].T + shift, 0)
        return [change(y) if change else y]

    run.calls = calls
    return run


@pytest.fixture
def written(structure, weights, tmp_path):
    model = inject(structure, weights)
    path = tmp_path / "a.onnx"
    write(model, path)
    return model, path, draw_samples(structure.model.graph.input[:1])


def test_a_correct_file_passes(written, weights):
    model, path, inputs = written
    function = to_function(weights)
    checks = verify(model, path, function, inputs).checks
    assert [(check.output, check.batch) for check in checks] == [("y", 1), ("y", 2), ("y", 3)]
    assert all(check.passed for check in checks)
    assert function.calls == [(3, None), (2, None), (1, None)]


def test_replicates_are_run_before_an_export_is_called_wrong(written, weights):
    model, path, inputs = written
    function = to_function(weights, change=lambda y: y * 1.001)
    with pytest.raises(ExportError, match="something else"):
        verify(model, path, function, inputs)
    assert [seed for _, seed in function.calls if seed is not None] == [0, 1, 2, 3, 4]


def spoil(y):
    y = y.copy()
    y[-1, 0] += 1e-4 * np.abs(y).max()
    return y


def nan(y):
    y = y.copy()
    y[0, 0] = np.nan
    return y


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil, r"computes something else: y at N=\d: max abs"),
        (nan, "inf"),
        (lambda y: y[:, ::-1], "something else"),
        (lambda y: y[:, :1], r"expected shape \(\d, 1\), found \(\d, 2\)"),
        (lambda y: y * np.nan, "not finite"),
        (lambda y: y - y.mean(0), "something else"),
        (lambda y: 1 / 0, "the model itself fails at N=3"),
    ],
)
def test_a_wrong_file_fails_with_numbers(written, weights, change, message):
    model, path, inputs = written
    with pytest.raises(ExportError, match=message):
        verify(model, path, to_function(weights, change=change), inputs)


def test_one_changed_weight_is_found(structure, written, weights):
    model, path, inputs = written
    other = {name: array.copy() for name, array in weights.items()}
    other["kernel"][1, 2] *= 1.0001
    with pytest.raises(ExportError, match="something else"):
        verify(model, path, to_function(other), inputs)


def test_a_broken_file_is_one_line(written, weights):
    model, path, inputs = written
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ExportError, match="does not load"):
        verify(model, path, to_function(weights), inputs)


def test_an_invalid_graph_is_one_line(structure, written, weights):
    model, path, inputs = written
    model.skeleton.graph.node[0].op_type = "Nonsense"
    with pytest.raises(ExportError, match="not a valid ONNX model"):
        verify(model, path, to_function(weights), inputs)


def unlike(weights, *, plain, perturbed):
    """The structure of conftest, changed one way as it is and another way when it is perturbed."""
    as_it_is, moved = (to_function(weights, change=change) for change in (plain, perturbed))

    def run(inputs, *, seed=None):
        return (as_it_is if seed is None else moved)(inputs, seed=seed)

    return run


@pytest.mark.parametrize("perturbed", [nan, lambda y: y * np.inf])
def test_a_replicate_that_is_not_finite_explains_nothing(written, weights, perturbed):
    model, path, inputs = written
    function = unlike(weights, plain=lambda y: y * 1.001, perturbed=perturbed)
    with pytest.raises(ExportError, match="something else"):
        verify(model, path, function, inputs)


def test_a_replicate_of_another_shape_is_one_line(written, weights):
    model, path, inputs = written
    function = unlike(weights, plain=lambda y: y * 1.001, perturbed=lambda y: y[:, :1])
    with pytest.raises(ExportError, match=r"perturbed model has shape \[1, 1\], expected \[1, 2\]"):
        verify(model, path, function, inputs)


def test_anything_is_infinitely_far_from_zeros(written, weights):
    model, path, inputs = written
    with pytest.raises(ExportError, match=r"relative L2 inf \(rounding explains 4\.77e-07\)"):
        verify(model, path, to_function(weights, change=lambda y: y * 0), inputs)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_perturbation_is_one_unit_at_most(dtype):
    array = np.random.default_rng(1).standard_normal(70_000).astype(dtype)
    moved = perturb(array, seed=0, index=3)
    relative = np.abs(moved / array - 1)
    assert moved.dtype == dtype
    assert 0.2 < (moved != array).mean() < 1
    assert relative.max() <= 2 * np.finfo(dtype).eps
    np.testing.assert_array_equal(perturb(array, seed=0, index=3), moved)
    assert (perturb(array, seed=1, index=3) != moved).any()


def test_integers_are_not_perturbed():
    array = np.arange(5)
    assert perturb(array, seed=0) is array


def test_other_inputs_are_run_together_where_rows_are_kept_apart(written, weights):
    model, path, _ = written
    function = to_function(weights)
    result = verify(model, path, function)
    assert [rows for rows, _ in function.calls] == [3, 2, 1, 3 * 128]
    assert {check.inputs for check in result.other_checks} == {"more", "extreme", "ties"}


def test_a_model_that_mixes_rows_runs_on_each_kind_of_input_alone(structure, weights, tmp_path):
    """A file of it is refused here, but for its own numbers and not for those of other cases."""
    model = inject(structure, weights)
    path = tmp_path / "a.onnx"
    write(model, path)
    function = to_function(weights, change=lambda y: y - y.mean(0))
    with pytest.raises(ExportError, match="something else"):
        verify(model, path, function)
    assert 128 in {rows for rows, _ in function.calls}
    assert 3 * 128 not in {rows for rows, _ in function.calls}


def test_rows_that_disagree_in_a_shared_run_are_run_alone(written, weights):
    """What only a large batch changes is no fault of the file at the batches that it is run at."""
    model, path, _ = written
    function = to_function(weights, change=lambda y: y * 2 if len(y) > 128 else y)
    verify(model, path, function)
    assert [rows for rows, seed in function.calls if seed is None] == [3, 2, 1, 384, 128, 128, 128]


def test_an_extreme_row_that_is_wrong_is_found_in_a_shared_run(written, weights):
    model, path, _ = written
    function = to_function(weights, change=lambda y: np.minimum(y, 40))
    with pytest.raises(ExportError, match="extreme inputs"):
        verify(model, path, function)


def unstable(weights, *, units):
    """The structure of conftest, which gives another result on inputs beyond 50.

    Where those move by more than `units` in their last place, the result is the file's.
    """
    right = to_function(weights)
    first = []

    def run(inputs, *, seed=None):
        (y,) = right(inputs, seed=seed)
        beyond = np.abs(inputs[0]).max(1) > 50
        x = inputs[0][beyond]
        if not x.size:
            return [y]
        first.append(x)
        if np.abs(x / first[0] - 1).max() <= units * np.finfo(np.float32).eps:
            y[beyond] = y[beyond][:, ::-1] + 1000
        return [y]

    return run


def test_what_jumps_at_an_extreme_input_proves_nothing_and_a_smaller_one_is_tried(written, weights):
    model, path, _ = written
    result = verify(model, path, unstable(weights, units=3))
    assert "extreme inputs prove nothing of y: rounding explains too much" in result.notes
    (extreme,) = (feeds for feeds in result.feeds if 15 < np.abs(feeds["x"]).max() < 50)
    assert len(extreme["x"]) == 128
    assert [check.passed for check in result.other_checks if check.inputs == "extreme"] == [True]


def test_what_does_not_jump_at_an_extreme_input_is_refused(written, weights):
    model, path, _ = written
    with pytest.raises(ExportError, match="extreme inputs"):
        verify(model, path, unstable(weights, units=100))


def test_the_session_of_many_weights_is_closed_before_the_framework_runs_again(
    written, weights, monkeypatch
):
    """Two copies of the weights are then not in memory at once; a later run opens it again."""
    model, path, _ = written
    monkeypatch.setattr(memory, "_MANY_WEIGHTS", 1)
    events = []
    for name in ("start_loading", "start_running", "release"):
        original = getattr(SessionProcess, name)
        monkeypatch.setattr(
            SessionProcess,
            name,
            lambda self, *args, n=name, f=original, **named: (
                events.append(n),
                f(self, *args, **named),
            )[1],
        )
    function = to_function(weights)

    def run(inputs, *, seed=None):
        if seed is not None:
            events.append("replicate")
        (y,) = function(inputs, seed=seed)
        # Rounding that only a replicate measures.
        return [y * (1 + (5 if seed is None else -5) * 2.0**-22)]

    verify(model, path, run)
    first = events.index("replicate")
    assert events[first - 1] == "release"
    assert events[first:].index("start_loading") < events[first:].index("start_running")


def test_weights_below_that_keep_the_session_open(written, weights):
    model, path, inputs = written
    loads = []
    function = to_function(weights, change=lambda y: y * 1.001)
    session = verification.get_shared_process()
    original = session.start_loading
    session.start_loading = lambda path: (loads.append(path), original(path))[1]
    try:
        with pytest.raises(ExportError, match="something else"):
            verify(model, path, function, inputs)
    finally:
        del session.start_loading
    assert len(loads) == 1
