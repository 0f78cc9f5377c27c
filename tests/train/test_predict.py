from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn import metrics as sk

from easylearn import metrics
from easylearn.data.loaders import ForeignLoader, TensorLoader
from easylearn.errors import DataError
from easylearn.learner import Learner
from easylearn.train.predict import evaluate, evaluating, gather
from easylearn.train.strategy import Strategy

MakeLearner = Callable[..., Learner]
CPU = torch.device("cpu")


class TestMetricsArePooled:
    """45 items in batches of 8: the mean over batches would count the last five as much as eight."""

    def test_single_label_against_scikit_learn(self, make_learner: MakeLearner, make_data: Any) -> None:
        data = make_data(n_valid=45, batch_size=8)
        learn = make_learner(data=data, metrics=[metrics.accuracy, metrics.f_beta(1, "macro"), metrics.roc_auc])
        found = learn.validate()
        logits = learn.model.eval()(data.loader("valid").inputs[0]).detach()
        y, probs = data.loader("valid").target.numpy(), logits.softmax(-1).numpy()
        assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, probs.argmax(1)))
        assert found[list(found)[2]] == pytest.approx(sk.f1_score(y, probs.argmax(1), average="macro"))
        assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(y, probs, multi_class="ovr"))
        assert found["valid_loss"] == pytest.approx(sk.log_loss(y, logits.double().softmax(-1).numpy()), rel=1e-5)

    def test_regression_against_scikit_learn(self, make_learner: MakeLearner, make_data: Any) -> None:
        data = make_data("regression", n_valid=45, batch_size=8, n_out=1)
        learn = make_learner(data=data)
        found = learn.validate()
        out = learn.model.eval()(data.loader("valid").inputs[0]).detach().numpy()
        expected = sk.mean_squared_error(data.loader("valid").target.numpy(), out)
        assert found["valid_loss"] == pytest.approx(expected, rel=1e-5)
        assert found["rmse"] == pytest.approx(expected**0.5, rel=1e-5)

    def test_multi_label_against_scikit_learn(self, make_learner: MakeLearner, make_data: Any) -> None:
        data = make_data("multi_label", n_valid=45, batch_size=8)
        learn = make_learner(data=data, metrics=[metrics.f_beta(2, "samples")])
        found = learn.validate()
        probs = learn.model.eval()(data.loader("valid").inputs[0]).detach().sigmoid().numpy()
        y = data.loader("valid").target.numpy()
        expected = sk.fbeta_score(y, probs >= 0.5, beta=2, average="samples", zero_division=0)
        assert list(found.values())[1] == pytest.approx(expected)

    def test_the_record_says_the_same_as_validate(self, make_learner: MakeLearner, make_data: Any) -> None:
        learn = make_learner(data=make_data(n_valid=45, batch_size=8))
        record = learn.fit(0.1, 1)
        assert {k: record.last[k] for k in ("valid_loss", "accuracy")} == learn.validate()

    def test_a_metric_gets_what_it_needs(self, make_learner: MakeLearner) -> None:
        def lowest(outputs: torch.Tensor, target: torch.Tensor) -> float:
            return float(outputs.min())

        on_logits = metrics.Metric("lowest_logit", lowest, None, needs="logits")
        found = make_learner(metrics=[lowest, on_logits]).validate()
        assert found["lowest"] >= 0 > found["lowest_logit"]


def test_gather_keeps_the_order_and_drops_nothing(make_data: Any, make_model: Any) -> None:
    data, model = make_data(n_valid=45, batch_size=8), make_model()[0]
    logits, target = gather(model, data.loader("valid"), Strategy(CPU))
    with torch.no_grad():
        torch.testing.assert_close(logits, model.eval()(data.loader("valid").inputs[0]))
    assert target is not None and torch.equal(target, data.loader("valid").target)
    assert gather(model, TensorLoader([torch.zeros(3, 5)], None, 2), Strategy(CPU))[1] is None


def test_evaluating_puts_back_each_modules_mode_also_after_an_error(make_model: Any) -> None:
    model = make_model()[0].train()
    model[0].eval()
    modes = [m.training for m in model.modules()]
    with pytest.raises(ZeroDivisionError), evaluating(model):  # noqa: PT012
        assert not any(m.training for m in model.modules())
        assert not torch.is_grad_enabled()
        raise ZeroDivisionError
    assert modes == [m.training for m in model.modules()] and torch.is_grad_enabled()


def test_it_changes_neither_weights_nor_generators(make_learner: MakeLearner, weights: Any, same: Any) -> None:
    learn = make_learner()
    before, rng = weights(learn), torch.get_rng_state()
    learn.validate(), learn.predict(), learn.tta()
    assert same(before, weights(learn)) and torch.equal(rng, torch.get_rng_state())


def test_nothing_to_predict_or_to_compare_with(make_data: Any, make_model: Any) -> None:
    model = make_model()[0]
    with pytest.raises(DataError, match="no items to predict"):
        gather(model, ForeignLoader([]), Strategy(CPU))
    with pytest.raises(DataError, match="no targets"):
        evaluate(model, TensorLoader([torch.zeros(3, 5)], None, 2), make_data().task, Strategy(CPU))


def test_a_last_batch_of_one_item(make_learner: MakeLearner, make_data: Any) -> None:
    learn = make_learner(data=make_data(n_train=21, n_valid=9, batch_size=4))
    record = learn.fit(0.1, 1)
    assert len(record) == 5 and len(learn.predict()) == 9
