"""`selfstudy resume`."""

from __future__ import annotations

import argparse
from pathlib import Path

from selfstudy.app.commands.command import Command, add_ray


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path)
    parser.add_argument("--budget", help="larger limits than it had, such as tokens=4e6")
    add_ray(parser)


def _work(known: argparse.Namespace, _: list[str]) -> None:
    from selfstudy.app.resuming import resume
    from selfstudy.app.tables import Output

    resume(known.directory, known.budget, known.ray, Output())


COMMAND = Command("continue a run that was cut off", _add_options, _work, in_group=True)
