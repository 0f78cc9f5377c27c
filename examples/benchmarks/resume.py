"""Kill -9 at random moments: how many resumed runs end with the same bits as a run that was left alone.

    python examples/benchmarks/resume.py --trials 10

For each kind of run (pictures, augmented and decoded by two workers; a table; a language model; masks and boxes, which
move with augmented images, or whose decoder learns from stored maps) one process trains to the end. In each trial
another one is killed at a random moment, a second, which resumes, is killed too, and a third goes on to the end.
Weights, losses and optimizer are compared byte for byte. The moments are spread over the whole life of a process: while
the model is made, between steps, while a checkpoint is written, in validation, after the end. Everything is made up, on
the CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from easylearn import (
    BoxData,
    Callback,
    ImageData,
    Learner,
    MaskData,
    Run,
    TabularData,
    TextLMData,
    detection_learner,
    language_model_learner,
    segmentation_learner,
    tabular_learner,
)
from easylearn.files import digest


def pictures() -> Learner:
    from PIL import Image

    folder, rng = Path("pictures"), np.random.default_rng(0)
    for k in range(64):
        file = folder / ("train" if k < 48 else "valid") / f"class{k % 2}" / f"{k}.png"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 200, (40, 40, 3), dtype=np.uint8) + np.uint8(50 * (k % 2))).save(file)
    data = ImageData.from_folder(folder, size=32, augment="side_on", batch_size=6, workers=2, cache=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), nn.BatchNorm2d(16),
            nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 2),
        )  # fmt: skip
    return Learner(data, net, device="cpu", progress=False)


def table() -> Learner:
    import pandas as pd

    rng, n = np.random.default_rng(0), 4000
    frame = pd.DataFrame({"shop": rng.integers(0, 50, n).astype(str), "x": rng.normal(size=n), "z": rng.normal(size=n)})
    frame["y"] = frame["x"] * 2 + frame["shop"].astype(int) / 10 + rng.normal(size=n)
    data = TabularData.from_df(frame, "y", cat_names=["shop"], cont_names=["x", "z"], task="regression", batch_size=64)
    return tabular_learner(data, [32], ps=0.1, device="cpu", progress=False)


def text() -> Learner:
    import pandas as pd

    draw = random.Random(0)
    texts = [" ".join(f"word{draw.randrange(50)}" for _ in range(draw.randint(5, 60))) for _ in range(300)]
    data = TextLMData.from_df(pd.DataFrame({"text": texts}), batch_size=8, bptt=20, progress=False)
    return language_model_learner(data, emb_size=16, n_hidden=32, n_layers=2, device="cpu", progress=False)


def scenes() -> tuple[np.ndarray, np.ndarray]:
    """Images of one light rectangle each, and where it is: top, left, bottom, right."""
    rng, n = np.random.default_rng(0), 60
    corner = rng.integers(0, 16, (n, 2))
    at = np.concatenate([corner, corner + rng.integers(8, 16, (n, 2))], 1)
    x = rng.integers(0, 120, (n, 32, 48, 3), dtype=np.uint8)
    for image, (top, left, bottom, right) in zip(x, at, strict=True):
        image[top:bottom, left:right] += 120
    return x, at


def body() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stem = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU())
        late = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        return nn.Sequential(stem, late, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))


HOW: dict[str, Any] = {"valid": 0.2, "augment": "side_on", "batch_size": 6, "workers": 0}


def masks(stored: bool = False) -> Learner:
    x, at = scenes()
    y = np.zeros(x.shape[:3], np.uint8)
    for mask, (top, left, bottom, right) in zip(y, at, strict=True):
        mask[top:bottom, left:right] = 1
    data = MaskData.from_arrays((x, y), codes=["back", "thing"], **HOW)
    return stores(segmentation_learner(data, body(), device="cpu", progress=False), stored)


def boxes(stored: bool = False) -> Learner:
    x, at = scenes()
    rows = [np.array([[left, top, right, bottom, 0]], np.float64) for top, left, bottom, right in at]
    data = BoxData.from_arrays((x, rows), classes=["thing"], **HOW)
    return stores(detection_learner(data, body(), device="cpu", progress=False), stored)


def stores(learn: Learner, stored: bool) -> Learner:
    if stored:
        learn.freeze()
        learn.precompute = True
    return learn


KINDS: dict[str, tuple[Callable[[], Learner], int]] = {  # and how many epochs
    "pictures": (pictures, 4),
    "table": (table, 3),
    "text": (text, 3),
    "masks": (masks, 3),
    "masks-stored": (partial(masks, True), 3),
    "boxes": (boxes, 3),
    "boxes-stored": (partial(boxes, True), 3),
}


class Result(Callback):
    """Writes down what the run ended with."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.result = ""

    def on_epoch_end(self, run: Run) -> None:
        if run.step == run.n_steps:
            self.note(run)

    def on_fit_end(self, run: Run) -> None:
        if run.step == run.n_steps:
            self.note(run)

    def note(self, run: Run) -> None:
        state = run.optimizer.state_dict()["state"]
        tensors = [*run.model.state_dict().values(), *(t for s in state.values() for t in s.values())]
        bits = [t.detach().reshape(-1).view(torch.uint8).numpy().tobytes() for t in tensors]
        self.file.write_text(digest([json.dumps(run.record.losses), *bits]), encoding="utf-8")


def process(kind: str, checkpoints: Path, every: str | int | None, result: Path, kill_after: float | None) -> bool:
    """Train in a process of its own; whether it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            warnings.filterwarnings("ignore", message="This DataLoader will create")  # more workers than cores
            make, epochs = KINDS[kind]
            learn = make()
            if any(checkpoints.glob("checkpoint_*")):
                learn.resume(checkpoints, callbacks=[Result(result)])
            elif every is None:
                learn.fit_one_cycle(0.01, epochs, callbacks=[Result(result)])
            else:
                learn.fit_one_cycle(0.01, epochs, callbacks=[Result(result)], checkpoint=checkpoints, every=every)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, -signal.SIGKILL):
        raise SystemExit(f"the {kind} run failed")
    return code == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10, help="for each kind of run (default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", help="write the figures here, too")
    parser.add_argument("--quick", action="store_true", help="one trial each, to see that it runs")
    chosen = parser.parse_args()
    out = Path(chosen.json).absolute() if chosen.json else None
    trials, draw, figures = 1 if chosen.quick else chosen.trials, random.Random(chosen.seed), {}
    torch.set_num_threads(1)  # a process with threads cannot be forked
    weight = nn.Parameter(torch.ones(1))
    torch.optim.SGD([weight]).step()  # imports much at its first step, which each process would do anew
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["EASYLEARN_CACHE"] = str(Path(folder) / "cache")
        for kind in chosen.kinds:
            KINDS[kind][0]()  # imports what it needs
            process(kind, Path("none"), None, Path("whole"), None)
            begun = time.perf_counter()
            process(kind, Path(f"{kind}-timed"), "epoch", Path("timed"), None)
            length = time.perf_counter() - begun
            same = kills = 0
            for trial in range(trials):
                place, result = Path(f"{kind}-{trial}"), Path(f"{kind}-{trial}.txt")
                every = draw.choice([1, 3, "epoch", "0.05s"])
                for _ in range(2):
                    kills += not process(kind, place, every, result, draw.uniform(0.0, length))
                process(kind, place, every, result, None)
                same += result.read_text(encoding="utf-8") == Path("whole").read_text(encoding="utf-8")
            figures[kind] = {"trials": trials, "killed": kills, "bit-identical": same, "seconds of a run": length}
            print(
                f"easylearn, {kind:13s} {trials} runs killed {kills} times: {same} bit-identical ({length:.1f} s each)"
            )
        os.chdir("/")
    if out:
        out.write_text(json.dumps({"torch": torch.__version__, "runs": figures}, indent=1), encoding="utf-8")
    if any(f["bit-identical"] != f["trials"] for f in figures.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
