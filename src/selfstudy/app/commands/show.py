"""`selfstudy show`."""

from __future__ import annotations

import argparse
from pathlib import Path

from selfstudy.app.commands.command import Command


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", help="its name; see `selfstudy methods`")
    parser.add_argument(
        "--plot",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="FILE",
        help="draw its learning rates instead (default: METHOD-learning-rate.html)",
    )


def _plots(known: argparse.Namespace) -> bool:
    return known.plot is not None


def _work(known: argparse.Namespace, rest: list[str]) -> None:
    from selfstudy.app.tables import Output

    if _plots(known):
        from selfstudy.app.plotting import plot

        plot(known.method, rest, known.plot, Output())
    else:
        from selfstudy.app.catalogue import print_method

        print_method(known.method, Output())


COMMAND = Command(
    "what a method does, its fields and its claims",
    _add_options,
    _work,
    epilog="With --plot every other option is a field of the method, such as --schedule.plateau 0.3.",
    takes_fields=_plots,
)
