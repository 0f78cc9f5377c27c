"""reproduce: every kind of difference is named, and nothing where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import easylearn as el
from easylearn.errors import DataError
from tests.experiment.small import make


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make(seed=3).fit(0.1, 1, callbacks=[el.Track(tmp_path / "a")])
    return tmp_path / "a"


def changed(run: Path, **values: Any) -> Path:
    info = json.loads((run / "run.json").read_bytes())
    (run / "run.json").write_text(json.dumps({**info, **values}), encoding="utf-8")
    return run


def test_nothing_differs_here(run: Path) -> None:
    found = el.reproduce(run, make(seed=3))
    assert found.same and found.differences == {} and "no differences" in repr(found)
    assert "give the learner" in repr(el.reproduce(run))


def test_another_learner(run: Path) -> None:
    learn = make(seed=4, n=24, clip=1.0)
    learn.model = nn.Sequential(nn.Linear(3, 2))
    found = el.reproduce(run, learn).differences
    assert found["fit.seed"] == (3, 4) and found["fit.clip"] == (None, 1.0)
    assert found["data.items.train"] == (20, 24) and "data.fingerprint.train" in found
    assert found["model.parameters"] == (26, 8) and "model.digest" in found
    assert "data.fingerprint.valid" not in found


def test_another_place(run: Path) -> None:
    info = json.loads((run / "run.json").read_bytes())
    versions = {**info["versions"], "torch": "1.0", "python": "2.7.18"}
    machine = {**info["machine"], "host": "elsewhere", "threads": 77}
    code = {"commit": "0" * 40, "difference": "abc", "lines changed": 3, "untracked": {"more.py": "x"}}
    found = el.reproduce(changed(run, versions=versions, machine=machine, code=code))
    assert found.differences["versions.torch"] == ("1.0", torch.__version__)
    assert found.differences["machine.threads"] == (77, torch.get_num_threads())
    assert "machine.host" not in found.differences
    assert found.differences["code.commit"][0] == "0" * 40 and "code.untracked.more.py" in found.differences
    told = "\n".join(found.commands)
    assert "pip install torch==1.0" in told and "git checkout " + "0" * 40 in told and "uncommitted.diff" in told
    assert "Python 2.7.18" in told and "1.0 then" in repr(found)


def test_names_in_commands_are_quoted(run: Path) -> None:
    command = {"arguments": ["a b.py", "; rm -rf x"], "folder": "/x y", "python": "python"}
    (line,) = el.reproduce(changed(run, command=command)).commands
    assert line == "cd '/x y' && python 'a b.py' '; rm -rf x'"


def test_a_repetition_gives_the_same_losses(run: Path, tmp_path: Path) -> None:
    make(seed=3).fit(0.1, 1, callbacks=[el.Track(tmp_path / "again")])
    assert len(el.compare([run, tmp_path / "again"]).differences("a", "again")) == 0


def test_where_no_run_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run in"):
        el.reproduce(tmp_path)
