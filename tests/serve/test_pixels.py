"""Image files that are small and would take the machine are refused unread; what is converted is as the learner's."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from easylearn.serve import pixels
from easylearn.serve.opening import open_engine
from easylearn.serve.pixels import PixelReader, opened
from easylearn.serve.refusals import Limits, RefusedError
from easylearn.vision.decode import ItemStage
from tests.serve.asking import photo


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels, and has none."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (head, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def tiled_tiff(tile: tuple[int, int]) -> bytes:
    """A grey TIFF of 16 x 16 pixels, whose one tile is of another size and compressed (deflate)."""
    data = zlib.compress(bytes(100_000))
    tags = ((256, 16), (257, 16), (258, 8), (259, 8), (262, 1), (277, 1), (322, tile[0]), (323, tile[1]),
            (324, 8), (325, len(data)))  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def many_scans(n: int) -> bytes:
    """A progressive JPEG of 60 x 80 pixels whose last scan comes `n` times more."""
    file = photo(1, progressive=True)
    return file[:-2] + file[file.rindex(b"\xff\xda") : -2] * n + file[-2:]


def saved(image: Image.Image, form: str = "PNG", **how: Any) -> bytes:
    held = io.BytesIO()
    image.save(held, form, **how)
    return held.getvalue()


@pytest.mark.parametrize("suffix", ["onnx", "easylearn"])
@pytest.mark.parametrize(
    ("data", "named"),
    [
        (png_header(12_000_000, 1), "side of the image has 12,000,000"), (png_header(1, 65_536), "at most 65,535"),
        (png_header(6_000, 6_000), "36,000,000 pixels"), (tiled_tiff((32768, 32768)), "tiles of the TIFF have 1,073"),
        (many_scans(14_000), "JPEG has"),
    ],
    ids=["long", "high", "large", "tiles", "scans"],
)  # fmt: skip
def test_what_would_take_the_machine_is_refused_before_it_is_decoded(
    data: bytes, named: str, suffix: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(files / f"images.{suffix}", Limits(max_pixels=30e4 if named == "JPEG has" else 25e6))

    def load(image: ImageFile.ImageFile) -> None:
        raise AssertionError("it is decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(RefusedError, match=named) as caught:
        engine.prepare(data)
    assert caught.value.status == 413


def test_what_is_usual_is_not_refused(files: Path) -> None:
    engine = open_engine(files / "images.onnx", Limits())
    for data in (saved(Image.new("L", (65_535, 2))), many_scans(5), tiled_tiff((256, 256))):
        assert engine.prepare(data).pixels.shape == (1, 3, 16, 16)


@pytest.mark.parametrize("suffix", ["onnx", "easylearn"])
def test_scans_of_what_lies_beside_the_image_are_not_counted(suffix: str, files: Path) -> None:
    """Phones put a film or a second image behind a photo, and a preview before it."""
    engine, other = open_engine(files / f"images.{suffix}", Limits(max_pixels=30e4)), many_scans(14_000)

    def probs(data: bytes) -> list[float]:
        return np.asarray(engine.run([engine.prepare(data)])[0]).tolist()

    preview = b"\xff\xe1" + struct.pack(">H", 60_000) + (b"\xff\xda" * 30_000)[:-2]
    for data in (photo(1) + other, photo(1) + b"\0\0\0\x18ftypmp42" + b"\xff\xda" * 9_000,
                 photo(1)[:2] + preview + photo(1)[2:]):  # fmt: skip
        assert probs(data) == probs(photo(1))
    images = [Image.open(io.BytesIO(photo(k))) for k in (1, 2)]
    probs(saved(images[0], "MPO", save_all=True, append_images=images[1:]))


def test_scans_are_counted_as_they_are_decoded() -> None:
    film = b"\xff\xda\0\2" * 200
    assert pixels._scans(photo(1)) == 1 and pixels._scans(many_scans(5) + film) == pixels._scans(many_scans(5))
    assert pixels._scans(many_scans(7)) - pixels._scans(many_scans(5)) == 2
    file = photo(1)
    begin = file.index(b"\xff\xda")
    without_length = (b"\xff\x00", b"\xff\xff\xff", b"\xff\x02\xff\xff", b"\xff\xd3", b"\xff\xd8")
    for odd in without_length:
        assert pixels._scans(file[:begin] + odd + film) == 200, odd
    for cut in range(begin, len(file), 97):
        assert pixels._scans(file[:cut]) <= 1
    assert pixels._scans(file[:2] + b"\xff\xfe\0\2" * 20_000 + file[2:]) == 1  # more segments than are walked through


def reader(channels: int, size: tuple[int, int]) -> PixelReader:
    about = {"size": size, "channels": channels, "method": "squash", "long_side": 1.5, "crop_pct": 1.0}
    return PixelReader(about, 1e9)


R = np.random.default_rng(0)
SIXTEEN = R.integers(0, 2**16, (40, 30)).astype(np.uint16)
FLOATS = R.random((40, 30)).astype(np.float32)
COLOURS = Image.fromarray(R.integers(0, 256, (40, 30, 4), dtype=np.uint8), "RGBA")
PALETTE = COLOURS.convert("RGB").quantize(20)
FILES = {
    "16 bits": saved(Image.fromarray(SIXTEEN)), "16 bits, TIFF": saved(Image.fromarray(SIXTEEN), "TIFF"),
    "16 bits, the first last": saved(Image.fromarray(SIXTEEN.astype(">u2")), "TIFF"),
    "floats": saved(Image.fromarray(FLOATS), "TIFF"), "RGBA": saved(COLOURS), "LA": saved(COLOURS.convert("LA")),
    "palette": saved(PALETTE, transparency=3), "RGB": saved(COLOURS.convert("RGB")),
    "one colour is none": saved(COLOURS.convert("RGB"), transparency=COLOURS.convert("RGB").getpixel((3, 3))),
}  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FILES)
def test_every_depth_is_brought_to_8_bits_as_the_learner_does_it(
    name: str, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, data = reader(channels, (40, 30)), FILES[name]
    wanted = ItemStage((40, 30), "squash", channels).load(data).numpy()
    assert np.array_equal(read(data)[0], wanted)
    whole = read.own_size(data)
    monkeypatch.setattr(pixels, "_BAND", 100)  # three rows, and one at the end
    assert np.array_equal(read(data)[0], wanted) and np.array_equal(read.own_size(data), whole)


def test_every_number_of_16_bits_has_its_own_of_8() -> None:
    every = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    found = reader(1, (256, 256))(saved(Image.fromarray(every)))[0, 0]
    assert np.array_equal(found, np.rint(every / 65535 * 255))


@pytest.mark.parametrize("suffix", ["onnx", "easylearn"])
@pytest.mark.parametrize(
    "image", [Image.fromarray(FLOATS * 255), Image.fromarray(FLOATS - 0.5), Image.fromarray(SIXTEEN.astype(np.int32)),
              Image.fromarray(FLOATS * np.float32(np.nan))],
)  # fmt: skip
def test_numbers_whose_white_nobody_knows_are_refused(image: Image.Image, suffix: str, files: Path) -> None:
    engine = open_engine(files / f"images.{suffix}", Limits())
    with pytest.raises(RefusedError) as caught:
        engine.run([engine.prepare(saved(image, "TIFF"))])
    assert caught.value.status == 422


def test_large_images_of_16_bits_take_little_beside_themselves() -> None:
    data, read = saved(Image.new("I;16", (2000, 3000), 40_000)), reader(1, (32, 32))
    tracemalloc.start()
    assert (read(data) == 156).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24e6  # as floats they are 48 MB, twice


def test_what_goes_wrong_while_an_image_is_open_is_told_as_damage() -> None:
    with pytest.raises(RefusedError, match="damaged") as caught, opened(photo(0), 1e6):
        raise SyntaxError("broken")
    assert caught.value.status == 422
    with pytest.raises(RefusedError) as caught, opened(photo(0), 1e6):
        raise RefusedError(400, "another")
    assert caught.value.status == 400


def test_other_threads_are_warned_while_an_image_is_open() -> None:
    def warn() -> None:
        warnings.warn("of something else", UserWarning, stacklevel=1)

    with opened(photo(0), 1e6), ThreadPoolExecutor(1) as pool:
        warn()
        with pytest.raises(UserWarning, match="something else"):
            pool.submit(warn).result(60)
