"""Which texts are known, and at which slots: a radix tree over token ids with room for so many tokens.

Every edge holds the tokens that its texts share, one slot a token. What was used longest ago makes room.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import NamedTuple

import numpy as np

SPARE = 16  # at least this part of the capacity is freed at a time, for looking for leaves walks the tree


class PrefixTree:
    """Token sequences and their slots.

    Args:
        capacity: tokens that fit.

    Attributes:
        used: tokens that are known.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._takings = np.zeros(capacity, dtype=np.int64)  # how often each slot was taken
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._root = _Node(b"", np.zeros(0, dtype=np.int64), None)
        # Slots given back, a stack whose top is at `_returned - 1`; those from `_fresh` on were never taken.
        self._free = np.empty(self.capacity, dtype=np.int64)
        self._returned = self._fresh = 0
        self._clock = 0
        self._held_since: int | None = None

    @property
    def used(self) -> int:
        """How many tokens are known or taken."""
        return self._fresh - self._returned

    @property
    def _left(self) -> int:
        return self.capacity - self.used

    def longest(self, tokens: np.ndarray) -> np.ndarray:
        """Return the slots, int64 [m], of the longest known beginning of `tokens`, int32 [n]; now used."""
        return self._walk(tokens)[0]

    def end(self, tokens: np.ndarray) -> Way | None:
        """Return where a text that is wholly known ends; None for others, and for the empty text."""
        parts, node, gone = self._go(tokens.tobytes(), split=False, node=self._root)
        return Way(node, gone) if 0 < sum(map(len, parts)) == len(tokens) else None

    def onward(self, way: Way, token: int) -> Way | None:
        """Return where `way` leads with one more token; None where that is not known."""
        node, gone = way
        data = token.to_bytes(4, sys.byteorder)
        if gone < len(node.slots):
            return Way(node, gone + 1) if node.data.startswith(data, 4 * gone) else None
        child = node.children.get(data)
        if child is None:
            return None
        child.used = self._clock
        return Way(child, 1)

    @contextmanager
    def hold(self, texts: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """Give the slots of the longest known beginning of each text, and keep them from being given away.

        Holds cannot be nested.
        """
        self._held_since = self._clock + 1
        try:
            yield [self._walk(text, split=True)[0] for text in texts]
        finally:
            self._held_since = None

    def pin(self, tokens: np.ndarray) -> Known:
        """Return the longest known beginning of `tokens`, and keep it until it is unpinned as often."""
        slots, node, _ = self._walk(tokens, split=True)
        node.pins += 1
        return Known(slots, node)

    def pin_again(self, known: Known) -> Known:
        """Pin what is pinned once more."""
        known.node.pins += 1
        return known

    def unpin(self, known: Known) -> None:
        """Let go of what was pinned, once."""
        known.node.pins -= 1

    def take(self, count: int) -> np.ndarray | None:
        """Return `count` slots for new tokens, int64; None where what is held leaves no room."""
        if self._left < count:
            self._make_room(max(count, self.capacity // SPARE))
        if self._left < count:
            return None
        again = min(count, self._returned)
        self._returned -= again
        fresh = np.arange(self._fresh, self._fresh + count - again)
        self._fresh += count - again
        slots = np.concatenate((self._free[self._returned : self._returned + again][::-1], fresh))
        self._takings[slots] += 1
        return slots

    def ids(self, slots: np.ndarray) -> np.ndarray:
        """Return numbers for what lies at `slots` that nothing else ever has, int64 in the same shape."""
        return slots + self.capacity * self._takings[slots]

    def insert(self, tokens: np.ndarray, slots: np.ndarray) -> None:
        """Make a text known.

        Args:
            tokens: int32 [n].
            slots: int64 [n], where each token lies. Known tokens keep the slots that they have; others that
                were taken for them are free again.
        """
        self._insert(self._root, tokens, slots)

    def extend(self, known: Known, tokens: np.ndarray, slots: np.ndarray) -> Known:
        """Make known what follows a pinned text, as `insert` does, and pin the whole in its place."""
        before, node = self._insert(known.node, tokens, slots)
        node.pins += 1
        self.unpin(known)
        return Known(np.concatenate([known.slots, before, slots[len(before) :]]), node)

    def _insert(self, node: _Node, tokens: np.ndarray, slots: np.ndarray) -> tuple[np.ndarray, _Node]:
        """Insert what follows a node; return the slots of what was known of it, and where it ends."""
        data = tokens.tobytes()
        parts, node, _ = self._go(data, split=True, node=node)
        known = np.concatenate(parts) if parts else self._root.slots
        self.give_back(slots[: len(known)][slots[: len(known)] != known])
        if len(known) < len(tokens):
            rest = data[4 * len(known) :]
            leaf = _Node(rest, slots[len(known) :].copy(), node)
            leaf.used = self._clock
            node.children[rest[:4]] = node = leaf
        return known, node

    def _walk(self, tokens: np.ndarray, *, split: bool = False) -> tuple[np.ndarray, _Node, int]:
        """Go along a text; return the slots on the way, the last node, and how far its edge was gone."""
        parts, node, gone = self._go(tokens.tobytes(), split=split, node=self._root)
        return np.concatenate(parts) if parts else self._root.slots, node, gone

    def _go(self, data: bytes, *, split: bool, node: _Node) -> tuple[list[np.ndarray], _Node, int]:
        """Go along `data` from a node; return the slots edge by edge, and the rest as `_walk`.

        Args:
            data: tokens, 4 bytes each.
            split: cut an edge that is gone in part, so that the way ends at a node.
            node: where to begin.
        """
        self._clock += 1
        parts: list[np.ndarray] = []
        place, gone = 0, len(node.slots)
        while (child := node.children.get(data[place : place + 4])) is not None:
            if not data.startswith(child.data, place):
                gone = _shared(child.data, data, place)
                node = child.split(gone) if split else child
                node.used = self._clock
                parts.append(node.slots[:gone])
                break
            node = child
            node.used = self._clock
            parts.append(node.slots)
            place += len(node.data)
            gone = len(node.slots)
        return parts, node, gone

    def give_back(self, slots: np.ndarray) -> None:
        """Let slots be taken again."""
        self._free[self._returned : self._returned + len(slots)] = slots
        self._returned += len(slots)

    def _make_room(self, room: int) -> None:
        """Forget the leaves used longest ago until `room` slots are free, or all others are held."""
        order = count()
        leaves = [(node.used, next(order), node) for node in self._leaves() if not self._is_held(node)]
        heapq.heapify(leaves)
        while leaves and self._left < room:
            _, _, node = heapq.heappop(leaves)
            self.give_back(node.slots)
            parent = node.parent
            assert parent is not None
            del parent.children[node.data[:4]]
            parent.used = max(parent.used, node.used)  # what was inserted after a pinned text passed it by
            if parent is not self._root and not parent.children and not self._is_held(parent):
                heapq.heappush(leaves, (parent.used, next(order), parent))

    def _is_held(self, node: _Node) -> bool:
        return node.pins > 0 or (self._held_since is not None and node.used >= self._held_since)

    def _leaves(self) -> Iterator[_Node]:
        waiting = list(self._root.children.values())
        while waiting:
            node = waiting.pop()
            if node.children:
                waiting.extend(node.children.values())
            else:
                yield node


class _Node:
    """An edge and where it leads: its tokens (4 bytes each), their slots, and what follows by first token.

    While somebody pins where it leads, neither it nor what is above it makes room.
    """

    __slots__ = ("children", "data", "parent", "pins", "slots", "used")

    def __init__(self, data: bytes, slots: np.ndarray, parent: _Node | None) -> None:
        self.data, self.slots, self.parent = data, slots, parent
        self.children: dict[bytes, _Node] = {}
        self.used = self.pins = 0

    def split(self, at: int) -> _Node:
        """Cut the edge after `at` tokens; return the new node there, above this one."""
        assert self.parent is not None
        upper = _Node(self.data[: 4 * at], self.slots[:at], self.parent)
        self.parent.children[upper.data[:4]] = upper
        self.data, self.slots, self.parent = self.data[4 * at :], self.slots[at:], upper
        upper.children[self.data[:4]] = self
        return upper


class Known(NamedTuple):
    """A known beginning of a text."""

    slots: np.ndarray
    """Where its tokens lie, int64 [m]."""
    node: _Node
    """Where it ends."""


class Way(NamedTuple):
    """Where a known text ends, until the tree changes: at a node, of whose edge some tokens are gone."""

    node: _Node
    gone: int

    @property
    def slot(self) -> int:
        """Where the last token lies."""
        return int(self.node.slots[self.gone - 1])


def _shared(edge: bytes, data: bytes, place: int) -> int:
    """Return how many tokens of `edge` follow in `data` from byte `place` on."""
    length = min(len(edge), len(data) - place)
    one, other = np.frombuffer(edge, np.int32, length // 4), np.frombuffer(data, np.int32, length // 4, place)
    differ = np.flatnonzero(one != other)
    return int(differ[0]) if len(differ) else length // 4
