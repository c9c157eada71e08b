"""`selfstudy doctor`."""

from __future__ import annotations

import argparse

from selfstudy.app.commands.command import Command


def _add_options(parser: argparse.ArgumentParser) -> None:
    pass


def _work(_known: argparse.Namespace, _: list[str]) -> None:
    from selfstudy.app.doctor import print_doctor
    from selfstudy.app.tables import Output

    print_doctor(Output())


COMMAND = Command("what is installed, which device, what each missing extra would add", _add_options, _work)
