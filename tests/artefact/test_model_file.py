"""From a model to a file and back, and files that say what is not so under the right digests."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from easylearn.artefact.archive import Archive
from easylearn.artefact.model_file import (
    describe_task,
    library_versions,
    load_model,
    refuse_damage,
    summary,
    write_model,
)
from easylearn.artefact.pack import pack, unpack
from easylearn.errors import EasyLearnError, StateError, WeightsError
from easylearn.nn import registry
from easylearn.nn.awd_lstm import AWDLSTM
from easylearn.nn.embeddings import TableModel
from easylearn.nn.registry import register
from easylearn.nn.text_models import LanguageModel, TextClassifier, classifier_head
from easylearn.task import next_token, single_label
from easylearn.vision.model import vision_model


def net(width: int = 40) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Linear(width, 4))


@register("tests.tables_within")
class TablesWithin(nn.Module):
    """Holds tensors that are in no file: a buffer that is not saved, and a plain one."""

    table: Tensor

    def __init__(self, n: int = 5) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(float(n)), persistent=False)
        self.plain = [torch.ones(n)]
        self.layer = nn.Linear(n, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x + self.table + self.plain[0])
        return out


class Mine(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.layer = nn.Linear(3, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


def round_trip(model: nn.Module, path: Path, own: nn.Module | None = None, **options: Any) -> nn.Module:
    write_model(path, model, {}, **options)
    with Archive(path) as archive:
        return load_model(archive, own)


def same(a: nn.Module, b: nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) and one[n].dtype == two[n].dtype for n in one)


def members(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with zipfile.ZipFile(path) as file:
        return json.loads(file.read("spec.json")), load_safetensors(file.read("weights.safetensors"))


def seal(path: Path, spec: dict[str, Any], tensors: dict[str, Tensor] | bytes) -> Path:
    """Write a file as somebody would who means harm and knows how digests are made."""
    weights = tensors if isinstance(tensors, bytes) else save_safetensors(tensors)
    spec = {**spec, "weights": hashlib.blake2b(weights, digest_size=16).hexdigest()}
    spec.pop("digest", None)
    text = json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()
    spec["digest"] = hashlib.blake2b(text, digest_size=16).hexdigest()
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("spec.json", json.dumps(spec))
        file.writestr("weights.safetensors", weights)
    return path


def load(path: Path, own: nn.Module | None = None) -> nn.Module:
    with Archive(path) as archive:
        return load_model(archive, own)


# -- compared with torch -----------------------------------------------------------------------------------


def test_weights_are_those_that_torch_has(tmp_path: Path) -> None:
    model = net()
    assert same(round_trip(model, tmp_path / "file"), model)
    _, tensors = members(tmp_path / "file")
    fresh = net(40)
    fresh.load_state_dict(tensors)
    assert same(fresh, model)


@pytest.mark.parametrize("seed", [0, 1])
def test_loading_draws_no_random_numbers(tmp_path: Path, seed: int) -> None:
    write_model(tmp_path / "file", net(), {})
    torch.manual_seed(seed)
    state = torch.get_rng_state()
    load(tmp_path / "file")
    assert torch.equal(torch.get_rng_state(), state)


# -- behaviour ---------------------------------------------------------------------------------------------


def test_channels_last(tmp_path: Path) -> None:
    model = net().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    again = round_trip(model, tmp_path / "file")
    assert same(again, model) and again[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not round_trip(net(), tmp_path / "file")[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("last", [False, True])
def test_other_precisions(tmp_path: Path, dtype: torch.dtype, last: bool) -> None:
    model = net().to(dtype)
    if last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    again = round_trip(model, tmp_path / "file")
    assert same(again, model)
    assert all(p.requires_grad for p in again.parameters())


@pytest.mark.parametrize("how", [None, "int8", "sparse", "sparse_int8"])
def test_tied_weights(tmp_path: Path, how: Any) -> None:
    torch.manual_seed(0)
    model = LanguageModel(AWDLSTM(30, 12, 16, 2))
    with torch.no_grad():
        model.encoder.embedding.weight[torch.rand(30, 12) < 0.4] = 0
    again = round_trip(model, tmp_path / "file", how=how)
    assert isinstance(again, LanguageModel)
    assert again.decoder.weight is again.encoder.embedding.weight
    spec, tensors = members(tmp_path / "file")
    assert len(spec["tied"]) == 1 and not any(n.startswith("decoder.weight") for n in tensors)
    if how in (None, "sparse"):
        assert same(again, model)
    x = torch.randint(30, (2, 5))
    assert torch.allclose(again.step(x)[0], model.eval().step(x)[0], atol=0.05)


@pytest.mark.parametrize("how", ["int8", "sparse", "sparse_int8"])
def test_packed(tmp_path: Path, how: Any) -> None:
    model = net()
    with torch.no_grad():
        model[0].weight[torch.rand(40, 3, 3, 3) < 0.7] = 0
    again = round_trip(model, tmp_path / "file", how=how)
    spec, tensors = members(tmp_path / "file")
    assert spec["packed"] == {"0.weight": how} and torch.equal(tensors["0.bias"], model[0].bias)
    way = spec["packed"]["0.weight"]
    assert torch.equal(again[0].weight, unpack(pack(model[0].weight, way), way, (40, 3, 3, 3)))
    whole = write_model(tmp_path / "whole", model, {})
    assert (tmp_path / "file").stat().st_size < whole.stat().st_size - 1000


def test_an_lstm_is_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = TextClassifier(AWDLSTM(30, 6, 8, 2), classifier_head(6, 2)).eval()
    again = round_trip(model, tmp_path / "file")
    x, lengths = torch.randint(30, (3, 9)), torch.tensor([9, 4, 1])
    assert torch.equal(again(x, lengths), model(x, lengths))
    loss = again.train()(x, lengths).sum()
    loss.backward()
    assert all(p.grad is not None for p in again.parameters())


def test_tensors_that_are_in_no_file(tmp_path: Path) -> None:
    model = TablesWithin()
    again = round_trip(model, tmp_path / "file")
    assert isinstance(again, TablesWithin) and again.table.tolist() == [0, 1, 2, 3, 4]
    x = torch.randn(2, 5)
    assert torch.equal(again(x), model(x))


def test_a_module_of_ones_own(tmp_path: Path) -> None:
    model = Mine()
    given = Mine()
    again = round_trip(model, tmp_path / "file", given)
    assert again is given and same(again, model)
    inside = nn.Sequential(Mine(), nn.ReLU())
    assert same(round_trip(inside, tmp_path / "inside", Mine()), inside)
    with pytest.raises(WeightsError, match=r"model=Mine\(\.\.\.\)"):
        load(tmp_path / "file")
    with pytest.raises(WeightsError, match="do not fit"):
        load(tmp_path / "file", Mine(5))
    with pytest.raises(WeightsError, match="leave out model="):
        round_trip(net(), tmp_path / "plain", Mine())


def test_a_model_that_was_changed_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    model = TableModel([(4, 2)], 2, 1, [8])
    path = write_model(tmp_path / "file", model, {})
    old = path.read_bytes()
    model.hidden[-1] = nn.Tanh()
    with pytest.raises(StateError, match="changed after it was made"):
        write_model(path, model, {})
    model = TableModel([(4, 2)], 2, 1, [8])
    model.last = Mine()  # type: ignore[assignment]
    with pytest.raises(StateError, match="changed after it was made"):
        write_model(path, model, {})
    assert path.read_bytes() == old


def test_dropouts_may_be_set_at_any_time(tmp_path: Path) -> None:
    model = TableModel([(4, 2)], 2, 1, [8], ps=0.2)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.7
    assert same(round_trip(model, tmp_path / "file"), model)


def test_a_state_that_is_no_tensor(tmp_path: Path) -> None:
    class Extra(Mine):
        def get_extra_state(self) -> dict[str, int]:
            return {"n": 1}

        def set_extra_state(self, state: Any) -> None:
            pass

    with pytest.raises(StateError, match="_extra_state"):
        write_model(tmp_path / "file", Extra(), {})


def test_the_task_of_a_language_model_keeps_its_words_elsewhere() -> None:
    described = describe_task(next_token(["a", "b"]))
    assert described == {"kind": "next_token", "names": []}
    assert describe_task(single_label(["a", "b"])) == single_label(["a", "b"]).to_json()


def test_what_people_are_told(tmp_path: Path) -> None:
    spec = {"task": describe_task(single_label(["cat", "dog"])), "data": {"kind": "images", "size": [8, 8]}}
    with Archive(write_model(tmp_path / "file", net(), spec, how="int8")) as archive:
        told = summary(archive)
    assert "cat, dog" in told and "images" in told and "1 of them packed (int8)" in told and "size=[8, 8]" in told
    assert library_versions()["torch"] in told


# -- files that mean harm, under the right digests ---------------------------------------------------------

LINEAR = {"build": "torch.nn.Linear", "args": {"in_features": 10**9, "out_features": 10**9}}
CONV = {"build": "torch.nn.Conv2d", "args": {"in_channels": 3, "out_channels": 1, "kernel_size": [1, 1]}}


def deep(n: int) -> Any:
    value: Any = {"build": "torch.nn.ReLU", "args": {}}
    for _ in range(n):
        value = {"layers": {"0": value}}
    return value


def awd(**changes: Any) -> dict[str, Any]:
    return {"build": "easylearn.awd_lstm", "args": {"n_tokens": 10, "emb_size": 4, "n_hidden": 4, **changes}}


def table(**changes: Any) -> dict[str, Any]:
    args = {"sizes": [[4, 2]], "n_cont": 1, "n_out": 1, "layers": [8], **changes}
    return {"build": "easylearn.table_model", "args": args}


def vision(**changes: Any) -> dict[str, Any]:
    args = {"arch": "squeezenet1_1", "n_out": 2, "ps": None, "hidden": [4], "custom_head": None, "cut": None}
    return {"build": "easylearn.vision_model", "args": {**args, "stats": None, "seed": 0, **changes}}


GREEDY: dict[str, Any] = {
    "linear": LINEAR,
    "linear on the cpu": {**LINEAR, "args": {**LINEAR["args"], "device": "cpu"}},
    "nested": {"layers": {"0": {"layers": {"0": LINEAR}}}},
    "embedding": {"build": "torch.nn.Embedding", "args": {"num_embeddings": 10**12, "embedding_dim": 10**6}},
    "kernel": {"build": "torch.nn.Conv2d", "args": {"in_channels": 10**6, "out_channels": 10**6, "kernel_size": 10**4}},
    "ten thousand linears": {"layers": {str(i): LINEAR for i in range(10_000)}},
    "very many layers": {"layers": {str(i): {"build": "torch.nn.ReLU", "args": {}} for i in range(30_000)}},
    "very deep": deep(40),
    "n_tokens": awd(n_tokens=10**12),
    "n_layers": awd(n_layers=10**9),
    "n_hidden": awd(n_hidden=10**12),
    "hidden": table(layers=[10**9]),
    "hidden twice": table(layers=[10**9, 10**9]),
    "very many hidden": table(layers=[1] * 60_000),
    "n_cont": table(n_cont=10**12),
    "levels": table(sizes=[[10**12, 600]]),
    "very many levels": table(sizes=[[1, 1]] * 30_000),
    "knots": table(n_cont=2, knots=[[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]], number_width=10**12),
    "n_out": vision(n_out=10**12),
    "head": vision(hidden=[10**12]),
    "very many heads": vision(hidden=[1] * 60_000),
    "custom head": vision(custom_head=LINEAR),
    # What is cut off is in no file, so that shapes say nothing of it.
    "cut off": vision(
        arch={
            "layers": {
                "a": CONV,
                "b": {"build": "torch.nn.AdaptiveAvgPool2d", "args": {"output_size": 1}},
                "c": {"build": "torch.nn.Flatten", "args": {}},
                "d": LINEAR,
            }
        },
        cut=1,
    ),
    "an output": vision(
        arch={
            "layers": {
                "a": {**CONV, "args": {**CONV["args"], "padding": [10**6, 10**6]}},
                "b": {"build": "torch.nn.AdaptiveAvgPool2d", "args": {"output_size": 1}},
                "c": {"build": "torch.nn.Flatten", "args": {}},
                "d": {"build": "torch.nn.Linear", "args": {"in_features": 1, "out_features": 2}},
            }
        }
    ),
    "another file": vision(pretrained="/etc/passwd"),
    "the network": vision(pretrained=True),
    "no architecture": vision(arch="x" * 10**6),
    "a hub": vision(arch="hf-hub:timm/resnet18.a1_in1k"),
    "a hub of timm": vision(arch="timm/hf-hub:timm/resnet18.a1_in1k"),
    "nothing": None,
    "a number": 3,
    "a list": [CONV],
    "values": {"dict": {"a": CONV}},
}


@pytest.mark.parametrize("name", GREEDY)
def test_sizes_that_a_file_makes_up(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "file", net(), {})
    spec, tensors = members(tmp_path / "file")
    path = seal(tmp_path / "bad", {**spec, "model": GREEDY[name], "tied": {}, "packed": {}}, tensors)
    vision_model("squeezenet1_1", 2, pretrained=False)  # what is imported late is imported now
    made: list[int] = []
    real_empty = torch.empty

    def empty(*args: Any, **kwargs: Any) -> Tensor:
        out = real_empty(*args, **kwargs)
        made.append(0 if out.is_meta else out.numel() * out.element_size())
        return out

    monkeypatch.setattr(torch, "empty", empty)
    begun = time.process_time()
    with pytest.raises(EasyLearnError) as caught:
        load(path)
    assert time.process_time() - begun < 10
    assert sum(made) < 1e6
    assert len(str(caught.value)) < 2000


SCRIPT = """
import resource, sys, torch
from pathlib import Path
from easylearn.artefact.archive import Archive
from easylearn.artefact.model_file import load_model
from easylearn.errors import EasyLearnError
from easylearn.vision.model import vision_model
vision_model("squeezenet1_1", 2, pretrained=False)
torch.set_num_threads(1)
for line in open("/proc/self/status"):
    if line.startswith("VmSize"):
        used = int(line.split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20, resource.RLIM_INFINITY))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        with Archive(path) as archive:
            load_model(archive)
    except EasyLearnError as error:
        assert "alloc" not in str(error) and "memory" not in str(error), f"{path}: {error}"
    else:
        raise SystemExit(f"{path} was loaded")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits addresses")
def test_none_of_them_asks_for_memory(tmp_path: Path) -> None:
    write_model(tmp_path / "file", net(), {})
    spec, tensors = members(tmp_path / "file")
    (tmp_path / "all").mkdir()
    for name in ("linear on the cpu", "n_tokens", "hidden", "custom head", "cut off", "an output"):
        seal(tmp_path / "all" / name, {**spec, "model": GREEDY[name], "tied": {}, "packed": {}}, tensors)
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "all")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) * 1024 < 200e6


@register("tests.others_meanwhile")
class OthersMeanwhile(nn.Module):
    """While it is made, another thread makes a large model, and calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 2)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(self.others).result(60)
        self.last = nn.Linear(2, 2)

    @staticmethod
    def others() -> None:
        with torch.device("meta"):
            nn.Linear(2**21, 2**20)(torch.empty(2**7, 2**21))


def test_what_other_threads_make_meanwhile_is_theirs(tmp_path: Path) -> None:
    assert round_trip(OthersMeanwhile(), tmp_path / "file").last.weight.shape == (2, 2)


def test_threads_load_at_once(tmp_path: Path) -> None:
    write_model(tmp_path / "file", nn.Sequential(*(nn.Linear(4, 4) for _ in range(40))), {})
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: load(tmp_path / "file"), range(200)))
    finally:
        sys.setswitchinterval(usual)
    assert all(torch.equal(one[4].weight, found[0][4].weight) for one in found)


def test_a_list_of_models_is_refused_before_any_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_model(tmp_path / "file", net(), {})
    spec, tensors = members(file)
    seal(file, {**spec, "model": [spec["model"]] * 1000}, tensors)
    monkeypatch.setattr(registry, "build", lambda *_: pytest.fail("it was built"))
    with pytest.raises(WeightsError, match="describes a list"):
        load(file)


@pytest.fixture
def spoil(tmp_path: Path) -> Callable[..., str]:
    """Write a tiny model, change what the file says of it, and give the message with which it is refused."""

    def change(
        edit: Callable[[dict[str, Any], dict[str, Tensor]], Any], model: nn.Module | None = None, **options: Any
    ) -> str:
        path = write_model(tmp_path / "file", net() if model is None else model, {}, **options)
        spec, tensors = members(path)
        given = edit(spec, tensors)
        seal(path, spec, given if isinstance(given, dict | bytes) else tensors)
        with pytest.raises(WeightsError) as caught:
            load(path)
        return str(caught.value)

    return change


def test_tensors_that_do_not_fit(spoil: Callable[..., str]) -> None:
    assert "0.bias is missing" in spoil(lambda s, t: {n: v for n, v in t.items() if n != "0.bias"})
    assert "more belongs to no part" in spoil(lambda s, t: {**t, "more": torch.ones(1)})
    assert "4.bias" in spoil(lambda s, t: {**t, "4.bias": torch.ones(5)})
    assert "1.num_batches_tracked" in spoil(lambda s, t: {**t, "1.num_batches_tracked": torch.tensor(1.0)})
    assert "0.bias" in spoil(lambda s, t: {**t, "0.bias": torch.ones(40, dtype=torch.int64)})
    assert "do not fit" in spoil(lambda s, t: {**t, "a::values": torch.ones(1), "::": torch.ones(1)})


def test_pieces_that_do_not_fit(spoil: Callable[..., str]) -> None:
    for way in ("int8", "sparse", "sparse_int8", "zip", ""):
        assert "0.bias" in spoil(lambda s, t, w=way: s["packed"].update({"0.bias": w}))
    small: dict[str, Any] = {"how": "int8"}
    assert "'scale'" in spoil(lambda s, t: {n: v for n, v in t.items() if n != "0.weight::scale"}, **small)
    assert "its pieces are" in spoil(lambda s, t: {**t, "0.weight::more": torch.ones(1)}, **small)
    assert "cannot be packed" in spoil(lambda s, t: s["packed"].update({"0.weight": "int4"}), **small)
    assert "is missing" in spoil(lambda s, t: s["packed"].clear(), **small)
    assert "no part of the model" in spoil(lambda s, t: s["packed"].update({"elsewhere": "int8"}))
    for bad in ([], {"0.weight": 1}, None, "x"):
        assert "packed" in spoil(lambda s, t, b=bad: s.update(packed=b))
    model = net()
    with torch.no_grad():
        model[0].weight[::2] = 0
    mask = "0.weight::mask"
    for byte in (0, 255):
        assert "'values'" in spoil(lambda s, t, b=byte: {**t, mask: torch.full_like(t[mask], b)}, model, how="sparse")


def test_ties_that_do_not_fit(spoil: Callable[..., str]) -> None:
    def tie(**names: str) -> Callable[..., None]:
        return lambda s, t: s.update(tied={k.replace("_", "."): v for k, v in names.items()})

    for odd in (
        tie(**{"0_bias": "4.bias"}),
        tie(**{"0_bias": "none"}),
        tie(none="0.bias"),
        tie(**{"0_bias": "0.bias"}),
    ):
        assert "same as" in spoil(odd)
    assert "same as" in spoil(tie(**{"1_num.batches.tracked": "0.bias"}))
    for bad in ([], {"0.bias": None}, 1):
        assert "tied" in spoil(lambda s, t, b=bad: s.update(tied=b))

    def whole(spec: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        spec["tied"] = {"a": "n"}
        return {"n": torch.tensor(3)}

    @register("tests.scalars")
    class Scalars(nn.Module):
        n: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.tensor(1.0))
            self.register_buffer("n", torch.tensor(3))

    assert "same as" in spoil(whole, Scalars())


def test_a_pickle_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return eval, ("open('/tmp/it-was-run', 'w')",)

    buffer = io.BytesIO()
    torch.save(net().state_dict(), buffer)
    evils = [pickle.dumps(Bomb()), buffer.getvalue()]

    def read(*_: object, **__: object) -> None:
        raise AssertionError("a pickle was read")

    for name in ("pickle.loads", "pickle.load", "pickle.Unpickler", "torch.load", "_pickle.loads", "_pickle.Unpickler"):
        monkeypatch.setattr(name, read)
    path = write_model(tmp_path / "file", net(), {})
    good = path.read_bytes()
    spec, tensors = members(path)
    said, weights = json.dumps(spec).encode(), save_safetensors(tensors)
    for evil in evils:
        for parts in (
            [("spec.json", evil), ("weights.safetensors", weights)],
            [("spec.json", said), ("weights.safetensors", evil)],
            [("spec.json", said), ("weights.safetensors", weights), ("data.pkl", evil)],
            [("data.pkl", evil), ("version", b"3")],
        ):
            with zipfile.ZipFile(path, "w") as file:
                for name, content in parts:
                    file.writestr(name, content)
            with pytest.raises(WeightsError):
                load(path)
        path.write_bytes(evil)
        with pytest.raises(WeightsError):
            load(path)
        seal(path, spec, evil)
        with pytest.raises(WeightsError):
            load(path)
        path.write_bytes(evil + good)
        assert same(load(path), net())


def test_a_lack_of_memory_is_no_damage() -> None:
    with pytest.raises(torch.cuda.OutOfMemoryError), refuse_damage("m.easylearn", "is damaged"):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    for words in ("[enforce fail] DefaultCPUAllocator: can't allocate memory: 7 bytes", "MPS backend out of memory"):
        with pytest.raises(WeightsError, match=r"^m\.easylearn does not fit into memory") as caught:
            with refuse_damage("m.easylearn", "is damaged"):
                raise RuntimeError(words)
        assert "damaged" not in str(caught.value)
    with pytest.raises(WeightsError, match="is damaged"), refuse_damage("m.easylearn", "is damaged"):
        raise RuntimeError("size mismatch")
