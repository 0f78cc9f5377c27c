from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from easylearn import keyed
from easylearn.data.loaders import LoaderData, TensorData
from easylearn.errors import ArgumentError, DataError, SaveError, StateError
from easylearn.learner import Learner
from easylearn.nn.body_head import BodyHead
from easylearn.task import single_label
from easylearn.train.optim import sgd
from easylearn.train.precompute import FeatureStore, state_digest
from easylearn.train.strategy import SingleDevice

MakeLearner = Callable[..., Learner]
CPU = torch.device("cpu")


class Counting(TensorData):
    """Says how often its items were asked for, and what it is called."""

    asked = 0
    suffix = ""

    def loader(self, part: Any, view: int = 0) -> Any:
        self.asked += 1
        return super().loader(part, view)

    def fingerprint(self, part: Any) -> str:
        return super().fingerprint(part) + self.suffix


@pytest.fixture
def counting(make_data: Callable[..., TensorData]) -> Counting:
    data = make_data()
    data.__class__ = Counting
    assert isinstance(data, Counting)
    return data


def body_head(learn: Learner) -> BodyHead:
    assert isinstance(learn.model, BodyHead)
    return learn.model


class TestTraining:
    def test_equals_training_the_head_on_features_made_by_hand(
        self, make_learner: MakeLearner, make_data: Any, weights: Any, same: Any
    ) -> None:
        data = make_data()
        learn, hand = (make_learner("body_head", data, precompute=i == 0) for i in range(2))
        record = learn.fit(0.1, 2)

        model = body_head(hand).eval()
        with torch.no_grad():
            features = model.features(data.loader("train").inputs[0])
        optimizer = sgd(model.head.parameters(), lr=0.1)
        model.head.train()
        step = 0
        for epoch in range(2):
            keyed.seed_global(0, "epoch", epoch)
            for batch in data.loader("train", training=True).batches(CPU, 0, epoch):
                (optimizer.param_groups[0]["lr"],) = record.rates[step]
                F.cross_entropy(model.head(features[batch.index]), batch.target).backward()
                optimizer.step()
                optimizer.zero_grad()
                step += 1
        for name, value in weights(learn).items():
            torch.testing.assert_close(value, weights(hand)[name], rtol=1e-5, atol=1e-6)

    def test_equals_a_frozen_fit_without_it(
        self, make_learner: MakeLearner, weights: Any, make_model: Any, make_data: Any
    ) -> None:
        """No augmentation, and the frozen body is in evaluation mode: the same computation by two ways."""
        with_it, without = (make_learner("body_head", make_data(), precompute=i == 0) for i in range(2))
        without.freeze()
        for learn in (with_it, without):  # the body's dropout would move the generator that the head's reads
            for layer in learn.model.modules():
                if isinstance(layer, nn.Dropout):
                    layer.p = 0.0
        a, b = with_it.fit(0.1, 2), without.fit(0.1, 2)
        assert a.losses == pytest.approx(b.losses, rel=1e-5)
        assert a.column("valid_loss") == pytest.approx(b.column("valid_loss"), rel=1e-5)
        for name, value in weights(with_it).items():
            torch.testing.assert_close(value, weights(without)[name], rtol=1e-4, atol=1e-6)

    def test_the_body_does_not_move_and_the_head_does(self, make_learner: MakeLearner, weights: Any) -> None:
        learn = make_learner("body_head", precompute=True)
        before = weights(learn)
        record = learn.fit(0.1, 1)
        moved = {n for n, v in weights(learn).items() if not torch.equal(v, before[n])}
        assert moved and all(n.startswith("head.") for n in moved)
        assert record.group_names == ("head",) and {len(r) for r in record.rates} == {1}

    def test_validation_while_fitting_is_that_of_the_full_model(self, make_learner: MakeLearner) -> None:
        learn = make_learner("body_head", precompute=True)
        record = learn.fit(0.1, 1)
        assert learn.precompute
        assert learn.validate() == pytest.approx({k: record.last[k] for k in ("valid_loss", "accuracy")}, rel=1e-5)

    def test_predict_and_tta_use_the_full_model(self, make_learner: MakeLearner, make_data: Any) -> None:
        data = make_data()
        learn = make_learner("body_head", data, precompute=True)
        learn.fit(0.1, 1)
        with torch.no_grad():
            expected = learn.model.eval()(data.loader("valid").inputs[0]).softmax(-1)
        for found in (learn.predict().probs, learn.tta().probs):
            torch.testing.assert_close(found, expected)

    def test_the_trained_head_is_in_the_model(self, make_learner: MakeLearner) -> None:
        learn = make_learner("body_head", precompute=True)
        before = learn.validate()["valid_loss"]
        learn.fit(0.1, 3)
        assert learn.validate()["valid_loss"] < before

    def test_saving_the_best_saves_the_full_model(self, make_learner: MakeLearner, weights: Any, same: Any) -> None:
        learn = make_learner("body_head", precompute=True)
        learn.fit(0.1, 1, save_best="best")
        after = weights(learn)
        learn.fit(0.1, 1)
        learn.load("best")
        assert same(weights(learn), after)


class TestSwitching:
    def test_unfreezing_the_body_switches_it_off(self, make_learner: MakeLearner) -> None:
        for thaw in (
            lambda learn: learn.unfreeze(),
            lambda learn: learn.freeze_to(1),
            lambda learn: learn.freeze_to(-2),
        ):
            learn = make_learner("body_head", precompute=True)
            thaw(learn)
            assert not learn.precompute
            assert learn.fit([0.01, 0.02, 0.03], 1).group_names[-1] == "head"
        learn = make_learner("body_head", precompute=True)
        learn.freeze()
        assert learn.precompute  # the body still does not train

    def test_it_can_be_set(self, make_learner: MakeLearner) -> None:
        learn = make_learner("body_head")
        with pytest.raises(StateError, match=r"the body is not frozen: call learn.freeze\(\) first"):
            learn.precompute = True
        assert not learn.precompute
        learn.freeze()
        learn.precompute = True
        learn.fit(0.1, 1)
        learn.precompute = False
        assert not learn.precompute and learn.fit(0.1, 1).group_names == ("head",)

    def test_it_starts_frozen(self, make_learner: MakeLearner) -> None:
        learn = make_learner("body_head", precompute=True)
        assert [g.trainable for g in learn.layer_groups] == [False, False, True]

    def test_a_model_without_a_head_is_refused(self, make_learner: MakeLearner) -> None:
        with pytest.raises(StateError, match="a model with a body and a head, this is a Sequential"):
            make_learner("mlp", precompute=True)

    def test_three_rates_are_an_error_that_says_so(self, make_learner: MakeLearner) -> None:
        learn = make_learner("body_head", precompute=True)
        for call in (learn.fit, learn.plan, learn.fit_one_cycle):
            with pytest.raises(ArgumentError, match="3 rates were given, but precompute is on"):
                call([0.1, 0.2, 0.3], 1)

    def test_ready_made_batches_are_refused(self, make_learner: MakeLearner) -> None:
        batches = [(torch.randn(4, 5), torch.tensor([0, 1, 2, 0]))]
        learn = make_learner("body_head", LoaderData(batches, None, single_label(["a", "b", "c"])), precompute=True)
        with pytest.raises(DataError, match="precompute cannot be used"):
            learn.fit(0.1, 1)


class TestCache:
    def files(self, tmp_path: Path) -> list[Path]:
        return sorted((tmp_path / "cache").rglob("*.npy"))

    def test_it_is_used_again_also_by_the_next_process(
        self, make_learner: MakeLearner, counting: Counting, tmp_path: Path
    ) -> None:
        learn = make_learner("body_head", counting, precompute=True)
        learn.fit(0.1, 1)
        assert counting.asked == 2 and len(self.files(tmp_path)) == 4  # features and targets of train and valid
        learn.fit(0.1, 1)
        learn.lr_find(n_steps=10)
        again = make_learner("body_head", counting, precompute=True)
        again.fit(0.1, 1)
        assert counting.asked == 2

    def test_features_are_mapped_not_read(self, make_learner: MakeLearner, make_data: Any) -> None:
        learn = make_learner("body_head", make_data())
        store = FeatureStore()
        loader = store.loader(body_head(learn), make_data(), "train", SingleDevice(CPU), shuffle=False)
        (batch, *_) = loader.batches(CPU)
        with torch.no_grad():
            expected = body_head(learn).eval().features(make_data().loader("train").inputs[0])
        # Not equal: batches of another size may go through another kernel.
        torch.testing.assert_close(loader.inputs[0], expected)  # type: ignore[attr-defined]
        assert batch.inputs[0].shape == (4, 8) and batch.target is not None

    @pytest.mark.parametrize(
        "change",
        [
            lambda learn, data: next(learn.model.body.parameters()).data.add_(1e-6),
            lambda learn, data: learn.model.body[0][1].running_mean.add_(1e-6),
            lambda learn, data: setattr(learn.model.body[0][1], "eps", 1e-3),
            lambda learn, data: setattr(learn.model, "pool", nn.Softmax(1)),
            lambda learn, data: setattr(data, "suffix", "another size"),
            lambda learn, data: data._parts["train"][1].add_(1).remainder_(3),
            lambda learn, data: setattr(learn, "strategy", SingleDevice(CPU, "bf16")),
        ],
        ids=["weights", "buffers", "settings", "pooling", "transforms", "targets", "precision"],
    )
    def test_whatever_changes_makes_it_anew(
        self, make_learner: MakeLearner, counting: Counting, change: Callable[[Learner, Counting], Any]
    ) -> None:
        learn = make_learner("body_head", counting, precompute=True)
        learn.lr_find(n_steps=10)
        asked = counting.asked
        learn.lr_find(n_steps=10)
        assert counting.asked == asked
        change(learn, counting)
        learn.lr_find(n_steps=10)
        assert counting.asked > asked

    def test_the_head_is_not_part_of_the_key(self, make_learner: MakeLearner, counting: Counting) -> None:
        learn = make_learner("body_head", counting, precompute=True)
        learn.fit(0.1, 1)
        asked = counting.asked
        next(learn.model.head.parameters()).data.add_(1)  # type: ignore[union-attr, operator, arg-type]
        learn.fit(0.1, 1)
        assert counting.asked == asked

    @pytest.mark.parametrize("damage", [b"", b"not an array", "short", "long", "gone"])
    @pytest.mark.parametrize("which", ["features", "target"])
    def test_a_damaged_file_is_made_anew(
        self, make_learner: MakeLearner, make_data: Any, tmp_path: Path, damage: bytes | str, which: str
    ) -> None:
        expected = make_learner("body_head", make_data(), precompute=True).fit(0.1, 1)
        for file in self.files(tmp_path):
            if f".{which}." not in file.name:
                continue
            whole = file.read_bytes()
            if damage == "gone":
                file.unlink()
            elif isinstance(damage, bytes):
                file.write_bytes(damage)
            else:
                file.write_bytes(whole[:-8] if damage == "short" else whole.replace(b"(22,", b"(21,"))
        assert make_learner("body_head", make_data(), precompute=True).fit(0.1, 1).losses == expected.losses

    def test_a_full_disk_is_an_error_and_leaves_nothing(
        self, make_learner: MakeLearner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("numpy.lib.format.write_array_header_1_0", full)
        learn = make_learner("body_head", precompute=True)
        with pytest.raises(SaveError, match="No space left on device"):
            learn.fit(0.1, 1)
        assert [f for f in (tmp_path / "cache").rglob("*") if f.is_file()] == []

    def test_ctrl_c_while_it_is_made_leaves_nothing(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        learn = make_learner("body_head", precompute=True)
        modes = [m.training for m in learn.model.modules()]
        left = iter(range(3))

        def interrupt(*_: object) -> None:
            if next(left) == 2:
                raise KeyboardInterrupt

        handle = body_head(learn).body.register_forward_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            learn.fit(0.1, 1)
        handle.remove()
        assert [f for f in (tmp_path / "cache").rglob("*") if f.is_file()] == []
        assert modes == [m.training for m in learn.model.modules()] and learn.epochs_done == 0
        assert len(learn.fit(0.1, 1)) == 6

    def test_the_least_recently_used_go_first(
        self, make_learner: MakeLearner, make_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import os

        model = body_head(make_learner("body_head"))
        store, strategy = FeatureStore(tmp_path / "features"), SingleDevice(CPU)
        monkeypatch.setattr("easylearn.train.precompute.LIMIT_BYTES", 2000)  # room for two of them
        for number in range(3):
            store.loader(model, make_data(seed=number), "train", strategy, shuffle=False)
            for file in (tmp_path / "features").iterdir():
                os.utime(file, (file.stat().st_atime, file.stat().st_mtime - 100))
        assert len(list((tmp_path / "features").glob("*.features.npy"))) == 2
        assert len(list((tmp_path / "features").iterdir())) == 4

    def test_the_test_part_has_nothing_to_train_on(
        self, make_learner: MakeLearner, make_data: Any, tmp_path: Path
    ) -> None:
        model = body_head(make_learner("body_head"))
        with pytest.raises(DataError, match="the test part has no targets"):
            FeatureStore().loader(model, make_data(n_test=3), "test", SingleDevice(CPU), shuffle=False)

    def test_computing_changes_no_mode_and_no_generator(self, make_learner: MakeLearner, make_data: Any) -> None:
        model = body_head(make_learner("body_head")).train()
        before = torch.get_rng_state()
        FeatureStore().loader(model, make_data(), "train", SingleDevice(CPU), shuffle=True)
        assert all(m.training for m in model.modules()) and torch.equal(before, torch.get_rng_state())


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.register_buffer("shift", torch.zeros(2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def test_digest() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 1, 3)
    other = nn.Conv2d(1, 1, 3, stride=2)
    other.load_state_dict(layer.state_dict())
    scaled = Scaled(2.0)
    scaled.shift += 1  # type: ignore[operator]
    different = [
        (layer,),
        (other,),
        (layer, nn.Identity()),
        (nn.Sequential(nn.AvgPool2d(2), nn.Flatten()),),
        (nn.Sequential(nn.MaxPool2d(2), nn.Flatten()),),
        (nn.Sequential(nn.MaxPool2d(3), nn.Flatten()),),
        (Scaled(1.0),),
        (Scaled(2.0),),
        (scaled,),
    ]
    assert len({state_digest(*modules) for modules in different}) == len(different)
    assert state_digest(Scaled(1.0)) == state_digest(Scaled(1.0).eval())
    moved = nn.Conv2d(1, 1, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    moved.load_state_dict(layer.state_dict())
    assert state_digest(moved) == state_digest(layer)
