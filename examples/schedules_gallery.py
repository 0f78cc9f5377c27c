"""Every form of `fit`, drawn without training: the rate over the epochs, and what `schedule=` is called.

python examples/schedules_gallery.py --out schedules.png
"""

import argparse

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from easylearn import schedules as s

PER_EPOCH = 100  # batches in an epoch


def cycles(n: int, cycle_len: float, cycle_mult: float) -> tuple[s.Schedule, float]:
    """What `fit(lr, n, cycle_len=..., cycle_mult=...)` does, and for how many epochs."""
    ends = [step / PER_EPOCH for step in s.cycle_steps(n, cycle_len, cycle_mult, PER_EPOCH)]
    return s.sgdr([0.0, *ends]), ends[-1]


FORMS = {
    "fit(lr, 3)": cycles(3, 1, 1),
    "fit(lr, 3, cycle_len=2)": cycles(3, 2, 1),
    "fit(lr, 3, cycle_mult=2)": cycles(3, 1, 2),
    "fit(lr, 3, cycle_len=2, cycle_mult=2)": cycles(3, 2, 2),
    "fit(lr, 4, cycle_len=None)": (s.constant(), 4),
    "fit_one_cycle(lr, 4)": (s.one_cycle(), 4),
    "schedule=linear()": (s.linear(), 4),
    "schedule=cosine()": (s.cosine(), 4),
    "schedule=exponential()": (s.exponential(), 4),
    "schedule=polynomial(2)": (s.polynomial(2), 4),
    "schedule=step([2, 3], 0.3)": (s.step([2, 3], 0.3), 4),
    "schedule=slanted_triangular()": (s.slanted_triangular(), 4),
    "schedule=warmup(cosine(), 1)": (s.warmup(s.cosine(), 1), 4),
    "schedule=join([(constant(), 3), (linear(), 1)])": (s.join([(s.constant(), 3), (s.linear(), 1)]), 4),
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", default="schedules.png", help="the picture to write (default: %(default)s)")
parser.add_argument("--quick", action="store_true", help="the first four forms only")
options = parser.parse_args()

chosen = list(FORMS.items())[: 4 if options.quick else None]
rows = -(-len(chosen) // 2)
figure = Figure(figsize=(10, 1.9 * rows), layout="constrained")
FigureCanvasAgg(figure)
for place, (name, (schedule, n_epochs)) in enumerate(chosen, 1):
    epochs = np.arange(round(n_epochs * PER_EPOCH)) / PER_EPOCH
    axes = figure.add_subplot(rows, 2, place)
    axes.plot(epochs, [schedule(float(e), n_epochs) for e in epochs])
    axes.set_title(f"{name}: {n_epochs:g} epochs", fontsize=9, family="monospace")
    axes.set_ylim(-0.05, 1.1)
    axes.set_xlabel("epoch", fontsize=8)
figure.savefig(options.out, dpi=100)
print(f"{len(chosen)} forms are drawn in {options.out}")
