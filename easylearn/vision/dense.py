"""What is said of an image's pixels: the whole image is seen, and what a model gives is put back where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
from torch import Tensor

from ..data.order import Indices
from ..errors import ArgumentError
from ..placement import Placement
from .augment import BatchStage, Dihedral, Flip, Transform
from .decode import AnyImage, Method, shape_of
from .preprocess import ImagePreprocessor
from .source import Images, ImageSource
from .warp import Array, lay

_MIRROR = ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


@dataclass(frozen=True)
class Laid(Transform):
    """One mirror image or right angle, the same for every image: see `Transform.matrix` for the two `rows`."""

    rows: tuple[tuple[float, float, float], ...] = _MIRROR
    exact: ClassVar[bool] = True

    def matrix(self, u: Array, size: tuple[int, int]) -> Array:
        return np.tile(np.array(self.rows), (len(u), 1, 1))

    def undone(self, x: Tensor) -> Tensor:
        """Maps (b, ..., h, w) of laid images, laid back."""
        inverse = np.zeros((2, 3))
        inverse[:, :2] = np.array(self.rows)[:, :2].T
        return lay(x, np.tile(inverse, (len(x), 1, 1)))


@dataclass(frozen=True)
class DensePreprocessor(ImagePreprocessor):
    """An `ImagePreprocessor` for what is predicted of pixels: nothing is cut off, and views are exact."""

    method: Method = "pad"
    crop_pct: float = 1.0
    kind: ClassVar[str] = "pixels"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method == "crop" or self.crop_pct != 1.0:
            raise ArgumentError(
                'where something is said of each pixel, the whole image is seen: method="pad" (borders around it) or '
                f'"squash", crop_pct=1, got method={self.method!r}, crop_pct={self.crop_pct!r}'
            )

    @property
    def ways(self) -> tuple[Laid, ...]:
        """The mirror images and right angles that augmentation may give, but for the image as it is."""
        kinds = {type(t) for t in self.transforms or ()}
        h, w = self.item_stage.size
        if Dihedral in kinds:
            flips = [np.diag([x, y]) for x in (1.0, -1.0) for y in (1.0, -1.0)]
            turns = [m[:, ::-1] for m in flips] if h == w else []
            return tuple(_laid(m) for m in [*flips, *turns][1:])
        return (Laid(),) if Flip in kinds else ()

    @property
    def n_views(self) -> int:
        """See `Preprocessor.n_views`: those of `ways`."""
        return len(self.ways)

    def undo_view(self, k: int, outputs: Tensor) -> Tensor:
        """See `Preprocessor.undo_view`: outputs (n, c, h, w)."""
        return self.ways[k - 1].undone(outputs)

    def stage_for(self, view: int | None) -> BatchStage:
        """See `ImagePreprocessor.stage_for`: views are exact, so that what is said of them can be put back."""
        if not view:
            return self.view_stage
        return replace(self.batch_stage, transforms=(self.ways[view - 1],))

    def has_views(self, sources: Iterable[AnyImage]) -> bool:
        """See `ImagePreprocessor.has_views`."""
        return bool(self.ways)

    def views(self, values: Images) -> Callable[[int], ImageSource] | None:
        """See `Preprocessor.views`."""
        return partial(self._view, values) if self.ways else None

    def _view(self, values: Images, k: int) -> ImageSource:
        return self._source(values, self.stage_for(k), k)

    def places(self, values: Images, some: Indices | None = None) -> Sequence[Placement] | None:
        """See `Preprocessor.places`; the images are not decoded for it."""
        chosen = range(len(values)) if some is None else some.tolist()
        return [self.item_stage.place(*shape_of(values.sources[i], values.names[i])) for i in chosen]


def _laid(rows: Array) -> Laid:
    return Laid(tuple((float(a), float(b), 0.0) for a, b in rows))
