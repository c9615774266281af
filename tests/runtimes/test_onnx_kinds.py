"""The names that the kinds give for ONNX are those of operators and attributes."""

from __future__ import annotations

import pytest

from parity.network import kinds

pytestmark = pytest.mark.framework


@pytest.mark.parametrize("kind", kinds.registry().values(), ids=lambda kind: kind.name)
def test_every_name_is_one_of_onnx(kind):
    from onnx import defs

    schemas = [defs.get_schema(name, max_inclusive_version=version)
               for name in kind.onnx for version in (9, 24) if _exists(name, version)]  # fmt: skip
    assert {schema.name for schema in schemas} == set(kind.onnx)
    attributes = {name for schema in schemas for name in schema.attributes}
    # Pad's amounts became an input.
    given = {setting.onnx for setting in kind.hyperparameters if setting.onnx} - {"pads"}
    assert given <= attributes


def _exists(name: str, version: int) -> bool:
    from onnx import defs

    return defs.has(name, version)
