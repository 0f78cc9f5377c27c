from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from easylearn import schedules
from easylearn.learning import Learner
from easylearn.train.optim import adamw, sgd
from easylearn.train.record import Record

MakeLearner = Callable[..., Learner]
LRS = [0.01, 0.02, 0.03]


@pytest.fixture
def learn(make_learner: MakeLearner, make_data: Any) -> Learner:
    return make_learner(data=make_data(n_train=40))  # ten batches


def torchs(
    record: Record, make: Callable[[torch.optim.Optimizer], Any], optimizer: Any = torch.optim.SGD
) -> list[tuple[float, ...]]:
    """The rates that a scheduler of torch's gives, stepped once per batch."""
    params = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in LRS]
    made = optimizer(params, lr=LRS[-1])
    scheduler = make(made)
    rates = []
    for _ in range(len(record)):
        rates.append(tuple(g["lr"] for g in made.param_groups))
        made.step()
        scheduler.step()
    return rates


def agree(record: Record, expected: list[tuple[float, ...]], rel: float = 1e-9) -> None:
    assert len(record) == len(expected)
    for ours, theirs in zip(record.rates, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=rel, abs=1e-12)


@pytest.mark.parametrize(
    ("n", "cycle_len", "cycle_mult", "epochs"), [(3, 1, 2, 7), (3, 2, 1, 6), (3, 2, 2, 14), (4, 1, 1, 4)]
)
def test_cycles_are_warm_restarts(learn: Learner, n: int, cycle_len: int, cycle_mult: int, epochs: int) -> None:
    record = learn.fit(LRS, n, cycle_len=cycle_len, cycle_mult=cycle_mult)
    assert len(record.epochs) == epochs
    agree(record, torchs(record, lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 10 * cycle_len, cycle_mult)))
    start = 0
    for k in range(n):
        assert record.rates[start] == tuple(LRS)  # exactly, at each cycle's first batch
        start += 10 * cycle_len * cycle_mult**k


def test_one_long_cycle_is_cosine_annealing(learn: Learner) -> None:
    record = learn.fit(LRS, 1, cycle_len=5)
    agree(record, torchs(record, lambda o: lr_scheduler.CosineAnnealingLR(o, 50)))


def test_no_cycles_is_constant(learn: Learner) -> None:
    assert set(learn.fit(LRS, 3, cycle_len=None).rates) == {tuple(LRS)}


@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_one_cycle_is_torchs(make_learner: MakeLearner, make_data: Any, optimizer: Any) -> None:
    learn = make_learner(data=make_data(n_train=40), optimizer=optimizer)
    record = learn.fit_one_cycle(LRS, 4)
    # torch goes through its phases in whole steps, to total - 1; ours in shares of all steps. Made to meet:
    steps = 40
    theirs = torchs(
        record,
        lambda o: lr_scheduler.OneCycleLR(
            o,
            LRS,
            total_steps=steps + 1,
            pct_start=(0.25 * steps + 1) / (steps + 1),
            div_factor=25,
            final_div_factor=1e5 / 25,
        ),
        torch.optim.SGD if optimizer is sgd else torch.optim.AdamW,
    )
    agree(record, theirs)


def test_momentum_of_one_cycle_is_torchs(learn: Learner) -> None:
    record = learn.fit_one_cycle(LRS, 4)
    made = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    theirs = lr_scheduler.OneCycleLR(made, 0.1, total_steps=41, pct_start=11 / 41, final_div_factor=1e5 / 25)
    for momentum in record.momentum:
        assert momentum == pytest.approx(made.param_groups[0]["momentum"], abs=1e-9)
        made.step()
        theirs.step()


def test_momentum_of_adam_is_its_first_beta(make_learner: MakeLearner, at: Any) -> None:
    seen: list[tuple[float, float]] = []
    spy = at(batch_end=lambda run: seen.append(run.optimizer.param_groups[0]["betas"]))
    record = make_learner(optimizer=adamw).fit_one_cycle(0.1, 2, callbacks=[spy])
    assert [b[0] for b in seen] == record.momentum and {b[1] for b in seen} == {0.99}
    assert record.momentum[0] == 0.95 and min(record.momentum) == pytest.approx(0.85, abs=0.01)


def test_momentum_is_left_alone_unless_asked_for(make_learner: MakeLearner) -> None:
    assert set(make_learner().fit(0.1, 2).momentum) == {0.9}
    assert set(make_learner().fit_one_cycle(0.1, 2, momentum=None).momentum) == {0.9}
    assert set(make_learner(optimizer=torch.optim.Rprop).fit_one_cycle(0.1, 1).momentum) == {0.0}


def test_steps_are_torchs_milestones(learn: Learner) -> None:
    record = learn.fit(LRS, 5, schedule=schedules.step([2, 4], 0.1))
    agree(record, torchs(record, lambda o: lr_scheduler.MultiStepLR(o, [20, 40], 0.1)))


def test_exponential_is_torchs(learn: Learner) -> None:
    record = learn.fit(LRS, 2, schedule=schedules.exponential(1.0, 0.01))
    agree(record, torchs(record, lambda o: lr_scheduler.ExponentialLR(o, 0.01 ** (1 / 20))))


def test_polynomial_is_torchs(learn: Learner) -> None:
    record = learn.fit(LRS, 3, schedule=schedules.polynomial(2.0))
    agree(record, torchs(record, lambda o: lr_scheduler.PolynomialLR(o, 30, power=2.0)))


def test_fractional_cycles_end_on_whole_batches_and_never_rise_inside(learn: Learner) -> None:
    record = learn.fit(0.1, 4, cycle_mult=1.37)
    lengths = [round(10 * 1.37**k) for k in range(4)]
    assert len(record) == sum(lengths)
    start = 0
    for length in lengths:
        rates = [r[-1] for r in record.rates[start : start + length]]
        assert rates[0] == 0.1 and all(a > b for a, b in pairwise(rates))
        start += length


def test_the_rate_recorded_is_the_rate_of_the_step(learn: Learner, at: Any) -> None:
    seen: list[tuple[float, ...]] = []
    record = learn.fit(
        LRS, 2, callbacks=[at(grads=lambda run: seen.append(tuple(g["lr"] for g in run.optimizer.param_groups)))]
    )
    assert seen == record.rates


def test_frozen_groups_have_no_rate(learn: Learner) -> None:
    learn.freeze_to(1)
    record = learn.fit(LRS, 1)
    assert record.group_names == ("late", "head") and record.rates[0] == (0.02, 0.03)


def test_fine_tune_is_frozen_then_spread(learn: Learner, at: Any) -> None:
    seen: list[tuple[tuple[str, ...], list[float]]] = []
    spy = at(
        fit_begin=lambda run: seen.append((run.record.group_names, [g["base_lr"] for g in run.optimizer.param_groups]))
    )
    record = learn.fine_tune(2, 0.02, callbacks=[spy])
    assert seen[0] == (("head",), [0.02])
    assert seen[1][0] == ("stem", "late", "head") and seen[1][1] == pytest.approx([1e-4, 1e-3, 1e-2])
    assert learn.epochs_done == 3 and len(record.epochs) == 2
