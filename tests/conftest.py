"""Small data, small models and learners over them, for every test of the training machine."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor, nn

from easylearn import device, keyed
from easylearn.data.loaders import TensorData
from easylearn.learning import Learner
from easylearn.nn.body_head import BodyHead
from easylearn.nn.groups import LayerGroup
from easylearn.task import multi_label, regression, single_label
from easylearn.train import waiting
from easylearn.train.callback import Callback
from easylearn.train.callbacks import progress
from easylearn.train.optim import sgd
from easylearn.train.state import Run

N_FEATURES = 5

# A busy machine is no error, and a change is blamed for what it did: the same examples each time. Others are drawn by
# pytest --hypothesis-profile=search
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("easylearn", settings.get_profile("search"), derandomize=True)
settings.load_profile("easylearn")


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """What a test draws from the global generators hangs on no test before it."""
    keyed.seed_global(0, "test")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or leaves anything in the user's cache."""
    monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long something takes changes nothing that is said; a test that asks for it sets another patience."""
    monkeypatch.setattr(waiting, "PATIENCE", float("inf"))
    monkeypatch.setattr(progress, "LONG", float("inf"))


@pytest.fixture
def disturb() -> Callable[[], None]:
    """Moves every global generator, each time to another state: what is keyed by a seed alone does not notice."""
    times = iter(range(1000))

    def move() -> None:
        number = next(times)
        random.seed(number), np.random.seed(number), torch.manual_seed(number)
        random.random(), np.random.rand(number + 1), torch.rand(number + 1)

    return move


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many threads each pool has that is opened meanwhile."""
    sizes: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, n: int) -> None:
            sizes.append(n)
            super().__init__(n)

    monkeypatch.setattr(device, "ThreadPoolExecutor", Pool)
    return sizes


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny matrices are quicker on one thread, and the cores are shared."""
    torch.set_num_threads(1)


@pytest.fixture
def make_data() -> Callable[..., TensorData]:
    """A factory of tensors in memory that a small network can learn."""

    def make(
        kind: str = "single_label",
        n_train: int = 22,
        n_valid: int | None = 10,
        n_test: int | None = None,
        batch_size: int = 4,
        n_out: int = 3,
        seed: int = 0,
        **changes: Any,
    ) -> TensorData:
        g = torch.Generator().manual_seed(seed)
        weight = torch.randn(N_FEATURES, n_out, generator=g)

        def part(n: int) -> tuple[Tensor, Tensor]:
            x = torch.randn(n, N_FEATURES, generator=g)
            score = x @ weight
            if kind == "single_label":
                return x, score.argmax(1)
            return x, (score > 0).float() if kind == "multi_label" else score

        names = [f"c{i}" for i in range(n_out)]
        task = {"single_label": single_label, "multi_label": multi_label, "regression": regression}[kind](names)
        given: dict[str, Any] = {
            "train": part(n_train),
            "valid": None if n_valid is None else part(n_valid),
            "task": task,
            "test": None if n_test is None else part(n_test)[0],
            "batch_size": batch_size,
        }
        return TensorData(**{**given, **changes})

    return make


def _mlp(n_out: int) -> tuple[nn.Module, list[LayerGroup]]:
    stem = nn.Sequential(nn.Linear(N_FEATURES, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))
    late = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))
    head = nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, n_out))
    model = nn.Sequential(stem, late, head)
    return model, [LayerGroup("stem", (stem,)), LayerGroup("late", (late,)), LayerGroup("head", (head,))]


def _plain(n_out: int) -> tuple[nn.Module, list[LayerGroup] | None]:
    return nn.Sequential(nn.Linear(N_FEATURES, 8), nn.Tanh(), nn.Linear(8, n_out)), None


def _body_head(n_out: int) -> tuple[nn.Module, list[LayerGroup] | None]:
    (stem, late, head), _ = _mlp(n_out)
    body = nn.Sequential(stem, late)
    return BodyHead(body, nn.Identity(), head, [(stem,), (late,)], mean=[0.0], std=[1.0]), None


@pytest.fixture
def make_model() -> Callable[..., tuple[nn.Module, list[LayerGroup] | None]]:
    """A factory of small networks with their layer groups: "mlp" (three groups), "plain" (one), "body_head"."""

    def make(kind: str = "mlp", n_out: int = 3, seed: int = 0) -> tuple[nn.Module, list[LayerGroup] | None]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return {"mlp": _mlp, "plain": _plain, "body_head": _body_head}[kind](n_out)

    return make


@pytest.fixture
def make_learner(
    make_data: Callable[..., TensorData], make_model: Callable[..., Any], tmp_path: Path
) -> Callable[..., Learner]:
    """A factory of learners on the CPU: the same arguments give the same learner."""

    def make(model: str | nn.Module = "mlp", data: Any = None, model_seed: int = 0, **settings: Any) -> Learner:
        data = make_data() if data is None else data
        groups = None
        if isinstance(model, str):
            model, groups = make_model(model, data.task.n_out, model_seed)
        defaults = {
            "groups": groups,
            "optimizer": sgd,
            "device": "cpu",
            "progress": False,
            "path": tmp_path / "models",
        }
        return Learner(data, model, **{**defaults, **settings})

    return make


@pytest.fixture
def weights() -> Callable[..., dict[str, Tensor]]:
    """A function that copies all weights and buffers of a model or learner."""

    def copy(of: Learner | nn.Module) -> dict[str, Tensor]:
        model = of.model if isinstance(of, Learner) else of
        return {name: value.detach().clone() for name, value in model.state_dict().items()}

    return copy


@pytest.fixture
def same() -> Callable[..., bool]:
    """A function that says whether two copies made by `weights` are equal bit for bit."""

    def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
        return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)

    return equal


class _Each(Callback):
    """Calls a function at one hook, or at several."""

    def __init__(self, **at: Callable[[Run], Any]) -> None:
        self.at = at

    def _do(self, hook: str, run: Run) -> None:
        if hook in self.at:
            self.at[hook](run)

    def on_fit_begin(self, run: Run) -> None:
        self._do("fit_begin", run)

    def on_epoch_begin(self, run: Run) -> None:
        self._do("epoch_begin", run)

    def on_batch_begin(self, run: Run) -> None:
        self._do("batch_begin", run)

    def on_loss(self, run: Run) -> None:
        self._do("loss", run)

    def on_grads(self, run: Run) -> None:
        self._do("grads", run)

    def on_batch_end(self, run: Run) -> None:
        self._do("batch_end", run)

    def on_validate_begin(self, run: Run) -> None:
        self._do("validate_begin", run)

    def on_validate_end(self, run: Run) -> None:
        self._do("validate_end", run)

    def on_epoch_end(self, run: Run) -> None:
        self._do("epoch_end", run)

    def on_fit_end(self, run: Run) -> None:
        self._do("fit_end", run)


@pytest.fixture
def at() -> type[_Each]:
    """`at(batch_end=fn, ...)`: a callback that calls `fn(run)` at those hooks."""
    return _Each
