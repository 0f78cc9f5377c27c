"""What is odd about a run, in sentences: remarks that are worth a line of a report."""

from __future__ import annotations

import math

from ..train.record import Record
from .interpret import Interpretation
from .page import listed

# From which a remark is worth a line. They are thresholds of attention, not of truth.
ROSE, GAP, OFF = 0.05, 2.0, 0.1
ENOUGH = 200  # items; of fewer, chance alone puts probabilities off by 5 % and more (0.8 * 0.4 * sqrt(5 bins / items))


def odd_training(record: Record | None) -> list[str]:
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


def odd_results(found: Interpretation) -> list[str]:
    """Remarks on what a model says of items."""
    notes, task = [], found.task
    lost = int((~found.logits.isfinite()).reshape(len(found), -1).any(1).sum())
    if lost:
        notes.append(f"The outputs for {lost} of {len(found)} items are no finite numbers.")
    report = found.report()
    if task.predicts_numbers:
        poor = [str(n) for n, r2 in report["r2"].items() if r2 <= 0]
        return [*notes, f"Predicting the mean would be as good for {listed(poor)}."] if poor else notes
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
        if right <= usual:
            notes.append(f"{right:.1%} are right; always saying the most frequent class would be right in {usual:.1%}.")
    error = found.calibration().error
    if error > OFF and len(found) >= ENOUGH:
        notes.append(f"Probabilities are off by {error:.0%} on average: do not take them at their word.")
    return notes
