"""Learners of boxes: on images of squares and bars, which a small net learns in seconds."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from easylearn import load_learner, load_predictor, vision_learner
from easylearn.cli import main
from easylearn.data.loaders import TensorData
from easylearn.errors import ArgumentError, StateError, WeightsError
from easylearn.experiment.cross_fit import cross_fit
from easylearn.learning import Learner
from easylearn.serve.refusals import Limits
from easylearn.serve.torch_engine import TorchEngine
from easylearn.task import BoxPrediction, BoxPredictions, single_label
from easylearn.train.callback import Callback
from easylearn.train.state import Pause, Run
from easylearn.vision.augment import Dihedral, Flip
from easylearn.vision.boxes_data import BoxData
from easylearn.vision.boxes_learner import detection_learner, detection_model
from easylearn.vision.boxes_torchvision import DETECTORS, TorchvisionDetector

CPU = torch.device("cpu")


def scenes(n: int, seed: int = 0, size: tuple[int, int] = (64, 96)) -> tuple[np.ndarray, list[np.ndarray]]:
    """Images with a bright square and a bright bar each, and their boxes."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 60, (n, *size, 3), dtype=np.uint8)
    y = []
    for image in x:
        left, right = rng.integers(2, 20), rng.integers(52, 60)
        top, low = rng.integers(2, size[0] - 26), rng.integers(2, size[0] - 14)
        side, length = rng.integers(14, 24), rng.integers(24, 34)
        image[top : top + side, left : left + side] += 150
        image[low : low + 8, right : right + length] += 150
        y.append(np.array([[left, top, left + side, top + side, 0], [right, low, right + length, low + 8, 1]]))
    return x, y


def large(n: int) -> np.ndarray:
    """Images of twice the size."""
    return scenes(n, 5)[0].repeat(2, 1).repeat(2, 2)


def body() -> nn.Sequential:
    """A net whose maps are 4, 8, 16 and 32 times smaller than the image."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for n_in, n_out in ((3, 16), (16, 24), (24, 32), (32, 48), (48, 64)):
        layers.append(
            nn.Sequential(nn.Conv2d(n_in, n_out, 3, 2, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True))
        )
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2))


class Stop(Callback):
    """Ends a run at its third step, once."""

    def __init__(self) -> None:
        self.asked = False

    def on_batch_end(self, run: Run) -> None:
        if run.step == 3 and not self.asked:
            self.asked, run.stop_reason = True, Pause("enough")

    def state_dict(self) -> dict[str, Any]:
        return {"asked": True}

    def load_state_dict(self, state: Any) -> None:
        self.asked = state["asked"]


def data_of(n: int = 48, augment: Any = "none", n_valid: int = 16, **how: Any) -> BoxData:
    given = {"classes": ["square", "bar"], "batch_size": 8, "augment": augment, "workers": 0, **how}
    return BoxData.from_arrays(scenes(n), scenes(n_valid, 1), **given)


def learner(data: BoxData | None = None, **how: Any) -> Learner:
    given = {"seed": 0, "progress": False, "width": 32, **how}
    return detection_learner(data_of() if data is None else data, body(), **given)


@pytest.fixture(scope="module")
def trained() -> Learner:
    learn = learner(data_of(augment=[Flip()]))
    learn.fit_one_cycle(1e-2, 14)
    return learn


def test_it_finds_what_is_there(trained: Learner) -> None:
    scores = trained.validate()
    assert scores["ap50"] > 0.95 and scores["ap"] > 0.5
    said = trained.predict()
    assert isinstance(said, BoxPredictions) and said.probs.shape == (16, 100, 6)
    from easylearn.box_metrics import ap50

    assert said.targets is not None and ap50(said.probs, said.targets) == pytest.approx(scores["ap50"])
    frame = said.to_frame()
    assert set(frame["label"]) == {"square", "bar"} and not frame.isna().any().any()


def test_the_bias_of_a_new_head_is_the_usual_side() -> None:
    data = data_of()
    target = data.target("train")
    assert target is not None
    sides = (target[..., 2:4] - target[..., :2])[target[..., 4] >= 0]
    bias = learner(data).model.head.out.bias[2:]  # type: ignore[union-attr]
    np.testing.assert_allclose(bias.detach().exp(), float(sides.median()) / 2 / 4, rtol=1e-5)


def test_groups_are_frozen_and_thawed() -> None:
    learn = learner()
    assert [g.name for g in learn.layer_groups] == ["stem", "late", "decoder"]
    learn.freeze()
    before = [p.detach().clone() for p in learn.model.body.parameters()]  # type: ignore[union-attr]
    learn.fit(1e-3, 1)
    assert all(map(torch.equal, before, learn.model.body.parameters()))  # type: ignore[union-attr]


def test_precompute_trains_the_head_on_stored_maps() -> None:
    learn = learner()
    learn.freeze()
    learn.precompute = True
    record = learn.fit_one_cycle(1e-2, 3)
    assert record.last["train_loss"] < record.epochs[0]["train_loss"]
    assert learn.validate()["valid_loss"] == pytest.approx(record.last["valid_loss"], rel=0.02)  # half precision


def test_boxes_move_with_their_images_in_training() -> None:
    data = data_of(augment=[Flip(1.0)])
    (plain,) = [b for b in data.loader("valid").batches(CPU) if 0 in b.index][:1]
    (moved,) = [b for b in data.loader("valid", view=1).batches(CPU) if 0 in b.index][:1]
    assert torch.equal(moved.inputs[0].flip(-1), plain.inputs[0])
    for batch in data.loader("train", training=True).batches(CPU, 0, 0):
        assert batch.target is not None
        for image, boxes in zip(data.batch_stage.denormalise(batch.inputs[0]), batch.target, strict=True):
            for x0, y0, x1, y1, _ in boxes.round().int().tolist():
                assert image[:, y0:y1, x0:x1].mean() > 0.5


def test_lr_find_puts_everything_back() -> None:
    learn = learner()
    before = {n: t.clone() for n, t in learn.model.state_dict().items()}
    curve = learn.lr_find(n_steps=12)
    assert len(curve.losses) > 1
    assert all(torch.equal(before[n], t) for n, t in learn.model.state_dict().items())


@pytest.mark.parametrize("kind", ["centre", pytest.param("torchvision", marks=pytest.mark.slow)])
def test_a_resumed_run_is_the_same_to_the_bit(kind: str, tmp_path: Path) -> None:
    if kind == "torchvision":
        small = {"size": 64}
        make = lambda: detection_learner(  # noqa: E731
            data_of(12, [Flip()], **small), "fasterrcnn_mobilenet_v3_large_320_fpn", pretrained=False, progress=False
        )
    else:
        make = lambda: learner(data_of(32, [Dihedral()]))  # noqa: E731
    whole, cut, again = make(), make(), make()
    whole.fit(1e-3, 2)
    cut.fit(1e-3, 2, checkpoint=tmp_path / "run", every=1, callbacks=[Stop()])
    again.resume(tmp_path / "run", callbacks=[Stop()])
    assert all(torch.equal(t, again.model.state_dict()[n]) for n, t in whole.model.state_dict().items())


def test_views_are_laid_back(trained: Learner) -> None:
    x, y = scenes(4, 2)
    data = BoxData.from_arrays((x, y), valid=(x, y), classes=["square", "bar"], augment=[Dihedral()], workers=0)
    learn = detection_learner(data, trained, stride=4, width=32, progress=False)
    learn.model.load_state_dict(trained.model.state_dict())
    plain, several = learn.predict(), learn.tta(8)
    assert several.views.shape[0] == 4  # an image that is not square has four
    whole = plain.to_frame().merge(several.to_frame(), on=["id", "label"])
    apart = (whole["xmin_x"] - whole["xmin_y"]).abs().median(), (whole["ymax_x"] - whole["ymax_y"]).abs().median()
    assert max(apart) < 4


def test_sides_change_places_with_the_image() -> None:
    data = data_of(augment=[Dihedral()], size=64)
    how: Any = data.preprocessor
    maps = torch.randn(2, 6, 16, 16, generator=torch.Generator().manual_seed(0))
    from easylearn.nn.centre import found_boxes

    expected = found_boxes(maps, 4, 20, 0.9)
    for k, way in enumerate(how.ways, 1):
        laid = _laid_maps(maps, way)
        undone = how.undo_view(k, laid)
        torch.testing.assert_close(undone, maps)
        boxes = how.undo_view(k, found_boxes(laid, 4, 20, 0.9))
        torch.testing.assert_close(_sorted(boxes), _sorted(expected), atol=1e-3, rtol=1e-4)


def _laid_maps(maps: Tensor, way: Any) -> Tensor:
    """The maps of images that were laid so."""
    from easylearn.vision.boxes_preprocess import SIDES
    from easylearn.vision.warp import lay

    out = lay(maps, np.tile(np.array(way.rows), (len(maps), 1, 1)))
    order = [SIDES.index(tuple(float(v) + 0.0 for v in np.array(way.rows)[:, :2] @ side)) for side in SIDES]
    return torch.cat([out[:, :-4], out[:, -4:][:, order]], 1)


def _sorted(found: Tensor) -> Tensor:
    order = found[..., 4].argsort(dim=1, descending=True, stable=True)
    return found.gather(1, order[..., None].expand(-1, -1, 6))[:, :10]


def test_mistakes_are_shown(trained: Learner, tmp_path: Path) -> None:
    found = trained.interpret()
    top = found.top_losses(3)
    assert {"boxes", "found", "wrong"} <= set(top) and list(found.report()) == ["ap50", "ap", "support"]
    figure = found.plot_top_losses(4)
    assert sum(len(a.patches) for a in figure.axes) >= 8
    boxes = int((found.probs[..., 4] > 0).sum())  # rows that are no boxes do not count
    assert 0 < boxes < found.probs[..., 4].numel() and found.calibration().table["count"].sum() == boxes
    assert sum(len(a.patches) for a in trained.data.show_batch(4).axes) >= 8  # type: ignore[attr-defined]
    page = trained.report(tmp_path / "run.html").read_text()
    assert "ap50" in page


def test_files(trained: Learner, tmp_path: Path) -> None:
    file = trained.export(tmp_path / "shapes.easylearn").path
    predictor = load_predictor(file)
    x = large(3)
    said, ours = predictor.predict(x), trained.predict(x)
    assert isinstance(said, BoxPredictions) and torch.equal(said.probs, ours.probs)
    assert said[0].to_frame()[["xmin", "xmax"]].to_numpy().max() > 96  # pixels of the image itself
    one = predictor.predict(x[0])
    assert isinstance(one, BoxPrediction) and one.label == said[0].label
    np.testing.assert_allclose(one.boxes, said[0].boxes, atol=1e-3)
    assert torch.equal(predictor.tta(x, 2).probs, _tta(trained, x))
    again = load_learner(file, data=data_of(), progress=False)
    again.fit(1e-4, 1)


def test_folds_are_joined_and_not_averaged(trained: Learner, tmp_path: Path) -> None:
    """Of boxes there is no mean; images of unlike folds have unlike numbers of them."""
    x, y = scenes(9, 2)
    y = [boxes[:1] if i < 6 else boxes for i, boxes in enumerate(y)]
    plan = [(np.arange(3, 9), np.arange(3)), (np.r_[:3, 6:9], np.arange(3, 6)), (np.arange(6), np.arange(6, 9))]

    def make(p: Any) -> Learner:
        data = BoxData.from_arrays((x, y), p.valid, classes=["square", "bar"], batch_size=8, workers=0)
        learn = learner(data, seed=p.seed)
        learn.model.load_state_dict(trained.model.state_dict())
        return learn

    crossed = cross_fit(make, plan, lambda learn, p, **how: learn.fit(3e-3, 1, **how), tmp_path / "cv", seeds=2)  # type: ignore[arg-type]
    found = crossed.oof
    assert found.targets is not None and found.task.by_name(found.probs, found.targets)["ap50"][0] > 0.9  # squares
    assert found.task.count_classes(found.targets) == [9, 3]
    assert found.places is not None and found.places[8].shape == x.shape[1:3] and len(found.to_frame()) > 3
    each = [learn.predict(x).probs for learn in crossed.learners()]
    several = load_predictor(crossed.export(tmp_path / "several.easylearn"), device="cpu")
    wanted = found.task.averaged(each, torch.stack(each))
    for said in (several.predict(x), several.tta(x, 0)):
        torch.testing.assert_close(said.probs, wanted)
        assert said.places is not None


def test_it_is_served(trained: Learner, tmp_path: Path) -> None:
    engine = TorchEngine(trained.export(tmp_path / "shapes.easylearn").path, Limits())
    engine.check()
    held = []
    for image in [*large(1), np.full((64, 96, 3), 20, np.uint8)]:
        held.append(io.BytesIO())
        Image.fromarray(image).save(held[-1], format="PNG")
    first, none = map(engine.answer, engine.run([engine.prepare(one.getvalue()) for one in held]))
    assert first["label"] == ["bar", "square"] and first["values"] == {"square": 1.0, "bar": 1.0}
    assert max(box["xmax"] for box in first["boxes"]) > 96 and json.loads(json.dumps(first)) == first
    assert none == {"label": [], "values": {"square": 0.0, "bar": 0.0}, "boxes": []}


def _tta(trained: Learner, x: np.ndarray) -> Tensor:
    none = [np.zeros((0, 5))] * len(x)
    data = BoxData.from_arrays(
        scenes(4), (x, none), classes=["square", "bar"], size=(64, 96), augment=[Flip()], workers=0
    )
    probs: Tensor = _with(trained, data).tta(2).probs
    return probs


def _with(trained: Learner, data: BoxData) -> Learner:
    learn = detection_learner(data, body(), width=32, progress=False)
    learn.model.load_state_dict(trained.model.state_dict())
    return learn


def test_the_command_line_writes_boxes(trained: Learner, tmp_path: Path) -> None:
    file = trained.export(tmp_path / "shapes.easylearn").path
    (tmp_path / "images").mkdir()
    x = large(2)
    for k, image in enumerate([*x, np.full((64, 96, 3), 20, np.uint8)]):
        Image.fromarray(image).save(tmp_path / "images" / f"{k}.png")
    assert main(["predict", str(file), str(tmp_path / "images"), "--out", str(tmp_path / "out.csv")]) == 0
    with open(tmp_path / "out.csv", newline="") as given:
        rows = list(csv.DictReader(given))
    assert {r["id"] for r in rows} == {"0.png", "1.png", "2.png"}
    assert list(rows[0]) == ["id", "xmin", "ymin", "xmax", "ymax", "label", "score"]
    assert [r["label"] for r in rows if r["id"] == "2.png"] == [""]  # nothing was found
    assert max(float(r["xmax"]) for r in rows if r["xmax"]) > 96
    again = BoxData.from_csv(tmp_path, "out.csv", "images", (64, 96), file_col="id", valid=None)
    target = again.target("train")
    assert target is not None and (target[..., 4] >= 0).sum(1).tolist() == [
        sum(r["id"] == f"{k}.png" and r["label"] != "" for r in rows) for k in range(3)
    ]


def test_onnx_gives_the_same_boxes(trained: Learner, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    report = trained.export(tmp_path / "shapes.onnx", format="onnx")
    assert report.checked == 8 and report.difference <= 1e-4


def test_another_size(trained: Learner) -> None:
    learn = _with(trained, data_of())
    learn.set_data(data_of(8))  # made for cells of 4 pixels
    wide = learner(data_of(8), stride=8)
    wide.set_data(data_of(16))
    assert wide.data.task.settings()["stride"] == 8 and wide.validate()["valid_loss"] > 0
    learn.set_data((128, 192))
    target = learn.data.target("valid")  # type: ignore[attr-defined]
    assert target[..., 2].max() > 128 and learn.validate()["valid_loss"] > 0


def test_the_body_of_a_classifier(trained: Learner) -> None:
    from easylearn import ImageData

    x, _ = scenes(16)
    classifier = vision_learner(
        ImageData.from_arrays((x, [0, 1] * 8), (x, [0, 1] * 8), workers=0), body(), pretrained=False, progress=False
    )
    learn = detection_learner(data_of(), classifier, progress=False)
    theirs, ours = classifier.model.body.state_dict(), learn.model.body.body.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(t, ours[n]) for n, t in theirs.items())
    assert [g.trainable for g in learn.layer_groups] == [False, False, True]


def test_there_is_no_reference_for_boxes(trained: Learner) -> None:
    with pytest.raises(StateError, match=r"no simple reference for boxes.*learn\.validate"):
        trained.baseline()
    with pytest.raises(ArgumentError, match="got BoxData: detection_learner takes it"):
        vision_learner(trained.data, "resnet18")  # type: ignore[arg-type]


def test_what_is_refused() -> None:
    data = data_of(8)
    with pytest.raises(ArgumentError, match="stride is one of"):
        detection_model(body(), 2, stride=16)
    rows = TensorData((torch.zeros(4, 3), torch.tensor([0, 1, 0, 1])), None, single_label(["a", "b"]))
    with pytest.raises(ArgumentError, match="needs BoxData, got TensorData"):
        detection_learner(rows, "resnet18")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"yolov3.*ultralytics.*not of torchvision"):
        detection_learner(data, "yolov3")
    with pytest.raises(ArgumentError, match="fcos_resnet50_fpn"):
        detection_learner(data, "fcos_resnet50")
    with pytest.raises(ArgumentError, match="takes images of 300 x 300 pixels alone, and the data gives 64 x 96"):
        detection_learner(data, "ssd300_vgg16")
    with pytest.raises(ArgumentError, match="cells of 4 pixels"):
        detection_learner(data, "squeezenet1_1", pretrained=False)
    with pytest.raises(WeightsError, match="no file of weights"):
        detection_learner(data, "fcos_resnet50_fpn", pretrained="nowhere.pth")


class Guess(nn.Module):
    """A model with a loss of its own: it says the same box of every image, and learns where."""

    def __init__(self) -> None:
        super().__init__()
        self.box = nn.Parameter(torch.tensor([10.0, 10.0, 20.0, 20.0]))

    def forward(self, x: Tensor) -> Tensor:
        row = torch.cat([self.box, torch.tensor([0.9, 0.0])])
        return row.expand(len(x), 1, 6)

    def loss(self, inputs: tuple[Tensor, ...], target: Tensor) -> Tensor:
        return (self.box - target[:, 0, :4]).abs().mean()


def test_a_model_with_a_loss_of_its_own() -> None:
    learn = Learner(data_of(16, [Flip()]), Guess(), progress=False)
    record = learn.fit(1.0, 3)
    assert record.epochs[-1]["train_loss"] < record.epochs[0]["train_loss"] and 0 <= record.last["valid_loss"] <= 1
    said = learn.tta(1)
    assert said.probs.shape == (16, 2, 6) and learn.predict()[0].to_frame()["label"].tolist() == ["square"]
    assert learn.interpret().top_losses(2)["boxes"].tolist() == [2, 2]


class TestTorchvision:
    NAME = "fasterrcnn_mobilenet_v3_large_320_fpn"

    @pytest.mark.slow  # 15 s
    def test_it_trains_predicts_and_goes_into_files(self, tmp_path: Path) -> None:
        learn = detection_learner(data_of(6, [Flip()], 4, batch_size=3), self.NAME, pretrained=False, progress=False)
        assert [g.name for g in learn.layer_groups] == ["body", "head"]
        record = learn.fit(1e-3, 1)
        assert np.isfinite(record.last["train_loss"]) and 0 <= record.last["valid_loss"] <= 1
        said = learn.predict()
        assert isinstance(said, BoxPredictions) and said.probs.shape == (4, 100, 6)
        predictor = load_predictor(learn.export(tmp_path / "m.easylearn").path)
        x, _ = scenes(2, 3)
        assert torch.equal(predictor.predict(x).probs, learn.predict(x).probs)
        assert learn.tta(1).probs.shape == (4, 100, 6)

    def test_its_loss_is_the_sum_of_torchvisions(self) -> None:
        model = TorchvisionDetector(self.NAME, 2).train()
        x = torch.randn(2, 3, 64, 96)
        target = torch.tensor([[[4.0, 4.0, 30.0, 30.0, 1.0]], [[0.0, 0.0, 0.0, 0.0, -1.0]]])
        torch.manual_seed(0)
        ours = model.loss((x,), target).detach()
        given = [{"boxes": target[0, :, :4], "labels": torch.tensor([2])}]
        given += [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}]
        torch.manual_seed(0)
        assert float(ours) == pytest.approx(sum(float(v.detach()) for v in model.net(list(x), given).values()))
        with pytest.raises(ArgumentError, match="in evaluation alone"):
            model(x)

    @pytest.mark.slow  # builds nine detectors, most of 30 million numbers
    @pytest.mark.parametrize("name", DETECTORS)
    def test_every_one_of_them(self, name: str) -> None:
        side = {"ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320}.get(name, 64)
        data = data_of(4, n_valid=2, size=side, batch_size=2)
        learn = detection_learner(data, name, pretrained=False, progress=False)
        learn.fit(1e-4, 1)
        assert learn.predict().probs.shape == (2, 100, 6)

    def test_weights_but_for_the_last_layers(self, tmp_path: Path) -> None:
        coco = TorchvisionDetector(self.NAME, 90)
        torch.save(coco.net.state_dict(), tmp_path / "coco.pth")
        learn = detection_learner(data_of(8), self.NAME, pretrained=str(tmp_path / "coco.pth"), progress=False)
        theirs, ours = coco.net.state_dict(), learn.model.net.state_dict()  # type: ignore[union-attr]
        same = [n for n in ours if ours[n].shape == theirs[n].shape and torch.equal(ours[n], theirs[n])]
        assert len(ours) - len(same) == 4 and not learn.layer_groups[0].trainable
        torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
        with pytest.raises(WeightsError, match="not of fasterrcnn"):
            detection_learner(data_of(8), self.NAME, pretrained=str(tmp_path / "other.pth"), progress=False)
