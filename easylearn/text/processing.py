"""From texts to numbers in one pass, and back."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError, DataError, EasyLearnError, SaveError, StateError, did_you_mean
from ..files import atomic_write, cache_dir, digest
from ..options import strict
from .sources import Documents
from .store import Ids, TokenStore, TokenWriter, dtype_for
from .subwords import SubwordTokenizer, UntrainedTokenizer
from .tokenize import VERSION, Counter, Forms, FunctionTokenizer, Ints, Tokenizer, WordTokenizer
from .vocab import Vocab
from .workers import encode_all

IN_MEMORY = 64 * 2**20  # bytes of numbers above which a store goes to a file
_VERSION = 1
_BATCH_CHARACTERS = 1_000_000
_BATCH_DOCUMENTS = 10_000
_STEP = 2**21  # forms that are turned into numbers at a time
_PATIENCE = 2.0  # seconds of work before a progress bar appears
_PROCESSOR = "processor.json"
_OLD_NAMES = {
    "tok": "tokenizer",
    "max_freq": "There is no highest frequency; max_vocab limits the vocabulary.",
    "min_count": "min_freq",
    "max_size": "max_vocab",
    "path": "folder",
    "texts": "documents",
}


def as_tokenizer(given: str | Tokenizer | Callable[[str], Iterable[str]] | None) -> Tokenizer:
    """A tokenizer from what users pass.

    Args:
        given: None or "word", "bpe" or "unigram" (trained later, on the training part), a tokenizer, or any function
            from a text to a list of tokens.

    Raises:
        ArgumentError: it is none of these.
    """
    if given is None or (isinstance(given, str) and given == "word"):
        return WordTokenizer()
    if isinstance(given, Tokenizer):
        return given
    if isinstance(given, str):
        if given in ("bpe", "unigram"):
            return UntrainedTokenizer("bpe" if given == "bpe" else "unigram")
        raise ArgumentError(f"there is no tokenizer {given!r}. {did_you_mean(given, ['word', 'bpe', 'unigram'])}")
    if isinstance(given, type) and issubclass(given, Tokenizer):
        raise ArgumentError(f"tokenizer must be a tokenizer, not its class: make one of {given}")
    if callable(given):
        return FunctionTokenizer(cast(Callable[[str], Iterable[str]], given))
    raise ArgumentError(
        "tokenizer must be 'word', 'bpe', 'unigram', a Tokenizer or a function from a text to a list of tokens, "
        f"got {type(given).__name__}"
    )


def tokenizer_from_state(state: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer whose `state_dict` this is. Nothing of it is executed.

    Raises:
        StateError: it is none, or of a newer version.

    >>> tokenizer_from_state(WordTokenizer(lower=False).state_dict())
    WordTokenizer(lower=False, keep_newlines=False)
    """
    kind = state.get("kind") if isinstance(state, Mapping) else None
    if kind not in ("word", "subword"):
        raise StateError(f"this is no state of a tokenizer of easylearn: its kind is {kind!r}, not 'word' or 'subword'")
    if state.get("version") != VERSION:
        raise StateError(
            f"the state of this tokenizer has version {state.get('version')!r}, this easylearn reads {VERSION}; "
            "install the easylearn that wrote it, or a newer one"
        )
    if kind == "word":
        return WordTokenizer(bool(state.get("lower", True)), bool(state.get("keep_newlines", False)))
    model = state.get("model")
    if not isinstance(model, str):
        raise StateError("this state of a SubwordTokenizer lacks its model, a JSON text")
    return SubwordTokenizer(model)


class TextProcessor:
    """A tokenizer and a vocabulary: what turns text into a model's numbers.

    Every document begins with `xxbos`.

    Args:
        tokenizer: a trained one; see `as_tokenizer` for what may be passed.
        vocab: the tokens with numbers.

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
            raise StateError(
                f"the {tokenizer.kind} tokenizer is not trained yet: use TextProcessor.fit, or tokenizer.train(texts)"
            )
        self.tokenizer = tokenizer
        self.vocab = vocab
        if vocab.tokenizer is None:
            vocab.tokenizer = tokenizer

    @classmethod
    @strict(_OLD_NAMES)
    def fit(
        cls,
        documents: Documents,
        tokenizer: str | Tokenizer | Callable[[str], Iterable[str]] | None = None,
        vocab: Vocab | None = None,
        max_vocab: int = 60_000,
        min_freq: int = 2,
        folder: Path | None = None,
        progress: bool = True,
    ) -> tuple[TextProcessor, TokenStore]:
        """Make a vocabulary, and the numbers of the documents it is made from, tokenising once.

        Memory holds a part of the documents at a time (of a single one all), the different words and 8 bytes per
        document.

        Args:
            documents: the texts to learn from.
            tokenizer: None or "word", "bpe" or "unigram" (trained here), a `Tokenizer`, or any function from a text to
                its tokens.
            vocab: use this one and count nothing.
            max_vocab: tokens at most.
            min_freq: rarer tokens become *unknown*. Subwords are all kept.
            folder: where the store goes. None keeps up to 64 MB in memory; what is larger goes to easylearn's cache
                folder, where the same call finds it again.
            progress: show a bar where it takes longer than a moment.

        Returns:
            The processor and the store.

        Raises:
            DataError: a document cannot be read.
        """
        given = as_tokenizer(tokenizer)
        Vocab.from_counts({}, max_vocab, min_freq)  # wrong sizes are refused before the work, not after it
        key = _key(documents, given, ["any", max_vocab, min_freq] if vocab is None else ["of", vocab.digest])
        found = _find(key, folder)
        if found is not None:
            return found
        if isinstance(given, UntrainedTokenizer):
            given = given.train(_shown(documents, progress, f"learning {given.kind} pieces"))
        if vocab is None and given.closed is not None:
            vocab = Vocab(given.closed)
        if vocab is not None:
            processor = cls(given, vocab)
            return processor, processor._write(documents, folder, key, progress)
        with _Forms() as forms:
            counter = given.counter()
            counts = np.zeros(0, np.int64)
            for rows, lengths in _counted(counter, documents, progress):
                more = np.bincount(rows, minlength=len(counts))
                more[: len(counts)] += counts
                counts = more
                forms.add(rows, lengths)
            processor = cls(given, Vocab.from_counts(_token_counts(counter, counts), max_vocab, min_freq))
            numbers = _Numbers(counter, processor.vocab)
            with _Sink(processor, folder, key) as sink:
                for rows, lengths in forms:
                    sink.add(*numbers.of(rows, lengths))
                return processor, sink.finish()

    @strict(_OLD_NAMES)
    def store(self, documents: Documents, folder: Path | None = None, progress: bool = True) -> TokenStore:
        """The numbers of documents, by this vocabulary.

        Args:
            documents: any texts.
            folder: where the store goes; see `fit`.
            progress: show a bar where it takes longer than a moment.
        """
        key = _key(documents, self.tokenizer, ["of", self.vocab.digest])
        found = _find(key, folder)
        return self._write(documents, folder, key, progress) if found is None else found[1]

    def _write(self, documents: Documents, folder: Path | None, key: str | None, progress: bool) -> TokenStore:
        counter = self.tokenizer.counter()
        numbers = _Numbers(counter, self.vocab)
        with _Sink(self, folder, key) as sink:
            for rows, lengths in _counted(counter, documents, progress):
                sink.add(*numbers.of(rows, lengths))
            return sink.finish()

    def encode(self, text: str) -> list[int]:
        """The numbers of one text, that of `xxbos` first."""
        number = self.vocab.id_of
        return [self.vocab.bos, *map(number, self.tokenizer.tokenize([text])[0])]

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text again.

        Raises:
            DataError: there is no such number.
        """
        return self.tokenizer.join([self.vocab[int(i)] for i in ids])

    def state_dict(self) -> dict[str, Any]:
        """Tokenizer and vocabulary as plain values.

        Raises:
            StateError: the tokenizer is a function.
        """
        return {
            "version": _VERSION,
            "tokenizer": self.tokenizer.state_dict(),
            "vocab": self.vocab.state_dict(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TextProcessor:
        """The processor that `state_dict` was called on.

        Raises:
            StateError: the state is of another version, or is none of a processor.
        """
        if not isinstance(state, Mapping) or "tokenizer" not in state or "vocab" not in state:
            raise StateError("this is not the state of a TextProcessor: it lacks its tokenizer or its vocab")
        if state.get("version") != _VERSION:
            raise StateError(
                f"the state of this TextProcessor has version {state.get('version')!r}, this easylearn reads version "
                f"{_VERSION}; install the easylearn that wrote it, or a newer one"
            )
        return cls(tokenizer_from_state(state["tokenizer"]), Vocab.from_state(state["vocab"]))

    @property
    def digest(self) -> str:
        """A fingerprint of tokenizer and vocabulary; that of a function is its name."""
        return digest([_tokenizer_key(self.tokenizer) or self.tokenizer.name, self.vocab.digest])

    def __repr__(self) -> str:
        return f"TextProcessor({self.tokenizer!r}, {len(self.vocab):,} tokens)"


class _Numbers:
    """From a counter's forms to the numbers of a vocabulary; forms that come later are looked up then."""

    def __init__(self, counter: Counter, vocab: Vocab) -> None:
        self._forms = counter.forms
        self._vocab = vocab
        self._dtype = dtype_for(len(vocab))
        self._starts = np.zeros(0, np.int64)
        self._sizes = np.zeros(0, np.int64)
        self._flat = np.zeros(0, self._dtype)

    def _extend(self) -> None:
        new = self._forms[len(self._sizes) :]
        if not new:
            return
        ids = self._vocab.ids
        unknown = self._vocab.unk
        sizes = np.fromiter(map(len, new), np.int64, len(new))
        flat = np.array([ids.get(t, unknown) for form in new for t in form], self._dtype)
        self._starts = np.concatenate((self._starts, len(self._flat) + np.cumsum(sizes) - sizes))
        self._sizes = np.concatenate((self._sizes, sizes))
        self._flat = np.concatenate((self._flat, flat))

    def of(self, forms: Forms, lengths: Ints) -> tuple[Ids, Ints]:
        """The numbers of some documents, each with its beginning marked.

        Args:
            forms: of all documents, one after the other.
            lengths: forms per document.

        Returns:
            Their numbers, and numbers per document.
        """
        self._extend()
        sizes = self._sizes[forms]
        ends = np.cumsum(sizes)
        total = int(ends[-1]) if len(ends) else 0
        # Where a token's number lies in the table: the form's start there, and the token's place in the form.
        flat = self._flat[np.repeat(self._starts[forms] - (ends - sizes), sizes) + np.arange(total)]
        before = np.concatenate(([0], ends))[np.concatenate(([0], np.cumsum(lengths)))]
        out = np.insert(flat, before[:-1], np.array(self._vocab.bos, self._dtype))
        return out, np.diff(before) + 1


class _Forms:
    """Forms of all documents: in memory as long as they are few, then in a file without a name."""

    def __init__(self) -> None:
        self._rows: list[tuple[Forms, Ints]] = []
        self._lengths: list[Ints] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._stack = ExitStack()

    def add(self, forms: Forms, lengths: Ints) -> None:
        self._rows.append((forms, lengths))
        self._bytes += forms.nbytes
        if self._bytes > IN_MEMORY:
            place = cache_dir() / "tokens"
            try:
                self._spill(place)
            except OSError as error:
                raise SaveError(
                    error.errno,
                    f"could not write a temporary file in {place}: {error.strerror or error}. Free some space, or set "
                    "EASYLEARN_CACHE to another folder",
                ) from error

    def _spill(self, place: Path) -> None:
        if self._file is None:
            place.mkdir(parents=True, exist_ok=True)
            self._file = self._stack.enter_context(tempfile.TemporaryFile(dir=place))  # noqa: SIM115
        for row, counts in self._rows:
            self._file.write(np.ascontiguousarray(row).data.cast("B"))
            self._lengths.append(counts)
        self._rows, self._bytes = [], IN_MEMORY

    def __iter__(self) -> Iterator[tuple[Forms, Ints]]:
        if self._file is not None:
            self._file.seek(0)
            for counts in self._lengths:
                data = self._file.read(4 * int(counts.sum()))
                yield np.frombuffer(data, np.int32), counts
        yield from self._rows

    def __enter__(self) -> _Forms:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


class _Sink:
    """Takes numbers, and gives a store: in memory while it is small and no folder is named."""

    def __init__(self, processor: TextProcessor, folder: Path | None, key: str | None) -> None:
        self._processor = processor
        self._key = key
        self._dtype = dtype_for(len(processor.vocab))
        self._folder = None if folder is None else Path(folder)
        self._rows: list[tuple[Ids, Ints]] = []
        self._bytes = 0
        self._writer: TokenWriter | None = None
        self._temporary = False
        if self._folder is not None:
            self._start(self._folder)

    def _start(self, folder: Path) -> None:
        # A store that is replaced must not be found by the key of another one.
        with suppress(OSError):
            (folder / _PROCESSOR).unlink()
        self._writer = TokenWriter(folder, self._dtype)
        for rows, lengths in self._rows:
            self._writer.append_many(rows, lengths)
        self._rows = []

    def add(self, ids: Ids, lengths: Ints) -> None:
        if self._writer is not None:
            self._writer.append_many(ids, lengths)
            return
        self._rows.append((ids, lengths))
        self._bytes += ids.nbytes
        if self._bytes > IN_MEMORY:
            place = cache_dir() / "tokens"
            if self._key is not None:
                self._folder = place / self._key
            else:
                place.mkdir(parents=True, exist_ok=True)
                self._folder = Path(tempfile.mkdtemp(dir=place))
                self._temporary = True
            self._start(self._folder)

    def finish(self) -> TokenStore:
        if self._writer is None:
            lengths = np.concatenate([n for _, n in self._rows])
            offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
            return TokenStore(np.concatenate([r for r, _ in self._rows]), offsets)
        assert self._folder is not None
        store = self._writer.finish()
        if self._temporary:
            weakref.finalize(store, shutil.rmtree, self._folder, ignore_errors=True)
        elif self._key is not None:
            note = {"key": self._key, "store": store.digest, "processor": self._processor.state_dict()}
            with atomic_write(self._folder / _PROCESSOR) as temporary:
                temporary.write_text(json.dumps(note), encoding="utf-8")
        return store

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.abandon()
            if self._temporary and error[0] is not None and self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)


def _counted(counter: Counter, documents: Documents, progress: bool) -> Iterator[tuple[Forms, Ints]]:
    """The forms of all documents, some documents at a time."""
    any_text = False
    for rows in encode_all(counter, _batches(_shown(documents, progress, "tokenising"))):
        any_text = True
        yield rows
    if not any_text:
        raise DataError("there are no documents; there must be one at least, even if it is empty")


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
    begun, bar = time.monotonic(), None
    try:
        for i, text in enumerate(documents):
            if bar is not None:
                bar.update()
            elif progress and time.monotonic() - begun > _PATIENCE:
                from tqdm.auto import tqdm

                bar = tqdm(initial=i, total=len(documents), desc=what, unit=" documents", leave=False)
            yield text
    finally:
        if bar is not None:
            bar.close()


def _token_counts(counter: Counter, counts: npt.NDArray[np.int64]) -> dict[str, int]:
    total: dict[str, int] = {}
    for tokens, n in zip(counter.forms, counts.tolist(), strict=False):
        for token in tokens:
            total[token] = total.get(token, 0) + n
    return total


def _tokenizer_key(tokenizer: Tokenizer) -> str | None:
    if isinstance(tokenizer, UntrainedTokenizer):
        return json.dumps(["untrained", tokenizer.kind, tokenizer.vocab_size])
    try:
        return json.dumps(tokenizer.state_dict(), sort_keys=True)
    except StateError:
        return None


def _key(documents: Documents, tokenizer: Tokenizer, vocab: Sequence[Any]) -> str | None:
    """What names a store in the cache; None where the tokenizer has no state to name it by."""
    made_by = _tokenizer_key(tokenizer)
    if made_by is None:
        return None
    return digest([f"tokens {_VERSION}", documents.digest, made_by, json.dumps(list(vocab))])


def _find(key: str | None, folder: Path | None) -> tuple[TextProcessor, TokenStore] | None:
    """A store that was made so before."""
    if key is None:
        return None
    place = cache_dir() / "tokens" / key if folder is None else Path(folder)
    try:
        note = json.loads((place / _PROCESSOR).read_text(encoding="utf-8"))
        if note["key"] != key:
            return None
        store = TokenStore.open(place)
        return (TextProcessor.from_state(note["processor"]), store) if store.digest == note["store"] else None
    except (OSError, ValueError, KeyError, TypeError, EasyLearnError):
        return None  # gone, or damaged from outside: it is made again
