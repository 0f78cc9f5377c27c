"""The same column means the same for images, texts and tables: task, classes, their order, targets, refusals."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import easylearn as el
from easylearn.data.bunch import Data
from easylearn.errors import ArgumentError, DataError, EasyLearnWarning
from easylearn.learning import Learner
from tests.data.label_cases import CASES, Case

ROWS = 800
Made = tuple[str, tuple[str, ...], torch.Tensor]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i in range(ROWS):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def frame_of(values: Any, extra: pd.DataFrame | None, **more: Callable[[int], Any]) -> tuple[pd.DataFrame, Any]:
    """A table with the labels and what else is needed, and the name or names of the labels."""
    labels = (values.to_frame() if isinstance(values, pd.Series) else values).reset_index(drop=True)
    features = {name: [make(i) for i in range(len(labels))] for name, make in more.items()}
    names = list(labels.columns)
    return labels.assign(**features).join(pd.DataFrame() if extra is None else extra), (
        names[0] if len(names) == 1 else names
    )


def images(values: Any, folder: Path, extra: pd.DataFrame | None = None, **how: Any) -> Data[Any]:
    df, labels = frame_of(values, extra, file=lambda i: f"{i}.png")
    return el.ImageData.from_df(
        df, folder, file_col="file", label_col=labels, size=4, workers=0, batch_size=2, cache=False, **how
    )


def texts(values: Any, folder: Path, extra: pd.DataFrame | None = None, **how: Any) -> Data[Any]:
    df, labels = frame_of(values, extra, text=lambda i: "good film" if i % 2 else "bad play")
    return el.TextData.from_df(df, "text", labels, min_freq=1, progress=False, batch_size=2, **how)


def tables(values: Any, folder: Path, extra: pd.DataFrame | None = None, **how: Any) -> Data[Any]:
    df, labels = frame_of(values, extra, x=lambda i: i % 3 + 0.5)
    return el.TabularData.from_df(df, labels, cat_names=[], cont_names=["x"], batch_size=2, **how)


KINDS: dict[str, Callable[..., Data[Any]]] = {"images": images, "texts": texts, "tables": tables}


def made(kind: str, case: Case, folder: Path, **options: Any) -> Made | str:
    """Kind of task, names and all targets in order; or the message with which it was refused."""
    values = case.make()
    n = len(values)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EasyLearnWarning)
            data = KINDS[kind](values, folder, valid=list(range(n - n // 4, n)), **options)
    except (DataError, ArgumentError) as error:
        return str(error)
    batches = [b for split in ("train", "valid") for b in data.loader(split).batches(torch.device("cpu"))]  # type: ignore[arg-type]
    order = [torch.cat([b.index for b in data.loader(s).batches(torch.device("cpu"))]) for s in data.splits]
    target = torch.cat([b.target for b in batches if b.target is not None])
    at = torch.cat([order[0], order[1] + len(order[0])]).argsort()
    return data.task.kind, data.task.names, target[at]


SHARED = [c for c in CASES if set(c.options) <= {"task", "label_sep"}]


@pytest.mark.parametrize("case", SHARED, ids=lambda c: c.name)
def test_the_same_column_means_the_same(case: Case, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {kind: made(kind, case, photos, **case.options) for kind in KINDS}
    for kind, one in found.items():
        if case.refused:
            assert isinstance(one, str), f"{kind} took it: {one}"
            assert re.search(case.refused.split(".*")[0], one, re.DOTALL) or "row" in one, f"{kind}: {one}"
        else:
            assert not isinstance(one, str), f"{kind}: {one}"
            assert (one[0], one[1]) == (case.kind, case.names), kind
            assert torch.equal(one[2], found["tables"][2]), kind  # type: ignore[arg-type]


def test_unbalanced_classes_can_be_drawn_alike_in_each_kind(photos: Path) -> None:
    values = pd.Series(["rare" if i % 10 == 0 else "usual" for i in range(200)], name="y")
    for kind, make in KINDS.items():
        data = make(values, photos, valid=0.2, weights="balanced")
        batches = data.loader("train", training=True).batches(torch.device("cpu"), seed=1)
        target = torch.cat([b.target for b in batches if b.target is not None]).float()
        assert abs(float(target.mean()) - 0.5) < 0.02, kind
        plain = torch.cat([b.target for b in data.loader("train").batches(torch.device("cpu")) if b.target is not None])
        assert abs(float(plain.float().mean()) - 0.9) < 0.02, kind


@pytest.mark.parametrize(
    ("how", "sizes"),
    [
        ({"groups": "who", "valid": 0.25}, [32, 8]),
        ({"time": "when", "valid": 0.25}, [30, 10]),
        ({"time": "when", "valid": "5D"}, [35, 5]),
        ({"valid": np.arange(40) % 4 == 0}, [30, 10]),
        ({"valid": [3, 4]}, [38, 2]),
        ({"valid": np.float32(0.25)}, [30, 10]),
        ({"valid": None}, [40]),
    ],
    ids=["groups", "time", "a length of time", "mask", "positions", "float32", "none"],
)
def test_each_kind_is_split_in_each_way(how: dict[str, Any], sizes: list[int], photos: Path) -> None:
    values = pd.Series(["ab"[i % 2] for i in range(40)], name="y")
    extra = pd.DataFrame({"who": [i // 4 for i in range(40)], "when": pd.date_range("2024-01-01", periods=40)})
    chosen = set()
    for kind, build in KINDS.items():
        data = build(values, photos, extra, **how)
        assert [len(data.ids(split)) for split in data.splits] == sizes, kind
        held_out = [int(str(i).removesuffix(".png")) for i in (data.ids("valid") if len(sizes) > 1 else [])]
        chosen.add(tuple(sorted(held_out)))
        assert "time" not in how or min(held_out) == 40 - len(held_out)
        assert (
            "groups" not in how
            or len({i // 4 for i in held_out} & {i // 4 for i in range(40) if i not in held_out}) == 0
        )
    assert len(chosen) == 1  # the very same rows, whatever the kind


def test_a_learner_of_each_kind_answers_threads_as_it_answers_alone(photos: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    values = pd.Series(["ab"[i % 2] for i in range(40)], name="y")
    learners: dict[str, tuple[Learner, list[Any]]] = {}
    data = images(values, photos, valid=0.25)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Dropout(0.5),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 2),
    )  # fmt: skip
    noise = np.random.default_rng(0).integers(0, 255, (8, 4, 4, 3), dtype=np.uint8)
    learners["images"] = Learner(data, net, device="cpu", progress=False), list(noise)
    learners["texts"] = (
        el.text_classifier_learner(texts(values, photos, valid=0.25), emb_size=8, n_hidden=8, n_layers=1,
                                   device="cpu", progress=False),
        ["good film", "bad", "play good", "film film", "good", "bad play", "film", "play"],
    )  # fmt: skip
    learners["tables"] = (
        el.tabular_learner(tables(values, photos, valid=0.25), [8], device="cpu", progress=False),
        [{"x": float(i)} for i in range(8)],
    )
    for kind, (learn, items) in learners.items():
        learn.fit(1e-2, 1)
        before = {n: t.clone() for n, t in learn.model.state_dict().items()}
        alone = [learn.predict([items[k], items[(k + 1) % 8]]).probs for k in range(8)]
        with ThreadPoolExecutor(8) as pool:
            found = list(
                pool.map(
                    lambda k, learn=learn, items=items: learn.predict([items[k % 8], items[(k + 1) % 8]]).probs,
                    range(1000),
                )
            )
        assert all(torch.equal(p, alone[k % 8]) for k, p in enumerate(found)), kind
        assert all(torch.equal(before[n], t) for n, t in learn.model.state_dict().items()), kind
        assert learn.model.training or not any(m.training for m in learn.model.modules()), kind
