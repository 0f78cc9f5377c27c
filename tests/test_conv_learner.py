"""The 2018 names for learners: the script of that time as it stands, and each constructor against the new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot
import numpy as np
import pandas
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

import easylearn.conv_learner as facade
from easylearn import dataset
from easylearn.conv_learner import ConvLearner, ImageClassifierData, resnet18, squeezenet1_1, tfms_from_model
from easylearn.errors import ArgumentError, WeightsError
from easylearn.learner07 import Learner07
from easylearn.metrics import f1
from easylearn.train.optim import adamw
from easylearn.vision.learner import vision_learner

SCRIPT = """
from easylearn.conv_learner import *
data = ImageClassifierData.from_paths(PATH)
learn = ConvLearner.pretrained(model, data, precompute=True)
learn.freeze()
learning_rate = 0.1
learn.fit(learning_rate, epochs=3)
learn.unfreeze()
learning_rate = [0.001, 0.01, 0.1]
learn.fit(learning_rate, epochs=3)
learn.lr_find()
learn.sched.plot_lr()
learn.sched.plot()
learn.fit(0.1, 1)
learn.fit(0.1, 3, cycle_len=2, cycle_mult=2)
learn = ConvLearner.pretrained(model, data, ps=0.5, precompute=True)
def get_data(sz):
    tmfs = tfms_from_model(model, sz)
    return ImageClassifierData.from_paths(PATH, tfms=tmfs)
learn.set_data(get_data(299))
learn.fit(0.1, 3)
preds, target = learn.TTA()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """train/{cats,dogs} and valid/{cats,dogs}, dark and light noise."""
    noise = np.random.default_rng(0)
    for k in range(10):
        part = "valid" if k >= 6 else "train"
        place = tmp_path / "photos" / part / ("cats", "dogs")[k % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = noise.integers(0, 100, (40, 48, 3)) + 120 * (k % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{k}.png")
    return tmp_path / "photos"


@pytest.fixture
def small_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data made without `tfms=` has 40 pixels, not 224: the script is the same, its first part is quicker."""
    ordinary = dataset._options

    def options(tfms: Any, bs: int, num_workers: int | None) -> dict[str, Any]:
        return {"size": 40, **ordinary(tfms, bs, num_workers)}

    monkeypatch.setattr(dataset, "_options", options)


@pytest.fixture
def data(path: Path) -> ImageClassifierData:
    return ImageClassifierData.from_paths(path, bs=4, tfms=tfms_from_model("squeezenet1_1", 40))


# -- the script --------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the loss became:easylearn.errors.EasyLearnWarning")
@pytest.mark.usefixtures("small_by_default")
def test_the_script_of_2018_runs_as_it_stands(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"PATH": path, "model": resnet18.untrained()}
    exec(SCRIPT, names)
    learn = names["learn"]
    assert isinstance(learn, Learner07)
    assert learn.data.size == (299, 299) and learn.precompute and learn.epochs_done == 3
    assert names["data"].size == (40, 40)
    preds, target = names["preds"], names["target"]
    assert preds.shape == (4, 2) and np.allclose(np.sum(preds, 1), 1, atol=1e-5)
    assert target.tolist() == [0, 0, 1, 1]
    first = capsys.readouterr().out.count("train_loss")
    assert first == 5  # five fits, each with its header
    assert not (tmp_path / "models").exists()  # nothing is written beside the caches


@pytest.mark.usefixtures("small_by_default")
def test_what_the_script_trains(path: Path) -> None:
    """Its epochs, rates and groups; lr_find between two fits changes neither."""
    data = ImageClassifierData.from_paths(path)
    model = squeezenet1_1.untrained()
    learn = ConvLearner.pretrained(model, data, precompute=True)
    learn.progress = False
    assert [g.trainable for g in learn.layer_groups] == [False, False, True] and learn.precompute
    assert len(learn.fit(0.01, epochs=3).epochs) == 3
    learn.unfreeze()
    assert not learn.precompute and all(g.trainable for g in learn.layer_groups)
    record = learn.fit([0.00001, 0.0001, 0.001], epochs=3)
    assert record.rates[0] == pytest.approx((0.00001, 0.0001, 0.001)) and len(record.epochs) == 3
    assert isinstance(learn.sched.plot_lr(), Figure)
    assert len(learn.fit(0.001, 1).epochs) == 1
    record = learn.fit(0.001, 3, cycle_len=2, cycle_mult=2)
    assert [round(e) for e in record.column("epoch")] == list(range(7, 21))  # 2 + 4 + 8
    restarts = [k for k in range(1, len(record.rates)) if record.rates[k][-1] > record.rates[k - 1][-1]]
    assert restarts == [2, 6]  # one batch an epoch


# -- constructors ------------------------------------------------------------------------------------------


def states_equal(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_pretrained_is_vision_learner(data: ImageClassifierData) -> None:
    old = ConvLearner.pretrained(
        squeezenet1_1, data, ps=0.3, xtra_fc=[16], pretrained=False, opt_fn=adamw, metrics=[f1]
    )
    new = vision_learner(data, "squeezenet1_1", ps=0.3, hidden=(16,), pretrained=False, optimizer=adamw, metrics=[f1])
    assert states_equal(old.model, new.model)
    assert str(old.model) == str(new.model)
    assert old.optimizer is new.optimizer and old.task == new.task and repr(old) == repr(new)


def test_heads_of_ones_own(data: ImageClassifierData) -> None:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 2))
    learn = ConvLearner.pretrained(squeezenet1_1.untrained(), data, custom_head=head, precompute=True)
    learn.progress = False
    assert learn.model.head is head
    learn.fit(0.01, 1)
    assert learn.predict().shape == (4, 2)


def test_untrained_starts_unfrozen_and_never_asks_for_weights(data: ImageClassifierData) -> None:
    learn = ConvLearner.pretrained(squeezenet1_1.untrained(), data)
    assert all(g.trainable for g in learn.layer_groups)


def test_weights_that_cannot_be_had(data: ImageClassifierData, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="pretrained=False"):
        ConvLearner.pretrained(squeezenet1_1, data, pretrained=tmp_path / "none.pth")


def test_a_model_of_ones_own(data: ImageClassifierData) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 40 * 40, 2))
    learn = ConvLearner.from_model_data(net, data, opt_fn=adamw, metrics=[f1])
    learn.progress = False
    assert learn.model is net and len(learn.layer_groups) == 2 and learn.optimizer is adamw  # a group per child
    assert "f1" in learn.fit(1e-4, 1).last


def test_statistics_follow_the_model(path: Path) -> None:
    """Normalisation belongs to the weights, whatever the transforms said."""
    data = ImageClassifierData.from_paths(path, tfms=tfms_from_model("inception_v3", 40))
    learn = ConvLearner.pretrained(squeezenet1_1.untrained(), data)
    assert learn.data.mean == pytest.approx(dataset.imagenet_stats[0])  # type: ignore[attr-defined]
    assert data.mean == dataset.inception_stats[0]


def test_tta_as_the_late_07_gave_it(data: ImageClassifierData) -> None:
    learn = ConvLearner.pretrained(squeezenet1_1.untrained(), data)
    logs, targets = learn.TTA(stack=True)
    assert logs.shape == (4 + 1, 4, 2) and targets.tolist() == [0, 0, 1, 1]
    probs, _ = learn.TTA()
    assert np.allclose(np.mean(np.exp(logs), 0), probs, atol=1e-6)


# -- names -------------------------------------------------------------------------------------------------


def test_the_star_brings_what_notebooks_expect() -> None:
    names: dict[str, Any] = {}
    exec("from easylearn.conv_learner import *", names)
    assert set(facade.__all__) == names.keys() - {"__builtins__"}
    assert names["np"] is np and names["pd"] is pandas and names["plt"] is matplotlib.pyplot
    assert names["torch"] is torch and names["Path"] is Path


@pytest.mark.parametrize(
    ("old", "name"),
    [
        ("resnet18", "resnet18"), ("resnet34", "resnet34"), ("resnet50", "resnet50"), ("resnet101", "resnet101"),
        ("resnet152", "resnet152"), ("resnext50", "resnext50_32x4d"), ("wrn", "wide_resnet50_2"), ("vgg16", "vgg16_bn"),
        ("vgg19", "vgg19_bn"), ("dn121", "densenet121"), ("densenet201", "densenet201"),
        ("inception_v3", "inception_v3"), ("squeezenet1_1", "squeezenet1_1"),
    ],
)  # fmt: skip
def test_architectures(old: str, name: str) -> None:
    arch = getattr(facade, old)
    assert arch.name == name and arch.pretrained and arch.weights is not None


# -- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"precompte": True}, "Did you mean 'precompute'"),
        ({"hidden": (1,)}, "'xtra_fc'"),
        ({"xtra_kut": 1}, "xtra_cut"),
    ],
)
def test_arguments_that_do_not_exist(arguments: dict[str, Any], said: str, data: ImageClassifierData) -> None:
    with pytest.raises(ArgumentError, match=said):
        ConvLearner.pretrained(squeezenet1_1, data, **arguments)


def test_an_architecture_that_does_not_exist(data: ImageClassifierData) -> None:
    with pytest.raises(ArgumentError, match="Did you mean 'resnet34'"):
        ConvLearner.pretrained("resnet43", data)


def test_three_rates_while_precomputing(data: ImageClassifierData) -> None:
    learn = ConvLearner.pretrained(squeezenet1_1.untrained(), data, precompute=True)
    with pytest.raises(ArgumentError, match="precompute is on"):
        learn.fit([1e-4, 1e-3, 1e-2], 1)
