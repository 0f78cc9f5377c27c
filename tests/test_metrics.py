from __future__ import annotations

import functools
import math
import pickle

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor

from easylearn import metrics
from easylearn.errors import ArgumentError, EasyLearnWarning
from easylearn.metrics import Metric

SINGLE = [
    "accuracy", "error_rate", "balanced_accuracy", "matthews", "cohen_kappa", "log_loss", "roc_auc",
    "average_precision", "f1", "f2",
]  # fmt: skip
REGRESSION = ["mae", "mse", "rmse", "rmspe", "exp_rmspe", "r2", "explained_variance"]


def single(n: int = 200, c: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    targets = torch.randint(c, (n,), generator=g)
    logits = torch.randn(n, c, generator=g) + torch.nn.functional.one_hot(targets, c)
    return logits.softmax(-1), targets


def multi(n: int = 200, c: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    targets = (torch.rand(n, c, generator=g) < 0.4).float()
    return (torch.randn(n, c, generator=g) + targets).sigmoid(), targets


def numbers(n: int = 100, k: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    targets = torch.randn(n, k, generator=g) + 2
    return targets + 0.3 * torch.randn(n, k, generator=g), targets


def close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-7)


class TestAgainstScikitLearn:
    @pytest.mark.parametrize("c", [2, 3, 7])
    def test_single_label(self, c: int) -> None:
        probs, targets = single(c=c)
        p, t, y = probs.double().numpy(), targets.numpy(), probs.argmax(1).numpy()
        p = p / p.sum(1, keepdims=True)
        average = "binary" if c == 2 else "macro"
        hot = np.eye(c)[t]
        expected = {
            "accuracy": sk.accuracy_score(t, y),
            "error_rate": sk.zero_one_loss(t, y),
            "balanced_accuracy": sk.balanced_accuracy_score(t, y),
            "matthews": sk.matthews_corrcoef(t, y),
            "cohen_kappa": sk.cohen_kappa_score(t, y),
            "log_loss": sk.log_loss(t, p),
            "roc_auc": sk.roc_auc_score(t, p[:, 1]) if c == 2 else sk.roc_auc_score(t, p, multi_class="ovr"),
            "average_precision": sk.average_precision_score(t, p[:, 1])
            if c == 2
            else sk.average_precision_score(hot, p),
            "f1": sk.f1_score(t, y, average=average),
            "f2": sk.fbeta_score(t, y, beta=2, average=average),
        }
        assert sorted(expected) == sorted(SINGLE)
        got = {name: getattr(metrics, name)(probs, targets) for name in SINGLE}
        assert {n: v for n, v in got.items() if not close(v, expected[n])} == {}
        assert close(metrics.precision()(probs, targets), sk.precision_score(t, y, average=average))
        assert close(metrics.recall()(probs, targets), sk.recall_score(t, y, average=average))
        assert close(metrics.quadratic_kappa()(probs, targets), sk.cohen_kappa_score(t, y, weights="quadratic"))

    @pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
    def test_averages(self, average: metrics.Average) -> None:
        for (probs, targets), y in [(single(), None), (multi(), 0.3)]:
            chosen = probs.argmax(1) if y is None else probs >= y
            expected = sk.fbeta_score(targets.numpy(), chosen.numpy(), beta=0.5, average=average)
            assert close(metrics.f_beta(0.5, average, threshold=0.3)(probs, targets), expected)

    def test_multi_label(self) -> None:
        probs, targets = multi()
        p, t = probs.numpy(), targets.numpy()
        assert close(
            metrics.f2(probs, targets), sk.fbeta_score(t, p >= 0.5, beta=2, average="samples", zero_division=0)
        )
        assert close(metrics.roc_auc(probs, targets), sk.roc_auc_score(t, p))
        assert close(metrics.average_precision(probs, targets), sk.average_precision_score(t, p))
        columns = [sk.log_loss(t[:, i], p[:, i]) for i in range(t.shape[1])]
        assert close(metrics.log_loss(probs, targets), np.mean(columns))
        assert close(metrics.accuracy_at(0.4)(probs, targets), 1 - sk.hamming_loss(t, p >= 0.4))

    def test_one_label(self) -> None:
        probs, targets = multi(c=1)
        p, t = probs.flatten().numpy(), targets.flatten().numpy()
        assert close(metrics.f1(probs, targets), sk.f1_score(t, p >= 0.5))
        assert close(metrics.roc_auc(probs, targets), sk.roc_auc_score(t, p))
        assert close(metrics.roc_auc(probs.flatten(), targets.flatten()), sk.roc_auc_score(t, p))
        assert close(metrics.accuracy_at()(probs.flatten(), targets.flatten()), sk.accuracy_score(t, p >= 0.5))

    def test_top_k(self) -> None:
        probs, targets = single(c=7)
        for k in (1, 3, 6):
            expected = sk.top_k_accuracy_score(targets.numpy(), probs.numpy(), k=k)
            assert close(metrics.top_k(k)(probs, targets), expected)
        assert metrics.top_k(20)(probs, targets) == 1.0

    @pytest.mark.parametrize("k", [1, 3])
    def test_regression(self, k: int) -> None:
        outputs, targets = numbers(k=k)
        o, t = outputs.double().numpy(), targets.double().numpy()
        expected = {
            "mae": sk.mean_absolute_error(t, o),
            "mse": sk.mean_squared_error(t, o),
            "rmse": np.mean(np.sqrt(sk.mean_squared_error(t, o, multioutput="raw_values"))),
            "rmspe": np.mean(np.sqrt((((t - o) / t) ** 2).mean(0))),
            "exp_rmspe": np.mean(np.sqrt((((np.exp(t) - np.exp(o)) / np.exp(t)) ** 2).mean(0))),
            "r2": sk.r2_score(t, o),
            "explained_variance": sk.explained_variance_score(t, o),
        }
        assert sorted(expected) == sorted(REGRESSION)
        got = {name: getattr(metrics, name)(outputs, targets) for name in REGRESSION}
        assert {n: v for n, v in got.items() if not close(v, expected[n])} == {}

    def test_constant_targets(self) -> None:
        t = torch.ones(4)
        for o in (t, t + 1, torch.arange(4.0)):
            assert close(metrics.r2(o, t), sk.r2_score(t.numpy(), o.numpy()))
            assert close(metrics.explained_variance(o, t), sk.explained_variance_score(t.numpy(), o.numpy()))

    def test_classes_missing_from_the_targets(self) -> None:
        probs, targets = single(c=5)
        kept = targets != 3
        probs, targets = probs[kept], targets[kept]
        y = probs.argmax(1).numpy()
        recalls = sk.recall_score(targets.numpy(), y, labels=[0, 1, 2, 4], average=None)
        assert close(metrics.balanced_accuracy(probs, targets), recalls.mean())
        weighted = sk.cohen_kappa_score(targets.numpy(), y, labels=range(5), weights="quadratic")
        assert close(metrics.quadratic_kappa()(probs, targets), weighted)
        with pytest.warns(EasyLearnWarning, match="4 of 5 classes"):
            value = metrics.roc_auc(probs, targets)
        curves = [sk.roc_auc_score(targets.numpy() == c, probs[:, c].numpy()) for c in (0, 1, 2, 4)]
        assert close(value, np.mean(curves))

    def test_certain_and_wrong_is_finite(self) -> None:
        probs, targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([1, 1])
        assert close(metrics.log_loss(probs, targets), sk.log_loss([1, 1], probs.numpy(), labels=[0, 1]))
        assert math.isfinite(metrics.log_loss(probs, torch.tensor([[0, 1], [0, 1]])))


class TestBehaviour:
    def test_perplexity_is_of_logits(self) -> None:
        logits, targets = torch.randn(9, 6), torch.arange(9) % 6
        expected = torch.nn.functional.cross_entropy(logits, targets).exp().item()
        assert metrics.perplexity.needs == "logits"
        assert close(metrics.perplexity(logits, targets), expected)
        assert close(metrics.perplexity(logits.view(3, 3, 6), targets.view(3, 3)), expected)

    @pytest.mark.parametrize("name", REGRESSION)
    def test_columns_are_aligned_and_never_broadcast(self, name: str) -> None:
        metric = getattr(metrics, name)
        outputs, targets = numbers()
        values = {round(metric(o, t), 9) for o in (outputs, outputs.flatten()) for t in (targets, targets.flatten())}
        assert len(values) == 1
        with pytest.raises(ArgumentError, match=r"\(100, 1\).*\(100, 2\)"):
            metric(outputs, targets.expand(-1, 2))

    def test_percent_errors_leave_zero_targets_out(self) -> None:
        assert close(metrics.rmspe(torch.tensor([5.0, 1.5]), torch.tensor([0.0, 1.0])), 0.5)

    def test_pooled_is_not_the_mean_of_batches(self) -> None:
        probs, targets = single(n=30, c=2)
        parts = [metrics.f1(probs[i : i + 10], targets[i : i + 10]) for i in (0, 10, 20)]
        assert not close(metrics.f1(probs, targets), float(np.mean(parts)))

    def test_directions_and_names(self) -> None:
        every = [m for m in vars(metrics).values() if isinstance(m, metrics.Metric)]
        lower = {m.name for m in every if m.higher_is_better is False}
        assert len({m.name for m in every}) == len(every) == 18
        assert lower == {"error_rate", "log_loss", "perplexity", "mae", "mse", "rmse", "rmspe", "exp_rmspe"}
        made = [metrics.accuracy_at(0.2), metrics.top_k(5), metrics.f_beta(0.5, "macro"), metrics.recall(threshold=0.2)]
        assert [m.name for m in made] == ["accuracy_at_0.2", "top_5_accuracy", "f0.5_macro", "recall_at_0.2"]

    @pytest.mark.parametrize("change", [{"name": ""}, {"name": None}, {"higher_is_better": "up"}])
    def test_what_is_no_name_or_direction(self, change: dict[str, object]) -> None:
        with pytest.raises(ArgumentError, match="a metric has a name, and True, False or None"):
            metrics.Metric(**{"name": "x", "fn": lambda o, t: 0.0, "higher_is_better": True, **change})

    def test_threshold_counts_from_its_value_on(self) -> None:
        probs, targets = torch.full((1, 2), 0.5), torch.tensor([[1, 0]])
        assert metrics.accuracy_at(0.5)(probs, targets) == 0.5
        assert metrics.recall(threshold=0.5)(probs, targets) == 1.0

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_any_precision(self, dtype: torch.dtype) -> None:
        probs, targets = single(c=3)
        for name in SINGLE:
            metric = getattr(metrics, name)
            low = probs.to(dtype)
            assert close(metric(low, targets), metric(low.float(), targets)) or dtype == torch.float64

    def test_numpy_and_gradients_are_welcome(self) -> None:
        probs, targets = single()
        expected = metrics.accuracy(probs, targets)
        assert metrics.accuracy(probs.numpy(), targets.numpy()) == expected
        assert metrics.accuracy(probs.requires_grad_(), targets) == expected

    def test_metrics_can_be_sent_to_a_worker(self) -> None:
        probs, targets = multi()
        for metric in (metrics.f2, metrics.accuracy_at(0.3), metrics.roc_auc):
            assert pickle.loads(pickle.dumps(metric))(probs, targets) == metric(probs, targets)


class TestPerItem:
    """What is added up batch by batch is what the metric of everything is."""

    OF_CLASSES = (metrics.accuracy, metrics.error_rate, metrics.log_loss, metrics.perplexity, metrics.top_k(1),
                  metrics.top_k(2), metrics.top_k(9))  # fmt: skip
    OF_LABELS = (metrics.accuracy_at(0.3), metrics.log_loss)
    OF_NUMBERS = (metrics.mae, metrics.mse, metrics.rmse)

    def added_up(self, metric: Metric, outputs: Tensor, targets: Tensor) -> float:
        assert metric.per_item is not None
        parts = zip(outputs.split(7), targets.split(7), strict=True)
        total = torch.stack([metric.per_item(*part).double().sum(0) for part in parts]).sum(0)
        return metric.of_mean(total / len(targets))

    @pytest.mark.parametrize("metric", OF_CLASSES, ids=lambda m: m.name)
    def test_classes(self, metric: Metric) -> None:
        probs, targets = single(c=5)
        logits = probs.log() + torch.linspace(-3, 3, len(probs)).unsqueeze(1)
        outputs = logits if metric.needs == "logits" else logits.softmax(-1)
        assert close(self.added_up(metric, outputs, targets), metric(outputs, targets))
        if metric.needs == "either":  # only the order of the classes counts
            assert self.added_up(metric, logits, targets) == metric(outputs, targets)

    @pytest.mark.parametrize("metric", OF_LABELS, ids=lambda m: m.name)
    def test_labels(self, metric: Metric) -> None:
        assert close(self.added_up(metric, *multi()), metric(*multi()))

    @pytest.mark.parametrize("metric", OF_NUMBERS, ids=lambda m: m.name)
    @pytest.mark.parametrize("k", [1, 3])
    def test_numbers(self, metric: Metric, k: int) -> None:
        assert close(self.added_up(metric, *numbers(k=k)), metric(*numbers(k=k)))

    @pytest.mark.parametrize("metric", OF_CLASSES, ids=lambda m: m.name)
    def test_nan_is_not_hidden_by_the_order(self, metric: Metric) -> None:
        probs, targets = single(n=8)
        probs[3] = math.nan
        with pytest.warns(EasyLearnWarning, match=f"{metric.name} is undefined: there are NaN"):
            assert math.isnan(self.added_up(metric, probs, targets))

    def test_targets_of_another_shape_are_not_broadcast(self) -> None:
        for metric in set(self.OF_CLASSES) - {metrics.log_loss}:
            assert metric.per_item is not None
            with pytest.raises(ArgumentError, match="several labels"):
                metric.per_item(*multi())

    def test_shapes_and_workers(self) -> None:
        for metric in self.OF_CLASSES:
            again = pickle.loads(pickle.dumps(metric))
            assert again.per_item(torch.randn(6, 3), torch.zeros(6, dtype=torch.int64)).shape == (6,)

    def test_a_model_that_fell_apart_is_no_overflow(self) -> None:
        assert metrics.perplexity.of_mean(torch.tensor(1e5)) == math.inf

    def test_the_others_have_none(self) -> None:
        for name in ("balanced_accuracy", "matthews", "roc_auc", "f1", "r2", "rmspe"):
            assert getattr(metrics, name).per_item is None


class TestUndefined:
    """A number that cannot be had is NaN and a warning: training goes on."""

    @pytest.mark.parametrize("name", SINGLE)
    def test_nan_and_empty(self, name: str) -> None:
        metric = getattr(metrics, name)
        probs, targets = single(n=8)
        probs[3, 1] = math.nan
        with pytest.warns(EasyLearnWarning, match=f"{name} is undefined: 1 of 32 outputs are NaN"):
            assert math.isnan(metric(probs, targets))
        with pytest.warns(EasyLearnWarning, match=f"{name} is undefined: there are no items"):
            assert math.isnan(metric(probs[:0], targets[:0]))

    @pytest.mark.parametrize("name", ["roc_auc", "average_precision", "cohen_kappa"])
    def test_one_class(self, name: str) -> None:
        probs = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
        with pytest.warns(EasyLearnWarning, match=f"{name} is undefined"):
            assert math.isnan(getattr(metrics, name)(probs, torch.zeros(2, dtype=torch.long)))

    @pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "matthews", "log_loss", "f1"])
    def test_one_class_where_it_is_defined(self, name: str) -> None:
        probs = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
        assert math.isfinite(getattr(metrics, name)(probs, torch.zeros(2, dtype=torch.long)))

    def test_regression(self) -> None:
        with pytest.warns(EasyLearnWarning, match="two items"):
            assert math.isnan(metrics.r2(torch.ones(1), torch.ones(1)))
        with pytest.warns(EasyLearnWarning, match="zero"):
            assert math.isnan(metrics.rmspe(torch.ones(2), torch.zeros(2)))


class TestAsMetric:
    def test_a_metric_stays(self) -> None:
        assert metrics.as_metric(metrics.rmse) is metrics.rmse

    def test_functions(self) -> None:
        def gap(probs: Tensor, targets: Tensor, scale: float = 1.0) -> Tensor:
            return scale * (probs.max(1).values - targets).abs().mean()

        class Callable2:
            def __call__(self, probs: Tensor, targets: Tensor) -> float:
                return 2.0

        metric = metrics.as_metric(gap)
        assert (metric.name, metric.higher_is_better, metric.needs) == ("gap", None, "probs")
        assert isinstance(metric(*single()), float)
        assert metrics.as_metric(functools.partial(gap, scale=2.0)).name == "gap"
        assert metrics.as_metric(Callable2()).name == "Callable2"

    def test_refused(self) -> None:
        with pytest.raises(ArgumentError, match="Did you mean 'accuracy'"):
            metrics.as_metric("acuracy")  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="Write accuracy, without quotes"):
            metrics.as_metric("accuracy")  # type: ignore[arg-type]

    def test_a_function_of_scikit_learn_takes_its_arguments_the_other_way_round(self) -> None:
        from sklearn.metrics import accuracy_score

        for given in (accuracy_score, functools.partial(accuracy_score, normalize=False)):
            with pytest.raises(ArgumentError, match=r"return accuracy_score\(targets, probs.argmax\(1\)\)"):
                metrics.as_metric(given)
        with pytest.raises(ArgumentError, match="3"):
            metrics.as_metric(3)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match=r"write f_beta\(\.\.\.\)"):
            metrics.as_metric(metrics.f_beta)
        per_item = metrics.as_metric(lambda probs, targets: probs.max(1).values)
        with pytest.raises(ArgumentError, match="one number"):
            per_item(*single())


class TestBadInput:
    @pytest.mark.parametrize("name", ["accuracy", "error_rate", "balanced_accuracy", "matthews", "cohen_kappa"])
    def test_multi_label_targets(self, name: str) -> None:
        with pytest.raises(ArgumentError, match="several labels per item"):
            getattr(metrics, name)(*multi())

    def test_shapes(self) -> None:
        probs, targets = single()
        with pytest.raises(ArgumentError, match="200 and 100"):
            metrics.accuracy(probs, targets[:100])
        with pytest.raises(ArgumentError, match=r"\(200, 4\).*\(200, 3\)"):
            metrics.accuracy_at()(probs, torch.zeros(200, 3))
        with pytest.raises(ArgumentError, match="'samples'"):
            metrics.f_beta(1, "samples")(probs, targets)
        with pytest.raises(ArgumentError, match="'binary'"):
            metrics.f_beta(1, "binary")(*multi())

    def test_arguments(self) -> None:
        with pytest.raises(ArgumentError, match=r"'mine' needs one of.*'logit'.*Did you mean 'logits'"):
            Metric("mine", lambda outputs, targets: 0.0, True, needs="logit")  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="threshold"):
            metrics.accuracy_at(1.5)
        with pytest.raises(ArgumentError, match="beta"):
            metrics.f_beta(0)
        with pytest.raises(ArgumentError, match="Did you mean 'macro'"):
            metrics.precision("makro")  # type: ignore[arg-type]
        for k in (0, 2.5, True):
            with pytest.raises(ArgumentError, match="k must be"):
                metrics.top_k(k)  # type: ignore[arg-type]
