"""submit: what a competition wants, and thirty ways to be wrong; pseudo_label and snapshots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import easylearn as el
from easylearn.errors import ArgumentError, DataError, EasyLearnError
from easylearn.experiment.submit import pseudo_label, snapshots, submit
from easylearn.learning import Learner
from easylearn.task import Predictions, boxes, masks, ranking
from tests.experiment.folded import by_hand, two_columns

IDS = ["7", "3", "12", "5"]
P = torch.tensor([0.9, 0.2, 0.6, 0.4])


def binary(ids: Any = IDS, p: Any = P, names: Any = ("cat", "dog")) -> Predictions:
    return Predictions.of(el.single_label(list(names)), two_columns(p), list(ids))


def three(ids: Any = IDS) -> Predictions:
    probs = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.0, 0.0, 1.0], [0.25, 0.25, 0.5]])
    return Predictions.of(el.single_label(["ant", "bee", "cow"]), probs, list(ids))


def sample(folder: Path, text: str) -> Path:
    file = folder / "sample.csv"
    file.write_text(text, encoding="utf-8")
    return file


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


# -- what it writes --------------------------------------------------------------------------------------------


def test_one_probability_in_the_order_of_the_sample(tmp_path: Path) -> None:
    file = sample(tmp_path, "id,label\n3,0.5\n5,0.5\n7,0.5\n12,0.5\n")
    path = submit(binary(), file, tmp_path / "out.csv")
    assert lines(path) == ["id,label", "3,0.2", "5,0.4", "7,0.9", "12,0.6"]
    submit(binary(), file, path, positive="cat")
    assert float(lines(path)[1].split(",")[1]) == pytest.approx(0.8)


def test_labels_where_the_sample_has_labels(tmp_path: Path) -> None:
    file = sample(tmp_path, "id,label\n3,cat\n5,cat\n7,cat\n12,cat\n")
    assert lines(submit(binary(), file, tmp_path / "out.csv"))[1:] == ["3,cat", "5,cat", "7,dog", "12,dog"]


def test_a_column_for_each_class_in_the_order_of_the_sample(tmp_path: Path) -> None:
    file = sample(tmp_path, "image,cow,ant,bee\n7,0,0,0\n3,0,0,0\n12,0,0,0\n5,0,0,0\n")
    path = submit(three(), file, tmp_path / "out.csv")
    assert lines(path)[:3] == ["image,cow,ant,bee", "7,0.25,0.5,0.25", "3,0.125,0.125,0.75"]


def test_ids_of_files_and_with_leading_zeros(tmp_path: Path) -> None:
    ids = ["test/007.jpg", "test/03.jpg", "test/12.jpg", "test/5.jpg"]
    for names in (["007.jpg", "03.jpg", "12.jpg", "5.jpg"], ["007", "03", "12", "5"]):
        file = sample(tmp_path, "id,label\n" + "".join(f"{n},0.5\n" for n in names))
        assert lines(submit(binary(ids), file, tmp_path / "out.csv"))[1] == f"{names[0]},0.9"


def test_numbers_and_several_labels(tmp_path: Path) -> None:
    file = sample(tmp_path, "id,sales\n7,0\n3,0\n12,0\n5,0\n")
    numbers = Predictions.of(el.regression(["Sales"]), torch.tensor([[5.0], [-1], [1e6], [0.25]]), IDS)
    assert lines(submit(numbers, file, tmp_path / "out.csv"))[1:] == ["7,5", "3,-1", "12,1000000", "5,0.25"]
    file = sample(tmp_path, "id,tags\n7,haze\n3,haze road\n12,haze\n5,road\n")
    probs = torch.tensor([[0.9, 0.8], [0.1, 0.9], [0.9, 0.1], [0.6, 0.6]])
    tags = Predictions.of(el.multi_label(["haze", "road"]), probs, IDS)
    assert lines(submit(tags, file, tmp_path / "out.csv"))[1:] == ["7,haze road", "3,road", "12,haze", "5,haze road"]


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    file = sample(tmp_path, "id,a,b\nx,0,0\ny,0,0\n")
    own = pd.DataFrame({"id": ["y", "x"], "a": [1.5, 2], "b": ["u", "v"]})
    assert lines(submit(own, file, tmp_path / "out.csv")) == ["id,a,b", "x,2,v", "y,1.5,u"]


# -- thirty broken ones ----------------------------------------------------------------------------------------

SHARE = "id,label\n7,0.5\n3,0.5\n12,0.5\n5,0.5\n"
CLASSES = "id,ant,bee,cow\n7,0,0,0\n3,0,0,0\n12,0,0,0\n5,0,0,0\n"
NAN, INF = float("nan"), float("inf")


def own(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"id": IDS, **columns})


def changed(row: int, values: list[float]) -> Predictions:
    said = three()
    said.probs[row] = torch.tensor(values)
    return said


BROKEN: list[tuple[str, Any, str, dict[str, Any]]] = [
    ("row 2: the id '12' has no prediction", binary([*IDS[:2], "13", "5"]), SHARE, {}),
    ("row 3: the id '5' has no prediction", binary(IDS[:3], P[:3]), SHARE, {}),
    ("row 1: the id '3' has 2 predictions", binary([*IDS, "3"], torch.tensor([0.1] * 5)), SHARE, {}),
    ("prediction 4 is of '99'", binary([*IDS, "99"], torch.tensor([0.1] * 5)), SHARE, {}),
    ("row 0: the id 'seven' has no prediction", binary(), SHARE.replace("7,", "seven,"), {}),
    ("row 0 .*'label' is nan", binary(p=torch.tensor([NAN, 0.2, 0.3, 0.4])), SHARE, {}),
    ("row 2 .*'label' is inf", binary(p=torch.tensor([0.1, 0.2, INF, 0.4])), SHARE, {}),
    ("row 1 .*'label' is 1.2", binary(p=torch.tensor([0.1, 1.2, 0.3, 0.4])), SHARE, {}),
    ("row 3 .*'label' is -0.4", binary(p=torch.tensor([0.1, 0.2, 0.3, -0.4])), SHARE, {}),
    ("row 1 .*add up to 0.9 instead", changed(1, [0.2, 0.5, 0.2]), CLASSES, {}),
    ("row 2 .*add up to 3 instead", changed(2, [1, 1, 1]), CLASSES, {}),
    ("row 0 .*'bee' is nan", changed(0, [0.5, NAN, 0.5]), CLASSES, {}),
    ("row 3 .*'cow' is 1.5", changed(3, [-0.25, -0.25, 1.5]).__class__.of(
        three().task, torch.tensor([[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1], [0, -0.0, 1.5]]), IDS), CLASSES, {}),
    ("'wasp'", three(), CLASSES.replace("bee", "wasp"), {}),
    ("'cow'", three(), "id,ant,bee\n7,0,0\n3,0,0\n12,0,0\n5,0,0\n", {}),
    ("'dog'", three(), "id,ant,bee,cow,dog\n7,0,0,0,0\n3,0,0,0,0\n12,0,0,0,0\n5,0,0,0,0\n", {}),
    ("ids and at least one column", binary(), "id\n7\n3\n12\n5\n", {}),
    ("row 2: the id is missing", binary(), SHARE.replace("12,", ","), {}),
    ("row 3: the id '7' was in row 0 already", binary(), SHARE.replace("\n5,", "\n7,"), {}),
    ("holds one probability, and there are 3 classes", three(), SHARE, {}),
    ("neither one of the classes", binary(), SHARE.replace("0.5", "wolf"), {}),
    ("may be a class or a probability", binary(names=("0", "1")), SHARE.replace("0.5", "0"), {}),
    ("'wolf'", binary(), SHARE, {"positive": "wolf"}),
    ("value is one of", binary(), SHARE, {"value": "logit"}),
    ("row 1 .*'label' is nan", own(label=[1.0, None, 0.5, 0.5]), SHARE, {}),
    ("row 2 .*'label' is inf", own(label=[1.0, 0.5, INF, 0.5]), SHARE, {}),
    ("row 3 .*'label' is empty", own(label=["a", "b", "c", " "]), SHARE, {}),
    ("columns .*'target'", own(target=[1, 2, 3, 4]), SHARE, {}),
    ("columns", own(label=[1, 2, 3, 4], more=1), SHARE, {}),
    ("Predictions.*or a table, got list", [0.5] * 4, SHARE, {}),
    ("'Sales', 'Customers'", Predictions.of(el.regression(["Sales", "Customers"]), torch.zeros(4, 2), IDS), SHARE, {}),
    ("row 1 .*'label' is nan", Predictions.of(
        el.regression(["Sales"]), torch.tensor([[1.0], [NAN], [2], [3]]), IDS), SHARE, {}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "given", "text", "how"), BROKEN)
def test_broken_submissions_are_refused(words: str, given: Any, text: str, how: dict[str, Any], tmp_path: Path) -> None:
    before = tmp_path / "submission.csv"
    before.write_text("whole", encoding="utf-8")
    with pytest.raises(EasyLearnError, match=words):
        submit(given, sample(tmp_path, text), before, **how)
    assert before.read_text(encoding="utf-8") == "whole"


def test_there_are_at_least_thirty() -> None:
    assert len(BROKEN) >= 30


# -- pseudo_label ----------------------------------------------------------------------------------------------


def test_labels_that_the_models_are_sure_of() -> None:
    y = torch.arange(8) % 2
    plan = el.folds(8, 2, seed=0)
    test = two_columns(torch.tensor([0.99, 0.5, 0.02, 0.94]))
    parts = {0: Predictions.of(el.single_label(["no", "yes"]), test.flip(1), [f"t{k}" for k in range(4)])}
    crossed = by_hand(plan, two_columns(y), y, test=test, parts=parts)
    found = pseudo_label(crossed)
    assert found.id.tolist() == ["t0", "t2"] and found.label.tolist() == ["yes", "no"]
    assert found.probability.tolist() == pytest.approx([0.99, 0.98])
    assert pseudo_label(crossed, 0.9).id.tolist() == ["t0", "t2", "t3"]
    with pytest.raises(ArgumentError, match=r"cross_fit.*got Predictions"):
        pseudo_label(crossed.oof)  # type: ignore[arg-type]
    assert pseudo_label(crossed, fold=0).label.tolist() == ["no", "yes"]
    with pytest.raises(ArgumentError, match="no fold 5"):
        pseudo_label(crossed, fold=5)
    with pytest.raises(ArgumentError, match="at_least"):
        pseudo_label(crossed, 95)
    with pytest.raises(DataError, match="test=True"):
        pseudo_label(by_hand(plan, two_columns(y), y))


def test_each_of_several_labels_has_to_be_sure() -> None:
    task, plan, y = el.multi_label(["haze", "road"]), el.folds(4, 2), torch.ones(4, 2)
    test = torch.tensor([[0.99, 0.01], [0.99, 0.5], [0.99, 0.99]])
    found = pseudo_label(by_hand(plan, torch.ones(4, 2), y, task=task, test=test))
    assert found.id.tolist() == ["t0", "t2"] and found.label.tolist() == ["haze", "haze road"]
    numbers = by_hand(plan, y[:, :1], y[:, :1], task=el.regression(["h"]), test=test[:, :1])
    with pytest.raises(ArgumentError, match="these are numbers"):
        pseudo_label(numbers)


# -- snapshots -------------------------------------------------------------------------------------------------


def test_snapshots_are_the_mean_of_the_ends_of_cycles(tmp_path: Path) -> None:
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    data = el.TensorData((x[:30], y[:30]), (x[30:], y[30:]), el.single_label(["a", "b"]), batch_size=8)
    learn = Learner(data, torch.nn.Linear(3, 2), path=tmp_path, progress=False)
    with pytest.raises(DataError, match="save_cycles='cycle'"):
        snapshots(learn)
    learn.fit(0.1, 3, cycle_len=1, save_cycles="cycle")
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    found = snapshots(learn)
    assert all(torch.equal(v, before[k]) for k, v in learn.model.state_dict().items())
    each = [learn.load(f"cycle_{k}").predict().probs for k in range(3)]
    assert torch.allclose(found.probs, torch.stack(each).mean(0)) and len(found.views) == 3
    assert np.ptp([float(p[0, 0]) for p in each]) > 0


def test_a_sample_without_rows_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sample\.csv has no rows"):
        submit(binary(), sample(tmp_path, "id,label\n"), tmp_path / "out.csv", value="label")


@pytest.mark.parametrize(
    ("task", "probs"),
    [
        (masks(["no", "yes"]), torch.full((4, 2, 3, 3), 0.5)),
        (boxes(["no", "yes"]), torch.rand(4, 2, 6)),
        (ranking(["no", "yes"]), torch.full((4, 2), 0.5)),
    ],
)
def test_what_are_no_classes_of_items(task: Any, probs: torch.Tensor, tmp_path: Path) -> None:
    said = Predictions.of(task, probs, IDS)
    crossed = by_hand(el.folds(20, 2), torch.full((20, 2), 0.5), torch.tensor([0, 1] * 10))
    with pytest.raises(ArgumentError, match=f"these are {task.kind}"):
        pseudo_label(replace(crossed, test=said), 0.5)
    file = sample(tmp_path, "id,no,yes\n" + "".join(f"{i},0,0\n" for i in IDS))
    if task.kind == "ranking":
        assert lines(submit(said, file, tmp_path / "out.csv"))[1] == "7,0.5,0.5"
    else:
        with pytest.raises(ArgumentError, match=f"these are {task.kind}"):
            submit(said, file, tmp_path / "out.csv")
