"""A model that does not fit the data or the task is refused when the learner is made, with both numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from easylearn.data.loaders import LoaderData, TensorData
from easylearn.errors import ArgumentError
from easylearn.export import load_predictor
from easylearn.learning import Learner
from easylearn.losses import FocalLoss
from easylearn.metrics import accuracy, f_beta, quadratic_kappa, rmse, roc_auc, top_k
from easylearn.task import single_label
from easylearn.vision.data import ImageData

MakeLearner = Callable[..., Learner]


class Gives(nn.Module):
    """A linear layer whose output is changed by a function; counts its calls."""

    def __init__(self, change: Callable[[Tensor], Any], n_out: int = 3) -> None:
        super().__init__()
        self.inner, self.change, self.calls = nn.Linear(5, n_out), change, 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return self.change(self.inner(x))


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression"])
@pytest.mark.parametrize("n_out", [1, 2, 4, 1000])
def test_another_number_of_outputs(make_learner: MakeLearner, make_data: Any, kind: str, n_out: int) -> None:
    with pytest.raises(ArgumentError, match=rf"gives {n_out} numbers for an item, and .* needs 3: .* 3 outputs"):
        make_learner(nn.Linear(5, n_out), make_data(kind))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: {"logits": x}, "gives a dict"),
        (lambda x: (x, x), "gives a tuple"),
        (lambda x: x[:, :, None, None], "gives 3 x 1 x 1 numbers"),
        (lambda x: x.argmax(1), "gives one numbers"),
        (lambda x: x.reshape(-1), "gives one numbers"),
    ],
)
def test_another_kind_of_output(make_learner: MakeLearner, change: Callable[[Tensor], Any], said: str) -> None:
    for precision in ("fp32", "bf16"):
        with pytest.raises(ArgumentError, match=said if precision == "fp32" else "(?s)gives|cannot take"):
            make_learner(Gives(change), precision=precision)


@pytest.mark.filterwarnings("ignore:Lazy modules are")
def test_layers_that_find_their_size_out_find_it_out_in_training(make_learner: MakeLearner) -> None:
    learn = make_learner(nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 3)))
    assert learn.model[0].has_uninitialized_params()  # type: ignore[index]


def test_weights_are_not_copied(make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[int] = []
    monkeypatch.setattr(nn.Parameter, "__deepcopy__", lambda self, memo: copies.append(1) or self)
    make_learner(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)))
    assert not copies


def test_weights_that_a_forward_changes_stay_as_they_are() -> None:
    rows = nn.Embedding(9, 4, max_norm=1.0)
    nn.init.constant_(rows.weight, 3.0)
    x, y = torch.arange(40).reshape(20, 2) % 9, torch.arange(20) % 3
    data = TensorData((x, y), (x, y), single_label(["a", "b", "c"]), batch_size=5)
    Learner(data, nn.Sequential(rows, nn.Flatten(), nn.Linear(8, 3)), progress=False)
    assert (rows.weight == 3).all()


def test_float64_weights(make_learner: MakeLearner) -> None:
    with pytest.raises(ArgumentError, match=r"\(5 of torch\.float32\).*dtype.*model\.float\(\)"):
        make_learner(nn.Linear(5, 3).double())


def test_another_number_of_inputs(make_learner: MakeLearner, make_data: Any) -> None:
    with pytest.raises(ArgumentError, match=r"cannot take what the data gives for an item \(5 of torch\.float32\)"):
        make_learner(nn.Linear(6, 3))
    x, y = torch.rand(8, 5), torch.arange(8) % 3
    with pytest.raises(ArgumentError, match=r"\(5 of torch\.float32, 5 of torch\.float32\)"):
        make_learner(nn.Linear(5, 3), TensorData(((x, x), y), None, single_label(["a", "b", "c"])))


@pytest.mark.parametrize(
    ("channels", "wanted", "advice"), [(1, 3, "channels=3"), (3, 1, "channels=1"), (3, 4, "channels=1")]
)
def test_other_channels(make_learner: MakeLearner, channels: int, wanted: int, advice: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16), dtype=np.uint8)
    labels = ["a", "b"] * 6
    data = ImageData.from_arrays((images, labels), valid=(images, labels), size=16, channels=channels)
    model = nn.Sequential(nn.Conv2d(wanted, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ArgumentError, match=rf"(?s)images have {channels} channels: .*{advice}"):
        make_learner(model, data)


def test_another_model_in_its_place(make_learner: MakeLearner) -> None:
    learn = make_learner()
    before = learn.model
    with pytest.raises(ArgumentError, match="gives 7 numbers"):
        learn.model = nn.Linear(5, 7)
    assert learn.model is before


def test_batches_of_ones_own_are_refused_before_the_first_step(
    make_learner: MakeLearner, weights: Any, same: Any
) -> None:
    batches = [(torch.rand(4, 5), torch.arange(4) % 3)] * 3
    learn = make_learner(nn.Linear(5, 7), LoaderData(batches, batches, single_label(["a", "b", "c"])))
    before = weights(learn)
    for train in (lambda: learn.fit(0.1, 1), learn.lr_find):
        with pytest.raises(ArgumentError, match="gives 7 numbers"):
            train()
    assert same(before, weights(learn))


def test_the_model_does_not_notice(make_learner: MakeLearner) -> None:
    model, state = Gives(torch.relu).train(), torch.get_rng_state()
    learn = make_learner(model)
    assert learn.model is model and model.calls == 0 and model.training and torch.equal(state, torch.get_rng_state())


def test_one_number_may_have_no_axis_of_its_own(make_learner: MakeLearner, make_data: Any) -> None:
    make_learner(Gives(lambda x: x[:, 0], 1), make_data("regression", n_out=1))


def test_a_layer_that_was_replaced_and_fits_no_more(make_learner: MakeLearner) -> None:
    learn = make_learner(nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)))
    learn.model[1] = nn.Linear(7, 3)  # type: ignore[index,operator]
    with pytest.raises(ArgumentError, match=r"cannot take .* \(5 of torch\.float32\): .*cannot be multiplied"):
        learn.fit(0.1, 1)
    learn = make_learner(nn.Linear(5, 3))
    learn.model.half()
    with pytest.raises(ArgumentError, match=r"model\.float\(\)"):
        learn.fit(0.1, 1)


def test_what_a_loss_raises_stays_what_it_is(make_learner: MakeLearner) -> None:
    def broken(logits: Tensor, target: Tensor) -> Tensor:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match=r"^mine$"):
        make_learner(nn.Linear(5, 3), loss=broken).fit(0.1, 1)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda a, b: nn.functional.cross_entropy(a, b).detach(), r"the loss <lambda> has no gradient"),
        (lambda a, b: torch.tensor(1.0), r"the loss <lambda> has no gradient.*detach"),
        (nn.BCEWithLogitsLoss(), r"BCEWithLogitsLoss does not take .* shape \(4, 3\) .* targets of shape \(4,\)"),
        (nn.CrossEntropyLoss(weight=torch.ones(7)), "CrossEntropyLoss does not take .* shape: .7"),
    ],
)
def test_losses_that_teach_nothing(make_learner: MakeLearner, loss: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        make_learner(nn.Linear(5, 3), loss=loss).fit(0.1, 1)


def test_outputs_without_a_gradient(make_learner: MakeLearner) -> None:
    with pytest.raises(ArgumentError, match="the model's outputs have no gradient"):
        make_learner(Gives(Tensor.detach)).fit(0.1, 1)


def test_what_is_asked_when_it_is_given(make_learner: MakeLearner) -> None:
    for how, said in (
        ({"loss": lambda a: a.sum()}, r"loss must be a function of \(logits, target\); <lambda>\(a\)"),
        ({"metrics": [lambda p: 1.0]}, r"a metric must be a function of \(outputs, targets\); <lambda>\(p\)"),
        ({"metrics": [nn.CrossEntropyLoss]}, r"write CrossEntropyLoss\(\), with brackets"),
    ):
        with pytest.raises(ArgumentError, match=said):
            make_learner(nn.Linear(5, 3), **how)
    with pytest.raises(ArgumentError, match="LBFGS computes the loss several times"):
        make_learner(nn.Linear(5, 3), optimizer=torch.optim.LBFGS).fit(0.1, 1)


@pytest.mark.parametrize("name", ["", 3, b"x", None])
def test_names_of_files_that_are_none(make_learner: MakeLearner, name: Any) -> None:
    learn = make_learner(nn.Linear(5, 3))
    for call in (learn.save, learn.load):
        with pytest.raises(ArgumentError, match="expected the path of saved weights"):
            call(name)


@pytest.mark.parametrize("name", [3, b"x", None])
def test_paths_that_are_none(make_learner: MakeLearner, name: Any) -> None:
    learn = make_learner(nn.Linear(5, 3))
    for call in (learn.export, learn.report, load_predictor):
        with pytest.raises(ArgumentError, match="expected the path of"):
            call(name)


@pytest.mark.parametrize(
    ("kind", "metric", "said"),
    [
        ("single_label", rmse, "rmse needs as many outputs as targets"),
        ("multi_label", accuracy, "accuracy needs outputs"),
        ("regression", accuracy, "accuracy needs outputs"),
        ("single_label", f_beta(1, "binary"), "'binary' is for two classes"),
    ],
)
def test_metrics_of_another_task_are_refused_before_training(
    make_learner: MakeLearner, make_data: Any, kind: str, metric: Any, said: str
) -> None:
    with pytest.raises(ArgumentError, match=said):
        make_learner(nn.Linear(5, 3), make_data(kind), metrics=[metric])


def test_metrics_that_cannot_be_tried_are_left_alone(make_learner: MakeLearner) -> None:
    def mine(probs: Tensor, target: Tensor) -> float:
        raise ArgumentError("not yet")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_learner(nn.Linear(5, 3), metrics=[accuracy, roc_auc, top_k(2), quadratic_kappa(), mine])


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.functional.cross_entropy, FocalLoss()])
def test_a_loss_of_classes_for_numbers(make_learner: MakeLearner, make_data: Any, loss: Any) -> None:
    with pytest.raises(ArgumentError, match="compares classes, and this task predicts numbers"):
        make_learner(nn.Linear(5, 3), make_data("regression"), loss=loss)
    make_learner(nn.Linear(5, 3), make_data("regression"), loss=nn.L1Loss())


def test_items_that_are_none(make_learner: MakeLearner) -> None:
    learn = make_learner(nn.Linear(5, 3))
    with pytest.raises(ArgumentError, match="predict takes an item or several, got None"):
        learn.predict(None)
    assert len(learn.predict()) == len(learn.predict(split="valid")) == len(learn.data.ids("valid"))
