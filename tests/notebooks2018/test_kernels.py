"""Kernels of 2018, in cells of our own: data sets, transforms, loaders and nets that their authors put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from easylearn.errors import ArgumentError
from easylearn.lm_rnn import RNN_Encoder

Run = Callable[..., dict[str, Any]]
pytestmark = [
    pytest.mark.usefixtures("photos"),
    pytest.mark.filterwarnings("ignore::easylearn.EasyLearnWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

START = """
from easylearn.conv_learner import *
from easylearn.dataset import *
PATH = "data/photos/"; P = PATH + "train/"; sz = 24; arch = squeezenet1_1.untrained()
names = [f"{c}/{f}" for c in ("cats", "dogs") for f in sorted(os.listdir(P + c))]
"""
OWN = """
class Shots(FilesDataset):
    def __init__(self, fnames, path, transform): super().__init__(fnames, transform, path)
    def get_y(self, i): return int("dogs" in self.fnames[i])
    def get_c(self): return 2
class Darker(Transform):
    def set_state(self): self.store.by = 0.9 + rand0(0.1)
    def do_transform(self, x, is_y): return lighting(x * self.store.by, 0, 1)
def get(tfms, test=None):
    return ImageData(PATH, ImageData.get_ds(Shots, (names, P), (names[:6], P), tfms, test=test), 4)
"""


def test_a_data_set_and_a_transform_of_ones_own(run: Run) -> None:
    ns = run(
        START,
        OWN,
        "aug = [RandomFlipXY(), Darker(tfm_y=TfmType.NO), RandomBlur(3), RandomCrop(sz)]",
        "tfms = tfms_from_model(arch, sz, aug_tfms=aug, crop_type=CropType.NO)",
        "md = get(tfms, test=(names[:3], P)); md = md.resize(64, 'tmp')",
        "learn = ConvLearner.pretrained(arch, md); learn.progress = False; learn.opt_fn = optim.Adam",
        "learn.fit(1e-3, 1); learn.unfreeze(); learn.fit(1e-3, 1, cycle_len=1, use_clr=(20, 16))",
        "plain, y = learn.predict_with_targs(); stack, _ = learn.TTA(n_aug=2, stack=True)",
        "learn.set_data(md); tested, _ = learn.TTA(n_aug=2, is_test=True, stack=True)",
        "groups = learn.get_layer_groups()",
    )
    assert ns["stack"].shape == (3, 6, 2) and ns["tested"].shape == (3, 3, 2) and ns["y"].tolist() == [0] * 5 + [1]
    assert np.allclose(ns["stack"][0], ns["plain"], atol=1e-5) and not np.allclose(ns["stack"][0], ns["stack"][1])
    assert len(ns["groups"]) > 1


def test_data_that_is_read_ahead_refuses_a_transform_of_ones_own(run: Run) -> None:
    with pytest.raises(ArgumentError, match=r"Darker.*get_ds"):
        run(START, OWN, "ImageClassifierData.from_paths(PATH, tfms=tfms_from_model(arch, sz, aug_tfms=[Darker()]))")


def test_what_else_a_data_set_takes(run: Run) -> None:
    ns = run(
        START,
        "class Noisy(FilesDataset):\n"
        "    def __init__(self, fnames, y, transform, path, shade):\n"
        "        self.shade = shade; super().__init__(fnames, transform, path)\n"
        "    def get_y(self, i): return self.shade",
        "given = names, names; tfms = tfms_from_stats(inception_stats, sz)",
        "ds = ImageData.get_ds(Noisy, given, given, tfms, path=P, shade=5)",
    )
    assert ns["ds"][0][0][1] == 5 and ns["ds"][4] is None


def test_boxes_and_classes_in_one_target(run: Run) -> None:
    ns = run(
        START,
        "rows = '\\n'.join(f'{n},{i % 3} 2 {14 + i % 5} 20' for i, n in enumerate(names))",
        "Path('data/photos/bb.csv').write_text('fn,bbox\\n' + rows)",
        "Path('data/photos/cat.csv').write_text('fn,cat\\n' + '\\n'.join(f'{n},{n[:4]}' for n in names))",
        "vals = [0, 6]",
        "tfms = tfms_from_model(arch, sz, crop_type=CropType.NO, tfm_y=TfmType.COORD)",
        "md = ImageClassifierData.from_csv(PATH, 'train', 'bb.csv', 4, tfms, vals, continuous=True)",
        "md2 = ImageClassifierData.from_csv(PATH, 'train', 'cat.csv', 4, tfms_from_model(arch, sz), vals)",
        "class Both(Dataset):\n"
        "    def __init__(self, ds, y2): self.ds, self.y2 = ds, y2\n"
        "    def __len__(self): return len(self.ds)\n"
        "    def __getitem__(self, i): x, y = self.ds[i]; return x, (y, self.y2[i])",
        "md.trn_dl.dataset = Both(md.trn_ds, md2.trn_y); md.val_dl.dataset = Both(md.val_ds, md2.val_y)",
        "x, y = next(iter(md.val_dl)); image = md.val_ds.ds.denorm(to_np(x))[0]",
        "head = nn.Sequential(nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(512, 6)); seen = []",
        "learn = ConvLearner(md, ConvnetBuilder(arch, 0, 0, 0, custom_head=head)); learn.progress = False",
        "def loss(out, targ):\n"
        "    b, c = targ; seen.append(targ)\n"
        "    return F.l1_loss(out[:, :4], b) + F.cross_entropy(out[:, 4:], c)",
        "def box_l1(out, targ): return (out[:, :4] - targ[0]).abs().mean()",
        "learn.crit = loss; learn.metrics = [box_l1]; lost, l1 = learn.fit(1e-3, 1, cycle_len=1)",
    )
    box, label = ns["seen"][0]
    assert box.shape == (4, 4) and box.dtype == torch.float32 and label.shape == (4,) and label.dtype == torch.int64
    assert [tuple(t.shape) for t in ns["y"]] == [(2, 4), (2,)] and ns["image"].shape == (24, 24, 3)
    assert 0 < ns["l1"] < ns["lost"]


def test_masks_have_an_accuracy(run: Run) -> None:
    ns = run(
        START,
        "m = accuracy_thresh(0.5); masks = torch.tensor([[[0.9, 0.1], [0.2, 0.8]]])",
        "truth = torch.tensor([[[1, 0], [1, 1]]])",
        "of_masks = m(masks, truth); of_labels = m(masks[0], truth[0])",
    )
    assert ns["of_masks"] == ns["of_labels"] == 0.75


def test_models_that_are_asked_whether_features_are_stored(run: Run) -> None:
    ns = run(
        START,
        OWN,
        "cut, lr_cut = model_meta[resnet34]; layers = cut_model(resnet18(False), cut)",
        "top = nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(512, 2), nn.LogSoftmax(-1)",
        "net = nn.Sequential(nn.Sequential(*layers), *top)",
        "class Parts:\n"
        "    def __init__(self, model): self.model = model\n"
        "    def get_layer_groups(self, precompute):\n"
        "        return [*split_by_idxs(children(self.model[0]), [lr_cut]), [*self.model[1:]]]",
        "learn = ConvLearner(get(tfms_from_stats(imagenet_stats, sz)), Parts(net)); learn.progress = False",
        "learn.freeze_to(1); learn.fit([1e-3, 1e-3, 1e-3], 1); path = learn.get_model_path('a'); learn.save('a')",
    )
    assert len(ns["learn"].layer_groups) == 3 and ns["path"].exists()


def test_a_stepper_of_ones_own(run: Run) -> None:
    ns = run(
        START,
        OWN,
        "from easylearn.model import Stepper",
        "steps = []",
        "class Counting(Stepper):\n"
        "    def step(self, xs, y, epoch):\n"
        "        steps.append((epoch, self.opt.param_groups[0]['lr'])); return super().step(xs, y, epoch)",
        "learn = ConvLearner.pretrained(arch, get(tfms_from_stats(imagenet_stats, sz)))",
        "first = learn.fit(1e-2, 1, cycle_len=2, use_clr=(20, 10), stepper=Counting)",
        "learn.fit(1e-2, 2, cycle_len=1, stepper=Counting); learn.fit(1e-2, 1, cycle_len=None, stepper=Counting)",
    )
    epochs, rates = zip(*ns["steps"], strict=True)
    assert epochs == (0,) * 3 + (1,) * 3 + (0,) * 3 + (1,) * 3 + (0,) * 3 and len(ns["first"]) >= 1
    assert rates[0] < max(rates[:6]) and rates[5] < max(rates[:6]) and rates[6] == rates[9] == 1e-2
    assert set(rates[12:]) == {1e-2}


def test_a_layer_that_evaluation_knows_after_training_alone(run: Run) -> None:
    run(
        START,
        "class Norm(nn.Module):\n"
        "    def forward(self, x):\n"
        "        if self.training: self.mean = x.mean(0, keepdim=True).detach()\n"
        "        return x - self.mean",
        "data = ImageClassifierData.from_paths(PATH, bs=4, tfms=tfms_from_stats(imagenet_stats, sz))",
        "net = nn.Sequential(Flatten(), Norm(), nn.Linear(3 * sz * sz, 2), nn.LogSoftmax(-1))",
        "learn = ConvLearner.from_model_data(net, data); learn.progress = False; learn.fit(1e-2, 1)",
    )


@pytest.mark.parametrize(
    ("module", "net", "n_out"),
    [("cifar10.wideresnet", "wrn_22(1)", 10), ("resnet", "vgg_resnet34(3)", 3)],
)
def test_nets_by_the_names_of_their_modules(run: Run, module: str, net: str, n_out: int) -> None:
    source = (
        f"from easylearn.models.{module} import *\nimport torch\nm = {net}.eval(); out = m(torch.zeros(2, 3, 32, 32))"
    )
    assert run(source)["out"].shape == (2, n_out)


def test_squeeze_and_excitation(run: Run) -> None:
    pytest.importorskip("timm")
    ns = run(
        "from easylearn.models.senet import *\nimport torch\nout = se_resnet50().eval()(torch.zeros(1, 3, 64, 64))"
    )
    assert ns["out"].shape == (1, 1000)


TEXT = """
from easylearn.lm_rnn import *
from easylearn.torch_imports import *
x = torch.randint(2, 20, (9, 3)); e = RNN_Encoder(20, 6, 8, 2, 1)
"""


def test_a_language_model_in_parts(run: Run) -> None:
    ns = run(
        TEXT,
        "m = SequentialRNN(e, LinearDecoder(20, 6, 0.1, tie_encoder=e.encoder)).eval(); m.reset()",
        "whole, raw, dropped = m(x); m.reset(); halves = torch.cat([m(x[:4])[0], m(x[4:])[0]]); other = m(x[:, :2])[0]",
    )
    assert ns["whole"].shape == (27, 20) and ns["raw"][-1].shape == (9, 3, 6) and ns["other"].shape == (18, 20)
    assert torch.allclose(ns["whole"], ns["halves"], atol=1e-6)


def test_a_classifier_in_parts(run: Run) -> None:
    ns = run(
        TEXT,
        "m = SequentialRNN(MultiBatchRNN(4, 8, 20, 6, 8, 2, 1), PoolingLinearClassifier([18, 5, 2], [0.1] * 2)).eval()",
        "one, raw, _ = m(x); two = m(x)[0]; everything = MultiBatchRNN(4, 100, 20, 6, 8, 2, 1)(x)[0][-1]",
    )
    assert ns["one"].shape == (3, 2) and torch.equal(ns["one"], ns["two"])
    assert ns["raw"][-1].shape == (5, 3, 6) and ns["everything"].shape == (9, 3, 6)


@pytest.mark.parametrize("option", ["qrnn", "bidir"])
def test_an_encoder_of_another_kind_is_refused(option: str) -> None:
    with pytest.raises(ArgumentError, match=option):
        RNN_Encoder(20, 6, 8, 2, 1, **{option: True})
