from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easylearn.errors import DataError
from easylearn.tabular import summaries
from easylearn.tabular.fitted import FittedCategory, Settings, Spread
from easylearn.tabular.processing import TableProcessor
from easylearn.tabular.summaries import LevelCounts, Middle, NumberSums

values = st.floats(-1e6, 1e6) | st.integers(-3, 3).map(float)
blocks_of = st.lists(st.lists(values, max_size=12), min_size=1, max_size=8)


@given(blocks_of)
def test_spreads_add_up_to_numpys(blocks: list[list[float]]) -> None:
    total = Spread()
    for block in blocks:
        total += Spread.of(np.array(block, np.float64))
    whole = np.array([v for block in blocks for v in block], np.float64)
    assert total.n == len(whole)
    if len(whole):
        size = float(np.abs(whole).max()) + 1e-300
        assert total.mean == pytest.approx(whole.mean(), abs=1e-13 * size)
        assert total.variance == pytest.approx(whole.var(), abs=1e-13 * size**2)
        assert (total.low, total.high) == (whole.min(), whole.max())
        assert total.is_constant or whole.min() < whole.max()


def test_spreads_keep_their_digits_beside_a_large_offset() -> None:
    x = 1e9 + np.random.default_rng(0).normal(size=10_000)
    total = sum(map(Spread.of, np.array_split(x, 37)), Spread())
    assert total.variance == pytest.approx(x.var(), rel=1e-9) and not total.is_constant


@given(blocks_of.filter(any), st.data())
@settings(max_examples=300)
def test_the_middle_is_the_median_or_says_that_it_is_elsewhere(blocks: list[list[float]], data: st.DataObject) -> None:
    whole = [v for block in blocks for v in block]
    sample = data.draw(st.lists(st.sampled_from(whole), min_size=1, max_size=20))
    middle = Middle(np.array(sample), len(whole))
    for block in blocks:
        middle.add(np.array(block, np.float64))
    found = middle.median()
    assert found is None or found == np.median(whole)
    everything = Middle(np.array(whole), len(whole))
    for block in blocks:
        everything.add(np.array(block, np.float64))
    assert everything.median() == np.median(whole)


def fitted(
    df: pd.DataFrame, train: npt.NDArray[np.bool_], cuts: int, **how: Any
) -> tuple[TableProcessor, Any, list[list[str]]]:
    """A processor that was fitted by blocks, what was met, and which columns were asked for."""
    cats = [c for c in df.columns if c.startswith("c")]
    processor = TableProcessor(cats, [c for c in df.columns if c not in cats], **how)
    asked: list[list[str]] = []

    def blocks(names: list[str]) -> Iterator[tuple[pd.DataFrame, npt.NDArray[np.bool_]]]:
        asked.append(names)
        for rows in np.array_split(np.arange(len(df)), cuts):
            yield df[names].iloc[rows], train[rows]

    return processor, processor.fit_blocks(blocks), asked


def made_up(n: int, order: str) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(5)
    x = rng.exponential(size=n)
    x = np.sort(x) if order == "sorted" else x
    df = pd.DataFrame(
        {
            "c1": np.array(["a", "b", None, "d"], object)[rng.integers(0, 4, n)],
            "c2": np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, 9, n)),
            "c3": pd.Categorical(rng.choice(["low", "high"], n), ["low", "mid", "high"], ordered=True),
            "x": x,
            "gaps": np.where(rng.random(n) < 0.2, np.inf, x),
            "ties": np.where(rng.random(n) < 0.7, 0.0, x),
            "one": 7,
            "none": np.nan,
        }
    )
    df.loc[df.index[-3:], "c1"] = "late"
    return df, np.arange(n) % 5 > 0


@pytest.mark.parametrize("sample", [100_000, 16], ids=["all seen at once", "second reading"])
@pytest.mark.parametrize("order", ["mixed", "sorted"])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"fill": "mean"},
        {"fill": "constant", "scale": "none"},
        {"scale": "quantile"},
        {"min_count": 30, "max_levels": 2},
    ],
    ids=str,
)
def test_fitting_by_blocks_is_fitting_at_once(
    how: dict[str, Any], order: str, sample: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summaries, "_SAMPLE", sample)
    df, train = made_up(997, order)
    for cuts in (1, 7, 100):
        ours, met, _ = fitted(df, train, cuts, **how)
        whole = TableProcessor(ours.cat_names, ours.cont_names, **how)
        assert whole.fit_transform(df, train).split == met
        one, two = ours.state_dict(), whole.state_dict()
        for a, b in zip(one["conts"], two["conts"], strict=True):
            # A median is exact; a mean, and a deviation, are but for the last digits.
            digits = ["center", "factor", *(["fill"] if how.get("fill") == "mean" else [])]
            assert [a[n] for n in digits] == pytest.approx([b[n] for n in digits], rel=1e-12)
            assert all(a[n] == b[n] for n in a if n not in digits)
        assert {**one, "conts": None} == {**two, "conts": None}


def test_a_column_is_read_a_second_time_only_for_a_large_tables_median(monkeypatch: pytest.MonkeyPatch) -> None:
    df, train = made_up(997, "mixed")
    everything = [*df.columns[:3], *df.columns[3:]]
    assert fitted(df, train, 4)[2] == [everything]
    monkeypatch.setattr(summaries, "_SAMPLE", 16)
    assert fitted(df, train, 4)[2] == [everything, ["x", "gaps", "ties", "one"]]
    assert fitted(df, train, 4, fill="mean")[2] == [everything]


def test_a_median_that_the_sample_does_not_tell_is_looked_for_in_the_whole_column(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(summaries, "_SAMPLE", 100)
    x = np.random.default_rng(0).normal(size=12_800)
    monkeypatch.setattr(NumberSums, "_one_of", lambda self, every, x: np.sort(x)[: len(x) // every])
    processor, _, asked = fitted(pd.DataFrame({"x": x}), np.ones(len(x), np.bool_), 5)
    assert processor.state_dict()["conts"][0]["fill"] == np.median(x)
    assert asked == [["x"], ["x"], ["x"]]


def summed(x: npt.NDArray[np.float64], cuts: int) -> NumberSums:
    sums = NumberSums("x")
    for block in np.array_split(x, cuts):
        sums.add(pd.Series(block), np.ones(len(block), np.bool_))
    return sums


def test_numbers_are_sampled_from_all_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "_SAMPLE", 500)
    rows = np.arange(100_000.0)
    sample = summed(rows, 33).sample
    assert 500 <= len(sample) <= 1000 and len(np.unique(sample)) == len(sample)
    assert np.bincount((sample // 10_000).astype(int), minlength=10).min() >= 40
    np.testing.assert_array_equal(sample, summed(rows, 33).sample)


@pytest.mark.parametrize("period", [24, 32, 64, 168, 4096])
def test_what_repeats_does_not_mislead_the_sample(period: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "_SAMPLE", 1000)
    x = np.arange(128_000) % period * 10 + np.random.default_rng(0).normal(size=128_000)
    sums = summed(x, 40)
    assert sums.every > 1
    middle = Middle(sums.sample, len(x))
    middle.add(x)
    assert middle.median() == np.median(x)
    assert sum(map(len, middle._between)) < 0.2 * len(x)


def test_an_order_that_changes_is_none() -> None:
    def counted(*columns: pd.Series[Any]) -> tuple[FittedCategory, dict[Any, list[int]]]:
        counts = LevelCounts("c")
        for column in columns:
            counts.add(column, np.ones(len(column), np.bool_))
        return counts.learn(Settings()), counts._counts

    def of(levels: list[str], ordered: bool = True) -> pd.Series[Any]:
        return pd.Series(pd.Categorical(levels, levels, ordered=ordered))

    same, _ = counted(of(["b", "a"]), of(["b", "a"]))
    assert same.ordered and same.levels == ["b", "a"]
    for other in (of(["a", "b"]), of(["b", "a"], ordered=False), pd.Series(["b", "a"])):
        both, counts = counted(of(["b", "a"]), other)
        assert not both.ordered and both.levels == ["a", "b"] and counts == {"b": [2, 0], "a": [2, 0]}


def test_categories_that_no_row_has_are_not_counted() -> None:
    counts = LevelCounts("c")
    for order in (True, False):
        for _ in range(2):
            column = pd.Series(pd.Categorical(["b", "a", "b"], ["c", "b", "a", "d"], ordered=order))
            counts.add(column, np.array([True, True, False]))
    assert counts.learn(Settings()).levels == ["a", "b"] and counts._counts == {"b": [4, 4], "a": [4, 0]}


def test_whole_numbers_with_gaps_in_some_blocks_are_the_levels_of_one_column() -> None:
    df = pd.DataFrame({"c": [1, 2, 3, 4] * 10 + [1, 2, None, 5] * 10})
    processor = TableProcessor(["c"], [])

    def blocks(names: list[str]) -> Iterator[tuple[pd.DataFrame, npt.NDArray[np.bool_]]]:
        yield df.iloc[:40].astype("int64"), np.ones(40, np.bool_)
        yield df.iloc[40:], np.ones(40, np.bool_)

    processor.fit_blocks(blocks)
    assert processor.state_dict() == TableProcessor(["c"], []).fit(df).state_dict()


def test_one_block_is_in_memory_at_a_time() -> None:
    df, train = made_up(300, "mixed")
    alive: list[weakref.ref[pd.DataFrame]] = []
    processor = TableProcessor(["c1"], ["x"], scale="quantile")

    def blocks(names: list[str]) -> Iterator[tuple[pd.DataFrame, npt.NDArray[np.bool_]]]:
        for rows in np.array_split(np.arange(300), 3):
            assert not any(ref() is not None for ref in alive)
            frame = df[names].iloc[rows].copy()
            alive.append(weakref.ref(frame))
            pair = (frame, train[rows])
            del frame
            yield pair
            del pair

    processor.fit_blocks(blocks)
    assert len(alive) == 6


def test_blocks_without_training_rows_teach_nothing() -> None:
    df, train = made_up(50, "mixed")
    with pytest.raises(DataError, match="no training rows"):
        fitted(df, np.zeros(50, np.bool_), 3)
    with pytest.raises(DataError, match="nan"):
        fitted(df.assign(x="nan?"), train, 3)
