"""Changes of the labels: one wait for the disk serves all who came while the last one lasted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from selfstudy.core.errors import UsageError
from selfstudy.data.label_database import LabelDatabase

Work = Callable[[LabelDatabase], Any]


class Writer:
    """Changes the file of labels in a thread of its own, so that reading never waits for the disk.

    Args:
        directory: of the run.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="labels")
        self._waiting: list[tuple[Work, asyncio.Future[Any]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._store: LabelDatabase | None = None

    async def change(self, work: Work) -> Any:
        """Return what `work` returns when all that it has changed is on disk.

        Raises:
            UsageError: raised by `work`; then it has changed nothing.
        """
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return await done

    async def close(self) -> None:
        """Finish what is under way and let go of the file."""
        if self._writing is not None:
            await self._writing
        await asyncio.get_running_loop().run_in_executor(self._thread, self._let_go)
        self._thread.shutdown()

    async def _write(self) -> None:
        while self._waiting:
            now, self._waiting = self._waiting, []
            together = [work for work, _ in now]
            outcomes: list[Any]
            try:
                outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, self._do, together)
            except Exception as error:  # such as a full disk: nobody's change was kept, and each is told
                outcomes = [error] * len(now)
            for (_, done), outcome in zip(now, outcomes, strict=True):
                if done.cancelled():
                    continue
                if isinstance(outcome, Exception):
                    done.set_exception(outcome)
                else:
                    done.set_result(outcome)

    def _do(self, together: list[Work]) -> list[Any]:
        if self._store is None:  # SQLite wants a connection to stay in the thread that made it
            self._store = LabelDatabase(self._directory)
        outcomes: list[Any] = []
        with self._store.change():
            for work in together:
                try:
                    with self._store.part():
                        outcomes.append(work(self._store))
                except UsageError as error:
                    outcomes.append(error)
        return outcomes

    def _let_go(self) -> None:
        if self._store is not None:
            self._store.close()
