from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from easylearn.errors import ArgumentError
from easylearn.learning import Learner
from easylearn.nn.awd_lstm import AWDLSTM, Drops
from easylearn.nn.text_models import Candidates, LanguageModel
from easylearn.task import NO_TARGET
from easylearn.texts.callbacks import ActivationPenalty, RateByLength, SampledSoftmax
from easylearn.texts.data import TextData, TextLMData
from easylearn.texts.learner import language_model_learner, text_classifier_learner

SMALL: dict[str, Any] = {"emb_size": 8, "n_hidden": 12, "n_layers": 2, "device": "cpu", "progress": False}
NO_DROPS = Drops(0, 0, 0, 0, 0)
TEXTS = [f"{a} film that {b} liked" for a in ("good", "bad", "long", "short") for b in ("we", "they", "all", "few")]


def lm(**changes: Any) -> Learner:
    data = TextLMData.from_lists(TEXTS, min_freq=1, batch_size=4, bptt=7, progress=False)
    return language_model_learner(data, **{**SMALL, **changes})


def classifier(**changes: Any) -> Learner:
    labels = ["good" in t or "long" in t for t in TEXTS]
    data = TextData.from_lists(TEXTS, labels, min_freq=1, batch_size=4, progress=False)
    return text_classifier_learner(data, **{**SMALL, **changes})


class TestActivationPenalty:
    def test_by_hand(self, at: Any) -> None:
        learn = lm(drops=NO_DROPS, alpha=0, beta=0)
        found: list[tuple[float, float]] = []
        plain: dict[str, Any] = {}

        def before(run: Any) -> None:
            plain["loss"] = run.loss.detach().clone()
            tokens, _ = run.batch.inputs
            state = plain.get("state")
            encoder = run.model.encoder
            with torch.no_grad():
                out = encoder(tokens, state)
            plain["state"] = out.state
            ar = out.raw.pow(2).mean()
            tar = (out.raw[:, 1:] - out.raw[:, :-1]).pow(2).mean() if out.raw.shape[1] > 1 else 0.0
            plain["penalty"] = float(3 * ar + 0.5 * tar)

        def after(run: Any) -> None:
            found.append((float(run.loss.detach() - plain["loss"]), plain["penalty"]))

        learn.fit(0.0, 1, callbacks=[at(loss=before), ActivationPenalty(3, 0.5), at(loss=after)])
        assert len(found) == len(learn.data.loader("train", training=True))
        for added, expected in found:
            assert added == pytest.approx(expected, rel=1e-3, abs=1e-6)

    def test_it_is_there_by_default_and_not_in_validation(self) -> None:
        learn = lm(drops=NO_DROPS)
        assert [type(c) for c in learn.callbacks] == [RateByLength, ActivationPenalty]
        record = learn.fit(0.0, 1)
        assert record.last["valid_loss"] == pytest.approx(learn.validate()["valid_loss"], rel=1e-5)
        assert [type(c) for c in lm(alpha=0, beta=0).callbacks] == [RateByLength]
        assert [type(c) for c in classifier().callbacks] == [ActivationPenalty]

    def test_a_frozen_encoder_is_left_out(self, at: Any) -> None:
        learn = classifier(drops=NO_DROPS, ps=0.0)
        losses: list[tuple[float, float]] = []
        values: list[float] = []

        def note(run: Any) -> None:
            values.append(run.loss.item())

        def pair(run: Any) -> None:
            losses.append((values[-1], run.loss.item()))

        alone = ActivationPenalty(5, 5)
        learn.callbacks = []
        learn.freeze()
        learn.fit(0.01, 1, callbacks=[at(loss=note), alone, at(loss=pair)])
        assert losses and all(a == b for a, b in losses)
        losses.clear()
        learn.unfreeze()
        learn.fit(0.01, 1, callbacks=[at(loss=note), alone, at(loss=pair)])
        assert losses and all(b > a for a, b in losses)

    def test_nothing_stays_in_the_model(self) -> None:
        learn = lm()
        learn.fit(0.01, 1)
        encoder = learn.model.encoder
        assert isinstance(encoder, AWDLSTM) and not encoder._forward_hooks

    def test_refused(self, make_learner: Any) -> None:
        with pytest.raises(ArgumentError, match="at least 0"):
            ActivationPenalty(-1)
        with pytest.raises(ArgumentError, match="needs a model with an AWDLSTM, got Sequential"):
            make_learner(callbacks=[ActivationPenalty()]).fit(0.1, 1)


class TestRateByLength:
    def test_the_rate_follows_the_window(self, at: Any) -> None:
        learn = lm()
        seen: list[tuple[int, list[float]]] = []

        def note(run: Any) -> None:
            seen.append((run.batch.inputs[0].shape[1], sorted({g["lr"] for g in run.optimizer.param_groups})))

        learn.fit([1e-3, 2e-3, 4e-3], 1, schedule=lambda epoch, n: 1.0, callbacks=[at(loss=note)])
        assert len({n for n, _ in seen}) > 1
        for n, rates in seen:
            assert rates == pytest.approx([n / 7 * 1e-3, n / 7 * 2e-3, n / 7 * 4e-3])

    def test_a_classifier_and_the_finder_go_without(self) -> None:
        assert not any(isinstance(c, RateByLength) for c in classifier().callbacks)
        rates = lm().lr_find().rates
        assert all(a < b for a, b in pairwise(rates))


class TestSampledSoftmax:
    def test_over_all_draws_the_sum_under_the_softmax_is_right(self) -> None:
        """Exactly: the mean over every possible draw of the estimated sum is the whole sum."""
        torch.manual_seed(0)
        model = LanguageModel(AWDLSTM(12, emb_size=4, n_hidden=4, n_layers=1, drops=NO_DROPS))
        x, target = torch.randn(1, 3, 4), torch.tensor([[2, 5, 2]])
        whole = model.decoder(x).exp().sum(-1)
        others = [t for t in range(12) if t not in (2, 5)]
        sums = []
        for drawn in combinations(others, 3):
            tokens = torch.tensor([2, 5, *drawn])
            shift = torch.tensor([0.0, 0.0] + [math.log(10 / 3)] * 3)
            sums.append(Candidates(tokens, shift).decode(x, model.decoder).exp().sum(-1))
        assert target.shape == whole.shape
        assert torch.allclose(torch.stack(sums).mean(0), whole, rtol=1e-5)

    def test_targets_are_numbered_among_the_candidates(self, at: Any) -> None:
        learn = lm(drops=NO_DROPS, sampled=2)
        batches: list[tuple[Any, Any]] = []
        given: list[Any] = []

        def note(run: Any) -> None:
            given.append(run.batch.target)

        def compare(run: Any) -> None:
            candidates = run.model._candidates
            batches.append((candidates.tokens[run.batch.target], run.logits.shape[-1]))
            assert len(candidates.tokens.unique()) == len(candidates.tokens)
            own = given[-1].unique()
            assert sorted(candidates.tokens[: len(own)].tolist()) == own.tolist()
            assert candidates.shift.count_nonzero() == 2

        callbacks, learn.callbacks = learn.callbacks, []
        learn.fit(0.01, 1, callbacks=[at(batch_begin=note), *callbacks, at(loss=compare)])
        assert len(batches) == len(given) > 1
        for (tokens, width), target in zip(batches, given, strict=True):
            assert torch.equal(tokens, target)
            assert width == len(target.unique()) + 2

    def test_with_room_for_all_it_changes_nothing(self) -> None:
        one, two = lm(), lm(sampled=1000)
        one.fit(0.01, 2)
        two.fit(0.01, 2)
        assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True))

    def test_it_learns_as_the_whole_softmax_does(self) -> None:
        found = [lm(drops=NO_DROPS, sampled=s).fit(0.05, 12).last["valid_loss"] for s in (None, 2)]
        start = lm().validate()["valid_loss"]
        assert found[1] < start - 0.5
        assert found[1] == pytest.approx(found[0], abs=0.25)

    def test_validation_and_what_comes_after_a_fit_choose_among_all(self) -> None:
        learn = lm(sampled=2)
        record = learn.fit(0.01, 1)
        assert record.last["valid_loss"] == pytest.approx(learn.validate()["valid_loss"], rel=1e-5)
        assert learn.model._candidates is None

    def test_an_error_in_the_middle_leaves_the_model_whole(self, at: Any) -> None:
        learn = lm(sampled=2)

        def fail(run: Any) -> None:
            raise RuntimeError("in the middle")

        with pytest.raises(RuntimeError, match="in the middle"):
            learn.fit(0.01, 1, callbacks=[at(loss=fail)])
        assert learn.model._candidates is None

    def test_again_it_is_the_same(self, disturb: Callable[[], None]) -> None:
        losses = []
        for seed in (0, 0, 1):
            disturb()
            losses.append(lm(sampled=2, seed=seed).fit(0.01, 2).losses)
        assert losses[0] == losses[1] != losses[2]

    def test_where_there_is_no_target_none_is_made(self) -> None:
        learn = lm(sampled=1)
        batch = next(iter(learn.data.loader("train", training=True).batches(torch.device("cpu"))))
        run = SimpleNamespace(model=learn.model, batch=batch)
        target = run.batch.target.clone()
        target[:, -1] = NO_TARGET
        run.batch = replace(run.batch, target=target)
        SampledSoftmax(1).on_batch_begin(run)
        assert (run.batch.target[:, -1] == NO_TARGET).all()
        assert torch.equal(run.model._candidates.tokens[run.batch.target[:, :-1]], target[:, :-1])

    @pytest.mark.parametrize("n", [0, -1, 2.5, True, "many"])
    def test_bad_numbers(self, n: Any) -> None:
        with pytest.raises(ArgumentError, match="whole number of at least 1"):
            SampledSoftmax(n)

    def test_only_for_language_models(self) -> None:
        with pytest.raises(ArgumentError, match="needs a LanguageModel, got TextClassifier"):
            classifier().fit(0.01, 1, callbacks=[SampledSoftmax(3)])
