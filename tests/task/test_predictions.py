"""Predictions: one item, several, tables and dictionaries of them, unpacking, and what a loop over them hears."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from easylearn.errors import ArgumentError, DataError, EasyLearnError
from easylearn.task import (
    Prediction,
    Predictions,
    Task,
    average_predictions,
    gathered,
    multi_label,
    next_token,
    regression,
    single_label,
)

MakeLearner = Callable[..., Any]
PROBS = torch.tensor([[0.25, 0.75, 0.0], [0.5, 0.1, 0.4], [0.1, 0.2, 0.7]])
CLASSES = single_label(["cat", "dog", "owl"])
LABELS = multi_label(["haze", "road", "sea"], threshold=0.4)
NUMBERS = regression(["price", "size", "age"])


def said(task: Task = CLASSES, targets: Tensor | None = None, **changes: Any) -> Predictions:
    return Predictions.of(task, **{"probs": PROBS, "ids": ["a", "b", "c"], "targets": targets, **changes})


class TestOneItem:
    def test_of_each_kind(self) -> None:
        classes, labels, numbers = (Prediction.of(t, PROBS) for t in (CLASSES, LABELS, NUMBERS))
        assert [(p.label, p.index) for p in classes] == [("dog", 1), ("cat", 0), ("owl", 2)]
        assert [(p.label, p.index) for p in labels][1] == (("haze", "sea"), (0, 2))
        assert numbers[0].label == (0.25, 0.75, 0.0) and numbers[0].index is None
        assert torch.equal(torch.stack([p.probs for p in classes]), PROBS)

    def test_as_a_dictionary(self) -> None:
        assert Prediction.of(CLASSES, PROBS)[0].to_dict() == {"cat": 0.25, "dog": 0.75, "owl": 0.0}
        assert Prediction.of(regression(["price"]), torch.tensor([[1.5]]))[0].to_dict() == {"price": 1.5}

    def test_its_repr_is_short(self) -> None:
        many = single_label([f"a class of a long name {i}" for i in range(1000)])
        assert len(repr(Prediction.of(many, torch.rand(1, 1000))[0])) < 200
        assert repr(Prediction.of(NUMBERS, PROBS)[0]) == "Prediction((0.25, 0.75, 0.0))"


class TestSeveral:
    def test_they_unpack_as_a_pair(self) -> None:
        found = said(targets=torch.tensor([1, 0, 2]))
        probs, targets = found
        assert probs is found.probs and targets is found.targets
        assert said(targets=None).targets is None and found.classes == ("cat", "dog", "owl")
        assert found.views.shape == (1, 3, 3) and found.labels == ("dog", "cat", "owl") and len(found) == 3

    @pytest.mark.parametrize("task", [CLASSES, LABELS, NUMBERS])
    def test_an_item_by_its_position(self, task: Task) -> None:
        found = said(task)
        for i in (0, 1, -1, -3, np.int64(2)):
            one, want = found[i], Prediction.of(task, PROBS)[i]
            assert isinstance(one, Prediction) and (one.label, one.index) == (want.label, want.index)
            assert torch.equal(one.probs, want.probs) and one.to_dict() == want.to_dict()
        assert [found[i].label for i in range(len(found))] == list(found.labels)

    @pytest.mark.parametrize("i", [3, -4, 100])
    def test_a_position_that_is_none(self, i: int) -> None:
        with pytest.raises(IndexError, match=f"3 predictions, and none at position {i}"):
            said()[i]

    @pytest.mark.parametrize("i", ["a", 1.0, None, [0, 1]])
    def test_what_is_no_position(self, i: Any) -> None:
        with pytest.raises(ArgumentError, match=r"a position from 0 or a slice.*to_dict\(\)\[id\]"):
            said()[i]

    @pytest.mark.parametrize("part", [slice(1, None), slice(None, None, -1), slice(-2, None, 2), slice(5, 9)])
    def test_a_slice(self, part: slice) -> None:
        found = said(targets=torch.tensor([1, 0, 2]), views=torch.stack([PROBS, PROBS + 1]))
        some, rows = found[part], list(range(3))[part]
        assert isinstance(some, Predictions) and some.ids == tuple("abc"[i] for i in rows)
        assert torch.equal(some.probs, PROBS[rows]) and some.views.shape == (2, len(rows), 3)
        assert some.labels == tuple(found.labels[i] for i in rows) and some.task is found.task
        assert some.targets is not None and some.targets.tolist() == [[1, 0, 2][i] for i in rows]
        assert said()[part].targets is None

    def test_its_repr_is_one_short_line(self) -> None:
        many = single_label([f"a class of a long name {i}" for i in range(100)])
        found = Predictions.of(many, torch.rand(800, 100), [f"{i}.jpg" for i in range(800)], torch.zeros(800).long())
        assert len(repr(found)) < 200 and "800 items" in repr(found) and "\n" not in repr(found)
        assert "with targets" in repr(found) and "with targets" not in repr(said())
        assert "2 views" in repr(said(views=torch.stack([PROBS, PROBS])))

    def test_they_go_to_other_processes(self) -> None:
        again = pickle.loads(pickle.dumps(said()))
        assert again.ids == ("a", "b", "c") and torch.equal(again.probs, PROBS)


class TestTables:
    def test_classes(self) -> None:
        frame = said().to_frame()
        assert list(frame.columns) == ["id", "label", "p_cat", "p_dog", "p_owl"]
        assert frame["label"].tolist() == ["dog", "cat", "owl"] and frame["p_owl"].tolist() == PROBS[:, 2].tolist()
        assert said(LABELS).to_frame()["label"].tolist() == [("road",), ("haze", "sea"), ("sea",)]

    def test_numbers(self) -> None:
        frame = said(NUMBERS).to_frame()
        assert list(frame.columns) == ["id", "price", "size", "age"] and len(frame) == 3
        one = Predictions.of(regression(["price"]), torch.tensor([1.0, 2.0]), ["a", "b"])  # a model that gives (n,)
        assert one.to_frame()["price"].tolist() == [1.0, 2.0] and one[1].to_dict() == {"price": 2.0}

    def test_dictionaries(self) -> None:
        found = said()
        assert found.to_dict() == {i: found[k].to_dict() for k, i in enumerate("abc")}
        assert said(NUMBERS).to_dict()["b"]["price"] == 0.5
        with pytest.raises(DataError, match=r"several items are named 'b'.*to_frame"):
            said(ids=["a", "b", "b"]).to_dict()

    def test_the_most_probable(self) -> None:
        top = said().top(2)
        assert list(top.columns) == ["id", "rank", "label", "probability"] and len(top) == 6
        assert top.iloc[2].tolist() == ["b", 1, "cat", 0.5] and top.iloc[3, 2] == "owl"
        assert len(said().top(50)) == 9 and said(LABELS).top(1)["label"].tolist() == ["road", "haze", "sea"]

    def test_no_most_probable(self) -> None:
        with pytest.raises(ArgumentError, match="predicted numbers"):
            said(NUMBERS).top(1)
        for k in (0, True, 1.5):
            with pytest.raises(ArgumentError, match="at least 1"):
                said().top(k)  # type: ignore[arg-type]


def _for(given: Any) -> None:
    for _ in given:
        pass


def _nested(given: Any) -> None:
    for _, _ in given:
        pass


def _yielded(given: Any) -> Iterator[Any]:
    yield from given


LOOPS: dict[str, Callable[[Any], Any]] = {
    "for": _for,
    "for a, b": _nested,
    "list comprehension": lambda s: [p for p in s],  # noqa: C416
    "set comprehension": lambda s: {id(p) for p in s},
    "generator expression": lambda s: list(p for p in s),  # noqa: C400
    "yield from": lambda s: list(_yielded(s)),
    "compiled": lambda s: exec("for p in s: pass", {"s": s}),
}
PAIRS: dict[str, Callable[[Any], Any]] = {
    "list": list,
    "tuple": tuple,
    "called list": lambda s: list(s),
    "brackets": lambda s: [*s],
    "arguments": lambda s: (lambda *pair: pair)(*s),
    "a, *b": lambda s: exec("a, *b = s\nassert a is s.probs and b == [s.targets]", {"s": s}) or s,
    "for a, b in [said]": lambda s: next((a, b) for a, b in [s]),
    "a, b": lambda s: exec("a, b = s\nassert b is s.targets", {"s": s}) or s,
}


class TestLoops:
    @pytest.mark.parametrize("name", LOOPS)
    @pytest.mark.parametrize("traced", [False, True])
    def test_a_loop_hears_what_to_write(self, name: str, traced: bool) -> None:
        before = sys.gettrace()
        if traced:  # debuggers and coverage change the instructions
            sys.settrace(lambda *_: None)
        try:
            with pytest.raises(EasyLearnError, match=r"range\(len\(said\)\): said\[i\]"):
                LOOPS[name](said(targets=torch.tensor([1, 0, 2])))
        finally:
            sys.settrace(before)

    @pytest.mark.parametrize("name", PAIRS)
    @pytest.mark.parametrize("traced", [False, True])
    def test_what_asks_for_the_pair_gets_it(self, name: str, traced: bool) -> None:
        found = said(targets=torch.tensor([1, 0, 2]))
        before = sys.gettrace()
        if traced:
            sys.settrace(lambda *_: None)
        try:
            probs, targets = PAIRS[name](found)
        finally:
            sys.settrace(before)
        assert probs is found.probs and targets is found.targets

    def test_a_hot_line_is_told_apart_as_well(self) -> None:
        found = said(targets=torch.tensor([1, 0, 2]))
        for _ in range(200):  # CPython puts quicker instructions in the place of those that run often
            probs, _ = found
            assert probs is found.probs
            with pytest.raises(ArgumentError):
                _for(found)


class TestAverages:
    def test_the_mean_of_probabilities(self, make_learner: MakeLearner) -> None:
        a, b = make_learner().predict(), make_learner(model_seed=1).predict()
        found = average_predictions(a, b, b)
        torch.testing.assert_close(found.probs, (a.probs + 2 * b.probs) / 3)
        assert found.ids == a.ids and found.targets is a.targets and found.classes == a.classes
        assert found.labels == tuple(a.classes[i] for i in found.probs.argmax(1))
        assert torch.equal(found.views, torch.cat([a.views, b.views, b.views]))
        assert torch.equal(average_predictions(a).probs, a.probs)

    def test_many_are_averaged_in_files(self, monkeypatch: pytest.MonkeyPatch) -> None:
        g = torch.Generator().manual_seed(0)
        of = [Predictions.of(LABELS, torch.rand(40, 3, generator=g), list(map(str, range(40)))) for _ in range(3)]
        more = Predictions.of(LABELS, of[0].probs, of[0].ids, views=torch.stack([of[1].probs, of[2].probs]))
        few, with_views = average_predictions(*of), average_predictions(of[0], more)
        monkeypatch.setattr(gathered, "MOST", 500)
        monkeypatch.setattr(gathered, "_PIECE", 100)
        sizes: list[int] = []
        real = type(LABELS).averaged
        monkeypatch.setattr(type(LABELS), "averaged", lambda *a: (sizes.append(len(a[1][0])), real(*a))[1])
        for found, wanted in ((average_predictions(*of), few), (average_predictions(of[0], more), with_views)):
            torch.testing.assert_close(found.probs, wanted.probs)
            assert torch.equal(found.views, wanted.views) and found.labels == wanted.labels
        assert max(sizes) < 10 and len(with_views.views) == 3

    def test_numbers_and_several_labels(self) -> None:
        for task in (LABELS, NUMBERS):
            found = average_predictions(said(task), said(task, probs=PROBS + 1))
            torch.testing.assert_close(found.probs, PROBS + 0.5)
            assert found.labels == tuple(task.decode(found.probs)) and len(found.labels) == 3

    def test_refused(self) -> None:
        with pytest.raises(ArgumentError, match="no predictions to average"):
            average_predictions()
        with pytest.raises(DataError, match="predictions 1 and 3 are of different items"):
            average_predictions(said(), said(), said(ids=["a", "c", "b"]))
        with pytest.raises(
            DataError, match=r"predictions 1 and 2 are of different tasks: only in the first: \['owl'\]"
        ):
            average_predictions(said(), said(single_label(["cat", "dog", "cow"])))
        with pytest.raises(ArgumentError, match="got list"):
            average_predictions(said(), Prediction.of(CLASSES, PROBS))  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="for several items, got NoneType"):
            average_predictions(said(), None)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match=r"of one item, learn\.predict\(\[item\]\)"):
            average_predictions(Prediction.of(CLASSES, PROBS)[0])  # type: ignore[arg-type]


def test_words_of_a_vocabulary() -> None:
    assert Predictions.of(next_token(["the", "film"]), torch.eye(2), ["0", "1"]).labels == ("the", "film")
