"""What is compared with what, and what easylearn aims at. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .intervals import Interval

IMPLEMENTATIONS = ("plain", "best", "easylearn", "fastai", "lightning", "skorch")
OURS = {"easylearn": "easylearn", "before": "easylearn"}
"""What is easylearn: the one beside this file, and the one of `--against`, measured by the same functions."""

PEERS = {"fastai": "fastai", "lightning": "lightning", "skorch": "skorch"}
"""Those that need not be there, and the package that brings each."""

PARTS = {
    "loop": ("loop",),
    "loaders": ("loaders",),
    "images": ("images_alone", "images_workers"),
    "finetune": ("finetune",),
    "text": ("text",),
    "table": ("table_epoch", "table_prepare"),
    "predict": ("predict",),
    "import": ("imports",),
}
"""The tasks, each with the modules beside this one that measure it; an implementation has a process for each."""

HAVE = {
    "loop": IMPLEMENTATIONS,
    "loaders": IMPLEMENTATIONS,
    "images_alone": ("plain", "best", "easylearn", "fastai"),
    "images_workers": ("plain", "best", "easylearn", "fastai"),
    "finetune": ("plain", "best", "easylearn", "fastai"),
    "text": ("plain", "best", "easylearn", "fastai"),
    "table_epoch": ("plain", "best", "easylearn", "fastai"),
    "table_prepare": ("plain", "best", "easylearn", "fastai"),
    "predict": ("plain", "best", "easylearn", "fastai"),
    "imports": IMPLEMENTATIONS,
}
"""Which implementations each module has: functions of these names."""

NEED_PHOTOS = ("images", "predict")

ONE_THREAD = ("loop", "loaders")
"""Parts in which torch gets one thread: with two, a network this small mostly waits for the other at each product of
matrices, and for ten times as long where something else needs the processor."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        part: the module that measures it.
        title: what is measured.
        figure: what a repeat of an implementation calls it.
        unit: of the figure.
        aim: the ratio to the base that easylearn wants; None wants nothing.
        more_is_better: rates; False for times and sizes.
        base: what counts as 1.
        base_figure: of it; the same as `figure` if not given.
        others: by implementation, its figures where they are not `figure`, each with a word that says what it is.
        leave_out: implementations that have no business in this row.
    """

    part: str
    title: str
    figure: str
    unit: str
    aim: float | None = None
    more_is_better: bool = False
    base: str = "plain"
    base_figure: str | None = None
    others: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    leave_out: tuple[str, ...] = ()

    def figures_of(self, implementation: str) -> tuple[tuple[str, str], ...]:
        """(figure, word) for each number that stands in an implementation's cell."""
        if implementation in self.leave_out:
            return ()
        if implementation == self.base and self.base_figure is not None:
            return ((self.base_figure, ""),)
        return self.others.get(implementation, ((self.figure, ""),))

    def side(self, ratio: Interval, of: float) -> str:
        """On which side of a number a ratio lies: "good" or "bad" if its whole interval does, else "open"."""
        if ratio.low <= of <= ratio.high:
            return "good" if ratio.low == ratio.high else "open"
        return "good" if (ratio.low > of) == self.more_is_better else "bad"


LIGHTNING = {"lightning": (("bare", "bare"), ("us", "defaults"))}
PEERS_OUT = ("fastai", "lightning", "skorch")

ROWS = (
    Row("loop", "tiny network, ready batches, the same AdamW: time per step", "us", "us", 1.1, others=LIGHTNING),
    Row("loop", "the same, easylearn's own AdamW (fused)", "default", "us", 1.0, base_figure="us",
        others={"best": (("us", ""),)}, leave_out=PEERS_OUT),
    Row("loop", "the same, torch's fused AdamW on both sides", "fused", "us", 1.15, base="best", base_figure="us",
        leave_out=("plain", *PEERS_OUT)),
    Row("loop", "the same, easylearn's own AdamW beside torch's fused one", "default", "us", 1.1, base="best",
        base_figure="us", leave_out=("plain", *PEERS_OUT)),
    Row("loaders", "the same through each one's own loader, the same AdamW", "us", "us", 1.15,
        others={"best": (("us", "fused"), ("dataloader", "DataLoader"))}),
    Row("loaders", "the same, easylearn's own AdamW (fused)", "default", "us", 1.0, base_figure="us",
        others={"best": (("us", ""),)}, leave_out=PEERS_OUT),
    Row("images_alone", "JPEG folder to augmented 224 px batches, 0 workers, first epoch", "rate", "images/s", 1.5,
        True),
    Row("images_alone", "the same, from the second epoch", "second", "images/s", 5.0, True, base_figure="rate",
        leave_out=("best", "fastai")),
    Row("images_workers", "the same, 2 workers, first epoch", "rate", "images/s", 1.7, True),
    Row("images_workers", "the same, from the second epoch", "second", "images/s", 5.0, True, base_figure="rate",
        leave_out=("best", "fastai")),
    Row("finetune", "resnet18 at 128 px, body frozen", "head", "steps/s", 1.3, True,
        others={"fastai": (("head", "default"), ("head_no_bn", "train_bn=False"))}),
    Row("finetune", "the same with precomputed features", "precomputed", "steps/s", 100.0, True, base_figure="head",
        leave_out=("fastai",)),
    Row("finetune", "whole resnet18", "whole", "steps/s", 1.12, True),
    Row("text", "AWD-LSTM 400/1152 x 3, vocabulary 10,000", "rate", "tokens/s", 0.98, True),
    Row("table_epoch", "table, a whole epoch, the same sizes", "rate", "rows/s", 1.15, True),
    Row("table_epoch", "the same, easylearn's default (numbers embedded)", "default", "rows/s", None, True,
        base_figure="rate", leave_out=("best", "fastai")),
    Row("table_prepare", "table, preprocessing: time", "seconds", "s", 0.65),
    Row("table_prepare", "table, preprocessing: extra memory", "megabytes", "MB", 1.2),
    Row("predict", "one image file through predict, resnet18 at 128 px", "ms", "ms", 1.05),
    Row("predict", "the same, out of an exported file", "exported", "ms", 1.05, base_figure="ms",
        others={"best": (("ms", ""),)}, leave_out=("fastai",)),
    Row("imports", "import, against `import torch`", "seconds", "s", 1.1,
        others={"best": (("torchvision", "torchvision"),)}),
)  # fmt: skip
