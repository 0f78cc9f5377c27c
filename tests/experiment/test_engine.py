"""The engine: jobs in a folder that goes on after kills, by any number of workers, with the same results."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import easylearn as el
from easylearn.errors import ArgumentError, SaveError, StateError, WeightsError
from easylearn.experiment.engine import Engine, once
from easylearn.experiment.leases import Leases
from easylearn.experiment.store import History, Job
from easylearn.experiment.trials import Recipe
from tests.experiment.small_search import fit, make, weights

SETTINGS = {"kind": "test"}
JOBS = [Job(i, {"lr": lr, "hidden": h}, seed=i) for i, (lr, h) in enumerate([(0.1, 4), (0.01, 8), (0.3, 2), (0.05, 4)])]
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def engine(folder: Path, jobs: Any = JOBS, **how: Any) -> Engine:
    recipe = {n: how.pop(n) for n in ("callbacks", "more", "needs", "on_error") if n in how}
    return Engine(folder, SETTINGS, Recipe(make, fit, every=1, **recipe), once(jobs), **how)


def ends(history: History) -> dict[Any, Any]:
    return {k: {n: v for n, v in row.items() if n != "seconds"} for k, row in sorted(history.ends.items())}


def forked(work: Callable[[], object]) -> int:
    """A process that does some work; forked, so that it begins at once."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[str]]:
    """What comes of the jobs without any trouble."""
    one = engine(tmp_path_factory.mktemp("quiet"))
    return ends(one.run()), [weights(one.learner(job)) for job in JOBS]


def test_jobs_are_done_once(tmp_path: Path, quiet: Any) -> None:
    trained: list[int] = []

    def note(job: Job, folder: Path) -> list[Any]:
        assert folder == tmp_path / "trials" / f"{job.trial:04d}"
        trained.append(job.trial)
        return []

    one = engine(tmp_path, callbacks=note)
    history = one.run()
    assert trained == [0, 1, 2, 3] and ends(history) == quiet[0]
    assert ends(one.run()) == quiet[0] and trained == [0, 1, 2, 3]
    assert one.predictions(JOBS[1]).targets is not None
    assert len({end["value"] for end in history.ends.values()}) > 1
    with pytest.raises(StateError, match="trial 2 has no predictions of 'test'"):
        one.predictions(JOBS[2], "test")


def test_the_threads_of_torch_are_given_back(tmp_path: Path) -> None:
    before, seen = torch.get_num_threads(), list[int]()

    def note(job: Job, folder: Path) -> list[Any]:
        seen.append(torch.get_num_threads())
        return []

    engine(tmp_path, JOBS[:1], callbacks=note, threads=2).run()
    assert seen == [2] and torch.get_num_threads() == before


class Interrupt(el.Callback):
    """Raises after so many batches."""

    def __init__(self, after: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.left, self.error = after, error

    def on_batch_end(self, run: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise self.error


def calm(folder: Path) -> Engine:
    """With the callbacks that were there, which do nothing."""
    return engine(folder, callbacks=lambda job, folder: [Interrupt(10**6)])


def test_interrupted_again_and_again_it_comes_to_the_same(tmp_path: Path, quiet: Any) -> None:
    stops = 0
    while True:
        bomb = Interrupt(5)
        try:
            history = engine(tmp_path, callbacks=lambda job, folder, bomb=bomb: [bomb]).run()
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops == 9 and ends(history) == quiet[0]  # 48 batches
    assert [weights(calm(tmp_path).learner(job)) for job in JOBS] == quiet[1]


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
@forks
def test_killed_workers_change_nothing(tmp_path: Path, quiet: Any) -> None:
    """Three processes work, and are killed at random moments; each epoch that ended is noted in a file."""

    class Note(el.Callback):
        def __init__(self, job: Job) -> None:
            self.trial = job.trial

        def on_epoch_end(self, run: Any) -> None:
            with open(tmp_path / f"{os.getpid()}.txt", "a") as file:
                file.write(f"{self.trial} {run.epoch}\n")
            time.sleep(0.01)

    one = engine(tmp_path / "s", callbacks=lambda job, folder: [Note(job)])
    draw, kills = random.Random(0), 0
    crew = [forked(one.run) for _ in range(3)]
    while crew:
        time.sleep(draw.uniform(0.0, 0.15))
        for pid in list(crew):
            over, status = os.waitpid(pid, os.WNOHANG)
            if over:
                assert status == 0
                crew.remove(pid)
        if crew and kills < 12:
            victim = draw.choice(crew)
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            kills += 1
            crew[crew.index(victim)] = forked(one.run)
    assert ends(one.store().history) == quiet[0]
    assert [weights(one.learner(job)) for job in JOBS] == quiet[1]
    done = [line for file in tmp_path.glob("*.txt") for line in file.read_text().splitlines()]
    assert len(set(done)) == 16 and len(done) <= 16 + kills  # a kill between an epoch's end and its checkpoint


def test_what_another_worker_has_is_left_to_it(tmp_path: Path, quiet: Any) -> None:
    one = engine(tmp_path)
    store = one.store()
    store.add_round(JOBS)
    others = Leases(tmp_path / "claims")
    assert others.take("0001-0")
    polls = 0

    def watch(history: History) -> None:
        nonlocal polls
        polls += 1
        assert polls < 3000
        if len(history.ends) == 3:
            assert (1, 0) not in history.ends
            others.give_back("0001-0")

    assert ends(one.run(watch=watch)) == quiet[0]
    others.close()


def test_a_worker_whose_trial_was_taken_over_leaves_it(tmp_path: Path, quiet: Any, monkeypatch: Any) -> None:
    lost = iter([True])
    monkeypatch.setattr(Leases, "is_lost", lambda self, name: next(lost, False))
    monkeypatch.setattr("easylearn.experiment.trials.time.monotonic", iter(range(0, 10**6, 2)).__next__)
    assert ends(engine(tmp_path).run()) == quiet[0]
    assert next(lost, None) is None


def test_an_error_of_a_trial_leaves_it_to_the_next(tmp_path: Path, quiet: Any) -> None:
    with pytest.raises(InterruptedError):
        engine(tmp_path, callbacks=lambda job, folder: [Interrupt(3, InterruptedError)]).run()
    assert ends(calm(tmp_path).run()) == quiet[0]


class InTurn(Executor):
    """Does what it is given at once, in this process."""

    def __init__(self) -> None:
        self.n = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.n += 1
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def test_an_executor_places_jobs(tmp_path: Path, quiet: Any) -> None:
    executor = InTurn()
    assert ends(engine(tmp_path / "a").run(executor)) == quiet[0]
    assert executor.n == 4
    assert ends(engine(tmp_path / "b", order="free").run(InTurn())) == quiet[0]

    def greedy(job: Job, folder: Path) -> list[Any]:
        raise ValueError("of ours")

    class Waits(InTurn):
        """Does the first job; the others would come later."""

        later: list[Future[Any]]

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            if self.n == 0:
                self.later = []
                return super().submit(fn, *args, **kwargs)
            self.later.append(Future())
            return self.later[-1]

    for waiting in (InTurn(), Waits()):
        with pytest.raises(ValueError, match="of ours"):
            engine(tmp_path / type(waiting).__name__, callbacks=greedy).run(waiting)
    assert len(waiting.later) == 3 and all(future.cancelled() for future in waiting.later)  # type: ignore[attr-defined]
    with pytest.raises(ArgumentError, match=r"number of processes or a concurrent\.futures\.Executor, got str"):
        engine(tmp_path / "d").run("two")


def test_rounds_wait_for_all_and_free_does_not(tmp_path: Path) -> None:
    """One job of each round is somebody else's; the plan gives two rounds."""

    def plan(history: History) -> list[Job]:
        return [JOBS[2 * len(history.rounds)], JOBS[2 * len(history.rounds) + 1]] if len(history.rounds) < 2 else []

    for order, most in (("rounds", 1), ("free", 3)):
        folder = tmp_path / order
        one = Engine(folder, SETTINGS, Recipe(make, fit), plan, order)  # type: ignore[arg-type]
        store, others = one.store(), Leases(folder / "claims")
        assert others.take("0000-0")
        seen: list[int] = []

        def watch(history: History, seen: list[int] = seen, others: Leases = others) -> None:
            seen.append(len(history.ends))
            if len(seen) > 12:
                others.give_back("0000-0")

        one.run(watch=watch)
        assert seen[12] == most and len(store.poll().ends) == 4
        others.close()


@contextmanager
def processes(*works: Callable[[], object]) -> Iterator[None]:
    crew = [forked(work) for work in works]
    yield
    assert [os.waitpid(pid, 0)[1] for pid in crew] == [0] * len(crew)


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
@forks
def test_eight_begin_a_new_folder_at_once(tmp_path: Path, quiet: Any) -> None:
    one = engine(tmp_path / "s")
    with processes(*[one.run] * 8):
        pass
    history = one.store().history
    assert ends(history) == quiet[0] and history.rounds == [JOBS]
    events = [line for f in (tmp_path / "s" / "events").iterdir() for line in f.read_text().splitlines()]
    assert len(events) == 4


def test_a_damaged_round_is_told_and_not_waited_for(tmp_path: Path) -> None:
    one = engine(tmp_path)
    one.store()
    (tmp_path / "rounds" / "000000.json").write_text('{"jobs": [], "su', encoding="utf-8")
    with pytest.raises(WeightsError, match=r"000000\.json is damaged.*another folder"):
        one.run()


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("order", ["rounds", "free"])
def test_who_waits_for_somebody_elses_job_leaves_no_files_and_asks_seldom(order: Any, tmp_path: Path) -> None:
    one = engine(tmp_path, JOBS[:1], order=order)
    one.store().add_round(JOBS[:1])
    asked: list[object] = []

    def watch(history: History) -> None:
        if time.monotonic() > until and (workers == 1 or asked):
            raise StoppedError

    class Counts(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            asked.append(fn)
            done: Future[Any] = Future()
            done.set_result(fn(*args, **kwargs))
            return done

    with closing(Leases(tmp_path / "claims")) as other:
        assert other.take("0000-0")
        for workers in (1, Counts()):
            until = time.monotonic() + 0.8
            with pytest.raises(StoppedError):
                one.run(workers, watch)
        assert [f.name for f in (tmp_path / "claims").iterdir() if not f.name.startswith(".")] == ["0000-0.0"]
    assert 0 < len(asked) <= 12


def test_what_is_done_is_read_from_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ends(engine(tmp_path, JOBS[:1]).run())

    def refused(self: Leases, name: str) -> bool:
        raise SaveError(30, f"could not write {name}")

    monkeypatch.setattr(Leases, "take", refused)
    assert ends(engine(tmp_path, JOBS[:1]).run()) == before
    with pytest.raises(SaveError, match="could not write round-0"):
        engine(tmp_path / "new", JOBS[:1]).run()
