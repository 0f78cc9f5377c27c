"""2018's `fastai.core`: between NumPy and torch, and small helpers of its notebooks."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

from . import imports, torch_imports
from .imports import star
from .torch_imports import children

Array = npt.NDArray[Any]
USE_GPU = torch.cuda.is_available()
IS_TORCH_04 = True


def A(*a: Any) -> Any:  # noqa: N802 (2018's name, as all in capitals here)
    """`a` as a NumPy array; of several a list of them."""
    return np.array(a[0]) if len(a) == 1 else [np.array(o) for o in a]


def T(a: Any, half: bool = False, cuda: bool = True) -> Tensor:  # noqa: N802
    """`a` as a tensor of int64 or float32 (`half`: float16), on the GPU if there is one and `cuda`."""
    if not isinstance(a, Tensor):
        array = np.array(np.ascontiguousarray(a))
        kind = np.int64 if array.dtype.kind in "iub" else np.float16 if half and USE_GPU else np.float32
        a = torch.from_numpy(array.astype(kind))
    return to_gpu(a) if cuda else a  # type: ignore[no-any-return]


def V(x: Any, requires_grad: bool = False, volatile: bool = False) -> Any:  # noqa: N802
    """`x`, or each of a list, as a tensor that may want gradients (`requires_grad`); `volatile` says nothing today."""
    if is_listy(x):
        return [V(o, requires_grad) for o in x]
    made = T(x)
    return made.requires_grad_() if requires_grad else made


def VV(x: Any) -> Any:  # noqa: N802
    """`x`, or each of a list, as a tensor without gradients."""
    return V(x)


V_, VV_, create_variable = V, VV, V


def to_np(v: Any) -> Any:
    """`v`, or each of a list, as a NumPy array."""
    if is_listy(v):
        return [to_np(o) for o in v]
    return v.detach().float().cpu().numpy() if isinstance(v, Tensor) and v.is_floating_point() else np.asarray(v)


def to_gpu(x: Any, *args: Any) -> Any:
    """`x`, a tensor or a module, on the GPU, `args` as for `.cuda()`; as it is where there is none."""
    return x.cuda(*args) if USE_GPU else x


def noop(*args: Any) -> None:
    """Nothing, whatever the `args`."""


def sum_geom(a: float, r: float, n: int) -> float:
    """The sum of `n` terms that begin with `a` and grow by the factor `r`."""
    return a * n if r == 1 else math.ceil(a * (1 - r**n) / (1 - r))


def is_listy(x: Any) -> bool:
    """Whether `x` is a list or a tuple."""
    return isinstance(x, list | tuple)


def is_iter(x: Any) -> bool:
    """Whether `x` can be iterated."""
    return isinstance(x, Iterable)


def map_over(x: Any, f: Callable[[Any], Any]) -> Any:
    """`f` of `x`, or of each of a list."""
    return [f(o) for o in x] if is_listy(x) else f(x)


def map_none(x: Any, f: Callable[[Any], Any]) -> Any:
    """`f` of `x`, unless that is None."""
    return None if x is None else f(x)


def delistify(x: Any) -> Any:
    """The first of a list, or `x` itself."""
    return x[0] if is_listy(x) else x


def listify(x: Any, y: int | Sequence[Any]) -> list[Any]:
    """`x` as a list, as long as `y` if it has one entry."""
    made = list(x) if is_iter(x) else [x]
    return made * (y if isinstance(y, int) else len(y)) if len(made) == 1 else made


def datafy(x: Any) -> Any:
    """The tensor `x`, or each of a list, without its history."""
    return map_over(x, lambda o: o.detach())


def split_by_idxs(seq: Any, idxs: Sequence[int]) -> Generator[Any, None, None]:
    """The pieces of `seq` between the positions `idxs`.

    >>> list(split_by_idxs([1, 2, 3, 4], [1, 3]))
    [[1], [2, 3], [4]]
    """
    for start, stop in zip([0, *idxs], [*idxs, len(seq)], strict=True):
        yield seq[start:stop]


def trainable_params_(m: nn.Module) -> list[nn.Parameter]:
    """The parameters of `m` that want gradients."""
    return [p for p in m.parameters() if p.requires_grad]


def chain_params(p: Any) -> list[nn.Parameter]:
    """The trainable parameters of the module `p`, or of a list of modules."""
    return list(chain.from_iterable(trainable_params_(o) for o in p)) if is_listy(p) else trainable_params_(p)


def apply_leaf(m: Any, f: Callable[[nn.Module], Any]) -> None:
    """`f` of `m` and of every module below it."""
    for module in [m] if isinstance(m, nn.Module) else m:
        module.apply(lambda one: (f(one), None)[1])


def set_trainable_attr(m: nn.Module, b: bool) -> None:
    """Whether the parameters of `m` want gradients: `b`."""
    m.trainable = b  # type: ignore[assignment]
    m.requires_grad_(b)


def set_trainable(l: Any, b: bool) -> None:  # noqa: E741 (2018's name)
    """Whether the module or list `l` trains: `b`."""
    apply_leaf(l, lambda m: set_trainable_attr(m, b))


def SGD_Momentum(momentum: float) -> Callable[..., optim.Optimizer]:  # noqa: N802
    """Makes SGD with this `momentum`."""
    return partial(optim.SGD, momentum=momentum)


def one_hot(a: Any, c: int) -> Array:
    """The numbers `a` as rows of `c` zeros and a one."""
    made: Array = np.eye(c)[a]
    return made


def partition(a: Any, sz: int) -> list[Any]:
    """`a` in pieces of `sz`."""
    return [a[i : i + sz] for i in range(0, len(a), sz)]


def partition_by_cores(a: Any) -> list[Any]:
    """`a` in a piece per core."""
    return partition(a, len(a) // num_cpus() + 1)


def num_cpus() -> int:
    """Cores of this machine."""
    return os.cpu_count() or 1


def chunk_iter(iterable: Iterator[Any], chunk_size: int) -> Generator[list[Any], None, None]:
    """What `iterable` gives, in lists of `chunk_size`."""
    while chunk := list(islice(iterable, chunk_size)):
        yield chunk


def no_grad_context() -> Any:
    """`torch.no_grad()`."""
    return torch.no_grad()


class BasicModel:
    """A model with a name, whose children are its layer groups.

    Args:
        model: the module.
        name: of it.
    """

    def __init__(self, model: nn.Module, name: str = "unnamed") -> None:
        self.model, self.name = model, name

    def get_layer_groups(self, do_fc: bool = False) -> list[Any]:
        """Lists of modules, or modules, input first; `do_fc` is for models with a head of their own."""
        return children(self.model)


class SingleModel(BasicModel):
    """A model that is one layer group."""

    def get_layer_groups(self, do_fc: bool = False) -> list[Any]:
        """The model, whatever `do_fc`."""
        return [self.model]


class SimpleNet(nn.Module):
    """Linear layers with ReLU between them and log-probabilities at the end.

    Args:
        layers: numbers of features, input first.
    """

    def __init__(self, layers: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities of the rows of `x`."""
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return F.log_softmax(self.layers[-1](x), -1)


_OWN = [
    "A", "BasicModel", "IS_TORCH_04", "SGD_Momentum", "SimpleNet", "SingleModel", "T", "USE_GPU", "V", "VV", "VV_",
    "V_", "apply_leaf", "chain_params", "chunk_iter", "create_variable", "datafy", "delistify", "is_iter",
    "is_listy", "listify", "map_none", "map_over", "no_grad_context", "noop", "num_cpus", "one_hot", "partition",
    "partition_by_cores", "set_trainable", "set_trainable_attr", "split_by_idxs", "sum_geom", "to_gpu", "to_np",
    "trainable_params_",
]  # fmt: skip
__all__ = star(globals(), imports, torch_imports, own=_OWN)
