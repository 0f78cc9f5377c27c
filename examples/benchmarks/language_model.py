"""Perplexity of a pretrained language model beside an interpolated Kneser-Ney trigram on the same tokens.

    python examples/benchmarks/language_model.py OUT

OUT is the folder that `easylearn pretrain-lm CORPUS --out OUT` made: its settings say which texts were read. The
trigram is counted once on the training tokens that the network saw, and once on those of the whole corpus.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from ngrams import KneserNey

from easylearn import TextLMData, language_model_learner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    settings = json.loads((given.out / "settings.json").read_text(encoding="utf-8"))
    names = ("valid", "fraction", "max_vocab", "min_freq", "tokenizer", "batch_size", "bptt", "backward", "seed")
    data = TextLMData.from_folder(settings["corpus"], **{n: settings[n] for n in names})
    print(data)
    lm = language_model_learner(data, pretrained=given.out, progress=False)
    print(f"network: perplexity {lm.validate()['perplexity']:.1f}")
    valid, size = data.store("valid").ids.astype(np.int64), len(data.vocab)
    trigram = KneserNey(data.store("train").ids.astype(np.int64), size)
    print(f"trigram on the same tokens: perplexity {trigram.perplexity(valid):.1f}")
    if settings["fraction"] < 1:
        whole = TextLMData.from_folder(settings["corpus"], valid=settings["valid"], seed=settings["seed"], vocab=data)
        tokens = whole.store("train").ids.astype(np.int64)
        print(f"trigram on all {len(tokens):,} tokens: perplexity {KneserNey(tokens, size).perplexity(valid):.1f}")


if __name__ == "__main__":
    main()
