"""What a notebook shows of an object is a few lines, however much the object holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.learners import KINDS

MOST = 1500  # characters


def shown(learn: Any) -> dict[str, Any]:
    data = learn.data
    found = {
        "learner": learn, "data": data, "task": learn.task, "groups": learn.layer_groups, "strategy": learn.strategy,
        "preprocessor": data.preprocessor, "validate": learn.validate(), "curve": learn.lr_find(n_steps=10),
        "fit": learn.fit(1e-3, 1), "plan": learn.plan(1e-3, 1), "summary": learn.summary(), "sched": learn.sched,
        **{f"split {name}": split for name, split in data._splits.items()},
    }  # fmt: skip
    if not learn.task.is_streamed:
        found |= {"predictions": learn.predict(), "tta": learn.tta(1), "interpretation": learn.interpret()}
    return found


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_a_few_lines(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    learn = make(progress=False, device="cpu")
    with np.printoptions(threshold=10**9):
        lengths = {name: len(repr(thing)) for name, thing in shown(learn).items()}
    branches = {group.branch for group in learn.layer_groups}
    lengths["summary"] //= len(branches)  # a line for each layer of each
    assert {name: n for name, n in lengths.items() if n > MOST} == {}


def test_it_grows_with_nothing() -> None:
    """Seventy times as many items take no more room."""
    import easylearn as el

    def made(n: int) -> Any:
        x = np.zeros((n, 8, 8, 3), np.uint8)
        return el.ImageData.from_arrays((x, ["a", "b"] * (n // 2)), size=8, workers=0, cache=False)

    few, many = made(20), made(1400)
    for name in ("train", "valid"):
        assert len(repr(many._splits[name])) < len(repr(few._splits[name])) + 5
