"""What tracking costs: `Track` for a step, and 1,000 runs compared; trackers that are absent or raise at every call.

    python examples/benchmarks/tracking.py [--quick]

CPU time of one thread, in pairs of fits with and without `Track` that take turns in a random order. A fit is timed in
whole (its fixed cost is told apart: describing the data, asking git, and files that are synced).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
import types
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

import easylearn as el
from easylearn.experiment.lines import append_lines, line_of


def make(width: int) -> el.Learner:
    """A network for a table: 30 numbers, two hidden layers, batches of 64."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(64 * 100, 30, generator=g)
    y = (x[:, 0] > 0).long()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(30, width), nn.ReLU(), nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, 2)
    )
    data = el.TensorData((x, y), (x[:64], y[:64]), el.single_label(["a", "b"]), batch_size=64)
    return el.Learner(data, model, device="cpu", progress=False)


def cpu(learn: el.Learner, epochs: int, callbacks: list[el.Callback]) -> float:
    begun = time.process_time()
    learn.fit(1e-3, epochs, callbacks=callbacks)
    return time.process_time() - begun


def overhead(folder: Path, width: int, rounds: int, epochs: int) -> None:
    ratios, fixed, steps = [], [], 100 * epochs
    learn, tracked = make(width), make(width)
    order = random.Random(0)
    for i in range(rounds + 1):
        times = {}
        for name in order.sample(["with", "without"], 2):
            callbacks: list[el.Callback] = [el.Track(folder / f"{width}_{i}")] if name == "with" else []
            times[name] = cpu(tracked if name == "with" else learn, epochs, callbacks)
        if i:  # the first pair warms up
            ratios.append(times["with"] / times["without"])
            fixed.append(times["without"] / steps * 1e6)
    ratios.sort()
    low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
    step, ratio = statistics.median(fixed), statistics.median(ratios)
    print(
        f"hidden {width}: a step takes {step:.0f} us of CPU; a fit of {steps} steps with Track {ratio:.3f} "
        f"of one without (80 % of {rounds} pairs: {low:.3f} to {high:.3f})"
    )


def hooks_alone(folder: Path, width: int, rounds: int) -> None:
    """What Track takes of a step, added up: free of what else the machine does."""
    learn, n = make(width), 4000
    learn.fit(1e-3, 1)
    found = []
    for i in range(rounds):
        timed = Timed(folder / f"alone_{width}_{i}")
        whole = cpu(learn, n // 100, [timed])
        found.append((timed.rows / n + timed.look, (whole - timed.rows - timed.fixed) / n, timed.fixed))
    ratios = sorted(1 + hooks / step for hooks, step, _ in found)
    middle = statistics.median(ratios)
    hooks, step, fixed = map(statistics.median, zip(*found, strict=True))
    print(
        f"hidden {width}: Track takes {hooks * 1e6:.1f} us of a step of {step * 1e6:.0f} us, so {middle:.3f} "
        f"(of {rounds}: {ratios[0]:.3f} to {ratios[-1]:.3f}); begin and end of a fit {fixed * 1e3:.1f} ms"
    )


class Timed(el.Track):
    """Track with its costs: of rows, of begin and end, and of looking at the clock, which each step does."""

    rows = fixed = look = 0.0

    def begin(self, run: Any) -> None:
        begun = time.process_time()
        for _ in range(10_000):
            self.on_batch_end(run)
        self.look = (time.process_time() - begun) / 10_000
        begun = time.process_time()
        super().begin(run)
        self.fixed += time.process_time() - begun + self.look * 10_000

    def follow(self, run: Any) -> None:
        begun = time.process_time()
        super().follow(run)
        self.rows += time.process_time() - begun

    def finish(self, run: Any) -> None:
        begun = time.process_time()
        super().finish(run)
        self.fixed += time.process_time() - begun


def many(folder: Path, n: int) -> None:
    """`n` copies of a real run with other numbers: compared, as a table, as differences, a drawing and a page."""
    make(16).fit(1e-3, 10, callbacks=[el.Track(folder / "real", code=False)])
    (real,) = el.compare(folder / "real")
    draw = random.Random(0)
    for i in range(n):
        place = folder / "many" / f"run_{i:04d}"
        place.mkdir(parents=True)
        info = json.loads(json.dumps(real.info))
        info["fits"][0]["arguments"] |= {"lr": {"model": draw.random()}, "seed": i % 5}
        (place / "run.json").write_text(json.dumps(info), encoding="utf-8")
        rows = [{k: v + draw.random() if k == "valid_loss" else v for k, v in row.items()} for row in real.epochs]
        append_lines(place / "epochs.jsonl", map(line_of, rows))
        (place / "steps.jsonl").write_bytes((folder / "real" / "steps.jsonl").read_bytes())
    import matplotlib.figure
    import pandas  # noqa: F401 - what importing them costs is not asked

    matplotlib.figure.Figure()
    times = [time.process_time()]
    runs = el.compare(folder / "many/*")
    times.append(time.process_time())
    runs.table(sort="valid_loss")
    runs.differences(0, 1)
    times.append(time.process_time())
    runs.report(folder / "runs.html")
    times.append(time.process_time())
    read, tabled, page = (after - before for before, after in pairwise(times))
    cells = [f"read {read:.2f} s", f"table and differences {tabled:.2f} s", f"page with three drawings {page:.2f} s"]
    print(f"{n} runs compared in {times[-1] - times[0]:.2f} s of CPU: {', '.join(cells)}")


def absent_or_raising() -> None:
    """Each tracker where its package is absent, and where every call of it raises, beside a fit without."""

    def fit(callbacks: list[el.Callback]) -> list[torch.Tensor]:
        learn = make(16)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            learn.fit(1e-2, 3, callbacks=callbacks)
        counts.append(len(heard))
        return list(learn.model.state_dict().values())

    class Raises:
        def __getattr__(self, name: str) -> Any:
            raise ZeroDivisionError(name)

    counts: list[int] = []
    plain, names = (
        fit([]),
        ("torch.utils.tensorboard", "torch.utils.tensorboard.summary", "wandb", "mlflow", "mlflow.entities"),
    )
    same = 0
    for kind in ("absent", "raising"):
        for name in names:
            module: Any = None if kind == "absent" else types.ModuleType(name)
            if module is not None:
                for word in ("SummaryWriter", "hparams", "init", "Settings", "MlflowClient", "Param", "Metric"):
                    setattr(module, word, Raises())
            sys.modules[name] = module
        for make_one in (lambda: el.TensorBoard("board"), lambda: el.WandB("p"), lambda: el.MLflow("p")):
            same += all(map(torch.equal, plain, fit([make_one()])))
    print(f"trackers absent or raising: {same} of 6 fits with weights identical to the bit, warnings {counts[1:]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a moment instead of minutes")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    print(f"easylearn {el.__version__}, torch {torch.__version__}, one thread")
    with tempfile.TemporaryDirectory() as name:
        for width in (64,) if quick else (64, 200):
            hooks_alone(Path(name), width, 1 if quick else 11)
            overhead(Path(name), width, 2 if quick else 25, 1 if quick else 20)
        many(Path(name), 20 if quick else 1000)
    absent_or_raising()
