"""A learner's own file, by torch: `load_predictor`, bit for bit."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError, EasyLearnWarning
from .engine import Engine, Floats, Whole, columns_of, not_served
from .pixels import opened
from .refusals import Limits, RefusedError

_TAKEN: Mapping[str, tuple[type, ...]] = {
    "images": (bytes,), "table": (Mapping,), "text": (str, Mapping), "histories": (list, Mapping)
}  # fmt: skip


class TorchEngine(Engine):
    """What `load_predictor` opens. It needs torch, and takes every architecture."""

    def __init__(self, path: Path, limits: Limits) -> None:
        import torch

        from ..export import load_predictor
        from ..texts.preprocess import TextPreprocessor
        from ..vision.preprocess import ImagePreprocessor

        torch.set_num_threads(1)
        # Of callers' items: Python would keep the text of each for ever. Those of whoever else is here are told.
        warnings.filterwarnings("ignore", category=EasyLearnWarning, module=re.escape(str(__package__)))
        self._predictor = load_predictor(path, device="cpu")
        preprocessor = self._predictor.preprocessor
        self._most = int(limits.max_pixels)
        if isinstance(preprocessor, ImagePreprocessor):
            self._most = min(preprocessor.max_pixels, self._most)
            preprocessor = replace(preprocessor, max_pixels=self._most, workers=0)
            self._predictor = replace(self._predictor, preprocessor=preprocessor)
        kind = "images" if isinstance(preprocessor, ImagePreprocessor) else preprocessor.kind
        if kind not in _TAKEN:
            raise not_served(path, kind)
        version = hashlib.sha256(path.read_bytes()).hexdigest()
        check = self._predictor.info.get("check")
        super().__init__(path, version, self._predictor.task.to_json(), kind, limits, check)
        self._columns = None
        if isinstance(preprocessor, TextPreprocessor):
            self._columns = preprocessor.columns
            self._cut(preprocessor.max_tokens)

    def prepare(self, item: Any) -> Any:
        """The item, if it is of the kind that the model takes; text is never taken for the name of a file."""
        if isinstance(item, Whole):
            self.prepare(item.data)
            return item
        if not isinstance(item, _TAKEN[self.items]):
            raise RefusedError(422, f"the model takes {self.items}, got {type(item).__name__}")
        if self.items == "text" and isinstance(item, Mapping) and self._columns is None:
            item = item.get("text", item)
        self.refuse_long(item)
        if self.items == "images":
            with opened(item, self._most):  # the limits of its header, in the words of the other engine
                pass
        try:
            self._predictor.preprocessor.read([item] if self.items == "histories" else item)  # [] is one, too
        except DataError as error:
            raise RefusedError(422, str(error)) from error
        except UnicodeError as error:  # tables of texts have none of it, JSON has
            raise RefusedError(422, f"{_broken([item])} holds half of a character") from error
        return item

    @property
    def columns(self) -> frozenset[str]:
        if self.items == "table":
            return frozenset(map(str, self._predictor.preprocessor.processor.names))  # type: ignore[attr-defined]
        return columns_of(self._columns)

    def run(self, prepared: Sequence[Any]) -> Floats | list[npt.NDArray[Any]]:
        from ..task import BoxPredictions, Predictions

        items = [item.data if isinstance(item, Whole) else item for item in prepared]
        try:
            said = self._predictor.predict(items)
        except DataError as error:
            raise RefusedError(422, str(error)) from error
        except UnicodeError as error:
            raise RefusedError(422, f"{_broken(prepared)} holds half of a character") from error
        if isinstance(said, BoxPredictions):
            return said.placed
        if isinstance(said, Predictions) and said.task.of_pixels and said.places:  # not what is around the images
            each = zip(prepared, said.probs, said.places, strict=True)
            return [
                self._whole(said[i], item.data) if isinstance(item, Whole) else place.inside(row).numpy()
                for i, (item, row, place) in enumerate(each)
            ]
        probs: Floats = said.probs.numpy()
        return probs

    @staticmethod
    def _whole(said: Any, file: bytes) -> npt.NDArray[Any]:
        """The mask of an image file, or the image that is made of it, at its own size."""
        from ..task.mask_predictions import MaskPrediction
        from ..vision.image2image import image_said

        if isinstance(said, MaskPrediction):
            return said.mask
        return np.array(image_said(said, file))

    def run_inputs(self, given: Mapping[str, npt.NDArray[Any]]) -> Floats:
        import torch

        from ..artefact.self_check import run_model

        p = self._predictor
        run = run_model(p.model, p.task, p.preprocessor, p.strategy)
        probs: Floats = run(tuple(torch.from_numpy(x) for x in given.values())).numpy()
        return probs

    def sample(self) -> Any:
        if self.items == "histories":
            return {}
        if self.items == "images":
            import io

            from PIL import Image

            held = io.BytesIO()
            Image.fromarray((np.arange(64 * 64 * 3) % 251).astype(np.uint8).reshape(64, 64, 3)).save(held, "png")
            return held.getvalue()
        if self.items == "text":
            return "a text of no meaning"
        return dict.fromkeys(self._predictor.preprocessor.processor.names)  # type: ignore[attr-defined]

    def describe(self) -> dict[str, Any]:
        said: dict[str, Any] = {"engine": "torch", **self._about_task()}
        if self.items == "table":
            from .rows import RowReader

            said["form"] = RowReader(self._predictor.preprocessor.recipe()).form()
        return said


def _broken(items: Sequence[Any]) -> str:
    """Where some items have text that UTF-8 cannot hold; only in JSON it can be written."""
    named = (pair for item in items if isinstance(item, Mapping) for pair in item.items())
    found = next((n for n, value in named if any(re.search("[\ud800-\udfff]", str(x)) for x in (n, value))), None)
    return "the item" if found is None else f"column {found!r:.60}"


def preload_torch() -> None:
    """Import what opening a model file does."""
    from .. import export  # noqa: F401
