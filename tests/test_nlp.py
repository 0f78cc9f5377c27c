"""The 2018 names for text: the lesson's shape on small texts, and what they refuse."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn, optim

from easylearn import bow07, core, fields07, lm_rnn
from easylearn import text as text2018
from easylearn.errors import ArgumentError, DataError, EasyLearnWarning, StateError
from easylearn.export import load_predictor
from easylearn.learner07 import Learner07
from easylearn.lm_rnn import seq2seq_reg
from easylearn.model import fit
from easylearn.nlp import LanguageModelData, TextData
from easylearn.nn.awd_lstm import AWDLSTM, Drops, activation_penalty
from easylearn.nn.text_models import LanguageModel
from easylearn.textdata07 import Example
from easylearn.texts.callbacks import ActivationPenalty, RateByLength
from easylearn.texts.generate import generate

FILMS = ["The film was good, very good!", "The film was bad, very bad!"]
NO_DROPS: dict[str, Any] = {"dropouti": 0, "wdrop": 0, "dropoute": 0, "dropouth": 0}


class Field:
    """As torchtext's old `Field` looks."""

    def __init__(self, lower: bool = False) -> None:
        self.lower = lower

    def tokenize(self, text: str) -> list[str]:
        return text.split()


def reviews(n: int = 24) -> pd.DataFrame:
    return pd.DataFrame({"text": [FILMS[i % 2] for i in range(n)], "label": ["pos", "neg"] * (n // 2)})


def stream(path: Any = ".", field: Any = None, bs: int = 4, bptt: int = 6, **more: Any) -> LanguageModelData:
    return LanguageModelData.from_dataframes(path, field, "text", reviews(), reviews(8), bs=bs, bptt=bptt, **more)


def examples(n: int, parted: bool, labels: bool = True) -> SimpleNamespace:
    """As torchtext's old datasets look."""
    rows = [
        SimpleNamespace(text=FILMS[i % 2].lower().split() if parted else FILMS[i % 2], label=["pos", "neg"][i % 2])
        for i in range(n)
    ]
    if not labels:
        rows = [SimpleNamespace(text=r.text) for r in rows]
    return SimpleNamespace(examples=rows, fields={"text": Field(lower=True), "label": Field()})


def test_the_lessons_script_runs_and_learns(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part / "all").mkdir(parents=True)
        for i in range(12):
            (tmp_path / part / "all" / f"{i}.txt").write_text(FILMS[i % 2] * 3, encoding="utf-8")
    files = {"train": "train/all", "validation": "test/all", "test": "test/all"}
    md = LanguageModelData.from_text_files(tmp_path, None, **files, bs=4, bptt=10, min_freq=2)
    assert len(md.trn_dl) >= 5 and md.nt == len(md.vocab) and len(md.trn_ds) == 12 and md.pad_idx == 1
    assert md.trn_ds[0].text[:4] == ["xxbos", "xxmaj", "the", "film"]
    opt_fn = partial(optim.Adam, betas=(0.7, 0.99))
    learner = md.get_model(
        opt_fn, 8, 12, 2, dropouti=0.05, dropout=0.05, wdrop=0.1, dropoute=0.02, dropouth=0.05, clip=0.3,
        reg_fn=partial(seq2seq_reg, alpha=2, beta=1),
    )  # fmt: skip
    assert isinstance(learner, Learner07)
    learner.progress = False
    before = learner.validate()["perplexity"]
    learner.fit(3e-2, 2, wd=1e-6, cycle_len=1, cycle_mult=2)
    assert learner.validate()["perplexity"] < before / 1.2
    assert learner.save_encoder("adam1_enc").is_relative_to(tmp_path / "models") and learner.vocab is md.vocab
    assert learner.generate("the film", 5, seed=1) == generate(learner, "the film", 5, seed=1)

    splits = [[(label, text) for text, label in zip(r.text, r.label, strict=True)] for r in (reviews(), reviews(8))]
    md2 = TextData.from_splits(tmp_path, splits, 8, vocab=md)
    assert md2.vocab == md.vocab and md2.data.tokenizer is md.data.tokenizer
    m3 = md2.get_model(
        opt_fn,
        1500,
        10,
        emb_sz=8,
        n_hid=12,
        n_layers=2,
        dropout=0.1,
        **NO_DROPS,
        clip=25.0,
        reg_fn=partial(seq2seq_reg, alpha=2, beta=1),
    )
    m3.progress = False
    assert m3.load_encoder("adam1_enc") is m3
    assert torch.equal(m3.model.encoder.embedding.weight, learner.model.encoder.embedding.weight)  # type: ignore[union-attr, arg-type]
    lrs = np.array([1e-2, 1e-2, 1e-2, 3e-2])
    m3.freeze_to(-1)
    m3.fit(lrs / 2, 1)
    m3.unfreeze()
    m3.fit(lrs, 10, cycle_len=1, save_cycles="imdb2")
    assert m3.validate()["accuracy"] == 1
    assert m3.predict(FILMS[1]).label == "neg"


def test_a_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "trn.txt").write_text("\n".join(FILMS * 5), encoding="utf-8")
    (tmp_path / "val.txt").write_text("\n".join(FILMS), encoding="utf-8")
    md = LanguageModelData.from_text_files(tmp_path, str.split, "trn.txt", "val.txt", bs=2, bptt=5)
    assert (len(md.trn_ds), len(md.val_ds), md.test_ds, md.test_dl) == (1, 1, None, None)
    assert len(md.trn_ds[0].text) == 1 + 5 * 12 and md.data.ids("train") == ("trn.txt",)
    with pytest.raises(DataError, match=r"validation: there is no file or folder .*vall\.txt.*'val\.txt'"):
        LanguageModelData.from_text_files(tmp_path, None, "trn.txt", "vall.txt")


@pytest.mark.parametrize(
    ("field", "first"),
    [
        (None, ["xxbos", "xxmaj", "the", "film"]),
        (str.split, ["xxbos", "The", "film", "was"]),
        (Field(), ["xxbos", "The", "film", "was"]),
        (Field(lower=True), ["xxbos", "the", "film", "was"]),
        (SimpleNamespace(tokenize=str.split, preprocess=lambda t: t.upper().split()), ["xxbos", "THE", "FILM", "WAS"]),
    ],
)
def test_a_field_says_how_text_becomes_tokens(field: Any, first: list[str]) -> None:
    assert stream(field=field).trn_ds[0].text[:4] == first


def test_what_is_no_field_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"field must be a function .* got int"):
        stream(field=3)
    with pytest.raises(ArgumentError, match="train must be a pandas DataFrame, got list"):
        LanguageModelData.from_dataframes(".", None, "text", [], reviews())  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="valid must be a pandas DataFrame, got NoneType"):
        LanguageModelData.from_dataframes(".", None, "text", reviews(), None)  # type: ignore[arg-type]


def test_the_attributes_are_those_of_the_data() -> None:
    md = LanguageModelData.from_dataframes(
        "here", None, "text", reviews(), reviews(8), reviews(4), bs=4, bptt=6, backward=True, max_vocab=12
    )
    assert (md.path, md.bs, md.bptt, md.nt, md.data.preprocessor.backward) == (Path("here"), 4, 6, 12, True)
    assert md.test_ds is not None and len(md.test_ds) == 4 and md.test_dl is not None
    assert [e.label for e in md.val_ds] == [None] * 8
    x, y = next(iter(md.trn_dl))
    assert x.shape[1] == 4 and y.shape == (x.numel(),) and x[1:].flatten().tolist() == y[:-4].tolist()
    with pytest.raises(IndexError, match="valid split has 8 documents, but number 8"):
        md.val_ds[8]


def test_dropouts_and_sizes_go_where_they_are_said_to() -> None:
    md = stream()
    drops = {"dropouti": 0.11, "dropout": 0.12, "wdrop": 0.13, "dropoute": 0.14, "dropouth": 0.15}
    learn = md.get_model(None, 6, 10, 3, **drops, clip=0.3, reg_fn=partial(seq2seq_reg, alpha=2, beta=1))
    encoder = learn.model.encoder
    assert isinstance(encoder, AWDLSTM)
    assert (encoder.emb_size, encoder.n_hidden, encoder.n_layers) == (6, 10, 3)
    assert encoder.drops == Drops(input=0.11, output=0.12, weight=0.13, embedding=0.14, hidden=0.15)
    assert learn.strategy.clip == 0.3
    rate, penalty = learn.callbacks
    assert isinstance(rate, RateByLength) and isinstance(penalty, ActivationPenalty)
    assert (penalty.alpha, penalty.beta) == (2, 1)


def test_the_classifier_has_one_linear_layer() -> None:
    md = TextData.from_splits(".", (reviews(), reviews(8)), 8)
    learn = md.get_model(optim.Adam, 30, 10, 6, 10, 1, 0.35)
    assert [m.p for m in learn.model.modules() if isinstance(m, nn.Dropout)] == [0.35]
    linear = [m for m in learn.model.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(18, 2)]
    assert (learn.model.bptt, learn.model.max_len) == (10, 30)
    assert learn.callbacks == [] and learn.optimizer is optim.Adam


def test_labels_of_the_test_are_targets_where_all_are_known() -> None:
    pairs = [(1, FILMS[0]), (2, FILMS[1])] * 6
    for test, known in ((pairs[:2], True), ([(3, FILMS[0])], False)):
        md = TextData.from_splits(".", (pairs, pairs, test), 4)
        assert md.test_ds is not None and md.test_ds[0].label == ("1" if known else None)


def test_predictions_are_those_of_2018() -> None:
    md = TextData.from_splits(".", (reviews(), reviews(8), reviews(4)), 8)
    learn = md.get_model(optim.Adam, 30, 10, 6, 10, 1, 0.0)
    logs = learn.predict()
    assert isinstance(logs, np.ndarray) and np.allclose(np.exp(logs).sum(1), 1)
    found, targets = learn.predict_with_targs(is_test=True)
    assert found.shape == (4, 2) and targets is not None and targets.tolist() == [1, 0, 1, 0]
    assert learn.predict(FILMS[0]).label in md.classes and len(learn.predict(FILMS).labels) == 2


@pytest.mark.parametrize("parted", [True, False])
def test_old_datasets_with_examples_are_read(parted: bool) -> None:
    splits = (examples(12, parted), examples(4, parted), examples(4, parted, labels=False))
    md = TextData.from_splits(".", splits, 4, min_freq=1)
    assert (md.c, md.classes) == (2, ("neg", "pos"))
    assert md.trn_ds[1] == Example(["xxbos", "the", "film", "was", "bad,", "very", "bad!"], "neg")
    assert md.test_ds is not None and md.test_ds[0].label is None
    assert md.data.preprocessor.processor.encode(FILMS[1])[1:] == md.data.store("train").doc(1).tolist()[1:]


def test_tables_are_splits_too() -> None:
    train = reviews().rename(columns={"text": "review", "label": "stars"})
    splits = (train, train[:6], train[:4].drop(columns="stars"))
    md = TextData.from_splits(".", splits, 4, "review", "stars")
    assert "test" in md.data.splits and md.val_ds[1].label == "neg"
    with pytest.raises(DataError, match=r"train has no column 'label'\. Known: review, stars"):
        TextData.from_splits(".", splits, 4, "review")


def test_tokens_that_came_parted_are_never_parted_again() -> None:
    one = SimpleNamespace(text=["New York", "is", ""], label=1)
    two = SimpleNamespace(text=[], label=0)
    split = SimpleNamespace(examples=[one, two] * 4)
    md = TextData.from_splits(".", (split, split), 4, field=str.split, min_freq=1)
    assert md.trn_ds[0].text == ["xxbos", "New York", "is", ""] and md.trn_ds[1].text == ["xxbos"]


@pytest.mark.parametrize(
    ("splits", "error", "message"),
    [
        ((reviews(),), ArgumentError, "got 1 of them"),
        ((reviews(), [("neg", 3)], reviews()), DataError, r"item 0 \(valid\): the label 3"),
        ((SimpleNamespace(examples=[SimpleNamespace(label=1)]), reviews()), DataError, "example 0 must have 'text'"),
        ((SimpleNamespace(examples=[SimpleNamespace(text="a")]), reviews()), DataError, "and 'label'"),
        ((reviews(), reviews().assign(label="new")), DataError, r"item 0 \(valid\): the label 'new'"),
        (([], reviews()), DataError, "no .label, text. in it"),
    ],
)
def test_splits_that_do_not_fit_are_refused(splits: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TextData.from_splits(".", splits, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qrnn": True}, "one architecture"),
        ({"opt_func": optim.Adam}, "'opt_fn' here"),
        ({"dropoutx": 0.1}, "dropouti"),
        ({"reg_fn": 2}, r"partial\(seq2seq_reg, alpha=2, beta=1\).* got int"),
        ({"reg_fn": lambda *a: 2}, r"partial\(seq2seq_reg, alpha=2, beta=1\).* got function"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        stream().get_model(None, 6, 10, 1, **changes)


def test_old_arguments_of_data_are_named() -> None:
    with pytest.raises(ArgumentError, match="'max_vocab' here"):
        stream(max_size=100)
    with pytest.raises(ArgumentError, match="'backward' here"):
        stream(backwards=True)


def test_clip_and_penalty_may_be_set_afterwards() -> None:
    learn = stream().get_model(None, 6, 10, 1)
    assert learn.clip is None and learn.reg_fn is None
    learn.clip, learn.reg_fn = 0.3, partial(seq2seq_reg, alpha=2, beta=1)
    assert learn.strategy.clip == 0.3 and learn.reg_fn.keywords == {"alpha": 2, "beta": 1}
    learn.reg_fn = partial(seq2seq_reg, alpha=3)
    assert [(c.alpha, c.beta) for c in learn.callbacks if isinstance(c, ActivationPenalty)] == [(3, 0)]
    learn.reg_fn = None
    assert [type(c) for c in learn.callbacks] == [RateByLength]


def test_models_are_called_as_in_2018(tmp_path: Path) -> None:
    md = stream()
    learn = md.get_model(None, 6, 10, 2)
    m, t = learn.model, torch.randint(md.nt, (7, 3))
    m[0].bs = 1
    m.eval()
    m.reset()
    res, raw, dropped = m(t)
    assert res.shape == (21, md.nt) and raw[-1].shape == dropped[-1].shape == (7, 3, 6)
    want = LanguageModel.forward(m, t.t(), torch.tensor(False)).transpose(0, 1).flatten(0, 1)
    assert torch.allclose(res, want, atol=1e-6)
    again, *_ = m(t)
    assert not torch.allclose(again, res)  # it went on where it had ended
    m.reset(False)
    assert torch.allclose(m(t)[0], res, atol=1e-6)
    loss = seq2seq_reg(res, (raw, dropped), torch.tensor(1.0), alpha=2, beta=1)
    assert loss.item() == pytest.approx(1 + float(activation_penalty(m[0](t.t()), 2, 1).detach()), abs=1e-4)

    learn2 = TextData.from_splits(".", (reviews(), reviews(8)), 8).get_model(None, 30, 10, 6, 10, 1, 0.0)
    for one in (learn, learn2):
        one.export(tmp_path / "one.easylearn")
    found = load_predictor(tmp_path / "one.easylearn").predict(FILMS)
    assert np.allclose(found.probs, learn2.predict(FILMS).probs, atol=1e-6)
    classes = learn2.model.eval()
    front, behind = torch.tensor([[1, 1, 5, 6]]), torch.tensor([[5, 6, 1, 1]])
    assert torch.equal(classes(front.t())[0], classes(behind.t())[0])
    assert torch.allclose(classes(front.t())[0], classes(behind, torch.tensor([2])), atol=1e-6)


def test_a_loop_of_ones_own_trains_on_texts() -> None:
    md = stream(bs=2, bptt=5)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.rnn, self.out = nn.Embedding(md.nt, 8), nn.GRU(8, 12), nn.Linear(12, md.nt)
            self.h = torch.zeros(1, 2, 12)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out, h = self.rnn(self.e(x), self.h)
            self.h = lm_rnn.repackage_var(h)
            return self.out(out).log_softmax(-1).flatten(0, 1)

    m = Net()
    opt = optim.Adam(m.parameters(), 1e-2)
    first = fit(m, md, 1, opt, nn.functional.nll_loss)[0]
    assert fit(m, md, 3, opt, nn.functional.nll_loss)[0] < first / 1.5
    documents = TextData.from_splits(".", (reviews(), reviews(8)), 8)
    x, y = next(iter(documents.val_dl))
    assert x.shape[1] == 8 and y.tolist() == [1, 0] * 4 and documents.val_ds.y.tolist() == [1, 0] * 4
    orders = [torch.cat([y for _, y in documents.trn_dl]).tolist() for _ in range(2)]
    assert len(orders[0]) == 24
    learn = documents.get_model(None, 30, 10, 6, 10, 1, 0.0)
    assert learn.data.val_ds.y.tolist() == learn.data.val_y.tolist() and len(learn.data.trn_dl) == 3


def test_a_model_of_ones_own_from_sequence_to_sequence(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.e, self.rnn, self.out = nn.Embedding(9, 8), nn.GRU(8, 8), nn.Linear(8, 9)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.rnn(self.e(x))[0])

    def loss(out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(out.flatten(0, 1), target.flatten())

    rows = [[2 + (i + j) % 7 for j in range(3 + i % 4)] for i in range(24)]
    ds = text2018.TextDataset(rows, [[*row[1:], 1] for row in rows])
    how: dict[str, Any] = {"transpose": True, "transpose_y": True, "pad_idx": 1, "pre_pad": False}
    md = text2018.ModelData(tmp_path, *(text2018.DataLoader(ds, 5, shuffle=s, **how) for s in (True, False)))  # type: ignore[attr-defined]
    learn = text2018.RNN_Learner(md, core.SingleModel(Net()), opt_fn=optim.Adam)
    learn.crit, learn.progress = loss, False
    learn.lr_find()
    first, last = (learn.fit(3e-2, 1, cycle_len=n)[0] for n in (1, 10))
    with torch.no_grad():
        sizes = [(float(loss(learn.model(x), y)), x.shape[1]) for x, y in md.val_dl]
    assert last < first / 2 and last == pytest.approx(sum(v * n for v, n in sizes) / 24, rel=1e-3)


def test_a_field_gets_the_vocabulary() -> None:
    field = fields07.data.Field(lower=True, tokenize=list)
    with pytest.raises(StateError, match="no vocabulary yet"):
        field.numericalize(["a"])
    md = stream(field=field)
    assert field.vocab.itos == list(md.vocab.tokens) and len(field.vocab) == md.nt
    assert field.numericalize("go~").tolist() == [[md.vocab.id_of(c) for c in "go"] + [md.vocab.unk]]
    assert field.vocab.stoi["g"] == md.vocab.id_of("g")
    with pytest.warns(EasyLearnWarning, match="'spacy'"):
        words = fields07.Field(tokenize="spacy", sequential=True)
    assert words.preprocess("It is good.")[-1] == "."
    whole = fields07.Field(sequential=False, batch_first=True, init_token="<s>")
    whole.build_vocab([["pos"], ["neg"], ["pos"]], min_freq=2)
    assert whole.preprocess("New York") == "New York" and field.preprocess(["A", "b"]) == ["a", "b"]
    assert whole.vocab.itos == ["<unk>", "<pad>", "<s>", "pos"]
    assert whole.numericalize([["pos"], ["neg"]]).tolist() == [[3], [0]]


def test_reviews_in_folders_share_the_vocabulary_of_the_language_model(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label in ("pos", "neg"):
            (tmp_path / "aclImdb" / part / label).mkdir(parents=True)
            for i in range(4):
                (tmp_path / "aclImdb" / part / label / f"{i}.txt").write_text(FILMS[label == "neg"], encoding="utf-8")
    text = pickle.loads(pickle.dumps(fields07.data.Field(lower=True)))
    splits = fields07.datasets.IMDB.splits(text, fields07.data.Field(sequential=False), tmp_path)
    assert splits[0][0].label == "pos" and splits[0].examples[0].text[:2] == ["the", "film"] and len(splits[1]) == 8
    md = stream(field=text, min_freq=1)
    md2 = TextData.from_splits(tmp_path, splits, 4)
    assert md2.vocab is md.vocab and md2.trn_ds[0].text[1] == "the" and md2.c == 2 and md2.nt == md.nt

    class Lines(fields07.data.Dataset):
        def __init__(self, path: str, text_field: Any, label_field: Any, **more: Any) -> None:
            fields = [("text", text_field), ("label", label_field)]
            lines = [(line, name) for name in ("pos", "neg") for line in [(Path(path) / name / "0.txt").read_text()]]
            super().__init__([fields07.data.Example.fromlist([*one], fields) for one in lines], fields, **more)

    label = fields07.data.Field(sequential=False)
    own = Lines.splits(tmp_path / "aclImdb", text_field=text, label_field=label, train="train", test="test")
    assert [e.label for e in own[1]] == ["pos", "neg"] and TextData.from_splits(".", own, 2).vocab is md.vocab
    assert len(Lines(own[0].fields and str(tmp_path / "aclImdb" / "train"), text, label, filter_pred=lambda e: 0)) == 0
    with pytest.raises(DataError, match="no folder aclImdb"):
        fields07.datasets.IMDB.splits(text, text, tmp_path / "aclImdb")


# -- bags of words -----------------------------------------------------------------------------------------


def test_words_decide_as_naive_bayes_has_it() -> None:
    from sklearn.feature_extraction.text import CountVectorizer

    texts, labels = FILMS * 20, np.array([1, 0] * 20)
    counts = CountVectorizer(tokenizer=text2018.tokenize, token_pattern=None).fit_transform(texts)
    md = bow07.TextClassifierData.from_bow(counts, labels, counts[:8], labels[:8], 6)
    p, q = (np.asarray(counts.sign()[labels == y].sum(0)).ravel() + 1 for y in (1, 0))
    assert md.c == 2 and np.allclose(md.r[1:, 1], np.log(p / 21) - np.log(q / 21), atol=1e-6)
    words, n, size, y = next(iter(md.val_dl))
    assert words.shape == n.shape == (8, 6) and y[0].tolist() == [0, 1] and size.tolist() == [6] * 8
    for learn in (md.dotprod_nb_learner(), md.nb_learner()):
        learn.progress = False
        learn.fit(0.02, 1, cycle_len=1)
        assert learn.validate()["accuracy"] == 1 and np.allclose(learn.predict().sum(1), 1, atol=1e-5)
        assert learn.predict_with_targs()[1].tolist() == y.tolist()
        assert torch.equal(learn.model.r.weight, md.r)  # type: ignore[union-attr]
    with pytest.raises(DataError, match="40 rows of counts for 8 labels"):
        bow07.BOW_Dataset(counts, labels[:8], 6)


def test_the_star_brings_what_notebooks_of_that_time_expect() -> None:
    names: dict[str, Any] = {}
    exec("from easylearn.nlp import *", names)
    assert names["np"] is np and names["pd"] is pd and names["optim"] is torch.optim and names["partial"] is partial
    assert names.keys() >= {"LanguageModelData", "TextData", "seq2seq_reg", "Path", "plt", "nn", "F", "accuracy"}
    assert names.keys() >= {"CountVectorizer", "data", "tokenize", "texts_labels_from_folders", "SGD_Momentum", "fit"}
