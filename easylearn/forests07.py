"""What 2018's `fastai.structured` had for random forests and their tables, over scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "draw_tree", "get_nn_mappers", "parallel_trees", "reset_rf_samples", "rf_feat_importance", "set_plot_sizes",
    "set_rf_samples",
]  # fmt: skip

Found = TypeVar("Found")


def rf_feat_importance(m: Any, df: pd.DataFrame) -> pd.DataFrame:
    """The columns of a table and how much a fitted forest relies on them, the most important first.

    Args:
        m: a forest of scikit-learn's.
        df: what it was trained on.

    Returns:
        Columns "cols" and "imp".
    """
    import pandas as pd

    found = pd.DataFrame({"cols": df.columns, "imp": m.feature_importances_})
    best: pd.DataFrame = found.sort_values("imp", ascending=False)
    return best


def set_rf_samples(n: int) -> None:
    """Let scikit-learn draw `n` rows for each tree of its forests from now on, until `reset_rf_samples()`.

    `max_samples=n` of a forest says the same for one of them alone.
    """
    from sklearn.ensemble import _forest as forest

    def draw(random_state: Any, n_samples: int, n_samples_bootstrap: int = 0, *more: Any) -> Any:
        return _drawn(random_state, n_samples, n, *more)

    reset_rf_samples()
    _drawn = forest._generate_sample_indices
    draw.original = _drawn  # type: ignore[attr-defined]
    forest._generate_sample_indices = draw


def reset_rf_samples() -> None:
    """Undo `set_rf_samples`."""
    from sklearn.ensemble import _forest as forest

    forest._generate_sample_indices = vars(forest._generate_sample_indices).get(
        "original", forest._generate_sample_indices
    )


def parallel_trees(m: Any, fn: Callable[[Any], Found], n_jobs: int = 8) -> list[Found]:
    """What a function says of each tree of a forest, computed by several threads.

    Args:
        m: a fitted forest.
        fn: of one tree.
        n_jobs: how many threads.
    """
    with ThreadPoolExecutor(n_jobs) as pool:
        return list(pool.map(fn, m.estimators_))


def draw_tree(t: Any, df: pd.DataFrame, size: float = 10, ratio: float = 0.6, precision: int = 0) -> None:
    """Draw a tree of a forest.

    Args:
        t: the fitted tree.
        df: what it was trained on, for the names of the columns.
        size: width of the drawing in inches.
        ratio: its height, as a part of the width.
        precision: digits behind the point.
    """
    import matplotlib.pyplot as plt
    from sklearn.tree import plot_tree

    plt.figure(figsize=(size, size * ratio))
    plot_tree(t, feature_names=[str(c) for c in df.columns], filled=True, precision=precision)
    plt.show()


def set_plot_sizes(sml: float, med: float, big: float) -> None:
    """Set the sizes of matplotlib's letters: `sml` of ticks and legends, `med` of labels, `big` of a figure's title."""
    import matplotlib.pyplot as plt

    sizes: Any = {"font.size": sml, "axes.titlesize": sml, "axes.labelsize": med, "xtick.labelsize": sml}
    plt.rcParams.update({**sizes, "ytick.labelsize": sml, "legend.fontsize": sml, "figure.titlesize": big})


def get_nn_mappers(
    df: pd.DataFrame, cat_vars: Sequence[str], contin_vars: Sequence[str]
) -> tuple[list[Any], list[Any]]:
    """Fill what is missing, in place, and give scikit-learn's encoder, or scaler, for each column.

    Args:
        df: the table; it is changed: missing numbers become the largest one and 100, missing categories "#NA#".
        cat_vars: columns of categories.
        contin_vars: columns of numbers.

    Returns:
        (column, LabelEncoder) of each category, and ([column], StandardScaler) of each number.
    """
    from sklearn.preprocessing import LabelEncoder, StandardScaler

    for name in contin_vars:
        df[name] = df[name].fillna(df[name].max() + 100)
    for name in cat_vars:
        df[name] = df[name].fillna("#NA#")
    return [(name, LabelEncoder()) for name in cat_vars], [([name], StandardScaler()) for name in contin_vars]
