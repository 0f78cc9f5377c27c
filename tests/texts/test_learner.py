from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from easylearn import metrics
from easylearn.errors import ArgumentError, DataError
from easylearn.learning import Learner
from easylearn.nn.awd_lstm import AWDLSTM, Drops
from easylearn.nn.text_models import LanguageModel, TextClassifier
from easylearn.task import average_predictions
from easylearn.texts.data import TextData, TextLMData
from easylearn.texts.generate import generate
from easylearn.texts.learner import language_model_learner, text_classifier_learner
from easylearn.train.callbacks import SaveBest, WeightAverage
from easylearn.train.optim import sgd

SMALL: dict[str, Any] = {"emb_size": 8, "n_hidden": 12, "n_layers": 3, "device": "cpu", "progress": False}
NO_DROPS = Drops(0, 0, 0, 0, 0)
SENTENCE = "the cat sat on the mat and the dog ran to the sea ."
TEXTS = [f"{a} film that {b} liked" for a in ("good", "bad", "long", "short") for b in ("we", "they", "all", "few")]
LABELS = ["pos" if "good" in t or "long" in t else "neg" for t in TEXTS]


def lm_data(texts: list[str] | None = None, **changes: Any) -> TextLMData:
    given = {"min_freq": 1, "batch_size": 4, "bptt": 7, "progress": False, **changes}
    return TextLMData.from_lists([SENTENCE] * 30 if texts is None else texts, **given)


def lm(data: TextLMData | None = None, **changes: Any) -> Learner:
    return language_model_learner(lm_data() if data is None else data, **{**SMALL, **changes})


def classifier(data: TextData | None = None, **changes: Any) -> Learner:
    if data is None:
        data = TextData.from_lists(TEXTS, LABELS, min_freq=1, batch_size=4, progress=False, valid=0.25)
    return text_classifier_learner(data, **{**SMALL, **changes})


def everything(model: nn.Module) -> dict[str, Tensor]:
    """Weights and all buffers, those that are never saved included."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: value.detach().clone() for name, value in named}


class TestLanguageModel:
    def test_it_learns_a_text_that_repeats(self) -> None:
        learn = lm(drops=NO_DROPS, n_layers=1, emb_size=24, alpha=0, beta=0)
        first = learn.validate()["perplexity"]
        learn.fit_one_cycle(2e-2, 12)
        found = learn.validate()
        assert first > 10 and found["perplexity"] < 2 and found["accuracy"] > 0.8
        assert (
            generate(learn, "the cat sat", 11, temperature=0).lower().startswith("the cat sat on the mat and the dog")
        )

    @pytest.mark.parametrize("backward", [False, True])
    def test_perplexity_is_that_of_the_whole_text_with_the_state_carried_along(self, backward: bool) -> None:
        learn = lm(lm_data(TEXTS, valid=TEXTS[:5], backward=backward, batch_size=1))
        data, model = learn.data, learn.model.eval()
        assert isinstance(data, TextLMData) and isinstance(model, LanguageModel)
        stream: list[int] = []
        for i in range(5):
            bos, *rest = data.store("valid").doc(i).tolist()
            stream += [bos, *(rest[::-1] if backward else rest)]
        tokens = torch.tensor(stream)
        with torch.no_grad():
            logits, _ = model.step(tokens[None, :-1])
        loss = F.cross_entropy(logits[0].double(), tokens[1:])
        found = learn.validate()
        assert found["valid_loss"] == pytest.approx(float(loss), rel=1e-5)
        assert found["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
        assert found["accuracy"] == pytest.approx(float((logits[0].argmax(-1) == tokens[1:]).double().mean()))

    def test_rows_side_by_side_with_a_padded_end(self) -> None:
        """By hand: each row begins with no state, and no padding counts."""
        learn = lm(lm_data(TEXTS, valid=TEXTS[:7], batch_size=3))
        data, model = learn.data, learn.model.eval()
        assert isinstance(data, TextLMData) and isinstance(model, LanguageModel)
        tokens = torch.from_numpy(data.store("valid").ids.astype("int64"))
        length = data.loader("valid").row_length  # type: ignore[attr-defined]
        total = torch.zeros((), dtype=torch.float64)
        assert (len(tokens) - 1) % 3, "the last row is shorter"
        for row in range(3):
            part = tokens[row * length : (row + 1) * length + 1]
            with torch.no_grad():
                logits, _ = model.step(part[None, :-1])
            total += F.cross_entropy(logits[0].double(), part[1:], reduction="sum")
        assert learn.validate()["valid_loss"] == pytest.approx(float(total) / (len(tokens) - 1), rel=1e-5)

    def test_a_fit_repeats_to_the_bit(self, disturb: Callable[[], None]) -> None:
        runs = []
        for seed in (3, 3, 4):
            disturb()
            runs.append(lm(seed=seed))
            disturb()
            runs[-1].fit(1e-2, 2)
        a, b, c = (everything(r.model) for r in runs)
        assert all(torch.equal(a[n], b[n]) for n in a) and not all(torch.equal(a[n], c[n]) for n in a)

    def test_validation_between_fits_changes_nothing(self) -> None:
        plain, looked = lm(), lm()
        for learn in (plain, looked):
            learn.fit(1e-2, 1)
            if learn is looked:
                assert learn.validate() == learn.validate()
                generate(learn, "the", 5), learn.summary(), learn.lr_find()
            learn.fit(1e-2, 1)
        a, b = everything(plain.model), everything(looked.model)
        assert all(torch.equal(a[n], b[n]) for n in a)

    @pytest.mark.parametrize("what", ["lr_find", "summary", "plan"])
    def test_looking_leaves_everything_as_it_was(self, what: str) -> None:
        learn = lm()
        learn.fit(1e-2, 1)
        before, rng, modes = everything(learn.model), torch.get_rng_state(), [m.training for m in learn.model.modules()]
        {"lr_find": learn.lr_find, "summary": learn.summary, "plan": lambda: learn.plan(1e-3, 1)}[what]()
        after = everything(learn.model)
        assert before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in before)
        assert any(n.startswith("hidden") and len(t[0]) for n, t in after.items())
        assert torch.equal(rng, torch.get_rng_state()) and modes == [m.training for m in learn.model.modules()]

    def test_the_first_look_leaves_no_state_either(self) -> None:
        learn = lm()
        learn.lr_find(), learn.summary()
        assert isinstance(learn.model, LanguageModel) and learn.model.state[0][0].shape[1] == 0

    def test_groups_freezing_and_four_rates(self, at: Any) -> None:
        learn = lm()
        assert [g.name for g in learn.layer_groups] == ["rnn1", "rnn2", "rnn3", "embedding"]
        for call, expected in [
            (learn.freeze, [False, False, False, True]),
            (lambda: learn.freeze_to(-2), [False, False, True, True]),
            (lambda: learn.freeze_to(1), [False, True, True, True]),
            (learn.unfreeze, [True] * 4),
        ]:
            call()
            assert [g.trainable for g in learn.layer_groups] == expected
            before = everything(learn.model)
            learn.fit(1e-2, 1)
            after = everything(learn.model)
            for i, trains in enumerate(expected[:3]):
                name = f"encoder.rnns.{i}.weight_hh_l0"
                assert torch.equal(before[name], after[name]) != trains
            assert not torch.equal(before["encoder.embedding.weight"], after["encoder.embedding.weight"])
        seen: list[list[float]] = []
        rates = [1e-4, 1e-3, 1e-2, 2e-2]

        def note(run: Any) -> None:
            scale = run.batch.inputs[0].shape[1] / 7
            seen.append(sorted({round(g["lr"] / scale, 12) for g in run.optimizer.param_groups}))

        learn.fit(rates, 1, schedule=lambda epoch, n: 1.0, callbacks=[at(loss=note)])
        assert seen and all(found == pytest.approx(rates) for found in seen)
        with pytest.raises(ArgumentError, match="4"):
            learn.fit([1e-3] * 5, 1)

    def test_tied_or_not(self) -> None:
        assert isinstance(tied := lm().model, LanguageModel) and tied.decoder.weight is tied.encoder.embedding.weight
        assert isinstance(loose := lm(tie_weights=False).model, LanguageModel)
        assert loose.decoder.weight is not loose.encoder.embedding.weight

    def test_metrics_that_are_no_mean_over_tokens_are_refused_at_once(self) -> None:
        with pytest.raises(
            ArgumentError, match=r"mean over tokens \(perplexity, accuracy, top_k\(5\)\), and 'roc_auc'"
        ):
            lm(metrics=[metrics.roc_auc])
        with pytest.raises(ArgumentError, match="'own' is not"):
            lm(metrics=[metrics.Metric("own", lambda outputs, targets: 0.0, True)])
        learn = lm(metrics=[metrics.top_k(3), metrics.error_rate])
        found = learn.validate()
        assert list(found) == ["valid_loss", "top_3_accuracy", "error_rate"]
        assert not lm(metrics=[]).validate().keys() - {"valid_loss"}

    def test_a_loss_of_ones_own(self) -> None:
        def loss(logits: Tensor, target: Tensor) -> Tensor:
            return F.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=-100)

        own, plain = lm(loss=loss), lm()
        assert own.validate()["valid_loss"] == pytest.approx(plain.validate()["valid_loss"], rel=1e-5)

    def test_savers_averages_accumulation_and_bf16(self, tmp_path: Path) -> None:
        learn = lm(path=tmp_path, optimizer=sgd, accumulate=2, clip=0.25)
        record = learn.fit(1e-2, 2, save_best=SaveBest("best", "perplexity"), callbacks=[WeightAverage()])
        learn.fit(1e-2, 1, callbacks=[WeightAverage("ema", decay=0.5)])
        learn.load("best")
        assert math.isfinite(learn.validate()["perplexity"]) and (tmp_path / "best.safetensors").exists()
        assert "perplexity" in record.last
        half = lm(precision="bf16")
        assert math.isfinite(half.fit(1e-2, 1).last["valid_loss"])

    def test_a_fit_that_was_stopped_does_no_harm(self, at: Any) -> None:
        learn = lm()

        def stop(run: Any) -> None:
            run.stop_reason = "enough"

        learn.fit(1e-2, 1, callbacks=[at(batch_end=stop)])
        assert math.isfinite(learn.fit(1e-2, 1).last["perplexity"])

    def test_refused(self) -> None:
        data = TextData.from_lists(TEXTS, LABELS, min_freq=1, progress=False)
        with pytest.raises(ArgumentError, match="a language model needs TextLMData, got TextData"):
            language_model_learner(data)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="a text classifier needs TextData, got TextLMData"):
            text_classifier_learner(lm_data())  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match=r"drops=Drops\(weight=...\)"):
            lm(wdrop=0.5)
        with pytest.raises(ArgumentError, match="emb_size"):
            lm(emb_sz=4)
        with pytest.raises(ArgumentError, match="n_hidden must be"):
            lm(n_hidden=0)
        learn = lm(lm_data(valid=None))
        with pytest.raises(DataError, match="no valid split"):
            learn.validate()
        assert "perplexity" not in learn.fit(1e-2, 1).last


class TestClassifier:
    def test_it_learns(self) -> None:
        learn = classifier(drops=NO_DROPS, ps=0.0, n_layers=1, emb_size=16)
        for _ in range(2):
            learn.fit_one_cycle(1e-2, 25)
        assert learn.validate()["accuracy"] == 1.0
        assert learn.predict(["good film that we liked", "bad film that all liked"]).labels == ("pos", "neg")

    def test_groups_and_gradual_unfreezing(self) -> None:
        learn = classifier()
        assert [g.name for g in learn.layer_groups] == ["embedding", "rnn1", "rnn2", "rnn3", "head"]
        for k in (-1, -2, -3):
            learn.freeze_to(k)
            learn.fit(slice(1e-2 / 2.6**4, 1e-2), 1)
            assert sum(g.trainable for g in learn.layer_groups) == -k
        learn.unfreeze()
        assert len(learn.fit([1e-5, 1e-4, 1e-3, 1e-2, 1e-2], 1)) > 0

    def test_arguments_reach_the_model(self) -> None:
        learn = classifier(bptt=9, max_len=30, layers=(7, 5), ps=[0.1, 0.2, 0.3], drop_mult=0.5, label_smoothing=0.1)
        model = learn.model
        assert isinstance(model, TextClassifier) and (model.bptt, model.max_len) == (9, 30)
        assert model.encoder.drops.weight == 0.25 and learn.task.label_smoothing == 0.1
        assert [m.p for m in model.head.modules() if isinstance(m, nn.Dropout)] == [0.1, 0.2, 0.3]
        with pytest.raises(ArgumentError, match="max_len must be"):
            classifier(max_len=0)

    def test_lr_find_leaves_everything(self) -> None:
        learn = classifier()
        before = everything(learn.model)
        learn.lr_find()
        after = everything(learn.model)
        assert all(torch.equal(before[n], after[n]) for n in before)

    def test_forward_and_backward_are_averaged(self) -> None:
        learners = []
        for backward in (False, True):
            data = TextData.from_lists(TEXTS, LABELS, min_freq=1, progress=False, valid=0.25, backward=backward)
            learners.append(classifier(data))
        a, b = (learn.predict() for learn in learners)
        both = average_predictions(a, b)
        torch.testing.assert_close(both.probs, (a.probs + b.probs) / 2)
        assert both.ids == a.ids and both.views.shape[0] == 2 and both.targets is a.targets
        assert both.labels == tuple(a.classes[i] for i in both.probs.argmax(1))

    def test_sizes_by_default(self) -> None:
        data = TextData.from_lists(TEXTS, LABELS, min_freq=1, progress=False)
        encoder = text_classifier_learner(data, n_layers=1, device="cpu").model.encoder
        assert isinstance(encoder, AWDLSTM) and encoder.emb_size == 400


def test_what_belongs_to_another_call_is_said() -> None:
    df = pd.DataFrame({"review": ["good one", "bad thing"] * 10, "stars": ["x", "y"] * 10})
    with pytest.raises(
        DataError, match=r"no columns \['text', 'label'\]; they are needed: say with text=.* and label=.* review, stars"
    ):
        TextData.from_df(df)
    with pytest.raises(DataError, match=r"no columns \['text'\]; they are needed: say with text="):
        TextLMData.from_df(df)
    with pytest.raises(ArgumentError, match=r"no argument 'seq_len'\. (?!.*bptt)"):
        TextData.from_df(df, "review", "stars", seq_len=3)  # type: ignore[call-arg]
    with pytest.raises(ArgumentError, match="called 'bptt' here"):
        TextLMData.from_df(df, "review", seq_len=3)  # type: ignore[call-arg]
    data = TextData.from_df(df, "review", "stars")
    with pytest.raises(ArgumentError, match="called 'bptt' here"):
        text_classifier_learner(data, seq_len=3)  # type: ignore[call-arg]
    with pytest.raises(ArgumentError, match='body="minilm"'):
        text_classifier_learner(data, precompute=True)
