"""The item stage: every kind of image becomes the right uint8 tensor, or an error that names it."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from easylearn.errors import ArgumentError, DataError
from easylearn.vision.decode import LONG_SIDE, ItemStage, as_uint8, window

EXIF_ORIENTATION = 0x0112


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Something smooth and coloured, so that resizing methods can be compared."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return (a.float() - b.float()).abs().mean().item()


def to_tensor(image: Image.Image) -> torch.Tensor:
    array = np.array(image)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)


# -- against Pillow ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(300, 400), (400, 300), (50, 60), (100, 100)])
def test_resize_agrees_with_pillow(tmp_path: Path, height: int, width: int) -> None:
    Image.fromarray(photo(height, width)).save(tmp_path / "a.png")
    got = ItemStage((100, 100)).load(tmp_path / "a.png")
    scale = 100 / min(height, width)
    wanted = Image.fromarray(photo(height, width)).resize(
        (round(width * scale), round(height * scale)), Image.Resampling.BICUBIC
    )
    assert difference(got, to_tensor(wanted)) < 0.6


@pytest.mark.parametrize("size", [64, 128, 300])
def test_jpeg_paths_agree(tmp_path: Path, size: int) -> None:
    """torchvision's decoder, Pillow's reduced decoding and Pillow's full decoding give the same image."""
    file = tmp_path / "a.jpg"
    Image.fromarray(photo(480, 640)).save(file, quality=95)
    stage = ItemStage((size, size))
    with Image.open(file) as image:
        wanted = stage.load(image)
    assert difference(stage.load(file), wanted) < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shape", [(60, 90), (400, 600)])
def test_exif_orientation(tmp_path: Path, orientation: int, shape: tuple[int, int]) -> None:
    file = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    Image.fromarray(photo(*shape)).save(file, quality=95, exif=exif)
    stage = ItemStage((48, 48))
    with Image.open(file) as image:
        wanted = stage.load(ImageOps.exif_transpose(image))
    got = stage.load(file)
    assert difference(got, wanted) < (0.01 if orientation > 1 and shape == (60, 90) else 2.0)
    with Image.open(file) as image:  # an image given as such is turned, too
        assert torch.equal(stage.load(image), wanted)


def test_exif_orientation_in_png(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    Image.fromarray(photo(40, 60)).save(tmp_path / "a.png", exif=exif)
    got = ItemStage((40, 40), "squash").load(tmp_path / "a.png")
    turned = Image.fromarray(photo(40, 60)).transpose(Image.Transpose.ROTATE_270)
    assert torch.equal(got, ItemStage((40, 40), "squash").load(turned))


# -- kinds of images ---------------------------------------------------------------------------------

RED = (200, 30, 60)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [("RGB", "png"), ("RGB", "bmp"), ("RGB", "webp"), ("RGB", "tiff"), ("RGB", "jpg"), ("P", "png"), ("P", "gif"),
     ("CMYK", "jpg"), ("CMYK", "tiff"), ("RGBA", "png"), ("RGBA", "webp"), ("YCbCr", "tiff")],
)  # fmt: skip
def test_colour_modes(tmp_path: Path, mode: str, ending: str) -> None:
    image = Image.new("RGB", (40, 30), RED)
    image = image.quantize() if mode == "P" else image.convert(mode)
    image.save(tmp_path / f"a.{ending}")
    got = ItemStage((30, 30)).load(tmp_path / f"a.{ending}")
    assert got.shape == (3, 30, 40) and got.dtype == torch.uint8 and got.is_contiguous()
    assert (got.float().mean((1, 2)) - torch.tensor(RED).float()).abs().max() < 6


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tiff", "gif", "webp", "pgm"])
def test_grey(tmp_path: Path, ending: str) -> None:
    Image.new("L", (40, 30), 90).save(tmp_path / f"a.{ending}")
    got = ItemStage((30, 30)).load(tmp_path / f"a.{ending}")
    assert got.shape == (3, 30, 40) and (got.float() - 90).abs().max() <= 2
    one = ItemStage((30, 30), channels=1).load(tmp_path / f"a.{ending}")
    assert one.shape == (1, 30, 40) and (one.float() - 90).abs().max() <= 2


def test_colour_to_one_channel_agrees_with_pillow(tmp_path: Path) -> None:
    image = Image.fromarray(photo(30, 30))
    image.save(tmp_path / "a.png")
    stage = ItemStage((30, 30), channels=1)
    assert torch.equal(stage.load(tmp_path / "a.png"), to_tensor(image.convert("L")))
    assert torch.equal(stage.load(np.asarray(image)), to_tensor(image.convert("L")))


def test_sixteen_bits(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    Image.fromarray(ramp).save(tmp_path / "a.tiff")
    wanted = np.rint(ramp / 257)
    for name in ("a.png", "a.tiff"):
        got = ItemStage((64, 64)).load(tmp_path / name)
        assert np.abs(got[0].numpy().astype(float) - wanted).max() <= 1
    assert np.abs(ItemStage((64, 64)).load(ramp)[0].numpy() - wanted).max() <= 1


@pytest.mark.parametrize("ending", ["png", "tiff", "pgm"])
@pytest.mark.parametrize("level", [0, 257, 20 * 257, 65535])
def test_sixteen_bits_have_one_scale(tmp_path: Path, ending: str, level: int) -> None:
    """What is dark everywhere stays dark: a scale of each file's own would make it black or white."""
    Image.fromarray(np.full((32, 32), level, np.uint16)).save(tmp_path / f"a.{ending}")
    assert (ItemStage((32, 32)).load(tmp_path / f"a.{ending}") == round(level / 257)).all()


def test_floats_in_tiff_have_the_scale_of_arrays(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 64 * 64).reshape(64, 64).astype(np.float32)
    for scale in (1.0, 0.5, 0.01):  # by the type, and not by what a file holds
        Image.fromarray(ramp * scale).save(tmp_path / "a.tiff")
        got = ItemStage((64, 64)).load(tmp_path / "a.tiff")
        assert np.abs(got[0].numpy() - ramp * scale * 255).max() <= 1
        assert torch.equal(got, ItemStage((64, 64)).load(ramp * np.float32(scale)))


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((8, 8), 200.0, np.float32), "must be between 0 and 1, got 200 to 200"),
        (np.full((8, 8), -0.5, np.float32), "between 0 and 1"),
        (np.array([[0.5, np.nan, np.inf]], np.float32), "2 pixels are NaN or infinite"),
        (np.full((8, 8), np.nan, np.float32), "64 pixels are NaN"),
        (np.array([[1, 2]], np.int32), "got int32"),
        (np.array([[-5, 70_000]], np.int32), "got int32"),
    ],
)
@pytest.mark.parametrize("form", ["file", "bytes", "image"])
def test_numbers_of_unknown_range(tmp_path: Path, pixels: np.ndarray, words: str, form: str) -> None:
    file, image = tmp_path / "a.tiff", Image.fromarray(pixels)
    image.save(file)
    given = {"file": file, "bytes": file.read_bytes(), "image": image}[form]
    with pytest.raises(DataError, match=f"{'a.tiff' if form == 'file' else 'item 7'}: .*{words}"):
        ItemStage((8, 8)).load(given, "item 7")


def test_one_bit(tmp_path: Path) -> None:
    Image.fromarray(np.eye(32) > 0).save(tmp_path / "a.png")
    got = ItemStage((32, 32)).load(tmp_path / "a.png")
    assert torch.equal(got[0], (torch.eye(32) * 255).to(torch.uint8))


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    stage = ItemStage((8, 8))
    Image.new("RGBA", (8, 8), (*RED, 0)).save(tmp_path / "clear.png")
    Image.new("LA", (8, 8), (10, 0)).save(tmp_path / "la.png")
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "bytes.png", transparency=b"\xff\x00")
    palette.save(tmp_path / "index.gif", transparency=1)
    Image.new("RGB", (8, 8), RED).save(tmp_path / "key.png", transparency=RED)
    for name in ("clear.png", "la.png", "bytes.png", "index.gif", "key.png"):
        assert (stage.load(tmp_path / name) == 255).all(), name
    half = np.zeros((8, 8, 4), np.uint8)
    half[..., 3] = 128
    assert (stage.load(half).float() - 127).abs().max() <= 1


# -- geometry ------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(["crop", "squash", "pad"]),
)
def test_any_shape(height: int, width: int, size: tuple[int, int], method: str) -> None:
    stage = ItemStage(size, method)  # type: ignore[arg-type]
    _, h, w = stage.load(np.zeros((height, width), np.uint8)).shape
    if method == "crop":
        assert size[0] <= h <= int(size[0] * LONG_SIDE) and size[1] <= w <= int(size[1] * LONG_SIDE)
        assert h == size[0] or w == size[1]
    else:
        assert (h, w) == size
    assert 3 * h * w <= stage.max_bytes


def test_crop_keeps_the_middle_of_a_panorama() -> None:
    array = np.zeros((20, 400, 3), np.uint8)
    array[:, 195:205] = 255
    got = ItemStage((20, 20)).load(array)
    assert got.shape == (3, 20, 30) and (got[:, :, 10:20] == 255).all() and (got[:, :, :10] == 0).all()


def test_pad_reflects() -> None:
    array = np.arange(4 * 8, dtype=np.uint8).reshape(4, 8)
    got = ItemStage((8, 8), "pad").load(array)[0].numpy()
    assert np.array_equal(got, np.pad(array, ((2, 2), (0, 0)), mode="reflect"))


def test_crop_pct_makes_the_working_size() -> None:
    assert ItemStage((20, 40), "squash", crop_pct=0.8).working_size == (20, 40)
    stage = ItemStage((20, 40), crop_pct=0.8)
    assert stage.working_size == (25, 50)
    assert stage.load(np.zeros((100, 200), np.uint8)).shape == (3, 25, 50)


@given(st.integers(1, 50), st.integers(1, 50), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_windows_lie_inside(extra_h: int, extra_w: int, y: float, x: float) -> None:
    top, left = window((10 + extra_h, 10 + extra_w), (10, 10), (y, x))
    assert 0 <= top <= extra_h and 0 <= left <= extra_w


def test_deterministic(tmp_path: Path) -> None:
    Image.fromarray(photo(200, 300)).save(tmp_path / "a.jpg")
    stage = ItemStage((64, 64))
    first = stage.load(tmp_path / "a.jpg")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert torch.equal(stage.load(str(tmp_path / "a.jpg")), first)
    finally:
        torch.set_num_threads(threads)


# -- in memory -----------------------------------------------------------------------------------------


def test_arrays_tensors_and_images_agree() -> None:
    array = photo(40, 50)
    stage = ItemStage((32, 32))
    wanted = stage.load(Image.fromarray(array))
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    assert torch.equal(stage.load(array), wanted)
    assert torch.equal(stage.load(tensor), wanted)
    assert torch.equal(stage.load(tensor.float() / 255), wanted)
    assert torch.equal(stage.load(array.astype(np.float64) / 255), wanted)
    assert torch.equal(stage.load(array[:, ::-1][:, ::-1]), wanted)
    assert torch.equal(stage.load(np.asfortranarray(array)), wanted)


def test_the_input_is_not_changed() -> None:
    array = photo(32, 32)
    before = array.copy()
    out = ItemStage((32, 32)).load(array)
    out += 1
    assert np.array_equal(array, before)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([[0.0, 1.5]]), "between 0 and 1, got 0 to 1.5"),
        (np.array([[np.nan, 0.5]]), "NaN"),
        (np.array([[-0.1, 0.5]]), "between 0 and 1"),
        (np.array([[1, 2]]), "uint8, bool, uint16 or floats"),
    ],
)
def test_wrong_numbers(values: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        as_uint8(values, "item 3")
    with pytest.raises(DataError, match="item 3"):
        ItemStage((8, 8)).load(values, "item 3")


@pytest.mark.parametrize("shape", [(5,), (5, 5, 2), (2, 5, 5, 3), (0, 5), (0, 5, 3)])
def test_wrong_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="shape"):
        ItemStage((8, 8)).load(np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match="shape"):
        ItemStage((8, 8)).load(torch.zeros(shape, dtype=torch.uint8))
    with pytest.raises(DataError, match="got list"):
        ItemStage((8, 8)).load([1, 2])


# -- damaged files -------------------------------------------------------------------------------------


def jpeg_bytes(ending: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photo(200, 300)).save(buffer, ending)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [32, 150])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_truncated(tmp_path: Path, kind: str, keep: float, size: int) -> None:
    data = jpeg_bytes(kind)
    file = tmp_path / f"broken.{kind.lower()}"
    file.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DataError, match=r'broken.*on_error="skip"'):
        ItemStage((size, size)).load(file)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "0 bytes"), (b"<html>not found</html>", "not an image"), (b"\xff\xd8\xff\xe0", "broken.jpg")],
)
def test_not_an_image(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "broken.jpg"
    file.write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        ItemStage((32, 32)).load(file)
    assert 'on_error="skip"' in str(error.value) and str(file) in str(error.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jpg cannot be read: No such file"):
        ItemStage((32, 32)).load(tmp_path / "nowhere.jpg")
    with pytest.raises(DataError, match="cannot be read"):
        ItemStage((32, 32)).load(tmp_path)


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for ending in ("png", "jpg", "tiff"):
        file = tmp_path / f"big.{ending}"
        Image.fromarray(photo(200, 300)).save(file)
        assert ItemStage((32, 32), max_pixels=60_000).load(file).shape == (3, 32, 48)
        with pytest.raises(
            DataError, match=rf"big\.{ending} is too large .* 300 x 200 are 60,000 .*max_pixels is 59,999"
        ):
            ItemStage((32, 32), max_pixels=59_999).load(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(DataError, match="too large to be decoded safely"):
        ItemStage((32, 32)).load(tmp_path / "big.png")


@pytest.mark.parametrize("form", ["EPS", "PCX", "PDF"])
@pytest.mark.parametrize("ending", ["jpg", "png", "eps"])
def test_other_formats_are_not_opened_by_any_name(tmp_path: Path, form: str, ending: str) -> None:
    """Pillow starts Ghostscript for the first."""
    Image.fromarray(photo(20, 30)).save(tmp_path / f"a.{ending}", form)
    for file in (tmp_path / f"a.{ending}", (tmp_path / f"a.{ending}").read_bytes()):
        with pytest.raises(DataError, match=r"not an image in a format that is opened here \(JPEG, PNG, GIF"):
            ItemStage((8, 8)).load(file)


@pytest.mark.skipif(sys.platform != "linux", reason="the system says elsewhere how much memory a process has")
def test_large_images_leave_no_memory_behind() -> None:
    done = subprocess.run([sys.executable, "-c", BIG], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60, "MB after a PNG of 9000 x 9000 pixels: 240 as an array, 320 in Pillow"


BIG = """
import io
import numpy as np
from PIL import Image
from easylearn.vision.preprocess import ImagePreprocessor

def megabytes():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

def png(side):
    held = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(held, "PNG")
    return held.getvalue()

big, images = png(9000), ImagePreprocessor(64)
for given in (png(64), big):
    read = images.read(given)
    images.source(read.values).fetch(np.arange(1), __import__("torch").device("cpu"))
    if given is not big:
        before = megabytes()
print(megabytes() - before)
"""


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_damage_is_a_data_error(data: st.DataObject) -> None:
    """Whatever bytes are wrong: an image or a DataError, never another exception or a warning."""
    content = bytearray(DAMAGED[data.draw(st.sampled_from(sorted(DAMAGED)))])
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = DAMAGE_FOLDER / "x.img"
    path.write_bytes(content)
    with suppress(DataError):
        assert ItemStage((16, 16)).load(path).shape[0] == 3


DAMAGED = {kind: jpeg_bytes(kind) for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP")}


@pytest.fixture(autouse=True, scope="module")
def _damage_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    global DAMAGE_FOLDER
    DAMAGE_FOLDER = tmp_path_factory.mktemp("damage")


# -- arguments -----------------------------------------------------------------------------------------


def test_wrong_arguments() -> None:
    with pytest.raises(ArgumentError, match="Did you mean 'squash'"):
        ItemStage((8, 8), "squish")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="size"):
        ItemStage((0, 8))
    with pytest.raises(ArgumentError, match="channels"):
        ItemStage((8, 8), channels=4)
    with pytest.raises(ArgumentError, match="crop_pct"):
        ItemStage((8, 8), crop_pct=1.5)
    with pytest.raises(ArgumentError, match="max_pixels"):
        ItemStage((8, 8), max_pixels=0)
