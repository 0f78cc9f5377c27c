"""Whatever encoder of texts Hugging Face's library builds, used as `Bert` is; the extra `transformers` brings it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..errors import ArgumentError
from .bert import BertShape, TextEncoder, real_tokens
from .registry import register


def library() -> Any:
    """The package transformers; an ArgumentError says how to get it."""
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ArgumentError(
            'an encoder of another kind than BERT needs transformers: pip install "easylearn[transformers]"'
        ) from error


@register("easylearn.hugging_face")
class HuggingFace(TextEncoder):
    """An encoder that `transformers.AutoModel` makes of a `config.json`, with random weights.

    Args:
        config: the contents of that file.
        shape: size of the vocabulary, how the vector is made; and the sizes, which are those of `config`.
        first: number of the encoder's first token in our vocabulary, after special tokens that never come.
    """

    def __init__(self, config: Mapping[str, Any], shape: BertShape, first: int) -> None:
        super().__init__(shape)
        self.first = first
        hub = library()
        try:
            self.net: nn.Module = hub.AutoModel.from_config(hub.AutoConfig.for_model(**config))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArgumentError(f"transformers cannot build an encoder of {str(config)[:200]}: {error}") from error
        self.n_layers = shape.n_layers

    def outputs(self, x: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """See `TextEncoder.outputs`."""
        real = real_tokens(x, lengths)
        tokens = (x - self.first).clamp_min(0)  # padding is not looked at
        found = self.net(input_ids=tokens, attention_mask=real.long(), output_hidden_states=True)
        return [*found.hidden_states[:-1], found.last_hidden_state], real

    def halves(self) -> list[tuple[nn.Module, ...]]:
        """See `TextEncoder.halves`: the layers are in the one list that has as many."""
        lists = [m for m in self.net.modules() if isinstance(m, nn.ModuleList) and len(m) == self.n_layers]
        if not lists:
            raise ArgumentError(f"{type(self.net).__name__} has no list of its {self.n_layers} layers")
        late = tuple(lists[0][self.n_layers // 2 :])
        within = {id(m) for layer in late for m in layer.modules()}
        leaves = (m for m in self.net.modules() if next(m.children(), None) is None)
        return [tuple(m for m in leaves if id(m) not in within), late]
