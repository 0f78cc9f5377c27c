from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import easylearn as el
from easylearn.data.bunch import BlankData
from easylearn.errors import ArgumentError, StateError, WeightsError
from easylearn.experiment.store import Job
from easylearn.experiment.trials import Recipe, train, watcher
from easylearn.nn.body_head import BodyHead
from easylearn.nn.branched import Branched
from easylearn.train.callback import Callback
from easylearn.train.checkpoints.reader import SavedRun
from easylearn.train.state import Pause, Run
from examples.made_up import encoder
from tests.learners import small_body
from tests.multi.test_data import N, gaps, make, rows

READER = {"emb_size": 6, "n_hidden": 8, "n_layers": 1}


def learner(folder: Path, df: pd.DataFrame | None = None, data: dict[str, Any] | None = None, **how: Any) -> el.Learner:
    made = make(folder, df, **(data or {}))
    given = {"image": {"arch": small_body(), "pretrained": True}, "text": READER, "device": "cpu", "progress": False}
    return el.multi_learner(made, **{**given, **how})


def branched(learn: el.Learner) -> Branched:
    assert isinstance(learn.model, Branched)
    return learn.model


def branch(learn: el.Learner, name: str) -> Any:
    assert isinstance(learn.data, el.MultiData)
    return learn.data.branches[name]


def state(learn: el.Learner) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in learn.model.state_dict().items()}


def changed(learn: el.Learner, before: dict[str, torch.Tensor]) -> set[str]:
    """The layer groups in which anything is not as it was."""
    now, found = learn.model.state_dict(), set()
    for group in learn.layer_groups:
        own = {id(t) for m in group.modules for t in m.state_dict(keep_vars=True).values()}
        names = [n for n, t in learn.model.state_dict(keep_vars=True).items() if id(t) in own]
        found |= {group.name for n in names if not torch.equal(now[n], before[n])}
    return found


class TestMaking:
    def test_it_is_made_of_learners_of_each_branch(self, tmp_path: Path) -> None:
        learn = learner(tmp_path)
        assert [g.name for g in learn.layer_groups] == [
            "image.stem", "image.late", "image.head", "text.embedding", "text.rnn1", "text.head", "table.embeddings",
            "table.hidden", "table.output",
        ]  # fmt: skip
        alone = el.tabular_learner(branch(learn, "table"), device="cpu", progress=False)
        own = branched(learn).branches["table"].state_dict()
        assert all(torch.equal(v, own[n]) for n, v in alone.model.state_dict().items())

    def test_pretrained_branches_start_frozen_and_others_do_not(self, tmp_path: Path) -> None:
        learn = learner(tmp_path)
        assert [g.name for g in learn.layer_groups if not g.trainable] == ["image.stem", "image.late"]
        learn.unfreeze()
        learn.freeze()
        assert [g.name for g in learn.layer_groups if not g.trainable] == ["image.stem", "image.late"]
        learn = learner(tmp_path, image={"arch": small_body(), "pretrained": False})
        assert all(g.trainable for g in learn.layer_groups)
        learn.freeze()  # no branch has a body that is worth keeping: as in a learner of its own
        assert [g.name for g in learn.layer_groups if g.trainable] == ["image.head", "text.head", "table.output"]

    def test_a_model_for_each_of_several(self, tmp_path: Path) -> None:
        df = gaps(rows(tmp_path)).assign(back=lambda d: d["file"].bfill().ffill())
        both = {"image": {"front": "file", "back": "back"}, "size": 8}
        small = {"arch": small_body(), "ps": 0.3}
        learn = learner(tmp_path, df, both, image={"front": small, "back": nn.Sequential(*small_body(), nn.Flatten())})
        drops = [m.p for m in branched(learn).branches["front"].modules() if type(m).__name__ == "Dropout"]
        assert drops == [0.3]
        with pytest.raises(ArgumentError, match=r"'bakc'.*'back'"):
            learner(tmp_path, df, both, image={"front": small_body(), "bakc": small_body()})

    @pytest.mark.parametrize(
        ("how", "match"),
        [
            ({"image": None}, "need a model"),
            ({"table": {"wd": 0.1}}, "wd is of the learner as a whole"),
            ({"table": {"device": "cpu"}}, "device is of the learner as a whole"),
            ({"table": {"members": 4}}, "members"),
            ({"fuse": "sum"}, "fuse"),
            ({"imgae": "resnet18"}, "'image'"),
            ({"precompute": "text"}, "'text' has no frozen body"),
            ({"text": {"alpha": 1.0}}, "alpha"),
        ],
    )
    def test_refused(self, tmp_path: Path, how: dict[str, Any], match: str) -> None:
        with pytest.raises(ArgumentError, match=match):
            learner(tmp_path, **how)

    def test_models_for_inputs_that_are_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match="image="):
            learner(tmp_path, data={"image": None})
        with pytest.raises(ArgumentError, match="MultiData"):
            el.multi_learner(el.TensorData((torch.zeros(2, 1), [0, 1]), None, el.single_label(["a", "b"])))  # type: ignore[arg-type]


class TestTraining:
    @pytest.mark.parametrize("fuse", ["evidence", "mean", "concat"])
    @pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression"])
    def test_every_kind_of_task_learns(self, tmp_path: Path, kind: str, fuse: str) -> None:
        df = gaps(rows(tmp_path))
        target = {
            "single_label": df["y"], "multi_label": df["y"].where(np.arange(N) % 3 > 0, "p n"),
            "regression": [i / 7 + 3.0 * (i % 2) for i in range(N)],
        }  # fmt: skip
        how = {"label_sep": " "} if kind == "multi_label" else {}
        learn = learner(tmp_path, df.assign(y=target[kind]), how, fuse=fuse)
        assert learn.task.kind == kind
        before = learn.validate()["valid_loss"]
        learn.fit_one_cycle(5e-3, 3)
        said = learn.predict()
        assert said.probs.isfinite().all() and len(said) == len(learn.data.ids("valid"))
        assert learn.validate()["valid_loss"] < 1.5 * before

    def test_the_head_of_a_frozen_body_starts_as_a_linear_model(self, tmp_path: Path) -> None:
        learn = learner(tmp_path)
        alone = el.vision_learner(
            learn.data.branches["image"], small_body(), pretrained=True, device="cpu", progress=False
        )  # type: ignore[attr-defined]
        for one in (learn, alone):
            one.fit(0.0, 1)
        own, head = branched(learn).branches["image"], alone.model
        assert isinstance(own, BodyHead) and isinstance(head, BodyHead)
        assert torch.equal(own.head.get_submodule("2").weight, head.head.get_submodule("2").weight)

    @pytest.mark.parametrize("noise", ["image", "table"])
    def test_an_input_that_says_nothing_is_left_out(self, tmp_path: Path, noise: str) -> None:
        rng, n = np.random.default_rng(0), 300
        y = rng.integers(0, 2, n)
        shades = rng.integers(0, 99, (n, 8, 8, 3)) + (100 * y[:, None, None, None] if noise == "table" else 0)
        df = pd.DataFrame({"file": list(shades.astype(np.uint8)), "year": rng.normal(size=n) + y * (noise == "image")})
        given = {"text": None, "cat_names": None, "batch_size": 64, "weights": None}

        def trained() -> el.Learner:
            learn = learner(tmp_path, df.assign(y=y), given, text=None)
            learn.fit(1e-3, 1)
            return learn

        with pytest.warns(el.EasyLearnWarning, match=f"'{noise}' say nothing"):
            learn = trained()
        other = el.branch_learner(learn, "table" if noise == "image" else "image")
        assert torch.allclose(learn.predict().probs, other.predict().probs, atol=1e-6)
        learn.fit(1e-3, 1)  # it is told once
        found = el.branches(learn, draws=100)["accuracy"]
        assert found["all"] == found[f"{'table' if noise == 'image' else 'image'} alone"] > found[f"{noise} alone"]
        learn.load(learn.save("weights"))
        assert branched(learn).shares.any(1).sum() == 1

    def test_named_rates_and_names_that_are_frozen(self, tmp_path: Path) -> None:
        learn = learner(tmp_path)
        learn.fit(1e-3, 1)
        learn.unfreeze("image.late")
        assert [g.name for g in learn.layer_groups if not g.trainable] == ["image.stem"]
        before = state(learn)
        learn.fit({"image.late": 1e-2, "image.head": 1e-2}, 1)
        assert changed(learn, before) == {"image.late", "image.head"}
        learn.freeze("image", "table.hidden")
        before = state(learn)
        learn.fit(slice(1e-3, 1e-2), 1)
        assert changed(learn, before).isdisjoint({"image.stem", "image.late", "table.hidden"})
        assert {"image.head", "text.rnn1", "table.output"} <= changed(learn, before)
        with pytest.raises(ArgumentError, match=r"'imagee'.*'image'"):
            learn.unfreeze("imagee")

    def test_fine_tune_lr_find_plan_summary_and_report(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        learn = learner(tmp_path)
        before = state(learn)
        learn.lr_find(n_steps=10)
        assert changed(learn, before) == set()
        learn.plan(1e-3, 2)
        assert "image.stem" in capsys.readouterr().out and "table.output" in learn.summary()
        learn.fine_tune(1, 1e-3)
        assert all(g.trainable for g in learn.layer_groups)
        assert learn.report(tmp_path / "run.html").stat().st_size > 1000 and learn.interpret().top_losses(3) is not None

    def test_another_size_and_views(self, tmp_path: Path) -> None:
        learn = learner(tmp_path, data={"augment": "side_on"})
        learn.set_data(10)
        learn.fit(1e-3, 1)
        plain, mean = learn.predict().probs, learn.tta(2)
        assert len(mean.views) == 3 and torch.equal(mean.views[0], plain) and not torch.equal(mean.probs, plain)
        items = gaps(rows(tmp_path)).loc[list(learn.data.ids("valid"))]
        predictor = el.Predictor(learn.model, learn.task, learn.data.preprocessor, learn.strategy, 4)
        assert torch.allclose(predictor.predict(items).probs, plain, atol=1e-6)
        assert len(predictor.tta(items, 2).views) == 3


class TestPrecompute:
    def made(self, folder: Path, **how: Any) -> el.Learner:
        there = folder / "encoder"
        return learner(folder, text=there if there.exists() else encoder(there), **how)

    def test_it_trains_as_without_it(self, tmp_path: Path) -> None:
        found = []
        for precompute in (True, False):
            learn = self.made(tmp_path, precompute=precompute, data={"method": "squash"})
            learn.fit(1e-2, 2)
            found.append(learn.predict().probs)
        assert torch.allclose(*found, atol=1e-5)

    def test_what_is_unfrozen_is_stored_no_more(self, tmp_path: Path) -> None:
        learn = self.made(tmp_path, precompute=True)
        inputs = [next(learn._view()[1].batches(torch.device("cpu"))).inputs]
        learn.unfreeze("image")
        inputs.append(next(learn._view()[1].batches(torch.device("cpu"))).inputs)
        assert [x.ndim for x in inputs[0]] == [2, 2, 2, 2, 2] and [x.ndim for x in inputs[1]] == [4, 2, 2, 2, 2]
        assert learn.precompute
        learn.fit({"image.late": 1e-3, "image.head": 1e-3}, 1)
        learn.unfreeze()
        assert not learn.precompute
        with pytest.raises(StateError, match="not frozen"):
            learn.precompute = True

    def test_by_name(self, tmp_path: Path) -> None:
        learn = self.made(tmp_path, precompute="text", data={"augment": "side_on"})
        learn.fit(1e-3, 1)
        assert next(learn._view()[1].batches(torch.device("cpu"))).inputs[0].ndim == 4
        with pytest.raises(ArgumentError, match=r"'table'.*\['image', 'text'\]"):
            self.made(tmp_path, precompute=["table"])

    def test_features_are_shared_with_a_learner_of_images(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        learn = learner(tmp_path, precompute=True)
        learn.fit(1e-3, 1)
        seen: list[int] = []
        how = {"pretrained": True, "precompute": True, "device": "cpu", "progress": False}
        alone = el.vision_learner(branch(learn, "image"), small_body(), **how)
        monkeypatch.setattr(
            BodyHead, "features", lambda self, *x: seen.append(len(x[0])) or self.pool(self.body(*x))  # type: ignore[func-returns-value]
        )  # fmt: skip
        alone.fit(1e-3, 1)
        assert not seen

    def test_checkpoints_of_trials_leave_stored_bodies_out(self, tmp_path: Path) -> None:
        def made(p: Any, grown: bool = False) -> el.Learner:
            learn = self.made(tmp_path / "data", precompute=True)
            if grown:
                with torch.no_grad():
                    next(branched(learn).branches["image"].body.parameters()).mul_(2)  # type: ignore[operator,union-attr]
            return learn

        def fit(learn: el.Learner, p: Any, **how: Any) -> Any:
            return learn.fit(1e-3, 2, **how)

        job, recipe = Job(0, {}, 0), Recipe(made, fit)
        learn = train(recipe, job, recipe.point(job), tmp_path / "trial", watcher(recipe, job))
        written = SavedRun(tmp_path / "trial" / "checkpoints" / "fit_1")._state["model"]
        names = {name for name in written["params"] if name.startswith("branches.image")}
        assert names and not any("body" in name for name in names) and len(written["params"]) > len(names)
        again = train(recipe, job, recipe.point(job), tmp_path / "trial", watcher(recipe, job))
        assert all(torch.equal(a, b) for a, b in zip(*(state(one).values() for one in (learn, again)), strict=True))
        grown = Recipe(lambda p: made(p, True), fit)
        with pytest.raises(StateError, match="of several branches, one of them"):
            train(grown, job, grown.point(job), tmp_path / "trial", watcher(grown, job))


class _Stop(Callback):
    def __init__(self, step: int) -> None:
        self.at = step

    def on_batch_end(self, run: Run) -> None:
        if run.step == self.at:
            run.stop_reason = Pause("killed")


class TestRuns:
    @pytest.mark.parametrize("precompute", [False, True])
    def test_resumed_to_the_bit(self, tmp_path: Path, precompute: bool) -> None:
        def made() -> el.Learner:
            return learner(tmp_path, data={"augment": "side_on"}, precompute=precompute)

        whole = made()
        whole.fit(1e-3, 3)
        broken = made()
        broken.fit(1e-3, 3, checkpoint=tmp_path / "run", every=2, callbacks=[_Stop(7)])
        again = made()
        again.resume(tmp_path / "run", callbacks=[_Stop(-1)])
        assert all(torch.equal(v, again.model.state_dict()[n]) for n, v in whole.model.state_dict().items())

    def test_workers_change_no_weight(self, tmp_path: Path) -> None:
        found = []
        for workers in (0, 2):
            learn = learner(tmp_path, data={"augment": "side_on", "workers": workers, "cache": False})
            learn.unfreeze()
            learn.fit(1e-3, 1)
            found.append(state(learn))
        assert all(torch.equal(found[0][n], found[1][n]) for n in found[0])

    def test_folds(self, tmp_path: Path) -> None:
        df = gaps(rows(tmp_path))

        def made(p: Any) -> el.Learner:
            return learner(tmp_path, df, {"valid": p.valid}, precompute=True, seed=p.seed)

        plan = el.folds(N, 2, seed=0)
        crossed = el.cross_fit(made, plan, lambda learn, p, **how: learn.fit(1e-3, 1, **how), tmp_path / "folds")
        assert len(crossed.oof) == N and list(crossed.oof.ids) == list(df.index)


class TestFiles:
    @pytest.mark.parametrize("fuse", ["evidence", "concat"])
    def test_a_predictor_out_of_one_file(self, tmp_path: Path, fuse: str, monkeypatch: pytest.MonkeyPatch) -> None:
        df = gaps(rows(tmp_path))
        learn = learner(
            tmp_path, df, image={"arch": "squeezenet1_1", "pretrained": False}, data={"size": 32}, fuse=fuse
        )
        learn.fit(1e-3, 1)
        learn.export(tmp_path / "films.easylearn")
        monkeypatch.chdir(tmp_path)  # images of rows are then found in the present folder
        predictor = el.load_predictor("films.easylearn", device="cpu")
        assert torch.equal(predictor.predict(df).probs, learn.predict(df).probs)
        assert torch.equal(predictor.tta(df, 1).views[0], learn.predict(df).probs)
        one = {"title": "a good film", "land": "a", "year": 3.0}
        assert torch.equal(predictor.predict(one).probs, learn.predict(one).probs)
        again = el.load_learner("films.easylearn", device="cpu", progress=False)
        assert isinstance(again.data, BlankData) and torch.equal(again.predict(df).probs, learn.predict(df).probs)
        assert [g.name for g in again.layer_groups] == [g.name for g in learn.layer_groups]
        with pytest.raises(ArgumentError, match="set_data"):
            el.branches(again)
        again.set_data(learn.data)
        assert again.validate() == learn.validate()
        other = make(tmp_path, df, size=32, image={"photo": "file"})
        with pytest.raises(Exception, match="'photo'"):
            again.set_data(other)

    def test_rows_that_cannot_be_read_are_left_out(self, tmp_path: Path) -> None:
        df = gaps(rows(tmp_path))
        learn = learner(tmp_path, df)
        some = df.iloc[1:5].assign(file=["1.png", "lost.png", "3.png", "4.png"])
        with pytest.warns(el.EasyLearnWarning, match=r"1 of 4.*lost\.png"):
            said = learn.predict(some, on_error="skip")
        assert list(said.ids) == ["id1", "id3", "id4"] and list(said.errors) == ["id2"]

    def test_onnx(self, tmp_path: Path) -> None:
        pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
        learn = learner(tmp_path)
        learn.fit(1e-3, 1)
        report = learn.export(tmp_path / "films.onnx", format="onnx")
        assert report.checked and report.difference < 1e-4

    def test_a_damaged_file(self, tmp_path: Path) -> None:
        learn = learner(tmp_path)
        with pytest.raises(WeightsError, match="branches"):
            learn.data.preprocessor.check_model(nn.Linear(1, 1))


class TestBranches:
    def test_alone_left_out_and_together(self, tmp_path: Path) -> None:
        learn = learner(tmp_path, data={"valid": 0.5})
        learn.fit(1e-3, 1)
        found = el.branches(learn, draws=100)
        data, n = learn.data, len(learn.data.ids("valid"))
        assert isinstance(data, el.MultiData)
        assert list(found.index) == [
            "all", "image alone", "text alone", "table alone", "without image", "without text", "without table"
        ]  # fmt: skip
        assert found.loc["all", "accuracy"] == pytest.approx(learn.validate()["accuracy"])
        for name in data.branches:
            alone = el.branch_learner(learn, name)
            assert found.loc[f"{name} alone", "items"] == len(data.branches[name].ids("valid")) <= n
            assert found.loc[f"{name} alone", "accuracy"] == pytest.approx(alone.validate()["accuracy"])
            assert not alone.interpret().top_losses(2).empty
        assert (found["low"] <= found["accuracy"]).all() and (found["accuracy"] <= found["high"]).all()

    def test_of_a_joint_layer(self, tmp_path: Path) -> None:
        learn = learner(tmp_path, fuse="concat", data={"valid": 0.5})
        found = el.branches(learn, draws=100)
        assert found.loc["all", "accuracy"] == pytest.approx(learn.validate()["accuracy"])
        with pytest.raises(ArgumentError, match="heads of their own"):
            el.branch_learner(learn, "image")

    def test_a_branch_shares_its_weights(self, tmp_path: Path) -> None:
        learn = learner(tmp_path)
        alone, before = el.branch_learner(learn, "table"), state(learn)
        alone.fit(1e-2, 1)
        assert changed(learn, before) == {"table.embeddings", "table.hidden", "table.output"}

    def test_refused(self, tmp_path: Path) -> None:
        learn = learner(tmp_path)
        with pytest.raises(ArgumentError, match=r"'pictures'"):
            el.branch_learner(learn, "pictures")
        with pytest.raises(ArgumentError, match="multi_learner"):
            el.branches(el.branch_learner(learn, "image"))
