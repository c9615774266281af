"""Where in its tensor the worst error lies."""

from __future__ import annotations

import pytest

from parity.commands import saved_captures
from parity.commands.diff import diff
from parity.comparison.profile import profile_worst_error
from tests.captures import write


@pytest.mark.parametrize("judged", ["float64", "float32", "bfloat16"])
def test_the_worst_profile_has_the_floor_that_judged_it(tmp_path, judged):
    """Each subject by the precision that it is judged as, not all by float32's."""
    folder = write(tmp_path / "captures", broken={"torch": "stem.relu"})
    stages = diff(folder, folder).stages
    found = profile_worst_error(
        stages,
        folder / f"{saved_captures.REFERENCE}{saved_captures.SUFFIX}",
        {name: folder / f"{name}{saved_captures.SUFFIX}" for name in ("keras", "torch")},
        {"keras": "float32", "torch": judged},
    )
    assert found is not None
    assert (found.subject, found.row) == ("torch", "stem.relu")
    assert max(found.channels) == pytest.approx(0.25, rel=1e-5)
    (stage,) = (stage for stage in stages if stage.row == "stem.relu")
    factor = {"float64": 2.0**-29, "float32": 1.0, "bfloat16": 2.0**16}[judged]
    assert found.floor_max == pytest.approx(stage.floor.max_abs * factor, rel=1e-6)
