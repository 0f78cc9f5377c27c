"""From texts to numbers in one pass, by several processes where there is much to do, and back."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections import Counter as Counts
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from typing import Any, cast

import numpy as np

from ..device import usable_cores
from ..errors import EasyLearnError, StateError
from ..files import cache_dir, digest
from ..quiet import fork_beside_threads
from . import tokenize
from .sources import Documents
from .store import NOTE, Ids, Ints, TokenStore, TokenWriter, dtype_for
from .tokenize import Counter, SequenceIds, Tokenizer, Tokenizing, UntrainedTokenizer
from .vocab import Vocab, check_version

_VERSION = 1
_BATCH_CHARACTERS = 1_000_000
_BATCH_DOCUMENTS = 10_000
WARM_UP = 8_000_000  # characters after which most words were met, and work is left that is worth a process
MAX_WORKERS = 16
_AHEAD = 2  # batches per process that are under way
_PATIENCE = 2.0  # seconds of work before a progress bar appears


class TextProcessor:
    """A tokenizer and a vocabulary: what turns text into a model's numbers. Every document begins with `xxbos`.

    >>> processor, store = TextProcessor.fit(Documents.from_list(["The film, the film!", "A film"]), min_freq=1)
    >>> store.lengths.tolist(), [processor.vocab[i] for i in store.doc(1)]
    ([8, 4], ['xxbos', 'xxmaj', 'a', 'film'])
    >>> processor.decode(store.doc(0))
    'The film, the film!'
    >>> processor.decode(processor.encode("A bad film"))
    'A xxunk film'
    """

    def __init__(self, tokenizer: Tokenizer, vocab: Vocab) -> None:
        if isinstance(tokenizer, UntrainedTokenizer):
            tokenizer.state_dict()
        self.tokenizer = tokenizer
        self.vocab = vocab
        if vocab.tokenizer is None:
            vocab.tokenizer = tokenizer
        # Where all tokens are known the numbers are looked up once; otherwise a counter learns, and is for one use.
        self._ready = None if tokenizer.closed is None else self._numbers()

    def _numbers(self) -> _Numbers:
        return _Numbers(self.tokenizer.counter(), self.vocab)

    @classmethod
    def fit(
        cls, documents: Documents, tokenizer: Tokenizing = None, vocab: Vocab | None = None, max_vocab: int = 60_000,
        min_freq: int = 2, progress: bool = True,
    ) -> tuple[TextProcessor, TokenStore]:  # fmt: skip
        """Make a vocabulary, unless there is one, and the numbers of the documents it is made from, tokenising once.

        Memory holds up to 64 MB of numbers, some documents at a time, the different words and 8 bytes per document.
        More numbers go to easylearn's cache folder, where the same call finds them again. The arguments are those of
        `TextOptions`.
        """
        given = tokenize.as_tokenizer(tokenizer)
        Vocab.from_counts({}, max_vocab, min_freq)  # wrong sizes are refused before the work, not after it
        key = _key(documents, given, *([max_vocab, min_freq] if vocab is None else [vocab.digest]))
        found = _find(key)
        if found is not None:
            return found
        if isinstance(given, UntrainedTokenizer):
            given = tokenize.SubwordTokenizer.train(
                _shown(documents, progress, f"learning {given.kind} pieces"), given.kind
            )
        if vocab is None and given.closed is not None:
            vocab = Vocab(given.closed)
        counter = given.counter()
        pieces: Iterable[tuple[SequenceIds, Ints]] = _counted(counter, documents, progress)
        if vocab is None:
            with TokenWriter(np.dtype(np.int32)) as writer:
                for rows, lengths in pieces:
                    writer.add(rows, lengths)
                sequences = writer.finish()
            vocab = Vocab.from_counts(_token_counts(counter, sequences), max_vocab, min_freq)
            pieces = cast(Iterable[tuple[SequenceIds, Ints]], sequences.pieces())
        processor = cls(given, vocab)
        return processor, processor._write(_Numbers(counter, vocab), pieces, key)

    def store(self, documents: Documents, progress: bool = True) -> TokenStore:
        """The numbers of `documents` by this vocabulary; with `progress`, a bar where it takes longer than a moment."""
        key = _key(documents, self.tokenizer, self.vocab.digest)
        found = _find(key)
        if found is not None:
            return found[1]
        numbers = self._ready or self._numbers()
        return self._write(numbers, _counted(numbers.counter, documents, progress), key)

    def _write(
        self, numbers: _Numbers, pieces: Iterable[tuple[SequenceIds, Ints]], key: str | None = None
    ) -> TokenStore:
        with TokenWriter(dtype_for(len(self.vocab)), key) as writer:
            for rows, lengths in pieces:
                writer.add(*numbers.of(rows, lengths))
            return writer.finish({} if key is None else {"processor": self.state_dict()})

    def encode_all(self, texts: Sequence[str]) -> TokenStore:
        """The numbers of some texts, in memory."""
        numbers = self._ready or self._numbers()
        return self._write(numbers, [numbers.counter.encode(texts)])

    def encode(self, text: str) -> list[int]:
        """The numbers of one text, that of `xxbos` first."""
        ids: list[int] = self.encode_all([text]).ids.tolist()
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text again."""
        return self.tokenizer.join([self.vocab[int(i)] for i in ids])

    def state_dict(self) -> dict[str, Any]:
        """Tokenizer and vocabulary as plain values; a StateError where the tokenizer is a function."""
        return {"version": _VERSION, "tokenizer": self.tokenizer.state_dict(), "vocab": self.vocab.state_dict()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TextProcessor:
        """The processor that `state_dict` was called on."""
        if not isinstance(state, Mapping) or "tokenizer" not in state or "vocab" not in state:
            raise StateError("this is not the state of a TextProcessor: it lacks its tokenizer or its vocab")
        check_version(state, _VERSION, "TextProcessor")
        return cls(tokenize.tokenizer_from_state(state["tokenizer"]), Vocab.from_state(state["vocab"]))

    def __repr__(self) -> str:
        return f"TextProcessor({self.tokenizer!r}, {len(self.vocab):,} tokens)"


class _Numbers:
    """From a counter's token sequences to the numbers of a vocabulary; those that come later are looked up then."""

    def __init__(self, counter: Counter, vocab: Vocab) -> None:
        self.counter, self._vocab = counter, vocab
        self._dtype = dtype_for(len(vocab))
        self._starts = np.zeros(0, np.int64)
        self._sizes = np.zeros(0, np.int64)
        self._flat = np.zeros(0, self._dtype)
        self._extend()

    def _extend(self) -> None:
        new = self.counter.sequences[len(self._sizes) :]
        if not new:
            return
        ids, unknown = self._vocab.ids, self._vocab.unk
        sizes = np.fromiter(map(len, new), np.int64, len(new))
        flat = np.array([ids.get(t, unknown) for sequence in new for t in sequence], self._dtype)
        self._starts = np.concatenate((self._starts, len(self._flat) + np.cumsum(sizes) - sizes))
        self._sizes = np.concatenate((self._sizes, sizes))
        self._flat = np.concatenate((self._flat, flat))

    def of(self, sequences: SequenceIds, lengths: Ints) -> tuple[Ids, Ints]:
        """The numbers of some documents out of a counter's, the beginning of each marked, and how many each has."""
        self._extend()
        sizes = self._sizes[sequences]
        ends = np.concatenate(([0], np.cumsum(sizes)))
        # Where a token's number lies in the table: where its sequence starts there, and which of it the token is.
        flat = self._flat[np.repeat(self._starts[sequences] - ends[:-1], sizes) + np.arange(ends[-1])]
        before = ends[np.concatenate(([0], np.cumsum(lengths)))]
        return np.insert(flat, before[:-1], np.array(self._vocab.bos, self._dtype)), np.diff(before) + 1


def _counted(counter: Counter, documents: Documents, progress: bool) -> Iterator[tuple[SequenceIds, Ints]]:
    """The token sequences of all documents, some documents at a time."""
    return encode_all(counter, _batches(_shown(documents, progress, "tokenising")))


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    texts: list[str] = []
    size = 0
    for text in documents:
        texts.append(text)
        size += len(text)
        if size >= _BATCH_CHARACTERS or len(texts) >= _BATCH_DOCUMENTS:
            yield texts
            texts, size = [], 0
    if texts:
        yield texts


def _shown(documents: Documents, progress: bool, what: str) -> Iterator[str]:
    """The documents, with a bar once that takes longer than a moment."""
    from tqdm.auto import tqdm

    return iter(tqdm(documents, what, unit=" documents", leave=False, delay=_PATIENCE, disable=not progress))


def _token_counts(counter: Counter, found: TokenStore) -> Mapping[str, int]:
    counts = np.zeros(len(counter.sequences), np.int64)
    for ids, _ in found.pieces():
        counts += np.bincount(ids, minlength=len(counts))
    total: Counts[str] = Counts()
    for tokens, n in zip(counter.sequences, counts.tolist(), strict=True):
        for token in tokens:
            total[token] += n
    return total


def _key(documents: Documents, tokenizer: Tokenizer, *vocab: Any) -> str | None:
    """What names a store in the cache; None where the tokenizer has no state to name it by."""
    try:
        made_by = tokenizer.name if isinstance(tokenizer, UntrainedTokenizer) else tokenizer.state_dict()
    except StateError:
        return None
    return digest(["tokens 2", documents.digest, json.dumps([made_by, vocab], sort_keys=True)])


def _find(key: str | None) -> tuple[TextProcessor, TokenStore] | None:
    """A store that was made so before; one that is damaged is made again."""
    if key is None:
        return None
    place = cache_dir() / "tokens" / key
    try:
        note = json.loads((place / NOTE).read_text(encoding="utf-8"))
        processor = TextProcessor.from_state(note["processor"])
        return processor, TokenStore.open(place, dtype_for(len(processor.vocab)), note["digest"])
    except (OSError, ValueError, KeyError, TypeError, EasyLearnError):
        return None


Result = tuple[int, SequenceIds, Ints, list[tuple[str, ...]]]
_counter: Counter | None = None
_told = 0


def encode_all(counter: Counter, batches: Iterable[list[str]]) -> Iterator[tuple[SequenceIds, Ints]]:
    """`counter.encode` of every batch, in order, by all cores if there is much to do.

    What was learned by the first batches, which are encoded here, is inherited by the processes that do the others;
    what each of them learns comes back with its results.
    """
    coming = iter(batches)
    n = usual_workers() if counter.in_workers else 0
    seen = 0
    for texts in coming:
        if n and seen >= WARM_UP:
            yield from _in_workers(counter, texts, coming, n)
        else:
            seen += sum(map(len, texts))
            yield counter.encode(texts)


def usual_workers() -> int:
    """One per core; none where processes cannot be forked, which would cost more than it gives."""
    if sys.platform != "linux" or multiprocessing.current_process().daemon:
        return 0
    cores = usable_cores()
    return min(cores, MAX_WORKERS) if cores > 1 else 0


def _in_workers(
    counter: Counter, first: list[str], rest: Iterator[list[str]], n: int
) -> Iterator[tuple[SequenceIds, Ints]]:
    base = len(counter.sequences)
    known = {sequence: i for i, sequence in reversed(list(enumerate(counter.sequences)))}  # the first of equal ones
    here: dict[int, SequenceIds] = {}  # per process: the numbers here of the sequences that it numbered after `base`

    def merged(result: Result) -> tuple[SequenceIds, Ints]:
        """A result with the numbers of this process."""
        process, ids, lengths, new = result
        numbers = [known[s] if s in known else known.setdefault(s, counter.add(s)) for s in new]
        here[process] = np.append(here.get(process, np.empty(0, np.int32)), np.array(numbers, np.int32))
        later = ids >= base
        if later.any():
            ids = ids.copy()
            ids[later] = here[process][ids[later] - base]
        return ids, lengths

    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(n, context, initializer=_begin, initargs=(counter,))
    waiting: deque[Future[Result]] = deque()
    try:
        for texts in chain([first], rest):
            with fork_beside_threads():  # these processes touch nothing but texts and arrays
                waiting.append(pool.submit(_encode, texts))
            if len(waiting) > _AHEAD * n:
                yield merged(waiting.popleft().result())
        while waiting:
            yield merged(waiting.popleft().result())
    except BrokenProcessPool as error:
        raise StateError(
            "a process that splits text into words was ended from outside, maybe for want of memory; close other "
            "programs and run again"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(counter: Counter) -> None:
    global _counter, _told
    _counter, _told = counter, len(counter.sequences)


def _encode(texts: list[str]) -> Result:
    global _told
    assert _counter is not None
    ids, lengths = _counter.encode(texts)
    new = _counter.sequences[_told:]
    _told += len(new)
    return os.getpid(), ids, lengths, new
