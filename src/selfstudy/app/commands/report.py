"""`selfstudy report`."""

from __future__ import annotations

import argparse
from pathlib import Path

from selfstudy.app.commands.command import Command


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path)
    parser.add_argument("--png", action="store_true", help="draw its charts and pictures as PNG files too")


def _work(known: argparse.Namespace, _: list[str]) -> None:
    from selfstudy.app.report import read_comparison, write_report
    from selfstudy.app.tables import Output

    console, comparison = Output(), read_comparison(known.directory)
    files = [write_report(known.directory)]
    if comparison:
        from selfstudy.app.comparison import print_comparison

        print_comparison(comparison, console)
    if known.png:
        from selfstudy.app.images import write_images

        files += write_images(known.directory)
    for file in files:
        console.print(str(file), highlight=False, soft_wrap=True, markup=False)


COMMAND = Command("make report.html of a run or a comparison", _add_options, _work)
