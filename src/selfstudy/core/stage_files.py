"""The result of a finished stage as a folder: JSON data, or whatever the result's own `save` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from selfstudy.core import checkpoint
from selfstudy.core.files import read_json, write_json, write_whole

STAGE = "stage.json"


class Finished(NamedTuple):
    """A stage that was read back.

    Attributes:
        result: what it gave.
        place: the counts and the line of the log when it was finished, as `write_stage` was told.
    """

    result: Any
    place: dict[str, Any]


def write_stage(path: Path, result: Any, place: dict[str, Any]) -> None:
    """Write a result and its place as the folder `path`, with checksums, whole.

    Raises:
        UsageError: an object whose class could not be found again.
    """
    saves = hasattr(result, "save")
    kind = checkpoint.name_class(type(result)) if saves else ""

    def write(folder: Path) -> None:
        folder.mkdir(parents=True)
        if saves:
            result.save(folder)
        write_json(folder / STAGE, {**({"kind": kind} if saves else {"value": result}), **place})
        checkpoint.write_sums(folder)

    write_whole(path, write)


def read_stage(path: Path) -> Finished:
    """Read what `write_stage` wrote.

    Raises:
        MachineError: a file is damaged, or the result is of a class that is not ours.
    """
    checkpoint.check_sums(path)
    content = read_json(path / STAGE)
    if "value" in content:
        return Finished(content.pop("value"), content)
    kind = checkpoint.find_class(content.pop("kind"), path / STAGE)
    return Finished(kind.load(path), content)
