from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from easylearn import metrics, schedules
from easylearn.data.loaders import LoaderData, TensorData
from easylearn.errors import ArgumentError, DataError, StateError
from easylearn.learning import Learner
from easylearn.losses import FocalLoss
from easylearn.nn.groups import LayerGroup
from easylearn.task import Prediction, Predictions, multi_label, regression, single_label
from easylearn.train.optim import adamw, sgd
from easylearn.train.strategy import SingleDevice

MakeLearner = Callable[..., Learner]
CPU = torch.device("cpu")


class TestEpochs:
    @pytest.mark.parametrize(
        ("arguments", "epochs"),
        [
            ({"n": 3, "cycle_len": 1, "cycle_mult": 2}, 7),
            ({"n": 3, "cycle_len": 2, "cycle_mult": 1}, 6),
            ({"n": 3, "cycle_len": 2}, 6),
            ({"n": 3, "cycle_len": 2, "cycle_mult": 2}, 14),
            ({"n": 3}, 3),
            ({"epochs": 3}, 3),
            ({}, 1),
            ({"n": 4, "cycle_len": None}, 4),
            ({"epochs": 4, "cycle_len": None}, 4),
            ({"n": 2, "schedule": schedules.linear()}, 2),
            ({"n": 2, "cycle_len": 0.5}, 1),
            ({"n": 3, "cycle_mult": 1.5}, 5),  # 6 + 9 + 14 batches of 6 to an epoch: 4.83
        ],
    )
    def test_of_every_form(self, make_learner: MakeLearner, arguments: dict[str, Any], epochs: int) -> None:
        learn = make_learner()
        record = learn.fit(0.01, **arguments)
        assert len(record.epochs) == learn.epochs_done == epochs
        assert record.column("epoch") == list(range(epochs))
        assert record is learn.record

    def test_they_are_counted_over_the_learners_life(self, make_learner: MakeLearner) -> None:
        learn = make_learner()
        learn.fit(0.01, 2), learn.fit_one_cycle(0.01, 1)
        assert learn.fine_tune(1).column("epoch") == [4] and learn.epochs_done == 5

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"n": 1, "epochs": 1}, "two spellings"),
            ({"n": 1, "cycle_len": None, "cycle_mult": 2}, "no cycles"),
            ({"n": 0}, "at least 1"),
            ({"lr": [0.1, 0.1]}, "2 learning rates were given, but the model has 3 layer groups: stem, late, head"),
            ({"lr": -1}, "at least 0"),
        ],
    )
    def test_refused_before_anything_is_trained(
        self, make_learner: MakeLearner, weights: Any, same: Any, arguments: dict[str, Any], said: str
    ) -> None:
        learn = make_learner()
        before = weights(learn)
        with pytest.raises(ArgumentError, match=said):
            learn.fit(**{"lr": 0.1, **arguments})
        assert same(before, weights(learn)) and learn.record is None


class TestRates:
    @pytest.mark.parametrize(
        ("lr", "expected"),
        [
            (0.1, (0.1, 0.1, 0.1)),
            ([0.1, 0.2, 0.3], (0.1, 0.2, 0.3)),
            (np.array([0.1, 0.2, 0.3]), (0.1, 0.2, 0.3)),
            (slice(1e-4, 1e-2), (1e-4, 1e-3, 1e-2)),
            (slice(0.1), (0.01, 0.01, 0.1)),
            ({"head": 0.3, "stem": 0.1, "late": 0.2}, (0.1, 0.2, 0.3)),
        ],
    )
    def test_forms(self, make_learner: MakeLearner, lr: Any, expected: tuple[float, ...]) -> None:
        assert make_learner().fit(lr, 1).rates[0] == pytest.approx(expected)
        assert make_learner().fit_one_cycle(lr, 1, div=1).rates[0] == pytest.approx(expected)

    def test_each_group_moves_at_its_own(self, make_learner: MakeLearner) -> None:
        learn = make_learner()
        before = [p.detach().clone() for p in learn.model.parameters()]
        learn.fit([0, 0, 0.1], 1)
        moved = [not torch.equal(p, q) for p, q in zip(before, learn.model.parameters(), strict=True)]
        assert moved == [False] * 8 + [True] * 4


class TestFreezing:
    @pytest.mark.parametrize(
        ("call", "trainable"),
        [
            (lambda learn: learn.freeze(), [False, False, True]),
            (lambda learn: learn.unfreeze(), [True, True, True]),
            (lambda learn: learn.freeze_to(0), [True, True, True]),
            (lambda learn: learn.freeze_to(1), [False, True, True]),
            (lambda learn: learn.freeze_to(-1), [False, False, True]),
            (lambda learn: learn.freeze_to(-3), [True, True, True]),
        ],
    )
    def test_groups(self, make_learner: MakeLearner, call: Callable[[Learner], None], trainable: list[bool]) -> None:
        learn = make_learner()
        learn.freeze_to(1)
        call(learn)
        assert [g.trainable for g in learn.layer_groups] == trainable
        assert str(learn).count("(frozen)") == trainable.count(False)

    @pytest.mark.parametrize("k", [3, -4, 99])
    def test_bounds(self, make_learner: MakeLearner, k: int) -> None:
        learn = make_learner()
        with pytest.raises(ArgumentError, match=r"3 layer groups \(stem, late, head\), so k is from -3 to 2"):
            learn.freeze_to(k)
        assert all(g.trainable for g in learn.layer_groups)

    def test_a_frozen_group_does_not_change_at_all(self, make_learner: MakeLearner, at: Any) -> None:
        learn = make_learner(wd=0.1)
        learn.freeze_to(1)
        stem = learn.layer_groups[0].modules[0]
        before = {n: v.clone() for n, v in stem.state_dict().items()}
        probe = torch.randn(4, 5)
        outputs: list[torch.Tensor] = []
        learn.fit(0.1, 2, callbacks=[at(batch_end=lambda run: outputs.append(stem(probe).detach()))])
        assert all(torch.equal(before[n], v) for n, v in stem.state_dict().items())  # batch-norm's statistics, too
        assert all(torch.equal(o, outputs[0]) for o in outputs)  # and its dropout is off

    @pytest.mark.parametrize("frozen", [True, False])
    def test_bn_freeze_keeps_statistics_while_weights_train(self, make_learner: MakeLearner, frozen: bool) -> None:
        learn = make_learner(bn_freeze=not frozen)
        learn.bn_freeze(frozen)
        norms = [m for m in learn.model.modules() if isinstance(m, nn.BatchNorm1d)]
        means = [m.running_mean.clone() for m in norms]  # type: ignore[union-attr]
        scales = [m.weight.detach().clone() for m in norms]
        learn.fit(0.1, 1)
        moved = [not torch.equal(a, m.running_mean) for a, m in zip(means, norms, strict=True)]  # type: ignore[arg-type]
        assert moved == [not frozen, not frozen, True]  # those of the last group are its own
        assert all(not torch.equal(a, m.weight) for a, m in zip(scales, norms, strict=True))

    def test_fine_tune_and_set_data_leave_the_freezing_they_should(
        self, make_learner: MakeLearner, make_data: Any
    ) -> None:
        learn = make_learner()
        learn.freeze()
        learn.set_data(make_data(seed=3))
        assert [g.trainable for g in learn.layer_groups] == [False, False, True]
        learn.fine_tune(1)
        assert all(g.trainable for g in learn.layer_groups)

    def test_tied_parameters_belong_to_the_first_group(self, make_learner: MakeLearner, make_data: Any) -> None:
        one, two, out = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        two.weight = one.weight
        groups = [LayerGroup("one", (one,)), LayerGroup("two", (two,)), LayerGroup("out", (out,))]
        learn = make_learner(nn.Sequential(one, two, out), make_data(), groups=groups)
        assert [len(g.params) for g in learn.layer_groups] == [2, 1, 2]
        learn.freeze_to(1)
        before = one.weight.detach().clone()
        learn.fit(0.1, 1)
        assert torch.equal(before, two.weight)

    def test_a_parameter_in_no_group_is_refused(self, make_learner: MakeLearner, make_data: Any) -> None:
        model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 3))
        with pytest.raises(ArgumentError, match=r"2 of 4 parameters are in no layer group, the first is '1.weight'"):
            make_learner(model, make_data(), groups=[LayerGroup("body", (model[0],))])


class TestOptimizer:
    def test_a_new_one_at_each_fit(self, make_learner: MakeLearner, weights: Any, same: Any, at: Any) -> None:
        made: list[Any] = []
        learn = make_learner(
            callbacks=[at(fit_begin=lambda run: made.append((run.optimizer, dict(run.optimizer.state))))]
        )
        learn.fit(0.1, 1), learn.fit(0.1, 1)
        assert made[0][0] is not made[1][0] and made[1][1] == {}

    def test_adamw_by_default_and_any_of_torchs(self, make_learner: MakeLearner, make_data: Any, at: Any) -> None:
        made: list[Any] = []
        spy = at(fit_begin=lambda run: made.append(run.optimizer))
        for settings in (
            {"optimizer": None},
            {"optimizer": adamw},
            {"optimizer": torch.optim.RMSprop},
            {"optimizer": sgd},
        ):
            make_learner(**settings).fit(0.01, 1, callbacks=[spy])
        assert [type(o).__name__ for o in made] == ["AdamW", "AdamW", "RMSprop", "SGD"]

    def test_weight_decay_of_a_fit_goes_before_that_of_the_learner(self, make_learner: MakeLearner, at: Any) -> None:
        seen: list[float] = []
        learn = make_learner(
            wd=0.1, callbacks=[at(fit_begin=lambda run: seen.append(run.optimizer.param_groups[0]["weight_decay"]))]
        )
        learn.fit(0.1, 1), learn.fit(0.1, 1, wd=0.2), learn.fit_one_cycle(0.1, 1, wd=0.0)
        assert seen == [0.1, 0.2, 0.0]

    def test_nothing_to_train(self, make_learner: MakeLearner) -> None:
        learn = make_learner()
        learn.model.requires_grad_(False)
        for call in (learn.fit, learn.plan):
            with pytest.raises(ArgumentError, match="nothing to train"):
                call(0.1, 1)


class TestTask:
    def test_label_smoothing_is_torchs(self, make_learner: MakeLearner, make_data: Any) -> None:
        data = make_data()
        learn = make_learner("plain", data, label_smoothing=0.1)
        first = next(iter(data.loader("train", training=True).batches(CPU, 0, 0)))
        expected = F.cross_entropy(learn.model(first.inputs[0]), first.target, label_smoothing=0.1).item()
        assert learn.fit(0.1, 1).losses[0] == pytest.approx(expected)
        assert data.task.label_smoothing == 0.0  # the data's own task is as it was

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"label_smoothing": 1.0}, "at least 0 and below 1"),
            ({"label_smoothing": -0.1}, "at least 0 and below 1"),
            ({"label_smoothing": 0.1, "loss": FocalLoss()}, "loss="),
            ({"label_smoothing": 0.1, "kind": "regression"}, "single-label tasks, this one is regression"),
        ],
    )
    def test_label_smoothing_that_makes_no_sense(
        self, make_learner: MakeLearner, make_data: Any, settings: dict[str, Any], said: str
    ) -> None:
        data = make_data(settings.pop("kind", "single_label"))
        with pytest.raises(ArgumentError, match=said):
            make_learner(data=data, **settings)

    def test_a_loss_and_metrics_of_ones_own(self, make_learner: MakeLearner, make_data: Any) -> None:
        def half(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(logits, target) / 2

        data = make_data()
        learn = make_learner(data=data, loss=half, metrics=[metrics.error_rate])
        plain = make_learner(data=data)
        assert learn.validate()["valid_loss"] == pytest.approx(plain.validate()["valid_loss"] / 2)
        assert list(learn.validate()) == ["valid_loss", "error_rate"]

    @pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression"])
    def test_every_kind_learns(self, make_learner: MakeLearner, make_data: Any, kind: str) -> None:
        learn = make_learner("plain", make_data(kind, n_train=256, n_valid=64, batch_size=16))
        before = learn.validate()["valid_loss"]
        learn.fit_one_cycle(0.1, 8)
        assert learn.validate()["valid_loss"] < 0.5 * before


class TestSetData:
    def test_weights_stay_and_the_new_data_is_used(
        self, make_learner: MakeLearner, make_data: Any, weights: Any, same: Any
    ) -> None:
        learn = make_learner()
        before = weights(learn)
        other = make_data(n_train=9, n_valid=3, seed=4)
        learn.set_data(other)
        assert learn.data is other and same(before, weights(learn))
        assert len(learn.fit(0.1, 1)) == 2 and len(learn.predict()) == 3

    def test_other_classes_are_refused_by_name(self, make_learner: MakeLearner, make_data: Any) -> None:
        learn = make_learner()
        old = learn.data
        other = make_data(task=single_label(["c0", "c1", "c9"]))
        with pytest.raises(DataError, match=r"only in the first: \['c9'\], only in the second: \['c2'\]"):
            learn.set_data(other)
        with pytest.raises(DataError, match="multi_label"):
            learn.set_data(make_data("multi_label"))
        assert learn.data is old

    @pytest.mark.parametrize("given", [160, "other", None, 2.5, True])
    def test_what_is_no_data(self, make_learner: MakeLearner, given: Any) -> None:
        with pytest.raises(ArgumentError, match="set_data"):
            make_learner().set_data(given)

    def test_precompute_stays_and_follows(self, make_learner: MakeLearner, make_data: Any) -> None:
        learn, fresh = (make_learner("body_head", precompute=True) for _ in range(2))
        learn.fit(0.0, 1)
        learn.set_data(make_data(seed=9))
        assert learn.precompute
        fresh = make_learner("body_head", make_data(seed=9), precompute=True)
        fresh._epochs_done = 1
        assert learn.lr_find(1e-9, 1e-8).losses[0] == pytest.approx(fresh.lr_find(1e-9, 1e-8).losses[0])
        assert learn.fit(0.1, 1).last["epoch"] == 1


class TestPredict:
    def test_a_whole_part(self, make_learner: MakeLearner, make_data: Any) -> None:
        data = make_data(n_test=7)
        learn = make_learner(data=data)
        found = learn.predict()
        assert isinstance(found, Predictions) and len(found) == 10
        probs, targets = found
        with torch.no_grad():
            torch.testing.assert_close(probs, learn.model.eval()(data.loader("valid").source.inputs[0]).softmax(-1))
        assert torch.equal(targets, data.loader("valid").target)  # type: ignore[arg-type]
        assert found.ids == tuple(str(i) for i in range(10))
        assert list(found.labels) == [data.classes[i] for i in probs.argmax(1)]  # type: ignore[union-attr]
        test = learn.predict(split="test")
        assert len(test) == 7 and test.targets is None and test.views.shape == (1, 7, 3)

    def test_new_items(self, make_learner: MakeLearner, make_data: Any) -> None:
        data = make_data()
        learn = make_learner(data=data)
        rows = learn.predict(data.loader("valid").source.inputs[0])
        assert isinstance(rows, Predictions) and len(rows) == 10 and rows.targets is None
        assert torch.equal(rows.probs, learn.predict().probs) and rows.ids == tuple(str(i) for i in range(10))
        one = learn.predict(np.zeros(5))
        assert isinstance(one, Prediction) and one.label == data.classes[one.index]
        assert torch.equal(one.probs, learn.predict(np.zeros((2, 5))).probs[1])

    def test_several_labels_and_numbers(self, make_learner: MakeLearner, make_data: Any) -> None:
        several = make_learner(data=make_data("multi_label", task=multi_label(["c0", "c1", "c2"], threshold=0.3)))
        for x in torch.randn(5, 5):
            row = several.predict(x)
            assert row.index == tuple(i for i, p in enumerate(row.probs.tolist()) if p >= 0.3)
            assert row.label == tuple(f"c{i}" for i in row.index)
        number = make_learner(data=make_data("regression", n_out=1, task=regression(["price"]))).predict(torch.randn(5))
        assert number.index is None and number.label == number.probs.item()

    def test_foreign_batches(self, make_learner: MakeLearner, make_data: Any) -> None:
        source = make_data()
        parts = [[(b.inputs[0], b.target) for b in source.loader(p).batches(CPU)] for p in ("train", "valid")]
        learn = make_learner(data=LoaderData(*parts, source.task))
        learn.fit(0.1, 1)
        found = learn.predict()
        assert len(found) == len(found.probs) == len(found.labels) == 10
        assert len(learn.predict(torch.randn(3, 5))) == 3

    def test_refused(self, make_learner: MakeLearner, make_data: Any) -> None:
        learn = make_learner()
        with pytest.raises(ArgumentError, match=r"items or split=.*not both"):
            learn.predict(torch.zeros(1, 5), split="test")
        with pytest.raises(DataError, match="no test split; pass test="):
            learn.predict(split="test")
        with pytest.raises(DataError, match="no items to predict"):
            learn.predict(torch.zeros(0, 5))
        bare = make_learner(data=make_data(n_valid=None))
        with pytest.raises(DataError, match="no valid split"):
            bare.validate()
        with pytest.raises(DataError, match="no valid split"):
            bare.predict()


class TestTta:
    class Noisy(TensorData):
        """Its k-th view has k added to each input."""

        has_views = True  # type: ignore[assignment]

        def loader(self, split: Any, *, training: bool = False, view: int = 0) -> Any:
            loader = super().loader(split, training=training)
            loader.source.inputs = tuple(x + view for x in loader.source.inputs)  # type: ignore[attr-defined]
            return loader

    @pytest.fixture
    def learn(self, make_learner: MakeLearner, make_data: Any) -> Learner:
        data = make_data(n_test=7)
        data.__class__ = self.Noisy
        return make_learner(data=data)

    def test_it_is_the_mean_of_plain_and_augmented_probabilities(self, learn: Learner) -> None:
        found = learn.tta(n_aug=3)
        x = learn.data.loader("valid").source.inputs[0]  # type: ignore[attr-defined]
        with torch.no_grad():
            views = torch.stack([learn.model.eval()(x + k).softmax(-1) for k in range(4)])
        torch.testing.assert_close(found.views, views)
        torch.testing.assert_close(found.probs, views.mean(0))
        assert len(found.ids) == 10 and found.targets is not None
        assert learn.tta(split="test").targets is None and learn.tta(split="test").views.shape == (5, 7, 3)
        assert torch.equal(learn.tta(n_aug=0).probs, learn.predict().probs)

    def test_without_views_it_is_predict(self, make_learner: MakeLearner) -> None:
        learn = make_learner()
        assert torch.equal(learn.tta().probs, learn.predict().probs) and len(learn.tta().views) == 1

    def test_refused(self, learn: Learner) -> None:
        with pytest.raises(ArgumentError, match="n_aug must be a whole number of at least 0"):
            learn.tta(-1)
        with pytest.raises(ArgumentError, match='split="test"'):
            learn.tta(is_test=True)  # type: ignore[call-arg]


class TestWhatItHolds:
    def test_another_model_trains_with_its_own_groups(self, make_learner: MakeLearner) -> None:
        learn = make_learner()
        before = [p.detach().clone() for p in learn.model.parameters()]
        old, learn.model = learn.model, nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
        learn.fit(0.1, 1)
        assert [n for g in learn.layer_groups for n, _ in g.params] == [n for n, _ in learn.model.named_parameters()]
        assert all(torch.equal(a, b) for a, b in zip(before, old.parameters(), strict=True))
        assert learn.record is not None and learn.record.losses[0] != learn.record.losses[-1]

    def test_a_layer_that_was_replaced_trains(self, make_data: Any) -> None:
        learn = Learner(make_data(), nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)), progress=False)
        learn.model[2] = nn.Linear(7, 3)
        before = learn.model[2].weight.detach().clone()
        learn.fit(0.1, 1)
        assert not torch.equal(before, learn.model[2].weight)

    def test_a_replaced_layer_outside_the_groups_given_is_named(self, make_data: Any) -> None:
        net = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
        groups = [LayerGroup("first", (net[0],)), LayerGroup("last", (net[2],))]
        learn = Learner(make_data(), net, groups=groups, progress=False)
        net[2] = nn.Linear(7, 3)
        with pytest.raises(ArgumentError, match=r"2\.weight"):
            learn.fit(0.1, 1)

    def test_what_must_not_be_set_names_the_call(self, make_learner: MakeLearner, make_data: Any) -> None:
        learn = make_learner()
        with pytest.raises(StateError, match=r"learn\.set_data\(data\)"):
            learn.data = make_data()
        for name in ("strategy", "layer_groups", "record", "epochs_done"):
            with pytest.raises(AttributeError):
                setattr(learn, name, None)

    @pytest.mark.parametrize("model", [nn.Linear, "resnet18", None])
    def test_what_is_no_model(self, make_data: Any, model: Any) -> None:
        with pytest.raises(ArgumentError, match="torch module"):
            Learner(make_data(), model)

    def test_what_is_no_data(self) -> None:
        with pytest.raises(ArgumentError, match=r"needs data.*got list"):
            Learner([1, 2], nn.Linear(2, 2))  # type: ignore[arg-type]


class TestStrategy:
    class Counting(SingleDevice):
        """Another implementation: counts what the loop asks."""

        def __init__(self) -> None:
            super().__init__("cpu")
            self.calls: list[str] = []

        def forward_loss(self, *args: Any) -> Any:
            self.calls.append("forward")
            return super().forward_loss(*args)

        def step(self, optimizer: Any) -> None:
            self.calls.append("step")
            super().step(optimizer)

        def agree(self, reason: str | None) -> str | None:
            self.calls.append("agree")
            return "enough" if self.calls.count("agree") == 3 else reason

    def test_the_loop_goes_through_the_one_given(self, make_data: Any) -> None:
        strategy = self.Counting()
        record = Learner(make_data(), nn.Linear(5, 3), strategy=strategy, progress=False).fit(0.1, 9)
        of_steps, of_the_epoch = ["forward", "step", "agree"] * 3, ["agree"]  # callbacks may stop it at its end, too
        assert strategy.calls == of_steps + of_the_epoch and record.stop_reason == "enough"

    @pytest.mark.parametrize("name", ["precision", "clip", "accumulate", "compile", "device"])
    def test_its_own_settings_are_given_to_it(self, make_data: Any, name: str) -> None:
        values: dict[str, Any] = {"precision": "bf16", "clip": 1.0, "accumulate": 2, "compile": True, "device": "cpu"}
        with pytest.raises(ArgumentError, match=f"{name}="):
            Learner(make_data(), nn.Linear(5, 3), strategy=SingleDevice("cpu"), **{name: values[name]})


class TestUnknownNames:
    def test_attributes(self, make_learner: MakeLearner) -> None:
        learn = make_learner()
        with pytest.raises(AttributeError):
            learn.precomputed = True  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            _ = learn.modle  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (
                lambda learn: learn.fit(0.1, 1, cycle_length=1),
                r"fit\(\) has no argument 'cycle_length'. Did you mean 'cycle_len'",
            ),
            (lambda learn: learn.fit(0.1, n_cycle=1), "It is called 'n' here"),
            (lambda learn: learn.fit(lrs=0.1), "It is called 'lr' here"),
            (lambda learn: learn.fit(0.1, 1, wds=0.1), "It is called 'wd' here"),
            (lambda learn: learn.fit(0.1, 1, best_save_name="a"), "It is called 'save_best' here"),
            (lambda learn: learn.fit(0.1, 1, cycle_save_name="a"), "It is called 'save_cycles' here"),
            (lambda learn: learn.fit(0.1, 1, use_clr=(20, 8)), "slanted_triangular"),
            (lambda learn: learn.fit(0.1, 1, use_clr_beta=(20, 10)), "one_cycle"),
            (lambda learn: learn.fit_one_cycle(0.1, pctstart=0.1), "Did you mean 'pct_start'"),
            (lambda learn: learn.fit_one_cycle(0.1, epochs=3), "It is called 'n' here"),
            (lambda learn: learn.fit_one_cycle(0.1, save_cycles="a"), "There is one cycle"),
            (lambda learn: learn.fit(0.1, 1, save_best=True), "save_best must be a file's name or a SaveBest"),
            (lambda learn: learn.fit(0.1, 1, save_cycles=3), "save_cycles a name"),
            (lambda learn: learn.fine_tune(1, base_lr=0.1), "It is called 'lr' here"),
            (lambda learn: learn.fine_tune(n=1), "It is called 'epochs' here"),
            (lambda learn: learn.plan(0.1, cyclelen=1), "Did you mean 'cycle_len'"),
            (lambda learn: learn.lr_find(num_it=10), "It is called 'n_steps' here"),
            (lambda learn: learn.lr_find(startlr=1), "Did you mean 'start_lr'"),
            (lambda learn: learn.tta(naug=1), "Did you mean 'n_aug'"),
            (lambda learn: learn.predict(is_test=True), 'split="test"'),
            (lambda learn: learn.predict(test=True), 'split="test"'),
        ],
    )
    def test_arguments(self, make_learner: MakeLearner, call: Callable[[Learner], Any], said: str) -> None:
        with pytest.raises(ArgumentError, match=said):
            call(make_learner())

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("optimiser", "Did you mean 'optimizer'"),
            ("opt_func", "It is called 'optimizer' here"),
            ("crit", "It is called 'loss' here"),
            ("cbs", "It is called 'callbacks' here"),
            ("metric", "Did you mean 'metrics'"),
        ],
    )
    def test_of_the_learner(self, make_data: Any, make_model: Any, name: str, said: str) -> None:
        with pytest.raises(ArgumentError, match=said):
            Learner(make_data(), make_model()[0], **{name: None})


class TestBatchesOfAnySize:
    def test_one_item_in_the_last_batch(self, make_learner: MakeLearner, make_data: Any) -> None:
        record = make_learner(data=make_data(n_train=9, n_valid=5, batch_size=4)).fit(0.1, 2)
        assert len(record) == 4 and not math.isnan(record.last["train_loss"])

    def test_a_batch_larger_than_the_data(self, make_learner: MakeLearner, make_data: Any) -> None:
        assert len(make_learner(data=make_data(n_train=9, batch_size=100)).fit(0.1, 2)) == 2


def test_defaults(make_data: Any, make_model: Any) -> None:
    model, groups = make_model()
    learn = Learner(make_data(), model)
    assert learn.path == Path("models") and learn.seed == 0 and learn.record is None and learn.callbacks == []
    assert [g.name for g in learn.layer_groups] == ["model"] and learn.progress
    assert repr(learn) == "Learner(Sequential, single_label of 3 (c0, c1, c2), groups: model)"
    grouped = Learner(make_data(), model, groups=groups)
    assert [g.name for g in grouped.layer_groups] == ["stem", "late", "head"]


def test_a_body_with_a_head_brings_its_groups(make_learner: MakeLearner) -> None:
    assert [g.name for g in make_learner("body_head").layer_groups] == ["stem", "late", "head"]


def test_precompute_by_a_misfit(make_learner: MakeLearner) -> None:
    with pytest.raises(StateError, match="a body and a head"):
        make_learner("plain", precompute=True)


def test_unfreezing_inside_a_fit_is_refused(make_learner: MakeLearner, at: Any) -> None:
    learn = make_learner()
    learn.freeze()
    for change in (learn.unfreeze, learn.freeze, lambda: learn.freeze_to(1)):
        with pytest.raises(StateError, match=r"inside a fit .*fit again"):
            learn.fit(0.1, 2, callbacks=[at(epoch_end=lambda run, change=change: change())])
    learn.unfreeze()
    assert all(g.trainable for g in learn.layer_groups)
