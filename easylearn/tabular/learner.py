"""tabular_learner: a table in, a Learner out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, did_you_mean
from ..learning import Learner, Training
from ..nn.embeddings import Forget, Scaled, SigmoidRange, Size, TableModel, emb_size
from ..options import strict
from ..train.optim import adamw
from .data import TabularData
from .ranges import YRange, range_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..learning import TrainingOptions

N_KNOTS = 65
KNOT_ROWS = 100_000  # from which knots are found
UNKNOWN_P = 0.01
WD = 0.2  # for AdamW alone: others would make it a part of the gradient
EmbSizes = Mapping[str, int] | Sequence[int | tuple[int, int]]


@strict(
    {
        "szs": "layers",
        "drops": "ps",
        "embed_p": "emb_drop",
        "cont_emb": "num_emb_size",
        "forget": "unknown_p",
        "config": "Give its entries as arguments: ps, emb_drop, use_bn, y_range.",
        "n_out": "The data knows how many outputs there are.",
        "out_sz": "The data knows how many outputs there are.",
        "opt_func": "optimizer",
        "opt_fn": "optimizer",
        "loss_func": "loss",
        "cbs": "callbacks",
    },
    Training,
)
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

    Raises:
        ArgumentError: sizes, dropouts or the range do not fit the data.
    """
    if not isinstance(data, TabularData):
        raise ArgumentError(f"tabular_learner needs TabularData, got {type(data).__name__}")
    if isinstance(num_emb_size, bool) or not isinstance(num_emb_size, int) or num_emb_size < 0:
        raise ArgumentError(f"num_emb_size is a length of at least 0, got {num_emb_size!r}")
    if data.batch_size == 1 and (use_bn or data.cont_names):
        raise ArgumentError("batch_size=1 leaves batch-norm nothing to compare a row with; take at least 2")
    how = Training(**options)
    model = TableModel(
        embedding_sizes(data, emb_szs),
        len(data.cont_names),
        data.task.n_out,
        layers=layers,
        ps=ps,
        emb_drop=emb_drop,
        use_bn=use_bn,
        output=output_layer(data, y_range),
        forget=unknowns(data, unknown_p),
        knots=knots(data.sample("train", KNOT_ROWS)) if num_emb_size else None,
        number_width=num_emb_size,
        seed=how.seed,
    )
    return Learner(data, model, groups=model.layer_groups(), **with_decay(options, WD))


def with_decay(options: TrainingOptions, wd: float) -> TrainingOptions:
    """The options with the weight decay that goes with this library's AdamW, where neither was named."""
    if options.get("optimizer") is not None:
        return options
    return {**options, "optimizer": adamw, "wd": wd if options.get("wd") is None else options["wd"]}


def knots(conts: Tensor, n: int = N_KNOTS) -> list[list[float]]:
    """Numbers that part each column's values into pieces: at most `n` of the values that occur.

    They are quantiles, with a value that occurs k times counted as k ** 0.25 values: a column that is mostly 0 would
    otherwise have most of its knots there.

    Args:
        conts: values, shape (rows, columns).
        n: how many knots at most.

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
    target = target.cpu()
    bounds = range_of(data.task, target, data.preprocessor.y_range if y_range is None else y_range)
    if bounds is not None:
        return SigmoidRange(bounds[0].tolist(), bounds[1].tolist())
    if not data.task.predicts_numbers:
        return nn.Identity()
    scaled = data.task.outputs_for(target.double()).reshape(len(target), -1)
    deviation = scaled.std(0, unbiased=False)
    return Scaled(scaled.mean(0).tolist(), torch.where(deviation > 0, deviation, 1.0).tolist())


def unknowns(data: TabularData, p: float) -> Forget:
    """Makes the vectors of *unknown*, and of *missing* where training has no missing value, be learnt."""
    missing = data.seen("train").missing
    return Forget(p, [name not in missing for name in data.cat_names])


def embedding_sizes(data: TabularData, emb_szs: EmbSizes | None) -> list[Size]:
    """(number of codes, length of a vector) per categorical column."""
    codes = data.preprocessor.processor.cardinalities
    if emb_szs is None:
        emb_szs = {}
    if isinstance(emb_szs, Mapping):
        for name in emb_szs:
            if name not in codes:
                raise ArgumentError(f"emb_szs: {name!r} is not a categorical column. {did_you_mean(str(name), codes)}")
        widths = [emb_szs.get(name, emb_size(n)) for name, n in codes.items()]
    else:
        if len(emb_szs) != len(codes):
            raise ArgumentError(
                f"emb_szs has {len(emb_szs)} entries, but there are {len(codes)} categorical columns: {list(codes)}"
            )
        widths = [given[1] if isinstance(given, tuple | list) else given for given in emb_szs]
    bad = [w for w in widths if isinstance(w, bool) or not isinstance(w, int) or w < 1]
    if bad:
        raise ArgumentError(f"an embedding is at least 1 long, got {bad[0]!r}")
    return list(zip(codes.values(), widths, strict=True))
