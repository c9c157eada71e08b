"""The learner of the last finished part of a run, kept beside it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from selfstudy.core.checkpoint import check_sums, find_class, name_class, write_sums
from selfstudy.core.files import read_json, write_json, write_whole

KIND = "kind.json"


class Kept:
    """Learners in a folder by number; the newest two stay.

    For runs of many stages each of which trains a learner anew: results of all stages would fill the disk.
    `write` within the stage: what is finished has then been written.

    Args:
        folder: made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, number: int, learner: Any) -> None:
        """Write a learner whole, and drop all but it and the one before."""

        def fill(temporary: Path) -> None:
            temporary.mkdir(parents=True)
            learner.save(temporary)
            write_json(temporary / KIND, name_class(type(learner)))
            write_sums(temporary)

        write_whole(self._place(number), fill)
        for old in sorted(self.folder.glob("[0-9]*"))[:-2]:
            shutil.rmtree(old)

    def read(self, number: int) -> Any:
        """Return the learner that was written under `number`.

        Raises:
            MachineError: it is missing or damaged.
        """
        folder = self._place(number)
        check_sums(folder)
        return find_class(read_json(folder / KIND), folder / KIND).load(folder)

    def _place(self, number: int) -> Path:
        return self.folder / f"{number:06d}"
