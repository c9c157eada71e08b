"""`selfstudy claim`."""

from __future__ import annotations

import argparse
from pathlib import Path

from selfstudy.app.commands.command import Command, add_ray, positive
from selfstudy.core.errors import UsageError


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", nargs="?", help="whose claims to test")
    parser.add_argument("--all", action="store_true", help="the claims of every method")
    parser.add_argument("--seeds", type=int, help="only so many seeds; such a result is not recorded")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/claims"), help="where the runs go (default: %(default)s)"
    )
    add_ray(parser, "seeds")


def _work(known: argparse.Namespace, _: list[str]) -> int:
    from selfstudy.app.claiming import claim
    from selfstudy.app.tables import Output

    if bool(known.method) == known.all:
        raise UsageError("Name one method, or give --all: selfstudy claim METHOD.")
    seeds = positive("--seeds", known.seeds)
    return claim(known.method, known.out, seeds, Output(), ray=known.ray)


COMMAND = Command("test what a method is worth, on all its seeds", _add_options, _work)
