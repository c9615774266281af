"""The formats of model files, told by suffix and content; nothing is unpickled or executed."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from parity.errors import UsageError
from parity.text import one_line, printable

_TORCH_SUFFIXES = (".pt2", ".pt", ".pth")
_KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
_WEIGHT_SUFFIXES = (".weights.h5", ".safetensors")
MODEL_SUFFIXES = (*_KERAS_SUFFIXES, *_TORCH_SUFFIXES, ".onnx")
"""The suffixes of files that can hold a model; a SavedModel is a folder."""

SAVED_MODEL = "saved_model.pb"
TRANSFORMERS_CONFIG = "config.json"

# What a damaged archive makes zipfile raise.
_ZIP_ERRORS = (
    zipfile.BadZipFile, ValueError, RuntimeError, LookupError, EOFError, struct.error, zlib.error,
)  # fmt: skip

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


class WeightsAloneError(UsageError):
    """A file that was named as a model holds weights and no model."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What a model file is; `format` is how a message names it."""

    runtime: str
    format: str
    is_program: bool = False
    """Whether loading it can run code that the file holds."""


ONNX = ModelFile("onnx", "ONNX")
KERAS_ARCHIVE = ModelFile("keras", "Keras archive")
KERAS_HDF5 = ModelFile("keras", "Keras HDF5 file")
SAVED_MODEL_FOLDER = ModelFile("keras", "SavedModel", is_program=True)
TORCHSCRIPT = ModelFile("torch", "TorchScript", is_program=True)
EXPORTED_PROGRAM = ModelFile("torch", "torch.export program", is_program=True)


def is_path_like(text: str) -> bool:
    """Return whether a text without `:` can only be meant as a path: a folder or a suffix in it."""
    suffixes = (*MODEL_SUFFIXES, *_WEIGHT_SUFFIXES, ".py")
    return "/" in text or os.sep in text or text.lower().endswith(suffixes) or text in (".", "..")


def identify(path: str) -> ModelFile:
    """Return what the model file or folder at `path` is.

    Raises `UsageError` if there is none, if it holds weights and no model, if it is damaged, and if
    its content is not what its suffix says.
    """
    name = printable(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            return _identify_folder(Path(path), name)
        if not stat.S_ISREG(mode):
            raise UsageError(f"{name}: expected a file or a SavedModel folder, found neither")
        return _identify_file(Path(path), name)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{name}: no such file or folder") from None
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror or error}") from error
    except _ZIP_ERRORS as error:
        reason = one_line(str(error), longest=160) or type(error).__name__
        raise UsageError(f"{name}: is damaged: {reason}") from error


def is_checkpoint(path: str) -> bool:
    """Return whether the file at `path` holds weights and no model, told by suffix and content.

    Raises `UsageError` if a file of a checkpoint's suffix does not exist or is damaged.
    """
    lower = path.lower()
    if lower.endswith(_WEIGHT_SUFFIXES):
        require_file(path)
        return True
    if not lower.endswith(_TORCH_SUFFIXES):
        return False
    try:
        identify(path)
    except WeightsAloneError:
        return True
    return False


def require_file(path: str) -> None:
    """Raise `UsageError` unless `path` is a regular file that can be opened."""
    name = printable(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UsageError(f"{name}: expected a file, found a folder or a special file")
        with open(path, "rb"):
            return
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{name}: no such file or directory") from None
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror or error}") from error


def _identify_folder(path: Path, name: str) -> ModelFile:
    if (path / SAVED_MODEL).is_file():
        return SAVED_MODEL_FOLDER
    if (path / TRANSFORMERS_CONFIG).is_file():
        raise UsageError(f"{name}: is a transformers folder; write hf:{name}")
    raise UsageError(f"{name}: is a folder without {SAVED_MODEL}, so not a SavedModel")


def _identify_file(path: Path, name: str) -> ModelFile:
    lower = path.name.lower()
    if lower.endswith(_WEIGHT_SUFFIXES):
        raise _weights_alone(name)
    if lower.endswith(".py"):
        raise UsageError(f"{name}: name the model in it: {name}:NAME")
    if not lower.endswith(MODEL_SUFFIXES):
        raise UsageError(
            f"{name}: expected a model file ({' '.join(MODEL_SUFFIXES)}), "
            f"found the suffix '{path.suffix}'"
        )
    with path.open("rb") as stream:
        head = stream.read(len(_HDF5_MAGIC))
    if not head:
        raise UsageError(f"{name}: is empty")
    if lower.endswith(".onnx"):
        return ONNX
    if lower.endswith(_TORCH_SUFFIXES):
        return _identify_torch(path, name)
    if head == _HDF5_MAGIC:
        return KERAS_HDF5
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if "config.json" in archive.namelist():
                return KERAS_ARCHIVE
    raise UsageError(f"{name}: not a Keras model: neither an HDF5 file nor a Keras archive")


def _identify_torch(path: Path, name: str) -> ModelFile:
    """Tell TorchScript, torch.export and a pickle apart by the members of the zip file.

    The names are those that `torch.jit.save`, `torch.export.save` and `torch.save` write.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as stream:
            head = stream.read(4)
        if head == b"PK\x03\x04":
            raise UsageError(f"{name}: is damaged: a zip file without its end")
        if head[:1] == b"\x80":
            # A pickle, as PyTorch wrote before version 1.6.
            raise _weights_alone(name)
        raise UsageError(f"{name}: not a PyTorch file: no zip file and no pickle")
    with zipfile.ZipFile(path) as archive:
        members = {member.partition("/")[2] or member for member in archive.namelist()}
    if "constants.pkl" in members and any(member.startswith("code/") for member in members):
        return TORCHSCRIPT
    if members & {"archive_format", "serialized_exported_program.json"}:
        return EXPORTED_PROGRAM
    if "data.pkl" in members:
        raise _weights_alone(name)
    raise UsageError(f"{name}: not a PyTorch file: a zip file without a model")


def _weights_alone(name: str) -> WeightsAloneError:
    return WeightsAloneError(
        f"{name}: holds weights and no model; give file.py:NAME,weights={name}"
    )
