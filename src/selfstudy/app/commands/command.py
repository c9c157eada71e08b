"""What a command of the command line is, and the options that several have."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

from selfstudy.core.errors import UsageError


class Command(NamedTuple):
    """One command.

    Attributes:
        help: what it does, in a line.
        add_options: adds its options to its parser.
        work: does it, and returns the exit code, None for 0. It is given the options, and those arguments
            that are none of them.
        epilog: what its help says last.
        takes_fields: tells from the options whether further arguments are fields, which `work` reads.
        in_group: whether several processes of torchrun may do it together.
    """

    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    work: Callable[[argparse.Namespace, list[str]], int | None]
    epilog: str | None = None
    takes_fields: Callable[[argparse.Namespace], bool] = lambda known: False
    in_group: bool = False


def always(known: argparse.Namespace) -> bool:
    """Say yes: the `takes_fields` of a command whose further arguments are always fields."""
    return True


def add_ray(parser: argparse.ArgumentParser, what: str = "batches of problems") -> None:
    """Add --ray, which spreads `what`."""
    parser.add_argument(
        "--ray",
        metavar="WHERE",
        help=f"{what} go to Ray workers: local (a worker a core), auto (the cluster of this "
        "machine) or HOST:PORT of its head (default: this process)",
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add --seed."""
    parser.add_argument("--seed", type=int, default=0, help="root of all random draws (default: 0)")


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add --train-limit and --test-limit."""
    parser.add_argument("--train-limit", type=int, help="use so many training problems (default: all)")
    parser.add_argument("--test-limit", type=int, help="evaluate on so many test problems (default: all)")


def with_labels(task: str, labels: int | None) -> str:
    """Return the task's specification with its number of labels.

    Raises:
        UsageError: a number below 1, or the specification has one already.
    """
    if labels is None:
        return task
    name, _, query = task.partition("?")
    if any(field.startswith("labels=") for field in query.split("&")):
        raise UsageError(f"The task {task!r} says how many labels to use, and so does --labels. Say it once.")
    field = f"labels={positive('--labels', labels)}"
    return f"{name}?{query}&{field}" if query else f"{name}?{field}"


def positive(option: str, number: int | None) -> int | None:
    """Return an option's number; raise a UsageError where it is below 1."""
    if number is not None and number < 1:
        raise UsageError(f"{option} needs a number of 1 or more, not {number}.")
    return number
