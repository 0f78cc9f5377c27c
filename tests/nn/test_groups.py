from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from easylearn.errors import ArgumentError
from easylearn.nn.groups import LayerGroup, ParamGroup, place_parameters, set_train_mode


def net() -> nn.Sequential:
    layers = OrderedDict(
        stem=nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()),
        body=nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()),
        head=nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)),
    )
    return nn.Sequential(layers)


def three(model: nn.Sequential) -> tuple[ParamGroup, ...]:
    groups = [LayerGroup(name, (module,)) for name, module in model.named_children()]
    return place_parameters(model, groups)


def freeze(group: ParamGroup) -> None:
    for _, p in group.params:
        p.requires_grad_(False)


class TestPlaceParameters:
    def test_each_parameter_once(self) -> None:
        model = net()
        groups = three(model)
        placed = [name for g in groups for name, _ in g.params]
        assert placed == [name for name, _ in model.named_parameters()]
        assert [g.name for g in groups] == ["stem", "body", "head"]
        assert sum(g.n_params() for g in groups) == sum(p.numel() for p in model.parameters())
        assert all(dict(model.named_parameters())[name] is p for g in groups for name, p in g.params)

    def test_one_group_by_default(self) -> None:
        model = net()
        (group,) = place_parameters(model)
        assert (group.name, group.modules, len(group.params)) == ("model", (model,), len(list(model.parameters())))

    def test_a_tied_parameter_belongs_to_the_first(self) -> None:
        embedding, decoder = nn.Embedding(5, 3), nn.Linear(3, 5)
        decoder.weight = embedding.weight
        model = nn.Sequential(embedding, decoder)
        first, second = place_parameters(
            model, [LayerGroup("embedding", (embedding,)), LayerGroup("decoder", (decoder,))]
        )
        assert [n for n, _ in first.params] == ["0.weight"]
        assert [n for n, _ in second.params] == ["1.bias"]

    def test_several_modules_and_none_with_parameters(self) -> None:
        model = net()
        rest = LayerGroup("rest", (model[1], model[2]))
        groups = place_parameters(model, [LayerGroup("stem", (model[0],)), rest, LayerGroup("none", (model[0][2],))])
        assert [len(g.params) for g in groups] == [4, 8, 0]

    def test_left_out(self) -> None:
        model = net()
        with pytest.raises(ArgumentError, match=r"4 of 12 parameters.*'body\.0\.weight'.*\['stem', 'head'\]"):
            place_parameters(model, [LayerGroup("stem", (model[0],)), LayerGroup("head", (model[2],))])

    def test_one_name_twice(self) -> None:
        model = net()
        with pytest.raises(ArgumentError, match="different names"):
            place_parameters(model, [LayerGroup("a", (model[0],)), LayerGroup("a", (model[1], model[2]))])


class TestParamGroup:
    def test_counts(self) -> None:
        stem = three(net())[0]
        assert stem.trainable and stem.n_params() == stem.n_params(trainable_only=True) == 28
        stem.params[0][1].requires_grad_(False)
        assert stem.trainable and stem.n_params(trainable_only=True) == 12
        freeze(stem)
        assert not stem.trainable and stem.n_params(trainable_only=True) == 0 and stem.n_params() == 28


def modes(model: nn.Module) -> dict[str, bool]:
    return {name: m.training for name, m in model.named_modules() if not list(m.children())}


class TestSetTrainMode:
    def test_frozen_means_frozen(self) -> None:
        model = net()
        groups = three(model)
        freeze(groups[0])
        set_train_mode(model, groups, freeze_stats=False)
        assert all(on == (not name.startswith("stem")) for name, on in modes(model).items())
        before = {k: v.clone() for k, v in model.state_dict().items()}
        x = torch.randn(8, 4)
        first, second = model[0](x), model[0](x)
        model(x)
        assert torch.equal(first, second), "no dropout"
        changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
        assert changed and not any(k.startswith("stem") for k in changed), "statistics do not drift"

    def test_freeze_stats_stops_batch_norm_but_not_dropout(self) -> None:
        model = net()
        set_train_mode(model, three(model), freeze_stats=True)
        off = {name for name, on in modes(model).items() if not on}
        assert off == {"stem.1", "body.1"}, "the last group's batch norm trains"

    def test_everything_trains(self) -> None:
        model = net().eval()
        set_train_mode(model, three(model), freeze_stats=False)
        assert all(modes(model).values())

    def test_a_group_without_parameters_trains(self) -> None:
        model = nn.Sequential(nn.Dropout(), nn.Linear(2, 2))
        groups = place_parameters(model, [LayerGroup("drop", (model[0],)), LayerGroup("head", (model[1],))])
        set_train_mode(model, groups, freeze_stats=True)
        assert all(modes(model).values())


def test_a_group_without_parameters_is_frozen_with_those_around_it() -> None:
    fixed, stem, head = nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2), nn.Linear(2, 1)
    model = nn.Sequential(fixed, stem, head)
    given = [LayerGroup("norm", (fixed,)), LayerGroup("stem", (stem,)), LayerGroup("head", (head,))]
    groups = place_parameters(model, given)
    set_train_mode(model, groups, freeze_stats=False)
    assert fixed.training
    stem.requires_grad_(False)
    set_train_mode(model, groups, freeze_stats=False)
    assert not fixed.training and head.training
