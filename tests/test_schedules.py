from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as ls

from easylearn import schedules as sch
from easylearn.errors import ArgumentError

BASE = 0.4
SPE = 7  # batches in an epoch
EPOCHS = 6
STEPS = SPE * EPOCHS

Scheduler = ls.LRScheduler


def torch_rates(make: Callable[[torch.optim.Optimizer], Scheduler], steps: int = STEPS) -> list[float]:
    """The rate before each batch, with the scheduler stepped after each batch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)
    rates = []
    with warnings.catch_warnings():
        # SequentialLR itself calls step() with an epoch, which torch deprecates.
        warnings.filterwarnings("ignore", "The epoch parameter", UserWarning)
        scheduler = make(optimizer)
        for _ in range(steps):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            scheduler.step()
    return rates


def rates(schedule: sch.Schedule, steps: int = STEPS, spe: int = SPE, base: float = BASE) -> list[float]:
    return [base * schedule(s / spe, steps / spe) for s in range(steps)]


def same(ours: list[float], theirs: list[float]) -> None:
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)


class TestAgainstTorch:
    def test_constant(self) -> None:
        same(rates(sch.constant()), torch_rates(lambda o: ls.ConstantLR(o, factor=1.0)))

    def test_linear(self) -> None:
        reference = torch_rates(lambda o: ls.LinearLR(o, start_factor=0.2, end_factor=0.9, total_iters=STEPS))
        same(rates(sch.linear(0.2, 0.9)), reference)

    def test_cosine(self) -> None:
        reference = torch_rates(lambda o: ls.CosineAnnealingLR(o, T_max=STEPS, eta_min=0.1 * BASE))
        same(rates(sch.cosine(1.0, 0.1)), reference)

    def test_exponential(self) -> None:
        reference = torch_rates(lambda o: ls.ExponentialLR(o, gamma=0.01 ** (1 / STEPS)))
        same(rates(sch.exponential(1.0, 0.01)), reference)

    @pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
    def test_polynomial(self, power: float) -> None:
        same(rates(sch.polynomial(power)), torch_rates(lambda o: ls.PolynomialLR(o, total_iters=STEPS, power=power)))

    def test_step(self) -> None:
        reference = torch_rates(lambda o: ls.MultiStepLR(o, milestones=[2 * SPE, 5 * SPE], gamma=0.3))
        same(rates(sch.step([2, 5], 0.3)), reference)

    @pytest.mark.parametrize(("mult", "n"), [(1, 6), (2, 3)])
    def test_sgdr(self, mult: int, n: int) -> None:
        ends = sch.cycle_steps(n, 1, mult, SPE)
        reference = torch_rates(lambda o: ls.CosineAnnealingWarmRestarts(o, T_0=SPE, T_mult=mult), ends[-1])
        same(rates(sch.sgdr([s / SPE for s in (0, *ends)]), ends[-1]), reference)

    @pytest.mark.parametrize(("pct", "div", "final"), [(0.25, 25.0, 1e5), (0.4, 10.0, 50.0)])
    def test_one_cycle(self, pct: float, div: float, final: float) -> None:
        """Torch's cycle ends at the last batch, ours after it, as all our schedules do.

        So torch's cycle over S + 1 batches is ours over S, with the peak at batch pct * (S + 1) - 1 of S. Torch's
        final divisor counts from its initial rate, ours from the base rate.
        """
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE, momentum=0.9)
        scheduler = ls.OneCycleLR(
            optimizer, max_lr=BASE, total_steps=STEPS + 1, pct_start=pct, div_factor=div, final_div_factor=final / div
        )
        lr, momentum = [], []
        for _ in range(STEPS):
            lr.append(float(optimizer.param_groups[0]["lr"]))
            momentum.append(float(optimizer.param_groups[0]["momentum"]))
            optimizer.step()
            scheduler.step()
        peak = (pct * (STEPS + 1) - 1) / STEPS
        same(rates(sch.one_cycle(peak, div, final)), lr)
        same(rates(sch.one_cycle_momentum(peak), base=1.0), momentum)

    def test_join(self) -> None:
        def make(o: torch.optim.Optimizer) -> Scheduler:
            parts: list[Scheduler] = [
                ls.LinearLR(o, start_factor=0.1, end_factor=1.0, total_iters=2 * SPE),
                ls.CosineAnnealingLR(o, T_max=4 * SPE),
            ]
            return ls.SequentialLR(o, parts, milestones=[2 * SPE])

        joined = sch.join([(sch.linear(0.1, 1.0), 2), (sch.cosine(), 4)])
        same(rates(joined), torch_rates(make))
        same(rates(sch.warmup(sch.cosine(), 2, start=0.1)), rates(joined))

    def test_join_of_three_with_a_step(self) -> None:
        def make(o: torch.optim.Optimizer) -> Scheduler:
            parts: list[Scheduler] = [
                ls.ConstantLR(o, factor=1.0, total_iters=1),
                ls.MultiStepLR(o, milestones=[SPE]),
                ls.ExponentialLR(o, gamma=0.5 ** (1 / SPE)),
            ]
            return ls.SequentialLR(o, parts, milestones=[SPE, 3 * SPE])

        pieces = [(sch.constant(), 1.0), (sch.step([1]), 2.0), (sch.exponential(1.0, 0.125), 3.0)]
        same(rates(sch.join(pieces)), torch_rates(make))


def test_slanted_triangular_is_the_formula_of_the_paper() -> None:
    """Equation 3 of arXiv 1801.06146, with T batches and no rounding of the cut."""
    cut_frac, ratio = 1 / 6, 32
    cut = STEPS * cut_frac
    reference = []
    for t in range(STEPS):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / cut_frac - 1))
        reference.append(BASE * (1 + p * (ratio - 1)) / ratio)
    same(rates(sch.slanted_triangular(cut_frac, ratio)), reference)


class TestShape:
    @pytest.mark.parametrize(
        ("schedule", "first", "last"),
        [
            (sch.constant(), 1, 1),
            (sch.linear(), 1, 0),
            (sch.cosine(0.5, 0.25), 0.5, 0.25),
            (sch.exponential(1, 0.001), 1, 0.001),
            (sch.polynomial(3, 1, 0.5), 1, 0.5),
            (sch.step([1, 2]), 1, 0.01),
            (sch.one_cycle(), 1 / 25, 1e-5),
            (sch.one_cycle_momentum(0.3, 0.9, 0.8), 0.9, 0.9),
            (sch.slanted_triangular(), 1 / 32, 1 / 32),
            (sch.join([(sch.linear(), 1), (sch.constant(), 1)]), 1, 1),
            (sch.warmup(sch.linear(), 1), 0.01, 0),
            (sch.sgdr([0, 1, 5]), 1, 0),
        ],
        ids=lambda v: type(v).__name__ if is_dataclass(v) else "",
    )
    def test_ends_and_values(self, schedule: sch.Schedule, first: float, last: float) -> None:
        assert schedule(0, 5) == pytest.approx(first)
        assert schedule(5, 5) == pytest.approx(last)
        assert schedule(5.2, 5) == schedule(5, 5), "past the end it stays"
        assert is_dataclass(schedule) and not isinstance(schedule, type)
        assert asdict(schedule) and not hasattr(schedule, "__dict__")
        assert pickle.loads(pickle.dumps(schedule)) == schedule
        assert repr(schedule).startswith(type(schedule).__name__)

    def test_any_function_is_a_schedule(self) -> None:
        def half(epoch: float, n_epochs: float) -> float:
            return 0.5

        assert sch.warmup(half, 2, start=0.5)(0, 4) == 0.25
        assert sch.join([(half, 1), (sch.constant(), 1)])(0.9, 2) == 0.5

    def test_the_last_piece_reaches_to_the_end(self) -> None:
        joined = sch.join([(sch.constant(), 2), (sch.linear(), 1)])
        assert [joined(e, 6) for e in (2, 4, 6)] == [1.0, 0.5, 0.0]

    def test_a_warmup_longer_than_the_fit(self) -> None:
        assert sch.warmup(sch.cosine(), 4, start=0.0)(1, 2) == 0.25

    def test_one_cycle_peaks_at_the_base_rate(self) -> None:
        assert max(rates(sch.one_cycle(0.5), base=1.0)) == 1.0
        assert min(rates(sch.one_cycle_momentum(0.5), base=1.0)) == 0.85


class TestCycleSteps:
    @pytest.mark.parametrize(
        ("n", "cycle_len", "cycle_mult", "ends"),
        [(3, 1, 2, (1, 3, 7)), (3, 2, 1, (2, 4, 6)), (3, 2, 2, (2, 6, 14)), (2, 1, 1, (1, 2))],
    )
    def test_epochs_of_the_documentation(self, n: int, cycle_len: int, cycle_mult: int, ends: tuple[int, ...]) -> None:
        assert sch.cycle_steps(n, cycle_len, cycle_mult, 10) == tuple(10 * e for e in ends)

    def test_fractions(self) -> None:
        assert sch.cycle_steps(3, 1, 1.5, 10) == (10, 25, 48)  # 22.5 rounds up
        assert sch.cycle_steps(3, 0.5, 1, 5) == (3, 6, 9)
        assert sch.cycle_steps(4, 1, 0.1, 3) == (3, 4, 5, 6), "a cycle has at least one batch"

    @pytest.mark.parametrize(
        ("args", "word"),
        [
            ((0, 1, 1, 5), "n must"),
            ((-2, 1, 1, 5), "n must"),
            ((1.5, 1, 1, 5), "n must"),
            ((True, 1, 1, 5), "n must"),
            ((1, 0, 1, 5), "cycle_len"),
            ((1, -1, 1, 5), "cycle_len"),
            ((1, math.nan, 1, 5), "cycle_len"),
            ((1, "1", 1, 5), "cycle_len"),
            ((1, 1, 0, 5), "cycle_mult"),
            ((1, 1, math.inf, 5), "cycle_mult"),
            ((1, 1, 1, 0), "steps_per_epoch"),
            ((2000, 1, 10, 5), "no finite length"),
        ],
    )
    def test_refused(self, args: tuple[int, float, float, int], word: str) -> None:
        with pytest.raises(ArgumentError, match=word):
            sch.cycle_steps(*args)


@given(
    n=st.integers(1, 6),
    cycle_len=st.floats(0.05, 4),
    cycle_mult=st.floats(0.2, 3),
    spe=st.integers(1, 40),
)
def test_sgdr_never_rises_inside_a_cycle(n: int, cycle_len: float, cycle_mult: float, spe: int) -> None:
    ends = sch.cycle_steps(n, cycle_len, cycle_mult, spe)
    assert all(b > a for a, b in pairwise((0, *ends)))
    schedule = sch.sgdr([s / spe for s in (0, *ends)])
    starts = {0, *ends[:-1]}
    total = min(ends[-1], 3000)
    values = [schedule(s / spe, ends[-1] / spe) for s in range(total)]
    for s, value in enumerate(values):
        assert math.isfinite(value) and 0.0 <= value <= 1.0
        if s in starts:
            assert value == 1.0
        else:
            assert value < 1.0
            assert value <= values[s - 1]
    assert schedule(ends[-1] / spe, ends[-1] / spe) == 0.0


positive = st.floats(1e-6, 10)
simple = st.one_of(
    st.builds(sch.linear, positive, positive),
    st.builds(sch.cosine, positive, positive),
    st.builds(sch.exponential, positive, positive),
    st.builds(sch.polynomial, st.floats(0.1, 5), positive, positive),
    st.builds(sch.one_cycle, st.floats(0.01, 0.99), st.floats(1, 100), st.floats(1, 1e6)),
    st.builds(sch.slanted_triangular, st.floats(0.01, 0.99), st.floats(1, 100)),
    st.builds(sch.step, st.just([1, 2.5])),
    st.just(sch.constant()),
)


@given(inner=simple, epoch=st.floats(0, 40), n_epochs=st.floats(0.01, 30), length=st.floats(0.01, 30))
def test_every_schedule_is_finite_and_not_negative(
    inner: sch.Schedule, epoch: float, n_epochs: float, length: float
) -> None:
    for schedule in (inner, sch.warmup(inner, length), sch.join([(inner, length), (inner, 1)])):
        value = schedule(epoch, n_epochs)
        assert math.isfinite(value) and value >= 0.0
    assert inner(n_epochs, n_epochs) == inner(n_epochs + 1, n_epochs) or isinstance(inner, sch.Step)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: sch.linear(-1), "start must be a number at least 0"),
        (lambda: sch.linear(end=math.nan), "end must"),
        (lambda: sch.cosine("1"), "start must"),  # type: ignore[arg-type]
        (lambda: sch.exponential(1, 0), "end must be a number above 0"),
        (lambda: sch.polynomial(0), "power"),
        (lambda: sch.step([]), "list of epochs"),
        (lambda: sch.step(3), "list of epochs"),  # type: ignore[arg-type]
        (lambda: sch.step([3, 2]), "rise"),
        (lambda: sch.step([3], factor=0), "factor"),
        (lambda: sch.one_cycle(0), "pct_start must be a number above 0 and below 1"),
        (lambda: sch.one_cycle(1.0), "pct_start"),
        (lambda: sch.one_cycle(div=0.5), "div must"),
        (lambda: sch.one_cycle(div_final=0), "div_final"),
        (lambda: sch.one_cycle_momentum(hi=1.0), "hi must"),
        (lambda: sch.one_cycle_momentum(hi=0.8), "lo must be a number at least 0 and at most 0.8"),
        (lambda: sch.slanted_triangular(0), "cut_frac"),
        (lambda: sch.slanted_triangular(ratio=0.5), "ratio"),
        (lambda: sch.join([]), "join needs"),
        (lambda: sch.join([sch.cosine()]), r"pieces\[0\] must be"),  # type: ignore[list-item]
        (lambda: sch.join([(0.1, 1)]), r"pieces\[0\]\[0\] must be a schedule"),  # type: ignore[list-item]
        (lambda: sch.join([(sch.cosine(), 0)]), r"length of pieces\[0\]"),
        (lambda: sch.warmup(0.1, 1), "schedule must be"),  # type: ignore[arg-type]
        (lambda: sch.warmup(sch.cosine(), 0), "epochs must"),
        (lambda: sch.warmup(sch.cosine(), 1, start=2), "start must"),
        (lambda: sch.sgdr([0]), "boundaries must"),
        (lambda: sch.sgdr([1, 2]), "begin at 0"),
        (lambda: sch.sgdr([0, 2, 2]), "rise"),
        (lambda: sch.sgdr([0, 1], end=2), "end must"),
    ],
)
def test_refused(make: Callable[[], sch.Schedule], word: str) -> None:
    with pytest.raises(ArgumentError, match=word):
        make()
