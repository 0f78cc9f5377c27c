"""What a training loop costs: a network of 20-64-2 on ready batches of 64, microseconds per step.

The time of a step is a slope, (T(1,000 steps) - T(100)) / 900: what a fit costs once does not hide in it.
"""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from .settings import Figures, Repeat, Settings

SIZE = 64
Batches = list[tuple[Tensor, Tensor]]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2))


def rows(steps: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(steps * SIZE, 20, generator=torch.Generator().manual_seed(1))
    return x, (x[:, :5].sum(1) > 0).long()


def ready(steps: int) -> Batches:
    x, y = rows(steps)
    return list(zip(x.split(SIZE), y.split(SIZE), strict=True))


def slope(settings: Settings, prepare: Callable[[int], Callable[[], object]]) -> float:
    """Microseconds per step.

    Args:
        settings: of the suite.
        prepare: takes a number of steps and gives the fit of so many, everything before it done.
    """
    many = settings.pick(1000, 30)
    few = many // 10
    took = {}
    for steps in (few, many):
        fit = prepare(steps)
        begun = settings.now()
        fit()
        took[steps] = settings.now() - begun
    return (took[many] - took[few]) / (many - few) * 1e6


def bare(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], optimizer: torch.optim.Optimizer) -> None:
    """The loop that everybody has written."""
    model.train()
    for x, y in batches:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def by_hand(settings: Settings, batches: Callable[[int], Iterable[tuple[Tensor, Tensor]]], fused: bool) -> float:
    def prepare(steps: int) -> Callable[[], object]:
        model, given = network(), batches(steps)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=fused or None)
        return lambda: bare(model, given, optimizer)

    return slope(settings, prepare)


def plain(settings: Settings) -> Repeat:
    return lambda: {"us": by_hand(settings, ready, fused=False)}


def best(settings: Settings) -> Repeat:
    return lambda: {"us": by_hand(settings, ready, fused=True)}


def easylearn(settings: Settings) -> Repeat:
    """Record, loss guard, metrics and progress bar are on, as always."""
    from easylearn import LoaderData, single_label

    def data(steps: int) -> Any:
        batches = ready(steps)
        return LoaderData(batches, batches[:1], single_label(["no", "yes"]))

    return lambda: our_figures(settings, data)


def our_figures(settings: Settings, data: Callable[[int], Any]) -> Figures:
    """With plain's optimizer, with best's, and with easylearn's own."""
    from easylearn import Learner

    def prepare(steps: int, optimizer: Any) -> Callable[[], object]:
        learn = Learner(data(steps), network(), optimizer=optimizer, device="cpu")
        return lambda: learn.fit(1e-3, 1, cycle_len=None)

    fused = functools.partial(torch.optim.AdamW, fused=True)
    kinds = {"us": torch.optim.AdamW, "fused": fused, "default": None}
    return {name: slope(settings, lambda steps, o=optimizer: prepare(steps, o)) for name, optimizer in kinds.items()}


# -- peers -------------------------------------------------------------------------------------------------


def fastai(settings: Settings) -> Repeat:
    """All its defaults: recorder, progress bar, its own Adam."""
    from fastai.basics import DataLoaders

    def loaders(steps: int) -> Any:
        batches = ready(steps)
        return DataLoaders(batches, batches[:1])

    return lambda: {"us": fastai_slope(settings, loaders)}


def fastai_slope(settings: Settings, loaders: Callable[[int], Any]) -> float:
    import fastai.callback.all  # noqa: F401 - gives the learner its bar
    from fastai.basics import CrossEntropyLossFlat, Learner

    def prepare(steps: int) -> Callable[[], object]:
        learn = Learner(loaders(steps), network(), loss_func=CrossEntropyLossFlat())
        return lambda: learn.fit(1, 1e-3)

    return slope(settings, prepare)


class Sized:
    """A list of batches that Lightning does not take for a list of loaders."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def lightning(settings: Settings) -> Repeat:
    """As it comes (bar, logger, checkpoints), and with all of that off."""
    return lambda: {
        "us": lightning_slope(settings, lambda steps: Sized(ready(steps)), everything=True),
        "bare": lightning_slope(settings, lambda steps: Sized(ready(steps)), everything=False),
    }


def lightning_slope(settings: Settings, loader: Callable[[int], Any], everything: bool) -> float:
    warnings.filterwarnings("ignore")
    import lightning as pl

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = network()

        def training_step(self, batch: Any, _number: int) -> Tensor:
            loss = F.cross_entropy(self.model(batch[0]), batch[1])
            if everything:
                self.log("train_loss", loss, prog_bar=True)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    names = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    off = {} if everything else dict.fromkeys(names, False)

    def prepare(steps: int) -> Callable[[], object]:
        trainer = pl.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=str(settings.scratch), **off)
        module, batches = Module(), loader(steps)
        return lambda: trainer.fit(module, batches)

    return slope(settings, prepare)


class Ready(Dataset[Any]):
    """Says how many rows there are, and hands whole batches to `AsTheyAre`."""

    def __init__(self, steps: int) -> None:
        self.batches = ready(steps)

    def __len__(self) -> int:
        return len(self.batches) * SIZE

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        x, y = self.batches[i // SIZE]
        return x[i % SIZE], y[i % SIZE]


class AsTheyAre(Sized):
    def __init__(self, dataset: Ready, **_settings: Any) -> None:
        super().__init__(dataset.batches)


def skorch(settings: Settings) -> Repeat:
    def fit(steps: int) -> Callable[[], object]:
        net, data = skorch_net(iterator_train=AsTheyAre), Ready(steps)
        return lambda: net.fit(data, None)

    return lambda: {"us": slope(settings, fit)}


def skorch_net(**more: Any) -> Any:
    from skorch import NeuralNetClassifier

    return NeuralNetClassifier(
        network(), criterion=nn.CrossEntropyLoss, optimizer=torch.optim.AdamW, lr=1e-3, max_epochs=1, batch_size=SIZE,
        train_split=None, verbose=0, **more,
    )  # fmt: skip


def torch_loader(steps: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*rows(steps)), batch_size=SIZE, shuffle=True)
