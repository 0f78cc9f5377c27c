from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from easylearn.errors import ArgumentError, WeightsError
from easylearn.nn import registry
from easylearn.nn.awd_lstm import AWDLSTM, Drops
from easylearn.nn.embeddings import DotProduct, Forget, Scaled, SigmoidRange, TableModel
from easylearn.nn.heads import pooled_head
from easylearn.nn.registry import build, describe, note, own_parts, register
from easylearn.nn.text_models import LanguageModel, TextClassifier, classifier_head
from easylearn.texts.callbacks import ActivationPenalty, RateByLength
from easylearn.vision.model import vision_model


@register("tests.wide")
class Wide(nn.Module):
    def __init__(self, width: int, names: tuple[str, ...] = (), inner: nn.Module | None = None, **more: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(3, width)
        self.inner = inner
        self.names, self.more = names, more


class Narrow(Wide):
    def __init__(self) -> None:
        super().__init__(1)


@register("tests.small")
def small(width: int = 2) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.ReLU())


@register("tests.point")
@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0


class Odd(nn.Module):
    pass


def again(value: Any) -> Any:
    """Through JSON, as a file would have it."""
    return build(json.loads(json.dumps(describe(value), allow_nan=False)))


def layout(module: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(n, t.shape) for n, t in module.state_dict().items()]


ENCODER = {"emb_size": 4, "n_hidden": 6, "n_layers": 2, "pad": 3}
MODELS: list[Any] = [
    lambda: pooled_head(8, 3, (5, 4), (0.1, 0.2, 0.3)),
    lambda: pooled_head(8, 3, hidden=()),
    lambda: AWDLSTM(20, **ENCODER, drops=Drops(0, 0.1, 0.2, 0.3, 0.4)),
    lambda: LanguageModel(AWDLSTM(20, **ENCODER)),
    lambda: LanguageModel(AWDLSTM(20, **ENCODER), tie=False, bias=False),
    lambda: TextClassifier(AWDLSTM(20, **ENCODER), classifier_head(4, 2, (5,)), bptt=9, max_len=30),
    lambda: TableModel([(4, 2), (3, 1)], 2, 1, [8], ps=0.1, knots=[[0.0, 1.0, 4.0], [0.0, 1.0]], number_width=3),
    lambda: TableModel(
        [(4, 2)], 0, 2, [8, 4], use_bn=False, forget=Forget(0.1, [True]), output=Scaled([1.0, 2.0], [3.0, 4.0])
    ),
    lambda: TableModel([], 3, 1, [8], output=SigmoidRange([0.0], [5.0])),
    lambda: DotProduct(5, 6, 3),
    lambda: vision_model("squeezenet1_1", 3, pretrained=False, hidden=(4,)),
    lambda: vision_model(
        "squeezenet1_1", 3, pretrained=False, custom_head=small(5), cut=1, stats=((0.5,) * 3, (0.2,) * 3)
    ),
    lambda: vision_model(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)), 2
    ),
    lambda: Wide(4, ("a", "b"), small(3), depth=math.inf, table={"a": [1, None, True]}),
    lambda: nn.Sequential(
        nn.Conv2d(
            1, 4, (3, 1), stride=2, padding="same" if False else (1, 0), groups=1, bias=False, padding_mode="circular"
        ),
        nn.Conv1d(4, 8, 3, dilation=2),
        nn.ConvTranspose2d(4, 2, 3, output_padding=1, stride=2),
        nn.BatchNorm2d(3, 1e-3),
        nn.BatchNorm1d(3, momentum=None, affine=False),
        nn.GroupNorm(2, 4),
        nn.LayerNorm((2, 3), bias=False),
        nn.Embedding(5, 3, padding_idx=1, max_norm=2.0),
        nn.Dropout(0.3),
        nn.Dropout2d(0.1, True),
        nn.ReLU(True),
        nn.ReLU6(),
        nn.LeakyReLU(0.2),
        nn.PReLU(3),
        nn.ELU(0.5),
        nn.GELU("tanh"),
        nn.SiLU(),
        nn.Hardswish(),
        nn.Mish(),
        nn.Sigmoid(),
        nn.Tanh(),
        nn.Softplus(2),
        nn.Identity(),
        nn.Flatten(2),
        nn.Unflatten(1, (2, 3)),
        nn.MaxPool1d(2),
        nn.MaxPool2d(2, 1, ceil_mode=True),
        nn.AvgPool1d(2),
        nn.AvgPool2d(3, count_include_pad=False),
        nn.AdaptiveAvgPool1d(2),
        nn.AdaptiveAvgPool2d((None, 2)),
        nn.AdaptiveMaxPool2d(1),
        nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=True),
        nn.ZeroPad2d((1, 2, 3, 4)),
        nn.Linear(3, 4, bias=False),
        nn.Sequential(nn.Sequential()),
    ),
]


@pytest.mark.parametrize("make", MODELS)
def test_what_is_described_is_built_again(make: Any) -> None:
    model = make()
    other = again(model)
    assert type(other) is type(model) and layout(other) == layout(model)
    assert describe(other) == describe(model) and not own_parts(describe(model))
    assert repr(other) == repr(model)


@pytest.mark.parametrize("kind", registry._TORCH_LAYERS.values())
def test_every_layer_of_torchs_is_in_the_test_above(kind: type) -> None:
    assert any(type(layer) is kind for layer in MODELS[-1]())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=12,
    )
)
@settings(max_examples=60)
def test_plain_values_come_back(value: Any) -> None:
    text = json.dumps(describe(value), allow_nan=False)
    assert build(json.loads(text)) == value


def test_values_that_json_has_not() -> None:
    assert math.isnan(again(math.nan)) and again((1, (2,))) == [1, [2]]
    assert again(Point(1.0)) == Point(1.0) and again(Drops()) == Drops()
    assert type(again(RateByLength(70))) is RateByLength and describe(ActivationPenalty(3.0))["args"] == {"alpha": 3.0}


def test_a_note_holds_arguments_and_no_modules() -> None:
    inner = small(3)
    wide = Wide(4, inner=inner)
    assert describe(wide) == {
        "build": "tests.wide",
        "args": {"width": 4, "inner": {"build": "tests.small", "args": {"width": 3}}},
    }
    assert again(Wide(4, deep={"a": 1})).more == {"deep": {"a": 1}}


@register("tests.many")
class Many(nn.Sequential):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)


def test_arguments_without_names_are_their_owners() -> None:
    assert describe(Many(nn.ReLU())) == {"own": "Many"} and describe(Many())["build"] == "tests.many"


def test_a_class_of_its_own_is_only_its_owners() -> None:
    assert describe(Narrow()) == {"own": "Narrow"}  # it has other arguments than the class that is registered
    assert describe(Odd()) == {"own": "Odd"} == describe(nn.Sequential(Odd()))["layers"]["0"]
    assert own_parts(describe(Wide(1, inner=Odd()))) == ["Odd"]
    mine = Odd()
    assert build(describe(Wide(1, inner=mine)), mine).inner is mine
    with pytest.raises(WeightsError, match="Odd"):
        build(describe(Wide(1, inner=mine)))


def test_registering() -> None:
    for name in ("", None, 3):
        with pytest.raises(ArgumentError, match="takes a name"):
            register(name)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"belongs to .*\.Wide"):
        register("tests.wide")(Odd)
    register("tests.point")(Point)  # the same one, as when a module is imported anew


@pytest.mark.parametrize(
    "bad",
    [
        {"build": "os.system", "args": {"command": "true"}},
        {"build": "builtins.eval", "args": {}},
        {"build": "torch.load", "args": {"f": "x"}},
        {"build": "torch.nn.Module", "args": {}},
        {"build": "torch.nn.torch.nn.LSTM", "args": {}},
        {"build": "__init__", "args": {}},
        {"build": "", "args": {}},
        {"build": None, "args": {}},
        {"build": ["a"], "args": {}},
        {"build": "tests.small"},
        {"build": "tests.small", "args": []},
        {"build": "tests.small", "args": {}, "more": 1},
        {"build": "tests.small", "args": {"weight": 1}},
        {"float": "1"},
        {"float": []},
        {"layers": []},
        {"dict": 1},
        {},
        {"own": "Net"},
        {"x" * 10**6: 1},
        {1: 2},
        1j,
        {"build": "x" * 10**7, "args": {}},
        {"own": "x" * 10**7},
        {"build": "torch.nn.Linear", "args": {"in_features": 1, "out_features": 1, "device": "cpu"}},
        {"build": "Linear", "args": {"in_features": 1, "out_features": 1, "dtype": "x"}},
        {"build": "torch.nn.Embedding", "args": {"num_embeddings": 1, "embedding_dim": 1, "_weight": [1]}},
    ],
)
def test_nothing_else_is_called(bad: Any) -> None:
    with pytest.raises(WeightsError) as caught:
        build(bad)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"layers": {"0": v}}, lambda v: {"dict": {"a": v}}])
@pytest.mark.parametrize("deep", [registry.DEEPEST + 1, 400])
def test_too_deep(wrap: Any, deep: int) -> None:
    value: Any = 1
    for _ in range(deep):
        value = wrap(value)
    with pytest.raises(WeightsError, match="levels"):
        build(value)


def test_too_many_parts() -> None:
    with pytest.raises(WeightsError, match="parts"):
        build([{"build": "torch.nn.ReLU", "args": {}}] * 40_000)
    assert len(build([0.5] * 200_000)) == 200_000  # the knots of a table


@pytest.mark.parametrize("made", [lambda: pooled_head(4, 2, [3] * 101), lambda: TableModel([], 2, 1, [3] * 101)])
def test_no_end_of_layers(made: Any) -> None:
    with pytest.raises(ArgumentError, match="at most 100"):
        made()


def test_is_made_by() -> None:
    from easylearn.train.callback import Callback

    assert registry.is_made_by(describe(RateByLength(70)), Callback)
    for other in ({"build": "tests.small", "args": {}}, {"build": []}, {"build": "no"}, [], None, 1):
        assert not registry.is_made_by(other, Callback)


def test_a_note_that_others_write() -> None:
    net = Odd()
    note(net, "tests.small", {"width": 7})
    assert again(net)[0].out_features == 7
