"""segmentation_learner: all that a learner has, for masks."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from easylearn import load_learner, load_predictor
from easylearn.errors import ArgumentError
from easylearn.learning import Learner
from easylearn.losses import DiceLoss, LossSum, MaskCrossEntropy
from easylearn.nn.decoders import LightDecoder, PyramidModel, UnetDecoder, as_maps
from easylearn.task import Masks, gathered
from easylearn.train.callback import Callback
from easylearn.train.callbacks.mix import CutMix, MixUp
from easylearn.train.state import Run
from easylearn.vision.augment import Flip
from easylearn.vision.data import ImageData
from easylearn.vision.learner import vision_learner
from easylearn.vision.mask_learner import segmentation_learner
from easylearn.vision.masks import MaskData


def arrays(n: int = 24, h: int = 32, w: int = 48) -> tuple[np.ndarray, np.ndarray]:
    r = np.random.default_rng(0)
    y = np.zeros((n, h, w), np.uint8)
    for k in range(n):
        a, b = r.integers(0, h // 2), r.integers(0, w - 16)
        y[k, a : a + 14, b : b + 16] = 1
    x = np.repeat(np.where(y > 0, 180, 60)[..., None], 3, 3) + r.integers(0, 40, (n, h, w, 3))
    return x.astype(np.uint8), y


X, Y = arrays()


def masks(**options: Any) -> MaskData:
    how = {"codes": ["back", "thing"], "batch_size": 8, "augment": [Flip()], **options}
    return MaskData.from_arrays((X[:16], Y[:16]), (X[16:], Y[16:]), **how)


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    first = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(first, second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))


def learner(tmp_path: Path, data: MaskData | None = None, **options: Any) -> Learner:
    how = {"progress": False, "path": tmp_path, "device": "cpu", **options}
    return segmentation_learner(masks() if data is None else data, net(), **how)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Learner:
    learn = learner(tmp_path_factory.mktemp("trained"))
    learn.fit_one_cycle(3e-2, 8)
    return learn


def test_it_learns(trained: Learner) -> None:
    found = trained.validate()
    assert found["mean_iou"] > 0.8 and found["dice"] > 0.9 and found["pixel_accuracy"] > 0.95
    assert [g.name for g in trained.layer_groups] == ["stem", "late", "decoder"]
    assert trained.baseline().scores["best constant"]["mean_iou"] < 0.5


@pytest.mark.parametrize("loss", [DiceLoss(), LossSum([MaskCrossEntropy(), DiceLoss()], [1.0, 0.5])])
def test_other_losses(loss: Any, tmp_path: Path) -> None:
    learn = learner(tmp_path, loss=loss)
    learn.fit_one_cycle(3e-2, 4)
    assert learn.validate()["mean_iou"] > 0.6


def test_predictions_have_the_size_of_what_was_given(trained: Learner) -> None:
    one = trained.predict(X[20])
    assert one.mask.shape == (32, 48) and (one.mask == Y[20]).mean() > 0.9
    wide = trained.predict(np.repeat(np.repeat(X[20], 2, 0), 2, 1))
    assert wide.mask.shape == (64, 96) and (wide.mask[::2, ::2] == Y[20]).mean() > 0.9
    tall = trained.predict(np.concatenate([X[20], X[20]]))  # other proportions: borders around it are cut off again
    assert tall.mask.shape == (64, 48)
    said = trained.predict()
    assert len(said) == 8 and said.targets is not None and said.mask(0).shape == (32, 48)
    share = float((said.mask(3) == Y[19]).mean())
    assert share > 0.9


def test_tta_uses_the_mirror_image_and_undoes_it(trained: Learner) -> None:
    said = trained.tta(4)
    assert said.views.shape[0] == 2  # there is one exact view, however many are asked for
    torch.testing.assert_close(said.probs, said.views.mean(0))
    flipped = MaskData.from_arrays((X[:16], Y[:16]), (X[16:, :, ::-1], Y[16:, :, ::-1]), codes=["back", "thing"])
    other = learner_like(trained, flipped).predict().probs.flip(-1)
    torch.testing.assert_close(said.views[1], other, rtol=1e-4, atol=1e-5)


def test_predictions_that_memory_should_not_hold_are_the_same(
    trained: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathered, "_PIECE", 2000)
    found = []
    for most in (2**30, 100):
        monkeypatch.setattr(gathered, "MOST", most)
        probs, labels = trained.interpret().probs, trained.interpret().labels
        found.append([trained.predict(split="valid"), trained.tta(), trained.predict([*X[16:]]), probs, labels])
    for few, many in zip(*(f[:3] for f in found), strict=True):
        assert torch.equal(few.probs, many.probs) and torch.equal(few.views, many.views)
        assert few.labels == many.labels and np.array_equal(few.mask(3), many.mask(3))
    assert torch.equal(found[0][3], found[1][3]) and found[0][4] == found[1][4]


def test_a_list_of_images_is_worked_on_by_pieces(
    trained: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.export(tmp_path / "m.easylearn")
    predictor = load_predictor(tmp_path / "m.easylearn")
    few, tta = predictor.predict([*X]), predictor.tta([*X], 1)
    monkeypatch.setattr(gathered, "_PIECE", 2000)
    monkeypatch.setattr(gathered, "MOST", 100)
    seen: list[int] = []
    whole = Masks.activate
    monkeypatch.setattr(Masks, "activate", lambda self, logits: seen.append(len(logits)) or whole(self, logits))
    many, more = predictor.predict([*X]), predictor.tta([*X], 1)
    assert torch.equal(few.probs, many.probs) and few.labels == many.labels
    assert torch.equal(tta.probs, more.probs) and torch.equal(tta.views, more.views) and len(more.views) == 2
    assert max(seen) < len(X) / 3 and sum(seen) == 3 * len(X)


def test_losses_of_many_masks_are_computed_by_pieces(trained: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    few = trained.interpret("train").losses
    monkeypatch.setattr(gathered, "_PIECE", 2000)
    monkeypatch.setattr(gathered, "MOST", 100)
    seen: list[int] = []
    whole = Masks.item_losses
    count = lambda self, logits, true: seen.append(len(logits)) or whole(self, logits, true)  # noqa: E731
    monkeypatch.setattr(Masks, "item_losses", count)
    torch.testing.assert_close(trained.interpret("train").losses, few)
    assert max(seen) < len(few) / 2 and sum(seen) == len(few), "a device does not get all of them at once"


def learner_like(learn: Learner, data: MaskData) -> Learner:
    again = segmentation_learner(data, learn, progress=False, device="cpu")
    again.model.load_state_dict(learn.model.state_dict())
    return again


def test_precompute_trains_the_decoder_as_the_frozen_body_does(tmp_path: Path) -> None:
    data = masks(augment="none")
    losses = []
    for precompute in (False, True):
        learn = learner(tmp_path, data)
        learn.freeze()
        learn.precompute = precompute
        learn.fit(1e-2, 3)
        losses.append(learn.validate()["valid_loss"])
    torch.testing.assert_close(torch.tensor(losses[0]), torch.tensor(losses[1]), rtol=2e-2, atol=2e-3)


def test_freezing_and_rates_by_group(tmp_path: Path) -> None:
    learn = learner(tmp_path)
    learn.freeze()
    before = {n: p.clone() for n, p in learn.model.named_parameters()}
    learn.fit(1e-2, 1)
    moved = {n for n, p in learn.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved and all(n.startswith("head.") for n in moved)
    learn.unfreeze()
    learn.fit([1e-4, 1e-3, 1e-2], 1)
    assert any(n.startswith("body.") and not torch.equal(p, before[n]) for n, p in learn.model.named_parameters())


def test_lr_find_puts_everything_back(trained: Learner) -> None:
    before = {n: v.clone() for n, v in trained.model.state_dict().items()}
    trained.lr_find(n_steps=12)
    assert all(torch.equal(v, before[n]) for n, v in trained.model.state_dict().items())


class KilledError(Exception):
    """Stands for a process that ends."""


class Kill(Callback):
    """Ends the run before a step, if it is told which."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at

    def on_batch_begin(self, run: Run) -> None:
        if run.step == self.at:
            raise KilledError


@pytest.mark.parametrize("precompute", [False, True])
def test_a_killed_run_goes_on_to_the_bit(precompute: bool, tmp_path: Path) -> None:
    def made() -> Learner:
        learn = learner(tmp_path)
        if precompute:
            learn.freeze()
            learn.precompute = True
        return learn

    whole, broken, resumed = made(), made(), made()
    whole.fit(1e-2, 4)
    with pytest.raises(KilledError):
        broken.fit(1e-2, 4, checkpoint=tmp_path / "run", every=1, callbacks=[Kill(5)])
    resumed.resume(tmp_path / "run", callbacks=[Kill()])
    for (name, a), b in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_exports_give_the_same(trained: Learner, tmp_path: Path) -> None:
    trained.export(tmp_path / "m.easylearn")
    predictor = load_predictor(tmp_path / "m.easylearn", device="cpu")
    a, b = trained.predict(X[17]), predictor.predict(X[17])
    assert torch.equal(a.probs, b.probs) and np.array_equal(a.mask, b.mask)
    assert predictor.tta([X[17]]).views.shape[0] == 2
    assert predictor.to_csv([X[17], X[18]], tmp_path / "out.csv") == 2
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert rows[0] == "id,label,p_back,p_thing" and rows[1].startswith('0,"back, thing",0.')
    again = load_learner(tmp_path / "m.easylearn", data=masks(), device="cpu", progress=False, models=tmp_path)
    again.fit(1e-3, 1)
    with pytest.warns(match="1 of 2 items"):
        assert len(predictor.predict([X[17], "none.png"], on_error="skip")) == 1


def test_a_server_says_which_share_each_class_has(trained: Learner, tmp_path: Path) -> None:
    from easylearn.serve.refusals import Limits
    from easylearn.serve.torch_engine import TorchEngine

    trained.export(tmp_path / "m.easylearn")
    engine = TorchEngine(tmp_path / "m.easylearn", Limits())
    held = io.BytesIO()
    Image.fromarray(X[17]).save(held, "PNG")
    (probs,) = engine.run([engine.prepare(held.getvalue())])
    answer = engine.answer(probs)
    assert answer["label"] == ["back", "thing"] and sum(answer["probs"].values()) == pytest.approx(1.0)
    assert answer["probs"]["thing"] == pytest.approx(float(Y[17].mean()), abs=0.08)
    wide = np.tile(np.concatenate([X[17], X[18]], 1), (1, 2, 1))  # most of the model's frame is not of this image
    files = []
    for image in (wide, X[17]):
        held = io.BytesIO()
        Image.fromarray(image).save(held, "PNG")
        files.append(held.getvalue())
    said = trained.predict(files)
    for row, name in zip(engine.run([*map(engine.prepare, files)]), said.ids, strict=True):
        assert engine.answer(row)["probs"] == pytest.approx(said.to_dict()[name])
    assert said.to_frame()["p_thing"][0] == pytest.approx(float((said.mask(0) == 1).mean()), abs=0.05)


@pytest.mark.parametrize("decoder", ["light", "unet"])
def test_onnx_equals_the_learner(decoder: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    learn = learner(tmp_path, decoder=decoder)
    report = learn.export(tmp_path / "m.onnx", format="onnx")
    assert report.difference is not None and report.difference < 1e-4


def test_the_report_and_drawings(trained: Learner, tmp_path: Path) -> None:
    found = trained.interpret()
    assert found.report().columns.tolist() == ["iou", "dice", "accuracy", "pixels"]
    assert len(found.plot_top_losses(2).axes) == 2 and found.plot_confusion().axes
    assert found.confusion_matrix().sum() == Y[16:].size
    assert found.top_losses(2)["mean_iou"].between(0, 1).all()
    page = trained.report(tmp_path / "run.html").read_text(encoding="utf-8")
    assert "mean_iou" in page or "mean iou" in page


def test_the_body_of_a_trained_classifier(tmp_path: Path) -> None:
    labels = [int(m.mean() > 0.1) for m in Y]
    labels[0] = 1 - labels[0]
    clf = vision_learner(ImageData.from_arrays((X, labels), batch_size=8), net(), progress=False, device="cpu")
    seg = segmentation_learner(masks(), clf, progress=False, device="cpu", path=tmp_path)
    assert isinstance(seg.model, PyramidModel) and not seg.layer_groups[0].trainable
    ours, theirs = seg.model.body.body.state_dict(), clf.model.body.state_dict()
    assert all(torch.equal(v, theirs[n]) for n, v in ours.items())
    seg.unfreeze()
    seg.fit(1e-2, 1)
    assert all(torch.equal(v, w) for v, w in zip(theirs.values(), clf.model.body.state_dict().values(), strict=True))
    with pytest.raises(ArgumentError, match="leave them out"):
        segmentation_learner(masks(), clf, pretrained=True)


def test_a_named_body_is_built_again_out_of_its_file(tmp_path: Path) -> None:
    learn = segmentation_learner(
        masks(augment="none"), "squeezenet1_1", pretrained=False, progress=False, device="cpu", path=tmp_path
    )
    learn.export(tmp_path / "m.easylearn")
    assert torch.equal(
        load_predictor(tmp_path / "m.easylearn", device="cpu").predict(X[0]).probs, learn.predict(X[0]).probs
    )
    clf = segmentation_learner(
        masks(augment="none"), learn, decoder="unet", progress=False, device="cpu", path=tmp_path
    )
    assert isinstance(clf.model.head, UnetDecoder)
    clf.export(tmp_path / "u.easylearn")


class Finest(nn.Module):
    """The finest map alone."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, maps: Any) -> torch.Tensor:
        out: torch.Tensor = self.layer(as_maps(maps)[0])
        return out


def test_a_decoder_of_ones_own(tmp_path: Path) -> None:
    learn = learner(tmp_path, decoder=LightDecoder([8, 16], 2, width=4))
    assert learn.model.head.out.in_channels == 4
    own = nn.Conv2d(8, 2, 1)
    before = own.bias.detach().clone()  # type: ignore[union-attr]
    learner(tmp_path, decoder=Finest(own))
    assert torch.equal(own.bias, before), "what is given begins with its own weights"  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="unknown decoder 'fpn'"):
        learner(tmp_path, decoder="fpn")
    with pytest.raises(ArgumentError, match=r"8 x 12 numbers for an item.*needs 2"):
        learner(tmp_path, decoder=LightDecoder([8, 16], 3))


def test_mixup_is_refused_and_cutmix_takes_the_mask_along(tmp_path: Path) -> None:
    learn = learner(tmp_path)
    with pytest.raises(ArgumentError, match="CutMix takes"):
        learn.fit(1e-2, 1, callbacks=[MixUp()])
    learn.fit(1e-2, 1, callbacks=[CutMix()])


@pytest.mark.parametrize("decoder", [5, LightDecoder])
def test_what_is_no_decoder_is_refused(decoder: Any, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"decoder must be.*light"):
        learner(tmp_path, decoder=decoder)


def test_only_mask_data_is_taken() -> None:
    with pytest.raises(ArgumentError, match="needs MaskData, got ImageData"):
        segmentation_learner(ImageData.from_arrays((X, [0, 1] * 12)), net())
