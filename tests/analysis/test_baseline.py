"""What a model must beat, against scikit-learn called by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import easylearn as el
from easylearn.analysis.baseline import CONSTANT, OWN, Baseline, _verdict, compare_with_baseline
from easylearn.data.bunch import PlainInputs
from easylearn.errors import DataError, StateError
from easylearn.learning import Learner
from easylearn.train.predict import score
from easylearn.train.strategy import SingleDevice
from tests.learners import LABELS, TEXTS, images, ratings, tables, tensors

FEATURES = "logistic regression on the body's features"
QUIET: dict[str, Any] = {"device": "cpu", "progress": False}


def blobs(n: int = 300, classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = rng.normal(size=(n, 4)) + np.eye(classes, 4)[y] * 2
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y)


def linear(data: el.TensorData, **how: Any) -> Learner:
    return Learner(data, nn.Linear(4, data.task.n_out), **QUIET, **how)


def of_blobs(**how: Any) -> Learner:
    x, y = blobs()
    return linear(el.TensorData((x[:200], y[:200]), (x[200:], y[200:]), el.single_label(["a", "b", "c"])), **how)


class TestAgainstScikitLearn:
    def test_classes(self) -> None:
        x, y = (t.numpy() for t in blobs())
        found = of_blobs().baseline()
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x[:200], y[:200])
        row = found.scores["logistic regression"]
        assert row["accuracy"] == pytest.approx(accuracy_score(y[200:], model.predict(x[200:])))
        assert row["valid_loss"] == pytest.approx(log_loss(y[200:], model.predict_proba(x[200:])), rel=1e-5)
        constant = DummyClassifier(strategy="prior").fit(x[:200], y[:200])
        expected = log_loss(y[200:], constant.predict_proba(x[200:]))
        assert found.scores[CONSTANT]["valid_loss"] == pytest.approx(expected, rel=1e-3)  # half an item more
        assert found.references == ("logistic regression", "boosted trees")

    def test_numbers(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(160, 3)).astype(np.float32)
        y = 1000 + 50 * x[:, 0] + 20 * np.sin(3 * x[:, 1]) + rng.normal(size=160)
        rows = (torch.from_numpy(x[:120]), torch.from_numpy(y[:120])), (torch.from_numpy(x[120:]), y[120:])
        learn = Learner(el.TensorData(*rows, el.regression()), nn.Linear(3, 1), **QUIET)
        found = learn.baseline()
        ridge = make_pipeline(StandardScaler(), Ridge()).fit(x[:120], y[:120]).predict(x[120:])
        trees = HistGradientBoostingRegressor(random_state=0).fit(x[:120], y[:120]).predict(x[120:])
        for name, said in (
            ("ridge regression", ridge),
            ("boosted trees", trees),
            (CONSTANT, np.full(40, y[:120].mean())),
        ):
            expected = mean_squared_error(y[120:], said) ** 0.5
            assert found.scores[name]["rmse"] == pytest.approx(expected, rel=1e-3), name

    def test_features_of_a_body(self) -> None:
        learn = images(**QUIET)
        learn.freeze()
        pairs = [learn._features.table(learn.model, learn.data, s, learn.strategy) for s in ("train", "valid")]  # type: ignore[arg-type]
        train, valid = (t.numpy() for t in pairs)
        y = learn.data.loader("train").target.numpy()  # type: ignore[attr-defined]
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train, y)
        expected = accuracy_score(learn.predict().targets, model.predict(valid))
        assert learn.baseline().scores[FEATURES]["accuracy"] == pytest.approx(expected)

    def test_texts(self) -> None:
        data = el.TextData.from_lists(TEXTS, LABELS, valid=0.5, min_freq=1, progress=False)
        learn = el.text_classifier_learner(data, emb_size=6, n_hidden=6, n_layers=1, **QUIET)
        plain = {
            s: [" ".join(map(str, data.store(s).doc(i))) for i in range(len(data.ids(s)))] for s in ("train", "valid")
        }  # type: ignore[arg-type]
        words = TfidfVectorizer(token_pattern=r"\S+", sublinear_tf=True)
        y, truth = (data.loader(s).target.numpy() for s in ("train", "valid"))  # type: ignore[arg-type,attr-defined]
        model = LogisticRegression(max_iter=1000).fit(words.fit_transform(plain["train"]), y)
        expected = log_loss(truth, model.predict_proba(words.transform(plain["valid"])))
        found = learn.baseline().scores["TF-IDF, logistic regression"]["valid_loss"]
        assert found == pytest.approx(expected, rel=0.02)  # it weights words that training has not, too

    def test_tokens(self) -> None:
        data = el.TextLMData.from_lists(TEXTS, min_freq=1, bptt=5, batch_size=2, progress=False)
        learn = el.language_model_learner(data, emb_size=6, n_hidden=6, n_layers=1, **QUIET)
        found = learn.baseline()
        counts = np.bincount(np.asarray(data.store("train").ids), minlength=len(data.vocab)) + 0.5
        batches = data.loader("valid").batches(torch.device("cpu"))
        truth = torch.cat([b.target.flatten() for b in batches])  # type: ignore[union-attr]
        expected = -np.log(counts / counts.sum())[truth[truth >= 0].numpy()].mean()
        assert found.scores[CONSTANT]["valid_loss"] == pytest.approx(expected, rel=1e-5)
        assert found.references == () and found.judged_by == "perplexity"

    def test_several_labels(self) -> None:
        x, y = blobs()
        flags = torch.stack([y == 0, y != 1, torch.zeros(300, dtype=torch.bool)], 1).float()  # the last has nobody
        data = el.TensorData((x[:200], flags[:200]), (x[200:], flags[200:]), el.multi_label(["p", "q", "r"]))
        found = linear(data).baseline()
        assert found.references == ("logistic regression",)
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x[:200], flags[:200, 0])
        own = model.predict_proba(x[200:])[:, 1]
        other = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x[:200], flags[:200, 1])
        expected = (log_loss(flags[200:, 0], own) + log_loss(flags[200:, 1], other.predict_proba(x[200:])[:, 1])) / 3
        assert found.scores["logistic regression"]["valid_loss"] == pytest.approx(expected, rel=1e-3)


class TestEveryKindOfData:
    @pytest.mark.parametrize("make", [tensors, images, tables, ratings])
    def test_it_works_and_changes_nothing(self, make: Any) -> None:
        learn = make(**QUIET)
        before, rng = {n: t.clone() for n, t in learn.model.state_dict().items()}, torch.get_rng_state()
        found = learn.baseline()
        assert all(math.isfinite(v) for row in found.scores.values() for v in row.values())
        assert found.references and found.scores[OWN] == pytest.approx(learn.validate())
        assert all(torch.equal(t, before[n]) for n, t in learn.model.state_dict().items())
        assert torch.equal(rng, torch.get_rng_state())

    def test_ratings_are_compared_with_the_means_of_users_and_items(self) -> None:
        rng = np.random.default_rng(0)
        user, item = rng.integers(0, 20, 2000), rng.integers(0, 30, 2000)
        rating = rng.normal(0, 1, 20)[user] + rng.normal(0, 1, 30)[item] + rng.normal(0, 0.1, 2000)
        data = el.CollabData.from_df(pd.DataFrame({"user": user, "item": item, "rating": rating}))
        found = el.collab_learner(data, **QUIET).baseline()
        assert found.scores["ridge regression"]["rmse"] < 0.15 < found.scores[CONSTANT]["rmse"]

    def test_batches_that_come_ready_made(self) -> None:
        x, y = blobs()
        batches = [(x[i : i + 50], y[i : i + 50]) for i in range(0, 200, 50)]
        found = linear(el.LoaderData(batches, [(x[200:], y[200:])], el.single_label(["a", "b", "c"]))).baseline()  # type: ignore[arg-type]
        assert found.references == () and found.scores[CONSTANT]["valid_loss"] == pytest.approx(math.log(3), rel=1e-2)

    def test_one_class_alone(self) -> None:
        x, _ = blobs()
        y = torch.zeros(300, dtype=torch.long)
        data = el.TensorData((x[:200], y[:200]), (x[200:], y[200:]), el.single_label(["a", "b", "c"]))
        assert linear(data).baseline().references == ()

    def test_features_stay_those_of_the_body_as_it_came(self) -> None:
        learn = images(**QUIET)
        learn.freeze()
        learn.precompute = True
        learn.fit(1e-2, 1)
        before = learn.baseline().scores[FEATURES]
        learn.unfreeze()
        learn.fit(1e-1, 1)
        assert learn.baseline().scores[FEATURES] == before


class TestTheVerdict:
    def test_words(self) -> None:
        learn = of_blobs()
        with torch.no_grad():
            learn.model.weight.zero_()  # type: ignore[operator, union-attr]
            learn.model.bias.copy_(torch.tensor([0.0, 9.0, 0.0]))  # type: ignore[operator, arg-type]
        worst = learn.baseline()
        assert worst.verdict == "no better than a constant" and worst.verdict in repr(worst)
        assert "accuracy" in worst.in_words() and CONSTANT in worst.in_words()

    @pytest.mark.parametrize(
        ("wrong", "words"), [(1, ""), (30, "below the simple reference: ridge"), (60, "no better")]
    )
    def test_a_difference_beyond_its_standard_error(self, wrong: int, words: str) -> None:
        y = torch.arange(100) % 2
        right = 4.0 * torch.eye(2)[y]
        own = right.clone()
        own[:wrong] = right[:wrong].flip(1)
        said = {OWN: own, CONSTANT: torch.zeros(100, 2), "ridge": right, "trees": own}
        task = el.single_label(["a", "b"])
        scores = {name: score(logits, y, task, SingleDevice("cpu")) for name, logits in said.items()}
        judged_by, verdict = _verdict(task, said, scores, y)
        assert judged_by == "accuracy" and (verdict.startswith(words) if words else verdict == "")

    def test_a_good_model_has_none(self) -> None:
        learn = of_blobs()
        learn.fit(1e-1, 20)
        found = learn.baseline()
        assert found.verdict == "" == found.in_words()


class TestInAReport:
    def test_it_is_there(self, tmp_path: Path) -> None:
        learn = of_blobs()
        learn.fit(1e-9, 2)
        for row in learn.record.epochs:  # type: ignore[union-attr]
            row["seconds"] = 100.0
        text = learn.report(tmp_path / "run.html").read_text(encoding="utf-8")
        assert "What it must beat" in text and "boosted trees" in text and "The model is " in text

    def test_what_takes_long_is_left_out_and_named(self, tmp_path: Path) -> None:
        learn = of_blobs()
        learn.fit(1e-9, 2)
        for row in learn.record.epochs:  # type: ignore[union-attr]
            row["seconds"] = 1e-4
        text = learn.report(tmp_path / "run.html").read_text(encoding="utf-8")
        assert "left out" in text and "logistic regression, boosted trees" in text
        learn.record.before["storing features"] = 200.0  # type: ignore[union-attr]  # it is of the training, too
        assert "left out" not in learn.report(tmp_path / "run.html").read_text(encoding="utf-8")

    def test_features_are_not_computed_for_a_short_training(self) -> None:
        learn = images(**QUIET)
        found = compare_with_baseline(learn._context(), learn._features, "valid", None, 1e6, 9)
        assert found.references == () and FEATURES in found.left_out
        assert FEATURES in compare_with_baseline(learn._context(), learn._features, "valid", None, 1e6, 10).references


class TestBadInput:
    def test_no_targets_and_no_items(self, tmp_path: Path) -> None:
        x, y = blobs()
        data = el.TensorData((x, y), None, el.single_label(["a", "b", "c"]), test=x)
        learn = linear(data)
        with pytest.raises(DataError, match="test split have no targets"):
            learn.baseline("test")
        with pytest.raises(DataError, match="no valid split"):
            learn.baseline()

    def test_a_learner_out_of_a_file(self, tmp_path: Path) -> None:
        learn = tables(**QUIET)
        learn.export(tmp_path / "t.easylearn")
        with pytest.raises(DataError, match="set_data"):
            el.load_learner(tmp_path / "t.easylearn").baseline()

    def test_a_task_without_a_constant(self) -> None:
        x, y = blobs()
        data = el.TensorData((x, y.float()), (x, y.float()), el.regression())
        learn = Learner(data, nn.Linear(4, 1), **QUIET)
        learn.task = el.regression()  # whose center nobody has learnt
        with pytest.raises(StateError, match="first_outputs"):
            learn.baseline()


def test_rows_of_plain_inputs() -> None:
    words = np.array([5, 6, 7, 8, 9]), np.array([0, 2, 2, 5]), 10
    few = PlainInputs(np.eye(3), None, words).rows(np.array([0, 2]))
    assert few.numbers is not None and few.numbers.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert few.words is not None and few.words[0].tolist() == [5, 6, 7, 8, 9] and few.words[1].tolist() == [0, 2, 5]
    assert few.size == 11
    last = PlainInputs(words=words).rows(np.array([2]))
    assert last.words is not None and last.words[0].tolist() == [7, 8, 9] and last.words[1].tolist() == [0, 3]


def test_a_table_of_it() -> None:
    found = Baseline("valid", {OWN: {"rmse": 1.0}, CONSTANT: {"rmse": 2.0}, "ridge": {"rmse": 3.0}}, "rmse")
    assert found.to_frame().loc["ridge", "rmse"] == 3.0 and found.references == ("ridge",)
