"""reproduce: what is otherwise here than where a run was made, and what to type to make it again."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, short
from ..files import StrPath, as_path
from ..train.checkpoints.context import RunContext
from .describe import LONG, code_of, context_facts, flat, place_of
from .track import DIFFERENCE, read_info

if TYPE_CHECKING:
    from ..learning import Learner

# What a number may depend on, and the rest of the machine, which it should not.
_HARMLESS = {"machine.host", "machine.cores"}


@dataclass(frozen=True)
class Reproduction:
    """What stands between a run and its repetition here; printing it says so in words.

    Args:
        folder: of the run.
        differences: what is otherwise, by name: the run's value, and the one here. Empty if nothing is.
        unknown: what cannot be compared, and why.
        commands: what makes the same state again, to be typed in a shell.
    """

    folder: Path
    differences: Mapping[str, tuple[Any, Any]]
    unknown: tuple[str, ...] = ()
    commands: tuple[str, ...] = field(default=())

    @property
    def same(self) -> bool:
        """Whether nothing is known to differ."""
        return not self.differences

    def __repr__(self) -> str:
        lines = [f"{self.folder}: {len(self.differences) or 'no'} difference{'s'[: len(self.differences) != 1]} here"]
        lines += [f"  {n}: {_shown(then)} then, {_shown(now)} now" for n, (then, now) in self.differences.items()]
        lines += [f"  not compared: {why}" for why in self.unknown]
        return "\n".join(
            [*lines, *(["to make it again:"] if self.commands else []), *(f"  {c}" for c in self.commands)]
        )


def _shown(value: Any) -> str:
    return "nothing" if value is None else short(str(value), 80)


def reproduce(run: StrPath, learn: Learner | None = None) -> Reproduction:
    """Name what is otherwise here than it was for a run that `Track` wrote. It runs nothing.

    With the same versions, machine, code, data and seeds a fit on the CPU gives the same bits. To see whether it did,
    track it in another folder: `compare([old, new]).differences(0, 1)` says after which step the losses part.

    Args:
        run: the folder of the run.
        learn: a learner that was made for the repetition: its model, data, seed and settings are compared, too, as
            they are now, before it is fitted.

    Returns:
        The differences by name, and the commands that bring the code and the versions back.

    Raises:
        DataError: there is no run in the folder.
    """
    folder = as_path(run, "the folder of a run")
    info = read_info(folder)
    if info is None:
        raise DataError(f"there is no run in {folder}: fit with callbacks=[Track({str(folder)!r})] writes one")
    here = place_of(_device(info, learn))
    code, _ = code_of(folder)
    unknown: list[str] = []
    then = {n: info[n] for n in ("versions", "machine")} | {"code": info["code"] or {}}
    now = {n: here[n] for n in ("versions", "machine")} | {"code": code or {}}
    for known in (then["code"], now["code"]):
        known.pop("lines changed", None)
    if not then["code"]:
        unknown.append("the code, of which the run knows no commit")
        now["code"] = {}
    if learn is None:
        unknown.append("data, model and settings: give the learner, reproduce(folder, learn)")
    else:
        facts, first = _learner(learn), info["fits"][0]["arguments"] if info["fits"] else {}
        then |= {**{k: v for k, v in info["facts"].items() if k not in LONG}, "fit": _chosen(first)}
        now |= {**{k: v for k, v in facts.items() if k not in LONG}, "fit": _chosen_here(learn)}
    old, new = flat(then), flat(now)
    differences = {
        name: (old.get(name), new.get(name))
        for name in {**old, **new}
        if old.get(name) != new.get(name) and name not in _HARMLESS
    }
    return Reproduction(folder, differences, tuple(unknown), tuple(_commands(folder, info, differences)))


def _device(info: Mapping[str, Any], learn: Learner | None) -> Any:
    import torch

    if learn is not None:
        return learn.strategy.device
    wanted = str(info["machine"]["device"]).partition(",")[0]
    return torch.device("cuda" if wanted == "cuda" and torch.cuda.is_available() else "cpu")


def _learner(learn: Learner) -> dict[str, Any]:
    context = RunContext(learn.model, learn.layer_groups, learn.data, learn.task, learn.strategy)
    return context_facts(context)


def _chosen(arguments: Mapping[str, Any]) -> dict[str, Any]:
    names = ("seed", "batch_size", "clip", "accumulate", "precision", "precompute", "trains")
    return {name: arguments[name] for name in names if name in arguments}


def _chosen_here(learn: Learner) -> dict[str, Any]:
    strategy = learn.strategy
    return {
        "seed": learn.seed,
        "batch_size": learn.data.batch_size,
        "clip": strategy.clip,
        "accumulate": strategy.accumulate,
        "precision": strategy.precision,
        "precompute": learn.precompute,
        "trains": [g.name for g in learn.layer_groups if g.trainable],
    }


def _commands(folder: Path, info: Mapping[str, Any], differences: Mapping[str, tuple[Any, Any]]) -> list[str]:
    """What brings code and versions back, and starts the run's script."""
    lines = []
    wanted = [
        f"{name.removeprefix('versions.')}=={then}"
        for name, (then, _) in differences.items()
        if name.startswith("versions.") and name != "versions.python" and then is not None
    ]
    python = info["versions"].get("python")
    if "versions.python" in differences:
        lines.append(f"# with Python {python}, here {platform.python_version()}")
    if wanted:
        lines.append(f"pip install {' '.join(map(shlex.quote, wanted))}")
    code, command = info["code"], info["command"]
    if code and any(name.startswith("code.") for name in differences):
        lines.append(f"git checkout {shlex.quote(str(code['commit']))}")
        if code["difference"]:
            lines.append(f"git apply {shlex.quote(str((folder / DIFFERENCE).resolve()))}")
    if command["arguments"] and command["arguments"][0].endswith(".py"):
        where = shlex.quote(str(command["folder"]))
        lines.append(f"cd {where} && python {' '.join(map(shlex.quote, command['arguments']))}")
    return lines
