from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from easylearn.cli import main
from easylearn.errors import ArgumentError, DataError, StateError
from easylearn.learning import Learner
from easylearn.texts import pretrain
from easylearn.texts.data import TextLMData
from easylearn.texts.learner import language_model_learner
from easylearn.texts.pretrain import Pretraining, pretrain_lm, setting_names
from easylearn.texts.transfer import read_encoder
from easylearn.train.callback import Callback
from easylearn.train.state import Pause, Run

SETTINGS = Pretraining(size="tiny", epochs=3, batch_size=4, bptt=10, min_freq=1, valid=0.2)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "SIZES", {"tiny": (8, 12, 2), "full": (9, 13, 2)})


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    words = ["the", "cat", "sat", "on", "a", "mat", "by", "the", "sea", "and", "saw", "a", "dog", "run"]
    for i in range(10):
        text = " ".join(words[(i * j + j) % len(words)] for j in range(30))
        (folder / f"{i}.txt").write_text(text, encoding="utf-8")
    return folder


class StopAt(Callback):
    """Ends a fit after some steps, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_batch_end(self, run: Run) -> None:
        if run.step == self.step:
            run.stop_reason = Pause(f"interrupted after step {run.step}")


def run(corpus: Path, out: Path, settings: Pretraining = SETTINGS, **changes: Any) -> Learner:
    return pretrain_lm(corpus, out, settings, **{"device": "cpu", "progress": False, **changes})


def tensors(learn: Learner) -> dict[str, Tensor]:
    return {n: t.detach().clone() for n, t in learn.model.state_dict().items()}


class TestAWholeRun:
    def test_what_it_writes(self, corpus: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        learn = run(corpus, out)
        assert sorted(f.name for f in out.iterdir()) == ["encoder.safetensors", "record.csv", "settings.json"]
        written = json.loads((out / "settings.json").read_text())
        assert written["corpus"] == str(corpus.resolve()) and written["epochs"] == 3 and written["size"] == "tiny"
        table = pd.read_csv(out / "record.csv")
        assert len(table) == 3 and {"train_loss", "valid_loss", "perplexity"} <= set(table.columns)
        assert table["perplexity"].iloc[-1] == pytest.approx(learn.validate()["perplexity"], rel=1e-4)
        found = read_encoder(out)
        assert found.sizes == {"emb_size": 8, "n_hidden": 12, "n_layers": 2} and found.tokens == learn.data.vocab.tokens
        data = TextLMData.from_folder(corpus, vocab=learn.data.vocab, batch_size=4, bptt=10, progress=False)
        new = language_model_learner(data, pretrained=out, device="cpu", progress=False)
        assert all(torch.equal(t, tensors(learn)[n]) for n, t in new.model.state_dict().items())

    def test_again_it_says_that_it_is_finished(self, corpus: Path, tmp_path: Path) -> None:
        run(corpus, tmp_path / "out")
        before = (tmp_path / "out" / "encoder.safetensors").read_bytes()
        with pytest.raises(StateError, match=r"holds a finished run; use its encoder.safetensors"):
            run(corpus, tmp_path / "out")
        other = Pretraining(**{**SETTINGS.__dict__, "epochs": 4})
        with pytest.raises(StateError, match=r"other settings \(epochs: 3, now 4\)"):
            run(corpus, tmp_path / "out", other)
        assert before == (tmp_path / "out" / "encoder.safetensors").read_bytes()

    def test_it_talks_with_progress(self, corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        run(corpus, tmp_path / "out", progress=True)
        said = capfd.readouterr()
        assert "TextLMData(train 8 documents" in said.out and "perplexity" in said.out + said.err

    def test_backward_subwords_and_folders(self, corpus: Path, tmp_path: Path) -> None:
        (corpus / "train").mkdir(), (corpus / "valid").mkdir()
        for i in range(10):
            (corpus / f"{i}.txt").rename(corpus / ("valid" if i < 2 else "train") / f"{i}.txt")
        settings = Pretraining(**{**SETTINGS.__dict__, "backward": True, "tokenizer": "bpe", "max_vocab": 300})
        learn = run(corpus, tmp_path / "out", settings)
        assert len(learn.data.ids("train")) == 8 and read_encoder(tmp_path / "out").backward


class TestABreak:
    @pytest.mark.parametrize(("step", "every"), [(1, "epoch"), (4, 1), (5, 2), (9, "5min"), (11, 3)])
    def test_it_goes_on_to_the_bit(
        self, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, every: Any
    ) -> None:
        whole = run(corpus, tmp_path / "whole")
        assert len(whole.data.loader("train", training=True)) >= 4
        made = language_model_learner

        def stopping(*args: Any, **kwargs: Any) -> Learner:
            return made(*args, **{**kwargs, "callbacks": [StopAt(step)]})

        monkeypatch.setattr(pretrain, "language_model_learner", stopping)
        out = tmp_path / "broken"
        cut = run(corpus, out, every=every)
        assert cut.record is not None and cut.record.stop_reason == f"interrupted after step {step}"
        assert not (out / "encoder.safetensors").exists() and any((out / "checkpoint").iterdir())
        again = run(corpus, out, every=every)
        assert again.record is not None and again.record.stop_reason is None
        a, b = tensors(whole), tensors(again)
        assert all(torch.equal(a[n], b[n]) for n in a)
        assert whole.record is not None
        assert again.record.losses == whole.record.losses
        assert (tmp_path / "whole" / "encoder.safetensors").read_bytes() == (out / "encoder.safetensors").read_bytes()
        assert not (out / "checkpoint").exists()

    def test_killed_by_an_error_it_goes_on_from_the_last_checkpoint(
        self, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = run(corpus, tmp_path / "whole")

        class Kill(Callback):
            armed = True

            def on_batch_end(self, run: Run) -> None:
                if run.step == 5 and Kill.armed:
                    Kill.armed = False
                    raise ZeroDivisionError

        made = language_model_learner
        monkeypatch.setattr(
            pretrain, "language_model_learner", lambda *a, **k: made(*a, **{**k, "callbacks": [Kill()]})
        )
        with pytest.raises(ZeroDivisionError):
            run(corpus, tmp_path / "out", every=2)
        again = run(corpus, tmp_path / "out", every=2)
        assert all(torch.equal(t, tensors(again)[n]) for n, t in tensors(whole).items())

    def test_other_settings_are_refused(self, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = language_model_learner
        monkeypatch.setattr(
            pretrain, "language_model_learner", lambda *a, **k: made(*a, **{**k, "callbacks": [StopAt(2)]})
        )
        run(corpus, tmp_path / "out")
        with pytest.raises(
            StateError, match=r"other settings \(lr: 0.005, now 0.1\). Give the same, or another folder"
        ):
            run(corpus, tmp_path / "out", Pretraining(**{**SETTINGS.__dict__, "lr": 0.1}))
        (tmp_path / "out" / "settings.json").write_text("{")
        with pytest.raises(StateError, match="does not say what run"):
            run(corpus, tmp_path / "out")

    def test_a_run_that_never_began_binds_nobody(self, corpus: Path, tmp_path: Path) -> None:
        large = Pretraining(**{**SETTINGS.__dict__, "batch_size": 10_000})
        with pytest.raises(DataError, match="do not fill 10000 rows"):
            run(corpus, tmp_path / "out", large)
        run(corpus, tmp_path / "out")


class TestBadInput:
    def test_settings(self) -> None:
        with pytest.raises(ArgumentError, match="size must be one of"):
            Pretraining(size="huge")
        with pytest.raises(ArgumentError, match="epochs must be at least 1"):
            Pretraining(epochs=0)
        with pytest.raises(ArgumentError, match="fraction must be"):
            Pretraining(fraction=0)

    def test_corpora(self, corpus: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="there is no folder"):
            run(tmp_path / "none", tmp_path / "out")
        (corpus / "3.txt").write_bytes(b"abc \xff")
        with pytest.raises(DataError, match=r"3\.txt.*4"):
            run(corpus, tmp_path / "out")


class TestCommand:
    def arguments(self, corpus: Path, out: Path) -> list[str]:
        return [
            "pretrain-lm", str(corpus), "--out", str(out), "--size", "tiny", "--epochs", "2", "--batch-size", "4",
            "--bptt", "10", "--min-freq", "1", "--valid", "0.2", "--device", "cpu",
        ]  # fmt: skip

    def test_it_trains_and_says_where(self, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "out"
        assert main(self.arguments(corpus, out)) == 0
        assert f"pretrained={str(out)!r}" in capsys.readouterr().out
        assert json.loads((out / "settings.json").read_text())["batch_size"] == 4

    def test_a_break(
        self, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        made = language_model_learner
        monkeypatch.setattr(
            pretrain, "language_model_learner", lambda *a, **k: made(*a, **{**k, "callbacks": [StopAt(3)]})
        )
        assert main(self.arguments(corpus, tmp_path / "out")) == 130
        assert "The same command goes on from there" in capsys.readouterr().out
        assert main(self.arguments(corpus, tmp_path / "out")) == 0

    def test_every_setting_has_an_option(self, corpus: Path, tmp_path: Path) -> None:
        assert set(setting_names()) == set(Pretraining.__dataclass_fields__)
        chosen = [
            *self.arguments(corpus, tmp_path / "out"),
            "--backward",
            "--fraction",
            "0.9",
            "--seed",
            "3",
            "--lr",
            "0.01",
        ]
        assert main([*chosen, "--tokenizer", "word", "--max-vocab", "50", "--drop-mult", "0.1", "--every", "2"]) == 0
        written = json.loads((tmp_path / "out" / "settings.json").read_text())
        assert written["backward"] is True and (written["fraction"], written["seed"], written["lr"]) == (0.9, 3, 0.01)
