from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from easylearn import keyed
from easylearn.data.bunch import Data
from easylearn.data.cache import ItemStore, open_store
from easylearn.data.loaders import LoaderData, TensorData
from easylearn.data.order import Order, TensorSource, tensor_loader
from easylearn.errors import ArgumentError, DataError, EasyLearnWarning, StateError
from easylearn.files import digest
from easylearn.learning import Learner
from easylearn.nn.body_head import BodyHead
from easylearn.task import single_label
from easylearn.train import waiting
from easylearn.train.optim import sgd
from easylearn.train.precompute import FeatureStore, _Filling, _some, features_key, state_digest
from easylearn.train.strategy import SingleDevice

MakeLearner = Callable[..., Learner]
CPU = torch.device("cpu")


class CountingSource(TensorSource):
    """Says which items were asked for."""

    data: Counting

    def stream(self, batches: Any, *given: Any) -> Any:
        self.data.asked += 1
        return super().stream(batches, *given)

    def fetch(self, index: Any, device: torch.device) -> Any:
        return TensorSource(self.inputs).fetch(index, device)  # two items, when a learner is made


class Counting(TensorData):
    """Says how often it was gone through, and what it is called."""

    asked = 0
    suffix = ""

    def loader(self, split: Any, *, training: bool = False, view: int = 0) -> Any:
        loader = super().loader(split, training=training, view=view)
        loader.source = CountingSource(loader.source.inputs)
        loader.source.data = self
        return loader

    def item_keys(self, split: Any, positions: Any = None) -> list[str]:
        return [digest([key, self.suffix]) for key in super().item_keys(split, positions)]


Outputs = Callable[[BodyHead], AbstractContextManager[Counter[bytes]]]


@pytest.fixture
def outputs() -> Outputs:
    """Counts how often each item goes through a model's body; rows of zeros only fill a batch up."""

    @contextmanager
    def count(model: BodyHead) -> Iterator[Counter[bytes]]:
        seen: Counter[bytes] = Counter()

        def note(_: nn.Module, inputs: tuple[Tensor]) -> None:
            seen.update(row.numpy().tobytes() for row in inputs[0] if row.any())

        handle = model.body.register_forward_pre_hook(note)
        yield seen
        handle.remove()

    return count


def features(store: FeatureStore, model: BodyHead, data: TensorData, *splits: Any) -> list[Tensor]:
    """What a store gives for the items of each split, in order."""
    loaders = [store.loader(model, data, split, SingleDevice(CPU)) for split in splits]
    return [torch.cat([b.inputs[0] for b in loader.batches(CPU)]) for loader in loaders]


def images(make_data: Any) -> TensorData:
    """The same items as images, of which other numbers in a batch go through other kernels."""
    data = make_data()
    x = torch.randn(22, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return TensorData((x, data._split("train").target), None, data.task, batch_size=4)


def convolutions() -> BodyHead:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 64, 3, stride=2), nn.ReLU())
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 8))
    return BodyHead(body, pool, nn.Linear(8, 3), [(body[0],), (body[2],)], mean=[0.0] * 3, std=[1.0] * 3)


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
            features = model.features(data.loader("train").source.inputs[0])
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
            expected = learn.model.eval()(data.loader("valid").source.inputs[0]).softmax(-1)
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


def test_some_items_of_a_loader_that_only_gives_all() -> None:
    x, wanted = torch.arange(50.0), np.array([0, 3, 31, 32, 48])
    whole = tensor_loader([x], None, 8)
    whole.order = Order(50, 8, shuffle=True)

    class All:  # no ItemLoader
        batch_size, n_items = 8, 50

        def __len__(self) -> int:
            return len(whole)

        def batches(self, *given: Any) -> Any:
            return whole.batches(*given)

    for chosen in (wanted, np.arange(50), np.array([49])):
        got = list(_some(All(), chosen).batches(CPU))
        index = torch.cat([batch.index for batch in got])
        assert sorted(index.tolist()) == list(range(len(chosen)))
        assert torch.equal(torch.cat([batch.inputs[0] for batch in got]), x[torch.from_numpy(chosen)[index]])


class TestCache:
    def files(self, tmp_path: Path) -> list[Path]:
        return sorted(f for f in (tmp_path / "cache").rglob("*") if f.suffix in (".items", ".slots"))

    def test_it_is_used_again_also_by_the_next_process(
        self, make_learner: MakeLearner, counting: Counting, tmp_path: Path
    ) -> None:
        learn = make_learner("body_head", counting, precompute=True)
        learn.fit(0.1, 1)
        assert counting.asked == 2 and len(self.files(tmp_path)) == 2, "train and valid share a store"
        learn.fit(0.1, 1)
        learn.lr_find(n_steps=10)
        again = make_learner("body_head", counting, precompute=True)
        again.fit(0.1, 1)
        assert counting.asked == 2

    def test_features_are_mapped_not_read(self, make_learner: MakeLearner, make_data: Any) -> None:
        learn = make_learner("body_head", make_data())
        store = FeatureStore()
        loader = store.loader(body_head(learn), make_data(), "train", SingleDevice(CPU), shuffle=False)
        batches = list(loader.batches(CPU))
        with torch.no_grad():
            expected = body_head(learn).eval().features(make_data().loader("train").source.inputs[0])
        # Not equal: batches of another size may go through another kernel.
        torch.testing.assert_close(torch.cat([b.inputs[0] for b in batches]), expected)
        assert batches[0].inputs[0].shape == (4, 8) and len(loader) == len(batches) == 6
        found = torch.cat([b.target for b in batches if b.target is not None])
        assert torch.equal(found, make_data()._split("train").target)
        valid = store.loader(body_head(learn), make_data(), "valid", SingleDevice(CPU), shuffle=False)
        assert valid.source.inputs[0].shape == (32, 8), "the rows of both splits are in one mapped file"  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        "change",
        [
            lambda learn, data: next(learn.model.body.parameters()).data.add_(1e-6),
            lambda learn, data: learn.model.body[0][1].running_mean.add_(1e-6),
            lambda learn, data: setattr(learn.model.body[0][1], "eps", 1e-3),
            lambda learn, data: setattr(learn.model, "pool", nn.Softmax(1)),
            lambda learn, data: setattr(data, "suffix", "another size"),
            lambda learn, data: data._split("train").inputs[0][5].mul_(2),
            lambda learn, data: setattr(learn, "_strategy", SingleDevice(CPU, "bf16")),
        ],
        ids=["weights", "buffers", "settings", "pooling", "size", "an item in place", "precision"],
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

    def test_targets_are_those_of_the_data(self, make_learner: MakeLearner, counting: Counting) -> None:
        learn = make_learner("body_head", counting, precompute=True)
        learn.lr_find(n_steps=10)
        asked = counting.asked
        counting._split("train").target.add_(1).remainder_(3)  # type: ignore[union-attr]
        loader = learn._view(validates=False)[1]
        found = torch.cat([b.target for b in loader.batches(CPU)])  # type: ignore[misc]
        order = torch.cat([b.index for b in loader.batches(CPU)])
        assert torch.equal(found, counting._split("train").target[order]) and counting.asked == asked  # type: ignore[index]

    @pytest.mark.parametrize("damage", [b"", b"nothing of ours", "short", "one byte", "gone"])
    @pytest.mark.parametrize("which", [".items", ".slots"])
    def test_a_damaged_file_is_made_anew(
        self, make_learner: MakeLearner, make_data: Any, tmp_path: Path, damage: bytes | str, which: str
    ) -> None:
        expected = make_learner("body_head", make_data(), precompute=True).fit(0.1, 1)
        (file,) = (f for f in self.files(tmp_path) if f.suffix == which)
        whole = file.read_bytes()
        if damage == "gone":
            file.unlink()
        elif isinstance(damage, bytes):
            file.write_bytes(damage)
        else:
            changed = whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]
            file.write_bytes(whole[:-8] if damage == "short" else changed)
        assert make_learner("body_head", make_data(), precompute=True).fit(0.1, 1).losses == expected.losses

    def test_only_missing_items_are_computed_and_to_the_same_bits(
        self, make_data: Any, tmp_path: Path, outputs: Outputs
    ) -> None:
        """Whatever split, subset or batch an item was first met in."""
        data, model = images(make_data), convolutions()
        (whole,) = features(FeatureStore(tmp_path / "cold"), model, data, "train")
        x, y = data._split("train").inputs[0], data._split("train").target
        store = FeatureStore(tmp_path / "warm")
        for number, rows in enumerate(([3, 4, 17], [21, 3, 0, 5, 8], range(22))):
            some = TensorData((x[list(rows)], y[list(rows)]), None, data.task, batch_size=4)  # type: ignore[index]
            with outputs(model) as seen:
                (found,) = features(store, model, some, "train")
            assert torch.equal(found, whole[list(rows)]) and sum(seen.values()) == [3, 4, 15][number]
        assert set(seen.values()) == {1}
        larger = TensorData((x, y), None, data.task, batch_size=16)
        with outputs(model) as seen:
            (found,) = features(FeatureStore(tmp_path / "warm"), model, larger, "train")
        assert torch.equal(found, whole) and not seen, "another batch size computes nothing"

    def test_any_data_with_a_fingerprint_will_do(self, make_learner: MakeLearner, make_data: Any) -> None:
        class Wrapped:  # a loader of which nothing is known but the protocol
            def __init__(self, loader: Any) -> None:
                self.batches, self.batch_size, self.n_items = loader.batches, loader.batch_size, loader.n_items

            def __len__(self) -> int:
                return -(-self.n_items // self.batch_size)

        class Plain(TensorData):
            item_keys = Data.item_keys

            def loader(self, *given: Any, **named: Any) -> Any:
                return Wrapped(super().loader(*given, **named))

        data = make_data()
        expected = make_learner("body_head", data, precompute=True).fit(0.1, 1).losses
        data.__class__ = Plain
        learn = make_learner("body_head", data, precompute=True)
        assert learn.fit(0.1, 1).losses == expected

    def test_what_changes_while_it_is_computed_is_not_kept(
        self, make_learner: MakeLearner, make_data: Any, tmp_path: Path
    ) -> None:
        data = make_data()
        model = body_head(make_learner("body_head", data))
        before = data._split("train").inputs[0].clone()

        def change(*_: object) -> None:
            data._split("train").inputs[0][9].mul_(2)

        handle = model.body.register_forward_pre_hook(change)
        (first,) = features(FeatureStore(tmp_path / "features"), model, data, "train")
        handle.remove()
        assert first.shape == (22, 8), "this fit has all its items"
        data._split("train").inputs[0].copy_(before)
        (found,) = features(FeatureStore(tmp_path / "features"), model, data, "train")
        (expected,) = features(FeatureStore(tmp_path / "others"), model, data, "train")
        assert torch.equal(found, expected)

    def test_ctrl_c_while_it_is_made_keeps_what_was_computed(self, make_learner: MakeLearner, outputs: Outputs) -> None:
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
        assert modes == [m.training for m in learn.model.modules()] and learn.epochs_done == 0
        with outputs(body_head(learn)) as seen:
            assert len(learn.fit(0.1, 1)) == 6
        assert len(seen) == 22 - 8 + 10, "two batches of four were there"

    def test_the_least_recently_used_go_first(
        self, make_learner: MakeLearner, make_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, strategy = FeatureStore(tmp_path / "features"), SingleDevice(CPU)
        monkeypatch.setattr("easylearn.data.cache.MOST_HELD", 1)
        for number in range(3):
            model = body_head(make_learner("body_head", model_seed=number))
            if number == 2:
                sizes = [f.stat().st_blocks * 512 for f in (tmp_path / "features").iterdir() if f.stat().st_size]
                monkeypatch.setattr("easylearn.train.precompute.LIMIT_BYTES", sum(sizes) + 100)
            with pytest.warns(EasyLearnWarning, match="EASYLEARN_CACHE_GB") if number == 2 else nullcontext():
                store.loader(model, make_data(), "train", strategy, shuffle=False)
            for file in (tmp_path / "features").iterdir():
                os.utime(file, (file.stat().st_atime, file.stat().st_mtime - 100))
        assert len(list((tmp_path / "features").glob("*.items"))) == 2

    def test_a_limit_that_the_user_sets_is_one_for_large_data_too(
        self, make_learner: MakeLearner, make_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EASYLEARN_CACHE_GB", "1e-7")
        store, model = FeatureStore(tmp_path / "features"), body_head(make_learner("body_head"))
        with pytest.warns(EasyLearnWarning, match="1e-07 may, and the disk.*raise EASYLEARN_CACHE_GB"):
            store.loader(model, make_data(), "train", SingleDevice(CPU))
        assert not list((tmp_path / "features").glob("*.slots"))

    def test_two_bodies_in_turn_are_computed_once_each(
        self, make_learner: MakeLearner, make_data: Any, outputs: Outputs, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """As a search does that compares bodies; above the limit each put out the other."""
        monkeypatch.setattr("easylearn.train.precompute.LIMIT_BYTES", 2000)
        models = [body_head(make_learner("body_head", model_seed=number)) for number in range(2)]
        for turn in range(2):
            for model in models:
                with outputs(model) as seen:
                    FeatureStore(tmp_path / "features").loader(model, make_data(), "train", SingleDevice(CPU))
                assert bool(seen) == (turn == 0)

    def test_data_that_takes_more_than_the_limit_by_itself_is_kept_and_mapped(
        self, make_learner: MakeLearner, make_data: Any, outputs: Outputs, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr("easylearn.train.precompute.LIMIT_BYTES", 100)
        monkeypatch.setattr(_Filling, "_stored", None)  # nothing is gathered in memory
        folder, model, data = tmp_path / "features", body_head(make_learner("body_head")), make_data()
        with outputs(model) as seen:
            for _ in range(2):  # the second time with what is on the disk, of both splits
                FeatureStore(folder).loaders(model, data, SingleDevice(CPU))
        assert sum(seen.values()) == 22 + 10 and len(list(folder.glob("*.items"))) == 1

    def test_the_test_split_has_nothing_to_train_on(
        self, make_learner: MakeLearner, make_data: Any, tmp_path: Path
    ) -> None:
        model = body_head(make_learner("body_head"))
        with pytest.raises(DataError, match="the test split has no targets"):
            FeatureStore().loader(model, make_data(n_test=3), "test", SingleDevice(CPU), shuffle=False)

    def test_computing_changes_no_mode_and_no_generator(self, make_learner: MakeLearner, make_data: Any) -> None:
        model = body_head(make_learner("body_head")).train()
        before = torch.get_rng_state()
        FeatureStore().loader(model, make_data(), "train", SingleDevice(CPU), shuffle=True)
        assert all(m.training for m in model.modules()) and torch.equal(before, torch.get_rng_state())


class TestWithoutAFolder:
    """Where features cannot be kept, a fit goes on in memory, and says so once."""

    def run(self, learn: Learner) -> list[float]:
        with pytest.warns(EasyLearnWarning, match="EASYLEARN_CACHE") as told:
            losses = [*learn.fit(0.1, 1).losses, *learn.fit(0.1, 1).losses]
        assert len(told) == 1
        return losses

    @pytest.fixture
    def expected(self, make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
        learn = make_learner("body_head", precompute=True)
        losses = [*learn.fit(0.1, 1).losses, *learn.fit(0.1, 1).losses]
        monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path / "elsewhere"))
        return losses

    def test_it_cannot_be_made(self, make_learner: MakeLearner, tmp_path: Path, expected: list[float]) -> None:
        (tmp_path / "elsewhere").write_text("a file")
        assert self.run(make_learner("body_head", precompute=True)) == expected

    @pytest.mark.parametrize("room", [0, 1, 3])
    def test_the_disk_is_full(
        self, make_learner: MakeLearner, expected: list[float], room: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = ItemStore._write
        left = room

        def full(*given: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(28, "No space left on device")
            write(*given)

        monkeypatch.setattr(ItemStore, "_write", full)
        assert self.run(make_learner("body_head", precompute=True)) == expected

    def test_there_is_no_room_for_them(
        self, make_learner: MakeLearner, expected: list[float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("easylearn.train.precompute.LIMIT_BYTES", 100)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1000, 900, 100))  # type: ignore[attr-defined]
        assert self.run(make_learner("body_head", precompute=True)) == expected

    def test_it_is_deleted_meanwhile(self, make_learner: MakeLearner, tmp_path: Path, expected: list[float]) -> None:
        learn = make_learner("body_head", precompute=True)
        left = iter(range(99))

        def delete(*_: object) -> None:
            if next(left) == 3:
                shutil.rmtree(tmp_path / "elsewhere")

        body_head(learn).body.register_forward_hook(delete)
        assert self.run(learn) == expected

    def test_it_is_deleted_between_two_fits(
        self, make_learner: MakeLearner, tmp_path: Path, expected: list[float]
    ) -> None:
        learn = make_learner("body_head", precompute=True)
        losses = learn.fit(0.1, 1).losses
        shutil.rmtree(tmp_path / "elsewhere")
        assert [*losses, *learn.fit(0.1, 1).losses] == expected


class TestSeveralAtOnce:
    def test_who_makes_an_item_is_waited_for(
        self, make_learner: MakeLearner, make_data: Any, tmp_path: Path, outputs: Outputs
    ) -> None:
        """Another store object stands for another process: their claims exclude each other alike."""
        data = make_data()
        model = body_head(make_learner("body_head", data))
        (expected,) = features(FeatureStore(tmp_path / "alone"), model, data, "train")
        other = self.claimed(model, data, tmp_path / "features", [2, 3, 20])
        timer = threading.Timer(0.3, lambda: [other.put(i, expected[i].numpy()) for i in (2, 3, 20)])
        timer.start()
        with outputs(model) as seen:
            (found,) = features(FeatureStore(tmp_path / "features"), model, data, "train")
        timer.join()
        assert torch.equal(found, expected) and len(seen) == 19

    def test_who_ends_without_having_made_it_is_replaced(
        self, make_learner: MakeLearner, make_data: Any, tmp_path: Path, outputs: Outputs
    ) -> None:
        data = make_data()
        model = body_head(make_learner("body_head", data))
        other = self.claimed(model, data, tmp_path / "features", [2, 3, 20])
        timer = threading.Timer(0.3, lambda: [other.release(i) for i in (2, 3, 20)])
        timer.start()
        with outputs(model) as seen:
            features(FeatureStore(tmp_path / "features"), model, data, "train")
        timer.join()
        assert len(seen) == 22 and set(seen.values()) == {1}

    def test_patience_ends(
        self, make_learner: MakeLearner, make_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("easylearn.train.precompute.FEATURE_PATIENCE", 0.02)
        data = make_data()
        model = body_head(make_learner("body_head", data))
        (expected,) = features(FeatureStore(tmp_path / "alone"), model, data, "train")
        other, late = self.claimed(model, data, tmp_path / "features", [2, 3, 20]), torch.tensor([2, 3, 20])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            (found,) = features(FeatureStore(tmp_path / "features"), model, data, "train")
        assert not other.sound()[late].any()
        rest = torch.ones(22, dtype=torch.bool).index_fill(0, late, False)
        assert torch.equal(found[rest], expected[rest])
        torch.testing.assert_close(found[late], expected[late])  # in other places of another batch: up to a last bit

    def test_no_more_items_are_told_of_than_there_are(
        self, make_learner: MakeLearner, make_data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        """What others hold is gone through again, and was counted again: 26 of 22 items, about -1:59:59 to go."""
        monkeypatch.setattr("easylearn.train.precompute.FEATURE_PATIENCE", 0.0)
        monkeypatch.setattr(waiting, "PATIENCE", 0.0)
        data = make_data()
        model = body_head(make_learner("body_head", data))
        other = self.claimed(model, data, tmp_path / "features", [2, 3, 20])
        features(FeatureStore(tmp_path / "features").telling(True), model, data, "train")
        told = re.findall(r"train: (\d+)(?: of (\d+))? items", capsys.readouterr().err)
        assert ("22", "") in told and all(int(n) <= int(of or 22) for n, of in told)
        assert not other.sound()[[2, 3, 20]].any()

    @staticmethod
    def claimed(model: BodyHead, data: TensorData, folder: Path, items: list[int]) -> ItemStore:
        store = open_store(features_key(model, SingleDevice(CPU)), data.item_keys("train"), 8 * 4, folder)
        assert store is not None and all(store.claim(i) for i in items)
        return store

    @pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here")
    @pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
    def test_two_processes_compute_each_item_once(
        self, make_learner: MakeLearner, make_data: Any, tmp_path: Path
    ) -> None:
        data = make_data(n_train=60)
        model = body_head(make_learner("body_head", data))
        context = multiprocessing.get_context("fork")
        start = context.Barrier(3)

        def compute(number: int) -> None:
            def note(_: nn.Module, inputs: tuple[Tensor]) -> None:
                time.sleep(0.01)
                with open(tmp_path / f"log{number}", "a") as file:
                    file.write("".join(f"{row[0]:.9f}\n" for row in inputs[0].tolist() if any(row)))

            model.body.register_forward_pre_hook(note)
            start.wait(60)
            (found,) = features(FeatureStore(tmp_path / "features"), model, data, "train")
            torch.save(found, tmp_path / f"found{number}")

        children = [context.Process(target=compute, args=(k,)) for k in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join(120)
            assert child.exitcode == 0
        logs = [f.read_text().split() for f in tmp_path.glob("log*")]
        assert sum(map(len, logs)) == 60 == len({row for log in logs for row in log})
        (expected,) = features(FeatureStore(tmp_path / "alone"), model, data, "train")
        assert all(torch.equal(torch.load(tmp_path / f"found{k}"), expected) for k in range(3))


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


@pytest.mark.parametrize("seen", [True, False])
def test_a_bar_where_somebody_sees_it(
    make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seen: bool
) -> None:
    """A notebook, too: its output says that it is no terminal."""
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)
    monkeypatch.setattr(waiting, "shows_bars", lambda: seen)
    make_learner("body_head", precompute=True, progress=True).fit(0.1, 1)
    err = capsys.readouterr().err
    assert ("precompute train:   0%" in err) is seen and ("precompute valid:   0%" in err) is seen
    assert ("precompute train: 4 of 22 items after 0:00" in err) is not seen


def test_silence_where_progress_is_off(
    make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)
    monkeypatch.setattr(waiting, "shows_bars", lambda: True)
    learn = make_learner("body_head", precompute=True, progress=False)
    learn.fit(0.1, 1), learn.validate(), learn.predict(), learn.interpret()
    assert capsys.readouterr() == ("", "")


def test_lr_find_and_plan_store_no_validation_items(
    make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)
    learn = make_learner("body_head", precompute=True, progress=True)
    learn.lr_find(n_steps=10), learn.plan(0.1)
    err = capsys.readouterr().err
    assert "precompute train" in err and "valid" not in err
    learn.fit(0.1, 1)
    err = capsys.readouterr().err
    assert "precompute valid" in err and "train" not in err


def test_a_record_says_how_long_storing_took(make_learner: MakeLearner) -> None:
    learn = make_learner("body_head", precompute=True)
    learn.lr_find(n_steps=10)
    assert learn.fit(0.1, 1).before.keys() == {"storing features"}
    assert learn.fit(0.1, 1).before == {}
