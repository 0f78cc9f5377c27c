"""2018's `fastai.model`: its loop as a function, for models and data that are put together by hand.

A learner's `fit` is the loop of easylearn itself; this one is for notebooks that call `fit(model, data, n, opt, crit)`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from . import core, layer_optimizer
from .core import V, apply_leaf, delistify, is_listy, to_gpu, to_np, trainable_params_
from .errors import name_of
from .imports import star
from .layer_optimizer import LayerOptimizer
from .metrics import Metric
from .torch_imports import children

Array = npt.NDArray[Any]


def set_train_mode(m: nn.Module) -> None:
    """Training mode for `m` alone, evaluation for batch-norm that is frozen."""
    own = vars(m)
    statistics = isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    m.training = not (statistics and (own.get("bn_freeze", False) or not own.get("trainable", True)))


def _reset(m: nn.Module) -> None:
    """Forget what a recurrent model carries from batch to batch."""
    reset = getattr(m, "reset", None)
    if callable(reset):
        reset()


class Stepper:
    """What is done with a batch; a subclass may override `step` and `evaluate`.

    Args:
        m: the model.
        opt: its optimizer; None to evaluate only.
        crit: the loss, of (output, target).
        clip: largest norm of the gradients; 0 for no clipping.
        reg_fn: of (output, what else the model gave, loss): the loss to descend.
    """

    def __init__(
        self, m: nn.Module, opt: Optimizer | None, crit: Callable[..., Tensor], clip: float = 0,
        reg_fn: Callable[..., Tensor] | None = None,
    ) -> None:  # fmt: skip
        self.m, self.opt, self.crit, self.clip, self.reg_fn = m, opt, crit, clip, reg_fn

    def reset(self, train: bool = True) -> None:
        """Begin an epoch: of training, or with `train` False of evaluation."""
        if train:
            apply_leaf(self.m, set_train_mode)
        else:
            self.m.eval()
        _reset(self.m)

    def step(self, xs: Sequence[Tensor], y: Tensor, epoch: int) -> float:
        """Train on the inputs `xs` and the target `y` in an `epoch`; gives the loss."""
        output = self.m(*xs)
        first, *extra = output if isinstance(output, tuple) else (output,)
        assert self.opt is not None
        self.opt.zero_grad()
        loss = plain = self.crit(first, y)
        if self.reg_fn is not None:
            loss = self.reg_fn(first, extra, plain)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.clip:
            nn.utils.clip_grad_norm_(trainable_params_(self.m), self.clip)
        self.opt.step()
        return plain.item()

    def evaluate(self, xs: Sequence[Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
        """Output and loss of the inputs `xs` and the target `y`."""
        preds = delistify(self.m(*xs))
        return preds, self.crit(preds, y)


def fit(
    model: nn.Module,
    data: Any,
    n_epochs: float,
    opt: Optimizer | LayerOptimizer,
    crit: Callable[..., Tensor],
    metrics: Sequence[Callable[..., Any]] | None = None,
    callbacks: Sequence[Any] | None = None,
    stepper: type[Stepper] = Stepper,
    clip: float = 0,
    reg_fn: Callable[..., Tensor] | None = None,
    seq_first: bool = False,
    get_ep_vals: bool = False,
) -> Any:
    """Train a model on `data.trn_dl`, validate on `data.val_dl`, print a line per epoch.

    Args:
        model: gives outputs that `crit` takes.
        data: anything with `trn_dl` and `val_dl`, loaders of (x, ..., y).
        n_epochs: how often to go through the data.
        opt: an optimizer, or a `LayerOptimizer`.
        crit: the loss, of (output, target).
        metrics: functions of (output, target), averaged over batches by their sizes.
        callbacks: `easylearn.sgdr.Callback`s.
        stepper: what is done with a batch.
        clip: largest norm of the gradients; 0 for no clipping.
        reg_fn: see `Stepper`.
        seq_first: whether the second dimension of x counts the items.
        get_ep_vals: give the values of every epoch, too.

    Returns:
        [validation loss, metrics ...] of the last epoch.
    """
    hooks, metrics = list(callbacks or ()), list(metrics or ())
    doing = stepper(model, opt.opt if isinstance(opt, LayerOptimizer) else opt, crit, clip=clip, reg_fn=reg_fn)
    names = ["epoch", "trn_loss", "val_loss", *(f.name if isinstance(f, Metric) else name_of(f) for f in metrics)]
    for cb in hooks:
        cb.on_train_begin()
    mean, n = 0.0, 0
    vals: list[float] = []
    rows: OrderedDict[int, list[float]] = OrderedDict()
    for epoch in range(int(np.ceil(n_epochs))):
        doing.reset(True)
        for *x, y in data.trn_dl:
            n += 1
            for cb in hooks:
                cb.on_batch_begin()
            mean = mean * 0.98 + doing.step(V(x), V(y), epoch) * 0.02
            stops = [cb.on_batch_end(mean / (1 - 0.98**n)) for cb in hooks]
            if any(stops):
                return vals
        vals = validate(doing, data.val_dl, metrics, epoch, seq_first)
        rows[epoch] = [mean / (1 - 0.98 ** max(n, 1)), *vals]
        if not epoch:
            print(" ".join(f"{name:<10}" for name in names))
        print(" ".join([f"{epoch:<10}", *(f"{v:<10.6f}" for v in rows[epoch])]))
        stops = [cb.on_epoch_end(vals) for cb in hooks]
        if any(stops):
            break
    for cb in hooks:
        cb.on_train_end()
    return (vals, rows) if get_ep_vals else vals


def validate(
    stepper: Stepper, dl: Iterable[Any], metrics: Sequence[Callable[..., Any]], epoch: int = 0, seq_first: bool = False
) -> list[float]:
    """Loss and `metrics` of what `stepper` says of the loader `dl`; `epoch` says nothing, `seq_first` as in `fit`."""
    stepper.reset(False)
    sizes, found = [], []
    with torch.no_grad():
        for *x, y in dl:
            target = V(y)
            preds, loss = stepper.evaluate(V(x), target)
            sizes.append(delistify(x).shape[1 if seq_first else 0])
            found.append([float(loss), *(float(f(preds, target)) for f in metrics)])
    return [float(v) for v in np.average(found, 0, weights=sizes)]


def predict_batch(m: nn.Module, x: Any) -> Any:
    """What `m` gives for the batch `x`, in evaluation mode."""
    m.eval()
    _reset(m)
    return m(V(x))


def predict_with_targs(m: nn.Module, dl: Iterable[Any]) -> tuple[Array, Array]:
    """What `m` gives for everything in the loader `dl`, and the targets."""
    m.eval()
    _reset(m)
    with torch.no_grad():
        pairs = [(to_np(delistify(m(*V(x)))), to_np(y)) for *x, y in dl]
    preds, targs = zip(*pairs, strict=True)
    return np.concatenate(preds), np.concatenate(targs)


def predict(m: nn.Module, dl: Iterable[Any]) -> Array:
    """What `m` gives for everything in the loader `dl`."""
    return predict_with_targs(m, dl)[0]


def cut_model(m: nn.Module, cut: int) -> list[nn.Module]:
    """The first `cut` children of `m` (negative: all but the last so many); with 0 the model itself."""
    return children(m)[:cut] if cut else [m]


def num_features(m: Any) -> int | None:
    """The number of features of the last layer of `m` that says one."""
    for layer in reversed(children(m)):
        found = vars(layer).get("num_features") or num_features(layer)
        if found is not None:
            return int(found)
    return None


def model_summary(m: nn.Module, inputs: Sequence[Tensor]) -> OrderedDict[str, Any]:
    """For each layer of `m`, given `inputs`: the shapes that go in and out, whether it trains, its parameters."""
    rows: OrderedDict[str, Any] = OrderedDict()

    def note(layer: nn.Module, given: Any, out: Any) -> None:
        own = list(layer.parameters(recurse=False))
        rows[f"{type(layer).__name__}-{len(rows) + 1}"] = OrderedDict(
            input_shape=[-1, *delistify(given).shape[1:]],
            output_shape=[[-1, *o.shape[1:]] for o in out] if is_listy(out) else [-1, *out.shape[1:]],
            **({"trainable": any(p.requires_grad for p in own)} if own else {}),
            nb_params=sum(p.numel() for p in own),
        )

    layers = [one for one in m.modules() if not isinstance(one, nn.Sequential | nn.ModuleList)]
    hooks = [one.register_forward_hook(note) for one in layers]
    try:
        with torch.no_grad():
            m(*(to_gpu(x) for x in (inputs if is_listy(inputs) else [inputs])))
    finally:
        for hook in hooks:
            hook.remove()
    return rows


_OWN = [
    "Stepper", "cut_model", "fit", "model_summary", "num_features", "predict", "predict_batch", "predict_with_targs",
    "set_train_mode", "validate",
]  # fmt: skip
__all__ = star(globals(), core, layer_optimizer, own=_OWN)
