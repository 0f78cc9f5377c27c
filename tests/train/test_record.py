from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import nn

from easylearn.errors import ArgumentError, StateError
from easylearn.train.record import Record, format_row, format_table


def filled() -> tuple[Record, torch.optim.Optimizer]:
    groups: list[dict[str, Any]] = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.2)]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    record = Record(("body", "head"))
    for epoch in range(2):
        for step in range(3):
            record.add_step(epoch + 5, torch.tensor(float(10 * epoch + step), requires_grad=True), optimizer)
            optimizer.param_groups[1]["lr"] /= 2
        record.end_epoch(epoch + 5, {"valid_loss": 0.5 - epoch, "accuracy": 0.25})
    return record, optimizer


def test_steps() -> None:
    record, _ = filled()
    assert len(record) == 6
    assert record.losses == [0, 1, 2, 10, 11, 12]
    assert record.rates == [(0.1, 0.2 / 2**k) for k in range(6)]
    assert record.momentum == [0.9] * 6
    assert record.epoch_ends == [3, 6]


def test_epochs() -> None:
    record, _ = filled()
    assert [row["train_loss"] for row in record.epochs] == [1.0, 11.0]
    assert record.column("valid_loss") == [0.5, -0.5] and record.column("epoch") == [5, 6]
    assert list(record.last) == ["epoch", "train_loss", "valid_loss", "accuracy", "rate", "seconds"]
    assert record.last["rate"] == 0.2 / 2**5 and record.last["seconds"] >= 0


def test_a_loss_is_kept_without_its_graph_and_read_when_asked_for() -> None:
    record, optimizer = filled()
    loss = torch.tensor(7.0, requires_grad=True) * 2
    record.add_step(7, loss, optimizer)
    assert record.last_loss == 14.0 and record.losses[-1] == 14.0 and record.last_loss == 14.0
    assert len(record.losses) == len(record) == 7


def test_records_of_fits_one_after_the_other() -> None:
    head = Record(("head",))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    head.add_step(4, torch.tensor(3.0), optimizer)
    head.end_epoch(4, {"valid_loss": 1.0})
    both, _ = filled()
    both.stop_reason, both.kept = "enough", "epoch 5"
    head.before, both.before = {"storing features": 1.0}, {"contrast": 2.0, "storing features": 0.5}
    made = Record.of(head, both)
    assert made.before == {"storing features": 1.5, "contrast": 2.0} and made.kept == "epoch 5"
    assert made.group_names == ("body", "head") and made.stop_reason == "enough"
    assert made.losses == [3.0, *both.losses] and made.epoch_ends == [1, 4, 7]
    assert math.isnan(made.rates[0][0]) and made.rates[0][1] == 0.5 and made.rates[1:] == both.rates
    assert made.column("epoch") == [4, 5, 6] and made.column("accuracy") == [0.25, 0.25]
    assert list(made.to_frame("step")["epoch"]) == [4, 5, 5, 5, 6, 6, 6]
    assert Record.of(both).state_dict() == both.state_dict()


def test_half_precision_losses_are_read_as_floats() -> None:
    record = Record(("model",))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    record.add_step(0, torch.tensor(0.5, dtype=torch.bfloat16), optimizer)
    assert record.losses == [0.5]


@pytest.mark.parametrize(
    ("make", "momentum"),
    [(torch.optim.AdamW, 0.9), (lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.5), 0.5), (torch.optim.Rprop, 0.0)],
)
def test_momentum_is_momentum_or_the_first_beta_or_nothing(make: Any, momentum: float) -> None:
    record = Record(("model",))
    record.add_step(0, torch.tensor(0.0), make([nn.Parameter(torch.zeros(1))], lr=0.1))
    assert record.momentum == [momentum]


def test_an_unknown_column_names_those_there_are() -> None:
    record, _ = filled()
    with pytest.raises(ArgumentError, match=r"no 'f1'; it has \['accuracy', 'epoch'.*'valid_loss'\]"):
        record.column("f1")


def test_an_empty_record() -> None:
    record = Record(("model",))
    assert len(record) == 0 and record.losses == [] and record.column("valid_loss") == []
    assert repr(record) == str(record) == "Record(0 steps)"
    assert len(record.to_frame()) == len(record.to_frame("step")) == 0
    with pytest.raises(StateError, match="nothing was trained yet"):
        _ = record.last
    with pytest.raises(StateError, match="nothing was trained yet"):
        _ = record.last_loss
    record.end_epoch(0, {})
    assert math.isnan(record.last["train_loss"])


def test_frames() -> None:
    record, _ = filled()
    epochs, steps = record.to_frame(), record.to_frame("step")
    assert epochs["epoch"].tolist() == [5, 6] and epochs["epoch"].dtype == "int64"
    assert epochs["train_loss"].tolist() == [1.0, 11.0]
    assert list(steps.columns) == ["epoch", "loss", "momentum", "rate_body", "rate_head"]
    assert steps["epoch"].tolist() == [5, 5, 5, 6, 6, 6] and steps["loss"].tolist() == record.losses
    with pytest.raises(ArgumentError, match="'epoch' or 'step', got 'batch'"):
        record.to_frame("batch")  # type: ignore[arg-type]


def test_state_is_json_and_round_trips() -> None:
    record, optimizer = filled()
    record.stop_reason, record.kept, record.before = "enough", "epoch 5", {"storing features": 1.5}
    again = Record()
    again.load_state_dict(json.loads(json.dumps(record.state_dict())))
    assert again.state_dict() == record.state_dict()
    assert again.rates == record.rates and again.group_names == record.group_names
    again.add_step(7, torch.tensor(1.0), optimizer)  # and goes on
    again.end_epoch(7, {})
    assert again.last["train_loss"] == 1.0 and len(record) == 6
    older = {name: value for name, value in record.state_dict().items() if name not in ("before", "kept")}
    again.load_state_dict(older)
    assert again.before == {} and again.kept is None


def test_printing() -> None:
    record, _ = filled()
    lines = str(record).splitlines()
    assert lines[0].split() == ["epoch", "train_loss", "valid_loss", "accuracy", "rate", "seconds"]
    assert lines[1].split()[:4] == ["5", "1.0000", "0.5000", "0.2500"]
    assert len({len(line) for line in lines}) == 1
    assert repr(record) == "Record(2 epochs, 6 steps; last: train_loss 11.0000, valid_loss -0.5000, accuracy 0.2500)"
    assert format_row({"epoch": 3.0, "rate": 0.00123, "seconds": 1.26, "f1": 2 / 3}) == ["3", "0.0012", "1.3", "0.6667"]


def test_a_table_whose_rows_differ_leaves_cells_empty() -> None:
    lines = format_table([{"epoch": 0.0, "f1": 0.5}, {"epoch": 1.0}]).splitlines()
    assert lines[1].split() == ["0", "0.5000"] and lines[2].split() == ["1"]


def test_small_and_large_numbers_keep_their_digits() -> None:
    assert format_row({"epoch": 1.0, "rmse": 7.85e-08, "mae": 954743.0136, "accuracy": 0.5, "loss": 0.0}) == [
        "1", "7.85e-08", "9.547e+05", "0.5000", "0.0000",
    ]  # fmt: skip
