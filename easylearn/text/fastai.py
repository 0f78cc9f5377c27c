"""fast.ai's language models of 2018 and 2019: fetched, and read without executing anything that is in the files."""

from __future__ import annotations

import pickletools
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import WeightsError
from ..files import StrPath, atomic_write, cache_dir
from .vocab import BOS, FLD, MAJ, PAD, REP, UNK, UP, WREP

WT103 = "https://files.fast.ai/models/wt103"
"""Where fast.ai keeps its language models of 2018."""
OLD_TOKENS = {
    "_unk_": UNK, "_pad_": PAD, "_bos_": BOS, "xbos": BOS, "xfld": FLD,
    "t_up": UP, "tk_rep": REP, "tk_wrep": WREP, "xxeos": "xxeos", "t_maj": MAJ,
}  # fmt: skip
"""fast.ai's names of the special tokens in 2018, and ours."""


def download_wt103(backward: bool = False) -> tuple[Path, Path]:
    """Weights and vocabulary of fast.ai's model of WikiText-103 (2018), fetched into the cache folder once."""
    folder = cache_dir() / "wt103"
    weights, words = folder / f"{'bwd' if backward else 'fwd'}_wt103.h5", folder / "itos_wt103.pkl"
    for file in (weights, words):
        if not file.exists():
            _fetch(f"{WT103}/{file.name}", file)
    return weights, words


def _fetch(address: str, file: Path) -> None:
    from urllib.request import urlopen

    try:
        with urlopen(address, timeout=60) as source, atomic_write(file) as temporary:
            expected = source.headers.get("Content-Length")
            with open(temporary, "wb") as target:
                shutil.copyfileobj(source, target)
            size = temporary.stat().st_size
            if expected is not None and size != int(expected):
                raise OSError(None, f"only {size:,} of {int(expected):,} bytes came")
    except OSError as error:
        raise WeightsError(
            f"{address} could not be fetched ({error}). Get it on a machine with a network and pass "
            "pretrained=(weights, vocabulary)"
        ) from error


def read_fastai(file: Path, itos: StrPath | None) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Vocabulary and tensors of the encoder in fast.ai's weights, both with our names.

    Args:
        file: what `torch.save` wrote: `0.encoder.weight`, `0.rnns.*.module.weight_hh_l0_raw` and so on.
        itos: their vocabulary, a list of words in a `.pkl` file; None looks for `itos*.pkl` beside them.
    """
    if itos is None:
        beside = sorted(file.parent.glob("itos*.pkl"))
        if len(beside) != 1:
            raise WeightsError(
                f"{file} needs its vocabulary, itos_*.pkl: found {[f.name for f in beside]} beside it. Pass "
                "pretrained=(weights, vocabulary)"
            )
        itos = beside[0]
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damage leads to
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise WeightsError(f"{file} cannot be read as weights: {reason}") from error
    if isinstance(found, Mapping) and isinstance(found.get("model"), Mapping):
        found = found["model"]
    if not isinstance(found, Mapping) or not all(isinstance(t, Tensor) for t in found.values()):
        raise WeightsError(f"{file} holds no dictionary of tensors, got {type(found).__name__}")
    tensors = fastai_tensors({str(n): t for n, t in found.items()})
    return tuple(OLD_TOKENS.get(t, t) for t in read_itos(itos)), tensors


def fastai_tensors(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """fast.ai's names of tensors as ours, of 2018 and of 2019; doubles and what is not of the encoder left out.

    >>> sorted(fastai_tensors({"0.encoder.weight": torch.zeros(1), "0.rnns.0.module.weight_hh_l0_raw": torch.ones(1)}))
    ['embedding.weight', 'rnns.0.weight_hh_l0']
    """
    own: dict[str, Tensor] = {}
    for name, tensor in found.items():
        parts = name.removeprefix("0.").split(".")
        if parts == ["encoder", "weight"]:
            own["embedding.weight"] = tensor
        elif parts == ["1", "decoder", "bias"]:
            own["decoder.bias"] = tensor
        elif parts[0] == "rnns" and len(parts) >= 3:
            leaf = parts[-1].removesuffix("_raw")
            key = f"rnns.{parts[1]}.{leaf}"
            # The file of 2019 has the dropped weight beside the raw one; the raw one is the weight.
            if key not in own or parts[-1].endswith("_raw"):
                own[key] = tensor
    return own


_LIST_OPCODES = frozenset(["PROTO", "FRAME", "MARK", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "STOP"])
_TEXT_OPCODES = frozenset(
    ["UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"]
)


def read_itos(path: StrPath) -> list[str]:
    """A list of words out of a pickle file, by its opcodes alone: no class is looked up and nothing is called."""
    words: list[str] = []
    lists = 0
    memo: dict[int, str | None] = {}
    last: str | None = None
    try:
        for opcode, argument, _ in pickletools.genops(Path(path).read_bytes()):
            name = opcode.name
            if name in _TEXT_OPCODES:
                last = argument.decode() if isinstance(argument, bytes) else str(argument)
                words.append(last)
            elif name == "MEMOIZE" or name.endswith("PUT"):
                memo[len(memo) if name == "MEMOIZE" else int(argument or 0)] = last
            elif name.endswith("GET"):
                word = memo.get(int(argument or 0))
                if word is None:
                    raise WeightsError(f"{path} holds more than a flat list of words; it was not read")
                words.append(word)
            elif name not in _LIST_OPCODES:
                raise WeightsError(f"{path} holds more than a list of words ({name}); it was not read")
            elif name.endswith("LIST"):
                last, lists = None, lists + 1
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read as a list of words: {error}") from error
    if not words or lists != 1:
        raise WeightsError(f"{path} holds {lists} lists and {len(words)} words instead of one list of words")
    return words
