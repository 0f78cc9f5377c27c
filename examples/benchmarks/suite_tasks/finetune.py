"""resnet18 from random weights with a head of two layers, 128 pixels, batches of 32 in memory: steps per second.

With the body frozen, whole, and the head alone on stored features. Ours is the time of a whole call of `fit`, but for
the features, where it is a slope between two calls: what one call costs is given apart.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .settings import Figures, Repeat, Settings

SIZE = 32
Batches = list[tuple[Tensor, Tensor]]


def side(settings: Settings) -> int:
    return settings.pick(128, 32)


def in_memory(settings: Settings, steps: int) -> Batches:
    pixels, source = side(settings), torch.Generator().manual_seed(1)
    return [
        (torch.randn(SIZE, 3, pixels, pixels, generator=source), torch.randint(0, 2, (SIZE,), generator=source))
        for _ in range(steps)
    ]


def n_steps(settings: Settings) -> int:
    return settings.pick(3, 1)


# -- by hand -----------------------------------------------------------------------------------------------


class Pool(nn.Module):
    """Greatest and mean value of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1)


def body_and_head() -> tuple[nn.Module, nn.Module]:
    from torchvision.models import resnet18

    body = nn.Sequential(*list(resnet18(weights=None).children())[:-2], Pool())
    head = nn.Sequential(
        nn.BatchNorm1d(1024), nn.Dropout(0.25), nn.Linear(1024, 512), nn.ReLU(inplace=True),
        nn.BatchNorm1d(512), nn.Dropout(0.5), nn.Linear(512, 2),
    )  # fmt: skip
    return body, head


def trained_head(
    settings: Settings,
    body: nn.Module | None,
    head: nn.Module,
    batches: Batches,
    optimizer: torch.optim.Optimizer,
    epochs: int = 1,
) -> float:
    """Steps per second with a body that nobody differentiates, or without one."""
    head.train()
    begun = settings.now()
    for _ in range(epochs):
        for x, y in batches:
            with torch.no_grad():
                features = x if body is None else body(x)
            F.cross_entropy(head(features), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    return epochs * len(batches) / (settings.now() - begun)


def trained_whole(
    settings: Settings, body: nn.Module, head: nn.Module, batches: Batches, optimizer: torch.optim.Optimizer
) -> float:
    body.train()
    head.train()
    begun = settings.now()
    for x, y in batches:
        F.cross_entropy(head(body(x)), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return len(batches) / (settings.now() - begun)


def by_hand(settings: Settings, quick: bool) -> Repeat:
    batches = in_memory(settings, n_steps(settings))
    (frozen, head), (body, other_head) = body_and_head(), body_and_head()
    frozen.eval()
    if quick:
        for module in (frozen, body):
            module.to(memory_format=torch.channels_last)
        batches = [(x.to(memory_format=torch.channels_last), y) for x, y in batches]
    of_head = torch.optim.AdamW(head.parameters(), lr=1e-3, fused=quick or None)
    of_all = torch.optim.AdamW([*body.parameters(), *other_head.parameters()], lr=1e-3, fused=quick or None)
    with torch.no_grad():
        features = [(frozen(x), y) for x, y in batches]

    def repeat() -> Figures:
        return {
            "head": trained_head(settings, frozen, head, batches, of_head),
            "precomputed": trained_head(settings, None, head, features, of_head, settings.pick(50, 2)),
            "whole": trained_whole(settings, body, other_head, batches, of_all),
        }

    return repeat


def plain(settings: Settings) -> Repeat:
    return by_hand(settings, quick=False)


def best(settings: Settings) -> Repeat:
    """channels_last and fused AdamW."""
    return by_hand(settings, quick=True)


# -- libraries ---------------------------------------------------------------------------------------------


def easylearn(settings: Settings) -> Repeat:
    from easylearn import LoaderData, TensorData, adamw, single_label, vision_learner

    task = single_label(["no", "yes"])
    batches = in_memory(settings, n_steps(settings))
    common: dict[str, Any] = {"pretrained": False, "optimizer": adamw, "device": "cpu", "metrics": []}
    learn = vision_learner(LoaderData(batches, None, task), "resnet18", **common)
    more = in_memory(settings, settings.pick(20, 2))
    x, y = (torch.cat([batch[i] for batch in more]) for i in (0, 1))
    stored = vision_learner(TensorData((x, y), None, task, batch_size=SIZE), "resnet18", precompute=True, **common)
    stored.fit(1e-3, 1)  # fills the store

    def seconds(learner: Any, epochs: int) -> float:
        begun = settings.now()
        learner.fit(1e-3, epochs, cycle_len=None)
        return settings.now() - begun

    def repeat() -> Figures:
        learn.freeze()
        head = len(batches) / seconds(learn, 1)
        learn.unfreeze()
        whole = len(batches) / seconds(learn, 1)
        few, many = settings.pick(3, 1), settings.pick(15, 2)
        short, long = seconds(stored, few), seconds(stored, many)
        per_epoch = (long - short) / (many - few)
        return {
            "head": head,
            "whole": whole,
            "precomputed": len(more) / per_epoch,
            "precomputed_call_s": short - few * per_epoch,
        }

    return repeat


def fastai(settings: Settings) -> Repeat:
    """Frozen as it freezes, which goes on training batch-norm; frozen altogether; whole. Training alone is timed."""
    from fastai.vision.all import Callback, CrossEntropyLossFlat, DataLoaders, resnet18, vision_learner

    batches = in_memory(settings, n_steps(settings))
    few = [(batches[0][0][:2], batches[0][1][:2])]
    took: list[float] = []

    class Clock(Callback):
        def before_train(self) -> None:
            self.begun = settings.now()

        def after_train(self) -> None:
            took.append(settings.now() - self.begun)

    def learner(train_bn: bool) -> Any:
        return vision_learner(
            DataLoaders(batches, few), resnet18, pretrained=False, n_out=2, loss_func=CrossEntropyLossFlat(),
            cbs=Clock, train_bn=train_bn,
        )  # fmt: skip

    learn, no_bn = learner(True), learner(False)

    def rate(one: Any, frozen: bool) -> float:
        (one.freeze if frozen else one.unfreeze)()
        with one.no_bar(), one.no_logging():
            one.fit(1, 1e-3)
        return len(batches) / took[-1]

    return lambda: {"head": rate(learn, True), "head_no_bn": rate(no_bn, True), "whole": rate(learn, False)}
