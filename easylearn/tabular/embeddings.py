"""What a table model learnt about categories: as a DataFrame, as a figure, and for any other model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from ..analysis.drawings import draw_vectors
from ..data.targets import TargetOptions, TaskName, read_targets
from ..errors import ArgumentError, StateError, check_kind, did_you_mean
from ..learning import Learner
from ..nn.embeddings import DotProduct, TableModel
from ..options import strict
from .columns import guess_columns
from .data import TabularData
from .learner import EmbSizes, tabular_learner
from .preprocess import TablePreprocessor
from .processing import TableProcessor
from .reports import N_SPECIAL

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FEWEST_STEPS = 200  # in which an `EntityEmbedder` trains


def embeddings(learn: Learner, name: str) -> pd.DataFrame:
    """The vectors of a categorical column.

    Args:
        learn: made by `tabular_learner` or `collab_learner`.
        name: the column.

    Returns:
        One row per category, *unknown* and *missing* first, and one column per number of the vectors. Of a dot product,
        the last column is the bias; of a network that started linear, the last are its weights in the linear model.
    """
    import pandas as pd

    processor, model = _of_tables(learn)
    index = pd.Index(processor.levels(name), name=name, dtype=object)
    frame: pd.DataFrame = pd.DataFrame(model.vectors(processor.cat_names.index(name)).cpu().numpy(), index=index)
    return frame


def plot_embeddings(learn: Learner, name: str, levels: Sequence[Any] | None = None) -> Figure:
    """The vectors of a categorical column in the plane that keeps most of their variance (principal components).

    Args:
        learn: made by `tabular_learner` or `collab_learner`.
        name: the column.
        levels: those to write names at; None writes them all, or every n-th where there are too many to read.

    """
    return draw_vectors(embeddings(learn, name).iloc[N_SPECIAL:], name, levels)


def _of_tables(learn: Learner) -> tuple[TableProcessor, TableModel | DotProduct]:
    check_kind("this takes a learner of a table", learn, Learner)
    preprocessor, model = learn.data.preprocessor, learn.model
    if not isinstance(preprocessor, TablePreprocessor) or not isinstance(model, TableModel | DotProduct):
        raise ArgumentError(
            f"only learners of tables have embeddings of categories, this is {learn!r}; make one with tabular_learner"
        )
    return preprocessor.processor, model


@dataclass(repr=False, eq=False)
class EntityEmbedder:
    """A scikit-learn transformer: categories become the vectors that a small network learnt for them.

    It hands entity embeddings to any other model, such as gradient-boosted trees (arXiv 1604.06737). Fitting trains a
    `tabular_learner` to predict y; or give it a learner that is trained already.

    Args:
        learner: a trained table learner, whose embeddings are taken as they are; None trains one.
        cat_names: columns of categories; None guesses.
        cont_names: columns of numbers, which are filled and scaled; None guesses. Other columns are left out.
        task: of the network; see `TabularData.from_df`.
        layers: sizes of its hidden layers.
        emb_szs: lengths of the embeddings; see `tabular_learner`.
        epochs: how long it trains; None is one epoch, or as many as 200 steps take. More would fit the very rows that
            the next model learns from.
        lr: the highest learning rate.
        batch_size: rows in a batch; None chooses.
        seed: of the weights and the order of the rows.

    >>> import pandas as pd
    >>> X = pd.DataFrame({"shop": ["a", "b", "c", "b"] * 15, "size": [1.0, 2.0, 3.0, 4.0] * 15})
    >>> embedder = EntityEmbedder(cat_names=["shop"], cont_names=["size"], epochs=1).fit(X, [0, 1, 1] * 20)
    >>> embedder.transform(X).shape
    (60, 5)
    >>> embedder.get_feature_names_out().tolist()
    ['shop_0', 'shop_1', 'shop_2', 'shop_3', 'size']
    """

    learner: Learner | None = None
    _: KW_ONLY
    cat_names: Sequence[str] | None = None
    cont_names: Sequence[str] | None = None
    task: TaskName = "auto"
    layers: Sequence[int] = (200, 100)
    emb_szs: EmbSizes | None = None
    epochs: int | None = None
    lr: float = 1e-2
    batch_size: int | None = None
    seed: int = 0
    _fitted: Learner | None = field(default=None, init=False)
    _output: Literal["default", "pandas"] = field(default="default", init=False)

    def fit(self, X: Any, y: Any = None) -> EntityEmbedder:  # noqa: N803 (scikit-learn's name)
        """Train the network to predict y from X.

        Args:
            X: a DataFrame (or an array, whose columns are then called x0, x1 ...).
            y: what to predict, one entry or one row per row of X; not looked at where a learner was given.
        """
        import pandas as pd

        frame = _as_frame(X)
        if self.learner is not None:
            _of_tables(self.learner)
            self._fitted = self.learner
            return self
        if y is None:
            raise ArgumentError("EntityEmbedder learns embeddings by predicting y, so fit needs it: fit(X, y)")
        targets = pd.DataFrame(np.asarray(y) if not isinstance(y, pd.Series | pd.DataFrame) else y)
        if len(targets) != len(frame):
            raise ArgumentError(f"X has {len(frame)} rows, but y has {len(targets)}")
        cats, conts = self.cat_names, self.cont_names
        if cats is None or conts is None:
            guess = guess_columns(frame.drop(columns=[*(cats or ()), *(conts or ())]))
            cats, conts = (g if n is None else n for g, n in ((guess.cat_names, cats), (guess.cont_names, conts)))
        free = (name for name in map("y{}".format, itertools.count()) if name not in frame.columns)
        columns = {name: targets.iloc[:, i].array for i, name in zip(range(targets.shape[1]), free, strict=False)}
        table, names = frame.assign(**columns), list(columns)
        data = TabularData.from_df(
            table, names, cat_names=cats, cont_names=conts, valid=None,
            task=read_targets(table, TargetOptions(self.task), names=names, say=False).task_name,
            batch_size=self.batch_size, seed=self.seed,
        )  # fmt: skip
        # Without a linear start all that is known of a category has to be in its vector.
        learn = tabular_learner(data, self.layers, linear=False, emb_szs=self.emb_szs, seed=self.seed, progress=False)
        enough = -(-FEWEST_STEPS // len(data.loader("train", training=True)))
        learn.fit_one_cycle(self.lr, enough if self.epochs is None else self.epochs)
        self._fitted = learn
        return self

    def transform(self, X: Any) -> Any:  # noqa: N803
        """Vectors of the categories side by side, then the filled and scaled numbers and their flags.

        Args:
            X: as in `fit`; categories that were not there then get the vector of the unknown.

        Returns:
            float32 of shape (n, n_features), or a DataFrame after `set_output(transform="pandas")`.
        """
        import pandas as pd

        processor, vectors = self._tables()
        frame = _as_frame(X)
        encoded = processor.transform(frame)
        parts = [table[encoded.cats[:, j]] for j, table in enumerate(vectors)]
        values = np.concatenate([*parts, encoded.conts], axis=1)
        if self._output == "default":
            return values
        return pd.DataFrame(values, columns=self.get_feature_names_out(), index=frame.index)

    def fit_transform(self, X: Any, y: Any = None) -> Any:  # noqa: N803
        """`fit`, then `transform` of the same rows."""
        return self.fit(X, y).transform(X)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:
        """Names of the columns that `transform` gives: "<column>_<number>", then the continuous ones."""
        processor, vectors = self._tables()
        columns = zip(processor.cat_names, vectors, strict=True)
        names = [f"{name}_{i}" for name, table in columns for i in range(table.shape[1])]
        return np.asarray([*names, *processor.cont_out_names], dtype=object)

    def _tables(self) -> tuple[TableProcessor, list[npt.NDArray[np.float32]]]:
        if self._fitted is None:
            raise StateError("this EntityEmbedder is not fitted yet: call fit(X, y) first")
        processor, model = _of_tables(self._fitted)
        vectors = [model.vectors(j).to("cpu", torch.float32).numpy() for j in range(len(processor.cat_names))]
        return processor, vectors

    # What scikit-learn asks of its estimators, without importing it.

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments it was made with."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init}

    def set_params(self, **params: Any) -> EntityEmbedder:
        """Change arguments; the next `fit` uses them."""
        for name, value in params.items():
            if name not in self.get_params():
                raise ArgumentError(f"EntityEmbedder has no argument {name!r}. {did_you_mean(name, self.get_params())}")
            setattr(self, name, value)
        return self

    def set_output(self, *, transform: Literal["default", "pandas"] | None = None) -> EntityEmbedder:
        """Whether `transform` gives an array ("default") or a DataFrame ("pandas")."""
        if transform not in ("default", "pandas", None):
            raise ArgumentError(f"transform must be 'default' or 'pandas', got {transform!r}")
        self._output = transform or self._output
        return self

    def __sklearn_clone__(self) -> EntityEmbedder:
        clone = type(self)(**self.get_params())  # a learner that was given is shared, not copied
        return clone.set_output(transform=self._output)

    def __sklearn_is_fitted__(self) -> bool:
        return self._fitted is not None

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            "transformer", TargetTags(required=self.learner is None), TransformerTags(),
            input_tags=InputTags(categorical=True, string=True, allow_nan=True),
        )  # fmt: skip

    def __repr__(self) -> str:
        given = self.get_params()
        changed = [f"{f.name}={given[f.name]!r}" for f in fields(self) if f.init and given[f.name] != f.default]
        return f"EntityEmbedder({', '.join(changed)})"


EntityEmbedder.__init__ = strict({"learn": "learner", "n_epochs": "epochs"})(  # type: ignore[method-assign]
    EntityEmbedder.__init__
)


def _as_frame(values: Any) -> pd.DataFrame:
    import pandas as pd

    if isinstance(values, pd.DataFrame):
        return values
    array = np.asarray(values)
    if array.ndim != 2:
        raise ArgumentError(f"X must be a DataFrame or an array of rows and columns, got shape {array.shape}")
    frame: pd.DataFrame = pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])]).infer_objects()
    return frame
