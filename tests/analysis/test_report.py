"""The report: one file that holds everything, fetches nothing, and says what is odd; looked at in a browser."""

from __future__ import annotations

import base64
import copy
import io
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from easylearn.analysis import report as module
from easylearn.data.loaders import LoaderData, TensorData
from easylearn.errors import ArgumentError, EasyLearnWarning, SaveError
from easylearn.learning import Learner
from easylearn.metrics import roc_auc
from easylearn.nn.registry import model_name
from easylearn.tabular.data import TabularData
from easylearn.tabular.learner import tabular_learner
from easylearn.task import single_label
from easylearn.texts.data import TextData, TextLMData
from easylearn.texts.learner import language_model_learner, text_classifier_learner
from easylearn.train.callbacks import EarlyStopping, KeepBest
from easylearn.vision.data import ImageData
from easylearn.vision.learner import vision_learner

MakeLearner = Callable[..., Learner]
NASTY = ["<script>alert(1)</script>", "a\"b' & $x_^{", "日本"]
VOID = {"meta", "img", "br"}
DPIS = module.DPIS


class Page(HTMLParser):
    """Tags, attributes and text of a page, whose tags must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    @property
    def pictures(self) -> list[Image.Image]:
        sources = [v for n, v in self.attributes if n == "src"]
        assert all(s.startswith("data:image/png;base64,") for s in sources)
        return [Image.open(io.BytesIO(base64.b64decode(s.split(",", 1)[1]))) for s in sources]


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawings of few pixels take less time."""
    monkeypatch.setattr(module, "DPIS", (40, 20))


def page_of(learn: Learner, folder: Path) -> Page:
    return Page(learn.report(folder / "run.html").read_text(encoding="utf-8"))


def image_learner(names: list[str] | None = None) -> Learner:
    rng = np.random.default_rng(0)
    y = [0, 1, 2] * 6
    x = rng.integers(0, 90, (18, 16, 16, 3))
    x[np.arange(18), :, :, y] += 120
    names = ["red", "green", "blue"] if names is None else names
    data = ImageData.from_arrays((x.astype(np.uint8), y), (x[:9].astype(np.uint8), y[:9]), classes=names, batch_size=6)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return vision_learner(data, net, hidden=(), ps=0.0, device="cpu", progress=False)


class TestWhatItHolds:
    def test_an_image_run(self, tmp_path: Path) -> None:
        learn = image_learner()
        learn.lr_find(n_steps=10)
        learn.fit(1e-2, 2)
        page = page_of(learn, tmp_path)
        words = ["Run report", "What is odd", "Training", "valid loss", "accuracy", "The worst items", "By class"]
        words += ["Configuration", "weight decay", "fingerprint", "Environment", str(torch.__version__)]
        assert [w for w in words if w not in page.text] == []
        assert learn.data.fingerprint("train") in page.text and learn.data.fingerprint("valid") in page.text
        assert f"{learn.validate()['valid_loss']:.4f}" in page.text
        assert len(page.pictures) == 7  # losses, rates, metrics, lr_find, confusion, calibration, worst

    def test_which_weights_were_kept_and_all_the_time_that_it_took(
        self, make_learner: MakeLearner, tmp_path: Path
    ) -> None:
        learn = make_learner("body_head", precompute=True)
        learn.fit(0.1, 4, callbacks=[KeepBest(2)])
        assert learn.record is not None and learn.record.kept is not None
        assert re.match(r"(mean of the best 2 epochs \(.+, .+\)|.*epoch.*), valid_loss ", learn.record.kept)
        learn.record.before = {"storing features": 60.0, "contrast": 60.0}
        seconds = sum(row["seconds"] for row in learn.record.epochs)
        learn.record.epochs[0]["seconds"] += 180 - seconds
        page = page_of(learn, tmp_path)
        assert f"Kept: {learn.record.kept}." in page.text
        for told in ("3.0 min epochs took", "60 s storing features took", "60 s contrast took", "5.0 min took in all"):
            assert told in page.text
        learn.fit(0.1, 1)
        assert f"Kept: after fit 1, {learn.record.kept or ''}"[:22] in page_of(learn, tmp_path).text
        assert "after fit 2, the weights after its last step" in page_of(learn, tmp_path).text

    def test_a_table(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        df = pd.DataFrame({"shop": rng.choice(list("ab"), 80), "size": rng.normal(5, 2, 80)})
        df["sales"] = df["size"] * 3 + (df["shop"] == "a")
        df.loc[:4, "size"] = np.nan
        learn = tabular_learner(
            TabularData.from_df(df, "sales", cat_names=["shop"], cont_names=["size"]),
            (8,),
            device="cpu",
            progress=False,
        )
        learn.fit(1e-2, 1)
        page = page_of(learn, tmp_path)
        worst = learn.interpret().top_losses(1)
        fields = learn.data.describe_item("valid", int(worst.index[0]))
        assert set(fields) == {"shop", "size"} and all(v in page.text for v in fields.values())
        assert "r2" in page.text and "residual" in page.text and "column size" in page.text

    def test_texts(self, tmp_path: Path) -> None:
        texts = [f"A {w} film <b>That</b> we saw!" for w in ("good", "bad", "fine", "dull")] * 6
        data = TextData.from_lists(texts, ["pos", "neg"] * 12, min_freq=1, batch_size=4, progress=False)
        small: dict[str, Any] = {"emb_size": 6, "n_hidden": 6, "n_layers": 1, "device": "cpu", "progress": False}
        learn = text_classifier_learner(data, **small)
        page = page_of(learn, tmp_path)
        worst = learn.interpret().top_losses(1).index[0]
        assert learn.data.describe_item("valid", int(worst))["text"] in texts  # as it was written
        assert " film <b>That</b> we saw!" in page.text
        assert "film" in page.text and "not trained here" in page.text and "b" not in page.tags[page.tags.index("h2") :]
        lm = language_model_learner(
            TextLMData.from_lists(texts, min_freq=1, bptt=5, batch_size=2, progress=False), **small
        )
        assert "perplexity" in page_of(lm, tmp_path).text

    def test_several_labels_and_loaders(self, make_learner: MakeLearner, make_data: Any, tmp_path: Path) -> None:
        learn = make_learner(data=make_data("multi_label"))
        learn.fit(0.1, 1)
        assert "By class" in page_of(learn, tmp_path).text
        x, y = torch.randn(8, 5), torch.tensor([0, 1] * 4)
        ready = Learner(LoaderData([(x, y)], [(x, y)], single_label(["a", "b"])), nn.Linear(5, 2), device="cpu")
        assert "have no identity" in page_of(ready, tmp_path).text

    def test_without_validation(self, make_learner: MakeLearner, make_data: Any, tmp_path: Path) -> None:
        learn = make_learner(data=make_data(n_valid=None))
        learn.fit(0.1, 1)
        page = page_of(learn, tmp_path)
        assert "There is no validation split" in page.text and len(page.pictures) == 2


class TestWhatIsOdd:
    def test_out_of_sources_that_are_not_installed(
        self, make_learner: MakeLearner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "library_versions", lambda: {"python": "3.12"})
        text = make_learner("mlp").report(tmp_path / "run.html").read_text(encoding="utf-8")
        assert "easylearn out of its sources" in text

    def test_nothing(self, tmp_path: Path) -> None:
        learn = image_learner()
        learn.fit(0.03, 20)
        assert learn.validate()["accuracy"] == 1
        learn.record.epochs[-1]["train_loss"] = learn.record.epochs[-1]["valid_loss"]  # type: ignore[union-attr]
        assert "Nothing odd was found" in page_of(learn, tmp_path).text

    def test_a_fit_that_ended_early_and_got_worse(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        learn = make_learner()
        learn.fit(0.1, 3, callbacks=[EarlyStopping(min_delta=1e3, patience=1)])
        rows = learn.record.epochs  # type: ignore[union-attr]
        rows[0]["valid_loss"], rows[-1]["valid_loss"], rows[-1]["train_loss"] = 0.1, 9.0, 0.01
        text = page_of(learn, tmp_path).text
        assert "The fit ended early: valid_loss was no better" in text
        assert "lowest after epoch 0 (0.1)" in text and "by heart" in text
        learn.record.kept = "mean of the best 2 epochs (0, 1)"  # type: ignore[union-attr]
        text = page_of(learn, tmp_path).text
        assert "Kept: mean of" in text and "lowest after" not in text and "by heart" not in text

    def test_several_fits_are_one_story_with_a_name(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        learn = make_learner()
        learn.fit(0.1, 1)
        learn.fit(0.05, 2)
        learn.fit(0.01, 3)
        page = learn.report(tmp_path / "r.html", name="cats & <dogs>").read_text("utf-8")
        title = page.partition("<title>")[2].partition("</title>")[0]
        assert title == f"Run report, cats &amp; &lt;dogs&gt;: TensorData, {model_name(learn.model)}"
        assert "<h1>Run report: cats &amp; &lt;dogs&gt;</h1>" in page
        assert "3 fits one after the other, of 1, 2, 3 epochs" in page
        (table,) = [t for t in page.split("<table")[1:] if "train loss" in t]
        assert table.count("<tr>") - 1 == 6 == learn.epochs_done
        learn.model = copy.deepcopy(learn.model)
        assert "fits one after" not in learn.report(tmp_path / "r.html").read_text("utf-8")

    def test_losses_that_are_no_numbers(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        learn = make_learner(loss=lambda logits, target: logits.sum() * math.nan)
        with pytest.warns(EasyLearnWarning):
            learn.fit(0.1, 2)
        assert "ended early: the loss became" in page_of(learn, tmp_path).text

    def test_results(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        x, y = torch.randn(240, 2), torch.tensor([0, 0, 1] * 80)
        task = single_label(["often", "seldom", "never there"])
        model = nn.Linear(2, 3)
        with torch.no_grad():
            model.weight.zero_()
            model.bias.copy_(torch.tensor([9.0, 0.0, 0.0]))
        learn = make_learner(model, data=TensorData((x, y), (x, y), task))
        text = page_of(learn, tmp_path).text
        assert "No validation item has never there" in text and "Never predicted rightly: seldom" in text
        assert "66.7% are right; always saying the most frequent" in text and "off by 33%" in text
        learn.fit(0.0, 1)  # the page has a baseline then, which says the same
        text = page_of(learn, tmp_path).text
        assert "no better than a constant" in text and "always saying" not in text and "off by 33%" in text

    def test_what_metrics_warn_of_is_written(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        x = torch.randn(6, 2)
        data = TensorData((x, torch.tensor([0, 1] * 3)), (x, torch.zeros(6).long()), single_label(["a", "b"]))
        assert (
            "roc_auc is undefined"
            in page_of(make_learner(nn.Linear(2, 2), data=data, metrics=[roc_auc]), tmp_path).text
        )

    def test_pictures_that_were_left_out(self, tmp_path: Path) -> None:
        for k in range(6):
            file = tmp_path / "all" / "ab"[k % 2] / f"{k}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), 40 * k, np.uint8)).save(file)
        (tmp_path / "all" / "a" / "broken.png").write_bytes(b"no picture")
        data = ImageData.from_folder(tmp_path / "all", size=8, valid=0.5, stratify=True, on_error="skip")
        assert len(data.notes()) == 1 and "broken.png" in data.notes()[0]


class TestThatItIsSafe:
    def test_names_and_texts_are_text(self, tmp_path: Path) -> None:
        learn = image_learner(NASTY)
        learn.fit(1e-2, 1)
        text = learn.report(tmp_path / "run.html").read_text(encoding="utf-8")
        page = Page(text)
        assert "script" not in page.tags and "<script" not in text
        assert all(name in page.text for name in NASTY)

    def test_it_fetches_nothing(self, tmp_path: Path) -> None:
        learn = image_learner()
        text = learn.report(tmp_path / "run.html").read_text(encoding="utf-8")
        page = Page(text)
        assert not {"link", "script", "iframe", "object"} & set(page.tags)
        assert "http:" not in text and "https:" not in text and "url(" not in text and "@import" not in text
        assert any("default-src 'none'" in value for _, value in page.attributes)

    def test_it_stays_small(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        learn = image_learner()
        monkeypatch.setattr(module, "DPIS", DPIS)
        size = learn.report(tmp_path / "run.html").stat().st_size
        assert size < module.MOST_BYTES == 3_000_000
        monkeypatch.setattr(module, "MOST_BYTES", size // 2)
        assert learn.report(tmp_path / "run.html").stat().st_size < size // 2

    def test_it_is_replaced_whole(self, make_learner: MakeLearner, tmp_path: Path) -> None:
        learn = make_learner()
        with pytest.raises(ArgumentError, match=r"ends in \.html"):
            learn.report(tmp_path / "run.pdf")
        (tmp_path / "folder.html").mkdir()
        with pytest.raises(SaveError):
            learn.report(tmp_path / "folder.html")
        assert learn.report(tmp_path / "new" / "run.html").exists()

    def test_nothing_moves(self, make_learner: MakeLearner, tmp_path: Path, weights: Any, same: Any) -> None:
        learn = make_learner()
        learn.fit(0.1, 1)
        before, rng = weights(learn), torch.get_rng_state()
        learn.report(tmp_path / "run.html")
        assert same(before, weights(learn)) and torch.equal(rng, torch.get_rng_state())


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here to open the report in")
@pytest.mark.skipif(sys.platform != "linux", reason="chromium's flags are those of Linux")
def test_a_browser_opens_it_without_a_network(tmp_path: Path) -> None:
    learn = image_learner(NASTY)
    learn.fit(1e-2, 2)
    learn.report(tmp_path / "run.html")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    common = [str(CHROMIUM), *flags, f"--user-data-dir={tmp_path / 'profile'}"]
    where = (tmp_path / "run.html").as_uri()

    def run(*more: str) -> str:
        done = subprocess.run([*common, *more, where], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    page = Page(run("--dump-dom"))
    assert "Environment" in page.text and NASTY[0] in page.text and "script" not in page.tags
    run(f"--screenshot={tmp_path / 'page.png'}", "--window-size=1000,1400")
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("L"))
    assert pixels.shape == (1400, 1000) and pixels.mean() > 200 and pixels.std() > 10  # ink on paper
    run(f"--print-to-pdf={tmp_path / 'page.pdf'}")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
