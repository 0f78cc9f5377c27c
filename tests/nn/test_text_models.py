"""Language model and classifier against plain loops: carried state, gradients, memory, and bad input."""

import copy
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from easylearn import keyed
from easylearn.errors import ArgumentError
from easylearn.nn.awd_lstm import Drops
from easylearn.nn.groups import place_parameters, set_train_mode
from easylearn.nn.text_models import LanguageModel, TextClassifier, classifier_head
from tests.nn.lstm_parts import ALL, NONE, encoder, gradients, stacked, tokens


@pytest.fixture(autouse=True)
def _seeded():  # type: ignore[no-untyped-def]
    with keyed.scoped_rng(0, "test"):
        yield


# The language model


def test_tied_weights_are_one_parameter() -> None:
    model = LanguageModel(encoder())
    assert model.decoder.weight is model.encoder.embedding.weight
    assert copy.deepcopy(model).decoder.weight is not model.decoder.weight
    free = LanguageModel(encoder(), tie=False, bias=False)
    assert free.decoder.weight is not free.encoder.embedding.weight and free.decoder.bias is None


@pytest.mark.parametrize("tie", [True, False])
def test_groups_of_the_language_model(tie: bool) -> None:
    model = LanguageModel(encoder(), tie=tie)
    placed = place_parameters(model, model.layer_groups())
    assert [g.name for g in placed] == ["rnn1", "rnn2", "rnn3", "embedding"]
    assert next(name for name, _ in placed[-1].params) == "encoder.embedding.weight"
    assert len(placed[-1].params) == (2 if tie else 3)
    assert sum(g.n_params() for g in placed) == sum(p.numel() for p in model.parameters())


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_windows_are_one_long_text(sizes: list[int]) -> None:
    model = LanguageModel(encoder()).eval()
    x = tokens(3, sum(sizes))
    whole = model(x, torch.tensor(False))
    parts, at = [], 0
    for i, size in enumerate(sizes):
        parts.append(model(x[:, at : at + size], torch.tensor(i > 0)))
        at += size
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-5)
    state, parts, at = None, [], 0
    for size in sizes:
        logits, state = model.step(x[:, at : at + size], state)
        parts.append(logits)
        at += size
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-5)


def test_each_row_may_begin_anew() -> None:
    model = LanguageModel(encoder()).eval()
    first, second = tokens(3, 4), tokens(3, 5)
    model(first, torch.tensor(False))
    mixed = model(second, torch.tensor([True, False, True]))
    fresh = model(second, torch.tensor(False))
    going_on = model.step(second, model.step(first)[1])[0]
    torch.testing.assert_close(mixed[1], fresh[1])
    torch.testing.assert_close(mixed[[0, 2]], going_on[[0, 2]])
    assert not torch.allclose(mixed[0], fresh[0])


def test_no_nan_comes_over_where_nothing_is_carried() -> None:
    model = LanguageModel(encoder()).eval()
    model(tokens(3, 4), torch.tensor(False))
    for h, c in model.state:
        h.fill_(math.nan), c.fill_(math.nan)
    assert bool(model(tokens(3, 4), torch.tensor(False)).isfinite().all())


def test_state_is_in_buffers_that_are_not_saved() -> None:
    model = LanguageModel(encoder())
    names = [name for name, _ in model.named_buffers()]
    assert names == ["hidden1", "cell1", "hidden2", "cell2", "hidden3", "cell3"]
    assert all(b.shape[1] == 0 for _, b in model.named_buffers())
    assert not [name for name in model.state_dict() if "hidden" in name or "cell" in name]
    model(tokens(3, 4), torch.tensor(True)).sum().backward()
    assert all(b.shape[1] == 3 and not b.requires_grad for b in model.buffers())
    kept = {name: b.clone() for name, b in model.named_buffers()}
    model.step(tokens(2, 4))
    assert all(torch.equal(b, kept[name]) for name, b in model.named_buffers())
    assert model(tokens(5, 4), torch.tensor(True)).shape == (5, 4, 30), "another number of rows begins anew"
    model.reset()
    assert all(b.shape[1] == 0 for _, b in model.named_buffers())


def test_a_checkpoint_of_the_buffers_goes_on_as_before() -> None:
    model = LanguageModel(encoder())
    model(tokens(3, 4), torch.tensor(False))
    other = copy.deepcopy(model)
    for name, value in model.named_buffers():
        setattr(other, name, value.clone())
    x = tokens(3, 4)
    assert torch.equal(model(x, torch.tensor(True)), other(x, torch.tensor(True)))


def test_training_and_evaluation_have_states_of_their_own() -> None:
    model = LanguageModel(encoder())
    with torch.no_grad():
        model(tokens(3, 4), torch.tensor(False))
        kept = [t.clone() for pair in model.state for t in pair]
        model.eval()
        assert model.state[0][0].shape[1] == 0
        model(tokens(2, 5), torch.tensor(False))
        assert model.state[0][0].shape[1] == 2 and copy.deepcopy(model).state[0][0].shape[1] == 0
        model.train()
    assert all(torch.equal(a, b) for a, b in zip(kept, [t for pair in model.state for t in pair], strict=True))


def test_threads_that_evaluate_at_once_do_not_meet() -> None:
    model = LanguageModel(encoder()).eval()
    texts = [tokens(3, 40) for _ in range(8)]

    def read(text: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([model(text[:, i : i + 2], torch.tensor(i > 0)) for i in range(0, 40, 2)], 1)

    expected = [read(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert all(torch.equal(a, b) for a, b in zip(expected, pool.map(read, texts), strict=True))


def test_state_from_evaluation_does_not_hinder_training() -> None:
    model = LanguageModel(encoder(drops=ALL))
    with torch.inference_mode():
        model(tokens(3, 4), torch.tensor(False))
    model(tokens(3, 4), torch.tensor(True)).sum().backward()


def test_wrong_calls_of_the_language_model() -> None:
    model = LanguageModel(encoder())
    for carry in (torch.tensor([True, False]), torch.tensor(1.0)):
        with pytest.raises(ArgumentError, match="carry must be booleans"):
            model(tokens(3, 4), carry)
    for x in (torch.zeros(3, 0, dtype=torch.long), torch.zeros(3, dtype=torch.long)):
        with pytest.raises(ArgumentError, match="at least one token"):
            model.encoder(x)
    with pytest.raises(ArgumentError, match="2 rows"):
        model.encoder(tokens(3, 4), model.encoder.start(2))
    with pytest.raises(ArgumentError, match="1 layers"):
        model.encoder(tokens(3, 4), model.encoder.start(3)[:1])


# The classifier


def by_hand(model: TextClassifier, x: Tensor, lengths: list[int]) -> Tensor:
    """Row by row, over the whole text at once."""
    rows = []
    for row, n in zip(x, lengths, strict=True):
        if n:
            raw = stacked(model.encoder, row[None, :n])[0]
            rows.append(torch.cat((raw[-1], raw.amax(0), raw.mean(0))))
        else:
            rows.append(torch.zeros(3 * model.encoder.emb_size))
    return torch.stack(rows)


def classifier(bptt: int = 4, max_len: int = 1000, drops: Drops = NONE) -> TextClassifier:
    return TextClassifier(encoder(drops=drops), classifier_head(6, 2), bptt=bptt, max_len=max_len)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 23), min_size=1, max_size=7), st.integers(1, 9), st.booleans())
def test_features_are_those_of_each_row_alone(lengths: list[int], bptt: int, training: bool) -> None:
    model = classifier(bptt, max_len=5).train(training)
    x = tokens(len(lengths), max(lengths) + 2)
    expected = by_hand(model, x, lengths)
    torch.testing.assert_close(model.features(x, torch.tensor(lengths)), expected, rtol=1e-5, atol=1e-5)
    # What stands in the padding is not looked at.
    for row, n in zip(x, lengths, strict=True):
        row[n:] = 1
    torch.testing.assert_close(model.features(x, torch.tensor(lengths)), expected, rtol=1e-5, atol=1e-5)


def test_one_window_has_the_gradients_of_the_whole() -> None:
    model, x, lengths = classifier(bptt=50), tokens(5, 20), [7, 20, 0, 1, 19]
    pooled = model.features(x, torch.tensor(lengths))
    weight = torch.randn_like(pooled)
    expected = by_hand(model, x, lengths)
    for a, b in zip(
        gradients(model.encoder, (pooled * weight).sum()),
        gradients(model.encoder, (expected * weight).sum()),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def words_with_gradient(model: TextClassifier, x: Tensor, lengths: list[int]) -> Tensor:
    """Which positions of x, whose tokens all differ, get a gradient."""
    model.encoder.embedding.weight.grad = None
    model.features(x, torch.tensor(lengths)).sum().backward()
    assert model.encoder.embedding.weight.grad is not None
    return (model.encoder.embedding.weight.grad != 0).any(1)[x]


def test_gradients_reach_the_windows_of_the_last_tokens_only() -> None:
    model = TextClassifier(encoder(n_tokens=200), classifier_head(6, 2), bptt=4, max_len=6)
    lengths = [30, 17, 6, 3]
    x = torch.arange(2, 2 + 4 * 30).view(4, 30)
    seen = words_with_gradient(model, x, lengths)
    for row, n in zip(seen, lengths, strict=True):
        first = max(n - 6, 0) // 4 * 4
        assert row.tolist() == [first <= i < n for i in range(30)]


def test_gradients_of_a_row_do_not_depend_on_its_batch() -> None:
    model = classifier(bptt=4, max_len=6)
    x, lengths = tokens(4, 30), [17, 30, 3, 12]
    together = gradients(model.encoder, model.features(x, torch.tensor(lengths)).sum())
    alone = [torch.zeros_like(g) for g in together]
    for row, n in zip(x, lengths, strict=True):
        for total, g in zip(
            alone, gradients(model.encoder, model.features(row[None], torch.tensor([n])).sum()), strict=True
        ):
            total += g
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def kept_numbers(model: nn.Module, run) -> int:  # type: ignore[no-untyped-def]
    """How many numbers `run` keeps for a backward pass, parameters aside."""
    own = {p.data_ptr() for p in model.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own and tensor.numel():
            kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
        total = sum(t.numel() for t in kept.values())
    del result
    return total


def test_memory_of_training_does_not_grow_with_the_text() -> None:
    model = classifier(bptt=10, max_len=40, drops=ALL)
    few, many = (
        kept_numbers(model, lambda n=n: model.features(tokens(2, n), torch.tensor([n, n // 2]))) for n in (100, 800)
    )
    assert many <= few * 1.3, (few, many)


def test_frozen_lower_layers_keep_nothing_and_cost_no_backward() -> None:
    model = classifier(bptt=10, drops=ALL)
    groups = place_parameters(model, model.layer_groups())
    assert [g.name for g in groups] == ["embedding", "rnn1", "rnn2", "rnn3", "head"]
    x, lengths = tokens(4, 20), torch.tensor([20, 15, 9, 4])
    kept = []
    for n_frozen in range(5):
        for i, group in enumerate(groups):
            for _, p in group.params:
                p.requires_grad_(i >= n_frozen)
        set_train_mode(model, groups, freeze_stats=False)
        kept.append(kept_numbers(model.encoder, lambda: model.features(x, lengths)))
        model(x, lengths).sum().backward()
        for i, group in enumerate(groups):
            assert all((p.grad is None) == (i < n_frozen) for _, p in group.params)
            for _, p in group.params:
                p.grad = None
    assert kept[-1] == 0 and kept == sorted(kept, reverse=True) and kept[1] > 2 * kept[3]


def test_gradients_pass_through_a_frozen_layer() -> None:
    model = LanguageModel(encoder(drops=ALL))
    groups = place_parameters(model, model.layer_groups())
    for group in groups[:-1]:
        for _, p in group.params:
            p.requires_grad_(False)
    set_train_mode(model, groups, freeze_stats=False)
    x = tokens(3, 4)
    model(x, torch.tensor(True)).sum().backward()
    assert model.encoder.embedding.weight.grad is not None
    assert model.encoder.layers[0].get_parameter("weight_hh_l0").grad is None


def test_all_rows_empty() -> None:
    model = classifier()
    assert torch.equal(model.features(torch.ones(2, 5, dtype=torch.long), torch.tensor([0, 0])), torch.zeros(2, 18))
    assert bool(model(torch.ones(2, 0, dtype=torch.long), torch.tensor([0, 0])).isfinite().all())


def test_weights_are_dropped_once_for_all_windows() -> None:
    model = classifier(bptt=3, drops=Drops(0.0, 0.0, 0.5, 0.0, 0.0))
    x = tokens(2, 12)
    with keyed.scoped_rng(5):
        chunked = model.features(x, torch.tensor([12, 12]))
    model.bptt = 12
    with keyed.scoped_rng(5):
        whole = model.features(x, torch.tensor([12, 12]))
    torch.testing.assert_close(chunked, whole, rtol=1e-5, atol=1e-5)


def test_wrong_calls_of_the_classifier() -> None:
    model, x = classifier(), tokens(2, 5)
    for lengths in (torch.tensor([5]), torch.tensor([[5, 5]])):
        with pytest.raises(ArgumentError, match="lengths"):
            model(x, lengths)
    for lengths in (torch.tensor([6, 1]), torch.tensor([-1, 1])):
        with pytest.raises(ArgumentError, match="between 0 and the 5 tokens"):
            model(x, lengths)
    for wrong in ({"bptt": 0}, {"max_len": 0.5}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            TextClassifier(encoder(), classifier_head(6, 2), **wrong)  # type: ignore[arg-type]


def test_head_of_the_classifier() -> None:
    def drops(head: nn.Module) -> list[float]:
        return [layer.p for layer in head.modules() if isinstance(layer, nn.Dropout)]

    assert drops(classifier_head(6, 2)) == [0.4, 0.1]
    assert drops(classifier_head(6, 2, (9, 8))) == [0.4, 0.1, 0.1]
    assert drops(classifier_head(6, 2, (9,), 0.3)) == [0.3, 0.3]
    assert classifier_head(6, 2).eval()(torch.zeros(3, 18)).shape == (3, 2)
