"""A search whose trials Ray places, on as many machines as it has; the table is that of one process.

    pip install ray
    python ray_search.py                            # starts Ray here, with two workers
    ray start --head; RAY_ADDRESS=auto python ray_search.py --folder /shared/runs/rate

Ray says where a trial runs, not which. The folder has to be seen by all machines, and easylearn installed on them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import ray
import torch

from easylearn import Learner, TensorData, search, single_label
from easylearn.experiment import log, powers


@ray.remote(num_cpus=1, max_retries=3)  # num_gpus=1 where each trial is to have one
def call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)


class RayExecutor(Executor):
    """Ray as an executor; a worker that dies is replaced, and its trial goes on from its checkpoint."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        found: Future[Any] = call.remote(fn, args, kwargs).future()
        return found


def make(p: Any) -> Learner:
    x = torch.randn(600, 8, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] * x[:, 1] > 0).long()
    data = TensorData((x[:400], y[:400]), (x[400:], y[400:]), single_label(["a", "b"]), batch_size=64)
    with torch.random.fork_rng():
        torch.manual_seed(p.seed)
        net = torch.nn.Sequential(torch.nn.Linear(8, p.hidden), torch.nn.ReLU(), torch.nn.Linear(p.hidden, 2))
    return Learner(data, net, seed=p.seed)


def fit(learn: Learner, p: Any, **how: Any) -> Any:
    return learn.fit(p.lr, 3, cycle_len=1, **how)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=None, help="of the search; all machines have to see it")
    parser.add_argument("--trials", type=int, default=12)
    args = parser.parse_args()
    if "RAY_ADDRESS" in os.environ:
        ray.init()
    else:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    folder = args.folder or tempfile.mkdtemp()
    space = {"lr": log(1e-3, 1.0), "hidden": powers(8, 64)}
    found = search(make, space, fit, folder, trials=args.trials, workers=RayExecutor(), progress=False)
    print(found.table().to_string())
    print(found)
    ray.shutdown()


if __name__ == "__main__":
    main()
