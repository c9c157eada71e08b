"""`selfstudy methods`."""

from __future__ import annotations

import argparse

from selfstudy.app.commands.command import Command


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--family", help="only this family, such as reasoning")


def _work(known: argparse.Namespace, _: list[str]) -> None:
    from selfstudy.app.catalogue import print_methods
    from selfstudy.app.tables import Output

    print_methods(known.family, Output())


COMMAND = Command("what there is, what each needs and gives, its claim's status", _add_options, _work)
