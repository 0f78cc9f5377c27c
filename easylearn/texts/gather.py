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

from ..data.bunch import SplitName
from ..data.frames import Table, column_names, known_types, read_table
from ..data.label_words import word
from ..data.split import Indices, fraction_of, split_indices
from ..data.targets import GivenTargets, TargetOptions, Targets, read_targets
from ..data.values import require_columns
from ..data.weights import draw_weights
from ..errors import ArgumentError, DataError, EasyLearnWarning, did_you_mean
from ..files import StrPath
from ..task import Task
from .options import Columns, LabelOptions, TextOptions
from .sources import Documents, Errors, as_names, is_frame, is_series
from .store import TokenStore

if TYPE_CHECKING:
    import pandas as pd

MOST_SHOWN = 2**26  # tokens of a split whose texts are kept to be shown: they take some 400 MB


@dataclass(frozen=True)
class TextSplit:
    """The documents of one split: their tokens, what they are called in file order, and what each has to be given.

    Where their texts are, `documents`, is kept to show them as they were, unless they are too many.
    """

    store: TokenStore
    ids: tuple[str, ...]
    target: Tensor | None = None
    documents: Documents | None = None

    def __len__(self) -> int:
        return len(self.store)

    def __repr__(self) -> str:
        return f"TextSplit({self.store}{'' if self.target is None else ', with targets'})"


@dataclass(frozen=True)
class Gathered:
    """The documents of each split, and which of those that were given at first they are, if they were cut off them."""

    documents: dict[SplitName, Documents]
    rows: dict[SplitName, Indices]

    def splits(
        self, stores: Mapping[SplitName, TokenStore], targets: Mapping[SplitName, Tensor] | None = None
    ) -> dict[SplitName, TextSplit]:
        """The splits, with their tokens and targets; texts are kept while they are few enough."""
        found = {}
        for name, store in stores.items():
            documents = self.documents[name]
            shown = documents if store.n_tokens <= MOST_SHOWN or documents.folder is not None else None
            found[name] = TextSplit(store, tuple(documents.ids), (targets or {}).get(name), shown)
        return found

    def weights(self, given: Any, target: Tensor, classes: Sequence[str]) -> npt.NDArray[np.float64] | None:
        """How often each training document is drawn; `given` as for `draw_weights`, one for all that came first."""
        rows, total = self.rows["train"], sum(map(len, self.rows.values()))
        if given is not None and not isinstance(given, str | Mapping):
            each = np.asarray(given)
            if each.shape != (total,):
                raise DataError(f"weights must have one number for each of the {total} texts, got shape {each.shape}")
            given = each[rows]
        return draw_weights(given, len(rows), target, classes)


@dataclass(frozen=True)
class Rows:
    """Texts, and maybe labels, as the rows of a table; messages call them by `name` and the table by `what`."""

    frame: pd.DataFrame
    name: Callable[[int], str]
    what: str = ""
    is_table: bool = True  # and no lists or files, whose columns have names that the user does not know
    files: Documents | None = None

    @classmethod
    def of(cls, given: Any, what: str) -> Rows:
        """A DataFrame, or a table out of a file; messages call it `what`."""
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
        frame = pd.DataFrame({"text": pd.Series(list(texts), dtype=object)})
        if labels is not None:
            if getattr(labels, "ndim", 1) != 1:
                raise ArgumentError(
                    f"labels must be a list with one entry per text, got an array of shape {tuple(labels.shape)}; "
                    "several columns go into a DataFrame: TextData.from_df(df, label=[...])"
                )
            if isinstance(labels, Tensor):
                labels = labels.detach().cpu().numpy()
            column = pd.Series(labels if is_series(labels) or isinstance(labels, np.ndarray) else list(labels))
            if len(column) != len(frame):
                raise DataError(f"{what}: there are {len(frame)} texts, but {len(column)} labels")
            frame["label"] = column.reset_index(drop=True)
        return cls(frame, lambda i: f"item {i}", "" if what == "texts" else f"{what}: ", is_table=False)

    @classmethod
    def of_files(cls, files: Documents) -> Rows:
        """Files, with the folder of each as its label where all are in one."""
        ids = list(files.ids)
        folders = [doc.split("/")[0] for doc in ids if "/" in doc]
        rows = cls.of_lists("files", ids, folders if len(folders) == len(ids) else None)
        return replace(rows, name=lambda i: ids[i], files=files)

    def require(self, text: Columns, label: Columns | None = None) -> None:
        """Refuse a table without the columns of texts, or of labels, and say which arguments name them."""
        if self.is_table:
            names = [*as_names(text, "text"), *(() if label is None else as_names(label, "label"))]
            given = "text=..." if label is None else "text=... and label=..."
            require_columns(self.frame.head(0).rename(columns=str), names, f": say with {given} what they are called")

    def documents(self, text: Columns, how: TextOptions) -> Documents:
        """The texts."""
        if self.files is not None:
            return self.files

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
        instead = "or leave the labels of the test out" if split == "test" else "leave the row out, or split otherwise"
        return targets.encode(frame, where=where, split=split, hint=f"Correct it, {instead}")

    def are_of(self, task: Task) -> bool:
        """Whether each row of lists has a class that the task knows."""
        return all(word(label) in task.classes for label in self.frame["label"].unique())

    def is_labelled(self, label: Columns, how: LabelOptions, task: Task) -> bool:
        """Whether each row has a label, of files that of a class; if only some rows have one, a warning says so."""
        frame, names = self.frame.rename(columns=str), as_names(label, "label")
        if not set(names) <= set(frame.columns):
            return False
        if self.files is not None:
            return self.are_of(task)
        there = frame[names].notna().all(axis=1)
        if there.any() and not there.all() and how.label_sep is None:
            warnings.warn(
                f"{self.what}only {int(there.sum())} of {len(there)} rows have a label, so none of them counts "
                f"({self.name(int(there.argmin()))} has none); fill them in, or leave the column out",
                EasyLearnWarning,
                stacklevel=5,
            )
        return bool(there.all() if how.label_sep is None else there.any())

    def entries(self, given: Any, name: str) -> Any:
        """One entry per row: of a column by its name, of a function of files' names, or what was given for `name`."""
        if callable(given) and self.files is not None:
            return [given(file) for file in self.files.ids]
        if callable(given) or (isinstance(given, str) and not self.is_table):
            more = "be a column of the table or " if self.is_table else ""
            each = "text" if self.files is None else "file, or be a function of a file's name"
            raise ArgumentError(f"{name} must {more}have one entry per {each}, got {given!r}")
        if not isinstance(given, str):
            return given
        if given not in self.frame.columns:
            known = [str(c) for c in self.frame.columns]
            raise DataError(f"the table has no column {given!r}, given as {name}. {did_you_mean(given, known)}")
        return self.frame[given]

    def gather(self, text: Columns, valid: Any, test: Rows | None, how: TextOptions, stratify: Any = None) -> Gathered:
        """The documents of each split; `valid` are other rows, or says which validate; `stratify` are classes."""
        whole = self.documents(text, how)
        if isinstance(valid, Rows):
            for name, given in (("groups", how.groups), ("time", how.time)):
                if given is not None:
                    raise ArgumentError(
                        f"{name} says which texts validate, but valid= is given by itself; leave one of them out"
                    )
            found = Gathered({"train": whole, "valid": valid.documents(text, how)}, {"train": np.arange(len(whole))})
        else:
            groups, time = self.entries(how.groups, "groups"), self.entries(how.time, "time")
            train, held_out = split_indices(
                len(whole), valid, seed=how.seed, stratify=stratify, groups=groups, time=time, index=self.frame.index
            )
            rows: dict[SplitName, Indices] = {"train": train}
            if len(held_out):
                rows["valid"] = held_out
            found = Gathered({name: whole.take(some.tolist()) for name, some in rows.items()}, rows)
        if test is not None:
            found.documents["test"] = test.documents(text, how)
        return found


Given = tuple[Rows, Any, Rows | None]
"""Rows to train on; those that validate, or which of the first do; rows of the test."""


def rows_of(df: Any, valid: Any, test: Any) -> Given:
    """Tables as rows."""
    own = Rows.of(valid, "valid") if is_frame(valid) or isinstance(valid, Table) else valid
    return Rows.of(df, "df"), own, None if test is None else Rows.of(test, "test")


def read_tables(
    path: StrPath, valid: Any, test: StrPath | None, text: Columns, label: Columns | None, how: TextOptions
) -> Given:
    """Files as rows: the columns that are needed, all read as those of training; of a test labels, if it has them."""
    texts, labels = as_names(text), [] if label is None else as_names(label, "label")
    more, as_text = [how.groups, how.time], texts
    if isinstance(how, LabelOptions):
        more.append(how.weight_column)
        as_text = texts if how.label_sep is None else [*texts, *labels]
    names = dict.fromkeys([*texts, *labels, *(given for given in more if isinstance(given, str))])
    train = read_table(path, columns=list(names), text=as_text)
    known: Any = known_types(train.frame)
    known["text"] += texts
    if is_split_file(valid, how):
        valid = read_table(valid, columns=[*texts, *labels], **known)
    if test is None:
        return rows_of(train, valid, None)
    there = column_names(test)
    return rows_of(train, valid, read_table(test, columns=[*texts, *(c for c in labels if c in there)], **known))


def is_split_file(valid: Any, how: TextOptions) -> bool:
    """Whether `valid=` names a file or folder; with `time` a text is how far the last documents reach back."""
    return isinstance(valid, Path) or (isinstance(valid, str) and how.time is None)


@dataclass(frozen=True)
class Folders:
    """Where the text files of a folder are; see `TextData.from_folder` for what its fields mean."""

    path: StrPath
    train: str | None = None
    valid: Any = None
    test: str | None = None
    pattern: str = "*.txt"
    errors: Errors = "strict"
    classes: Sequence[str] | None = None

    def rows(self, how: TextOptions) -> Given:
        """The files as rows."""
        root = Path(self.path)
        if not root.is_dir():
            raise DataError(f"there is no folder {root}")
        train = "train" if self.train is None and (root / "train").is_dir() else self.train
        valid = self.valid
        if fraction_of(valid) is not None and train is not None and (root / "valid").is_dir():
            valid = "valid"
        own = str(valid) if is_split_file(valid, how) else None
        rows = self._read(train, how, tuple(f"{name}/" for name in (own, self.test) if name is not None))
        test = None if self.test is None else self._read(self.test)
        return rows, valid if own is None else self._read(own, how), test

    def _read(self, name: str | None, how: TextOptions | None = None, others: tuple[str, ...] = ()) -> Rows:
        """The files of a folder without those of `others`, which must not train, too; without `how`, of a test, all."""
        root = Path(self.path)
        found = Documents.from_folder(root if name is None else root / name, self.pattern, errors=self.errors)
        ids = list(enumerate(found.ids))
        if name is None and others:
            ids = [(i, doc) for i, doc in ids if not doc.startswith(others)]
            if not ids:
                raise DataError(f"{root} has no file {self.pattern} outside of {', '.join(others)}")
        if self.classes is not None and how is not None:
            there = {doc.split("/")[0] for _, doc in ids if "/" in doc}
            absent = [c for c in self.classes if c not in there]
            if absent:
                hint = did_you_mean(absent[0], sorted(there))
                raise DataError(f"{root / (name or '')} has no folder {absent[0]!r}. {hint}")
            ids = [(i, doc) for i, doc in ids if doc.split("/")[0] in self.classes]
        alone = [doc for _, doc in ids if "/" not in doc]
        if alone and isinstance(how, LabelOptions):
            raise DataError(
                f"{alone[0]} lies in no class's folder ({len(alone)} such files in {root / (name or '')}); move them, "
                "or name the folders with classes="
            )
        return Rows.of_files(found.take(i for i, _ in ids))
