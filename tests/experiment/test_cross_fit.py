"""cross_fit: each item predicted by who never saw it, in file order; kills; who ignores the plan is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import easylearn as el
from easylearn.errors import ArgumentError, DataError, EasyLearnWarning, StateError
from easylearn.experiment.blend import blend
from easylearn.experiment.certainty import rows_of
from easylearn.experiment.cross_fit import NOTE, Crossed, _joined, _mean, _out_of_fold, cross_fit
from easylearn.experiment.store import Job
from easylearn.learning import Learner
from easylearn.metrics import accuracy, log_loss
from easylearn.placement import Placement
from easylearn.task import Predictions, average_predictions, gathered, masks
from easylearn.task.boxes import boxes
from tests.experiment.folded import TABLE, TEST, N, by_hand, fit, make, make_tensors, table, tensors, two_columns
from tests.learners import small_body

PLAN = el.folds(N, 3, seed=1)


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Crossed:
    return cross_fit(make, PLAN, fit, tmp_path_factory.mktemp("cv"), seeds=2, test=True)


def alone(fold: int, seed: int) -> Learner:
    """One fold trained without cross_fit."""
    data = el.TabularData.from_df(TABLE, "y", valid=PLAN[fold][1], test=TEST, cat_names=["b"], batch_size=16)
    learn = el.tabular_learner(data, [4], seed=seed, progress=False)
    learn.fit(0.05, 1)
    return learn


def test_it_is_what_training_each_fold_by_hand_gives(crossed: Crossed) -> None:
    probs = torch.zeros(N, 2)
    tests = []
    for fold, (_, valid) in enumerate(PLAN):
        learners = [alone(fold, seed) for seed in (0, 1)]
        probs[valid] = torch.stack([one.predict().probs for one in learners]).mean(0)
        tests += [one.predict(split="test").probs for one in learners]
    assert torch.allclose(crossed.oof.probs, probs, atol=1e-6)
    assert crossed.test is not None and torch.allclose(crossed.test.probs, torch.stack(tests).mean(0), atol=1e-6)


def test_every_item_once_in_file_order_with_its_target(crossed: Crossed) -> None:
    assert crossed.oof.ids == tuple(map(str, range(N)))
    said = [crossed.oof.classes[int(t)] for t in crossed.oof.targets]  # type: ignore[union-attr]
    assert said == TABLE.y.tolist()
    right = np.mean([a == b for a, b in zip(crossed.oof.labels, TABLE.y, strict=True)])
    assert crossed.score.value == pytest.approx(right) and crossed.score.low < right < crossed.score.high
    frame = crossed.table()
    assert list(frame["valid"]) == [20, 20, 20] and (frame.accuracy * 20).sum() == pytest.approx(right * N)
    assert "Crossed(Folds(3 of 60 items, seed 1): accuracy " in repr(crossed)


def test_again_is_at_once_and_another_experiment_is_refused(crossed: Crossed) -> None:
    assert crossed.engine is not None
    folder = crossed.engine.folder

    def never(p: Any) -> Any:
        raise AssertionError("trained once already")

    with pytest.warns(EasyLearnWarning, match="make has changed"):
        again = cross_fit(never, PLAN, fit, folder, seeds=2, test=True)
    assert torch.equal(again.oof.probs, crossed.oof.probs) and again.oof.ids == crossed.oof.ids
    with pytest.raises(StateError, match="plan"):
        cross_fit(make, el.folds(N, 3, seed=2), fit, folder, seeds=2, test=True)


def test_learners_are_made_anew_with_their_weights(crossed: Crossed) -> None:
    learners = list(crossed.learners())
    assert len(learners) == 6
    for job, learn in zip(crossed.jobs, learners, strict=True):
        valid = PLAN[job.fold or 0][1]
        assert list(learn.data.ids("valid")) == list(map(str, valid))
    mean = torch.stack([one.predict().probs for one in learners[1::3]]).mean(0)
    assert torch.allclose(crossed.oof.probs[PLAN[1][1]], mean, atol=1e-6)


def test_a_file_of_all_trainings_predicts_as_test_does(crossed: Crossed, tmp_path: Path) -> None:
    predictor = el.load_predictor(crossed.export(tmp_path / "all.easylearn"))
    assert crossed.test is not None
    assert torch.allclose(predictor.predict(TEST).probs, crossed.test.probs, atol=1e-6)
    with pytest.raises(ArgumentError, match=r"several models.*load_predictor"):
        el.load_learner(tmp_path / "all.easylearn")


SCRIPT = """
import os, sys
import easylearn as el
from easylearn.train.callback import Callback
from folded import fit, make_tensors

class Killed(Callback):
    def on_batch_end(self, run):
        if self.fold == 2 and run.step == 2:
            os.kill(os.getpid(), 9)

def killed(job, folder):
    one = Killed()
    one.fold = job.fold
    return [one]

el.cross_fit(make_tensors, el.folds(40, 4), fit, sys.argv[1], callbacks=killed)
"""


def test_it_goes_on_after_a_kill(tmp_path: Path) -> None:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parents[1]), str(here)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "cv")]
    first = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "cv" / "trials").glob("*/valid.safetensors")}
    assert first.returncode == -9 and len(before) == 2, first.stderr
    second, straight = (cross_fit(make_tensors, el.folds(40, 4), fit, tmp_path / name) for name in ("cv", "straight"))
    assert torch.equal(second.oof.probs, straight.oof.probs)
    assert all(f.stat().st_mtime_ns == at for f, at in before.items())  # nothing was trained twice


def test_tensors_without_names_are_numbered_by_their_position(tmp_path: Path) -> None:
    x, y = tensors()
    crossed = cross_fit(make_tensors, el.folds(len(x), 4), fit, tmp_path)
    assert crossed.oof.ids == tuple(map(str, range(len(x)))) and crossed.test is None
    assert torch.equal(crossed.oof.targets, y)  # type: ignore[arg-type]


def test_repeats_are_averaged_and_groups_are_drawn_whole(tmp_path: Path) -> None:
    x, _ = tensors()
    crossed = cross_fit(make_tensors, el.folds(len(x), 2, repeats=2), fit, tmp_path / "a")
    assert len(crossed.jobs) == 4 and len(crossed.oof) == len(x)
    groups = np.arange(40) // 10
    plan = el.folds(40, 2, groups=groups)
    probs = torch.eye(2)[(torch.arange(40) < 10).long()]
    one = by_hand(plan, probs, torch.ones(40, dtype=torch.int64))
    plain = by_hand(replace(plan, groups=None), probs, torch.ones(40, dtype=torch.int64))
    assert one.score.high - one.score.low > 1.5 * (plain.score.high - plain.score.low)


def test_in_time_the_first_items_only_train(tmp_path: Path) -> None:
    plan = el.folds(40, 3, times=range(40))
    crossed = cross_fit(make_tensors, plan, fit, tmp_path)
    assert crossed.oof.ids == tuple(map(str, range(10, 40))) and len(crossed.table()) == 3


def test_a_score_of_another_metric(tmp_path: Path) -> None:
    crossed = cross_fit(make_tensors, el.folds(40, 2), fit, tmp_path, metric=log_loss)
    assert crossed.score.value == pytest.approx(float(log_loss(crossed.oof.probs, crossed.oof.targets)))  # type: ignore[arg-type]


# -- who does not follow the plan ------------------------------------------------------------------------------


def own_split(p: Any) -> Learner:
    data = el.TabularData.from_df(TABLE, "y", valid=0.25, cat_names=["b"], batch_size=16)
    return el.tabular_learner(data, [4], seed=p.seed)


def same_size(p: Any) -> Learner:
    data = el.TabularData.from_df(TABLE, "y", valid=range(20), cat_names=["b"], batch_size=16)
    return el.tabular_learner(data, [4], seed=p.seed)


def shuffled(p: Any) -> Learner:
    data = el.TabularData.from_df(TABLE.sample(frac=1, random_state=p.fold), "y", valid=p.valid, cat_names=["b"])
    return el.tabular_learner(data, [4], seed=p.seed)


def shuffled_tensors(p: Any) -> Learner:
    x, y = tensors()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(p.fold))
    x, y = x[order], y[order]
    data = el.TensorData((x[p.train], y[p.train]), (x[p.valid], y[p.valid]), el.single_label(["a", "b"]))
    return Learner(data, torch.nn.Linear(3, 2))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (own_split, "fold 0 trains on 40 items and validates on 20, but the data that make gives has 45 and 15: give "),
        (same_size, "does not split as the plan says. Give valid=p.valid"),
        (shuffled, "does not split as the plan says"),
    ],
)
def test_a_make_that_ignores_its_fold(wrong: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=words):
        cross_fit(wrong, PLAN, fit, tmp_path)
    crossed = cross_fit(make, PLAN, fit, tmp_path)  # the same folder, once make does
    assert len(crossed.oof) == N


def test_tensors_are_known_by_their_contents(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="does not split as the plan says"):
        cross_fit(shuffled_tensors, el.folds(40, 4), fit, tmp_path)
    assert (tmp_path / NOTE).exists()


def test_seeds_that_nobody_reads(tmp_path: Path) -> None:
    def unseeded(p: Any) -> Learner:
        data = el.TabularData.from_df(TABLE, "y", valid=p.valid, cat_names=["b"], batch_size=16)
        return el.tabular_learner(data, [4])

    with pytest.raises(ArgumentError, match=r"give seed=p.seed"):
        cross_fit(unseeded, PLAN, fit, tmp_path, seeds=2)


def test_no_test_split(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="test=True predicts the test split, and the data that make gives has none"):
        cross_fit(make_tensors, el.folds(40, 4), fit, tmp_path, test=True)


def test_what_persons_took_cannot_follow_a_plan_of_rows(tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    rows = pd.DataFrame({"user": r.integers(0, 8, 90), "item": r.integers(0, 9, 90)}).drop_duplicates()

    def persons(p: Any) -> Learner:
        valid = {"valid": p.valid} if "valid" in p._given else {"seed": p.seed}
        data = el.InteractionData.from_df(rows, "user", "item", batch_size=4, **valid)
        return el.recommender(data, 4, seed=p.seed, device="cpu", progress=False)

    with pytest.raises(ArgumentError, match=r"a person, of whose things valid= holds back.*seed=p\.seed.*spread\("):
        cross_fit(persons, el.folds(len(rows), 3), fit, tmp_path)
    assert len(el.spread(persons, fit, seeds=2).values) == 2  # as advised


def test_folds_with_other_classes(tmp_path: Path) -> None:
    frame = table()
    frame.loc[PLAN[0][1][:1], "y"] = "seldom"  # in the fold that holds it, training has no such class

    def rare(p: Any) -> Learner:
        data = el.TabularData.from_df(frame, "y", valid=p.valid, cat_names=["b"], batch_size=16)
        return el.tabular_learner(data, [4], seed=p.seed)

    with pytest.raises(el.EasyLearnError, match="seldom"):
        cross_fit(rare, PLAN, fit, tmp_path)


@pytest.mark.parametrize("plan", [3, [(1, 2, 3)], [([0, 1], [1, 2])], [(["a"], ["b"])]])
def test_what_is_no_plan(plan: Any, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="plan"):
        cross_fit(make, plan, fit, tmp_path)


def test_a_fold_that_diverged(tmp_path: Path) -> None:
    def some(learn: Learner, p: Any, diverging: Any, **how: Any) -> Any:
        if (p.fold, p.seed) in diverging:
            torch.nn.init.constant_(next(learn.model.parameters()), float("nan"))
        return learn.fit(0.05, 1, **how)

    with pytest.raises(StateError, match=r"fold 1 with seed 0 is diverged.*smaller rate"):
        cross_fit(make, PLAN, partial(some, diverging=[(1, 0)]), tmp_path / "one")
    with pytest.warns(EasyLearnWarning, match=r"fold 1 with seed 0 is diverged.*other seeds alone"):
        crossed = cross_fit(make, PLAN, partial(some, diverging=[(1, 0)]), tmp_path / "two", seeds=2)
    assert len(crossed.jobs) == 5 and len(crossed.oof) == N


def test_what_can_be_found_of_leaks_is_warned_of_before_training(tmp_path: Path) -> None:
    train, valid = PLAN[0]
    frame = table()
    for k in range(4):
        frame.loc[valid[k]] = frame.loc[train[k]]

    def leaking(p: Any) -> Learner:
        data = el.TabularData.from_df(frame, "y", valid=p.valid, cat_names=["b"], batch_size=16)
        return el.tabular_learner(data, [4], seed=p.seed)

    with pytest.warns(EasyLearnWarning, match="before training, leak, equal items"):
        cross_fit(leaking, PLAN, fit, tmp_path / "warned")
    cross_fit(leaking, PLAN, fit, tmp_path / "quiet", check=False)  # a warning would be an error here


def test_arguments_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"plain values .*object is not JSON"):
        cross_fit(make, PLAN, fit, tmp_path / "a", p={"a": object()})
    with pytest.raises(ArgumentError, match="seed must be a whole number"):
        cross_fit(make, PLAN, fit, tmp_path / "a", seed="a")  # type: ignore[arg-type]
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ArgumentError, match=r"is to be a folder, and .*file.* is a file"):
            cross_fit(make, PLAN, fit, folder)
    masks = [(np.isin(np.arange(60), a), np.isin(np.arange(60), b)) for a, b in PLAN]
    for odd in (masks, [(np.array([0.0, 1.0]), np.array([2]))], [(np.array([-1, 0]), np.array([2]))]):
        with pytest.raises(ArgumentError, match=r"positions from 0 on.*np\.flatnonzero\(mask\)"):
            cross_fit(make, odd, fit, tmp_path / "b")  # type: ignore[arg-type]


def test_asking_for_learners_leaves_what_was_tracked_alone(tmp_path: Path) -> None:
    def tracked(job: Any, folder: Path) -> list[Any]:
        return [el.Track(folder / "run", code=False)]

    def two(learn: Learner, p: Any, **how: Any) -> Any:
        learn.fit(0.05, 1, **how)
        return learn.fit(0.01, 1, **how)

    crossed = cross_fit(make, el.folds(60, 2), two, tmp_path, callbacks=tracked)
    files = sorted(tmp_path.glob("trials/*/run/*"))
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files}
    assert len(files) == 8 and len(list(crossed.learners())) == 2
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in files} == before


def test_folds_share_the_features_of_a_frozen_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path / "cache"))
    x = np.random.default_rng(0).integers(0, 255, (54, 16, 16, 3), dtype=np.uint8)
    rows = 0

    def counted(body: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        nonlocal rows
        rows += int((inputs[0].flatten(1).std(1) > 0).sum())  # rows of one number fill a batch up

    def images(p: Any) -> Learner:
        train, valid = ((x[side], [str(k % 2) for k in side]) for side in (p.train, p.valid))
        data = el.ImageData.from_arrays(train, valid, size=16, batch_size=8, test=x[48:], workers=0)
        learn = el.vision_learner(data, small_body(), precompute=True, seed=p.seed)
        learn.model.body.register_forward_pre_hook(counted)  # type: ignore[union-attr, operator]
        return learn

    crossed = cross_fit(images, el.folds(48, 4), fit, tmp_path / "cv", test=True)
    assert rows == 54  # each image once, of the test split too
    full = [learn.predict().probs for learn in crossed.learners()]
    held = torch.cat([torch.from_numpy(valid) for _, valid in el.folds(48, 4)])
    assert torch.allclose(crossed.oof.probs[held], torch.cat(full), atol=1e-6)


def test_predictions_from_elsewhere() -> None:
    y = torch.tensor([0, 1] * 10)
    one = by_hand(el.folds(20, 4), two_columns(y), y, metric=accuracy)
    assert one.score.value == 1
    with pytest.raises(StateError, match="without their trainings"):
        next(one.learners())
    with pytest.raises(DataError, match="holds out 21 items, and there are 20"):
        by_hand(el.folds(21, 3), two_columns(y), y)


def test_a_table_of_which_pandas_numbers_are_others(tmp_path: Path) -> None:
    """Positions, not labels: rows of a frame that was filtered keep their old labels as ids."""
    frame = pd.concat([TABLE.iloc[::2], TABLE.iloc[1::2]])

    def moved(p: Any) -> Learner:
        data = el.TabularData.from_df(frame, "y", valid=p.valid, cat_names=["b"], batch_size=16)
        return el.tabular_learner(data, [4], seed=p.seed)

    crossed = cross_fit(moved, PLAN, fit, tmp_path)
    assert list(crossed.oof.ids) == [str(i) for i in frame.index]
    assert [crossed.oof.classes[int(t)] for t in crossed.oof.targets] == frame.y.tolist()  # type: ignore[union-attr]


SHAPES = [(16, 32), (32, 16), (24, 24)]


def make_masks(p: Any) -> Learner:
    x = [np.random.default_rng(k).integers(0, 255, (*SHAPES[k % 3], 3), dtype=np.uint8) for k in range(12)]
    y = [(one[..., 0] > 128).astype(np.uint8) for one in x]
    data = el.MaskData.from_arrays((x, y), valid=p.valid, size=32, codes=["dark", "light"], batch_size=4)
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 4, 4), torch.nn.Conv2d(4, 8, 2, 2))
    return el.segmentation_learner(data, body, cut=2, precompute=p.precompute, progress=False)


def fit_masks(learn: Learner, p: Any, **how: Any) -> Any:
    return learn.fit(1e-2, 1, **how)


@pytest.mark.parametrize("precompute", [False, True])
def test_masks_keep_the_size_of_their_images(precompute: bool, tmp_path: Path) -> None:
    plan = el.folds(12, 3)
    crossed = cross_fit(make_masks, plan, fit_masks, tmp_path, p={"precompute": precompute})
    assert [crossed.oof.mask(i).shape for i in range(12)] == SHAPES * 4  # type: ignore[attr-defined]
    some = rows_of(crossed.oof, np.array([4, 2]))
    assert [some.mask(i).shape for i in range(2)] == [SHAPES[1], SHAPES[2]]  # type: ignore[attr-defined]
    mixed = blend([crossed, crossed])
    assert mixed.oof.mask(1).shape == SHAPES[1]  # type: ignore[attr-defined]


BOXES = [np.array([[4.0, 4.0, 20.0, 20.0, k % 2]] * n) for k, n in enumerate([1, 2, 0, 1, 5, 1, 1, 1])]


def make_boxes(p: Any) -> Learner:
    x = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
    data = el.BoxData.from_arrays((x, BOXES), valid=p.valid, size=32, classes=["a", "b"], batch_size=4)
    torch.manual_seed(p.seed)
    body = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 4, 4), torch.nn.Conv2d(4, 8, 2, 2))
    return el.detection_learner(data, body, cut=2, seed=p.seed, progress=False)


def test_boxes_of_several_trainings_are_joined_and_not_averaged(tmp_path: Path) -> None:
    plan = el.folds(8, 2)
    crossed = cross_fit(make_boxes, plan, lambda learn, p, **how: learn.fit(1e-2, 1, **how), tmp_path, seeds=2)
    found, targets = crossed.oof.probs, crossed.oof.targets
    assert set(found[..., 5].unique().tolist()) <= {0.0, 1.0}  # a mean of two lists of boxes has classes in between
    assert (found[:, 1:, 4] <= found[:, :-1, 4]).all()  # the surest first
    assert targets is not None
    assert [int((rows[:, 4] >= 0).sum()) for rows in targets] == [len(boxes) for boxes in BOXES]
    said = [crossed.engine.predictions(job) for job in crossed.jobs if job.fold == 0]  # type: ignore[union-attr]
    joined = average_predictions(*said).probs
    torch.testing.assert_close(found[torch.from_numpy(plan[0][1])], joined)


def test_boxes_of_several_folds_and_seeds_are_joined_where_their_images_lie(tmp_path: Path) -> None:
    """Each split has another number of boxes; what two seeds say of an item is their best, not a mean."""
    task, plan = boxes(["a", "b"]), el.folds(4, 2, seed=0)
    row = torch.tensor([0.0, 0, 8, 8, 0.9, 0])

    def said(job: Job) -> Predictions:
        valid = plan[job.fold or 0][1].tolist()
        n = 1 + (job.fold or 0)  # boxes of an item
        probs = row.repeat(len(valid), n, 1)
        probs[:, :, :4] += 20 * torch.arange(n)[:, None]
        probs[:, :, 4] = torch.tensor([[0.9, 0.6][job.seed]])
        probs[:, 0, 0] = torch.tensor(valid, dtype=torch.float32)  # which item it is
        places = [Placement((80, 80), (32, 32), i, 0, (32, 32)) for i in valid]
        return Predictions.of(task, probs, [f"{i}.jpg" for i in valid], torch.zeros(len(valid), n, 5), places=places)

    engine: Any = SimpleNamespace(predictions=said)
    for seeds in (1, 2):
        found = _out_of_fold(plan, engine, [Job(k, {}, k // 2, k % 2) for k in range(2 * seeds)])
        assert found.ids == tuple(f"{i}.jpg" for i in range(4)) and found.places is not None
        assert [place.top for place in found.places] == [0, 1, 2, 3] and found.probs[:, 0, 0].tolist() == [0, 1, 2, 3]
        assert found.targets is not None and found.targets.shape == (4, 2, 5)
        for fold, (_, valid) in enumerate(plan):
            assert [(found.probs[i, :, 4] > 0.7).sum().item() for i in valid] == [fold + 1] * 2  # no mean of scores
            assert [(found.targets[i, :, 4] >= 0).sum().item() for i in valid] == [fold + 1] * 2


def test_of_many_maps_memory_holds_one_training_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    task, plan = el.multi_label(["a", "b", "c"]), el.folds(30, 3, seed=0)
    alive: list[Any] = []

    def said(job: Job, split: str = "valid") -> Predictions:
        assert gathered.MOST > 100 or sum(ref() is not None for ref in alive) <= 2, "the first of all, and the last one"
        items = plan[job.fold or 0][1] if split == "valid" else np.arange(30)
        probs = torch.rand(len(items), 3, generator=torch.Generator().manual_seed(job.trial))
        targets = (torch.from_numpy(items)[:, None] + torch.arange(3)) % 2
        alive.append(weakref.ref(probs))
        return Predictions.of(task, probs, [f"{i}.jpg" for i in items.tolist()], targets)

    engine: Any = SimpleNamespace(predictions=said)
    jobs = [Job(k, {}, k // 3, k % 3) for k in range(6)]
    few = _out_of_fold(plan, engine, jobs), _mean(said(job, "test") for job in jobs)
    monkeypatch.setattr(gathered, "MOST", 100)
    monkeypatch.setattr(gathered, "_PIECE", 100)
    alive.clear()
    many = _out_of_fold(plan, engine, jobs), _mean(said(job, "test") for job in jobs)
    for a, b in zip(few, many, strict=True):
        torch.testing.assert_close(a.probs, b.probs)
        assert a.ids == b.ids and torch.equal(a.targets, b.targets) and a.labels == b.labels  # type: ignore[arg-type]
    assert few[0].ids == tuple(f"{i}.jpg" for i in range(30))
    mean = torch.stack([said(job).probs for job in jobs if job.fold == 1]).mean(0)
    torch.testing.assert_close(many[0].probs[torch.from_numpy(plan[1][1])], mean)


def test_folds_whose_items_have_unlike_shapes_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(2,\) and \(3,\).*one size="):
        _joined(el.single_label(["a", "b"]), [torch.zeros(4, 2), torch.zeros(4, 3)])
    task, plan = masks(["a", "b"]), el.folds(8, 2, seed=0)

    def said(job: Job) -> Predictions:
        size = 4 + job.trial
        return Predictions.of(task, torch.rand(4, 2, size, size), list("wxyz"), torch.zeros(4, size, size).long())

    engine: Any = SimpleNamespace(predictions=said)
    with pytest.raises(DataError, match=r"\(2, 4, 4\) and \(2, 5, 5\).*one size="):
        _out_of_fold(plan, engine, [Job(k, {}, 0, k) for k in range(2)])


def test_what_is_guessed_of_the_data_is_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def guessed(p: Any) -> Learner:
        data = el.TabularData.from_df(TABLE, "y", valid=p.valid, batch_size=16)
        return el.tabular_learner(data, [4], seed=p.seed)

    cross_fit(guessed, PLAN, fit, tmp_path, progress=False)
    assert capsys.readouterr().out.count(" categorical: ") == 1
