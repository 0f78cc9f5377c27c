"""Notebooks of 2018 on images, in cells of our own: what they import, the calls they make, the types they expect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from easylearn.errors import ArgumentError

Run = Callable[..., dict[str, Any]]
pytestmark = [
    pytest.mark.usefixtures("photos"),
    pytest.mark.filterwarnings("ignore::easylearn.EasyLearnWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

IMPORTS = """
from easylearn.imports import *
from easylearn.transforms import *
from easylearn.conv_learner import *
from easylearn.model import *
from easylearn.dataset import *
from easylearn.sgdr import *
from easylearn.plots import *
PATH = "data/photos/"; sz = 24; arch = squeezenet1_1.untrained()
"""
DATA = """
data = ImageClassifierData.from_paths(PATH, bs=4, tfms=tfms_from_model(arch, sz), num_workers=0)
learn = ConvLearner.pretrained(arch, data, precompute=False); learn.progress = False
"""


def test_looking_at_files_and_predictions(run: Run) -> None:
    ns = run(
        IMPORTS,
        "files = os.listdir(f'{PATH}valid/cats'); img = plt.imread(f'{PATH}valid/cats/{files[0]}'); plt.imshow(img)",
        DATA,
        "learn.freeze(); learn.fit(1e-3, 2)",
        "log_preds = learn.predict(); preds = np.argmax(log_preds, axis=1); probs = np.exp(log_preds[:, 1])",
        "right = (preds == data.val_y).mean()",
        "images = [np.array(PIL.Image.open(PATH + f)) for f in data.val_ds.fnames]",
        "plots_from_files([PATH + f for f in data.val_ds.fnames[:2]], titles=['a', 'b'], maintitle='both')",
        "plots(images, rows=2, titles=probs)",
        "from sklearn.metrics import confusion_matrix\ncm = confusion_matrix(data.val_y, preds)",
        "plot_confusion_matrix(cm, data.classes); plot_confusion_matrix(cm, data.classes, normalize=True)",
        "res = ImageModelResults(data.val_ds, log_preds); res.plot_most_correct(0); res.plot_most_incorrect(1)",
        "res.plot_most_uncertain(1)",
    )
    assert isinstance(ns["log_preds"], np.ndarray) and ns["log_preds"].shape == (6, 2)
    assert np.allclose(np.exp(ns["log_preds"]).sum(1), 1, atol=1e-5) and ns["cm"].sum() == 6


def test_augmentation_is_looked_at_through_the_loaders(run: Run) -> None:
    ns = run(
        IMPORTS,
        "tfms = tfms_from_model(arch, sz, aug_tfms=transforms_side_on + [RandomLighting(.1, .1)], max_zoom=1.1)",
        "data = ImageClassifierData.from_paths(PATH, bs=4, tfms=tfms, test_name='test', num_workers=0)",
        "def get(): x, y = next(iter(data.aug_dl)); return data.trn_ds.denorm(x)[1]",
        "ims = np.stack([get() for i in range(3)]); plots(ims, rows=1)",
        "x, y = next(iter(data.val_dl)); again, _ = next(iter(data.val_dl)); x0, y0 = data.val_ds[0]",
        "sizes = {k: PIL.Image.open(PATH + k).size for k in data.trn_ds.fnames}",
        "orders = [torch.cat([y for *x, y in data.trn_dl]) for epoch in range(2)]; bs = data.trn_dl.batch_size",
        "t, zeros = next(iter(data.test_dl)); names = data.test_dl.dataset.fnames; n = len(data.fix_dl)",
    )
    assert ns["ims"].shape == (3, 24, 24, 3) and not np.array_equal(ns["ims"][0], ns["ims"][1])
    assert torch.equal(ns["x"], ns["again"]) and ns["y"].tolist() == [0, 0, 0, 1]
    assert np.allclose(ns["x0"], ns["x"][0], atol=1e-5) and ns["y0"] == 0
    assert ns["orders"][0].sum() == ns["orders"][1].sum() == 5 and not torch.equal(*ns["orders"])
    assert ns["bs"] == 4 and ns["n"] == 3 and ns["zeros"].tolist() == [[0.0]] * 4 and len(ns["names"]) == 4


def test_the_course_of_a_training(run: Run) -> None:
    ns = run(
        IMPORTS,
        DATA,
        "lrf = learn.lr_find(); learn.sched.plot_lr(); learn.sched.plot(); learn.sched.plot(n_skip=5)",
        "learn.fit(1e-3, 2, cycle_len=1, cycle_mult=2, cycle_save_name='cyc', best_save_name='best')",
        "loss, acc = learn.fit(1e-3, 1, wds=1e-5); learn.sched.plot_loss(); learn.sched.plot_loss(n_skip=1)",
        "learn.unfreeze(); lr = np.array([1e-5, 1e-4, 1e-3]); learn.fit(lr, 1, wds=[0, 1e-5, 1e-4], cycle_len=1)",
        "learn.lr_find(lr / 1000); learn.bn_freeze(True); learn.bn_freeze = False",
        "vals, ep_vals = learn.fit(lr, 1, cycle_len=2, use_clr=(20, 8), get_ep_vals=True)",
        "learn.fit(1e-3, 1, cycle_len=2, use_clr_beta=(10, 10, 0.95, 0.85), metrics=[accuracy])",
        "learn.fit(1e-3, 1, use_wd_sched=True, wds=0.1, norm_wds=True,\n"
        "          wds_sched_mult=lambda x: np.array(x.layer_opt.lrs) / x.init_lrs)",
        "learn.save('all'); learn.load('all'); learn.load_cycle('cyc', 1); learn.load('best')",
        "learn.save_cycle('own', 0)",
        "saved = sorted(os.listdir(f'{PATH}models')); table = learn.summary(); learn.set_data(data.resize(40, 'tmp'))",
        "learn.freeze_to(1); learn.freeze_all_but(0); learn.unfreeze_groups([2])",
        "groups = [g.trainable for g in learn.layer_groups]",
    )
    assert 0 <= ns["acc"] <= 1 and ns["loss"] > 0 and list(ns["ep_vals"]) == [0, 1] and len(ns["ep_vals"][1]) == 3
    assert ns["vals"] == ns["ep_vals"][1][1:]
    assert ns["saved"] == [f"{n}.safetensors" for n in ("all", "best", "cyc_cyc_0", "cyc_cyc_1", "own_cyc_0")]
    assert ns["table"]["Conv2d-1"]["output_shape"][:2] == [-1, 64] and ns["groups"] == [True, False, True]


def test_several_labels_a_csv_with_its_folder_and_a_test_set(run: Run) -> None:
    ns = run(
        IMPORTS.replace("photos", "tags"),
        "label_csv = f'{PATH}labels.csv'; n = len(list(open(label_csv))) - 1; val_idxs = get_cv_idxs(n)",
        "def f2(preds, targs, th=.2): return fbeta_np(to_np(preds), to_np(targs), 2, th)",
        "def get_data(sz):\n"
        "    tfms = tfms_from_model(arch, sz, aug_tfms=transforms_top_down, max_zoom=1.05)\n"
        "    return ImageClassifierData.from_csv(PATH, 'jpg', label_csv, tfms=tfms, suffix='.png', val_idxs=val_idxs,\n"
        "                                        test_name='jpg', bs=8, num_workers=0)",
        "data = get_data(24); x, y = next(iter(data.val_dl)); pairs = list(zip(data.classes, y[0]))",
        "plt.imshow(data.val_ds.denorm(to_np(x))[0] * 0.9)",
        "data = data.resize(int(sz * 1.3), 'tmp')",
        "learn = ConvLearner.pretrained(arch, data, metrics=[f2]); learn.progress = False; learn.freeze()",
        "vals = learn.fit(1e-3, 1, cycle_len=1); learn.set_data(get_data(32)); learn.fit(1e-3, 1)",
        "multi, y = learn.TTA(stack=True); preds = np.mean(multi, 0); score = f2(preds, y)",
        "test, _ = learn.TTA(is_test=True, stack=True)",
        "labels = [' '.join(np.array(data.classes)[o > .2]) for o in test[0]]",
        "plain = learn.predict(is_test=True)",
    )
    assert len(ns["val_idxs"]) == 4 and [c for c, v in ns["pairs"]] == ["clear", "haze", "road"]
    assert ns["learn"].data.sz == 32 and ns["preds"].shape == ns["y"].shape == (4, 3)
    assert ns["plain"].min() >= 0 and ns["plain"].max() <= 1 and len(ns["labels"]) == 20  # probabilities, no logarithms
    assert ns["vals"][1] == pytest.approx(ns["learn"].record.column("f2")[0], abs=1) and 0 <= ns["score"] <= 1


def test_one_file_or_one_array_at_a_time(run: Run) -> None:
    ns = run(
        IMPORTS,
        DATA,
        "trn_tfms, val_tfms = tfms_from_model(arch, sz); fn = data.val_ds.fnames[0]",
        "ds = FilesIndexArrayDataset([fn], np.array([0]), val_tfms, PATH); dl = DataLoader(ds)",
        "by_loader = learn.predict_dl(dl); im = val_tfms(open_image(PATH + fn))",
        "by_array = learn.predict_array(im[None])",
        "whole = learn.predict()",
    )
    assert np.allclose(ns["by_loader"], ns["whole"][:1], atol=1e-4)
    assert np.allclose(ns["by_array"], ns["by_loader"], atol=1e-5)


class Net(nn.Module):
    """A net of 2018, which looks at its images as rows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(24 * 24 * 3, 8), nn.Linear(8, 2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(x.size(0), -1)
        return torch.log_softmax(self.layers[1](self.layers[0](x).relu()), -1)


def test_nets_of_ones_own(run: Run) -> None:
    ns = run(
        IMPORTS,
        "stats = (np.array([.5, .5, .5]), np.array([.2, .2, .2]))",
        "tfms = tfms_from_stats(stats, sz, aug_tfms=[RandomFlip()], pad=sz // 8)",
        "data = ImageClassifierData.from_paths(PATH, tfms=tfms, bs=4, num_workers=0)",
        "learn = ConvLearner.from_model_data(Net(), data); learn.progress = False; learn.summary(); learn.fit(1e-3, 1)",
        "net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(4, 2))",
        "learn = ConvLearner(data, BasicModel(net)); learn.progress = False",
        "frozen = [bool(m.trainable) for m in learn.children]",
        "learn.unfreeze(); learn.crit = nn.CrossEntropyLoss(); learn.opt_fn = optim.Adam; learn.metrics = [accuracy]",
        "learn.clip = 1.; learn.fit(1e-3, 1); learn.fit(np.full(5, 1e-3), 1, cycle_len=2, use_clr=(32, 10))",
        "head = nn.Sequential(nn.Conv2d(512, 2, 1), nn.AdaptiveAvgPool2d(1), Flatten())",
        "other = ConvLearner.pretrained(arch, data, custom_head=head); other.progress = False; other.fit(1e-3, 1)",
        "m = arch(False)",
        "whole = nn.Sequential(*children(m)[:-1], nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(512, 2))",
        "cam = ConvLearner.from_model_data(whole, data); cam.freeze_to(-2); kept = m.features[0].weight.requires_grad",
        "built = ConvLearner(data, ConvnetBuilder(arch, data.c, data.is_multi, data.is_reg, xtra_fc=[8], ps=[0, 0]))",
        "built.progress = False; built.fit(1e-3, 1); log_preds = built.predict()",
        Net=Net,
    )
    assert np.allclose(np.exp(ns["log_preds"]).sum(1), 1, atol=1e-5)
    assert ns["frozen"] == [False] * 4 + [True] and ns["learn"].opt_fn is torch.optim.Adam
    assert ns["kept"] is False and len(ns["cam"].layer_groups) == 4


def test_arrays_that_are_no_images_and_the_loop_as_a_function(run: Run) -> None:
    ns = run(
        "from easylearn.learner import *\nfrom easylearn.dataset import *",
        "X = np.random.RandomState(0).randn(32, 3); y = (X[:, 0] > 0).astype(int)",
        "md = ImageClassifierData.from_arrays('.', (X, y), (X, y), bs=8)",
        "learn = Learner.from_model_data(SimpleNet([3, 8, 2]), md); learn.progress = False",
        "learn.crit = nn.CrossEntropyLoss(); learn.opt_fn = optim.Adam; learn.fit(0.05, 8, metrics=[accuracy])",
        "net = SimpleNet([3, 8, 2]); opt = LayerOptimizer(optim.SGD, net, 0.5, 1e-5)",
        "ends = []; sched = CosAnneal(opt, len(md.trn_dl), on_cycle_end=lambda s, k: ends.append(k), cycle_mult=2)",
        "vals = fit(net, md, 7, opt, F.nll_loss, metrics=[accuracy], callbacks=[sched])",
        "set_lrs(opt.opt, 0.01); xs, ys = next(iter(md.val_dl)); out = net(V(xs))",
        "preds, targs = predict_with_targs(net, md.val_dl)",
        "sched.plot_lr(); sched.plot_loss(); best = accuracy_np(preds, targs)",
    )
    assert ns["learn"].validate()["accuracy"] > 0.8 and ns["best"] == pytest.approx(ns["vals"][1]) and ns["best"] > 0.8
    assert ns["ends"] == [0, 1, 2] and ns["sched"].lrs[0] == 0.5 and ns["sched"].lrs[4] == pytest.approx(0.5)


def test_data_sets_and_losses_of_ones_own(run: Run) -> None:
    ns = run(
        IMPORTS,
        "class Matched(FilesDataset):\n"
        "    def __init__(self, fnames, y, transform, path): self.y = y; super().__init__(fnames, transform, path)\n"
        "    def get_y(self, i): return open_image(os.path.join(self.path, self.y[i]))\n"
        "    def get_c(self): return 0",
        "names = np.array([f'train/cats/{k}.png' for k in range(0, 10, 2)])",
        "tfms = tfms_from_model(arch, sz, crop_type=CropType.NO, tfm_y=TfmType.CLASS,\n"
        "                       aug_tfms=[RandomFlip(TfmType.CLASS)])",
        "sets = ImageData.get_ds(Matched, (names, names), (names[:2], names[:2]), tfms, path=PATH)",
        "md = ImageData(PATH, sets, 2, num_workers=0, classes=None); x, y = next(iter(md.trn_dl))",
        "net = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), Lambda(lambda x: x[:, 0]))",
        "learn = ConvLearner(md, SingleModel(net)); learn.progress = False",
        "learn.crit = nn.BCEWithLogitsLoss(); learn.metrics = [lambda p, y: ((p > 0) == (y > 0)).float().mean()]",
        "learn.fit(1e-2, 1); out = learn.predict()",
    )
    assert (
        ns["x"].shape == (2, 3, 24, 24)
        and ns["y"].shape == (2, 24, 24)
        and set(ns["y"].unique().tolist()) <= {0.0, 1.0}
    )
    assert ns["out"].shape == (2, 24, 24)


def test_training_in_phases(run: Run) -> None:
    ns = run(
        IMPORTS,
        DATA,
        "phases = [TrainingPhase(1, optim.SGD, lr=(1e-4, 1e-3), lr_decay=DecayType.LINEAR, momentum=(.95, .85),\n"
        "                        momentum_decay=DecayType.LINEAR),\n"
        "          TrainingPhase(1, optim.Adam, lr=1e-4, lr_decay=DecayType.COSINE, beta=.99, wds=1e-3)]",
        "learn.freeze(); learn.fit_opt_sched(phases); lrs = learn.sched.lrs; learn.sched.plot_lr()",
        "n = learn.sched.epochs",
    )
    assert ns["lrs"][0] == pytest.approx(1e-4) and ns["lrs"][2] > ns["lrs"][0] and ns["lrs"][3] == pytest.approx(1e-4)
    assert ns["n"] == [3, 6] and len(ns["learn"].sched.val_losses) == 2


def test_callbacks_of_2018(run: Run) -> None:
    ns = run(
        IMPORTS,
        DATA,
        "class Note(Callback):\n"
        "    seen = []\n"
        "    def on_batch_end(self, loss): self.seen.append(float(loss)); return len(self.seen) == 5\n"
        "    def on_epoch_end(self, metrics): self.seen.append(metrics)",
        "learn.freeze(); note = Note(); learn.fit(1e-3, 3, callbacks=[note, LoggingCallback(save_path='log.txt')])",
    )
    seen = ns["note"].seen  # three batches, an epoch, and the batch that ends it
    assert len(seen) == 5 and len(seen[3]) == 2
    assert "on_train_end" in Path("log.txt").read_text()


def test_a_stack_is_asked_for_by_name(run: Run) -> None:
    with pytest.raises(ArgumentError, match=r"TTA\(stack=True\)"):
        run(IMPORTS, DATA, "log_preds, y = learn.TTA(); probs = np.mean(np.exp(log_preds), 0)")


MODULES = """imports torch_imports core transforms dataset model conv_learner learner sgdr plots layers
initializers io layer_optimizer dataloader"""


@pytest.mark.parametrize("module", MODULES.split())
def test_what_every_module_gives(module: str) -> None:
    names: dict[str, Any] = {}
    exec(f"from easylearn.{module} import *", names)
    wanted = {
        "io": "get_data",
        "layers": "Flatten nn",
        "initializers": "apply_init cond_init",
        "dataloader": "DataLoader",
    }
    usual = "np pd plt PIL Image os sys random glob partial tqdm tqdm_notebook tnrange Path json math shutil"
    if module not in ("imports", *wanted):
        usual += " torch nn F optim Variable resnet34 vgg16 resnext50 children"
    assert set(wanted.get(module, usual).split()) <= names.keys()
