"""Body, pool and head: what is computed, which groups there are, what travels with the weights."""

import copy

import pytest
import torch
from torch import Tensor, nn

from easylearn.errors import ArgumentError
from easylearn.nn.body_head import BodyHead
from easylearn.nn.groups import place_parameters
from easylearn.nn.layers import ConcatPool2d


class WithToken(nn.Module):
    """A body that holds a parameter itself."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.ones(4, 1, 1))
        self.first = nn.Conv2d(3, 4, 3)
        self.second = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x) + self.token)
        return out


def make() -> BodyHead:
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), nn.Conv2d(4, 6, 3))
    groups = [(body[0], body[1]), (body[2],)]
    return BodyHead(body, ConcatPool2d(), nn.Linear(12, 2), groups, (0.4, 0.5, 0.6), (0.1, 0.2, 0.3))


def test_forward_is_head_of_features_of_the_unnormalised_input() -> None:
    model, x = make().eval(), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(model.features(x), model.pool(model.body(x)))
    torch.testing.assert_close(model(x), model.head(model.pool(model.body(x))))


def test_three_groups_hold_every_parameter_once() -> None:
    model = make()
    groups = place_parameters(model, model.layer_groups())
    assert [g.name for g in groups] == ["stem", "late", "head"]
    assert [[n for n, _ in g.params] for g in groups] == [
        ["body.0.weight", "body.0.bias", "body.1.0.weight", "body.1.0.bias"],
        ["body.2.weight", "body.2.bias"],
        ["head.weight", "head.bias"],
    ]


def test_a_copy_has_groups_of_its_own() -> None:
    model = make()
    twin = copy.deepcopy(model)
    place_parameters(twin, twin.layer_groups())
    ours = {id(m) for g in model.layer_groups() for m in g.modules}
    assert not ours & {id(m) for g in twin.layer_groups() for m in g.modules}


def test_a_parameter_of_the_body_itself_belongs_to_the_stem() -> None:
    body = WithToken()
    model = BodyHead(body, ConcatPool2d(), nn.Linear(8, 2), [(body.first,), (body.second,)], [0.5] * 3, [0.5] * 3)
    stem = place_parameters(model, model.layer_groups())[0]
    assert "body.token" in [n for n, _ in stem.params]


def test_normalisation_travels_with_the_weights() -> None:
    state = make().state_dict()
    torch.testing.assert_close(state["mean"], torch.tensor([0.4, 0.5, 0.6]))
    torch.testing.assert_close(state["std"], torch.tensor([0.1, 0.2, 0.3]))


def test_bad_groups_and_statistics() -> None:
    body, head = nn.Sequential(nn.Conv2d(3, 4, 3)), nn.Linear(8, 2)
    with pytest.raises(ArgumentError, match="two tuples"):
        BodyHead(body, ConcatPool2d(), head, [(body[0],)], [0.5] * 3, [0.5] * 3)
    with pytest.raises(ArgumentError, match=r"not in the body.*Linear"):
        BodyHead(body, ConcatPool2d(), head, [(body[0],), (head,)], [0.5] * 3, [0.5] * 3)
    with pytest.raises(ArgumentError, match="3 and 1"):
        BodyHead(body, ConcatPool2d(), head, [(body[0],), ()], [0.5] * 3, [0.5])
