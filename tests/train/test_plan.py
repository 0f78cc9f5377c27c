from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from easylearn import schedules
from easylearn.errors import ArgumentError
from easylearn.train.plan import FitPlan, count_of, plan_fit, spread_rates


def plan(n: int | None = None, *, epochs: int | None = None, **changes: Any) -> FitPlan:
    rates, steps = changes.pop("rates", (0.1,)), changes.pop("steps_per_epoch", 10)
    return plan_fit(rates, steps, count_of(n, epochs), **changes)


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
        ({"n": 1e-2, "rates": (3.0,)}, r"swapped: .*fit\(0\.01, 3\)"),
        ({"n": 1e-2, "rates": (3.0, 3.0), "schedule": schedules.cosine()}, "swapped"),
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


NAMES = ["stem", "late", "head"]
positive = st.floats(1e-8, 10.0)


@pytest.mark.parametrize("lr", [0.1, 1, np.float32(0.5), np.float64(0.1), torch.tensor(0.25)])
def test_a_number_is_for_every_group(lr: Any) -> None:
    assert spread_rates(lr, NAMES) == (float(lr),) * 3
    assert spread_rates(lr, ["model"]) == (float(lr),)


@pytest.mark.parametrize("lr", [[1e-4, 1e-3, 1e-2], (1e-4, 1e-3, 1e-2), np.array([1e-4, 1e-3, 1e-2])])
def test_a_list_is_one_per_group(lr: Any) -> None:
    assert spread_rates(lr, NAMES) == (1e-4, 1e-3, 1e-2)


def test_a_dictionary_is_by_name_in_any_order() -> None:
    assert spread_rates({"head": 0.3, "stem": 0.1, "late": 0.2}, NAMES) == (0.1, 0.2, 0.3)


class TestBranches:
    names = ("image.stem", "image.head", "text.stem", "text.late", "text.head")
    branches = ("image", "image", "text", "text", "text")

    def rates(self, lr: Any) -> tuple[float, ...]:
        return spread_rates(lr, self.names, branches=self.branches)

    def test_a_slice_is_spread_over_each(self) -> None:
        image, text = (spread_rates(slice(1e-4, 1e-2), [str(i) for i in range(n)]) for n in (2, 3))
        assert self.rates(slice(1e-4, 1e-2)) == (*image, *text)
        assert self.rates(slice(0.1)) == (0.01, 0.1, 0.01, 0.01, 0.1)

    def test_a_dictionary_names_groups_or_branches_and_the_others_keep_still(self) -> None:
        assert self.rates({"image": 0.1, "text.late": 0.2}) == (0.1, 0.1, 0.0, 0.2, 0.0)
        assert self.rates({"image": 0.1, "image.head": 0.3}) == (0.1, 0.3, 0.0, 0.0, 0.0)
        with pytest.raises(ArgumentError, match=r"'image\.lat'"):
            self.rates({"image.lat": 0.1})

    def test_a_number_or_a_list_is_as_ever(self) -> None:
        assert self.rates(0.1) == (0.1,) * 5 and self.rates([1, 2, 3, 4, 5]) == (1, 2, 3, 4, 5)


@given(lo=positive, hi=positive, n=st.integers(2, 12))
def test_a_slice_is_numpys_geomspace(lo: float, hi: float, n: int) -> None:
    rates = spread_rates(slice(lo, hi), [f"g{i}" for i in range(n)])
    assert rates == pytest.approx(np.geomspace(lo, hi, n), rel=1e-9)
    assert rates[0] == lo


def test_a_slice_over_one_group_is_its_end() -> None:
    assert spread_rates(slice(1e-4, 1e-2), ["model"]) == (1e-2,)


def test_a_slice_without_start_favours_the_last_group() -> None:
    assert spread_rates(slice(0.1), NAMES) == (0.01, 0.01, 0.1)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_wrong_count_names_the_groups_and_both_numbers(n: int) -> None:
    with pytest.raises(ArgumentError, match=rf"{n} learning rates? .* 3 layer groups: stem, late, head"):
        spread_rates([0.1] * n, NAMES)


def test_three_rates_while_precomputing_say_so() -> None:
    with pytest.raises(ArgumentError, match=r"3 rates were given, but precompute is on.*learn\.unfreeze\(\)"):
        spread_rates([1e-4, 1e-3, 1e-2], NAMES, precomputed=True)
    assert spread_rates(0.1, NAMES, precomputed=True)[-1] == 0.1


def test_unknown_and_missing_names() -> None:
    with pytest.raises(ArgumentError, match=r"no layer group 'haed'. Did you mean 'head'\?"):
        spread_rates({"stem": 0.1, "late": 0.1, "haed": 0.1}, NAMES)
    with pytest.raises(ArgumentError, match=r"no rate was given for the layer groups \['late'\]"):
        spread_rates({"stem": 0.1, "head": 0.1}, NAMES)


@pytest.mark.parametrize(
    "lr",
    [
        -0.1,
        math.nan,
        math.inf,
        True,
        "0.1",
        None,
        [0.1, None, 0.1],
        [0.1, "x", 0.1],
        {"stem": "a", "late": 1, "head": 1},
        [[0.1], [0.1], [0.1]],
        slice(1, 2, 3),
        slice(1, None),
        slice(None),
        slice(0, 0.1),
        slice(0.1, 0),
        slice(-1, 0.1),
        slice("a", 0.1),
        object(),
    ],
)
def test_what_is_no_rate(lr: Any) -> None:
    with pytest.raises(ArgumentError):
        spread_rates(lr, NAMES)


def test_zero_keeps_a_group_as_it_is() -> None:
    assert spread_rates([0, 0.1, 0.1], NAMES)[0] == 0.0


def test_swapped_numbers_train_nothing(make_learner: Any) -> None:
    learn = make_learner()
    for call in (learn.fit, learn.fit_one_cycle, learn.plan):
        with pytest.raises(ArgumentError, match="look swapped"):
            call(3, 1e-2)
    with pytest.raises(ArgumentError, match="epochs must be a whole number"):
        learn.fine_tune(1e-2, 3)
    assert learn.epochs_done == 0


def test_a_lone_whole_number_is_taken_for_epochs_and_no_rate_is_absurd(make_learner: Any) -> None:
    learn = make_learner()
    for call in (learn.fit, learn.fit_one_cycle, learn.plan):
        with pytest.raises(ArgumentError, match=r"3 looks like a number of epochs: write fit\(1e-2, 3\).*3\.0"):
            call(3)
        with pytest.raises(ArgumentError, match=r"2000.*nothing trains.*lr_find"):
            call(2000.0, 2)
    with pytest.raises(ArgumentError, match="nothing trains"):
        learn.lr_find(lr=[1e9, 0.1, 0.1])
    assert learn.epochs_done == 0
    assert learn.plan(1.0).rates == learn.plan(1, 1).rates == learn.plan(1, epochs=1).rates


def test_a_folder_of_checkpoints_that_is_none(make_learner: Any) -> None:
    learn = make_learner()
    for call in (
        lambda: learn.fit(0.1, 1, checkpoint=3),
        lambda: learn.plan(0.1, 1, checkpoint=3),
        lambda: learn.resume(3),
    ):
        with pytest.raises(ArgumentError, match=r"a folder of checkpoints.*int: 3"):
            call()


@pytest.mark.parametrize("momentum", [0.9, (0.9,), (0.9, 0.8, 0.7), "0.9", (0.9, "x"), {0.9: 1}])
def test_momentum_of_one_cycle_is_two_numbers(make_learner: Any, momentum: Any) -> None:
    with pytest.raises(ArgumentError, match="momentum must be two numbers"):
        make_learner().fit_one_cycle(1e-2, 1, momentum=momentum)


def test_it_is_shown_in_a_line() -> None:
    assert repr(plan(3, cycle_mult=2)).startswith("<FitPlan: 7 epochs, 70 steps, rates ")
