"""Exports of every kind: what is loaded says what the learner said, to the bit, and goes on training."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from easylearn.artefact.archive import Archive
from easylearn.data.loaders import TensorData
from easylearn.errors import ArgumentError, DataError, EasyLearnError, StateError, WeightsError
from easylearn.export import Predictor, load_learner, load_predictor
from easylearn.learning import Learner
from easylearn.nn.registry import register
from easylearn.tabular.data import TabularData
from easylearn.tabular.learner import tabular_learner
from easylearn.tabular.processing import TableProcessor
from easylearn.task import Prediction, Predictions, single_label
from easylearn.texts.callbacks import ActivationPenalty
from easylearn.texts.data import TextData, TextLMData
from easylearn.texts.generate import generate
from easylearn.texts.learner import language_model_learner, text_classifier_learner
from easylearn.train.optim import adamw
from easylearn.vision.data import ImageData
from easylearn.vision.learner import vision_learner

QUIET: dict[str, Any] = {"device": "cpu", "progress": False}
TEXTS = [f"{a} film that {b} liked" for a in ("good", "bad", "long", "short") for b in ("we", "they", "all", "few")]


class Own(nn.Module):
    """A net of one's own that is not registered."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2), nn.ReLU())
        self.pool, self.flat, self.out = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.flat(self.pool(self.body(x))))
        return out


@register("tests.export.registered")
class Registered(Own):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.out = nn.Linear(6, width)


def layers() -> nn.Module:
    return nn.Sequential(*Own().children())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng, rows = np.random.default_rng(0), []
    (folder / "new" / "deep").mkdir(parents=True)
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (40, 52, 3), np.uint8)).save(folder / f"{i}.jpg")
        rows.append(f"{i}.jpg,{'ab'[i % 2]},{'x' if i % 3 else 'x y'},{i / 10}")
    (folder / "labels.csv").write_text("file,label,many,number\n" + "\n".join(rows))
    for i, name in enumerate(["2.png", "1.jpg", "deep/0.jpg"]):
        Image.fromarray(rng.integers(0, 255, (30 + i, 50, 3), np.uint8)).save(folder / "new" / name)
    (folder / "new.csv").write_text("name\nnew/2.png\nnew/deep/0.jpg\nnew/1.jpg\n")
    return folder


def images(folder: Path, arch: Any, task: str = "label", size: int = 24, **changes: Any) -> Learner:
    column: dict[str, Any] = {
        "label": {"label_col": 1},
        "many": {"label_col": 2, "label_sep": " "},
        "number": {"label_col": 3, "task": "regression"},
    }[task]
    data = ImageData.from_csv(folder, "labels.csv", size=size, batch_size=4, workers=0, cache=False, **column)
    torch.manual_seed(1)
    options = {"pretrained": False, "hidden": (8,), **QUIET, **changes}
    if isinstance(arch, nn.Module):
        options.pop("pretrained")
    return vision_learner(data, arch, **options)


def frame(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "shop": rng.choice(list("abcd"), n),
            "day": rng.integers(0, 7, n),
            "open": rng.random(n) < 0.5,
            "size": rng.normal(50, 7, n),
            "rain": np.where(rng.random(n) < 0.2, np.nan, rng.random(n)),
            "label": rng.choice(["yes", "no"], n),
            "wet": rng.integers(0, 2, n),
            "busy": rng.integers(0, 2, n),
            "sales": rng.random(n) * 100 + 1,
            "profit": rng.normal(0, 1, n),
        }
    )


COLUMNS: dict[str, Any] = {"cat_names": ["shop", "day", "open"], "cont_names": ["size", "rain"], "batch_size": 16}
NEW_ROWS = frame(75).iloc[60:].assign(shop=lambda d: ["unheard", None, *d["shop"][2:]]).drop(columns=["label", "sales"])


def table(target: Any = "label", **changes: Any) -> Learner:
    return tabular_learner(TabularData.from_df(frame(), target, **COLUMNS, **changes), (8,), **QUIET)


def texts(labels: Any = None, **changes: Any) -> Learner:
    if labels is None:
        labels = ["pos" if "good" in t or "long" in t else "neg" for t in TEXTS]
    df = pd.DataFrame({"text": TEXTS, "label": labels})
    data = TextData.from_df(df, "text", "label", min_freq=1, batch_size=2, progress=False, **changes)
    return text_classifier_learner(data, emb_size=8, n_hidden=12, n_layers=2, layers=(8,), **QUIET)


def language_model(**changes: Any) -> Learner:
    data = TextLMData.from_lists(TEXTS * 3, min_freq=1, batch_size=4, bptt=7, progress=False, **changes)
    return language_model_learner(data, emb_size=16, n_hidden=24, n_layers=2, **QUIET)


def tensors(n: int = 12) -> Learner:
    x, y = torch.randn(n, 5, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 3
    data = TensorData((x[:8], y[:8]), (x[8:], y[8:]), single_label(["a", "b", "c"]), batch_size=4)
    return Learner(data, nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)), **QUIET)


MAKERS: dict[str, Callable[[Path], Learner]] = {
    "layers": lambda p: images(p, layers()),
    "layers, many labels": lambda p: images(p, layers(), "many"),
    "layers, numbers": lambda p: images(p, layers(), "number"),
    "torchvision": lambda p: images(p, "squeezenet1_1", size=32),
    "torchvision, many labels": lambda p: images(p, "squeezenet1_1", "many", size=32),
    "timm": lambda p: images(p, "timm/test_resnet", size=32),
    "timm, a transformer": lambda p: images(p, "timm/test_vit", "number", size=32),
    "registered": lambda p: images(p, Registered(4)),
    "own": lambda p: images(p, Own()),
    "own, cut by a function": lambda p: images(p, Own(), cut=lambda net: net.body),
    "table": lambda p: table(),
    "table, many labels": lambda p: table(["wet", "busy"], task="multi_label"),
    "table, numbers": lambda p: table(["sales", "profit"]),
    "table, log": lambda p: table("sales", log_target=True),
    "table, quantiles": lambda p: table(scale="quantile"),
    "text": lambda p: texts(),
    "text, many labels": lambda p: texts(["a b", "a", "b", "a b"] * 4, label_sep=" "),
    "text, numbers": lambda p: texts(list(np.linspace(0.5, 2, 16))),
    "text, pieces, backward": lambda p: texts(tokenizer="bpe", backward=True),
    "tensors": lambda p: tensors(),
}


def items_of(kind: str, folder: Path) -> tuple[Any, list[Any]]:
    """One item and several."""
    if kind.startswith("table"):
        rows = NEW_ROWS.to_dict("records")
        return rows[0], rows
    if kind.startswith("text"):
        return "a good film", ["a good film", "", "nobody liked the long one " * 9, "ALL of it!"]
    if kind.startswith("tensors"):
        return None, torch.linspace(-1, 1, 20).reshape(4, 5)  # type: ignore[return-value]
    files = [str(folder / "new" / n) for n in ("2.png", "deep/0.jpg", "1.jpg")]
    return files[0], files


def equal(a: Any, b: Any) -> bool:
    return torch.equal(a.probs, b.probs) and a.label == b.label and a.index == b.index


@pytest.mark.parametrize("kind", MAKERS)
def test_round_trip(kind: str, pictures: Path, tmp_path: Path) -> None:
    if kind.startswith("timm"):
        timm = pytest.importorskip("timm")
        if not timm.is_model("test_resnet"):
            pytest.skip("an old timm")
    learn = MAKERS[kind](pictures)
    path = tmp_path / "file"
    report = learn.export(path)
    own = {"model": Own()} if kind.startswith("own") else {}
    if kind == "own, cut by a function":
        own = {"model": images(pictures, Own(), cut=lambda net: net.body).model}
    assert report.checked or kind == "own"
    predictor = load_predictor(path, device="cpu", **own)
    again = load_learner(path, **own, **QUIET)
    one, many = items_of(kind, pictures)
    want = learn.predict(many)
    got = predictor.predict(many)
    assert isinstance(got, Predictions) and got.labels == want.labels and got.ids == want.ids
    assert torch.equal(got.probs, want.probs)
    assert torch.equal(again.predict(many).probs, want.probs)
    assert all(equal(p, want[i]) for i, (_, p) in enumerate(predictor.stream(many)))
    if one is not None:
        single = predictor.predict(one)
        assert isinstance(single, Prediction)
        assert equal(single, learn.predict(one)) and equal(again.predict(one), single)
    first = path.read_bytes()
    learn.export(path)
    assert path.read_bytes() == first
    predictor.task, predictor.classes, repr(predictor)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("tokenizer", ["word", "bpe"])
def test_a_language_model(tmp_path: Path, backward: bool, tokenizer: str) -> None:
    learn = language_model(backward=backward, tokenizer=tokenizer)
    learn.export(tmp_path / "file")
    predictor, again = load_predictor(tmp_path / "file", device="cpu"), load_learner(tmp_path / "file", **QUIET)
    for options in ({}, {"temperature": 0}, {"top_k": 3, "seed": 4}):
        want = generate(learn, "good film", 8, **options)
        assert generate(predictor, "good film", 8, **options) == want == generate(again, "good film", 8, **options)
    with pytest.raises(ArgumentError, match="generate"):
        predictor.predict("good film")


@pytest.mark.parametrize("make", [texts, table, tensors, language_model])
def test_in_8_bits_and_pruned(tmp_path: Path, make: Callable[[], Learner]) -> None:
    learn = make()
    before = {n: t.clone() for n, t in learn.model.state_dict().items()}
    for options in ({"quantize": "int8"}, {"prune": 0.5}, {"prune": 0.5, "quantize": "int8"}):
        report = learn.export(tmp_path / "file", **options)
        assert set(report.rows) == {"before", "after"} and "before" in str(report)
        load_predictor(tmp_path / "file", device="cpu")
    assert all(torch.equal(t, before[n]) for n, t in learn.model.state_dict().items())


# -- folders, tables and streams ---------------------------------------------------------------------------


def test_pictures_in_a_folder_and_a_csv(pictures: Path, tmp_path: Path) -> None:
    learn = images(pictures, layers())
    learn.export(tmp_path / "file")
    predictor = load_predictor(tmp_path / "file", device="cpu")
    folder, listed = predictor.predict(pictures / "new"), predictor.predict(pictures / "new.csv")
    assert folder.ids == ("1.jpg", "2.png", "deep/0.jpg") and listed.ids == ("new/2.png", "new/deep/0.jpg", "new/1.jpg")
    with pytest.raises(DataError, match=r"is a folder: pass Path"):
        predictor.predict(str(pictures / "new"))
    want = {n: learn.predict(pictures / "new" / n).probs for n in folder.ids}
    for ids, found in ((folder.ids, folder), ([n[4:] for n in listed.ids], listed)):
        for n, probs in zip(ids, found.probs, strict=True):
            assert torch.allclose(probs, want[n], atol=1e-6)
    count = predictor.to_csv([pictures / "new", pictures / "new.csv"], tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    ids = [*(f"{pictures}/new/{n}" for n in folder.ids), *(f"{pictures}/new.csv:{n}" for n in listed.ids)]
    assert count == 6 and [r["id"] for r in rows] == ids  # of several sources: names alone could be the same
    assert list(rows[0]) == ["id", "label", "p_a", "p_b"]
    assert [r["label"] for r in rows[:3]] == list(folder.labels)
    assert float(rows[0]["p_a"]) == pytest.approx(float(folder.probs[0, 0]), rel=1e-6)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image files"):
        predictor.predict(tmp_path / "empty")
    with pytest.raises(DataError, match=r"gone\.jpg"):
        predictor.predict(tmp_path / "gone.jpg")


def test_rows_in_files_and_frames(tmp_path: Path) -> None:
    learn = table(["sales", "profit"])
    learn.export(tmp_path / "file")
    predictor = load_predictor(tmp_path / "file", device="cpu")
    NEW_ROWS.to_csv(tmp_path / "rows.csv", index=False)
    NEW_ROWS.to_parquet(tmp_path / "rows.parquet")
    want = learn.predict(NEW_ROWS).probs
    found = {
        "frame": predictor.predict(NEW_ROWS),
        "csv": predictor.predict(tmp_path / "rows.csv"),
        "parquet": predictor.predict(tmp_path / "rows.parquet"),
    }
    for said in found.values():
        assert torch.equal(said.probs, want)
    assert found["frame"].ids == tuple(map(str, NEW_ROWS.index)) and found["csv"].ids == tuple(map(str, range(15)))
    streamed = list(predictor.stream(NEW_ROWS))
    assert [i for i, _ in streamed] == list(found["frame"].ids) and torch.equal(
        torch.stack([p.probs for _, p in streamed]), want
    )
    assert predictor.to_csv(NEW_ROWS, tmp_path / "out.csv") == 15
    assert list(pd.read_csv(tmp_path / "out.csv").columns) == ["id", "sales", "profit"]
    assert list(found["csv"].to_frame().columns) == ["id", "sales", "profit"]
    with pytest.raises(DataError, match=r"none\.csv"):
        predictor.predict(tmp_path / "none.csv")
    with pytest.raises(ArgumentError, match=r"expected a DataFrame.*Path\("):  # words from elsewhere open no file
        predictor.predict(str(tmp_path / "rows.csv"))


def test_texts_in_files_and_frames(tmp_path: Path) -> None:
    learn = texts()
    learn.export(tmp_path / "file")
    predictor = load_predictor(tmp_path / "file", device="cpu")
    new = ["a good film", "a bad one, that few liked", "short"]
    (tmp_path / "docs").mkdir()
    for i, text in enumerate(new):
        (tmp_path / "docs" / f"{i}.txt").write_text(text)
    pd.DataFrame({"more": [1, 2, 3], "text": new}).to_csv(tmp_path / "docs.csv", index=False)
    want = learn.predict(new).probs
    for items in (
        tmp_path / "docs",
        tmp_path / "docs.csv",
        pd.DataFrame({"text": new}),
        pd.Series(new),
        new,
        tuple(new),
    ):
        assert torch.equal(predictor.predict(items).probs, want)
    assert predictor.predict(tmp_path / "docs").ids == ("0.txt", "1.txt", "2.txt")
    assert equal(predictor.predict(str(tmp_path)), learn.predict(str(tmp_path)))  # a word is a text, even of a place
    assert predictor.predict(tmp_path / "docs" / "0.txt").ids == ("0.txt",)


def test_a_stream_takes_what_it_needs(tmp_path: Path) -> None:
    learn = texts()
    learn.export(tmp_path / "file")
    predictor = load_predictor(tmp_path / "file", device="cpu")
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"film number {taken}"

    stream = predictor.stream(endless())
    ids = [next(stream)[0] for _ in range(40)]
    assert ids == [str(i) for i in range(40)] and taken <= 64
    assert list(predictor.stream([])) == []
    with pytest.raises(ArgumentError, match=r"predictor\.stream"):
        predictor.predict(endless())
    for one in ("a good film",):
        with pytest.raises(ArgumentError, match=r"predictor\.predict"):
            list(predictor.stream(one))


def test_a_row_is_no_stream(tmp_path: Path) -> None:
    table().export(tmp_path / "file")
    with pytest.raises(ArgumentError, match=r"predictor\.predict"):
        list(load_predictor(tmp_path / "file", device="cpu").stream(NEW_ROWS.iloc[0].to_dict()))


# -- going on ----------------------------------------------------------------------------------------------


def test_a_learner_goes_on(pictures: Path, tmp_path: Path) -> None:
    learn = images(pictures, layers(), optimizer=adamw, wd=0.03, clip=0.7, accumulate=2, seed=9, bn_freeze=True)
    learn.fit(1e-3, 1)
    learn.freeze_to(1)
    learn.export(tmp_path / "file")
    again = load_learner(tmp_path / "file", **QUIET)
    with pytest.raises(DataError, match="set_data"):
        again.fit(1e-3, 1)
    for call in (again.fit_one_cycle, again.lr_find):
        with pytest.raises(DataError, match="set_data"):
            call() if call == again.lr_find else call(1e-3, 1)  # type: ignore[call-arg]
    with pytest.raises(DataError):
        again.validate()
    assert again.optimizer is adamw and (again.wd, again.seed, again.epochs_done) == (0.03, 9, 1)
    assert (again.strategy.clip, again.strategy.accumulate) == (0.7, 2) and again._bn_freeze is True
    assert [g.trainable for g in again.layer_groups] == [g.trainable for g in learn.layer_groups]
    assert [g.name for g in again.layer_groups] == [g.name for g in learn.layer_groups]
    again.set_data(learn.data)
    learn.fit(1e-3, 1)
    again.fit(1e-3, 1)
    state = again.model.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in learn.model.state_dict().items())
    assert again.validate() == learn.validate()


def test_a_text_learner_keeps_its_penalty(tmp_path: Path) -> None:
    learn = texts()
    learn.export(tmp_path / "file")
    again = load_learner(tmp_path / "file", data=learn.data, **QUIET)
    assert [type(c) for c in again.callbacks] == [type(c) for c in learn.callbacks] == [ActivationPenalty]
    again.fit(1e-2, 1)
    assert not load_learner(tmp_path / "file", callbacks=[], **QUIET).callbacks


def test_data_of_other_classes(tmp_path: Path) -> None:
    table().export(tmp_path / "file")
    with pytest.raises(DataError):
        load_learner(tmp_path / "file", data=table("wet").data, **QUIET)


# -- what is refused ---------------------------------------------------------------------------------------


def test_a_tokenizer_of_ones_own(tmp_path: Path) -> None:
    def my_words(text: str) -> list[str]:
        return text.split()

    with pytest.raises(StateError, match="my_words"):
        texts(tokenizer=my_words).export(tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_a_model_that_was_changed(pictures: Path, tmp_path: Path) -> None:
    learn = images(pictures, layers())
    learn.export(tmp_path / "file")
    old = (tmp_path / "file").read_bytes()
    learn.model.head[-1] = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))  # type: ignore[index]
    with pytest.raises(StateError, match="changed after it was made"):
        learn.export(tmp_path / "file")
    learn = images(pictures, layers())
    for place, layer in enumerate(learn.model.head):  # type: ignore[arg-type, var-annotated]
        if isinstance(layer, nn.ReLU):
            learn.model.head[place] = nn.Tanh()  # type: ignore[index]
    with pytest.raises(StateError, match="changed after it was made"):
        learn.export(tmp_path / "file")
    learn = images(pictures, Registered(4))
    learn.model.head = Own()
    with pytest.raises(StateError):
        learn.export(tmp_path / "file")
    learn = table()
    learn.model.register_forward_hook(lambda module, inputs, out: out + 1)
    with pytest.raises(StateError, match="other numbers"):
        learn.export(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == old


def test_other_files(tmp_path: Path, pictures: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        load_predictor(tmp_path / "none")
    learn = table()
    weights = learn.save("weights")
    with pytest.raises(WeightsError, match=r"holds weights alone.*learn\.load"):
        load_predictor(weights)
    (tmp_path / "text").write_text("no zip at all, but long enough to be looked at", encoding="utf-8")
    with pytest.raises(WeightsError, match="not a whole model file"):
        load_predictor(tmp_path / "text")
    (tmp_path / "real.onnx").write_bytes(b"\x08\x08\x12\x07pytorch" * 9)
    with pytest.raises(WeightsError, match=r"is an ONNX file.*onnxruntime.*easylearn serve"):
        load_predictor(tmp_path / "real.onnx")
    images(pictures, Own()).export(tmp_path / "own")
    with pytest.raises(WeightsError, match="Own"):
        load_learner(tmp_path / "own")
    with pytest.raises(ArgumentError):
        load_predictor(tmp_path / "own", cpu=True)  # type: ignore[call-arg]
    with pytest.raises(ArgumentError, match="prune"):
        learn.export(tmp_path / "x", prune=2.0)
    with pytest.raises(ArgumentError, match="format"):
        learn.export(tmp_path / "x", format="pickle")  # type: ignore[arg-type]
    with pytest.raises(EasyLearnError, match="is a folder"):
        learn.export(tmp_path)
    for name, options, match in (
        ("m.onnx", {}, 'format="onnx"'), ("m.PT2", {}, 'format="torch"'), ("m.pkl", {}, r"m\.easylearn"),
        ("m.safetensors", {}, r"m\.easylearn"), ("m.easylearn", {"format": "onnx"}, 'format="easylearn"'),
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match=f"name of another kind of file.*{match}"):
            learn.export(tmp_path / name, **options)
        assert not (tmp_path / name).exists()


def test_the_wrong_items(tmp_path: Path) -> None:
    tensors().export(tmp_path / "t")
    predictor = load_predictor(tmp_path / "t", device="cpu")
    for odd in (
        ["a text"],
        [{"a": 1}],
        torch.zeros(2, 4),
        torch.zeros(2, 5, dtype=torch.int64),
        (torch.zeros(2, 5),) * 2,
    ):
        with pytest.raises(EasyLearnError):
            predictor.predict(odd)
    texts().export(tmp_path / "x")
    for odd in ([1], [None], {"a": 1}):
        with pytest.raises(EasyLearnError):
            load_predictor(tmp_path / "x", device="cpu").predict(odd)
    table().export(tmp_path / "y")
    for odd in ([1], {}, {"shop": "a"}, [{}]):
        with pytest.raises(EasyLearnError):
            load_predictor(tmp_path / "y", device="cpu").predict(odd)


# -- a row without a DataFrame -----------------------------------------------------------------------------

VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(
        ["a", "b", "1", "1.0", "True", "nan", "1_0", " 2", "0", 0, 1, 1.0, True, 2, 1e39, -1e39, float("nan")]
    )
)
TRAINING = [
    pd.DataFrame(
        {"c": ["a", "b", "1", "True", None], "d": [1, 2, 3, 10, 2], "x": [1.0, 2.0, np.nan, 5.0, 9.0], "y": range(5)}
    ),
    pd.DataFrame({"c": [True, False, True], "d": [0.5, 2.0, np.nan], "x": [1.0, 1.0, 1.0], "y": [3, 1, 2]}),
    pd.DataFrame({"c": pd.to_datetime(["2020-01-01", "2021-01-01"]), "d": ["x", 1], "x": [1e30, -1e30], "y": [0, 1]}),
]
PROCESSORS = [
    TableProcessor(["c", "d"], ["x", "y"], scale=scale, **options).fit(df)  # type: ignore[arg-type]
    for df in TRAINING
    for scale, options in (("standard", {}), ("quantile", {"fill": "mean"}), ("none", {"min_count": 2}))
]


@given(st.sampled_from(PROCESSORS), VALUES, VALUES, VALUES, VALUES)
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_a_row_by_itself_is_encoded_as_in_a_frame(processor: TableProcessor, c: Any, d: Any, x: Any, y: Any) -> None:
    row = {"c": c, "d": d, "x": x, "y": y}
    try:
        alone = processor.transform_row(row)
        told = None
    except EasyLearnError as error:
        alone, told = None, error
    try:
        framed = processor.transform(pd.DataFrame([row]))
    except EasyLearnError:
        assert alone is None
        return
    assert told is None
    if alone is not None:
        assert alone.cats.tolist() == framed.cats.tolist() and alone.cats.dtype == framed.cats.dtype
        assert alone.conts.tobytes() == framed.conts.tobytes() and alone.conts.dtype == framed.conts.dtype
        assert alone.report == framed.report


# -- a process with nothing but the core -------------------------------------------------------------------

SCRIPT = """
import json, sys
for name in ("matplotlib", "sklearn", "timm", "onnx", "onnxruntime"):
    sys.modules[name] = None
from pathlib import Path
from easylearn import load_predictor
folder = Path(sys.argv[1])
for name, items in json.loads((folder / "items.json").read_text()).items():
    said = load_predictor(folder / name, device="cpu").predict(items)
    print(json.dumps([list(said.labels), said.probs.tolist()]))
assert all(sys.modules[n] is None for n in ("matplotlib", "sklearn", "timm", "onnx", "onnxruntime"))
assert not any(n.startswith(("matplotlib.", "sklearn.", "timm.")) for n in sys.modules)
"""


def test_a_fresh_process_with_core_dependencies_alone(pictures: Path, tmp_path: Path) -> None:
    import json

    learners = {"layers": images(pictures, layers()), "table": table(), "text": texts()}
    asked, want = {}, []
    for kind, learn in learners.items():
        learn.export(tmp_path / kind)
        asked[kind] = items_of(kind, pictures)[1][:3]
        asked[kind] = [{k: v for k, v in i.items() if v == v} for i in asked[kind]] if kind == "table" else asked[kind]
        asked[kind] = json.loads(json.dumps(asked[kind], default=lambda v: v.item()))
        said = learn.predict(asked[kind])
        want.append([list(said.labels), said.probs.tolist()])
    (tmp_path / "items.json").write_text(json.dumps(asked))
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for (labels, probs), (want_labels, want_probs) in zip(found, want, strict=True):
        assert labels == want_labels and np.allclose(probs, want_probs, atol=1e-6)


OPENED = """
import json, sys
from easylearn.export import load_predictor
said = load_predictor(sys.argv[1], device="cpu").predict(json.loads(sys.argv[2]))
assert len(said.probs) and not {"torch._dynamo", "torch._inductor"} & set(sys.modules)
"""


@pytest.mark.parametrize("kind", ["table", "text"])
def test_no_compiler_is_imported_to_open_a_file(kind: str, tmp_path: Path) -> None:
    import json

    learn = table() if kind == "table" else texts()
    item = dict.fromkeys(learn.data.preprocessor.processor.names) if kind == "table" else TEXTS[0]  # type: ignore[attr-defined]
    file = learn.export(tmp_path / "file")
    done = subprocess.run([sys.executable, "-c", OPENED, file, json.dumps(item)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_file_says_what_made_it(tmp_path: Path) -> None:
    tensors().export(tmp_path / "file")
    with Archive(tmp_path / "file") as archive:
        assert archive.spec["libraries"]["torch"] and archive.spec["task"]["names"] == ["a", "b", "c"]
        assert archive.spec["training"]["optimizer"] == "adamw"
    assert isinstance(load_predictor(tmp_path / "file", device="cpu").info, dict)
    assert isinstance(load_predictor(tmp_path / "file", device="cpu"), Predictor)


def test_two_folders_with_files_of_one_name_keep_their_rows_apart(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.txt").write_text(f"a {'good' if folder == 'one' else 'bad'} film", encoding="utf-8")
    (tmp_path / "more.csv").write_text("text\na film\n", encoding="utf-8")
    file = Path(__file__).parent / "data" / "exports" / "schema1" / "text.easylearn"
    predictor = load_predictor(file, device="cpu")
    sources = [tmp_path / "one", tmp_path / "two", tmp_path / "more.csv"]
    assert predictor.to_csv(sources, tmp_path / "said.csv") == 3
    ids = pd.read_csv(tmp_path / "said.csv")["id"].tolist()
    assert ids == [f"{tmp_path}/one/same.txt", f"{tmp_path}/two/same.txt", f"{tmp_path}/more.csv:0"]
    assert predictor.to_csv([tmp_path / "one"], tmp_path / "said.csv") == 1
    assert pd.read_csv(tmp_path / "said.csv")["id"].tolist() == ["same.txt"]


def test_pictures_and_folders_of_them_may_be_mixed(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "folder").mkdir()
    for name in ("folder/a.png", "b.png", "c.png"):
        Image.new("RGB", (12, 12), "red").save(tmp_path / name)
    file = Path(__file__).parent / "data" / "exports" / "schema1" / "pictures.easylearn"
    predictor = load_predictor(file, device="cpu")
    items = [tmp_path / "b.png", tmp_path / "folder", tmp_path / "c.png"]
    assert predictor.to_csv(items, tmp_path / "said.csv") == 3
    ids = pd.read_csv(tmp_path / "said.csv")["id"].tolist()
    assert ids == [str(tmp_path / n) for n in ("b.png", "folder/a.png", "c.png")]


def test_weights_alone_are_told_from_models(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"anything")
    with pytest.raises(WeightsError, match=r"weights alone.*learn\.load"):
        load_predictor(tmp_path / "w.safetensors")
    (tmp_path / "model.easylearn").write_bytes(b"anything")
    with pytest.raises(WeightsError, match=r"did you mean .*model\.easylearn"):
        load_predictor(tmp_path / "model")
