"""A run's report: one HTML file with all that somebody needs who was not there. It loads nothing from anywhere."""

from __future__ import annotations

import base64
import datetime
import html
import io
import math
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..data.bunch import Data, PartName
from ..errors import ArgumentError, DataError, EasyLearnWarning
from ..files import StrPath, atomic_write
from .interpret import Interpretation, interpret, short
from .plots import SchedPlots, new_figure
from ..train.predict import evaluate, score
from ..train.record import Record, format_row
from ..train.checkpoints.context import RunContext, name_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MOST_BYTES = 3_000_000
DPIS = (110, 80, 50, 30)  # of the drawings: the first at which the file is small enough
WORST, PAIRS, EPOCHS, CLASSES, COLUMNS = 9, 12, 60, 30, 40  # rows and columns of tables, so that pages stay readable
TEXT, LONG = 700, 60  # characters of a text among the worst items, and of a cell that needs a wide column
# From which a remark is worth a line. They are thresholds of attention, not of truth.
ROSE, GAP, OFF = 0.05, 2.0, 0.1
ENOUGH = 200  # items; of fewer, chance alone puts probabilities off by 5 % and more (0.8 * 0.4 * sqrt(5 bins / items))
_VERSIONS = ("easylearn", "torch", "torchvision", "numpy", "pandas", "scikit-learn")
_HIDDEN = {"result", "frozen", "precision", "clip", "accumulate"}  # told elsewhere on the page

Row = Sequence[Any]


def write_report(path: StrPath, run: RunContext, plots: SchedPlots, settings: Mapping[str, Any]) -> Path:
    """Write the report; see `Learner.report`.

    Args:
        path: of the file; an old one is replaced whole.
        run: model, groups, data, task and strategy.
        plots: of the last fit and lr_find.
        settings: more of the configuration, by its names.

    Returns:
        The path.
    """
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError(f"a report is an HTML file, so its name ends in .html, got {str(path)!r}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EasyLearnWarning)
        found = _interpretation(run)
        scores = _scores(run, found)
    heard = [str(w.message) for w in caught if issubclass(w.category, EasyLearnWarning)]
    others = [w for w in caught if not issubclass(w.category, EasyLearnWarning)]
    record = plots.fitted
    parts = [
        _head(run, record, scores),
        _section("What is odd", _odd(run, record, found, heard)),
        _section("Training", _training(plots)),
        _section("On the validation items", _validation(run, found, scores)),
        _section("The worst items", [] if found is None else _worst(found)),
        _section("Configuration", [_pairs(_configuration(run, settings))]),
        _section("Data", _data(run.data)),
        _section("Environment", [_pairs(_environment(run))]),
    ]
    title = f"{run.task.kind.replace('_', ' ')}: {type(run.data).__name__}"
    for dpi in DPIS:
        body = "\n".join(piece(dpi) if callable(piece) else piece for part in parts for piece in part)
        page = _PAGE.format(title=html.escape(title), body=body)
        if len(page.encode()) < MOST_BYTES:
            break
    with atomic_write(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    for warning in others:  # somebody else's, which must not get lost
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return target


# -- what is on the page: each piece is HTML, or a drawing that becomes HTML at a resolution ------------------

Piece = str | Callable[[int], str]


def _interpretation(run: RunContext) -> Interpretation | None:
    if run.task.is_streamed or not run.data.has_valid:
        return None
    return interpret(run.model, run.data, run.task, run.strategy)


def _scores(run: RunContext, found: Interpretation | None) -> dict[str, float]:
    if found is not None:
        return score(found.logits, found.targets, run.task, run.strategy)
    if run.data.has_valid:
        return evaluate(run.model, run.data.loader("valid"), run.task, run.strategy)
    return {}


def _head(run: RunContext, record: Record | None, scores: Mapping[str, float]) -> list[Piece]:
    task = run.task
    what = {
        "single_label": f"one of {task.n_out} classes",
        "multi_label": f"any of {task.n_out} labels",
        "regression": f"{task.n_out} number{'s' if task.n_out > 1 else ''}: {short(', '.join(task.names), 80)}",
        "next_token": f"the next of {task.n_out:,} tokens",
    }[task.kind]
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    cards = [(name.replace("_", " "), _number(value)) for name, value in scores.items()]
    if record is not None and record.epochs:
        seconds = sum(row["seconds"] for row in record.epochs)
        cards += [("epochs", str(len(record.epochs))), ("training took", _duration(seconds))]
    boxes = "".join(f"<div><b>{html.escape(v)}</b><span>{html.escape(n)}</span></div>" for n, v in cards)
    line = (
        f"{type(run.model).__name__} on {type(run.data).__name__}, predicting {what}. Written {now} by easylearn "
        f"{_version('easylearn')}."
    )
    return [f'<header><h1>Run report</h1><p>{html.escape(line)}</p><div class="cards">{boxes}</div></header>']


def _odd(run: RunContext, record: Record | None, found: Interpretation | None, heard: Iterable[str]) -> list[Piece]:
    notes = [*_odd_training(record), *_odd_results(found), *run.data.notes(), *dict.fromkeys(heard)]
    if not run.data.has_valid:
        notes.append("There is no validation part, so nothing here says how good the model is on new items.")
    if not notes:
        return ["<p>Nothing odd was found.</p>"]
    return ['<ul class="odd">' + "".join(f"<li>{html.escape(n)}</li>" for n in notes) + "</ul>"]


def _odd_training(record: Record | None) -> list[str]:
    if record is None:
        return ["This learner was not trained here: these are results of the model as it stands."]
    notes = []
    if record.stop_reason is not None:
        notes.append(f"The fit ended early: {record.stop_reason}.")
    bad = sum(not math.isfinite(v) for v in record.losses)
    if bad:
        notes.append(f"{bad} of {len(record)} training losses were no finite numbers.")
    valid = [(row["valid_loss"], int(row["epoch"])) for row in record.epochs if "valid_loss" in row]
    if valid and math.isfinite(valid[-1][0]):
        last, best = valid[-1][0], min(valid)
        if last > best[0] + ROSE * abs(best[0]):
            notes.append(
                f"The validation loss was lowest after epoch {best[1]} ({best[0]:.4g}) and ended at {last:.4g}: what "
                "was learnt later helps with training items only. Train for fewer epochs, or keep the best with "
                "save_best=."
            )
        trained = record.last["train_loss"]
        if 0 < GAP * trained < last:
            notes.append(
                f"The training loss ended at {trained:.4g}, the validation loss at {last:.4g}: the model knows the "
                "training items by heart. More items, more augmentation, dropout or weight decay narrow the gap."
            )
    return notes


def _odd_results(found: Interpretation | None) -> list[str]:
    if found is None:
        return []
    notes, task = [], found.task
    lost = int((~found.logits.isfinite()).reshape(len(found), -1).any(1).sum())
    if lost:
        notes.append(f"The outputs for {lost} of {len(found)} items are no finite numbers.")
    if task.kind == "regression":
        poor = [str(n) for n, r2 in found.report()["r2"].items() if r2 <= 0]
        return [*notes, f"Predicting the mean would be as good for {_listed(poor)}."] if poor else notes
    report = found.report()
    absent = report.index[report["support"] == 0].tolist()
    if absent:
        notes.append(
            f"No validation item has {_listed(absent)}: nothing is known about {'it' if len(absent) == 1 else 'them'}."
        )
    never = report.index[(report["support"] > 0) & (report["recall"] == 0)].tolist()
    if never:
        notes.append(f"Never predicted rightly: {_listed(never)}.")
    if task.kind == "single_label":
        usual = report["support"].max() / len(found)
        right = int(found.confusion_matrix().diagonal().sum()) / len(found)
        if right <= usual:
            notes.append(f"{right:.1%} are right; always saying the most frequent class would be right in {usual:.1%}.")
    error = found.calibration().error
    if error > OFF and len(found) >= ENOUGH:
        notes.append(f"Probabilities are off by {error:.0%} on average: do not take them at their word.")
    return notes


def _training(plots: SchedPlots) -> list[Piece]:
    record = plots.fitted
    if record is None or not len(record):
        return ["<p>Nothing was trained.</p>"]
    pieces: list[Piece] = ['<div class="figures">']
    own = SchedPlots(plots.curve, record, record)
    pieces.append(_drawing(own.plot_losses(), "Loss of each step, and its mean in each epoch"))
    pieces.append(_drawing(own.plot_lr(), "Learning rate of each layer group at each step"))
    metrics = _plot_metrics(record)
    if metrics is not None:
        pieces.append(_drawing(metrics, "Metrics on the validation items, by epoch"))
    if plots.curve is not None:
        pieces.append(_drawing(plots.plot(), f"lr_find: {plots.curve}"))
    pieces.append("</div>")
    if record.epochs:
        step = -(-len(record.epochs) // EPOCHS)
        rows = [row for i, row in enumerate(record.epochs) if i % step == 0 or i == len(record.epochs) - 1]
        names = list(dict.fromkeys(name for row in rows for name in row))
        cells = [dict(zip(row, format_row(row), strict=True)) for row in rows]
        if step > 1:
            pieces.append(f"<p>Every {step}th of {len(record.epochs)} epochs:</p>")
        heads = [n.replace("_", " ") for n in names]
        pieces.append(_table(heads, [[c.get(n, "") for n in names] for c in cells], right=heads))
    return pieces


def _plot_metrics(record: Record) -> Figure | None:
    """A small drawing per metric; None where there are none, or where a line would be one point."""
    known = {"epoch", "train_loss", "valid_loss", "rate", "seconds"}
    names = list(dict.fromkeys(n for row in record.epochs for n in row if n not in known))[:6]
    if not names or len(record.epochs) < 2:
        return None
    rows = -(-len(names) // 2)
    figure = new_figure(6.4, 4.0 if len(names) < 3 else 2.2 * rows)
    for place, name in enumerate(names, 1):
        axes = figure.add_subplot(rows, min(2, len(names)), place)
        points = [(row["epoch"], row[name]) for row in record.epochs if name in row]
        axes.plot([x for x, _ in points], [y for _, y in points], "s-", markersize=4, color="C2")
        axes.set_title(short(name, 30), fontsize=10, parse_math=False)
        axes.set_xlabel("epoch")
        axes.locator_params(axis="x", integer=True)
    return figure


def _validation(run: RunContext, found: Interpretation | None, scores: Mapping[str, float]) -> list[Piece]:
    if not scores:
        return ["<p>There is no validation part.</p>"]
    if found is None:
        return ["<p>A language model has no items whose losses could be compared; its scores are at the top.</p>"]
    pieces: list[Piece] = []
    if found.task.kind == "regression":
        pieces += ['<div class="figures">', _drawing(found.plot_predictions(), "Predicted and actual"), "</div>"]
        return [*pieces, _frame(found.report(), "target")]
    pieces.append('<div class="figures">')
    if found.task.kind == "single_label":
        pieces.append(_drawing(found.plot_confusion(), "What was taken for what"))
    pieces.append(_drawing(found.plot_calibration(), "Whether probabilities mean what they say"))
    pieces.append("</div>")
    report, title = found.report(), "By class"
    if len(report) > CLASSES:
        title = f"The {CLASSES} of {len(report)} classes with the lowest F1"
        report = report.sort_values("f1", kind="stable").head(CLASSES)
    pieces.append(f'<div class="figures"><div><h3>{title}</h3>{_frame(report, "class")}</div>')
    if found.task.kind == "single_label":
        pairs = found.most_confused()
        more = f", {PAIRS} of {len(pairs)} pairs" if len(pairs) > PAIRS else ""
        if len(pairs):
            pieces.append(f"<div><h3>Most confused{more}</h3>{_frame(pairs.head(PAIRS))}</div>")
    return [*pieces, "</div>"]


def _worst(found: Interpretation) -> list[Piece]:
    worst = found.top_losses(WORST)
    heads, rows = [str(c) for c in worst.columns], [list(row) for row in worst.itertuples(index=False, name=None)]
    fields = [found.data.describe_item(found.part, int(i)) for i in worst.index]
    if any(fields):
        heads.append("item")
        rows = [[*row, _Html(_fields(f))] for row, f in zip(rows, fields, strict=True)]
    table = _table(heads, rows)
    if not found.data.has_pictures:
        return [table]
    return [
        '<div class="figures wide">',
        _drawing(found.plot_top_losses(WORST), "Highest losses first"),
        "</div>",
        table,
    ]


def _fields(fields: Mapping[str, str]) -> str:
    """A text by itself; several columns with their names."""
    if len(fields) == 1:
        return html.escape(short(next(iter(fields.values())), TEXT))
    named = [(html.escape(short(n, 40)), html.escape(short(v, 80))) for n, v in list(fields.items())[:COLUMNS]]
    more = [f"and {len(fields) - COLUMNS} more"] if len(fields) > COLUMNS else []
    return " ".join([*(f"<span><i>{n}</i> {v}</span>" for n, v in named), *more])


def _configuration(run: RunContext, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    task, strategy = run.task, run.strategy
    total = sum(g.n_params() for g in run.groups)
    training = sum(g.n_params(trainable_only=True) for g in run.groups)
    groups = "\n".join(
        f"{g.name}: {g.n_params():,} parameters, {'trains' if g.trainable else 'frozen'}" for g in run.groups
    )
    loss = "the task's own" if task.loss_fn is None else name_of(task.loss_fn)
    if task.label_smoothing:
        loss += f", label smoothing {task.label_smoothing:g}"
    clipped = "not clipped" if strategy.clip is None else f"clipped at a norm of {strategy.clip:g}"
    rows: list[tuple[str, Any]] = [
        (
            "task",
            f"{task.kind.replace('_', ' ')} of {task.n_out}" + ("" if task.scale == "linear" else f", {task.scale}"),
        ),
        ("loss", loss),
        ("metrics", ", ".join(m.name for m in task.metrics) or "none"),
        ("model", f"{type(run.model).__name__}, {total:,} parameters, {training:,} of them train"),
        ("layer groups", groups),
        ("batch size", run.data.batch_size),
        ("device and precision", f"{strategy.device}, {strategy.precision}"),
        ("gradients", f"{clipped}; {strategy.accumulate} batch{'es' if strategy.accumulate > 1 else ''} per step"),
    ]
    named = {"wd": "weight decay", "bn_freeze": "batch-norm statistics kept"}
    rows += [(named.get(n, n.replace("_", " ")), value) for n, value in settings.items() if n not in _HIDDEN]
    return [(name, _plain(value)) for name, value in rows]


def _data(data: Data) -> list[Piece]:
    rows = []
    parts: list[tuple[PartName, bool]] = [("train", data.has_train), ("valid", data.has_valid), ("test", data.has_test)]
    for part, there in parts:
        if there:
            try:
                print_of = data.fingerprint(part)
            except DataError as error:
                print_of = f"none: {error}"
            rows.append([part, f"{len(data.ids(part)):,}", print_of])
    return [f"<pre>{html.escape(repr(data))}</pre>", _table(["part", "items", "fingerprint"], rows)]


def _environment(run: RunContext) -> list[tuple[str, str]]:
    device = run.strategy.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} cores"
    return [
        ("Python", sys.version.split()[0]),
        *((name, _version(name)) for name in _VERSIONS),
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        ("device", f"{device}, {name}, {torch.get_num_threads()} threads"),
    ]


def _version(package: str) -> str:
    if package == "torch":
        return str(torch.__version__)
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


# -- how it is written ---------------------------------------------------------------------------------------


def _section(title: str, pieces: Sequence[Piece]) -> list[Piece]:
    return [f"<section><h2>{html.escape(title)}</h2>", *pieces, "</section>"] if pieces else []


def _drawing(figure: Figure, caption: str) -> Piece:
    def draw(dpi: int) -> str:
        stream = io.BytesIO()
        with warnings.catch_warnings():
            # A name in a script that matplotlib's font lacks: boxes in a drawing, and right in the tables beside it.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure.savefig(stream, format="png", dpi=dpi)
        code = base64.b64encode(stream.getvalue()).decode()
        text = html.escape(caption)
        wide = round(figure.get_figwidth() * 100)
        return (
            f'<figure><img src="data:image/png;base64,{code}" alt="{text}" style="width:{wide}px">'
            f"<figcaption>{text}</figcaption></figure>"
        )

    return draw


def _table(heads: Sequence[str], rows: Sequence[Row], right: Iterable[str] = ()) -> str:
    """A table; columns of numbers, and those named in `right`, are set to the right."""
    numbers = set(right) | {
        h for i, h in enumerate(heads) if rows and all(isinstance(row[i], int | float) for row in rows)
    }
    kinds = [' class="n"' if h in numbers else "" for h in heads]
    head = "".join(f"<th{kind}>{html.escape(str(h))}</th>" for h, kind in zip(heads, kinds, strict=True))
    lines = []
    for row in rows:
        lines.append("<tr>" + "".join(map(_cell, row, kinds)) + "</tr>")
    body = "\n".join(lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


class _Html(str):
    """Text that is HTML already."""


def _cell(value: Any, kind: str) -> str:
    text = value if isinstance(value, _Html) else html.escape(_plain(value))
    return f"<td{' class=t' if len(text) > LONG else kind}>{text}</td>"


def _frame(frame: pd.DataFrame, index: str | None = None) -> str:
    rows = [list(row) for row in frame.itertuples(index=False, name=None)]
    heads = [str(c) for c in frame.columns]
    if index is not None:
        rows = [[str(name), *row] for name, row in zip(frame.index, rows, strict=True)]
        heads = [index, *heads]
    return _table(heads, rows)


def _pairs(rows: Sequence[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><th>{html.escape(n)}</th><td>{html.escape(v)}</td></tr>" for n, v in rows)
    return f'<table class="pairs">{lines}</table>'


def _plain(value: Any) -> str:
    """A value as somebody would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "not set"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value) or "none"
    return str(value)


def _number(value: float) -> str:
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.4g}"


def _duration(seconds: float) -> str:
    if seconds >= 120:
        return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _listed(names: Sequence[Any]) -> str:
    shown = ", ".join(short(str(n), 40) for n in names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Run report, {title}</title>
<style>
body {{ font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; color: #222; background: #fff;
  max-width: 72rem; margin: 0 auto; padding: 1.5rem }}
h1 {{ font-size: 1.7rem; margin: 0 }}
h2 {{ font-size: 1.2rem; margin: 2.2rem 0 .8rem; padding-bottom: .25rem; border-bottom: 2px solid #2a7 }}
h3 {{ font-size: 1rem; margin: 1.4rem 0 .4rem }}
header p {{ color: #555; margin: .3rem 0 1rem }}
.cards {{ display: flex; flex-wrap: wrap; gap: .7rem }}
.cards div {{ border: 1px solid #ddd; border-radius: 6px; padding: .5rem .9rem; min-width: 6.5rem }}
.cards b {{ display: block; font-size: 1.25rem }}
.cards span {{ color: #666; font-size: .85rem }}
.odd li {{ margin: .35rem 0 }}
.odd {{ border-left: 4px solid #d80; background: #fff8ec; margin: 0; padding: .4rem 1rem .4rem 2rem }}
.figures {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(27rem, 100%), 1fr)); gap: 1.2rem;
  align-items: start; margin: .8rem 0 }}
.figures.wide {{ grid-template-columns: 1fr }}
figure {{ margin: 0; break-inside: avoid }}
figure img {{ max-width: 100%; height: auto; display: block }}
figcaption {{ color: #555; font-size: .85rem; margin-top: .2rem }}
.scroll {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }}
th, td {{ padding: .25rem 1rem .25rem 0; text-align: left; border-bottom: 1px solid #e4e4e4; vertical-align: top }}
thead th {{ color: #555; font-weight: 600; border-bottom: 2px solid #ccc; white-space: nowrap }}
td.n, thead th.n {{ text-align: right; white-space: nowrap }}
td.t {{ min-width: 20rem }}
td {{ overflow-wrap: break-word; max-width: 46rem }}
td span {{ display: inline-block; margin-right: .9rem }}
td i {{ color: #777; font-style: normal; font-size: .85em }}
.pairs td {{ white-space: pre-line }}
.pairs th {{ color: #555; font-weight: 600; width: 13rem }}
pre {{ background: #f5f5f2; padding: .7rem 1rem; border-radius: 4px; white-space: pre-wrap; overflow-wrap: anywhere }}
@page {{ size: A4; margin: 14mm }}
@media print {{
  body {{ font-size: 9.5pt; max-width: none; padding: 0 }}
  h2, h3 {{ break-after: avoid }}
  tr, .cards div, .odd li {{ break-inside: avoid }}
  .scroll {{ overflow: visible }}
  table {{ font-size: 8.5pt }}
  th, td {{ padding-right: .5rem }}
  td.t {{ min-width: 0 }}
  .figures {{ grid-template-columns: repeat(2, 1fr); gap: .6rem }}
  .figures.wide {{ grid-template-columns: 1fr }}
  figure img {{ max-height: 23cm; object-fit: contain; object-position: left }}
}}
</style>
</head>
<body>
{body}
</body>
</html>
"""
