"""What every way of making a `TabularData` takes, written once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, Union

from ..data.bunch import Data
from ..data.targets import TaskName
from ..data.weights import ItemWeights
from ..errors import ArgumentError
from ..nn.embeddings import YRange
from ..options import check_split
from .fitted import Fill, Scale
from .preprocess import TablePreprocessor

if TYPE_CHECKING:
    import pandas as pd

Names = Union[Sequence[str], "pd.Index[str]"]
Target = Union[str, Sequence[str], "pd.Index[str]"]


@dataclass(frozen=True)
class TableOptions:
    """How a table becomes data, whatever it is read from.

    Args:
        cat_names: columns of categories; None guesses them by type and by how many values they hold, and prints what
            was found.
        cont_names: columns of numbers; None guesses them.
        stratify: give each class its share of the validation rows; None does so where classes are split by a fraction.
        groups: a column; all rows of one of its values stay on one side.
        time: a column; the last rows by it validate.
        weights: how often a training row comes, beside the others: a column of numbers, one number per row, a number
            for each class, or "balanced" for classes that come equally often.
        task: "single_label", "multi_label", "regression", or "auto" to look at the target.
        label_sep: parts a text into several labels, such as " ".
        log_target: learn the logarithm of numbers (of numbers plus one, where there are zeros), so that errors count
            in proportion. Predictions and metrics stay in the target's own units.
        y_range: (low, high) or "auto": keep predicted numbers between bounds; see `tabular_learner`.
        batch_size: rows in a batch; None takes 64 to 1024, by the number of rows.
        scale: "standard", "quantile" or "none"; see `TableProcessor`.
        fill: what missing numbers become: "median", "mean" or "constant" (0).
        min_count: categories with fewer training rows count as *unknown*.
        max_levels: the most categories that a column keeps.
        like: take columns, codes, scales and classes of this data (`learn.data`), for a model that was trained with it.
        seed: of the split by fraction.
    """

    cat_names: Names | None = None
    cont_names: Names | None = None
    stratify: bool | None = None
    groups: str | None = None
    time: str | None = None
    weights: ItemWeights = None
    task: TaskName = "auto"
    label_sep: str | None = None
    log_target: bool = False
    y_range: YRange = None
    batch_size: int | None = None
    scale: Scale = "standard"
    fill: Fill = "median"
    min_count: int = 1
    max_levels: int | None = None
    like: Data[Any] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_split(self.seed, self.stratify)


class TableKeywords(TypedDict, total=False):
    """The fields of `TableOptions` as keywords, for type checkers."""

    cat_names: Names | None
    cont_names: Names | None
    stratify: bool | None
    groups: str | None
    time: str | None
    weights: ItemWeights
    task: TaskName
    label_sep: str | None
    log_target: bool
    y_range: YRange
    batch_size: int | None
    scale: Scale
    fill: Fill
    min_count: int
    max_levels: int | None
    like: Data[Any] | None
    seed: int


def like_of(how: TableOptions) -> TablePreprocessor | None:
    """What was learned by the data that new data shall be like."""
    if how.like is None:
        return None
    if not isinstance(how.like, Data) or not isinstance(how.like.preprocessor, TablePreprocessor):
        raise ArgumentError(f"like= takes the data of a table, such as learn.data, got {type(how.like).__name__}")
    return how.like.preprocessor


def target_names(target: Target) -> list[str]:
    """The columns to predict, as names.

    >>> target_names("price"), target_names(["a", "b"])
    (['price'], ['a', 'b'])
    """
    import pandas as pd

    if isinstance(target, str):
        return [target]
    if isinstance(target, pd.Series | pd.DataFrame):
        raise ArgumentError(
            f"target is the name of the column to predict, or several names, got a {type(target).__name__} of "
            f"{len(target)} rows; put it into the table: df.assign(y=...), and write target='y'"
        )
    names = list(target) if isinstance(target, Sequence | pd.Index) else [target]
    if not names or len(set(map(str, names))) != len(names) or not all(isinstance(n, str) for n in names):
        raise ArgumentError(f"target must name one column or several different ones, got {str(target)[:100]!r}")
    return names
