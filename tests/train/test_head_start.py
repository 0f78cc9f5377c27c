"""A new head that starts as a linear model of the features, compared with scikit-learn's."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from easylearn import keyed
from easylearn.data.loaders import TensorData
from easylearn.errors import EasyLearnWarning
from easylearn.learning import Learner
from easylearn.nn.body_head import BodyHead
from easylearn.nn.branched import Branched
from easylearn.nn.heads import pooled_head
from easylearn.task import Task, multi_label, regression, single_label
from easylearn.train import head_start
from easylearn.train.head_start import (
    _names_told,
    _ranks,
    _share_out,
    is_fresh,
    scale_features,
    solve_head,
    solve_linear,
)
from easylearn.train.optim import sgd

N, SIZE = 90, 40
THREE = single_label(["a", "b", "c"])


def made(task: Task = THREE, n: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features of very different spreads, and targets that a linear model can know to some extent."""
    made_by = torch.Generator().manual_seed(seed)
    x = torch.randn(n, SIZE, generator=made_by) * torch.logspace(-1, 1, SIZE) + 5
    way = torch.randn(SIZE, task.n_out, generator=torch.Generator().manual_seed(9))
    way /= torch.logspace(-1, 1, SIZE)[:, None]
    out = (x - 5) @ way + torch.randn(n, task.n_out, generator=made_by)
    if task.predicts_numbers:
        return x, out
    return x, out.argmax(1) if task.is_exclusive else (out > 0).float()


def learner(task: Task = THREE, n: int = N, hidden: Sequence[int] = (), precompute: bool = True) -> Learner:
    body = nn.Sequential(nn.Linear(SIZE, SIZE), nn.Identity())
    body[0].weight.data.copy_(torch.eye(SIZE))
    body[0].bias.data.zero_()
    torch.manual_seed(0)
    head = pooled_head(SIZE, task.n_out, hidden=hidden)
    model = BodyHead(body, nn.Identity(), head, [(body[0],), (body[1],)], [0.0], [1.0])
    data = TensorData(made(task, n), made(task, 400, seed=1), task, batch_size=16)
    learn = Learner(data, model, optimizer=sgd, clip=2.0, progress=False, device="cpu")
    learn.freeze()
    learn.precompute = precompute
    return learn


def solved(task: Task, x: Tensor, y: Tensor) -> nn.Module:
    torch.manual_seed(0)
    head = pooled_head(SIZE, task.n_out, hidden=()).eval()
    scale_features(head, x)
    solve_head(head, task, x, y, torch.arange(len(x)), 0)
    return head


def test_it_is_scikit_learns_logistic_and_ridge_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    monkeypatch.setattr(head_start, "_PENALTIES", (1e-3,) * 3)
    monkeypatch.setattr(head_start, "_STEPS", 500)
    monkeypatch.setattr(head_start, "_TOLERANCE", 1e-9)
    for task in (THREE, regression(["height", "width"])):
        x, y = made(task)
        var = x.var(0, correction=0)
        scaled = (x - x.mean(0)) / (var + var.mean()).sqrt()
        scaled = scaled / scaled.square().sum(1).mean().sqrt()  # of mean length 1
        with torch.no_grad():
            ours = solved(task, x, y)(x).numpy()
        if task.predicts_numbers:  # the mean is over both numbers
            theirs = linear_model.Ridge(alpha=N * 1e-3).fit(scaled.numpy(), y.numpy()).predict(scaled.numpy())
            assert np.allclose(ours, theirs, atol=1e-2 * theirs.std())
        else:
            reference = linear_model.LogisticRegression(C=1 / (N * 1e-3), tol=1e-8, max_iter=5000)
            theirs = reference.fit(scaled.numpy(), y.numpy()).predict_proba(scaled.numpy())
            assert np.allclose(torch.from_numpy(ours).softmax(1), theirs, atol=2e-3)


@pytest.mark.parametrize("n_out", [1, 2])
@pytest.mark.parametrize("n", [30, 200])  # fewer items than features, and more
def test_ridge_takes_the_penalty_that_scikit_learn_finds_by_leaving_each_item_out(n: int, n_out: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    task = regression([f"y{k}" for k in range(n_out)])
    x, y = made(task, n)
    x, y = (
        (x - 5) / torch.logspace(-1, 1, SIZE),
        y + 3 * torch.randn(n, n_out, generator=torch.Generator().manual_seed(2)),
    )
    penalties = [10.0**-k for k in range(6)]
    weight, bias, _ = solve_linear(task, x, y, torch.arange(n), 0, torch.zeros(n_out), penalties) or (None, None, None)
    alphas = n * n_out / 2 * np.geomspace(1, 1e-5, 11) * float(x.square().sum(1).mean())
    theirs = linear_model.RidgeCV(alphas).fit(x.double().numpy(), y.double().numpy())
    assert weight is not None and bias is not None and alphas[0] > theirs.alpha_ > alphas[-1]
    assert np.allclose(weight.numpy(), theirs.coef_.reshape(n_out, -1), atol=1e-4 * np.abs(theirs.coef_).max())
    assert np.allclose(bias.numpy(), theirs.intercept_, atol=1e-4)


def test_numbers_whose_weights_float32_does_not_hold_are_not_solved_for() -> None:
    task, (x, y) = regression(["y"]), made(regression(["y"]))
    assert solve_linear(task, x, y.double() * 1e200, torch.arange(N), 0, torch.zeros(1)) is None


def test_of_an_item_that_comes_several_times_all_are_left_out() -> None:
    """Had each its turn, its copies would know it, and the weakest penalty would look best."""
    task = regression(["y"])
    x, y = made(task, 40)
    x, often = x[:, :30], torch.tensor([0, 0, 0, 1, 1, *range(40)])
    penalties = (1.0, 1e-5)

    def left_out(penalty: float) -> float:
        loss = 0.0
        for k in range(40):
            rest = often[often != k]
            at = len(often) / len(rest)  # the penalty is a share of all items' loss
            solved = solve_linear(task, scaled[rest], y[rest], rest, 0, torch.zeros(1), (penalty * at,))
            assert solved is not None
            loss += float((often == k).sum()) * float((scaled[k] @ solved[0][0] + solved[1] - y[k]) ** 2)
        return loss

    scaled = x / x[often].square().sum(1).mean().sqrt()
    chosen = solve_linear(task, scaled[often], y[often], often, 0, torch.zeros(1), penalties)
    best = min(np.geomspace(1, 1e-5, 11), key=left_out)
    again = solve_linear(task, scaled[often], y[often], often, 0, torch.zeros(1), (best,))
    assert chosen is not None and again is not None and torch.allclose(chosen[0], again[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("task", [THREE, multi_label(["a", "b", "c"]), regression(["height"])], ids=lambda t: t.kind)
@pytest.mark.parametrize("rate", [1e-3, 1e-2, 1e-1])
def test_one_epoch_is_enough_at_any_usual_rate(task: Task, rate: float) -> None:
    rate = min(rate, 1e-2) if task.predicts_numbers else rate
    x, y = made(task)
    valid = made(task, 400, seed=1)
    with torch.no_grad():
        reference = float(task.loss(solved(task, x, y)(valid[0]), valid[1]))
    constant = float(task.loss(_constant(task, y).expand(400, -1), valid[1]))
    learn = learner(task)
    learn.fit(rate, 1)
    assert learn.validate()["valid_loss"] < reference * (1.5 if task.predicts_numbers else 1.1) < constant


def _constant(task: Task, y: Tensor) -> Tensor:
    if task.predicts_numbers:
        return y.mean(0)
    return (y.mean(0).logit() if task.is_multi else torch.bincount(y).float().log())[None]


def test_with_precompute_or_without_it_starts_the_same_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[nn.Module] = []
    real = head_start.solve_head

    def solve(head: nn.Module, *rest: Any) -> Tensor | None:
        says = real(head, *rest)
        calls.append(copy.deepcopy(head))
        return says

    monkeypatch.setattr(head_start, "solve_head", solve)
    for precompute in (True, False):
        learn = learner(precompute=precompute)
        learn.fit(1e-2, 1)
        learn.fit(1e-2, 1)
        learn.unfreeze()
        learn.fit(1e-3, 1)
    assert len(calls) == 2
    assert torch.allclose(calls[0][2].weight, calls[1][2].weight)


def test_heads_with_hidden_layers_free_bodies_and_trials_start_where_they_are() -> None:
    hidden, unfrozen, plain = learner(hidden=(8,)), learner(), learner()
    unfrozen.unfreeze()
    for learn in (hidden, unfrozen):
        before = copy.deepcopy(learn.model.head[-1].weight)
        learn.fit(0.0, 1)
        assert torch.equal(learn.model.head[-1].weight, before)
    before = copy.deepcopy(plain.model.state_dict())
    curve = plain.lr_find(n_steps=20)
    assert len(curve.rates) > 9 and is_fresh(plain.model.head)
    assert curve.reason.endswith(
        "; the first fit begins at the new head's solution, which lower rates keep as well or better"
    )
    for learn in (hidden, unfrozen):
        assert "solution" not in learn.lr_find(n_steps=20).reason
    assert all(torch.equal(a, b) for a, b in zip(before.values(), plain.model.state_dict().values(), strict=True))
    plain.fit(0.0, 1)
    assert "solution" not in plain.lr_find(n_steps=20).reason
    assert not is_fresh(plain.model.head) and not torch.equal(plain.model.head[2].weight, before["head.2.weight"])


def test_few_steps_are_many_where_the_head_began_at_its_solution(capsys: pytest.CaptureFixture[str]) -> None:
    for hidden, precompute, told in (((), True, False), ((), False, False), ((8,), True, True)):
        learn = learner(hidden=hidden, precompute=precompute)
        learn.progress = True
        learn.fit_one_cycle(1e-3, 1)
        learn.fit_one_cycle(1e-3, 1)
        assert ("which is few" in capsys.readouterr().out) == told
    learn = learner()
    learn.progress = True
    learn.unfreeze()
    learn.fit_one_cycle(1e-3, 1)
    assert "which is few" in capsys.readouterr().out


def test_too_many_items_to_look_at_unless_their_features_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_start, "MOST_ITEMS", 48)
    without, stored = learner(precompute=False), learner()
    before = without.model.head[2].weight.clone()
    without.fit(0.0, 1)
    stored.fit(0.0, 1)
    assert torch.equal(without.model.head[2].weight, before) and not torch.equal(stored.model.head[2].weight, before)


@pytest.mark.parametrize("spoil", ["constant", "single", "one class"])
def test_features_that_say_nothing_leave_finite_weights(spoil: str) -> None:
    x, y = made()
    if spoil == "constant":
        x = torch.full_like(x, 2.0)
    elif spoil == "single":
        x, y = x[:2], y[:2]
    else:
        y = torch.zeros_like(y)
    head = solved(THREE, x, y)
    assert head[2].weight.isfinite().all() and head[2].bias.isfinite().all() and head[0].running_var.isfinite().all()


def test_features_or_losses_that_are_no_numbers_are_left_to_the_guard() -> None:
    learn = learner()
    learn.task = learn.task.with_loss(lambda logits, target: logits.sum() * float("nan"))
    before = learn.model.head[2].weight.clone()
    with pytest.warns(EasyLearnWarning, match="nan"):
        record = learn.fit(1e-2, 1)
    assert record.stop_reason is not None and torch.equal(learn.model.head[2].weight, before)


def test_other_data_solves_a_head_before_its_first_fit_and_not_after_it() -> None:
    learn, other = learner(), TensorData(made(seed=5), made(n=400, seed=1), THREE, batch_size=16)
    learn.set_data(other)
    learn.fit(0.0, 1, cycle_len=None)
    assert learn.epochs_done == 1
    fresh = solved(THREE, *made(seed=5))  # on the new items: none had been trained
    assert torch.allclose(learn.model.head[2].weight, fresh[2].weight, atol=1e-4)  # type: ignore[union-attr,index]
    learn.fit(1e-2, 1)
    before = copy.deepcopy(learn.model.head.state_dict())  # type: ignore[union-attr]
    learn.set_data(TensorData(made(seed=6), made(n=400, seed=1), THREE, batch_size=16))
    learn.fit(0.0, 1, cycle_len=None)
    now = learn.model.head.state_dict()  # type: ignore[union-attr]
    assert torch.equal(now["2.weight"], before["2.weight"]) and torch.equal(now["0.weight"], before["0.weight"])
    assert not torch.equal(now["0.running_mean"], before["0.running_mean"])


@pytest.mark.parametrize("task", [THREE, multi_label(["a", "b"]), regression(["height"])], ids=lambda task: task.kind)
def test_whether_features_say_anything(task: Task) -> None:
    for n in (60, 3000):
        x, y = made(task, n)
        bias = _constant(task, y).view(-1).float()
        foreign = torch.randn(n, SIZE, generator=torch.Generator().manual_seed(5))
        for features, says in ((x - 5, True), (foreign, n < 100)):  # of few items nothing is said
            found = solve_linear(task, features, y, torch.arange(n), 0, bias)
            assert found is not None and found.says == says
    found = solve_linear(replace(task, loss_fn=task.loss), foreign, y, torch.arange(n), 0, bias)
    assert found is None or found.says  # of a loss of one's own nobody knows what an item costs


def rare(tells: bool, n: int = 1500, seed: int = 0) -> tuple[Task, Tensor, Tensor]:
    """Thirty names, of which features tell one that few items have, or none."""
    g = torch.Generator().manual_seed(seed)
    x, rates = torch.randn(n, 20, generator=g), torch.linspace(0.005, 0.3, 30)
    y = (torch.rand(n, 30, generator=g) < rates).float()
    if tells:
        y[:, 0] = (x[:, 0] > 2).float()
    return multi_label([f"name {k}" for k in range(30)]), x, y


def test_who_tells_one_rare_name_of_thirty_says_something() -> None:
    """Of all names together it lowers the loss by less than a hundredth."""
    for tells in (True, False):
        task, x, y = rare(tells)
        bias = task.first_outputs(y)
        assert bias is not None
        found = solve_linear(task, x, y, torch.arange(len(x)), 0, bias.float())
        assert found is not None and found.told.tolist() == [tells] + 29 * [False] and found.says == tells
    x, y = rare(True)[1:]
    wide = torch.randn(1500, 30, generator=torch.Generator().manual_seed(1))
    for k, says in ((0, True), (None, False)):  # one number of thirty, by ridge regression
        numbers = wide.clone()
        if k is not None:
            numbers[:, k] += 0.35 * x[:, 1]
        found = solve_linear(
            regression([str(k) for k in range(30)]), x, numbers, torch.arange(1500), 0, torch.zeros(30)
        )
        assert found is not None and found.told.tolist() == [says] + 29 * [False]


def test_features_without_meaning_tell_none_of_many_rare_names() -> None:
    """Whatever values are like: in 60 draws with 30 names each less than one is expected to seem to be told."""
    g = torch.Generator().manual_seed(0)
    answers = (torch.rand(60, 300, 30, generator=g) < 0.02).double()
    said = torch.randn(60, 300, 30, generator=g, dtype=torch.float64).exp() ** 3  # with far values
    assert sum(int(_names_told(s, a).sum()) for s, a in zip(said, answers, strict=True)) <= 3
    said[:, :, 7] += 1e9 * answers[:, :, 7]
    enough = answers[:, :, 7].sum(1) >= 7
    told = torch.stack([_names_told(s, a) for s, a in zip(said, answers, strict=True)])
    assert enough.any() and told[enough, 7].all() and told.sum() <= told[:, 7].sum() + 3
    common = (torch.rand(4000, 1, generator=g) < 0.5).double()
    weak = common * 0.2 + torch.randn(4000, 1, generator=g)  # sure, and of no use
    assert not _names_told(weak, common).any() and _names_told(weak + common, common).all()


def test_ranks_are_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    x = np.array([3.0, 1.0, 3.0, 2.0, 3.0, 1.0])
    assert np.allclose(_ranks(x), stats.rankdata(x) - 3.5)


def test_a_constant_does_not_know_the_answers_that_it_is_judged_by(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    real = head_start._is_better
    monkeypatch.setattr(head_start, "_is_better", lambda c, losses: (seen.append(c), real(c, losses))[1])
    task, (x, y) = regression(["y"]), made(regression(["y"]), 120)
    solve_linear(task, x, y, torch.arange(120), 0, torch.zeros(1))
    rest = (y.sum() - y) / 119
    torch.testing.assert_close(seen.pop(), (y - rest).square().flatten().double(), rtol=1e-4, atol=1e-5)
    task, x = multi_label(["a"]), torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    held = np.array(keyed.uniform(np.arange(1000), 1, 0, "held")[:, 0] < 0.2)
    y = torch.from_numpy(held).float()[:, None]  # all that are held back have it, and none of the others
    y[::7] = 1.0
    rate = float(y[torch.from_numpy(~held)].mean())
    solve_linear(task, x, y, torch.arange(1000), 0, torch.tensor([float(y.mean())]).logit())
    assert seen[0].exp().reciprocal().mean().item() == pytest.approx(rate, abs=1e-3)


def test_how_often_an_item_comes_makes_nothing_surer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where rare names are drawn more often."""
    seen: list[Tensor] = []
    real = head_start._names_told
    monkeypatch.setattr(head_start, "_names_told", lambda said, a: (seen.append(a), real(said, a))[1])
    g, times = torch.Generator().manual_seed(0), 1 + 3 * (torch.arange(700) % 5 == 0)
    x, y, index = torch.randn(700, 5, generator=g), torch.randn(700, 2, generator=g), torch.arange(700)
    index = index.repeat_interleave(times)
    solve_linear(regression(["a", "b"]), x[index], y[index], index, 0, torch.zeros(2))
    held = torch.from_numpy(keyed.uniform(np.arange(700), 1, 0, "held")[:, 0] < 0.2)
    assert torch.equal(seen.pop().argsort(0), y[held].argsort(0))
    labels = (y > 1).float()
    solve_linear(multi_label(["a", "b"]), x[index], labels[index], index, 0, torch.zeros(2))
    assert torch.equal(seen.pop().sum(0), labels[held].sum(0))


def test_branches_have_shares_in_the_names_that_they_tell() -> None:
    told = {"a": torch.ones(3) > 0, "b": torch.tensor([True, False, False]), "c": torch.zeros(3) > 0, "d": None}
    for task, of_b in ((multi_label(["x", "y", "z"]), [1, 0, 0]), (THREE, [1, 1, 1])):
        model = Branched(list(told), [nn.Linear(2, 3) for _ in told], [1] * 4, 3, "outputs")
        with pytest.warns(EasyLearnWarning, match="'c' say nothing"):
            _share_out(model, task, told)
        assert model.shares.tolist() == [[1, 1, 1], of_b, [0, 0, 0], [1, 1, 1]]
