"""Inputs: preprocessing, seeds, and every kind of bad image and array."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from parity.errors import InputError
from parity.network import inputs
from parity.network.inputs import _input, _passes, picture, preprocessing, sources
from parity.network.inputs.sources import folder, photograph

SHAPE = (3, 32, 48)


def noise_image(width: int, height: int, *, mode: str = "RGB", seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def refusal(source: Any, shape: tuple[int, int, int] = SHAPE, batch: int | None = None) -> str:
    with pytest.raises(InputError) as caught:
        inputs.load(source, shape, batch=batch)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def unit(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Undo the normalisation of an RGB input: 0 to 255."""
    mean, deviation = (
        np.array(x)[:, None, None]
        for x in (preprocessing.IMAGENET.mean, preprocessing.IMAGENET.deviation)
    )
    return np.asarray((array * deviation + mean) * 255)


def test_default_is_the_photograph() -> None:
    found = inputs.load(None, (3, 64, 64))
    assert found.source_type == "photo"
    assert found.source == "grace_hopper.jpg"
    assert found.array.shape == (1, 3, 64, 64)
    assert found.array.dtype == np.float32
    assert found.array.flags.c_contiguous
    assert found.array.std() > 0.5
    assert found.to_json() == {
        "kind": "photo",
        "shape": [1, 3, 64, 64],
        "sha256": found.sha256,
        "source": "grace_hopper.jpg",
    }


def test_matplotlib_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "install matplotlib" in refusal(None)


def test_preprocessing_is_that_of_imagenet(tmp_path: Path) -> None:
    """Written out once more, step by step, for a square crop of a wide picture."""
    picture = noise_image(300, 200)
    picture.save(tmp_path / "a.png")
    found = inputs.load(tmp_path / "a.png", (3, 112, 112)).array
    resized = picture.resize((192, 128), Image.Resampling.BILINEAR)
    crop = np.asarray(resized.crop((40, 8, 152, 120)), np.float64).transpose(2, 0, 1) / 255
    for channel in range(3):
        expected = (
            crop[channel] - preprocessing.IMAGENET.mean[channel]
        ) / preprocessing.IMAGENET.deviation[channel]
        np.testing.assert_allclose(found[0, channel], expected, atol=1e-6)


@pytest.mark.parametrize("size", [(48, 32), (500, 20), (20, 500), (1, 1), (49, 33)])
def test_any_proportions_fill_the_crop(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (255, 128, 0)).save(tmp_path / "a.png")
    found = inputs.load(tmp_path / "a.png", SHAPE, batch=3)
    assert found.array.shape == (3, *SHAPE)
    expected = np.broadcast_to(np.array([255, 128, 0])[:, None, None], found.array.shape)
    np.testing.assert_allclose(unit(found.array), expected, atol=1e-4)


def test_channels_are_in_the_order_of_rgb(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (255, 0, 0)).save(tmp_path / "red.png")
    red = unit(inputs.load(tmp_path / "red.png", SHAPE).array)
    assert red.mean(axis=(0, 2, 3)).round().tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "CMYK", "LA"])
def test_modes(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    noise_image(64, 64, mode=mode).save(path)
    for channels in (1, 3):
        assert inputs.load(path, (channels, 32, 32)).array.shape == (1, channels, 32, 32)


def test_grey_is_normalised_alike(tmp_path: Path) -> None:
    Image.new("L", (64, 64), 255).save(tmp_path / "a.png")
    grey = inputs.load(tmp_path / "a.png", (1, 32, 32)).array
    np.testing.assert_allclose(grey, (1 - 0.449) / 0.226, rtol=1e-6)


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    picture = noise_image(90, 60)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    picture.save(tmp_path / "tagged.png", exif=exif)
    picture.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "turned.png")
    tagged, turned = (inputs.load(tmp_path / f"{name}.png", SHAPE) for name in ("tagged", "turned"))
    np.testing.assert_array_equal(tagged.array, turned.array)
    picture.save(tmp_path / "plain.png")
    assert inputs.load(tmp_path / "plain.png", SHAPE).sha256 != turned.sha256


def test_batch_of_one_photo(tmp_path: Path) -> None:
    noise_image(200, 100).save(tmp_path / "a.png")
    one = inputs.load(tmp_path / "a.png", SHAPE)
    many = inputs.load(tmp_path / "a.png", SHAPE, batch=5, seed=1)
    np.testing.assert_array_equal(many.array[:1], one.array)
    assert len({item.tobytes() for item in many.array}) == 5
    assert inputs.load(tmp_path / "a.png", SHAPE, batch=5, seed=1).sha256 == many.sha256
    assert inputs.load(tmp_path / "a.png", SHAPE, batch=5, seed=2).sha256 != many.sha256


def test_random_is_seeded() -> None:
    first = inputs.load("random", SHAPE, batch=4, seed=1)
    assert first.source_type == "random"
    assert first.array.shape == (4, *SHAPE)
    assert first.array.dtype == np.float32
    assert first.array.std() == pytest.approx(1, abs=0.03)
    assert inputs.load("random", SHAPE, batch=4, seed=1).sha256 == first.sha256
    assert inputs.load("random", SHAPE, batch=4, seed=2).sha256 != first.sha256


def test_folder_is_read_in_order(tmp_path: Path) -> None:
    for index, name in enumerate(("b.png", "a.JPG", ".hidden.png", "c.bmp")):
        noise_image(64, 64, seed=index).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "d.png").mkdir()
    found = inputs.load(tmp_path, SHAPE)
    assert found.source_type == "folder"
    assert found.array.shape[0] == 3
    np.testing.assert_array_equal(found.array[1:2], inputs.load(tmp_path / "b.png", SHAPE).array)
    assert inputs.load(tmp_path, SHAPE, batch=2).array.shape[0] == 2
    assert "holds 3 images, fewer than the batch of 4" in refusal(tmp_path, batch=4)


def test_bad_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "holds no image" in refusal(tmp_path)
    (tmp_path / "a.png").write_bytes(b"none")
    assert "a.png: is no image" in refusal(tmp_path)
    noise_image(64, 64).save(tmp_path / "b.png")
    monkeypatch.setattr(folder, "MAX_FILES", 1)
    assert "holds 2 images, more than 1" in refusal(tmp_path)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.jpg")
    assert "No such file" in refusal(tmp_path / "none.npy")
    assert "No such file" in refusal(tmp_path / "none.npz")
    for content in (b"", b"text", b"\x89PNG\r\n\x1a\n", bytes(1000)):
        (tmp_path / "a.png").write_bytes(content)
        assert "a.png: is no image" in refusal(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp"])
def test_truncated_images(tmp_path: Path, suffix: str) -> None:
    whole = io.BytesIO()
    noise_image(200, 200).save(whole, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
    content = whole.getvalue()
    for share in (0.05, 0.5, 0.9):
        (tmp_path / f"a.{suffix}").write_bytes(content[: int(len(content) * share)])
        message = refusal(tmp_path / f"a.{suffix}")
        assert "damaged or truncated" in message or "is no image" in message


def test_damaged_images_never_give_a_traceback(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for kind in ("png", "jpeg", "gif", "tiff"):
        whole = io.BytesIO()
        noise_image(40, 40).save(whole, kind)
        for _ in range(40):
            content = bytearray(whole.getvalue())
            for place in random.integers(0, len(content), 4):
                content[place] = random.integers(256)
            (tmp_path / "a").write_bytes(content)
            # Some damage goes unnoticed; whatever is noticed must be an InputError.
            with contextlib.suppress(InputError):
                inputs.load(tmp_path / "a", SHAPE)


def test_decompression_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    assert "more than 100,000,000 pixels" in refusal(tmp_path / "bomb.png")
    for module in (picture, photograph):
        monkeypatch.setattr(module, "MAX_PIXELS", 1000)
    noise_image(100, 100).save(tmp_path / "big.png")
    assert "100×100 are more than 1,000 pixels" in refusal(tmp_path / "big.png")
    noise_image(1, 900).save(tmp_path / "thin.png")
    assert "too long and thin" in refusal(tmp_path / "thin.png")


def test_sixteen_bits_are_not_clipped_silently(tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(tmp_path / "a.png")
    assert "8 bits a channel" in refusal(tmp_path / "a.png")


def test_photo_for_other_channels(tmp_path: Path) -> None:
    message = refusal(None, (4, 32, 32))
    assert "the model takes 4" in message
    assert "(N, 4, 32, 32)" in message


@pytest.mark.parametrize("batch", [0, -1])
def test_impossible_batches(batch: int) -> None:
    assert f"at least 1, found {batch}" in refusal("random", batch=batch)


@pytest.mark.parametrize("source", ["random", None])
def test_batches_that_do_not_fit(source: str | None) -> None:
    assert "lower --batch" in refusal(source, batch=10**9)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_array_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    array = np.random.default_rng(0).standard_normal((3, *SHAPE), np.float32)
    (np.save if suffix == "npy" else np.savez)(path, array)
    found = inputs.load(path, SHAPE)
    np.testing.assert_array_equal(found.array, array)
    assert (found.source_type, found.source) == ("array", path.name)
    assert found.sha256 == inputs.load(array, SHAPE).sha256
    np.testing.assert_array_equal(inputs.load(path, SHAPE, batch=2).array, array[:2])
    assert "holds 3 items, fewer than the batch of 4" in refusal(path, batch=4)


def test_array_layouts_in_memory(tmp_path: Path) -> None:
    array = np.random.default_rng(0).standard_normal((1, *SHAPE), np.float32)
    for form in (array[0], np.asfortranarray(array), array.astype(">f4")):
        np.save(tmp_path / "a.npy", form)
        for source in (form, tmp_path / "a.npy"):
            found = inputs.load(source, SHAPE).array
            np.testing.assert_array_equal(found, array)
            assert found.flags.c_contiguous
            assert found.dtype == np.dtype("=f4")


def test_input_does_not_share_memory_with_the_caller() -> None:
    array = np.zeros((1, *SHAPE), np.float32)
    found = inputs.load(array, SHAPE)
    array += 1
    assert not found.array.any()


def test_hash_sees_the_shape() -> None:
    a = inputs.load(np.zeros((2, 1, 4, 4), np.float32), (1, 4, 4))
    b = inputs.load(np.zeros((1, 2, 4, 4), np.float32), (2, 4, 4))
    assert a.sha256 != b.sha256


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (
            np.zeros((1, 3, 32, 47), np.float32),
            r"expected \(N, 3, 32, 48\), found \(1, 3, 32, 47\)",
        ),
        (np.zeros((1, 32, 48, 3), np.float32), r"channels are last: array.transpose\(0, 3, 1, 2\)"),
        (np.zeros((0, 3, 32, 48), np.float32), "found"),
        (np.zeros((1, 1, 3, 32, 48), np.float32), "found"),
        (np.zeros((32, 48), np.float32), "found"),
        (np.zeros((), np.float32), "found"),
        (np.zeros((1, 3, 32, 48)), "expected float32, found float64"),
        (np.zeros((1, 3, 32, 48), np.uint8), "expected float32, found uint8"),
        (np.zeros((1, 3, 32, 48), np.int32), "expected float32, found int32"),
        (np.zeros((1, 3, 32, 48), "U1"), "expected float32, found <U1"),
        (np.full((1, 3, 32, 48), np.nan, np.float32), r"NaN or Inf, first nan at \(0, 0, 0, 0\)"),
        (np.full((1, 3, 32, 48), -np.inf, np.float32), "NaN or Inf, first -inf"),
        (np.full((1, 3, 32, 48), None, object), "pickled objects"),
    ],
)
def test_wrong_arrays(tmp_path: Path, suffix: str, array: Any, reason: str) -> None:
    path = tmp_path / f"a.{suffix}"
    (np.save if suffix == "npy" else np.savez)(path, array)
    with pytest.raises(InputError, match=reason):
        inputs.load(path, SHAPE)
    with pytest.raises(InputError, match=reason):
        inputs.load(array, SHAPE)


def test_several_or_no_arrays_in_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(1), y=np.zeros(1))
    assert "expected one array, found 2 (x, y)" in refusal(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz")
    assert "expected one array, found 0" in refusal(tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_truncated_and_foreign_array_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    (np.save if suffix == "npy" else np.savez)(path, np.zeros((2, *SHAPE), np.float32))
    content = path.read_bytes()
    for damaged in (b"", b"text", content[:5], content[:100], content[:-200], content[: 10**4]):
        path.write_bytes(damaged)
        assert "is no valid" in refusal(path)


def test_headers_that_claim_too_much(tmp_path: Path) -> None:
    header = io.BytesIO()
    claimed = {"descr": "<f4", "fortran_order": False, "shape": (10**12, *SHAPE)}
    np.lib.format.write_array_header_1_0(header, claimed)
    (tmp_path / "a.npy").write_bytes(header.getvalue() + bytes(100))
    assert "is no valid .npy file" in refusal(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(100))
    assert "shorter than its header" in refusal(tmp_path / "a.npz")


def test_zip_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", np.zeros((9, *SHAPE), np.float32))
    monkeypatch.setattr(_input, "MAX_INPUT_BYTES", 10_000)
    assert "save fewer items" in refusal(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("shape", "count"),
    [((3, 224, 224), 2), ((3, 64, 64), 8), ((3, 96, 96), 8), ((1, 1, 1), 8), ((4, 130, 33), 8)],
)
def test_calibration_batch(shape: tuple[int, int, int], count: int) -> None:
    batch = inputs.make_calibration_batch(shape, seed=0)
    assert batch.shape == (count, *shape)
    assert batch.dtype == np.float64
    np.testing.assert_allclose(batch.std(axis=(0, 2, 3)), 1, atol=1e-3)
    np.testing.assert_allclose(batch.mean(axis=(0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_array_equal(batch, inputs.make_calibration_batch(shape, seed=0))
    np.testing.assert_array_equal(batch.astype(np.float32), batch)
    assert not np.array_equal(batch, inputs.make_calibration_batch(shape, seed=1))


def test_calibration_batch_is_pink() -> None:
    """The power of 1/f noise falls by 4 with each octave."""
    batch = inputs.make_calibration_batch((3, 256, 256), seed=0)
    power = (np.abs(np.fft.fft2(batch)) ** 2).mean(axis=(0, 1))
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256))
    low, high = (power[(frequency > f) & (frequency < 1.1 * f)].mean() for f in (1 / 32, 1 / 16))
    assert low / high == pytest.approx(4, rel=0.15)


def test_nothing_heavy_is_imported() -> None:
    """A fresh interpreter, since other tests load what this one must not."""
    code = (
        "import sys; from parity.network import inputs, structure, weights;"
        "inputs.load(None, (3, 8, 8));"
        "print({'matplotlib', 'torch', 'keras', 'tensorflow', 'onnx', 'onnxruntime'}"
        " & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("count", [1, 16, 17, 33, 200, 256])
def test_passes_are_few_alike_and_whole(count: int) -> None:
    found = inputs.split_into_passes(count)
    assert [item for part in found for item in range(count)[part]] == list(range(count))
    sizes = [len(range(count)[part]) for part in found]
    assert len(found) == -(-count // _passes.MAX_ITEMS)
    assert max(sizes) <= _passes.MAX_ITEMS
    assert max(sizes) - min(sizes) <= 1


TOY = """
import numpy as np

from parity.network.inputs._input import make_input

NAME = "constant"


def accepts(source):
    return isinstance(source, str) and source.startswith("constant:")


def load(source, shape, *, batch, seed):
    value = float(source.partition(":")[2])
    return make_input(NAME, np.full((batch or 1, *shape), value, np.float32), source)
"""


def test_a_source_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No such file" in refusal("constant:2")
    (tmp_path / "constant.py").write_text(TOY)
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    sources.modules.cache_clear()
    try:
        found = inputs.load("constant:2", SHAPE, batch=2)
    finally:
        sources.modules.cache_clear()
        sys.modules.pop(f"{sources.__name__}.constant")
    assert (found.source_type, found.source) == ("constant", "constant:2")
    np.testing.assert_array_equal(found.array, np.full((2, *SHAPE), 2, np.float32))


@pytest.mark.parametrize("module", sources.modules(), ids=lambda module: module.NAME)
def test_every_source_states_what_it_accepts(module: Any) -> None:
    assert not module.accepts("no-such-source:1")
    assert module.accepts.__doc__


def test_no_program_is_started_for_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow would start Ghostscript for PostScript, whatever the file is called."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    (tools / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    (tmp_path / "photo.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n"
    )
    assert "is no image" in refusal(tmp_path / "photo.jpg")
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("size", [(100_000_000, 1), (1, 70_000), (60_000, 60_000)])
def test_a_size_that_lies_is_refused_before_memory_is_claimed(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"x"))
    (tmp_path / "a.png").write_bytes(content)
    tracemalloc.start()
    assert "pixels" in refusal(tmp_path / "a.png")
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()
