from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from easylearn.errors import SaveError, WeightsError
from easylearn.learning import Learner
from easylearn.task import multi_label, regression, single_label
from easylearn.train.weights import load_weights, save_weights

MakeLearner = Callable[..., Learner]
TASK = single_label(["a", "b"])


class TestRoundTrip:
    def test_through_a_learner(self, make_learner: MakeLearner, weights: Any, same: Any, tmp_path: Path) -> None:
        learn = make_learner()
        learn.fit(0.1, 1)
        saved = weights(learn)
        path = learn.save("one")
        assert path == tmp_path / "models" / "one.safetensors" and path.exists()
        learn.fit(0.1, 1)
        assert not same(weights(learn), saved)
        assert learn.load("one") is learn
        assert same(weights(learn), saved)
        fresh = make_learner(model_seed=5)
        assert same(weights(fresh.load("one.safetensors")), saved)
        assert fresh.validate() == learn.validate()

    def test_freezing_modes_and_tensors_stay(self, make_learner: MakeLearner) -> None:
        learn = make_learner()
        learn.save("one")
        learn.freeze()
        learn.model.eval()
        pointers = [p.data_ptr() for p in learn.model.parameters()]
        learn.load("one")
        assert [g.trainable for g in learn.layer_groups] == [False, False, True] and not learn.model.training
        assert pointers == [p.data_ptr() for p in learn.model.parameters()]

    def test_the_file_is_plain_safetensors_with_the_task_in_its_header(self, tmp_path: Path) -> None:
        model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        file = save_weights(tmp_path / "a" / "b" / "m.safetensors", model, TASK)
        tensors = load_file(file)
        assert tensors.keys() == model.state_dict().keys()
        assert all(torch.equal(tensors[n], v) for n, v in model.state_dict().items())
        with safe_open(file, framework="pt") as opened:
            header = json.loads(opened.metadata()["easylearn"])
        assert header == {"schema": 1, "kind": "single_label", "names": ["a", "b"], "label_smoothing": 0.0}

    def test_tied_and_viewed_and_channels_last_weights(self, tmp_path: Path) -> None:
        class Odd(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a = nn.Linear(4, 4)
                self.b = nn.Linear(4, 4)
                self.b.weight = self.a.weight
                whole = torch.randn(8)
                self.c, self.d = nn.Parameter(whole[:4]), nn.Parameter(whole[4:])
                self.conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                self.register_buffer("scalar", torch.tensor(3))
                self.register_buffer("empty", torch.zeros(0))

        one, two = Odd(), Odd()
        load_weights(save_weights(tmp_path / "odd.safetensors", one, TASK), two, TASK)
        for name, value in one.state_dict().items():
            assert torch.equal(two.state_dict()[name], value), name
        assert two.b.weight is two.a.weight and two.conv.weight.is_contiguous(memory_format=torch.channels_last)

    def test_another_precision_is_converted(self, tmp_path: Path) -> None:
        file = save_weights(tmp_path / "m.safetensors", nn.Linear(2, 2).half(), TASK)
        model = nn.Linear(2, 2)
        load_weights(file, model, TASK)
        assert model.weight.dtype == torch.float32 and torch.equal(model.weight.half(), load_file(file)["weight"])

    def test_weights_of_others_are_read(self, tmp_path: Path) -> None:
        model = nn.Linear(2, 2)
        save_file({n: v.clone() for n, v in model.state_dict().items()}, tmp_path / "other.safetensors")
        load_weights(tmp_path / "other.safetensors", nn.Linear(2, 2), TASK)


class TestWhatCannotBeLoaded:
    @pytest.fixture
    def saved(self, make_learner: MakeLearner) -> tuple[Learner, Path]:
        learn = make_learner()
        return learn, learn.save("dogs_frozen")

    def refuse(self, learn: Learner, name: str, said: str, weights: Any, same: Any) -> None:
        before = weights(learn)
        with pytest.raises(WeightsError, match=said):
            learn.load(name)
        assert same(before, weights(learn))  # all of them or none

    def test_a_missing_name(self, saved: tuple[Learner, Path], weights: Any, same: Any, tmp_path: Path) -> None:
        learn, _ = saved
        self.refuse(
            learn,
            "dog_frozen",
            r"no saved weights .*dog_frozen.safetensors. Did you mean 'dogs_frozen'\?",
            weights,
            same,
        )
        learn.path = tmp_path / "elsewhere"
        self.refuse(learn, "dogs_frozen", "The folder has no saved weights", weights, same)

    @pytest.mark.parametrize("damage", ["empty", "short", "garbage", "header", "folder"])
    def test_a_damaged_file(self, saved: tuple[Learner, Path], damage: str, weights: Any, same: Any) -> None:
        learn, file = saved
        whole = file.read_bytes()
        file.unlink()
        if damage == "folder":
            file.mkdir()
        else:
            changed = whole.replace(b'\\"schema\\": 1', b'\\"schema\\"  1')
            file.write_bytes({"empty": b"", "short": whole[:-5], "garbage": b"x" * 99, "header": changed}[damage])
        self.refuse(learn, "dogs_frozen", "dogs_frozen.safetensors is not a whole safetensors file", weights, same)

    @pytest.mark.parametrize(
        "header", ["[]", '{"schema": "one"}', '{"schema": 1, "names": ["a"]}', '{"names": 3, "kind": 4}', "5"]
    )
    def test_a_header_that_is_not_ours(self, tmp_path: Path, header: str) -> None:
        model = nn.Linear(2, 2)
        tensors = {n: v.clone() for n, v in model.state_dict().items()}
        save_file(tensors, tmp_path / "m.safetensors", metadata={"easylearn": header})
        with pytest.raises(WeightsError, match=r"m\.safetensors"):
            load_weights(tmp_path / "m.safetensors", model, TASK)

    @pytest.mark.parametrize(
        ("task", "said"),
        [
            (single_label(["a", "c"]), r"only in the first: \['b'\], only in the second: \['c'\]"),
            (single_label(["b", "a"]), "the order differs"),
            (multi_label(["a", "b"]), "one is single_label, the other multi_label"),
            (regression(["a", "b"]), "one is single_label, the other regression"),
        ],
    )
    def test_another_task(self, tmp_path: Path, task: Any, said: str) -> None:
        file = save_weights(tmp_path / "m.safetensors", nn.Linear(2, 2), TASK)
        with pytest.raises(WeightsError, match=said):
            load_weights(file, nn.Linear(2, 2), task)

    def test_other_shapes_and_names(self, tmp_path: Path) -> None:
        file = save_weights(tmp_path / "m.safetensors", nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), TASK)
        model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
        before = model[0].weight.detach().clone()
        with pytest.raises(WeightsError) as caught:
            load_weights(file, model, TASK)
        said = str(caught.value)
        assert "2 tensors of the model are not in the file (first '2.weight')" in said
        assert "2 tensors of the file are not in the model (first '1." in said
        assert "2 shapes differ (first 0.weight: (3, 2) in the file, (4, 2) in the model)" in said
        assert torch.equal(model[0].weight, before)

    def test_a_newer_schema(self, tmp_path: Path) -> None:
        model = nn.Linear(2, 2)
        tensors = {n: v.clone() for n, v in model.state_dict().items()}
        header = json.dumps({"schema": 2, "kind": "single_label", "names": ["a", "b"]})
        save_file(tensors, tmp_path / "m.safetensors", metadata={"easylearn": header})
        with pytest.raises(WeightsError, match=r"written by a newer easylearn \(schema 2\); update easylearn"):
            load_weights(tmp_path / "m.safetensors", model, TASK)

    def test_a_pickle_is_refused(self, tmp_path: Path) -> None:
        torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "m.safetensors")
        with pytest.raises(WeightsError, match="not a whole safetensors file"):
            load_weights(tmp_path / "m.safetensors", nn.Linear(2, 2), TASK)


class TestFullDisk:
    @pytest.mark.skipif(sys.platform == "win32", reason="limits on the size of files are Unix's")
    def test_the_old_file_is_whole(self, tmp_path: Path) -> None:
        """A real failing write: the process may write files of 4 kB at most."""
        script = f"""
import resource, torch
from torch import nn
from easylearn.errors import SaveError
from easylearn.task import single_label
from easylearn.train.weights import save_weights
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
file, task = {str(tmp_path / "m.safetensors")!r}, single_label(["a", "b"])
save_weights(file, nn.Linear(2, 2), task)
before = open(file, "rb").read()
try:
    save_weights(file, nn.Linear(200, 200), task)
except SaveError as error:
    assert "the file that was there is unchanged" in str(error), error
    assert open(file, "rb").read() == before
    print("refused")
"""
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env)
        assert done.stdout.strip() == "refused", done.stderr
        assert [f.name for f in tmp_path.iterdir()] == ["m.safetensors"]

    def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(
        self, make_learner: MakeLearner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        learn = make_learner()
        file = learn.save("one")
        before = file.read_bytes()

        def full(tensors: dict[str, Tensor], path: Path, metadata: Any = None) -> None:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("safetensors.torch.save_file", full)
        with pytest.raises(SaveError, match=r"No space left on device; the file that was there is unchanged"):
            learn.save("one")
        with pytest.raises(SaveError, match="no file was made"):
            learn.save("two")
        assert file.read_bytes() == before and [f.name for f in file.parent.iterdir()] == ["one.safetensors"]
