"""submit: predictions as the file that a competition wants, checked against its sample; pseudo_label; snapshots."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from ..data.bunch import SplitName
from ..data.frames import column_names, read_table
from ..errors import ArgumentError, DataError, check_kind, check_number, did_you_mean, short
from ..files import StrPath, atomic_write
from ..learning import Learner
from ..task import Predictions, average_predictions
from .cross_fit import Crossed

if TYPE_CHECKING:
    import pandas as pd

Value = Literal["auto", "probability", "label"]
SUM = 1e-3  # by how much the probabilities of a row may miss 1


def submit(
    predictions: Predictions | pd.DataFrame, sample: StrPath, path: StrPath = "submission.csv", *,
    value: Value = "auto", positive: str | None = None,
) -> Path:  # fmt: skip
    """Write predictions as a competition wants them: the ids, the order and the columns of its sample.

    Everything is checked before the file is written, whole: each id of the sample has exactly one prediction, no value
    is missing or infinite, probabilities are between 0 and 1 and, where there is one for each class, add up to 1.

    Args:
        predictions: such as `blend(...).test`; or a table with the columns of the sample.
        sample: a csv file with ids in its first column. Ids of files may be there without folder and ending.
        path: the file to create or replace.
        value: where the sample has one column besides the ids: "probability" of the positive class, or "label"; "auto"
            takes what the sample has.
        positive: which class the probability is of; None is the second of two, or the one the column is named after.

    Returns:
        The path of the file.

    Raises:
        DataError: an id or a value is wrong; the message names the row.
        ArgumentError: the columns of the sample do not say what they hold.
    """
    if value not in get_args(Value):
        raise ArgumentError(f"value is one of {list(get_args(Value))}, got {value!r}")
    names = column_names(sample)
    if len(names) < 2:
        raise DataError(f"{sample} should hold ids and at least one column to fill in, and has {names} only")
    wanted = read_table(sample, text=names).frame
    where = f"{Path(sample).name} row"
    ids = _ids(wanted[names[0]], where)
    if isinstance(predictions, Predictions):
        found, columns = _columns(predictions, names[1:], wanted, value, positive)
        given = list(predictions.ids)
        shares = columns == "shares"
    else:
        found, given = _of_table(predictions, names)
        shares = False
    rows = _order(ids, given, where)
    table = [[column[i] for column in found] for i in rows]
    kind = predictions.task.is_exclusive if isinstance(predictions, Predictions) else False
    numbers = isinstance(predictions, Predictions) and predictions.task.predicts_numbers
    for line, (name, row) in enumerate(zip(ids, table, strict=True)):
        _check_row(f"{where} {line} ({short(name, 40)!r})", names[1:], row, shares and kind, not numbers and shares)
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([name, *map(_text, row)] for name, row in zip(ids, table, strict=True))
    return Path(path)


def _ids(column: Any, where: str) -> list[str]:
    """The ids of the sample: none missing, none twice."""
    missing = column.isna().to_numpy().nonzero()[0]
    if len(missing):
        raise DataError(f"{where} {missing[0]}: the id is missing")
    if not len(column):
        raise DataError(f"{where.removesuffix(' row')} has no rows: it should hold the id of each item to predict")
    ids = [str(i) for i in column]
    twice = [name for name, n in Counter(ids).items() if n > 1]
    if twice:
        places = [i for i, name in enumerate(ids) if name == twice[0]]
        raise DataError(f"{where} {places[1]}: the id {twice[0]!r} was in row {places[0]} already")
    return ids


def _columns(
    said: Predictions, heads: Sequence[str], sample: pd.DataFrame, value: Value, positive: str | None
) -> tuple[list[list[Any]], str]:
    """What goes into each column of the file, and whether it is "shares", "labels" or "numbers"."""
    task, probs = said.task, said.probs.reshape(len(said), -1).double()
    if task.of_pixels or task.sorts_outputs:
        raise ArgumentError(
            f"a sample has a row of numbers or one label for each item, and these are {task.kind}: make a table with "
            "the columns of the sample, and give that"
        )
    if task.predicts_numbers:
        if len(heads) != len(task.names):
            raise DataError(f"the sample has the columns {list(heads)}, and the model predicts {list(task.names)}")
        same = set(heads) == set(task.names)
        return [probs[:, task.names.index(h) if same else i].tolist() for i, h in enumerate(heads)], "numbers"
    if len(heads) > 1:
        odd = [h for h in heads if h not in task.names]
        if odd or len(heads) != len(task.names):
            lost = [n for n in task.names if n not in heads]
            raise DataError(
                f"the sample has the columns {list(heads)[:8]} and the model the classes {list(task.names)[:8]}: "
                f"{odd[:5] or lost[:5]} is in one only. {did_you_mean(odd[0], task.names) if odd else ''}"
            )
        return [probs[:, task.names.index(h)].tolist() for h in heads], "shares"
    if value == "auto":
        value = _value_of(sample.iloc[:, 1], heads[0], task.names)
    if value == "label":
        return [[" ".join(x) if isinstance(x, tuple) else x for x in said.labels]], "labels"
    if positive is None:
        positive = heads[0] if heads[0] in task.names else task.names[-1]
        if len(task.names) > 2 and positive != heads[0]:
            raise ArgumentError(
                f"the column {heads[0]!r} holds one probability, and there are {len(task.names)} classes: "
                f'give positive= one of them, or value="label"'
            )
    return [probs[:, task.column(positive)].tolist()], "shares"


def _value_of(column: Any, head: str, classes: Sequence[str]) -> Value:
    """Whether a column of a sample holds probabilities or labels."""
    cells = [str(c) for c in column.dropna()]
    if cells and all(set(c.split()) <= set(classes) for c in cells):
        if set(classes) <= {"0", "1"}:
            raise ArgumentError(
                f"the column {head!r} of the sample holds {cells[0]}, which may be a class or a probability: give "
                'value="label" or value="probability"'
            )
        return "label"
    try:
        [float(c) for c in cells]
    except ValueError as error:
        raise ArgumentError(
            f"the column {head!r} of the sample holds {cells[0]!r}, which is neither one of the classes "
            f'{list(classes)[:8]} nor a number: give value="label" or value="probability"'
        ) from error
    return "probability"


def _of_table(given: Any, names: Sequence[str]) -> tuple[list[list[Any]], list[str]]:
    import pandas as pd

    if not isinstance(given, pd.DataFrame):
        raise ArgumentError(f"submit takes Predictions, as blend(...).test, or a table, got {type(given).__name__}")
    if list(map(str, given.columns)) != list(names):
        raise DataError(f"the table has the columns {list(given.columns)[:8]}, and the sample {list(names)[:8]}")
    found = []
    for name in names[1:]:
        column = given[name]
        found.append([float("nan") if pd.isna(v) else v for v in column.tolist()])
    ids = [str(int(i)) if isinstance(i, float) and i.is_integer() else str(i) for i in given[names[0]]]
    return found, ids


def _order(ids: Sequence[str], given: Sequence[str], where: str) -> list[int]:
    """Which prediction each row of the sample has."""
    for form in (lambda name: name, lambda name: PurePath(name).name, lambda name: PurePath(name).stem):
        named = [form(name) for name in given]
        if named and (ids[0] in named or len(set(named) & set(ids)) > 0):
            break
    count = Counter(named)
    place = {name: i for i, name in enumerate(named)}
    for row, name in enumerate(ids):
        if name not in place:
            raise DataError(f"{where} {row}: the id {short(name, 60)!r} has no prediction. {did_you_mean(name, given)}")
        if count[name] > 1:
            raise DataError(f"{where} {row}: the id {short(name, 60)!r} has {count[name]} predictions")
    known = set(ids)
    left = next(((i, name) for i, name in enumerate(named) if name not in known), None)
    if left is not None:
        raise DataError(f"prediction {left[0]} is of {short(left[1], 60)!r}, which is no id of the sample")
    return [place[name] for name in ids]


def _check_row(where: str, heads: Sequence[str], row: Sequence[Any], sums: bool, shares: bool) -> None:
    for head, cell in zip(heads, row, strict=True):
        number = isinstance(cell, int | float | np.number)
        if number and not np.isfinite(cell):
            raise DataError(f"{where}: {head!r} is {cell}, and has to be a finite number")
        if not number and not str(cell).strip():
            raise DataError(f"{where}: {head!r} is empty")
        if shares and not (number and -1e-6 <= cell <= 1 + 1e-6):
            raise DataError(f"{where}: {head!r} is {cell}, which is no probability between 0 and 1")
    if sums and len(heads) > 1 and abs(sum(row) - 1) > SUM:
        raise DataError(f"{where}: the probabilities add up to {sum(row):.6g} instead of 1")


def _text(cell: Any) -> str:
    if not isinstance(cell, float):
        return str(cell)
    single = np.float32(cell)  # most models give these, and their fewest digits are enough
    return np.format_float_positional(single if float(single) == cell else cell, trim="-")


def pseudo_label(crossed: Crossed, at_least: float = 0.95, *, fold: int | None = None) -> pd.DataFrame:
    """Test items whose label the models are sure of, as a table to train on as well (Lee, ICML workshop 2013).

    Args:
        crossed: what `cross_fit(..., test=True)` gave.
        at_least: the probability from which a label is taken; of several labels, each has to be as far from 0 or 1.
        fold: take the models of this fold alone. Inside of a `make` that follows the same plan write `fold=p.fold`:
            the items that the fold validates then have no part in the labels that it trains on, and out-of-fold scores
            stay honest; with all folds they do not.

    Returns:
        Columns id, label and probability.

    Raises:
        ArgumentError: these are no classes of items, such as numbers or boxes.
    """
    import pandas as pd

    check_number("at_least", at_least, "above 0", "at most 1")
    if not isinstance(crossed, Crossed):
        raise ArgumentError(f"pseudo_label takes what cross_fit(..., test=True) gave, got {type(crossed).__name__}")
    if crossed.test is None:
        raise DataError("there are no predictions of a test split to take labels from: cross_fit(..., test=True)")
    if fold is not None and fold not in crossed.parts:
        raise ArgumentError(f"there is no fold {fold}: they are numbered from 0 to {len(crossed.parts) - 1}")
    said = crossed.test if fold is None else crossed.parts[fold]
    if not (said.task.is_exclusive or said.task.is_multi):
        what = "numbers" if said.task.predicts_numbers else said.task.kind
        raise ArgumentError(f"pseudo_label takes classes of items that models are sure of, and these are {what}")
    far = said.probs if said.task.is_exclusive else torch.maximum(said.probs, 1 - said.probs)
    sure = far.max(1).values if said.task.is_exclusive else far.min(1).values
    rows = (sure >= at_least).nonzero().flatten().tolist()
    labels = [said.labels[i] for i in rows]
    frame: pd.DataFrame = pd.DataFrame(
        {
            "id": [said.ids[i] for i in rows],
            "label": [" ".join(x) if isinstance(x, tuple) else x for x in labels],
            "probability": [float(sure[i]) for i in rows],
        }
    )
    return frame


def snapshots(learn: Learner, name: str = "cycle", *, split: SplitName = "valid") -> Predictions:
    """The mean of what a learner predicted at the end of each cycle (Snapshot ensembles, arXiv 1704.00109).

    Args:
        learn: fitted with `save_cycles=name`; its weights are afterwards as they were.
        name: of the files, `name_0`, `name_1` and so on.
        split: "train", "valid" or "test".

    Returns:
        Predictions, whose `views` are those of each cycle.

    Raises:
        DataError: there is no such file.
    """
    check_kind("snapshots takes a learner", learn, Learner)
    files: list[str] = []
    while (learn.path / f"{name}_{len(files)}.safetensors").exists():
        files.append(f"{name}_{len(files)}")
    if not files:
        raise DataError(
            f"there is no {learn.path / name}_0.safetensors: fit with save_cycles={name!r} and several cycles first"
        )
    before = {key: value.detach().clone() for key, value in learn.model.state_dict().items()}
    task = learn.task
    try:
        said = [learn.load(file).predict(split=split) for file in files]
    finally:
        learn.task = task
        learn.model.load_state_dict(before)
    return average_predictions(*said)
