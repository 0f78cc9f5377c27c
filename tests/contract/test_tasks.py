"""What is true of every kind of task, and that nothing outside of `easylearn.task` asks which kind it has."""

from __future__ import annotations

import ast
import inspect
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import easylearn
from easylearn import task as tasks
from easylearn.analysis.interpret import Interpretation
from easylearn.data.loaders import TensorData
from easylearn.errors import DataError, EasyLearnError
from easylearn.task import (
    ImageTask,
    Predictions,
    Task,
    boxes,
    masks,
    multi_label,
    next_token,
    ranking,
    regression,
    single_label,
)  # fmt: skip

N = 12
G = torch.Generator().manual_seed(0)
CLASSES, LABELS = torch.randint(3, (N,), generator=G), (torch.rand(N, 3, generator=G) < 0.5).float()
ABOVE = torch.rand(N, 3, generator=G) + 0.5


@dataclass(frozen=True)
class Case:
    """A task and targets of it."""

    task: Task
    target: Tensor
    size: tuple[int, ...] = ()  # of what is said of each pixel

    @property
    def logits(self) -> Tensor:
        return torch.randn(N, self.task.n_out, *self.size, generator=torch.Generator().manual_seed(1))

    def __str__(self) -> str:
        return f"{self.task.kind}-{'-'.join(map(str, self.task.settings().values()))}"


CASES = [
    Case(single_label(["a", "b", "c"]), CLASSES),
    Case(single_label(["a", "b", "c"], label_smoothing=0.2), CLASSES),
    Case(multi_label(["a", "b", "c"], threshold=0.3), LABELS),
    Case(regression(["x", "y", "z"]), ABOVE),
    Case(regression(["x", "y", "z"], scale="log"), ABOVE),
    Case(regression(["x", "y", "z"], scale="log1p"), ABOVE),
    Case(regression(["x"]), ABOVE[:, 0]),
]
WANTED = torch.randint(-1, 3, (N, 5), generator=G).float()
WANTED[:, 0] = 1
CASES += [Case(ranking(["v", "w", "x", "y", "z"], k=2), WANTED)]
STREAMED = Case(next_token(["a", "b", "c"]), CLASSES)
PIXELS = [
    Case(masks(["a", "b", "c"]), torch.randint(3, (N, 6, 8), generator=G, dtype=torch.uint8), (3, 4)),
    Case(ImageTask(("a", "b")), torch.randint(255, (N, 3, 6, 8), generator=G, dtype=torch.uint8), (3, 4)),
]
BOXED = torch.tensor([[[4.0, 4.0, 12.0, 20.0, 0.0], [10.0, 2.0, 30.0, 9.0, 2.0]]]).repeat(N, 1, 1)
BOXES = Case(boxes(["a", "b", "c"]), BOXED, (6, 8))  # what is predicted has another shape than the outputs
EVERY = [*CASES, STREAMED, *PIXELS]
every = pytest.mark.parametrize("case", EVERY, ids=str)
of_any_shape = pytest.mark.parametrize("case", [*EVERY, BOXES], ids=str)
of_items = pytest.mark.parametrize("case", CASES, ids=str)


def test_each_kind_is_here() -> None:
    finals = {
        v
        for v in vars(tasks).values()
        if inspect.isclass(v) and Task in getattr(v, "__mro__", ()) and "kind" in vars(v)
    }
    assert {type(case.task) for case in [*EVERY, BOXES]} == finals and len({kind.kind for kind in finals}) == len(
        finals
    )
    beside = [kind for kind in finals if not kind.of_pixels and kind is not type(BOXES.task)]
    assert all((c.is_exclusive, c.is_multi, c.predicts_numbers, c.is_ranking).count(True) == 1 for c in beside)


@of_any_shape
def test_it_comes_back_out_of_json_and_pickle(case: Case) -> None:
    for again in (Task.from_json(json.loads(json.dumps(case.task.to_json()))), pickle.loads(pickle.dumps(case.task))):
        assert type(again) is type(case.task) and again.to_json() == case.task.to_json()
        assert again.same_as(case.task) == "" and [m.name for m in again.metrics] == [m.name for m in case.task.metrics]


@of_any_shape
def test_it_cannot_be_changed(case: Case) -> None:
    with pytest.raises(AttributeError):
        case.task.names = ("a",)  # type: ignore[misc]


@every
def test_what_is_probable_comes_back_from_what_a_file_gives(case: Case) -> None:
    values = case.task.activate(case.logits)
    assert values.shape == (N, len(case.task.names), *case.size)
    torch.testing.assert_close(case.task.activate(case.task.outputs_for(values)), values, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(case.task.activate_in_graph(case.logits), values)


@of_any_shape
def test_labels(case: Case) -> None:
    labels = case.task.decode(case.task.activate(case.logits))
    assert len(labels) == len(case.task.decode_target(case.target)) == N
    assert all(isinstance(case.task.in_words(label), str) for label in labels)


@of_items
def test_losses_of_items_are_those_of_batches_of_one(case: Case) -> None:
    alone = [case.task.loss(case.logits[i : i + 1], case.target[i : i + 1]) for i in range(N)]
    each = case.task.item_losses(case.logits.requires_grad_(), case.target)
    torch.testing.assert_close(each, torch.stack(alone))
    torch.testing.assert_close(each.mean(), case.task.loss(case.logits, case.target))
    assert not each.requires_grad
    own = case.task.with_loss(lambda logits, target: (logits.reshape(len(logits), -1)[:, 0]).mean())
    torch.testing.assert_close(own.item_losses(case.logits, case.target), case.logits[:, 0])


@of_any_shape
def test_the_loss_has_gradients(case: Case) -> None:
    logits = case.logits.requires_grad_()
    case.task.loss(logits, case.target).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and logits.grad.abs().sum() > 0


@of_items
def test_mixed_targets(case: Case) -> None:
    """A target mixed with itself is the target."""
    soft = case.task.soft_target(case.target)
    assert soft.is_floating_point()
    torch.testing.assert_close(case.task.loss(case.logits, soft), case.task.loss(case.logits, case.target))


@of_any_shape
@pytest.mark.parametrize("size", [1, 5, N])
def test_batches_say_what_the_whole_says(case: Case, size: int) -> None:
    total = case.task.accumulator()
    for part in torch.arange(N).split(size):
        total.add(case.logits[part], case.target[part], part)
    found = total.result()
    assert list(found) == ["valid_loss", *(m.name for m in case.task.metrics)]
    assert found["valid_loss"] == pytest.approx(float(case.task.loss(case.logits, case.target)), rel=1e-5)
    probs = case.task.activate(case.logits)
    for metric in case.task.metrics:
        outputs = case.logits if metric.needs == "logits" else probs
        assert found[metric.name] == pytest.approx(metric(outputs, case.target), rel=1e-6)


@of_items
def test_targets_are_checked(case: Case) -> None:
    assert case.task.loss(case.logits, case.task.check_target(case.target)) == case.task.loss(case.logits, case.target)
    for bad in (torch.full((N, 3), float("nan")), torch.zeros(N, 7)):
        with pytest.raises(DataError):
            case.task.check_target(bad)


@of_items
def test_predictions(case: Case) -> None:
    said = Predictions.of(case.task, case.task.activate(case.logits), [str(i) for i in range(N)], case.target)
    assert len(said.to_frame()) == len(said.to_dict()) == N and len(repr(said)) < 150
    assert said[3].label == said.labels[3] and list(said[3].to_dict()) == list(case.task.names)


@of_items
def test_what_an_interpretation_shows(case: Case) -> None:
    data = TensorData((case.logits, case.target), (case.logits, case.target), case.task)
    found = Interpretation(data, case.task, "valid", case.logits, data.loader("valid").target)  # type: ignore[attr-defined]
    assert len(found.report()) == len(case.task.names) and found.report().index.name == case.task.noun
    assert len(found.top_losses(4)) == 4 and len(found.plot_top_losses(2).axes) == 2
    shown: dict[str, bool] = {
        "confusion_matrix": case.task.is_exclusive,
        "plot_confusion": case.task.is_exclusive,
        "calibration": case.task.is_exclusive or case.task.is_multi,
        "plot_calibration": case.task.is_exclusive or case.task.is_multi,
        "residuals": case.task.predicts_numbers,
        "plot_predictions": case.task.predicts_numbers,
    }
    for name, is_shown in shown.items():
        view: Any = getattr(found, name)
        if is_shown:
            assert view() is not None
        else:
            with pytest.raises(EasyLearnError, match="use"):
                view()


ROOT = Path(easylearn.__file__).parent
KINDS = {case.task.kind for case in [*EVERY, BOXES]}
FINALS = {type(case.task).__name__ for case in [*EVERY, BOXES]}


def asks(node: ast.AST) -> bool:
    """Whether a piece of code asks which kind a task is of."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        has_kind = any(isinstance(s, ast.Attribute) and s.attr == "kind" for s in sides)
        words = {c.value for s in sides for c in ast.walk(s) if isinstance(c, ast.Constant)}
        return has_kind and bool(words & KINDS)
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Attribute) and node.slice.attr == "kind"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
        return bool({n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)} & FINALS)
    return False


def test_the_question_is_seen() -> None:
    for code in (
        "t.kind == 'regression'",
        "x.task.kind in ('single_label', 'a')",
        "{}[t.kind]",
        "isinstance(t, MultiLabel)",
    ):
        assert any(asks(n) for n in ast.walk(ast.parse(code))), code
    assert not any(asks(n) for n in ast.walk(ast.parse("dtype.kind == 'f' or self.kind == 'ema'")))


def test_nothing_outside_asks_for_the_kind() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno}"  # type: ignore[attr-defined]
        for file in sorted(ROOT.rglob("*.py"))
        if file.parent != ROOT / "task"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if asks(node)
    ]
    assert found == []
