"""audit: what is planted is found by name, clean data is not blamed; examples/benchmarks/leaks.py plants fifty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

import easylearn as el
from easylearn.errors import ArgumentError
from easylearn.experiment.audit import Audit, _view, audit
from easylearn.experiment.contents import pairs_alike, settle_files, texts_alike

N = 90  # below 100 no model of the splits is fitted, which takes a second


def table(seed: int = 0, n: int = N) -> pd.DataFrame:
    r = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": r.integers(20, 90, n), "kind": r.choice(list("abcde"), n), "dose": r.normal(size=n)})
    frame["ill"] = r.integers(0, 2, n)
    return frame


def kinds(found: Audit) -> set[str]:
    return {one.kind for one in found.findings}


def named(found: Audit, kind: str) -> set[frozenset[str]]:
    return {frozenset(names) for one in found.findings if one.kind == kind for names in one.items}


PLAN = el.folds(N, 5, seed=1)
FOLD = np.empty(N, np.int64)
for _fold, (_, _valid) in enumerate(PLAN):
    FOLD[_valid] = _fold


@pytest.mark.parametrize("seed", range(3))
def test_clean_data_is_not_blamed(seed: int) -> None:
    found = audit(table(seed), el.folds(N, 5, seed=seed), target="ill")
    assert found.findings == () and str(found) == "nothing was found that would make a score too good"


def test_copied_rows_that_lie_on_both_sides() -> None:
    frame = table()
    i, same, other = 0, int(np.flatnonzero(FOLD[0] == FOLD)[1]), int(np.flatnonzero(FOLD[0] != FOLD)[0])
    columns = ["age", "kind", "dose"]  # the target may differ: it is the same patient all the same
    frame.loc[same, columns] = frame.loc[i, columns]
    assert "equal items" not in kinds(audit(frame, PLAN, target="ill", cheap=True))  # one fold holds both
    frame.loc[other, columns] = frame.loc[i, columns]
    found = audit(frame, PLAN, target="ill")
    assert frozenset((str(i), str(other))) in named(found, "equal items")
    assert frozenset((str(i), str(same))) not in named(found, "equal items")
    assert all(one.leak for one in found.findings) and "folds(..., groups=)" in str(found)


def test_one_column_of_many_values_is_enough() -> None:
    frame = table()[["kind", "dose", "ill"]]
    copied = pd.concat([frame, frame[:1]], ignore_index=True)
    plan = el.Folds(N + 1, ((np.arange(40), np.arange(40, N + 1)),))
    assert named(audit(copied, plan, target="ill", cheap=True), "equal items") == {frozenset(("0", str(N)))}


def test_rows_of_few_values_are_equal_by_chance() -> None:
    r = np.random.default_rng(0)
    frame = pd.DataFrame({"a": r.choice(list("xy"), N), "b": r.choice(list("uvw"), N), "y": r.integers(0, 2, N)})
    assert audit(frame, PLAN, target="y").findings == ()


def test_groups_on_both_sides_and_rows_from_the_future() -> None:
    frame = table()
    patients = np.arange(N) // 4
    found = audit(frame, PLAN, target="ill", groups=patients)
    assert kinds(found) == {"groups overlap"} and found.findings[0].count == 23
    assert audit(frame, el.folds(N, 5, groups=patients), target="ill", groups=patients).findings == ()
    days = pd.date_range("2024-01-01", periods=N)
    assert kinds(audit(frame, PLAN, target="ill", times=days)) == {"from the future"}
    in_time = el.folds(N, 4, times=days, gap="2D")
    assert audit(frame, in_time, target="ill", times=days).findings == ()
    train, valid = in_time[1]
    plan = el.Folds(N, ((np.r_[train, N - 1], valid),))
    assert named(audit(frame, plan, target="ill", times=days), "from the future") == {frozenset((str(N - 1),))}


def test_a_column_that_knows_the_target() -> None:
    frame = table()
    frame["code"] = np.where(frame.ill == 1, "R69", "Z00")
    frame["days_in_hospital"] = frame.ill * 3 + np.random.default_rng(0).random(N)
    found = audit(frame, PLAN, target="ill")
    assert named(found, "column too good") == {frozenset(("code",)), frozenset(("days_in_hospital",))}
    numbers = table().assign(price=lambda d: d.dose * 2 + 1)
    assert named(audit(numbers, PLAN, target="price"), "column too good") == {frozenset(("dose",))}
    assert kinds(audit(frame, PLAN, target="ill", cheap=True)) == set()


def test_an_order_that_tells_the_target() -> None:
    frame = table().sort_values("ill", ignore_index=True)
    found = audit(frame, PLAN, target="ill", cheap=True)
    assert kinds(found) == {"order"} and found.leaks == ()
    rising = table().sort_values("dose", ignore_index=True)
    assert kinds(audit(rising, PLAN, target="dose", cheap=True)) == {"order"}


def test_a_test_split_that_is_of_another_kind() -> None:
    frame, other = table(n=200), table(1, n=200)
    plan = el.folds(200, 5)
    assert audit(frame, plan, target="ill", test=other.drop(columns="ill")).findings == ()
    other["age"] += 40
    found = audit(frame, plan, target="ill", test=other.drop(columns="ill"))
    assert kinds(found) == {"splits differ"} and "the test split" in str(found) and found.leaks == ()
    copied = pd.concat([other.iloc[1:], frame.iloc[[5]]], ignore_index=True).drop(columns="ill")
    assert frozenset(("5", "test 199")) in named(audit(frame, plan, target="ill", test=copied), "equal items")


def test_data_of_tables_is_compared_as_its_rows_are() -> None:
    frame = table()
    frame.loc[int(PLAN[0][1][0])] = frame.loc[int(PLAN[0][0][0])]
    pair = frozenset((str(PLAN[0][1][0]), str(PLAN[0][0][0])))
    columns: Any = {"cat_names": ["kind"], "cont_names": ["age", "dose"]}
    data = el.TabularData.from_df(frame, "ill", valid=PLAN[0][1], task="single_label", **columns)
    assert named(audit(data), "equal items") == named(audit(data, PLAN), "equal items") == {pair}
    whole = el.TabularData.from_df(frame, "ill", valid=None, task="single_label", **columns)
    assert named(audit(whole, PLAN), "equal items") == {pair}


# -- images ----------------------------------------------------------------------------------------------------


def photo(seed: int) -> Image.Image:
    r = np.random.default_rng(seed)
    pixels = np.full((72, 96, 3), 128.0)
    for cells in (2, 4, 8):
        cloud = Image.fromarray(r.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += (np.asarray(cloud.resize((96, 72), Image.Resampling.BICUBIC), np.float64) - 128) / cells**0.5
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images, and copies of the first ones after them."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(40):
        photo(i).save(folder / f"{i}.jpg", quality=92)
    (folder / "copied.jpg").write_bytes((folder / "0.jpg").read_bytes())
    photo(1).resize((64, 48), Image.Resampling.LANCZOS).save(folder / "resized.jpg", quality=90)
    photo(2).save(folder / "recompressed.jpg", quality=35)
    ImageOps.mirror(photo(3)).save(folder / "mirrored.jpg", quality=92)
    return folder


def images(folder: Path, names: list[str], valid: Any) -> el.ImageData:
    return el.ImageData.from_names(folder, names, ["ab"[k % 2] for k in range(len(names))], 48, valid=valid, workers=0)


def test_copies_of_images_are_found_and_no_others(photos: Path) -> None:
    copies = ["copied.jpg", "resized.jpg", "recompressed.jpg", "mirrored.jpg"]
    names = [f"{i}.jpg" for i in range(40)] + copies
    plan = el.Folds(44, ((np.arange(22), np.arange(22, 44)),))
    data = images(photos, names, plan[0][1])
    found = audit(data, plan)
    assert named(found, "equal items") == {frozenset(("0.jpg", "copied.jpg"))}
    near = {frozenset((f"{k}.jpg", copies[k])) for k in (1, 2, 3)}
    assert named(found, "near duplicates") == near
    assert kinds(audit(data, plan, cheap=True)) == {"equal items"}
    assert list(found.table().columns) == ["kind", "leak", "count", "text", "items"]


def test_clean_images_are_not_blamed(photos: Path) -> None:
    names = [f"{i}.jpg" for i in range(40)]
    plan = el.folds(40, 4, seed=1)
    assert audit(images(photos, names, plan[2][1]), plan).findings == ()


def test_the_fold_of_the_data_is_found_or_asked_for(photos: Path) -> None:
    names, plan = ["copied.jpg"] + [f"{i}.jpg" for i in range(39)], el.folds(40, 4, seed=1)
    pair = {frozenset(("0.jpg", "copied.jpg"))}
    for fold, (_, valid) in enumerate(plan):  # whose names are not in order
        data = images(photos, names, valid)
        with pytest.raises(ArgumentError, match=r"4 folds of .* have the sizes of the data: say which it is, fold=0"):
            audit(data, plan)
        assert named(audit(data, plan, fold=fold), "equal items") == pair
    named_well = [f"{i}.jpg" for i in range(40)]
    for _, valid in plan:
        view = _view(images(photos, named_well, valid), plan, None, None, None, True)
        assert view.items.ids == named_well


def test_images_without_contrast_are_alike_by_nothing(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(12)]
    for i, name in enumerate(names):
        gray = np.full((40 + i, 40, 3), 20 * i, np.uint8)
        Image.fromarray(gray).save(tmp_path / name)
    plan = el.folds(12, 2, seed=1)
    assert audit(images(tmp_path, names, plan[0][1]), plan).findings == ()


def test_files_of_a_size_of_their_own_are_not_read(tmp_path: Path) -> None:
    for name, content in (("a", b"12"), ("b", b"34"), ("c", b"12"), ("d", b"567")):
        (tmp_path / name).write_bytes(content)
    keys = settle_files([f"{len(c)}:{tmp_path / n}" for n, c in (("a", "12"), ("b", "34"), ("c", "12"), ("d", "567"))])
    assert keys[0] == keys[2] and len(set(keys)) == 3 and keys[3] == f"3:{tmp_path / 'd'}"


def test_images_alike_are_those_of_all_pairs() -> None:
    r = np.random.default_rng(0)
    gray = r.normal(size=(60, 32, 32)).astype(np.float32)
    gray[50] = gray[3] + 0.05 * r.normal(size=(32, 32))
    gray[51] = gray[4][:, ::-1]
    gray -= gray.mean((1, 2), keepdims=True)
    gray /= np.linalg.norm(gray.reshape(60, -1), axis=1)[:, None, None]
    assert pairs_alike(gray, 0.99, 0.97) == pairs_alike(gray, 0.99, 0.97, block=7) == [(3, 50), (4, 51)]


# -- texts -----------------------------------------------------------------------------------------------------

WORDS = [f"{a}{b}" for a in ("ri", "sto", "li", "gar") for b in ("ver", "ne", "ght", "den", "ter")]


def documents(n: int) -> list[str]:
    r = np.random.default_rng(0)
    return [" ".join(r.choice(WORDS, 60)) for _ in range(n)]


def test_texts_that_are_nearly_the_same() -> None:
    docs = documents(30)
    docs.append(docs[4].capitalize().replace(" ", "  ") + "!")  # the same words
    changed = docs[7].split()
    changed[20] = "other"
    docs.append(" ".join(changed))
    frame = pd.DataFrame({"text": docs, "label": ["ab"[k % 2] for k in range(32)]})
    plan = el.Folds(32, ((np.arange(16), np.arange(16, 32)),))
    found = audit(el.TextData.from_df(frame, "text", "label", valid=plan[0][1]), plan)
    assert named(found, "equal items") == {frozenset(("4", "30"))}
    assert named(found, "near duplicates") == {frozenset(("7", "31"))}
    clean = el.TextData.from_df(frame[:30], "text", "label", valid=range(15, 30))
    assert audit(clean).findings == ()


def test_texts_alike_by_their_share_of_common_runs() -> None:
    a = [f"w{k}" for k in range(40)]
    half = a[:20] + [f"v{k}" for k in range(20)]
    assert texts_alike([a, half, [*a[:39], "x"]], 0.7) == [(0, 2)]


# -- what does not fit -----------------------------------------------------------------------------------------


def test_arguments() -> None:
    frame = table()
    with pytest.raises(ArgumentError, match="give the plan"):
        audit(frame)
    with pytest.raises(ArgumentError, match="of 90 items, and the table has 89 rows"):
        audit(frame[1:], PLAN)
    with pytest.raises(ArgumentError, match=r"no column 'il'. Did you mean 'ill'"):
        audit(frame, PLAN, target="il")
    with pytest.raises(ArgumentError, match="groups must have one entry per item: got 3 for 90"):
        audit(frame, PLAN, groups=[1, 2, 3])
    with pytest.raises(ArgumentError, match="data, a learner or a table, got list"):
        audit([1, 2], PLAN)  # type: ignore[arg-type]
    x = torch.randn(20, 3)
    data = el.TensorData((x, torch.arange(20) % 2), None, el.single_label(["a", "b"]))
    with pytest.raises(ArgumentError, match="no validation split to compare with"):
        audit(data)
    with pytest.raises(ArgumentError, match="no fold of Folds"):
        audit(data, el.folds(30, 3))
    with pytest.raises(ArgumentError, match="target= and test= are for a table"):
        audit(data, el.folds(20, 2), target="y")


def test_cells_that_hold_lists_or_dictionaries_are_compared_by_what_is_in_them() -> None:
    n = 40
    frame = pd.DataFrame({"a": np.arange(n) + 0.5, "y": ["u", "v"] * (n // 2)})
    frame["tags"] = [[f"t{i}", "x"] for i in range(n)]
    frame["more"] = [{"k": i} if i else None for i in range(n)]
    frame.loc[n - 1, "a"] = 0.5
    frame.at[n - 1, "tags"], frame.at[n - 1, "more"] = ["t0", "x"], None
    found = audit(frame, el.folds(n, 4, seed=0), target="y")
    assert [(one.kind, one.items) for one in found.leaks] == [("equal items", (("0", str(n - 1)),))]
    frame["y"] = [[label] for label in frame["y"]]
    assert audit(frame, el.folds(n, 4, seed=0), target="y").leaks == found.leaks
