"""Interactions for a Learner: a table of who took what becomes `InteractionData`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch

from ..data.bunch import Data, PlainInputs, SplitName
from ..data.frames import known_types, read_table
from ..data.loaders import content_of
from ..data.order import Indices, Order
from ..errors import ArgumentError, did_you_mean
from ..files import StrPath
from ..options import check_split, strict
from ..task import ranking
from .gather import Columns, Gathered, HoldOut, gather
from .histories import Histories, HistoryLoader, HistorySource, named, random_order
from .preprocess import HistoryPreprocessor

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Self, Unpack

_OLD_NAMES = {
    "user_name": "user", "item_name": "item", "rating": "weight", "rating_name": "weight", "timestamp": "time",
    "valid_pct": "valid", "val_idxs": "valid", "bs": "batch_size", "min_count": "min_item",
}  # fmt: skip
SHOWN = 12  # names of a history that are written out


@dataclass(frozen=True)
class InteractionOptions:
    """How interactions become data, whatever they are read from.

    Args:
        weight: a column of how much was taken: plays, purchases, minutes. Rows of one person and item are added up, 0
            is nothing, and a history has the logarithms (of one plus it). None counts 1 for each row.
        time: a column of when; with it a fraction or a length of time holds out the last rows of all.
        min_item: the fewest persons in training that take an item which can be recommended. Nothing is left out before
            the split; what is held out of rarer items no metric counts, and `data.notes()` says how much that is.
        batch_size: persons in a training batch.
        like: recommend the items of this data (`learn.data`), for a model that was trained with it.
        seed: of the split.
    """

    weight: str | None = None
    time: str | None = None
    min_item: int = 1
    batch_size: int = 128
    like: Data[Any] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_split(self.seed)
        like = self.like
        if like is not None and not (isinstance(like, Data) and isinstance(like.preprocessor, HistoryPreprocessor)):
            raise ArgumentError(f"like= takes InteractionData, such as learn.data, got {type(self.like).__name__}")


class InteractionKeywords(TypedDict, total=False):
    """The fields of `InteractionOptions` as keywords, for type checkers."""

    weight: str | None
    time: str | None
    min_item: int
    batch_size: int
    like: Data[Any] | None
    seed: int


@dataclass(frozen=True)
class PeopleSplit:
    """Some persons, by name, and what they took; what is to be predicted of it is held."""

    people: tuple[str, ...]
    histories: Histories

    def __len__(self) -> int:
        return len(self.people)


class InteractionData(Data[PeopleSplit]):
    """What persons took: an item of this data is a person, with a history and what they took next.

    Make one with `from_df` or `from_csv`. Where nothing is trained, a fifth of each person's items of the train split
    is asked for, and the rest is their history, so that its metrics compare with those of other splits.

    Args:
        splits: "train", and maybe "valid" and "test".
        preprocessor: knows the items.
        batch_size: persons in a training batch.
        notes: what is odd, in sentences.
    """

    preprocessor: HistoryPreprocessor

    def __init__(
        self, splits: Mapping[SplitName, PeopleSplit], preprocessor: HistoryPreprocessor, batch_size: int = 128,
        notes: Sequence[str] = (),
    ) -> None:  # fmt: skip
        super().__init__(ranking(preprocessor.items), batch_size, preprocessor, splits)
        self._notes = tuple(notes)

    @classmethod
    @strict(_OLD_NAMES, InteractionOptions)
    def from_df(
        cls,
        df: pd.DataFrame,
        user: str,
        item: str,
        *,
        valid: HoldOut = 0.2,
        test: pd.DataFrame | None = None,
        **options: Unpack[InteractionKeywords],
    ) -> InteractionData:
        """A DataFrame with a row for each thing that a person took.

        Args:
            df: the rows; it is left as it is.
            user, item: columns of who, and of what.
            valid: what is held out: a fraction of what each person took, at random, or with `time` the last rows of
                all, by a fraction or a length of time such as "6W"; "one" of each person's, at random, or the "last"
                by `time`; positions of rows or a mask; a DataFrame of its own; None for no validation.
            test: what persons took later still; what validates is then known of them.

        Raises:
            DataError: a column is missing, or a row has no person, no item, or a weight below 0.
        """
        import pandas as pd

        frames = {"df": df}
        for name, given in (("valid", valid), ("test", test)):
            if isinstance(given, pd.DataFrame):
                frames[name] = given
        for name, frame in frames.items():
            if not isinstance(frame, pd.DataFrame):
                raise ArgumentError(f"{name} must be a pandas DataFrame, got {type(frame).__name__}")
        how = InteractionOptions(**options)  # type: ignore[misc]  # `strict` lets no other options pass
        columns = Columns(user, item, how.weight, how.time)
        like = None if how.like is None else how.like.task.names
        found = gather(frames, columns, None if "valid" in frames else valid, how.min_item, how.seed, like)
        return cls._of(found, columns, how)

    @classmethod
    @strict(_OLD_NAMES, InteractionOptions)
    def from_csv(
        cls,
        path: StrPath,
        user: str,
        item: str,
        *,
        valid: HoldOut = 0.2,
        test: StrPath | None = None,
        **options: Unpack[InteractionKeywords],
    ) -> InteractionData:
        """A csv or parquet file with a line for each thing that a person took; arguments of `from_df`, but for these.

        Args:
            path: the file.
            test: a file of what persons took later.
        """
        df = read_table(path).frame
        later = None if test is None else read_table(test, **known_types(df)).frame
        return cls.from_df(df, user, item, valid=valid, test=later, **options)

    @classmethod
    def _of(cls, found: Gathered, columns: Columns, how: InteractionOptions) -> InteractionData:
        people = np.array(found.people, dtype=object)
        splits = {name: PeopleSplit(tuple(people[who]), taken) for name, (who, taken) in found.splits.items()}
        return cls(splits, HistoryPreprocessor(found.items, columns), how.batch_size, found.notes)

    def loader(self, split: SplitName, *, training: bool = False, view: int = 0) -> HistoryLoader:
        people = self._split(split)
        source = HistorySource(people.histories, self.task.n_out, whole=training)
        return HistoryLoader(Order(len(people), self.batch_size, shuffle=training), source)

    def ids(self, split: SplitName) -> Sequence[str]:
        """The names of the persons."""
        return self._split(split).people

    def fingerprint(self, split: SplitName) -> str:
        taken = self._split(split).histories
        return content_of(*(torch.from_numpy(a) for a in (taken.items, taken.weights, taken.starts, taken.held)))

    def plain_inputs(self, split: SplitName) -> PlainInputs:
        """See `Data.plain_inputs`: items as words; of the train split all that was taken, of others what is known."""
        taken = self._split(split).histories
        known = taken if split == "train" else taken.known
        return PlainInputs(words=(known.items, known.starts, self.task.n_out))

    def at_most(self, split: SplitName, n: int) -> Self:
        people = self._split(split)
        if len(people) <= n:
            return self
        at = np.sort(random_order(len(people), 0, "drawn").argsort()[:n])
        some = PeopleSplit(tuple(people.people[i] for i in at.tolist()), people.histories.of_persons(at))
        return type(self)({**self._splits, split: some}, self.preprocessor, self.batch_size, self._notes)

    def taken(self, person: str) -> dict[str, float]:
        """All that a `person` took, by item, with its weight, also what is held out.

        Raises:
            ArgumentError: there is no such person.
        """
        name = str(person)
        for split in reversed(self.splits):
            people = self._split(split)
            if name in people.people:
                at, _ = people.histories.at(np.array([people.people.index(name)]))
                items = people.histories.items[at].tolist()
                return dict(
                    zip((self.task.names[i] for i in items), people.histories.weights[at].tolist(), strict=True)
                )
        everybody = {p for split in self.splits for p in self.ids(split)}
        raise ArgumentError(
            f"there is no person {name!r} in this data: give what they took, history=[...]. "
            f"{did_you_mean(name, everybody)}".rstrip()
        )

    def popularity(self) -> Indices:
        """How many persons took each item in training, shape (items,)."""
        return self._split("train").histories.taken_by(self.task.n_out)

    def describe_item(self, split: SplitName, i: int) -> dict[str, str]:
        """See `Data.describe_item`: what a person took most of, and what is held out."""
        taken, (at, _) = self._split(split).histories, self._split(split).histories.at(np.array([i]))
        order = at[np.argsort(-taken.weights[at], kind="stable")]
        sides = {"history": order[~taken.held[order]], "wanted": order[taken.held[order]]}
        return {side: named((self.task.names[j] for j in taken.items[some]), SHOWN) for side, some in sides.items()}

    def notes(self) -> list[str]:
        return list(self._notes)

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"{name} {len(s):,} persons with {len(s.histories.items):,} pairs" for name, s in self._splits.items()
        )
        return f"InteractionData({sizes}; {self.task.n_out:,} items)"
