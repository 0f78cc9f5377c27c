"""InteractionData: splits, what is told of items, files, and data for a model that is trained already."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from easylearn.errors import ArgumentError, DataError
from easylearn.recommenders.data import InteractionData
from tests.recommenders.people import data, learner, plays

CPU = torch.device("cpu")


def test_training_asks_for_all_and_validation_for_what_is_held_out() -> None:
    found = data()
    for batch in found.loader("train", training=True).batches(CPU):
        assert batch.target is not None
        assert torch.equal(batch.inputs[0] > 0, batch.target > 0)
    for split in found.splits:
        for batch in found.loader(split).batches(CPU):
            assert batch.target is not None
            assert torch.equal(batch.inputs[0] > 0, batch.target < 0) and bool((batch.target > 0).any(1).all())


def test_the_train_split_is_asked_for_a_fifth_of_it() -> None:
    (batch,) = data(batch_size=64).loader("train").batches(CPU)
    assert batch.target is not None
    assert (batch.target > 0).sum(1).unique().tolist() == [1] and (batch.target < 0).sum(1).unique().tolist() == [5]


def test_what_is_said_of_a_person() -> None:
    found = data(weight="plays")
    person = found.ids("valid")[7]
    own = plays().query("who == @person").set_index("what").plays
    assert found.taken(person) == own.to_dict()
    said = found.describe_item("valid", 7)
    assert set(f"{said['history']}, {said['wanted']}".split(", ")) == set(own.index)
    assert own[said["history"].split(", ")].is_monotonic_decreasing
    with pytest.raises(ArgumentError, match=r"no person 'p99'.*history="):
        found.taken("p99")
    assert "60 persons" in repr(found) and "24 items" in repr(found)


def test_popularity_and_words() -> None:
    found = data()
    words = found.plain_inputs("train").words
    assert words is not None and words[2] == 24 and words[1][-1] == len(words[0]) == 60 * 6
    assert np.array_equal(found.popularity(), np.bincount(words[0], minlength=24))
    known = found.plain_inputs("valid").words
    assert known is not None and len(known[0]) == 60 * 6


def test_a_file_is_read_as_the_table(tmp_path: Path) -> None:
    plays().to_csv(tmp_path / "plays.csv", index=False)
    whole = InteractionData.from_df(plays(), "who", "what", weight="plays", valid=0.25, test=plays(seed=1))
    plays(seed=1).to_csv(tmp_path / "later.csv", index=False)
    read = InteractionData.from_csv(
        tmp_path / "plays.csv", "who", "what", weight="plays", valid=0.25, test=tmp_path / "later.csv"
    )
    assert read.splits == whole.splits == ("train", "valid", "test")
    assert [read.fingerprint(s) for s in read.splits] == [whole.fingerprint(s) for s in whole.splits]


def test_other_persons_with_the_items_of_a_model() -> None:
    learn = learner()
    fewer = plays(seed=5).query("what != 'a0'")
    with pytest.raises(DataError, match="a0"):
        learn.set_data(InteractionData.from_df(fewer, "who", "what"))
    learn.set_data(InteractionData.from_df(fewer, "who", "what", like=learn.data))
    assert learn.data.task.names == learn.task.names and learn.validate()["recall_10"] > 0
