"""Who is looking at which item, so that two people at once get different ones where there are enough."""

from __future__ import annotations

import time
from collections.abc import Callable

from selfstudy.data.label_answers import Asked, Item, is_open, item, next_item, open_query
from selfstudy.data.label_database import LabelDatabase

LEASE = 120.0  # seconds for which an item is kept for the person who is looking at it


class Desk:
    """Hands out items. What is on loan lives in memory: after a restart nobody holds anything.

    Args:
        store: the labels.
        clock: tells seconds.
    """

    def __init__(self, store: LabelDatabase, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._loans: dict[str, tuple[int, float]] = {}

    def item_for(self, who: str) -> tuple[Asked, Item] | None:
        """Return the open query and the item that a person is to label; None: there is nothing for them.

        The same one again until it is answered, skipped, or lent for longer than `LEASE`.
        """
        asked = open_query(self._store)
        if asked is None:
            return None
        now = self._clock()
        self._loans = {name: loan for name, loan in self._loans.items() if loan[1] > now}
        mine = self._loans.get(who)
        if mine is not None and is_open(self._store, mine[0], who):
            found: Item | None = item(self._store, mine[0])
        else:
            others = [number for name, (number, _) in self._loans.items() if name != who]
            found = next_item(self._store, asked.id, who, others)
        if found is None:
            return None
        self.lend(who, found.id)
        return asked, found

    def lend(self, who: str, number: int) -> None:
        """Give an item to a person."""
        self._loans[who] = (number, self._clock() + LEASE)

    def give_back(self, who: str) -> None:
        """End a person's loan."""
        self._loans.pop(who, None)
