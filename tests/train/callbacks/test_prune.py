from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torchs

import easylearn as el
from easylearn.errors import ArgumentError, StateError
from easylearn.learning import Learner
from easylearn.nn.pruning import prunable, smallest
from easylearn.train.callbacks import Prune, WeightAverage
from easylearn.train.state import Pause, Run

STEPS = 16  # in an epoch


def learner(path: Path, **how: Any) -> Learner:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 20, generator=g)
    y = (x[:, 0] > 0).long()
    data = el.TensorData((x, y), (x[:16], y[:16]), el.single_label(["a", "b"]), batch_size=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 10), nn.ReLU(), nn.Linear(10, 2))
    return Learner(data, model, optimizer=el.adamw, device="cpu", progress=False, path=path, **how)


class Watch(el.Callback):
    """The zeros of the first weight after each step, and where they were."""

    def __init__(self, stop: int | None = None) -> None:
        self.shares: list[float] = []
        self.masks: list[torch.Tensor] = []
        self.stop = stop

    def on_batch_begin(self, run: Run) -> None:
        mask = run.model[0].weight == 0  # type: ignore[index]
        self.shares.append(float(mask.double().mean()))
        self.masks.append(mask)

    def on_batch_end(self, run: Run) -> None:
        if run.step == self.stop:
            run.stop_reason = Pause("the hour is over")


def zeros(learn: Learner) -> list[int]:
    return [int((learn.model[k].weight == 0).sum()) for k in (0, 2, 4)]  # type: ignore[index, union-attr, arg-type]


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_the_smallest_numbers_are_those_of_torchs_own_pruning(fraction: float) -> None:
    layer = nn.Linear(30, 20)
    mask = smallest(layer.weight, fraction)
    torchs.l1_unstructured(layer, "weight", amount=int(600 * fraction))
    assert torch.equal(~mask, layer.weight_mask.bool())


def test_the_share_follows_the_cubic_schedule(tmp_path: Path) -> None:
    learn, watch = learner(tmp_path), Watch()
    learn.fit(1e-2, 4, callbacks=[Prune(0.8, start=0.25, end=0.75, every=4), watch])
    begin, end = STEPS, 3 * STEPS
    for step, share in enumerate(watch.shares):
        if step < begin:
            assert share == 0
        elif step % 4 == 0:
            wanted = 0.8 * (1 - (1 - min((step - begin) / (end - begin), 1)) ** 3)
            assert share == int(800 * wanted) / 800
        else:
            assert share == watch.shares[step - 1]  # between two choices zeros stay where they are
            assert torch.equal(watch.masks[step], watch.masks[step - 1])
    assert zeros(learn) == [640, 320, 0]  # the last has 20 numbers: it stays whole


def test_zeros_stay_in_a_second_fit_that_prunes_too_and_grow_from_there(tmp_path: Path) -> None:
    learn = learner(tmp_path)
    learn.fit(1e-2, 1, callbacks=[Prune(0.5, every=1)])
    before = learn.model[0].weight == 0  # type: ignore[index]
    watch = Watch()
    learn.fit(1e-2, 1, callbacks=[Prune(0.8, every=1), watch])
    assert min(watch.shares) >= 0.5
    assert (learn.model[0].weight == 0)[before].all()  # type: ignore[index]
    learn.fit(1e-2, 1, callbacks=[Prune(0.5, every=1)])
    assert zeros(learn)[0] == 640  # none comes back


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_run_goes_on_to_the_bit(tmp_path: Path, accumulate: int) -> None:
    whole, cut = learner(tmp_path, accumulate=accumulate), learner(tmp_path, accumulate=accumulate)
    whole.fit(1e-2, 3, callbacks=[Prune(0.7, every=4), Watch()])
    cut.fit(1e-2, 3, callbacks=[Prune(0.7, every=4), Watch(stop=22)], checkpoint=tmp_path / "run")
    again = learner(tmp_path, accumulate=accumulate)
    again.resume(tmp_path / "run", callbacks=[Prune(0.7, every=4), Watch()])
    for p, q in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(p, q)
    assert zeros(again) == [560, 280, 0]


def test_a_checkpoint_of_other_weights_is_refused() -> None:
    state = {"masks": {"other": torch.zeros(1, dtype=torch.uint8)}, "first": {"other": 0.0}, "chosen": 3}
    prune = Prune()
    prune._weights = {"0.weight": nn.Parameter(torch.zeros(20, 20))}
    with pytest.raises(StateError, match=r"other.*0\.weight"):
        prune.load_state_dict(state)


def test_what_is_frozen_stays_whole(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(20, 40), nn.Linear(40, 10), nn.Linear(10, 2))
    model[0].requires_grad_(False)
    learn = Learner(learner(tmp_path).data, model, device="cpu", progress=False, path=tmp_path)
    learn.fit(1e-2, 1, callbacks=[Prune(0.5, every=1)])
    assert [int((m.weight == 0).sum()) for m in model] == [0, 200, 0]  # type: ignore[arg-type]


def test_an_average_is_pruned_too(tmp_path: Path) -> None:
    learn = learner(tmp_path)
    learn.fit(1e-2, 3, cycle_len=None, callbacks=[Prune(0.5, every=4), WeightAverage("swa")])
    assert zeros(learn)[:2] == [400, 200]


def test_export_then_costs_nothing_and_keeps_no_zero(tmp_path: Path) -> None:
    learn = learner(tmp_path)
    learn.fit(1e-2, 2, callbacks=[Prune(0.75, every=4)])
    report = learn.export(tmp_path / "small", prune=0.75)
    before, after = report.rows["before"], report.rows["after"]
    assert before["valid_loss"] == after["valid_loss"]
    saved = 3 / 4 * 1200 * 4 - 1200 / 8  # the zeros of both weights, less a bit for each number
    assert before["bytes"] - after["bytes"] == pytest.approx(saved, abs=400)
    given = learn.predict(torch.ones(1, 20)).probs
    assert torch.equal(el.load_predictor(tmp_path / "small").predict(torch.ones(1, 20)).probs, given)


@pytest.mark.parametrize(
    "how", [{"amount": 0}, {"amount": 1.0}, {"start": 0.5, "end": 0.5}, {"end": 1.5}, {"every": 0}, {"start": -1}]
)
def test_refuses_impossible_settings(how: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(how))):
        Prune(**how)


def test_convolutions_that_read_little_stay_whole() -> None:
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3, groups=64), nn.Conv2d(64, 32, 1), nn.Linear(9, 40))
    assert list(prunable(net)) == ["2.weight", "3.weight"]
