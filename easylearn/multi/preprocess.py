"""MultiPreprocessor: rows with images, texts and columns to a model's inputs, for data, a learner, a file alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from ..data.branched import BranchedPreprocessor, BranchedValues
from ..data.frames import KnownTypes, Table, column_names, iter_table
from ..data.preprocess import Items, Preprocessor, Refused, in_halves
from ..data.targets import Targets
from ..data.values import is_missing
from ..errors import DataError, WeightsError
from ..tabular.preprocess import TablePreprocessor, asked_frame
from ..task import Task
from ..texts.preprocess import TextPreprocessor
from ..texts.sources import as_names
from ..vision.preprocess import ImagePreprocessor

if TYPE_CHECKING:
    import pandas as pd

_KINDS: Mapping[str, type[Preprocessor]] = {
    kind.kind: kind for kind in (ImagePreprocessor, TextPreprocessor, TablePreprocessor)
}
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MultiPreprocessor(BranchedPreprocessor):
    """How rows with images, texts and columns become a model's inputs; an image or a text may be missing.

    Args:
        branches: the preprocessor of each.
        targets: which columns are predicted, and how.
        images: for each branch of images, the column of its files.
        root: the folder that these are in. It is no part of a model file, which takes the present folder.
    """

    targets: Targets
    images: Mapping[str, str] = field(default_factory=dict)
    root: Path = Path()
    kind: ClassVar[str] = "multi"

    @property
    def columns(self) -> dict[str, list[str]]:
        """The columns that each branch looks at."""
        return {name: self._columns(name) for name in self.branches}

    def _columns(self, name: str) -> list[str]:
        one = self.branches[name]
        if isinstance(one, TablePreprocessor):
            return list(one.processor.names)
        return [self.images[name]] if name in self.images else as_names(one.columns)  # type: ignore[attr-defined]

    def read(self, given: Any, first: int = 0) -> Items:
        """Read one row (a dictionary or a Series), a list of such rows, or a DataFrame, whose index names the rows.

        A cell of images may hold what `ImageData` takes: a file's name, bytes, an image or an array. Where it, or a
        text, is missing or not there at all, that branch is left out for that row.

        Raises:
            DataError: a row has no input for any branch, or a cell is of another kind; the row is named.
        """
        frame, single = asked_frame(given, first)
        here = np.stack([self._present(frame, name) for name in self.branches], 1)
        if not here.any(1).all():
            at = frame.index[int(np.argmin(here.any(1)))]
            raise DataError(f"row {at} has no input: it lacks all of {[c for of in self.columns.values() for c in of]}")
        parts = {n: self._read(frame, n, on).values for n, on in zip(self.branches, here.T, strict=True)}
        values = BranchedValues(parts, torch.from_numpy(here.astype(np.int64)))
        return Items(values, tuple(map(str, frame.index)), single)

    def _present(self, frame: pd.DataFrame, name: str) -> Bools:
        if isinstance(self.branches[name], TablePreprocessor):
            return np.ones(len(frame), np.bool_)
        return is_there(frame, self._columns(name))

    def _read(self, frame: pd.DataFrame, name: str, here: Bools) -> Items:
        """The inputs of one branch; those that are missing are blank."""
        one = self.branches[name]
        if isinstance(one, TablePreprocessor):
            return one.read(frame)
        columns = self._columns(name)
        if isinstance(one, ImagePreprocessor):
            blank = np.zeros((*one.item_stage.size, one.channels), np.uint8)
            cells = frame[columns[0]].tolist() if here.any() else [None] * len(frame)
            return one.read([file_of(c, self.root) if on else blank for c, on in zip(cells, here, strict=True)])
        return one.read(frame.reindex(columns=columns).astype(object))

    def read_file(self, path: Path, n: int, skip: bool = False) -> Iterator[Items | Refused]:
        """See `Preprocessor.read_file`: the rows of a csv or parquet file; images are in its folder."""
        inside, there = replace(self, root=path.parent), set(column_names(path))
        wanted = [c for of in self.columns.values() for c in of if c in there]
        for table in iter_table(path, n, columns=list(dict.fromkeys(wanted)), **self.column_types()):
            read, ids = partial(inside._of_table, table), [str(i) for i in table.frame.index]
            yield from in_halves(read, ids) if skip else [read(0, len(ids))]

    def _of_table(self, table: Table, a: int, b: int) -> Items:
        return self.read(table.frame.iloc[a:b])

    def column_types(self) -> KnownTypes:
        """How `read_table` is to read the columns of a file so that they mean what they meant in training."""
        types: KnownTypes = {"text": [], "numbers": []}
        for name, one in self.branches.items():
            own = one.column_types() if isinstance(one, TablePreprocessor) else {"text": self._columns(name)}
            types["text"] += own["text"]
            types["numbers"] += own.get("numbers", [])
        return types

    def recipe(self) -> dict[str, Any]:
        """See `Preprocessor.recipe`: that of each branch, and the columns of images."""
        made = [[name, one.recipe()] for name, one in self.branches.items()]  # a file keeps no order of names
        return {"kind": self.kind, "branches": made, "images": dict(self.images), **self.targets.state_dict()}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], task: Task) -> MultiPreprocessor:
        try:
            branches = {str(n): _KINDS[r["kind"]].from_recipe(r, task) for n, r in recipe["branches"]}
            images = {str(n): str(column) for n, column in recipe["images"].items()}
            made = cls(branches, Targets.from_state(recipe, task), images)
            _ = made.columns
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WeightsError(f"the recipe of the branches is damaged: {error!r}") from error
        return made


def file_of(cell: Any, root: Path) -> Any:
    """What is in a cell of images, a file's name as its path below `root`."""
    return str(root / cell) if isinstance(cell, str | Path) else cell


def is_there(frame: pd.DataFrame, columns: Sequence[str]) -> Bools:
    """Whether each row has anything in one of the columns: blanks are nothing."""

    def filled(cell: Any) -> bool:
        return bool(cell.strip()) if isinstance(cell, str) else not is_missing(cell)

    found = [[filled(cell) for cell in frame[c].tolist()] for c in columns if c in frame.columns]
    here: Bools = np.any(found, 0) if found else np.zeros(len(frame), np.bool_)
    return here
