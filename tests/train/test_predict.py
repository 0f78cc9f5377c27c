from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor, nn

from easylearn import metrics
from easylearn.data.loaders import ForeignLoader
from easylearn.data.order import Batch, tensor_loader
from easylearn.errors import DataError
from easylearn.learning import Learner
from easylearn.task import NO_TARGET, next_token, single_label
from easylearn.train.gate import Gate
from easylearn.train.predict import evaluate, gather
from easylearn.train.strategy import SingleDevice

MakeLearner = Callable[..., Learner]
CPU = torch.device("cpu")


class TestMetricsArePooled:
    """45 items in batches of 8: the mean over batches would count the last five as much as eight."""

    def test_single_label_against_scikit_learn(self, make_learner: MakeLearner, make_data: Any) -> None:
        data = make_data(n_valid=45, batch_size=8)
        learn = make_learner(data=data, metrics=[metrics.accuracy, metrics.f_beta(1, "macro"), metrics.roc_auc])
        found = learn.validate()
        logits = learn.model.eval()(data.loader("valid").source.inputs[0]).detach()
        y, probs = data.loader("valid").target.numpy(), logits.softmax(-1).numpy()
        assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, probs.argmax(1)))
        assert found[list(found)[2]] == pytest.approx(sk.f1_score(y, probs.argmax(1), average="macro"))
        assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(y, probs, multi_class="ovr"))
        assert found["valid_loss"] == pytest.approx(sk.log_loss(y, logits.double().softmax(-1).numpy()), rel=1e-5)

    def test_regression_against_scikit_learn(self, make_learner: MakeLearner, make_data: Any) -> None:
        data = make_data("regression", n_valid=45, batch_size=8, n_out=1)
        learn = make_learner(data=data)
        found = learn.validate()
        out = learn.model.eval()(data.loader("valid").source.inputs[0]).detach().numpy()
        known = data.loader("train").target.double().numpy()
        expected = sk.mean_squared_error(data.loader("valid").target.numpy(), out * known.std() + known.mean())
        assert found["valid_loss"] == pytest.approx(expected / known.var(), rel=1e-5)
        assert found["rmse"] == pytest.approx(expected**0.5, rel=1e-5)

    def test_multi_label_against_scikit_learn(self, make_learner: MakeLearner, make_data: Any) -> None:
        data = make_data("multi_label", n_valid=45, batch_size=8)
        learn = make_learner(data=data, metrics=[metrics.f_beta(2, "samples")])
        found = learn.validate()
        probs = learn.model.eval()(data.loader("valid").source.inputs[0]).detach().sigmoid().numpy()
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
    logits, target = gather(model, data.loader("valid"), SingleDevice(CPU))
    with torch.no_grad():
        torch.testing.assert_close(logits, model.eval()(data.loader("valid").source.inputs[0]))
    assert target is not None and torch.equal(target, data.loader("valid").target)
    assert gather(model, tensor_loader([torch.zeros(3, 5)], None, 2), SingleDevice(CPU))[1] is None


def test_evaluating_puts_back_each_modules_mode_also_after_an_error(make_model: Any) -> None:
    model = make_model()[0].train()
    model[0].eval()
    modes = [m.training for m in model.modules()]
    with pytest.raises(ZeroDivisionError), Gate().evaluating(model):  # noqa: PT012
        assert not any(m.training for m in model.modules())
        assert not torch.is_grad_enabled()
        raise ZeroDivisionError
    assert modes == [m.training for m in model.modules()] and torch.is_grad_enabled()


def test_it_changes_neither_weights_nor_generators(make_learner: MakeLearner, weights: Any, same: Any) -> None:
    learn = make_learner()
    before, rng = weights(learn), torch.get_rng_state()
    learn.validate(), learn.predict(), learn.tta()
    assert same(before, weights(learn)) and torch.equal(rng, torch.get_rng_state())


def test_one_view_is_held_once(make_learner: MakeLearner) -> None:
    said = make_learner().predict(split="valid")
    assert len(said.views) == 1 and torch.equal(said.views[0], said.probs)
    assert said.views.data_ptr() == said.probs.data_ptr()


def test_nothing_to_predict_or_to_compare_with(make_data: Any, make_model: Any) -> None:
    model = make_model()[0]
    with pytest.raises(DataError, match="no items to predict"):
        gather(model, ForeignLoader([]), SingleDevice(CPU))
    with pytest.raises(DataError, match="no targets"):
        evaluate(model, tensor_loader([torch.zeros(3, 5)], None, 2), make_data().task, SingleDevice(CPU))


def test_a_last_batch_of_one_item(make_learner: MakeLearner, make_data: Any) -> None:
    learn = make_learner(data=make_data(n_train=21, n_valid=9, batch_size=4))
    record = learn.fit(0.1, 1)
    assert len(record) == 5 and len(learn.predict()) == 9


class Listed:
    """A loader out of batches that are there."""

    def __init__(self, batches: list[Batch]) -> None:
        self.given = batches
        self.batch_size = self.n_items = len(batches)

    def __len__(self) -> int:
        return len(self.given)

    def batches(
        self, device: torch.device, seed: int = 0, epoch: int = 0, start: int = 0
    ) -> Generator[Batch, None, None]:
        yield from self.given[start:]


@pytest.mark.parametrize("seed", range(4))
def test_gather_puts_any_order_back_into_file_order(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(17, 3, generator=generator), torch.arange(17)
    order = torch.randperm(17, generator=generator) if seed else torch.arange(17)
    batches = [Batch((x[i],), y[i], i) for i in order.split(5)]
    logits, target = gather(nn.Identity(), Listed(batches), SingleDevice(CPU))
    assert torch.equal(logits, x) and target is not None and torch.equal(target, y)
    bare = [Batch((x[i],), None, i) for i in order.split(5)]
    logits, target = gather(nn.Identity(), Listed(bare), SingleDevice(CPU))
    assert torch.equal(logits, x) and target is None


class TestStreamed:
    """Sums over batches say what the pooled predictions of the same tokens say."""

    names = ("a", "b", "c", "d")

    def windows(self) -> tuple[list[Batch], Tensor, Tensor]:
        """Batches whose inputs are logits, of several lengths, with places that have no target."""
        generator = torch.Generator().manual_seed(0)
        batches = []
        for t in (5, 1, 9, 3):
            logits = 3 * torch.randn(2, t, 4, generator=generator)
            target = torch.randint(4, (2, t), generator=generator)
            if t in (1, 3):
                target[1, -1:] = NO_TARGET
            batches.append(Batch((logits,), target, torch.arange(2)))
        flat = torch.cat([b.inputs[0].flatten(0, 1) for b in batches])
        target = torch.cat([b.target.flatten() for b in batches if b.target is not None])
        return batches, flat[target != NO_TARGET], target[target != NO_TARGET]

    def test_it_equals_the_pooled_one(self) -> None:
        batches, logits, target = self.windows()
        chosen = [metrics.perplexity, metrics.accuracy, metrics.error_rate, metrics.log_loss, metrics.top_k(2)]
        streamed = evaluate(
            nn.Identity(), Listed(batches), next_token(self.names).with_metrics(chosen), SingleDevice(CPU)
        )
        pooled = evaluate(
            nn.Identity(),
            tensor_loader([logits], target, 4),
            single_label(self.names).with_metrics(chosen),
            SingleDevice(CPU),
        )
        assert list(streamed) == list(pooled)
        for name, value in pooled.items():
            assert streamed[name] == pytest.approx(value, rel=1e-5)

    def test_a_loss_of_ones_own_counts_by_tokens(self) -> None:
        batches, logits, target = self.windows()

        def loss(logits: Tensor, target: Tensor) -> Tensor:
            there = target != NO_TARGET
            return logits[there].square().mean()

        task = replace(next_token(self.names), loss_fn=loss)
        found = evaluate(nn.Identity(), Listed(batches), task, SingleDevice(CPU))
        assert found["valid_loss"] == pytest.approx(float(logits.square().mean()), rel=1e-5)
        assert found["perplexity"] == pytest.approx(metrics.perplexity(logits, target), rel=1e-5)

    def test_refused(self) -> None:
        batches, _, _ = self.windows()
        task = next_token(self.names)
        none = [Batch(b.inputs, torch.full_like(b.target, NO_TARGET), b.index) for b in batches]  # type: ignore[arg-type]
        with pytest.raises(DataError, match="no second token"):
            evaluate(nn.Identity(), Listed(none), task, SingleDevice(CPU))
        with pytest.raises(DataError, match="no targets"):
            evaluate(nn.Identity(), Listed([replace(b, target=None) for b in batches]), task, SingleDevice(CPU))
