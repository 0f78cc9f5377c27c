"""What is said of mistakes: against scikit-learn, by hand, for each kind of task, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from torch import Tensor, nn
from torch.nn import functional as F

from easylearn.analysis.interpret import Interpretation
from easylearn.analysis.plots import new_figure
from easylearn.data.bunch import write_on
from easylearn.data.loaders import TensorData
from easylearn.errors import ArgumentError, DataError
from easylearn.learning import Learner
from easylearn.losses import FocalLoss
from easylearn.task import multi_label, next_token, regression, single_label

MakeLearner = Callable[..., Learner]
KINDS = ["single_label", "multi_label", "regression"]


def of(logits: Tensor, targets: Tensor, task: Any) -> Interpretation:
    data = TensorData((logits, targets), (logits, targets), task)
    return Interpretation(data, task, "valid", logits, data.loader("valid").target)  # type: ignore[attr-defined]


def classes(n: int = 60, c: int = 4, seed: int = 0) -> Interpretation:
    g = torch.Generator().manual_seed(seed)
    targets = torch.randint(c - 1, (n,), generator=g)  # of the last class there is none
    logits = 2 * torch.randn(n, c, generator=g) + 2 * F.one_hot(targets, c)
    return of(logits, targets, single_label([f"c{i}" for i in range(c)]))


def labels(n: int = 50, c: int = 3) -> Interpretation:
    g = torch.Generator().manual_seed(1)
    targets = (torch.rand(n, c, generator=g) < 0.4).float()
    logits = torch.randn(n, c, generator=g) + 2 * targets - 1
    return of(logits, targets, multi_label([f"l{i}" for i in range(c)], threshold=0.4))


def numbers(n: int = 40, k: int = 2, scale: Any = "linear") -> Interpretation:
    g = torch.Generator().manual_seed(2)
    targets = torch.rand(n, k, generator=g) * 5 + 1
    task = regression([f"y{i}" for i in range(k)], scale=scale)
    return of(task.outputs_for(targets) + 0.3 * torch.randn(n, k, generator=g), targets, task)


def drawn(figure: Figure) -> Figure:
    figure.savefig(io.BytesIO(), format="png", dpi=30)  # an error in the drawing shows only then
    return figure


class TestAgainstScikitLearn:
    def test_confusion_matrix_and_report(self) -> None:
        found = classes()
        y, said = found.targets.numpy(), found.probs.argmax(1).numpy()
        assert found.confusion_matrix().tolist() == sk.confusion_matrix(y, said, labels=range(4)).tolist()
        report = found.report()
        expected = sk.precision_recall_fscore_support(y, said, labels=range(4), zero_division=0)
        for column, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
            np.testing.assert_allclose(report[column], values, rtol=1e-12)
        assert list(report.index) == ["c0", "c1", "c2", "c3"] and report.loc["c3", "support"] == 0

    def test_report_of_several_labels(self) -> None:
        found = labels()
        expected = sk.precision_recall_fscore_support(found.targets.numpy(), (found.probs >= 0.4).numpy())
        for column, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
            np.testing.assert_allclose(found.report()[column], values, rtol=1e-12)

    def test_report_of_numbers(self) -> None:
        found = numbers()
        y, said = found.targets.double().numpy(), found.probs.double().numpy()
        report = found.report()
        np.testing.assert_allclose(report["mae"], sk.mean_absolute_error(y, said, multioutput="raw_values"), rtol=1e-5)
        np.testing.assert_allclose(report["r2"], sk.r2_score(y, said, multioutput="raw_values"), rtol=1e-5)
        np.testing.assert_allclose(report["rmse"], ((said - y) ** 2).mean(0) ** 0.5, rtol=1e-5)
        np.testing.assert_allclose(report["bias"], (said - y).mean(0), rtol=1e-4)

    @pytest.mark.parametrize("n_bins", [1, 5, 10])
    def test_calibration_of_what_was_chosen(self, n_bins: int) -> None:
        found = classes(300)
        sure, chosen = found.probs.double().max(1)
        right = (chosen == found.targets).numpy()
        share, mean = calibration_curve(right, sure.numpy(), n_bins=n_bins)
        table = found.calibration(n_bins).table
        held = table[table["count"] > 0]
        np.testing.assert_allclose(held["accuracy"], share)
        np.testing.assert_allclose(held["confidence"], mean)
        assert table["count"].sum() == 300 and table.loc[table["count"] == 0, "accuracy"].isna().all()
        error = (held["count"] * (held["accuracy"] - held["confidence"]).abs()).sum() / 300
        assert found.calibration(n_bins).error == pytest.approx(error)

    def test_calibration_of_several_labels(self) -> None:
        found = labels()
        share, mean = calibration_curve(found.targets.flatten().numpy(), found.probs.double().flatten().numpy())
        held = found.calibration(5).table
        np.testing.assert_allclose(held["accuracy"], share)
        np.testing.assert_allclose(held["confidence"], mean)

    def test_perfect_and_hopeless(self) -> None:
        logits = torch.full((8, 2), 0.0)
        half = of(logits, torch.tensor([0, 1] * 4), single_label(["a", "b"]))
        assert half.calibration().error == pytest.approx(0.0)
        wrong = of(torch.tensor([[50.0, 0.0]] * 4), torch.ones(4).long(), single_label(["a", "b"]))
        assert wrong.calibration().error == pytest.approx(1.0)
        assert "1.0000" in repr(wrong.calibration())


class TestLosses:
    @pytest.mark.parametrize("kind", KINDS)
    def test_their_mean_is_the_validation_loss(self, make_learner: MakeLearner, make_data: Any, kind: str) -> None:
        learn = make_learner(data=make_data(kind, n_valid=25))
        found = learn.interpret()
        assert found.losses.shape == (25,)
        assert float(found.losses.mean()) == pytest.approx(learn.validate()["valid_loss"], rel=1e-5)

    @pytest.mark.parametrize("found", [classes(), labels(), numbers(), numbers(scale="log"), numbers(k=1)])
    def test_each_is_the_loss_of_a_batch_of_one(self, found: Interpretation) -> None:
        alone = [found.task.loss(found.logits[i : i + 1], found.targets[i : i + 1]) for i in range(len(found))]
        torch.testing.assert_close(found.losses, torch.stack(alone))

    def test_with_a_loss_of_ones_own_and_smoothing(self, make_learner: MakeLearner) -> None:
        for settings in ({"loss": FocalLoss()}, {"label_smoothing": 0.1}):
            learn = make_learner(**settings)
            assert float(learn.interpret().losses.mean()) == pytest.approx(learn.validate()["valid_loss"], rel=1e-5)

    def test_shares_of_classes_as_targets(self) -> None:
        found = classes(20, 3)
        shares = found.targets.new_zeros((20, 3), dtype=torch.float32).scatter_(1, found.targets[:, None], 1.0)
        soft = Interpretation(found.data, found.task, "valid", found.logits, shares)
        torch.testing.assert_close(soft.losses, found.losses)
        assert soft.truths == found.truths and torch.equal(soft.confusion_matrix(), found.confusion_matrix())


class TestTopLosses:
    def test_the_worst_come_first_with_their_ids(self) -> None:
        found = classes()
        top = found.top_losses(5)
        order = F.cross_entropy(found.logits, found.targets, reduction="none").argsort(descending=True)[:5]
        assert top.index.tolist() == order.tolist() and top["id"].tolist() == [str(i) for i in order.tolist()]
        assert list(top.columns) == ["id", "loss", "predicted", "actual", "probability"]
        assert top["loss"].is_monotonic_decreasing
        first = int(order[0])
        assert top["actual"].iloc[0] == f"c{int(found.targets[first])}"
        assert top["predicted"].iloc[0] == f"c{int(found.probs[first].argmax())}"
        assert top["probability"].iloc[0] == pytest.approx(float(found.probs[first].max()))

    def test_several_labels(self) -> None:
        found = labels()
        top = found.top_losses(3)
        assert all(isinstance(v, tuple) for v in [*top["predicted"], *top["actual"]])
        i = int(top.index[0])
        truth = torch.where(found.targets[i] > 0, found.probs[i], 1 - found.probs[i])
        assert top["probability"].iloc[0] == pytest.approx(float(truth.min()))

    @pytest.mark.parametrize("k", [1, 2])
    def test_numbers(self, k: int) -> None:
        found = numbers(k=k, scale="log")
        top = found.top_losses(3)
        assert list(top.columns) == ["id", "loss", "predicted", "actual", "residual"]
        assert isinstance(top["residual"].iloc[0], tuple) == (k == 2)
        if k == 1:
            np.testing.assert_allclose(top["residual"], top["predicted"] - top["actual"], rtol=1e-4, atol=1e-6)
            assert list(found.residuals().columns) == ["y0"] and len(found.residuals()) == 40

    def test_more_than_there_are(self) -> None:
        assert len(classes(5).top_losses(100)) == 5

    def test_a_loss_that_is_no_number_is_the_worst(self) -> None:
        logits = torch.tensor([[1.0, 0.0], [float("nan"), 0.0]])
        assert of(logits, torch.tensor([1, 0]), single_label(["a", "b"])).worst(1) == [1]


class TestMostConfused:
    def test_pairs(self) -> None:
        said = torch.tensor([0, 1, 1, 1, 2, 0])
        found = of(F.one_hot(said, 3) * 9.0, torch.tensor([0, 0, 0, 1, 1, 2]), single_label(["a", "b", "c"]))
        pairs = found.most_confused()
        assert pairs.iloc[0].tolist() == ["a", "b", 2] and len(pairs) == 3
        assert found.most_confused(2).values.tolist() == [["a", "b", 2]]
        assert list(found.most_confused(9).columns) == ["actual", "predicted", "count"]


class TestDrawings:
    def test_classes(self) -> None:
        found = classes()
        assert drawn(found.plot_confusion()).axes[0].get_title().endswith("of 60 right")
        assert "calibration error" in drawn(found.plot_calibration(5)).axes[0].get_title()
        figure = drawn(found.plot_top_losses(4))
        titles = [axes.get_title() for axes in figure.axes]
        assert len(titles) == 4 and titles[0].startswith("said c")
        assert [axes.get_xlabel() for axes in figure.axes] == found.top_losses(4)["id"].tolist()

    @pytest.mark.parametrize("found", [labels(), numbers(), numbers(k=1, scale="log")])
    def test_other_tasks(self, found: Interpretation) -> None:
        assert len(drawn(found.plot_top_losses(3)).axes) == 3
        if found.task.kind == "regression":
            assert len(drawn(found.plot_predictions()).axes) == 2 * found.task.n_out

    def test_signs_in_names_stay_signs(self) -> None:
        task = single_label(["$\\frac{", "<b>_^$", "long " * 20])
        found = of(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2] * 2), task)
        drawn(found.plot_confusion()), drawn(found.plot_top_losses(6))
        assert all(len(axes.get_title()) < 80 for axes in found.plot_top_losses(6).axes)

    def test_a_long_text_is_cut(self) -> None:
        axes = new_figure().add_subplot()
        write_on(axes, "price $5 and $6 " * 200)
        lines = axes.texts[0].get_text().splitlines()
        assert len(lines) == 16 and lines[-1] == "..." and not axes.texts[0].get_parse_math()


class TestOfALearner:
    def test_every_part_and_nothing_moves(
        self, make_learner: MakeLearner, make_data: Any, weights: Any, same: Any
    ) -> None:
        learn = make_learner(data=make_data(n_train=21, n_valid=9))
        learn.model.train()
        before, rng = weights(learn), torch.get_rng_state()
        assert len(learn.interpret()) == 9 and len(learn.interpret("train")) == 21
        assert learn.interpret().ids == tuple(map(str, range(9)))
        assert same(before, weights(learn)) and torch.equal(rng, torch.get_rng_state()) and learn.model.training
        assert "9 items, single_label" in repr(learn.interpret())

    def test_it_keeps_the_data_it_was_made_of(self, make_learner: MakeLearner, make_data: Any) -> None:
        learn = make_learner(data=make_data(n_valid=9))
        found = learn.interpret()
        learn.set_data(make_data(n_valid=30))
        assert len(found.data.ids("valid")) == 9 and len(learn.interpret()) == 30


class TestRefused:
    def test_parts(self, make_learner: MakeLearner, make_data: Any) -> None:
        learn = make_learner(data=make_data(n_valid=None, n_test=4))
        with pytest.raises(ArgumentError, match="Did you mean 'valid'"):
            learn.interpret("vald")  # type: ignore[arg-type]
        with pytest.raises(DataError, match="no valid split"):
            learn.interpret()
        with pytest.raises(DataError, match="have no targets"):
            learn.interpret("test")

    def test_a_language_model(self) -> None:
        task = next_token(["a", "b"])
        with pytest.raises(ArgumentError, match="no items"):
            task.item_losses(torch.zeros(1, 2, 2), torch.zeros(1, 2).long())
        data = TensorData((torch.zeros(4, 2), torch.tensor([0, 1] * 2)), None, single_label(["a", "b"]))
        learn = Learner(data, nn.Linear(2, 2), device="cpu")
        learn.task = task
        with pytest.raises(ArgumentError, match="generate"):
            learn.interpret()

    def test_what_does_not_fit_the_task(self) -> None:
        for name in ("confusion_matrix", "plot_confusion", "most_confused"):
            with pytest.raises(ArgumentError, match="precision and recall of each label"):
                getattr(labels(), name)()
            with pytest.raises(ArgumentError, match="plot_predictions"):
                getattr(numbers(), name)()
        for name in ("calibration", "plot_calibration"):
            with pytest.raises(ArgumentError, match="plot_predictions"):
                getattr(numbers(), name)()
        for name in ("residuals", "plot_predictions"):
            with pytest.raises(ArgumentError, match="predicted numbers"):
                getattr(classes(), name)()

    @pytest.mark.parametrize("k", [0, -1, True, 1.5])
    def test_counts(self, k: Any) -> None:
        found = classes()
        for call in (found.top_losses, found.plot_top_losses, found.calibration):
            with pytest.raises(ArgumentError, match="at least 1"):
                call(k)
        if k is not True and k < 1:
            with pytest.raises(ArgumentError, match="min_count"):
                found.most_confused(k)

    def test_outputs_of_something_else(self) -> None:
        found = classes()
        with pytest.raises(DataError, match="names 60 items"):
            Interpretation(found.data, found.task, "valid", found.logits[:5], found.targets[:5])


def test_frames_are_frames() -> None:
    assert all(isinstance(f, pd.DataFrame) for f in (classes().report(), classes().calibration().table))
