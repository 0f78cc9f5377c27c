"""A folder with a small encoder of random weights, as sentence-transformers lays one out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

WORDS = [
    "the",
    "a",
    "film",
    "was",
    "is",
    "good",
    "great",
    "fine",
    "bad",
    "dull",
    "poor",
    "very",
    "long",
    "we",
    "##ly",
    ".",
    ",",
]
CONFIG = {
    "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 20, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "hidden_act": "gelu",
    "type_vocab_size": 2,
}  # fmt: skip


def tokenizer_json() -> str:
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    made = tokenizers.Tokenizer(models.WordPiece({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(tokens[:4])
    made.enable_truncation(8)  # as many such files do, which must not matter
    made.enable_padding(length=8)
    return str(made.to_str())


def tensors(config: Mapping[str, Any] = CONFIG) -> dict[str, Tensor]:
    size, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (4 + len(WORDS), size),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], size),
        "embeddings.token_type_embeddings.weight": (2, size),
        "embeddings.LayerNorm.weight": (size,), "embeddings.LayerNorm.bias": (size,),
        "pooler.dense.weight": (size, size), "pooler.dense.bias": (size,),
    }  # fmt: skip
    for i in range(config["num_hidden_layers"]):
        rows = {
            "attention.self.query": (size, size), "attention.self.key": (size, size),
            "attention.self.value": (size, size), "attention.output.dense": (size, size),
            "attention.output.LayerNorm": (size,), "intermediate.dense": (inner, size),
            "output.dense": (size, inner), "output.LayerNorm": (size,),
        }  # fmt: skip
        for name, shape in rows.items():
            shapes |= {f"encoder.layer.{i}.{name}.weight": shape, f"encoder.layer.{i}.{name}.bias": shape[:1]}
    generator = torch.Generator().manual_seed(0)
    return {n: 0.5 * torch.randn(s, generator=generator) + ("Norm.weight" in n) for n, s in shapes.items()}


def write_encoder_files(folder: Path, **config: Any) -> Path:
    """The folder, with its files; `config` changes entries of config.json alone."""
    from safetensors.torch import save_file

    (folder / "1_Pooling").mkdir(parents=True)
    save_file(tensors(), folder / "model.safetensors")
    (folder / "tokenizer.json").write_text(tokenizer_json())
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    steps = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds]
    files: dict[str, Any] = {
        "config.json": {**CONFIG, **config}, "modules.json": steps, "sentence_bert_config.json": {"max_seq_length": 12},
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder
