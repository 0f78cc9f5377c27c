"""What a model must beat: the best constant, and what ten lines of scikit-learn give for the same items."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .. import keyed
from ..data.bunch import PlainInputs, SplitName
from ..data.order import ItemLoader
from ..errors import DataError, StateError
from ..nn.body_head import BodyHead
from ..quiet import no_warnings
from ..task import ExclusiveTask, Task
from ..train.checkpoints.context import RunContext
from ..train.precompute import FeatureStore
from ..train.predict import evaluate, gather, score
from ..train.record import Record
from . import rankers
from .interpret import Interpretation
from .page import number

if TYPE_CHECKING:
    import pandas as pd

OWN, CONSTANT = "this model", "best constant"
NO_BETTER = "no better than a constant"
MOST_SCORES = 50_000_000  # of persons and items, in one matrix; of more persons some are drawn
MOST_ROWS = 50_000  # that a reference learns from, drawn evenly
CERTAIN = 2.0  # standard errors of the mean difference from which a model is below another
SHARE = 0.1  # of the time of training, within which a report computes a reference
# Seconds for each number of the inputs and each output, on one core: logistic regression with lbfgs took 3e-8 to 5e-8
# on 1,000 rows of 2,560 features and 2 to 100 classes, boosted trees 1.2e-6 on Adult's 26,000 rows.
_LINEAR, _TREES, _LEAST = 5e-8, 1.5e-6, 0.02
_WIDEST = 255  # different codes of a column that boosted trees take for categories

MOST_NUMBERS = 50_000_000  # in all rows, up to which trees are grown

Matrix = Any  # of NumPy or SciPy
Outputs = npt.NDArray[Any]
Fit = Callable[[Task, PlainInputs, PlainInputs, Outputs], Outputs]


@dataclass(frozen=True, repr=False)
class Baseline:
    """The scores of a model beside what it must beat; `learn.baseline()` makes it.

    Args:
        split: whose items were predicted.
        scores: the loss and the metrics by name, of "this model", "best constant" and each reference.
        judged_by: the metric that the verdict goes by: the first with a direction, else the loss.
        verdict: "no better than a constant", "below" the best reference by more than two standard errors, or "".
        left_out: why there is no reference, or not all; empty where nothing is left out.
        drawn: how many of the split were predicted, where these are not all; `to_frame` names its index so.

    >>> Baseline("valid", {OWN: {"accuracy": 0.9}, CONSTANT: {"accuracy": 0.5}}, "accuracy")
                   accuracy
    this model       0.9000
    best constant    0.5000
    """

    split: SplitName
    scores: Mapping[str, Mapping[str, float]]
    judged_by: str
    verdict: str = ""
    left_out: str = ""
    drawn: str = ""

    @property
    def references(self) -> tuple[str, ...]:
        """The names of the simple models."""
        return tuple(name for name in self.scores if name not in (OWN, CONSTANT))

    def to_frame(self) -> pd.DataFrame:
        """A row for each model, with its loss and its metrics."""
        import pandas as pd

        frame: pd.DataFrame = pd.DataFrame.from_dict(dict(self.scores), orient="index")
        frame.index.name = self.drawn or None
        return frame

    def in_words(self) -> str:
        """The verdict as a sentence with the numbers that it goes by; empty where there is none."""
        if not self.verdict:
            return ""
        values = (f"{name} {number(row[self.judged_by])}" for name, row in self.scores.items())
        return f"The model is {self.verdict}. By {self.judged_by.replace('_', ' ')}: {', '.join(values)}."

    def __repr__(self) -> str:
        table = self.to_frame().to_string(float_format=number)
        return "\n".join([table, *(line for line in (self.verdict, self.left_out) if line)])


def compare_with_baseline(
    run: RunContext,
    store: FeatureStore,
    split: SplitName,
    said: tuple[Tensor, Tensor] | None = None,
    seconds: float = math.inf,
    epochs: float = math.inf,
) -> Baseline:
    """The scores of a model beside those of the best constant and of simple references, which learn the training items.

    Args:
        run: model, data, task and strategy.
        store: of the body's features.
        split: whose items are predicted.
        said: outputs and targets of these items, where they are known.
        seconds, epochs: that training took; references that would take more than a tenth of it are left out.

    Raises:
        DataError: the split has no targets, or there are no items to learn from.
        StateError: the kind of task does not say what a constant is.
    """
    task = run.task
    targets, constant = None, None
    plain = run.data.plain_inputs("train") if task.is_ranking and split != "train" else None
    if plain is not None and plain.words is not None:  # targets of all would be persons times items
        constant = task.outputs_of(torch.from_numpy(np.bincount(plain.words[0], minlength=task.n_out)))
    if constant is None:
        targets = _training_targets(run)
        constant = task.first_outputs(targets)
    if constant is None:
        raise StateError(
            f"there is no simple reference for {task.kind}, which do not say what constant is the best (the task "
            "has no `first_outputs`): look at the metrics of learn.validate()"
        )
    if task.is_streamed:
        return _of_stream(run, constant.float(), split)
    drawn = ""
    if task.is_ranking and said is None and split != "train":
        some = run.data.at_most(split, MOST_SCORES // task.n_out)
        if some is not run.data:
            drawn = f"{len(some.ids(split)):,} persons, drawn from {len(run.data.ids(split)):,}"
        run = replace(run, data=some)
    told = f"predicting {split}" if store.progress else ""
    logits, target = gather(run.model, run.data.loader(split), run.strategy, told) if said is None else said
    if target is None:
        raise DataError(f"the items of the {split} split have no targets, so there is nothing to compare with")
    everywhere = constant.to(logits.dtype).reshape(-1, *[1] * (logits.ndim - 2))  # of masks also at each pixel
    outputs = {OWN: logits, CONSTANT: everywhere.expand(len(target), -1, *logits.shape[2:])}
    left_out: list[str] = []
    for name, said_by_it in _references(run, store, split, targets, (SHARE * seconds, SHARE * epochs), left_out):
        outputs[name] = said_by_it.to(logits.dtype)
    scores = {name: score(o.reshape(logits.shape), target, task, run.strategy) for name, o in outputs.items()}
    judged_by, verdict = _verdict(task, outputs, scores, target)
    more = f"left out, as it takes more than a tenth of the training: {', '.join(left_out)}" if left_out else ""
    return Baseline(split, scores, judged_by, verdict, more, drawn)


def baseline_of(
    run: RunContext, store: FeatureStore, found: Interpretation | None, record: Record | None
) -> Baseline | None:
    """What a report shows of an interpretation's model and of references that cost less than a tenth of its `record`.

    None where nothing can be compared: nothing was trained, the task says no constant, or scikit-learn is missing.
    """
    if found is None or record is None or not record.epochs:
        return None
    seconds = sum(row["seconds"] for row in record.epochs) + sum(record.before.values())
    try:
        said = found.logits, found.targets
        run = replace(run, data=found.data)  # of many persons some
        return compare_with_baseline(run, store, found.split, said, seconds, len(record.epochs))
    except (DataError, StateError):
        return None


def _training_targets(run: RunContext) -> Tensor:
    """The targets of the training items: those that are known, else as they come."""
    if "train" not in run.data.splits:
        raise DataError("this learner came out of a file and has no items to learn from: call learn.set_data(data)")
    loader = run.data.loader("train")
    plain = run.data.plain_inputs("train") if run.task.is_streamed else None
    if plain is not None and plain.words is not None:  # a language model's targets are its text
        return torch.from_numpy(np.asarray(plain.words[0]).astype(np.int64))
    if isinstance(loader, ItemLoader) and loader.target is not None:
        return loader.target.cpu()
    with closing(loader.batches(torch.device("cpu"))) as batches:
        found = [batch.target for batch in batches if batch.target is not None]
    if not found:
        raise DataError("the training items have no targets, so there is nothing to learn from them")
    return torch.cat(found)


def _of_stream(run: RunContext, constant: Tensor, split: SplitName) -> Baseline:
    """Of a language model: the frequencies of the tokens, whatever came before."""
    total = run.task.accumulator()
    with closing(run.data.loader(split).batches(torch.device("cpu"))) as batches:
        for batch in batches:
            assert batch.target is not None
            total.add(constant.expand(*batch.target.shape, -1), batch.target)
    scores = {OWN: evaluate(run.model, run.data.loader(split), run.task, run.strategy), CONSTANT: total.result()}
    judged_by, verdict = _verdict(run.task, {}, scores, None)
    return Baseline(split, scores, judged_by, verdict)


def _verdict(
    task: Task, outputs: Mapping[str, Tensor], scores: Mapping[str, Mapping[str, float]], target: Tensor | None
) -> tuple[str, str]:
    """The metric that counts, and what is to be said by it."""
    metric = next((m for m in task.metrics if m.higher_is_better is not None), None)
    name, higher = ("valid_loss", False) if metric is None else (metric.name, metric.higher_is_better)

    def gain(other: str, by: str = name, sign: float = 1.0 if higher else -1.0) -> float:
        return sign * (scores[OWN][by] - scores[other][by])

    # Of rare labels a constant is right nearly always: only where its loss is as good, too, nothing was learnt.
    if gain(CONSTANT) <= 0 and gain(CONSTANT, "valid_loss", -1.0) <= 0:
        return name, NO_BETTER
    best = max((n for n in outputs if n not in (OWN, CONSTANT)), key=lambda n: -gain(n), default=None)
    if best is None or target is None or not gain(best) < 0:
        return name, ""
    if metric is None or metric.per_item is not None:
        of = task.item_losses if metric is None or metric.per_item is None else metric.per_item
        ready = metric is None or metric.needs == "logits"
        pair = [of(o if ready else task.activate(o), target).double() for o in (outputs[OWN], outputs[best])]
        apart = (pair[0] - pair[1]).reshape(len(target), -1).mean(1)
        if abs(float(apart.mean())) <= CERTAIN * float(apart.std()) / len(target) ** 0.5:
            return name, ""
    return name, f"below the simple reference: {best}"


# -- simple models -----------------------------------------------------------------------------------------------


def _references(
    run: RunContext, store: FeatureStore, split: SplitName, target: Tensor | None, most: tuple[float, float],
    left_out: list[str],
) -> Iterator[tuple[str, Tensor]]:  # fmt: skip
    """The outputs of each simple model for the items of a split, learnt from the `target` of the training items.

    The names of those that cost more than the `most` seconds and epochs are left out.
    """
    task, (seconds, epochs) = run.task, most
    if task.is_ranking:
        yield from _rankings(run, split, target, seconds, left_out)
    if target is None or task.of_pixels or not (task.is_exclusive or task.is_multi or task.predicts_numbers):
        return
    answers = _answers(task, target)
    if len(np.unique(answers)) < 2:
        return
    rows = np.sort(keyed.permutation(len(target), 0, "baseline")[:MOST_ROWS])
    for name, fit, cost, train, other in _candidates(run, store, split, epochs, left_out):
        few = train.rows(rows)
        if _LEAST + cost * few.size * (1 if task.n_out == 2 else task.n_out) > seconds:
            left_out.append(name)
            continue
        with no_warnings():  # of a solver that stops before its end
            said = torch.from_numpy(fit(task, few, other, answers[rows]))
        yield name, said if task.predicts_numbers else task.outputs_for(said.clamp(1e-7, 1 - 1e-7))


def _rankings(
    run: RunContext, split: SplitName, target: Tensor | None, seconds: float, left_out: list[str]
) -> Iterator[tuple[str, Tensor]]:  # fmt: skip
    """The scores of simple recommenders, of those that cost at most so many seconds and fit into memory."""
    plain = run.data.plain_inputs("train"), run.data.plain_inputs(split)
    if plain[0] is None or plain[1] is None:
        return
    train, known = rankers.taken(plain[0]), rankers.taken(plain[1])
    if target is not None:  # of the training split: of a history, which targets leave out, what is asked for is no part
        known = type(train)((target < 0).float().numpy())
    for name, rank, *cost in rankers.RANKERS:
        if train.shape[1] > rankers.MOST_ITEMS or rankers.seconds(*train.shape, *cost) > seconds:
            left_out.append(name)
        else:
            yield name, torch.from_numpy(rank(train, known))


def _candidates(
    run: RunContext, store: FeatureStore, split: SplitName, epochs: float, left_out: list[str]
) -> Iterator[tuple[str, Fit, float, PlainInputs, PlainInputs]]:
    """Name, way and cost of each simple model that has inputs here: those of the training items, and the others."""
    kind = "ridge regression" if run.task.predicts_numbers else "logistic regression"
    if isinstance(run.model, BodyHead) and _has_keys(run):
        tables = _features(run, run.model, store, split, epochs)
        name = f"{kind} on the body's features"
        if tables is None:
            left_out.append(name)
        else:
            train, other = (PlainInputs(t.float().flatten(1).numpy()) for t in tables)
            yield name, _linear, _LINEAR, train, other
    plain = run.data.plain_inputs("train"), run.data.plain_inputs(split)
    if plain[0] is not None and plain[1] is not None:
        yield kind if plain[0].words is None else f"TF-IDF, {kind}", _linear, _LINEAR, plain[0], plain[1]
        if plain[0].words is None and not run.task.is_multi and plain[0].size < MOST_NUMBERS:
            yield "boosted trees", _trees, _TREES, plain[0], plain[1]


def _has_keys(run: RunContext) -> bool:
    """Whether it is known of an item which it is, so that features can be stored."""
    try:
        return bool(run.data.item_keys("train", [0]))
    except DataError:
        return False


def _features(
    run: RunContext, model: BodyHead, store: FeatureStore, split: SplitName, epochs: float
) -> list[Tensor] | None:
    """Features of the training items and of a split: those stored of the body as it came, else of what it is now.

    None where they would have to be computed, and a tenth of the training was less than one epoch, as a way through all
    items without gradients is.
    """
    splits: tuple[SplitName, SplitName] = ("train", split)
    found = [store.first_table(run.data, s) for s in splits]
    known = [t for t in found if t is not None]
    if len(known) < 2 and epochs >= 1:
        known = [store.table(model, run.data, s, run.strategy) for s in splits]
    return known if len(known) == 2 else None


def _answers(task: Task, target: Tensor) -> Outputs:
    """Targets as scikit-learn takes them: numbers as a model's outputs are, so that they have one scale."""
    if isinstance(task, ExclusiveTask):
        return task.class_numbers(target).numpy()
    return task.outputs_for(target.reshape(len(target), -1)).numpy() if task.predicts_numbers else target.numpy() > 0.5


def _linear(task: Task, train: PlainInputs, other: PlainInputs, answers: Outputs) -> Outputs:
    """A linear model of scaled numbers, categories and TF-IDF: of users and items it is the mean of each."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    x, new = _matrices(train, other)
    if task.predicts_numbers:
        return np.asarray(Ridge().fit(x, answers).predict(new)).reshape(new.shape[0], -1)
    plain = LogisticRegression(max_iter=1000)
    return _probs(task, (OneVsRestClassifier(plain) if task.is_multi else plain).fit(x, answers), new)


def _trees(task: Task, train: PlainInputs, other: PlainInputs, answers: Outputs) -> Outputs:
    """Boosted trees as scikit-learn makes them; columns of many categories are taken by their codes."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    codes = [] if train.codes is None else [train.codes.max(0) < _WIDEST]
    mask = np.concatenate([np.zeros(0 if train.numbers is None else train.numbers.shape[1], bool), *codes])
    (x, new) = (np.hstack([t for t in (p.numbers, p.codes) if t is not None]).astype(float) for p in (train, other))
    how = {"categorical_features": mask, "random_state": 0}
    if task.predicts_numbers:
        return np.stack([HistGradientBoostingRegressor(**how).fit(x, y).predict(new) for y in answers.T], 1)
    return _probs(task, HistGradientBoostingClassifier(**how).fit(x, answers), new)


def _probs(task: Task, fitted: Any, new: Matrix) -> Outputs:
    """Probabilities of all classes, (n, n_out); none of one that the rows did not have."""
    said = fitted.predict_proba(new)
    probs = np.zeros((len(said), task.n_out))
    probs[:, np.asarray(fitted.classes_, int)] = said
    return probs


def _matrices(train: PlainInputs, other: PlainInputs) -> tuple[Matrix, Matrix]:
    """What a linear model is given: one matrix for the items that it learns from, one for the others."""
    from scipy import sparse  # type: ignore[import-untyped]
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    def counts(words: tuple[npt.NDArray[Any], npt.NDArray[np.int64], int]) -> Matrix:
        ids, offsets, size = words
        rows = sparse.csr_matrix((np.ones(len(ids)), ids.astype(np.int64), offsets), (len(offsets) - 1, size))
        rows.sum_duplicates()
        return rows

    pairs: list[tuple[Matrix, Matrix]] = []
    for scaler, (a, b) in (
        (StandardScaler(), (train.numbers, other.numbers)),
        (OneHotEncoder(handle_unknown="ignore"), (train.codes, other.codes)),
        (TfidfTransformer(sublinear_tf=True), tuple(p.words and counts(p.words) for p in (train, other))),
    ):
        if a is not None and b is not None and a.shape[1]:
            pairs.append((scaler.fit_transform(a), scaler.transform(b)))
    if len(pairs) == 1:
        return pairs[0]
    return sparse.hstack([a for a, _ in pairs]).tocsr(), sparse.hstack([b for _, b in pairs]).tocsr()
