"""A trial: one point, fold and seed, trained by the user's own two functions in a folder from which it goes on."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from traceback import clear_frames
from typing import Any

import numpy as np
import torch

from .. import keyed
from ..data.bunch import SplitName
from ..data.order import ItemLoader, Order, TensorSource
from ..errors import ArgumentError, EasyLearnWarning, StateError, WeightsError, did_you_mean, name_of, signature_of
from ..files import StrPath, read_tensors, write_tensors
from ..learning import Learner
from ..nn.body_head import BodyHead
from ..placement import Placement
from ..quiet import Quiet, each_once
from ..task import Predictions, Task
from ..train.callback import Callback
from ..train.callbacks.save import KeepBest
from ..train.checkpoints.writer import Continued
from ..train.monitor import Monitor
from ..train.precompute import FeatureStore
from ..train.predict import evaluate, gather
from ..train.record import Record
from ..train.state import Pause, Run
from .begun import Begun, check_functions
from .curves import is_hopeless
from .lines import Row
from .origin import warn_user
from .store import Job

SCHEMA = 1
_no_nan = Quiet("the (loss|weights) became", EasyLearnWarning)  # the trial's row says it
HOPELESS = "it cannot come to"
_HEADER = "easylearn-predictions"
_PASS_ON = (
    "def fit(learn, p, **how): return learn.fit(p.lr, 3, **how). Without it a trial can neither be watched nor go on "
    "after a kill"
)


class Point:
    """The values of a trial, read by attribute; a name that it does not have is an AttributeError.

    >>> p = point_of({"lr": 0.1})
    >>> p.lr, names_read(p)
    (0.1, {'lr'})
    """

    __slots__ = ("_given", "_read")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._given, self._read = dict(values), set[str]()

    def __reduce__(self) -> tuple[Any, ...]:
        return point_of, (self._given,)

    def __getitem__(self, name: str) -> Any:
        raise ArgumentError(f"the values of a point are read by attribute: p.{name}, not p[{name!r}]")

    def __repr__(self) -> str:
        return f"Point({', '.join(f'{k}={v!r:.60}' for k, v in self._given.items())})"


class _Value:
    """An attribute of a point, which notes that it was read."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, point: Any, owner: Any = None) -> Any:
        point._read.add(self.name)
        return point._given[self.name]

    def __set__(self, point: Any, value: Any) -> None:
        raise StateError(f"a point is read only, so that its trial can be repeated: p.{self.name} = ... is refused")


def point_of(values: Mapping[str, Any]) -> Any:
    """A `Point` with an attribute for each of the values."""
    return type("Point", (Point,), {"__slots__": (), **{name: _Value(name) for name in values}})(values)


def names_read(point: Point) -> set[str]:
    """The names of a point that were read."""
    return set(point._read)


@dataclass(frozen=True)
class Recipe:
    """How the trials of an experiment are made.

    Args:
        make: gives a learner for a point.
        fit: trains it: `fit(learn, p, **how)`, which passes `how` on to `learn.fit`.
        metric: what counts; None takes the learner's first metric with a direction, else the validation loss.
        splits: of which predictions are kept with the trial when it has ended.
        more: gives further names of a job's point, such as the rows of its fold.
        needs: names that `make` and `fit` have to read, with what to tell who does not.
        halving: a promoted trial has this many times the epochs; None trains each trial to its end.
        stop: the level of the interval by which a trial that cannot beat the best so far ends; see `curves`.
        every: when checkpoints are written; see `Learner.fit`.
        callbacks: gives further callbacks of a job, by its folder: new ones of the same classes at each call.
        anew: every rung is trained from its beginning, on more data, say.
        on_error: "skip" makes an error of `make` or `fit` the end of its trial; not an ArgumentError.
        origin: what is noted of the functions with each end; see `origin.origin_of`.
        told: what was warned of, or noted of the data that `make` makes, already.
        begun: which weights trials began and ended with.
    """

    make: Callable[[Any], Learner]
    fit: Callable[..., Any]
    metric: str | None = None
    splits: tuple[SplitName, ...] = ("valid",)
    more: Callable[[Job], Mapping[str, Any]] | None = None
    needs: tuple[tuple[str, str], ...] = ()
    halving: float | None = None
    stop: float | None = None
    every: str | int = "20s"
    callbacks: Callable[[Job, Path], Sequence[Callback]] | None = None
    anew: bool = False
    on_error: str = "raise"
    origin: Row | None = field(default=None, compare=False, repr=False)
    told: set[str] = field(default_factory=set, compare=False, repr=False)
    begun: Begun = field(default_factory=Begun, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_functions(make=self.make, fit=self.fit)

    def point(self, job: Job) -> Any:
        """What `make` and `fit` are given."""
        fold = {} if job.fold is None else {"fold": job.fold}
        return point_of({**job.point, "seed": job.seed, **fold, **(self.more(job) if self.more else {})})


class LeaseLost(Exception):  # noqa: N818  (no error: the trial goes on elsewhere)
    """Somebody else has taken the trial over."""


class _RungReached(Exception):  # noqa: N818
    """A trial is as far as it was to go; whatever `fit` would do after it is left out."""


class _Watch(Callback):
    """Ends a fit at the end of its rung; notes what it is about."""

    def __init__(self, recipe: Recipe, job: Job, is_lost: Callable[[], bool]) -> None:
        self.recipe, self.rung, self.beat, self.is_lost = recipe, job.rung, job.beat, is_lost
        self.fits, self.rungs, self.paused = 0, list[int](), False
        self.monitor = Monitor(recipe.metric)
        self.run: Run | None = None
        self._target: int | None = None
        self._clock = 0.0

    def on_fit_begin(self, run: Run) -> None:
        self.fits, self.run = self.fits + 1, run
        self.monitor.begin(run)
        self._clock = time.monotonic()
        alone = "stop=" if self.recipe.halving is None else "halving"
        if self.fits > 1 and (self.recipe.halving is not None or self.recipe.stop is not None):
            raise ArgumentError(
                f"fit calls learn.fit twice with **how, and {alone} looks at one fit, whose cycles lead to the value "
                "that counts: pass **how to the last one only"
            )
        if self.recipe.halving is None:
            return
        self.rungs = rungs_of(run, self.recipe.halving)
        self._target = self.rungs[min(self.rung, len(self.rungs) - 1)]
        self._pause(run, run.epoch)

    def on_batch_end(self, run: Run) -> None:
        if (now := time.monotonic()) - self._clock > 1:
            self._clock = now
            if self.is_lost():
                raise LeaseLost

    def on_epoch_end(self, run: Run) -> None:
        self._pause(run, run.epoch + 1)
        if self.beat is not None and self.recipe.stop is not None and run.stop_reason is None:
            epochs, values = self._curve(run)
            if is_hopeless(epochs, values, run.n_epochs, self.beat, self.monitor.sign > 0, self.recipe.stop):
                run.stop_reason = f"{HOPELESS} {self.beat:.4g}, by its learning curve after epoch {run.epoch + 1}"

    def _curve(self, run: Run) -> tuple[list[int], list[float]]:
        """The values so far that tell of the end: of ends of cycles, or of all epochs where there is one cycle only."""
        n, values = run.n_epochs, _values(run.record, self.monitor.name, _keeps_best(run))
        ends = {step // run.steps_per_epoch for step in run.cycle_ends if step % run.steps_per_epoch == 0}
        known = [e for e in range(1, min(len(values), n - 1) + 1) if len(run.cycle_ends) == 1 or e in ends]
        if len(values) >= n or (len(run.cycle_ends) == 1 and 2 * len(values) < n):
            return [], []
        return known, [values[e - 1] for e in known]

    def _pause(self, run: Run, epochs: int) -> None:
        if self._target is not None and epochs >= self._target and run.step < run.n_steps and run.stop_reason is None:
            run.stop_reason = Pause(f"the rung of {self._target} epochs is reached")

    def on_fit_end(self, run: Run) -> None:
        if not isinstance(run.stop_reason, Pause):
            return
        if self._target is None or run.epoch < self._target:
            raise KeyboardInterrupt(run.stop_reason)  # what was trained is in the checkpoint; the trial is not done
        self.paused = True
        raise _RungReached


def watcher(recipe: Recipe, job: Job) -> _Watch:
    """A watch for a fit that nobody else is after."""
    return _Watch(recipe, job, lambda: False)


def rungs_of(run: Run, halving: float) -> list[int]:
    """The epochs after which a trial may be compared: ends of cycles, each about `halving` times as far as the last."""
    per_epoch = run.steps_per_epoch
    ends = [step // per_epoch for step in run.cycle_ends if step % per_epoch == 0]
    if len(ends) < 2:
        raise ArgumentError(
            "halving compares trials at ends of cycles, where rates are low, and this fit has one end only: in the "
            "middle of a one-cycle fit, or of one long cycle, the best trial is not yet told from the others. Use "
            "learn.fit(lr, 3, cycle_len=1, cycle_mult=3, **how), which has ends after 1, 4 and 13 epochs"
        )
    rungs, wanted = [ends[-1]], ends[-1] / halving
    while wanted >= max(1.0, ends[0] / math.sqrt(halving)):
        rung = min(ends, key=lambda e: abs(math.log(e / wanted)))
        rungs.append(rung)
        wanted /= halving
    return sorted(set(rungs))


def run_trial(recipe: Recipe, job: Job, folder: Path, is_lost: Callable[[], bool]) -> Row:
    """Train a job to the end of its rung, or go on with it; gives the row that says what came of it.

    Raises:
        ArgumentError: a name was asked of the point that it does not have; `fit` did not pass `**how` on; halving and
            the fit do not go together.
        LeaseLost: another worker has the trial.
    """
    point, begun = recipe.point(job), time.perf_counter()
    watch = _Watch(recipe, job, is_lost)
    row: Row = {"trial": job.trial, "rung": job.rung, "status": "done", "value": None}
    row |= {} if recipe.origin is None else {"origin": recipe.origin}
    try:
        learn = train(recipe, job, point, folder, watch)
        _check_read(recipe, point, watch)
        row |= _outcome(learn, watch)
        told = row["status"] == "done" and not learn.task.is_streamed  # which has a number per token and word
        for split in recipe.splits if told else ():
            write_predictions(folder / f"{split}.safetensors", _said(learn, split, watch.run))
    except (ArgumentError, LeaseLost):
        raise
    except Exception as error:
        memory = _is_out_of_memory(error)
        if not memory and recipe.on_error == "raise":
            raise
        clear_frames(error.__traceback__)
        reason = f"{type(error).__name__}: {error}".strip().split("\n")[0][:300]
        row |= {"status": "infeasible" if memory else "failed", "reason": reason}
    finally:
        watch.run = None  # a circle: the next trial would be made before the memory of this one is given back
    return {**row, "seconds": round(time.perf_counter() - begun, 3)}


def train(recipe: Recipe, job: Job, point: Any, folder: Path, watch: Any) -> Learner:
    """Make the learner of a job and fit it, from where its checkpoints are."""
    extra = list(recipe.callbacks(job, folder)) if recipe.callbacks is not None else []
    own = folder / (f"rung_{job.rung}" if recipe.anew else "checkpoints")
    known = sorted(point._given, key="seed".__eq__)
    how = {"checkpoint": Continued(own), "every": recipe.every, "keep": 1}
    with keyed.scoped_rng(job.seed, "trial"), _no_nan():
        try:
            with each_once(recipe.told):
                learn = recipe.make(point)
            if not isinstance(learn, Learner):
                raise ArgumentError(f"make must give a Learner, and gave {name_of(learn)}: does it end with return?")
            learn.progress = False
            _check_takes(recipe.fit)
            if not own.exists():  # else a checkpoint's weights come over these
                recipe.begun.check(learn.model)
            try:
                recipe.fit(learn, point, **how, callbacks=[watch, *extra])
            finally:
                recipe.begun.end(learn.model)  # where it fails, too: on_error="skip" goes on with the next trial
        except _RungReached as reached:
            clear_frames(reached.__traceback__)  # circles, too: ExitStack's frame holds what was raised in it
        except AttributeError as error:
            if error.obj is not point:
                raise
            raise ArgumentError(
                f"p has no {error.name!r}, which make or fit reads. {did_you_mean(error.name or '', known)}"
            ) from error
    return learn


def _check_takes(fit: Callable[..., Any]) -> None:
    """Refuse a fit that has no place for what it is to pass on."""
    signature = signature_of(fit)
    if signature is None:
        return
    takes = signature.parameters.values()
    names = {p.name for p in takes if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    lacks = [name for name in ("checkpoint", "every", "keep", "callbacks") if name not in names]
    if lacks and all(p.kind != p.VAR_KEYWORD for p in takes):
        raise ArgumentError(f"fit takes no {', '.join(lacks)}, which it is to pass on: {_PASS_ON}")


def _check_read(recipe: Recipe, point: Any, watch: _Watch) -> None:
    names = [n for n in point._given if n not in ("seed", "fold")]
    if unread := [n for n in names if n not in names_read(point) and n not in dict(recipe.needs)]:
        text = f"neither make nor fit reads p.{', p.'.join(unread)}, so it changes nothing"
        if text not in recipe.told:
            recipe.told.add(text)
            warn_user(text)
    if watch.fits == 0:
        raise ArgumentError(f"fit did not pass on what it was given: {_PASS_ON}")
    read = names_read(point)
    for name, advice in recipe.needs:
        if name not in read:
            raise ArgumentError(f"neither make nor fit reads p.{name}: {advice}")


def _outcome(learn: Learner, watch: _Watch) -> Row:
    """What a fit came to: the value of the weights that it ended with, and the values of its epochs."""
    assert learn.record is not None
    name, record = watch.monitor.name, learn.record
    curve = _values(record, name)
    value = curve[-1] if curve else math.nan
    outcome: Row = {"metric": name, "higher": watch.monitor.sign > 0, "epochs": len(curve), "rungs": watch.rungs}
    outcome |= {"curve": [None if not math.isfinite(v) else v for v in curve]}
    if math.isfinite(value):
        run = watch.run
        if run is not None and run.record is record and _keeps_best(run):
            at = _values(record, name, True)[-1]
            outcome |= {"at_epoch": at} if math.isfinite(at) else {}
            value = _at_end(run, name, value)
    if math.isfinite(value):  # also that of the best weights, as of first ones that say the same of all items
        if str(record.stop_reason).startswith(HOPELESS):
            return {**outcome, "value": value, "status": "stopped", "reason": str(record.stop_reason)}
        return {**outcome, "value": value, "status": "paused" if watch.paused else "done"}
    reason = str(record.stop_reason or f"{name} became {value}")
    return {**outcome, "status": "diverged", "reason": reason[:300]}


def _keeps_best(run: Run) -> bool:
    return any(isinstance(c, KeepBest) for c in run.callbacks)


def _values(record: Record, name: str, of_best: bool = False) -> list[float]:
    """A metric after each epoch; `of_best`: of the best weights so far, by which a fit would end there."""
    found, least = list[float](), math.inf
    for row in record.epochs:
        loss = float(row.get("valid_loss", math.nan))
        better = loss < least or not found
        least = min(least, loss) if better and not math.isnan(loss) else least
        found.append(float(row.get(name, math.nan)) if better or not of_best else found[-1])
    return found


def _at_end(run: Run, name: str, last: float) -> float:
    """The value of the weights that a fit ended with, where these are not those of its `last` epoch."""
    found = {} if run.valid_loader is None else evaluate(run.model, run.valid_loader, run.task, run.strategy)
    return found.get(name, last)


def _said(learn: Learner, split: SplitName, run: Run | None) -> Predictions:
    """Predictions of a split; out of stored features, which folds share, where the head was trained on these."""
    own, model = learn.data.loader(split), learn.model
    stored = learn.precompute and isinstance(own, ItemLoader)
    if stored and split == "valid" and run is not None and run.valid_loader is not None:
        logits, targets = gather(run.model, run.valid_loader, run.strategy)
    elif not stored or not isinstance(model, BodyHead):
        said: Predictions = learn.predict(split=split)
        return said
    else:
        assert isinstance(own, ItemLoader)
        features = FeatureStore().table(model, learn.data, split, learn.strategy)
        order = Order(len(features), learn.data.batch_size, False)
        loader = ItemLoader(order, TensorSource([features], np.arange(len(features))), own.target)
        logits, targets = gather(model.head, loader, learn.strategy)
    probs, data = learn.task.activate(logits), learn.data
    return Predictions.of(learn.task, probs, data.ids(split), targets, places=data.places(split))


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "can't allocate memory" in text


# -- predictions of a trial ------------------------------------------------------------------------------------


def write_predictions(path: StrPath, said: Predictions) -> None:
    """Write predictions with their ids into one file, whole."""
    tensors = {"probs": said.probs, "views": said.views if len(said.views) > 1 else torch.zeros(0)}
    tensors |= {} if said.targets is None else {"targets": said.targets}
    if said.places:
        rows = [[*p.shape, *p.frame, p.top, p.left, *p.inner] for p in said.places]
        tensors["places"] = torch.tensor(rows, dtype=torch.int64)
    header = {"schema": SCHEMA, "task": said.task.to_json(), "ids": list(said.ids)}
    write_tensors(path, tensors, {_HEADER: json.dumps(header)})


def read_predictions(path: StrPath, task: Task | None = None) -> Predictions:
    """What `write_predictions` wrote.

    Args:
        path: of the file.
        task: with metrics and loss of one's own; None makes one of what the file says, with the usual ones.

    Raises:
        WeightsError: the file is damaged, or something else.
    """
    header, tensors = read_tensors(path, _HEADER, SCHEMA)
    found = Task.from_json((header or {}).get("task"))
    assert header is not None
    views = tensors["views"] if tensors["views"].numel() else None
    places = None
    if (rows := tensors.get("places")) is not None:
        if rows.shape != (len(tensors["probs"]), 8):
            raise WeightsError(f"{path} says in a damaged way where its images lie: {tuple(rows.shape)}")
        places = [Placement((a, b), (c, d), top, left, (e, f)) for a, b, c, d, top, left, e, f in rows.tolist()]
    return Predictions.of(task or found, tensors["probs"], header["ids"], tensors.get("targets"), views, places)
