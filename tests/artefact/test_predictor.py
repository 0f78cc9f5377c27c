"""What a predictor does beyond predicting: averaging views, and going on after items that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from easylearn import EasyLearnWarning, ImageData, load_learner, load_predictor, vision_learner
from easylearn.artefact.predictor import Predictor
from easylearn.errors import ArgumentError, DataError, StateError
from easylearn.task import Prediction, Predictions, gathered
from easylearn.train import waiting
from easylearn.vision.augment import Flip, RandomResizedCrop
from tests import learners


@dataclass(frozen=True)
class Mine(Flip):
    """A transform that no file knows."""


def photos(folder: Path, n: int = 10) -> list[Path]:
    r = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{k:02d}.png" for k in range(n)]
    for k, file in enumerate(files):
        Image.fromarray(r.integers(0, 255, (30 + k, 24, 3), dtype=np.uint8)).save(file)
    return files


def of_photos(files: list[Path], **how: Any) -> ImageData:
    labels = ["a", "b"] * (len(files) // 2)
    return ImageData.from_names(files[0].parent, files, labels, size=16, batch_size=4, workers=0, cache=False, **how)


def exported(learn: Any, path: Path) -> Predictor:
    learn.export(path)
    return load_predictor(path, device="cpu")


@pytest.mark.parametrize("augment", ["side_on", "none", [RandomResizedCrop(), Flip(0.25)]], ids=str)
def test_views_are_those_of_the_learner(tmp_path: Path, augment: Any) -> None:
    files = photos(tmp_path / "photos")
    data = of_photos(files, valid=[2, 3, 4, 5, 6, 7], augment=augment)
    learn = vision_learner(data, learners.small_body(), progress=False, device="cpu")
    predictor = exported(learn, tmp_path / "m.easylearn")
    want, said = learn.tta(3), predictor.tta(files[2:8], 3)
    assert isinstance(said, Predictions) and len(said.views) == 4
    assert torch.equal(said.views, want.views) and torch.equal(said.probs, want.probs) and said.labels == want.labels
    (tmp_path / "some").mkdir()
    for file in files[2:8]:
        (tmp_path / "some" / file.name).write_bytes(file.read_bytes())
    assert torch.equal(predictor.tta(tmp_path / "some", 3).probs, want.probs)  # a folder, read as a whole
    one = predictor.tta(files[2], 3)
    assert isinstance(one, Prediction) and torch.allclose(one.probs, want.probs[0], atol=1e-6)
    assert torch.equal(predictor.tta(files[2:8], 0).probs, predictor.predict(files[2:8]).probs)


def test_without_views_there_is_the_plain_one(tmp_path: Path) -> None:
    predictor = exported(learners.texts(progress=False), tmp_path / "t.easylearn")
    said = predictor.tta(["a good film", "a bad film"])
    assert isinstance(said, Predictions) and len(said.views) == 1
    assert torch.equal(said.probs, predictor.predict(["a good film", "a bad film"]).probs)
    with pytest.raises(ArgumentError, match="n_aug"):
        predictor.tta(["a"], -1)


def test_views_that_no_file_can_describe(tmp_path: Path) -> None:
    files = photos(tmp_path / "photos")
    data = of_photos(files, valid=[2, 3], augment=[Mine()])
    learn = vision_learner(data, learners.small_body(), progress=False, device="cpu")
    predictor = exported(learn, tmp_path / "m.easylearn")
    assert torch.equal(predictor.predict(files[2:4]).probs, learn.predict().probs)
    with pytest.raises(StateError, match="load_learner"):
        predictor.tta(files)
    again = load_learner(tmp_path / "m.easylearn", data=data, progress=False, device="cpu")
    assert torch.equal(again.tta().views, learn.tta().views)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Predictor]]:
    folder = tmp_path_factory.mktemp("models")
    made = {
        make.__name__: make(progress=False, device="cpu") for make in (learners.images, learners.texts, learners.tables)
    }
    return {name: (learn, exported(learn, folder / name)) for name, learn in made.items()}


def items(kind: str, form: str, folder: Path) -> tuple[Any, set[int], int]:
    """Items of a kind in a form, which of them are broken, and how many there are."""
    if kind == "images":
        files = photos(folder / "photos", 6)
        files[1].write_bytes(b"none")
        files[4].write_bytes(files[4].read_bytes()[:50])
        if form == "list":
            return files, {1, 4}, 6
        if form == "folder":
            return folder / "photos", {1, 4}, 6
        (folder / "photos" / "l.csv").write_text("file\n" + "\n".join(f.name for f in [*files, Path("gone.png")]))
        return folder / "photos" / "l.csv", {1, 4, 6}, 7
    if kind == "texts":
        texts = ["a good film", None, "bad", "good", None]
        if form == "list":
            return texts, {1, 4}, 5
        if form == "frame":
            return pd.DataFrame({"text": texts}), {1, 4}, 5
        if form == "series":
            return pd.Series(texts), {1, 4}, 5
        if form == "csv":
            pd.DataFrame({"text": texts, "n": range(5)}).to_csv(folder / "t.csv", index=False)
            return folder / "t.csv", {1, 4}, 5
        (folder / "texts").mkdir()
        for k in range(5):
            (folder / "texts" / f"{k}.txt").write_bytes(b"\xff\xfe" if k in (0, 3) else b"a good film")
        return folder / "texts", {0, 3}, 5
    rows = [{"a": 1, "b": "x", "c": 2}, {"a": 1, "b": "x", "c": "much"}, {"a": None, "b": "y", "c": 1.5}]
    if form == "list":
        return rows, {1}, 3
    if form == "frame":
        return pd.DataFrame(rows), {1}, 3
    pd.DataFrame(rows).to_csv(folder / "r.csv", index=False)
    return folder / "r.csv", {1}, 3


@pytest.mark.parametrize(
    ("kind", "form"),
    [("images", "list"), ("images", "folder"), ("images", "csv"), ("texts", "list"), ("texts", "frame"),
     ("texts", "series"), ("texts", "csv"), ("texts", "folder"), ("tables", "list"), ("tables", "frame"),
     ("tables", "csv")],
)  # fmt: skip
def test_what_cannot_be_read_is_left_out_and_named(models: Any, tmp_path: Path, kind: str, form: str) -> None:
    learn, predictor = models[kind]
    given, broken, n = items(kind, form, tmp_path)
    with pytest.raises(DataError):
        predictor.predict(given)
    with pytest.warns(EasyLearnWarning, match=f"^{len(broken)} of {n} items cannot be read"):
        said = predictor.predict(given, "skip")
    pairs = list(predictor.stream(given, "skip"))
    assert isinstance(said, Predictions) and len(said) == n - len(broken) and len(pairs) == n
    assert {k for k, (_, one) in enumerate(pairs) if isinstance(one, DataError)} == broken
    assert said.ids == tuple(name for name, one in pairs if isinstance(one, Prediction))
    assert list(said.errors) == [name for name, one in pairs if isinstance(one, DataError)]
    assert f"{len(broken)} left out" in repr(said) and said[1:].errors == said.errors
    for name, row in zip(said.ids, said.probs, strict=True):  # the others are predicted as by themselves
        one = next(p for i, p in pairs if i == name)
        assert torch.allclose(one.probs, row, atol=1e-5)
    with pytest.warns(EasyLearnWarning, match="cannot be read"):
        assert learn.predict(given, on_error="skip").ids == said.ids


def test_many_that_can_be_read_are_in_a_file(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, predictor = models["texts"]
    given = ["a good film", None, "bad", "good"] * 20
    with pytest.warns(EasyLearnWarning, match="^20 of 80 items"):
        few = predictor.predict(given, "skip")
    monkeypatch.setattr(gathered, "MOST", 100)
    closed: list[Any] = []
    real = gathered.tempfile.TemporaryFile
    monkeypatch.setattr(gathered.tempfile, "TemporaryFile", lambda dir: (closed.append(dir), real(dir=dir))[1])
    with pytest.warns(EasyLearnWarning, match="^20 of 80 items"):
        many = predictor.predict(given, "skip")
    assert torch.equal(few.probs, many.probs) and few.ids == many.ids and few.labels == many.labels and closed


def test_where_all_or_none_can_be_read(models: Any, tmp_path: Path) -> None:
    _, predictor = models["texts"]
    assert predictor.predict(["a", "b"], "skip").errors == {}
    with pytest.raises(DataError, match=r"2 of 2 items.*item 0"):
        predictor.predict([None, None], "skip")
    with pytest.raises(ArgumentError, match="many items"):
        predictor.predict("one text", "skip")
    with pytest.raises(ArgumentError, match='"raise" or "skip"'):
        predictor.predict(["a"], "ignore")
    with pytest.raises(ArgumentError, match="many items"):
        models["images"][1].predict(photos(tmp_path, 1)[0], "skip")


def test_a_learner_tells_how_far_it_is_with_items_and_a_file_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = photos(tmp_path / "photos")
    (tmp_path / "photos" / "torn.png").write_bytes(b"torn")
    learn = vision_learner(of_photos(files, valid=[2, 3]), learners.small_body(), progress=True, device="cpu")
    predictor = exported(learn, tmp_path / "m.easylearn")
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)
    learn.predict(files)
    told = capsys.readouterr().err
    assert "predicting: 4 of 10 items after 0:00" in told and told.endswith("predicting: 10 items in 0:00\n")
    with pytest.warns(EasyLearnWarning, match="1 of 11"):
        learn.predict([*files, tmp_path / "photos" / "torn.png"], on_error="skip")
    assert "predicting: 1 of 11 items after 0:00" in capsys.readouterr().err
    with pytest.warns(EasyLearnWarning, match="1 of 11"):
        learn.predict(tmp_path / "photos", on_error="skip")
    assert "predicting: 1 items after 0:00" in capsys.readouterr().err
    (tmp_path / "photos" / "torn.png").unlink()
    learn.predict(tmp_path / "photos")
    assert "predicting: 10 items in 0:00" in capsys.readouterr().err
    learn.predict(files[0]), predictor.predict(files)  # a server asks of a file, and has a log of its own
    learn.progress = False
    learn.predict(files)
    assert capsys.readouterr() == ("", "")
