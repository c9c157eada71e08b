"""Training by itself: `selfstudy resume` as a process of its own, whenever the run has all it asked for."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from pathlib import Path

from selfstudy.app.saving import finished
from selfstudy.core.directory import is_worked_on
from selfstudy.core.errors import Waiting
from selfstudy.data.label_answers import open_query
from selfstudy.data.label_database import LabelDatabase

LOG = "training.log"
COMMAND = (sys.executable, "-m", "selfstudy", "resume")
LOOKS = 1.0  # seconds between two looks at what other processes have done
PATIENCE = 20.0  # seconds for a training to save and end after it was asked to
IDLE, TRAINING, FAILED, FINISHED = "idle", "training", "failed", "finished"


class Trainer:
    """Goes on with a run when its query is complete; one process at a time.

    Args:
        directory: of the run.
        store: its labels.

    Attributes:
        state: idle (labels are awaited), training, failed, or finished.
        said: the last lines of a failed training.
    """

    def __init__(self, directory: Path, store: LabelDatabase) -> None:
        self.state, self.said = IDLE, ""
        self._directory, self._store = directory, store
        self._wake = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._started = 0.0

    @property
    def seconds(self) -> int:
        """How long the training has taken so far."""
        return int(time.monotonic() - self._started)

    def look(self) -> None:
        """Look at once whether there is something to do."""
        self._wake.set()

    def again(self) -> None:
        """Try again after a failure."""
        if self.state == FAILED:
            self.state = IDLE
        self.look()

    async def watch(self) -> None:
        """Train whenever there is something to train on, until the run is finished."""
        while self.state != FINISHED:
            if finished(self._directory):
                self.state = FINISHED
            elif is_worked_on(self._directory):  # by a command given in a terminal, or before a restart
                self._begin()
            elif self.state != FAILED and self._complete():
                self._begin()
                await self._train()
            elif self.state == TRAINING:
                self.state = IDLE
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOKS)

    async def stop(self) -> None:
        """Ask a training to save and end, and wait for it."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), PATIENCE)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _begin(self) -> None:
        if self.state != TRAINING:
            self.state, self._started = TRAINING, time.monotonic()

    def _complete(self) -> bool:
        asked = open_query(self._store)
        return asked is None or asked.done == asked.items

    async def _train(self) -> None:
        with open(self._directory / LOG, "wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *COMMAND, str(self._directory), stdout=log, stderr=asyncio.subprocess.STDOUT
            )
            code = await self._process.wait()
        if code == 0 or (code == Waiting.exit_code and open_query(self._store) is not None):
            self.state = IDLE
        else:
            lines = (self._directory / LOG).read_text(errors="replace").strip().splitlines()
            self.state, self.said = FAILED, "\n".join(lines[-8:]) or f"It ended with exit code {code}."
        self.look()
