"""A static page prepares items as the service does; the JavaScript runs in Node where there is one."""

# ruff: noqa: RUF001

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import easylearn as el
from easylearn.cli import main
from easylearn.errors import ArgumentError, WeightsError
from easylearn.placement import Placement, in_own_pixels
from easylearn.serve import site
from easylearn.serve.maps import mask_of
from easylearn.serve.pixels import PixelReader
from easylearn.serve.rows import RowReader
from easylearn.serve.sentences import TextReader
from easylearn.serve.site import in_javascript, write_site
from easylearn.tabular.processing import TableProcessor
from easylearn.texts import words
from easylearn.texts.processing import TextProcessor
from easylearn.texts.sources import Documents
from easylearn.texts.tokenize import SubwordTokenizer, WordTokenizer
from easylearn.vision.boxes_preprocess import BoxPreprocessor
from easylearn.vision.preprocess import ImagePreprocessor

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
HERE = Path(site.__file__).parent
RNG = np.random.default_rng(0)
ENTITIES = {"&amp;": "&", "&eacute;": "é", "&lt;": "<", "&#39;": "'", "&nbsp;": "\xa0"}
NASTY = [
    "I didn't LIKE it... at all!", "Ha ha ha, Soooo good<br />", "", "   ", "a" * 50, "xxbos xxmaj XXBOS xxfld 1 xxrep",
    "U.S. 1,000.50 and 1:30 o'clock, they'll've won't I'M", "mail me.now+x@example.co.uk, or http://a.b/c?d=(e).",
    "x@y @home www.site.org... ## -- --- ____ ''' !?!?", "日本語のテキスト と 中文字符", "Ünïcödé ΣΑΣ straße İ ŉ ǅ ǆ Ǆ",
    "😀😀😀 👍🏽 👨‍👩‍👧‍👦👨‍👩‍👧‍👦 🇩🇪🇫🇷 1️⃣ ❤️❤", "\u202bعربي\u202c हिन्दी हिन्दी हिन्दी می‌خواهم", "e\u0301te\u0301 n\u0303o",
    "line\none\r\ntwo\rthree\x85four\u2028five\x1csix\ufeffseven", "\ud800 lone \udc00",
    "VIII MCMXC iii IIII aaa AAA 1000000 ٣٣٣",
    "caf&eacute; &amp; T&amp;C &lt;b&gt; &#39;n&#39; &nbsp;x",
    "well-known state_of_the_art it\u2019s “quoted” don\u2019t", "ǅungla 𝒶𝒷𝒸 𝐀𝐁 ½ Ⅷ ²",
]  # fmt: skip


@pytest.fixture
def node(tmp_path: Path) -> Callable[[str, Any], Any]:
    """What an expression of `prepare.js` gives for a value, each as JSON."""
    shutil.copyfile(HERE / "prepare.js", tmp_path / "prepare.mjs")

    def run(expression: str, given: Any) -> Any:
        (tmp_path / "run.mjs").write_text(
            "import * as p from './prepare.mjs'; import fs from 'fs';\n"
            "const given = JSON.parse(fs.readFileSync(0, 'utf8'));\n"
            f"const entities = {json.dumps(ENTITIES)};\n"
            f"const found = {expression};\n"
            "process.stdout.write(JSON.stringify(found, (_, x) => typeof x === 'bigint' ? Number(x) : x));"
        )
        done = subprocess.run(
            ["node", tmp_path / "run.mjs"], input=json.dumps(given).encode(), capture_output=True, timeout=120
        )
        assert not done.returncode, done.stderr.decode()
        return json.loads(done.stdout)

    return run


def png(size: tuple[int, int], mode: str) -> bytes:
    channels = len(Image.new(mode, (1, 1)).getbands())
    held = io.BytesIO()
    x = RNG.integers(0, 256, (*size, channels), dtype=np.uint8)
    x[: size[0] // 2] = RNG.choice([0, 255], (size[0] // 2, size[1], channels))  # overshoots where edges are hard
    Image.fromarray(x.squeeze(2) if channels == 1 else x, mode).save(held, "png")
    return held.getvalue()


@pytest.fixture
def width_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow 13 chooses which way it resizes first, by its cost; before it was the width always, as it is in torch."""
    once = Image.Image.resize

    def resize(image: Image.Image, size: tuple[int, int], how: Image.Resampling) -> Image.Image:
        return once(once(image, (size[0], image.height), how), size, how)

    monkeypatch.setattr(Image.Image, "resize", resize)


@needs_node
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("method", ["crop", "squash", "pad"])
def test_pixels_are_pillows_to_the_last(
    method: Any, channels: int, node: Callable[..., Any], width_first: None
) -> None:
    cases, wanted = [], []
    for size in ((32, 32), (24, 41)):
        how = ImagePreprocessor(size, method, channels)  # type: ignore[arg-type]
        about = {**how.recipe(), **how.runtime_inputs([]).about}
        reader = PixelReader(about, 1e9)
        for mode, shape in (
            ("RGB", (32, 32)), ("RGB", (75, 50)), ("RGB", (9, 7)), ("L", (40, 200)), ("RGB", (200, 13)),
            ("RGBA", (47, 33)), ("RGB", (1, 1)), ("RGB", (24, 41)), ("RGB", (32, 90)), ("LA", (30, 31)),
        ):  # fmt: skip
            data = png(shape, mode)
            rgba = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
            cases.append({"rgba": rgba.reshape(-1).tolist(), "size": shape, "about": about})
            wanted.append(reader(data)[0])
    found = node("given.map((g) => [...p.pixels(g.rgba, g.size[1], g.size[0], g.about)])", cases)
    for case, mine, theirs in zip(cases, found, wanted, strict=True):
        assert np.array_equal(np.reshape(mine, theirs.shape), theirs), case["size"]


@needs_node
def test_borders_masks_and_boxes_are_those_of_the_service(node: Callable[..., Any], width_first: None) -> None:
    names = ["a", "b", "c"]
    for method in ("pad", "squash"):
        how: Any = BoxPreprocessor((24, 40), method)  # type: ignore[arg-type]
        about = {**how.recipe(), **how.runtime_inputs([]).about}
        cases, wanted = [], []
        for shape in ((24, 40), (50, 31), (13, 90), (7, 9)):
            data, place = png(shape, "RGB"), Placement.whole(shape, (24, 40), method == "squash")
            maps = RNG.dirichlet(np.ones(3), (6, 10)).transpose(2, 0, 1).astype(np.float32)
            boxes = RNG.uniform(0, 24, (5, 6)).astype(np.float32)
            boxes[:, 4:] = [[0.5, 0], [0.9, 1], [0.1, 2], [0.7, 2], [0.4, 1]]
            rgba = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")).reshape(-1).tolist()
            maps_in = {"data": maps.reshape(-1).tolist(), "n": 3, "height": 6, "width": 10}
            cases.append(
                {"rgba": rgba, "size": shape, "about": about, "maps": maps_in, "boxes": boxes.reshape(-1).tolist()}
            )
            pixels = PixelReader(about, 1e9)(data)[0]
            own = in_own_pixels(boxes[:, :4], place)[[1, 3, 0, 4]].tolist()
            wanted.append((pixels, mask_of(maps, place), own))
        found = node(
            "given.map(({ rgba, size, about, maps, boxes }) => { const w = p.place(size[0], size[1], about); return ["
            "[...p.pixels(rgba, size[1], size[0], about)], [...p.mask(maps, w, size)],"
            "p.boxes(boxes, w, { names: ['a', 'b', 'c'], threshold: 0.3 })]; })",
            cases,
        )
        for (pixels, mask, boxes), (their_pixels, their_mask, own) in zip(found, wanted, strict=True):
            assert np.array_equal(np.reshape(pixels, their_pixels.shape), their_pixels)
            assert (np.reshape(mask, their_mask.shape) == their_mask).mean() > 0.995
            assert [b["label"] for b in boxes] == [names[i] for i in (1, 2, 0, 1)]
            sides = [[b[k] for k in ("xmin", "ymin", "xmax", "ymax")] for b in boxes]
            np.testing.assert_allclose(sides, own, atol=1e-3)


@needs_node
def test_transparency_over_white_is_pillows_for_every_value(node: Callable[..., Any]) -> None:
    alpha, value = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    rgba = np.stack([value, value, value, alpha], 2)
    wanted = Image.alpha_composite(Image.new("RGBA", (256, 256), "white"), Image.fromarray(rgba, "RGBA")).convert("RGB")
    found = node("[...p.flat(given, 256, 256, 3).data]", rgba.reshape(-1).tolist())
    assert np.array_equal(np.reshape(found, (256, 256, 3)), np.asarray(wanted))


@needs_node
@pytest.mark.parametrize("scale", ["standard", "quantile", "none"])
def test_rows_are_those_of_the_service(scale: Any, node: Callable[..., Any]) -> None:
    n = 300
    df = pd.DataFrame(
        {
            "word": RNG.choice(["a", "b c", "ü"], n), "whole": RNG.integers(0, 5, n), "yes": RNG.random(n) < 0.5,
            "x": np.where(RNG.random(n) < 0.1, np.nan, RNG.normal(size=n)), "same": np.ones(n),
            "tied": RNG.choice([1.0, 2.0, 3.0, 7.5], n),
        }
    )  # fmt: skip
    processor = TableProcessor(["word", "whole", "yes"], ["x", "same", "tied"], scale=scale).fit(df)
    about = {"processor": processor.state_dict()}
    reader = RowReader(about)
    rows = [
        {"word": "b c", "whole": "3", "yes": "True", "x": "0.25", "same": "1", "tied": "2"},
        {"word": None, "whole": None, "yes": None, "x": None, "same": None, "tied": None},
        {"word": "new", "whole": "99", "yes": "maybe", "x": "1e300", "same": "-5", "tied": "7.5"},
        {"word": "ü", "whole": "0", "yes": "False", "x": "-1e9", "same": "2", "tied": "1"},
        *(
            {"word": "a", "whole": "1", "yes": "True", "x": str(v), "same": "1", "tied": str(3 * v)}
            for v in np.linspace(-3, 3, 41)
        ),
    ]
    how = {
        "cats": [{"name": c.name, "levels": [str(v) for v in c.levels]} for c in reader.cats],
        "conts": processor.state_dict()["conts"],
    }
    found = node(
        "given.rows.map((r) => { const x = p.row(r, given.how); return [[...x.cats], [...x.conts]]; })",
        {"rows": rows, "how": how},
    )
    for row, (cats, conts) in zip(rows, found, strict=True):
        wanted = reader(row)
        assert cats == wanted["cats"][0].tolist(), row
        np.testing.assert_allclose(conts, wanted["conts"][0], rtol=2e-6, atol=1e-6, err_msg=str(row))


def texts() -> list[str]:
    """The hard ones, and mixtures of pieces of them."""
    letters = sorted(set("".join(NASTY)) - {chr(c) for c in range(0xD800, 0xE000)})
    mixed = ["".join(RNG.choice(letters, RNG.integers(1, 60))) for _ in range(400)]
    pieces = [w for text in NASTY for w in text.split(" ")]
    return [*NASTY, *mixed, *(" ".join(RNG.choice(pieces, RNG.integers(1, 12))) for _ in range(200))]


@needs_node
@pytest.mark.parametrize(
    "how", [{}, {"lower": False}, {"keep_newlines": True}, {"max_tokens": 7}, {"backward": True}, "bpe"]
)
def test_tokens_are_those_of_the_service(how: Any, node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    given = texts()
    tokenizer: Any = SubwordTokenizer.train(given, "bpe", 600) if how == "bpe" else WordTokenizer(
        **{k: v for k, v in how.items() if k in ("lower", "keep_newlines")}
    )  # fmt: skip
    processor, _ = TextProcessor.fit(Documents.from_list(given), tokenizer, min_freq=1, progress=False)
    about = {"processor": processor.state_dict(), **({} if how == "bpe" else how)}
    recipe = {
        "tokenizer": site._tokenizer(Path("m"), processor.tokenizer.state_dict()),
        "vocab": list(processor.vocab.tokens),
        "max_tokens": about.get("max_tokens"), "backward": about.get("backward", False),
    }  # fmt: skip
    monkeypatch.setattr(words.html, "unescape", lambda text: ENTITIES.get(text, text))  # of Node, which has no names
    reader = TextReader(about)
    code = "(() => { const read = p.reader(given.how, (e) => entities[e] ?? e); return given.texts.map(read); })()"
    found = node(code, {"how": recipe, "texts": given})
    for text, mine in zip(given, found, strict=True):
        wanted = reader(text)["tokens"][0].tolist()
        assert mine == wanted, (text, [processor.vocab[i] for i in mine], [processor.vocab[i] for i in wanted])


def test_patterns_have_nothing_left_that_javascript_reads_otherwise() -> None:
    for pattern in words.patterns():
        text = in_javascript(pattern.pattern)
        assert not any(sign in text for sign in (r"\w", r"\W", r"\d", r"\s", "(?P"))


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        (folder / name).write_bytes(b"the runtime")
    return folder


@pytest.mark.parametrize("name", ["images", "table", "text"])
def test_a_site_is_a_page_with_all_that_it_asks_for(name: str, files: Path, runtime: Path, tmp_path: Path) -> None:
    said = write_site(files / f"{name}.onnx", tmp_path / "site", runtime)
    assert "http.server" in said
    held = {p.name: p.read_bytes() for p in (tmp_path / "site").iterdir()}
    assert set(held) == {
        "index.html",
        "page.css",
        "page.js",
        "page.drawn.js",
        "local.js",
        "prepare.js",
        "ort.js",
        "ort.wasm",
        "model.json",
        "model.onnx",
    }
    assert held["model.onnx"] == (files / f"{name}.onnx").read_bytes() and held["ort.wasm"] == b"the runtime"
    page = held["index.html"].decode()
    assert "data-local" in page and "default-src 'self'" in page and "http://" not in page and "https://" not in page
    about = json.loads(held["model.json"])
    assert about["items"] == name and about["name"] == name and about["prepare"]
    assert ("form" in about) == (name == "table")


def test_the_command_writes_it(files: Path, runtime: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["page", str(files / "table.onnx"), "--out", str(tmp_path / "site"), "--runtime", str(runtime)]
    assert main(given) == 0 and "http.server" in capsys.readouterr().out
    (runtime / "ort-wasm-simd-threaded.wasm").unlink()
    assert main(given) == 1
    assert "npm install onnxruntime-web" in capsys.readouterr().err


def test_what_a_page_cannot_do_is_refused(files: Path, runtime: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"images\.easylearn.*onnx"):
        write_site(files / "images.easylearn", tmp_path / "site", runtime)
    with pytest.raises(ArgumentError, match="is a file"):
        write_site(files / "table.onnx", files / "table.onnx", runtime)
    unigram = SubwordTokenizer.train(["low lower lowest"] * 9, "unigram", 270).state_dict()
    with pytest.raises(WeightsError, match=r"model\.onnx.*Unigram.*bpe"):
        site._tokenizer(Path("model.onnx"), unigram)
    frame = pd.DataFrame({"head": ["a b", "c d"] * 20, "body": ["e f", "g h"] * 20, "label": ["x", "y"] * 20})
    data = el.TextData.from_df(frame, ["head", "body"], "label", min_freq=1, progress=False)
    learn = el.text_classifier_learner(data, emb_size=6, n_hidden=8, n_layers=1, progress=False, device="cpu")
    learn.export(tmp_path / "two.onnx", format="onnx")
    with pytest.raises(WeightsError, match="one text box"):
        write_site(tmp_path / "two.onnx", tmp_path / "site", runtime)


def write_backend(folder: Path, run: str) -> None:
    """What answers in the browser, with a runtime whose `run` is this piece of JavaScript."""
    for name in ("local.js", "prepare.js"):
        shutil.copyfile(HERE / name, folder / name)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "ort.js").write_text(
        f"export const env = {{ wasm: {{}} }}; export class Tensor {{}}\n{run}\n"
        "export const InferenceSession = { create: async () => ({ inputNames: [], outputNames: ['p'], run }) };"
    )


@needs_node
def test_answers_keep_the_order_of_the_names(tmp_path: Path) -> None:
    """An object of JavaScript puts names that are numbers first, and in their own order."""
    write_backend(tmp_path, "const run = async () => ({ p: { data: globalThis.probs } });")
    (tmp_path / "run.js").write_text(
        "globalThis.document = { baseURI: 'http://x/' };\n"
        "const said = [];\n"
        "for (const [kind, names, probs] of JSON.parse(process.argv[2])) {\n"
        "  const about = { items: 'table', prepare: { cats: [], conts: [] }, task: { kind, names } };\n"
        "  globalThis.fetch = async () => ({ ok: true, json: async () => about });\n"
        "  globalThis.probs = Float64Array.from(probs.map((p) => p ?? NaN));\n"
        "  const { backend } = await import('./local.js');\n"
        "  await backend.about();\n"
        "  said.push((await backend.predict({})).label);\n"
        "}\n"
        "process.stdout.write(JSON.stringify(said));"
    )
    given = [
        ("regression", ["10", "b", "2"], [1.5, 2.5, 3.5]), ("regression", ["10"], [1.5]),
        ("single_label", ["10", "2"], [0.75, 0.25]), ("multi_label", ["10", "2", "1"], [0.75, 0.25, 0.5]),
        ("regression", ["a", "1"], [None, 2.0]),
    ]  # fmt: skip
    done = subprocess.run(["node", tmp_path / "run.js", json.dumps(given)], capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr
    assert json.loads(done.stdout) == [[1.5, 2.5, 3.5], 1.5, "10", ["10", "1"], [None, 2.0]]


@needs_node
def test_masks_that_are_computed_at_once_lie_each_in_its_own_image(tmp_path: Path) -> None:
    write_backend(
        tmp_path,
        "const wait = (ms) => new Promise((go) => setTimeout(go, ms));\n"
        "const p = { data: new Float32Array(32), dims: [1, 2, 4, 4] };\n"
        "const run = async () => { await wait(20); return { p }; };",
    )
    (tmp_path / "run.js").write_text(
        "globalThis.document = { baseURI: 'http://x/' };\n"
        "const prepare = { size: [4, 4], channels: 3, method: 'squash' };\n"
        "const task = { kind: 'masks', names: ['a', 'b'] };\n"
        "const about = { items: 'images', prepare, colours: [[0, 0, 0], [1, 1, 1]], task };\n"
        "globalThis.fetch = async () => ({ ok: true, json: async () => about });\n"
        "globalThis.createImageBitmap = async (size) => size;\n"
        "globalThis.OffscreenCanvas = class { getContext() { return this; } drawImage() {}\n"
        "  getImageData(x, y, width, height) {\n"
        "    return { width, height, data: new Uint8Array(4 * width * height) }; } };\n"
        "const { backend } = await import('./local.js');\n"
        "await backend.about();\n"
        "const sizes = [[5, 6], [7, 3]].map(([width, height]) => ({ width, height }));\n"
        "const said = await Promise.all(sizes.map((size) => backend.predict(size)));\n"
        "process.stdout.write(JSON.stringify(said.map(({ mask }) => [mask.width, mask.height])));"
    )
    done = subprocess.run(["node", tmp_path / "run.js"], capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr
    assert json.loads(done.stdout) == [[5, 6], [7, 3]]
