"""Architecture search: cells as a space, by gradients against a loop by hand, and the guard."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import easylearn as el
from easylearn.errors import ArgumentError, DataError, EasyLearnWarning, StateError
from easylearn.experiment import cell_net, cells, darts, genotype
from easylearn.experiment.architecture import _found, _Mixture
from easylearn.experiment.search import search
from easylearn.experiment.space import Space
from easylearn.experiment.trials import names_read, point_of
from easylearn.learning import Learner
from easylearn.nn.cells import FREE, OPERATIONS
from easylearn.train.record import Record


def images(n: int = 24, batch_size: int = 12, valid: bool = True) -> el.TensorData:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(n, 1, 8, 8, generator=g), torch.arange(n) % 2
    x[y == 1, :, :4] += 1.0
    return el.TensorData(
        (x, y), (x[:12], y[:12]) if valid else None, el.single_label(["a", "b"]), batch_size=batch_size
    )


def test_the_space_of_cells() -> None:
    space = Space(cells(6))
    assert len(space.grid()) == 5**6
    p = point_of({"lr": 0.1, **space.grid()[7]})
    assert genotype(p) == tuple(space.grid()[7].values()) and names_read(p) == set(space.names)
    with pytest.raises(ArgumentError, match=r"cells\(6\).*'lr'"):
        genotype({"lr": 0.1})
    with pytest.raises(ArgumentError, match="1, 3, 6 or 10"):
        cells(5)


@pytest.mark.parametrize("method", ["reinforce", "evolution"])
def test_cells_are_searched_by_the_same_engine(method: str, tmp_path: Path) -> None:
    def make(p: Any) -> Learner:
        return Learner(images(), cell_net(genotype(p), 2, channels=2, cells=1, n_in=1, seed=p.seed), seed=p.seed)

    def fit(learn: Learner, p: Any, **how: Any) -> Any:
        return learn.fit(0.05, 1, **how)

    found = search(make, cells(1), fit, tmp_path / "s", trials=22, method=method, progress=False)
    assert set(found.table().by) == {method}
    learn = found.learner()
    learn.export(tmp_path / "cell.easylearn")
    back = el.load_predictor(tmp_path / "cell.easylearn")
    x = torch.ones(2, 1, 8, 8)
    assert torch.equal(back.predict(x).probs, learn.predict(x).probs)


def by_hand(net: _Mixture, data: el.TensorData, epochs: int, lr: float, cell_lr: float) -> None:
    """First-order DARTS as the paper has it, without a learner."""
    shares, own = net.shares[0], list(net.net.parameters())
    own = [p for p in own if p is not shares]
    of_weights = torch.optim.SGD(own, lr, momentum=0.9, weight_decay=3e-4)
    of_shares = torch.optim.Adam([shares], cell_lr, betas=(0.5, 0.999), weight_decay=1e-3)
    loss, train = nn.CrossEntropyLoss(), data.loader("train", training=True)
    valid = el.TensorData(
        (data.loader("valid").source.inputs[0], data.loader("valid").target), None, data.task,  # type: ignore[attr-defined]
        batch_size=data.batch_size,
    ).loader("train", training=True)  # fmt: skip
    device = torch.device("cpu")
    chosen = (b for epoch in range(99) for b in valid.batches(device, 0, epoch))
    n, step = epochs * len(train), 0
    net.train()
    for epoch in range(epochs):
        for batch in train.batches(device, 0, epoch):
            rate = lr * (1 + torch.cos(torch.tensor(torch.pi * step / n, dtype=torch.float64)).item()) / 2
            of_weights.param_groups[0]["lr"] = rate
            judge = next(chosen)
            shares.grad, = torch.autograd.grad(loss(net(*judge.inputs), judge.target), [shares])  # fmt: skip
            of_shares.step()
            of_weights.zero_grad()
            loss(net(*batch.inputs), batch.target).backward()
            nn.utils.clip_grad_norm_(own, 5.0)
            of_weights.step()
            step += 1


def test_darts_is_what_the_paper_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easylearn.experiment.architecture.RATE", 0.1)
    monkeypatch.setattr("easylearn.experiment.architecture.SHARES_RATE", 0.05)
    data = images()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EasyLearnWarning)
        found = darts(data, channels=2, cells=1, epochs=3, edges=3)
    net = _Mixture(3, 2, 2, 1, 1, 0)
    by_hand(net, data, 3, 0.1, 0.05)
    wanted = net.shares[0].detach().softmax(1)
    got = torch.tensor(found.weights)
    assert torch.allclose(got, wanted, atol=1e-5)
    assert (got - 0.2).abs().max() > 0.02  # they have moved
    assert len(found.record.epochs) == 3 and "nor_conv_3x3" in str(found)


def test_darts_is_repeatable_and_leaves_no_trace() -> None:
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EasyLearnWarning)
        one, same, other = (darts(images(), 2, 1, 1, edges=1, seed=s) for s in (0, 0, 1))
    assert one.weights == same.weights != other.weights and torch.equal(before, torch.get_rng_state())


def chosen(rows: list[list[float]], free: int) -> Any:
    net = _Mixture(len(rows), 2, 1, 1, 1, 0)
    net.shares[0].data = torch.tensor(rows).log()
    return _found(net, free, Record(("weights",)))


def test_operations_without_parameters_are_told_and_bounded() -> None:
    skip, pool, conv = [0.1, 0.6, 0.1, 0.15, 0.05], [0.1, 0.05, 0.2, 0.15, 0.5], [0.4, 0.1, 0.3, 0.15, 0.05]
    assert chosen([skip, conv, conv], 1).genotype == ("skip_connect", "nor_conv_1x1", "nor_conv_1x1")  # "none" aside
    with pytest.warns(EasyLearnWarning, match=r"2 of 3 edges \(0: skip_connect, 1: avg_pool_3x3\).*free=1"):
        found = chosen([skip, pool, conv], 1)
    assert found.genotype == ("skip_connect", "nor_conv_1x1", "nor_conv_1x1")  # the weaker gave way
    assert found.strongest == ("skip_connect", "avg_pool_3x3", "nor_conv_1x1")
    with pytest.warns(EasyLearnWarning):
        assert not set(chosen([skip, pool, skip], 0).genotype) & set(FREE)
    assert set(found.genotype) <= set(OPERATIONS)


def test_what_darts_cannot_search_is_refused() -> None:
    with pytest.raises(DataError, match="valid"):
        darts(images(valid=False))
    x = torch.randn(8, 3)
    flat = el.TensorData((x, torch.arange(8) % 2), (x, torch.arange(8) % 2), el.single_label(["a", "b"]))
    with pytest.raises(DataError, match=r"images of shape \(b, c, h, w\)"):
        darts(flat)
    with pytest.raises(ArgumentError, match="1, 3, 6 or 10"):
        darts(images(), edges=2)
    with pytest.raises(ArgumentError, match="data of images"):
        darts([1, 2])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="free must be"):
        darts(images(), free=-1)


def test_darts_is_for_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "nowhere.invalid", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StateError, match="one process"):
        darts(images(), 2, 1, 1, edges=1)
