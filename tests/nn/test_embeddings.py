from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from easylearn.errors import ArgumentError
from easylearn.nn.embeddings import (
    MANY_NUMBERS,
    CategoryEmbeddings,
    DotProduct,
    Forget,
    NumberEmbeddings,
    Scaled,
    SigmoidRange,
    TableModel,
    TableOutput,
    _search,
    emb_size,
)
from easylearn.nn.members import LEAST, MemberLinear, deal

SIZES = [(5, 3), (7, 2)]


def rows(n: int = 16, n_cont: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    cats = torch.stack([torch.randint(0, k, (n,), generator=g) for k, _ in SIZES], 1)
    return cats, torch.randn(n, n_cont, generator=g)


# -- compared with plain torch and numpy -------------------------------------------------------------------


def test_embedding_lengths_follow_fast_ais_rule() -> None:
    for n in (2, 3, 10, 51, 1000, 5000, 10**7):
        assert emb_size(n) == min(600, round(1.6 * n**0.56))


def test_category_embeddings_look_up_each_column_in_its_table() -> None:
    layer = CategoryEmbeddings(SIZES)
    cats, _ = rows()
    first, second = layer.tables
    assert isinstance(first, nn.Embedding) and isinstance(second, nn.Embedding)
    want = torch.cat([first.weight[cats[:, 0]], second.weight[cats[:, 1]]], 1)
    assert layer.width == 5 and torch.equal(layer(cats), want)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(-50, 50), min_size=2, max_size=6, unique=True).map(sorted), min_size=1, max_size=3),
    st.integers(0, 100),
)
def test_number_embeddings_are_numpys_linear_interpolation(knots: list[list[int]], seed: int) -> None:
    torch.manual_seed(seed)
    layer = NumberEmbeddings([[float(k) for k in column] for column in knots], width=2)
    with torch.no_grad():
        layer.start.normal_()
    x = torch.cat([torch.randn(20, len(knots)) * 40, torch.tensor([[float(c[0]) for c in knots]])])
    got = layer(x).detach().numpy().reshape(len(x), len(knots), 2)
    for j, column in enumerate(knots):
        steps = layer.steps[j, : len(column) - 1].detach().numpy()
        at_knots = layer.start[j].detach().numpy() + np.concatenate([np.zeros((1, 2)), steps.cumsum(0)])
        for k in range(2):
            want = np.maximum(np.interp(x[:, j].numpy(), column, at_knots[:, k]), 0)
            np.testing.assert_allclose(got[:, j, k], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("most", [1, 2, 7, 8, 63, 64])
def test_many_numbers_are_found_among_the_knots_as_few_are(most: int) -> None:
    torch.manual_seed(most)
    layer = NumberEmbeddings([torch.arange(float(n + 1)).tolist() for n in (most, 1)], width=3)
    x = torch.cat([torch.randn(MANY_NUMBERS, 2) * most, torch.arange(-1.0, most + 3).repeat(2, 1).T])
    few = torch.cat([layer(piece) for piece in x.split(500)])
    assert torch.equal(layer(x), few)
    assert torch.equal(
        _search(torch.full((2, 3), torch.inf), torch.full((2, MANY_NUMBERS), -1.0)).unique(), torch.zeros(1)
    )


def test_gradients_of_number_embeddings_are_those_of_small_changes() -> None:
    torch.manual_seed(0)
    layer = NumberEmbeddings([[0.0, 1.0, 3.0, 4.0], [-1.0, 2.0]], width=2).double()
    x = torch.tensor([[0.5, 0.0], [3.5, 5.0], [0.2, -4.0], [0.7, 1.0]], dtype=torch.float64)
    names = [name for name, _ in layer.named_parameters()]

    def outputs(*weights: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (x,))

    start = tuple(torch.randn_like(p) + 1 for p in layer.parameters())
    assert torch.autograd.gradcheck(outputs, tuple(p.requires_grad_() for p in start))
    assert layer(x[:0]).shape == (0, 4)


def test_scaled_and_sigmoid_range() -> None:
    x = torch.tensor([[0.0, 1.0], [-200.0, 200.0]])
    assert torch.allclose(Scaled([1.0, 2.0], [3.0, 4.0])(x), x * torch.tensor([3.0, 4.0]) + torch.tensor([1.0, 2.0]))
    low, high = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 10.0])
    got = SigmoidRange([-1.0, 0.0], [1.0, 10.0])(x)
    assert torch.allclose(got, low + (high - low) * x.sigmoid())
    assert bool((got >= low).all() and (got <= high).all())


def test_table_model_is_the_network_written_by_hand() -> None:
    model = TableModel(SIZES, n_cont=3, n_out=2, layers=[8, 4]).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):  # else they are the identity
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
            nn.init.normal_(module.weight)

    def norm(bn: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(bn, nn.BatchNorm1d)
        return F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps)

    cats, conts = rows()
    x = torch.cat([model.vectors(0)[cats[:, 0]], model.vectors(1)[cats[:, 1]], norm(model.cont_bn, conts)], 1)
    linear_1, bn_1, _, linear_2, bn_2, _ = model.hidden
    x = norm(bn_1, F.linear(x, linear_1.weight)).relu()
    x = norm(bn_2, F.linear(x, linear_2.weight)).relu()
    want = F.linear(x, model.last.weight, model.last.bias)
    assert torch.allclose(model(cats, conts), want, atol=1e-6)


def test_dot_product_is_the_formula() -> None:
    model = DotProduct(6, 7, 4, seed=1)
    model.requires_grad_(False)
    for p in model.parameters():
        nn.init.normal_(p)
    cats = torch.tensor([[2, 3], [0, 6], [5, 1]])
    u, v = model.vectors(0), model.vectors(1)
    want = [float(u[a, :4] @ v[b, :4] + u[a, 4] + v[b, 4] + model.bias) for a, b in cats.tolist()]
    assert torch.allclose(model(cats, torch.empty(3, 0)), torch.tensor(want).unsqueeze(1), atol=1e-5)


# -- behaviour ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sizes", "n_cont"), [(SIZES, 3), (SIZES, 0), ([], 3)])
@pytest.mark.parametrize("use_bn", [True, False])
def test_three_groups_hold_every_parameter_once(sizes: list[tuple[int, int]], n_cont: int, use_bn: bool) -> None:
    knots = [[0.0, 1.0, 2.0]] * n_cont or None
    model = TableModel(sizes, n_cont, 1, layers=[4], use_bn=use_bn, knots=knots)
    groups = model.layer_groups()
    assert [g.name for g in groups] == ["embeddings", "hidden", "output"]
    held = [p for g in groups for m in g.modules for p in m.parameters()]
    assert len({id(p) for p in held}) == len(held) == len(list(model.parameters()))
    cats, conts = rows(n_cont=n_cont)
    assert model(cats[:, : len(sizes)], conts).shape == (16, 1)
    model(cats[:, : len(sizes)], conts).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_same_seed_same_weights_and_the_global_generator_is_left_alone(disturb: Callable[[], None]) -> None:
    tables, dots = [], []
    for seed in (3, 3, 4):
        disturb()
        state = torch.get_rng_state()
        tables.append(TableModel(SIZES, 3, 1, layers=[4], knots=[[0, 1, 2]] * 3, seed=seed).state_dict())
        dots.append(DotProduct(4, 4, 2, seed=seed).users.weight)
        assert torch.equal(state, torch.get_rng_state())
    a, b, c = tables
    assert all(torch.equal(a[n], b[n]) for n in a)
    assert not torch.equal(a["last.weight"], c["last.weight"])
    assert torch.equal(dots[0], dots[1]) and not torch.equal(dots[0], dots[2])


def test_columns_with_fewer_than_three_knots_have_no_vectors() -> None:
    model = TableModel([], 3, 1, layers=[4], knots=[[0.0, 1.0], [0.0, 1.0, 2.0], [5.0]], number_width=6)
    assert model.curved.tolist() == [1] and model.numbers is not None and model.numbers.width == 6
    assert TableModel([], 2, 1, layers=[4], knots=[[0.0, 1.0], [5.0]]).numbers is None


def test_no_hidden_layer_and_dropouts() -> None:
    cats, conts = rows()
    assert TableModel(SIZES, 3, 2, layers=[])(cats, conts).shape == (16, 2)
    model = TableModel(SIZES, 3, 2, [8, 4], ps=[0.25, 0.5], emb_drop=0.125)
    drops = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert drops == [0.125, 0.25, 0.5]


def test_forget_changes_a_share_of_codes_in_training_only() -> None:
    torch.manual_seed(0)
    layer = Forget(0.25, [True, False])
    codes = torch.full((4000, 2), 5)
    assert torch.equal(layer.eval()(codes), codes)
    got = layer.train()(codes)
    assert bool((codes == 5).all())  # what came is left as it is
    share = [[float((got[:, j] == code).float().mean()) for code in (0, 1, 5)] for j in range(2)]
    np.testing.assert_allclose(share, [[0.25, 0.25, 0.5], [0.25, 0, 0.75]], atol=0.04)
    assert share[1][1] == 0
    assert torch.equal(Forget(0.0, [True, True]).train()(codes), codes)


def test_unknown_is_learnt_by_forgetting() -> None:
    torch.manual_seed(0)
    model = TableModel(SIZES, 0, 1, layers=[4], forget=Forget(0.3, [True, True]))
    cats = torch.full((64, 2), 3)
    model(cats, torch.empty(64, 0)).sum().backward()
    table = model.embeddings.tables[0]
    assert isinstance(table, nn.Embedding) and table.weight.grad is not None
    assert [bool(row.abs().sum() > 0) for row in table.weight.grad] == [True, True, False, True, False]


# -- bad input ---------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match="at least one categorical or continuous column"):
        TableModel([], 0, 1)
    with pytest.raises(ArgumentError, match=r"\[8, 4\] make 2 blocks, but ps has 3"):
        TableModel(SIZES, 1, 1, [8, 4], ps=[0.1, 0.1, 0.1])
    for layers in ([0], [-1], [True], [2.5]):
        with pytest.raises(ArgumentError, match="hidden layer 0 must be a whole number of at least 1"):
            TableModel(SIZES, 1, 1, layers)  # type: ignore[arg-type]
    for p in (1.0, -0.1, float("nan")):
        with pytest.raises(ArgumentError, match="dropouts of at least 0 and below 1"):
            TableModel(SIZES, 1, 1, [8], ps=p)
    with pytest.raises(ArgumentError, match="low bounds must lie below high bounds"):
        SigmoidRange([0.0, 1.0], [1.0, 1.0])
    for knots in ([1.0], [1.0, 1.0], [2.0, 1.0]):
        with pytest.raises(ArgumentError, match="at least two increasing numbers"):
            NumberEmbeddings([knots], 2)
    for share in (-0.1, 0.5, float("nan")):
        with pytest.raises(ArgumentError, match="unknown_p"):
            Forget(share, [True])


# -- the linear model and the members at the end of a table's network --------------------------------------------


def output(members: int = 1, average: Any = "softmax", **more: Any) -> TableOutput:
    """Of two columns of codes, of which the first is in the linear model, three numbers and two outputs."""
    made = TableOutput([5, 0], [-1.0, -2.0, -3.0], [1.0, 2.0, 3.0], 2, members, average, **more)
    nn.init.normal_(made.weight)
    nn.init.normal_(made.bias)
    return made


def test_the_linear_model_is_a_matrix_times_columns_of_0_and_1() -> None:
    end, (cats, conts) = output(), rows()
    x = end.features(cats, conts)
    flags = np.eye(5)[cats[:, 0].numpy()]
    bounded = conts.numpy().clip([-1, -2, -3], [1, 2, 3])
    np.testing.assert_allclose(x.numpy(), np.hstack([flags, bounded]), rtol=1e-6)
    zeros = torch.zeros(len(cats), 2)
    assert torch.allclose(end(zeros, cats, end.within(conts)), F.linear(x, end.weight, end.bias), atol=1e-6)
    assert torch.equal(end.weights(0), end.weight[:, :5].T) and len(end.weights(1)) == 0


def test_a_model_sees_no_number_beyond_its_bounds() -> None:
    model, (cats, conts) = TableModel(SIZES, 3, 2, [8], output=output()).eval(), rows()
    far = conts.clone()
    far[:, 1] = torch.tensor([1e6, -1e6]).repeat(8)
    edge = conts.clone()
    edge[:, 1] = torch.tensor([2.0, -2.0]).repeat(8)
    assert torch.equal(model(cats, far), model(cats, edge))


def own(name: str, packed: Tensor, alone: Tensor, k: int, member: int) -> Tensor:
    """Of what a layer of `k` members holds, what that one's layer holds."""
    if name.startswith(("output.", "curved")) or name.endswith(("tracked", "left", "inverse", "first")):
        return packed
    along = -1 if name.startswith(("embeddings", "numbers")) else 0
    return packed.unflatten(along, (k, -1)).select(-2 if along else 0, member).reshape(alone.shape)


@pytest.mark.parametrize("average", ["softmax", "sigmoid", "outputs"])
@pytest.mark.parametrize("use_bn", [True, False])
def test_members_are_networks_of_their_own(average: Any, use_bn: bool) -> None:
    k, (cats, conts) = 3, rows()
    knots = [[-1.0, 0.0, 0.5, 1.0], [0.0, 1.0], [-2.0, 0.5, 2.0]]
    shape: Any = {"layers": [8, 6], "use_bn": use_bn, "knots": knots, "number_width": 4}
    model = TableModel(SIZES, 3, 2, output=output(k, average), **shape)
    for p in model.parameters():
        nn.init.normal_(p)
    alone = [TableModel(SIZES, 3, 2, output=output(), **shape) for _ in range(k)]
    held = model.state_dict()
    for member, one in enumerate(alone):
        assert one.state_dict().keys() == held.keys()
        one.load_state_dict({n: own(n, held[n], t, k, member) for n, t in one.state_dict().items()})
    for _ in range(2):  # batch-norm of the batch, and what is noted of it
        each = torch.stack([one(cats, conts) for one in alone], 1)
        assert torch.allclose(model(cats, conts), each.flatten(0, 1), rtol=1e-4, atol=1e-4)
    each = torch.stack([one.eval()(cats, conts) for one in alone], 1)
    want = {
        "softmax": lambda: each.softmax(2).mean(1), "sigmoid": lambda: each.sigmoid().mean(1),
        "outputs": lambda: each.mean(1),
    }[average]()  # fmt: skip
    got = model.eval()(cats, conts)
    got = {"softmax": lambda: got.softmax(1), "sigmoid": lambda: got.sigmoid(), "outputs": lambda: got}[average]()
    assert torch.allclose(got, want, rtol=1e-4, atol=1e-4)
    groups = [id(p) for g in model.layer_groups() for m in g.modules for p in m.parameters()]
    assert sorted(groups) == sorted(id(p) for p in model.parameters())


def test_members_are_drawn_as_one_network_is() -> None:
    one, many = (
        TableModel([(50, 20)], 2, 1, [200, 100], use_bn=False, output=TableOutput([50], [-9.0] * 2, [9.0] * 2, 1, k),
                   knots=[list(range(40))] * 2)
        for k in (1, 8)
    )  # fmt: skip
    assert isinstance(many.hidden[0], MemberLinear)
    assert not torch.equal(many.hidden[0].weight[0], many.hidden[0].weight[1])
    for (name, alone), (other, packed) in zip(one.named_parameters(), many.named_parameters(), strict=True):
        assert name == other and packed.numel() == 8 * alone.numel()
        of_one, of_many = (float(p.detach().std(correction=0)) for p in (alone, packed))
        assert alone.numel() < 50 or of_many == pytest.approx(of_one, rel=0.15), name


@pytest.mark.parametrize("n", [16, 13, 2])
def test_where_a_step_would_take_too_long_a_row_is_learnt_by_some_members(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    k, (cats, conts) = 8, rows(n)
    model = TableModel(SIZES, 3, 2, [8], output=output(k), seed=1)
    for m in model.modules():
        m.train(not isinstance(m, nn.BatchNorm1d))
    every = model(cats, conts).view(n, k, 2)
    monkeypatch.setattr("easylearn.nn.members.WORK", 0)
    some = model(cats, conts).view(n, LEAST, 2)
    row = torch.arange(n).view(-1, 1)
    member = (row + torch.arange(LEAST)) % k
    assert torch.allclose(some, every[row, member], atol=1e-5)
    some.sum().backward()
    learnt = {int(i) for i in member.flatten()}
    weight = model.hidden[0].get_parameter("weight").grad
    assert weight is not None and [bool(g.any()) for g in weight] == [i in learnt for i in range(k)]
    monkeypatch.undo()
    want = model.eval()(cats, conts)
    monkeypatch.setattr("easylearn.nn.members.WORK", 0)
    assert torch.equal(model(cats, conts), want)  # all of them predict


@pytest.mark.parametrize(("b", "k", "m"), [(33, 32, 13), (9, 8, 3), (15, 8, 5)])
def test_no_row_is_much_of_what_a_member_sees_of_a_small_batch(b: int, k: int, m: int) -> None:
    dealt = deal(torch.arange(float(b)).view(b, 1, 1).expand(b, k, 1), k, m)
    assert max(int(own.unique(return_counts=True)[1].max()) for own in dealt) <= 2


def test_bounds_hold_for_each_member() -> None:
    cats, conts = rows()
    model = TableModel(
        SIZES, 3, 1, [8],
        output=TableOutput([5, 0], [-9.0] * 3, [9.0] * 3, 1, 4, last=SigmoidRange([0.0], [2.0])),
    )  # fmt: skip
    nn.init.normal_(model.last.bias, std=100)
    got = model(cats, conts).detach()
    assert got.shape == (64, 1) and float(got.min()) >= 0 and float(got.max()) <= 2
    assert model.eval()(cats, conts).shape == (16, 1)


def test_outputs_that_cannot_be_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"average must be .*'mean'"):
        TableOutput([], [], [], 1, average="mean")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="members"):
        TableOutput([], [], [], 1, members=0)
