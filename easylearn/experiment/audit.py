"""audit: what makes a score too good before anything is trained; it is told, and nothing is deleted."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations, pairwise
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from .. import keyed
from ..data.bunch import Data, SplitName
from ..data.folds import Folds
from ..data.times import read_times
from ..errors import ArgumentError, short
from ..intervals import interval_of
from ..learning import Learner
from ..metrics import roc_auc
from .contents import Contents, contents_of, contents_of_frame, pairs_alike, settle_files, texts_alike

if TYPE_CHECKING:
    import pandas as pd

NEAR, SAME = 0.99, 0.97  # correlations of small copies of two images that are the same one
TEXTS = 0.7  # share of common runs of words from which two texts are the same
TOO_GOOD = 0.95  # of the way from guessing to knowing, by one column alone
IN_ORDER = 8.0  # standard errors that neighbours are more alike than chance
APART = 0.6  # lower end of an area under the curve from which two splits are told apart
MOST = 20_000  # rows that are looked at where a model has to be fitted
TRAIN, VALID = 1, 2


@dataclass(frozen=True)
class Finding:
    """One thing that an audit found.

    Args:
        kind: in a word or two.
        text: what, where, and what to do.
        leak: whether it makes scores too good; else it is worth knowing.
        count: how many pairs, groups or rows.
        items: the names of some, in pairs where it is of pairs.
    """

    kind: str
    text: str
    leak: bool
    count: int = 0
    items: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Audit:
    """What an audit found; printed, a line for each.

    Args:
        findings: all of them; `leaks` are those that make scores too good.
    """

    findings: tuple[Finding, ...]

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """What makes scores too good."""
        return tuple(one for one in self.findings if one.leak)

    def table(self) -> pd.DataFrame:
        """One row per finding: kind, leak, count, text, items."""
        import pandas as pd

        frame: pd.DataFrame = pd.DataFrame(
            [[one.kind, one.leak, one.count, one.text, list(one.items)] for one in self.findings],
            columns=["kind", "leak", "count", "text", "items"],
        )
        return frame

    def __str__(self) -> str:
        lines = [f"{'leak' if one.leak else 'note'}, {one.kind}: {one.text}" for one in self.findings]
        return "\n".join(lines) if lines else "nothing was found that would make a score too good"


def audit(
    data: Data[Any] | Learner | pd.DataFrame, plan: Folds | None = None, *, target: str | None = None,
    groups: Sequence[Any] | None = None, times: Sequence[Any] | None = None, test: pd.DataFrame | None = None,
    fold: int | None = None, cheap: bool = False, seed: int = 0,
) -> Audit:  # fmt: skip
    """Look for what makes a score too good: items on both sides, groups and times that overlap, columns that tell all.

    Items of training and validation (or test) are compared: equal contents by their digests; images that are the same
    but for size, compression or a mirror by small copies; texts by runs of words. A model of two splits tells how far
    they can be told apart (adversarial validation), with an interval. Nothing is deleted.

    Args:
        data: data of any kind, made with `valid=None` or of one fold of the plan; or a table.
        plan: the folds; None takes the data's own splits.
        target: of a table: the column to predict.
        groups: a name for each item of the plan: all items of one have to be on one side.
        times: a time for each item of the plan: no training item may be later than what validates.
        test: of a table: the rows to predict at last.
        fold: which fold of the plan the data is of; None finds it by its sizes, or by names that are in order.
        cheap: only what takes no longer than reading names and sizes, or a table once.
        seed: of the models that are fitted.

    Raises:
        ArgumentError: data and plan do not fit each other.

    >>> import pandas as pd
    >>> from easylearn.data.folds import folds
    >>> df = pd.DataFrame({"a": [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 0.5], "y": [0, 1, 0, 1, 0, 1, 0, 0]})
    >>> found = audit(df, folds(8, 4, seed=1), target="y", cheap=True)
    >>> [(one.kind, one.items) for one in found.leaks]
    [('equal items', (('0', '7'),))]
    """
    view = _view(data, plan, target, test, fold, cheap)
    found = [*_same_names(view), *_equal(view), *_overlaps(view, groups), *_from_the_future(view, times)]
    if not cheap:
        found += [*_near(view), *_too_good(view, seed), *_told_apart(view, seed)]
    found += _in_order(view)
    return Audit(tuple(found))


def audit_cheaply(data: Data[Any], plan: Folds, fold: int) -> Audit:
    """What `audit` finds quickly, of data of one `fold` of a plan; what looks at contents for long is left out."""
    return audit(data, plan, fold=fold, cheap=True)


@dataclass(frozen=True)
class _View:
    """All items, and on which side of each fold they are."""

    items: Contents
    sides: npt.NDArray[np.int8]  # (folds, n): TRAIN, VALID, or 0 for neither; a row more where there is a test split
    n: int  # items of the plan; the test split comes after

    def crossing(self, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """The pairs that are on both sides of a fold."""
        both = []
        for i, j in pairs:
            a, b = self.sides[:, i], self.sides[:, j]
            if ((a != b) & (a > 0) & (b > 0)).any():
                both.append((i, j))
        return both

    def name(self, i: int) -> str:
        """What messages call an item."""
        return f"{'test ' if i >= self.n else ''}{short(self.items.ids[i], 60)}"

    def pair(self, kind: str, pairs: list[tuple[int, int]], what: str, advice: str) -> list[Finding]:
        """A finding of pairs; none where there are none."""
        if not pairs:
            return []
        some = tuple((self.name(i), self.name(j)) for i, j in pairs[:1000])
        is_are = "pair of items with {} is" if len(pairs) == 1 else "pairs of items with {} are"
        told = f"{len(pairs):,} {is_are.format(what)} on both sides of a fold, such as {some[0][0]} and {some[0][1]}"
        return [Finding(kind, f"{told}; {advice}", True, len(pairs), some)]


_TOGETHER = "keep such items together with folds(..., groups=), or leave one of them out"


def _view(data: Any, plan: Folds | None, target: Any, test: Any, fold: int | None, cheap: bool) -> _View:
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        if plan is None:
            raise ArgumentError("a table has no splits of its own: give the plan, folds(len(df), 5)")
        if len(data) != plan.n:
            raise ArgumentError(f"the plan is of {plan.n:,} items, and the table has {len(data):,} rows")
        whole = data if test is None else pd.concat([data, test.reindex(columns=data.columns)], keys=["", "test"])
        items = contents_of_frame(whole, target)
        ids = [str(i) for i in data.index] + ([] if test is None else [str(i) for i in test.index])
        return _sides(replace(items, ids=ids), plan, 0 if test is None else len(test))
    data = data.data if isinstance(data, Learner) else data
    if not isinstance(data, Data):
        raise ArgumentError(f"audit takes data, a learner or a table, got {type(data).__name__}")
    if target is not None or test is not None:
        raise ArgumentError("target= and test= are for a table; data knows its own")
    if data.task.is_streamed:
        raise ArgumentError("a stream of text has no items to compare")
    train, valid, plan = _positions(data, plan, fold)
    splits: list[SplitName] = [s for s in data.splits if s != "valid" or len(valid)]
    looked = {split: contents_of(data, split, cheap) for split in splits}
    order = np.argsort(np.concatenate([train, valid]), kind="stable")
    own = _joined([looked[s] for s in splits if s != "test"], order)
    n_test = len(looked["test"]) if "test" in looked else 0
    items = _joined([own, looked["test"]]) if n_test else own
    if items.keys is not None and any(":" in key for key in items.keys):
        items = replace(items, keys=settle_files(items.keys))
    return _sides(items, plan, n_test)


def _positions(data: Data[Any], plan: Folds | None, fold: int | None) -> tuple[Any, Any, Folds]:
    """Where the items of train and valid are in the order of the plan."""
    n_train, n_valid = (len(data.ids(s)) if s in data.splits else 0 for s in ("train", "valid"))
    if plan is None:
        if not n_valid:
            raise ArgumentError("the data has no validation split to compare with: give the plan, folds(n, 5)")
        train, valid = np.arange(n_train), n_train + np.arange(n_valid)
        return train, valid, Folds(n_train + n_valid, ((train, valid),))
    if not n_valid and n_train == plan.n:
        return np.arange(plan.n), np.arange(0), plan
    fits = [f for f, (a, b) in enumerate(plan) if (len(a), len(b)) == (n_train, n_valid) and fold in (None, f)]
    if len(fits) > 1:  # of equal sizes: names that rise with the positions tell
        parts = [re.split(r"(\d+)", name) for name in (*data.ids("train"), *data.ids("valid"))]
        names = [[int(part) if part.isdecimal() else part for part in name] for name in parts]  # 9.jpg before 10.jpg
        orders = {f: np.argsort(np.concatenate(plan[f])) for f in fits}
        fits = [f for f, order in orders.items() if all(names[i] < names[j] for i, j in pairwise(order))]
        if len(fits) != 1:
            raise ArgumentError(f"{len(orders)} folds of {plan!r} have the sizes of the data: say which it is, fold=0")
    if not fits:
        raise ArgumentError(
            f"the data has {n_train:,} training and {n_valid:,} validation items, which is no fold of {plan!r}: make "
            "it with valid=None, or with valid=plan[0][1]"
        )
    return (*plan[fits[0]], plan)


def _sides(items: Contents, plan: Folds, n_test: int) -> _View:
    sides = np.zeros((len(plan) + bool(n_test), plan.n + n_test), np.int8)
    for fold, (train, valid) in enumerate(plan):
        sides[fold, train], sides[fold, valid] = TRAIN, VALID
    if n_test:
        sides[-1, : plan.n], sides[-1, plan.n :] = TRAIN, VALID
    return _View(items, sides, plan.n)


def _joined(parts: Sequence[Contents], order: Any = None) -> Contents:
    """Several splits after each other, or in another order; what one of them lacks, all lack."""
    found: dict[str, Any] = {}
    for field in fields(Contents):
        values = [vars(part)[field.name] for part in parts]
        if field.name in ("named", "numbers", "names"):
            found[field.name] = values[0] if field.name != "named" else all(values)
        elif field.name == "targets" and values[-1] is None and values[0] is not None:  # the test split
            lost = np.full(sum(len(p) for p in parts) - len(values[0]), np.nan)
            found["targets"] = np.concatenate([values[0], lost])
        elif any(value is None for value in values):
            found[field.name] = None
        elif isinstance(values[0], list):
            found[field.name] = [one for value in values for one in value]
        else:
            found[field.name] = np.concatenate(values)
    joined = Contents(**found)
    if order is None:
        return joined
    some = {n: _taken(vars(joined)[n], order) for n in ("ids", "targets", "keys", "gray", "words", "columns")}
    return replace(joined, **some)


def _taken(values: Any, order: Any) -> Any:
    return [values[i] for i in order] if isinstance(values, list) else None if values is None else values[order]


# -- what is looked for ----------------------------------------------------------------------------------------


def _pairs_of(keys: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of items with one key; of many with the same, each with the first and the next."""
    held = defaultdict(list)
    for i, key in enumerate(keys):
        if key:
            held[key].append(i)
    many = (rows for rows in held.values() if len(rows) > 1)
    pairs: list[tuple[int, int]] = []
    for rows in many:
        pairs += combinations(rows, 2) if len(rows) <= 30 else [*pairwise(rows)]
    return pairs


def _same_names(view: _View) -> list[Finding]:
    own = view.items.ids[: view.n]
    pairs = view.crossing(_pairs_of(own)) if view.items.named else []
    return view.pair("one name twice", pairs, "one name", _TOGETHER)


def _equal(view: _View) -> list[Finding]:
    if view.items.keys is None:
        return []
    return view.pair("equal items", view.crossing(_pairs_of(view.items.keys)), "equal contents", _TOGETHER)


def _near(view: _View) -> list[Finding]:
    items, pairs, what = view.items, list[tuple[int, int]](), ""
    if items.gray is not None:
        pairs, what = (
            pairs_alike(items.gray, NEAR, SAME),
            "images that are the same but for size, compression or a mirror",
        )
    elif items.words is not None:
        pairs, what = texts_alike(items.words, TEXTS), f"more than {TEXTS:.0%} of their runs of words in common"
    equal = items.keys if items.keys is not None else [""] * len(items)
    pairs = [(i, j) for i, j in pairs if not equal[i] or equal[i] != equal[j]]
    return view.pair("near duplicates", view.crossing(pairs), what, _TOGETHER)


def _overlaps(view: _View, groups: Sequence[Any] | None) -> list[Finding]:
    if groups is None:
        return []
    names = np.asarray([str(g) for g in groups])
    _check_length("groups", len(names), view.n)
    split: set[str] = set()
    for row in view.sides[: view.sides.shape[0], : view.n]:
        split |= set(names[row == TRAIN].tolist()) & set(names[row == VALID].tolist())
    if not split:
        return []
    some = sorted(split)
    told = f"{len(some):,} of {len(set(names.tolist())):,} groups are on both sides of a fold, such as {some[0]}"
    items = tuple((name,) for name in some[:1000])
    return [Finding("groups overlap", f"{told}; give folds(..., groups=)", True, len(some), items)]


def _from_the_future(view: _View, times: Sequence[Any] | None) -> list[Finding]:
    if times is None:
        return []
    _check_length("times", len(times), view.n)
    when = read_times(times, view.n).to_numpy()
    late = np.zeros(view.n, bool)
    for row in view.sides[:, : view.n]:
        if (row == VALID).any() and (row == TRAIN).any():
            late |= (row == TRAIN) & (when >= when[row == VALID].min())
    rows = np.flatnonzero(late)
    if not len(rows):
        return []
    text = (
        f"{len(rows):,} items train although they are no earlier than what is validated on, such as "
        f"{view.name(int(rows[0]))}; if the model is to foretell, give folds(..., times=)"
    )
    return [Finding("from the future", text, True, len(rows), tuple((view.name(i),) for i in rows[:1000].tolist()))]


def _check_length(name: str, found: int, n: int) -> None:
    if found != n:
        raise ArgumentError(f"{name} must have one entry per item: got {found:,} for {n:,} items")


def _in_order(view: _View) -> list[Finding]:
    """Whether neighbours in the order of the items are more alike than chance would have it."""
    y = None if view.items.targets is None else view.items.targets[: view.n]
    if y is None or len(y) < 50 or np.isnan(y).any() or _by_name(view, y):
        return []
    if view.items.numbers:
        ranks = np.argsort(np.argsort(y)).astype(np.float64)
        ranks = (ranks - ranks.mean()) / max(ranks.std(), 1e-12)
        score = float((ranks[1:] * ranks[:-1]).mean()) * np.sqrt(len(y) - 1)
    else:
        _, counts = np.unique(y, return_counts=True)
        chance = float(((counts / len(y)) ** 2).sum())
        alike = float((y[1:] == y[:-1]).mean())
        score = (alike - chance) / max(np.sqrt(chance * (1 - chance) / (len(y) - 1)), 1e-12)
    if score < IN_ORDER:
        return []
    text = (
        f"targets of neighbouring items are alike, {score:.0f} standard errors more than by chance: their order tells "
        "about the target. Leave numbers of rows out of the columns; where neighbours belong together, or follow each "
        "other in time, give folds(..., groups=) or times="
    )
    return [Finding("order", text, False, len(y))]


def _by_name(view: _View, y: npt.NDArray[Any]) -> bool:
    """Whether the folder or the name of a file says the class, as in folders of classes: then the order has to."""
    paths = [PurePath(name) for name in view.items.ids[: view.n]]
    for names in ([str(path.parent) for path in paths], [re.sub(r"\d+", "", path.stem) for path in paths]):
        held = defaultdict(set)
        for name, target in zip(names, y.tolist(), strict=True):
            held[name].add(target)
        if len(held) > 1 and all(len(one) == 1 for one in held.values()):
            return True
    return False


def _too_good(view: _View, seed: int) -> list[Finding]:
    """Columns that predict the target nearly by themselves."""
    items, found = view.items, []
    if items.columns is None or items.targets is None or not items.columns.shape[1]:
        return []
    rows = _some(np.flatnonzero(np.isfinite(items.targets[: view.n])), seed)
    y = items.targets[rows]
    if len(rows) < 50 or len(np.unique(y)) < 2:
        return []
    for k, name in enumerate(items.names[: items.columns.shape[1]]):
        share = _alone(items.columns[rows, k], y, items.numbers)
        if share > TOO_GOOD:
            text = (
                f"the column {name!r} alone goes {share:.1%} of the way from guessing the target to knowing it: was it "
                "known before the target was? If not, leave it out"
            )
            found.append(Finding("column too good", text, True, 1, ((name,),)))
    return found


def _alone(x: npt.NDArray[Any], y: npt.NDArray[Any], numbers: bool) -> float:
    """How far a tree on one column goes from guessing the target to knowing it, on rows that it was not fitted to."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    x = np.nan_to_num(x.reshape(-1, 1).astype(np.float64), nan=-1e30)
    order = keyed.permutation(len(y), "column")
    half, rest = order[: len(order) // 2], order[len(order) // 2 :]
    kind = DecisionTreeRegressor if numbers else DecisionTreeClassifier
    said = kind(max_leaf_nodes=256, min_samples_leaf=2, random_state=0).fit(x[half], y[half]).predict(x[rest])
    if numbers:
        return 1 - float(((said - y[rest]) ** 2).mean() / max(y[rest].var(), 1e-300))
    values, counts = np.unique(y[half], return_counts=True)
    guess = float((y[rest] == values[counts.argmax()]).mean())
    return (float((said == y[rest]).mean()) - guess) / max(1 - guess, 1e-12)


def _told_apart(view: _View, seed: int) -> list[Finding]:
    """Adversarial validation: how well a model tells the test split (without one: the folds' last) from the rest."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import cross_val_predict

    items = view.items
    x = (
        items.columns
        if items.columns is not None
        else None
        if items.gray is None
        else items.gray.reshape(len(items), -1)
    )
    rows = np.flatnonzero(view.sides[-1] > 0)
    if x is None or not x.shape[1] or len(rows) < 100:
        return []
    rows = _some(rows, seed)
    held = (view.sides[-1][rows] == VALID).astype(np.int64)
    if min(held.sum(), (1 - held).sum()) < 20:
        return []
    if items.gray is not None and items.columns is None:  # a coarse view is enough, and quick
        x = items.gray.reshape(-1, 8, 4, 8, 4).mean((2, 4)).reshape(len(items), -1)
    model = HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=15, random_state=seed)
    said = cross_val_predict(model, x[rows], held, cv=3, method="predict_proba")
    sure = interval_of(torch.from_numpy(said), torch.from_numpy(held), roc_auc, draws=200)
    if sure.low < APART:
        return []
    which = "the test split" if len(items) > view.n else "the validation items of the last fold"
    text = (
        f"a model tells {which} from the training items with an area under the curve of {sure}: they differ, so "
        "validation may not say how good predictions will be; look at which columns do it, or split by time or group"
    )
    return [Finding("splits differ", text, False, len(rows))]


def _some(rows: npt.NDArray[Any], seed: int) -> npt.NDArray[Any]:
    return np.sort(rows[keyed.permutation(len(rows), seed, "audit")[:MOST]])
