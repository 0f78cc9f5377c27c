"""What a GPU would do with everything, on a device that pretends: no tensors of two devices, no float64, no waits."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import easylearn as el
from easylearn.learner import Learner
from easylearn.train import callbacks
from easylearn.train.state import Run
from tests import accelerator

pytestmark = pytest.mark.skipif(not accelerator.DEVICE_THERE, reason="this torch lets no Python stand in for a device")
MakeLearner = Callable[..., Learner]
TEXTS = [
    f"a {a} film that was {b} and {c} {d}"
    for a in ("old", "new")
    for b in ("good", "bad")
    for c in "xyz"
    for d in "uvw"
]
LABELS = ["pos" if "good" in text else "neg" for text in TEXTS]


@pytest.fixture(scope="module", autouse=True)
def far() -> str:
    return accelerator.make_device()


@pytest.fixture(autouse=True)
def _few_items_are_fine(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", el.EasyLearnWarning)
        yield


def tensors(**how: Any) -> Learner:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(64, 1, 6, 6, generator=g), torch.arange(64) % 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
    return Learner(el.TensorData((x, y), (x[:8], y[:8]), el.single_label(["a", "b"]), batch_size=4), model, **how)


def images(**how: Any) -> Learner:
    x = np.random.default_rng(0).integers(0, 255, (72, 16, 16, 3), dtype=np.uint8)
    data = el.ImageData.from_arrays(
        (x[:64], ["a", "b"] * 32), (x[64:], ["a", "b"] * 4), size=16, augment="side_on", batch_size=4, workers=0
    )
    return el.vision_learner(data, small_body(), **how)


def small_body() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = [nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


def tables(**how: Any) -> Learner:
    r = np.random.default_rng(0)
    frame = pd.DataFrame({"a": r.normal(size=80), "b": r.choice(list("xyz"), 80), "c": r.normal(size=80)})
    frame["y"] = frame.a + (frame.b == "x")
    return el.tabular_learner(el.TabularData.from_df(frame, "y", batch_size=4), [8], **how)


def ratings(**how: Any) -> Learner:
    r = np.random.default_rng(0)
    frame = pd.DataFrame({"user": r.integers(0, 9, 80), "item": r.integers(0, 9, 80), "rating": r.integers(1, 6, 80)})
    return el.collab_learner(el.CollabData.from_df(frame, "user", "item", "rating", batch_size=4), **how)


def texts(**how: Any) -> Learner:
    frame = pd.DataFrame({"text": TEXTS * 2, "label": LABELS * 2})
    data = el.TextData.from_df(frame, "text", "label", batch_size=4, min_freq=1, progress=False)
    return el.text_classifier_learner(data, emb_size=6, n_hidden=8, n_layers=1, **how)


def language(**how: Any) -> Learner:
    data = el.TextLMData.from_df(
        pd.DataFrame({"text": TEXTS * 3}), "text", batch_size=4, bptt=8, min_freq=1, progress=False
    )
    return el.language_model_learner(data, emb_size=6, n_hidden=8, n_layers=1, **how)


KINDS = [tensors, images, tables, ratings, texts, language]
every_kind = pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
ITEMS = [make for make in KINDS if make is not language]


def ready(make: MakeLearner, **how: Any) -> Learner:
    """A learner on the device, all of it trainable."""
    learn = make(device=accelerator.NAME, progress=False, seed=0, **how)
    learn.unfreeze()
    return learn


def lies_there(learn: Learner) -> bool:
    return all(
        isinstance(t, accelerator.FarTensor) or t.device.type == accelerator.NAME for t in learn.model.parameters()
    )


@every_kind
def test_trains_as_on_the_cpu(make: MakeLearner) -> None:
    learn, near = ready(make), make(device="cpu", progress=False, seed=0)
    near.unfreeze()
    record, same = learn.fit(1e-3, 1), near.fit(1e-3, 1)
    assert lies_there(learn)
    dropouts_differ = make in (images, texts, language)
    assert record.losses[0] == pytest.approx(same.losses[0], rel=0.05 if dropouts_differ else 1e-5)
    assert record.losses == pytest.approx(same.losses, rel=1e-3) or dropouts_differ


class Steps(el.Callback):
    """Notes after each step how many waits there were."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.within: list[int] = []

    def on_batch_end(self, run: Run) -> None:
        self.within.append(len(self.log))


def waits_of_steps(learn: Learner, *more: el.Callback) -> list[str]:
    """What waited between the first step and the last but one."""
    with accelerator.waiting() as log:
        steps = Steps(log)
        learn.fit(1e-3, 1, callbacks=[*more, steps])
        assert len(steps.within) > 10
        return log[steps.within[0] : steps.within[-2]]


@every_kind
def test_no_step_waits_for_the_device(make: MakeLearner) -> None:
    waits = waits_of_steps(ready(make))
    watched = [what for what in waits if "callbacks/guard.py" in what]
    assert len(watched) <= 2  # it looks at the losses of every 20 steps together
    assert waits == watched


@pytest.mark.parametrize("make", ITEMS, ids=lambda make: make.__name__)
def test_everything_around_training(make: MakeLearner, tmp_path: Path) -> None:
    learn = ready(make, path=tmp_path)
    assert learn.lr_find().losses
    before = learn.validate()
    learn.fit(1e-3, 1, checkpoint=tmp_path / "run", save_best="best", save_cycles="cycle")
    resumed = ready(make, path=tmp_path)
    resumed.fit(1e-3, 1, checkpoint=tmp_path / "run", save_best="best", save_cycles="cycle")
    for a, b in zip(learn.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a.cpu(), b.cpu())
    assert set(learn.validate()) == set(before)
    for said in (learn.predict(split="valid"), learn.tta(1)):
        assert said.probs.device.type == "cpu" and said.probs.isfinite().all()
    learn.load(learn.save("weights"))
    learn.interpret().top_losses(3)
    learn.report()


@every_kind
def test_exported_and_loaded(make: MakeLearner, tmp_path: Path) -> None:
    learn = ready(make)
    again = el.load_learner(learn.export(tmp_path / "model.easylearn").path, data=learn.data, device=accelerator.NAME)
    assert lies_there(again)
    assert again.validate() == pytest.approx(learn.validate(), rel=1e-5)


def test_precomputed(tmp_path: Path) -> None:
    learn = images(device=accelerator.NAME, progress=False, seed=0, precompute=True, pretrained=False)
    learn.freeze()
    waits = waits_of_steps(learn)
    assert [what for what in waits if "callbacks/guard.py" not in what] == []
    assert learn.precompute


@pytest.mark.parametrize(
    "callback",
    [
        callbacks.WeightAverage, callbacks.EarlyStopping, callbacks.Progress,
        lambda: callbacks.WeightAverage("ema"), lambda: callbacks.ReduceLROnPlateau(),
    ],
)  # fmt: skip
def test_callbacks(callback: Callable[[], el.Callback]) -> None:
    waits = waits_of_steps(ready(tensors), callback())
    assert [what for what in waits if "callbacks/guard.py" not in what] == []


@pytest.mark.parametrize(
    "callback", [el.ActivationPenalty(), el.RateByLength(8), el.SampledSoftmax(5)], ids=lambda c: type(c).__name__
)
def test_callbacks_of_texts(callback: el.Callback) -> None:
    waits = waits_of_steps(ready(language), callback)
    assert [what for what in waits if "callbacks/guard.py" not in what] == []


class TestThatItWouldBeSeen:
    """Faults that are planted, one of each kind."""

    def fit(self, forward: Callable[[Tensor], Tensor]) -> list[str]:
        class Faulty(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.last = nn.Linear(36, 2)

            def forward(self, x: Tensor) -> Tensor:
                return self.last(forward(x.flatten(1)))

        data = tensors().data
        return waits_of_steps(Learner(data, Faulty(), device=accelerator.NAME, progress=False))

    def test_none(self) -> None:
        assert all("guard.py" in what for what in self.fit(lambda x: x * 2))

    def test_a_tensor_left_on_the_cpu(self) -> None:
        with pytest.raises(RuntimeError, match="two devices"):
            self.fit(lambda x: x * torch.ones(36))

    def test_a_number_that_does_not_exist_there(self) -> None:
        with pytest.raises(RuntimeError, match="float64"):
            self.fit(lambda x: x.double().float())

    @pytest.mark.parametrize(
        "forward",
        [
            lambda x: x * (2.0 if x.sum().item() > 0 else 1.0),
            lambda x: x if x.isfinite().all() else x * 0,
            lambda x: x * torch.tensor(2.0).to(x.device),
            lambda x: x + 0 * x[x > 0].sum(),
            lambda x: x + 0 * float(x.cpu().sum()),
        ],
        ids=["item", "bool", "copied there", "mask", "to the CPU"],
    )
    def test_a_hidden_wait(self, forward: Callable[[Tensor], Tensor]) -> None:
        assert any("test_accelerator.py" in what for what in self.fit(forward))
