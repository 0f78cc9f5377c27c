"""An image file as the pixels that a graph takes, with Pillow and NumPy alone."""

from __future__ import annotations

import functools
import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import WeightsError
from ..placement import Placement
from .refusals import RefusedError

if TYPE_CHECKING:
    from PIL import Image, ImageFile

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_ORIENTATION = 0x0112
_WITH_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_LUMINANCE = np.array([19595, 38470, 7471], np.int32)  # ITU-R 601, as Pillow has it
_Read = TypeVar("_Read")


@functools.cache
def _formats() -> list[str]:
    from PIL import Image

    Image.init()  # else WebP and TIFF are found only after others failed
    return [f for f in FORMATS if f in Image.OPEN]


def count_pixels(data: bytes) -> int:
    """The pixels that an image file says it has; 0 where it is none."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_formats()) as image:
                return int(image.size[0] * image.size[1])
    except Exception:  # decoders raise nearly anything; what is wrong with it is said where it is read
        return 0


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

    def __call__(self, data: bytes) -> npt.NDArray[np.uint8]:
        """The pixels of one file; a `RefusedError` says what is wrong with it."""
        return self.placed(data)[0]

    def placed(self, data: bytes) -> tuple[npt.NDArray[np.uint8], Placement | None]:
        """The pixels of one file, and where it lies in them; nowhere as a whole where it is cut."""

        def read(image: ImageFile.ImageFile) -> tuple[npt.NDArray[np.uint8], Placement | None]:
            shape = image.size if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8) else image.size[::-1]
            is_cut, squash = self._method == "crop", self._method == "squash"
            place = None if is_cut else Placement.whole(shape, self._size, squash)
            return self._fitted(self._flat(self._reduced(image))), place

        return self._opened(data, read)

    def own_size(self, data: bytes) -> npt.NDArray[np.uint8]:
        """The pixels of one file as it is, (height, width, 3), turned as it was taken."""
        from PIL import ImageOps

        return self._opened(data, lambda image: np.array(self._flat(ImageOps.exif_transpose(image)).convert("RGB")))

    def _opened(self, data: bytes, read: Callable[[ImageFile.ImageFile], _Read]) -> _Read:
        from PIL import Image, UnidentifiedImageError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of damaged metadata
                with Image.open(io.BytesIO(data), formats=_formats()) as image:
                    n = image.size[0] * image.size[1]
                    if n > self._max_pixels:
                        raise RefusedError(
                            413, f"the image has {n:,} pixels; at most {int(self._max_pixels):,} are taken: shrink it"
                        )
                    return read(image)
        except RefusedError:
            raise
        except UnidentifiedImageError as error:
            raise RefusedError(
                415, f"this is no image in a format that is read here ({', '.join(_formats())})"
            ) from error
        except Image.DecompressionBombError as error:
            raise RefusedError(413, f"the image is too large: {error}") from error
        except Exception as error:  # decoders of damaged files raise nearly anything: SyntaxError, struct.error
            raise RefusedError(422, f"the image is damaged, decoding it failed: {error}") from error

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

    def _flat(self, image: Image.Image) -> Image.Image:
        """In RGB or grey; what is transparent is white."""
        from PIL import Image

        if image.mode.startswith("I"):  # 16 bits
            image = Image.fromarray(np.rint(np.asarray(image) / 65535 * 255).astype(np.uint8))
        elif image.mode in _WITH_ALPHA or "transparency" in image.info:
            layer = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
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
