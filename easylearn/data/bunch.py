"""What a Learner needs of data: a task, loaders over train, valid and test, and a way to prepare new items."""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from ..errors import ArgumentError, DataError, did_you_mean
from ..files import digest
from ..placement import Placement
from ..task import Task
from .order import Loader
from .preprocess import Preprocessor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from typing_extensions import Self

SplitName = Literal["train", "valid", "test"]
S = TypeVar("S", bound=Sized)


@dataclass(frozen=True)
class PlainInputs:
    """Items as a simple model takes them, a row each; what a kind of data has not is None.

    Args:
        numbers: shape (n, k).
        codes: of categories, shape (n, c).
        words: the words of all documents as numbers, one after the other; where each document begins and the last one
            ends, shape (n + 1,); and how many different words there are.
    """

    numbers: npt.NDArray[Any] | None = None
    codes: npt.NDArray[np.int64] | None = None
    words: tuple[npt.NDArray[Any], npt.NDArray[np.int64], int] | None = None

    @property
    def size(self) -> int:
        """How many numbers all rows have."""
        return sum(t.size for t in (self.numbers, self.codes, self.words and self.words[0]) if t is not None)

    def rows(self, chosen: npt.NDArray[np.int64]) -> PlainInputs:
        """Some of the rows."""
        numbers, codes = (None if t is None else t[chosen] for t in (self.numbers, self.codes))
        if self.words is None:
            return PlainInputs(numbers, codes)
        ids, offsets, n_words = self.words
        few = np.concatenate([ids[:0], *(ids[offsets[i] : offsets[i + 1]] for i in chosen)])
        ends = np.cumsum([0, *np.diff(offsets)[chosen]])
        return PlainInputs(numbers, codes, (few, ends, n_words))


class Data(ABC, Generic[S]):
    """Items of one task, split into train, valid and maybe test, and the preprocessor that makes inputs of them.

    A modality implements this; a Learner uses it.

    Args:
        task: what is predicted.
        batch_size: items in a training batch.
        preprocessor: prepares new items as those of validation are.
        splits: what is known of the items of each split, by its name.

    Attributes:
        draws_beside: `draw_said` draws several images of an item in a row.
    """

    draws_beside: ClassVar[bool] = False

    def __init__(self, task: Task, batch_size: int, preprocessor: Preprocessor, splits: Mapping[SplitName, S]) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ArgumentError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
        self.task = task
        self.batch_size = batch_size
        self.preprocessor = preprocessor
        self._splits = {name: splits[name] for name in get_args(SplitName) if name in splits}
        for name, split in self._splits.items():
            if not len(split):
                raise DataError(f"the {name} split has no items")

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """Which of "train", "valid" and "test" there are. Data of a model that came out of a file has none."""
        return tuple(self._splits)

    def _split(self, split: SplitName) -> S:
        if split not in self._splits:
            if split not in get_args(SplitName):
                raise ArgumentError(f"there is no split {split!r}. {did_you_mean(str(split), self._splits)}")
            raise DataError(f"there is no {split} split; pass {split}= when making the data")
        return self._splits[split]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the model's outputs; empty for regression."""
        return self.task.classes

    @abstractmethod
    def loader(self, split: SplitName, *, training: bool = False, view: int = 0) -> Loader:
        """A way through the items of a `split`.

        Args:
            training: shuffled and augmented; a last batch of one item is merged into the one before. Otherwise every
                item comes once, in any order; `Batch.index` says which is which.
            view: without `training`: 0 for items as they are, k > 0 for their k-th augmented view.
        """

    @abstractmethod
    def ids(self, split: SplitName) -> Sequence[str]:
        """One name per item of the `split`, in file order."""

    @abstractmethod
    def fingerprint(self, split: SplitName) -> str:
        """Changes whenever what the loader of `split` yields could change: items, transforms, size.

        Raises:
            DataError: nothing is known of the items, so nothing computed of them may be reused.
        """

    def item_keys(self, split: SplitName, positions: Sequence[int] | None = None) -> Sequence[str]:
        """What each item of a `split` is now: equal keys mean equal inputs, in any split of any data.

        By default an item is its position in a split with this `fingerprint`.

        Args:
            positions: which items; None means all.

        Returns:
            A digest of 32 hexadecimal digits for each.
        """
        whole = self.fingerprint(split)
        chosen = range(len(self._split(split))) if positions is None else positions
        return [digest([whole, str(int(i))]) for i in chosen]

    @property
    def suited_epochs(self) -> int | None:
        """How many epochs `fit_one_cycle` takes where it is given no number; None where the data does not say."""
        return None

    @property
    def has_views(self) -> bool:
        """Whether augmented views exist, so that `tta` can average them."""
        return False

    def places(self, split: SplitName) -> Sequence[Placement] | None:
        """Where each image of a `split` lies in what the model gets; None where nothing is said of pixels."""
        return None

    def plain_inputs(self, split: SplitName) -> PlainInputs | None:
        """The items of a `split` in file order for a simple model beside the learner's; None where there are none."""
        return None

    def at_most(self, split: SplitName, n: int) -> Self:
        """The same data with at most `n` items of a `split`, drawn evenly, where outputs for all are too many."""
        return self

    def describe_item(self, split: SplitName, i: int) -> dict[str, str]:
        """What is in item `i` of a `split`, in words: a text, or a row's columns; empty for images and the like."""
        return {}

    def draw_item(self, split: SplitName, i: int, axes: Axes) -> None:
        """Draw item `i` of a `split` into empty `axes` of matplotlib: an image, or what `describe_item` says."""
        fields = self.describe_item(split, i)
        write_on(axes, "\n".join(fields.values() if len(fields) == 1 else (f"{n}: {v}" for n, v in fields.items())))

    def draw_said(self, split: SplitName, i: int, probs: Tensor, axes: Axes) -> None:
        """Draw item `i` of a `split` into `axes`, and what a model said of it, its `probs`, where that can be drawn."""
        self.draw_item(split, i, axes)

    def notes(self) -> list[str]:
        """What is odd about the items, in sentences for a run's report: what was left out, unknown or missing."""
        return []

    def resized(self, size: int | tuple[int, int]) -> Self:
        """The same data at another `size` in pixels, or (height, width), for kinds of data that have one."""
        raise ArgumentError(
            f"{type(self).__name__} has no size; set_data({size}) is for images. Pass another data object"
        )

    def for_model(self, model: nn.Module) -> Self:
        """The same data, prepared as the `model` expects it (images: normalised with its statistics)."""
        return self

    def adopt(self, old: Data[Any]) -> Self:
        """The same data, prepared for a model that was trained with the `old` data.

        Raises:
            DataError: the task or the class list differs; the message names the difference.
        """
        difference = self.task.same_as(old.task)
        if type(self.preprocessor) is not type(old.preprocessor):
            difference = f"one is {type(self).__name__}, the other {type(old).__name__}"
        if difference:
            raise DataError(
                f"this data does not fit the model: {difference}. Make it with the same classes as the data the "
                "model was built for, or build a new learner"
            )
        return self


class BlankData(Data[Sequence[str]]):
    """Data without items: what a learner out of a model file has until `set_data`; arguments of `Data`."""

    def __init__(self, task: Task, batch_size: int, preprocessor: Preprocessor) -> None:
        super().__init__(task, batch_size, preprocessor, {})

    def loader(self, split: SplitName, *, training: bool = False, view: int = 0) -> Loader:
        raise self._no_items()

    def ids(self, split: SplitName) -> Sequence[str]:
        raise self._no_items()

    def fingerprint(self, split: SplitName) -> str:
        raise self._no_items()

    @staticmethod
    def _no_items() -> DataError:
        return DataError("this learner came out of a file and has no items: call learn.set_data(data)")


LINE = 46  # characters that fit across a drawing of `draw_item`
LINES = 16


def write_on(axes: Axes, text: str) -> None:
    """Write a `text` into an empty drawing, wrapped, its end cut off where it is too long."""
    lines = [piece for line in text.splitlines() for piece in textwrap.wrap(line, LINE) or [""]]
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], "..."]
    axes.text(0.0, 1.0, "\n".join(lines), fontsize=7.5, va="top", parse_math=False, transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("0.85")
