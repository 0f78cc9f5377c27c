"""tabular_learner: a table in, a Learner out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, EasyLearnWarning, check_whole, did_you_mean
from ..learning import Learner, Training
from ..nn.embeddings import Forget, Scaled, SigmoidRange, Size, TableModel, YRange, emb_size
from ..options import strict
from ..task import Task
from ..train.optim import adamw
from .data import TabularData

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..learning import TrainingOptions

N_KNOTS = 65
KNOT_ROWS = 100_000  # from which knots are found
UNKNOWN_P = 0.01
WD = 0.2  # for AdamW alone: others would make it a part of the gradient
_KNOWN = "The data knows how many outputs there are."
EmbSizes = Mapping[str, int] | Sequence[int | tuple[int, int]]


@strict(
    {
        "szs": "layers", "drops": "ps", "embed_p": "emb_drop", "cont_emb": "num_emb_size", "forget": "unknown_p",
        "config": "Give its entries as arguments: ps, emb_drop, use_bn, y_range.", "n_out": _KNOWN, "out_sz": _KNOWN,
        "opt_func": "optimizer", "opt_fn": "optimizer", "loss_func": "loss", "cbs": "callbacks",
    },
    Training,
)  # fmt: skip
def tabular_learner(
    data: TabularData,
    layers: Sequence[int] = (200, 100),
    *,
    emb_szs: EmbSizes | None = None,
    emb_drop: float = 0.0,
    num_emb_size: int = 8,
    ps: float | Sequence[float] = 0.0,
    y_range: YRange = None,
    use_bn: bool = True,
    unknown_p: float = UNKNOWN_P,
    **options: Unpack[TrainingOptions],
) -> Learner:
    """A learner for a table: entity embeddings (arXiv 1604.06737) and a small network, in three layer groups.

    Args:
        data: the table.
        layers: sizes of the hidden layers.
        emb_szs: lengths of the embeddings: a dictionary by column, for those that differ from `emb_size`'s rule; or a
            list with one length, or (codes, length), per categorical column.
        emb_drop: dropout of the embeddings.
        num_emb_size: length of the vectors that stand for numbers beside the numbers themselves; 0 for none. See
            `NumberEmbeddings`.
        ps: dropout after each hidden layer: one number, or one per layer.
        y_range: (low, high), in the target's own units: a sigmoid keeps predicted numbers between them; "auto" takes
            the training targets' range and a tenth on both sides; None takes what the data says. Without bounds the
            outputs begin at the mean of the training targets and vary by their deviation.
        use_bn: batch-norm in the hidden layers; continuous columns have one always.
        unknown_p: the fraction of the categories that training replaces by *unknown*, so that its embedding is learnt.
        optimizer: None takes AdamW with a weight decay of 0.2 (`wd=None`); others have their own.

    Returns:
        The learner. Its layer groups are embeddings, hidden, output.
    """
    if not isinstance(data, TabularData):
        raise ArgumentError(f"tabular_learner needs TabularData, got {type(data).__name__}")
    check_whole("num_emb_size", num_emb_size, 0)
    if data.batch_size == 1 and (use_bn or data.cont_names):
        raise ArgumentError("batch_size=1 leaves batch-norm nothing to compare a row with; take at least 2")
    model = TableModel(
        embedding_sizes(data, emb_szs), len(data.cont_names), data.task.n_out, layers, ps, emb_drop, use_bn,
        output=output_layer(data, y_range), forget=unknowns(data, unknown_p),
        knots=knots(data.sample("train", KNOT_ROWS)) if num_emb_size else None, number_width=num_emb_size,
        seed=Training(**options).seed,
    )  # fmt: skip
    return Learner(data, model, groups=model.layer_groups(), **with_decay(options, WD))


def with_decay(options: TrainingOptions, wd: float) -> TrainingOptions:
    """The options with the weight decay that goes with this library's AdamW, where neither was named."""
    if options.get("optimizer") is not None:
        return options
    return {**options, "optimizer": adamw, "wd": wd if options.get("wd") is None else options["wd"]}


def knots(conts: Tensor, n: int = N_KNOTS) -> list[list[float]]:
    """Numbers that part the values of each column of `conts` (rows, columns) into pieces: at most `n` of those values.

    They are quantiles, with a value that occurs k times counted as k ** 0.25 values: a column that is mostly 0 would
    otherwise have most of its knots there.

    >>> knots(torch.tensor([[0.0]] * 90 + [[1.0], [2.0], [5.0]]), n=3)
    [[0.0, 1.0, 5.0]]
    """
    found: list[list[float]] = []
    for column in conts.cpu().T:
        values, counts = column.unique(return_counts=True)
        if len(values) > n:
            weight = counts.double() ** 0.25
            middle = (weight.cumsum(0) - weight / 2) / weight.sum()
            wanted = torch.linspace(float(middle[0]), float(middle[-1]), n, dtype=torch.float64)
            values = values[torch.searchsorted(middle, wanted).clamp(max=len(values) - 1)].unique()
        found.append(values.tolist())
    return found


def output_layer(data: TabularData, y_range: YRange = None) -> nn.Module:
    """What the model's outputs pass through at last: bounds, or the mean and deviation of the training targets."""
    target = data.target("train")
    assert target is not None
    y_range = data.preprocessor.y_range if y_range is None else y_range
    if y_range is not None:
        return SigmoidRange(*range_of(data.task, target.cpu(), y_range))
    if not data.task.predicts_numbers:
        return nn.Identity()
    scaled = data.task.outputs_for(target.cpu().double()).reshape(len(target), -1)
    deviation = scaled.std(0, unbiased=False)
    return Scaled(scaled.mean(0).tolist(), torch.where(deviation > 0, deviation, 1.0).tolist())


def range_of(
    task: Task, target: Tensor, y_range: tuple[float, float] | Literal["auto"]
) -> tuple[list[float], list[float]]:
    """The bounds between which a sigmoid keeps the model's outputs, on their own scale; see `tabular_learner`."""
    if not task.predicts_numbers:
        raise ArgumentError(f"y_range is for numbers, this task is {task}; leave it out")
    low, high = task.outputs_for(target.double()).reshape(len(target), -1).aminmax(dim=0)
    if isinstance(y_range, str):
        if y_range != "auto":
            raise ArgumentError(f"y_range must be (low, high), 'auto' or None, got {y_range!r}")
        margin = 0.1 * (high - low).clamp(min=1e-3)
        return (low - margin).tolist(), (high + margin).tolist()
    bounds = task.outputs_for(torch.tensor(y_range, dtype=torch.float64))
    if bounds.shape != (2,) or not bounds[0] < bounds[1]:
        raise ArgumentError(f"y_range must be (low, high) with low below high, got {y_range}")
    if not bounds.isfinite().all():
        raise ArgumentError(
            f"y_range={tuple(y_range)} has no finite logarithm; with log_target give a low end above 0, or 'auto'"
        )
    if (low < bounds[0]).any() or (high > bounds[1]).any():
        warnings.warn(
            f"y_range={tuple(y_range)} leaves out targets of the training rows, which go from {float(target.min()):g} "
            f"to {float(target.max()):g}; the model can never predict them",
            EasyLearnWarning,
            stacklevel=3,
        )
    return bounds[:1].tolist() * len(low), bounds[1:].tolist() * len(high)


def unknowns(data: TabularData, p: float) -> Forget:
    """Makes the vectors of *unknown*, and of *missing* where training has no missing value, be learnt."""
    missing = data.seen("train").missing
    return Forget(p, [name not in missing for name in data.cat_names])


def embedding_sizes(data: TabularData, emb_szs: EmbSizes | None) -> list[Size]:
    """(number of codes, length of a vector) per categorical column."""
    codes = data.preprocessor.processor.cardinalities
    if emb_szs is None or isinstance(emb_szs, Mapping):
        emb_szs = emb_szs or {}
        if wrong := [name for name in emb_szs if name not in codes]:
            raise ArgumentError(
                f"emb_szs: {wrong[0]!r} is not a categorical column. {did_you_mean(str(wrong[0]), codes)}"
            )
        widths = [emb_szs.get(name, emb_size(n)) for name, n in codes.items()]
    else:
        if len(emb_szs) != len(codes):
            raise ArgumentError(
                f"emb_szs has {len(emb_szs)} entries, but there are {len(codes)} categorical columns: {list(codes)}"
            )
        widths = [given[1] if isinstance(given, tuple | list) else given for given in emb_szs]
    for name, width in zip(codes, widths, strict=True):
        check_whole(f"the length of the embedding of {name!r}", width)
    return list(zip(codes.values(), widths, strict=True))
