"""What the compared ONNX files state, and the preprocessing of photographs that follows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from parity.network.inputs import preprocessing
from parity.network.inputs.preprocessing import Preprocessing
from parity.network.onnx_metadata import StatedModel, read_stated_model


def read_stated_models(paths: Mapping[str, Path]) -> dict[str, StatedModel]:
    """Return, by subject, what its ONNX file states; one that states nothing is left out.

    Raises `InputError` for a file whose metadata is damaged.
    """
    found = {name: read_stated_model(path) for name, path in paths.items()}
    return {name: stated for name, stated in found.items() if stated != StatedModel()}


def choose_preprocessing(
    given: str | None, stated: Mapping[str, StatedModel]
) -> tuple[str | Preprocessing, list[str]]:
    """Return the preprocessing of a photograph, and notes on what the models state.

    In this order: what the user gave, what the first model states, ImageNet's. All models are given
    one input, so another that a model states is noted.
    """
    own = {name: each.preprocessing for name, each in stated.items() if each.preprocessing}
    if given is not None:
        chosen: str | Preprocessing = given
    elif own:
        chosen = next(iter(own.values()))
    else:
        return preprocessing.DEFAULT, []
    used = preprocessing.find(chosen)
    notes = []
    alike = [name for name, each in own.items() if each == used]
    if given is None:
        notes.append(
            f"the photograph is prepared as the metadata of {' and '.join(alike)} states: "
            f"{used.describe()}; --preprocess asks for another"
        )
    notes += [
        f"{name} states another preprocessing than the photograph was given: {each.describe()}; "
        f"given: {used.describe()}"
        for name, each in own.items()
        if name not in alike
    ]
    return chosen, notes
