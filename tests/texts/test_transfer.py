from __future__ import annotations

import io
import os
import pickle
import random
import shutil
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from easylearn.errors import ArgumentError, EasyLearnWarning, SaveError, StateError, WeightsError
from easylearn.learning import Learner
from easylearn.nn.awd_lstm import AWDLSTM
from easylearn.nn.text_models import LanguageModel, TextClassifier, classifier_head
from easylearn.texts.data import TextData, TextLMData
from easylearn.texts.learner import language_model_learner, text_classifier_learner
from easylearn.texts.transfer import (
    copy_encoder,
    download_wt103,
    load_encoder,
    read_encoder,
    read_itos,
    save_encoder,
    write_encoder,
)
from easylearn.texts.vocab import BOS, FLD, PAD, REP, UNK, UP, WREP, Vocab

EMB, HIDDEN = 8, 12
SMALL: dict[str, Any] = {"emb_size": EMB, "n_hidden": HIDDEN, "n_layers": 2, "device": "cpu", "progress": False}
WORDS = ["the", "film", "was", "good", "bad", "long"]


def model_of(vocab: Vocab, seed: int = 0, n_layers: int = 2, hidden: int = HIDDEN, **changes: Any) -> LanguageModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LanguageModel(AWDLSTM(len(vocab), EMB, hidden, n_layers), **changes)
        with torch.no_grad():
            if model.decoder.bias is not None:
                model.decoder.bias.normal_()
    return model


def classifier_of(vocab: Vocab, seed: int = 5) -> TextClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TextClassifier(AWDLSTM(len(vocab), EMB, HIDDEN, 2), classifier_head(EMB, 2))


def state(model: nn.Module) -> dict[str, Tensor]:
    return {n: t.detach().clone() for n, t in model.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.fixture
def vocab() -> Vocab:
    return Vocab(WORDS)


@pytest.fixture
def saved(vocab: Vocab, tmp_path: Path) -> Path:
    return write_encoder(tmp_path / "enc.safetensors", model_of(vocab), vocab, False)


class TestTheSameVocabulary:
    def test_bit_for_bit(self, vocab: Vocab, saved: Path) -> None:
        source, new = model_of(vocab), model_of(vocab, seed=1)
        assert not equal(state(source), state(new))
        assert copy_encoder(read_encoder(saved), new, vocab, False) == len(vocab)
        assert equal(state(source), state(new))
        assert new.decoder.weight is new.encoder.embedding.weight

    def test_into_a_classifier_the_head_stays(self, vocab: Vocab, saved: Path) -> None:
        model = classifier_of(vocab)
        head = state(model.head)
        copy_encoder(read_encoder(saved), model, vocab, False)
        assert equal(state(model.encoder), state(model_of(vocab).encoder)) and equal(head, state(model.head))

    def test_out_of_a_classifier(self, vocab: Vocab, tmp_path: Path) -> None:
        model, new = classifier_of(vocab), model_of(vocab)
        bias = new.decoder.bias.detach().clone()
        copy_encoder(read_encoder(write_encoder(tmp_path / "a.safetensors", model, vocab, True)), new, vocab, True)
        assert equal(state(model.encoder), state(new.encoder)) and torch.equal(bias, new.decoder.bias)

    def test_a_decoder_of_its_own_starts_as_the_embedding(self, vocab: Vocab, saved: Path) -> None:
        new = model_of(vocab, seed=1, tie=False)
        copy_encoder(read_encoder(saved), new, vocab, False)
        assert torch.equal(new.decoder.weight, new.encoder.embedding.weight)

    def test_one_layer(self, vocab: Vocab, tmp_path: Path) -> None:
        source, new = model_of(vocab, n_layers=1, hidden=30), model_of(vocab, seed=1, n_layers=1, hidden=99)
        copy_encoder(read_encoder(write_encoder(tmp_path / "a.safetensors", source, vocab, False)), new, vocab, False)
        assert equal(state(source), state(new))


class TestAnotherVocabulary:
    def test_rows_by_token_and_the_mean_for_unknown_ones(self, vocab: Vocab, saved: Path) -> None:
        other = Vocab(["good", "zebra", "the", "film", "long"])
        source, new = model_of(vocab), model_of(other, seed=1)
        assert copy_encoder(read_encoder(saved), new, other, False) == len(other) - 1
        table, bias = source.encoder.embedding.weight, source.decoder.bias
        for token in other.tokens:
            row, bit = new.encoder.embedding.weight[other.ids[token]], new.decoder.bias[other.ids[token]]
            if token == "zebra":
                torch.testing.assert_close(row, table.mean(0))
                torch.testing.assert_close(bit, bias.mean())
            else:
                assert torch.equal(row, table[vocab.ids[token]]) and torch.equal(bit, bias[vocab.ids[token]])
        assert equal(state(source.encoder.rnns), state(new.encoder.rnns))

    def test_few_known_tokens_are_a_warning(self, saved: Path) -> None:
        other = Vocab([f"mot{i}" for i in range(30)])
        with pytest.warns(EasyLearnWarning, match=r"knows only 8 of the 38 tokens.*'mot0'.*another language"):
            copy_encoder(read_encoder(saved), model_of(other), other, False)

    @pytest.mark.parametrize("token", ["\ud800", "😀", "مرحبا", "a\nb", '"', "é"])
    def test_any_token_comes_through_the_file(self, token: str, tmp_path: Path) -> None:
        vocab = Vocab([token, "x"])
        file = write_encoder(tmp_path / "a.safetensors", model_of(vocab), vocab, False)
        assert read_encoder(file).tokens == vocab.tokens


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"hidden": 20}, r"n_hidden=12, n_layers=2, but this model has emb_size=8, n_hidden=20"),
            ({"n_layers": 3}, r"has emb_size=8, n_hidden=12, n_layers=3\. Make the learner with emb_size=8"),
        ],
    )
    def test_other_sizes(self, vocab: Vocab, saved: Path, changes: Any, said: str) -> None:
        model = model_of(vocab, seed=1, **changes)
        before = state(model)
        with pytest.raises(WeightsError, match=said):
            copy_encoder(read_encoder(saved), model, vocab, False)
        assert equal(before, state(model))

    def test_other_direction(self, vocab: Vocab, saved: Path) -> None:
        model = model_of(vocab, seed=1)
        before = state(model)
        with pytest.raises(
            WeightsError, match=r"from the beginning, this data gives them from the end.*backward=False"
        ):
            copy_encoder(read_encoder(saved), model, vocab, True)
        assert equal(before, state(model))

    def test_no_such_file(self, saved: Path, tmp_path: Path) -> None:
        with pytest.raises(
            WeightsError, match=r"there is no encoder .*encc.safetensors.*Did you mean 'enc.safetensors'"
        ):
            read_encoder(tmp_path / "encc")
        with pytest.raises(WeightsError, match="The folder has no encoders"):
            read_encoder(tmp_path / "nowhere" / "enc")
        with pytest.raises(WeightsError, match="there is no encoder"):
            read_encoder(tmp_path)
        assert read_encoder(tmp_path / "enc").tokens

    @pytest.mark.parametrize("keep", [0, 4, 100, -1])
    def test_cut_short(self, saved: Path, keep: int) -> None:
        saved.write_bytes(saved.read_bytes()[:keep])
        with pytest.raises(WeightsError, match="not a whole safetensors file"):
            read_encoder(saved)

    def test_any_byte_of_the_header_changed(self, vocab: Vocab, saved: Path) -> None:
        good = saved.read_bytes()
        size = int.from_bytes(good[:8], "little")
        rng = random.Random(0)
        for _ in range(150):
            bad = bytearray(good)
            bad[rng.randrange(8 + size)] = rng.randrange(256)
            saved.write_bytes(bytes(bad))
            with suppress(WeightsError, EasyLearnWarning):
                copy_encoder(read_encoder(saved), model_of(vocab), vocab, False)

    def test_another_kind_of_file(self, saved: Path, tmp_path: Path) -> None:
        from safetensors.torch import save_file

        save_file({"w": torch.zeros(2)}, saved)
        with pytest.raises(WeightsError, match=r"holds no encoder; save_encoder"):
            read_encoder(saved)
        for header, said in [
            ("7", "did not write"),
            ('{"schema": 99}', "newer easylearn"),
            ('{"schema": 1}', "describe"),
        ]:
            save_file({"w": torch.zeros(2)}, saved, {"easylearn-encoder": header})
            with pytest.raises(WeightsError, match=said):
                read_encoder(saved)

    def test_weights_that_lack_a_tensor(self, vocab: Vocab, saved: Path) -> None:
        found = read_encoder(saved)
        tensors = {n: t for n, t in found.tensors.items() if n != "rnns.1.bias_hh_l0"}
        model = model_of(vocab, seed=1)
        before = state(model)
        with pytest.raises(WeightsError, match=r"lacks 1 tensors of the encoder, the first is 'rnns.1.bias_hh_l0'"):
            copy_encoder(type(found)(found.source, found.tokens, tensors), model, vocab, False)
        tensors = {**found.tensors, "rnns.1.bias_hh_l0": torch.zeros(3)}
        with pytest.raises(WeightsError, match=r"rnns.1.bias_hh_l0 has shape \(3,\), the model's has \(32,\)"):
            copy_encoder(type(found)(found.source, found.tokens, tensors), model, vocab, False)
        assert equal(before, state(model))

    def test_a_model_without_an_encoder(self, vocab: Vocab, saved: Path, tmp_path: Path) -> None:
        with pytest.raises(StateError, match="no AWD-LSTM encoder: it is a Linear"):
            write_encoder(tmp_path / "b.safetensors", nn.Linear(2, 2), vocab, False)
        with pytest.raises(StateError, match="no AWD-LSTM encoder"):
            copy_encoder(read_encoder(saved), nn.Linear(2, 2), vocab, False)

    def test_a_folder_that_cannot_be_written(self, vocab: Vocab, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(SaveError):
            write_encoder(tmp_path / "file" / "b.safetensors", model_of(vocab), vocab, False)


# -- fast.ai's files ------------------------------------------------------------------------------------------

OLD_WORDS = ["_unk_", "_pad_", "xbos", "xfld", "t_up", "tk_rep", "tk_wrep", *WORDS]
NEW_WORDS = [UNK, PAD, BOS, FLD, "xxmaj", UP, REP, WREP, *WORDS]


def old_layout(model: LanguageModel) -> OrderedDict[str, Tensor]:
    """The keys of 2018."""
    own = state(model)
    found = OrderedDict({"0.encoder.weight": own["encoder.embedding.weight"]})
    found["0.encoder_with_dropout.embed.weight"] = own["encoder.embedding.weight"]
    for i in range(2):
        for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
            found[f"0.rnns.{i}.module.{name}"] = own[f"encoder.rnns.{i}.{name}"]
        found[f"0.rnns.{i}.module.weight_hh_l0_raw"] = own[f"encoder.rnns.{i}.weight_hh_l0"]
    found["1.decoder.weight"] = own["encoder.embedding.weight"]
    return found


def new_layout(model: LanguageModel) -> OrderedDict[str, Tensor]:
    """The keys of 2019, where the dropped weight comes besides."""
    own = state(model)
    found = OrderedDict({"0.encoder.weight": own["encoder.embedding.weight"]})
    found["0.encoder_dp.emb.weight"] = own["encoder.embedding.weight"]
    for i in range(2):
        found[f"0.rnns.{i}.weight_hh_l0_raw"] = own[f"encoder.rnns.{i}.weight_hh_l0"]
        for name in ("weight_ih_l0", "bias_ih_l0", "bias_hh_l0"):
            found[f"0.rnns.{i}.module.{name}"] = own[f"encoder.rnns.{i}.{name}"]
        found[f"0.rnns.{i}.module.weight_hh_l0"] = torch.zeros_like(own[f"encoder.rnns.{i}.weight_hh_l0"])
    found["1.decoder.weight"] = own["encoder.embedding.weight"]
    found["1.decoder.bias"] = own["decoder.bias"]
    return found


class TestFastai:
    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize(
        ("layout", "words", "wrapped"),
        [(old_layout, OLD_WORDS, False), (new_layout, NEW_WORDS, False), (new_layout, NEW_WORDS, True)],
    )
    def test_layouts(
        self, tmp_path: Path, layout: Callable[..., Any], words: list[str], wrapped: bool, zipped: bool
    ) -> None:
        rows = model_of(Vocab([w for w in words if w in WORDS]), seed=3)
        with torch.no_grad():
            rows.encoder.embedding = nn.Embedding(len(words), EMB)
            rows.decoder = nn.Linear(EMB, len(words))
            rows.decoder.weight = rows.encoder.embedding.weight
        weights = layout(rows)
        file = tmp_path / "fwd_wt103.h5"
        torch.save({"model": weights, "opt": {}} if wrapped else weights, file, _use_new_zipfile_serialization=zipped)
        (tmp_path / "itos_wt103.pkl").write_bytes(pickle.dumps(words))
        found = read_encoder(file)
        assert found.sizes == {"emb_size": EMB, "n_hidden": HIDDEN, "n_layers": 2} and not found.backward
        new = Vocab(["zebra", *WORDS[::-1]])
        model = model_of(new, seed=9)
        bias = model.decoder.bias.detach().clone()
        known = copy_encoder(found, model, new, False)
        assert known == len(new) - (2 if layout is old_layout else 1)  # zebra, and xxmaj in 2018
        renamed = dict(zip(OLD_WORDS, [UNK, PAD, BOS, FLD, UP, REP, WREP, *WORDS], strict=True))
        for row, word in enumerate(words):
            own = new.ids[renamed.get(word, word)]
            assert torch.equal(model.encoder.embedding.weight[own], weights["0.encoder.weight"][row])
            if layout is new_layout:
                assert model.decoder.bias[own] == weights["1.decoder.bias"][row]
        if layout is old_layout:
            assert torch.equal(bias, model.decoder.bias)
        (raw,) = [t for n, t in weights.items() if n.startswith("0.rnns.1") and n.endswith("weight_hh_l0_raw")]
        assert torch.equal(model.encoder.layers[1].weight_hh_l0, raw)

    def test_the_vocabulary_beside_or_given(self, tmp_path: Path, vocab: Vocab) -> None:
        file, words = tmp_path / "bwd_wt103.h5", list(vocab.tokens)
        torch.save(old_layout(model_of(vocab)), file)
        with pytest.raises(WeightsError, match=r"needs its vocabulary.*found \[\].*pretrained=\(weights, vocabulary\)"):
            read_encoder(file)
        other = tmp_path / "words.pkl"
        other.write_bytes(pickle.dumps(words))
        assert read_encoder(file, other).backward
        for name in ("itos_a.pkl", "itos_b.pkl"):
            shutil.copy(other, tmp_path / name)
        with pytest.raises(WeightsError, match=r"itos_a.pkl', 'itos_b.pkl"):
            read_encoder(file)
        other.write_bytes(pickle.dumps(words[:-1]))
        with pytest.raises(WeightsError, match=r"14 rows of embedding for 13 tokens; .*different models"):
            read_encoder(file, other)

    def test_what_holds_no_weights(self, tmp_path: Path) -> None:
        file, itos = tmp_path / "a.pth", tmp_path / "itos.pkl"
        itos.write_bytes(pickle.dumps(NEW_WORDS))
        for content in (b"", b"rubbish", b"PK\x03\x04", b"\x80\x02"):
            file.write_bytes(content)
            with pytest.raises(WeightsError, match=r"a\.pth cannot be read as weights"):
                read_encoder(file)
        for thing in ([1, 2], {"a": 1}, torch.zeros(2)):
            torch.save(thing, file)
            with pytest.raises(WeightsError, match="holds no dictionary of tensors"):
                read_encoder(file)
        torch.save({"0.encoder.weight": torch.zeros(len(NEW_WORDS), 4)}, file)
        with pytest.raises(WeightsError, match=r"no tensor 'rnns.0.weight_ih_l0' as an AWD-LSTM has"):
            read_encoder(file)

    @pytest.mark.parametrize("zipped", [True, False])
    def test_hostile_weights_are_not_run(self, tmp_path: Path, zipped: bool) -> None:
        file, mark = tmp_path / "a.pth", tmp_path / "was_here"
        (tmp_path / "itos.pkl").write_bytes(pickle.dumps(NEW_WORDS))
        torch.save({"0.encoder.weight": Hostile(mark)}, file, _use_new_zipfile_serialization=zipped)
        with pytest.raises(WeightsError, match="cannot be read as weights"):
            read_encoder(file)
        assert not mark.exists()


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


# -- through learners -----------------------------------------------------------------------------------------

TEXTS = [f"the {a} film was {b}" for a in ("good", "bad", "long") for b in ("good", "bad", "long")]


def lm(path: Path, **changes: Any) -> Learner:
    data_settings = {"min_freq": 1, "batch_size": 4, "bptt": 6, "progress": False, **changes.pop("data", {})}
    return language_model_learner(TextLMData.from_lists(TEXTS, **data_settings), path=path, **{**SMALL, **changes})


def text_data(**changes: Any) -> TextData:
    return TextData.from_lists(TEXTS, ["good" in t for t in TEXTS], min_freq=1, progress=False, **changes)


class TestLearners:
    def test_pretrained_takes_the_sizes_from_the_file(self, tmp_path: Path) -> None:
        source = lm(tmp_path)
        file = save_encoder(source, "enc")
        assert file == tmp_path / "enc.safetensors"
        for given in (file, str(file), tmp_path / "enc", read_encoder(file)):
            learn = text_classifier_learner(
                text_data(vocab=source.data.vocab), pretrained=given, device="cpu", progress=False
            )
            assert equal(state(learn.model.encoder), state(source.model.encoder))  # type: ignore[arg-type]
            assert [g.trainable for g in learn.layer_groups] == [False, False, False, True]
        new = language_model_learner(source.data, pretrained=file, device="cpu", progress=False)  # type: ignore[arg-type]
        assert equal(state(new.model), state(source.model)) and all(g.trainable for g in new.layer_groups)
        assert new.validate() == source.validate()

    def test_sizes_that_contradict_the_file(self, tmp_path: Path) -> None:
        source = lm(tmp_path)
        file = save_encoder(source, "enc")
        with pytest.raises(ArgumentError, match=r"n_hidden=99 was given, but .*leave the sizes out"):
            text_classifier_learner(text_data(), pretrained=file, n_hidden=99, progress=False)
        text_classifier_learner(text_data(), pretrained=file, n_hidden=HIDDEN, progress=False, device="cpu")

    def test_save_and_load_by_name(self, tmp_path: Path) -> None:
        source = lm(tmp_path)
        source.fit(1e-2, 1)
        save_encoder(source, "enc")
        learn = text_classifier_learner(text_data(vocab=source), path=tmp_path, **SMALL)
        assert load_encoder(learn, "enc") is learn
        assert equal(state(learn.model.encoder), state(source.model.encoder))  # type: ignore[arg-type]
        assert all(g.trainable for g in learn.layer_groups), "freezing stays as it is"
        before = state(learn.model)
        wide = text_classifier_learner(text_data(vocab=source), path=tmp_path, **{**SMALL, "n_hidden": 20})
        save_encoder(wide, "wide")
        with pytest.raises(WeightsError, match="n_hidden=20"):
            load_encoder(learn, "wide")
        backward = lm(tmp_path, data={"backward": True})
        save_encoder(backward, "backward")
        with pytest.raises(WeightsError, match="make the data with backward=True"):
            load_encoder(learn, "backward")
        with pytest.raises(WeightsError, match=r"Did you mean 'wide.safetensors'"):
            load_encoder(learn, "wid")
        source.save("weights")
        with pytest.raises(WeightsError, match="holds no encoder"):
            load_encoder(learn, "weights")
        assert equal(before, state(learn.model))

    def test_what_was_saved_is_found_by_what_was_returned(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        source, new = lm(Path("models")), lm(Path("models"), seed=5)
        file = save_encoder(source, "enc")
        assert file == Path("models/enc.safetensors")
        dotted = save_encoder(source, "enc.v2")
        own = save_encoder(source, tmp_path / "elsewhere" / "own")
        assert dotted.name == "enc.v2.safetensors" and own == tmp_path / "elsewhere" / "own.safetensors"
        names = (
            file,
            str(file),
            file.absolute(),
            "enc",
            "enc.safetensors",
            "models/enc",
            "enc.v2",
            own,
            str(own)[:-12],
        )
        for name in names:
            assert not equal(state(new.model), state(source.model))
            assert load_encoder(new, name) is new and equal(state(new.model), state(source.model))
            with torch.no_grad():
                new.model.decoder.bias.add_(1)  # type: ignore[union-attr, operator]
        assert read_encoder("enc").tokens == read_encoder("models/enc").tokens == read_encoder(file).tokens

    def test_other_learners_have_no_encoder(self, make_learner: Any) -> None:
        for verb in (save_encoder, load_encoder):
            with pytest.raises(ArgumentError, match=rf"{verb.__name__} is for text models.*TensorData.*learn\."):
                verb(make_learner(), "x")
            with pytest.raises(ArgumentError, match="takes a learner, got a str"):
                verb("learn", "x")  # type: ignore[arg-type]
            with pytest.raises(ArgumentError, match="'name' here"):
                verb(make_learner(), fname="x")  # type: ignore[call-arg]
            with pytest.raises(AttributeError, match=verb.__name__):
                getattr(make_learner(), verb.__name__)

    def test_the_tokenizer_is_written_with_it(self, tmp_path: Path) -> None:
        source = lm(tmp_path)
        assert read_encoder(save_encoder(source, "enc")).tokenizer == source.data.tokenizer.state_dict()
        own = lm(tmp_path, data={"tokenizer": str.split})
        assert read_encoder(save_encoder(own, "own")).tokenizer is None


# -- reading and fetching fast.ai's files ----------------------------------------------------------------------


class TestItos:
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_every_protocol(self, tmp_path: Path, protocol: int) -> None:
        file = tmp_path / "itos.pkl"
        twice = "".join(["rep", "eat"])
        words = ["the", "", "é", "😀", "مرحبا", "a b\n", "\\", "x" * 300, twice, twice, *(f"w{i}" for i in range(2500))]
        file.write_bytes(pickle.dumps(words, protocol))
        assert read_itos(file) == words
        file.write_bytes(pickle.dumps(["one"], protocol))
        assert read_itos(file) == ["one"]

    def test_as_python_2_wrote_it(self, tmp_path: Path) -> None:
        file = tmp_path / "itos.pkl"
        file.write_bytes(b"(lp0\nS'the'\np1\naS'film'\np2\na.")
        assert read_itos(file) == ["the", "film"]

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_hostile_ones_are_refused_and_not_run(self, tmp_path: Path, protocol: int) -> None:
        file, mark = tmp_path / "itos.pkl", tmp_path / "was_here"
        for thing in (Hostile(mark), ["the", Hostile(mark)], [Hostile(mark), "the"]):
            file.write_bytes(pickle.dumps(thing, protocol))
            with pytest.raises(WeightsError, match="holds more than a list of words"):
                read_itos(file)
        assert not mark.exists()

    @pytest.mark.parametrize("thing", [{"a": 1}, ("a",), "a", ["a", 1], [["a"], ["b"]], [], None, ["a", b"b"]])
    def test_anything_else(self, tmp_path: Path, thing: Any) -> None:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            file = tmp_path / "itos.pkl"
            file.write_bytes(pickle.dumps(thing, protocol))
            with pytest.raises(WeightsError):
                read_itos(file)

    def test_a_list_within_itself(self, tmp_path: Path) -> None:
        loop: list[Any] = ["a"]
        loop.append(loop)
        file = tmp_path / "itos.pkl"
        file.write_bytes(pickle.dumps(loop))
        with pytest.raises(WeightsError, match="flat list"):
            read_itos(file)

    def test_damaged(self, tmp_path: Path) -> None:
        file = tmp_path / "itos.pkl"
        good = pickle.dumps(WORDS * 3)
        for n in range(0, len(good), 3):
            file.write_bytes(good[:n])
            with pytest.raises(WeightsError):
                read_itos(file)
        rng = random.Random(0)
        for _ in range(300):
            bad = bytearray(good)
            bad[rng.randrange(len(bad))] = rng.randrange(256)
            file.write_bytes(bytes(bad))
            with suppress(WeightsError):
                assert all(isinstance(w, str) for w in read_itos(file))
        with pytest.raises(WeightsError, match="cannot be read as a list of words"):
            read_itos(tmp_path / "none.pkl")


class _Answer(io.BytesIO):
    def __init__(self, body: bytes, said: int | None = None) -> None:
        super().__init__(body)
        self.headers = {"Content-Length": str(len(body) if said is None else said)}


class TestDownload:
    def test_files_are_fetched_once(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        asked: list[str] = []

        def urlopen(address: str, timeout: float) -> _Answer:
            asked.append(address)
            return _Answer(address.encode())

        monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path))
        monkeypatch.setattr("urllib.request.urlopen", urlopen)
        weights, words = download_wt103(backward=True)
        assert download_wt103(backward=True) == (weights, words)
        assert [a.rpartition("/")[2] for a in asked] == ["bwd_wt103.h5", "itos_wt103.pkl"]
        assert weights.read_bytes() == asked[0].encode()

    def test_a_broken_connection_leaves_nothing(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path))
        monkeypatch.setattr("urllib.request.urlopen", lambda address, timeout: _Answer(b"half", said=8))
        with pytest.raises(WeightsError, match="only 4 of 8 bytes"):
            download_wt103()
        assert not [f for f in tmp_path.rglob("*") if f.is_file()]

    def test_no_network(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def urlopen(address: str, timeout: float) -> _Answer:
            raise OSError("no route")

        monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path))
        monkeypatch.setattr("urllib.request.urlopen", urlopen)
        with pytest.raises(WeightsError, match="pretrained=\\(weights, vocabulary\\)"):
            download_wt103()
