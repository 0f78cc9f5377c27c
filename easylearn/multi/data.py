"""MultiData: rows of a table, each with images, texts and columns, for one learner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..data.branched import BranchedData
from ..data.bunch import SplitName, write_on
from ..data.split import Split
from ..errors import ArgumentError
from ..files import StrPath, as_path
from ..options import strict
from ..tabular.options import Target
from ..vision.data import ImageData
from ..vision.preprocess import Size
from .build import Inputs, build
from .options import OLD_NAMES, MultiKeywords, MultiOptions, Names

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from typing_extensions import Self, Unpack

Image = str | Sequence[str] | Mapping[str, str]
Text = str | Sequence[str] | Mapping[str, str | Sequence[str]]


class MultiData(BranchedData):
    """Items with several inputs: images, texts and the columns of a table, each a branch with data of its own.

    Make one with `from_df`. All branches have one split, one list of ids and one list of classes. An item may lack an
    image or a text: that branch is then left out for it, in training and in prediction.

    Attributes:
        branches: `ImageData`, `TextData` and `TabularData` by name, each of the items that have its input.

    >>> import pandas as pd
    >>> df = pd.DataFrame({"title": ["a good film", "a bad film"] * 5, "year": range(10), "liked": [1, 0] * 5})
    >>> data = MultiData.from_df(df, "liked", text="title", cont_names=["year"], batch_size=4)
    >>> list(data.branches), data.classes, len(data.ids("valid"))
    (['text', 'table'], ('0', '1'), 2)
    """

    @classmethod
    @strict(OLD_NAMES, MultiOptions)
    def from_df(
        cls, df: pd.DataFrame, targets: Target, *, image: Image | None = None, text: Text | None = None,
        cat_names: Names | None = None, cont_names: Names | None = None, path: StrPath = ".",
        size: Size | Mapping[str, Size] = 224, valid: Split = 0.2, **options: Unpack[MultiKeywords],
    ) -> Self:  # fmt: skip
        """A DataFrame with one row per item.

        Args:
            df: inputs and targets; it is left as it is.
            targets: the column to predict, or several.
            image: the column of image files; several as a list, each a branch called as its column, or as a dictionary
                of branches and their columns. Cells may hold arrays or bytes, too.
            text: the column of texts; several as a list are one text, with a mark before each; a dictionary is of
                branches and their columns.
            cat_names: columns of categories, and
            cont_names: columns of numbers: together the branch "table".
            path: the folder that image files are relative to.
            size: of the images in pixels, one number or (height, width), or a dictionary by branch.
            valid: a fraction; positions of rows or a mask; None for no validation. With `time` also a length of time
                such as "6W".

        Raises:
            ArgumentError: arguments contradict each other.
            DataError: a column is missing or holds what it should not, or a row has no input; the row is named.
        """
        images = _by_name("image", image)
        sizes = dict(size) if isinstance(size, Mapping) else dict.fromkeys(images, size)
        if wrong := sorted(set(images) ^ set(sizes)):
            raise ArgumentError(f"size must have an entry for each branch of images, {list(images)}; see {wrong}")
        inputs = Inputs(images, _texts(text), cat_names, cont_names, as_path(path, "a folder"), sizes)
        how = MultiOptions(**options)
        splits, branches, preprocessor, weights = build(how, df, targets, inputs, valid)
        task = next(iter(branches.values())).task
        return cls(task, splits, branches, preprocessor, batch_size=how.batch_size, weights=weights)

    def resized(self, size: int | tuple[int, int]) -> Self:
        """The same items with all images at another size."""
        images = {n: b.resized(size) for n, b in self.branches.items() if isinstance(b, ImageData)}
        return self.with_branches(images) if images else super().resized(size)

    def draw_item(self, split: SplitName, i: int, axes: Axes) -> None:
        """See `Data.draw_item`: the first image that the item has, with what else is known of it in words below."""
        here, rows = self.here(split, i), self._split(split).rows
        fields = self.describe_item(split, i)
        words = "; ".join(f"{name}: {value}" for name, value in fields.items())
        name = next((n for n in here if isinstance(self.branches[n], ImageData)), None)
        if name is None:
            write_on(axes, "\n".join(f"{n}: {v}" for n, v in fields.items()))
            return
        self.branches[name].draw_item(split, int(rows[name][i]), axes)
        axes.set_xlabel(words[:46], fontsize=7, color="0.4", parse_math=False)


def _by_name(what: str, given: Any) -> dict[str, str]:
    """The columns of branches by their names."""
    if given is None:
        return {}
    several = isinstance(given, Iterable) and not isinstance(given, str)
    named = dict(given) if isinstance(given, Mapping) else {c: c for c in given} if several else {what: given}
    _check_columns(what, named.values())
    return named


def _texts(given: Text | None) -> dict[str, str | tuple[str, ...]]:
    named = given if isinstance(given, Mapping) else {} if given is None else {"text": given}
    several = {n: c if isinstance(c, str) or not isinstance(c, Iterable) else tuple(c) for n, c in named.items()}
    _check_columns("text", [c for of in several.values() for c in (of if isinstance(of, tuple) else [of])])
    return several


def _check_columns(what: str, columns: Iterable[Any]) -> None:
    if odd := [c for c in columns if not isinstance(c, str)]:
        raise ArgumentError(f"{what} must name columns of the table, got {odd[0]!r:.60}")
