"""How many terms the sums of an operation have, from which its rounding follows."""

from __future__ import annotations

import numpy as np
import pytest

from parity.comparison.graphs.points import count_repeated_terms, sum_terms
from parity.network.graph import Graph, Node, Parameter, Port, Tensor


def graph_of(kind, shape, output=None, *, parameters=(), **hyper):
    tensors = {
        "x": Tensor("x", shape, "float32"),
        "y": Tensor("y", output or shape, "float32"),
    }
    node = Node("n", kind, kind, ("x",), ("y",), parameters, hyper)
    return Graph("torch", (node,), tensors, (Port("x", "x"),), (Port("y", "y"),))


def gamma(length):
    return (Parameter("gamma", "gamma", (length,), "float32"),)


@pytest.mark.parametrize(
    ("graph", "count"),
    [
        (graph_of("group_norm", (2, 16, 24, 24), groups=4), 2304),
        (graph_of("group_norm", (2, 16, 24, 24), groups=1), 9216),
        (graph_of("instance_norm", (2, 16, 24, 24), parameters=gamma(16)), 576),
        (graph_of("layer_norm", (2, 197, 192), parameters=gamma(192)), 192),
        (graph_of("layer_norm", (2, 24, 24, 64), axes=[1, 2, 3]), 36864),
        (graph_of("rms_norm", (2, 7, 32), parameters=gamma(32)), 32),
    ],
)
def test_the_values_of_one_mean_of_a_norm(graph, count):
    assert sum_terms(graph)["n"] == pytest.approx(max(count / 6, 1.0))
    assert sum_terms(graph, repeated=True)["n"] == count_repeated_terms(count)


def test_other_operations_sum_as_before_whatever_the_input():
    for repeated in (False, True):
        assert sum_terms(graph_of("relu", (2, 8, 4, 4)), repeated=repeated) == {"n": 1.0}
        kernel = (Parameter("kernel", "kernel", (8, 4, 3, 3), "float32"),)
        conv = graph_of("conv", (2, 4, 9, 9), (2, 8, 7, 7), parameters=kernel)
        assert sum_terms(conv, repeated=repeated)["n"] == 36
    pool = graph_of("global_avg_pool", (2, 8, 16, 16), (2, 8))
    assert sum_terms(pool)["n"] == 256
    assert sum_terms(pool, repeated=True)["n"] == count_repeated_terms(256)


@pytest.mark.parametrize("terms", [256, 2304, 4096])
def test_equal_terms_err_as_that_many_of_random_sign(terms):
    """√(n / 6) roundoffs is the root mean square error of one running sum of n random terms."""
    numbers = np.random.default_rng(0).uniform(1, 2, 300).astype(np.float32)
    sums = np.add.accumulate(np.tile(numbers, (terms, 1)), axis=0)[-1].astype(np.float64)
    errors = sums / (terms * numbers.astype(np.float64)) - 1.0
    expected = 2.0**-24 * np.sqrt(count_repeated_terms(terms) / 6.0)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(expected, rel=0.15)


def test_a_floor_of_repeated_values_stays_below_another_epsilon():
    """2¹⁰ roundoffs are 6e-5; no input makes a difference of 1e-3 rounding."""
    assert count_repeated_terms(1e6) == 6.0 * 1024.0**2
    assert count_repeated_terms(1e9) == 1e9
