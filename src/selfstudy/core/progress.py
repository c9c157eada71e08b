"""Progress for people: bars with rate and time left on a terminal, a line per part elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

SHOWN = 8  # finished bars that stay on the screen; beyond its height the newest would be cut off


class Progress:
    """Draws the bars of one run on standard error; nothing at all when not `visible`."""

    def __init__(self, visible: bool = True) -> None:
        self._visible = visible
        self._bars: Any = None
        self._finished: list[Any] = []

    def start(self) -> None:
        """Begin to draw."""
        if not self._visible:
            return
        from rich import progress
        from rich.console import Console

        self._console = Console(stderr=True)
        self._bars = progress.Progress(
            progress.TextColumn("{task.description:<22}", markup=False),
            progress.BarColumn(bar_width=30),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._bars.start()

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def message(self, text: str) -> None:
        """Print one line where bars cannot be drawn."""
        if self._bars is not None and not self._console.is_terminal:
            self._console.print(text, highlight=False, markup=False)

    @contextlib.contextmanager
    def bar(self, description: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
        """Show a bar while the block runs; yields the function that advances it."""
        if self._bars is None:
            yield lambda _: None
            return
        task = self._bars.add_task(description, total=total, completed=done, rate="")

        def advance(by: int) -> None:
            self._bars.advance(task, by)
            speed = self._bars.tasks[self._bars.task_ids.index(task)].speed
            self._bars.update(task, rate=f"{speed:,.1f}/s" if speed else "")

        try:
            yield advance
        finally:
            if self._bars is not None:
                self._bars.stop_task(task)
                self._finished.append(task)
                while len(self._finished) > SHOWN:
                    self._bars.remove_task(self._finished.pop(0))
