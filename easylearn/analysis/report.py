"""A run's report: one HTML file with all that somebody needs who was not there. It loads nothing from anywhere."""

from __future__ import annotations

import datetime
import html
import math
import os
import platform
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..artefact.model_file import library_versions
from ..data.bunch import Data
from ..errors import ArgumentError, DataError, EasyLearnWarning, name_of, short
from ..files import StrPath, as_path, atomic_write
from ..nn.registry import model_name
from ..train.checkpoints.context import RunContext
from ..train.precompute import FeatureStore
from ..train.predict import evaluate, score
from ..train.record import Record, format_row
from .baseline import MOST_SCORES, NO_BETTER, Baseline, baseline_of
from .drawings import shows_images
from .interpret import Interpretation, interpret
from .page import Html, Piece, drawing, duration, frame, listed, number, pairs, plain, section, table, whole_page
from .plots import SchedPlots, grid
from .summary import told_parameters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_BYTES = 3_000_000
DPIS = (110, 80, 50, 30)  # of the drawings: the first at which the file is small enough
WORST, PAIRS, EPOCHS, CLASSES, COLUMNS = 9, 12, 60, 30, 40  # rows and columns of tables, so that pages stay readable
# From which a remark is worth a line. They are thresholds of attention, not of truth.
ROSE, GAP, OFF = 0.05, 2.0, 0.1
ENOUGH = 200  # items; of fewer, chance alone puts probabilities off by 5 % and more (0.8 * 0.4 * sqrt(5 bins / items))
TEXT = 700  # characters of a text among the worst items
_HIDDEN = {"result", "frozen", "precision", "clip", "accumulate"}  # told elsewhere on the page


def write_report(
    path: StrPath, run: RunContext, store: FeatureStore, plots: SchedPlots, settings: Mapping[str, Any], name: str = "",
    fits: Sequence[Record] = (),
) -> Path:  # fmt: skip
    """Write the report, and give its path; see `Learner.report`.

    `settings` are more of the configuration, `fits` the records of all fits, in place of the last one of `plots`.
    """
    plots = replace(plots, fitted=Record.of(*fits)) if fits else plots
    target = as_path(path, "a file to write")
    if target.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError(f"a report is an HTML file, so its name ends in .html, got {str(path)!r}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EasyLearnWarning)
        found, scores = _results(run)
        beside = baseline_of(run, store, found, plots.fitted)
    heard = [str(w.message) for w in caught if issubclass(w.category, EasyLearnWarning)]
    others = [w for w in caught if not issubclass(w.category, EasyLearnWarning)]
    record = plots.fitted
    parts = [
        _head(run, record, scores, name),
        section("What is odd", _odd(run, record, found, heard, beside)),
        section("Training", _training(plots, fits)),
        section("On the validation items", _validation(run, found, scores, beside)),
        section("The worst items", [] if found is None else _worst(found)),
        section("Configuration", [pairs(_configuration(run, settings))]),
        section("Data", _data(run.data)),
        section("Environment", [pairs(_environment(run))]),
    ]
    title = f"{name or run.task.kind.replace('_', ' ')}: {type(run.data).__name__}, {model_name(run.model)}"
    for dpi in DPIS:
        page = whole_page(title, parts, dpi)
        if len(page.encode()) < MOST_BYTES:
            break
    with atomic_write(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    for warning in others:  # of other libraries, which must not get lost
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return target


def _results(run: RunContext) -> tuple[Interpretation | None, dict[str, float]]:
    """What is said of the validation items, as far as there are any, and the scores."""
    if "valid" not in run.data.splits:
        return None, {}
    if run.task.is_streamed:
        return None, evaluate(run.model, run.data.loader("valid"), run.task, run.strategy)
    some = run.data.at_most("valid", MOST_SCORES // run.task.n_out) if run.task.is_ranking else run.data
    found = interpret(run.model, some, run.task, run.strategy)
    if some is not run.data:
        return found, evaluate(run.model, run.data.loader("valid"), run.task, run.strategy)
    return found, score(found.logits, found.targets, run.task, run.strategy)


def _head(run: RunContext, record: Record | None, scores: Mapping[str, float], name: str) -> list[Piece]:
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    cards = [(metric.replace("_", " "), number(value)) for metric, value in scores.items()]
    if record is not None and record.epochs:
        seconds = sum(row["seconds"] for row in record.epochs)
        cards += [("epochs", str(len(record.epochs))), ("epochs took", duration(seconds))]
        cards += [(f"{what} took", duration(taken)) for what, taken in record.before.items()]
        cards += [("took in all", duration(seconds + sum(record.before.values())))] if record.before else []
    boxes = "".join(f"<div><b>{html.escape(v)}</b><span>{html.escape(n)}</span></div>" for n, v in cards)
    line = f"{model_name(run.model)} on {type(run.data).__name__}, predicting {run.task.summary}. "
    line += f"Written {now} by easylearn {library_versions().get('easylearn', 'out of its sources')}."
    heading = html.escape(f"Run report: {name or model_name(run.model)}")
    return [f'<header><h1>{heading}</h1><p>{html.escape(line)}</p><div class="cards">{boxes}</div></header>']


def _odd(
    run: RunContext, record: Record | None, found: Interpretation | None, heard: Iterable[str], beside: Baseline | None
) -> list[Piece]:
    results = [] if found is None else _odd_results(found, beside is not None and beside.verdict == NO_BETTER)
    odd = [] if beside is None or not beside.verdict else [beside.in_words()]
    notes = [*_odd_training(record), *odd, *results, *run.data.notes(), *dict.fromkeys(heard)]
    if "valid" not in run.data.splits:
        notes.append("There is no validation split, so nothing here says how good the model is on new items.")
    if not notes:
        return ["<p>Nothing odd was found.</p>"]
    return ['<ul class="odd">' + "".join(f"<li>{html.escape(n)}</li>" for n in notes) + "</ul>"]


def _training(plots: SchedPlots, fits: Sequence[Record]) -> list[Piece]:
    record = plots.fitted
    if record is None or not len(record):
        return ["<p>Nothing was trained.</p>"]
    own = SchedPlots(plots.curve, record, record)
    pieces = [
        drawing(own.plot_losses(), "Loss of each step, and its mean in each epoch"),
        drawing(own.plot_lr(), "Learning rate of each layer group at each step"),
    ]
    metrics = _plot_metrics(record)
    if metrics is not None:
        pieces.append(drawing(metrics, "Metrics on the validation items, by epoch"))
    if plots.curve is not None:
        pieces.append(drawing(plots.plot(), f"lr_find: {plots.curve}"))
    pieces = _figures(pieces)
    if len(fits) > 1:
        pieces.append(
            f"<p>{len(fits)} fits one after the other, of {', '.join(str(len(f.epochs)) for f in fits)} epochs.</p>"
        )
    pieces += [f"<p>Kept: {html.escape(kept)}.</p>" for kept in _kept(record, fits)]
    if record.epochs:
        step = -(-len(record.epochs) // EPOCHS)
        rows = [row for i, row in enumerate(record.epochs) if i % step == 0 or i == len(record.epochs) - 1]
        names = list(dict.fromkeys(name for row in rows for name in row))
        cells = [dict(zip(row, format_row(row), strict=True)) for row in rows]
        if step > 1:
            pieces.append(f"<p>Every {step}th of {len(record.epochs)} epochs:</p>")
        heads = [n.replace("_", " ") for n in names]
        pieces.append(table(heads, [[c.get(n, "") for n in names] for c in cells], right=heads))
    return pieces


def _kept(record: Record, fits: Sequence[Record]) -> list[str]:
    """Which weights each fit ended with; nothing where all ended with those after their last step."""
    chosen = [fit.kept for fit in fits or [record]]
    if len(chosen) < 2 or not any(chosen):
        return [kept for kept in chosen if kept]
    return [f"after fit {i}, {kept or 'the weights after its last step'}" for i, kept in enumerate(chosen, 1)]


def _plot_metrics(record: Record) -> Figure | None:
    """A small drawing per metric; None where there are none, or where a line would be one point."""
    known = {"epoch", "train_loss", "valid_loss", "rate", "seconds"}
    names = list(dict.fromkeys(n for row in record.epochs for n in row if n not in known))[:6]
    if not names or len(record.epochs) < 2:
        return None
    columns = min(2, len(names))
    figure, places = grid(len(names), columns, 6.4 / columns, 4.0 if len(names) < 3 else 2.2)
    for axes, name in zip(places, names, strict=True):
        points = [(row["epoch"], row[name]) for row in record.epochs if name in row]
        axes.plot([x for x, _ in points], [y for _, y in points], "s-", markersize=4, color="C2")
        axes.set_title(short(name, 30), fontsize=10, parse_math=False)
        axes.set_xlabel("epoch")
        axes.locator_params(axis="x", integer=True)
    return figure


def _validation(
    run: RunContext, found: Interpretation | None, scores: Mapping[str, float], beside: Baseline | None
) -> list[Piece]:
    if not scores:
        return ["<p>There is no validation split.</p>"]
    if found is None:
        return ["<p>A language model has no items whose losses could be compared; its scores are at the top.</p>"]
    task = found.task
    drawings: list[Piece] = []
    if task.predicts_numbers and not task.of_pixels:
        drawings.append(drawing(found.plot_predictions(), "Predicted and actual"))
    if task.is_exclusive or (task.of_pixels and task.classes):
        drawings.append(drawing(found.plot_confusion(), "What was taken for what"))
    if task.is_exclusive or task.is_multi:
        drawings.append(drawing(found.plot_calibration(), "Whether probabilities mean what they say"))
    some = (
        []
        if found.data is run.data
        else [f"<p>Of {len(found):,} persons, drawn from {len(run.data.ids('valid')):,}.</p>"]
    )
    tables = [_by_name(found)]
    if beside is not None:
        more = f"<p>{html.escape(beside.left_out)}</p>" if beside.left_out else ""
        tables.insert(0, f"<div><h3>What it must beat</h3>{frame(beside.to_frame(), 'model')}{more}</div>")
    if task.is_exclusive:
        pairs = found.most_confused()
        more = f", {PAIRS} of {len(pairs)} pairs" if len(pairs) > PAIRS else ""
        if len(pairs):
            tables.append(f"<div><h3>Most confused{more}</h3>{frame(pairs.head(PAIRS))}</div>")
    return [*some, *_figures(drawings), *_figures(tables)]


def _by_name(found: Interpretation) -> Piece:
    """How good the model is for each of the names, or, of many, for those that most is to be learnt of."""
    title, report = f"By {found.task.noun}", found.report()
    for column, told in (("f1", "classes with the lowest F1"), ("recommended", "items that are recommended most")):
        if len(report) > CLASSES and column in report:
            title = f"The {CLASSES} of {len(report)} {told}"
            report = report.sort_values(column, ascending=column == "f1", kind="stable").head(CLASSES)
    return f"<div><h3>{title}</h3>{frame(report, found.task.noun)}</div>"


def _figures(pieces: Sequence[Piece], kind: str = "figures") -> list[Piece]:
    """Pieces side by side."""
    return [f'<div class="{kind}">', *pieces, "</div>"] if pieces else []


def _worst(found: Interpretation) -> list[Piece]:
    worst = found.top_losses(WORST)
    heads, rows = [str(c) for c in worst.columns], [list(row) for row in worst.itertuples(index=False, name=None)]
    fields = [found.data.describe_item(found.split, int(i)) for i in worst.index]
    if any(fields):
        heads.append("item")
        rows = [[*row, Html(_fields(f))] for row, f in zip(rows, fields, strict=True)]
    images = [drawing(found.plot_top_losses(WORST), "Highest losses first")] if shows_images(found.data) else []
    return [*_figures(images, "figures wide"), table(heads, rows)]


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
    groups = [f"{g.name}: {g.n_params():,} parameters, {'trains' if g.trainable else 'frozen'}" for g in run.groups]
    clipped = "not clipped" if strategy.clip is None else f"clipped at a norm of {strategy.clip:g}"
    rows: list[tuple[str, Any]] = [
        ("task", f"{task.kind.replace('_', ' ')} of {len(task.names)}"),
        *((name.replace("_", " "), value) for name, value in task.settings().items()),
        ("loss", "the task's own" if task.loss_fn is None else name_of(task.loss_fn)),
        ("metrics", ", ".join(m.name for m in task.metrics) or "none"),
        ("model", f"{type(run.model).__name__}, {told_parameters(total, training)}"),
        ("layer groups", "\n".join(groups)),
        ("batch size", run.data.batch_size),
        ("device and precision", f"{strategy.device}, {strategy.precision}"),
        ("gradients", f"{clipped}; {strategy.accumulate} batch{'es' if strategy.accumulate > 1 else ''} per step"),
    ]
    named = {"wd": "weight decay", "bn_freeze": "batch-norm statistics kept"}
    rows += [(named.get(n, n.replace("_", " ")), value) for n, value in settings.items() if n not in _HIDDEN]
    return [(name, plain(value)) for name, value in rows]


def _data(data: Data[Any]) -> list[Piece]:
    rows = []
    for split in data.splits:
        try:
            known = data.fingerprint(split)
        except DataError as error:
            known = f"none: {error}"
        rows.append([split, f"{len(data.ids(split)):,}", known])
    return [f"<pre>{html.escape(repr(data))}</pre>", table(["split", "items", "fingerprint"], rows)]


def _environment(run: RunContext) -> list[tuple[str, str]]:
    device, threads = run.strategy.device, torch.get_num_threads()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} cores"
    return [
        *{**library_versions(), "torch": str(torch.__version__)}.items(),
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        ("device", f"{device}, {name}, {threads} thread{'s' if threads > 1 else ''}"),
    ]


def _odd_training(record: Record | None) -> list[str]:
    """Remarks on how a fit went; None where there was none."""
    if record is None:
        return ["This learner was not trained here: these are results of the model as it stands."]
    notes = []
    if record.stop_reason is not None:
        notes.append(f"The fit ended early: {record.stop_reason}.")
    bad = sum(not math.isfinite(v) for v in record.losses)
    if bad:
        notes.append(f"{bad} of {len(record)} training losses were no finite numbers.")
    valid = [(row["valid_loss"], int(row["epoch"])) for row in record.epochs if "valid_loss" in row]
    if valid and math.isfinite(valid[-1][0]) and record.kept is None:  # else the last epoch's weights are gone
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


def _odd_results(found: Interpretation, told: bool = False) -> list[str]:
    """Remarks on what a model says of items; it is `told` already where a constant is as good."""
    notes, task = [], found.task
    lost = int((~found.logits.isfinite()).reshape(len(found), -1).any(1).sum())
    if lost:
        notes.append(f"The outputs for {lost} of {len(found)} items are no finite numbers.")
    report = found.report()
    if task.predicts_numbers and "r2" in report:
        poor = [str(n) for n, r2 in report["r2"].items() if r2 <= 0]
        new = poor and not (told and len(poor) == len(report))
        return [*notes, f"Predicting the mean would be as good for {listed(poor)}."] if new else notes
    if not (task.is_exclusive or task.is_multi):
        return notes
    absent = report.index[report["support"] == 0].tolist()
    if absent:
        notes.append(
            f"No validation item has {listed(absent)}: nothing is known about {'it' if len(absent) == 1 else 'them'}."
        )
    never = report.index[(report["support"] > 0) & (report["recall"] == 0)].tolist()
    if never:
        notes.append(f"Never predicted rightly: {listed(never)}.")
    if task.is_exclusive:
        usual = report["support"].max() / len(found)
        right = int(found.confusion_matrix().diagonal().sum()) / len(found)
        if right <= usual and not told:
            notes.append(f"{right:.1%} are right; always saying the most frequent class would be right in {usual:.1%}.")
    error = found.calibration().error
    if error > OFF and len(found) >= ENOUGH:
        notes.append(f"Probabilities are off by {error:.0%} on average: do not take them at their word.")
    return notes
