"""Five folds and a blend against one model, on real data: photographs, a table of persons, sales, reviews.

    python examples/benchmarks/real_folds.py --dogscats dogscats --n 300
    python examples/benchmarks/real_folds.py --adult adult/adult.csv.gz --n 3000
    python examples/benchmarks/real_folds.py --rossmann rossmann --n 20      # of so many shops, folds in time
    python examples/benchmarks/real_folds.py --imdb imdb/imdb_50k.csv.gz --n 1000
    python examples/benchmarks/real_folds.py --quick             # made-up rows: no result

One model is trained on four fifths of the items, and validated on the last fifth (of sales on the last weeks); five
folds are that five times. All are judged on test items that none of them saw. Of photographs the two recipes are frozen
bodies at two sizes, of tables two networks, of reviews a frozen encoder and scikit-learn's logistic regression on
TF-IDF; settings are the documented defaults, chosen without these data.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from easylearn import (
    Crossed,
    Folds,
    ImageData,
    Learner,
    Predictions,
    TabularData,
    TextBody,
    TextData,
    add_datepart,
    blend,
    cross_fit,
    folds,
    interval,
    tabular_learner,
    text_classifier_learner,
    versus,
    vision_learner,
)
from easylearn.experiment import Difference
from easylearn.metrics import Metric, accuracy, log_loss, rmspe

Recipe = Callable[[Any, Any], Learner]


@dataclass(frozen=True)
class Case:
    """Real data with its recipes.

    Args:
        make: gives a learner for a point `p`, by its values or else as usual, validated on the items of `valid`.
        fit: trains it.
        plan: five folds.
        answers: the truth of each test item by its id.
        metrics: the first one counts.
        other: another `make`.
        elsewhere: predictions from elsewhere instead, by the plan and for the items of some that there are.
        default: `make` and `fit` as documented, where folds are of something quicker.
    """

    make: Recipe
    fit: Callable[..., Any]
    plan: Folds
    answers: Mapping[str, Any]
    metrics: Sequence[Metric] = (log_loss, accuracy)
    other: Recipe | None = None
    elsewhere: Callable[[Crossed], Crossed] | None = None
    default: tuple[Recipe, Callable[..., Any]] | None = None


def of(p: Any, name: str, usual: Any) -> Any:
    """A value of a point, or what is usual where it has none."""
    return getattr(p, name, usual)


def photographs(folder: Path, n: int, seed: int, test: Path) -> Case:
    """Heads of a frozen body, trained on `n` images; those of the test are copied into one folder."""
    rng = np.random.default_rng(seed)
    names = sorted(str(f.relative_to(folder)) for f in (folder / "train").rglob("*.jpg"))
    names = [names[i] for i in np.sort(rng.permutation(len(names))[:n])]
    labels = [Path(name).parent.name for name in names]
    test.mkdir()
    for file in (folder / "valid").rglob("*.jpg"):
        (test / file.name).write_bytes(file.read_bytes())

    def recipe(size: int) -> Recipe:
        def make(p: Any, valid: Any) -> Learner:
            data = ImageData.from_names(folder, names, labels, size, valid=valid, test=test, batch_size=32)
            hidden = [p.hidden] if of(p, "hidden", 0) else []
            how = {"ps": of(p, "ps", None), "wd": of(p, "wd", None), "seed": p.seed}
            return vision_learner(data, "efficientnet_lite0", precompute=True, hidden=hidden, **how)

        return make

    def fit(learn: Learner, p: Any, **how: Any) -> Any:
        return learn.fit(1e-2, 3, **how)

    answers = {f.name: f.parent.name for f in (folder / "valid").rglob("*.jpg")}
    return Case(recipe(96), fit, folds(n, 5, stratify=labels, seed=seed), answers, other=recipe(64))


def network(data: TabularData, p: Any, layers: Sequence[int] | None = None) -> Learner:
    """The usual network of a table, or that of a point."""
    layers = [int(n) for n in str(p.layers).split("-")] if of(p, "layers", None) else layers
    more = {} if layers is None else {"layers": layers}
    return tabular_learner(data, **more, ps=of(p, "ps", None), wd=of(p, "wd", None), seed=p.seed)


def three_epochs(learn: Learner, p: Any, **how: Any) -> Any:
    return learn.fit_one_cycle(1e-2, 3, **how)


def as_suits(learn: Learner, p: Any, **how: Any) -> Any:
    """As many epochs as suit the table."""
    return learn.fit_one_cycle(1e-2, **how)


def census(file: Path | None, n: int, seed: int) -> Case:
    """`n` rows of a table; without a file of made-up ones."""
    rng = np.random.default_rng(seed)
    if file is None:
        x = rng.normal(size=(3 * n, 3))
        df = pd.DataFrame(x, columns=list("abc")).assign(income=np.where(x[:, 0] * x[:, 1] > 0, "more", "less"))
        test = df[n:]
    else:
        df = pd.read_csv(file)
        is_test = df.pop("is_test").astype(bool)
        test, df = df[is_test], df[~is_test].sample(n, random_state=seed)
    target = "income" if "income" in df else df.columns[-1]
    df, test = df[:n].reset_index(drop=True), test.reset_index(drop=True)
    answers = {str(i): str(y) for i, y in enumerate(test[target])}

    def recipe(layers: list[int] | None) -> Recipe:
        def make(p: Any, valid: Any) -> Learner:
            given = test.drop(columns=target)
            return network(TabularData.from_df(df, target, valid=valid, test=given, batch_size=64), p, layers)

        return make

    plan = folds(n, 5, stratify=[str(y) for y in df[target]], seed=seed)
    default = (recipe(None), as_suits)
    return Case(recipe([200, 100]), three_epochs, plan, answers, other=recipe([50]), default=default)


CATS = ["Store", "DayOfWeek", "Promo", "StateHoliday", "SchoolHoliday", "StoreType", "Assortment", "State"]
CATS += ["Month", "Day"]
CONTS = ["CompetitionDistance", "Dayofyear", "Year"]


def sales(folder: Path, n: int, seed: int) -> Case:
    """What `n` shops sold in thirteen months; the test are the last six weeks."""
    df = pd.read_csv(folder / "train_60stores.csv.gz", parse_dates=["Date"], dtype={"StateHoliday": str})
    known = df.Store.unique()
    shops = np.random.default_rng(seed).choice(known, min(n, len(known)), replace=False)
    df = df[df.Store.isin(shops) & (df.Sales > 0) & (df.Date >= "2014-05-20")]
    for name in ("store", "store_states"):
        df = df.merge(pd.read_csv(folder / f"{name}.csv"))
    df = add_datepart(df.sort_values(["Date", "Store"]), "Date", drop=False, prefix="")
    late = df.Date > df.Date.max() - pd.Timedelta(weeks=6)
    df, test = df[~late].reset_index(drop=True), df[late].reset_index(drop=True)
    plan = folds(len(df), 5, times=df.Date)

    def recipe(layers: list[int] | None) -> Recipe:
        def make(p: Any, valid: Any) -> Learner:
            rows = df[: valid.max() + 1]  # in time: nothing of what comes after
            how: dict[str, Any] = {"cat_names": CATS, "cont_names": CONTS, "log_target": True}
            data = TabularData.from_df(rows, "Sales", valid=valid, test=test.drop(columns="Sales"), **how)
            return network(data, p, layers)

        return make

    answers = {str(i): float(y) for i, y in enumerate(test.Sales)}
    default = (recipe(None), as_suits)
    return Case(recipe([200, 100]), three_epochs, plan, answers, (rmspe,), recipe([50]), default=default)


def reviews(file: Path, n: int, seed: int, n_test: int = 2000) -> Case:
    """Heads of a frozen encoder, trained on `n` reviews; each is read once, and in bf16."""
    df = pd.read_csv(file)
    df = df[df.label.isin(["pos", "neg"])]
    test = df[df.split == "test"].sample(n_test, random_state=0).reset_index(drop=True)
    df = df[df.split == "train"].sample(n, random_state=seed).reset_index(drop=True)
    body, made = TextBody("minilm"), dict[bytes, TextData]()

    def make(p: Any, valid: Any) -> Learner:
        key = np.asarray(valid).tobytes()
        if key not in made:
            how: dict[str, Any] = {"tokenizer": body.tokenizer, "batch_size": 16, "progress": False}
            made[key] = TextData.from_df(df, valid=valid, test=test[["text"]], text="text", label="label", **how)
        how = {"precision": "bf16", "seed": p.seed, "wd": of(p, "wd", None), "ps": of(p, "ps", None)}
        layers = [p.hidden] if of(p, "hidden", 0) else None
        return text_classifier_learner(made[key], body=body, precompute=True, layers=layers, **how)

    def fit(learn: Learner, p: Any, **how: Any) -> Any:
        return learn.fit_one_cycle(1e-3, 1, **how)

    def words(crossed: Crossed) -> Crossed:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        assert crossed.test is not None
        task, each = crossed.oof.task, []
        oof = np.zeros((n, 2), np.float32)
        for train, valid in crossed.plan:
            model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10))
            model.fit(df.text[train], df.label[train])
            oof[valid] = model.predict_proba(df.text[valid])
            each.append(model.predict_proba(test.text))
        said = torch.tensor(np.mean(each, 0), dtype=torch.float32)
        own = Predictions.of(task, torch.from_numpy(oof), crossed.oof.ids, crossed.oof.targets)
        return Crossed(crossed.plan, own, Predictions.of(task, said, crossed.test.ids, None))

    answers = {str(i): label for i, label in enumerate(test.label)}
    return Case(make, fit, folds(n, 5, stratify=df.label, seed=seed), answers, elsewhere=words)


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, of which one says where data is; made-up rows have to be asked for, by --quick."""
    given = parser.parse_args()
    named = [name for name in ("dogscats", "adult", "rossmann", "imdb") if getattr(given, name)]
    if len(named) != (0 if given.quick else 1):
        parser.error(f"one of --dogscats, --adult, --rossmann and --imdb says where data is, or --quick; got {named}")
    if given.quick:
        print("made-up rows: no result")
        given.n = 60
    return given


def chosen(given: argparse.Namespace, seed: int, folder: Path) -> Case:
    """The data that the command asks for; what has to be written goes into a folder."""
    if given.dogscats:
        return photographs(given.dogscats, given.n, seed, folder / "test")
    if given.rossmann:
        return sales(given.rossmann, given.n, seed)
    return reviews(given.imdb, given.n, seed) if given.imdb else census(given.adult, given.n, seed)


def judged(said: Predictions | None, answers: Mapping[str, Any]) -> Predictions:
    """Predictions of the test items with the truth."""
    assert said is not None
    true = [answers[i] if i in answers else answers[Path(i).name] for i in said.ids]
    if said.task.predicts_numbers:
        return Predictions.of(said.task, said.probs, said.ids, torch.tensor(true).reshape(said.probs.shape))
    return Predictions.of(said.task, said.probs, said.ids, torch.tensor([said.classes.index(y) for y in true]))


def follow(make: Recipe) -> Callable[[Any], Learner]:
    """A recipe that validates on what its fold holds out."""
    return lambda p: make(p, p.valid)


def tell(name: str, test: Predictions, case: Case, others: Mapping[str, Predictions]) -> dict[str, Any]:
    """Print how good predictions of the test items are, and how much better than others."""
    own = {m.name: interval(test, m) for m in case.metrics}
    gains: dict[str, Difference] = {what: versus(test, other, case.metrics[0]) for what, other in others.items()}
    text = ", ".join(f"{k} {v}" for k, v in own.items())
    print(f"{name:22} {text}" + "".join(f"; against {what} {gain}" for what, gain in gains.items()), flush=True)
    return {k: [v.value, v.low, v.high] for k, v in own.items()} | {what: str(gain) for what, gain in gains.items()}


def compare(case: Case, folder: Path) -> dict[str, Any]:
    """Train one model, five folds of two recipes, and their blends; tell how good each is on test items."""
    began, times = time.process_time(), []

    def lap() -> None:
        times.append(round(time.process_time() - began - sum(times), 1))

    def crossing(make: Recipe, plan: Any, name: str) -> Crossed:
        found = cross_fit(follow(make), plan, case.fit, folder / name, test=True, check=False)
        lap()
        return found

    at = -1 if case.metrics[0] is rmspe else 0  # of sales the last weeks
    one = crossing(case.make, (case.plan[at],), "one")
    first = crossing(case.make, case.plan, "0")
    if case.other is not None:
        second = crossing(case.other, case.plan, "1")
    else:
        assert case.elsewhere is not None
        second = case.elsewhere(first)
        lap()
    ways = ("mean", "greedy", "stack") if case.metrics[0] is log_loss else ("mean", "greedy")
    blends = {f"blend, {how}": blend([first, second], how, case.metrics[0]) for how in ways}
    single, found = judged(one.test, case.answers), dict[str, Any]()
    found["one model"] = tell("one model", single, case, {})
    for name, member in {"five folds": first, "five folds, the other": second, **blends}.items():
        found[name] = tell(name, judged(member.test, case.answers), case, {"one model": single})
    print(f"processor seconds of one, and of five folds of each recipe: {times}")
    return {**found, "processor seconds": times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dogscats", type=Path, help="a folder with train/{cats,dogs} and valid/{cats,dogs}")
    parser.add_argument("--adult", type=Path, help="a csv file with a column is_test")
    parser.add_argument("--rossmann", type=Path, help="a folder with train_60stores.csv.gz, store and store_states.csv")
    parser.add_argument("--imdb", type=Path, help="a csv file with columns split, label and text")
    parser.add_argument("--n", type=int, default=300, help="items to train and validate on; of sales, shops")
    parser.add_argument("--seeds", type=int, default=1, help="samples of that many items")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--quick", action="store_true")
    args = parsed(parser)
    torch.set_num_threads(1)
    found = []
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            found.append(compare(chosen(args, seed, Path(folder)), Path(folder)))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
