"""Tokens per second while training an AWD-LSTM with all its dropouts, beside plain `nn.LSTM`s without any, in turn.

    python examples/benchmarks/awd_lstm.py
    python examples/benchmarks/awd_lstm.py --emb 200 --hidden 600 --vocab 16000 --batch-size 64

Both have the same sizes, a tied decoder, cross-entropy and fused AdamW. The plain one has no dropout and no activation
penalties: it is the bound. Words follow Zipf's law. Both keep freed memory, as `fit` does on the CPU; with
--give-back neither does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from easylearn.device import keep_freed_memory
from easylearn.nn.awd_lstm import AWDLSTM, EncoderOutput, activation_penalty
from easylearn.nn.text_models import LanguageModel

Batches = list[tuple[Tensor, Tensor]]


class Plain(nn.Module):
    def __init__(self, vocab: int, emb: int, hidden: int, layers: int) -> None:
        super().__init__()
        widths = [emb, *[hidden] * (layers - 1), emb]
        self.embedding = nn.Embedding(vocab, emb, padding_idx=1)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.rnns = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in zip(widths[:-1], widths[1:]))  # noqa: B905, RUF007
        self.bias = nn.Parameter(torch.zeros(vocab))
        self.state: list[tuple[Tensor, Tensor] | None] = [None] * layers

    def forward(self, x: Tensor) -> Tensor:
        out = self.embedding(x)
        for i, rnn in enumerate(self.rnns):
            out, (h, c) = rnn(out, self.state[i])
            self.state[i] = (h.detach(), c.detach())
        return F.linear(out, self.embedding.weight, self.bias)


def windows(vocab: int, batch_size: int, bptt: int, steps: int) -> Batches:
    share = 1 / torch.arange(1, vocab + 1).float()
    n = batch_size * (bptt * steps + 1)
    tokens = torch.multinomial(share, n, True, generator=torch.Generator().manual_seed(1)).view(batch_size, -1)
    return [
        (tokens[:, i : i + bptt].contiguous(), tokens[:, i + 1 : i + bptt + 1].contiguous())
        for i in range(0, bptt * steps, bptt)
    ]


def plain(chosen: argparse.Namespace) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]:
    model = Plain(chosen.vocab, chosen.emb, chosen.hidden, chosen.layers)
    return model, lambda x, y: F.cross_entropy(model(x).flatten(0, 1), y.flatten())


def ours(chosen: argparse.Namespace) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]:
    model = LanguageModel(AWDLSTM(chosen.vocab, chosen.emb, chosen.hidden, chosen.layers))
    outputs: list[EncoderOutput] = []
    model.encoder.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    carry = torch.tensor(True)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x, carry).flatten(0, 1), y.flatten()) + activation_penalty(outputs.pop())

    return model, loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"emb": 400, "hidden": 1152, "layers": 3, "vocab": 10_000, "batch-size": 32, "bptt": 70, "steps": 2}
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", help="write the figures here, too")
    parser.add_argument("--quick", action="store_true", help="one short repeat of a small one, to see that it runs")
    parser.add_argument("--give-back", action="store_true", help="do not keep freed memory")
    chosen = parser.parse_args()
    if not chosen.give_back:
        keep_freed_memory()
    if chosen.quick:
        chosen.repeats, chosen.emb, chosen.hidden, chosen.vocab, chosen.batch_size = 1, 20, 30, 100, 4
    batches = windows(chosen.vocab, chosen.batch_size, chosen.bptt, chosen.steps)
    kinds = {}
    for name, make in {"nn.LSTM, nothing dropped": plain, "AWD-LSTM, all dropouts": ours}.items():
        torch.manual_seed(0)
        model, loss = make(chosen)
        model.train()
        kinds[name] = (loss, torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=True))
    took: dict[str, list[float]] = {name: [] for name in kinds}
    parts: dict[str, list[list[float]]] = {name: [] for name in kinds}
    for repeat in range(chosen.repeats + 1):
        for name, (loss, optimizer) in kinds.items():
            begun = time.perf_counter()
            forward = backward = 0.0
            for x, y in batches:
                t0 = time.perf_counter()
                value = loss(x, y)
                t1 = time.perf_counter()
                value.backward()
                t2 = time.perf_counter()
                optimizer.step()
                optimizer.zero_grad()
                forward, backward = forward + t1 - t0, backward + t2 - t1
            seconds = time.perf_counter() - begun
            if repeat or chosen.quick:  # the first round warms up
                took[name].append(len(batches) * chosen.batch_size * chosen.bptt / seconds)
                parts[name].append([part / len(batches) for part in (forward, backward, seconds - forward - backward)])
    medians = {name: statistics.median(values) for name, values in took.items()}
    base = next(iter(medians.values()))
    for name, values in took.items():
        split = " + ".join(f"{statistics.median(part):.3f}" for part in zip(*parts[name], strict=True))
        print(
            f"{name:26s} {medians[name]:7.0f} tokens/s [{min(values):.0f}, {max(values):.0f}]  "
            f"{medians[name] / base:.3f}  forward + backward + step: {split} s"
        )
    if chosen.json:
        with open(chosen.json, "w", encoding="utf-8") as file:
            figures = {"torch": torch.__version__, "threads": torch.get_num_threads(), "tokens_per_second": took}
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
