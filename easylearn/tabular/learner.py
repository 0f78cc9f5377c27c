"""tabular_learner: a table in, a Learner out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, did_you_mean
from ..files import StrPath
from ..learner import Learner
from ..nn.embeddings import Forget, Scaled, SigmoidRange, Size, TableModel, emb_size
from ..options import strict
from ..task import LossFn
from ..train.callback import Callback
from ..train.optim import OptimizerFn, adamw
from .data import TabularData
from .ranges import YRange, range_of

N_KNOTS = 65
KNOT_ROWS = 100_000  # from which knots are found
FORGET = 0.01
WD = 0.2  # for AdamW alone: others would make it a part of the gradient
EmbSizes = Mapping[str, int] | Sequence[int | tuple[int, int]]


@strict(
    {
        "szs": "layers",
        "drops": "ps",
        "embed_p": "emb_drop",
        "config": "Give its entries as arguments: ps, emb_drop, use_bn, y_range.",
        "n_out": "The data knows how many outputs there are.",
        "out_sz": "The data knows how many outputs there are.",
        "opt_func": "optimizer",
        "opt_fn": "optimizer",
        "loss_func": "loss",
        "cbs": "callbacks",
    }
)
def tabular_learner(
    data: TabularData,
    layers: Sequence[int] = (200, 100),
    *,
    emb_szs: EmbSizes | None = None,
    emb_drop: float = 0.0,
    cont_emb: int = 8,
    ps: float | Sequence[float] = 0.0,
    y_range: YRange = None,
    use_bn: bool = True,
    forget: float = FORGET,
    optimizer: OptimizerFn | None = None,
    metrics: Sequence[Any] | None = None,
    loss: LossFn | None = None,
    label_smoothing: float = 0.0,
    wd: float | None = None,
    clip: float | None = None,
    accumulate: int = 1,
    precision: str = "fp32",
    compile: bool | str = False,
    device: str | torch.device | None = None,
    seed: int = 0,
    path: StrPath = "models",
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Learner:
    """A learner for a table: entity embeddings (arXiv 1604.06737) and a small network, in three layer groups.

    Args:
        data: the table.
        layers: sizes of the hidden layers.
        emb_szs: lengths of the embeddings: a dictionary by column, for those that differ from `emb_size`'s rule; or a
            list with one length, or (codes, length), per categorical column.
        emb_drop: dropout of the embeddings.
        cont_emb: length of the vectors that stand for continuous values beside the values themselves; 0 for none. See
            `NumberEmbeddings`.
        ps: dropout after each hidden layer: one number, or one per layer.
        y_range: (low, high), in the target's own units: a sigmoid keeps predicted numbers between them; "auto" takes
            the training targets' range and a tenth on both sides; None takes what the data says. Without bounds the
            outputs begin at the mean of the training targets and vary by their deviation.
        use_bn: batch-norm in the hidden layers; continuous columns have one always.
        forget: share of the categories that training replaces by *unknown*, so that its embedding is learnt.
        optimizer: None takes AdamW.
        wd: weight decay; None is 0.2 for that AdamW, and the optimizer's own for others.
        metrics, loss, label_smoothing, clip, accumulate, precision, compile, device, seed, path, callbacks, progress:
            see `Learner`.

    Returns:
        The learner. Its layer groups are embeddings, hidden, output.

    Raises:
        ArgumentError: sizes, dropouts or the range do not fit the data.
    """
    if not isinstance(data, TabularData):
        raise ArgumentError(f"tabular_learner needs TabularData, got {type(data).__name__}")
    if isinstance(cont_emb, bool) or not isinstance(cont_emb, int) or cont_emb < 0:
        raise ArgumentError(f"cont_emb is a length of at least 0, got {cont_emb!r}")
    model = TableModel(
        embedding_sizes(data, emb_szs),
        len(data.cont_names),
        data.task.n_out,
        layers=layers,
        ps=ps,
        emb_drop=emb_drop,
        use_bn=use_bn,
        output=output_layer(data, y_range),
        forget=forgetting(data, forget),
        knots=knots(data.sample("train", KNOT_ROWS)) if cont_emb else None,
        number_width=cont_emb,
        seed=seed,
    )
    return Learner(
        data,
        model,
        groups=model.layer_groups(),
        optimizer=adamw if optimizer is None else optimizer,
        metrics=metrics,
        loss=loss,
        label_smoothing=label_smoothing,
        wd=WD if wd is None and optimizer is None else wd,
        clip=clip,
        accumulate=accumulate,
        precision=precision,
        compile=compile,
        device=device,
        seed=seed,
        path=path,
        callbacks=callbacks,
        progress=progress,
    )


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
    bounds = range_of(data.task, target, data.y_range if y_range is None else y_range)
    if bounds is not None:
        return SigmoidRange(bounds[0].tolist(), bounds[1].tolist())
    if not data.task.predicts_numbers:
        return nn.Identity()
    scaled = data.task.outputs_for(target.double()).reshape(len(target), -1)
    deviation = scaled.std(0, unbiased=False)
    return Scaled(scaled.mean(0).tolist(), torch.where(deviation > 0, deviation, 1.0).tolist())


def forgetting(data: TabularData, share: float) -> Forget:
    """Makes the vectors of *unknown*, and of *missing* where training has no missing value, be learnt."""
    return Forget(share, [name not in data.met("train").missing for name in data.cat_names])


def embedding_sizes(data: TabularData, emb_szs: EmbSizes | None) -> list[Size]:
    """(number of codes, length of a vector) per categorical column."""
    codes = data.processor.cardinalities
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
