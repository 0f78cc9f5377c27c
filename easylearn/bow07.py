"""2018's bags of words: the NB-SVM of `fastai.nlp` over scikit-learn's counts (arXiv 1412.5335)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

from .core import one_hot
from .data.loaders import LoaderData
from .datasets07 import ModelData
from .errors import DataError
from .learner07 import Learner07
from .learning import Learner
from .modeldata import Array, RowLoader, ShownData
from .task import single_label

__all__ = [
    "BOW_Dataset", "BOW_Learner", "DotProdNB", "SimpleNB", "TextClassifierData", "calc_pr", "calc_r",
]  # fmt: skip


def calc_pr(y_i: int, x: Any, y: Array, b: bool) -> Any:
    """How often each word comes in texts of class `y_i`, or with `b` False in the others, by counts `x`, labels `y`."""
    chosen = (y == y_i) == b
    return (x[np.flatnonzero(chosen)].sum(0) + 1) / (chosen.sum() + 1)


def calc_r(y_i: int, x: Any, y: Array) -> Any:
    """The logarithm of how much more often each word comes in texts of class `y_i` than in others; see `calc_pr`."""
    return np.log(calc_pr(y_i, x, y, True) / calc_pr(y_i, x, y, False))


class BOW_Dataset:  # noqa: N801 (its 2018 name, as those below)
    """Texts as the numbers of their words, from 1: item i is (words, counts, how many, class as zeros and a one).

    Args:
        bow: a sparse matrix of counts, one row per text.
        y: the class of each.
        max_len: the most words of a text; what is shorter is filled up with 0 in front.
    """

    def __init__(self, bow: Any, y: Any, max_len: int) -> None:
        labels = np.asarray(y)
        if bow.shape[0] != len(labels):
            raise DataError(f"there are {bow.shape[0]} rows of counts for {len(labels)} labels")
        self.bow, self.max_len, self.c = bow.tocsr(), max_len, int(labels.max()) + 1
        self.n, self.vocab_size = bow.shape
        self.y = one_hot(labels, self.c).astype(np.float32)
        signs = self.bow.sign()
        self.r = np.stack([np.asarray(calc_r(i, signs, labels)).ravel() for i in range(self.c)]).T
        self.is_reg, self.is_multi = False, False

    def __len__(self) -> int:
        return int(self.n)

    def __getitem__(self, i: int) -> tuple[Array, Array, int, Array]:
        row = slice(*self.bow.indptr[i : i + 2])
        words, counts = (a[row][-self.max_len :].astype(np.int64) for a in (self.bow.indices, self.bow.data))
        fill = (self.max_len - len(words), 0)
        return np.pad(words + 1, fill), np.pad(counts, fill), len(words), self.y[i]

    def batch(self, rows: Any) -> list[Array]:
        """Some `rows` at once."""
        return [np.stack(column) for column in zip(*(self[int(i)] for i in rows), strict=True)]


class DotProdNB(nn.Module):
    """Log-probabilities of classes: each word's log-count ratio times a weight that is learnt.

    Args:
        nf: how many words.
        ny: how many classes.
        w_adj: the weight of a word that nothing was learnt of.
        r_adj: all is divided by it.
    """

    def __init__(self, nf: int, ny: int, w_adj: float = 0.4, r_adj: float = 10) -> None:
        super().__init__()
        self.w_adj, self.r_adj = w_adj, r_adj
        self.w = nn.Embedding(nf + 1, 1, padding_idx=0)
        nn.init.uniform_(self.w.weight, -0.1, 0.1)
        self.r = nn.Embedding(nf + 1, ny)

    def forward(self, feat_idx: Tensor, feat_cnt: Tensor, sz: Tensor) -> Tensor:
        """Of words `feat_idx` (b, n); `feat_cnt` and `sz` are not looked at."""
        scores: Tensor = ((self.w(feat_idx) + self.w_adj) * self.r(feat_idx) / self.r_adj).sum(1)
        return scores.log_softmax(1)


class SimpleNB(nn.Module):
    """Log-probabilities of classes: the sum of each word's log-count ratios, and a number that is learnt.

    Args:
        nf: how many words.
        ny: how many classes.
    """

    def __init__(self, nf: int, ny: int) -> None:
        super().__init__()
        self.r = nn.Embedding(nf + 1, ny, padding_idx=0)
        self.b = nn.Parameter(torch.zeros(ny))

    def forward(self, feat_idx: Tensor, feat_cnt: Tensor, sz: Tensor) -> Tensor:
        """Of words `feat_idx` (b, n); `feat_cnt` and `sz` are not looked at."""
        scores: Tensor = self.r(feat_idx).sum(1) + self.b
        return scores.log_softmax(1)


class BOW_Learner(Learner07):  # noqa: N801
    """The learner of bags of words; it gives probabilities, and targets as zeros and a one, as in 2018."""

    __slots__ = ()

    def predict_with_targs(self, is_test: bool = False, use_swa: bool = False) -> tuple[Array, Array | None]:
        """See `Learner07`."""
        found, target = super().predict_with_targs(is_test)
        return np.exp(found), None if target is None else one_hot(target, found.shape[1])


class _Numbered(RowLoader):
    """The same batches with the number of the class as the target."""

    def __iter__(self) -> Iterator[list[Tensor]]:
        for *x, y in super().__iter__():
            yield [*x, y.argmax(1)]


class BOWData(ShownData, LoaderData):
    """What a learner of bags of words has as `data`."""

    def __init__(self, md: ModelData) -> None:
        train, valid = (_Numbered(dl.dataset, dl.batch_size, dl.shuffle) for dl in (md.trn_dl, md.val_dl))
        LoaderData.__init__(self, train, valid, single_label([str(i) for i in range(md.trn_ds.c)]))
        self.md = md


class TextClassifierData(ModelData):
    """Bags of words with a class each. Make one with `from_bow`."""

    @classmethod
    def from_bow(cls, trn_bow: Any, trn_y: Any, val_bow: Any, val_y: Any, sl: int) -> TextClassifierData:
        """Counts as scikit-learn's `CountVectorizer` gives them.

        Args:
            trn_bow, trn_y: counts of the training texts, a sparse matrix, and their classes.
            val_bow, val_y: the same for validation.
            sl: the most words of a text.
        """
        trn, val = BOW_Dataset(trn_bow, trn_y, sl), BOW_Dataset(val_bow, val_y, sl)
        return cls(".", RowLoader(trn, 64, True), RowLoader(val, 64))

    @property
    def r(self) -> Tensor:
        """The log-count ratios, shape (words + 1, classes), where word 0 is none."""
        return torch.tensor(np.concatenate([np.zeros((1, self.c)), self.trn_ds.r]), dtype=torch.float32)

    def get_model(self, f: Callable[[int, int], Any]) -> BOW_Learner:
        """A learner.

        Args:
            f: makes the model of the numbers of words and of classes, with an embedding `r`, as `DotProdNB` is.
        """
        m = f(self.trn_ds.vocab_size, self.c)
        m.r.weight.data = self.r
        m.r.weight.requires_grad_(False)
        learn = Learner(BOWData(self), m, optimizer=optim.Adam, loss=_distance, path=Path(self.path) / "models")
        return BOW_Learner.of(learn)

    def dotprod_nb_learner(self, w_adj: float = 0.4, r_adj: float = 10) -> BOW_Learner:
        """A learner of `DotProdNB`, which takes `w_adj` and `r_adj`."""
        return self.get_model(partial(DotProdNB, w_adj=w_adj, r_adj=r_adj))

    def nb_learner(self) -> BOW_Learner:
        """A learner of `SimpleNB`."""
        return self.get_model(SimpleNB)


def _distance(logs: Tensor, target: Tensor) -> Tensor:
    """The mean distance of probabilities from the truth."""
    return F.l1_loss(logs.exp(), F.one_hot(target, logs.shape[1]).float())
