from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from easylearn import schedules
from easylearn.errors import ArgumentError
from easylearn.train.plan import FitPlan, count_of, plan_fit


def plan(n: int | None = None, *, epochs: int | None = None, **changes: Any) -> FitPlan:
    return plan_fit((0.1,), changes.pop("steps_per_epoch", 10), count_of(n, epochs), **changes)


def multipliers(of: FitPlan) -> list[float]:
    per_epoch = of.steps_per_epoch
    return [of.schedule(step / per_epoch, of.n_steps / per_epoch) for step in range(of.n_steps)]


@pytest.mark.parametrize(
    ("n", "cycle_len", "cycle_mult", "epochs"),
    [
        (3, 1, 2, 7),
        (3, 2, 1, 6),
        (3, 2, 2, 14),
        (3, 1, 1, 3),
        (1, 4, 1, 4),
        (4, None, 1, 4),
        (2, 1, 3, 4),
        (1, 1, 9, 1),
    ],
)
def test_epochs(n: int, cycle_len: int | None, cycle_mult: int, epochs: int) -> None:
    made = plan(n, cycle_len=cycle_len, cycle_mult=cycle_mult)
    assert made.n_epochs == epochs and made.n_steps == 10 * epochs
    assert plan(epochs=n, cycle_len=cycle_len, cycle_mult=cycle_mult) == made
    if cycle_len is not None:
        assert len(made.cycle_ends) == n


def test_one_cycle_if_nothing_is_said() -> None:
    assert plan() == plan(1) == plan(epochs=1)


@given(
    n=st.integers(1, 4),
    cycle_len=st.one_of(st.integers(1, 3), st.floats(0.3, 3.0)),
    cycle_mult=st.one_of(st.integers(1, 3), st.floats(0.5, 3.0)),
    steps=st.integers(1, 20),
)
def test_cycles_restart_at_the_rate_and_never_rise_inside(
    n: int, cycle_len: float, cycle_mult: float, steps: int
) -> None:
    made = plan(n, cycle_len=cycle_len, cycle_mult=cycle_mult, steps_per_epoch=steps)
    found = multipliers(made)
    starts = [0, *made.cycle_ends[:-1]]
    for start, end in zip(starts, made.cycle_ends, strict=True):
        cycle = found[start:end]
        assert cycle[0] == 1.0
        assert all(a >= b for a, b in pairwise(cycle))
    for k, (start, end) in enumerate(zip(starts, made.cycle_ends, strict=True)):
        assert abs((end - start) - max(cycle_len * cycle_mult**k * steps, 1)) <= 0.5 + 1e-9


@pytest.mark.parametrize(("n", "cycle_len", "cycle_mult"), [(3, 1, 2), (3, 2, 1), (3, 2, 2), (3, 1, 1)])
def test_against_torchs_warm_restarts(n: int, cycle_len: int, cycle_mult: int) -> None:
    made = plan(n, cycle_len=cycle_len, cycle_mult=cycle_mult)
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([p], lr=0.1)
    torchs = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, cycle_len * 10, cycle_mult)
    for multiplier in multipliers(made):
        assert 0.1 * multiplier == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        torchs.step()


def test_no_cycles_is_a_constant_rate() -> None:
    assert set(multipliers(plan(3, cycle_len=None))) == {1.0}
    assert plan(3, cycle_len=None).cycle_ends == (30,)


def test_a_schedule_of_ones_own() -> None:
    made = plan(2, schedule=schedules.linear(), cycle_len=None)
    assert multipliers(made) == pytest.approx([1 - i / 20 for i in range(20)])
    assert plan(2, schedule=lambda epoch, n_epochs: 0.5).schedule(0, 1) == 0.5
    assert plan(2, schedule=schedules.linear(), momentum=schedules.one_cycle_momentum()).momentum is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"n": 2, "epochs": 3}, "two spellings"),
        ({"n": 2, "epochs": 2}, "two spellings"),
        ({"n": 2, "cycle_len": None, "cycle_mult": 2}, "cycle_len=None means there are no cycles"),
        ({"n": 2, "cycle_len": 2, "schedule": schedules.cosine()}, "give them or schedule=, not both"),
        ({"n": 2, "cycle_mult": 2, "schedule": schedules.cosine()}, "give them or schedule=, not both"),
        ({"n": 0}, "n must be a whole number of at least 1, got 0"),
        ({"n": -1, "cycle_len": None}, "at least 1"),
        ({"n": 2.5}, "whole number"),
        ({"n": 1, "cycle_len": 0}, "cycle_len"),
        ({"n": 1, "cycle_len": math.nan}, "cycle_len"),
        ({"n": 1, "cycle_mult": -1}, "cycle_mult"),
        ({"n": 1, "schedule": "cosine"}, "schedule"),
        ({"n": 1, "schedule": schedules.cosine}, "schedule"),
        ({"n": 1, "schedule": schedules.cosine(), "momentum": 0.9}, "momentum"),
        ({"n": 1, "steps_per_epoch": 0}, "steps_per_epoch"),
    ],
)
def test_what_cannot_be_planned(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        plan(**arguments)
