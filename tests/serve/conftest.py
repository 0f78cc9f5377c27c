"""One small model of each kind as files of both kinds, made once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from easylearn.learning import Learner
from tests.learners import exported, histories, images, ratings, tables, texts

MAKERS = {"images": images, "table": tables, "ratings": ratings, "histories": histories, "text": texts}


@pytest.fixture(scope="session")
def learners() -> Mapping[str, Learner]:
    made = {name: make(progress=False, device="cpu") for name, make in MAKERS.items()}
    made["table"].fit(1e-2, 1)  # its last layer begins at zero, where no other weight matters
    return made


@pytest.fixture(scope="session")
def files(learners: Mapping[str, Learner], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `images.onnx`, `images.easylearn`, ..."""
    return exported(learners, tmp_path_factory.mktemp("served"))
