"""From boxes as they were said to targets: classes, what lies outside of its image, which way up a file is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..data.label_words import order_classes, tell_twins
from ..errors import DataError, did_you_mean, short
from ..task import Boxes, boxes
from .boxes_geometry import Array, area, clip_boxes, upright
from .boxes_read import Boxed, Exif, Form
from .decode import AnyImage, orientation_of, shape_of

LEAST = 10  # boxes of a split, of which something is said of how they were read


@dataclass(frozen=True)
class BoxTargets:
    """The boxes of images: the `Labels` that `assemble` reads, and, with a task, its `KnownTargets`.

    Args:
        boxed: of each image that is to be split.
        classes: the list of classes; None takes those of the training images.
        known: the task, once it is learnt.
    """

    boxed: Sequence[Boxed]
    classes: Sequence[str] | None
    known: Boxes | None = None
    note: str = ""

    @property
    def task(self) -> Boxes:
        """What is predicted."""
        assert self.known is not None
        return self.known

    def stratify_codes(self) -> npt.NDArray[np.int64] | None:
        """None: an image has boxes of several classes."""
        return None

    def learn(self, train: npt.NDArray[np.int64]) -> BoxTargets:
        """With the classes of the images at positions `train`."""
        words = {word: word for i in train.tolist() for word in self.boxed[i].labels}
        names = [str(n) for n in self.classes] if self.classes is not None else [str(w) for w in order_classes(words)]
        if self.classes is None:
            tell_twins(words, "label")
        if not words:
            raise DataError("no training image has a box with an area, so there is nothing to learn")
        return BoxTargets(self.boxed, self.classes, boxes(names))

    def encode(self, values: Sequence[Boxed], where: Callable[[int], str], split: str, hint: str) -> Tensor:
        """Boxes of a split, in pixels of the files: (n, m, 5), padded with rows of class -1."""
        number = {name: k for k, name in enumerate(self.task.names)}
        for one in values:
            for word, place in zip(one.labels, one.where, strict=True):
                if word not in number:
                    whose = "the classes given" if self.classes is not None else "the training images"
                    raise DataError(
                        f"{place}: a box of the class {short(word, 60)!r}, which {whose} do not have (it is in the "
                        f"{split} split). {did_you_mean(word, number)} {hint if self.classes is None else ''}".rstrip()
                    )
        rows = [np.column_stack([one.corners, [number[w] for w in one.labels]]) for one in values]
        return padded(rows)


def padded(rows: Sequence[Array]) -> Tensor:
    """Boxes of images, (k, 5) each, as one tensor (n, m, 5), float32; rows that are none have the class -1.

    >>> padded([np.array([[0.0, 0.0, 2.0, 2.0, 1.0]]), np.zeros((0, 5))])[:, :, 4]
    tensor([[ 1.],
            [-1.]])
    """
    out = np.zeros((len(rows), max([1, *map(len, rows)]), 5), np.float32)
    out[..., 4] = -1
    for i, some in enumerate(rows):
        out[i, : len(some)] = some
    return torch.from_numpy(out)


def settle(
    target: Tensor, sources: Sequence[AnyImage], ids: Sequence[str], given: Sequence[Boxed], exif: Exif,
    form: Form = "corners",
) -> tuple[Tensor, list[tuple[int, int]], list[str]]:  # fmt: skip
    """Boxes within their images, turned with these where need be.

    Args:
        target: as `BoxTargets.encode` gives it.
        sources, ids: the images.
        given: their boxes as they were said.
        exif: what boxes mean where a file is to be turned.
        form: as which they were read.

    Returns:
        The target, (height, width) of each image as it is looked at, and what was left out or cut, in sentences.
    """
    shapes, rows = [], []
    cut: list[str] = []
    gone: list[str] = []
    as_corners = 0  # boxes that reach out, and would not if the numbers that were said were corners
    for one, source, name, said in zip(target.double().numpy(), sources, ids, given, strict=True):
        found = one[one[:, 4] >= 0]
        shape, way = shape_of(source, name), orientation_of(source)
        stored = shape[::-1] if way >= 5 else shape
        turned = len(found) > 0 and _is_stored(said, shape, stored, way, exif, name)
        as_corners += _would_fit(found[:, :4], stored if turned else shape) if form == "size" else 0
        if turned:
            found[:, :4] = upright(found[:, :4], stored, way)
        inside = clip_boxes(found[:, :4], shape)
        left = (area(inside) > 0) & (inside[:, 2:] > inside[:, :2]).all(1)
        away = np.abs(inside - found[:, :4]).max(1, initial=0.0) if len(found) else np.zeros(0)
        for k in np.flatnonzero(~left | (away > 1)):  # a pixel is where somebody counted from 1, or rounded
            words = f"{said.where[k]}: {', '.join(f'{v:g}' for v in found[k, :4])} in {shape[1]} x {shape[0]}"
            (cut if left[k] else gone).append(words)
        rows.append(np.column_stack([inside, found[:, 4]])[left])
        shapes.append(shape)
    told = [f"{_boxes(gone)} outside of the image left out, the first: {gone[0]}"] if gone else []
    told += [f"{_boxes(cut)} reaching out of the image cut off, the first: {cut[0]}"] if cut else []
    n = len(gone) + sum(map(len, rows))
    if n >= LEAST and 2 * as_corners > n:
        raise DataError(
            f"{len(gone) + len(cut)} of {n} boxes, read as xmin, ymin, width and height, reach out of their images: "
            f"{told[0]}. As xmin, ymin, xmax and ymax {as_corners} of these lie within: are they corners? Those of a "
            'table are read with form="corners"'
        )
    if 2 * len(gone) > n:
        raise DataError(f"{len(gone)} of {n} boxes lie outside of their images: {told[0]}. Are they in another order?")
    return padded(rows), shapes, told


def _would_fit(read: Array, shape: tuple[int, int]) -> int:
    """How many boxes reach out of an image of this shape, but not if what was added to make corners were corners."""
    low, high, sides = read[:, :2], read[:, 2:], np.array(shape[::-1]) + 1
    said = high - low
    return int(((high > sides).any(1) & (said > low).all(1) & (said <= sides).all(1)).sum())


def _boxes(some: Sequence[str]) -> str:
    return f"{len(some):,} box{'' if len(some) == 1 else 'es'}"


def _is_stored(said: Boxed, shown: tuple[int, int], stored: tuple[int, int], way: int, exif: Exif, name: str) -> bool:
    """Whether boxes are those of the pixels as they lie in the file, which is shown otherwise."""
    if said.drawn_on is not None and said.drawn_on not in (shown, stored):
        raise DataError(
            f"{name}: its boxes were drawn on an image of {said.drawn_on[1]} x {said.drawn_on[0]}, and the file has "
            f"{shown[1]} x {shown[0]}. Multiply the boxes, or take the file that they are of"
        )
    if way == 1 or (said.drawn_on is not None and shown != stored):
        return way != 1 and said.drawn_on == stored
    if exif == "refuse":
        raise DataError(
            f"{name} is to be turned when it is shown (EXIF orientation {way}), and nobody knows which way its boxes "
            'are: pass exif="shown" if they were drawn on the image as it is shown, exif="stored" if on the pixels as '
            "they lie in the file"
        )
    return exif == "stored"
