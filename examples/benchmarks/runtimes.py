"""One image model and one table model as files of several kinds: size, time for one item, accuracy on validation.

    python examples/benchmarks/runtimes.py --images data/dogscats --table adult.csv.gz

Images: a folder with `train` and `valid`; a head on efficientnet_lite0, at 128 pixels. Table: columns as in UCI's Adult
with `is_test` and `salary`. Everything is read from what `learn.export` reports: one thread of the CPU, a single item
that is ready for the model, so without decoding a picture or looking up codes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch

from easylearn import ImageData, Learner, TabularData, adamw, tabular_learner, vision_learner


def images(path: str, size: int) -> Learner:
    data = ImageData.from_folder(path, size=size, batch_size=64)
    learn = vision_learner(data, "efficientnet_lite0", precompute=True, device="cpu", progress=False)
    learn.fit(1e-2, 1)
    return learn


def table(path: str) -> Learner:
    df = pd.read_csv(path)
    rows = df["is_test"].to_numpy(bool)
    data = TabularData.from_df(df.drop(columns="is_test"), "salary", valid=rows, batch_size=512)
    learn = tabular_learner(data, layers=[200, 100], optimizer=adamw, device="cpu", progress=False)
    learn.fit_one_cycle(3e-3, 3)
    return learn


def show(name: str, row: Mapping[str, float]) -> None:
    print(f"{name:22} {row['bytes'] / 1e6:9.3f} MB {row['ms']:9.3f} ms {row['accuracy']:9.4f} {row['valid_loss']:9.4f}")


def compare(learn: Learner) -> None:
    with tempfile.TemporaryDirectory() as folder:
        small = learn.export(Path(folder) / "int8", quantize="int8")
        pruned = learn.export(Path(folder) / "pruned", prune=0.5)
        onnx = learn.export(Path(folder) / "onnx", format="onnx")
        both = learn.export(Path(folder) / "onnx8", format="onnx", quantize="int8")
        weights = learn.export(Path(folder) / "weights8", format="onnx", quantize="weights")
    print(f"{'':22} {'size':>12} {'one item':>12} {'accuracy':>9} {'loss':>9}")
    show("easylearn", small.rows["before"])
    show("easylearn, int8", small.rows["after"])
    show("easylearn, pruned 0.5", pruned.rows["after"])
    show("onnx", both.rows["before"])
    show("onnx, weights", weights.rows["after"])
    show("onnx, int8", both.rows["after"])
    print(f"onnx against the model on {onnx.checked} items: {onnx.difference:.1e}; in int8: {both.difference:.1e}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", help="folder with train and valid")
    parser.add_argument("--table", help="Adult as a csv")
    parser.add_argument("--size", type=int, default=128, help="of the pictures, in pixels")
    chosen = parser.parse_args()
    torch.set_num_threads(1)  # as the exported files are timed
    if chosen.images:
        learn = images(chosen.images, chosen.size)
        print(f"efficientnet_lite0 on {len(learn.data.ids('valid'))} pictures, {chosen.size} pixels")
        compare(learn)
    if chosen.table:
        learn = table(chosen.table)
        print(f"table of {len(learn.data.ids('valid')):,} rows")
        compare(learn)


if __name__ == "__main__":
    main()
