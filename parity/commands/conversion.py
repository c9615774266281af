"""The result of a conversion, and the conversion of a registered model's checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from parity import files, temporary
from parity.commands.values import Progress
from parity.comparison.checkpoints import CANONICAL, convert_checkpoint, detect_format
from parity.errors import WeightError
from parity.network import weights
from parity.network.spec import ModelSpec
from parity.processes.children import Children


@dataclass(frozen=True)
class Conversion:
    """A finished conversion; `sha256` is that of the weights that both files hold.

    `model` is the architecture, or the reference of the model whose weights were converted, and
    `into` that of the model whose checkpoint was written. `source` is None where the model brought
    its weights. `tensors` is the number of arrays, `parameters` the number of trained values;
    `notes` name what was changed on reading or copying, such as half precision.
    """

    model: str
    source: Path | None
    target: Path
    tensors: int
    parameters: int
    sha256: str
    notes: tuple[str, ...]
    into: str = ""
    difference: str = ""
    """How the outputs of `into` differ, with these weights, from those of `model`; "" where they
    are the same. The weights are written even so."""


def convert_registered(
    spec: ModelSpec, source: Path, target: Path, children: Children, progress: Progress
) -> Conversion:
    """Convert a checkpoint of a registered model; the file is read back before it is renamed.

    Raises `WeightError` for a checkpoint that does not fit, or is read back with other bits.
    """
    target_format = detect_format(target)
    if not source.is_file():
        raise WeightError(f"{source}: no such file")
    with (
        files.atomic_write(target) as part,
        temporary.working_folder() as folder,
    ):
        canonical = folder / "canonical.safetensors"
        notes = convert_checkpoint(spec, source, canonical, children, progress)
        values = weights.load(canonical, spec.table())
        if target_format == CANONICAL:
            weights.save(part, values, metadata={"model": spec.name})
        else:
            progress(target_format, f"writing {target.name}")
            children[target_format].call(
                "write_checkpoint", spec=spec.to_json(), source=str(canonical), path=str(part)
            )
        verification = folder / "verification.safetensors"
        convert_checkpoint(spec, part, verification, children, progress, reader=target_format)
        digest = weights.digest(values)
        if weights.digest(weights.load(verification, spec.table())) != digest:
            raise WeightError(f"{target}: the weights read back differ from those of {source}")
    tensors = sum(1 for _ in spec.table().weights())
    return Conversion(spec.name, source, target, tensors, spec.parameters, digest, notes)
