"""multi_learner: items with several inputs in, a Learner out; each branch is made as a learner of its own would be."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch import Tensor, nn

from .. import keyed
from ..data.branched import BranchedData
from ..data.bunch import Data
from ..data.loaders import first_outputs
from ..errors import ArgumentError, check_whole, did_you_mean
from ..learning import Learner, Training, TrainingOptions
from ..metrics import Metric
from ..nn.branched import Average, Branched, stored_branches
from ..nn.dropout import Dropout
from ..nn.embeddings import TableModel, TableOutput
from ..options import strict
from ..tabular.data import TabularData
from ..tabular.learner import tabular_learner
from ..task import Task
from ..texts.data import TextData
from ..texts.learner import text_classifier_learner
from ..vision.data import ImageData
from ..vision.learner import vision_learner

if TYPE_CHECKING:
    from typing_extensions import Unpack

Fuse = Literal["evidence", "mean", "concat"]
CLIP = 2.0
# Dropout of the heads on pretrained bodies. With the 0.1 of a learner of its own, 25 epochs make each branch worse than
# the linear model that its head starts from (docs/log.md).
DROP = 0.8
_OF_ALL = {"precompute", "bn_freeze", *(field.name for field in fields(Training))}
_OLD_NAMES = {
    "arch": "image", "body": "text", "layers": 'Give it to the table: table={"layers": (200, 100)}.',
    "opt_func": "optimizer", "opt_fn": "optimizer", "loss_func": "loss", "cbs": "callbacks",
}  # fmt: skip


@strict(_OLD_NAMES, Training)
def multi_learner(
    data: BranchedData, *, image: Any = None, text: Any = None, table: Any = None, fuse: Fuse = "evidence",
    precompute: bool | Sequence[str] = False, width: int = 128, **options: Unpack[TrainingOptions],
) -> Learner:  # fmt: skip
    """A learner for items with several inputs: for each branch a model, a head and a loss; what they say is added up.

    A branch is made as `vision_learner`, `text_classifier_learner` or `tabular_learner` makes a learner, and is frozen
    as that is; but linear heads on pretrained bodies drop 0.8 of their features, where nothing else is said, and so
    stay near the models that they start from. Its layer groups are called "image.stem", "image.late", "image.head" and
    so on, of which `learn.unfreeze("image")` and `learn.fit({"image.late": 1e-4, "image.head": 1e-3}, 2)` speak;
    `freeze`, slices of rates and `bn_freeze` do in each branch what they do in a learner of its own. Where an item has
    no image or no text, that branch is left out of its loss and of what is put together.

    A head that starts as a linear model tells, by items held back from it, whether its input says anything of what is
    predicted; where it does not, the branch is left out of what is put together, with a warning.

    Args:
        data: the items.
        image: the architecture of the images, as in `vision_learner`; or a dictionary of what that takes, such as
            {"arch": "resnet34", "ps": 0.2}. Where there are several branches of images, a dictionary by branch, too.
        text: the encoder of the texts, the `body` of `text_classifier_learner`; None reads with an AWD-LSTM. A
            dictionary is of what that takes, or by branch.
        table: a dictionary of what `tabular_learner` takes, such as {"layers": (200, 100)}.
        fuse: "evidence" adds up how far the logits of each branch lie from those of the base rates, and divides by the
            root of how many branches there are; "mean" averages probabilities; of numbers both are the mean. Each
            branch is trained by a loss of its own. "concat" puts vectors of the branches side by side, under one layer
            with one loss.
        precompute: train on stored outputs of frozen bodies; names of branches leave the others as they are, to be
            augmented for example. A branch whose body is unfrozen is stored no more.
        width: numbers of a branch's vector for "concat".

    Returns:
        The learner. `branches(learn)` says what each branch is worth, `branch_learner(learn, "image")` gives one.

    Raises:
        ArgumentError: a branch has no model, or an argument is unknown.
        WeightsError: the weights cannot be had; the message says where to put a file.
    """
    if not isinstance(data, BranchedData):
        raise ArgumentError(f"multi_learner needs MultiData, got {type(data).__name__}")
    if fuse not in get_args(Fuse):
        raise ArgumentError(f"fuse must be one of {get_args(Fuse)}, got {fuse!r}")
    check_whole("width", width)
    given: dict[type[Data[Any]], tuple[str, Any]] = {
        ImageData: ("image", image), TextData: ("text", text), TabularData: ("table", table)
    }  # fmt: skip
    _check_used(given, data)
    seed, made = Training(**options).seed, dict[str, Learner]()
    for name, own in data.branches.items():
        what, how = next((v for kind, v in given.items() if isinstance(own, kind)), ("", None))
        others = [n for n, b in data.branches.items() if type(b) is type(own)]
        own = _vectors(own, width) if fuse == "concat" else own
        made[name] = _MAKERS[what](own, _of_branch(how, name, others), seed)
    ready = data.with_branches(
        {n: _copied(learn.data, data.task) if fuse == "concat" else learn.data for n, learn in made.items()}
    )
    learn = Learner(ready, _model(ready, made, fuse, width, seed), **_with_usual(options))
    learn.bn_freeze(any(not _is_fresh(one) for one in made.values()))
    if precompute:
        _store(learn, precompute)
    return learn


def _check_used(given: Mapping[type[Data[Any]], tuple[str, Any]], data: BranchedData) -> None:
    for kind, (what, how) in given.items():
        if how is not None and not any(isinstance(own, kind) for own in data.branches.values()):
            raise ArgumentError(
                f"{what}= is given, but the data has no such input; its branches: {list(data.branches)}"
            )


def _of_branch(given: Any, name: str, others: Sequence[str]) -> dict[str, Any] | Any:
    """What was given for a branch: for all of a kind, or by the name of each."""
    if not isinstance(given, Mapping) or not set(given) & set(others):
        return given
    if wrong := [n for n in given if n not in others]:
        raise ArgumentError(f"there is no branch {wrong[0]!r} of this kind. {did_you_mean(str(wrong[0]), others)}")
    return given.get(name)


def _with_usual(options: TrainingOptions) -> TrainingOptions:
    if options.get("clip") is None and options.get("strategy") is None:
        return {**options, "clip": CLIP}
    return options


def _store(learn: Learner, precompute: bool | Sequence[str]) -> None:
    """Switch precompute on, for the branches that are named."""
    model = learn.model
    assert isinstance(model, Branched)
    if not isinstance(precompute, bool):
        names = [precompute] if isinstance(precompute, str) else list(precompute)
        frozen = stored_branches(model)
        if wrong := [n for n in names if n not in frozen]:
            raise ArgumentError(f"the branch {wrong[0]!r} has no frozen body to store; those that have: {list(frozen)}")
        model.live = tuple(n for n in model.branches if n not in names)
    learn.precompute = True


# -- the branches ----------------------------------------------------------------------------------------------


def _image(data: Data[Any], how: Any, seed: int) -> Learner:
    if how is None:
        raise ArgumentError('the images need a model: multi_learner(data, image="resnet34"), or another architecture')
    assert isinstance(data, ImageData)
    given = _arguments(how, "arch")
    pretrained = given.get("pretrained", not isinstance(given.get("arch"), nn.Module)) not in (False, None)
    if pretrained and not {"hidden", "custom_head"} & set(given):
        given = {"ps": DROP, **given}
    return vision_learner(data, **given, seed=seed, device="cpu", progress=False)


def _text(data: Data[Any], how: Any, seed: int) -> Learner:
    assert isinstance(data, TextData)
    given = {"alpha": 0.0, "beta": 0.0, **_arguments(how, "body")}
    if given.get("body") is not None and "layers" not in given:
        given = {"ps": DROP, **given}
    learn = text_classifier_learner(data, **given, seed=seed, device="cpu", progress=False)
    if learn.callbacks:
        raise ArgumentError("alpha and beta belong to a learner of texts alone; leave them out")
    return learn


def _table(data: Data[Any], how: Any, seed: int) -> Learner:
    assert isinstance(data, TabularData)
    given = _arguments(how, "layers")
    if given.get("members", 1) != 1:
        raise ArgumentError("a table among other branches has one network; leave members out")
    if isinstance(data.task, _Vectors):
        given = {**given, "linear": False, "y_range": None}
    return tabular_learner(data, **given, seed=seed, device="cpu", progress=False)


_MAKERS: Mapping[str, Callable[[Data[Any], Any, int], Learner]] = {"image": _image, "text": _text, "table": _table}


def _arguments(how: Any, first: str) -> dict[str, Any]:
    if how is None:
        return {}
    given = {str(k): v for k, v in how.items()} if isinstance(how, Mapping) else {first: how}
    if odd := sorted(_OF_ALL & set(given)):
        raise ArgumentError(f"{odd[0]} is of the learner as a whole: give it to multi_learner, and not to a branch")
    return given


def _is_fresh(learn: Learner) -> bool:
    return all(group.trainable for group in learn.layer_groups if group.params)


def _model(data: BranchedData, made: Mapping[str, Learner], fuse: Fuse, width: int, seed: int) -> Branched:
    task = data.task
    average: Average = "softmax" if task.is_exclusive else "sigmoid" if task.is_multi else "outputs"
    prior = first_outputs(data) if fuse == "evidence" and average != "outputs" else None
    average = average if prior is None else "evidence"
    counts = [len(learn.data.preprocessor.runtime_inputs(()).names) for learn in made.values()]
    joint = None
    if fuse == "concat":
        with keyed.scoped_rng(seed, "joint"):
            joint = nn.Sequential(nn.ReLU(), Dropout(0.5), nn.Linear(width * len(made), task.n_out))
    fresh = [name for name, learn in made.items() if _is_fresh(learn)]
    fresh = fresh if len(fresh) < len(made) else []  # where no body is pretrained, freezing is what it is elsewhere
    models = [learn.model for learn in made.values()]
    model = Branched(list(made), models, counts, task.n_out if joint is None else width, average, fresh, joint)
    if prior is not None:
        model.prior.copy_(prior)
    if joint is None:
        tables = [n for n, m in model.branches.items() if isinstance(m, TableModel)]
        model.leave_out([n for n in tables if isinstance(o := model.branches[n].output, TableOutput) and not o.says])
    return model


@dataclass(frozen=True, repr=False)
class _Vectors(Task):
    """What a branch gives under a joint layer: a vector, of which nobody says what it should be."""

    kind = "vectors"

    def default_metrics(self) -> tuple[Metric, ...]:
        return ()

    def own_item_losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return logits.square().mean(1)

    def activate(self, logits: Tensor) -> Tensor:
        return logits

    def decode(self, probs: Tensor) -> list[Any]:
        return list(map(tuple, probs.tolist()))

    def check_target(self, target: Tensor) -> Tensor:
        return target


def _vectors(data: Data[Any], width: int) -> Data[Any]:
    return _copied(data, _Vectors(tuple(map(str, range(width)))))


def _copied(data: Data[Any], task: Task) -> Data[Any]:
    """The same data with another task."""
    other = copy.copy(data)
    other.task = task
    return other


def branch_learner(learn: Learner, name: str) -> Learner:
    """One branch as a learner of its own: to interpret, draw, explain or validate it on the items that have its input.

    It shares its weights with the learner that it comes from, and has its task, optimizer and seed.

    Args:
        learn: made by `multi_learner`, but not with `fuse="concat"`.
        name: of the branch, such as "image".

    Raises:
        ArgumentError: there is no such branch, or the branches have no heads of their own.
    """
    model, data = branched_of(learn)
    if name not in model.branches:
        raise ArgumentError(f"there is no branch {name!r}. {did_you_mean(str(name), model.branches)}")
    if model.joint is not None:
        raise ArgumentError('the branches have no heads of their own here; make the learner with fuse="evidence"')
    own = Learner(
        data.branches[name], model.branches[name], strategy=learn.strategy, optimizer=learn.optimizer, wd=learn.wd,
        seed=learn.seed, path=learn.path, progress=learn.progress,
    )  # fmt: skip
    own.task = learn.task
    return own


def branched_of(learn: Learner) -> tuple[Branched, BranchedData]:
    """The model and the data of a learner with several branches."""
    if not isinstance(learn, Learner) or not isinstance(learn.model, Branched):
        raise ArgumentError(f"expected a learner that multi_learner made, got {type(learn).__name__}")
    if not isinstance(learn.data, BranchedData):
        raise ArgumentError("this learner came out of a file and has no items: call learn.set_data(data)")
    return learn.model, learn.data
