"""What the modules of 2018 compute, against torch, scikit-learn and the formulas of that time, and what they refuse."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import fbeta_score, precision_score, recall_score
from torch import nn
from torch.nn import functional as F

from easylearn import fit07, metrics07
from easylearn.conv_learner import ConvLearner, ImageClassifierData, tfms_from_model
from easylearn.core import A, T, V, split_by_idxs, to_np
from easylearn.dataloader import DataLoader
from easylearn.dataset import get_cv_idxs, parse_csv_labels
from easylearn.errors import ArgumentError, StateError
from easylearn.export import load_predictor
from easylearn.initializers import apply_init
from easylearn.io import get_data
from easylearn.layer_optimizer import LayerOptimizer, set_lrs
from easylearn.layers import AdaptiveConcatPool2d
from easylearn.learner07 import Learner07
from easylearn.model import model_summary, num_features
from easylearn.sgdr import CircularLR, CosAnneal, DecayType, LR_Finder, LR_Updater, decayed, smooth_curve
from easylearn.torch_imports import archs, load_model, save_model
from easylearn.transforms import (
    CenterCrop,
    CropType,
    NoCrop,
    RandomCrop,
    RandomDihedral,
    RandomFlip,
    RandomLighting,
    RandomRotateZoom,
    Scale,
    TfmType,
    tfms_from_stats,
)
from easylearn.vision.archs import get_arch

BOX = np.array([2, 3, 6, 9], np.float32)  # top, left, bottom, right


@pytest.fixture
def image() -> Any:
    return np.random.default_rng(0).random((12, 20, 3)).astype(np.float32)


# -- transforms ----------------------------------------------------------------------------------------


def test_boxes_follow_what_happens_to_the_image(image: Any) -> None:
    flipped, box = RandomFlip(TfmType.COORD, p=1.0)(image, BOX)
    assert np.allclose(flipped, image[:, ::-1], atol=1 / 255) and box.tolist() == [2, 20 - 9, 6, 20 - 3]
    squashed, box = NoCrop(24, TfmType.COORD)(image, BOX)
    assert squashed.shape == (24, 24, 3) and np.allclose(box, BOX * [2, 1.2, 2, 1.2], atol=1)
    middle, box = CenterCrop(8, tfm_y=TfmType.COORD)(image, BOX)
    assert np.array_equal(middle, image[2:10, 6:14]) and box.tolist() == [0, 0, 4, 3]
    assert RandomLighting(0.5, 0.5, TfmType.COORD)(image, BOX)[1].tolist() == BOX.tolist()


def test_a_second_image_follows_pixel_by_pixel(image: Any) -> None:
    for t in (RandomDihedral(TfmType.PIXEL), RandomRotateZoom(9, 0.2, 0.1, tfm_y=TfmType.PIXEL)):
        x, y = t(image, image)
        assert np.array_equal(x, y)
    x, y = RandomLighting(0.5, 0.5, TfmType.CLASS)(image, image)
    assert not np.allclose(x, image, atol=0.01) and np.allclose(y, image, atol=1 / 255)  # a mask gets no light
    assert Scale(24)(image)[0].shape == (24, 40, 3) and RandomCrop(7)(image)[0].shape == (7, 7, 3)


def test_transforms_of_a_whole_split(image: Any) -> None:
    train, valid = tfms_from_stats(
        None, 10, [RandomFlip(TfmType.COORD, p=1.0)], crop_type=CropType.NO, tfm_y=TfmType.COORD
    )
    x, box = train(image, BOX)
    plain, straight = valid(image, BOX)
    assert np.allclose(x, plain[:, :, ::-1], atol=1e-5) and np.allclose(straight, BOX * ([10 / 12, 0.5] * 2), atol=1)
    assert box[1] == pytest.approx(10 - straight[3]) and np.array_equal(
        valid.denorm(np.moveaxis(plain, 0, -1))[..., 0], plain[0]
    )
    with pytest.raises(ArgumentError, match=r"CropType\.NO"):
        train.boxes(BOX, (12, 20))
    with pytest.raises(ArgumentError, match="RandomFlip"):
        tfms_from_stats(None, 10, ["flip"])


# -- rates and decay -----------------------------------------------------------------------------------


def then(nb: int, div: float, cut_div: float) -> list[float]:
    """The rates of `CircularLR` in 0.7, as shares of the highest."""
    cut = nb // cut_div
    shares = [i / cut if i <= cut else 1 - (i - cut) / (nb - cut) for i in range(nb)]
    return [(1 + share * (div - 1)) / div for share in shares]


def test_slanted_triangles_are_those_of_2018() -> None:
    rate, moving = fit07.clr((20, 10, 0.95, 0.85), 2, 5)
    wanted = then(50, 20, 10)
    for k in range(50):
        for cycle in (0, 5):
            assert rate(k / 10 + cycle, 10) == pytest.approx(wanted[k], rel=1e-6)
    assert moving is not None and [round(moving(e, 10), 4) for e in (0, 0.5, 5, 5.5)] == [0.95, 0.85, 0.95, 0.85]
    net = nn.Linear(1, 1)
    sched = CircularLR(LayerOptimizer(torch.optim.SGD, net, 1.0), 50, 20, 10)
    sched.on_train_begin()
    for _ in range(49):
        sched.on_batch_end(1.0)
    assert sched.lrs == pytest.approx(wanted[:49], rel=1e-6)


def test_cosine_cycles_grow() -> None:
    sched = CosAnneal(LayerOptimizer(torch.optim.SGD, nn.Linear(1, 1), 2.0), 4, cycle_mult=2)
    sched.on_train_begin()
    for _ in range(12):
        sched.on_batch_end(1.0)
    wanted = [1 + math.cos(math.pi * k / n) for n in (4, 8) for k in range(n)]
    assert sched.lrs == pytest.approx(wanted)


def test_the_finder_stops_when_it_gets_worse() -> None:
    sched = LR_Finder(LayerOptimizer(torch.optim.SGD, nn.Linear(1, 1), 1e-3), 20, 1.0)
    sched.on_train_begin()
    ended = [sched.on_batch_end(loss) for loss in [1.0] * 15 + [5.0]]
    assert ended[-1] is True and not any(ended[:-1]) and sched.lrs[10] == pytest.approx(1e-3 * 1000**0.5)
    with pytest.raises(StateError, match="calc_lr"):
        LR_Updater(sched.layer_opt).on_train_begin()


def test_decay_types() -> None:
    assert decayed(DecayType.EXPONENTIAL, 1.0, 0.01, 0.5) == pytest.approx(0.1)
    assert decayed(DecayType.COSINE, 2.0, 1.0, 0.5) == pytest.approx(1.5)
    assert decayed(DecayType.NO, 3.0, 1.0, 0.9) == 3.0
    assert smooth_curve([1.0, 1.0, 4.0], 0.5)[:2] == [1.0, 1.0]


def test_weight_decay_beside_the_gradient_is_that_of_adamw(make_learner: Callable[..., Any]) -> None:
    ours = Learner07.of(make_learner(optimizer=torch.optim.Adam))
    theirs = make_learner(optimizer=torch.optim.AdamW)
    theirs.model.load_state_dict(ours.model.state_dict())
    ours.fit(1e-2, 2, wds=0.1, use_wd_sched=True)
    theirs.fit(1e-2, 2, wd=0.1)
    for a, b in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    with pytest.raises(ArgumentError, match="wds has 7"):
        ours.fit(1e-2, 1, wds=[0.1] * 7)


def test_one_rate_and_one_decay_per_group() -> None:
    layers = [nn.Linear(2, 2), [nn.Linear(2, 2), nn.Linear(2, 1)]]
    opt = LayerOptimizer(torch.optim.Adam, layers, [0.1, 0.2], 0.3)
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in opt.opt.param_groups] == [
        (0.1, 0.3, 2),
        (0.2, 0.3, 4),
    ]
    set_lrs(opt.opt, 0.5)
    opt.set_mom(0.7)
    assert opt.mom == 0.7 and opt.opt.param_groups[1]["lr"] == 0.5
    with pytest.raises(ArgumentError, match="3 values of lr were given for 2"):
        opt.set_lrs([1, 2, 3])


# -- metrics, layers, helpers ----------------------------------------------------------------------------


def test_metrics_are_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    probs, true = rng.random((40, 3)), (rng.random((40, 3)) > 0.6).astype(int)
    found = probs > 0.5
    assert metrics07.fbeta_np(probs, true, 2) == pytest.approx(fbeta_score(true, found, beta=2, average="micro"))
    assert metrics07.precision_np(probs, true) == pytest.approx(precision_score(true, found, average="micro"))
    assert metrics07.recall(np.log(probs), torch.tensor(true)) == pytest.approx(
        recall_score(true, found, average="micro")
    )
    assert metrics07.accuracy_multi(torch.tensor(probs), true, 0.5) == pytest.approx((found == true).mean())
    assert metrics07.f1_np(probs, true) == pytest.approx(fbeta_score(true, found, beta=1, average="micro"))


def test_layers_and_their_beginning() -> None:
    x = torch.randn(2, 3, 6, 6)
    assert torch.equal(AdaptiveConcatPool2d()(x)[:, :3], F.adaptive_max_pool2d(x, 1))
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    before = copy.deepcopy(net[1].weight)
    apply_init(net, nn.init.ones_)
    assert bool((net[0].weight == 1).all()) and bool((net[0].bias == 0).all()) and torch.equal(net[1].weight, before)
    assert num_features(net) == 3
    rows = model_summary(net, torch.zeros(4, 2))
    assert [(name, row["output_shape"], row["nb_params"]) for name, row in rows.items()] == [
        ("Linear-1", [-1, 3], 9), ("BatchNorm1d-2", [-1, 3], 6),
    ]  # fmt: skip


def test_between_numpy_and_torch() -> None:
    assert T([1, 2]).dtype == torch.int64 and T(np.ones(2)).dtype == torch.float32
    assert V(np.ones(2), requires_grad=True).requires_grad and to_np([torch.ones(1, requires_grad=True)])[
        0
    ].tolist() == [1]
    assert A([1, 2]).tolist() == [1, 2] and list(split_by_idxs([1, 2, 3], [1])) == [[1], [2, 3]]
    assert sorted(get_cv_idxs(4, val_pct=2)) == [0, 1, 2, 3]


def test_sequences_are_padded_and_turned() -> None:
    rows = [(np.array([1, 2, 3]), 0), (np.array([4]), 1)]
    x, y = next(iter(DataLoader(rows, 2, pad_idx=9)))
    assert x.tolist() == [[1, 2, 3], [9, 9, 4]] and y.tolist() == [0, 1]
    x, _ = next(iter(DataLoader(rows, 2, pre_pad=False, transpose=True)))
    assert x.tolist() == [[1, 4], [2, 0], [3, 0]]


def test_files(tmp_path: Path) -> None:
    net, other = nn.Linear(2, 2), nn.Linear(2, 2)
    save_model(net, tmp_path / "net.h5")
    load_model(other, tmp_path / "net.h5")
    assert torch.equal(net.weight, other.weight)
    (tmp_path / "a.csv").write_text("1.jpg,a b\n2.jpg,c\n")
    names, labels, every, number = parse_csv_labels(tmp_path / "a.csv", skip_header=False)
    assert list(names) == ["1.jpg", "2.jpg"] and labels["1.jpg"] == ["a", "b"]
    assert every == ["a", "b", "c"] and number["c"] == 2
    get_data("http://nowhere.invalid/a.csv", tmp_path / "a.csv")  # it is there, so nobody is asked


def test_architectures_are_those_that_model_files_name() -> None:
    assert all(
        arch.plain() == get_arch(arch.name)
        for name, arch in archs.items()
        if "inception" not in name and "nas" not in name
    )
    assert [type(m).__name__ for m in archs["vgg16"](False)][:3] == ["Conv2d", "BatchNorm2d", "ReLU"]


@pytest.mark.usefixtures("photos")
def test_a_learner_of_2018_is_exported_as_any_other() -> None:
    data = ImageClassifierData.from_paths("data/photos", bs=4, tfms=tfms_from_model("squeezenet1_1", 24), num_workers=0)
    learn = ConvLearner.pretrained(archs["squeezenet1_1"], data, pretrained=False)
    learn.export("one.easylearn")
    said = load_predictor("one.easylearn").predict("data/photos/" + data.val_ds.fnames[0])
    assert np.allclose(said.probs.log(), learn.predict()[0], atol=1e-4)
