"""What a GPU would do with everything, on a device that pretends: no tensors of two devices, no float64, no waits."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import easylearn as el
from easylearn.data.loaders import ForeignLoader
from easylearn.data.order import TensorSource
from easylearn.learning import Learner
from easylearn.train import callbacks
from easylearn.train.state import Run
from tests import accelerator, learners
from tests.learners import ITEMS, KINDS, MakeLearner, histories, images, language, several, tensors, texts


@pytest.fixture(scope="module", autouse=True)
def far() -> str:
    return accelerator.make_device()


@pytest.fixture(autouse=True)
def _few_items_are_fine(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", el.EasyLearnWarning)
        yield


every_kind = pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)


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
    assert learn.validate() == pytest.approx(near.validate(), rel=1e-4)
    record, same = learn.fit(1e-3, 1), near.fit(1e-3, 1)
    assert lies_there(learn)
    if make in (images, texts, language, histories, several):  # dropout draws other numbers there
        assert record.last["train_loss"] == pytest.approx(same.last["train_loss"], rel=0.3)
    else:
        assert record.losses == pytest.approx(same.losses, rel=1e-3)


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
    learn.report(tmp_path / "run.html")


@every_kind
def test_exported_and_loaded(make: MakeLearner, tmp_path: Path) -> None:
    learn = ready(make)
    again = el.load_learner(learn.export(tmp_path / "model.easylearn"), data=learn.data, device=accelerator.NAME)
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
    torchs = "callbacks/average.py"  # torch's moving average copies a number to the device at each step
    assert [what for what in waits if "callbacks/guard.py" not in what and torchs not in what] == []


@pytest.mark.parametrize("callback", [el.ActivationPenalty(), el.RateByLength(8)], ids=lambda c: type(c).__name__)
def test_callbacks_of_texts(callback: el.Callback) -> None:
    waits = waits_of_steps(ready(language), callback)
    assert [what for what in waits if "callbacks/guard.py" not in what] == []


def test_what_is_brought_to_the_cpu_is_there() -> None:
    near = torch.device("cpu")
    far = torch.arange(10.0).to(accelerator.make_device())
    (few,) = TensorSource([far]).fetch(np.array([1, 3]), near)
    (batch,) = ForeignLoader([(far, far)]).batches(near)
    assert few.tolist() == [1.0, 3.0] and batch.inputs[0].is_cpu and batch.inputs[0].tolist() == list(range(10))


class TestThatItWouldBeSeen:
    """Faults that are planted, one of each kind."""

    def fit(self, forward: Callable[[Tensor], Tensor]) -> list[str]:
        class Faulty(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.last = nn.Linear(36, 2)

            def forward(self, x: Tensor) -> Tensor:
                x = x.flatten(1)
                return self.last(forward(x) if self.training else x)  # a model is tried when a learner is made

        data = tensors().data
        return waits_of_steps(Learner(data, Faulty(), device=accelerator.NAME, progress=False))

    def test_none(self) -> None:
        assert all("guard.py" in what for what in self.fit(lambda x: x * 2))

    def test_a_tensor_left_on_the_cpu(self) -> None:
        with pytest.raises(el.ArgumentError, match="two devices"):
            self.fit(lambda x: x * torch.ones(36))

    def test_a_number_that_does_not_exist_there(self) -> None:
        with pytest.raises(el.ArgumentError, match="float64"):
            self.fit(lambda x: x.double().float())

    def test_a_copy_to_the_cpu_that_nobody_waits_for(self) -> None:
        with pytest.raises(el.ArgumentError, match="before they are there"):
            self.fit(lambda x: x.to("cpu", non_blocking=True).to(x.device))

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
        assert any("accelerator_checks.py" in what for what in self.fit(forward))


@pytest.mark.parametrize("loss", [None, nn.L1Loss()], ids=["own", "given"])
def test_numbers_that_only_float64_holds(loss: Any) -> None:
    """The device has no float64: such targets stay on the CPU, where they are centred."""
    r = np.random.default_rng(0)
    x = r.integers(0, 255, (48, 16, 16, 3), dtype=np.uint8)
    y = 1e9 + 3 * (x.reshape(48, -1).mean(1) - 127)
    data = el.ImageData.from_arrays((x, y), size=16, batch_size=8, workers=0, valid=[*range(8)], task="regression")
    assert data.task.dtype == torch.float64  # type: ignore[attr-defined]
    near, far = (
        el.vision_learner(data, learners.small_body(), device=where, loss=loss, progress=False, hidden=(), ps=0.0)
        for where in ("cpu", accelerator.NAME)
    )
    assert far.validate() == pytest.approx(near.validate(), rel=1e-4)
    far.fit(1e-2, 1), near.fit(1e-2, 1)
    assert lies_there(far) and far.predict().probs.dtype == torch.float64
    assert torch.allclose(far.predict().probs - 1e9, near.predict().probs - 1e9, atol=0.05)
    assert len(far.tta(1)) == len(far.interpret()) == 8 and len(far.lr_find(n_steps=10).losses)
    head = [
        el.vision_learner(
            data, learners.small_body(), device=where, loss=loss, progress=False, hidden=(), precompute=True
        )
        for where in ("cpu", accelerator.NAME)
    ]
    for learn in head:  # a linear head begins as a solved one
        learn.fit(1e-3, 1)
    assert torch.allclose(head[0].predict().probs - 1e9, head[1].predict().probs - 1e9, atol=0.05)
