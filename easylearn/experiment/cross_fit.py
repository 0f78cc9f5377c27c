"""cross_fit: one recipe trained on every fold of a plan, and what it says of each item that it did not see."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..artefact.ensemble import write_ensemble
from ..data.bunch import Data, SplitName
from ..data.folds import Folds
from ..errors import ArgumentError, DataError, StateError, check_whole, short
from ..files import StrPath, as_path
from ..intervals import Interval
from ..learning import Learner
from ..metrics import Metric
from ..placement import Placement
from ..quiet import each_once
from ..task import Predictions, Task
from ..task.gathered import Gathered, by_pieces, stacked
from ..task.predictions import averaged
from .audit import audit_cheaply
from .begun import check_functions
from .certainty import Values, interval, metric_of, values_of
from .engine import Engine, once
from .lines import line_of
from .origin import origin_of, tell_taken, warn_user
from .store import Job, create_once, read_once
from .telling import Line
from .trials import Recipe

if TYPE_CHECKING:
    import pandas as pd

ADVICE = (
    ("valid", "this make trains every fold on the same items: give valid=p.valid to the function that makes the data"),
    ("seed", "the seeds would all be the same training: give seed=p.seed to the function that makes the learner"),
)
NOTE = "items.json"  # in the folder: which item is at which position
PLAN = "plan.json"  # the plan in words


@dataclass(frozen=True, eq=False, repr=False)
class Crossed:
    """What a plan of folds came to: `cross_fit` gives it; made by hand of predictions from elsewhere it blends as well.

    Args:
        plan: which items were held out where.
        oof: the out-of-fold predictions: each item that the plan holds out exactly once, in file order.
        test: of the test split, the mean over all trainings; None where there were none.
        metric: what the score is of.
        parts: the predictions of the test split by fold, for `pseudo_label`.
        engine, jobs: where the trainings are.
    """

    plan: Folds
    oof: Predictions
    test: Predictions | None = None
    metric: Metric | None = None
    parts: Mapping[int, Predictions] = field(default_factory=dict)
    engine: Engine | None = None
    jobs: tuple[Job, ...] = ()

    def __post_init__(self) -> None:
        if len(self.oof) != len(self.plan.held_out):
            raise DataError(
                f"the plan holds out {len(self.plan.held_out):,} items, and there are {len(self.oof):,} out-of-fold "
                "predictions: each item once, in file order"
            )

    @cached_property
    def score(self) -> Interval:
        """The metric of the out-of-fold predictions, with its interval; of the plan's groups, whole ones are drawn."""
        groups = None if self.plan.groups is None else self.plan.groups[self.plan.held_out].tolist()
        return interval(self.oof, metric_of(self.oof, self.metric), groups=groups)

    def table(self) -> pd.DataFrame:
        """One row for each fold: how many items it holds out, and the metric of them."""
        import pandas as pd

        metric, rows = metric_of(self.oof, self.metric), []
        assert self.oof.targets is not None
        for fold, (train, valid) in enumerate(self.plan):
            at = torch.from_numpy(np.searchsorted(self.plan.held_out, valid))
            rows.append([fold, len(train), len(valid), metric(self.oof.probs[at], self.oof.targets[at])])
        frame: pd.DataFrame = pd.DataFrame(rows, columns=["fold", "train", "valid", metric.name]).set_index("fold")
        return frame

    def learners(self) -> Iterator[Learner]:
        """The trained learners, one after the other, made anew with the weights that they ended with."""
        if self.engine is None:
            raise StateError("these predictions come without their trainings, so there are no learners to give")
        yield from (self.engine.learner(job) for job in self.jobs)

    def export(self, path: StrPath) -> Path:
        """Write all the trainings as one file; see `Blend.export`."""
        return export_members(path, [self], (1.0,), None)

    def __repr__(self) -> str:
        return f"Crossed({self.plan!r}: {metric_of(self.oof, self.metric).name} {self.score})"


def cross_fit(
    make: Callable[[Any], Learner], plan: Folds, fit: Callable[..., Any], folder: StrPath, *,
    p: Values = None, seeds: int = 1, seed: int = 0, test: bool = False,
    metric: Metric | None = None, workers: Any = 1, check: bool = True, progress: bool = True,
    callbacks: Callable[[Job, Path], Sequence[Any]] | None = None,
) -> Crossed:  # fmt: skip
    """Train on each fold of a plan and predict what it holds out, so that each item is predicted by who never saw it.

    The same call goes on after any kill, and gives at once what is there already. Whatever data learns (statistics of
    a table, a vocabulary) is learnt by each fold from its own training items; decoded images and features of a frozen
    body are shared.

    Args:
        make: gives a learner for a point `p`: it reads `p.valid`, the positions of the items that validate, and gives
            them on as `valid=p.valid`; and `p.seed`, given on as `seed=p.seed`. There are `p.train` and `p.fold`, too:
            where the plan trains on fewer than all the others (in time), `make` has to leave the rest out.
        plan: `folds(n, k, ...)`, or any such sequence.
        fit: trains it, and passes on what it is given: `def fit(learn, p, **how): return learn.fit(p.lr, 3, **how)`.
        folder: keeps the trainings.
        p: more values of the point, such as `found.best` of a search.
        seeds: how many trainings of each fold are averaged.
        seed: the first of them.
        test: predict the test split, too: the mean over all trainings.
        metric: what the score is of; None takes the learner's first.
        workers: 1, more processes, or a `concurrent.futures.Executor`.
        check: look for what can be found quickly of leaks between the folds; see `audit`. They are warned of.
        progress: print a line for each training as it ends.
        callbacks: of a job and the folder of its trial, for each training; such as a `Track`.

    Returns:
        `oof`, `test` and `score`.

    Raises:
        ArgumentError: `make` does not follow the plan; what it did instead is told.
        StateError: the folder holds something else, or every training of a fold diverged.
    """
    plan = _as_plan(plan)
    check_whole("seeds", seeds)
    check_whole("seed", seed, 0)
    point = values_of(p)
    k = len(plan)
    jobs = tuple(Job(i, point, seed + i // k, i % k) for i in range(k * seeds))
    splits: tuple[SplitName, ...] = ("valid", "test") if test else ("valid",)
    made = Followed(make, plan, str(folder), test)
    needs = ADVICE if seeds > 1 else ADVICE[:1]
    origin, more = origin_of(make, fit), partial(rows_of_fold, plan)
    recipe = Recipe(made, fit, None, splits, more, needs, callbacks=callbacks, origin=origin)
    settings = {"kind": "cross_fit", "plan": plan.fingerprint, "point": point, "seeds": [seed, seeds], "test": test}
    _check_plan(as_path(folder, "a folder"), plan)
    engine = Engine(folder, settings, recipe, once(jobs))
    store = engine.store()
    _note_plan(Path(folder), plan)
    ends = store.history.ends
    tell_taken(store, origin, (job.key for job in jobs), progress)
    if not ends:  # an earlier make may not have followed the plan
        (Path(folder) / NOTE).unlink(missing_ok=True)
    if any(job.key not in ends for job in jobs):
        _look(made, jobs, recipe, check)
    with closing(Line(len(jobs), progress, "fold")) as line:
        history = engine.run(workers, line)
    good = _good(jobs, history.ends, k)
    oof = _out_of_fold(plan, engine, good)
    name = history.ends[good[0].key].get("metric")

    def of_test(some: Iterable[Job]) -> Predictions:
        return _mean(engine.predictions(job, "test") for job in some)

    parts = {f: of_test(job for job in good if job.fold == f) for f in range(k)} if test else {}
    together = of_test(good) if test else None
    return Crossed(plan, oof, together, metric_of(oof, metric, name), parts, engine, good)


def export_members(
    path: StrPath, members: Sequence[Crossed], weights: Sequence[float], ranks: Sequence[Tensor] | None
) -> Path:
    """Write the trainings of members with a weight of more than 0 as one file."""
    with tempfile.TemporaryDirectory() as folder:
        files, shares, tables = [], [], []
        for k, (member, weight) in enumerate(zip(members, weights, strict=True)):
            if weight <= 0:
                continue
            made = []
            for number, learn in enumerate(member.learners()):
                file = Path(folder) / f"{k}-{number}"
                learn.export(file)
                made.append(file)
            files += made
            shares += [weight / len(made)] * len(made)
            tables += [k] * len(made)
        return write_ensemble(path, files, shares, tables, ranks)


def rows_of_fold(plan: Folds, job: Job) -> dict[str, Any]:
    """What the point of a job knows of its fold."""
    assert job.fold is not None
    train, valid = plan[job.fold]
    return {"train": train, "valid": valid}


@dataclass(frozen=True)
class Followed:
    """A `make` whose learners are compared with the plan; may be sent to other processes.

    Args:
        make: the user's.
        plan: which items train and validate.
        folder: where the names of the items are noted, by their positions, for all folds to agree on.
        test: whether there has to be a test split.
    """

    make: Callable[[Any], Learner]
    plan: Folds
    folder: str
    test: bool

    def __post_init__(self) -> None:
        check_functions(make=self.make)

    def __call__(self, p: Any) -> Learner:
        learn, _ = self.make(p), p.train  # which only a plan in time needs
        if isinstance(learn, Learner):
            if learn.task.is_streamed:
                raise ArgumentError("cross_fit keeps what is predicted of each item, and a language model has none")
            if learn.task.is_ranking:
                raise ArgumentError(
                    "an item of these data is a person, of whose things valid= holds back some, so no plan of rows can "
                    "be followed. Give seed=p.seed to InteractionData.from_df, too, and call "
                    "spread(make, fit, seeds=5): each seed then holds back other things"
                )
            self.compare(learn.data, p.fold)
            if self.test and "test" not in learn.data.splits:
                raise ArgumentError("test=True predicts the test split, and the data that make gives has none")
        return learn

    def compare(self, data: Data[Any], fold: int) -> None:
        """Refuse data that is not split as the plan says."""
        train, valid = self.plan[fold]
        found = tuple(len(data.ids(s)) if s in data.splits else 0 for s in ("train", "valid"))
        if found != (len(train), len(valid)):
            in_time = len(train) + len(valid) < self.plan.n
            raise ArgumentError(
                f"fold {fold} trains on {len(train):,} items and validates on {len(valid):,}, but the data that make "
                f"gives has {found[0]:,} and {found[1]:,}: give valid=p.valid to the function that makes the data, of "
                f"all {self.plan.n:,} items in the order of the plan"
                + ("; in time, make it of the rows p.train and p.valid alone" if in_time else "")
            )
        names = positions_of(data, train, valid)
        if names is None:
            return
        note = Path(self.folder) / NOTE
        noted = {str(position): name for position, name in sorted(names.items())}
        with suppress(FileNotFoundError):  # the folder of a learner that is made for its own sake
            if create_once(note, line_of({"fold": fold, "items": noted})):
                return
        before = read_once(note) or {}
        odd = [i for i, name in noted.items() if before.get("items", {}).get(i, name) != name]
        if odd:
            raise ArgumentError(
                f"item {odd[0]} is {short(before['items'][odd[0]], 60)!r} in fold {before['fold']} and "
                f"{short(noted[odd[0]], 60)!r} in fold {fold} ({len(odd):,} such items): make does not split as the "
                "plan says. Give valid=p.valid to the function that makes the data, over the items in one and the same "
                "order"
            )


def positions_of(data: Data[Any], train: Any, valid: Any) -> dict[int, str] | None:
    """A digest of the name of each position, or of its content where names are only numbers within a split."""
    sides = {"train": train, "valid": valid}
    ids = {side: list(data.ids(side)) for side in sides}  # type: ignore[arg-type]
    numbers = all(ids[side] == [f"{side}[{i}]" for i in range(len(ids[side]))] for side in sides)  # as of arrays
    if numbers or set(ids["train"]) & set(ids["valid"]):
        ids = {side: list(data.item_keys(side)) for side in sides}  # type: ignore[arg-type]
        if len({*ids["train"], *ids["valid"]}) < sum(map(len, ids.values())):
            return None
    return {int(i): name for side in sides for i, name in zip(sides[side], ids[side], strict=True)}


def _as_plan(plan: Any) -> Folds:
    if isinstance(plan, Folds):
        return plan
    try:
        pairs = tuple((np.sort(np.asarray(a)), np.sort(np.asarray(b))) for a, b in plan)
        if odd := [side.dtype for pair in pairs for side in pair if side.dtype.kind not in "iu" or side.min() < 0]:
            raise ValueError(f"they are {odd[0]}, not positions from 0 on; of a mask, give np.flatnonzero(mask)")
        n = 1 + max(int(side.max()) for pair in pairs for side in pair)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"plan is what folds(n, k) gives, pairs of positions to train and validate on: {error}"
        ) from error
    for fold, (train, valid) in enumerate(pairs):
        if both := np.intersect1d(train, valid).tolist():
            raise ArgumentError(
                f"fold {fold} of the plan both trains and validates on {len(both)} items, such as {both[0]}"
            )
    return Folds(n, pairs)


def _check_plan(folder: Path, plan: Folds) -> None:
    """Refuse another plan than that of the folder, in words."""
    before = read_once(folder / PLAN) if folder.is_dir() else None
    if before is None or before["fingerprint"] == plan.fingerprint:
        return
    saved, now = before["plan"], repr(plan)
    raise StateError(
        f"{folder} holds another experiment: its plan is {saved}, and "
        + (f"{now} was asked for" if saved != now else "that which was asked for holds out other items")
        + ". The same call goes on with it; anything else needs a folder of its own"
    )


def _note_plan(folder: Path, plan: Folds) -> None:
    create_once(folder / PLAN, line_of({"plan": repr(plan), "fingerprint": plan.fingerprint}))


def _look(made: Followed, jobs: Sequence[Job], recipe: Recipe, check: bool) -> None:
    """Before anything is trained: does make follow the plan in two folds, and what can be found quickly of leaks."""
    for job in jobs[:2]:
        p = recipe.point(job)
        try:
            with each_once(recipe.told):
                learn = made(p)
        except AttributeError:  # told in words by the trial
            return
        if not isinstance(learn, Learner):
            return
        if job.trial == 0 and check:
            found = audit_cheaply(learn.data, made.plan, job.fold or 0)
            if found.leaks:
                warn_user(f"before training, {found}")


def _good(jobs: Sequence[Job], ends: Mapping[Any, Any], k: int) -> tuple[Job, ...]:
    """The trainings that ended well; each fold needs one."""
    good = tuple(job for job in jobs if ends[job.key]["status"] == "done")
    for fold in range(k):
        bad = [job for job in jobs if job.fold == fold and job not in good]
        if not bad:
            continue
        row = ends[bad[0].key]
        told = f"fold {fold} with seed {bad[0].seed} is {row['status']}: {row.get('reason', '')}"
        if len(bad) == len([job for job in jobs if job.fold == fold]):
            raise StateError(f"{told}. No training of this fold ended well; try a smaller rate in a new folder")
        warn_user(f"{told}. The fold is predicted by its other seeds alone")
    return good


def _mean(said: Iterable[Predictions]) -> Predictions:
    """The mean of several trainings' predictions of the same items, of which memory holds one at a time."""
    rest = iter(said)
    first = next(rest)

    def others() -> Iterator[Tensor]:
        for other in rest:
            _check_alike(first, other)
            if first.ids != other.ids:
                raise DataError("the test split is not the same in all folds: make has to give the same one")
            yield other.probs

    stack = stacked(chain([first.probs], others()))
    probs = averaged(first.task, list(stack), stack)
    return Predictions.of(first.task, probs, first.ids, first.targets, places=first.places)


def _check_alike(first: Predictions, other: Predictions) -> None:
    if difference := first.task.same_as(other.task):
        raise DataError(
            f"two folds predict different things: {difference}. Give the list of classes where data is made, classes=, "
            "or stratify the folds"
        )


def _out_of_fold(plan: Folds, engine: Engine, jobs: Sequence[Job]) -> Predictions:
    """Each held-out item once, in file order: what all seeds, and all repeats of the plan, say of it together."""
    said = _read(engine, jobs)
    task, rows, at = said.task, said.probs, np.concatenate([plan[job.fold or 0][1] for job in jobs])
    order = np.argsort(at, kind="stable")
    held, first, counts = np.unique(at[order], return_index=True, return_counts=True)

    def together(items: Tensor) -> Tensor:
        some = items.numpy()
        parts, where = list[Tensor](), list[Any]()
        for n in np.unique(counts[some]).tolist():
            where.append(np.flatnonzero(counts[some] == n))
            each = [rows[order[first[some[where[-1]]] + k]].double() for k in range(n)]
            parts.append((each[0] if n == 1 else task.averaged(each, torch.stack(each))).to(rows.dtype))
        return _joined(task, parts)[np.argsort(np.concatenate(where))]

    every, last = torch.arange(len(held)), order[first + counts - 1]
    probs = together(every) if task.sorts_outputs else by_pieces(together, every, n_bytes=rows.nbytes)
    names = [said.ids[i] for i in last.tolist()]
    if len(set(names)) < len(names):  # numbers within a split: the position names the item
        names = [str(i) for i in held.tolist()]
    known, targets = said.targets, None
    if known is not None:
        targets = by_pieces(lambda some: known[some], torch.from_numpy(last), n_bytes=known.nbytes)
    lie = [said.places[i] for i in last.tolist()] if len(said.places) == len(said.ids) else None
    return Predictions.of(task, probs, names, targets, places=lie)


class _Said(NamedTuple):
    """What all trainings say, one after the other; targets are None where not all are known."""

    task: Task
    probs: Tensor
    targets: Tensor | None
    ids: list[str]
    places: list[Placement]


def _read(engine: Engine, jobs: Sequence[Job]) -> _Said:
    """What is predicted of the items that trainings held out, of which memory holds those of one at a time."""
    rest = map(engine.predictions, jobs)
    start = next(rest)
    task, ids, places, answers = start.task, list[str](), list[Placement](), Gathered()
    padded, n_known = list[Tensor](), 0

    def probs() -> Iterator[Tensor]:
        nonlocal n_known
        for one in chain([start], rest):
            _check_alike(start, one)
            ids.extend(one.ids)
            places.extend(one.places or ())
            yield one.probs  # whoever takes it says what to do where shapes differ
            if one.targets is not None:
                n_known += 1
                (padded.append if task.sorts_outputs else answers.add)(one.targets)

    rows, targets = _joined(task, probs()), None
    if n_known == len(jobs):
        targets = torch.cat([*task.alike(padded)]) if padded else answers.tensor()
    return _Said(task, rows, targets, ids, places)


def _joined(task: Task, tensors: Iterable[Tensor]) -> Tensor:
    """Predictions of several splits, one after the other; of boxes each may have another number, filled up by zeros.

    Raises:
        DataError: what is predicted of an item is not of one shape.
    """
    if task.sorts_outputs:
        tensors = list(tensors)
        most = max(t.shape[1] for t in tensors)
        tensors = [F.pad(t, (0, 0, 0, most - t.shape[1])) for t in tensors]
    rows, like = Gathered(), torch.zeros(0)
    for number, t in enumerate(tensors):
        like = t[:0].clone() if not number else like
        if t.shape[1:] != like.shape[1:]:
            raise DataError(
                f"the folds predict items of the shapes {tuple(like.shape[1:])} and {tuple(t.shape[1:])}, so they "
                "cannot be put together: let make give its data one size="
            )
        rows.add(t.to(like.dtype))
    return rows.tensor()
