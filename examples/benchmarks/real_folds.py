"""Five folds and a blend against one model, on real data: photographs of cats and dogs, or the census table Adult.

    python examples/benchmarks/real_folds.py --dogscats dogscats --n 300
    python examples/benchmarks/real_folds.py --adult adult/adult.csv.gz --n 3000
    python examples/benchmarks/real_folds.py --quick             # made-up rows: no result

One model is trained on four fifths of the items, and validated on the last fifth; five folds are that five times. All
are judged on test items that none of them saw. Of photographs the two recipes are frozen bodies of two architectures,
of the table two networks; settings are the documented defaults, chosen without these data.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from easylearn import ImageData, Predictions, TabularData, blend, cross_fit, folds, interval, tabular_learner, versus
from easylearn import vision_learner as image_learner
from easylearn.experiment import Difference
from easylearn.metrics import accuracy, log_loss

Make = Callable[[Any], Any]


def photographs(folder: Path, n: int, seed: int) -> tuple[list[Make], Any, list[str], dict[str, str]]:
    """Two recipes, the fit, the labels of `n` training images, and those of the test images by name."""
    rng = np.random.default_rng(seed)
    names = sorted(str(f.relative_to(folder)) for f in (folder / "train").rglob("*.jpg"))
    names = [names[i] for i in np.sort(rng.permutation(len(names))[:n])]
    labels = [Path(name).parent.name for name in names]
    answers = {f.name: f.parent.name for f in (folder / "valid").rglob("*.jpg")}
    test = Path(tempfile.mkdtemp())
    for file in (folder / "valid").rglob("*.jpg"):
        (test / file.name).write_bytes(file.read_bytes())

    def recipe(arch: str, size: int) -> Make:
        def make(p: Any) -> Any:
            data = ImageData.from_names(folder, names, labels, size, valid=p.valid, test=test, batch_size=32)
            return image_learner(data, arch, precompute=True, seed=p.seed)

        return make

    def fit(learn: Any, p: Any, **how: Any) -> Any:
        return learn.fit(1e-2, 3, **how)

    return [recipe("efficientnet_lite0", 96), recipe("efficientnet_lite0", 64)], fit, labels, answers


def census(file: Path | None, n: int, seed: int) -> tuple[list[Make], Any, list[str], dict[str, str]]:
    """The same of a table; without a file of made-up rows."""
    rng = np.random.default_rng(seed)
    if file is None:
        x = rng.normal(size=(3 * n, 3))
        df = pd.DataFrame(x, columns=list("abc")).assign(income=np.where(x[:, 0] * x[:, 1] > 0, "more", "less"))
        test = df[n:]
    else:
        df = pd.read_csv(file)
        is_test = df.pop("is_test").astype(bool)
        test, df = df[is_test], df[~is_test].sample(n, random_state=seed)
    target = "income" if "income" in df else df.columns[-1]
    df, test = df[:n].reset_index(drop=True), test.reset_index(drop=True)
    answers = {str(i): str(y) for i, y in enumerate(test[target])}

    def recipe(hidden: list[int]) -> Make:
        def make(p: Any) -> Any:
            data = TabularData.from_df(df, target, valid=p.valid, test=test.drop(columns=target), batch_size=64)
            return tabular_learner(data, hidden, seed=p.seed)

        return make

    def fit(learn: Any, p: Any, **how: Any) -> Any:
        return learn.fit_one_cycle(1e-2, 3, **how)

    return [recipe([200, 100]), recipe([50])], fit, [str(y) for y in df[target]], answers


def judged(said: Predictions, answers: dict[str, str]) -> Predictions:
    """Predictions of the test items with their true classes."""
    truth = torch.tensor([said.classes.index(answers[i] if i in answers else answers[Path(i).name]) for i in said.ids])
    return Predictions.of(said.task, said.probs, said.ids, truth)


def compare(
    makes: list[Make], fit: Any, labels: list[str], answers: dict[str, str], folder: Path, seed: int
) -> dict[str, Any]:
    """Train one model, five folds of two recipes, and their blends; tell how good each is on test items."""
    plan = folds(len(labels), 5, stratify=labels, seed=seed)
    began = time.process_time()
    one = cross_fit(makes[0], plan.pairs[:1], fit, folder / "one", test=True, check=False)
    times = [time.process_time() - began]
    crossed = []
    for k, make in enumerate(makes):
        began = time.process_time()
        crossed.append(cross_fit(make, plan, fit, folder / str(k), test=True, check=False))
        times.append(time.process_time() - began)
    said = {"one model": one, "five folds": crossed[0], "five folds, the other": crossed[1]}
    blends = {f"blend, {how}": blend(crossed, how, log_loss) for how in ("mean", "greedy", "stack")}  # type: ignore[arg-type]
    found: dict[str, Any] = {"processor seconds": [round(t, 1) for t in times]}
    first = judged(one.test, answers) if one.test is not None else None
    assert first is not None
    for name, member in {**said, **blends}.items():
        assert member.test is not None
        test = judged(member.test, answers)
        own = {m.name: [interval(test, m), interval(member.oof, m)] for m in (accuracy, log_loss)}
        gain: Difference = versus(test, first, log_loss)
        found[name] = {k: [[i.value, i.low, i.high] for i in v] for k, v in own.items()} | {"gain": str(gain)}
        told = ", ".join(f"{k} {v[0]} (out of fold {v[1]})" for k, v in own.items())
        print(f"{name:22} {told}; against one model {gain}", flush=True)
    print(f"processor seconds of one, and of five folds of each recipe: {found['processor seconds']}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dogscats", type=Path, help="a folder with train/{cats,dogs} and valid/{cats,dogs}")
    parser.add_argument("--adult", type=Path, help="a csv file with a column is_test")
    parser.add_argument("--n", type=int, default=300, help="items to train and validate on")
    parser.add_argument("--seeds", type=int, default=1, help="samples of that many items")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.quick:
        args.n = 60
    found = []
    for seed in range(args.seeds):
        made = photographs(args.dogscats, args.n, seed) if args.dogscats else census(args.adult, args.n, seed)
        with tempfile.TemporaryDirectory() as folder:
            found.append(compare(*made, Path(folder), seed))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
