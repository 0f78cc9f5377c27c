"""TablePreprocessor: how rows become what a table model takes, for training, a learner, a model file alike."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..data.frames import KnownTypes, Table, iter_table
from ..data.order import Order, Source, TensorSource
from ..data.preprocess import Items, Preprocessor, Refused, RuntimeInputs, in_halves
from ..data.targets import Targets
from ..errors import ArgumentError, DataError, EasyLearnWarning, WeightsError
from ..nn.embeddings import YRange
from ..task import Task
from .processing import Encoded, TableProcessor
from .reports import TransformReport
from .view import TableView

if TYPE_CHECKING:
    import pandas as pd

PREDICT_ROWS = 1024  # in a batch of predictions, at least


class TablePreprocessor(Preprocessor):
    """Codes of categories and scaled numbers for the rows of a table, by what was learned from training rows.

    Args:
        processor: fitted on the training rows.
        targets: which columns are predicted, and how.
        y_range: bounds of the predictions; see `tabular_learner`.
    """

    kind = "table"

    def __init__(self, processor: TableProcessor, targets: Targets, y_range: YRange = None) -> None:
        self.processor = processor
        self.targets = targets
        self.y_range = y_range

    def read(self, given: Any, first: int = 0) -> Items:
        """Read one row (a dictionary or a Series), a list of such rows, or a DataFrame, whose index names the rows.

        Every value has a place: what training did not know counts as unknown. Where that is so of a whole column of
        several rows, a warning says so. `report` counts it all.

        Args:
            given: the row or rows; other columns than the model's are ignored.
            first: the number of the first row, which names it where no index does.
        """
        encoded = self.processor.transform_row(given) if isinstance(given, Mapping) else None
        if encoded is not None:
            return Items(encoded, (str(first),), single=True)
        frame, single = asked_frame(given, first)
        encoded = self.processor.transform(frame)
        if not single:
            self._warn_of_unknown(encoded.report)
        return Items(encoded, tuple(map(str, frame.index)), single)

    def read_file(self, path: Path, n: int, skip: bool = False) -> Iterator[Items | Refused]:
        """See `Preprocessor.read_file`: the rows of a csv or parquet file or a folder of these, by their numbers."""
        seen = TransformReport()
        for table in iter_table(path, n, columns=self.processor.names, **self.column_types()):
            read, ids = partial(self._of_table, table), [str(i) for i in table.frame.index]
            for items in in_halves(read, ids) if skip else [read(0, len(ids))]:
                if isinstance(items, Items):
                    seen += items.values.report
                yield items
        self._warn_of_unknown(seen)

    def _of_table(self, table: Table, a: int, b: int) -> Items:
        rows = table.frame.iloc[a:b]
        encoded = self.processor.transform(TableView(rows, lambda i: table.where(a + i)))
        return Items(encoded, tuple(str(i) for i in rows.index))

    def column_types(self) -> KnownTypes:
        """How `read_table` is to read the columns of a file so that they mean what they meant in training."""
        types = self.processor.known_types()
        types["numbers" if self.targets.task.predicts_numbers else "text"] += self.targets.columns
        return types

    def source(self, values: Encoded) -> Source:
        return TensorSource(values.tensors())

    def order(self, values: Encoded, source: Source, batch_size: int) -> Order:
        """See `Preprocessor.order`; rows are small, so that batches are large."""
        return Order(len(source), max(batch_size, PREDICT_ROWS))

    def report(self, rows: Any) -> TransformReport:
        """What is unknown, missing or infinite in some `rows`, in any form that `read` takes."""
        return self.processor.transform(as_frame(rows)).report

    def _warn_of_unknown(self, seen: TransformReport) -> None:
        """Warn where no value of a column is known: it may be of another type, or another column."""
        lost = [n for n, count in seen.unknown.items() if count == seen.rows - seen.missing.get(n, 0)]
        if lost:
            told = "; ".join(
                f"{name!r} holds {', '.join(seen.examples[name])}, training had "
                f"{', '.join(repr(v)[:40] for v in self.processor.levels(name)[2:5]) or 'none'}"
                for name in lost[:3]
            )
            warnings.warn(
                f"no value of {lost if len(lost) > 1 else f'the column {lost[0]!r}'} is known from training: {told}. "
                "All of them count as unknown",
                EasyLearnWarning,
                stacklevel=6,
            )

    def recipe(self) -> dict[str, Any]:
        """See `Preprocessor.recipe`: columns, categories, fill values, scales and targets."""
        return {
            "kind": self.kind,
            "processor": self.processor.state_dict(),
            **self.targets.state_dict(),
            "y_range": list(self.y_range) if isinstance(self.y_range, tuple) else self.y_range,
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], task: Task) -> TablePreprocessor:
        try:
            processor = TableProcessor.from_state(recipe["processor"])
            given = recipe["y_range"]
            y_range = (float(given[0]), float(given[1])) if isinstance(given, list) else given
            return cls(processor, Targets.from_state(recipe, task), y_range)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise WeightsError(f"the recipe of the table is damaged: {error}") from error

    def runtime_inputs(self, inputs: Sequence[Tensor]) -> RuntimeInputs:
        """See `Preprocessor.runtime_inputs`: codes and scaled numbers, as `processor.transform` makes them of rows."""
        about = {"cat_names": list(self.processor.cat_names), "cont_names": list(self.processor.cont_out_names)}
        return RuntimeInputs(("cats", "conts"), ({0: "batch"}, {0: "batch"}), about=about)


def asked_frame(given: Any, first: int) -> tuple[pd.DataFrame, bool]:
    """The rows to predict, by the numbers from `first` on where no index names them, and whether it is a single row."""
    frame = as_frame(given)
    if not len(frame):
        raise DataError("there are no rows to predict")
    if frame is not given:
        frame = frame.set_axis(range(first, first + len(frame)))  # messages then say the number that ids have
    return frame, isinstance(given, Mapping) or getattr(given, "ndim", 0) == 1


def as_frame(items: Any) -> pd.DataFrame:
    """Rows that came from elsewhere, as a table."""
    import pandas as pd

    if isinstance(items, pd.DataFrame):
        return items
    rows = [items] if isinstance(items, Mapping | pd.Series) else items
    if not isinstance(rows, list | tuple) or not all(isinstance(r, Mapping | pd.Series) for r in rows):
        got = type(items).__name__ + (f"; a file is given as Path({items!r})" if isinstance(items, str) else "")
        raise ArgumentError(f"expected a DataFrame, one row (a Series or a dictionary) or a list of rows, got {got}")
    listed = [dict(r) for r in rows]
    frame: pd.DataFrame
    try:
        frame = pd.DataFrame(listed)
    except OverflowError:  # older pandas makes a float of a whole number, also of one beyond every float
        names = dict.fromkeys(name for row in listed for name in row)
        frame = pd.DataFrame({n: pd.Series([row.get(n) for row in listed], dtype=object) for n in names})
    return frame
