"""What is said of pixels and boxes, at the file's own size: by NumPy as by torch, by either engine, in JSON and PNG."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from easylearn.errors import WeightsError
from easylearn.learning import Learner
from easylearn.placement import Placement, palette
from easylearn.serve import maps
from easylearn.serve.app import Models, asgi
from easylearn.serve.build import build
from easylearn.serve.engine import OnnxEngine, Whole
from easylearn.serve.maps import image_of, mask_of, png_of
from easylearn.serve.opening import open_engine
from easylearn.serve.pixels import PixelReader
from easylearn.serve.refusals import Limits
from easylearn.task.mask_predictions import placed, strongest
from easylearn.vision.boxes_preprocess import BoxPreprocessor
from easylearn.vision.image2image import make_image
from tests.learners import boxes, exported, made_images, masks, scenes
from tests.serve.asking import ask, ask_async, photo

JSON_TOO = "application/json, image/png"


def png(pixels: np.ndarray) -> bytes:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG")
    return held.getvalue()


X, _, _ = scenes()
PLAIN = [png(X[17]), png(X[18][:, :30]), png(X[19][:20])]  # of the model's size, or cut: nothing is resized
SIZED = [png(X[20].repeat(3, 0).repeat(3, 1)), png(np.tile(X[21], (1, 3, 1))), png(X[22][::2, ::2])]


@pytest.fixture(scope="module")
def trained() -> Mapping[str, Learner]:
    how: dict[str, Any] = {"progress": False, "device": "cpu"}
    made = {make: made_images(make, **how) for make in ("colour", "pairs", "sharp")}
    made |= {"masks": masks(**how), "squashed": masks("squash", **how), "boxes": boxes(**how)}
    for name in ("masks", "squashed", "colour"):
        made[name].fit_one_cycle(3e-2, 6)
    made["boxes"].unfreeze()
    made["boxes"].fit_one_cycle(1e-2, 25)
    made["boxes"].task = made["boxes"].task.with_threshold(0.05)
    return made


@pytest.fixture(scope="module")
def files(trained: Mapping[str, Learner], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(trained, tmp_path_factory.mktemp("dense"))


def opened(file: Path) -> Any:
    engine = open_engine(file, Limits())
    engine.check()
    return engine


@pytest.mark.parametrize("file", ["masks.onnx", "masks.easylearn", "colour.onnx"])
def test_maps_that_changed_are_found_by_some_of_their_numbers(file: str, files: Path) -> None:
    engine = opened(files / file)
    probs = np.array(engine.stored["probs"])
    assert probs.size < 5000
    engine.stored = {**engine.stored, "probs": (probs + 0.002 * np.maximum(1, np.abs(probs))).tolist()}
    with pytest.raises(WeightsError, match="other numbers"):
        engine.check()


# -- NumPy beside torch


sides = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(st.tuples(sides, sides), st.tuples(st.integers(4, 24), st.integers(4, 24)), st.booleans(), st.integers(0, 99))
def test_maps_are_enlarged_as_torch_does_it(
    shape: tuple[int, int], frame: tuple[int, int], squash: bool, seed: int
) -> None:
    place = Placement.whole(shape, frame, squash)
    r = np.random.default_rng(seed)
    probs = r.dirichlet(np.ones(4), (max(1, frame[0] // 4), max(1, frame[1] // 3))).transpose(2, 0, 1)
    x = torch.from_numpy(probs.astype(np.float32))
    wanted = placed(x, place)
    mask = mask_of(probs, place)
    assert mask.shape == shape and mask.dtype == np.uint8
    chosen = wanted.gather(0, torch.from_numpy(mask).long()[None])[0]
    assert (wanted.max(0).values - chosen).max() < 1e-5  # another class only where both are as probable
    assert (mask == strongest(x, place)[1].numpy()).mean() > 0.97 or mask.size < 40
    found = image_of(probs[:3], place)
    assert np.abs(found - wanted[:3].permute(1, 2, 0).numpy() * 255).max() < 0.51


@pytest.mark.parametrize(
    ("shape", "frame", "squash", "n"),
    [((90, 140), (16, 24), False, 1000), ((1100, 64), (8, 4), True, 512), ((2, 5000), (8, 8), True, 100)],
)
def test_a_large_mask_is_made_some_pixels_at_a_time(
    shape: tuple[int, int], frame: tuple[int, int], squash: bool, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Placement.whole(shape, frame, squash)
    probs = np.random.default_rng(0).random((3, 8, 6))  # as many rows as are made at once, at the edge of the second
    whole = mask_of(probs, place), image_of(probs, place)
    monkeypatch.setattr("easylearn.serve.maps._AT_ONCE", n)
    seen: list[int] = []
    lerp = maps._lerp
    monkeypatch.setattr(maps, "_lerp", lambda *given: seen.append((made := lerp(*given)).size) or made)
    assert all(
        np.array_equal(a, b) for a, b in zip(whole, (mask_of(probs, place), image_of(probs, place)), strict=True)
    )
    assert max(seen) <= 3 * max(n, 16 * 24)  # a row of forty million pixels, for each class, would fill memory


def test_a_png_has_class_numbers_and_their_colours() -> None:
    mask = np.array([[0, 1, 2], [2, 2, 254]], np.uint8)
    image = Image.open(io.BytesIO(png_of(mask)))
    assert image.mode == "P" and np.array_equal(np.asarray(image), mask)
    assert np.array_equal(np.asarray(image.convert("RGB")), palette(255)[mask])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png_of(X[0])))), X[0])


@pytest.mark.parametrize("channels", [3, 1])
def test_borders_around_images_with_boxes_are_the_mean(channels: int) -> None:
    how = BoxPreprocessor((24, 40), channels=channels)
    reader = PixelReader({**how.recipe(), **how.runtime_inputs([]).about}, 1e9)
    for data in (photo(0, (30, 90), "png"), photo(1, (40, 20), "png"), photo(2, (50, 20), "png", "L")):
        batch = next(iter(how.source(how.read(data).values).stream([np.array([0])], torch.device("cpu"))))
        wanted = how.runtime_inputs([]).undo(batch[0])[0].numpy().astype(int)
        assert np.abs(reader(data) - wanted).max() <= 2 and (reader(data) != wanted).mean() < 0.3


# -- engines


@pytest.mark.parametrize("name", ["masks", "squashed"])
def test_masks_of_a_graph_are_the_learners(name: str, files: Path, trained: Mapping[str, Learner]) -> None:
    learn, engine = trained[name], opened(files / f"{name}.onnx")
    for data in PLAIN:
        said, seen = learn.predict(data), engine.prepare(data)
        if name == "squashed" and data is not PLAIN[0]:
            continue  # resized by Pillow here
        raw = engine.run_inputs({"pixels": seen.pixels})[0]
        assert np.abs(raw - said.probs.numpy()).max() < 1e-4
        mask = engine.run([engine.prepare(Whole(data))])[0]
        assert set(np.unique(mask)) == {0, 1, 2} and np.array_equal(mask, said.mask)
    for data in SIZED:
        mask = engine.run([engine.prepare(Whole(data))])[0]
        said = learn.predict(data)
        assert mask.shape == said.mask.shape and (mask == said.mask).mean() > 0.98
        assert engine.answer(engine.run([engine.prepare(data)])[0])["label"] == list(said.label)


def test_boxes_of_a_graph_are_the_learners(files: Path, trained: Mapping[str, Learner]) -> None:
    learn, engine = trained["boxes"], opened(files / "boxes.onnx")
    seen = 0
    for data in PLAIN + SIZED:
        told = engine.answer(engine.run([engine.prepare(data)])[0])["boxes"]
        wanted = learn.predict(data).to_frame()
        seen += len(wanted)
        if data in PLAIN:
            assert len(told) == len(wanted)
        for box in told:
            same = wanted[wanted.label == box["label"]][["xmin", "ymin", "xmax", "ymax", "score"]].to_numpy()
            off = np.abs(same - [box[k] for k in ("xmin", "ymin", "xmax", "ymax", "score")]).max(1).min()
            assert off < (1e-3 if data in PLAIN else 0.5)
    assert seen > 8


@pytest.mark.parametrize("name", ["colour", "pairs"])
def test_images_of_a_graph_are_the_learners(name: str, files: Path, trained: Mapping[str, Learner]) -> None:
    engine = opened(files / f"{name}.onnx")
    for data, most in ((PLAIN[0], 1), (PLAIN[1], 1), (SIZED[0], 6), (SIZED[1], 6)):
        image = engine.run([engine.prepare(Whole(data))])[0]
        wanted = np.asarray(make_image(trained[name], data)).astype(int)
        assert image.shape == wanted.shape and np.abs(image - wanted).max() <= most
        said = engine.answer(image)
        assert list(said["values"]) == ["red", "green", "blue"] and Image.open(
            io.BytesIO(base64.b64decode(said["image"]))
        )
    assert list(engine.answer(engine.run([engine.prepare(PLAIN[0])])[0])["values"]) == engine.names


def test_what_torch_alone_can_prepare_is_refused_in_words(files: Path) -> None:
    with pytest.raises(WeightsError, match=r"sharp.*m\.easylearn"):
        OnnxEngine(files / "sharp.onnx", Limits())


@pytest.mark.parametrize("name", ["masks", "boxes", "colour", "pairs", "sharp"])
def test_a_torch_engine_gives_the_learners_to_the_bit(name: str, files: Path, trained: Mapping[str, Learner]) -> None:
    engine, learn = opened(files / f"{name}.easylearn"), trained[name]
    for data in (PLAIN[1], SIZED[0], SIZED[1]):
        (row,) = engine.run([engine.prepare(Whole(data))])
        if name == "masks":
            assert np.array_equal(row, learn.predict(data).mask)
        elif name == "boxes":
            assert np.array_equal(row, learn.predict([data]).placed[0])
        else:
            assert np.array_equal(row, np.asarray(make_image(learn, data)))


def test_images_lie_where_their_orientation_says(files: Path) -> None:
    lying = Image.Exif()
    lying[0x0112] = 6
    data = photo(3, (60, 90), exif=lying)
    for name, suffix in (("masks", "onnx"), ("masks", "easylearn"), ("colour", "onnx"), ("pairs", "onnx")):
        engine = opened(files / f"{name}.{suffix}")
        assert engine.run([engine.prepare(Whole(data))])[0].shape[:2] == (90, 60)


# -- answers


@pytest.fixture(scope="module")
def app(files: Path) -> Any:
    names = {"roads": "masks.onnx", "torch": "masks.easylearn", "cells": "boxes.onnx", "colour": "colour.onnx"}
    return asgi({name: files / file for name, file in names.items()})


@pytest.mark.parametrize("name", ["roads", "torch"])
def test_a_mask_comes_as_png_where_it_is_asked_for(name: str, app: Any, trained: Mapping[str, Learner]) -> None:
    mask = trained["masks"].predict(PLAIN[1]).mask
    plain = ask(app, f"/predict/{name}", PLAIN[1], "image/png")
    assert "mask" not in plain.said and sum(plain.said["probs"].values()) == pytest.approx(1)
    alone = ask(app, f"/predict/{name}", PLAIN[1], "image/png", accept="image/png")
    assert alone.headers["content-type"] == "image/png"
    both = ask(app, f"/predict/{name}", PLAIN[1], "image/png", accept=JSON_TOO)
    for file in (alone.body, base64.b64decode(both.said["mask"])):
        image = Image.open(io.BytesIO(file))
        assert image.mode == "P" and np.array_equal(np.asarray(image), mask)
    shares = np.bincount(mask.reshape(-1), minlength=3) / mask.size
    assert list(both.said["probs"].values()) == pytest.approx(shares.tolist())
    assert [trained["masks"].data.classes[i] for i in np.argsort(-shares)] == both.said["label"]


def test_several_masks_come_in_json(app: Any) -> None:
    items = {"images": [base64.b64encode(f).decode() for f in (PLAIN[0], b"none", SIZED[1])]}
    said = ask(app, "/predict/roads", items, accept=JSON_TOO).said["predictions"]
    assert ["mask" in one for one in said] == [True, False, True] and "error" in said[1]
    size = Image.open(io.BytesIO(base64.b64decode(said[2]["mask"]))).size
    assert size == (144, 32)


def test_many_masks_may_have_the_pixels_of_one_image(files: Path) -> None:
    small = asgi(files / "masks.onnx", limits=Limits(max_pixels=2000))
    items = {"images": [base64.b64encode(f).decode() for f in PLAIN]}  # each less, together more
    assert ask(small, body=items).status == 200
    answer = ask(small, body=items, accept=JSON_TOO)
    assert answer.status == 413 and "2,000 pixels together" in answer.said["error"]


def test_what_cannot_be_a_png_is_refused(app: Any) -> None:
    several = {"images": [base64.b64encode(f).decode() for f in PLAIN]}
    for path, body, kind, named in (
        ("roads", json.dumps(several).encode(), "application/json", "several"),
        ("cells", PLAIN[0], "image/png", "no image"),
    ):
        answer = ask(app, f"/predict/{path}", body, kind, accept="image/png")
        assert answer.status == 406 and named in answer.said["error"]
    assert 'requests_total{status="406"} 2' in ask(app, "/metrics", method="GET").body.decode()
    assert ask(app, "/predict/roads", b"no image", "image/png", accept="image/png").status == 415
    assert "boxes" in ask(app, "/predict/cells", PLAIN[0], "image/png", accept=JSON_TOO).said
    assert "mask" not in ask(app, "/predict/roads", PLAIN[0], "image/png", accept="*/*").said


@pytest.mark.parametrize(
    ("accept", "roads", "cells"),
    [
        ("image/png", "png", 406), ("image/png;q=0", "plain", "plain"), ("image/png;q=0.0, */*", "plain", "plain"),
        ("application/json;q=0.9, image/png;q=0.1", "plain", "plain"), ("IMAGE/PNG ; Q=0.3", "png", 406),
        ("application/json;q=0.5, image/png", "png", "plain"), ("image/*, application/json", "beside", "plain"),
        ("image/avif,image/webp,image/*;q=0.8,*/*;q=0.5", "png", "plain"), ("image/png, */*", "beside", "plain"),
        ("image/png, application/json;q=0", "png", 406), ("image/*;q=0, image/png", "png", 406),
        ("image/*, image/png;q=0", "plain", "plain"), ("*/*", "plain", "plain"), ("text/html", "plain", "plain"),
        ("image/png;q=nan, application/json", "plain", "plain"), ("image/png;q=., image/*;q=x", "plain", "plain"),
        ("image/png;q=0.4;version=2, application/json;q=0.4", "beside", "plain"), (", ,image/png,", "png", 406),
        ("image/png" + ", a/b" * 9000, "png", 406),
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", "plain", "plain"),  # what Java says unasked
    ],
)  # fmt: skip
def test_weights_say_which_answer_is_wanted(accept: str, roads: str, cells: str | int, app: Any) -> None:
    def kind(name: str, body: bytes = PLAIN[0]) -> str | int:
        answer = ask(app, f"/predict/{name}", body, "image/png", accept=accept)
        if answer.headers["content-type"] == "image/png":
            return "png"
        return answer.status if answer.status != 200 else "beside" if "mask" in answer.said else "plain"

    assert (kind("roads"), kind("cells")) == (roads, cells)
    several = {"images": [base64.b64encode(f).decode() for f in PLAIN[:2]]}
    answer = ask(app, "/predict/roads", several, accept=accept)
    if cells == 406:  # which is no JSON
        assert answer.status == 406
    else:
        assert ["mask" in one for one in answer.said["predictions"]] == [roads != "plain"] * 2


def test_large_answers_are_written_one_after_the_other_and_counted(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else those that wait to be compressed, of forty million pixels each, are as many as come."""
    models = Models({"m": files / "masks.onnx"}, Limits())
    served, write = models.find("m"), threading.Event()
    app, writing, together = asgi(models), [], []

    def slowly(pixels: np.ndarray) -> bytes:
        writing.append(pixels.shape)
        together.append(len(writing))
        assert write.wait(60)
        writing.pop()
        return png_of(pixels)

    monkeypatch.setattr("easylearn.serve.app.png_of", slowly)

    async def one() -> Any:
        return await ask_async(app, "/predict/m", PLAIN[0], "image/png", accept="image/png")

    async def run() -> list[Any]:
        served.seconds = 1e-4
        first = [asyncio.create_task(one()) for _ in range(3)]
        while not writing:
            await asyncio.sleep(0.01)
        served.seconds = 1.0
        refused = [await one(), await ask_async(app, "/predict/m", PLAIN[0], "image/png")]
        live = await ask_async(app, "/v2/health/live", method="GET")
        write.set()
        return [*refused, live, *(await asyncio.gather(*first)), await one()]

    found = asyncio.run(asyncio.wait_for(run(), 100))
    assert [answer.status for answer in found] == [503, 503, 200, 200, 200, 200, 200]
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in found[:2])
    assert together == [1] * 4 and served.is_free


def test_boxes_and_images_are_answered(app: Any, trained: Mapping[str, Learner]) -> None:
    said = ask(app, "/predict/cells", PLAIN[0], "image/png").said
    assert said["boxes"] and all(set(b) == {"label", "score", "xmin", "ymin", "xmax", "ymax"} for b in said["boxes"])
    assert sum(said["values"].values()) == len(said["boxes"])
    made = ask(app, "/predict/colour", SIZED[0], "image/png", accept="image/png")
    assert Image.open(io.BytesIO(made.body)).size == (144, 96)


def test_the_page_learns_the_colours(app: Any) -> None:
    about = ask(app, "/model/roads", method="GET").said
    assert about["items"] == "images" and about["colours"] == palette(3).tolist()
    assert len(ask(app, "/model/cells", method="GET").said["colours"]) == 2
    assert "colours" not in ask(app, "/model/colour", method="GET").said


def test_the_open_protocol_gives_maps_and_boxes(app: Any) -> None:
    for name, shape in (("roads", [1, 3, 8, 12]), ("cells", [1, 100, 6])):
        pixels = {
            "name": "pixels",
            "shape": [1, 3, 32, 48],
            "datatype": "UINT8",
            "data": X[17].transpose(2, 0, 1).tolist(),
        }
        assert ask(app, f"/v2/models/{name}/infer", {"inputs": [pixels]}).said["outputs"][0]["shape"] == shape


@pytest.mark.parametrize("name", ["masks", "boxes", "colour"])
def test_a_container_needs_no_torch(name: str, files: Path, tmp_path: Path) -> None:
    build(files / f"{name}.onnx", tmp_path / "service")
    assert (tmp_path / "service" / "requirements.txt").read_text() == "easylearn-runtime\n"
