"""`selfstudy demo`."""

from __future__ import annotations

import argparse
from pathlib import Path

from selfstudy.app.commands.command import Command, add_seed


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="its directory (default: %(default)s)"
    )
    add_seed(parser)


def _work(known: argparse.Namespace, _: list[str]) -> None:
    from selfstudy.app.demo import demo

    demo(known.out, seed=known.seed)


COMMAND = Command("the main job on the embedded default, with a report at the end", _add_options, _work)
