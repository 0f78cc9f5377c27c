from __future__ import annotations

import json
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from easylearn import metrics
from easylearn.errors import ArgumentError
from easylearn.metrics import Metric
from easylearn.train.callbacks import SaveBest
from easylearn.train.monitor import Monitor


def run(
    valid: bool = True, chosen: tuple[Metric, ...] = (metrics.accuracy, metrics.error_rate), **values: float
) -> Any:
    return SimpleNamespace(
        valid_loader=object() if valid else None, task=SimpleNamespace(metrics=chosen), metrics=values
    )


def follow(monitor: Monitor, name: str, values: list[float]) -> list[bool]:
    monitor.begin(run())
    return [monitor.improved(run(**{name: v})) for v in values]


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("accuracy", [True, True, False, False, True]),
        ("error_rate", [True, False, False, True, False]),
        ("valid_loss", [True, False, False, True, False]),
        (None, [True, True, False, False, True]),  # the first with a known direction: accuracy
    ],
)
def test_better_is_higher_or_lower_as_the_metric_says(name: str | None, better: list[bool]) -> None:
    assert follow(Monitor(name), name or "accuracy", [0.5, 0.6, 0.6, 0.4, 0.7]) == better


def test_the_best_value_keeps_its_sign() -> None:
    for name, best in (("accuracy", 0.9), ("valid_loss", 0.2)):
        monitor = Monitor(name)
        follow(monitor, name, [0.5, 0.2, 0.9])
        assert monitor.best_value == best and monitor.name == name


def test_min_delta() -> None:
    assert follow(Monitor("accuracy", min_delta=0.1), "accuracy", [0.5, 0.55, 0.61, 0.7, 0.72]) == [
        True,
        False,
        True,
        False,
        True,
    ]


def test_nan_and_an_epoch_without_validation_are_never_better() -> None:
    assert follow(Monitor("valid_loss"), "valid_loss", [math.nan, 0.5, math.nan, 0.4]) == [False, True, False, True]
    monitor = Monitor("valid_loss")
    monitor.begin(run())
    assert not monitor.improved(run())


def test_none_takes_the_first_known_direction_or_the_loss() -> None:
    unknown = Metric("mystery", lambda outputs, target: 0.0, None)
    for chosen, name in (((unknown, metrics.error_rate), "error_rate"), ((unknown,), "valid_loss"), ((), "valid_loss")):
        monitor = Monitor(None)
        monitor.begin(run(chosen=chosen))
        assert monitor.name == name


def test_refused() -> None:
    unknown = Metric("mystery", lambda outputs, target: 0.0, None)
    with pytest.raises(ArgumentError, match=r"whether higher or lower 'mystery' is better.*higher_is_better="):
        Monitor("mystery").begin(run(chosen=(unknown,)))
    with pytest.raises(ArgumentError, match=r"no metric 'acuracy'. Did you mean 'accuracy'\?"):
        Monitor("acuracy").begin(run())
    with pytest.raises(ArgumentError, match="validation data, and there is none"):
        Monitor("valid_loss").begin(run(valid=False))


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.7]])
def test_state_round_trips(values: list[float]) -> None:
    one, two = Monitor("accuracy"), Monitor("accuracy")
    follow(one, "accuracy", values)
    two.begin(run())
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert two.best == one.best
    assert two.improved(run(accuracy=0.6)) == one.improved(run(accuracy=0.6))


def test_an_unknown_direction_stops_a_fit_before_it_begins(make_learner: Callable[..., Any]) -> None:
    def mystery(outputs: Any, target: Any) -> float:
        return 0.0

    learn = make_learner(metrics=[mystery])
    with pytest.raises(ArgumentError, match="mystery"):
        learn.fit(0.1, 1, callbacks=[SaveBest(monitor="mystery")])
    assert learn.record is not None and len(learn.record) == 0
