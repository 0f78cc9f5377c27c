from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from easylearn.data.split import Split, get_cv_idxs, kfold_indices, split_indices
from easylearn.errors import ArgumentError

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
        return [*made, *(kfold_indices(len(labels), 3, fold, seed, of)[1].tolist() for fold in range(3))]  # type: ignore[arg-type]

    assert splits(array) == splits(words)


def test_global_generators_are_untouched() -> None:
    before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()
    split_indices(20, 0.3, seed=1)
    split_indices(20, 0.3, stratify=[0, 1] * 10)
    split_indices(20, 0.3, groups=list(range(10)) * 2)
    kfold_indices(20, 4, 0)
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
        _, valid = split_indices(4, 0.5, stratify=["a", 1, "a", 1])
        assert sorted(valid % 2) == [0, 1]

    def test_refused(self) -> None:
        with pytest.raises(ArgumentError, match="one item only"):
            split_indices(3, 0.3, stratify=[1, 2, 3])
        with pytest.raises(ArgumentError, match="got 2 entries for 3 items"):
            split_indices(3, 0.3, stratify=[1, 2])
        with pytest.raises(ArgumentError, match="not both"):
            split_indices(2, 0.3, stratify=[1, 2], groups=[1, 2])
        with pytest.raises(ArgumentError, match="go with a fraction"):
            split_indices(2, [0], stratify=[1, 2])


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
            (True, "whole positions"),
            (None, "whole positions"),
            ([[1, 2]], "whole positions"),
        ],
    )
    def test_refused(self, valid: Split, word: str) -> None:
        with pytest.raises(ArgumentError, match=word):
            split_indices(5, valid)


class TestKfold:
    @given(data=st.data(), n=st.integers(2, 100), seed=seeds)
    def test_folds(self, data: st.DataObject, n: int, seed: int) -> None:
        k = data.draw(st.integers(2, min(n, 12)))
        folds = [kfold_indices(n, k, f, seed) for f in range(k)]
        assert all(is_partition(n, *fold) for fold in folds)
        assert sorted(i for _, valid in folds for i in valid.tolist()) == list(range(n))
        sizes = [len(valid) for _, valid in folds]
        assert max(sizes) - min(sizes) <= 1

    def test_stratified_as_scikit_learn(self) -> None:
        labels = np.array([0] * 23 + [1] * 11 + [2] * 6)
        theirs = StratifiedKFold(4, shuffle=True, random_state=0).split(labels, labels)
        count = [np.bincount(labels[valid], minlength=3) for _, valid in theirs]
        ours = [np.bincount(labels[kfold_indices(40, 4, f, stratify=labels)[1]], minlength=3) for f in range(4)]
        np.testing.assert_array_equal(np.sort(ours, 0), np.sort(count, 0))

    @pytest.mark.parametrize(
        ("args", "word"),
        [
            ((10, 1, 0), "k must"),
            ((3, 4, 0), "k=4"),
            ((10, 5, 5), "from 0 to 4"),
            ((10, 5, -1), "fold"),
            ((10, 2.5, 0), "k"),
        ],
    )
    def test_refused(self, args: tuple[int, int, int], word: str) -> None:
        with pytest.raises(ArgumentError, match=word):
            kfold_indices(*args)
