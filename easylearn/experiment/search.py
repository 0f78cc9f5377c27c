"""search: tries points of a space, in a folder from which it goes on, with as many workers as there are."""

from __future__ import annotations

import inspect
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from .. import keyed
from ..errors import ArgumentError, StateError, check_number, check_whole, did_you_mean, name_of
from ..files import StrPath, atomic_write
from ..learning import Learner
from ..options import strict
from .engine import Engine, Order
from .found import Found
from .lines import line_of
from .origin import origin_of, tell_taken
from .plans import SearchPlan
from .samplers import METHODS
from .space import RESERVED, Space
from .store import Job, read_once
from .telling import Line
from .trials import Recipe

CODE = "code.json"
_OLD = {
    "n_trials": "trials", "objective": "make and fit are two functions here.", "sampler": "method", "n_jobs": "workers",
    "pruner": "halving", "direction": "A metric knows its direction.", "study_name": "folder", "storage": "folder",
    "max_evals": "trials", "algo": "method", "num_samples": "trials", "scheduler": "halving", "random_state": "seed",
}  # fmt: skip


@strict(_OLD)
def search(
    make: Callable[[Any], Learner],
    space: Mapping[str, Any],
    fit: Callable[..., Any],
    folder: StrPath,
    *,
    trials: int = 60,
    method: str | Sequence[Mapping[str, Any]] = "quasi",
    halving: float | Literal["hyperband"] | None = None,
    fidelity: Mapping[str, Sequence[Any]] | None = None,
    stop: float | None = None,
    metric: str | None = None,
    seed: int = 0,
    order: Order = "rounds",
    workers: int | Executor = 1,
    per_round: int = 4,
    every: str | int = "20s",
    on_error: Literal["raise", "skip"] = "raise",
    threads: int = 1,
    progress: bool = True,
) -> Found:
    """Find the point of a space whose learner comes out best. The same call goes on after a kill, or with more trials.

    Args:
        make: gives a learner for a point `p`, read by attribute: `p.lr`, and `p.seed`.
        space: values by name: `log`, `uniform`, `ordered`, `choice`, `powers`, `when`; see `standard_space`.
        fit: trains a learner: `def fit(learn, p, **how): return learn.fit(p.lr, 3, **how)`.
        folder: of this search alone; it is made.
        trials: how many in all, those that are there counted.
        method: "random", "quasi" (Sobol), "grid", "annealing", "evolution", "reinforce", "gp" (a Gaussian process); of
            Optuna "bayes" (TPE) and "genetic"; or a list of points.
        halving: 3 lets the best third of those that have come to a rung go on from their checkpoints, again and again;
            "hyperband" begins some at later rungs. Rungs are ends of cycles. None trains each trial to its end.
        fidelity: what the rungs are instead of epochs, by the name that `make` reads: `{"size": [64, 128, 224]}`.
        stop: 0.95 ends a trial whose learning curve will not come to the best so far, by the 95 % interval of where
            it is going; half of a single cycle is trained at least. None trains each trial to its end.
        metric: what counts; None takes the learner's first metric with a direction, else the validation loss.
        seed: of the proposals, and of every trial.
        order: "rounds": the number of workers changes nothing; "free": no worker waits for others.
        workers: 1 works in this process, more in processes of their own; or a `concurrent.futures.Executor`.
        per_round: trials in a round, for a method that learns from others or with halving.
        every: when checkpoints are written; see `Learner.fit`.
        on_error: "skip" notes an error of `make` or `fit` as the end of that trial.
        threads: of the CPU for each trial.
        progress: print a line for each trial as it ends, and on a terminal draw a bar with the best so far.

    Returns:
        What was found: `best`, `table()`, `learner()`, `score`, `advice()`, `confirm()`, plots and `report()`.

    Raises:
        ArgumentError: an argument is wrong, or `make` reads a name that the space does not have.
        StateError: the folder holds another search; the message says in what it differs.

    >>> import tempfile, torch, easylearn as el
    >>> from easylearn.experiment import log
    >>> x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    >>> data = el.TensorData((x, (x[:, 0] > 0).long()), (x, (x[:, 0] > 0).long()), el.single_label(["a", "b"]))
    >>> def make(p):
    ...     return el.Learner(data, torch.nn.Linear(3, 2), seed=p.seed)
    >>> def fit(learn, p, **how):
    ...     return learn.fit(p.lr, 2, **how)
    >>> found = search(make, {"lr": log(1e-3, 1.0)}, fit, tempfile.mkdtemp(), trials=3, progress=False)
    >>> len(found.table()), found.best.value > 0.4
    (3, True)
    """
    plan = _plan(space, method, trials, seed, halving, fidelity, per_round)
    plan = replace(plan, stop=_check_stop(stop, halving) is not None)
    check_whole("threads", threads)
    if not isinstance(metric, str | None):
        raise ArgumentError(f'metric is the name of a metric of the learner, such as "accuracy", got {metric!r:.100}')
    if order not in ("rounds", "free"):
        raise ArgumentError(f'order is "rounds" or "free", got {order!r}')
    if on_error not in ("raise", "skip"):
        raise ArgumentError(f'on_error is "raise" or "skip", got {on_error!r}')
    more = None if fidelity is None else partial(_of_rung, dict(fidelity))
    watched = plan.halving if fidelity is None else None
    recipe = Recipe(
        make,
        fit,
        metric,
        more=more,
        halving=watched,
        stop=stop,
        every=every,
        anew=fidelity is not None,
        on_error=on_error,
        origin=origin_of(make, fit),
    )
    settings: dict[str, Any] = {
        "kind": "search", "space": plan.space.to_json(), "method": plan.method, "points": list(plan.points),
        "halving": halving, "fidelity": fidelity, "stop": stop, "metric": metric, "seed": seed, "order": order,
        "per_round": per_round, "threads": threads,
    }  # fmt: skip
    engine = Engine(folder, settings, recipe, plan, order, threads)
    line = Line(trials, progress)
    try:
        _note_code(engine, make, fit, {"trials": trials, "every": every, "on_error": on_error})
        store = engine.store()
        tell_taken(store, recipe.origin or {}, store.history.ends, progress)
        engine.run(workers, line)
    finally:
        line.close()
    return Found(engine, plan.space)


def _plan(
    space: Mapping[str, Any], method: Any, trials: int, seed: int, halving: Any, fidelity: Any, per_round: int
) -> SearchPlan:
    """The arguments of a search as its plan."""
    known = Space(space)
    check_whole("trials", trials)
    check_whole("seed", seed, 0)
    check_whole("per_round", per_round)
    factor = 3.0 if halving == "hyperband" else halving
    if factor is not None:
        check_number('halving, unless it is "hyperband",', factor, "above 1")
    points: tuple[Mapping[str, Any], ...] = ()
    if not isinstance(method, str):
        if not isinstance(method, Sequence) or not method:
            raise ArgumentError(f"method is a name or a list of points, got {method!r:.100}")
        method, points = "list", tuple(known.check(p, f"point {i} of the list") for i, p in enumerate(method))
    elif method == "grid":
        points = tuple(known.grid())
        shuffled = keyed.permutation(len(points), seed, "grid")
        points = tuple(points[i] for i in shuffled)
    elif method not in METHODS:
        raise ArgumentError(f"there is no method {method!r}. {did_you_mean(method, [*METHODS, 'grid'])}")
    levels = None
    if fidelity is not None:
        levels = _levels(fidelity, factor, known)
    return SearchPlan(known, method, trials, seed, points, factor, halving == "hyperband", per_round, levels)


def _check_stop(stop: float | None, halving: Any) -> float | None:
    if stop is not None:
        check_number("stop", stop, "above 0", "below 1")
        if halving is not None:
            raise ArgumentError("halving ends trials by what they have come to: stop= is for a search without it")
    return stop


def _levels(fidelity: Any, halving: float | None, space: Space) -> int:
    if not isinstance(fidelity, Mapping) or len(fidelity) != 1 or halving is None:
        raise ArgumentError(
            "fidelity is one name with its values from cheap to dear, and goes with halving: halving=3, "
            f'fidelity={{"size": [64, 128, 224]}}, got fidelity={fidelity!r:.100} with halving={halving!r}'
        )
    (name, values), = fidelity.items()  # fmt: skip
    plain = isinstance(values, list | tuple) and all(isinstance(v, str | int | float | bool | None) for v in values)
    if not plain or len(values) < 2 or name in RESERVED:
        raise ArgumentError(
            f"fidelity is a name of its own with at least two numbers or texts, from cheap to dear, such as "
            f'{{"size": [64, 128, 224]}}, got {dict(fidelity)!r:.100}'
        )
    if name in space.dimensions:
        raise ArgumentError(f"{name!r} is in the space and is the fidelity, and cannot be both")
    return len(values)


def _of_rung(fidelity: Mapping[str, Sequence[Any]], job: Job) -> dict[str, Any]:
    return {name: values[job.rung] for name, values in fidelity.items()}


# -- joined from elsewhere ---------------------------------------------------------------------------------------


def _note_code(engine: Engine, make: Any, fit: Any, call: Mapping[str, Any]) -> None:
    """Note where the functions are, for `easylearn search join`; the folder holds no code."""
    where = {what: [_file(fn), name_of(fn)] for what, fn in (("make", make), ("fit", fit))}
    path = engine.store().folder / CODE
    row = {**where, **call}
    if (read_once(path) or {}) != row:
        with atomic_write(path) as temporary:
            temporary.write_text(line_of(row), encoding="utf-8")


def _file(fn: Any) -> str | None:
    try:
        return str(Path(inspect.getfile(fn)).absolute())
    except (TypeError, OSError):
        return None


def join(folder: StrPath, script: StrPath | None = None, workers: int = 1) -> Found:
    """Help with a search that another process began, maybe on another machine that shares the folder.

    Args:
        folder: of the search.
        script: where `make` and `fit` are; None takes the file in which they were.
        workers: of this machine.

    Raises:
        StateError: there is no search in the folder, or its functions were not at the top of a file.
    """
    path = Path(folder)
    settings, code = read_once(path / "search.json"), read_once(path / CODE)
    if settings is None or settings.get("kind") != "search" or code is None:
        raise StateError(f"{path} holds no search; a search makes its folder: search(make, space, fit, {str(path)!r})")
    fns = _functions({what: code[what] for what in ("make", "fit")}, script, path)
    names = ("halving", "fidelity", "stop", "metric", "seed", "order", "per_round", "threads")
    given: dict[str, Any] = {n: settings.get(n) for n in names}
    space = Space.from_json(settings["space"])
    method = settings["points"] if settings["method"] == "list" else settings["method"]
    call = {n: code[n] for n in ("trials", "every", "on_error")}
    return search(fns["make"], space.dimensions, fns["fit"], path, method=method, workers=workers, **given, **call)


def _functions(where: Mapping[str, Any], script: StrPath | None, folder: Path) -> dict[str, Any]:
    """The functions of a search out of the files in which they are; each file is run once."""
    found, ran = dict[str, Any](), dict[str, dict[str, Any]]()
    for what, (file, name) in where.items():
        file = str(script) if script is not None else file
        if file is None or not Path(file).is_file():
            raise StateError(
                f"{name!r} of the search in {folder} is not in a file of this machine ({file}): name it, --script "
                "FILE; or run the same cells here, which go on with the same search"
            )
        if file not in ran:
            sys.path.insert(0, str(Path(file).parent))
            ran[file] = runpy.run_path(file, run_name="easylearn_join")
        if name not in ran[file]:
            raise StateError(
                f"{file} has no {name!r} at its top, so it cannot be called from elsewhere; run the script here"
            )
        found[what] = ran[file][name]
    return found
