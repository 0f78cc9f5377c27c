"""BERT's encoder beside torch's own transformer layers, which compute the same by other code."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from easylearn.errors import ArgumentError
from easylearn.nn.bert import Bert, BertShape, Pooling, encoder_classifier
from easylearn.nn.groups import place_parameters, set_train_mode
from easylearn.nn.registry import build, describe

SHAPE = BertShape(30, size=16, n_layers=3, n_heads=4, n_hidden=24, n_positions=12)
LENGTHS = torch.tensor([7, 3, 1])


def made(shape: BertShape = SHAPE) -> Bert:
    torch.manual_seed(0)
    bert = Bert(shape).eval()
    for p in bert.parameters():
        nn.init.normal_(p, std=0.4)
    return bert


def tokens() -> Tensor:
    return torch.randint(30, (3, 7), generator=torch.Generator().manual_seed(1))


def by_torch(bert: Bert, x: Tensor, real: Tensor) -> Tensor:
    """The last outputs, by `nn.TransformerEncoderLayer` with the same weights."""
    h = F.layer_norm(
        bert.words.weight[x] + bert.positions.weight[: x.shape[1]], (16,), bert.norm.weight, bert.norm.bias, 1e-12
    )
    for layer in bert.layers:
        other = nn.TransformerEncoderLayer(16, 4, 24, 0.0, "gelu", 1e-12, batch_first=True)
        theirs = {
            "self_attn.in_proj_": layer.qkv, "self_attn.out_proj.": layer.out, "linear1.": layer.wide,
            "linear2.": layer.narrow, "norm1.": layer.norm1, "norm2.": layer.norm2,
        }  # fmt: skip
        other.load_state_dict(
            {f"{n}{kind}": getattr(m, kind) for n, m in theirs.items() for kind in ("weight", "bias")}
        )
        other.train()  # the slow way, which is the plain one; it drops nothing
        h = other(h, src_key_padding_mask=~real)
    return h


def test_outputs_are_those_of_torchs_layers() -> None:
    bert, x = made(), tokens()
    with torch.no_grad():
        found, real = bert.outputs(x, LENGTHS)
        wanted = by_torch(bert, x, real)
    assert real.sum(1).tolist() == LENGTHS.tolist() and len(found) == 4
    torch.testing.assert_close(found[-1][real], wanted[real], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("depth", ["last", "all"])
def test_a_vector_is_made_of_the_real_tokens(pooling: str, normalize: bool, depth: str) -> None:
    shape = BertShape(30, 16, 3, 4, 24, 12, pooling=pooling, normalize=normalize, depth=depth)  # type: ignore[arg-type]
    bert, x = made(shape), tokens()
    with torch.no_grad():
        vectors, (found, _) = bert(x, LENGTHS), bert.outputs(x, LENGTHS)
    assert vectors.shape == (3, shape.n_features)
    for row, n in enumerate(LENGTHS.tolist()):
        last = found[-1][row, 0] if pooling == "cls" else found[-1][row, :n].mean(0)
        if normalize or depth == "all":
            last = last / last.norm()
        torch.testing.assert_close(vectors[row, -16:], last, rtol=1e-4, atol=1e-5)
        if depth == "all":
            first = found[0][row, :n].mean(0)
            torch.testing.assert_close(vectors[row, :16], first / first.norm(), rtol=1e-4, atol=1e-5)


def test_padding_and_neighbours_change_nothing() -> None:
    bert, x = made(), tokens()
    with torch.no_grad():
        whole = bert(x, LENGTHS)
        for row, n in enumerate(LENGTHS.tolist()):
            torch.testing.assert_close(
                bert(x[row : row + 1, :n], LENGTHS[row : row + 1])[0], whole[row], rtol=1e-4, atol=1e-5
            )
        assert bert(x, torch.zeros(3, dtype=torch.int64)).isfinite().all()  # rows that fill a batch up


def by_hand(bert: Bert, ids: list[int], width: int) -> Tensor:
    """The vector of one text, window after window."""
    inner = ids[1:-1]
    n = max(-(-len(inner) // (width - 2)), 1)
    size = -(-len(inner) // n)
    sums = [torch.zeros(16) for _ in range(4)]
    for k in range(n):
        some = torch.tensor([[ids[0], *inner[k * size : (k + 1) * size], ids[-1]]])
        for total, h in zip(sums, bert.outputs(some, torch.tensor([some.shape[1]]))[0], strict=True):
            total += h[0, 0] * some.shape[1] if bert.pooling == "cls" and total is sums[-1] else h[0].sum(0)
    return torch.cat([F.normalize(s, dim=0) for s in sums])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@given(st.lists(st.integers(2, 40), min_size=1, max_size=5), st.integers(3, 12), st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_a_longer_text_passes_in_windows(pooling: Pooling, lengths: list[int], width: int, at_once: int) -> None:
    bert = made(replace(SHAPE, pooling=pooling, window=width))
    rng = torch.Generator().manual_seed(sum(lengths))
    texts = [torch.randint(30, (n,), generator=rng).tolist() for n in lengths]
    x = torch.tensor([t + [0] * (max(lengths) - len(t)) for t in texts])
    sizes = torch.tensor(lengths)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("easylearn.nn.bert.AT_ONCE", at_once)
        found, graph = bert(x, sizes), bert.as_graph()(x, sizes)
        wanted = torch.stack([by_hand(bert, t, width) for t in texts])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(graph, wanted, rtol=1e-4, atol=1e-5)


def test_what_is_computed_again_has_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    x, lengths = torch.randint(30, (3, 30), generator=torch.Generator().manual_seed(1)), torch.tensor([30, 11, 2])
    found = []
    for at_once in (10_000, 24):
        monkeypatch.setattr("easylearn.nn.bert.AT_ONCE", at_once)
        bert = made(replace(SHAPE, drop=0.0)).train()
        bert(x, lengths).square().cumsum(1).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in bert.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


def test_a_pass_keeps_its_outputs_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """So what waits for the gradient does not grow with the windows, but for their sums."""
    kept = []
    for at_once in (10_000, 48):
        monkeypatch.setattr("easylearn.nn.bert.AT_ONCE", at_once)
        sizes = [0]
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):  # type: ignore
            made().train()(torch.zeros(4, 960, dtype=torch.int64), torch.full((4,), 960))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 5


def test_what_is_not_real_gets_no_gradient_and_all_else_does() -> None:
    bert = made()
    x = torch.arange(6).view(1, 6)
    bert.train()(x, torch.tensor([4])).sum().backward()
    assert bert.words.weight.grad is not None
    moved = bert.words.weight.grad.abs().sum(1) > 0
    assert moved[:4].all() and not moved[4:].any()


def test_every_parameter_is_in_one_of_three_groups() -> None:
    groups = place_parameters(model := encoder_classifier(Bert(SHAPE), SHAPE.n_features, 2), model.layer_groups())
    assert [g.name for g in groups] == ["stem", "late", "head"]
    assert {n.split(".")[2] for n, _ in groups[1].params} == {"1", "2"}


def test_a_frozen_encoder_drops_nothing_in_training() -> None:
    shape = BertShape(9, size=8, n_heads=2, drop=0.5)
    model = encoder_classifier(Bert(shape), shape.n_features, 2)
    for p in model.body.parameters():
        p.requires_grad_(False)
    set_train_mode(model, place_parameters(model, model.layer_groups()), freeze_stats=False)
    tokens, lengths = torch.arange(12).reshape(2, 6) % 9, torch.tensor([6, 4])
    assert torch.equal(model.features(tokens, lengths), model.features(tokens, lengths))


def test_it_is_built_again_from_its_note() -> None:
    model = encoder_classifier(Bert(SHAPE), SHAPE.n_features, 2, ps=0.3)
    again = build(describe(model))
    assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}
    assert again.body.pooling == "mean" and again.head[1].p == 0.3


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"size": 10}, "n_heads=4"), ({"n_layers": 0}, "n_layers"), ({"drop": 1.0}, "drop"), ({"pooling": "a"}, "pooling"),
     ({"depth": "first"}, "depth"), ({"n_positions": 2}, "n_positions"), ({"window": 2}, "window")],
)  # fmt: skip
def test_sizes_that_cannot_be_are_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ArgumentError, match=named):
        BertShape(**{"n_tokens": 30, "size": 16, "n_heads": 4, **changes})  # type: ignore[arg-type]
