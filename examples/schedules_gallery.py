"""Every form of `fit`, and every schedule, drawn without training: the multiplier of the rate over the epochs.

python examples/schedules_gallery.py --out schedules.png   # the forms of fit, on one sheet
python examples/schedules_gallery.py --svg docs/img        # one small picture per schedule, for docs/schedules.md
"""

import argparse
from pathlib import Path

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

SINGLE: dict[str, s.Schedule] = {  # by the name of the picture: over four epochs
    "constant": s.constant(),
    "linear": s.linear(),
    "cosine": s.cosine(),
    "exponential": s.exponential(),
    "polynomial": s.polynomial(2),
    "step": s.step([2, 3], 0.3),
    "one_cycle": s.one_cycle(),
    "one_cycle_momentum": s.one_cycle_momentum(),
    "slanted_triangular": s.slanted_triangular(),
    "sgdr": s.sgdr([0, 1, 2, 4]),
    "warmup": s.warmup(s.cosine(), 1),
    "join": s.join([(s.constant(), 3), (s.linear(), 1)]),
}


def svg(schedule: s.Schedule, n_epochs: int = 4, width: int = 240, height: int = 90) -> str:
    """A curve with its axes, the same bytes wherever it is drawn: from 0 to 1, a line at each epoch."""
    left, right, top, bottom = 22, width - 6, 8, height - 16
    x = lambda epoch: left + (right - left) * epoch / n_epochs  # noqa: E731
    y = lambda value: bottom - (bottom - top) * value  # noqa: E731
    epochs = [k / 50 for k in range(50 * n_epochs)]
    curve = " ".join(f"{x(e):.1f},{y(schedule(e, n_epochs)):.1f}" for e in epochs)
    lines = [f'<path d="M{x(e):.1f} {top}V{bottom}" stroke="#8884"/>' for e in range(n_epochs + 1)]
    lines += [f'<path d="M{left} {y(v):.1f}H{right}" stroke="#8884"/>' for v in (0, 0.5, 1)]
    words = [f'<text x="{x(e):.1f}" y="{height - 3}" text-anchor="middle">{e}</text>' for e in range(n_epochs + 1)]
    words += [f'<text x="{left - 4}" y="{y(v) + 3:.1f}" text-anchor="end">{v}</text>' for v in (0, 1)]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        *lines,
        f'<g font-family="sans-serif" font-size="10" fill="#888">{"".join(words)}</g>',
        f'<polyline points="{curve}" fill="none" stroke="#00897b" stroke-width="2" stroke-linejoin="round"/>',
        "</svg>\n",
    ])  # fmt: skip


def sheet(forms: dict[str, tuple[s.Schedule, float]], out: str) -> None:
    rows = -(-len(forms) // 2)
    figure = Figure(figsize=(10, 1.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (name, (schedule, n_epochs)) in enumerate(forms.items(), 1):
        epochs = np.arange(round(n_epochs * PER_EPOCH)) / PER_EPOCH
        axes = figure.add_subplot(rows, 2, place)
        axes.plot(epochs, [schedule(float(e), n_epochs) for e in epochs])
        axes.set_title(f"{name}: {n_epochs:g} epochs", fontsize=9, family="monospace")
        axes.set_ylim(-0.05, 1.1)
        axes.set_xlabel("epoch", fontsize=8)
    figure.savefig(out, dpi=100)
    print(f"{len(forms)} forms are drawn in {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="schedules.png", help="the picture to write (default: %(default)s)")
    parser.add_argument("--svg", type=Path, help="a folder: write one picture per schedule there instead")
    parser.add_argument("--quick", action="store_true", help="the first four forms only")
    options = parser.parse_args()
    if options.svg is None:
        sheet(dict(list(FORMS.items())[: 4 if options.quick else None]), options.out)
        return
    options.svg.mkdir(parents=True, exist_ok=True)
    for name, schedule in SINGLE.items():
        (options.svg / f"{name}.svg").write_text(svg(schedule), encoding="utf-8")
    print(f"{len(SINGLE)} schedules are drawn in {options.svg}")


if __name__ == "__main__":
    main()
