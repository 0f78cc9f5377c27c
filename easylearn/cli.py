"""Commands: `easylearn demo`, `pretrain-lm`, `predict`, `info`, `resume`, `search`, `serve`, `load`, `page`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from .errors import EasyLearnError
from .serve.command import add_commands

if TYPE_CHECKING:
    from .learning import Learner


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: as typed; None takes those of the process.

    Returns:
        0 if it worked; 1 after an error, which is printed without a traceback; 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="easylearn", description="Deep learning in a few lines, on PyTorch.")
    parser.add_argument("--version", action="version", version=f"easylearn {__version__}")
    commands = parser.add_subparsers(dest="command")
    device = argparse.ArgumentParser(add_help=False)
    device.add_argument("--device", help="cpu, cuda, mps (default: the best there is)")
    demo = commands.add_parser("demo", help="train on real data that is already here and draw what happened")
    what = "handwritten digits as pictures, a year of flights as a table, or reviews of food (default: %(default)s)"
    demo.add_argument("what", nargs="?", choices=["images", "tables", "text"], default="images", help=what)
    demo.add_argument("--out", help="folder for pictures and page (default: easylearn-demo/WHAT)")
    demo.add_argument("--epochs", type=int, help="epochs to train (default: 5 for images, 2 for tables, 3 for text)")
    what = "train a language model on a folder of text files"
    _add_pretrain(commands.add_parser("pretrain-lm", help=what, parents=[device]))
    predict = commands.add_parser("predict", help="predict with a model file, and write a csv", parents=[device])
    predict.add_argument("model", help="a file that learn.export wrote")
    predict.add_argument("paths", nargs="+", help="pictures, texts, csv or parquet files, or folders of them")
    predict.add_argument("--out", required=True, help="the csv to write: id, label, a probability per class")
    what = "skip: what cannot be read gets a row, too, with the reason in a last column (default: %(default)s)"
    predict.add_argument("--on-error", choices=["raise", "skip"], default="raise", help=what)
    info = commands.add_parser("info", help="say what a model file holds")
    info.add_argument("model", help="a file that learn.export wrote")
    resume = commands.add_parser("resume", help="go on with a run that was stopped", parents=[device])
    resume.add_argument("folder", help="what pretrain-lm was given as --out, or a folder of checkpoints")
    add_commands(commands)
    _add_search(commands.add_parser("search", help="help with a search, or look at one"))
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        parser.print_help()
        return 0
    run = {
        "demo": _demo, "pretrain-lm": _pretrain, "predict": _predict, "info": _info, "resume": _resume,
        "search": _search,
    }  # fmt: skip
    try:
        return run[chosen.command](chosen) if chosen.command in run else int(chosen.run(chosen))
    except (EasyLearnError, OSError) as error:
        print(f"easylearn: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("easylearn: interrupted", file=sys.stderr)
        return 130


def _demo(chosen: argparse.Namespace) -> int:
    from .demo import digits, flights, reviews  # what they need is imported only when they run

    run, usual = {"images": (digits, 5), "tables": (flights, 2), "text": (reviews, 3)}[chosen.what]
    run(chosen.out or f"easylearn-demo/{chosen.what}", epochs=usual if chosen.epochs is None else chosen.epochs)
    return 0


def _add_pretrain(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train an AWD-LSTM language model. The folder may have sub-folders train and valid; otherwise a fraction of "
        "the files validates. Stopped at any moment, the same command goes on where it was."
    )
    parser.add_argument("corpus", help="folder of .txt files, each a document")
    parser.add_argument("--out", required=True, help="folder for the encoder, its settings and checkpoints")
    parser.add_argument("--size", default="full", help="tiny, compact (for a CPU) or full (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the corpus (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=5e-3, help="highest learning rate (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="rows read side by side (default: %(default)s)")
    parser.add_argument("--bptt", type=int, default=70, help="tokens in a window (default: %(default)s)")
    parser.add_argument("--max-vocab", type=int, default=30_000, help="size of the vocabulary (default: %(default)s)")
    parser.add_argument("--min-freq", type=int, default=3, help="rarer tokens are unknown (default: %(default)s)")
    parser.add_argument("--tokenizer", default="word", help="word, bpe or unigram (default: %(default)s)")
    parser.add_argument("--valid", type=float, default=0.05, help="fraction that validates (default: %(default)s)")
    parser.add_argument("--fraction", type=float, default=1.0, help="of the files to read (default: %(default)s)")
    parser.add_argument("--drop-mult", type=float, default=0.5, help="scales all dropouts (default: %(default)s)")
    parser.add_argument("--sampled", type=int, help="choose among a batch's tokens and so many others only: faster")
    parser.add_argument("--backward", action="store_true", help="read each text from its end")
    parser.add_argument("--seed", type=int, default=0, help="of everything (default: %(default)s)")
    every = "a time, a number of steps, or epoch: when checkpoints are written (default: %(default)s)"
    parser.add_argument("--every", default="5min", help=every)


def _pretrain(chosen: argparse.Namespace) -> int:
    from .texts.pretrain import Pretraining, pretrain_lm, setting_names

    settings = Pretraining(**{name: getattr(chosen, name) for name in setting_names()})
    every = int(chosen.every) if chosen.every.isdecimal() else chosen.every
    return _report(pretrain_lm(chosen.corpus, chosen.out, settings, every=every, device=chosen.device), chosen.out)


def _report(learn: Learner, out: str) -> int:
    """Say where a language model is, or that its run stopped."""
    if learn.record is not None and learn.record.stop_reason is not None:
        print(f"The run stopped: {learn.record.stop_reason}. The same command goes on from there.")
        return 130
    print(f"It is in {out}: language_model_learner(data, pretrained={out!r}) starts from it.")
    return 0


def _predict(chosen: argparse.Namespace) -> int:
    from .export import load_predictor

    predictor = load_predictor(chosen.model, device=chosen.device)
    n = predictor.to_csv([Path(p) for p in chosen.paths], chosen.out, chosen.on_error)
    errors = "; the column error says which items cannot be read, and why" if chosen.on_error == "skip" else ""
    print(f"{n:,} predictions in {chosen.out}{errors}")
    return 0


def _info(chosen: argparse.Namespace) -> int:
    from .artefact.archive import Archive
    from .artefact.model_file import summary

    with Archive(chosen.model) as archive:
        print(summary(archive))
    return 0


def _resume(chosen: argparse.Namespace) -> int:
    folder = Path(chosen.folder)
    if (folder / "settings.json").is_file():
        from .texts.pretrain import resume_pretraining

        return _report(resume_pretraining(folder, device=chosen.device), chosen.folder)
    from .train.checkpoints.reader import SavedRun

    # What a run was trained on is made by code, and no file of ours holds any: its owner's script goes on.
    print(SavedRun(folder).describe())
    print(
        "To go on, make the data and the learner as the script did that was stopped, and call "
        f"learn.resume({str(folder)!r}) instead of learn.fit(...)."
    )
    return 0


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Take trials of a search that runs elsewhere, on another machine that shares the folder, say, until there are "
        "no more. The functions make and fit are read from the file in which they were."
    )
    parser.add_argument("what", choices=["join"], help="join: work for it")
    parser.add_argument("folder", help="what search(make, space, fit, FOLDER) was given")
    parser.add_argument("--script", help="the file with make and fit, where it lies elsewhere on this machine")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")


def _search(chosen: argparse.Namespace) -> int:
    from .experiment.search import join

    print(join(chosen.folder, chosen.script, chosen.workers))
    return 0
