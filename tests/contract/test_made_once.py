"""However items are cut into folds, subsets, splits, batches and processes: each is decoded and computed once."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from easylearn.learning import Learner
from easylearn.nn.body_head import BodyHead
from easylearn.vision.data import ImageData
from easylearn.vision.decode import ItemStage

N = 30
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


class Log:
    """Counts, also in other processes, which files are decoded and which rows a body is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def note(self, kind: str, what: object) -> None:
        fd = os.open(self.folder / kind, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{what}\n".encode())
        os.close(fd)

    def body(self, _: nn.Module, inputs: tuple[Tensor]) -> None:
        """A hook; rows of zeros only fill a batch up."""
        for row in inputs[0]:
            if row.any():
                self.note("computed", hash(row.contiguous().numpy().tobytes()))

    def has_each_once(self) -> bool:
        counts = [Counter((self.folder / kind).read_text().split()) for kind in ("decoded", "computed")]
        return all(len(count) == count.total() == N for count in counts)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    made = Log(tmp_path)
    read = ItemStage.load

    def noting(self: ItemStage, source: Any, name: str = "") -> Tensor:
        made.note("decoded", source)
        return read(self, source, name)

    monkeypatch.setattr(ItemStage, "load", noting)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for k in range(N):
        file = tmp_path / "images" / "ab"[k % 2] / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(file)
    return tmp_path / "images"


def learner(folder: Path, log: Log, valid: Any, **options: Any) -> Learner:
    data = ImageData.from_folder(folder, 24, valid=valid, **({"batch_size": 8, "workers": 0} | options))
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3, stride=2))
    body.register_forward_pre_hook(log.body)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = BodyHead(body, pool, nn.Linear(4, 2), [(body[0],), (body[2],)], mean=data.mean, std=data.std)
    return Learner(data, model, precompute=True, device="cpu", progress=False, path=log.folder / "models")


def test_five_folds(folder: Path, log: Log) -> None:
    for k in range(5):
        learner(folder, log, valid=list(range(k, N, 5))).fit(0.01, 2)
    assert log.has_each_once()


def test_a_half_first_then_all_and_other_batches(folder: Path, log: Log) -> None:
    table = pd.DataFrame({"file": [str(f) for f in sorted(folder.rglob("*.png"))]})
    table["label"] = [Path(f).parent.name for f in table["file"]]
    for rows, options in ((table[::3], {"batch_size": 3}), (table, {"batch_size": 16, "augment": "side_on"})):
        data = ImageData.from_df(rows, folder, size=24, valid=0.4, workers=0, **options)  # type: ignore[arg-type]
        learn = learner(folder, log, valid=0.5)
        learn.set_data(data)
        learn.fit(0.01, 1)
    assert log.has_each_once()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here")
@pytest.mark.parametrize("workers", [0, 2])
def test_folds_in_processes_side_by_side(folder: Path, log: Log, workers: int) -> None:
    def fit(k: int) -> None:
        learner(folder, log, valid=list(range(k, N, 3)), workers=workers).fit(0.01, 2)

    children = [multiprocessing.get_context("fork").Process(target=fit, args=(k,)) for k in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(180)
        assert child.exitcode == 0
    assert log.has_each_once()
