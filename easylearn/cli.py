"""The command line: `easylearn demo`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import __version__
from .errors import EasyLearnError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: as typed; None takes those of the process.

    Returns:
        0 if it worked; 1 after an error, which is printed without a traceback; 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="easylearn", description="Deep learning in a few lines, on PyTorch.")
    parser.add_argument("--version", action="version", version=f"easylearn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="train on real data that is already here and draw what happened")
    demo.add_argument(
        "what",
        nargs="?",
        choices=["images", "tables"],
        default="images",
        help="handwritten digits as pictures, or a year of flights as a table (default: %(default)s)",
    )
    demo.add_argument("--out", default="easylearn-demo", help="folder for pictures and page (default: %(default)s)")
    demo.add_argument("--epochs", type=int, help="epochs to train (default: 5 for images, 2 for tables)")
    chosen = parser.parse_args(arguments)
    try:
        from .demo import digits, flights  # what they need is imported only when they run

        run, usual = (flights, 2) if chosen.what == "tables" else (digits, 5)
        run(chosen.out, epochs=usual if chosen.epochs is None else chosen.epochs)
    except (EasyLearnError, OSError) as error:
        print(f"easylearn: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("easylearn: interrupted", file=sys.stderr)
        return 130
    return 0
