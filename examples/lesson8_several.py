"""Several inputs: the genres of a film from its poster, its words and its figures, in one learner.

python examples/lesson8_several.py data/movies    # movies.csv and posters/, with: pip install -e ".[timm]"

It reached a macro AUC of 0.886 with frozen bodies and ten genres; the words alone 0.858 (benchmarks/several.py; 10 s of
training, after a minute for the features).
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from easylearn import MultiData, branches, load_predictor, multi_learner

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path, help="a folder with movies.csv and the posters that it names")
    parser.add_argument("--quick", action="store_true", help="made-up films and small models instead")
    parser.add_argument("--late", type=int, default=0, help="epochs in which the later half of the image body trains")
    parser.add_argument("--out", type=Path, default=Path("lesson8"), help="folder for figures and the model")
    given = parser.parse_args()
    if given.path is None and not given.quick:
        parser.error("give a folder of films, or --quick")
    given.out.mkdir(parents=True, exist_ok=True)
    path, size, image, text = given.path, (192, 128), "efficientnet_lite0", "minilm"
    if given.quick:
        from made_up import encoder, films

        path, size, image = Path(tempfile.mkdtemp()), 64, {"arch": "squeezenet1_1", "pretrained": False}
        text = encoder(path / "encoder")
        films(path)
    df = pd.read_csv(path / "movies.csv", index_col="id")
    df[["budget", "gross"]] = np.log1p(df[["budget", "gross"]])
    df.loc[df.sample(frac=0.1, random_state=0).index, "poster"] = None  # some posters are lost: no matter
    data = MultiData.from_df(
        df, "genres", label_sep=" ", image="poster", text=["title", "keywords"],
        cat_names=["country", "language", "content_rating"], cont_names=["title_year", "duration", "budget", "gross"],
        path=path, size=size, min_count=10, augment="side_on",
    )  # fmt: skip
    learn = multi_learner(data, image=image, text=text, precompute=True)  # a model, a head and a loss for each
    learn.fit_one_cycle(2e-3, 2 if given.quick else 25)
    if given.late or given.quick:
        learn.unfreeze("image.late")  # the words stay frozen, and stored
        learn.fit({"image.late": 1e-4, "image.head": 1e-3}, given.late or 1)

    worth = branches(learn)  # each alone, each left out, all together, with intervals
    print(worth.round(3))
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes, score = figure.subplots(), worth.columns[1]
    axes.errorbar(worth[score], worth.index, xerr=[worth[score] - worth.low, worth.high - worth[score]], fmt="o")
    axes.set(xlabel=score, title="What each input is worth")
    figure.savefig(given.out / "branches.png")

    learn.export(given.out / "films.easylearn")  # one file for all three
    unseen = {**df.iloc[0], "poster": None, "title": "The ghost of the lake", "keywords": "ghost, murder"}
    print(load_predictor(given.out / "films.easylearn").predict(unseen))
