"""From listed images to splits: what is missing or comes twice, who validates, what the labels say, who is drawn."""

from __future__ import annotations

import datetime as dt
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..data.bunch import SplitName
from ..data.order import Indices
from ..data.split import by_class, fraction_of, split_indices
from ..data.targets import TargetOptions, read_targets
from ..data.weights import draw_weights
from ..errors import ArgumentError, DataError, EasyLearnWarning
from ..task import Task
from .decode import IMAGE_SUFFIXES, AnyImage, ItemStage
from .items import Listed, Rows
from .options import ImageOptions
from .source import Images, choose_workers, in_workers

PROBED = 64  # files that a worker tries at a time


@dataclass(frozen=True)
class ImageSplit:
    """The images of one split."""

    sources: Sequence[AnyImage]  # what `ItemStage.load` takes
    targets: Tensor | None  # shape (n, ...); None where they are not known
    ids: tuple[str, ...]
    labels: Any = None  # as they were given, such as files of masks; None where there are none
    names: tuple[str, ...] = ()  # what messages call them, if not by their ids

    def __len__(self) -> int:
        return len(self.sources)

    def __repr__(self) -> str:
        return f"ImageSplit({len(self):,} images{'' if self.targets is None else ', with targets'})"

    @property
    def images(self) -> Images:
        """The images without their targets."""
        return Images(self.sources, self.names or self.ids)


@dataclass(frozen=True)
class Assembled:
    """Splits with their targets, and what came to light on the way."""

    splits: dict[SplitName, ImageSplit]
    task: Task
    weights: npt.NDArray[np.float64] | None = None  # how often each training image is drawn; None for once an epoch
    path: Path | None = None  # what ids are relative to
    skipped: dict[str, str] = field(default_factory=dict)  # files that could not be read, with the reason
    left_out: dict[str, str] = field(default_factory=dict)  # folders without an image, with what they hold
    note: str = ""  # what was guessed of the labels


class KnownTargets(Protocol):
    """What the training items say is predicted: `data.targets.Targets`, or what reads masks or boxes."""

    @property
    def task(self) -> Task:
        """What is predicted."""
        ...

    def encode(self, values: Any, *, where: Callable[[int], str], split: str, hint: str) -> Tensor:
        """Targets of a split, a row each; a `DataError` says `where` they are wrong, and the `hint`."""
        ...


class Labels(Protocol):
    """Raw labels, read; see `data.targets.read_targets`."""

    @property
    def note(self) -> str:
        """What was guessed."""
        ...

    def stratify_codes(self) -> npt.NDArray[np.int64] | None:
        """The class of each row; None where there is none."""
        ...

    def learn(self, train: Indices) -> KnownTargets:
        """What the rows that train say."""
        ...


def labels_by(options: TargetOptions) -> Callable[[Rows], Labels]:
    """What reads labels as the `options` say."""
    return lambda rows: read_targets(rows.labels, options, where=rows.where.__getitem__)


def assemble(listed: Listed, valid: Any, how: ImageOptions, read: Callable[[Rows], Labels]) -> Assembled:
    """Split images as `valid` says, unless validation images are listed by themselves, and `read` their labels."""
    if not len(listed.rows):
        raise DataError(f"no images are listed for {listed.root}")
    skipped: dict[str, str] = {}
    every = _with_beside(listed.rows, how)
    stay = _stay(every, how, skipped)
    rows = every.take(stay)
    given = read(rows)
    groups, time = rows.beside.get("groups"), rows.beside.get("time")
    by_share = None if listed.valid is not None else valid
    codes = by_class(given.stratify_codes(), by_share, how.stratify, groups=groups, time=time)
    beside = {"stratify": codes, "groups": groups, "time": time}
    index = _split(listed, stay, len(every), valid, how.seed, beside)
    others: dict[SplitName, Rows] = {}
    if listed.valid is not None:
        others["valid"] = listed.valid.take(_stay(listed.valid, how, skipped))
    if listed.test is not None:
        others["test"] = listed.test
    if how.on_error == "skip":
        readable = set(_readable(rows, how, skipped))
        index = {name: [i for i in chosen if i in readable] for name, chosen in index.items()}
        others = {name: some.take(_readable(some, how, skipped)) for name, some in others.items()}
    parts: dict[SplitName, Rows] = {**{n: rows.take(chosen) for n, chosen in index.items()}, **others}
    for name, some in parts.items():
        if not len(some):
            why = f"; {len(skipped)} cannot be read, the first: {next(iter(skipped.values()))}" if skipped else ""
            raise DataError(f"no images are left in the {name} split{why}")
    targets = given.learn(np.asarray(index["train"]))
    how_to = "Add training images of it, or take it out; the names must match exactly"
    if listed.valid is None:
        how_to = "With so few images of it, pass stratify=True, another seed, or fix the split with valid=[...]"
        if codes is not None or fraction_of(valid) is None or groups is not None or time is not None:
            how_to = "Choose others to validate, so that training has some of it, or a fraction with stratify=True"
    splits = {name: _encoded(name, some, targets, listed, how_to) for name, some in parts.items()}
    for folder, what in listed.left_out.items():
        warnings.warn(f"the folder {folder} has no image that is read here: {what}", EasyLearnWarning, stacklevel=5)
    drawn = parts["train"].beside.get("weights", how.weights)
    weights = draw_weights(drawn, len(splits["train"]), splits["train"].targets, targets.task.classes)
    return Assembled(splits, targets.task, weights, listed.root, skipped, listed.left_out, given.note)


def _encoded(name: SplitName, rows: Rows, targets: KnownTargets, listed: Listed, hint: str) -> ImageSplit:
    """A split with its targets, where it has labels that can be some."""
    known, encoded = rows.labels, None
    if name == "test" and listed.folder_labels and known is not None:
        known = known if targets.task.is_exclusive and set(known) <= set(targets.task.classes) else None
    if known is not None:
        encoded = targets.encode(known, where=rows.where.__getitem__, split=name, hint=hint)
    return ImageSplit(rows.sources, encoded, tuple(rows.ids), known)


def _with_beside(rows: Rows, how: ImageOptions) -> Rows:
    """The rows with the groups and weights that were given for each, if they are no columns of a table."""
    beside = dict(rows.beside)
    given = {"groups": how.groups, "weights": None if isinstance(how.weights, str | dict) else how.weights}
    for name, values in given.items():
        if values is None or name in beside:
            continue
        if isinstance(values, str | int):
            raise ArgumentError(f"{name}={values!r} names a column, and these images come without a table")
        listed = [values(i) for i in rows.ids] if callable(values) else list(values)
        if len(listed) != len(rows):
            raise DataError(f"{name} must have one entry per image: got {len(listed)} entries for {len(rows)} images")
        beside[name] = listed
    return Rows(rows.sources, rows.ids, rows.where, rows.labels, beside)


def _split(
    listed: Listed, stay: Sequence[int], n: int, valid: Any, seed: int, beside: dict[str, Any]
) -> dict[SplitName, Sequence[int]]:
    """Which of the rows that stay train and which validate; `stay` are their numbers among the `n` that were given."""
    by_share = valid is None or fraction_of(valid) is not None or isinstance(valid, str | dt.timedelta)
    if listed.valid is not None or not by_share:
        wrong = [name for name, value in beside.items() if value is not None]
        if wrong:
            raise ArgumentError(
                f"{wrong[0]} says how to split by a fraction, such as valid=0.2; here the validation images are chosen"
            )
    if listed.valid is not None:
        return {"train": range(len(stay))}
    if by_share:
        train, validating = split_indices(len(stay), valid, seed=seed, **beside)
        return {"train": train.tolist()} | ({} if valid is None else {"valid": validating.tolist()})
    at = {number: i for i, number in enumerate(stay)}  # positions count the rows as given, left out or not
    both = split_indices(n, valid, index=listed.index)
    train_here, valid_here = ([at[i] for i in chosen.tolist() if i in at] for chosen in both)
    return {"train": train_here, "valid": valid_here}


def _stay(rows: Rows, how: ImageOptions, skipped: dict[str, str]) -> list[int]:
    """The rows that stay when each file is taken once, and files that do not exist are left out."""
    return _existing(rows, _once(rows), how, skipped)


def usable(rows: Rows, how: ImageOptions) -> tuple[list[int], dict[str, str]]:
    """The rows whose images can be had, files that come twice among them, and why others cannot, by id.

    Raises:
        DataError: a file does not exist, and `how` does not say that such are left out; its row is named.
    """
    skipped: dict[str, str] = {}
    there = _existing(rows, range(len(rows)), how, skipped)
    if how.on_error == "skip":
        there = [there[i] for i in _readable(rows.take(there), how, skipped)]
    return there, skipped


def _existing(rows: Rows, stay: Sequence[int], how: ImageOptions, skipped: dict[str, str]) -> list[int]:
    missing = {i for i, s in enumerate(rows.sources) if isinstance(s, str) and not os.path.isfile(s)}
    if missing and how.on_error == "raise":
        raise DataError(_missing_file(rows, sorted(missing)))
    skipped |= {rows.ids[i]: f"{rows.where[i]}: the file does not exist" for i in sorted(missing)}
    left = [i for i in stay if i not in missing]
    if not left:
        raise DataError(f"none of the {len(rows)} files exists. {_missing_file(rows, sorted(missing))}")
    return left


def _once(rows: Rows) -> list[int]:
    """The rows whose file did not come before; one with another label than before is refused."""
    first: dict[str, int] = {}
    twice: list[int] = []
    for i, file in enumerate(rows.ids):
        before = first.setdefault(file, i)
        if before == i:
            continue
        shown = [_label_text(rows.labels, k) for k in (before, i)]
        if shown[0] != shown[1]:
            raise DataError(
                f"{file} has two labels: {shown[0]} at {rows.where[before]} and {shown[1]} at {rows.where[i]}. Remove "
                "one of the rows"
            )
        twice.append(i)
    if twice:
        what = f"{len(twice)} rows repeat an earlier row with the same label and were left out, the first is "
        warnings.warn(what + rows.where[twice[0]], EasyLearnWarning, stacklevel=6)
    return sorted(first.values())


def _label_text(labels: Any, i: int) -> str:
    """The label of a row as messages write it."""
    row = labels[i] if isinstance(labels, list | np.ndarray | Tensor) else labels.iloc[i]
    return ", ".join(map(repr, np.atleast_1d(np.asarray(row, dtype=object)).tolist()))


def _missing_file(rows: Rows, missing: Sequence[int]) -> str:
    """Names the first missing file and its row, and guesses why."""
    file = Path(rows.sources[missing[0]])
    if file.is_dir():
        return f'{rows.where[missing[0]]}: {file} is a folder, not an image; name a file, or pass on_error="skip"'
    more = f" ({len(missing)} of {len(rows)} files are missing)" if len(missing) > 1 else ""
    found = [ending for ending in sorted(IMAGE_SUFFIXES) if Path(f"{file}{ending}").is_file()]
    hint = f'The file {file.name}{found[0]} exists: pass suffix="{found[0]}"' if found else "Check folder and suffix"
    return f'{rows.where[missing[0]]}: the file {file} does not exist{more}. {hint}, or pass on_error="skip"'


def _readable(rows: Rows, how: ImageOptions, skipped: dict[str, str]) -> list[int]:
    """The rows whose images can be read: each is tried."""
    chunks = [list(range(a, min(a + PROBED, len(rows)))) for a in range(0, len(rows), PROBED)]
    found = in_workers(_Probe(rows, how), chunks, choose_workers(len(rows), how.workers))
    bad = {i: reason for some in found for i, reason in some.items()}
    skipped |= {rows.ids[i]: reason for i, reason in bad.items()}
    return [i for i in range(len(rows)) if i not in bad]


class _Probe(torch.utils.data.Dataset["dict[int, str]"]):
    """Tries images, small; gives the numbers of those that cannot be read, with the reason."""

    def __init__(self, rows: Rows, how: ImageOptions) -> None:
        self.sources, self.ids = rows.sources, rows.ids
        # Pillow's reduced decoding reads every byte of a JPEG but computes little: enough to find damage.
        self.stage = ItemStage((32, 32), "squash", how.channels, max_pixels=how.max_pixels)

    def __getitem__(self, numbers: Sequence[int]) -> dict[int, str]:
        bad = {}
        for i in numbers:
            try:
                self.stage.load(self.sources[i], self.ids[i])
            except DataError as error:
                bad[i] = str(error)
        return bad
