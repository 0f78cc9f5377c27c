"""Draw what each augmentation makes of one image: the figure of docs/images.md.

python examples/augmentations.py --out docs/img/augment.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from easylearn import (
    Blur,
    Erase,
    Flip,
    Hue,
    Light,
    Perspective,
    RandAugment,
    RandomResizedCrop,
    Rotate,
    Saturation,
    Shift,
    Transform,
    TrivialAugment,
    Zoom,
)
from easylearn.vision.augment import BatchStage

SIDE, COLUMNS = 160, 4


def scene() -> torch.Tensor:
    """A house beside a tree, on a hill under the sun: uint8, (3, 160, 160)."""
    image = Image.new("RGB", (SIDE, SIDE), (135, 190, 235))
    draw = ImageDraw.Draw(image)
    draw.ellipse((112, 12, 146, 46), fill=(250, 215, 70))
    draw.ellipse((-60, 95, 220, 260), fill=(95, 160, 80))
    draw.rectangle((30, 75, 85, 125), fill=(200, 95, 75))
    draw.polygon([(22, 76), (57, 42), (93, 76)], fill=(110, 60, 50))
    draw.rectangle((38, 85, 52, 99), fill=(245, 235, 170))
    draw.rectangle((62, 95, 77, 125), fill=(85, 60, 45))
    draw.rectangle((117, 90, 125, 125), fill=(100, 70, 45))
    draw.ellipse((99, 52, 143, 100), fill=(45, 115, 60))
    for x in range(0, SIDE, 16):
        draw.line((x, 140, x + 8, 148), fill=(235, 235, 235), width=2)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("augment.png"))
    parser.add_argument("--quick", action="store_true", help="changes nothing: it is quick")
    path = parser.parse_args().out
    transforms: dict[str, tuple[Transform, ...]] = {
        "as it is": (), "Flip()": (Flip(1.0),), "Rotate(20)": (Rotate(20, 1.0),), "Zoom(1.5)": (Zoom(1.5, 1.0),),
        "Shift(0.2)": (Shift(0.2, 1.0),), "RandomResizedCrop()": (RandomResizedCrop(),),
        "Perspective(0.4)": (Perspective(0.4, 1.0),), "Light(0.2, 0.5)": (Light(0.2, 0.5, 1.0),),
        "Saturation(1.0)": (Saturation(1.0, 1.0),), "Hue(0.1)": (Hue(0.1, 1.0),), "Blur((1, 2))": (Blur((1, 2), 1.0),),
        "Erase(2)": (Erase(2, p=1.0),), "TrivialAugment()": (TrivialAugment(),), "RandAugment()": (RandAugment(),),
    }  # fmt: skip
    figure = Figure((10, 1.45 * -(-len(transforms) // 2)), layout="constrained")
    places = figure.subplots(-(-len(transforms) // 2), 2 * COLUMNS, squeeze=False).flat
    images = scene().repeat(COLUMNS, 1, 1, 1)
    for name, chosen in transforms.items():
        stage = BatchStage((SIDE, SIDE), chosen, (0.0,) * 3, (1.0,) * 3)
        for i, made in enumerate(stage.augmented(images, range(COLUMNS), 11, 0).clamp(0, 1)):
            axes = next(places)
            axes.imshow(made.permute(1, 2, 0).numpy())
            axes.set_axis_off()
            axes.set_title(name if i == 0 else "", fontsize=9, loc="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=72)


if __name__ == "__main__":
    main()
