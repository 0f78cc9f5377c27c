"""What every task shares: names, metrics, a loss of one's own, JSON, the registry. Each kind: tests/contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from easylearn import metrics
from easylearn.errors import ArgumentError, DataError, StateError, WeightsError
from easylearn.metrics import Metric, accuracy
from easylearn.task import SingleLabel, Task, multi_label, next_token, regression, single_label
from easylearn.task.base import as_names


class Bare(Task):
    """The least that a kind of task can say."""

    kind = "bare"
    instead = "bare things have none"

    def default_metrics(self) -> tuple[Metric, ...]:
        return ()

    def own_item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return (logits - target).abs().sum(1)

    def activate(self, logits: Tensor) -> Tensor:
        return logits

    def decode(self, probs: Tensor) -> list[Any]:
        return [max(row) for row in probs.tolist()]

    def check_target(self, target: Tensor) -> Tensor:
        return target


class TestNames:
    def test_what_comes_out(self) -> None:
        assert as_names([3, 7]) == ("3", "7")  # type: ignore[list-item]
        assert (single_label(["a", "b"]).n_out, single_label(["a", "b"]).classes) == (2, ("a", "b"))
        assert (regression(["x"]).n_out, regression(["x"]).classes) == (1, ())

    def test_refused(self) -> None:
        with pytest.raises(DataError, match="at least one class"):
            single_label([])
        with pytest.raises(DataError, match=r"\['a'\] more than once"):
            single_label(["a", "b", "a"])
        with pytest.raises(DataError, match="each target must be named once"):
            regression(["x", "x"])
        with pytest.raises(ArgumentError, match=r"write \['price'\]"):
            regression("price")

    def test_columns(self) -> None:
        made = single_label(["cat", "dog"])
        assert [made.column("dog"), made.column(0)] == [1, 0]
        with pytest.raises(ArgumentError, match="Did you mean 'dog'"):
            made.column("dgo")
        for wrong in (2, -1, True, 0.5):
            with pytest.raises(ArgumentError, match="from 0 to 1"):
                made.column(wrong)  # type: ignore[arg-type]


class TestMetrics:
    def test_others(self) -> None:
        def worst(probs: Tensor, targets: Tensor) -> float:
            return 0.0

        old = single_label(["a", "b"])
        new = old.with_metrics([metrics.f1, worst])
        assert [m.name for m in new.metrics] == ["f1", "worst"]
        assert [m.name for m in old.metrics] == ["accuracy"]
        assert new.names == old.names and type(new) is type(old) and old.with_metrics([]).metrics == ()

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            (accuracy, r"a list: write metrics=\[accuracy\]"),
            (lambda p, t: 0.0, r"a list: write metrics=\[<lambda>\]"),
            ("accuracy", r"a list, such as \[accuracy\], got 'accuracy'"),
            (3, "a list.*got 3"),
            ({"accuracy": accuracy}, "a list"),
            ([accuracy, Metric("accuracy", lambda p, t: 0.0, True)], "'accuracy' is that of several"),
            ([lambda p, t: 0.0, lambda p, t: 1.0], "'<lambda>' is that of several"),
            ([Metric("valid_loss", lambda p, t: 0.0, False)], "'valid_loss' is what a record has already"),
        ],
    )
    def test_refused(self, given: Any, words: str) -> None:
        with pytest.raises(ArgumentError, match=words):
            single_label(["a", "b"]).with_metrics(given)
        with pytest.raises(ArgumentError, match=words):
            SingleLabel(("a", "b"), metrics=given)


class TestLossOfOnesOwn:
    def test_it_takes_the_place_of_the_tasks(self) -> None:
        chosen = regression().with_loss(F.l1_loss)
        assert chosen.loss(torch.zeros(3, 1), torch.ones(3)) == 1.0
        weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0]))
        logits, target = torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1])
        assert single_label(["a", "b"]).with_loss(weighted).loss(logits, target) == weighted(logits, target)

    @pytest.mark.parametrize(
        ("loss", "words"),
        [
            (nn.CrossEntropyLoss, r"write loss=CrossEntropyLoss\(\)"),
            ("mse", "a function of .logits, target.*'mse'"),
            (None, "a function of"),
        ],
    )
    def test_what_cannot_be_called(self, loss: Any, words: str) -> None:
        with pytest.raises(ArgumentError, match=words):
            single_label(["a", "b"]).with_loss(loss)

    @pytest.mark.parametrize("gives", [lambda x, y: x.sum(1), lambda x, y: 3.0, lambda x, y: x.new_zeros(0)])
    def test_what_gives_no_mean(self, gives: Any) -> None:
        task = single_label(["a", "b"]).with_loss(gives)
        with pytest.raises(ArgumentError, match=r"the loss <lambda> must give one number.*reduction='mean'"):
            task.loss(torch.randn(4, 2), torch.tensor([0, 1, 1, 0]))


class TestSameAs:
    def test_what_differs(self) -> None:
        one = single_label(["a", "b", "c"])
        assert one.same_as(single_label(["a", "b", "c"], label_smoothing=0.1)) == ""
        assert one.same_as(multi_label(["a", "b", "c"])) == "one is single_label, the other multi_label"
        assert one.same_as(single_label(["a", "b", "d"])) == "only in the first: ['c'], only in the second: ['d']"
        assert "order differs" in one.same_as(single_label(["b", "a", "c"]))
        assert "on a log scale" in regression(scale="log").same_as(regression())


class TestJSON:
    @pytest.mark.parametrize(
        "bad",
        [
            None,
            [],
            {},
            {"kind": "single_label"},
            {"kind": [], "names": []},
            {"kind": "single_label", "names": "ab"},
            {"kind": "single_label", "names": ["a", 1]},
            {"kind": "single_label", "names": []},
            {"kind": "single_label", "names": ["a", "a"]},
            {"kind": "single_label", "names": ["a"], "label_smoothing": 1.0},
            {"kind": "regression", "names": ["a"], "scale": "cube"},
            {"kind": "regression", "names": ["a"], "scale": ["log"]},
            {"kind": "multi_label", "names": ["a"], "threshold": "0.5"},
            {"kind": "multi_label", "names": ["a"], "threshold": True},
            {"kind": "multi_label", "names": ["a"], "threshold": float("nan")},
            {"kind": "multi_label", "names": ["a"], "threshold": 7},
        ],
    )
    def test_damaged(self, bad: Any) -> None:
        with pytest.raises(WeightsError):
            Task.from_json(bad)

    def test_a_kind_that_is_not_known(self) -> None:
        with pytest.raises(WeightsError, match=r"'ordnial' task.*single_label.*import the module that defines it"):
            Task.from_json({"kind": "ordnial", "names": ["a"]})

    def test_the_first_edition_wrote_every_setting_for_every_kind(self) -> None:
        old = {"kind": "multi_label", "names": ["a"], "threshold": 0.2, "scale": "linear", "label_smoothing": 0.0}
        assert Task.from_json(old).to_json() == multi_label(["a"], threshold=0.2).to_json()

    def test_settings_of_ones_own(self) -> None:
        @dataclass(frozen=True, repr=False)
        class Weighted(Bare):
            kind: ClassVar[str] = "weighted"
            weights: tuple[float, ...] = ()
            power: int = 2

        made = Weighted(("a", "b"), weights=(0.5, 2.0), power=3)
        assert made.to_json() == {"kind": "weighted", "names": ["a", "b"], "weights": [0.5, 2.0], "power": 3}
        assert Task.from_json(made.to_json()) == made
        for bad in ({"weights": ["a"]}, {"weights": 0.5}, {"power": 2.5}, {"power": True}):
            with pytest.raises(WeightsError, match=next(iter(bad))):
                Task.from_json({**made.to_json(), **bad})


class TestRegistry:
    def test_a_kind_is_final(self) -> None:
        with pytest.raises(ArgumentError, match="give yours a `kind` of its own"):

            class Mine(SingleLabel):  # type: ignore[misc]
                pass

    def test_a_word_is_of_one_kind(self) -> None:
        with pytest.raises(ArgumentError, match="SingleLabel is the 'single_label' task already"):

            class Mine(Bare):
                kind = "single_label"

    def test_a_cell_may_run_twice(self) -> None:
        for _ in range(2):  # as in a notebook

            class Again(Bare):
                kind = "again"

        assert type(Task.from_json({"kind": "again", "names": ["a"]})) is Again


class TestTheLeastThatAKindCanSay:
    task = Bare(("a", "b"))

    def test_losses(self) -> None:
        logits, target = torch.randn(6, 2), torch.randn(6, 2)
        torch.testing.assert_close(self.task.loss(logits, target), F.l1_loss(logits, target) * 2)
        assert self.task.item_losses(logits, target).shape == (6,)
        total = self.task.accumulator()
        total.add(logits, target)
        assert total.result()["valid_loss"] == pytest.approx(float(self.task.loss(logits, target)))

    def test_what_is_shown(self) -> None:
        logits = torch.tensor([[1.0, 2.0]])
        assert self.task.title(logits[0], torch.tensor([1.0, 2.0])) == ("said 2.0,\nis 2.0", True)
        assert self.task.item_columns(logits, logits) == self.task.by_name(logits, logits) == {}
        assert self.task.count_classes(logits) == [] and self.task.summary == "bare of 2"

    def test_what_it_has_not(self) -> None:
        x = torch.zeros(1, 2)
        for call in (self.task.calibrated, self.task.confusions):
            with pytest.raises(ArgumentError, match="bare things have none"):
                call(x, x)
        with pytest.raises(StateError, match="no `outputs_for`"):
            self.task.outputs_for(x)
        with pytest.raises(ArgumentError, match="label_smoothing is for single-label tasks, this one is bare"):
            self.task.smoothed(0.1)


def test_words_are_short() -> None:
    assert str(single_label(["cat", "dog"])) == repr(single_label(["cat", "dog"])) == "single_label of 2 (cat, dog)"
    assert len(repr(next_token([f"{i}" * 50 for i in range(1000)]))) < 200
