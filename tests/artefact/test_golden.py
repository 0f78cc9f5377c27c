"""Files that were written once per schema version can be read for ever."""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import easylearn as el
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
    kinds = {"pictures", "table", "text", "language_model"}
    first, later = (
        {("schema1", k) for k in kinds},
        {(f"schema{v}", k) for v in range(2, SCHEMA + 1) for k in {*kinds, "tensors"}},
    )
    assert found == first | later
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


LATER = sorted(f for f in FOLDER.glob("schema*") if f.name != "schema1")


@pytest.mark.parametrize("folder", LATER, ids=lambda f: f.name)
class TestOtherFiles:
    """Weights, encoders and checkpoints; of checkpoints the first edition's are refused."""

    def test_weights(self, folder: Path) -> None:
        expected = json.loads((folder / "expected.json").read_text())["weights"]
        learn = maker().run()
        assert torch.allclose(learn.load(str(folder / "weights.safetensors")).predict().probs, torch.tensor(expected))

    def test_an_encoder(self, folder: Path) -> None:
        data = el.TextData.from_lists(["a good film", "a bad film"] * 4, ["a", "b"] * 4, progress=False,
                                      vocab=folder / "encoder.safetensors")  # fmt: skip
        learn = el.text_classifier_learner(
            data, pretrained=folder / "encoder.safetensors", device="cpu", progress=False
        )
        assert "film" in data.vocab.tokens and len(learn.predict(["a film"])) == 1

    def test_a_checkpoint_goes_on_as_it_would_have(self, folder: Path) -> None:
        expected = json.loads((folder / "expected.json").read_text())["checkpoint"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", el.EasyLearnWarning)  # that this is another torch
            found = maker().resume(folder / "checkpoint").record.losses
        assert len(found) == 12 and found == pytest.approx(expected, rel=1e-4)
