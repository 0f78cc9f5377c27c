from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easylearn import schedules
from easylearn.train.checkpoints.layout import KINDS, decode_schedule, encode_schedule

share = st.floats(0.01, 0.99)
factor = st.floats(1e-6, 1e6)
times = st.lists(st.integers(1, 1000), min_size=1, max_size=4, unique=True).map(sorted)
leaf = st.one_of(
    st.just(schedules.constant()),
    st.builds(schedules.linear, factor, factor),
    st.builds(schedules.cosine, factor, factor),
    st.builds(schedules.exponential, factor, factor),
    st.builds(schedules.polynomial, st.floats(0.1, 9), factor, factor),
    st.builds(schedules.step, times, share),
    st.builds(schedules.one_cycle, share, st.floats(1, 100), st.floats(1, 1e6)),
    st.builds(schedules.one_cycle_momentum, share, st.just(0.95), st.floats(0, 0.9)),
    st.builds(schedules.slanted_triangular, share, st.floats(1, 100)),
    st.builds(lambda t: schedules.sgdr([0, *t]), times),
)
nested = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.builds(schedules.warmup, inner, factor, share),
        st.builds(schedules.join, st.lists(st.tuples(inner, factor), min_size=1, max_size=3)),
    ),
    max_leaves=4,
)


@given(nested)
def test_every_schedule_comes_back_by_json(schedule: Any) -> None:
    again = decode_schedule(json.loads(json.dumps(encode_schedule(schedule))))
    assert again == schedule and repr(again) == repr(schedule)
    assert [again(e / 7, 3.0) for e in range(25)] == [schedule(e / 7, 3.0) for e in range(25)]


def test_these_classes_are_known_and_no_others() -> None:
    names = "Constant Linear Cosine Exponential Polynomial Step OneCycle SlantedTriangular Join Warmup Sgdr"
    assert sorted(KINDS) == sorted(names.split())


def test_somebody_elses_function_is_not_written() -> None:
    def mine(epoch: float, n_epochs: float) -> float:
        return 1.0

    assert encode_schedule(mine) is None
    assert encode_schedule(schedules.warmup(mine, 1)) is None
    assert encode_schedule(schedules.join([(schedules.cosine(), 1), (mine, 1)])) is None

    @dataclasses.dataclass(frozen=True)
    class Cosine:  # the name alone does not count
        start: float = 1.0
        end: float = 0.0

        def __call__(self, epoch: float, n_epochs: float) -> float:
            return 0.5

    assert encode_schedule(Cosine()) is None


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"kind": "os.system"},
        {"kind": ["Cosine"]},
        {"kind": "Cosine", "middle": 1.0},
        {"kind": "Cosine", "start": "1.0", "end": 0.0},
        {"kind": "Cosine", "start": None},
        {"kind": "Linear", "start": [1.0], "end": 0.0},
        {"kind": "Warmup", "schedule": 3.0, "epochs": 1.0, "start": 0.1},
        {"kind": "Join", "pieces": [[{"kind": "Nothing"}, 1.0]]},
        [1.0],
        None,
    ],
)
def test_what_is_no_schedule_is_refused(state: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode_schedule(state)
