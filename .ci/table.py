"""Export a small model of a table: `table.py FILE.onnx`."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

import easylearn as el

r = np.random.default_rng(0)
frame = pd.DataFrame({"a": r.normal(size=80), "b": r.choice(list("xyz"), 80), "y": r.normal(size=80)})
learn = el.tabular_learner(el.TabularData.from_df(frame, "y", batch_size=4), [8], device="cpu", progress=False)
learn.export(sys.argv[1], format="onnx")
