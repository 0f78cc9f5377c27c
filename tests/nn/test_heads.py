"""The head against one written out by hand, then its dropout forms and bad input."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from easylearn.errors import ArgumentError
from easylearn.nn.heads import begin_at, pooled_head


def drops(head: nn.Sequential) -> list[float]:
    return [layer.p for layer in head if isinstance(layer, nn.Dropout)]


def test_default_head_is_fast_ais() -> None:
    reference = nn.Sequential(
        nn.BatchNorm1d(20), nn.Dropout(0.25), nn.Linear(20, 512), nn.ReLU(),
        nn.BatchNorm1d(512), nn.Dropout(0.5), nn.Linear(512, 3),
    )  # fmt: skip
    head = pooled_head(20, 3)
    assert len(head) == len(reference) and all(map(isinstance, head, map(type, reference)))
    reference.load_state_dict(head.state_dict())
    x = torch.randn(4, 20)
    torch.testing.assert_close(head.eval()(x), reference.eval()(x))
    assert drops(head) == [0.25, 0.5]
    assert bool((head(x) < 0).any()), "logits: no ReLU and no softmax at the end"


def test_forms_of_ps() -> None:
    assert drops(pooled_head(8, 2, (6, 5))) == [0.25, 0.25, 0.5]
    assert drops(pooled_head(8, 2, (6, 5), 0.3)) == [0.3, 0.3, 0.3]
    assert drops(pooled_head(8, 2, (6, 5), [0.1, 0.2, 0.4])) == [0.1, 0.2, 0.4]
    assert drops(pooled_head(8, 2, (), 0)) == [0.0]


def test_names_of_tensors_do_not_depend_on_dropout() -> None:
    assert pooled_head(8, 2, ps=0.0).state_dict().keys() == pooled_head(8, 2, ps=0.5).state_dict().keys()


def test_linear_layers_start_by_kaiming() -> None:
    torch.manual_seed(0)
    linear = pooled_head(1024, 2)[2]
    assert isinstance(linear, nn.Linear)
    assert linear.weight.std().item() == pytest.approx(math.sqrt(2 / 1024), rel=0.02)
    assert bool((linear.bias == 0).all())


def test_one_row_works_in_evaluation_mode() -> None:
    assert pooled_head(8, 2).eval()(torch.zeros(1, 8)).shape == (1, 2)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 9), max_size=3), st.integers(1, 5))
def test_shapes(hidden: list[int], n_out: int) -> None:
    head = pooled_head(7, n_out, hidden)
    assert head(torch.randn(3, 7)).shape == (3, n_out)
    assert [layer.out_features for layer in head if isinstance(layer, nn.Linear)] == [*hidden, n_out]


def test_wrong_number_of_ps_names_both() -> None:
    with pytest.raises(ArgumentError, match=r"\[512\] make 2 blocks, but ps has 3"):
        pooled_head(8, 2, ps=[0.1, 0.2, 0.3])


@pytest.mark.parametrize("ps", [-0.1, 1.0, [0.5, 2.0], float("nan")])
def test_ps_out_of_range(ps: object) -> None:
    with pytest.raises(ArgumentError, match="ps must be"):
        pooled_head(8, 2, ps=ps)  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", [(0, 2, ()), (8, 0, ()), (8, 2, (0,)), (8, 2.0, ())])
def test_impossible_sizes(sizes: tuple[int, int, tuple[int, ...]]) -> None:
    with pytest.raises(ArgumentError, match="at least 1"):
        pooled_head(*sizes)


class TestBeginAt:
    def test_first_outputs_are_near_what_is_given(self) -> None:
        torch.manual_seed(0)
        head, wanted = pooled_head(64, 3), torch.tensor([0.0, -2.0, 3.0])
        begin_at(head, wanted)
        with torch.no_grad():
            out = head.eval()(torch.randn(500, 64))
        torch.testing.assert_close(out.mean(0), wanted, atol=0.2, rtol=0)
        assert 0 < float(out.std(0).max()) < 0.5

    @pytest.mark.parametrize("outputs", [None, torch.zeros(4)])
    def test_what_does_not_fit_leaves_it_alone(self, outputs: torch.Tensor | None) -> None:
        head = pooled_head(8, 3)
        before = head[-1].weight.detach().clone()
        begin_at(head, outputs)
        assert torch.equal(head[-1].weight, before)
        begin_at(torch.nn.Identity(), torch.zeros(3))
