"""What an export measures: real items, latency, and the report of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from easylearn.artefact.measure import ExportReport, TrainedModel, first_batch, measure, timed
from easylearn.artefact.training import TrainingSettings
from easylearn.data.loaders import TensorData
from easylearn.task import single_label
from easylearn.train.strategy import SingleDevice


def trained(n_train: int = 6, n_valid: int | None = 9) -> TrainedModel:
    g = torch.Generator().manual_seed(0)

    def split(n: int) -> Any:
        return torch.randn(n, 4, generator=g), torch.arange(n) % 3

    data = TensorData(
        split(n_train), None if n_valid is None else split(n_valid), single_label(["a", "b", "c"]), batch_size=5
    )
    return TrainedModel(nn.Linear(4, 3), data.task, data, SingleDevice("cpu"), TrainingSettings())


def test_the_first_items_are_those_of_validation_where_there_are_any() -> None:
    model = trained()
    batch = first_batch(model, 3)
    assert batch is not None and batch.target is None and batch.index.tolist() == [0, 1, 2]
    valid = next(iter(model.data.loader("valid").batches(torch.device("cpu"))))
    assert torch.equal(batch.inputs[0], valid.inputs[0][:3])
    alone = first_batch(trained(n_valid=None), 2)
    assert alone is not None and len(alone.index) == 2


def test_looking_moves_no_global_generator() -> None:
    model, state = trained(), torch.get_rng_state()
    first_batch(model)
    assert torch.equal(state, torch.get_rng_state())


def test_a_measure_has_latency_loss_and_metrics() -> None:
    model = trained()
    found = measure(model, model.model)
    assert set(found) == {"ms", "valid_loss", "accuracy"} and found["ms"] > 0
    assert set(measure(trained(n_valid=None), model.model)) == {"ms"}


def test_calls_to_warm_up_do_not_count() -> None:
    calls: list[int] = []
    assert timed(lambda: calls.append(1), repeats=4) >= 0 and len(calls) == 7


def test_a_report_is_a_table_and_a_text(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"x" * 1234)
    rows = {"before": {"bytes": 5000.0, "ms": 1.5}, "after": {"bytes": 1234.0}}
    report = ExportReport(tmp_path / "m", "onnx", rows, checked=8, difference=1e-6, notes=("a note",))
    assert repr(report) == str(report)
    text = str(report)
    assert all(
        word in text for word in ("1,234 bytes", "8 items", "1e-06", "before", "after", "5,000", "1.5", "a note")
    )
    assert report.to_frame().loc["before", "ms"] == 1.5
