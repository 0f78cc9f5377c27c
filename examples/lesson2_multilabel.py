"""Several labels per picture, growing sizes and the F2 score: the second lesson of 2018.

python examples/lesson2_multilabel.py data/planet    # labels.csv (image, tags), pictures in train-jpg/<image>.jpg
python examples/lesson2_multilabel.py                # 3,000 pictures of one to four handwritten digits instead

It reached an F2 of 0.930 at a threshold of 20 % on 600 pictures of digits (a minute of one core).
"""

import argparse
from pathlib import Path

import pandas as pd
from torch import nn

from easylearn import ImageData, adamw, f_beta, vision_learner


def small_net() -> nn.Sequential:
    widths = ((3, 32), (32, 64), (64, 128))
    layers = [(nn.Conv2d(i, o, 3, 2, 1), nn.BatchNorm2d(o), nn.ReLU()) for i, o in widths]
    return nn.Sequential(*(layer for three in layers for layer in three), nn.AdaptiveAvgPool2d(1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--arch", default="resnet34", help="pretrained, for a path (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("lesson2"), help="folder for figures and weights")
    parser.add_argument("--quick", action="store_true", help="60 pictures of digits")
    given = parser.parse_args()
    path, sizes, rates = given.path, (64, 128, 256), [1e-3, 3e-3, 1e-2]
    settings, model = {"valid": 0.2, "augment": "top_down"}, {"arch": given.arch}
    if path is None:  # a small net from random weights
        from made_up import scattered_digits

        path, sizes, rates, model = given.out / "digits", (24, 32, 48), 3e-3, {"arch": small_net(), "optimizer": adamw}
        settings = {"valid": scattered_digits(path, 60 if given.quick else 3000), "augment": "basic"}
    where = {"path": path, "csv": "labels.csv", "folder": "train-jpg", "suffix": ".jpg", "label_sep": " "}
    settings["crop_pct"] = 1.0  # a label may be at the very edge
    data = ImageData.from_csv(**where, **settings, size=sizes[0], batch_size=32)
    data.show_batch().savefig(given.out / "batch.png")
    learn = vision_learner(data, **model, metrics=[f_beta(2, threshold=0.2)], path=given.out)
    print(learn.lr_find())
    for size in sizes:  # the same weights see larger and larger pictures
        learn.set_data(size)
        if given.path:
            learn.freeze()
            learn.fit(1e-2, 1)
            learn.unfreeze()
        learn.fit(rates, 1, cycle_len=1 if given.quick else 5)
    probs, targets = learn.tta()
    by = pd.Series({t: f_beta(2, threshold=t / 100)(probs, targets) for t in range(2, 92, 2)})
    print(f"F2 {by[20]:.4f} at a threshold of 20 %; {by.max():.4f} at the best one, {by.idxmax()} %")
    by.plot(xlabel="threshold, in %", ylabel="F2", grid=True).figure.savefig(given.out / "f2.png")
    learn.interpret().plot_top_losses(9).savefig(given.out / "worst.png")
