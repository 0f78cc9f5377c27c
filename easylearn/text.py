"""2018's `fastai.text`: texts as lists of numbers, for language models and classifiers that are put together by hand.

spaCy is not used: `Tokenizer` splits with a regular expression. What runs is easylearn's own learner and models.
"""

from __future__ import annotations

import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from . import learner, learning, lm_rnn
from .core import BasicModel, T, num_cpus
from .data.loaders import LoaderData
from .dataloader import Counted, Outputs
from .datasets07 import ModelData
from .errors import ArgumentError, DataError
from .files import StrPath
from .imports import star
from .learner07 import Learner07
from .lm_rnn import SequentialClassifier, SequentialLM, get_language_model, seq2seq_reg
from .modeldata import Array, ShownData
from .options import strict
from .task import Accumulator, Task, next_token, single_label
from .texts.callbacks import ActivationPenalty
from .texts.preprocess import AnyText
from .texts.transfer import encoder_of
from .torch_imports import load_model, save_model
from .train.optim import OptimizerFn
from .train.strategy import SingleDevice

re_tok = re.compile(f"([{re.escape(string.punctuation)}“”¨«»®´·º½¾¿¡§£₤‘’])")  # noqa: RUF001


def tokenize(s: str) -> list[str]:
    """The words and punctuation marks of `s`, each by itself.

    >>> tokenize("It's good.")
    ['It', "'", 's', 'good', '.']
    """
    return re_tok.sub(r" \1 ", s).split()


def texts_labels_from_folders(path: StrPath, folders: Sequence[str]) -> tuple[list[str], Array]:
    """The files in folders, sorted by name, and the number of each file's folder.

    Args:
        path: where the folders are.
        folders: one for each class.
    """
    files = [(file, i) for i, name in enumerate(folders) for file in sorted((Path(path) / name).glob("*.*"))]
    if not files:
        raise DataError(f"there are no files in {[str(Path(path) / name) for name in folders]}")
    return [file.read_text(encoding="utf-8") for file, _ in files], np.array([i for _, i in files], np.int64)


def numericalize_tok(
    tokens: Sequence[Any],
    max_vocab: int = 50000,
    min_freq: int = 0,
    unk_tok: str = "_unk_",
    pad_tok: str = "_pad_",
    bos_tok: str = "_bos_",
    eos_tok: str = "_eos_",
) -> tuple[list[str], dict[str, int]]:
    """The words by their numbers, and the numbers by word: 0 begins a text, 1 pads, 2 ends it, 3 is *unknown*.

    Args:
        tokens: the words of a text, or of several.
        max_vocab: take the most frequent ones, so many.
        min_freq: that come more often than this.
        bos_tok, pad_tok, eos_tok, unk_tok: what the first four are called.

    >>> itos, stoi = numericalize_tok([["a", "b"], ["b"]])
    >>> itos, stoi["b"], stoi["zebra"]
    (['_bos_', '_pad_', '_eos_', '_unk_', 'b', 'a'], 4, 3)
    """
    if isinstance(tokens, str) or not len(tokens):
        raise ArgumentError(f"tokens must be a list of words, or of lists of them, got {tokens!r:.40}")
    words = tokens if isinstance(tokens[0], str) else [word for text in tokens for word in text]
    kept = [word for word, n in Counter(words).most_common(max_vocab) if n > min_freq]
    itos = [bos_tok, pad_tok, eos_tok, unk_tok, *kept]
    return itos, defaultdict(lambda: 3, {word: i for i, word in enumerate(itos)})


class Tokenizer:
    """Splits texts into words, with marks for words in capitals and for repeats.

    Args:
        lang: not used, as spaCy is not.

    >>> Tokenizer().proc_text("A GOOD film!!!!!<br />")
    ['a', 't_up', 'good', 'film', 'tk_rep', '5', '!']
    """

    _words = re.compile(r"\w+(?=n['’]t\b)|n['’]t\b|['’]\w+|\w+|[^\w\s]")  # noqa: RUF001

    def __init__(self, lang: str = "en") -> None:
        self.lang = lang

    @staticmethod
    def sub_br(x: str) -> str:
        """`x` with a new line for each `<br />`."""
        return re.sub(r"<\s*br\s*/?>", "\n", x, flags=re.IGNORECASE)

    def spacy_tok(self, x: str) -> list[str]:
        """The words and punctuation marks of `x`."""
        return self._words.findall(self.sub_br(x))

    @staticmethod
    def replace_rep(m: re.Match[str]) -> str:
        """What stands for a letter that is repeated, of the match `m`."""
        return f" tk_rep {len(m.group(2)) + 1} {m.group(1)} "

    @staticmethod
    def replace_wrep(m: re.Match[str]) -> str:
        """What stands for a word that is repeated, of the match `m`."""
        return f" tk_wrep {len(m.group(2).split()) + 1} {m.group(1)} "

    @staticmethod
    def do_caps(ss: str) -> str:
        """`ss` in small letters, with a mark before words in capitals."""
        return re.sub(
            r"\w+", lambda m: f" t_up {m[0].lower()}" if m[0].isupper() and len(m[0]) > 2 else m[0].lower(), ss
        )

    def proc_text(self, s: str) -> list[str]:
        """The words of the text `s`."""
        s = re.sub(r"(\S)(\1{3,})", self.replace_rep, self.sub_br(s))
        s = re.sub(r"(\b\w+\W+)(\1{3,})", self.replace_wrep, s)
        return self.spacy_tok(self.do_caps(s))

    @staticmethod
    def proc_all(ss: Sequence[str], lang: str = "en") -> list[list[str]]:
        """The words of each text of `ss`; `lang` is not used."""
        tokenizer = Tokenizer(lang)
        return [tokenizer.proc_text(s) for s in ss]

    @staticmethod
    def proc_all_mp(ss: Sequence[Sequence[str]], lang: str = "en", ncpus: int | None = None) -> list[list[str]]:
        """The words of each text of the lists `ss`, by a process for each, or `ncpus`; `lang` is not used."""
        workers = min(ncpus or max(num_cpus() // 2, 1), len(ss))
        if workers < 2:
            return [words for part in ss for words in Tokenizer.proc_all(part, lang)]
        with ProcessPoolExecutor(workers) as pool:
            return [words for part in pool.map(Tokenizer.proc_all, ss, [lang] * len(ss)) for words in part]


class TextDataset(Dataset[Any]):
    """Lists of numbers and their labels.

    Args:
        x: the numbers of each text.
        y: a label for each.
        backwards: from the end.
        sos, eos: the numbers that begin and end a text; None for none.
    """

    def __init__(
        self, x: Sequence[Any], y: Any, backwards: bool = False, sos: int | None = None, eos: int | None = None
    ) -> None:
        self.x, self.y, self.backwards, self.sos, self.eos = x, y, backwards, sos, eos
        self.is_reg, self.is_multi = False, False

    def __getitem__(self, idx: int) -> tuple[Array, Any]:
        x = list(self.x[idx])[:: -1 if self.backwards else 1]
        begin, end = ([] if mark is None else [mark] for mark in (self.sos, self.eos))
        return np.array(begin + x + end), self.y[idx]

    def __len__(self) -> int:
        return len(self.x)


class SortSampler(Sampler[int]):
    """Positions by a key, the largest first.

    Args:
        data_source: has the length.
        key: of a position.
    """

    def __init__(self, data_source: Any, key: Callable[[int], Any]) -> None:
        self.data_source, self.key = data_source, key

    def __len__(self) -> int:
        return len(self.data_source)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(range(len(self)), key=self.key, reverse=True))


class SortishSampler(Sampler[int]):
    """Positions in a new order each time, so that batches hold texts of about one length; the longest comes first.

    Args:
        data_source: has the length.
        key: the length at a position.
        bs: texts in a batch.
    """

    def __init__(self, data_source: Any, key: Callable[[int], Any], bs: int) -> None:
        self.data_source, self.key, self.bs = data_source, key, bs

    def __len__(self) -> int:
        return len(self.data_source)

    def __iter__(self) -> Iterator[int]:
        order, large = torch.randperm(len(self)).tolist(), 50 * self.bs
        pieces = [sorted(order[i : i + large], key=self.key, reverse=True) for i in range(0, len(order), large)]
        ranked = [i for piece in pieces for i in piece]
        batches = [ranked[i : i + self.bs] for i in range(0, len(ranked), self.bs)]
        first = max(range(len(batches)), key=lambda i: self.key(batches[i][0]))
        batches[0], batches[first] = batches[first], batches[0]
        # A batch that is not full stays the last one, so that no other is torn.
        middle = batches[1:-1] if len(batches[-1]) < self.bs else batches[1:]
        shuffled = [middle[i] for i in torch.randperm(len(middle)).tolist()]
        last = batches[-1:] if len(middle) < len(batches) - 1 else []
        return iter([i for batch in [batches[0], *shuffled, *last] for i in batch])


class LanguageModelLoader:
    """Windows of one long text, which is cut into `bs` columns: inputs (sl, bs), and the next tokens, (sl * bs,).

    Args:
        nums: the numbers of the tokens.
        bs: columns.
        bptt: tokens in a window, about: each time through they are drawn anew, from torch's global generator.
        backwards: from the end.

    >>> x, y = next(iter(LanguageModelLoader(np.arange(100), bs=2, bptt=10)))
    >>> x[0].tolist(), y[:2].tolist()
    ([0, 50], [1, 51])
    """

    def __init__(self, nums: Any, bs: int, bptt: int, backwards: bool = False) -> None:
        self.bs, self.bptt, self.backwards = bs, bptt, backwards
        self.data = self.batchify(np.asarray(nums))
        self.n = len(self.data)
        if self.n < 2:
            raise DataError(f"{np.size(nums):,} tokens do not fill {bs} columns; give more text, or a smaller bs")
        self.batch_size = bs
        self.dataset: Any = self.data

    def batchify(self, data: Array) -> Tensor:
        """The tokens `data` in columns, shape (n, bs)."""
        length = len(data) // self.bs
        columns = data[: length * self.bs].reshape(self.bs, -1).T
        return T(columns[::-1] if self.backwards else columns)

    def __len__(self) -> int:
        return max(self.n // self.bptt - 1, 1)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count, room = len(self), self.n - 1
        about = np.where(torch.rand(count).numpy() < 0.95, self.bptt, self.bptt / 2)
        wanted = np.maximum(about + 5 * torch.randn(count).numpy(), 5)
        ends = np.round(np.cumsum(wanted) * ((room - count) / wanted.sum())).astype(int) + np.arange(1, count + 1)
        bounds = [0, *ends.tolist()]
        return Counted((self.get_batch(a, b - a) for a, b in pairwise(bounds)), count)

    def get_batch(self, i: int, seq_len: int) -> tuple[Tensor, Tensor]:
        """The window of `seq_len` tokens from `i` on, and what follows each of them."""
        end = min(i + seq_len, self.n - 1)
        return self.data[i:end], self.data[i + 1 : end + 1].reshape(-1)


class TextModel(BasicModel):
    """A model of texts with its layer groups."""

    def get_layer_groups(self, do_fc: bool = False) -> list[Any]:
        """Lists of modules, input first; `do_fc` says nothing."""
        return [list(group.modules) for group in self.model.layer_groups()]  # type: ignore[operator, union-attr]


class LanguageModel(TextModel):
    """A language model with its layer groups."""


class _Turned:
    """Batches (x, y) with x of shape (bs, sl) instead of (sl, bs).

    Args:
        source: the batches.
        has_target: whether they have a target.
    """

    def __init__(self, source: Any) -> None:
        self.source, self.batch_size = source, source.batch_size
        self.dataset = source.dataset

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for x, y in self.source:
            yield x.transpose(0, 1), y


class _Turning(SingleDevice):
    """Calls a model as in 2018: with tokens (sl, bs) alone, and takes the first of what it answers."""

    def forward(self, model: Any, inputs: tuple[Tensor, ...]) -> Tensor:
        """See `SingleDevice.forward`."""
        output: Any = super().forward(model, tuple(x.transpose(0, 1) for x in inputs))
        return output[0] if isinstance(output, tuple) else output  # type: ignore[no-any-return]


class Sequences(Outputs):
    """What a model of one's own gives for sequences: the loss of each batch is kept, as lengths differ."""

    kind = "sequences"

    def accumulator(self, device: torch.device | None = None) -> Accumulator:
        """See `Task.accumulator`: means over batches, by how many sequences they have."""
        return _ByBatch(self)


class _ByBatch:
    """Means over batches of outputs (sl, bs, ...).

    Args:
        task: has the loss and the metrics.
    """

    def __init__(self, task: Sequences) -> None:
        self._task, self._sizes = task, list[int]()
        self._found: list[list[float]] = []

    def add(self, logits: Tensor, target: Tensor, index: Tensor | None = None) -> None:
        found: list[Any] = [self._task.loss(logits, target), *(metric(logits, target) for metric in self._task.metrics)]
        self._found.append([float(x) for x in found])
        self._sizes.append(target.shape[1] if target.ndim > 1 else len(target))

    def result(self) -> dict[str, float]:
        means = np.average(self._found, 0, weights=self._sizes).tolist()
        return dict(zip(["valid_loss", *(m.name for m in self._task.metrics)], means, strict=True))


class HandData(ShownData, LoaderData):
    """What a learner of a `ModelData` of texts has as `data`: batches of one's own.

    Args:
        md: the loaders.
        task: what is predicted.
    """

    def __init__(self, md: Any, task: Task) -> None:
        as_is = isinstance(task, Sequences)
        train, valid = (dl if dl is None or as_is else _Turned(dl) for dl in (md.trn_dl, md.val_dl))
        LoaderData.__init__(self, train, valid, task)
        self.md = md


class RNN_Learner(Learner07):  # noqa: N801 (its 2018 name)
    """The learner of a recurrent model of texts, over a `ModelData` whose loaders give (sl, bs) and targets.

    Args:
        data: the loaders.
        models: `TextModel(m)` or `LanguageModel(m)`, with m of `get_rnn_classifier` or `get_language_model`; or
            `SingleModel(m)`, with a model of tokens (sl, bs) of one's own, which trains with a `crit` of its outputs.
        opt_fn: makes the optimizer; None takes AdamW.
        metrics: instead of the usual ones.
        clip: largest norm of the gradients; may be set afterwards.
        crit: the loss, of (logits, target), instead of cross-entropy.
    """

    __slots__ = ()

    @strict({"opt_func": "opt_fn", "tmp_name": "Nothing temporary is written.", "models_name": "It is 'models'."})
    def __init__(
        self,
        data: Any,
        models: Any,
        opt_fn: OptimizerFn | None = None,
        metrics: Sequence[Any] | None = None,
        clip: float | None = None,
        crit: Callable[..., Tensor] | None = None,
    ) -> None:
        model: Any = models.model if isinstance(models, BasicModel) else models
        task: Task = Sequences(("output",))
        if isinstance(model, SequentialLM):
            task = next_token([str(i) for i in range(model.encoder.n_tokens)])
        elif isinstance(model, SequentialClassifier):
            last: Any = list(model.head.children())[-1]
            task = single_label([str(i) for i in range(last.out_features)])
        learning.Learner.__init__(
            self, HandData(data, task), model, optimizer=opt_fn, metrics=metrics,
            strategy=SingleDevice(clip=clip) if isinstance(task, Sequences) else _Turning(clip=clip),
            path=Path(data.path) / "models",
        )  # fmt: skip
        self._crit = None
        if crit is not None or isinstance(task, Sequences):
            self.crit = F.cross_entropy if crit is None else crit

    @property
    def reg_fn(self) -> Any:
        """What is added to the loss: `partial(seq2seq_reg, alpha=2, beta=1)`, or None."""
        found = [c for c in self.callbacks if isinstance(c, ActivationPenalty)]
        return partial(seq2seq_reg, alpha=found[0].alpha, beta=found[0].beta) if found else None

    @reg_fn.setter
    def reg_fn(self, reg_fn: Any) -> None:
        others = [c for c in self.callbacks if not isinstance(c, ActivationPenalty)]
        self.callbacks = [*others, *penalty_of(reg_fn)]

    def save_encoder(self, name: StrPath) -> Path:
        """Save what reads, for a classifier to start from; see `easylearn.save_encoder`."""
        if isinstance(self.data.preprocessor, AnyText):
            return super().save_encoder(name)
        file = self.path / f"{name}.h5"
        file.parent.mkdir(parents=True, exist_ok=True)
        save_model(encoder_of(self.model), file)
        return file

    def load_encoder(self, name: StrPath) -> RNN_Learner:
        """Put a saved encoder into this learner; see `easylearn.load_encoder`."""
        if isinstance(self.data.preprocessor, AnyText):
            super().load_encoder(name)
        else:
            load_model(encoder_of(self.model), self.path / f"{name}.h5")
        return self


def penalty_of(reg_fn: Any) -> list[ActivationPenalty]:
    """The callback that does what `partial(seq2seq_reg, alpha=2, beta=1)` says."""
    if reg_fn is None or reg_fn is seq2seq_reg:
        return []
    if isinstance(reg_fn, partial) and reg_fn.func is seq2seq_reg and not reg_fn.args:
        reg_fn = ActivationPenalty(reg_fn.keywords.get("alpha", 0), reg_fn.keywords.get("beta", 0))
    if not isinstance(reg_fn, ActivationPenalty):
        raise ArgumentError(
            f"reg_fn must be partial(seq2seq_reg, alpha=2, beta=1), or None, got {type(reg_fn).__name__}; other "
            "penalties are callbacks, or a `fit(model, data, ..., reg_fn=)` of one's own"
        )
    return [reg_fn] if reg_fn.alpha or reg_fn.beta else []


class LanguageModelData(ModelData):
    """Loaders for a language model.

    Args:
        path: `<path>/models` is where weights are saved.
        pad_idx: the number of the token for padding.
        n_tok: how many tokens there are.
        trn_dl, val_dl, test_dl: `LanguageModelLoader`s.
    """

    def __init__(self, path: StrPath, pad_idx: int, n_tok: int, trn_dl: Any, val_dl: Any, test_dl: Any = None) -> None:
        super().__init__(path, trn_dl, val_dl, test_dl)
        self.pad_idx, self.n_tok = pad_idx, n_tok

    def get_model(
        self, opt_fn: OptimizerFn | None, emb_sz: int, n_hid: int, n_layers: int, dropout: float = 0.4,
        dropouth: float = 0.3, dropouti: float = 0.5, dropoute: float = 0.1, wdrop: float = 0.5,
        tie_weights: bool = True, bias: bool = False,
    ) -> RNN_Learner:  # fmt: skip
        """A learner that predicts each next token.

        Args:
            opt_fn: makes the optimizer.
            emb_sz, n_hid, n_layers, dropout, dropouth, dropouti, dropoute, wdrop, tie_weights, bias: see
                `get_language_model`.
        """
        m = get_language_model(
            self.n_tok, emb_sz, n_hid, n_layers, self.pad_idx, dropout, dropouth, dropouti, dropoute, wdrop,
            tie_weights, bias,
        )  # fmt: skip
        return RNN_Learner(self, LanguageModel(m), opt_fn=opt_fn)


_OWN = [
    "LanguageModel", "LanguageModelData", "LanguageModelLoader", "RNN_Learner", "SortSampler", "SortishSampler",
    "TextDataset", "TextModel", "Tokenizer", "numericalize_tok", "re_tok", "texts_labels_from_folders", "tokenize",
]  # fmt: skip
__all__ = star(globals(), learner, lm_rnn, own=_OWN)
