"""Writing a trained model as one file, in easylearn's own form or in another runtime's, and saying what it cost."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from .. import keyed
from ..data.bunch import Data, SplitName
from ..data.order import Batch
from ..errors import ArgumentError, SaveError, StateError
from ..files import StrPath, atomic_write
from ..nn.registry import own_parts
from ..task import Task
from ..train.predict import evaluate
from ..train.strategy import Strategy
from .archive import Archive
from .model_file import describe_task, library_versions, load_model, write_model
from .pack import FEWEST, How, pack, unpack

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["easylearn", "onnx", "torch"]
Quantize = Literal["int8"] | None
TIMED = 30  # single items that latency is the median of
FLOATS_AGAIN = (
    "Weights become floats again when the file is loaded, so it takes the same time; format='onnx' computes in 8 bits."
)
CHECKED = 8  # items that a written file is compared on


@dataclass(frozen=True)
class Source:
    """What is exported.

    Args:
        model, task, data, strategy: the learner's.
        training: what it needs to go on training, in what JSON can hold.
    """

    model: nn.Module
    task: Task
    data: Data
    strategy: Strategy
    training: Mapping[str, Any]


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote, and what it cost.

    Args:
        path: the file.
        format: its form.
        rows: before and after: bytes on disk, milliseconds for one item, validation loss and metrics. Without
            quantizing or pruning only the size is looked at.
        checked: items on which the file gave what the learner gives.
        difference: the largest difference of a probability (or number) on those.
    """

    path: Path
    format: Format
    rows: Mapping[str, Mapping[str, float]]
    checked: int = 0
    difference: float = 0.0
    notes: tuple[str, ...] = field(default=())

    def to_frame(self) -> pd.DataFrame:
        """The rows as a table."""
        import pandas as pd

        frame: pd.DataFrame = pd.DataFrame.from_dict({k: dict(v) for k, v in self.rows.items()}, orient="index")
        return frame

    def __str__(self) -> str:
        size = self.path.stat().st_size if self.path.exists() else 0
        lines = [f"{self.path}: {self.format}, {size:,} bytes"]
        if self.checked:
            lines.append(f"compared on {self.checked} items: largest difference {self.difference:.2g}")
        if len(self.rows) > 1:
            names = list(dict.fromkeys(n for row in self.rows.values() for n in row))
            widths = [max(len(n), 12) for n in names]
            lines.append(" " * 8 + "  ".join(n.rjust(w) for n, w in zip(names, widths, strict=True)))
            for what, row in self.rows.items():
                cells = [f"{row[n]:,.0f}" if n == "bytes" else f"{row[n]:.4g}" if n in row else "" for n in names]
                lines.append(what.ljust(8) + "  ".join(c.rjust(w) for c, w in zip(cells, widths, strict=True)))
        return "\n".join([*lines, *self.notes])


def write_export(
    path: StrPath, source: Source, format: Format = "easylearn", quantize: Quantize = None, prune: float | None = None
) -> ExportReport:
    """Write a model; see `Learner.export`."""
    if format not in get_args(Format):
        raise ArgumentError(f"format must be one of {list(get_args(Format))}, got {format!r}")
    if quantize not in (None, "int8"):
        raise ArgumentError(f'quantize must be "int8" or None, got {quantize!r}')
    if prune is not None and (isinstance(prune, bool) or not 0 < prune < 1):
        raise ArgumentError(f"prune is a share above 0 and below 1, got {prune!r}")
    target = Path(path)
    if target.is_dir():
        raise SaveError(None, f"{target} is a folder; give the name of a file, such as {target / 'model.easylearn'}")
    changed = source if prune is None else replace(source, model=pruned(source.model, prune))
    if format != "easylearn":
        from .runtimes import write_runtime

        return write_runtime(target, source, changed, format, quantize)
    how: How | None = None if prune is None else "sparse"
    if quantize is not None:
        how = "int8" if prune is None else "sparse_int8"
    with atomic_write(target) as temporary:  # it takes its place when it has been compared
        write_model(temporary, changed.model, _spec(changed), how=how)
        with Archive(temporary) as archive:
            checked = _compare(source, archive, exact=how is None)
    if how is None:
        return ExportReport(target, format, {"written": {"bytes": float(target.stat().st_size)}}, checked)
    with tempfile.TemporaryDirectory() as folder:
        whole = write_model(Path(folder) / "whole", source.model, _spec(source))
        before = {"bytes": float(whole.stat().st_size), **measure(source, source.model)}
    after = {"bytes": float(target.stat().st_size), **measure(source, as_packed(changed.model, how))}
    notes = (FLOATS_AGAIN,) if quantize else ()
    return ExportReport(target, format, {"before": before, "after": after}, notes=notes)


def _spec(source: Source) -> dict[str, Any]:
    return {
        "easylearn": library_versions().get("easylearn", "unknown"),
        "task": describe_task(source.task),
        "data": {**source.data.preprocessor.recipe(), "batch_size": source.data.batch_size},
        "training": dict(source.training),
        "precision": source.strategy.precision,
    }


def pruned(model: nn.Module, share: float) -> nn.Module:
    """A copy whose smallest numbers, so many of each large weight, are 0 (magnitude pruning, arXiv 1506.02626).

    Args:
        model: left as it is.
        share: above 0 and below 1.

    >>> layer = nn.Linear(32, 32, bias=False)
    >>> round(float((pruned(layer, 0.75).weight == 0).float().mean()), 3)
    0.75
    """
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in _large(other):
            smallest = weight.abs().flatten().topk(int(weight.numel() * share), largest=False).indices
            gone = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
            gone[smallest] = True
            weight.masked_fill_(gone.reshape(weight.shape), 0)
    return other


def as_packed(model: nn.Module, how: How) -> nn.Module:
    """A copy with the weights that come back out of a packed file."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in _large(other):
            way: How = "int8" if "int8" in how else "sparse"
            weight.copy_(unpack(pack(weight, way), way, tuple(weight.shape)))
    return other


def _large(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.ndim >= 2 and p.numel() >= FEWEST and p.is_floating_point()]


def first_batch(source: Source, n: int = CHECKED) -> Batch | None:
    """Some real items as the model gets them, or None where there are none at hand."""
    data = source.data
    splits: list[SplitName] = [s for s in ("valid", "train") if s in data.splits]
    if not splits:
        return None
    with keyed.scoped_rng(0, "export"), closing(data.loader(splits[0]).batches(source.strategy.device)) as batches:
        batch = next(iter(batches), None)
    if batch is None or source.task.is_streamed:
        return None
    return Batch(tuple(x[:n] for x in batch.inputs), None, batch.index[:n])


def _compare(source: Source, archive: Archive, exact: bool) -> int:
    """Load the file and try it on real items: on how many; one that gives other numbers is an error."""
    missing = own_parts(archive.spec["model"])
    whole = isinstance(archive.spec["model"], dict) and set(archive.spec["model"]) == {"own"}
    if missing and not whole:
        return 0  # only its owner can build it
    again = load_model(archive, copy.deepcopy(source.model).cpu() if whole else None).to(source.strategy.device)
    batch = first_batch(source)
    if batch is None or not exact:
        return 0
    with source.strategy.evaluating(source.model), source.strategy.evaluating(again):
        given, back = (source.strategy.forward(m, batch.inputs) for m in (source.model, again))
    if not torch.equal(given, back):
        raise StateError(
            "the file would give other numbers than the learner (they differ by up to "
            f"{float((given - back).abs().max()):.3g}), so it was not written: the model holds something besides its "
            "weights and what it was made with. Register what makes it as it is now (@register), and make it with that"
        )
    return len(given)


def measure(source: Source, model: nn.Module) -> dict[str, float]:
    """Milliseconds for one item, and what validation gives, as far as there are items."""
    result: dict[str, float] = {}
    batch = first_batch(source, 1)
    if batch is not None:
        with source.strategy.evaluating(model):
            result["ms"] = 1000 * timed(lambda: source.strategy.forward(model, batch.inputs))
    if "valid" in source.data.splits:
        result.update(evaluate(model, source.data.loader("valid"), source.task, source.strategy))
    return result


def timed(call: Callable[[], Any], repeats: int = TIMED) -> float:
    """Median seconds of a call, after three that do not count."""
    times = []
    for k in range(repeats + 3):
        begun = time.perf_counter()
        call()
        if k >= 3:
            times.append(time.perf_counter() - begun)
    return median(times)
