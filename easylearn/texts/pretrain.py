"""Pretraining a language model on a folder of text: `easylearn pretrain-lm CORPUS --out DIR`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .. import schedules
from ..errors import ArgumentError, DataError, StateError
from ..files import StrPath, atomic_write
from ..learning import Learner
from .data import TextLMData
from .learner import language_model_learner
from .transfer import save_encoder

SIZES: Mapping[str, tuple[int, int, int]] = {"tiny": (64, 128, 2), "compact": (160, 480, 2), "full": (400, 1152, 3)}
"""Names of sizes: length of a word's vector, width of the layers, number of layers."""

_OF_DATA = ["valid", "fraction", "max_vocab", "min_freq", "tokenizer", "batch_size", "bptt", "backward", "seed"]
MOMENTUM = (0.8, 0.7)  # of Adam's first beta, against the rate: less than for images (arXiv 1801.06146, section 4.1)


@dataclass(frozen=True)
class Pretraining:
    """How a language model is pretrained.

    Args:
        size: one of `SIZES`.
        epochs: passes over the corpus.
        lr: highest rate of the one cycle.
        batch_size: rows that are read side by side.
        bptt: tokens in a window.
        max_vocab: the most tokens that the vocabulary keeps.
        min_freq: tokens that come less often are *unknown*.
        tokenizer: "word", "bpe" or "unigram".
        valid: fraction of the documents that validate, where the corpus has no folder `valid`.
        fraction: of the training documents, how many are read; less than 1 where there is no time for all.
        drop_mult: all dropouts, and the penalties on activations, times this: little for much text.
        backward: read each text from its end.
        seed: of everything.
        sampled: train each batch to choose among its own tokens and so many others; see `SampledSoftmax`.
    """

    size: str = "full"
    epochs: int = 10
    lr: float = 5e-3
    batch_size: int = 64
    bptt: int = 70
    max_vocab: int = 30_000
    min_freq: int = 3
    tokenizer: str = "word"
    valid: float = 0.05
    fraction: float = 1.0
    drop_mult: float = 0.5
    backward: bool = False
    seed: int = 0
    sampled: int | None = None

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ArgumentError(f"size must be one of {list(SIZES)}, got {self.size!r}")
        if self.epochs < 1:
            raise ArgumentError(f"epochs must be at least 1, got {self.epochs}")
        if not 0 < self.fraction <= 1:
            raise ArgumentError(f"fraction must be above 0 and at most 1, got {self.fraction}")


def pretrain_lm(
    corpus: StrPath, out: StrPath, settings: Pretraining | None = None, *, every: str | int = "5min",
    device: str | None = None, progress: bool = True,
) -> Learner:  # fmt: skip
    """Train a language model on a folder of text files; called again after a break, it goes on where it was.

    Args:
        corpus: the folder; its sub-folders `train` and `valid` are used where they are there.
        out: folder for `encoder.safetensors`, which `pretrained=` takes, `settings.json`, `record.csv` and, while it
            runs, `checkpoint`.
        settings: how to train; they must be the same when it goes on.
        every: how often a checkpoint is written; see `Learner.fit`.
        device: None takes the best there is.
        progress: draw bars and print a line per epoch.

    Raises:
        DataError: there is no text, or a file is no UTF-8; it is named.
        StateError: the folder holds another run.
    """
    chosen = settings if settings is not None else Pretraining()
    folder = Path(out)
    if not Path(corpus).is_dir():
        raise DataError(f"there is no folder {corpus}; give a folder of .txt files")
    checkpoint = folder / "checkpoint"
    claim = {"corpus": str(Path(corpus).resolve()), **asdict(chosen)}
    goes_on = _goes_on(folder, checkpoint, claim)
    how = {name: getattr(chosen, name) for name in _OF_DATA}
    data = TextLMData.from_folder(corpus, progress=progress, **how)
    emb_size, n_hidden, n_layers = SIZES[chosen.size]
    learn = language_model_learner(
        data, emb_size=emb_size, n_hidden=n_hidden, n_layers=n_layers, drop_mult=chosen.drop_mult,
        alpha=2 * chosen.drop_mult, beta=chosen.drop_mult, sampled=chosen.sampled, seed=chosen.seed, device=device,
        path=folder, progress=progress,
    )  # fmt: skip
    if goes_on:
        record = learn.resume(checkpoint)
    else:
        with atomic_write(folder / "settings.json") as temporary:
            temporary.write_text(json.dumps(claim, indent=2) + "\n", encoding="utf-8")
        if progress:
            print(data)
            learn.plan(chosen.lr, chosen.epochs, cycle_len=None, schedule=schedules.one_cycle())
        record = learn.fit_one_cycle(chosen.lr, chosen.epochs, momentum=MOMENTUM, checkpoint=checkpoint, every=every)
    if record.stop_reason is not None:
        return learn
    with atomic_write(folder / "record.csv") as temporary:
        record.to_frame().to_csv(temporary, index=False)
    save_encoder(learn, "encoder")  # the last, since it says that the run is finished
    shutil.rmtree(checkpoint)
    return learn


def resume_pretraining(out: StrPath, *, device: str | None = None, progress: bool = True) -> Learner:
    """Go on with the run whose folder this is, with its own settings; see `pretrain_lm`."""
    claim = _settings_of(Path(out))
    corpus = claim.pop("corpus")
    return pretrain_lm(corpus, out, Pretraining(**claim), device=device, progress=progress)


def _goes_on(folder: Path, checkpoint: Path, settings: dict[str, Any]) -> bool:
    """Whether a run with these settings was begun in the folder; a folder with another or a finished run is refused."""
    finished = (folder / "encoder.safetensors").exists()
    if not finished and not (checkpoint.is_dir() and any(checkpoint.iterdir())):
        return False
    there = _settings_of(folder)
    different = [f"{n}: {there.get(n)!r}, now {v!r}" for n, v in settings.items() if there.get(n) != v]
    if different:
        raise StateError(
            f"{folder} holds a run with other settings ({'; '.join(different)}). Give the same, or another folder"
        )
    if finished:
        raise StateError(f"{folder} holds a finished run; use its encoder.safetensors, or give another folder")
    return True


def _settings_of(folder: Path) -> dict[str, Any]:
    """What the run of a folder was begun with: the corpus, and the fields of `Pretraining`."""
    file = folder / "settings.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {"corpus": found.pop("corpus"), **asdict(Pretraining(**found))}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateError(f"{file} does not say what run {folder} holds ({error}); choose another folder") from error


def setting_names() -> list[str]:
    """What can be set, as the command line names it."""
    return [f.name for f in fields(Pretraining)]
