from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from easylearn.data.frames import iter_table, read_table
from easylearn.data.levels import from_json
from easylearn.data.values import numbers
from easylearn.errors import ArgumentError, DataError, StateError
from easylearn.tabular import processing
from easylearn.tabular.processing import MISSING, UNKNOWN, TableProcessor
from easylearn.tabular.reports import TransformReport
from tests.data.columns import COLUMNS


def table(n: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(50, 7, n)
    x[rng.random(n) < 0.1] = np.nan
    word = np.array(["red", "blue", None, "green"], object)[rng.integers(0, 4, n)]
    return pd.DataFrame(
        {"x": x, "k": rng.integers(0, 5, n), "word": word, "y": rng.exponential(3, n), "flag": rng.random(n) < 0.3}
    )


def fills(p: TableProcessor) -> dict[str, float]:
    return {c["name"]: c["fill"] for c in p.state_dict()["conts"]}


def reload(p: TableProcessor) -> TableProcessor:
    return TableProcessor.from_state(json.loads(json.dumps(p.state_dict(), allow_nan=False)))


# Compared with scikit-learn and with plain loops


def test_standard_scale_is_scikit_learns() -> None:
    df = table()
    got = TableProcessor([], ["x", "y"]).fit(df).transform(df).conts
    want = StandardScaler().fit_transform(df[["x", "y"]])
    held = ~np.isnan(want)
    np.testing.assert_allclose(got[:, :2][held], want[held], rtol=1e-5, atol=1e-6)


def test_quantile_scale_is_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    df = pd.DataFrame({"a": rng.exponential(2, 3000), "b": rng.integers(0, 6, 3000)})
    new = pd.DataFrame({"a": [-1.0, 0.0, 0.5, 3.0, 1e9], "b": [-1, 0, 3, 5, 7]})
    ours = TableProcessor([], ["a", "b"], scale="quantile").fit(df)
    theirs = QuantileTransformer(n_quantiles=1000, output_distribution="normal", subsample=None).fit(df.to_numpy())
    for part in (df, new):
        np.testing.assert_allclose(ours.transform(part).conts, theirs.transform(part.to_numpy(float)), atol=1e-4)


def test_codes_and_fills_are_those_of_a_plain_loop() -> None:
    df = table()
    train, new = df.iloc[:250], df.iloc[250:].assign(word=["pink", *df["word"].iloc[251:]])
    p = TableProcessor(["word", "k", "flag"], ["x"], scale="none").fit(train)
    out = p.transform(new)
    median = np.nanmedian(train["x"])
    for j, name in enumerate(p.cat_names):
        levels = sorted({v for v in train[name].tolist() if v is not None and v == v})
        for code, value in zip(out.cats[:, j], new[name].tolist(), strict=True):
            missing = value is None or value != value
            assert code == (1 if missing else levels.index(value) + 2 if value in levels else 0)
        assert p.levels(name) == [UNKNOWN, MISSING, *levels]
    for value, (x, flag) in zip(new["x"], out.conts, strict=True):
        assert x == pytest.approx(median if np.isnan(value) else value, rel=1e-6)
        assert flag == np.isnan(value)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "", None]),
            st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.integers(-(10**6), 10**6)),
            st.booleans(),
        ),
        min_size=1,
        max_size=60,
    ),
    st.sampled_from(["standard", "quantile", "none"]),
    st.sampled_from(["median", "mean", "constant"]),
    st.integers(1, 3),
)
def test_fit_transform_is_fit_on_the_rows_and_transform(
    rows: list[tuple[Any, Any, bool]], scale: Any, fill: Any, min_count: int
) -> None:
    words, values, mask = zip(*rows, strict=True)
    df = pd.DataFrame(
        {"w": pd.Series(words, dtype=object), "x": np.array(values, float), "o": pd.Series(values, dtype=object)}
    )
    train = np.array(mask)
    if not train.any():
        train[0] = True
    before = df.copy(deep=True)
    a = TableProcessor(["w"], ["x", "o"], scale=scale, fill=fill, min_count=min_count)
    b = TableProcessor(["w"], ["x", "o"], scale=scale, fill=fill, min_count=min_count).fit(df[train])
    one, two, three = a.fit_transform(df, train), b.transform(df), reload(a).transform(df)
    for other in (two, three):
        np.testing.assert_array_equal(one.cats, other.cats)
        np.testing.assert_array_equal(one.conts, other.conts)
        assert one.report == other.report
    assert a.state_dict() == b.state_dict() == reload(a).state_dict()
    assert np.isfinite(one.conts).all()
    assert one.conts.dtype == np.float32
    assert one.conts.shape == (len(df), len(a.cont_out_names))
    assert one.cats.max(initial=0) < a.cardinalities["w"]
    pd.testing.assert_frame_equal(df, before)
    # A row's encoding does not depend on the other rows, nor on which way short tables take.
    for i in (0, len(df) - 1):
        alone = a.transform(df.iloc[[i]])
        np.testing.assert_array_equal(alone.cats[0], one.cats[i])
        np.testing.assert_array_equal(alone.conts[0], one.conts[i])


@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
@pytest.mark.parametrize("what", COLUMNS)
def test_every_dtype_keeps_its_levels(what: str, long: bool) -> None:
    column, levels = COLUMNS[what]
    if long:
        column = pd.concat([column] * 10, ignore_index=True)
    df = pd.DataFrame({"c": column})
    p = TableProcessor(["c"], []).fit(df)
    assert p.levels("c")[2:] == levels
    codes = p.transform(df).cats[:, 0]
    for code, value in zip(codes, column.tolist(), strict=True):
        if pd.isna(value):
            assert code == 1
        else:
            assert p.levels("c")[code] == value
    again = reload(p)
    assert again.levels("c") == p.levels("c")
    assert [type(v) for v in again.levels("c")] == [type(v) for v in p.levels("c")]
    np.testing.assert_array_equal(again.transform(df).cats[:, 0], codes)


@pytest.mark.parametrize(
    "kind_", ["string[pyarrow]", "int64[pyarrow]", "bool[pyarrow]", "timestamp[us][pyarrow]", "double[pyarrow]"]
)
def test_arrow(kind_: str) -> None:
    pytest.importorskip("pyarrow")
    values = {"s": ["b", None, "a"], "i": [2, None, 1], "b": [True, None, False], "d": [2.5, None, 1.5]}
    held = values.get(kind_[0], [dt.datetime(2020, 1, 2), None, dt.datetime(2019, 1, 1)])
    df = pd.DataFrame({"c": pd.Series(held, dtype=kind_)})
    for long in (df, pd.concat([df] * 20, ignore_index=True)):
        p = TableProcessor(["c"], []).fit(long)
        assert p.transform(df).cats[:, 0].tolist() == [3, 1, 2]
        assert reload(p).levels("c") == p.levels("c")
    if kind_[0] in "ibd":
        np.testing.assert_array_equal(numbers(df["c"]), [float(held[0]), np.nan, float(held[2])])


# Behaviour


def test_rows_that_are_named_twice_are_counted_as_given() -> None:
    got = TableProcessor(["word"], ["x"]).fit_transform(table(5), [0, 0, 1])
    assert got.split is not None and [part.rows for part in got.split] == [3, 3]


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch, pools: list[int]) -> None:
    df, rows = table(2000), np.arange(0, 2000, 3)
    names = ["k", "word", "flag"], ["x", "y"]
    alone = TableProcessor(*names)
    want = alone.fit_transform(df, rows)
    monkeypatch.setattr(processing, "_MANY_ROWS", 1000)
    monkeypatch.setattr(processing.torch, "get_num_threads", lambda: 3)
    together = TableProcessor(*names)
    got = together.fit_transform(df, rows)
    assert pools == [3] and together.state_dict() == alone.state_dict()
    for a, b in ((got.cats, want.cats), (got.conts, want.conts)):
        np.testing.assert_array_equal(a, b)
    assert got.report == want.report and got.split == want.split
    assert list(got.report.missing) == list(want.report.missing)
    with pytest.raises(DataError, match="'word' holds text"):
        TableProcessor(["k"], ["x", "word"]).fit(df)


def test_a_level_of_other_rows_only_is_unknown() -> None:
    df = pd.DataFrame({"c": pd.Categorical(["a", "b", "c", "a"])})
    p = TableProcessor(["c"], [])
    assert p.fit_transform(df, [0, 1]).cats[:, 0].tolist() == [2, 3, 0, 2]
    assert p.cardinalities == {"c": 4}


def test_a_column_clean_in_training_is_filled_without_a_flag() -> None:
    p = TableProcessor([], ["x"], scale="none").fit(pd.DataFrame({"x": [1.0, 2.0, 9.0]}))
    out = p.transform(pd.DataFrame({"x": [np.nan, -np.inf, 1e300]}))
    assert out.conts.tolist() == [[2.0]] * 3
    assert (out.report.missing, out.report.infinite, out.report.filled) == ({"x": 1}, {"x": 2}, {"x": 3})


def test_a_flag_is_decided_by_training_rows_only() -> None:
    df = pd.DataFrame({"x": [1.0, 3.0, np.nan]})
    p = TableProcessor([], ["x"])
    assert p.fit_transform(df, [0, 1]).conts.shape == (3, 1)
    assert p.fit_transform(df, [0, 2]).conts[:, 1].tolist() == [0, 0, 1]


@pytest.mark.parametrize(("fill", "want"), [("median", 2.0), ("mean", 4.0), ("constant", -1.0)])
def test_fill(fill: Any, want: float) -> None:
    df = pd.DataFrame({"x": [1.0, 2.0, 9.0, np.nan, np.inf]})
    p = TableProcessor([], ["x"], scale="none", fill=fill, fill_value=-1).fit(df)
    assert p.transform(df).conts.tolist() == [[1, 0], [2, 0], [9, 0], [want, 1], [want, 1]]
    assert fills(p) == {"x": want}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e30, 1e30) | st.integers(0, 3), min_size=1, max_size=60))
def test_the_median_is_numpys(values: list[float]) -> None:
    df = pd.DataFrame({"x": np.array(values, np.float64)})
    assert fills(TableProcessor([], ["x"]).fit(df)) == {"x": np.median(values)}


@pytest.mark.parametrize("scale", ["standard", "quantile"])
def test_a_constant_or_empty_column_gives_zeros(scale: Any) -> None:
    df = pd.DataFrame({"c": [0.1] * 7, "e": [np.nan] * 7})
    p = TableProcessor([], ["c", "e"], scale=scale).fit(df)
    new = pd.DataFrame({"c": [0.1, 5.0, np.nan], "e": [1.0, 1e30, np.nan]})
    assert p.transform(new).conts.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert reload(p).transform(new).conts.tolist() == p.transform(new).conts.tolist()


def test_large_offsets_keep_their_digits() -> None:
    seconds = 1_577_836_800 + np.arange(1000.0)
    out = TableProcessor([], ["t"]).fit_transform(pd.DataFrame({"t": seconds})).conts[:, 0]
    np.testing.assert_allclose(out, (np.arange(1000) - 499.5) / np.arange(1000).std(), rtol=1e-6)


def test_huge_numbers_stay_finite() -> None:
    p = TableProcessor([], ["x"]).fit(pd.DataFrame({"x": [0.0, 1e-30, 2e-30]}))
    assert np.isfinite(p.transform(pd.DataFrame({"x": [3e38, -3e38]})).conts).all()


def test_rare_levels_become_unknown_and_are_counted() -> None:
    df = pd.DataFrame({"c": list("aaabbbccd")})
    p = TableProcessor(["c"], [], min_count=3)
    out = p.fit_transform(df)
    assert p.levels("c")[2:] == ["a", "b"]
    assert (p.state_dict()["cats"][0]["n_rare"], out.report.unknown) == (2, {"c": 3})
    most = TableProcessor(["c"], [], max_levels=3).fit(df)
    assert most.levels("c")[2:] == ["a", "b", "c"]
    tied = TableProcessor(["c"], [], max_levels=1).fit(df)
    assert tied.levels("c")[2:] == ["a"]


@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
@pytest.mark.parametrize(
    ("train", "new", "codes"),
    [
        ([1, 2], [1.0, 2.0, np.nan, 2.5], [2, 3, 1, 0]),
        ([1, 2], ["1", " 2 ", "2.0", "two"], [2, 3, 3, 0]),
        ([1, 10], ["1_0", "1e1", "0x1", "nan"], [0, 3, 0, 0]),
        (["1", "2"], [1, 2, 3, 1], [2, 3, 0, 2]),
        (["1", "2"], [1.0, 2.0, np.nan, np.inf], [2, 3, 1, 0]),
        (["1.5", "2"], [1.5, 2.0, np.nan, 7], [2, 3, 1, 0]),
        ([True, False], ["True", "false", "1", "maybe"], [3, 2, 3, 0]),
        ([True, False], [1, 0, 1, 2], [3, 2, 3, 0]),
        (["True", "False"], [True, False, True, True], [3, 2, 3, 3]),
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), ["2020-01-01", "2020-01-02 00:00", "x", ""], [2, 3, 0, 0]),
        (
            pd.to_datetime(["2020-01-01", "2020-01-02"]).tz_localize("UTC"),
            ["2020-01-01T00:00Z", "2020", "x", "y"],
            [2, 0, 0, 0],
        ),
        ([dt.date(2020, 1, 1), dt.date(2020, 1, 2)], ["2020-01-01", "2020-01-02", "x", "2021-01-01"], [2, 3, 0, 0]),
        (["a", 1], ["1", 1, "a", 1.0], [2, 2, 3, 2]),
    ],
)
def test_values_are_found_though_a_file_changed_their_type(
    train: Any, new: list[Any], codes: list[int], long: bool
) -> None:
    p = TableProcessor(["c"], []).fit(pd.DataFrame({"c": train}))
    times = 20 if long else 1
    got = p.transform(pd.DataFrame({"c": new * times})).cats[:, 0].tolist()
    assert got == codes * times


def test_ordered_categories_keep_their_order_and_take_plain_text() -> None:
    sizes = pd.CategoricalDtype(["S", "M", "L", "XL"], ordered=True)
    p = TableProcessor(["size"], []).fit(pd.DataFrame({"size": pd.Series(["L", "S", "M"], dtype=sizes)}))
    assert p.levels("size")[2:] == ["S", "M", "L"]
    assert p.transform(pd.DataFrame({"size": ["S", "L", "XL", None]})).cats[:, 0].tolist() == [2, 4, 0, 1]


def test_duplicate_and_unsorted_indexes_make_no_difference() -> None:
    df = table(60)
    odd = df.set_axis(np.repeat([5, 3, 3], 20))
    p, q = TableProcessor(["word"], ["x"]), TableProcessor(["word"], ["x"])
    a, b = p.fit_transform(df, np.arange(30)), q.fit_transform(odd, np.arange(30))
    np.testing.assert_array_equal(a.cats, b.cats)
    np.testing.assert_array_equal(a.conts, b.conts)


@pytest.mark.parametrize("long", [False, True])
def test_the_table_is_left_as_it_is(long: bool) -> None:
    df = pd.concat([table(20)] * (10 if long else 1))
    df["cat"] = df["word"].astype("category")
    before = df.copy(deep=True)
    TableProcessor(["word", "cat", "flag"], ["x", "k"], scale="quantile").fit_transform(df)
    pd.testing.assert_frame_equal(df, before)


def test_read_only_memory_is_enough() -> None:
    x = np.array([1.0, np.nan, 3.0])
    x.flags.writeable = False
    assert TableProcessor([], ["x"]).fit_transform(pd.DataFrame({"x": x}, copy=False)).conts.shape == (3, 2)


def test_flag_names_avoid_the_columns_there_are() -> None:
    df = pd.DataFrame({"x": [1.0, None], "x_na": [1.0, 2.0]})
    assert TableProcessor([], ["x", "x_na"]).fit(df).cont_out_names == ["x", "x_na", "x_na_"]


def test_no_rows_are_encoded_as_none() -> None:
    df = table(50)
    p = TableProcessor(["word"], ["x"]).fit(df)
    out = p.transform(df.iloc[:0])
    assert (out.cats.shape, out.conts.shape, out.report.rows) == ((0, 1), (0, 2), 0)


def test_other_columns_are_ignored_and_order_is_free() -> None:
    df = table(50)
    p = TableProcessor(["word"], ["x"]).fit(df)
    other = df.assign(new=[[1]] * 50)[["new", "x", "word"]]
    np.testing.assert_array_equal(p.transform(other).conts, p.transform(df).conts)


def test_no_columns_of_a_kind() -> None:
    df = table(10)
    assert TableProcessor([], ["y"]).fit_transform(df).cats.shape == (10, 0)
    assert TableProcessor(["k"], []).fit_transform(df).conts.shape == (10, 0)


def test_reports_add_up_and_print() -> None:
    p = TableProcessor(["w"], ["x"]).fit(pd.DataFrame({"w": ["a", "b"], "x": [1.0, 2.0]}))
    first = p.transform(pd.DataFrame({"w": ["a", "z"], "x": [1.0, None]}))
    second = p.transform(pd.DataFrame({"w": ["q", "z", None], "x": [1.0, 2.0, np.inf]}))
    both = TransformReport()
    both += first.report
    both += second.report
    assert asdict(both) == {
        "rows": 5,
        "unknown": {"w": 3},
        "missing": {"x": 1, "w": 1},
        "infinite": {"x": 1},
        "filled": {"x": 2},
        "examples": {"w": ["'z'", "'q'"]},
    }
    assert not both.is_clean
    assert "'z', 'q'" in str(both)
    assert str(TransformReport(3)) == "3 rows, nothing unknown, missing or infinite"
    json.dumps(asdict(both))


def test_repr() -> None:
    p = TableProcessor(["k"], ["x"])
    assert "learned nothing yet" in repr(p)
    assert "2 numbers out" in repr(p.fit(table()))


def test_a_failed_fit_keeps_what_was_learned() -> None:
    p = TableProcessor(["w"], ["x"]).fit(pd.DataFrame({"w": ["a"], "x": [1.0]}))
    before = p.state_dict()
    with pytest.raises(DataError):
        p.fit(pd.DataFrame({"w": ["b"], "x": ["text"]}))
    assert p.state_dict() == before


# Bad input


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"cat_names": "word"}, "list of column names"),
        ({"cat_names": ["word", "word"]}, "more than once"),
        ({"cat_names": [1]}, "must hold text"),
        ({"cat_names": ["x"]}, "both categorical and continuous"),
        ({"scale": "minmax"}, "scale must be one of"),
        ({"fill": "zero"}, "fill must be one of"),
        ({"fill_value": float("nan")}, "finite"),
        ({"min_count": 0}, "min_count"),
        ({"max_levels": 0}, "max_levels"),
    ],
)
def test_wrong_arguments(settings_: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        TableProcessor(**{"cat_names": ["word"], "cont_names": ["x"], **settings_})


def test_missing_columns_are_named() -> None:
    p = TableProcessor(["word"], ["x"]).fit(table())
    with pytest.raises(DataError, match=r"\['word', 'x'\].*Did you mean 'words'"):
        p.transform(table().rename(columns={"word": "words", "x": "q"}))


@pytest.mark.parametrize("long", [False, True])
def test_text_in_a_continuous_column_is_named(long: bool) -> None:
    df = pd.DataFrame({"x": pd.Series([1.0, "2", "many"] * (30 if long else 1), dtype=object)}).set_axis(
        ["p", "q", "r"] * (30 if long else 1)
    )
    with pytest.raises(DataError, match=r"'x' holds text in row 2 \(index 'r'\): 'many'"):
        TableProcessor([], ["x"]).fit(df)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pd.Series(pd.to_datetime(["2020-01-01"])), "add_datepart"),
        (pd.Series(pd.PeriodIndex(["2020-01"], freq="M")), "add_datepart"),
        (pd.Series([1 + 2j]), "complex"),
        (pd.Series([[1, 2]]), r"list in row 0: \[1, 2\]"),
        (pd.Series([dt.date(2020, 1, 1)], dtype=object), "date in row 0"),
        (pd.Series([pd.Timestamp("2020-01-01")], dtype=object), "Timestamp in row 0"),
        (pd.Series(["a"], dtype="category"), "text in row 0"),
        (pd.Series(["1,5"]), "text in row 0: '1,5'"),
        (pd.Series(["1", "1_0"]), "text in row 1: '1_0'"),
    ],
)
def test_what_is_no_number_is_refused(column: pd.Series[Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        TableProcessor([], ["x"]).fit(pd.DataFrame({"x": column}))


@pytest.mark.parametrize("n", [1, 50])
@pytest.mark.parametrize("value", [[1], {"a": 1}, object(), b"bytes"], ids=["list", "dict", "object", "bytes"])
def test_what_is_no_category_is_refused(value: Any, n: int) -> None:
    column = pd.Series(["a", None, value] * n, dtype=object)
    with pytest.raises(DataError, match=r"'c', row 2: .*cannot be a category"):
        TableProcessor(["c"], []).fit(pd.DataFrame({"c": column}))


def test_tables_that_cannot_be_learned_from() -> None:
    with pytest.raises(DataError, match="no rows"):
        TableProcessor(["word"], []).fit(table().iloc[:0])
    with pytest.raises(ArgumentError, match="DataFrame"):
        TableProcessor(["word"], []).fit({"word": ["a"]})  # type: ignore[arg-type]
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(DataError, match=r"\['a'\] are in the table more than once"):
        TableProcessor(["a"], []).fit(twice)
    assert TableProcessor(["b"], []).fit(twice.assign(b=1)).cardinalities == {"b": 3}


@pytest.mark.parametrize("rows", [[], [-1], [400], [0.5], [[1]], np.zeros(400, bool), np.ones(3, bool)])
def test_wrong_rows(rows: Any) -> None:
    with pytest.raises(ArgumentError, match="row"):
        TableProcessor(["word"], []).fit_transform(table(), rows)


def test_nothing_learned_yet() -> None:
    p = TableProcessor(["word"], [])
    for call in (
        lambda: p.transform(table()),
        p.state_dict,
        lambda: p.levels("word"),
        lambda: p.cardinalities,
        lambda: p.cont_out_names,
    ):
        with pytest.raises(StateError, match="call fit"):
            call()
    with pytest.raises(ArgumentError, match="Did you mean 'word'"):
        p.fit(table()).levels("wort")


def test_a_strange_state_is_refused() -> None:
    good = TableProcessor(["word"], ["x"]).fit(table()).state_dict()
    with pytest.raises(DataError, match="version 99"):
        TableProcessor.from_state({**good, "version": 99})
    for bad in ({}, {**good, "cats": [{}]}, {**good, "settings": {"what": 1}}, {**good, "conts": None}):
        with pytest.raises(DataError, match="not the state"):
            TableProcessor.from_state(bad)
    with pytest.raises(DataError, match=r"unknown kind 'os.system'"):
        TableProcessor.from_state(
            {**good, "cats": [{**good["cats"][0], "levels": {"kind": "os.system", "values": ["x"]}}]}
        )
    with pytest.raises(DataError, match="cannot be read"):
        from_json({"kind": "int", "values": ["x"]})


@pytest.mark.parametrize("scale", ["standard", "quantile", "none"])
def test_decode_is_the_way_back(scale: Any) -> None:
    df = table()
    p = TableProcessor(["word", "k"], ["x", "y"], scale=scale)
    encoded = p.fit_transform(df)
    back = p.decode(encoded.cats, encoded.conts)
    assert back["word"].tolist() == df["word"].fillna(MISSING).tolist()
    assert back["k"].tolist() == df["k"].tolist()
    for name in ("x", "y"):
        inside = df[name].between(df[name].quantile(0.01), df[name].quantile(0.99)) | df[name].isna()
        np.testing.assert_allclose(back[name][inside], df[name][inside], rtol=1e-3)
    assert p.cont_places == {"x": (0, 2), "y": (1,)}
    new = p.transform(pd.DataFrame({"word": ["no such"], "k": [1], "x": [1.0], "y": [2.0]}))
    assert p.decode(new.cats, new.conts)["word"].tolist() == [UNKNOWN]


def test_decode_of_a_column_that_never_varied() -> None:
    df = pd.DataFrame({"same": [7.5] * 4, "rare": [0.0, 0.0, 0.0, 400.0]})
    p = TableProcessor([], ["same", "rare"])
    assert p.decode(np.empty((4, 0), np.int64), p.fit_transform(df).conts).to_numpy().tolist() == df.to_numpy().tolist()


@pytest.mark.parametrize("rows", [8, 6000])
def test_a_file_means_what_the_frame_meant_that_it_was_written_from(rows: int, tmp_path: Path) -> None:
    n = rows // 8
    df = pd.DataFrame(
        {
            "zip": ["01234", "1234", "99999", "00001"] * 2 * n,
            "version": ["1.10", "1.1", "2", "1.0"] * 2 * n,
            "word": ["NA", "null", "x", None] * 2 * n,
            "late": ["7"] * (8 * n - 1) + ["x"],  # looks like numbers for a long time
            "code": pd.Series([1, 2, None, 3] * 2 * n, dtype=object),
            "day": [dt.date(2024, 1, 1), dt.date(2024, 1, 2), None, dt.date(2024, 1, 3)] * 2 * n,
            "yes": [True, False, True, True] * 2 * n,
            "x": [0.1, 1e300, None, -5.0] * 2 * n,
            "k": [1, 2, 3, 2**53 + 1] * 2 * n,
        }
    )
    p = TableProcessor(["zip", "version", "word", "late", "code", "day", "yes"], ["x", "k"]).fit(df)
    want = p.transform(df)
    df.to_csv(tmp_path / "t.csv", index=False)
    known = p.known_types()
    columns = [*p.cat_names, *p.cont_names]
    whole = p.transform(read_table(tmp_path / "t.csv", **known).frame)
    pieces = [p.transform(t.frame) for t in iter_table(tmp_path / "t.csv", 3, columns=columns, **known)]
    for name in ("cats", "conts"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(want, name))
        np.testing.assert_array_equal(np.concatenate([getattr(e, name) for e in pieces]), getattr(want, name))
    assert not whole.report.unknown and known["text"] == ["zip", "version", "word", "late", "day"]
