"""compare: the table, the differences, the drawings and the files say what the runs' folders say."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import easylearn as el
from easylearn.errors import ArgumentError, DataError
from easylearn.experiment import compare as module
from easylearn.experiment.lines import append_lines, line_of
from easylearn.experiment.track import EPOCHS, STEPS
from tests.experiment.small import make

NAMES = ("first", "=1+1", "third <b>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: another rate, another seed and size, several fits."""
    top = tmp_path_factory.mktemp("all") / "runs"
    make().fit(0.1, 3, callbacks=[el.Track(top / NAMES[0], {"size": 64}, code=False)])
    make(seed=1).fit(0.1, 2, callbacks=[el.Track(top / NAMES[1], {"size": 128}, code=False)])
    learn, tracker = make(), el.Track(top / NAMES[2], {"size": 64}, code=False)
    learn.fit(0.1, 2, cycle_len=None, callbacks=[tracker])
    learn.fit(0.2, 1, callbacks=[tracker])
    return top


@pytest.fixture
def runs(folder: Path) -> el.Runs:
    return el.compare(folder / "*")


def fake(folder: Path, n: int, **info: Any) -> None:
    """Runs as `Track` writes them, without training."""
    epochs = {"train_loss": 0.5, "valid_loss": 0.6, "rate": 0.1, "seconds": 1.0}
    for i in range(n):
        place = folder / f"run_{i:04d}"
        place.mkdir(parents=True)
        fit = {"begun": f"2026-01-01T00:{i // 60 % 60:02d}:{i % 60:02d}+00:00", "status": "done", "ended": "x"}
        fit |= {"arguments": {"lr": {"head": i / n, "body": i / n / 10}, "seed": i % 3, "wd": 0.1}, "epochs": 10}
        known = {"schema": 1, "id": f"{i:016x}", "arguments": {}, "directions": {"accuracy": True, "valid_loss": False}}
        known |= {"versions": {"torch": "2"}, "machine": {"host": "a"}, "code": None, "facts": {"model": {"name": "m"}}}
        (place / "run.json").write_text(json.dumps({**known, "fits": [fit], **info}), encoding="utf-8")
        rows = [{"fit": 0, "step": 5 * e, "epoch": e, **epochs, "accuracy": ((i * 7 + e) % n) / n} for e in range(10)]
        append_lines(place / EPOCHS, map(line_of, rows))


def test_the_table_has_the_results_and_only_the_arguments_that_differ(runs: el.Runs) -> None:
    table = runs.table()
    assert list(table.index) == list(NAMES)
    assert table["epochs"].tolist() == [3, 2, 3] and table["status"].tolist() == ["done"] * 3
    for run in runs:
        assert table.loc[run.name, "valid_loss"] == run.epochs[-1]["valid_loss"]
        assert table.loc[run.name, "best accuracy"] == max(row["accuracy"] for row in run.epochs)
        assert table.loc[run.name, "best valid_loss"] == min(row["valid_loss"] for row in run.epochs)
    assert table["size"].tolist() == [64, 128, 64] and table["seed"].tolist() == [0, 1, 0]
    assert table["lr.model"].tolist() == [0.1, 0.1, 0.2] and "batch_size" not in table
    assert table.loc["third <b>", "fit 1: lr.model"] == 0.1
    full = runs.table(full=True)
    assert full["batch_size"].tolist() == [4, 4, 4] and full["versions.torch"].notna().all()
    assert set(table.columns) <= set(full.columns)


def test_sorted_by_a_metric_in_its_direction(runs: el.Runs) -> None:
    losses = runs.table(sort="valid_loss")["best valid_loss"].tolist()
    scores = runs.table(sort="accuracy")["best accuracy"].tolist()
    assert losses == sorted(losses) and scores == sorted(scores, reverse=True)
    assert runs.metric == "accuracy" and runs.ranked()[0].best("accuracy") == scores[0]


def test_differences_of_two_runs(runs: el.Runs) -> None:
    found = runs.differences(0, "=1+1")
    assert found.loc["size"].tolist() == [64, 128] and found.loc["seed"].tolist() == [0, 1]
    assert "batch_size" not in found.index and "versions.torch" not in found.index
    parted = [name for name in found.index if name.startswith("loss, the same up to step 0")]
    assert found.loc[parted[0]].tolist() == [runs[0].steps[0]["loss"], runs[1].steps[0]["loss"]]


def test_two_runs_of_one_kind_have_no_differences_and_others_say_where_they_part(tmp_path: Path) -> None:
    for name, lr in (("a", 0.1), ("b", 0.1), ("c", 0.2)):
        make().fit(lr, 2, callbacks=[el.Track(tmp_path / name, code=False)])
    runs = el.compare([tmp_path / n for n in "abc"])
    assert len(runs.differences("a", "b")) == 0
    assert any("up to step 1, then" in name for name in runs.differences("a", "c").index)


def test_changed_layers_are_named(tmp_path: Path) -> None:
    from torch import nn

    learn = make()
    learn.fit(0.1, 1, callbacks=[el.Track(tmp_path / "a", code=False)])
    learn = make()
    learn.model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 2))
    learn.fit(0.1, 1, callbacks=[el.Track(tmp_path / "b", code=False)])
    found = el.compare(tmp_path).differences("a", "b")
    assert any("0.weight" in name for name in found.index) and any("layers.2" in name for name in found.index)
    assert found.loc["model.parameters"].tolist() == [26, 32]


def test_curves(runs: el.Runs) -> None:
    (axes,) = runs.plot("valid_loss").axes
    drawn = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert drawn == {run.name: [row["valid_loss"] for row in run.epochs] for run in runs}
    (axes,) = runs.plot("loss").axes
    drawn = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    assert drawn == {run.name: [row["loss"] for row in run.steps] for run in runs}
    assert runs.plot().axes[0].get_ylabel() == "accuracy"


def test_a_page_that_loads_nothing_and_a_workbook(runs: el.Runs, tmp_path: Path) -> None:
    text = runs.report(tmp_path / "runs.html").read_text(encoding="utf-8")
    assert "third &lt;b&gt;" in text and "<b> " not in text and text.count("<img") == 3
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    pytest.importorskip("openpyxl")
    path = runs.to_excel(tmp_path / "runs.xlsx")
    sheets = pd.read_excel(path, sheet_name=None)
    assert sheets["runs"]["run"].tolist() == list(NAMES) and len(sheets["epochs"]) == 8
    assert sheets["epochs"]["valid_loss"].tolist() == pytest.approx(
        [r["valid_loss"] for one in runs for r in one.epochs]
    )


def test_without_openpyxl_it_says_what_to_install(
    runs: el.Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ArgumentError, match=r"easylearn\[track\]"):
        runs.to_excel(tmp_path / "runs.xlsx")
    assert not list(tmp_path.iterdir())


def test_ways_to_name_runs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    for given in ("runs/*", folder, "runs", [folder / n for n in NAMES], ["runs/first", "runs"]):
        assert len(el.compare(given)) == 3
    assert len(el.compare()) == 3 and len(el.compare("runs/first")) == 1
    assert "first" in repr(el.compare()) and "<table" in el.compare()._repr_html_()
    with pytest.raises(DataError, match=r"no run in .*nowhere"):
        el.compare(tmp_path / "nowhere")
    with pytest.raises(ArgumentError, match=r"'firts'.*first"):
        el.compare()["firts"]
    with pytest.raises(ArgumentError, match="valid_loss"):
        el.compare().plot("valid_los")
    for call in (el.compare().report, el.compare().to_excel):
        with pytest.raises(ArgumentError, match="ends in"):
            call("runs.txt")


def test_runs_called_alike_keep_the_folder_above(tmp_path: Path) -> None:
    for top in "ab":
        fake(tmp_path / top, 1)
    assert [run.name for run in el.compare([tmp_path / "a", tmp_path / "b"])] == ["a/run_0000", "b/run_0000"]


def test_what_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    fake(tmp_path, 3)
    (tmp_path / "run_0001" / "run.json").write_text("{", encoding="utf-8")
    torn = tmp_path / "run_0002" / EPOCHS
    torn.write_bytes(torn.read_bytes()[:-5])
    runs = el.compare(tmp_path)
    assert [len(run.epochs) for run in runs] == [10, 9] and list(runs.unreadable) == ["run_0001"]
    assert "run_0001" in runs.report(tmp_path / "r.html").read_text(encoding="utf-8")
    for place in ("run_0000", "run_0002"):
        (tmp_path / place / "run.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="no run can be read"):
        el.compare(tmp_path)


def test_runs_that_have_only_begun(tmp_path: Path) -> None:
    fake(tmp_path, 2)
    for name in (EPOCHS, STEPS):
        (tmp_path / "run_0000" / name).unlink(missing_ok=True)
    runs = el.compare(tmp_path)
    assert runs.table()["epochs"].tolist() == [0, 10] and runs.ranked()[0].name == "run_0001"
    assert runs.report(tmp_path / "r.html").exists() and len(runs.plot().axes[0].lines) == 2
    assert len(runs.differences(0, 1))
    with pytest.raises(ArgumentError, match="no run 9: the 2 runs are numbered from 0"):
        runs.differences(0, 9)


def test_of_many_runs_the_best_have_colours(tmp_path: Path) -> None:
    fake(tmp_path, 40)
    lines = el.compare(tmp_path).plot().axes[0].lines
    named = [line.get_label() for line in lines if line.get_label().startswith("run_")]
    assert named == [run.name for run in el.compare(tmp_path).ranked()[: module.NAMED]]
    (grey,) = [line for line in lines if line.get_label() not in named]
    assert sum(not math.isnan(y) for y in grey.get_ydata()) == 30 * 10


def test_arguments_called_like_results_do_not_take_their_place(tmp_path: Path) -> None:
    for n in (1, 2):
        make().fit(0.1, n, callbacks=[el.Track(tmp_path / str(n), {"epochs": 10 * n, "status": "good"}, code=False)])
    table = el.compare(tmp_path / "*").table(full=True)
    assert list(table["epochs"]) == [1, 2] and list(table["argument epochs"]) == [10, 20]
    assert list(table["status"]) == ["done", "done"] and list(table["argument status"]) == ["good", "good"]
