"""Road scenes (CamVid, 11 classes, 144 x 192) in equal CPU seconds of training: easylearn, its peers, the same body.

    python examples/benchmarks/masks.py DATA --seconds 90 --impl light light-whole smp-unet smp-fpn fastai --seeds 0 1 2

DATA is a folder with train, valid and test, each with images and masks, and codes.csv (value, name; the last is Void).
Each implementation trains for as many seconds of process time, on one thread, with everything in it: decoding, storing
features; validation is left out. Told is the mean IoU of the classes over the test split, all pixels together.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from easylearn.learning import Learner
from easylearn.train.callback import Callback
from easylearn.train.state import Run
from easylearn.vision.mask_learner import segmentation_learner
from easylearn.vision.masks import MaskData
from easylearn.vision.model import vision_model

ARCH, SIZE, VOID = "efficientnet_lite0", (144, 192), 255
WORTH_UNFREEZING = 120.0  # seconds from which training the body, too, gives more than the decoder alone


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


def data_of(root: Path, valid: str | None = "valid", batch_size: int = 8) -> MaskData:
    how = {"codes": "codes.csv", "void": "Void", "augment": "side_on", "workers": 0}
    return MaskData.from_folder(root, SIZE, valid=valid, batch_size=batch_size, **how)


# -- easylearn -------------------------------------------------------------------------------------------


def ours(root: Path, seconds: float, seed: int, how: str) -> dict[str, float]:
    """The decoder on stored maps; from two minutes on for a third of the time, then everything. "whole": everything."""
    started = time.process_time()
    decoder = "unet" if "unet" in how else "light"
    learn = segmentation_learner(data_of(root, None), ARCH, decoder=decoder, seed=seed, progress=False, device="cpu")
    end = started + seconds
    if not how.endswith("whole"):
        learn.precompute = True
        middle = end if seconds < WORTH_UNFREEZING else started + seconds / 3
        fit_for(learn, middle, 3e-3)
    if time.process_time() < end:
        learn.unfreeze()
        fit_for(learn, end, [3e-4, 3e-4, 3e-3] if how.endswith("whole") else [3e-4, 3e-4, 1e-3])
    trained = time.process_time() - started
    learn.set_data(data_of(root))
    return {"seconds": trained, "valid": learn.validate()["mean_iou"], "test": learn.validate(split="test")["mean_iou"]}


def fit_for(learn: Learner, end: float, lr: float | list[float]) -> None:
    learn.fit(lr, 10_000, cycle_len=None, callbacks=[ByTime(time.process_time(), end)])


# -- peers: one loop of torch for all of them ------------------------------------------------------------


def tensors(root: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    data = data_of(root)
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


def fastai(n: int) -> tuple[nn.Module, list[nn.Parameter]]:
    from fastai.vision.models.unet import DynamicUnet

    body: Any = body_of()
    encoder = nn.Sequential(body.conv_stem, body.bn1, *body.blocks)
    net = DynamicUnet(encoder, n, SIZE)
    return net, list(encoder.parameters())


PEERS: dict[str, tuple[Callable[[int], tuple[nn.Module, list[nn.Parameter]]], tuple[float, float]]] = {
    "smp-unet": (lambda n: smp("Unet", n), (1e-3, 1e-3)),
    "smp-fpn": (lambda n: smp("FPN", n), (1e-3, 1e-3)),
    "fastai": (fastai, (1e-4, 1e-3)),
}


def peer(root: Path, seconds: float, seed: int, how: str) -> dict[str, float]:
    """AdamW, half of the images mirrored, cross-entropy, a cosine with a warm-up over the time."""
    x, y, n = tensors(root)
    torch.manual_seed(seed)
    build, rates = PEERS[how]
    net, encoder = build(n)
    ids = {id(p) for p in encoder}
    rest = [p for p in net.parameters() if id(p) not in ids]
    optimizer = torch.optim.AdamW([{"params": encoder}, {"params": rest}], weight_decay=1e-2)
    started = time.process_time()
    net.train()
    for index in forever(len(x["train"]), 8, seed):
        share = (time.process_time() - started) / seconds
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--impl", nargs="+", default=["light", "light-whole"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in args.impl:
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as cache:
                os.environ["EASYLEARN_CACHE"] = cache
                found = (peer if name in PEERS else ours)(args.data, args.seconds, seed, name)
            rows.append({"impl": name, "seed": seed, "budget": args.seconds, **found})
            print(json.dumps(rows[-1]), flush=True)
    for name in args.impl:
        test = [row["test"] for row in rows if row["impl"] == name]
        print(f"| {name} | {args.seconds:.0f} | {np.mean(test):.3f} | {min(test):.3f} to {max(test):.3f} |")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
