"""The code of docs/other-runtimes.md, which needs no easylearn, beside easylearn's own preparation of items."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from easylearn import TabularData, TextData, WordTokenizer
from easylearn.data.preprocess import Preprocessor
from easylearn.vision.decode import Method, window
from easylearn.vision.preprocess import ImagePreprocessor

PAGE = Path(__file__).parents[2] / "docs" / "other-runtimes.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def page() -> SimpleNamespace:
    """The functions of the page."""
    pytest.importorskip("onnxruntime", reason="the page opens files with it")
    names: dict[str, Any] = {}
    for code in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if "\ndef " in code:
            assert "easylearn import" not in code and "torch" not in code
            exec(compile(code, str(PAGE), "exec"), names)
    return SimpleNamespace(**names)


def about(preprocessor: Preprocessor) -> dict[str, Any]:
    """What a file would say."""
    said = {**preprocessor.recipe(), **preprocessor.runtime_inputs(()).about}
    found: dict[str, Any] = json.loads(json.dumps({"about": said}))
    return found


def photo(height: int, width: int, channels: int = 3) -> Image.Image:
    """Soft shapes with some noise."""
    coarse = RNG.integers(0, 255, (height // 16 + 2, width // 16 + 2, channels), dtype=np.uint8)
    soft = [np.asarray(Image.fromarray(coarse[..., k]).resize((width, height))) for k in range(channels)]
    noisy = np.stack(soft, -1).astype(int) + RNG.integers(-20, 20, (height, width, channels))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8).squeeze())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    made = {
        "large.jpg": photo(900, 1200), "small.jpg": photo(50, 60), "long.jpg": photo(40, 300),
        "grey.jpg": photo(200, 90, 1),
        "alpha.png": photo(70, 90, 4), "grey.png": photo(70, 90, 1), "palette.png": photo(80, 80).convert("P"),
        "print.jpg": photo(200, 300).convert("CMYK"), "huge.png": photo(3000, 60),
        "deep.png": Image.fromarray(RNG.integers(0, 65535, (80, 90)).astype(np.uint16)),
    }  # fmt: skip
    for name, image in made.items():
        image.save(folder / name)
    for turned in (3, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = turned
        for k, size in enumerate([(400, 300), (60, 55)]):
            photo(*size).save(folder / f"turned{turned}{k}.jpg", exif=exif)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("method", ["crop", "squash", "pad"])
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("size", [(32, 32), (40, 24)])
def test_images_have_the_very_pixels(
    method: Method, channels: int, size: tuple[int, int], page: SimpleNamespace, images: list[Path]
) -> None:
    preprocessor = ImagePreprocessor(size, method, channels)
    said = about(preprocessor)
    for file in images:
        whole = preprocessor.item_stage.load(file).numpy()
        top, left = window(whole.shape[1:], size)
        wanted = whole[:, top : top + size[0], left : left + size[1]]
        np.testing.assert_array_equal(page.pixels_of(file, said)[0], wanted, err_msg=file.name)


@pytest.mark.parametrize("scale", ["standard", "quantile", "none"])
def test_rows_have_the_same_codes_and_numbers(scale: Any, page: SimpleNamespace) -> None:
    n = 120
    df = pd.DataFrame(
        {
            "word": pd.Series(RNG.choice(["a", "b", None], n), dtype=object), "few": RNG.integers(0, 4, n),
            "half": RNG.choice([0.5, 1.0], n), "mixed": pd.Series([1, "x", True, 2.5] * (n // 4), dtype=object),
            "x": np.where(RNG.random(n) < 0.2, np.nan, RNG.normal(50, 9, n)), "same": 7.0,
            "ranks": RNG.integers(0, 5, n).astype(float), "y": RNG.normal(size=n),
        }
    )  # fmt: skip
    cats, conts = ["word", "few", "half", "mixed"], ["x", "same", "ranks"]
    data = TabularData.from_df(df, "y", cat_names=cats, cont_names=conts, scale=scale)
    new = pd.concat([df, df.head(3).assign(word="z", few=9, half=None, x=np.inf, ranks=[-1.0, 2.0, 99.0])])
    rows = new.astype(object).where(new.notna(), None).to_dict("records")
    found, wanted = page.codes_and_numbers(rows, about(data.preprocessor)), data.preprocessor.processor.transform(new)
    np.testing.assert_array_equal(found["cats"], wanted.cats)
    np.testing.assert_allclose(found["conts"], wanted.conts, rtol=1e-5, atol=1e-6)


ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="@:&<"), max_size=12)
HARD = "don't|SHOULDN'T've|U.S.|1,000.50|VIII|IIII|soooo|xxmaj|xxfld|xxxmaj|--|...|!!|ha|Ha|o'clock|aaa's|'|\n|<br />"
WORDS = st.lists(st.one_of(st.sampled_from([*HARD.split("|"), "'''", "&amp;", "ha ha ha", "HA"]), ASCII), max_size=8)


@given(WORDS, st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_texts_have_the_same_tokens(page: SimpleNamespace, some: list[str], lower: bool, keep_newlines: bool) -> None:
    text = " ".join(some).replace("www.", "")
    tokenizer = WordTokenizer(lower, keep_newlines)
    assert page.tokens_of(text, tokenizer.state_dict()) == tokenizer.tokenize([text])[0]


@pytest.mark.parametrize("tokenizer", ["word", "bpe", "unigram"])
@pytest.mark.parametrize("options", [{}, {"max_tokens": 9}, {"backward": True}])
def test_texts_have_the_same_numbers(tokenizer: str, options: dict[str, Any], page: SimpleNamespace) -> None:
    texts = ["A good film, GOOD!", "It isn't\r\nbad<br />&amp; soooo long long long, is it?", "bad"] * 4
    data = TextData.from_lists(
        texts, ["+", "-", "-"] * 4, valid=0.25, min_freq=1, tokenizer=tokenizer, progress=False, **options
    )
    new = [*texts[:3], "unheard of, -- but GOOD"]
    found = page.numbers_of(new, about(data.preprocessor))
    tokens, lengths = data.preprocessor.source(new).fetch(np.arange(len(new)), torch.device("cpu"))
    np.testing.assert_array_equal(found["tokens"], tokens)
    np.testing.assert_array_equal(found["lengths"], lengths)
