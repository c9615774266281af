"""Which layers' choices a training step cannot be given."""

from parity.network.graph import OPAQUE
from parity.network.rows import Row
from parity.training.models import find_hidden_kinks


def test_an_operation_that_parity_does_not_know_has_no_kink():
    rows = [Row("own", "stage", kind, "own", "own") for kind in (OPAQUE, "relu")]
    rows[1] = Row("relu", "stage", "relu", "relu", "relu")
    assert find_hidden_kinks(rows, hooked=()) == ("relu",)
    assert find_hidden_kinks(rows, hooked=("relu",)) == ()
