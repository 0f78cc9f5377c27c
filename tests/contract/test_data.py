"""What is true of every kind of data: its splits, loaders, ids, preprocessor, and what a file holds of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

import easylearn as el
from easylearn.artefact.predictor import Predictor
from easylearn.data.bunch import BlankData, Data
from easylearn.data.order import Batch, ItemLoader
from easylearn.errors import ArgumentError, DataError, WeightsError
from easylearn.task import single_label
from easylearn.train.predict import gather
from easylearn.train.strategy import SingleDevice

CPU = torch.device("cpu")
N = 23  # of which the validation split takes some; no multiple of the batch size
WORDS = ["good", "bad", "fine", "poor", "film", "play"]


def texts(n: int = N) -> pd.DataFrame:
    rows = [" ".join(WORDS[(i * k) % 6] for k in range(1, 3 + i % 5)) for i in range(n)]
    return pd.DataFrame({"text": rows, "label": ["pos" if i % 2 else "neg" for i in range(n)]})


def table(n: int = N) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"shop": [f"0{i % 4}" for i in range(n)], "size": rng.normal(size=n), "sold": rng.normal(size=n)}
    )


def photos(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, n in (("train", 7), ("valid", 3), ("test", 2)):
        for name in ("cats", "dogs"):
            (folder / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 255, (12, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


def images(folder: Path) -> Data[Any]:
    return el.ImageData.from_folder(photos(folder), size=8, batch_size=4, augment="side_on", workers=0)


def arrays(folder: Path) -> Data[Any]:
    x = np.random.default_rng(0).integers(0, 255, (N, 9, 9, 3), dtype=np.uint8)
    return el.ImageData.from_arrays(
        (x, [i % 3 for i in range(N)]), size=8, augment="side_on", batch_size=4, workers=0, test=x[:3]
    )


def masks(folder: Path) -> Data[Any]:
    x = np.random.default_rng(0).integers(0, 255, (N, 9, 9, 3), dtype=np.uint8)
    how = {"codes": ["a", "b"], "augment": "side_on", "batch_size": 4, "workers": 0}
    return el.MaskData.from_arrays((x, (x[..., 0] > 99).astype(np.uint8)), test=x[:3], **how)


def boxes(folder: Path) -> Data[Any]:
    x = np.random.default_rng(0).integers(0, 255, (N, 32, 32, 3), dtype=np.uint8)
    found = [np.array([[2, 3, 9 + k % 5, 20, k % 2]]) for k in range(N)]
    how = {"classes": ["a", "b"], "augment": "side_on", "batch_size": 4, "workers": 0}
    return el.BoxData.from_arrays((x, found), test=x[:3], **how)


def colours(folder: Path) -> Data[Any]:
    x = np.random.default_rng(0).integers(0, 255, (N, 9, 9, 3), dtype=np.uint8)
    return el.Image2ImageData.from_arrays(x, augment="side_on", batch_size=4, workers=0)


def tabular(folder: Path) -> Data[Any]:
    return el.TabularData.from_df(table(), "sold", batch_size=4, test=table().drop(columns="sold")[:3])


def streamed(folder: Path) -> Data[Any]:
    table().to_parquet(folder / "t.parquet", row_group_size=5)
    return el.TabularData.from_parquet(folder / "t.parquet", "sold", batch_size=4, stream=True, buffer_rows=10)


def ratings(folder: Path) -> Data[Any]:
    frame = pd.DataFrame({"user": [f"u{i % 5}" for i in range(N)], "item": [i % 7 for i in range(N)]})
    return el.CollabData.from_df(frame.assign(rating=np.arange(N) % 4 / 2), "user", "item", "rating", batch_size=4)


def interactions(folder: Path) -> Data[Any]:
    frame = pd.DataFrame({"who": [f"u{i % 5}" for i in range(40)], "what": [f"i{i * i % 7}" for i in range(40)]})
    return el.InteractionData.from_df(frame, "who", "what", valid=0.4, batch_size=2)


def documents(folder: Path) -> Data[Any]:
    return el.TextData.from_df(texts(), batch_size=4, min_freq=1, progress=False, test=texts(3).drop(columns="label"))


def stream_of_text(folder: Path) -> Data[Any]:
    return el.TextLMData.from_df(texts(60), batch_size=4, bptt=5, min_freq=1, progress=False)


def films(folder: Path) -> Data[Any]:
    names = [str(p.relative_to(folder)) for p in sorted(photos(folder).rglob("*.png"))][:N]
    frame = texts().assign(file=names, size=np.arange(N) / 9)
    frame.loc[::6, "file"], frame.loc[::5, "text"] = None, None
    return el.MultiData.from_df(
        frame, "label", image="file", text="text", cont_names=["size"], path=folder, size=8, batch_size=4, workers=0,
        augment="side_on",
    )  # fmt: skip


def tensors(folder: Path) -> Data[Any]:
    x, y = torch.randn(N, 3), torch.arange(N) % 2
    return el.TensorData((x[:17], y[:17]), (x[17:], y[17:]), single_label(["a", "b"]), test=x[:3], batch_size=4)


def loaders(folder: Path) -> Data[Any]:
    batches = [(torch.randn(4, 3), torch.tensor([0, 1, 0, 1])) for _ in range(3)]
    return el.LoaderData(batches, batches[:2], single_label(["a", "b"]))


KINDS: dict[str, Callable[[Path], Data[Any]]] = {
    kind.__name__: kind
    for kind in (
        images,
        arrays,
        masks,
        boxes,
        colours,
        tabular,
        streamed,
        ratings,
        interactions,
        documents,
        stream_of_text,
        films,
        tensors,
        loaders,
    )
}
ONE: dict[str, Callable[[Path], Any]] = {
    "images": lambda folder: folder / "test" / "cats" / "0.png",
    "arrays": lambda folder: np.zeros((9, 9, 3), np.uint8),
    "tabular": lambda folder: {"shop": "01", "size": 0.5},
    "streamed": lambda folder: {"shop": "01", "size": 0.5},
    "ratings": lambda folder: {"user": "u1", "item": 2},
    "interactions": lambda folder: ["i1", "i4"],
    "documents": lambda folder: "a good film",
    "films": lambda folder: {"file": folder / "test" / "cats" / "0.png", "text": "a good film", "size": 0.5},
    "tensors": lambda folder: torch.zeros(3),
}
"""One item of each kind whose items can be predicted by themselves."""


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def data(kind: str, tmp_path: Path) -> Data[Any]:
    return KINDS[kind](tmp_path)


class Net(nn.Module):
    """A fixed function of whatever the inputs are; nothing of an item depends on the others in its batch."""

    def __init__(self, n_out: int) -> None:
        super().__init__()
        self.n_out = n_out
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, *inputs: Tensor) -> Tensor:
        total = sum(x.reshape(len(x), -1).double().sin().sum(1) for x in inputs if x.ndim)
        assert isinstance(total, Tensor)
        return (self.weight * (total[:, None] * torch.arange(1, self.n_out + 1)).sin()).float()


def all_of(data: Data[Any], split: Any, **key: Any) -> list[Batch]:
    return list(data.loader(split, training=key.pop("training", False)).batches(CPU, **key))


def same(a: list[Batch], b: list[Batch]) -> bool:
    def equal(x: Batch, y: Batch) -> bool:
        inputs = all(torch.equal(s, t) for s, t in zip(x.inputs, y.inputs, strict=True))
        both = x.target is None or (y.target is not None and torch.equal(x.target, y.target))
        return inputs and both and torch.equal(x.index, y.index)

    return len(a) == len(b) and all(map(equal, a, b))


class TestSplits:
    def test_each_item_comes_once_with_a_name_of_its_own(self, data: Data[Any]) -> None:
        assert data.splits[:2] == ("train", "valid")
        for split in data.splits:
            index = torch.cat([b.index for b in all_of(data, split)])
            if not data.task.is_streamed:
                assert sorted(index.tolist()) == list(range(len(data.ids(split))))
                assert len(set(data.ids(split))) == len(data.ids(split))

    def test_targets_fit_the_task(self, data: Data[Any]) -> None:
        for batch in all_of(data, "train"):
            assert batch.target is not None and torch.isfinite(batch.target.float()).all()
            assert data.task.is_streamed or len(batch.target) == len(batch.index) == len(batch.inputs[0])

    def test_what_is_not_there_is_named(self, data: Data[Any]) -> None:
        with pytest.raises(ArgumentError, match=r"'vaild'.*'valid'"):
            data.ids("vaild")  # type: ignore[arg-type]
        if "test" not in data.splits:
            for call in (data.ids, data.loader, data.fingerprint):
                with pytest.raises(DataError, match="test"):
                    call("test")

    def test_an_item_can_be_looked_at(self, data: Data[Any]) -> None:
        if not data.task.is_streamed:
            axes = Figure().add_subplot()
            data.draw_item("valid", 0, axes)
            assert all(isinstance(v, str) for v in data.describe_item("valid", 0).values())
        assert all(isinstance(note, str) for note in data.notes()) and type(data).__name__ in repr(data)


class TestLoaders:
    def test_seed_and_epoch_decide_and_nothing_else(self, data: Data[Any], disturb: Callable[[], None]) -> None:
        first = all_of(data, "train", training=True, seed=3, epoch=2)
        disturb()
        before = torch.get_rng_state()
        assert same(first, all_of(data, "train", training=True, seed=3, epoch=2))
        assert torch.equal(before, torch.get_rng_state())

    def test_another_epoch_is_another_order(self, kind: str, data: Data[Any]) -> None:
        if kind != "loaders":  # whose order is their own
            epochs = [all_of(data, "train", training=True, epoch=e) for e in range(3)]
            assert not same(epochs[0], epochs[1]) or not same(epochs[0], epochs[2])

    def test_it_starts_at_any_batch(self, data: Data[Any]) -> None:
        loader = data.loader("train", training=True)
        whole = all_of(data, "train", training=True, seed=1, epoch=1)
        assert len(whole) == len(loader) and loader.n_items >= loader.batch_size
        for start in range(len(loader) + 1):
            assert same(whole[start:], all_of(data, "train", training=True, seed=1, epoch=1, start=start))

    @pytest.mark.parametrize("world", [2, 3])
    def test_the_shards_of_a_batch_are_the_batch(self, kind: str, data: Data[Any], world: int) -> None:
        for training in (True, False):
            whole = all_of(data, "train", training=training, seed=1)
            shards = [all_of(data, "train", training=training, seed=1, shard=(r, world)) for r in range(world)]
            assert {len(s) for s in shards} == {len(whole)}
            if kind == "streamed" and training:  # each shard reads row groups of its own, and each row once
                rows, every = (torch.cat([b.index for b in some]) for some in (whole, [b for s in shards for b in s]))
                assert torch.equal(rows.sort().values, every.sort().values)
                continue
            for number, batch in enumerate(whole):
                pieces = [s[number] for s in shards]
                assert torch.equal(torch.cat([p.index for p in pieces]), batch.index)
                targets = [p.target for p in pieces if p.target is not None]
                assert batch.target is not None and torch.equal(torch.cat(targets), batch.target)

    def test_no_batch_of_one_item_in_training(self, data: Data[Any]) -> None:
        assert all(len(b.index) > 1 for b in all_of(data, "train", training=True))

    def test_views_differ_where_there_are_any(self, data: Data[Any]) -> None:
        plain, view, again = (list(data.loader("valid", view=v).batches(CPU)) for v in (0, 1, 1))
        assert same(view, again) and (data.has_views != same(plain, view))


class TestIdentity:
    def test_the_fingerprint_is_that_of_the_content(self, kind: str, data: Data[Any], tmp_path: Path) -> None:
        if kind == "loaders":
            with pytest.raises(DataError, match="identity"):
                data.fingerprint("train")
            return
        before = data.fingerprint("train")
        all_of(data, "train", training=True)
        assert data.fingerprint("train") == before != data.fingerprint("valid")

    def test_it_is_prepared_for_a_model_without_being_changed(self, data: Data[Any]) -> None:
        held = dict(vars(data))
        assert type(data.for_model(Net(data.task.n_out))) is type(data)
        assert vars(data).keys() == held.keys() and all(vars(data)[k] is v for k, v in held.items())

    def test_it_takes_the_place_of_what_a_file_gave_and_of_no_other_kind(self, kind: str, data: Data[Any]) -> None:
        assert type(data.adopt(BlankData(data.task, 2, data.preprocessor))) is type(data)
        foreign = BlankData(data.task, 2, el.TextData.from_df(texts(), progress=False, min_freq=1).preprocessor)
        if kind != "documents":
            with pytest.raises(DataError, match="does not fit the model"):
                data.adopt(foreign)


def predictor(data: Data[Any], preprocessor: Any = None) -> Predictor:
    preprocessor = data.preprocessor if preprocessor is None else preprocessor
    return Predictor(Net(data.task.n_out), data.task, preprocessor, SingleDevice("cpu"), 4)


class TestPreprocessor:
    def test_one_item_is_a_prediction_and_several_are_predictions(
        self, kind: str, data: Data[Any], tmp_path: Path
    ) -> None:
        if kind not in ONE:
            return
        item, ask = ONE[kind](tmp_path), predictor(data).predict
        one, two = ask(item), ask([item, item])
        assert isinstance(one, el.Prediction) and isinstance(two, el.Predictions) and len(two) == 2
        assert torch.equal(two.probs[0], one.probs) and two[1].label == one.label and len(two.ids) == 2
        assert isinstance(ask([item]), el.Predictions)

    def test_nothing_at_all_is_refused(self, kind: str, data: Data[Any]) -> None:
        if kind in ONE:
            for nothing in ([], None, 3.5, object()):
                with pytest.raises((DataError, ArgumentError)):
                    predictor(data).predict(nothing)

    def test_a_word_is_never_opened_as_a_file(self, kind: str, data: Data[Any], tmp_path: Path) -> None:
        secret = tmp_path / "secret.csv"
        secret.write_text("text,shop,size\nhidden,01,0.5\n")
        if kind in ONE and kind not in ("images", "arrays", "documents"):
            with pytest.raises((DataError, ArgumentError)):
                predictor(data).predict(str(secret))
        if kind == "documents":
            assert isinstance(predictor(data).predict(str(secret)), el.Prediction)

    def test_it_comes_back_out_of_json(self, kind: str, data: Data[Any], tmp_path: Path) -> None:
        recipe = json.loads(json.dumps(data.preprocessor.recipe()))
        again = type(data.preprocessor).from_recipe(recipe, data.task)
        assert again.complete(data.task).same_as(data.task) == "" and recipe["kind"] == data.preprocessor.kind
        if kind in ONE:
            item = ONE[kind](tmp_path)
            a, b = predictor(data).predict([item]), predictor(data, again).predict([item])
            assert isinstance(a, el.Predictions) and isinstance(b, el.Predictions) and torch.equal(a.probs, b.probs)

    @pytest.mark.parametrize("damage", [{}, {"kind": None}, {"processor": 3}, {"size": "x", "shapes": [["x"]]}])
    def test_a_damaged_recipe_is_refused(self, data: Data[Any], damage: dict[str, Any]) -> None:
        with pytest.raises(WeightsError):
            type(data.preprocessor).from_recipe(damage, data.task)

    def test_threads_may_use_it_and_it_keeps_no_state(self, kind: str, data: Data[Any], tmp_path: Path) -> None:
        if kind not in ONE:
            return
        item, ask = ONE[kind](tmp_path), predictor(data)
        before, alone = json.dumps(data.preprocessor.recipe()), ask.predict([item, item])
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: ask.predict([item, item]), range(64)))
        assert isinstance(alone, el.Predictions)
        assert all(isinstance(p, el.Predictions) and torch.equal(p.probs, alone.probs) for p in found)
        assert json.dumps(data.preprocessor.recipe()) == before

    def test_the_validation_split_is_prepared_in_the_same_way(self, kind: str, data: Data[Any], tmp_path: Path) -> None:
        given: dict[str, Callable[[], Any]] = {
            "images": lambda: [tmp_path / i for i in data.ids("valid")],
            "tensors": lambda: data.loader("valid").source.inputs[0],  # type: ignore[attr-defined]
            "tabular": lambda: table().iloc[[int(i) for i in data.ids("valid")]],
            "documents": lambda: texts()["text"].iloc[[int(i) for i in data.ids("valid")]],
        }
        if kind in given:
            ask = predictor(data)
            whole, _ = gather(ask.model, data.loader("valid"), SingleDevice("cpu"))
            found = ask.predict(given[kind]())
            assert isinstance(found, el.Predictions) and torch.equal(found.probs, data.task.activate(whole))


def test_images_come_in_every_form(tmp_path: Path) -> None:
    data = images(tmp_path)
    file = tmp_path / "test" / "cats" / "0.png"
    with Image.open(file) as opened:
        array = np.array(opened)
    ask = predictor(data).predict
    forms: list[Any] = [
        str(file), file, file.read_bytes(), Image.fromarray(array), array, torch.from_numpy(array).permute(2, 0, 1)
    ]  # fmt: skip
    with open(file, "rb") as stream:
        probs = [ask(form) for form in (*forms, stream, io.BytesIO(file.read_bytes()))]
    assert all(isinstance(p, el.Prediction) and torch.equal(p.probs, probs[0].probs) for p in probs)
    several = ask(np.stack([array] * 6))
    assert isinstance(several, el.Predictions) and len(several) == 6
    mixed = ask(forms)
    assert isinstance(mixed, el.Predictions) and torch.equal(mixed.probs[3], several.probs[0])


def test_what_items_are_can_be_told_from_the_loader(tmp_path: Path) -> None:
    for name in ("images", "arrays", "tabular", "ratings", "documents", "films", "tensors"):
        folder = tmp_path / name
        folder.mkdir()
        assert isinstance(KINDS[name](folder).loader("train", training=True), ItemLoader)
