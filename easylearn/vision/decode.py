"""The item stage: one image of any kind in, one small uint8 tensor out.

The result is a pure function of the file and the stage, so it can be kept; `augment` works on whole batches of them.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..device import give_back_memory
from ..errors import ArgumentError, DataError, check_whole, did_you_mean
from ..placement import Placement
from ..quiet import no_warnings

if TYPE_CHECKING:
    from PIL import Image

Method = Literal["crop", "squash", "pad"]
AnyImage = Any  # a path, bytes, a PIL image, an ndarray (h, w[, c]) or a Tensor ([c,] h, w)
# Endings of the files that are found in folders. Pillow's list is longer, and holds films and scientific data, too.
_ENDINGS = "jpg jpeg jpe jfif png apng gif bmp dib webp avif avifs tif tiff ppm pgm pbm pnm jp2 j2k jpx tga heic heif"
IMAGE_SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "AVIF", "TIFF", "PPM", "JPEG2000", "TGA", "HEIF")
"""What is opened, whatever a file is called: of Pillow's other formats some start programs, and many are old code."""
MAX_PIXELS = 100_000_000
LARGE = 10_000_000  # pixels whose memory is worth the milliseconds that giving it back takes
VERSION = 3  # part of every cache key: raise it when the same file would give other pixels
LONG_SIDE = 1.5  # "crop" keeps at most this much of the long side, in units of the working size
_CHANNELS = (1, 3, 4)
_ORIENTATION = 0x0112  # the EXIF tag
_ADVICE = 'Repair or remove it; data made with on_error="skip" leave out what cannot be read'
_FOLDER = "It is a folder: pass Path(folder) by itself, whose images are then read, or a list of the files in it"


@dataclass(frozen=True)
class ItemStage:
    """How an image becomes a uint8 tensor at working size.

    "crop" shrinks or enlarges until the image covers the working size and keeps up to 1.5 times as much along the
    longer direction, out of which `window` cuts; "squash" ignores the proportions; "pad" fits the whole image inside
    and reflects it into what is left.
    """

    size: tuple[int, int]  # (height, width) that the model sees
    method: Method = "crop"
    channels: int = 3  # colour; 1 is grey
    crop_pct: float = 1.0  # "crop": the share of the shorter side that the model sees; the rest is cut at random
    max_pixels: int = field(default=MAX_PIXELS, repr=False)  # files with more are refused; the others' are the same
    fill: tuple[int, ...] | None = None  # of each channel, what "pad" fills with; None reflects the image

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ArgumentError(f"size must be two positive numbers (height, width), got {self.size}")
        if self.method not in get_args(Method):
            raise ArgumentError(f"unknown method {self.method!r}. {did_you_mean(str(self.method), get_args(Method))}")
        if self.channels not in (1, 3):
            raise ArgumentError(f"channels must be 3 (colour) or 1 (grey), got {self.channels}")
        if not isinstance(self.crop_pct, int | float) or not 0.1 <= self.crop_pct <= 1.0:
            raise ArgumentError(f"crop_pct must be between 0.1 and 1, got {self.crop_pct!r}")
        check_whole("max_pixels", self.max_pixels)

    @property
    def working_size(self) -> tuple[int, int]:
        """(height, width) that every result has at least."""
        if self.method != "crop":
            return self.size
        return round(self.size[0] / self.crop_pct), round(self.size[1] / self.crop_pct)

    @property
    def max_bytes(self) -> int:
        """The most bytes a result takes: "crop" keeps more than the working size, in one direction only."""
        h, w = self.working_size
        longest = LONG_SIDE if self.method == "crop" else 1.0
        return self.channels * max(int(h * longest) * w, h * int(w * longest))

    def load(self, source: AnyImage, name: str = "") -> Tensor:
        """One image at working size, as uint8 of shape (channels, h, w), contiguous.

        Args:
            source: the path of an image file, what such a file holds as bytes, a PIL image, or an array or a
                tensor of shape (h, w), (h, w, c) or (c, h, w): where both could be meant, an array has its channels
                last, a tensor first. Numbers are uint8, bool, uint16 or floats in [0, 1].
            name: how messages call it; a file is called by its path.
        """
        with no_warnings():
            return self._load(source, name)

    def _load(self, source: AnyImage, name: str) -> Tensor:
        if isinstance(source, str | os.PathLike):
            return self._load_file(Path(source))
        name = name or "the image"
        if isinstance(source, bytes | bytearray | memoryview):
            return self._load_bytes(np.frombuffer(bytearray(source), np.uint8), name)
        if isinstance(source, np.ndarray | Tensor):
            return self._load_array(source, name)
        from PIL import Image

        if isinstance(source, Image.Image):
            try:
                return self._from_pil(source, name)
            except DataError:
                raise
            except Exception as error:  # any decoder may be behind a lazily loaded image
                raise DataError(f"{name} cannot be read: {_reason(error)}") from error
        raise DataError(
            f"{name} must be a path, the bytes of a file, a PIL image, an array (h, w, c) or a tensor (c, h, w), got "
            f"{type(source).__name__}"
        )

    def _load_file(self, path: Path) -> Tensor:
        try:
            data = np.fromfile(path, np.uint8)
        except OSError as error:
            if path.is_dir():
                raise DataError(f"{path} cannot be read as an image. {_FOLDER}") from error
            there = f" {path.parent} does not exist either." if not path.parent.is_dir() else ""
            advice = f"Is its name written right?{there}" if isinstance(error, FileNotFoundError) else _ADVICE
            raise DataError(f"{path} cannot be read: {error.strerror or error}. {advice}") from error
        return self._load_bytes(data, str(path))

    def _load_bytes(self, data: npt.NDArray[np.uint8], name: str) -> Tensor:
        from PIL import Image, UnidentifiedImageError

        if not data.size:
            raise DataError(f"{name} is empty (0 bytes). {_ADVICE}")
        try:
            with opened_image(data.data) as image:
                width, height = image.size
                if width * height > self.max_pixels:
                    raise Image.DecompressionBombError(
                        f"{width} x {height} are {width * height:,} pixels, and max_pixels is {self.max_pixels:,}"
                    )
                fast = self._fast_jpeg(image, data)
                found = self._from_pil(image, name, draft=True) if fast is None else fast
                if width * height > LARGE:
                    image.close()
                    give_back_memory()
                return found
        except UnidentifiedImageError as error:
            known = ", ".join(f for f in FORMATS if f in Image.OPEN)
            raise DataError(f"{name} is not an image in a format that is opened here ({known}). {_ADVICE}") from error
        except Image.DecompressionBombError as error:
            raise DataError(
                f"{name} is too large to be decoded safely: {_reason(error)}. Shrink it, or raise max_pixels= of the "
                "data (above 178 million PIL.Image.MAX_IMAGE_PIXELS, too) if you trust it; data made with "
                'on_error="skip" leave it out'
            ) from error
        except DataError:
            raise
        except Exception as error:  # decoders of damaged files raise nearly anything: SyntaxError, struct.error
            raise DataError(f"{name} seems to be damaged, decoding failed: {_reason(error)}. {_ADVICE}") from error

    def _fast_jpeg(self, image: Image.Image, data: npt.NDArray[np.uint8]) -> Tensor | None:
        """A plain JPEG that is not much larger than needed, by torchvision; None for any other file.

        On 500x375 this takes 1.35 ms against Pillow's 2.45; from twice the size on, Pillow's reduced decoding (`draft`)
        is quicker: 9.8 against 13.5 ms on 2000x1500.
        """
        plain = image.format == "JPEG" and image.mode in ("RGB", "L") and image.getexif().get(_ORIENTATION, 1) == 1
        if not plain or self._reduction(*image.size[::-1]) >= 2:
            return None
        from torchvision.io import ImageReadMode, decode_jpeg

        grey = image.mode == "L" or self.channels == 1
        try:
            pixels = decode_jpeg(torch.from_numpy(data), mode=ImageReadMode.GRAY if grey else ImageReadMode.RGB)
        except RuntimeError:
            return None  # Pillow decides whether the file is damaged, and says how
        return self._fit(pixels)

    def _reduction(self, height: int, width: int) -> float:
        """How many times smaller an image becomes."""
        ratios = (height / self.working_size[0], width / self.working_size[1])
        return max(ratios) if self.method == "pad" else min(ratios)

    def _from_pil(self, image: Image.Image, name: str, draft: bool = False) -> Tensor:
        from PIL import ImageOps
        from PIL.JpegImagePlugin import JpegImageFile

        orientation = image.getexif().get(_ORIENTATION, 1)
        if draft and isinstance(image, JpegImageFile):
            factor = self._reduction(*(image.size if orientation in (5, 6, 7, 8) else image.size[::-1]))
            if factor >= 2:
                image.draft(image.mode, (math.ceil(image.size[0] / factor), math.ceil(image.size[1] / factor)))
        if orientation != 1:
            image = ImageOps.exif_transpose(image)
        return self._fit_array(np.array(_flatten(image, self.channels, name)))

    def _load_array(self, given: npt.NDArray[Any] | Tensor, name: str) -> Tensor:
        pixels = as_uint8(channels_last(given, name), name)
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            from PIL import Image

            return self._from_pil(Image.fromarray(np.ascontiguousarray(pixels)), name)
        # torch takes no negative strides and no read-only memory
        return self._fit_array(pixels.copy() if not pixels.flags.writeable or min(pixels.strides) < 0 else pixels)

    def _fit_array(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        return self._fit(torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1))

    def place(self, height: int, width: int) -> Placement:
        """Where an image of some height and width lies in the working size; not of "crop", which keeps a part."""
        th, tw = self.working_size
        if self.method == "crop":
            raise ArgumentError('method="crop" cuts images, so that they lie nowhere as a whole; use "pad" or "squash"')
        return Placement.whole((height, width), (th, tw), self.method == "squash")

    def _padded(self, pixels: npt.NDArray[np.uint8], sides: Sequence[tuple[int, int]]) -> npt.NDArray[np.uint8]:
        """Pixels (c, h, w) with borders, reflected or filled."""
        if self.fill is None:
            return np.pad(pixels, sides, mode="reflect")
        given = self.fill if len(self.fill) == len(pixels) else [round(sum(self.fill) / len(self.fill))] * len(pixels)
        filled = [np.pad(plane, sides[1:], constant_values=value) for plane, value in zip(pixels, given, strict=True)]
        return np.stack(filled)

    def _fit(self, pixels: Tensor) -> Tensor:
        """Crop, resize with antialiasing and pad; then bring the number of channels right."""
        _, height, width = pixels.shape
        th, tw = self.working_size
        if self.method == "crop":
            scale = max(th / height, tw / width)
            keep_h, keep_w = (min(n, max(1, round(LONG_SIDE * t / scale))) for n, t in ((height, th), (width, tw)))
            top, left = (height - keep_h) // 2, (width - keep_w) // 2
            pixels = pixels[:, top : top + keep_h, left : left + keep_w]
            out = tuple(min(max(t, round(n * scale)), int(t * LONG_SIDE)) for n, t in ((keep_h, th), (keep_w, tw)))
        else:
            place = self.place(height, width)
            top, left, out = place.top, place.left, place.inner
        if tuple(pixels.shape[1:]) != out:
            pixels = F.interpolate(pixels[None], out, mode="bicubic", antialias=True)[0]
        if self.method == "pad" and out != (th, tw):
            sides = ((0, 0), (top, th - out[0] - top), (left, tw - out[1] - left))
            pixels = torch.from_numpy(self._padded(pixels.numpy(), sides))
        if pixels.shape[0] == 1 and self.channels == 3:
            pixels = pixels.expand(3, -1, -1)
        elif pixels.shape[0] == 3 and self.channels == 1:
            r, g, b = pixels.to(torch.int32)
            pixels = ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16).to(torch.uint8)[None]  # ITU-R 601, as Pillow
        return torch.from_numpy(np.ascontiguousarray(pixels.numpy()))  # torch would start threads in each of ours


def orientation_of(source: AnyImage) -> int:
    """Which way an image is to be turned to be looked at, as EXIF counts it: from 1, as it is, to 8."""
    from PIL import Image

    if isinstance(source, np.ndarray | Tensor):
        return 1
    if isinstance(source, Image.Image):
        return int(source.getexif().get(_ORIENTATION, 1))
    with no_warnings(), opened_image(source) as image:
        return int(image.getexif().get(_ORIENTATION, 1))


def opened_image(source: AnyImage) -> Image.Image:
    """The image of a file or its bytes, not decoded yet, in one of the `FORMATS`."""
    from PIL import Image

    Image.init()
    held = io.BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source
    return Image.open(held, formats=[f for f in FORMATS if f in Image.OPEN])


def shape_of(source: AnyImage, name: str = "the image") -> tuple[int, int]:
    """(height, width) of an image as `ItemStage.load` takes it, turned as it is looked at; a file is not decoded.

    Raises:
        DataError: it cannot be read.
    """
    from PIL import Image

    if isinstance(source, np.ndarray | Tensor):
        height, width = channels_last(source, name).shape[:2]
        return int(height), int(width)
    try:
        if isinstance(source, Image.Image):
            return _turned(source)
        with no_warnings(), opened_image(source) as image:
            return _turned(image)
    except Exception as error:  # any decoder may be behind it
        raise DataError(f"{source if isinstance(source, str) else name} cannot be read: {_reason(error)}") from error


def _turned(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (width, height) if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8) else (height, width)


def window(shape: tuple[int, int], size: tuple[int, int], at: tuple[float, float] | None = None) -> tuple[int, int]:
    """Where (top, left) a window of `size` begins in an image of `shape`, both (height, width).

    `at` is its position along each direction, two numbers in [0, 1); None means central.

    >>> window((32, 48), (32, 32)), window((32, 48), (32, 32), (0.0, 0.99))
    ((0, 8), (0, 16))
    """
    free = (shape[0] - size[0], shape[1] - size[1])
    if at is None:
        return free[0] // 2, free[1] // 2
    return int(at[0] * (free[0] + 1)), int(at[1] * (free[1] + 1))


def channels_last(given: npt.NDArray[Any] | Tensor, name: str, several: bool = False) -> npt.NDArray[Any]:
    """An array of one image or several with its channels last; where both could be meant, a tensor has them first.

    >>> channels_last(torch.zeros(3, 8, 4), "the image").shape
    (8, 4, 3)
    """
    array = given.detach().cpu().numpy() if isinstance(given, Tensor) else given
    n = "n, " if several else ""
    grey = 3 if several else 2
    first, last = (array.ndim == grey + 1 and array.shape[k] in _CHANNELS for k in (-3, -1))
    if array.ndim != grey and not first and not last:
        raise DataError(
            f"{name}: expected shape ({n}h, w), ({n}h, w, c) or ({n}c, h, w) with 1, 3 or 4 channels, got {array.shape}"
        )
    if not array.size:
        raise DataError(f"{name} is empty, its shape is {array.shape}")
    return np.moveaxis(array, -3, -1) if first and (isinstance(given, Tensor) or not last) else array


def as_uint8(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    """Numbers of an image, uint8, bool, uint16 or floats in [0, 1], as 0 to 255; others raise `DataError`."""
    if array.dtype == np.bool_:
        array = array * np.uint8(255)
    elif array.dtype == np.uint16:
        array = (array.astype(np.uint32) + 128) // 257
    elif array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not np.isfinite([low, high]).all():
            raise DataError(f"{name}: {int((~np.isfinite(array)).sum())} pixels are NaN or infinite")
        if low < 0.0 or high > 1.0:
            raise DataError(
                f"{name}: floating-point pixels must be between 0 and 1, got {low:g} to {high:g}. Divide all images by "
                "the largest possible value, or pass uint8; normalisation is done here"
            )
        array = np.rint(array * 255)
    elif array.dtype != np.uint8:
        raise DataError(
            f"{name}: pixels must be uint8, bool, uint16 or floats in [0, 1], got {array.dtype}, whose black and white "
            "nobody knows. Scale all images alike and save them with 8 or 16 bits"
        )
    return array.astype(np.uint8, copy=False)


def single_images(given: npt.NDArray[Any] | Tensor, name: str) -> list[AnyImage]:
    """The images of (n, h, w), (n, h, w, c) or (n, c, h, w), as uint8 (h, w) or (h, w, c); messages say `name[k]`."""
    array = channels_last(given, name, several=True)
    try:
        return list(as_uint8(array, name))
    except DataError:
        for k, image in enumerate(array):
            as_uint8(image, f"{name}[{k}]")
        raise


def _flatten(image: Image.Image, channels: int, name: str) -> Image.Image:
    """An 8-bit "RGB" or "L" image of any Pillow image; what is transparent becomes white."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(as_uint8(_of_known_range(image), name))
    elif image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    wanted = "L" if channels == 1 or image.mode in ("L", "1") else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _of_known_range(image: Image.Image) -> npt.NDArray[Any]:
    """The numbers of a grey image of more than 8 bits, one scale for all files: a file's own would hide what is dark.

    Pillow has the 16 bits of some formats in 32; what else has 32 has no range that anybody knows.
    """
    numbers = np.asarray(image)
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    return numbers.astype(np.uint16) if sixteen else numbers


def _reason(error: BaseException) -> str:
    return str(error).split("\n")[0] or type(error).__name__
