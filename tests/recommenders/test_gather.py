"""Who validates: properties of each way to split, what is counted before any filter, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easylearn.errors import ArgumentError, DataError
from easylearn.recommenders.data import InteractionData
from tests.recommenders.people import data, plays

Pairs = set[tuple[str, str]]


def pairs(found: InteractionData, split: Any, held: bool | None = None) -> Pairs:
    """(person, item) of a split: what is held out, what is known, or all."""
    people = found._split(split)
    taken = people.histories
    who = np.repeat(np.arange(len(taken)), np.diff(taken.starts))
    chosen = np.ones(len(who), bool) if held is None else taken.held == held
    return {(people.people[p], found.task.names[i]) for p, i in zip(who[chosen], taken.items[chosen], strict=True)}


def all_pairs(df: pd.DataFrame) -> Pairs:
    return set(zip(df.who.astype(str), df.what.astype(str), strict=True))


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 9)), min_size=4, max_size=60),
    valid=st.sampled_from([0.25, 0.5, "one", "last"]),
    seed=st.integers(0, 9),
)
def test_each_pair_is_on_one_side_and_each_person_keeps_something(rows: list[Any], valid: Any, seed: int) -> None:
    df = pd.DataFrame(rows, columns=["who", "what", "day"])
    time = "day" if valid == "last" else None
    kept = pd.DataFrame([(f"q{i}", i, 0) for i in range(7)], columns=df.columns)  # each item trains with somebody
    df = pd.concat([df, kept], ignore_index=True)
    found = InteractionData.from_df(df, "who", "what", valid=valid, time=time, seed=seed)
    train = pairs(found, "train")
    held = pairs(found, "valid", True) if "valid" in found.splits else set()
    assert train & held == set()
    assert train | held == all_pairs(df)
    assert {p for p, _ in train} == set(df.who.astype(str))
    if "valid" in found.splits:
        assert pairs(found, "valid", False) == {(p, i) for p, i in train if p in {q for q, _ in held}}


def test_a_fraction_is_one_of_each_person() -> None:
    found = data(valid=0.25)
    held = pd.Series([p for p, _ in pairs(found, "valid", True)]).value_counts()
    assert len(held) == 60 and set(held) == {2}
    assert pairs(data(valid=0.25, seed=1), "valid") == pairs(found, "valid") != set()
    assert pairs(data(valid=0.25, seed=1), "valid", True) != pairs(found, "valid", True)


def test_one_and_last_hold_out_one() -> None:
    df = plays()
    one, last = data(valid="one"), data(valid="last", time="day")
    for found in (one, last):
        assert sorted(p for p, _ in pairs(found, "valid", True)) == sorted(df.who.unique())
    latest = df.groupby("who").day.max()
    days = df.set_index(["who", "what"]).day
    assert all(days[pair] == latest[pair[0]] for pair in pairs(last, "valid", True))


def test_time_with_a_fraction_holds_out_the_last_rows_of_all() -> None:
    df = plays()
    found = data(valid=0.2, time="day")
    days = df.set_index(["who", "what"]).day
    assert min(days[p] for p in pairs(found, "valid", True)) > max(days[p] for p in pairs(found, "train"))
    dated = df.assign(day=pd.Timestamp("2024-01-01") + pd.to_timedelta(df.day, unit="D"))
    by_length = InteractionData.from_df(dated, "who", "what", time="day", valid="3D")
    assert pairs(by_length, "valid", True) <= {(p, i) for p, i in all_pairs(df) if days[p, i] > df.day.max() - 3}


def test_rows_masks_and_tables_say_who_validates() -> None:
    df = plays()
    mask = (np.arange(len(df)) % 5) == 0
    by_mask, by_rows = data(valid=mask), data(valid=np.flatnonzero(mask))
    table = InteractionData.from_df(df[~mask], "who", "what", valid=df[mask])
    assert pairs(by_mask, "valid", True) == all_pairs(df[mask]) == pairs(by_rows, "valid", True)
    assert pairs(table, "valid", True) == all_pairs(df[mask]) and pairs(table, "train") == all_pairs(df[~mask])
    assert data(valid=None).splits == ("train",)


def test_what_was_taken_before_is_not_held_out_and_test_comes_after_valid() -> None:
    df = pd.DataFrame({"who": list("aaabbb"), "what": list("xyzxyz")})
    found = InteractionData.from_df(df[:5], "who", "what", valid=df[5:], test=df.assign(who="a")[:3])
    assert pairs(found, "valid", True) == {("b", "z")} and found.splits == ("train", "valid")  # a has all of them
    later = InteractionData.from_df(df[:4], "who", "what", valid=df[4:5], test=df[5:])
    assert pairs(later, "test", False) == {("b", "x"), ("b", "y")} and pairs(later, "test", True) == {("b", "z")}


def test_where_nothing_of_what_is_held_out_can_be_recommended() -> None:
    df = pd.DataFrame({"who": list("aab"), "what": list("xyx")})
    with pytest.raises(DataError, match=r"1 pairs.*nothing of it can be recommended"):
        InteractionData.from_df(df, "who", "what", valid=[1])


def test_weights_add_up_and_nothing_taken_is_nothing() -> None:
    df = pd.DataFrame({"who": list("aaabb"), "what": list("xxyxz"), "n": [1, 2, 0, 5, 7]})
    found = InteractionData.from_df(df, "who", "what", weight="n", valid=None)
    assert found.taken("a") == {"x": 3.0} and found.taken("b") == {"x": 5.0, "z": 7.0}
    held = InteractionData.from_df(df, "who", "what", weight="n", valid=[1])  # a took x before, too
    assert held.taken("a") == {"x": 1.0} and held.splits == ("train",)


def test_rare_items_are_left_out_after_the_split_and_told() -> None:
    df = pd.concat([plays(), pd.DataFrame({"who": ["p0", "p1"], "what": ["rare", "rarer"], "plays": 1, "day": 99})])
    whole, fewer = (data_of(df, min_item=n) for n in (1, 2))
    common = {(p, i) for p, i in pairs(whole, "valid", True) if not i.startswith("rare")}
    assert pairs(fewer, "valid", True) == common  # the same pairs are held out, whatever is left out
    mask = (df.what == "rare").to_numpy()
    told = data_of(df, valid=mask | (df.day == 0).to_numpy(), min_item=2).notes()
    assert len(told) == 1 and "1 of" in told[0] and "fewer than 2 persons" in told[0]


def data_of(df: pd.DataFrame, **how: Any) -> InteractionData:
    return InteractionData.from_df(df.reset_index(drop=True), "who", "what", **{"valid": 0.25, **how})


def test_the_order_of_rows_does_not_matter() -> None:
    df = plays()
    a, b = (data_of(d, weight="plays") for d in (df, df.sample(frac=1, random_state=1)))
    assert a.task.names == b.task.names and [a.fingerprint(s) for s in a.splits] == [b.fingerprint(s) for s in b.splits]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user": "whom"}, "no column 'whom'.*'who'"),
        ({"item": "who"}, "different columns"),
        ({"weight": "word"}, "weight column 'word'"),
        ({"weight": "bad"}, "row 3 of column 'bad' has -1"),
        ({"user": "gap"}, "1 rows have no user.*row 2 of column 'gap'"),
        ({"valid": "last"}, "time="),
        ({"valid": 1.5}, "fraction"),
        ({"valid": "often"}, "often"),
        ({"min_item": 0}, "min_item"),
        ({"min_item": 10**6}, "smaller min_item"),
        ({"seed": -1}, "seed"),
        ({"batch_size": 0}, "batch_size"),
        ({"like": 3}, "like="),
        ({"usr": "who"}, "no argument 'usr'"),
        ({"val_idxs": [1]}, "called 'valid'"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], message: str) -> None:
    df = plays().assign(bad=1.0, gap=1, word="much")
    df.loc[3, "bad"] = -1
    df["gap"] = df.gap.astype(object)
    df.loc[2, "gap"] = None
    with pytest.raises((ArgumentError, DataError), match=message):
        InteractionData.from_df(df, **{"user": "who", "item": "what", **change})


def test_a_table_is_a_table() -> None:
    with pytest.raises(ArgumentError, match="DataFrame, got list"):
        InteractionData.from_df([1], "who", "what")  # type: ignore[arg-type]
    mixed = pd.DataFrame({"who": ["a", "a"], "what": pd.Series([1, "1"], dtype=object)})
    with pytest.raises(DataError, match="both as text and as a number"):
        InteractionData.from_df(mixed, "who", "what", valid=None)


def test_nothing_to_learn_from_is_named() -> None:
    with pytest.raises(DataError, match="df has no rows"):
        data_of(plays().iloc[:0])
    with pytest.raises(DataError, match=r"of the data in like= .* 'a0'"):
        data_of(plays().assign(what="other"), like=data_of(plays()))
