"""What only a GPU can show; skipped where there is none. tests/accelerator_checks.py pretends to be one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import easylearn as el
from easylearn.train.state import Run
from tests.learners import ITEMS, KINDS, MakeLearner, images, tensors

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")]
every_kind = pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
every_item = pytest.mark.parametrize("make", ITEMS, ids=lambda make: make.__name__)
PRECISIONS = ["fp32", "bf16", "fp16"]


@pytest.fixture(autouse=True)
def _few_items_are_fine() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", el.EasyLearnWarning)
        yield


def ready(make: MakeLearner, device: str = "cuda", **how: Any) -> el.Learner:
    learn = make(device=device, progress=False, seed=0, **how)
    learn.unfreeze()
    return learn


class NoWaits(el.Callback):
    """Lets torch raise at whatever waits for the device, from the end of the first step to that of the last but one."""

    def on_batch_end(self, run: Run) -> None:
        looks = run.step % 20 in (19, 0)  # the guard looks at the losses of 20 steps together
        torch.cuda.set_sync_debug_mode("default" if looks or run.step >= run.n_steps - 1 else "error")


@pytest.mark.parametrize("precision", PRECISIONS)
@every_kind
def test_trains(make: MakeLearner, precision: str) -> None:
    learn = ready(make, precision=precision)
    record = learn.fit(1e-3, 2)
    assert all(p.is_cuda for p in learn.model.parameters())
    near = ready(make, "cpu")
    near.fit(1e-3, 2)
    assert record.losses[0] == pytest.approx(near.record.losses[0], rel=0.1)
    assert record.last["train_loss"] == pytest.approx(near.record.last["train_loss"], rel=0.3)


@every_kind
def test_no_step_waits(make: MakeLearner) -> None:
    try:
        ready(make).fit(1e-3, 1, callbacks=[NoWaits()])
    finally:
        torch.cuda.set_sync_debug_mode("default")


@every_item
def test_everything_around_training(make: MakeLearner, tmp_path: Path) -> None:
    learn = ready(make, path=tmp_path)
    assert learn.lr_find().losses
    learn.fit(1e-3, 1, checkpoint=tmp_path / "run", save_best="best")
    for said in (learn.predict(split="valid"), learn.tta(1)):
        assert said.probs.device.type == "cpu" and said.probs.isfinite().all()
    learn.load(learn.save("weights"))
    learn.interpret().top_losses(3)


@every_kind
def test_resumed_to_the_bit(make: MakeLearner, tmp_path: Path) -> None:
    class Stop(el.Callback):
        def on_batch_end(self, run: Run) -> None:
            if run.step == 9:
                run.stop_reason = el.Pause("far enough")

    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        whole = ready(make, path=tmp_path)
        whole.fit(1e-3, 2)
        halves = ready(make, path=tmp_path)
        halves.fit(1e-3, 2, checkpoint=tmp_path / "run", callbacks=[Stop()])
        halves = ready(make, path=tmp_path)
        halves.fit(1e-3, 2, checkpoint=tmp_path / "run")
    finally:
        torch.use_deterministic_algorithms(False)
    for a, b in zip(whole.model.parameters(), halves.model.parameters(), strict=True):
        assert torch.equal(a, b)


@every_item
def test_a_file_gives_the_same_on_the_cpu(make: MakeLearner, tmp_path: Path) -> None:
    learn = ready(make)
    path = learn.export(tmp_path / "model.easylearn")
    far, near = (el.load_learner(path, data=learn.data, device=device) for device in ("cuda", "cpu"))
    torch.testing.assert_close(
        far.predict(split="valid").probs, near.predict(split="valid").probs, rtol=1e-3, atol=1e-4
    )


def test_precomputed() -> None:
    learn = images(device="cuda", progress=False, seed=0, precompute=True, pretrained=False)
    try:
        learn.fit(1e-3, 2, callbacks=[NoWaits()])
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_asked_by_several_threads() -> None:
    learn = ready(tensors)
    learn.fit(1e-3, 1)
    x = torch.randn(50, 1, 6, 6)
    alone = [learn.predict(row[None]).probs for row in x]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda row: learn.predict(row[None]).probs, x))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_out_of_memory_leaves_a_learner_that_works() -> None:
    learn = ready(tensors)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        torch.empty(2**50, dtype=torch.uint8, device="cuda")
    learn.fit(1e-3, 1)
