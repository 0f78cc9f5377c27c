from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from easylearn import load_learner
from easylearn.errors import ArgumentError, DataError, EasyLearnWarning, WeightsError
from easylearn.learning import Learner
from easylearn.nn.embeddings import SigmoidRange, TableModel, TableOutput, emb_size
from easylearn.tabular.data import TabularData
from easylearn.tabular.learner import MOST_CODES, embedding_sizes, knots, most_knots, range_of, tabular_learner
from easylearn.task import multi_label, regression, single_label
from easylearn.task.predictions import Predictions
from easylearn.train.head_start import solve_linear

CPU = torch.device("cpu")
EXACT = 1e-5


def table(n: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    shop = np.array(list("abcd"))[rng.integers(0, 4, n)]
    size = rng.normal(0, 1, n)
    score = 2.0 * (shop == "a") - 1.5 * (shop == "b") + size
    return pd.DataFrame(
        {
            "shop": shop,
            "day": rng.integers(0, 7, n),
            "size": size * 7 + 50,
            "rain": rng.random(n),
            "sales": np.exp(4 + score / 2 + rng.normal(0, 0.05, n)),
            "profit": 100 * score + rng.normal(0, 5, n),
            "label": np.where(score > 0.3, "yes", "no"),
            "busy": (score > 0).astype(int),
            "wet": (rng.random(n) < 0.5).astype(int),
        }
    )


def make(target: str | list[str] = "profit", df: pd.DataFrame | None = None, **changes: Any) -> TabularData:
    settings = {"cat_names": ["shop", "day"], "cont_names": ["size", "rain"], "batch_size": 64, **changes}
    return TabularData.from_df(table() if df is None else df, target, **settings)


@pytest.fixture
def learner(tmp_path: Path) -> Any:
    """A factory of small learners on the CPU."""

    def build(data: TabularData, layers: tuple[int, ...] = (16,), **settings: Any) -> Learner:
        return tabular_learner(
            data, layers, **{"device": "cpu", "progress": False, "path": tmp_path / "models", **settings}
        )

    return build


def outputs(learn: Learner, part: Any = "valid") -> tuple[torch.Tensor, torch.Tensor]:
    """What the model gives and the targets, by a plain loop."""
    learn.model.eval()
    got, targets = [], []
    with torch.no_grad():
        for batch in learn.data.loader(part).batches(CPU):
            got.append(learn.model(*batch.inputs))
            targets.append(batch.target)
    return torch.cat(got), torch.cat(targets)


def at_bias(learn: Learner, bias: float) -> torch.Tensor:
    """Predictions where the last layer gives `bias` or nearly so."""
    nn.init.constant_(learn.model.last.bias, bias)
    return learn.predict().probs


# -- compared with plain torch and numpy -------------------------------------------------------------------


@pytest.mark.parametrize("target", ["label", "profit"])
def test_validation_is_what_a_plain_loop_finds(learner: Any, target: str) -> None:
    learn = learner(make(target))
    learn.fit(0.01, 1)
    logits, y = outputs(learn)
    got = learn.validate()
    if target == "label":
        assert got["valid_loss"] == pytest.approx(float(F.cross_entropy(logits, y)), rel=EXACT)
        assert got["accuracy"] == pytest.approx(float((logits.argmax(1) == y).float().mean()))
    else:
        train = learn.data.target("train").double()
        mean, deviation = float(train.mean()), float(train.std(unbiased=False))
        assert got["valid_loss"] == pytest.approx(float(F.mse_loss(logits, (y - mean) / deviation)), rel=EXACT)
        assert got["rmse"] == pytest.approx(math.sqrt(float(F.mse_loss(logits * deviation + mean, y))), rel=EXACT)


def test_fit_is_the_loop_written_by_hand(learner: Any) -> None:
    data = make("label")
    learn = learner(data, optimizer=torch.optim.SGD, unknown_p=0.0, ps=0.0)
    model = learner(data, unknown_p=0.0, ps=0.0).model
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), learn.model.state_dict().values(), strict=True)
    )
    learn.fit(0.1, 2, cycle_len=None)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for epoch in range(2):
        for batch in data.loader("train", training=True).batches(CPU, seed=learn.seed, epoch=epoch):
            optimizer.zero_grad()
            F.cross_entropy(model(*batch.inputs), batch.target).backward()
            optimizer.step()
    for a, b in zip(model.state_dict().values(), learn.model.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_log_target_learns_logarithms_and_speaks_in_units(learner: Any) -> None:
    learn = learner(make("sales", log_target=True))
    assert learn.task.scale == "log"
    learn.fit(0.01, 2)
    out, y = outputs(learn)
    train = learn.data.target("train").double().log()
    logs = out * train.std(unbiased=False).float() + train.mean().float()
    truth = table()["sales"].to_numpy()[[int(i) for i in learn.data.ids("valid")]]
    np.testing.assert_allclose(y[:, 0], truth, rtol=1e-6)
    got = learn.validate()
    in_units = float(F.mse_loss(logs, y.log()) / train.var(unbiased=False))
    assert got["valid_loss"] == pytest.approx(in_units, rel=EXACT)
    assert got["rmse"] == pytest.approx(math.sqrt(float(F.mse_loss(logs.exp(), y))), rel=EXACT)
    predicted, targets = learn.predict()
    assert torch.allclose(predicted, logs.exp(), rtol=1e-4) and targets is not None and torch.equal(targets, y)
    one = learn.predict(table().iloc[0])
    assert one.label == pytest.approx(float(one.probs)) and 1 < one.label < 2000


def test_log_of_counts_with_zeros(learner: Any) -> None:
    df = table()
    df.loc[df["sales"] < 50, "sales"] = 0
    learn = learner(make("sales", df, log_target=True))
    learn.fit(0.01, 1)
    out, y = outputs(learn)
    train = learn.data.target("train").double().log1p()
    z = (y.log1p() - train.mean()) / train.std(unbiased=False)
    assert learn.validate()["valid_loss"] == pytest.approx(float(F.mse_loss(out, z.float())), rel=EXACT)
    assert float(learn.predict().probs.min()) >= 0


@pytest.mark.parametrize("log_target", [False, True])
def test_y_range_is_in_the_targets_units(learner: Any, log_target: bool) -> None:
    df = table()
    low, high = float(df["sales"].min()) - 1, float(df["sales"].max()) + 10
    for settings in ({"data": {"y_range": (low, high)}}, {"learner": {"y_range": (low, high)}}):
        data = make("sales", df, log_target=log_target, **settings.get("data", {}))
        learn = learner(data, **settings.get("learner", {}))
        assert isinstance(learn.model.output, SigmoidRange)
        for bias, bound in ((-1e4, low), (1e4, high)):
            predicted = at_bias(learn, bias)
            np.testing.assert_allclose(predicted, bound, rtol=1e-4)
    auto = learner(make("sales", df, log_target=log_target), y_range="auto")
    y = auto.data.target("train")
    assert float(at_bias(auto, -1e4).max()) < float(y.min()) and float(at_bias(auto, 1e4).min()) > float(y.max())


@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("y_range", [None, (-1e-4, 2000), "auto"])
def test_an_untrained_regression_begins_near_the_mean(learner: Any, log_target: bool, y_range: Any) -> None:
    if log_target and isinstance(y_range, tuple):
        y_range = (1e-3, 2000)
    data = make("sales", log_target=log_target)
    learn, y = learner(data, y_range=y_range, linear=False), data.target("train")
    onto = torch.log if log_target else torch.positive
    off = onto(learn.predict().probs) - onto(y).mean()
    assert float(off.abs().mean()) < 0.2 * float(onto(y).std())
    of_the_mean = (onto(data.target("valid")) - onto(y).mean()).square().mean() / onto(y).var()
    assert learn.validate()["valid_loss"] < 1.2 * float(of_the_mean)


# -- units -------------------------------------------------------------------------------------------------


def numbers(n: int = 400) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(1)
    x = pd.DataFrame({"a": rng.normal(size=n), "b": rng.normal(size=n), "c": rng.choice(list("xyz"), n)})
    return x, 2 * x.a - x.b + 1.5 * (x.c == "x") + rng.normal(0, 0.1, n)


def of_numbers(target: Any, **changes: Any) -> TabularData:
    x, _ = numbers()
    names = list(target) if isinstance(target, dict) else ["y"]
    columns = target if isinstance(target, dict) else {"y": target}
    how = {"cat_names": ["c"], "cont_names": ["a", "b"], "batch_size": 32, "valid": 0.25, "task": "regression"}
    return TabularData.from_df(x.assign(**columns), names, **{**how, **changes})


def correlation(learn: Learner) -> float:
    said, true = learn.predict()
    return float(np.corrcoef(said.double().flatten(), true.double().flatten())[0, 1])


@pytest.mark.parametrize(("times", "plus"), [(1e-8, 0), (1e-5, 0), (1, 0), (1e6, 0), (1e11, 0), (1, 1e9), (1e100, 0)])
def test_numbers_are_learnt_in_any_unit(learner: Any, times: float, plus: float) -> None:
    _, y = numbers()
    learn = learner(of_numbers(y * times + plus), (50,))
    learn.fit(0.01, 5)
    assert correlation(learn) > 0.97
    said, true = learn.predict()
    rmse = float((said.double() - true.double()).square().mean().sqrt())
    assert learn.validate()["rmse"] == pytest.approx(rmse, rel=1e-6) and 0 < rmse < 0.8 * times
    assert learn.validate()["valid_loss"] < 0.2


def test_another_unit_is_the_same_training_to_the_bit(learner: Any) -> None:
    _, y = numbers()
    losses = []
    for times in (1.0, 2.0**40, 2.0**-30):
        losses.append(learner(of_numbers(y * times)).fit(0.01, 2).to_frame()[["train_loss", "valid_loss"]].to_numpy())
    assert np.array_equal(losses[0], losses[1]) and np.array_equal(losses[0], losses[2])


def test_two_targets_of_two_scales_are_both_learnt(learner: Any) -> None:
    x, y = numbers()
    z = 1e4 * (x.a + 2 * x.b)
    both = learner(of_numbers({"y": y, "z": z}), (50,))
    both.fit(0.01, 8)
    report = both.interpret().report()
    for name, column in (("y", y), ("z", z)):
        alone = learner(of_numbers({name: column}), (50,))
        alone.fit(0.01, 8)
        assert report["rmse"][name] < 1.25 * alone.validate()["rmse"] + 0.05 * column.std()
        assert report["r2"][name] > 0.9


def test_the_loss_of_ones_own_gets_numbers_in_their_unit(learner: Any) -> None:
    seen: list[float] = []

    def loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.extend([float(outputs.detach().mean()), float(target.mean())])
        return F.l1_loss(outputs, target)

    _, y = numbers()
    learn = learner(of_numbers(y + 1000), loss=loss)
    learn.fit(0.01, 1)
    assert min(seen) > 990 and max(seen) < 1010
    said, true = learn.predict()
    assert learn.validate()["valid_loss"] == pytest.approx(float((said - true).abs().mean()), rel=1e-4)


def test_other_rows_of_the_target_keep_the_learners_unit(learner: Any, tmp_path: Path) -> None:
    x, y = numbers()
    learn = learner(of_numbers(y * 100 + 1000), (50,))
    learn.fit(0.01, 5)
    frame = x.assign(y=y * 100 + 1000)
    other = frame[frame["y"] > 1100]
    before, task = learn.predict(frame).probs, learn.task
    data = TabularData.from_df(other, "y", valid=0.25, batch_size=32, task="regression", like=learn.data)
    apart = learner(of_numbers(y * 3 - 7), (50,))
    path = tmp_path / "m.easylearn"
    learn.export(path)
    for again in (learn, load_learner(path, device="cpu", progress=False)):
        again.set_data(data)
        assert (again.task.center, again.task.spread) == (task.center, task.spread)
        torch.testing.assert_close(again.predict(frame).probs, before)
        said, true = again.predict()
        rmse = float((said - true).square().mean().sqrt())
        assert again.validate()["rmse"] == pytest.approx(rmse, rel=1e-4)
        assert again.validate()["valid_loss"] == pytest.approx((rmse / task.spread[0]) ** 2, rel=1e-3)
        assert rmse < 80
    learn.fit(0.001, 1)
    assert learn.validate()["rmse"] < 80
    learn.save("w")
    apart.load("w")  # weights bring the unit that they were trained in
    assert apart.task.center == task.center
    torch.testing.assert_close(apart.predict(frame).probs, learn.predict(frame).probs)


def test_knots_are_quantiles_without_repeats() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(5000, 1, generator=g)
    found = knots(x, n=9)[0]
    np.testing.assert_allclose(found, np.quantile(x, np.linspace(0, 1, 9)), atol=0.02)
    assert knots(torch.tensor([[0.0, 5.0], [1.0, 5.0], [1.0, 5.0]])) == [[0.0, 1.0], [5.0]]
    assert found == sorted(set(found)) and set(found) <= set(x[:, 0].tolist())


# -- what is learnt ----------------------------------------------------------------------------------------


def test_classification_learns(learner: Any) -> None:
    learn = learner(make("label"))
    learn.fit(0.02, 15)
    assert learn.validate()["accuracy"] > 0.9
    result = learn.predict()
    assert set(result.labels) <= {"no", "yes"} and torch.allclose(result.probs.sum(1), torch.ones(80))
    one = learn.predict({"shop": "a", "day": 3, "size": 60.0, "rain": 0.5})
    assert one.label == "yes" and one.index == 1 and float(one.probs[1]) == float(one.probs.max())


def test_several_numbers_at_once(learner: Any) -> None:
    learn = learner(make(["profit", "sales"]))
    learn.fit(0.02, 15)
    result = learn.predict()
    truth = table().loc[[int(i) for i in learn.data.ids("valid")], ["profit", "sales"]].to_numpy()
    np.testing.assert_allclose(result.targets, truth, rtol=1e-5)
    assert bool((result.probs - result.targets).pow(2).mean(0).sqrt().numpy()[0] < truth[:, 0].std() / 2)
    assert len(result.labels[0]) == 2


def test_several_labels_at_once(learner: Any) -> None:
    learn = learner(make(["busy", "wet"]))
    learn.fit(0.02, 15)
    logits, y = outputs(learn)
    assert learn.task.kind == "multi_label" and learn.data.classes == ("busy", "wet")
    assert learn.validate()["valid_loss"] == pytest.approx(
        float(F.binary_cross_entropy_with_logits(logits, y)), rel=EXACT
    )
    assert float(((logits[:, 0] > 0) == y[:, 0].bool()).float().mean()) > 0.85
    one = learn.predict({"shop": "a", "day": 3, "size": 64.0, "rain": 0.5})
    assert "busy" in one.label and 0 in one.index


def test_a_level_never_seen_gets_what_is_best_where_nothing_is_known(learner: Any) -> None:
    learn = learner(make("profit", cat_names=["shop"], cont_names=[]), unknown_p=0.1)
    learn.fit(0.05, 8)
    unknown = learn.predict({"shop": "never seen"}).label
    known = [learn.predict({"shop": s}).label for s in "abcd"]
    assert min(known) < unknown < max(known) and max(known) - min(known) > 200


# -- rows that come later ----------------------------------------------------------------------------------


def test_one_row_a_list_and_a_table_agree(learner: Any) -> None:
    df = table()
    learn = learner(make("label", df))
    learn.fit(0.01, 1)
    many = learn.predict(df.iloc[:6])
    assert isinstance(many, Predictions) and len(many) == 6
    rows = [df.iloc[i].to_dict() for i in range(6)]
    listed = learn.predict(rows)
    assert listed.labels == many.labels and torch.allclose(listed.probs, many.probs, atol=1e-6)
    for other in ([learn.predict(r) for r in rows], [learn.predict(df.iloc[i]) for i in range(6)]):
        assert tuple(p.label for p in other) == many.labels
        assert torch.allclose(torch.stack([p.probs for p in other]), many.probs, atol=1e-6)
    assert len(learn.predict([rows[0]])) == 1
    shuffled = df.iloc[:6].sample(frac=1, random_state=0)
    again = learn.predict(shuffled[shuffled.columns[::-1]].assign(extra=1))
    assert again.ids == tuple(str(i) for i in shuffled.index)
    assert tuple(again.labels[list(shuffled.index).index(i)] for i in range(6)) == many.labels


@pytest.mark.parametrize("target", ["label", "profit", "sales"])
def test_nothing_known_still_gives_a_prediction_and_is_counted(learner: Any, target: str) -> None:
    learn = learner(make(target, log_target=target == "sales"))
    learn.fit(0.01, 1)
    row = {"shop": "new", "day": None, "size": float("nan"), "rain": float("inf")}
    for odd in (row, {"shop": None, "day": pd.NA, "size": pd.NA, "rain": None}, dict.fromkeys(row, 1e300)):
        assert bool(torch.isfinite(learn.predict(odd).probs).all())
    report = learn.data.preprocessor.report([row, dict.fromkeys(row, 1e300)])
    assert (report.rows, report.unknown, report.missing) == (2, {"shop": 2, "day": 1}, {"day": 1, "size": 1})
    assert report.infinite == {"size": 1, "rain": 2} and "predict" not in learn.data.report().index
    with pytest.raises(DataError, match=r"no columns \['rain'\]"):
        learn.predict({"shop": "a", "day": 1, "size": 2.0})


def test_an_empty_table_has_no_predictions(learner: Any) -> None:
    learn = learner(make())
    for nothing in (table().iloc[:0], []):
        with pytest.raises(DataError, match="no rows to predict"):
            learn.predict(nothing)


def test_predictions_of_a_test_table_come_in_its_order(learner: Any) -> None:
    df = table()
    test = table(30, seed=4).drop(columns=["label"]).sample(frac=1, random_state=1)
    learn = learner(make("label", df, test=test))
    result = learn.predict(split="test")
    assert result.targets is None and list(result.ids) == [str(i) for i in test.index]
    assert result.labels == learn.predict(test).labels


# -- groups, sizes, seeds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [(["shop", "day"], ["size"]), ([], ["size", "rain"]), (["shop"], [])])
def test_three_layer_groups(learner: Any, columns: tuple[list[str], list[str]]) -> None:
    learn = learner(make("label", cat_names=columns[0], cont_names=columns[1]), num_emb_size=0)
    assert [g.name for g in learn.layer_groups] == ["embeddings", "hidden", "output"]
    names = [n for g in learn.layer_groups for n, _ in g.params]
    assert sorted(names) == sorted(n for n, _ in learn.model.named_parameters())
    assert bool(learn.layer_groups[0].params) == bool(columns[0])
    before = {n: p.detach().clone() for n, p in learn.model.named_parameters()}
    learn.freeze()
    learn.fit(0.01, 1)
    changed = {n.split(".")[0] for n, p in learn.model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {"last"}
    learn.unfreeze()
    learn.fit([0.001, 0.01, 0.01], 1)


def test_embedding_lengths(learner: Any) -> None:
    data = make()
    codes = data.preprocessor.processor.cardinalities
    assert codes == {"shop": 6, "day": 9}
    assert embedding_sizes(data, None) == [(6, emb_size(6)), (9, emb_size(9))]
    assert embedding_sizes(data, {"day": 3}) == [(6, emb_size(6)), (9, 3)]
    assert embedding_sizes(data, [4, (9, 5)]) == [(6, 4), (9, 5)]
    model = learner(data, emb_szs={"shop": 7}, linear=False).model
    assert isinstance(model, TableModel) and model.vectors(0).shape == (6, 7)
    with pytest.raises(ArgumentError, match=r"'shpo' is not a categorical column.*'shop'"):
        embedding_sizes(data, {"shpo": 3})
    with pytest.raises(ArgumentError, match=r"1 entries, but there are 2 categorical columns: \['shop', 'day'\]"):
        embedding_sizes(data, [3])
    for wrong in (0, -1, True, 2.5):
        with pytest.raises(ArgumentError, match="embedding of 'day' must be a whole number of at least 1"):
            embedding_sizes(data, {"day": wrong})  # type: ignore[dict-item]


def test_same_seed_same_weights(learner: Any, weights: Any, same: Any, disturb: Callable[[], None]) -> None:
    trained = []
    for seed in (1, 1, 2):
        disturb()
        learn = learner(make("label"), ps=0.2, emb_drop=0.1, seed=seed)
        learn.fit(0.01, 2)
        trained.append(weights(learn))
    assert same(trained[0], trained[1]) and not same(trained[0], trained[2])


def test_settings_reach_the_model(learner: Any) -> None:
    learn = learner(make("label"), (8, 4), ps=[0.1, 0.2], emb_drop=0.3, use_bn=False, num_emb_size=0)
    assert not any(isinstance(m, nn.BatchNorm1d) for m in learn.model.hidden) and learn.model.numbers is None
    assert [m.p for m in learn.model.modules() if isinstance(m, nn.Dropout)] == [0.3, 0.1, 0.2]
    learn.fit(0.01, 1)
    wide = learner(make("label"), num_emb_size=5).model
    assert wide.numbers is not None and wide.numbers.width == 10


def test_the_finder_and_one_cycle_work_on_tables(learner: Any, weights: Any, same: Any) -> None:
    learn = learner(make("label"))
    before = weights(learn)
    learn.lr_find()
    assert same(before, weights(learn))
    learn.fit_one_cycle(0.01, 1)
    assert "embeddings" in str(learn.summary()) and "TableModel" in repr(learn)


def test_rows_left_over_do_not_crash_batch_norm(learner: Any) -> None:
    learner(make("label", table(65), valid=None, batch_size=32)).fit(0.01, 1)


def test_without_validation(learner: Any) -> None:
    learn = learner(make("label", valid=None))
    learn.fit(0.01, 1)
    with pytest.raises(DataError, match="no valid split"):
        learn.validate()


# -- keeping it, and going on with other data --------------------------------------------------------------


def test_save_and_load(learner: Any, weights: Any, same: Any) -> None:
    data = make("label")
    learn = learner(data)
    learn.fit(0.01, 1)
    learn.save("table")
    other = learner(data, seed=9)
    assert not same(weights(learn), weights(other))
    other.load("table")
    assert same(weights(learn), weights(other))
    assert torch.equal(learn.predict().probs, other.predict().probs)
    before = weights(other)
    with pytest.raises(WeightsError):
        learner(data, (8,)).load("table")
    regression = learner(make("profit"))
    before = weights(regression)
    with pytest.raises(WeightsError):
        regression.load("table")
    assert same(before, weights(regression))


def test_set_data_goes_on_with_like_data_and_refuses_other(learner: Any) -> None:
    learn = learner(make("label"))
    learn.fit(0.01, 1)
    later = table(100, seed=8)
    later["size"] += 20
    with pytest.raises(DataError, match=r"codes and scales of its own.*like=learn\.data"):
        learn.set_data(make("label", later))
    with pytest.raises(DataError):
        learn.set_data(make("profit"))
    with pytest.raises(ArgumentError, match="has no size"):
        learn.set_data(128)
    before = learn.predict(later).labels
    new = TabularData.from_df(later, "label", like=learn.data, valid=0.5)
    learn.set_data(new)
    assert learn.data is new and len(learn.predict()) == 50
    assert learn.predict(later).labels == before
    learn.fit(0.01, 1)


def test_ranges_are_on_the_models_scale() -> None:
    y = torch.tensor([[1.0], [100.0]])
    bounds = range_of(regression(scale="log"), y, (0.5, 200.0))
    np.testing.assert_allclose(np.concatenate(bounds), [math.log(0.5), math.log(200)])
    low, high = range_of(regression(["a", "b"]), torch.tensor([[0.0, 5.0], [10.0, 5.0]]), "auto")
    np.testing.assert_allclose(low[0], -1.0)
    np.testing.assert_allclose(high[0], 11.0)
    assert low[1] < 5 < high[1]  # a target that never varies has room, too
    auto = range_of(regression(scale="log"), y, "auto")
    assert auto[0][0] < 0 and auto[1][0] > math.log(100)


# -- bad input ---------------------------------------------------------------------------------------------


def test_arguments_that_do_not_fit(learner: Any) -> None:
    data = make("label")
    for settings, match in (
        ({"y_range": (0, 1)}, "y_range is for numbers"),
        ({"ps": [0.1, 0.2]}, "make 1 blocks"),
        ({"emb_drop": 1.5}, "drop"),
        ({"unknown_p": 0.9}, "unknown_p"),
        ({"num_emb_size": -1}, "num_emb_size"),
        ({"cbs": []}, "callbacks"),
        ({"n_out": 3}, "The data knows"),
    ):
        with pytest.raises(ArgumentError, match=match):
            learner(data, **settings)
    with pytest.raises(ArgumentError, match="layer 0"):
        learner(data, (0,))


def test_ranges_that_cannot_be() -> None:
    y = torch.tensor([[1.0], [3.0]])
    for task in (single_label(["a", "b"]), multi_label(["a"])):
        with pytest.raises(ArgumentError, match=f"this task is {task}".replace("(", r"\(").replace(")", r"\)")):
            range_of(task, y, (0, 1))
    for wrong in ((3, 1), (1, 1), (1, 2, 3), (1,)):
        with pytest.raises(ArgumentError, match="low below high"):
            range_of(regression(), y, wrong)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="'auto' or None"):
        range_of(regression(), y, "atuo")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="no finite logarithm"):
        range_of(regression(scale="log"), y, (0, 10))
    with pytest.warns(EasyLearnWarning, match="from 1 to 3; the model can never predict them"):
        range_of(regression(), y, (0, 2))


# -- the base rates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
def test_an_untrained_classifier_is_as_good_as_the_base_rates(learner: Any, several: bool) -> None:
    rng = np.random.default_rng(0)
    names, rates = ["rare", "some", "most"], [0.03, 0.2, 0.95]
    df = table(1000).assign(**{n: (rng.random(1000) < p).astype(int) for n, p in zip(names, rates, strict=True)})
    df["kind"] = rng.choice(list("xyz"), 1000, p=[0.9, 0.07, 0.03])
    learn = learner(make(names if several else "kind", df, task="multi_label" if several else "single_label"), (50,))
    known, y = learn.data.target("train"), learn.data.target("valid")
    shares = known.mean(0) if several else torch.bincount(known) / len(known)
    constant = shares.logit() if several else shares.log()
    best = float(learn.task.loss(constant.expand(len(y), -1), y))
    assert learn.validate()["valid_loss"] < 1.05 * best


def test_balanced_classes_begin_at_equal_rates(learner: Any) -> None:
    df = table().assign(kind=np.where(np.arange(400) % 10 == 0, "rare", "usual"))
    bias = learner(make("kind", df, weights="balanced"), linear=False).model.last.bias.detach()
    assert float((bias[0] - bias[1]).abs()) < 1e-6
    bias = learner(make("kind", df), linear=False).model.last.bias.detach()
    assert float(bias[1] - bias[0]) == pytest.approx(math.log(9), abs=0.3)


def test_layers_that_are_no_list_are_refused() -> None:
    r = np.random.default_rng(0)
    frame = pd.DataFrame({"a": r.normal(size=40), "y": r.normal(size=40)})
    with pytest.raises(ArgumentError, match="list of sizes"):
        tabular_learner(TabularData.from_df(frame, "y", batch_size=4), layers=200)  # type: ignore[arg-type]


# -- the linear start, members, and how long to train ------------------------------------------------------------


def linear_reference(df: pd.DataFrame, target: str, train: list[int], model: Any) -> Any:
    """scikit-learn's `model` of the same columns, and all their rows as it takes them."""
    x = pd.get_dummies(df[["shop", "day", "size", "rain"]], columns=["shop", "day"]).astype(float)
    x[["size", "rain"]] = (x[["size", "rain"]] - x[["size", "rain"]].iloc[train].mean()) / x.iloc[train][
        ["size", "rain"]
    ].std(ddof=0)
    return model.fit(x.iloc[train], df[target].iloc[train]), x


def positions(learn: Learner, split: Any) -> list[int]:
    return [int(i) for i in learn.data.ids(split)]


def test_an_untrained_regression_is_scikit_learns_ridge(learner: Any) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    df = table(120).assign(profit=lambda d: d["profit"] + np.random.default_rng(1).normal(0, 60, 120))
    learn = learner(make("profit", df))
    model, x = linear_reference(df, "profit", positions(learn, "train"), linear_model.RidgeCV(np.logspace(-2, 3, 11)))
    rows = positions(learn, "valid")
    theirs = model.predict(x.iloc[rows])
    ours = learn.predict().probs[:, 0].numpy()
    assert np.corrcoef(ours, theirs)[0, 1] > 0.995
    y = df["profit"].to_numpy()[rows]
    assert ((ours - y) ** 2).mean() < 1.05 * ((theirs - y) ** 2).mean()


@pytest.mark.parametrize("members", [1, 3])
def test_an_untrained_classifier_is_scikit_learns_logistic_regression(learner: Any, members: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(2)
    df = table(300).assign(label=lambda d: np.where(rng.random(300) < 0.2, "no", d["label"]))
    learn = learner(make("label", df), members=members)
    model, x = linear_reference(df, "label", positions(learn, "train"), linear_model.LogisticRegression())
    theirs = model.predict_proba(x.iloc[positions(learn, "valid")])
    ours = learn.predict().probs.numpy()
    assert list(model.classes_) == list(learn.data.classes) and np.corrcoef(ours[:, 1], theirs[:, 1])[0, 1] > 0.98
    y = (df["label"] == "yes").to_numpy()[positions(learn, "valid")].astype(int)
    assert -np.log(ours[range(len(y)), y]).mean() < 1.05 * -np.log(theirs[range(len(y)), y]).mean()


def test_training_adds_to_the_linear_model_and_leaves_it_alone(learner: Any) -> None:
    df = table().assign(profit=lambda d: d["profit"] + 80 * (d["size"] > 50) * (d["shop"] == "c"))
    learn = learner(make("profit", df))
    weight, before = learn.model.output.weight.clone(), learn.validate()["valid_loss"]
    assert not learn.model.last.weight.any() and weight.any()
    learn.fit_one_cycle(1e-2, 20)
    assert torch.equal(weight, learn.model.output.weight)
    assert learn.validate()["valid_loss"] < 0.5 * before


def test_what_lies_far_beyond_the_training_rows_is_predicted_as_what_lies_half_a_range_beyond(learner: Any) -> None:
    learn = learner(make("profit"))
    learn.fit_one_cycle(1e-2, 3)
    seen = table()["size"].iloc[positions(learn, "train")]
    edge = float(seen.max() + (seen.max() - seen.min()) / 2)
    rows = table().head(4).assign(size=[edge - 1, edge, edge + 100, 1e12])
    rows[["shop", "day", "rain"]] = ["a", 3, 0.5]
    inside, at, *beyond = learn.predict(rows).probs[:, 0].tolist()
    assert inside != at and beyond == pytest.approx([at, at], rel=1e-4)


def test_of_a_large_batch_only_some_rows_are_solved_for(learner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def solve(task: Any, x: torch.Tensor, target: torch.Tensor, index: torch.Tensor, *more: Any) -> Any:
        seen.extend(len(t) for t in (x, target, index))
        return solve_linear(task, x, target, index, *more)

    monkeypatch.setattr("easylearn.tabular.learner.MOST_ITEMS", 50)
    monkeypatch.setattr("easylearn.tabular.learner.solve_linear", solve)
    learner(make(batch_size=200))
    assert seen == [50] * 3


@pytest.mark.parametrize(
    ("target", "many", "drop"), [("profit", 100, 0.1), ("profit", 10_000, 0.2), ("label", 100, 0.2)]
)
def test_less_is_dropped_where_many_rows_have_numbers_to_predict(
    learner: Any, monkeypatch: pytest.MonkeyPatch, target: str, many: int, drop: float
) -> None:
    monkeypatch.setattr("easylearn.tabular.learner.MANY_ROWS", many)
    hidden = [learner(make(target), **more).model.hidden for more in ({}, {"ps": 0.3})]
    assert [[m.p for m in layers if isinstance(m, nn.Dropout)] for layers in hidden] == [[drop], [0.3]]


@pytest.mark.parametrize(
    ("target", "changes", "decay"),
    [("profit", {}, 0.03), ("profit", {"wd": 0.1}, 0.1), ("profit", {"linear": False}, 0.2), ("label", {}, 0.2)],
)
def test_weights_decay_less_and_none_are_dropped_where_far_more_rows_have_numbers_to_predict(
    learner: Any, monkeypatch: pytest.MonkeyPatch, target: str, changes: Any, decay: float
) -> None:
    assert learner(make(target)).wd == 0.2
    monkeypatch.setattr("easylearn.tabular.learner.FAR_MORE_ROWS", 100)
    learn = learner(make(target), **changes)
    assert learn.wd == decay
    drops = [m.p for m in learn.model.hidden if isinstance(m, nn.Dropout)]
    assert drops == ([0.2] if target == "label" else [])


@pytest.mark.parametrize("changes", [{"linear": False}, {"y_range": "auto"}])
def test_without_a_linear_start_nothing_is_added(learner: Any, changes: Any) -> None:
    learn = learner(make("profit"), **changes)
    assert not isinstance(learn.model.output, TableOutput) and learn.model.last.weight.any()
    assert not [m for m in learn.model.modules() if isinstance(m, nn.Dropout) and m.p]


@pytest.mark.parametrize("stream", [True, False])
def test_training_rows_that_are_not_among_the_sampled_ones_are_within_bounds(
    learner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    pytest.importorskip("pyarrow")
    df = table(1000)
    df["size"], df["rain"] = np.arange(1000.0), np.where(np.arange(1000) == 500, 1.0, 0.0)
    df.to_parquet(tmp_path / "t.parquet", row_group_size=100)
    settings = {"cat_names": ["shop"], "cont_names": ["size", "rain"], "valid": [999], "buffer_rows": 100}
    data = TabularData.from_parquet(tmp_path / "t.parquet", "profit", stream=stream, **settings)
    monkeypatch.setattr("easylearn.tabular.learner.KNOT_ROWS", 50)
    model = learner(data).model
    assert not data.sample("train", 50)[:, 1].unique().shape[0] > 1
    conts = torch.cat([batch.inputs[1] for batch in data.loader("train").batches(CPU)])
    assert torch.equal(model.output.within(conts), conts)
    low, high = model.output.low.tolist(), model.output.high.tolist()
    assert all(map(np.isfinite, [*low, *high])) and (high[0] < 10) == (not stream)


@pytest.mark.parametrize("changes", [{"linear": False}, {"y_range": "auto"}])
def test_vectors_of_members_have_no_numbers_of_a_linear_model_that_is_not_there(
    learner: Any, tmp_path: Path, changes: Any
) -> None:
    learn = learner(make("profit"), members=2, **changes)
    assert learn.model.vectors(0).shape == (6, 2 * emb_size(6))  # of both members
    learn.fit_one_cycle(1e-2, 1)
    learn.export(tmp_path / "m.easylearn")
    new = table(20, seed=5)
    found = load_learner(tmp_path / "m.easylearn").predict(new)
    assert torch.allclose(found.probs, learn.predict(new).probs, rtol=1e-5)


def test_columns_of_many_codes_are_left_to_the_network(learner: Any) -> None:
    n = 1400
    df = table(n).assign(day=np.arange(n) % (MOST_CODES + 200))
    learn = learner(make("profit", df))
    shops, days = learn.model.output.weights(0), learn.model.output.weights(1)
    assert shops.shape == (6, 1) and shops.any() and days.shape == (0, 1)
    assert learn.model.vectors(0).shape == (6, emb_size(6) + 1)  # the last number is the weight in the linear model
    assert len(learn.model.vectors(1)) > MOST_CODES
    learn.fit(1e-2, 1)


def test_two_learners_of_one_seed_start_alike_whatever_was_drawn_before(
    learner: Any, disturb: Callable[[], None], weights: Any, same: Any
) -> None:
    data = make("label")
    first = weights(learner(data, members=2))
    disturb()
    assert same(first, weights(learner(data, members=2)))


@pytest.mark.parametrize("target", ["label", "profit", ["busy", "wet"]])
def test_members_are_one_learner(learner: Any, tmp_path: Path, target: Any) -> None:
    learn = learner(make(target), members=4)
    learn.fit_one_cycle(1e-2, 3)
    learn.unfreeze()
    out, y = outputs(learn)
    assert out.shape == (len(y), learn.task.n_out)
    assert learn.validate()["valid_loss"] == pytest.approx(float(learn.task.loss(out, y)), rel=1e-4)
    learn.export(tmp_path / "m.easylearn")
    again = load_learner(tmp_path / "m.easylearn")
    new = table(20, seed=5)
    assert torch.allclose(again.predict(new).probs, learn.predict(new).probs, atol=1e-5)
    alone = [float(learn.predict(new.iloc[i]).probs[-1]) for i in range(3)]
    assert alone == pytest.approx(learn.predict(new).probs[:3, -1].tolist(), rel=1e-3)


def test_the_loss_of_members_is_the_mean_of_theirs(learner: Any) -> None:
    learn = learner(make("label"), members=4, ps=0.0, unknown_p=0.0)
    nn.init.normal_(learn.model.last.weight)
    batch = next(learn.data.loader("train").batches(CPU))
    learn.model.train()
    with torch.no_grad():
        logits = learn.model(*batch.inputs)
    each = [F.cross_entropy(logits[i::4], batch.target) for i in range(4)]
    assert len(logits) == 4 * len(batch.target) and len({round(float(x), 4) for x in each}) > 1
    assert float(learn.task.loss(logits, batch.target)) == pytest.approx(float(torch.stack(each).mean()), rel=EXACT)


def test_a_model_that_gives_other_rows_than_it_got_is_refused(learner: Any) -> None:
    task, target = make("label").task, torch.zeros(4, dtype=torch.int64)
    with pytest.raises((ArgumentError, ValueError, RuntimeError)):
        task.loss(torch.zeros(6, 2), target)


@pytest.mark.parametrize("members", [0, 1.5, True])
def test_members_are_a_whole_number(learner: Any, members: Any) -> None:
    with pytest.raises(ArgumentError, match="members"):
        learner(make("label"), members=members)


def test_knots_follow_the_number_of_rows(learner: Any) -> None:
    assert [most_knots(n) for n in (10, 160, 1040, 10**6)] == [3, 10, 65, 65]
    few, many = (learner(make("profit", table(n), valid=None)).model.numbers.left.shape[1] for n in (160, 900))
    assert few < many


def test_epochs_follow_the_number_of_steps_and_the_best_is_kept(learner: Any, capsys: Any) -> None:
    many = make(batch_size=16)  # 320 training rows, 20 steps
    assert many.suited_epochs == 20 and make(batch_size=256).suited_epochs == 60
    assert make(batch_size=4).suited_epochs == 16  # 80 steps: few epochs are not enough, however many steps they make
    assert make("profit", table(4000), batch_size=2).suited_epochs == 8  # 1,600 steps
    learn = learner(many, progress=True)
    record = learn.fit_one_cycle(3e-2)
    said = "trains for 20 epochs, as suits 320 items, and ends with the mean of the weights of the 5 that had"
    out = capsys.readouterr().out
    assert said in out and len(record.epochs) == 20
    kept = (
        r"kept: (mean of the best 5 epochs \((the weights before the first epoch, )?[\d, ]+\)|epoch \d+), valid_loss "
    )
    assert re.search(kept, out.splitlines()[-1])
    assert out.rstrip().endswith(f" {learn.validate()['valid_loss']:.4f}")
    assert learn.validate()["valid_loss"] < 1.1 * min(record.column("valid_loss"))  # a standard error at most
    alone = learner(make(batch_size=40, valid=None), progress=True)
    alone.fit_one_cycle(1e-2)
    said = capsys.readouterr().out
    assert "trains for 40 epochs" in said and "ends with" not in said


def test_a_streamed_table_starts_linear_too(learner: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    df = table(600)
    df.to_parquet(tmp_path / "t.parquet")
    settings = {"cat_names": ["shop", "day"], "cont_names": ["size", "rain"], "batch_size": 64, "valid": 0.2}
    data = TabularData.from_parquet(tmp_path / "t.parquet", "profit", stream=True, **settings)
    learn = learner(data)
    assert learn.validate()["rmse"] < 0.1 * df["profit"].std()
    assert data.suited_epochs == 50


def test_calls_that_are_nearly_right() -> None:
    df = pd.DataFrame({"pay": np.arange(60.0) + 1, "age": np.arange(60.0) % 7 / 3, "job": ["x", "y", "z"] * 20})
    with pytest.raises(DataError, match=r"no columns \['Pay'\]; they are needed\. Did you mean 'pay'"):
        TabularData.from_df(df, "Pay")
    with pytest.raises(ArgumentError, match=r"got DataFrame: make it .* TabularData\.from_df"):
        tabular_learner(df)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="if these are classes, leave log_target out"):
        TabularData.from_df(df, "job", log_target=True)
    data = TabularData.from_df(df, "pay", cat_names=["job"], cont_names=["age"])
    for given, said in (("adam", "got 'adam'"), (torch.optim.SGD([torch.zeros(1)], lr=0.1), "got a SGD")):
        with pytest.raises(ArgumentError, match=f"optimizer must be a class or a function .*{said}"):
            tabular_learner(data, optimizer=given)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="None where a value is not known"):
        data.preprocessor.read(df[["job"]])
