"""Files that were written once per schema version can be read for ever."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from easylearn.artefact.archive import SCHEMA
from easylearn.export import load_learner, load_predictor

FOLDER = Path(__file__).parents[1] / "data" / "exports"
FILES = sorted(FOLDER.glob("schema*/*.easylearn"))


def maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_exports", FOLDER / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_there_is_one_of_each_kind_and_version() -> None:
    found = {(f.parent.name, f.stem) for f in FILES}
    kinds = ("pictures", "table", "text", "language_model")
    assert found == {(f"schema{v}", kind) for v in range(1, SCHEMA + 1) for kind in kinds}
    assert sum(f.stat().st_size for f in FILES) < 150_000 * SCHEMA


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_it_says_what_it_said_then(file: Path) -> None:
    expected = json.loads((file.parent / "expected.json").read_text())[file.stem]
    make = maker()
    found = make.said(file.stem, load_predictor(file, device="cpu"))
    if isinstance(expected, str):
        assert found == expected
    else:
        probs, want = torch.tensor(found["probs"]), torch.tensor(expected["probs"])
        assert torch.allclose(probs, want, rtol=1e-5, atol=1e-5)
        words = [x for x in expected["labels"] if isinstance(x, str)]
        assert not words or found["labels"] == words
    load_learner(file, device="cpu", progress=False)
