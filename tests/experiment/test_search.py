"""search: methods, halving, rounds, workers, going on, refusals, and joining from elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from easylearn import Found, cross_fit, folds, search
from easylearn.cli import main
from easylearn.errors import ArgumentError, StateError
from easylearn.experiment import log, ordered, powers, subset
from easylearn.experiment.search import join
from easylearn.learning import Learner
from easylearn.metrics import accuracy
from tests import learners
from tests.experiment.small_search import SPACE, data, fit, make, weights
from tests.experiment.test_engine import InTurn, forked, forks


def look(folder: Path, method: Any = "quasi", **how: Any) -> Found:
    return search(make, SPACE, fit, folder, method=method, progress=False, **{"trials": 6, **how})


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """A search with halving that nobody disturbed."""
    return look(tmp_path_factory.mktemp("halved"), "evolution", halving=3, trials=12)


def same(one: Found, other: Found) -> bool:
    pd.testing.assert_frame_equal(one.table(), other.table())
    return all(weights(one.learner(t.number)) == weights(other.learner(t.number)) for t in one.trials)


@pytest.mark.parametrize("method", ["random", "grid", "annealing", "evolution", [{"lr": 0.1, "hidden": 4}]])
def test_methods(method: Any, tmp_path: Path) -> None:
    grid = {"lr": ordered([0.01, 0.1]), "hidden": powers(2, 4)} if method == "grid" else SPACE
    found = search(make, grid, fit, tmp_path, method=method, trials=5, progress=False)
    table = found.table()
    expected = {"grid": 4}.get(method, 5) if isinstance(method, str) else 1
    assert len(table) == expected and set(table.status) == {"done"} and set(table.epochs) == {4}
    assert set(table.by) == {method if isinstance(method, str) else "list"}
    assert found.best.value == table.accuracy.max() == found.ranked[0].value
    assert repr(found).startswith(f"Found({expected} trials, best accuracy ")


def test_the_same_call_goes_on_with_more_trials(tmp_path: Path) -> None:
    few = look(tmp_path / "a", "evolution", trials=3)
    more = look(tmp_path / "a", "evolution", trials=6)
    pd.testing.assert_frame_equal(more.table()[:3], few.table())
    assert same(more, look(tmp_path / "b", "evolution"))
    assert len(look(tmp_path / "a", "evolution", trials=2).trials) == 6


def test_promoted_trials_go_on_from_their_checkpoints(halved: Found, tmp_path: Path) -> None:
    """To the bit: what was promoted is what a fit without a stop gives, and its epochs are trained once."""
    table = halved.table()
    assert set(table.status) == {"done", "paused"} and set(table.epochs) == {1, 4}
    done = [t for t in halved.trials if t.status == "done"]
    assert 4 <= len(done) <= 7 and halved.best in done
    whole = search(make, SPACE, fit, tmp_path, method=[t.point for t in done], progress=False)
    for t, straight in zip(done, whole.trials, strict=True):
        assert t.curve == straight.curve
        assert weights(halved.learner(t.number)) == weights(whole.learner(straight.number))


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
@forks
def test_two_and_four_at_once_give_the_same_table(halved: Found, tmp_path: Path) -> None:
    import os

    for n in (2, 4):
        work: Callable[[], Found] = lambda n=n: look(tmp_path / str(n), "evolution", halving=3, trials=12)  # type: ignore[misc] # noqa: E731
        crew = [forked(work) for _ in range(n)]
        assert [os.waitpid(pid, 0)[1] for pid in crew] == [0] * n
        assert same(work(), halved)


def test_workers_are_processes_and_functions_may_be_closures(halved: Found, tmp_path: Path) -> None:
    width = 1

    def make_here(p: Any) -> Learner:
        assert p.hidden >= width
        return make(p)

    found = search(make_here, SPACE, fit, tmp_path, method="evolution", halving=3, trials=12, workers=2, progress=False)
    assert same(found, halved)


def test_an_executor_gives_the_same_table(halved: Found, tmp_path: Path) -> None:
    assert same(look(tmp_path, "evolution", halving=3, trials=12, workers=InTurn()), halved)


def test_free_order_does_all_trials(tmp_path: Path) -> None:
    found = look(tmp_path, "evolution", order="free", halving=3, trials=8)
    assert len(found.trials) == 8 and found.best.status == "done"


def test_hyperband(tmp_path: Path) -> None:
    found = look(tmp_path, halving="hyperband", trials=10)
    assert {j.bracket for j in found.history.jobs} == {0, 1}
    assert found.best.epochs == 4


def test_a_fidelity_is_read_by_make(tmp_path: Path) -> None:
    def make_some(p: Any) -> Learner:
        return make(p, data(5, subset(60, p.items))[0])

    def fit_once(learn: Learner, p: Any, **how: Any) -> Any:
        return learn.fit_one_cycle(p.lr, 2, **how)  # a schedule without rungs is as good as any here

    found = search(
        make_some, SPACE, fit_once, tmp_path, trials=6, halving=3, fidelity={"items": [10, 30, 60]}, progress=False
    )
    rungs = [t.rung for t in found.trials]
    assert len(rungs) == 6 and max(rungs) == 2 and rungs.count(0) >= 3
    assert found.best.rung == 2 and set(found.table().epochs) == {2}
    assert len(found.learner().predict(split="train")) == 60


def test_a_trial_that_fails_is_one_of_many(tmp_path: Path) -> None:
    def fragile(p: Any) -> Learner:
        if p.hidden == 4:
            raise MemoryError("too wide")
        return make(p)

    found = search(fragile, SPACE, fit, tmp_path, trials=8, progress=False)
    bad = [t for t in found.trials if t.status == "infeasible"]
    assert bad and all(t.point["hidden"] == 4 and "too wide" in t.reason for t in bad)
    assert found.best.value is not None and len(found.ranked) == 8 - len(bad)
    assert found.table().accuracy.isna().sum() == len(bad)


def test_a_metric_of_ones_choice(tmp_path: Path) -> None:
    found = look(tmp_path, metric="valid_loss")
    assert found.metric == "valid_loss" and found.best.value == found.table().valid_loss.min()


def test_another_search_in_the_folder_is_refused(halved: Found, tmp_path: Path) -> None:
    folder = halved.engine.folder
    for how, named in (({"seed": 1}, "seed is 0, and 1"), ({"halving": 2}, "halving is 3, and 2")):
        with pytest.raises(StateError, match=named):
            look(Path(folder), "evolution", **{"halving": 3, "trials": 12, **how})
    with pytest.raises(StateError, match="space is"):
        search(make, {"lr": log(1e-3, 1), "hidden": powers(2, 8)}, fit, folder, method="evolution", halving=3)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"method": "tpe"}, "no method 'tpe'"), ({"method": "evolutoin"}, "Did you mean 'evolution'"),
        ({"method": []}, "a name or a list"), ({"method": [{"lr": 0.1}]}, "point 0 of the list has no 'hidden'"),
        ({"method": "grid"}, "'lr' is a range"), ({"trials": 0}, "trials"), ({"halving": 1}, "halving"),
        ({"order": "any"}, "order is"), ({"on_error": "ignore"}, "on_error is"), ({"n_jobs": 2}, "'workers' here"),
        *(({"fidelity": f, "halving": 3}, "at least two numbers") for f in (
            {"items": 5}, {"items": []}, {"items": "ab"}, {"items": [object(), 2]}, {"seed": [1, 2]},
        )), ({"metric": accuracy}, "the name of a metric"), ({"workers": 1.0}, "workers"),
        ({"workers": True}, "workers"), ({"workers": 0}, "workers"), ({"threads": 0}, "threads"),
        ({"fidelity": {"items": [1]}}, "goes with halving"),
        ({"fidelity": {"lr": [1, 2]}, "halving": 3}, "cannot be both"), ({"direction": "max"}, "knows its direction"),
        ({"metric": "acc"}, "no metric 'acc'"), ({"every": "often"}, "every"),
    ],
)  # fmt: skip
def test_what_is_no_search_is_refused(wrong: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=words):
        look(tmp_path, **wrong)


def test_a_name_that_the_space_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"p has no 'hidden'.*lr, seed"):
        search(make, {"lr": log(1e-3, 1)}, fit, tmp_path, progress=False)


SCRIPT = """
from tests.experiment.small_search import SPACE, fit, make as small

def make(p):
    return small(p)

if __name__ == "__main__":
    el.search(make, SPACE, fit, "unused")
"""


def test_join(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    script, folder = tmp_path / "job.py", tmp_path / "s"
    script.write_text(SCRIPT)
    names: dict[str, Any] = {"__name__": "job", "__file__": str(script)}
    exec(compile(SCRIPT, str(script), "exec"), names)
    search(names["make"], SPACE, fit, folder, trials=3, progress=False)
    for file in [*(folder / "events").iterdir(), *(folder / "claims").iterdir()]:  # as if none had been done
        file.unlink()
    assert main(["search", "join", str(folder), "--script", str(script)]) == 0
    assert "Found(3 trials, best accuracy" in capsys.readouterr().out
    assert same(join(folder, script), look(tmp_path / "b", trials=3))
    script.write_text(f"{SCRIPT}\nwith open({str(tmp_path / 'ran')!r}, 'a') as file:\n    file.write('x')\n")
    join(folder, script)
    assert (tmp_path / "ran").read_text() == "x"  # for both functions
    assert main(["search", "join", str(tmp_path / "none")]) == 1
    assert "holds no search" in capsys.readouterr().err
    script.write_text("x = 1")
    with pytest.raises(StateError, match="has no 'make' at its top"):
        join(folder, script)
    with pytest.raises(StateError, match="--script"):
        join(folder, tmp_path / "gone.py")


def test_language_models_are_searched_and_have_no_predictions_to_keep(tmp_path: Path) -> None:
    def make_language(p: Any) -> Learner:
        return learners.language(device="cpu", progress=False, seed=p.seed)

    def fit_language(learn: Learner, p: Any, **how: Any) -> Any:
        return learn.fit(p.lr, 1, **how)

    found = search(make_language, {"lr": log(1e-3, 1e-2)}, fit_language, tmp_path / "s", trials=2, progress=False)
    assert [t.status for t in found.trials] == ["done", "done"] and found.best.value is not None
    with pytest.raises(ArgumentError, match="a language model has none"):
        cross_fit(make_language, folds(10, 2), fit_language, tmp_path / "c")
