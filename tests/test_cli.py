"""The command line: what it prints and what it returns."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import easylearn
from easylearn import demo
from easylearn.cli import main
from easylearn.errors import ArgumentError, DataError
from easylearn.texts import pretrain
from easylearn.texts.pretrain import Pretraining


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"easylearn {easylearn.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--version"], 0, easylearn.__version__),
        (["info", "nowhere"], 1, "easylearn: "),
        (["dmeo"], 2, "usage: easylearn"),
    ],
)
def test_as_a_module_it_is_the_same_command(
    arguments: list[str],
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["anything", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("easylearn", run_name="__main__", alter_sys=True)
    printed = capsys.readouterr()
    assert ended.value.code == status and said in printed.out + printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["dmeo"],
        ["demo", "texts"],
        ["demo", "--epoch"],
        ["demo", "--epochs", "many"],
        ["pretrain-lm"],
        ["pretrain-lm", "corpus"],
        ["pretrain-lm", "corpus", "--out", "lm", "--fraction", "half"],
    ],
)
def test_wrong_arguments_end_with_2_and_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: easylearn" in capsys.readouterr().err


def test_alone_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out.split()
    assert all(name in said for name in ("demo", "predict", "resume"))


def test_the_demo_gets_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(demo, "digits", lambda out, epochs: seen.append((out, epochs)))
    assert main(["demo", "--out", "here", "--epochs", "2"]) == 0
    assert main(["demo"]) == 0
    monkeypatch.setattr(demo, "flights", lambda out, epochs: seen.append((out, epochs, "tables")))
    assert main(["demo", "tables"]) == 0
    monkeypatch.setattr(demo, "reviews", lambda out, epochs: seen.append((out, epochs, "text")))
    assert main(["demo", "text"]) == main(["demo", "text", "--epochs", "7"]) == 0
    assert seen == [
        ("here", 2),
        ("easylearn-demo/images", 5),
        ("easylearn-demo/tables", 2, "tables"),
        ("easylearn-demo/text", 3, "text"),
        ("easylearn-demo/text", 7, "text"),
    ]


def test_pretraining_gets_what_was_typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Any] = []

    def record(corpus: str, out: str, settings: Pretraining, *, every: str, device: str | None) -> Any:
        seen.append((corpus, out, settings, every, device))
        return SimpleNamespace(record=SimpleNamespace(stop_reason=stopped))

    monkeypatch.setattr(pretrain, "pretrain_lm", record)
    stopped: str | None = None
    assert main(["pretrain-lm", "books", "--out", "lm"]) == 0
    assert "pretrained='lm'" in capsys.readouterr().out
    assert seen.pop() == ("books", "lm", Pretraining(), "5min", None)

    stopped = "interrupted"
    typed = "--size compact --epochs 2 --lr 1e-3 --batch-size 8 --bptt 9 --max-vocab 99 --min-freq 1 --tokenizer bpe"
    typed += " --valid 0.5 --fraction 0.25 --drop-mult 0 --backward --seed 3 --sampled 64 --every 1min --device cpu"
    assert main(["pretrain-lm", "books", "--out", "lm", *typed.split()]) == 130
    assert "goes on from there" in capsys.readouterr().out
    chosen = Pretraining("compact", 2, 1e-3, 8, 9, 99, 1, "bpe", 0.5, 0.25, 0.0, True, 3, 64)
    assert seen == [("books", "lm", chosen, "1min", "cpu")]


@pytest.mark.parametrize(
    ("typed", "said"),
    [("--size huge", "size"), ("--epochs 0", "epochs"), ("--fraction 2", "fraction"), ("", "no folder")],
)
def test_wrong_settings_of_pretraining(
    typed: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain-lm", str(tmp_path / "books"), "--out", str(tmp_path / "lm"), *typed.split()]) == 1
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (DataError("the folder is empty"), 1, "easylearn: the folder is empty"),
        (PermissionError(13, "Permission denied", "/out"), 1, "Permission denied"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_are_one_line_and_a_status(
    error: BaseException, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(out: str, epochs: int) -> None:
        raise error

    monkeypatch.setattr(demo, "digits", fail)
    assert main(["demo"]) == status
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1 and printed.out == ""


def test_errors_of_the_program_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "digits", lambda out, epochs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["demo"])


def test_the_number_of_epochs_is_checked_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--out", str(tmp_path / "out"), "--epochs", "0"]) == 1
    assert "at least 1, got 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_out_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("mine")
    assert main(["demo", "--out", str(tmp_path / "out")]) == 1
    assert "out" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


EXPORTS = Path(__file__).parent / "data" / "exports" / "schema1"


def test_predict_writes_what_the_predictor_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts").mkdir()
    for name, text in {"b": "a bad film", "a": "a good film"}.items():
        (tmp_path / "texts" / f"{name}.txt").write_text(text, encoding="utf-8")
    out = tmp_path / "said.csv"
    assert main(["predict", str(EXPORTS / "text.easylearn"), str(tmp_path / "texts"), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"2 predictions in {out}\n"
    predictor = easylearn.load_predictor(EXPORTS / "text.easylearn", device="cpu")
    said = predictor.predict(["a good film", "a bad film"])
    table = pd.read_csv(out)
    assert table["id"].tolist() == ["a.txt", "b.txt"] and table["label"].tolist() == list(said.labels)
    assert table[[f"p_{c}" for c in predictor.classes]].to_numpy() == pytest.approx(said.probs.numpy(), abs=1e-6)


@pytest.mark.parametrize("bad", [(), (2,), (0, 3, 4), tuple(range(5))], ids=str)
def test_predict_goes_on_after_files_that_cannot_be_read(tmp_path: Path, bad: tuple[int, ...]) -> None:
    from PIL import Image

    (tmp_path / "images").mkdir()
    for k in range(5):
        file = tmp_path / "images" / f"{k}.png"
        Image.new("RGB", (20, 20), (50 * k, 0, 90)).save(file)
        if k in bad:
            file.write_bytes(file.read_bytes()[:60] if k % 2 else b"no image")
    model, out = EXPORTS / "pictures.easylearn", tmp_path / "said.csv"
    files = sorted((tmp_path / "images").iterdir())
    predictor = easylearn.load_predictor(model, device="cpu")
    for given in ([tmp_path / "images"], files):  # a folder, and files
        assert main(["predict", str(model), *map(str, given), "--out", str(out), "--on-error", "skip"]) == 0
        table = pd.read_csv(out, dtype={"label": str}, keep_default_na=False)
        assert [Path(name).name for name in table["id"]] == [f"{k}.png" for k in range(5)]
        for k, (label, why) in enumerate(zip(table["label"], table["error"], strict=True)):
            if k in bad:
                assert label == "" and f"{k}.png" in why
            else:
                assert label == predictor.predict(files[k]).label and why == ""
    if bad:
        assert main(["predict", str(model), str(tmp_path / "images"), "--out", str(out)]) == 1


def test_a_stream_goes_on_after_items_that_are_none() -> None:
    pictures = easylearn.load_predictor(EXPORTS / "pictures.easylearn", device="cpu")
    good = np.zeros((20, 20, 3), np.uint8)
    said = list(pictures.stream([good, b"none", good, "https://x.org/a.jpg", good], on_error="skip"))
    assert [name for name, _ in said] == ["0", "1", "2", "https://x.org/a.jpg", "4"]
    assert [isinstance(one, DataError) for _, one in said] == [False, True, False, True, False]
    texts = easylearn.load_predictor(EXPORTS / "text.easylearn", device="cpu")
    said = list(texts.stream(["a good film", 7, "a bad film"], on_error="skip"))
    assert [isinstance(one, DataError) for _, one in said] == [False, True, False]
    assert said[2][1].label == texts.predict("a bad film").label  # type: ignore[union-attr]
    with pytest.raises(ArgumentError, match='"raise" or "skip"'):
        next(pictures.stream([good], on_error="ignore"))  # type: ignore[arg-type]


def test_predict_leaves_no_half_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "said.csv"
    out.write_text("before", encoding="utf-8")
    model = str(EXPORTS / "pictures.easylearn")
    assert main(["predict", model, str(tmp_path / "missing.jpg"), "--out", str(out)]) == 1
    assert "missing.jpg" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "before" and list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("name", ["pictures", "table", "text", "language_model"])
def test_info_says_what_a_file_holds(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(EXPORTS / f"{name}.easylearn")]) == 0
    shown = capsys.readouterr().out
    assert "schema 1" in shown and "tensors of" in shown and "torch" in shown


def test_info_of_something_else_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "weights.easylearn"
    file.write_bytes(b"no zip at all, but long enough to be looked at")
    assert main(["info", str(file)]) == 1
    assert "not a whole model file" in capsys.readouterr().err


def test_resume_says_how_far_a_run_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = torch.randn(20, 3), torch.tensor([0, 1] * 10)
    task = easylearn.single_label(["no", "yes"])
    learn = easylearn.Learner(
        easylearn.TensorData((x, y), (x, y), task, batch_size=5), nn.Linear(3, 2), device="cpu", progress=False
    )
    learn.fit(0.1, 2, checkpoint=tmp_path / "run")
    assert main(["resume", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "step 8 of 8" in shown and "learn.resume(" in shown
    assert main(["resume", str(tmp_path / "nothing")]) == 1
    assert "nothing to resume" in capsys.readouterr().err


def test_resume_goes_on_with_pretraining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    settings = Pretraining(size="tiny", epochs=2, fraction=0.5)
    (tmp_path / "settings.json").write_text(json.dumps({"corpus": "books", **asdict(settings)}), encoding="utf-8")

    def run(corpus: str, out: Path, given: Pretraining, **_: Any) -> SimpleNamespace:
        asked.append((corpus, out, given))
        return SimpleNamespace(record=None)

    monkeypatch.setattr(pretrain, "pretrain_lm", run)
    assert main(["resume", str(tmp_path)]) == 0
    assert asked == [("books", tmp_path, settings)]
    (tmp_path / "settings.json").write_text("{}", encoding="utf-8")
    assert main(["resume", str(tmp_path)]) == 1
