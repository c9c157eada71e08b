"""What can go wrong, and the exit code each kind of failure carries.

    SelfstudyError                 1   anything of ours
    ├── UsageError                 2   what was asked for: names, options, configuration
    ├── DataError                  3   what went in: files, rows, verifiers
    ├── MachineError               4   where it runs: missing extras, full disks, damaged files
    │   └── MissingExtra           4   an optional dependency, with the command that installs it
    ├── BudgetSpent                5   the budget ends here; what was done is kept
    ├── Waiting                    6   a person is asked; the run goes on when the answers are there
    └── Stopped                  130   a signal asked for a clean stop; the run can be resumed

Messages are one paragraph: what was given, what is allowed, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SelfstudyError(Exception):
    """Base of every error meant for a user."""

    exit_code = 1


class UsageError(SelfstudyError):
    """A name, an option or a configuration that cannot be right."""

    exit_code = 2


class DataError(SelfstudyError):
    """Input data, or a verifier of it, that cannot be used."""

    exit_code = 3


class MachineError(SelfstudyError):
    """The machine lacks something: a package, disk space, an undamaged file."""

    exit_code = 4


class MissingExtra(MachineError):
    """An optional dependency is not installed; the message names the pip command."""

    def __init__(self, package: str, extra: str) -> None:
        self._names = package, extra
        super().__init__(
            f"This needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'selfstudy[{extra}]'"
        )

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        return MissingExtra, self._names


class BudgetSpent(SelfstudyError):
    """The budget does not cover the next piece of work."""

    exit_code = 5


class Waiting(SelfstudyError):
    """The run cannot go on before a person has answered."""

    exit_code = 6


class Stopped(SelfstudyError):
    """A signal asked the run to stop; everything up to here is on disk."""

    exit_code = 130


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the known word closest to `name`, or lists them all.

    >>> nearest("rest-mtcs", ["rest-mcts", "rest-em"])
    "Did you mean 'rest-mcts'?"
    >>> nearest("x", ["b", "a"])
    'Known: a, b.'
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
