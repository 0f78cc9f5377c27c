"""Weights, metrics and files do not depend on how many processes compute the lanes of a batch."""

from __future__ import annotations

import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import easylearn as el
from easylearn.data.order import shard_of
from easylearn.device import at_most_threads
from easylearn.errors import ArgumentError, StateError
from easylearn.learning import Learner
from easylearn.train import processes
from easylearn.train.callback import Callback
from easylearn.train.distributed import Lanes, with_lanes
from easylearn.train.processes import Processes, Tree, launch
from easylearn.train.state import Run
from easylearn.train.strategy import SingleDevice
from tests import learners
from tests.train.together import FITS, At, fitted, made, odd, pause, scores, weights

MakeLearner = Callable[..., Learner]
ROOT = Path(__file__).parents[2]
# As in a notebook, processes are copies of one that has imported everything. Others have a package named tests, too.
SCRIPT = """
import sys, types
sys.modules["tests"] = types.ModuleType("tests")
sys.modules["tests"].__path__ = [sys.argv[1]]
from easylearn import launch
from tests.train import together
launch(vars(together)[sys.argv[3]], 2, sys.argv[2])
"""


def launched(work: str, folder: Path) -> list[dict[str, Any]]:
    """What each of two processes has found that did some `work` of `together`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(ROOT / "tests"), str(folder), work]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have left, which went on with what one had begun."""
    folder: Path = tmp_path_factory.mktemp("two")
    with at_most_threads(1):
        for kind in ("language", "tensors"):
            begun = made(kind)
            begun.fit(0.01, 2, checkpoint=folder / f"{kind} of one", callbacks=[At(3, 0, pause)])
    return folder


@pytest.fixture(scope="module")
def told(folder: Path) -> list[dict[str, Any]]:
    """What each of the two has found."""
    return launched("work", folder)


class TestTwoProcesses:
    @pytest.mark.parametrize("kind", FITS)
    def test_weights_and_metrics_are_those_of_one(self, told: list[dict[str, Any]], kind: str) -> None:
        with at_most_threads(1):
            alone = json.loads(json.dumps(fitted(kind)))
        assert told[0][kind] == told[1][kind] == alone

    @pytest.mark.parametrize("kind", ["language", "tensors"])
    def test_a_run_goes_on_with_another_number_of_them(
        self, folder: Path, told: list[dict[str, Any]], kind: str
    ) -> None:
        with at_most_threads(1):
            whole, resumed = made(kind), made(kind, lanes=None)
            whole.fit(0.01, 2)
            resumed.resume(folder / kind, callbacks=[At(3, 1, pause)])
        assert resumed.strategy.lanes == 2 and weights(resumed) == weights(whole)
        assert [t[f"{kind} resumed"] for t in told] == [weights(whole)] * 2
        assert [t[f"{kind} paused"] for t in told] == [[3, "the hour is over", True]] * 2

    def test_each_item_is_validated_once(self, told: list[dict[str, Any]]) -> None:
        with at_most_threads(1):
            alone = odd()
            torch.manual_seed(0)
            alone.model = nn.Linear(5, 3)
            expected = scores(alone)
        assert told[0]["odd"] == told[1]["odd"] == expected

    def test_both_find_the_same_rate_and_the_first_one_saves(self, folder: Path, told: list[dict[str, Any]]) -> None:
        assert told[0]["lr_find"] == told[1]["lr_find"] and len(told[0]["lr_find"]) == 12
        assert told[0]["saved"] == told[1]["saved"] and (folder / "saved.safetensors").is_file()

    def test_one_process_may_end_the_fit(self, told: list[dict[str, Any]]) -> None:
        assert told[0]["stopped"] == told[1]["stopped"] == [4, "the time is over"]

    def test_an_error_of_one_ends_the_other(self, told: list[dict[str, Any]]) -> None:
        assert told[1]["error"][0] == "ZeroDivisionError"
        kind, message = told[0]["error"]
        assert kind == "StateError" and "process 1 of 2" in message and "a mistake of one's own" in message


class TestLanes:
    def test_without_noise_they_are_the_whole_batch(
        self, make_learner: MakeLearner, make_model: Any, make_data: Any
    ) -> None:
        data = make_data(n_train=43, batch_size=16)  # the last batch has 11 items: lanes of 2, 3, 3, 3
        whole, cut = (make_learner(make_model("plain", 3)[0], data, lanes=n, clip=0.5) for n in (1, 4))
        losses = [learn.fit(0.1, 2).losses for learn in (whole, cut)]
        assert isinstance(whole.strategy, SingleDevice) and not isinstance(whole.strategy, Lanes)
        torch.testing.assert_close(torch.tensor(losses[0]), torch.tensor(losses[1]), rtol=1e-5, atol=1e-6)
        for p, q in zip(whole.model.parameters(), cut.model.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("optimizer", [el.sgd, el.adamw])
    def test_weights_in_another_layout_get_their_own_gradients(self, optimizer: Any) -> None:
        x, y = torch.randn(24, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 2
        found = []
        for lanes in (1, 2):
            torch.manual_seed(0)
            net = nn.Sequential(
                nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)
            )
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            data = el.TensorData((x, y), None, el.single_label(["a", "b"]), batch_size=8)
            learn = Learner(data, net, lanes=lanes, optimizer=optimizer, device="cpu", progress=False)
            found.append((learn.fit(0.01, 2).losses, [p.detach() for p in net.parameters()]))
        assert not found[0][1][2].is_contiguous()
        torch.testing.assert_close(torch.tensor(found[0][0]), torch.tensor(found[1][0]), rtol=1e-4, atol=1e-5)

    def test_batch_norm_takes_the_mean_of_what_each_lane_sees(self) -> None:
        x, y = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1] * 4)
        net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
        data = el.TensorData((x, y), None, el.single_label(["a", "b"]), batch_size=8)
        rows = next(data.loader("train", training=True).batches(torch.device("cpu"), 0, 0)).inputs[0]
        Learner(data, net, lanes=2, device="cpu", progress=False).fit(0.0, 1)
        assert net[0].num_batches_tracked == 1  # type: ignore[operator]
        torch.testing.assert_close(net[0].running_mean, 0.1 * rows.mean(0))
        lanes = torch.stack([rows[:4].var(0), rows[4:].var(0)]).mean(0)
        torch.testing.assert_close(net[0].running_var, 0.9 + 0.1 * lanes)

    def test_a_weight_without_a_gradient_stays(self) -> None:
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.used, self.idle = nn.Linear(2, 1), nn.Linear(2, 1)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.used(x)  # type: ignore[no-any-return]

        net = Net()
        before = net.idle.weight.clone()
        data = el.TensorData((torch.ones(8, 2), torch.zeros(8, 1)), None, el.regression(), batch_size=4)
        Learner(data, net, lanes=2, wd=0.5, device="cpu", progress=False).fit(0.1, 1)
        assert torch.equal(net.idle.weight, before)

    @pytest.mark.parametrize("what", ["batch", "loss"])
    def test_a_callback_that_replaces_what_is_of_a_lane_has_to_say_so(
        self, make_learner: MakeLearner, what: str
    ) -> None:
        class Silent(Callback):
            def on_batch_begin(self, run: Run) -> None:
                if what == "batch":
                    assert run.batch is not None
                    run.batch = replace(run.batch)

            def on_loss(self, run: Run) -> None:
                if what == "loss":
                    assert run.loss is not None
                    run.loss = run.loss * 2

        class Saying(Silent):
            changes_steps = True

        with pytest.raises(ArgumentError, match=f"run.{what}.*changes_steps"):
            make_learner(lanes=2, callbacks=[Silent()]).fit(0.1, 1)
        make_learner(lanes=2, callbacks=[Saying()]).fit(0.1, 1)

    def test_ctrl_c_waits_for_the_step_that_all_make(self, make_learner: MakeLearner, at: Any) -> None:
        learn = make_learner(lanes=2)
        record = learn.fit(
            0.1, 1, callbacks=[at(batch_end=lambda run: run.step == 2 and signal.raise_signal(signal.SIGINT))]
        )
        assert len(record) == 3 and isinstance(record.stop_reason, el.Pause)

    def test_plan_and_lr_find_leave_everything(self, make_learner: MakeLearner, capsys: Any) -> None:
        learn = make_learner(lanes=2)
        before = weights(learn)
        learn.plan(0.1, 1), learn.lr_find(n_steps=10)
        assert weights(learn) == before and "step" in capsys.readouterr().out

    def test_numbers_that_do_not_fit(self) -> None:
        for lanes, world in ((3, 2), (6, 2), (1, 2), (0, 1)):
            with pytest.raises(ArgumentError, match="lanes"):
                Lanes(lanes, True, Processes(0, world, None) if world > 1 else None, "cpu")
        assert [list(Lanes(6, True, Processes(r, 3, None), "cpu").own) for r in range(3)] == [[0, 1], [2, 3], [4, 5]]
        assert len(Lanes(6, False, Processes(1, 2, None), "cpu").own) == 3
        with pytest.raises(ArgumentError, match=r"strategy=.*lanes="):
            learners.tensors(lanes=2, strategy=SingleDevice("cpu"))

    def test_a_run_keeps_its_lanes(self) -> None:
        two = with_lanes(SingleDevice("cpu", "fp32", 0.5, 3), 2)
        assert isinstance(two, Lanes) and (two.lanes, two.clip, two.accumulate) == (2, 0.5, 3)
        one = with_lanes(two, 1)
        assert type(one) is SingleDevice and (one.clip, one.accumulate) == (0.5, 3) and with_lanes(one, 1) is one
        with pytest.raises(StateError, match="begun with 1 lane"):
            with_lanes(Lanes(2, True, Processes(0, 2, None), "cpu"), 1)


class TestGoOn:
    def test_it_begins_goes_on_and_ends(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        whole = make_learner()
        whole.fit(0.1, 2)
        for _ in range(3):
            learn = make_learner()
            learn.fit(0.1, 2, checkpoint=tmp_path, go_on=True, callbacks=[At(3, 0, pause)])
        assert weights(learn) == weights(whole)

    @pytest.mark.parametrize("one_cycle", [True, False])
    def test_with_a_saver_and_a_schedule_of_ones_own(
        self, make_learner: MakeLearner, tmp_path: Path, one_cycle: bool
    ) -> None:
        class Mine(el.SaveBest):
            """A class that the file does not know."""

        def fit(learn: Learner, **more: Any) -> Learner:
            if one_cycle:
                learn.fit_one_cycle(0.1, 2, save_best=Mine("m"), **more)
            else:
                learn.fit(0.1, 2, save_best=Mine("m"), schedule=lambda epoch, n: 1 - epoch / n / 2, **more)
            return learn

        whole = fit(make_learner())
        for _ in range(2):
            learn = fit(make_learner(), checkpoint=tmp_path, go_on=True, callbacks=[At(3, 0, pause)])
        assert weights(learn) == weights(whole)

    def test_another_plan_is_refused(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        make_learner().fit(0.1, 2, checkpoint=tmp_path, go_on=True, callbacks=[At(3, 0, pause)])
        for lr, n in ((0.1, 5), (0.2, 2)):
            with pytest.raises(StateError, match=rf"rates \[0\.1.*go_on=True.*rates \[{lr}.*another folder"):
                make_learner().fit(lr, n, checkpoint=tmp_path, go_on=True)

    def test_it_needs_a_folder(self, make_learner: MakeLearner) -> None:
        with pytest.raises(ArgumentError, match=r"go_on.*checkpoint="):
            make_learner().fit(0.1, 1, go_on=True)


def test_a_fit_that_has_ended_is_let_go_of(make_learner: MakeLearner) -> None:
    kept: list[weakref.ref[Any]] = []

    class Keep(Callback):
        def on_fit_begin(self, run: Run) -> None:
            kept.append(weakref.ref(run.optimizer))

    for lanes in (1, 2):
        learn = make_learner(lanes=lanes)
        learn.fit(0.1, 1, callbacks=[Keep()])
        gc.collect()
        assert kept.pop()() is None


# -- who waits for others ----------------------------------------------------------------------------------


class Store:
    """A store in this process, as those of torch are asked."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.is_gone = False

    def set(self, key: str, value: str) -> None:
        self._answer()
        self.held[key] = value.encode()

    def get(self, key: str) -> bytes:
        self._answer()
        return self.held[key]

    def check(self, keys: list[str]) -> bool:
        self._answer()
        return all(key in self.held for key in keys)

    def _answer(self) -> None:
        if self.is_gone:
            raise RuntimeError("Connection reset by peer")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    made: list[Any] = []

    class Watch(processes._Watch):
        def __init__(self, *given: Any) -> None:
            made.append(self)
            super().__init__(*given)

    monkeypatch.setattr(processes, "_Watch", Watch)
    for name, seconds in (("LOOK", 0.01), ("LOST", 0.3), ("JOIN", 0.5)):
        monkeypatch.setattr(processes, name, seconds)
    yield
    for each in made:
        each.failed = 0, "the test is over"  # its thread ends


class Clock:
    """Goes on when the thread that looks around sleeps: so nobody seems lost because the machine is busy."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        if threading.current_thread() is not threading.main_thread():
            self.now += seconds
        time.sleep(0.001)


@pytest.fixture
def clock(quick: None, monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(processes, "time", made)
    return made


def never() -> None:
    time.sleep(20)


@pytest.mark.usefixtures("quick")
class TestWaiting:
    @pytest.mark.usefixtures("clock")
    def test_whoever_is_not_heard_of_any_more_ends_the_others(self) -> None:
        store = Store()
        store.set("alive 1", "7")
        with pytest.raises(StateError, match=r"process 1 of 3 .*silence.*go_on=True"):
            Processes(0, 3, store).watching(never)
        with pytest.raises(StateError, match=r"process 1 of 3 .*silence"):
            Processes(2, 3, store).watching(never)  # which looks after process 0, and is told

    def test_whoever_lives_is_waited_for(self, clock: Clock) -> None:
        class Living(Store):
            def get(self, key: str) -> bytes:
                return str(clock.now).encode() if key == "alive 1" else super().get(key)

        def work() -> None:
            while clock.now < 1.0:
                time.sleep(0.001)

        store = Living()
        store.set("alive 1", "0")
        Processes(0, 2, store).watching(work)

    @pytest.mark.usefixtures("clock")
    def test_a_store_that_is_gone_is_not_waited_for(self) -> None:
        store = Store()
        alone = Processes(0, 2, store)
        store.is_gone = True
        with pytest.raises(StateError, match=r"process 0 of 2 has not reached the store.*host of the first"):
            alone.watching(never)

    def test_an_error_of_torch_is_told_as_what_it_means(self) -> None:
        def broken() -> None:
            raise RuntimeError("Connection closed by peer")

        with pytest.raises(StateError, match=r"process 0 of 2 has lost another one.*Connection closed"):
            Processes(0, 2, None).watching(broken)

    def test_the_error_of_another_process_is_told_however_late_the_store_is_read(self, clock: Clock) -> None:
        class Slow(Store):
            def check(self, keys: list[str]) -> bool:
                time.sleep(0.05)
                return super().check(keys)

        def broken() -> None:
            store.set("easylearn failed", json.dumps([1, "ValueError: a file is missing"]))
            raise RuntimeError("Connection closed by peer")

        store = Slow()
        with pytest.raises(StateError, match="process 1 of 2 ended with ValueError: a file is missing"):
            Processes(0, 2, store).watching(broken)

    @pytest.fixture
    def second(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """This process is the second of two, whose first was not started."""
        place = {"RANK": "1", "WORLD_SIZE": "2", "EASYLEARN_RENDEZVOUS": (tmp_path / "meet").as_uri()}
        for name, value in place.items():
            monkeypatch.setenv(name, value)

    @pytest.mark.usefixtures("second")
    def test_nobody_waits_for_ever_for_one_that_was_not_started(self) -> None:
        with pytest.raises(StateError, match=r"process 1 of 2 has waited .* for the others.*MASTER_PORT"):
            processes.join.__wrapped__()

    @pytest.mark.usefixtures("second")
    def test_who_gave_up_waiting_before_anybody_looked_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def in_vain(store: Any, rank: int, world: int, until: float) -> str:
            while time.monotonic() <= until:
                time.sleep(0.01)
            return ""

        monkeypatch.setattr(processes, "LOOK", 60.0)
        monkeypatch.setattr(processes, "_attempt", in_vain)
        with pytest.raises(StateError, match=r"process 1 of 2 has waited .* for the others"):
            processes.join.__wrapped__()

    def test_an_attempt_is_of_those_that_are_there_now(self) -> None:
        store, until = Store(), time.monotonic() + 60
        stale = "0123"
        store.set("attempt", stale)  # as one left them that was killed
        store.set(f"{stale} 1", "4567")
        store.set(f"{stale} begins", '["4567"]')
        with ThreadPoolExecutor() as pool:
            late = [pool.submit(processes._attempt, store, rank, 3, until) for rank in (1, 2)]
            time.sleep(0.1)
            assert not any(each.done() for each in late)
            first = pool.submit(processes._attempt, store, 0, 3, until)
            names = {each.result() for each in (first, *late)}
        assert len(names) == 1 and names != {stale}


@given(n=st.integers(0, 40), lanes=st.sampled_from([1, 2, 3, 4, 6, 8, 12]))
def test_no_lane_has_a_single_row(n: int, lanes: int) -> None:
    rows = [list(range(n)[shard_of(n, (lane, lanes, 2))]) for lane in range(lanes)]
    assert list(itertools.chain(*rows)) == list(range(n))
    assert all(len(r) != 1 for r in rows) or n == 1
    if n >= 2 * lanes:
        assert rows == [list(range(n)[shard_of(n, (lane, lanes))]) for lane in range(lanes)]


@given(numbers=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=24), k=st.integers(0, 3))
def test_branches_of_the_tree_may_be_added_up_elsewhere(numbers: list[float], k: int) -> None:
    """Those of 2^k neighbours, each by another process."""
    whole, of_branches = Tree(), Tree()
    for number in numbers:
        whole.add(torch.tensor([number]))
    for first in range(0, len(numbers), 2**k):
        branch = Tree()
        for number in numbers[first : first + 2**k]:
            branch.add(torch.tensor([number]))
        of_branches.add(branch.result())
    total = whole.result()
    if len(numbers) % 2**k == 0:
        assert torch.equal(total, of_branches.result())
    torch.testing.assert_close(total.double(), torch.tensor([sum(numbers)]).double(), rtol=1e-4, atol=10.0)


def test_launch_of_one_is_a_call() -> None:
    called: list[int] = []
    launch(called.append, 1, 7)
    assert called == [7]
    with pytest.raises(ArgumentError, match="how many processes"):
        launch(called.append, 0)


FORKED = """
import torch
from easylearn.train import processes
processes.usable_cores = lambda: 8
def work():
    said = f"{torch.randn(4_000_000).relu_().ge(0).all().item()} {torch.get_num_threads()}\\n"
    print(said, end="", flush=True)  # in one piece: three processes write
torch.set_num_threads(4)
work()
processes.launch(work, 2)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_in_a_notebook_that_has_computed_with_threads_launch_does_not_hang() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["True 1", "True 1", "True 4"]


@pytest.mark.slow
def test_the_example_comes_to_the_same_weights(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    found = set()
    for world in ("1", "2"):
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", world]
        script = [str(ROOT / "examples" / "distributed" / "train.py"), "--epochs", "1", "--out", str(tmp_path / world)]
        done = subprocess.run([*start, *script], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0 and f"{world} processes" in done.stdout, done.stderr
        found.add(done.stdout.split()[-1])
    assert len(found) == 1
