from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from easylearn import metrics, task
from easylearn.errors import ArgumentError, DataError
from easylearn.task import NO_TARGET, check_target, multi_label, next_token, regression, single_label


class TestLoss:
    def test_single_label(self) -> None:
        logits, target = torch.randn(6, 3), torch.randint(3, (6,))
        plain = single_label(["a", "b", "c"])
        torch.testing.assert_close(plain.loss(logits, target), F.cross_entropy(logits, target))
        smooth = single_label(["a", "b", "c"], label_smoothing=0.1)
        expected = F.cross_entropy(logits, target, label_smoothing=0.1)
        torch.testing.assert_close(smooth.loss(logits, target), expected)
        torch.testing.assert_close(smooth.loss(logits, smooth.soft_target(target)), expected)

    def test_multi_label(self) -> None:
        logits, target = torch.randn(6, 3), torch.randint(2, (6, 3))
        expected = F.binary_cross_entropy_with_logits(logits, target.float())
        torch.testing.assert_close(multi_label(["a", "b", "c"]).loss(logits, target), expected)

    @pytest.mark.parametrize("logits_shape", [(6,), (6, 1)])
    @pytest.mark.parametrize("target_shape", [(6,), (6, 1)])
    def test_regression_never_broadcasts(self, logits_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> None:
        outputs, target = torch.randn(6), torch.arange(6)
        expected = (outputs - target).square().mean()
        torch.testing.assert_close(regression().loss(outputs.view(logits_shape), target.view(target_shape)), expected)

    def test_several_numbers(self) -> None:
        outputs, target = torch.randn(6, 2), torch.randn(6, 2)
        torch.testing.assert_close(regression(["x", "y"]).loss(outputs, target), F.mse_loss(outputs, target))

    def test_a_loss_of_ones_own(self) -> None:
        chosen = regression(loss_fn=F.l1_loss)
        torch.testing.assert_close(chosen.loss(torch.zeros(3, 1), torch.ones(3)), torch.tensor(1.0))


class TestNextToken:
    def test_the_loss_leaves_out_what_has_no_target(self) -> None:
        task = next_token(["the", "film", "was"])
        logits, target = torch.randn(2, 4, 3), torch.randint(3, (2, 4))
        torch.testing.assert_close(task.loss(logits, target), F.cross_entropy(logits.flatten(0, 1), target.flatten()))
        padded = target.clone()
        padded[1, 2:] = NO_TARGET
        kept = padded != NO_TARGET
        torch.testing.assert_close(task.loss(logits, padded), F.cross_entropy(logits[kept], target[kept]))

    def test_what_it_is(self) -> None:
        task = next_token(["the", "film"])
        assert (task.kind, task.n_out, task.classes, task.is_streamed) == ("next_token", 2, ("the", "film"), True)
        assert [m.name for m in task.metrics] == ["perplexity", "accuracy"]
        assert not single_label(["a", "b"]).is_streamed
        logits = torch.randn(4, 2)
        assert torch.equal(task.activate(logits), logits.softmax(-1))
        assert task.decode(torch.tensor([[0.1, 0.9], [0.6, 0.4]])) == ["film", "the"]

    def test_a_loss_of_ones_own(self) -> None:
        from dataclasses import replace

        task = replace(next_token(["a", "b"]), loss_fn=lambda logits, target: logits.sum() + target.sum())
        assert task.loss(torch.ones(1, 3, 2), torch.ones(1, 3)) == 9

    def test_refused(self) -> None:
        task = next_token(["a", "b"])
        with pytest.raises(ArgumentError, match=r"top_k\(5\)\), and 'f1' is not: it has no per_item"):
            task.with_metrics([metrics.accuracy, metrics.f1])
        with pytest.raises(ArgumentError, match="is not"):
            task.with_metrics([lambda outputs, targets: 0.0])
        assert [m.name for m in task.with_metrics([metrics.top_k(2)]).metrics] == ["top_2_accuracy"]
        with pytest.raises(ArgumentError, match="make the data with TextLMData"):
            check_target(task, torch.zeros(3, dtype=torch.int64))
        with pytest.raises(DataError, match="each token must be named once"):
            next_token(["a", "a"])


class TestActivateAndDecode:
    def test_activate(self) -> None:
        logits = torch.randn(4, 2)
        assert torch.equal(single_label(["a", "b"]).activate(logits), logits.softmax(-1))
        assert torch.equal(multi_label(["a", "b"]).activate(logits), logits.sigmoid())
        assert regression(["x", "y"]).activate(logits) is logits

    def test_decode(self) -> None:
        probs = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
        assert single_label(["a", "b"]).decode(probs) == ["a", "a"]
        assert multi_label(["a", "b"], threshold=0.5).decode(probs) == [("a",), ("a", "b")]
        assert multi_label(["a", "b"], threshold=0.7).decode(probs) == [("a",), ()]
        assert regression(["x", "y"]).decode(probs) == [(0.75, 0.25), (0.5, 0.5)]
        assert regression().decode(probs[:, :1]) == regression().decode(probs[:, 0]) == [0.75, 0.5]

    def test_soft_target(self) -> None:
        single = single_label(["a", "b"])
        assert single.soft_target(torch.tensor([1, 0])).tolist() == [[0.0, 1.0], [1.0, 0.0]]
        soft = torch.tensor([[0.3, 0.7]])
        assert torch.equal(single.soft_target(soft), soft)
        assert multi_label(["a", "b"]).soft_target(torch.tensor([[1, 0]])).tolist() == [[1.0, 0.0]]


class TestMetrics:
    @pytest.mark.parametrize(
        ("made", "name"),
        [
            (single_label(["a", "b"]), "accuracy"),
            (multi_label(["a", "b"], threshold=0.2), "accuracy_at_0.2"),
            (regression(), "rmse"),
        ],
    )
    def test_defaults(self, made: task.Task, name: str) -> None:
        assert [m.name for m in made.metrics] == [name]

    def test_the_default_works_on_the_tasks_own_output(self) -> None:
        for made, target in [
            (single_label(["a", "b"]), torch.tensor([0, 1, 1])),
            (multi_label(["a", "b"]), torch.tensor([[0, 1], [1, 1], [0, 0]])),
            (regression(["x", "y"]), torch.randn(3, 2)),
        ]:
            assert made.metrics[0](made.activate(torch.randn(3, 2)), target) >= 0

    def test_others(self) -> None:
        def worst(probs: Tensor, targets: Tensor) -> float:
            return 0.0

        old = single_label(["a", "b"])
        new = old.with_metrics([metrics.f1, worst])
        assert [m.name for m in new.metrics] == ["f1", "worst"]
        assert [m.name for m in old.metrics] == ["accuracy"]
        assert (new.names, new.kind) == (old.names, old.kind)


class TestItems:
    def test_losses_of_items_are_those_of_batches_of_one(self) -> None:
        logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
        single = torch.tensor([0, 1, 2] * 2)
        several = F.one_hot(single, 3).float()
        for made, target in (
            (task.single_label(["a", "b", "c"], label_smoothing=0.2), single),
            (task.multi_label(["a", "b", "c"]), several),
            (task.regression(["x", "y", "z"]), several),
            (task.regression(["x", "y", "z"], scale="log1p"), several),
            (task.regression(["x", "y", "z"], loss_fn=F.l1_loss), several),
        ):
            alone = [made.loss(logits[i : i + 1], target[i : i + 1]) for i in range(6)]
            torch.testing.assert_close(made.item_losses(logits, target), torch.stack(alone))
        one = task.regression(["x"])
        expected = (logits[:, 0] - several[:, 0]).square()
        torch.testing.assert_close(one.item_losses(logits[:, :1], several[:, 0]), expected)
        assert not one.item_losses(logits[:, :1].requires_grad_(), several[:, 0]).requires_grad
        with pytest.raises(ArgumentError, match="loss per token"):
            task.next_token(["a", "b"]).item_losses(torch.zeros(1, 2, 2), torch.zeros(1, 2).long())

    def test_columns(self) -> None:
        made = task.single_label(["cat", "dog"])
        assert [made.column("dog"), made.column(0)] == [1, 0]
        with pytest.raises(ArgumentError, match="Did you mean 'dog'"):
            made.column("dgo")
        for wrong in (2, -1, True, 0.5):
            with pytest.raises(ArgumentError, match="from 0 to 1"):
                made.column(wrong)  # type: ignore[arg-type]


class TestSameAs:
    def test_what_differs(self) -> None:
        one = single_label(["a", "b", "c"])
        assert one.same_as(single_label(["a", "b", "c"], label_smoothing=0.1)) == ""
        assert "multi_label" in one.same_as(multi_label(["a", "b", "c"]))
        assert one.same_as(single_label(["a", "b", "d"])) == "only in the first: ['c'], only in the second: ['d']"
        assert "order differs" in one.same_as(single_label(["b", "a", "c"]))


def test_shape_of_a_task() -> None:
    assert (single_label(["a", "b"]).n_out, single_label(["a", "b"]).classes) == (2, ("a", "b"))
    assert (regression(["x"]).n_out, regression(["x"]).classes) == (1, ())
    assert single_label([3, 7]).names == ("3", "7")  # type: ignore[list-item]
    made = multi_label(["a", "b"])
    assert pickle.loads(pickle.dumps(made)).same_as(made) == "", "a task can be sent to a spawned worker"


class TestBadInput:
    def test_names(self) -> None:
        with pytest.raises(DataError, match="at least one class"):
            single_label([])
        with pytest.raises(DataError, match=r"\['a'\] more than once"):
            single_label(["a", "b", "a"])
        with pytest.raises(DataError, match="each target must be named once"):
            regression(["x", "x"])
        with pytest.raises(ArgumentError, match=r"write \['price'\]"):
            regression("price")

    def test_numbers(self) -> None:
        for smoothing in (-0.1, 1.0, float("nan")):
            with pytest.raises(ArgumentError, match="label_smoothing"):
                single_label(["a"], label_smoothing=smoothing)
        with pytest.raises(ArgumentError, match="threshold"):
            multi_label(["a"], threshold=2.0)

    def test_good_targets(self) -> None:
        check_target(single_label(["a", "b"]), torch.tensor([0, 1, 1]))
        check_target(multi_label(["a", "b"]), torch.tensor([[0, 1]]))
        check_target(multi_label(["a", "b"]), torch.tensor([[False, True]]))
        check_target(multi_label(["a", "b"]), torch.tensor([[0.2, 1.0]]))
        check_target(regression(), torch.tensor([1.5]))
        check_target(regression(["x", "y"]), torch.zeros(3, 2))

    @pytest.mark.parametrize(
        ("made", "target", "words"),
        [
            (single_label(["a", "b"]), torch.tensor([0, 2, -1]), "row 1: class number 2 is not between 0 and 1"),
            (single_label(["a", "b"]), torch.tensor([0.0, 1.0]), "class numbers"),
            (single_label(["a", "b"]), torch.tensor([[0, 1]]), "class numbers"),
            (multi_label(["a", "b"]), torch.zeros(3, 3), r"shape \(n, 2\), got \(3, 3\)"),
            (multi_label(["a", "b"]), torch.tensor([[0, 1], [0, 2]]), "zeros and ones, but 1 rows.*row 1"),
            (multi_label(["a"]), torch.tensor([[float("nan")]]), "zeros and ones"),
            (regression(["x", "y"]), torch.zeros(3), "2 columns"),
            (regression(), torch.tensor([0.0, float("nan"), float("inf")]), "2 regression targets.*row 1"),
        ],
    )
    def test_bad_targets(self, made: task.Task, target: Tensor, words: str) -> None:
        with pytest.raises(DataError, match=words):
            check_target(made, target)
