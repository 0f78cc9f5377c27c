"""The documents of each split, out of tables, lists and folders."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .. import keyed
from ..data.bunch import SplitName
from ..data.frames import Table, column_names, known_types, read_table
from ..data.label_words import word
from ..data.split import Indices, by_class, fraction_of, split_indices
from ..data.targets import GivenTargets, TargetOptions, Targets, read_targets, repeated
from ..data.weights import draw_weights
from ..errors import ArgumentError, DataError, EasyLearnWarning, did_you_mean
from ..files import StrPath
from ..task import Task
from .options import Columns, LabelOptions, OnePerText, TextOptions
from .sources import Documents, Errors, as_names, is_frame, is_series
from .store import TokenStore

if TYPE_CHECKING:
    import pandas as pd

MOST_SHOWN = 2**26  # tokens of a split whose texts are kept to be shown: they take some 400 MB


@dataclass(frozen=True)
class TextSplit:
    """The documents of one split.

    Args:
        store: their tokens.
        ids: what they are called, in file order.
        target: of each, or None.
        documents: where their texts are, to show them as they were; None where they are too many to be kept.
    """

    store: TokenStore
    ids: tuple[str, ...]
    target: Tensor | None = None
    documents: Documents | None = None

    def __len__(self) -> int:
        return len(self.store)


@dataclass(frozen=True)
class Gathered:
    """The documents of each split.

    Args:
        documents: by split.
        rows: which of the documents that were given at first those of a split are, where it was cut off them.
    """

    documents: dict[SplitName, Documents]
    rows: dict[SplitName, Indices]

    def splits(
        self, stores: Mapping[SplitName, TokenStore], targets: Mapping[SplitName, Tensor] | None = None
    ) -> dict[SplitName, TextSplit]:
        """The splits, with their tokens and targets; texts are kept while they are few enough."""
        found = {}
        for name, store in stores.items():
            documents = self.documents[name]
            shown = documents if store.n_tokens <= MOST_SHOWN or not documents.in_memory else None
            found[name] = TextSplit(store, tuple(documents.ids), (targets or {}).get(name), shown)
        return found

    def weights(self, given: Any, target: Tensor, classes: Sequence[str]) -> npt.NDArray[np.float64] | None:
        """How often each training document is drawn.

        Args:
            given: see `draw_weights`; one number for each document that was given at first.
            target: of the training documents.
            classes: their names.
        """
        rows, total = self.rows["train"], sum(map(len, self.rows.values()))
        if given is not None and not isinstance(given, str | Mapping):
            each = np.asarray(given)
            if each.shape != (total,):
                raise DataError(f"weights must have one number for each of the {total} texts, got shape {each.shape}")
            given = each[rows]
        return draw_weights(given, len(rows), target, classes)

    def folders(self) -> dict[SplitName, Rows]:
        """The class of each document by the folder that it is in; no entry for a test split that has none.

        Raises:
            DataError: a document to train or validate on is in no folder.
        """
        found: dict[SplitName, Rows] = {}
        for name, documents in self.documents.items():
            ids = list(documents.ids)
            alone = [doc for doc in ids if "/" not in doc]
            if alone and name != "test":
                raise DataError(
                    f"{alone[0]} lies in no class's folder ({len(alone)} such files in the {name} split); move them, "
                    "or name the folders with classes="
                )
            if not alone:
                rows = Rows.of_lists(name, ids, [doc.split("/")[0] for doc in ids])
                found[name] = replace(rows, name=lambda i, ids=ids: ids[i])  # type: ignore[misc]
        return found


def cut(
    whole: Documents,
    valid: Any,
    how: TextOptions,
    *,
    stratify: Any = None,
    groups: Any = None,
    time: Any = None,
    index: pd.Index[Any] | None = None,
) -> Gathered:
    """Documents to train on, and those of them that validate.

    Args:
        whole: all of them.
        valid: which validate; see `split_indices`. None for none.
        how: has the seed.
        stratify, groups, time: one entry per document, or None.
        index: labels of the documents by which a pandas mask is read.
    """
    train, held_out = split_indices(
        len(whole), valid, seed=how.seed, stratify=stratify, groups=groups, time=time, index=index
    )
    rows: dict[SplitName, Indices] = {"train": train}
    if len(held_out):
        rows["valid"] = held_out
    return Gathered({name: whole.take(some.tolist()) for name, some in rows.items()}, rows)


@dataclass(frozen=True)
class Rows:
    """Texts, and maybe labels, as the rows of a table.

    Args:
        frame: the table.
        name: what messages call the row at a position.
        what: what they call the table; empty where it needs no name.
        is_table: whether the columns have names that the user knows.
    """

    frame: pd.DataFrame
    name: Callable[[int], str]
    what: str = ""
    is_table: bool = True

    @classmethod
    def of(cls, given: Any, what: str) -> Rows:
        """What was given as a table: a DataFrame, or a table out of a file.

        Args:
            given: the table.
            what: what messages call it.

        Raises:
            ArgumentError: it is no table.
        """
        if isinstance(given, Table):
            return cls(given.frame, given.where)
        if not is_frame(given):
            raise ArgumentError(f"{what} must be a pandas DataFrame, got {type(given).__name__}")
        return cls(given, lambda i: f"row {given.index[i]}", "" if what == "df" else f"{what}: ")

    @classmethod
    def of_lists(cls, what: str, texts: Iterable[Any], labels: Any = None) -> Rows:
        """Texts, and maybe their labels, out of lists: columns "text" and "label"."""
        import pandas as pd

        if isinstance(texts, str) or is_frame(texts):
            given = "one text" if isinstance(texts, str) else "a DataFrame; use from_df"
            raise ArgumentError(f"texts must be a list of texts, got {given}")
        columns = {"text": pd.Series(list(texts), dtype=object)}
        if labels is not None:
            if getattr(labels, "ndim", 1) != 1:
                raise ArgumentError(
                    f"labels must be a list with one entry per text, got an array of shape {tuple(labels.shape)}; "
                    "several columns go into a DataFrame: TextData.from_df(df, label=[...])"
                )
            columns["label"] = _as_column(labels)
            if len(columns["label"]) != len(columns["text"]):
                raise DataError(f"{what}: there are {len(columns['text'])} texts, but {len(columns['label'])} labels")
        before = "" if what == "texts" else f"{what}: "
        return cls(pd.DataFrame(columns), lambda i: f"item {i}", before, is_table=False)

    def documents(self, text: Columns, how: TextOptions) -> Documents:
        """The texts."""

        def where(column: str, i: int) -> str:
            return self.what + (f"column {column!r}, {self.name(i)}" if self.is_table else self.name(i))

        return Documents.from_frame(self.frame, text, missing=how.missing, where=where)

    def targets(self, label: Columns, how: LabelOptions) -> GivenTargets:
        """The labels, as they are to be read."""
        options = TargetOptions(how.task, how.label_sep)
        return read_targets(self.frame, options, names=as_names(label, "label"), where=self.name)

    def encode(self, targets: Targets, rows: Indices | None, split: SplitName) -> Tensor:
        """The labels of some rows, or of all, as a tensor."""
        frame = self.frame if rows is None else self.frame.iloc[rows]
        where = self.name if rows is None else lambda i: self.name(int(rows[i]))
        hint = "Correct it, leave the row out, or split so that each label trains"
        if split == "test":
            hint = "Correct it, or leave the labels of the test out"
        return targets.encode(frame, where=where, split=split, hint=hint)

    def are_of(self, task: Task) -> bool:
        """Whether each row of lists has a class that the task knows."""
        return all(word(label) in task.classes for label in self.frame["label"].unique())

    def is_labelled(self, label: Columns, how: LabelOptions) -> bool:
        """Whether each row has a label; if only some have one, a warning says so."""
        by_text = {str(c): c for c in self.frame.columns}
        names = as_names(label, "label")
        if not all(name in by_text for name in names):
            return False
        there = self.frame[[by_text[name] for name in names]].notna().all(axis=1)
        if there.any() and not there.all() and how.label_sep is None:
            warnings.warn(
                f"{self.what}only {int(there.sum())} of {len(there)} rows have a label, so none of them counts "
                f"({self.name(int(there.argmin()))} has none); fill them in, or leave the column out",
                EasyLearnWarning,
                stacklevel=5,
            )
        return bool(there.all() if how.label_sep is None else there.any())

    def entries(self, given: Any, name: str) -> Any:
        """One entry per row: a column by its name, or what was given.

        Args:
            given: a column's name, a sequence, or None.
            name: of the argument.
        """
        if callable(given) or (isinstance(given, str) and not self.is_table):
            column = "be a column of the table or " if self.is_table else ""
            raise ArgumentError(f"{name} must {column}have one entry per text, got {given!r}")
        if not isinstance(given, str):
            return given
        if given not in self.frame.columns:
            known = [str(c) for c in self.frame.columns]
            raise DataError(f"the table has no column {given!r}, given as {name}. {did_you_mean(given, known)}")
        return self.frame[given]

    def gather(self, text: Columns, valid: Any, test: Rows | None, how: TextOptions, stratify: Any = None) -> Gathered:
        """The documents of each split.

        Args:
            text: columns of texts.
            valid: rows of their own, or which of these validate.
            test: more rows, or None.
            how: says what a missing text is, and has seed, groups and time.
            stratify: class numbers of the rows, or None.
        """
        whole = self.documents(text, how)
        if isinstance(valid, Rows):
            _refuse_split(how, "given by itself")
            found = Gathered({"train": whole, "valid": valid.documents(text, how)}, {"train": np.arange(len(whole))})
        else:
            groups, time = self.entries(how.groups, "groups"), self.entries(how.time, "time")
            found = cut(whole, valid, how, stratify=stratify, groups=groups, time=time, index=self.frame.index)
        if test is not None:
            found.documents["test"] = test.documents(text, how)
        return found


def rows_of(df: Any, valid: Any, test: Any) -> tuple[Rows, Any, Rows | None]:
    """Tables as rows: of training, of validation where it is no split of them, and of the test."""
    own = Rows.of(valid, "valid") if is_frame(valid) or isinstance(valid, Table) else valid
    return Rows.of(df, "df"), own, None if test is None else Rows.of(test, "test")


def _as_column(labels: Any) -> pd.Series[Any]:
    """Labels as a column, by position."""
    import pandas as pd

    if is_series(labels):
        column: pd.Series[Any] = labels.reset_index(drop=True)
        return column
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu().numpy()
    given = labels if isinstance(labels, np.ndarray) else list(labels)
    return pd.Series(given, dtype=None if len(given) else object)


@dataclass(frozen=True)
class Folders:
    """Where the text files of a folder are.

    Args:
        path: the folder.
        train: its sub-folder of training texts; None takes `train` where it is there, else the whole folder.
        valid: a sub-folder, or which of the training files validate.
        test: a sub-folder, or None.
        pattern: which files are texts.
        errors: what to do about bytes that are no UTF-8.
        classes: the sub-folders of each that are taken; None takes all.
    """

    path: StrPath
    train: str | None = None
    valid: Any = None
    test: str | None = None
    pattern: str = "*.txt"
    errors: Errors = "strict"
    classes: Sequence[str] | None = None

    def gather(self, how: TextOptions, fraction: float = 1.0, stratify: bool | None = False) -> Gathered:
        """The documents of each split.

        Args:
            how: has the seed and the groups.
            fraction: of the training files, how many to take.
            stratify: a split by fraction gives each sub-folder its proportion.
        """
        root = Path(self.path)
        if not root.is_dir():
            raise DataError(f"there is no folder {root}")
        train = "train" if self.train is None and (root / "train").is_dir() else self.train
        valid = self.valid
        if fraction_of(valid) is not None and train is not None and (root / "valid").is_dir():
            valid = "valid"
        own = str(valid) if is_split_file(valid, how) else None
        whole = self._read(train, tuple(f"{name}/" for name in (own, self.test) if name is not None))
        if own is not None:
            _refuse_split(how, "a folder of its own")
            found = Gathered({"train": whole, "valid": self._read(own)}, {"train": np.arange(len(whole))})
        else:
            groups = per_file("groups", how.groups, whole.ids)
            time = per_file("time", how.time, whole.ids)
            labels = repeated(np.unique([doc.split("/")[0] for doc in whole.ids], return_inverse=True)[1])
            codes = by_class(labels, valid, stratify, groups=groups, time=time)
            found = cut(whole, valid, how, stratify=codes, groups=groups, time=time)
        if self.test is not None:
            found.documents["test"] = self._read(self.test, any_class=True)
        if not 0 < fraction <= 1:
            raise ArgumentError(f"fraction must be above 0 and at most 1, got {fraction}")
        if fraction < 1:
            n = len(found.documents["train"])
            some = np.sort(keyed.permutation(n, how.seed, "share")[: max(round(n * fraction), 1)])
            found.documents["train"] = found.documents["train"].take(some.tolist())
            found.rows["train"] = found.rows["train"][some]
        return found

    def _read(self, name: str | None, others: tuple[str, ...] = (), any_class: bool = False) -> Documents:
        """The files of a sub-folder, or of the whole folder without those of `others`."""
        root = Path(self.path)
        found = Documents.from_folder(root if name is None else root / name, self.pattern, errors=self.errors)
        if name is None and others:  # what validates or tests must not train, too
            own = [i for i, doc in enumerate(found.ids) if not doc.startswith(others)]
            if not own:
                raise DataError(f"{root} has no file {self.pattern} outside of {', '.join(others)}")
            found = found.take(own)
        if self.classes is None or any_class:
            return found
        there = {doc.split("/")[0] for doc in found.ids if "/" in doc}
        absent = [c for c in self.classes if c not in there]
        if absent:
            hint = did_you_mean(absent[0], sorted(there))
            raise DataError(f"{root / (name or '')} has no folder {absent[0]!r}. {hint}")
        return found.take([i for i, doc in enumerate(found.ids) if doc.split("/")[0] in self.classes])


def read_tables(
    path: StrPath, valid: Any, test: StrPath | None, text: Columns, label: Columns | None, how: TextOptions
) -> tuple[Table, Any, Table | None]:
    """Files as tables: the columns that are needed, those of the other splits read as those of training.

    Args:
        path: of training.
        valid: a file, or which rows validate.
        test: a file, or None. Its labels are read where they are there.
        text: columns of texts.
        label: columns of labels, or None.
        how: may name columns of groups, time and weights.
    """
    texts, labels = as_names(text), [] if label is None else as_names(label, "label")
    more = [given for given in (how.groups, how.time, how.weight_column) if isinstance(given, str)]
    as_text = [*texts, *(labels if how.splits_labels else ())]
    train = read_table(path, columns=list(dict.fromkeys([*texts, *labels, *more])), text=as_text)
    known: Any = known_types(train.frame)
    known["text"] += texts
    if is_split_file(valid, how):
        valid = read_table(valid, columns=[*texts, *labels], **known)
    if test is None:
        return train, valid, None
    there = column_names(test)
    return train, valid, read_table(test, columns=[*texts, *(c for c in labels if c in there)], **known)


def is_split_file(valid: Any, how: TextOptions) -> bool:
    """Whether `valid=` names a file or folder; with `time` a text is how far the last documents reach back."""
    return isinstance(valid, Path) or (isinstance(valid, str) and how.time is None)


def per_file(what: str, given: OnePerText, ids: Sequence[str]) -> Any:
    """One entry per file: of a function of the file's name, or what was given."""
    if isinstance(given, str):
        raise ArgumentError(f"{what} must have one entry per file, or be a function of a file's name, got {given!r}")
    return [given(name) for name in ids] if callable(given) else given


def _refuse_split(how: TextOptions, what: str) -> None:
    for name, given in (("groups", how.groups), ("time", how.time)):
        if given is not None:
            raise ArgumentError(f"{name} says which texts validate, but valid= is {what}; leave one of them out")
