"""Sums over batches and kept predictions say the same of the same items."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor, nn
from torch.nn import functional as F

from easylearn import metrics
from easylearn.errors import ArgumentError, DataError, EasyLearnWarning
from easylearn.metrics import Metric
from easylearn.task import NO_TARGET, Task, accumulate, multi_label, next_token, regression, single_label
from easylearn.task.accumulate import Means, Pool, in_file_order


def items(n: int = 23, c: int = 4) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return 2 * torch.randn(n, c, generator=g), torch.randint(c, (n,), generator=g)


def added(task: Task, logits: Tensor, target: Tensor, order: Tensor | None = None) -> dict[str, float]:
    total = task.accumulator()
    index = torch.arange(len(target)) if order is None else order
    for part in index.split(5):
        total.add(logits[part], target[part], part)
    return total.result()


TASK = single_label(["a", "b", "c", "d"])


class TestWhatIsKept:
    def test_means_keep_a_few_outputs_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(accumulate, "CHUNK", 200)
        logits, target = items()
        total = TASK.accumulator()
        assert isinstance(total, Means)
        for _ in range(50):
            total.add(logits, target)
            assert total._numbers <= 200 and len(total._waiting) <= 3
        assert total.result() == pytest.approx(added(TASK, logits, target))

    @pytest.mark.parametrize("task", [TASK.with_metrics([metrics.roc_auc]), TASK.with_loss(F.cross_entropy)])
    def test_what_needs_all_of_them_keeps_them(self, task: Task) -> None:
        assert isinstance(task.accumulator(), Pool)


class TestAgainstTheWhole:
    def test_single_label(self) -> None:
        logits, target = items()
        found = added(TASK.with_metrics([metrics.accuracy, metrics.log_loss, metrics.top_k(2)]), logits, target)
        y, probs = target.numpy(), logits.softmax(1).numpy()
        assert found["accuracy"] == sk.accuracy_score(y, probs.argmax(1))  # to the bit
        assert found["log_loss"] == pytest.approx(sk.log_loss(y, probs), rel=1e-6)
        assert found["top_2_accuracy"] == pytest.approx(sk.top_k_accuracy_score(y, probs, k=2))
        assert found["valid_loss"] == pytest.approx(float(F.cross_entropy(logits.double(), target)), rel=1e-6)

    def test_multi_label(self) -> None:
        logits, _ = items()
        target = (logits + torch.randn(logits.shape) > 0).float()
        task = multi_label(["a", "b", "c", "d"], threshold=0.3)
        found = added(task, logits, target)
        hits = (logits.sigmoid() >= 0.3).float() == target
        assert found["accuracy_at_0.3"] == pytest.approx(float(hits.double().mean()))
        expected = F.binary_cross_entropy_with_logits(logits.double(), target.double())
        assert found["valid_loss"] == pytest.approx(float(expected), rel=1e-6)

    @pytest.mark.parametrize("scale", ["linear", "log", "log1p"])
    def test_regression(self, scale: Any) -> None:
        target = torch.rand(23, 2, generator=torch.Generator().manual_seed(1)) + 0.5
        task = regression(["x", "y"], scale=scale).with_metrics([metrics.rmse, metrics.mae, metrics.mse])
        outputs = task.outputs_for(target) + 0.1 * items(23, 2)[0]
        found = added(task, outputs, target)
        said = task.activate(outputs)
        assert found["mse"] == pytest.approx(sk.mean_squared_error(target, said), rel=1e-6)
        assert found["mae"] == pytest.approx(sk.mean_absolute_error(target, said), rel=1e-6)
        roots = sk.mean_squared_error(target, said, multioutput="raw_values") ** 0.5
        assert found["rmse"] == pytest.approx(roots.mean(), rel=1e-6)
        expected = F.mse_loss(outputs.double(), task.outputs_for(target.double()))
        assert found["valid_loss"] == pytest.approx(float(expected), rel=1e-5)

    def test_kept_and_added_up_are_the_same(self) -> None:
        logits, target = items()
        both = [metrics.accuracy, metrics.perplexity]
        means, pooled = (
            added(TASK.with_metrics(both), logits, target),
            added(TASK.with_metrics([*both, metrics.f1]), logits, target),
        )
        assert list(pooled) == [*means, "f1"] and means["accuracy"] == pooled["accuracy"]
        assert means == pytest.approx({n: pooled[n] for n in means}, rel=1e-6)

    def test_a_loss_that_is_no_mean_over_items_sees_all_of_them(self) -> None:
        logits, target = items()
        weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 1.0, 9.0]))
        assert added(TASK.with_loss(weighted), logits, target)["valid_loss"] == float(weighted(logits, target))


class TestOrder:
    def test_whatever_keeps_them_gets_file_order(self) -> None:
        logits, target = items()

        def first(probs: Tensor, targets: Tensor) -> float:
            return float(probs[0, 0]) + 10 * float(targets[0])

        order = torch.randperm(23, generator=torch.Generator().manual_seed(3))
        task = TASK.with_metrics([first])
        assert added(task, logits, target, order) == pytest.approx(added(task, logits, target))
        assert added(TASK, logits, target, order) == pytest.approx(added(TASK, logits, target))

    def test_in_file_order(self) -> None:
        index, rows = torch.tensor([2, 0, 1]), torch.tensor([[2.0], [0.0], [1.0]])
        logits, target = in_file_order(index, rows, index)
        assert logits.flatten().tolist() == target.tolist() == [0, 1, 2]
        assert in_file_order(torch.arange(3), rows, None) == (rows, None)


class TestTokens:
    names = ("a", "b", "c", "d")

    def windows(self) -> tuple[list[tuple[Tensor, Tensor]], Tensor, Tensor]:
        """Windows of several lengths, with positions that have no target, and what of them counts."""
        g = torch.Generator().manual_seed(0)
        batches = []
        for t in (5, 1, 9, 3):
            target = torch.randint(4, (2, t), generator=g)
            if t in (1, 3):
                target[1, -1:] = NO_TARGET
            batches.append((3 * torch.randn(2, t, 4, generator=g), target))
        logits = torch.cat([x.flatten(0, 1) for x, _ in batches])
        target = torch.cat([y.flatten() for _, y in batches])
        return batches, logits[target != NO_TARGET], target[target != NO_TARGET]

    def test_they_are_counted_as_items_are(self) -> None:
        batches, logits, target = self.windows()
        chosen = [metrics.perplexity, metrics.accuracy, metrics.error_rate, metrics.log_loss, metrics.top_k(2)]
        total = next_token(self.names).with_metrics(chosen).accumulator()
        for batch in batches:
            total.add(*batch)
        expected = added(single_label(self.names).with_metrics(chosen), logits, target)
        assert total.result() == pytest.approx(expected, rel=1e-6)

    def test_a_loss_of_ones_own_counts_by_tokens(self) -> None:
        batches, logits, target = self.windows()
        total = next_token(self.names).with_loss(lambda x, y: x[y != NO_TARGET].square().mean()).accumulator()
        for batch in batches:
            total.add(*batch)
        found = total.result()
        assert found["valid_loss"] == pytest.approx(float(logits.square().mean()), rel=1e-6)
        assert found["perplexity"] == pytest.approx(metrics.perplexity(logits, target), rel=1e-6)

    def test_nothing_to_predict(self) -> None:
        total = next_token(self.names).accumulator()
        total.add(torch.zeros(1, 2, 4), torch.full((1, 2), NO_TARGET))
        with pytest.raises(DataError, match="no second token"):
            total.result()


class TestBadInput:
    @pytest.mark.parametrize("task", [TASK, TASK.with_metrics([metrics.f1])])
    def test_no_items(self, task: Task) -> None:
        with pytest.raises(DataError, match="no items"):
            task.accumulator().result()

    def test_nan_is_told(self) -> None:
        logits, target = items()
        logits[7, 1] = float("nan")
        with pytest.warns(EasyLearnWarning, match="accuracy is undefined"):
            found = added(TASK, logits, target)
        assert found["accuracy"] != found["accuracy"] and found["valid_loss"] != found["valid_loss"]

    def test_targets_of_another_task(self) -> None:
        logits, _ = items()
        with pytest.raises(ArgumentError, match="accuracy needs outputs"):
            added(TASK, logits, logits.softmax(1))

    def test_a_metric_that_gives_no_number(self) -> None:
        task = TASK.with_metrics([Metric("each", lambda probs, targets: probs.max(1).values, True)])
        with pytest.raises(ArgumentError, match="'each' must give one number"):
            added(task, *items())
