"""The signals that ask a run to stop."""

from __future__ import annotations

import signal
from typing import Any


class Interrupts:
    """Remembers SIGINT and SIGTERM, so that a run stops between two pieces of work; the second one at once.

    Attributes:
        heard: the number of the first; None before it.
    """

    def __init__(self) -> None:
        self.heard: int | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Take the place of the handlers there are; outside the main thread the caller handles signals."""
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._handlers[number] = signal.signal(number, self.hear)
            except ValueError:  # not the main thread
                break

    def hear(self, number: int, _frame: object = None) -> None:
        """Remember a signal.

        Raises:
            KeyboardInterrupt: it is the second one.
        """
        if self.heard is not None:
            raise KeyboardInterrupt
        self.heard = number

    def give_back(self) -> None:
        """Put the handlers back that were there."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())
