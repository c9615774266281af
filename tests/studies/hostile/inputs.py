"""The inputs of the campaign by kind, seeded: good files that are damaged, and files that lie."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import socket
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests import captures
from tests.studies.hostile.case import (
    JUDGED,
    REFUSED,
    UNDECIDED,
    HostileCase,
    Write,
    mutate,
    mutate_text,
)

SMALL = ("--classes", "10", "--image-size", "32")
# What is no bad input after all ends soon, undecided: no answer comes in so short a time.
INPUT = (
    *("compare", "resnet18", *SMALL, "--subjects", "torch", "--no-cache"),
    *("--timeout", "0.001", "--input"),
)
CONVERT = ("convert", "resnet18", *SMALL, "--weights")
HOSTILE_NAMES = (
    "\x1b[2Jx", "::error::x", "a\nb", "-x", "--help", "x" * 250, "é", "\u202ex", " ", "%s%n",
    "a;touch taken", "$(touch taken)", "`touch taken`", "..", "a\tb", "\x9b31m",
)  # fmt: skip

TORCH_NET = """import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(4, 3)
    def forward(self, x):
        return self.body(x).relu()
def build():
    torch.manual_seed(0)
    return Net().eval(), (torch.ones(2, 4),)
"""


def content(name: str, data: bytes | str) -> Write:
    """Write one file."""
    return lambda folder: _write(folder / name, data)


def _write(path: Path, data: bytes | str) -> None:
    path.write_bytes(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data)


def _several(*writes: Write) -> Write:
    def write(folder: Path) -> None:
        for each in writes:
            each(folder)

    return write


# Pictures -----------------------------------------------------------------------------------------


def _picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (48, 40)) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(stream, kind)
    return stream.getvalue()


def _png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"x"))


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n"


def pictures(chance: random.Random) -> Iterator[HostileCase]:
    """Yield damaged pictures without end, after those that are made by hand."""
    special = {
        "eps": POSTSCRIPT,
        "ppm": b"P6 1 1 255\n\0\0\0",
        "text": b"hello",
        "empty": b"",
        "page": b"<!DOCTYPE html>",
        "bomb": _png_that_claims(60000, 60000),
        "long": _png_that_claims(100_000_000, 1),
        "thin": _png_that_claims(1, 70_000),
        "huge": _png_that_claims(2**31 - 1, 2**31 - 1),
        "none": _png_that_claims(0, 0),
        "32 bits": _picture("TIFF", "I"),
        "float": _picture("TIFF", "F"),
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "pdf": b"%PDF-1.4\n1 0 obj",
        "icns": b"icns\0\0\0\x08",
        "psd": b"8BPS\0\x01" + bytes(20),
    }
    for name, data in special.items():
        for suffix in ("jpg", "png"):
            file = f"x.{suffix}"
            yield HostileCase("picture", f"{name}.{suffix}", content(file, data), (*INPUT, file))
    kinds = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
    whole = {kind: _picture(kind) for kind in kinds}
    number = 0
    while True:
        kind = chance.choice(kinds)
        data = mutate(whole[kind], chance)
        file = f"x.{kind.lower()}"
        number += 1
        yield HostileCase(
            "picture", f"{kind} {number}", content(file, data), (*INPUT, file), UNDECIDED
        )


# Arrays -------------------------------------------------------------------------------------------


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def _npy_header(text: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    body = text.encode("latin-1", "replace")
    return b"\x93NUMPY" + bytes(version) + len(body).to_bytes(2, "little") + body + data


def _npz(**arrays: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in arrays.items():
            archive.writestr(name, data)
    return stream.getvalue()


class Runs:
    """A pickle of this would make a file."""

    def __reduce__(self) -> object:
        return (os.system, ("touch taken",))


def arrays(chance: random.Random) -> Iterator[HostileCase]:
    good = np.zeros((1, 3, 32, 32), np.float32)
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }\n"
    special = {
        "objects.npy": _npy(np.array([Runs()], object)),
        "claims.npy": _npy_header(header % "1099511627776, 3, 32, 32"),
        "negative.npy": _npy_header(header % "-1, 3, 32, 32"),
        "float shape.npy": _npy_header(header % "1.5, 3, 32, 32"),
        "token.npy": _npy_header("{'descr': '<f4', 'shape': (1, 3"),
        "indent.npy": _npy_header("  {\n 'descr': 1\n}"),
        "nested.npy": _npy_header("(" * 5000),
        "code.npy": _npy_header("__import__('os').system('touch taken')"),
        "null.npy": _npy_header("\0"),
        "unicode.npy": _npy(np.array(["a", "b"])),
        "void.npy": _npy(np.zeros(3, [("a", "f4"), ("b", "O")])),
        "structured.npy": _npy(np.zeros(3, [("a", "f4")])),
        "nan.npy": _npy(np.full((1, 3, 32, 32), np.nan, np.float32)),
        "complex.npy": _npy(np.zeros((1, 3, 32, 32), np.complex64)),
        "half.npy": _npy(good.astype(np.float16)),
        "double.npy": _npy(good.astype(np.float64)),
        "big-endian.npy": _npy(good.astype(">f4")),
        "empty.npy": b"",
        "version.npy": b"\x93NUMPY\x09\x09" + bytes(20),
        "zero items.npy": _npy(good[:0]),
        "last.npy": _npy(good.transpose(0, 2, 3, 1)),
        "several.npz": _npz(**{"a.npy": _npy(good), "b.npy": _npy(good)}),
        "names.npz": _npz(**{"\x1b[2J.npy": _npy(good), "\n::error::x": b""}),
        "traversal.npz": _npz(**{"../../taken.npy": b"x"}),
        "bomb.npz": _npz(**{"a.npy": bytes(2**28)}),
        "objects.npz": _npz(**{"a.npy": _npy(np.array([Runs()], object))}),
        "text.npz": b"PK\x03\x04 hello",
        "none.npz": _npz(),
    }
    for name, data in special.items():
        expected = UNDECIDED if name == "big-endian.npy" else REFUSED
        yield HostileCase("array", name, content(name, data), (*INPUT, name), expected)
    whole = {"npy": _npy(good[:, :, :4, :4]), "npz": _npz(**{"a.npy": _npy(good[:, :, :4, :4])})}
    number = 0
    while True:
        suffix = chance.choice(list(whole))
        name = f"x.{suffix}"
        number += 1
        data = mutate(whole[suffix], chance)
        yield HostileCase("array", f"{suffix} {number}", content(name, data), (*INPUT, name))


# Checkpoints --------------------------------------------------------------------------------------


def _safetensors(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def safetensors(chance: random.Random) -> Iterator[HostileCase]:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    special: dict[str, bytes] = {
        "empty": b"",
        "length": (2**62).to_bytes(8, "little"),
        "nested": _safetensors(b"[" * 100_000),
        "list": _safetensors([1]),
        "sizes": _safetensors({"a": {**entry, "shape": [2**40, 2**40]}}, bytes(8)),
        "offsets": _safetensors({"a": {**entry, "data_offsets": [0, 2**60]}}, bytes(8)),
        "overlap": _safetensors({"a": entry, "b": entry}, bytes(8)),
        "names": _safetensors({"\x1b[2J\n::error::x" * 5000: entry}, bytes(8)),
        "page": b"<html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\n",
        "zip": b"PK\x03\x04",
        "pickle": pickle.dumps(Runs()),
        **{
            f"dtype {code}": _safetensors({"fc.bias": {**entry, "dtype": code}}, bytes(8))
            for code in ("BF16", "F8_E4M3", "F8_E5M2", "BOOL", "U8", "C64", "F4", "X")
        },
    }
    for name, data in special.items():
        file = "x.safetensors"
        yield HostileCase(
            "safetensors", name, content(file, data), (*CONVERT, file, "out.safetensors")
        )
    whole = _safetensors(
        {"fc.bias": {**entry, "shape": [10], "data_offsets": [0, 40]}, "__metadata__": {"a": "b"}},
        bytes(40),
    )
    number = 0
    while True:
        number += 1
        file = "x.safetensors"
        yield HostileCase(
            "safetensors",
            f"changed {number}",
            content(file, mutate(whole, chance)),
            (*CONVERT, file, "out.safetensors"),
        )


def torch_checkpoints(chance: random.Random, samples: dict[str, bytes]) -> Iterator[HostileCase]:
    special = {
        **{name: data for name, data in samples.items() if name.endswith(".pth")},
        "text.pth": b"hello, this is a text file",
        "empty.pth": b"",
        "runs.pth": pickle.dumps({"a": Runs()}, protocol=2),
        "zip.pth": b"PK\x03\x04",
        "opcodes.pth": b"\x80\x02" + b"(" * 100_000,
        "index.pth": b"\x80\x02e.",
        "type.pth": b"\x80\x02N(NtR.",
        "attribute.pth": b"\x80\x02N}b.",
        "lookup.pth": b"\x80\x02h\x05.",
        "long.pth": b"\x80\x02\x8b\xff\xff\xff\x7f.",
        "unicode.pth": b"\x80\x02X\xff\xff\xff\x7fa.",
        "bytes.pth": b"\x80\x04\x8e" + (2**40).to_bytes(8, "little"),
    }
    for name, data in special.items():
        yield HostileCase(
            "torch checkpoint", name, content(name, data), (*CONVERT, name, "out.safetensors")
        )
        own = f"net.py:build,weights={name}"
        yield HostileCase(
            "torch checkpoint",
            f"{name} into a model",
            _several(content("net.py", TORCH_NET), content(name, data)),
            ("compare", own, "net.py:build"),
            JUDGED,
        )
    whole = [samples["zip.good"], samples["legacy.good"]]
    number = 0
    while True:
        number += 1
        yield HostileCase(
            "torch checkpoint",
            f"changed {number}",
            content("x.pth", mutate(chance.choice(whole), chance)),
            (*CONVERT, "x.pth", "out.safetensors"),
        )


def keras_checkpoints(chance: random.Random, samples: dict[str, bytes]) -> Iterator[HostileCase]:
    special = {
        name: data for name, data in samples.items() if name.endswith((".weights.h5", ".keras"))
    }
    special |= {
        "text.weights.h5": b"hello",
        "empty.weights.h5": b"",
        "magic.weights.h5": b"\x89HDF\r\n\x1a\n" + bytes(200),
        "text.keras": b"hello",
        "zip.keras": _npz(**{"config.json": b"{}"}),
        "bomb.keras": _npz(**{"config.json": b"{}", "model.weights.h5": bytes(2**28)}),
        "traversal.keras": _npz(**{"../taken": b"x", "model.weights.h5": b"x"}),
    }
    for name, data in special.items():
        yield HostileCase(
            "keras checkpoint", name, content(name, data), (*CONVERT, name, "out.safetensors")
        )
    whole = samples["small.h5"]
    number = 0
    while True:
        number += 1
        data = mutate(whole, chance)
        if chance.random() < 0.3:
            name, data = "x.keras", _npz(**{"config.json": b"{}", "model.weights.h5": data})
        else:
            name = "x.weights.h5"
        yield HostileCase(
            "keras checkpoint",
            f"changed {number}",
            content(name, data),
            (*CONVERT, name, "out.safetensors"),
        )


# Captures -----------------------------------------------------------------------------------------


def saved_captures(chance: random.Random) -> Iterator[HostileCase]:
    """Yield captures that are damaged, and edited with a digest that fits."""
    number = 0
    while True:
        number += 1
        seed = chance.randrange(2**32)
        yield HostileCase(
            "capture",
            f"changed {number}",
            lambda folder, seed=seed: _write_capture(folder, random.Random(seed)),  # type: ignore[misc]
            ("diff", "one", "one"),
            # An edit whose digest fits is another capture, whose verdict may be any.
            frozenset({0, 1, 2, 3}),
        )


def _write_capture(folder: Path, chance: random.Random) -> None:
    made = captures.write(folder / "one")
    files = sorted(made.glob("*.safetensors"))
    path = chance.choice(files)
    data = path.read_bytes()
    if chance.random() < 0.4:
        path.write_bytes(mutate(data, chance))
        return
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    manifest = json.loads(header["__metadata__"]["parity"])
    for _ in range(chance.choice((1, 1, 3))):
        _replace_part(manifest if chance.random() < 0.8 else header, chance)
    _forge(header, manifest)
    try:
        text = json.dumps(header).encode()
    except (ValueError, RecursionError):
        text = b"{}"
    path.write_bytes(data[:8] + text.ljust(size)[:size] + data[8 + size :])


def _forge(header: dict, manifest: object) -> None:
    """Put a manifest with a digest that fits into a header, where that is possible."""
    from parity.numerics import capture

    try:
        entries = {
            name: capture._TensorEntry(
                capture._DTYPES[value["dtype"]], tuple(value["shape"]), value["data_offsets"][0]
            )
            for name, value in header.items()
            if name != "__metadata__"
        }
        assert isinstance(manifest, dict)
        manifest["digest"] = capture._digest(manifest, entries)
    except Exception:  # noqa: BLE001 (what cannot be forged stays an obvious edit)
        pass
    header["__metadata__"] = {"parity": json.dumps(manifest)}


def _replace_part(data: object, chance: random.Random) -> None:
    """Replace one value somewhere inside plain data."""
    values = (
        None, -1, 2**80, 1.5, float("inf"), float("nan"), "x" * 100_000, "\x1b[2J\n::error::x", [],
        {}, [[]], True, "", ["a", 1, None], {"a": {"b": []}},
    )  # fmt: skip
    node = data
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))  # type: ignore[arg-type, call-overload]
        if not keys:
            return
        key = chance.choice(keys)
        inner = node[key]  # type: ignore[index]
        if isinstance(inner, dict | list) and inner and chance.random() < 0.75:
            node = inner
            continue
        if isinstance(node, dict) and chance.random() < 0.2:
            del node[key]
        else:
            node[key] = chance.choice(values)  # type: ignore[index]
        return


# Texts: cases, locks, tables, references, options -------------------------------------------------

CASES = """[defaults]
subjects = ["torch"]
image_size = 32
[[case]]
name = "first"
model = "resnet18"
classes = 10
lock_factor = 2.0
depth = "stage"
[reports]
json = "report.json"
"""


def case_files(chance: random.Random) -> Iterator[HostileCase]:
    special = {
        "deep depth": CASES.replace('"stage"', '"deep"'),
        "5,000 digits": CASES.replace("32", "9" * 5000),
        "control": 'a = 1\n"\x1b[2J" = 2\n',
        "escaped control": '"\\u001b[2J" = 2\n',
        "workflow": '"\\n::error::x" = 1\n',
        "long key": "x" * 100_000 + " = 1\n",
        "latin-1": b"\xe9 = 1\n",
        "nul": "a = \x00\n",
        "nested": "a = " + "[" * 5000 + "\n",
        "report over itself": CASES.replace("report.json", "parity.toml"),
        "report without folder": CASES.replace("report.json", "no/where.json"),
        "model of a path": CASES.replace('"resnet18"', '"../x.py:build"'),
        "huge number": CASES.replace("10", "1" * 400),
        "infinite factor": CASES.replace("2.0", "inf"),
        "nan factor": CASES.replace("2.0", "nan"),
        "date": CASES.replace("10", "1979-05-27"),
        "environments": CASES + '[environments]\nkeras = ["nowhere"]\n',
        "empty": "",
        "one case twice": CASES + '[[case]]\nname = "first"\nmodel = "resnet18"\n',
    }
    for name, text in special.items():
        yield HostileCase("case file", name, content("parity.toml", text), ("check",))
    lock = json.dumps({"schema": "parity.lock/1", "cases": {"first": {"model": "x"}}}, indent=1)
    number = 0
    while True:
        number += 1
        if chance.random() < 0.3:
            write = _several(
                content("parity.toml", CASES.partition("[reports]")[0]),
                content("parity.lock.json", mutate_text(lock, chance)),
            )
        else:
            write = content("parity.toml", mutate_text(CASES, chance))
        # What is harmless would run a comparison; an unknown case ends it before.
        yield HostileCase("case file", f"changed {number}", write, ("check", "--case", "none"))


TABLE = """name,stage,kind,keras,torch
stem.conv,stem,conv,conv1,conv1
body.relu,body,relu,relu,relu
head,head,dense,fc,fc
"""


def tables(chance: random.Random) -> Iterator[HostileCase]:
    from parity.network import architectures

    table = architectures.get("resnet18").table()
    texts = {
        "csv": (TABLE, "\n".join(table.to_csv().split("\n")[:6])),
        "toml": ("\n".join(table.to_toml().split("\n")[:40]),),
        "json": (json.dumps(table.to_json(), indent=1)[:3000],),
    }
    number = 0
    while True:
        number += 1
        suffix = chance.choice(list(texts))
        text = mutate_text(chance.choice(texts[suffix]), chance)
        name = f"t.{suffix}"
        arguments = ("compare", "keras=no_a:b", "torch=no_c:d", "--table", name)
        yield HostileCase("table", f"{suffix} {number}", content(name, text), arguments)


REFERENCES = (
    "net.py:build", "keras:ResNet50", "timm:resnet18", "hf:bert", "resnet18", "net.onnx", "a:b",
    "net.py:build(1)", "net.py:build(a=[1,2])", "net.py:build,weights=x.pth", "new=net.py:build",
)  # fmt: skip


def references(chance: random.Random) -> Iterator[HostileCase]:
    special = (
        *(
            "",
            ":",
            "::",
            "a:",
            ":b",
            "=",
            "a=",
            ",",
            "()",
            "a:b(",
            "a:b)",
            "net.py:build(__import__",
        ),
        *("net.py:build(9" + "9" * 5000 + ")", "net.py:" + "(" * 2000, "x" * 100_000, "/" * 5000),
        *("a\x1b[2J:b", "net.py:bu\nild", "net.py:__class__", "net.py:build.__globals__"),
        *("/dev/zero", "/dev/stdin:build", "/proc/self/mem", "/etc/passwd", "~root/x.onnx", "."),
        *("os:system('touch taken')", "net.py:build(**{})", "net.py:build('\\x1b[2J')"),
        *HOSTILE_NAMES,
    )
    for text in special:
        yield HostileCase(
            "reference",
            text[:40],
            content("net.py", TORCH_NET),
            ("compare", "--", "net.py:x", text),
        )
    number = 0
    while True:
        number += 1
        text = mutate_text(chance.choice(REFERENCES), chance).replace("\x00", "?")
        command = chance.choice(("compare", "align"))
        yield HostileCase(
            "reference",
            f"changed {number}",
            content("other.py", "x = 1"),
            (command, "--", "other.py:nothing", text),
        )


def options(chance: random.Random) -> Iterator[HostileCase]:
    names = (
        "--limit", "--batch", "--seed", "--classes", "--image-size", "--channels", "--repeat",
        "--seeds", "--opset", "--timeout", "--depth", "--subjects", "--reference", "--device",
        "--precision", "--judge-as", "--python", "--weights", "--input", "--table", "--json",
        "--html", "--save-captures", "--keras-backend", "--onnx-keras", "--onnx-torch",
    )  # fmt: skip
    values = (
        "0", "-1", "nan", "inf", "1e400", "9" * 5000, "x" * 100_000, "", " ", "\x1b[2J", "a\nb",
        "::error::x", "0x10", "1,2", "torch,torch", "/", ".", "/dev/full/x", "no/where/x.json",
        "2147483648", "1e9", "None", "é", "\udcff", "None=1", "--", "-",
    )  # fmt: skip
    while True:
        name, value = chance.choice(names), chance.choice(values)
        # A second fault, so that a harmless value starts no comparison.
        arguments = ("compare", "resnet18x", f"{name}={value}")
        yield HostileCase("option", f"{name}={value[:20]}", lambda folder: None, arguments)


# Paths and outputs --------------------------------------------------------------------------------


def _special(suffix: str, kind: str) -> Write:
    def write(folder: Path) -> None:
        path = folder / f"x{suffix}"
        match kind:
            case "fifo":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
            case "socket":
                # The longest path of a socket is 107 bytes.
                here = os.getcwd()
                os.chdir(folder)
                server = socket.socket(socket.AF_UNIX)
                server.bind(path.name)
                server.close()
                os.chdir(here)
            case "device":
                path.symlink_to("/dev/zero")
            case "terminal":
                path.symlink_to("/dev/tty")
            case "loop":
                path.symlink_to(path.name)
            case "dangling":
                path.symlink_to("nowhere")
            case "locked":
                path.write_bytes(b"x")
                path.chmod(0)
            case "memory":
                path.symlink_to("/proc/self/mem")

    return write


def special_files(chance: random.Random) -> Iterator[HostileCase]:
    """Yield every reader with every path that is no regular file, then with hostile names."""
    commands: dict[str, tuple[str, ...]] = {
        ".jpg": INPUT,
        ".npy": INPUT,
        ".npz": INPUT,
        ".safetensors": (*CONVERT,),
        ".pth": (*CONVERT,),
        ".weights.h5": (*CONVERT,),
        ".keras": (*CONVERT,),
        ".toml": ("check",),
        ".csv": ("compare", "keras=a:b", "torch=c:d", "--table"),
        ".capture": ("diff", "x.capture"),
        ".onnx": ("compare", "net.py:build"),
        ".py": ("compare", "net.py:build"),
        ".pt2": ("compare", "net.py:build"),
    }
    kinds = (
        "fifo", "folder", "socket", "device", "terminal", "loop", "dangling", "memory", "locked",
    )  # fmt: skip
    for suffix, command in commands.items():
        for kind in kinds:
            file = f"x{suffix}"
            words = (*command, f"{file}:build" if suffix == ".py" else file)
            if command[0] == "convert":
                words += ("out.safetensors",)
            # Root reads everything; a folder of pictures, or of captures, is fine as such.
            write = _several(content("net.py", TORCH_NET), _special(suffix, kind))
            yield HostileCase("special file", f"{kind}{suffix}", write, words)
    while True:
        suffix = chance.choice(list(commands))
        name = chance.choice(HOSTILE_NAMES)[:200].replace("/", "_") + suffix
        words = (*commands[suffix], f"{name}:build" if suffix == ".py" else name)
        if words[0] == "convert":
            words = (*words[:-2], f"--weights={name}", "out.safetensors")
        elif words[0] != "diff":
            words = (*words[:-1], "--", words[-1]) if "--" not in words[-2][:2] else words
        write = _several(content("net.py", TORCH_NET), _name_file(name))
        yield HostileCase("special file", f"name {name[:20]!r}{suffix}", write, words)


def _name_file(name: str) -> Write:
    def write(folder: Path) -> None:
        with contextlib.suppress(OSError, ValueError):
            (folder / name).write_bytes(b"hello")

    return write


def environments(chance: random.Random) -> Iterator[HostileCase]:
    """Yield odd environments in which good commands must still end well."""
    variables = {
        "COLUMNS": ("0", "-1", "x", "99999999"),
        "TERM": ("", "dumb", "x" * 1000),
        "PYTHONIOENCODING": ("ascii", "latin-1", "utf-8:strict"),
        "LC_ALL": ("C", "POSIX", "xx"),
        "HOME": ("/nonexistent", "", "/dev/null"),
        "TMPDIR": ("/nonexistent", "/dev/null", "."),
        "PARITY_CACHE": ("/dev/null", "/nonexistent/x", "net.py", "\x1b[2J", "."),
        "PARITY_ENVIRONMENTS": ("/dev/null", "/nonexistent"),
        "PARITY_RUNTIMES": ("nowhere", "\x1b[2J", "os:", "..", "json"),
        "NO_COLOR": ("1",),
        "FORCE_COLOR": ("1",),
        "GITHUB_ACTIONS": ("true",),
        "GITHUB_STEP_SUMMARY": ("/dev/full", "/nonexistent/x"),
        "XDG_CACHE_HOME": ("/dev/null",),
    }
    commands = (
        (("models",), frozenset({0, 2})),
        (("table", "resnet18"), frozenset({0, 2})),
        (("diff", "one", "one"), frozenset({0, 2})),
        (("check", "none.toml"), REFUSED),
        (("compare", "nothing"), REFUSED),
        (("env", "list"), frozenset({0, 2})),
    )
    while True:
        name = chance.choice(list(variables))
        value = chance.choice(variables[name])
        words, expected = chance.choice(commands)
        if name == "PARITY_RUNTIMES":
            # A runtime that cannot be imported is missing: exit code 3.
            expected |= {3}
        yield HostileCase(
            "environment",
            f"{name}={value[:20]} {words[0]}",
            lambda folder: captures.write(folder / "one") and None,
            words,
            expected,
            {name: value},
        )


# Users' modules, ONNX, whole model files ----------------------------------------------------------


def modules(chance: random.Random) -> Iterator[HostileCase]:
    body = TORCH_NET
    special = {
        "syntax": "def build(:\n",
        "indentation": "  x = 1\n def y(): pass\n",
        "token": "x = '''",
        "raises": "raise ValueError('\\x1b[2J\\n::error::x' * 3000)",
        "exits": "import sys; sys.exit(0)",
        "exits in the callable": "import torch, sys\ndef build():\n    sys.exit(1)\n",
        "keyboard": "import torch\ndef build():\n    raise KeyboardInterrupt\n",
        "base exception": "import torch\nclass E(BaseException): pass\ndef build():\n    raise E\n",
        "generator exit": "import torch\ndef build():\n    raise GeneratorExit\n",
        "nul": b"x = 1\x00\n",
        "latin-1": b"# \xe9\nx = 1\n",
        "codec": b"# -*- coding: nonsense -*-\n",
        "recursion": "import torch\ndef build():\n    return build()\n",
        "nested": "x = " + "(" * 3000,
        "import": "import no_such_module_at_all\n",
        "prints": body.replace("torch.manual_seed(0)", "print('{}' * 1000); print('\\x1b[2J')"),
        "closes": body.replace("torch.manual_seed(0)", "import os; os.close(1)"),
        "no model": "import torch\ndef build():\n    return 'x\\x1b[2J'\n",
        "None": "import torch\ndef build():\n    return None\n",
        "a class": "import torch\nbuild = torch.nn.Linear\n",
        "arguments": "import torch\ndef build(a, b):\n    return a\n",
        "async": "import torch\nasync def build():\n    return 1\n",
        "forward raises": body.replace("self.body(x).relu()", "1 / 0"),
        "forward exits": body.replace("return self.body(x).relu()", "import sys; sys.exit(3)"),
        "forward string": body.replace("self.body(x).relu()", "'x'"),
        "repr raises": "import torch\nclass X:\n    def __repr__(self): 1 / 0\nbuild = X()",
        "sparse": body.replace("self.body(x).relu()", "self.body(x).to_sparse()"),
        "complex": body.replace("self.body(x).relu()", "torch.fft.fft(self.body(x))"),
        "abort": body.replace("torch.manual_seed(0)", "import os; os.abort()"),
        "meta": body.replace("Net().eval()", "Net().eval().to('meta')"),
        "float8": body.replace("Net().eval()", "Net().eval().to(torch.float8_e4m3fn)"),
        "half": body.replace("Net().eval()", "Net().half().eval()"),
        "double": body.replace("Net().eval()", "Net().double().eval()"),
        "chdir": body.replace("torch.manual_seed(0)", "import os; os.chdir('/')"),
        "stdin": body.replace("torch.manual_seed(0)", "input()"),
    }
    third = {
        "forward raises",
        "abort",
        "keyboard",
        "base exception",
        "generator exit",
        "closes",
        "forward exits",
        "forward string",
        "float8",
    }
    for name, text in special.items():
        expected = frozenset({0, 1, 2, 3}) if name in third else JUDGED
        yield HostileCase(
            "module",
            name,
            _several(content("net.py", TORCH_NET), content("bad.py", text)),
            ("compare", "bad.py:build", "net.py:build", "--no-explain"),
            expected,
        )
    number = 0
    while True:
        number += 1
        text = mutate_text(TORCH_NET, chance).replace("\x00", "?")
        yield HostileCase(
            "module",
            f"changed {number}",
            _several(content("net.py", TORCH_NET), content("bad.py", text)),
            ("compare", "net.py:nothing", "bad.py:build"),
        )


def model_files(chance: random.Random, samples: dict[str, bytes]) -> Iterator[HostileCase]:
    """Yield ONNX, Keras and PyTorch files that are damaged, or hold programs."""
    whole = {
        name: data
        for name, data in samples.items()
        if name.endswith((".model.onnx", ".model.keras", ".model.pt2", ".model.pt"))
    }
    for name, data in samples.items():
        if ".evil." in name:
            yield HostileCase(
                "model file",
                name,
                _several(content("net.py", TORCH_NET), content(name, data)),
                ("compare", "net.py:build", name),
                # A file with an operator that nobody knows is a model that cannot be run.
                frozenset({3}) if name.startswith("names.") else frozenset({2}),
            )
    number = 0
    while True:
        number += 1
        name = chance.choice(list(whole))
        file = f"x.{name.rpartition('.')[2]}"
        trust = ("--trust", file) if file.endswith((".pt", ".pt2")) and number % 2 else ()
        yield HostileCase(
            "model file",
            f"{name} {number}",
            _several(content("net.py", TORCH_NET), content(file, mutate(whole[name], chance))),
            ("compare", "net.py:build", file, "--no-explain", *trust),
            JUDGED,
        )


def training_data(chance: random.Random) -> Iterator[HostileCase]:
    """Yield image folders and IDX files that are damaged; the run is refused before it starts."""
    from tests.training.data.test_sources import idx_bytes

    images = np.zeros((4, 8, 8), np.uint8)
    idx = {
        "train-images-idx3-ubyte": idx_bytes(images),
        "train-labels-idx1-ubyte": idx_bytes(np.zeros(4, np.uint8)),
    }
    number = 0
    while True:
        number += 1
        if chance.random() < 0.5:
            changed = {name: mutate(data, chance)[:4096] for name, data in idx.items()}
            changed.pop("train-labels-idx1-ubyte") if chance.random() < 0.3 else None
            writes = [content(f"data/{name}", data) for name, data in changed.items()]
        else:
            kind = chance.choice(("PNG", "JPEG", "GIF"))
            damaged = mutate(_picture(kind), chance)[:300]
            writes = [content(f"data/{c}/x.png", damaged) for c in ("a", "b")]

        def write(folder: Path, writes: list[Write] = writes) -> None:
            for part in ("data/a", "data/b"):
                (folder / part).mkdir(parents=True)
            for each in writes:
                each(folder)

        arguments = (
            *("train", "resnet18", "--image-size", "32", "--learning-rate", "0.1"),
            *("--data", "data", "--epochs", "0"),
        )
        yield HostileCase("training data", f"changed {number}", write, arguments)
