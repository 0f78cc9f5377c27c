"""A text as the numbers of its tokens, by the tokenizer and the vocabulary of a model file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..texts.tokenize import tokenizer_from_state
from ..texts.vocab import BOS, FLD, Vocab
from .refusals import RefusedError


class TextReader:
    """A text, or a row with the model's columns of texts, to `tokens` (1, n) and `lengths` (1)."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        processor = about.get("processor")
        if not processor:
            raise RefusedError(
                500, "the model's tokenizer is a function, which no file holds: serve the .easylearn file"
            )
        self._tokenizer = tokenizer_from_state(processor["tokenizer"])
        self.vocab = Vocab.from_state(processor["vocab"])
        columns = about.get("columns")
        self.columns = columns if columns is None or isinstance(columns, str) else list(columns)
        self._most, self._backward = about.get("max_tokens"), bool(about.get("backward"))

    def __call__(self, item: Any) -> dict[str, npt.NDArray[Any]]:
        """The arrays of one text."""
        (tokens,) = self._tokenizer.tokenize([self._text(item)])
        ids, unknown = self.vocab.ids, self.vocab.unk
        row = [ids.get(t, unknown) for t in (BOS, *tokens)]
        if self._most is not None and len(row) > self._most:
            head = max(self._most // 4, 1)
            row = row[:head] + row[len(row) - (self._most - head) :]
        if self._backward:
            row = row[:1] + row[:0:-1]
        return {"tokens": np.array([row], np.int64), "lengths": np.array([len(row)], np.int64)}

    def _text(self, item: Any) -> str:
        if isinstance(item, str):
            return item
        if not isinstance(item, Mapping):
            raise RefusedError(422, f"a text is a string, got {type(item).__name__}")
        columns = [self.columns or "text"] if not isinstance(self.columns, list) else self.columns
        absent = [c for c in columns if not isinstance(item.get(c), str)]
        if absent:
            raise RefusedError(422, f"the item has no text {absent[0]!r}; the model takes {columns}")
        if len(columns) == 1:
            return str(item[columns[0]])
        return " ".join(f"{FLD} {i} {item[c]}" for i, c in enumerate(columns, 1))
