"""The weights of replicas: they may keep fresh arrays, and never those of the model itself."""

from __future__ import annotations

import numpy as np
import pytest

from parity.runtimes.floors import iterate_replicates


def test_the_arrays_of_every_replicate_are_its_own():
    values = {"kernel": np.linspace(1, 2, 8, dtype=np.float32)}
    kept = []
    for _ in iterate_replicates(
        values, np.ones(3, np.float32), kept.append, replicates=range(3), seed=0
    ):
        pass
    assert len(kept) == 3
    np.testing.assert_array_equal(kept[0]["kernel"], values["kernel"])
    assert (kept[1]["kernel"] != kept[2]["kernel"]).any()
    for each in kept:
        assert not np.shares_memory(each["kernel"], values["kernel"])


@pytest.mark.framework
def test_only_what_is_given_away_is_kept():
    import torch
    from torch import nn

    from parity.runtimes.torch import weights

    model = nn.Linear(2, 2)
    kernel = np.arange(4, dtype=np.float32).reshape(2, 2)
    bias = np.ones(2, np.float32)

    def write(**options):
        weights.write_weights(
            model, {"weight": kernel}, names={"weight"}, unlisted={"bias": bias}, **options
        )
        np.testing.assert_array_equal(model.weight.numpy(), kernel)
        shared = np.shares_memory(model.weight.numpy(), kernel)
        # The rest of the state is another model's.
        assert not np.shares_memory(model.bias.numpy(), bias)
        return shared

    assert not write()
    assert write(copy=False)
    assert not write(copy=False, dtype=torch.float64)
    # Of a file that is mapped into memory nothing may be written to.
    kernel.flags.writeable = False
    assert not write(copy=False)
