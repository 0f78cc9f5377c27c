"""What an export measures of a trained model on real items, and the report of what it wrote."""

from __future__ import annotations

import os
import timeit
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from .. import keyed
from ..data.bunch import Data, SplitName
from ..data.order import Batch
from ..task import Task
from ..train.predict import evaluate
from ..train.strategy import Strategy
from .training import TrainingSettings

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["easylearn", "onnx", "torch"]
Quantize = Literal["int8", "weights"] | None
TIMED = 30  # single items that latency is the median of
CHECKED = 8  # items that a written file is compared on


@dataclass(frozen=True)
class TrainedModel:
    """A learner's model with what an export writes of it."""

    model: nn.Module
    task: Task
    data: Data[Any]
    strategy: Strategy
    training: TrainingSettings


@dataclass(frozen=True, repr=False)
class ExportReport:
    """The report of an export: the file, its size, and the cost of quantizing or pruning.

    `rows` has before and after: bytes on disk, milliseconds for one item, validation loss and metrics. Without
    quantizing or pruning only the size is looked at.
    """

    path: Path
    format: Format
    rows: Mapping[str, Mapping[str, float]]
    checked: int = 0  # items on which the file gave what the learner gives
    difference: float = 0.0  # the largest of a probability (or number) on those
    notes: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        """The path of the file, so that it can be given wherever one is asked for."""
        return os.fspath(self.path)

    def to_frame(self) -> pd.DataFrame:
        """The rows as a table."""
        import pandas as pd

        frame: pd.DataFrame = pd.DataFrame.from_dict({k: dict(v) for k, v in self.rows.items()}, orient="index")
        return frame

    def __repr__(self) -> str:
        size = self.path.stat().st_size if self.path.exists() else 0
        lines = [f"{self.path}: {self.format}, {size:,} bytes"]
        if self.checked:
            lines.append(f"compared on {self.checked} items: largest difference {self.difference:.2g}")
        if len(self.rows) > 1:
            shown = {"bytes": "{:,.0f}".format}
            lines.append(self.to_frame().to_string(float_format="{:.4g}".format, formatters=shown, na_rep=""))
        return "\n".join([*lines, *self.notes])


def first_batch(trained: TrainedModel, n: int = CHECKED) -> Batch | None:
    """Some real items as model inputs; None if the data has none, or for a language model."""
    data = trained.data
    splits: list[SplitName] = [s for s in ("valid", "train") if s in data.splits]
    if not splits:
        return None
    with keyed.scoped_rng(0, "export"), closing(data.loader(splits[0]).batches(trained.strategy.device)) as batches:
        batch = next(iter(batches), None)
    if batch is None or trained.task.is_streamed:
        return None
    return Batch(tuple(x[:n] for x in batch.inputs), None, batch.index[:n])


def measure(trained: TrainedModel, model: nn.Module) -> dict[str, float]:
    """Milliseconds for one item, validation loss and metrics, as far as there are items."""
    result: dict[str, float] = {}
    batch = first_batch(trained, 1)
    if batch is not None:
        with trained.strategy.evaluating(model):
            result["ms"] = 1000 * timed(lambda: trained.strategy.forward(model, batch.inputs))
    if "valid" in trained.data.splits:
        result.update(evaluate(model, trained.data.loader("valid"), trained.task, trained.strategy))
    return result


def timed(call: Callable[[], Any], repeats: int = TIMED) -> float:
    """Median seconds of a call, after three to warm up."""
    return median(timeit.repeat(call, number=1, repeat=repeats + 3)[3:])
