"""A search of thirty trials against the documented default in equal time, on real data.

    python examples/benchmarks/real_search.py --dogscats dogscats --n 300
    python examples/benchmarks/real_search.py --adult adult/adult.csv.gz --n 3000
    python examples/benchmarks/real_search.py --rossmann rossmann --n 20        # of so many shops
    python examples/benchmarks/real_search.py --imdb imdb/imdb_50k.csv.gz --n 1000
    python examples/benchmarks/real_search.py --quick            # made-up rows: no result

`method="gp", halving=3` chooses by the validation loss on a fifth of the items (of sales, the last weeks); its best
point is judged on test items that nobody saw. Beside it stand the default, and what else one would do with the time: as
many trainings of the default under other seeds as the search took, their mean. Features of a frozen body are stored
before, for both. Data and recipes are those of real_folds.py.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from real_folds import Case, chosen, follow, judged, parsed, tell

from easylearn import Crossed, Learner, cross_fit, search
from easylearn.experiment import choice, log, uniform
from easylearn.metrics import rmspe

HEAD = {"lr": log(1e-4, 1e-1), "hidden": choice([0, 64, 256]), "ps": uniform(0, 0.6), "wd": log(1e-5, 1.0)}
TABLE = {
    "lr": log(1e-3, 3e-2), "layers": choice(["50", "200-100", "400-200", "200-100-50"]), "ps": uniform(0, 0.5),
    "wd": log(1e-4, 1.0),
}  # fmt: skip


def in_cycles(learn: Learner, p: Any, **how: Any) -> Any:
    """Thirteen epochs, with rungs after one and four."""
    return learn.fit(p.lr, 3, cycle_len=1, cycle_mult=3, **how)


def compare(case: Case, trials: int, folder: Path) -> dict[str, Any]:
    """Search, train the default once and as often as the search took, and judge all on the test items."""
    make, fit = case.default or (case.make, case.fit)
    pair = case.plan[-1 if case.metrics[0] is rmspe else 0]

    def trained(name: str, fit: Callable[..., Any], **how: Any) -> tuple[Crossed, float]:
        began = time.process_time()
        found = cross_fit(follow(make), [pair], fit, folder / name, test=True, check=False, **how)  # type: ignore[arg-type]
        return found, time.process_time() - began

    trained("warm", case.fit, seed=99)  # what is stored, and imported
    began = time.process_time()
    found = search(
        lambda p: make(p, pair[1]), TABLE if case.default else HEAD, in_cycles, folder / "search", trials=trials,
        method="gp", halving=3, metric="valid_loss", progress=False,
    )  # fmt: skip
    spent = time.process_time() - began
    best, more = trained("best", in_cycles, p=found.best)
    once, each = trained("default", fit)
    n = max(2, round((spent + more) / each))
    bag, whole = trained("bag", fit, seeds=n)
    said = {name: judged(c.test, case.answers) for name, c in (("best", best), ("once", once), ("bag", bag))}
    seconds = [round(t, 1) for t in (spent + more, each, whole)]
    print(f"easylearn's search: {found!r}, {sum(t.epochs for t in found.trials)} epochs; processor seconds: {seconds}")
    rows = {
        f"search of {trials}": tell(f"search of {trials}", said["best"], case, {}),
        "the default": tell("the default", said["once"], case, {"the search": said["best"]}),
        f"mean of {n} seeds": tell(f"mean of {n} seeds", said["bag"], case, {"the search": said["best"]}),
    }
    return {**rows, "processor seconds": seconds, "best": str(found.best.point)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("dogscats", "adult", "rossmann", "imdb"):
        parser.add_argument(f"--{name}", type=Path, help="see real_folds.py")
    parser.add_argument("--n", type=int, default=300, help="items to train and validate on; of sales, shops")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of samples")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--quick", action="store_true")
    args = parsed(parser)
    torch.set_num_threads(1)
    if args.quick:
        args.trials = 4
    found = []
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            found.append(compare(chosen(args, seed, Path(folder)), args.trials, Path(folder)))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
