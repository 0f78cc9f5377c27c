"""MaskData: masks beside their images, in every form they come in, and refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from easylearn.errors import ArgumentError, DataError
from easylearn.losses import VOID
from easylearn.vision.augment import Dihedral, Flip, Rotate
from easylearn.vision.masks import MaskData

CPU = torch.device("cpu")
CODES = ["back", "thing"]


def scene(k: int, h: int = 24, w: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """A bright block on dark ground, and its mask."""
    mask = np.zeros((h, w), np.uint8)
    top, left = (5 * k) % (h // 2), (7 * k) % (w // 2)
    mask[top : top + h // 3, left : left + w // 3] = 1
    return np.repeat((mask * 150 + 50 + k)[..., None], 3, 2).astype(np.uint8), mask


def write(folder: Path, names: range, suffix: str = "") -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for k in names:
        image, mask = scene(k)
        Image.fromarray(image).save(folder / "images" / f"{k}.jpg", quality=95)
        Image.fromarray(mask).save(folder / "masks" / f"{k}{suffix}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "train", range(8))
    write(tmp_path / "valid", range(8, 12))
    write(tmp_path / "test", range(12, 14))
    (tmp_path / "codes.csv").write_text("value,name\n0,back\n1,thing\n")
    return tmp_path


def arrays(n: int = 10) -> tuple[np.ndarray, np.ndarray]:
    x, y = zip(*map(scene, range(n)), strict=True)
    return np.stack(x), np.stack(y)


def test_from_folders_of_splits(root: Path) -> None:
    data = MaskData.from_folder(root, size=(24, 32), codes="codes.csv", batch_size=4)
    assert data.splits == ("train", "valid", "test") and data.classes == ("back", "thing")
    assert data.ids("valid") == (
        "valid/images/10.jpg",
        "valid/images/11.jpg",
        "valid/images/8.jpg",
        "valid/images/9.jpg",
    )
    assert torch.equal(data.target("train"), torch.from_numpy(np.stack([scene(k)[1] for k in range(8)])))
    batch = next(data.loader("valid").batches(CPU))
    assert batch.inputs[0].shape == (4, 3, 24, 32) and batch.target.shape == (4, 24, 32)
    assert "train: 8 (back" in repr(data) and "24x32, pad, batches of 4" in repr(data)


def test_from_one_folder_and_a_fraction(tmp_path: Path) -> None:
    write(tmp_path, range(10), suffix="_mask")
    data = MaskData.from_folder(tmp_path, size=16, codes=CODES, valid=0.2, suffix="_mask")
    assert [len(data.ids(s)) for s in data.splits] == [8, 2]
    without = MaskData.from_folder(tmp_path, size=16, codes=CODES, valid=None, suffix="_mask")
    assert without.splits == ("train",)


def test_images_to_predict_may_lack_masks(root: Path) -> None:
    for mask in (root / "test" / "masks").iterdir():
        mask.unlink()
    (root / "test" / "masks").rmdir()
    data = MaskData.from_folder(root, size=16, codes=CODES)
    assert data.target("test") is None and next(data.loader("test").batches(CPU)).target is None
    assert MaskData.from_folder(root, size=16, codes=CODES, test=False).splits == ("train", "valid")


def test_tables(root: Path) -> None:
    rows = [(f"images/{k}.jpg", f"masks/{k}.png", f"film{k // 2}") for k in range(8)]
    frame = pd.DataFrame(rows, columns=["file", "mask", "film"])
    frame.to_csv(root / "train" / "list.csv", index=False)
    a = MaskData.from_csv(root / "train", "list.csv", size=16, codes=CODES, valid=[0, 3])
    b = MaskData.from_df(frame, root / "train", size=16, codes=CODES, valid=[0, 3], groups=None)
    assert a.ids("valid") == b.ids("valid") == ("images/0.jpg", "images/3.jpg")
    assert torch.equal(a.target("valid"), b.target("valid"))
    grouped = MaskData.from_df(frame, root / "train", size=16, codes=CODES, valid=0.25, groups="film")
    films = [{rows[int(Path(i).stem)][2] for i in grouped.ids(s)} for s in grouped.splits]
    assert not films[0] & films[1]
    for wrong in ({"mask_col": "maks"}, {"mask_col": 7}):
        with pytest.raises(ArgumentError, match=r"^mask_col="):
            MaskData.from_csv(root / "train", "list.csv", size=16, codes=CODES, **wrong)
    with pytest.raises(ArgumentError, match=r"^mask_col="):
        MaskData.from_df(frame[["file"]], root / "train", size=16, codes=CODES)
    frame.loc[2, "mask"] = "masks/none.png"
    with pytest.raises(DataError, match=r"row 2.*none\.png"):
        MaskData.from_df(frame, root / "train", size=16, codes=CODES)
    numbered = frame.assign(mask=range(8))
    how = {"codes": CODES, "mask_folder": "masks", "mask_suffix": ".png", "valid": [0, 3], "size": 16}
    c = MaskData.from_df(numbered, root / "train", **how)
    assert torch.equal(c.target("valid"), a.target("valid"))
    with pytest.raises(DataError, match=r"row 5.*names no mask"):
        MaskData.from_df(numbered.assign(mask=[0, 1, 2, 3, 4, None, 6, 7]), root / "train", **how)


def test_arrays() -> None:
    x, y = arrays()
    data = MaskData.from_arrays((x[:8], y[:8]), (x[8:], y[8:]), x[:2], codes=CODES)
    assert data.size == (24, 32) and torch.equal(data.target("valid"), torch.from_numpy(y[8:]))
    binary = MaskData.from_arrays((x, y * 255), codes=None, binary=True)
    assert binary.task.values == (0, 255) and binary.classes == ("background", "object")
    with pytest.raises(DataError, match="10 images but 9 masks"):
        MaskData.from_arrays((x, y[:9]), codes=CODES)
    with pytest.raises(DataError, match=r"the mask of train\[\d\].*24 x 31"):
        MaskData.from_arrays((x, y[:, :, :31]), codes=CODES)


def test_another_size_reads_the_masks_anew() -> None:
    x, y = arrays()
    data = MaskData.from_arrays((x, y), codes=CODES)
    small = data.resized((12, 16))
    assert small.target("train").shape == (8, 12, 16) and data.target("train").shape == (8, 24, 32)
    assert torch.equal(small.resized((24, 32)).target("train"), data.target("train"))


def test_what_is_around_an_image_is_void() -> None:
    x, y = arrays()
    data = MaskData.from_arrays((x, y), size=(32, 32), codes=CODES)
    target = data.target("train")
    assert (target[:, :4] == VOID).all() and (target[:, 28:] == VOID).all() and (target[:, 4:28] != VOID).all()


@pytest.mark.parametrize("augment", ["side_on", [Flip(1.0)], [Dihedral(), Rotate(20.0)]])
def test_masks_move_with_their_images(augment: Any) -> None:
    x, y = arrays(16)
    data = MaskData.from_arrays((x, y), codes=CODES, augment=augment, valid=None, batch_size=16)
    for epoch in range(2):
        batch = next(data.loader("train", training=True).batches(CPU, 0, epoch))
        bright = data.batch_stage.denormalise(batch.inputs[0]).mean(1) > 0.5
        assert ((batch.target == 1) == bright).float().mean() > 0.97


def test_views_are_exact_and_can_be_undone() -> None:
    x, y = arrays()
    data = MaskData.from_arrays((x, y), codes=CODES, augment=[Dihedral(), Rotate(20.0)], size=(24, 24), method="squash")
    how = data.preprocessor
    assert how.n_views == 7
    plain = next(data.loader("valid").batches(CPU)).inputs[0]
    for k in range(1, 8):
        view = next(data.loader("valid", view=k).batches(CPU)).inputs[0]
        assert not torch.equal(view, plain)
        torch.testing.assert_close(how.undo_view(k, view), plain)
    assert MaskData.from_arrays((x, y), codes=CODES, augment=[Rotate(20.0)]).has_views is False
    assert MaskData.from_arrays((x, y), codes=CODES, augment="side_on").preprocessor.n_views == 1


def test_a_class_that_only_validation_has_is_refused() -> None:
    x, y = arrays()
    y[9, 0, 0] = 2
    with pytest.raises(DataError, match=r"valid masks.*rare.*valid\[1\]"):
        MaskData.from_arrays((x[:8], y[:8]), (x[8:], y[8:]), codes=[*CODES, "rare"])
    data = MaskData.from_arrays((x[2:], y[2:]), (x[:2], y[:2]), codes=[*CODES, "rare"])
    assert data.task.count_classes(data.target("train"))[2] == 1


def test_masks_take_a_byte_for_each_pixel_while_they_are_read_too() -> None:
    import tracemalloc

    x, y = np.zeros((2, 512, 512), np.uint8), np.zeros((2, 512, 512), np.uint8)
    y[:, :, 256:] = 1
    many = [k % 2 for k in range(24)]
    tracemalloc.start()
    data = MaskData.from_arrays(([x[k] for k in many], [y[k] for k in many]), codes=CODES, valid=None, size=512)
    data.fingerprint("train")
    peak = tracemalloc.get_traced_memory()[1]  # of NumPy, while torch holds the masks
    tracemalloc.stop()
    assert data.target("train").numel() == 24 * 512 * 512 and peak < 24 * 512 * 512


def test_masks_without_any_class_are_refused() -> None:
    x, y = arrays()
    with pytest.raises(DataError, match="train has images alone"):
        MaskData.from_arrays((x, None), codes=CODES)
    with pytest.raises(DataError, match="all of them are void"):
        MaskData.from_arrays((x, np.full_like(y, 255)), codes=CODES, void=255)


def test_masks_of_one_class_are_refused() -> None:
    x, y = arrays()
    with pytest.raises(DataError, match="all known pixels of the training masks are 'back', so there is nothing"):
        MaskData.from_arrays((x, y * 0), codes=CODES, batch_size=2)
    y[:6] = 0  # of some images they may be
    assert MaskData.from_arrays((x, y), valid=[0, 1], codes=CODES, batch_size=2).classes == tuple(CODES)


def test_missing_and_doubled_masks_are_named(root: Path) -> None:
    Image.fromarray(scene(3)[1]).save(root / "train" / "masks" / "3.bmp")
    with pytest.raises(DataError, match=r"two masks of one name.*3\.bmp.*3\.png"):
        MaskData.from_folder(root, codes=CODES)
    (root / "train" / "masks" / "3.bmp").unlink()
    (root / "train" / "masks" / "3.png").unlink()
    with pytest.raises(DataError, match=r"3\.jpg has no mask.*suffix="):
        MaskData.from_folder(root, codes=CODES)
    with pytest.raises(DataError, match="labels"):
        MaskData.from_folder(root, codes=CODES, masks="labels")
    with pytest.raises(DataError, match=r"no folder 'train'.*valid=0\.2"):
        MaskData.from_folder(root / "valid", codes=CODES)


def test_a_value_that_is_no_class_names_its_file(root: Path) -> None:
    mask = scene(5)[1]
    mask[2, 3] = 9
    Image.fromarray(mask).save(root / "train" / "masks" / "5.png")
    with pytest.raises(DataError, match=r"train/masks/5\.png.*\(9\).*row 2, column 3"):
        MaskData.from_folder(root, codes=CODES)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "crop"}, "whole image"),
        ({"crop_pct": 0.9}, "whole image"),
        ({"task": "regression"}, "one task"),
        ({"weights": "balanced"}, "by class"),
        ({"code": CODES}, "codes"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        MaskData.from_arrays(arrays(), **{"codes": CODES, **options})


def test_fingerprints_follow_masks_and_keys_follow_images() -> None:
    x, y = arrays()
    a = MaskData.from_arrays((x, y), codes=CODES, valid=None)
    other = y.copy()
    other[0, 20, 30] = 1
    b = MaskData.from_arrays((x, other), codes=CODES, valid=None)
    assert a.fingerprint("train") != b.fingerprint("train") and a.item_keys("train") == b.item_keys("train")


def test_batches_and_items_are_drawn() -> None:
    data = MaskData.from_arrays(arrays(), codes=CODES, augment="side_on")
    assert len(data.show_batch(4).axes) >= 4
    from easylearn.analysis.plots import new_figure

    axes = new_figure(3, 3).add_subplot()
    data.draw_item("valid", 0, axes)
    data.draw_said("valid", 0, torch.rand(2, 6, 8).softmax(0), axes)
    assert len(axes.images) == 3
