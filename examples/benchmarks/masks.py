"""Road scenes (CamVid, 11 classes, 144 x 192) in equal CPU seconds of training: easylearn, its peers, the same body.

    python examples/benchmarks/masks.py DATA --seconds 90 --impl light light-whole smp-unet smp-fpn fastai-unet

DATA is a folder with train, valid and test, each with images and masks, and codes.csv (value, name; the last is Void).
Each implementation trains for as many seconds of process time, on one thread, with everything in it: decoding, storing
features; validation is left out, and of peers decoding, too. Told is the mean IoU of the classes over the test split,
all pixels together. "fastai" is its DynamicUnet in the loop of the other peers, "fastai-unet" what `unet_learner`
gives, as `fine_tune` trains it. `--quick` needs no data: a second each on made-up scenes, to see that it runs.
`--stage` tells what a mask adds to the time in which a batch of images is augmented, on made-up pixels.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from easylearn.device import kept_memory
from easylearn.learning import Learner
from easylearn.train.callback import Callback
from easylearn.train.state import Run
from easylearn.vision.augment import BatchStage, resolve
from easylearn.vision.mask_learner import segmentation_learner
from easylearn.vision.masks import MaskData
from easylearn.vision.model import vision_model
from easylearn.vision.warp import MovingMasks

ARCH, SIZE, VOID = "efficientnet_lite0", (144, 192), 255
OURS = ("light", "light-whole", "unet", "unet-whole")
WORTH_UNFREEZING = 120.0  # seconds from which training the body, too, gives more than the decoder alone


@dataclass(frozen=True)
class Race:
    """Who trains on what for how long."""

    root: Path
    seconds: float
    seed: int
    how: str
    arch: str = ARCH
    size: tuple[int, int] = SIZE

    def data(self, valid: str | None = "valid") -> MaskData:
        how = {"codes": "codes.csv", "void": "Void", "augment": "side_on", "workers": 0}
        return MaskData.from_folder(self.root, self.size, valid=valid, batch_size=8, **how)


class ByTime(Callback):
    """Rates by the share of the process time that is used up: a tenth of warm-up, then half a cosine; then the end."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, end

    def on_batch_begin(self, run: Run) -> None:
        share = min(1.0, (time.process_time() - self.start) / (self.end - self.start))
        for group, rate in zip(run.optimizer.param_groups, run.rates, strict=False):
            group["lr"] = rate * factor(share)

    def on_batch_end(self, run: Run) -> None:
        if time.process_time() >= self.end:
            run.stop_reason = "the time is used up"


def factor(share: float) -> float:
    return min(1.0, (share + 0.01) / 0.1) * 0.5 * (1 + math.cos(math.pi * share))


# -- easylearn -------------------------------------------------------------------------------------------


def ours(race: Race) -> dict[str, float]:
    """The decoder on stored maps; from two minutes on for a third of the time, then everything. "whole": everything."""
    started, whole = time.process_time(), race.how.endswith("whole")
    learn = segmentation_learner(
        race.data(None), race.arch, decoder="unet" if "unet" in race.how else "light", seed=race.seed, progress=False,
        pretrained=race.arch == ARCH, device="cpu",
    )  # fmt: skip
    end = started + race.seconds
    if not whole:
        learn.freeze()
        learn.precompute = True
        middle = end if race.seconds < WORTH_UNFREEZING else started + race.seconds / 3
        fit_for(learn, middle, 3e-3)
    if time.process_time() < end:
        learn.unfreeze()
        fit_for(learn, end, [3e-4, 3e-4, 3e-3] if whole else [3e-4, 3e-4, 1e-3])
    trained = time.process_time() - started
    learn.set_data(race.data())
    return {"seconds": trained, "valid": learn.validate()["mean_iou"], "test": learn.validate(split="test")["mean_iou"]}


def fit_for(learn: Learner, end: float, lr: float | list[float]) -> None:
    learn.fit(lr, 10_000, cycle_len=None, callbacks=[ByTime(time.process_time(), end)])


# -- peers: one loop of torch for all of them ------------------------------------------------------------


def tensors(race: Race) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    data = race.data()
    x: dict[str, Tensor] = {}
    y: dict[str, Tensor] = {}
    for split in ("train", "valid", "test"):
        found = list(data.loader(split).batches(torch.device("cpu")))
        x[split] = data.batch_stage.denormalise(torch.cat([b.inputs[0] for b in found])) * 2 - 1
        y[split] = torch.cat([b.target for b in found])
    return x, y, len(data.classes)


def body_of() -> nn.Module:
    """timm's net of the same weights, which gives its maps."""
    import timm

    own = vision_model(ARCH, 2, pretrained=True).body.state_dict()
    net = timm.create_model(f"tf_{ARCH}", pretrained=False, features_only=True)
    net.load_state_dict({n: v for n, v in own.items() if n in net.state_dict()}, strict=False)
    return net


class Padded(nn.Module):
    """A net that takes sides of whole 32 pixels alone, on images of any size."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        out: Tensor = self.net(F.pad(x, (0, -width % 32, 0, -height % 32), mode="replicate"))
        return out[..., :height, :width]


def smp(kind: str, n: int) -> tuple[nn.Module, list[nn.Parameter]]:
    import segmentation_models_pytorch as models

    net = getattr(models, kind)(f"tu-tf_{ARCH}", encoder_weights=None, classes=n)
    theirs, own = net.encoder.model.state_dict(), body_of().state_dict()
    net.encoder.model.load_state_dict({name: own[name] for name in theirs})
    return Padded(net), list(net.encoder.parameters())


def chain() -> nn.Sequential:
    """The same as a chain, in which fastai finds where sizes change."""
    body: Any = body_of()
    return nn.Sequential(body.conv_stem, body.bn1, *body.blocks)


def fastai(n: int) -> tuple[nn.Module, list[nn.Parameter]]:
    from fastai.vision.models.unet import DynamicUnet

    encoder = chain()
    return DynamicUnet(encoder, n, SIZE), list(encoder.parameters())


PEERS: dict[str, tuple[Callable[[int], tuple[nn.Module, list[nn.Parameter]]], tuple[float, float]]] = {
    "smp-unet": (lambda n: smp("Unet", n), (1e-3, 1e-3)),
    "smp-fpn": (lambda n: smp("FPN", n), (1e-3, 1e-3)),
    "fastai": (fastai, (1e-4, 1e-3)),
}


def peer(race: Race) -> dict[str, float]:
    """AdamW, half of the images mirrored, cross-entropy, a cosine with a warm-up over the time."""
    x, y, n = tensors(race)
    torch.manual_seed(race.seed)
    build, rates = PEERS[race.how]
    net, encoder = build(n)
    ids = {id(p) for p in encoder}
    rest = [p for p in net.parameters() if id(p) not in ids]
    optimizer = torch.optim.AdamW([{"params": encoder}, {"params": rest}], weight_decay=1e-2)
    started = time.process_time()
    net.train()
    for index in forever(len(x["train"]), 8, race.seed):
        share = (time.process_time() - started) / race.seconds
        if share >= 1:
            break
        for group, lr in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = lr * factor(share)
        a, b = x["train"][index], y["train"][index]
        flip = torch.rand(len(a)) < 0.5
        a, b = a.clone(), b.clone()
        a[flip], b[flip] = a[flip].flip(-1), b[flip].flip(-1)
        optimizer.zero_grad()
        F.cross_entropy(net(a), b.long(), ignore_index=VOID).backward()
        optimizer.step()
    trained = time.process_time() - started
    net.eval()
    scores = {split: mean_iou(net, x[split], y[split], n) for split in ("valid", "test")}
    return {"seconds": trained, **scores}


def fastai_unet(race: Race) -> dict[str, float]:
    """What `unet_learner` makes, by `fine_tune`'s rates: a third of the time frozen, then all of it, each one cycle."""
    from fastai.callback import progress, schedule  # noqa: F401 - which add no_bar and fit_one_cycle to the learner
    from fastai.callback.core import Callback as TheirCallback
    from fastai.callback.core import CancelFitException
    from fastai.data.core import DataLoaders
    from fastai.losses import CrossEntropyLossFlat
    from fastai.torch_core import TensorImage, TensorMask
    from fastai.vision.learner import unet_learner

    class ByCpu(TheirCallback):  # type: ignore[misc, no-any-unimported]
        """The share of the process time in place of that of the steps; then the end."""

        order = 50  # before the schedules

        def __init__(self, begin: float, end: float) -> None:
            self.begin, self.end = begin, end

        def before_batch(self) -> None:
            share = (time.process_time() - self.begin) / (self.end - self.begin)
            if share >= 1:
                raise CancelFitException
            self.learn.pct_train = share

    class Mirrored:
        def __init__(self, x: Tensor, y: Tensor, p: float) -> None:
            self.x, self.y, self.p = x, y, p

        def __len__(self) -> int:
            return len(self.x)

        def __getitem__(self, i: int) -> tuple[Any, Any]:
            a, b = self.x[i], self.y[i]
            if torch.rand(()) < self.p:
                a, b = a.flip(-1), b.flip(-1)
            return TensorImage(a), TensorMask(b.long())

    x, y, n = tensors(race)
    torch.manual_seed(race.seed)
    sets = Mirrored(x["train"], y["train"], 0.5), Mirrored(x["valid"][:2], y["valid"][:2], 0.0)
    loaders = DataLoaders.from_dsets(*sets, bs=8, num_workers=0, device=torch.device("cpu"))
    started = time.process_time()
    learn = unet_learner(
        loaders, lambda pretrained: nn.Sequential(*chain(), nn.AdaptiveAvgPool2d(1)), normalize=False, n_out=n,
        loss_func=CrossEntropyLossFlat(axis=1, ignore_index=VOID),
    )  # fmt: skip
    middle, end, lr = started + race.seconds / 3, started + race.seconds, 2e-3
    with learn.no_bar(), learn.no_logging():
        learn.freeze()
        learn.fit_one_cycle(1000, slice(lr), pct_start=0.99, cbs=ByCpu(started, middle))
        learn.unfreeze()
        rates = slice(lr / 200, lr / 2)
        learn.fit_one_cycle(1000, rates, pct_start=0.3, div=5.0, cbs=ByCpu(time.process_time(), end))
    trained = time.process_time() - started
    net = learn.model.eval()
    scores = {split: mean_iou(net, x[split], y[split], n) for split in ("valid", "test")}
    return {"seconds": trained, **scores}


def forever(n: int, size: int, seed: int) -> Iterator[Tensor]:
    g = torch.Generator().manual_seed(seed)
    while True:
        yield from (i for i in torch.randperm(n, generator=g).split(size) if len(i) > 1)


def mean_iou(net: nn.Module, x: Tensor, y: Tensor, n: int) -> float:
    counts = torch.zeros(n * n, dtype=torch.int64)
    with torch.inference_mode():
        for a in range(0, len(x), 16):
            said, truth = net(x[a : a + 16]).argmax(1), y[a : a + 16].long()
            known = truth != VOID
            counts += torch.bincount((truth * n + said)[known], minlength=n * n)
    table = counts.view(n, n).double()
    hits = table.diagonal()
    return float((hits / (table.sum(0) + table.sum(1) - hits)).nanmean())


def scenes(root: Path) -> Path:
    """A light sky over dark ground, in the layout of the data."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, n in (("train", 16), ("valid", 4), ("test", 4)):
        for folder in ("images", "masks"):
            (root / split / folder).mkdir(parents=True)
        for k in range(n):
            ground = np.arange(60)[:, None] >= rng.integers(10, 50, 80)[None]
            pixels = np.where(ground, 60, 200)[..., None] + rng.integers(0, 40, (60, 80, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / split / "images" / f"{k}.png")
            Image.fromarray(ground.astype(np.uint8)).save(root / split / "masks" / f"{k}.png")
    (root / "codes.csv").write_text("value,name\n0,Sky\n1,Ground\n2,Void\n", encoding="utf-8")
    return root


def stage(pairs: int) -> str:
    """CPU time of the batch stage, an image, without and with a mask, in turn."""
    rng, n, index = np.random.default_rng(0), 8, np.arange(8)
    made = BatchStage(SIZE, resolve("side_on"))
    x = torch.from_numpy(rng.integers(0, 256, (n, 3, *SIZE), dtype=np.uint8))
    y = torch.from_numpy(rng.integers(0, 11, (n, *SIZE), dtype=np.uint8))

    def took(way: Callable[[int], object]) -> float:
        began = time.thread_time()
        for epoch in range(4):
            way(epoch)
        return (time.thread_time() - began) / (4 * n) * 1e3

    ways: list[Callable[[int], object]] = [
        lambda epoch: made.augmented(x, index, 0, epoch),
        lambda epoch: made.augmented_with(x, y, MovingMasks(), index, 0, epoch),
    ]
    with kept_memory(x.device):
        found = np.array([[took(way) for way in ways] for _ in range(pairs + 1)])[1:]
    alone, both = np.median(found, 0)
    return f"an image {alone:.3f} ms, with a mask {both:.3f} ms: {both / alone - 1:+.1%} (medians of {pairs} pairs)"


def main() -> None:
    by = {"fastai-unet": fastai_unet, **dict.fromkeys(PEERS, peer)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--impl", nargs="+", choices=[*OURS, *by], default=["light", "light-whole"], metavar="IMPL")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a second of ours on made-up scenes, to see that it runs")
    parser.add_argument("--stage", action="store_true", help="what a mask adds to augmenting a batch, and no training")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.stage:
        print(stage(2 if args.quick else 80))
        return
    if args.data is None and not args.quick:
        parser.error("DATA is missing: a folder with train, valid, test and codes.csv; or --quick")
    rows = []
    for name in args.impl:
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as cache:
                os.environ["EASYLEARN_CACHE"] = cache
                race = Race(args.data, args.seconds, seed, name)
                if args.quick:
                    race = Race(scenes(Path(cache) / "scenes"), 1.0, seed, name, "squeezenet1_1", (48, 64))
                found = by.get(name, ours)(race)
            rows.append({"impl": name, "seed": seed, "budget": race.seconds, **found})
            print(json.dumps(rows[-1]), flush=True)
    for name in args.impl:
        test = [row["test"] for row in rows if row["impl"] == name]
        print(f"| {name} | {race.seconds:.0f} | {np.mean(test):.3f} | {min(test):.3f} to {max(test):.3f} |")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
