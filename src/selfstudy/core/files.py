"""Files that are whole or absent: temporary name, fsync, rename; append-only logs that survive a cut."""

from __future__ import annotations

import bisect
import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from selfstudy.core.errors import MachineError


@contextlib.contextmanager
def full_disk_explained(path: Path) -> Iterator[None]:
    """Turn "no space left" into an error a user can act on."""
    try:
        yield
    except Exception as error:
        if not _no_space(error):
            raise
        raise MachineError(
            f"The disk is full while writing {path}. Nothing written before is lost: free some space "
            "and resume the run."
        ) from error


def _no_space(error: BaseException | None) -> bool:
    if isinstance(error, MachineError):  # explained already, for a file inside the one being written
        error = error.__cause__
    numbers = (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, OSError):
        return error.errno in numbers
    # safetensors and tokenizers have exceptions of their own: "... (os error 28)".
    return any(f"(os error {number})" in str(error) for number in numbers)


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Make the file or folder `path` by `write(temporary)`; it appears complete or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside = path.with_name(f".{path.name}.{os.getpid()}.old.tmp")
    with full_disk_explained(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for leftover in (temporary, aside):  # of a killed process that had this process's number
                _remove(leftover)
            write(temporary)
            for part in [temporary, *temporary.rglob("*")] if temporary.is_dir() else [temporary]:
                if part.is_file() or part.is_dir():
                    _sync(part)
            if temporary.is_dir() and path.exists():
                # A folder that is not empty cannot be replaced, and removing it takes many steps.
                os.replace(path, aside)
            os.replace(temporary, path)
            _sync(path.parent)
        except BaseException:
            if aside.exists() and not path.exists():
                os.replace(aside, path)
            _remove(temporary)
            raise
        finally:
            if path.exists():
                _remove(aside)


def remove_leftovers(folder: Path, *, deep: bool = False) -> None:
    """Remove what killed processes were writing in `folder`, and below it when `deep`.

    Only for folders that no other process writes to.
    """
    for path in list(folder.rglob(".*.tmp") if deep else folder.glob(".*.tmp")):
        if is_leftover(path):
            _remove(path)


def is_leftover(path: Path) -> bool:
    """Tell whether `path` is a temporary of `write_whole`."""
    return re.fullmatch(r"\..+\.\d+(\.old)?\.tmp", path.name) is not None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole; numpy scalars and arrays become numbers and lists."""
    write_text(path, json.dumps(value, indent=1, default=plain) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of ours.

    Raises:
        MachineError: the file is missing, truncated or edited into something else.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MachineError(f"The file {path} is missing.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MachineError(
            f"The file {path} is damaged ({error}). Restore it, or delete its folder to redo that part."
        ) from None


def as_read(value: Any) -> Any:
    """Return JSON data as it would be read back: tuples as lists, keys as text, numpy as plain numbers."""
    return json.loads(json.dumps(value, default=plain))


def plain(value: Any) -> Any:
    """Convert what json does not know; for `json.dumps(default=...)`."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


class Log:
    """An append-only file of JSON lines; a line cut off by a kill is dropped when it is reopened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mended = False

    def append(self, value: Any, *, forced: bool = True) -> None:
        """Add one line and force it to disk, unless the caller does that later, by `force`."""
        line = (json.dumps(value, default=plain) + "\n").encode()
        with full_disk_explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self._mended:
                self._whole()
            # Unbuffered: on a full disk a buffer would write its rest when closed, into the space made below.
            with open(self.path, "ab", buffering=0) as file:
                start = file.tell()
                try:
                    while line:
                        line = line[file.write(line) :]
                    if forced:
                        os.fsync(file.fileno())
                except BaseException:
                    with contextlib.suppress(OSError):
                        os.truncate(self.path, start)
                    raise

    def force(self) -> None:
        """Force what was appended to disk."""
        if self.path.exists():
            with full_disk_explained(self.path):
                _sync(self.path)

    def read(self) -> list[Any]:
        """Return all complete lines, and cut an incomplete last one off the file."""
        try:
            return [json.loads(line) for line in self._whole().splitlines()]
        except ValueError as error:  # not JSON, or not even text
            raise MachineError(
                f"The file {self.path} is damaged ({error}). Delete it to redo that part of the run."
            ) from None

    def _whole(self) -> bytes:
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            self.cut(whole)
        self._mended = True
        return data[:whole]

    def size(self) -> int:
        """Return the length in bytes; 0 when there is no file yet."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Shorten the file to `size` bytes."""
        if self.size() > size:
            os.truncate(self.path, size)


class Journal(Log):
    """A log that a resumed program goes through again from its start; lines it holds already stay.

    Args:
        path: of the file.
        kept: the bytes at its beginning that are never written anew, whatever is added there.

    Attributes:
        place: bytes from the start to where the next line belongs.
    """

    def __init__(self, path: Path, kept: int = 0) -> None:
        super().__init__(path)
        self.place = 0
        self._unsettled = False
        self._kept = kept
        self._ends = [match.end() for match in re.finditer(b"\n", self._whole())]

    def go_to(self, place: int) -> None:
        """Set the place where the next line belongs, at most the end of the file."""
        before = bisect.bisect_right(self._ends, place)
        self.place = self._ends[before - 1] if before else 0

    def add(self, line: dict[str, Any]) -> None:
        """Pass over the line at this place if only its seconds differ from `line`; else end the file here.

        A new line is on disk for sure once `settled` is called; a killed process loses none.
        """
        before = bisect.bisect_right(self._ends, self.place)
        if before < len(self._ends):
            end = self._ends[before]
            if end <= self._kept or _timeless(self._between(self.place, end)) == _timeless(as_read(line)):
                self.place = end
                return
            self.cut(self.place)
            del self._ends[before:]
        self.append(line, forced=False)
        self.place = self.size()
        self._ends.append(self.place)
        self._unsettled = True

    def settled(self) -> int:
        """Force all lines to disk and return the place: from there on another file may refer to it."""
        if self._unsettled:
            self.force()
            self._unsettled = False
        return self.place

    def passed(self) -> list[Any]:
        """Return the lines before this place."""
        before = bisect.bisect_right(self._ends, self.place)
        return self.read()[:before]

    def _between(self, start: int, end: int) -> Any:
        with open(self.path, "rb") as file:
            file.seek(start)
            try:
                return json.loads(file.read(end - start))
            except ValueError:  # damaged: equal to nothing
                return {}


def _timeless(line: dict[str, Any]) -> str:
    # As text, so that nan equals itself.
    return json.dumps({name: value for name, value in line.items() if name != "seconds"})


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
