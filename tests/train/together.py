"""What the tests of several processes let each of them do; a module of its own, which processes can import."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import easylearn as el
from easylearn.errors import ArgumentError
from easylearn.files import digest
from easylearn.learning import Learner
from easylearn.train import sharded
from easylearn.train.callback import Callback
from easylearn.train.sharded import Sharded
from easylearn.train.state import Pause, Run
from tests import learners

CPU_ALONE = {"device": "cpu", "progress": False}
PLAIN = torch.optim.SGD  # AdamW makes a step of full length of the rounding in a gradient that is 0
FITS: dict[str, Callable[..., Learner]] = {
    "tensors": learners.tensors,
    "mixed images": lambda **how: learners.images(callbacks=[el.MixUp()], **how),
    "tables": lambda **how: learners.tables(accumulate=3, clip=0.1, **how),
    "texts": learners.texts,
    "language": learners.language,
}


class At(Callback):
    """Does something after one step, in one process."""

    def __init__(self, step: int, rank: int, what: Callable[[Run], None]) -> None:
        self.step, self.rank, self.what = step, rank, what

    def on_batch_end(self, run: Run) -> None:
        if run.step == self.step and run.strategy.rank == self.rank:
            self.what(run)


class Clock(Callback):
    """Ends a fit before its fourth step is over, by a clock that one process has."""

    def on_loss(self, run: Run) -> None:
        if run.step == 3 and run.strategy.rank == 1:
            run.stop_reason = "the time is over"


def stopped(**how: Any) -> list[Any]:
    learn = made("tensors", optimizer=PLAIN, **how)
    learn.fit(0.01, 2, callbacks=[Clock()])
    assert learn.record is not None
    return [len(learn.record.losses), learn.record.stop_reason]


def pause(run: Run) -> None:
    run.stop_reason = Pause("the hour is over")


def fail(run: Run) -> None:
    raise ZeroDivisionError("a mistake of one's own")


def weights(learn: Learner) -> str:
    state = sorted(learn.model.state_dict().items())
    return digest(p for name, v in state for p in (name, v.contiguous().view(-1).view(torch.uint8).numpy().data))


def last_row(learn: Learner) -> dict[str, float]:
    assert learn.record is not None
    return {name: value for name, value in learn.record.last.items() if name != "seconds"}


def made(kind: str, lanes: int | None = 2, **how: Any) -> Learner:
    learn = FITS[kind](lanes=lanes, **CPU_ALONE, **how)
    learn.unfreeze()
    return learn


def fitted(kind: str) -> list[Any]:
    """Weights and metrics after an epoch."""
    learn = made(kind)
    learn.fit(0.01, 1)
    return [weights(learn), last_row(learn)]


def odd(**how: Any) -> Learner:
    """101 items to validate."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(107, 5, generator=g), torch.arange(107) % 3
    torch.manual_seed(1)
    data = el.TensorData((x[:6], y[:6]), (x[6:], y[6:]), el.single_label(["a", "b", "c"]), batch_size=4)
    return Learner(data, nn.Linear(5, 3), metrics=[el.accuracy, el.f1], **CPU_ALONE, **how)


def scores(learn: Learner) -> list[Any]:
    probs, _ = learn.predict()
    return [weights(learn) if type(learn.strategy) is not Sharded else "", learn.validate(), probs.tolist()]


def sharded_fit(kind: str, **how: Any) -> list[Any]:
    """Losses and metrics of an epoch, and of which kinds the weights are."""
    learn = made(kind, shard="fsdp", optimizer=PLAIN, **how)
    learn.fit(0.01, 1)
    assert learn.record is not None
    shares = sorted({type(p).__name__ for p in learn.model.parameters()})
    return [learn.record.losses, last_row(learn), shares]


def share_out(folder: str) -> None:
    """What is asked of each of two processes that have shares of the weights."""
    torch.set_num_threads(1)
    os.environ["EASYLEARN_CACHE"] = str(Path(folder, "cache"))
    sharded.LEAST_NUMBERS = 40  # so that there is more than one block
    found: dict[str, Any] = {kind: sharded_fit(kind) for kind in FITS}
    found["stopped"] = stopped(shard="fsdp")
    found["more lanes"] = sharded_fit("tables", lanes=4)
    learn = made("tensors", shard="fsdp", optimizer=PLAIN)
    learn.fit(0.01, 2, checkpoint=Path(folder, "sharded"), every=5, callbacks=[At(3, 1, pause)])
    learn = made("tensors", shard="fsdp", optimizer=PLAIN)
    learn.resume(Path(folder, "tensors of one"), callbacks=[At(3, 1, pause)])
    found["resumed"] = last_row(learn)
    for begin in (True, False):  # of the weights that are averaged at the end some come out of a file, whole
        learn, how = made("tensors", shard="fsdp", optimizer=PLAIN), [el.KeepBest(3), At(33, 1, pause)]
        if begin:
            learn.fit(0.01, 4, checkpoint=Path(folder, "averaged"), callbacks=how)
        else:
            learn.resume(Path(folder, "averaged"), callbacks=how)
    found["averaged"] = learn.validate()
    found["odd"] = scores(odd(shard="fsdp"))
    learn = made("texts", shard="fsdp")
    before = learn.validate()
    rates = learn.lr_find(end_lr=1e-3, n_steps=12).losses
    learn.fit(0.01, 1, save_best="best")
    found["validated"] = [before, learn.validate(), rates]
    learn.save(Path(folder, "of shares"))
    learn.export(Path(folder, "of shares.easylearn"))
    learn.load(Path(folder, "of shares"))
    found["loaded"] = learn.validate()
    for callback in (el.WeightAverage(), el.Prune()):
        try:
            learn.fit(0.01, 1, callbacks=[callback])
        except ArgumentError as error:
            found[type(callback).__name__] = str(error)
    learn = FITS["mixed images"](shard="fsdp", **CPU_ALONE)
    learn.freeze()
    learn.precompute = True
    try:
        learn.fit(0.01, 1)
    except ArgumentError as error:
        found["precompute"] = str(error)
    Path(folder, f"{os.environ['RANK']}.json").write_text(json.dumps(found))


def work(folder: str) -> None:
    """Everything that is asked of each of two processes; what came of it goes into a file."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    os.environ["EASYLEARN_CACHE"] = str(Path(folder, "cache"))
    found: dict[str, Any] = {kind: fitted(kind) for kind in FITS}
    for kind in ("language", "tensors"):
        learn = made(kind)
        learn.fit(0.01, 2, checkpoint=Path(folder, kind), every=5, callbacks=[At(3, 1, pause)])
        assert learn.record is not None
        reason = learn.record.stop_reason
        found[f"{kind} paused"] = [len(learn.record), reason, isinstance(reason, Pause)]
        learn = made(kind, lanes=None)
        learn.fit(0.01, 2, checkpoint=Path(folder, f"{kind} of one"), go_on=True, callbacks=[At(3, 1, fail)])
        found[f"{kind} resumed"] = weights(learn)
    learn = odd()
    torch.manual_seed(rank)  # what a script draws by itself
    learn.model = nn.Linear(5, 3)
    found["odd"] = scores(learn)
    found["stopped"] = stopped()
    found["lr_find"] = learn.lr_find(n_steps=12).losses
    found["saved"] = str(learn.save(Path(folder, "saved")))
    learn.load(Path(folder, "saved"))
    try:
        learn.fit(0.01, 9, callbacks=[At(4, 1, fail)])
    except Exception as error:
        found["error"] = [type(error).__name__, str(error)]
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
