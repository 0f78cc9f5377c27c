"""Engines give the learner's numbers, from images, rows and texts as they come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import easylearn as el
from easylearn.errors import WeightsError
from easylearn.export import load_predictor
from easylearn.learning import Learner
from easylearn.serve.engine import OnnxEngine
from easylearn.serve.open_inference import metadata
from easylearn.serve.opening import open_engine
from easylearn.serve.pixels import PixelReader
from easylearn.serve.refusals import Limits, RefusedError
from easylearn.serve.rows import RowReader
from easylearn.serve.sentences import TextReader
from easylearn.vision.preprocess import ImagePreprocessor
from tests.learners import LABELS, TEXTS, several
from tests.serve.asking import photo

CPU = torch.device("cpu")
ITEMS = {
    "images": [photo(0), photo(1, (200, 90)), photo(2, form="png")],
    "table": [{"a": 0.5, "b": "x", "c": 1.0}, {"a": None, "b": "new", "c": 2.0}, {"a": 1e300, "b": None, "c": -1}],
    "ratings": [{"user": 3, "item": 4}, {"user": 99, "item": 4}],
    "histories": [["i1", "i4"], {"history": ["i2"]}, {"i1": 3, "i8": 0.5}],
    "text": ["a good film", "A BAD film!!! It isn't new, U.S. 1,000.50", ""],
}


@pytest.mark.parametrize("name", ITEMS)
def test_an_onnx_engine_gives_what_the_learner_gives(name: str, files: Path, learners: Mapping[str, Learner]) -> None:
    engine = open_engine(files / f"{name}.onnx", Limits())
    engine.check()
    prepared = [engine.prepare(item) for item in ITEMS[name]]
    together = engine.run(prepared)
    wanted = learners[name].predict(ITEMS[name]).probs.numpy()
    # An image is resized by Pillow here: 1 of 255 in two of a thousand pixels.
    assert np.allclose(together, wanted, atol=2e-3 if name == "images" else 1e-4)
    alone = np.concatenate([engine.run([one]) for one in prepared])
    assert np.allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize("name", ITEMS)
def test_a_torch_engine_gives_it_to_the_bit(name: str, files: Path) -> None:
    engine, predictor = open_engine(files / f"{name}.easylearn", Limits()), load_predictor(files / f"{name}.easylearn")
    engine.check()
    given = engine.run([engine.prepare(item) for item in ITEMS[name]])
    assert (given == predictor.predict(ITEMS[name]).probs.numpy()).all()


@pytest.mark.parametrize("method", ["crop", "squash", "pad"])
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_pixels_are_the_learners_but_for_rounding(method: str, channels: int, size: tuple[int, int]) -> None:
    how = ImagePreprocessor(size, method, channels)  # type: ignore[arg-type]
    lying = Image.Exif()
    lying[0x0112] = 6
    given = [
        photo(0, (375, 500)), photo(1, (40, 400)), photo(2, (30, 20)), photo(3, (64, 64), exif=lying),
        photo(4, (100, 70), "png", "RGBA"), photo(5, (100, 70), "png", "L"), photo(6, (50, 60), "webp"),
        photo(7, (50, 60), "gif", "L"), photo(8, (90, 50), "jpeg", "CMYK"), photo(9, (33, 47), "png", "LA"),
    ]  # fmt: skip
    reader = PixelReader({**how.recipe(), **how.runtime_inputs([]).about}, 1e9)
    for data in given:
        mine = reader(data).astype(int)
        item = how.read(data)
        batch = next(iter(how.source(item.values).stream([np.array([0])], CPU)))
        wanted = how.runtime_inputs([]).undo(batch[0])[0].numpy().astype(int)
        assert mine.shape == wanted.shape
        assert np.abs(mine - wanted).max() <= 2, data[:20]
        assert (mine != wanted).mean() < 0.3


def _png_header(width: int, height: int) -> bytes:
    import struct
    import zlib

    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (head, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (_png_header(60_000, 60_000), 413), (_png_header(6_000, 6_000), 413), (photo(0)[:200], 422), (b"", 415),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
        (b"GIF89a", 415), (photo(1, form="png")[:-40], 422), (b"/etc/passwd", 415), (b"http://example.org/a.jpg", 415),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused(data: bytes, status: int, files: Path) -> None:
    engine = open_engine(files / "images.onnx", Limits(max_pixels=25e6))
    with pytest.raises(RefusedError) as caught:
        engine.prepare(data)
    assert caught.value.status == status


plain = st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=4))


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({"a": st.one_of(st.none(), st.floats(), st.integers()), "b": plain, "c": st.floats()}))
def test_a_row_is_what_the_processor_makes_of_it(learners: Mapping[str, Learner], row: dict) -> None:
    preprocessor = learners["table"].data.preprocessor
    cats, conts = (x.numpy() for x in preprocessor.read(row).values.tensors())
    mine = RowReader(preprocessor.recipe())(row)
    assert (mine["cats"] == cats).all()
    assert np.array_equal(mine["conts"], conts)


def test_a_row_out_of_a_file_may_have_numbers_as_text(learners: Mapping[str, Learner]) -> None:
    read = RowReader(learners["table"].data.preprocessor.recipe())
    as_text, as_numbers = read({"a": " 1.5 ", "b": "x", "c": "NA"}), read({"a": 1.5, "b": "x", "c": None})
    assert all(np.array_equal(as_text[k], as_numbers[k]) for k in as_text)
    for row, what in (
        ({"a": 1}, "b"),
        ({"a": "x", "b": "x", "c": 1}, "'a'"),
        ({"a": [1], "b": 1, "c": 1}, "'a'"),
        ([], "object"),
    ):
        with pytest.raises(RefusedError, match=what) as caught:
            read(row)
        assert caught.value.status == 422


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_a_text_is_what_the_preprocessor_makes_of_it(learners: Mapping[str, Learner], text: str) -> None:
    processor = learners["text"].data.preprocessor.processor
    read = TextReader(learners["text"].data.preprocessor.recipe())
    assert read(text)["tokens"][0].tolist() == processor.encode(text)


def test_long_texts_are_cut_and_turned_and_columns_joined(learners: Mapping[str, Learner]) -> None:
    from dataclasses import replace

    preprocessor = replace(learners["text"].data.preprocessor, max_tokens=8, backward=True, columns=("x", "y"))
    read = TextReader({**preprocessor.recipe()})
    row = {"x": "a good film that was old", "y": "a new bad film that was good"}
    source = preprocessor.source(preprocessor.read(row).values)
    batch = next(iter(source.stream([np.array([0])], CPU)))
    assert read(row)["tokens"].tolist() == batch[0].tolist()
    with pytest.raises(RefusedError, match="'y'"):
        read({"x": "only"})


@pytest.mark.parametrize("suffix", ["onnx", "easylearn"])
def test_a_text_that_would_take_minutes_is_refused(suffix: str, files: Path) -> None:
    engine = open_engine(files / f"text.{suffix}", Limits(max_text=50))
    engine.check()
    assert engine.run([engine.prepare("a good film " * 4)]).shape == (1, 2)  # type: ignore[union-attr]
    engine.prepare({"text": "a good film", "unread": "a" * 51})
    assert engine.weight({"text": "a", "unread": "a" * 6400}) == 1 and engine.columns == {"text"}
    for item in ("a good film " * 5, {"text": "a" * 51, "unread": 1}):
        with pytest.raises(RefusedError, match="at most 50 are taken") as caught:
            engine.prepare(item)
        assert caught.value.status == 413
    if isinstance(engine, OnnxEngine):
        tokens = {"tokens": np.zeros((1, 51), np.int64), "lengths": np.array([51])}
        with pytest.raises(RefusedError, match="50 tokens"):
            engine.tensors(tokens)
    table = open_engine(files / f"table.{suffix}", Limits(max_text=1))
    table.prepare({"a": 1, "b": "x" * 99, "c": 2})  # is no text


@pytest.mark.parametrize("suffix", ["onnx", "easylearn"])
def test_a_model_that_cuts_long_texts_takes_them(suffix: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": TEXTS, "z": TEXTS, "y": LABELS})
    data = el.TextData.from_df(frame, ["x", "z"], "y", batch_size=4, min_freq=1, max_tokens=8, progress=False)
    learn = el.text_classifier_learner(data, emb_size=6, n_hidden=8, n_layers=1, progress=False, device="cpu")
    learn.export(tmp_path / f"m.{suffix}", **({"format": "onnx"} if suffix == "onnx" else {}))
    engine = open_engine(tmp_path / f"m.{suffix}", Limits(max_text=50))
    assert engine.prepare({"x": "a good film " * 9, "z": "a"}) and engine.columns == {"x", "z"}
    assert engine.weight({"x": "a" * 9999}) == 1  # half of the sample's tokens
    if isinstance(engine, OnnxEngine):
        with pytest.raises(RefusedError, match="8 tokens"):
            engine.tensors({"tokens": np.zeros((1, 9), np.int64), "lengths": np.array([9])})


def test_files_that_cannot_be_served_are_refused_in_words(files: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes((files / "table.onnx").read_bytes()[:500])
    foreign = tmp_path / "foreign.onnx"
    model = onnx.load(files / "table.onnx")
    del model.metadata_props[:]
    onnx.save(model, foreign)
    text = tmp_path / "a.txt"
    text.write_text("hello")
    for path, what in (
        (damaged, "cannot be opened"), (foreign, "nothing of its items"), (text, "neither"),
        (tmp_path / "absent.onnx", "cannot be read"),
    ):  # fmt: skip
        with pytest.raises(WeightsError, match=what):
            open_engine(path, Limits())


def test_a_file_of_several_inputs_is_refused_with_what_to_do(tmp_path: Path) -> None:
    learner = several(progress=False, device="cpu")
    learner.export(tmp_path / "m.easylearn")
    learner.export(tmp_path / "m.onnx", format="onnx")
    for name in ("m.easylearn", "m.onnx"):
        with pytest.raises(WeightsError, match=rf"{name} has .*several inputs.*load_predictor"):
            open_engine(tmp_path / name, Limits())


def test_a_graph_may_name_no_other_file(files: Path, tmp_path: Path) -> None:
    model = onnx.load(files / "table.onnx")
    secret = tmp_path / "secret"
    secret.write_bytes(b"\0" * 4096)
    big = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    onnx.external_data_helper.set_external_data(big, "secret", 0, len(big.raw_data))
    big.ClearField("raw_data")
    big.data_location = onnx.TensorProto.EXTERNAL
    path = tmp_path / "external.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="cannot be opened"):
        open_engine(path, Limits())


def test_a_file_that_gives_other_numbers_than_at_its_export_is_refused(files: Path, tmp_path: Path) -> None:
    model = onnx.load(files / "table.onnx")
    said = json.loads(model.metadata_props[0].value)
    check = said["check"]
    (a,), (b,) = check["probs"]
    assert a != b
    for changed, what in (
        ({"probs": [[a], [b + 0.01 * max(1, abs(b))]]}, "other numbers"), ({"probs": [[a]]}, "other numbers"),
        ({"within": 10.0, "probs": [[a], [2 * abs(b) + 1]]}, "other numbers"),
        ({"below": {"cats": [10**6]}}, "checked"), ({"below": 3}, "checked"),
        ({"inputs": [{"name": "cats", "dtype": "int64", "shape": ["batch", 10**12]}]}, "damaged"),
    ):  # fmt: skip
        onnx.helper.set_model_props(model, {"easylearn": json.dumps({**said, "check": {**check, **changed}})})
        onnx.save(model, tmp_path / "checked.onnx")
        with pytest.raises(WeightsError, match=what):
            OnnxEngine(tmp_path / "checked.onnx", Limits()).check()


@pytest.mark.parametrize(
    ("name", "at", "value", "what"),
    [
        ("images", ("about", "crop_pct"), 0, "ZeroDivisionError"), ("images", ("task", "names"), ["cat"], "1 names"),
        ("text", ("inputs", 0, "shape", 0), 0, "empty"), ("text", ("inputs", 0, "shape", 1), 0, "empty"),
        ("text", ("check", "inputs", 0, "shape", 1), 0, "empty"),
        ("images", ("inputs", 0, "shape", 1), 10**10, "damaged"),
        ("images", ("about", "size"), [24, 16], r"'pixels' is tensor\(uint8\) .* 24, 16.* 16, 16"),
        ("images", ("about", "channels"), 1, "'pixels'"), ("images", ("inputs", 0, "dtype"), "float32", "'pixels'"),
        ("images", ("inputs", 0, "name"), "other", "in its graph"),
        ("table", ("inputs", 1, "shape"), ["batch", 5], "conts"),
        ("table", ("inputs",), [{"name": "cats", "dtype": "int64", "shape": ["batch", 1]}], "'conts' is none"),
        ("text", ("about", "kind"), "multi", "several inputs"),
    ],
)  # fmt: skip
def test_what_a_file_says_that_cannot_be_is_refused_where_it_is_opened(
    name: str, at: tuple[Any, ...], value: object, what: str, files: Path, tmp_path: Path
) -> None:
    model = onnx.load(files / f"{name}.onnx")
    inner = said = json.loads(model.metadata_props[0].value)
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    onnx.helper.set_model_props(model, {"easylearn": json.dumps(said)})
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(WeightsError, match=what):
        open_engine(tmp_path / "odd.onnx", Limits()).check()


@pytest.mark.parametrize("name", ITEMS)
@pytest.mark.parametrize("suffix", ["onnx", "easylearn"])
def test_a_model_that_gives_other_numbers_is_refused(name: str, suffix: str, files: Path) -> None:
    engine = open_engine(files / f"{name}.{suffix}", Limits())
    assert engine.stored is not None
    engine.check()
    probs = np.array(engine.stored["probs"])
    assert probs.shape == (2, len(engine.names))
    engine.stored = {**engine.stored, "probs": (probs + 0.002 * np.maximum(1, np.abs(probs))).tolist()}
    with pytest.raises(WeightsError, match="other numbers"):
        engine.check()


@pytest.mark.parametrize("name", ITEMS)
def test_weights_that_changed_are_found(name: str, files: Path, tmp_path: Path) -> None:
    model = onnx.load(files / f"{name}.onnx")
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = 1.5 * onnx.numpy_helper.to_array(tensor) + np.float32(0.3)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(WeightsError, match="other numbers"):
        OnnxEngine(tmp_path / "changed.onnx", Limits()).check()


def test_the_shape_of_an_output_is_that_of_its_task(files: Path) -> None:
    engine = open_engine(files / "images.onnx", Limits())
    for kind, shape in (
        ("single_label", [-1, 2]), ("masks", [-1, 2, -1, -1]), ("image", [-1, 2, -1, -1]), ("boxes", [-1, -1, 6])
    ):  # fmt: skip
        engine.task["kind"] = kind
        assert metadata("m", engine)["outputs"] == [{"name": "probs", "datatype": "FP32", "shape": shape}]


def test_answers_of_each_kind_of_task(files: Path) -> None:
    engine = open_engine(files / "images.onnx", Limits())
    assert engine.answer(np.array([0.25, 0.75])) == {"label": "b", "probs": {"a": 0.25, "b": 0.75}}
    engine.task = {"kind": "multi_label", "threshold": [0.2, 0.9]}
    assert engine.answer(np.array([0.25, 0.75]))["label"] == ["a"]
    engine.task = {"kind": "regression"}
    assert engine.answer(np.array([0.5, np.nan])) == {"label": [0.5, None], "values": {"a": 0.5, "b": None}}
