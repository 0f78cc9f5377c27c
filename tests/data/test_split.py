from __future__ import annotations

import datetime as dt
import random
import warnings
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from easylearn.data.folds import folds
from easylearn.data.split import Split, fraction_of, get_cv_idxs, split_indices
from easylearn.errors import ArgumentError, DataError, EasyLearnWarning

seeds = st.integers(0, 1000)
fractions = st.floats(0.001, 0.999)


def is_partition(n: int, train: np.ndarray, valid: np.ndarray) -> bool:
    ascending = all((np.diff(side) > 0).all() and side.dtype == np.int64 and len(side) for side in (train, valid))
    return ascending and sorted([*train.tolist(), *valid.tolist()]) == list(range(n))


class TestGetCvIdxs:
    """The reference is fast.ai 0.7: np.random.seed(seed), then a block of np.random.permutation(n)."""

    @pytest.mark.parametrize(("cv_idx", "val_pct", "seed"), [(0, 0.2, 42), (3, 0.2, 42), (1, 0.25, 7)])
    def test_the_items_of_2018(self, cv_idx: int, val_pct: float, seed: int) -> None:
        size = int(val_pct * 103)
        expected = np.random.RandomState(seed).permutation(103)[cv_idx * size : (cv_idx + 1) * size]
        np.testing.assert_array_equal(get_cv_idxs(103, cv_idx, val_pct, seed), expected)

    def test_blocks_are_disjoint(self) -> None:
        blocks = [set(get_cv_idxs(50, i).tolist()) for i in range(5)]
        assert set.union(*blocks) == set(range(50)) and sum(map(len, blocks)) == 50

    @pytest.mark.parametrize(
        ("args", "word"),
        [
            ((10, 5), "from 0 to 4"),
            ((10, -1), "cv_idx"),
            ((3, 0, 0.2), "less than one item"),
            ((10, 0, 1.0), "val_pct"),
        ],
    )
    def test_refused(self, args: tuple[int, ...], word: str) -> None:
        with pytest.raises(ArgumentError, match=word):
            get_cv_idxs(*args)


@given(
    labels=st.lists(st.integers(-128, 127), min_size=4, max_size=60),
    dtype=st.sampled_from(["int8", "int64", "uint64"]),
    far=st.booleans(),
    seed=seeds,
)
def test_an_array_of_whole_numbers_is_split_as_a_list_of_words(
    labels: list[int], dtype: str, far: bool, seed: int
) -> None:
    numbers = np.array(labels, np.int64)
    if dtype == "uint64":
        numbers = numbers + 128
        array = numbers.astype(np.uint64) + np.uint64(2**63 if far else 0)
    else:
        array = (numbers * 10**6 if far and dtype == "int64" else numbers).astype(dtype)
    words = [str(label) for label in labels]

    def splits(of: object) -> list[object]:
        made: list[object] = []
        for how in ("stratify", "groups"):
            try:
                made.append([side.tolist() for side in split_indices(len(labels), 0.3, seed=seed, **{how: of})])  # type: ignore[arg-type]
            except ArgumentError as error:
                made.append(str(error))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EasyLearnWarning)  # of classes that are rare
            plan = folds(len(labels), 3, seed=seed, stratify=of)  # type: ignore[arg-type]
        return [*made, *(valid.tolist() for _, valid in plan)]

    assert splits(array) == splits(words)


def test_global_generators_are_untouched() -> None:
    before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
    split_indices(20, 0.3, seed=1)
    split_indices(20, 0.3, stratify=[0, 1] * 10)
    split_indices(20, 0.3, groups=list(range(10)) * 2)
    folds(20, 4)
    folds(20, 4, groups=list(range(10)) * 2)
    get_cv_idxs(20)
    after = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
    assert before[:2] == after[:2] and torch.equal(before[2], after[2])


class TestFraction:
    @given(n=st.integers(2, 300), fraction=fractions, seed=seeds)
    def test_partition(self, n: int, fraction: float, seed: int) -> None:
        train, valid = split_indices(n, fraction, seed=seed)
        assert is_partition(n, train, valid)
        assert len(valid) == min(max(round(n * fraction), 1), n - 1)
        np.testing.assert_array_equal(valid, split_indices(n, fraction, seed=seed)[1])

    def test_seeds_differ(self) -> None:
        assert len({tuple(split_indices(30, 0.2, seed=s)[1].tolist()) for s in range(20)}) == 20

    @pytest.mark.parametrize(
        "fraction",
        [np.float32(0.25), np.float16(0.25), Fraction(1, 4), Decimal("0.25"), np.array(0.25), torch.tensor(0.25)],
    )
    def test_any_real_number_is_a_fraction(self, fraction: Any) -> None:
        np.testing.assert_array_equal(split_indices(40, fraction)[1], split_indices(40, 0.25)[1])
        assert fraction_of(fraction) == 0.25

    @pytest.mark.parametrize("given_", [None, True, np.True_, "0.2", [0.2], np.array([True, False]), "6W"])
    def test_what_is_no_number_is_no_fraction(self, given_: Any) -> None:
        assert fraction_of(given_) is None

    def test_none_asks_for_no_validation(self) -> None:
        train, valid = split_indices(5, None)
        assert train.tolist() == [0, 1, 2, 3, 4] and valid.tolist() == [] and valid.dtype == np.int64
        for how in ("stratify", "groups", "time"):
            with pytest.raises(ArgumentError, match=f"{how} .*valid=None"):
                split_indices(5, None, **{how: [0, 0, 1, 1, 1]})  # type: ignore[arg-type]

    @pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 20, 1.5, float("nan"), np.float32(2)])
    def test_refused(self, fraction: float) -> None:
        with pytest.raises(ArgumentError, match="list of their positions"):
            split_indices(10, fraction)

    def test_too_few_items(self) -> None:
        with pytest.raises(ArgumentError, match="two items"):
            split_indices(1, 0.5)
        with pytest.raises(ArgumentError, match="n must be"):
            split_indices(0, 0.5)


class TestStratified:
    @given(labels=st.lists(st.integers(0, 6), min_size=2, max_size=120), fraction=fractions, seed=seeds)
    def test_shares(self, labels: list[int], fraction: float, seed: int) -> None:
        n, counts = len(labels), np.bincount(labels)
        if counts.max() < 2:
            return
        train, valid = split_indices(n, fraction, seed=seed, stratify=labels)
        assert is_partition(n, train, valid)
        part = np.bincount(np.asarray(labels)[valid], minlength=len(counts))
        present = counts > 0
        assert ((counts - part)[present] >= 1).all(), "every class trains"
        share = np.minimum(counts * fraction, counts - 1)[present]
        assert (np.abs(part[present] - share) < 1 + 1e-9).all()
        if (counts[present] > 1).all() and (counts * fraction <= counts - 1)[present].all():
            assert len(valid) == max(round(n * fraction), 1)

    def test_exact_shares(self) -> None:
        labels = ["cat"] * 50 + ["dog"] * 30 + ["emu"] * 20
        _, valid = split_indices(100, 0.2, stratify=labels)
        assert np.unique(np.asarray(labels)[valid], return_counts=True)[1].tolist() == [10, 6, 4]

    def test_many_small_classes_take_turns(self) -> None:
        labels = np.arange(200) // 2
        first = [np.mean(labels[split_indices(200, 0.25, seed=s, stratify=labels)[1]]) for s in range(40)]
        assert abs(np.mean(first) - 49.5) < 5, "the classes that give an item are not always the first"

    def test_kinds_of_labels(self) -> None:
        nan = [float("nan"), float("nan"), 1.0, 1.0] * 5
        _, valid = split_indices(20, 0.5, stratify=nan)
        assert np.isnan(np.asarray(nan)[valid]).sum() == 5
        rows = np.eye(2, dtype=int)[[0, 1] * 10]
        _, valid = split_indices(20, 0.5, stratify=rows)
        assert rows[valid].sum(0).tolist() == [5, 5]
        lists = np.empty(20, object)
        lists[:] = [["cat"], ["cat", "dog"]] * 10
        for held in (lists, pd.Series(lists)):
            _, valid = split_indices(20, 0.5, stratify=held)
            assert np.bincount(valid % 2).tolist() == [5, 5], "lists of labels among objects"
        _, valid = split_indices(4, 0.5, stratify=["a", 1, "a", 1])
        assert sorted(valid % 2) == [0, 1]

    def test_refused(self) -> None:
        with pytest.raises(ArgumentError, match="one item only"):
            split_indices(3, 0.3, stratify=[1, 2, 3])
        with pytest.raises(ArgumentError, match="got 2 entries for 3 items"):
            split_indices(3, 0.3, stratify=[1, 2])
        with pytest.raises(ArgumentError, match="not both"):
            split_indices(2, 0.3, stratify=[1, 2], groups=[1, 2])
        for how in ("stratify", "groups"):
            with pytest.raises(ArgumentError, match=f"{how} goes with a fraction"):
                split_indices(2, [0], **{how: [1, 2]})  # type: ignore[arg-type]
        for wrong in (True, "kind"):
            with pytest.raises(ArgumentError, match="stratify must have one entry per item"):
                split_indices(2, 0.5, stratify=wrong)  # type: ignore[arg-type]


class TestGroups:
    @given(groups=st.lists(st.integers(0, 12), min_size=2, max_size=100), fraction=fractions, seed=seeds)
    def test_whole_groups(self, groups: list[int], fraction: float, seed: int) -> None:
        if len(set(groups)) < 2:
            return
        train, valid = split_indices(len(groups), fraction, seed=seed, groups=groups)
        assert is_partition(len(groups), train, valid)
        assert not {groups[i] for i in train} & {groups[i] for i in valid}

    def test_near_the_fraction(self) -> None:
        groups = [f"patient {i // 5}" for i in range(500)]
        for seed in range(5):
            assert len(split_indices(500, 0.2, seed=seed, groups=groups)[1]) == 100

    def test_a_giant_group_trains(self) -> None:
        groups = [0] * 80 + list(range(1, 21))
        for seed in range(5):
            assert len(split_indices(100, 0.2, seed=seed, groups=groups)[1]) == 20

    def test_refused(self) -> None:
        with pytest.raises(ArgumentError, match="at least two groups"):
            split_indices(3, 0.3, groups=["a", "a", "a"])
        with pytest.raises(ArgumentError, match="groups must have one entry per item"):
            split_indices(3, 0.3, groups=["a"])


class TestPositions:
    @pytest.mark.parametrize(
        "valid",
        [[3, 1], (1, 3), np.array([3, 1], dtype=np.uint8), range(1, 4, 2), [False, True, False, True, False],
         np.array([0, 1, 0, 1, 0], dtype=bool), torch.tensor([1, 3])],
    )  # fmt: skip
    def test_accepted(self, valid: Split) -> None:
        train, chosen = split_indices(5, valid)
        assert (train.tolist(), chosen.tolist()) == ([0, 2, 4], [1, 3])
        assert is_partition(5, train, chosen)

    @pytest.mark.parametrize(
        ("valid", "word"),
        [
            ([1, 5], "outside 0 to 4, the first is 5"),
            ([1, -1], "outside 0 to 4, the first is -1"),
            ([1, 2, 1], "1 items more than once, the first is 1"),
            ([], "no item"),
            ([False] * 5, "no item"),
            ([True] * 4, "length 4, but there are 5"),
            (range(5), "all 5 items"),
            ([0.5], "whole positions"),
            ("12", "whole positions"),
            ("2W", "goes with time="),
            (True, "whole positions"),
            ([[1, 2]], "whole positions"),
        ],
    )
    def test_refused(self, valid: Split, word: str) -> None:
        with pytest.raises(ArgumentError, match=word):
            split_indices(5, valid)


class TestByLabel:
    """A mask or labels out of pandas say which rows they mean; positions are what they are."""

    INDEX = pd.Index(["d", "a", "c", "b"])

    def test_a_mask_of_the_same_table_is_read_by_its_index(self) -> None:
        mask = pd.Series([True, False, False, True], index=list("abcd"))  # of the table sorted by its index
        assert split_indices(4, mask, index=self.INDEX)[1].tolist() == [0, 1]
        assert split_indices(4, mask.astype("boolean"), index=self.INDEX)[1].tolist() == [0, 1]
        assert split_indices(4, mask.to_numpy())[1].tolist() == [0, 3]
        assert split_indices(4, mask.reset_index(drop=True))[1].tolist() == [0, 3]

    def test_an_index_that_repeats_labels_is_enough_where_it_is_the_same(self) -> None:
        twice = pd.Index(["a", "a", "b"])
        mask = pd.Series([False, True, False], index=twice)
        assert split_indices(3, mask, index=twice)[1].tolist() == [1]
        with pytest.raises(ArgumentError, match="another index"):
            split_indices(3, mask.iloc[::-1], index=twice)

    def test_labels_of_rows(self) -> None:
        assert split_indices(4, pd.Index(["b", "d"]), index=self.INDEX)[1].tolist() == [0, 3]
        assert split_indices(4, pd.Index([3, 0]))[1].tolist() == [0, 3]
        assert split_indices(4, pd.Index([10]), index=pd.Index([40, 30, 20, 10]))[1].tolist() == [3]

    def test_a_series_of_positions_is_taken_as_it_is(self) -> None:
        assert split_indices(4, pd.Series([3, 1], index=["x", "y"]), index=self.INDEX)[1].tolist() == [1, 3]

    @pytest.mark.parametrize(
        ("valid", "word"),
        [
            (pd.Series([True, False, False, True], index=list("abcx")), "another index"),
            (pd.Series([True, False, False, True]), "another index"),
            (pd.Series([True, False], index=list("ab")), "another index"),
            (pd.Series([True, None, False, True], index=list("dacb"), dtype="boolean"), "1 missing entries"),
            (pd.Index(["b", "x"]), "1 rows that are not there, such as 'x'"),
        ],
    )
    def test_refused(self, valid: Any, word: str) -> None:
        with pytest.raises(ArgumentError, match=word):
            split_indices(4, valid, index=self.INDEX)
        with pytest.raises(ArgumentError, match="repeats some"):
            split_indices(4, pd.Index([3]), index=pd.Index([1, 1, 2, 3]))


DAYS = pd.Series(pd.date_range("2024-01-01", periods=100), name="day")


class TestTime:
    """The reference is plain pandas."""

    @pytest.mark.parametrize("length", ["2W", "14D", "336h", dt.timedelta(days=14), pd.Timedelta("14D")])
    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
    def test_the_last_weeks(self, length: str | dt.timedelta, unit: str) -> None:
        time = DAYS.iloc[np.random.default_rng(0).permutation(100)].astype(f"datetime64[{unit}]")
        train, valid = split_indices(100, length, time=time)
        last = time > pd.Timestamp("2024-04-09") - pd.Timedelta(days=14)  # 9 April is the last day
        np.testing.assert_array_equal(valid, np.flatnonzero(last))
        np.testing.assert_array_equal(train, np.flatnonzero(~last))
        assert len(valid) == 14

    @pytest.mark.parametrize(
        "time",
        [
            DAYS.dt.strftime("%Y-%m-%d"),
            DAYS.dt.strftime("%Y%m%d"),
            DAYS.dt.strftime("%B %d, %Y"),
            DAYS.dt.strftime("%d/%m/%Y"),
            DAYS.dt.strftime("%m-%d-%Y"),
            DAYS.dt.strftime("%d.%m.%y").tolist(),
            DAYS.dt.strftime("%Y-%m-%d").astype("category"),
            DAYS.dt.to_period("D"),
            DAYS.dt.tz_localize("Europe/Berlin"),
            pd.Series(np.arange(100.0)),
            np.arange(100),
            [str(i) for i in range(100)],
            DAYS.dt.date,
            DAYS.to_numpy(),
            pd.DatetimeIndex(DAYS),
            list(DAYS),
        ],
        ids=lambda t: f"{type(t).__name__} {str(t[0])[:12]}",
    )
    def test_the_last_share_of_every_kind_of_time(self, time: Any) -> None:
        train, valid = split_indices(100, 0.3, time=time)
        np.testing.assert_array_equal(valid, np.arange(70, 100))
        np.testing.assert_array_equal(train, np.arange(70))

    @given(st.lists(st.integers(0, 20), min_size=2, max_size=40), st.floats(0.05, 0.95))
    def test_one_time_stays_on_one_side_and_validation_is_later(self, times: list[int], share: float) -> None:
        try:
            train, valid = split_indices(len(times), share, time=times)
        except ArgumentError:
            # Only where the items of the first time alone are more than the rest of the share.
            assert times.count(min(times)) > len(times) - max(round(share * len(times)), 1)
            return
        assert is_partition(len(times), train, valid)
        assert max(times[i] for i in train) < min(times[i] for i in valid)
        assert len(valid) >= max(round(share * len(times)), 1)

    def test_rows_count_by_position_whatever_the_index(self) -> None:
        time = DAYS.set_axis(pd.Index([5] * 100))
        assert split_indices(100, "1D", time=time)[1].tolist() == [99]
        groups = pd.Series(["a"] * 60 + [None] * 40, index=[0] * 100)
        assert split_indices(100, 0.4, groups=groups)[1].tolist() == list(range(60, 100))

    @pytest.mark.parametrize(
        ("texts", "latest", "told"),
        [
            (["03/02/2024", "04/01/2024"], 1, "'03/02/2024' is taken as month, day, year"),
            (["3-2-24 10:00", "4-1-24 10:00"], 1, "month, day, year"),
            (["03.02.2024", "04.01.2024"], 0, "'03.02.2024' is taken as day, month, year"),
        ],
    )
    def test_a_date_that_could_be_read_in_two_ways_is_told(self, texts: list[str], latest: int, told: str) -> None:
        with pytest.warns(EasyLearnWarning, match=told):
            assert split_indices(2, 0.5, time=pd.Series(texts, name="day"))[1].tolist() == [latest]

    def test_a_date_that_can_be_read_in_one_way_only_is_read_so(self) -> None:
        assert split_indices(3, 0.3, time=["03/02/2024", "04/01/2024", "13/01/2024"])[1].tolist() == [0]
        assert split_indices(3, 0.3, time=["03/02/2024", "04/01/2024", "01/13/2024"])[1].tolist() == [1]
        assert split_indices(2, 0.5, time=["02/02/2024", "03/03/2024"])[1].tolist() == [1]

    @pytest.mark.parametrize(
        ("valid", "match"),
        [
            ("soon", "no length of time"),
            ("-2D", "longer than nothing"),
            ("0D", "longer than nothing"),
            ("NaT", "longer than nothing"),
            ("1000D", "so none would train"),
            (1.5, "fraction such as 0.1 or a length"),
            (0.0, "fraction such as 0.1 or a length"),
            ([1, 2], "fraction such as 0.1 or a length"),
        ],
    )
    def test_lengths_that_cannot_be(self, valid: Any, match: str) -> None:
        with pytest.raises(ArgumentError, match=match):
            split_indices(100, valid, time=DAYS)

    def test_arguments_that_contradict_each_other(self) -> None:
        with pytest.raises(ArgumentError, match="groups or time, not both"):
            split_indices(100, 0.1, time=DAYS, groups=DAYS)
        with pytest.raises(ArgumentError, match="stratify or time, not both"):
            split_indices(100, 0.1, time=DAYS, stratify=[0, 1] * 50)
        with pytest.raises(ArgumentError, match="so valid must be a fraction"):
            split_indices(100, "2W", time=np.arange(100))
        with pytest.raises(ArgumentError, match="got 100 entries for 99 items"):
            split_indices(99, "2W", time=DAYS)

    @pytest.mark.parametrize(
        ("time", "match"),
        [
            (DAYS.where(~DAYS.index.isin([4, 9])), "2 rows of the time column 'day' are empty, the first is row 4"),
            (pd.Series(["2024-01-01", "", None], name="t"), "2 rows of the time column 't' are empty.* row 1"),
            (pd.Series(["x", "y", "z"], name="word"), "'word', row 0: 'x' cannot be read as a time"),
            (["2024-01-01", "soon"], "'time', row 1: 'soon' cannot"),
            ([dt.date(2024, 1, 1), "soon"], "row 1: 'soon' cannot"),
            (["13/01/2024", "01/13/2024"], "begin with the day, such as '13/01/2024', .* such as '01/13/2024'"),
        ],
    )
    def test_times_that_are_missing_or_none(self, time: Any, match: str) -> None:
        with pytest.raises(DataError, match=match):
            split_indices(len(time), 0.4, time=time)
