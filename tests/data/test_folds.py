from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold, TimeSeriesSplit

from easylearn.data.folds import folds
from easylearn.errors import ArgumentError, EasyLearnWarning

DAYS = pd.Series(pd.date_range("2024-01-01", periods=100), name="day")
seeds = st.integers(0, 1000)


def is_partition(n: int, train: np.ndarray, valid: np.ndarray) -> bool:
    ascending = all((np.diff(side) > 0).all() and side.dtype == np.int64 and len(side) for side in (train, valid))
    return ascending and sorted([*train.tolist(), *valid.tolist()]) == list(range(n))


class TestFolds:
    @given(data=st.data(), n=st.integers(2, 100), seed=seeds)
    def test_every_item_validates_once(self, data: st.DataObject, n: int, seed: int) -> None:
        k = data.draw(st.integers(2, min(n, 12)))
        made = folds(n, k, seed=seed)
        assert len(made) == k and all(is_partition(n, *fold) for fold in made)
        assert sorted(i for _, valid in made for i in valid.tolist()) == list(range(n))
        sizes = [len(valid) for _, valid in made]
        assert max(sizes) - min(sizes) <= 1

    def test_stratified_as_scikit_learn(self) -> None:
        labels = np.array([0] * 23 + [1] * 11 + [2] * 6)
        theirs = StratifiedKFold(4, shuffle=True, random_state=0).split(labels, labels)
        count = [np.bincount(labels[valid], minlength=3) for _, valid in theirs]
        ours = [np.bincount(labels[valid], minlength=3) for _, valid in folds(40, 4, stratify=labels)]
        np.testing.assert_array_equal(np.sort(ours, 0), np.sort(count, 0))

    @given(groups=st.lists(st.integers(0, 12), min_size=2, max_size=100), k=st.integers(2, 5), seed=seeds)
    def test_grouped_as_scikit_learn(self, groups: list[int], k: int, seed: int) -> None:
        n = len(groups)
        if len(set(groups)) < k:
            with pytest.raises(ArgumentError, match="at least as many"):
                folds(n, k, groups=groups)
            return
        made = folds(n, k, seed=seed, groups=groups)
        assert all(is_partition(n, *fold) for fold in made)
        assert all(not {groups[i] for i in train} & {groups[i] for i in valid} for train, valid in made)
        assert sorted(i for _, valid in made for i in valid.tolist()) == list(range(n))
        theirs = GroupKFold(k).split(groups, groups=groups)
        assert sorted(len(valid) for _, valid in made) == sorted(len(valid) for _, valid in theirs)

    @given(data=st.data(), n=st.integers(3, 60), gap=st.integers(0, 3))
    def test_in_time_as_scikit_learn(self, data: st.DataObject, n: int, gap: int) -> None:
        k = data.draw(st.integers(2, min(n - 1, 6)))
        time = np.asarray(data.draw(st.permutations(range(n))))
        if n - k * (n // (k + 1)) - gap <= 0:
            return
        theirs = TimeSeriesSplit(k, gap=gap).split(time)
        made = folds(n, k, times=time, gap=gap or None)
        for ours, expected in zip(made, theirs, strict=True):
            for side, rows in zip(ours, expected, strict=True):
                assert side.dtype == np.int64 and (np.diff(side) > 0).all()
                np.testing.assert_array_equal(np.sort(time[side]), rows)

    @given(st.lists(st.integers(0, 9), min_size=6, max_size=60), st.integers(2, 4))
    def test_one_time_is_never_on_both_sides(self, times: list[int], k: int) -> None:
        try:
            made = folds(len(times), k, times=times)
        except ArgumentError:
            assert len(set(times)) <= k or max(map(times.count, times)) > len(times) // (k + 1)
            return
        held = [i for _, valid in made for i in valid.tolist()]
        assert len(held) == len(set(held)) and all(len(train) and len(valid) for train, valid in made)
        for train, valid in made:
            assert max(times[i] for i in train) < min(times[i] for i in valid)

    def test_a_gap_of_days(self) -> None:
        made = folds(100, 3, times=DAYS, gap="7D")
        assert [len(valid) for _, valid in made] == [25, 25, 25]
        assert [(train[-1], valid[0]) for train, valid in made] == [(17, 25), (42, 50), (67, 75)]

    def test_a_gap_in_days_as_a_number(self) -> None:
        assert folds(100, 3, times=DAYS, gap=7).fingerprint == folds(100, 3, times=DAYS, gap="7D").fingerprint

    @pytest.mark.filterwarnings("ignore:classes of stratify")
    @given(data=st.data(), k=st.integers(2, 5), seed=seeds)
    def test_stratified_groups_stay_whole_and_even(self, data: st.DataObject, k: int, seed: int) -> None:
        groups = data.draw(st.lists(st.integers(0, 30), min_size=20, max_size=150))
        labels = [(g * 7 + seed % 5) % 3 for g in groups]
        if len(set(groups)) < k:
            return
        made = folds(len(groups), k, seed=seed, groups=groups, stratify=labels)
        assert all(is_partition(len(groups), *fold) for fold in made)
        assert all(not {groups[i] for i in train} & {groups[i] for i in valid} for train, valid in made)

    def test_stratified_groups_no_worse_than_scikit_learn(self) -> None:
        worse = 0.0
        for seed in range(20):
            g = np.random.default_rng(seed)
            groups = g.integers(0, 60, 400)
            labels = (g.random(61) < 0.3)[groups] ^ (g.random(400) < 0.1)
            theirs = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(labels, labels, groups)
            ours = folds(400, 5, seed=seed, stratify=labels, groups=groups)
            one, two = (np.std([labels[valid].mean() for _, valid in f]) for f in (ours, theirs))
            worse += float(one - two) / 20
        assert worse < 0.005

    def test_repeats_are_other_foldings(self) -> None:
        made = folds(30, 3, seed=2, repeats=2)
        assert len(made) == 6 and made.repeats == 2 and not np.array_equal(made[0][1], made[3][1])
        for half in (made[:3], made[3:]):
            assert sorted(i for _, valid in half for i in valid.tolist()) == list(range(30))
        assert np.array_equal(made[0][1], folds(30, 3, seed=2)[0][1]) and len(made.held_out) == 30

    def test_a_plan_tells_itself(self) -> None:
        one, two = folds(40, 4, seed=1), folds(40, 4, seed=2)
        assert one.fingerprint == folds(40, 4, seed=1).fingerprint != two.fingerprint
        assert "40 items, grouped, seed 3" in repr(folds(40, 4, seed=3, groups=[i // 4 for i in range(40)]))

    def test_seeds_differ_and_one_seed_is_always_the_same(self) -> None:
        groups = [i // 4 for i in range(40)]
        for how in ({}, {"stratify": [0, 1] * 20}, {"groups": groups}):
            one, two, other = (folds(40, 4, seed=s, **how) for s in (1, 1, 2))  # type: ignore[arg-type]
            assert all(np.array_equal(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True))
            assert any(not np.array_equal(x[1], y[1]) for x, y in zip(one, other, strict=True))

    @pytest.mark.parametrize(
        ("given_", "word"),
        [
            ({"n": 10, "k": 1}, "k must"),
            ({"n": 3, "k": 4}, "k=4"),
            ({"n": DAYS, "k": 4}, r"write len\(df\)"),
            ({"n": 4, "k": 2, "stratify": ["a", None, "a", "b"]}, r"no label for 1 items, such as 1 \(None\)"),
            ({"n": 10, "k": 2.5}, "k"),
            ({"n": 4, "k": 2, "gap": "7D"}, "gap goes with times="),
            ({"n": 4, "k": 2, "groups": [0, 0, 1, 1], "times": [0, 0, 1, 1]}, "not both"),
            ({"n": 4, "k": 3, "groups": [0, 0, 1, 1]}, "as many groups, got 2"),
            ({"n": 4, "k": 2, "groups": [0, 0, 1]}, "got 3 entries for 4"),
            ({"n": 4, "k": 2, "times": [1, 1, 1, 2]}, "2 different times in 4"),
            ({"n": 3, "k": 3, "times": [1, 2, 3]}, "fewer folds"),
            ({"n": 4, "k": 2, "times": [1, 2, 3, 4], "gap": "7D"}, "gap must be a number"),
            ({"n": 4, "k": 2, "times": [1, 2, 3, 4], "gap": -1}, "gap must be a number"),
            ({"n": 4, "k": 2, "times": [1, 2, 3, 4], "gap": [1]}, "gap must be a number"),
            ({"n": 4, "k": 2, "times": [1, 2, 3, 4], "gap": 3}, "leaves nothing to train on"),
            ({"n": 100, "k": 2, "times": DAYS, "gap": -3}, "gap must be a number of days"),
            ({"n": 4, "k": 2, "times": [1, 2, 3, 4], "repeats": 2}, "repeats=2"),
            ({"n": 4, "k": 2, "repeats": 0}, "repeats must"),
            ({"n": 4, "k": 2, "time": [1, 2, 3, 4]}, "'times'"),
            ({"n": 100, "k": 2, "times": DAYS, "gap": "soon"}, "gap='soon' is no length"),
        ],
    )
    def test_refused(self, given_: dict[str, Any], word: str) -> None:
        with pytest.raises(ArgumentError, match=word):
            folds(**given_)

    def test_classes_that_folds_cannot_have_are_named(self) -> None:
        with pytest.warns(EasyLearnWarning, match=r"folds, 3: 'rich' \(1\), 'b' \(2\)\.") as told:
            folds(8, 3, stratify=[*"aaa", "rich", "b", "b", "a", "a"])
        assert told[0].filename == __file__
