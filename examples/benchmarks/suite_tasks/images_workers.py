"""The same as `images_alone`, with two worker processes; their start is in the time."""

from __future__ import annotations

from .images_alone import best_loader, fastai_loader, our_rates, plain_loader, rate
from .settings import Repeat, Settings

WORKERS = 2


def plain(settings: Settings) -> Repeat:
    loader = plain_loader(settings, WORKERS)
    return lambda: {"rate": rate(settings, loader)}


def best(settings: Settings) -> Repeat:
    loader = best_loader(settings, WORKERS)
    return lambda: {"rate": rate(settings, loader)}


def easylearn(settings: Settings) -> Repeat:
    return lambda: our_rates(settings, WORKERS)


def fastai(settings: Settings) -> Repeat:
    loader = fastai_loader(settings, WORKERS)
    return lambda: {"rate": rate(settings, loader)}
