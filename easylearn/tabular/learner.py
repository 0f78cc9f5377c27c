"""tabular_learner: a table in, a Learner out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from ..data.loaders import first_outputs
from ..data.order import ItemLoader
from ..errors import ArgumentError, EasyLearnWarning, check_whole, did_you_mean
from ..learning import Learner, Training
from ..nn.embeddings import Forget, SigmoidRange, Size, TableModel, TableOutput, YRange, emb_size
from ..nn.heads import begin_at
from ..options import strict
from ..task import Task
from ..train.head_start import MOST_ITEMS, solve_linear
from ..train.optim import adamw
from ..train.snapshot import copy_into, whole
from .data import TabularData
from .fitted import LARGEST

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..learning import TrainingOptions

N_KNOTS = 65
KNOT_ROWS = 100_000  # from which knots are found
UNKNOWN_P = 0.01
DROP, LESS_DROP = 0.2, 0.1  # out of a network that starts as a linear model
MANY_ROWS = 3000  # for training, from which the network over-fits less than dropout blurs numbers
MOST_CODES = 500  # of all columns that are in it: the others are left to the network
PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # of that model, times half the squared weights
WD, LESS_WD = 0.2, 0.03  # for AdamW alone: others would make it a part of the gradient
FAR_MORE_ROWS = 10_000  # for training, from which there is less of both: WD would shrink all weights in so many steps
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
    members: int = 1,
    linear: bool = True,
    emb_szs: EmbSizes | None = None,
    emb_drop: float = 0.0,
    num_emb_size: int = 8,
    ps: float | Sequence[float] | None = None,
    y_range: YRange = None,
    use_bn: bool = True,
    unknown_p: float = UNKNOWN_P,
    **options: Unpack[TrainingOptions],
) -> Learner:
    """A learner for a table: entity embeddings (arXiv 1604.06737) and a small network, in three layer groups.

    Args:
        data: the table.
        layers: sizes of the hidden layers.
        members: how many networks, each drawn by itself, are trained together and averaged; eight take two to three
            times as long as one.
        linear: start as the regularised linear model of the training rows, which the network then adds to; not where
            there is a `y_range`.
        emb_szs: lengths of the embeddings: a dictionary by column, for those that differ from `emb_size`'s rule; or a
            list with one length, or (codes, length), per categorical column.
        emb_drop: dropout of the embeddings.
        num_emb_size: length of the vectors that stand for numbers beside the numbers themselves; 0 for none. See
            `NumberEmbeddings`.
        ps: dropout after each hidden layer: one number, or one per layer; None is 0 where it does not start linear, 0.1
            for numbers from 3,000 training rows on, 0 from 10,000 on, else 0.2.
        y_range: (low, high), in the target's own units: a sigmoid keeps predicted numbers between them; "auto" takes
            the training targets' range and a tenth on both sides; None takes what the data says.
        use_bn: batch-norm in the hidden layers; continuous columns have one always.
        unknown_p: the fraction of the categories that training replaces by *unknown*, so that its embedding is learnt.
        optimizer: None takes AdamW; others have their own weight decay.
        wd: None is 0.2 for AdamW, or 0.03 where it starts linear and predicts numbers, from 10,000 training rows on.

    Returns:
        The learner. Its layer groups are embeddings, hidden, output.
    """
    if not isinstance(data, TabularData):
        raise ArgumentError(
            f"tabular_learner needs TabularData, got {type(data).__name__}: make it of a table, as with "
            "TabularData.from_df(df, target)"
        )
    check_whole("num_emb_size", num_emb_size, 0)
    if data.batch_size == 1 and (use_bn or data.cont_names):
        raise ArgumentError("batch_size=1 leaves batch-norm nothing to compare a row with; take at least 2")
    conts = data.sample("train", KNOT_ROWS)
    last = output_layer(data, y_range)
    linear = linear and isinstance(last, nn.Identity)
    n_rows = data.loader("train").n_items
    if ps is None:
        ps = suited_drop(n_rows, data.task.predicts_numbers) if linear else 0.0
    model = TableModel(
        embedding_sizes(data, emb_szs), len(data.cont_names), data.task.n_out, layers, ps, emb_drop, use_bn,
        output=table_output(data, conts, last, members, linear) if linear or members > 1 else last,
        forget=unknowns(data, unknown_p), knots=knots(conts, most_knots(n_rows)) if num_emb_size else None,
        number_width=num_emb_size, seed=Training(**options).seed,
    )  # fmt: skip
    bias = before(last, first_outputs(data, data.target("train")))
    if bias is not None:
        slope = last.slope(bias).repeat(members) if isinstance(last, SigmoidRange) else None
        begin_at(model.last, bias.repeat(members), slope)
    decay = LESS_WD if linear and data.task.predicts_numbers and n_rows >= FAR_MORE_ROWS else WD
    learn = Learner(data, model, groups=model.layer_groups(), **with_decay(options, decay))
    if linear:
        start_linear(learn)
    return learn


def with_decay(options: TrainingOptions, wd: float) -> TrainingOptions:
    """The options with the weight decay that goes with this library's AdamW, where neither was named."""
    if options.get("optimizer") is not None:
        return options
    return {**options, "optimizer": adamw, "wd": wd if options.get("wd") is None else options["wd"]}


def start_linear(learn: Learner) -> None:
    """Let a new model of a table begin as the regularised linear model of at most 20,000 training rows.

    Its network, whose last layer becomes 0, then learns what the linear model leaves over. Where the loss becomes no
    number it stays as it is.
    """
    model = learn.model
    assert isinstance(model, TableModel) and isinstance(model.output, TableOutput)
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    batches = learn.data.loader("train", training=True).batches(learn.strategy.device, learn.seed)
    with closing(batches), torch.no_grad():
        for batch in batches:
            assert batch.target is not None
            some = (t[:MOST_ITEMS] for t in batch.inputs)  # of 500 columns, a batch of a million rows has 2 GB
            rows.append((model.output.features(*some), batch.target[:MOST_ITEMS], batch.index[:MOST_ITEMS]))
            if len(rows) * learn.data.batch_size >= MOST_ITEMS:
                break
        x, target, index = (torch.cat(column) for column in zip(*rows, strict=True))
        bias = whole(model.last.bias)[: learn.task.n_out]
        solved = solve_linear(learn.task, x, target, index, learn.seed, bias, PENALTIES)
        if solved is not None:
            copy_into((model.output.weight, model.output.bias), solved[:2])
            model.output.says = solved.says
            model.last.weight.zero_()
            model.last.bias.zero_()


def table_output(data: TabularData, conts: Tensor, last: nn.Module, members: int, linear: bool) -> TableOutput:
    """What the network's outputs are added to, and how its members are averaged; `conts` are some training rows."""
    task = data.task
    average: Literal["softmax", "sigmoid", "outputs"] = "outputs"
    if task.is_exclusive:
        average = "softmax"
    elif task.is_multi:
        average = "sigmoid"
    low, high = conts.cpu().aminmax(dim=0) if conts.shape[1] else (conts.new_zeros(0), conts.new_zeros(0))
    room, train = (high - low) / 2, data.loader("train")
    if (
        len(conts) < train.n_items
    ):  # these are not all: of a stream, rows of a few row groups; and what is rare is not seen
        room[(room == 0) | (not isinstance(train, ItemLoader))] = LARGEST
    low, high = (low - room).clamp(min=-LARGEST), (high + room).clamp(max=LARGEST)
    codes, free = [0] * len(data.cat_names), MOST_CODES if linear else 0
    for column, n in sorted(enumerate(data.preprocessor.processor.cardinalities.values()), key=lambda pair: pair[1]):
        if n <= free:
            codes[column], free = n, free - n
    bounds = None if isinstance(last, nn.Identity) else last
    return TableOutput(codes, low.tolist(), high.tolist(), task.n_out, members, average, bounds)


def suited_drop(n_rows: int, numbers: bool) -> float:
    """How much of each hidden layer is dropped, by the number of training rows, and whether `numbers` are predicted.

    >>> suited_drop(500, True), suited_drop(5000, True), suited_drop(50_000, True), suited_drop(50_000, False)
    (0.2, 0.1, 0.0, 0.2)
    """
    if numbers and n_rows >= FAR_MORE_ROWS:
        return 0.0
    return LESS_DROP if numbers and n_rows >= MANY_ROWS else DROP


def most_knots(n_rows: int) -> int:
    """How many knots a number has at most: one for each sixteen rows, from 3 to 65.

    >>> [most_knots(n) for n in (20, 320, 10_000)]
    [3, 20, 65]
    """
    return max(3, min(N_KNOTS, n_rows // 16))


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
    """What the model's outputs pass through at last: bounds, or nothing."""
    target = data.target("train")
    assert target is not None
    y_range = data.preprocessor.y_range if y_range is None else y_range
    return nn.Identity() if y_range is None else SigmoidRange(*range_of(data.task, target.cpu(), y_range))


def before(layer: nn.Module, outputs: Tensor | None) -> Tensor | None:
    """What an output `layer` makes such `outputs` of."""
    return layer.inverse(outputs) if isinstance(layer, SigmoidRange) and outputs is not None else outputs


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
