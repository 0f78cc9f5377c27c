"""What computes predictions: a graph in ONNX Runtime, or a learner's own file by torch. One engine a model file."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..artefact.check_items import MOST, check_items, refuse_difference
from ..errors import EasyLearnError, WeightsError
from ..placement import Placement, in_own_pixels, palette
from .pixels import PixelReader, count_pixels
from .refusals import MANY, Limits, RefusedError
from .rows import RowReader

Arrays = dict[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.floating[Any]]
KEY = "easylearn"  # of an ONNX file's metadata
_DTYPES = {"uint8": np.uint8, "int64": np.int64, "float32": np.float32}
_GRAPH_TYPES = {"uint8": "tensor(uint8)", "int64": "tensor(int64)", "float32": "tensor(float)"}
_EXCLUSIVE = ("single_label", "ordinal")
USUAL = 16  # tokens of the sample
_LETTERS = 64  # of a text of about the sample's length, or items of a history
_DRAWN = {"masks": "mask", "image": "image"}  # kinds of tasks whose answer is an image, and what it is called


@dataclass(frozen=True)
class Whole:
    """An image file of which a mask, or an image, is wanted at its own size."""

    data: bytes


@dataclass(frozen=True)
class Seen:
    """An image as a graph takes it, where it lies there, and the file if what is said of it is wanted at its size."""

    pixels: npt.NDArray[np.uint8]
    place: Placement | None = None
    whole: bytes | None = None


class Engine(ABC):
    """A model that is ready. Several threads may use it at once.

    Args:
        path: the model file.
        version: the digest of the file.
        task: what is predicted: its `kind`, its `names`, and what else belongs to the kind.
        items: what an item is: "images", "table", "text" or "histories".
        limits: of what a request may cost.
        stored: what the model gave for items of no meaning where it was exported, see `artefact.self_check`.
    """

    def __init__(
        self, path: Path, version: str, task: Mapping[str, Any], items: str, limits: Limits,
        stored: Mapping[str, Any] | None,
    ) -> None:  # fmt: skip
        self.path, self.version, self.task, self.items, self.stored = path, version, dict(task), items, stored
        self.names: list[str] = list(task.get("names", []))
        self._max_pixels, self._max_text = limits.max_pixels, float(limits.max_text)
        self._longest = self._max_text  # tokens of a text

    @abstractmethod
    def prepare(self, item: Any) -> Any:
        """What `run` takes of one item: the bytes of an image, or `Whole`, a row as a dictionary, a text, a history.

        Raises:
            RefusedError: it is none, or damaged.
        """

    @property
    def columns(self) -> frozenset[str]:
        """What is read of a row of a csv, all where it names none: the others of a wide one would fill memory."""
        return frozenset()

    @abstractmethod
    def run(self, prepared: Sequence[Any]) -> Floats | list[npt.NDArray[Any]]:
        """Probabilities, or numbers in their units, of some prepared items: (n, number of names); or of each by itself.

        That are maps (n, h, w), boxes (k, 6) in the file's pixels, and of a `Whole` uint8, a mask (height, width) or an
        image (height, width, 3).
        """

    @abstractmethod
    def sample(self) -> Any:
        """A prepared item of no meaning, with which speed is measured."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the page and callers need to know, as JSON."""

    def _about_task(self) -> dict[str, Any]:
        said = {"items": self.items, "task": self.task, "version": self.version}
        if self.task.get("kind") in ("masks", "boxes"):
            said["colours"] = palette(len(self.names)).tolist()
        return said

    @abstractmethod
    def run_inputs(self, given: Mapping[str, npt.NDArray[Any]]) -> Floats:
        """What `run` says of items that are prepared as a graph takes them."""

    def effort(self, item: Any) -> float:
        """How many times as long as the sample an item takes, by its size; that of an image tells nothing."""
        if self.items == "images":
            return math.inf  # a small file may hold many pixels
        if self.items == "table":
            return 1.0
        return max(1.0, self._length(item) / _LETTERS)

    def weight(self, item: Any) -> float:
        """The same as far as the model goes, which reads no more of a text than it cuts it to, and else one item."""
        return max(1.0, min(self._length(item) / _LETTERS, self._longest / USUAL)) if self.items == "text" else 1.0

    def _length(self, item: Any) -> int:
        """Letters of a text, or of all columns that are read of an item, or how many items a history has."""
        if self.items == "text" and isinstance(item, Mapping):
            read = self.columns
            item = {name: value for name, value in item.items() if not read or name in read}
        some = (item, *item.values()) if isinstance(item, Mapping) else (item,)
        return sum(len(x) for x in some if isinstance(x, str | list | Mapping))

    def _cut(self, max_tokens: int | None) -> None:
        """Note that the model cuts texts to so many tokens itself; None is not at all."""
        if max_tokens:
            self._longest, self._max_text = float(max_tokens), math.inf

    def refuse_long(self, item: Any) -> None:
        """Refuse a text of which the model would have for minutes."""
        n = self._length(item) if self.items == "text" else 0
        if n > self._max_text:
            raise RefusedError(413, f"the text has {n:,} characters; at most {self._max_text:,.0f} are taken")

    def share(self, item: Any) -> float:
        """How much of the pixels that may be answered together are those of an item."""
        if not isinstance(item, Whole):
            return 0.0
        return count_pixels(item.data) / self._max_pixels

    def refuse_many(self, items: Sequence[Any], whole: bool = False) -> None:
        """Refuse a request whose images are small ones each, but together more than it may ask for.

        They are decoded one after the other; answers at their own sizes (`whole`) are held together, and so fewer.
        """
        if self.items == "images" and len(items) > 1:
            most, n = (1 if whole else MANY) * self._max_pixels, 0
            for item in items:
                n += count_pixels(item) if isinstance(item, bytes) else 0
                if n > most:
                    raise RefusedError(
                        413, f"the images of a request may have {int(most):,} pixels together; send fewer"
                    )

    def check(self) -> None:
        """Refuse a model that does not give the numbers that it gave where it was exported."""
        try:
            given = self.run([self.sample()])
        except Exception as error:
            raise self._unchecked(error) from error
        if len(given) != 1 or not np.isfinite(given[0]).all():
            raise WeightsError(f"{self.path} gives {given} for an item of no meaning: the file is damaged")
        if given[0].ndim != 2 and given[0].shape[:1] != (len(self.names),):
            shape = list(given[0].shape)
            raise WeightsError(f"{self.path} gives numbers of the shape {shape}, and has {len(self.names)} names")
        if self.stored is None:  # a file of an older version, or a model that takes real items alone
            return
        try:
            found = self.run_inputs(check_items(self.stored["inputs"], self.stored["below"]))
            refuse_difference(self.path, found, self.stored)
        except WeightsError:
            raise
        except Exception as error:  # whatever a damaged file may lead to, in a runtime of its own errors
            raise self._unchecked(error) from error

    def _unchecked(self, error: Exception) -> WeightsError:
        return WeightsError(f"{self.path} cannot be checked: {type(error).__name__}: {error}"[:400])

    def answer(self, probs: npt.NDArray[Any]) -> dict[str, Any]:
        """What is said of one item: its label and each probability, or each number, by name."""
        kind = self.task.get("kind")
        if kind == "ranking":  # a list, and not a number for each of thousands of items
            first = np.argsort(-probs, kind="stable")[: int(self.task.get("k", 10))]
            listed = {self.names[i]: float(probs[i]) for i in first if 0 < probs[i] < math.inf}
            return {"label": list(listed), "probs": listed}
        if self.drawn:
            return self._answer_of_pixels(probs)
        if probs.ndim == 2:
            return self._answer_of_boxes(probs)
        said = (p if abs(p) < math.inf else None for p in probs.tolist())  # JSON has no word for others
        values = dict(zip(self.names, said, strict=True))
        if kind in _EXCLUSIVE:
            return {"label": self.names[int(probs.argmax())], "probs": values}
        if kind == "multi_label":
            least = np.broadcast_to(np.asarray(self.task.get("threshold", 0.5), np.float64), probs.shape)
            return {"label": [n for n, p, t in zip(self.names, probs, least, strict=True) if p >= t], "probs": values}
        return {"label": next(iter(values.values())) if len(values) == 1 else list(values.values()), "values": values}

    @property
    def drawn(self) -> str:
        """What the answer to an image is called that is an image itself: "mask" or "image", else ""."""
        return _DRAWN.get(str(self.task.get("kind")), "")

    def _answer_of_pixels(self, probs: npt.NDArray[Any]) -> dict[str, Any]:
        """Of a mask: the classes in it, the largest first, and their shares; of an image the mean of each channel."""
        file = {}
        if probs.dtype == np.uint8:
            from .maps import png_of

            file = {self.drawn: base64.b64encode(png_of(probs)).decode()}
        if self.drawn != "mask":
            means = probs.mean((0, 1)) / 255 if file else probs.mean((1, 2))
            names = ("red", "green", "blue") if file else self.names
            return {"label": "image", "values": dict(zip(names, map(float, means), strict=True)), **file}
        mask = probs if file else probs.argmax(0)
        pieces = np.array_split(mask.reshape(-1), 1 + mask.size // 2**20)  # eight bytes a pixel are taken to count
        shares = np.sum([np.bincount(piece, minlength=len(self.names)) for piece in pieces], 0) / mask.size
        found = [self.names[i] for i in np.argsort(-shares, kind="stable") if shares[i] > 0]
        return {"label": found, "probs": dict(zip(self.names, map(float, shares), strict=True)), **file}

    def _answer_of_boxes(self, found: Floats) -> dict[str, Any]:
        """The boxes that are told, the surest first, in pixels of the image; and how many there are of each class."""
        told = found[found[:, 4] >= float(self.task.get("threshold", 0.3))]
        told = told[np.argsort(-told[:, 4], kind="stable")]
        labels = [self.names[int(c)] for c in told[:, 5]]
        sides = ("xmin", "ymin", "xmax", "ymax")
        boxes = [
            {**dict(zip(sides, map(float, row[:4]), strict=True)), "label": label, "score": float(row[4])}
            for row, label in zip(told, labels, strict=True)
        ]
        counts = {name: float(labels.count(name)) for name in self.names}
        return {"label": sorted(set(labels)), "values": counts, "boxes": boxes}


class OnnxEngine(Engine):
    """A graph that `learn.export(path, format="onnx")` wrote, in ONNX Runtime; its metadata tells all else."""

    def __init__(self, path: Path, limits: Limits) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise WeightsError(f"{path} needs ONNX Runtime: pip install onnxruntime") from error
        held = path.read_bytes()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # External data would be other files, named by this one; out of bytes there are none to be found.
        try:
            self._session = onnxruntime.InferenceSession(held, options, providers=["CPUExecutionProvider"])
            said = json.loads(self._session.get_modelmeta().custom_metadata_map[KEY])
            self._outputs = [self._session.get_outputs()[0].name]
        except KeyError as error:
            raise WeightsError(
                f'{path} says nothing of its items: write it with learn.export(.., format="onnx")'
            ) from error
        except Exception as error:  # the runtime raises its own kinds, in dozens
            raise WeightsError(f"{path} cannot be opened as an ONNX file: {str(error)[:300]}") from error
        try:
            about = said["about"]
            version = hashlib.sha256(held).hexdigest()
            super().__init__(path, version, said["task"], _kind_of_items(path, about), limits, said.get("check"))
            self._about = about
            self._inputs = {i["name"]: i for i in said["inputs"]}
            self._pad = int(about["pad"]) if self.items == "text" else 0
            self._cut(about.get("max_tokens"))
            self._read = self._reader(limits)
            self._refuse_other_inputs()
        except EasyLearnError:
            raise
        except ImportError as error:  # such as tokenizers, which the runtime alone does not install
            raise WeightsError(f"{path} needs {error.name}: pip install {error.name}") from error
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise WeightsError(
                f"{path} describes its items otherwise than learn.export does ({type(error).__name__}: {error}); "
                "export it anew"
            ) from error

    def _refuse_other_inputs(self) -> None:
        """Refuse a file whose words and whose graph have other inputs: each request would fail in the runtime."""
        graph = {i.name: (i.type, list(i.shape)) for i in self._session.get_inputs()}
        told = [(name, _GRAPH_TYPES.get(said["dtype"]), said["shape"]) for name, said in self._inputs.items()]
        told += [(name, "none", []) for name in graph if name not in self._inputs]
        if isinstance(self._read, PixelReader):
            told.append(("pixels", _GRAPH_TYPES["uint8"], ["batch", *self._read.shape]))
        for name, kind, shape in told:
            found, wanted = graph.get(name, ("none", []))
            fixed = ({n for n in pair if isinstance(n, int)} for pair in zip(shape, wanted, strict=False))
            if kind != found or len(shape) != len(wanted) or any(len(pair) > 1 for pair in fixed):
                raise WeightsError(
                    f"{self.path} says that its input {name[:60]!r} is {kind} {shape}, and in its graph it is {found} "
                    f"{wanted}: the file is damaged; export it anew"
                )

    def _reader(self, limits: Limits) -> Callable[[Any], Any]:
        if self.items == "images":
            return PixelReader(self._about, limits.max_pixels)
        if self.items == "table":
            return RowReader(self._about)
        if self.items == "histories":
            from .persons import PersonReader

            return PersonReader(self.names)
        from .sentences import TextReader

        return TextReader(self._about)

    def prepare(self, item: Any) -> Any:
        if not isinstance(self._read, PixelReader):
            self.refuse_long(item)
            return self._read(item)
        whole = item.data if isinstance(item, Whole) else None
        return Seen(*self._read.placed(_bytes(item if whole is None else whole)), whole)

    def run(self, prepared: Sequence[Any]) -> Floats | list[npt.NDArray[Any]]:
        arrays = [{"pixels": one.pixels} if isinstance(one, Seen) else one for one in prepared]
        found = self.run_inputs({name: self._together([one[name] for one in arrays]) for name in self._inputs})
        if found.ndim == 2:
            return found
        return [
            self._laid(row, one) if isinstance(one, Seen) else row for row, one in zip(found, prepared, strict=True)
        ]

    def _laid(self, row: Floats, seen: Seen) -> npt.NDArray[Any]:
        """What the graph says of an image, laid back upon it."""
        place = seen.place
        if place is None:  # no model of pixels cuts its images
            return row
        if row.ndim == 2:
            return np.concatenate([in_own_pixels(row[:, :4], place), row[:, 4:]], 1)
        if seen.whole is None:
            return place.inside(row)
        from .maps import image_of, mask_of

        if self.drawn == "mask":
            return mask_of(row, place)
        light = self._read.own_size(seen.whole) if isinstance(self._read, PixelReader) and len(row) == 2 else None
        return image_of(row, place, light)

    def run_inputs(self, given: Mapping[str, npt.NDArray[Any]]) -> Floats:
        self._refuse_empty(given)
        probs: Floats = self._session.run(self._outputs, {name: given[name] for name in self._inputs})[0]
        return probs

    def _together(self, some: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        if len(some) == 1:
            return some[0]
        if some[0].ndim == 2 and self.items == "text":
            longest = max(x.shape[1] for x in some)
            some = [np.pad(x, ((0, 0), (0, longest - x.shape[1])), constant_values=self._pad) for x in some]
        return np.concatenate(some)

    def sample(self) -> Arrays:
        made: Arrays = {}
        for name, said in self._inputs.items():
            shape = [1 if n == "batch" else USUAL if n == "time" else int(n) for n in said["shape"]]
            n = math.prod(shape)
            if n > MOST:
                raise WeightsError(f"the input {name[:60]!r} is {str(shape)[:60]}: the file is damaged")
            values = np.arange(n) * 37 % 251 if said["dtype"] == "uint8" else np.zeros(n)
            made[name] = values.astype(_DTYPES[said["dtype"]]).reshape(shape)
        if "lengths" in made:
            made["lengths"][:] = USUAL
        return made

    def tensors(self, given: Mapping[str, npt.NDArray[Any]]) -> Floats:
        """What the graph gives for inputs that are prepared already."""
        absent = [n for n in self._inputs if n not in given]
        if absent:
            raise RefusedError(400, f"the input {absent[0]!r} is missing; the graph takes {list(self._inputs)}")
        for name, said in self._inputs.items():
            x = given[name]
            if (
                x.dtype != _DTYPES[said["dtype"]]
                or len(x.shape) != len(said["shape"])
                or any(isinstance(n, int) and n != m for n, m in zip(said["shape"], x.shape, strict=True))
            ):
                raise RefusedError(
                    400,
                    f"the input {name!r} is {said['dtype']} of shape {said['shape']}, got {x.dtype} of {list(x.shape)}",
                )
        self._refuse_empty(given)
        rows = {len(given[n]) for n in self._inputs}
        if len(rows) != 1:
            raise RefusedError(400, f"the inputs have different numbers of items: {sorted(rows)}")
        self._check_codes(given)
        return self.run_inputs(given)

    def _refuse_empty(self, given: Mapping[str, npt.NDArray[Any]]) -> None:
        """Kernels may end the process where there is nothing: an LSTM of ONNX Runtime does."""
        for name, said in self._inputs.items():
            may_be = self.items == "table" and said["shape"][1:] == [0]  # there are only categories, or only numbers
            if not given[name].size and not (may_be and len(given[name])):
                raise RefusedError(400, f"the input {name!r} is empty, its shape is {list(given[name].shape)}")

    def _check_codes(self, given: Mapping[str, npt.NDArray[Any]]) -> None:
        """Codes are positions in tables of vectors, which some kernels read without a look at their size."""
        if "tokens" in given:
            n = int(self._about.get("n_tokens", 0))
            if given["tokens"].min() < 0 or given["tokens"].max() >= n:
                raise RefusedError(400, f"tokens are numbers from 0 to {n - 1}")
            if given["tokens"].shape[1] > self._longest:
                raise RefusedError(413, f"a text has {self._longest:,.0f} tokens at most")
            if (
                "lengths" in given
                and not ((given["lengths"] >= 1) & (given["lengths"] <= given["tokens"].shape[1])).all()
            ):
                raise RefusedError(400, f"lengths are from 1 to {given['tokens'].shape[1]}")
        if "cats" in given and isinstance(self._read, RowReader):
            most = np.array([len(c.levels) + 2 for c in self._read.cats])
            if ((given["cats"] < 0) | (given["cats"] >= most)).any():
                raise RefusedError(400, f"cats are codes below {most.tolist()}")

    @property
    def columns(self) -> frozenset[str]:
        if isinstance(self._read, RowReader):
            return frozenset(self._read.names)
        return columns_of(self._about.get("columns"))

    @property
    def about(self) -> Mapping[str, Any]:
        """How items are prepared, as the file says it."""
        about: Mapping[str, Any] = self._about
        return about

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """Name, dtype and shape of each input of the graph."""
        return list(self._inputs.values())

    def describe(self) -> dict[str, Any]:
        said: dict[str, Any] = {"engine": "onnx", **self._about_task()}
        if isinstance(self._read, RowReader):
            said["form"] = self._read.form()
        return said


def columns_of(named: Any) -> frozenset[str]:
    """The columns of texts that a model file names: one, several, or none, which is "text"."""
    return frozenset([named] if isinstance(named, str) else [str(name) for name in named or ["text"]])


def _bytes(item: Any) -> bytes:
    if not isinstance(item, bytes):
        raise RefusedError(422, f"an image is the bytes of its file, got {type(item).__name__}")
    return item


def not_served(path: Path, kind: str) -> WeightsError:
    """What is said of a file whose items nobody can send, with what to do."""
    what = "has items of several inputs" if kind == "multi" else f"is about {kind!r:.60}"
    return WeightsError(
        f"{path} {what}; images, tables, texts and histories are served. In a program of your own load_predictor of "
        "the .easylearn file has its predictions"
    )


def _kind_of_items(path: Path, about: Mapping[str, Any]) -> str:
    found = about.get("kind") or ("images" if "size" in about else "table" if "cat_names" in about else "text")
    if found in ("pixels", "boxes", "made_images"):
        return "images"
    if found not in ("images", "table", "text", "histories"):
        raise not_served(path, str(found))
    return str(found)
