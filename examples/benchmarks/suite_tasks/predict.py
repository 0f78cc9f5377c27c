"""One JPEG file in, a class out: resnet18 at 128 pixels, milliseconds per call, the median of 40 files."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .finetune import body_and_head
from .images_alone import MEAN, STD
from .photos import files_and_classes
from .settings import Repeat, Settings

SIDE = 128


def some_files(settings: Settings) -> list[str]:
    files, _ = files_and_classes(settings.photos)
    return files[:: max(len(files) // settings.pick(40, 3), 1)]


def milliseconds(settings: Settings, call: Callable[[Any], object], items: Sequence[Any]) -> float:
    call(items[0])
    took = []
    for item in items:
        begun = settings.now()
        call(item)
        took.append(settings.now() - begun)
    return statistics.median(took) * 1e3


def read(file: str) -> Tensor:
    """The middle of a picture, normalised, shape (1, 3, 128, 128)."""
    from PIL import Image

    with Image.open(file) as image:
        image.draft("RGB", (SIDE, SIDE))
        side = min(image.size)
        left, top = ((length - side) / 2 for length in image.size)
        box = (left, top, left + side, top + side)
        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
    pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)
    return ((pixels / 255 - MEAN) / STD)[None]


def net() -> nn.Module:
    return nn.Sequential(*body_and_head()).eval()


def plain(settings: Settings) -> Repeat:
    model, files = net(), some_files(settings)

    @torch.inference_mode()
    def call(file: str) -> list[float]:
        return model(read(file)).softmax(1)[0].tolist()

    return lambda: {"ms": milliseconds(settings, call, files)}


def best(settings: Settings) -> Repeat:
    """The forward pass alone: what no way of reading files can be quicker than."""
    model = net()
    pictures = [read(file) for file in some_files(settings)]

    @torch.inference_mode()
    def call(picture: Tensor) -> list[float]:
        return model(picture).softmax(1)[0].tolist()

    return lambda: {"ms": milliseconds(settings, call, pictures)}


def easylearn(settings: Settings) -> Repeat:
    """The learner, and the same model out of a file."""
    from easylearn import ImageData, load_predictor, vision_learner

    data = ImageData.from_folder(settings.photos, SIDE, valid=0.1)
    learn = vision_learner(data, "resnet18", pretrained=False, device="cpu")
    file = settings.scratch / "predict.easylearn"
    learn.export(file)
    predictor, files = load_predictor(file), some_files(settings)
    return lambda: {
        "ms": milliseconds(settings, learn.predict, files),
        "exported": milliseconds(settings, predictor.predict, files),
    }


def fastai(settings: Settings) -> Repeat:
    from fastai.vision.all import (
        ImageDataLoaders,
        Normalize,
        Resize,
        imagenet_stats,
        load_learner,
        resnet18,
        vision_learner,
    )

    loaders = ImageDataLoaders.from_folder(
        settings.photos, valid_pct=0.1, seed=0, item_tfms=Resize(SIDE), bs=32, num_workers=0,
        batch_tfms=[Normalize.from_stats(*imagenet_stats)],
    )  # fmt: skip
    file = settings.scratch / "predict.pkl"
    vision_learner(loaders, resnet18, pretrained=False).export(file)
    learn, files = load_learner(file), some_files(settings)

    def repeat() -> dict[str, float]:
        with learn.no_bar(), learn.no_logging():
            return {"ms": milliseconds(settings, learn.predict, files)}

    return repeat
