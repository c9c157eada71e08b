"""`selfstudy label`."""

from __future__ import annotations

import argparse
from pathlib import Path

from selfstudy.app.commands.command import Command, positive


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path)
    parser.add_argument("--host", default="127.0.0.1", help="to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="to listen on (default: any free one)")
    parser.add_argument("--annotators", type=int, help="people to answer each item (default: 1)")
    parser.add_argument(
        "--import", type=Path, dest="bring", metavar="FILE", help="read labels from .json or .csv, and end"
    )
    parser.add_argument(
        "--export", type=Path, metavar="FILE", help="write labels to .json (Label Studio) or .csv, and end"
    )


def _work(known: argparse.Namespace, _: list[str]) -> None:
    from importlib.util import find_spec

    from selfstudy.core.errors import MissingExtra

    for module in ("fastapi", "uvicorn", "jinja2", "python_multipart"):
        if find_spec(module) is None:
            raise MissingExtra(module.replace("_", "-"), "label")
    from selfstudy.app.labelling.server import label
    from selfstudy.app.tables import Output

    label(
        known.directory,
        Output(),
        host=known.host,
        port=known.port,
        annotators=positive("--annotators", known.annotators),
        export=known.export,
        bring=known.bring,
    )


COMMAND = Command("a local page where people label what a run asks for", _add_options, _work)
