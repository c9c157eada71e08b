"""A run's directory: refused when it is another run's, locked while it is worked on."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO, Any

from selfstudy.core.config import difference
from selfstudy.core.errors import UsageError
from selfstudy.core.files import full_disk_explained, is_leftover, read_json, remove_leftovers, write_json

ASKED, LOCK = "run.json", ".lock"


def open_directory(directory: Path, config: dict[str, Any]) -> IO[str]:
    """Make `directory`, or enter the run with this configuration in it; return the lock, to be closed.

    Raises:
        UsageError: it holds something else, is in use, or cannot be written. Nothing in it was changed.
    """
    refuse_other(directory, config)
    try:
        with full_disk_explained(directory):
            directory.mkdir(parents=True, exist_ok=True)
            lock = open(directory / LOCK, "w")  # noqa: SIM115 - held as long as the run
    except OSError as error:
        raise UsageError(
            f"The directory {directory} cannot be made or written ({error.strerror}). Give another --out."
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        refuse_other(directory, config)  # again, now that no other process can be starting here
        remove_leftovers(directory)
        for part in ("stages", "partial"):
            remove_leftovers(directory / part, deep=True)
        if not (directory / ASKED).exists():
            write_json(directory / ASKED, config)
    except BlockingIOError:
        lock.close()
        raise UsageError(f"The run in {directory} is being worked on by another process.") from None
    except BaseException:
        lock.close()
        raise
    return lock


def refuse_other(directory: Path, config: dict[str, Any]) -> None:
    """Raise a `UsageError` when `directory` holds a run with another configuration, or something else."""
    asked = directory / ASKED
    if asked.exists():
        changes = difference(read_json(asked), config)
        if changes:
            raise UsageError(
                f"The directory {directory} holds a run with another configuration: {changes}. "
                "Nothing was changed. Give another --out, or the settings it was started with."
            )
    # A run killed in its first moments leaves a lock, perhaps with a temporary, and may start again.
    elif directory.is_dir() and any(not _ours(path) for path in directory.iterdir()):
        raise UsageError(f"The directory {directory} is not empty and holds no run. Give another --out.")


def _ours(path: Path) -> bool:
    return path.name == LOCK or is_leftover(path)


def is_worked_on(directory: Path) -> bool:
    """Tell whether a process is working on the run in `directory`."""
    try:
        with open(directory / LOCK) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
