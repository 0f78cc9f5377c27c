"""Where a new head starts: as a regularised linear model of the features of the training items."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .. import keyed
from ..data.branched import BranchedData
from ..data.order import ItemLoader
from ..nn.body_head import BodyHead, is_linear
from ..nn.branched import Branched
from ..nn.groups import by_branch
from ..task import Task
from .checkpoints.context import RunContext
from .precompute import FeatureStore
from .snapshot import is_sharded, restored

MOST_ITEMS = 20_000
"""More than these are not looked at: with so many, an epoch of the head has steps enough by itself."""

# Features are made this long on average: then rates from 1e-3 to 1e-1 neither spoil a solved head nor shake one that
# predicts numbers, whose loss is the steeper (docs/log.md).
_LENGTH = 4.0
_PENALTIES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # times half the squared weights, for features of mean length 1
_TOLERANCE = 1e-5
ENOUGH = 100  # items held back, of fewer nothing is said
LEAST_GAIN = 0.01  # of a constant's loss: features without meaning stayed below in 11 of 11 trials (docs/log.md)
LEAST_ORDER = 0.2  # of a name by itself: 0 is no order, 1 that of the answers; of two answers, an area of 0.6
CHANCE = 0.01  # that features without meaning seem to tell one of all names
_FOLDS = 5
_FEW = 500  # items, up to which each fold is held back in turn
_EXACT = 640  # features, up to which ridge regression in closed form is as quick
_STEPS = 25  # of L-BFGS for each penalty; twice as many for the chosen one


def is_fresh(head: nn.Module) -> bool:
    """Whether a head is a linear one, batch-norm and dropout before it, that has never seen a batch."""
    norm = head.get_submodule("0") if is_linear(head) else None
    return (
        isinstance(norm, nn.BatchNorm1d)
        and norm.affine
        and norm.num_batches_tracked is not None
        and (int(norm.num_batches_tracked) == 0)
    )


def start_head(context: RunContext, store: FeatureStore, seed: int, stored: bool, solve: bool = True) -> Tensor | None:
    """Let a fresh head on a frozen body begin from the features of the training items; leave any other as it is.

    Of several branches those whose features say nothing are left out of what is put together; one that tells some of
    many names alone has a share in these.

    A head that has begun so is fresh no more, also where `set_data` then brings other items or a larger size: what was
    trained since is not thrown away. It is trained on, and its batch-norm follows the new features.

    Args:
        context: model, groups, data, task and strategy.
        store: of features.
        seed: of the drawing.
        stored: training is on stored features anyhow, so there is no need to ask how many they are.
        solve: find the weights, too; else only how the features are scaled.

    Returns:
        Which names the features tell, (n_out,), see `Solved`; None where nobody knows.
    """
    if isinstance(context.model, Branched):
        by_model = {id(one.model): start_head(one, store, seed, stored, solve) for one in branches_of(context)}
        _share_out(context.model, context.task, {n: by_model.get(id(m)) for n, m in context.model.branches.items()})
        return None
    model, data, strategy = context.model, context.data, context.strategy
    if any(map(is_sharded, model.parameters())):
        return None  # FSDP2 gathers weights for the whole model alone, and not for its body by itself
    if not isinstance(model, BodyHead) or not is_fresh(model.head) or any(g.trainable for g in context.groups[:-1]):
        return None
    items = data.loader("train")
    if not stored and not (isinstance(items, ItemLoader) and items.n_items <= MOST_ITEMS):
        return None
    loader = store.loader(model, data, "train", strategy, shuffle=True)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    with closing(loader.batches(strategy.device, seed)) as batches:
        for batch in batches:
            assert batch.target is not None
            found.append((batch.inputs[0].float(), batch.target, batch.index))
            if len(found) * loader.batch_size >= MOST_ITEMS:
                break
    features, target, index = (torch.cat(column) for column in zip(*found, strict=True))
    if not features.isfinite().all():
        return None  # training says which loss is no number
    with strategy.gate.training():
        scale_features(model.head, features)
        if solve and len(features) > 1:
            return solve_head(model.head, context.task, features, target, index, seed)
    return None


def _share_out(model: Branched, task: Task, told: Mapping[str, Tensor | None]) -> None:
    """Give branches shares by the names that each of them tells; None where nobody knows."""
    known = {name: names for name, names in told.items() if names is not None}
    for name, names in known.items() if not task.is_exclusive else ():  # one logit of several that add up to 1 is none
        if names.any() and not names.all():
            model.share_in(name, names)
    model.leave_out([name for name, names in known.items() if not names.any()])


@contextmanager
def scaled_head(context: RunContext, store: FeatureStore, seed: int, stored: bool) -> Iterator[bool]:
    """A trial, of rates for instance, on features scaled as those of a head that `start_head` will let begin.

    Args:
        context, store, seed, stored: as in `start_head`. The head is afterwards as it was.

    Gives whether `start_head` will let a head begin at its solution, which it does not during the trial.
    """
    models = [branch.model for branch in branches_of(context)]
    fresh = [model.head for model in models if isinstance(model, BodyHead) and is_fresh(model.head)]
    with ExitStack() as stack:
        for model in models:
            if isinstance(model, BodyHead):
                stack.enter_context(restored(model.head))
        start_head(context, store, seed, stored, solve=False)
        yield not all(map(is_fresh, fresh))


def branches_of(context: RunContext) -> list[RunContext]:
    """The context of each branch that has a loss of its own; of a model without branches that of all."""
    model, data = context.model, context.data
    if not isinstance(model, Branched):
        return [context]
    if model.joint is not None or not isinstance(data, BranchedData):
        return []
    own = {members[0].branch: tuple(members) for members in by_branch(context.groups)}
    return [
        replace(context, model=one, groups=own[name], data=data.branches[name]) for name, one in model.branches.items()
    ]


def scale_features(head: nn.Module, features: Tensor) -> None:
    """Let a fresh head's batch-norm centre the features, bring their spreads closer together, and set their length."""
    norm = head.get_submodule("0")
    assert isinstance(norm, nn.BatchNorm1d) and norm.running_mean is not None and norm.running_var is not None
    length = min(_LENGTH, features.shape[1] ** 0.5)
    with torch.no_grad():
        var, mean = torch.var_mean(features, 0, correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
        divisor = var + var.mean() + norm.eps  # halfway between one spread for all features and their own
        norm.weight.copy_(length * ((var + norm.eps) / divisor / (var / divisor).sum().clamp_min(norm.eps)).sqrt())
        norm.bias.zero_()
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked += 1


def solve_head(
    head: nn.Module, task: Task, features: Tensor, target: Tensor, index: Tensor, seed: int
) -> Tensor | None:
    """Give a linear head, its features scaled, the weights that `solve_linear` finds, and say which names they tell.

    Args:
        head: see `is_fresh`.
        task, target, index, seed: see `solve_linear`.
        features: of the training items, (n, c).
    """
    norm, linear = head.get_submodule("0"), head.get_submodule("2")
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        x = norm.eval()(features)
    norm.train(head.training)
    solved = solve_linear(task, x, target, index, seed, linear.bias)
    if solved is not None:
        with torch.no_grad():
            linear.weight.copy_(solved.weight)
            linear.bias.copy_(solved.bias)
    return None if solved is None else solved.told


class Solved(NamedTuple):
    """A linear model: weights (n_out, c), bias (n_out,), and which names it tells of items held back, (n_out,).

    It tells all, unless it surely, with 95 %, lowers a constant's loss by less than `LEAST_GAIN`; then those that it
    tells each by itself, see `_names_told`. This is not asked of fewer items than `ENOUGH`, and of names by themselves
    only where one fifth has so many: outputs for items that are held back in turn know each other's answers, and look
    surer than they are.
    """

    weight: Tensor
    bias: Tensor
    told: Tensor

    @property
    def says(self) -> bool:
        """Whether it says anything."""
        return bool(self.told.any())


def solve_linear(
    task: Task, x: Tensor, target: Tensor, index: Tensor, seed: int, bias: Tensor,
    penalties: Sequence[float] | None = None,
) -> Solved | None:  # fmt: skip
    """The linear model with the least sum of loss and penalty.

    With the loss of classes that is logistic regression: the penalty is the one that does best on a fifth of the items,
    held back for the choice (of few items on each fifth in turn), and L-BFGS finds the weights. With that of numbers it
    is ridge regression; of up to 640 features it is solved exactly, and each item is left out in turn for the choice.

    Args:
        task: owns the loss.
        x: features, (n, c).
        target: of each item.
        index: numbers of the items; one that comes several times is held back as a whole, or not at all.
        seed: of the choice of a fifth.
        bias: where it begins, (n_out,).
        penalties: from strong to weak, times half the squared weights, for features of mean length 1; None is five.

    Returns:
        The model; None where the loss becomes no number.
    """
    with torch.no_grad():
        length = float(x.square().sum(1).mean().sqrt().clamp_min(1e-12))
        x = x / length
        # Fewer items than features lie in a space of fewer directions, to which the best weights belong.
        directions, rows = torch.linalg.qr(x.T) if len(x) < x.shape[1] else (None, x.T)
        x = rows.T.contiguous()
    penalties = penalties or _PENALTIES
    try:
        draws = keyed.uniform(index.cpu().numpy(), 1, seed, "held")[:, 0]
        if task.is_squared and task.loss_fn is None and x.shape[1] <= _EXACT:
            found = _ridge(x, task.compared(x.new_zeros(len(x), task.n_out), target)[1], index, draws, penalties)
        else:
            penalty, told = _best_penalty(task, x, target, draws, bias, penalties)
            fitting = _Fitting(task, x, bias)
            fitting.fit(x, target, penalty, 2 * _STEPS)
            found = Solved(fitting.weight.detach(), fitting.bias.detach(), told)
    except FloatingPointError:
        return None
    weight = found.weight if directions is None else found.weight @ directions.T
    return found._replace(weight=weight / length)


@torch.no_grad()
def _ridge(
    x: Tensor, target: Tensor, index: Tensor, draws: npt.NDArray[np.float64], penalties: Sequence[float]
) -> Solved:
    """Weights and bias of least squares with the penalty that does best on items left out, one by one, in closed form.

    An item that comes several times is left out as a whole. Penalties are two in each power of ten of those given.
    """
    decades = math.log10(penalties[0] / penalties[-1])
    penalties = np.geomspace(penalties[0], penalties[-1], 2 * round(decades) + 1).tolist()
    _, first, counts = np.unique(index.cpu().numpy(), return_index=True, return_counts=True)
    rows, times = torch.from_numpy(first), torch.from_numpy(counts).double()
    wide, y = x.cpu()[rows].double(), target.cpu().reshape(len(x), -1)[rows].double()
    if not (wide.isfinite().all() and y.isfinite().all()):
        raise FloatingPointError
    share = (times / times.sum()).unsqueeze(1)
    mean, mean_y = (share * wide).sum(0), (share * y).sum(0)
    wide, y = (wide - mean) * share.sqrt(), (y - mean_y) * share.sqrt()
    values, vectors = torch.linalg.eigh(wide.T @ wide)
    turned = wide @ vectors  # in these directions a penalty shrinks each number by itself
    along, squares = turned.T @ y, turned.square()

    def shrunk(penalty: float) -> Tensor:
        by: Tensor = 1 / (values.clamp_min(0) + penalty * y.shape[1] / 2)
        return by.unsqueeze(1)

    def off(penalty: float) -> Tensor:  # of items left out, times the root of their share
        leverage = squares @ shrunk(penalty) + share
        by: Tensor = (y - turned @ (along * shrunk(penalty))) / (1 - leverage).clamp_min(1e-9)
        return by

    best = min(penalties, key=lambda penalty: float(off(penalty).square().sum()))
    wrong, constant = (t.square().sum(1) / share[:, 0] for t in (off(best), y / (1 - share)))
    told = torch.full((y.shape[1],), _is_better(constant, wrong))
    if not told.any() and (held := torch.from_numpy(draws[first] * _FOLDS < 1)).sum() >= ENOUGH:
        rest, of_rest = wide[~held], y[~held]
        gram = rest.T @ rest + torch.eye(rest.shape[1]) * best * y.shape[1] / 2
        plain, answers = (t[held] / share[held].sqrt() for t in (wide, y))  # however often they come
        told = _names_told(plain @ torch.linalg.solve(gram, rest.T @ of_rest), answers)
    weight = (vectors @ (along * shrunk(best))).T
    solved = Solved(weight.to(x), (mean_y - weight @ mean).to(x), told)
    if not (solved.weight.isfinite().all() and solved.bias.isfinite().all()):
        raise FloatingPointError
    return solved


def _best_penalty(
    task: Task, x: Tensor, target: Tensor, draws: npt.NDArray[np.float64], bias: Tensor, penalties: Sequence[float]
) -> tuple[float, Tensor]:
    """The penalty that does best on items held back: a fifth, or of few items each fifth in turn; and `Solved.told`."""
    folds = range(_FOLDS if len(x) <= _FEW else 1)
    parts = [torch.from_numpy((draws * _FOLDS).astype(int) == fold) for fold in folds]
    parts = [held for held in parts if held.any() and not held.all()]
    # Targets may be on the CPU: numbers that only float64 holds, where the device lacks it.
    rounds = [(held.to(x.device), held.to(target.device), _Fitting(task, x, bias)) for held in parts]
    best, penalty, said = float("inf"), penalties[2], list[Tensor]()
    for candidate in penalties if rounds else ():
        loss, outputs = 0.0, []
        for held, of_target, fitting in rounds:
            fitting.fit(x[~held], target[~of_target], candidate, _STEPS)
            outputs.append(fitting.outputs(x[held]))
            loss += float(task.loss(outputs[-1], target[of_target])) * int(held.sum())
        if not loss < best:
            break
        best, penalty, said = loss, candidate, outputs
    constants = []
    for held, of_target, _ in rounds if said else ():  # what knows nothing of an item does not know its answer, too
        fitting = _Fitting(task, x[:, :0], bias)
        fitting.fit(x[~held, :0], target[~of_target], 0.0, _STEPS)
        constants.append(fitting.outputs(x[held, :0]))
    answers = [target[of_target] for _, of_target, _ in rounds]
    if not said:
        return penalty, torch.ones(len(bias), dtype=torch.bool)
    once = torch.from_numpy(np.unique(draws[parts[0].numpy()], return_index=True)[1])  # of a rare one many are no proof
    alone = once if len(rounds) == 1 and len(once) >= ENOUGH else None
    return penalty, _told(task, torch.cat(constants), torch.cat(said), torch.cat(answers), alone)


def _told(task: Task, constant: Tensor, outputs: Tensor, target: Tensor, alone: Tensor | None) -> Tensor:
    """Which names outputs for items that were held back tell better than a constant's: all, or some by themselves.

    These are asked for in the rows `alone`, each of another item, if there are such.
    """
    every = torch.ones(constant.shape[1], dtype=torch.bool)
    if task.loss_fn is not None or _is_better(*(task.item_losses(o, target) for o in (constant, outputs))):
        return every
    if alone is None:
        return ~every
    outputs, constant, target = outputs.cpu()[alone].double(), constant.cpu()[alone].double(), target.cpu()[alone]
    if task.predicts_numbers:
        return _names_told(outputs - constant, task.compared(outputs, target)[1].reshape(outputs.shape))
    if not (task.is_exclusive or task.is_multi):
        return ~every
    return _names_told(task.activate(outputs) / task.activate(constant), task.soft_target(target))


def _is_better(constant: Tensor, losses: Tensor) -> bool:
    """Whether losses of items held back may be lower than a constant's; see `Solved`."""
    constant, losses = constant.cpu().double(), losses.cpu().double()
    gain = constant - losses
    most = gain.mean() + 1.64 * gain.std() / len(gain) ** 0.5
    return len(gain) < ENOUGH or bool(most > LEAST_GAIN * constant.mean())


def _names_told(said: Tensor, answers: Tensor) -> Tensor:
    """Which names, (k,), what features say of items that were held back tells, rare as they may be.

    It has to be in the order of the answers, by `LEAST_ORDER` of what is possible, and by so much that chance, with so
    many names and penalties, leads to it in a share of `CHANCE` of all cases. Ranks are compared, for which that is
    known whatever the values are, however few items have the name, and however much a penalty for all shrinks this one.

    Args:
        said: beyond what a constant says, (n, k).
        answers: of each item and name, (n, k).
    """
    sure = NormalDist().inv_cdf(1 - CHANCE / answers.shape[1] / len(_PENALTIES)) / max(1, len(said) - 1) ** 0.5
    told = []
    for a, b in zip(*(map(_ranks, t.cpu().numpy().T) for t in (said, answers)), strict=True):
        order, own = a @ b, ((a @ a) * (b @ b)) ** 0.5
        told.append(bool(order > max(sure * own, LEAST_ORDER * (np.sort(a) @ np.sort(b)))))
    return torch.tensor(told)


def _ranks(column: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The rank of each value, less the mean of all; equal ones have the mean of theirs (Spearman 1904)."""
    _, at, counts = np.unique(column, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - counts / 2)[at]
    centred: npt.NDArray[np.float64] = ranks - ranks.mean()
    return centred


class _Fitting:
    """A linear model that L-BFGS fits, each time from where it was."""

    def __init__(self, task: Task, x: Tensor, bias: Tensor) -> None:
        self.task = task
        self.weight = x.new_zeros(len(bias), x.shape[1]).requires_grad_()
        self.bias = bias.detach().clone().requires_grad_()

    def fit(self, x: Tensor, target: Tensor, penalty: float, steps: int) -> None:
        """Lower the loss and the penalty by so many steps at most."""
        optimizer = torch.optim.LBFGS(
            [self.weight, self.bias],
            max_iter=steps,
            history_size=10,
            tolerance_change=_TOLERANCE,
            tolerance_grad=_TOLERANCE,
            line_search_fn="strong_wolfe",
        )

        # A loss that is the mean of many names would be too small for what counts as no change.
        names = 1 if self.task.is_exclusive else len(self.bias)

        def closure() -> float:
            optimizer.zero_grad()
            logits = nn.functional.linear(x, self.weight, self.bias)
            loss = names * (self.task.loss(logits, target) + 0.5 * penalty * self.weight.square().sum())
            if not loss.isfinite():
                raise FloatingPointError
            loss.backward()  # type: ignore[no-untyped-call]
            return float(loss.detach())

        with torch.enable_grad():
            optimizer.step(closure)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def outputs(self, x: Tensor) -> Tensor:
        """Of these items, (n, n_out)."""
        return nn.functional.linear(x, self.weight, self.bias)
