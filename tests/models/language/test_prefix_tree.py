"""The radix tree against a plain dictionary of every prefix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from selfstudy.models.language.prefix_tree import PrefixTree

Text = tuple[int, ...]

BITS = st.lists(st.integers(0, 1), min_size=1, max_size=6).map(tuple)
TEXTS = st.lists(st.integers(0, 2), min_size=1, max_size=7).map(tuple)
STEPS = st.lists(
    st.tuples(st.sampled_from(["look", "insert", "extend", "hold"]), st.lists(TEXTS, min_size=1, max_size=3))
)
CAPACITY = 16


def tokens(text: Text) -> np.ndarray:
    return np.array(text, dtype=np.int32)


class Plain:
    """What the tree must do, by a dictionary: every known prefix, its slot, and when it was last used."""

    def __init__(self, capacity: int) -> None:
        self.tree = PrefixTree(capacity)
        self.slots: dict[Text, int] = {}
        self.last: dict[Text, int] = {}
        self.now = 0

    def use(self, text: Text) -> list[int]:
        """Touch the known prefixes of `text`; return their slots."""
        self.now += 1
        known = []
        for end in range(1, len(text) + 1):
            if text[:end] not in self.slots:
                break
            known.append(self.slots[text[:end]])
            self.last[text[:end]] = self.now
        return known

    def look(self, text: Text) -> None:
        assert self.tree.longest(tokens(text)).tolist() == self.use(text)

    def hold(self, texts: Sequence[Text], count: int) -> None:
        """Hold `texts` while `count` slots are taken and given back under a text that nothing else begins."""
        with self.tree.hold([tokens(text) for text in texts]) as found:
            assert [slots.tolist() for slots in found] == [self.use(text) for text in texts]
            held = {text[:end] for text in texts for end in range(1, len(text) + 1)} & set(self.slots)
            self.learn((9,) * count, held)

    def extend(self, text: Text) -> None:
        """Insert a text with fresh slots for what is new in it only."""
        with self.tree.hold([tokens(text)]) as (found,):
            assert found.tolist() == self.use(text)
            room = self.tree.capacity - self.tree.used
            taken = self.tree.take(len(text) - len(found))
            assert taken is not None
            held = {text[:end] for end in range(1, len(found) + 1)}
            self.forget_evicted(held, evicts=room < len(taken))
            self.insert(text, np.concatenate([found, taken]))

    def learn(self, text: Text, held: set[Text] = frozenset()) -> None:
        """Insert a text, all of whose tokens have got fresh slots, those that are known too."""
        room = self.tree.capacity - self.tree.used
        taken = self.tree.take(len(text))
        self.forget_evicted(held, evicts=room < len(text))
        if taken is None:
            assert self.tree.capacity - len(held) < len(text)
            return
        assert not set(taken.tolist()) & set(self.slots.values())
        self.insert(text, taken)

    def insert(self, text: Text, slots: np.ndarray) -> None:
        self.tree.insert(tokens(text), slots)
        self.use(text)
        for end in range(1, len(text) + 1):
            if text[:end] not in self.slots:
                self.slots[text[:end]], self.last[text[:end]] = int(slots[end - 1]), self.now

    def forget_evicted(self, held: set[Text], *, evicts: bool) -> None:
        """Follow what the tree has let go, and check that it was what was used longest ago."""
        kept = known(self.tree)
        gone = set(self.slots) - set(kept)
        assert evicts or not gone
        assert not gone & held
        assert kept == {text: slot for text, slot in self.slots.items() if text not in gone}
        ends = {text for text in kept if not any((*text, token) in kept for token in range(10))} - held
        if gone and ends:
            assert max(self.last[text] for text in gone) <= min(self.last[text] for text in ends)
        for text in gone:
            del self.slots[text], self.last[text]


def known(tree: PrefixTree) -> dict[Text, int]:
    """Every prefix that is in the tree and its slot, read off its nodes without using them."""
    out: dict[Text, int] = {}
    waiting = [((), tree._root)]
    while waiting:
        before, node = waiting.pop()
        edge = tuple(np.frombuffer(node.data, dtype=np.int32).tolist())
        assert len(edge) == len(node.slots)
        for end, slot in enumerate(node.slots.tolist(), 1):
            out[before + edge[:end]] = slot
        for first, child in node.children.items():
            assert child.data[:4] == first and child.parent is node
            waiting.append((before + edge, child))
    return out


@given(STEPS)
def test_it_keeps_what_a_dictionary_of_prefixes_keeps(steps) -> None:
    """Oracle: a dictionary of all prefixes; no slot is shared or lost, held stay, old go first."""
    plain = Plain(CAPACITY)
    for kind, texts in steps:
        if kind == "look":
            # Whole known texts, because a look-up that ends inside an edge counts as a use of all of it.
            for text in texts:
                if text in plain.slots and not any((*text, token) in plain.slots for token in range(10)):
                    plain.look(text)
        elif kind == "insert":
            for text in texts:
                plain.learn(text)
        elif kind == "extend":
            for text in texts:
                plain.extend(text)
        else:
            plain.hold(texts, count=5)
        slots = list(known(plain.tree).values())
        assert len(set(slots)) == len(slots) == plain.tree.used
        assert known(plain.tree) == plain.slots


@example([(0, 0, 1), (0, 0, 0)], (0, 1))
@given(st.lists(BITS, min_size=1, max_size=4), BITS)
def test_a_look_up_may_end_anywhere(texts: list[Text], asked: Text) -> None:
    """Oracle: the longest beginning of the asked text that is one of any inserted text's, by comparison."""
    tree = PrefixTree(200)
    for text in texts:
        taken = tree.take(len(text))
        assert taken is not None
        tree.insert(tokens(text), taken)
    length = max((n for n in range(len(asked) + 1) for text in texts if text[:n] == asked[:n]), default=0)
    found = tree.longest(tokens(asked)).tolist()
    assert found == [known(tree)[asked[:n]] for n in range(1, length + 1)]


def test_every_slot_can_be_taken_at_once_and_no_more() -> None:
    """Limit: an empty tree of three gives three slots, then none while nothing can be forgotten."""
    tree = PrefixTree(3)
    taken = tree.take(3)
    assert taken is not None and sorted(taken.tolist()) == [0, 1, 2]
    assert tree.take(1) is None
    tree.insert(tokens((7, 8, 9)), taken)
    with tree.hold([tokens((7, 8))]) as (found,):
        assert found.tolist() == taken[:2].tolist()
        # Of the edge, only what the text does not hold makes room.
        assert tree.take(2) is None
        assert tree.take(1) is not None
    assert tree.longest(tokens((7, 8, 9))).tolist() == taken[:2].tolist()


def test_a_hold_ends_with_its_block() -> None:
    """Limit: what was held can be forgotten afterwards, also when the block ended by an error."""
    tree = PrefixTree(2)
    taken = tree.take(2)
    assert taken is not None
    tree.insert(tokens((1, 2)), taken)
    with pytest.raises(ValueError, match="stop"), tree.hold([tokens((1, 2))]):
        raise ValueError("stop")
    assert tree.take(2) is not None
    assert not len(tree.longest(tokens((1, 2))))


def test_clearing_frees_everything() -> None:
    """Limit: a cleared tree knows nothing and gives all its slots."""
    tree = PrefixTree(4)
    taken = tree.take(4)
    assert taken is not None
    tree.insert(tokens((1, 2, 3, 4)), taken)
    tree.clear()
    assert tree.used == 0
    assert not len(tree.longest(tokens((1, 2))))
    assert tree.take(4) is not None


def test_ways_along_what_is_known() -> None:
    """Oracle: a set of all beginnings that are known; slots as `longest` tells them."""
    rng = np.random.default_rng(0)
    tree, known = PrefixTree(400), set[tuple[int, ...]]()
    for _ in range(40):
        text = tuple(rng.integers(0, 3, rng.integers(1, 9)).tolist())
        slots = tree.take(len(text))
        assert slots is not None
        tree.insert(tokens(text), slots)
        known |= {text[:end] for end in range(1, len(text) + 1)}
    assert tree.end(tokens(())) is None
    for _ in range(300):
        text = tuple(rng.integers(0, 3, rng.integers(1, 9)).tolist())
        way = tree.end(tokens(text))
        assert (way is not None) == (text in known)
        for token in range(4):
            further = tree.onward(way, token) if way else None
            assert (further is not None) == ((*text, token) in known)
            if further:
                assert further.slot == tree.longest(tokens((*text, token)))[-1]


def test_what_is_pinned_makes_no_room() -> None:
    """Oracle: by hand, in a tree of 16 tokens of which a text of 8 is pinned up to its fifth, twice."""
    tree = PrefixTree(16)
    text = (1, 2, 1, 2, 0, 0, 1, 1)
    for each in (text, (2,) * 8):
        taken = tree.take(8)
        assert taken is not None
        tree.insert(tokens(each), taken)
    first, again = tree.pin(tokens((*text[:5], 2))), tree.pin(tokens(text[:5]))
    assert first.slots.tolist() == again.slots.tolist() == tree.longest(tokens(text[:5])).tolist()
    assert tree.take(12) is None and len(tree.longest(tokens(text))) == 5, "all but what is pinned has gone"
    tree.unpin(first)
    assert tree.take(12) is None
    given = tree.take(2)
    assert given is not None
    longer = tree.extend(again, tokens((0, 0)), given)
    assert longer.slots.tolist() == [*first.slots, *given]
    assert tree.take(10) is None and tree.longest(tokens((*text[:5], 0, 0))).tolist() == longer.slots.tolist()
    tree.unpin(longer)
    assert tree.take(16) is not None and not known(tree)
