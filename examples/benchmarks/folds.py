"""Five folds of 600 photographs with a frozen body at 224 pixels: how long beside one, and what is made twice.

    python examples/benchmarks/folds.py                     # a round takes half a minute on two cores
    python examples/benchmarks/folds.py --rounds 5 --json folds.json
    python examples/benchmarks/folds.py --cross-fit         # the same by cross_fit, with its predictions
    python examples/benchmarks/folds.py --quick             # 30 photographs at 64 pixels: no result

Each round begins with an empty cache folder. A fold makes its data and its learner, computes what is missing, trains
the head for some epochs on stored features and validates. The body is not trained before: that changes no time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from suite_tasks.photos import make_photos
from torch import Tensor, nn

from easylearn import ImageData, cross_fit, folds, vision_learner
from easylearn.vision.decode import ItemStage

N_FOLDS = 5


class Count:
    """Which files are decoded, in whatever process, and which rows a body is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: Counter[int] = Counter()
        read = ItemStage.load

        def noted(stage: ItemStage, source: Any, name: str = "") -> Tensor:
            with open(folder / "decoded", "a", encoding="utf-8") as file:
                file.write(f"{source}\n")
            return read(stage, source, name)

        ItemStage.load = noted  # type: ignore[method-assign]

    def __call__(self, _: nn.Module, inputs: tuple[Tensor]) -> None:
        """As a hook of the body; rows of zeros only fill a batch up."""
        self.rows.update(hash(row[0, ::16].numpy().tobytes()) for row in inputs[0] if row[0, ::16].any())

    def take(self) -> dict[str, int]:
        """How many there were, of how many different things, since the last call."""
        decoded = Counter((self.folder / "decoded").read_text(encoding="utf-8").splitlines())
        (self.folder / "decoded").unlink()
        rows, self.rows = self.rows, Counter()
        return {
            "decoded": decoded.total(),
            "different_files": len(decoded),
            "computed": rows.total(),
            "different_rows": len(rows),
        }


def fold(photos: Path, valid: list[int], args: argparse.Namespace, count: Count) -> float:
    """Seconds of one fold."""
    began = time.perf_counter()
    data = ImageData.from_folder(photos, args.size, valid=valid, batch_size=args.batch_size)
    learn = vision_learner(data, args.arch, pretrained=False, precompute=True, device=args.device, progress=False)
    hook = learn.model.body.register_forward_pre_hook(count)  # type: ignore[union-attr, operator, arg-type]
    learn.fit(1e-2, 1, cycle_len=args.epochs)
    hook.remove()  # type: ignore[union-attr]
    return time.perf_counter() - began


def a_round(photos: Path, args: argparse.Namespace, count: Count) -> dict[str, Any]:
    """The seconds of each fold, one after the other, and what was made."""
    order = np.random.default_rng(0).permutation(args.n)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["EASYLEARN_CACHE"] = cache
        seconds = [fold(photos, order[k::N_FOLDS].tolist(), args, count) for k in range(N_FOLDS)]
    return {"seconds": seconds, "ratio": sum(seconds) / seconds[0], **count.take()}


def by_cross_fit(photos: Path, args: argparse.Namespace, count: Count) -> dict[str, Any]:
    """The seconds of one fold alone, and of five, each from an empty cache."""
    plan = folds(args.n, N_FOLDS)

    def make(p: Any) -> Any:
        data = ImageData.from_folder(photos, args.size, valid=p.valid, batch_size=args.batch_size)
        how: Any = {"pretrained": False, "precompute": True, "device": args.device, "seed": 0}
        learn = vision_learner(data, args.arch, **how)
        learn.model.body.register_forward_pre_hook(count)  # type: ignore[union-attr, operator, arg-type]
        return learn

    def fit(learn: Any, p: Any, **how: Any) -> Any:
        return learn.fit(1e-2, 1, cycle_len=args.epochs, **how)

    seconds = []
    for pairs in (plan.pairs[:1], plan.pairs):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["EASYLEARN_CACHE"] = f"{folder}/cache"
            began = time.perf_counter()
            cross_fit(make, pairs, fit, f"{folder}/runs")
            seconds.append(time.perf_counter() - began)
            made = count.take()
    return {"seconds": seconds, "ratio": seconds[1] / seconds[0], **made}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=600, help="photographs")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--cross-fit", action="store_true")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.n, args.size, args.epochs, args.batch_size, args.rounds = 30, 64, 1, 8, 1
    photos = make_photos(args.n)
    with tempfile.TemporaryDirectory() as folder:
        count = Count(Path(folder))
        rounds = []
        for _ in range(args.rounds):
            rounds.append((by_cross_fit if args.cross_fit else a_round)(photos, args, count))
            one = rounds[-1]
            times = ", ".join(f"{s:.2f}" for s in one["seconds"])
            print(
                f"folds took {times} s: five take {one['ratio']:.2f} times the first; {one['decoded']} decoded of "
                f"{one['different_files']} files, {one['computed']} body outputs of {one['different_rows']} images"
            )
    ratios = [one["ratio"] for one in rounds]
    print(f"five folds beside one: {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}], aim 1.4")
    if args.json:
        threads = {"threads": torch.get_num_threads(), "torch": torch.__version__}
        given = {name: str(value) for name, value in vars(args).items()}
        args.json.write_text(json.dumps({"rounds": rounds, "arguments": given, **threads}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
