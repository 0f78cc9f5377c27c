"""The engine: workers that plan rounds of jobs from what is known, claim them, and write down how they end.

No worker leads. Each reads the folder, and does the first job that nobody has; where none is left, it plans the next
round, a function of what has ended. So any number of them may come, be killed, and go on, on any machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..data.bunch import SplitName
from ..device import cpu_threads
from ..errors import ArgumentError, SaveError, StateError
from ..files import StrPath
from ..learning import Learner
from ..task import Predictions
from .leases import LEASE, Leases
from .store import History, Job, Key, Store
from .trials import LeaseLost, Recipe, read_predictions, run_trial, train, watcher
from .workers import pack, run_processes, unpack

Planner = Callable[[History], Sequence[Job]]
"""The next jobs, from what is known; none means that there are no more."""
Order = Literal["rounds", "free"]


@dataclass(frozen=True)
class Engine:
    """An experiment in a folder; it may be sent to other processes.

    Args:
        folder: holds everything.
        settings: what the experiment is, in what JSON can hold; another one in the same folder is refused.
        recipe: how a trial is made.
        plan: the next jobs, a pure function of the history.
        order: in "rounds" all jobs of a round end before the next is planned, so that the number of workers changes
            nothing; "free" plans as soon as a worker has nothing to do.
        threads: of the CPU for each trial; another number may change last bits.
        lease: see `leases.LEASE`.
        spare: jobs that an executor has at a time where the order is free.
    """

    folder: StrPath
    settings: Mapping[str, Any]
    recipe: Recipe
    plan: Planner
    order: Order = "rounds"
    threads: int = 1
    lease: float = LEASE
    spare: int = 4

    def store(self) -> Store:
        """The folder, made or compared."""
        return Store(self.folder, self.settings)

    def run(self, workers: Any = 1, watch: Callable[[History], None] | None = None) -> History:
        """Do all jobs, or go on with them; gives what has been done.

        Args:
            workers: 1 works in this process; a larger number in as many new ones; or a `concurrent.futures.Executor`.
            watch: told what is known, now and then.
        """
        store = self.store()
        if watch is not None:
            watch(store.history)  # what is there before anything begins
        if type(workers) is int and workers == 1:
            history = work(self, store, watch)
        elif isinstance(workers, int):
            history = run_processes(partial(_work_alone, self), store, workers, watch)
        else:
            history = _run_executor(self, store, workers, watch)
        if watch is not None:
            watch(history)
        return history

    def learner(self, job: Job) -> Learner:
        """The learner of a job that has ended, made anew with the weights that it ended with."""
        folder = Path(self.folder) / "trials" / f"{job.trial:04d}"
        watch = watcher(self.recipe, job)
        learn = train(self.recipe, job, self.recipe.point(job), folder, watch)
        watch.run = None  # a circle, which would keep the learner when nobody else does
        return learn

    def predictions(self, job: Job, split: SplitName = "valid") -> Predictions:
        """What was predicted when a job ended.

        Raises:
            StateError: the trial has none: it has not ended, or it diverged.
        """
        path = Path(self.folder) / "trials" / f"{job.trial:04d}" / f"{split}.safetensors"
        if not path.exists():
            raise StateError(f"trial {job.trial} has no predictions of {split!r}: it has not ended well, or had none")
        return read_predictions(path)


def once(jobs: Sequence[Job]) -> Planner:
    """A plan of one round."""
    return partial(_once, tuple(jobs))


def _once(jobs: Sequence[Job], history: History) -> Sequence[Job]:
    return () if history.rounds else jobs


def work(engine: Engine, store: Store, watch: Callable[[History], None] | None = None) -> History:
    """Do jobs until there are no more, and all that there were have ended."""
    leases = Leases(store.folder / "claims", engine.lease)
    pause = 0.002
    with closing(leases), cpu_threads(engine.threads):
        while True:
            history = store.poll()
            if watch is not None:
                watch(history)
            state = step(engine, store, leases)
            if state == "over":
                return store.poll()
            if state == "wait":
                time.sleep(pause)
                pause = min(pause * 1.5, 0.5)
            else:
                pause = 0.002


def _work_alone(engine: Engine) -> None:
    """What a process of its own does."""
    work(engine, engine.store())


def step(engine: Engine, store: Store, leases: Leases) -> Literal["done", "wait", "over"]:
    """Do the next job that nobody has, or plan the next round; "wait" where all of them are somebody's."""
    history = store.history
    waiting = history.open_jobs
    for job in waiting:
        if do_job(engine, store, leases, job):
            return "done"
    if waiting and engine.order == "rounds":
        return "wait"
    return plan_round(engine, store, leases)


def plan_round(engine: Engine, store: Store, leases: Leases) -> Literal["done", "wait", "over"]:
    """Plan the next round, unless somebody else is about it; "over" where there is none and all has ended."""
    history = store.history
    if history.open_jobs and not engine.plan(history):  # each look at what goes on elsewhere would leave a claim
        return "wait"
    name = f"round-{len(history.rounds)}"
    try:
        if not leases.take(name):
            return "wait"
    except SaveError:
        if history.open_jobs or engine.plan(history):
            raise
        return "over"  # a folder that can only be read, and in which all is done
    try:
        if len(store.poll().rounds) > int(name[6:]):  # planned meanwhile
            return "done"
        jobs = engine.plan(history)
        if jobs:
            store.add_round(jobs)
            return "done"
    finally:
        leases.give_back(name)
    return "wait" if history.open_jobs else "over"


def do_job(engine: Engine, store: Store, leases: Leases, job: Job) -> bool:
    """Claim a job, do it and write its end; False if somebody else has it, or had."""
    name = f"{job.trial:04d}-{job.rung}"
    if job.key in store.history.ends or not leases.take(name):
        return False
    try:
        if job.key in store.poll().ends:  # it ended between looking and claiming
            leases.done(name)
            return False
        row = run_trial(engine.recipe, job, store.trial_folder(job.trial), partial(leases.is_lost, name))
        store.end(row)
    except LeaseLost:
        return True
    finally:
        if job.key in store.history.ends:
            leases.done(name)
        else:  # an error or Ctrl-C: whoever comes next need not wait for this process to end
            leases.give_back(name)
    return True


def _run_executor(engine: Engine, store: Store, executor: Any, watch: Callable[[History], None] | None) -> History:
    """Let an executor do the jobs, all that are planned at a time; this process plans them."""
    if not isinstance(executor, Executor):
        raise ArgumentError(
            f"workers must be a number of processes or a concurrent.futures.Executor, got {type(executor).__name__}"
        )
    packed, running = pack(engine), dict[Key, Future[None]]()
    with ExitStack() as stack:
        leases = stack.enter_context(closing(Leases(store.folder / "claims", engine.lease)))
        stack.callback(lambda: [future.cancel() for future in running.values()])  # after an error, or Ctrl-C
        while True:
            history = store.poll()
            if watch is not None:
                watch(history)
            for job in history.open_jobs:
                if job.key not in running:
                    running[job.key] = executor.submit(_do_packed, packed, job)
            if not history.open_jobs or (engine.order == "free" and len(running) < engine.spare):
                state = plan_round(engine, store, leases)
                if state == "over":
                    return store.poll()
                if state == "done":
                    continue
            ended = len(history.ends)
            over, _ = wait(running.values(), timeout=1, return_when=FIRST_COMPLETED)
            for future in over:
                future.result()  # its error is ours
            running = {key: future for key, future in running.items() if future not in over}
            time.sleep(0.2 * (len(store.poll().ends) == ended))  # what is left is somebody else's


def _do_packed(packed: bytes, job: Job) -> None:
    """Do one job of an engine in whatever process this is."""
    engine: Engine = unpack(packed)
    store = engine.store()
    with closing(Leases(store.folder / "claims", engine.lease)) as leases, cpu_threads(engine.threads):
        do_job(engine, store, leases, job)
