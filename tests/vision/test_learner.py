"""From a folder of images to predictions, with nets so small that it takes no time."""

from __future__ import annotations

import os
import shutil
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from easylearn.data.cache import _RECORD
from easylearn.errors import ArgumentError, DataError
from easylearn.learning import Learner
from easylearn.nn.body_head import BodyHead
from easylearn.task import Prediction
from easylearn.train.callbacks import CutMix, MixUp
from easylearn.train.optim import sgd
from easylearn.vision.data import ImageData
from easylearn.vision.learner import vision_learner
from easylearn.vision.model import vision_model

SIZE = 32
CPU = torch.device("cpu")


def image(file: Path, kind: int, number: int) -> None:
    """Noise with a bright left or right half, by its kind."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 120, (44, 52, 3))
    pixels[:, (26 if kind else 0) : (52 if kind else 26)] += 130
    Image.fromarray(pixels.astype(np.uint8)).save(file, quality=95)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("halves")
    for part, n in (("train", 10), ("valid", 4)):
        for kind, name in enumerate(("left", "right")):
            for k in range(n + (part == "train" and kind)):  # 21 to train: a single one in the last batch
                image(folder / part / name / f"{name}{k:02}.jpg", kind, 100 * kind + k)
    for k in range(3):
        image(folder / "test" / f"{k}.jpg", k % 2, 500 + k)
    return folder


def net() -> nn.Module:
    """A net of one's own, with batch-norm and a head to be cut off."""
    torch.manual_seed(0)
    layers = [
        ("stem", nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())),
        ("late", nn.Sequential(nn.Conv2d(4, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())),
        ("pool", nn.AdaptiveAvgPool2d(1)),
        ("flat", nn.Flatten()),
        ("out", nn.Linear(8, 10)),
    ]
    return nn.Sequential(OrderedDict(layers))


@pytest.fixture
def make_images(root: Path) -> Callable[..., ImageData]:
    def make(size: int = SIZE, **options: Any) -> ImageData:
        return ImageData.from_folder(root, size, **{"workers": 0, "batch_size": 4, **options})

    return make


@pytest.fixture
def make(make_images: Callable[..., ImageData], tmp_path: Path) -> Callable[..., Learner]:
    def learner(data: ImageData | None = None, **settings: Any) -> Learner:
        given = {"ps": 0.1, "hidden": (8,), "device": "cpu", "progress": False, "path": tmp_path / "models"}
        return vision_learner(make_images() if data is None else data, net(), **{**given, **settings})

    return learner


class TestMaking:
    def test_three_groups_and_a_new_head(self, make: Callable[..., Learner]) -> None:
        learn = make()
        assert isinstance(learn.model, BodyHead)
        assert [g.name for g in learn.layer_groups] == ["stem", "late", "head"] and all(
            g.trainable for g in learn.layer_groups
        )
        assert sum(g.n_params() for g in learn.layer_groups) == sum(p.numel() for p in learn.model.parameters())
        assert learn.optimizer is sgd and learn.task.classes == ("left", "right")
        assert isinstance(learn.data, ImageData) and learn.data.mean == pytest.approx(learn.model.mean.tolist())

    def test_a_cut_of_ones_own(self, make_images: Callable[..., ImageData]) -> None:
        learn = vision_learner(make_images(), net(), cut=1, hidden=(), device="cpu", progress=False)
        assert isinstance(learn.model, BodyHead) and len(learn.model.body) == 1  # type: ignore[arg-type]
        learn.fit(0.01, 1)

    def test_pretrained_weights_of_a_file_start_frozen_with_their_statistics(
        self, make: Callable[..., Learner], tmp_path: Path, weights: Any, same: Any
    ) -> None:
        trained = net()
        with torch.no_grad():
            trained[0][1].running_mean.fill_(0.5)  # type: ignore[index]
        torch.save(trained.state_dict(), tmp_path / "net.pth")
        learn = make(pretrained=tmp_path / "net.pth")
        assert [g.trainable for g in learn.layer_groups] == [False, False, True]
        body = learn.model.body  # type: ignore[union-attr]
        assert torch.equal(body[0][1].running_mean, torch.full((4,), 0.5))  # type: ignore[index]
        learn.unfreeze()
        learn.fit(0.01, 1)
        assert torch.equal(body[0][1].running_mean, torch.full((4,), 0.5))  # type: ignore[index]  # bn_freeze
        other = make(pretrained=tmp_path / "net.pth", bn_freeze=False)
        other.unfreeze()
        other.fit(0.01, 1)
        assert not torch.equal(other.model.body[0][1].running_mean, torch.full((4,), 0.5))  # type: ignore[union-attr, index]

    def test_the_seed_decides_the_head(
        self, make: Callable[..., Learner], weights: Any, same: Any, disturb: Callable[[], None]
    ) -> None:
        heads = []
        for seed in (1, 1, 2):
            disturb()
            heads.append(weights(make(seed=seed)))
        assert same(heads[0], heads[1]) and not same(heads[0], heads[2])

    def test_a_named_architecture(self, make_images: Callable[..., ImageData]) -> None:
        learn = vision_learner(make_images(), "squeezenet1_1", pretrained=False, device="cpu", progress=False)
        assert len(learn.fit(0.01, 1)) == 5
        assert learn.predict().probs.shape == (8, 2)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"arch": "resnet43"}, "Did you mean 'resnet34'"),
            ({"arch": "squeezenet1_1", "xtra_fc": [4]}, "It is called 'hidden' here"),
            ({"arch": "squeezenet1_1", "opt_fn": sgd}, "It is called 'optimizer' here"),
            ({"arch": "squeezenet1_1", "pretrain": False}, "Did you mean 'pretrained'"),
        ],
    )
    def test_refused(self, make_images: Callable[..., ImageData], arguments: dict[str, Any], said: str) -> None:
        with pytest.raises(ArgumentError, match=said):
            vision_learner(make_images(), **arguments)


class TestTraining:
    def test_it_learns(self, make: Callable[..., Learner]) -> None:
        learn = make()
        record = learn.fit_one_cycle(0.05, 12)  # after 6 it depends on torch and the processor
        assert record.last["accuracy"] == 1.0 and record.last["valid_loss"] < record.epochs[0]["valid_loss"]
        assert learn.validate()["accuracy"] == 1.0

    def test_one_image_in_the_last_batch(self, make: Callable[..., Learner]) -> None:
        learn = make()
        assert len(learn.data.loader("train", training=True)) == 5 and len(learn.fit(0.01, 1)) == 5  # 4 + 4 + 4 + 4 + 5

    @pytest.mark.parametrize("augment", ["side_on", "top_down"])
    def test_0_and_2_workers_give_the_same_weights_bit_for_bit(
        self, make: Callable[..., Learner], make_images: Callable[..., ImageData], weights: Any, same: Any, augment: str
    ) -> None:
        found, orders = [], []
        for workers, cache in ((0, False), (2, False), (2, True)) if augment == "side_on" else ((0, True), (2, False)):
            torch.manual_seed(workers)
            learn = make(make_images(augment=augment, workers=workers, cache=cache), seed=3)
            orders.append(learn.fit(0.05, 1).losses)
            found.append(weights(learn))
        assert all(same(found[0], other) for other in found[1:]) and all(o == orders[0] for o in orders)
        plain = make(make_images(), seed=3)
        plain.fit(0.05, 1)
        assert not same(found[0], weights(plain))  # it is augmented

    def test_the_same_seed_twice_and_another(
        self, make: Callable[..., Learner], make_images: Any, weights: Any, same: Any, disturb: Callable[[], None]
    ) -> None:
        runs = []
        for seed in (0, 0, 1):
            disturb()
            learn = make(make_images(augment="side_on"), seed=seed)
            learn.fit(0.05, 1), learn.fit_one_cycle(0.05, 1)
            runs.append(weights(learn))
        assert same(runs[0], runs[1]) and not same(runs[0], runs[2])

    @pytest.mark.parametrize("callback", [MixUp(), CutMix()])
    def test_mixing(self, make: Callable[..., Learner], callback: Any) -> None:
        record = make(label_smoothing=0.1).fit(0.05, 1, callbacks=[callback])
        assert np.isfinite(record.losses).all()

    def test_lr_find_leaves_the_next_epoch_as_it_was(
        self, make: Callable[..., Learner], make_images: Any, weights: Any, same: Any
    ) -> None:
        learn, never = (make(make_images(augment="side_on")) for _ in range(2))
        assert len(learn.lr_find(n_steps=15).rates) >= 10
        assert learn.fit(0.05, 1).losses == never.fit(0.05, 1).losses and same(weights(learn), weights(never))


class TestSetData:
    def test_another_size_with_the_same_weights(self, make: Callable[..., Learner], weights: Any, same: Any) -> None:
        learn = make()
        learn.freeze()
        before, ids = weights(learn), learn.data.ids("train")
        learn.set_data(48)
        assert isinstance(learn.data, ImageData) and learn.data.size == (48, 48)
        assert same(before, weights(learn)) and learn.data.ids("train") == ids
        assert [g.trainable for g in learn.layer_groups] == [False, False, True]
        batch = next(learn.data.loader("train", training=True).batches(CPU))
        assert batch.inputs[0].shape[2:] == (48, 48)
        learn.fit(0.05, 1)

    def test_other_images_are_normalised_as_the_model_expects(
        self, make: Callable[..., Learner], make_images: Callable[..., ImageData]
    ) -> None:
        learn = make(stats=((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
        learn.set_data(make_images(24))
        assert isinstance(learn.data, ImageData) and learn.data.mean == pytest.approx((0.1, 0.2, 0.3))

    def test_other_classes_are_refused(self, make: Callable[..., Learner], root: Path, tmp_path: Path) -> None:
        for part in ("train", "valid"):
            for name in ("left", "up"):
                image(tmp_path / "other" / part / name / "0.jpg", 0, 1)
        with pytest.raises(DataError, match=r"only in the first: \['up'\], only in the second: \['right'\]"):
            make().set_data(ImageData.from_folder(tmp_path / "other", SIZE, workers=0))


class TestPredicting:
    def test_a_part_in_file_order(self, make: Callable[..., Learner], root: Path) -> None:
        learn = make()
        found = learn.predict()
        assert [Path(i).name for i in found.ids] == [f"{n}{k:02}.jpg" for n in ("left", "right") for k in range(4)]
        assert found.targets is not None and found.targets.tolist() == [0] * 4 + [1] * 4
        torch.testing.assert_close(found.probs.sum(1), torch.ones(8))
        test = learn.predict(split="test")
        assert test.targets is None and [Path(i).name for i in test.ids] == ["0.jpg", "1.jpg", "2.jpg"]

    def test_one_image_and_several_agree_with_the_part(self, make: Callable[..., Learner], root: Path) -> None:
        learn = make()
        part = learn.predict()
        files = [root / "valid" / "left" / f"left{k:02}.jpg" for k in range(4)]
        one, several = learn.predict(files[0]), learn.predict(files)
        assert isinstance(one, Prediction) and len(several) == 4
        torch.testing.assert_close(several.probs, part.probs[:4])
        torch.testing.assert_close(one.probs, part.probs[0])
        assert one.label == part.labels[0] == learn.data.classes[one.index]
        from_pil = learn.predict(Image.open(files[0]))
        torch.testing.assert_close(from_pil.probs, one.probs)

    def test_tta_is_the_mean_of_plain_and_augmented_views(self, make: Callable[..., Learner], make_images: Any) -> None:
        learn = make(make_images(augment="side_on"))
        found = learn.tta(n_aug=3)
        assert found.views.shape == (4, 8, 2)
        assert torch.equal(found.views[0], learn.predict().probs)
        torch.testing.assert_close(found.probs, found.views.mean(0))
        assert not torch.equal(found.views[0], found.views[1]) and not torch.equal(found.views[1], found.views[2])
        assert torch.equal(found.probs, learn.tta(n_aug=3).probs)  # again the same
        assert found.ids == learn.predict().ids

    def test_tta_where_nothing_is_random_is_predict(self, make: Callable[..., Learner], make_images: Any) -> None:
        learn = make(make_images(augment="none", method="squash"))
        assert torch.equal(learn.tta().probs, learn.predict().probs)


class TestPrecompute:
    def test_it_trains_the_head_on_the_plain_images(
        self, make: Callable[..., Learner], make_images: Callable[..., ImageData], weights: Any
    ) -> None:
        learn = make(make_images(augment="side_on"), precompute=True)
        before = weights(learn)
        record = learn.fit(0.05, 2)
        assert record.group_names == ("head",)
        assert {n.split(".")[0] for n, v in weights(learn).items() if not torch.equal(v, before[n])} == {"head"}
        assert learn.validate()["valid_loss"] == pytest.approx(record.last["valid_loss"], rel=1e-4)

        loader = learn._view()[1]
        model, data = learn.model, learn.data
        assert isinstance(model, BodyHead)
        with torch.no_grad():
            expected = torch.cat([model.eval().features(b.inputs[0]) for b in data.loader("train").batches(CPU)])
        order = torch.cat([b.index for b in loader.batches(CPU)])
        features = torch.cat([b.inputs[0] for b in loader.batches(CPU)])
        torch.testing.assert_close(features, expected[order])

    def test_unfreezing_leaves_it_and_augments_again(self, make: Callable[..., Learner], make_images: Any) -> None:
        learn = make(make_images(augment="side_on"), precompute=True)
        learn.fit(0.05, 1)
        learn.unfreeze()
        assert not learn.precompute
        assert learn.fit([0.001, 0.01, 0.05], 1).group_names == ("stem", "late", "head")

    def test_another_size_another_file_or_another_body_is_computed_anew(
        self, make: Callable[..., Learner], root: Path, tmp_path: Path
    ) -> None:
        def stored() -> int:
            files = (tmp_path / "cache" / "features").glob("*.items")
            return sum(int((np.fromfile(f, _RECORD, offset=32)["check"] != 0).sum()) for f in files)

        for k in range(3):
            for part in ("train", "valid"):
                image(tmp_path / "own" / part / f"{k % 2}" / f"{k}.jpg", k % 2, k)
        learn = make(ImageData.from_folder(tmp_path / "own", SIZE, workers=0), precompute=True)
        learn.fit(0.05, 1)
        assert stored() == 6
        learn.fit(0.05, 1)
        assert stored() == 6
        learn.set_data(48)
        assert learn.precompute
        learn.fit(0.05, 1)
        assert stored() == 12
        image(tmp_path / "own" / "train" / "0" / "0.jpg", 1, 77)
        learn.set_data(ImageData.from_folder(tmp_path / "own", 48, workers=0))
        learn.fit(0.05, 1)
        assert stored() == 13
        with torch.no_grad():
            next(learn.model.body.parameters()).add_(0.1)  # type: ignore[union-attr, operator]
        learn.fit(0.05, 1)
        assert stored() == 19

    def test_files_that_change_between_filling_the_store_and_precompute(
        self, make: Callable[..., Learner], tmp_path: Path
    ) -> None:
        """With the same data object; also where the new file has the size and the time of the old one."""
        for k in range(6):
            file = tmp_path / "own" / ("train" if k < 4 else "valid") / f"{k % 2}" / f"{k}.bmp"
            image(file, k % 2, k)
        data = ImageData.from_folder(tmp_path / "own", SIZE, workers=0)
        learn = make(data, precompute=True)
        list(data.loader("train").batches(CPU))
        changed = tmp_path / "own" / "train" / "0" / "0.bmp"
        info, other = changed.stat(), (tmp_path / "own" / "train" / "1" / "1.bmp").read_bytes()
        changed.write_bytes(other)
        os.utime(changed, ns=(info.st_atime_ns, info.st_mtime_ns))
        assert changed.stat().st_size == info.st_size and changed.stat().st_mtime_ns == info.st_mtime_ns
        first = self.features(learn)
        assert torch.equal(first[0], first[2]), "the two files are now the same"
        assert torch.equal(self.features(make(data, precompute=True)), first)

    def test_an_array_that_changes_in_place(self, make: Callable[..., Learner]) -> None:
        x = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
        data = ImageData.from_arrays((x, [0, 1] * 3), (x[:2].copy(), [0, 1]), size=SIZE, workers=0)
        learn = make(data, precompute=True)
        before = self.features(learn)
        prints = data.fingerprint("train")
        x[0] = x[1]
        after = self.features(learn)
        assert (
            torch.equal(after[0], after[1])
            and torch.equal(after[1:], before[1:])
            and data.fingerprint("train") != prints
        )

    @staticmethod
    def features(learn: Learner) -> torch.Tensor:
        loader = learn._features.loader(learn.model, learn.data, "train", learn.strategy, shuffle=False)  # type: ignore[arg-type]
        return torch.cat([b.inputs[0] for b in loader.batches(CPU)])


def test_save_and_load(make: Callable[..., Learner], weights: Any, same: Any) -> None:
    learn = make()
    learn.fit(0.05, 1)
    learn.save("one")
    fresh = make(seed=9)
    assert same(weights(fresh.load("one")), weights(learn))
    assert torch.equal(fresh.predict().probs, learn.predict().probs)


def test_the_statistics_travel_with_the_weights(make: Callable[..., Learner]) -> None:
    learn = make(stats=((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    learn.save("one")
    fresh = make()
    fresh.load("one")
    assert isinstance(fresh.data, ImageData) and fresh.data.mean == pytest.approx((0.1, 0.2, 0.3))
    assert torch.allclose(fresh.predict().probs, learn.predict().probs)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_names_of_files_that_are_no_utf_8(root: Path, tmp_path: Path, make: Callable[..., Learner]) -> None:
    root = shutil.copytree(root, tmp_path / "own")
    for part in ("train", "valid"):
        (root / part / "left" / "left00.jpg").rename(root / part / "left" / os.fsdecode(b"caf\xe9.jpg"))
    data = ImageData.from_folder(root, SIZE, workers=0, batch_size=4)
    assert "train/left/caf\\xe9.jpg" in data.ids("train")
    learn = make(data, precompute=True)
    learn.fit(0.05, 1, checkpoint=tmp_path / "run")
    learn.unfreeze()
    learn.fit(0.05, 1, save_best="best")
    found = learn.predict()
    found.to_frame().to_csv(tmp_path / "predictions.csv", index=False)
    assert "caf\\xe9.jpg" in (tmp_path / "predictions.csv").read_text()
    assert learn.report(tmp_path / "run.html").stat().st_size > 1000
    print(found.ids, data, learn.interpret().top_losses(8))
    (root / "train" / "left" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"")
    with pytest.raises(DataError, match="0 bytes"):
        ImageData.from_folder(root, SIZE, workers=0).loader("train").source.fetch(np.arange(4), CPU)


def test_weights_draw_the_rare_class_as_often(root: Path, tmp_path: Path, make: Callable[..., Learner]) -> None:
    root = shutil.copytree(root, tmp_path / "own")
    for k in range(1, 9):
        (root / "train" / "left" / f"left{k:02}.jpg").unlink()
    data = ImageData.from_folder(root, SIZE, workers=0, batch_size=13, weights="balanced")
    drawn = torch.cat([b.target for b in data.loader("train", training=True).batches(CPU, seed=1)])
    assert len(drawn) == 13 and torch.bincount(drawn).tolist() in ([6, 7], [7, 6])
    assert [len(b.index) for b in data.loader("valid").batches(CPU)] == [8]
    plain = ImageData.from_folder(root, SIZE, workers=0, batch_size=13)
    assert data.fingerprint("train") != plain.fingerprint("train")
    assert data.fingerprint("valid") == plain.fingerprint("valid")
    learn = make(data, precompute=True)
    precomputed = torch.cat([b.target for b in learn._view()[1].batches(CPU, seed=1)])
    assert torch.equal(precomputed, drawn)


def test_summary_and_plan(make: Callable[..., Learner], capsys: pytest.CaptureFixture[str]) -> None:
    learn = make(precompute=True)
    text = learn.summary()
    assert "stem" in text and "4 x 4 x 15 x 15" in text and text.splitlines()[-1].endswith("of them train")
    learn.plan(0.1, 2)
    assert "2 epochs of 5 batches = 10 steps" in capsys.readouterr().out


def test_the_four_lines(root: Path, tmp_path: Path) -> None:
    """The beginning of the README, on a small net without downloads."""
    data = ImageData.from_folder(root, size=SIZE, augment="side_on", workers=0, batch_size=4)
    learn = vision_learner(data, "squeezenet1_1", pretrained=False, precompute=True, progress=False, device="cpu")
    learn.fit(1e-2, 2, cycle_len=1, cycle_mult=2)
    probs, targets = learn.tta()
    assert isinstance(probs, Tensor) and probs.shape == (8, 2) and targets is not None
    assert vision_model(net(), 2).training
