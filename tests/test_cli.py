"""The command line: what it prints and what it returns."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import easylearn
from easylearn import demo
from easylearn.cli import main
from easylearn.errors import DataError
from easylearn.text import pretrain
from easylearn.text.pretrain import Pretraining


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"easylearn {easylearn.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dmeo"],
        ["demo", "texts"],
        ["demo", "--epoch"],
        ["demo", "--epochs", "many"],
        ["pretrain-lm"],
        ["pretrain-lm", "corpus"],
        ["pretrain-lm", "corpus", "--out", "lm", "--share", "half"],
    ],
)
def test_wrong_arguments_end_with_2_and_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: easylearn" in capsys.readouterr().err


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
        ("easylearn-demo", 5),
        ("easylearn-demo", 2, "tables"),
        ("easylearn-demo", 3, "text"),
        ("easylearn-demo", 7, "text"),
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
    typed += " --valid 0.5 --share 0.25 --drop-mult 0 --backward --seed 3 --every 1min --device cpu"
    assert main(["pretrain-lm", "books", "--out", "lm", *typed.split()]) == 130
    assert "goes on from there" in capsys.readouterr().out
    chosen = Pretraining("compact", 2, 1e-3, 8, 9, 99, 1, "bpe", 0.5, 0.25, 0.0, True, 3)
    assert seen == [("books", "lm", chosen, "1min", "cpu")]


@pytest.mark.parametrize(
    ("typed", "said"), [("--size huge", "size"), ("--epochs 0", "epochs"), ("--share 2", "share"), ("", "no folder")]
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
