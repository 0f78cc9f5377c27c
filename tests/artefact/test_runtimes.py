"""What other runtimes compute out of a file is what the learner computes, for every kind of data and task."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from easylearn.artefact import runtimes
from easylearn.artefact.runtimes import open_onnx, open_torch
from easylearn.data.bunch import BlankData
from easylearn.data.loaders import LoaderData, TensorData
from easylearn.errors import ArgumentError, StateError
from easylearn.learning import Learner
from easylearn.nn.as_graph import as_graph
from easylearn.nn.awd_lstm import AWDLSTM
from easylearn.nn.embeddings import NumberEmbeddings
from easylearn.nn.text_models import TextClassifier, classifier_head
from easylearn.quiet import no_warnings
from easylearn.tabular.collab import CollabData, collab_learner
from easylearn.tabular.data import TabularData
from easylearn.tabular.learner import tabular_learner
from easylearn.task import regression, single_label
from easylearn.texts.data import TextData, TextLMData
from easylearn.texts.learner import language_model_learner, text_classifier_learner
from easylearn.vision.augment import BatchStage
from easylearn.vision.data import ImageData
from easylearn.vision.learner import vision_learner
from easylearn.vision.preprocess import Normalise

CPU = torch.device("cpu")
SIZE = 16
WORDS = ["the", "a", "good", "bad", "long", "short", "film", "cat", "dog", "sea", "run", "ran", "sat"]
QUIET: dict[str, Any] = {"device": "cpu", "progress": False}


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip


def settled(learn: Learner) -> Learner:
    """With statistics and weights that are no neutral ones, as after training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in learn.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.copy_(torch.rand(module.running_mean.shape, generator=generator) / 4)
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
    return learn


def images(kind: str) -> Learner:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (30, SIZE, SIZE, 3), dtype=np.uint8)
    y: Any = {
        "single_label": rng.integers(0, 3, 30),
        "multi_label": rng.integers(0, 2, (30, 3)),
        "regression": rng.normal(size=(30, 2)).astype(np.float32),
    }[kind]
    data = ImageData.from_arrays(
        (x[:20], y[:20]),
        (x[20:], y[20:]),
        size=SIZE,
        batch_size=8,
        workers=0,
        task=kind,  # type: ignore[arg-type]
    )
    return settled(vision_learner(data, net(), hidden=(8,), **QUIET))


def frame(n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    size = rng.normal(size=n)
    return pd.DataFrame(
        {
            "shop": rng.integers(0, 5, n).astype(str),
            "size": size,
            "rain": np.where(rng.random(n) < 0.1, np.nan, rng.random(n)),
            "label": rng.choice(["x", "y", "z"], n),
            "busy": rng.integers(0, 2, n),
            "wet": rng.integers(0, 2, n),
            "sales": np.expm1(np.abs(size + rng.normal(size=n))),
            "price": np.exp(size + rng.normal(size=n) + 5),
            "profit": size + rng.normal(size=n),
        }
    )


def table(kind: str, **settings: Any) -> Learner:
    target: Any = {"single_label": "label", "multi_label": ["busy", "wet"], "regression": ["profit"]}.get(kind, "price")
    changes: dict[str, Any] = {"log": {"log_target": True}, "log1p": {"log_target": True}}.get(kind, {})
    if kind == "log1p":
        target = "sales"
    df = frame()
    if kind == "log1p":
        df.loc[0, "sales"] = 0.0
    data = TabularData.from_df(
        df, target, cat_names=["shop"], cont_names=["size", "rain"], batch_size=32,
        task=kind if kind.endswith("label") else "regression", **changes,
    )  # fmt: skip
    return settled(tabular_learner(data, **{"layers": (16,), **QUIET, **settings}))


def text(kind: str) -> Learner:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 30))) for _ in range(40)]
    labels: Any = {
        "single_label": ["pos", "neg"] * 20,
        "multi_label": [["a", "b"], ["a"], [], ["b", "c"]] * 10,
        "regression": [float(len(t)) for t in texts],
    }[kind]
    data = TextData.from_lists(texts, labels, valid=0.25, min_freq=1, batch_size=4, progress=False, task=kind)
    return settled(text_classifier_learner(data, emb_size=8, n_hidden=12, n_layers=2, bptt=7, **QUIET))


def tensors(kind: str) -> Learner:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(20, 5, generator=g)
    if kind == "two inputs":
        return Learner(TensorData(((x, x[:, :2]), x[:, 0].long().clamp(0, 1)), ((x, x[:, :2]), torch.zeros(20).long()),
                                  single_label(["a", "b"])), _Two(), **QUIET)  # fmt: skip
    data = TensorData((x, x[:, :1].exp()), (x, x[:, :1].exp()), regression(["y"], scale="log"), batch_size=8)
    return Learner(data, nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)), **QUIET)


class _Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.a(x) + self.b(y)


def ratings() -> Learner:
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"user": rng.integers(0, 9, 90), "item": rng.integers(0, 7, 90), "stars": rng.integers(1, 6, 90)})
    return collab_learner(CollabData.from_df(df, "user", "item", "stars"), 3, **QUIET)


LEARNERS: dict[str, Callable[[], Learner]] = {
    "image single_label": lambda: images("single_label"),
    "image multi_label": lambda: images("multi_label"),
    "image regression": lambda: images("regression"),
    "table single_label": lambda: table("single_label"),
    "table multi_label": lambda: table("multi_label"),
    "table regression": lambda: table("regression", num_emb_size=4),
    "table log": lambda: table("log"),
    "table of members": lambda: table("single_label", members=3),
    "table of members, several labels": lambda: table("multi_label", members=2),
    "table log1p": lambda: table("log1p"),
    "ratings": ratings,
    "text single_label": lambda: text("single_label"),
    "text multi_label": lambda: text("multi_label"),
    "text regression": lambda: text("regression"),
    "tensors": lambda: tensors("log"),
    "two inputs": lambda: tensors("two inputs"),
}


def given(learn: Learner) -> tuple[Tensor, ...]:
    """The validation part as a file takes it."""
    batch = next(learn.data.loader("valid").batches(CPU))
    return learn.data.preprocessor.runtime_inputs(batch.inputs).undo(batch.inputs)


def names(learn: Learner) -> tuple[str, ...]:
    """Of what a file takes."""
    batch = next(learn.data.loader("valid").batches(CPU))
    return learn.data.preprocessor.runtime_inputs(batch.inputs).names


def wanted(learn: Learner) -> Tensor:
    """What the learner says of the same batch."""
    batch = next(learn.data.loader("valid").batches(CPU))
    with torch.no_grad():
        return learn.task.activate(learn.model.eval()(*batch.inputs))


class TestOnnx:
    @pytest.mark.parametrize("name", LEARNERS)
    def test_it_gives_the_learners_numbers_at_any_batch_size(self, name: str, tmp_path: Path) -> None:
        learn = LEARNERS[name]()
        report = learn.export(tmp_path / "model.onnx", format="onnx")
        assert report.checked == min(8, len(given(learn)[0])) and report.difference < 1e-4
        assert set(report.rows) == {"written"} and "compared on" in str(report)
        program, probs = open_onnx(report.path, names(learn)), wanted(learn)
        for n in (1, 2, 5, len(probs)):
            found = program(tuple(x[:n] for x in given(learn)))
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, probs[:n], rtol=1e-4, atol=1e-5)

    def test_the_file_takes_what_is_natural_outside_and_says_so(self, tmp_path: Path) -> None:
        learn = images("single_label")
        learn.export(tmp_path / "model.onnx", format="onnx")
        file = str(tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        (pixels,), (probs,) = session.get_inputs(), session.get_outputs()
        assert (pixels.name, pixels.type, pixels.shape) == ("pixels", "tensor(uint8)", ["batch", 3, SIZE, SIZE])
        assert (probs.name, probs.shape) == ("probs", ["batch", 3])
        about = json.loads(session.get_modelmeta().custom_metadata_map["easylearn"])
        assert about["task"]["kind"] == "single_label" and about["task"]["names"] == list(learn.data.classes)
        assert about["inputs"] == [{"name": "pixels", "dtype": "uint8", "shape": ["batch", 3, SIZE, SIZE]}]
        assert about["about"]["size"] == [SIZE, SIZE] and about["easylearn"]
        onnx.checker.check_model(onnx.load(file))

    @pytest.mark.parametrize(
        ("name", "inputs"),
        [
            ("table single_label", [("cats", "int64", 1), ("conts", "float32", 3)]),
            ("text single_label", [("tokens", "int64", "time"), ("lengths", "int64", None)]),
            ("two inputs", [("x0", "float32", 5), ("x1", "float32", 2)]),
        ],
    )
    def test_names_and_types_of_inputs(self, name: str, inputs: list[Any], tmp_path: Path) -> None:
        report = LEARNERS[name]().export(tmp_path / "model.onnx", format="onnx")
        about = json.loads(onnx.load(str(report.path)).metadata_props[0].value)
        shapes = [["batch"] if n is None else ["batch", n] for _, _, n in inputs]
        assert [(i["name"], i["dtype"], i["shape"]) for i in about["inputs"]] == [
            (*i[:2], s) for i, s in zip(inputs, shapes, strict=True)
        ]

    def test_texts_of_any_length(self, tmp_path: Path) -> None:
        learn = text("single_label")
        program = open_onnx(learn.export(tmp_path / "m", format="onnx").path, names(learn))
        for t in (1, 2, 61):
            tokens, lengths = torch.randint(2, 10, (3, t)), torch.tensor([t, 1, max(t // 2, 1)])
            with torch.no_grad():
                probs = learn.model.eval()(tokens, lengths).softmax(1)
            torch.testing.assert_close(program((tokens, lengths)), probs, rtol=0, atol=1e-5)

    def test_it_needs_no_onnxscript(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [n for n in sys.modules if n.split(".")[0] in ("onnxscript", "onnx_ir")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "onnxscript", None)
        assert table("log").export(tmp_path / "m", format="onnx").checked


class TestTorch:
    @pytest.mark.parametrize("name", ["image multi_label", "table log1p", "two inputs"])
    def test_it_gives_the_learners_numbers_at_any_batch_size(self, name: str, tmp_path: Path) -> None:
        learn = LEARNERS[name]()
        report = learn.export(tmp_path / "model.pt2", format="torch")
        assert report.checked and report.difference < 1e-5
        program, probs = open_torch(report.path, names(learn)), wanted(learn)
        for n in (1, 2, 5):
            torch.testing.assert_close(program(tuple(x[:n] for x in given(learn))), probs[:n], rtol=1e-5, atol=1e-6)

    def test_what_it_says_of_itself(self, tmp_path: Path) -> None:
        report = tensors("log").export(tmp_path / "model.pt2", format="torch")
        extra = {"easylearn.json": ""}
        with open(report.path, "rb") as file, no_warnings():
            torch.export.load(file, extra_files=extra)
        about = json.loads(extra["easylearn.json"])
        assert about["task"]["scale"] == "log" and [i["name"] for i in about["inputs"]] == ["x0"]

    def test_texts_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(StateError, match=r'one length only.*format="onnx"'):
            text("single_label").export(tmp_path / "m", format="torch")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("quantize", ["int8", "weights"])
    def test_quantizing_is_refused(self, quantize: Any, tmp_path: Path) -> None:
        with pytest.raises(ArgumentError, match='"onnx" or "easylearn"'):
            tensors("log").export(tmp_path / "m", format="torch", quantize=quantize)


class TestSmaller:
    @pytest.mark.parametrize("name", ["image single_label", "table multi_label", "table log", "text single_label"])
    def test_int8_reports_before_and_after(self, name: str, tmp_path: Path) -> None:
        learn = LEARNERS[name]()
        report = learn.export(tmp_path / "small.onnx", format="onnx", quantize="int8")
        before, after = report.rows["before"], report.rows["after"]
        expected = {"bytes", "ms", *learn.validate()}
        assert set(before) == expected and set(after) == expected
        for metric, value in learn.validate().items():
            assert before[metric] == pytest.approx(value, rel=1e-3, abs=1e-5)
            assert after[metric] == pytest.approx(value, rel=0.3, abs=0.21)
        assert after["bytes"] == report.path.stat().st_size and report.checked and report.difference > 1e-6
        model = onnx.load(str(report.path))
        kinds = {node.op_type for node in model.graph.node}
        assert kinds & {"QuantizeLinear", "DynamicQuantizeLinear"}
        assert ("Conv" in kinds) == name.startswith("image") and model.metadata_props[0].key == "easylearn"
        again = open_onnx(report.path, names(learn))(tuple(x[:2] for x in given(learn)))
        torch.testing.assert_close(again, wanted(learn)[:2], rtol=0.1, atol=0.1)

    def test_int8_is_smaller_where_there_is_something_to_gain(self, tmp_path: Path) -> None:
        report = settled(table("single_label", layers=(300, 300))).export(
            tmp_path / "m", format="onnx", quantize="int8"
        )
        assert report.rows["after"]["bytes"] < report.rows["before"]["bytes"] / 3

    @pytest.mark.parametrize("format", ["onnx", "torch"])
    def test_pruning_is_measured_against_the_whole_model(self, format: Any, tmp_path: Path) -> None:
        torch.manual_seed(0)
        x = torch.randn(40, 20)
        part = x, (x[:, 0] > 0).long()
        net = nn.Sequential(nn.Linear(20, 40), nn.Tanh(), nn.Linear(40, 2))
        learn = Learner(TensorData(part, part, single_label(["a", "b"])), net, **QUIET)
        learn.fit(1e-2, 3)
        report = learn.export(tmp_path / "m", format=format, prune=0.9)
        assert report.difference < 1e-4 and report.checked
        assert report.rows["before"]["valid_loss"] == pytest.approx(learn.validate()["valid_loss"], rel=1e-4)
        assert report.rows["after"]["valid_loss"] != pytest.approx(report.rows["before"]["valid_loss"], rel=1e-3)

    def test_without_validation_there_are_size_and_time(self, tmp_path: Path) -> None:
        x = torch.randn(9, 5)
        learn = Learner(TensorData((x, x[:, :1]), None, regression()), nn.Linear(5, 1), **QUIET)
        assert set(learn.export(tmp_path / "m", format="onnx", quantize="int8").rows["after"]) == {"bytes", "ms"}


class _Shifting(nn.Module):
    """Decides by the values of its inputs, which no traced graph does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out + 1 if len(x) > 1 else out


class TestRefusals:
    def test_a_file_that_gives_other_numbers_is_not_written(self, tmp_path: Path) -> None:
        x = torch.randn(9, 5)
        learn = Learner(TensorData((x, x[:, :1]), (x, x[:, :1]), regression()), _Shifting(), **QUIET)
        (tmp_path / "m.onnx").write_text("old")
        with pytest.raises(StateError, match="other numbers"):
            learn.export(tmp_path / "m.onnx", format="onnx")
        assert (tmp_path / "m.onnx").read_text() == "old" and len(list(tmp_path.iterdir())) == 1

    def test_a_wrong_graph_is_found(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        learn = images("single_label")
        monkeypatch.setattr(Normalise, "forward", lambda self, pixels: pixels.float() * self.scale)
        (tmp_path / "m.onnx").write_text("old")
        with pytest.raises(StateError, match="other numbers"):
            learn.export(tmp_path / "m.onnx", format="onnx", quantize="int8")
        assert (tmp_path / "m.onnx").read_text() == "old"

    @pytest.mark.parametrize("format", ["onnx", "torch"])
    def test_an_operation_that_no_graph_has(self, format: Any, tmp_path: Path) -> None:
        class Odd(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.tensor([[float(v)] for v in torch.linalg.matrix_exp(x @ x.T).sum(0).tolist()])

        x = torch.randn(9, 5) / 10
        learn = Learner(TensorData((x, x[:, :1]), (x, x[:, :1]), regression()), Odd(), **QUIET)
        with pytest.raises(StateError):
            learn.export(tmp_path / "m", format=format)
        assert not list(tmp_path.iterdir())

    def test_a_model_for_one_batch_size(self, tmp_path: Path) -> None:
        class Fixed(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x.reshape(int(x.shape[0]), -1)[:, :1]

        x = torch.randn(9, 5)
        learn = Learner(TensorData((x, x[:, :1]), (x, x[:, :1]), regression()), Fixed(), **QUIET)
        with pytest.raises(StateError, match='"onnx"'):
            learn.export(tmp_path / "m", format="onnx")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("format", ["onnx", "torch"])
    def test_a_language_model(self, format: Any, tmp_path: Path) -> None:
        data = TextLMData.from_lists(["the cat sat on the mat"] * 20, min_freq=1, batch_size=2, progress=False)
        learn = language_model_learner(data, emb_size=8, n_hidden=12, n_layers=1, **QUIET)
        with pytest.raises(StateError, match="generate"):
            learn.export(tmp_path / "m", format=format)

    def test_no_items(self, tmp_path: Path) -> None:
        learn = tensors("log")
        learn._data = BlankData(learn.task, 4, learn.data.preprocessor)
        with pytest.raises(StateError, match="load_learner"):
            learn.export(tmp_path / "m", format="onnx")

    @pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
    def test_a_missing_package(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ArgumentError, match=rf'{name}: pip install "easylearn\[onnx\]"'):
            tensors("log").export(tmp_path / "m", format="onnx")

    def test_torch_needs_no_onnx(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "onnx", None)
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        assert tensors("log").export(tmp_path / "m", format="torch").checked


class TestParts:
    def test_a_learner_is_left_as_it_is(self, tmp_path: Path, weights: Any, same: Any) -> None:
        learn = text("single_label")
        learn.model.train()
        before, state = weights(learn), torch.get_rng_state()
        learn.export(tmp_path / "m", format="onnx", quantize="int8", prune=0.5)
        assert same(before, weights(learn)) and learn.model.training and torch.equal(state, torch.get_rng_state())
        assert isinstance(learn.model, TextClassifier)

    @pytest.mark.parametrize("bptt", [1, 4, 100])
    def test_one_pass_over_a_text_is_the_same_as_windows(self, bptt: int) -> None:
        model = TextClassifier(AWDLSTM(50, 8, 12, 3), classifier_head(8, 3), bptt=bptt).eval()
        tokens, lengths = torch.randint(2, 50, (6, 23)), torch.tensor([23, 1, 7, 0, 22, 4])
        with torch.no_grad():
            torch.testing.assert_close(as_graph(model)(tokens, lengths), model(tokens, lengths), rtol=0, atol=1e-5)

    def test_numbers_between_knots_without_a_search(self) -> None:
        layer = NumberEmbeddings([[0.0, 1.0, 4.0], [-1.0, 1.0]], width=3)
        x = torch.tensor([[0.0, -2.0], [1.0, 1.0], [3.9, 0.0], [9.0, 5.0], [-1.0, -1.0]])
        assert torch.equal(as_graph(layer)(x), layer(x))

    def test_pixels_there_and_back(self) -> None:
        pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, -1, -1).contiguous()
        stage = BatchStage((16, 16))
        layer = Normalise(stage.mean, stage.std)
        torch.testing.assert_close(layer(pixels), stage.plain(pixels))
        assert torch.equal(layer.undo(stage.plain(pixels)), pixels)

    def test_batches_of_somebody_else(self, tmp_path: Path) -> None:
        batches = [(torch.randn(4, 5), torch.tensor([0, 1, 0, 1]))] * 3
        learn = Learner(LoaderData(batches, batches, single_label(["a", "b"])), nn.Linear(5, 2), **QUIET)
        report = learn.export(tmp_path / "m", format="onnx", quantize="int8")
        assert report.checked == 4 and {"accuracy", "valid_loss"} <= set(report.rows["after"])

    def test_the_only_item(self, tmp_path: Path) -> None:
        x = torch.randn(3, 5)
        learn = Learner(TensorData((x, x[:, :1]), (x[:1], x[:1, :1]), regression()), nn.Linear(5, 1), **QUIET)
        for format in ("onnx", "torch"):
            report = learn.export(tmp_path / "m", format=format)
            program = {"onnx": open_onnx, "torch": open_torch}[format](report.path, ("x0",))
            assert report.checked == 1 and program((x,)).shape == (3, 1)

    def test_bf16_is_written_as_fp32(self, tmp_path: Path) -> None:
        x = torch.randn(9, 5)
        data = TensorData((x, x[:, :1]), (x, x[:, :1]), regression())
        report = Learner(data, nn.Linear(5, 1), precision="bf16", **QUIET).export(tmp_path / "m", format="onnx")
        assert report.difference < 1e-4 and "bf16" in str(report)


def test_runtimes_are_imported_where_they_are_used() -> None:
    assert not {"onnx", "onnxruntime"} & set(vars(runtimes))
