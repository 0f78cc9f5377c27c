"""A recommender learns tastes, goes on to the bit, and comes out of a file as it went in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from easylearn import load_learner, load_predictor
from easylearn.analysis import baseline, report
from easylearn.analysis.page import number
from easylearn.data.loaders import TensorData
from easylearn.errors import ArgumentError
from easylearn.learning import Learner
from easylearn.recommenders.learner import recommender
from easylearn.task import Predictions, single_label
from easylearn.train.callback import Callback
from easylearn.train.predict import gather, score
from easylearn.train.state import Run
from tests.recommenders.people import N_ITEMS, data, learner


@pytest.fixture(scope="module")
def trained() -> Learner:
    learn = learner()
    learn.fit_one_cycle(2e-2, 15)
    return learn


def test_it_begins_with_what_most_take_and_learns_tastes(trained: Learner) -> None:
    before, after = learner().validate(), trained.validate()
    assert before["recall_10"] < 0.6 < 0.85 < after["recall_10"] <= 1
    assert after["ndcg_10"] > before["ndcg_10"] + 0.2 and after["coverage_10"] == 1
    assert list(after) == ["valid_loss", "recall_10", "ndcg_10", "coverage_10"]


def test_lists_hold_nothing_that_a_person_has(trained: Learner) -> None:
    said = trained.predict()
    assert isinstance(said, Predictions) and said.ids == trained.data.ids("valid")
    for i, names in enumerate(said.labels):
        has = set(trained.data.describe_item("valid", i)["history"].split(", "))
        assert len(names) == 10 and not has & set(names)


def test_of_items_seen_and_wanted_a_training_person_is_asked_as_others_are(trained: Learner) -> None:
    assert abs(trained.validate("train")["recall_10"] - trained.validate()["recall_10"]) < 0.1


class Killed(Callback):
    """Ends a run in the middle of an epoch, without a word."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_batch_end(self, run: Run) -> None:
        if run.step == self.step:
            raise ZeroDivisionError


@pytest.mark.parametrize("every", [3, 7])
def test_a_run_goes_on_to_the_bit(every: int, tmp_path: Path) -> None:
    whole, first, second = learner(), learner(), learner()
    whole.fit_one_cycle(1e-2, 4)

    with pytest.raises(ZeroDivisionError):
        first.fit_one_cycle(1e-2, 4, checkpoint=tmp_path / "run", every=every, callbacks=[Killed(10)])
    second.resume(tmp_path / "run", callbacks=[Killed(-1)])
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_lanes_do_not_change_what_is_learnt() -> None:
    made = []
    for lanes in (1, 2):
        learn = learner(drop=0.0, lanes=lanes)
        learn.fit_one_cycle(1e-2, 2)
        made.append(learn.predict().probs)
    torch.testing.assert_close(*made, atol=1e-4, rtol=1e-3)


class TestFiles:
    def test_a_file_gives_the_same_lists(self, trained: Learner, tmp_path: Path) -> None:
        file = trained.export(tmp_path / "music.easylearn").path
        predictor, asked = load_predictor(file, device="cpu"), [["a0", "a2"], {"b1": 3, "b3": 9.0}, []]
        assert torch.equal(predictor.predict(asked).probs, trained.predict(asked).probs)  # type: ignore[union-attr]
        assert predictor.predict(["a0", "a4"]).label == trained.predict(["a0", "a4"]).label  # type: ignore[union-attr]
        again = load_learner(file, data=data(), device="cpu", progress=False)
        assert again.validate() == trained.validate()
        again.fit(1e-3, 1)
        assert predictor.to_csv([["a0"], ["b1"]], tmp_path / "lists.csv") == 2

    @pytest.mark.parametrize("format", ["onnx", "torch"])
    def test_files_for_other_runtimes(self, trained: Learner, format: Any, tmp_path: Path) -> None:
        if format == "onnx":
            pytest.importorskip("onnxruntime")
        report = trained.export(tmp_path / f"music.{format}", format=format)
        assert report.difference < 1e-4

    def test_a_report_is_beside_simple_methods(self, trained: Learner, tmp_path: Path) -> None:
        page = trained.report(tmp_path / "run.html").read_text(encoding="utf-8")
        assert "What it must beat" in page and "best constant" in page and "recall 10" in page and "recommended" in page
        assert "drawn from" not in page

    def test_of_many_persons_some_are_drawn(
        self, trained: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        few = trained.data.at_most("valid", 10)
        ids = list(trained.data.ids("valid"))
        assert len(few.ids("valid")) == 10 and few.ids("train") == trained.data.ids("train")
        for i, name in enumerate(few.ids("valid")):
            assert few.describe_item("valid", i) == trained.data.describe_item("valid", ids.index(name))
        assert trained.data.at_most("valid", len(ids)) is trained.data
        for module in (baseline, report):
            monkeypatch.setattr(module, "MOST_SCORES", 10 * N_ITEMS)
        seen: list[int] = []
        real = baseline.gather
        monkeypatch.setattr(baseline, "gather", lambda *a: (said := real(*a), seen.append(len(said[0])))[0])
        page = trained.report(tmp_path / "run.html").read_text(encoding="utf-8")
        assert f"Of 10 persons, drawn from {len(ids)}." in page
        assert f"<b>{number(trained.validate()['recall_10'])}</b><span>recall 10</span>" in page  # of all
        beside = trained.baseline()
        assert beside.scores["this model"]["recall_10"] > 0.8 and seen == [10]
        assert beside.to_frame().index.name == f"10 persons, drawn from {len(ids)}" and "drawn from" in repr(beside)

    def test_the_best_constant_is_what_most_took(self, trained: Learner) -> None:
        target = torch.cat([b.target for b in trained.data.loader("train", training=True).batches(torch.device("cpu"))])
        logits, wanted = gather(trained.model, trained.data.loader("valid"), trained.strategy)
        constant = trained.task.first_outputs(target)
        assert constant is not None and wanted is not None
        own = score(constant.float().expand_as(logits), wanted, trained.task, trained.strategy)
        assert trained.baseline().scores["best constant"] == pytest.approx(own)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"n_factors": 0}, "n_factors"), ({"drop": 1.0}, "drop"), ({"dropout": 0.1}, "no argument 'dropout'")],
)
def test_what_is_wrong_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        recommender(data(), **change)


def test_it_is_for_interactions() -> None:
    rows = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])
    with pytest.raises(ArgumentError, match="InteractionData, got TensorData"):
        recommender(TensorData(rows, rows, single_label(["a", "b"])))  # type: ignore[arg-type]
