"""Blood cells (BCCD, 192 x 256) in equal CPU seconds: easylearn's centres beside torchvision's FCOS on the same body.

    python examples/benchmarks/boxes.py DATA --seconds 300 --impl centre fcos --seeds 0 1 2
    python examples/benchmarks/boxes.py CAMVID --geometry

DATA is a folder with images and boxes.csv (file, xmin, ymin, xmax, ymax, label, part). Each implementation trains on
the train and valid parts for as many seconds of process time, on one thread, with everything in it but the first
decoding of the files. Told is average precision over the test part. With --geometry: how boxes that were moved overlap
with those of the moved masks, transform by transform, over the objects in the masks of DATA/train.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import pandas as pd
import torch
from masks import ByTime
from torch import Tensor, nn

from easylearn.box_metrics import box_iou
from easylearn.learning import Learner
from easylearn.nn.groups import LayerGroup
from easylearn.train.optim import adamw
from easylearn.vision.augment import BatchStage, Dihedral, Flip, RandomResizedCrop, Rotate, Shift, Transform, Zoom
from easylearn.vision.boxes_data import BoxData
from easylearn.vision.boxes_geometry import moved_boxes
from easylearn.vision.boxes_learner import detection_learner
from easylearn.vision.model import vision_model
from easylearn.vision.pyramid import pyramid
from easylearn.vision.warp import grid_of

ARCH, SIZE, BATCH = "efficientnet_lite0", (192, 256), 8
RATES = {"centre": [3e-4, 3e-4, 2e-3], "fcos": [3e-4, 2e-3]}  # chosen on the valid part


def data_of(root: Path, tuned: bool) -> BoxData:
    """The images mirrored; for tuning the valid part is what is told, else it trains, too."""
    table = pd.read_csv(root / "boxes.csv")
    if not tuned:
        table["part"] = table["part"].replace("valid", "train")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return BoxData.from_df(
            table, root, size=SIZE, split_col="part", valid=None, batch_size=BATCH, augment=[Flip()], workers=0
        )


class Fcos(nn.Module):
    """torchvision's FCOS (arXiv 1904.01355) over the pyramid of the same body, 64 channels wide."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        from torchvision.models.detection import FCOS
        from torchvision.models.detection.anchor_utils import AnchorGenerator

        body = vision_model(ARCH, 1, pretrained=True, custom_head=nn.Identity()).body
        anchors = AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
        how = {"score_thresh": 0.01, "nms_thresh": 0.6, "detections_per_img": 100}
        self.net = FCOS(
            _Backbone(body), n_classes, anchor_generator=anchors, min_size=min(SIZE), max_size=max(SIZE),
            image_mean=[0.0] * 3, image_std=[1.0] * 3, **how,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out = x.new_zeros(len(x), 100, 6)
        for row, found in zip(out, self.net.eval()(list(x)), strict=True):
            n = len(found["scores"])
            row[:n] = torch.cat([found["boxes"], found["scores"][:, None], found["labels"][:, None]], 1)
        return out

    def loss(self, inputs: tuple[Tensor, ...], target: Tensor) -> Tensor:
        boxes = [row[row[:, 4] >= 0] for row in target]
        given = [{"boxes": b[:, :4], "labels": b[:, 4].long()} for b in boxes]
        return torch.stack(list(self.net(list(inputs[0]), given).values())).sum()

    def layer_groups(self) -> list[LayerGroup]:
        return [LayerGroup("body", (self.net.backbone.body,)), LayerGroup("rest", (self.net,))]


class _Backbone(nn.Module):
    out_channels = 64

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        from torchvision.ops import FeaturePyramidNetwork

        self.body = pyramid(body, finest=8)
        self.fpn = FeaturePyramidNetwork(list(self.body.channels), self.out_channels)

    def forward(self, x: Tensor) -> Any:
        return self.fpn(OrderedDict((str(k), m) for k, m in enumerate(self.body(x))))


def run(root: Path, seconds: float, seed: int, how: str, tuned: bool, stride: int) -> dict[str, float]:
    data = data_of(root, tuned)
    if how == "fcos":
        torch.manual_seed(seed)
        half = data.with_stats([0.5] * 3, [0.5] * 3)
        learn = Learner(half, Fcos(len(data.classes)), optimizer=adamw, bn_freeze=True, clip=5.0, wd=1e-2,
                        seed=seed, progress=False, device="cpu")  # fmt: skip
    else:
        learn = detection_learner(data, ARCH, stride=stride, seed=seed, wd=1e-2, progress=False, device="cpu")
        learn.unfreeze()
    for split in data.splits:
        list(learn.data.loader(split).batches(torch.device("cpu")))  # decoded once
    split = "valid" if tuned else "test"
    every, learn.data._splits = dict(learn.data._splits), {"train": learn.data._splits["train"]}  # none after epochs
    started = time.process_time()
    record = learn.fit(RATES[how], 10_000, cycle_len=None, callbacks=[ByTime(started, started + seconds)])
    trained = time.process_time() - started
    learn.data._splits = every
    scores = learn.validate(split)
    per_class = learn.interpret(split).report()["ap50"].round(3).to_dict()
    return {"seconds": trained, "steps": len(record.losses), **scores, **per_class}


# -- geometry --------------------------------------------------------------------------------------------


TRANSFORMS: list[Transform] = [
    Flip(1.0), Dihedral(), Rotate(10.0, p=1.0), Rotate(30.0, p=1.0), Zoom(1.3, p=1.0), Shift(0.1, p=1.0),
    RandomResizedCrop(0.35),
]  # fmt: skip


def objects(root: Path, most: int) -> tuple[Tensor, np.ndarray]:
    """Masks of single objects: connected cars, people, signs and cyclists; and the boxes around them."""
    from PIL import Image
    from scipy.ndimage import find_objects, label

    masks, boxes = [], []
    for file in sorted((root / "train" / "masks").glob("*.png")):
        given = np.array(Image.open(file).resize((240, 180), Image.Resampling.NEAREST))
        for value in (6, 8, 9, 10):
            numbers, _ = label(given == value)
            for k, where in enumerate(find_objects(numbers), 1):
                mask = numbers == k
                if mask.sum() >= 150:
                    masks.append(mask)
                    boxes.append([where[1].start, where[0].start, where[1].stop, where[0].stop])
        if len(masks) >= most:
            break
    return torch.from_numpy(np.stack(masks[:most]).astype(np.uint8)), np.array(boxes[:most], np.float64)


def corners(box: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The box around the four moved corners."""
    middle = np.array(size[::-1]) / 2
    four = np.array([[box[i], box[j]] for i in (0, 2) for j in (1, 3)]) - middle
    moved = (four - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T + middle
    return np.clip(np.concatenate([moved.min(0), moved.max(0)]), 0, np.tile(size[::-1], 2))


def geometry(root: Path, most: int) -> None:
    masks, boxes = objects(root, most)
    size, index = (int(masks.shape[1]), int(masks.shape[2])), np.arange(len(masks))
    print(
        f"{len(masks)} objects\n| transform | ellipse | below 0.7 | hull of corners | dropped |\n|---|---|---|---|---|"
    )
    for transform in TRANSFORMS:
        draws = BatchStage(size, (transform,))._drawn(torch.zeros(len(masks), 1, *size), index, 0, 0, 0)
        padded = torch.nn.functional.pad(masks, (size[1], size[1], size[0], size[0]))  # so that nothing is reflected
        grid = (
            grid_of(draws.matrix, size, size, torch.device("cpu"), reflects=False) / 3
        )  # the same places in the wider images
        after = torch.nn.functional.grid_sample(padded[:, None].float(), grid, "nearest", align_corners=False)[:, 0]
        moved, left = moved_boxes(boxes[:, None], draws.matrix, size, size)
        found: list[tuple[float, float]] = []
        for k, mask in enumerate(after.numpy() > 0):
            y, x = np.nonzero(mask)
            if left[k, 0] and len(y):
                true = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float64)
                both = np.stack([moved[k, 0], corners(boxes[k], draws.matrix[k], size)])
                found.append(tuple(box_iou(both, true)[:, 0]))
        iou = np.array(found)
        low, dropped = (iou[:, 0] < 0.7).mean(), 1 - left.mean()
        print(f"| {transform} | {iou[:, 0].mean():.3f} | {low:.1%} | {iou[:, 1].mean():.3f} | {dropped:.1%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--impl", nargs="+", default=["centre", "fcos"], choices=["centre", "fcos"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--stride", type=int, default=4)
    parser.add_argument("--tune", action="store_true", help="train on the train part alone, and tell of the valid part")
    parser.add_argument(
        "--geometry", type=int, nargs="?", const=600, help="the table of moved boxes, of so many objects"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.geometry:
        geometry(args.data, args.geometry)
        return
    rows = []
    for name in args.impl:
        for seed in args.seeds:
            found = run(args.data, args.seconds, seed, name, args.tune, args.stride)
            rows.append({"impl": name, "seed": seed, "budget": args.seconds, **found})
            print(json.dumps(rows[-1]), flush=True)
    for name in args.impl:
        each = [row for row in rows if row["impl"] == name]
        for metric in ("ap50", "ap"):
            told = [row[metric] for row in each]
            print(
                f"{name}, {args.seconds:.0f} CPU s: {metric} {np.mean(told):.3f} ({min(told):.3f} to {max(told):.3f})"
            )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
