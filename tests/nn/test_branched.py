from __future__ import annotations

import pytest
import torch
from torch import nn

from easylearn.errors import ArgumentError, EasyLearnWarning, StateError
from easylearn.nn.body_head import BodyHead
from easylearn.nn.branched import Branched, active_groups, check_frozen, rates_of, stored_branches
from easylearn.nn.groups import (
    LayerGroup,
    ParamGroup,
    by_branch,
    freeze_named,
    freeze_to,
    named_groups,
    place_parameters,
    set_train_mode,
)
from easylearn.nn.registry import build, describe
from easylearn.task import Task, multi_label, regression, single_label

B, K = 6, 3
TASKS: dict[str, Task] = {
    "softmax": single_label(list("abc")), "sigmoid": multi_label(list("abc")), "outputs": regression(list("abc")),
}  # fmt: skip


def body(width: int = 4) -> BodyHead:
    net = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.ReLU())
    return BodyHead(net, nn.Identity(), nn.Linear(width, K), [(net[0],), (net[1],)])


def model(average: str = "outputs", fresh: tuple[str, ...] = ("b",), joint: nn.Module | None = None) -> Branched:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Linear(4, K))
    return Branched(["a", "b"], [body(), plain], [1, 1], K, average, fresh, joint)  # type: ignore[arg-type]


def inputs(*present: list[int]) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(1)
    here = torch.tensor(present or [[1, 1]] * B)
    return torch.randn(len(here), 2, generator=g), torch.randn(len(here), 1, generator=g), here


def groups(net: Branched) -> tuple[ParamGroup, ...]:
    return place_parameters(net, net.layer_groups())


class TestForward:
    @pytest.mark.parametrize("average", TASKS)
    def test_probabilities_are_the_mean_of_those_that_are_there(self, average: str) -> None:
        net, task = model(average).eval(), TASKS[average]
        x, y, here = inputs([1, 1], [1, 0], [0, 1])
        own = [task.activate(m(z)) for m, z in zip(net.branches.values(), (x, y), strict=True)]
        wanted = torch.stack([(own[0][0] + own[1][0]) / 2, own[0][1], own[1][2]])
        assert torch.allclose(task.activate(net(x, y, here)), wanted, atol=1e-6)

    @pytest.mark.parametrize("task", [TASKS["softmax"], TASKS["sigmoid"]], ids=["softmax", "sigmoid"])
    def test_evidence_beyond_the_prior_is_added_up(self, task: Task) -> None:
        net = model("evidence").eval()
        net.prior.copy_(torch.tensor([0.5, -1.0, -2.0]))
        x, y, here = inputs([1, 1], [1, 0], [0, 1])
        a, b = (m(z) for m, z in zip(net.branches.values(), (x, y), strict=True))
        wanted = torch.stack([net.prior + (a[0] + b[0] - 2 * net.prior) / 2**0.5, a[1], b[2]])
        assert torch.allclose(net(x, y, here), wanted, atol=1e-6)
        moved = net.combine(net.parts(x, y, here) + torch.tensor([[[3.0]], [[0.0]], [[0.0]]]), here)
        if task.is_exclusive:  # what all logits of an item have in common means nothing
            assert torch.allclose(task.activate(moved), task.activate(wanted), atol=1e-6)
        net.branches["b"], net.prior[:] = (
            net.branches["a"],
            0.0,
        )  # who knows the same twice is no surer than one and 0.41
        twice = net(x, x, here[:1].expand(3, 2))
        assert torch.allclose(twice, 2**0.5 * a, atol=1e-6)

    @pytest.mark.parametrize("average", [*TASKS, "evidence"])
    def test_a_branch_that_is_left_out_counts_where_there_is_no_other(self, average: str) -> None:
        net, (x, y, here) = model(average).eval(), inputs([1, 1], [1, 0], [0, 1])
        own = torch.cat([net(x, y, torch.tensor([[1, 0]] * 2 + [[0, 1]]))])
        with pytest.warns(EasyLearnWarning, match="'b' say nothing.*where an item has another input"):
            net.leave_out(["b"])
        assert net.shares.tolist() == [[1] * K, [0] * K] and torch.allclose(net(x, y, here), own, atol=1e-6)
        short = net.on_features(["a"])
        assert short.shares is net.shares and ("prior" in dict(short.named_buffers())) == (average == "evidence")
        net.shares.fill_(1)
        assert not torch.allclose(net(x, y, here)[0], own[0], atol=1e-3)

    @pytest.mark.parametrize("at_once", [True, False])
    @pytest.mark.parametrize("average", [*TASKS, "evidence"])
    def test_where_no_branch_says_anything_one_sentence_says_it_and_all_keep_their_shares(
        self, average: str, at_once: bool
    ) -> None:
        net, (x, y, here) = model(average).eval(), inputs([1, 1], [1, 0], [0, 1])
        before = net(x, y, here)
        if not at_once:
            with pytest.warns(EasyLearnWarning, match="'a' say nothing"):
                net.leave_out(["a"])
        with pytest.warns(EasyLearnWarning) as told:
            net.leave_out(["a", "b"] if at_once else ["b"])
        (message,) = (str(w.message) for w in told)
        assert message.startswith("none of the inputs ('a', 'b') says anything") and "left out" not in message
        assert (net.shares == 1).all() and torch.equal(net(x, y, here), before)

    @pytest.mark.parametrize("average", ["sigmoid", "outputs", "evidence"])
    def test_a_branch_may_have_a_share_in_some_outputs(self, average: str) -> None:
        net, (x, y, here) = model(average).eval(), inputs([1, 1], [1, 0], [0, 1])
        both, alone = net(x, y, here), net(x, y, torch.tensor([[1, 0], [1, 0], [0, 1]]))
        net.share_in("b", torch.arange(K) == 1)
        found = net(x, y, here)
        assert torch.allclose(found[:, 1], both[:, 1]) and torch.allclose(found[:, [0, 2]], alone[:, [0, 2]], atol=1e-6)
        assert not torch.allclose(both, alone, atol=1e-3)

    def test_what_stands_where_an_input_is_missing_counts_for_nothing(self) -> None:
        net, (x, y, here) = model().eval(), inputs([1, 1], [1, 0], [0, 1])
        other = y.clone()
        other[1] = torch.nan
        assert torch.equal(net(x, y, here), net(x, other, here))

    def test_each_branch_has_a_loss_of_its_own_in_training(self) -> None:
        net, (x, y, here) = model("softmax").train(), inputs()
        target, task = torch.arange(B) % K, TASKS["softmax"]
        out = net(x, y, here)
        assert out.shape == (2 * B, K)
        apart = [task.loss(m(z), target) for m, z in zip(net.branches.values(), (x, y), strict=True)]
        assert torch.allclose(task.loss(out, target), sum(apart) / 2)  # type: ignore[arg-type]

    def test_a_missing_input_gives_its_branch_no_gradient_and_no_statistics(self) -> None:
        here = [[1, 1], [1, 0], [0, 1], [1, 1], [1, 0], [1, 1]]
        (x, y, flags), target, task = inputs(*here), torch.arange(B) % K, TASKS["softmax"]
        found = []
        for filling in (0.0, 100.0):
            net = model("softmax").train()
            filled = torch.where(flags[:, 1:] > 0, y, torch.full_like(y, filling))
            task.loss(net(x, filled, flags), target).backward()
            found.append([p.grad for p in net.branches["b"].parameters()] + list(net.branches["b"].buffers()))
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))  # type: ignore[arg-type]
        at = flags[:, 1] > 0
        alone = model("softmax").train().branches["b"]
        (task.loss(alone(y[at]), target[at]) * at.sum() / (2 * B)).backward()
        assert torch.allclose(found[0][0], next(alone.parameters()).grad, atol=1e-7)  # type: ignore[arg-type]

    @pytest.mark.parametrize("rows", [0, 1])
    def test_fewer_than_two_items_of_a_branch_train_the_others(self, rows: int) -> None:
        net, (x, y, here) = model().train(), inputs(*[[1, int(i < rows)] for i in range(B)])
        net(x, y, here).square().mean().backward()
        assert all(p.grad is None for p in net.branches["b"].parameters())
        assert all(p.grad is not None for p in net.branches["a"].parameters())

    def test_none_at_all_can_still_be_stepped_over(self) -> None:
        net, (x, y, here) = model().train(), inputs([1, 0], [0, 1])
        net(x, y, here).square().mean().backward()
        assert all(p.grad is None for p in net.parameters())

    def test_where_nothing_is_there_all_count(self) -> None:
        net, (x, y, here) = model().eval(), inputs([0, 0], [1, 1])
        assert torch.equal(net(x, y, here)[0], net(x, y, torch.ones_like(here))[0])

    def test_a_joint_layer_gets_zeros_for_what_is_missing(self) -> None:
        joint = nn.Linear(2 * K, 5)
        net, (x, y, here) = model(joint=joint).train(), inputs([1, 1], [1, 0], [1, 1])
        assert net(x, y, here).shape == (3, 5)
        net.eval()
        a = net.branches["a"](x)
        assert torch.allclose(net(x, y, here)[1], joint(torch.cat([a[1], torch.zeros(K)])))


class TestGroups:
    def test_names_and_branches(self) -> None:
        found = groups(model(joint=nn.Linear(2 * K, K)))
        assert [g.name for g in found] == ["a.stem", "a.late", "a.head", "b.model", "joint"]
        assert [[g.name for g in of] for of in by_branch(found)] == [
            ["a.stem", "a.late", "a.head"],
            ["b.model"],
            ["joint"],
        ]
        assert [g.fresh for g in found] == [False, False, False, True, True]

    def test_freezing_goes_by_branch_and_leaves_fresh_ones_alone(self) -> None:
        net = model()
        freeze_to(groups(net), 0)
        freeze_to([g for g in groups(net) if g.branch == "a"], -1)
        assert [g.trainable for g in groups(net)] == [False, False, True, True]

    @pytest.mark.parametrize(
        ("names", "train", "wanted"),
        [
            (["a"], True, [True, True, True, True]),
            (["a.late"], True, [False, True, True, True]),
            (["b"], False, [False, False, True, True]),  # its only group is its last
            (["b.model", "a.head"], False, [False, False, False, False]),
        ],
    )
    def test_by_name(self, names: list[str], train: bool, wanted: list[bool]) -> None:
        net = model()
        freeze_named(groups(net), ["a"], False)
        freeze_named(groups(net), names, train)
        assert [g.trainable for g in groups(net)] == wanted

    def test_of_a_model_without_branches_too(self) -> None:
        found = place_parameters(net := body(), net.layer_groups())
        freeze_named(found, ["stem", "head"], False)
        assert [g.trainable for g in found] == [False, True, False]
        with pytest.raises(ArgumentError, match=r"'steam'.*'stem'"):
            named_groups(found, ["steam"])
        with pytest.raises(ArgumentError, match="''"):
            named_groups(found, [""])

    def test_statistics_of_fresh_branches_and_of_the_last_group_move(self) -> None:
        net = model()
        set_train_mode(net, groups(net), freeze_stats=True)
        a, b = net.branches["a"], net.branches["b"]
        assert isinstance(a, BodyHead) and isinstance(b, nn.Sequential)
        assert not a.body.get_submodule("1").training and b[1].training and a.head.training

    def test_what_keeps_still_is_in_evaluation_mode(self) -> None:
        net = model()
        set_train_mode(net, groups(net), False, still={"b.model"})
        assert not net.branches["b"].training and net.branches["a"].training


class TestStored:
    def test_frozen_bodies_alone(self) -> None:
        net = model()
        assert stored_branches(net) == () == stored_branches(nn.Linear(1, 1))
        with pytest.raises(StateError, match="not frozen"):
            check_frozen(net)
        with pytest.raises(StateError, match="Linear"):
            check_frozen(nn.Linear(1, 1))
        freeze_named(groups(net), ["a"], False)
        assert stored_branches(net) == ("a",)
        check_frozen(net)
        net.live = ("a",)
        assert stored_branches(net) == ()

    def test_the_model_on_features_shares_its_modules(self) -> None:
        net = model().eval()
        (x, y, here), a = inputs(), net.branches["a"]
        assert isinstance(a, BodyHead)
        short = net.on_features(["a"]).eval()
        assert torch.equal(short(a.features(x), y, here), net(x, y, here))
        assert {id(p) for p in short.parameters()} < {id(p) for p in net.parameters()}

    def test_groups_and_rates_of_a_fit(self) -> None:
        net = model()
        every = groups(net)
        assert active_groups(net, every, False) == every
        freeze_named(every, ["a"], False)
        some = active_groups(net, every, True)
        assert [g.name for g in some] == ["a.head", "b.model"]
        assert rates_of(some, every, (1.0, 2.0, 3.0, 4.0)) == (3.0, 4.0) == rates_of(some, every, (3.0, 4.0))


def test_a_file_can_build_it() -> None:
    net = Branched(["z", "a"], [nn.Linear(2, K), nn.Linear(1, K)], [1, 1], K, "softmax", ["a"], nn.Linear(2 * K, 2))
    again = build(describe(net))
    assert list(again.branches) == ["z", "a"] and repr(again) == repr(net) and again.fresh == ("a",)


@pytest.mark.parametrize("wrong", [{"names": []}, {"names": ["a", "a"]}, {"n_inputs": [1]}, {"average": "median"}])
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    given = {"names": ["a", "b"], "models": [nn.Linear(1, 1)] * 2, "n_inputs": [1, 1], "width": 1, **wrong}
    with pytest.raises(ArgumentError):
        Branched(**given)  # type: ignore[arg-type]


def test_groups_are_plain_by_default() -> None:
    assert LayerGroup("head", ()).branch == "" and not LayerGroup("head", ()).fresh
