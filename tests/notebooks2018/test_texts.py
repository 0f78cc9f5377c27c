"""Notebooks of 2018 on texts, in cells of our own: what they import, the calls they make, the types they expect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Run = Callable[..., dict[str, Any]]
pytestmark = pytest.mark.filterwarnings(
    "ignore::easylearn.EasyLearnWarning",
    "ignore::UserWarning:sklearn",
    "ignore::pytest.PytestUnraisableExceptionWarning",  # cells leave their files open
)
GOOD, BAD = "What a good film, I liked it!", "What a BAD film, I left it!!!!!"


@pytest.fixture(autouse=True)
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder: data/aclImdb with reviews by split and label."""
    monkeypatch.chdir(tmp_path)
    for part in ("train", "test"):
        for label, text in (("pos", GOOD), ("neg", BAD)):
            for folder in (label, "all"):
                (tmp_path / "data" / "aclImdb" / part / folder).mkdir(parents=True, exist_ok=True)
                for k in range(12):
                    file = tmp_path / "data" / "aclImdb" / part / folder / f"{k}_{label}.txt"
                    file.write_text(f"{text} Number {k}. {text}", encoding="utf-8")
    (tmp_path / "data" / "aclImdb" / "models").mkdir()


def test_a_language_model_and_a_classifier_over_fields(run: Run) -> None:
    ns = run(
        "from easylearn.learner import *\nfrom easylearn.rnn_reg import *\nfrom easylearn.rnn_train import *\n"
        "from easylearn.nlp import *\nfrom easylearn.lm_rnn import *\nPATH = 'data/aclImdb/'; bs = 4; bptt = 8",
        "TEXT = data.Field(lower=True, tokenize='spacy')\n"
        "FILES = dict(train='train/all/', validation='test/all/', test='test/all/')\n"
        "md = LanguageModelData.from_text_files(PATH, TEXT, **FILES, bs=bs, bptt=bptt, min_freq=2)",
        "pickle.dump(TEXT, open(f'{PATH}models/TEXT.pkl', 'wb'))",
        "sizes = len(md.trn_dl), md.nt, len(md.trn_ds), len(md.trn_ds[0].text); first = TEXT.vocab.itos[:12]",
        "number = TEXT.vocab.stoi['film']; t = TEXT.numericalize([md.trn_ds[0].text[:5]])",
        "x, y = next(iter(md.trn_dl))",
        "opt_fn = partial(optim.Adam, betas=(0.7, 0.99)); em_sz, nh, nl = 8, 12, 3\n"
        "learner = md.get_model(opt_fn, em_sz, nh, nl, dropouti=0.05, dropout=0.05, wdrop=0.1, dropoute=0.02, "
        "dropouth=0.05)\n"
        "learner.reg_fn = partial(seq2seq_reg, alpha=2, beta=1); learner.clip = 0.3; learner.progress = False",
        "learner.fit(3e-3, 2, wds=1e-6, cycle_len=1, cycle_mult=2); learner.save_encoder('enc')\n"
        "learner.load_encoder('enc')",
        "m = learner.model; s = [TEXT.preprocess('. So, it was a good')]; t = TEXT.numericalize(s)\n"
        "m[0].bs = 1; m.eval(); m.reset(); res, *_ = m(t); m[0].bs = bs",
        "nexts = torch.topk(res[-1], 3)[1]; likely = [TEXT.vocab.itos[o] for o in to_np(nexts)]",
        "for i in range(3):\n    n = res[-1].topk(2)[1]; n = n[1] if n.data[0] == 0 else n[0]\n"
        "    res, *_ = m(n.view(1, 1))",
        "TEXT = pickle.load(open(f'{PATH}models/TEXT.pkl', 'rb')); IMDB_LABEL = data.Field(sequential=False)\n"
        "splits = datasets.IMDB.splits(TEXT, IMDB_LABEL, 'data/'); e = splits[0].examples[0]",
        "md2 = TextData.from_splits(PATH, splits, bs)\n"
        "m3 = md2.get_model(opt_fn, 1500, bptt, emb_sz=em_sz, n_hid=nh, n_layers=nl, dropout=0.1, dropouti=0.4, "
        "wdrop=0.5, dropoute=0.05, dropouth=0.3)\n"
        "m3.reg_fn = partial(seq2seq_reg, alpha=2, beta=1); m3.load_encoder('enc'); m3.progress = False",
        "m3.clip = 25.; lrs = np.array([1e-3, 1e-3, 1e-3, 1e-2, 3e-2])\n"
        "m3.freeze_to(-1); m3.fit(lrs / 2, 1, metrics=[accuracy]); m3.unfreeze()",
        "m3.fit(lrs, 2, metrics=[accuracy], cycle_len=2, cycle_save_name='imdb2'); m3.load_cycle('imdb2', 1)",
        "acc = accuracy_np(*m3.predict_with_targs())",
    )
    assert ns["x"].shape[1] == 4 and ns["y"].shape == (ns["x"].numel(),) and ns["t"].shape[1] == 1
    assert ns["first"][:2] == ["xxunk", "xxpad"] and ns["sizes"][2] == 24 and len(ns["likely"]) == 3
    assert (ns["e"].label, ns["e"].text[:2]) == ("pos", ["xxmaj", "what"]) or ns["e"].text[0] == "what"
    assert ns["md2"].nt == ns["md"].nt and 0 <= ns["acc"] <= 1 and len(ns["m3"].layer_groups) == 5


def test_bags_of_words(run: Run) -> None:
    ns = run(
        "from easylearn.nlp import *\nfrom sklearn.linear_model import LogisticRegression\nPATH = 'data/aclImdb/'",
        "names = ['neg', 'pos']; trn, trn_y = texts_labels_from_folders(f'{PATH}train', names)\n"
        "val, val_y = texts_labels_from_folders(f'{PATH}test', names)",
        "veczr = CountVectorizer(ngram_range=(1, 3), tokenizer=tokenize, max_features=200)\n"
        "trn_term_doc = veczr.fit_transform(trn); val_term_doc = veczr.transform(val)",
        "x = trn_term_doc; y = trn_y; p = x[y == 1].sum(0) + 1; q = x[y == 0].sum(0) + 1\n"
        "r = np.log((p / p.sum()) / (q / q.sum())); b = np.log(len(p) / len(q))",
        "pre_preds = val_term_doc @ r.T + b; preds = pre_preds.T > 0; acc = (preds == val_y).mean()",
        "md = TextClassifierData.from_bow(trn_term_doc, trn_y, val_term_doc, val_y, 50)\n"
        "learner = md.dotprod_nb_learner(); learner.progress = False; learner.fit(0.02, 1, wds=1e-5, cycle_len=1)",
        "learner2 = md.nb_learner(); learner2.progress = False; loss, acc2 = learner2.fit(0.02, 1, wds=1e-6)",
    )
    assert ns["acc"] == ns["acc2"] == 1 and isinstance(ns["learner"].predict(), np.ndarray)


def test_fine_tuning_by_hand(run: Run) -> None:
    ns = run(
        "from easylearn.text import *\nimport html\nPATH = Path('data/aclImdb/'); BOS = 'xbos'; FLD = 'xfld'",
        "texts, labels = texts_labels_from_folders(PATH / 'train', ['neg', 'pos'])\n"
        "texts = [f'\\n{BOS} {FLD} 1 ' + html.unescape(t) for t in texts]",
        "tok = Tokenizer().proc_all_mp(partition(texts, 24)); freq = Counter(p for o in tok for p in o)",
        "itos = [o for o, c in freq.most_common(60000) if c > 2]; itos.insert(0, '_pad_'); itos.insert(0, '_unk_')\n"
        "stoi = collections.defaultdict(lambda: 0, {v: k for k, v in enumerate(itos)}); vs = len(itos)",
        "ids = [[stoi[o] for o in p] for p in tok]; em_sz, nh, nl, bptt, bs = 8, 12, 2, 8, 4",
        "opt_fn = partial(optim.Adam, betas=(0.8, 0.99))\n"
        "trn_dl = LanguageModelLoader(np.concatenate(ids), bs, bptt)\n"
        "val_dl = LanguageModelLoader(np.concatenate(ids[:8]), bs, bptt)\n"
        "md = LanguageModelData(PATH, 1, vs, trn_dl, val_dl); drops = np.array([0.25, 0.1, 0.2, 0.02, 0.15]) * 0.7",
        "learner = md.get_model(opt_fn, em_sz, nh, nl, dropouti=drops[0], dropout=drops[1], wdrop=drops[2], "
        "dropoute=drops[3], dropouth=drops[4]); learner.progress = False\n"
        "learner.metrics = [accuracy]; learner.freeze_to(-1)",
        "wgts = {'0.encoder.weight': T(np.ones((vs, em_sz))), '1.decoder.weight': T(np.ones((vs, em_sz)))}\n"
        "wgts['0.encoder_with_dropout.embed.weight'] = T(np.copy(to_np(wgts['0.encoder.weight'])))\n"
        "for l, (i, o) in enumerate([(em_sz, nh), (nh, em_sz)]):\n"
        "    for n, shape in dict(weight_ih_l0=(4 * o, i), weight_hh_l0_raw=(4 * o, o), bias_ih_l0=(4 * o,), "
        "bias_hh_l0=(4 * o,)).items():\n"
        "        wgts[f'0.rnns.{l}.module.{n}'] = torch.randn(shape) / 10\n"
        "learner.model.load_state_dict(wgts); row = learner.model[0].embedding.weight[2].tolist()",
        "lr = 1e-3; learner.fit(lr / 2, 1, wds=1e-7, use_clr=(32, 2), cycle_len=1)",
        "learner.save('lm'); learner.load('lm')",
        "learner.unfreeze(); learner.lr_find(start_lr=lr / 10, end_lr=lr * 10, linear=True); learner.sched.plot()",
        "learner.fit(lr, 1, wds=1e-7, use_clr=(20, 10), cycle_len=2); learner.save_encoder('enc')\n"
        "learner.sched.plot_loss()",
        "trn_ds = TextDataset(ids, labels); val_ds = TextDataset(ids, labels)\n"
        "trn_samp = SortishSampler(ids, key=lambda x: len(ids[x]), bs=bs // 2)\n"
        "val_samp = SortSampler(ids, key=lambda x: len(ids[x]))",
        "trn_dl = DataLoader(trn_ds, bs // 2, transpose=True, num_workers=1, pad_idx=1, sampler=trn_samp)\n"
        "val_dl = DataLoader(val_ds, bs, transpose=True, num_workers=1, pad_idx=1, sampler=val_samp)\n"
        "md = ModelData(PATH, trn_dl, val_dl); order = list(trn_samp)",
        "m = get_rnn_classifier(bptt, 20 * 70, 2, vs, emb_sz=em_sz, n_hid=nh, n_layers=nl, pad_token=1, "
        "layers=[em_sz * 3, 5, 2], drops=[0.1, 0.1], dropouti=0.1, wdrop=0.1, dropoute=0.0, dropouth=0.1)",
        "learn = RNN_Learner(md, TextModel(to_gpu(m)), opt_fn=opt_fn); learn.progress = False\n"
        "learn.reg_fn = partial(seq2seq_reg, alpha=2, beta=1); learn.clip = .25; learn.metrics = [accuracy]",
        "learn.load_encoder('enc'); learn.freeze_to(-1); lrs = np.array([1e-3, 1e-3, 1e-2, 3e-2])\n"
        "learn.lr_find(lrs / 1000); learn.sched.plot(); learn.fit(lrs, 1, wds=0, cycle_len=1, use_clr=(8, 3))",
        "learn.freeze_to(-2); learn.unfreeze(); rec = learn.fit(lrs / 3, 1, wds=0, cycle_len=2, use_clr=(32, 10))\n"
        "val = list(rec); learn.sched.plot_loss(); preds, targs = learn.predict_with_targs()",
    )
    assert ns["tok"][0][:3] == ["xbos", "xfld", "1"] and {"t_up", "tk_rep"} <= {*ns["itos"]}
    assert ns["row"] == [1.0] * 8 and sorted(ns["order"]) == list(range(24)) and len(ns["val"]) == 2
    assert ns["val"][1] == np.mean(np.argmax(ns["preds"], 1) == ns["targs"]) and ns["preds"].shape == (24, 2)
