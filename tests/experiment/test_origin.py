"""What the trainings of a folder came from: changed functions and data are told, the same script never is."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import easylearn as el
from easylearn.data.folds import Folds
from easylearn.errors import ArgumentError, EasyLearnWarning, StateError
from easylearn.experiment.cross_fit import cross_fit
from easylearn.experiment.origin import origin_of
from easylearn.experiment.search import search
from easylearn.experiment.space import log, powers
from easylearn.experiment.trials import point_of
from easylearn.learning import Learner
from tests.experiment.folded import TABLE, fit, make
from tests.experiment.small_search import fit as fit_small
from tests.experiment.small_search import make as make_small

PLAN = el.folds(len(TABLE), 2, seed=1)


def fit_again(learn: Learner, p: Any, **how: Any) -> Any:
    return learn.fit(0.06, 1, **how)


def origin(text: str, **named: Any) -> Any:
    """The origin of a function `make` that is written out."""
    space: dict[str, Any] = {"__name__": "script", **named}
    exec(text, space)
    return origin_of(space["make"], None)


def test_what_changes_a_function() -> None:
    text = "def make(p):\n    'Words.'\n    def inner(x): return x in {'a', 'b'}\n    return inner(p.lr), 3, WIDTH"
    same = origin(text, WIDTH=3)
    assert origin("\n\n" + text.replace("Words", "Others"), WIDTH=3) == same
    assert origin(text, WIDTH=4)["values"] != same["values"] and origin(text, WIDTH=4)["make"] == same["make"]
    for old, new in (("3", "4"), ("'b'", "'c'"), ("p.lr", "p.wd")):
        assert origin(text.replace(old, new), WIDTH=3)["make"] != same["make"]


def test_functions_and_classes_that_it_calls_count() -> None:
    text = "class Net:\n    def f(self): return 1\ndef help(): return Net()\ndef make(p): return help()"
    assert origin(text) == origin(text) and origin(text)["make"] != origin(text.replace("return 1", "return 2"))["make"]
    assert origin_of(partial(max, 1), None)["make"] != origin_of(partial(max, 2), None)["make"]


def test_values_that_are_others_without_any_change_are_left_out() -> None:
    text = "def make(p):\n    global n\n    n += 1\n    return FOLDER, seen, x, p.size"
    named: dict[str, Any] = {"FOLDER": "/tmp/1", "seen": [1], "x": torch.zeros(3), "size": 3, "n": 0}
    found = origin(text, **named)
    assert set(found["values"]) == {"x"}
    assert origin(text, **named | {"FOLDER": "/tmp/2", "seen": [], "size": 1, "n": 5, "x": torch.ones(3)}) == found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pd.DataFrame({"y": ["a", "b"]}), pd.DataFrame({"y": ["b", "a"]})),
        (np.array([1.0, 2.0]), np.array([2.0, 1.0])),
        (torch.tensor([1, 2]), torch.tensor([2, 1])),
        (["a", "b"], ["a", "c"]),
        (("a", 1), ("a", 2)),
        (make_small(point_of({"hidden": 2, "seed": 0})).data, None),
    ],
)
def test_values_that_it_names(one: Any, other: Any) -> None:
    found, again = (origin("def make(p): return x", x=x)["values"] for x in (one, one))
    assert found == again and set(found) == {"x"} and found != origin("def make(p): return x", x=other)["values"]


def test_cross_fit_tells_what_has_changed(tmp_path: Path) -> None:
    cross_fit(make, PLAN, fit, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cross_fit(make, PLAN, fit, tmp_path)
    with pytest.warns(EasyLearnWarning, match=r"2 of 2 .*taken from.*\(trained on \d{4}-.*fit has changed") as told:
        cross_fit(make, PLAN, fit_again, tmp_path)
    assert told[0].filename == __file__ and len(told) == 1
    labels = TABLE.assign(y=TABLE.y.to_numpy()[::-1])
    shuffled = FunctionType(make.__code__, {**make.__globals__, "TABLE": labels})
    with pytest.warns(EasyLearnWarning, match="; TABLE has changed since"):
        cross_fit(shuffled, PLAN, fit, tmp_path)


def test_another_plan_is_told_in_words(tmp_path: Path) -> None:
    cross_fit(make, PLAN, fit, tmp_path)
    with pytest.raises(StateError, match=r"its plan is Folds\(2 of 60.* seed 1\), and Folds\(3 of 60.* seed 2\)"):
        cross_fit(make, el.folds(len(TABLE), 3, seed=2), fit, tmp_path)
    with pytest.raises(StateError, match="holds out other items"):
        cross_fit(make, Folds(60, PLAN[::-1], PLAN.how), fit, tmp_path)


def test_search_tells_what_has_changed_and_names_of_no_use_once(tmp_path: Path) -> None:
    def run(fit: Any, **how: Any) -> Any:
        space = {"lr": log(1e-3, 1.0), "hidden": powers(2, 4), **how}
        return search(make_small, space, fit, tmp_path / str(len(how)), trials=2, progress=False)

    found = run(fit_small)
    assert repr(found.best).startswith(f"Trial {found.best.number}: {found.best.value:.4f} after 4 epochs (done); lr=")
    run(fit_small)
    with pytest.warns(EasyLearnWarning, match="2 of 2 trainings.*fit has changed"):
        run(fit_again)
    with pytest.warns(EasyLearnWarning, match=r"reads p\.wd") as told:
        run(fit_small, wd=log(1e-3, 1.0))
    assert len(told) == 1 and told[0].filename == __file__


def test_a_fit_that_takes_too_little_and_a_point_that_is_indexed(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"fit takes no checkpoint, every, keep, callbacks.*\*\*how"):
        cross_fit(make, PLAN, lambda learn, p: learn.fit(0.1, 1), tmp_path / "a")
    with pytest.raises(ArgumentError, match=r"p\.lr, not p\['lr'\]"):
        cross_fit(make, PLAN, lambda learn, p, **how: learn.fit(p["lr"], 1, **how), tmp_path / "b")


SCRIPT = """
import sys, warnings
warnings.simplefilter("error")
import easylearn as el
from tests.experiment.folded import N, TABLE, fit, make as made
table, kinds = TABLE.copy(), {"a", "c"}
def make(p):
    assert set(kinds) <= set(table) and "b" not in {"x", "y", "z"}
    return made(p)
el.cross_fit(make, el.folds(N, 2), fit, sys.argv[1])
"""


def test_the_same_script_is_never_told(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(SCRIPT)
    for seed in ("1", "2"):  # sets come in another order
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
        subprocess.run([sys.executable, str(tmp_path / "s.py"), str(tmp_path / "cv")], check=True, env=env)
