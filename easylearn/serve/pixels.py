"""An image file as the pixels that a graph takes, with Pillow and NumPy alone."""

from __future__ import annotations

import functools
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import WeightsError
from ..placement import Placement
from ..quiet import no_warnings
from .refusals import RefusedError

if TYPE_CHECKING:
    from PIL import Image, ImageFile

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_ORIENTATION = 0x0112
_WITH_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_LUMINANCE = np.array([19595, 38470, 7471], np.int32)  # ITU-R 601, as Pillow has it
MAX_SIDE = 65_535  # pixels, the most of a JPEG: of a longer side the weights to resize it fill memory, 32 bytes a pixel
_MAX_SCANS = 100  # of a JPEG of the most pixels, which is gone through once for each
_MOST_SEGMENTS = 10_000  # that are walked through to find where an image ends; one of a camera has some dozens
_SEGMENT = re.compile(rb"\xff[^\x00-\xbf\xd0-\xd8\xff]")  # of a JPEG: a marker that has a length, or the end, \xd9
_TILE = (322, 323)  # tags of a TIFF: width and height of its tiles
_BAND = 2**20  # pixels that are converted together


@functools.cache
def _formats() -> list[str]:
    from PIL import Image

    Image.init()  # else WebP and TIFF are found only after others failed
    return [f for f in FORMATS if f in Image.OPEN]


def count_pixels(data: bytes) -> int:
    """The pixels that an image file says it has; 0 where it is none."""
    from PIL import Image

    try:
        with no_warnings(), Image.open(io.BytesIO(data), formats=_formats()) as image:
            return int(image.size[0] * image.size[1])
    except Exception:  # decoders raise nearly anything; what is wrong with it is said where it is read
        return 0


@contextmanager
def opened(data: bytes, max_pixels: float) -> Iterator[ImageFile.ImageFile]:
    """An image file whose header was read, and nothing else; what is wrong with it, also later, is a `RefusedError`.

    Raises:
        RefusedError: 413 where it is too large, 415 where it is none, 422 where it is damaged.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with no_warnings(), Image.open(io.BytesIO(data), formats=_formats()) as image:
            _refuse_large(image, data, max_pixels)
            yield image
    except RefusedError:
        raise
    except UnidentifiedImageError as error:
        raise RefusedError(415, f"this is no image in a format that is read here ({', '.join(_formats())})") from error
    except Image.DecompressionBombError as error:
        raise RefusedError(413, f"the image is too large: {error}") from error
    except Exception as error:  # decoders of damaged files raise nearly anything: SyntaxError, struct.error
        raise RefusedError(422, f"the image is damaged, decoding it failed: {error}") from error


def _refuse_large(image: ImageFile.ImageFile, data: bytes, most: float) -> None:
    """Refuse an image that is small as a file, and takes the machine where it is decoded."""
    n, side = image.size[0] * image.size[1], max(image.size)
    if n > most:
        raise RefusedError(413, f"the image has {n:,} pixels; at most {int(most):,} are taken: shrink it")
    if side > MAX_SIDE:
        raise RefusedError(413, f"a side of the image has {side:,} pixels; at most {MAX_SIDE:,} are taken: cut it")
    if image.format == "TIFF":
        across, down = (int(image.tag_v2.get(tag, 1)) for tag in _TILE)  # type: ignore[attr-defined]
        tile = across * down
        if tile > most:
            raise RefusedError(413, f"the tiles of the TIFF have {tile:,} pixels; at most {int(most):,} are taken")
    elif image.format in ("JPEG", "MPO"):
        scans = _scans(data)
        if scans > _MAX_SCANS and scans * n > _MAX_SCANS * most:
            raise RefusedError(413, f"the JPEG has {scans:,} scans; save it with fewer, or not progressively")


def _scans(data: bytes) -> int:
    """The scans of the first image of a JPEG, as libjpeg finds them: previews and films may lie beside it."""
    n, at = 0, 2
    for _ in range(_MOST_SEGMENTS):
        found = _SEGMENT.search(data, at)
        if found is None or found[0] == b"\xff\xd9":
            return n
        n += found[0] == b"\xff\xda"
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return n + data.count(b"\xff\xda", at)


def _in_bands(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """An image converted some rows at a time, for what that takes beside it is several times as large."""
    from PIL import Image

    width, height = image.size
    n = max(1, _BAND // width)
    if n >= height:
        return convert(image)
    made = Image.new(mode, image.size)
    for top in range(0, height, n):
        made.paste(convert(image.crop((0, top, width, min(height, top + n)))), (0, top))
    return made


def _on_white(image: Image.Image) -> Image.Image:
    from PIL import Image

    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits, or of floats from 0 to 1, in 8: on one scale for all files, as the learner has it."""
    from PIL import Image

    x = np.asarray(image)
    if image.mode != "F":
        return Image.fromarray(((x.astype(np.uint32) + 128) // 257).astype(np.uint8))
    if not (x.min() >= 0 and x.max() <= 1):  # nor is a NaN
        raise RefusedError(422, "the floats of an image are between 0 and 1: divide them by the largest possible value")
    return Image.fromarray(np.rint(x * 255).astype(np.uint8))


class PixelReader:
    """Bytes of an image file to uint8 pixels (1, channels, height, width), as the metadata of a graph says.

    The steps are those of easylearn's own preprocessing. Pillow resizes here, which rounds otherwise than torch does in
    two of a thousand places, by 1 of 255, seldom by 2.
    """

    def __init__(self, about: Mapping[str, Any], max_pixels: float) -> None:
        self._size: tuple[int, int] = tuple(map(int, about["size"]))  # type: ignore[assignment]
        self._channels = int(about["channels"])
        self._method = str(about["method"])
        self._long_side = float(about["long_side"])
        h, w = self._size
        part = float(about["crop_pct"]) if self._method == "crop" else 1.0
        self._working = (round(h / part), round(w / part))
        self._max_pixels = min(max_pixels, float(about.get("max_pixels") or max_pixels))
        pad = about.get("pad")
        self._fill = [int(x) for x in pad] if isinstance(pad, list) else None
        make = about.get("make", "pairs")
        self._is_grey = make == "colour"
        if make not in ("pairs", "colour"):
            raise WeightsError(
                f"the graph makes images by {make!r}, whose inputs torch alone makes: serve the file that "
                'learn.export("m.easylearn") writes'
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what comes out."""
        return (self._channels, *self._size)

    def __call__(self, data: bytes) -> npt.NDArray[np.uint8]:
        """The pixels of one file; a `RefusedError` says what is wrong with it."""
        return self.placed(data)[0]

    def placed(self, data: bytes) -> tuple[npt.NDArray[np.uint8], Placement | None]:
        """The pixels of one file, and where it lies in them; nowhere as a whole where it is cut."""
        with opened(data, self._max_pixels) as image:
            shape = image.size if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8) else image.size[::-1]
            is_cut, squash = self._method == "crop", self._method == "squash"
            place = None if is_cut else Placement.whole(shape, self._size, squash)
            return self._fitted(self._flat(self._reduced(image), image.format)), place

    def own_size(self, data: bytes) -> npt.NDArray[np.uint8]:
        """The pixels of one file as it is, (height, width, 3), turned as it was taken."""
        from PIL import ImageOps

        with opened(data, self._max_pixels) as image:
            return np.array(self._flat(ImageOps.exif_transpose(image), image.format).convert("RGB"))

    def _reduced(self, image: ImageFile.ImageFile) -> Image.Image:
        """Turned as it was taken; a large JPEG is decoded at a half, a quarter or an eighth."""
        from PIL import ImageOps

        turned = image.getexif().get(_ORIENTATION, 1)
        width, height = image.size if turned < 5 else image.size[::-1]
        th, tw = self._working
        factor = (max if self._method == "pad" else min)(height / th, width / tw)
        if image.format in ("JPEG", "MPO") and factor >= 2:
            image.draft(image.mode, (math.ceil(image.size[0] / factor), math.ceil(image.size[1] / factor)))
        elif image.format == "JPEG" and self._channels == 1 and image.mode == "RGB" and turned == 1:
            image.draft("L", image.size)  # the luminance that the file holds
        return ImageOps.exif_transpose(image) if turned != 1 else image

    def _flat(self, image: Image.Image, form: str | None) -> Image.Image:
        """In RGB or grey; what is transparent is white. Older Pillows have the 16 bits of some forms of files in 32."""
        if image.mode == "I" and form not in ("PNG", "PPM"):
            raise RefusedError(422, "nobody knows black and white of an image of 32 bits: save it with 8 or 16 bits")
        if image.mode.startswith("I") or image.mode == "F":
            image = _in_bands(image, "L", _eight_bits)
        elif image.mode in _WITH_ALPHA or "transparency" in image.info:
            image = _in_bands(image, "RGB", _on_white)
        mode = "L" if self._channels == 1 or image.mode in ("L", "1") else "RGB"
        return image if image.mode == mode else image.convert(mode)

    def _fitted(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        from PIL import Image

        (h, w), (th, tw) = self._size, self._working
        width, height = image.size
        if self._method == "crop":
            scale = max(th / height, tw / width)
            most = self._long_side
            kh, kw = (min(n, max(1, round(most * t / scale))) for n, t in ((height, th), (width, tw)))
            oh, ow = (min(max(t, round(n * scale)), int(most * t)) for n, t in ((kh, th), (kw, tw)))
            top, left = (height - kh) // 2, (width - kw) // 2
            box = (left, top, left + kw, top + kh)
        else:
            box = (0, 0, width, height)
            oh, ow = Placement.whole((height, width), (h, w), self._method == "squash").inner
        kept = image if box == (0, 0, width, height) else image.crop(box)  # resize(box=) would look beyond it
        x = np.asarray(kept.resize((ow, oh), Image.Resampling.BICUBIC)).reshape(oh, ow, -1)
        if self._method == "pad":
            top, left = (h - oh) // 2, (w - ow) // 2
            x = self._padded(x, ((top, h - oh - top), (left, w - ow - left), (0, 0)))
        top, left = (x.shape[0] - h) // 2, (x.shape[1] - w) // 2
        x = x[top : top + h, left : left + w]
        if self._is_grey and x.shape[2] == 3:
            x = (x.astype(np.int32) @ _LUMINANCE + 0x8000 >> 16).astype(np.uint8)[..., None]
        return np.ascontiguousarray(np.repeat(x, self._channels // x.shape[2], 2).transpose(2, 0, 1)[None])

    def _padded(self, x: npt.NDArray[np.uint8], sides: Sequence[tuple[int, int]]) -> npt.NDArray[np.uint8]:
        """With borders, reflected or filled."""
        if self._fill is None:
            return np.pad(x, sides, mode="reflect")
        fill = self._fill if len(self._fill) == x.shape[2] else [round(sum(self._fill) / len(self._fill))]
        filled = [np.pad(x[..., c], sides[:2], constant_values=value) for c, value in enumerate(fill)]
        return np.stack(filled, 2)
