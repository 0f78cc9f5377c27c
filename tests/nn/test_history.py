"""The history encoder against its formula, and what it leaves out."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from easylearn.nn.history import HistoryEncoder
from easylearn.nn.registry import build, describe
from easylearn.ranked import LEFT_OUT

X = torch.tensor([[1.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]])


def test_it_is_its_formula() -> None:
    model = HistoryEncoder(4, 3, seed=1).eval()
    hidden = torch.tanh(F.normalize(X) @ model.encoder.weight + model.encoder.bias)
    wanted = hidden @ model.decoder.weight.T + model.decoder.bias
    found = model(X)
    torch.testing.assert_close(found[X == 0], wanted[X == 0])
    assert (found[X > 0] == LEFT_OUT).all() and (found.softmax(1)[X > 0] == 0).all()
    torch.testing.assert_close(model(3 * X), found)  # how much in all does not matter


def test_sums_of_rows_are_the_product_of_matrices() -> None:
    model = HistoryEncoder(4, 3, drop=0.0, seed=1)
    x = torch.cat([X[1:], X, X[1:]])  # who took nothing, first and last, too
    sums = []
    for mode in (True, False):
        model.train(mode).zero_grad()
        model.person(x).square().sum().backward()  # type: ignore[no-untyped-call]
        sums.append((model.person(x), model.encoder.weight.grad))
    for a, b in zip(*sums, strict=True):
        torch.testing.assert_close(a, b)


def test_training_sees_half_a_history_and_scores_all_of_it() -> None:
    model = HistoryEncoder(4, 3, drop=0.5, seed=1)
    outputs = {tuple(model(X)[0].tolist()) for _ in range(40)}
    assert len(outputs) == 4 and min(min(o) for o in outputs) > LEFT_OUT / 2  # neither, one, the other, both


def test_seed_decides_and_a_note_builds_it_again() -> None:
    a, b, c = (HistoryEncoder(4, 3, seed=s) for s in (1, 1, 2))
    assert torch.equal(a.vectors(), b.vectors()) and not torch.equal(a.vectors(), c.vectors())
    again = build(describe(HistoryEncoder(5, 2, drop=0.25)))
    assert again.encoder.drop.p == 0.25 and again.vectors().shape == (5, 2)
    assert [g.name for g in a.layer_groups()] == ["encoder", "output"]
