"""From a table to branches: one split, one reading of the targets, and the data of each branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..data.branched import BranchedSplit
from ..data.bunch import Data, SplitName
from ..data.split import Indices
from ..data.targets import TargetOptions, Targets, read_targets, repeated
from ..data.values import require_columns
from ..errors import ArgumentError, DataError
from ..tabular.build import build_of_split, row_weights, split_rows
from ..tabular.data import TabularData
from ..tabular.options import TableOptions, target_names
from ..tabular.preprocess import TablePreprocessor
from ..tabular.view import TableView
from ..texts.data import TextData
from ..texts.gather import Gathered
from ..texts.preprocess import TextPreprocessor
from ..texts.sources import Documents
from ..vision.data import ImageData
from ..vision.folders import existing_folder
from ..vision.items import Rows
from ..vision.preprocess import CROP_PCT, Size
from ..vision.splits import Assembled, ImageSplit, usable
from .options import MultiOptions, Names
from .preprocess import Bools, MultiPreprocessor, file_of, is_there

if TYPE_CHECKING:
    import pandas as pd

TABLE = "table"


@dataclass(frozen=True)
class Inputs:
    """Which columns hold which inputs.

    Args:
        image: the column of each branch of images.
        text: the columns of each branch of texts.
        cat_names, cont_names: those of the table; it is no branch where neither names any.
        root: the folder that images are in.
        size: of the images, by branch.
    """

    image: Mapping[str, str]
    text: Mapping[str, str | tuple[str, ...]]
    cat_names: Names | None
    cont_names: Names | None
    root: Path
    size: Mapping[str, Size]

    @property
    def has_table(self) -> bool:
        """Whether the table is a branch."""
        return any(names is not None and len(names) for names in (self.cat_names, self.cont_names))

    def check(self, df: pd.DataFrame, targets: Sequence[str]) -> None:
        """Refuse names that branches or columns cannot have, and what is to be predicted as an input."""
        names = [*self.image, *self.text, *([TABLE] if self.has_table else [])]
        if not names:
            raise ArgumentError("no input is named: give image=, text=, cat_names= or cont_names=")
        for name in names:
            if not isinstance(name, str) or not name.isidentifier() or name == "joint" or names.count(name) > 1:
                raise ArgumentError(
                    f"{name!r} cannot name a branch: each needs a word of its own, and neither {TABLE!r} nor 'joint'. "
                    "Name them by a dictionary: image={'front': 'file', 'back': 'other_file'}"
                )
        columns = [*self.image.values()]
        columns += [c for of in self.text.values() for c in ([of] if isinstance(of, str) else of)]
        columns += [*(self.cat_names if self.cat_names is not None else ())]
        columns += [*(self.cont_names if self.cont_names is not None else ())]
        require_columns(df, [*columns, *targets])
        if both := [c for c in columns if c in targets]:
            raise ArgumentError(f"{both} are to be predicted, so they are no inputs")


@dataclass(frozen=True)
class _Known:
    """What all branches share: the table, its split, targets and weights; `target` and `weights` are of all rows."""

    view: TableView
    rows: Mapping[SplitName, Indices]
    targets: Targets
    target: Tensor
    weights: npt.NDArray[np.float64] | None

    def among(self, here: Bools, name: str) -> dict[SplitName, Indices]:
        """The rows of each split that have an input."""
        found = {split: rows[here[rows]] for split, rows in self.rows.items()}
        for split, rows in found.items():
            if not len(rows):
                raise DataError(
                    f"no item of the {split} split has the input {name!r}; leave it out, or split otherwise"
                )
        return found

    def weights_of(self, rows: Indices) -> npt.NDArray[np.float64] | None:
        """How often each of some training rows is drawn."""
        return None if self.weights is None else self.weights[np.searchsorted(self.rows["train"], rows)]

    def ids(self, rows: Indices) -> tuple[str, ...]:
        """What rows are called."""
        return tuple(map(str, self.view.df.index[rows]))


Built = tuple[dict[SplitName, BranchedSplit], dict[str, Data[Any]], MultiPreprocessor, Any]
"""Splits, branches, their preprocessor, and how often each training item is drawn."""


def build(how: MultiOptions, df: Any, target: Any, inputs: Inputs, valid: Any) -> Built:
    """What a `MultiData` is made of; see `MultiData.from_df`."""
    import pandas as pd

    if not isinstance(df, pd.DataFrame):
        raise ArgumentError(f"df must be a pandas DataFrame, got {type(df).__name__}")
    if not len(df):
        raise DataError("df has no rows")
    names = target_names(target)
    inputs.check(df, names)
    made = [*inputs.image, *inputs.text, *([TABLE] if inputs.has_table else [])]
    if how.learnt is not None and made != list(how.learnt.branches):
        raise ArgumentError(
            f"the data in like= has the branches {list(how.learnt.branches)}, so here they cannot be {made}"
        )
    table = how.of_table(inputs.cat_names, inputs.cont_names)
    known = _known(how, table, TableView(df), names, valid)
    branches, present = dict[str, Data[Any]](), dict[str, Bools]()
    for name, column in inputs.image.items():
        branches[name], present[name] = _images(how, known, inputs, name, column)
    for name, columns in inputs.text.items():
        branches[name], present[name] = _texts(how, known, name, columns)
    if inputs.has_table:
        fitted = None if how.learnt is None else how.learnt.branches[TABLE]
        shared = known.targets, known.target, known.rows, known.weights
        built = build_of_split(table, known.view, *shared, fitted if isinstance(fitted, TablePreprocessor) else None)
        branches[TABLE], present[TABLE] = TabularData(*built), np.ones(len(df), np.bool_)
    here = np.stack(list(present.values()), 1)
    if not here.any(1).all():
        at = df.index[int(np.argmin(here.any(1)))]
        raise DataError(f"row {at} has none of the inputs {list(present)}: leave it out")
    preprocessor = MultiPreprocessor(
        {name: one.preprocessor for name, one in branches.items()}, known.targets, dict(inputs.image), inputs.root
    )
    return _splits(known, present), branches, preprocessor, known.weights


def _known(how: MultiOptions, table: TableOptions, view: TableView, names: list[str], valid: Any) -> _Known:
    view.require([n for n in (how.groups, how.time) if n is not None])
    targets, target, codes = None if how.learnt is None else how.learnt.targets, None, None
    given = None
    if targets is None:
        options = TargetOptions(how.task, how.label_sep, how.log_target)
        given = read_targets(view.df, options, names=names, where=view.where)
        codes = given.stratify_codes()
    else:
        if tuple(names) != targets.columns:
            raise ArgumentError(f"the data in like= predicts {list(targets.columns)}, so targets cannot be {names}")
        target = targets.encode(view.df, where=view.where)
        codes = repeated(target.numpy()) if target.ndim == 1 else None
    train, held_out = split_rows(view, table, codes, valid)
    rows: dict[SplitName, Indices] = {"train": train}
    if len(held_out):
        rows["valid"] = held_out
    if given is not None:
        targets = given.learn(train)
        target = targets.encode(given, hint="Split so that every class is in training: pass stratify=True")
    assert targets is not None and target is not None
    weights = row_weights(table, view, train, target[train], targets.task.classes)
    return _Known(view, rows, targets, target, weights)


def _splits(known: _Known, present: Mapping[str, Bools]) -> dict[SplitName, BranchedSplit]:
    found: dict[SplitName, BranchedSplit] = {}
    for split, rows in known.rows.items():
        here = {name: on[rows] for name, on in present.items()}
        at = {name: np.where(on, np.cumsum(on) - 1, 0).astype(np.int64) for name, on in here.items()}
        flags = torch.from_numpy(np.stack(list(here.values()), 1).astype(np.int64))
        found[split] = BranchedSplit(known.ids(rows), known.target[rows], at, flags)
    return found


def _images(
    how: MultiOptions, known: _Known, inputs: Inputs, name: str, column: str
) -> tuple[ImageData, Bools]:  # fmt: skip
    """A branch of images, and which items have one."""
    root, options = existing_folder(inputs.root, f"the images of {column!r}"), how.of_images
    df, here = known.view.df, is_there(known.view.df, [column])
    cells, listed = df[column].tolist(), np.flatnonzero(here)
    where = [f"row {df.index[int(i)]}" + (f" ({cells[i]})" if isinstance(cells[i], str) else "") for i in listed]
    every = Rows([file_of(cells[i], root) for i in listed], list(known.ids(listed)), where)
    stay, skipped = usable(every, options)
    here = np.isin(np.arange(len(df)), listed[stay])
    place = {int(i): k for k, i in enumerate(listed)}
    splits: dict[SplitName, ImageSplit] = {}
    rows = known.among(here, name)
    for split, at in rows.items():
        some = every.take(place[i] for i in at.tolist())
        splits[split] = ImageSplit(some.sources, known.target[at], tuple(some.ids), names=tuple(some.where))
    given = Assembled(splits, known.targets.task, known.weights_of(rows["train"]), root, skipped)
    return ImageData(given, options.preprocessor(inputs.size[name], CROP_PCT), options), here


def _texts(
    how: MultiOptions, known: _Known, name: str, columns: str | tuple[str, ...]
) -> tuple[TextData, Bools]:  # fmt: skip
    """A branch of texts, and which items have one."""
    df, options = known.view.df, how.of_texts(name)
    here = is_there(df, [columns] if isinstance(columns, str) else columns)
    rows = known.among(here, name)
    every = Documents.from_frame(df, columns, missing=options.missing)
    found = Gathered({split: every.take(at.tolist()) for split, at in rows.items()}, dict(rows))
    processor, stores = options.fit(found.documents)
    made = TextPreprocessor(processor, options.backward, columns, options.missing, options.max_tokens)
    splits = found.splits(stores, {split: known.target[at] for split, at in rows.items()})
    weights = known.weights_of(rows["train"])
    return TextData(known.targets.task, splits, made, batch_size=how.batch_size, weights=weights), here
