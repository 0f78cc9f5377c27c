from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from easylearn import Learner, TensorData, load_learner, load_predictor
from easylearn.errors import ArgumentError, DataError
from easylearn.metrics import Metric, accuracy, accuracy_at, f_beta, precision, recall
from easylearn.task import Prediction, Predictions, Task, choose_threshold, multi_label, single_label
from easylearn.task.predictions import average_predictions


def draws(n: int, c: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Probabilities that know something, each label on a level of its own, and targets."""
    generator = torch.Generator().manual_seed(seed)
    y = (torch.rand(n, c, generator=generator) < 0.3).float()
    logits = 1.5 * y + torch.randn(n, c, generator=generator) - torch.linspace(0, 3, c)
    return logits.sigmoid(), y


def said(probs: Tensor, y: Tensor | None, threshold: float = 0.5) -> Predictions:
    names = [f"l{i}" for i in range(probs.shape[1])]
    return Predictions.of(multi_label(names, threshold), probs, [str(i) for i in range(len(probs))], y)


@pytest.mark.parametrize("metric", [f_beta(2), f_beta(1, "macro"), accuracy_at(), recall("micro"), precision()])
@pytest.mark.parametrize("seed", range(3))
def test_one_number_is_the_best_of_all(metric: Metric, seed: int) -> None:
    probs, y = draws(20, 3, seed)  # fewer steps than are tried, so that the search is exhaustive
    steps = [0.0, *sorted(set(probs.flatten().tolist())), 1.0]
    assert metric.at is not None
    best = max(metric.at(t)(probs, y) for t in steps)
    found = choose_threshold(said(probs, y), metric)
    assert isinstance(found, float) and metric.at(found)(probs, y) == pytest.approx(best)


def test_of_many_probabilities_little_is_lost() -> None:
    probs, y = draws(600, 4)
    best = max(f_beta(2, threshold=t)(probs, y) for t in probs.flatten().tolist())
    found = choose_threshold(said(probs, y), f_beta(2))
    assert f_beta(2, threshold=found)(probs, y) > best - 0.002


def test_one_for_each_label() -> None:
    probs, y = draws(12, 2, 3)
    metric = f_beta(1, "macro")  # of which each label has its own share, so that turns find the best of all
    found = choose_threshold(said(probs, y), metric, per_label=True)
    tried = product(*([0.0, *column.tolist(), 1.0] for column in probs.T))
    best = max(f_beta(1, "macro", threshold=pair)(probs, y) for pair in tried)
    assert isinstance(found, tuple) and f_beta(1, "macro", threshold=found)(probs, y) == pytest.approx(best)


@pytest.mark.parametrize("metric", [f_beta(2), accuracy_at()])
def test_labels_of_their_own_are_never_worse_where_they_were_chosen(metric: Metric) -> None:
    probs, y = draws(200, 5)
    one, each = (choose_threshold(said(probs, y), metric, per_label=per) for per in (False, True))
    assert metric.at is not None and metric.at(each)(probs, y) > metric.at(one)(probs, y)


def test_equally_good_ones_are_next_to_a_half_and_a_label_that_nobody_has_keeps_the_common_one() -> None:
    probs, y = torch.tensor([[0.9, 0.2], [0.1, 0.3]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    one = choose_threshold(said(probs, y), accuracy_at())
    assert one == 0.5 and choose_threshold(said(probs, y), accuracy_at(), per_label=True) == (0.5, 0.5)


def test_what_it_refuses() -> None:
    probs, y = draws(5, 2)
    of_one = Predictions.of(single_label(["a", "b"]), probs, list("abcde"), torch.zeros(5).long())
    for given, metric, words in [
        (of_one, f_beta(2), "several labels.*single_label"),
        (probs, f_beta(2), "learn.predict"),
        (said(probs, y), accuracy, "f_beta.*accuracy"),
        (said(probs, y), f_beta(2, threshold=0.3), "f2_at_0.3"),
        (said(probs, y), "f2", "'f2'"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            choose_threshold(given, metric)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="targets"):
        choose_threshold(said(probs, None), f_beta(2))
    with pytest.raises(DataError, match="finite"):
        choose_threshold(said(probs * float("nan"), y), f_beta(2))


def test_a_threshold_of_each_label_is_in_labels_metrics_and_json() -> None:
    probs, y = draws(50, 3)
    task = multi_label(["a", "b", "c"], [0.2, 0.5, 0.9])
    chosen = probs >= torch.tensor([0.2, 0.5, 0.9])
    assert task.decode(probs) == [tuple(n for n, on in zip("abc", row, strict=True) if on) for row in chosen.tolist()]
    assert [p.index for p in Prediction.of(task, probs)] == [
        tuple(i for i, on in enumerate(row) if on) for row in chosen.tolist()
    ]
    assert task.by_name(probs, y)["recall"] == pytest.approx(((chosen & (y > 0)).sum(0) / y.sum(0)).double().tolist())
    total = task.with_metrics([accuracy_at(), f_beta(2), f_beta(2, threshold=0.5), recall("micro")]).accumulator()
    total.add(probs.logit(), y)
    result = total.result()
    assert result["accuracy_at_thresholds"] == pytest.approx(float((chosen == (y > 0)).double().mean()))
    assert result["f2"] == pytest.approx(f_beta(2, threshold=(0.2, 0.5, 0.9))(probs, y)) != result["f2_at_0.5"]
    assert result["f2_at_0.5"] == pytest.approx(f_beta(2)(probs, y))
    assert result["recall_micro"] == pytest.approx(float((chosen & (y > 0)).sum() / y.sum()))
    again = Task.from_json(task.to_json())
    assert again.to_json() == task.to_json() and again.decode(probs) == task.decode(probs)
    assert [m.name for m in task.with_threshold(0.25).metrics] == ["accuracy_at_0.25"]
    assert [m.name for m in task.with_metrics([accuracy_at(0.5)]).with_threshold(0.3).metrics] == ["accuracy_at_0.5"]


@pytest.mark.parametrize("threshold", [[0.5], [0.5, 2.0], ["a", "b"], [[0.1, 0.2]], "0.5", True])
def test_thresholds_that_fit_no_label(threshold: object) -> None:
    with pytest.raises(ArgumentError, match="threshold"):
        multi_label(["a", "b"], threshold)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="several labels"):
        single_label(["a", "b"]).with_threshold(0.3)
    with pytest.raises(ArgumentError, match="2 thresholds for 3"):
        f_beta(2, threshold=(0.1, 0.2))(torch.rand(2, 3), torch.ones(2, 3))


def test_a_learner_its_files_and_its_report_use_it(tmp_path: Path) -> None:
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(1))
    y = (x[:, :3] > torch.tensor([0.0, 0.5, 1.0])).float()
    data = TensorData((x, y), (x, y), multi_label(["c0", "c1", "c2"]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
    learn = Learner(data, model, metrics=[f_beta(2)], threshold=0.4, progress=False, path=tmp_path)
    assert learn.task.settings() == {"threshold": 0.4}
    first = learn.validate()["f2"]
    found = choose_threshold(learn.predict(), f_beta(2), per_label=True)
    learn.task = learn.task.with_threshold(found)
    assert learn.validate()["f2"] > first and learn.task.settings() == {"threshold": list(found)}
    assert learn.validate()["f2"] == pytest.approx(f_beta(2, threshold=found)(*learn.predict()))
    assert average_predictions(learn.predict(), learn.predict()).labels == learn.predict().labels
    learn.fit(1e-3, 1, save_best="best")
    assert learn.record is not None and learn.record.last["f2"] == learn.validate()["f2"]
    learn.load(learn.save("weights"))
    assert learn.task.settings() == {"threshold": list(found)}
    learn.export(tmp_path / "m.easylearn")
    again = load_learner(tmp_path / "m.easylearn", data=data)
    assert again.task.settings() == learn.task.settings()
    assert load_predictor(tmp_path / "m.easylearn").predict(x).labels == learn.predict().labels
    assert f"{found[0]:.2g}"[:3] in learn.report(tmp_path / "r.html").read_text()
    onnx = pytest.importorskip("onnx")
    learn.export(tmp_path / "m.onnx", format="onnx")
    about = json.loads(onnx.load(tmp_path / "m.onnx").metadata_props[0].value)
    assert about["task"]["threshold"] == list(found)
