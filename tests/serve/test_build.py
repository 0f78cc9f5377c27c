from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

import easylearn as el
from easylearn.cli import main
from easylearn.errors import WeightsError
from easylearn.serve.build import build
from easylearn.serve.command import add_commands
from easylearn.serve.opening import open_engine
from easylearn.serve.refusals import Limits
from easylearn.texts.tokenize import SubwordTokenizer


def test_wheels_are_copied_and_installed_from_the_folder(files: Path, tmp_path: Path) -> None:
    wheels = [tmp_path / f"{name}-1.0-py3-none-any.whl" for name in ("easylearn_runtime", "other")]
    for wheel in wheels:
        wheel.write_bytes(b"wheel")
    said = build(files / "table.onnx", tmp_path / "service", wheels)
    assert said.startswith("docker build")
    lines = (tmp_path / "service" / "requirements.txt").read_text().splitlines()
    assert lines == ["./easylearn_runtime-1.0-py3-none-any.whl", "./other-1.0-py3-none-any.whl"]
    assert all((tmp_path / "service" / w.name).read_bytes() == b"wheel" for w in wheels)
    mine = tmp_path / "easylearn-1.0-py3-none-any.whl"
    mine.write_bytes(b"wheel")
    build(files / "table.easylearn", tmp_path / "torch", [mine])
    assert (tmp_path / "torch" / "requirements.txt").read_text() == "./easylearn-1.0-py3-none-any.whl[serve]\n"


def test_the_dockerfile_has_commands_that_parse(files: Path, tmp_path: Path) -> None:
    build(files / "table.onnx", tmp_path / "service")
    lines = dict(
        line.split(" ", 1)
        for line in (tmp_path / "service" / "Dockerfile").read_text().splitlines()
        if line[0] != "#" and line[:3] != "RUN"
    )
    assert json.loads(lines["CMD"])[:3] == ["easylearn-runtime", "serve", "./table.onnx"]
    check = json.loads(lines["HEALTHCHECK"].removeprefix("CMD "))
    compile(check[2], "health", "exec")
    assert lines["USER"] == "app"


@pytest.mark.parametrize("name", ["it's.onnx", 'a "b".onnx', "x=y.onnx", "-v.onnx", "a b.onnx"])
def test_odd_names_of_models_are_quoted(files: Path, tmp_path: Path, name: str) -> None:
    shutil.copyfile(files / "table.onnx", tmp_path / name)
    said = build(tmp_path / name, tmp_path / "My Service")
    line = next(x for x in (tmp_path / "My Service" / "Dockerfile").read_text().splitlines() if x.startswith("CMD "))
    words = json.loads(line.removeprefix("CMD "))
    assert words[2] == f"./{name}"
    parsed = argparse.ArgumentParser()
    add_commands(parsed.add_subparsers())
    assert parsed.parse_args(words[1:]).models == [f"./{name}"]
    asked = shlex.split(said)
    assert asked[:5] == ["docker", "build", "-t", "my-service", str(tmp_path / "My Service")]
    assert asked[-1] == "my-service"


@pytest.mark.parametrize(("kind", "needs"), [("word", "easylearn-runtime"), ("bpe", "easylearn-runtime[subwords]")])
def test_a_tokenizer_of_subwords_is_installed_where_it_is_needed(
    kind: str, needs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pd.DataFrame({"text": ["a good film", "a bad one"] * 20, "label": ["x", "y"] * 20})
    tokenizer = SubwordTokenizer.train(list(frame.text), "bpe", 270) if kind == "bpe" else "word"
    data = el.TextData.from_df(frame, "text", "label", tokenizer=tokenizer, min_freq=1, progress=False)
    learn = el.text_classifier_learner(data, emb_size=6, n_hidden=8, n_layers=1, progress=False, device="cpu")
    learn.export(tmp_path / "text.onnx", format="onnx")
    build(tmp_path / "text.onnx", tmp_path / "service")
    assert (tmp_path / "service" / "requirements.txt").read_text() == needs + "\n"
    if kind == "bpe":
        monkeypatch.setitem(sys.modules, "tokenizers", None)
        with pytest.raises(WeightsError, match="pip install tokenizers"):
            open_engine(tmp_path / "text.onnx", Limits())


@pytest.mark.parametrize("given", ["absent-1.0-py3-none-any.whl", "table.onnx"])
def test_what_is_no_wheel_is_refused(
    files: Path, tmp_path: Path, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["build", str(files / "table.onnx"), "--out", str(tmp_path / "o"), "--wheel", str(files / given)]
    assert main(command) == 1
    assert given in (said := capsys.readouterr().err) and ".whl" in said
    assert not (tmp_path / "o").exists()
