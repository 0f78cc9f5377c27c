"""Workers of a search with halving are killed at random moments; table and weights must be those of a quiet run.

    python examples/benchmarks/search_kills.py [--kills 200] [--minutes 10] [--workers 4]
    python examples/benchmarks/search_kills.py --starts 50          # eight processes begin one new folder at once

Four processes, forked so that they begin at once, make the same call; every now and then one gets SIGKILL, and another
takes its place. Epochs that end are counted by a callback of the trials; one is trained again where a kill came between
its end and its checkpoint.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn

import easylearn as el
from easylearn.experiment.search import search
from easylearn.experiment.space import log, powers, uniform

SPACE = {"lr": log(1e-4, 1.0), "hidden": powers(4, 64), "dropout": uniform(0, 0.6)}


def make(p):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(600, 6, generator=g)
    y = (x[:, 0] * x[:, 1] + 0.3 * torch.randn(600, generator=g) > 0).long()
    data = el.TensorData((x[:300], y[:300]), (x[300:], y[300:]), el.single_label(["a", "b"]), batch_size=8)
    layers = nn.Linear(6, p.hidden), nn.BatchNorm1d(p.hidden), nn.ReLU(), nn.Dropout(p.dropout), nn.Linear(p.hidden, 2)
    return el.Learner(data, nn.Sequential(*layers), seed=p.seed)


class Count(el.Callback):
    """Notes each epoch that ends, in a file of the process."""

    def __init__(self, folder):
        self.file = Path(os.devnull) if folder is None else Path(folder) / f"epochs-{os.getpid()}.txt"

    def on_epoch_end(self, run):
        with open(self.file, "a") as file:
            file.write(f"{id(run)} {run.epoch}\n")


def run(folder, trials, counts=None):
    def fit(learn, p, callbacks, **how):
        return learn.fit(p.lr, 3, cycle_len=1, cycle_mult=3, callbacks=[*callbacks, Count(counts)], **how)

    return search(make, SPACE, fit, folder, trials=trials, halving=3, method="evolution", every="epoch", progress=False)


def digests(found):
    def of(trial):
        weights = found.learner(trial.number).model.state_dict().values()
        return hashlib.blake2b(b"".join(v.contiguous().numpy().tobytes() for v in weights), digest_size=8).hexdigest()

    return [of(t) for t in found.trials]


def forked(work):
    """A process that does some work; forked, so that it begins at once."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def kill_through(work, draw, workers, kills):
    """Let workers do some work, killing one now and then; gives how many were killed."""
    crew, killed = [forked(work) for _ in range(workers)], 0
    while crew:
        time.sleep(draw.uniform(0, 0.6))
        for pid in list(crew):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                assert status == 0, status
                crew.remove(pid)
        if crew and killed < kills:
            victim = draw.choice(crew)
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            killed += 1
            crew[crew.index(victim)] = forked(work)
    return killed


def start_at_once(base, times, processes=8):
    """Let processes begin a new folder at once, again and again."""
    equal, begun = [], time.monotonic()
    quiet = search(make, SPACE, fit, base / "quiet", trials=processes, method="random", progress=False)
    for i in range(times):
        folder = base / f"at-once-{i}"
        work = partial(search, make, SPACE, fit, folder, trials=processes, method="random", progress=False)
        crew = [forked(work) for _ in range(processes)]
        codes = [os.waitpid(pid, 0)[1] for pid in crew]
        lines = sum(len(f.read_text().splitlines()) for f in (folder / "events").iterdir())
        equal.append(codes == [0] * processes and lines == processes and work().table().equals(quiet.table()))
    print(
        f"{processes} processes begun at once on a new folder, {times} times: in {sum(equal)} all trials done, once "
        f"each, the table that of one process; {time.monotonic() - begun:.0f} s"
    )


def fit(learn, p, **how):
    return learn.fit(p.lr, 1, **how)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--starts", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    base = Path(tempfile.mkdtemp())
    if chosen.starts:
        return start_at_once(base, chosen.starts)
    quiet = run(base / "quiet", chosen.trials, base)
    epochs = sum(len(f.read_text().splitlines()) for f in base.glob("epochs-*.txt"))
    draw, kills, trained, equal = random.Random(0), 0, 0, []
    deadline = time.monotonic() + 60 * chosen.minutes
    while kills < chosen.kills and time.monotonic() < deadline:
        folder = base / f"killed-{len(equal)}"
        folder.mkdir()
        work = partial(run, folder / "search", chosen.trials, folder)
        kills += kill_through(work, draw, chosen.workers, chosen.kills - kills)
        found = run(folder / "search", chosen.trials)
        equal.append((found.table().equals(quiet.table()), digests(found) == digests(quiet)))
        trained += sum(len(f.read_text().splitlines()) for f in folder.glob("epochs-*.txt"))
        print(f"{kills} kills, {len(equal)} searches: table and weights equal {equal[-1]}", flush=True)
    print(
        f"{kills} SIGKILLs in {len(equal)} searches of {chosen.trials} trials by {chosen.workers} processes: tables "
        f"equal in {sum(e[0] for e in equal)}, all weights bit for bit in {sum(e[1] for e in equal)}; "
        f"{trained} epochs ended, {len(equal) * epochs} in as many quiet searches"
    )


if __name__ == "__main__":
    main()
