"""Recommending: which artists whom will play next, from what they played. Nothing is known but who heard what.

python examples/lesson7_music.py data/lastfm2k      # plays.csv (user, artist, plays) and artists.csv (artist, name)

It reached a recall of 0.287 and an nDCG of 0.305 in lists of ten; what most hear: 0.081 and 0.086, EASE: 0.244, 0.261.
"""

import argparse
from pathlib import Path

import pandas as pd

from easylearn import InteractionData, against, load_predictor, plot_items, recommend, recommender, similar


def read(folder: Path) -> pd.DataFrame:
    names = pd.read_csv(folder / "artists.csv").drop_duplicates("name")
    return pd.read_csv(folder / "plays.csv").merge(names, on="artist")[["user", "name", "plays"]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path, help="the folder of the two files")
    parser.add_argument("--quick", action="store_true", help="made-up plays instead")
    parser.add_argument("--out", type=Path, default=Path("lesson7"), help="folder for what is worth a look")
    given = parser.parse_args()
    if given.path is None and not given.quick:
        parser.error("name the folder of plays.csv and artists.csv, or: --quick")
    if given.quick:
        from made_up import plays as make_up
    plays = make_up() if given.quick else read(given.path)

    # A fifth of what each person plays is held out, before artists with fewer than five listeners are left out.
    data = InteractionData.from_df(plays, user="user", item="name", weight="plays", valid=0.2, min_item=5)
    print(data, *data.notes(), sep="\n")
    learn = recommender(data)
    learn.fit_one_cycle(3e-3, 3 if given.quick else 100)
    print(against(learn))

    # Somebody new is what they heard.
    heard = plays["name"].value_counts().index[[0, 1, 4]].tolist()
    print(f"who hears {heard}:", recommend(learn, history=heard, k=5), sep="\n")
    print(f"like {heard[0]}:", similar(learn, heard[0], k=5), sep="\n")

    given.out.mkdir(parents=True, exist_ok=True)
    plot_items(learn).savefig(given.out / "artists.png")
    learn.report(given.out / "report.html")
    learn.export(given.out / "music.easylearn")
    print(load_predictor(given.out / "music.easylearn").predict(heard))
