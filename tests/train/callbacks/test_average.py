from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import swa_utils

from easylearn.errors import ArgumentError
from easylearn.learning import Learner
from easylearn.train.callbacks import WeightAverage

MakeLearner = Callable[..., Learner]
CPU = torch.device("cpu")


def warming(decay: float) -> Any:
    """A moving average that keeps (1 + t) / (10 + t) at most, for torch's class."""

    def move(averages: list[torch.Tensor], weights: list[torch.Tensor], t: torch.Tensor) -> None:
        kept = min(decay, (1 + int(t)) / (10 + int(t)))
        for average, live in zip(averages, weights, strict=True):
            average.copy_(kept * average + (1 - kept) * live)

    return move


def by_hand(
    learn: Learner, at: Any, kind: str, n: int, start: int = 0, decay: float = 0.9
) -> tuple[swa_utils.AveragedModel, Any]:
    """The same fit without the callback, averaged by torch's own class."""
    fn = warming(decay) if kind == "ema" else None
    average = swa_utils.AveragedModel(learn.model, multi_avg_fn=fn)

    def update(run: Any) -> None:
        if run.epoch >= start:
            average.update_parameters(run.model)

    spy = at(batch_end=update) if kind == "ema" else at(validate_begin=update)
    record = learn.fit(0.1, n, cycle_len=None, callbacks=[spy])
    return average, record


@pytest.mark.parametrize(("kind", "start"), [("swa", 0), ("swa", 2), ("ema", 0), ("ema", 1)])
def test_the_weights_are_torchs(make_learner: MakeLearner, at: Any, kind: Any, start: int) -> None:
    ours, theirs = make_learner(), make_learner()
    ours.fit(0.1, 4, cycle_len=None, callbacks=[WeightAverage(kind, start, decay=0.9)])
    average, _ = by_hand(theirs, at, kind, 4, start)
    for p, q in zip(ours.model.parameters(), average.module.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_ema_counts_optimizer_steps_not_batches(make_learner: MakeLearner, at: Any) -> None:
    ours, theirs = make_learner(accumulate=3), make_learner(accumulate=3)
    ours.fit(0.1, 2, cycle_len=None, callbacks=[WeightAverage("ema", decay=0.9)])
    average = swa_utils.AveragedModel(theirs.model, multi_avg_fn=warming(0.9))

    def update(run: Any) -> None:
        if run.step in (3, 6, 9, 12):
            average.update_parameters(run.model)

    theirs.fit(0.1, 2, cycle_len=None, callbacks=[at(batch_end=update)])
    for p, q in zip(ours.model.parameters(), average.module.parameters(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize(("kind", "kept"), [("swa", "over 2 epochs"), ("ema", "over 12 steps")])
def test_the_record_says_what_was_kept(make_learner: MakeLearner, kind: Any, kept: str) -> None:
    learn = make_learner()
    assert learn.fit(0.1, 2, callbacks=[WeightAverage(kind)]).kept == f"the {kind} average {kept}"
    assert learn.fit(0.1, 1).kept is None


def test_a_short_fit_is_about_as_good_with_an_average(make_learner: MakeLearner) -> None:
    first, last, average = ([p.detach().clone() for p in make_learner().model.parameters()] for _ in range(3))
    for into, callbacks in ((last, []), (average, [WeightAverage("ema")])):
        learn = make_learner()
        assert len(learn.fit(0.1, 5, callbacks=callbacks)) == 30  # where 0.999 keeps 97 % of the random weights
        into[:] = [p.detach() for p in learn.model.parameters()]
    away, moved = (
        sum(float((p - q).square().sum()) for p, q in zip(some, last, strict=True)) for some in (average, first)
    )
    assert away < 0.1 * moved


def test_swa_is_the_mean_of_the_epochs(make_learner: MakeLearner, at: Any) -> None:
    ends: list[list[torch.Tensor]] = []
    plain = make_learner()
    plain.fit(
        0.1,
        3,
        cycle_len=None,
        callbacks=[at(epoch_end=lambda run: ends.append([p.detach().clone() for p in run.model.parameters()]))],
    )
    learn = make_learner()
    learn.fit(0.1, 3, cycle_len=None, callbacks=[WeightAverage("swa", start=1)])
    for p, *each in zip(learn.model.parameters(), *ends[1:], strict=True):
        torch.testing.assert_close(p.detach(), torch.stack(each).mean(0))


def test_batch_norm_statistics_are_torchs_update_bn(make_learner: MakeLearner, make_data: Any) -> None:
    """Over the training batches; torch's function has dropout on while it does so, ours has not."""
    learn = make_learner(data=make_data(n_train=24))
    for layer in learn.model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    learn.fit(0.1, 2, callbacks=[WeightAverage("swa")])
    ours = {n: b.clone() for n, b in learn.model.named_buffers()}
    momenta = [m.momentum for m in learn.model.modules() if isinstance(m, nn.BatchNorm1d)]
    assert set(momenta) == {0.1}
    batches = [b.inputs[0] for b in learn.data.loader("train", training=True).batches(CPU, seed=0, epoch=2)]
    swa_utils.update_bn(batches, learn.model)
    for name, value in learn.model.named_buffers():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-6)


def test_frozen_statistics_are_left_alone(make_learner: MakeLearner) -> None:
    learn = make_learner()
    learn.freeze_to(1)
    before = {n: b.clone() for n, b in learn.model[0].named_buffers()}  # type: ignore[index]
    learn.fit(0.1, 2, callbacks=[WeightAverage("ema", decay=0.5)])
    assert all(torch.equal(before[n], b) for n, b in learn.model[0].named_buffers())  # type: ignore[index]
    kept = make_learner(bn_freeze=True)
    kept.fit(0.1, 2, callbacks=[WeightAverage("ema", decay=0.5)])
    assert all(torch.equal(before[n], b) for n, b in kept.model[0].named_buffers())  # type: ignore[index]


@pytest.mark.parametrize("kind", ["swa", "ema"])
def test_training_goes_on_with_the_live_weights(make_learner: MakeLearner, kind: Any) -> None:
    with_it, without = make_learner(), make_learner()
    a = with_it.fit(0.1, 3, callbacks=[WeightAverage(kind, decay=0.9)])
    b = without.fit(0.1, 3)
    assert a.losses == b.losses
    assert a.column("valid_loss")[-1] != b.column("valid_loss")[-1]


def test_validation_is_of_the_averaged_weights(make_learner: MakeLearner, at: Any) -> None:
    seen: list[list[torch.Tensor]] = []
    spy = at(validate_end=lambda run: seen.append([p.detach().clone() for p in run.model.parameters()]))
    make_learner().fit(0.1, 2, cycle_len=None, callbacks=[WeightAverage("ema", decay=0.9), spy])
    average, _ = by_hand(make_learner(), at, "ema", 2)
    for p, q in zip(seen[-1], average.module.parameters(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("kind", ["swa", "ema"])
def test_without_validation(make_learner: MakeLearner, make_data: Any, kind: Any) -> None:
    runs = []
    for n_valid in (None, 10):
        learn = make_learner(data=make_data(n_valid=n_valid))
        learn.fit(0.1, 3, callbacks=[WeightAverage(kind, decay=0.5)])
        runs.append(list(learn.model.parameters()))
    plain = make_learner(data=make_data(n_valid=None))
    plain.fit(0.1, 3)
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a, b)
    assert any(not torch.equal(a, c) for a, c in zip(runs[0], plain.model.parameters(), strict=True))


def test_nothing_averaged_yet_changes_nothing(make_learner: MakeLearner, weights: Any, same: Any) -> None:
    with_it, without = make_learner(), make_learner()
    with_it.fit(0.1, 2, callbacks=[WeightAverage("swa", start=5)])
    without.fit(0.1, 2)
    assert same(weights(with_it), weights(without))


def test_a_second_fit_begins_a_new_average(make_learner: MakeLearner, weights: Any, same: Any) -> None:
    again, fresh = make_learner(), make_learner()
    reused = WeightAverage("swa")
    again.fit(0.1, 2, callbacks=[reused]), again.fit(0.1, 2, callbacks=[reused])
    fresh.fit(0.1, 2, callbacks=[WeightAverage("swa")]), fresh.fit(0.1, 2, callbacks=[WeightAverage("swa")])
    assert same(weights(again), weights(fresh))


def test_after_an_error_the_averaged_weights_are_there(make_learner: MakeLearner, at: Any) -> None:
    def fail(run: Any) -> None:
        if run.epoch == 1:
            raise ZeroDivisionError

    learn = make_learner()
    with pytest.raises(ZeroDivisionError):
        learn.fit(0.1, 3, cycle_len=None, callbacks=[WeightAverage("swa"), at(batch_end=fail)])
    one = make_learner()
    one.fit(0.1, 1, cycle_len=None)
    for p, q in zip(learn.model.parameters(), one.model.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_while_precomputing_the_head_alone_is_averaged(make_learner: MakeLearner, weights: Any) -> None:
    learn = make_learner("body_head", precompute=True)
    before = weights(learn)
    learn.fit(0.1, 2, callbacks=[WeightAverage("swa")])
    changed = {n for n, v in weights(learn).items() if not torch.equal(v, before[n])}
    assert changed and all(n.startswith("head.") for n in changed)


def test_the_state_goes_on_in_the_middle(make_learner: MakeLearner, at: Any) -> None:
    """What one run kept after an epoch, another takes up when its fit begins."""
    states: list[Any] = []
    one = WeightAverage("ema", decay=0.9)
    make_learner().fit(0.1, 1, callbacks=[one, at(epoch_end=lambda run: states.append(deepcopy(one.state_dict())))])
    state = states[0]
    assert all(isinstance(t, torch.Tensor) for t in [*state["average"].values(), *state["kept"]])
    two = WeightAverage("ema", decay=0.9)
    two.load_state_dict(state)
    found: list[Any] = []
    make_learner().fit(0.0, 1, callbacks=[two, at(fit_begin=lambda run: found.append(deepcopy(two.state_dict())))])
    assert found[0]["average"].keys() == state["average"].keys()
    assert all(torch.equal(found[0]["average"][n], v) for n, v in state["average"].items())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"kind": "mean"}, "'swa' or 'ema', got 'mean'"),
        ({"decay": 1.0}, "decay"),
        ({"decay": 0.0}, "decay"),
        ({"start": -1}, "start"),
    ],
)
def test_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        WeightAverage(**arguments)
