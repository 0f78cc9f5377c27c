"""torchtext's objects where ours are taken: stand-ins everywhere, and the real ones where torchtext is installed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from easylearn.errors import ArgumentError, DataError, EasyLearnWarning, WeightsError
from easylearn.texts.data import TextData, TextLMData
from easylearn.texts.learner import language_model_learner, text_classifier_learner
from easylearn.texts.torchtext import are_pairs, as_vocab, read_pairs, set_vectors, vector_table
from easylearn.texts.transfer import save_encoder
from easylearn.texts.vocab import BOS, PAD, SPECIALS, UNK, Vocab

GOOD, BAD = "a good film , a good one", "a bad film , a bad one"
SMALL: dict[str, Any] = {"n_hidden": 8, "n_layers": 1, "device": "cpu", "progress": False}


class FakeVocab(nn.Module):
    """As `torchtext.vocab.Vocab` answers."""

    def __init__(self, tokens: list[str], default: int | None = None) -> None:
        super().__init__()
        self.tokens, self.default = tokens, default

    def get_itos(self) -> list[str]:
        return self.tokens

    def get_default_index(self) -> int | None:
        return self.default


class Lower(nn.Module):
    """A transform as torchtext has them: of a text, or of a list of texts."""

    def forward(self, given: Any) -> Any:
        return given.lower().split() if isinstance(given, str) else [self(t) for t in given]


@dataclass
class FakeVectors:
    """As `torchtext.vocab.GloVe` looks."""

    stoi: Any
    vectors: Any
    dim: int = 4


def lines() -> list[tuple[str, str]]:
    return [("pos", GOOD), ("neg", BAD)] * 6


def vectors_of(*words: str, dim: int = 4) -> FakeVectors:
    rows = torch.arange(float(len(words) * dim)).view(len(words), dim) + 1
    return FakeVectors({w: i for i, w in enumerate(words)}, rows, dim)


# -- vocabularies ------------------------------------------------------------------------------------------


def test_tokens_keep_their_numbers() -> None:
    vocab = as_vocab(FakeVocab(["<unk>", "<pad>", "good", "film", "<bos>"], default=0))
    assert vocab is not None
    assert vocab.tokens[:5] == (UNK, PAD, "good", "film", BOS)
    assert (vocab.unk, vocab.pad, vocab.bos) == (0, 1, 4)
    assert set(vocab.tokens[5:]) == set(SPECIALS) - {UNK, PAD, BOS}


def test_what_is_missing_comes_last() -> None:
    vocab = as_vocab(FakeVocab(["good", "film"]))
    assert vocab is not None and vocab.tokens == ("good", "film", *SPECIALS)


def test_the_default_index_says_which_is_unknown() -> None:
    vocab = as_vocab(FakeVocab(["good", "?", "<unk>"], default=1))
    assert vocab is not None and vocab.unk == 1 and vocab.tokens[2] == "<unk>"


def test_the_old_vocabulary_with_a_list_is_taken() -> None:
    vocab = as_vocab(SimpleNamespace(itos=["<unk>", "<pad>", "film"], stoi={}))
    assert vocab is not None and vocab.ids["film"] == 2


def test_ours_comes_back_and_others_are_none() -> None:
    ours = Vocab(["film"])
    assert as_vocab(ours) is ours
    assert as_vocab(None) is None and as_vocab(["film"]) is None and as_vocab("film") is None


def test_tokens_that_are_there_twice_are_refused() -> None:
    with pytest.raises(ArgumentError, match="'film' is there more than once"):
        as_vocab(FakeVocab(["film", "film"]))


def test_data_take_a_vocabulary_and_a_transform() -> None:
    given = FakeVocab(["<unk>", "<pad>", "film", "good", "a"], default=0)
    data = TextData.from_pairs(lines(), vocab=given, tokenizer=Lower(), valid=[0, 1], progress=False)
    assert data.vocab.tokens[:5] == (UNK, PAD, "film", "good", "a")
    assert data.store("valid").doc(0).tolist()[1:] == [4, 3, 2, 0, 4, 3, 0]
    lm = TextLMData.from_lists((t for _, t in lines()), vocab=given, tokenizer=Lower(), batch_size=2, bptt=5)
    assert lm.vocab == data.vocab
    again = TextData.from_pairs(lines(), vocab=lm, progress=False)
    assert again.vocab == lm.vocab and again.tokenizer is lm.tokenizer


def test_what_is_no_vocabulary_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"vocab must be a Vocab.*got list"):
        TextData.from_pairs(lines(), vocab=["film"])


def test_a_transform_to_numbers_is_refused() -> None:
    with pytest.raises(DataError, match="must give a list of texts"):
        TextData.from_pairs(lines(), tokenizer=lambda text: [len(w) for w in text.split()])


# -- streams of (label, text) ------------------------------------------------------------------------------


def test_pairs_are_read_in_either_order() -> None:
    assert read_pairs(iter([(1, "a"), (2, "b")])) == (["a", "b"], [1, 2])
    assert read_pairs([("a", 1), ("b", 2)]) == (["a", "b"], [1, 2])  # as SST2 gives them
    assert read_pairs([("neg", "a")]) == (["a"], ["neg"])


class MapStyle:
    """A dataset with positions and no iterator, as `to_map_style_dataset` gives."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> tuple[int, str]:
        return [(1, "a"), (2, "b")][i]


def test_a_dataset_with_positions_is_read() -> None:
    assert read_pairs(MapStyle()) == (["a", "b"], [1, 2])  # type: ignore[arg-type]
    assert are_pairs(MapStyle())


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ([(1, "a"), ("b", 2)], DataError, r"item 1 must be \(label, text\)"),
        ([("a", 1), (2, "b")], DataError, r"item 1 must be \(text, label\) like those before"),
        ([(1, 2)], DataError, r"item 0 must be \(label, text\)"),
        (["ab"], DataError, "item 0 must be .*'ab', a str"),
        ([(1, "a", "b")], DataError, "item 0"),
        ([], DataError, "read once"),
        ("ab", ArgumentError, "got a str"),
        ({"a": 1}, ArgumentError, "got a dict"),
        (5, ArgumentError, "got a int"),
    ],
)
def test_what_are_no_pairs_is_refused(pairs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_pairs(pairs)


def test_an_iterator_makes_data_as_lists_do() -> None:
    texts, labels = read_pairs(lines())
    a = TextData.from_pairs(iter(lines()), valid=iter(lines()[:4]), progress=False)
    b = TextData.from_lists(texts, labels, valid=(texts[:4], labels[:4]), progress=False)
    assert a.vocab == b.vocab and a.classes == b.classes == ("neg", "pos")
    assert a.fingerprint("train") == b.fingerprint("train") and a.fingerprint("valid") == b.fingerprint("valid")


def test_validation_pairs_are_named_in_messages() -> None:
    with pytest.raises(DataError, match="valid: item 1"):
        TextData.from_pairs(lines(), valid=[("neg", "a"), ("neg", 3)])
    with pytest.raises(DataError, match=r"item 0 \(valid\): the label 'new'"):
        TextData.from_pairs(lines(), valid=[("new", "text")])


def test_torchs_own_pipes_are_read() -> None:
    class Pipe(torch.utils.data.IterableDataset[tuple[str, str]]):
        def __iter__(self) -> Iterator[tuple[str, str]]:
            return iter(lines())

    assert len(TextData.from_pairs(Pipe(), valid=Pipe(), progress=False).ids("valid")) == 12


# -- word vectors ------------------------------------------------------------------------------------------


def test_words_are_matched_by_name_and_others_stay() -> None:
    vocab = Vocab(["good", "film", "zebra"])
    embedding = nn.Embedding(len(vocab), 4, padding_idx=vocab.pad)
    before = embedding.weight.detach().clone()
    vectors = vectors_of("film", "unused", "good", PAD, "<unk>")
    assert set_vectors(embedding, vocab, vectors) == 3
    for word, row in (("good", 2), ("film", 0), (UNK, 4)):
        assert torch.equal(embedding.weight[vocab.ids[word]], vectors.vectors[row])
    kept = [i for i, t in enumerate(vocab.tokens) if t not in ("good", "film", UNK)]
    assert torch.equal(embedding.weight[kept], before[kept])
    assert not embedding.weight[vocab.pad].any()


def test_vectors_with_a_list_of_words_do_too() -> None:
    vocab = Vocab(["good", "film"])
    embedding = nn.Embedding(len(vocab), 2)
    given = SimpleNamespace(itos=["film", "good"], vectors=torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert set_vectors(embedding, vocab, given) == 2
    assert embedding.weight[vocab.ids["film"]].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("vectors", "error", "message"),
    [
        (vectors_of("good", dim=5), ArgumentError, "5 numbers per word, the model's embedding has 4"),
        (FakeVectors({"good": 0}, [[1.0] * 4]), ArgumentError, "word vectors as"),
        (torch.zeros(2, 4), ArgumentError, "got Tensor"),
        (FakeVectors(None, torch.zeros(2, 4)), ArgumentError, r"\.stoi or \.itos"),
        (SimpleNamespace(itos=["good"], vectors=torch.zeros(2, 4)), ArgumentError, "2 rows"),
        (FakeVectors({"good": 0, "film": 1}, torch.zeros(1, 4)), ArgumentError, "1 rows for 2 words"),
        (vectors_of("nothing"), WeightsError, "none of the vocabulary's words, such as"),
        (FakeVectors({"good": 0, "film": 1}, torch.full((2, 4), torch.nan)), WeightsError, r"not finite.*'good'"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(vectors: Any, error: type[Exception], message: str) -> None:
    vocab = Vocab(["good", "film"])
    embedding = nn.Embedding(len(vocab), 4)
    before = embedding.weight.detach().clone()
    with pytest.raises(error, match=message):
        set_vectors(embedding, vocab, vectors)
    assert torch.equal(embedding.weight, before)


def test_few_known_words_are_warned_of() -> None:
    vocab = Vocab(["gut", "film", "schlecht"])
    with pytest.warns(EasyLearnWarning, match=r"only 1 of the 3 words.*'gut', 'schlecht'"):
        set_vectors(nn.Embedding(len(vocab), 4), vocab, vectors_of("film"))


def test_learners_start_from_vectors() -> None:
    vectors = vectors_of("good", "film", "bad", "one", "a", ",")
    lm = TextLMData.from_lists([t for _, t in lines()], batch_size=2, bptt=5, progress=False)
    learn = language_model_learner(lm, vectors=vectors, **SMALL)
    assert vector_table(vectors).shape[1] == learn.model.encoder.emb_size == 4  # type: ignore[union-attr]
    assert torch.equal(learn.model.decoder.weight, learn.model.encoder.embedding.weight)  # type: ignore[union-attr, arg-type]
    data = TextData.from_pairs(lines(), vocab=lm, progress=False)
    classifier = text_classifier_learner(data, vectors=vectors, **SMALL)
    plain = text_classifier_learner(data, emb_size=4, **SMALL)
    for model in (learn.model, classifier.model):
        row = model.encoder.embedding.weight[lm.vocab.ids["bad"]]  # type: ignore[union-attr, index]
        assert torch.equal(row.detach(), vectors.vectors[2])
    a, b = classifier.model.state_dict(), plain.model.state_dict()
    assert [n for n in a if not torch.equal(a[n], b[n])] == ["encoder.embedding.weight"]


def test_sizes_that_contradict_the_vectors_are_refused(tmp_path: Path) -> None:
    lm = TextLMData.from_lists([t for _, t in lines()], batch_size=2, bptt=5, progress=False)
    vectors = vectors_of("good", "film", "bad", "one", "a", ",")
    with pytest.raises(ArgumentError, match=r"4 numbers per word; leave emb_size=5"):
        language_model_learner(lm, vectors=vectors, emb_size=5, **SMALL)
    file = save_encoder(language_model_learner(lm, vectors=vectors, path=tmp_path, **SMALL), "enc")
    with pytest.raises(ArgumentError, match="leave out pretrained= or vectors="):
        language_model_learner(lm, vectors=vectors, pretrained=file, device="cpu")


# -- the real one ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torchtext() -> ModuleType:
    """torchtext 0.18, which warns of its own end when it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: ModuleType = pytest.importorskip("torchtext")
        __import__("torchtext.vocab")
        __import__("torchtext.transforms")
        __import__("torchtext.data.utils")
    return module


def test_real_vocabulary_and_tokenizer(torchtext: ModuleType) -> None:
    tokenizer = torchtext.data.utils.get_tokenizer("basic_english")
    vocab = torchtext.vocab.build_vocab_from_iterator(
        (tokenizer(t) for _, t in lines()), min_freq=2, specials=["<unk>", "<pad>", "<bos>"]
    )
    vocab.set_default_index(vocab["<unk>"])
    data = TextData.from_pairs(iter(lines()), vocab=vocab, tokenizer=tokenizer, valid=[0, 1], progress=False)
    assert [data.vocab.id_of(t) for t in ("good", "film", "a")] == vocab(["good", "film", "a"])
    assert data.store("valid").doc(0).tolist() == [vocab["<bos>"], *vocab(tokenizer(GOOD))]
    assert data.vocab.id_of("zebra") == vocab["zebra"] == data.vocab.unk
    learn = text_classifier_learner(data, emb_size=4, drop_mult=0, **SMALL)
    learn.fit(1e-2, 1)
    assert learn.predict("a good film").label in ("pos", "neg")


def test_real_transforms(torchtext: ModuleType) -> None:
    words = torchtext.transforms.RegexTokenizer([(r"[,.]", " ")])
    data = TextData.from_pairs(lines(), tokenizer=words, valid=[0, 1], progress=False)
    assert data.text("valid", 0) == "a good film a good one"
    both = torchtext.transforms.Sequential(words, torchtext.transforms.AddToken("end", begin=False))
    assert TextData.from_pairs(lines(), tokenizer=both, valid=[0], progress=False).text("valid", 0).endswith("one end")
    vocab = torchtext.vocab.vocab({"film": 9, "good": 8})
    numbers = torchtext.transforms.Sequential(words, torchtext.transforms.VocabTransform(vocab))
    vocab.insert_token("<unk>", 0)
    vocab.set_default_index(0)
    with pytest.raises(DataError, match="must give a list of texts"):
        TextData.from_pairs(lines(), tokenizer=numbers)


def test_real_vectors(torchtext: ModuleType, tmp_path: Path) -> None:
    words = ["good", "bad", "film", "a", "one", ","]
    rows = [f"{w} {i} {i + 0.5} -1 2" for i, w in enumerate(words)]
    (tmp_path / "glove.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    vectors = torchtext.vocab.Vectors("glove.txt", cache=str(tmp_path))
    data = TextData.from_pairs(lines(), progress=False)
    learn = text_classifier_learner(data, vectors=vectors, **SMALL)
    weight: Any = learn.model.encoder.embedding.weight  # type: ignore[union-attr]
    assert weight[data.vocab.ids["film"]].tolist() == [2, 2.5, -1, 2] == vectors["film"].tolist()


def test_real_map_style_dataset(torchtext: ModuleType) -> None:
    from torch.utils.data.datapipes.iter import IterableWrapper

    functional = __import__("torchtext.data.functional", fromlist=["to_map_style_dataset"])
    pipe = IterableWrapper(lines())
    data = TextData.from_pairs(pipe, valid=functional.to_map_style_dataset(pipe), progress=False)
    assert len(data.ids("train")) == len(data.ids("valid")) == 12
