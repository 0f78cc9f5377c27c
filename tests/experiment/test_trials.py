"""Trials: points, rungs, what came of a fit, going on in its folder, predictions that are kept."""

from __future__ import annotations

import gc
import pickle
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import easylearn as el
from easylearn.errors import ArgumentError, EasyLearnWarning, StateError, WeightsError
from easylearn.experiment.engine import Engine, once
from easylearn.experiment.store import Job
from easylearn.experiment.trials import (
    LeaseLost,
    Recipe,
    names_read,
    point_of,
    read_predictions,
    run_trial,
    rungs_of,
    train,
    watcher,
    write_predictions,
)
from easylearn.learning import Learner
from easylearn.placement import Placement
from easylearn.task import Predictions
from easylearn.train.checkpoints.reader import SavedRun
from tests.experiment.small_search import data, fit, make, weights
from tests.learners import small_body

POINT = {"lr": 0.1, "hidden": 8}


def never() -> bool:
    return False


def trial(recipe: Recipe, folder: Path, rung: int = 0, **point: Any) -> dict[str, Any]:
    return run_trial(recipe, Job(3, {**POINT, **point}, rung=rung), folder, never)


def test_a_point_is_read_by_attribute() -> None:
    p = point_of({"lr": 0.1, "arch": None})
    assert p.lr == 0.1 and names_read(p) == {"lr"}
    assert repr(p) == "Point(lr=0.1, arch=None)"
    with pytest.raises(AttributeError, match="batch"):
        _ = p.batch
    with pytest.raises(StateError, match=r"p\.lr = "):
        p.lr = 1
    again = pickle.loads(pickle.dumps(p))  # as to another process
    assert again.arch is None and names_read(again) == {"arch"}


@pytest.mark.parametrize(
    ("ends", "halving", "rungs"),
    [
        ([1, 4, 13], 3, [1, 4, 13]),
        ([1, 2, 3, 4], 2, [1, 2, 4]),
        ([1, 3, 7, 15], 4, [3, 15]),  # 3.75 is nearest to 3
        ([2, 52], 3, [2, 52]),
    ],
)
def test_rungs_are_ends_of_cycles(ends: list[int], halving: float, rungs: list[int]) -> None:
    run: Any = SimpleNamespace(steps_per_epoch=10, cycle_ends=[10 * e for e in ends])
    assert rungs_of(run, halving) == rungs


def test_one_cycle_has_no_rungs(tmp_path: Path) -> None:
    def one_cycle(learn: Learner, p: Any, **how: Any) -> Any:
        return learn.fit_one_cycle(p.lr, 4, **how)

    with pytest.raises(ArgumentError, match=r"one-cycle.*cycle_mult"):
        trial(Recipe(make, one_cycle, halving=3), tmp_path)


def test_a_trial_is_the_same_as_a_fit_by_hand(tmp_path: Path) -> None:
    recipe = Recipe(make, fit)
    row = trial(recipe, tmp_path)
    from easylearn import keyed

    with keyed.scoped_rng(0, "trial"):
        learn = make(point_of({**POINT, "seed": 0}))
        learn.progress = False
        record = fit(learn, point_of(POINT))
    assert row["curve"] == [e["accuracy"] for e in record.epochs]
    assert (row["status"], row["metric"], row["higher"], row["epochs"]) == ("done", "accuracy", True, 4)
    assert row["value"] == row["curve"][-1] and (row["trial"], row["rung"]) == (3, 0)
    job = Job(3, POINT)
    again = train(recipe, job, recipe.point(job), tmp_path, watcher(recipe, job))
    assert weights(again) == weights(learn)
    said = read_predictions(tmp_path / "valid.safetensors")
    assert torch.equal(said.probs, learn.predict(split="valid").probs)


def test_a_trial_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    quiet = trial(Recipe(make, fit), tmp_path / "quiet")

    class Stop(el.Callback):
        def __init__(self, after: int) -> None:
            self.after, self.batches = after, 0

        def on_batch_end(self, run: Any) -> None:
            self.batches += 1
            if self.batches > self.after:
                raise LeaseLost

    batches: list[int] = []
    for _ in range(20):
        stop = Stop(4)
        recipe = Recipe(make, fit, every=2, callbacks=lambda job, folder, stop=stop: [stop])  # type: ignore[misc]
        try:
            row = trial(recipe, tmp_path / "stopped")
            break
        except LeaseLost:
            batches.append(stop.batches)
    assert len(batches) == 2 and {**row, "seconds": 0} == {**quiet, "seconds": 0}


def test_the_rungs_of_a_trial_are_those_of_a_straight_one(tmp_path: Path) -> None:
    straight, halved = Recipe(make, fit), Recipe(make, fit, halving=3)
    whole = trial(straight, tmp_path / "a")
    first = trial(halved, tmp_path / "b")
    second = trial(halved, tmp_path / "b", rung=1)
    assert (first["status"], first["epochs"], first["rungs"]) == ("paused", 1, [1, 4])
    assert (second["status"], second["epochs"]) == ("done", 4)
    assert first["curve"] == whole["curve"][:1] and second["curve"] == whole["curve"]
    job = Job(3, POINT, rung=1)
    both = [train(r, job, r.point(job), tmp_path / f, watcher(r, job)) for r, f in ((straight, "a"), (halved, "b"))]
    assert weights(both[0]) == weights(both[1])


def test_a_trial_of_several_fits_goes_on_in_each(tmp_path: Path) -> None:
    def two(learn: Learner, p: Any, **how: Any) -> Any:
        learn.fit(p.lr, 2, **how)
        return learn.fit(p.lr / 2, 2, **how)

    row = trial(Recipe(make, two), tmp_path)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["fit_1", "fit_2"]
    assert {**trial(Recipe(make, two), tmp_path), "seconds": 0} == {**row, "seconds": 0}
    with pytest.raises(ArgumentError, match=r"twice with \*\*how"):
        trial(Recipe(make, two, halving=3), tmp_path / "halved", rung=1)
    with pytest.raises(ArgumentError, match=r"twice with \*\*how, and stop="):  # the first would be stopped by the last
        trial(Recipe(make, two, stop=0.95), tmp_path / "stopped")


def test_what_diverged_has_no_value(tmp_path: Path) -> None:
    def make_regression(p: Any) -> Learner:
        x = torch.linspace(-1, 1, 40)[:, None]
        learn_from = el.TensorData((x, x), (x, x), el.regression(["y"]), batch_size=2)
        return Learner(learn_from, nn.Linear(1, 1), optimizer=el.sgd, seed=p.seed)

    def fit_wildly(learn: Learner, p: Any, **how: Any) -> Any:
        return learn.fit(1000, 2, **how)

    with pytest.warns(EasyLearnWarning, match=r"reads p\.lr, p\.hidden"):
        row = trial(Recipe(make_regression, fit_wildly), tmp_path)
    assert (row["status"], row["value"]) == ("diverged", None) and row["reason"]
    assert not (tmp_path / "valid.safetensors").exists()


@pytest.mark.parametrize("kind", [MemoryError, torch.cuda.OutOfMemoryError])
def test_what_has_no_memory_is_infeasible(kind: type[Exception], tmp_path: Path) -> None:
    def greedy(p: Any) -> Learner:
        raise kind(f"{p.lr} and {p.hidden}: out of memory")

    row = trial(Recipe(greedy, fit), tmp_path)
    assert (row["status"], row["value"]) == ("infeasible", None) and "out of memory" in row["reason"]


def test_an_error_stops_or_is_the_end_of_its_trial(tmp_path: Path) -> None:
    def broken(p: Any) -> Learner:
        raise OSError(2, "no such file", "photos")

    with pytest.raises(OSError, match="photos"):
        trial(Recipe(broken, fit), tmp_path)
    row = trial(Recipe(broken, fit, on_error="skip"), tmp_path)
    assert row["status"] == "failed" and "photos" in row["reason"]


def test_names_that_a_point_lacks_are_refused(tmp_path: Path) -> None:
    def misspelt(p: Any) -> Learner:
        return make(point_of({"hidden": p.hiden, "seed": 0}))

    with pytest.raises(ArgumentError, match=r"p has no 'hiden'.*Did you mean 'hidden'"):
        trial(Recipe(misspelt, fit, on_error="skip"), tmp_path)

    def other(p: Any) -> Learner:
        return p.lr.shape  # not of the point

    with pytest.raises(AttributeError, match="shape"):
        trial(Recipe(other, fit), tmp_path)


def test_a_make_that_ignores_its_fold_is_refused(tmp_path: Path) -> None:
    needs = (("valid", "this make ignores its fold: give valid=p.valid"),)
    recipe = Recipe(make, fit, more=lambda job: {"valid": [1, 2]}, needs=needs)
    with pytest.raises(ArgumentError, match=r"p\.valid: this make ignores its fold"):
        run_trial(recipe, Job(0, POINT, fold=2), tmp_path, never)

    def folded(p: Any) -> Learner:
        assert p.valid == [1, 2] and p.fold == 2
        return make(p)

    recipe = Recipe(folded, fit, more=lambda job: {"valid": [1, 2]}, needs=needs)
    assert run_trial(recipe, Job(0, POINT, fold=2), tmp_path / "x", never)["status"] == "done"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Recipe(lambda p: None, fit), "make must give a Learner"),  # type: ignore[arg-type, return-value]
        (Recipe(make, lambda learn, p, **how: learn.fit(p.lr, 1)), "did not pass on"),
        (Recipe(make, fit, metric="acuracy"), "Did you mean 'accuracy'"),
    ],
)
def test_what_is_no_recipe_is_refused(wrong: Recipe, words: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=words):
        trial(wrong, tmp_path)


def test_predictions_of_a_head_come_out_of_stored_features(make_learner: Any, tmp_path: Path) -> None:
    seen: list[int] = []

    def precomputed(p: Any) -> Learner:
        learn: Learner = make_learner("body_head")
        learn.freeze()
        learn.precompute = True
        learn.model.body.register_forward_hook(lambda *_: seen.append(1))
        return learn

    recipe = Recipe(precomputed, lambda learn, p, **how: learn.fit(0.1, 2, **how))
    job = Job(0)
    run_trial(recipe, job, tmp_path / "a", never)
    first = len(seen)
    assert first > 0
    run_trial(recipe, job, tmp_path / "b", never)
    assert len(seen) == first
    learn = train(recipe, job, recipe.point(job), tmp_path / "b", watcher(recipe, job))
    said, back = learn.predict(split="valid"), read_predictions(tmp_path / "b" / "valid.safetensors")
    assert torch.equal(back.probs, said.probs) and back.ids == said.ids
    assert back.targets is not None and torch.equal(back.targets, said.targets)


def test_predictions_of_pixels_say_where_their_images_lie(tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    x, y = r.integers(0, 255, (8, 40, 20, 3), dtype=np.uint8), r.integers(0, 2, (8, 40, 20), dtype=np.uint8)

    def precomputed(p: Any) -> Learner:
        given = el.MaskData.from_arrays((x[:4], y[:4]), (x[4:], y[4:]), codes=["a", "b"], size=16, batch_size=4)
        return el.segmentation_learner(given, small_body(), precompute=True, device="cpu", progress=False)

    recipe = Recipe(precomputed, lambda learn, p, **how: learn.fit(0.01, 1, **how))
    run_trial(recipe, Job(0), tmp_path, never)
    back = read_predictions(tmp_path / "valid.safetensors")
    wanted = precomputed(None).data.places("valid")
    assert wanted and back.places == wanted and back[0].mask.shape == (40, 20)  # type: ignore[attr-defined]
    first = train(recipe, Job(0), recipe.point(Job(0)), tmp_path, watcher(recipe, Job(0))).predict(split="valid")
    assert torch.allclose(back.probs, first.probs, atol=1e-2) and first.places == wanted


def test_a_head_is_written_without_its_frozen_body(make_learner: Any, tmp_path: Path) -> None:
    """And goes on to the same weights, to the bit, as with the whole model written."""

    def precomputed(p: Any, grown: bool = False) -> Learner:
        learn: Learner = make_learner("body_head", seed=p.seed)
        learn.freeze()
        learn.precompute = True
        if grown:
            with torch.no_grad():
                next(learn.model.body.parameters()).mul_(2)  # type: ignore[union-attr]
        return learn

    class Stop(el.Callback):
        def __init__(self, after: int) -> None:
            self.after, self.batches = after, 0

        def on_batch_begin(self, run: Any) -> None:
            self.batches += 1
            if self.batches > self.after:
                raise LeaseLost

    def two(learn: Learner, p: Any, **how: Any) -> Any:
        learn.fit(0.1, 2, **how)
        learn.unfreeze()
        return learn.fit(0.01, 2, **how)

    def stopping(after: int) -> Recipe:
        return Recipe(precomputed, two, every=1, callbacks=lambda job, folder: [Stop(after)])

    job, whole = Job(0), Recipe(precomputed, two)
    run_trial(whole, job, tmp_path / "whole", never)
    wanted = weights(train(whole, job, whole.point(job), tmp_path / "whole", watcher(whole, job)))
    n = 0
    while n < 20:  # in the first fit and in the second
        try:
            run_trial(stopping(3), job, tmp_path / "stopped", never)
            break
        except LeaseLost:
            n += 1
    assert n > 3
    recipe = stopping(99)
    assert weights(train(recipe, job, recipe.point(job), tmp_path / "stopped", watcher(recipe, job))) == wanted
    heads, all_of_it = (SavedRun(tmp_path / "whole" / "checkpoints" / f)._state["model"] for f in ("fit_1", "fit_2"))
    assert {name.split(".")[0] for name in (*heads["params"], *heads["buffers"])} == {"head"}
    assert {"body", "head"} <= {name.split(".")[0] for name in all_of_it["params"]}
    grown = Recipe(lambda p: precomputed(p, True), two)
    with pytest.raises(StateError, match="head alone, and the body of the learner"):
        train(grown, job, grown.point(job), tmp_path / "whole", watcher(grown, job))


@pytest.mark.parametrize("halving", [None, 3.0])
def test_the_value_is_that_of_the_weights_that_were_kept(tmp_path: Path, halving: float | None) -> None:
    """Where a fit ends with its best weights the last epoch's counted, which nobody gets."""
    kept: dict[int, float] = {}

    def ending(learn: Learner, p: Any, **how: Any) -> Any:
        keep = el.KeepBest(1)
        try:
            return fit(learn, p, **{**how, "callbacks": [*how["callbacks"], keep]})
        finally:
            assert keep.best is not None
            kept[len(kept)] = keep.best

    recipe = Recipe(make, ending, metric="valid_loss", halving=halving)
    for rung in range(1 if halving is None else 2):
        row = trial(recipe, tmp_path, rung, lr=0.9)
        assert row["value"] == pytest.approx(kept[rung], rel=1e-5)
        assert row["status"] == ("paused" if halving and rung == 0 else "done")
        assert row["value"] < row["curve"][-1], "the last epoch is not the best, so that the test can fail"


def test_the_memory_of_a_trial_is_given_back_with_its_end(tmp_path: Path) -> None:
    """Of twenty trials of a frozen encoder of 90 MB the memory of all was in use, until Python looked for circles."""
    trial(Recipe(make, fit), tmp_path / "first")  # of a process: torch keeps circles of its own of what it looks for
    models = []

    def noted(p: Any) -> Learner:
        learn = make(p)
        models.append(weakref.ref(learn.model))
        return learn

    class Fails(el.Callback):
        def on_fit_end(self, run: Any) -> None:
            raise ZeroDivisionError

    def failing(learn: Learner, p: Any, **how: Any) -> None:
        fit(learn, p, **{**how, "callbacks": [*how["callbacks"], Fails()]})

    gc.disable()
    try:
        trial(Recipe(noted, fit), tmp_path / "done")
        trial(Recipe(noted, failing, on_error="skip"), tmp_path / "failed")
        assert trial(Recipe(noted, fit, halving=3), tmp_path / "paused", rung=0)["status"] == "paused"
        engine = Engine(tmp_path / "x", {}, Recipe(noted, fit), once([Job(0, POINT)]))
        engine.run()
        learn = engine.learner(Job(0, POINT))
        assert len(models) == 5 and [m() is None for m in models] == [True, True, True, True, False]
        del learn
        assert models[-1]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("trained", [True, False])
def test_a_body_that_was_trained_before_its_head_is_written_with_it(
    make_learner: Any, tmp_path: Path, trained: bool
) -> None:
    """For whoever goes on trains it anew, and a GPU gives other last bits: the trial was then refused."""
    times = []

    class Stop(el.Callback):
        def on_batch_begin(self, run: Any) -> None:
            if run.step == 3 and len(times) == 1:
                raise LeaseLost

    def body_then_head(learn: Learner, p: Any, **how: Any) -> Any:
        times.append(len(times))
        if trained:
            learn.unfreeze()
        learn.fit(0.01, 1)
        with torch.no_grad():
            next(learn.model.body.parameters()).add_(1e-6 * times[-1] * trained)  # type: ignore[union-attr]
        learn.freeze()
        learn.precompute = True
        return learn.fit(0.1, 2, **how)

    def frozen(p: Any) -> Learner:
        learn: Learner = make_learner("body_head", seed=p.seed)
        learn.freeze()
        return learn

    job, recipe = Job(0), Recipe(frozen, body_then_head, every=1, callbacks=lambda job, folder: [Stop()])
    with pytest.raises(LeaseLost):
        run_trial(recipe, job, tmp_path, never)
    assert run_trial(recipe, job, tmp_path, never)["status"] == "done" and len(times) == 2
    written = SavedRun(tmp_path / "checkpoints" / "fit_1")._state["model"]
    assert {name.split(".")[0] for name in written["params"]} == ({"body", "head"} if trained else {"head"})
    again = train(recipe, job, recipe.point(job), tmp_path, watcher(recipe, job))
    body = {name: p for name, p in again.model.named_parameters() if name.startswith("body.")}
    assert all(torch.equal(p, written["params"][name]) for name, p in body.items() if trained)


def test_predictions_come_back(tmp_path: Path) -> None:
    said = make(point_of({**POINT, "seed": 0})).predict(split="valid")
    named = Predictions.of(said.task, said.probs, data()[1], said.targets, None)
    write_predictions(tmp_path / "p", named)
    back = read_predictions(tmp_path / "p")
    assert torch.equal(back.probs, named.probs) and back.targets is not None
    assert torch.equal(back.targets, named.targets) and list(back.ids) == data()[1]  # type: ignore[arg-type]
    assert back.task.to_json() == named.task.to_json() and back.places is None
    lie = [Placement((100 + i, 50), (64, 32), 1, 2, (60, 30)) for i in range(len(said))]
    write_predictions(tmp_path / "p", replace(named, places=lie))
    assert read_predictions(tmp_path / "p").places == lie
    write_predictions(tmp_path / "p", replace(named, places=lie[1:]))
    with pytest.raises(WeightsError, match="where its images lie"):
        read_predictions(tmp_path / "p")
