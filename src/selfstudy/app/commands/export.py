"""`selfstudy export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from selfstudy.app.commands.command import Command


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path)
    parser.add_argument("--onnx", type=Path, required=True, metavar="FILE", help="such as encoder.onnx")


def _work(known: argparse.Namespace, _: list[str]) -> None:
    from selfstudy.app.exporting import export
    from selfstudy.app.tables import Output

    export(known.directory, known.onnx, Output())


COMMAND = Command("write the trained encoder of a run as an ONNX file, and check it", _add_options, _work)
