"""AWD-LSTM against torch.nn.LSTM and plain loops, then its dropouts and bad input."""

import copy
import math
import os

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from easylearn import keyed
from easylearn.errors import ArgumentError
from easylearn.nn.awd_lstm import AWDLSTM, CLASSIFIER_DROPS, LM_DROPS, Drops, EncoderOutput, activation_penalty
from easylearn.nn.bert import Bert, BertShape
from easylearn.nn.groups import place_parameters, set_train_mode
from easylearn.nn.text_models import LanguageModel, TextClassifier, classifier_head
from tests.nn.lstm_parts import ALL, NONE, encoder, gradients, stacked, tokens


@pytest.fixture(autouse=True)
def _seeded():  # type: ignore[no-untyped-def]
    with keyed.scoped_rng(0, "test"):
        yield


# Against torch.nn.LSTM


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("training", [True, False])
def test_without_dropout_it_is_torchs_lstm_to_the_bit(n_layers: int, training: bool) -> None:
    model = encoder(n_layers, NONE if training else ALL).train(training)
    x = tokens(4, 7)
    ours, reference = model(x), stacked(model, x)
    assert torch.equal(ours.raw, reference) and ours.dropped is ours.raw
    weight = torch.randn_like(reference)
    for a, b in zip(
        gradients(model, (ours.raw * weight).sum()), gradients(model, (reference * weight).sum()), strict=True
    ):
        assert torch.equal(a, b)


def test_equal_widths_are_one_torch_lstm_of_three_layers() -> None:
    model = encoder(3, emb=8, hidden=8)
    whole = nn.LSTM(8, 8, 3, batch_first=True)
    with torch.no_grad():
        for i, rnn in enumerate(model.layers):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                whole.get_parameter(f"{name}_l{i}").copy_(rnn.get_parameter(f"{name}_l0"))
    x = tokens(4, 7)
    out, (h, c) = whole(model.embedding(x))
    ours = model(x)
    torch.testing.assert_close(ours.raw, out)
    torch.testing.assert_close(torch.cat([a for a, _ in ours.state]), h)
    torch.testing.assert_close(torch.cat([b for _, b in ours.state]), c)


def test_dropped_weights_reach_the_kernel_and_the_gradient() -> None:
    model = encoder(2, Drops(0.0, 0.0, 0.5, 0.0, 0.0))
    x = tokens(3, 5)
    weights = model.drop_weights()
    ours = model(x, weights=weights)
    other = copy.deepcopy(model)
    masks = []
    with torch.no_grad():
        for rnn, dropped in zip(other.layers, weights, strict=True):
            assert dropped is not None
            masks.append((dropped != 0) * 2.0)
            rnn.get_parameter("weight_hh_l0").copy_(dropped)
    reference = stacked(other, x)
    assert torch.equal(ours.raw, reference)
    names = [name for name, _ in model.named_parameters()]
    seen = dict(zip(names, gradients(model, ours.raw.sum()), strict=True))
    expected = dict(zip(names, gradients(other, reference.sum()), strict=True))
    for i, mask in enumerate(masks):
        expected[f"rnns.{i}.weight_hh_l0"] *= mask
    for name in names:
        torch.testing.assert_close(seen[name], expected[name])


def test_names_of_tensors_are_those_of_torch() -> None:
    inside = [f"{kind}_{place}_l0" for kind in ("weight", "bias") for place in ("ih", "hh")]
    expected = {"embedding.weight", *(f"rnns.{i}.{name}" for i in range(3) for name in inside)}
    assert encoder(drops=ALL).state_dict().keys() == expected
    assert [tuple(rnn.get_parameter("weight_ih_l0").shape) for rnn in encoder().layers] == [(36, 6), (36, 9), (24, 9)]


def test_weights_survive_training_steps_and_a_round_trip() -> None:
    model = LanguageModel(encoder(drops=ALL))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = copy.deepcopy(model.state_dict())
    for _ in range(2):
        model(tokens(2, 4), torch.tensor(True)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(not torch.equal(before[name], value) for name, value in model.state_dict().items())
    fresh = LanguageModel(encoder(drops=ALL))
    assert fresh.load_state_dict(model.state_dict()).missing_keys == []
    x = tokens(2, 4)
    fresh.eval(), model.eval()
    assert torch.equal(fresh(x, torch.tensor(False)), model(x, torch.tensor(False)))


def test_the_vector_of_padding_is_zero_and_stays() -> None:
    model = encoder(drops=ALL)
    assert bool((model.embedding.weight[1] == 0).all()) and float(model.embedding.weight.detach().abs().max()) <= 0.1
    model(torch.tensor([[3, 1, 1]])).raw.sum().backward()
    assert model.embedding.weight.grad is not None and bool((model.embedding.weight.grad[1] == 0).all())


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.uint8])
def test_any_integers_are_tokens(dtype: torch.dtype) -> None:
    model, x = encoder().eval(), tokens(2, 5)
    assert torch.equal(model(x.to(dtype)).raw, model(x).raw)


@pytest.mark.parametrize("drops", [NONE, ALL])
def test_autocast(drops: Drops) -> None:
    model = LanguageModel(encoder(drops=drops))
    x = tokens(3, 5)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x, torch.tensor(True))
        F.cross_entropy(logits.float().flatten(0, 1), x.flatten()).backward()
    classifier = TextClassifier(encoder(drops=drops), classifier_head(6, 2), bptt=2)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = classifier.features(x, torch.tensor([5, 3, 1]))
    assert pooled.dtype == torch.float32, "sums over a long text need the longer type"
    torch.testing.assert_close(model.eval()(x, torch.tensor(True)).isfinite().all(), torch.tensor(True))


# Dropouts


def test_masks_follow_the_global_generator() -> None:
    model, x = encoder(drops=ALL), tokens(3, 5)
    made = []
    for seed in (1, 1, 2):
        with keyed.scoped_rng(seed):
            made.append(model(x).dropped)
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_a_word_is_dropped_wherever_it_stands() -> None:
    model = encoder(drops=Drops(0.5, 0.0, 0.0, 0.0, 0.0))
    x = tokens(20, 50)
    vectors, full = model._vectors(x), model.embedding(x)
    gone = (vectors == 0).all(2)
    for token in range(2, 30):
        there = gone[x == token]
        assert bool(there.all()) or not bool(there.any())
    torch.testing.assert_close(vectors[~gone], 2 * full[~gone])
    assert 0 < sum(bool(gone[x == token].all()) for token in range(2, 30)) < 28


def test_input_dropout_is_the_same_at_each_step_and_another_for_each_row() -> None:
    model = encoder(drops=Drops(0.0, 0.5, 0.0, 0.0, 0.0), emb=40)
    x = tokens(8, 6)
    ratio = model._vectors(x) / model.embedding(x)
    assert bool(((ratio == 0) | ((ratio - 2).abs() < 1e-5)).all())
    assert bool((ratio.sub(ratio[:, :1]).abs() < 1e-5).all()), "one mask for all steps"
    assert not torch.equal(ratio[0] == 0, ratio[1] == 0)


def test_hidden_dropout_is_between_layers_and_output_dropout_after_the_last() -> None:
    model = encoder(3, drops=Drops(0.0, 0.0, 0.0, 0.5, 0.5), emb=40, hidden=50)
    inputs: list[Tensor] = []
    for rnn in model.rnns:
        rnn.register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
    out = model(tokens(4, 6))
    gone = [(x == 0).float().mean().item() for x in inputs]
    assert gone[0] == 0 and all(0.3 < share < 0.7 for share in gone[1:]), gone
    for dropped in (*inputs[1:], out.dropped):
        assert bool(((dropped == 0) == (dropped[:, :1] == 0)).all()), "one mask for all steps"
    assert bool((out.raw != 0).all())
    kept = out.dropped != 0
    torch.testing.assert_close(out.dropped[kept], 2 * out.raw[kept])


def test_weight_mask_share_and_scale() -> None:
    model = encoder(2, Drops(weight=0.25), hidden=80)
    dropped = model.drop_weights()[0]
    own = model.layers[0].get_parameter("weight_hh_l0")
    assert dropped is not None
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], own[kept] / 0.75)


def test_a_frozen_part_drops_nothing() -> None:
    model = LanguageModel(encoder(drops=Drops(output=0.0)))
    groups = place_parameters(model, model.layer_groups())
    for group in groups:
        for _, p in group.params:
            p.requires_grad_(False)
    set_train_mode(model, groups, freeze_stats=False)
    assert model.training and model.encoder.drop_weights() == (None, None, None)
    x = tokens(3, 4)
    logits = model(x, torch.tensor(False))
    model.eval()
    assert torch.equal(logits, model(x, torch.tensor(False)))


def test_scaled_drops() -> None:
    assert LM_DROPS.scaled(1) == LM_DROPS == Drops(0.02, 0.25, 0.2, 0.15, 0.1)
    assert Drops(0.05, 0.4, 0.5, 0.3, 0.4) == CLASSIFIER_DROPS
    assert CLASSIFIER_DROPS.scaled(0) == NONE
    assert max(vars(CLASSIFIER_DROPS.scaled(10)).values()) < 1
    for bad in (-1, math.nan, math.inf, "1", True):
        with pytest.raises(ArgumentError, match="at least 0"):
            LM_DROPS.scaled(bad)  # type: ignore[arg-type]
    for bad in (-0.1, 1.0, math.nan, "x"):
        with pytest.raises(ArgumentError, match="hidden dropout"):
            Drops(hidden=bad)  # type: ignore[arg-type]


def test_activation_penalty() -> None:
    raw, dropped = torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    expected = 2 * (dropped**2).mean() + 3 * ((raw[:, 1:] - raw[:, :-1]) ** 2).mean()
    torch.testing.assert_close(activation_penalty(EncoderOutput(raw, dropped, ()), 2, 3), expected)
    one = EncoderOutput(raw[:, :1], dropped[:, :1], ())
    torch.testing.assert_close(activation_penalty(one), 2 * (dropped[:, :1] ** 2).mean())


@pytest.mark.parametrize(
    "wrong", [{"n_tokens": 0}, {"emb_size": -1}, {"n_hidden": 2.5}, {"n_layers": 0}, {"pad": 30}, {"drops": 0.5}]
)
def test_wrong_sizes(wrong: dict[str, object]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        AWDLSTM(**{"n_tokens": 30, "emb_size": 6, "n_hidden": 9, **wrong})  # type: ignore[arg-type]


# What torch keeps


@pytest.mark.parametrize("kind", ["lstm", "bert"])
def test_torch_keeps_few_kernels_for_texts_of_all_lengths(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LRU_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "700")
    AWDLSTM(10, 4, 4, 1) if kind == "lstm" else Bert(BertShape(10, 4, 1, 1, 4))
    assert os.environ["LRU_CACHE_CAPACITY"] == "32"
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "700"  # as somebody said
