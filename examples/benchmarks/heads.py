"""The head of a frozen body beside logistic regression on the same features, the README's lines unchanged.

    python examples/benchmarks/heads.py PATH                               # all images of PATH/{train,valid}/CLASS
    python examples/benchmarks/heads.py PATH --per-class 40 --classes 12   # so many, drawn anew for each seed
    python examples/benchmarks/heads.py PATH --unfreeze                    # then everything, and tta

Accuracy on the validation images: median [least, most] of three seeds, and the standard error of one.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
import warnings
from pathlib import Path

from easylearn import ImageData, Learner, vision_learner


def drawn(path: Path, folder: Path, per_class: int | None, n_classes: int | None, seed: int) -> Path:
    """Links to some training images of some classes, and to all validation images of these."""
    draw = random.Random(seed)
    names = sorted(p.name for p in (path / "train").iterdir())
    for name in sorted(draw.sample(names, n_classes or len(names))):
        for split in ("train", "valid"):
            files = sorted((path / split / name).iterdir())
            some = draw.sample(files, per_class) if split == "train" and per_class else files
            (folder / split / name).mkdir(parents=True)
            for file in some:
                (folder / split / name / file.name).symlink_to(file.resolve())
    return folder


def reference(learn: Learner) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    (x, y), (other, wanted) = (
        (learn._features.table(learn.model, learn.data, split, learn.strategy), learn.data.loader(split).target)
        for split in ("train", "valid")
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x.numpy(), y.numpy())
    return float(model.score(other.numpy(), wanted.numpy()))


def with_views(learn: Learner) -> float:
    probs, targets = learn.tta()
    return float((probs.argmax(1) == targets).float().mean())


def one_seed(folder: Path, arch: str, size: int, seed: int, unfreeze: bool) -> dict[str, float]:
    data = ImageData.from_folder(folder, size=size, augment="side_on")
    learn = vision_learner(data, arch, precompute=True, seed=seed, progress=False)
    reached = {"logistic regression": reference(learn)}  # stores the features
    begun = time.perf_counter()
    learn.fit(1e-2, 3, cycle_len=1, cycle_mult=2)
    reached["seconds of the head"] = time.perf_counter() - begun
    reached["head"] = learn.validate()["accuracy"]
    other = vision_learner(data, arch, precompute=True, seed=seed, progress=False)
    found = other.lr_find().suggestion
    if found is not None:
        other.fit(found, 1)
        reached["head, one epoch at lr_find's rate"] = other.validate()["accuracy"]
    if unfreeze:
        reached["head, loss"] = learn.validate()["valid_loss"]
        reached["head, tta"] = with_views(learn)
        learn.unfreeze()
        for name, epoch in zip(("one epoch", "two epochs"), learn.fit([1e-4, 1e-3, 1e-2], 2).epochs, strict=True):
            reached[f"all layers, {name}"] = epoch["accuracy"]
            reached[f"all layers, {name}, loss"] = epoch["valid_loss"]
        reached["all layers, tta"] = with_views(learn)
    reached["standard error"] = (reached["head"] * (1 - reached["head"]) / len(data.ids("valid"))) ** 0.5
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--per-class", type=int, help="training images of each class; all if not given")
    parser.add_argument("--classes", type=int, help="so many classes; all if not given")
    parser.add_argument("--arch", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--unfreeze", action="store_true", help="go on with all layers, and tta")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    runs = []
    for seed in range(chosen.seeds):
        with tempfile.TemporaryDirectory() as folder:
            data = drawn(chosen.path, Path(folder), chosen.per_class, chosen.classes, seed)
            runs.append(one_seed(data, chosen.arch, chosen.size, seed, chosen.unfreeze))
    for name in runs[0]:
        values = [run[name] for run in runs if name in run]
        print(f"{name:35s} {statistics.median(values):.4f} [{min(values):.4f}, {max(values):.4f}]", flush=True)


if __name__ == "__main__":
    main()
