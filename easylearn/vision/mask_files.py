"""Masks out of files and arrays: which number means which class, and everything that cannot be a mask refused."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..data.frames import read_table
from ..data.values import is_missing
from ..device import mapping
from ..errors import ArgumentError, DataError, did_you_mean
from ..files import StrPath
from ..losses import VOID
from ..placement import Placement
from ..quiet import no_warnings
from .decode import AnyImage, opened_image, orientation_of, shape_of

Mask = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
Codes = StrPath | Sequence[str] | Mapping[Any, Any]
_UNKNOWN = -1
_THREADS = 4


@dataclass(frozen=True)
class MaskCodes:
    """Which number, or colour, in a file of masks means which class.

    Args:
        names: of the classes, in the order of the model's outputs.
        numbers: class of each number 0 to 255, int16: `VOID` where nothing is known, -1 where there is no class.
        colours: class of each colour, where masks are in colours; None where they are in numbers.
        hint: what to do about a number that is none of these.
    """

    names: tuple[str, ...]
    numbers: npt.NDArray[np.int16]
    colours: Mapping[Colour, int] | None = None
    hint: str = "Add it to codes, or say void= for what is not to count"

    @property
    def values(self) -> tuple[int, ...]:
        """The number in files of each class; () where they are in colours."""
        if self.colours is not None:
            return ()
        return tuple(int(np.flatnonzero(self.numbers == c)[-1]) for c in range(len(self.names)))

    def read(self, source: AnyImage, name: str) -> Mask:
        """The class numbers of a mask, (height, width); `source` is a file, its bytes, a Pillow image or an array.

        Raises:
            DataError: it cannot be a mask; the message names it, and the value or what else is wrong.
        """
        array = _array_of(source, name, self.colours is not None)
        if self.colours is not None:
            return self._of_colours(array, name)
        if array.ndim == 3:
            if not (array == array[..., :1]).all():
                raise DataError(
                    f"{name}: the mask has colours, and codes= gives numbers. Give the class of each colour, as in "
                    'codes={(128, 64, 128): "Road"}'
                )
            array = array[..., 0]
        found = self.numbers[array]
        if (found == _UNKNOWN).any():
            y, x = np.argwhere(found == _UNKNOWN)[0]
            odd = np.unique(array[found == _UNKNOWN])
            values = ", ".join(map(str, odd[:8].tolist())) + (" ..." if len(odd) > 8 else "")
            raise DataError(
                f"{name}: {int((found == _UNKNOWN).sum())} pixels have a value that is no class ({values}), the first "
                f"at row {y}, column {x}. {self.hint}"
            )
        return found.astype(np.uint8)

    def _of_colours(self, array: npt.NDArray[np.uint8], name: str) -> Mask:
        assert self.colours is not None
        if array.ndim != 3:
            raise DataError(
                f"{name}: the mask has numbers, and codes= gives colours. Give the class of each number, as in "
                'codes={0: "Road"}'
            )
        flat = array.astype(np.int32) @ np.array([65536, 256, 1])
        keys = np.array([(r << 16) + (g << 8) + b for r, g, b in self.colours])
        order = np.argsort(keys)
        place = np.searchsorted(keys[order], flat).clip(max=len(keys) - 1)
        known = keys[order][place] == flat
        if not known.all():
            y, x = np.argwhere(~known)[0]
            raise DataError(
                f"{name}: {int((~known).sum())} pixels have a colour that is no class, the first "
                f"{tuple(array[y, x].tolist())} at row {y}, column {x}. {self.hint}"
            )
        classes: Mask = np.array(list(self.colours.values()), np.uint8)[order][place]
        return classes


def _array_of(source: AnyImage, name: str, colours: bool) -> npt.NDArray[np.uint8]:
    """The numbers of a mask, (h, w), or its colours, (h, w, 3)."""
    if isinstance(source, Tensor):
        source = source.detach().cpu().numpy()
    array = source if isinstance(source, np.ndarray) else decoded_mask(source, name, colours=colours)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or not array.size:
        raise DataError(f"{name}: a mask has one number for each pixel, shape (height, width), got {array.shape}")
    if array.dtype.kind not in "iu":
        raise DataError(f"{name}: a mask holds whole numbers, got {array.dtype}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 255:
        raise DataError(
            f"{name}: the mask has numbers from {low} to {high}, and a class is from 0 to 255. 16 bits are mostly the "
            "numbers of instances (one for each object), not of classes: map them to classes first"
        )
    return array.astype(np.uint8, copy=False)


def decoded_mask(source: AnyImage, name: str, largest: float = math.inf, colours: bool = False) -> npt.NDArray[Any]:
    """The numbers or colours in a file of a mask; a `DataError` calls it by its `name`.

    Args:
        largest: pixels; a file of more is refused before it is decoded.
        colours: those of a palette, or grey ones, instead of their numbers.
    """
    from PIL import Image, ImageOps

    try:
        with no_warnings(), source if isinstance(source, Image.Image) else opened_image(source) as image:
            if image.width * image.height > largest:
                raise DataError(f"{name} has more than {largest:,} pixels")
            if image.format in ("JPEG", "MPO"):
                raise DataError(
                    f"{name} is a JPEG, whose values are only near those that were drawn, so that its edges would be "
                    "of other classes. Save masks as PNG"
                )
            image = ImageOps.exif_transpose(image)
            of_palette = image.mode in ("1", "L", "P", "LA", "PA")
            if image.mode in ("LA", "PA") and not colours:
                image = image.getchannel(0)
            coloured = image.mode in ("RGBA", "CMYK", "YCbCr") or (colours and of_palette)
            return np.array(image.convert("RGB") if coloured else image)
    except DataError:
        raise
    except Exception as error:  # decoders of damaged files raise nearly anything
        first = str(error).split("\n")[0] or type(error).__name__
        raise DataError(f"the mask {name} cannot be read: {first}") from error


def codes_of(codes: Codes | None, void: Any, binary: bool, root: Path | None = None) -> MaskCodes:
    """Codes as a user gives them.

    Args:
        codes: a csv with columns value (or r, g, b) and name, below `root`; a list of names, of 0, 1, ...; a dictionary
            of names by number or by colour (r, g, b), of numbers by name, or out of JSON of names by "0", "1", ....
        void: a name, a number, or several, of what does not count.
        binary: 0 is the background, and 1 or 255 the object; `codes` may name the two.
        root: the folder of the data.
    """
    if codes is not None and not isinstance(codes, str | os.PathLike | Iterable):
        raise ArgumentError(f"codes= says what the numbers in the masks mean, such as a list of names, got {codes!r}")
    if binary:
        return _binary(codes, void)
    if codes is None:
        raise ArgumentError(
            "say what the numbers in the masks mean: codes=[names of 0, 1, ...], codes={value: name}, a csv with value "
            "and name, or binary=True for 0 and 255"
        )
    pairs = _pairs(codes, root)
    is_one = isinstance(void, str) or not isinstance(void, Iterable) or (_is_colour(void) and _in_colours(pairs))
    wanted = [] if void is None else [_key(one) for one in ([void] if is_one else void)]
    known = {name for _, name in pairs}
    for one in wanted:
        if isinstance(one, str) and one not in known:
            raise ArgumentError(f"void={one!r} is none of the classes. {did_you_mean(one, known)}")
    by_name: dict[str, int] = {}
    classes: dict[Any, int] = {}
    for key, name in pairs:
        if not name.strip():
            raise ArgumentError(f"codes: the class of {key} has no name. Give it one, or leave it out")
        number = VOID if name in wanted or key in wanted else by_name.setdefault(name, len(by_name))
        if classes.setdefault(key, number) != number:
            raise ArgumentError(f"codes: the value {key} is there twice, as {name!r} and as another class")
    classes |= {one: VOID for one in wanted if not isinstance(one, str)}
    return _made(tuple(by_name), classes)


def _made(names: tuple[str, ...], classes: Mapping[Any, int]) -> MaskCodes:
    numbers = np.full(256, _UNKNOWN, np.int16)
    if _in_colours(classes.items()):
        odd = next((k for k in classes if not _is_colour(k)), None)
        if odd is not None:
            raise ArgumentError(f"codes: colours are three numbers from 0 to 255, got {odd!r}")
        return MaskCodes(names, numbers, dict(classes))
    for key, number in classes.items():
        if isinstance(key, bool) or not isinstance(key, int | np.integer) or not 0 <= key <= 255:
            raise ArgumentError(f"codes: a value in a mask is from 0 to 255, got {key!r}")
        numbers[key] = number
    return MaskCodes(names, numbers)


def _in_colours(pairs: Iterable[tuple[Any, Any]]) -> bool:
    return any(isinstance(key, tuple) for key, _ in pairs)


def _is_colour(key: Any) -> bool:
    return isinstance(key, tuple) and len(key) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in key)


def _binary(codes: Codes | None, void: Any) -> MaskCodes:
    names: Any = ("background", "object") if codes is None else codes
    if isinstance(codes, str | os.PathLike | Mapping) or len(names := list(names)) != 2 or void is not None:
        raise ArgumentError("with binary=True codes are the names of background and object, or left out; void is none")
    numbers = np.full(256, _UNKNOWN, np.int16)
    numbers[[0, 1, 255]] = 0, 1, 1
    hint = "binary=True takes 0 and 255 (or 1) alone; values between come of smoothing: set a threshold, and save anew"
    return MaskCodes((str(names[0]), str(names[1])), numbers, hint=hint)


def _pairs(codes: Codes, root: Path | None) -> list[tuple[Any, str]]:
    """(value or colour, name) for each class."""
    if isinstance(codes, str | os.PathLike):
        return _file_pairs((root or Path()) / codes)
    if isinstance(codes, Mapping):
        if codes and all(isinstance(k, str) and k.isdecimal() and isinstance(v, str) for k, v in codes.items()):
            return [(int(k), v) for k, v in codes.items()]  # as JSON has numbers for names
        if codes and all(isinstance(k, str) for k in codes):
            return [(_key(v), str(k)) for k, v in codes.items()]
        return [(_key(k), _name(v)) for k, v in codes.items()]
    return [(k, _name(name)) for k, name in enumerate(codes)]


def _name(given: Any) -> str:
    """The name of a class; what is missing has none."""
    return "" if is_missing(given) else str(given)


def _key(value: Any) -> Any:
    if not isinstance(value, tuple | list):
        return int(value) if isinstance(value, float | np.floating) and float(value).is_integer() else value
    return tuple(int(v) if isinstance(v, np.integer) else v for v in value)


def _file_pairs(path: Path) -> list[tuple[Any, str]]:
    if path.suffix.lower() == ".txt":
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"the codes {path} cannot be read: {error}. Expected a name of a class in each line"
            ) from error
        return [(k, line.strip()) for k, line in enumerate(lines) if line.strip()]
    frame = read_table(path, text=("name",)).frame
    columns = {str(c).strip().lower(): c for c in frame.columns}
    if "name" not in columns or not ({"r", "g", "b"} <= columns.keys() or "value" in columns):
        raise DataError(f"{path} needs the columns value and name, or r, g, b and name; it has {list(frame.columns)}")
    names = [_name(n) for n in frame[columns["name"]].tolist()]
    if "value" in columns:
        return list(zip(_whole(path, "value", frame[columns["value"]]), names, strict=True))
    colours = zip(*(_whole(path, c, frame[columns[c]]) for c in "rgb"), strict=True)
    return list(zip(colours, names, strict=True))


def _whole(path: Path, name: str, column: Iterable[Any]) -> list[int]:
    """The numbers of a column of a file of codes."""
    found = []
    for row, value in enumerate(column):
        try:
            found.append(int(value))
            is_whole = found[-1] == float(value)
        except (TypeError, ValueError, OverflowError):
            is_whole = False
        if not is_whole:
            raise DataError(f"{path}, row {row}: {name} is a whole number from 0 to 255, got {value!r}")
    return found


def fitted(mask: Mask, place: Placement) -> Mask:
    """A mask of a whole image in the model's frame, by the nearest pixels; what is around it is void."""
    out = np.full(place.frame, VOID, np.uint8)
    rows, columns = (
        ((np.arange(n) + 0.5) * (own / n)).astype(np.int64).clip(max=own - 1)
        for n, own in zip(place.inner, mask.shape, strict=True)
    )
    inside = slice(place.top, place.top + place.inner[0]), slice(place.left, place.left + place.inner[1])
    out[inside] = mask[rows[:, None], columns]
    return out


def check_size(mask: Mask, image: AnyImage, name: str) -> None:
    """Refuse a mask whose size is not its image's, or that may lie another way round.

    Raises:
        DataError: with both sizes.
    """
    shape = shape_of(image, name)
    if mask.shape != shape:
        turned = " The sizes are swapped: the image is turned by its EXIF orientation, and the mask is not"
        raise DataError(
            f"{name}: the mask has {mask.shape[0]} x {mask.shape[1]} pixels (height x width), its image {shape[0]} x "
            f"{shape[1]}.{turned if mask.shape == shape[::-1] else ' Make both of one size'}"
        )
    way = orientation_of(image)
    if way in (2, 3, 4) or (way != 1 and shape[0] == shape[1]):  # the size does not tell which way the mask lies
        raise DataError(
            f"{name}: its image {image if isinstance(image, str) else ''} is mirrored, turned or upside down by its "
            "EXIF orientation, and nobody knows whether the mask was drawn before or after that. Save it without that"
        )


def read_masks(
    codes: MaskCodes, pairs: Sequence[tuple[AnyImage, AnyImage]], names: Sequence[str], places: Any
) -> Tensor:
    """The masks of some images in the model's frame, (n, h, w), uint8.

    Args:
        codes: what their numbers mean.
        pairs: an image and its mask each.
        names: of the masks, for messages.
        places: gives the `Placement` of an image by its height and width.
    """

    def one(k: int) -> Mask:
        image, source = pairs[k]
        mask = codes.read(source, names[k])
        check_size(mask, image, names[k])
        return fitted(mask, places(*mask.shape))

    files = all(
        isinstance(s, str) for pair in pairs for s in pair
    )  # Pillow's own are lazy, and threads may meet in one
    with mapping(min(_THREADS, torch.get_num_threads()) if files else 1) as each:
        made = torch.empty(len(pairs), *places(1, 1).frame, dtype=torch.uint8)  # no second copy of them all
        for k, mask in enumerate(each(one, range(len(pairs)))):
            made[k] = torch.from_numpy(mask)
        return made
