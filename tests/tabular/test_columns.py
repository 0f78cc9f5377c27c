from __future__ import annotations

import datetime as dt
import importlib.util
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easylearn.errors import ArgumentError, DataError
from easylearn.tabular import columns, view
from easylearn.tabular.columns import guess_columns, sample
from easylearn.tabular.data import TabularData
from easylearn.tabular.view import TableView

N = 400


def find_ids(df: pd.DataFrame, names: list[str] | None = None) -> list[str]:
    table, chosen = TableView(df), list(df.columns) if names is None else names
    return columns.find_ids(table, sample(table, chosen), chosen)


def find_leaks(df: pd.DataFrame, target: str, names: list[str] | None = None) -> list[tuple[str, str]]:
    others = [n for n in df.columns if n != target]
    return columns.find_leaks(sample(TableView(df), df.columns), target, others if names is None else names)


def wide() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    word = np.array(["a", "b", "c"], object)[rng.integers(0, 3, N)]
    gaps = rng.random(N) < 0.2
    return pd.DataFrame(
        {
            "word": word,
            "string": pd.array(word, dtype="string"),
            "cat": pd.Categorical(word),
            "flag": rng.random(N) < 0.5,
            "boolean": pd.array(np.where(gaps, None, rng.random(N) < 0.5), dtype="boolean"),
            "few": rng.integers(0, 7, N),
            "few_gaps": np.where(gaps, np.nan, rng.integers(0, 7, N)),
            "Few64": pd.array(np.where(gaps, None, rng.integers(0, 7, N)), dtype="Int64"),
            "month": pd.PeriodIndex([pd.Period(ordinal=int(i), freq="M") for i in rng.integers(0, 9, N)]),
            "many": rng.integers(0, 100, N),
            "many_objects": pd.Series([*rng.integers(0, 100, N - 1).tolist(), None], dtype=object),
            "decimal": pd.Series([Decimal(int(v)) / 8 for v in rng.integers(0, 900, N)], dtype=object),
            "real": rng.normal(size=N),
            "real_gaps": np.where(gaps, np.nan, rng.normal(size=N)),
            "float32": rng.normal(size=N).astype(np.float32),
            "lasted": pd.to_timedelta(rng.integers(0, 10**6, N), unit="s"),
            "id": np.arange(N),
            "user_id": rng.permutation(10**6)[:N],
            "name": [f"person {i}" for i in range(N)],
            "when": pd.date_range("2020-01-01", periods=N),
            "one": "x",
            "zero": 0.0,
            "empty": np.nan,
            "nothing": None,
            "lists": [[1]] * N,
            "complex": np.ones(N, complex),
            "target": rng.normal(size=N),
        }
    )


def test_guess() -> None:
    df = wide()
    before = df.copy(deep=True)
    found = guess_columns(df, [n for n in df.columns if n != "target"])
    pd.testing.assert_frame_equal(df, before)
    assert found.cat_names == ["word", "string", "cat", "flag", "boolean", "few", "few_gaps", "Few64", "month"]
    assert found.cont_names == ["many", "many_objects", "decimal", "real", "real_gaps", "float32", "lasted"]
    assert list(found.dropped) == [
        "id",
        "user_id",
        "name",
        "when",
        "one",
        "zero",
        "empty",
        "nothing",
        "lists",
        "complex",
    ]
    assert "names the rows" in found.dropped["id"]
    assert "add_datepart(df, 'when')" in found.dropped["when"]
    assert "one value only, 'x'" in found.dropped["one"]
    assert "empty" in found.dropped["nothing"]
    assert "list" in found.dropped["lists"]
    text = str(found)
    for name in [*found.cat_names, *found.cont_names, *found.dropped]:
        assert name in text


def test_numbers_that_come_as_objects_are_numbers() -> None:
    rng = np.random.default_rng(0)
    df = pd.DataFrame(
        {
            "ratio": pd.Series(rng.random(N), dtype=object),
            "money": [Decimal(int(v)) / 100 for v in rng.integers(0, 10**7, N)],
            "gaps": pd.Series([None, *rng.normal(size=N - 1)], dtype=object),
            "stars": pd.Series([Decimal(int(v)) for v in rng.integers(1, 6, N)], dtype=object),
        }
    )
    found = guess_columns(df)
    assert (found.cont_names, found.cat_names) == (["ratio", "money", "gaps"], ["stars"])
    assert not found.dropped and not found.notes


def test_dates_are_nothing_by_themselves_whatever_type_they_have() -> None:
    days = [dt.date(2020, 1, 1) + dt.timedelta(i) for i in range(60)]
    df = pd.DataFrame(
        {"day": days, "few": days[:3] * 20, "time": pd.Series([*pd.to_datetime(days), None][1:], dtype=object)}
    )
    if importlib.util.find_spec("pyarrow") is not None:
        df["arrow"] = pd.Series(days).astype("date32[day][pyarrow]")
    found = guess_columns(df)
    assert not found.cat_names and not found.cont_names
    assert all(f"add_datepart(df, {name!r})" in found.dropped[name] for name in df)
    # Who says that they are categories gets categories.
    assert guess_columns(df.assign(few=df["few"].astype("category"))).cat_names == ["few"]


@pytest.mark.parametrize(
    "values", [range(1960, 2020), np.random.default_rng(0).permutation(60) + 1, np.arange(60.0) * 7, [*range(59), None]]
)
def test_years_and_ranks_are_kept_with_a_note(values: Any) -> None:
    found = guess_columns(pd.DataFrame({"x": values}))
    assert found.cont_names == ["x"] and "leave it out" in found.notes[0]


def test_text_huge_numbers_and_what_is_called_an_id_name_the_rows() -> None:
    df = pd.DataFrame(
        {
            "word": [f"w{i}" for i in range(60)],
            "code": 4_006_381_000_000 + np.random.default_rng(0).permutation(10**6)[:60],
            "user_id": range(60),
            "rownames": range(1, 61),
            "seconds": 1_577_836_800 + 86400 * np.arange(60),
        }
    )
    found = guess_columns(df)
    assert list(found.dropped) == ["word", "code", "user_id", "rownames"] and found.cont_names == ["seconds"]
    assert all("names the rows" in why for why in found.dropped.values())


def test_lists_of_arrow_are_left_out() -> None:
    pa = pytest.importorskip("pyarrow")
    df = pd.DataFrame({"l": pd.Series([[1, 2]] * 60, dtype=pd.ArrowDtype(pa.list_(pa.int64()))), "x": [0.5, 1] * 30})
    assert "cannot be a category" in guess_columns(df).dropped["l"]


def test_what_is_known_of_a_column_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[tuple[str, str, int]] = Counter()

    def count(real: Callable[..., Any], series: Any, *args: Any, **more: Any) -> Any:
        asked[(real.__name__, str(series.name), len(series))] += 1
        return real(series, *args, **more)

    for name in ("factorize", "numbers"):
        monkeypatch.setattr(view, name, partial(count, getattr(view, name)))
    df = pd.concat([wide().drop(columns=["lists", "complex"])] * 60, ignore_index=True)
    df["label"] = np.random.default_rng(0).choice(["yes", "no"], len(df))
    TabularData.from_df(df, "label", valid=0.2)
    assert asked and set(asked.values()) == {1}


def test_notes() -> None:
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"Store": rng.integers(1, 120, 5000), "age": rng.integers(18, 90, 5000)})
    found = guess_columns(df)
    assert found.cont_names == ["Store", "age"]
    assert len(found.notes) == 1
    assert "Store holds the whole numbers up to 119" in found.notes[0]
    assert "hour holds the whole numbers up to 23" in guess_columns(pd.DataFrame({"hour": [*range(24)] * 9})).notes[0]
    words = pd.DataFrame({"w": [f"w{i % 2000}" for i in range(5000)]})
    assert "min_count" in guess_columns(words).notes[0]


def test_text_that_says_numbers_is_told() -> None:
    cells = {
        "age": [f"{18 + i % 70}" for i in range(200)],
        "price": [f"${10 + i % 30}.50" for i in range(200)],
        "pay": [f"${1 + i},{100 + i}" for i in range(200)],
        "share": [f"{i}.5" for i in range(200)],
    }
    codes = {"zip": [f"0{1000 + i % 50}" for i in range(200)], "grade": ["1", "2"] * 100, "mixed": ["$1", "x"] * 100}
    codes["chosen"] = pd.Series(cells["age"], dtype="category")
    found = guess_columns(pd.DataFrame({**cells, **codes}))
    assert found.cat_names == ["age", "price", *codes] and list(found.dropped) == ["pay", "share"]
    age, price = found.notes
    assert (
        age == "age holds text that says numbers; to take them as such, name it in cont_names. Now it has 70 categories"
    )
    assert "such as '$10.50'" in price and "df['price'].str.replace(" in price
    assert "'$1,100'" in found.dropped["pay"] and found.dropped["share"].endswith("name it in cont_names")
    made = pd.Series(cells["pay"]).str.replace(r"[^0-9.-]", "", regex=True).astype(float)
    assert made[0] == 1100.0


def test_one_value_beside_missing_ones_is_told() -> None:
    found = guess_columns(pd.DataFrame({"mark": ["x", *[None] * 9], "one": 1.5, "none": np.nan})).dropped
    assert "nothing in 9 rows" in found["mark"] and "cat_names" in found["mark"]
    assert found["one"] == "it holds one value only, 1.5" and "empty" in found["none"]


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d/%m/%Y", "%d-%m-%y", "%Y-%m-%dT%H:%M:%S"])
def test_dates_written_as_text_are_no_categories(form: str) -> None:
    days = pd.date_range("2020-01-01", periods=60)
    df = pd.DataFrame({"day": [*days.strftime(form)] * 5, "word": ["2020-01-01", "late"] * 150})
    found = guess_columns(df)
    assert "add_datepart(df, 'day')" in found.dropped["day"]
    assert found.cat_names == ["word"]


def test_guess_refuses() -> None:
    df = wide()
    with pytest.raises(DataError, match="no rows"):
        guess_columns(df.iloc[:0])
    with pytest.raises(DataError, match="more than once"):
        guess_columns(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(ArgumentError, match="astype"):
        guess_columns(pd.DataFrame([[1, 2]]))


# Ids


def test_ids() -> None:
    df = wide().drop(columns=["lists", "complex"])
    assert find_ids(df, ["word", "id", "few_gaps", "user_id", "name", "when", "one"]) == [
        "id",
        "user_id",
        "name",
        "when",
    ]
    assert find_ids(df, ["real", "name", "many"]) == ["real", "name"]
    assert find_ids(df.iloc[:10]) == []
    assert find_ids(pd.DataFrame({"why": ["ill", "moved", *[None] * 98]})) == [], "two values tell nothing"
    shuffled = df.assign(id=np.random.default_rng(0).permutation(N).astype(float))
    assert "id" in find_ids(shuffled)


def test_ids_of_long_tables_are_counted_in_full() -> None:
    rng = np.random.default_rng(0)
    n = 200_000
    df = pd.DataFrame({"row": np.arange(n), "half": rng.integers(0, n // 2, n), "price": rng.integers(0, 10**9, n)})
    assert find_ids(df) == ["row", "price"]


# Leaks


def leaky(n: int = 2000) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3))
    score = x @ [1, -1, 0.5] + rng.normal(size=n) * 0.3
    return pd.DataFrame(
        {
            "y": np.where(score > 0.5, "yes", "no"),
            "amount": np.exp(score),
            "score": score,
            "code": np.where(score > 0.5, 7, 3),
            "x0": x[:, 0],
            "x1": np.round(x[:, 1]),
            "shop": rng.integers(0, 30, n),
            "id": np.arange(n),
            "name": [f"n{i}" for i in range(n)],
        }
    )


def test_leaks_of_a_class() -> None:
    df = leaky()
    before = df.copy(deep=True)
    assert dict(find_leaks(df, "y")) == {
        "amount": "sorted by 'amount', the classes of 'y' do not overlap",
        "score": "sorted by 'score', the classes of 'y' do not overlap",
        "code": "each value of 'code' goes with one value of 'y'",
    }
    pd.testing.assert_frame_equal(df, before)
    finer = df.assign(code=np.where(df["y"] == "no", df["shop"], 100 + df["shop"] % 7).astype(str))
    assert "though not the other way round" in dict(find_leaks(finer, "y"))["code"]
    noisy = df.assign(code=np.where(np.arange(len(df)) == 5, 7, df["code"]))
    assert "code" in dict(find_leaks(noisy, "y"))
    assert find_leaks(df, "y", ["x0", "shop"]) == []


def test_leaks_of_a_number() -> None:
    df = leaky()
    found = dict(
        find_leaks(
            df.assign(copy=df["amount"], text=df["amount"].round(6).astype(str), price=-3 * df["score"]), "amount"
        )
    )
    assert list(found) == ["score", "copy", "text", "price"]
    assert found["copy"] == "'copy' equals the target 'amount'"
    assert "rank correlation 1.0" in found["score"]
    assert "rank correlation -1.0" in found["price"]
    per_shop = df.assign(mean=df["shop"] * 1.7)
    assert dict(find_leaks(per_shop, "mean", ["shop", "x0"])).keys() == {"shop"}
    by_name = df.assign(mean=df["shop"] * 1.7 % 5, shop=df["shop"].astype(str))
    assert dict(find_leaks(by_name, "mean", ["shop", "x1"])) == {
        "shop": "each value of 'shop' goes with one value of 'mean'"
    }


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(0, 2), st.booleans())
def test_classes_that_do_not_overlap_change_once_each_along_the_sorted_numbers(
    seed: int, classes: int, moved: int, coarse: bool
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=80)
    x = x.round(1) if coarse else x
    y = np.argsort(rng.permutation(classes))[np.digitize(x, np.linspace(-1, 1, classes - 1))]
    y[rng.integers(0, 80, moved)] = 0
    order = np.lexsort((y, x))
    changes = np.flatnonzero(np.diff(y[order]))
    n_classes = len(set(y.tolist()))
    parted = n_classes > 1 and len(changes) == n_classes - 1 and (np.diff(x[order])[changes] > 0).all()
    found = dict(find_leaks(pd.DataFrame({"y": y, "x": x}), "y"))
    if min(np.unique(y, return_counts=True)[1]) > 10:  # enough of each, so that it cannot be by accident
        by_order = "do not overlap" in found.get("x", "")
        assert by_order == parted or (coarse and parted and "each value" in found["x"])


@pytest.mark.parametrize("values", [[0.5, 1.5, 2.5], [0.5, np.nan, 1.5]], ids=["numbers", "a gap"])
def test_numbers_that_are_codes(values: list[float]) -> None:
    x = np.random.default_rng(0).normal(size=120)
    df = pd.DataFrame({"y": ["b", "a", "b"] * 40, "code": values * 40, "x": x})
    ((name, words),) = find_leaks(df, "y")
    assert name == "code" and words.startswith("each value of 'code' goes with one value of 'y'")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3, 10]), st.sampled_from([20, 60, 300]), st.floats(0.01, 0.5))
def test_chance_is_no_leak(seed: int, classes: int, n: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(n) < share, rng.integers(0, classes, n), 0)
    df = pd.DataFrame({"y": y, "a": rng.normal(size=n), "b": rng.integers(0, n // 2, n), "c": rng.integers(0, 3, n)})
    assert find_leaks(df, "y") == []
    assert find_leaks(df.assign(y=rng.normal(size=n)), "y") == []


@pytest.mark.parametrize(
    "target",
    [[None] * 40, [1] * 40, [[1]] * 40, [1.0, 2.0, *[np.inf] * 38], ["a", "b"] * 20, [dt.date(2020, 1, 1)] * 40],
    ids=str,
)
def test_odd_targets_and_features_are_no_leaks(target: list[Any]) -> None:
    df = pd.DataFrame(
        {"y": target, "lists": [[1]] * 40, "empty": None, "x": np.random.default_rng(0).normal(size=40), "one": 1}
    )
    assert find_leaks(df, "y") == []
    assert find_leaks(df.iloc[:5], "y") == []


def test_a_million_rows_are_quick() -> None:
    rng = np.random.default_rng(0)
    n = 1_000_000
    df = pd.DataFrame(
        {"y": rng.integers(0, 2, n), "a": rng.normal(size=n), "b": rng.integers(0, 1000, n), "c": rng.integers(0, 2, n)}
    )
    df["copy"] = 1 - df["y"]
    start = time.process_time()
    assert list(dict(find_leaks(df, "y"))) == ["copy"]
    assert find_ids(df) == ["a"]
    assert time.process_time() - start < 5
