"""blend: weights against exhaustive search and scipy, scores from an outer loop, and one file of it all."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch.overrides import TorchFunctionMode

import easylearn as el
from easylearn.artefact.archive import Archive, write_archive
from easylearn.errors import ArgumentError, DataError, WeightsError
from easylearn.experiment.blend import Blend, blend
from easylearn.experiment.cross_fit import Crossed, cross_fit
from easylearn.intervals import interval_of
from easylearn.learning import Learner
from easylearn.metrics import Metric, accuracy, log_loss, mae, roc_auc
from easylearn.task import Predictions
from tests.experiment.folded import TABLE, TEST, N, by_hand, fit, make, two_columns

PLAN = el.folds(40, 4, seed=1)
Y = torch.arange(40) % 2


def noisy(strength: float, seed: int, y: torch.Tensor = Y) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return two_columns(torch.sigmoid(strength * (2.0 * y - 1) + torch.randn(len(y), generator=g).double()))


def members(*strengths: float, plan: el.Folds = PLAN, **how: Any) -> list[Crossed]:
    return [by_hand(plan, noisy(s, k), Y, test=noisy(s, 9 + k, Y[:6]), **how) for k, s in enumerate(strengths)]


def test_mean_is_the_mean() -> None:
    given = members(0.5, 1, 2)
    both = blend(given)
    assert torch.allclose(both.oof.probs, torch.stack([m.oof.probs for m in given]).mean(0))
    assert torch.allclose(both.test.probs, torch.stack([m.test.probs for m in given]).mean(0))  # type: ignore[union-attr]
    assert both.weights == pytest.approx([1 / 3] * 3) and both.oof.ids == given[0].oof.ids
    assert both.score == interval_of(both.oof.probs, Y, accuracy)


def test_rank_is_the_mean_of_ranks() -> None:
    given = members(0.5, 1)
    both = blend(given, "rank", metric=roc_auc)
    ranks = np.mean([stats.rankdata(m.oof.probs[:, 1]) for m in given], 0)
    auc = roc_auc(two_columns(torch.from_numpy(ranks / 41)), Y)
    assert float(roc_auc(both.oof.probs, Y)) == pytest.approx(auc, abs=0.01)  # rounding parts equal means
    assert both.oof.probs[:, 1] == pytest.approx((ranks - 1) / 39)
    shrunk = by_hand(PLAN, two_columns(given[0].oof.probs[:, 1] ** 9), Y, test=given[0].test.probs)  # type: ignore[union-attr]
    again = blend([shrunk, given[1]], "rank", metric=roc_auc)  # the same order, other numbers
    assert torch.allclose(again.oof.probs[:, 1], both.oof.probs[:, 1])
    assert torch.allclose(both.test.probs.sum(1), torch.ones(6, dtype=torch.float64))  # type: ignore[union-attr]


def test_equal_numbers_share_their_ranks() -> None:
    second = torch.tensor([0.0, 0.0, 0.0, 0.5, 1.0] * 8)
    both = blend([by_hand(PLAN, two_columns(second), Y)] * 2, "rank", metric=roc_auc)
    ranks = (stats.rankdata(second) - 1) / 39
    assert both.oof.probs[:, 1] == pytest.approx(ranks)


def test_greedy_takes_the_best_mean_there_is() -> None:
    given = members(0.3, 1, 1.5)
    both = blend(given, "greedy", metric=log_loss)
    stacked = torch.stack([m.oof.probs for m in given])
    counts = (c for c in itertools.product(range(13), repeat=3) if sum(c) == 12)
    best = min(float(log_loss(torch.tensordot(torch.tensor(c) / 12.0, stacked.float(), 1), Y)) for c in counts)
    own = float(log_loss(torch.tensordot(torch.tensor(both.weights), stacked.float(), 1), Y))
    assert own < best + 0.002 and sum(both.weights) == pytest.approx(1)
    alone = [float(log_loss(m.oof.probs, Y)) for m in given]
    assert own <= min(alone) + 1e-9


@pytest.mark.parametrize("numbers", [False, True])
def test_stack_is_least_squares_on_the_simplex(numbers: bool) -> None:
    task = el.regression(["height"]) if numbers else None
    target = Y.double() * 3 if numbers else Y
    made = [noisy(s, k)[:, 1] * 3 for k, s in enumerate((0.5, 1, 2))]
    outputs = [m.reshape(-1, 1) if numbers else two_columns(m / 3) for m in made]
    wanted = target.reshape(-1, 1) if numbers else target
    both = blend([by_hand(PLAN, o, wanted, task=task) for o in outputs], "stack", metric=mae if numbers else accuracy)
    x, y = torch.stack(made, 1).numpy() / 3, Y.double().numpy()
    found = optimize.minimize(
        lambda w: ((x @ w - y) ** 2).sum(), np.full(3, 1 / 3), bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
    )  # fmt: skip
    assert both.weights == pytest.approx(found.x, abs=1e-3)


@pytest.mark.parametrize("how", ["greedy", "stack"])
def test_the_score_is_from_an_outer_loop(how: Any) -> None:
    """No item has a part in its own prediction: other targets in one fold change nothing of what it is predicted."""
    valid = torch.from_numpy(PLAN[2][1])
    other = Y.clone()
    other[valid] = 1 - other[valid]
    given = members(0.2, 0.8, 1.2)
    one = blend(given, how, metric=log_loss)
    two = blend([by_hand(PLAN, m.oof.probs, other) for m in given], how, metric=log_loss)
    assert torch.equal(one.oof.probs[valid], two.oof.probs[valid]) and one.weights != two.weights


def test_choosing_among_guesses_scores_as_guessing() -> None:
    """12 members that know nothing, 20 simulations: what chooses the weights finds luck, the outer loop does not."""
    naive, outer = [], []
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        y = torch.randint(2, (40,), generator=g)
        given = [by_hand(PLAN, two_columns(torch.rand(40, generator=g).double()), y) for _ in range(12)]
        both = blend(given, "greedy", metric=accuracy)
        mixed = torch.tensordot(torch.tensor(both.weights).double(), torch.stack([m.oof.probs for m in given]), 1)
        naive.append(float(accuracy(mixed, y)))
        outer.append(float(accuracy(both.oof.probs, y)))
    assert np.mean(naive) > 0.62 and abs(np.mean(outer) - 0.5) < 0.07  # standard error 0.018


def test_in_time_weights_come_from_before() -> None:
    plan = el.folds(40, 3, times=range(40))
    held = torch.from_numpy(plan.held_out)
    y = Y[held]
    given = [by_hand(plan, noisy(s, k)[held], y) for k, s in enumerate((0.5, 2))]
    both = blend(given, "greedy", metric=log_loss)
    first = torch.from_numpy(np.searchsorted(plan.held_out, plan[0][1]))
    mean = torch.stack([m.oof.probs for m in given]).mean(0)
    assert torch.allclose(both.oof.probs[first], mean[first])  # nothing was before: equal weights


def test_a_member_that_is_worthless_gets_no_weight() -> None:
    good, poor = by_hand(PLAN, two_columns(Y), Y), by_hand(PLAN, two_columns(1 - Y), Y)
    for how in ("greedy", "stack"):
        assert blend([good, poor], how).weights == pytest.approx((1, 0), abs=1e-6)  # type: ignore[arg-type]
    assert blend([good, poor], "greedy").test is None
    frame = blend([good, poor], "greedy").table()
    assert list(frame.index) == ["0", "1", "blend (greedy)"] and list(frame["accuracy"]) == [1, 0, 1]


# -- what is refused -------------------------------------------------------------------------------------------


def test_unequal_plans_are_refused() -> None:
    one, other = by_hand(PLAN, noisy(1, 0), Y), by_hand(el.folds(40, 4, seed=2), noisy(1, 0), Y)
    with pytest.raises(DataError, match=r"members 1 and 2 follow different plans.*with one plan"):
        blend([one, other])


def test_members_that_do_not_go_together() -> None:
    one = members(1)[0]
    others = {
        "different targets": by_hand(PLAN, noisy(1, 0), 1 - Y),
        "predict different things": by_hand(PLAN, noisy(1, 0), Y, task=el.single_label(["a", "b"])),
        "predict different test items": by_hand(PLAN, noisy(1, 0), Y, test=noisy(1, 0)[:5]),
        "is in one only": Crossed(PLAN, Predictions.of(one.oof.task, one.oof.probs, [f"j{k}" for k in range(40)], Y)),
        "different orders": Crossed(PLAN, Predictions.of(one.oof.task, one.oof.probs, one.oof.ids[::-1], Y)),
    }
    for words, other in others.items():
        with pytest.raises(DataError, match=f"members 1 and 3.*{words}|members 1 and 3.*different targets"):
            blend([one, one, other])


def test_arguments() -> None:
    one, two = members(1, 2)
    with pytest.raises(ArgumentError, match="'median'"):
        blend([one, two], "median")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="at least two results of cross_fit, got 1"):
        blend([one])
    with pytest.raises(ArgumentError, match=r"got Predictions.*Crossed"):
        blend([one, two.oof])  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match="whether a higher own is better"):
        blend([one, two], "greedy", Metric("own", lambda p, y: 0.0, higher_is_better=None))
    heights = by_hand(PLAN, noisy(1, 0)[:, :1], Y[:, None].double(), task=el.regression(["height"]))
    with pytest.raises(ArgumentError, match=r"rank.*numbers in their own units"):
        blend([heights, heights], "rank")
    with pytest.raises(el.StateError, match="without their trainings"):
        blend([one, two]).export("nowhere.easylearn")


# -- one file --------------------------------------------------------------------------------------------------


def make_other(p: Any) -> Learner:
    data = el.TabularData.from_df(
        TABLE[["a", "c", "y"]], "y", valid=p.valid, test=TEST[["a", "c"]], cat_names=[], cont_names=["a", "c"]
    )
    return el.tabular_learner(data, [8], seed=p.seed)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Crossed]:
    folder, plan = tmp_path_factory.mktemp("blend"), el.folds(N, 3, seed=1)
    return [cross_fit(m, plan, fit, folder / m.__name__, test=True) for m in (make, make_other)]


@pytest.mark.parametrize("how", ["mean", "rank", "greedy", "stack"])
def test_the_file_predicts_as_the_blend_does(trained: list[Crossed], how: Any, tmp_path: Path) -> None:
    both = blend(trained, how)
    predictor = el.load_predictor(both.export(tmp_path / "blend.easylearn"))
    assert both.test is not None
    assert torch.allclose(predictor.predict(TEST).probs, both.test.probs, atol=1e-5)
    one = predictor.predict(TEST.iloc[0].to_dict())
    assert one.label == both.test.labels[0]
    table = predictor.predict(TEST.iloc[:3], on_error="skip")
    assert torch.allclose(table.probs, both.test.probs[:3], atol=1e-5)
    assert torch.allclose(predictor.tta(TEST.iloc[:3], 2).probs, both.test.probs[:3], atol=1e-5)


def test_a_damaged_file_is_refused(trained: list[Crossed], tmp_path: Path) -> None:
    path = blend(trained, "rank").export(tmp_path / "blend.easylearn")
    with Archive(path) as archive:
        spec = {k: v for k, v in archive.spec.items() if k not in ("what", "schema", "weights", "digest")}
        tensors = {name: archive.read(name) for name in archive.entries}
    wrong: list[dict[str, Any]] = [
        {"shares": [1.0] * 6}, {"shares": [0.5, 0.5]}, {"shares": "all"}, {"members": []}, {"members": [3] * 6},
        {"of": [7] * 6}, {"of": ["a"] * 6},
    ]  # fmt: skip
    for change in [*wrong, None]:
        about: Any = 3 if change is None else {**spec["ensemble"], **change}
        write_archive(tmp_path / "bad.easylearn", {**spec, "ensemble": about}, tensors)
        with pytest.raises(WeightsError):
            el.load_predictor(tmp_path / "bad.easylearn")
    one = tensors["ranks/0"]
    for table in (one.flip(0), one / 0, one[:, :1], one[:1], one[0]):
        write_archive(tmp_path / "bad.easylearn", spec, {**tensors, "ranks/0": table.contiguous()})
        with pytest.raises(WeightsError, match="damaged quantiles"):
            el.load_predictor(tmp_path / "bad.easylearn")
    assert isinstance(blend(trained), Blend)


class Largest(TorchFunctionMode):
    """Notes how many numbers the largest tensor has that a function of torch gave."""

    numbers = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numbers = max(self.numbers, out.untyped_storage().nbytes() // 8)
        return out


@pytest.mark.parametrize("how", ["mean", "rank", "greedy", "stack"])
def test_members_are_never_in_memory_side_by_side(how: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = members(*np.linspace(0.1, 1.5, 16).tolist())
    whole = blend(given, how, metric=log_loss)
    monkeypatch.setattr("easylearn.task.gathered.MOST", 200)
    monkeypatch.setattr("easylearn.task.gathered._PIECE", 100)
    monkeypatch.setattr("easylearn.experiment.blend.AT_ONCE", 100)
    with Largest() as seen:
        pieces = blend(given, how, metric=log_loss)
    assert seen.numbers <= 40 * 16, "as many as there are items and members; all that they say is twice that"
    assert pieces.weights == pytest.approx(whole.weights, abs=1e-9)
    for one, other in ((pieces.oof, whole.oof), (pieces.test, whole.test)):
        assert one is not None and other is not None and one.ids == other.ids
        torch.testing.assert_close(one.probs, other.probs)
