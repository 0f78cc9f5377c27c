from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from easylearn.errors import ArgumentError, StateError
from easylearn.export import load_learner, load_predictor
from easylearn.learning import Learner
from easylearn.nn.text_models import LanguageModel
from easylearn.texts.data import TextData, TextLMData
from easylearn.texts.generate import Sampling, continue_tokens, draw, generate
from easylearn.texts.learner import language_model_learner, text_classifier_learner

WORDS = ["the", "film", "was", "good", "and", "the", "cat", "sat", "on", "a", "mat", "by", "the", "sea"]


def lm(backward: bool = False, **changes: Any) -> Learner:
    texts = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))]
    data = TextLMData.from_lists(texts, min_freq=1, batch_size=4, bptt=8, backward=backward, progress=False)
    settings = {"emb_size": 8, "n_hidden": 12, "n_layers": 2, "device": "cpu", "progress": False, **changes}
    return language_model_learner(data, **settings)


@pytest.fixture(scope="module")
def learn() -> Learner:
    return lm()


def many(logits: torch.Tensor, n: int = 1200, **settings: Any) -> torch.Tensor:
    """The share of each token among n draws."""
    generator = torch.Generator().manual_seed(0)
    drawn = [draw(logits, Sampling(**settings), generator) for _ in range(n)]
    return torch.bincount(torch.tensor(drawn), minlength=len(logits)) / n


class TestDraw:
    logits = torch.tensor([1.0, 3.0, 2.0, -torch.inf, 0.0])

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
    def test_shares_are_the_softmax_at_a_temperature(self, temperature: float) -> None:
        expected = (self.logits / temperature).softmax(0)
        torch.testing.assert_close(many(self.logits, temperature=temperature), expected, atol=0.05, rtol=0)

    def test_top_k(self) -> None:
        shares = many(self.logits, top_k=2)
        torch.testing.assert_close(shares[[1, 2]], torch.tensor([3.0, 2.0]).softmax(0), atol=0.05, rtol=0)
        assert shares[[0, 3, 4]].sum() == 0
        assert many(self.logits, 100, top_k=1)[1] == 1
        assert many(self.logits, 300, top_k=99)[3] == 0

    def test_top_p(self) -> None:
        # Probabilities 0.09, 0.64, 0.24, 0, 0.03.
        assert (many(self.logits, 200, top_p=0.6) > 0).tolist() == [False, True, False, False, False]
        assert (many(self.logits, 200, top_p=0.7) > 0).tolist() == [False, True, True, False, False]
        assert (many(self.logits, 600, top_p=1.0) > 0).tolist() == [True, True, True, False, True]
        assert many(self.logits, 100, top_p=1e-9)[1] == 1

    @pytest.mark.parametrize("temperature", [1e-3, 1e-12, 1e-50, 1e-300])
    def test_a_temperature_near_zero_is_as_zero(self, temperature: float) -> None:
        assert many(self.logits, 20, temperature=temperature)[1] == 1

    def test_outputs_of_a_model_that_diverged(self) -> None:
        with pytest.raises(StateError, match="NaN"):
            draw(torch.tensor([0.0, torch.nan]), Sampling(), torch.Generator())


class TestSampling:
    @pytest.mark.parametrize(
        "settings",
        [
            {"temperature": -1.0}, {"temperature": float("nan")}, {"temperature": float("inf")}, {"top_k": 0},
            {"top_k": True}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_p": float("nan")},
        ],
    )  # fmt: skip
    def test_refused(self, settings: Any) -> None:
        with pytest.raises(ArgumentError, match=next(iter(settings))):
            Sampling(**settings)


class TestGenerate:
    def test_repeatable_by_seed(self, learn: Learner, disturb: Callable[[], None]) -> None:
        a = []
        for seed in (1, 1, 2, None, 0):
            disturb()
            state = torch.get_rng_state()
            a.append(generate(learn, "The film", 12, seed=seed))
            assert torch.equal(state, torch.get_rng_state())
        assert a[0] == a[1] != a[2] and a[3] == a[4]
        assert a[0].startswith("The film")

    def test_top_k_of_one_is_temperature_zero(self, learn: Learner) -> None:
        greedy = generate(learn, "the", 15, temperature=0)
        assert generate(learn, "the", 15, top_k=1, seed=5) == greedy == generate(learn, "the", 15, top_p=1e-9)

    def test_it_is_the_most_probable_token_each_time(self, learn: Learner) -> None:
        data = learn.data
        assert isinstance(data, TextLMData) and isinstance(learn.model, LanguageModel)
        ids = data.preprocessor.processor.encode("the cat")
        drawn = continue_tokens(learn.model, learn.strategy, ids, 6, Sampling(temperature=0))
        learn.model.eval()
        for i in range(6):
            with torch.no_grad():
                logits, _ = learn.model.step(torch.tensor([[*ids, *drawn[:i]]]))
            assert int(logits[0, -1].argmax()) == drawn[i]

    def test_special_tokens_never_come(self, learn: Learner) -> None:
        assert isinstance(learn.model, LanguageModel)
        vocab = learn.data.vocab
        with torch.no_grad():
            before = learn.model.decoder.bias.clone()
            learn.model.decoder.bias[[vocab.unk, vocab.pad, vocab.bos]] = 100.0
        try:
            for settings in ({"temperature": 0}, {"temperature": 3.0}, {"top_k": 3}, {"top_p": 0.9}):
                text = generate(learn, "the", 60, **settings)  # type: ignore[arg-type]
                assert not any(t in text for t in ("xxunk", "xxpad", "xxbos"))
        finally:
            with torch.no_grad():
                learn.model.decoder.bias.copy_(before)

    def test_modes_and_the_hidden_state_stay(self, learn: Learner) -> None:
        assert isinstance(learn.model, LanguageModel)
        learn.validate()
        learn.model.train()
        before = [t.clone() for pair in learn.model.state for t in pair]
        generate(learn, "the", 5)
        assert all(torch.equal(a, b) for a, b in zip(before, [t for p in learn.model.state for t in p], strict=True))
        assert learn.model.training

    @pytest.mark.parametrize("prompt", ["", " ", "😀 مرحبا", "zebra"])
    def test_any_prompt(self, learn: Learner, prompt: str) -> None:
        assert len(generate(learn, prompt, 5)) > 0

    def test_no_token_gives_the_prompt(self, learn: Learner) -> None:
        assert generate(learn, "The film was good", 0) == "The film was good"
        assert isinstance(learn.model, LanguageModel)
        with pytest.raises(ArgumentError, match="at least one token"):
            continue_tokens(learn.model, learn.strategy, [], 3, Sampling())

    def test_a_backward_model_writes_what_came_before(self) -> None:
        learn = lm(backward=True)
        text = generate(learn, "the sea", 5, temperature=0)
        assert text.lower().endswith("the sea")
        data = learn.data
        assert isinstance(data, TextLMData) and isinstance(learn.model, LanguageModel)
        bos, *ids = data.preprocessor.processor.encode("the sea")
        drawn = continue_tokens(learn.model, learn.strategy, [bos, *ids[::-1]], 5, Sampling(temperature=0), (0, 1, 2))
        assert text == data.preprocessor.processor.decode([*drawn[::-1], *ids])

    def test_a_predictor_writes_what_the_learner_writes(self, learn: Learner, tmp_path: Path) -> None:
        learn.export(tmp_path / "lm")
        predictor, again = load_predictor(tmp_path / "lm", device="cpu"), load_learner(tmp_path / "lm", device="cpu")
        want = generate(learn, "the cat", 9)
        assert generate(predictor, "the cat", 9) == want == generate(again, "the cat", 9)
        assert generate(predictor, "the cat", 9, seed=5) == generate(learn, "the cat", 9, seed=5)

    def test_the_seed_is_the_learners_own(self) -> None:
        learn = lm(seed=3)
        assert generate(learn, "the", 12) == generate(learn, "the", 12, seed=3) != generate(learn, "the", 12, seed=0)

    def test_who_cannot(self, learn: Learner, make_learner: Any) -> None:
        data = TextData.from_lists(["a b", "c d", "a d", "c b"], ["x", "y", "x", "y"], min_freq=1, progress=False)
        classifier = text_classifier_learner(data, emb_size=8, n_hidden=12, n_layers=1, progress=False, device="cpu")
        for other, kind in ((classifier, "text"), (make_learner(), "tensors")):
            with pytest.raises(ArgumentError, match=rf"needs a language model.*of {kind}.*language_model_learner"):
                generate(other, "a", 3)
        with pytest.raises(ArgumentError, match="a learner or a predictor, got a LanguageModel"):
            generate(learn.model, "the", 3)  # type: ignore[arg-type]
        for call in (learn.predict, lambda: learn.predict("the film"), lambda: learn.predict(["the film"])):
            with pytest.raises(ArgumentError, match=r"generate\("):
                call()
        with pytest.raises(ArgumentError, match="'n' here"):
            generate(learn, "the", n_words=3)  # type: ignore[call-arg]
        for n in (-1, 2.5, True, "3"):
            with pytest.raises(ArgumentError, match="n must be a whole number"):
                generate(learn, "the", n)  # type: ignore[arg-type]
        with pytest.raises(AttributeError):
            learn.generate("the", 3)  # type: ignore[attr-defined]


class TestThreads:
    def test_eight_that_write_at_once_write_as_one_after_the_other(self, learn: Learner) -> None:
        prompts = [f"the {w}" for w in WORDS[:8]]
        want = [generate(learn, p, 12, seed=i) for i, p in enumerate(prompts)]
        with ThreadPoolExecutor(8) as pool:
            for _ in range(3):
                found = list(pool.map(lambda i: generate(learn, prompts[i], 12, seed=i), range(8)))
                assert found == want

    def test_eight_that_validate_at_once_find_what_one_finds(self, learn: Learner) -> None:
        want = learn.validate()
        with ThreadPoolExecutor(8) as pool:
            assert all(found == want for found in pool.map(lambda _: learn.validate(), range(24)))

    def test_a_fit_is_not_disturbed_by_who_evaluates(self) -> None:
        alone, watched = lm(), lm()
        alone.fit(1e-2, 4)
        done = threading.Event()

        def watch() -> None:
            watched.validate("train"), generate(watched, "the", 3)
            while not done.is_set():
                watched.validate("train"), generate(watched, "the", 3)

        with ThreadPoolExecutor(2) as pool:
            looks = [pool.submit(watch) for _ in range(2)]
            try:
                watched.fit(1e-2, 4)
            finally:
                done.set()
            for look in looks:
                look.result()
        a, b = alone.model.state_dict(), watched.model.state_dict()
        assert all(torch.equal(a[name], b[name]) for name in a)
