from __future__ import annotations

from ..errors import DataError
from .labels import find_labels, have_classes


class Given:
    def __init__(self, values, ids, where, task, sep, names):
        self.values, self.ids, self.where, self.task, self.sep, self.names = (
            list(values),
            [str(i) for i in ids],
            where,
            task or "auto",
            sep,
            names,
        )

    @property
    def stratify_codes(self):
        return self.values if len(self.names) < 2 and have_classes(self.values, self.task, self.sep) else None

    def learn(self, rows):
        rows = range(len(self.values)) if rows is None else rows
        return find_labels(
            [self.values[i] for i in rows], [self.ids[i] for i in rows], self.where, self.task, self.sep, self.names
        )


def read_targets(frame, names, where, task=None, sep=None):
    for n in names:
        if n not in frame.columns:
            raise DataError(f"{where} has no column {n!r}.")
    vals = (
        frame[names[0]].tolist() if len(names) == 1 else [tuple(r) for r in frame[list(names)].itertuples(index=False)]
    )
    return Given(
        vals,
        frame.index,
        f"column {names[0]!r}" if len(names) == 1 else f"columns {list(names)}",
        task,
        sep,
        tuple(names) if len(names) > 1 else (),
    )


class Learned:
    def __init__(self, labels):
        self.labels, self.task = labels, labels.task

    def encode(self, given, rows, split):
        rows = range(len(given.values)) if rows is None else rows
        return self.labels.encode([given.values[i] for i in rows], [given.ids[i] for i in rows], split)


_old = Given.learn
Given.learn = lambda self, rows: Learned(_old(self, rows))
