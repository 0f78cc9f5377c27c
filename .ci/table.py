"""Export a small model of a table: `table.py FILE.onnx`."""

from __future__ import annotations

import sys

import pandas as pd

import easylearn as el

frame = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0] * 5, "b": ["x", "y"] * 10, "y": [0.0, 1.5, 2.0, 3.5] * 5})
learn = el.tabular_learner(el.TabularData.from_df(frame, "y", batch_size=4), [8], device="cpu", progress=False)
learn.export(sys.argv[1], format="onnx")
