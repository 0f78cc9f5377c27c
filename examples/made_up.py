"""Small data that the lessons make themselves, for `--quick` or where no path is given; and an encoder of texts."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits


def stripes(folder: Path) -> Path:
    """Stripes that lie and stripes that stand, 24 pictures of each."""
    for k in range(48):
        place = folder / ("valid" if k >= 32 else "train") / ("lying", "standing")[k % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = 128 + 100 * np.sin(np.mgrid[:48, :64][k % 2] / (2 + k / 20) + k)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{k:02d}.png")
    return folder


def scenes(folder: Path) -> Path:
    """Scenes of sky, ground and a thing: `train` and `valid`, with `images` and `masks` in each, and `codes.csv`."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 12), ("valid", 4)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
        for k in range(n):
            mask = np.zeros((48, 72), np.uint8)
            mask[rng.integers(20, 30) :] = 1
            top, left = rng.integers(8, 24), rng.integers(0, 50)
            mask[top : top + 16, left : left + 20] = 2
            mask[:2] = 3
            colours = np.array([(150, 180, 230), (110, 100, 80), (200, 60, 50), (0, 0, 0)])
            pixels = colours[mask] + rng.integers(-20, 20, (48, 72, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / split / "images" / f"{k}.jpg")
            Image.fromarray(mask).save(folder / split / "masks" / f"{k}.png")
    (folder / "codes.csv").write_text("value,name\n0,Sky\n1,Ground\n2,Thing\n3,Void\n", encoding="utf-8")
    return folder


def cells(folder: Path) -> Path:
    """Smears of red discs and a large violet one: `images` and `boxes.csv`, a quarter of the images to validate."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = ["file,xmin,ymin,xmax,ymax,label,part"]
    y, x = np.mgrid[:48, :64]
    for k in range(16):
        pixels = rng.integers(200, 230, (48, 64, 3))
        kinds = [("white", 9, (90, 60, 170)), *[("red", 6, (220, 120, 120))] * 2]
        for (name, radius, colour), left in zip(kinds, (10, 30, 50), strict=True):
            top = int(rng.integers(radius, 48 - radius))
            pixels[(x - left) ** 2 + (y - top) ** 2 <= radius**2] = colour
            box = (left - radius, top - radius, left + radius + 1, top + radius + 1)
            part = "valid" if k % 4 == 3 else "train"
            rows.append(f"images/{k}.jpg,{','.join(map(str, box))},{name},{part}")
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{k}.jpg")
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def scattered_digits(folder: Path, n: int, seed: int = 0) -> range:
    """One to four of scikit-learn's digits per picture: train-jpg/*.jpg and labels.csv (image, tags).

    The first fifth of the pictures, whose places are returned, validates: it has digits of its own.
    """
    (folder / "train-jpg").mkdir(parents=True, exist_ok=True)
    digits, random, rows = load_digits(), np.random.default_rng(seed), []
    for k in range(n):
        page = Image.new("L", (96, 96))
        first, end = (0, 360) if k < n // 5 else (360, len(digits.images))
        drawn = random.integers(first, end, random.integers(1, 5))
        for corner, digit in zip(random.permutation(4).tolist(), drawn, strict=False):
            small = Image.fromarray((digits.images[digit] * 15.9).astype(np.uint8)).resize((40, 40))
            y, x = random.integers(0, 9, 2).tolist()
            page.paste(small, (corner % 2 * 48 + x, corner // 2 * 48 + y))
        page.save(folder / "train-jpg" / f"{k:05d}.jpg")
        rows.append((f"{k:05d}", " ".join(sorted(set(map(str, digits.target[drawn]))))))
    pd.DataFrame(rows, columns=["image", "tags"]).to_csv(folder / "labels.csv", index=False)
    return range(n // 5)


def ratings() -> pd.DataFrame:
    """3,000 ratings of 40 films by 120 people, half of whom prefer the first 20 films."""
    random = np.random.default_rng(0)
    who, film = random.integers(0, 120, 3000), random.integers(0, 40, 3000)
    stars = 3 + (film % 5 - 2) / 3 + np.where((film < 20) == (who < 60), 1, -1) + random.normal(0, 0.3, 3000)
    return pd.DataFrame({"userId": who, "title": [f"Film {k}" for k in film], "rating": stars.round(1)})


def plays() -> pd.DataFrame:
    """How often 80 people heard 8 of 30 artists each; half of them keep to the first 15."""
    random = np.random.default_rng(0)
    heard = np.concatenate([random.permutation(15)[:8] + 15 * (k % 2) for k in range(80)])
    people, times = np.repeat(np.arange(80), 8), random.integers(1, 99, 640)
    return pd.DataFrame({"user": people, "name": [f"Artist {k}" for k in heard], "plays": times})


def sales(columns: list[str]) -> pd.DataFrame:
    """200 days of 12 shops; `columns` are noise, but for the promotion."""
    random = np.random.default_rng(0)
    days = pd.date_range("2015-01-01", periods=200)
    df = pd.MultiIndex.from_product([range(12), days]).to_frame(index=False, name=["Store", "Date"])
    for name in [*columns, "CompetitionOpenSinceMonth", "Promo2SinceWeek"]:
        df[name] = random.integers(0, 3, len(df))
    return df.assign(StateHoliday="0", State=df.Store % 4, Sales=np.exp(7 + df.Store / 12 + df.Promo / 3))


def reviews() -> pd.DataFrame:
    """300 reviews of one sentence, said three times."""
    random, words = np.random.default_rng(0), {"pos": ["great", "moving", "funny"], "neg": ["dull", "bad", "slow"]}
    rows = [(label, f"This film is {random.choice(words[label])}. " * 3) for label in ["pos", "neg"] * 150]
    return pd.DataFrame(rows, columns=["label", "text"])


GENRES = ["Drama", "Comedy", "Thriller", "Action", "Romance", "Adventure", "Crime", "Fantasy", "Sci-Fi", "Horror"]


def films(folder: Path, n: int = 120) -> pd.DataFrame:
    """Films whose genres show in the brightness of a poster, in words and in figures; movies.csv and posters/*.png."""
    random, rows = np.random.default_rng(0), []
    (folder / "posters").mkdir(parents=True)
    for k in range(n):
        has = random.random(len(GENRES)) < 0.4
        pixels = random.integers(0, 90, (48, 32, 3)) + 100 * has[0]
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"posters/{k}.png")
        of = {
            "id": f"tt{k}",
            "poster": f"posters/{k}.png",
            "title": f"Film {k}",
            "genres": " ".join(np.array(GENRES)[has]),
        }
        of |= {
            "keywords": ", ".join(np.array(["lake", *GENRES])[[True, *has]]),
            "language": "English",
            "country": "USA",
        }
        figures = {name: float(has[1] + random.normal()) for name in ("duration", "title_year")}
        money = {name: float(np.exp(5 + has[3] + random.normal())) for name in ("budget", "gross")}
        rows.append({**of, "content_rating": "PG" if has[2] else "R", **figures, **money})
    table = pd.DataFrame(rows)
    table.to_csv(folder / "movies.csv", index=False)
    return table


SIZES = {
    "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 20, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "hidden_act": "gelu",
}  # fmt: skip
WORDS = [
    "the", "this", "a", "film", "was", "is", "good", "great", "fine", "moving", "bad", "dull", "poor", "slow", "very",
    "long", "we", "##ly", ".", ",",
]  # fmt: skip


def tokenizer(words: list[str] = WORDS) -> str:
    """The tokenizer.json of an encoder that knows these words, as BERT's are."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]
    made = tokenizers.Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(tokens[:4])
    made.enable_truncation(8)  # as many such files do, which must not matter
    made.enable_padding(length=8)
    return str(made.to_str())


def encoder(folder: Path, **changes: object) -> Path:
    """A folder with a small BERT of random weights, as sentence-transformers lays one out; `changes` of config.json."""
    import torch
    from safetensors.torch import save_file

    size, inner, positions = (SIZES[n] for n in ("hidden_size", "intermediate_size", "max_position_embeddings"))
    shapes = {f"embeddings.{n}": (size,) for n in ("LayerNorm.weight", "LayerNorm.bias")}
    tables = {"word": 4 + len(WORDS), "position": positions, "token_type": 2}
    shapes |= {f"embeddings.{name}_embeddings.weight": (rows, size) for name, rows in tables.items()}
    attention = {f"attention.{n}": (size, size) for n in ("self.query", "self.key", "self.value", "output.dense")}
    norms = {f"{n}LayerNorm": (size,) for n in ("attention.output.", "output.")}
    layer = {**attention, **norms, "intermediate.dense": (inner, size), "output.dense": (size, inner)}
    for i in range(SIZES["num_hidden_layers"]):
        for name, shape in layer.items():
            shapes |= {f"encoder.layer.{i}.{name}.weight": shape, f"encoder.layer.{i}.{name}.bias": shape[:1]}
    drawn = torch.Generator().manual_seed(0)
    weights = {n: 0.5 * torch.randn(s, generator=drawn) + ("Norm.weight" in n) for n, s in shapes.items()}
    steps = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    files = {
        "config.json": {**SIZES, **changes},
        "modules.json": [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in steps],
        "sentence_bert_config.json": {"max_seq_length": 12},
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
    }
    (folder / "1_Pooling").mkdir(parents=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "tokenizer.json").write_text(tokenizer())
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder
