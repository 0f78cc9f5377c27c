"""A kind of task that the library does not know, in one file: ordered classes, by cumulative links.

Nothing else is touched, and it trains, validates, predicts, is interpreted, written, exported and loaded again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, final

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from easylearn import load_learner, load_predictor, metrics
from easylearn.artefact.archive import Archive
from easylearn.artefact.model_file import summary
from easylearn.data.loaders import TensorData
from easylearn.errors import ArgumentError, DataError, StateError, WeightsError
from easylearn.learning import Learner
from easylearn.metrics import Metric, accuracy, mean_metric
from easylearn.task import ExclusiveTask, Predictions, Task, average_predictions, base, single_label

MakeLearner = Callable[..., Learner]


def _steps_off(probs: Tensor, target: Tensor) -> Tensor:
    """How many classes each prediction is away from the truth."""
    return (probs.argmax(-1) - target).abs()


@final
@dataclass(frozen=True, repr=False)
class Ordinal(ExclusiveTask):
    """Each item has one of several classes in an order: "low", "middle", "high".

    Of c classes the model gives c - 1 numbers. The first is the logit of being above the lowest class, each further
    one lowers the logit for the next class, so that these never cross (proportional odds, McCullagh 1980).

    Args:
        names, metrics, loss_fn: see `Task`.
        floor: the lowest probability that the loss takes for real.
    """

    kind: ClassVar[str] = "ordinal"
    floor: float = 1e-6

    @property
    def n_out(self) -> int:
        return len(self.names) - 1

    def default_metrics(self) -> tuple[Metric, ...]:
        return accuracy, mean_metric("steps_off", _steps_off, False, "either")

    def activate(self, logits: Tensor) -> Tensor:
        drops = F.softplus(logits[..., 1:])
        above = torch.cat([logits[..., :1], -drops], -1).cumsum(-1).sigmoid()
        edge = torch.ones_like(above[..., :1])
        return torch.cat([edge, above], -1) - torch.cat([above, edge - edge], -1)

    def outputs_for(self, probs: Tensor) -> Tensor:
        above = (1 - probs.cumsum(-1)[..., :-1]).logit(1e-6)
        drops = (above[..., :-1] - above[..., 1:]).clamp_min(1e-6)
        return torch.cat([above[..., :1], drops.expm1().log()], -1)

    def own_item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        log = self.activate(logits).clamp_min(self.floor).log()
        return -(log * self.soft_target(target)).sum(-1)


NAMES = ["awful", "poor", "fair", "fine", "superb"]
TASK = Ordinal(tuple(NAMES))


@pytest.fixture
def data() -> TensorData:
    """Marks that grow with one direction of the features."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(300, 5, generator=g)
    score = x @ torch.tensor([1.0, -1.0, 0.5, 0.0, 0.0]) + 0.3 * torch.randn(300, generator=g)
    y = torch.bucketize(score, torch.tensor([-2.0, -0.7, 0.7, 2.0]))
    return TensorData((x[:200], y[:200]), (x[200:], y[200:]), TASK, test=x[:7], batch_size=20)


@pytest.fixture
def learn(data: TensorData, tmp_path: Path) -> Learner:
    torch.manual_seed(0)
    return Learner(data, nn.Linear(5, TASK.n_out), device="cpu", progress=False, path=tmp_path / "models")


@pytest.fixture
def trained(learn: Learner) -> Learner:
    learn.fit(0.1, 5)
    return learn


def test_probabilities_are_those_of_the_paper() -> None:
    logits = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    probs = TASK.activate(logits)
    torch.testing.assert_close(probs.sum(-1), torch.ones(9))
    assert probs.shape == (9, 5) and (probs >= 0).all()
    torch.testing.assert_close(1 - probs[:, 0], logits[:, 0].sigmoid())  # the odds of being above the lowest class
    torch.testing.assert_close(TASK.activate(TASK.outputs_for(probs)), probs, rtol=1e-3, atol=1e-5)
    target = torch.arange(9) % 5
    torch.testing.assert_close(TASK.loss(logits, target), F.nll_loss(probs.log(), target))


def test_it_trains_and_validates(learn: Learner) -> None:
    before = learn.validate()
    record = learn.fit(0.1, 5)
    assert record.last["valid_loss"] < 0.7 * before["valid_loss"]
    assert list(before) == ["valid_loss", "accuracy", "steps_off"] and record.last["steps_off"] < 0.5
    learn.lr_find(n_steps=10)
    assert learn.validate() == pytest.approx({n: record.last[n] for n in before})


def test_other_metrics_and_a_loss_of_ones_own(data: TensorData) -> None:
    learn = Learner(
        data, nn.Linear(5, 4), metrics=[metrics.quadratic_kappa()], loss=lambda x, y: x.square().mean(), device="cpu"
    )
    assert list(learn.validate()) == ["valid_loss", "quadratic_kappa"]
    with pytest.raises(ArgumentError, match="label_smoothing is for single-label tasks, this one is ordinal"):
        Learner(data, nn.Linear(5, 4), label_smoothing=0.1, device="cpu")


def test_it_predicts(trained: Learner) -> None:
    said = trained.predict()
    assert isinstance(said, Predictions) and said.probs.shape == (100, 5) and said.classes == tuple(NAMES)
    assert said[0].label in NAMES and said[0].index == int(said.probs[0].argmax())
    assert list(said.to_frame().columns) == ["id", "label", *(f"p_{n}" for n in NAMES)]
    assert len(trained.predict(split="test")) == 7 and len(trained.tta(2).views) == 1
    assert list(trained.predict(torch.zeros(2, 5)).labels) == [said.task.decode(trained_probs(trained))[0]] * 2
    assert average_predictions(said, said).labels == said.labels


def trained_probs(learn: Learner) -> Tensor:
    with torch.no_grad():
        return TASK.activate(learn.model(torch.zeros(1, 5)))


def test_it_is_interpreted_and_reported(trained: Learner, tmp_path: Path) -> None:
    found = trained.interpret()
    assert found.confusion_matrix().shape == (5, 5) and list(found.report().index) == NAMES
    assert len(found.top_losses(3)) == 3 and found.calibration().error < 0.5 and len(found.most_confused()) > 0
    for figure in (found.plot_confusion(), found.plot_calibration(), found.plot_top_losses(2)):
        assert figure.axes
    page = trained.report(tmp_path / "run.html").read_text(encoding="utf-8")
    assert "one of 5 classes" in page and "steps off" in page and "superb" in page and "ordinal" in page


def test_weights_are_written_and_read(trained: Learner, data: TensorData, tmp_path: Path) -> None:
    trained.save("best")
    other = Learner(data, nn.Linear(5, 4), device="cpu", path=tmp_path / "models")
    assert torch.equal(other.load("best").predict().probs, trained.predict().probs)
    plain = Learner(
        TensorData((torch.zeros(2, 5), torch.tensor([0, 1])), None, single_label(NAMES[:4])),
        nn.Linear(5, 4),
        device="cpu",
        path=tmp_path / "models",
    )
    with pytest.raises(WeightsError, match="one is ordinal, the other single_label"):
        plain.load("best")


def test_a_run_goes_on_with_the_same_settings_alone(learn: Learner, data: TensorData, tmp_path: Path) -> None:
    learn.fit(0.1, 2, checkpoint=tmp_path / "run", every=4)
    again = Learner(data, nn.Linear(5, 4), device="cpu", progress=False)
    again.resume(tmp_path / "run")
    assert torch.equal(again.model.weight, learn.model.weight)  # type: ignore[arg-type]
    data.task = replace(TASK, floor=0.1)
    changed = Learner(data, nn.Linear(5, 4), device="cpu", progress=False)
    with pytest.raises(StateError, match=r"floor.*1e-06 in the checkpoint, 0\.1 now"):
        changed.resume(tmp_path / "run")


class TestExport:
    def test_it_is_exported_and_loaded(self, trained: Learner, data: TensorData, tmp_path: Path) -> None:
        file = trained.export(tmp_path / "marks.easylearn").path
        predictor = load_predictor(file, device="cpu")
        assert type(predictor.task) is Ordinal and predictor.task.to_json() == TASK.to_json()
        x = data.loader("valid").source.inputs[0]  # type: ignore[attr-defined]
        assert torch.equal(predictor.predict(x).probs, trained.predict().probs)
        assert predictor.to_csv(x[:3], tmp_path / "out.csv") == 3
        assert (tmp_path / "out.csv").read_text().startswith("id,label,p_awful")
        again = load_learner(file, data=data, device="cpu", progress=False)
        assert again.validate() == pytest.approx(trained.validate())
        again.fit(0.01, 1)
        with Archive(file) as archive:
            assert "ordinal: awful, poor" in summary(archive)

    def test_where_the_class_is_not_imported(
        self, trained: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = trained.export(tmp_path / "marks.easylearn").path
        monkeypatch.delitem(base._KINDS, "ordinal")
        with pytest.raises(WeightsError, match=r"'ordinal' task, which is not known here.*import the module"):
            load_predictor(file)

    @pytest.mark.parametrize("format", ["onnx", "torch"])
    def test_for_other_runtimes(self, trained: Learner, tmp_path: Path, format: Any) -> None:
        if format == "onnx":
            pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
        report = trained.export(tmp_path / f"marks.{format}", format=format, prune=0.3)
        assert report.checked > 0 and report.difference < 1e-4
        assert report.rows["before"]["valid_loss"] == pytest.approx(trained.validate()["valid_loss"], rel=1e-2)


class TestBadInput:
    def test_targets(self) -> None:
        for bad, words in (
            (torch.tensor([5]), "class number 5 is not between 0 and 4"),
            (torch.zeros(3), "ordinal targets"),
        ):
            with pytest.raises(DataError, match=words):
                TASK.check_target(bad)

    def test_json(self) -> None:
        assert Task.from_json(json.loads(json.dumps(TASK.to_json()))).settings() == {"floor": 1e-6}
        with pytest.raises(WeightsError, match="floor should be a float"):
            Task.from_json({"kind": "ordinal", "names": NAMES, "floor": "low"})
